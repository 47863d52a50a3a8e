"""The arrays of many mappings under their names, the form in which they travel through kernels.

A named tuple costs next to nothing inside of a kernel and much at its door, where Numba unpacks it in Python: two
microseconds, where a plain tuple takes less than one. So a kernel that Python calls takes the plain tuple of
``MappingBatch.arrays()`` and begins with ``maps = Maps(*arrays)``; all that it calls take ``Maps``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Maps(NamedTuple):
    """Arrays of a batch of n mappings; see :class:`mapgym.mapping.MappingBatch` for the meaning."""

    temporal: NDArray[np.int32]  # [n, level, dim]
    spatial: NDArray[np.int32]  # [n, level, dim]
    order: NDArray[np.int8]  # [n, level, dim]
    spatial_order: NDArray[np.int8]  # [n, level, dim]
    spatial_split: NDArray[np.int8]  # [n, level]
    keep: NDArray[np.bool_]  # [n, level, tensor]


Arrays = tuple[
    NDArray[np.int32], NDArray[np.int32], NDArray[np.int8], NDArray[np.int8], NDArray[np.int8], NDArray[np.bool_]
]
"""What a kernel that Python calls takes: the arrays in the order of :class:`Maps`."""
