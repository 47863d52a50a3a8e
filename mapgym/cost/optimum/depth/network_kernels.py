"""How instances that receive the same words lie on the grid below a level (docs/cost_model.md, "Energy")."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import kernel
from mapgym.compilation.number_kernels import greatest_common_divisor
from mapgym.cost.optimum.depth.problem import Problem
from mapgym.cost.optimum.offset_kernels import count_offsets, slides

_BITS = 10
_MIXER = -7046029254386353131


class Networks(NamedTuple):
    """What instances below a level ask for, by level and choice of spatial factors (at most N; L layouts in all).

    Where two dims of a rank are spread, the extents of the tile decide which offsets coincide, but only by the ratio of
    the two steps: a *pattern*. What a pattern takes in each layout is measured when it is first asked for.
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
    """Working memory: one entry for each instance, in the order of the dims, for each group, or place of a table."""

    digit: NDArray[np.int64]  # [D]
    key: NDArray[np.int64]  # [places] offset of a group
    place: NDArray[np.int64]  # [places] its number and 1 more; 0 for none
    group: NDArray[np.int64]  # [instances] number of the group of an instance
    size: NDArray[np.int64]  # [instances] how many are in a group
    way: NDArray[np.int64]  # [instances] half hops to a group
    column: NDArray[np.int64]  # [instances] last column of a group that was seen
    row: NDArray[np.int64]  # [instances] last row seen in it
    at: NDArray[np.int64]  # [instances] which instance stands at a place of the grid


@kernel
def bound_offsets(
    problem: Problem, factors: NDArray[np.int64], paired: NDArray[np.bool_], distinct: NDArray[np.float64]
) -> None:
    """For each tensor: whether both dims of a rank are spread, bool[T], and the least number of offsets, float64[T].

    The spatial factors, int64[1, D], are those of a level.
    """
    for t in range(problem.words.shape[0]):
        paired[t] = slides(problem, factors, t, True)
        distinct[t] = count_offsets(problem, factors, factors, t, True)


@kernel
def group_instances(
    problem: Problem,
    grid: Grid,
    factors: NDArray[np.int64],
    extent: NDArray[np.int64],
    t: int,
    as_one: bool,
) -> int:
    """Groups the instances below a level that receive the same words; returns how many groups there are.

    Args:
        problem: the task.
        grid: group and size are filled in.
        factors: int64[D], spatial factors of the level.
        extent: int64[D], extents of the tile of one instance.
        t: the tensor.
        as_one: whether to take instances that differ along ranks of two dims, both spread, as one group; that is no
            more than what their groups take.
    """
    dims = problem.bounds.shape[0]
    instances = 1
    for d in range(dims):
        instances *= factors[d]
        grid.digit[d] = 0
    mask = grid.key.shape[0] - 1
    for place in range(mask + 1):
        grid.place[place] = 0
    groups = 0
    for e in range(instances):
        key = 0
        for d in range(dims):
            other = problem.partner[t, d]
            if not (as_one and other >= 0 and factors[d] > 1 and factors[other] > 1):
                key += problem.key[t, d] * extent[d] * grid.digit[d]
        place = (key * _MIXER >> 40) & mask
        while grid.place[place] > 0 and grid.key[place] != key:
            place = (place + 1) & mask
        if grid.place[place] == 0:
            grid.size[groups] = 0
            groups += 1
            grid.key[place], grid.place[place] = key, groups
        grid.group[e] = grid.place[place] - 1
        grid.size[grid.group[e]] += 1
        for d in range(dims):
            grid.digit[d] += 1
            if grid.digit[d] < factors[d]:
                break
            grid.digit[d] = 0
    return groups


@kernel
def measure_grid(
    problem: Problem, grid: Grid, s: int, factors: NDArray[np.int64], order: NDArray[np.int64], groups: int
) -> tuple[int, float]:
    """(half hops, routers on the way) of one word to each instance below level s, whose groups are in ``grid``.

    Args:
        problem, grid: the task, and working memory.
        s: the level.
        factors: int64[D], its spatial factors.
        order: int64[D], its spatial loops, innermost first.
        groups: how many groups there are.
    """
    dims = problem.bounds.shape[0]
    instances = 1
    for d in range(dims):
        instances *= factors[d]
        grid.digit[d] = 0
    number = 0
    for e in range(instances):
        grid.at[e] = number
        for k in range(dims):
            d = order[k]
            stride = 1
            for before in range(d):
                stride *= factors[before]
            grid.digit[d] += 1
            number += stride
            if grid.digit[d] < factors[d]:
                break
            grid.digit[d] = 0
            number -= stride * factors[d]
    for g in range(groups):
        grid.way[g], grid.row[g], grid.column[g] = 0, -1, 0
    width = max(problem.mesh[s, 0], 1)
    middle = problem.mesh[s, 1] - 1
    # Column by column, so that of each group and column only the outermost rows count.
    for column in range(min(width, instances)):
        for e in range(column, instances, width):
            g, row = grid.group[grid.at[e]], e // width
            if grid.row[g] < 0 or grid.column[g] != column:
                grid.way[g] += max(0, middle - 2 * row) + max(0, 2 * row - middle)
            else:
                grid.way[g] += max(0, 2 * row - middle) - max(0, 2 * grid.row[g] - middle)
            grid.column[g], grid.row[g] = column, row
    ways = 0
    for g in range(groups):
        grid.way[g] += 2 * grid.column[g]
        ways += grid.way[g]
    return ways, _count_routers(grid, groups) if problem.router[s] > 0.0 else 0.0


@kernel
def measure_layouts(
    problem: Problem,
    grid: Grid,
    s: int,
    factors: NDArray[np.int64],
    orders: NDArray[np.int64],
    groups: int,
    way: NDArray[np.float64],
    routed: NDArray[np.float64],
) -> None:
    """As measure_grid, for all orders, int64[n, D]: hops and routers, float64[n]."""
    for k in range(orders.shape[0]):
        half_hops, routed[k] = measure_grid(problem, grid, s, factors, orders[k], groups)
        way[k] = 0.5 * half_hops


@kernel
def _count_routers(grid: Grid, groups: int) -> float:
    """Routers on the ways of all groups; they are whole for all groups of one size together."""
    routers = 0.0
    for g in range(groups):
        alike, way, is_first = 0, 0, True
        for other in range(groups):
            if grid.size[other] == grid.size[g]:
                is_first &= other >= g
                alike += 1
                way += grid.way[other]
        if is_first:
            routers += alike * (1.0 + math.floor(0.5 * way / alike))
    return routers


@kernel
def find_pattern(problem: Problem, networks: Networks, s: int, choice: int, extent: NDArray[np.int64], t: int) -> int:
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
    factors = networks.factors[s, choice]
    groups = group_instances(problem, networks.grid, factors, extent, t, False)
    patterns.distinct[row] = groups
    for layout in range(first, last):
        half_hops, routers = measure_grid(problem, networks.grid, s, factors, networks.order[layout], groups)
        patterns.layout[row, 0, layout - first] = 0.5 * half_hops
        patterns.layout[row, 1, layout - first] = routers
        patterns.least[row, 0] = min(patterns.least[row, 0], 0.5 * half_hops)
        patterns.least[row, 1] = min(patterns.least[row, 1], routers)
