"""Which words of a tile are covered by smaller tiles, by enumeration; see :mod:`reference_model`."""

from __future__ import annotations

import math
from functools import lru_cache

from mapgym.spec.tensor import Rank, Tensor
from reference_traffic import tile_lengths

MOST_WORDS = 2**22
"""Words of an output with holes up to which they can be looked at one by one."""


def covered_words(tensor: Tensor, extents: dict[str, int], unit: dict[str, int]) -> int:
    """Words of a tile that count as such in a partition: of operands all of the bounding box.

    Args:
        extents: of the tile.
        unit: extents of the smaller tiles, whose bounding boxes cover what counts of an output; a missing dim is 1.
    """
    if not tensor.is_output:
        return tensor.tile_size(extents)
    groups: list[tuple[Rank, ...]] = []
    for rank in tensor.ranks:
        joined = [group for group in groups if dims_of(group) & dims_of((rank,))]
        groups = [group for group in groups if group not in joined]
        groups.append((*(other for group in joined for other in group), rank))
    return math.prod(
        _covered(group, tuple(sorted((dim, extents.get(dim, 1), unit.get(dim, 1)) for dim in dims_of(group))))
        for group in groups
    )


def dims_of(ranks: tuple[Rank, ...]) -> set[str]:
    """Dims of some ranks."""
    return {dim for rank in ranks for dim, _ in rank}


@lru_cache(maxsize=65536)
def _covered(ranks: tuple[Rank, ...], dims: tuple[tuple[str, int, int], ...]) -> int:
    """Of ranks that have dims in common: the words are the bits of one number; ``dims`` has both extents of each."""
    group = Tensor("group", ranks)
    lengths = tile_lengths(group, {dim: extent for dim, extent, _ in dims})
    boxes = tile_lengths(group, {dim: unit for dim, _, unit in dims})
    if len(ranks) == 1 and all(c == 1 for _, c in ranks[0]):
        return lengths[0]  # without holes
    if len(dims) == 1 and len(ranks) == 1:
        return boxes[0] * dims[0][1] // dims[0][2]
    assert math.prod(lengths) <= MOST_WORDS
    radices = [math.prod(lengths[:r]) for r in range(len(ranks))]
    words = 1
    for radix, box in zip(radices, boxes, strict=True):
        words = _repeated(words, radix, box)
    for dim, extent, unit in dims:
        step = sum(c * radix for rank, radix in zip(ranks, radices, strict=True) for name, c in rank if name == dim)
        words = _repeated(words, step * unit, extent // unit)
    return words.bit_count()


def _repeated(words: int, step: int, count: int) -> int:
    found = 0
    for i in range(count):
        found |= words << (step * i)
    return found
