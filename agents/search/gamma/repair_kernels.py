"""Compiled repair of genomes: the array's parallelism, the words of the tiles, and how both are made to fit.

Operators keep the products of the factors, the orders and what the rules fix; what they may break is repaired here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.search.gamma.genome import KEEP, SIDE, SPATIAL, TEMPORAL, Genome, X, Y
from mapgym.agents.search.gamma.genome_kernels import below, has_room, parallelism, random_prime, used
from mapgym.agents.search.gamma.rules import FREE_SPATIAL, FREE_TEMPORAL, LIMIT, REACH, Rules
from mapgym.compilation import inlined_kernel, kernel
from mapgym.compilation.random_kernels import State
from mapgym.mapping.legality_kernels import (
    TENSORS,
    UNLIMITED,
    box_words,
    capacity_words,
    first_tensor,
    has_compressed_tiles,
    held_words,
)


@kernel
def _fits_mesh(g: Genome, rules: Rules) -> bool:
    """Whether every level has room for its spatial factors: has_room for all of them and both axes, in one pass."""
    total_x, total_y = 1, 1
    for level in range(g.shape[1] - 1, -1, -1):
        here_x, here_y = 1, 1
        for d in range(len(rules.primes)):
            if g[SIDE, level, d] == X:
                here_x *= g[SPATIAL, level, d]
            else:
                here_y *= g[SPATIAL, level, d]
        total_x *= here_x
        total_y *= here_y
        if here_x > rules.levels[LIMIT, level, X] or here_y > rules.levels[LIMIT, level, Y]:
            return False
        if total_x > rules.levels[REACH, level, X] or total_y > rules.levels[REACH, level, Y]:
            return False
    return True


class Tiles(NamedTuple):
    """The tiles of a genome, and the rules that they are measured by."""

    table: NDArray[np.int64]  # from mapgym.mapping.legality_kernels.pack_rules
    extents: NDArray[np.float64]  # [level, dim]
    words: NDArray[np.float64]  # [level] that are kept, as if nothing were compressed; 0 at a level without limits


@kernel
def cover(g: Genome, tiles: Tiles, level: int) -> None:
    """Sets the extents of a level's tile, given those of the level inside it."""
    extents = tiles.extents
    for d in range(extents.shape[1]):
        inside = extents[level - 1, d] if level > 0 else 1.0
        extents[level, d] = inside * g[TEMPORAL, level, d] * g[SPATIAL, level, d]


@kernel
def tile_words(g: Genome, tiles: Tiles, level: int, compressed: bool) -> float:
    """Words of the tiles that a level keeps, given its extents; if asked for, compressed as the level stores them."""
    table = tiles.table
    cursor = first_tensor(table)
    total = 0.0
    for t in range(table[TENSORS]):
        words, cursor = box_words(table, cursor, tiles.extents, level)
        if g[KEEP, level, t]:
            total += held_words(table, level, t, int(words), tiles.extents) if compressed else words
    return total


@kernel
def fill_words(g: Genome, tiles: Tiles) -> None:
    """Sets the extents and the words of all levels."""
    for level in range(len(tiles.words)):
        cover(g, tiles, level)
        is_limited = capacity_words(tiles.table, level) != UNLIMITED
        tiles.words[level] = tile_words(g, tiles, level, False) if is_limited else 0.0


@kernel
def _full_level(g: Genome, tiles: Tiles) -> int:
    """The innermost level whose kept tiles exceed its capacity, -1 if all fit; the words are those of the genome."""
    for level in range(len(tiles.words)):
        capacity = capacity_words(tiles.table, level)
        # What is compressed takes no more words than what is not.
        if tiles.words[level] > capacity and (
            not has_compressed_tiles(tiles.table) or tile_words(g, tiles, level, True) > capacity
        ):
            return level
    return -1


@kernel
def _shrink(g: Genome, rules: Rules, level: int, side: int, state: State) -> bool:
    """Makes room on a mesh side of a level; returns whether anything could be done.

    A dim on X goes to Y if it fits there; otherwise a random prime of a spatial factor becomes temporal.
    """
    dims = len(rules.primes)
    first = below(state, dims)
    if side == X:
        room = rules.levels[LIMIT, level, Y] // used(g, level, Y, dims)
        for d in range(dims):
            if g[SIDE, level, d] == X and 1 < g[SPATIAL, level, d] <= room and rules.levels[FREE_SPATIAL, level, d]:
                g[SIDE, level, d] = Y
                return True
    for step in range(dims):
        d = (first + step) % dims
        if g[SIDE, level, d] != side or not (
            rules.levels[FREE_SPATIAL, level, d] and rules.levels[FREE_TEMPORAL, level, d]
        ):
            continue
        prime = random_prime(rules, d, g[SPATIAL, level, d], state)
        if prime > 0:
            g[SPATIAL, level, d] //= prime
            g[TEMPORAL, level, d] *= prime
            return True
    return False


@kernel
def _move_outwards(g: Genome, rules: Rules, full: int, state: State) -> bool:
    """Moves a random prime that the tile of a full level covers to the time of a random outer level."""
    levels, dims = g.shape[1], len(rules.primes)
    first = below(state, dims)
    slots, outer = 2 * (full + 1), levels - 1 - full
    start, begin = below(state, slots), below(state, outer)
    for step in range(dims):
        d = (first + step) % dims
        held = False
        for t in range(rules.relevant.shape[1]):
            held |= g[KEEP, full, t] != 0 and rules.relevant[d, t]
        if not held:
            continue
        for turn in range(slots):
            level, kind = (start + turn) % slots // 2, (start + turn) % slots % 2
            if not rules.levels[kind, level, d] or g[kind, level, d] == 1:
                continue
            for hop in range(outer):
                to_level = full + 1 + (begin + hop) % outer
                if rules.levels[FREE_TEMPORAL, to_level, d]:
                    prime = random_prime(rules, d, g[kind, level, d], state)
                    g[kind, level, d] //= prime
                    g[TEMPORAL, to_level, d] *= prime
                    return True
    return False


@inlined_kernel
def repair(g: Genome, rules: Rules, tiles: Tiles, state: State) -> int:
    """Repairs parallelism, from the outermost level inwards, then capacities.

    Each step takes a prime out of the array or moves one outwards, so that the number of steps is bounded.

    Args:
        g: genome, whose products of factors, orders and tensors at the outermost level are right.
        rules: what may change.
        tiles: as :func:`fill_words` filled them for the genome; kept so.
        state: random state.

    Returns:
        How many steps it took, or -1 if the genome is still not legal.
    """
    steps = 0
    if not _fits_mesh(g, rules):
        for side in (X, Y):
            for level in range(g.shape[1] - 1, -1, -1):
                while not has_room(g, rules, level, side, 1) and _shrink(g, rules, level, side, state):
                    steps += 1
        if not _fits_mesh(g, rules):
            return -1
    full = _full_level(g, tiles)
    while full >= 0:
        if not rules.tile or not _move_outwards(g, rules, full, state):
            return -1
        steps += 1
        fill_words(g, tiles)
        full = _full_level(g, tiles)
    return steps if parallelism(g, len(rules.primes)) >= rules.least_parallelism else -1
