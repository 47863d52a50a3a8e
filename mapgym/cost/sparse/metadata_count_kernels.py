"""Compiled counts of accesses to metadata: what a tile has on average, how often it is moved, and what zeros save.

Like words, metadata are read, filled and updated as often as their tile, whatever part of it zeros leave out; what a
rank has on average is the mean over everything that the tile can hold (docs/sparse.md, "Metadata").
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import inlined_kernel, kernel
from mapgym.cost.sparse.tables import METADATA, PAYLOAD, READS, UPDATES, SparseTables
from mapgym.mapping.density_kernels import (
    HYPERGEOMETRIC,
    NONZEROS,
    RECORD,
    WORDS,
    first_occupancy,
    hypergeometric,
    next_occupancy,
    probability,
    probability_empty_within,
)
from mapgym.mapping.metadata_kernels import FIBER, INSIDE, NUMBER, OUTSIDE, RANK, Formats, rank_units

_FEW = 8
"""Words or non-zeros up to which the chance of being empty is worked out anew: what is rounded up may be exact."""


@inlined_kernel
def _add_units(
    formats: Formats, t: int, s: int, weight: float, chances: NDArray[np.float64], units: NDArray[np.float64]
) -> None:
    """Adds, with a weight, what each rank of a tile has, given the chances that the tiles of its ranks are empty.

    Args:
        chances: float64[any, 2], of the tile that a fiber is and of those inside its entries.
        units: float64[any, 2], receives metadata and payload.
    """
    fibers = 1.0
    last, pointers = -1, 0.0
    for e in range(formats.listed[s, t, NUMBER] - 1, -1, -1):
        entry = formats.fibers[s, t, e]
        fiber = entry[FIBER]
        filled, entries = fibers * (1.0 - chances[e, 0]), fiber * (1.0 - chances[e, 1])
        metadata, payload = rank_units(formats.codes[s, t, entry[RANK]], fiber, fibers, filled, entries)
        fibers *= fiber
        if metadata != 0.0 or payload != 0.0:
            units[e, METADATA] += weight * metadata
            # What the innermost rank points to are the words themselves, which are no metadata.
            if last >= 0:
                units[last, PAYLOAD] += weight * pointers
            last, pointers = e, payload


@kernel
def _sum_units(sparse: SparseTables, t: int, s: int, tile: tuple[int, int], lowest: int, gone: float) -> None:
    """Sets the mean of what each rank has over the few occupancies that a tile can have.

    Args:
        tile: words and rows.
        lowest: the smallest occupancy.
        gone: its probability, if such tiles never come, else -1.
    """
    formats, units, chances = sparse.formats, sparse.units, sparse.chances
    table, at = formats.densities, t * RECORD
    number = formats.listed[s, t, NUMBER]
    k = lowest
    while True:
        weight = probability(table, at, tile[0], tile[1], k)
        if gone >= 0.0:
            weight = weight / (1.0 - gone) if k != lowest else 0.0
        if weight != 0.0:
            for e in range(number):
                entry = formats.fibers[s, t, e]
                outside, inside = (entry[OUTSIDE], entry[OUTSIDE + 1]), (entry[INSIDE], entry[INSIDE + 1])
                chances[e, 0] = probability_empty_within(table, at, outside, tile, k)
                chances[e, 1] = probability_empty_within(table, at, inside, tile, k)
            _add_units(formats, t, s, weight, chances, units)
        following = next_occupancy(table, at, tile[0], tile[1], k)
        if following == k:
            break
        k = following


@kernel
def _start_chances(formats: Formats, t: int, s: int, tile: int, k: int, chances: NDArray[np.float64]) -> None:
    """Sets the chances that the tiles of all ranks are empty, if k of the words of the whole are not."""
    for e in range(formats.listed[s, t, NUMBER]):
        for side, column in ((0, OUTSIDE), (1, INSIDE)):
            chances[e, side] = hypergeometric(0, tile, k, formats.fibers[s, t, e, column])


@inlined_kernel
def _advance_chances(formats: Formats, t: int, s: int, tile: int, k: int, chances: NDArray[np.float64]) -> None:
    """Takes the chances from k words that are not zero to k + 1."""
    for e in range(formats.listed[s, t, NUMBER]):
        for side, column in ((0, OUTSIDE), (1, INSIDE)):
            words = formats.fibers[s, t, e, column]
            if min(words, k + 1) <= _FEW:
                chances[e, side] = hypergeometric(0, tile, k + 1, words)
            else:
                chances[e, side] *= max(tile - words - k, 0) / (tile - k)


@kernel
def _sum_hypergeometric_units(sparse: SparseTables, t: int, s: int, tile: int, lowest: int, gone: float) -> None:
    """As :func:`_sum_units`, for non-zeros that lie anywhere: over the occupancies that matter, one from the other."""
    formats, units, chances = sparse.formats, sparse.units, sparse.chances
    at = t * RECORD
    words, nonzeros = formats.densities[at + WORDS], formats.densities[at + NONZEROS]
    mean = tile * (nonzeros / words)
    spread = math.sqrt(mean * (1.0 - nonzeros / words) * ((words - tile) / max(words - 1, 1)))
    first = max(lowest + int(gone >= 0.0), math.floor(mean - 10.0 * spread - 10.0))
    last = min(tile, nonzeros, math.ceil(mean + 10.0 * spread + 10.0))
    total, weight = 0.0, hypergeometric(first, words, nonzeros, tile)
    _start_chances(formats, t, s, tile, first, chances)
    for k in range(first, last + 1):
        total += weight
        _add_units(formats, t, s, weight, chances, units)
        if k < last:
            weight *= (nonzeros - k) / (k + 1) * ((tile - k) / (words - nonzeros - tile + k + 1))
            _advance_chances(formats, t, s, tile, k, chances)
    # The weights add up to 1, but for what the first one has lost of its digits.
    for e in range(formats.listed[s, t, NUMBER]):
        for part in range(2):
            units[e, part] = units[e, part] / total if total > 0.0 else 0.0


@kernel
def count_metadata(
    sparse: SparseTables, t: int, s: int, tile: tuple[int, int], counts: tuple[int, int, int], is_filtered: bool
) -> None:
    """Sets how often the metadata of a tile, whose fibers are listed, are read, filled and updated.

    Args:
        t, s: a tensor and a level that stores it in a format.
        tile: words and rows of its tiles.
        counts: dense reads, fills and updates of words.
        is_filtered: whether empty tiles are not sent to the level.
    """
    formats, units = sparse.formats, sparse.units
    table, at = formats.densities, t * RECORD
    number = formats.listed[s, t, NUMBER]
    for e in range(number):
        units[e, METADATA] = units[e, PAYLOAD] = 0.0
    lowest = first_occupancy(table, at, tile[0], tile[1])
    gone = probability(table, at, tile[0], tile[1], lowest) if is_filtered else -1.0
    if gone < 1.0:
        if table[at] == HYPERGEOMETRIC:
            _sum_hypergeometric_units(sparse, t, s, tile[0], lowest, gone)
        else:
            _sum_units(sparse, t, s, tile, lowest, gone)
    for kind in range(3):
        again = counts[kind] / tile[0]
        for e in range(number):
            for part in range(2):
                sparse.metadata[kind, s, t, e, part] = math.ceil(units[e, part] * again)
                sparse.metadata_saved[kind, s, t, e, part] = 0


@kernel
def pass_metadata(sparse: SparseTables, t: int, s: int, q: int, fraction: float) -> None:
    """Removes what level s does not send from the metadata of an inner level q.

    QUIRK: that is nothing, unless level s has a single rank; then the innermost rank loses reads and fills.
    """
    formats = sparse.formats
    if formats.ranks[s, t] == 1 and formats.ranks[q, t] > 0:
        for kind in range(UPDATES):
            for part in range(2):
                count = sparse.metadata[kind, q, t, 0, part]
                sparse.metadata[kind, q, t, 0, part] = count - math.floor(count * fraction)


@kernel
def save_metadata(sparse: SparseTables, t: int, s: int, child: int, fraction: float, is_inner: bool) -> None:
    """Removes what a level's own actions save of its metadata: of the ranks that the next inner level gets.

    Args:
        child: that level, -1 for the MACs.
        fraction: of the accesses that the actions save.
        is_inner: whether an outer level has actions on the tensor. QUIRK: then metadata are read as often as updated.
    """
    formats = sparse.formats
    if formats.ranks[s, t] == 0:
        return
    ranks = formats.ranks[s, t] if child < 0 else formats.ranks[child, t]
    for e in range(formats.listed[s, t, NUMBER]):
        for part in range(2):
            if is_inner:
                sparse.metadata[READS, s, t, e, part] = sparse.metadata[UPDATES, s, t, e, part]
            if formats.fibers[s, t, e, RANK] < ranks:
                for kind in (READS, UPDATES):
                    count = sparse.metadata[kind, s, t, e, part]
                    gone = math.floor(count * fraction)
                    sparse.metadata[kind, s, t, e, part] = count - gone
                    sparse.metadata_saved[kind, s, t, e, part] = gone


@inlined_kernel
def metadata_bits(sparse: SparseTables, t: int, s: int, counts: NDArray[np.int64]) -> int:
    """Bits of so many accesses, int64[level, tensor, any, 2], to the metadata of a tensor at a level."""
    formats = sparse.formats
    bits = 0
    for e in range(formats.listed[s, t, NUMBER]):
        word = formats.bits[s, t, formats.fibers[s, t, e, RANK]]
        bits += counts[s, t, e, METADATA] * word[METADATA] + counts[s, t, e, PAYLOAD] * word[PAYLOAD]
    return bits
