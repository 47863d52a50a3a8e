"""Compiled half of the amortized policy: what it sees of a decision, and its draws among the legal choices.

Decisions are those of :mod:`mapgym.mapspace.construction.construction`. Many episodes of different tasks go on side by
side; one call makes a choice in each of them, takes what is forced, and describes the next decision and its legal
choices, so that the network is asked once for all of them. An order is one decision, which temporal loop is innermost:
the loops that reuse a tensor together with it follow, then the others.

Everything that a network sees is on a log2 scale, divided by ``SCALE``. Arrays: ``task`` and ``state`` as in
:mod:`mapgym.mapspace.construction.decision_kernels`; ``task`` is followed by the roles of the dims [dim], those of the
tensors [tensor] and which tensor depends on which dim [tensor, dim]; ``numbers`` are the ways of the construction,
followed by what is the same in all decisions of a task [STATIC] and by the figures of its levels [level,
LEVEL_FIGURES].
"""

from __future__ import annotations

import math

import numpy as np

from mapgym.compilation import allocating_kernel, kernel
from mapgym.compilation.random_kernels import next_below, next_fraction
from mapgym.mapping.legality_kernels import rank_words
from mapgym.mapspace.construction.decision_kernels import (
    ACTIVE,
    ACTIVE_DIMS,
    AXIS,
    AXIS_Y,
    CAPACITY,
    COMPLETE,
    DIM_ORDER,
    DIMS,
    DIVISOR,
    DIVISORS,
    GROUP,
    GROUP_TABLE,
    ITEM,
    KEEP,
    KEPT,
    LEVELS,
    LIMIT_X,
    LIMIT_Y,
    ORDER,
    ORDER_POSITION,
    PARALLEL,
    PROJECTION,
    REMAINING,
    SPATIAL,
    TEMPORAL,
    TENSORS,
    TILE,
    USED_X,
    USED_Y,
    Y_OFFSET,
    advance,
    choices_size,
    choose,
    held_words,
)

KINDS, ROLES, OPERANDS, LEVEL_FIGURES = 4, 8, 3, 6
STATIC = 27
SCALE = 8.0
_NEAR = 3
_NO_LIMIT = 4.0

# Positions in the description of a decision.
S_KIND = 0
S_FROM_INSIDE = S_KIND + KINDS
S_FROM_OUTSIDE = S_FROM_INSIDE + _NEAR
S_ROLE = S_FROM_OUTSIDE + _NEAR
S_OPERAND = S_ROLE + ROLES
S_STATIC = S_OPERAND + OPERANDS
S_LEVELS = S_STATIC + STATIC  # the level below, the level itself, the one above, the outermost
S_BELOW = S_LEVELS + 4 * LEVEL_FIGURES  # [role] product of all factors of inner levels
S_SPATIAL_BELOW = S_BELOW + ROLES  # [role] the parallel ones among them
S_SPATIAL = S_SPATIAL_BELOW + ROLES  # [role] parallel factor of the level
S_TEMPORAL = S_SPATIAL + ROLES  # [role] tile factor of the level
S_OUTSIDE = S_TEMPORAL + ROLES  # [role] what is left for outer levels
S_INNERMOST = S_OUTSIDE + ROLES  # [role] whether it has the innermost loop of the level below
S_ROOM = S_INNERMOST + ROLES  # [operand] capacity over tile
S_WORDS = S_ROOM + OPERANDS  # [operand] tile that the loops of the level move
S_KEPT = S_WORDS + OPERANDS  # [operand] kept below, here, above
S_SPREAD = S_KEPT + 3 * OPERANDS  # [operand] distinct tiles that the parallel loops of the level ask for
S_SUMS = S_SPREAD + OPERANDS  # room here, room above, fan-out left on X and Y, parallelism so far, work for later dims
STATE_FEATURES = S_SUMS + 6

