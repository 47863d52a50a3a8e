"""Compiled fitting of wanted factors to a map space; the rule is described in :mod:`mapgym.mapspace.projection`."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import accessor, allocating_kernel, inlined_kernel, kernel
from mapgym.compilation.array_kernels import PageArrays, Pages, one, two
from mapgym.mapping.canonical_kernels import Sorting, normalise_batch, open_sorting
from mapgym.mapping.legality_kernels import CAPACITY, LEGAL, capacity_words, kept_words, legality_status
from mapgym.mapping.maps import Arrays, Maps

X, Y = 0, 1


class ProjectionTables(NamedTuple):
    """What may be chosen (L levels, D dims, T tensors, G groups of slots that share a product).

    Slot s < L is the temporal factor of level s, slot L + s its spatial factor.
    """

    fixed: NDArray[np.int32]  # [2 L, D] factors that are given, 0 where one is chosen
    group_of: NDArray[np.int32]  # [2 L, D] group of the slot, -1 where the factor is given
    totals: NDArray[np.int64]  # [G] product of the group's factors
    divisors: NDArray[np.int64]  # [G, any] divisors of the total, ascending, then 0
    logs: NDArray[np.float64]  # [G, any] their logarithms
    primes: NDArray[np.int64]  # [G, any] distinct primes of the total, then 0
    limit: NDArray[np.int64]  # [L, 2] largest product of the spatial factors of a level on X and on Y
    reach: NDArray[np.int64]  # [L, 2] the same for the level and all outer ones together
    side_free: NDArray[np.bool_]  # [L, D]
    on_y: NDArray[np.bool_]  # [L, D] mesh side where that is no choice
    rules: NDArray[np.int64]  # from mapgym.mapping.legality_kernels.pack_rules
    min_used_macs: NDArray[np.int64]  # [1]


_SORTING = len(ProjectionTables._fields)
FIT_ARRAYS = _SORTING + len(Sorting._fields)
"""Arrays of a :class:`ProjectionTables` and of a :class:`Sorting` behind it, as :func:`fit_batch` takes them."""


@inlined_kernel
def _open_tables(pages: Pages) -> ProjectionTables:
    """Views of the tables, which are the first arrays."""
    whole, flags = pages.whole, pages.flags
    return ProjectionTables(
        fixed=two(pages.halves, whole, 0),
        group_of=two(pages.halves, whole, 1),
        totals=one(whole, whole, 2),
        divisors=two(whole, whole, 3),
        logs=two(pages.floats, whole, 4),
        primes=two(whole, whole, 5),
        limit=two(whole, whole, 6),
        reach=two(whole, whole, 7),
        side_free=two(flags, whole, 8),
        on_y=two(flags, whole, 9),
        rules=one(whole, whole, 10),
        min_used_macs=one(whole, whole, 11),
    )


@accessor
def _log(factor: float) -> float:
    """Natural logarithm; most factors are 1."""
    return 0.0 if factor == 1 else math.log(factor)


@kernel
def _used(spatial: NDArray[np.int32], sides: NDArray[np.int64], i: int, level: int, side: int) -> int:
    """Product of the spatial factors of a level on one side of the mesh."""
    product = 1
    for d in range(spatial.shape[2]):
        if sides[level, d] == side:
            product *= spatial[i, level, d]
    return product


@kernel
def _has_room(
    tables: ProjectionTables,
    spatial: NDArray[np.int32],
    sides: NDArray[np.int64],
    i: int,
    level: int,
    side: int,
    growth: int,
) -> bool:
    if _used(spatial, sides, i, level, side) * growth > tables.limit[level, side]:
        return False
    product = growth
    for outer in range(spatial.shape[1] - 1, -1, -1):
        product *= _used(spatial, sides, i, outer, side)
        if outer <= level and product > tables.reach[outer, side]:
            return False
    return True


@kernel
def _choose_spatial(
    tables: ProjectionTables,
    target: NDArray[np.float64],
    sides: NDArray[np.int64],
    spatial: NDArray[np.int32],
    i: int,
    level: int,
    left: NDArray[np.int64],
    done: NDArray[np.bool_],
) -> None:
    """Chooses the spatial factors of a level, the largest target first."""
    levels, dims = spatial.shape[1:]
    for d in range(dims):
        done[d] = tables.group_of[levels + level, d] < 0 or target[i, levels + level, d] <= 1.0
    while True:
        d = -1
        for e in range(dims):
            if not done[e] and (d < 0 or target[i, levels + level, e] > target[i, levels + level, d]):
                d = e
        if d < 0:
            return
        done[d] = True
        group = tables.group_of[levels + level, d]
        wanted = math.log(target[i, levels + level, d])
        best, best_side, least = 1, sides[level, d], wanted
        for turn in range(2 if tables.side_free[level, d] else 1):
            side = sides[level, d] ^ turn
            for k in range(tables.divisors.shape[1]):
                divisor = tables.divisors[group, k]
                if divisor == 0:
                    break
                distance = abs(tables.logs[group, k] - wanted)
                # The small number decides ties in favour of what was seen first, whatever the last digit says.
                if (
                    left[group] % divisor == 0
                    and distance < least - 1e-9
                    and _has_room(tables, spatial, sides, i, level, side, divisor)
                ):
                    best, best_side, least = divisor, side, distance
        sides[level, d] = best_side
        spatial[i, level, d] = best
        left[group] //= best


@kernel
def _choose_temporal(
    tables: ProjectionTables,
    target: NDArray[np.float64],
    temporal: NDArray[np.int32],
    spatial: NDArray[np.int32],
    i: int,
    left: NDArray[np.int64],
) -> None:
    """Chooses the temporal factors, from the innermost level, so that tiles come close to the wanted ones."""
    levels, dims = temporal.shape[1:]
    for d in range(dims):
        wanted, reached = 0.0, 0.0
        for level in range(levels):
            wanted += _log(target[i, level, d]) + _log(target[i, levels + level, d])
            reached += _log(spatial[i, level, d])
            group = tables.group_of[level, d]
            if group >= 0:
                last = True
                for outer in range(level + 1, levels):
                    last = last and tables.group_of[outer, d] != group
                best, least = 1, abs(reached - wanted)
                if last:
                    best = left[group]
                else:
                    for k in range(tables.divisors.shape[1]):
                        divisor = tables.divisors[group, k]
                        if divisor == 0:
                            break
                        distance = abs(reached + tables.logs[group, k] - wanted)
                        if left[group] % divisor == 0 and distance < least - 1e-9:
                            best, least = divisor, distance
                temporal[i, level, d] = best
                left[group] //= best
            reached += _log(temporal[i, level, d])
        # Where only spatial slots are open, the outermost of them takes what is left.
        for slot in range(2 * levels - 1, levels - 1, -1):
            group = tables.group_of[slot, d]
            if group >= 0 and left[group] > 1:
                spatial[i, slot - levels, d] *= left[group]
                left[group] = 1


@kernel
def _arrange(
    sides: NDArray[np.int64],
    target_order: NDArray[np.int8],
    spatial_order: NDArray[np.int8],
    spatial_split: NDArray[np.int8],
    i: int,
) -> None:
    """Spatial loops in the wanted order, those on X first."""
    levels, dims = sides.shape
    for level in range(levels):
        filled = 0
        for side in (X, Y):
            for position in range(dims):
                d = target_order[i, level, position]
                if sides[level, d] == side:
                    spatial_order[i, level, filled] = d
                    filled += 1
            if side == X:
                spatial_split[i, level] = filled


@kernel
def _shrink_tile(
    tables: ProjectionTables,
    batch: Maps,
    i: int,
    full: int,
    extents: NDArray[np.float64],
) -> bool:
    """Moves one prime out of the tile of a full level, as small a change as will do; returns whether there was one.

    The extents are those of the mapping.

    If single moves make the tile fit, it is the one of the smallest prime that leaves the largest tile; otherwise the
    one that frees most for its size. A temporal factor goes before a spatial one.
    """
    temporal, spatial, keep = batch.temporal, batch.spatial, batch.keep
    levels, dims = temporal.shape[1:]
    before = kept_words(i, keep, tables.rules, extents, full)
    capacity = capacity_words(tables.rules, full)
    best, best_fits, best_score, best_after = -1, False, 0.0, 0.0
    best_prime, best_to = 1, 0
    for kind in range(2):
        for level in range(full, -1, -1):
            for d in range(dims):
                slot = kind * levels + level
                group = tables.group_of[slot, d]
                factor = spatial[i, level, d] if kind else temporal[i, level, d]
                if group < 0 or factor == 1:
                    continue
                to = full + 1
                while to < levels and tables.group_of[to, d] != group:
                    to += 1
                if to == levels:
                    continue
                for prime in tables.primes[group]:
                    if prime == 0:
                        break
                    if factor % prime:
                        continue
                    extent = extents[full, d]
                    extents[full, d] = extent / prime
                    after = kept_words(i, keep, tables.rules, extents, full)
                    extents[full, d] = extent
                    fits = after <= capacity
                    if after >= before or (best_fits and not fits):
                        continue
                    score = -math.log(prime) if fits else math.log(before / after) / math.log(prime)
                    better = score > best_score + 1e-9 or (score > best_score - 1e-9 and after > best_after)
                    if best < 0 or (fits and not best_fits) or better:
                        best, best_fits, best_score, best_after = slot * dims + d, fits, score, after
                        best_prime, best_to = prime, to
    if best < 0:
        return False
    slot, d = best // dims, best % dims
    if slot < levels:
        temporal[i, slot, d] //= best_prime
    else:
        spatial[i, slot - levels, d] //= best_prime
    temporal[i, best_to, d] *= best_prime
    return True


@allocating_kernel
def _project_batch(
    tables: ProjectionTables,
    target: NDArray[np.float64],
    target_on_y: NDArray[np.bool_],
    target_spatial_order: NDArray[np.int8],
    arrays: Arrays,
    ok: NDArray[np.bool_],
) -> None:
    """Fills the factors and the spatial orders of a batch; its orders and keep bits are there already.

    Args:
        tables: what may be chosen.
        target: float64[n, 2 L, D] wanted factor of each slot, at least 1.
        target_on_y: bool[n, L, D] wanted mesh side of a spatial factor.
        target_spatial_order: int8[n, L, D] wanted order of the spatial loops.
        arrays: the six arrays of n mappings.
        ok: bool[n], receives whether the mapping is legal.
    """
    batch = Maps(*arrays)
    temporal, spatial = batch.temporal, batch.spatial
    levels, dims = temporal.shape[1:]
    left = np.empty(len(tables.totals), np.int64)
    sides = np.empty((levels, dims), np.int64)
    done = np.empty(dims, np.bool_)
    extents, tile_words = np.empty((levels, dims)), np.empty((levels, batch.keep.shape[2]))
    for i in range(len(temporal)):
        for group in range(len(tables.totals)):
            left[group] = tables.totals[group]
        for level in range(levels):
            for d in range(dims):
                temporal[i, level, d] = max(tables.fixed[level, d], 1)
                spatial[i, level, d] = max(tables.fixed[levels + level, d], 1)
                on_y = target_on_y[i, level, d] if tables.side_free[level, d] else tables.on_y[level, d]
                sides[level, d] = Y if on_y else X
        for level in range(levels - 1, -1, -1):
            _choose_spatial(tables, target, sides, spatial, i, level, left, done)
        _choose_temporal(tables, target, temporal, spatial, i, left)
        _arrange(sides, target_spatial_order, batch.spatial_order, batch.spatial_split, i)
        while True:
            status = legality_status(i, batch, tables.rules, extents, tile_words)
            if status >> 8 != CAPACITY or not _shrink_tile(tables, batch, i, status & 255, extents):
                break
        macs = 1
        for level in range(levels):
            for d in range(dims):
                macs *= spatial[i, level, d]
        ok[i] = status == LEGAL and macs >= tables.min_used_macs[0]


@allocating_kernel
def fit_batch(
    pages: PageArrays,
    target: NDArray[np.float64],
    target_on_y: NDArray[np.bool_],
    target_spatial_order: NDArray[np.int8],
    arrays: Arrays,
    ok: NDArray[np.bool_],
) -> None:
    """Fills the factors and the spatial orders of a batch, and brings it into the form of its map space.

    Args:
        pages: begin with the arrays of a :class:`ProjectionTables`, and of the :class:`Sorting` of the map space.
        target, target_on_y, target_spatial_order, arrays, ok: see :func:`_project_batch`.
    """
    opened = Pages(*pages)
    _project_batch(_open_tables(opened), target, target_on_y, target_spatial_order, arrays, ok)
    normalise_batch(arrays, open_sorting(opened, _SORTING))
