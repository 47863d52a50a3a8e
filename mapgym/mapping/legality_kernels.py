"""Compiled legality: one implementation of the rules, and the packed table of what they depend on.

A status is 0 for a legal mapping and ``kind << 8 | index`` otherwise; the kinds are the constants below. Rules are
checked in a fixed order and the first failure is reported: factors and orders, products, kept tensors, the MAC array,
then the levels from the innermost outwards, each with its capacity first and its fan-out second.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import allocating_kernel, inlined_kernel, kernel
from mapgym.errors import SpecificationError, suggest
from mapgym.errors.text import quoted
from mapgym.mapping.density_kernels import RECORD, density_record, largest_occupancy, tile_rows
from mapgym.mapping.maps import Arrays, Maps
from mapgym.mapping.rank_kernels import pack_ranks, rank_words
from mapgym.spec.counts import active_ranks

if TYPE_CHECKING:
    from mapgym.spec.accelerator import Accelerator
    from mapgym.spec.workload import Workload


LEGAL = 0


PRODUCT = 1
"""Kind: the factors of a dim do not multiply to its bound; index = dim."""


KEPT_NOWHERE = 2
"""Kind: a tensor is bypassed at every level; index = tensor."""


MAC_FANOUT = 3
"""Kind: more parallelism than MACs, in total or along one mesh side; index = 0."""


CAPACITY = 4
"""Kind: the kept tiles exceed the capacity of a level; index = level."""


MESH_FANOUT = 5
"""Kind: the parallelism of all outer levels exceeds the instances of a level on a mesh side; index = level."""


LEVEL_FANOUT = 6
"""Kind: the parallelism of a level exceeds its own fan-out on a mesh side; index = level."""


FACTOR = 7
"""Kind: a factor is below 1; index = dim."""


ORDER = 8
"""Kind: an order of a level is not a permutation of the dims, or its split is out of range; index = level."""


KEEP = 9
"""Kind: a level keeps a tensor that it may not hold, or the outermost level misses one; index = level."""


METADATA = 10
"""Kind: the metadata of compressed tiles exceed their room, or need more ranks than the format has; index = level."""


UTILIZATION = 12
"""Kind: the kept tiles fill less of a level than it demands; index = level."""


FORMATS = 11
"""Kind: a level cannot take a tensor in the format that the next outer level that keeps it has; index = level."""


# Places in the packed table: its header, ahead of the arrays. Only this module knows them.
LEVELS, DIMS, TENSORS, _PER_LEVEL, _MACS_X, _MACS_Y, _COMPRESSED = range(7)
_HEADER = 7

UNLIMITED = np.iinfo(np.int64).max
"""The capacity of a level that has no limit."""


_MAX_FACTOR = 2**31 - 1


def pack_rules(workload: Workload, accelerator: Accelerator) -> NDArray[np.int64]:
    """Packs what the rules depend on into one array for :func:`legality_status`.

    Returns:
        int64[...]: levels L, dims D, tensors T, 1 if each level's own fan-out is checked, MACs along X, MACs along Y,
        position of the last part or 0 without it; then bounds [D], capacities in words [L], instances along X [L],
        along Y [L], fan-out along X [L], along Y [L], least words that tiles must take [L], may-keep flags [L, T]; then
        for each tensor the number of ranks that are single dims with coefficient 1, these dims, the number of other
        ranks and for each its number of terms and the (dim, coefficient) pairs. Terms of dims with bound 1 are left
        out, because they never add to a tile.
        The last part is there if a level stores a tensor in a format: flags [L, T], and each tensor's density record.

    Raises:
        SpecificationError: a bound does not fit the int32 factors of a mapping, or the accelerator names a tensor that
            the workload does not have.
    """
    for dim, bound in zip(workload.dims, workload.bounds, strict=True):
        if bound > _MAX_FACTOR:
            raise SpecificationError(
                f"workload {quoted(workload.name)}: the bound {bound} of dim {quoted(dim)} exceeds {_MAX_FACTOR}, "
                "the largest factor of a mapping; split the dim in two"
            )
    accelerator = accelerator.for_workload(workload)
    _check_tensor_names(workload, accelerator)
    bounds = dict(zip(workload.dims, workload.bounds, strict=True))
    levels = accelerator.levels
    table = [len(levels), len(workload.dims), len(workload.tensors), int(accelerator.fanout_check == "per_level")]
    table += [accelerator.mac.mesh_x, accelerator.mac.mesh_y, 0, *workload.bounds]
    table += [UNLIMITED if level.usable_words is None else level.usable_words for level in levels]
    table += [level.mesh_x for level in levels] + [level.mesh_y for level in levels]
    table += [*accelerator.fanout_x, *accelerator.fanout_y]
    # Whole numbers are below a product exactly if they are below the next whole number.
    table += [math.ceil(level.minimum_utilization * (level.usable_words or 0)) for level in levels]
    for level in levels:
        table += [int(level.keep_only is None or tensor.name in level.keep_only) for tensor in workload.tensors]
    for tensor in workload.tensors:
        ranks = active_ranks(tensor, bounds)
        dims = [workload.dims.index(rank[0][0]) for rank in ranks if len(rank) == 1 and rank[0][1] == 1]
        affine = [rank for rank in ranks if len(rank) > 1 or rank[0][1] > 1]
        table += [len(dims), *dims, *pack_ranks(workload, affine)]
    if any(level.formats for level in levels):
        table[_COMPRESSED] = len(table)
        table += [int(tensor.name in dict(level.formats)) for level in levels for tensor in workload.tensors]
        table += [number for tensor in workload.tensors for number in density_record(workload, tensor.name)]
    return np.array(table, np.int64)


def mesh_limits(accelerator: Accelerator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Largest products of spatial factors along X and Y, for what chooses factors one by one.

    Returns:
        int64[L, 2] for the factors of each level alone, ``UNLIMITED`` where only the next counts; and int64[L, 2] for
        those of the level and all outer ones together.
    """
    alone = np.array([accelerator.fanout_x, accelerator.fanout_y], np.int64).T.copy()
    if accelerator.fanout_check == "cumulative":
        # Products over levels are limited, but a mesh side without any fan-out still holds no loops.
        alone[alone > 1] = UNLIMITED
    return alone, np.array(accelerator.inner_meshes, np.int64)


