"""What the operators of the genetic search may change in a given map space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.base import Agent
from mapgym.agents.search.gamma.genome import SPATIAL, TEMPORAL
from mapgym.errors import SpecificationError
from mapgym.mapping.legality_kernels import mesh_limits
from mapgym.mapspace import MapSpace

FREE_TEMPORAL, FREE_SPATIAL, FREE_KEEP, FREE_ORDER, SPATIAL_ORDER_KEY, LIMIT, REACH = range(7)
"""Planes of ``Rules.levels``, int64[7, level, ...].

FREE_TEMPORAL, FREE_SPATIAL: [dim] whether a factor may change. FREE_KEEP: [tensor] whether a keep bit may. FREE_ORDER:
[2] whether the temporal and the spatial loops may be swapped. SPATIAL_ORDER_KEY: [dim] the order of the spatial loops
where they may not. LIMIT: [2] largest product of the spatial factors of the level on X and on Y. REACH: [2] the same
for the level and all outer ones together.
"""

FACTORS = ("tile", "parallelism")
"""The axes that change factors."""


class Rules(NamedTuple):
    """What the operators may do in a map space."""

    levels: NDArray[np.int64]  # see above
    primes: NDArray[np.int64]  # [dim, k] distinct primes of each bound, padded with 0
    relevant: NDArray[np.bool_]  # [dim, tensor] whether the size of a tensor's tile depends on the dim
    tile: bool  # primes may move between levels, otherwise only between time and space within a level
    parallelism: bool  # the parallelism axis is searched
    least_parallelism: int  # MACs that have to be in use


def make_rules(space: MapSpace) -> Rules:
    """Packs what a map space leaves open."""
    workload, accelerator, entries = space.workload, space.accelerator, space.entries
    levels, dims, tensors = len(accelerator.levels), len(workload.dims), len(workload.tensors)
    planes = np.zeros((7, levels, max(dims, tensors, 2)), np.int64)
    planes[FREE_TEMPORAL, :, :dims] = entries.fixed[:levels] == 0
    planes[FREE_SPATIAL, :, :dims] = entries.fixed[levels:] == 0
    planes[FREE_KEEP, :, :tensors] = entries.keep_free
    planes[FREE_ORDER, :, TEMPORAL] = entries.order_free
    planes[FREE_ORDER, :, SPATIAL] = entries.spatial_order_free
    planes[SPATIAL_ORDER_KEY, :, :dims] = entries.spatial_order_key
    planes[LIMIT, :, :2], planes[REACH, :, :2] = mesh_limits(accelerator)
    return Rules(
        levels=planes,
        primes=space.edit_tables.primes,
        relevant=np.array([[dim in tensor.dims for tensor in workload.tensors] for dim in workload.dims]),
        tile="tile" in space.axes,
        parallelism="parallelism" in space.axes,
        least_parallelism=entries.min_used_macs,
    )


def mutation_weights(agent: Agent, mutations: Mapping[str, Sequence[str]], axes: Sequence[str]) -> NDArray[np.float64]:
    """Cumulative probabilities of mutations.

    Args:
        agent: has the weight of each mutation, at least 0, as a parameter of that name.
        mutations: in order, and the axes of which one has to be searched for it; the weights of others do not count.
        axes: the searched ones.

    Raises:
        SpecificationError: no mutation is left.
    """
    weights = np.array([getattr(agent, name) * any(axis in axes for axis in on) for name, on in mutations.items()])
    if not weights.any():
        raise SpecificationError(
            f"no mutation of the axes {', '.join(axes)} has a weight above 0; give one that changes them a weight"
        )
    return np.cumsum(weights) / weights.sum()
