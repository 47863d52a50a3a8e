"""Transfer of a mapping to another workload, or to another accelerator with as many storage levels.

The paper's warm start inherits order and parallelism, and scales tile sizes so that their products are the new bounds
(section 5, as recollected, unverified). Here, what is inherited becomes a wish, and the map space answers with its
nearest member (:mod:`mapgym.mapspace.projection`): orders, parallel factors, kept tensors and the tiles of inner levels
are those of the source as far as the new bounds and the hardware allow, the outermost level takes the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.mapping import Mapping, MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.mapspace.projection import Target, mesh_sides
from mapgym.spec.tensor import Tensor
from mapgym.spec.workload import Workload


def match_tensors(source: Workload, target: Workload) -> list[int]:
    """For each tensor of the target, the index of the one that plays its part in the source; -1 if none does.

    Outputs match each other, operands match by name, and the operands left over in their order.
    """
    matches = [-1] * len(target.tensors)
    free = [k for k, tensor in enumerate(source.tensors) if not tensor.is_output]
    operands = []
    for t, tensor in enumerate(target.tensors):
        if tensor.is_output:
            matches[t] = source.tensors.index(source.output)
            continue
        named = [k for k in free if source.tensors[k].name == tensor.name]
        if named:
            matches[t] = named[0]
            free.remove(named[0])
        else:
            operands.append(t)
    for t, k in zip(operands, free, strict=False):
        matches[t] = k
    return matches


def match_dims(source: Workload, target: Workload) -> list[int]:
    """For each dim of the target, the index of the dim that plays its part in the source; -1 if none does.

    A dim plays the part of another if the same tensors depend on it. Among those, equal names match, then the largest
    bounds: a matrix product's K takes the place of a convolution's C, its M that of N, P or Q, its N that of M.
    """
    return list(_matched_dims(source, target))


@lru_cache(maxsize=4096)
def _matched_dims(source: Workload, target: Workload) -> tuple[int, ...]:
    """As :func:`match_dims`; the layers of a network come up together again and again."""
    tensors = match_tensors(source, target)
    roles = _roles(target.dims, target.tensors)
    source_roles = _roles(source.dims, [source.tensors[k] if k >= 0 else None for k in tensors])
    matches, free = [-1] * len(target.dims), set(range(len(source.dims)))
    by_bound = sorted(range(len(target.dims)), key=lambda d: -target.bounds[d])
    for same_name in (True, False):
        for d in by_bound:
            candidates = [e for e in free if source_roles[e] == roles[d]]
            if same_name:
                candidates = [e for e in candidates if source.dims[e] == target.dims[d]]
            if matches[d] < 0 and candidates:
                matches[d] = max(candidates, key=lambda e: (source.bounds[e], -e))
                free.remove(matches[d])
    return tuple(matches)


def _roles(dims: Sequence[str], tensors: Sequence[Tensor | None]) -> list[tuple[bool, ...]]:
    """For each dim, which tensors depend on it."""
    depending = [() if tensor is None else tensor.dims for tensor in tensors]
    return [tuple(dim in those for those in depending) for dim in dims]


def target_for(batch: MappingBatch, source: Workload, target: Workload) -> Target:
    """What mappings of the source ask for in terms of the target's dims and tensors.

    A dim without a counterpart has all its factors 1 and comes last in every order; a tensor without one is kept.
    """
    dims, tensors = np.array(match_dims(source, target)), np.array(match_tensors(source, target))
    known = dims >= 0

    def factors(array: NDArray[np.int32]) -> NDArray[np.float64]:
        return np.where(known, array[:, :, dims], 1).astype(np.float64)

    def orders(array: NDArray[np.int8]) -> NDArray[np.int8]:
        places = np.argsort(array, axis=2, kind="stable")
        ranks = np.where(known, places[:, :, dims], len(source.dims))
        return np.argsort(ranks, axis=2, kind="stable").astype(np.int8)

    return Target(
        factors(batch.temporal),
        factors(batch.spatial),
        orders(batch.order),
        orders(batch.spatial_order),
        known & mesh_sides(batch)[:, :, dims],
        (tensors < 0) | batch.keep[:, :, tensors],
    )


def transfer_batch(batch: MappingBatch, source: Workload, space: MapSpace) -> tuple[MappingBatch, NDArray[np.bool_]]:
    """Transfers n mappings of one workload.

    Args:
        batch: mappings of the source onto an accelerator with as many levels as the space's, level by level.
        source: their workload.
        space: where they go.

    Returns:
        n mappings, and bool[n], whether each is in the space; see :meth:`mapgym.MapSpace.fit`.

    Raises:
        SpecificationError: the number of levels differs, the batch is not one of the source, or an order is no
            permutation of its dims.
    """
    levels = len(space.accelerator.levels)
    if len(batch.levels) != levels:
        raise SpecificationError(
            f"a mapping onto {len(batch.levels)} storage levels cannot be transferred to the {levels} levels of "
            f"accelerator {quoted(space.accelerator.name)}; start from a mapping onto an accelerator with {levels} "
            "levels"
        )
    if batch.dims != source.dims or len(batch.tensors) != len(source.tensors):
        raise SpecificationError(
            f"the mappings are not mappings of workload {quoted(source.name)}: their dims are {', '.join(batch.dims)}; "
            "give the workload that they map"
        )
    return space.project(target_for(batch, source, space.workload))


def transfer(mapping: Mapping, source: Workload, space: MapSpace) -> Mapping:
    """Transfers one mapping; see :func:`transfer_batch`.

    Raises:
        SpecificationError: it cannot be transferred; the message says why.
    """
    batch, fits = transfer_batch(mapping.batch(), source, space)
    if not fits[0]:
        why = space.reason(batch[0]) or "it would use less parallelism than the constraints ask for"
        raise SpecificationError(
            f"the mapping of {quoted(source.name)} cannot be transferred to {quoted(space.workload.name)} on "
            f"{quoted(space.accelerator.name)}: {why}"
        )
    return batch[0]
