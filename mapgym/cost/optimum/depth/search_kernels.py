"""The search below a choice of spatial factors and kept tensors: chains of extents from the inside out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import inlined_kernel, kernel
from mapgym.cost.optimum.depth.boundary_kernels import State, count_distinct, least_at_macs, spread, weigh
from mapgym.cost.optimum.depth.network_kernels import Networks
from mapgym.cost.optimum.depth.order_kernels import Orders, order_loops, start
from mapgym.cost.optimum.depth.problem import Problem
from mapgym.cost.optimum.depth.slide_kernels import Slides
from mapgym.cost.optimum.depth.table_kernels import OPTIONS, Tables, Tile, bound_extents, bound_tile
from mapgym.cost.optimum.offset_kernels import words_in_use
from mapgym.cost.optimum.solver_kernels import advance

PROMISING, THOROUGH, RECORDING = range(3)
"""How far a search goes."""

ORDERS_PER_STEP = 100
"""How many steps the search of one chain's orders takes as long as, roughly."""


class Descent(NamedTuple):
    """Working memory: one row for each level whose extents are being chosen."""

    option: NDArray[np.int64]  # [S, D, V] indices of extents to try
    counts: NDArray[np.int64]  # [S, D]
    turn: NDArray[np.int64]  # [S, D]
    promising: NDArray[np.int64]  # [S, D] the turn with the least bound
    slot: NDArray[np.int64]  # [S + 1] where the tables of each boundary are
    settled: NDArray[np.float64]  # [S] energy (pJ) that no more choices change, by the level that was chosen last
    merges: NDArray[np.bool_]  # [S] whether a level's loops may as well be those of the next level
    refines: NDArray[np.bool_]  # [1] whether links past a boundary depend on the tile below it
    found: NDArray[np.int64]  # [S, D] extents of the best chain
    loops: NDArray[np.int64]  # [D * S] its loops, as Orders.best
    place: NDArray[np.int64]  # [2] the level that is being searched, 0 when done; steps left before a pause


class Extremes(NamedTuple):
    """What choices that are still open can do, at most."""

    parallel: NDArray[np.float64]  # [S] largest product of spatial factors of each level
    distinct: NDArray[np.float64]  # [S, T] least share of the instances of each level that have different offsets
    may_keep: NDArray[np.bool_]  # [S, T] whether any choice of a level keeps a tensor


class Memory(NamedTuple):
    """Working memory of a search; ``descent.slot`` says where in the tables those of a boundary are."""

    orders: Orders
    descent: Descent
    tables: Tables  # with an axis more in front
    tile: Tile


@kernel
def bound_children(
    problem: Problem,
    networks: Networks,
    state: State,
    s: int,
    outside: Tables,
    keeps: NDArray[np.bool_],
    count: int,
    extremes: Extremes,
    out: NDArray[np.float64],
    cycles: NDArray[np.float64],
) -> None:
    """Lower bounds for all choices of level s, whose outer levels are chosen, and of what level s - 1 keeps.

    Args:
        problem, networks, state: the task; the state is set for the levels outside s.
        s: the level, not the innermost one.
        outside: tables of boundary s + 1.
        keeps: bool[k, T] what level s - 1 may keep.
        count: n, how many choices of spatial factors there are.
        extremes: of the levels inside s.
        out: float64[k, n], receives energies in pJ; inf where the choice does not fit.
        cycles: float64[k, n], receives cycles of the MACs.
    """
    dims, tensors = problem.bounds.shape[0], problem.words.shape[0]
    for i in range(count):
        state.choice[s] = i
        spread(problem, networks, state, s)
        tile, fits = 0, True
        for d in range(dims):
            fits &= problem.bounds[d] % state.outer[s, d] == 0
            if fits:
                tile += problem.position[d, state.spatial[s, d]] * problem.stride[d]
        for k in range(keeps.shape[0]):
            out[k, i] = cycles[k, i] = np.inf
            if not fits or outside.anywhere[tile] == np.inf:
                continue
            for t in range(tensors):
                state.keep[s - 1, t] = keeps[k, t]
            weigh(problem, networks, state, s)
            energy = bound_inside(problem, state, s, extremes) + outside.anywhere[tile]
            for t in range(tensors):
                energy += state.weight[s, t] * words_in_use(problem, state.outer, s, t)
            parallel = state.used[s]
            for u in range(s):
                parallel *= extremes.parallel[u]
            out[k, i] = energy
            cycles[k, i] = problem.macs / min(parallel, problem.macs)


@kernel
def bound_inside(problem: Problem, state: State, s: int, extremes: Extremes) -> float:
    """Energy (pJ) beside that of boundary s and those outside it, at least, where nothing further in is chosen."""
    energy = problem.mac_energy
    for b in range(s, problem.serve.shape[0]):
        energy += state.known[b]
    for t in range(problem.words.shape[0]):
        energy += _least_feed(problem, state, s, t, extremes)
    return energy


