"""The energy at the register level, which spatial factors and register tile decide.

The formulas and their proofs are in docs/exact.md ("Energy", "Links").
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import kernel
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
    weight: NDArray[np.float64]  # [T] pJ for each word that a register level receives
    unit: NDArray[np.float64]  # [T] pJ of all cycles for each word that its lanes ask for in a cycle
    first_visits: NDArray[np.float64]  # [T] pJ of the reads that first visits save where the MACs are fed
    rest_of_lanes: NDArray[np.float64]  # [T] pJ for the other tensors where the MACs are fed; first loop in group t
    lanes_at_rest: NDArray[np.float64]  # [T] pJ for the tensor itself, by the register's loops alone
    lanes_open: NDArray[np.int64]  # [T] whether loops outside the registers make that less
    lane_energy: NDArray[np.float64]  # [1] least pJ where the MACs are fed, by the register's loops alone
    slack: NDArray[np.float64]  # [2] pJ by which a cost may be above its bound by rounding; least bound so accepted
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

    def real(n: int = tensors) -> NDArray[np.float64]:
        return np.zeros(n)

    return Work(
        whole(1, dims), whole(1, dims), whole(1, dims),
        whole(dims, most), whole(dims), whole(dims), whole(dims, most), whole(dims), whole(dims), whole(dims),
        real(), real(), real(), real(), real(), whole(tensors), real(1), real(2), real(), real(), real(),
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
def _slides(problem: Problem, factors: NDArray[np.int64], t: int, both: bool) -> bool:
    """Whether spatial factors are along a sliding rank; with ``both``, along both dims of one."""
    for d in range(problem.bounds.shape[0]):
        other = problem.partner[t, d]
        if other >= 0 and factors[0, d] > 1 and (not both or factors[0, other] > 1):
            return True
    return False


@kernel
def _product(problem: Problem, factors: NDArray[np.int64], t: int, role: int) -> float:
    """Product of the spatial factors of dims with a role in a tensor."""
    product = 1
    for d in range(problem.bounds.shape[0]):
        if problem.role[t, d] == role:
            product *= factors[0, d]
    return float(product)


@kernel
def _passes(problem: Problem, work: Work, t: int, d: int) -> bool:
    """Whether lanes can pass words of a tensor on in steps of a loop of dim d: at rest, or along a rank with lanes."""
    if problem.role[t, d] == IRRELEVANT:
        return True
    other = problem.partner[t, d]
    return other >= 0 and (work.lanes[0, d] > 1 or work.lanes[0, other] > 1)


@kernel
def _ends(problem: Problem, work: Work, extent: NDArray[np.int64], t: int) -> bool:
    """Whether a loop of the register level ends the run of steps in which lanes can pass words of a tensor on."""
    for d in range(problem.bounds.shape[0]):
        if extent[0, d] != work.lanes[0, d] and not _passes(problem, work, t, d):
            return True
    return False


@kernel
def _longest_run(problem: Problem, work: Work, extent: NDArray[np.int64], t: int, whole: bool) -> float:
    """Product of the temporal loops, of the registers or of all levels, in which lanes can pass words on."""
    run = 1.0
    for d in range(problem.bounds.shape[0]):
        if _passes(problem, work, t, d):
            end = problem.bounds[d] // work.spread[0, d] if whole else extent[0, d]
            run *= end // work.lanes[0, d]
    return run


@kernel
def _lane_offsets(problem: Problem, work: Work, extent: NDArray[np.int64], t: int, c: int, least: bool) -> float:
    """Words that all lanes of a register level ask for in each cycle, on average, if the first loop is in group c.

    Without links the number of different offsets; with links a lower bound (docs/exact.md, "Links"). Sets
    lanes_open[t] to whether loops outside the registers can make it smaller: it is then divided by their leading run.
    """
    distinct = _distinct(problem, work.lanes, work.ones, t, False)
    if not problem.peer_links:
        return distinct
    shared = _product(problem, work.lanes, t, IRRELEVANT) > 1.0 or _slides(problem, work.lanes, t, True)
    slides = _slides(problem, work.lanes, t, False)
    if not (shared or slides):
        return distinct
    # Where ranks have one dim each, only a tensor at rest is passed on; else later steps may bring it back to where
    # it was, but the first step that moves it is at least half of the steps that are left.
    returns = False
    for d in range(problem.bounds.shape[0]):
        returns |= problem.partner[t, d] >= 0
    half = 0.5 if returns else 1.0
    ends = _ends(problem, work, extent, t)
    if not slides:
        if c != t:
            return distinct * half
        work.lanes_open[t] = 0 if ends else 1
        return distinct * half / _longest_run(problem, work, extent, t, least)
    remaining = _product(problem, work.lanes, t, PINNED)
    run = _longest_run(problem, work, extent, t, least or not ends)
    offsets = (distinct - remaining) * half / run
    if not shared:
        offsets += remaining
    elif c != t:
        offsets += remaining * half
    return offsets


@kernel
def _fed(problem: Problem, work: Work, t: int, content: float) -> float:
    """Energy of a tensor's accesses where the MACs are fed; outputs are read and updated, but for first visits."""
    return max(content, 2.0 * content - work.first_visits[t]) if problem.is_output[t] else content


