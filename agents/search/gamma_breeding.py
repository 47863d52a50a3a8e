"""Compiled making of children for the genetic search: crossover, mutation, repair, and no child twice."""

from __future__ import annotations

import numpy as np
from numba import njit

from mapgym.agents.search.gamma_operators import (
    SPATIAL,
    TEMPORAL,
    Genome,
    X,
    Y,
    below,
    factors,
    has_room,
    mutate,
    parallelism,
    random_prime,
    set_tile,
    shift,
    unit,
)
from mapgym.legality import CAPACITY, LEGAL, legality_status

TILE, PARALLELISM, ORDER, BYPASS = range(4)


@njit(cache=True)
def _write_axes(g, rules, split):  # type: ignore[no-untyped-def]
    """Sorts the spatial loops by mesh axis and sets the splits; on an axis they keep their order, or have the base's."""
    if not rules.parallelism:
        return
    levels, dims = g.axis.shape
    for level in range(levels):
        order = g.spatial_order[level] if rules.spatial_order else rules.base_spatial_order[level]
        filled = 0
        for axis in (X, Y):
            for position in range(dims):
                d = order[position]
                if g.axis[level, d] == axis:
                    g.scratch[filled] = d
                    filled += 1
            if axis == X:
                split[level] = filled
        for position in range(dims):
            g.spatial_order[level, position] = g.scratch[position]


@njit(cache=True)
def _cross(g, mom, rules, items, state):  # type: ignore[no-untyped-def]
    """Takes one thing over from the other parent: tiles of some dims, all parallelism, all orders or all keep bits."""
    item = items[below(state, len(items))]
    levels, dims = g.temporal.shape
    if item == TILE:
        # One dim, as in GAMMA, or each dim by the toss of a coin.
        only = below(state, dims) if below(state, 2) == 0 else -1
        for d in range(dims):
            if d == only or (only < 0 and below(state, 2) == 0):
                for level in range(levels):
                    g.temporal[level, d] = mom.temporal[level, d]
                    g.spatial[level, d] = mom.spatial[level, d]
                    g.axis[level, d] = mom.axis[level, d]
    elif item == PARALLELISM:
        for level in range(levels):
            for d in range(dims):
                if rules.free[level, d, SPATIAL] and rules.free[level, d, TEMPORAL]:
                    set_tile(g, rules, level, d, g.temporal[level, d] * g.spatial[level, d], mom.spatial[level, d])
                    g.axis[level, d] = mom.axis[level, d]
    elif item == ORDER:
        for level in range(levels):
            for position in range(dims):
                if rules.order_free[level]:
                    g.order[level, position] = mom.order[level, position]
                if rules.spatial_order:
                    g.spatial_order[level, position] = mom.spatial_order[level, position]
    else:
        for level in range(levels):
            for t in range(g.keep.shape[1]):
                g.keep[level, t] = mom.keep[level, t]


@njit(cache=True)
def _shrink_parallelism(g, rules, level, axis, state):  # type: ignore[no-untyped-def]
    """Makes a random prime of the spatial factors of a level on a mesh axis temporal; the tile stays as it is."""
    dims = g.axis.shape[1]
    first = below(state, dims)
    for step in range(dims):
        d = (first + step) % dims
        if g.axis[level, d] != axis or not (rules.free[level, d, SPATIAL] and rules.free[level, d, TEMPORAL]):
            continue
        prime = random_prime(rules, d, g.spatial[level, d], state)
        if prime > 0:
            shift(g, level, d, SPATIAL, level, TEMPORAL, prime)
            return True
    return False


@njit(cache=True)
def _fit_parallelism(g, rules, state):  # type: ignore[no-untyped-def]
    """Shrinks parallelism, from the outermost level inwards, until it fits; first a dim may change its mesh axis."""
    for axis in (X, Y):
        for level in range(len(g.axis) - 1, -1, -1):
            while not has_room(g, rules, level, axis, 1):
                moved = False
                for d in range(g.axis.shape[1]):
                    spatial = g.spatial[level, d]
                    if (
                        axis == X
                        and spatial > 1
                        and g.axis[level, d] == X
                        and rules.free[level, d, SPATIAL]
                        and parallelism(g, level, Y) * spatial <= rules.limits[level, Y]
                    ):
                        g.axis[level, d] = Y
                        moved = True
                        break
                if not moved and not _shrink_parallelism(g, rules, level, axis, state):
                    break


@njit(cache=True)
def _move_outwards(g, rules, full, state):  # type: ignore[no-untyped-def]
    """Moves a random prime that the tile of a full level covers to the time of a random outer level."""
    levels, dims = g.temporal.shape
    first = below(state, dims)
    for step in range(dims):
        d = (first + step) % dims
        held = False
        for t in range(g.keep.shape[1]):
            held |= g.keep[full, t] and rules.relevant[d, t]
        if not held:
            continue
        start = below(state, 2 * (full + 1))
        for turn in range(2 * (full + 1)):
            slot = (start + turn) % (2 * (full + 1))
            level, kind = slot // 2, slot % 2
            if not rules.free[level, d, kind]:
                continue
            prime = random_prime(rules, d, factors(g, kind)[level, d], state)
            if prime == 0:
                continue
            outer = levels - 1 - full
            begin = below(state, outer)
            for hop in range(outer):
                to_level = full + 1 + (begin + hop) % outer
                if rules.free[to_level, d, TEMPORAL]:
                    shift(g, level, d, kind, to_level, TEMPORAL, prime)
                    return True
    return False