@inlined_kernel
def capacity_words(table: NDArray[np.int64], s: int) -> int:
    """Words that level s holds, ``UNLIMITED`` without a limit."""
    return table[_HEADER + table[DIMS] + s]


@inlined_kernel
def least_words(table: NDArray[np.int64], s: int) -> int:
    """Words that the kept tiles must take of level s at least."""
    return table[_HEADER + table[DIMS] + 5 * table[LEVELS] + s]


@inlined_kernel
def mac_units(table: NDArray[np.int64]) -> int:
    """MACs on the whole mesh."""
    return table[_MACS_X] * table[_MACS_Y]


@inlined_kernel
def has_compressed_tiles(table: NDArray[np.int64]) -> bool:
    """Whether a level stores a tensor in a format."""
    return table[_COMPRESSED] != 0


@inlined_kernel
def first_tensor(table: NDArray[np.int64]) -> int:
    """Where the ranks of the first tensor begin in the table, for :func:`box_words`."""
    levels = table[LEVELS]
    return _HEADER + table[DIMS] + 6 * levels + levels * table[TENSORS]


@kernel
def held_words(table: NDArray[np.int64], s: int, t: int, words: int, extents: NDArray[np.float64]) -> int:
    """Words that the tile of tensor t takes at level s: of a compressed tile, those that can be other than zero.

    Args:
        table: from :func:`pack_rules`.
        s, t: level and tensor.
        words: of the tile.
        extents: float64[L, D], iterations of each dim that a tile of each level covers.
    """
    compressed = table[_COMPRESSED]
    levels, tensors = table[LEVELS], table[TENSORS]
    if compressed == 0 or table[compressed + s * tensors + t] == 0:
        return words
    at = compressed + levels * tensors + t * RECORD
    return largest_occupancy(table, at, words, tile_rows(table, at, extents, s))


@inlined_kernel
def box_words(table: NDArray[np.int64], cursor: int, extents: NDArray[np.float64], s: int) -> tuple[float, int]:
    """Words of the bounding box of a tensor's tile at level s, and where the next tensor begins in the table.

    Args:
        table: from :func:`pack_rules`.
        cursor: where the tensor begins in it.
        extents: float64[L, D], iterations of each dim that a tile of each level covers.
        s: the level.
    """
    plain = 1.0
    end = cursor + 1 + table[cursor]
    for position in range(cursor + 1, end):
        plain *= extents[s, table[position]]
    words, cursor = rank_words(table, end, extents, s)
    return plain * words, cursor


