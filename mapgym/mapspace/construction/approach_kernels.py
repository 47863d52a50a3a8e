"""Compiled walk through the construction process that follows a wish; see :mod:`mapgym.mapspace.projection`."""

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
from mapgym.mapspace.construction.packed_kernels import KEEP, ORDER, PARALLEL, SIDE_Y, TILE
from mapgym.mapspace.construction.rollout_kernels import export_mapping

_OTHER_SIDE = 1e-6
"""Decides between equally near factors for the wished mesh side."""


class Wish(NamedTuple):
    """What n mappings should be like."""

    log_factors: NDArray[np.float64]  # [n, 2 L, D]
    on_y: NDArray[np.bool_]  # [n, L, D] mesh side of a spatial factor
    places: NDArray[np.int64]  # [n, L, D] of temporal loops, 0 for the innermost
    spatial_places: NDArray[np.int64]  # [n, L, D] the same for spatial ones
    keep: NDArray[np.bool_]  # [n, L, T]


@kernel
def _nearest_factor(
    task: packed.Task,
    state: packed.State,
    wish: Wish,
    log_divisors: NDArray[np.float64],
    i: int,
    decision: tuple[int, int, int],
    choices: NDArray[np.int64],
) -> int:
    kind, level, d = decision
    levels = packed.levels(task)
    if kind == PARALLEL:
        wanted = wish.log_factors[i, levels + level, d]
    else:
        # The extent of the tile is what counts, so that one deviation does not carry over to the levels outside.
        wanted = -np.log(np.float64(state[packed.product_at(task, d)]))
        for s in range(level + 1):
            wanted += wish.log_factors[i, s, d] + wish.log_factors[i, levels + s, d]
    best, least = choices[0], np.inf
    for choice in choices:
        j, side = split_choice(task, choice)
        distance = abs(log_divisors[d, j] - wanted)
        if kind == PARALLEL and j > 0 and (side == SIDE_Y) != wish.on_y[i, level, d]:
            distance += _OTHER_SIDE
        if distance < least - 1e-9:
            best, least = choice, distance
    return best


@kernel
def _nearest_choice(
    task: packed.Task,
    state: packed.State,
    wish: Wish,
    log_divisors: NDArray[np.float64],
    i: int,
    choices: NDArray[np.int64],
) -> int:
    """The legal choice of the decision that is next that is nearest to the wish."""
    decision = next_decision(task, state)
    kind, level, item = decision
    if kind in (PARALLEL, TILE):
        return _nearest_factor(task, state, wish, log_divisors, i, decision, choices)
    if kind == KEEP:
        return choices[np.int64(wish.keep[i, level, item])]
    places = wish.places if kind == ORDER else wish.spatial_places
    best = choices[0]
    for d in choices[1:]:
        if places[i, level, d] < places[i, level, best]:
            best = d
    return best


@allocating_kernel
def approach_targets(
    process: tuple[packed.Task, packed.Ways, packed.State],
    wishes: tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]],
    log_divisors: NDArray[np.float64],
    arrays: Arrays,
    complete: NDArray[np.bool_],
) -> None:
    """Builds a mapping for each wish.

    Args:
        process: tables and the initial state; see :mod:`mapgym.mapspace.construction.packed_kernels`.
        wishes: the arrays of a :class:`Wish`.
        log_divisors: float64[dim, divisor] logarithms of the divisors of the bounds.
        arrays: of a batch, filled.
        complete: bool[n], receives whether the walk did not end in a dead end.
    """
    task, ways, initial = process
    wish, maps = Wish(*wishes), Maps(*arrays)
    state = np.empty_like(initial)
    choices = np.empty(choices_size(task), np.int64)
    weights = np.empty(len(choices))
    for i in range(len(complete)):
        for position in range(len(initial)):
            state[position] = initial[position]
        count = advance(task, ways, state, choices, weights)
        while count > 0:
            choose(task, state, _nearest_choice(task, state, wish, log_divisors, i, choices[:count]))
            count = advance(task, ways, state, choices, weights)
        complete[i] = count == COMPLETE
        export_mapping(task, state, i, maps)