@njit(cache=True)
def _repair(i, g, rules, batch, table, extents, tile_words, state):  # type: ignore[no-untyped-def]
    """Mends parallelism, then capacities; returns whether the genome is legal.

    Each step takes a prime out of an array or moves it outwards, so that the number of steps is bounded.
    """
    _fit_parallelism(g, rules, state)
    _write_axes(g, rules, batch[4][i])
    while True:
        status = legality_status(
            i, batch[0], batch[1], batch[2], batch[3], batch[4], batch[5], table, extents, tile_words
        )
        if status >> 8 != CAPACITY:
            break
        if not rules.tile or not _move_outwards(g, rules, status & 255, state):
            return False
    used = np.int64(1)
    for level in range(len(g.axis)):
        used *= parallelism(g, level, X) * parallelism(g, level, Y)
    return status == LEGAL and used >= rules.least_parallelism


@njit(cache=True)
def _mix(h, value):  # type: ignore[no-untyped-def]
    h = (h ^ np.uint64(value)) * np.uint64(0x9E3779B97F4A7C15)
    return h ^ (h >> np.uint64(29))


@njit(cache=True)
def fingerprint(g):  # type: ignore[no-untyped-def]
    """A hash of what distinguishes a mapping: its loops of bound above 1, in order, and its keep bits."""
    h = np.uint64(0xA0761D6478BD642F)
    levels, dims = g.temporal.shape
    for level in range(levels):
        for position in range(dims):
            d = g.order[level, position]
            if g.temporal[level, d] > 1:
                h = _mix(h, np.int64(g.temporal[level, d]) * 256 + d * 4)
        for position in range(dims):
            d = g.spatial_order[level, position]
            if g.spatial[level, d] > 1:
                h = _mix(h, np.int64(g.spatial[level, d]) * 256 + d * 4 + 1 + g.axis[level, d])
        kept = 3
        for t in range(g.keep.shape[1]):
            kept = kept * 2 + g.keep[level, t]
        h = _mix(h, kept * 4 + 3)
    return h | np.uint64(1)


@njit(cache=True)
def remember(seen, h):  # type: ignore[no-untyped-def]
    """Adds a fingerprint to a hash table of a power of two of entries (0: empty); returns whether it was new.

    The table forgets everything when it is half full; entry 0 counts.
    """
    mask = len(seen) - 2
    position = 1 + np.int64(h >> np.uint64(20)) % mask
    while seen[position] != 0:
        if seen[position] == h:
            return False
        position = 1 + position % mask
    if seen[0] * np.uint64(2) > np.uint64(mask):
        for entry in range(len(seen)):
            seen[entry] = 0
    seen[position] = h
    seen[0] += np.uint64(1)
    return True


@njit(cache=True)
def _genome(arrays, i, axis, scratch):  # type: ignore[no-untyped-def]
    """Views of row i of a batch, with the mesh axes read into ``axis``."""
    g = Genome(arrays[0][i], arrays[1][i], arrays[2][i], arrays[3][i], arrays[5][i], axis, scratch)
    for level in range(axis.shape[0]):
        for position in range(axis.shape[1]):
            axis[level, g.spatial_order[level, position]] = X if position < arrays[4][i, level] else Y
    return g


@njit(cache=True)
def _copy_row(source, i, target, j):  # type: ignore[no-untyped-def]
    levels, dims = source[0].shape[1:]
    for level in range(levels):
        for d in range(dims):
            target[0][j, level, d] = source[0][i, level, d]
            target[1][j, level, d] = source[1][i, level, d]
            target[2][j, level, d] = source[2][i, level, d]
            target[3][j, level, d] = source[3][i, level, d]
        target[4][j, level] = source[4][i, level]
        for t in range(source[5].shape[2]):
            target[5][j, level, t] = source[5][i, level, t]


@njit(cache=True)
def breed(  # type: ignore[no-untyped-def]
    parents, children, rules, items, table, crossover, persistence, attempts, seen, state
):
    """Fills a batch with children of the parents.

    Args:
        parents: the six arrays of m legal mappings.
        children: the six arrays of n mappings, overwritten.
        rules: what may change.
        items: int64[k], what crossover may take over: TILE, PARALLELISM, ORDER, BYPASS.
        table: from :func:`mapgym.legality.pack_rules`.
        crossover: probability of crossover.
        persistence: probability of one more mutation after each one. A child that did not cross has at least one.
        attempts: how often a child that is illegal, or was seen before, is made anew. After that it is a repeat if
            one was found legal, and otherwise a copy of its parent.
        seen: uint64 hash table of fingerprints; see :func:`remember`.
        state: uint64[1], random state.
    """
    count, (levels, dims) = len(parents[0]), parents[0].shape[1:]
    extents = np.empty((levels, dims), np.int64)
    tile_words = np.empty((levels, parents[5].shape[2]), np.int64)
    axis, other_axis = np.empty((levels, dims), np.int64), np.empty((levels, dims), np.int64)
    scratch = np.empty(dims, np.int64)
    for i in range(len(children[0])):
        for attempt in range(attempts + 1):
            _copy_row(parents, below(state, count), children, i)
            if attempt == attempts:
                break
            g = _genome(children, i, axis, scratch)
            crossed = len(items) > 0 and unit(state) < crossover
            if crossed:
                _cross(g, _genome(parents, below(state, count), other_axis, scratch), rules, items, state)
            if not crossed or unit(state) < persistence:
                mutate(g, rules, state)
                while unit(state) < persistence:
                    mutate(g, rules, state)
            if not _repair(i, g, rules, children, table, extents, tile_words, state):
                continue
            if remember(seen, fingerprint(g)) or attempt == attempts - 1:
                break
