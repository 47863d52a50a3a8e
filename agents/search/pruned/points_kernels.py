"""Compiled points of a map space as Timeloop's mapper sees it: factors, permutations, splits and bypass.

A point has four coordinates, each a row of digits:

- factors: for each prime of a searched product the rank of a composition of its exponent over the slots;
- orders: for each level the rank of a permutation of its loops above 1. Loops of bound 1 are left out, which is
  Timeloop's unit-factor pruning and makes every point a mapping in canonical form;
- places: for each level the mesh sides of its spatial loops above 1, and their order where it is searched;
- kept tensors: one bit each.

Slots: slot s is the temporal factor of level s, slot L + s its spatial factor.

Factors are drawn so that each ordered factorisation of the bounds is equally likely. Most draws are too parallel where
a fan-out is small: of those for `paper/resnet_conv4` on `accel_b` nineteen of twenty. They are not drawn one by one.
How many ways there are to draw the primes from one on, once the others have made the levels as parallel as they are, is
known for all such states beforehand; each prime is drawn in proportion to it, and how many draws would have been
refused before is a number from a geometric distribution. What comes out is distributed exactly as it is by drawing and
refusing.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import inlined_kernel, kernel
from mapgym.compilation.random_kernels import State, next_fraction
from mapgym.mapping.legality_kernels import legality_status
from mapgym.mapping.maps import Maps

DIM, PRIME, EXPONENT, FIRST_SLOT, SLOTS, SPATIAL_SLOTS, COUNT = range(7)
"""Columns of ``PointTables.primes``; spatial slots come first."""

FIRST_RANK, RANKS, FACTORS = range(3)
"""Columns of ``DrawTables.choices``: ranks of compositions that agree in the spatial slots, and then their factors."""

NEVER = 2**40
"""More refused draws than any walk waits for."""


class PointTables(NamedTuple):
    """What is open in a map space of L levels, D dims and T tensors."""

    fixed: NDArray[np.int32]  # [2 L, D] factors that are given, 0 where one is searched
    fixed_parallel: NDArray[np.int64]  # [L] product of the spatial factors that are given
    primes: NDArray[np.int64]  # [prime of a group, 7] see the columns
    slots: NDArray[np.int64]  # the slots of the groups, one group after the other
    binomials: NDArray[np.int64]  # [n, k] n over k
    most_parallel: NDArray[np.int64]  # [L] spatial factors of a level never multiply to more
    order_free: NDArray[np.bool_]  # [L]
    order_key: NDArray[np.int8]  # [L, D] dims, innermost first
    spatial_order_free: NDArray[np.bool_]  # [L]
    spatial_order_key: NDArray[np.int8]  # [L, D]
    side_free: NDArray[np.bool_]  # [L]
    on_y: NDArray[np.bool_]  # [L, D] mesh side where it is not searched
    keep_free: NDArray[np.bool_]  # [L, T]
    rules: NDArray[np.int64]  # from mapgym.mapping.legality_kernels.pack_rules
    min_used_macs: int


class DrawTables(NamedTuple):
    """What can be drawn without too much parallelism at the levels that a state keeps track of."""

    first: NDArray[np.int64]  # [prime of a group + 1] first choice of each
    choices: NDArray[np.int64]  # [choice, 2 + L] see the columns; one factor for each level
    strides: NDArray[np.int64]  # [L] of a state, the parallelism at each level; 0 where a state does not say it
    radices: NDArray[np.int64]  # [L]
    completions: NDArray[np.float64]  # [prime of a group + 1, state] ways to draw the primes from one on
    share: float  # of all factorisations, those that can be drawn


class Point(NamedTuple):
    """A point of the walk, and working memory."""

    factor_ranks: NDArray[np.int64]  # [prime of a group]
    order_ranks: NDArray[np.int64]  # [L]
    place_ranks: NDArray[np.int64]  # [L] rank of a permutation
    place_masks: NDArray[np.int64]  # [L] bit j: the loop at position j of that permutation lies on Y
    keep_bits: NDArray[np.int64]  # [1]
    drawn_ranks: NDArray[np.int64]  # [L] permutation of spatial loops of which a split makes places
    parallel: NDArray[np.int64]  # [L] product of the spatial factors
    sequence: NDArray[np.int64]  # [D]
    extents: NDArray[np.float64]  # [L, D]
    tile_words: NDArray[np.float64]  # [L, T]


@kernel
def _is_parallel_enough(tables: PointTables, point: Point) -> bool:
    used = 1
    for parallel in point.parallel:
        used *= parallel
    return used >= tables.min_used_macs


@kernel
def write_factors(tables: PointTables, point: Point, maps: Maps, i: int) -> bool:
    """Writes the factors of a point; returns whether they can be legal."""
    levels, dims = maps.temporal.shape[1], maps.temporal.shape[2]
    for level in range(levels):
        point.parallel[level] = tables.fixed_parallel[level]
        for d in range(dims):
            maps.temporal[i, level, d] = max(tables.fixed[level, d], 1)
            maps.spatial[i, level, d] = max(tables.fixed[levels + level, d], 1)
    fits = True
    for r in range(len(tables.primes)):
        rank, left = point.factor_ranks[r], tables.primes[r, EXPONENT]
        d, prime, parts = tables.primes[r, DIM], tables.primes[r, PRIME], tables.primes[r, SLOTS]
        for part in range(parts):
            factor = 1
            after = parts - 2 - part
            if after < 0:
                factor = prime**left
            else:
                while rank >= tables.binomials[left + after, after]:
                    rank -= tables.binomials[left + after, after]
                    left -= 1
                    factor *= prime
            slot = tables.slots[tables.primes[r, FIRST_SLOT] + part]
            if slot < levels:
                maps.temporal[i, slot, d] *= factor
            else:
                maps.spatial[i, slot - levels, d] *= factor
                point.parallel[slot - levels] *= factor
                fits &= point.parallel[slot - levels] <= tables.most_parallel[slot - levels]
    return fits and _is_parallel_enough(tables, point)


@kernel
def next_factors(tables: PointTables, point: Point) -> bool:
    """Steps to the next factors; returns False, at the first ones again, after the last."""
    for r in range(len(tables.primes)):
        point.factor_ranks[r] += 1
        if point.factor_ranks[r] < tables.primes[r, COUNT]:
            return True
        point.factor_ranks[r] = 0
    return False


@kernel
def count_loops(factors: NDArray[np.int32], i: int, level: int) -> int:
    """Number of loops above 1."""
    count = 0
    for d in range(factors.shape[2]):
        count += factors[i, level, d] > 1
    return count


@kernel
def permuted_loops(
    factors: NDArray[np.int32], i: int, level: int, key: NDArray[np.int8], rank: int, sequence: NDArray[np.int64]
) -> int:
    """Fills sequence with the loops above 1 in the permutation of a rank (0: the order of the key), then the others."""
    dims = factors.shape[2]
    count = 0
    for position in range(dims):
        d = key[level, position]
        if factors[i, level, d] > 1:
            sequence[count] = d
            count += 1
    for position in range(count - 1):
        other = position + rank % (count - position)
        rank //= count - position
        chosen = sequence[other]
        for later in range(other, position, -1):
            sequence[later] = sequence[later - 1]
        sequence[position] = chosen
    end = count
    for d in range(dims):
        if factors[i, level, d] == 1:
            sequence[end] = d
            end += 1
    return count


@kernel
def write_places(tables: PointTables, point: Point, maps: Maps, i: int) -> bool:
    """Writes the spatial orders; returns False where loops on Y precede some on X in a permutation.

    The loops on X are written before those on Y in any case, so that such a permutation repeats another one.
    """
    spatial, spatial_order, spatial_split = maps.spatial, maps.spatial_order, maps.spatial_split
    levels, dims = spatial.shape[1], spatial.shape[2]
    is_canonical = True
    for level in range(levels):
        count = permuted_loops(spatial, i, level, tables.spatial_order_key, point.place_ranks[level], point.sequence)
        end = 0
        for side in range(2):
            for position in range(count):
                d = point.sequence[position]
                on_y = np.int64(tables.on_y[level, d])
                if tables.side_free[level]:
                    on_y = (point.place_masks[level] >> position) & 1
                if on_y == side:
                    is_canonical &= end == position or not tables.spatial_order_free[level]
                    spatial_order[i, level, end] = d
                    end += 1
            if side == 0:
                spatial_split[i, level] = end
        for position in range(count, dims):
            spatial_order[i, level, position] = point.sequence[position]
    return is_canonical


@kernel
def write_orders(tables: PointTables, point: Point, maps: Maps, i: int) -> None:
    """Writes the temporal orders."""
    order = maps.order
    for level in range(order.shape[1]):
        permuted_loops(maps.temporal, i, level, tables.order_key, point.order_ranks[level], point.sequence)
        for position in range(order.shape[2]):
            order[i, level, position] = point.sequence[position]


@kernel
def write_kept(tables: PointTables, point: Point, maps: Maps, i: int) -> None:
    """Writes the kept tensors where they are searched; bit 0 keeps all of them."""
    keep = maps.keep
    bits = point.keep_bits[0]
    for level in range(keep.shape[1]):
        for t in range(keep.shape[2]):
            if tables.keep_free[level, t]:
                keep[i, level, t] = bits & 1 == 0
                bits >>= 1


@inlined_kernel
def point_status(tables: PointTables, point: Point, maps: Maps, i: int) -> int:
    """Status of a point that is written to row i; see :mod:`mapgym.mapping.legality_kernels`."""
    return legality_status(i, maps, tables.rules, point.extents, point.tile_words)


@kernel
def bypass_variants(tables: PointTables) -> int:
    """In how many ways tensors can be kept."""
    free = 0
    for level in range(tables.keep_free.shape[0]):
        for t in range(tables.keep_free.shape[1]):
            free += tables.keep_free[level, t]
    return 1 << free


@inlined_kernel
def _state_after(tables: PointTables, draws: DrawTables, point: Point, choice: int) -> int:
    """The state that a choice leads to from the parallelism of a point; -1 if it is too parallel."""
    state = 0
    for level in range(len(draws.strides)):
        if draws.strides[level] > 0:
            parallel = point.parallel[level] * draws.choices[choice, FACTORS + level]
            if parallel > tables.most_parallel[level]:
                return -1
            state += parallel * draws.strides[level]
    return state


@kernel
def _enter_state(draws: DrawTables, point: Point, state: int) -> None:
    for level in range(len(draws.strides)):
        if draws.strides[level] > 0:
            point.parallel[level] = state // draws.strides[level] % draws.radices[level]


@kernel
def count_completions(tables: PointTables, draws: DrawTables, point: Point) -> float:
    """Fills draws.completions: which states can be reached, first prime first, and from the last one on their counts.

    Returns:
        the number of draws that are not too parallel at the levels that states keep track of.
    """
    start = 0
    for level in range(len(draws.strides)):
        start += tables.fixed_parallel[level] * draws.strides[level]
    completions = draws.completions
    completions[0, start] = 1
    primes, states = len(tables.primes), completions.shape[1]
    for r in range(primes):
        for state in range(states):
            if completions[r, state] > 0:
                _enter_state(draws, point, state)
                for choice in range(draws.first[r], draws.first[r + 1]):
                    after = _state_after(tables, draws, point, choice)
                    if after >= 0:
                        completions[r + 1, after] = 1
    for r in range(primes - 1, -1, -1):
        for state in range(states):
            if completions[r, state] > 0:
                _enter_state(draws, point, state)
                completions[r, state] = 0
                for choice in range(draws.first[r], draws.first[r + 1]):
                    after = _state_after(tables, draws, point, choice)
                    if after >= 0:
                        completions[r, state] += draws.choices[choice, RANKS] * completions[r + 1, after]
    return completions[0, start]


@kernel
def refused_draws(share: float, generator: State) -> int:
    """How many draws fail before one succeeds, where a share of them does."""
    if share <= 0:
        return NEVER
    if share >= 1:
        return 0
    return int(min(math.log(1 - next_fraction(generator)) / math.log1p(-share), NEVER))


@kernel
def draw_factors(tables: PointTables, draws: DrawTables, point: Point, generator: State) -> bool:
    """Draws ranks of factors, uniformly of those that states find possible; returns whether they can be legal."""
    state = 0
    for level in range(len(point.parallel)):
        point.parallel[level] = tables.fixed_parallel[level]
        state += point.parallel[level] * draws.strides[level]
    for r in range(len(tables.primes)):
        left = next_fraction(generator) * draws.completions[r, state]
        chosen = -1
        for choice in range(draws.first[r], draws.first[r + 1]):
            after = _state_after(tables, draws, point, choice)
            if after < 0 or draws.completions[r + 1, after] == 0:
                continue
            # Rounding may leave something after the last one that is possible.
            chosen, state = choice, after
            left -= draws.choices[choice, RANKS] * draws.completions[r + 1, after]
            if left < 0:
                break
        ranks = draws.choices[chosen, RANKS]
        point.factor_ranks[r] = draws.choices[chosen, FIRST_RANK] + np.int64(next_fraction(generator) * ranks)
        for level in range(len(point.parallel)):
            point.parallel[level] *= draws.choices[chosen, FACTORS + level]
            if point.parallel[level] > tables.most_parallel[level]:
                return False
    return _is_parallel_enough(tables, point)
