"""Compiled walk through the construction process in which keys choose; see :mod:`mapgym.mapspace.keys`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import allocating_kernel, kernel
from mapgym.mapping.maps import Arrays, Maps
from mapgym.mapspace.construction import packed_kernels as packed
from mapgym.mapspace.construction.decision_kernels import (
    COMPLETE,
    advance,
    choices_size,
    choose,
    next_decision,
    split_choice,
)
from mapgym.mapspace.construction.packed_kernels import KEEP, PARALLEL, SIDE_Y, TILE
from mapgym.mapspace.construction.rollout_kernels import export_mapping, swap_visited


class Meaning(NamedTuple):
    """What the keys of a map space stand for."""

    log_divisors: NDArray[np.float64]  # [dim, divisor]
    side_free: NDArray[np.bool_]  # [level, dim] whether spatial loops may lie on either side of the mesh
    columns: NDArray[np.int64]  # [kind of decision, level, dim or tensor], -1 where nothing is open


@kernel
def _claim(meaning: Meaning, keys: NDArray[np.float64], level: int, d: int) -> float:
    """How much a dim wants of a level: its tile key, or its parallel key where there is none."""
    for kind in (TILE, PARALLEL):
        if meaning.columns[kind, level, d] >= 0:
            return keys[meaning.columns[kind, level, d]]
    return 0.0


@kernel
def _sort_dims(task: packed.Task, state: packed.State, meaning: Meaning, keys: NDArray[np.float64]) -> None:
    """Sets the order in which each level visits the dims: descending claims."""
    for level in range(packed.levels(task)):
        for item in range(1, packed.active(task)):
            claim = _claim(meaning, keys, level, state[packed.visited_at(task, level, item)])
            target = item
            while target > 0:
                ahead = state[packed.visited_at(task, level, target - 1)]
                if _claim(meaning, keys, level, ahead) >= claim:
                    break
                swap_visited(task, state, level, target, target - 1)
                target -= 1


@kernel
def _nearest_factor(
    task: packed.Task,
    state: packed.State,
    meaning: Meaning,
    has_side: bool,
    d: int,
    key: float,
    choices: NDArray[np.int64],
) -> int:
    """Which of the legal factors a key stands for; has_side: whether the key also says which side of the mesh."""
    share, on_y = key, False
    if has_side:
        share, on_y = abs(2.0 * key - 1.0), key < 0.5
    wanted = share * meaning.log_divisors[d, state[packed.remaining_at(task, d)]]
    best, least = 0, np.inf
    for k in range(len(choices)):
        j, side = split_choice(task, choices[k])
        distance = abs(meaning.log_divisors[d, j] - wanted)
        # The factor 1 is on no side.
        if distance < least and (not has_side or j == 0 or (side == SIDE_Y) == on_y):
            best, least = k, distance
    return best


@kernel
def _chosen(
    task: packed.Task, state: packed.State, meaning: Meaning, keys: NDArray[np.float64], choices: NDArray[np.int64]
) -> int:
    """The legal choice that the keys make of the decision that is next."""
    kind, level, item = next_decision(task, state)
    if kind in (PARALLEL, TILE):
        has_side = kind == PARALLEL and meaning.side_free[level, item]
        key = keys[meaning.columns[kind, level, item]]
        return choices[_nearest_factor(task, state, meaning, has_side, item, key, choices)]
    if kind == KEEP:
        return choices[np.int64(keys[meaning.columns[KEEP, level, item]] >= 0.5)]
    first = choices[0]
    for other in choices[1:]:
        if keys[meaning.columns[kind, level, other]] < keys[meaning.columns[kind, level, first]]:
            first = other
    return first


@allocating_kernel
def decode_keys(
    process: tuple[packed.Task, packed.Ways, packed.State],
    meaning: tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]],
    keys: NDArray[np.float64],
    arrays: Arrays,
    complete: NDArray[np.bool_],
) -> None:
    """Builds the mapping of each vector of keys.

    Args:
        process: tables and the initial state; see :mod:`mapgym.mapspace.construction.packed_kernels`.
        meaning: the arrays of a :class:`Meaning`.
        keys: float64[n, column].
        arrays: of a batch, filled.
        complete: bool[n], receives whether the walk did not end in a dead end.
    """
    task, ways, initial = process
    means, maps = Meaning(*meaning), Maps(*arrays)
    state = np.empty_like(initial)
    choices = np.empty(choices_size(task), np.int64)
    weights = np.empty(len(choices))
    for i in range(len(keys)):
        for position in range(len(initial)):
            state[position] = initial[position]
        _sort_dims(task, state, means, keys[i])
        count = advance(task, ways, state, choices, weights)
        while count > 0:
            choose(task, state, _chosen(task, state, means, keys[i], choices[:count]))
            count = advance(task, ways, state, choices, weights)
        complete[i] = count == COMPLETE
        export_mapping(task, state, i, maps)
