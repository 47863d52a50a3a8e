"""Compiled mutations of the genetic search.

Every mutation keeps the products of the factors equal to the bounds and touches only what the rules leave free. What
it may break, that the tiles of a level fit its capacity, is mended afterwards
(:mod:`mapgym.agents.search.gamma.breeding_kernels`).

A genome is one mapping as one array, int64[6, level, dim or tensor], whose planes are numbered below: temporal and
spatial factors, the mesh axis of each spatial factor, the dims of the temporal and of the spatial loops (innermost
first), and whether tensors are kept. It is one array of one type because compiling functions of many arrays takes long.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import kernel
from mapgym.compilation.random_kernels import next_random

GENOME_PLANES = 6
TEMPORAL, SPATIAL, AXIS, ORDER, SPATIAL_ORDER, KEEP = range(GENOME_PLANES)
X, Y = 0, 1

FREE_TEMPORAL, FREE_SPATIAL, FREE_KEEP, FREE_ORDER, SPATIAL_ORDER_KEY, LIMIT, REACH = range(7)
"""Planes of ``Rules.levels``, int64[7, level, ...].

FREE_TEMPORAL, FREE_SPATIAL: [dim] whether a factor may change. FREE_KEEP: [tensor] whether a keep bit may. FREE_ORDER:
[2] whether the temporal and the spatial loops may be swapped. SPATIAL_ORDER_KEY: [dim] the order of the spatial loops
where they may not. LIMIT: [2] largest product of the spatial factors of the level on X and on Y. REACH: [2] the same
for the level and all outer ones together.
"""

MOVE, EXCHANGE, TOGGLE, RETILE, LEVELS, SWAP, BYPASS = range(7)
"""The mutations, in the order of ``Rules.weights``."""


class Rules(NamedTuple):
    """What the operators may do in a map space."""

    levels: NDArray[np.int64]  # see above
    primes: NDArray[np.int64]  # [dim, k] distinct primes of each bound, padded with 0
    relevant: NDArray[np.bool_]  # [dim, tensor] whether the size of a tensor's tile depends on the dim
    weights: NDArray[np.float64]  # [7] cumulative probabilities of the mutations
    tile: bool  # primes may move between levels, otherwise only between time and space within a level
    parallelism: bool  # the parallelism axis is searched
    least_parallelism: int  # MACs that have to be in use


@kernel
def below(state, n):  # type: ignore[no-untyped-def]
    """A random whole number from 0 to n - 1, also for large n; state is uint64[1] (bias below n / 2**63)."""
    return np.int64(next_random(state) >> np.uint64(1)) % np.int64(n)


@kernel
def unit(state):  # type: ignore[no-untyped-def]
    """A random number in [0, 1)."""
    return below(state, 1 << 53) / float(1 << 53)


@kernel
def used(g, level, axis, dims):  # type: ignore[no-untyped-def]
    """Product of the spatial factors of a level on a mesh axis."""
    product = 1
    for d in range(dims):
        if g[AXIS, level, d] == axis:
            product *= g[SPATIAL, level, d]
    return product


@kernel
def has_room(g, rules, level, axis, growth):  # type: ignore[no-untyped-def]
    """Whether the spatial factors of a level may grow by a factor on a mesh axis."""
    dims = len(rules.primes)
    if used(g, level, axis, dims) * growth > rules.levels[LIMIT, level, axis]:
        return False
    product = growth
    for outer in range(g.shape[1] - 1, -1, -1):
        product *= used(g, outer, axis, dims)
        if outer <= level and product > rules.levels[REACH, outer, axis]:
            return False
    return True


@kernel
def random_prime(rules, d, factor, state):  # type: ignore[no-untyped-def]
    """A prime that divides a factor of dim d, each one equally likely; 0 for the factor 1."""
    count = 0
    chosen = 0
    if factor > 1:
        for k in range(rules.primes.shape[1]):
            prime = rules.primes[d, k]
            if prime > 1 and factor % prime == 0:
                count += 1
                # Each prime replaces the ones before with probability 1 / count: all are equally likely.
                if below(state, count) == 0:
                    chosen = prime
    return chosen


@kernel
def may_enter(g, rules, level, d, kind, prime, state):  # type: ignore[no-untyped-def]
    """Whether a factor may grow by a prime; a dim that becomes parallel is put on an axis that has room for it."""
    if not rules.levels[kind, level, d]:
        return False
    if kind == TEMPORAL:
        return True
    first = below(state, 2)
    for turn in range(2):
        axis = first ^ turn
        if (g[SPATIAL, level, d] == 1 or g[AXIS, level, d] == axis) and has_room(g, rules, level, axis, prime):
            g[AXIS, level, d] = axis
            return True
    return False


@kernel
def _random_source(g, rules, state):  # type: ignore[no-untyped-def]
    """A random free slot with a factor above 1, of a random dim: (level, dim, kind), or level -1."""
    slots, dims = 2 * g.shape[1], len(rules.primes)
    first = below(state, dims)
    for step in range(dims):
        d = (first + step) % dims
        count = 0
        chosen = -1
        for slot in range(slots):
            if rules.levels[slot % 2, slot // 2, d] and g[slot % 2, slot // 2, d] > 1:
                count += 1
                if below(state, count) == 0:
                    chosen = slot
        if count:
            return chosen // 2, d, chosen % 2
    return -1, 0, 0


@kernel
def move_prime(g, rules, state):  # type: ignore[no-untyped-def]
    """Moves a random prime of a random dim to another slot."""
    level, d, kind = _random_source(g, rules, state)
    if level < 0:
        return False
    prime = random_prime(rules, d, g[kind, level, d], state)
    slots = 2 * g.shape[1]
    first = below(state, slots)
    for step in range(slots):
        to_level, to_kind = (first + step) % slots // 2, (first + step) % slots % 2
        if (to_level == level and to_kind == kind) or (to_level != level and not rules.tile):
            continue
        if may_enter(g, rules, to_level, d, to_kind, prime, state):
            g[kind, level, d] //= prime
            g[to_kind, to_level, d] *= prime
            return True
    return False


@kernel
def exchange_primes(g, rules, state):  # type: ignore[no-untyped-def]
    """Two dims trade places: a prime of one goes from slot x to slot y, a prime of the other from y to x.

    A full buffer or a full array often admits no single move that leaves it full; a trade does.
    """
    level, d, kind = _random_source(g, rules, state)
    if level < 0:
        return False
    prime = random_prime(rules, d, g[kind, level, d], state)
    dims = len(rules.primes)
    slots = 2 * g.shape[1] * dims
    first = below(state, slots)
    for step in range(slots):
        slot = (first + step) % slots
        to_level, to_kind, e = slot // (2 * dims), slot // dims % 2, slot % dims
        if e == d or (to_level == level and to_kind == kind) or (to_level != level and not rules.tile):
            continue
        arrivals = rules.levels[to_kind, to_level, d] and rules.levels[kind, level, e]
        if not (arrivals and rules.levels[to_kind, to_level, e]):
            continue
        other = random_prime(rules, e, g[to_kind, to_level, e], state)
        if other == 0:
            continue
        # Both leave before either arrives, so that each finds the room that the other makes.
        g[kind, level, d] //= prime
        g[to_kind, to_level, e] //= other
        if may_enter(g, rules, to_level, d, to_kind, prime, state):
            g[to_kind, to_level, d] *= prime
            if may_enter(g, rules, level, e, kind, other, state):
                g[kind, level, e] *= other
                return True
            g[to_kind, to_level, d] //= prime
        g[kind, level, d] *= prime
        g[to_kind, to_level, e] *= other
    return False


@kernel
def toggle_parallelism(g, rules, state):  # type: ignore[no-untyped-def]
    """At one level, moves a dim between time and space as far as it fits, or a parallel dim to the other mesh axis."""
    dims = len(rules.primes)
    slots = g.shape[1] * dims
    first = below(state, slots)
    for step in range(slots):
        level, d = (first + step) % slots // dims, (first + step) % dims
        if not (rules.levels[FREE_SPATIAL, level, d] and rules.levels[FREE_TEMPORAL, level, d]):
            continue
        spatial = g[SPATIAL, level, d]
        if spatial > 1 and below(state, 2) == 0:
            other = 1 - g[AXIS, level, d]
            if below(state, 2) == 0 and has_room(g, rules, level, other, spatial):
                g[AXIS, level, d] = other
            else:
                g[TEMPORAL, level, d] *= spatial
                g[SPATIAL, level, d] = 1
            return True
        grown = False
        prime = random_prime(rules, d, g[TEMPORAL, level, d], state)
        while prime > 0 and may_enter(g, rules, level, d, SPATIAL, prime, state):
            g[TEMPORAL, level, d] //= prime
            g[SPATIAL, level, d] *= prime
            grown = True
            prime = random_prime(rules, d, g[TEMPORAL, level, d], state)
        if grown:
            return True
    return False


@kernel
def retile_dim(g, rules, state):  # type: ignore[no-untyped-def]
    """Spreads the primes of one dim anew: each goes to a random slot, or stays where the slot does not admit it."""
    source, d, _ = _random_source(g, rules, state)
    if source < 0:
        return False
    slots = 2 * g.shape[1]
    for slot in range(slots):
        level, kind = slot // 2, slot % 2
        if not rules.levels[kind, level, d]:
            continue
        left = g[kind, level, d]
        prime = random_prime(rules, d, left, state)
        while prime > 0:
            left //= prime
            target = below(state, slots)
            to_level, to_kind = (target // 2 if rules.tile else level), target % 2
            if may_enter(g, rules, to_level, d, to_kind, prime, state):
                g[kind, level, d] //= prime
                g[to_kind, to_level, d] *= prime
            prime = random_prime(rules, d, left, state)
    return True


@kernel
def set_tile(g, rules, level, d, tile, spatial):  # type: ignore[no-untyped-def]
    """Sets the level factor of a dim; the part of it that divides ``spatial`` becomes parallel.

    Returns:
        Whether that was possible: a spatial factor that is not free has to divide the tile.
    """
    if not rules.levels[FREE_SPATIAL, level, d]:
        spatial = g[SPATIAL, level, d]
        if tile % spatial:
            return False
    a, b = tile, spatial
    while b:
        a, b = b, a % b
    g[SPATIAL, level, d] = a
    g[TEMPORAL, level, d] = tile // a
    return True


@kernel
def swap_levels(g, rules, state):  # type: ignore[no-untyped-def]
    """Swaps the tiles of two levels, dim by dim, where both are free."""
    levels = g.shape[1]
    if not rules.tile or levels < 2:
        return False
    a = below(state, levels)
    b = (a + 1 + below(state, levels - 1)) % levels
    changed = False
    for d in range(len(rules.primes)):
        if not (rules.levels[FREE_TEMPORAL, a, d] and rules.levels[FREE_TEMPORAL, b, d]):
            continue
        first = g[TEMPORAL, a, d] * g[SPATIAL, a, d]
        second = g[TEMPORAL, b, d] * g[SPATIAL, b, d]
        if first != second and set_tile(g, rules, a, d, second, g[SPATIAL, a, d]):
            if set_tile(g, rules, b, d, first, g[SPATIAL, b, d]):
                changed = True
            else:
                set_tile(g, rules, a, d, first, g[SPATIAL, a, d])
    return changed


@kernel
def swap_loops(g, rules, state):  # type: ignore[no-untyped-def]
    """Swaps two loops of bound above 1 of a level: temporal ones, or spatial ones on the same mesh axis."""
    slots, dims = 2 * g.shape[1], len(rules.primes)
    first = below(state, slots)
    for step in range(slots):
        level, kind = (first + step) % slots // 2, (first + step) % 2
        if not rules.levels[FREE_ORDER, level, kind]:
            continue
        plane = ORDER + kind
        axis = below(state, 2)
        count, a, b = 0, 0, 0
        for position in range(dims):
            d = g[plane, level, position]
            if g[kind, level, d] > 1 and (kind == TEMPORAL or g[AXIS, level, d] == axis):
                # A random pair, drawn while passing by: the third and later loops replace one of the two.
                count += 1
                if count == 1:
                    a = position
                elif count == 2:
                    b = position
                else:
                    drawn = below(state, count)
                    if drawn == 0:
                        a = position
                    elif drawn == 1:
                        b = position
        if count > 1:
            g[plane, level, a], g[plane, level, b] = g[plane, level, b], g[plane, level, a]
            return True
    return False


@kernel
def flip_keep(g, rules, state):  # type: ignore[no-untyped-def]
    """Flips whether a random level keeps a random tensor."""
    tensors = rules.relevant.shape[1]
    slots = g.shape[1] * tensors
    first = below(state, slots)
    for step in range(slots):
        level, t = (first + step) % slots // tensors, (first + step) % tensors
        if rules.levels[FREE_KEEP, level, t]:
            g[KEEP, level, t] = 1 - g[KEEP, level, t]
            return True
    return False


@kernel
def mutate(g, rules, state):  # type: ignore[no-untyped-def]
    """Applies one random mutation; returns whether it changed anything."""
    drawn = unit(state)
    chosen = 0
    while chosen < len(rules.weights) - 1 and drawn >= rules.weights[chosen]:
        chosen += 1
    if chosen == MOVE:
        return move_prime(g, rules, state)
    if chosen == EXCHANGE:
        return exchange_primes(g, rules, state)
    if chosen == TOGGLE:
        return toggle_parallelism(g, rules, state)
    if chosen == RETILE:
        return retile_dim(g, rules, state)
    if chosen == LEVELS:
        return swap_levels(g, rules, state)
    if chosen == SWAP:
        return swap_loops(g, rules, state)
    return flip_keep(g, rules, state)
