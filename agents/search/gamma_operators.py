"""Compiled mutations of the genetic search.

A genome is one row of the arrays of a mapping batch, changed in place. Every mutation keeps the products of the
factors equal to the bounds and touches only what the rules leave free. What it may break, that the tiles of a level
fit its capacity, is mended afterwards (:mod:`mapgym.agents.search.gamma_breeding`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

TEMPORAL, SPATIAL = 0, 1
X, Y = 0, 1
MOVE, EXCHANGE, TOGGLE, RETILE, LEVELS, ORDER, BYPASS = range(7)
"""The mutations, in the order of ``Rules.weights``."""


class Rules(NamedTuple):
    """What the operators may do (L levels, D dims, T tensors)."""

    free: NDArray[np.bool_]  # [L, D, 2] temporal and spatial factors that may change
    tile: bool  # primes may move between levels, otherwise only between time and space within a level
    parallelism: bool
    order_free: NDArray[np.bool_]  # [L] levels whose temporal loops may be swapped
    spatial_order: bool  # the order of the spatial loops is searched
    base_spatial_order: NDArray[np.int8]  # [L, D] the order of the spatial loops otherwise
    keep_free: NDArray[np.bool_]  # [L, T] keep bits that may be flipped
    primes: NDArray[np.int64]  # [D, K] distinct primes of each bound, padded with 0
    relevant: NDArray[np.bool_]  # [D, T] dims that the size of a tensor's tile depends on
    limits: NDArray[np.int64]  # [L, 2] largest product of the spatial factors of a level on X and on Y
    reach: NDArray[np.int64]  # [L, 2] largest product of the spatial factors of a level and all outer ones
    least_parallelism: int  # MACs that have to be in use
    weights: NDArray[np.float64]  # cumulative probabilities of the mutations


class Genome(NamedTuple):
    """Views of one row of a batch, and the mesh axis of each spatial factor."""

    temporal: NDArray[np.int32]  # [L, D]
    spatial: NDArray[np.int32]  # [L, D]
    order: NDArray[np.int8]  # [L, D]
    spatial_order: NDArray[np.int8]  # [L, D]
    keep: NDArray[np.bool_]  # [L, T]
    axis: NDArray[np.int64]  # [L, D] X or Y; sorted into spatial_order and its split when the genome is complete
    scratch: NDArray[np.int64]  # [D]


@njit(cache=True)
def below(state, n):  # type: ignore[no-untyped-def]
    """A random whole number from 0 to n - 1; state is uint64[1] (splitmix64, bias below n / 2**63)."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return np.int64(z >> np.uint64(1)) % np.int64(n)


@njit(cache=True)
def unit(state):  # type: ignore[no-untyped-def]
    """A random number in [0, 1)."""
    return below(state, 1 << 53) / float(1 << 53)


@njit(cache=True)
def factors(g, kind):  # type: ignore[no-untyped-def]
    """The temporal or the spatial factors of a genome."""
    return g.spatial if kind == SPATIAL else g.temporal


@njit(cache=True)
def parallelism(g, level, axis):  # type: ignore[no-untyped-def]
    """Product of the spatial factors of a level on a mesh axis."""
    product = np.int64(1)
    for d in range(g.axis.shape[1]):
        if g.axis[level, d] == axis:
            product *= g.spatial[level, d]
    return product


@njit(cache=True)
def has_room(g, rules, level, axis, growth):  # type: ignore[no-untyped-def]
    """Whether the spatial factors of a level may grow by a factor on a mesh axis."""
    if parallelism(g, level, axis) * growth > rules.limits[level, axis]:
        return False
    product = np.int64(growth)
    for outer in range(len(g.axis) - 1, -1, -1):
        product *= parallelism(g, outer, axis)
        if outer <= level and product > rules.reach[outer, axis]:
            return False
    return True


@njit(cache=True)
def random_prime(rules, d, factor, state):  # type: ignore[no-untyped-def]
    """A prime that divides a factor of dim d, each one equally likely; 0 for the factor 1."""
    count = 0
    if factor > 1:
        for k in range(rules.primes.shape[1]):
            if rules.primes[d, k] > 1 and factor % rules.primes[d, k] == 0:
                count += 1
    if count == 0:
        return np.int64(0)
    chosen = below(state, count)
    for k in range(rules.primes.shape[1]):
        if rules.primes[d, k] > 1 and factor % rules.primes[d, k] == 0:
            if chosen == MOVE:
                return rules.primes[d, k]
            chosen -= 1
    return np.int64(0)


@njit(cache=True)
def shift(g, level, d, kind, to_level, to_kind, prime):  # type: ignore[no-untyped-def]
    """Moves a prime of dim d from one slot to another."""
    factors(g, kind)[level, d] //= prime
    factors(g, to_kind)[to_level, d] *= prime


