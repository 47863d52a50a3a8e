"""The compiled cost kernel: prices one mapping, or a batch of them, with the counts of Timeloop v3.

Rules: SEMANTICS of Timeloop (dense), sections 1 to 7; the closed forms are derived in docs/cost_model.md. Everything
that the real Timeloop does and one would not expect is marked QUIRK where it is coded.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mapgym.accelerator import Accelerator
from mapgym.cost.offsets import (
    LINK_ALL,
    LINK_FIXED,
    LINK_NONE,
    class_capacity,
    classify_link,
    count_distinct,
    enumerate_instances,
    multiplicities,
    needs_enumeration,
    table_size,
)
from mapgym.legality import legality_status


class Scratch(NamedTuple):
    """Working memory of one thread, reused for every mapping (L levels, D dims, T tensors)."""

    extents: NDArray[np.float64]  # [L, D] tile extents of each level, as the legality check leaves them
    tile_words: NDArray[np.float64]  # [L, T] words of the tile of each tensor, kept or not; likewise
    tiles: NDArray[np.int64]  # [L, T] the same as whole numbers
    spans: NDArray[np.int64]  # [L + 1, D] spatial factors; the last row is working memory of the link rule
    steps: NDArray[np.int64]  # [L + 1, D] extents below each level, the step of its innermost loop of each dim
    digits: NDArray[np.int64]  # [L, D] dims of the spatial loops of each level, innermost first
    digit_count: NDArray[np.int64]  # [L, 2] how many, and how many of them on X
    instances: NDArray[np.int64]  # [L, 3] spatial factors of the level multiplied: all, X, Y
    replication: NDArray[np.int64]  # [L] used instances of each level
    loop_dim: NDArray[np.int64]  # [L * D] temporal loops with a bound above 1, innermost first
    loop_bound: NDArray[np.int64]  # [L * D]
    loop_step: NDArray[np.int64]  # [L * D] extent of the dim inside the loop
    outside: NDArray[np.int64]  # [L * D + 1] product of the bounds from this loop outwards
    first_loop: NDArray[np.int64]  # [L + 1] index of the first loop of each level
    innermost_relevant: NDArray[np.int64]  # [L, T] outside[] of the innermost relevant loop at or above each level
    classes: NDArray[np.int64]  # [capacity, 2] multiplicity and number of offsets
    more_classes: NDArray[np.int64]  # [capacity, 2]
    spare_classes: NDArray[np.int64]  # [capacity, 2]
    traffic: NDArray[np.float64]  # [capacity] accesses of each class
    content: NDArray[np.float64]  # [L]
    partition: NDArray[np.int64]  # [L]
    demand: NDArray[np.float64]  # [L, 2] words per cycle, reads and writes
    keys: NDArray[np.int64]
    slots: NDArray[np.int64]
    counts: NDArray[np.int64]


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


def make_scratch(levels: int, dims: int, tensors: int, accelerator: Accelerator) -> Scratch:
    """Allocates the working memory for one task."""
    loops, macs = levels * dims, accelerator.mac.instances
    capacity = class_capacity(macs, loops)

    def integers(*shape: int) -> NDArray[np.int64]:
        return np.zeros(shape, np.int64)

    return Scratch(
        extents=np.zeros((levels, dims)),
        tile_words=np.zeros((levels, tensors)),
        tiles=integers(levels, tensors),
        spans=integers(levels + 1, dims),
        steps=integers(levels + 1, dims),
        digits=integers(levels, dims),
        digit_count=integers(levels, 2),
        instances=integers(levels, 3),
        replication=integers(levels),
        loop_dim=integers(loops),
        loop_bound=integers(loops),
        loop_step=integers(loops),
        outside=integers(loops + 1),
        first_loop=integers(levels + 1),
        innermost_relevant=integers(levels, tensors),
        classes=integers(capacity, 2),
        more_classes=integers(capacity, 2),
        spare_classes=integers(capacity, 2),
        traffic=np.zeros(capacity),
        content=np.zeros(levels),
        partition=integers(levels),
        demand=np.zeros((levels, 2)),
        keys=integers(macs),
        slots=integers(table_size(macs)),
        counts=integers(table_size(macs)),
    )


@njit(cache=True)
def _list_loops(tables, temporal, spatial, order, spatial_order, spatial_split, i, scratch):
    """Lists the loops with a bound above 1 and the products that all tensors share; returns the compute cycles."""
    levels, dims = temporal.shape[1], temporal.shape[2]
    tensors = tables.key.shape[0]
    loops = 0
    for d in range(dims):
        scratch.steps[0, d] = 1
    for s in range(levels):
        for t in range(tensors):
            scratch.tiles[s, t] = np.int64(scratch.tile_words[s, t])
        used = 1
        used_x = 1
        digits = 0
        x_digits = 0
        for d in range(dims):
            span = spatial[i, s, d]
            scratch.spans[s, d] = span
            scratch.steps[s + 1, d] = np.int64(scratch.extents[s, d])
            used *= span
        if used > 1:
            for k in range(dims):
                d = spatial_order[i, s, k]
                span = spatial[i, s, d]
                if span > 1:
                    scratch.digits[s, digits] = d
                    digits += 1
                    if k < spatial_split[i, s]:
                        x_digits += 1
                        used_x *= span
        scratch.digit_count[s, 0], scratch.digit_count[s, 1] = digits, x_digits
        scratch.instances[s, 0], scratch.instances[s, 1], scratch.instances[s, 2] = used, used_x, used // used_x
        scratch.first_loop[s] = loops
        for k in range(dims):
            d = order[i, s, k]
            bound = temporal[i, s, d]
            if bound > 1:
                scratch.loop_dim[loops] = d
                scratch.loop_bound[loops] = bound
                scratch.loop_step[loops] = scratch.steps[s, d] * scratch.spans[s, d]
                loops += 1
    scratch.first_loop[levels] = loops
    replication = 1
    for s in range(levels - 1, -1, -1):
        scratch.replication[s] = replication
        replication *= scratch.instances[s, 0]
    # From the outermost loop inwards: the product of the bounds so far, and for each tensor that product at the
    # innermost loop that it depends on; irrelevant loops inside that one reuse the tile (SEMANTICS section 3).
    outside = 1
    scratch.outside[loops] = 1
    j = loops
    for s in range(levels - 1, -1, -1):
        if s < levels - 1:
            for t in range(tensors):
                scratch.innermost_relevant[s, t] = scratch.innermost_relevant[s + 1, t]
        else:
            for t in range(tensors):
                scratch.innermost_relevant[s, t] = 1
        while j > scratch.first_loop[s]:
            j -= 1
            outside *= scratch.loop_bound[j]
            scratch.outside[j] = outside
            d = scratch.loop_dim[j]
            for t in range(tensors):
                if tables.key[t, d] != 0:
                    scratch.innermost_relevant[s, t] = outside
    return outside


@njit(cache=True)
def _tile_length(tables, t, r, steps, s):
    """Length along affine rank r of the tile below level s."""
    length = 1
    for k in range(tables.affine_terms[t, r]):
        length += tables.affine_coefficients[t, r, k] * (steps[s, tables.affine_dims[t, r, k]] - 1)
    return length


@njit(cache=True)
def _first_step(tables, t, s, scratch, full):
    """(key of the translation of the innermost loop above level s-1, words that its steps need anew)."""
    j = scratch.first_loop[s]
    d = scratch.loop_dim[j]
    step = tables.key[t, d] * scratch.loop_step[j]
    if step == 0:
        return step, 0
    r = tables.sliding_rank[t, d]
    if r >= 0:
        # Halo reuse: a movement along one rank by less than the tile's length needs only a slab of new words.
        for k in range(tables.affine_terms[t, r]):
            if tables.affine_dims[t, r, k] == d:
                distance = tables.affine_coefficients[t, r, k] * scratch.loop_step[j]
                length = _tile_length(tables, t, r, scratch.steps, s)
                if distance < length:
                    return step, full // length * distance
    # A dim with a rank to itself leaves the tile at once; a dim of two ranks moves it along both, which reuses nothing.
    return step, full


@njit(cache=True)
def _words_from_above(tables, t, s, scratch, full, loops):
    """(words that one instance below level s > 0 needs over the run, translation and size of the first step, repeats).

    total = F + sum_j w_j * (D1 if T_j == T_1 else F) + w_1 * D1 over the temporal loops j at or above level s, where
    F is the full tile, D1 the words of a step of the innermost loop and ``repeats`` the sum of w_j over the outer
    loops whose step looks the same. QUIRK: of each loop only the step from iteration 0 to 1 is looked at, with the
    inner loops at iteration 1, so the translation is T_j = v_j - sum of the inner v.
    """
    first = scratch.first_loop[s]
    if first == loops:
        return full, 0, full, 0
    translation, anew = _first_step(tables, t, s, scratch, full)
    whole = scratch.outside[first]
    if anew == full:
        return full * whole, translation, full, 0
    repeats = 0
    inner = translation
    outer = scratch.outside[first + 1]
    for j in range(first + 1, loops):
        d = scratch.loop_dim[j]
        step = tables.key[t, d] * scratch.loop_step[j]
        if step - inner == translation:
            repeats += outer - scratch.outside[j + 1]
        elif step != 0 and tables.pinning[t, d]:
            break  # the tile has left for good along a rank of its own
        inner += step
        outer = scratch.outside[j + 1]
    after_first = scratch.outside[first + 1]
    return full * (after_first - repeats) + anew * (whole - after_first + repeats), translation, anew, repeats


@njit(cache=True)
def _append_class(scratch, count, multiplicity, number, accesses):
    """Adds accesses to the class (multiplicity, number of offsets), ascending; returns the number of classes."""
    c = count
    while c > 0 and (
        scratch.classes[c - 1, 0] > multiplicity
        or (scratch.classes[c - 1, 0] == multiplicity and scratch.classes[c - 1, 1] >= number)
    ):
        c -= 1
    if c < count and scratch.classes[c, 0] == multiplicity and scratch.classes[c, 1] == number:
        scratch.traffic[c] += accesses
        return count
    for k in range(count, c, -1):
        scratch.classes[k, 0], scratch.classes[k, 1] = scratch.classes[k - 1, 0], scratch.classes[k - 1, 1]
        scratch.traffic[k] = scratch.traffic[k - 1]
    scratch.classes[c, 0], scratch.classes[c, 1], scratch.traffic[c] = multiplicity, number, accesses
    return count + 1


@njit(cache=True)
def _all_classes(tables, t, s, scratch, enumerated, target):
    """Histogram of multiplicities of all instances below level s into ``target``; returns the number of classes."""
    digit_count, instances = scratch.digit_count[s, 0], scratch.instances[s, 0]
    if enumerated:
        count, _, _ = enumerate_instances(
            tables,
            t,
            s,
            0,
            False,
            scratch.digits,
            digit_count,
            scratch.spans,
            scratch.steps,
            instances,
            (1, 1),
            scratch.keys,
            scratch.slots,
            scratch.counts,
            target,
        )
        return count
    return multiplicities(
        tables, t, scratch.spans, s, scratch.steps, s, instances, target, scratch.spare_classes
    )


@njit(cache=True)
def _serve(tables, t, s, scratch, translation, words, distinct, count, list_classes):
    """Lets grid neighbours serve the steps with one translation, if that leaves fewer distinct offsets.

    Args:
        words: words of all these steps together, per instance.
        distinct: distinct offsets of all instances.
        count: classes so far; with list_classes those of the instances that are not served are added.

    Returns:
        (words passed on by neighbours, accesses that remain, classes); nothing passed on if links are not used.
    """
    instances = scratch.instances[s, 0]
    width = max(tables.fanout[s, 0], scratch.instances[s, 1])
    spans, steps, spare = scratch.spans, scratch.steps, scratch.spans.shape[0] - 1
    digit_count, x_digits = scratch.digit_count[s, 0], scratch.digit_count[s, 1]
    effect = classify_link(
        tables, t, s, translation, scratch.digits, digit_count, x_digits, spans, steps, instances, width
    )
    if effect == LINK_NONE:
        return 0, 0, count
    if effect == LINK_ALL:
        return words * instances, 0, count
    classes = 0
    if effect == LINK_FIXED and not needs_enumeration(tables, t, spans, s):
        remaining, _ = count_distinct(tables, t, spans, spare, steps, s)
        unserved = 1
        for d in range(spans.shape[1]):
            unserved *= spans[spare, d]
        served = instances - unserved
        if list_classes:
            classes = multiplicities(
                tables, t, spans, spare, steps, s, unserved, scratch.more_classes, scratch.spare_classes
            )
    else:
        height = max(tables.fanout[s, 1], scratch.instances[s, 2])
        classes, remaining, served = enumerate_instances(
            tables,
            t,
            s,
            translation,
            True,
            scratch.digits,
            digit_count,
            spans,
            steps,
            instances,
            (width, height),
            scratch.keys,
            scratch.slots,
            scratch.counts,
            scratch.more_classes,
        )
    if remaining >= distinct:
        return 0, 0, count
    if list_classes:
        for c in range(classes):
            number = scratch.more_classes[c, 1]
            count = _append_class(scratch, count, scratch.more_classes[c, 0], number, float(number) * words)
    return words * served, words * remaining, count


@njit(cache=True)
def _link_steps(tables, t, s, scratch, loops, full, translation, anew, repeats, distinct, list_classes):
    """Link transfers of one tensor at one boundary, summed over the steps of all temporal loops.

    Returns:
        (words passed on, words per instance of the steps that links serve, accesses remaining in these steps, classes).
    """
    first = scratch.first_loop[s]
    passed, words_linked, remaining, count = 0, 0, 0, 0
    if first == loops:
        return passed, words_linked, remaining, count
    if s > 0 and (tables.plain[t] or anew == 0):
        # A step along a rank of its own is longer than the offsets reach; an empty step needs nothing.
        return passed, words_linked, remaining, count
    if s > 0 and anew < full:
        # Slabs: the current and the previous tile have the same shape only in steps that continue the first loop's.
        if repeats > 0:
            words = scratch.loop_bound[first] * repeats * anew
            passed, remaining, count = _serve(
                tables, t, s, scratch, translation, words, distinct, count, list_classes
            )
            if passed > 0:
                words_linked = words
        return passed, words_linked, remaining, count
    if s == 0 and tables.plain[t]:
        # Operands of the MACs: only steps that stay (leading irrelevant loops) can be served.
        words = scratch.outside[first] - scratch.innermost_relevant[0, t]
        if words > 0:
            passed, remaining, count = _serve(tables, t, s, scratch, 0, words, distinct, count, list_classes)
            if passed > 0:
                words_linked = words
        return passed, words_linked, remaining, count
    inner = 0
    for j in range(first, loops):
        d = scratch.loop_dim[j]
        if tables.pinning[t, d]:
            break
        step = tables.key[t, d] * scratch.loop_step[j]
        words = (scratch.outside[j] - scratch.outside[j + 1]) * full
        more, rest, count = _serve(tables, t, s, scratch, step - inner, words, distinct, count, list_classes)
        if more > 0:
            passed += more
            remaining += rest
            words_linked += words
        inner += step
    return passed, words_linked, remaining, count


@njit(cache=True)
def _partition_chain(tables, t, scratch):
    """Words of the tensor that each instance is responsible for, by Timeloop's estimate, outermost level first."""
    levels = scratch.tiles.shape[0]
    part = scratch.tiles[levels - 1, t]
    scratch.partition[levels - 1] = part
    for s in range(levels - 2, -1, -1):
        if scratch.instances[s + 1, 0] > 1:
            extended = 1
            for k in range(1, tables.product_dims[t, 0] + 1):
                d = tables.product_dims[t, k]
                extended *= scratch.steps[s + 1, d] * scratch.spans[s + 1, d]
            for r in range(tables.affine_terms.shape[1]):
                length = 1
                for k in range(tables.affine_terms[t, r]):
                    d = tables.affine_dims[t, r, k]
                    extent = scratch.steps[s + 1, d] * scratch.spans[s + 1, d]
                    length += tables.affine_coefficients[t, r, k] * (extent - 1)
                extended *= length
            # floor(part * tile / extended), in parts that stay small.
            tile = scratch.tiles[s, t]
            part = part // extended * tile + part % extended * tile // extended
        scratch.partition[s] = part


