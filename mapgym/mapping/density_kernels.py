"""Compiled density models: how many words of a tile are not zero.

Three models, as in Sparseloop (docs/sparse.md, "Densities"), for a tile of n words of a tensor of N words with
density d: *fixed-structured*, in which every tile holds n * d non-zeros, rounded down or up with the odds that give
this mean; *hypergeometric*, in which r = ceil(d * N) non-zeros lie anywhere in the tensor; and *banded*, a square
matrix whose non-zeros lie up to a distance from its diagonal (:mod:`mapgym.mapping.band_kernels`).

A density is a record of int64[RECORD] in a larger table, with the columns below. The mantissa and the exponent give d
to the last bit, which decides what is rounded up. A tile is given by its words and, for a banded tensor, its rows.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import inlined_kernel, kernel
from mapgym.mapping.band_kernels import band_chance, band_chance_empty_within, largest_in_band, next_in_band
from mapgym.spec.counts import band_nonzeros

if TYPE_CHECKING:
    from mapgym.spec.workload import Workload

FIXED, HYPERGEOMETRIC, BANDED = 0, 1, 2
"""Kinds, in the order of ``DENSITY_DISTRIBUTIONS``."""

KIND, MANTISSA, EXPONENT, NONZEROS, WORDS, BAND, SIDE, ROW_DIM, COLUMN_DIM = range(9)
RECORD = 9
"""Columns of a record: kind, d (two), non-zeros and words of the tensor, and of a banded one its band width, the length
of a side and the dims of its rows and columns."""

_MANTISSA_BITS = 53
_LARGEST_PRODUCT = 4096


def density_record(workload: Workload, tensor: str) -> list[int]:
    """The record of a tensor."""
    entry = workload.tensor(tensor)
    words = workload.tensor_size(tensor)
    fraction, exponent = math.frexp(entry.density)
    d = [int(fraction * 2**_MANTISSA_BITS), exponent - _MANTISSA_BITS]
    if entry.density_distribution == "banded":
        side, row, column = workload.band_matrix(entry)
        return [BANDED, *d, band_nonzeros(side, entry.band_width), words, entry.band_width, side, row, column]
    kind = HYPERGEOMETRIC if entry.density_distribution == "hypergeometric" else FIXED
    return [kind, *d, math.ceil(entry.density * words), words, 0, 0, 0, 0]


@inlined_kernel
def tile_rows(table: NDArray[np.int64], at: int, extents: NDArray[Any], row: int) -> int:
    """Rows of a tile that so many iterations of each dim span, [any, dim], of which one row counts; 1 if not banded."""
    return int(extents[row, table[at + ROW_DIM]]) if table[at] == BANDED else 1


@kernel
def density(table: NDArray[np.int64], at: int) -> float:
    """Density of a tensor, in (0, 1]."""
    return math.ldexp(float(table[at + MANTISSA]), table[at + EXPONENT])


@kernel
def mean_density(table: NDArray[np.int64], at: int) -> float:
    """Share of the words of the whole tensor that are not zero."""
    if table[at] == FIXED:
        return density(table, at)
    return table[at + NONZEROS] / table[at + WORDS]


@kernel
def largest_occupancy(table: NDArray[np.int64], at: int, words: int, rows: int) -> int:
    """Most non-zeros that a tile can hold."""
    if table[at] == HYPERGEOMETRIC:
        return min(words, table[at + NONZEROS])
    if table[at] == BANDED:
        return largest_in_band(table[at + SIDE], table[at + BAND], words, rows)
    expected = words * density(table, at)
    whole = math.floor(expected)
    return int(whole) if 1.0 - (expected - whole) >= 1.0 else math.ceil(expected)


@kernel
def first_occupancy(table: NDArray[np.int64], at: int, words: int, rows: int) -> int:
    """Fewest non-zeros that a tile can hold."""
    if table[at] == HYPERGEOMETRIC:
        return max(0, words + table[at + NONZEROS] - table[at + WORDS])
    if table[at] == BANDED:
        empty = band_chance(table[at + SIDE], table[at + BAND], words, rows, 0)
        return 0 if empty > 0 else next_in_band(table[at + SIDE], table[at + BAND], words, rows, 0)
    return math.floor(words * density(table, at))


@kernel
def next_occupancy(table: NDArray[np.int64], at: int, words: int, rows: int, k: int) -> int:
    """The next number of non-zeros above k that a tile can hold, or k if there is none."""
    if table[at] == BANDED:
        return next_in_band(table[at + SIDE], table[at + BAND], words, rows, k)
    return min(k + 1, max(k, largest_occupancy(table, at, words, rows)))


@kernel
def smallest_occupancy(table: NDArray[np.int64], at: int, words: int) -> int:
    """Fewest non-zeros of a tile by Timeloop's reckoning.

    QUIRK: with the hypergeometric model it is 0 for every tile but the whole tensor, where an unsigned difference wraps
    around; with the banded one always 0; with the other, a rounding error can make it one too few.
    """
    if table[at] == HYPERGEOMETRIC:
        return table[at + NONZEROS] if words == table[at + WORDS] else 0
    if table[at] == BANDED:
        return 0
    return math.floor(math.floor(words * density(table, at)) / words * words)


@kernel
def _log_binomial(n: float, k: float) -> float:
    return math.lgamma(n + 1.0) - math.lgamma(k + 1.0) - math.lgamma(n - k + 1.0)


@kernel
def hypergeometric(k: int, words: int, nonzeros: int, drawn: int) -> float:
    """Probability of k non-zeros among so many drawn of a tensor with so many words and non-zeros."""
    if k < max(0, drawn + nonzeros - words) or k > min(nonzeros, drawn):
        return 0.0
    fewer, more = min(drawn, nonzeros), max(drawn, nonzeros)
    if k == 0 and fewer <= _LARGEST_PRODUCT:
        # More accurate than logarithms of factorials, and what decides a floor may be the last digit.
        probability = 1.0
        for i in range(fewer):
            probability *= (words - more - i) / (words - i)
        return probability
    return math.exp(
        _log_binomial(float(nonzeros), float(k))
        + _log_binomial(float(words - nonzeros), float(drawn - k))
        - _log_binomial(float(words), float(drawn))
    )


@kernel
def probability(table: NDArray[np.int64], at: int, words: int, rows: int, k: int) -> float:
    """Probability that a tile of so many words holds k non-zeros."""
    if table[at] == HYPERGEOMETRIC:
        return hypergeometric(k, table[at + WORDS], table[at + NONZEROS], words)
    if table[at] == BANDED:
        return band_chance(table[at + SIDE], table[at + BAND], words, rows, k)
    return _between(words * density(table, at), k)


@kernel
def probability_empty_within(
    table: NDArray[np.int64], at: int, part: tuple[int, int], tile: tuple[int, int], holding: int
) -> float:
    """Probability that a part of a tile is empty, if the tile holds so many non-zeros; both as (words, rows)."""
    if table[at] == HYPERGEOMETRIC:
        return hypergeometric(0, tile[0], holding, part[0])
    if table[at] == BANDED:
        return band_chance_empty_within(table[at + SIDE], table[at + BAND], part[0], part[1], tile, holding)
    return _between(part[0] * (holding / tile[0]), 0)


@kernel
def _between(expected: float, k: int) -> float:
    """Probability of k if the number is rounded down or up at random, so that its mean is as expected."""
    whole = math.floor(expected)
    if whole == k:
        return 1.0 - (expected - whole)
    return expected - whole if math.ceil(expected) == k else 0.0
