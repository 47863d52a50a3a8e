"""The network between a level and the next inner one; see :mod:`reference_model`."""

from __future__ import annotations

import math

from mapgym.spec.levels import StorageLevel
from mapgym.spec.rules import CountingRules
from mapgym.spec.tensor import Tensor
from reference_traffic import Traffic


def mean_hops(multicast: int, fanout: int) -> float:
    """Mean wire length, in hops, of a multicast on a square mesh: what was counted before hops were measured."""
    side, reach = math.sqrt(fanout), math.sqrt(multicast)
    return side * reach + 0.5 * (side - reach) - side / reach + 0.5


def network_figures(
    level: StorageLevel, rules: CountingRules, tensor: Tensor, traffic: Traffic, partition: int, fanout: int
) -> dict[str, float]:
    """Counts and energy of one tensor's words below one instance of a level.

    Args:
        level: the outer one, which the network belongs to.
        rules: how hops are counted.
        tensor: whose words.
        traffic: words by their multicast.
        partition: words of an output that the instance is responsible for.
        fanout: inner instances in use.
    """
    ingresses = hop_words = 0.0
    routed = reductions = 0
    for key, words in sorted(traffic.accesses.items()):
        multicast, _ = key
        if tensor.is_output and level.capacity_words is None:
            # DRAM does not reduce in place: partial sums travel both ways.
            words = max(2 * words - partition, 0)
        if not words:
            continue
        way = traffic.hops[key] if rules.hops_on_grid else words * mean_hops(multicast, fanout)
        ingresses += words
        hop_words += way
        # Timeloop adds to a whole number, and measures routers by whole hops on the grid.
        length = way // words if rules.hops_on_grid else mean_hops(multicast, fanout)
        routed = math.floor(routed + (1 + length) * words)
        reductions += int((multicast - 1) * words)
    entrance = ingresses * level.energy_per_ingress_pj if rules.hops_on_grid else 0.0
    per_link = level.hop_energy_pj + 2 * level.router_energy_pj
    return {
        "ingresses": ingresses,
        "link_transfers": traffic.links,
        "multicast": max((multicast for multicast, _ in traffic.accesses), default=0),
        "spatial_reductions": reductions if tensor.is_output else 0,
        "hops": hop_words,
        "network_energy_pj": hop_words * level.hop_energy_pj
        + routed * level.router_energy_pj
        + entrance
        + traffic.links * per_link,
    }
