"""Compiled random walk over the points of a map space; it can be left and taken up again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.search.pruned.points_kernels import (
    DrawTables,
    Point,
    PointTables,
    bypass_variants,
    count_loops,
    draw_factors,
    permuted_loops,
    point_status,
    refused_draws,
    write_factors,
    write_kept,
    write_orders,
    write_places,
)
from mapgym.compilation import inlined_kernel, kernel
from mapgym.compilation.number_kernels import factorial
from mapgym.compilation.random_kernels import State, next_below, next_random
from mapgym.mapping.canonical_kernels import copy_mapping
from mapgym.mapping.legality_kernels import LEGAL, LEVEL_FANOUT, MAC_FANOUT, MESH_FANOUT
from mapgym.mapping.maps import Arrays, Maps

VISITS, SPLIT, KEPT, SEEN, INVALID = range(5)
"""State of the random walk: permutations left, index of the split, of the bypass variant, whether the present
permutation and split had a legal variant, and consecutive points without one."""


@kernel
def _draw_rank(generator: State, n: int) -> int:
    """A random integer in 0..n-1, for n up to 20!."""
    if n < 2**31:
        return next_below(generator, n)
    # The largest multiple of n that fits: what is drawn beyond it would favour small ranks.
    ranks = np.uint64(n)
    end = ~np.uint64(0) - ~np.uint64(0) % ranks
    while True:
        drawn = next_random(generator)
        if drawn < end:
            return int(np.int64(drawn % ranks))


@kernel
def _draw_orders(tables: PointTables, point: Point, current: Maps, generator: State) -> None:
    """Draws a permutation of the loops of each level, and writes those of the temporal loops."""
    for level in range(current.temporal.shape[1]):
        point.order_ranks[level] = point.drawn_ranks[level] = 0
        if tables.order_free[level]:
            point.order_ranks[level] = _draw_rank(generator, factorial(count_loops(current.temporal, 0, level)))
        if tables.spatial_order_free[level] or tables.side_free[level]:
            point.drawn_ranks[level] = _draw_rank(generator, factorial(count_loops(current.spatial, 0, level)))
    write_orders(tables, point, current, 0)


@kernel
def begin_visits(
    tables: PointTables, point: Point, current: Maps, walk: NDArray[np.int64], most: int, generator: State
) -> None:
    """Begins to visit the factors in current, with as many permutations as they have, at most so many."""
    temporal, spatial = current.temporal, current.spatial
    size = 1.0
    for level in range(temporal.shape[1]):
        if size >= most:
            break
        if tables.order_free[level]:
            size *= factorial(count_loops(temporal, 0, level))
        if tables.spatial_order_free[level] or tables.side_free[level]:
            size *= factorial(count_loops(spatial, 0, level))
    walk[VISITS] = most if most < size else np.int64(size)
    walk[SPLIT] = walk[KEPT] = 0
    _draw_orders(tables, point, current, generator)


@inlined_kernel
def _split(tables: PointTables, point: Point, current: Maps, split: int) -> bool:
    """Puts the first loops of each drawn permutation on X and the others on Y; returns whether there is such a split.

    Where the order of spatial loops is not searched, the permutation serves the choice of the mesh sides only.
    """
    spatial = current.spatial
    for level in range(spatial.shape[1]):
        point.place_ranks[level] = point.drawn_ranks[level] if tables.spatial_order_free[level] else 0
        point.place_masks[level] = 0
        if not tables.side_free[level]:
            continue
        key = tables.spatial_order_key
        count = permuted_loops(spatial, 0, level, key, point.drawn_ranks[level], point.sequence)
        on_x = split % (count + 1)
        split //= count + 1
        for position in range(on_x, count):
            bit = position
            if not tables.spatial_order_free[level]:
                bit = k = 0
                while key[level, k] != point.sequence[position]:
                    bit += spatial[0, level, key[level, k]] > 1
                    k += 1
            point.place_masks[level] |= np.int64(1) << bit
    return split == 0


@kernel
def random_walk(
    tables: PointTables,
    draws: DrawTables,
    point: Point,
    point_arrays: Arrays,
    walk: NDArray[np.int64],
    generator: State,
    visits: int,
    timeout: int,
    arrays: Arrays,
    is_variant: NDArray[np.bool_],
) -> int:
    """Fills a batch with the legal mappings of points drawn at random.

    Factors are drawn until they have a legal mapping; they are visited with some permutations, each of these with all
    splits, each of these with all bypass variants. Too much parallelism condemns all bypass variants, and a permutation
    and split without a legal variant condemn the factors.

    Args:
        tables, draws, point: of the space; the point is where the walk is.
        point_arrays: arrays of a batch of one, the mapping of the point.
        walk: int64[5], see the module.
        generator: uint64[1].
        visits: most permutations for each factorisation.
        timeout: consecutive points without a legal mapping after which it returns.
        arrays: arrays of the batch to fill.
        is_variant: bool[n], receives whether a mapping differs from the one before it in bypass only.

    Returns:
        the number of mappings; fewer than there is room for if it timed out.
    """
    current = Maps(*point_arrays)
    maps = Maps(*arrays)
    count = 0
    variants = bypass_variants(tables)
    while count < len(is_variant):
        if walk[INVALID] >= timeout:
            return count
        if walk[VISITS] == 0:
            walk[INVALID] += refused_draws(draws.share, generator)
            if walk[INVALID] >= timeout:
                return count
            if not draw_factors(tables, draws, point, generator):
                walk[INVALID] += 1
                continue
            write_factors(tables, point, current, 0)
            begin_visits(tables, point, current, walk, visits, generator)
        if walk[KEPT] == 0:
            walk[SEEN] = 0
            if not _split(tables, point, current, walk[SPLIT]):
                walk[VISITS] -= 1
                walk[SPLIT] = 0
                _draw_orders(tables, point, current, generator)
                continue
            write_places(tables, point, current, 0)
        point.keep_bits[0] = walk[KEPT]
        write_kept(tables, point, current, 0)
        kind = point_status(tables, point, current, 0) >> 8
        walk[KEPT] += 1
        if kind == LEGAL:
            copy_mapping(0, current, count, maps)
            is_variant[count] = walk[SEEN] > 0
            count += 1
            walk[SEEN] = 1
            walk[INVALID] = 0
        is_too_parallel = kind in (MAC_FANOUT, MESH_FANOUT, LEVEL_FANOUT)
        if walk[KEPT] == variants or is_too_parallel:
            walk[KEPT] = 0
            walk[SPLIT] += 1
            if walk[SEEN] == 0:
                walk[INVALID] += 1
                if not is_too_parallel:
                    walk[VISITS] = 0
    return count
