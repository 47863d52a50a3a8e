"""Compiled canonical form of mappings: what does nothing is said in one way only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import allocating_kernel, inlined_kernel, kernel
from mapgym.compilation.array_kernels import Pages, one, two
from mapgym.mapping.maps import Arrays, Maps


class Sorting(NamedTuple):
    """Which orders are not free, and the order that loops get instead.

    Attributes:
        temporal: bool[level] whether temporal loops are sorted by their rank.
        temporal_rank: int8[level, dim] smaller is further inside.
        spatial, spatial_rank: the same for the spatial loops on each mesh side.
    """

    temporal: NDArray[np.bool_]
    temporal_rank: NDArray[np.int8]
    spatial: NDArray[np.bool_]
    spatial_rank: NDArray[np.int8]


@inlined_kernel
def open_sorting(pages: Pages, first: int) -> Sorting:
    """Views of a sorting that is packed as arrays ``first`` and following."""
    flags, whole = pages.flags, pages.whole
    return Sorting(
        temporal=one(flags, whole, first),
        temporal_rank=two(pages.bytes, whole, first + 1),
        spatial=one(flags, whole, first + 2),
        spatial_rank=two(pages.bytes, whole, first + 3),
    )


def canonical_sorting(dims: int, spatial_order_counts: Sequence[bool]) -> Sorting:
    """Makes :func:`normalise` give the canonical form: spatial loops whose order does not count are sorted by dim.

    Args:
        dims: number of dims.
        spatial_order_counts: for each level, see :attr:`mapgym.spec.accelerator.Accelerator.spatial_order_counts`.
    """
    counts = np.array(spatial_order_counts)
    ascending = np.tile(np.arange(dims, dtype=np.int8), (len(counts), 1))
    return Sorting(np.zeros(len(counts), np.bool_), ascending, ~counts, ascending)


@kernel
def _units_last(order: NDArray[np.int8], factors: NDArray[np.int32], i: int, s: int) -> int:
    """Moves loops of bound 1 to the end, by ascending dim; returns the number of the others."""
    dims = order.shape[2]
    write = 0
    for position in range(dims):
        d = order[i, s, position]
        if factors[i, s, d] != 1:
            order[i, s, write] = d
            write += 1
    loops = write
    for d in range(dims):
        if factors[i, s, d] == 1:
            order[i, s, write] = d
            write += 1
    return loops


@kernel
def _insertion_sort(order: NDArray[np.int8], rank: NDArray[np.int8], i: int, s: int, first: int, last: int) -> None:
    for position in range(first + 1, last):
        d = order[i, s, position]
        target = position
        while target > first and rank[s, order[i, s, target - 1]] > rank[s, d]:
            order[i, s, target] = order[i, s, target - 1]
            target -= 1
        order[i, s, target] = d


@kernel
def normalise(i: int, maps: Maps, sorting: Sorting) -> None:
    """Brings mapping i into canonical form, with the loops sorted where their order is not free.

    Temporal loops of bound 1 go to the end; spatial loops are those on X, those on Y, those of bound 1, and the split
    is the number of those on X. Orders have to be permutations.
    """
    temporal, spatial, order, spatial_order, spatial_split = (
        maps.temporal,
        maps.spatial,
        maps.order,
        maps.spatial_order,
        maps.spatial_split,
    )
    for s in range(temporal.shape[1]):
        loops = _units_last(order, temporal, i, s)
        if sorting.temporal[s]:
            _insertion_sort(order, sorting.temporal_rank, i, s, 0, loops)
        on_x = 0
        for position in range(spatial_split[i, s]):
            on_x += spatial[i, s, spatial_order[i, s, position]] != 1
        loops = _units_last(spatial_order, spatial, i, s)
        spatial_split[i, s] = on_x
        if sorting.spatial[s]:
            _insertion_sort(spatial_order, sorting.spatial_rank, i, s, 0, on_x)
            _insertion_sort(spatial_order, sorting.spatial_rank, i, s, on_x, loops)


@allocating_kernel
def normalise_batch(arrays: Arrays, sorting: Sorting) -> None:
    """Normalises every mapping of a batch in place."""
    maps = Maps(*arrays)
    for i in range(len(maps.temporal)):
        normalise(i, maps, sorting)


@kernel
def copy_mapping(i: int, source: Maps, j: int, target: Maps) -> None:
    """Copies mapping i of one batch over mapping j of another."""
    levels, dims, tensors = source.temporal.shape[1], source.temporal.shape[2], source.keep.shape[2]
    for s in range(levels):
        for d in range(dims):
            target.temporal[j, s, d] = source.temporal[i, s, d]
            target.spatial[j, s, d] = source.spatial[i, s, d]
            target.order[j, s, d] = source.order[i, s, d]
            target.spatial_order[j, s, d] = source.spatial_order[i, s, d]
        target.spatial_split[j, s] = source.spatial_split[i, s]
        for t in range(tensors):
            target.keep[j, s, t] = source.keep[i, s, t]
