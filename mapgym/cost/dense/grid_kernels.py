"""Ways of words in the network below one level, measured on the grid of instances.

Instances sit in a grid, numbered row by row; words enter it at column 0, in the middle of the vertical edge. A group of
instances that receive the same words costs the way along the row to its last column, and in each of its columns the
way up and the way down to its outermost instances. Everything is counted in half hops, because the middle of an edge
may lie between two rows. docs/cost_model.md, "Energy".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import kernel
from mapgym.cost.dense.offset_kernels import (
    add_class,
    find_slot,
    is_served,
    list_keys,
    pair_steps,
    slot_mask,
)
from mapgym.cost.dense.scratch import (
    COLUMN,
    COUNTS,
    DIGIT,
    DIGITS,
    KEYS,
    MORE,
    ROW,
    SLOTS,
    SPAN,
    STEP,
    USED,
    USED_X,
    USED_Y,
    WAY,
    Scratch,
)
from mapgym.cost.dense.tables import FANOUT_X, FANOUT_Y, KEY, SLIDING, WAY_KEYS, Features, Tables

# What a digit does to the offsets of instances, in descriptions of grids.
_ALIKE, _APART = 0, 1  # nothing; tells all of its iterations apart
_AT_FIRST, _AT_LAST = 2, 3  # stands still at one of its ends
_PAIRED = 4  # from here on: tells iterations apart up to those of another digit
_SPAN_BITS, _CODE_BITS = 11, 9


@kernel
def grid_of(tables: Tables, scratch: Scratch, s: int) -> tuple[int, int]:
    """Columns and rows of the grid of instances below level s."""
    width = max(tables.levels[s, FANOUT_X], scratch.levels[s, USED_X])
    return width, max(tables.levels[s, FANOUT_Y], scratch.levels[s, USED_Y])


@kernel
def total_way(
    tables: Tables, features: Features, scratch: Scratch, t: int, s: int, row: int, translation: int, mixed: bool
) -> int:
    """Half hops of one word to each instance below level s, or to those that neighbours do not serve.

    Mappings by the thousand lay instances out in a few hundred ways, so that looking at each instance is worth
    remembering.

    Args:
        row: the row of places with the spatial factors: s, or the last one, in which digits that stand still are 1.
        translation: says at which of their ends they stand still.
        mixed: whether offsets of different iterations coincide, where they do in two digits of one rank.
    """
    ways, wanted = features.ways, features.wanted
    fits = _describe_grid(tables, scratch, wanted, t, s, row, translation, mixed)
    mixture = 0
    for k in range(WAY_KEYS):
        mixture = (mixture ^ wanted[k]) * -7046029254386353131
    entry = (mixture >> 40) & (len(ways) - 1)
    if fits:
        same = True
        for k in range(WAY_KEYS):
            same = same and ways[entry, k] == wanted[k]
        if same:
            return ways[entry, WAY_KEYS]
    classes, _, _ = enumerate_grid(tables, scratch, t, s, row != s, translation, False)
    way = 0
    for c in range(classes):
        way += scratch.classes[MORE, c, 2]
    if fits:
        for k in range(WAY_KEYS):
            ways[entry, k] = wanted[k]
        ways[entry, WAY_KEYS] = way
    return way


@kernel
def _describe_grid(
    tables: Tables,
    scratch: Scratch,
    wanted: NDArray[np.int64],
    t: int,
    s: int,
    row: int,
    translation: int,
    mixed: bool,
) -> bool:
    """Writes what ways depend on into ``wanted``: the grid, and of each digit its span and what it does.

    Digits side by side that tell nothing apart count as one, and so do those that tell all apart. Returns whether there
    is room for all of it.
    """
    width, height = grid_of(tables, scratch, s)
    wanted[0] = width << 31 | height
    for k in range(1, WAY_KEYS):
        wanted[k] = 0
    entries, span_before, code_before = 0, 1, _APART
    for k in range(scratch.levels[s, DIGITS] + 1):
        span, code = 1, -1
        if k < scratch.levels[s, DIGITS]:
            d = scratch.places[DIGIT, s, k]
            span, code = scratch.places[SPAN, s, d], _ALIKE
            step = tables.dims[KEY, t, d] * scratch.places[STEP, s, d]
            if scratch.places[SPAN, row, d] < span:
                code = _AT_LAST if step == translation else _AT_FIRST
            elif step != 0:
                code = _code_of(tables, scratch, t, s, row, d) if mixed else _APART
        if code == code_before and code <= _APART:
            span_before *= span
            continue
        if span_before > 1:
            if entries == 3 * (WAY_KEYS - 1) or span_before >= 1 << _SPAN_BITS or code_before >= 1 << _CODE_BITS:
                return False
            place = 1 + entries // 3
            wanted[place] = (wanted[place] << _SPAN_BITS | span_before) << _CODE_BITS | code_before
            entries += 1
        span_before, code_before = span, code
    return True


@kernel
def _code_of(tables: Tables, scratch: Scratch, t: int, s: int, row: int, d: int) -> int:
    """What a digit that the tensor depends on does: its rank and step, if its offsets coincide with another one's."""
    rank = tables.dims[SLIDING, t, d]
    if rank < 0:
        return _APART
    pair = pair_steps(tables, scratch, t, rank, s, row)
    if pair.first == d:
        return _PAIRED + pair.step1 * tables.affine.shape[2] + rank
    return _PAIRED + pair.step2 * tables.affine.shape[2] + rank if pair.second == d else _APART


