"""The best orders of the temporal loops of buffer and memory for given tiles, exactly.

Loops are placed from the inside out. As soon as no tensor can save anything by the loops still to be placed, their
order does not matter, and the branch ends (docs/exact.md, "Orders"). No order is left out by any other rule.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import inlined_kernel, kernel
from mapgym.cost.optimum.offset_kernels import count_offsets, served_across, served_along, sliding_length
from mapgym.cost.optimum.problem import BLOCK, BUFFER_TILE, INNER, IRRELEVANT, OUTER, PINNED, TILE, Problem, Projections

# What a tensor's loops have been so far, at one boundary; a rank number: only that sliding rank has moved.
FRESH = -4  # no loop yet
DEAD = -3  # no further loop saves anything
STATIONARY = -2  # only loops that the tensor does not depend on
PASSED = 100  # added to a rank number: whole tiles are needed, which links may pass on; only that rank has moved
SCATTERED = 99  # the same, and several ranks have moved


MOST_RECORDS = 4096


class OrderScratch(NamedTuple):
    """Working memory of the search; its boundaries are INNER and OUTER."""

    bound: NDArray[np.int64]  # [2, D] temporal factors of buffer and memory level
    extent: NDArray[np.int64]  # [3, D] register extent, block, buffer extent
    weight: NDArray[np.float64]  # [2, T] pJ for each word that crosses the boundary
    tile: NDArray[np.float64]  # [2, T] words of the tiles
    spread: NDArray[np.int64]  # [1, D] spatial factors between register level and buffer
    link: NDArray[np.float64]  # [T] share of the energy of a word that is spared for each offset that links serve
    boost: NDArray[np.float64]  # [depth, 2, T] what a later step saves at most, links included
    total: NDArray[np.float64]  # [2] product of the loops above each boundary
    still: NDArray[np.float64]  # [depth, 2, T] weights of the steps that need nothing
    suffix: NDArray[np.float64]  # [depth, 2] product of the loops not yet placed
    saved: NDArray[np.float64]  # [depth, 2, T] weights of the steps that need only the words of the first one
    part: NDArray[np.float64]  # [depth, 2, T] share of the tile that such a step needs
    reach: NDArray[np.float64]  # [depth, 2, T] weight that the loops not yet placed may add to these, at most
    first: NDArray[np.int64]  # [depth, 2, T] translation of the first step that counts
    moved: NDArray[np.int64]  # [depth, 2, T] sum of the steps placed
    state: NDArray[np.int64]  # [depth, 2, T]
    left: NDArray[np.int64]  # [depth, 2] bit masks of the loops not yet placed
    turn: NDArray[np.int64]  # [depth] next dim to try
    chosen: NDArray[np.int64]  # [depth]
    best_loops: NDArray[np.int64]  # [2 * D] dims of the best order found; the rest of the order is free
    of_class: NDArray[np.float64]  # [T + 1] least energy with a first loop of each group
    recorded: NDArray[np.int64]  # [1] how many solutions below the limit were recorded; -1 to look for the best one
    records: NDArray[np.int64]  # [n, 5 * D] the first n: register extent, block, buffer extent; as best_loops


@kernel
def tile_words(problem: Projections, extent: NDArray[np.int64], row: int, t: int) -> float:
    """Words of a tensor's tile with the extents in a row."""
    words = 1
    for d in range(problem.bounds.shape[0]):
        if problem.role[t, d] != IRRELEVANT:
            length = 1 + problem.coefficient[t, d] * (extent[row, d] - 1)
            other = problem.partner[t, d]
            if other < 0:
                words *= length
            elif other > d:
                words *= length + problem.coefficient[t, other] * (extent[row, other] - 1)
    return float(words)


