"""Offsets of the parallel instances below one level: how many are distinct, and how often each occurs (multicast).

The rules are in docs/cost_model.md. The spatial loops of a level are *digits* of the flattened instance number,
the innermost one fastest. Functions take the row of ``Scratch.places`` that holds the spatial factors: the level s,
or the last row, which the link rule fills with the factors of the instances that it leaves over.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import inlined_kernel, kernel
from mapgym.compilation.number_kernels import greatest_common_divisor
from mapgym.cost.dense.scratch import COUNTS, DIGIT, DIGITS, KEYS, MORE, SLOTS, SPAN, SPARE, STEP, USED, Scratch
from mapgym.cost.dense.tables import COEFFICIENT, DIM, IRREGULAR, KEY, PLAIN, TERMS, Tables


class Pair(NamedTuple):
    """Two spatial dims of one rank whose offsets can coincide, or -1 for the dims if there are none."""

    first: int
    second: int
    n1: int  # instances
    n2: int
    step1: int  # steps, divided by their greatest common divisor
    step2: int


@kernel
def pair_steps(tables: Tables, scratch: Scratch, t: int, r: int, s: int, row: int) -> Pair:
    """The pair of an affine rank."""
    first = -1
    for k in range(tables.affine[TERMS, t, r, 0]):
        d = tables.affine[DIM, t, r, k]
        if scratch.places[SPAN, row, d] > 1:
            if first < 0:
                first = k
            else:
                e = tables.affine[DIM, t, r, first]
                n1, n2 = scratch.places[SPAN, row, e], scratch.places[SPAN, row, d]
                u1 = tables.affine[COEFFICIENT, t, r, first] * scratch.places[STEP, s, e]
                u2 = tables.affine[COEFFICIENT, t, r, k] * scratch.places[STEP, s, d]
                if u2 >= n1 * u1 or u1 >= n2 * u2:
                    break
                g = greatest_common_divisor(u1, u2)
                return Pair(e, d, n1, n2, u1 // g, u2 // g)
    return Pair(-1, -1, 0, 0, 0, 0)


@kernel
def needs_enumeration(tables: Tables, scratch: Scratch, t: int, s: int) -> bool:
    """Whether the closed forms do not hold: three spatial dims in one rank, or a dim in two ranks of the tensor."""
    if tables.tensors[t, PLAIN] != 0:
        return False
    for r in range(tables.affine.shape[2]):
        count = 0
        for k in range(tables.affine[TERMS, t, r, 0]):
            if scratch.places[SPAN, s, tables.affine[DIM, t, r, k]] > 1:
                count += 1
        if count > 2 or (count > 0 and tables.tensors[t, IRREGULAR] != 0):
            return True
    return False


@kernel
def count_distinct(tables: Tables, scratch: Scratch, t: int, s: int, row: int) -> tuple[int, bool]:
    """(number of distinct offsets, whether multiplicities differ), where the closed forms hold.

    Ranks have digits of their own, so counts multiply over ranks. In a rank with two spatial dims (n1, n2 instances;
    coprime steps a, b) equal offsets form chains along (b, -a), and the first of each chain has no predecessor.
    """
    distinct = 1
    for k in range(1, tables.product_dims[t, 0] + 1):
        distinct *= scratch.places[SPAN, row, tables.product_dims[t, k]]
    mixed = False
    for r in range(tables.affine.shape[2]):
        terms = tables.affine[TERMS, t, r, 0]
        if terms == 0:
            break
        here = 1
        for k in range(terms):
            here *= scratch.places[SPAN, row, tables.affine[DIM, t, r, k]]
        if terms > 1 and here > 1:
            pair = pair_steps(tables, scratch, t, r, s, row)
            if pair.n1 > 0:
                repeated = max(0, pair.n1 - pair.step2) * max(0, pair.n2 - pair.step1)
                here -= repeated
                mixed = mixed or repeated > 0
        distinct *= here
    return distinct, mixed


@kernel
def multiplicities(tables: Tables, scratch: Scratch, t: int, s: int, row: int, instances: int) -> int:
    """Histogram of multiplicities by closed form, into plane MORE of the classes, ascending.

    With B_m = (n1 - (m-1) b)+ (n2 - (m-1) a)+ a pair of dims has B_m - 2 B_{m+1} + B_{m+2} offsets of
    multiplicity m; over several ranks multiplicities and counts multiply.

    Returns:
        The number of classes.
    """
    classes = scratch.classes
    single = 1
    for k in range(1, tables.product_dims[t, 0] + 1):
        single *= scratch.places[SPAN, row, tables.product_dims[t, k]]
    covered = single
    count = 1
    classes[MORE, 0, 0], classes[MORE, 0, 1], classes[MORE, 0, 2] = 1, single, 0
    for r in range(tables.affine.shape[2]):
        terms = tables.affine[TERMS, t, r, 0]
        if terms == 0:
            break
        here = 1
        for k in range(terms):
            here *= scratch.places[SPAN, row, tables.affine[DIM, t, r, k]]
        covered *= here
        _, _, n1, n2, a, b = pair_steps(tables, scratch, t, r, s, row)
        if n1 == 0:
            for c in range(count):
                classes[MORE, c, 1] *= here
            continue
        for c in range(count):
            classes[SPARE, c, 0], classes[SPARE, c, 1] = classes[MORE, c, 0], classes[MORE, c, 1]
        old, count, m = count, 0, 1
        while n1 > (m - 1) * b and n2 > (m - 1) * a:
            exactly = (n1 - (m - 1) * b) * (n2 - (m - 1) * a)
            exactly -= 2 * max(0, n1 - m * b) * max(0, n2 - m * a)
            exactly += max(0, n1 - (m + 1) * b) * max(0, n2 - (m + 1) * a)
            if exactly > 0:
                for c in range(old):
                    count = add_class(scratch, count, classes[SPARE, c, 0] * m, classes[SPARE, c, 1] * exactly, 0)
            m += 1
    irrelevant = instances // covered
    for c in range(count):
        classes[MORE, c, 0] *= irrelevant
    return count


@kernel
def add_class(scratch: Scratch, count: int, multiplicity: int, number: int, way: int) -> int:
    """Adds to the class of this multiplicity in plane MORE, keeping the classes ascending; returns their count.

    Args:
        number: offsets of this multiplicity.
        way: half hops to all of their instances; 0 where nobody asks.
    """
    classes = scratch.classes
    c = count
    while c > 0 and classes[MORE, c - 1, 0] >= multiplicity:
        c -= 1
    if c < count and classes[MORE, c, 0] == multiplicity:
        classes[MORE, c, 1] += number
        classes[MORE, c, 2] += way
        return count
    for k in range(count, c, -1):
        for column in range(3):
            classes[MORE, k, column] = classes[MORE, k - 1, column]
    classes[MORE, c, 0], classes[MORE, c, 1], classes[MORE, c, 2] = multiplicity, number, way
    return count + 1


@inlined_kernel
def list_keys(tables: Tables, scratch: Scratch, t: int, s: int) -> None:
    """Fills plane KEYS of the instances with the offset of each instance below level s."""
    keys = scratch.instances[KEYS]
    total = 1
    keys[0] = 0
    for k in range(scratch.levels[s, DIGITS]):
        d = scratch.places[DIGIT, s, k]
        step = tables.dims[KEY, t, d] * scratch.places[STEP, s, d]
        for i in range(total, total * scratch.places[SPAN, s, d]):
            keys[i] = keys[i - total] + step
        total *= scratch.places[SPAN, s, d]


@inlined_kernel
def slot_mask(instances: int) -> int:
    """Slots of the table of offsets, less one: as many as are needed, so that clearing it does not dominate."""
    mask = 1
    while mask < 2 * instances:
        mask *= 2
    return mask - 1


@inlined_kernel
def find_slot(table: NDArray[np.int64], e: int, mask: int) -> int:
    """The slot of the offset of instance e, or the free one that it takes."""
    key = table[KEYS, e]
    slot = ((key * -7046029254386353131) >> 20) & mask
    while table[SLOTS, slot] != 0 and table[KEYS, table[SLOTS, slot] - 1] != key:
        slot = (slot + 1) & mask
    return slot


@inlined_kernel
def is_served(keys: NDArray[np.int64], e: int, want: int, width: int, height: int, instances: int) -> bool:
    """Whether a grid neighbour of instance e has a certain offset."""
    column, above = e % width, e // width
    return (
        (column > 0 and keys[e - 1] == want)
        or (column < width - 1 and e + 1 < instances and keys[e + 1] == want)
        or (above > 0 and keys[e - width] == want)
        or (above < height - 1 and e + width < instances and keys[e + width] == want)
    )


@kernel
def enumerate_instances(
    tables: Tables, scratch: Scratch, t: int, s: int, with_links: bool, translation: int, width: int, height: int
) -> tuple[int, int, int]:
    """Histogram of multiplicities, into plane MORE of the classes, looking at every instance.

    Args:
        with_links: whether to leave out the instances that a grid neighbour serves after the translation.
        width, height: the grid of instances.

    Returns:
        (number of classes, number of distinct offsets, number of instances served).
    """
    table = scratch.instances
    list_keys(tables, scratch, t, s)
    instances = scratch.levels[s, USED]
    mask = slot_mask(instances)
    served = 0
    distinct = 0
    for e in range(instances):
        if with_links and is_served(table[KEYS], e, table[KEYS, e] + translation, width, height, instances):
            served += 1
            continue
        slot = find_slot(table, e, mask)
        if table[SLOTS, slot] == 0:
            table[SLOTS, slot] = e + 1
            table[COUNTS, slot] = 0
            distinct += 1
        table[COUNTS, slot] += 1
    count = 0
    for slot in range(mask + 1):
        if table[SLOTS, slot] != 0:
            table[SLOTS, slot] = 0
            count = add_class(scratch, count, table[COUNTS, slot], 1, 0)
    return count, distinct, served