@kernel
def enumerate_grid(
    tables: Tables, scratch: Scratch, t: int, s: int, with_links: bool, translation: int, is_unicast: bool
) -> tuple[int, int, int]:
    """Histogram of multiplicities with the half hops of their groups, into plane MORE, looking at every instance.

    Args:
        with_links: whether to leave out the instances that a grid neighbour serves after the translation.
        is_unicast: whether every instance is a group of its own.

    Returns:
        (number of classes, number of groups, number of instances served).
    """
    width, height = grid_of(tables, scratch, s)
    table = scratch.instances
    list_keys(tables, scratch, t, s)
    instances = scratch.levels[s, USED]
    mask = slot_mask(instances)
    served, groups, alone = 0, 0, 0
    middle = height - 1
    for column in range(min(width, instances)):
        for e in range(column, instances, width):
            row = e // width
            if with_links and is_served(table[KEYS], e, table[KEYS, e] + translation, width, height, instances):
                served += 1
            elif is_unicast:
                groups += 1
                alone += 2 * column + abs(2 * row - middle)
            else:
                slot = find_slot(table, e, mask)
                if table[SLOTS, slot] == 0:
                    table[SLOTS, slot] = e + 1
                    table[COUNTS, slot], table[WAY, slot], table[COLUMN, slot] = 0, 0, -1
                    groups += 1
                table[COUNTS, slot] += 1
                if table[COLUMN, slot] != column:
                    table[WAY, slot] += max(0, middle - 2 * row) + max(0, 2 * row - middle)
                else:
                    table[WAY, slot] += max(0, 2 * row - middle) - max(0, 2 * table[ROW, slot] - middle)
                table[COLUMN, slot], table[ROW, slot] = column, row
    if is_unicast:
        scratch.classes[MORE, 0, 0], scratch.classes[MORE, 0, 1], scratch.classes[MORE, 0, 2] = 1, groups, alone
        return int(groups > 0), groups, served
    count = 0
    for slot in range(mask + 1):
        if table[SLOTS, slot] != 0:
            table[SLOTS, slot] = 0
            way = table[WAY, slot] + 2 * table[COLUMN, slot]
            count = add_class(scratch, count, table[COUNTS, slot], 1, way)
    return count, groups, served
