"""Better orders and single edits for a mapping: with peer links the formulas alone do not single out the best."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from mapgym.cost.model import CostModel
from mapgym.mapping import Mapping, MappingBatch
from mapgym.mapspace import MapSpace

_MAX_ROUNDS = 200


def polish(space: MapSpace, model: CostModel, mapping: Mapping, objective: str, rounds: int = _MAX_ROUNDS) -> Mapping:
    """The best of the mapping's variants by order, then of single edits, until none is better.

    Args:
        space: what the result has to belong to; so must ``mapping``.
        model: prices.
        mapping: where to start.
        objective: what to minimise.
        rounds: how many times to go to the best neighbour, at most.
    """
    batch = order_variants(space, mapping)
    values = model.evaluate(batch).objective(objective)
    best, value = batch[int(np.argmin(values))], float(values.min())
    for _ in range(rounds):
        batch = space.neighbors(best)
        if not len(batch):
            break
        values = model.evaluate(batch).objective(objective)
        i = int(np.argmin(values))
        if values[i] >= value:
            break
        best, value = batch[i], float(values[i])
    return best


def order_variants(space: MapSpace, mapping: Mapping) -> MappingBatch:
    """The mapping with other orders of the innermost level's loops and of all spatial loops, itself included.

    Links depend on which loops come first: each dim, and all dims that a tensor does not depend on, are tried there.
    """
    entries, workload = space.entries, space.workload
    dims = len(workload.dims)
    firsts = [[d] for d in range(dims)]
    for tensor in workload.tensors:
        firsts.append([d for d, dim in enumerate(workload.dims) if dim not in tensor.dims])
    orders = _leading(firsts, mapping.order[0], mapping.temporal[0]) if entries.order_free[0] else [mapping.order[0]]
    by_level = []
    for level in range(len(space.accelerator.levels)):
        free = entries.spatial_order_free[level] and (mapping.spatial[level] > 1).sum() > 1
        given = mapping.spatial_order[level]
        by_level.append(_leading(firsts, given, mapping.spatial[level]) if free else [given])
    choices = list(itertools.product(orders, *by_level))
    batch = MappingBatch.concatenate([mapping.batch()] * len(choices))
    for i, (order, *spatial) in enumerate(choices):
        batch.order[i, 0] = order
        for level, chosen in enumerate(spatial):
            split = int(mapping.spatial_split[level])
            on_x = set(mapping.spatial_order[level][:split].tolist())
            batch.spatial_order[i, level] = [d for d in chosen if d in on_x] + [d for d in chosen if d not in on_x]
    inside = np.flatnonzero(space.contains(batch))
    return batch[inside] if len(inside) else mapping.batch()


def _leading(firsts: list[list[int]], order: NDArray[np.int8], factors: NDArray[np.int32]) -> list[NDArray[np.int8]]:
    """The order with each of the given sets of dims first, those with a factor of 1 aside; without repetitions."""
    found = {}
    for first in [[], *firsts]:
        lead = [d for d in order.tolist() if d in first and factors[d] > 1]
        full = lead + [d for d in order.tolist() if d not in lead]
        found[tuple(d for d in full if factors[d] > 1)] = np.array(full, np.int8)
    return list(found.values())
