"""A first solution for the program: one side after the other takes what is best beside the two others."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product as combinations

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.search.goma.columns import Columns
from mapgym.agents.search.goma.product import BUFFER, REGISTERS, Product, Room

_STARTS = 200
"""Descents, from random choices; they take a tenth of a second or two together."""

_TENSORS = range(3)

Sides = tuple[bool, ...]
"""By tensor, whether what is spatial of its side of the product lies along Y."""


class Descent:
    """Choices of the three sides that go together, without a solver."""

    def __init__(self, product: Product, room: Room, columns: Sequence[Columns]) -> None:
        """Takes what the program is made of."""
        self._room, self._columns = room, columns
        self._sides = [list(_sides(product, level)) for level in (REGISTERS, BUFFER)]
        # Properties are computed anew at each call.
        self._flat = [each.flat for each in columns]
        self._spatial = [(each.lanes, each.blocks) for each in columns]
        self._extents = [tuple(part.astype(np.float64) for part in each.extents) for each in columns]

    def best(self, least_macs: int, used_macs: int | None) -> tuple[int, int, int] | None:
        """The best choice that was found, None if none was; nothing is random.

        Args:
            least_macs: multiply-accumulate units that have to be used at least.
            used_macs: how many have to be used; None if that is open.
        """
        rng = np.random.default_rng(0)
        found: tuple[float, tuple[int, int, int]] | None = None
        for start in range(_STARTS):
            # The first one is from the smallest tiles, which go together if anything does.
            chosen = [self._smallest(t) if start == 0 else int(rng.integers(len(self._columns[t]))) for t in _TENSORS]
            energy = math.inf
            improved = True
            while improved:
                improved = False
                for t in rng.permutation(3).tolist():
                    allowed = self._allowed(t, chosen, least_macs, used_macs)
                    if not allowed.any():
                        continue
                    cost = np.where(allowed, self._columns[t].energy, math.inf)
                    chosen[t] = int(np.argmin(cost))
                    total = sum(float(self._columns[s].energy[chosen[s]]) for s in _TENSORS)
                    if total < energy:
                        energy, improved = total, True
            if energy < (math.inf if found is None else found[0]):
                found = energy, (chosen[0], chosen[1], chosen[2])
        return None if found is None else found[1]

    def sides(self, level: int, chosen: Sequence[int]) -> Sides:
        """Where the spatial factors of a choice lie, so that they fit."""
        factors = [int(self._spatial[t][level][chosen[t]]) for t in _TENSORS]
        return next(sides for sides in self._sides[level] if _fits(factors, sides, self._room.fanouts[level]))

    def _smallest(self, t: int) -> int:
        each = self._columns[t]
        return int(np.lexsort((each.energy, each.buffer, each.registers, each.lanes * each.blocks))[0])

    def _allowed(self, t: int, chosen: Sequence[int], least_macs: int, used_macs: int | None) -> NDArray[np.bool_]:
        """Which choices of a side go with those of the two others, and these with each other."""
        each, (a, b) = self._columns[t], [other for other in _TENSORS if other != t]
        i, j = chosen[a], chosen[b]
        first, second = self._columns[a], self._columns[b]
        allowed = np.ones(len(each), np.bool_)
        for walks in ("walks_buffer", "walks_memory"):
            others = int(getattr(first, walks)[i]) + int(getattr(second, walks)[j])
            allowed &= getattr(each, walks) + others <= 1
        flat = (self._flat[a][i], self._flat[b][j])
        allowed &= ~each.one_run | all(flat)
        allowed &= self._flat[t] | ~(first.one_run[i] | second.one_run[j])
        allowed &= (not first.one_run[i] or flat[1]) and (not second.one_run[j] or flat[0])
        used = each.lanes * each.blocks
        for s, place in ((a, i), (b, j)):
            used = used * int(self._spatial[s][REGISTERS][place] * self._spatial[s][BUFFER][place])
        allowed &= used >= least_macs if used_macs is None else used == used_macs
        for level in (REGISTERS, BUFFER):
            factors: list[int | NDArray[np.int64]] = [0, 0, 0]
            factors[a], factors[b] = int(self._spatial[a][level][i]), int(self._spatial[b][level][j])
            factors[t] = self._spatial[t][level]
            fits = np.zeros(len(each), np.bool_)
            for sides in self._sides[level]:
                fits |= _fits(factors, sides, self._room.fanouts[level])
            allowed &= fits
            mine, one, other = self._extents[t][level], self._extents[a][level][i], self._extents[b][level][j]
            words = each.kept[level] * one * other
            words = words + float(first.kept[level][i]) * mine * other + float(second.kept[level][j]) * mine * one
            allowed &= words <= self._room.capacities[level]
        return allowed


def _sides(product: Product, level: int) -> Iterator[Sides]:
    """All ways to lay the spatial factors of the three sides along X and Y."""
    entries = product.space.entries
    options = []
    for dims in map(list, product.dims):
        if not dims or entries.side_free[level, dims].all():
            options.append((False, True) if dims else (False,))
        else:
            options.append((bool(entries.on_y[level, dims[0]]),))
    yield from combinations(*options)


def _fits(
    factors: Sequence[int | NDArray[np.int64]], sides: Sides, fanouts: tuple[int, int]
) -> bool | NDArray[np.bool_]:
    """Whether the factors along X and along Y are within the fan-out."""
    along: list[int | NDArray[np.int64]] = [1, 1]
    for factor, on_y in zip(factors, sides, strict=True):
        along[on_y] = along[on_y] * factor
    return (along[0] <= fanouts[0]) & (along[1] <= fanouts[1])
