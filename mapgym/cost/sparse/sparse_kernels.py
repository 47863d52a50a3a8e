"""The compiled sparse cost kernel: what zeros save, as corrections of the dense counts.

The rules are those of Sparseloop, in all versions of Timeloop; docs/sparse.md explains them. What actions save is in
:mod:`mapgym.cost.sparse.saving_kernels`, metadata are counted in :mod:`mapgym.cost.sparse.metadata_count_kernels`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import inlined_kernel, kernel
from mapgym.compilation.array_kernels import PageArrays, Pages
from mapgym.cost.dense.detail import Detail
from mapgym.cost.dense.memory_kernels import Memory, open_memory
from mapgym.cost.dense.price_kernels import ENERGY, LATENCY, price_one
from mapgym.cost.dense.traffic_kernels import slowed
from mapgym.cost.sparse.compute_kernels import compute
from mapgym.cost.sparse.metadata_count_kernels import count_metadata, metadata_bits
from mapgym.cost.sparse.saving_kernels import find_fractions, list_conditions, save
from mapgym.cost.sparse.tables import (
    ACCESS_BITS,
    ADDRESS,
    BLOCK,
    CLUSTERS,
    COMPRESSION,
    DECOMPRESSION,
    DONE,
    FILLS,
    GATE,
    GATED,
    GATED_META,
    GATING,
    INSTANCES,
    LEAK,
    META,
    READS,
    SKIPPED,
    SKIPPED_META,
    SKIPPING,
    UPDATES,
    WORD_BITS,
    SparseDetail,
    SparseTables,
)
from mapgym.cost.sparse.work_kernels import SparseWork, open_work
from mapgym.mapping.canonical_kernels import copy_mapping
from mapgym.mapping.density_kernels import (
    BANDED,
    FIXED,
    RECORD,
    first_occupancy,
    largest_occupancy,
    mean_density,
    next_occupancy,
    probability,
    smallest_occupancy,
    tile_rows,
)
from mapgym.mapping.legality_kernels import LEGAL, legality_status
from mapgym.mapping.maps import Arrays, Maps
from mapgym.mapping.metadata_kernels import NUMBER, RANK, list_tiles, room_status
from mapgym.mapping.nest_kernels import list_nest


@inlined_kernel
def _parent_of(keep: NDArray[np.bool_], i: int, t: int, s: int) -> int:
    """The next outer level that keeps a tensor, -1 if there is none."""
    for outer in range(s + 1, keep.shape[1]):
        if keep[i, outer, t]:
            return outer
    return -1


@inlined_kernel
def _shape(sparse: SparseTables, dense: Detail, t: int, s: int) -> tuple[int, int]:
    """Words and rows of the tile of a tensor at a level that keeps it."""
    nest = sparse.nest
    row = nest.row[nest.starts[s + 1] - 1]
    return dense.tile_words[0, s, t], tile_rows(sparse.formats.densities, t * RECORD, nest.extents, row)


@kernel
def _mean_in_band(table: NDArray[np.int64], at: int, words: int, rows: int, lowest: int) -> tuple[float, float]:
    """Mean occupancy of the tiles of a banded tensor, and of those that hold more than the fewest words."""
    chance = probability(table, at, words, rows, lowest)
    total, rest = lowest * chance, 0.0
    k = lowest
    while True:
        following = next_occupancy(table, at, words, rows, k)
        if following == k:
            return total, rest
        k = following
        share = probability(table, at, words, rows, k)
        total += share * k
        if chance < 1.0:
            rest += share / (1.0 - chance) * k


@inlined_kernel
def _expect(sparse: SparseTables, t: int, s: int, tile: tuple[int, int], is_filtered: bool, instances: float) -> None:
    """Sets the mean density of the tiles of a tensor at a level, and how many instances are in use on average.

    QUIRK: what counts as empty is the smallest occupancy that is possible, even where that is above zero.

    Args:
        tile: words and rows.
        is_filtered: whether empty tiles are not sent to the level, because the level outside knows by its format
            which ones are empty.
        instances: in use if no tile is empty.
    """
    table, at, (words, rows) = sparse.formats.densities, t * RECORD, tile
    if table[at] == FIXED:
        expected = words * mean_density(table, at)
        lowest = math.floor(expected)
        upper = expected - lowest
        chance = 1.0 - upper
        if largest_occupancy(table, at, words, rows) == lowest:
            upper = 0.0
        total = lowest * chance + (lowest + 1) * upper
        rest = (lowest + 1) * (upper / (1.0 - chance)) if chance < 1.0 else 0.0
    else:
        lowest = first_occupancy(table, at, words, rows)
        chance = probability(table, at, words, rows, lowest)
        if table[at] == BANDED:
            total, rest = _mean_in_band(table, at, words, rows, lowest)
        else:
            total = words * mean_density(table, at)
            rest = (total - lowest * chance) / (1.0 - chance) if chance < 1.0 else 0.0
    if is_filtered:
        sparse.density[s, t], sparse.instances[s, t] = rest / words, instances * max(1.0 - chance, 0.0)
    else:
        sparse.density[s, t], sparse.instances[s, t] = total / words, instances


@inlined_kernel
def _count(sparse: SparseTables, keep: NDArray[np.bool_], dense: Detail, counts_all: bool) -> None:
    """Sets the counts of what the formats leave of the dense accesses, of row 0 of keep and dense."""
    levels, tensors = keep.shape[1:]
    formats, counts = sparse.formats, sparse.counts
    sparse.removed[:] = 0
    for s in range(levels):
        for t in range(tensors):
            for kind in range(3):
                counts[kind, s, t] = 0
            sparse.instances[s, t] = float(dense.used_instances[0, s])
            if not keep[0, s, t]:
                continue
            counts[READS, s, t] = dense.reads[0, s, t]
            counts[FILLS, s, t] = dense.fills[0, s, t]
            counts[UPDATES, s, t] = dense.updates[0, s, t]
            tile, parent = _shape(sparse, dense, t, s), _parent_of(keep, 0, t, s)
            is_filtered = parent >= 0 and formats.ranks[parent, t] > 0
            is_filtered = is_filtered and smallest_occupancy(formats.densities, t * RECORD, tile[0]) == 0
            if is_filtered or formats.ranks[s, t] > 0:
                # Of a tile that is stored word by word nobody asks for the density.
                _expect(sparse, t, s, tile, is_filtered, sparse.instances[s, t])
            if formats.ranks[s, t] > 0:
                if counts_all or sparse.counts_metadata[s]:
                    dense_counts = (counts[READS, s, t], counts[FILLS, s, t], counts[UPDATES, s, t])
                    count_metadata(sparse, t, s, tile, dense_counts, is_filtered)
                absent = 1.0 - sparse.density[s, t]
                for kind in range(3):
                    counts[kind, s, t] -= math.floor(counts[kind, s, t] * absent)


@inlined_kernel
def _block_ratio(sparse: SparseTables, t: int, s: int, tile: tuple[int, int]) -> float:
    """How many more blocks than words over block size compressed data take: blocks are rounded up tile by tile."""
    block, density, (words, rows) = sparse.levels[s, BLOCK], sparse.density[s, t], tile
    if block == 1 or not sparse.formats.is_compressed[s, t] or density >= 1.0 or density == 0.0:
        return 1.0
    decile = math.floor(density / 0.1) - 1 if density >= 0.1 else 0
    if sparse.small_tiles[s, decile] <= words // block:
        return 1.0
    table, at = sparse.formats.densities, t * RECORD
    k = max(1, first_occupancy(table, at, words, rows))
    blocks = math.ceil(k / block) * probability(table, at, words, rows, k)
    while True:
        following = next_occupancy(table, at, words, rows, k)
        if following == k:
            return blocks / (words * density / block)
        k = following
        blocks += math.ceil(k / block) * probability(table, at, words, rows, k)


@inlined_kernel
def _energy_of_words(sparse: SparseTables, keep: NDArray[np.bool_], t: int, s: int, ratio: float) -> float:
    """Energy of the accesses of one instance to the words of a tensor, saved ones included, and of (de)compression."""
    counts, energies, block = sparse.counts, sparse.energies[s], sparse.levels[s, BLOCK]
    # In float64, as in the dense kernel: exact for counts below 2**50, and faster.
    energy = 0.0
    for kind in range(3):
        energy += math.ceil(counts[kind, s, t] / block) * ratio * energies[DONE + kind]
    if sparse.fraction[s, t] >= 0.0:
        saving = sparse.saving[s, t]
        first = GATED if saving == GATING else SKIPPED
        energy += math.ceil(sparse.removed[saving, 0, s, t] / block) * ratio * energies[first + READS]
        energy += math.ceil(sparse.removed[saving, 1, s, t] / block) * ratio * energies[first + UPDATES]
    if energies[DECOMPRESSION] + energies[COMPRESSION] > 0.0:
        unpacked, packed = _repacked(sparse, keep, t, s)
        energy += unpacked * energies[DECOMPRESSION] + packed * energies[COMPRESSION]
    return energy


@inlined_kernel
def _repacked(sparse: SparseTables, keep: NDArray[np.bool_], t: int, s: int) -> tuple[int, int]:
    """Words that one instance decompresses and compresses, because only the next outer level keeps them compressed.

    QUIRK: what is compressed are the updates of one instance of that level, however many of this one it has.
    """
    parent = _parent_of(keep, 0, t, s)
    if parent < 0 or sparse.formats.is_compressed[s, t] or not sparse.formats.is_compressed[parent, t]:
        return 0, 0
    return sparse.counts[FILLS, s, t], sparse.counts[UPDATES, parent, t] if sparse.is_output[t] else 0


@kernel
def _energy_of_metadata(sparse: SparseTables, t: int, s: int) -> tuple[float, int, int]:
    """(energy of one instance in pJ, bits that it reads, bits that it writes) of metadata, gated accesses included."""
    energies, width = sparse.energies[s], sparse.levels[s, ACCESS_BITS]
    if width == 0 or sparse.formats.ranks[s, t] == 0:
        return 0.0, 0, 0
    energy, read, written = 0.0, 0, 0
    gates = sparse.fraction[s, t] >= 0.0 and sparse.saving[s, t] == GATING
    first = GATED_META if gates else SKIPPED_META
    for kind in range(3):
        bits = metadata_bits(sparse, t, s, sparse.metadata[kind])
        energy += math.ceil(bits / width) * energies[META + kind]
        if sparse.fraction[s, t] >= 0.0 and kind != FILLS:
            saved = metadata_bits(sparse, t, s, sparse.metadata_saved[kind])
            energy += math.ceil(saved / width) * energies[first + kind]
            bits += saved if gates else 0
        if kind == READS:
            read = bits
        else:
            written += bits
    return energy, read, written


@inlined_kernel
def _demand(accesses: int, bits: int, word_bits: int, idle: float) -> float:
    """Accesses per instance that count towards bandwidths, in words, if only one of ``idle`` instances is in use."""
    return float(math.ceil((accesses + bits // word_bits) / idle))


@kernel
def _price_levels(
    sparse: SparseTables, keep: NDArray[np.bool_], i: int, dense: Detail, cycles: int, out: SparseDetail | None
) -> tuple[float, int]:
    """(energy of all storage in pJ, cycles that the bandwidths allow) of mapping i, row 0 of keep and dense."""
    levels, tensors = keep.shape[1:]
    energy, slowest = 0.0, cycles
    for s in range(levels):
        reading, writing = 0.0, 0.0
        used = dense.used_instances[0, s]
        clusters = min(used, sparse.levels[s, CLUSTERS])
        for t in range(tensors):
            if not keep[0, s, t]:
                continue
            tile = _shape(sparse, dense, t, s)
            of_metadata, bits_read, bits_written = 0.0, 0, 0
            if sparse.counts_metadata[s] or out is not None:
                of_metadata, bits_read, bits_written = _energy_of_metadata(sparse, t, s)
            average = sparse.instances[s, t]
            of_words = _energy_of_words(sparse, keep, t, s, _block_ratio(sparse, t, s, tile))
            # A cluster is charged as a whole, once.
            of_tensor = (of_words + of_metadata) / (used / clusters) * average
            read = sparse.counts[READS, s, t] + sparse.removed[GATING, 0, s, t]
            updated = sparse.counts[UPDATES, s, t] + sparse.removed[GATING, 1, s, t]
            filled = sparse.counts[FILLS, s, t]
            # An update reads the word that it writes at the same address.
            addresses = (updated if sparse.is_output[t] else read) + filled
            of_addresses = addresses * sparse.energies[s, ADDRESS] * clusters
            energy += of_tensor + of_addresses
            if average > 0 and cycles > 0:
                idle, word_bits = used / average, sparse.levels[s, WORD_BITS]
                scale = sparse.scales[s, t]
                reading += _demand(read, bits_read, word_bits, idle) / cycles * scale
                writing += _demand(filled + updated, bits_written, word_bits, idle) / cycles * scale
            if out is not None:
                _note_accesses(sparse, keep, i, t, s, tile, out)
                out.energy_pj[i, s, t] = of_tensor
                out.metadata_energy_pj[i, s, t] = of_metadata / (used / clusters) * average
                out.address_energy_pj[i, s, t] = of_addresses
        limits = sparse.bandwidths[s]
        needed = slowed(cycles, reading, writing, limits[0], limits[1], limits[2])
        slowest = max(slowest, needed)
        if out is not None:
            out.level_cycles[i, s] = needed
    return energy, slowest


@kernel
def _note_accesses(
    sparse: SparseTables,
    keep: NDArray[np.bool_],
    i: int,
    t: int,
    s: int,
    tile: tuple[int, int],
    out: SparseDetail,
) -> None:
    """Writes what is counted of a tensor at a level into row i."""
    formats = sparse.formats
    out.reads[i, s, t] = sparse.counts[READS, s, t]
    out.fills[i, s, t] = sparse.counts[FILLS, s, t]
    out.updates[i, s, t] = sparse.counts[UPDATES, s, t]
    out.gated_reads[i, s, t] = sparse.removed[GATING, 0, s, t]
    out.gated_updates[i, s, t] = sparse.removed[GATING, 1, s, t]
    out.skipped_reads[i, s, t] = sparse.removed[SKIPPING, 0, s, t]
    out.skipped_updates[i, s, t] = sparse.removed[SKIPPING, 1, s, t]
    out.decompressions[i, s, t], out.compressions[i, s, t] = _repacked(sparse, keep, t, s)
    out.occupied_words[i, s, t] = tile[0]
    out.used_instances[i, s, t] = sparse.instances[s, t]
    out.metadata_bits[i, s, t] = formats.needed[s, t]
    if formats.ranks[s, t] > 0:
        out.occupied_words[i, s, t] = largest_occupancy(formats.densities, t * RECORD, tile[0], tile[1])
        for e in range(formats.listed[s, t, NUMBER]):
            rank = formats.fibers[s, t, e, RANK]
            for kind in range(3):
                for part in range(2):
                    done = sparse.metadata[kind, s, t, e, part]
                    saved = sparse.metadata_saved[kind, s, t, e, part]
                    out.metadata_accesses[i, s, t, kind, 0, rank, part] = done
                    out.metadata_accesses[i, s, t, kind, 1 + sparse.saving[s, t], rank, part] = saved


@inlined_kernel
def _leaking_instances(sparse: SparseTables, s: int) -> float:
    """Instances of level s that are switched on, on average: used ones, or all that used ones of its gate feed."""
    gate = sparse.levels[s, GATE]
    fed = sparse.levels[s, INSTANCES] / sparse.levels[gate, INSTANCES]
    switched = gate if fed > 1.0 else s
    most = 1.0
    for t in range(sparse.instances.shape[1]):
        most = max(most, sparse.instances[switched, t])
    return fed * most if fed > 1.0 else most


@inlined_kernel
def _price_zeros(work: SparseWork, i: int, out: SparseDetail | None) -> tuple[float, int, int]:
    """(energy in pJ, cycles, computes that take time) of mapping i; its dense counts and its nest are known."""
    sparse, dense, keep = work.sparse, work.dense, work.row.keep
    levels, tensors = keep.shape[1:]
    units = dense.used_instances[0, 0] * dense.fanout_used[0, 0]
    macs = dense.compute_cycles[0] * units
    _count(sparse, keep, dense, out is not None)
    find_fractions(sparse)
    left, wrapped = save(sparse, keep, 0, macs, work.probabilities, out is not None)
    done, gated, skipped, aborted = compute(sparse, keep, 0, left, work.probabilities, work.states)
    cycles = math.ceil((done + gated) / units)
    energy, slowest = _price_levels(sparse, keep, i, dense, cycles, out)
    energy += done * sparse.mac_energies[0] + gated * sparse.mac_energies[1] + skipped * sparse.mac_energies[2]
    for s in range(levels):
        for t in range(tensors):
            energy += dense.network_energy_pj[0, s, t]
    if sparse.has_leakage:
        for s in range(levels):
            leak = sparse.energies[s, LEAK] * slowest * _leaking_instances(sparse, s)
            energy += leak
            if out is not None:
                out.leakage_energy_pj[i, s] = leak
    if out is not None:
        out.computes[i, 0], out.computes[i, 1], out.computes[i, 2] = done, gated, skipped
        out.artefacts[i] = wrapped | aborted
    return energy, slowest, done + gated


@kernel
def _price_dense(memory: Memory, row: Maps, dense: Detail) -> tuple[int, float, float]:
    """(status, energy in pJ, cycles) if nothing were zero; in a function of its own, so that it is compiled once."""
    dense.network_energy_pj[:] = 0.0
    return price_one(memory.tables, memory.features, memory.rules, memory.scratch, row, 0, dense)


@kernel
def _take_density(work: SparseWork, k: int) -> None:
    """Gives the tensors the densities of set k."""
    densities = work.sparse.formats.densities
    for column in range(len(densities)):
        densities[column] = work.densities[k, column]


@kernel
def price_sparse_batch(
    arrays: Arrays,
    whole: NDArray[np.int64],
    floats: NDArray[np.float64],
    page_arrays: PageArrays,
    status: NDArray[np.int32],
    illegal_at: NDArray[np.int64],
    costs: NDArray[np.float64],
    busy: NDArray[np.int64],
    out: SparseDetail | None,
) -> None:
    """Prices all mappings of a batch on sparse hardware, at each of several densities.

    What does not depend on densities is worked out once for each mapping.

    Args:
        arrays: of n mappings.
        whole, floats: of the dense task, see :func:`mapgym.cost.dense.memory_kernels.pack_memory`.
        page_arrays: of the sparse task, see :func:`mapgym.cost.sparse.work_kernels.pack_work`.
        status: int32[n], receives 0 or what is illegal at the first density at which a mapping is illegal.
        illegal_at: int64[n], receives which one that is; otherwise it is left alone.
        costs: float64[density, 2, n], receives ENERGY in pJ and LATENCY in cycles, inf from that density on.
        busy: int64[density, n], receives the multiply-accumulates done or gated, which take a cycle of a unit.
        out: receives the counts at the only density, unless it is None.
    """
    memory, work, maps = open_memory(whole, floats), open_work(Pages(*page_arrays)), Maps(*arrays)
    sparse, row, scratch = work.sparse, work.row, memory.scratch
    formats, nest, keep = sparse.formats, sparse.nest, row.keep
    has_formats, densities = formats.codes.shape[2] > 0, len(work.densities)
    for i in range(len(status)):
        for k in range(densities):
            busy[k, i] = 0
            costs[k, ENERGY, i] = costs[k, LATENCY, i] = math.inf
        copy_mapping(i, maps, 0, row)
        status[i], energy, _ = _price_dense(memory, row, work.dense)
        if status[i] == LEGAL:
            list_nest(row, 0, nest, work.sorting)
            if has_formats:
                status[i] = list_tiles(formats, nest, keep, 0)
            list_conditions(sparse, keep, 0)
        k = 0
        while k < densities and status[i] == LEGAL:
            if densities > 1:
                _take_density(work, k)
                if k > 0 and has_formats:
                    # Compressed tiles take more or less room.
                    status[i] = legality_status(0, row, work.rules[k], scratch.extents, scratch.tile_words)
            if status[i] == LEGAL and has_formats:
                status[i] = room_status(formats, nest, keep, 0, out is not None)
            if status[i] == LEGAL:
                energy, slowest, busy[k, i] = _price_zeros(work, i, out)
                costs[k, ENERGY, i], costs[k, LATENCY, i] = energy, float(max(slowest, 1))
                k += 1
        if status[i] != LEGAL:
            illegal_at[i] = k
