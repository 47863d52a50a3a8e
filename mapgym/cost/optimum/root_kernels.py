"""What spatial factors alone decide: the energy at the register level, and bounds for all pairs of them.

The formulas and the proofs that they are bounds are in docs/exact.md ("Energy", "Bounds").
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import kernel
from mapgym.cost.optimum.lattice_kernels import Lattice
from mapgym.cost.optimum.problem import IRRELEVANT, PINNED, Problem


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
    weight: NDArray[np.float64]  # [T] pJ for each word of a register level
    words: NDArray[np.float64]  # [T] of the register tiles
    slide: NDArray[np.float64]  # [T] share that the best first loop of the group leaves
    rest: NDArray[np.float64]  # [T] share that coincidences leave of a stationary tensor's traffic
    best_chain: NDArray[np.int64]  # [4, D] lanes, register extent, block, buffer extent of the incumbent
    best_loops: NDArray[np.int64]  # [2 * D] its orders, as OrderScratch.best_loops
    counters: NDArray[np.int64]  # [4] nodes, register tiles, register tiles searched, leaves


def make_work(problem: Problem) -> Work:
    """Allocates the working memory."""
    tensors, dims = problem.role.shape
    most = problem.divisors.shape[1]

    def whole(*shape: int) -> NDArray[np.int64]:
        return np.ones(shape, np.int64)

    return Work(
        whole(1, dims), whole(1, dims), whole(1, dims),
        whole(dims, most), whole(dims), whole(dims), whole(dims, most), whole(dims), whole(dims), whole(dims),
        np.zeros(tensors), np.zeros(tensors), np.zeros(tensors), np.zeros(tensors),
        whole(4, dims), whole(2 * dims), np.zeros(4, np.int64),
    )  # fmt: skip


@kernel
def _gcd(a: int, b: int) -> int:
    while b:
        a, b = b, a % b
    return a


@kernel
def _distinct(problem: Problem, factors: NDArray[np.int64], extent: NDArray[np.int64], t: int, least: bool) -> float:
    """Instances with different offsets among those that spatial factors make; at least so many if ``least``."""
    count = 1
    for d in range(problem.bounds.shape[0]):
        other = problem.partner[t, d]
        if other < 0:
            if problem.role[t, d] != IRRELEVANT:
                count *= factors[0, d]
        elif other > d:
            a, b = factors[0, d], factors[0, other]
            if least:
                count *= a + b - 1
            else:
                first = problem.coefficient[t, d] * extent[0, d]
                second = problem.coefficient[t, other] * extent[0, other]
                g = _gcd(first, second)
                count *= a * b - max(0, a - second // g) * max(0, b - first // g)
    return float(count)


@kernel
def _may_lose_a_word(problem: Problem, factors: NDArray[np.int64], t: int, instances: int) -> bool:
    """Whether the share of an instance, a sum over multiplicities, may be cut to the whole number below it."""
    if instances & (instances - 1) == 0:
        return False
    for d in range(problem.bounds.shape[0]):
        other = problem.partner[t, d]
        if other > d and factors[0, d] > 1 and factors[0, other] > 1:
            return True
    return False


@kernel
def energy_at_registers(problem: Problem, keep: NDArray[np.bool_], work: Work, extent: NDArray[np.int64],
                         least: bool) -> float:  # fmt: skip
    """Energy that depends on the spatial factors alone, pJ; sets the weight of each register level's words."""
    lanes, spread = 1.0, 1.0
    for d in range(problem.bounds.shape[0]):
        lanes *= work.lanes[0, d]
        spread *= work.spread[0, d]
    energy = problem.energy[3]
    for t in range(problem.words.shape[0]):
        ways = 2.0 if problem.is_output[t] else 1.0
        outer = problem.energy[1] if keep[1, t] else problem.energy[2]
        distinct_lanes = _distinct(problem, work.lanes, work.ones, t, False)
        distinct = _distinct(problem, work.spread, extent, t, least)
        if keep[0, t]:
            if _may_lose_a_word(problem, work.spread, t, int(spread)):
                energy -= problem.energy[0] * spread
            energy += problem.energy[0] * ways * problem.macs * distinct_lanes / lanes
            work.weight[t] = ways * outer * distinct + problem.energy[0] * spread
        else:
            energy += outer * ways * distinct * distinct_lanes * problem.macs / (lanes * spread)
            work.weight[t] = 0.0
        if problem.is_output[t]:
            # First visits read nothing: once for each word at buffer and memory, and once in each register level
            # that gets a part of the same sum.
            energy -= problem.energy[2] * problem.words[t]
            if keep[1, t]:
                energy -= problem.energy[1] * problem.words[t]
            if keep[0, t]:
                copies = 1.0
                for d in range(problem.bounds.shape[0]):
                    if problem.role[t, d] == IRRELEVANT:
                        copies *= work.spread[0, d]
                energy -= problem.energy[0] * problem.words[t] * copies
    return energy


@kernel
def _compulsory(problem: Problem, work: Work, t: int) -> float:
    """Words that each register level must receive of a tensor, at least."""
    pinned, whole, sliding = 1.0, 1.0, np.inf
    for d in range(problem.bounds.shape[0]):
        if problem.role[t, d] == PINNED:
            pinned *= problem.bounds[d] // work.spread[0, d]
        other = problem.partner[t, d]
        if other > d:
            larger = max(problem.bounds[d] // work.spread[0, d], problem.bounds[other] // work.spread[0, other])
            smaller = min(problem.bounds[d], problem.bounds[other])
            # One rank slides, the others do not; larger >= 1 cancels.
            sliding = min(sliding, smaller / larger)
            whole *= larger
    if sliding < np.inf:
        return pinned * whole * min(0.5, sliding)
    return pinned


@kernel
def bound_roots(problem: Problem, keep: NDArray[np.bool_], lattice: Lattice, lanes: NDArray[np.int64],
                spread: NDArray[np.int64], work: Work, out: NDArray[np.float64]) -> None:  # fmt: skip
    """Lower bounds of the energy for pairs of spatial factors, float64[n] pJ; inf where they do not fit the bounds.

    Args:
        problem, keep, lattice: the task, bool[2, T] what is kept, and its tables.
        lanes, spread: int64[n, D] spatial factors below the register level and below the buffer.
        work: working memory.
        out: filled.
    """
    dims = problem.bounds.shape[0]
    for i in range(lanes.shape[0]):
        tile = 0
        fits = True
        for d in range(dims):
            block = lanes[i, d] * spread[i, d]
            fits &= problem.bounds[d] % block == 0
            work.lanes[0, d], work.spread[0, d] = lanes[i, d], spread[i, d]
            if fits:
                tile += problem.position[d, block] * problem.stride[d]
        if not fits:
            out[i] = np.inf
            continue
        out[i] = energy_at_registers(problem, keep, work, work.lanes, True) + lattice.anywhere[tile]
        for t in range(problem.words.shape[0]):
            out[i] += work.weight[t] * _compulsory(problem, work, t)
