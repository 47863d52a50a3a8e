"""Which mappings the hardware can run: one compiled implementation of the rules, and their reasons in words.

The rules are Timeloop's (factors multiply to the bounds, no tensor is bypassed everywhere, parallelism fits the
meshes, tiles fit the capacities), plus three of ours: a level holds only the tensors of its ``keep_only`` and, unless
the accelerator asks for Timeloop's own verdicts by ``fanout_check: cumulative``, the outermost level holds every tensor
and the parallelism of each level fits that level's own fan-out on each mesh axis.

A status is 0 for a legal mapping and ``kind << 8 | index`` otherwise; the kinds are the constants below. Rules are
checked in a fixed order and the first failure is reported: factors and orders, products, kept tensors, the MAC array,
then the levels from the innermost outwards, each with its capacity first and its fan-out second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import allocating_kernel, inlined_kernel, kernel
from mapgym.errors import SpecificationError, suggest
from mapgym.errors.text import quoted
from mapgym.mapping.density_kernels import RECORD, density_record, largest_occupancy
from mapgym.mapping.mapping import divisors
from mapgym.spec.format_rules import clash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mapgym.mapping.mapping import Mapping, MappingBatch
    from mapgym.spec.accelerator import Accelerator
    from mapgym.spec.workload import Workload

LEGAL = 0
PRODUCT = 1
"""Kind: the factors of a dim do not multiply to its bound; index = dim."""
KEPT_NOWHERE = 2
"""Kind: a tensor is bypassed at every level; index = tensor."""
MAC_FANOUT = 3
"""Kind: more parallelism than MACs, in total or along one mesh axis; index = 0."""
CAPACITY = 4
"""Kind: the kept tiles exceed the capacity of a level; index = level."""
MESH_FANOUT = 5
"""Kind: the parallelism of all outer levels exceeds the instances of a level on a mesh axis; index = level."""
LEVEL_FANOUT = 6
"""Kind: the parallelism of a level exceeds its own fan-out on a mesh axis; index = level."""
FACTOR = 7
"""Kind: a factor is below 1; index = dim."""
ORDER = 8
"""Kind: an order of a level is not a permutation of the dims, or its split is out of range; index = level."""
KEEP = 9
"""Kind: a level keeps a tensor that it may not hold, or the outermost level misses one; index = level."""

METADATA = 10
"""Kind: the metadata of compressed tiles exceed their room, or need more ranks than the format has; index = level."""
FORMATS = 11
"""Kind: a level cannot take a tensor in the format that the next outer level that keeps it has; index = level."""

HEADER = 7
"""Entries of the packed table ahead of its arrays."""
COMPRESSED = 6
"""Entry with the position of the part about compressed tiles; 0 if there are none."""
UNLIMITED = np.iinfo(np.int64).max
"""The capacity of a level that has no limit."""
_MAX_FACTOR = 2**31 - 1


def pack_rules(workload: Workload, accelerator: Accelerator) -> NDArray[np.int64]:
    """Packs what the rules depend on into one array for :func:`legality_status`.

    Returns:
        int64[...]: levels L, dims D, tensors T, 1 if each level's own fan-out is checked, MACs along X, MACs along Y,
        position of the last part or 0 without it; then bounds [D], capacities in words [L], instances along X [L],
        along Y [L], fan-out along X [L], along Y [L], may-keep flags [L, T]; then for each tensor the number of ranks
        that are single dims with coefficient 1, these dims, the number of other ranks and for each its number of terms
        and the (dim, coefficient) pairs. Terms of dims with bound 1 are left out, because they never add to a tile.
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
    _check_tensor_names(workload, accelerator)
    levels = accelerator.levels
    table = [len(levels), len(workload.dims), len(workload.tensors), int(accelerator.fanout_check == "per_level")]
    table += [accelerator.mac.mesh_x, accelerator.mac.mesh_y, 0, *workload.bounds]
    table += [UNLIMITED if level.capacity_words is None else level.capacity_words for level in levels]
    table += [level.mesh_x for level in levels] + [level.mesh_y for level in levels]
    table += [*accelerator.fanout_x, *accelerator.fanout_y]
    for level in levels:
        table += [int(level.keep_only is None or tensor.name in level.keep_only) for tensor in workload.tensors]
    for tensor in workload.tensors:
        ranks = [[(workload.dims.index(d), c) for d, c in rank if workload.bound(d) > 1] for rank in tensor.ranks]
        ranks = [rank for rank in ranks if rank]
        dims = [rank[0][0] for rank in ranks if len(rank) == 1 and rank[0][1] == 1]
        affine = [rank for rank in ranks if len(rank) > 1 or rank[0][1] > 1]
        table += [len(dims), *dims, len(affine)]
        for rank in affine:
            table.append(len(rank))
            table += [number for term in rank for number in term]
    if any(level.formats for level in levels):
        table[COMPRESSED] = len(table)
        table += [int(tensor.name in dict(level.formats)) for level in levels for tensor in workload.tensors]
        table += [number for tensor in workload.tensors for number in density_record(workload, tensor.name)]
    return np.array(table, np.int64)