# Positions in the description of a choice.
C_FACTOR, C_QUOTIENT, C_IS_ONE, C_IS_ALL, C_ON_Y, C_LARGEST, C_SHARE, C_FANOUT, C_FULL, C_ROOM, C_ROOM_ABOVE = range(11)
C_WORDS = 11  # [operand] capacity over tile after the choice
C_GROWTH = C_WORDS + OPERANDS  # [operand] growth of the tile
C_SAVED = C_GROWTH + OPERANDS  # [operand] tiles that a loop would leave in place, times how many ask for them
C_RUN = C_SAVED + OPERANDS  # [operand] iterations of all loops of the level that leave it in place
C_LOOP, C_HALO, C_KEEP = C_RUN + OPERANDS, C_RUN + OPERANDS + 1, C_RUN + OPERANDS + 2
C_ROLE = C_KEEP + 1  # [role] of a loop
CHOICE_FEATURES = C_ROLE + ROLES

RUNNING, FINISHED, STUCK = 0, 1, 2


@kernel
def _log(value):  # type: ignore[no-untyped-def]
    return math.log2(value) / SCALE


@kernel
def _words(task, scratch, row, t):  # type: ignore[no-untyped-def]
    """Words of the tile of tensor t over a row of extents, float64[any, dim]."""
    return rank_words(task, task[task[PROJECTION] + t], scratch, row)[0]


@kernel
def _describe(task, roles, numbers, static, state, kind, level, item, scratch, row):  # type: ignore[no-untyped-def]
    """Writes what all choices of a decision share into row; fills scratch [3, dim]: extents below, tiles, loops.

    Args:
        task, roles: the table, and where the roles begin in it.
        numbers, static: the figures, and where STATIC begins in them.
        state: an unfinished mapping.
        kind, level, item: of the decision.
        scratch: float64[3, at least dims].
        row: float32[STATE_FEATURES], zero.
    """
    levels, dims, tensors = task[LEVELS], task[DIMS], task[TENSORS]
    operand = roles + dims
    depends = operand + tensors
    row[S_KIND + min(kind, KINDS - 1)] = 1.0
    row[S_FROM_INSIDE + min(level, _NEAR - 1)] = 1.0
    row[S_FROM_OUTSIDE + min(levels - 1 - level, _NEAR - 1)] = 1.0
    if kind in (PARALLEL, TILE):
        row[S_ROLE + task[roles + state[task[DIM_ORDER] + level * task[ACTIVE] + item]]] = 1.0
    elif kind == KEEP:
        row[S_OPERAND + task[operand + item]] = 1.0
    for k in range(STATIC):
        row[S_STATIC + k] = numbers[static + k]
    for k in range(4):
        near = levels - 1 if k == 3 else level - 1 + k
        if 0 <= near < levels:
            for figure in range(LEVEL_FIGURES):
                row[S_LEVELS + k * LEVEL_FIGURES + figure] = numbers[static + STATIC + near * LEVEL_FIGURES + figure]
    parallelism = 1.0
    for d in range(dims):
        below, spatial_below = 1.0, 1.0
        for s in range(level):
            spatial_below *= state[task[SPATIAL] + s * dims + d]
            below *= state[task[TEMPORAL] + s * dims + d]
        for s in range(levels):
            parallelism *= state[task[SPATIAL] + s * dims + d]
        below *= spatial_below
        spatial = state[task[SPATIAL] + level * dims + d]
        temporal = state[task[TEMPORAL] + level * dims + d]
        scratch[0, d] = below
        scratch[1, d] = below * spatial * temporal
        scratch[2, d] = temporal
        role = task[roles + d]
        row[S_BELOW + role] += _log(below)
        row[S_SPATIAL_BELOW + role] += _log(spatial_below)
        row[S_SPATIAL + role] += _log(spatial)
        row[S_TEMPORAL + role] += _log(temporal)
        if level > 0 and state[task[ORDER_POSITION] + (level - 1) * dims + d] == 1:
            row[S_INNERMOST + role] = 1.0
        if kind <= TILE:
            row[S_OUTSIDE + role] += _log(task[task[DIVISOR] + d * task[DIVISORS] + state[task[REMAINING] + d]])
        else:
            for s in range(level + 1, levels):
                outer = s * dims + d
                row[S_OUTSIDE + role] += _log(state[task[TEMPORAL] + outer] * state[task[SPATIAL] + outer])
    total, total_above = 0.0, 0.0
    for t in range(tensors):
        o = task[operand + t]
        words = _words(task, scratch, 1, t)
        held = held_words(task, level, t, np.int64(words))
        spread = 1.0
        for d in range(dims):
            if task[depends + t * dims + d]:
                spread *= state[task[SPATIAL] + level * dims + d]
        row[S_SPREAD + o] += _log(spread)
        row[S_WORDS + o] += _log(_words(task, scratch, 0, t))
        capacity = task[task[CAPACITY] + level]
        row[S_ROOM + o] += _NO_LIMIT if capacity < 0 else _log(capacity / max(held, 1))
        for k in range(3):
            near = level - 1 + k
            if 0 <= near < levels and state[task[KEPT] + near * tensors + t]:
                row[S_KEPT + k * OPERANDS + o] = 1.0
        if state[task[KEPT] + level * tensors + t]:
            total += held
        if level + 1 < levels and state[task[KEPT] + (level + 1) * tensors + t]:
            total_above += held
    row[S_SUMS] = _room(task, level, total)
    row[S_SUMS + 1] = _room(task, level + 1, total_above)
    row[S_SUMS + 2] = _log(task[task[LIMIT_X] + level] / state[task[USED_X] + level])
    row[S_SUMS + 3] = _log(task[task[LIMIT_Y] + level] / state[task[USED_Y] + level])
    row[S_SUMS + 4] = _log(parallelism)
    if kind in (PARALLEL, TILE):
        for later in range(item + 1, task[ACTIVE]):
            d = state[task[DIM_ORDER] + level * task[ACTIVE] + later]
            row[S_SUMS + 5] += _log(task[task[DIVISOR] + d * task[DIVISORS] + state[task[REMAINING] + d]])


