"""Compiled parts of all operators: what fits a mesh, where a prime may go, and genomes from and to mappings."""

from __future__ import annotations

import numpy as np

from mapgym.agents.search.gamma.genome import KEEP, ORDER, SIDE, SPATIAL, SPATIAL_ORDER, TEMPORAL, Genome, X, Y
from mapgym.agents.search.gamma.rules import FREE_ORDER, LIMIT, REACH, SPATIAL_ORDER_KEY, Rules
from mapgym.compilation import kernel
from mapgym.compilation.hash_kernels import mix
from mapgym.compilation.random_kernels import State, next_random
from mapgym.mapping.maps import Maps


@kernel
def below(state: State, n: int) -> int:
    """A random whole number from 0 to n - 1, also for large n; state is uint64[1] (bias below n / 2**63)."""
    return int(np.int64(next_random(state) >> np.uint64(1)) % np.int64(n))


@kernel
def unit(state: State) -> float:
    """A random number in [0, 1)."""
    return below(state, 1 << 53) / float(1 << 53)


@kernel
def used(g: Genome, level: int, side: int, dims: int) -> int:
    """Product of the spatial factors of a level on a mesh side."""
    product = 1
    for d in range(dims):
        if g[SIDE, level, d] == side:
            product *= g[SPATIAL, level, d]
    return product


@kernel
def parallelism(g: Genome, dims: int) -> int:
    """The MACs that a genome uses."""
    product = 1
    for level in range(g.shape[1]):
        for d in range(dims):
            product *= g[SPATIAL, level, d]
    return product


@kernel
def has_room(g: Genome, rules: Rules, level: int, side: int, growth: int) -> bool:
    """Whether the spatial factors of a level may grow by a factor on a mesh side."""
    dims = len(rules.primes)
    if used(g, level, side, dims) * growth > rules.levels[LIMIT, level, side]:
        return False
    product = growth
    for outer in range(g.shape[1] - 1, -1, -1):
        product *= used(g, outer, side, dims)
        if outer <= level and product > rules.levels[REACH, outer, side]:
            return False
    return True


@kernel
def random_prime(rules: Rules, d: int, factor: int, state: State) -> int:
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
def may_enter(g: Genome, rules: Rules, level: int, d: int, kind: int, prime: int, state: State) -> bool:
    """Whether a factor may grow by a prime; a dim that becomes parallel is put on a mesh side that has room for it."""
    if not rules.levels[kind, level, d]:
        return False
    if kind == TEMPORAL:
        return True
    first = below(state, 2)
    for turn in range(2):
        side = first ^ turn
        if (g[SPATIAL, level, d] == 1 or g[SIDE, level, d] == side) and has_room(g, rules, level, side, prime):
            g[SIDE, level, d] = side
            return True
    return False


@kernel
def read_genome(batch: Maps, i: int, g: Genome) -> None:
    """Fills a genome from row i of a batch."""
    levels, dims = batch.temporal.shape[1:]
    for level in range(levels):
        for d in range(dims):
            g[TEMPORAL, level, d] = batch.temporal[i, level, d]
            g[SPATIAL, level, d] = batch.spatial[i, level, d]
            g[ORDER, level, d] = batch.order[i, level, d]
            parallel = batch.spatial_order[i, level, d]
            g[SPATIAL_ORDER, level, d] = parallel
            g[SIDE, level, parallel] = X if d < batch.spatial_split[i, level] else Y
        for t in range(batch.keep.shape[2]):
            g[KEEP, level, t] = batch.keep[i, level, t]


@kernel
def write_genome(g: Genome, rules: Rules, batch: Maps, i: int) -> None:
    """Fills row i of a batch; spatial loops are sorted by mesh side, on each their order is kept or prescribed."""
    levels, dims = batch.temporal.shape[1:]
    for level in range(levels):
        filled = 0
        for side in (X, Y):
            for position in range(dims):
                d = g[SPATIAL_ORDER, level, position]
                if rules.parallelism and not rules.levels[FREE_ORDER, level, SPATIAL]:
                    d = rules.levels[SPATIAL_ORDER_KEY, level, position]
                if g[SIDE, level, d] == side:
                    batch.spatial_order[i, level, filled] = d
                    filled += 1
            if side == X:
                batch.spatial_split[i, level] = filled
        for d in range(dims):
            batch.temporal[i, level, d] = g[TEMPORAL, level, d]
            batch.spatial[i, level, d] = g[SPATIAL, level, d]
            batch.order[i, level, d] = g[ORDER, level, d]
        for t in range(batch.keep.shape[2]):
            batch.keep[i, level, t] = g[KEEP, level, t] != 0


@kernel
def genome_hash(g: Genome, dims: int, tensors: int) -> np.uint64:
    """A hash of what distinguishes a mapping: its loops of bound above 1, in order, and its keep bits; odd."""
    h = np.uint64(0xA0761D6478BD642F)
    for level in range(g.shape[1]):
        for position in range(dims):
            d = g[ORDER, level, position]
            if g[TEMPORAL, level, d] > 1:
                h = mix(h, g[TEMPORAL, level, d] * 256 + d * 4)
        for side in (X, Y):
            for position in range(dims):
                d = g[SPATIAL_ORDER, level, position]
                if g[SPATIAL, level, d] > 1 and g[SIDE, level, d] == side:
                    h = mix(h, g[SPATIAL, level, d] * 256 + d * 4 + 1 + side)
        kept = 1
        for t in range(tensors):
            kept = kept * 2 + g[KEEP, level, t]
        h = mix(h, kept * 4 + 3)
    return h | np.uint64(1)
