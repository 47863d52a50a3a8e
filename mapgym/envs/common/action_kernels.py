"""Compiled reading of actions: what takes the place of an illegal one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import kernel


@kernel
def nearest_legal(mask: NDArray[np.int8], action: int) -> int:
    """The legal action closest to one that is not; the lower one of two that are as close."""
    size = len(mask)
    action = min(max(action, 0), size - 1)
    for distance in range(size):
        if action - distance >= 0 and mask[action - distance]:
            return action - distance
        if action + distance < size and mask[action + distance]:
            return action + distance
    return 0
