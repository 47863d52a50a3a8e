"""What the sparse cost kernel takes and gives: the sparse features of a task in arrays, and detailed counts."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.mapping.metadata_kernels import Formats, make_formats
from mapgym.mapping.nest_kernels import Nest, make_nest
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.sparsity import SAVINGS
from mapgym.spec.workload import Workload

ABORTED, WRAPPED = 1, 2
"""Bits of ``SparseDetail.artefacts``."""

# Vector accesses of compressed data are corrected only for tiles of less than so many blocks (Timeloop, buffer.hpp), by
# words of a block and decile of the density.
_SMALL_TILES = {
    1: [0] * 10,
    2: [251, 125, 84, 63, 51, 42, 36, 32, 28, 1],
    4: [375, 188, 125, 94, 75, 63, 54, 47, 42, 1],
    8: [438, 219, 146, 110, 88, 73, 63, 55, 49, 1],
    16: [469, 235, 157, 118, 94, 79, 67, 59, 52, 1],
    32: [485, 243, 162, 122, 97, 81, 70, 61, 52, 1],
}


class SparseTables(NamedTuple):
    """What a sparse task adds to the dense one (L levels, T tensors)."""

    formats: Formats
    nest: Nest
    actions: NDArray[np.int64]  # [any, 3 + T] saving, level, target, conditions (tensors, then -1); gating first
    is_output: NDArray[np.bool_]  # [T]
    operands: NDArray[np.int64]  # [2] the inputs
    blocks: NDArray[np.int64]  # [L] words of a block
    bandwidths: NDArray[np.float64]  # [L, 3] read, write, shared
    energies: NDArray[np.float64]  # [L] of a block access
    mac_energy: float
    gates: bool  # what the MACs do about zeros
    skips: bool
    small_tiles: NDArray[np.int64]  # [L, 10] blocks of a tile from which on its rounding is neglected, by density
    # Working memory.
    counts: NDArray[np.int64]  # [3, L, T] accesses that are left, READS, FILLS, UPDATES
    passed: NDArray[np.int64]  # [3, L, T] those that outer levels let through
    removed: NDArray[np.int64]  # [2, 2, L, T] saving, reads or updates
    fraction: NDArray[np.float64]  # [L, T] share that the level's own actions save, -1 without any
    saving: NDArray[np.int64]  # [L, T] by which
    density: NDArray[np.float64]  # [L, T] of the tiles
    instances: NDArray[np.float64]  # [L, T] used, on average
    # For one action: extents of the target tile, of the tile of its conditions, and the shared factor of each dim.
    tile: NDArray[np.int64]  # [3, D]
    shared: NDArray[np.float64]  # [D]


class SparseDetail(NamedTuple):
    """Counts of every mapping, per used instance; [n, level, tensor] unless said otherwise."""

    reads: NDArray[np.int64]  # really done
    fills: NDArray[np.int64]
    updates: NDArray[np.int64]
    gated_reads: NDArray[np.int64]
    gated_updates: NDArray[np.int64]
    skipped_reads: NDArray[np.int64]
    skipped_updates: NDArray[np.int64]
    occupied_words: NDArray[np.int64]  # largest occupancy of a compressed tile, words of another
    used_instances: NDArray[np.float64]  # on average
    metadata_bits: NDArray[np.float64]
    energy_pj: NDArray[np.float64]  # of all instances
    level_cycles: NDArray[np.int64]  # [n, level]
    computes: NDArray[np.int64]  # [n, 3] done, gated, skipped
    artefacts: NDArray[np.int64]  # [n] ABORTED | WRAPPED


def check_operands(workload: Workload, accelerator: Accelerator) -> None:
    """Raises SpecificationError if an accelerator is sparse and the workload has other than two operands."""
    operands = sum(not tensor.is_output for tensor in workload.tensors)
    if accelerator.is_sparse and operands != 2:
        raise SpecificationError(
            f"workload {quoted(workload.name)} has {operands} operands, but sparse hardware is modelled for two; "
            f"use an accelerator without sparse features instead of {quoted(accelerator.name)}"
        )


def make_sparse_tables(workload: Workload, accelerator: Accelerator, is_canonical: bool) -> SparseTables:
    """Packs the sparse features of a task that has two operands and the tensors that the accelerator names."""
    names = [tensor.name for tensor in workload.tensors]
    operands = [t for t, tensor in enumerate(workload.tensors) if not tensor.is_output]
    rows = []
    for code, saving in enumerate(SAVINGS):
        for s, level in enumerate(accelerator.levels):
            for action in level.actions:
                if action.saving == saving:
                    involved = [names.index(name) for name in (action.target, *action.condition_on)]
                    rows.append([code, s, *involved] + [-1] * (len(names) - len(involved)))
    shape = (len(accelerator.levels), len(names))
    unlimited = math.inf
    levels = accelerator.levels
    return SparseTables(
        formats=make_formats(workload, accelerator),
        nest=make_nest(workload, accelerator, is_canonical),
        actions=np.array(rows, np.int64).reshape(len(rows), 2 + len(names)),
        is_output=np.array([tensor.is_output for tensor in workload.tensors]),
        operands=np.array(operands, np.int64),
        blocks=np.array([level.block_size_words for level in levels], np.int64),
        bandwidths=np.array(
            [
                [
                    level.read_bandwidth_words_per_cycle or unlimited,
                    level.write_bandwidth_words_per_cycle or unlimited,
                    level.shared_bandwidth_words_per_cycle or unlimited,
                ]
                for level in levels
            ]
        ),
        energies=np.array([level.access_energy_pj for level in levels], np.float64),
        mac_energy=float(accelerator.mac.energy_pj),
        gates="gating" in accelerator.mac.zero_operands,
        skips="skipping" in accelerator.mac.zero_operands,
        # No level has compressed tiles in other blocks (mapgym.spec.format_rules).
        small_tiles=np.array([_SMALL_TILES.get(level.block_size_words, _SMALL_TILES[1]) for level in levels], np.int64),
        counts=np.zeros((3, *shape), np.int64),
        passed=np.zeros((3, *shape), np.int64),
        removed=np.zeros((2, 2, *shape), np.int64),
        fraction=np.zeros(shape),
        saving=np.zeros(shape, np.int64),
        density=np.zeros(shape),
        instances=np.zeros(shape),
        tile=np.zeros((3, len(workload.dims)), np.int64),
        shared=np.zeros(len(workload.dims)),
    )


def make_sparse_detail(n: int, levels: int, tensors: int) -> SparseDetail:
    """Zeros for n mappings."""
    floats = ("used_instances", "metadata_bits", "energy_pj")
    shapes = {"level_cycles": (n, levels), "computes": (n, 3), "artefacts": (n,)}
    arrays: dict[str, Any] = {
        name: np.zeros(shapes.get(name, (n, levels, tensors)), np.float64 if name in floats else np.int64)
        for name in SparseDetail._fields
    }
    return SparseDetail(**arrays)
