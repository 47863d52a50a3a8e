"""Compiled steps of the environments: one decision, its trace in the observation, and the mask of the next decision.

Arrays: ``task`` and ``state`` as in :mod:`mapgym.mapspace.construction.decision_kernels`; ``numbers`` (float64) are the
``ways`` of the construction, then 1 / log2(bound) of each dim (0 for a bound of 1), then the weights of the two parts
of the potential; ``layout`` is :attr:`ObservationLayout.table`.
"""

from __future__ import annotations

import math

import numpy as np

from mapgym.compilation import allocating_kernel, kernel
from mapgym.compilation.random_kernels import next_below
from mapgym.mapspace.construction.decision_kernels import (
    ACTIVE,
    ACTIVE_DIMS,
    AXIS,
    AXIS_X,
    CAPACITY,
    COMPLETE,
    DIM_ORDER,
    DIMS,
    DIVISOR,
    DIVISORS,
    GROUP,
    GROUP_TABLE,
    GROUPS,
    ITEM,
    KEEP,
    KEPT,
    LEVELS,
    LIMIT_X,
    LIMIT_Y,
    ORDER,
    ORDER_POSITION,
    ORDER_X,
    PARALLEL,
    PROJECTION,
    REMAINING,
    SPATIAL,
    SPATIAL_POSITION,
    TEMPORAL,
    TENSORS,
    TILE,
    USED_X,
    USED_Y,
    advance,
    choices_size,
    choose,
    held_words,
    minimum_words,
)

# Positions in layout: sizes, then the starts of the fields that change (observation.DYNAMIC_FIELDS).
(
    MAX_LEVELS,
    MAX_DIMS,
    MAX_TENSORS,
    F_REMAINING,
    F_TEMPORAL,
    F_SPATIAL_X,
    F_SPATIAL_Y,
    F_KEEP,
    F_ORDER,
    F_SPATIAL_ORDER,
    F_CAPACITY_USED,
    F_FANOUT_USED_X,
    F_FANOUT_USED_Y,
    F_KIND,
    F_LEVEL,
    F_DIM,
    F_TENSOR,
    F_PROGRESS,
) = range(18)

RUNNING, FINISHED, WAS_RESET = 0, 1, 2
"""What became of an environment in a step."""


@kernel
def _inverse_logs(task):  # type: ignore[no-untyped-def]
    """Position of the 1 / log2(bound) in numbers."""
    return (2 * task[LEVELS] + 1) * task[DIMS] * task[DIVISORS]


@kernel
def _decided_words(task, state, level):  # type: ignore[no-untyped-def]
    """Words of the kept tiles of a level whose factors are all decided, whatever outer levels have added since."""
    dims, tensors = task[DIMS], task[TENSORS]
    total = np.int64(0)
    for t in range(tensors):
        if state[task[KEPT] + level * tensors + t] == 0:
            continue
        words = np.int64(1)
        cursor = task[task[PROJECTION] + t]
        ranks = task[cursor]
        cursor += 1
        for _ in range(ranks):
            terms = task[cursor]
            cursor += 1
            length = np.int64(1)
            for _ in range(terms):
                extent = np.int64(1)
                for inner in range(level + 1):
                    place = inner * dims + task[cursor]
                    extent *= np.int64(state[task[TEMPORAL] + place]) * state[task[SPATIAL] + place]
                length += task[cursor + 1] * (extent - 1)
                cursor += 2
            words *= length
        total += held_words(task, level, t, words)
    return total


@kernel
def _observe_factor(task, numbers, layout, state, observation, level, d, kind):  # type: ignore[no-untyped-def]
    inverse_log = numbers[_inverse_logs(task) + d]
    left = task[task[DIVISOR] + d * task[DIVISORS] + state[task[REMAINING] + d]]
    observation[layout[F_REMAINING] + d] = math.log2(left) * inverse_log if left > 1 else 0.0
    place = level * task[DIMS] + d
    factor = state[(task[TEMPORAL] if kind == TILE else task[SPATIAL]) + place]
    if factor == 1:
        return
    field = layout[F_TEMPORAL]
    if kind == PARALLEL:
        on_x = state[task[AXIS] + place] == AXIS_X
        field = layout[F_SPATIAL_X] if on_x else layout[F_SPATIAL_Y]
        used = state[(task[USED_X] if on_x else task[USED_Y]) + level]
        limit = task[(task[LIMIT_X] if on_x else task[LIMIT_Y]) + level]
        used_field = layout[F_FANOUT_USED_X] if on_x else layout[F_FANOUT_USED_Y]
        observation[used_field + level] = math.log2(used) / math.log2(limit)
    observation[field + level * layout[MAX_DIMS] + d] = math.log2(factor) * inverse_log


