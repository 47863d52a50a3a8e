"""Lower bounds for a register tile under a choice of spatial factors, and for a buffer tile with it.

The formulas and the proofs that they are bounds are in docs/exact.md ("Bounds", "Links").
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import inlined_kernel, kernel
from mapgym.cost.optimum.lane_kernels import Lanes
from mapgym.cost.optimum.lattice_kernels import Chains, Lattice
from mapgym.cost.optimum.offset_kernels import (
    count_offsets,
    served_along,
    served_anywhere,
    shares_offsets,
    sliding_length,
)
from mapgym.cost.optimum.orders_kernels import OrderScratch
from mapgym.cost.optimum.problem import BLOCK, BUFFER, BUFFER_TILE, TILE, Problem
from mapgym.cost.optimum.register_kernels import energy_at_registers, lane_gain, refine_by_orders
from mapgym.cost.optimum.work import Work


@inlined_kernel
def _list_buffer_options(problem: Problem, work: Work, s: OrderScratch) -> bool:
    """Buffer extents of each dim above the block; whether there are any."""
    for d in range(problem.bounds.shape[0]):
        count = 0
        for v in range(work.block_index[d], problem.counts[d]):
            extent = problem.divisors[d, v]
            fixed = problem.temporal[BUFFER, d]
            if extent % s.extent[BLOCK, d] != 0 or not problem.allowed[BUFFER, d, v]:
                continue
            if fixed > 0 and extent != fixed * s.extent[BLOCK, d]:
                continue
            work.buffer_options[d, count] = v
            count += 1
        if count == 0:
            return False
        work.buffer_counts[d] = count
    return True


@inlined_kernel
def _set_shares(problem: Problem, work: Work, s: OrderScratch, chains: Chains) -> None:
    """What is left of the traffic of each tensor after loops that do not move it, at least."""
    for t in range(problem.words.shape[0]):
        work.rest[t] = 1.0
        for d in range(problem.bounds.shape[0]):
            other = problem.partner[t, d]
            if problem.reuse_survives_stationary_steps:
                # The loop that moves it first counts as if it were the first of all.
                if other >= 0 and s.extent[BLOCK, d] < problem.bounds[d]:
                    work.rest[t] = min(work.rest[t], _slide(problem, work, s, chains, t, d, -1))
            elif other > d:
                share = chains.resting[t, d, work.block_index[d], work.block_index[other]]
                work.rest[t] = min(work.rest[t], 1.0 - share)


@kernel
def _slide(problem: Problem, work: Work, s: OrderScratch, chains: Chains, t: int, d: int, v: int) -> float:
    """Share of a tensor's traffic left if the first loop is of dim d; v: index of its buffer extent, -1 if unknown."""
    other = problem.partner[t, d]
    if other < 0:
        return 1.0
    length = sliding_length(problem, s.extent, t, d, TILE)
    distance = min(length, problem.coefficient[t, d] * s.extent[BLOCK, d])
    if distance == length and not problem.reuse_survives_stationary_steps:
        return 1.0
    block, other_block, saved = work.block_index[d], work.block_index[other], 0.0
    for w in range(block if v < 0 else v, problem.counts[d] if v < 0 else v + 1):
        share = (1.0 - distance / length) * chains.sliding[t, d, block, w, other_block]
        if problem.reuse_survives_stationary_steps:
            share += chains.returning[t, d, block, w, other_block]
        saved = max(saved, share)
    return 1.0 - saved


@kernel
def _after_first(problem: Problem, work: Work, s: OrderScratch, chains: Chains, steps: float, d: int, v: int,
                 run: float) -> float:  # fmt: skip
    """Least traffic energy of the register levels if the first loop is of dim d and its group's run is known.

    v is the index of the dim's buffer extent, -1 if unknown; d is -1 if there is no loop.
    """
    energy = 0.0
    for t in range(problem.words.shape[0]):
        if work.weight[t] > 0.0:
            if d < 0:
                energy += work.weight[t] * work.words[t]
            else:
                at_rest = problem.group[d] == t
                share = work.rest[t] / run if at_rest else _slide(problem, work, s, chains, t, d, v)
                energy += work.first_weight[t, d] * work.words[t] * steps * share
    return energy


