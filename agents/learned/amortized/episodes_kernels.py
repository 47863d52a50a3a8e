"""Compiled half of the amortized policy: what it sees of a decision, and its draws among the legal choices.

Decisions are those of :mod:`mapgym.mapspace.construction.construction`. Many episodes of different tasks go on side by
side; one call makes a choice in each of them, takes what is forced, and describes the next decision and its legal
choices, so that the network is asked once for all of them. An order is one decision, which temporal loop is innermost:
the loops that reuse a tensor together with it follow, then the others.

Everything that a network sees is on a log2 scale, divided by ``SCALE``. Arrays ``task`` and ``state`` are those of
:mod:`mapgym.mapspace.construction.packed_kernels`.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import allocating_kernel, inlined_kernel, kernel
from mapgym.compilation.random_kernels import next_below, next_fraction
from mapgym.mapping.rank_kernels import rank_words
from mapgym.mapspace.construction import packed_kernels as packed
from mapgym.mapspace.construction.decision_kernels import (
    COMPLETE,
    advance,
    choices_size,
    choose,
    end_group,
    held_words,
    next_decision,
    row_dim,
    split_choice,
)
from mapgym.mapspace.construction.packed_kernels import (
    ITEM,
    KEEP,
    ORDER,
    PARALLEL,
    SIDE_X,
    SIDE_Y,
    TILE,
)

KINDS, ROLES, OPERANDS, LEVEL_METRICS = 4, 8, 3, 8
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
S_BELOW = S_LEVELS + 4 * LEVEL_METRICS  # [role] product of all factors of inner levels
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


Indices: TypeAlias = NDArray[np.int64]
Row: TypeAlias = NDArray[np.float32]
Extents: TypeAlias = NDArray[np.float64]


class Tables(NamedTuple):
    """Everything about some tasks; all but the first three arrays have a row for each, as long as the largest needs."""

    tasks: Indices  # the ``task`` of all constructions, one after the other
    ways: NDArray[np.float64]  # likewise
    starts: Indices  # [2, tasks + 1] where those of each begin in the two
    roles: Indices  # [task, dim]
    operands: Indices  # [task, tensor]
    depends: NDArray[np.bool_]  # [task, tensor, dim]
    static: NDArray[np.float64]  # [task, STATIC] what is the same in all decisions
    metrics: NDArray[np.float64]  # [task, level, LEVEL_METRICS]


class Task(NamedTuple):
    """What :class:`Tables` have of one task."""

    table: packed.Task
    ways: packed.Ways
    roles: Indices
    operands: Indices
    depends: NDArray[np.bool_]
    static: NDArray[np.float64]
    metrics: NDArray[np.float64]


class Offers(NamedTuple):
    """The decisions of the running episodes and their legal choices, one after the other."""

    decisions: Row  # [running, STATE_FEATURES]
    options: Row  # [choices of all, CHOICE_FEATURES]
    choices: Indices  # [choices of all]
    first: Indices  # [running + 1] where those of each decision begin


@inlined_kernel
def _task(tables: Tables, k: int) -> Task:
    """Task k."""
    return Task(
        tables.tasks[tables.starts[0, k] : tables.starts[0, k + 1]],
        tables.ways[tables.starts[1, k] : tables.starts[1, k + 1]],
        tables.roles[k],
        tables.operands[k],
        tables.depends[k],
        tables.static[k],
        tables.metrics[k],
    )


@kernel
def _log(value: float) -> float:
    return math.log2(value) / SCALE


@kernel
def _words(table: packed.Task, extents: Extents, row: int, t: int) -> float:
    """Words of the tile of tensor t over a row of extents."""
    return rank_words(table, packed.ranks(table, t), extents, row)[0]


@kernel
def _left(table: packed.Task, state: packed.State, d: int) -> int:
    """What is left of the bound of a dim."""
    return packed.divisor(table, d, state[packed.remaining_at(table, d)])


@kernel
def _room(table: packed.Task, level: int, words: float) -> float:
    """Capacity of a level over the words that it holds; _NO_LIMIT if it has none or is outside of everything."""
    capacity = packed.capacity(table, level) if level < packed.levels(table) else -1
    return _NO_LIMIT if capacity < 0 else _log(capacity / max(words, 1.0))


@kernel
def _keeps(table: packed.Task, state: packed.State, level: int, t: int) -> bool:
    """Whether there is such a level, and it keeps a tensor."""
    return 0 <= level < packed.levels(table) and state[packed.kept_at(table, level, t)] != 0


@kernel
def _describe(task: Task, state: packed.State, extents: Extents, row: Row) -> None:
    """Writes what all choices of a decision share.

    Args:
        task: the task.
        state: an unfinished mapping.
        extents: float64[3, at least dims], receives the extents below the level, those of its tiles, and its loops.
        row: float32[STATE_FEATURES], zero.
    """
    table = task.table
    kind, level, item = next_decision(table, state)
    levels = packed.levels(table)
    row[S_KIND + min(kind, KINDS - 1)] = 1.0
    row[S_FROM_INSIDE + min(level, _NEAR - 1)] = 1.0
    row[S_FROM_OUTSIDE + min(levels - 1 - level, _NEAR - 1)] = 1.0
    if kind in (PARALLEL, TILE):
        row[S_ROLE + task.roles[item]] = 1.0
    elif kind == KEEP:
        row[S_OPERAND + task.operands[item]] = 1.0
    for k in range(STATIC):
        row[S_STATIC + k] = task.static[k]
    for k in range(4):
        near = levels - 1 if k == 3 else level - 1 + k
        if 0 <= near < levels:
            for metric in range(LEVEL_METRICS):
                row[S_LEVELS + k * LEVEL_METRICS + metric] = task.metrics[near, metric]
    row[S_SUMS + 4] = _log(_describe_dims(task, state, kind, level, extents, row))
    _describe_tensors(task, state, level, extents, row)
    for k, side in ((2, SIDE_X), (3, SIDE_Y)):
        row[S_SUMS + k] = _log(packed.limit(table, side, level) / state[packed.used_at(table, side, level)])
    if kind in (PARALLEL, TILE):
        for later in range(state[ITEM] + 1, packed.active(table)):
            row[S_SUMS + 5] += _log(_left(table, state, state[packed.visited_at(table, level, later)]))


@kernel
def _describe_dims(task: Task, state: packed.State, kind: int, level: int, extents: Extents, row: Row) -> float:
    """Writes what :func:`_describe` says of each dim and fills extents; returns the product of parallel factors."""
    table = task.table
    parallelism = 1.0
    for d in range(packed.dims(table)):
        below, spatial_below = 1.0, 1.0
        for s in range(level):
            spatial_below *= state[packed.spatial_at(table, s, d)]
            below *= state[packed.temporal_at(table, s, d)]
        for s in range(packed.levels(table)):
            parallelism *= state[packed.spatial_at(table, s, d)]
        below *= spatial_below
        spatial = state[packed.spatial_at(table, level, d)]
        temporal = state[packed.temporal_at(table, level, d)]
        extents[0, d] = below
        extents[1, d] = below * spatial * temporal
        extents[2, d] = temporal
        role = task.roles[d]
        row[S_BELOW + role] += _log(below)
        row[S_SPATIAL_BELOW + role] += _log(spatial_below)
        row[S_SPATIAL + role] += _log(spatial)
        row[S_TEMPORAL + role] += _log(temporal)
        if level > 0 and state[packed.order_at(table, level - 1, d)] == 1:
            row[S_INNERMOST + role] = 1.0
        if kind <= TILE:
            row[S_OUTSIDE + role] += _log(_left(table, state, d))
        else:
            for s in range(level + 1, packed.levels(table)):
                factor = state[packed.temporal_at(table, s, d)] * state[packed.spatial_at(table, s, d)]
                row[S_OUTSIDE + role] += _log(factor)
    return parallelism


@kernel
def _describe_tensors(task: Task, state: packed.State, level: int, extents: Extents, row: Row) -> None:
    """Writes what :func:`_describe` says of each tensor, and of the room for all."""
    table = task.table
    total, total_above = 0.0, 0.0
    for t in range(packed.tensors(table)):
        operand = task.operands[t]
        row_of = row_dim(table, level, t)
        rows = packed.int64(extents[1, row_of]) if row_of >= 0 else 1
        held = held_words(table, level, t, packed.int64(_words(table, extents, 1, t)), rows)
        spread = 1.0
        for d in range(packed.dims(table)):
            if task.depends[t, d]:
                spread *= state[packed.spatial_at(table, level, d)]
        row[S_SPREAD + operand] += _log(spread)
        row[S_WORDS + operand] += _log(_words(table, extents, 0, t))
        capacity = packed.capacity(table, level)
        row[S_ROOM + operand] += _NO_LIMIT if capacity < 0 else _log(capacity / max(held, 1))
        for k in range(3):
            if _keeps(table, state, level - 1 + k, t):
                row[S_KEPT + k * OPERANDS + operand] = 1.0
        if _keeps(table, state, level, t):
            total += held
        if _keeps(table, state, level + 1, t):
            total_above += held
    row[S_SUMS] = _room(table, level, total)
    row[S_SUMS + 1] = _room(table, level + 1, total_above)


@kernel
def _describe_factors(task: Task, state: packed.State, choices: Indices, extents: Extents, rows: Row) -> None:
    """Writes what is special about each factor into rows [choice, CHOICE_FEATURES], zero before."""
    table = task.table
    kind, level, d = next_decision(table, state)
    remaining = _left(table, state, d)
    largest_x, largest_y = 0, 0
    for choice in choices:
        if split_choice(table, choice)[1] == SIDE_Y:
            largest_y = max(largest_y, choice)
        else:
            largest_x = max(largest_x, choice)
    extent = extents[1, d]
    for k in range(len(choices)):
        row = rows[k]
        j, side = split_choice(table, choices[k])
        factor = packed.divisor(table, d, j)
        row[C_FACTOR] = _log(factor)
        row[C_QUOTIENT] = _log(remaining / factor)
        row[C_IS_ONE] = factor == 1
        row[C_IS_ALL] = factor == remaining
        row[C_ON_Y] = side == SIDE_Y
        row[C_LARGEST] = choices[k] == (largest_y if side == SIDE_Y else largest_x)
        row[C_SHARE] = math.log2(factor) / math.log2(remaining) if remaining > 1 else 1.0
        if kind == PARALLEL:
            left = packed.limit(table, side, level) / (state[packed.used_at(table, side, level)] * factor)
            row[C_FANOUT] = _log(left)
            row[C_FULL] = left == 1.0
        capacity = packed.capacity(table, level)
        total, total_above = 0.0, 0.0
        for t in range(packed.tensors(table)):
            operand = task.operands[t]
            before = _words(table, extents, 1, t)
            extents[1, d] = extent * factor
            words = _words(table, extents, 1, t)
            row_of = row_dim(table, level, t)
            tile_rows = packed.int64(extents[1, row_of]) if row_of >= 0 else 1
            extents[1, d] = extent
            held = held_words(table, level, t, packed.int64(words), tile_rows)
            row[C_WORDS + operand] += _NO_LIMIT if capacity < 0 else _log(capacity / max(held, 1))
            row[C_GROWTH + operand] += _log(words / before)
            if _keeps(table, state, level, t):
                total += held
            if _keeps(table, state, level + 1, t):
                total_above += held
        row[C_ROOM] = _room(table, level, total)
        row[C_ROOM_ABOVE] = _room(table, level + 1, total_above)


@kernel
def _describe_loops(task: Task, state: packed.State, level: int, choices: Indices, extents: Extents, rows: Row) -> None:
    """Writes what is special about each loop that could be innermost into rows [choice, CHOICE_FEATURES]."""
    table = task.table
    for k in range(len(choices)):
        row, d = rows[k], choices[k]
        row[C_LOOP] = _log(state[packed.temporal_at(table, level, d)])
        row[C_ROLE + task.roles[d]] = 1.0
        for t in range(packed.tensors(table)):
            operand = task.operands[t]
            words = _words(table, extents, 0, t)
            if task.depends[t, d]:
                # Of a window that slides, the part that is not new.
                extent = extents[0, d]
                extents[0, d] = extent + 1.0
                row[C_HALO] = max(row[C_HALO], 1.0 - (_words(table, extents, 0, t) - words) * extent / words)
                extents[0, d] = extent
                continue
            run, spread = 1.0, 1.0
            for e in range(packed.dims(table)):
                if task.depends[t, e]:
                    spread *= state[packed.spatial_at(table, level, e)]
                else:
                    run *= state[packed.temporal_at(table, level, e)]
            row[C_SAVED + operand] += _log(words * spread)
            row[C_RUN + operand] += _log(run)


@kernel
def _place_others(task: Task, state: packed.State, level: int, d: int) -> None:
    """Ends the order of a level whose innermost loop is d: loops that reuse a tensor together with d follow it."""
    table = task.table
    position = 2
    for item in range(packed.active(table)):
        e = packed.active_dim(table, item)
        if e == d or state[packed.temporal_at(table, level, e)] == 1:
            continue
        for t in range(packed.tensors(table)):
            if not task.depends[t, d] and not task.depends[t, e]:
                state[packed.order_at(table, level, e)] = position
                position += 1
                break


@kernel
def _make(task: Task, state: packed.State, choice: int) -> None:
    """Makes a choice; an order is then complete."""
    kind, level, _ = next_decision(task.table, state)
    choose(task.table, state, choice)
    if kind == ORDER:
        _place_others(task, state, level, choice)
        end_group(state)


@allocating_kernel
def step(
    arrays: tuple[Indices, Extents, Indices, Indices, Indices, NDArray[np.bool_], Extents, Extents],
    task_of: Indices,
    states: packed.State,
    rows: Indices,
    made: Indices,
    outcomes: NDArray[np.int8],
    offered: tuple[Row, Row, Indices, Indices],
) -> int:
    """Makes a choice in each running episode and describes the decisions that follow.

    Args:
        arrays: those of :class:`Tables`.
        task_of: int64[n], task of each episode.
        states: int32[n, ...], updated.
        rows: int64[running], which episodes; receives those that are still running.
        made: int64[running], their choices; -1 for none yet.
        outcomes: int8[n], receives FINISHED or STUCK.
        offered: the arrays of an :class:`Offers`, filled.

    Returns:
        how many episodes are still running.
    """
    tables, offers = Tables(*arrays), Offers(*offered)
    size = 2
    for k in range(len(tables.roles)):
        size = max(size, choices_size(_task(tables, k).table))
    buffer, weights = np.empty(size, np.int64), np.empty(size)
    extents = np.empty((3, tables.roles.shape[1]))
    running, used = 0, 0
    offers.first[0] = 0
    for m in range(len(rows)):
        i = rows[m]
        task, state = _task(tables, task_of[i]), states[i]
        if made[m] >= 0:
            _make(task, state, made[m])
        count = advance(task.table, task.ways, state, buffer, weights)
        if count <= 0:
            outcomes[i] = FINISHED if count == COMPLETE else STUCK
            continue
        kind, level, _ = next_decision(task.table, state)
        choices = buffer[:count]
        offers.decisions[running] = 0.0
        _describe(task, state, extents, offers.decisions[running])
        described = offers.options[used : used + count]
        described[:] = 0.0
        if kind in (PARALLEL, TILE):
            _describe_factors(task, state, choices, extents, described)
        elif kind == KEEP:
            described[1, C_KEEP] = 1.0
        else:
            _describe_loops(task, state, level, choices, extents, described)
        offers.choices[used : used + count] = choices
        used += count
        rows[running] = i
        running += 1
        offers.first[running] = used
    return running


@kernel
def draw(
    logits: Row,
    first: Indices,
    temperature: NDArray[np.float64],
    uniform: NDArray[np.float64],
    generator: NDArray[np.uint64],
    picked: Indices,
) -> None:
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
def _leads_to(table: packed.Task, state: packed.State, choice: int, goal: packed.State) -> bool:
    """Whether a choice is the one that leads to a complete state."""
    kind, level, item = next_decision(table, state)
    if kind == KEEP:
        return choice == goal[packed.kept_at(table, level, item)]
    if kind == ORDER:
        return goal[packed.order_at(table, level, choice)] == 1
    j, side = split_choice(table, choice)
    factor = packed.divisor(table, item, j)
    if kind == TILE:
        return factor == goal[packed.temporal_at(table, level, item)]
    is_on_side = factor == 1 or side == goal[packed.side_at(table, level, item)]
    return is_on_side and factor == goal[packed.spatial_at(table, level, item)]


@kernel
def follow(
    arrays: tuple[Indices, Extents, Indices, Indices, Indices, NDArray[np.bool_], Extents, Extents],
    task_of: Indices,
    states: packed.State,
    wanted: packed.State,
    rows: Indices,
    offered: tuple[Row, Row, Indices, Indices],
    picked: Indices,
) -> None:
    """Finds, for each decision, the choice that leads to a given mapping.

    Args:
        arrays, task_of, states, offered: see :func:`step`.
        wanted: int32[n, ...], the states of the given mappings, complete.
        rows: int64[m], the episodes whose decisions these are.
        picked: int64[m], receives positions in the choices; -1 where the mapping is not to be had.
    """
    tables, offers = Tables(*arrays), Offers(*offered)
    for m in range(len(rows)):
        i = rows[m]
        table = _task(tables, task_of[i]).table
        picked[m] = -1
        for c in range(offers.first[m], offers.first[m + 1]):
            if _leads_to(table, states[i], offers.choices[c], wanted[i]):
                picked[m] = c
                break
