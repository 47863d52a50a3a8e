"""Compiled uniform crossover of mappings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import inlined_kernel, kernel
from mapgym.compilation.random_kernels import State, next_below, next_fraction
from mapgym.mapping.canonical_kernels import Sorting, copy_mapping, normalise
from mapgym.mapping.maps import Arrays, Maps
from mapgym.mapspace.edits_kernels import EditTables, is_allowed


@kernel
def _on_x(maps: Maps, i: int, s: int, d: int) -> bool:
    found = False
    for position in range(maps.spatial_split[i, s]):
        found |= maps.spatial_order[i, s, position] == d
    return found


@inlined_kernel
def _cross(parents: Maps, first: int, second: int, children: Maps, i: int, state: State) -> None:
    """Child i takes the factors of each dim, and the orders and kept tensors of each level, from either parent."""
    levels, dims, tensors = children.temporal.shape[1], children.temporal.shape[2], children.keep.shape[2]
    donors = next_below(state, 1 << dims)  # bit d: the factors of dim d come from the second parent
    for s in range(levels):
        source = second if next_below(state, 2) else first
        keeper = second if next_below(state, 2) else first
        for t in range(tensors):
            children.keep[i, s, t] = parents.keep[keeper, s, t]
        filled = 0
        for on_y in range(2):
            for position in range(dims):
                d = parents.spatial_order[source, s, position]
                donor = second if (donors >> d) & 1 else first
                if _on_x(parents, donor, s, d) == (on_y == 0):
                    children.spatial_order[i, s, filled] = d
                    filled += 1
            if on_y == 0:
                children.spatial_split[i, s] = filled
        for d in range(dims):
            donor = second if (donors >> d) & 1 else first
            children.temporal[i, s, d] = parents.temporal[donor, s, d]
            children.spatial[i, s, d] = parents.spatial[donor, s, d]
            children.order[i, s, d] = parents.order[source, s, d]


@kernel
def cross_each(
    parent_arrays: Arrays,
    child_arrays: Arrays,
    sorting: Sorting,
    tables: EditTables,
    crossover: float,
    attempts: int,
    extents: NDArray[np.float64],
    tile_words: NDArray[np.float64],
    state: State,
) -> None:
    """Fills a batch with legal children of random pairs of parents, in canonical form.

    Args:
        parent_arrays: arrays of mappings of the space, in canonical form.
        child_arrays: arrays of a batch, overwritten.
        sorting, tables: of the map space.
        crossover: probability of crossover; without it a child is a copy of a parent.
        attempts: how many pairs are tried for one child; if all give an illegal one, it is a copy of a parent.
        extents, tile_words: float64[level, dim] and float64[level, tensor], working memory.
        state: uint64[1], random state.
    """
    parents = Maps(*parent_arrays)
    children = Maps(*child_arrays)
    count = len(parents.temporal)
    for i in range(len(children.temporal)):
        left = attempts if next_fraction(state) < crossover else 0
        while left > 0:
            _cross(parents, next_below(state, count), next_below(state, count), children, i, state)
            normalise(i, children, sorting)
            if is_allowed(i, children, tables, extents, tile_words):
                break
            left -= 1
        if left == 0:
            copy_mapping(next_below(state, count), parents, i, children)
