"""Compiled savings: which accesses to a tensor actions on zeros save, and what that leaves for others and the MACs.

The rules are those of Sparseloop, in all versions of Timeloop; docs/sparse.md explains them. Everything that Timeloop
does and one would not expect is marked QUIRK. Where its figures are no result, ours are the sane ones and the mapping
is marked: ABORTED where Timeloop stops at an assertion, WRAPPED where a count of its falls below zero and wraps around.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import inlined_kernel, kernel
from mapgym.cost.sparse.metadata_count_kernels import pass_metadata, save_metadata
from mapgym.cost.sparse.tables import ABORTED, BLOCK, READS, UPDATES, WRAPPED, SparseTables
from mapgym.mapping.density_kernels import BANDED, COLUMN_DIM, RECORD, probability, tile_rows
from mapgym.mapping.metadata_kernels import child_of, packed_words

CONDITIONS = 3
"""First column of the conditions in a row of actions."""


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
        first = nest.starts[level]
        for k in range(nest.row[first - 1] if first > 0 else 0, nest.row[nest.starts[level + 1] - 1]):
            j = nest.solid[k]
            if sparse.formats.relevant[t, nest.dims[j]]:
                return j, level, False
    return nest.starts[q + 1] - 1, q, False


@inlined_kernel
def _list_conditions(sparse: SparseTables, row: int, keep: NDArray[np.bool_], i: int, q: int) -> None:
    """Sets the tiles of its conditions that decide whether an action saves an access to its target, kept at level q."""
    formats, nest = sparse.formats, sparse.nest
    t = sparse.actions[row, 2]
    c = child_of(keep, i, t, q)
    target, _, is_scalar = _target_loop(sparse, t, c, q)
    d0, is_spatial = nest.dims[target], nest.is_spatial[target]
    last = nest.starts[q + 1]
    dims = nest.extents.shape[1]
    own, others, tile = sparse.tile[0], sparse.tile[1], sparse.tile[2]
    for d in range(dims):
        own[d] = 1 if is_scalar else nest.extents[nest.row[target], d]
        others[d] = own[d]
    # What its conditions read meanwhile: all that runs in parallel, and what repeats while the target stays.
    stays = is_spatial
    for k in range(nest.row[target], nest.row[last - 1]):
        j = nest.solid[k]
        d = nest.dims[j]
        if nest.is_spatial[j] or (stays and c >= 0 and not formats.relevant[t, d]):
            others[d] *= nest.bounds[j]
        if is_spatial and not nest.is_spatial[j] and (c < 0 or formats.relevant[t, d]):
            stays = False
    own_words = packed_words(formats, t, sparse.tile, 0)
    for column in range(CONDITIONS, sparse.actions.shape[1]):
        condition = sparse.actions[row, column]
        if condition < 0:
            break
        of_condition = sparse.conditions[row, column - CONDITIONS]
        of_condition[0] = 0
        # Loops over dims of both are iterated together, so that one iteration decides.
        together = 1.0
        is_begun = False
        has_effect = True
        for d in range(dims):
            sparse.shared[d] = 0.0
        if not is_scalar:
            stays = is_spatial
            for k in range(nest.row[target] - 1, nest.row[last - 1]):
                j = target if k < nest.row[target] else nest.solid[k]
                d = nest.dims[j]
                if j > target:
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
        scale = float(math.ceil(sparse.levels[q, BLOCK] / (own_words / together)))
        for d in range(dims):
            tile[d] = others[d]
            if sparse.shared[d] > 0:
                tile[d] = math.ceil(others[d] / (sparse.shared[d] / scale))
                scale /= sparse.shared[d]
        if scale > 1:
            tile[d0] = int(tile[d0] * scale)
        at = condition * RECORD
        rows = tile_rows(formats.densities, at, sparse.tile, 2)
        if formats.densities[at] == BANDED:
            # A block can reach beyond the tensor along ranks of one word.
            words = rows * tile[formats.densities[at + COLUMN_DIM]]
        else:
            words = packed_words(formats, condition, sparse.tile, 2)
        of_condition[0], of_condition[1] = words, rows


@kernel
def list_conditions(sparse: SparseTables, keep: NDArray[np.bool_], i: int) -> None:
    """Sets which tiles the actions of mapping i depend on, whatever the densities; its nest must be listed."""
    levels = keep.shape[1]
    for row in range(len(sparse.actions)):
        s, t = sparse.actions[row, 1], sparse.actions[row, 2]
        q = s
        while q < levels and not keep[i, q, t]:
            q += 1
        sparse.effective[row] = q if q < levels else -1
        if q < levels:
            _list_conditions(sparse, row, keep, i, q)


@inlined_kernel
def _saved_fraction(sparse: SparseTables, row: int) -> float:
    """Fraction of the reads of an action's target that its conditions save.

    Leaves the share of reads in which the tile of each condition is not empty in ``sparse.found``.
    """
    kept = 1.0
    is_pair = len(sparse.operands) == 2
    for other in range(0 if is_pair else len(sparse.found)):
        sparse.found[other] = 1.0
    densities = sparse.formats.densities
    for column in range(CONDITIONS, sparse.actions.shape[1]):
        condition = sparse.actions[row, column]
        if condition < 0:
            break
        words, rows = sparse.conditions[row, column - CONDITIONS, 0], sparse.conditions[row, column - CONDITIONS, 1]
        if words == 0:
            continue
        filled = 1.0 - probability(densities, condition * RECORD, words, rows, 0)
        if not is_pair:
            sparse.found[condition] = filled
        kept *= filled
    return 1.0 - kept


@kernel
def find_fractions(sparse: SparseTables) -> None:
    """Sets what the actions of each level save of each tensor that it keeps; of several, the most effective holds.

    Their conditions must be listed.
    """
    sparse.fraction[:] = -1.0
    for row in range(len(sparse.actions)):
        saving, t, q = sparse.actions[row, 0], sparse.actions[row, 2], sparse.effective[row]
        if q < 0:
            continue
        fraction = _saved_fraction(sparse, row)
        if fraction > sparse.fraction[q, t]:
            sparse.fraction[q, t], sparse.saving[q, t] = fraction, saving
            for other in range(0 if len(sparse.operands) == 2 else len(sparse.found)):
                sparse.full[q, t, other] = sparse.found[other]


@inlined_kernel
def _save_here(
    sparse: SparseTables,
    keep: NDArray[np.bool_],
    i: int,
    t: int,
    s: int,
    fraction: float,
    is_inner: bool,
    counted: bool,
) -> None:
    """Removes what a level's own actions save.

    Args:
        sparse, keep, i: as for :func:`save`.
        t, s: tensor and level, which keeps it.
        fraction: of the accesses that are left.
        is_inner: whether an outer level has actions on the tensor.
        counted: whether metadata are counted there.
    """
    counts, removed, saving = sparse.counts, sparse.removed, sparse.saving[s, t]
    reads = counts[READS, s, t] * fraction
    gone = math.ceil(reads) if sparse.is_output[t] else math.floor(reads)
    counts[READS, s, t] -= gone
    removed[saving, 0, s, t] = gone
    gone = math.floor(counts[UPDATES, s, t] * fraction)
    counts[UPDATES, s, t] -= gone
    removed[saving, 1, s, t] = gone
    if counted:
        save_metadata(sparse, t, s, child_of(keep, i, t, s), fraction, is_inner)


@inlined_kernel
def _save_tensor(sparse: SparseTables, keep: NDArray[np.bool_], i: int, t: int, counts_all: bool) -> tuple[float, int]:
    """Applies all actions on a tensor; returns (fraction of the computes that they save, -1 for none, artefacts).

    The other arguments are those of :func:`save`.
    """
    counts, passed, fraction = sparse.counts, sparse.passed, sparse.fraction
    artefacts, of_computes = 0, -1.0
    is_first = True
    for s in range(len(fraction) - 1, -1, -1):
        outer = fraction[s, t]
        if outer < 0:
            continue
        q = s - 1
        while q >= 0:
            for kind in range(3):
                passed[kind, q, t] -= math.floor(passed[kind, q, t] * outer)
            counted = counts_all or sparse.counts_metadata[q]
            if counted and keep[i, q, t]:
                pass_metadata(sparse, t, s, q, outer)
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
                _save_here(sparse, keep, i, t, q, rest, True, counted)
                break
            q -= 1
        if is_first:
            for kind in range(3):
                counts[kind, s, t] = passed[kind, s, t]
            _save_here(sparse, keep, i, t, s, outer, False, counts_all or sparse.counts_metadata[s])
            is_first = False
        if q < 0:
            of_computes = outer
            for other in range(0 if len(sparse.operands) == 2 else len(sparse.found)):
                sparse.found[other] = sparse.full[s, t, other]
    for s in range(len(fraction)):
        if fraction[s, t] < 0:
            for kind in range(3):
                counts[kind, s, t] = passed[kind, s, t]
    return of_computes, artefacts


@kernel
def save(
    sparse: SparseTables,
    keep: NDArray[np.bool_],
    i: int,
    macs: int,
    probabilities: NDArray[np.float64],
    counts_all: bool,
) -> tuple[int, int]:
    """Applies all actions, from the outermost level inwards; returns (computes that are left, artefacts).

    What a level does not send need not be written, read or updated inside, down to the next level with actions of its
    own, which saves the rest of its own fraction. QUIRK: where that is smaller than what outer levels save, the rest is
    negative, and Timeloop's count of saved accesses wraps around. Then nothing more is saved here.

    Args:
        sparse: of the task; its counts are those of dense tensors, in their formats.
        keep, i: of the batch, and which mapping of it.
        macs: all computes.
        probabilities: float64[T], receives for each tensor the fraction of the computes that are gone and in which it
            is zero, as far as others' actions have told; -1 if none have.
        counts_all: whether metadata are counted at every level, not only where costs depend on them.
    """
    levels, tensors = sparse.fraction.shape
    artefacts = 0
    left = float(macs)
    is_pair = len(sparse.operands) == 2
    for kind in range(3):
        for s in range(levels):
            for t in range(tensors):
                sparse.passed[kind, s, t] = sparse.counts[kind, s, t]
    for t in range(tensors):
        probabilities[t] = -1.0
    for t in range(tensors):
        of_computes, found = _save_tensor(sparse, keep, i, t, counts_all)
        artefacts |= found
        if of_computes < 0.0 or sparse.is_output[t]:
            continue
        if is_pair:
            # QUIRK: all that an operand's actions save is put down to zeros of the other one.
            left -= math.floor(left * of_computes)
            other = sparse.operands[0] + sparse.operands[1] - t
            probabilities[other] = math.floor(of_computes * 1e6 + 0.5) / 1e6
            continue
        for condition in range(tensors):
            if sparse.found[condition] < 1.0:
                probabilities[condition] = max(probabilities[condition], 1.0 - sparse.found[condition])
    if not is_pair:
        # An empty tile saves a computation once, whichever accesses it is a condition of.
        for t in range(tensors):
            if probabilities[t] >= 0.0:
                left -= math.floor(left * probabilities[t])
                probabilities[t] = math.floor(probabilities[t] * 1e6 + 0.5) / 1e6
    return int(left), artefacts
