"""Compiled random roll-outs of the construction process, and the arrays of the mappings that come out of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import allocating_kernel, kernel
from mapgym.compilation.random_kernels import next_below
from mapgym.mapping.maps import Arrays, Maps
from mapgym.mapspace.construction import packed_kernels as packed
from mapgym.mapspace.construction.decision_kernels import COMPLETE, DEAD_END, advance, choices_size, choose
from mapgym.mapspace.construction.packed_kernels import NO_SIDE, SIDE_X, SIDE_Y


@kernel
def swap_visited(task: packed.Task, state: packed.State, level: int, item: int, other: int) -> None:
    """Lets two dims change places in the order in which a level visits them."""
    first, second = packed.visited_at(task, level, item), packed.visited_at(task, level, other)
    state[first], state[second] = state[second], state[first]


@kernel
def _shuffle_dims(task: packed.Task, state: packed.State, generator: NDArray[np.uint64]) -> None:
    """Draws the order in which each level visits the dims, so that shared limits favour none of them."""
    for level in range(packed.levels(task)):
        for last in range(packed.active(task) - 1, 0, -1):
            swap_visited(task, state, level, last, next_below(generator, last + 1))


@kernel
def _write_loops(
    task: packed.Task, state: packed.State, level: int, side: int, start: int, row: NDArray[np.int8]
) -> int:
    """Writes the loops above 1 (NO_SIDE: temporal ones) into row from start: placed ones first, then by key."""
    end = start
    for placed in (True, False):
        for k in range(packed.dims(task)):
            if side == NO_SIDE:
                d = k if placed else packed.order_key(task, level, k)
                factor, position = state[packed.temporal_at(task, level, d)], state[packed.order_at(task, level, d)]
            else:
                d = k if placed else packed.spatial_order_key(task, level, k)
                if state[packed.side_at(task, level, d)] != side:
                    continue
                factor = state[packed.spatial_at(task, level, d)]
                position = state[packed.spatial_order_at(task, level, d)]
            if placed and position > 0:
                row[start + position - 1] = d
                end = max(end, start + position)
            elif not placed and factor > 1 and position == 0:
                row[end] = d
                end += 1
    return end


@kernel
def export_mapping(task: packed.Task, state: packed.State, i: int, maps: Maps) -> None:
    """Writes a complete state as mapping i of a batch, in canonical form.

    Canonical: loops above 1 first, in their order (spatial ones on X before those on Y), then the others in the order
    of the workload's dims.
    """
    dims = packed.dims(task)
    for s in range(packed.levels(task)):
        for d in range(dims):
            maps.temporal[i, s, d] = state[packed.temporal_at(task, s, d)]
            maps.spatial[i, s, d] = state[packed.spatial_at(task, s, d)]
        for t in range(packed.tensors(task)):
            maps.keep[i, s, t] = state[packed.kept_at(task, s, t)] != 0
        end = _write_loops(task, state, s, NO_SIDE, 0, maps.order[i, s])
        for d in range(dims):
            if maps.temporal[i, s, d] == 1:
                maps.order[i, s, end] = d
                end += 1
        end = _write_loops(task, state, s, SIDE_X, 0, maps.spatial_order[i, s])
        maps.spatial_split[i, s] = end
        end = _write_loops(task, state, s, SIDE_Y, end, maps.spatial_order[i, s])
        for d in range(dims):
            if maps.spatial[i, s, d] == 1:
                maps.spatial_order[i, s, end] = d
                end += 1


@allocating_kernel
def sample_mappings(
    task: packed.Task, ways: packed.Ways, initial: packed.State, seed: np.uint64, attempts: int, arrays: Arrays
) -> int:
    """Fills a batch with random roll-outs.

    Args:
        task, ways, initial: tables and the initial state; see :mod:`mapgym.mapspace.construction.packed_kernels`.
        seed: of the random numbers.
        attempts: roll-outs allowed for one mapping; more than one is only needed where legality is inexact.
        arrays: of the batch, filled.

    Returns:
        how many mappings were completed; fewer than asked if one used up its attempts.
    """
    maps = Maps(*arrays)
    generator = np.empty(1, np.uint64)
    generator[0] = seed
    state = np.empty_like(initial)
    choices = np.empty(choices_size(task), np.int64)
    weights = np.empty(len(choices))
    for i in range(len(maps.temporal)):
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
        export_mapping(task, state, i, maps)
    return len(maps.temporal)


@kernel
def export_states(task: packed.Task, states: packed.State, rows: NDArray[np.int64], arrays: Arrays) -> bool:
    """Writes the complete states[rows[i]] as mapping i of a batch.

    Returns:
        whether there are all these rows.
    """
    maps = Maps(*arrays)
    for i in range(len(rows)):
        if not 0 <= rows[i] < len(states):
            return False
        export_mapping(task, states[rows[i]], i, maps)
    return True
