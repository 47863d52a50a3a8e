"""One task for the cost kernels in two arrays: its tables, the rules of legality, and working memory.

Each array that Python hands to a compiled function costs a tenth of a microsecond, and there are twenty of them; so
they lie one behind the other in one array of whole numbers and one of floats, and a kernel makes views of them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import inlined_kernel
from mapgym.cost.dense.scratch import Scratch
from mapgym.cost.dense.tables import Tables

_ROW = 5  # of the directory that the whole numbers begin with: where an array begins, and up to four lengths


class Memory(NamedTuple):
    """What the kernels read and write beside mappings."""

    tables: Tables
    rules: NDArray[np.int64]
    scratch: Scratch


def pack_memory(
    tables: Tables, rules: NDArray[np.int64], scratch: Scratch
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Packs a task for :func:`open_memory`: int64[...] and float64[...]."""
    switches = np.array([tables.peer_links, tables.has_bandwidth], np.int64)
    whole = [
        *(tables.dims, tables.product_dims, tables.affine, tables.tensors, tables.levels, switches, rules),
        *(scratch.places, scratch.levels, scratch.loops, scratch.tiles, scratch.classes),
        *(scratch.differences, scratch.instances),
    ]
    floats = [
        *(tables.energies, np.array([tables.mac_energy])),
        *(scratch.extents, scratch.tile_words, scratch.traffic, scratch.demand),
    ]
    directory = np.zeros((len(whole) + len(floats), _ROW), np.int64)
    for rows, arrays, position in ((directory, whole, directory.size), (directory[len(whole) :], floats, 0)):
        for row, array in zip(rows, arrays, strict=False):
            row[0], row[1 : array.ndim + 1] = position, array.shape
            position += array.size
    return (
        np.concatenate([directory.ravel(), *(array.ravel() for array in whole)]),
        np.concatenate([array.ravel() for array in floats]),
    )


@inlined_kernel
def _one(numbers: NDArray[Any], directory: NDArray[np.int64], k: int) -> NDArray[Any]:
    """View of array k, which has one axis; numbers is the array that it lies in."""
    start = directory[_ROW * k]
    return numbers[start : start + directory[_ROW * k + 1]]


@inlined_kernel
def _two(numbers: NDArray[Any], directory: NDArray[np.int64], k: int) -> NDArray[Any]:
    start, n, m = directory[_ROW * k], directory[_ROW * k + 1], directory[_ROW * k + 2]
    return numbers[start : start + n * m].reshape((n, m))


@inlined_kernel
def _three(numbers: NDArray[Any], directory: NDArray[np.int64], k: int) -> NDArray[Any]:
    start, n = directory[_ROW * k], directory[_ROW * k + 1]
    m, o = directory[_ROW * k + 2], directory[_ROW * k + 3]
    return numbers[start : start + n * m * o].reshape((n, m, o))


@inlined_kernel
def _four(numbers: NDArray[Any], directory: NDArray[np.int64], k: int) -> NDArray[Any]:
    start, n, m = directory[_ROW * k], directory[_ROW * k + 1], directory[_ROW * k + 2]
    o, p = directory[_ROW * k + 3], directory[_ROW * k + 4]
    return numbers[start : start + n * m * o * p].reshape((n, m, o, p))


@inlined_kernel
def open_memory(whole: NDArray[np.int64], floats: NDArray[np.float64]) -> Memory:
    """Views of what :func:`pack_memory` has packed, in its order."""
    switches = _one(whole, whole, 5)
    tables = Tables(
        dims=_three(whole, whole, 0),
        product_dims=_two(whole, whole, 1),
        affine=_four(whole, whole, 2),
        tensors=_two(whole, whole, 3),
        levels=_two(whole, whole, 4),
        energies=_two(floats, whole, 14),
        mac_energy=_one(floats, whole, 15)[0],
        peer_links=switches[0] != 0,
        has_bandwidth=switches[1] != 0,
    )
    scratch = Scratch(
        extents=_two(floats, whole, 16),
        tile_words=_two(floats, whole, 17),
        places=_three(whole, whole, 7),
        levels=_two(whole, whole, 8),
        loops=_two(whole, whole, 9),
        tiles=_three(whole, whole, 10),
        classes=_three(whole, whole, 11),
        traffic=_one(floats, whole, 18),
        demand=_two(floats, whole, 19),
        differences=_one(whole, whole, 12),
        instances=_two(whole, whole, 13),
    )
    return Memory(tables, _one(whole, whole, 6), scratch)
