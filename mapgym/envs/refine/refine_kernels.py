"""Compiled steps of the environments that edit complete mappings: the edit, the mask of the next one, the observation.

``maps`` are the arrays of a batch with one mapping for each environment, in the form of the map space. ``actions``
(int64[actions, EDIT_COLUMNS]) says what each action but the last, which stops, means: an edit as in
:mod:`mapgym.mapspace.edits_kernels`, but loops to swap are named by their dims; the kind is ``NO_EDIT`` where the task
has no such edit. ``layout`` is :attr:`RefineLayout.table`.
"""

from __future__ import annotations

import math

import numpy as np

from mapgym.compilation import allocating_kernel, kernel
from mapgym.mapping.canonical_kernels import copy_mapping
from mapgym.mapping.legality_kernels import held_words
from mapgym.mapping.maps import Maps
from mapgym.mapspace.edits_kernels import EDIT_COLUMNS, MOVE, SPATIAL_SWAP, SWAP, TOGGLE_AXIS, apply_edit, is_allowed

NO_EDIT = -1

# Positions in layout: sizes, the starts of the fields that a mapping fills, and where the last of them ends.
(
    MAX_LEVELS,
    MAX_DIMS,
    MAX_TENSORS,
    F_TEMPORAL,
    F_SPATIAL_X,
    F_SPATIAL_Y,
    F_KEEP,
    F_ORDER,
    F_SPATIAL_ORDER,
    F_CAPACITY_USED,
    F_FANOUT_USED_X,
    F_FANOUT_USED_Y,
    F_END,
) = range(13)


@kernel
def _position(order, i, s, d):  # type: ignore[no-untyped-def]
    """Place of dim d in an order of level s."""
    position = 0
    while order[i, s, position] != d:
        position += 1
    return position


@kernel
def _translate(i, maps, actions, action, edit):  # type: ignore[no-untyped-def]
    """Writes the edit that an action is for mapping i into edit[0]; False if the mapping has nothing to edit there."""
    temporal, spatial, order, spatial_order, spatial_split = maps[0], maps[1], maps[2], maps[3], maps[4]
    levels = temporal.shape[1]
    kind, a, b, c = actions[action, 0], actions[action, 1], actions[action, 2], actions[action, 3]
    for column in range(EDIT_COLUMNS):
        edit[0, column] = actions[action, column]
    if kind == NO_EDIT:
        return False
    if kind == MOVE:
        factor = temporal[i, b, a] if b < levels else spatial[i, b - levels, a]
        if factor % actions[action, 4] != 0:
            return False
        if c < levels or spatial[i, c - levels, a] == 1:
            return True
        # A dim that is parallel already stays on its mesh axis.
        on_y = _position(spatial_order, i, c - levels, a) >= spatial_split[i, c - levels]
        return on_y == (actions[action, 5] == 1)
    if kind == SWAP:
        edit[0, 2], edit[0, 3] = _position(order, i, a, b), _position(order, i, a, c)
        return temporal[i, a, b] > 1 and temporal[i, a, c] > 1
    if kind == SPATIAL_SWAP:
        first, second = _position(spatial_order, i, a, b), _position(spatial_order, i, a, c)
        edit[0, 2], edit[0, 3] = first, second
        same_axis = (first < spatial_split[i, a]) == (second < spatial_split[i, a])
        return same_axis and spatial[i, a, b] > 1 and spatial[i, a, c] > 1
    if kind == TOGGLE_AXIS:
        return spatial[i, a, b] > 1
    return True