@kernel
def _room(task, level, words):  # type: ignore[no-untyped-def]
    """Capacity of a level over the words that it holds; _NO_LIMIT if it has none or is outside of everything."""
    capacity = task[task[CAPACITY] + level] if level < task[LEVELS] else np.int64(-1)
    return _NO_LIMIT if capacity < 0 else _log(capacity / max(words, 1.0))


@kernel
def _describe_factors(task, roles, state, kind, level, d, choices, count, scratch, rows):  # type: ignore[no-untyped-def]
    """Writes what is special about each factor of dim d into rows [count, CHOICE_FEATURES], zero before."""
    dims, tensors = task[DIMS], task[TENSORS]
    operand = roles + dims
    divisor = task[DIVISOR] + d * task[DIVISORS]
    remaining = task[divisor + state[task[REMAINING] + d]]
    largest_x, largest_y = np.int64(0), np.int64(0)
    for k in range(count):
        if choices[k] >= task[Y_OFFSET]:
            largest_y = max(largest_y, choices[k])
        else:
            largest_x = max(largest_x, choices[k])
    extent = scratch[1, d]
    for k in range(count):
        row = rows[k]
        on_y = choices[k] >= task[Y_OFFSET]
        factor = task[divisor + choices[k] - (task[Y_OFFSET] if on_y else 0)]
        row[C_FACTOR] = _log(factor)
        row[C_QUOTIENT] = _log(remaining / factor)
        row[C_IS_ONE] = factor == 1
        row[C_IS_ALL] = factor == remaining
        row[C_ON_Y] = on_y
        row[C_LARGEST] = choices[k] == (largest_y if on_y else largest_x)
        row[C_SHARE] = math.log2(factor) / math.log2(remaining) if remaining > 1 else 1.0
        if kind == PARALLEL:
            limit = task[(task[LIMIT_Y] if on_y else task[LIMIT_X]) + level]
            left = limit / (state[(task[USED_Y] if on_y else task[USED_X]) + level] * factor)
            row[C_FANOUT] = _log(left)
            row[C_FULL] = left == 1.0
        capacity = task[task[CAPACITY] + level]
        total, total_above = 0.0, 0.0
        for t in range(tensors):
            before = _words(task, scratch, 1, t)
            scratch[1, d] = extent * factor
            words = _words(task, scratch, 1, t)
            scratch[1, d] = extent
            held = held_words(task, level, t, np.int64(words))
            row[C_WORDS + task[operand + t]] += _NO_LIMIT if capacity < 0 else _log(capacity / max(held, 1))
            row[C_GROWTH + task[operand + t]] += _log(words / before)
            if state[task[KEPT] + level * tensors + t]:
                total += held
            if level + 1 < task[LEVELS] and state[task[KEPT] + (level + 1) * tensors + t]:
                total_above += held
        row[C_ROOM] = _room(task, level, total)
        row[C_ROOM_ABOVE] = _room(task, level + 1, total_above)


