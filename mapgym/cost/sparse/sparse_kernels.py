"""The compiled sparse cost kernel: what zeros save, as corrections of the dense counts.

The rules are those of Timeloop v3 (Sparseloop); docs/sparse.md explains them. Everything that Timeloop does and
one would not expect is marked QUIRK. Where its figures are no result, ours are the sane ones and the mapping is marked:
ABORTED where Timeloop stops at an assertion, WRAPPED where a count of its falls below zero and wraps around.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import inlined_kernel, kernel
from mapgym.cost.dense.memory_kernels import open_memory
from mapgym.cost.dense.price_kernels import ENERGY, LATENCY, Detail, price_one
from mapgym.cost.dense.traffic_kernels import slowed
from mapgym.cost.sparse.tables import ABORTED, WRAPPED, SparseDetail, SparseTables
from mapgym.mapping.canonical_kernels import Sorting, copy_mapping
from mapgym.mapping.density_kernels import (
    FIXED,
    RECORD,
    largest_occupancy,
    least_occupancy,
    mean_density,
    probability,
    smallest_occupancy,
)
from mapgym.mapping.legality_kernels import LEGAL
from mapgym.mapping.maps import Arrays, Maps
from mapgym.mapping.metadata_kernels import child_of, metadata_status, packed_words
from mapgym.mapping.nest_kernels import list_nest

GATING, SKIPPING = range(2)
READS, FILLS, UPDATES = range(3)
ABSENT, ZERO, NONZERO = range(3)
CONDITIONS = 3
"""First column of the conditions in a row of actions."""


@inlined_kernel
def _parent_is_formatted(sparse: SparseTables, keep: NDArray[np.bool_], i: int, t: int, s: int) -> bool:
    """Whether the next outer level that keeps a tensor has a format for it."""
    for outer in range(s + 1, keep.shape[1]):
        if keep[i, outer, t]:
            return sparse.formats.ranks[outer, t] > 0
    return False


@inlined_kernel
def _expect(
    sparse: SparseTables, keep: NDArray[np.bool_], i: int, t: int, s: int, words: int, instances: float
) -> None:
    """Sets the mean density of the tiles of a tensor at a level, and how many instances are in use on average.

    A tile that is empty is not sent to a level if the level outside knows, by its format, that it is. QUIRK: what
    counts as empty is the smallest occupancy that is possible, even where that is above zero.
    """
    table, at = sparse.formats.densities, t * RECORD
    is_sent_always = smallest_occupancy(table, at, words) > 0 or not _parent_is_formatted(sparse, keep, i, t, s)
    if table[at] == FIXED:
        expected = words * mean_density(table, at)
        lowest = math.floor(expected)
        upper = expected - lowest
        chance = 1.0 - upper
        if largest_occupancy(table, at, words) == lowest:
            upper = 0.0
        total = lowest * chance + (lowest + 1) * upper
        rest = (lowest + 1) * (upper / (1.0 - chance)) if chance < 1.0 else 0.0
    else:
        lowest = least_occupancy(table, at, words)
        chance = probability(table, at, words, lowest)
        total = words * mean_density(table, at)
        rest = (total - lowest * chance) / (1.0 - chance) if chance < 1.0 else 0.0
    if is_sent_always:
        sparse.density[s, t], sparse.instances[s, t] = total / words, instances
    else:
        sparse.density[s, t], sparse.instances[s, t] = rest / words, instances * (1.0 - chance)


@inlined_kernel
def _target_loop(sparse: SparseTables, t: int, c: int, q: int) -> tuple[int, int, bool]:
    """(loop, its level, whether single words are meant): the loop whose iterations an action can save."""
    nest = sparse.nest
    if c < 0:
        if not nest.has_fanout[0]:
            return 0, 0, True
        dims = nest.extents.shape[1]
        for j in range(dims):
            if nest.bounds[j] > 1 and sparse.formats.relevant[t, nest.dims[j]]:
                return j, 0, False
        return dims - 1, 0, False
    for level in range(c + 1, q + 1):
        for j in range(nest.starts[level], nest.starts[level + 1]):
            if nest.bounds[j] > 1 and sparse.formats.relevant[t, nest.dims[j]]:
                return j, level, False
    return nest.starts[q + 1] - 1, q, False


@inlined_kernel
def _saved_fraction(sparse: SparseTables, row: int, keep: NDArray[np.bool_], i: int, q: int) -> float:
    """Fraction of the reads of an action's target, kept at level q, that its conditions save."""
    formats, nest = sparse.formats, sparse.nest
    t = sparse.actions[row, 2]
    c = child_of(keep, i, t, q)
    target, _, is_scalar = _target_loop(sparse, t, c, q)
    d0, is_spatial = nest.dims[target], nest.is_spatial[target]
    last = nest.starts[q + 1]
    dims = nest.extents.shape[1]
    own, others, tile = sparse.tile[0], sparse.tile[1], sparse.tile[2]
    for d in range(dims):
        own[d] = 1 if is_scalar else nest.extents[target, d]
        others[d] = own[d]
    # What its conditions read meanwhile: all that runs in parallel, and what repeats while the target stays.
    stays = is_spatial
    for j in range(target + 1, last):
        d = nest.dims[j]
        if nest.bounds[j] == 1:
            continue
        if nest.is_spatial[j] or (stays and c >= 0 and not formats.relevant[t, d]):
            others[d] *= nest.bounds[j]
        if is_spatial and not nest.is_spatial[j] and (c < 0 or formats.relevant[t, d]):
            stays = False
    own_words = packed_words(formats, t, sparse.tile, 0)
    kept = 1.0
    for column in range(CONDITIONS, sparse.actions.shape[1]):
        condition = sparse.actions[row, column]
        if condition < 0:
            break
        # Loops over dims of both are iterated together, so that one iteration decides.
        together = 1.0
        is_begun = False
        has_effect = True
        for d in range(dims):
            sparse.shared[d] = 0.0
        if not is_scalar:
            stays = is_spatial
            for j in range(target, last):
                d = nest.dims[j]
                if j > target:
                    if nest.bounds[j] == 1:
                        continue
                    is_added = nest.is_spatial[j] or (stays and c >= 0 and not formats.relevant[t, d])
                    if is_spatial and not nest.is_spatial[j] and (c < 0 or formats.relevant[t, d]):
                        stays = False
                    if not is_added:
                        continue
                if is_spatial and is_begun and formats.relevant[condition, d]:
                    has_effect = False
                    break
                if formats.relevant[t, d] and formats.relevant[condition, d]:
                    sparse.shared[d] = (sparse.shared[d] if sparse.shared[d] > 0 else 1.0) * nest.bounds[j]
                    together *= nest.bounds[j]
                    is_begun = True
        if not has_effect:
            continue
        # A block is read as a whole, so that as many iterations decide together as it has words of the target.
        scale = float(math.ceil(sparse.blocks[q] / (own_words / together)))
        for d in range(dims):
            tile[d] = others[d]
            if sparse.shared[d] > 0:
                tile[d] = math.ceil(others[d] / (sparse.shared[d] / scale))
                scale /= sparse.shared[d]
        if scale > 1:
            tile[d0] = int(tile[d0] * scale)
        words = packed_words(formats, condition, sparse.tile, 2)
        kept *= 1.0 - probability(formats.densities, condition * RECORD, words, 0)
    return 1.0 - kept


