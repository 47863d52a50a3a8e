"""Compiled list of all loops of a mapping, with the tile that each of them completes.

Loops of bound 1 are listed too: where they lie decides some of Timeloop's sparse counts. Mappings are listed in their
canonical form, so that a mapping has one cost, whatever it says about loops that do nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import inlined_kernel, kernel
from mapgym.compilation.array_kernels import Pages, one, two
from mapgym.mapping.canonical_kernels import Sorting, normalise
from mapgym.mapping.maps import Maps
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.workload import Workload


class Nest(NamedTuple):
    """Loops from the innermost outwards, spatial before temporal in each level; working memory (D dims)."""

    has_fanout: NDArray[np.bool_]  # [level] a level without fan-out has no spatial loops
    is_canonical: bool  # whether mappings are listed in their canonical form
    starts: NDArray[np.int64]  # [level + 1] first loop of each level
    dims: NDArray[np.int64]  # [loop]
    bounds: NDArray[np.int64]  # [loop]
    is_spatial: NDArray[np.bool_]  # [loop]
    row: NDArray[np.int64]  # [loop] how many loops of more than one iteration there are up to and including the loop
    solid: NDArray[np.int64]  # [any] which ones these are
    extents: NDArray[np.int64]  # [any, D] iterations of each dim inside and including so many of them


def make_nest(workload: Workload, accelerator: Accelerator, is_canonical: bool = True) -> Nest:
    """Allocates the working memory for a task."""
    levels, dims = len(accelerator.levels), len(workload.dims)
    fanout = np.array(accelerator.fanout_x) * np.array(accelerator.fanout_y)
    loops = 2 * levels * dims
    return Nest(
        fanout > 1,
        is_canonical,
        np.zeros(levels + 1, np.int64),
        np.zeros(loops, np.int64),
        np.zeros(loops, np.int64),
        np.zeros(loops, np.bool_),
        np.zeros(loops, np.int64),
        np.zeros(loops, np.int64),
        np.ones((loops + 1, dims), np.int64),
    )


NEST_ARRAYS = len(Nest._fields)


def nest_arrays(nest: Nest) -> list[NDArray[Any]]:
    """What :func:`mapgym.compilation.array_kernels.pack_arrays` packs."""
    return [np.array([field], np.int64) if isinstance(field, bool) else field for field in nest]


@inlined_kernel
def open_nest(pages: Pages, first: int) -> Nest:
    """Views of a nest that is packed as arrays ``first`` and following."""
    whole = pages.whole
    return Nest(
        has_fanout=one(pages.flags, whole, first),
        is_canonical=one(whole, whole, first + 1)[0] != 0,
        starts=one(whole, whole, first + 2),
        dims=one(whole, whole, first + 3),
        bounds=one(whole, whole, first + 4),
        is_spatial=one(pages.flags, whole, first + 5),
        row=one(whole, whole, first + 6),
        solid=one(whole, whole, first + 7),
        extents=two(whole, whole, first + 8),
    )


@inlined_kernel
def _add_loop(nest: Nest, j: int, d: int, bound: int, is_spatial: bool) -> None:
    """Lists a loop as number j."""
    nest.dims[j] = d
    nest.bounds[j] = bound
    nest.is_spatial[j] = is_spatial
    k = nest.row[j - 1] if j > 0 else 0
    if bound > 1:
        nest.solid[k] = j
        k += 1
        for e in range(nest.extents.shape[1]):
            nest.extents[k, e] = nest.extents[k - 1, e]
        nest.extents[k, d] *= bound
    nest.row[j] = k


@inlined_kernel
def _add_loops(
    nest: Nest, j: int, factors: NDArray[np.int32], order: NDArray[np.int8], i: int, s: int, is_spatial: bool
) -> int:
    """Lists the temporal or the spatial loops of a level, from number j on; returns the number of the next."""
    dims = order.shape[2]
    for position in range(dims):
        d = int(order[i, s, position])
        bound = int(factors[i, s, d])
        if bound > 1 or not nest.is_canonical:
            _add_loop(nest, j, d, bound, is_spatial)
            j += 1
    if nest.is_canonical:
        for unit in range(dims):
            if factors[i, s, unit] == 1:
                _add_loop(nest, j, unit, 1, is_spatial)
                j += 1
    return j


@kernel
def list_nest(maps: Maps, i: int, nest: Nest, sorting: Sorting) -> None:
    """Fills the list for mapping i of a batch, which is brought into canonical form if that means sorting its loops.

    Args:
        maps: the six arrays of the batch; orders are permutations.
        i: which mapping.
        nest: receives the list.
        sorting: of the canonical form.
    """
    if nest.is_canonical and sorting.spatial[0]:
        normalise(i, maps, sorting)
    temporal, spatial, order, spatial_order = maps.temporal, maps.spatial, maps.order, maps.spatial_order
    levels = temporal.shape[1]
    j = 0
    for s in range(levels):
        nest.starts[s] = j
        if nest.has_fanout[s]:
            j = _add_loops(nest, j, spatial, spatial_order, i, s, True)
        j = _add_loops(nest, j, temporal, order, i, s, False)
    nest.starts[levels] = j
