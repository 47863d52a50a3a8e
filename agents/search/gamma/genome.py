"""The genome that genetic searches work on, and the memory that they breed with.

A genome is one mapping as one array, int64[6, level, dim or tensor], whose planes are numbered below: temporal and
spatial factors, the mesh side of each spatial factor, the dims of the temporal and of the spatial loops (innermost
first), and whether tensors are kept. It is one array of one type because compiling functions of many arrays takes long.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation.random_kernels import State
from mapgym.mapspace import MapSpace

PLANES = 6
TEMPORAL, SPATIAL, SIDE, ORDER, SPATIAL_ORDER, KEEP = range(PLANES)
X, Y = 0, 1

SEEN_ENTRIES = 2**20
"""Size of the table of mappings seen before (8 bytes each); it starts anew when half full."""

Genome = NDArray[np.int64]


class Memory(NamedTuple):
    """What breeding works with (L levels, D dims)."""

    seen: NDArray[np.uint64]  # see mapgym.compilation.hash_kernels.remember
    state: State
    child: Genome
    mate: Genome
    extents: NDArray[np.float64]  # [L, D] of the tiles of the child
    words: NDArray[np.float64]  # [L] that the child keeps at each level


MemoryArrays = tuple[NDArray[np.uint64], NDArray[np.uint64], Genome, Genome, NDArray[np.float64], NDArray[np.float64]]
"""The same as a plain tuple, which kernels that Python calls take in less time."""


def make_memory(space: MapSpace, rng: np.random.Generator) -> MemoryArrays:
    """Memory that has seen nothing; the generator seeds its random numbers."""
    levels, dims, tensors = len(space.accelerator.levels), len(space.workload.dims), len(space.workload.tensors)
    return (
        *Memory(
            seen=np.zeros(SEEN_ENTRIES, np.uint64),
            state=rng.integers(2**63, size=1, dtype=np.uint64),
            child=np.zeros((PLANES, levels, max(dims, tensors)), np.int64),
            mate=np.zeros((PLANES, levels, max(dims, tensors)), np.int64),
            extents=np.empty((levels, dims)),
            words=np.empty(levels),
        ),
    )
