"""Compiled random roll-outs of the construction process, and the arrays of the mappings that come out of it."""

from __future__ import annotations

import numpy as np

from mapgym.compilation import allocating_kernel, kernel
from mapgym.compilation.random_kernels import next_below
from mapgym.mapspace.construction.decision_kernels import (
    ACTIVE,
    AXIS,
    AXIS_NONE,
    AXIS_X,
    AXIS_Y,
    COMPLETE,
    DEAD_END,
    DIM_ORDER,
    DIMS,
    KEPT,
    LEVELS,
    ORDER_KEY,
    ORDER_POSITION,
    SPATIAL,
    SPATIAL_ORDER_KEY,
    SPATIAL_POSITION,
    TEMPORAL,
    TENSORS,
    advance,
    choices_size,
    choose,
)


@kernel
def _shuffle_dims(task, state, generator):  # type: ignore[no-untyped-def]
    """Draws the order in which each level visits the dims, so that shared limits favour none of them."""
    active = task[ACTIVE]
    for level in range(task[LEVELS]):
        start = task[DIM_ORDER] + level * active
        for last in range(active - 1, 0, -1):
            other = next_below(generator, last + 1)
            state[start + last], state[start + other] = state[start + other], state[start + last]


@kernel
def _write_order(task, state, level, dims, factors, positions, key, axis, start, row):  # type: ignore[no-untyped-def]
    """Writes the loops above 1 (AXIS_NONE: temporal ones) into row from start: placed ones first, then by key."""
    first = level * dims
    end = start
    for d in range(dims):
        position = state[positions + first + d]
        if position > 0 and (axis == AXIS_NONE or state[task[AXIS] + first + d] == axis):
            row[start + position - 1] = d
            end = max(end, start + position)
    for k in range(dims):
        d = task[key + first + k]
        is_here = axis == AXIS_NONE or state[task[AXIS] + first + d] == axis
        if is_here and state[factors + first + d] > 1 and state[positions + first + d] == 0:
            row[end] = d
            end += 1
    return end


@kernel
def export_mapping(  # type: ignore[no-untyped-def]
    task, state, i, temporal, spatial, order, spatial_order, spatial_split, keep
):
    """Writes a complete state as mapping i of the arrays of a MappingBatch, in canonical form.

    Canonical: loops above 1 first, in their order (spatial ones on X before those on Y), then the others in the order
    of the workload's dims.
    """
    levels, dims, tensors = task[LEVELS], task[DIMS], task[TENSORS]
    for s in range(levels):
        for d in range(dims):
            temporal[i, s, d] = state[task[TEMPORAL] + s * dims + d]
            spatial[i, s, d] = state[task[SPATIAL] + s * dims + d]
        for t in range(tensors):
            keep[i, s, t] = state[task[KEPT] + s * tensors + t] != 0
        row = order[i, s]
        end = _write_order(
            task, state, s, dims, task[TEMPORAL], task[ORDER_POSITION], task[ORDER_KEY], AXIS_NONE, 0, row
        )
        for d in range(dims):
            if temporal[i, s, d] == 1:
                row[end] = d
                end += 1
        row = spatial_order[i, s]
        key, positions = task[SPATIAL_ORDER_KEY], task[SPATIAL_POSITION]
        end = _write_order(task, state, s, dims, task[SPATIAL], positions, key, AXIS_X, 0, row)
        spatial_split[i, s] = end
        end = _write_order(task, state, s, dims, task[SPATIAL], positions, key, AXIS_Y, end, row)
        for d in range(dims):
            if spatial[i, s, d] == 1:
                row[end] = d
                end += 1


@allocating_kernel
def sample_mappings(  # type: ignore[no-untyped-def]
    task, ways, initial, seed, attempts, temporal, spatial, order, spatial_order, spatial_split, keep
):
    """Fills the arrays of a MappingBatch with random roll-outs.

    Args:
        task, ways, initial: tables and the initial state; see construction_kernels.
        seed: uint64.
        attempts: roll-outs allowed for one mapping; more than one is only needed where legality is inexact.
        temporal, spatial, order, spatial_order, spatial_split, keep: arrays to fill.

    Returns:
        how many mappings were completed; fewer than asked if one used up its attempts.
    """
    generator = np.empty(1, np.uint64)
    generator[0] = seed
    state = np.empty_like(initial)
    choices = np.empty(choices_size(task), np.int64)
    weights = np.empty(len(choices))
    for i in range(len(temporal)):
        result = DEAD_END
        for _ in range(attempts):
            for position in range(len(initial)):
                state[position] = initial[position]
            _shuffle_dims(task, state, generator)
            result = advance(task, ways, state, choices, weights)
            while result > 0:
                choose(task, state, choices[next_below(generator, result)])
                result = advance(task, ways, state, choices, weights)
            if result == COMPLETE:
                break
        if result != COMPLETE:
            return i
        export_mapping(task, state, i, temporal, spatial, order, spatial_order, spatial_split, keep)
    return len(temporal)


@kernel
def export_states(  # type: ignore[no-untyped-def]
    task, states, rows, temporal, spatial, order, spatial_order, spatial_split, keep
):
    """Writes the complete states[rows[i]] as mapping i of the arrays of a MappingBatch.

    Returns:
        whether there are all these rows.
    """
    for i in range(len(rows)):
        if not 0 <= rows[i] < len(states):
            return False
        export_mapping(task, states[rows[i]], i, temporal, spatial, order, spatial_order, spatial_split, keep)
    return True