@kernel
def kept_words(
    i: int, keep: NDArray[np.bool_], table: NDArray[np.int64], extents: NDArray[np.float64], s: int
) -> float:
    """Words that the kept tiles of mapping i take at level s when they cover these extents.

    Args:
        i, keep: the mapping, and the array of the batch.
        table: from :func:`pack_rules`.
        extents: float64[L, D], of which row s counts.
        s: the level.
    """
    need = 0.0
    cursor = first_tensor(table)
    for t in range(keep.shape[2]):
        words, cursor = box_words(table, cursor, extents, s)
        if keep[i, s, t]:
            need += held_words(table, s, t, int(words), extents)
    return need


@kernel
def _first_factor_below_one(i: int, temporal: NDArray[np.int32], spatial: NDArray[np.int32]) -> int:
    for d in range(temporal.shape[2]):
        for s in range(temporal.shape[1]):
            if temporal[i, s, d] < 1 or spatial[i, s, d] < 1:
                return (FACTOR << 8) | d
    return LEGAL


@inlined_kernel
def _check_loops(i: int, maps: Maps, table: NDArray[np.int64], extents: NDArray[np.float64]) -> tuple[int, int]:
    """(status of the factors and orders, levels with a spatial factor above 1 as bits); fills the extents."""
    levels, dims = table[LEVELS], table[DIMS]
    temporal, spatial, order, spatial_order = maps.temporal, maps.spatial, maps.order, maps.spatial_order
    # A product of factors of at least 1 only grows, so one that passes 2**53 and is rounded cannot come back to a bound
    # below 2**31: float64 finds every wrong product, where int64 could wrap around to the right one.
    lowest = np.int32(1)
    parallel = 0  # bit s: level s has a spatial factor above 1
    for d in range(dims):
        extents[0, d] = 1.0
    everything = (1 << dims) - 1
    for s in range(levels):
        seen = 0
        seen_spatial = 0
        used = 1.0
        for d in range(dims):
            tile, span = temporal[i, s, d], spatial[i, s, d]
            lowest = min(lowest, tile, span)
            extents[s, d] *= np.float64(tile) * np.float64(span)
            used *= span
            # As unsigned numbers, entries below 0 are too large as well; bit 63 stands for all that are.
            seen |= 1 << int(min(np.uint8(order[i, s, d]), np.uint8(63)))
            seen_spatial |= 1 << int(min(np.uint8(spatial_order[i, s, d]), np.uint8(63)))
        parallel |= int(used > 1.0) << s
        if lowest < 1:
            return _first_factor_below_one(i, temporal, spatial), parallel
        if seen != everything or seen_spatial != everything or not 0 <= maps.spatial_split[i, s] <= dims:
            return (ORDER << 8) | s, parallel
        if s + 1 < levels:
            for d in range(dims):
                extents[s + 1, d] = extents[s, d]
    for d in range(dims):
        if extents[levels - 1, d] != table[_HEADER + d]:
            return (PRODUCT << 8) | d, parallel
    return LEGAL, parallel


@inlined_kernel
def _check_kept(i: int, keep: NDArray[np.bool_], table: NDArray[np.int64], may_keep: int) -> int:
    """Status of the kept tensors; ``may_keep`` is where in the table it says what may be kept."""
    levels, tensors = table[LEVELS], table[TENSORS]
    for t in range(tensors):
        if not keep[i, levels - 1, t]:
            kept = False
            for s in range(levels):
                kept |= keep[i, s, t]
            if not kept:
                return (KEPT_NOWHERE << 8) | t
    for s in range(levels):
        for t in range(tensors):
            if keep[i, s, t]:
                if table[may_keep + s * tensors + t] == 0:
                    return (KEEP << 8) | s
            elif s == levels - 1 and table[_PER_LEVEL]:
                return (KEEP << 8) | s
    return LEGAL


@inlined_kernel
def _parallelism(i: int, maps: Maps, s: int) -> tuple[int, int]:
    """Products of the spatial factors of a level on X and on Y."""
    used_x = 1
    used_y = 1
    for position in range(maps.spatial.shape[2]):
        p = int(maps.spatial[i, s, maps.spatial_order[i, s, position]])
        on_x = position < maps.spatial_split[i, s]
        used_x *= p if on_x else 1
        used_y *= 1 if on_x else p
    return used_x, used_y