@kernel
def held_words(table, s, t, words):  # type: ignore[no-untyped-def]
    """Words that the tile of tensor t takes at level s: of a compressed tile, those that can be other than zero."""
    compressed = table[COMPRESSED]
    levels, tensors = table[0], table[2]
    if compressed == 0 or table[compressed + s * tensors + t] == 0:
        return words
    return largest_occupancy(table, compressed + levels * tensors + t * RECORD, words)


@inlined_kernel
def rank_words(table, cursor, extents, s):  # type: ignore[no-untyped-def]
    """Words of the bounding box over some ranks, and where they end in the table.

    Args:
        table: int64[...], that has at the cursor the number of ranks, and for each its number of terms and the (dim,
            coefficient) pairs.
        cursor: where they begin in it.
        extents: float64[any, D], iterations of each dim.
        s: which row of them.
    """
    words = 1.0
    ranks = table[cursor]
    cursor += 1
    for _ in range(ranks):
        terms = table[cursor]
        cursor += 1
        length = 1.0
        for _ in range(terms):
            length += table[cursor + 1] * (extents[s, table[cursor]] - 1.0)
            cursor += 2
        words *= length
    return words, cursor


@inlined_kernel
def box_words(table, cursor, extents, s):  # type: ignore[no-untyped-def]
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
def _first_factor_below_one(i, temporal, spatial):  # type: ignore[no-untyped-def]
    for d in range(temporal.shape[2]):
        for s in range(temporal.shape[1]):
            if temporal[i, s, d] < 1 or spatial[i, s, d] < 1:
                return (FACTOR << 8) | d
    return LEGAL


