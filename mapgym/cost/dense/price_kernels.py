"""The compiled cost kernel: prices one mapping, or a batch of them, with the counts of Timeloop v3.

The rules are those of Timeloop v3; they and the closed forms are in docs/cost_model.md. Everything
that the real Timeloop does and one would not expect is marked QUIRK where it is coded.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import inlined_kernel, kernel
from mapgym.cost.dense.link_kernels import append_class, link_steps
from mapgym.cost.dense.memory_kernels import open_memory
from mapgym.cost.dense.offset_kernels import count_distinct, enumerate_instances, multiplicities, needs_enumeration
from mapgym.cost.dense.partition_kernels import partition_chain
from mapgym.cost.dense.scratch import (
    DIGIT,
    DIGITS,
    FIRST_LOOP,
    INNERMOST,
    MORE,
    OWN,
    PARTITION,
    REPLICATION,
    SPAN,
    USED,
    WORDS,
    Scratch,
)
from mapgym.cost.dense.tables import (
    ACCESS,
    BLOCK,
    HOP,
    IRREGULAR,
    IS_OUTPUT,
    KEY,
    PLAIN,
    READ,
    ROUTER,
    SHARED,
    SLIDING,
    UNLIMITED,
    WRITE,
    Tables,
)
from mapgym.cost.dense.traffic_kernels import list_loops, slowed, words_from_above
from mapgym.mapping.legality_kernels import legality_status
from mapgym.mapping.maps import Arrays, Maps

ENERGY, LATENCY = 0, 1
"""Rows of the array of costs: pJ and cycles."""


class Detail(NamedTuple):
    """Counts of every mapping, level and tensor; see CostDetail for the meaning."""

    reads: NDArray[np.int64]
    fills: NDArray[np.int64]
    updates: NDArray[np.int64]
    tile_words: NDArray[np.int64]
    partition_words: NDArray[np.int64]
    energy_pj: NDArray[np.float64]
    network_energy_pj: NDArray[np.float64]
    ingresses: NDArray[np.float64]
    link_transfers: NDArray[np.float64]
    spatial_reductions: NDArray[np.int64]
    multicast: NDArray[np.int64]
    used_instances: NDArray[np.int64]
    fanout_used: NDArray[np.int64]
    compute_cycles: NDArray[np.int64]
    level_cycles: NDArray[np.int64]


@kernel
def _all_classes(tables: Tables, scratch: Scratch, t: int, s: int, enumerated: bool) -> int:
    """Histogram of the multiplicities of all instances below level s, into plane MORE; returns its classes."""
    if enumerated:
        count, _, _ = enumerate_instances(tables, scratch, t, s, False, 0, 1, 1)
        return count
    return multiplicities(tables, scratch, t, s, s, scratch.levels[s, USED])


@inlined_kernel
def _network(
    tables: Tables, scratch: Scratch, s: int, count: int, doubled: bool, part: int, links: float
) -> tuple[float, float, int, int]:
    """Energy of the network below one instance of level s (pJ), words entering it, reductions and largest multicast."""
    hops, routed, entering, reductions, widest = 0.0, 0.0, 0.0, 0, 0
    size = math.sqrt(scratch.levels[s, USED])
    for c in range(count):
        words = scratch.traffic[c]
        if doubled:
            # QUIRK: without reduction in place the partial sums travel both ways, and the first visits that need no
            # read are taken off once for each multicast class.
            words = max(2 * words - part, 0.0)
        multiplicity = scratch.classes[OWN, c, 0]
        fan = math.sqrt(multiplicity)
        distance = size * fan + 0.5 * (size - fan) - size / fan + 0.5
        hops += distance * words
        routed = math.floor(routed + (1 + distance) * words)
        entering += words
        reductions += int((multiplicity - 1) * words)
        widest = max(widest, multiplicity)
    hop, router = tables.energies[s, HOP], tables.energies[s, ROUTER]
    energy = hops * hop + routed * router + links * (hop + 2 * router)
    return energy, entering, reductions, widest


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
    scratch: Scratch,
    t: int,
    s: int,
    mixed: bool,
    enumerated: bool,
    distinct: int,
    unlinked: int,
    count: int,
) -> int:
    """Adds the accesses of the steps without links to the classes; returns the number of classes."""
    if not mixed:
        multiplicity = scratch.levels[s, USED] // distinct
        return append_class(scratch, count, multiplicity, distinct, float(distinct) * unlinked)
    for c in range(_all_classes(tables, scratch, t, s, enumerated)):
        number = scratch.classes[MORE, c, 1]
        count = append_class(scratch, count, scratch.classes[MORE, c, 0], number, float(number) * unlinked)
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


@inlined_kernel
def _cross_boundary(
    tables: Tables,
    scratch: Scratch,
    keep: NDArray[np.bool_],
    i: int,
    tensor: tuple[int, bool, bool],
    s: int,
    below: tuple[float, bool],
    run: tuple[int, int],
    detail: Detail | None,
) -> tuple[float, float, float, float]:
    """Accesses of level s that serve the level below it, before bypassing (sections 3 and 4).

    Args:
        tables, scratch, keep, i, detail: see :func:`_price_tensor`.
        tensor: the tensor, whether it is the output, and whether it is plain.
        s: the level.
        below: what the level below serves, and whether it keeps the tensor.
        run: cycles of the MACs alone, and number of loops.

    Returns:
        (accesses of one instance, words that one instance below receives, words that links pass on, energy of the
        networks in pJ).
    """
    t, is_output, is_plain = tensor
    content_below, kept_below = below
    compute_cycles, loops = run
    instances = scratch.levels[s, USED]
    full = scratch.tiles[WORDS, s - 1, t] if s > 0 else 1
    translation, anew, repeats = 0, 0, 0
    if s == 0:
        # Without reuse at the MACs each of them reads its operands and updates its output in every cycle.
        words = compute_cycles
    elif is_plain:
        words = full * scratch.tiles[INNERMOST, s, t]
    else:
        words, translation, anew, repeats = words_from_above(tables, scratch, t, s, full, loops)
    distinct, mixed, enumerated, links_words, remaining, count = 1, False, False, 0, 0, 0
    unlinked = words
    has_network = detail is not None or tables.energies[s, HOP] + tables.energies[s, ROUTER] > 0.0
    list_classes = has_network
    if instances > 1:
        distinct, mixed, enumerated = _offsets(tables, scratch, t, s)
        # Sums over classes are exact, in any order, where the fan-out is a power of two and no level below hands on its
        # demand.
        list_classes = has_network or not kept_below or instances & (instances - 1) != 0
        if tables.peer_links:
            linked = link_steps(tables, scratch, t, s, full, translation, anew, repeats, distinct, list_classes)
            links_words, words_linked, remaining, count = linked
            unlinked -= words_linked
    content = float(distinct) * unlinked + remaining
    links = float(links_words)
    received = float(words) * instances - links
    if has_network or (list_classes and (mixed or count > 0)):
        if mixed or count > 0:
            count = _append_own_classes(tables, scratch, t, s, mixed, enumerated, distinct, unlinked, count)
        else:
            scratch.classes[OWN, 0, 0], scratch.classes[OWN, 0, 1] = instances // distinct, distinct
            scratch.traffic[0] = float(distinct) * unlinked
            count = 1
        received = 0.0
        share = 0.0
        for c in range(count):
            product = scratch.traffic[c] * scratch.classes[OWN, c, 0]
            received += product
            share += product / instances
    else:
        share = received / instances
    if not kept_below:
        # The bypassed level below hands its demand on, in proportion; its links are dropped.
        factor = content_below * instances / received
        content = 0.0
        for c in range(count):
            scratch.traffic[c] *= factor
            content += scratch.traffic[c]
        if count == 0:
            content = float(distinct) * unlinked * factor
        links = 0.0
    network = 0.0
    if has_network:
        doubled = is_output and tables.levels[s, UNLIMITED] != 0
        part = scratch.levels[s, PARTITION] if doubled and keep[i, s, t] else 0
        network, entering, reductions, widest = _network(tables, scratch, s, count, doubled, part, links)
        network *= scratch.levels[s, REPLICATION]
        if detail is not None:
            detail.network_energy_pj[i, s, t] = network
            detail.ingresses[i, s, t] = entering
            detail.link_transfers[i, s, t] = links
            detail.spatial_reductions[i, s, t] = reductions if is_output else 0
            detail.multicast[i, s, t] = widest
    return content, share, links, network


@inlined_kernel
def _complete_level(
    tables: Tables,
    scratch: Scratch,
    i: int,
    t: int,
    s: int,
    content: float,
    share: float,
    links: float,
    compute_cycles: int,
    detail: Detail | None,
) -> float:
    """Energy of level s, whose accesses are all known: what it serves, what it receives, what its neighbours pass on.

    Args:
        tables, scratch, i, t, compute_cycles, detail: see :func:`_price_tensor`.
        s: the level, which keeps the tensor.
        content: accesses that serve the level below.
        share, links: what crosses the boundary above, see :func:`_cross_boundary`.
    """
    peer = links / scratch.levels[s, REPLICATION]
    served = content + peer
    if tables.tensors[t, IS_OUTPUT] != 0:
        # The first visit of a word needs no read. QUIRK: the fills do not know that. Where links have taken accesses
        # away, the estimate of first visits can be more than is left.
        reads = int(max(math.floor(served - scratch.levels[s, PARTITION] + 0.5), 0.0))
        updates = math.floor(content + 0.5)
    else:
        reads, updates = math.floor(served + 0.5), 0
    fills = int(share + peer)
    block = tables.levels[s, BLOCK]
    accesses = reads + updates + fills
    if block > 1:
        # In float64: counts are far below 2**50, where the rounded-up quotient is exact, and it is faster.
        accesses = math.ceil(reads / block) + math.ceil(updates / block) + math.ceil(fills / block)
    storage = accesses * tables.energies[s, ACCESS] * scratch.levels[s, REPLICATION]
    if tables.has_bandwidth:
        # Added up tensor by tensor, as Timeloop does: the last digit decides where cycles are rounded up.
        scratch.demand[s, 0] += reads / compute_cycles
        scratch.demand[s, 1] += (updates + fills) / compute_cycles
    if detail is not None:
        detail.reads[i, s, t] = reads
        detail.fills[i, s, t] = fills
        detail.updates[i, s, t] = updates
        detail.tile_words[i, s, t] = scratch.tiles[WORDS, s, t]
        detail.partition_words[i, s, t] = scratch.levels[s, PARTITION]
        detail.energy_pj[i, s, t] = storage
    return storage


@inlined_kernel
def _price_tensor(
    tables: Tables,
    scratch: Scratch,
    keep: NDArray[np.bool_],
    i: int,
    t: int,
    compute_cycles: int,
    detail: Detail | None,
) -> float:
    """Energy of one tensor at all storage levels and networks, pJ; adds its demands to scratch.demand.

    Args:
        tables: of the task.
        scratch: where the loops of the mapping are listed.
        keep: of the batch.
        i: which mapping of it.
        t: the tensor.
        compute_cycles: cycles of the MACs alone.
        detail: receives the counts, unless it is None.
    """
    is_output = tables.tensors[t, IS_OUTPUT] != 0
    tensor = (t, is_output, tables.tensors[t, PLAIN] != 0)
    run = (compute_cycles, scratch.levels[scratch.tiles.shape[1], FIRST_LOOP])
    if is_output or detail is not None:
        partition_chain(tables, scratch, keep, i, t)
    outermost = scratch.tiles.shape[1] - 1
    while not keep[i, outermost, t]:
        outermost -= 1
    energy = 0.0
    content_below = 0.0
    kept_below = True
    for s in range(outermost + 2):
        content, share, links = 0.0, 0.0, 0.0
        if s <= outermost:
            content, share, links, network = _cross_boundary(
                tables, scratch, keep, i, tensor, s, (content_below, kept_below), run, detail
            )
            energy += network
        if s > 0 and kept_below:
            energy += _complete_level(tables, scratch, i, t, s - 1, content_below, share, links, compute_cycles, detail)
        if s <= outermost:
            content_below = content
            kept_below = keep[i, s, t]
    return energy


@inlined_kernel
def _level_cycles(tables: Tables, s: int, scratch: Scratch, compute_cycles: int) -> int:
    """Cycles that level s needs at its bandwidth (section 7)."""
    return slowed(
        compute_cycles,
        scratch.demand[s, 0],
        scratch.demand[s, 1],
        tables.energies[s, READ],
        tables.energies[s, WRITE],
        tables.energies[s, SHARED],
    )


@inlined_kernel
def price_one(
    tables: Tables, rules: NDArray[np.int64], scratch: Scratch, maps: Maps, i: int, detail: Detail | None
) -> tuple[int, float, float]:
    """Prices mapping i of a batch; returns (status, energy in pJ, cycles)."""
    keep = maps.keep
    status = legality_status(i, maps, rules, scratch.extents, scratch.tile_words)
    if status != 0:
        return status, math.inf, math.inf
    levels, tensors = keep.shape[1], keep.shape[2]
    compute_cycles = list_loops(tables, maps, i, scratch)
    if tables.has_bandwidth:
        scratch.demand[:] = 0.0
    macs = compute_cycles * scratch.levels[0, REPLICATION] * scratch.levels[0, USED]
    energy = macs * tables.mac_energy
    for t in range(tensors):
        energy += _price_tensor(tables, scratch, keep, i, t, compute_cycles, detail)
    cycles = compute_cycles
    if tables.has_bandwidth or detail is not None:
        for s in range(levels):
            needed = _level_cycles(tables, s, scratch, compute_cycles) if tables.has_bandwidth else compute_cycles
            cycles = max(cycles, needed)
            if detail is not None:
                detail.level_cycles[i, s] = needed
                detail.used_instances[i, s] = scratch.levels[s, REPLICATION]
                detail.fanout_used[i, s] = scratch.levels[s, USED]
    if detail is not None:
        detail.compute_cycles[i] = compute_cycles
    return status, energy, float(cycles)


@kernel
def price_batch(
    tables: Tables,
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
        arrays: of n mappings.
        status: int32[n], receives 0 or what is illegal.
        costs: float64[2, n], receives ENERGY in pJ and LATENCY in cycles.
        detail: receives the counts, unless it is None.
    """
    maps = Maps(*arrays)
    for i in range(len(status)):
        status[i], costs[ENERGY, i], costs[LATENCY, i] = price_one(tables, rules, scratch, maps, i, detail)


@kernel
def price_small_batch(
    arrays: Arrays,
    whole: NDArray[np.int64],
    floats: NDArray[np.float64],
    status: NDArray[np.int32],
    costs: NDArray[np.float64],
) -> None:
    """As :func:`price_batch`, through a door that costs a few microseconds less.

    Args:
        arrays, status, costs: see there.
        whole, floats: of the task, see :func:`mapgym.cost.dense.memory_kernels.pack_memory`.
    """
    memory = open_memory(whole, floats)
    price_batch(memory.tables, memory.rules, arrays, memory.scratch, status, costs, None)
