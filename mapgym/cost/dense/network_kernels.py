"""Energy of the networks between levels.

Where all instances below a level receive alike, the main walk over the levels only notes what crosses; networks are
then charged for the whole mapping at once. So hardware without networks, and the walk, carry little of them. Where
instances receive different words, they are charged class by class, while the classes are listed.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import inlined_kernel, kernel
from mapgym.cost.dense.detail import Detail
from mapgym.cost.dense.grid_kernels import way_to_all
from mapgym.cost.dense.scratch import (
    ACCESSES,
    CHARGED,
    ENTERING,
    HOPS,
    LINKED,
    MULTIPLICITY,
    OWN,
    PARTITION,
    REPLICATION,
    TO_EACH,
    USED,
    Scratch,
)
from mapgym.cost.dense.tables import HOP, INGRESS, IS_OUTPUT, NETWORKED, ROUTER, UNLIMITED, Features, Tables


@inlined_kernel
def asks_for_networks(features: Features, place: tuple[int, int], detail: Detail | None) -> bool:
    """Whether the network below a level costs energy for a tensor, or its counts are asked for.

    Sparse pricing asks for the counts of levels alone: its detail has no room for those of networks.

    Args:
        place: the tensor and the level.
    """
    t, s = place
    asked = False
    if detail is not None:
        asked = len(detail.hops) > 0
    return asked or features.flags[s, t] & NETWORKED != 0


@inlined_kernel
def _travels_both_ways(tables: Tables, place: tuple[int, int]) -> bool:
    """Whether partial sums go back and forth: without reduction in place, above which there is no limit of capacity."""
    t, s = place
    return tables.tensors[t, IS_OUTPUT] != 0 and tables.levels[s, UNLIMITED] != 0


@inlined_kernel
def _entering(words: float, part: int) -> float:
    """Words of partial sums that enter a network which they travel both ways.

    QUIRK: the first visits that need no read are taken off once for each multicast class.
    """
    return max(2 * words - part, 0.0)


@inlined_kernel
def note_crossing(
    tables: Tables,
    scratch: Scratch,
    place: tuple[int, int],
    is_kept: bool,
    words: float,
    links: float,
    to_each: int,
    multiplicity: int,
) -> None:
    """Notes what crosses a network to instances that all receive alike, for :func:`charge_networks`.

    Args:
        place: the tensor and the level.
        is_kept: whether the level keeps the tensor.
        words: that enter the network.
        links: words that links pass on.
        to_each: words for each instance, whose way is to be measured on the grid.
        multiplicity: instances that receive a word together.
    """
    t, s = place
    if _travels_both_ways(tables, place):
        words = _entering(words, scratch.levels[s, PARTITION] if is_kept else 0)
    crossing = scratch.crossings[s, t]
    crossing[ENTERING], crossing[LINKED], crossing[TO_EACH] = words, links, to_each
    crossing[MULTIPLICITY], crossing[CHARGED] = multiplicity, 0.0


@inlined_kernel
def _charge(
    tables: Tables,
    features: Features,
    scratch: Scratch,
    i: int,
    place: tuple[int, int],
    count: int,
    links: float,
    detail: Detail | None,
) -> float:
    """Energy (pJ) of the networks below all instances of a level, of one tensor.

    Args:
        tables, features, scratch, i, detail: see :func:`mapgym.cost.dense.price_kernels.price_one`.
        place: the tensor and the level.
        count: classes of instances that receive the same words; what enters the network is in plane ACCESSES.
        links: words that links pass on.
    """
    t, s = place
    hop, router = features.energies[s, HOP], features.energies[s, ROUTER]
    hops, routed, entering, reductions, widest = 0.0, 0.0, 0.0, 0, 0
    for c in range(count):
        words, multiplicity = scratch.traffic[ACCESSES, c], scratch.classes[OWN, c, 0]
        if features.hops_on_grid:
            # QUIRK: what travels both ways is measured one way, and what a bypassed level hands on as if it did not.
            way = scratch.traffic[HOPS, c] if words > 0.0 else 0.0
            if router > 0.0 and words > 0.0:
                routed = math.floor(routed + (1.0 + math.floor(way / words)) * words)
        else:
            size, fan = math.sqrt(scratch.levels[s, USED]), math.sqrt(multiplicity)
            distance = size * fan + 0.5 * (size - fan) - size / fan + 0.5
            way = distance * words
            routed = math.floor(routed + (1.0 + distance) * words)
        hops += way
        entering += words
        reductions += int((multiplicity - 1) * words)
        widest = max(widest, multiplicity)
    energy = hops * hop + routed * router + links * (hop + 2 * router) + entering * features.energies[s, INGRESS]
    energy *= scratch.levels[s, REPLICATION]
    if detail is not None:
        detail.network_energy_pj[i, s, t] = energy
        if len(detail.hops) > 0:
            detail.ingresses[i, s, t] = entering
            detail.hops[i, s, t] = hops
            detail.link_transfers[i, s, t] = links
            detail.spatial_reductions[i, s, t] = reductions if tables.tensors[t, IS_OUTPUT] != 0 else 0
            detail.multicast[i, s, t] = widest
    return energy


@inlined_kernel
def charge_classes(
    tables: Tables,
    features: Features,
    scratch: Scratch,
    keep: NDArray[np.bool_],
    i: int,
    place: tuple[int, int],
    count: int,
    links: float,
    detail: Detail | None,
) -> None:
    """Charges a network whose classes of instances are listed, for :func:`charge_networks`; see :func:`_charge`."""
    t, s = place
    if _travels_both_ways(tables, place):
        part = scratch.levels[s, PARTITION] if keep[i, s, t] else 0
        for c in range(count):
            scratch.traffic[ACCESSES, c] = _entering(scratch.traffic[ACCESSES, c], part)
    crossing = scratch.crossings[s, t]
    crossing[MULTIPLICITY] = 0.0
    crossing[CHARGED] = _charge(tables, features, scratch, i, place, count, links, detail)


@kernel
def charge_networks(
    tables: Tables, features: Features, scratch: Scratch, keep: NDArray[np.bool_], i: int, detail: Detail | None
) -> float:
    """Energy (pJ) of all networks of a mapping, whose levels have been walked."""
    energy = 0.0
    levels, tensors = keep.shape[1], keep.shape[2]
    for t in range(tensors):
        outermost = levels - 1
        while not keep[i, outermost, t]:
            outermost -= 1
        for s in range(outermost + 1):
            if asks_for_networks(features, (t, s), detail):
                crossing = scratch.crossings[s, t]
                if crossing[MULTIPLICITY] > 0.0:
                    way = 0.0
                    if crossing[TO_EACH] > 0.0:
                        way = 0.5 * way_to_all(tables, features, scratch, t, s) * crossing[TO_EACH]
                    scratch.classes[OWN, 0, 0] = int(crossing[MULTIPLICITY])
                    scratch.traffic[ACCESSES, 0], scratch.traffic[HOPS, 0] = crossing[ENTERING], way
                    energy += _charge(tables, features, scratch, i, (t, s), 1, crossing[LINKED], detail)
                else:
                    energy += crossing[CHARGED]
    return energy
