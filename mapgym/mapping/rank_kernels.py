"""Compiled sizes of tiles: the ranks of tensors in one form, and the walk over them.

Packed ranks are their number, then for each the number of its terms and these as (dim, coefficient) pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import inlined_kernel, kernel
from mapgym.spec.tensor import Rank
from mapgym.spec.workload import Workload


def pack_ranks(workload: Workload, ranks: Sequence[Rank]) -> list[int]:
    """Packs some ranks of a tensor of a workload."""
    packed = [len(ranks)]
    for rank in ranks:
        packed.append(len(rank))
        packed += [number for dim, coefficient in rank for number in (workload.dims.index(dim), coefficient)]
    return packed


@inlined_kernel
def rank_words(table: NDArray[np.int64], cursor: int, extents: NDArray[Any], row: int) -> tuple[float, int]:
    """Words of the bounding box over packed ranks, and where they end in the table.

    Args:
        table: where the ranks are.
        cursor: where they begin in it.
        extents: [any, dim], iterations of each dim.
        row: which row of them.
    """
    words = 1.0
    ranks = table[cursor]
    cursor += 1
    for _ in range(ranks):
        terms = table[cursor]
        cursor += 1
        length = 1.0
        for _ in range(terms):
            length += table[cursor + 1] * (extents[row, table[cursor]] - 1.0)
            cursor += 2
        words *= length
    return words, cursor


@kernel
def loop_words(table: NDArray[np.int64], start: int, d: int, extent: int) -> int:
    """Words of the bounding box over packed ranks that one loop of a dim alone spans."""
    words = 1
    cursor = start + 1
    for _ in range(table[start]):
        terms = table[cursor]
        cursor += 1
        length = 1
        for _ in range(terms):
            if table[cursor] == d:
                length += table[cursor + 1] * (extent - 1)
            cursor += 2
        words *= length
    return words
