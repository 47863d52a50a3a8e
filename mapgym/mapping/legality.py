"""Which mappings the hardware can run, and the reasons in words.

The rules are Timeloop's (factors multiply to the bounds, no tensor is bypassed everywhere, parallelism fits the
meshes, tiles fit the capacities), plus three of ours: a level holds only the tensors of its ``keep_only`` and, unless
the accelerator asks for Timeloop's own verdicts by ``fanout_check: cumulative``, the outermost level holds every tensor
and the parallelism of each level fits that level's own fan-out on each mesh side.

The rules are checked in :mod:`mapgym.mapping.legality_kernels`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.mapping.legality_kernels import (
    CAPACITY,
    FACTOR,
    FORMATS,
    KEEP,
    KEPT_NOWHERE,
    LEGAL,
    MAC_FANOUT,
    MESH_FANOUT,
    METADATA,
    ORDER,
    PRODUCT,
    UTILIZATION,
    first_disorder,
    held_words,
    pack_rules,
    status_of_batch,
)
from mapgym.mapping.mapping import divisors
from mapgym.spec.format_rules import clash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mapgym.mapping.mapping import Mapping, MappingBatch
    from mapgym.spec.accelerator import Accelerator
    from mapgym.spec.workload import Workload


def batch_status(batch: MappingBatch, table: NDArray[np.int64]) -> NDArray[np.int32]:
    """int32[n]: the status of every mapping of a batch; table is from :func:`pack_rules`.

    Raises:
        SpecificationError: the batch has other numbers of levels, dims or tensors than the table.
    """
    require_sizes(batch, table)
    out = np.empty(len(batch), np.int32)
    status_of_batch(batch.arrays(), table, out)
    return out


def require_sizes(batch: MappingBatch, table: NDArray[np.int64]) -> None:
    """Raises SpecificationError if a batch has other numbers of levels, dims or tensors than a table of rules."""
    shape = (*batch.temporal.shape[1:], batch.keep.shape[2])
    if shape != tuple(table[:3].tolist()):
        raise SpecificationError(
            f"the mappings have {shape[0]} levels, {shape[1]} dims and {shape[2]} tensors, but the workload and "
            f"accelerator have {table[0]}, {table[1]} and {table[2]}; build them for this pair"
        )


def require_orders(batch: MappingBatch, what: str = "mapping {} of the batch") -> None:
    """Raises SpecificationError unless all orders of a batch are permutations of the dims and all splits in range.

    The door to every kernel that uses an order as an index: the arrays of a batch can be written to after it was made.

    Args:
        batch: any mappings.
        what: for the message, with a place for the index of the mapping.
    """
    arrays: tuple[Any, ...] = (batch.order, batch.spatial_order, batch.spatial_split)
    i = int(first_disorder(*arrays))
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
    accelerator = accelerator.for_workload(workload)
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
        extents = np.cumprod(mapping.temporal * mapping.spatial.astype(np.float64), axis=0).astype(np.float64)
        tile = dict(zip(workload.dims, map(int, extents[index]), strict=True))
        table = pack_rules(workload, accelerator)
        words = sum(
            int(held_words(table, index, t, tensor.tile_size(tile), extents))
            for t, tensor in enumerate(workload.tensors)
            if mapping.keep[index, t]
        )
        return (
            f"tile of {words} words exceeds the {level.usable_words} words of {level.name}; "
            "move a factor outwards or bypass a tensor"
        )
    if kind == UTILIZATION:
        return (
            f"the tiles fill less than {level.minimum_utilization:.0%} of {level.name}, its minimum_utilization; move "
            "a factor inwards or keep another tensor there"
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
    """The largest product of spatial factors that divide the bounds and fit the MAC mesh, each side by itself.

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


def _product(factors: NDArray[Any]) -> int:
    product = 1
    for factor in factors:
        product *= int(factor)
    return product


def _used_parallelism(mapping: Mapping, first: int, last: int | None = None) -> tuple[int, int]:
    """Products of the spatial factors of levels first..last-1 on X and on Y."""
    used = [1, 1]
    for level in range(first, len(mapping.levels) if last is None else last):
        for side, loops in enumerate(mapping.spatial_sides(level)):
            for _, factor in loops:
                used[side] *= factor
    return used[0], used[1]


def _mesh(sides: tuple[int, int]) -> str:
    return f"{sides[0]} x {sides[1]}"
