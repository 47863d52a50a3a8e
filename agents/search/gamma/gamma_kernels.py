"""Compiled making of children for the genetic search: crossover, mutation, repair, and no child twice."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.search.gamma.genome import Genome, Memory, MemoryArrays
from mapgym.agents.search.gamma.genome_kernels import below, genome_hash, read_genome, unit, write_genome
from mapgym.agents.search.gamma.operator_kernels import (
    cross,
    exchange_primes,
    flip_keep,
    move_prime,
    retile_dim,
    swap_levels,
    swap_loops,
    toggle_parallelism,
)
from mapgym.agents.search.gamma.repair_kernels import Tiles, fill_words, repair
from mapgym.agents.search.gamma.rules import Rules
from mapgym.compilation import inlined_kernel, kernel
from mapgym.compilation.hash_kernels import remember
from mapgym.compilation.random_kernels import State, choose
from mapgym.mapping.maps import Arrays, Maps

MOVE, EXCHANGE, TOGGLE, RETILE, LEVELS, SWAP, BYPASS = range(7)
"""The mutations, in the order of ``Breeding.weights``."""


class Breeding(NamedTuple):
    """How children are made."""

    rules: Rules
    table: NDArray[np.int64]  # from mapgym.mapping.legality_kernels.pack_rules
    items: NDArray[np.int64]  # [any] what crossover may take over: TILES, PARALLELISM, ORDERS, BYPASS
    weights: NDArray[np.float64]  # [7] cumulative probabilities of the mutations
    crossover: float  # probability of crossover
    persistence: float  # probability of one more mutation after each one; a child that did not cross has at least one
    attempts: int  # how often a child may be made that is illegal or was made before


@inlined_kernel
def mutate(g: Genome, rules: Rules, weights: NDArray[np.float64], state: State) -> None:
    """Applies one random mutation."""
    chosen = choose(weights, unit(state))
    if chosen == MOVE:
        move_prime(g, rules, state)
    elif chosen == EXCHANGE:
        exchange_primes(g, rules, state)
    elif chosen == TOGGLE:
        toggle_parallelism(g, rules, state)
    elif chosen == RETILE:
        retile_dim(g, rules, state)
    elif chosen == LEVELS:
        swap_levels(g, rules, state)
    elif chosen == SWAP:
        swap_loops(g, rules, state)
    else:
        flip_keep(g, rules, state)


@kernel
def breed(parent_arrays: Arrays, child_arrays: Arrays, breeding: Breeding, memory: MemoryArrays) -> None:
    """Fills a batch with legal children of the parents.

    Args:
        parent_arrays: of m legal mappings.
        child_arrays: of n mappings, overwritten.
        breeding: how. The last attempt at a child is taken if it is legal; if it is not, a copy of a parent takes its
            place.
        memory: the fields of :class:`mapgym.agents.search.gamma.genome.Memory`.
    """
    parents, children = Maps(*parent_arrays), Maps(*child_arrays)
    seen, state, g, mate, extents, words = Memory(*memory)
    rules, items, attempts = breeding.rules, breeding.items, breeding.attempts
    tiles = Tiles(breeding.table, extents, words)
    count, dims, tensors = len(parents.temporal), parents.temporal.shape[2], parents.keep.shape[2]
    for i in range(len(children.temporal)):
        for attempt in range(attempts + 1):
            read_genome(parents, below(state, count), g)
            remember(seen, genome_hash(g, dims, tensors))
            if attempt < attempts:
                crossed = len(items) > 0 and unit(state) < breeding.crossover
                if crossed:
                    read_genome(parents, below(state, count), mate)
                    cross(g, mate, rules, items[below(state, len(items))], state)
                owed = not crossed
                while owed or unit(state) < breeding.persistence:
                    mutate(g, rules, breeding.weights, state)
                    owed = False
            fill_words(g, tiles)
            legal = repair(g, rules, tiles, state) >= 0
            if attempt == attempts or (
                legal and (remember(seen, genome_hash(g, dims, tensors)) or attempt == attempts - 1)
            ):
                break
        write_genome(g, rules, children, i)
