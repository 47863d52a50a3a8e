"""Mappings that follow a dataflow, filled greedily to the array and the buffers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np

from mapgym.agents.search.dataflow.templates import Dataflow, dim_roles, tensor_roles
from mapgym.mapping import Mapping, MappingBatch
from mapgym.mapping.mapping import divisors
from mapgym.mapspace import MapSpace

ROLES = "NGCMPQRS"
OUTER_ORDERS = ("", "SRC", "QPN", "M")
"""Roles that go innermost in the loops outside the shared buffers: as around the elements; or partial sums, weights or
inputs stay in the buffer."""


@dataclass(frozen=True)
class Variant:
    """What a dataflow leaves to whoever fills it in.

    Attributes:
        in_turn: tiles grow by one prime factor of each dim in turn, instead of each dim as far as it goes.
        outer_order: one of ``OUTER_ORDERS``.
        holds: whether processing elements store only what the dataflow says, instead of everything.
        bypass: whether tensors skip the shared buffers as the dataflow says, instead of being kept there.
    """

    in_turn: bool
    outer_order: str
    holds: bool
    bypass: bool


def variants(space: MapSpace, dataflow: Dataflow) -> list[Variant]:
    """The variants of a dataflow, at most 32."""
    choice = (True, False) if "bypass" in space.axes else (False,)
    return [Variant(*each) for each in product((False, True), OUTER_ORDERS, choice, choice)]


def fill_all(space: MapSpace, dataflow: Dataflow) -> MappingBatch:
    """The distinct mappings of a space that a dataflow gives, one for each variant; perhaps none."""
    found = MappingBatch.concatenate([fill(space, dataflow, each).batch() for each in variants(space, dataflow)])
    found = space.canonical(found)
    found = found[np.flatnonzero(space.contains(found))]
    distinct = {tuple(array[i].tobytes() for array in found.arrays()): i for i in reversed(range(len(found)))}
    return found[sorted(distinct.values())]


def fill(space: MapSpace, dataflow: Dataflow, variant: Variant) -> Mapping:
    """Fills in a dataflow.

    The steps: tensors are kept as the dataflow says, the array is filled, then the buffers from the innermost
    outwards. All factors start in the outermost loops, and each step moves the largest ones inwards that fit; the axes
    that are not searched, and factors that are fixed, stay as they are.

    Returns:
        A mapping with the right products. It can be illegal or outside the space only where constraints or a base
        mapping leave no room for parallelism to grow, or demand it.
    """
    return _Filling(space, dataflow, variant).mapping()


class _Filling:
    """A mapping under construction."""

    def __init__(self, space: MapSpace, dataflow: Dataflow, variant: Variant) -> None:
        self.space, self.dataflow, self.variant = space, dataflow, variant
        accelerator, self.entries = space.accelerator, space.entries
        self.levels, self.dims = len(accelerator.levels), len(space.workload.dims)
        fanouts = [x * y for x, y in zip(accelerator.fanout_x, accelerator.fanout_y, strict=True)]
        # The array hangs below the level with the largest fan-out; levels inside it belong to a processing element.
        widest = max(range(self.levels), key=lambda s: (fanouts[s], s))
        self.array = widest if fanouts[widest] > 1 else min(1, self.levels - 1)
        self.kinds = [tensor_roles(space.workload)[tensor.name] for tensor in space.workload.tensors]
        by_role: dict[str, list[int]] = {role: [] for role in ROLES}
        for d, role in enumerate(dim_roles(space.workload)):
            by_role[role].append(d)
        self.by_role = by_role
        self.factors = np.maximum(self.entries.fixed, 1).tolist()
        self.rest = []
        for group in self.entries.groups:
            slot = max((slot for slot in group.slots if slot < self.levels), default=group.slots[-1])
            self.factors[slot][group.dim] = group.total
            self.rest.append(slot)
        self.on_y = self.entries.on_y.copy()
        self.tensors = [
            [[(space.workload.dims.index(dim), c) for dim, c in rank] for rank in tensor.ranks]
            for tensor in space.workload.tensors
        ]
        self.extents = [
            [
                math.prod(self.factors[r][d] * self.factors[self.levels + r][d] for r in range(s + 1))
                for d in range(self.dims)
            ]
            for s in range(self.levels)
        ]
        self.keep = self.entries.keep.copy()
        self._keep_tensors()
        self._fill_arrays()
        self._fill_buffers()

    def _keep_tensors(self) -> None:
        """Keeps what fits and is not to be bypassed; with all factors outside, that is nearly everything."""
        self.keep[self.entries.keep_free] = False
        for s, t in np.argwhere(self.entries.keep_free):
            if s < self.array:
                skips = self.variant.holds and self.kinds[t] not in self.dataflow.holds
            else:
                skips = self.variant.bypass and self.kinds[t] in self.dataflow.bypass
            self.keep[s, t] = not skips
            self.keep[s, t] &= self._fits(range(s, s + 1))

    def _fill_arrays(self) -> None:
        accelerator = self.space.accelerator
        for s in (self.array, *(s for s in range(self.levels - 1, -1, -1) if s != self.array)):
            x, y = accelerator.fanout_x[s], accelerator.fanout_y[s]
            if x * y == 1:
                continue
            if s < self.array:
                sides: list[tuple[str, int]] = [(self.dataflow.lanes, x * y)]
            else:
                # An array of one row is seen as the most square grid.
                rows = y if min(x, y) > 1 else max(side for side in divisors(x * y) if side**2 <= x * y)
                sides = [(self.dataflow.columns, x * y // rows), (self.dataflow.rows, rows)]
            for places, on_y in zip(sides, (False, True), strict=False):
                roles, side = places
                for d in self._dims(roles):
                    side //= self._widen(s, d, side, on_y)
            # What a grid leaves idle goes to whichever side still has work.
            for roles, _ in sides:
                for d in self._dims(roles):
                    self._widen(s, d, x * y, False)
                    self._widen(s, d, x * y, True)

    def _widen(self, s: int, d: int, limit: int, on_y: bool) -> int:
        """Makes a dim more parallel at a level, along one side of its mesh; returns the factor gained."""
        slot = self.levels + s
        if self.entries.side_free[s, d]:
            if self.factors[slot][d] == 1:
                self.on_y[s, d] = on_y
            elif self.on_y[s, d] != on_y:
                return 1
        else:
            on_y = bool(self.on_y[s, d])
        fanout = (self.space.accelerator.fanout_y if on_y else self.space.accelerator.fanout_x)[s]
        used = math.prod(self.factors[slot][e] for e in range(self.dims) if self.on_y[s, e] == on_y)
        return self._grow(slot, d, min(limit, fanout // used))

    def _fill_buffers(self) -> None:
        for s in range(self.levels - 1):
            dims = self._dims(self.dataflow.element if s < self.array else self.dataflow.buffer)
            if not self.variant.in_turn:
                for d in dims:
                    self._grow(s, d)
            else:
                while sum(self._grow(s, d, prime=True) > 1 for d in dims):
                    pass

    def _grow(self, slot: int, d: int, limit: float = math.inf, prime: bool = False) -> int:
        """Moves the largest factor, or the smallest prime, that fits from the rest of a dim into a slot."""
        group = int(self.entries.group_of[slot, d])
        if group < 0 or self.rest[group] == slot:
            return 1
        rest = self.rest[group]
        levels = range(slot % self.levels, rest % self.levels)
        choices = divisors(self.factors[rest][d])[1:]
        for factor in choices[:1] if prime else reversed(choices):
            if factor > limit:
                continue
            for s in levels:
                self.extents[s][d] *= factor
            if self._fits(levels):
                self.factors[slot][d] *= factor
                self.factors[rest][d] //= factor
                return factor
            for s in levels:
                self.extents[s][d] //= factor
        return 1

    def _fits(self, levels: range) -> bool:
        """Whether the kept tiles of these levels fit."""
        for s in levels:
            capacity, extents = self.space.accelerator.levels[s].usable_words, self.extents[s]
            if capacity is not None and capacity < sum(
                math.prod(1 + sum(c * (extents[d] - 1) for d, c in rank) for rank in ranks)
                for ranks, kept in zip(self.tensors, self.keep[s], strict=True)
                if kept
            ):
                return False
        return True

    def _dims(self, roles: str) -> list[int]:
        return [d for role in roles for d in self.by_role[role]]

    def mapping(self) -> Mapping:
        """The mapping as it is."""
        result = Mapping.trivial(self.space.workload, self.space.accelerator)
        result.temporal[:] = self.factors[: self.levels]
        result.spatial[:] = self.factors[self.levels :]
        result.keep[:] = self.keep
        around = self._dims(self.dataflow.order)
        front = self._dims(self.variant.outer_order)
        outside = front + [d for d in around if d not in front]
        for s in range(self.levels):
            given = outside if s > self.array else around
            result.order[s] = given if self.entries.order_free[s] else self.entries.order_key[s]
            # X first, then Y; the order on a side is the space's, or ascending.
            key = range(self.dims) if self.entries.spatial_order_free[s] else self.entries.spatial_order_key[s].tolist()
            result.spatial_order[s] = sorted(key, key=lambda d: bool(self.on_y[s, d]))
            result.spatial_split[s] = self.dims - int(self.on_y[s].sum())
        return result
