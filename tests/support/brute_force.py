"""All legal mappings of a toy map space, by trying every combination; shares no code with the construction process."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from mapgym.mapping import Mapping, MappingBatch
from mapgym.mapping.mapping import divisors
from mapgym.mapspace import MapSpace
from mapgym.spec.accelerator import Accelerator

Key = tuple[object, ...]


def key_of(batch: MappingBatch, i: int) -> Key:
    """What distinguishes a mapping: factors, the mesh side and order of loops above 1, and kept tensors."""
    mapping = batch[i]
    levels = range(len(mapping.levels))
    return (
        tuple(tuple(mapping.temporal_loops(s)) for s in levels),
        tuple(tuple(map(tuple, mapping.spatial_sides(s))) for s in levels),
        tuple(map(tuple, mapping.keep.tolist())),
    )


def _factorisations(number: int, slots: int) -> Iterator[tuple[int, ...]]:
    if slots == 1:
        yield (number,)
        return
    for factor in divisors(number):
        for rest in _factorisations(number // factor, slots - 1):
            yield (factor, *rest)


def _orders(loops: list[int], searched: bool, key: list[int]) -> list[tuple[int, ...]]:
    return list(itertools.permutations(loops)) if searched else [tuple(sorted(loops, key=key.index))]


def enumerate_space(space: MapSpace) -> set[Key]:
    """All legal mappings by trying every combination, if zeros are spread evenly and metadata have room."""
    workload, accelerator, base = space.workload, space.accelerator, space.base
    constraints, axes = space.constraints, space.axes
    levels, dims = len(accelerator.levels), len(workload.dims)
    names = accelerator.level_names
    found: set[Key] = set()
    keeps = [_enumerate_keeps(space, s) for s in range(levels)]
    per_dim = [list(_factorisations(bound, 2 * levels)) for bound in workload.bounds]
    for factors in itertools.product(*per_dim):
        temporal = [[factors[d][2 * s + 1] for d in range(dims)] for s in range(levels)]
        spatial = [[factors[d][2 * s] for d in range(dims)] for s in range(levels)]
        if not all(
            _allowed_factors(space, s, d, temporal[s][d], spatial[s][d]) for s in range(levels) for d in range(dims)
        ):
            continue
        fitting = [keep for keep in itertools.product(*keeps) if _fits_capacity(space, temporal, spatial, keep)]
        parallel = [(s, d) for s in range(levels) for d in range(dims) if spatial[s][d] > 1]
        for on_y in itertools.product((False, True), repeat=len(parallel)):
            mesh = dict(zip(parallel, on_y, strict=True))
            if "parallelism" not in axes and any(y != _is_on_y(base, s, d) for (s, d), y in mesh.items()):
                continue
            if not _fits_meshes(accelerator, spatial, mesh):
                continue
            nests = []
            for s in range(levels):
                free = "order" in axes
                key = [int(d) for d in base.order[s]]
                fixed = constraints.orders.get(names[s])
                if fixed is not None:
                    chosen = [workload.dims.index(dim) for dim in fixed]
                    key = chosen + [d for d in range(dims) if d not in chosen]
                nests.append(_orders([d for d in range(dims) if temporal[s][d] > 1], free and fixed is None, key))
                for y in (False, True):
                    loops = [d for d in range(dims) if mesh.get((s, d)) is y]
                    key = [int(d) for d in base.spatial_order[s]] if accelerator.peer_links else list(range(dims))
                    nests.append(_orders(loops, free and accelerator.peer_links, key))
            for nest in itertools.product(*nests):
                loops = tuple(tuple((workload.dims[d], temporal[s][d]) for d in nest[3 * s]) for s in range(levels))
                meshes = tuple(
                    tuple(tuple((workload.dims[d], spatial[s][d]) for d in nest[3 * s + 1 + y]) for y in (0, 1))
                    for s in range(levels)
                )
                found.update((loops, meshes, keep) for keep in fitting)
    return found


def _enumerate_keeps(space: MapSpace, s: int) -> list[tuple[bool, ...]]:
    level, tensors = space.accelerator.for_workload(space.workload).levels[s], space.workload.tensors
    if "bypass" not in space.axes or s == len(space.accelerator.levels) - 1:
        return [tuple(bool(kept) for kept in space.base.keep[s])]
    options = [(False, True) if level.keep_only is None or t.name in level.keep_only else (False,) for t in tensors]
    return list(itertools.product(*options))


def _is_on_y(mapping: Mapping, s: int, d: int) -> bool:
    return list(mapping.spatial_order[s]).index(d) >= mapping.spatial_split[s]


def _allowed_factors(space: MapSpace, s: int, d: int, temporal: int, spatial: int) -> bool:
    name, dim = space.accelerator.level_names[s], space.workload.dims[d]
    base, given = space.base, space.constraints.factors.get(name, {}).get(dim, {})
    if "tile" not in space.axes and temporal * spatial != base.temporal[s, d] * base.spatial[s, d]:
        return False
    if "parallelism" not in space.axes and spatial != base.spatial[s, d]:
        return False
    fanout = space.accelerator.fanout_x[s] * space.accelerator.fanout_y[s]
    if spatial > 1 and (fanout == 1 or not space.constraints.may_be_parallel(name, dim)):
        return False
    return given.get("temporal", temporal) == temporal and given.get("spatial", spatial) == spatial


def _fits_capacity(
    space: MapSpace, temporal: list[list[int]], spatial: list[list[int]], keep: tuple[tuple[bool, ...], ...]
) -> bool:
    extents = dict.fromkeys(space.workload.dims, 1)
    for s, level in enumerate(space.accelerator.for_workload(space.workload).levels):
        for d, dim in enumerate(space.workload.dims):
            extents[dim] *= temporal[s][d] * spatial[s][d]
        words = 0
        for tensor, kept in zip(space.workload.tensors, keep[s], strict=True):
            share = tensor.density if tensor.name in dict(level.formats) else 1.0
            words += kept * math.ceil(share * tensor.tile_size(extents))
        if level.usable_words is not None and words > level.usable_words:
            return False
    return True


def _fits_meshes(accelerator: Accelerator, spatial: list[list[int]], mesh: dict[tuple[int, int], bool]) -> bool:
    for y in (False, True):
        fanout = accelerator.fanout_y if y else accelerator.fanout_x
        used = [
            math.prod(spatial[s][d] for (level, d), on_y in mesh.items() if level == s and on_y is y)
            for s in range(len(fanout))
        ]
        for s in range(len(fanout)):
            if accelerator.fanout_check == "per_level" and used[s] > fanout[s]:
                return False
            inner = accelerator.mac if s == 0 else accelerator.levels[s - 1]
            if math.prod(used[s:]) > (inner.mesh_y if y else inner.mesh_x) or (fanout[s] == 1 and used[s] > 1):
                return False
    return True
