"""Compiled making of children for the genetic search: crossover, mutation, repair, and no child twice."""

from __future__ import annotations

import numpy as np

from mapgym.agents.search.gamma.operator_kernels import (
    AXIS,
    FREE_ORDER,
    FREE_SPATIAL,
    FREE_TEMPORAL,
    KEEP,
    ORDER,
    SPATIAL,
    SPATIAL_ORDER,
    SPATIAL_ORDER_KEY,
    TEMPORAL,
    X,
    Y,
    below,
    mutate,
    set_tile,
    unit,
)
from mapgym.agents.search.gamma.repair_kernels import fill_words, mend
from mapgym.compilation import kernel
from mapgym.mapping.maps import Maps

TILES, PARALLELISM, ORDERS, BYPASS = range(4)
"""What crossover may take over."""


@kernel
def read_genome(batch, i, g):  # type: ignore[no-untyped-def]
    """Fills a genome from row i of a batch."""
    levels, dims = batch.temporal.shape[1:]
    for level in range(levels):
        for d in range(dims):
            g[TEMPORAL, level, d] = batch.temporal[i, level, d]
            g[SPATIAL, level, d] = batch.spatial[i, level, d]
            g[ORDER, level, d] = batch.order[i, level, d]
            parallel = batch.spatial_order[i, level, d]
            g[SPATIAL_ORDER, level, d] = parallel
            g[AXIS, level, parallel] = X if d < batch.spatial_split[i, level] else Y
        for t in range(batch.keep.shape[2]):
            g[KEEP, level, t] = batch.keep[i, level, t]


@kernel
def write_genome(g, rules, batch, i):  # type: ignore[no-untyped-def]
    """Fills row i of a batch; spatial loops are sorted by mesh axis, on each their order is kept or prescribed."""
    levels, dims = batch.temporal.shape[1:]
    for level in range(levels):
        filled = 0
        for axis in (X, Y):
            for position in range(dims):
                d = g[SPATIAL_ORDER, level, position]
                if rules.parallelism and not rules.levels[FREE_ORDER, level, SPATIAL]:
                    d = rules.levels[SPATIAL_ORDER_KEY, level, position]
                if g[AXIS, level, d] == axis:
                    batch.spatial_order[i, level, filled] = d
                    filled += 1
            if axis == X:
                batch.spatial_split[i, level] = filled
        for d in range(dims):
            batch.temporal[i, level, d] = g[TEMPORAL, level, d]
            batch.spatial[i, level, d] = g[SPATIAL, level, d]
            batch.order[i, level, d] = g[ORDER, level, d]
        for t in range(batch.keep.shape[2]):
            batch.keep[i, level, t] = g[KEEP, level, t] != 0


@kernel
def cross(g, mate, rules, item, state):  # type: ignore[no-untyped-def]
    """Takes one thing over from another genome: tiles of some dims, all parallelism, all orders or all keep bits."""
    dims = len(rules.primes)
    # One dim, as in GAMMA, or each dim by the toss of a coin.
    only = below(state, dims) if below(state, 2) == 0 else -1
    for d in range(dims):
        taken = d == only or (only < 0 and below(state, 2) == 0)
        for level in range(g.shape[1]):
            if item == TILES and taken:
                g[TEMPORAL, level, d] = mate[TEMPORAL, level, d]
                g[SPATIAL, level, d] = mate[SPATIAL, level, d]
                g[AXIS, level, d] = mate[AXIS, level, d]
            elif item == PARALLELISM:
                if rules.levels[FREE_SPATIAL, level, d] and rules.levels[FREE_TEMPORAL, level, d]:
                    tile = g[TEMPORAL, level, d] * g[SPATIAL, level, d]
                    set_tile(g, rules, level, d, tile, mate[SPATIAL, level, d])
                    g[AXIS, level, d] = mate[AXIS, level, d]
            elif item == ORDERS:
                for kind in (TEMPORAL, SPATIAL):
                    if rules.levels[FREE_ORDER, level, kind]:
                        g[ORDER + kind, level, d] = mate[ORDER + kind, level, d]
    if item == BYPASS:
        for level in range(g.shape[1]):
            for t in range(rules.relevant.shape[1]):
                g[KEEP, level, t] = mate[KEEP, level, t]


