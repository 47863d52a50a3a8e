"""The energy at the register level, which spatial factors and register tile decide.

The formulas and their proofs are in docs/exact.md ("Energy", "Links").
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import inlined_kernel, kernel
from mapgym.cost.optimum.lane_kernels import Lanes, asked_outside, list_layouts, place_loop, start_orders
from mapgym.cost.optimum.offset_kernels import count_offsets, has_sliding_rank, product_of, shares_offsets, slides
from mapgym.cost.optimum.problem import BUFFER, IRRELEVANT, MEMORY, PINNED, REGISTERS, TILE, Problem
from mapgym.cost.optimum.work import Work


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
        if extent[TILE, d] != work.lanes[0, d] and not _passes(problem, work, t, d):
            return True
    return False


@kernel
def _longest_run(problem: Problem, work: Work, extent: NDArray[np.int64], t: int, whole: bool) -> float:
    """Product of the temporal loops, of the registers or of all levels, in which lanes can pass words on."""
    run = 1.0
    for d in range(problem.bounds.shape[0]):
        if _passes(problem, work, t, d):
            end = problem.bounds[d] // work.spread[0, d] if whole else extent[TILE, d]
            run *= end // work.lanes[0, d]
    return run


@inlined_kernel
def _lane_offsets(problem: Problem, work: Work, extent: NDArray[np.int64], t: int, c: int, least: bool) -> float:
    """Words that all lanes of a register level ask for in each cycle, on average, if the first loop is in group c.

    Without links the number of different offsets; with links a lower bound (docs/exact.md, "Links"). Sets
    lanes_open[t] to whether loops outside the registers can make it smaller: it is then divided by their leading run.
    """
    distinct = count_offsets(problem, work.lanes, work.ones, t, False)
    if not problem.peer_links:
        return distinct
    shared = product_of(problem, work.lanes, t, IRRELEVANT) > 1.0 or slides(problem, work.lanes, t, True)
    moves = slides(problem, work.lanes, t, False)
    if not (shared or moves):
        return distinct
    # Where ranks have one dim each, only a tensor at rest is passed on; else later steps may bring it back to where
    # it was, but the first step that moves it is at least half of the steps that are left.
    returns = False
    for d in range(problem.bounds.shape[0]):
        returns |= problem.partner[t, d] >= 0
    half = 0.5 if returns else 1.0
    ends = _ends(problem, work, extent, t)
    if not moves:
        if c != t:
            return distinct * half
        work.lanes_open[t] = 0 if ends else 1
        return distinct * half / _longest_run(problem, work, extent, t, least)
    remaining = product_of(problem, work.lanes, t, PINNED)
    run = _longest_run(problem, work, extent, t, least or not ends)
    offsets = (distinct - remaining) * half / run
    if not shared:
        offsets += remaining
    elif c != t:
        offsets += remaining * half
    return offsets


@kernel
def _fed(work: Work, t: int, words: float) -> float:
    """Energy of a tensor's accesses where the MACs are fed; outputs are read and updated, but for first visits."""
    return work.update[t] * words + max(0.0, work.read[t] * words - work.first_visits[t])


@kernel
def lane_gain(problem: Problem, work: Work, c: int, run: float) -> float:
    """What a run of loops of group c next to the registers adds to the least energy where the MACs are fed, pJ."""
    if not problem.peer_links:
        return 0.0
    energy = work.lane_base[c]
    if c < problem.words.shape[0] and work.lanes_open[c] != 0:
        energy = min(energy, work.rest_of_lanes[c] + _fed(work, c, work.lanes_at_rest[c] / run))
    return energy - work.lane_energy[0]