@inlined_kernel
def _save_here(sparse: SparseTables, t: int, s: int, fraction: float) -> None:
    """Removes what a level's own actions save."""
    counts, removed, saving = sparse.counts, sparse.removed, sparse.saving[s, t]
    reads = counts[READS, s, t] * fraction
    gone = math.ceil(reads) if sparse.is_output[t] else math.floor(reads)
    counts[READS, s, t] -= gone
    removed[saving, 0, s, t] = gone
    gone = math.floor(counts[UPDATES, s, t] * fraction)
    counts[UPDATES, s, t] -= gone
    removed[saving, 1, s, t] = gone


@kernel
def _save(sparse: SparseTables, macs: int, probabilities: NDArray[np.float64]) -> tuple[int, int]:
    """Applies all actions, from the outermost level inwards; returns (computes that are left, artefacts).

    What a level does not send need not be written, read or updated inside, down to the next level with actions of its
    own, which saves the rest of its own fraction. QUIRK: where that is smaller than what outer levels save, the rest is
    negative, and Timeloop's count of saved accesses wraps around. Then nothing more is saved here.

    Args:
        probabilities: float64[T], receives the fraction of the computes that each operand's actions save, -1 for none.
    """
    counts, passed, fraction = sparse.counts, sparse.passed, sparse.fraction
    levels, tensors = fraction.shape
    artefacts = 0
    left = float(macs)
    for kind in range(3):
        for s in range(levels):
            for t in range(tensors):
                passed[kind, s, t] = counts[kind, s, t]
    for t in range(tensors):
        probabilities[t] = -1.0
        is_first = True
        for s in range(levels - 1, -1, -1):
            outer = fraction[s, t]
            if outer < 0:
                continue
            q = s - 1
            while q >= 0:
                for kind in range(3):
                    passed[kind, q, t] -= math.floor(passed[kind, q, t] * outer)
                inner = fraction[q, t]
                if inner >= 0:
                    for kind in range(3):
                        counts[kind, q, t] = passed[kind, q, t]
                    rest = 1.0 - (1.0 - inner) / (1.0 - outer) if outer != 1.0 else 0.0
                    if outer == 1.0:
                        artefacts |= ABORTED
                    if rest < 0.0:
                        if counts[READS, q, t] > 0 or counts[UPDATES, q, t] > 0:
                            artefacts |= WRAPPED
                        rest = 0.0
                    _save_here(sparse, t, q, rest)
                    break
                q -= 1
            if is_first:
                for kind in range(3):
                    counts[kind, s, t] = passed[kind, s, t]
                _save_here(sparse, t, s, outer)
                is_first = False
            if q < 0 and not sparse.is_output[t]:
                left -= math.floor(left * outer)
                probabilities[t] = math.floor(outer * 1e6 + 0.5) / 1e6
        for s in range(levels):
            if fraction[s, t] < 0:
                for kind in range(3):
                    counts[kind, s, t] = passed[kind, s, t]
    return int(left), artefacts


