"""The layouts of the spatial loops of each level on its mesh, and what they make networks cost."""

from __future__ import annotations

import itertools
import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from mapgym.cost.optimum.depth.network_kernels import (
    Grid,
    Networks,
    Patterns,
    bound_offsets,
    group_instances,
    measure_layouts,
)
from mapgym.cost.optimum.depth.problem import Problem, Task


def make_networks(task: Task) -> Networks:
    """Lists all layouts of all levels; of those that cost the same, one, and none that costs more for all tensors."""
    problem, options = task.problem, task.options
    levels, tensors = problem.serve.shape
    most, dims = max(map(len, options)), len(problem.bounds)
    shape = (levels, most, tensors)
    factors = np.ones((levels, most, dims), np.int64)
    for s, rows in enumerate(options):
        factors[s, : len(rows)] = rows
    distinct, is_paired = np.ones(shape), np.zeros(shape, np.bool_)
    entering, least_way, least_routed = np.zeros((3, *shape))
    first = np.zeros((levels, most + 1), np.int64)
    ways: list[NDArray[np.float64]] = []
    routers: list[NDArray[np.float64]] = []
    orders: list[NDArray[np.int64]] = []
    splits: list[NDArray[np.int64]] = []
    count = 0
    grid = _make_grid(max(int(rows.prod(axis=1).max()) for rows in options), dims)
    for s, rows in enumerate(options):
        costs = bool(problem.hop[s] or problem.router[s])
        for i, row in enumerate(rows):
            first[s, i] = count
            is_paired[s, i], distinct[s, i] = _offsets(problem, grid, s, row)
            entering[s, i] = problem.ingress[s]
            if costs and not problem.hops_on_grid:
                entering[s, i] += _by_number(problem, s, int(row.prod()), distinct[s, i]) * ~is_paired[s, i]
            order, split = _list_layouts(task, s, row)
            if costs and problem.hops_on_grid and row.prod() > 1:
                way, routed = _measure(problem, grid, s, row, order, is_paired[s, i])
                kept = np.arange(len(order)) if is_paired[s, i].any() else _undominated(way, routed)
            else:
                # One instance is no way, but a router.
                way, kept = np.zeros((1, tensors)), np.zeros(1, np.int64)
                routed = np.full((1, tensors), float(costs and problem.hops_on_grid))
            least_way[s, i], least_routed[s, i] = way.min(axis=0), routed.min(axis=0)
            ways.append(way[kept])
            routers.append(routed[kept])
            orders.append(order[kept])
            splits.append(split[kept])
            count += len(kept)
        first[s, len(rows) :] = count
    return Networks(
        factors, distinct, is_paired, entering, least_way, least_routed, first,
        np.concatenate(ways), np.concatenate(routers), np.concatenate(orders), np.concatenate(splits),
        _make_patterns(int(np.diff(first, axis=1).max()), tensors, bool(is_paired.any())), grid,
    )  # fmt: skip


def _make_patterns(layouts: int, tensors: int, is_any: bool) -> Patterns:
    rows = (2 ** max(6, 12 - (layouts // 24).bit_length()) if is_any else 1) + tensors
    return Patterns(np.zeros(rows, np.int64), np.zeros(rows), np.zeros((rows, 2)), np.zeros((rows, 2, layouts)))


def _make_grid(instances: int, dims: int) -> Grid:
    places = 2 ** (2 * instances - 1).bit_length()
    return Grid(np.zeros(dims, np.int64), *np.zeros((2, places), np.int64), *np.zeros((6, instances), np.int64))


def _offsets(
    problem: Problem, grid: Grid, s: int, row: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """For each tensor: whether its offsets depend on the tile of an instance, and how many there are, at least."""
    if s == 0:
        # The tile is a single word.
        ones = np.ones_like(row)
        counts = [group_instances(problem, grid, row, ones, t, False) for t in range(len(problem.words))]
        return np.zeros(len(counts), np.bool_), np.array(counts, np.float64)
    paired, distinct = np.zeros(len(problem.words), np.bool_), np.zeros(len(problem.words))
    bound_offsets(problem, row[None], paired, distinct)
    return paired, distinct


def _by_number(problem: Problem, s: int, instances: int, distinct: NDArray[np.float64]) -> NDArray[np.float64]:
    """Energy (pJ) of hops and routers for a word, by the rules before v3.0.3; routers are rounded down there."""
    size, fan = math.sqrt(instances), np.sqrt(instances / distinct)
    distance = size * fan + 0.5 * (size - fan) - size / fan + 0.5
    return np.asarray(distance * (problem.hop[s] + problem.router[s]))


def _list_layouts(task: Task, s: int, row: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Orders of the spatial loops of a level, int64[n, D], those on X first, and how many those are, int64[n]."""
    entries, dims = task.space.entries, np.array(task.dims)
    active, idle = np.flatnonzero(row > 1), np.flatnonzero(row == 1)
    orders = active[_permutations(len(active))]
    on_x = np.concatenate([np.ones((len(orders), 1), np.int64), np.cumprod(row[orders], axis=1)], axis=1)
    width, height = task.problem.mesh[s]
    fits = (on_x <= width) & (row.prod() // on_x <= height)
    if not entries.side_free[s].any():
        sides = entries.on_y[s, dims[orders]]
        for split in range(fits.shape[1]):
            fits[:, split] &= ~sides[:, :split].any(axis=1) & sides[:, split:].all(axis=1)
    if not entries.spatial_order_free[s]:
        place = np.argsort(entries.spatial_order_key[s])[dims[orders]]
        for split in range(fits.shape[1]):
            for part in (place[:, :split], place[:, split:]):
                fits[:, split] &= (np.diff(part, axis=1) > 0).all(axis=1)
    allowed = np.flatnonzero(fits.any(axis=1))
    splits = fits.shape[1] - 1 - np.argmax(fits[allowed, ::-1], axis=1)
    return np.concatenate([orders[allowed], np.broadcast_to(idle, (len(allowed), len(idle)))], axis=1), splits


@cache
def _permutations(count: int) -> NDArray[np.int64]:
    """All orders of so many things, int64[n, count]."""
    return np.array(list(itertools.permutations(range(count))), np.int64).reshape(math.factorial(count), count)


def _measure(
    problem: Problem,
    grid: Grid,
    s: int,
    row: NDArray[np.int64],
    orders: NDArray[np.int64],
    is_paired: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Hops, and routers, of one word to each instance, float64[n, T], at least, by layout."""
    way, routed = np.zeros((2, len(orders), len(problem.words)))
    ones = np.ones_like(problem.bounds)
    for t in range(len(problem.words)):
        groups = group_instances(problem, grid, row, ones, t, bool(is_paired[t]))
        measure_layouts(problem, grid, s, row, orders, groups, way[:, t], routed[:, t])
        if is_paired[t]:
            # Where groups are taken as one it is only known that there is more than a router for each hop.
            routed[:, t] = np.maximum(groups, way[:, t])
    return way, routed


def _undominated(way: NDArray[np.float64], routed: NDArray[np.float64]) -> NDArray[np.int64]:
    """The layouts that no other one is at least as cheap as for all tensors."""
    costs, first = np.unique(np.concatenate([way, routed], axis=1), axis=0, return_index=True)
    no_worse = (costs[:, None] <= costs[None]).all(axis=2)
    return np.sort(first[no_worse.sum(axis=0) == 1])
