"""From a chain of extents and an order of loops to a mapping."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mapgym.cost.optimum.lattice_kernels import Lattice
from mapgym.cost.optimum.orders import best_memory_order, placed_loops
from mapgym.cost.optimum.orders_kernels import OrderScratch
from mapgym.cost.optimum.problem import Task
from mapgym.mapping import Mapping
from mapgym.mapspace import MapSpace


def build_mapping(
    task: Task,
    keep: NDArray[np.bool_],
    lanes: NDArray[np.int64],
    extent: NDArray[np.int64],
    loops: NDArray[np.int64],
    orders: OrderScratch,
    lattice: Lattice,
) -> Mapping:
    """The mapping of a solution.

    Args:
        task: what was solved.
        keep: bool[2, tensor] what register level and buffer keep.
        lanes: int64[D] spatial factors below the register level.
        extent: int64[3, D] register extent, block, buffer extent.
        loops: dims of the temporal loops of buffer and memory, innermost first, up to where their order matters.
        orders: working memory.
        lattice: tables of what the buffer keeps.
    """
    space, problem = task.space, task.problem
    register, block, buffer = extent
    mapping = Mapping.trivial(space.workload, space.accelerator)
    dims, levels = list(task.dims), len(space.accelerator.levels)
    factors = (register // lanes, buffer // block, problem.bounds // buffer)
    for level in range(levels):
        mapping.temporal[level, dims] = factors[level]
    mapping.spatial[0, dims] = lanes
    mapping.spatial[1, dims] = block // register
    mapping.keep[:] = space.entries.keep
    mapping.keep[: min(2, levels - 1)] = keep[: min(2, levels - 1)]
    placed = placed_loops(loops)
    inner_count = int((factors[1] > 1).sum())
    inner, outer = placed[:inner_count], placed[inner_count:]
    if len(placed) < inner_count or not outer:
        outer = best_memory_order(problem, lattice, buffer, orders)
    for level, order in ((0, []), (1, inner), (2, outer)):
        if level < levels:
            set_order(mapping, space, level, [task.dims[k] for k in order])
    _place_on_mesh(mapping, task)
    return space.canonical(mapping.batch())[0]


def set_order(mapping: Mapping, space: MapSpace, level: int, first: list[int]) -> None:
    """The given dims first, indices of the workload's; the others as a fixed order has them, or as in the workload."""
    if not space.entries.order_free[level]:
        mapping.order[level] = space.entries.order_key[level]
        return
    mapping.order[level] = first + [d for d in range(len(space.workload.dims)) if d not in first]


def _place_on_mesh(mapping: Mapping, task: Task) -> None:
    """Assigns the spatial loops of each level to its mesh sides."""
    space = task.space
    accelerator, entries = space.accelerator, space.entries
    every = list(range(len(space.workload.dims)))
    for level in range(len(accelerator.levels)):
        on_y = [d for d in every if entries.on_y[level, d]]
        if entries.side_free[level].any():
            on_y = _on_second_side(mapping.spatial[level], accelerator.fanout_x[level], accelerator.fanout_y[level])
        on_x = [d for d in every if d not in on_y]
        mapping.spatial_order[level] = on_x + on_y
        mapping.spatial_split[level] = len(on_x)


def _on_second_side(factors: NDArray[np.int32], limit_x: int, limit_y: int) -> list[int]:
    """Dims to put on Y so that both sides fit."""
    reached: dict[tuple[int, int], list[int]] = {(1, 1): []}
    for d, factor in enumerate(map(int, factors)):
        if factor == 1:
            continue
        grown: dict[tuple[int, int], list[int]] = {}
        for (x, y), on_y in reached.items():
            if x * factor <= limit_x:
                grown.setdefault((x * factor, y), on_y)
            if y * factor <= limit_y:
                grown.setdefault((x, y * factor), [*on_y, d])
        reached = grown
    return next(iter(reached.values()))