@kernel
def _observe_group(task, numbers, layout, state, observation, group, first, last):  # type: ignore[no-untyped-def]
    """Writes the decisions first..last-1 of a group into the observation."""
    entry = task[GROUP_TABLE] + 2 * group
    kind, level = task[entry], task[entry + 1]
    if kind == KEEP:
        for t in range(first, last):
            kept = state[task[KEPT] + level * task[TENSORS] + t]
            observation[layout[F_KEEP] + level * layout[MAX_TENSORS] + t] = kept
    elif kind >= ORDER_X:
        positions = task[ORDER_POSITION] if kind == ORDER else task[SPATIAL_POSITION]
        field = layout[F_ORDER] if kind == ORDER else layout[F_SPATIAL_ORDER]
        for item in range(task[ACTIVE]):
            d = task[task[ACTIVE_DIMS] + item]
            position = state[positions + level * task[DIMS] + d]
            if position > 0:
                observation[field + level * layout[MAX_DIMS] + d] = position / layout[MAX_DIMS]
    else:
        for item in range(first, last):
            d = np.int64(state[task[DIM_ORDER] + level * task[ACTIVE] + item])
            _observe_factor(task, numbers, layout, state, observation, level, d, kind)


@kernel
def _observe_capacity(task, layout, state, observation, first):  # type: ignore[no-untyped-def]
    """Writes the share of each capacity that is surely used, from level ``first`` outwards."""
    deciding = task[LEVELS] - 1
    if state[GROUP] < task[GROUPS]:
        entry = task[GROUP_TABLE] + 2 * state[GROUP]
        if task[entry] <= TILE:
            deciding = task[entry + 1] if task[entry] != KEEP else 0
    for level in range(first, task[LEVELS] - 1):
        capacity = task[task[CAPACITY] + level]
        if capacity >= 0:
            is_decided = level < deciding
            words = _decided_words(task, state, level) if is_decided else minimum_words(task, state, level, -1, 1)
            observation[layout[F_CAPACITY_USED] + level] = words / capacity


@kernel
def _observe_decision(task, layout, state, observation):  # type: ignore[no-untyped-def]
    """Writes which decision is next, as one-hots, and how far the episode is."""
    for position in range(layout[F_KIND], layout[F_PROGRESS]):
        observation[position] = 0.0
    group = state[GROUP]
    if group == task[GROUPS]:
        observation[layout[F_PROGRESS]] = 1.0
        return
    entry = task[GROUP_TABLE] + 2 * group
    kind, level, item = task[entry], task[entry + 1], state[ITEM]
    observation[layout[F_KIND] + kind] = 1.0
    observation[layout[F_LEVEL] + level] = 1.0
    if kind == KEEP:
        observation[layout[F_TENSOR] + item] = 1.0
    elif kind < ORDER_X:
        observation[layout[F_DIM] + state[task[DIM_ORDER] + level * task[ACTIVE] + item]] = 1.0
    items = task[TENSORS] if kind == KEEP else task[ACTIVE]
    observation[layout[F_PROGRESS]] = (group + item / items) / task[GROUPS]


@kernel
def _observe(task, numbers, layout, state, observation, group, item):  # type: ignore[no-untyped-def]
    """Brings an observation up to date with everything decided since (group, item)."""
    entry = task[GROUP_TABLE] + 2 * group
    first_kind, first_level = task[entry], task[entry + 1]
    for g in range(group, min(state[GROUP] + 1, task[GROUPS])):
        items = task[TENSORS] if task[task[GROUP_TABLE] + 2 * g] == KEEP else task[ACTIVE]
        last = state[ITEM] if g == state[GROUP] else items
        _observe_group(task, numbers, layout, state, observation, g, item if g == group else 0, last)
    if first_kind <= TILE:
        _observe_capacity(task, layout, state, observation, 0 if first_kind == KEEP else first_level)
    _observe_decision(task, layout, state, observation)


