"""Mappings as vectors of whole numbers, for black-box optimisers: one column for each independent choice.

A factor column is the rank of an ordered factorisation: for each prime of a group's product, the exponents given to
the group's slots are a composition, ranked lexicographically. An order column is the rank of a permutation (its
Lehmer code). Mesh axes and kept tensors are one binary column each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import allocating_kernel
from mapgym.errors import SpecificationError
from mapgym.mapping.maps import Arrays, Maps
from mapgym.mapspace.size import prime_exponents
from mapgym.spec.ranges import MAX_ARRANGED, MAX_WHOLE

if TYPE_CHECKING:
    from mapgym.mapspace.entries import SearchedEntries
    from mapgym.spec.accelerator import Accelerator
    from mapgym.spec.workload import Workload

# Columns of a row of the factor table.
COLUMN, DIM, PRIME, EXPONENT, FIRST_SLOT, SLOTS, COUNT = range(7)


class CodeTables(NamedTuple):
    """Where each choice of a mapping is coded; a column of -1 means that it is no choice.

    Attributes:
        factors: int64[prime of a group, 7] column, dim, prime, exponent, first entry in slots, number of slots, number
            of compositions; rows of one column are digits of one number, the most significant first.
        slots: int64[any] slots of the groups, one after the other.
        binomials: int64[any, any] n over k.
        order, spatial_order: int64[level] columns.
        movable, spatial_movable: bool[level, dim] the loops that these orders arrange.
        axis: int64[level, dim] columns.
        keep: int64[level, tensor] columns.
    """

    factors: NDArray[np.int64]
    slots: NDArray[np.int64]
    binomials: NDArray[np.int64]
    order: NDArray[np.int64]
    spatial_order: NDArray[np.int64]
    movable: NDArray[np.bool_]
    spatial_movable: NDArray[np.bool_]
    axis: NDArray[np.int64]
    keep: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Code:
    """The columns of the encoding of a map space.

    Attributes:
        names: what each column codes, such as "factors of C" or "order of GlobalBuffer".
        sizes: int64[column] number of values of each column.
        tables: for the compiled kernels.
    """

    names: tuple[str, ...]
    sizes: NDArray[np.int64]
    tables: CodeTables


def build_code(workload: Workload, accelerator: Accelerator, entries: SearchedEntries) -> Code:
    """Lays out the columns: factors by dim, then orders, spatial orders, mesh axes and kept tensors by level.

    Raises:
        SpecificationError: a column would have 2**62 values or more, or arrange more than 20 loops.
    """
    levels, dims = entries.order_key.shape
    names: list[str] = []
    sizes: list[int] = []

    def add(name: str, size: int) -> int:
        if size >= MAX_WHOLE:
            raise SpecificationError(f"the {name} have {size} values, too many for one column; fix some of them")
        names.append(name)
        sizes.append(size)
        return len(names) - 1

    rows: list[tuple[int, ...]] = []
    slots: list[int] = []
    for d, dim in enumerate(workload.dims):
        digits = []
        for group in entries.groups:
            if group.dim == d:
                parts = len(group.slots)
                for prime, exponent in prime_exponents(group.total).items():
                    count = math.comb(exponent + parts - 1, parts - 1)
                    digits.append((d, prime, exponent, len(slots), parts, count))
                slots += group.slots
        if digits:
            column = add(f"factors of {dim}", math.prod(digit[-1] for digit in digits))
            rows += [(column, *digit) for digit in digits]

    movable, spatial_movable = entries.fixed[:levels] != 1, entries.fixed[levels:] != 1
    order, spatial_order = np.full(levels, -1), np.full(levels, -1)
    for columns, free, loops, what in (
        (order, entries.order_free, movable, "order of"),
        (spatial_order, entries.spatial_order_free, spatial_movable, "spatial order of"),
    ):
        for s, level in enumerate(accelerator.level_names):
            arranged = int(loops[s].sum())
            if free[s] and arranged > 1:
                if arranged > MAX_ARRANGED:
                    raise SpecificationError(
                        f"the {what} {level} arranges {arranged} loops, more than the {MAX_ARRANGED} that one column "
                        "can code; fix this order"
                    )
                columns[s] = add(f"{what} {level}", math.factorial(arranged))
    axis = np.full((levels, dims), -1)
    keep = np.full(entries.keep.shape, -1)
    for s, level in enumerate(accelerator.level_names):
        for dim_index in np.flatnonzero(spatial_movable[s] & entries.axis_free[s]):
            axis[s, dim_index] = add(f"mesh axis of {workload.dims[dim_index]} at {level}", 2)
    for s, level in enumerate(accelerator.level_names):
        for t in np.flatnonzero(entries.keep_free[s]):
            keep[s, t] = add(f"{workload.tensors[t].name} kept at {level}", 2)

    most = 1 + max((row[EXPONENT] + row[SLOTS] for row in rows), default=1)
    binomials = np.array([[math.comb(n, k) for k in range(2 * levels)] for n in range(most)], np.int64)
    tables = CodeTables(
        factors=np.array(rows, np.int64).reshape(-1, 7),
        slots=np.array(slots, np.int64),
        binomials=binomials,
        order=order.astype(np.int64),
        spatial_order=spatial_order.astype(np.int64),
        movable=movable,
        spatial_movable=spatial_movable,
        axis=axis.astype(np.int64),
        keep=keep.astype(np.int64),
    )
    return Code(tuple(names), np.array(sizes, np.int64), tables)


@allocating_kernel
def _rank_order(order: Any, movable: Any, i: int, s: int) -> Any:
    """Rank of the permutation of the movable dims of an order: its Lehmer code in the factorial number system."""
    rank = np.int64(0)
    dims = order.shape[2]
    left = 0
    for d in range(dims):
        left += movable[s, d]
    for position in range(dims):
        d = order[i, s, position]
        if not movable[s, d]:
            continue
        smaller = 0
        for later in range(position + 1, dims):
            other = order[i, s, later]
            smaller += movable[s, other] and other < d
        rank = rank * left + smaller
        left -= 1
    return rank


@allocating_kernel
def _unrank_order(rank: int, order: Any, movable: Any, i: int, s: int) -> None:
    """Writes the permutation of a rank: the movable dims in its order, then the others."""
    dims = order.shape[2]
    loops = 0
    for d in range(dims):
        loops += movable[s, d]
    # Digits from the last position inwards: each counts the later, smaller dims, so inserting from the back and
    # raising what is not below it turns digits into ranks among the movable dims.
    for position in range(loops - 1, -1, -1):
        base = loops - position
        digit = rank % base
        rank //= base
        order[i, s, position] = digit
        for later in range(position + 1, loops):
            if order[i, s, later] >= digit:
                order[i, s, later] += 1
    for position in range(loops):
        skip = order[i, s, position]
        for d in range(dims):
            if movable[s, d]:
                if skip == 0:
                    order[i, s, position] = d
                    break
                skip -= 1
    write = loops
    for d in range(dims):
        if not movable[s, d]:
            order[i, s, write] = d
            write += 1


@allocating_kernel
def encode_batch(arrays: Arrays, tables: CodeTables, codes: Any) -> None:
    """Fills codes int64[n, column], zero before, for mappings in canonical form."""
    maps = Maps(*arrays)
    temporal, spatial, order, spatial_order, spatial_split, keep = maps
    levels, dims = temporal.shape[1], temporal.shape[2]
    for i in range(len(temporal)):
        for row in tables.factors:
            column, d, prime, left = row[COLUMN], row[DIM], row[PRIME], row[EXPONENT]
            rank = np.int64(0)
            for part in range(row[SLOTS] - 1):
                slot = tables.slots[row[FIRST_SLOT] + part]
                factor = temporal[i, slot, d] if slot < levels else spatial[i, slot - levels, d]
                exponent = 0
                while factor % prime == 0:
                    factor //= prime
                    exponent += 1
                after = row[SLOTS] - 2 - part
                for skipped in range(exponent):
                    rank += tables.binomials[left - skipped + after, after]
                left -= exponent
            codes[i, column] = codes[i, column] * row[COUNT] + rank
        for s in range(levels):
            if tables.order[s] >= 0:
                codes[i, tables.order[s]] = _rank_order(order, tables.movable, i, s)
            if tables.spatial_order[s] >= 0:
                codes[i, tables.spatial_order[s]] = _rank_order(spatial_order, tables.spatial_movable, i, s)
            for position in range(spatial_split[i, s], dims):
                d = spatial_order[i, s, position]
                if tables.axis[s, d] >= 0 and spatial[i, s, d] > 1:
                    codes[i, tables.axis[s, d]] = 1
            for t in range(keep.shape[2]):
                if tables.keep[s, t] >= 0:
                    codes[i, tables.keep[s, t]] = keep[i, s, t]


@allocating_kernel
def _decode_factors(i: int, maps: Maps, tables: CodeTables, codes: Any) -> None:
    temporal, spatial = maps.temporal, maps.spatial
    levels = temporal.shape[1]
    for r in range(len(tables.factors) - 1, -1, -1):
        row = tables.factors[r]
        d, left = row[DIM], row[EXPONENT]
        rank = codes[i, row[COLUMN]] % row[COUNT]
        codes[i, row[COLUMN]] //= row[COUNT]
        for part in range(row[SLOTS]):
            exponent = left
            after = row[SLOTS] - 2 - part
            if after >= 0:
                exponent = 0
                while rank >= tables.binomials[left - exponent + after, after]:
                    rank -= tables.binomials[left - exponent + after, after]
                    exponent += 1
            left -= exponent
            slot = tables.slots[row[FIRST_SLOT] + part]
            for _ in range(exponent):
                if slot < levels:
                    temporal[i, slot, d] *= row[PRIME]
                else:
                    spatial[i, slot - levels, d] *= row[PRIME]


@allocating_kernel
def decode_batch(arrays: Arrays, tables: CodeTables, on_y: Any, codes: Any) -> None:
    """Writes the choices of codes into mappings that hold what is fixed, 1 for every searched factor.

    Args:
        arrays: arrays of a batch with ascending spatial orders where no column codes them; the results are not
            normalised.
        tables: of the code.
        on_y: bool[level, dim] mesh axis of the spatial loops whose axis is not searched.
        codes: int64[n, column], used up.
    """
    maps = Maps(*arrays)
    order, spatial_order, spatial_split, keep = maps.order, maps.spatial_order, maps.spatial_split, maps.keep
    levels, dims = order.shape[1], order.shape[2]
    sequence = np.empty(dims, np.int8)
    for i in range(len(order)):
        _decode_factors(i, maps, tables, codes)
        for s in range(levels):
            if tables.order[s] >= 0:
                _unrank_order(codes[i, tables.order[s]], order, tables.movable, i, s)
            if tables.spatial_order[s] >= 0:
                _unrank_order(codes[i, tables.spatial_order[s]], spatial_order, tables.spatial_movable, i, s)
            for position in range(dims):
                sequence[position] = spatial_order[i, s, position]
            write = 0
            for axis in range(2):
                for position in range(dims):
                    d = sequence[position]
                    column = tables.axis[s, d]
                    on_axis = codes[i, column] if column >= 0 else np.int64(on_y[s, d])
                    if on_axis == axis:
                        spatial_order[i, s, write] = d
                        write += 1
                if axis == 0:
                    spatial_split[i, s] = write
            for t in range(keep.shape[2]):
                if tables.keep[s, t] >= 0:
                    keep[i, s, t] = codes[i, tables.keep[s, t]] == 1
