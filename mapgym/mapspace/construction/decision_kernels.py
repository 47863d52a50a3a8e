"""Compiled core of the construction process: which choices are legal next, and what a choice does.

Everything a kernel needs is packed into three flat arrays, because handing many arrays to a compiled function costs
more than a decision does: ``task`` (int64, what never changes: header, then tables), ``ways`` (float64, numbers of
completions) and ``state`` (int32, one unfinished mapping). :mod:`mapgym.mapspace.construction.tables` fills the first
two; the constants below are the positions in them. Slots: slot 2s holds the parallel (spatial) factors of level s, slot
2s + 1 its tile (temporal) factors; slot order is the order in which the factors of a dim are decided.

A factor is an index into the ascending divisors of its dim's bound. A choice is an action of the environments: for
factors that index, plus ``Y_OFFSET`` if the factor goes on the mesh axis Y; for orders a dim; for kept tensors 0 or 1.
"""

from __future__ import annotations

import numpy as np

from mapgym.compilation import inlined_kernel, kernel
from mapgym.mapping.density_kernels import largest_occupancy

KEEP, PARALLEL, TILE, ORDER_X, ORDER_Y, ORDER = range(6)
"""Kinds of decisions: keep a tensor, a parallel factor, a tile factor, the next spatial loop on X or Y, the next
temporal loop."""
KIND_NAMES = ("keep", "parallel", "tile", "order_x", "order_y", "order")

AXIS_NONE, AXIS_X, AXIS_Y, AXIS_OPEN = range(4)
"""Mesh axis of a spatial factor; AXIS_OPEN marks a factor fixed by the user that fits either axis."""

# Positions in the header of task: sizes and switches, starts of its tables, starts of the blocks of a state.
LEVELS, DIMS, TENSORS, DIVISORS, GROUPS, ACTIVE, Y_OFFSET, INNERMOST_ONLY, PLAIN, CUMULATIVE, OPEN_AXES = range(11)
(
    GROUP_TABLE,  # [group, 2]: kind, level
    ACTIVE_DIMS,  # [active]: dims with a bound above 1
    DIVISOR,  # [dim, divisor]
    QUOTIENT,  # [dim, divisor, divisor]: index of the quotient, -1 where there is none
    FIXED,  # [slot, dim]: divisor index of a factor that is given, -1 if it is searched
    FIXED_AXIS,  # [level, dim]: mesh axis of a given spatial factor above 1
    LEVEL_FACTOR,  # [level, dim]: divisor index of a given temporal * spatial, -1 if it is searched
    LIMIT_X,  # [level]: parallelism that the level may have on X
    LIMIT_Y,  # [level]
    MESH_X,  # [level]: instances of the next inner level (MACs below level 0) along X
    MESH_Y,  # [level]
    CAPACITY,  # [level]: words, -1 for no limit; the outermost level is checked once, by the tables
    MAY_KEEP,  # [level + 1, level, tensor]: by the nearest level inside that keeps it (0: none, 1: level 0, ...), the
    # sum of BYPASSES if the level may bypass it and KEEPS if the level may keep it
    KNOWN_EXTENT,  # [level, dim]: extent that every mapping has at the level, 0 if it varies
    LATER_FIXED,  # [slot + 1, level, dim]: product of the given factors in slots slot..2 * level + 1
    PROJECTION,  # [tensor]: position in task of its ranks: count, then for each terms, then (dim, coefficient) pairs
    ORDER_KEY,  # [level, dim]: dims in the order that loops get when it is not searched
    SPATIAL_ORDER_KEY,  # [level, dim]
    REPEATED,  # [dim]: 1 if a tensor has the dim in two of its ranks
    COMPRESSED,  # [level, tensor]: position of the record of the tensor's density, 0 for a tile that is not compressed
    ANY_COMPRESSED,  # [1]
) = range(11, 32)
(
    TEMPORAL,  # [level, dim] factors
    SPATIAL,  # [level, dim]
    AXIS,  # [level, dim]: mesh axis of a spatial factor above 1
    ORDER_POSITION,  # [level, dim]: 1 for the innermost placed temporal loop, 2 for the next, 0 if not placed
    SPATIAL_POSITION,  # [level, dim]: the same, counted on each mesh axis
    KEPT,  # [level, tensor]
    REMAINING,  # [dim]: divisor index of what is left of the bound
    PRODUCT,  # [dim]: product of the factors so far
    NEXT_SLOT,  # [dim]: first slot that is not decided
    USED_X,  # [level]: product of the spatial factors on X, given ones included from the start
    USED_Y,  # [level]
    DIM_ORDER,  # [level, active]: order in which the dims of a level are visited
) = range(32, 44)
HEADER = 44

