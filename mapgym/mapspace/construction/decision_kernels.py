"""Compiled core of the construction process: which choices are legal next, and what a choice does.

The arrays ``task``, ``ways`` and ``state``, stages, factors and choices are those of
:mod:`mapgym.mapspace.construction.packed_kernels`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import accessor, inlined_kernel, kernel
from mapgym.mapping.density_kernels import BANDED, ROW_DIM, largest_occupancy
from mapgym.mapspace.construction import packed_kernels as packed
from mapgym.mapspace.construction.packed_kernels import (
    BYPASSES,
    EITHER_SIDE,
    GROUP,
    ITEM,
    KEEP,
    KEEPS,
    LIMITED,
    NO_SIDE,
    ORDER,
    ORDER_X,
    PARALLEL,
    SIDE_X,
    SIDE_Y,
    TILE,
)

COMPLETE, DEAD_END = 0, -1
"""What :func:`advance` returns when no decision is left, and when an inexact constraint has left no legal choice."""


@accessor
def _least_extent(task: packed.Task, state: packed.State, level: int, d: int, changed: int, left: int) -> int:
    """Smallest extent of a dim at a level, in a space that is not plain; ``left`` as in :func:`_tile_words`."""
    stage = packed.int64(state[packed.stage_at(task, d)])
    if d == changed:
        return packed.least_extent(task, stage + 1, level, d, left)
    return packed.least_extent(task, stage, level, d, packed.int64(state[packed.remaining_at(task, d)]))


@inlined_kernel
def _tile_words(
    task: packed.Task, state: packed.State, level: int, t: int, changed: int, factor: int
) -> tuple[int, int]:
    """Words of the smallest tile of tensor t at a level, and by how much they grow with a factor of one dim.

    Args:
        task, state, level, t: see the module.
        changed: a dim that is being decided, -1 for none.
        factor: its factor; where the space is not plain, the index of what the factor leaves of the bound.

    Returns:
        the words of the tile, and their slope in factor if the space is plain and the dim in at most one rank of the
        tensor.
    """
    words, slope = 1, 0
    is_plain = packed.is_plain(task)
    cursor = packed.ranks(task, t)
    ranks = task[cursor]
    cursor += 1
    for _ in range(ranks):
        terms = task[cursor]
        cursor += 1
        length, step = 1, 0
        for _ in range(terms):
            d = task[cursor]
            coefficient = task[cursor + 1]
            cursor += 2
            if is_plain:
                extent = packed.int64(state[packed.product_at(task, d)])
                if d == changed:
                    step = coefficient * extent
                    extent *= factor
            else:
                extent = _least_extent(task, state, level, d, changed, factor)
            length += coefficient * (extent - 1)
        slope = slope * length + words * step
        words *= length
    return words, slope


@inlined_kernel
def row_dim(task: packed.Task, level: int, t: int) -> int:
    """The dim of the rows of a tensor whose compressed tiles take room by their shape at a level; -1 for others."""
    density = packed.density(task, level, t)
    return task[density + ROW_DIM] if density != 0 and task[density] == BANDED else -1


@kernel
def held_words(task: packed.Task, level: int, t: int, words: int, rows: int) -> int:
    """Words that a tile takes at a level: of a compressed one, those that can be other than zero.

    Args:
        task, level, t: see the module.
        words: of the tile.
        rows: iterations of its :func:`row_dim`, if it has one.
    """
    density = packed.density(task, level, t)
    return words if density == 0 else largest_occupancy(task, density, words, rows)


@kernel
def _smallest_extent(task: packed.Task, state: packed.State, level: int, d: int, changed: int, factor: int) -> int:
    """Extent of a dim at a level when everything undecided is as small as it can be, but for a dim that is decided."""
    if not packed.is_plain(task):
        return _least_extent(task, state, level, d, changed, factor)
    extent = packed.int64(state[packed.product_at(task, d)])
    return extent * factor if d == changed else extent


@inlined_kernel
def _decided_extent(task: packed.Task, state: packed.State, level: int, d: int) -> int:
    """Extent of a dim at a level whose factors are all decided."""
    extent = 1
    for s in range(level + 1):
        extent *= packed.int64(state[packed.temporal_at(task, s, d)]) * state[packed.spatial_at(task, s, d)]
    return extent


@kernel
def decided_words(task: packed.Task, state: packed.State, level: int) -> int:
    """Words of the kept tiles of a level whose factors are all decided, whatever outer levels have added since."""
    total = 0
    for t in range(packed.tensors(task)):
        if state[packed.kept_at(task, level, t)] == 0:
            continue
        words = 1
        cursor = packed.ranks(task, t)
        ranks = task[cursor]
        cursor += 1
        for _ in range(ranks):
            terms = task[cursor]
            cursor += 1
            length = 1
            for _ in range(terms):
                length += task[cursor + 1] * (_decided_extent(task, state, level, task[cursor]) - 1)
                cursor += 2
            words *= length
        d = row_dim(task, level, t)
        total += held_words(task, level, t, words, _decided_extent(task, state, level, d) if d >= 0 else 1)
    return total


@kernel
def minimum_words(task: packed.Task, state: packed.State, level: int, changed: int, factor: int) -> int:
    """Words that the kept tensors need at a level when everything undecided is as small as it can be.

    Args:
        task, state, level: see the module.
        changed, factor: a dim that is being decided (-1 for none) and its factor, see :func:`_tile_words`.
    """
    total = 0
    for t in range(packed.tensors(task)):
        if state[packed.kept_at(task, level, t)]:
            words = _tile_words(task, state, level, t, changed, factor)[0]
            d = row_dim(task, level, t)
            rows = _smallest_extent(task, state, level, d, changed, factor) if d >= 0 else 1
            total += held_words(task, level, t, words, rows)
    return total


@inlined_kernel
def _largest_factor(
    task: packed.Task,
    state: packed.State,
    level: int,
    d: int,
    top: int,
    words: NDArray[np.float64],
    slopes: NDArray[np.float64],
) -> int:
    """Largest factor of dim d up to top that leaves room in this level and, tiles being nested, in all outer ones.

    The space is plain.

    Args:
        task, state, level, d, top: see the module.
        words, slopes: float64[tensor], scratch.
    """
    tensors = packed.tensors(task)
    is_filled = False
    for outer in range(level, packed.levels(task) - 1):
        capacity = packed.capacity(task, outer)
        if capacity < 0 or top == 1:
            continue
        if not packed.grows_linearly(task, d):
            low = 1
            while low < top:
                middle = (low + top + 1) // 2
                if minimum_words(task, state, outer, d, middle) <= capacity:
                    low = middle
                else:
                    top = middle - 1
            continue
        if not is_filled:
            for t in range(tensors):
                words[t], slopes[t] = _tile_words(task, state, outer, t, d, 0)
            is_filled = True
        room, slope = np.float64(capacity), 0.0
        for t in range(tensors):
            if state[packed.kept_at(task, outer, t)]:
                room -= words[t]
                slope += slopes[t]
        if room < slope * top:
            top = packed.int64(room // slope)
    return top


@kernel
def _leaves_room(task: packed.Task, state: packed.State, level: int, d: int, left: int) -> bool:
    """Whether this level and all outer ones have room after dim d is decided; ``left`` is what is left of its bound."""
    for outer in range(level, packed.levels(task) - 1):
        capacity = packed.capacity(task, outer)
        if capacity >= 0 and minimum_words(task, state, outer, d, left) > capacity:
            return False
    return True


@kernel
def _completions(
    task: packed.Task, ways: packed.Ways, state: packed.State, level: int, stage: int, d: int, j: int
) -> float:
    """Ways to place the rest of dim d, through all later stages, after factor j in this one; 0.0 if j is impossible.

    Limits that dims share (capacity, fan-out) are not counted; a fan-out that no factor of the dim alone can pass is.
    """
    remaining = packed.int64(state[packed.remaining_at(task, d)])
    rest = packed.quotient(task, d, remaining, j)
    fixed = packed.fixed(task, stage, d)
    if rest < 0 or (fixed >= 0 and fixed != j):
        return 0.0
    if fixed == LIMITED and packed.allowed(task, stage, d, j) == 0:
        return 0.0
    level_factor = packed.level_factor(task, level, d)
    if level_factor < 0:
        return ways[packed.completions(task, stage + 1, d) + rest]
    if stage % 2:
        spatial = state[packed.spatial_at(task, level, d)]
        if packed.divisor(task, d, j) * spatial != packed.divisor(task, d, level_factor):
            return 0.0
        return ways[packed.completions(task, stage + 1, d) + rest]
    temporal = packed.quotient(task, d, level_factor, j)
    fixed = packed.fixed(task, stage + 1, d)
    rest = packed.quotient(task, d, remaining, level_factor)
    if temporal < 0 or rest < 0 or (fixed >= 0 and fixed != temporal):
        return 0.0
    if fixed == LIMITED and packed.allowed(task, stage + 1, d, temporal) == 0:
        return 0.0
    return ways[packed.completions(task, stage + 2, d) + rest]


@accessor
def _room(task: packed.Task, state: packed.State, side: int, level: int) -> int:
    """Largest factor that the fan-out of a level still takes on one mesh side."""
    most = packed.limit(task, side, level)
    if most == 1:
        return most
    if not packed.is_cumulative(task):
        return most // state[packed.used_at(task, side, level)]
    # The mesh of every inner level bounds the product over the levels outside it.
    room, outside = 2**31, 1
    for s in range(packed.levels(task) - 1, -1, -1):
        outside *= state[packed.used_at(task, side, s)]
        if s <= level:
            room = min(room, packed.mesh(task, side, s) // outside)
    return room


@accessor
def _is_open(task: packed.Task, state: packed.State, level: int, d: int, e: int) -> bool:
    """Whether the given spatial factor of dim e still has to be put on a side after dim d has its factor."""
    is_waiting = packed.fixed_side(task, level, e) == EITHER_SIDE and state[packed.stage_at(task, e)] <= 2 * level
    return is_waiting and e != d


@kernel
def open_sides_fit(task: packed.Task, state: packed.State, level: int, d: int, factor_x: int, factor_y: int) -> bool:
    """Whether the given spatial factors whose side is still open can all be placed after dim d takes its factor."""
    dims = packed.dims(task)
    waiting = 0
    for e in range(dims):
        waiting += _is_open(task, state, level, d, e)
    for assignment in range(1 << waiting):
        x = state[packed.used_at(task, SIDE_X, level)] * factor_x
        y = state[packed.used_at(task, SIDE_Y, level)] * factor_y
        bits = assignment
        for e in range(dims):
            if _is_open(task, state, level, d, e):
                factor = packed.divisor(task, e, packed.fixed(task, 2 * level, e))
                if bits & 1:
                    x *= factor
                else:
                    y *= factor
                bits >>= 1
        if x <= packed.limit(task, SIDE_X, level) and y <= packed.limit(task, SIDE_Y, level):
            return True
    return False


@inlined_kernel
def _legal_factors(
    task: packed.Task,
    ways: packed.Ways,
    state: packed.State,
    level: int,
    stage: int,
    d: int,
    choices: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> int:
    """Legal factors of dim d in a stage, on either mesh side if it is a parallel one."""
    remaining = packed.int64(state[packed.remaining_at(task, d)])
    fixed = packed.fixed(task, stage, d)
    is_free = fixed == -1 and packed.level_factor(task, level, d) < 0
    # Where the space is not plain, what a factor leaves decides how small tiles can still be.
    is_checked = fixed < 0 and not packed.is_plain(task) and packed.level_factor(task, level, d) < 0
    later = packed.completions(task, stage + 1, d)
    if is_free and remaining == 0:
        # Nothing is left of most dims most of the time.
        choices[0] = 0
        weights[0] = ways[later]
        return 1 if weights[0] > 0.0 else 0
    divisors = packed.divisors(task, d)
    largest = task[divisors + remaining]
    room_x, room_y = 2**31, 0
    open_sides = False
    if stage % 2 == 0:
        side = packed.fixed_side(task, level, d)
        if side in (SIDE_X, SIDE_Y):
            # The room of a fixed factor with a known side has been set aside from the start.
            weights[0] = _completions(task, ways, state, level, stage, d, fixed)
            choices[0] = fixed + (packed.y_offset(task) if side == SIDE_Y else 0)
            return 1 if weights[0] > 0.0 else 0
        open_sides = packed.has_open_sides(task)
        room_x = _room(task, state, SIDE_X, level)
        room_y = _room(task, state, SIDE_Y, level)
        largest = min(largest, max(room_x, room_y))
    first = remaining if stage == 2 * packed.levels(task) - 1 else 0
    if is_free and first == 0 and largest > 1 and not is_checked:
        largest = _largest_factor(task, state, level, d, largest, weights, weights[packed.tensors(task) :])
    quotients = packed.quotients(task, d, remaining)
    count = 0
    for j in range(first, remaining + 1):
        factor = task[divisors + j]
        if factor > largest:
            break
        if is_free:
            # The same as _completions, without a call: this is the innermost loop of everything.
            rest = task[quotients + j]
            weight = ways[later + rest] if rest >= 0 else 0.0
        else:
            weight = _completions(task, ways, state, level, stage, d, j)
        if weight <= 0.0:
            continue
        if is_checked and not _leaves_room(task, state, level, d, task[quotients + j]):
            continue
        sides = packed.allowed(task, stage, d, j) if fixed == LIMITED else 3
        if sides & 1 and factor <= room_x and (not open_sides or open_sides_fit(task, state, level, d, factor, 1)):
            choices[count] = j
            weights[count] = weight
            count += 1
        if sides & 2 and 1 < factor <= room_y and (not open_sides or open_sides_fit(task, state, level, d, 1, factor)):
            choices[count] = j + packed.y_offset(task)
            weights[count] = weight
            count += 1
    return count


@kernel
def _legal_keeps(task: packed.Task, state: packed.State, level: int, t: int, choices: NDArray[np.int64]) -> int:
    """Whether a level may keep tensor t, and whether it may bypass it; levels that are undecided can bypass it.

    Capacity never forbids to bypass. Where formats forbid it as well as capacity forbids to keep, the mapping will be
    illegal, as it is when metadata do not fit.
    """
    inside = level
    while inside > 0 and state[packed.kept_at(task, inside - 1, t)] == 0:
        inside -= 1
    allowed = packed.may_keep(task, inside, level, t)
    choices[0] = 0
    capacity = packed.capacity(task, level)
    if allowed & KEEPS and capacity >= 0:
        kept = packed.kept_at(task, level, t)
        state[kept] = 1
        words = minimum_words(task, state, level, -1, 1)
        state[kept] = 0
        if words > capacity:
            allowed = BYPASSES
    if allowed & KEEPS == 0:
        return 1
    if allowed & BYPASSES == 0:
        choices[0] = 1
        return 1
    choices[1] = 1
    return 2


@kernel
def _waiting_loops(task: packed.Task, state: packed.State, kind: int, level: int, choices: NDArray[np.int64]) -> int:
    """Dims with a loop above 1, of this kind and level, that has no place in the order yet."""
    count = 0
    lowest = 127
    for item in range(packed.active(task)):
        d = packed.active_dim(task, item)
        if kind == ORDER:
            factor, place = packed.temporal_at(task, level, d), packed.order_at(task, level, d)
        else:
            factor, place = packed.spatial_at(task, level, d), packed.spatial_order_at(task, level, d)
        side = SIDE_X if kind == ORDER_X else SIDE_Y
        is_here = kind == ORDER or state[packed.side_at(task, level, d)] == side
        if is_here and state[factor] > 1 and state[place] == 0:
            if packed.is_tiered(task):
                tier = packed.tier(task, kind != ORDER, level, d)
                if tier > lowest:
                    continue
                if tier < lowest:
                    lowest, count = tier, 0
            choices[count] = d
            count += 1
    return count


@accessor
def split_choice(task: packed.Task, choice: int) -> tuple[int, int]:
    """The index of the factor that a choice is, and the mesh side that it goes on if it is a parallel one above 1."""
    on_y = choice >= packed.y_offset(task)
    return choice - packed.y_offset(task) if on_y else choice, SIDE_Y if on_y else SIDE_X


@accessor
def end_group(state: packed.State) -> None:
    """Goes on to the next group of decisions."""
    state[GROUP] += 1
    state[ITEM] = 0


@inlined_kernel
def _apply(task: packed.Task, state: packed.State, kind: int, level: int, choice: int) -> None:
    """Makes a legal choice at the state's position and moves to the next item of the group."""
    item = state[ITEM]
    state[ITEM] = item + 1
    if kind == KEEP:
        state[packed.kept_at(task, level, item)] = choice
    elif kind >= ORDER_X:
        if kind == ORDER:
            state[packed.order_at(task, level, choice)] = item + 1
        else:
            state[packed.spatial_order_at(task, level, choice)] = item + 1
        if packed.innermost_only(task):
            end_group(state)
    else:
        d = state[packed.visited_at(task, level, item)]
        j, side = split_choice(task, choice)
        factor = packed.divisor(task, d, j)
        remaining = packed.remaining_at(task, d)
        state[remaining] = packed.quotient(task, d, state[remaining], j)
        state[packed.product_at(task, d)] *= factor
        if kind == TILE:
            state[packed.temporal_at(task, level, d)] = factor
            state[packed.stage_at(task, d)] = 2 * level + 2
        else:
            state[packed.spatial_at(task, level, d)] = factor
            state[packed.stage_at(task, d)] = 2 * level + 1
            if factor > 1:
                state[packed.side_at(task, level, d)] = side
                if packed.fixed_side(task, level, d) in (NO_SIDE, EITHER_SIDE):
                    state[packed.used_at(task, side, level)] *= factor