@kernel
def _describe_loops(task, roles, state, level, choices, count, scratch, rows):  # type: ignore[no-untyped-def]
    """Writes what is special about each loop that could be innermost into rows [count, CHOICE_FEATURES]."""
    dims, tensors = task[DIMS], task[TENSORS]
    operand = roles + dims
    depends = operand + tensors
    factors = task[TEMPORAL] + level * dims
    for k in range(count):
        row, d = rows[k], choices[k]
        row[C_LOOP] = _log(state[factors + d])
        row[C_ROLE + task[roles + d]] = 1.0
        for t in range(tensors):
            o = task[operand + t]
            words = _words(task, scratch, 0, t)
            if task[depends + t * dims + d]:
                # Of a window that slides, the part that is not new.
                extent = scratch[0, d]
                scratch[0, d] = extent + 1.0
                row[C_HALO] = max(row[C_HALO], 1.0 - (_words(task, scratch, 0, t) - words) * extent / words)
                scratch[0, d] = extent
                continue
            run, spread = 1.0, 1.0
            for e in range(dims):
                if task[depends + t * dims + e]:
                    spread *= state[task[SPATIAL] + level * dims + e]
                else:
                    run *= state[factors + e]
            row[C_SAVED + o] += _log(words * spread)
            row[C_RUN + o] += _log(run)


@kernel
def _place_others(task, roles, state, level, d):  # type: ignore[no-untyped-def]
    """Ends the order of a level whose innermost loop is d: loops that reuse a tensor together with d follow it."""
    dims, tensors = task[DIMS], task[TENSORS]
    depends = roles + dims + tensors
    position = 2
    for item in range(task[ACTIVE]):
        e = task[task[ACTIVE_DIMS] + item]
        place = level * dims + e
        if e == d or state[task[TEMPORAL] + place] == 1:
            continue
        for t in range(tensors):
            if not task[depends + t * dims + d] and not task[depends + t * dims + e]:
                state[task[ORDER_POSITION] + place] = position
                position += 1
                break


@kernel
def _make(task, roles, state, kind, level, choice):  # type: ignore[no-untyped-def]
    """Makes a choice; an order is then complete."""
    choose(task, state, choice)
    if kind == ORDER:
        _place_others(task, roles, state, level, choice)
        state[GROUP] += 1
        state[ITEM] = 0


@allocating_kernel
def step(  # type: ignore[no-untyped-def]
    tables, figures, starts, task_of, states, rows, made, outcomes, decisions, options, choices, first
):
    """Makes a choice in each running episode and describes the decisions that follow.

    Args:
        tables, figures: the ``task`` and ``numbers`` arrays of all tasks, one after the other.
        starts: int64[4, number of tasks + 1]: where each begins in the two; and, counted from there, where its roles
            and its STATIC begin.
        task_of: int64[n], task of each episode.
        states: int32[n, ...], updated.
        rows: int64[running], which episodes; receives those that are still running.
        made: int64[running], their choices; -1 for none yet.
        outcomes: int8[n], receives FINISHED or STUCK.
        decisions: float32[running, STATE_FEATURES], receives the descriptions of the decisions.
        options: float32[any, CHOICE_FEATURES], receives those of all their legal choices.
        choices: int64[as many], receives the choices.
        first: int64[running + 1], receives where those of each decision begin.

    Returns:
        how many episodes are still running.
    """
    size, widest = np.int64(2), np.int64(1)
    for k in range(starts.shape[1] - 1):
        task = tables[starts[0, k] : starts[0, k + 1]]
        size, widest = max(size, choices_size(task)), max(widest, task[DIMS])
    buffer, weights = np.empty(size, np.int64), np.empty(size)
    scratch = np.empty((3, widest))
    running, used = 0, 0
    first[0] = 0
    for m in range(len(rows)):
        i = rows[m]
        k = task_of[i]
        task = tables[starts[0, k] : starts[0, k + 1]]
        numbers = figures[starts[1, k] : starts[1, k + 1]]
        roles, static, state = starts[2, k], starts[3, k], states[i]
        if made[m] >= 0:
            entry = task[GROUP_TABLE] + 2 * state[GROUP]
            _make(task, roles, state, task[entry], task[entry + 1], made[m])
        count = advance(task, numbers, state, buffer, weights)
        if count <= 0:
            outcomes[i] = FINISHED if count == COMPLETE else STUCK
            continue
        entry = task[GROUP_TABLE] + 2 * state[GROUP]
        kind, level, item = task[entry], task[entry + 1], state[ITEM]
        decisions[running] = 0.0
        _describe(task, roles, numbers, static, state, kind, level, item, scratch, decisions[running])
        described = options[used : used + count]
        described[:] = 0.0
        if kind in (PARALLEL, TILE):
            d = state[task[DIM_ORDER] + level * task[ACTIVE] + item]
            _describe_factors(task, roles, state, kind, level, d, buffer, count, scratch, described)
        elif kind == KEEP:
            described[1, C_KEEP] = 1.0
        else:
            _describe_loops(task, roles, state, level, buffer, count, scratch, described)
        for c in range(count):
            choices[used + c] = buffer[c]
        used += count
        rows[running] = i
        running += 1
        first[running] = used
    return running


