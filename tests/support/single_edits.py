"""Single edits of mappings as edits of plain lists: a second implementation of neighbours."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator

import numpy as np

from brute_force_spaces import rows
from mapgym.mapping import Mapping, MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.mapspace.size import prime_exponents

ALL = ("tile", "order", "parallelism", "bypass")
FIXED = {"factors": {"Registers": {"K": {"spatial": 2}}}, "orders": {"Buffer": ["R", "K", "P"]}}


class Nest:
    """A mapping as lists: for each level the temporal loops, those on X and those on Y, innermost first."""

    def __init__(self, mapping: Mapping) -> None:
        self.loops = []
        for s in range(len(mapping.levels)):
            x, y = mapping.spatial_sides(s)
            self.loops.append([[list(loop) for loop in loops] for loops in (mapping.temporal_loops(s), x, y)])
        self.keep = mapping.keep.tolist()

    def write(self, workload, accelerator) -> Mapping:
        mapping = Mapping.trivial(workload, accelerator)
        mapping.temporal[:] = 1
        for s, (temporal, x, y) in enumerate(self.loops):
            for array, loops in ((mapping.temporal, temporal), (mapping.spatial, x + y)):
                for dim, factor in loops:
                    array[s, workload.dims.index(dim)] = factor
            for order, loops in ((mapping.order, temporal), (mapping.spatial_order, x + y)):
                named = [workload.dims.index(dim) for dim, _ in loops]
                order[s] = named + [d for d in range(len(workload.dims)) if d not in named]
            mapping.spatial_split[s] = len(x)
        mapping.keep[:] = self.keep
        return mapping


def single_edits(nest: Nest) -> Iterator[Nest]:
    """Everything that one edit makes of a nest, if all axes are searched and the hardware has no limits."""
    places = [(s, kind) for s in range(len(nest.loops)) for kind in range(3)]
    for (s, kind), (to_s, to_kind) in itertools.permutations(places, 2):
        for dim, factor in nest.loops[s][kind]:
            other_axis = [loop[0] for loop in nest.loops[to_s][3 - to_kind]] if to_kind else []
            if dim in other_axis:
                continue  # a dim has one mesh side in a level (and X to Y would not be a move of a factor)
            for prime in prime_exponents(factor):
                edited = copy.deepcopy(nest)
                multiply(edited.loops[s][kind], dim, 1, prime)
                multiply(edited.loops[to_s][to_kind], dim, prime, 1)
                yield edited
    for s, kind in places:
        count = len(nest.loops[s][kind])
        for a, b in itertools.combinations(range(count), 2):
            edited = copy.deepcopy(nest)
            loops = edited.loops[s][kind]
            loops[a], loops[b] = loops[b], loops[a]
            yield edited
        if kind:
            for index in range(count):
                edited = copy.deepcopy(nest)
                edited.loops[s][3 - kind].append(edited.loops[s][kind].pop(index))
                yield edited
    for s, keep in enumerate(nest.keep):
        for t in range(len(keep)):
            edited = copy.deepcopy(nest)
            edited.keep[s][t] = not keep[t]
            yield edited


def multiply(loops: list[list], dim: str, numerator: int, denominator: int) -> None:
    for loop in loops:
        if loop[0] == dim:
            loop[1] = loop[1] * numerator // denominator
            if loop[1] == 1:
                loops.remove(loop)
            return
    loops.append([dim, numerator])


def expected_neighbours(space: MapSpace, mapping: Mapping) -> set[bytes]:
    """Edits that stay in the space; where an order is not free the space sorts, so sort before comparing."""
    edited = [nest.write(space.workload, space.accelerator) for nest in single_edits(Nest(mapping))]
    batch = MappingBatch.concatenate([result.batch() for result in edited])
    entries = space.entries
    for i, s in np.ndindex(len(batch), len(batch.levels)):
        if not entries.order_free[s]:
            loops = int((batch.temporal[i, s] > 1).sum())
            key = list(entries.order_key[s]).index
            batch.order[i, s, :loops] = sorted(batch.order[i, s, :loops], key=key)
        if not entries.spatial_order_free[s]:
            split, loops = int(batch.spatial_split[i, s]), int((batch.spatial[i, s] > 1).sum())
            key = list(entries.spatial_order_key[s]).index
            batch.spatial_order[i, s, :split] = sorted(batch.spatial_order[i, s, :split], key=key)
            batch.spatial_order[i, s, split:loops] = sorted(batch.spatial_order[i, s, split:loops], key=key)
    found = set(rows(batch[space.contains(batch)]))
    return found - set(rows(mapping.batch()))