@inlined_kernel
def _least_delivery(problem: Problem, state: State, s: int, t: int) -> float:
    """Energy (pJ) of giving each word to a level inside s - 1 once, at least, at the innermost level that keeps it."""
    for u in range(s - 1, problem.serve.shape[0]):
        if state.keep[u, t]:
            once = (problem.serve[u, t] - problem.first_read[u, t]) * words_in_use(
                problem, state.outer, len(state.keep), t
            )
            return min(1.0, problem.clusters[u] / state.used[u + 1]) * once
    return 0.0


@kernel
def _least_feed(problem: Problem, state: State, s: int, t: int, extremes: Extremes) -> float:
    """Energy (pJ) of what the MACs ask for of a tensor, at least, where levels below s - 1 are not chosen.

    The level that feeds them is one that may still keep the tensor, or the innermost one that does.
    """
    least, share = np.inf, 1.0
    for u in range(problem.serve.shape[0]):
        share *= state.distinct[u, t] * state.used[u + 1] / state.used[u] if u >= s else extremes.distinct[u, t]
        is_open = u < s - 1
        if extremes.may_keep[u, t] if is_open else state.keep[u, t]:
            instances = state.used[max(u + 1, s)]
            for v in range(u + 1, s):
                instances *= extremes.parallel[v]
            asked = problem.macs * share
            energy = problem.serve[u, t] * asked - problem.first_read[u, t] * min(asked, problem.words[t] * instances)
            energy *= min(1.0, problem.clusters[u] / instances)
            if is_open:
                energy += _least_delivery(problem, state, s, t)
            least = min(least, energy)
        if not is_open and state.keep[u, t]:
            break
    return least


