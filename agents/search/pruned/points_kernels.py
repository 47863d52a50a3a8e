"""Compiled walk over a map space as Timeloop's mapper sees it: factors, permutations, splits and bypass.

A point has four coordinates, each a row of digits:

- factors: for each prime of a searched product the rank of a composition of its exponent over the slots;
- orders: for each level the rank of a permutation of its loops above 1. Loops of bound 1 are left out, which is
  Timeloop's unit-factor pruning and makes every point a mapping in canonical form;
- places: for each level the mesh sides of its spatial loops above 1, and their order where it is searched;
- kept tensors: one bit each.

Working memory and the point itself are arrays of the caller's, so that a walk can be left and taken up again. Slots:
slot s is the temporal factor of level s, slot L + s its spatial factor.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.search.pruned.factor_kernels import (
    DrawTables,
    Point,
    PointTables,
    draw_factors,
    next_factors,
    refused_draws,
    write_factors,
)
from mapgym.compilation import inlined_kernel, kernel
from mapgym.compilation.number_kernels import factorial
from mapgym.compilation.random_kernels import State, next_below, next_random
from mapgym.mapping.canonical_kernels import copy_mapping
from mapgym.mapping.legality_kernels import LEGAL, LEVEL_FANOUT, MAC_FANOUT, MESH_FANOUT, legality_status
from mapgym.mapping.maps import Arrays, Maps

VISITS, SPLIT, KEPT, SEEN, INVALID = range(5)
"""State of the random walk: permutations left, index of the split, of the bypass variant, whether the present
permutation and split had a legal variant, and consecutive points without one."""

ENDED, LISTED, RULED_OUT, IS_NEW = range(4)
"""State of the complete walk: whether it is over, legal mappings so far, others, and whether the orders of the point
are at their beginning."""


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
def _loops(factors: NDArray[np.int32], i: int, level: int) -> int:
    """Number of loops above 1."""
    count = 0
    for d in range(factors.shape[2]):
        count += factors[i, level, d] > 1
    return count


@kernel
def _permuted_loops(
    factors: NDArray[np.int32], i: int, level: int, key: NDArray[np.int8], rank: int, sequence: NDArray[np.int64]
) -> int:
    """Fills sequence with the loops above 1 in the permutation of a rank (0: the order of the key), then the others."""
    dims = factors.shape[2]
    count = 0
    for position in range(dims):
        d = key[level, position]
        if factors[i, level, d] > 1:
            sequence[count] = d
            count += 1
    for position in range(count - 1):
        other = position + rank % (count - position)
        rank //= count - position
        chosen = sequence[other]
        for later in range(other, position, -1):
            sequence[later] = sequence[later - 1]
        sequence[position] = chosen
    end = count
    for d in range(dims):
        if factors[i, level, d] == 1:
            sequence[end] = d
            end += 1
    return count


@kernel
def write_places(tables: PointTables, point: Point, maps: Maps, i: int) -> bool:
    """Writes the spatial orders; returns False where loops on Y precede some on X in a permutation.

    The loops on X are written before those on Y in any case, so that such a permutation repeats another one.
    """
    spatial, spatial_order, spatial_split = maps.spatial, maps.spatial_order, maps.spatial_split
    levels, dims = spatial.shape[1], spatial.shape[2]
    is_canonical = True
    for level in range(levels):
        count = _permuted_loops(spatial, i, level, tables.spatial_order_key, point.place_ranks[level], point.sequence)
        end = 0
        for side in range(2):
            for position in range(count):
                d = point.sequence[position]
                on_y = np.int64(tables.on_y[level, d])
                if tables.axis_free[level]:
                    on_y = (point.place_masks[level] >> position) & 1
                if on_y == side:
                    is_canonical &= end == position or not tables.spatial_order_free[level]
                    spatial_order[i, level, end] = d
                    end += 1
            if side == 0:
                spatial_split[i, level] = end
        for position in range(count, dims):
            spatial_order[i, level, position] = point.sequence[position]
    return is_canonical


@kernel
def write_orders(tables: PointTables, point: Point, maps: Maps, i: int) -> None:
    """Writes the temporal orders."""
    order = maps.order
    for level in range(order.shape[1]):
        _permuted_loops(maps.temporal, i, level, tables.order_key, point.order_ranks[level], point.sequence)
        for position in range(order.shape[2]):
            order[i, level, position] = point.sequence[position]


@kernel
def write_kept(tables: PointTables, point: Point, maps: Maps, i: int) -> None:
    """Writes the kept tensors where they are searched; bit 0 keeps all of them."""
    keep = maps.keep
    bits = point.keep_bits[0]
    for level in range(keep.shape[1]):
        for t in range(keep.shape[2]):
            if tables.keep_free[level, t]:
                keep[i, level, t] = bits & 1 == 0
                bits >>= 1


@inlined_kernel
def _status(tables: PointTables, point: Point, maps: Maps, i: int) -> int:
    return legality_status(i, maps, tables.rules, point.extents, point.tile_words)


@kernel
def _bypass_variants(tables: PointTables) -> int:
    free = 0
    for level in range(tables.keep_free.shape[0]):
        for t in range(tables.keep_free.shape[1]):
            free += tables.keep_free[level, t]
    return 1 << free


@kernel
def _draw_orders(tables: PointTables, point: Point, current: Maps, generator: State) -> None:
    """Draws a permutation of the loops of each level, and writes those of the temporal loops."""
    for level in range(current.temporal.shape[1]):
        point.order_ranks[level] = point.drawn_ranks[level] = 0
        if tables.order_free[level]:
            point.order_ranks[level] = _draw_rank(generator, factorial(_loops(current.temporal, 0, level)))
        if tables.spatial_order_free[level] or tables.axis_free[level]:
            point.drawn_ranks[level] = _draw_rank(generator, factorial(_loops(current.spatial, 0, level)))
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
            size *= factorial(_loops(temporal, 0, level))
        if tables.spatial_order_free[level] or tables.axis_free[level]:
            size *= factorial(_loops(spatial, 0, level))
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
        if not tables.axis_free[level]:
            continue
        key = tables.spatial_order_key
        count = _permuted_loops(spatial, 0, level, key, point.drawn_ranks[level], point.sequence)
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
    variants = _bypass_variants(tables)
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
        kind = _status(tables, point, current, 0) >> 8
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


@inlined_kernel
def _orders_and_places(tables: PointTables, maps: Maps, i: int) -> tuple[int, int]:
    """In how many ways the loops can be ordered in time, and placed on the meshes."""
    orders, places = 1, 1
    for level in range(maps.temporal.shape[1]):
        if tables.order_free[level]:
            orders *= factorial(_loops(maps.temporal, i, level))
        loops = _loops(maps.spatial, i, level)
        if tables.axis_free[level]:
            # Orders times positions of the split, or a choice of mesh side for each loop.
            places *= factorial(loops + 1) if tables.spatial_order_free[level] else 1 << loops
        elif tables.spatial_order_free[level]:
            on_y = 0
            for d in range(maps.spatial.shape[2]):
                on_y += maps.spatial[i, level, d] > 1 and tables.on_y[level, d]
            places *= factorial(on_y) * factorial(loops - on_y)
    return orders, places


@inlined_kernel
def _next_orders(tables: PointTables, point: Point, maps: Maps, i: int) -> bool:
    """Steps to the next temporal orders; returns False, at the first ones again, after the last."""
    for level in range(maps.temporal.shape[1]):
        if tables.order_free[level]:
            point.order_ranks[level] += 1
            if point.order_ranks[level] < factorial(_loops(maps.temporal, i, level)):
                return True
            point.order_ranks[level] = 0
    return False


@inlined_kernel
def _next_places(tables: PointTables, point: Point, maps: Maps, i: int) -> bool:
    """Steps to the next places, some of which repeat others (see write_places); returns False as _next_orders does."""
    for level in range(maps.spatial.shape[1]):
        loops = _loops(maps.spatial, i, level)
        if tables.axis_free[level]:
            point.place_masks[level] += 1
            if point.place_masks[level] < np.int64(1) << loops:
                return True
            point.place_masks[level] = 0
        if tables.spatial_order_free[level]:
            point.place_ranks[level] += 1
            if point.place_ranks[level] < factorial(loops):
                return True
            point.place_ranks[level] = 0
    return False


@kernel
def complete_walk(
    tables: PointTables, point: Point, point_arrays: Arrays, walk: NDArray[np.int64], arrays: Arrays
) -> int:
    """Fills a batch with the next legal mappings, each of which comes up once in the whole walk.

    Args:
        tables, point, point_arrays: as for random_walk; a point of zeros begins.
        walk: int64[4], see the module; LISTED and RULED_OUT add up to the size of the space in the end.
        arrays: arrays of the batch to fill.

    Returns:
        the number of mappings; fewer than there is room for if the walk has ended.
    """
    current = Maps(*point_arrays)
    maps = Maps(*arrays)
    count = 0
    variants = _bypass_variants(tables)
    while count < len(maps.temporal) and walk[ENDED] == 0:
        if walk[IS_NEW]:
            fits = write_factors(tables, point, current, 0)
            orders, places = _orders_and_places(tables, current, 0)
            if not fits:
                walk[RULED_OUT] += orders * places * variants
                walk[ENDED] = not next_factors(tables, point)
                continue
            write_kept(tables, point, current, 0)
            if write_places(tables, point, current, 0):
                write_orders(tables, point, current, 0)
                walk[IS_NEW] = _status(tables, point, current, 0) != LEGAL
                walk[RULED_OUT] += orders * walk[IS_NEW]
        if not walk[IS_NEW]:
            write_orders(tables, point, current, 0)
            copy_mapping(0, current, count, maps)
            count += 1
            walk[LISTED] += 1
            walk[IS_NEW] = not _next_orders(tables, point, current, 0)
        if walk[IS_NEW] and not _next_places(tables, point, current, 0):
            point.keep_bits[0] += 1
            if point.keep_bits[0] == variants:
                point.keep_bits[0] = 0
                walk[ENDED] = not next_factors(tables, point)
    return count
