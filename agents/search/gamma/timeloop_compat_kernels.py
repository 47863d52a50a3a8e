"""Compiled operators of the released GAMMA for Timeloop; see :mod:`mapgym.agents.search.gamma.timeloop_compat`.

A genome is an array int64[4, level, dim or tensor], whose planes are numbered below: the factor of each dim at each
level (all of it spatial or all of it temporal), the dims of the loops innermost first, which dims are parallel where,
and which tensors are kept. Products of the factors never change.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import inlined_kernel, kernel
from mapgym.compilation.random_kernels import State, choose, next_below, next_fraction
from mapgym.mapping.canonical_kernels import Sorting, normalise
from mapgym.mapping.maps import Arrays, Maps

PLANES = 4
FACTOR, ORDER, PARALLEL, KEEP = range(PLANES)

ORDER_PROBABILITY = 0.1
PARALLEL_PROBABILITY = 0.1
BYPASS_PROBABILITY = 0.5
LEVELS_PROBABILITY = 0.5
FIRST_CROSSOVER_PROBABILITY = 1.0


class CompatRules(NamedTuple):
    """What the operators may do in a map space."""

    temporal: NDArray[np.int64]  # [level, dim] fixed factors, 0 where the factor is searched
    spatial: NDArray[np.int64]
    capacity: NDArray[np.float64]  # [level] words
    fanout: NDArray[np.int64]  # [level, 2] on X and on Y
    side_free: NDArray[np.bool_]  # as in mapgym.mapspace.entries.SearchedEntries
    on_y: NDArray[np.bool_]
    keep_free: NDArray[np.bool_]  # [level, tensor]
    ranks: NDArray[np.int64]  # [tensor, rank, term] the dims that a rank adds up, -1 for none; no strides, as there
    primes: NDArray[np.int64]  # [dim, any] of what is searched of each dim, with repetition, padded with 0
    homes: NDArray[np.int64]  # [dim, level] the levels that they may be at, padded with -1
    dim_weights: NDArray[np.float64]  # [dim] cumulative probabilities of the dims that are spread anew
    parallel_dims: NDArray[np.int64]  # [any] dims that may be parallel
    crossed_dims: NDArray[np.int64]  # [any] dims whose tiles crossover exchanges
    spatial_levels: NDArray[np.int64]  # [any] levels with fan-out
    walk: NDArray[np.int64]  # [dim] the order in which the fan-out repair takes dims away
    tile: bool  # factors may move between levels
    bypass: bool  # kept tensors are searched


@kernel
def is_searched(rules: CompatRules, level: int, d: int) -> bool:
    """Whether any factor of a dim at a level is searched."""
    return rules.temporal[level, d] == 0 or rules.spatial[level, d] == 0


@kernel
def spread(g: NDArray[np.int64], rules: CompatRules, d: int, state: State) -> None:
    """Spreads the primes of a dim anew: each goes to any level with the same probability."""
    if not rules.tile:
        return
    count = 0
    while count < g.shape[1] and rules.homes[d, count] >= 0:
        g[FACTOR, rules.homes[d, count], d] = 1
        count += 1
    for k in range(rules.primes.shape[1]):
        if rules.primes[d, k] == 0:
            break
        g[FACTOR, rules.homes[d, next_below(state, count)], d] *= rules.primes[d, k]


@kernel
def shuffle(values: NDArray[np.int64], count: int, state: State) -> None:
    """Shuffles the first entries of an array."""
    for last in range(count - 1, 0, -1):
        other = next_below(state, last + 1)
        values[last], values[other] = values[other], values[last]


@kernel
def randomise(g: NDArray[np.int64], rules: CompatRules, scratch: NDArray[np.int64], state: State) -> None:
    """A random individual: primes, orders, non-empty sets of parallel dims and, if searched, bypass."""
    levels, dims = g.shape[1], len(rules.primes)
    for d in range(dims):
        spread(g, rules, d, state)
    for level in range(levels):
        shuffle(g[ORDER, level], dims, state)
        g[PARALLEL, level, :] = 0
    candidates = len(rules.parallel_dims)
    for position in range(len(rules.spatial_levels)):
        level = rules.spatial_levels[position]
        # As there, the outermost level begins without parallelism even if it has a fan-out.
        if level < levels - 1 and candidates > 0:
            for k in range(candidates):
                scratch[k] = rules.parallel_dims[k]
            shuffle(scratch, candidates, state)
            for k in range(1 + next_below(state, candidates)):
                g[PARALLEL, level, scratch[k]] = 1
    if rules.bypass:
        for level in range(levels - 1):
            for t in range(rules.keep_free.shape[1]):
                if rules.keep_free[level, t]:
                    g[KEEP, level, t] = next_below(state, 2)


@kernel
def mutate(g: NDArray[np.int64], rules: CompatRules, state: State) -> None:
    """All mutations of one individual, with the probabilities that take effect in the released code."""
    levels, dims, tensors = g.shape[1], len(rules.primes), rules.keep_free.shape[1]
    if next_fraction(state) < ORDER_PROBABILITY and dims > 1:
        level, a = next_below(state, levels), next_below(state, dims)
        b = (a + 1 + next_below(state, dims - 1)) % dims
        g[ORDER, level, a], g[ORDER, level, b] = g[ORDER, level, b], g[ORDER, level, a]
    if next_fraction(state) < PARALLEL_PROBABILITY and len(rules.spatial_levels) > 0:
        level = rules.spatial_levels[next_below(state, len(rules.spatial_levels))]
        members = 0
        for k in range(len(rules.parallel_dims)):
            members += g[PARALLEL, level, rules.parallel_dims[k]]
        removed = members > 0 and next_below(state, 2) == 0
        # A random one of the members (to remove) or of the others (to add); none if all are members already.
        left = next_below(state, members) if removed else next_below(state, max(1, len(rules.parallel_dims) - members))
        for k in range(len(rules.parallel_dims)):
            d = rules.parallel_dims[k]
            if (g[PARALLEL, level, d] == 1) == removed:
                if left == 0:
                    g[PARALLEL, level, d] = 0 if removed else 1
                left -= 1
    if rules.bypass and next_fraction(state) < BYPASS_PROBABILITY and levels > 1:
        level, t = next_below(state, levels - 1), next_below(state, tensors)
        if rules.keep_free[level, t]:
            g[KEEP, level, t] = 1 - g[KEEP, level, t]
    if next_fraction(state) < LEVELS_PROBABILITY and rules.tile and levels > 1:
        a = next_below(state, levels)
        b = (a + 1 + next_below(state, levels - 1)) % levels
        for d in range(dims):
            if is_searched(rules, a, d) and is_searched(rules, b, d):
                g[FACTOR, a, d], g[FACTOR, b, d] = g[FACTOR, b, d], g[FACTOR, a, d]
    spread(g, rules, _random_dim(rules, state), state)


@inlined_kernel
def _random_dim(rules: CompatRules, state: State) -> int:
    return choose(rules.dim_weights, next_fraction(state))


@kernel
def fits(g: NDArray[np.int64], rules: CompatRules, extents: NDArray[np.float64]) -> bool:
    """Whether the tiles fit all levels but the outermost, by the released code's count of words."""
    levels, dims = g.shape[1], len(rules.primes)
    for level in range(levels - 1):
        for d in range(dims):
            held = g[FACTOR, level, d] * max(1, rules.temporal[level, d]) * max(1, rules.spatial[level, d])
            extents[d] = held * (extents[d] if level > 0 else 1.0)
        words = 0.0
        for t in range(len(rules.ranks)):
            if g[KEEP, level, t]:
                tile = 1.0
                for r in range(rules.ranks.shape[1]):
                    length = 1.0
                    for term in range(rules.ranks.shape[2]):
                        if rules.ranks[t, r, term] >= 0:
                            length += extents[rules.ranks[t, r, term]] - 1.0
                    tile *= length
                words += tile
        if words > rules.capacity[level]:
            return False
    return True


