"""Our figures by the place that they have in Timeloop's records, and Timeloop's figure at such a place."""

from __future__ import annotations

import math
from collections.abc import Mapping as AbcMapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapgym.cost import Cost, CostDetail
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.workload import Workload
from mapgym.timeloop.records.sparse_records import Keys, sparse_figures

_PRINTED = {"utilization", "read_bandwidth", "write_bandwidth"}
_LAST_DECIMAL = 1e-10
"""Timeloop prints these with ten decimals, so that more cannot be compared."""

_NETWORKS, _ENERGY, _CLUSTERS = "networks", "energy_total_pJ", "utilized_clusters"
_OPTIONAL = {"read_bandwidth", "write_bandwidth", "average_hops"}
"""A record that does not have these says nothing about them; what else is missing is 0."""


def our_figures(accelerator: Accelerator, workload: Workload, cost: Cost) -> dict[Keys, Any]:
    """Our figures by the path that they have in a record: keys within keys."""
    detail = cost.detail
    assert detail is not None  # it was asked for
    figures: dict[Keys, Any] = {
        ("cycles",): cost.latency_cycles,
        ("utilization",): float(cost.utilization),
        (_ENERGY,): cost.energy_pj,
        ("energy_network_pJ",): float(detail.network_energy_pj.sum()),
        ("actual_computes",): workload.macs,
    }
    for s in range(len(accelerator.levels)):
        figures |= _storage_figures(accelerator, workload, detail, s)
        figures |= _network_figures(accelerator, workload, detail, s)
    if cost.savings is not None:
        return figures | sparse_figures(accelerator, workload, cost)
    return figures | _dense_figures(accelerator, workload, detail)


def _storage_figures(accelerator: Accelerator, workload: Workload, detail: CostDetail, s: int) -> dict[Keys, Any]:
    """What a storage level does."""
    level = accelerator.level_names[s]
    figures: dict[Keys, Any] = {("per_level", level, "cycles"): int(detail.level_cycles[s])}
    for t, tensor in enumerate(workload.tensors):
        if detail.tile_words[s, t]:
            path = ("per_level", level, tensor.name)
            figures[*path, "partition_size"] = int(detail.partition_words[s, t])
            figures[*path, "utilized_capacity"] = int(detail.tile_words[s, t])
            figures[*path, "utilized_instances"] = int(detail.used_instances[s])
            figures[*path, _CLUSTERS] = int(detail.used_clusters[s])
            figures[*path, "reads"] = int(detail.reads[s, t])
            figures[*path, "fills"] = int(detail.fills[s, t])
            figures[*path, "updates"] = int(detail.updates[s, t])
            figures[*path, _ENERGY] = float(detail.energy_pj[s, t])
    return figures


def _network_figures(accelerator: Accelerator, workload: Workload, detail: CostDetail, s: int) -> dict[Keys, Any]:
    """What the network below a storage level does."""
    inner = (accelerator.mac.name, *accelerator.level_names)[s]
    figures: dict[Keys, Any] = {}
    for t, tensor in enumerate(workload.tensors):
        path = (_NETWORKS, f"{accelerator.level_names[s]} <==> {inner}", tensor.name)
        ingresses = float(detail.ingresses[s, t])
        figures[*path, "ingresses"] = ingresses
        figures[*path, "link_transfers"] = float(detail.link_transfers[s, t])
        figures[*path, "multicast_factor"] = int(detail.multicast[s, t])
        figures[*path, "spatial_reductions"] = int(detail.spatial_reductions[s, t])
        # Further out than the outermost level that keeps the tensor, Timeloop has no network of it.
        figures[*path, "fanout"] = int(detail.fanout_used[s]) if detail.tile_words[s:, t].any() else 0
        figures[*path, "average_hops"] = float(detail.hops[s, t]) / ingresses if ingresses else 0.0
        figures[*path, _ENERGY] = float(detail.network_energy_pj[s, t])
    return figures


def _dense_figures(accelerator: Accelerator, workload: Workload, detail: CostDetail) -> dict[Keys, Any]:
    """What savings would change."""
    figures: dict[Keys, Any] = {}
    reads, writes = _bandwidths(accelerator, workload, detail)
    for s, level in enumerate(accelerator.level_names):
        figures["per_level", level, "leakage_energy_pJ"] = float(detail.leakage_energy_pj[s])
        for t, tensor in enumerate(workload.tensors):
            if detail.tile_words[s, t]:
                path = ("per_level", level, tensor.name)
                figures[*path, "addr_gen_energy_pJ"] = float(detail.address_energy_pj[s, t])
                figures[*path, "read_bandwidth"] = float(reads[s, t])
                figures[*path, "write_bandwidth"] = float(writes[s, t])
    return figures


def _bandwidths(
    accelerator: Accelerator, workload: Workload, detail: CostDetail
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """float64[level, tensor] words that an instance reads and writes in a cycle, slowed down to what limits allow."""
    scale = np.ones(detail.reads.shape)
    if accelerator.counting.leakage:
        for s, level in enumerate(accelerator.levels):
            for t, tensor in enumerate(workload.tensors):
                scale[s, t] = dict(level.bandwidth_scale).get(tensor.name, 1.0)
    reads = detail.reads / detail.compute_cycles * scale
    writes = (detail.fills + detail.updates) / detail.compute_cycles * scale
    for s, level in enumerate(accelerator.levels):
        demands = (reads[s].sum(), writes[s].sum())
        limits = (
            (level.read_bandwidth_words_per_cycle, demands[0]),
            (level.write_bandwidth_words_per_cycle, demands[1]),
            (level.shared_bandwidth_words_per_cycle, sum(demands)),
        )
        slowed = min((limit / demand for limit, demand in limits if limit is not None and demand > limit), default=1.0)
        reads[s] *= slowed
        writes[s] *= slowed
    return reads, writes


def their_figure(record: AbcMapping[str, Any], path: Keys) -> Any:
    """Timeloop's figure at a place, 0 if there is none; None if that says nothing about it.

    Energies of a network are given apart for what comes from outside and for what neighbours pass on; clusters only
    where they are not the instances.
    """
    place = _at(record, path[:-1])
    is_network_energy = path[0] == _NETWORKS and path[-1] == _ENERGY
    if (path[-1] in _OPTIONAL or is_network_energy) and not (isinstance(place, dict) and path[-1] in place):
        return None
    value = _at(place, path[-1:]) or 0
    if is_network_energy:
        return value + (_at(place, ("link_energy_total_pJ",)) or 0)
    if path[-1] == _CLUSTERS:
        return value or _at(place, ("utilized_instances",)) or 0
    return value


def relative_error(path: Keys, ours: Any, theirs: Any) -> float:
    """How far our figure is from Timeloop's, 0 if that is what Timeloop would print; infinite if one is no number."""
    distance = abs(ours - theirs)
    if ours == theirs or (path[-1] in _PRINTED and distance <= _LAST_DECIMAL * 0.500001):
        return 0.0
    error = float(distance / max(abs(theirs), abs(ours)))
    return error if math.isfinite(error) else math.inf


def _at(data: Any, path: Keys) -> Any:
    for key in path:
        if isinstance(data, list):
            data = data[int(key)] if key.isdecimal() and int(key) < len(data) else 0
        else:
            data = data.get(key, 0) if isinstance(data, dict) else 0
    return data