@njit(cache=True)
def _may_enter(g, rules, level, d, kind, prime, state):  # type: ignore[no-untyped-def]
    """Whether a factor may grow by a prime; a dim that becomes parallel is put on an axis that has room for it."""
    if not rules.free[level, d, kind]:
        return False
    if kind == TEMPORAL:
        return True
    if g.spatial[level, d] > 1:
        return has_room(g, rules, level, g.axis[level, d], prime)
    first = below(state, 2)
    for axis in (first, 1 - first):
        if has_room(g, rules, level, axis, prime):
            g.axis[level, d] = axis
            return True
    return False


@njit(cache=True)
def _random_source(g, rules, state):  # type: ignore[no-untyped-def]
    """A random free slot with a factor above 1, of a random dim: (level, dim, kind), or level -1."""
    levels, dims = g.temporal.shape
    first = below(state, dims)
    for step in range(dims):
        d = (first + step) % dims
        count = 0
        for slot in range(2 * levels):
            if rules.free[slot // 2, d, slot % 2] and factors(g, slot % 2)[slot // 2, d] > 1:
                count += 1
        if count == 0:
            continue
        chosen = below(state, count)
        for slot in range(2 * levels):
            if rules.free[slot // 2, d, slot % 2] and factors(g, slot % 2)[slot // 2, d] > 1:
                if chosen == MOVE:
                    return slot // 2, d, slot % 2
                chosen -= 1
    return -1, 0, 0


@njit(cache=True)
def _move(g, rules, state):  # type: ignore[no-untyped-def]
    """Moves a random prime of a random dim to another slot."""
    level, d, kind = _random_source(g, rules, state)
    if level < 0:
        return False
    prime = random_prime(rules, d, factors(g, kind)[level, d], state)
    slots = 2 * len(g.temporal)
    first = below(state, slots)
    for step in range(slots):
        to_level, to_kind = (first + step) % slots // 2, (first + step) % slots % 2
        if (to_level == level and to_kind == kind) or (to_level != level and not rules.tile):
            continue
        if _may_enter(g, rules, to_level, d, to_kind, prime, state):
            shift(g, level, d, kind, to_level, to_kind, prime)
            return True
    return False


@njit(cache=True)
def _exchange(g, rules, state):  # type: ignore[no-untyped-def]
    """Two dims trade places: a prime of one goes from slot x to slot y, a prime of the other from y to x.

    A full buffer or a full array often admits no single move that leaves it full; a trade does.
    """
    level, d, kind = _random_source(g, rules, state)
    if level < 0:
        return False
    prime = random_prime(rules, d, factors(g, kind)[level, d], state)
    levels, dims = g.temporal.shape
    slots = 2 * levels * dims
    first = below(state, slots)
    for step in range(slots):
        slot = (first + step) % slots
        to_level, to_kind, e = slot // (2 * dims), slot // dims % 2, slot % dims
        if e == d or (to_level == level and to_kind == kind) or (to_level != level and not rules.tile):
            continue
        if not (rules.free[to_level, e, to_kind] and rules.free[to_level, d, to_kind] and rules.free[level, e, kind]):
            continue
        other = random_prime(rules, e, factors(g, to_kind)[to_level, e], state)
        if other == 0:
            continue
        # Both leave before either arrives, so that each finds the room that the other makes.
        factors(g, kind)[level, d] //= prime
        factors(g, to_kind)[to_level, e] //= other
        if _may_enter(g, rules, to_level, d, to_kind, prime, state):
            factors(g, to_kind)[to_level, d] *= prime
            if _may_enter(g, rules, level, e, kind, other, state):
                factors(g, kind)[level, e] *= other
                return True
            factors(g, to_kind)[to_level, d] //= prime
        factors(g, kind)[level, d] *= prime
        factors(g, to_kind)[to_level, e] *= other
    return False


@njit(cache=True)
def _toggle_parallelism(g, rules, state):  # type: ignore[no-untyped-def]
    """At one level, moves a dim between time and space as far as it fits, or a parallel dim to the other mesh axis."""
    levels, dims = g.temporal.shape
    first = below(state, levels * dims)
    for step in range(levels * dims):
        level, d = (first + step) % (levels * dims) // dims, (first + step) % dims
        if not (rules.free[level, d, SPATIAL] and rules.free[level, d, TEMPORAL]):
            continue
        spatial = g.spatial[level, d]
        if spatial > 1 and below(state, 2) == 0:
            if below(state, 2) == 0 and has_room(g, rules, level, 1 - g.axis[level, d], spatial):
                g.axis[level, d] = 1 - g.axis[level, d]
            else:
                g.temporal[level, d] *= spatial
                g.spatial[level, d] = 1
            return True
        grown = False
        while True:
            prime = random_prime(rules, d, g.temporal[level, d], state)
            if prime == 0 or not _may_enter(g, rules, level, d, SPATIAL, prime, state):
                break
            shift(g, level, d, TEMPORAL, level, SPATIAL, prime)
            grown = True
        if grown:
            return True
    return False


@njit(cache=True)
def _retile(g, rules, state):  # type: ignore[no-untyped-def]
    """Spreads the primes of one dim anew: each goes to a random slot, or stays where the slot does not admit it."""
    source, d, _ = _random_source(g, rules, state)
    if source < 0:
        return False
    slots = 2 * len(g.temporal)
    for slot in range(slots):
        level, kind = slot // 2, slot % 2
        if not rules.free[level, d, kind]:
            continue
        left = factors(g, kind)[level, d]
        prime = random_prime(rules, d, left, state)
        while prime > 0:
            left //= prime
            target = below(state, slots)
            to_level, to_kind = (target // 2 if rules.tile else level), target % 2
            if _may_enter(g, rules, to_level, d, to_kind, prime, state):
                shift(g, level, d, kind, to_level, to_kind, prime)
            prime = random_prime(rules, d, left, state)
    return True


@njit(cache=True)
def set_tile(g, rules, level, d, tile, spatial):  # type: ignore[no-untyped-def]
    """Sets the level factor of a dim and makes as much of it parallel as divides both it and the spatial factor.

    Returns:
        Whether that was possible; a spatial factor that is not free has to divide the tile.
    """
    if not rules.free[level, d, SPATIAL]:
        spatial = g.spatial[level, d]
        if tile % spatial:
            return False
    a, b = np.int64(tile), np.int64(spatial)
    while b:
        a, b = b, a % b
    g.spatial[level, d] = a
    g.temporal[level, d] = tile // a
    return True


@njit(cache=True)
def _swap_levels(g, rules, state):  # type: ignore[no-untyped-def]
    """Swaps the tiles of two levels, dim by dim, where both are free."""
    levels, dims = g.temporal.shape
    if not rules.tile or levels < 2:
        return False
    a = below(state, levels)
    b = (a + 1 + below(state, levels - 1)) % levels
    changed = False
    for d in range(dims):
        first, second = g.temporal[a, d] * g.spatial[a, d], g.temporal[b, d] * g.spatial[b, d]
        if first == second or not (rules.free[a, d, TEMPORAL] and rules.free[b, d, TEMPORAL]):
            continue
        if set_tile(g, rules, a, d, second, g.spatial[a, d]):
            if set_tile(g, rules, b, d, first, g.spatial[b, d]):
                changed = True
            else:
                set_tile(g, rules, a, d, first, g.spatial[a, d])
    return changed


@njit(cache=True)
def _swap_loops(g, rules, state):  # type: ignore[no-untyped-def]
    """Swaps two loops of bound above 1 of a level: temporal ones, or spatial ones on the same mesh axis."""
    levels, dims = g.temporal.shape
    first = below(state, 2 * levels)
    for step in range(2 * levels):
        level, kind = (first + step) % (2 * levels) // 2, (first + step) % 2
        if (kind == TEMPORAL and not rules.order_free[level]) or (kind == SPATIAL and not rules.spatial_order):
            continue
        order = g.spatial_order if kind == SPATIAL else g.order
        axis = below(state, 2)
        count = 0
        for position in range(dims):
            d = order[level, position]
            if factors(g, kind)[level, d] > 1 and (kind == TEMPORAL or g.axis[level, d] == axis):
                g.scratch[count] = position
                count += 1
        if count < 2:
            continue
        a = below(state, count)
        b = g.scratch[(a + 1 + below(state, count - 1)) % count]
        a = g.scratch[a]
        order[level, a], order[level, b] = order[level, b], order[level, a]
        return True
    return False


@njit(cache=True)
def _flip_keep(g, rules, state):  # type: ignore[no-untyped-def]
    """Flips whether a random level keeps a random tensor."""
    levels, tensors = rules.keep_free.shape
    first = below(state, levels * tensors)
    for step in range(levels * tensors):
        level, t = (first + step) % (levels * tensors) // tensors, (first + step) % tensors
        if rules.keep_free[level, t]:
            g.keep[level, t] = not g.keep[level, t]
            return True
    return False


@njit(cache=True)
def mutate(g, rules, state):  # type: ignore[no-untyped-def]
    """Applies one random mutation; returns whether it changed anything."""
    drawn = unit(state)
    chosen = 0
    while chosen < len(rules.weights) - 1 and drawn >= rules.weights[chosen]:
        chosen += 1
    if chosen == MOVE:
        return _move(g, rules, state)
    if chosen == EXCHANGE:
        return _exchange(g, rules, state)
    if chosen == TOGGLE:
        return _toggle_parallelism(g, rules, state)
    if chosen == RETILE:
        return _retile(g, rules, state)
    if chosen == LEVELS:
        return _swap_levels(g, rules, state)
    if chosen == ORDER:
        return _swap_loops(g, rules, state)
    return _flip_keep(g, rules, state)
