"""How instances that receive the same words lie on the grid below a level (docs/cost_model.md, "Energy")."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import kernel
from mapgym.cost.optimum.depth.problem import Problem


class Grid(NamedTuple):
    """Working memory: one entry for each instance, or for each place of a hash table."""

    digit: NDArray[np.int64]  # [D]
    key: NDArray[np.int64]  # [places] offset of a group
    count: NDArray[np.int64]  # [places] instances of a group; 0: no group
    way: NDArray[np.int64]  # [places] half hops to a group
    column: NDArray[np.int64]  # [places] last column seen
    row: NDArray[np.int64]  # [places] last row seen in it
    group: NDArray[np.int64]  # [instances] place of the group of an instance


@kernel
def measure_grid(
    problem: Problem,
    grid: Grid,
    s: int,
    factors: NDArray[np.int64],
    order: NDArray[np.int64],
    extent: NDArray[np.int64],
    t: int,
    as_one: bool,
) -> tuple[int, int, float]:
    """What one word to each instance below level s takes.

    Args:
        problem: the task.
        grid: working memory.
        s: the level.
        factors: int64[D], its spatial factors.
        order: int64[D], its spatial loops, innermost first.
        extent: int64[D], extents of the tile of one instance.
        t: the tensor.
        as_one: whether to take instances that differ along ranks of two dims, both spread, as one group; that is no
            more than what their groups take.

    Returns:
        (groups that receive different words, half hops to all of them, routers on the way to all of them).
    """
    dims = problem.bounds.shape[0]
    instances = 1
    for d in range(dims):
        instances *= factors[d]
        grid.digit[d] = 0
    width = max(problem.mesh[s, 0], 1)
    middle = problem.mesh[s, 1] - 1
    mask = grid.key.shape[0] - 1
    for place in range(mask + 1):
        grid.count[place] = 0
    for e in range(instances):
        key = 0
        for d in range(dims):
            other = problem.partner[t, d]
            if not (as_one and other >= 0 and factors[d] > 1 and factors[other] > 1):
                key += problem.key[t, d] * extent[d] * grid.digit[d]
        place = (key * -7046029254386353131 >> 40) & mask
        while grid.count[place] > 0 and grid.key[place] != key:
            place = (place + 1) & mask
        if grid.count[place] == 0:
            grid.key[place], grid.way[place], grid.column[place] = key, 0, 0
        grid.group[e] = place
        grid.count[place] += 1
        for k in range(dims):
            d = order[k]
            grid.digit[d] += 1
            if grid.digit[d] < factors[d]:
                break
            grid.digit[d] = 0
    for place in range(mask + 1):
        grid.row[place] = -1
    # Column by column, so that of each group and column only the outermost rows count.
    for column in range(min(width, instances)):
        for e in range(column, instances, width):
            place, row = grid.group[e], e // width
            if grid.row[place] < 0 or grid.column[place] != column:
                grid.way[place] += max(0, middle - 2 * row) + max(0, 2 * row - middle)
            else:
                grid.way[place] += max(0, 2 * row - middle) - max(0, 2 * grid.row[place] - middle)
            grid.column[place], grid.row[place] = column, row
    groups, ways, routers = 0, 0, 0.0
    for place in range(mask + 1):
        if grid.count[place] > 0:
            grid.way[place] += 2 * grid.column[place]
            groups += 1
            ways += grid.way[place]
    # Routers are whole for all groups of one size together.
    for place in range(mask + 1):
        size = grid.count[place]
        if size > 0:
            alike, way = 0, 0
            for other in range(place, mask + 1):
                if grid.count[other] == size:
                    alike += 1
                    way += grid.way[other]
                    grid.count[other] = 0
            routers += alike * (1.0 + math.floor(0.5 * way / alike))
    return groups, ways, routers