# Positions in a state, ahead of its blocks.
GROUP, ITEM = 0, 1
STATE_HEADER = 2

BYPASSES, KEEPS = 1, 2
"""What a level may do with a tensor: bits of an entry of MAY_KEEP."""

COMPLETE, DEAD_END = 0, -1
"""What :func:`advance` returns when no decision is left, and when an inexact constraint has left no legal choice."""


@inlined_kernel
def _tile_words(task, state, level, t, changed, factor):  # type: ignore[no-untyped-def]
    """Words of the smallest tile of tensor t at a level, and by how much they grow with a factor of one dim.

    Args:
        task, state, level, t: see the module.
        changed: a dim that is being decided, -1 for none.
        factor: its factor.

    Returns:
        the words of the tile, and their slope in factor if the dim is in at most one rank of the tensor.
    """
    words, slope = np.int64(1), np.int64(0)
    product = task[PRODUCT]
    is_plain = task[PLAIN] != 0
    cursor = task[task[PROJECTION] + t]
    ranks = task[cursor]
    cursor += 1
    for _ in range(ranks):
        terms = task[cursor]
        cursor += 1
        length, step = np.int64(1), np.int64(0)
        for _ in range(terms):
            d = task[cursor]
            coefficient = task[cursor + 1]
            cursor += 2
            extent = np.int64(state[product + d])
            is_changed = d == changed
            if not is_plain:
                # Not every undecided factor can be 1: some are given, and some extents are the same in every mapping.
                known = task[task[KNOWN_EXTENT] + level * task[DIMS] + d]
                if known > 0:
                    extent = known
                    is_changed = False
                else:
                    slot = state[task[NEXT_SLOT] + d] + is_changed
                    extent *= task[task[LATER_FIXED] + (slot * task[LEVELS] + level) * task[DIMS] + d]
            if is_changed:
                step = coefficient * extent
                extent *= factor
            length += coefficient * (extent - 1)
        slope = slope * length + words * step
        words *= length
    return words, slope


@kernel
def held_words(task, level, t, words):  # type: ignore[no-untyped-def]
    """Words that a tile takes at a level: of a compressed one, those that can be other than zero."""
    record = task[task[COMPRESSED] + level * task[TENSORS] + t]
    return words if record == 0 else largest_occupancy(task, record, words)


@kernel
def minimum_words(task, state, level, changed, factor):  # type: ignore[no-untyped-def]
    """Words that the kept tensors need at a level when everything undecided is as small as it can be.

    Args:
        task, state, level: see the module.
        changed, factor: a dim that is being decided (-1 for none) and its factor.
    """
    total = np.int64(0)
    for t in range(task[TENSORS]):
        if state[task[KEPT] + level * task[TENSORS] + t]:
            total += held_words(task, level, t, _tile_words(task, state, level, t, changed, factor)[0])
    return total


