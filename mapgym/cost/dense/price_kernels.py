"""The compiled cost kernel: prices one mapping, or a batch of them, with the counts of Timeloop.

The rules, which version of Timeloop has which, and the closed forms are in docs/cost_model.md; switches of the tables
say what holds. Everything that the real Timeloop does and one would not expect is marked QUIRK where it is coded.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import inlined_kernel, kernel
from mapgym.cost.dense.detail import Detail
from mapgym.cost.dense.grid_kernels import enumerate_grid, list_groups
from mapgym.cost.dense.link_kernels import Sharing, append_class, link_steps
from mapgym.cost.dense.memory_kernels import open_memory
from mapgym.cost.dense.network_kernels import asks_for_networks, charge_classes, charge_networks, note_crossing
from mapgym.cost.dense.offset_kernels import count_distinct, enumerate_instances, multiplicities, needs_enumeration
from mapgym.cost.dense.partition_kernels import partition_chain
from mapgym.cost.dense.scratch import (
    ACCESSES,
    DIGIT,
    DIGITS,
    FIRST_FILLS,
    FIRST_LOOP,
    INNERMOST,
    MORE,
    OUTSIDE,
    OWN,
    PARTITION,
    REPLICATION,
    SPAN,
    USED,
    WORDS,
    Scratch,
)
from mapgym.cost.dense.tables import (
    ADDRESS,
    BLOCK,
    CHARGED_APART,
    CLUSTERS,
    FILL,
    FORGETS,
    GATE,
    HOLES,
    INSTANCES,
    IRREGULAR,
    IS_OUTPUT,
    KEY,
    LEAK,
    PLAIN,
    READ,
    READABLE,
    SHARED,
    SLIDING,
    UNICAST,
    UPDATE,
    WRITABLE,
    Features,
    Tables,
)
from mapgym.cost.dense.traffic_kernels import Movement, list_loops, move_tile, slowed
from mapgym.mapping.legality_kernels import legality_status
from mapgym.mapping.maps import Arrays, Maps

ENERGY, LATENCY = 0, 1
"""Rows of the array of costs: pJ and cycles."""


@kernel
def _all_classes(tables: Tables, scratch: Scratch, t: int, s: int, enumerated: bool) -> int:
    """Histogram of the multiplicities of all instances below level s, into plane MORE; returns its classes."""
    if enumerated:
        count, _, _ = enumerate_instances(tables, scratch, t, s, False, 0, 1, 1)
        return count
    return multiplicities(tables, scratch, t, s, s, scratch.levels[s, USED])


@kernel
def _distinct_offsets(tables: Tables, scratch: Scratch, t: int, s: int) -> tuple[int, bool, bool]:
    """(distinct offsets of the instances below level s, whether multiplicities differ, whether it took enumeration)."""
    if needs_enumeration(tables, scratch, t, s):
        classes = _all_classes(tables, scratch, t, s, True)
        distinct = 0
        for c in range(classes):
            distinct += scratch.classes[MORE, c, 1]
        return distinct, classes > 1, True
    distinct, mixed = count_distinct(tables, scratch, t, s, s)
    return distinct, mixed, False


@kernel
def _append_own_classes(
    tables: Tables,
    features: Features | None,
    scratch: Scratch,
    t: int,
    s: int,
    sharing: Sharing,
    words: int,
    count: int,
) -> int:
    """Adds the accesses of the steps without links, so many words per instance; returns the number of classes."""
    classes = 0
    if features is not None:
        if sharing.is_unicast or (sharing.on_grid and sharing.enumerated):
            classes, _, _ = enumerate_grid(tables, scratch, t, s, False, 0, sharing.is_unicast)
        elif sharing.on_grid:
            classes = list_groups(tables, features, scratch, t, s, s, 0, sharing.mixed)
    if classes == 0:
        classes = 1
        scratch.classes[MORE, 0, 0] = scratch.levels[s, USED] // sharing.distinct
        scratch.classes[MORE, 0, 1] = sharing.distinct
        scratch.classes[MORE, 0, 2] = 0
        if sharing.mixed:
            classes = _all_classes(tables, scratch, t, s, sharing.enumerated)
    for c in range(classes):
        count = append_class(scratch, count, c, words)
    return count


@inlined_kernel
def _offsets(tables: Tables, scratch: Scratch, t: int, s: int) -> tuple[int, bool, bool]:
    """(distinct offsets of the instances below level s, whether multiplicities differ, whether it took enumeration)."""
    distinct = 1
    # Offsets coincide only if two spatial dims share a rank, or a dim is in two ranks.
    shared = tables.tensors[t, IRREGULAR] != 0
    ranks = 0
    for k in range(scratch.levels[s, DIGITS]):
        d = scratch.places[DIGIT, s, k]
        if tables.dims[KEY, t, d] != 0:
            distinct *= scratch.places[SPAN, s, d]
            rank = tables.dims[SLIDING, t, d]
            if rank >= 0:
                shared = shared or (ranks >> rank) & 1 != 0
                ranks |= 1 << rank
    mixed, enumerated = False, False
    if shared:
        distinct, mixed, enumerated = _distinct_offsets(tables, scratch, t, s)
    return distinct, mixed, enumerated


class Below(NamedTuple):
    """What the level below a boundary, or the MACs, wants from above."""

    content: float  # accesses that it serves, of one instance
    is_kept: bool  # whether it keeps the tensor


class Flow(NamedTuple):
    """What crosses the boundary between a level and the one below it."""

    content: float  # accesses of one instance of the level
    share: float  # words that one instance below receives
    links: float  # words that links pass on among those below


@inlined_kernel
def _cross_boundary(
    tables: Tables,
    features: Features | None,
    scratch: Scratch,
    keep: NDArray[np.bool_],
    i: int,
    tensor: tuple[int, bool],
    s: int,
    below: Below,
    run: tuple[int, int],
    detail: Detail | None,
) -> Flow:
    """Accesses of level s that serve the level below it, before bypassing (sections 3 and 4).

    Args:
        tables, features, scratch, keep, i, detail: see :func:`_price_tensor`.
        tensor: the tensor, and whether it is plain.
        s: the level.
        below: the level below.
        run: cycles of the MACs alone, and number of loops.
    """
    t, is_plain = tensor
    compute_cycles, loops = run
    instances = scratch.levels[s, USED]
    full = scratch.tiles[WORDS, s - 1, t] if s > 0 else 1
    moved = Movement(0, 0, 0, 0, 0)
    forgets, is_unicast, has_network, on_grid = s == 0, False, False, False
    if features is not None:
        flags = features.flags[s, t]
        forgets = forgets or flags & FORGETS != 0
        is_unicast = instances > 1 and flags & UNICAST != 0
        has_network = asks_for_networks(features, (t, s), detail)
        on_grid = has_network and instances > 1 and features.hops_on_grid
    if s == 0:
        # Without reuse at the MACs each of them reads its operands and updates its output in every cycle.
        words = compute_cycles
    elif forgets:
        words = full * scratch.loops[OUTSIDE, scratch.levels[s, FIRST_LOOP]]
    elif is_plain:
        words = full * scratch.tiles[INNERMOST, s, t]
    else:
        moved = move_tile(tables, scratch, t, s, full, loops)
        words = moved.words
    distinct, mixed, enumerated = 1, False, False
    list_classes, links_words, remaining, count = has_network, 0, 0, 0
    unlinked = words
    if instances > 1:
        if is_unicast:
            distinct = instances
        else:
            distinct, mixed, enumerated = _offsets(tables, scratch, t, s)
        # Sums over classes are exact, in any order, where the fan-out is a power of two and no level below hands on its
        # demand.
        list_classes = has_network or not below.is_kept or instances & (instances - 1) != 0
        if tables.switches.peer_links:
            sharing = Sharing(distinct, mixed, enumerated, list_classes, on_grid, is_unicast)
            linked = link_steps(tables, features, scratch, t, s, full, moved, forgets, sharing)
            links_words, words_linked, remaining, count = linked
            unlinked -= words_linked
    received = float(words) * instances - links_words
    if list_classes and (mixed or count > 0 or (on_grid and (enumerated or is_unicast))):
        sharing = Sharing(distinct, mixed, enumerated, list_classes, on_grid, is_unicast)
        steps = (unlinked, count, links_words)
        return _cross_by_class(tables, features, scratch, keep, i, (t, s), below, sharing, steps, detail)
    content, links = float(distinct) * unlinked + remaining, float(links_words)
    if not below.is_kept:
        # The bypassed level below hands its demand on, in proportion; its links are dropped.
        content *= below.content * instances / received
        links = 0.0
    if features is not None:
        if has_network:
            to_each = unlinked if on_grid else 0
            note_crossing(tables, scratch, (t, s), keep[i, s, t], content, links, to_each, instances // distinct)
    return Flow(content, received / instances, links)


@kernel
def _cross_by_class(
    tables: Tables,
    features: Features | None,
    scratch: Scratch,
    keep: NDArray[np.bool_],
    i: int,
    place: tuple[int, int],
    below: Below,
    sharing: Sharing,
    steps: tuple[int, int, int],
    detail: Detail | None,
) -> Flow:
    """As _cross_boundary, summed over classes of instances that receive the same words.

    Args:
        tables, features, scratch, keep, i, below, detail: see there.
        place: the tensor and the level.
        sharing: of the instances.
        steps: words per instance of the steps without links, classes of those with links, words that links pass on.
    """
    t, s = place
    unlinked, count, links = steps[0], steps[1], float(steps[2])
    instances = scratch.levels[s, USED]
    count = _append_own_classes(tables, features, scratch, t, s, sharing, unlinked, count)
    received, share, content = 0.0, 0.0, 0.0
    for c in range(count):
        product = scratch.traffic[ACCESSES, c] * scratch.classes[OWN, c, 0]
        received += product
        share += product / instances
        content += scratch.traffic[ACCESSES, c]
    if not below.is_kept:
        # The bypassed level below hands its demand on, in proportion; its links are dropped.
        factor = below.content * instances / received
        content = 0.0
        for c in range(count):
            scratch.traffic[ACCESSES, c] *= factor
            content += scratch.traffic[ACCESSES, c]
        links = 0.0
    if features is not None:
        if asks_for_networks(features, place, detail):
            charge_classes(tables, features, scratch, keep, i, place, count, links, detail)
    return Flow(content, share, links)


@inlined_kernel
def _blocks(words: int, block: int) -> float:
    """Accesses to so many words, in blocks of words.

    In float64: counts are far below 2**50, where the rounded-up quotient is exact, and it is faster.
    """
    return float(math.ceil(words / block)) if block > 1 else float(words)


@inlined_kernel
def _complete_level(
    tables: Tables,
    features: Features | None,
    scratch: Scratch,
    i: int,
    place: tuple[int, int],
    content: float,
    above: Flow,
    is_outermost: bool,
    compute_cycles: int,
    detail: Detail | None,
) -> float:
    """Energy of level s, whose accesses are all known: what it serves, what it receives, what its neighbours pass on.

    Args:
        tables, features, scratch, i, compute_cycles, detail: see :func:`_price_tensor`.
        place: the tensor, and the level, which keeps it.
        is_outermost: whether no level further out keeps it.
        content: accesses that serve the level below.
        above: what crosses the boundary above the level.
    """
    t, s = place
    used = scratch.levels[s, REPLICATION]
    peer = above.links / used
    served = content + peer
    block, energies = tables.levels[s, BLOCK], tables.energies
    updates, updating = 0, 0.0
    if tables.tensors[t, IS_OUTPUT] != 0:
        # The first visit of a word needs no read. Where links have taken accesses away, the estimate of first visits
        # can be more than is left.
        reads = int(max(math.floor(served - scratch.levels[s, PARTITION] + 0.5), 0.0))
        updates = math.floor(content + 0.5)
        updating = _blocks(updates, block) * energies[s, UPDATE]
        if not tables.switches.first_fills_elided:
            # QUIRK: the fills do not know about first visits.
            fills = int(above.share + peer)
        elif is_outermost:
            fills = math.floor(above.share + peer + 0.5)
        else:
            first = scratch.levels[s, FIRST_FILLS if tables.tensors[t, HOLES] != 0 else PARTITION]
            fills = int(max(math.floor(above.share + peer - first + 0.5), 0.0))
    else:
        reads, fills = math.floor(served + 0.5), int(above.share + peer)
    storage = updating + _blocks(reads, block) * energies[s, READ] + _blocks(fills, block) * energies[s, FILL]
    clusters, scale, addresses = used, 1.0, 0.0
    if features is not None:
        if features.flags[s, t] & CHARGED_APART != 0:
            # A cluster is charged as a whole, once.
            clusters = min(used, features.levels[s, CLUSTERS])
            scale = features.scales[s, t]
            # An update reads the word that it writes at the same address.
            accesses = (updates if tables.tensors[t, IS_OUTPUT] != 0 else reads) + fills
            addresses = accesses * features.energies[s, ADDRESS] * clusters
    storage *= clusters
    if tables.switches.has_bandwidth:
        # Added up tensor by tensor, as Timeloop does: the last digit decides where cycles are rounded up.
        scratch.demand[s, 0] += reads / compute_cycles * scale
        scratch.demand[s, 1] += (updates + fills) / compute_cycles * scale
    if detail is not None:
        detail.reads[i, s, t] = reads
        detail.fills[i, s, t] = fills
        detail.updates[i, s, t] = updates
        detail.tile_words[i, s, t] = scratch.tiles[WORDS, s, t]
        detail.partition_words[i, s, t] = scratch.levels[s, PARTITION]
        detail.energy_pj[i, s, t] = storage
        detail.address_energy_pj[i, s, t] = addresses
    return storage + addresses


@inlined_kernel
def _price_tensor(
    tables: Tables,
    features: Features | None,
    scratch: Scratch,
    keep: NDArray[np.bool_],
    i: int,
    t: int,
    compute_cycles: int,
    detail: Detail | None,
) -> float:
    """Energy of one tensor at all storage levels, pJ; adds its demands to scratch.demand.

    Args:
        tables, features: of the task.
        scratch: where the loops of the mapping are listed.
        keep: of the batch.
        i: which mapping of it.
        t: the tensor.
        compute_cycles: cycles of the MACs alone.
        detail: receives the counts, unless it is None.
    """
    is_output = tables.tensors[t, IS_OUTPUT] != 0
    tensor = (t, tables.tensors[t, PLAIN] != 0)
    run = (compute_cycles, scratch.levels[scratch.tiles.shape[1], FIRST_LOOP])
    needs_partition = is_output
    if detail is not None:
        needs_partition = is_output or len(detail.hops) > 0
    if needs_partition:
        partition_chain(tables, scratch, keep, i, t)
    outermost = scratch.tiles.shape[1] - 1
    while not keep[i, outermost, t]:
        outermost -= 1
    energy = 0.0
    below = Below(0.0, True)
    for s in range(outermost + 2):
        flow = Flow(0.0, 0.0, 0.0)
        if s <= outermost:
            flow = _cross_boundary(tables, features, scratch, keep, i, tensor, s, below, run, detail)
        if s > 0 and below.is_kept:
            energy += _complete_level(
                tables, features, scratch, i, (t, s - 1), below.content, flow, s > outermost, compute_cycles, detail
            )
        if s <= outermost:
            below = Below(flow.content, keep[i, s, t])
    return energy


@inlined_kernel
def _level_cycles(tables: Tables, s: int, scratch: Scratch, compute_cycles: int) -> int:
    """Cycles that level s needs at its bandwidth (section 7)."""
    return slowed(
        compute_cycles,
        scratch.demand[s, 0],
        scratch.demand[s, 1],
        tables.energies[s, READABLE],
        tables.energies[s, WRITABLE],
        tables.energies[s, SHARED],
    )


@inlined_kernel
def leaking_instances(features: Features, scratch: Scratch, s: int) -> float:
    """Instances of level s that are switched on: used ones, or all those that a used instance of the gate feeds."""
    gate = features.levels[s, GATE]
    fed = features.levels[s, INSTANCES] / features.levels[gate, INSTANCES]
    if fed > 1.0:
        return fed * max(1, scratch.levels[gate, REPLICATION])
    return float(max(1, scratch.levels[s, REPLICATION]))


@inlined_kernel
def price_one(
    tables: Tables,
    features: Features | None,
    rules: NDArray[np.int64],
    scratch: Scratch,
    maps: Maps,
    i: int,
    detail: Detail | None,
) -> tuple[int, float, float]:
    """Prices mapping i of a batch; returns (status, energy in pJ, cycles). See price_batch."""
    keep = maps.keep
    status = legality_status(i, maps, rules, scratch.extents, scratch.tile_words)
    if status != 0:
        return status, math.inf, math.inf
    levels, tensors = keep.shape[1], keep.shape[2]
    compute_cycles = list_loops(tables, maps, i, scratch)
    has_bandwidth = tables.switches.has_bandwidth
    if has_bandwidth:
        scratch.demand[:] = 0.0
    macs = compute_cycles * scratch.levels[0, REPLICATION] * scratch.levels[0, USED]
    energy = macs * tables.mac_energy
    for t in range(tensors):
        energy += _price_tensor(tables, features, scratch, keep, i, t, compute_cycles, detail)
    if features is not None:
        has_networks = features.has_networks
        if detail is not None:
            has_networks = has_networks or len(detail.hops) > 0
        if has_networks:
            energy += charge_networks(tables, features, scratch, keep, i, detail)
    cycles = compute_cycles
    if has_bandwidth or detail is not None:
        for s in range(levels):
            needed = _level_cycles(tables, s, scratch, compute_cycles) if has_bandwidth else compute_cycles
            cycles = max(cycles, needed)
            if detail is not None:
                detail.level_cycles[i, s] = needed
                detail.used_instances[i, s] = scratch.levels[s, REPLICATION]
                detail.fanout_used[i, s] = scratch.levels[s, USED]
    if features is not None:
        for s in range(levels):
            leak = 0.0
            if features.energies[s, LEAK] > 0.0:
                leak = features.energies[s, LEAK] * cycles * leaking_instances(features, scratch, s)
            energy += leak
            if detail is not None:
                detail.leakage_energy_pj[i, s] = leak
                detail.used_clusters[i, s] = min(scratch.levels[s, REPLICATION], features.levels[s, CLUSTERS])
    if detail is not None:
        detail.compute_cycles[i] = compute_cycles
    return status, energy, float(cycles)


@kernel
def price_batch(
    tables: Tables,
    features: Features | None,
    rules: NDArray[np.int64],
    arrays: Arrays,
    scratch: Scratch,
    status: NDArray[np.int32],
    costs: NDArray[np.float64],
    detail: Detail | None,
) -> None:
    """Prices all mappings of a batch.

    Args:
        tables, rules, scratch: of the task.
        features: of the task; None for hardware that has none of them, which is priced faster then.
        arrays: of n mappings.
        status: int32[n], receives 0 or what is illegal.
        costs: float64[2, n], receives ENERGY in pJ and LATENCY in cycles.
        detail: receives the counts, unless it is None; needs features.
    """
    maps = Maps(*arrays)
    for i in range(len(status)):
        status[i], costs[ENERGY, i], costs[LATENCY, i] = price_one(tables, features, rules, scratch, maps, i, detail)


@kernel
def price_small_batch(
    arrays: Arrays,
    whole: NDArray[np.int64],
    floats: NDArray[np.float64],
    status: NDArray[np.int32],
    costs: NDArray[np.float64],
) -> None:
    """As :func:`price_batch` without features, through a door that costs a few microseconds less.

    Args:
        arrays, status, costs: see there.
        whole, floats: of the task, see :func:`mapgym.cost.dense.memory_kernels.pack_memory`.
    """
    memory = open_memory(whole, floats)
    price_batch(memory.tables, None, memory.rules, arrays, memory.scratch, status, costs, None)


@kernel
def price_small_batch_with_features(
    arrays: Arrays,
    whole: NDArray[np.int64],
    floats: NDArray[np.float64],
    status: NDArray[np.int32],
    costs: NDArray[np.float64],
) -> None:
    """As :func:`price_small_batch`, with features."""
    memory = open_memory(whole, floats)
    price_batch(memory.tables, memory.features, memory.rules, arrays, memory.scratch, status, costs, None)