@kernel
def _compute(
    sparse: SparseTables,
    keep: NDArray[np.bool_],
    i: int,
    left: int,
    probabilities: NDArray[np.float64],
    states: NDArray[np.float64],
) -> tuple[int, int, int, int]:
    """(computes done, gated, skipped, artefacts): what the MACs do with what still reaches them.

    An operand is not zero, zero but there, or absent (if its format leaves zeros out); operands are independent.
    """
    artefacts = 0
    densities = sparse.formats.densities
    for k in range(2):
        t = sparse.operands[k]
        other = sparse.operands[1 - k]
        nonzero = math.floor(1e6 * mean_density(densities, t * RECORD) + 0.5) / 1e6
        zero = 1.0 - nonzero
        if probabilities[other] >= 0:
            # The other's actions have removed computes in which this one is zero.
            if probabilities[other] < 1.0:
                nonzero = nonzero / (1.0 - probabilities[other])
                zero = 1.0 - nonzero
            if nonzero > 1.00001 or probabilities[other] >= 1.0:
                # QUIRK: Timeloop stops at an assertion. All that is left is not zero.
                artefacts = ABORTED
        s = 0
        while not keep[i, s, t]:
            s += 1
        has_format = sparse.formats.ranks[s, t] > 0
        states[k, NONZERO] = min(1.0, max(0.0, nonzero))
        states[k, ZERO] = 0.0 if has_format else min(1.0, max(0.0, zero))
        states[k, ABSENT] = min(1.0, max(0.0, zero)) if has_format else 0.0
    a, b = states[0], states[1]
    one_zero = left * (a[NONZERO] * b[ZERO] + a[ZERO] * b[NONZERO])
    both_zero = left * (a[ZERO] * b[ZERO])
    one_absent = left * (a[NONZERO] * b[ABSENT] + a[ABSENT] * b[NONZERO])
    zero_absent = left * (a[ZERO] * b[ABSENT] + a[ABSENT] * b[ZERO])
    gated, skipped = 0.0, 0.0
    if sparse.gates:
        gated = one_zero + both_zero
        if not sparse.skips:
            gated += one_absent + zero_absent
    if sparse.skips:
        skipped = one_absent + zero_absent
    gated_count, skipped_count = math.floor(gated), math.floor(skipped)
    done = left - skipped_count - gated_count - math.floor(left * (a[ABSENT] * b[ABSENT]))
    return done, gated_count, skipped_count, artefacts