@kernel
def mix(h, value):  # type: ignore[no-untyped-def]
    """The hash h with one more number mixed in."""
    h = (h ^ np.uint64(value)) * np.uint64(0x9E3779B97F4A7C15)
    return h ^ (h >> np.uint64(29))


@kernel
def fingerprint(g, dims, tensors):  # type: ignore[no-untyped-def]
    """A hash of what distinguishes a mapping: its loops of bound above 1, in order, and its keep bits."""
    h = np.uint64(0xA0761D6478BD642F)
    for level in range(g.shape[1]):
        for position in range(dims):
            d = g[ORDER, level, position]
            if g[TEMPORAL, level, d] > 1:
                h = mix(h, g[TEMPORAL, level, d] * 256 + d * 4)
        for axis in (X, Y):
            for position in range(dims):
                d = g[SPATIAL_ORDER, level, position]
                if g[SPATIAL, level, d] > 1 and g[AXIS, level, d] == axis:
                    h = mix(h, g[SPATIAL, level, d] * 256 + d * 4 + 1 + axis)
        kept = 1
        for t in range(tensors):
            kept = kept * 2 + g[KEEP, level, t]
        h = mix(h, kept * 4 + 3)
    return h | np.uint64(1)


@kernel
def remember(seen, h):  # type: ignore[no-untyped-def]
    """Adds a fingerprint to a hash table (0: empty; entry 0 counts); returns whether it was new.

    The table forgets everything when it is half full.
    """
    size = len(seen) - 1
    position = 1 + np.int64(h >> np.uint64(1)) % size
    while seen[position] != 0:
        if seen[position] == h:
            return False
        position = 1 + position % size
    if 2 * np.int64(seen[0]) > size:
        for entry in range(len(seen)):
            seen[entry] = 0
    seen[position] = h
    seen[0] += np.uint64(1)
    return True


@kernel
def breed(  # type: ignore[no-untyped-def]
    parent_arrays,
    child_arrays,
    rules,
    items,
    table,
    crossover,
    persistence,
    attempts,
    seen,
    state,
    genomes,
    extents,
    words,
):
    """Fills a batch with legal children of the parents.

    Args:
        parent_arrays: the six arrays of m legal mappings.
        child_arrays: the six arrays of n mappings, overwritten.
        rules: what may change.
        items: int64[k], what crossover may take over: TILES, PARALLELISM, ORDERS, BYPASS.
        table: from :func:`mapgym.mapping.legality_kernels.pack_rules`.
        crossover: probability of crossover.
        persistence: probability of one more mutation after each one. A child that did not cross has at least one.
        attempts: how often a child may be made that is illegal or was made before. The last one is taken if it is
            legal; if it is not, a copy of a parent takes its place.
        seen: uint64 hash table of fingerprints; see :func:`remember`.
        state: uint64[1], random state.
        genomes: int64[2, 6, level, dim or tensor], working memory.
        extents, words: float64[level, dim] and float64[level], working memory.
    """
    parents = Maps(*parent_arrays)
    children = Maps(*child_arrays)
    count, dims, tensors = len(parents.temporal), parents.temporal.shape[2], parents.keep.shape[2]
    g, mate = genomes[0], genomes[1]
    for i in range(len(children.temporal)):
        for attempt in range(attempts + 1):
            read_genome(parents, below(state, count), g)
            remember(seen, fingerprint(g, dims, tensors))
            if attempt < attempts:
                crossed = len(items) > 0 and unit(state) < crossover
                if crossed:
                    read_genome(parents, below(state, count), mate)
                    cross(g, mate, rules, items[below(state, len(items))], state)
                owed = not crossed
                while owed or unit(state) < persistence:
                    mutate(g, rules, state)
                    owed = False
            fill_words(g, table, extents, words)
            legal = mend(g, rules, table, extents, words, state) >= 0
            if attempt == attempts or (
                legal and (remember(seen, fingerprint(g, dims, tensors)) or attempt == attempts - 1)
            ):
                break
        write_genome(g, rules, children, i)
