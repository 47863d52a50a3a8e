"""A cost that no mapping can beat, in closed form.

docs/cost_model.md ("Lower bound") proves it. In short: cycles are at least the MACs over the largest parallelism that
the dims and the mesh allow; energy is at least the MACs, plus what every tensor must move between the level that
feeds the MACs and the outermost level, plus the accesses of the feeding level, which spatial multicast can thin out
only by as much as the parallelism allows for all tensors together; plus what levels leak in these cycles.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from mapgym.cost.model import check_objective
from mapgym.cost.sparse.bound import least_compute_share, least_traffic_share, lost_to_rounding
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.mapping.legality import max_parallelism
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.actions import ACCESSES
from mapgym.spec.tensor import Rank, Tensor
from mapgym.spec.workload import Workload

# Bounds are computed in floating point; this much is given away so that rounding cannot lift one above a true cost.
_ROUNDING = 1.0 - 1e-12
_MAX_ENUMERATED = 1_000_000
_MAX_CHOICES = 4096


@dataclass(frozen=True)
class LowerBound:
    """Lower bounds of latency and energy, valid for every mapping that keeps all tensors at the outermost level.

    Attributes:
        latency_cycles: cycles.
        energy_pj: pJ.
    """

    latency_cycles: float
    energy_pj: float

    @property
    def edp(self) -> float:
        """Energy-delay product, pJ * cycles: the product of the two bounds."""
        return self.latency_cycles * self.energy_pj

    def objective(self, name: str) -> float:
        """The bound of an objective, one of ``OBJECTIVES``."""
        values = {"edp": self.edp, "energy": self.energy_pj, "latency": self.latency_cycles}
        return values[check_objective(name)]


def lower_bound(workload: Workload, accelerator: Accelerator) -> LowerBound:
    """Returns bounds that no legal mapping of the workload on the accelerator is below.

    Raises:
        SpecificationError: the accelerator's MACs cost no energy, so that the bound of the energy could be 0 and no
            ratio to it would mean anything.
    """
    accelerator = accelerator.for_workload(workload)
    mac_energy = accelerator.mac_energies["compute"]
    if mac_energy == 0:
        raise SpecificationError(
            f"accelerator {quoted(accelerator.name)} charges no energy for a multiply-accumulate, so that there is no "
            "lower bound to compare with; give mac.energy_pj above 0"
        )
    traffic = [_Traffic(workload, tensor, accelerator) for tensor in workload.tensors]
    computing, moving = workload.macs * mac_energy, _moving_energy(accelerator, workload, traffic)
    if not accelerator.is_sparse:
        cycles = _latency(workload, accelerator, traffic)
        energy = computing + moving + _leakage(accelerator, cycles, workload.macs)
        return LowerBound(cycles * _ROUNDING, energy * _ROUNDING)
    done = least_compute_share(workload, accelerator)
    moving = moving * least_traffic_share(workload, accelerator) - lost_to_rounding(accelerator)
    cycles = max(1.0, workload.macs / max_parallelism(workload.bounds, accelerator) * done * _ROUNDING)
    # Instances whose tiles are empty do not count as used.
    energy = computing * done + max(0.0, moving) + _leakage(accelerator, cycles, 0)
    return LowerBound(cycles, energy * _ROUNDING)


class _Access(NamedTuple):
    """Energies of the accesses of one level to one tensor, pJ per word, at least."""

    served: float  # a word that is asked for from inside, or a partial sum that comes from there
    read: float  # the read that a partial sum needs besides, but for first visits; 0 for operands
    fill: float  # a word that comes from outside; 0 where first visits may be all that come


def _accesses(accelerator: Accelerator, is_output: bool) -> list[_Access]:
    """By level."""
    counting = accelerator.counting
    found = []
    for level, energies in zip(accelerator.levels, accelerator.action_energies, strict=True):
        # Instances that are built as one are charged once, however many of them are used.
        words, clustered = level.block_size_words, level.cluster_size
        read, fill, update = (energies[action] / words / clustered for action in ACCESSES)
        address = level.address_energy_pj / clustered
        fill = 0.0 if is_output and counting.first_fills_elided else fill + address
        found.append(_Access(update + address, read, fill) if is_output else _Access(read + address, 0.0, fill))
    return found


def _leakage(accelerator: Accelerator, cycles: float, macs: int) -> float:
    """Energy (pJ) that levels leak in so many cycles or more, if used instances do so many multiply-accumulates."""
    energy = 0.0
    for s, level in enumerate(accelerator.levels):
        gate = accelerator.level_index(level.power_gated_at or level.name)
        switched = level.instances / accelerator.levels[gate].instances
        if switched <= 1:
            gate, switched = s, 1.0
        leak = accelerator.action_energies[s]["leak"]
        energy += leak * switched * max(cycles, macs / _parallelism_below(accelerator, gate))
    return energy


class _Traffic:
    """What one tensor must move, whatever the mapping."""

    def __init__(self, workload: Workload, tensor: Tensor, accelerator: Accelerator) -> None:
        bounds = dict(zip(workload.dims, workload.bounds, strict=True))
        ranks = [tuple((dim, c) for dim, c in rank if bounds[dim] > 1) for rank in tensor.ranks]
        ranks = [rank for rank in ranks if rank]
        used = [dim for rank in ranks for dim, _ in rank]
        pinning = {rank[0][0] for rank in ranks if len(rank) == 1 and used.count(rank[0][0]) == 1}
        self.tensor = tensor
        self.plain = len(pinning) == len(used)
        # Steps along a rank of one dim alone are never served by a neighbour, so these words always come from above.
        self.pinned_words = math.prod(bounds[dim] for dim in pinning)
        regular = len(set(used)) == len(used)
        self.distinct_words = math.prod(_distinct(rank, bounds) for rank in ranks) if regular else self.pinned_words
        # Spatial factors f of a dim let up to f ** exponent MACs share a word.
        self.multicast_exponent = dict.fromkeys(workload.dims, 1.0)
        for rank in ranks:
            for dim, _ in rank:
                if dim in pinning:
                    self.multicast_exponent[dim] = 0.0
                elif regular:
                    # k dims in a rank have at least as many offsets as the largest factor among them.
                    self.multicast_exponent[dim] = 1.0 - 1.0 / len(rank)
        self.max_multicast = math.prod(bounds[dim] ** e for dim, e in self.multicast_exponent.items())
        self.reductions = math.prod(bounds[dim] for dim in workload.dims if dim not in used)
        self._accelerator = accelerator

    def has_links(self, boundaries: Iterable[int]) -> bool:
        """Whether neighbours can serve this tensor at one of these levels.

        A plain tensor has to come again and again for that, as it does at the MACs and where reuse is not allowed.
        """
        accelerator = self._accelerator
        return accelerator.peer_links and any(
            _may_be_parallel(accelerator, s)
            and (s == 0 or not self.plain or self.tensor.name in accelerator.levels[s - 1].no_temporal_reuse)
            for s in boundaries
        )

    def compulsory(self, level: int, boundaries: Iterable[int]) -> float:
        """Words that all instances of a level must read, or receive, if links can act at these boundaries."""
        if not self.has_links(boundaries):
            return self.distinct_words
        # Counts per instance are rounded: each used instance may lose a word.
        lost = 0 if self.plain else self._accelerator.levels[level].instances
        return max(0, self.pinned_words - lost)


def _may_be_parallel(accelerator: Accelerator, s: int) -> bool:
    cumulative = accelerator.fanout_check == "cumulative" and accelerator.mac.instances > 1
    return cumulative or accelerator.fanout_x[s] * accelerator.fanout_y[s] > 1


def _distinct(rank: Rank, bounds: dict[str, int]) -> int:
    """How many different values a rank takes, or fewer."""
    if len(rank) == 1:
        return bounds[rank[0][0]]
    if len(rank) == 2:
        (first, c1), (second, c2) = rank
        g = math.gcd(c1, c2)
        n1, n2 = bounds[first], bounds[second]
        return n1 * n2 - max(0, n1 - c2 // g) * max(0, n2 - c1 // g)
    if math.prod(bounds[dim] for dim, _ in rank) > _MAX_ENUMERATED:
        return max(bounds[dim] for dim, _ in rank)
    values = {0}
    for dim, c in rank:
        values = {value + c * i for value in values for i in range(bounds[dim])}
    return len(values)


def _latency(workload: Workload, accelerator: Accelerator, traffic: list[_Traffic]) -> float:
    cycles = workload.macs / max_parallelism(workload.bounds, accelerator)
    outermost = accelerator.levels[-1]
    boundaries = range(len(accelerator.levels))
    scales = accelerator.bandwidth_scales[-1]
    words = [
        tensor.compulsory(len(accelerator.levels) - 1, boundaries) * scales.get(tensor.tensor.name, 1.0)
        for tensor in traffic
    ]
    writes = sum(w for w, tensor in zip(words, traffic, strict=True) if tensor.tensor.is_output)
    reads = sum(words) - writes
    for demand, limit in (
        (reads, outermost.read_bandwidth_words_per_cycle),
        (writes, outermost.write_bandwidth_words_per_cycle),
        (reads + writes, outermost.shared_bandwidth_words_per_cycle),
    ):
        if limit is not None:
            cycles = max(cycles, demand / limit)
    return cycles


def _moving_energy(accelerator: Accelerator, workload: Workload, traffic: list[_Traffic]) -> float:
    """Least energy of all accesses (pJ) over all choices of the level that feeds the MACs with each tensor."""
    levels = accelerator.levels
    choices = [
        [s for s, level in enumerate(levels) if level.keep_only is None or tensor.tensor.name in level.keep_only]
        for tensor in traffic
    ]
    if math.prod(map(len, choices)) > _MAX_CHOICES:
        # Each tensor by itself, with all of the parallelism to share its words: lower, but still a bound.
        return sum(
            _joint_energy(workload, accelerator, [tensor], [feeding])
            for tensor, feeding in zip(traffic, choices, strict=True)
        )
    return _joint_energy(workload, accelerator, traffic, choices)


def _joint_energy(
    workload: Workload, accelerator: Accelerator, traffic: list[_Traffic], choices: list[list[int]]
) -> float:
    """Least energy of moving some tensors together, each fed to the MACs by one of its levels."""
    levels = accelerator.levels
    accesses = [_accesses(accelerator, tensor.tensor.is_output) for tensor in traffic]
    shared = max(sum(tensor.multicast_exponent[dim] for tensor in traffic) for dim in workload.dims)
    best = math.inf
    for feeding in itertools.product(*choices):
        parallelism = _parallelism_below(accelerator, max(feeding))
        fixed, less, served, with_reads, caps = 0.0, 0.0, [], [], []
        for tensor, energies, s in zip(traffic, accesses, feeding, strict=True):
            fixed += _transport_energy(accelerator, tensor, energies, s)
            if tensor.has_links(range(s + 1)):
                fixed += energies[s].served * tensor.compulsory(s, range(s + 1))
                continue
            caps.append(min(_parallelism_below(accelerator, s), tensor.max_multicast))
            # Each update comes with a read, but for the first visits of the words of each instance.
            read = energies[s].read if tensor.plain else 0.0
            served.append(energies[s].served * workload.macs)
            with_reads.append((energies[s].served + read) * workload.macs)
            less += read * tensor.distinct_words * min(levels[s].instances, tensor.reductions)
        once = _cheapest_multicast(served, caps, parallelism**shared)
        twice = _cheapest_multicast(with_reads, caps, parallelism**shared)
        best = min(best, fixed + max(once, twice - less))
    return best


def _parallelism_below(accelerator: Accelerator, s: int) -> int:
    """MACs that one instance of level s can feed."""
    macs = accelerator.mac.instances
    return macs if accelerator.fanout_check == "cumulative" else macs // accelerator.levels[s].instances


def _transport_energy(accelerator: Accelerator, tensor: _Traffic, energies: list[_Access], feeding: int) -> float:
    """Energy of bringing a tensor from the outermost level to the feeding one, or its results back.

    Keeping it at levels in between only adds accesses; but one of them may keep peer links from thinning out the
    traffic of the outermost level, so that both cases are bounds only together.
    """
    last = len(accelerator.levels) - 1
    if feeding == last:
        return 0.0
    everywhere = range(last + 1)
    received = tensor.compulsory(feeding, everywhere)
    fills = energies[feeding].fill * _received(accelerator, tensor, feeding, received)
    return energies[last].served * tensor.compulsory(last, everywhere) + fills


def _received(accelerator: Accelerator, tensor: _Traffic, feeding: int, words: float) -> float:
    """Fills of all instances; each used one may lose a word to rounding, where multiplicities differ."""
    return words if tensor.plain else max(0.0, words - accelerator.levels[feeding].instances)


def _cheapest_multicast(energies: list[float], caps: list[float], product: float) -> float:
    """Min sum_t energies[t] / m_t over 1 <= m_t <= caps[t] with prod m_t <= product.

    The optimum shares the product out in proportion to the energies, up to the caps: m_t = clip(energy_t * scale).
    """
    if not energies:
        return 0.0
    if math.prod(caps) <= product:
        return sum(energy / cap for energy, cap in zip(energies, caps, strict=True))

    def shares(scale: float) -> list[float]:
        return [min(max(energy * scale, 1.0), cap) for energy, cap in zip(energies, caps, strict=True)]

    positive = [energy for energy in energies if energy > 0]
    if not positive:
        return 0.0
    low, high = 1.0 / max(positive), max(caps) / min(positive)
    for _ in range(200):
        middle = math.sqrt(low * high)
        if math.prod(shares(middle)) <= product:
            low = middle
        else:
            high = middle
    # The larger scale is past the optimum, so that the sum is not above the true minimum.
    return sum(energy / share for energy, share in zip(energies, shares(high), strict=True))
