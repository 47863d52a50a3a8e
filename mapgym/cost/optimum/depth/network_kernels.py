"""How instances that receive the same words lie on the grid below a level (docs/cost_model.md, "Energy")."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import inlined_kernel, kernel
from mapgym.compilation.number_kernels import greatest_common_divisor
from mapgym.cost.optimum.depth.problem import Problem

_BITS = 10
_MIXER = -7046029254386353131


class Networks(NamedTuple):
    """What instances below a level ask for, by level and choice of spatial factors (at most N; L layouts in all).

    Where two dims of a rank are spread, which offsets coincide depends on the extents of the tile, but only on the ratio
    of their steps: a *pattern*. What each pattern takes in each layout is measured when it is first asked for.
    """

    factors: NDArray[np.int64]  # [S, N, D] spatial factors
    distinct: NDArray[np.float64]  # [S, N, T] offsets of the instances, at least
    is_paired: NDArray[np.bool_]  # [S, N, T] whether they depend on the tile
    entering: NDArray[np.float64]  # [S, N, T] pJ for each word that enters, whatever the layout
    least_way: NDArray[np.float64]  # [S, N, T] hops of one word to each instance, over all layouts and tiles
    least_routed: NDArray[np.float64]  # [S, N, T] routers that it passes, if the level below keeps the tensor
    first: NDArray[np.int64]  # [S, N + 1] the layouts of a choice
    way: NDArray[np.float64]  # [L, T] as least_way, of each layout
    routed: NDArray[np.float64]  # [L, T] as least_routed
    order: NDArray[np.int64]  # [L, D] spatial loops, innermost first
    on_x: NDArray[np.int64]  # [L] how many of them lie on X
    patterns: Patterns
    grid: Grid


class Patterns(NamedTuple):
    """What is known of patterns; one without room in the table is measured anew, in a last row for its tensor."""

    key: NDArray[np.int64]  # [rows] 0 for none
    distinct: NDArray[np.float64]  # [rows] offsets of the instances
    least: NDArray[np.float64]  # [rows, 2] hops and routers, over all layouts
    layout: NDArray[np.float64]  # [rows, 2, layouts of a choice]


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
        place = (key * _MIXER >> 40) & mask
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


@kernel
def find_pattern(
    problem: Problem, networks: Networks, s: int, choice: int, extent: NDArray[np.int64], t: int
) -> int:
    """The row of patterns for a tensor whose offsets below a level depend on the extents of the tile, int64[D]."""
    patterns = networks.patterns
    key, ranks = (s * networks.factors.shape[1] + choice) * problem.words.shape[0] + t + 1, 0
    for d in range(problem.bounds.shape[0]):
        other = problem.partner[t, d]
        if other > d and networks.factors[s, choice, d] > 1 and networks.factors[s, choice, other] > 1:
            first = problem.coefficient[t, d] * extent[d]
            second = problem.coefficient[t, other] * extent[other]
            g = greatest_common_divisor(first, second)
            first, second = first // g, second // g
            if second >= networks.factors[s, choice, d] or first >= networks.factors[s, choice, other]:
                # No two of them coincide.
                first, second = 0, 0
            key = (key << _BITS | first) << _BITS | second
            ranks += 1
            if first >> _BITS or second >> _BITS:
                ranks = 3
    places = patterns.key.shape[0] - problem.words.shape[0]
    row = places + t
    if ranks <= 2:
        first_place = (key * _MIXER >> 40) & (places - 1)
        for k in range(8):
            place = first_place ^ k
            if patterns.key[place] == key:
                return place
            if patterns.key[place] == 0:
                row = place
                break
    _measure_pattern(problem, networks, s, choice, extent, t, row)
    if row < places:
        patterns.key[row] = key
    return row


@kernel
def _measure_pattern(
    problem: Problem, networks: Networks, s: int, choice: int, extent: NDArray[np.int64], t: int, row: int
) -> None:
    patterns = networks.patterns
    first, last = networks.first[s, choice], networks.first[s, choice + 1]
    patterns.least[row, 0] = patterns.least[row, 1] = np.inf
    for layout in range(first, last):
        groups, half_hops, routers = measure_grid(
            problem, networks.grid, s, networks.factors[s, choice], networks.order[layout], extent, t, False
        )
        patterns.distinct[row] = groups
        patterns.layout[row, 0, layout - first] = 0.5 * half_hops
        patterns.layout[row, 1, layout - first] = routers
        patterns.least[row, 0] = min(patterns.least[row, 0], 0.5 * half_hops)
        patterns.least[row, 1] = min(patterns.least[row, 1], routers)
