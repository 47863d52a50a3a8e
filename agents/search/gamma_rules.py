"""What the operators of the genetic search may change in a given map space."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.search.gamma_operators import SPATIAL, TEMPORAL, Rules
from mapgym.mapspace import MapSpace

UNLIMITED = 2**62


def make_rules(space: MapSpace, weights: NDArray[np.float64]) -> Rules:
    """Packs the freedom that a map space leaves.

    Args:
        space: the map space.
        weights: float64[7], weight of each mutation; those of axes that are not searched do not count.
    """
    workload, accelerator = space.workload, space.accelerator
    levels, dims = len(accelerator.levels), len(workload.dims)
    searched = {axis: axis in space.axes for axis in ("tile", "order", "parallelism", "bypass")}
    fanout = np.array([accelerator.fanout_x, accelerator.fanout_y], np.int64).T.copy()
    inner = (accelerator.mac, *accelerator.levels[:-1])
    reach = np.array([[part.mesh_x, part.mesh_y] for part in inner], np.int64)
    free = np.zeros((levels, dims, 2), np.bool_)
    movable = searched["tile"] or searched["parallelism"]
    free[:, :, TEMPORAL] = movable
    free[:, :, SPATIAL] = searched["parallelism"]
    return Rules(
        free=free,
        tile=searched["tile"],
        parallelism=searched["parallelism"],
        order_free=np.full(levels, searched["order"]),
        spatial_order=searched["order"] and accelerator.peer_links,
        base_spatial_order=space.base.spatial_order,
        keep_free=_free_keeps(space) if searched["bypass"] else np.zeros((levels, len(workload.tensors)), np.bool_),
        primes=_primes(workload.bounds),
        relevant=np.array([[dim in tensor.dims for tensor in workload.tensors] for dim in workload.dims]),
        limits=fanout if accelerator.fanout_check == "per_level" else np.full_like(fanout, UNLIMITED),
        reach=reach,
        least_parallelism=1,
        weights=_cumulative(weights, searched),
    )


def _free_keeps(space: MapSpace) -> NDArray[np.bool_]:
    """Keep bits that may be flipped: not those of the outermost level, nor of tensors that a level may not hold."""
    free = [
        [level.keep_only is None or tensor.name in level.keep_only for tensor in space.workload.tensors]
        for level in space.accelerator.levels[:-1]
    ]
    return np.array([*free, [False] * len(space.workload.tensors)])


def _cumulative(weights: NDArray[np.float64], searched: dict[str, bool]) -> NDArray[np.float64]:
    """Cumulative probabilities of the mutations that some searched axis allows."""
    tile, space, order, bypass = (searched[axis] for axis in ("tile", "parallelism", "order", "bypass"))
    usable = np.array([tile or space, tile or space, space, tile or space, tile, order, bypass])
    weights = np.where(usable, weights, 0.0)
    if not weights.any():
        weights = usable.astype(np.float64)
    return np.cumsum(weights) / weights.sum()


def _primes(bounds: tuple[int, ...]) -> NDArray[np.int64]:
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
