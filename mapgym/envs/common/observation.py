"""What an agent sees: one flat vector of named fields, all between 0 and 1.

Sizes that a task can have at most (levels, dims, tensors) are those of the largest task of the environment; entries
beyond a smaller task's own are 0. No value is clipped. Quantities without an upper limit (capacities, energies, ...)
go through :func:`squash`, which maps all positive numbers into (0, 1); factors are on a log2 scale relative to the
bound of their dim, so that 1 means the whole bound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapgym.cost import OBJECTIVES
from mapgym.envs.common.observation_kernels import DYNAMIC_FIELDS
from mapgym.evaluation.task import Task
from mapgym.mapspace.construction.packed_kernels import KIND_NAMES
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.workload import Workload

_LOG2_MAX_BOUND = 31
_LOG2_MAX_MACS = 20


def squash(value: float | None) -> float:
    """Maps [0, inf] into [0, 1], roughly like log2: 0 to 0, 2**-8 to 0.25, 1 to 0.5, 2**8 to 0.75, no limit to 1."""
    if value is None or math.isinf(value):
        return 1.0
    if value == 0:
        return 0.0
    log = math.log2(value)
    return 0.5 + 0.5 * log / (8.0 + abs(log))


@dataclass(frozen=True)
class ObservationLayout:
    """Where each field of the observation is.

    Attributes:
        levels, dims, tensors: the largest numbers among the tasks of an environment.
    """

    levels: int
    dims: int
    tensors: int

    def holds(self, task: Task) -> bool:
        """Whether a task fits."""
        workload = task.workload
        has_dims_and_tensors = len(workload.dims) <= self.dims and len(workload.tensors) <= self.tensors
        return has_dims_and_tensors and len(task.accelerator.levels) <= self.levels

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each field, in order; fields of more than one axis are flattened in C order."""
        levels, dims, tensors = self.levels, self.dims, self.tensors
        return {
            "remaining": (dims,),
            "temporal": (levels, dims),
            "spatial_x": (levels, dims),
            "spatial_y": (levels, dims),
            "keep": (levels, tensors),
            "order": (levels, dims),
            "spatial_order": (levels, dims),
            "capacity_used": (levels,),
            "fanout_used_x": (levels,),
            "fanout_used_y": (levels,),
            "decision_kind": (len(KIND_NAMES),),
            "decision_level": (levels,),
            "decision_dim": (dims,),
            "decision_tensor": (tensors,),
            "progress": (1,),
            "objective": (len(OBJECTIVES),),
            "workload_bounds": (dims,),
            "workload_coefficients": (tensors, dims),
            "workload_windows": (tensors, dims),
            "workload_outputs": (tensors,),
            "workload_densities": (tensors,),
            "level_exists": (levels,),
            "level_capacity": (levels,),
            "level_fanout_x": (levels,),
            "level_fanout_y": (levels,),
            "level_read_energy": (levels,),
            "level_fill_energy": (levels,),
            "level_update_energy": (levels,),
            "level_metadata_energy": (levels,),
            "level_address_energy": (levels,),
            "level_leak": (levels,),
            "level_cluster_size": (levels,),
            "level_block_size": (levels,),
            "level_word_bits": (levels,),
            "level_read_bandwidth": (levels,),
            "level_write_bandwidth": (levels,),
            "level_shared_bandwidth": (levels,),
            "level_hop_energy": (levels,),
            "level_router_energy": (levels,),
            "level_ingress_energy": (levels,),
            "level_minimum_utilization": (levels,),
            "level_bandwidth_scale": (levels, tensors),
            "level_no_temporal_reuse": (levels, tensors),
            "level_no_multicast": (levels, tensors),
            "level_may_keep": (levels, tensors),
            "mac_energy": (1,),
            "mac_units": (1,),
            "peer_links": (1,),
            "cumulative_fanout": (1,),
            "rules": (3,),
        }

    @cached_property
    def fields(self) -> dict[str, slice]:
        """The slice of each field."""
        slices, start = {}, 0
        for name, shape in self.shapes.items():
            slices[name] = slice(start, start + math.prod(shape))
            start += math.prod(shape)
        return slices

    @property
    def size(self) -> int:
        """Length of the observation."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @cached_property
    def table(self) -> NDArray[np.int64]:
        """int64[...]: what :mod:`mapgym.envs.common.observation_kernels` calls layout."""
        starts = [self.fields[name].start if name in self.fields else -1 for name in DYNAMIC_FIELDS]
        return np.array([self.levels, self.dims, self.tensors, *starts], np.int64)

    def static_features(self, task: Task) -> NDArray[np.float32]:
        """float32[size]: an observation in which everything that an episode does not change is filled in."""
        observation = np.zeros(self.size, np.float32)
        features: dict[str, ArrayLike] = {"objective": [float(name == task.metric) for name in OBJECTIVES]}
        self.fill(observation, {**features, **_workload(task.workload), **_accelerator(task)})
        return observation

    def fill(self, observation: NDArray[np.float32], features: Mapping[str, ArrayLike]) -> None:
        """Writes fields into an observation; entries beyond a task's own sizes become 0."""
        for name, values in features.items():
            array = np.atleast_1d(np.asarray(values, np.float64))
            padded = np.zeros(self.shapes[name])
            padded[tuple(slice(0, n) for n in array.shape)] = array
            observation[self.fields[name]] = padded.ravel()