@kernel
def _push_out(g: NDArray[np.int64], rules: CompatRules, level: int, d: int) -> None:
    """Moves a spatial factor to the time of the outermost level, or of its own level where it has to stay there."""
    target = level
    if rules.tile:
        for outer in range(level, g.shape[1]):
            if rules.temporal[outer, d] == 0:
                target = outer
    factor = g[FACTOR, level, d]
    g[FACTOR, level, d] = 1
    g[FACTOR, target, d] *= factor
    g[PARALLEL, target, d] = 0


@kernel
def _spatial(g: NDArray[np.int64], rules: CompatRules, level: int, d: int) -> int:
    """The spatial factor of a dim at a level."""
    if rules.spatial[level, d] > 0:
        return rules.spatial[level, d]
    if g[PARALLEL, level, d] == 1 or rules.temporal[level, d] > 0:
        return g[FACTOR, level, d]
    return 1


@kernel
def express(g: NDArray[np.int64], rules: CompatRules, sorting: Sorting, batch: Maps, i: int) -> None:
    """Repairs the fan-outs of a genome and writes it as mapping i of a batch.

    Dims are taken away, in a fixed order, until the rest fits the whole mesh of the level; those that are left are laid
    on X or else on Y, and what finds no room on either goes as well.
    """
    levels, dims = g.shape[1], len(rules.primes)
    for level in range(levels):
        product = np.int64(1)
        for d in range(dims):
            product *= _spatial(g, rules, level, d)
        for k in range(dims):
            d = rules.walk[k]
            if product > rules.fanout[level, 0] * rules.fanout[level, 1] and rules.spatial[level, d] == 0:
                product //= _spatial(g, rules, level, d)
                _push_out(g, rules, level, d)
                product *= _spatial(g, rules, level, d)
    for level in range(levels):
        on_y = np.int64(0)  # bit d: dim d lies on Y
        used_x, used_y = np.int64(1), np.int64(1)
        for d in range(dims):
            if rules.spatial[level, d] > 0 and rules.on_y[level, d]:
                on_y |= np.int64(1) << d
                used_y *= rules.spatial[level, d]
            elif rules.spatial[level, d] > 0:
                used_x *= rules.spatial[level, d]
        for k in range(dims):
            d = rules.walk[k]
            factor = _spatial(g, rules, level, d)
            if rules.spatial[level, d] > 0 or factor == 1:
                continue
            may_x = rules.side_free[level, d] or not rules.on_y[level, d]
            may_y = rules.side_free[level, d] or rules.on_y[level, d]
            if may_x and used_x * factor <= rules.fanout[level, 0]:
                used_x *= factor
            elif may_y and used_y * factor <= rules.fanout[level, 1]:
                used_y *= factor
                on_y |= np.int64(1) << d
            else:
                _push_out(g, rules, level, d)
        filled = 0
        for side in range(2):
            for position in range(dims):
                d = g[ORDER, level, position]
                if (on_y >> d) & 1 == side:
                    batch.spatial_order[i, level, filled] = d
                    filled += 1
            if side == 0:
                batch.spatial_split[i, level] = filled
    for level in range(levels):
        for d in range(dims):
            spatial = _spatial(g, rules, level, d)
            batch.spatial[i, level, d] = spatial
            temporal = rules.temporal[level, d]
            if temporal == 0:
                split = rules.spatial[level, d] == 0 and g[PARALLEL, level, d] == 1
                temporal = np.int64(1) if split else g[FACTOR, level, d]
            batch.temporal[i, level, d] = temporal
            batch.order[i, level, d] = g[ORDER, level, d]
        for t in range(rules.keep_free.shape[1]):
            batch.keep[i, level, t] = g[KEEP, level, t] == 1
    normalise(i, batch, sorting)