@kernel
def _quick_bound(problem: Problem, work: Work, s: OrderScratch, chains: Chains, steps: float, c: int) -> float:
    """Least traffic energy of the register levels, less what links gain, if the first loop is in group c."""
    if steps == 1.0:
        return lane_gain(problem, work, c, 1.0) + _after_first(problem, work, s, chains, steps, -1, -1, 1.0)
    run, least = 1.0, np.inf
    for d in range(problem.bounds.shape[0]):
        if problem.group[d] == c:
            run *= problem.bounds[d] // s.extent[BLOCK, d]
    for d in range(problem.bounds.shape[0]):
        if problem.group[d] == c and s.extent[BLOCK, d] < problem.bounds[d]:
            least = min(least, _after_first(problem, work, s, chains, steps, d, -1, run))
    return least + lane_gain(problem, work, c, run)


@inlined_kernel
def _class_bound(problem: Problem, lattice: Lattice, work: Work, s: OrderScratch, chains: Chains, steps: float,
                 c: int) -> float:  # fmt: skip
    """Least traffic energy, memory included, if the first loop is in group c, over all buffer tiles."""
    dims = problem.bounds.shape[0]
    start = 0
    for d in range(dims):
        start += work.block_index[d] * problem.stride[d]
        work.buffer_turn[d] = 0
    # All loops of the buffer are in the group, so that the run goes on in the memory's order.
    best = _quick_bound(problem, work, s, chains, steps, c) + lattice.beyond[c, start]
    while True:
        tile, run = 0, 1.0
        for d in range(dims):
            v = work.block_index[d]
            if problem.group[d] == c:
                v = work.buffer_options[d, work.buffer_turn[d]]
                run *= problem.divisors[d, v] // s.extent[BLOCK, d]
            tile += v * problem.stride[d]
        outside = lattice.outside[c, tile] + lane_gain(problem, work, c, run)
        if outside < best:
            if steps == 1.0:
                best = min(best, outside + _after_first(problem, work, s, chains, steps, -1, -1, 1.0))
            for d in range(dims):
                if problem.group[d] == c:
                    v = work.buffer_options[d, work.buffer_turn[d]]
                    if v != work.block_index[d]:
                        best = min(best, outside + _after_first(problem, work, s, chains, steps, d, v, run))
        d = 0
        while d < dims:
            if problem.group[d] == c:
                work.buffer_turn[d] += 1
                if work.buffer_turn[d] < work.buffer_counts[d]:
                    break
                work.buffer_turn[d] = 0
            d += 1
        if d == dims:
            return best


@kernel
def largest_gain(problem: Problem, work: Work, s: OrderScratch) -> float:
    """Lower bound of what links gain where the MACs are fed by loops outside the registers, pJ; <= 0."""
    gain = 0.0
    if problem.peer_links:
        for c in range(problem.words.shape[0]):
            run = 1.0
            for d in range(problem.bounds.shape[0]):
                if problem.group[d] == c:
                    run *= problem.bounds[d] // s.extent[BLOCK, d]
            gain = min(gain, lane_gain(problem, work, c, run))
    return gain


@inlined_kernel
def leaf_bound(problem: Problem, work: Work, s: OrderScratch, chains: Chains, steps: float) -> float:
    """Least traffic energy of the register levels for one buffer tile, whatever the orders."""
    dims, tensors = problem.bounds.shape[0], problem.words.shape[0]
    # The group, if any, that holds all loops of the buffer.
    only, several = -1, False
    for d in range(dims):
        if s.extent[BUFFER_TILE, d] != s.extent[BLOCK, d]:
            several |= only >= 0 and only != problem.group[d]
            only = problem.group[d]
    best = np.inf
    for c in range(tensors + 1):
        if steps == 1.0:
            # No loop outside the registers.
            least = _after_first(problem, work, s, chains, steps, -1, -1, 1.0)
            best = min(best, least + lane_gain(problem, work, c, 1.0))
            continue
        extends = not several and (only == c or only < 0)
        run, least = 1.0, np.inf
        for d in range(dims):
            if problem.group[d] == c:
                run *= (problem.bounds[d] if extends else s.extent[BUFFER_TILE, d]) // s.extent[BLOCK, d]
        for d in range(dims):
            end = problem.bounds[d] if extends else s.extent[BUFFER_TILE, d]
            if problem.group[d] == c and end != s.extent[BLOCK, d]:
                v = int(np.int64(problem.position[d, s.extent[BUFFER_TILE, d]]))
                least = min(least, _after_first(problem, work, s, chains, steps, d, v, run))
        if least < np.inf:
            best = min(best, least + lane_gain(problem, work, c, run))
    return best