@kernel
def lane_gain(problem: Problem, work: Work, c: int, run: float) -> float:
    """What a run of loops of group c next to the registers changes at most where the MACs are fed, pJ; <= 0."""
    if not problem.peer_links or c >= problem.words.shape[0] or work.lanes_open[c] == 0:
        return 0.0
    energy = work.rest_of_lanes[c] + _fed(problem, work, c, work.lanes_at_rest[c] / run)
    return min(0.0, energy - work.lane_energy[0])


@kernel
def energy_at_registers(problem: Problem, keep: NDArray[np.bool_], work: Work, extent: NDArray[np.int64],
                        least: bool) -> float:  # fmt: skip
    """Energy at the register level, pJ; sets the weight of the words that each register level receives.

    Exact without links but for work.slack[0], which is taken off; a lower bound with them.

    Args:
        problem, keep: the task, and bool[2, T] what is kept.
        work: with lanes and spread filled in.
        extent: register extents in row 0.
        least: whether the register extents are unknown and the least energy over all of them is asked for.
    """
    tensors = problem.words.shape[0]
    lanes, spread = 1.0, 1.0
    for d in range(problem.bounds.shape[0]):
        lanes *= work.lanes[0, d]
        spread *= work.spread[0, d]
    energy = problem.energy[3]
    work.slack[0] = 0.0
    for t in range(tensors):
        outer = problem.energy[1] if keep[1, t] else problem.energy[2]
        distinct = _distinct(problem, work.spread, extent, t, least)
        work.weight[t] = work.unit[t] = work.first_visits[t] = 0.0
        work.lanes_open[t] = 0
        if keep[0, t]:
            # A share that is a sum over multiplicities may be cut to the whole number below it.
            mixed = distinct < _product(problem, work.spread, t, PINNED) * _sliding_product(problem, work.spread, t)
            mixed |= problem.peer_links and _slides(problem, work.spread, t, False)
            if mixed and int(spread) & (int(spread) - 1) != 0:
                work.slack[0] += problem.energy[0] * spread
            work.unit[t] = problem.energy[0] * problem.macs / lanes
            served = (2.0 if problem.is_output[t] else 1.0) * outer * distinct
            if problem.peer_links and _slides(problem, work.spread, t, False):
                # Neighbours pass words on, at one read more for each.
                remaining = _product(problem, work.spread, t, PINNED)
                served = outer * remaining + min(outer, problem.energy[0]) * (distinct - remaining)
            work.weight[t] = served + problem.energy[0] * spread
        else:
            if problem.peer_links:
                distinct = _least_served(problem, work.spread, t)
            work.unit[t] = outer * distinct * problem.macs / (lanes * spread)
        if problem.is_output[t]:
            # First visits read nothing: once for each word at the levels outside the innermost that keeps it, and
            # there once in each instance that gets a part of the same sum.
            if keep[0, t]:
                work.first_visits[t] = (
                    problem.energy[0] * problem.words[t] * _product(problem, work.spread, t, IRRELEVANT)
                )
                energy -= problem.energy[1] * problem.words[t] if keep[1, t] else 0.0
                energy -= problem.energy[2] * problem.words[t]
            else:
                work.first_visits[t] = outer * problem.words[t]
                energy -= problem.energy[2] * problem.words[t] if keep[1, t] else 0.0
    least_lanes = np.inf
    for c in range(tensors + 1 if problem.peer_links else 1):
        rest, own = 0.0, 0.0
        for t in range(tensors):
            content = work.unit[t] * _lane_offsets(problem, work, extent, t, c, least)
            if t == c:
                work.lanes_at_rest[t] = content
                own = _fed(problem, work, t, content)
            else:
                rest += _fed(problem, work, t, content)
        if c < tensors:
            work.rest_of_lanes[c] = rest
        least_lanes = min(least_lanes, rest + own)
    work.lane_energy[0] = least_lanes
    return energy + least_lanes - work.slack[0]


@kernel
def _sliding_product(problem: Problem, factors: NDArray[np.int64], t: int) -> float:
    """Product of the spatial factors of dims of sliding ranks."""
    product = 1
    for d in range(problem.bounds.shape[0]):
        if problem.partner[t, d] >= 0:
            product *= factors[0, d]
    return float(product)


@kernel
def _least_served(problem: Problem, factors: NDArray[np.int64], t: int) -> float:
    """Instances over the largest number of them that can have the same offset."""
    served = _product(problem, factors, t, PINNED)
    for d in range(problem.bounds.shape[0]):
        other = problem.partner[t, d]
        if other > d:
            served *= max(factors[0, d], factors[0, other])
    return served
