"""Ways of words in the network below one level, measured on the grid of instances.

Instances sit in a grid, numbered row by row; words enter it at column 0, in the middle of the vertical edge. A group of
instances that receive the same words costs the way along the row to its last column, and in each of its columns the
way up and the way down to its outermost instances. Everything is counted in half hops, because the middle of an edge
may lie between two rows. docs/cost_model.md, "Energy".
"""

from __future__ import annotations

from mapgym.compilation import kernel
from mapgym.cost.dense.offset_kernels import add_class, find_slot, is_served, list_keys, slot_mask
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
    USED,
    USED_X,
    USED_Y,
    WAY,
    X_DIGITS,
    Scratch,
)
from mapgym.cost.dense.tables import FANOUT_X, FANOUT_Y, KEY, Tables


@kernel
def grid_of(tables: Tables, scratch: Scratch, s: int) -> tuple[int, int]:
    """Columns and rows of the grid of instances below level s."""
    width = max(tables.levels[s, FANOUT_X], scratch.levels[s, USED_X])
    return width, max(tables.levels[s, FANOUT_Y], scratch.levels[s, USED_Y])


@kernel
def closed_way(tables: Tables, scratch: Scratch, t: int, s: int) -> int:
    """Half hops of one word to each instance below level s, where different iterations have different offsets.

    Digits of dims that the tensor depends on tell groups apart, the other ones tell the instances of a group apart.
    Returns -1 if rows of instances are not rows of the grid.
    """
    width, height = grid_of(tables, scratch, s)
    used, used_x = scratch.levels[s, USED], scratch.levels[s, USED_X]
    if used > width and used_x != width:
        return -1
    digits = scratch.levels[s, DIGITS]
    row_end = digits if used <= width else scratch.levels[s, X_DIGITS]
    groups, columns, last, spread, stride = 1, 1, 0, 0, 1
    for k in range(row_end):
        d = scratch.places[DIGIT, s, k]
        span = scratch.places[SPAN, s, d]
        if tables.dims[KEY, t, d] != 0:
            groups *= span
            spread += (span - 1) * stride
        else:
            columns *= span
            last += (span - 1) * stride
        stride *= span
    # Of one row of groups, each in its last column on average.
    along = groups * (2 * last + spread)
    # The lowest row of each group, one after the other.
    rows = scratch.instances[KEYS]
    rows[0] = 0
    count, reach, stride = 1, 0, 1
    for k in range(row_end, digits):
        d = scratch.places[DIGIT, s, k]
        span = scratch.places[SPAN, s, d]
        if tables.dims[KEY, t, d] != 0:
            for i in range(count, count * span):
                rows[i] = rows[i - count] + stride
            count *= span
        else:
            reach += (span - 1) * stride
        stride *= span
    across = 0
    for i in range(count):
        across += max(0, height - 1 - 2 * rows[i]) + max(0, 2 * (rows[i] + reach) - (height - 1))
    return along * count + across * groups * columns


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