@inlined_kernel
def bound_tile(problem: Problem, keep: NDArray[np.bool_], lattice: Lattice, chains: Chains, work: Work, lanes: Lanes,
                s: OrderScratch, tile: int, steps: float, limit: float) -> float:  # fmt: skip
    """Lower bound of the energy with one register tile, pJ: a quick one if that reaches the limit, else the best."""
    energy = energy_at_registers(problem, keep, work, s.extent, False)
    least = energy + largest_gain(problem, work, s) + lattice.anywhere[tile]
    if least >= limit:
        return least
    _set_shares(problem, work, s, chains)
    set_first_weights(problem, work, s, chains)
    bound = energy + lattice.anywhere[tile] + _quickest(problem, work, s, chains, steps)
    if bound >= limit:
        return bound
    if problem.peer_links:
        # Looking at the orders of the registers' loops costs most, so it comes last.
        energy += refine_by_orders(problem, work, lanes, s.extent)
        bound = max(bound, energy + lattice.anywhere[tile] + _quickest(problem, work, s, chains, steps))
        if bound >= limit:
            return bound
    if not _list_buffer_options(problem, work, s):
        return np.inf
    exact = np.inf
    for c in range(problem.words.shape[0] + 1):
        exact = min(exact, _class_bound(problem, lattice, work, s, chains, steps, c))
    return max(bound, energy + exact)


@kernel
def _quickest(problem: Problem, work: Work, s: OrderScratch, chains: Chains, steps: float) -> float:
    """Least traffic energy of the register levels, less what links gain, whatever the first loop."""
    least = np.inf
    for c in range(problem.words.shape[0] + 1):
        least = min(least, _quick_bound(problem, work, s, chains, steps, c))
    return least


@inlined_kernel
def set_first_weights(problem: Problem, work: Work, s: OrderScratch, chains: Chains) -> None:
    """Sets the least energy for each word that a register level receives, by the first loop outside it."""
    for t in range(problem.words.shape[0]):
        for d in range(problem.bounds.shape[0]):
            work.first_weight[t, d] = work.weight[t]
            other = problem.partner[t, d]
            if problem.peer_links and work.spared[t] > 0.0 and other >= 0 and s.extent[BLOCK, d] < problem.bounds[d]:
                work.first_weight[t, d] -= work.spared[t] * _most_served(problem, work, s, chains, t, d, other)


@inlined_kernel
def _most_served(problem: Problem, work: Work, s: OrderScratch, chains: Chains, t: int, d: int, other: int) -> float:
    """Offsets that links serve if the first loop is of dim d, on average over the tensor's words, at most."""
    distance = problem.coefficient[t, d] * s.extent[BLOCK, d]
    served = served_along(problem, work.spread, s.extent, t, d, distance)
    if distance < sliding_length(problem, s.extent, t, d, TILE):
        # Tiles that overlap: only steps of the same length meet tiles of the same shape.
        return served if chains.repeats[t, d, work.block_index[d], work.block_index[other]] else 0.0
    later = served_anywhere(problem, work.spread, s.extent, t)
    costs_to_rest = not problem.reuse_survives_stationary_steps
    if costs_to_rest and s.extent[BLOCK, other] < problem.bounds[other] and shares_offsets(problem, work.spread, t):
        # The other dim's loops may bring the tile back to where it was.
        later = count_offsets(problem, work.spread, s.extent, t, False)
    factor, bound = 2, problem.bounds[d] // s.extent[BLOCK, d]
    while bound % factor != 0:
        factor += 1
    return max(served, served + (later - served) / factor)