@kernel
def advance(
    task: packed.Task,
    ways: packed.Ways,
    state: packed.State,
    choices: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> int:
    """Takes forced decisions until there is a choice.

    Args:
        task, ways, state: see the module.
        choices: int64[choices_size(task)], receives the legal choices.
        weights: float64 of the same length, receives for each factor the ways to complete its dim, otherwise 1.

    Returns:
        the number of legal choices (at least 2), COMPLETE or DEAD_END.
    """
    while state[GROUP] < packed.groups(task):
        kind, level = packed.kind(task, state[GROUP]), packed.level(task, state[GROUP])
        item, count = packed.int64(state[ITEM]), 0
        if kind >= ORDER_X:
            count = _waiting_loops(task, state, kind, level, choices)
        elif item < packed.items(task, kind):
            if kind == KEEP:
                count = _legal_keeps(task, state, level, item, choices)
            else:
                d = packed.int64(state[packed.visited_at(task, level, item)])
                stage = 2 * level + (1 if kind == TILE else 0)
                # Stages without a choice, such as parallel ones at levels without fan-out, have no group.
                state[packed.stage_at(task, d)] = stage
                count = _legal_factors(task, ways, state, level, stage, d, choices, weights)
            if count == 0:
                return DEAD_END
        if kind not in (PARALLEL, TILE):
            for k in range(count):
                weights[k] = 1.0
        if count > 1:
            return count
        if count == 1:
            _apply(task, state, kind, level, choices[0])
        else:
            end_group(state)
    return COMPLETE


@kernel
def choose(task: packed.Task, state: packed.State, choice: int) -> None:
    """Makes a legal choice at the decision where :func:`advance` has stopped."""
    _apply(task, state, packed.kind(task, state[GROUP]), packed.level(task, state[GROUP]), choice)


@kernel
def next_decision(task: packed.Task, state: packed.State) -> tuple[int, int, int]:
    """Kind, level and item (dim, tensor or place of the loop) of the decision where :func:`advance` has stopped."""
    kind, level = packed.kind(task, state[GROUP]), packed.level(task, state[GROUP])
    item = packed.int64(state[ITEM])
    if kind in (PARALLEL, TILE):
        item = packed.int64(state[packed.visited_at(task, level, item)])
    return kind, level, item


@kernel
def is_complete(task: packed.Task, state: packed.State) -> bool:
    """Whether everything is decided."""
    return state[GROUP] == packed.groups(task)


@kernel
def choices_size(task: packed.Task) -> int:
    """Length that the buffers of :func:`advance` must have; choices are below it."""
    return max(2 * packed.y_offset(task), packed.dims(task), 2 * packed.tensors(task), 2)