@kernel
def legality_status(
    i: int,
    temporal: NDArray[np.int32],
    spatial: NDArray[np.int32],
    order: NDArray[np.int8],
    spatial_order: NDArray[np.int8],
    spatial_split: NDArray[np.int8],
    keep: NDArray[np.bool_],
    table: NDArray[np.int64],
    extents: NDArray[np.float64],
    tile_words: NDArray[np.float64],
) -> int:
    """Status of mapping i of a batch; the scratch arrays are left filled for a caller that goes on to price it.

    Takes whole arrays and an index because a view for each mapping would cost more than the checks.

    Args:
        i: which mapping.
        temporal, spatial, order, spatial_order, spatial_split, keep: arrays of a MappingBatch.
        table: from :func:`pack_rules`.
        extents: float64[L, D], receives the iterations of each dim that a tile of each level covers.
        tile_words: float64[L, T], receives the words of the bounding box of each tensor's tile at each level.
            Both hold whole numbers below 2**53, and are complete only if the status is legal.

    Returns:
        0 if legal, otherwise ``kind << 8 | index``.
    """
    levels, dims, tensors, per_level = table[0], table[1], table[2], table[3]
    bounds = HEADER
    capacity = bounds + dims
    mesh_x = capacity + levels
    mesh_y = mesh_x + levels
    fanout_x = mesh_y + levels
    fanout_y = fanout_x + levels
    may_keep = fanout_y + levels
    projections = may_keep + levels * tensors
    compressed = table[COMPRESSED]

    # A product of factors of at least 1 only grows, so one that passes 2**53 and is rounded cannot come back to a bound
    # below 2**31: float64 finds every wrong product, where int64 could wrap around to the right one.
    lowest = np.int32(1)
    parallel = np.int64(0)  # bit s: level s has a spatial factor above 1
    for d in range(dims):
        extents[0, d] = 1.0
    everything = (np.int64(1) << dims) - 1
    for s in range(levels):
        seen = np.int64(0)
        seen_spatial = np.int64(0)
        used = 1.0
        for d in range(dims):
            tile, span = temporal[i, s, d], spatial[i, s, d]
            lowest = min(lowest, tile, span)
            extents[s, d] *= np.float64(tile) * np.float64(span)
            used *= span
            # As unsigned numbers, entries below 0 are too large as well; bit 63 stands for all that are.
            seen |= np.int64(1) << np.int64(min(np.uint8(order[i, s, d]), np.uint8(63)))
            seen_spatial |= np.int64(1) << np.int64(min(np.uint8(spatial_order[i, s, d]), np.uint8(63)))
        parallel |= np.int64(used > 1.0) << s
        if lowest < 1:
            return _first_factor_below_one(i, temporal, spatial)
        if seen != everything or seen_spatial != everything or not 0 <= spatial_split[i, s] <= dims:
            return (ORDER << 8) | s
        if s + 1 < levels:
            for d in range(dims):
                extents[s + 1, d] = extents[s, d]
    for d in range(dims):
        if extents[levels - 1, d] != table[bounds + d]:
            return (PRODUCT << 8) | d

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
            elif s == levels - 1 and per_level:
                return (KEEP << 8) | s

    total_x = np.int64(1)
    total_y = np.int64(1)
    for s in range(levels):
        if (parallel >> s) & 1:
            for position in range(dims):
                p = np.int64(spatial[i, s, spatial_order[i, s, position]])
                on_x = position < spatial_split[i, s]
                total_x *= p if on_x else 1
                total_y *= 1 if on_x else p
    # The number of MACs is the product of both sides of the mesh, so it needs no check of its own.
    if total_x > table[4] or total_y > table[5]:
        return MAC_FANOUT << 8

    outer_x = total_x
    outer_y = total_y
    for s in range(levels):
        need = 0.0
        cursor = projections
        for t in range(tensors):
            words, cursor = box_words(table, cursor, extents, s)
            tile_words[s, t] = words
            if keep[i, s, t]:
                need += words if compressed == 0 else held_words(table, s, t, np.int64(words))
        if need > table[capacity + s]:
            return (CAPACITY << 8) | s
        used_x = np.int64(1)
        used_y = np.int64(1)
        if (parallel >> s) & 1:
            for position in range(dims):
                p = np.int64(spatial[i, s, spatial_order[i, s, position]])
                on_x = position < spatial_split[i, s]
                used_x *= p if on_x else 1
                used_y *= 1 if on_x else p
            outer_x //= used_x
            outer_y //= used_y
        if outer_x > table[mesh_x + s] or outer_y > table[mesh_y + s]:
            return (MESH_FANOUT << 8) | s
        if per_level and (used_x > table[fanout_x + s] or used_y > table[fanout_y + s]):
            return (LEVEL_FANOUT << 8) | s
    return LEGAL


@allocating_kernel
def _batch_status(
    temporal: NDArray[np.int32],
    spatial: NDArray[np.int32],
    order: NDArray[np.int8],
    spatial_order: NDArray[np.int8],
    spatial_split: NDArray[np.int8],
    keep: NDArray[np.bool_],
    table: NDArray[np.int64],
    out: NDArray[np.int32],
) -> None:
    extents = np.empty((table[0], table[1]))
    tile_words = np.empty((table[0], table[2]))
    for i in range(len(temporal)):
        out[i] = legality_status(
            i, temporal, spatial, order, spatial_order, spatial_split, keep, table, extents, tile_words
        )


