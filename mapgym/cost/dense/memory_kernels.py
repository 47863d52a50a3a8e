"""One task for the cost kernels in one piece of memory: its tables, the rules of legality, and working memory.

Each array that Python hands to a compiled function costs a tenth of a microsecond, and there are twenty of them; so
they lie one behind the other, and a kernel makes views of them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import inlined_kernel
from mapgym.cost.dense.scratch import Scratch
from mapgym.cost.dense.tables import Features, Switches, Tables

_ROW = 5  # of the directory that the memory begins with: where an array begins, and up to four lengths


class Memory(NamedTuple):
    """What the kernels read and write beside mappings."""

    tables: Tables
    features: Features
    rules: NDArray[np.int64]
    scratch: Scratch


def pack_memory(
    tables: Tables, features: Features, rules: NDArray[np.int64], scratch: Scratch
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Packs a task for :func:`open_memory`: the same memory as int64[...] and as float64[...]."""
    # What every mapping needs lies close together, what few need behind it.
    arrays = [
        *(tables.dims, tables.product_dims, tables.affine, tables.tensors, tables.levels, tables.energies),
        *(np.array([tables.mac_energy]), np.array(tables.switches, np.int64), rules),
        *(scratch.places, scratch.levels, scratch.loops, scratch.tiles),
        *(scratch.extents, scratch.tile_words, scratch.demand),
        *(scratch.classes, scratch.traffic, scratch.differences, scratch.instances),
        *(features.levels, features.energies, features.flags, features.scales),
        *(np.array([features.hops_on_grid, features.has_networks], np.int64), features.ways, scratch.crossings),
    ]
    directory = np.zeros((len(arrays), _ROW), np.int64)
    directory[:, 0] = directory.size + np.cumsum([0, *(array.size for array in arrays)])[:-1]
    for row, array in zip(directory, arrays, strict=True):
        row[1 : array.ndim + 1] = array.shape
    whole = np.concatenate([directory.ravel(), *(array.ravel().view(np.int64) for array in arrays)])
    return whole, whole.view(np.float64)


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
    switches = _one(whole, whole, 7)
    tables = Tables(
        dims=_three(whole, whole, 0),
        product_dims=_two(whole, whole, 1),
        affine=_four(whole, whole, 2),
        tensors=_two(whole, whole, 3),
        levels=_two(whole, whole, 4),
        energies=_two(floats, whole, 5),
        mac_energy=_one(floats, whole, 6)[0],
        switches=Switches(
            peer_links=switches[0] != 0,
            has_bandwidth=switches[1] != 0,
            first_fills_elided=switches[2] != 0,
            reuse_survives=switches[3] != 0,
        ),
    )
    scratch = Scratch(
        extents=_two(floats, whole, 13),
        tile_words=_two(floats, whole, 14),
        places=_three(whole, whole, 9),
        levels=_two(whole, whole, 10),
        loops=_two(whole, whole, 11),
        tiles=_three(whole, whole, 12),
        classes=_three(whole, whole, 16),
        traffic=_two(floats, whole, 17),
        demand=_two(floats, whole, 15),
        differences=_one(whole, whole, 18),
        instances=_two(whole, whole, 19),
        crossings=_three(floats, whole, 26),
    )
    networks = _one(whole, whole, 24)
    features = Features(
        levels=_two(whole, whole, 20),
        energies=_two(floats, whole, 21),
        flags=_two(whole, whole, 22),
        scales=_two(floats, whole, 23),
        hops_on_grid=networks[0] != 0,
        has_networks=networks[1] != 0,
        ways=_two(whole, whole, 25),
    )
    return Memory(tables, features, _one(whole, whole, 8), scratch)
