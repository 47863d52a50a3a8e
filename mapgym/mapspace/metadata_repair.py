"""Makes room for the metadata of compressed tiles, which no capacity of words says anything about.

The metadata of a level depend on the loops of all of its tiles and on their order, so that they are known when a
mapping is complete. Where they do not fit, one prime factor after the other moves from the tile of that level outwards:
of those moves that make room, the one that leaves most of the tile; if no single one does, the one that frees most for
its size. A move never enlarges a tile, so nothing else gets too large by it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mapgym.mapping import MappingBatch
from mapgym.mapping.canonical_kernels import normalise_batch
from mapgym.mapping.legality_kernels import LEGAL, METADATA
from mapgym.mapspace.definition import Definition
from mapgym.mapspace.size import prime_exponents


def bypass_clashes(space: Definition, clashes: NDArray[np.bool_], batch: MappingBatch) -> None:
    """Bypasses a tensor, in place, where its format clashes with that of the next outer level, if that is searched.

    From the outermost level inwards, so that levels are compared with what is left outside.

    Args:
        space: the map space.
        clashes: of its formats, see :class:`mapgym.mapping.metadata_kernels.Formats`.
        batch: n mappings.
    """
    rows = np.arange(len(batch))
    for t in range(len(space.workload.tensors)):
        outer = np.full(len(batch), len(space.accelerator.levels) - 1)
        for s in reversed(range(len(space.accelerator.levels) - 1)):
            if space.entries.keep_free[s, t]:
                batch.keep[rows, s, t] &= ~clashes[outer, s, t]
            outer = np.where(batch.keep[:, s, t], s, outer)


def make_room(space: Definition, batch: MappingBatch) -> NDArray[np.int32]:
    """Moves factors outwards, in place, in those mappings that are illegal for their metadata alone.

    Args:
        space: the map space; axes and factors that are not searched stay as they are.
        batch: n mappings.

    Returns:
        int32[n] statuses; what has no room yet has nothing left to move.
    """
    status = space.status(batch)
    for i in map(int, np.flatnonzero(status >> 8 == METADATA)):
        mapping, code = batch[[i]], int(status[i])
        while code >> 8 == METADATA:
            moves = list(_moves(space, mapping, code & 255))
            if not moves:
                break
            tried = mapping[np.zeros(len(moves), np.intp)]
            for row, (dim, source, target, prime) in enumerate(moves):
                tried.temporal[row, source, dim] //= prime
                tried.temporal[row, target, dim] *= prime
            normalise_batch(tried.arrays(), space.sorting)
            codes = space.status(tried)
            words = [_tile_words(space, tried, row, code & 255) for row in range(len(moves))]
            if (codes == LEGAL).any():
                best = int(np.argmax(np.where(codes == LEGAL, words, -1)))
            else:
                whole = _tile_words(space, mapping, 0, code & 255)
                freed = [math.log(whole / w) / math.log(move[3]) for w, move in zip(words, moves, strict=True)]
                best = int(np.argmax(freed))
            mapping, code = tried[[best]], int(codes[best])
        batch[[i]] = mapping
        status[i] = code
    return status


def _moves(space: Definition, mapping: MappingBatch, level: int) -> Iterator[tuple[int, int, int, int]]:
    """(dim, source, target, prime) of each temporal factor that can move from the tile of a level outwards."""
    levels = mapping.temporal.shape[1]
    for group in space.entries.groups:
        outside = [slot for slot in group.slots if level < slot < levels]
        for source in group.slots:
            if source <= level and outside:
                for prime in prime_exponents(int(mapping.temporal[0, source, group.dim])):
                    yield group.dim, source, min(outside), prime


def _tile_words(space: Definition, batch: MappingBatch, row: int, level: int) -> int:
    """Words of the kept tiles of a mapping at a level, zeros included."""
    inside = batch.temporal[row, : level + 1].astype(np.int64) * batch.spatial[row, : level + 1]
    tile = dict(zip(batch.dims, map(int, inside.prod(axis=0)), strict=True))
    kept = zip(space.workload.tensors, batch.keep[row, level], strict=True)
    return sum(tensor.tile_size(tile) for tensor, is_kept in kept if is_kept)