@kernel
def _potential(task, numbers, state):  # type: ignore[no-untyped-def]
    """The shaping potential; see reward.py."""
    if state[GROUP] == task[GROUPS]:
        return 0.0
    weights = _inverse_logs(task) + task[DIMS]
    bounded = 0
    for level in range(task[LEVELS] - 1):
        bounded += task[task[CAPACITY] + level] >= 0
    parallelism, capacity_use = 0.0, 0.0
    for group in range(state[GROUP]):
        entry = task[GROUP_TABLE] + 2 * group
        kind, level = task[entry], task[entry + 1]
        if kind == PARALLEL:
            used = np.int64(state[task[USED_X] + level]) * state[task[USED_Y] + level]
            parallelism += math.log(used / (task[task[LIMIT_X] + level] * task[task[LIMIT_Y] + level]))
        elif kind == TILE and level < task[LEVELS] - 1 and task[task[CAPACITY] + level] >= 0:
            words = _decided_words(task, state, level)
            if words > 0:
                capacity_use += math.log(words / task[task[CAPACITY] + level]) / bounded
    return numbers[weights] * parallelism + numbers[weights + 1] * capacity_use


@kernel
def _write_mask(mask, choices, count):  # type: ignore[no-untyped-def]
    """Marks the legal actions; with no decision left action 0 is legal and only ends the episode."""
    for action in range(len(mask)):
        mask[action] = 0
    for k in range(count):
        mask[choices[k]] = 1
    if count == 0:
        mask[0] = 1


@kernel
def _nearest_legal(mask, action):  # type: ignore[no-untyped-def]
    """The legal action closest to one that is not; the lower one of two that are as close."""
    size = len(mask)
    action = min(max(action, 0), size - 1)
    for distance in range(size):
        if action - distance >= 0 and mask[action - distance]:
            return action - distance
        if action + distance < size and mask[action + distance]:
            return action + distance
    return np.int64(0)


@kernel
def _step(task, numbers, layout, state, observation, mask, choices, weights, action):  # type: ignore[no-untyped-def]
    """Takes one decision and all forced ones after it. Returns whether the action was illegal."""
    is_illegal = not (0 <= action < len(mask) and mask[action])
    if state[GROUP] < task[GROUPS]:
        if is_illegal:
            action = _nearest_legal(mask, action)
        group, item = np.int64(state[GROUP]), np.int64(state[ITEM])
        choose(task, state, action)
        count = advance(task, numbers, state, choices, weights)
        _observe(task, numbers, layout, state, observation, group, item)
        _write_mask(mask, choices, count)
    return is_illegal


@allocating_kernel
def start_episode(task, numbers, layout, state, observation, mask):  # type: ignore[no-untyped-def]
    """Takes the decisions that are forced from the start; observation holds the static features before.

    Returns:
        False if there is no legal mapping after all.
    """
    choices = np.empty(choices_size(task), np.int64)
    weights = np.empty(len(choices))
    count = advance(task, numbers, state, choices, weights)
    inverse_logs = _inverse_logs(task)
    for d in range(task[DIMS]):
        observation[layout[F_REMAINING] + d] = numbers[inverse_logs + d] > 0.0
    for level in range(task[LEVELS]):
        for t in range(task[TENSORS]):
            observation[layout[F_KEEP] + level * layout[MAX_TENSORS] + t] = state[
                task[KEPT] + level * task[TENSORS] + t
            ]
    for group in range(task[GROUPS]):
        entry = task[GROUP_TABLE] + 2 * group
        if task[entry] == KEEP:
            # A tensor about which nothing is decided yet is half kept.
            for t in range(task[TENSORS]):
                observation[layout[F_KEEP] + task[entry + 1] * layout[MAX_TENSORS] + t] = 0.5
    if task[GROUPS] > 0:
        _observe(task, numbers, layout, state, observation, 0, 0)
        _observe_capacity(task, layout, state, observation, 0)
    _write_mask(mask, choices, max(count, 0))
    return count >= COMPLETE


