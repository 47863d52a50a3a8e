"""Compiled hashes, and a table that knows which of them came before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation.decorators import kernel


@kernel
def mix(h: np.uint64, value: int | np.uint64) -> np.uint64:
    """The hash h with one more number mixed in."""
    h = (h ^ np.uint64(value)) * np.uint64(0x9E3779B97F4A7C15)
    return h ^ (h >> np.uint64(29))


@kernel
def remember(seen: NDArray[np.uint64], h: np.uint64) -> bool:
    """Adds an odd hash to a table (0: empty; entry 0 counts); returns whether it was new.

    The table forgets everything when it is half full.
    """
    size = len(seen) - 1
    position = 1 + np.int64(h >> np.uint64(1)) % size
    while seen[position] != 0:
        if seen[position] == h:
            return False
        position = 1 + position % size
    if 2 * np.int64(seen[0]) > size:
        for entry in range(len(seen)):
            seen[entry] = 0
    seen[position] = h
    seen[0] += np.uint64(1)
    return True
