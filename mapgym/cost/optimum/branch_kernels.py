"""Bounds for each register tile under a choice of spatial factors; what they leave is searched exactly.

The formulas and the proofs that they are bounds are in docs/exact.md ("Bounds").
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import inlined_kernel, kernel
from mapgym.cost.optimum.block_kernels import set_first_weights
from mapgym.cost.optimum.lane_kernels import Lanes
from mapgym.cost.optimum.lattice_kernels import Chains, Lattice
from mapgym.cost.optimum.offset_kernels import slides, sliding_length
from mapgym.cost.optimum.order_kernels import OrderScratch, least_energy, tile_words
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
def _advance(turn: NDArray[np.int64], counts: NDArray[np.int64], first: int) -> bool:
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
def _set_shares(problem: Problem, work: Work, chains: Chains) -> None:
    """What coincidences leave of the traffic of each tensor while other loops keep it in place."""
    for t in range(problem.words.shape[0]):
        work.rest[t] = 1.0
        for d in range(problem.bounds.shape[0]):
            other = problem.partner[t, d]
            if other > d:
                share = chains.resting[t, d, work.block_index[d], work.block_index[other]]
                work.rest[t] = min(work.rest[t], 1.0 - share)


@kernel
def _slide(problem: Problem, work: Work, s: OrderScratch, chains: Chains, t: int, d: int, v: int) -> float:
    """Share of a tensor's traffic left if the first loop is of dim d; v: index of its buffer extent, -1 if unknown."""
    other = problem.partner[t, d]
    if other < 0:
        return 1.0
    length = sliding_length(problem, s.extent, t, d, TILE)
    distance = problem.coefficient[t, d] * s.extent[BLOCK, d]
    if distance >= length:
        return 1.0
    block, other_block = work.block_index[d], work.block_index[other]
    share = 0.0
    if v >= 0:
        share = chains.sliding[t, d, block, v, other_block]
    else:
        for w in range(block, problem.counts[d]):
            share = max(share, chains.sliding[t, d, block, w, other_block])
    return 1.0 - (1.0 - distance / length) * share


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


@inlined_kernel
def _search_leaves(problem: Problem, lattice: Lattice, work: Work, s: OrderScratch, chains: Chains, energy: float,
                   steps: float, limit: float) -> float:  # fmt: skip
    """The least energy over all buffer tiles and orders for one register tile; notes it if it is below the limit."""
    dims, tensors = problem.bounds.shape[0], problem.words.shape[0]
    gain, slack = _largest_gain(problem, work, s), work.slack[0]
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
        if energy + gain + memory < limit and energy + memory + _leaf_bound(problem, work, s, chains, steps) < limit:
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
        if _advance(work.buffer_turn, work.buffer_counts, 0):
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
def _largest_gain(problem: Problem, work: Work, s: OrderScratch) -> float:
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
def _leaf_bound(problem: Problem, work: Work, s: OrderScratch, chains: Chains, steps: float) -> float:
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
                bound = _bound_tile(problem, keep, lattice, chains, work, lanes, s, tile, steps, limit)
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
            if free or _advance(work.register_turn, work.register_counts, first):
                break
    return proven, limit


@inlined_kernel
def _bound_tile(problem: Problem, keep: NDArray[np.bool_], lattice: Lattice, chains: Chains, work: Work, lanes: Lanes,
                s: OrderScratch, tile: int, steps: float, limit: float) -> float:  # fmt: skip
    """Lower bound of the energy with one register tile, pJ: a quick one if that reaches the limit, else the best."""
    energy = energy_at_registers(problem, keep, work, s.extent, False)
    least = energy + _largest_gain(problem, work, s) + lattice.anywhere[tile]
    if least >= limit:
        return least
    _set_shares(problem, work, chains)
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
