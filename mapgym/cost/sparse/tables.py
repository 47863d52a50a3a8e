"""What the sparse cost kernel takes and gives: the sparse features of a task in arrays, and detailed counts."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.mapping.metadata_kernels import Formats, make_formats
from mapgym.mapping.nest_kernels import Nest, make_nest
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.actions import ACCESSES, MAC_ACTIONS
from mapgym.spec.sparsity import SAVINGS
from mapgym.spec.workload import Workload

ABORTED, WRAPPED = 1, 2
"""Bits of ``SparseDetail.artefacts``."""

_SMALL_TILES = {
    1: [0] * 10,
    2: [251, 125, 84, 63, 51, 42, 36, 32, 28, 1],
    4: [375, 188, 125, 94, 75, 63, 54, 47, 42, 1],
    8: [438, 219, 146, 110, 88, 73, 63, 55, 49, 1],
    16: [469, 235, 157, 118, 94, 79, 67, 59, 52, 1],
    32: [485, 243, 162, 122, 97, 81, 70, 61, 52, 1],
}
"""Vector accesses of compressed data are corrected only for tiles of less than so many blocks, by words of a block and
decile of the density (Timeloop, buffer.hpp)."""


def _small_tiles(block: int) -> list[int]:
    """The row of a block, by the rule that the table follows where Timeloop has none: the correction is worth 1 %.

    Nonzeros fill their last block by half on average, which is (1 - 1/block) / 2 of a block beyond the mean.
    """
    if block in _SMALL_TILES:
        return _SMALL_TILES[block]
    return [math.ceil(50 * (1 - 1 / block) * 10 / decile) for decile in range(1, 10)] + [1]


GATING, SKIPPING = range(2)
"""Codes of the ways to save, in the order of ``SAVINGS``."""

READS, FILLS, UPDATES = range(3)
METADATA, PAYLOAD = range(2)

DONE, GATED, SKIPPED, META, GATED_META, SKIPPED_META = range(0, 18, 3)
"""Columns of ``SparseTables.energies`` from which on there are those of reads, fills and updates."""

DECOMPRESSION, COMPRESSION, LEAK, ADDRESS = range(18, 22)


class SparseTables(NamedTuple):
    """What a sparse task adds to the dense one (L levels, T tensors)."""

    formats: Formats
    nest: Nest
    actions: NDArray[np.int64]  # [any, 3 + T] saving, level, target, conditions (tensors, then -1); gating first
    is_output: NDArray[np.bool_]  # [T]
    operands: NDArray[np.int64]  # [any] the inputs
    levels: NDArray[np.int64]  # [L, 6] columns BLOCK, WORD_BITS, ACCESS_BITS (of metadata), INSTANCES, CLUSTERS, GATE
    bandwidths: NDArray[np.float64]  # [L, 3] read, write, shared
    scales: NDArray[np.float64]  # [L, T] how much an access counts towards them
    energies: NDArray[np.float64]  # [L, 22] pJ, columns above
    mac_energies: NDArray[np.float64]  # [3] of a computation done, gated, skipped
    counts_metadata: NDArray[np.bool_]  # [L] whether a cost depends on how often metadata are moved
    has_leakage: bool
    gates: bool  # what the MACs do about zeros
    skips: bool
    small_tiles: NDArray[np.int64]  # [L, 10] blocks of a tile from which on its rounding is neglected, by density
    # Working memory.
    counts: NDArray[np.int64]  # [3, L, T] accesses that are left, READS, FILLS, UPDATES
    passed: NDArray[np.int64]  # [3, L, T] those that outer levels let through
    removed: NDArray[np.int64]  # [2, 2, L, T] saving, reads or updates
    fraction: NDArray[np.float64]  # [L, T] share that the level's own actions save, -1 without any
    saving: NDArray[np.int64]  # [L, T] by which
    full: NDArray[np.float64]  # [L, T, T] share of the target's reads in which the tile of a condition is not empty
    found: NDArray[np.float64]  # [T] the same of the actions at hand
    effective: NDArray[np.int64]  # [action] the level where it saves accesses, -1 if nowhere
    conditions: NDArray[np.int64]  # [action, T, 2] words and rows of each condition's tile, no words without effect
    density: NDArray[np.float64]  # [L, T] of the tiles
    instances: NDArray[np.float64]  # [L, T] used, on average
    metadata: NDArray[np.int64]  # [3, L, T, any, 2] accesses to METADATA and PAYLOAD of each rank that is listed
    metadata_saved: NDArray[np.int64]  # [3, L, T, any, 2] those that the level's own actions save
    # For one tile: what each listed rank has on average, and the chances that its fibers, and their entries, are empty.
    units: NDArray[np.float64]  # [any, 2]
    chances: NDArray[np.float64]  # [any, 2]
    # For one action: extents of the target tile, of the tile of its conditions, and the shared factor of each dim.
    tile: NDArray[np.int64]  # [3, D]
    shared: NDArray[np.float64]  # [D]


BLOCK, WORD_BITS, ACCESS_BITS, INSTANCES, CLUSTERS, GATE = range(6)
"""Columns of ``SparseTables.levels``."""


class SparseDetail(NamedTuple):
    """Counts of every mapping, per used instance; [n, level, tensor] unless said otherwise."""

    reads: NDArray[np.int64]  # really done
    fills: NDArray[np.int64]
    updates: NDArray[np.int64]
    gated_reads: NDArray[np.int64]
    gated_updates: NDArray[np.int64]
    skipped_reads: NDArray[np.int64]
    skipped_updates: NDArray[np.int64]
    decompressions: NDArray[np.int64]
    compressions: NDArray[np.int64]
    occupied_words: NDArray[np.int64]  # largest occupancy of a compressed tile, words of another
    used_instances: NDArray[np.float64]  # on average
    metadata_bits: NDArray[np.float64]
    metadata_accesses: NDArray[np.int64]  # [n, level, tensor, access, outcome, rank, part]
    energy_pj: NDArray[np.float64]  # of all instances
    metadata_energy_pj: NDArray[np.float64]  # the part of it that metadata cost
    address_energy_pj: NDArray[np.float64]
    leakage_energy_pj: NDArray[np.float64]  # [n, level]
    level_cycles: NDArray[np.int64]  # [n, level]
    computes: NDArray[np.int64]  # [n, 3] done, gated, skipped
    artefacts: NDArray[np.int64]  # [n] ABORTED | WRAPPED


def make_sparse_tables(workload: Workload, accelerator: Accelerator, is_canonical: bool) -> SparseTables:
    """Packs the sparse features of a task; the accelerator names tensors of the workload only."""
    names = [tensor.name for tensor in workload.tensors]
    operands = [t for t, tensor in enumerate(workload.tensors) if not tensor.is_output]
    levels = accelerator.levels
    rows = []
    for code, saving in enumerate(SAVINGS):
        for s, level in enumerate(levels):
            for action in level.actions:
                if action.saving == saving:
                    involved = [names.index(name) for name in (action.target, *action.condition_on)]
                    rows.append([code, s, *involved] + [-1] * (len(names) - len(involved)))
    shape = (len(levels), len(names))
    formats, energies = make_formats(workload, accelerator), _energies(accelerator)
    limits = [
        [getattr(level, f"{key}_bandwidth_words_per_cycle") for key in ("read", "write", "shared")] for level in levels
    ]
    bandwidths = np.array([[math.inf if limit is None else limit for limit in of] for of in limits])
    scales = [[scale.get(name, 1.0) for name in names] for scale in accelerator.bandwidth_scales]
    mac = accelerator.mac_energies
    per_level = [
        (level.block_size_words, level.word_bits, level.metadata_width_bits, level.instances, level.clusters)
        for level in levels
    ]
    gates = [
        s if level.power_gated_at is None else accelerator.level_index(level.power_gated_at)
        for s, level in enumerate(levels)
    ]
    fibers = formats.fibers.shape[2]
    return SparseTables(
        formats=formats,
        nest=make_nest(workload, accelerator, is_canonical),
        actions=np.array(rows, np.int64).reshape(len(rows), 2 + len(names)),
        is_output=np.array([tensor.is_output for tensor in workload.tensors]),
        operands=np.array(operands, np.int64),
        levels=np.column_stack([np.array(per_level, np.int64), gates]),
        bandwidths=bandwidths,
        scales=np.array(scales, np.float64),
        energies=energies,
        mac_energies=np.array([mac[action] for action in MAC_ACTIONS], np.float64),
        counts_metadata=_counts_metadata(accelerator, energies, bandwidths),
        has_leakage=bool(energies[:, LEAK].any()),
        gates="gating" in accelerator.mac.zero_operands,
        skips="skipping" in accelerator.mac.zero_operands,
        # No level has compressed tiles in other blocks (mapgym.spec.format_rules).
        small_tiles=np.array([_small_tiles(level.block_size_words) for level in levels], np.int64),
        counts=np.zeros((3, *shape), np.int64),
        passed=np.zeros((3, *shape), np.int64),
        removed=np.zeros((2, 2, *shape), np.int64),
        fraction=np.zeros(shape),
        saving=np.zeros(shape, np.int64),
        full=np.ones((*shape, len(names))),
        found=np.ones(len(names)),
        effective=np.zeros(len(rows), np.int64),
        conditions=np.zeros((len(rows), len(names), 2), np.int64),
        density=np.zeros(shape),
        instances=np.zeros(shape),
        metadata=np.zeros((3, *shape, fibers, 2), np.int64),
        metadata_saved=np.zeros((3, *shape, fibers, 2), np.int64),
        units=np.zeros((fibers, 2)),
        chances=np.zeros((fibers, 2)),
        tile=np.zeros((3, len(workload.dims)), np.int64),
        shared=np.zeros(len(workload.dims)),
    )


def _energies(accelerator: Accelerator) -> NDArray[np.float64]:
    """float64[level, 22]: what each action costs, in the columns named above."""
    kinds = ("", "gated_", "skipped_", "metadata_", "gated_metadata_", "skipped_metadata_")
    columns = [f"{kind}{access}" for kind in kinds for access in ACCESSES] + ["decompression", "compression", "leak"]
    parts = zip(accelerator.levels, accelerator.action_energies, strict=True)
    return np.array([[*(given[column] for column in columns), level.address_energy_pj] for level, given in parts])


def _counts_metadata(
    accelerator: Accelerator, energies: NDArray[np.float64], bandwidths: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """bool[level]: whether a cost depends on how often metadata are moved there, which takes time to find out."""
    costly = energies[:, META:DECOMPRESSION].any(axis=1) | np.isfinite(bandwidths).any(axis=1)
    stored = np.array([bool(level.formats) and level.metadata_width_bits > 0 for level in accelerator.levels])
    return np.logical_and(costly, stored)


def make_sparse_detail(n: int, tables: SparseTables) -> SparseDetail:
    """Zeros for n mappings."""
    levels, tensors, ranks = tables.formats.codes.shape
    floats = {
        *("used_instances", "metadata_bits", "energy_pj", "metadata_energy_pj", "address_energy_pj"),
        "leakage_energy_pj",
    }
    shapes = {
        "metadata_accesses": (n, levels, tensors, 3, 3, ranks, 2),
        "leakage_energy_pj": (n, levels),
        "level_cycles": (n, levels),
        "computes": (n, 3),
        "artefacts": (n,),
    }
    arrays: dict[str, Any] = {
        name: np.zeros(shapes.get(name, (n, levels, tensors)), np.float64 if name in floats else np.int64)
        for name in SparseDetail._fields
    }
    return SparseDetail(**arrays)