def batch_status(batch: MappingBatch, table: NDArray[np.int64]) -> NDArray[np.int32]:
    """int32[n]: the status of every mapping of a batch; table is from :func:`pack_rules`.

    Raises:
        SpecificationError: the batch has other numbers of levels, dims or tensors than the table.
    """
    shape = (*batch.temporal.shape[1:], batch.keep.shape[2])
    if shape != tuple(table[:3]):
        raise SpecificationError(
            f"the mappings have {shape[0]} levels, {shape[1]} dims and {shape[2]} tensors, but the workload and "
            f"accelerator have {table[0]}, {table[1]} and {table[2]}; build them for this pair"
        )
    out = np.empty(len(batch), np.int32)
    arguments: tuple[Any, ...] = (*batch.arrays(), table, out)
    _batch_status(*arguments)
    return out


@kernel
def _first_disorder(order: NDArray[np.int8], spatial_order: NDArray[np.int8], spatial_split: NDArray[np.int8]) -> int:
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


def require_orders(batch: MappingBatch, what: str = "mapping {} of the batch") -> None:
    """Raises SpecificationError unless all orders of a batch are permutations of the dims and all splits in range.

    The door to every kernel that uses an order as an index: the arrays of a batch can be written to after it was made.

    Args:
        batch: any mappings.
        what: for the message, with a place for the index of the mapping.
    """
    arrays: tuple[Any, ...] = (batch.order, batch.spatial_order, batch.spatial_split)
    i = int(_first_disorder(*arrays))
    if i >= 0:
        every = np.arange(batch.order.shape[2])
        for name in ("order", "spatial_order"):
            if not (np.sort(getattr(batch, name)[i], axis=1) == every).all():
                raise SpecificationError(
                    f"{what.format(i)}: {name} is not a permutation of the dims; list each dim of a level once"
                )
        raise SpecificationError(f"{what.format(i)}: spatial_split is out of range; give 0 to {len(every)}")


def require_task(batch: MappingBatch | Mapping, workload: Workload, accelerator: Accelerator) -> None:
    """Raises SpecificationError if mappings are of another task: their dims, levels or tensors have other names."""
    expected = (workload.dims, accelerator.level_names, tuple(tensor.name for tensor in workload.tensors))
    for what, theirs, ours in zip(("dims", "levels", "tensors"), batch.names, expected, strict=True):
        if theirs != ours:
            raise SpecificationError(
                f"the mapping has the {what} {', '.join(theirs)}, but {quoted(workload.name)} on "
                f"{quoted(accelerator.name)} has {', '.join(ours)}; build the mapping for this task"
            )


def reason(status: int, workload: Workload, accelerator: Accelerator, mapping: Mapping) -> str:
    """One sentence that says what is wrong with a mapping and what to change; "" if the status is legal.

    Args:
        status: from :func:`batch_status` or the cost model.
        workload, accelerator, mapping: what the status is about.
    """
    kind, index = int(status) >> 8, int(status) & 255
    if kind == LEGAL:
        return ""
    if kind in (PRODUCT, FACTOR):
        dim, bound = workload.dims[index], workload.bounds[index]
        if kind == FACTOR:
            return f"a factor of dim {dim} is below 1; every factor is a whole number of at least 1"
        product = _product(mapping.temporal[:, index]) * _product(mapping.spatial[:, index])
        return f"the factors of dim {dim} multiply to {product} instead of its bound {bound}; change one of them"
    if kind == KEPT_NOWHERE:
        return f"tensor {workload.tensors[index].name} is kept nowhere; keep it at {accelerator.level_names[-1]}"
    if kind == MAC_FANOUT:
        used, mac = _used_parallelism(mapping, 0), accelerator.mac
        return (
            f"parallelism of {_mesh(used)} exceeds the {_mesh((mac.mesh_x, mac.mesh_y))} MACs of {mac.name}; "
            "move a spatial factor to a temporal one"
        )
    level = accelerator.levels[index]
    if kind == ORDER:
        return f"an order of {level.name} is not a permutation of the dims; list each dim once"
    if kind == KEEP:
        return _keep_reason(index, workload, accelerator, mapping)
    if kind == CAPACITY:
        extents = np.prod(mapping.temporal[: index + 1].astype(np.int64) * mapping.spatial[: index + 1], axis=0)
        tile = dict(zip(workload.dims, map(int, extents), strict=True))
        table = pack_rules(workload, accelerator)
        words = sum(
            held_words(table, index, t, tensor.tile_size(tile))
            for t, tensor in enumerate(workload.tensors)
            if mapping.keep[index, t]
        )
        return (
            f"tile of {words} words exceeds the {level.capacity_words} words of {level.name}; "
            "move a factor outwards or bypass a tensor"
        )
    if kind == METADATA:
        return (
            f"the metadata of the compressed tiles do not fit {level.name}, or a tile has more loops than its format "
            "has ranks; move a factor outwards or give the level more metadata_capacity_bits or ranks"
        )
    if kind == FORMATS:
        return _formats_reason(index, workload, accelerator, mapping)
    if kind == MESH_FANOUT:
        used = _used_parallelism(mapping, index + 1)
        return (
            f"parallelism of {_mesh(used)} above {level.name} exceeds its {_mesh((level.mesh_x, level.mesh_y))} "
            "instances; move a spatial factor to a temporal one"
        )
    used = _used_parallelism(mapping, index, index + 1)
    fanout = (accelerator.fanout_x[index], accelerator.fanout_y[index])
    return (
        f"parallelism of {_mesh(used)} at {level.name} exceeds its fan-out of {_mesh(fanout)}; "
        "move a spatial factor to a temporal one"
    )


