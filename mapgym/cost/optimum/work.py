"""Working memory of the search below one choice of spatial factors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.cost.optimum.problem import Problem


class Work(NamedTuple):
    """Working memory of the search below one choice of spatial factors."""

    lanes: NDArray[np.int64]  # [1, D]
    spread: NDArray[np.int64]  # [1, D] spatial factors between register level and buffer
    ones: NDArray[np.int64]  # [1, D]
    register_options: NDArray[np.int64]  # [D, V] register extents to try
    register_counts: NDArray[np.int64]  # [D]
    register_turn: NDArray[np.int64]  # [D]
    buffer_options: NDArray[np.int64]  # [D, V] divisor indices of buffer extents to try
    buffer_counts: NDArray[np.int64]  # [D]
    buffer_turn: NDArray[np.int64]  # [D]
    block_index: NDArray[np.int64]  # [D]
    weight: NDArray[np.float64]  # [T] pJ for each word that a register level receives
    linked_weight: NDArray[np.float64]  # [T] the same, at least, where neighbours pass words on
    spared: NDArray[np.float64]  # [T] pJ for each word that a neighbour passes on, at most
    first_weight: NDArray[np.float64]  # [T, D] the same, by the dim of the first loop outside the registers
    unit: NDArray[np.float64]  # [T] words of all cycles for each word that its lanes ask for in a cycle
    read: NDArray[np.float64]  # [T] pJ for each word read where the MACs are fed
    update: NDArray[np.float64]  # [T] pJ for each partial sum that comes back there; 0 for operands
    first_visits: NDArray[np.float64]  # [T] pJ of the reads that first visits save there
    rest_of_lanes: NDArray[np.float64]  # [T] pJ for the other tensors where the MACs are fed; first loop in group t
    lanes_at_rest: NDArray[np.float64]  # [T] words of the tensor itself, by the register's loops alone
    lanes_open: NDArray[np.int64]  # [T] whether loops outside the registers make that less
    lane_base: NDArray[np.float64]  # [T + 1] least pJ where the MACs are fed, without that; first loop in each group
    lane_energy: NDArray[np.float64]  # [1] least pJ where the MACs are fed, by the register's loops alone
    slack: NDArray[np.float64]  # [1] pJ by which a cost may be above its bound by rounding
    accepted: NDArray[np.float64]  # [1] least bound so accepted
    words: NDArray[np.float64]  # [T] of the register tiles
    rest: NDArray[np.float64]  # [T] share that coincidences leave of a stationary tensor's traffic
    best_lanes: NDArray[np.int64]  # [D] of the incumbent
    best_extent: NDArray[np.int64]  # [3, D]
    best_loops: NDArray[np.int64]  # [2 * D] its orders, as OrderScratch.best_loops
    nodes: NDArray[np.int64]  # [1] how many were searched


def make_work(problem: Problem) -> Work:
    """Allocates the working memory."""
    tensors, dims = problem.role.shape
    most = problem.divisors.shape[1]

    def whole(*shape: int) -> NDArray[np.int64]:
        return np.ones(shape, np.int64)

    def real(*shape: int) -> NDArray[np.float64]:
        return np.zeros(shape)

    return Work(
        lanes=whole(1, dims), spread=whole(1, dims), ones=whole(1, dims),
        register_options=whole(dims, most), register_counts=whole(dims), register_turn=whole(dims),
        buffer_options=whole(dims, most), buffer_counts=whole(dims), buffer_turn=whole(dims), block_index=whole(dims),
        weight=real(tensors), linked_weight=real(tensors), spared=real(tensors), first_weight=real(tensors, dims),
        unit=real(tensors), read=real(tensors), update=real(tensors), first_visits=real(tensors),
        rest_of_lanes=real(tensors), lanes_at_rest=real(tensors),
        lanes_open=whole(tensors), lane_base=real(tensors + 1), lane_energy=real(1), slack=real(1), accepted=real(1),
        words=real(tensors), rest=real(tensors), best_lanes=whole(dims), best_extent=whole(3, dims),
        best_loops=whole(2 * dims), nodes=np.zeros(1, np.int64),
    )  # fmt: skip
