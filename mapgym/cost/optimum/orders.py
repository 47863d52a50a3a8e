"""Working memory of the search for orders, what is found in it, and the best order of the memory's loops."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from mapgym.cost.optimum.lattice_kernels import Lattice
from mapgym.cost.optimum.orders_kernels import MOST_RECORDS, OrderScratch, least_energy
from mapgym.cost.optimum.problem import BUFFER_TILE, INNER, OUTER, Problem


def make_order_scratch(dims: int, tensors: int) -> OrderScratch:
    """Allocates the working memory."""
    depth = 2 * dims + 2

    def whole(*shape: int) -> NDArray[np.int64]:
        return np.zeros(shape, np.int64)

    return OrderScratch(
        bound=np.ones((2, dims), np.int64), extent=np.ones((3, dims), np.int64), weight=np.zeros((2, tensors)),
        tile=np.zeros((2, tensors)), spread=np.ones((1, dims), np.int64), link=np.zeros(tensors),
        boost=np.ones((depth, 2, tensors)), total=np.ones(2), still=np.zeros((depth, 2, tensors)),
        suffix=np.zeros((depth, 2)), saved=np.zeros((depth, 2, tensors)), part=np.zeros((depth, 2, tensors)),
        reach=np.zeros((depth, 2, tensors)), first=whole(depth, 2, tensors),
        moved=whole(depth, 2, tensors), state=whole(depth, 2, tensors), left=whole(depth, 2), turn=whole(depth),
        chosen=whole(depth), best_loops=np.full(2 * dims, -1, np.int64), of_class=np.zeros(tensors + 1),
        recorded=np.full(1, -1, np.int64), records=whole(MOST_RECORDS, 5 * dims),
    )  # fmt: skip


def take_records(s: OrderScratch) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Extents, int64[3, D], and best_loops of the recorded solutions, which are forgotten."""
    dims = s.extent.shape[1]
    records = s.records[: s.recorded[0]].copy()
    s.recorded[0] = 0
    return [(record[: 3 * dims].reshape(3, dims), record[3 * dims :]) for record in records]


def best_memory_order(problem: Problem, lattice: Lattice, buffer: NDArray[np.int64], orders: OrderScratch) -> list[int]:
    """The order of the memory's loops that is best for the memory's traffic alone, given the buffer's extents."""
    orders.extent[BUFFER_TILE] = buffer
    orders.bound[OUTER] = problem.bounds // buffer
    orders.weight[INNER] = 0.0
    orders.weight[OUTER] = lattice.weight
    least_energy(problem, orders, 0.0, np.inf, False, -1)
    return placed_loops(orders.best_loops)


def placed_loops(loops: NDArray[np.int64]) -> list[int]:
    """Dims up to where their order matters."""
    return list(itertools.takewhile(lambda d: d >= 0, loops.tolist()))
