"""Working memory of the cost kernel, allocated once for each cost model."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.spec.accelerator import Accelerator


class Scratch(NamedTuple):
    """Reused for every mapping (L levels, D dims, T tensors); planes and columns are named by the constants below."""

    extents: NDArray[np.float64]  # [L, D] tile extents of each level, as the legality check leaves them
    tile_words: NDArray[np.float64]  # [L, T] words of the tile of each tensor, kept or not; likewise
    places: NDArray[np.int64]  # [3, L + 1, D + 1] planes SPAN, STEP, DIGIT
    levels: NDArray[np.int64]  # [L + 1, 9] columns DIGITS ... FIRST_FILLS
    loops: NDArray[np.int64]  # [4, L * D + 1] planes LOOP_DIM, BOUND, LOOP_STEP, OUTSIDE; innermost loop first
    tiles: NDArray[np.int64]  # [2, L, T] planes WORDS, INNERMOST
    classes: NDArray[np.int64]  # [3, capacity, 3] planes OWN, MORE, SPARE; multiplicity, number of offsets, half hops
    traffic: NDArray[np.float64]  # [2, capacity] of each class of plane OWN: planes ACCESSES, HOPS
    crossings: NDArray[np.float64]  # [L, T, 5] of the network below a level: columns ENTERING ... CHARGED
    demand: NDArray[np.float64]  # [L, 2] words per cycle, reads and writes
    differences: NDArray[np.int64]  # [..] what the offsets of grid neighbours can differ by
    instances: NDArray[np.int64]  # [6, slots] planes KEYS (or marks) ... ROW; for each instance, or hash slot


# Planes of Scratch.places.
SPAN = 0  # spatial factor of the dim at the level; the last row is working memory of the link rule
STEP = 1  # extent of the dim below the level: the step of its innermost loop there
DIGIT = 2  # dims of the spatial loops of the level with a factor above 1, innermost first
# Columns of Scratch.levels.
DIGITS, X_DIGITS = 0, 1  # spatial loops, and how many of them are on X
USED, USED_X, USED_Y = 2, 3, 4  # spatial factors multiplied: all, on X, on Y
REPLICATION = 5  # used instances of the level
FIRST_LOOP = 6  # index of the innermost temporal loop at or above the level; the last row counts the loops
PARTITION = 7  # words of the current tensor that an instance is responsible for
FIRST_FILLS = 8  # of an output with holes: words of the tiles that come for the first time
# Planes of Scratch.loops: dim, bound (above 1), extent of the dim inside the loop, product of bounds outwards from it.
LOOP_DIM, BOUND, LOOP_STEP, OUTSIDE = 0, 1, 2, 3
# Planes of Scratch.tiles: words of a tile; OUTSIDE of the innermost relevant loop at or above the level.
WORDS, INNERMOST = 0, 1
OWN, MORE, SPARE = 0, 1, 2
ACCESSES, HOPS = 0, 1
# Columns of Scratch.crossings: words that enter the network, that links pass on, and for each instance; how many
# instances receive a word together, 0 if the energy is known; the energy (pJ).
ENTERING, LINKED, TO_EACH, MULTIPLICITY, CHARGED = range(5)
KEYS, SLOTS, COUNTS = 0, 1, 2
WAY, COLUMN, ROW = 3, 4, 5  # of the group in a slot: half hops so far, and where its last instance is

MAX_PATTERN_DIGITS = 6
"""Spatial loops of one level up to which all patterns of carries between grid rows are tried."""

MARKS_PER_ENTRY = 32
MAX_MARKS = 2**22
"""Words of an output with holes up to which they are looked at one by one."""


def make_scratch(levels: int, dims: int, tensors: int, accelerator: Accelerator, marks: int) -> Scratch:
    """Allocates the working memory for one task; ``marks``: words of an output with holes, 0 for another one."""
    loops, macs = levels * dims, accelerator.mac.instances
    # n instances have at most sqrt(2n) different multiplicities, and each temporal loop can add a histogram.
    capacity = int((2 * macs) ** 0.5 + 2) * (loops + 2)
    # An open-addressing table needs a power of two of slots, at least twice as many as instances.
    slots = max(1 << (2 * macs - 1).bit_length(), min(marks, MAX_MARKS) // MARKS_PER_ENTRY + 1)
    return Scratch(
        extents=np.zeros((levels, dims)),
        tile_words=np.zeros((levels, tensors)),
        places=np.zeros((3, levels + 1, dims + 1), np.int64),
        levels=np.zeros((levels + 1, 9), np.int64),
        loops=np.zeros((4, loops + 1), np.int64),
        tiles=np.zeros((2, levels, tensors), np.int64),
        classes=np.zeros((3, capacity, 3), np.int64),
        traffic=np.zeros((2, capacity)),
        crossings=np.zeros((levels, tensors, 5)),
        demand=np.zeros((levels, 2)),
        differences=np.zeros(dims + 2**MAX_PATTERN_DIGITS, np.int64),
        instances=np.zeros((6, slots), np.int64),
    )
