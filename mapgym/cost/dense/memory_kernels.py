"""One task for the cost kernels in one piece of memory: its tables, the rules of legality, and working memory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import inlined_kernel
from mapgym.compilation.array_kernels import four, one, pack_arrays, three, two
from mapgym.cost.dense.scratch import Scratch
from mapgym.cost.dense.tables import Features, Switches, Tables


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
    return pack_arrays(arrays)[:2]


@inlined_kernel
def open_memory(whole: NDArray[np.int64], floats: NDArray[np.float64]) -> Memory:
    """Views of what :func:`pack_memory` has packed, in its order."""
    switches = one(whole, whole, 7)
    tables = Tables(
        dims=three(whole, whole, 0),
        product_dims=two(whole, whole, 1),
        affine=four(whole, whole, 2),
        tensors=two(whole, whole, 3),
        levels=two(whole, whole, 4),
        energies=two(floats, whole, 5),
        mac_energy=one(floats, whole, 6)[0],
        switches=Switches(
            peer_links=switches[0] != 0,
            has_bandwidth=switches[1] != 0,
            first_fills_elided=switches[2] != 0,
            reuse_survives=switches[3] != 0,
        ),
    )
    scratch = Scratch(
        extents=two(floats, whole, 13),
        tile_words=two(floats, whole, 14),
        places=three(whole, whole, 9),
        levels=two(whole, whole, 10),
        loops=two(whole, whole, 11),
        tiles=three(whole, whole, 12),
        classes=three(whole, whole, 16),
        traffic=two(floats, whole, 17),
        demand=two(floats, whole, 15),
        differences=one(whole, whole, 18),
        instances=two(whole, whole, 19),
        crossings=three(floats, whole, 26),
    )
    networks = one(whole, whole, 24)
    features = Features(
        levels=two(whole, whole, 20),
        energies=two(floats, whole, 21),
        flags=two(whole, whole, 22),
        scales=two(floats, whole, 23),
        hops_on_grid=networks[0] != 0,
        has_networks=networks[1] != 0,
        ways=two(whole, whole, 25),
    )
    return Memory(tables, features, one(whole, whole, 8), scratch)