@kernel
def _account(problem: Problem, s: OrderScratch, depth: int, b: int, t: int, d: int, step_extent: int, n: int) -> None:
    """Accounts for a loop of dim d at one boundary for one tensor: state of depth + 1 from that of depth."""
    state, still = s.state[depth, b, t], s.still[depth, b, t]
    saved, part, first = s.saved[depth, b, t], s.part[depth, b, t], s.first[depth, b, t]
    moved, boost = s.moved[depth, b, t], s.boost[depth, b, t]
    survives = problem.reuse_survives_stationary_steps
    reach = 0.0
    if state != DEAD:
        weight = s.suffix[depth, b] - s.suffix[depth, b] / n
        role = problem.role[t, d]
        step = problem.key[t, d] * step_extent
        if state == FRESH or (state == STATIONARY and survives):
            if role == IRRELEVANT:
                state, still = STATIONARY, still + weight
            else:
                # Links need a tile that came a step before, so there is none after a step at rest.
                linked = b == INNER and s.link[t] > 0.0 and state == FRESH
                state = DEAD
                if role != PINNED:
                    length = sliding_length(problem, s.extent, t, d, TILE if b == INNER else BUFFER_TILE)
                    distance = problem.coefficient[t, d] * step_extent
                    if distance < length:
                        state, part, first, saved = role, distance / length, step, weight
                        if linked:
                            served = served_along(problem, s.spread, s.extent, t, d, distance)
                            boost += s.link[t] * served * n * part / (1.0 - part)
                    elif linked:
                        state, part, first = PASSED + role, 0.0, step
                        boost = s.link[t] * count_offsets(problem, s.spread, s.extent, t, False)
                        saved = weight * s.link[t] * served_along(problem, s.spread, s.extent, t, d, distance)
                    elif survives:
                        state, first = role, step
        elif state >= SCATTERED:
            if role == PINNED:
                state = DEAD
            else:
                if role >= 0 and role != state - PASSED:
                    state = SCATTERED
                if survives and step == moved:
                    still += weight
                else:
                    saved += weight * s.link[t] * _passed_on(problem, s, t, state, step - moved)
        else:
            if step == moved and (survives or first == 0):
                still += weight
            elif step - moved == first:
                saved += weight * boost
            if role == PINNED or (role >= 0 and state >= 0 and role != state):
                state = DEAD
            elif role >= 0:
                state = role
        moved += step
        if state != DEAD:
            reach = _reach(problem, s, depth + 1, b, t, state, moved, first)
            state = state if reach > 0.0 else DEAD
    s.state[depth + 1, b, t] = state
    s.still[depth + 1, b, t] = still
    s.saved[depth + 1, b, t] = saved
    s.reach[depth + 1, b, t] = reach
    s.part[depth + 1, b, t] = part
    s.first[depth + 1, b, t] = first
    s.moved[depth + 1, b, t] = moved
    s.boost[depth + 1, b, t] = boost


