"""A map space of any depth as flat arrays.

A mapping is, for each dim, a chain of extents that divide each other

    spatial of level 0 | extent 0 | block 1 | extent 1 | ... | bound

where block s is extent s - 1 times the spatial factor of level s; and the orders of the temporal loops of all levels
but the innermost one. Boundary s lies between level s and the tile of level s - 1 below it, boundary 0 above the MACs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.cost.optimum.problem import (
    active_dims,
    describe_workload,
    fixed_places,
    kept_choices,
    spatial_factors,
    word_energies,
)
from mapgym.spec.accelerator import Accelerator

if TYPE_CHECKING:
    from mapgym.mapspace import MapSpace


class Problem(NamedTuple):
    """What the kernels need (S levels, D dims with bounds above 1, T tensors, V the largest number of divisors)."""

    bounds: NDArray[np.int64]  # [D]
    counts: NDArray[np.int64]  # [D] number of divisors
    divisors: NDArray[np.int64]  # [D, V] ascending
    position: NDArray[np.int32]  # [D, largest bound + 1] index of a divisor
    stride: NDArray[np.int64]  # [D + 1] of the lattice of tiles; the last entry counts the tiles
    group: NDArray[np.int64]  # [D] the tensor that the dim is irrelevant to; T if it is relevant to all
    role: NDArray[np.int64]  # [T, D] IRRELEVANT, PINNED, or the number of a rank with two terms
    coefficient: NDArray[np.int64]  # [T, D]
    partner: NDArray[np.int64]  # [T, D] the other dim of its rank, -1 without
    key: NDArray[np.int64]  # [T, D] step of one iteration, as one number for all ranks
    words: NDArray[np.float64]  # [T] of the whole tensors
    serve: NDArray[np.float64]  # [S, T] pJ for each word that a level gives to what is below it
    fill: NDArray[np.float64]  # [S, T] pJ for each word that it receives from outside
    first_read: NDArray[np.float64]  # [S, T] pJ that the first visit of a word saves of reads; 0 for operands
    first_fill: NDArray[np.float64]  # [S, T] pJ that it saves of fills
    hop: NDArray[np.float64]  # [S] pJ of the network below each level: for a word and hop
    router: NDArray[np.float64]  # [S] for a word and router
    ingress: NDArray[np.float64]  # [S] for a word that enters
    twice: NDArray[np.bool_]  # [S, T] whether partial sums travel the network below the level both ways
    hops_on_grid: bool
    leak: NDArray[np.float64]  # [S] pJ per cycle and instance
    gate: NDArray[np.int64]  # [S] the level whose instances switch those of this one
    fed: NDArray[np.float64]  # [S] instances that one of the gate switches
    clusters: NDArray[np.float64]  # [S] most instances that are charged for an access
    capacity: NDArray[np.float64]  # [S] words
    mesh: NDArray[np.int64]  # [S, 2] fan-out along X and Y
    allowed: NDArray[np.bool_]  # [S, D, V] whether fixed factors leave an extent of a level
    temporal: NDArray[np.int64]  # [S, D] fixed temporal factor of each level, 0 if free
    place: NDArray[np.int64]  # [S, D] place in the fixed order of a level's loops; -1 if the order is free
    mac_energy: float  # pJ of all MACs
    macs: float
    reuse_survives_stationary_steps: bool


@dataclass(frozen=True, eq=False)
class Task:
    """A problem, and how its solutions are mappings of a space.

    Attributes:
        space: where the optimum is looked for.
        problem: its arrays.
        dims: index of each dim of the problem among those of the workload.
        keeps: of each level, bool[n, T]: what it may keep.
        options: of each level, int64[n, D]: spatial factors that fit its fan-out.
    """

    space: MapSpace
    problem: Problem
    dims: tuple[int, ...]
    keeps: tuple[NDArray[np.bool_], ...]
    options: tuple[NDArray[np.int64], ...]


def make_task(space: MapSpace) -> Task:
    """Packs a space that ``mapgym.cost.optimum.problem.check_supported`` has passed."""
    dims = active_dims(space.workload)
    inner = range(len(space.accelerator.levels) - 1)
    # The outermost level keeps everything.
    everything = np.ones((1, len(space.workload.tensors)), np.bool_)
    return Task(
        space,
        _make_problem(space, dims),
        dims,
        (*(kept_choices(space, level) for level in inner), everything),
        tuple(spatial_factors(space, dims, level) for level in (*inner, len(inner))),
    )


def _make_problem(space: MapSpace, dims: tuple[int, ...]) -> Problem:
    workload, accelerator = space.workload, space.accelerator
    levels, rules = accelerator.levels, accelerator.counting
    shared = describe_workload(workload, accelerator, dims)
    outputs = np.array([tensor.is_output for tensor in workload.tensors], np.int64)
    read, fill, update = word_energies(accelerator, outputs)
    allowed, temporal = _fixed_factors(space, dims, shared["divisors"])
    gate = np.array([accelerator.level_index(level.power_gated_at or level.name) for level in levels])
    instances = np.array([level.instances for level in levels])
    unlimited = np.array([level.capacity_words is None for level in levels])
    return Problem(
        **shared,
        serve=read + update,
        fill=fill,
        first_read=read * outputs,
        first_fill=fill * (outputs if rules.first_fills_elided else 0),
        hop=_of_levels(accelerator, "hop_energy_pj"),
        router=_of_levels(accelerator, "router_energy_pj"),
        ingress=_of_levels(accelerator, "energy_per_ingress_pj") * rules.hops_on_grid,
        twice=unlimited[:, None] & (outputs > 0),
        hops_on_grid=rules.hops_on_grid,
        leak=np.array([energies["leak"] for energies in accelerator.action_energies]),
        gate=gate,
        fed=instances / instances[gate],
        clusters=_of_levels(accelerator, "clusters"),
        capacity=np.array([float(level.usable_words or np.inf) for level in levels]),
        mesh=np.array([accelerator.fanout_x, accelerator.fanout_y], np.int64).T.copy(),
        allowed=allowed,
        temporal=temporal,
        place=fixed_places(space, dims),
        mac_energy=workload.macs * accelerator.mac_energies["compute"],
        macs=float(workload.macs),
        reuse_survives_stationary_steps=rules.reuse_survives_stationary_steps,
    )


def _of_levels(accelerator: Accelerator, name: str) -> NDArray[np.float64]:
    return np.array([float(getattr(level, name)) for level in accelerator.levels])


def _fixed_factors(
    space: MapSpace, dims: tuple[int, ...], values: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which extents fixed factors leave, bool[S, D, V], and fixed temporal factors, int64[S, D]."""
    levels = len(space.accelerator.levels)
    temporal = space.entries.fixed[:levels, list(dims)].astype(np.int64)
    allowed = np.broadcast_to(values > 0, (levels, *values.shape)).copy()
    if "tile" not in space.axes:
        extents = np.cumprod(space.base.temporal.astype(np.int64) * space.base.spatial, axis=0)[:, list(dims)]
        allowed &= values == extents[:, :, None]
    return allowed, temporal