@kernel
def _observe(i, maps, tables, inverse_logs, limits, layout, tile_words, observation):  # type: ignore[no-untyped-def]
    """Writes mapping i into an observation; tile_words are those of the mapping."""
    temporal, spatial, order, spatial_order, spatial_split, keep = maps
    levels, dims, tensors = temporal.shape[1], temporal.shape[2], keep.shape[2]
    for position in range(layout[F_TEMPORAL], layout[F_END]):
        observation[position] = 0.0
    for s in range(levels):
        row = s * layout[MAX_DIMS]
        used_x = used_y = 1.0
        for position in range(dims):
            d = order[i, s, position]
            if temporal[i, s, d] > 1:
                observation[layout[F_TEMPORAL] + row + d] = math.log2(temporal[i, s, d]) * inverse_logs[d]
                observation[layout[F_ORDER] + row + d] = (position + 1) / layout[MAX_DIMS]
            d = spatial_order[i, s, position]
            factor = spatial[i, s, d]
            if factor > 1:
                on_x = position < spatial_split[i, s]
                place = position + 1 if on_x else position + 1 - spatial_split[i, s]
                field = layout[F_SPATIAL_X] if on_x else layout[F_SPATIAL_Y]
                observation[field + row + d] = math.log2(factor) * inverse_logs[d]
                observation[layout[F_SPATIAL_ORDER] + row + d] = place / layout[MAX_DIMS]
                used_x *= factor if on_x else 1
                used_y *= 1 if on_x else factor
        if used_x > 1:
            observation[layout[F_FANOUT_USED_X] + s] = math.log2(used_x) / math.log2(limits[0, s])
        if used_y > 1:
            observation[layout[F_FANOUT_USED_Y] + s] = math.log2(used_y) / math.log2(limits[1, s])
        capacity = limits[2, s]
        need = 0.0
        for t in range(tensors):
            if keep[i, s, t]:
                observation[layout[F_KEEP] + s * layout[MAX_TENSORS] + t] = 1.0
                need += held_words(tables.rules, s, t, int(tile_words[s, t]))
        if capacity > 0:
            observation[layout[F_CAPACITY_USED] + s] = need / capacity


@allocating_kernel
def edit_many(  # type: ignore[no-untyped-def]
    rows, chosen, arrays, scratch_arrays, sorting, tables, actions, inverse_logs, limits, layout, masks, observations
):
    """Applies an action to each of some mappings, then brings their masks and observations up to date.

    Args:
        rows: int64[k], which environments; all others are left alone.
        chosen: int64[k], a legal action for each; below 0, and for the last one, which stops, nothing is edited.
        maps, actions, layout: see the module.
        scratch: arrays of a batch of one.
        sorting, tables: of the map space.
        inverse_logs: float64[dim], 1 / log2(bound), 0 for a bound of 1.
        limits: float64[3, level], how much parallelism the X and the Y axis take, and the capacity in words, 0 for no
            limit.
        masks: int8[n, actions + 1] and observations: float32[n, any], updated.
    """
    maps, scratch = Maps(*arrays), Maps(*scratch_arrays)
    levels, dims = maps.temporal.shape[1], maps.temporal.shape[2]
    extents = np.empty((levels, dims))
    tile_words = np.empty((levels, maps.keep.shape[2]))
    edit = np.empty((1, EDIT_COLUMNS), np.int64)
    for k in range(len(rows)):
        i = rows[k]
        if 0 <= chosen[k] < len(actions) and _translate(i, maps, actions, chosen[k], edit):
            apply_edit(i, maps, sorting, edit, 0)
        is_allowed(i, maps, tables, extents, tile_words)
        _observe(i, maps, tables, inverse_logs, limits, layout, tile_words, observations[i])
        for action in range(len(actions)):
            masks[i, action] = 0
            if _translate(i, maps, actions, action, edit):
                copy_mapping(i, maps, 0, scratch)
                apply_edit(0, scratch, sorting, edit, 0)
                masks[i, action] = is_allowed(0, scratch, tables, extents, tile_words)
        masks[i, len(actions)] = 1


@allocating_kernel
def edit_each(rows, chosen, arrays, sorting, actions):  # type: ignore[no-untyped-def]
    """Applies action chosen[k] to mapping rows[k] for all k, and nothing else."""
    maps = Maps(*arrays)
    edit = np.empty((1, EDIT_COLUMNS), np.int64)
    for k in range(len(rows)):
        if _translate(rows[k], maps, actions, chosen[k], edit):
            apply_edit(rows[k], maps, sorting, edit, 0)
