"""Compiled random numbers, for kernels that carry the state of their generator with them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation.decorators import inlined_kernel, kernel

_INCREMENT = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)

State = NDArray[np.uint64]
"""[1] what a generator of random numbers carries from one to the next."""


@kernel
def next_random(generator: State) -> np.uint64:
    """The next 64 random bits of a SplitMix64 generator (Steele, Lea and Flood, 2014); generator is uint64[1].

    Numba's own random numbers have one global state, so that two callers would disturb each other.
    """
    generator[0] += _INCREMENT
    z = generator[0]
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


@kernel
def next_below(generator: State, n: int) -> int:
    """A random integer in 0..n-1, for n below 2**31; the bias is below 2**-32."""
    return int(np.int64(((next_random(generator) >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32)))


@kernel
def next_fraction(generator: State) -> float:
    """A random float64 in [0, 1)."""
    return float(np.float64(next_random(generator) >> np.uint64(11)) * 2.0**-53)


@inlined_kernel
def choose(cumulative: NDArray[np.float64], fraction: float) -> int:
    """The first entry whose cumulative probability is above a random fraction; the last where rounding leaves none."""
    chosen = 0
    while chosen < len(cumulative) - 1 and fraction >= cumulative[chosen]:
        chosen += 1
    return chosen
