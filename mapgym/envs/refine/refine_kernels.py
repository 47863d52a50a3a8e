"""Compiled steps of the environments that edit complete mappings: the edit, the mask of the next one, the observation.

``maps`` has one mapping for each environment, in the form of the map space. ``actions`` (int64[actions, EDIT_COLUMNS])
says what each action but the last, which stops, means: an edit as in :mod:`mapgym.mapspace.edits_kernels`, but loops to
swap are named by their dims; the kind is ``NO_EDIT`` where the task has no such edit.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import allocating_kernel, kernel
from mapgym.envs.common import observation_kernels as fields
from mapgym.mapping.canonical_kernels import Sorting, copy_mapping
from mapgym.mapping.legality_kernels import held_words
from mapgym.mapping.maps import Arrays, Maps
from mapgym.mapspace.edits_kernels import (
    EDIT_COLUMNS,
    MOVE,
    SPATIAL_SWAP,
    SWAP,
    TOGGLE_SIDE,
    EditTables,
    apply_edit,
    is_allowed,
)

NO_EDIT = -1

FANOUT_X, FANOUT_Y, CAPACITY = range(3)
"""Rows of the limits of levels: parallelism on X and Y, and words, 0 for no limit."""


class Scales(NamedTuple):
    """What observations of a task are relative to, and where they have their fields."""

    inverse_logs: NDArray[np.float64]  # [dim] 1 / log2(bound), 0 for a bound of 1
    limits: NDArray[np.float64]  # [3, level] rows FANOUT_X, FANOUT_Y, CAPACITY
    layout: fields.Layout


@kernel
def _position(order: NDArray[np.int8], i: int, s: int, d: int) -> int:
    """Place of dim d in an order of level s."""
    position = 0
    while order[i, s, position] != d:
        position += 1
    return position


@kernel
def _translate(i: int, maps: Maps, actions: NDArray[np.int64], action: int, edit: NDArray[np.int64]) -> bool:
    """Writes the edit that an action is for mapping i into edit[0]; False if the mapping has nothing to edit there."""
    levels = maps.temporal.shape[1]
    for column in range(EDIT_COLUMNS):
        edit[0, column] = actions[action, column]
    kind, a, b, c, prime, side = edit[0, 0], edit[0, 1], edit[0, 2], edit[0, 3], edit[0, 4], edit[0, 5]
    if kind == NO_EDIT:
        return False
    if kind == MOVE:
        factor = maps.temporal[i, b, a] if b < levels else maps.spatial[i, b - levels, a]
        if factor % prime != 0:
            return False
        if c < levels or maps.spatial[i, c - levels, a] == 1:
            return True
        # A dim that is parallel already stays on its side of the mesh.
        on_y = _position(maps.spatial_order, i, c - levels, a) >= maps.spatial_split[i, c - levels]
        return on_y == (side == 1)
    if kind == SWAP:
        edit[0, 2], edit[0, 3] = _position(maps.order, i, a, b), _position(maps.order, i, a, c)
        return maps.temporal[i, a, b] > 1 and maps.temporal[i, a, c] > 1
    if kind == SPATIAL_SWAP:
        first, second = _position(maps.spatial_order, i, a, b), _position(maps.spatial_order, i, a, c)
        edit[0, 2], edit[0, 3] = first, second
        same_side = (first < maps.spatial_split[i, a]) == (second < maps.spatial_split[i, a])
        return same_side and maps.spatial[i, a, b] > 1 and maps.spatial[i, a, c] > 1
    if kind == TOGGLE_SIDE:
        return maps.spatial[i, a, b] > 1
    return True


@kernel
def _observe_loops(i: int, s: int, maps: Maps, scales: Scales, observation: NDArray[np.float32]) -> None:
    """Writes the factors and the orders of a level of mapping i, and what it uses of its fan-out."""
    layout = scales.layout
    used_x = used_y = 1.0
    for position in range(maps.temporal.shape[2]):
        d = maps.order[i, s, position]
        factor = maps.temporal[i, s, d]
        if factor > 1:
            observation[fields.of_dim(layout, fields.TEMPORAL, s, d)] = math.log2(factor) * scales.inverse_logs[d]
            observation[fields.of_dim(layout, fields.ORDER, s, d)] = (position + 1) / fields.dims(layout)
        d = maps.spatial_order[i, s, position]
        factor = maps.spatial[i, s, d]
        if factor > 1:
            on_x = position < maps.spatial_split[i, s]
            place = position + 1 if on_x else position + 1 - maps.spatial_split[i, s]
            field = fields.SPATIAL_X if on_x else fields.SPATIAL_Y
            observation[fields.of_dim(layout, field, s, d)] = math.log2(factor) * scales.inverse_logs[d]
            observation[fields.of_dim(layout, fields.SPATIAL_ORDER, s, d)] = place / fields.dims(layout)
            used_x *= factor if on_x else 1
            used_y *= 1 if on_x else factor
    if used_x > 1:
        share = math.log2(used_x) / math.log2(scales.limits[FANOUT_X, s])
        observation[fields.entry(layout, fields.FANOUT_USED_X, s)] = share
    if used_y > 1:
        share = math.log2(used_y) / math.log2(scales.limits[FANOUT_Y, s])
        observation[fields.entry(layout, fields.FANOUT_USED_Y, s)] = share


@kernel
def _observe(
    i: int,
    maps: Maps,
    tables: EditTables,
    scales: Scales,
    extents: NDArray[np.float64],
    tile_words: NDArray[np.float64],
    observation: NDArray[np.float32],
) -> None:
    """Writes mapping i into an observation; the extents and words of the tiles are those of the mapping."""
    layout = scales.layout
    # These fields lie side by side.
    first, end = fields.entry(layout, fields.TEMPORAL, 0), fields.end_of_levels(layout, fields.FANOUT_USED_Y)
    for position in range(first, end):
        observation[position] = 0.0
    for s in range(maps.temporal.shape[1]):
        _observe_loops(i, s, maps, scales, observation)
        need = 0.0
        for t in range(maps.keep.shape[2]):
            if maps.keep[i, s, t]:
                observation[fields.of_tensor(layout, fields.KEEP, s, t)] = 1.0
                need += held_words(tables.rules, s, t, int(tile_words[s, t]), extents)
        capacity = scales.limits[CAPACITY, s]
        if capacity > 0:
            observation[fields.entry(layout, fields.CAPACITY_USED, s)] = need / capacity


@allocating_kernel
def edit_many(
    rows: NDArray[np.int64],
    chosen: NDArray[np.int64],
    arrays: Arrays,
    scratch_arrays: Arrays,
    sorting: Sorting,
    tables: EditTables,
    actions: NDArray[np.int64],
    scale_arrays: tuple[NDArray[np.float64], NDArray[np.float64], fields.Layout],
    masks: NDArray[np.int8],
    observations: NDArray[np.float32],
) -> None:
    """Applies an action to each of some mappings, then brings their masks and observations up to date.

    Args:
        rows: int64[k], which environments; all others are left alone.
        chosen: int64[k], a legal action for each; below 0, and for the last one, which stops, nothing is edited.
        arrays: those of a batch with a mapping for each environment.
        scratch_arrays: those of a batch of one.
        sorting, tables: of the map space.
        actions: see the module.
        scale_arrays: those of :class:`Scales`.
        masks: int8[n, actions + 1] and observations: float32[n, any], updated.
    """
    maps, scratch, scales = Maps(*arrays), Maps(*scratch_arrays), Scales(*scale_arrays)
    levels, dims = maps.temporal.shape[1], maps.temporal.shape[2]
    extents = np.empty((levels, dims))
    tile_words = np.empty((levels, maps.keep.shape[2]))
    edit = np.empty((1, EDIT_COLUMNS), np.int64)
    for k in range(len(rows)):
        i = rows[k]
        if 0 <= chosen[k] < len(actions) and _translate(i, maps, actions, chosen[k], edit):
            apply_edit(i, maps, sorting, edit, 0)
        is_allowed(i, maps, tables, extents, tile_words)
        _observe(i, maps, tables, scales, extents, tile_words, observations[i])
        for action in range(len(actions)):
            masks[i, action] = 0
            if _translate(i, maps, actions, action, edit):
                copy_mapping(i, maps, 0, scratch)
                apply_edit(0, scratch, sorting, edit, 0)
                masks[i, action] = is_allowed(0, scratch, tables, extents, tile_words)
        masks[i, len(actions)] = 1


@allocating_kernel
def edit_each(
    rows: NDArray[np.int64], chosen: NDArray[np.int64], arrays: Arrays, sorting: Sorting, actions: NDArray[np.int64]
) -> None:
    """Applies action chosen[k] to mapping rows[k] for all k, and nothing else."""
    maps = Maps(*arrays)
    edit = np.empty((1, EDIT_COLUMNS), np.int64)
    for k in range(len(rows)):
        if _translate(rows[k], maps, actions, chosen[k], edit):
            apply_edit(rows[k], maps, sorting, edit, 0)
