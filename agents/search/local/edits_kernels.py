"""Compiled random edits of mappings, for searchers that know nothing of mappings but how to change them a little.

The edits are those of :mod:`mapgym.mapspace.edits_kernels`. There, all of a mapping are listed, so that one can be
taken of those that are legal; here, one is drawn without a list, which is several times as fast, and several can follow
each other of which only the last has to end in a legal mapping.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import inlined_kernel, kernel
from mapgym.compilation.hash_kernels import mix, remember
from mapgym.compilation.random_kernels import State, choose, next_below, next_fraction
from mapgym.mapping.canonical_kernels import Sorting, copy_mapping, normalise
from mapgym.mapping.maps import Arrays, Maps
from mapgym.mapspace.edits_kernels import (
    MOVE,
    SPATIAL_SWAP,
    SWAP,
    TOGGLE_SIDE,
    EditTables,
    add_edit,
    change,
    is_allowed,
)


@kernel
def mapping_hash(maps: Maps, i: int) -> np.uint64:
    """A hash of mapping i, which is in canonical form: equal for equal mappings, and odd."""
    levels, dims, tensors = maps.temporal.shape[1], maps.temporal.shape[2], maps.keep.shape[2]
    h = np.uint64(0xA0761D6478BD642F)
    for s in range(levels):
        for position in range(dims):
            d = maps.order[i, s, position]
            if maps.temporal[i, s, d] == 1:
                break
            h = mix(h, maps.temporal[i, s, d] * 256 + d)
        h = mix(h, maps.spatial_split[i, s] * 256 + 128)
        for position in range(dims):
            d = maps.spatial_order[i, s, position]
            if maps.spatial[i, s, d] == 1:
                break
            h = mix(h, maps.spatial[i, s, d] * 256 + d)
        kept = 1
        for t in range(tensors):
            kept = kept * 2 + maps.keep[i, s, t]
        h = mix(h, kept)
    return h | np.uint64(1)


@inlined_kernel
def _factor(i: int, maps: Maps, slot: int, d: int) -> int:
    levels = maps.temporal.shape[1]
    return maps.temporal[i, slot, d] if slot < levels else maps.spatial[i, slot - levels, d]


@inlined_kernel
def _draw_move(i: int, maps: Maps, tables: EditTables, edits: NDArray[np.int64], state: State) -> bool:
    """Draws a prime factor to move: a random dim, one of its factors above 1, and another slot of the same group."""
    levels, dims = maps.temporal.shape[1], maps.temporal.shape[2]
    first = next_below(state, dims)
    for step in range(dims):
        d = (first + step) % dims
        count, source = 0, -1
        for slot in range(2 * levels):
            if tables.group_of[slot, d] >= 0 and _factor(i, maps, slot, d) > 1:
                count += 1
                if next_below(state, count) == 0:
                    source = slot
        count, target = 0, -1
        for slot in range(2 * levels):
            if source >= 0 and slot != source and tables.group_of[slot, d] == tables.group_of[source, d]:
                count += 1
                if next_below(state, count) == 0:
                    target = slot
        if target < 0:
            continue
        factor = _factor(i, maps, source, d)
        count, chosen = 0, 0
        for k in range(tables.primes.shape[1]):
            prime = tables.primes[d, k]
            if prime > 1 and factor % prime == 0:
                count += 1
                if next_below(state, count) == 0:
                    chosen = prime
        # A loop that becomes parallel may lie on either side of a mesh; one that grows stays where it is.
        side = 0
        if target >= levels:
            is_free = tables.side_free[target - levels, d]
            side = next_below(state, 2) if is_free else int(tables.on_y[target - levels, d])
        add_edit(edits, 0, MOVE, d, source, target, chosen, side)
        return True
    return False


@inlined_kernel
def _draw_swap(i: int, maps: Maps, sorting: Sorting, kind: int, edits: NDArray[np.int64], state: State) -> bool:
    """Draws two loops of a random level to swap: temporal ones, or spatial ones on one mesh side."""
    levels, dims = maps.temporal.shape[1], maps.temporal.shape[2]
    factors, order = (maps.temporal, maps.order) if kind == SWAP else (maps.spatial, maps.spatial_order)
    first = next_below(state, levels)
    for step in range(levels):
        s = (first + step) % levels
        if (kind == SWAP and sorting.temporal[s]) or (kind == SPATIAL_SWAP and sorting.spatial[s]):
            continue
        # Loops are looked for on the whole level, or on one side of the mesh: X if the side is 0.
        side = next_below(state, 2)
        count, first_loop, second_loop = 0, 0, 0
        for turn in range(1 if kind == SWAP else 2):
            count = 0
            for position in range(dims):
                d = order[i, s, position]
                on_y = position >= maps.spatial_split[i, s]
                if factors[i, s, d] == 1 or (kind == SPATIAL_SWAP and on_y != ((side + turn) % 2 == 1)):
                    continue
                # A random pair, drawn while passing by: the third and later loops replace one of the two.
                count += 1
                drawn = next_below(state, count)
                if count == 1:
                    first_loop = position
                elif count == 2:
                    second_loop = position
                elif drawn == 0:
                    first_loop = position
                elif drawn == 1:
                    second_loop = position
            if count > 1:
                break
        if count > 1:
            add_edit(edits, 0, kind, s, first_loop, second_loop, 0, 0)
            return True
    return False


@inlined_kernel
def _draw_toggle(i: int, maps: Maps, tables: EditTables, kind: int, edits: NDArray[np.int64], state: State) -> bool:
    """Draws a spatial loop for the other mesh side, or a tensor to keep or to bypass."""
    levels = maps.temporal.shape[1]
    columns = maps.temporal.shape[2] if kind == TOGGLE_SIDE else maps.keep.shape[2]
    first = next_below(state, levels * columns)
    for step in range(levels * columns):
        s, column = (first + step) % (levels * columns) // columns, (first + step) % columns
        if kind == TOGGLE_SIDE:
            possible = tables.side_free[s, column] and maps.spatial[i, s, column] > 1
        else:
            possible = tables.keep_free[s, column]
        if possible:
            add_edit(edits, 0, kind, s, column, 0, 0, 0)
            return True
    return False


@inlined_kernel
def _draw_edit(
    i: int,
    maps: Maps,
    sorting: Sorting,
    tables: EditTables,
    weights: NDArray[np.float64],
    edits: NDArray[np.int64],
    state: State,
) -> bool:
    """Draws a random edit of mapping i into the first row of edits; False if its kind has none."""
    kind = choose(weights, next_fraction(state))
    if kind == MOVE:
        return _draw_move(i, maps, tables, edits, state)
    if kind in (SWAP, SPATIAL_SWAP):
        return _draw_swap(i, maps, sorting, kind, edits, state)
    return _draw_toggle(i, maps, tables, kind, edits, state)


Memory = tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], State]


@kernel
def edit_each(
    arrays: Arrays,
    edited_arrays: Arrays,
    sorting: Sorting,
    tables: EditTables,
    weights: NDArray[np.float64],
    persistence: float,
    attempts: int,
    memory: Memory,
) -> None:
    """Makes of each mapping of a batch one that is a few random edits away.

    Args:
        arrays: of a batch of mappings of the space in canonical form.
        edited_arrays: of a batch of as many, overwritten.
        sorting, tables: of the map space.
        weights: float64[KINDS], cumulative probabilities of the kinds of edits.
        persistence: probability of one more edit after each one.
        attempts: how often a mapping may be edited anew because the result is illegal, or was seen before. The last
            result is taken if it is legal, seen or not; otherwise the mapping stays as it was.
        memory: hash table for :func:`mapgym.compilation.hash_kernels.remember` (with one entry, nothing is remembered
            and everything is new), room for an edit, float64[level, dim], float64[level, tensor], and random numbers.
    """
    seen, edits, extents, tile_words, state = memory
    maps = Maps(*arrays)
    edited = Maps(*edited_arrays)
    for i in range(len(maps.temporal)):
        copy_mapping(i, maps, i, edited)
        if len(seen) > 1:
            remember(seen, mapping_hash(maps, i))
        for attempt in range(attempts):
            more = True
            while more:
                if _draw_edit(i, edited, sorting, tables, weights, edits, state):
                    change(i, edited, edits, 0)
                more = next_fraction(state) < persistence
            if is_allowed(i, edited, tables, extents, tile_words):
                normalise(i, edited, sorting)
                if len(seen) == 1 or remember(seen, mapping_hash(edited, i)) or attempt == attempts - 1:
                    break
            copy_mapping(i, maps, i, edited)