@njit(cache=True)
def _network(tables, t, s, scratch, count, doubled, part, links):
    """Energy of the network below one instance of level s (pJ), words entering it, reductions and largest multicast."""
    hops, routed, entering, reductions, widest = 0.0, 0.0, 0.0, 0, 0
    size = math.sqrt(scratch.instances[s, 0])
    for c in range(count):
        words = scratch.traffic[c]
        if doubled:
            # QUIRK: without reduction in place the partial sums travel both ways, and the first visits that need no
            # read are taken off once for each multicast class.
            words = 2 * words - part
        multiplicity = scratch.classes[c, 0]
        fan = math.sqrt(multiplicity)
        distance = size * fan + 0.5 * (size - fan) - size / fan + 0.5
        hops += distance * words
        routed = math.floor(routed + (1 + distance) * words)
        entering += words
        reductions += np.int64((multiplicity - 1) * words)
        widest = max(widest, multiplicity)
    hop, router = tables.hop_energy[s], tables.router_energy[s]
    energy = hops * hop + routed * router + links * (hop + 2 * router)
    return energy, entering, reductions, widest


@njit(cache=True)
def _price_tensor(tables, keep, i, t, scratch, compute_cycles, loops, detail):
    """Energy of one tensor at all storage levels and networks, pJ; adds its demands to scratch.demand."""
    levels = scratch.tiles.shape[0]
    is_output = t == tables.output
    if is_output or detail is not None:
        _partition_chain(tables, t, scratch)
    outermost = levels - 1
    while not keep[i, outermost, t]:
        outermost -= 1
    energy = 0.0
    content_below = 0.0
    kept_below = True
    for s in range(outermost + 2):
        content, share, links = 0.0, 0.0, 0.0
        if s <= outermost:
            # Accesses of level s that serve the level below it, before bypassing (sections 3 and 4).
            instances = scratch.instances[s, 0]
            full = scratch.tiles[s - 1, t] if s > 0 else 1
            translation, anew, repeats = 0, 0, 0
            if s == 0:
                # Without reuse at the MACs each of them reads its operands and updates its output in every cycle.
                words = compute_cycles
            elif tables.plain[t]:
                words = full * scratch.innermost_relevant[s, t]
            else:
                words, translation, anew, repeats = _words_from_above(tables, t, s, scratch, full, loops)
            distinct, mixed, enumerated, links_words, remaining, count = 1, False, False, 0, 0, 0
            unlinked = words
            list_classes = tables.has_network_energy or detail is not None
            if instances > 1:
                enumerated = needs_enumeration(tables, t, scratch.spans, s)
                if enumerated:
                    count = _all_classes(tables, t, s, scratch, True, scratch.more_classes)
                    mixed = count > 1
                    for c in range(count):
                        distinct += scratch.more_classes[c, 1]
                    distinct -= 1
                    count = 0
                else:
                    distinct, mixed = count_distinct(tables, t, scratch.spans, s, scratch.steps, s)
                # Sums over classes are exact, in any order, where the fan-out is a power of two and no level below
                # hands on its demand.
                list_classes = list_classes or not kept_below or instances & (instances - 1) != 0
                if tables.peer_links:
                    links_words, words_linked, remaining, count = _link_steps(
                        tables, t, s, scratch, loops, full, translation, anew, repeats, distinct, list_classes
                    )
                    unlinked -= words_linked
            content = float(distinct) * unlinked + remaining
            links = float(links_words)
            received = float(words) * instances - links
            if list_classes:
                if mixed:
                    classes = _all_classes(tables, t, s, scratch, enumerated, scratch.more_classes)
                    for c in range(classes):
                        number = scratch.more_classes[c, 1]
                        multiplicity = scratch.more_classes[c, 0]
                        count = _append_class(scratch, count, multiplicity, number, float(number) * unlinked)
                else:
                    count = _append_class(
                        scratch, count, instances // distinct, distinct, float(distinct) * unlinked
                    )
                received = 0.0
                share = 0.0
                for c in range(count):
                    product = scratch.traffic[c] * scratch.classes[c, 0]
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
            if tables.has_network_energy or detail is not None:
                doubled = is_output and tables.capacity[s] < 0
                part = scratch.partition[s] if doubled and keep[i, s, t] else 0
                network, entering, reductions, widest = _network(
                    tables, t, s, scratch, count, doubled, part, links
                )
                network *= scratch.replication[s]
                energy += network
                if detail is not None:
                    detail.network_energy_pj[i, s, t] = network
                    detail.ingresses[i, s, t] = entering
                    detail.link_transfers[i, s, t] = links
                    detail.spatial_reductions[i, s, t] = reductions if is_output else 0
                    detail.multicast[i, s, t] = widest
        below = s - 1
        if below >= 0 and kept_below:
            # Level `below` is complete: what it serves, what it receives from level s, what its neighbours pass on.
            peer = links / scratch.replication[below]
            served = content_below + peer
            if is_output:
                # The first visit of a word needs no read. QUIRK: the fills do not know that.
                reads = np.int64(math.floor(served - scratch.partition[below] + 0.5))
                updates = np.int64(math.floor(content_below + 0.5))
            else:
                reads, updates = np.int64(math.floor(served + 0.5)), np.int64(0)
            fills = np.int64(share + peer)
            block = tables.block[below]
            accesses = reads + updates + fills
            if block > 1:
                accesses = (reads + block - 1) // block + (updates + block - 1) // block + (fills + block - 1) // block
            storage = accesses * tables.access_energy[below] * scratch.replication[below]
            energy += storage
            if tables.has_bandwidth:
                # Added up tensor by tensor, as Timeloop does: the last digit decides where cycles are rounded up.
                scratch.demand[below, 0] += reads / compute_cycles
                scratch.demand[below, 1] += (updates + fills) / compute_cycles
            if detail is not None:
                detail.reads[i, below, t] = reads
                detail.fills[i, below, t] = fills
                detail.updates[i, below, t] = updates
                detail.tile_words[i, below, t] = scratch.tiles[below, t]
                detail.partition_words[i, below, t] = scratch.partition[below]
                detail.energy_pj[i, below, t] = storage
        if s <= outermost:
            content_below = content
            kept_below = keep[i, s, t]
    return energy


