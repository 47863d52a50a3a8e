"""Compiled density models: how many words of a tile are not zero.

Two models, as in Sparseloop (docs/sparse.md, "Densities"), for a tile of n words of a tensor of N words with
density d: *fixed-structured*, in which every tile holds n * d non-zeros, rounded down or up with the odds that give
this mean; and *hypergeometric*, in which r = ceil(d * N) non-zeros lie anywhere in the tensor.

A density is a record of int64[RECORD] in a larger table: kind, mantissa and exponent of d, r, N. The mantissa and the
exponent give d to the last bit, which decides what is rounded up.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import kernel

if TYPE_CHECKING:
    from mapgym.spec.workload import Workload

FIXED, HYPERGEOMETRIC = 0, 1
RECORD = 5
_MANTISSA_BITS = 53
_LARGEST_PRODUCT = 4096


def density_record(workload: Workload, tensor: str) -> list[int]:
    """The record of a tensor."""
    entry = workload.tensor(tensor)
    words = workload.tensor_size(tensor)
    fraction, exponent = math.frexp(entry.density)
    return [
        HYPERGEOMETRIC if entry.density_distribution == "hypergeometric" else FIXED,
        int(fraction * 2**_MANTISSA_BITS),
        exponent - _MANTISSA_BITS,
        math.ceil(entry.density * words),
        words,
    ]


@kernel
def density(table: NDArray[np.int64], at: int) -> float:
    """Density of a tensor, in (0, 1]."""
    return math.ldexp(float(table[at + 1]), table[at + 2])


@kernel
def mean_density(table: NDArray[np.int64], at: int) -> float:
    """Share of the words of the whole tensor that are not zero."""
    if table[at] == HYPERGEOMETRIC:
        return table[at + 3] / table[at + 4]
    return density(table, at)


@kernel
def largest_occupancy(table: NDArray[np.int64], at: int, words: int) -> int:
    """Most non-zeros that a tile can hold."""
    if table[at] == HYPERGEOMETRIC:
        return min(words, table[at + 3])
    expected = words * density(table, at)
    whole = math.floor(expected)
    return int(whole) if 1.0 - (expected - whole) >= 1.0 else math.ceil(expected)


@kernel
def least_occupancy(table: NDArray[np.int64], at: int, words: int) -> int:
    """Fewest non-zeros that a tile can hold with the hypergeometric model."""
    return max(0, words + table[at + 3] - table[at + 4])


@kernel
def smallest_occupancy(table: NDArray[np.int64], at: int, words: int) -> int:
    """Fewest non-zeros of a tile by Timeloop's reckoning.

    QUIRK: with the hypergeometric model it is 0 for every tile but the whole tensor, where an unsigned difference wraps
    around; with the other, a rounding error can make it one too few.
    """
    if table[at] == HYPERGEOMETRIC:
        return table[at + 3] if words == table[at + 4] else 0
    return math.floor(math.floor(words * density(table, at)) / words * words)


@kernel
def _log_binomial(n: float, k: float) -> float:
    return math.lgamma(n + 1.0) - math.lgamma(k + 1.0) - math.lgamma(n - k + 1.0)


@kernel
def hypergeometric(k: int, words: int, nonzeros: int, drawn: int) -> float:
    """Probability of k non-zeros among so many drawn of a tensor with so many words and non-zeros."""
    if k < max(0, drawn + nonzeros - words) or k > min(nonzeros, drawn):
        return 0.0
    if k == 0 and drawn <= _LARGEST_PRODUCT:
        # More accurate than logarithms of factorials, and what decides a floor may be the last digit.
        probability = 1.0
        for i in range(drawn):
            probability *= (words - nonzeros - i) / (words - i)
        return probability
    return math.exp(
        _log_binomial(float(nonzeros), float(k))
        + _log_binomial(float(words - nonzeros), float(drawn - k))
        - _log_binomial(float(words), float(drawn))
    )


@kernel
def probability(table: NDArray[np.int64], at: int, words: int, k: int) -> float:
    """Probability that a tile of so many words holds k non-zeros."""
    if table[at] == HYPERGEOMETRIC:
        return hypergeometric(k, table[at + 4], table[at + 3], words)
    return _between(words * density(table, at), k)


@kernel
def probability_empty_within(table: NDArray[np.int64], at: int, words: int, of_words: int, holding: int) -> float:
    """Probability that a part of a tile is empty, if the tile of ``of_words`` words holds so many non-zeros."""
    if table[at] == HYPERGEOMETRIC:
        return hypergeometric(0, of_words, holding, words)
    return _between(words * (holding / of_words), 0)


@kernel
def _between(expected: float, k: int) -> float:
    """Probability of k if the number is rounded down or up at random, so that its mean is as expected."""
    whole = math.floor(expected)
    if whole == k:
        return 1.0 - (expected - whole)
    return expected - whole if math.ceil(expected) == k else 0.0
