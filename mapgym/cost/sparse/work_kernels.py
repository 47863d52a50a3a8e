"""What sparse pricing works with, in one piece of memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import inlined_kernel
from mapgym.compilation.array_kernels import PageArrays, Pages, five, four, one, pack_arrays, three, two
from mapgym.cost.dense.detail import Detail
from mapgym.cost.sparse.tables import SparseTables
from mapgym.mapping.canonical_kernels import Sorting, open_sorting
from mapgym.mapping.maps import Maps
from mapgym.mapping.metadata_kernels import FORMAT_ARRAYS, Formats, open_formats
from mapgym.mapping.nest_kernels import NEST_ARRAYS, Nest, nest_arrays, open_nest


class SparseWork(NamedTuple):
    """What pricing one mapping on sparse hardware works with."""

    sparse: SparseTables
    sorting: Sorting  # of the canonical form
    row: Maps  # one mapping
    dense: Detail  # of that mapping
    probabilities: NDArray[np.float64]  # [T]
    states: NDArray[np.float64]  # [operands, 3]
    densities: NDArray[np.int64]  # [set, T * RECORD] at which mappings are priced
    rules: NDArray[np.int64]  # [set, any] of legality at each of them


# Where each part begins.
_NEST = FORMAT_ARRAYS
_SORTING = _NEST + NEST_ARRAYS
_ROW = _SORTING + len(Sorting._fields)
_DENSE = _ROW + len(Maps._fields)
_OWN = _DENSE + len(Detail._fields)
_SPARSE = _OWN + 4


def pack_work(
    sparse: SparseTables,
    sorting: Sorting,
    row: Maps,
    dense: Detail,
    densities: NDArray[np.int64],
    rules: Sequence[NDArray[np.int64]],
) -> PageArrays:
    """Packs what pricing works with for :func:`open_work`; see :class:`SparseWork`."""
    tensors = len(sparse.is_output)
    tables = [field for field in sparse if isinstance(field, np.ndarray)]
    switches = np.array([sparse.has_leakage, sparse.gates, sparse.skips], np.int64)
    arrays = [
        *(*sparse.formats, *nest_arrays(sparse.nest), *sorting, *row, *dense),
        *(np.zeros(tensors), np.zeros((tensors - 1, 3)), densities.reshape(len(rules), -1), np.array(rules)),
        *(switches, *tables),
    ]
    return pack_arrays(arrays)


@inlined_kernel
def _open_row(pages: Pages) -> Maps:
    """Views of the mapping."""
    whole = pages.whole
    return Maps(
        temporal=three(pages.halves, whole, _ROW),
        spatial=three(pages.halves, whole, _ROW + 1),
        order=three(pages.bytes, whole, _ROW + 2),
        spatial_order=three(pages.bytes, whole, _ROW + 3),
        spatial_split=two(pages.bytes, whole, _ROW + 4),
        keep=three(pages.flags, whole, _ROW + 5),
    )


@inlined_kernel
def _open_dense(pages: Pages) -> Detail:
    """Views of the counts of dense tensors."""
    whole, floats = pages.whole, pages.floats
    return Detail(
        reads=three(whole, whole, _DENSE),
        fills=three(whole, whole, _DENSE + 1),
        updates=three(whole, whole, _DENSE + 2),
        tile_words=three(whole, whole, _DENSE + 3),
        partition_words=three(whole, whole, _DENSE + 4),
        energy_pj=three(floats, whole, _DENSE + 5),
        address_energy_pj=three(floats, whole, _DENSE + 6),
        leakage_energy_pj=two(floats, whole, _DENSE + 7),
        network_energy_pj=three(floats, whole, _DENSE + 8),
        ingresses=three(floats, whole, _DENSE + 9),
        hops=three(floats, whole, _DENSE + 10),
        link_transfers=three(floats, whole, _DENSE + 11),
        spatial_reductions=three(whole, whole, _DENSE + 12),
        multicast=three(whole, whole, _DENSE + 13),
        used_instances=two(whole, whole, _DENSE + 14),
        used_clusters=two(whole, whole, _DENSE + 15),
        fanout_used=two(whole, whole, _DENSE + 16),
        compute_cycles=one(whole, whole, _DENSE + 17),
        level_cycles=two(whole, whole, _DENSE + 18),
    )


@inlined_kernel
def _open_tables(pages: Pages, formats: Formats, nest: Nest) -> SparseTables:
    """Views of the sparse features."""
    whole, floats = pages.whole, pages.floats
    switches = one(whole, whole, _SPARSE)
    return SparseTables(
        formats=formats,
        nest=nest,
        actions=two(whole, whole, _SPARSE + 1),
        is_output=one(pages.flags, whole, _SPARSE + 2),
        operands=one(whole, whole, _SPARSE + 3),
        levels=two(whole, whole, _SPARSE + 4),
        bandwidths=two(floats, whole, _SPARSE + 5),
        scales=two(floats, whole, _SPARSE + 6),
        energies=two(floats, whole, _SPARSE + 7),
        mac_energies=one(floats, whole, _SPARSE + 8),
        counts_metadata=one(pages.flags, whole, _SPARSE + 9),
        has_leakage=switches[0] != 0,
        gates=switches[1] != 0,
        skips=switches[2] != 0,
        small_tiles=two(whole, whole, _SPARSE + 10),
        counts=three(whole, whole, _SPARSE + 11),
        passed=three(whole, whole, _SPARSE + 12),
        removed=four(whole, whole, _SPARSE + 13),
        fraction=two(floats, whole, _SPARSE + 14),
        saving=two(whole, whole, _SPARSE + 15),
        full=three(floats, whole, _SPARSE + 16),
        found=one(floats, whole, _SPARSE + 17),
        effective=one(whole, whole, _SPARSE + 18),
        conditions=three(whole, whole, _SPARSE + 19),
        density=two(floats, whole, _SPARSE + 20),
        instances=two(floats, whole, _SPARSE + 21),
        metadata=five(whole, whole, _SPARSE + 22),
        metadata_saved=five(whole, whole, _SPARSE + 23),
        units=two(floats, whole, _SPARSE + 24),
        chances=two(floats, whole, _SPARSE + 25),
        tile=two(whole, whole, _SPARSE + 26),
        shared=one(floats, whole, _SPARSE + 27),
    )


@inlined_kernel
def open_work(pages: Pages) -> SparseWork:
    """Views of what :func:`pack_work` has packed, in its order."""
    whole = pages.whole
    formats, nest = open_formats(pages, 0), open_nest(pages, _NEST)
    return SparseWork(
        sparse=_open_tables(pages, formats, nest),
        sorting=open_sorting(pages, _SORTING),
        row=_open_row(pages),
        dense=_open_dense(pages),
        probabilities=one(pages.floats, whole, _OWN),
        states=two(pages.floats, whole, _OWN + 1),
        densities=two(whole, whole, _OWN + 2),
        rules=two(whole, whole, _OWN + 3),
    )