@inlined_kernel
def _block_ratio(sparse: SparseTables, t: int, s: int, words: int) -> float:
    """How many more blocks than words over block size compressed data take: blocks are rounded up tile by tile."""
    block, density = sparse.blocks[s], sparse.density[s, t]
    if not sparse.formats.is_compressed[s, t] or density >= 1.0 or density == 0.0:
        return 1.0
    decile = math.floor(density / 0.1) - 1 if density >= 0.1 else 0
    if sparse.small_tiles[s, decile] <= words // block:
        return 1.0
    table, at = sparse.formats.densities, t * RECORD
    top = min(words, largest_occupancy(table, at, words))
    first = max(1, top - 1) if table[at] == FIXED else 1
    blocks = 0.0
    for k in range(first, top + 1):
        blocks += math.ceil(k / block) * probability(table, at, words, k)
    return blocks / (words * density / block)


@kernel
def _find_fractions(sparse: SparseTables, keep: NDArray[np.bool_], i: int) -> None:
    """Sets what the actions of each level save of each tensor that it keeps; of several, the most effective holds."""
    sparse.fraction[:] = -1.0
    levels = keep.shape[1]
    for row in range(len(sparse.actions)):
        saving, s, t = sparse.actions[row, 0], sparse.actions[row, 1], sparse.actions[row, 2]
        q = s
        while q < levels and not keep[i, q, t]:
            q += 1
        if q == levels:
            continue
        fraction = _saved_fraction(sparse, row, keep, i, q)
        if fraction > sparse.fraction[q, t]:
            sparse.fraction[q, t], sparse.saving[q, t] = fraction, saving


@kernel
def _price_levels(
    sparse: SparseTables, keep: NDArray[np.bool_], i: int, dense: Detail, cycles: int, out: SparseDetail | None
) -> tuple[float, int]:
    """(energy of all storage in pJ, cycles that the bandwidths allow) of mapping i, row 0 of keep and dense."""
    levels, tensors = keep.shape[1:]
    energy, slowest = 0.0, cycles
    for s in range(levels):
        reading, writing = 0.0, 0.0
        block = sparse.blocks[s]
        for t in range(tensors):
            if not keep[0, s, t]:
                continue
            words = dense.tile_words[0, s, t]
            ratio = _block_ratio(sparse, t, s, words)
            accesses = 0.0
            for kind in range(3):
                # In float64, as in the dense kernel: exact for counts below 2**50, and faster.
                accesses += math.ceil(sparse.counts[kind, s, t] / block) * ratio
            average = sparse.instances[s, t]
            of_tensor = accesses * sparse.energies[s] * average
            energy += of_tensor
            if average > 0 and cycles > 0:
                share = average / dense.used_instances[0, s]
                reads = sparse.counts[READS, s, t] + sparse.removed[GATING, 0, s, t]
                writes = sparse.counts[FILLS, s, t] + sparse.counts[UPDATES, s, t] + sparse.removed[GATING, 1, s, t]
                reading += math.ceil(reads * share) / cycles
                writing += math.ceil(writes * share) / cycles
            if out is not None:
                out.reads[i, s, t] = sparse.counts[READS, s, t]
                out.fills[i, s, t] = sparse.counts[FILLS, s, t]
                out.updates[i, s, t] = sparse.counts[UPDATES, s, t]
                out.gated_reads[i, s, t] = sparse.removed[GATING, 0, s, t]
                out.gated_updates[i, s, t] = sparse.removed[GATING, 1, s, t]
                out.skipped_reads[i, s, t] = sparse.removed[SKIPPING, 0, s, t]
                out.skipped_updates[i, s, t] = sparse.removed[SKIPPING, 1, s, t]
                out.occupied_words[i, s, t] = words
                if sparse.formats.ranks[s, t] > 0:
                    out.occupied_words[i, s, t] = largest_occupancy(sparse.formats.densities, t * RECORD, words)
                out.used_instances[i, s, t] = average
                out.metadata_bits[i, s, t] = sparse.formats.needed[s, t]
                out.energy_pj[i, s, t] = of_tensor
        needed = slowed(
            cycles, reading, writing, sparse.bandwidths[s, 0], sparse.bandwidths[s, 1], sparse.bandwidths[s, 2]
        )
        slowest = max(slowest, needed)
        if out is not None:
            out.level_cycles[i, s] = needed
    return energy, slowest


