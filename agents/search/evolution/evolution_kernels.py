"""Compiled making of children for the evolutionary search: crossover, mutation, repair, and no child twice."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.search.evolution.operator_kernels import (
    fill_array,
    promote_loop,
    refill_array,
    refill_level,
    take_outside,
    trade_dims,
    trade_tensors,
)
from mapgym.agents.search.gamma.genome import KEEP, ORDER, SIDE, SPATIAL, TEMPORAL, Genome, Memory, MemoryArrays
from mapgym.agents.search.gamma.genome_kernels import below, genome_hash, parallelism, read_genome, unit, write_genome
from mapgym.agents.search.gamma.operator_kernels import (
    cross,
    exchange_primes,
    flip_keep,
    move_prime,
    retile_dim,
    swap_loops,
    toggle_parallelism,
)
from mapgym.agents.search.gamma.repair_kernels import Tiles, fill_words, repair
from mapgym.agents.search.gamma.rules import Rules
from mapgym.compilation import inlined_kernel, kernel
from mapgym.compilation.hash_kernels import mix, remember
from mapgym.compilation.random_kernels import State, choose
from mapgym.mapping.maps import Arrays, Maps

MOVE, EXCHANGE, TOGGLE, RETILE, TRADE, REFILL_LEVEL, REFILL_ARRAY, PROMOTE, SWAP, FLIP, TRADE_TENSORS = range(11)
"""The mutations, in the order of ``Breeding.weights``."""

# Seeds of hashes, far apart so that small numbers mixed in do not make two of them meet.
TEMPORAL_LOOP = np.uint64(0x9E6C63D0676A9A99)
SPATIAL_LOOP = np.uint64(0xC2B2AE3D27D4EB4F)
PRIME = np.uint64(0xA0761D6478BD642F)


# What a dim does to the tiles of tensors with windows.
MOVES_WINDOW, SLIDES = 1, 2


class Breeding(NamedTuple):
    """How children are made."""

    rules: Rules
    table: NDArray[np.int64]  # from mapgym.mapping.legality_kernels.pack_rules
    alike: NDArray[np.int64]  # [dim] the first dim that cannot be told apart by costs; empty where whole orders count
    windows: NDArray[np.int64]  # [dim] MOVES_WINDOW, SLIDES or 0: what it does to tensors with windows
    weights: NDArray[np.float64]  # [11] cumulative probabilities of the mutations
    items: NDArray[np.int64]  # [any] what crosses by itself: PARALLELISM, ORDERS, BYPASS; empty where tiles cross
    crossover: float  # probability of crossover
    persistence: float  # probability of one more mutation after each one
    fill: float  # probability that the array is filled after the mutations
    screening: float  # probability that a child is refused that uses much less of the array or of a buffer
    tournament: int  # how many parents are drawn for a child, of which the first in the batch is taken
    attempts: int  # how often a child may be made that is illegal, refused or known


@kernel
def _log(factor: int, primes: NDArray[np.int64]) -> np.uint64:
    """A number for a factor such that the number of a product is the sum (modulo 2**64) of the numbers."""
    total = np.uint64(0)
    for prime in primes:
        while prime > 1 and factor % prime == 0:
            factor //= prime
            total += mix(PRIME, prime)
    return total


@kernel
def cost_hash(g: Genome, breeding: Breeding) -> np.uint64:
    """A hash of what the cost depends on when neighbours exchange no words and nothing is sparse.

    Above each tile, the loops that leave a tensor in place and those that let a window slide count with their place,
    the others only as a set; and dims that occur in the same tensors, each in a rank of its own, count as one. Left out
    is a rare case: a loop further outside that happens to move a tile exactly as the innermost one does.
    """
    rules, dims, tensors = breeding.rules, len(breeding.rules.primes), breeding.rules.relevant.shape[1]
    h = np.uint64(0x9E3779B97F4A7C15)
    for level in range(g.shape[1]):
        total = np.uint64(0)
        # The tensors that no loop so far has moved; below level 0 are the MACs, which hold nothing.
        held = (1 << tensors) - 1 if level > 0 else 0
        # Of the first two loops that move a tensor with a window, how many slide along it: the second one can move a
        # tile exactly as the first one does. Loops inside that leave the tile in place change nothing about that.
        sliding = 0
        moving = 0
        for position in range(dims):
            d = g[ORDER, level, position]
            if g[TEMPORAL, level, d] == 1:
                continue
            for t in range(tensors):
                if rules.relevant[d, t]:
                    held &= ~(1 << t)
            place = held * 3
            if level > 0 and breeding.windows[d] != 0:
                if moving == sliding and moving < 2 and breeding.windows[d] == SLIDES:
                    sliding += 1
                    place += sliding
                moving += 1
            key = mix(mix(TEMPORAL_LOOP, breeding.alike[d]), place)
            total += key * _log(g[TEMPORAL, level, d], rules.primes[d])
        for d in range(dims):
            if g[SPATIAL, level, d] > 1:
                key = mix(mix(SPATIAL_LOOP, breeding.alike[d]), g[SIDE, level, d])
                total += key * _log(g[SPATIAL, level, d], rules.primes[d])
        kept = 1
        for t in range(tensors):
            kept = kept * 2 + g[KEEP, level, t]
        h = mix(mix(h, total), kept)
    return h | np.uint64(1)


@inlined_kernel
def is_new(g: Genome, breeding: Breeding, seen: NDArray[np.uint64]) -> bool:
    """Whether no mapping like this one was remembered; remembers it."""
    if len(breeding.alike):
        return remember(seen, cost_hash(g, breeding))
    return remember(seen, genome_hash(g, len(breeding.rules.primes), breeding.rules.relevant.shape[1]))


@inlined_kernel
def _mutate(g: Genome, breeding: Breeding, tiles: Tiles, state: State) -> None:
    """Applies one random mutation."""
    rules = breeding.rules
    chosen = choose(breeding.weights, unit(state))
    if chosen == MOVE:
        move_prime(g, rules, state)
    elif chosen == EXCHANGE:
        exchange_primes(g, rules, state)
    elif chosen == TOGGLE:
        toggle_parallelism(g, rules, state)
    elif chosen == RETILE:
        retile_dim(g, rules, state)
    elif chosen == TRADE:
        trade_dims(g, rules, state)
    elif chosen == REFILL_LEVEL:
        refill_level(g, rules, tiles, state)
    elif chosen == REFILL_ARRAY:
        refill_array(g, rules, tiles, state)
    elif chosen == PROMOTE:
        promote_loop(g, rules, state)
    elif chosen == SWAP:
        swap_loops(g, rules, state)
    elif chosen == FLIP:
        flip_keep(g, rules, state)
    else:
        trade_tensors(g, rules, state)


@inlined_kernel
def _idles(g: Genome, dims: int, macs: int) -> bool:
    """Whether a child uses less than three quarters of the MACs of its parent."""
    return 4 * parallelism(g, dims) < 3 * macs


@kernel
def _empties(g: Genome, child_words: NDArray[np.float64], keep: NDArray[np.bool_], words: NDArray[np.float64]) -> bool:
    """Whether a child uses less than three quarters of the words of its parent in a buffer that keeps the same tensors.

    Given are the child's genome and words at each level, and the parent's kept tensors (bool[level, tensor]) and words.
    """
    for level in range(len(words)):
        if 4 * child_words[level] < 3 * words[level]:
            same = True
            for t in range(keep.shape[1]):
                same &= keep[level, t] == g[KEEP, level, t]
            if same:
                return True
    return False


@kernel
def make_children(
    parent_arrays: Arrays, child_arrays: Arrays, breeding: Breeding, memory: MemoryArrays, held: NDArray[np.float64]
) -> None:
    """Fills a batch with legal children of the parents.

    Args:
        parent_arrays: of m legal mappings, best first where tournaments are held.
        child_arrays: of n mappings, overwritten.
        breeding: how. A child is made anew while it is illegal, refused or known; the last attempt but one is taken
            even if it is refused or known, and instead of an illegal one a copy of a parent.
        memory: the fields of :class:`mapgym.agents.search.gamma.genome.Memory`.
        held: float64[m, level], filled with the words that the parents keep.
    """
    parents, children = Maps(*parent_arrays), Maps(*child_arrays)
    seen, state, g, mate, extents, words = Memory(*memory)
    rules, dims, tiles = breeding.rules, len(breeding.rules.primes), Tiles(breeding.table, extents, words)
    keep, last = parents.keep, breeding.attempts
    for k in range(len(parents.temporal)):
        read_genome(parents, k, g)
        fill_words(g, Tiles(breeding.table, extents, held[k]))
    for i in range(len(children.temporal)):
        for attempt in range(last + 1):
            parent = len(parents.temporal)
            for _ in range(breeding.tournament):
                parent = min(parent, below(state, len(parents.temporal)))
            read_genome(parents, parent, g)
            if attempt == last:
                break
            macs = parallelism(g, dims)
            crossed = unit(state) < breeding.crossover
            if crossed:
                read_genome(parents, below(state, len(parents.temporal)), mate)
                if len(breeding.items):
                    cross(g, mate, rules, breeding.items[below(state, len(breeding.items))], state)
                else:
                    take_outside(g, mate, rules, state)
            owed = not crossed
            while owed or unit(state) < breeding.persistence:
                _mutate(g, breeding, tiles, state)
                owed = False
            if unit(state) < breeding.fill:
                for level in range(g.shape[1]):
                    fill_array(g, rules, tiles, level, state)
            # The last attempt but one is taken even so.
            screened = attempt < last - 1 and unit(state) < breeding.screening
            # Repair takes parallelism and tiles away: what is wasteful before is so afterwards.
            if screened and _idles(g, dims, macs):
                continue
            fill_words(g, tiles)
            if screened and _empties(g, words, keep[parent], held[parent]):
                continue
            steps = repair(g, rules, tiles, state)
            if steps < 0:
                continue
            if screened and steps > 0 and (_idles(g, dims, macs) or _empties(g, words, keep[parent], held[parent])):
                continue
            if is_new(g, breeding, seen) or attempt == last - 1:
                break
        write_genome(g, rules, children, i)


@kernel
def dataflow(batch: Maps, i: int, relevant: NDArray[np.bool_]) -> np.uint64:
    """A hash of which tensors each level of mapping i keeps, and which of them stay there while the next tile comes.

    The latter are those that the innermost loop outside a tile does not move: weight-stationary mappings differ in it
    from output-stationary ones. ``relevant`` is bool[dim, tensor].
    """
    temporal, order, keep = batch.temporal, batch.order, batch.keep
    levels, dims = temporal.shape[1:]
    h = np.uint64(0x9E3779B97F4A7C15)
    stay = 0
    for level in range(levels - 1, -1, -1):
        kept = 0
        for t in range(keep.shape[2]):
            kept = kept * 2 + keep[i, level, t]
        # Inside level 0 are the MACs, which hold nothing.
        if level > 0:
            for position in range(dims):
                d = order[i, level, position]
                if temporal[i, level, d] > 1:
                    stay = 0
                    for t in range(keep.shape[2]):
                        stay = stay * 2 + (not relevant[d, t])
                    break
        h = mix(mix(h, kept), stay)
    return h


@kernel
def select_survivors(
    arrays: Arrays,
    best: NDArray[np.int64],
    relevant: NDArray[np.bool_],
    most: int,
    chosen: NDArray[np.int64],
    flows: NDArray[np.uint64],
) -> int:
    """Chooses the first mappings, of those of the same dataflow only so many.

    Args:
        arrays: of the mappings.
        best: int64[n], indices of distinct ones, the best one first.
        relevant: bool[dim, tensor], which dims a tensor has.
        most: how many of the same dataflow.
        chosen: int64[m], filled with the indices of the chosen ones.
        flows: uint64[m], working memory.

    Returns:
        How many were chosen, at most m.
    """
    batch = Maps(*arrays)
    count = 0
    for i in best:
        if count == len(chosen):
            break
        flows[count] = dataflow(batch, i, relevant)
        alike = 0
        for k in range(count):
            alike += flows[k] == flows[count]
        if alike < most:
            chosen[count] = i
            count += 1
    return count
