"""Compiled encoding of mappings as whole numbers; :mod:`mapgym.mapspace.encoding` lays out the columns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import allocating_kernel
from mapgym.mapping.maps import Arrays, Maps

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
        side: int64[level, dim] columns.
        keep: int64[level, tensor] columns.
    """

    factors: NDArray[np.int64]
    slots: NDArray[np.int64]
    binomials: NDArray[np.int64]
    order: NDArray[np.int64]
    spatial_order: NDArray[np.int64]
    movable: NDArray[np.bool_]
    spatial_movable: NDArray[np.bool_]
    side: NDArray[np.int64]
    keep: NDArray[np.int64]


@allocating_kernel
def _rank_order(order: NDArray[np.int8], movable: NDArray[np.bool_], i: int, s: int) -> int:
    """Rank of the permutation of the movable dims of an order: its Lehmer code in the factorial number system."""
    rank = 0
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
def _unrank_order(rank: int, order: NDArray[np.int8], movable: NDArray[np.bool_], i: int, s: int) -> None:
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
def encode_batch(arrays: Arrays, tables: CodeTables, codes: NDArray[np.int64]) -> None:
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
                if tables.side[s, d] >= 0 and spatial[i, s, d] > 1:
                    codes[i, tables.side[s, d]] = 1
            for t in range(keep.shape[2]):
                if tables.keep[s, t] >= 0:
                    codes[i, tables.keep[s, t]] = keep[i, s, t]


@allocating_kernel
def _decode_factors(i: int, maps: Maps, tables: CodeTables, codes: NDArray[np.int64]) -> None:
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
def decode_batch(arrays: Arrays, tables: CodeTables, on_y: NDArray[np.bool_], codes: NDArray[np.int64]) -> None:
    """Writes the choices of codes into mappings that hold what is fixed, 1 for every searched factor.

    Args:
        arrays: arrays of a batch with ascending spatial orders where no column codes them; the results are not
            normalised.
        tables: of the code.
        on_y: bool[level, dim] mesh side of the spatial loops whose side is not searched.
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
            for side in range(2):
                for position in range(dims):
                    d = sequence[position]
                    column = tables.side[s, d]
                    on_side = codes[i, column] if column >= 0 else np.int64(on_y[s, d])
                    if on_side == side:
                        spatial_order[i, s, write] = d
                        write += 1
                if side == 0:
                    spatial_split[i, s] = write
            for t in range(keep.shape[2]):
                if tables.keep[s, t] >= 0:
                    keep[i, s, t] = codes[i, tables.keep[s, t]] == 1
