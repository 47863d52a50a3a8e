"""A slow and plain second implementation of the dense cost rules, against which the compiled kernel is checked.

It enumerates what the kernel has closed forms for: every spatial instance with its offset, every pair of grid
neighbours, and every step that Timeloop's analysis executes (iterations 0 and 1 of each temporal loop, the second
one standing for all later ones). Level 0 is the innermost storage level and has the MACs below it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mapgym.mapping import Mapping
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.tensor import Tensor
from mapgym.spec.workload import Workload
from reference_holes import covered_words
from reference_traffic import Traffic, boundary_traffic, step_vector, tile_lengths

COUNTS = ("reads", "fills", "updates", "tile_words", "partition_words", "spatial_reductions", "multicast")
AMOUNTS = ("energy_pj", "ingresses", "network_energy_pj", "link_transfers")


@dataclass
class ReferenceCost:
    """What the reference model says of one mapping.

    Attributes:
        violations: (kind, level name or dim or tensor) of every rule that is broken; empty for a legal mapping. Kinds:
            "factors", "kept nowhere", "keep", "fan-out", "capacity". The rest is meaningful only when empty.
        counts: arrays [level, tensor] by name, see ``COUNTS`` and ``AMOUNTS``.
        used_instances, fanout_used, level_cycles: [level].
    """

    violations: list[tuple[str, str]] = field(default_factory=list)
    latency_cycles: int = 0
    compute_cycles: int = 0
    energy_pj: float = 0.0
    utilization: float = 0.0
    counts: dict[str, NDArray] = field(default_factory=dict)
    used_instances: list[int] = field(default_factory=list)
    fanout_used: list[int] = field(default_factory=list)
    level_cycles: list[int] = field(default_factory=list)

    @property
    def legal(self) -> bool:
        return not self.violations


@dataclass
class Nest:
    """The loops of a mapping with trivial ones dropped, as (dim, bound) innermost first, and their extents."""

    temporal: list[list[tuple[str, int]]]
    spatial: list[list[tuple[str, int]]]
    used_x: list[int]
    used_y: list[int]
    extents: list[dict[str, int]] = field(default_factory=list)
    strides: list[tuple[list[int], list[int]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        inside = {dim: 1 for loops in (*self.temporal, *self.spatial) for dim, _ in loops}
        for spatial, temporal in zip(self.spatial, self.temporal, strict=True):
            level_strides: tuple[list[int], list[int]] = ([], [])
            for loops, strides in zip((spatial, temporal), level_strides, strict=True):
                for dim, bound in loops:
                    strides.append(inside[dim])
                    inside[dim] *= bound
            self.strides.append(level_strides)
            self.extents.append(dict(inside))

    def extended(self, level: int) -> dict[str, int]:
        """Extents of the tiles of all instances of a level below one instance of the next outer one."""
        extents = dict(self.extents[level])
        for dim, bound in self.spatial[level + 1]:
            extents[dim] *= bound
        return extents


def read_nest(mapping: Mapping) -> Nest:
    """The non-trivial loops of a mapping."""
    spatial, used_x, used_y = [], [], []
    for level in range(len(mapping.levels)):
        on_x, on_y = mapping.spatial_sides(level)
        spatial.append(on_x + on_y)
        used_x.append(math.prod(bound for _, bound in on_x))
        used_y.append(math.prod(bound for _, bound in on_y))
    temporal = [mapping.temporal_loops(level) for level in range(len(mapping.levels))]
    return Nest(temporal, spatial, used_x, used_y)


def find_violations(
    workload: Workload, accelerator: Accelerator, mapping: Mapping, nest: Nest
) -> list[tuple[str, str]]:
    """Section 1 of the rules: everything that makes a mapping illegal, in the order in which it is looked for."""
    found = []
    for d, (dim, bound) in enumerate(zip(workload.dims, workload.bounds, strict=True)):
        if math.prod(mapping.temporal[:, d].tolist()) * math.prod(mapping.spatial[:, d].tolist()) != bound:
            found.append(("factors", dim))
    for t, tensor in enumerate(workload.tensors):
        if not mapping.keep[:, t].any():
            found.append(("kept nowhere", tensor.name))
    for s, level in enumerate(accelerator.levels):
        for t, tensor in enumerate(workload.tensors):
            if mapping.keep[s, t] and level.keep_only is not None and tensor.name not in level.keep_only:
                found.append(("keep", level.name))
        # Timeloop, whose rules the cumulative check stands for, lets the outermost level be bypassed, too.
        strict = accelerator.fanout_check == "per_level"
        if strict and level is accelerator.levels[-1] and not mapping.keep[s].all():
            found.append(("keep", level.name))
    mac = accelerator.mac
    if math.prod(nest.used_x) > mac.mesh_x or math.prod(nest.used_y) > mac.mesh_y:
        found.append(("fan-out", mac.name))
    for s, level in enumerate(accelerator.levels):
        kept = [tensor for t, tensor in enumerate(workload.tensors) if mapping.keep[s, t]]
        needed = sum(tensor.tile_size(nest.extents[s]) for tensor in kept)
        if level.capacity_words is not None and needed > level.capacity_words:
            found.append(("capacity", level.name))
        outer_x, outer_y = math.prod(nest.used_x[s + 1 :]), math.prod(nest.used_y[s + 1 :])
        too_wide = outer_x > level.mesh_x or outer_y > level.mesh_y
        if accelerator.fanout_check == "per_level":
            too_wide |= nest.used_x[s] > accelerator.fanout_x[s] or nest.used_y[s] > accelerator.fanout_y[s]
        if too_wide:
            found.append(("fan-out", level.name))
    return found


def tensor_traffic(tensor: Tensor, accelerator: Accelerator, nest: Nest) -> list[Traffic]:
    """Traffic at every boundary, before bypassing."""
    levels = range(len(nest.temporal))
    found = []
    for s in levels:
        lengths = tile_lengths(tensor, nest.extents[s - 1]) if s else (1,) * len(tensor.ranks)
        temporal = tuple(
            (step_vector(tensor, dim, stride), bound)
            for q in levels[s:]
            for (dim, bound), stride in zip(nest.temporal[q], nest.strides[q][1], strict=True)
        )
        spatial = tuple(
            (step_vector(tensor, dim, stride), bound)
            for (dim, bound), stride in zip(nest.spatial[s], nest.strides[s][0], strict=True)
        )
        grid = (max(accelerator.fanout_x[s], nest.used_x[s]), max(accelerator.fanout_y[s], nest.used_y[s]))
        found.append(boundary_traffic(lengths, temporal, spatial, grid if accelerator.peer_links else None, s > 0))
    return found


def partitions(tensor: Tensor, nest: Nest, kept: list[bool]) -> list[int]:
    """Distinct words that one instance of each level is responsible for, rounded down level by level."""
    found = []
    unit: dict[str, int] = {}  # extents of what an output's updates come in: single words, or tiles of a kept level
    for s in range(len(kept)):
        part = covered_words(tensor, nest.extents[-1], unit)
        for q in range(len(kept) - 2, s - 1, -1):
            part *= covered_words(tensor, nest.extents[q], unit)
            part //= covered_words(tensor, nest.extended(q), unit)
        found.append(part)
        if kept[s]:
            unit = nest.extents[s]
    return found


def hand_over_bypassed(traffic: list[Traffic], kept: list[bool], fanout: list[int]) -> list[float]:
    """Section 5: bypassed levels pass their demand outwards; returns what each level receives from above."""
    outermost = max(s for s, keeps in enumerate(kept) if keeps)
    # One division per class, then the sum, as Timeloop adds its shares; this decides what truncation keeps.
    received = [
        sum(words * multicast / fanout[s + 1] for (multicast, _), words in sorted(above.accesses.items()))
        for s, above in enumerate(traffic[1:])
    ] + [0.0]
    for s, above in enumerate(traffic[1:]):
        if not kept[s]:
            scale = traffic[s].content() * fanout[s + 1] / above.delivered()
            above.accesses = {key: words * scale for key, words in above.accesses.items()}
            above.links = 0.0
    for s in range(len(traffic)):
        if s > outermost:
            traffic[s] = Traffic({})
        if s >= outermost or not kept[s]:
            received[s] = 0.0
    return received


def hops(multicast: int, fanout: int) -> float:
    """Mean wire length, in hops, of a multicast on a square mesh."""
    side, reach = math.sqrt(fanout), math.sqrt(multicast)
    return side * reach + 0.5 * (side - reach) - side / reach + 0.5


def price_network(
    cost: ReferenceCost, s: int, t: int, tensor: Tensor, accelerator: Accelerator, traffic: Traffic, partition: int
) -> None:
    """Section 6: the network between level ``s`` and the next inner one."""
    level, fanout, instances = accelerator.levels[s], cost.fanout_used[s], cost.used_instances[s]
    ingresses = hop_words = 0.0
    routed = reductions = 0
    for (multicast, _), words in sorted(traffic.accesses.items()):
        if tensor.is_output and level.capacity_words is None:
            # DRAM does not reduce in place: partial sums travel both ways.
            words = max(2 * words - partition, 0)
        length = hops(multicast, fanout)
        ingresses += words
        hop_words += words * length
        # Timeloop adds to a whole number.
        routed = math.floor(routed + (1 + length) * words)
        reductions += int((multicast - 1) * words)
    per_link = level.energy_per_hop_pj + 2 * level.router_energy_pj
    cost.counts["ingresses"][s, t] = ingresses
    cost.counts["link_transfers"][s, t] = traffic.links
    cost.counts["multicast"][s, t] = max((multicast for multicast, _ in traffic.accesses), default=0)
    cost.counts["spatial_reductions"][s, t] = reductions if tensor.is_output else 0
    cost.counts["network_energy_pj"][s, t] = instances * (
        hop_words * level.energy_per_hop_pj + routed * level.router_energy_pj + traffic.links * per_link
    )


def price_tensor(
    cost: ReferenceCost, t: int, tensor: Tensor, accelerator: Accelerator, nest: Nest, kept: list[bool]
) -> None:
    """Sections 5 and 6 for one tensor: fills its column of the arrays."""
    traffic = tensor_traffic(tensor, accelerator, nest)
    received = hand_over_bypassed(traffic, kept, cost.fanout_used)
    partition = partitions(tensor, nest, kept)
    for s, level in enumerate(accelerator.levels):
        price_network(cost, s, t, tensor, accelerator, traffic[s], partition[s] if kept[s] else 0)
        if not kept[s]:
            continue
        # A word that a neighbour passes on is read there and filled here, at the level of the neighbours.
        peer = traffic[s + 1].links / cost.used_instances[s] if s + 1 < len(traffic) else 0.0
        content = traffic[s].content()
        first_writes = partition[s] if tensor.is_output else 0
        # Links can leave fewer accesses than there are first visits.
        reads = max(math.floor(content + peer - first_writes + 0.5), 0)
        updates = math.floor(content + 0.5) if tensor.is_output else 0
        fills = int(received[s] + peer)
        blocks = sum(-(-words // level.block_size_words) for words in (reads, updates, fills))
        for name, value in (
            ("reads", reads),
            ("updates", updates),
            ("fills", fills),
            ("tile_words", tensor.tile_size(nest.extents[s])),
            ("partition_words", partition[s]),
            ("energy_pj", blocks * level.access_energy_pj * cost.used_instances[s]),
        ):
            cost.counts[name][s, t] = value


def level_cycles(accelerator: Accelerator, cost: ReferenceCost) -> list[int]:
    """Section 7: compute cycles, stretched by the scarcest bandwidth of each level."""
    compute = cost.compute_cycles
    cycles = []
    tensors = range(cost.counts["reads"].shape[1])
    for s, level in enumerate(accelerator.levels):
        reads, fills, updates = (cost.counts[name][s] for name in ("reads", "fills", "updates"))
        # Rates are added up, not counts: the sum of the quotients decides where the ceiling falls.
        read_rate = sum(float(reads[t]) / compute for t in tensors)
        write_rate = sum(float(updates[t] + fills[t]) / compute for t in tensors)
        slowdown = 1.0
        for limit, rate in (
            (level.read_bandwidth_words_per_cycle, read_rate),
            (level.write_bandwidth_words_per_cycle, write_rate),
            (level.shared_bandwidth_words_per_cycle, read_rate + write_rate),
        ):
            if limit is not None and rate > limit:
                slowdown = min(slowdown, limit / rate)
        cycles.append(math.ceil(compute / slowdown))
    return cycles


def evaluate(workload: Workload, accelerator: Accelerator, mapping: Mapping) -> ReferenceCost:
    """Prices one mapping."""
    nest = read_nest(mapping)
    cost = ReferenceCost(find_violations(workload, accelerator, mapping, nest))
    if cost.violations:
        return cost
    levels = range(len(accelerator.levels))
    shape = (len(levels), len(workload.tensors))
    cost.counts = {name: np.zeros(shape, np.int64) for name in COUNTS}
    cost.counts |= {name: np.zeros(shape) for name in AMOUNTS}
    cost.fanout_used = [x * y for x, y in zip(nest.used_x, nest.used_y, strict=True)]
    cost.used_instances = [math.prod(cost.fanout_used[s + 1 :]) for s in levels]
    cost.compute_cycles = math.prod(bound for loops in nest.temporal for _, bound in loops)
    for t, tensor in enumerate(workload.tensors):
        price_tensor(cost, t, tensor, accelerator, nest, mapping.keep[:, t].tolist())
    cost.level_cycles = level_cycles(accelerator, cost)
    cost.latency_cycles = max(cost.compute_cycles, *cost.level_cycles)
    cost.energy_pj = (
        workload.macs * accelerator.mac.energy_pj
        + cost.counts["energy_pj"].sum()
        + cost.counts["network_energy_pj"].sum()
    )
    cost.utilization = workload.macs / (accelerator.mac.instances * cost.latency_cycles)
    return cost
