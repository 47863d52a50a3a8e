"""Compiled reading of actions that say a whole mapping, and the comparison of what came of them."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import allocating_kernel, inlined_kernel, kernel
from mapgym.compilation.array_kernels import PageArrays, Pages, one, two
from mapgym.mapping.maps import Arrays, Maps
from mapgym.mapspace.projection_kernels import FIT_ARRAYS, fit_batch

PLACES = 3
"""Places for a factor at each level: temporal, parallel on X, parallel on Y."""


class Columns(NamedTuple):
    """What the columns of an action are about, and what of that a map space lets them choose."""

    primes: NDArray[np.int64]  # [any] prime factors of the bounds, dim by dim
    dim_of: NDArray[np.int64]  # [any] dim of each
    column_of: NDArray[np.int64]  # [any] column of each
    starts: NDArray[
        np.int64
    ]  # [4] first priority; priorities of a level; first keep bit, -1 for none; those of a level
    order_free: NDArray[np.bool_]  # [level]
    order_key: NDArray[np.int8]  # [level, dim]
    keep_free: NDArray[np.bool_]  # [level, tensor]
    keep: NDArray[np.bool_]  # [level, tensor]


class Wishes(NamedTuple):
    """What actions ask for; see :class:`mapgym.mapspace.projection.Target`."""

    factors: NDArray[np.float64]  # [n, 2 * level, dim]
    on_y: NDArray[np.bool_]  # [n, level, dim]
    order: NDArray[np.int8]  # [n, level, dim]
    keep: NDArray[np.bool_]  # [n, level, tensor]


WishArrays: TypeAlias = tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int8], NDArray[np.bool_]]


@inlined_kernel
def _open_columns(pages: Pages) -> Columns:
    """Views of the columns, which lie behind what the projection depends on."""
    whole, flags = pages.whole, pages.flags
    return Columns(
        primes=one(whole, whole, FIT_ARRAYS),
        dim_of=one(whole, whole, FIT_ARRAYS + 1),
        column_of=one(whole, whole, FIT_ARRAYS + 2),
        starts=one(whole, whole, FIT_ARRAYS + 3),
        order_free=one(flags, whole, FIT_ARRAYS + 4),
        order_key=two(pages.bytes, whole, FIT_ARRAYS + 5),
        keep_free=two(flags, whole, FIT_ARRAYS + 6),
        keep=two(flags, whole, FIT_ARRAYS + 7),
    )


@kernel
def _sort_loops(action: NDArray[np.int64], first: int, order: NDArray[np.int8]) -> None:
    """Writes the dims by ascending priority; of equal ones, the first comes first."""
    for d in range(len(order)):
        at = d
        while at > 0 and action[first + order[at - 1]] > action[first + d]:
            order[at] = order[at - 1]
            at -= 1
        order[at] = d


@allocating_kernel
def read_wishes(
    actions: NDArray[np.int64],
    pages: PageArrays,
    wish_arrays: WishArrays,
    arrays: Arrays,
) -> None:
    """Reads what actions ask for.

    Args:
        actions: int64[n, columns].
        pages: see :func:`build_batch`.
        wish_arrays: those of :class:`Wishes`, filled.
        arrays: those of n mappings, of which orders and keep bits are filled as far as they may be chosen.
    """
    columns, wishes, maps = _open_columns(Pages(*pages)), Wishes(*wish_arrays), Maps(*arrays)
    n, levels, dims = wishes.order.shape
    on_x_of, on_y_of = np.empty((levels, dims)), np.empty((levels, dims))
    for i in range(n):
        wishes.factors[i] = 1.0
        on_x_of[:] = 1.0
        on_y_of[:] = 1.0
        for k in range(len(columns.primes)):
            slot, d, prime = actions[i, columns.column_of[k]], columns.dim_of[k], columns.primes[k]
            level, place = min(slot // PLACES, levels - 1), slot % PLACES
            if place == 0:
                wishes.factors[i, level, d] *= prime
            elif place == 1:
                on_x_of[level, d] *= prime
            else:
                on_y_of[level, d] *= prime
        for s in range(levels):
            for d in range(dims):
                wishes.factors[i, levels + s, d] = on_x_of[s, d] * on_y_of[s, d]
                wishes.on_y[i, s, d] = on_y_of[s, d] > on_x_of[s, d]
            _sort_loops(actions[i], columns.starts[0] + s * columns.starts[1], wishes.order[i, s])
            for d in range(dims):
                maps.order[i, s, d] = wishes.order[i, s, d] if columns.order_free[s] else columns.order_key[s, d]
            for t in range(wishes.keep.shape[2]):
                wishes.keep[i, s, t] = True
                if columns.starts[2] >= 0:
                    wishes.keep[i, s, t] = actions[i, columns.starts[2] + s * columns.starts[3] + t] == 1
                maps.keep[i, s, t] = wishes.keep[i, s, t] if columns.keep_free[s, t] else columns.keep[s, t]


@kernel
def find_differences(
    pages: PageArrays,
    wish_arrays: WishArrays,
    arrays: Arrays,
    differs: NDArray[np.bool_],
) -> None:
    """Fills bool[n]: whether factors, their mesh sides or, where they are searched, kept tensors are not as wished.

    Args:
        pages: see :func:`build_batch`.
        wish_arrays: those of :class:`Wishes`.
        arrays: those of n mappings.
        differs: bool[n].
    """
    keep_free = _open_columns(Pages(*pages)).keep_free
    wishes, maps = Wishes(*wish_arrays), Maps(*arrays)
    n, levels, dims = maps.temporal.shape
    for i in range(n):
        found = False
        for s in range(levels):
            for position in range(dims):
                d = maps.spatial_order[i, s, position]
                factor = maps.spatial[i, s, d]
                found |= wishes.factors[i, s, d] != maps.temporal[i, s, d] or wishes.factors[i, levels + s, d] != factor
                found |= factor > 1 and wishes.on_y[i, s, d] != (position >= maps.spatial_split[i, s])
            for t in range(maps.keep.shape[2]):
                found |= keep_free[s, t] and wishes.keep[i, s, t] != maps.keep[i, s, t]
        differs[i] = found


@allocating_kernel
def build_batch(
    actions: NDArray[np.int64],
    pages: PageArrays,
    arrays: Arrays,
    fits: NDArray[np.bool_],
    differs: NDArray[np.bool_],
) -> int:
    """Builds the mappings nearest to what actions ask for, where the projection is plain, in one call.

    Args:
        actions: int64[n, columns].
        pages: what :func:`mapgym.mapspace.projection_kernels.fit_batch` takes, and the arrays of :class:`Columns`.
        arrays: those of n mappings, filled.
        fits, differs: bool[n], receive whether each is in the map space, and whether it is other than the action says.

    Returns:
        how many are not in the map space.
    """
    maps = Maps(*arrays)
    n, levels, dims = maps.order.shape
    factors = np.empty((n, 2 * levels, dims))
    on_y, order = np.empty((n, levels, dims), np.bool_), np.empty((n, levels, dims), np.int8)
    wishes = (factors, on_y, order, np.empty(maps.keep.shape, np.bool_))
    read_wishes(actions, pages, wishes, arrays)
    fit_batch(pages, factors, on_y, order, arrays, fits)
    find_differences(pages, wishes, arrays, differs)
    lost = 0
    for i in range(n):
        lost += not fits[i]
    return lost