def _workload(workload: Workload) -> dict[str, ArrayLike]:
    coefficients = np.zeros((len(workload.tensors), len(workload.dims)))
    windows = np.zeros_like(coefficients)
    for t, tensor in enumerate(workload.tensors):
        for rank in tensor.ranks:
            for dim, coefficient in rank:
                d = workload.dims.index(dim)
                # 0 for a dim that the tensor does not depend on, 1/2 for a plain one, 2/3 for a stride of 2.
                coefficients[t, d] = max(coefficients[t, d], coefficient / (1 + coefficient))
                windows[t, d] = max(windows[t, d], len(rank) > 1)
    return {
        "workload_bounds": [math.log2(bound) / _LOG2_MAX_BOUND for bound in workload.bounds],
        "workload_coefficients": coefficients,
        "workload_windows": windows,
        "workload_outputs": [float(tensor.is_output) for tensor in workload.tensors],
        "workload_densities": [tensor.density for tensor in workload.tensors],
    }


def _accelerator(task: Task) -> dict[str, ArrayLike]:
    accelerator: Accelerator = task.accelerator.for_workload(task.workload)
    levels, energies = accelerator.levels, accelerator.action_energies
    mac, rules = accelerator.mac, accelerator.counting
    names = [tensor.name for tensor in task.workload.tensors]
    return {
        "level_exists": [1.0] * len(levels),
        "level_capacity": [squash(level.usable_words) for level in levels],
        "level_fanout_x": [math.log2(fanout) / _LOG2_MAX_MACS for fanout in accelerator.fanout_x],
        "level_fanout_y": [math.log2(fanout) / _LOG2_MAX_MACS for fanout in accelerator.fanout_y],
        "level_read_energy": [squash(energy["read"]) for energy in energies],
        "level_fill_energy": [squash(energy["fill"]) for energy in energies],
        "level_update_energy": [squash(energy["update"]) for energy in energies],
        "level_metadata_energy": [squash(energy["metadata_read"]) for energy in energies],
        "level_address_energy": [squash(level.address_energy_pj) for level in levels],
        "level_leak": [squash(energy["leak"]) for energy in energies],
        "level_cluster_size": [squash(level.cluster_size) for level in levels],
        "level_block_size": [squash(level.block_size_words) for level in levels],
        "level_word_bits": [squash(level.word_bits) for level in levels],
        "level_read_bandwidth": [squash(level.read_bandwidth_words_per_cycle) for level in levels],
        "level_write_bandwidth": [squash(level.write_bandwidth_words_per_cycle) for level in levels],
        "level_shared_bandwidth": [squash(level.shared_bandwidth_words_per_cycle) for level in levels],
        "level_hop_energy": [squash(level.hop_energy_pj) for level in levels],
        "level_router_energy": [squash(level.router_energy_pj) for level in levels],
        "level_ingress_energy": [squash(level.energy_per_ingress_pj) for level in levels],
        "level_minimum_utilization": [level.minimum_utilization for level in levels],
        "level_bandwidth_scale": [[squash(dict(level.bandwidth_scale).get(n, 1.0)) for n in names] for level in levels],
        "level_no_temporal_reuse": [[float(n in level.no_temporal_reuse) for n in names] for level in levels],
        "level_no_multicast": [[float(n in level.no_multicast) for n in names] for level in levels],
        "level_may_keep": [[float(level.keep_only is None or n in level.keep_only) for n in names] for level in levels],
        "mac_energy": squash(accelerator.mac_energies["compute"]),
        "mac_units": math.log2(mac.instances) / _LOG2_MAX_MACS,
        "peer_links": float(accelerator.peer_links),
        "cumulative_fanout": float(accelerator.fanout_check == "cumulative"),
        "rules": [
            *(float(rules.first_fills_elided), float(rules.reuse_survives_stationary_steps), float(rules.hops_on_grid))
        ],
    }
