"""Compiled steps of the environments: one decision, its trace in the observation, and the mask of the next decision.

Arrays: ``task`` and ``state`` as in :mod:`mapgym.mapspace.construction.packed_kernels`; ``numbers`` (float64) are the
``ways`` of the construction, then 1 / log2(bound) of each dim (0 for a bound of 1), then the weights of the two parts
of the potential; ``layout`` as in :mod:`mapgym.envs.common.observation_kernels`.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import accessor, allocating_kernel, inlined_kernel, kernel
from mapgym.compilation.array_kernels import one, two
from mapgym.envs.common import observation_kernels as fields
from mapgym.envs.common.action_kernels import nearest_legal
from mapgym.mapspace.construction import packed_kernels as packed
from mapgym.mapspace.construction.decision_kernels import (
    COMPLETE,
    advance,
    choices_size,
    choose,
    decided_words,
    is_complete,
    minimum_words,
)
from mapgym.mapspace.construction.packed_kernels import (
    GROUP,
    ITEM,
    KEEP,
    ORDER,
    ORDER_X,
    PARALLEL,
    SIDE_X,
    SIDE_Y,
    TILE,
)

Observation: TypeAlias = NDArray[np.float32]
Mask: TypeAlias = NDArray[np.int8]


class Tables(NamedTuple):
    """The ``task`` and ``numbers`` of some tasks, one after the other, where those of each begin, and the layout."""

    tasks: NDArray[np.int64]
    numbers: NDArray[np.float64]
    starts: NDArray[np.int64]  # [2, tasks + 1]
    layout: fields.Layout


@inlined_kernel
def _open_tables(whole: NDArray[np.int64], floats: NDArray[np.float64]) -> Tables:
    """Views of tables that are packed in their order, by :func:`mapgym.compilation.array_kernels.pack_arrays`."""
    return Tables(
        tasks=one(whole, whole, 0),
        numbers=one(floats, whole, 1),
        starts=two(whole, whole, 2),
        layout=one(whole, whole, 3),
    )


class Episodes(NamedTuple):
    """Where some episodes are: one row for each."""

    states: NDArray[np.int32]
    observations: NDArray[np.float32]
    masks: NDArray[np.int8]


class Outcomes(NamedTuple):
    """What came of a step, for each episode."""

    rewards: NDArray[np.float64]
    over: NDArray[np.bool_]
    executed: NDArray[np.int64]  # -1 for none
    is_illegal: NDArray[np.bool_]  # another action than was chosen


@accessor
def _inverse_log(task: packed.Task, numbers: packed.Ways, d: int) -> float:
    """1 / log2(bound) of a dim; 0 for a bound of 1."""
    return numbers[packed.ways_size(task) + d]


@accessor
def _potential_weight(task: packed.Task, numbers: packed.Ways, part: int) -> float:
    """Weight of a part of the potential: 0 parallelism, 1 capacity."""
    return numbers[packed.ways_size(task) + packed.dims(task) + part]


@kernel
def _observe_factor(
    task: packed.Task,
    numbers: packed.Ways,
    layout: fields.Layout,
    state: packed.State,
    observation: Observation,
    level: int,
    d: int,
    kind: int,
) -> None:
    """Writes a factor, what it leaves of its dim and, for a parallel one, what the level uses of its fan-out."""
    inverse_log = _inverse_log(task, numbers, d)
    left = packed.divisor(task, d, state[packed.remaining_at(task, d)])
    observation[fields.entry(layout, fields.REMAINING, d)] = math.log2(left) * inverse_log if left > 1 else 0.0
    factor = state[packed.temporal_at(task, level, d) if kind == TILE else packed.spatial_at(task, level, d)]
    if factor == 1:
        return
    field = fields.TEMPORAL
    if kind == PARALLEL:
        on_x = state[packed.side_at(task, level, d)] == SIDE_X
        side = SIDE_X if on_x else SIDE_Y
        field = fields.SPATIAL_X if on_x else fields.SPATIAL_Y
        share = math.log2(state[packed.used_at(task, side, level)]) / math.log2(packed.limit(task, side, level))
        observation[fields.entry(layout, fields.FANOUT_USED_X if on_x else fields.FANOUT_USED_Y, level)] = share
    observation[fields.of_dim(layout, field, level, d)] = math.log2(factor) * inverse_log


@kernel
def _observe_group(
    task: packed.Task,
    numbers: packed.Ways,
    layout: fields.Layout,
    state: packed.State,
    observation: Observation,
    group: int,
    first: int,
    last: int,
) -> None:
    """Writes the decisions first..last-1 of a group into the observation."""
    kind, level = packed.kind(task, group), packed.level(task, group)
    if kind == KEEP:
        for t in range(first, last):
            observation[fields.of_tensor(layout, fields.KEEP, level, t)] = state[packed.kept_at(task, level, t)]
    elif kind >= ORDER_X:
        field = fields.ORDER if kind == ORDER else fields.SPATIAL_ORDER
        for item in range(packed.active(task)):
            d = packed.active_dim(task, item)
            temporal, spatial = packed.order_at(task, level, d), packed.spatial_order_at(task, level, d)
            position = state[temporal if kind == ORDER else spatial]
            if position > 0:
                observation[fields.of_dim(layout, field, level, d)] = position / fields.dims(layout)
    else:
        for item in range(first, last):
            d = packed.int64(state[packed.visited_at(task, level, item)])
            _observe_factor(task, numbers, layout, state, observation, level, d, kind)


@kernel
def _observe_capacity(
    task: packed.Task, layout: fields.Layout, state: packed.State, observation: Observation, first: int
) -> None:
    """Writes the share of each capacity that is surely used, from level ``first`` outwards."""
    deciding = packed.levels(task) - 1
    if not is_complete(task, state):
        kind = packed.kind(task, state[GROUP])
        if kind <= TILE:
            deciding = packed.level(task, state[GROUP]) if kind != KEEP else 0
    for level in range(first, packed.levels(task) - 1):
        capacity = packed.capacity(task, level)
        if capacity >= 0:
            is_decided = level < deciding
            words = decided_words(task, state, level) if is_decided else minimum_words(task, state, level, -1, 1)
            observation[fields.entry(layout, fields.CAPACITY_USED, level)] = words / capacity


@kernel
def _observe_decision(task: packed.Task, layout: fields.Layout, state: packed.State, observation: Observation) -> None:
    """Writes which decision is next, as one-hots, and how far the episode is."""
    progress = fields.entry(layout, fields.PROGRESS, 0)
    for position in range(fields.entry(layout, fields.DECISION_KIND, 0), progress):
        observation[position] = 0.0
    if is_complete(task, state):
        observation[progress] = 1.0
        return
    group, item = state[GROUP], state[ITEM]
    kind, level = packed.kind(task, group), packed.level(task, group)
    observation[fields.entry(layout, fields.DECISION_KIND, kind)] = 1.0
    observation[fields.entry(layout, fields.DECISION_LEVEL, level)] = 1.0
    if kind == KEEP:
        observation[fields.entry(layout, fields.DECISION_TENSOR, item)] = 1.0
    elif kind < ORDER_X:
        observation[fields.entry(layout, fields.DECISION_DIM, state[packed.visited_at(task, level, item)])] = 1.0
    observation[progress] = (group + item / packed.items(task, kind)) / packed.groups(task)


@kernel
def _observe(
    task: packed.Task,
    numbers: packed.Ways,
    layout: fields.Layout,
    state: packed.State,
    observation: Observation,
    group: int,
    item: int,
) -> None:
    """Brings an observation up to date with everything decided since (group, item)."""
    kind = packed.kind(task, group)
    for g in range(group, min(state[GROUP] + 1, packed.groups(task))):
        last = state[ITEM] if g == state[GROUP] else packed.items(task, packed.kind(task, g))
        _observe_group(task, numbers, layout, state, observation, g, item if g == group else 0, last)
    if kind <= TILE:
        first = 0 if kind == KEEP else packed.level(task, group)
        _observe_capacity(task, layout, state, observation, first)
    _observe_decision(task, layout, state, observation)


@kernel
def _potential(task: packed.Task, numbers: packed.Ways, state: packed.State) -> float:
    """The shaping potential; see :mod:`mapgym.envs.common.reward`."""
    if is_complete(task, state):
        return 0.0
    bounded = 0
    for level in range(packed.levels(task) - 1):
        bounded += packed.capacity(task, level) >= 0
    parallelism, capacity_use = 0.0, 0.0
    for group in range(state[GROUP]):
        kind, level = packed.kind(task, group), packed.level(task, group)
        if kind == PARALLEL:
            used = packed.int64(state[packed.used_at(task, SIDE_X, level)]) * state[packed.used_at(task, SIDE_Y, level)]
            parallelism += math.log(used / (packed.limit(task, SIDE_X, level) * packed.limit(task, SIDE_Y, level)))
        elif kind == TILE and level < packed.levels(task) - 1 and packed.capacity(task, level) >= 0:
            words = decided_words(task, state, level)
            if words > 0:
                capacity_use += math.log(words / packed.capacity(task, level)) / bounded
    return _potential_weight(task, numbers, 0) * parallelism + _potential_weight(task, numbers, 1) * capacity_use


@kernel
def _write_mask(mask: Mask, choices: NDArray[np.int64], count: int) -> None:
    """Marks the legal actions; with no decision left action 0 is legal and only ends the episode."""
    for action in range(len(mask)):
        mask[action] = 0
    for k in range(count):
        mask[choices[k]] = 1
    if count == 0:
        mask[0] = 1


@kernel
def _step(
    task: packed.Task,
    numbers: packed.Ways,
    layout: fields.Layout,
    state: packed.State,
    observation: Observation,
    mask: Mask,
    choices: NDArray[np.int64],
    weights: NDArray[np.float64],
    action: int,
    is_nearest: bool,
) -> int:
    """Takes one decision and all forced ones after it. Returns the action that was executed, -1 for none."""
    if not (0 <= action < len(mask) and mask[action]):
        if not is_nearest:
            return -1
        action = nearest_legal(mask, action)
    if not is_complete(task, state):
        group, item = packed.int64(state[GROUP]), packed.int64(state[ITEM])
        choose(task, state, action)
        count = advance(task, numbers, state, choices, weights)
        _observe(task, numbers, layout, state, observation, group, item)
        _write_mask(mask, choices, count)
    return action


@allocating_kernel
def start_episode(
    task: packed.Task,
    numbers: packed.Ways,
    layout: fields.Layout,
    state: packed.State,
    observation: Observation,
    mask: Mask,
) -> bool:
    """Takes the decisions that are forced from the start; observation holds the static features before.

    Returns:
        False if there is no legal mapping after all.
    """
    choices = np.empty(choices_size(task), np.int64)
    weights = np.empty(len(choices))
    count = advance(task, numbers, state, choices, weights)
    for d in range(packed.dims(task)):
        observation[fields.entry(layout, fields.REMAINING, d)] = _inverse_log(task, numbers, d) > 0.0
    for level in range(packed.levels(task)):
        for t in range(packed.tensors(task)):
            observation[fields.of_tensor(layout, fields.KEEP, level, t)] = state[packed.kept_at(task, level, t)]
    for group in range(packed.groups(task)):
        if packed.kind(task, group) == KEEP:
            # A tensor about which nothing is decided yet is half kept.
            for t in range(packed.tensors(task)):
                observation[fields.of_tensor(layout, fields.KEEP, packed.level(task, group), t)] = 0.5
    if packed.groups(task) > 0:
        _observe(task, numbers, layout, state, observation, 0, 0)
        _observe_capacity(task, layout, state, observation, 0)
    _write_mask(mask, choices, max(count, 0))
    return count >= COMPLETE


@allocating_kernel
def step_one(
    task: packed.Task,
    numbers: packed.Ways,
    layout: fields.Layout,
    state: packed.State,
    observation: Observation,
    mask: Mask,
    action: int,
    is_shaped: bool,
    is_nearest: bool,
) -> tuple[bool, int, float]:
    """One step of one environment.

    Args:
        task, numbers, layout, state, observation, mask: see the module; state, observation and mask are updated.
        action: what the agent chose, any integer.
        is_shaped: whether to compute the shaping reward.
        is_nearest: whether the nearest legal action takes the place of an illegal one; otherwise none does.

    Returns:
        whether the episode is over, the action that was executed (-1 for none), the shaping reward.
    """
    choices = np.empty(choices_size(task), np.int64)
    weights = np.empty(len(choices))
    before = _potential(task, numbers, state) if is_shaped else 0.0
    executed = _step(task, numbers, layout, state, observation, mask, choices, weights, action, is_nearest)
    after = _potential(task, numbers, state) if is_shaped else 0.0
    return executed >= 0 and is_complete(task, state), executed, after - before


@allocating_kernel
def step_many(
    whole: NDArray[np.int64],
    floats: NDArray[np.float64],
    episodes: tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int8]],
    task_of: NDArray[np.int64],
    running: NDArray[np.bool_],
    actions: NDArray[np.int64],
    is_shaped: bool,
    is_nearest: bool,
    outcomes: tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64], NDArray[np.bool_]],
) -> int:
    """One step of many environments.

    Args:
        whole, floats: a packed :class:`Tables`.
        episodes: the arrays of an :class:`Episodes`, updated.
        task_of: int64[n], task of each environment.
        running: bool[n], which of them take a step.
        actions: int64[n].
        is_shaped: whether rewards include shaping.
        is_nearest: see :func:`step_one`.
        outcomes: the arrays of an :class:`Outcomes`, filled; an environment that takes no step executes none.

    Returns:
        how many of the episodes are over now.
    """
    all_tasks, all_numbers, starts, layout = _open_tables(whole, floats)
    now, result = Episodes(*episodes), Outcomes(*outcomes)
    size = 2
    for k in range(starts.shape[1] - 1):
        size = max(size, choices_size(all_tasks[starts[0, k] : starts[0, k + 1]]))
    choices, weights = np.empty(size, np.int64), np.empty(size)
    ended = 0
    for i in range(len(actions)):
        result.rewards[i], result.over[i], result.executed[i], result.is_illegal[i] = 0.0, False, -1, False
        if not running[i]:
            continue
        k, state, mask = task_of[i], now.states[i], now.masks[i]
        task = all_tasks[starts[0, k] : starts[0, k + 1]]
        numbers = all_numbers[starts[1, k] : starts[1, k + 1]]
        before = _potential(task, numbers, state) if is_shaped else 0.0
        observation = now.observations[i]
        executed = _step(task, numbers, layout, state, observation, mask, choices, weights, actions[i], is_nearest)
        result.executed[i] = executed
        result.is_illegal[i] = executed != actions[i]
        if is_shaped:
            result.rewards[i] = _potential(task, numbers, state) - before
        if executed >= 0 and is_complete(task, state):
            result.over[i] = True
            ended += 1
    return ended


@kernel
def reset_many(
    beginnings: tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int8]],
    task_of: NDArray[np.int64],
    rows: NDArray[np.int64],
    episodes: tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int8]],
) -> None:
    """Puts the environments in rows at the beginning of their tasks.

    Args:
        beginnings: the arrays of an :class:`Episodes` with a row for each task.
        task_of, rows, episodes: see :func:`step_many`.
    """
    first, now = Episodes(*beginnings), Episodes(*episodes)
    for i in rows:
        k = task_of[i]
        for position in range(now.states.shape[1]):
            now.states[i, position] = first.states[k, position]
        for position in range(now.observations.shape[1]):
            now.observations[i, position] = first.observations[k, position]
        for action in range(now.masks.shape[1]):
            now.masks[i, action] = first.masks[k, action]
