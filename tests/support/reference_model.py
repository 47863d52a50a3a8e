"""A slow and plain second implementation of the dense cost rules, against which the compiled kernel is checked.

It enumerates what the kernel has closed forms for: every spatial instance with its offset and its place on the grid,
every pair of neighbours, and every step that Timeloop's analysis executes (iterations 0 and 1 of each temporal loop,
the second one standing for all later ones). Level 0 is the innermost storage level and has the MACs below it. All rule
sets are here: what differs between them asks ``accelerator.counting``.
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
from reference_network import network_figures
from reference_traffic import (
    Children,
    Memory,
    Traffic,
    boundary_traffic,
    instance_offsets,
    step_vector,
    tile_lengths,
)

COUNTS = ("reads", "fills", "updates", "tile_words", "partition_words", "spatial_reductions", "multicast")
AMOUNTS = ("energy_pj", "address_energy_pj", "ingresses", "network_energy_pj", "link_transfers", "hops")


@dataclass
class ReferenceCost:
    """What the reference model says of one mapping.

    Attributes:
        violations: (kind, level name or dim or tensor) of every rule that is broken; empty for a legal mapping. Kinds:
            "factors", "kept nowhere", "keep", "fan-out", "capacity", "utilization". The rest is meaningful only when
            empty.
        counts: arrays [level, tensor] by name, see ``COUNTS`` and ``AMOUNTS``.
        used_instances, used_clusters, fanout_used, level_cycles, leakage_energy_pj: [level].
    """

    violations: list[tuple[str, str]] = field(default_factory=list)
    latency_cycles: int = 0
    compute_cycles: int = 0
    energy_pj: float = 0.0
    utilization: float = 0.0
    counts: dict[str, NDArray] = field(default_factory=dict)
    used_instances: list[int] = field(default_factory=list)
    used_clusters: list[int] = field(default_factory=list)
    fanout_used: list[int] = field(default_factory=list)
    level_cycles: list[int] = field(default_factory=list)
    leakage_energy_pj: list[float] = field(default_factory=list)

    @property
    def legal(self) -> bool:
        return not self.violations

    def figure(self, name: str) -> NDArray:
        """Any of the figures by level, or by level and tensor."""
        return self.counts[name] if name in self.counts else np.array(getattr(self, name))


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
    """Everything that makes a mapping illegal, in the order in which it is looked for."""
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
        room = level.usable_words
        if room is not None and needed > room:
            found.append(("capacity", level.name))
        elif room is not None and needed < room * level.minimum_utilization:
            found.append(("utilization", level.name))
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
        children = Children(
            instance_offsets(spatial, len(lengths)),
            max(accelerator.fanout_x[s], nest.used_x[s]),
            max(accelerator.fanout_y[s], nest.used_y[s]),
            shared=tensor.name not in accelerator.levels[s].no_multicast,
            linked=accelerator.peer_links,
        )
        found.append(boundary_traffic(lengths, temporal, children, memory_below(accelerator, s, tensor)))
    return found


def memory_below(accelerator: Accelerator, s: int, tensor: Tensor) -> Memory:
    """What the tile of a tensor below a level remembers: the MACs' nothing."""
    if s == 0 or tensor.name in accelerator.levels[s - 1].no_temporal_reuse:
        return "nothing"
    return "last move" if accelerator.counting.reuse_survives_stationary_steps else "last step"


def partition(tensor: Tensor, nest: Nest, s: int, unit: dict[str, int]) -> int:
    """Distinct words that one instance of a level is responsible for, rounded down level by level.

    Args:
        tensor: whose words.
        nest: the mapping.
        s: the level.
        unit: extents of the tiles in which an output's words come; single words where it names no dim.
    """
    part = covered_words(tensor, nest.extents[-1], unit)
    for q in range(len(nest.extents) - 2, s - 1, -1):
        part *= covered_words(tensor, nest.extents[q], unit)
        part //= covered_words(tensor, nest.extended(q), unit)
    return part


def hand_over_bypassed(traffic: list[Traffic], kept: list[bool], fanout: list[int]) -> list[float]:
    """Bypassed levels pass their demand outwards; returns what each level receives from above.

    The hops of the words that the next outer level then sends stay those of its own demand.
    """
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


def rounded(words: float) -> int:
    """The nearest whole number, halves up; counts are never below 0."""
    return max(math.floor(words + 0.5), 0)


