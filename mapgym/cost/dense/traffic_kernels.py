"""Loops and words: what one instance of each level needs from the level above it.

The rules are Timeloop's: docs/cost_model.md, "Traffic between a level and its tensor's tile below".
"""

from __future__ import annotations

import math
from typing import NamedTuple

from mapgym.compilation import inlined_kernel, kernel
from mapgym.cost.dense.scratch import (
    BOUND,
    DIGIT,
    DIGITS,
    FIRST_LOOP,
    INNERMOST,
    LOOP_DIM,
    LOOP_STEP,
    OUTSIDE,
    REPLICATION,
    SPAN,
    STEP,
    USED,
    USED_X,
    USED_Y,
    WORDS,
    X_DIGITS,
    Scratch,
)
from mapgym.cost.dense.tables import COEFFICIENT, DIM, KEY, PINNING, SEVERAL, SLIDING, TERMS, Tables
from mapgym.mapping.maps import Maps


@inlined_kernel
def list_loops(tables: Tables, maps: Maps, i: int, scratch: Scratch) -> int:
    """Lists the loops with a bound above 1 and the products that all tensors share; returns the compute cycles."""
    temporal, spatial, order, spatial_order = maps.temporal, maps.spatial, maps.order, maps.spatial_order
    levels, dims = temporal.shape[1], temporal.shape[2]
    tensors = tables.tensors.shape[0]
    loops = 0
    for d in range(dims):
        scratch.places[STEP, 0, d] = 1
    for s in range(levels):
        for t in range(tensors):
            scratch.tiles[WORDS, s, t] = int(scratch.tile_words[s, t])
        used = 1
        for d in range(dims):
            span = int(spatial[i, s, d])
            scratch.places[SPAN, s, d] = span
            scratch.places[STEP, s + 1, d] = int(scratch.extents[s, d])
            used *= span
        used_x, used_y, digits, x_digits = 1, 1, 0, 0
        if used > 1:
            for k in range(dims):
                d = spatial_order[i, s, k]
                span = scratch.places[SPAN, s, d]
                # Written first and counted after: there is no branch to mispredict.
                scratch.places[DIGIT, s, digits] = d
                digits += span > 1
                on_x = k < maps.spatial_split[i, s]
                x_digits += on_x and span > 1
                used_x *= span if on_x else 1
                used_y *= 1 if on_x else span
        scratch.levels[s, DIGITS], scratch.levels[s, X_DIGITS] = digits, x_digits
        scratch.levels[s, USED], scratch.levels[s, USED_X], scratch.levels[s, USED_Y] = used, used_x, used_y
        scratch.levels[s, FIRST_LOOP] = loops
        for k in range(dims):
            d = order[i, s, k]
            bound = temporal[i, s, d]
            scratch.loops[LOOP_DIM, loops] = d
            scratch.loops[BOUND, loops] = bound
            scratch.loops[LOOP_STEP, loops] = scratch.places[STEP, s, d] * scratch.places[SPAN, s, d]
            loops += bound > 1
    scratch.levels[levels, FIRST_LOOP] = loops
    # From the outermost loop inwards: the product of the bounds so far, and for each tensor that product at the
    # innermost loop that it depends on; irrelevant loops inside that one reuse the tile (section 3).
    outside = 1
    scratch.loops[OUTSIDE, loops] = 1
    for t in range(tensors):
        scratch.tiles[INNERMOST, levels - 1, t] = 1
    replication = 1
    j = loops
    for s in range(levels - 1, -1, -1):
        scratch.levels[s, REPLICATION] = replication
        replication *= scratch.levels[s, USED]
        while j > scratch.levels[s, FIRST_LOOP]:
            j -= 1
            outside *= scratch.loops[BOUND, j]
            scratch.loops[OUTSIDE, j] = outside
            d = scratch.loops[LOOP_DIM, j]
            for t in range(tensors):
                if tables.dims[KEY, t, d] != 0:
                    scratch.tiles[INNERMOST, s, t] = outside
        if s > 0:
            for t in range(tensors):
                scratch.tiles[INNERMOST, s - 1, t] = scratch.tiles[INNERMOST, s, t]
    return outside


@kernel
def _overlap(tables: Tables, scratch: Scratch, t: int, s: int, moved: int, step: int) -> int:
    """Words that a tile below level s > 0 shares with the one ``step`` iterations of the dim ``moved`` before."""
    words = 1
    for k in range(1, tables.product_dims[t, 0] + 1):
        words *= scratch.places[STEP, s, tables.product_dims[t, k]]
    for r in range(tables.affine.shape[2]):
        length = 1
        for k in range(tables.affine[TERMS, t, r, 0]):
            d, coefficient = tables.affine[DIM, t, r, k], tables.affine[COEFFICIENT, t, r, k]
            length += coefficient * (scratch.places[STEP, s, d] - 1)
            if d == moved:
                length -= coefficient * step
        words *= max(0, length)
    return words


