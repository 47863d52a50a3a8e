"""The search below a choice of spatial factors, and lower bounds for all choices; docs/exact.md has the proofs.

Bounds rule register tiles and buffer tiles out; what they leave is searched exactly.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import inlined_kernel, kernel
from mapgym.cost.optimum.bound_kernels import bound_tile, largest_gain, leaf_bound
from mapgym.cost.optimum.lane_kernels import Lanes
from mapgym.cost.optimum.lattice_kernels import Chains, Lattice
from mapgym.cost.optimum.offset_kernels import slides, words_in_use
from mapgym.cost.optimum.orders_kernels import OrderScratch, least_energy, tile_words
from mapgym.cost.optimum.problem import BLOCK, BUFFER, BUFFER_TILE, INNER, OUTER, REGISTERS, TILE, Problem
from mapgym.cost.optimum.register_kernels import energy_at_registers, lane_gain, refine_by_orders
from mapgym.cost.optimum.work import Work


@inlined_kernel
def _list_register_options(problem: Problem, work: Work) -> bool:
    """Register extents of each dim that the spatial factors and fixed factors leave; whether there are any."""
    for d in range(problem.bounds.shape[0]):
        count = 0
        for v in range(problem.counts[d]):
            extent = problem.divisors[d, v]
            if extent % work.lanes[0, d] != 0 or problem.bounds[d] % (extent * work.spread[0, d]) != 0:
                continue
            fixed = problem.temporal[REGISTERS, d]
            if not problem.allowed[REGISTERS, d, v] or (fixed > 0 and extent != fixed * work.lanes[0, d]):
                continue
            work.register_options[d, count] = extent
            count += 1
        if count == 0:
            return False
        work.register_counts[d] = count
    return True


@inlined_kernel
def advance(turn: NDArray[np.int64], counts: NDArray[np.int64], first: int) -> bool:
    """Steps to the next choice of options, from the first dim on; returns whether there is none left."""
    d = first
    while d < len(turn):
        turn[d] += 1
        if turn[d] < counts[d]:
            break
        turn[d] = 0
        d += 1
    return d == len(turn)


@inlined_kernel
def _search_leaves(problem: Problem, lattice: Lattice, work: Work, s: OrderScratch, chains: Chains, energy: float,
                   steps: float, limit: float) -> float:  # fmt: skip
    """The least energy over all buffer tiles and orders for one register tile; notes it if it is below the limit."""
    dims, tensors = problem.bounds.shape[0], problem.words.shape[0]
    gain, slack = largest_gain(problem, work, s), work.slack[0]
    coupled = problem.peer_links and steps > 1.0
    for t in range(tensors):
        s.weight[INNER, t], s.weight[OUTER, t] = work.weight[t], lattice.weight[t]
        s.link[t] = 0.0
        if problem.peer_links and slides(problem, work.spread, t, False) and work.spared[t] > 0.0:
            s.link[t] = work.spared[t] / work.weight[t]
    for d in range(dims):
        work.buffer_turn[d] = 0
        s.spread[0, d] = work.spread[0, d]
    while True:
        tile = 0
        for d in range(dims):
            v = work.buffer_options[d, work.buffer_turn[d]]
            tile += v * problem.stride[d]
            s.extent[BUFFER_TILE, d] = problem.divisors[d, v]
        memory = lattice.memory[tile]
        if energy + gain + memory < limit and energy + memory + leaf_bound(problem, work, s, chains, steps) < limit:
            for d in range(dims):
                s.bound[INNER, d] = s.extent[BUFFER_TILE, d] // s.extent[BLOCK, d]
                s.bound[OUTER, d] = problem.bounds[d] // s.extent[BUFFER_TILE, d]
            for c in range(0 if coupled else -1, tensors + 1 if coupled else 0):
                # What links between lanes gain depends on the group of the first loop.
                start = energy
                if coupled:
                    start += lane_gain(problem, work, c, _leading_run(problem, s, c))
                found = start + least_energy(problem, s, memory, limit - start, True, c)
                if found < limit:
                    if slack > 0.0:
                        work.accepted[0] = min(work.accepted[0], found)
                    if found + slack < limit:
                        limit = found + slack
                        _note(problem, work, s)
        if advance(work.buffer_turn, work.buffer_counts, 0):
            return limit


@inlined_kernel
def _leading_run(problem: Problem, s: OrderScratch, c: int) -> float:
    """Largest product of leading loops in group c, for given tiles."""
    inner, whole, ends = 1.0, 1.0, False
    for d in range(problem.bounds.shape[0]):
        if problem.group[d] == c:
            inner *= s.bound[INNER, d]
            whole *= s.bound[INNER, d] * s.bound[OUTER, d]
        else:
            ends |= s.bound[INNER, d] > 1
    return inner if ends else whole


@inlined_kernel
def _note(problem: Problem, work: Work, s: OrderScratch) -> None:
    dims = problem.bounds.shape[0]
    for d in range(dims):
        work.best_lanes[d] = work.lanes[0, d]
        for k in range(3):
            work.best_extent[k, d] = s.extent[k, d]
        work.best_loops[d], work.best_loops[dims + d] = s.best_loops[d], s.best_loops[dims + d]


@kernel
def search_node(problem: Problem, keep: NDArray[np.bool_], lattice: Lattice, chains: Chains, work: Work, lanes: Lanes,
                s: OrderScratch, limit: float, exhaustive: bool) -> tuple[float, float]:  # fmt: skip
    """Searches all register tiles, buffer tiles and orders under the spatial factors in ``work``.

    Args:
        problem, keep, lattice, chains: the task, bool[2, T] what is kept, and their tables.
        work: with lanes and spread filled in; best_lanes, _extent and _loops become what was found below the limit.
        lanes, s: working memory.
        limit: energy to beat, pJ.
        exhaustive: whether to search below every register tile that the bounds leave; else only below the most
            promising one.

    Returns:
        (lower bound of the energy of everything not searched exactly, or the limit; the least energy found), pJ; the
        latter is the limit itself if nothing was below it.
    """
    dims, tensors = problem.bounds.shape[0], problem.words.shape[0]
    work.nodes[0] += 1
    work.accepted[0] = np.inf
    keeps_any = False
    for t in range(tensors):
        keeps_any |= keep[REGISTERS, t]
    # If registers keep nothing, their tile costs nothing and a smaller one leaves more choices (docs/exact.md).
    free = not keeps_any
    for d in range(dims):
        free &= problem.temporal[REGISTERS, d] == 0 and problem.temporal[BUFFER, d] == 0
        for t in range(tensors):
            # Which neighbours share a word depends on the tile if both dims of a rank are parallel.
            other = problem.partner[t, d]
            free &= other < 0 or work.spread[0, d] == 1 or work.spread[0, other] == 1
    if not _list_register_options(problem, work):
        return np.inf, limit
    proven, promising = np.inf, np.inf
    for again in range(2):
        if again and (exhaustive or promising >= limit):
            break
        for d in range(dims):
            work.register_turn[d] = 0
        while True:
            words = 0.0
            tile, steps = 0, 1.0
            for d in range(dims):
                extent = work.register_options[d, work.register_turn[d]]
                s.extent[TILE, d], s.extent[BLOCK, d] = extent, extent * work.spread[0, d]
                work.block_index[d] = problem.position[d, s.extent[BLOCK, d]]
                tile += work.block_index[d] * problem.stride[d]
                steps *= problem.bounds[d] // s.extent[BLOCK, d]
            for t in range(tensors):
                if keep[REGISTERS, t]:
                    work.words[t] = tile_words(problem, s.extent, TILE, t)
                    words += work.words[t]
            first = 0
            if words > problem.capacity[REGISTERS]:
                # Any larger extent of the first dim that is not at its smallest is too large as well.
                while first < dims and work.register_turn[first] == 0:
                    first += 1
                if first == dims:
                    break
                work.register_turn[first] = work.register_counts[first]
            else:
                bound = bound_tile(problem, keep, lattice, chains, work, lanes, s, tile, steps, limit)
                if again == 0:
                    proven = min(proven, bound)
                if bound < limit and (exhaustive or again == 1) and (exhaustive or bound <= promising):
                    energy = energy_at_registers(problem, keep, work, s.extent, False)
                    if problem.peer_links:
                        energy += refine_by_orders(problem, work, lanes, s.extent)
                    limit = min(limit, _search_leaves(problem, lattice, work, s, chains, energy, steps, limit))
                    if not exhaustive:
                        return proven, limit
                promising = min(promising, bound)
            if free or advance(work.register_turn, work.register_counts, first):
                break
    return proven, limit


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
            out[i] += work.linked_weight[t] * words_in_use(problem, work.spread, 0, t)