@inlined_kernel
def _weigh_fills(problem: Problem, keep: NDArray[np.bool_], work: Work, t: int, distinct: float, spread: float) -> None:
    """Sets the weights of the words that each register level receives of a tensor it keeps; adds to work.slack[0].

    Args:
        problem, keep, work: see :func:`energy_at_registers`.
        t: the tensor.
        distinct: different offsets of the blocks.
        spread: number of blocks.
    """
    outer = BUFFER if keep[BUFFER, t] else MEMORY
    charged = min(spread, problem.clusters)
    slid = problem.peer_links and slides(problem, work.spread, t, False)
    # A share that is a sum over multiplicities may be cut to the whole number below it.
    mixed = slid or distinct < product_of(problem, work.spread, t, PINNED) * _sliding_product(problem, work.spread, t)
    if mixed and int(spread) & (int(spread) - 1) != 0:
        work.slack[0] += problem.fill[REGISTERS, t] * charged
    if slid:
        # What neighbours read is rounded for each of them.
        work.slack[0] += 0.5 * problem.read[REGISTERS, t] * charged
    served = (problem.read[outer, t] + problem.update[outer, t]) * distinct
    work.weight[t] = work.linked_weight[t] = served + problem.fill[REGISTERS, t] * charged
    work.spared[t] = max(0.0, problem.read[outer, t] - problem.read[REGISTERS, t] * charged / spread)
    if problem.peer_links and has_sliding_rank(problem, t):
        # Neighbours pass words on, at one read more for each.
        remaining = product_of(problem, work.spread, t, PINNED) if slid else distinct
        if not problem.reuse_survives_stationary_steps and shares_offsets(problem, work.spread, t):
            remaining *= 0.5
        work.linked_weight[t] -= work.spared[t] * (distinct - remaining)


@inlined_kernel
def _set_feeding(problem: Problem, keep: NDArray[np.bool_], work: Work, t: int, spread: float) -> float:
    """Sets a tensor's energies where the MACs are fed; returns what first visits save elsewhere, and of fills."""
    outer = BUFFER if keep[BUFFER, t] else MEMORY
    feeding = REGISTERS if keep[REGISTERS, t] else outer
    # Instances that are built as one are charged once.
    share = min(spread, problem.clusters) / spread if feeding == REGISTERS else 1.0
    work.read[t], work.update[t] = problem.read[feeding, t] * share, problem.update[feeding, t] * share
    # The innermost level that keeps it sees the first visit of a word in each instance that gets a part of its sum.
    words = problem.words[t]
    if feeding == REGISTERS:
        words *= product_of(problem, work.spread, t, IRRELEVANT)
    work.first_visits[t] = problem.first_read[feeding, t] * share * words
    saved = problem.first_fill[feeding, t] * share * words
    if feeding == REGISTERS and outer == BUFFER:
        saved += (problem.first_read[BUFFER, t] + problem.first_fill[BUFFER, t]) * problem.words[t]
    if feeding != MEMORY:
        saved += problem.first_read[MEMORY, t] * problem.words[t]
    return saved


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
    cycles = problem.macs / (lanes * spread)
    energy = problem.mac_energy + cycles * (problem.leak[0] + problem.leak[1] * spread)
    work.slack[0] = 0.0
    for t in range(tensors):
        distinct = count_offsets(problem, work.spread, extent, t, least)
        if keep[REGISTERS, t]:
            work.unit[t] = problem.macs / lanes
            _weigh_fills(problem, keep, work, t, distinct, spread)
        else:
            served = _least_served(problem, work.spread, t) if problem.peer_links else distinct
            work.unit[t] = cycles * served
            work.weight[t] = work.linked_weight[t] = work.spared[t] = 0.0
        work.lanes_open[t] = 0
        energy -= _set_feeding(problem, keep, work, t, spread)
    least_lanes = np.inf
    for c in range(tensors + 1 if problem.peer_links else 1):
        rest, own = 0.0, 0.0
        for t in range(tensors):
            words = work.unit[t] * _lane_offsets(problem, work, extent, t, c, least)
            if t == c:
                work.lanes_at_rest[t] = words
                own = _fed(work, t, words)
            else:
                rest += _fed(work, t, words)
        if c < tensors:
            work.rest_of_lanes[c] = rest
        least_lanes = min(least_lanes, rest + own)
    work.lane_energy[0] = least_lanes
    for c in range(tensors + 1):
        work.lane_base[c] = least_lanes
    return energy + least_lanes - work.slack[0]


