"""Compiled complete walk over the points of a map space, an odometer; it can be left and taken up again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.search.pruned.points_kernels import (
    Point,
    PointTables,
    bypass_variants,
    count_loops,
    next_factors,
    point_status,
    write_factors,
    write_kept,
    write_orders,
    write_places,
)
from mapgym.compilation import inlined_kernel, kernel
from mapgym.compilation.number_kernels import factorial
from mapgym.mapping.canonical_kernels import copy_mapping
from mapgym.mapping.legality_kernels import LEGAL
from mapgym.mapping.maps import Arrays, Maps

ENDED, LISTED, RULED_OUT, IS_NEW = range(4)
"""State of the complete walk: whether it is over, legal mappings so far, others, and whether the orders of the point
are at their beginning."""


@inlined_kernel
def _orders_and_places(tables: PointTables, maps: Maps, i: int) -> tuple[int, int]:
    """In how many ways the loops can be ordered in time, and placed on the meshes."""
    orders, places = 1, 1
    for level in range(maps.temporal.shape[1]):
        if tables.order_free[level]:
            orders *= factorial(count_loops(maps.temporal, i, level))
        loops = count_loops(maps.spatial, i, level)
        if tables.side_free[level]:
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
            if point.order_ranks[level] < factorial(count_loops(maps.temporal, i, level)):
                return True
            point.order_ranks[level] = 0
    return False


@inlined_kernel
def _next_places(tables: PointTables, point: Point, maps: Maps, i: int) -> bool:
    """Steps to the next places, some of which repeat others (see write_places); returns False as _next_orders does."""
    for level in range(maps.spatial.shape[1]):
        loops = count_loops(maps.spatial, i, level)
        if tables.side_free[level]:
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
    variants = bypass_variants(tables)
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
                walk[IS_NEW] = point_status(tables, point, current, 0) != LEGAL
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
