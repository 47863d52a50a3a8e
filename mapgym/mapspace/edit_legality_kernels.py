"""Compiled test of whether a single edit of a legal mapping leads to a legal one, without making the edit.

What an edit changes is known: one factor leaves a slot for another, so that the tiles of the levels between grow or
shrink by one prime, and the parallelism of two levels changes; or a loop changes the mesh side; or a tensor is kept or
not. So a :class:`Standing` is worked out once for a mapping, and then each edit is a few comparisons. The answers are
those of :func:`mapgym.mapping.legality_kernels.legality_status` for the edited mapping, and whether it uses enough
MACs. Metadata of compressed tiles are not looked at.

Edits are rows (kind, a, b, c, prime, side) as in :mod:`mapgym.mapspace.edits_kernels`, but loops to swap are named by
their dims.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import accessor, kernel
from mapgym.mapping.legality_kernels import (
    UNLIMITED,
    capacity_words,
    has_compressed_tiles,
    held_words,
    kept_words,
    least_words,
    legality_status,
)
from mapgym.mapping.maps import Maps
from mapgym.mapspace.edits_kernels import MOVE, SPATIAL_SWAP, SWAP, TOGGLE_KEEP, TOGGLE_SIDE, EditTables

ALONE, TOGETHER = range(2)
"""Rows of the limits of parallelism: of each level, and of it and all outer ones together."""


class Standing(NamedTuple):
    """What a legal mapping uses, and what it leaves room for; working memory that :func:`survey` fills."""

    extents: NDArray[np.float64]  # [level, dim] iterations that a tile covers
    tile_words: NDArray[np.float64]  # [level, tensor]
    needs: NDArray[np.float64]  # [level] words of the kept tiles
    used: NDArray[np.int64]  # [2, level, 2] rows ALONE and TOGETHER: parallelism on X and Y
    on_y: NDArray[np.bool_]  # [level, dim] mesh side of each parallel loop
    grows: NDArray[np.bool_]  # [level, dim, prime] whether tiles may cover so many times more of a dim
    shrinks: NDArray[np.bool_]  # [level, dim, prime] and less


@kernel
def _survey_tiles(i: int, s: int, maps: Maps, tables: EditTables, standing: Standing, is_legal: bool) -> None:
    """Fills what tiles of level s need, and whether they may grow and shrink; the words of legal ones are known."""
    keep, rules, extents, primes = maps.keep, tables.rules, standing.extents, tables.primes
    most, least = capacity_words(rules, s), least_words(rules, s)
    is_compressed = has_compressed_tiles(rules)
    need = 0.0
    if is_legal and not is_compressed:
        for t in range(keep.shape[2]):
            if keep[i, s, t]:
                need += standing.tile_words[s, t]
    else:
        need = kept_words(i, keep, rules, extents, s)
    standing.needs[s] = need
    outermost = len(standing.needs) - 1
    for d in range(extents.shape[1]):
        extent = extents[s, d]
        for k in range(primes.shape[1]):
            prime = primes[d, k]
            standing.grows[s, d, k] = standing.shrinks[s, d, k] = True
            if prime == 0 or (most == UNLIMITED and least == 0):
                continue
            # Most tiles are so small that it does not matter by how much they grow.
            may_fail = is_compressed or need * tables.growth[d, k] > most
            if may_fail and extents[outermost, d] >= extent * prime:
                extents[s, d] = extent * prime
                standing.grows[s, d, k] = least <= kept_words(i, keep, rules, extents, s) <= most
            # Smaller tiles that are not compressed always fit.
            if (least > 0 or is_compressed) and extent % prime == 0.0:
                extents[s, d] = extent / prime
                standing.shrinks[s, d, k] = least <= kept_words(i, keep, rules, extents, s) <= most
            extents[s, d] = extent


@kernel
def survey(i: int, maps: Maps, tables: EditTables, standing: Standing) -> bool:
    """Fills what the legality of edits of mapping i depends on. Returns whether the mapping itself is legal."""
    is_legal = legality_status(i, maps, tables.rules, standing.extents, standing.tile_words) == 0
    outer_x, outer_y = np.int64(1), np.int64(1)
    for s in range(maps.temporal.shape[1] - 1, -1, -1):
        used_x, used_y = np.int64(1), np.int64(1)
        for position in range(maps.temporal.shape[2]):
            d = maps.spatial_order[i, s, position]
            on_y = position >= maps.spatial_split[i, s]
            standing.on_y[s, d] = on_y
            used_x *= 1 if on_y else maps.spatial[i, s, d]
            used_y *= maps.spatial[i, s, d] if on_y else 1
        outer_x *= used_x
        outer_y *= used_y
        standing.used[ALONE, s, 0], standing.used[ALONE, s, 1] = used_x, used_y
        standing.used[TOGETHER, s, 0], standing.used[TOGETHER, s, 1] = outer_x, outer_y
        _survey_tiles(i, s, maps, tables, standing, is_legal)
    return is_legal


@accessor
def _has_lanes(standing: Standing, mesh: NDArray[np.int64], s: int, side: int, times: int, first: int) -> bool:
    """Whether a level may use so many times more of a mesh side, which levels outside of ``first`` notice."""
    if standing.used[ALONE, s, side] * times > mesh[ALONE, s, side]:
        return False
    for inner in range(first, s + 1):
        if standing.used[TOGETHER, inner, side] * times > mesh[TOGETHER, inner, side]:
            return False
    return True


@accessor
def _may_move(
    i: int, maps: Maps, tables: EditTables, mesh: NDArray[np.int64], standing: Standing, edit: NDArray[np.int64]
) -> bool:
    """Whether a prime of a dim may go from slot b to slot c."""
    levels = maps.temporal.shape[1]
    d, prime, side = edit[1], edit[4], edit[5]
    from_parallel, to_parallel = edit[2] >= levels, edit[3] >= levels
    source = edit[2] - levels if from_parallel else edit[2]
    target = edit[3] - levels if to_parallel else edit[3]
    factor = maps.spatial[i, source, d] if from_parallel else maps.temporal[i, source, d]
    # Most factors are 1, and divisions take long.
    if factor < prime or factor % prime != 0:
        return False
    if tables.is_limited:
        grown = prime * (maps.spatial[i, target, d] if to_parallel else maps.temporal[i, target, d])
        if factor // prime < tables.least[edit[2], d] or grown > tables.most[side if to_parallel else 0, edit[3], d]:
            return False
    if to_parallel:
        # A dim that is parallel already stays on its side of the mesh.
        if maps.spatial[i, target, d] > 1 and standing.on_y[target, d] != (side == 1):
            return False
        # What leaves the same side of a level further out makes room for itself at all levels inside of that.
        is_same_side = from_parallel and standing.on_y[source, d] == (side == 1)
        if not _has_lanes(standing, mesh, target, side, prime, source + 1 if is_same_side else 0):
            return False
    elif from_parallel:
        used = standing.used[TOGETHER, 0, 0] * standing.used[TOGETHER, 0, 1]
        if used // prime < tables.min_used_macs:
            return False
    k = 0
    while tables.primes[d, k] != prime:
        k += 1
    fits = True
    for s in range(target, source):
        fits = fits and standing.grows[s, d, k]
    for s in range(source, target):
        fits = fits and standing.shrinks[s, d, k]
    return fits


@accessor
def _is_legal(
    i: int, maps: Maps, tables: EditTables, mesh: NDArray[np.int64], standing: Standing, edit: NDArray[np.int64]
) -> bool:
    """Whether mapping i has something to edit there, and stays legal."""
    kind, s, b, c = edit[0], edit[1], edit[2], edit[3]
    if kind == MOVE:
        return _may_move(i, maps, tables, mesh, standing, edit)
    if kind == SWAP:
        return maps.temporal[i, s, b] > 1 and maps.temporal[i, s, c] > 1
    if kind == SPATIAL_SWAP:
        return maps.spatial[i, s, b] > 1 and maps.spatial[i, s, c] > 1 and standing.on_y[s, b] == standing.on_y[s, c]
    if kind == TOGGLE_SIDE:
        side = 0 if standing.on_y[s, b] else 1
        if tables.is_limited and maps.spatial[i, s, b] > tables.most[side, maps.temporal.shape[1] + s, b]:
            return False
        return maps.spatial[i, s, b] > 1 and _has_lanes(standing, mesh, s, side, maps.spatial[i, s, b], 0)
    if kind == TOGGLE_KEEP:
        words = held_words(tables.rules, s, b, int(standing.tile_words[s, b]), standing.extents)
        if maps.keep[i, s, b]:
            return standing.needs[s] - words >= least_words(tables.rules, s)
        return standing.needs[s] + words <= capacity_words(tables.rules, s)
    return False


@kernel
def mark_legal_edits(
    i: int,
    maps: Maps,
    tables: EditTables,
    mesh: NDArray[np.int64],
    standing: Standing,
    edits: NDArray[np.int64],
    mask: NDArray[np.int8],
) -> int:
    """Marks the edits that mapping i may have.

    Args:
        i, maps: a legal mapping, in the form of the map space.
        tables: of the map space.
        mesh: int64[2, level, 2], limits of parallelism as :func:`mapgym.mapping.legality_kernels.mesh_limits` has them.
        standing: that of the mapping, from :func:`survey`.
        edits: int64[n, EDIT_COLUMNS], of those that the map space has; see the module. Any other kind is none.
        mask: int8[at least n], receives 1 for legal edits and 0 for others.

    Returns:
        How many are legal.
    """
    legal = 0
    for e in range(len(edits)):
        mask[e] = _is_legal(i, maps, tables, mesh, standing, edits[e])
        legal += mask[e]
    return legal