class SparseWork(NamedTuple):
    """What pricing one mapping on sparse hardware works with."""

    sparse: SparseTables
    sorting: Sorting  # of the canonical form
    row: Maps  # one mapping
    dense: Detail  # of that mapping
    probabilities: NDArray[np.float64]  # [T]
    states: NDArray[np.float64]  # [2, 3]


@kernel
def price_sparse_batch(
    arrays: Arrays,
    whole: NDArray[np.int64],
    floats: NDArray[np.float64],
    work: SparseWork,
    status: NDArray[np.int32],
    costs: NDArray[np.float64],
    busy: NDArray[np.int64],
    out: SparseDetail | None,
) -> None:
    """Prices all mappings of a batch on sparse hardware.

    Args:
        arrays: of n mappings.
        whole, floats: of the dense task, see :func:`mapgym.cost.dense.memory_kernels.pack_memory`.
        work: of the sparse task.
        status, costs: as for the dense kernel, :func:`mapgym.cost.dense.price_kernels.price_batch`.
        busy: int64[n], receives the multiply-accumulates done or gated, which take a cycle of a unit.
        out: receives the counts, unless it is None.
    """
    memory, maps = open_memory(whole, floats), Maps(*arrays)
    sparse, row, dense, keep = work.sparse, work.row, work.dense, work.row.keep
    probabilities, states = work.probabilities, work.states
    levels, tensors = keep.shape[1:]
    has_formats = sparse.formats.codes.shape[2] > 0
    for i in range(len(status)):
        copy_mapping(i, maps, 0, row)
        dense.network_energy_pj[:] = 0.0
        busy[i] = 0
        status[i], costs[ENERGY, i], costs[LATENCY, i] = price_one(
            memory.tables, memory.rules, memory.scratch, row, 0, dense
        )
        if status[i] != LEGAL:
            continue
        list_nest(row, 0, sparse.nest, work.sorting)
        if has_formats:
            status[i] = metadata_status(sparse.formats, sparse.nest, keep, 0)
            if status[i] != LEGAL:
                costs[:, i] = math.inf
                continue
        macs = dense.compute_cycles[0] * dense.used_instances[0, 0] * dense.fanout_used[0, 0]
        sparse.removed[:] = 0
        for s in range(levels):
            for t in range(tensors):
                for kind in range(3):
                    sparse.counts[kind, s, t] = 0
                if not keep[0, s, t]:
                    continue
                sparse.counts[READS, s, t] = dense.reads[0, s, t]
                sparse.counts[FILLS, s, t] = dense.fills[0, s, t]
                sparse.counts[UPDATES, s, t] = dense.updates[0, s, t]
                words, instances = dense.tile_words[0, s, t], float(dense.used_instances[0, s])
                _expect(sparse, keep, 0, t, s, words, instances)
                if sparse.formats.ranks[s, t] > 0:
                    absent = 1.0 - sparse.density[s, t]
                    for kind in range(3):
                        sparse.counts[kind, s, t] -= math.floor(sparse.counts[kind, s, t] * absent)
        _find_fractions(sparse, keep, 0)
        left, wrapped = _save(sparse, macs, probabilities)
        done, gated, skipped, aborted = _compute(sparse, keep, 0, left, probabilities, states)
        units = dense.used_instances[0, 0] * dense.fanout_used[0, 0]
        cycles = math.ceil((done + gated) / units)
        energy, slowest = _price_levels(sparse, keep, i, dense, cycles, out)
        busy[i] = done + gated
        energy += done * sparse.mac_energy
        for s in range(levels):
            for t in range(tensors):
                energy += dense.network_energy_pj[0, s, t]
        costs[ENERGY, i], costs[LATENCY, i] = energy, float(max(slowest, 1))
        if out is not None:
            out.computes[i, 0], out.computes[i, 1], out.computes[i, 2] = done, gated, skipped
            out.artefacts[i] = wrapped | aborted