@njit(cache=True)
def _level_cycles(tables, s, scratch, compute_cycles):
    """Cycles that level s needs at its bandwidth (section 7)."""
    slowdown = 1.0
    reads, writes = scratch.demand[s, 0], scratch.demand[s, 1]
    if reads > tables.bandwidth[s, 0]:
        slowdown = min(slowdown, tables.bandwidth[s, 0] / reads)
    if writes > tables.bandwidth[s, 1]:
        slowdown = min(slowdown, tables.bandwidth[s, 1] / writes)
    if reads + writes > tables.bandwidth[s, 2]:
        slowdown = min(slowdown, tables.bandwidth[s, 2] / (reads + writes))
    return np.int64(math.ceil(compute_cycles / slowdown))


@njit(cache=True)
def price_one(
    tables, rules, temporal, spatial, order, spatial_order, spatial_split, keep, i, scratch, detail
):
    """Prices mapping i of a batch; returns (status, energy in pJ, cycles)."""
    status = legality_status(
        i, temporal, spatial, order, spatial_order, spatial_split, keep, rules, scratch.extents, scratch.tile_words
    )
    if status != 0:
        return status, math.inf, math.inf
    levels, tensors = temporal.shape[1], keep.shape[2]
    compute_cycles = _list_loops(tables, temporal, spatial, order, spatial_order, spatial_split, i, scratch)
    loops = scratch.first_loop[levels]
    if tables.has_bandwidth:
        scratch.demand[:] = 0.0
    macs = compute_cycles * scratch.replication[0] * scratch.instances[0, 0]
    energy = macs * tables.mac_energy
    for t in range(tensors):
        energy += _price_tensor(tables, keep, i, t, scratch, compute_cycles, loops, detail)
    cycles = compute_cycles
    if tables.has_bandwidth or detail is not None:
        for s in range(levels):
            needed = _level_cycles(tables, s, scratch, compute_cycles) if tables.has_bandwidth else compute_cycles
            cycles = max(cycles, needed)
            if detail is not None:
                detail.level_cycles[i, s] = needed
                detail.used_instances[i, s] = scratch.replication[s]
                detail.fanout_used[i, s] = scratch.instances[s, 0]
    if detail is not None:
        detail.compute_cycles[i] = compute_cycles
    return status, energy, float(cycles)


@njit(cache=True)
def price_batch(
    tables,
    rules,
    temporal,
    spatial,
    order,
    spatial_order,
    spatial_split,
    keep,
    scratch,
    status,
    energy_pj,
    latency_cycles,
    detail,
):
    """Prices all mappings of a batch into status, energy_pj and latency_cycles, and into detail unless it is None."""
    for i in range(temporal.shape[0]):
        status[i], energy_pj[i], latency_cycles[i] = price_one(
            tables, rules, temporal, spatial, order, spatial_order, spatial_split, keep, i, scratch, detail
        )
