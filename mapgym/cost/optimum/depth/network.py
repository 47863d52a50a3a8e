"""The layouts of the spatial loops of each level on its mesh, and what they make networks cost."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mapgym.cost.optimum.depth.network_kernels import Grid, Networks, Patterns, group_instances, measure_grid
from mapgym.cost.optimum.depth.problem import Problem, Task

_Loops = tuple[tuple[int, ...], int]
_Layout = tuple[NDArray[np.float64], NDArray[np.float64], _Loops]


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
    orders: list[tuple[int, ...]] = []
    splits: list[int] = []
    grid = _make_grid(max(int(rows.prod(axis=1).max()) for rows in options), dims)
    for s, rows in enumerate(options):
        costs = bool(problem.hop[s] or problem.router[s])
        for i, row in enumerate(rows):
            first[s, i] = len(orders)
            is_paired[s, i], distinct[s, i] = _offsets(problem, grid, s, row)
            entering[s, i] = problem.ingress[s]
            if costs and not problem.hops_on_grid:
                entering[s, i] += _by_number(problem, s, int(row.prod()), distinct[s, i]) * ~is_paired[s, i]
            layouts = list_layouts(task, s, row)
            if costs and problem.hops_on_grid and row.prod() > 1:
                found = _measure(problem, grid, s, row, list(layouts), is_paired[s, i])
            else:
                # One instance is no way, but a router.
                found = [(np.zeros(tensors), np.full(tensors, float(costs and problem.hops_on_grid)), next(layouts))]
            kept = found if is_paired[s, i].any() else _undominated(found)
            least_way[s, i] = np.min([way for way, _, _ in found], axis=0)
            least_routed[s, i] = np.min([routed for _, routed, _ in found], axis=0)
            ways += [way for way, _, _ in kept]
            routers += [routed for _, routed, _ in kept]
            orders += [order for _, _, (order, _) in kept]
            splits += [split for _, _, (_, split) in kept]
        first[s, len(rows) :] = len(orders)
    return Networks(
        factors, distinct, is_paired, entering, least_way, least_routed, first,
        np.array(ways), np.array(routers), np.array(orders, np.int64), np.array(splits, np.int64),
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
    paired = np.zeros(len(problem.words), np.bool_)
    distinct = np.ones(len(problem.words))
    for t in range(len(problem.words)):
        for d, factor in enumerate(row):
            other = problem.partner[t, d]
            if problem.role[t, d] < -1 or (0 <= other < d):
                continue
            distinct[t] *= factor if other < 0 else factor + row[other] - 1
            paired[t] |= other >= 0 and factor > 1 and row[other] > 1
    return paired, distinct


def _by_number(problem: Problem, s: int, instances: int, distinct: NDArray[np.float64]) -> NDArray[np.float64]:
    """Energy (pJ) of hops and routers for a word, by the rules before v3.0.3; routers are rounded down there."""
    size, fan = math.sqrt(instances), np.sqrt(instances / distinct)
    distance = size * fan + 0.5 * (size - fan) - size / fan + 0.5
    return np.asarray(distance * (problem.hop[s] + problem.router[s]))


def list_layouts(task: Task, s: int, row: NDArray[np.int64]) -> Iterator[_Loops]:
    """Orders of the spatial loops of a level, those on X first, and how many those are, that its mesh allows."""
    entries, dims = task.space.entries, len(task.dims)
    active = [k for k in range(dims) if row[k] > 1]
    idle = [k for k in range(dims) if row[k] == 1]
    width, height = (int(side) for side in task.problem.mesh[s])
    key = entries.spatial_order_key[s].tolist()

    def is_in_order(part: tuple[int, ...]) -> bool:
        return list(part) == sorted(part, key=lambda k: key.index(task.dims[k]))

    for order in itertools.permutations(active):
        for split in range(len(order), -1, -1):
            on_x, on_y = order[:split], order[split:]
            if math.prod(row[list(on_x)]) > width or math.prod(row[list(on_y)]) > height:
                continue
            if not entries.side_free[s].any() and any(entries.on_y[s, task.dims[k]] != (k in on_y) for k in order):
                continue
            if entries.spatial_order_free[s] or (is_in_order(on_x) and is_in_order(on_y)):
                yield (*order, *idle), split
                break


def _measure(
    problem: Problem,
    grid: Grid,
    s: int,
    row: NDArray[np.int64],
    layouts: list[_Loops],
    is_paired: NDArray[np.bool_],
) -> list[_Layout]:
    """Layouts with the hops, and the routers, of one word to each instance, float64[T], at least."""
    way, routed = np.zeros((2, len(layouts), len(problem.words)))
    ones = np.ones_like(problem.bounds)
    orders = np.array([order for order, _ in layouts], np.int64)
    for t in range(len(problem.words)):
        groups = group_instances(problem, grid, row, ones, t, bool(is_paired[t]))
        for k, order in enumerate(orders):
            half_hops, routers = measure_grid(problem, grid, s, row, order, groups)
            way[k, t] = 0.5 * half_hops
            # Where groups are taken as one it is only known that there is more than a router for each hop.
            routed[k, t] = max(groups, 0.5 * half_hops) if is_paired[t] else routers
    return list(zip(way, routed, layouts, strict=True))


def _undominated(found: list[_Layout]) -> list[_Layout]:
    """The layouts that no other one is at least as cheap as for all tensors."""
    costs = np.array([np.concatenate([way, routed]) for way, routed, _ in found])
    _, unique = np.unique(costs, axis=0, return_index=True)
    kept = []
    for i in sorted(unique):
        better = (costs[unique] <= costs[i]).all(axis=1) & (costs[unique] < costs[i]).any(axis=1)
        if not better.any():
            kept.append(found[i])
    return kept