@kernel
def draw(logits, first, temperature, uniform, generator, picked):  # type: ignore[no-untyped-def]
    """Draws a choice of each decision from the softmax of its logits, or uniformly.

    Args:
        logits: float32[...] of all choices.
        first: int64[n + 1], where those of each decision begin.
        temperature: float64[n], divides the logits; 0 takes the largest.
        uniform: float64[n], probability of a uniform draw.
        generator: uint64[1], state of the random numbers, updated.
        picked: int64[n], receives positions in logits.
    """
    for m in range(len(picked)):
        begin, end = first[m], first[m + 1]
        if next_fraction(generator) < uniform[m]:
            picked[m] = begin + next_below(generator, end - begin)
            continue
        best, chosen = -math.inf, begin
        for c in range(begin, end):
            # The largest of logits with Gumbel noise is a draw from their softmax.
            noise = -math.log(-math.log(max(next_fraction(generator), 1e-300)))
            value = logits[c] + temperature[m] * noise
            if value > best:
                best, chosen = value, c
        picked[m] = chosen


@kernel
def follow(tables, starts, task_of, states, wanted, rows, choices, first, picked):  # type: ignore[no-untyped-def]
    """Finds, for each decision, the choice that leads to a given mapping.

    Args:
        tables, starts, task_of, states: see :func:`step`.
        wanted: int32[n, ...], the states of the given mappings, complete.
        rows: int64[m], the episodes whose decisions these are.
        choices, first: their legal choices.
        picked: int64[m], receives positions in choices; -1 where the mapping is not to be had.
    """
    for m in range(len(rows)):
        i = rows[m]
        task = tables[starts[0, task_of[i]] : starts[0, task_of[i] + 1]]
        state, goal = states[i], wanted[i]
        entry = task[GROUP_TABLE] + 2 * state[GROUP]
        kind, level, item = task[entry], task[entry + 1], state[ITEM]
        picked[m] = -1
        for c in range(first[m], first[m + 1]):
            choice = choices[c]
            if kind == KEEP:
                is_it = choice == goal[task[KEPT] + level * task[TENSORS] + item]
            elif kind == ORDER:
                is_it = goal[task[ORDER_POSITION] + level * task[DIMS] + choice] == 1
            else:
                d = state[task[DIM_ORDER] + level * task[ACTIVE] + item]
                place = level * task[DIMS] + d
                on_y = choice >= task[Y_OFFSET]
                factor = task[task[DIVISOR] + d * task[DIVISORS] + choice - (task[Y_OFFSET] if on_y else 0)]
                is_it = factor == goal[(task[TEMPORAL] if kind == TILE else task[SPATIAL]) + place]
                if kind == PARALLEL and factor > 1:
                    is_it = is_it and on_y == (goal[task[AXIS] + place] == AXIS_Y)
            if is_it:
                picked[m] = c
                break