@allocating_kernel
def step_one(task, numbers, layout, state, observation, mask, action, is_shaped):  # type: ignore[no-untyped-def]
    """One step of one environment.

    Args:
        task, numbers, layout, state, observation, mask: see the module; state, observation and mask are updated.
        action: what the agent chose, any integer.
        is_shaped: whether to compute the shaping reward.

    Returns:
        whether the mapping is complete, whether the action was illegal, the shaping reward.
    """
    choices = np.empty(choices_size(task), np.int64)
    weights = np.empty(len(choices))
    before = _potential(task, numbers, state) if is_shaped else 0.0
    is_illegal = _step(task, numbers, layout, state, observation, mask, choices, weights, action)
    after = _potential(task, numbers, state) if is_shaped else 0.0
    return state[GROUP] == task[GROUPS], is_illegal, after - before


@allocating_kernel
def step_many(  # type: ignore[no-untyped-def]
    tasks,
    all_numbers,
    starts,
    layout,
    initial_states,
    initial_observations,
    initial_masks,
    task_of,
    states,
    observations,
    masks,
    actions,
    is_shaped,
    outcomes,
    illegal,
    rewards,
):
    """One step of many environments; one that finished in the step before is reset instead.

    Args:
        tasks, all_numbers: the ``task`` and ``numbers`` arrays of all tasks, one after the other.
        starts: int64[2, number of tasks + 1], where each begins in the two.
        layout: see the module.
        initial_states, initial_observations, initial_masks: [task, ...], how an episode begins.
        task_of: int64[n], task of each environment.
        states, observations, masks: [n, ...], updated.
        actions: int64[n].
        is_shaped: whether rewards include shaping.
        outcomes: int8[n], in: outcome of the step before; out: RUNNING, FINISHED or WAS_RESET.
        illegal: bool[n], receives whether an illegal action was replaced.
        rewards: float64[n], receives the shaping rewards.
    """
    size = np.int64(2)
    for k in range(starts.shape[1] - 1):
        size = max(size, choices_size(tasks[starts[0, k] : starts[0, k + 1]]))
    choices = np.empty(size, np.int64)
    weights = np.empty(size)
    for i in range(len(actions)):
        illegal[i] = False
        rewards[i] = 0.0
        k = task_of[i]
        if outcomes[i] == FINISHED:
            reset_one(k, i, initial_states, initial_observations, initial_masks, states, observations, masks)
            outcomes[i] = WAS_RESET
            continue
        task = tasks[starts[0, k] : starts[0, k + 1]]
        numbers = all_numbers[starts[1, k] : starts[1, k + 1]]
        state = states[i]
        before = _potential(task, numbers, state) if is_shaped else 0.0
        illegal[i] = _step(task, numbers, layout, state, observations[i], masks[i], choices, weights, actions[i])
        if is_shaped:
            rewards[i] = _potential(task, numbers, state) - before
        outcomes[i] = FINISHED if state[GROUP] == task[GROUPS] else RUNNING


@kernel
def reset_one(  # type: ignore[no-untyped-def]
    k, i, initial_states, initial_observations, initial_masks, states, observations, masks
):
    """Puts environment i at the beginning of task k."""
    for position in range(states.shape[1]):
        states[i, position] = initial_states[k, position]
    for position in range(observations.shape[1]):
        observations[i, position] = initial_observations[k, position]
    for position in range(masks.shape[1]):
        masks[i, position] = initial_masks[k, position]


@allocating_kernel
def reset_many(  # type: ignore[no-untyped-def]
    initial_states, initial_observations, initial_masks, task_of, rows, states, observations, masks
):
    """Puts the environments in rows at the beginning of their tasks; see :func:`step_many`."""
    for i in rows:
        reset_one(task_of[i], i, initial_states, initial_observations, initial_masks, states, observations, masks)


@allocating_kernel
def random_legal_action(mask, generator):  # type: ignore[no-untyped-def]
    """A uniformly random legal action.

    Args:
        mask: int8[actions].
        generator: uint64[1], state of the random numbers, updated.
    """
    return _random_legal(mask, generator)


@kernel
def _random_legal(mask, generator):  # type: ignore[no-untyped-def]
    count = 0
    for action in range(len(mask)):
        count += mask[action]
    chosen = next_below(generator, count)
    for action in range(len(mask)):
        chosen -= mask[action]
        if chosen < 0:
            return action
    return 0


@allocating_kernel
def random_legal_actions(masks, generator, actions):  # type: ignore[no-untyped-def]
    """Fills actions (int64[n]) with uniformly random legal actions of masks (int8[n, actions])."""
    for i in range(len(actions)):
        actions[i] = _random_legal(masks[i], generator)