@kernel
def exchange(genomes: NDArray[np.int64], i: int, j: int, rules: CompatRules, state: State) -> None:
    """Crossover: two children exchange one of tiles (of one dim), orders, parallel dims and bypass, at all levels."""
    item = next_below(state, PLANES)
    only = rules.crossed_dims[next_below(state, len(rules.crossed_dims))] if item == FACTOR else -1
    for level in range(genomes.shape[2]):
        for column in range(genomes.shape[3]):
            if only < 0 or column == only:
                mine, other = genomes[i, item, level, column], genomes[j, item, level, column]
                genomes[i, item, level, column], genomes[j, item, level, column] = other, mine


@kernel
def _copy(source: NDArray[np.int64], i: int, target: NDArray[np.int64], j: int) -> None:
    for plane in range(source.shape[1]):
        for level in range(source.shape[2]):
            for column in range(source.shape[3]):
                target[j, plane, level, column] = source[i, plane, level, column]


@kernel
def breed(
    parents: NDArray[np.int64],
    children: NDArray[np.int64],
    fresh: int,
    crossover: float,
    repairs: int,
    rules: CompatRules,
    sorting: Sorting,
    arrays: Arrays,
    memory: tuple[NDArray[np.float64], NDArray[np.int64]],
    state: State,
) -> None:
    """Makes one generation: crossover in pairs, random individuals, mutation of all, repair.

    Args:
        parents: int64[m, PLANES, level, dim or tensor] genomes.
        children: int64[n, ...] overwritten with the new generation.
        fresh: how many of the children are random individuals; none of them if there is only one parent.
        crossover: probability that a pair exchanges something.
        repairs: how many dims may be spread anew until the tiles of a child fit.
        rules, sorting: of the map space.
        arrays: of n mappings, receive the children; some may be illegal.
        memory: float64[dim] and int64[dim], working memory.
        state: uint64[1], random state.
    """
    batch = Maps(*arrays)
    extents, scratch = memory
    n = len(children)
    if len(parents) == 1:
        fresh = 0
    for i in range(n):
        _copy(parents, next_below(state, len(parents)), children, i)
    for i in range(0, n - fresh - 1, 2):
        if len(parents) > 1 and next_fraction(state) < crossover:
            exchange(children, i, i + 1, rules, state)
    for i in range(n - fresh, n):
        randomise(children[i], rules, scratch, state)
    for i in range(n):
        mutate(children[i], rules, state)
        left = repairs
        while left > 0 and not fits(children[i], rules, extents):
            spread(children[i], rules, _random_dim(rules, state), state)
            left -= 1
        express(children[i], rules, sorting, batch, i)