def max_parallelism(bounds: Sequence[int], accelerator: Accelerator) -> int:
    """The largest product of spatial factors that divide the bounds and fit the MAC mesh, each axis by itself.

    An upper limit for any mapping: fan-outs of single levels, and capacities, may allow less.

    Args:
        bounds: of the dims that may be parallel.
        accelerator: whose mesh it is.
    """
    mesh_x, mesh_y = accelerator.mac.mesh_x, accelerator.mac.mesh_y
    reachable = {(1, 1)}
    for bound in bounds:
        options = [(x, y) for x in divisors(bound) if x <= mesh_x for y in divisors(bound // x) if y <= mesh_y]
        reachable = {
            (used_x * x, used_y * y)
            for used_x, used_y in reachable
            for x, y in options
            if used_x * x <= mesh_x and used_y * y <= mesh_y
        }
    return max(x * y for x, y in reachable)


def _keep_reason(index: int, workload: Workload, accelerator: Accelerator, mapping: Mapping) -> str:
    level = accelerator.levels[index]
    for tensor, kept in zip(workload.tensors, mapping.keep[index], strict=True):
        if kept and level.keep_only is not None and tensor.name not in level.keep_only:
            held = ", ".join(level.keep_only) or "nothing"
            return f"{level.name} keeps {tensor.name} but may hold only {held}; bypass it there"
    missing = [t.name for t, kept in zip(workload.tensors, mapping.keep[index], strict=True) if not kept]
    return f"the outermost level {level.name} bypasses {', '.join(missing)}; keep every tensor there"


def _formats_reason(inner: int, workload: Workload, accelerator: Accelerator, mapping: Mapping) -> str:
    for t in np.flatnonzero(mapping.keep[inner]):
        tensor = workload.tensors[t]
        for outer in np.flatnonzero(mapping.keep[inner + 1 :, t])[:1] + inner + 1:
            why = clash(accelerator.levels, int(outer), inner, tensor.name, tensor.is_output)
            if why:
                return why
    raise AssertionError("no two levels clash")


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


def _product(factors: NDArray[Any]) -> int:
    product = 1
    for factor in factors:
        product *= int(factor)
    return product


def _used_parallelism(mapping: Mapping, first: int, last: int | None = None) -> tuple[int, int]:
    """Products of the spatial factors of levels first..last-1 on X and on Y."""
    used = [1, 1]
    for level in range(first, len(mapping.levels) if last is None else last):
        for axis, loops in enumerate(mapping.spatial_axes(level)):
            for _, factor in loops:
                used[axis] *= factor
    return used[0], used[1]


def _mesh(sides: tuple[int, int]) -> str:
    return f"{sides[0]} x {sides[1]}"