@kernel
def refine_by_orders(problem: Problem, work: Work, lanes: Lanes, extent: NDArray[np.int64]) -> float:
    """What looking at the orders of the registers' loops adds to the energy at the register level with links, pJ."""
    list_layouts(problem, lanes, work.lanes)
    if lanes.layouts[0] <= 0:
        return 0.0
    former = work.lane_energy[0]
    work.lane_energy[0] = _least_by_orders(problem, work, lanes, extent)
    return work.lane_energy[0] - former


@inlined_kernel
def _least_by_orders(problem: Problem, work: Work, lanes: Lanes, extent: NDArray[np.int64]) -> float:
    """Least energy where the MACs are fed, pJ, over the layouts of the lanes and the orders of the registers' loops.

    Sets what lane_gain needs.
    """
    dims, tensors = problem.bounds.shape[0], problem.words.shape[0]
    loops, outside = 1.0, 0
    for d in range(dims):
        loops *= extent[TILE, d] // work.lanes[0, d]
        if extent[TILE, d] * work.spread[0, d] != problem.bounds[d]:
            outside |= 1 << problem.group[d]
    for c in range(tensors + 1):
        work.lane_base[c] = np.inf
    for t in range(tensors):
        work.rest_of_lanes[t] = np.inf
        work.lanes_at_rest[t] = work.unit[t] * lanes.distinct[t] / loops
        work.lanes_open[t] = 0
    for layout in range(lanes.layouts[0]):
        start_orders(problem, lanes, extent, layout)
        depth = 0
        while depth >= 0:
            alive = False
            for t in range(tensors):
                alive |= lanes.alive[depth, t] != 0
            if alive and lanes.left[depth] != 0:
                d = lanes.turn[depth]
                while d < dims and not lanes.left[depth] >> d & 1:
                    d += 1
                if d < dims:
                    lanes.turn[depth] = d + 1
                    place_loop(problem, lanes, extent, layout, depth, d)
                    depth += 1
                else:
                    depth -= 1
                continue
            if alive and outside != 0:
                for c in range(tensors + 1):
                    if outside >> c & 1:
                        energy = _least_with_first(problem, work, lanes, extent, layout, depth, c)
                        work.lane_base[c] = min(work.lane_base[c], energy)
            else:
                energy = _least_with_first(problem, work, lanes, extent, layout, depth, -1)
                for c in range(tensors + 1):
                    work.lane_base[c] = min(work.lane_base[c], energy)
            depth -= 1
    least = np.inf
    for c in range(tensors + 1):
        least = min(least, work.lane_base[c])
    return least


@kernel
def _least_with_first(problem: Problem, work: Work, lanes: Lanes, extent: NDArray[np.int64], layout: int,
                      depth: int, c: int) -> float:  # fmt: skip
    """Least energy of one order where the MACs are fed if the first loop outside the registers is in group c, pJ.

    With c = -1 no later step is served.
    """
    rest, own, open_ = 0.0, 0.0, False
    for t in range(problem.words.shape[0]):
        outside = float(lanes.distinct[t])
        if c >= 0 and lanes.alive[depth, t] != 0:
            if lanes.sliding[t]:
                outside = asked_outside(problem, lanes, work.spread, extent, layout, depth, t, c)
                if t == c and lanes.moved[depth, t] == 0:
                    at_rest = work.unit[t] * outside / lanes.inside[depth]
                    work.lanes_at_rest[t] = min(work.lanes_at_rest[t], at_rest)
            open_ |= t == c and lanes.moved[depth, t] == 0
        energy = _fed(work, t, work.unit[t] * (lanes.asked[depth, t] + outside / lanes.inside[depth]))
        if t == c:
            own = energy
        else:
            rest += energy
    if open_:
        work.lanes_open[c] = 1
        work.rest_of_lanes[c] = min(work.rest_of_lanes[c], rest)
    return rest + own


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
    served = product_of(problem, factors, t, PINNED)
    for d in range(problem.bounds.shape[0]):
        other = problem.partner[t, d]
        if other > d:
            served *= max(factors[0, d], factors[0, other])
    return served
