"""Compiled parts of the map space: canonical form, and the single edits that lead from one mapping to another.

Kernels take the six arrays of a batch as one tuple ``maps`` (in the order of ``mapgym.mapping.ARRAYS``) and an index
i; they change mapping i in place. An edit is a row (kind, a, b, c, prime, side):

- MOVE: dim a, from slot b to slot c, a prime; if it opens a spatial loop, on mesh side 0 (X) or 1 (Y);
- SWAP, SPATIAL_SWAP: level a, positions b and c of its temporal or spatial loops;
- TOGGLE_SIDE: level a, dim b;
- TOGGLE_KEEP: level a, tensor b.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import allocating_kernel, inlined_kernel, kernel
from mapgym.compilation.random_kernels import next_below
from mapgym.mapping.canonical_kernels import Sorting, copy_mapping, normalise
from mapgym.mapping.legality_kernels import legality_status, mac_units
from mapgym.mapping.maps import Arrays, Maps

MOVE, SWAP, SPATIAL_SWAP, TOGGLE_SIDE, TOGGLE_KEEP = range(5)
KINDS = 5
EDIT_COLUMNS = 6


class EditTables(NamedTuple):
    """What the edits of a map space depend on; see ``mapgym.mapspace.entries.SearchedEntries``.

    Attributes:
        group_of: int32[2 * level, dim] factors move only between slots of one group.
        primes: int64[dim, any] prime divisors of the bounds, padded with 0.
        growth: float64[dim, any] how many times more words tiles have at most that cover so many times more of a dim.
        side_free, on_y, keep_free: as in SearchedEntries.
        rules: from ``mapgym.mapping.legality_kernels.pack_rules``.
        min_used_macs: least product of the spatial factors.
        is_limited: whether the next two have to be looked at.
        least: int32[2 * level, dim] smallest factor of each slot.
        most: int32[2, 2 * level, dim] largest one, of spatial slots on X and on Y.
    """

    group_of: NDArray[np.int32]
    primes: NDArray[np.int64]
    growth: NDArray[np.float64]
    side_free: NDArray[np.bool_]
    on_y: NDArray[np.bool_]
    keep_free: NDArray[np.bool_]
    rules: NDArray[np.int64]
    min_used_macs: int
    is_limited: bool
    least: NDArray[np.int32]
    most: NDArray[np.int32]


@kernel
def _is_within(i: int, maps: Maps, tables: EditTables) -> bool:
    """Whether the factors of mapping i are within their limits."""
    temporal, spatial = maps.temporal, maps.spatial
    levels, dims = temporal.shape[1:]
    for s in range(levels):
        for position in range(dims):
            d = maps.spatial_order[i, s, position]
            side = 1 if position >= maps.spatial_split[i, s] else 0
            if not tables.least[s, d] <= temporal[i, s, d] <= tables.most[0, s, d]:
                return False
            if spatial[i, s, d] < tables.least[levels + s, d]:
                return False
            if spatial[i, s, d] > 1 and spatial[i, s, d] > tables.most[side, levels + s, d]:
                return False
    return True


@kernel
def is_allowed(i: int, maps: Maps, tables: EditTables, extents: NDArray, tile_words: NDArray) -> bool:
    """Whether mapping i is legal and uses enough MACs; extents and tile_words are scratch."""
    used = np.int64(1)
    spatial = maps.spatial
    for s in range(spatial.shape[1]):
        for d in range(spatial.shape[2]):
            used *= spatial[i, s, d]
    # Most edits that are not allowed use more MACs than there are, quickly found out.
    if used < tables.min_used_macs or used > mac_units(tables.rules):
        return False
    if legality_status(i, maps, tables.rules, extents, tile_words) != 0:
        return False
    return not tables.is_limited or _is_within(i, maps, tables)


@kernel
def add_edit(edits: NDArray[np.int64], count: int, kind: int, a: int, b: int, c: int, prime: int, side: int) -> int:
    """Appends an edit if there is an array for them; returns the new count."""
    if count < len(edits):
        edits[count, 0] = kind
        edits[count, 1] = a
        edits[count, 2] = b
        edits[count, 3] = c
        edits[count, 4] = prime
        edits[count, 5] = side
    return count + 1


@kernel
def _list_moves(i: int, maps: Maps, tables: EditTables, edits: NDArray[np.int64]) -> int:
    temporal, spatial, spatial_order, spatial_split = (
        maps.temporal,
        maps.spatial,
        maps.spatial_order,
        maps.spatial_split,
    )
    levels, dims = temporal.shape[1], temporal.shape[2]
    count = 0
    for d in range(dims):
        for source in range(2 * levels):
            group = tables.group_of[source, d]
            if group < 0:
                continue
            factor = temporal[i, source, d] if source < levels else spatial[i, source - levels, d]
            if factor == 1:
                continue
            for target in range(2 * levels):
                if target == source or tables.group_of[target, d] != group:
                    continue
                first_side, last_side = 0, 0
                if target >= levels:
                    s = target - levels
                    if spatial[i, s, d] > 1:
                        for position in range(spatial_split[i, s], dims):
                            if spatial_order[i, s, position] == d:
                                first_side = 1
                        last_side = first_side
                    elif tables.side_free[s, d]:
                        last_side = 1
                    else:
                        first_side = last_side = 1 if tables.on_y[s, d] else 0
                for k in range(tables.primes.shape[1]):
                    prime = tables.primes[d, k]
                    if prime == 0 or factor % prime != 0:
                        continue
                    for side in range(first_side, last_side + 1):
                        count = add_edit(edits, count, MOVE, d, source, target, prime, side)
    return count


@inlined_kernel
def _are_alike(order: NDArray[np.int8], rank: NDArray[np.int8], i: int, s: int, b: int, c: int) -> bool:
    """Whether the loops at two places of an order are of one rank, so that a sorted order can have them either way."""
    return rank[s, order[i, s, b]] == rank[s, order[i, s, c]]


@kernel
def list_edits(
    i: int, maps: Maps, sorting: Sorting, tables: EditTables, edits: NDArray[np.int64], starts: NDArray[np.int64]
) -> int:
    """Lists the single edits of mapping i, which is in canonical form, whether or not they are legal.

    Args:
        i, maps: the mapping.
        sorting, tables: of the map space.
        edits: int64[any, EDIT_COLUMNS], receives as many edits as fit, grouped by kind.
        starts: int64[KINDS + 1], receives where each kind begins.

    Returns:
        The number of edits there are.
    """
    temporal, spatial, spatial_split = maps.temporal, maps.spatial, maps.spatial_split
    levels, dims = temporal.shape[1], temporal.shape[2]
    starts[MOVE] = 0
    count = _list_moves(i, maps, tables, edits)
    starts[SWAP] = count
    for s in range(levels):
        loops = 0
        for d in range(dims):
            loops += temporal[i, s, d] > 1
        for b in range(loops):
            for c in range(b + 1, loops):
                if sorting.temporal[s] and not _are_alike(maps.order, sorting.temporal_rank, i, s, b, c):
                    continue
                count = add_edit(edits, count, SWAP, s, b, c, 0, 0)
    starts[SPATIAL_SWAP] = count
    for s in range(levels):
        loops = 0
        for d in range(dims):
            loops += spatial[i, s, d] > 1
        for b in range(loops):
            last = spatial_split[i, s] if b < spatial_split[i, s] else loops
            for c in range(b + 1, last):
                if sorting.spatial[s] and not _are_alike(maps.spatial_order, sorting.spatial_rank, i, s, b, c):
                    continue
                count = add_edit(edits, count, SPATIAL_SWAP, s, b, c, 0, 0)
    starts[TOGGLE_SIDE] = count
    for s in range(levels):
        for d in range(dims):
            if tables.side_free[s, d] and spatial[i, s, d] > 1:
                count = add_edit(edits, count, TOGGLE_SIDE, s, d, 0, 0, 0)
    starts[TOGGLE_KEEP] = count
    for s in range(levels):
        for t in range(tables.keep_free.shape[1]):
            if tables.keep_free[s, t]:
                count = add_edit(edits, count, TOGGLE_KEEP, s, t, 0, 0, 0)
    starts[KINDS] = count
    return count


@kernel
def _place_spatial_loop(i: int, s: int, d: int, on_y: bool, maps: Maps) -> None:
    """Makes the spatial loop of dim d the outermost one on a mesh side; the others keep their places."""
    spatial, spatial_order, spatial_split = maps.spatial, maps.spatial_order, maps.spatial_split
    dims = spatial.shape[2]
    split = spatial_split[i, s]
    write = 0
    was_on_x = False
    for position in range(dims):
        other = spatial_order[i, s, position]
        if other == d:
            was_on_x = position < split
        else:
            spatial_order[i, s, write] = other
            write += 1
    if was_on_x:
        split -= 1
    if on_y:
        target = dims - 1
    else:
        target = split
        split += 1
    for position in range(dims - 1, target, -1):
        spatial_order[i, s, position] = spatial_order[i, s, position - 1]
    spatial_order[i, s, target] = d
    spatial_split[i, s] = split


@kernel
def change(i: int, maps: Maps, edits: NDArray[np.int64], e: int) -> None:
    """Applies edit e of a list to mapping i; the result has to be normalised before anything else is asked of it."""
    temporal, spatial, order, spatial_order, spatial_split, keep = maps
    levels = temporal.shape[1]
    kind, a, b, c = edits[e, 0], edits[e, 1], edits[e, 2], edits[e, 3]
    if kind == MOVE:
        prime = edits[e, 4]
        if b < levels:
            temporal[i, b, a] //= prime
        else:
            spatial[i, b - levels, a] //= prime
        if c < levels:
            temporal[i, c, a] *= prime
        else:
            if spatial[i, c - levels, a] == 1:
                _place_spatial_loop(i, c - levels, a, edits[e, 5] == 1, maps)
            spatial[i, c - levels, a] *= prime
    elif kind == SWAP:
        order[i, a, b], order[i, a, c] = order[i, a, c], order[i, a, b]
    elif kind == SPATIAL_SWAP:
        spatial_order[i, a, b], spatial_order[i, a, c] = spatial_order[i, a, c], spatial_order[i, a, b]
    elif kind == TOGGLE_SIDE:
        on_x = False
        for position in range(spatial_split[i, a]):
            on_x |= spatial_order[i, a, position] == b
        _place_spatial_loop(i, a, b, on_x, maps)
    else:
        keep[i, a, b] = not keep[i, a, b]


@kernel
def apply_edit(i: int, maps: Maps, sorting: Sorting, edits: NDArray[np.int64], e: int) -> None:
    """Applies edit e of a list to mapping i and normalises the result."""
    change(i, maps, edits, e)
    normalise(i, maps, sorting)


@allocating_kernel
def apply_each(
    arrays: Arrays, sorting: Sorting, tables: EditTables, edits: NDArray[np.int64], allowed: NDArray[np.bool_]
) -> None:
    """Applies edit e to mapping e for all edits; allowed bool[n] receives whether the result is in the map space."""
    maps = Maps(*arrays)
    extents = np.empty(maps.temporal.shape[1:])
    tile_words = np.empty(maps.keep.shape[1:])
    for e in range(len(edits)):
        apply_edit(e, maps, sorting, edits, e)
        allowed[e] = is_allowed(e, maps, tables, extents, tile_words)


@allocating_kernel
def random_edits(
    arrays: Arrays,
    scratch: Arrays,
    sorting: Sorting,
    tables: EditTables,
    edits: NDArray[np.int64],
    state: NDArray[np.uint64],
) -> None:
    """Replaces each mapping of a batch by a random neighbour: a random kind of edit, then a random edit of that kind.

    Edits that turn out to be illegal are taken off the list, so a mapping stays as it is only if all of them are.

    Args:
        arrays: arrays of a batch, changed in place.
        scratch: arrays of a batch of one, scratch.
        sorting, tables: of the map space.
        edits: int64[any, EDIT_COLUMNS] scratch, long enough for every mapping.
        state: uint64[1] state of the random numbers.
    """
    maps = Maps(*arrays)
    before = Maps(*scratch)
    extents = np.empty(maps.temporal.shape[1:])
    tile_words = np.empty(maps.keep.shape[1:])
    starts = np.empty(KINDS + 1, np.int64)
    left = np.empty(KINDS, np.int64)
    for i in range(len(maps.temporal)):
        normalise(i, maps, sorting)
        copy_mapping(i, maps, 0, before)
        list_edits(i, maps, sorting, tables, edits, starts)
        kinds = 0
        for kind in range(KINDS):
            left[kind] = starts[kind + 1] - starts[kind]
            kinds += left[kind] > 0
        while kinds > 0:
            skip = next_below(state, kinds)
            kind = -1
            while skip >= 0:
                kind += 1
                skip -= left[kind] > 0
            e = starts[kind] + next_below(state, left[kind])
            apply_edit(i, maps, sorting, edits, e)
            if is_allowed(i, maps, tables, extents, tile_words):
                break
            copy_mapping(0, before, i, maps)
            left[kind] -= 1
            kinds -= left[kind] == 0
            last = starts[kind] + left[kind]
            for column in range(EDIT_COLUMNS):
                edits[e, column] = edits[last, column]