@kernel
def legality_status(
    i: int,
    maps: Maps,
    table: NDArray[np.int64],
    extents: NDArray[np.float64],
    tile_words: NDArray[np.float64],
) -> int:
    """Status of mapping i of a batch; the scratch arrays are left filled for a caller that goes on to price it.

    Takes whole arrays and an index because a view for each mapping would cost more than the checks.

    Args:
        i: which mapping.
        maps: arrays of the batch.
        table: from :func:`pack_rules`.
        extents: float64[L, D], receives the iterations of each dim that a tile of each level covers.
        tile_words: float64[L, T], receives the words of the bounding box of each tensor's tile at each level.
            Both hold whole numbers below 2**53, and are complete only if the status is legal.

    Returns:
        0 if legal, otherwise ``kind << 8 | index``.
    """
    levels, tensors, per_level = table[LEVELS], table[TENSORS], table[_PER_LEVEL]
    capacity = _HEADER + table[DIMS]
    mesh_x = capacity + levels
    mesh_y = mesh_x + levels
    fanout_x = mesh_y + levels
    fanout_y = fanout_x + levels
    least_words = fanout_y + levels
    compressed = table[_COMPRESSED]
    status, parallel = _check_loops(i, maps, table, extents)
    if status != LEGAL:
        return status
    status = _check_kept(i, maps.keep, table, least_words + levels)
    if status != LEGAL:
        return status
    outer_x = 1
    outer_y = 1
    for s in range(levels):
        if (parallel >> s) & 1:
            used_x, used_y = _parallelism(i, maps, s)
            outer_x *= used_x
            outer_y *= used_y
    # The number of MACs is the product of both sides of the mesh, so it needs no check of its own.
    if outer_x > table[_MACS_X] or outer_y > table[_MACS_Y]:
        return MAC_FANOUT << 8
    for s in range(levels):
        need = 0.0
        cursor = first_tensor(table)
        for t in range(tensors):
            words, cursor = box_words(table, cursor, extents, s)
            tile_words[s, t] = words
            if maps.keep[i, s, t]:
                need += words if compressed == 0 else held_words(table, s, t, int(words), extents)
        if need > table[capacity + s]:
            return (CAPACITY << 8) | s
        if need < table[least_words + s]:
            return (UTILIZATION << 8) | s
        used_x = 1
        used_y = 1
        if (parallel >> s) & 1:
            used_x, used_y = _parallelism(i, maps, s)
            outer_x //= used_x
            outer_y //= used_y
        if outer_x > table[mesh_x + s] or outer_y > table[mesh_y + s]:
            return (MESH_FANOUT << 8) | s
        if per_level and (used_x > table[fanout_x + s] or used_y > table[fanout_y + s]):
            return (LEVEL_FANOUT << 8) | s
    return LEGAL


@allocating_kernel
def status_of_batch(arrays: Arrays, table: NDArray[np.int64], out: NDArray[np.int32]) -> None:
    """Fills the status of each mapping of a batch, int32[n]."""
    maps = Maps(*arrays)
    extents = np.empty((table[LEVELS], table[DIMS]))
    tile_words = np.empty((table[LEVELS], table[TENSORS]))
    for i in range(len(maps.temporal)):
        out[i] = legality_status(i, maps, table, extents, tile_words)


@kernel
def first_disorder(order: NDArray[np.int8], spatial_order: NDArray[np.int8], spatial_split: NDArray[np.int8]) -> int:
    """The first mapping of a batch with an order that is no permutation, or a split out of range; -1 for none."""
    n, levels, dims = order.shape
    everything = (np.int64(1) << dims) - 1
    for i in range(n):
        for s in range(levels):
            seen, seen_spatial = np.int64(0), np.int64(0)
            for d in range(dims):
                seen |= np.int64(1) << np.int64(min(np.uint8(order[i, s, d]), np.uint8(63)))
                seen_spatial |= np.int64(1) << np.int64(min(np.uint8(spatial_order[i, s, d]), np.uint8(63)))
            if seen != everything or seen_spatial != everything or not 0 <= spatial_split[i, s] <= dims:
                return i
    return -1


def _check_tensor_names(workload: Workload, accelerator: Accelerator) -> None:
    """Raises SpecificationError if a level of the accelerator names a tensor that the workload does not have."""
    known = [tensor.name for tensor in workload.tensors]
    for level in accelerator.levels:
        given = {
            "keep_only": level.keep_only or (),
            "formats": [tensor for tensor, _ in level.formats],
            "actions": [name for action in level.actions for name in (action.target, *action.condition_on)],
        }
        for key, names in given.items():
            for name in names:
                if name not in known:
                    hint = suggest(name, known)
                    if not hint.startswith("did you mean"):
                        hint += "; rename the tensors of one of the two, or take another accelerator"
                    raise SpecificationError(
                        f"accelerator {quoted(accelerator.name)}: {key} of {quoted(level.name)}: workload "
                        f"{quoted(workload.name)} has no tensor {quoted(name)}; {hint}"
                    )