@kernel
def _passed_on(problem: Problem, s: OrderScratch, t: int, state: int, translation: int) -> float:
    """Offsets that links serve after a translation, at most."""
    if state == SCATTERED:
        return served_across(problem, s.spread, s.extent, t)
    d = 0
    while problem.role[t, d] != state - PASSED:
        d += 1
    unit = problem.key[t, d] // problem.coefficient[t, d]
    return served_along(problem, s.spread, s.extent, t, d, abs(translation) // unit)


@kernel
def _reach(problem: Problem, s: OrderScratch, depth: int, b: int, t: int, state: int, moved: int, first: int) -> float:
    """Weight of the steps in which loops that are still to be placed could save words of a tensor, at most."""
    loops, count, translation = 1, 0, 0
    for d in range(problem.bounds.shape[0]):
        role = problem.role[t, d]
        if role == state or (state == STATIONARY and role >= 0) or (state >= SCATTERED and role != PINNED):
            for level in range(b, 2):
                if s.left[depth, level] >> d & 1:
                    loops *= s.bound[level, d]
                    count += 1
                    translation = problem.key[t, d] * s.extent[BLOCK + level, d] - moved
    # If only one loop can, it is known what it does.
    rests = translation == 0 and problem.reuse_survives_stationary_steps
    if 0 <= state < SCATTERED and count == 1 and translation != first and not rests:
        return 0.0
    # Weights are largest if these loops come next.
    return float(s.suffix[depth, b] - s.suffix[depth, b] / loops)


@kernel
def least_energy(problem: Problem, s: OrderScratch, memory_energy: float, best: float, both: bool, only: int) -> float:
    """The least energy of the traffic over all orders, or something not below ``best`` if none is below it.

    If solutions are recorded, ``best`` is returned, and each solution below it is recorded: one order for all that
    have the same traffic.

    Args:
        problem: the task.
        s: with bound, extent and weight filled in; best_loops becomes the order found, up to where it matters.
        memory_energy: the least energy of the memory's traffic by itself, for orders in which the buffer's traffic
            does not depend on the memory's order; only used if ``both``.
        best: what has to be beaten.
        both: whether buffer and memory traffic are asked for; else only the memory's, and of_class becomes the least
            energy for each group of the first loop (inf where there is none).
        only: the group that the first loop has to be in, -1 for any.
    """
    dims = problem.bounds.shape[0]
    recording = both and s.recorded[0] >= 0
    fixed = _start(problem, s, both)
    if s.left[0, INNER] == 0 and s.left[0, OUTER] == 0:
        s.best_loops[0] = -1
        if not recording:
            return fixed
        if fixed < best:
            _record(s)
        return best
    depth, s.turn[0] = 0, 0
    while depth >= 0:
        d = s.turn[depth]
        if d == dims:
            depth -= 1
            continue
        s.turn[depth] += 1
        level = OUTER if s.left[depth, INNER] == 0 else INNER
        if not s.left[depth, level] >> d & 1 or not is_in_turn(problem.place, s.left[depth, level], level, d):
            continue
        if depth == 0 and only >= 0 and problem.group[d] != only:
            continue
        if recording and level == INNER and _is_closed(s, depth):
            # The order of the buffer's other loops does not count: one will do.
            s.turn[depth] = dims
        buffer_energy, outer_energy, potential, buffer_open, outer_open = _place_loop(problem, s, depth, level, d, both)
        if level == INNER:
            # The memory's traffic is at least what its own best order gives.
            energy, least = buffer_energy + memory_energy, buffer_energy - potential + memory_energy
            done = not (buffer_open or recording) or (s.left[depth + 1, INNER] == 0 and s.left[depth + 1, OUTER] == 0)
        else:
            energy = buffer_energy + outer_energy
            least = energy - potential
            done = not (buffer_open or outer_open) or s.left[depth + 1, OUTER] == 0
        first_class = problem.group[s.chosen[0]]
        if least >= (best if both else s.of_class[first_class]):
            continue
        if not done:
            depth += 1
            s.turn[depth] = 0
        elif recording:
            _note(s, depth)
            _record(s)
        else:
            if not both:
                s.of_class[first_class] = energy
            if both or energy < best:
                best = energy
                _note(s, depth)
    return best


@inlined_kernel
def _start(problem: Problem, s: OrderScratch, both: bool) -> float:
    """Sets the search to its start, without a loop; returns the energy of the traffic if nothing is saved."""
    dims, tensors = problem.bounds.shape[0], problem.words.shape[0]
    s.total[INNER] = s.total[OUTER] = 1.0
    s.left[0, INNER] = s.left[0, OUTER] = 0
    for d in range(dims):
        s.total[INNER] *= s.bound[INNER, d] * s.bound[OUTER, d]
        s.total[OUTER] *= s.bound[OUTER, d]
        if both and s.bound[INNER, d] > 1:
            s.left[0, INNER] |= 1 << d
        if s.bound[OUTER, d] > 1:
            s.left[0, OUTER] |= 1 << d
    fixed = 0.0
    for b in range(2):
        s.suffix[0, b] = s.total[b]
        for t in range(tensors):
            s.tile[b, t] = tile_words(problem, s.extent, TILE if b == INNER else BUFFER_TILE, t)
            s.still[0, b, t], s.saved[0, b, t], s.part[0, b, t] = 0.0, 0.0, 1.0
            s.first[0, b, t] = s.moved[0, b, t] = 0
            s.boost[0, b, t] = 1.0
            s.state[0, b, t] = DEAD if s.weight[b, t] == 0.0 or (b == INNER and not both) else FRESH
            if b == OUTER or both:
                fixed += s.weight[b, t] * s.tile[b, t] * s.total[b]
    for c in range(tensors + 1):
        s.of_class[c] = np.inf
    return fixed


@inlined_kernel
def _place_loop(
    problem: Problem, s: OrderScratch, depth: int, level: int, d: int, both: bool
) -> tuple[float, float, float, bool, bool]:
    """Places the loop of dim d of a level next.

    Returns:
        (energy of the buffer's traffic, of the memory's, what the loops still to be placed could save at most, whether
        they could save any of the former, of the latter).
    """
    n = s.bound[level, d]
    step_extent = s.extent[BLOCK, d] if level == INNER else s.extent[BUFFER_TILE, d]
    s.chosen[depth] = d
    s.left[depth + 1, INNER], s.left[depth + 1, OUTER] = s.left[depth, INNER], s.left[depth, OUTER]
    s.left[depth + 1, level] &= ~(1 << d)
    buffer_energy, outer_energy, potential = 0.0, 0.0, 0.0
    buffer_open, outer_open = False, False
    for b in range(INNER if both else OUTER, 2):
        counted = b == INNER or level == OUTER
        s.suffix[depth + 1, b] = s.suffix[depth, b] / n if counted else s.suffix[depth, b]
        for t in range(problem.words.shape[0]):
            if counted:
                _account(problem, s, depth, b, t, d, step_extent, n)
            else:
                s.state[depth + 1, b, t] = s.state[depth, b, t]
                s.still[depth + 1, b, t], s.saved[depth + 1, b, t], s.part[depth + 1, b, t] = 0.0, 0.0, 1.0
                s.first[depth + 1, b, t] = s.moved[depth + 1, b, t] = 0
                s.boost[depth + 1, b, t] = 1.0
            unit = s.weight[b, t] * s.tile[b, t]
            spared = unit * (1.0 - s.part[depth + 1, b, t])
            energy = unit * (s.total[b] - s.still[depth + 1, b, t]) - spared * s.saved[depth + 1, b, t]
            is_open = s.state[depth + 1, b, t] != DEAD
            if is_open and counted:
                most = spared * s.boost[depth + 1, b, t]
                if problem.reuse_survives_stationary_steps or s.first[depth + 1, b, t] == 0:
                    most = max(most, unit)
                potential += most * s.reach[depth + 1, b, t]
            if b == INNER:
                buffer_energy += energy
                buffer_open |= is_open
            else:
                outer_energy += energy
                outer_open |= is_open
    return buffer_energy, outer_energy, potential, buffer_open, outer_open


@kernel
def _is_closed(s: OrderScratch, depth: int) -> bool:
    """Whether the traffic of the buffer is settled."""
    closed = True
    for t in range(s.state.shape[2]):
        closed &= s.state[depth, INNER, t] == DEAD
    return closed


@kernel
def is_in_turn(place: NDArray[np.int64], left: int, level: int, d: int) -> bool:
    """Whether a fixed order lets the loop of dim d come next; place is that of Problem, left a mask of loops."""
    if place[level, d] >= 0:
        for e in range(place.shape[1]):
            if left >> e & 1 and place[level, e] < place[level, d]:
                return False
    return True


@kernel
def _note(s: OrderScratch, depth: int) -> None:
    for k in range(depth + 1):
        s.best_loops[k] = s.chosen[k]
    if depth + 1 < s.best_loops.shape[0]:
        s.best_loops[depth + 1] = -1


@kernel
def _record(s: OrderScratch) -> None:
    dims = s.extent.shape[1]
    row = s.recorded[0]
    s.recorded[0] += 1
    if row < s.records.shape[0]:
        for d in range(dims):
            for k in range(3):
                s.records[row, k * dims + d] = s.extent[k, d]
            for k in range(3, 5):
                s.records[row, k * dims + d] = s.best_loops[(k - 3) * dims + d]