@kernel
def bound_tiles(
    problem: Problem,
    slides: Slides,
    networks: Networks,
    state: State,
    outside: Tables,
    tiles: NDArray[np.int64],
    tile: Tile,
    limit: float,
    bounds: NDArray[np.float64],
) -> None:
    """Least energy of all boundaries but that above the MACs for the tiles of level 0, float64[n].

    What is above the limit may be bounded less tightly.
    """
    dims = problem.bounds.shape[0]
    for row in range(tiles.shape[0]):
        for d in range(dims):
            tile.extent[0, d] = problem.divisors[d, tiles[row] // problem.stride[d] % problem.counts[d]]
        bounds[row] = bound_tile(problem, slides, networks, state, 1, outside, tile, 0, limit, limit < np.inf)


@inlined_kernel
def _list_options(problem: Problem, state: State, o: Orders, descent: Descent, s: int) -> bool:
    """Extents of each dim of a level, given those of the level below; whether there are any."""
    levels = problem.serve.shape[0]
    for d in range(problem.bounds.shape[0]):
        block = o.extent[s - 1, d] * state.spatial[s, d]
        count = 0
        for v in range(problem.counts[d]):
            extent = problem.divisors[d, v]
            whole = extent * state.outer[s + 1, d]
            if extent % block != 0 or problem.bounds[d] % whole != 0 or not problem.allowed[s, d, v]:
                continue
            fixed = problem.temporal[s, d]
            if (fixed > 0 and extent != fixed * block) or (descent.merges[s] and extent != block):
                continue
            if s == levels - 2:
                fixed = problem.temporal[s + 1, d]
                if fixed > 0 and problem.bounds[d] != fixed * whole:
                    continue
            descent.option[s, d, count] = v
            count += 1
        descent.counts[s, d], descent.turn[s, d] = count, 0
        if count == 0:
            return False
    return True


@inlined_kernel
def _set_extents(problem: Problem, o: Orders, descent: Descent, s: int) -> int:
    """Sets the extents of a level by its turn; returns the place of the tile in the lattice."""
    at = 0
    for d in range(problem.bounds.shape[0]):
        v = descent.option[s, d, descent.turn[s, d]]
        o.extent[s, d] = problem.divisors[d, v]
        at += v * problem.stride[d]
    return at


@kernel
def _bound_chain(
    problem: Problem,
    slides: Slides,
    networks: Networks,
    state: State,
    memory: Memory,
    s: int,
    at: int,
    limit: float,
) -> float:
    """Least energy (pJ) of all boundaries but that above the MACs, given the extents of the levels up to s.

    Args:
        problem, slides, networks, state: the task.
        memory: with the extents.
        s: the level.
        at: place of its tile in the lattice.
        limit: what is above it may be bounded less tightly.
    """
    o, tables, tile = memory.orders, memory.tables, memory.tile
    dims, tensors = problem.bounds.shape[0], problem.words.shape[0]
    slot = memory.descent.slot[s + 1]
    least = tables.least[slot, at]
    for c in range(tensors + 1):
        for r in range(OPTIONS):
            tile.value[s + 1, c, r], tile.run[s + 1, c, r] = tables.value[slot, c, r, at], tables.run[slot, c, r, at]
    for b in range(s, 0, -1):
        for d in range(dims):
            tile.extent[0, d] = o.extent[b - 1, d]
            tile.loop[d] = o.extent[b, d] // (o.extent[b - 1, d] * state.spatial[b, d])
        least = bound_extents(problem, slides, networks, state, b, least, tile)
        if least >= limit:
            break
    return least


@kernel
def _settle(problem: Problem, networks: Networks, state: State, o: Orders, s: int) -> float:
    """Energy (pJ) that no more choices change; offsets are counted for the extents of the levels up to s."""
    levels = problem.serve.shape[0]
    depends = False
    for u in range(1, levels):
        if u <= s + 1:
            depends |= count_distinct(problem, networks, state, u, o.extent[u - 1])
        else:
            for t in range(problem.words.shape[0]):
                depends |= networks.is_paired[u, state.choice[u], t]
                state.distinct[u, t] = networks.distinct[u, state.choice[u], t]
    if depends:
        for b in range(levels):
            weigh(problem, networks, state, b)
    settled = least_at_macs(problem, networks, state)
    for b in range(1, levels):
        settled += state.known[b]
    return settled


@kernel
def _search_orders(
    problem: Problem, networks: Networks, state: State, o: Orders, descent: Descent, limit: float, recording: bool
) -> float:
    """The least energy of the chain in ``o.extent``, all boundaries and what the MACs do, if it is below the limit."""
    levels, dims = o.extent.shape
    settled = _settle(problem, networks, state, o, levels - 2)
    start(problem, networks, state, o)
    found = order_loops(problem, networks, state, o, limit - settled, recording) + settled
    if not recording and found < limit:
        limit = found
        for s in range(levels):
            for d in range(dims):
                descent.found[s, d] = o.extent[s, d]
        for k in range(descent.loops.shape[0]):
            descent.loops[k] = o.best[1, k]
    return limit


@kernel
def search_tile(
    problem: Problem,
    slides: Slides,
    networks: Networks,
    state: State,
    memory: Memory,
    innermost: int,
    limit: float,
    mode: int,
    resumes: bool,
) -> float:
    """The least energy (pJ) of all chains with a tile of level 0, over all orders; the limit if none is below it.

    Args:
        problem, slides, networks, state: the task, with everything chosen but the extents.
        memory: working memory; ``descent.found`` and ``loops`` become what was found.
        innermost: place of the tile of level 0 in the lattice.
        limit: energy to beat.
        mode: PROMISING to look at the most promising chain only, THOROUGH at every one that the bounds leave,
            RECORDING to record all solutions below the limit instead.
        resumes: whether to go on where the last call paused.
    """
    o, descent = memory.orders, memory.descent
    levels, dims = o.extent.shape
    thorough, recording = mode != PROMISING, mode == RECORDING
    for d in range(dims):
        o.extent[0, d] = problem.divisors[d, innermost // problem.stride[d] % problem.counts[d]]
        o.extent[levels - 1, d] = problem.bounds[d]
    refines = descent.refines[0]
    settled = _settle(problem, networks, state, o, 0 if refines else -1)
    descent.settled[0] = settled
    s = descent.place[0]
    if not resumes:
        descent.place[0] = 0
        if levels == 2:
            return _search_orders(problem, networks, state, o, descent, limit, recording)
        s = 1
        if not _list_options(problem, state, o, descent, s):
            return limit
        if not thorough:
            _go_to_promising(problem, slides, networks, state, memory, s)
    while s > 0:
        descent.place[1] -= 1
        if descent.place[1] < 0 and thorough:
            break
        at = _set_extents(problem, o, descent, s)
        descends = False
        if descent.settled[s - 1] + memory.tables.least[descent.slot[s + 1], at] < limit:
            if refines:
                settled = _settle(problem, networks, state, o, s)
            descent.settled[s] = settled
            rest = limit - settled
            if _bound_chain(problem, slides, networks, state, memory, s, at, rest) < rest:
                if s < levels - 2:
                    descends = _list_options(problem, state, o, descent, s + 1)
                else:
                    whole = int(problem.stride[dims]) - 1
                    if _bound_chain(problem, slides, networks, state, memory, s + 1, whole, rest) < rest:
                        descent.place[1] -= ORDERS_PER_STEP
                        limit = _search_orders(problem, networks, state, o, descent, limit, recording)
        if descends:
            s += 1
            if not thorough:
                _go_to_promising(problem, slides, networks, state, memory, s)
        else:
            while s > 0 and advance(descent.turn[s], descent.counts[s], 0):
                s -= 1
    descent.place[0] = s
    return limit


@kernel
def _go_to_promising(
    problem: Problem, slides: Slides, networks: Networks, state: State, memory: Memory, s: int
) -> None:
    """Leaves only the extents of a level that have the least bound."""
    o, descent, tables = memory.orders, memory.descent, memory.tables
    dims = problem.bounds.shape[0]
    least = np.inf
    for d in range(dims):
        descent.promising[s, d] = 0
    while True:
        at = _set_extents(problem, o, descent, s)
        if tables.least[descent.slot[s + 1], at] < least:
            bound = _bound_chain(problem, slides, networks, state, memory, s, at, least)
            if bound < least:
                least = bound
                for d in range(dims):
                    descent.promising[s, d] = descent.turn[s, d]
        if advance(descent.turn[s], descent.counts[s], 0):
            break
    for d in range(dims):
        v = descent.option[s, d, descent.promising[s, d]]
        descent.option[s, d, 0] = v
        descent.counts[s, d], descent.turn[s, d] = 1, 0