class Movement(NamedTuple):
    """How the tile of a tensor below a level moves, step by step of the temporal loops at or above the level."""

    words: int  # that one instance below needs over the run
    translation: int  # of the first step that counts, as a key
    anew: int  # words that this step needs anew; 0 where no neighbour has any of them
    repeats: int  # how often a later loop takes the same step
    rests: int  # how often a later loop leaves the tile where it is, for nothing


@inlined_kernel
def move_tile(tables: Tables, scratch: Scratch, t: int, s: int, full: int, loops: int) -> Movement:
    """Words that one instance below level s > 0 needs over the run, for a tensor with halos.

    total = F + sum_j w_j * (D_a if T_j == T_a else F) + w_a * D_a over the temporal loops j at or above level s, where
    F is the full tile, a the first loop that counts and D_a the words that its step needs anew, the tile less its
    overlap with the one before. QUIRK: of each loop only the step from iteration 0 to 1 is looked at, with the inner
    loops at iteration 1, so that the translation of a step is T_j = v_j - sum of the inner v.

    If reuse survives stationary steps, a is the innermost loop that moves the tile, and steps with T_j = 0 cost
    nothing. Else it is the innermost loop, and a stationary step is a movement like any other, by nothing.
    """
    innermost = scratch.levels[s, FIRST_LOOP]
    first = innermost
    survives = tables.switches.reuse_survives
    if survives:
        while first < loops and tables.dims[KEY, t, scratch.loops[LOOP_DIM, first]] == 0:
            first += 1
    if first == loops:
        return Movement(full, 0, 0, 0, 0)
    d = scratch.loops[LOOP_DIM, first]
    translation = tables.dims[KEY, t, d] * scratch.loops[LOOP_STEP, first]
    whole = scratch.loops[OUTSIDE, first]
    # A dim with a rank to itself leaves the tile at once.
    anew = full if translation != 0 else 0
    r = tables.dims[SLIDING, t, d]
    if r >= 0:
        # Halo reuse: a movement along one rank by less than the tile's length needs only a slab of new words.
        length, distance = 1, 0
        for k in range(tables.affine[TERMS, t, r, 0]):
            e = tables.affine[DIM, t, r, k]
            coefficient = tables.affine[COEFFICIENT, t, r, k]
            length += coefficient * (scratch.places[STEP, s, e] - 1)
            if e == d:
                distance = coefficient * scratch.loops[LOOP_STEP, first]
        if distance < length:
            anew = full // length * distance
    elif r == SEVERAL:
        anew = full - _overlap(tables, scratch, t, s, d, scratch.loops[LOOP_STEP, first])
    if anew == full and (not survives or tables.dims[PINNING, t, d] != 0):
        return Movement(full * whole, translation, full if first == innermost else 0, 0, 0)
    repeats, rests = 0, 0
    inner = translation
    for j in range(first + 1, loops):
        d = scratch.loops[LOOP_DIM, j]
        step = tables.dims[KEY, t, d] * scratch.loops[LOOP_STEP, j]
        if step - inner == translation:
            repeats += scratch.loops[OUTSIDE, j] - scratch.loops[OUTSIDE, j + 1]
        elif survives and step == inner:
            rests += scratch.loops[OUTSIDE, j] - scratch.loops[OUTSIDE, j + 1]
        elif tables.dims[PINNING, t, d] != 0:
            break  # the tile has left for good, along a rank of its own
        inner += step
    after_first = scratch.loops[OUTSIDE, first + 1]
    words = full * (after_first - repeats - rests) + anew * (whole - after_first + repeats)
    # A step that follows a rest finds nothing that a neighbour has received just before.
    return Movement(words, translation, anew if first == innermost else 0, repeats, rests)


@inlined_kernel
def slowed(
    cycles: int, reads: float, writes: float, read_bandwidth: float, write_bandwidth: float, shared_bandwidth: float
) -> int:
    """Cycles that a level needs for its accesses at its bandwidths; demands and bandwidths are in words per cycle."""
    slowdown = 1.0
    if reads > read_bandwidth:
        slowdown = min(slowdown, read_bandwidth / reads)
    if writes > write_bandwidth:
        slowdown = min(slowdown, write_bandwidth / writes)
    if reads + writes > shared_bandwidth:
        slowdown = min(slowdown, shared_bandwidth / (reads + writes))
    return math.ceil(cycles / slowdown)