@inlined_kernel
def _largest_factor(task, state, level, d, top, words, slopes):  # type: ignore[no-untyped-def]
    """Largest factor of dim d up to top that leaves room in this level and, tiles being nested, in all outer ones.

    Args:
        task, state, level, d, top: see the module.
        words, slopes: float64[tensor], scratch.
    """
    tensors = task[TENSORS]
    is_filled = False
    for outer in range(level, task[LEVELS] - 1):
        capacity = task[task[CAPACITY] + outer]
        if capacity < 0 or top == 1:
            continue
        if task[task[REPEATED] + d] or task[task[ANY_COMPRESSED]]:
            # Words grow faster than linearly with the factor, or are rounded up.
            low = np.int64(1)
            while low < top:
                middle = (low + top + 1) // 2
                if minimum_words(task, state, outer, d, middle) <= capacity:
                    low = middle
                else:
                    top = middle - 1
            continue
        if not (task[PLAIN] and is_filled):
            for t in range(tensors):
                words[t], slopes[t] = _tile_words(task, state, outer, t, d, 0)
            is_filled = True
        room, slope = np.float64(capacity), 0.0
        for t in range(tensors):
            if state[task[KEPT] + outer * tensors + t]:
                room -= words[t]
                slope += slopes[t]
        if room < slope * top:
            top = np.int64(room // slope)
    return top


@kernel
def _completions(task, ways, state, level, slot, d, j):  # type: ignore[no-untyped-def]
    """Ways to place the rest of dim d, through all later slots, after factor j in this one; 0.0 if j is impossible.

    Limits that dims share (capacity, fan-out) are not counted; a fan-out that no factor of the dim alone can pass is.
    """
    dims = task[DIMS]
    divisors = task[DIVISORS]
    quotient = task[QUOTIENT] + d * divisors * divisors
    remaining = np.int64(state[task[REMAINING] + d])
    rest = task[quotient + remaining * divisors + j]
    fixed = task[task[FIXED] + slot * dims + d]
    if rest < 0 or (fixed >= 0 and fixed != j):
        return 0.0
    level_factor = task[task[LEVEL_FACTOR] + level * dims + d]
    if level_factor < 0:
        return ways[((slot + 1) * dims + d) * divisors + rest]
    if slot % 2:
        spatial = state[task[SPATIAL] + level * dims + d]
        divisor = task[DIVISOR] + d * divisors
        if task[divisor + j] * spatial != task[divisor + level_factor]:
            return 0.0
        return ways[((slot + 1) * dims + d) * divisors + rest]
    temporal = task[quotient + level_factor * divisors + j]
    fixed = task[task[FIXED] + (slot + 1) * dims + d]
    rest = task[quotient + remaining * divisors + level_factor]
    if temporal < 0 or rest < 0 or (fixed >= 0 and fixed != temporal):
        return 0.0
    return ways[((slot + 2) * dims + d) * divisors + rest]


@inlined_kernel
def _room(task, state, level, limit, mesh, used):  # type: ignore[no-untyped-def]
    """Largest factor that the fan-out of a level still takes on one mesh axis."""
    most = task[task[limit] + level]
    if most == 1:
        return most
    if task[CUMULATIVE] == 0:
        return most // state[task[used] + level]
    # The mesh of every inner level (MESH[s] is that of level s - 1) bounds the product over the levels outside it.
    room = np.int64(2**31)
    outside = np.int64(1)
    for s in range(task[LEVELS] - 1, -1, -1):
        outside *= state[task[used] + s]
        if s <= level:
            room = min(room, task[task[mesh] + s] // outside)
    return room


@kernel
def open_axes_fit(task, state, level, d, factor_x, factor_y):  # type: ignore[no-untyped-def]
    """Whether the given spatial factors whose axis is still open can all be placed after dim d takes its factor."""
    dims = task[DIMS]
    waiting = np.int64(0)
    for e in range(dims):
        is_open = task[task[FIXED_AXIS] + level * dims + e] == AXIS_OPEN
        if is_open and e != d and state[task[NEXT_SLOT] + e] <= 2 * level:
            waiting += 1
    for assignment in range(1 << waiting):
        x = state[task[USED_X] + level] * factor_x
        y = state[task[USED_Y] + level] * factor_y
        bits = assignment
        for e in range(dims):
            is_open = task[task[FIXED_AXIS] + level * dims + e] == AXIS_OPEN
            if is_open and e != d and state[task[NEXT_SLOT] + e] <= 2 * level:
                factor = task[task[DIVISOR] + e * task[DIVISORS] + task[task[FIXED] + 2 * level * dims + e]]
                if bits & 1:
                    x *= factor
                else:
                    y *= factor
                bits >>= 1
        if x <= task[task[LIMIT_X] + level] and y <= task[task[LIMIT_Y] + level]:
            return True
    return False


@inlined_kernel
def _legal_factors(task, ways, state, level, slot, d, choices, weights):  # type: ignore[no-untyped-def]
    """Legal factors of dim d in a slot, on either mesh axis if it is a parallel one."""
    dims, divisors = task[DIMS], task[DIVISORS]
    divisor = task[DIVISOR] + d * divisors
    remaining = np.int64(state[task[REMAINING] + d])
    largest = task[divisor + remaining]
    fixed = task[task[FIXED] + slot * dims + d]
    is_free = fixed < 0 and task[task[LEVEL_FACTOR] + level * dims + d] < 0
    if is_free and remaining == 0:
        # Nothing is left of most dims most of the time.
        choices[0] = 0
        weights[0] = ways[((slot + 1) * dims + d) * divisors]
        return 1 if weights[0] > 0.0 else 0
    room_x, room_y = np.int64(2**31), np.int64(0)
    open_axes = False
    if slot % 2 == 0:
        axis = task[task[FIXED_AXIS] + level * dims + d]
        if axis in (AXIS_X, AXIS_Y):
            # The room of a fixed factor with a known axis has been set aside from the start.
            weights[0] = _completions(task, ways, state, level, slot, d, fixed)
            choices[0] = fixed + (task[Y_OFFSET] if axis == AXIS_Y else 0)
            return 1 if weights[0] > 0.0 else 0
        open_axes = task[OPEN_AXES] != 0
        room_x = _room(task, state, level, LIMIT_X, MESH_X, USED_X)
        room_y = _room(task, state, level, LIMIT_Y, MESH_Y, USED_Y)
        largest = min(largest, max(room_x, room_y))
    first = remaining if slot == 2 * task[LEVELS] - 1 else np.int64(0)
    if is_free and first == 0 and largest > 1:
        largest = _largest_factor(task, state, level, d, largest, weights, weights[task[TENSORS] :])
    quotient = task[QUOTIENT] + (d * divisors + remaining) * divisors
    later = ((slot + 1) * dims + d) * divisors
    count = 0
    for j in range(first, remaining + 1):
        factor = task[divisor + j]
        if factor > largest:
            break
        if is_free:
            # The same as _completions, without a call: this is the innermost loop of everything.
            rest = task[quotient + j]
            weight = ways[later + rest] if rest >= 0 else 0.0
        else:
            weight = _completions(task, ways, state, level, slot, d, j)
        if weight <= 0.0:
            continue
        if factor <= room_x and (not open_axes or open_axes_fit(task, state, level, d, factor, 1)):
            choices[count] = j
            weights[count] = weight
            count += 1
        if 1 < factor <= room_y and (not open_axes or open_axes_fit(task, state, level, d, 1, factor)):
            choices[count] = j + task[Y_OFFSET]
            weights[count] = weight
            count += 1
    return count


@inlined_kernel
def _legal_keeps(task, state, level, t, choices):  # type: ignore[no-untyped-def]
    """Whether a level may keep tensor t, and whether it may bypass it; levels that are undecided can bypass it.

    Capacity never forbids to bypass. Where formats forbid it as well as capacity forbids to keep, the mapping will be
    illegal, as it is when metadata do not fit.
    """
    tensors = task[TENSORS]
    kept = level * tensors + t
    inside = level
    while inside > 0 and state[task[KEPT] + (inside - 1) * tensors + t] == 0:
        inside -= 1
    allowed = task[task[MAY_KEEP] + inside * task[LEVELS] * tensors + kept]
    choices[0] = 0
    capacity = task[task[CAPACITY] + level]
    if allowed & KEEPS and capacity >= 0:
        state[task[KEPT] + kept] = 1
        words = minimum_words(task, state, level, -1, 1)
        state[task[KEPT] + kept] = 0
        if words > capacity:
            allowed = BYPASSES
    if allowed & KEEPS == 0:
        return 1
    if allowed & BYPASSES == 0:
        choices[0] = 1
        return 1
    choices[1] = 1
    return 2


@inlined_kernel
def _waiting_loops(task, state, kind, level, choices):  # type: ignore[no-untyped-def]
    """Dims with a loop above 1, of this kind and level, that has no place in the order yet."""
    dims = task[DIMS]
    row = level * dims
    if kind == ORDER:
        positions, factors = task[ORDER_POSITION] + row, task[TEMPORAL] + row
    else:
        positions, factors = task[SPATIAL_POSITION] + row, task[SPATIAL] + row
    count = 0
    for item in range(task[ACTIVE]):
        d = task[task[ACTIVE_DIMS] + item]
        is_here = kind == ORDER or state[task[AXIS] + row + d] == (AXIS_X if kind == ORDER_X else AXIS_Y)
        if is_here and state[factors + d] > 1 and state[positions + d] == 0:
            choices[count] = d
            count += 1
    return count


@inlined_kernel
def _legal_choices(task, ways, state, kind, level, choices, weights):  # type: ignore[no-untyped-def]
    item = state[ITEM]
    if kind in (PARALLEL, TILE):
        d = np.int64(state[task[DIM_ORDER] + level * task[ACTIVE] + item])
        slot = 2 * level + (1 if kind == TILE else 0)
        return _legal_factors(task, ways, state, level, slot, d, choices, weights)
    if kind == KEEP:
        count = _legal_keeps(task, state, level, item, choices)
    else:
        count = _waiting_loops(task, state, kind, level, choices)
    for k in range(count):
        weights[k] = 1.0
    return count


@inlined_kernel
def _apply(task, state, kind, level, choice):  # type: ignore[no-untyped-def]
    """Makes a legal choice at the state's position and moves to the next item of the group."""
    item = state[ITEM]
    state[ITEM] = item + 1
    dims = task[DIMS]
    row = level * dims
    if kind == KEEP:
        state[task[KEPT] + level * task[TENSORS] + item] = choice
    elif kind >= ORDER_X:
        positions = task[ORDER_POSITION] if kind == ORDER else task[SPATIAL_POSITION]
        state[positions + row + choice] = item + 1
        if task[INNERMOST_ONLY]:
            state[GROUP] += 1
            state[ITEM] = 0
    else:
        d = state[task[DIM_ORDER] + level * task[ACTIVE] + item]
        on_y = choice >= task[Y_OFFSET]
        j = choice - task[Y_OFFSET] if on_y else choice
        factor = task[task[DIVISOR] + d * task[DIVISORS] + j]
        remaining = task[REMAINING] + d
        state[remaining] = task[task[QUOTIENT] + (d * task[DIVISORS] + state[remaining]) * task[DIVISORS] + j]
        state[task[PRODUCT] + d] *= factor
        if kind == TILE:
            state[task[TEMPORAL] + row + d] = factor
            state[task[NEXT_SLOT] + d] = 2 * level + 2
        else:
            state[task[SPATIAL] + row + d] = factor
            state[task[NEXT_SLOT] + d] = 2 * level + 1
            if factor > 1:
                state[task[AXIS] + row + d] = AXIS_Y if on_y else AXIS_X
                axis = task[task[FIXED_AXIS] + row + d]
                if axis in (AXIS_NONE, AXIS_OPEN):
                    state[(task[USED_Y] if on_y else task[USED_X]) + level] *= factor


@kernel
def advance(task, ways, state, choices, weights):  # type: ignore[no-untyped-def]
    """Takes forced decisions until there is a choice.

    Args:
        task, ways, state: see the module.
        choices: int64[choices_size(task)], receives the legal choices.
        weights: float64 of the same length, receives for each factor the ways to complete its dim, otherwise 1.

    Returns:
        the number of legal choices (at least 2), COMPLETE or DEAD_END.
    """
    while state[GROUP] < task[GROUPS]:
        entry = task[GROUP_TABLE] + 2 * state[GROUP]
        kind, level = task[entry], task[entry + 1]
        is_order = kind >= ORDER_X
        count = 0
        if is_order or state[ITEM] < (task[TENSORS] if kind == KEEP else task[ACTIVE]):
            count = _legal_choices(task, ways, state, kind, level, choices, weights)
            if count == 0 and not is_order:
                return DEAD_END
        if count > 1:
            return count
        if count == 1:
            _apply(task, state, kind, level, choices[0])
        else:
            state[GROUP] += 1
            state[ITEM] = 0
    return COMPLETE


@kernel
def choose(task, state, choice):  # type: ignore[no-untyped-def]
    """Makes a legal choice at the decision where :func:`advance` has stopped."""
    entry = task[GROUP_TABLE] + 2 * state[GROUP]
    _apply(task, state, task[entry], task[entry + 1], choice)


@kernel
def choices_size(task):  # type: ignore[no-untyped-def]
    """Length that the buffers of :func:`advance` must have; choices are below it."""
    return max(2 * task[Y_OFFSET], task[DIMS], 2 * task[TENSORS], 2)
