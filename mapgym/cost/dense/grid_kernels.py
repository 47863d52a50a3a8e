"""Ways of words in the network below one level, measured on the grid of instances.

Instances sit in a grid, numbered row by row; words enter it at column 0, in the middle of the vertical edge. A group of
instances that receive the same words costs the way along the row to its last column, and in each of its columns the
way up and the way down to its outermost instances. Everything is counted in half hops, because the middle of an edge
may lie between two rows. docs/cost_model.md, "Energy".
"""

from __future__ import annotations

from mapgym.compilation import kernel
from mapgym.cost.dense.offset_kernels import (
    Pair,
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
    STRIDE,
    USED,
    USED_X,
    USED_Y,
    WAY,
    X_DIGITS,
    Scratch,
)
from mapgym.cost.dense.tables import FANOUT_X, FANOUT_Y, KEY, SLIDING, Tables


@kernel
def grid_of(tables: Tables, scratch: Scratch, s: int) -> tuple[int, int]:
    """Columns and rows of the grid of instances below level s."""
    width = max(tables.levels[s, FANOUT_X], scratch.levels[s, USED_X])
    return width, max(tables.levels[s, FANOUT_Y], scratch.levels[s, USED_Y])


@kernel
def closed_way(tables: Tables, scratch: Scratch, t: int, s: int, row: int, translation: int) -> int:
    """Half hops of one word to each instance below level s, or to those that neighbours do not serve.

    Along a row, a group costs its last column. Digits of dims that tell offsets apart count on average, those of the
    others with their last iteration; two digits of one rank with coincident offsets with the last one of each chain.
    Across rows, each column has as many groups as rows have offsets.

    Args:
        row: the row of places with the spatial factors: s, or the last one, in which digits that stand still are 1.
        translation: says at which of their ends they stand still.

    Returns:
        The half hops, or -1 where no closed form holds: rows of instances are not rows of the grid, or offsets of
        different rows coincide.
    """
    width, height = grid_of(tables, scratch, s)
    used, used_x = scratch.levels[s, USED], scratch.levels[s, USED_X]
    if used > width and used_x != width:
        return -1
    digits = scratch.levels[s, DIGITS]
    row_end = digits if used <= width else scratch.levels[s, X_DIGITS]
    groups, spread, last, columns, stride = 1, 0, 0, 1, 1
    for k in range(digits):
        d = scratch.places[DIGIT, s, k]
        on_row = k < row_end
        scratch.places[STRIDE, s, d] = stride if on_row else 0
        stride *= scratch.places[SPAN, s, d]
        span = scratch.places[SPAN, row, d]
        if on_row:
            columns *= span
            if span < scratch.places[SPAN, s, d]:
                if tables.dims[KEY, t, d] * scratch.places[STEP, s, d] == translation:
                    last += (scratch.places[SPAN, s, d] - 1) * scratch.places[STRIDE, s, d]
            elif tables.dims[KEY, t, d] == 0:
                last += (span - 1) * scratch.places[STRIDE, s, d]
    for k in range(digits):
        d = scratch.places[DIGIT, s, k]
        span = scratch.places[SPAN, row, d]
        if tables.dims[KEY, t, d] != 0 and span > 1:
            own, far = span, scratch.places[STRIDE, s, d] * span * (span - 1)
            if tables.dims[SLIDING, t, d] >= 0:
                pair = pair_steps(tables, scratch, t, tables.dims[SLIDING, t, d], s, row)
                if pair.first >= 0:
                    if pair.first == d:
                        continue  # counted with the other one
                    if scratch.places[STRIDE, s, pair.first] + scratch.places[STRIDE, s, d] == 0:
                        return -1
                    own, far = _chains(scratch, s, pair)
            spread = spread * own + far * groups
            groups *= own
    along = spread + 2 * last * groups
    if height == 1:
        return along
    if row_end == digits:
        return along + columns * (height - 1)
    return along + columns * _reach(tables, scratch, t, s, row, row_end, translation, height)


@kernel
def _chains(scratch: Scratch, s: int, pair: Pair) -> tuple[int, int]:
    """Of two dims whose offsets coincide along chains: their number, and twice the sum of their last columns."""
    c1, c2 = scratch.places[STRIDE, s, pair.first], scratch.places[STRIDE, s, pair.second]
    # Those that have a successor, of more columns, in the chain: all but the last of each.
    more, others = max(0, pair.n1 - pair.step2), max(0, pair.n2 - pair.step1)
    from1, from2 = 0, pair.step1
    if c1 * pair.step2 < c2 * pair.step1:
        from1, from2 = pair.step2, 0
    rest = c1 * (2 * from1 + more - 1) * more * others + c2 * (2 * from2 + others - 1) * others * more
    whole = c1 * (pair.n1 - 1) * pair.n1 * pair.n2 + c2 * (pair.n2 - 1) * pair.n2 * pair.n1
    return pair.n1 * pair.n2 - more * others, whole - rest


@kernel
def _reach(
    tables: Tables, scratch: Scratch, t: int, s: int, row: int, row_end: int, translation: int, height: int
) -> int:
    """Half hops up and down one column to all of its groups; see closed_way."""
    rows = scratch.instances[KEYS]
    rows[0] = 0
    count, reach, stride = 1, 0, 1
    for k in range(row_end, scratch.levels[s, DIGITS]):
        d = scratch.places[DIGIT, s, k]
        span = scratch.places[SPAN, row, d]
        if span < scratch.places[SPAN, s, d]:
            if tables.dims[KEY, t, d] * scratch.places[STEP, s, d] == translation:
                for i in range(count):
                    rows[i] += (scratch.places[SPAN, s, d] - 1) * stride
        elif tables.dims[KEY, t, d] != 0:
            for i in range(count, count * span):
                rows[i] = rows[i - count] + stride
            count *= span
        else:
            reach += (span - 1) * stride
        stride *= scratch.places[SPAN, s, d]
    across = 0
    for i in range(count):
        across += max(0, height - 1 - 2 * rows[i]) + max(0, 2 * (rows[i] + reach) - (height - 1))
    return across


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
