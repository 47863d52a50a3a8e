"""First visits: the words of an output that each instance of a level updates without reading an old value before.

The rules are in docs/cost_model.md, "Counts". Timeloop estimates them by the *partition* of the instance, in words of
bounding boxes: the whole tensor, divided level by level among the parallel instances. QUIRK: of an output with holes
that counts words which nothing ever updates, and Timeloop's count of reads wraps around where it takes off more than
there are. Here a partition counts only the words that updates cover.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import inlined_kernel, kernel
from mapgym.compilation.number_kernels import greatest_common_divisor
from mapgym.cost.dense.scratch import (
    DIGIT,
    DIGITS,
    FIRST_FILLS,
    KEYS,
    MARKS_PER_ENTRY,
    MAX_MARKS,
    PARTITION,
    SPAN,
    STEP,
    USED,
    WORDS,
    Scratch,
)
from mapgym.cost.dense.tables import COEFFICIENT, DIM, DIM_GROUP, GROUP, HOLES, KEY, MARK, RADIX, TERMS, Tables


@inlined_kernel
def partition_chain(tables: Tables, scratch: Scratch, keep: NDArray[np.bool_], i: int, t: int) -> None:
    """Words of the tensor that each instance is responsible for, outermost level first."""
    levels = scratch.tiles.shape[1]
    if tables.affine[TERMS, t, 0, 0] == 0:
        # Tile sizes are products of extents: the estimate is the tensor divided by the relevant spatial factors,
        # without a remainder (so that the division of floats is exact).
        part_words = float(scratch.tiles[WORDS, levels - 1, t])
        for s in range(levels - 1, -1, -1):
            scratch.levels[s, PARTITION] = int(part_words)
            distinct = 1
            for k in range(scratch.levels[s, DIGITS]):
                d = scratch.places[DIGIT, s, k]
                if tables.dims[KEY, t, d] != 0:
                    distinct *= scratch.places[SPAN, s, d]
            part_words /= distinct
    elif tables.tensors[t, HOLES] != 0:
        _partitions_with_holes(tables, scratch, keep, i, t)
    else:
        _partitions_of_boxes(tables, scratch, t)


@kernel
def _floor_of_quotient(a: int, b: int, c: int) -> int:
    """floor(a * b / c) for 0 <= a < c < 2**62 and 0 <= b < 2**62, where a * b may not fit an int64: long division."""
    quotient, remainder = 0, 0
    for bit in range(61, -1, -1):
        quotient *= 2
        remainder *= 2
        if remainder >= c:
            remainder -= c
            quotient += 1
        if b >> bit & 1:
            remainder += a
            if remainder >= c:
                remainder -= c
                quotient += 1
    return quotient


@kernel
def _share(part: int, tile: int, extended: int) -> int:
    """floor(part * tile / extended), in parts that stay small."""
    rest = part % extended
    if rest < 2**62 // tile:
        return part // extended * tile + rest * tile // extended
    return part // extended * tile + _floor_of_quotient(rest, tile, extended)


@kernel
def _partitions_of_boxes(tables: Tables, scratch: Scratch, t: int) -> None:
    """As partition_chain, for any projection, in words of bounding boxes."""
    levels = scratch.tiles.shape[1]
    part = scratch.tiles[WORDS, levels - 1, t]
    scratch.levels[levels - 1, PARTITION] = part
    for s in range(levels - 2, -1, -1):
        if scratch.levels[s + 1, USED] > 1:
            extended = 1
            for k in range(1, tables.product_dims[t, 0] + 1):
                d = tables.product_dims[t, k]
                extended *= scratch.places[STEP, s + 1, d] * scratch.places[SPAN, s + 1, d]
            for r in range(tables.affine.shape[2]):
                length = 1
                for k in range(tables.affine[TERMS, t, r, 0]):
                    d = tables.affine[DIM, t, r, k]
                    extent = scratch.places[STEP, s + 1, d] * scratch.places[SPAN, s + 1, d]
                    length += tables.affine[COEFFICIENT, t, r, k] * (extent - 1)
                extended *= length
            part = _share(part, scratch.tiles[WORDS, s, t], extended)
        scratch.levels[s, PARTITION] = part


@kernel
def _partitions_with_holes(tables: Tables, scratch: Scratch, keep: NDArray[np.bool_], i: int, t: int) -> None:
    """As partition_chain, for an output with holes: each tile counts the words that updates of the level cover.

    Updates come as the tiles of the next inner level that keeps the output, holes included, or as single words of the
    MACs; so what they cover of one and the same tile differs from level to level.
    """
    levels = scratch.tiles.shape[1]
    unit = 0
    for s in range(levels):
        scratch.levels[s, PARTITION] = _covered_share(tables, scratch, t, unit, s)
        if keep[i, s, t]:
            unit = s + 1
            # What comes from the outside are whole tiles of the level.
            scratch.levels[s, FIRST_FILLS] = _covered_share(tables, scratch, t, unit, s)


@kernel
def _covered_share(tables: Tables, scratch: Scratch, t: int, unit: int, s: int) -> int:
    """Words that smaller tiles cover of what an instance of level s is responsible for; unit: see _covered_words."""
    levels = scratch.tiles.shape[1]
    part = _covered_words(tables, scratch, t, unit, levels - 1, False)
    for q in range(levels - 2, s - 1, -1):
        if scratch.levels[q + 1, USED] > 1:
            tile = _covered_words(tables, scratch, t, unit, q, False)
            part = _share(part, tile, _covered_words(tables, scratch, t, unit, q, True))
    return part


@kernel
def _covered_words(tables: Tables, scratch: Scratch, t: int, unit: int, s: int, is_spread: bool) -> int:
    """Words that the tile of level s is made of, if it is put together from the boxes of smaller tiles.

    Args:
        unit: the smaller tiles are those of level unit - 1; 0 for single words.
        is_spread: whether to take all tiles below one instance of level s + 1 together.
    """
    words = 1
    for k in range(1, tables.product_dims[t, 0] + 1):
        words *= _extent(scratch, tables.product_dims[t, k], s, is_spread)
    for r in range(tables.affine.shape[2]):
        if tables.affine[GROUP, t, r, 0] == r:
            covered = _covered_by_intervals(tables, scratch, t, r, unit, s, is_spread)
            words *= covered if covered > 0 else _covered_by_boxes(tables, scratch, t, r, unit, s, is_spread)
    return words


@kernel
def _extent(scratch: Scratch, d: int, s: int, is_spread: bool) -> int:
    """Extent of a dim in the tile of level s, or in all the tiles below one instance of level s + 1."""
    extent = scratch.places[STEP, s + 1, d]
    return extent * scratch.places[SPAN, s + 1, d] if is_spread else extent


@kernel
def _covered_by_intervals(tables: Tables, scratch: Scratch, t: int, r: int, unit: int, s: int, is_spread: bool) -> int:
    """As _covered_words, for one rank that shares no dim with another one; 0 if no closed form holds.

    The rank holds an interval for each combination of iterations. A dim whose step is at most the length of the
    interval joins its iterations to a longer one; what is left are intervals apart.
    """
    terms = tables.affine[TERMS, t, r, 0]
    for other in range(r + 1, tables.affine.shape[2]):
        if tables.affine[GROUP, t, other, 0] == r:
            return 0
    length = 1
    for k in range(terms):
        d = tables.affine[DIM, t, r, k]
        length += tables.affine[COEFFICIENT, t, r, k] * (scratch.places[STEP, unit, d] - 1)
    left = (1 << terms) - 1
    joined = True
    while joined:
        joined = False
        for k in range(terms):
            if left >> k & 1:
                d = tables.affine[DIM, t, r, k]
                step = tables.affine[COEFFICIENT, t, r, k] * scratch.places[STEP, unit, d]
                count = _extent(scratch, d, s, is_spread) // scratch.places[STEP, unit, d]
                if count == 1 or step <= length:
                    length += step * (count - 1)
                    left ^= 1 << k
                    joined = True
    intervals, divisor = 1, 0
    first_count, first_step, count, step, dims = 0, 0, 0, 0, 0
    for k in range(terms):
        if left >> k & 1:
            d = tables.affine[DIM, t, r, k]
            first_count, first_step = count, step
            step = tables.affine[COEFFICIENT, t, r, k] * scratch.places[STEP, unit, d]
            count = _extent(scratch, d, s, is_spread) // scratch.places[STEP, unit, d]
            intervals *= count
            divisor = greatest_common_divisor(step, divisor)
            dims += 1
    if dims > 2 or (dims == 2 and divisor < length):
        return 0
    if dims == 2:
        # Intervals either coincide or are apart, and coincide along chains; the first of a chain has no predecessor.
        intervals -= max(0, first_count - step // divisor) * max(0, count - first_step // divisor)
    return intervals * length


@kernel
def _covered_by_boxes(tables: Tables, scratch: Scratch, t: int, group: int, unit: int, s: int, is_spread: bool) -> int:
    """As _covered_words, for a group of ranks, word by word.

    In outputs too large for that, holes count unless all boxes together have fewer words.
    """
    words, most, last = 1, 1, 0
    for r in range(group, tables.affine.shape[2]):
        if tables.affine[GROUP, t, r, 0] == group:
            length, box = 1, 1
            for k in range(tables.affine[TERMS, t, r, 0]):
                d, coefficient = tables.affine[DIM, t, r, k], tables.affine[COEFFICIENT, t, r, k]
                length += coefficient * (_extent(scratch, d, s, is_spread) - 1)
                box += coefficient * (scratch.places[STEP, unit, d] - 1)
            words *= length
            most *= box
    for d in range(tables.dims.shape[2]):
        if tables.dims[DIM_GROUP, t, d] == group:
            extent = _extent(scratch, d, s, is_spread)
            last += tables.dims[MARK, t, d] * (extent - 1)
            most *= extent // scratch.places[STEP, unit, d]
    if tables.tensors[t, HOLES] > MAX_MARKS:
        return min(words, most)
    marks = scratch.instances[KEYS]
    entries = last // MARKS_PER_ENTRY + 1
    for k in range(entries):
        marks[k] = 0
    marks[0] = 1
    for r in range(group, tables.affine.shape[2]):
        if tables.affine[GROUP, t, r, 0] == group:
            box = 1
            for k in range(tables.affine[TERMS, t, r, 0]):
                d = tables.affine[DIM, t, r, k]
                box += tables.affine[COEFFICIENT, t, r, k] * (scratch.places[STEP, unit, d] - 1)
            _repeat_marks(marks, entries, tables.affine[RADIX, t, r, 0], box)
    for d in range(tables.dims.shape[2]):
        if tables.dims[DIM_GROUP, t, d] == group:
            step = scratch.places[STEP, unit, d]
            count = _extent(scratch, d, s, is_spread) // step
            _repeat_marks(marks, entries, tables.dims[MARK, t, d] * step, count)
    covered = 0
    for k in range(entries):
        rest = marks[k]
        while rest != 0:
            rest &= rest - 1
            covered += 1
    return covered


@kernel
def _repeat_marks(marks: NDArray[np.int64], entries: int, step: int, count: int) -> None:
    """Marks, for each marked word, also those ``step, 2 * step, ..., (count - 1) * step`` further on."""
    done = 1
    while done < count:
        more = min(done, count - done)
        entry, bit = (step * more) // MARKS_PER_ENTRY, (step * more) % MARKS_PER_ENTRY
        # Downwards, so that what is read is not yet changed.
        for k in range(entries - 1, entry - 1, -1):
            shifted = marks[k - entry] << bit
            if k > entry:
                shifted |= marks[k - entry - 1] >> (MARKS_PER_ENTRY - bit)
            marks[k] |= shifted & ((1 << MARKS_PER_ENTRY) - 1)
        done += more
