"""What the operators of the genetic search may change in a given map space."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.search.gamma.operator_kernels import (
    FREE_KEEP,
    FREE_ORDER,
    FREE_SPATIAL,
    FREE_TEMPORAL,
    LIMIT,
    REACH,
    SPATIAL,
    SPATIAL_ORDER_KEY,
    TEMPORAL,
    Rules,
)
from mapgym.errors import SpecificationError
from mapgym.mapspace import MapSpace

UNLIMITED = 2**62


def make_rules(space: MapSpace, weights: NDArray[np.float64]) -> Rules:
    """Packs the entries that a map space leaves.

    Args:
        space: the map space.
        weights: float64[7], weight of each mutation; those of axes that are not searched do not count.

    Raises:
        SpecificationError: no mutation of a searched axis has a weight above 0.
    """
    workload, accelerator, entries = space.workload, space.accelerator, space.entries
    levels, dims, tensors = len(accelerator.levels), len(workload.dims), len(workload.tensors)
    inner_meshes = [(level.mesh_x, level.mesh_y) for level in accelerator.levels[:-1]]
    planes = np.zeros((7, levels, max(dims, tensors, 2)), np.int64)
    planes[FREE_TEMPORAL, :, :dims] = entries.fixed[:levels] == 0
    planes[FREE_SPATIAL, :, :dims] = entries.fixed[levels:] == 0
    planes[FREE_KEEP, :, :tensors] = entries.keep_free
    planes[FREE_ORDER, :, TEMPORAL] = entries.order_free
    planes[FREE_ORDER, :, SPATIAL] = entries.spatial_order_free
    planes[SPATIAL_ORDER_KEY, :, :dims] = entries.spatial_order_key
    planes[LIMIT, :, :2] = _limits(space)
    planes[REACH, :, :2] = [(accelerator.mac.mesh_x, accelerator.mac.mesh_y), *inner_meshes]
    tile, parallelism, order, bypass = (axis in space.axes for axis in ("tile", "parallelism", "order", "bypass"))
    factors = tile or parallelism
    return Rules(
        levels=planes,
        primes=_primes(workload.bounds),
        relevant=np.array([[dim in tensor.dims for tensor in workload.tensors] for dim in workload.dims]),
        weights=cumulative_weights(weights, [factors, factors, parallelism, factors, tile, order, bypass], space.axes),
        tile=tile,
        parallelism=parallelism,
        least_parallelism=entries.min_used_macs,
    )


def _limits(space: MapSpace) -> NDArray[np.int64]:
    """int64[level, 2]: what the spatial factors of a level may multiply to on X and on Y."""
    fanout = np.array([space.accelerator.fanout_x, space.accelerator.fanout_y], np.int64).T.copy()
    if space.accelerator.fanout_check == "cumulative":
        # Products over levels are limited (REACH), but an axis without any fan-out still holds no loops.
        fanout[fanout > 1] = UNLIMITED
    return fanout


def cumulative_weights(
    weights: NDArray[np.float64], usable: Sequence[bool], axes: Sequence[str]
) -> NDArray[np.float64]:
    """Cumulative probabilities of mutations.

    Args:
        weights: float64[k], at least 0.
        usable: k times whether some searched axis allows the mutation; the weights of the others do not count.
        axes: the searched axes, for the message.

    Raises:
        SpecificationError: no mutation is left.
    """
    weights = np.where(usable, weights, 0.0)
    if not weights.any():
        raise SpecificationError(
            f"no mutation of the axes {', '.join(axes)} has a weight above 0; give one that changes them a weight"
        )
    return np.cumsum(weights) / weights.sum()


def _primes(bounds: tuple[int, ...]) -> NDArray[np.int64]:
    """int64[dim, k]: the distinct primes of each bound, padded with 0."""
    lists = []
    for bound in bounds:
        primes, left = [], bound
        for candidate in range(2, math.isqrt(bound) + 1):
            if left % candidate == 0:
                primes.append(candidate)
                while left % candidate == 0:
                    left //= candidate
        lists.append(primes + ([left] if left > 1 else []))
    width = max(1, *map(len, lists))
    return np.array([primes + [0] * (width - len(primes)) for primes in lists], np.int64)
