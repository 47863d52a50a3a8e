"""Ways of words in the network below one level, measured on the grid of instances.

Instances sit in a grid, numbered row by row; words enter it at column 0, in the middle of the vertical edge. A group of
instances that receive the same words costs the way along the row to its last column, and in each of its columns the
way up and the way down to its outermost instances. Everything is counted in half hops, because the middle of an edge
may lie between two rows. docs/cost_model.md, "Energy".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import inlined_kernel, kernel
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
_CODE_BITS, _ENTRY_BITS, _WORD_BITS = 9, 20, 60
_WORD = (1 << _WORD_BITS) - 1
_MIXER = -7046029254386353131
_PLACES = 4  # rows in which a grid may be remembered


@inlined_kernel
def grid_of(tables: Tables, scratch: Scratch, s: int) -> tuple[int, int]:
    """Columns and rows of the grid of instances below level s."""
    width = max(tables.levels[s, FANOUT_X], scratch.levels[s, USED_X])
    return width, max(tables.levels[s, FANOUT_Y], scratch.levels[s, USED_Y])


@inlined_kernel
def way_to_all(tables: Tables, features: Features, scratch: Scratch, t: int, s: int) -> int:
    """Half hops of one word to each instance below level s, where all groups are of one size."""
    entry = _find_groups(tables, features, scratch, t, s, s, 0, False)
    return features.ways[entry, WAY_KEYS + 3]


@kernel
def list_groups(
    tables: Tables, features: Features, scratch: Scratch, t: int, s: int, row: int, translation: int, mixed: bool
) -> int:
    """Histogram of multiplicities with the half hops of their groups, into plane MORE.

    Args:
        row: the row of places with the spatial factors: s, or the last one, in which digits that stand still are 1, so
            that what neighbours serve at their ends is left out.
        translation: says at which of their ends they stand still.
        mixed: whether offsets of different iterations coincide, where they do in two digits of one rank.

    Returns:
        The number of classes.
    """
    entry = _find_groups(tables, features, scratch, t, s, row, translation, mixed)
    remembered = features.ways[entry]
    classes = remembered[WAY_KEYS]
    if classes == 0:
        classes, _, _ = enumerate_grid(tables, scratch, t, s, row != s, translation, False)
        return classes
    for c in range(classes):
        for column in range(3):
            scratch.classes[MORE, c, column] = remembered[WAY_KEYS + 1 + 3 * c + column]
    return classes


@inlined_kernel
def _find_groups(
    tables: Tables, features: Features, scratch: Scratch, t: int, s: int, row: int, translation: int, mixed: bool
) -> int:
    """The row of ``Features.ways`` with the classes of a grid, see :func:`list_groups`.

    Mappings by the thousand lay instances out in a few hundred ways, so that looking at each instance is worth
    remembering. A grid is described by its size and by each digit's span and what it does. Digits side by side that
    tell nothing apart count as one, and so do those that tell all apart.
    """
    width, height = grid_of(tables, scratch, s)
    inner, outer, entries, too_large = 0, 0, 0, 0
    span_before, code_before = 1, _APART
    digits = scratch.levels[s, DIGITS]
    for k in range(digits + 1):
        span, code = 1, -1
        if k < digits:
            d = scratch.places[DIGIT, s, k]
            span, key = scratch.places[SPAN, s, d], tables.dims[KEY, t, d]
            code = _APART if key != 0 else _ALIKE
            if scratch.places[SPAN, row, d] < span:
                code = _AT_LAST if key * scratch.places[STEP, s, d] == translation else _AT_FIRST
            elif mixed and key != 0:
                code = _code_of(tables, scratch, t, s, row, d)
        if code == code_before and code <= _APART:
            span_before *= span
        else:
            # Without a branch that would be guessed wrongly half of the time.
            is_entry = int(span_before > 1)
            shift = is_entry * _ENTRY_BITS
            described = (span_before << _CODE_BITS | code_before) * is_entry
            outer = outer << shift | (inner >> _WORD_BITS - _ENTRY_BITS) * is_entry
            inner = (inner << shift | described) & _WORD
            entries += is_entry
            too_large |= span_before >> _ENTRY_BITS - _CODE_BITS | code_before >> _CODE_BITS
            span_before, code_before = span, code
    ways, size = features.ways, width << 31 | height
    # The last row is for grids that cannot be described.
    entry, is_known = len(ways) - 1, False
    if entries <= 2 * _WORD_BITS // _ENTRY_BITS and too_large == 0:
        entry, is_known = _look_up(ways, size, inner, outer)
    if not is_known:
        _remember(tables, ways, scratch, (t, s), entry, row, translation)
    return entry


@inlined_kernel
def _look_up(ways: NDArray[np.int64], size: int, inner: int, outer: int) -> tuple[int, bool]:
    """The row of ``Features.ways`` for a grid, and whether its classes are there already."""
    mixture = size * _MIXER ^ inner
    mixture = (mixture ^ mixture >> 32) * _MIXER ^ outer
    mixture = (mixture ^ mixture >> 32) * _MIXER
    first = (mixture >> 40) & (len(ways) - 2)
    entry = first
    for k in range(_PLACES):
        entry = first ^ k
        if ways[entry, 0] == size and ways[entry, 1] == inner and ways[entry, 2] == outer:
            return entry, True
        if ways[entry, 0] == 0:
            break
    # Where all places are taken, the last one is given away.
    ways[entry, 0], ways[entry, 1], ways[entry, 2] = size, inner, outer
    return entry, False


@kernel
def _remember(
    tables: Tables,
    ways: NDArray[np.int64],
    scratch: Scratch,
    place: tuple[int, int],
    entry: int,
    row: int,
    translation: int,
) -> None:
    """Writes the classes of a grid into its row of ``Features.ways``; 0 classes if there is no room for all of them."""
    t, s = place
    classes, _, _ = enumerate_grid(tables, scratch, t, s, row != s, translation, False)
    if WAY_KEYS + 1 + 3 * classes > ways.shape[1]:
        classes = 0
    ways[entry, WAY_KEYS] = classes
    for c in range(classes):
        for column in range(3):
            ways[entry, WAY_KEYS + 1 + 3 * c + column] = scratch.classes[MORE, c, column]


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