def price_tensor(
    cost: ReferenceCost, t: int, tensor: Tensor, accelerator: Accelerator, nest: Nest, kept: list[bool]
) -> None:
    """Counts and energies of one tensor: fills its column of the arrays."""
    traffic = tensor_traffic(tensor, accelerator, nest)
    received = hand_over_bypassed(traffic, kept, cost.fanout_used)
    outermost = max(s for s, keeps in enumerate(kept) if keeps)
    unit: dict[str, int] = {}  # what comes from inside: single words, or tiles of a kept level
    for s, level in enumerate(accelerator.levels):
        part = partition(tensor, nest, s, unit) if kept[s] else 0
        network = network_figures(
            accelerator.levels[s], accelerator.counting, tensor, traffic[s], part, cost.fanout_used[s]
        )
        for name, value in network.items():
            cost.counts[name][s, t] = value
        cost.counts["network_energy_pj"][s, t] *= cost.used_instances[s]
        if not kept[s]:
            continue
        # A word that a neighbour passes on is read there and filled here, at the level of the neighbours.
        peer = traffic[s + 1].links / cost.used_instances[s] if s + 1 < len(traffic) else 0.0
        content = traffic[s].content()
        if tensor.is_output:
            # Links can leave fewer accesses than there are first visits.
            reads, updates = rounded(content + peer - part), rounded(content)
        else:
            reads, updates = rounded(content + peer), 0
        fills = int(received[s] + peer)
        if tensor.is_output and accelerator.counting.first_fills_elided:
            # What comes from outside are tiles of this level.
            first_fills = partition(tensor, nest, s, nest.extents[s]) if s < outermost else 0
            fills = rounded(received[s] + peer - first_fills)
        for name, value in (
            ("reads", reads),
            ("updates", updates),
            ("fills", fills),
            ("tile_words", tensor.tile_size(nest.extents[s])),
            ("partition_words", part),
        ):
            cost.counts[name][s, t] = value
        energies = level.energies_pj(accelerator.counting.action_names)
        accesses = {"read": reads, "fill": fills, "update": updates}
        charged = sum(-(-words // level.block_size_words) * energies[action] for action, words in accesses.items())
        addresses = updates + fills if tensor.is_output else reads + fills
        cost.counts["energy_pj"][s, t] = charged * cost.used_clusters[s]
        cost.counts["address_energy_pj"][s, t] = addresses * level.address_energy_pj * cost.used_clusters[s]
        unit = nest.extents[s]


def level_cycles(accelerator: Accelerator, workload: Workload, cost: ReferenceCost) -> list[int]:
    """Compute cycles, stretched by the scarcest bandwidth of each level."""
    compute = cost.compute_cycles
    cycles = []
    for s, level in enumerate(accelerator.levels):
        reads, fills, updates = (cost.counts[name][s] for name in ("reads", "fills", "updates"))
        scales = dict(level.bandwidth_scale) if accelerator.counting.leakage else {}
        weights = [scales.get(tensor.name, 1.0) for tensor in workload.tensors]
        # Rates are added up, not counts: the sum of the quotients decides where the ceiling falls.
        read_rate = sum(float(words) / compute * weight for words, weight in zip(reads, weights, strict=True))
        write_rate = sum(
            float(words) / compute * weight for words, weight in zip(updates + fills, weights, strict=True)
        )
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


def leakage(accelerator: Accelerator, cost: ReferenceCost, kept: list[bool]) -> list[float]:
    """Leakage of each level during the whole run, unless the rules have none.

    Args:
        accelerator: the hardware.
        cost: with cycles and instances.
        kept: whether each level keeps any tensor.
    """
    if not accelerator.counting.leakage:
        return [0.0] * len(kept)
    # Outside of everything that is kept no level is in use, but one instance of it leaks.
    leaking = [used if any(kept[s:]) else 1 for s, used in enumerate(cost.used_instances)]
    energies = []
    for s, level in enumerate(accelerator.levels):
        instances = leaking[s]
        if level.power_gated_at is not None:
            gate = accelerator.level_index(level.power_gated_at)
            together = level.instances / accelerator.levels[gate].instances
            if together > 1:
                instances = together * leaking[gate]
        leak = level.energies_pj(accelerator.counting.action_names)["leak"]
        energies.append(leak * instances * cost.latency_cycles)
    return energies


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
    cost.used_clusters = [
        min(used, level.clusters) for used, level in zip(cost.used_instances, accelerator.levels, strict=True)
    ]
    cost.compute_cycles = math.prod(bound for loops in nest.temporal for _, bound in loops)
    for t, tensor in enumerate(workload.tensors):
        price_tensor(cost, t, tensor, accelerator, nest, mapping.keep[:, t].tolist())
    cost.level_cycles = level_cycles(accelerator, workload, cost)
    cost.latency_cycles = max(cost.compute_cycles, *cost.level_cycles)
    cost.leakage_energy_pj = leakage(accelerator, cost, mapping.keep.any(axis=1).tolist())
    cost.energy_pj = (
        workload.macs * accelerator.mac.energies_pj(accelerator.counting.action_names)["compute"]
        + sum(cost.leakage_energy_pj)
        + sum(cost.counts[name].sum() for name in ("energy_pj", "address_energy_pj", "network_energy_pj"))
    )
    cost.utilization = workload.macs / (accelerator.mac.instances * cost.latency_cycles)
    return cost
