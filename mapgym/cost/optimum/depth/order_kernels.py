"""The best orders of the temporal loops of all levels for a chain of extents, exactly.

Loops are placed from the inside out. Once no tensor can save anything at the boundaries inside of the level whose loops
are being placed, the rest of that level is free, and the levels outside it are a problem of their own (docs/exact.md).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import inlined_kernel, kernel
from mapgym.cost.optimum.depth.boundary_kernels import State, irrelevant
from mapgym.cost.optimum.depth.network_kernels import Networks, find_pattern
from mapgym.cost.optimum.depth.problem import Problem
from mapgym.cost.optimum.offset_kernels import sliding_length
from mapgym.cost.optimum.orders_kernels import DEAD, FRESH, STATIONARY, is_in_turn, tile_words
from mapgym.cost.optimum.problem import IRRELEVANT, PINNED

MOST_RECORDS = 4096


class Orders(NamedTuple):
    """Working memory, and what is found. Boundary s is fed by level s; boundary 0, above the MACs, is not looked at."""

    extent: NDArray[np.int64]  # [S, D] the chain
    loop: NDArray[np.int64]  # [S, D] bounds of the temporal loops
    step: NDArray[np.int64]  # [S, D] extent of the block that a loop steps by
    tile: NDArray[np.float64]  # [S, T] words of the tile below a boundary
    total: NDArray[np.float64]  # [S] product of the loops above a boundary
    pattern: NDArray[np.int64]  # [S, T] row of patterns, where offsets depend on the tile
    still: NDArray[np.float64]  # [depth, S, T] weights of the steps that need nothing
    saved: NDArray[np.float64]  # [depth, S, T] weights of the steps that need only the words of the first one
    part: NDArray[np.float64]  # [depth, S, T] share of the tile that such a step needs
    reach: NDArray[np.float64]  # [depth, S, T] weight that the loops not yet placed may add to these, at most
    first: NDArray[np.int64]  # [depth, S, T] translation of the first step that counts
    moved: NDArray[np.int64]  # [depth, S, T] sum of the steps placed
    state: NDArray[np.int64]  # [depth, S, T]
    suffix: NDArray[np.float64]  # [depth, S] product of the loops not yet placed
    left: NDArray[np.int64]  # [depth, S] bit masks of the loops not yet placed
    level: NDArray[np.int64]  # [depth] whose loops are being placed
    turn: NDArray[np.int64]  # [depth] next dim to try
    chosen: NDArray[np.int64]  # [depth]
    outside: NDArray[np.float64]  # [S + 1] least energy of the boundaries from each level on
    best: NDArray[np.int64]  # [S, D * S] loops (level * D + dim) placed from each level on, until the rest is free; -1
    records: NDArray[np.int64]  # [n, S * D + D * S] extents; loops that matter, -1 after the last
    recorded: NDArray[np.int64]  # [1]


@kernel
def start(problem: Problem, networks: Networks, state: State, o: Orders) -> None:
    """Prepares the chain in ``extent``."""
    levels, tensors = problem.serve.shape
    product = 1.0
    for s in range(levels - 1, -1, -1):
        for d in range(problem.bounds.shape[0]):
            below = o.extent[s - 1, d] if s > 0 else 1
            o.step[s, d] = below * state.spatial[s, d]
            o.loop[s, d] = o.extent[s, d] // o.step[s, d]
            product *= o.loop[s, d]
        o.total[s] = product
        for t in range(tensors):
            o.tile[s, t] = tile_words(problem, o.extent, s - 1, t) if s > 0 else 1.0
            if s > 0 and networks.is_paired[s, state.choice[s], t]:
                o.pattern[s, t] = find_pattern(problem, networks, s, state.choice[s], o.extent[s - 1], t)


@inlined_kernel
def _account(problem: Problem, o: Orders, depth: int, b: int, t: int, d: int, step_extent: int, n: int) -> None:
    """Accounts for a loop of dim d at one boundary for one tensor: state of depth + 1 from that of depth."""
    state, still, saved = o.state[depth, b, t], o.still[depth, b, t], o.saved[depth, b, t]
    part, first, moved = o.part[depth, b, t], o.first[depth, b, t], o.moved[depth, b, t]
    survives = problem.reuse_survives_stationary_steps
    reach = 0.0
    if state != DEAD:
        weight = o.suffix[depth, b] - o.suffix[depth, b] / n
        role = problem.role[t, d]
        step = problem.key[t, d] * step_extent
        if state == FRESH or (state == STATIONARY and survives):
            if role == IRRELEVANT:
                state, still = STATIONARY, still + weight
            else:
                state = DEAD
                if role != PINNED:
                    length = sliding_length(problem, o.extent, t, d, b - 1)
                    distance = problem.coefficient[t, d] * step_extent
                    if distance < length:
                        state, part, first, saved = role, distance / length, step, weight
                    elif survives:
                        state, first = role, step
        else:
            if step == moved and (survives or first == 0):
                still += weight
            elif step - moved == first:
                saved += weight
            if role == PINNED or (role >= 0 and state >= 0 and role != state):
                state = DEAD
            elif role >= 0:
                state = role
        moved += step
        if state != DEAD:
            reach = _reach(problem, o, depth + 1, b, t, state, moved, first)
            state = state if reach > 0.0 else DEAD
    o.state[depth + 1, b, t], o.still[depth + 1, b, t], o.saved[depth + 1, b, t] = state, still, saved
    o.part[depth + 1, b, t], o.first[depth + 1, b, t], o.moved[depth + 1, b, t] = part, first, moved
    o.reach[depth + 1, b, t] = reach


@kernel
def _reach(problem: Problem, o: Orders, depth: int, b: int, t: int, state: int, moved: int, first: int) -> float:
    """Weight of the steps in which loops that are still to be placed could save words of a tensor, at most."""
    loops, count, translation = 1, 0, 0
    for d in range(problem.bounds.shape[0]):
        role = problem.role[t, d]
        if role == state or (state == STATIONARY and role >= 0):
            for s in range(b, problem.serve.shape[0]):
                if o.left[depth, s] >> d & 1:
                    loops *= o.loop[s, d]
                    count += 1
                    translation = problem.key[t, d] * o.step[s, d] - moved
    rests = translation == 0 and problem.reuse_survives_stationary_steps
    if state >= 0 and count == 1 and translation != first and not rests:
        return 0.0
    return float(o.suffix[depth, b] - o.suffix[depth, b] / loops)


@inlined_kernel
def _words(problem: Problem, o: Orders, depth: int, b: int, t: int, at_least: bool) -> float:
    """Words through a boundary by the loops placed; or the least that they can become."""
    spared = 1.0 - o.part[depth, b, t]
    words = o.total[b] - o.still[depth, b, t] - spared * o.saved[depth, b, t]
    if at_least and o.state[depth, b, t] != DEAD:
        most = spared
        if problem.reuse_survives_stationary_steps or o.first[depth, b, t] == 0:
            most = 1.0
        words -= most * o.reach[depth, b, t]
    return o.tile[b, t] * words


@kernel
def boundary_energy(
    problem: Problem, networks: Networks, state: State, o: Orders, depth: int, b: int, at_least: bool
) -> float:
    """Energy (pJ) of the words through a boundary, with the best layout."""
    tensors = problem.words.shape[0]
    straight = 0.0
    choice = state.choice[b]
    for t in range(tensors):
        straight += state.straight[b, t] * _words(problem, o, depth, b, t, at_least)
    first, last = networks.first[b, choice], networks.first[b, choice + 1]
    if not problem.hops_on_grid or problem.hop[b] + problem.router[b] == 0.0:
        return straight
    least = np.inf
    for layout in range(first, last):
        energy = straight
        for t in range(tensors):
            words = _words(problem, o, depth, b, t, at_least)
            if words <= 0.0:
                continue
            way, routed = networks.way[layout, t], networks.routed[layout, t]
            if networks.is_paired[b, choice, t]:
                way = networks.patterns.layout[o.pattern[b, t], 0, layout - first]
                routed = networks.patterns.layout[o.pattern[b, t], 1, layout - first]
            energy += state.used[b + 1] * problem.hop[b] * way * words
            if state.keep[b - 1, t]:
                if not problem.twice[b, t]:
                    energy += state.used[b + 1] * problem.router[b] * routed * words
            elif problem.router[b] > 0.0 and _is_fed_from(state, b, t):
                energy += state.used[b + 1] * problem.router[b] * _routed_on(problem, state, b, t, way * words)
        least = min(least, energy)
    return least


@kernel
def _routed_on(problem: Problem, state: State, b: int, t: int, way: float) -> float:
    """Routers beyond the first that words handed on by a bypassed level pass: one for each whole hop of each word."""
    entering = problem.macs / state.used[0]
    for s in range(b + 1):
        entering *= state.distinct[s, t]
    if problem.twice[b, t]:
        entering *= 2.0
        if state.keep[b, t]:
            entering -= problem.words[t] * irrelevant(problem, state, b, t) / state.used[b + 1]
    return math.floor(way / entering) * entering if entering > 0.0 else 0.0


@kernel
def _is_fed_from(state: State, b: int, t: int) -> bool:
    """Whether all levels inside a boundary bypass a tensor, so that what enters there is what the MACs ask for."""
    bypasses = True
    for s in range(b):
        bypasses &= not state.keep[s, t]
    return bypasses


@kernel
def order_loops(problem: Problem, networks: Networks, state: State, o: Orders, limit: float, recording: bool) -> float:
    """The least energy of all boundaries but that above the MACs, over all orders, or the limit if none is below it.

    If solutions are recorded, every one below the limit is, and the limit is returned.
    """
    levels = problem.serve.shape[0]
    o.outside[levels] = 0.0
    for s in range(levels - 1, 0, -1):
        last = s == 1
        most = limit if last and not recording else np.inf
        o.outside[s] = _from_level(problem, networks, state, o, s, most, False)
    if recording and o.outside[1] < limit:
        _from_level(problem, networks, state, o, 1, limit, True)
    return o.outside[1]


@kernel
def _from_level(
    problem: Problem, networks: Networks, state: State, o: Orders, lowest: int, limit: float, recording: bool
) -> float:
    """As order_loops, for the boundaries from a level on."""
    levels, tensors = problem.serve.shape
    dims = problem.bounds.shape[0]
    o.best[lowest, 0] = -1
    for s in range(levels):
        o.left[0, s] = 0
        for d in range(dims):
            if s >= lowest and o.loop[s, d] > 1:
                o.left[0, s] |= 1 << d
    o.level[0], o.turn[0] = lowest, 0
    _open_boundary(problem, state, o, 0, lowest)
    if not _go_on(problem, state, o, 0):
        # There is no loop at all.
        energy = 0.0
        for b in range(lowest, levels):
            energy += boundary_energy(problem, networks, state, o, 0, b, False)
        if recording and energy < limit:
            _record(problem, o, 0)
        return min(limit, energy)
    depth = 0
    while depth >= 0:
        d, level = o.turn[depth], o.level[depth]
        if d == dims:
            depth -= 1
            continue
        o.turn[depth] += 1
        if not o.left[depth, level] >> d & 1 or not is_in_turn(problem.place, o.left[depth, level], level, d):
            continue
        n = o.loop[level, d]
        o.chosen[depth] = level * dims + d
        for s in range(lowest, levels):
            o.left[depth + 1, s] = o.left[depth, s]
        o.left[depth + 1, level] &= ~(1 << d)
        o.level[depth + 1] = level
        energy, is_closed = o.outside[level + 1], True
        for b in range(lowest, level + 1):
            o.suffix[depth + 1, b] = o.suffix[depth, b] / n
            for t in range(tensors):
                _account(problem, o, depth, b, t, d, o.step[level, d], n)
                is_closed &= o.state[depth + 1, b, t] == DEAD
            energy += boundary_energy(problem, networks, state, o, depth + 1, b, True)
        if energy >= limit:
            continue
        if is_closed:
            # The order of the level's other loops does not count.
            o.left[depth + 1, level] = 0
        if is_closed and not recording:
            limit = energy
            _note(o, lowest, depth, level)
        elif _go_on(problem, state, o, depth + 1):
            depth += 1
            o.turn[depth] = 0
        else:
            energy = 0.0
            for b in range(lowest, levels):
                energy += boundary_energy(problem, networks, state, o, depth + 1, b, False)
            if energy < limit and recording:
                _record(problem, o, depth + 1)
            elif energy < limit:
                limit = energy
                _note(o, lowest, depth, levels - 1)
    return limit


@inlined_kernel
def _open_boundary(problem: Problem, state: State, o: Orders, depth: int, b: int) -> None:
    """Sets a boundary to its start, without a loop."""
    o.suffix[depth, b] = o.total[b]
    for t in range(problem.words.shape[0]):
        o.still[depth, b, t], o.saved[depth, b, t], o.part[depth, b, t] = 0.0, 0.0, 1.0
        o.first[depth, b, t], o.moved[depth, b, t] = 0, 0
        counts = state.weight[b, t] > 0.0 or problem.router[b] > 0.0
        o.state[depth, b, t] = FRESH if counts and o.total[b] > 1.0 else DEAD
        o.reach[depth, b, t] = o.total[b] - 1.0


@inlined_kernel
def _go_on(problem: Problem, state: State, o: Orders, depth: int) -> bool:
    """Goes to the next level that has loops left, if there is one; boundaries on the way start."""
    levels = problem.serve.shape[0]
    level = o.level[depth]
    while o.left[depth, level] == 0 and level < levels - 1:
        level += 1
        _open_boundary(problem, state, o, depth, level)
    o.level[depth] = level
    return o.left[depth, level] != 0


@kernel
def _note(o: Orders, lowest: int, depth: int, level: int) -> None:
    """Keeps the loops placed, and after them those that are best for the levels outside a level."""
    k = 0
    for i in range(depth + 1):
        o.best[lowest, k] = o.chosen[i]
        k += 1
    if level + 1 < o.best.shape[0]:
        i = 0
        while i < o.best.shape[1] and o.best[level + 1, i] >= 0:
            o.best[lowest, k] = o.best[level + 1, i]
            k += 1
            i += 1
    if k < o.best.shape[1]:
        o.best[lowest, k] = -1


@kernel
def _record(problem: Problem, o: Orders, depth: int) -> None:
    levels, dims = o.extent.shape
    row = o.recorded[0]
    o.recorded[0] += 1
    if row < o.records.shape[0]:
        for s in range(levels):
            for d in range(dims):
                o.records[row, s * dims + d] = o.extent[s, d]
        for k in range(levels * dims):
            o.records[row, levels * dims + k] = o.chosen[k] if k < depth else -1
