"""Link transfers: words that an instance takes from a grid neighbour instead of from the level above.

The rules are Timeloop's: docs/cost_model.md (on by default there; ``Accelerator.peer_links`` here). Instances sit in a
grid, numbered row by row. At a step with translation T an instance e can be served by a neighbour q that held, one
step ago, the tile that e needs now: offset(q) - offset(e) = T. QUIRK: if the spatial loops on X use less than the
width of the mesh, logical rows are not rows of the grid.
"""

from __future__ import annotations

from typing import NamedTuple

from mapgym.compilation import inlined_kernel, kernel
from mapgym.cost.dense.grid_kernels import enumerate_grid, list_groups
from mapgym.cost.dense.offset_kernels import count_distinct, enumerate_instances, multiplicities, needs_enumeration
from mapgym.cost.dense.scratch import (
    ACCESSES,
    BOUND,
    DIGIT,
    DIGITS,
    FIRST_LOOP,
    HOPS,
    INNERMOST,
    LOOP_DIM,
    LOOP_STEP,
    MAX_PATTERN_DIGITS,
    MORE,
    OUTSIDE,
    OWN,
    SPAN,
    STEP,
    USED,
    USED_X,
    USED_Y,
    X_DIGITS,
    Scratch,
)
from mapgym.cost.dense.tables import FANOUT_X, FANOUT_Y, KEY, PINNING, PLAIN, Features, Tables
from mapgym.cost.dense.traffic_kernels import Movement

# What peer links can do for the steps with one translation.
_NONE = 0  # nothing
_ALL = 1  # every instance is served by a neighbour
_ENDS = 2  # only the instances at one end of some digits are not served; their spans are in the last row
_UNKNOWN = 3  # look at every instance
_NOT_LISTED = -2


@kernel
def neighbour_differences(tables: Tables, scratch: Scratch, t: int, s: int, width: int) -> int:
    """What the offsets of two grid neighbours below level s can differ by, up to the sign.

    Going one place along a row (or a column) of the grid increments a digit after its inner digits have all wrapped
    around, so only one difference per digit can occur. Where rows of instances are not rows of the grid, a step along
    a column adds the digits of the width, with every pattern of carries.

    Returns:
        The number of entries of ``scratch.differences`` filled, or -1 if there are too many patterns to list.
    """
    digits = scratch.levels[s, DIGITS]
    misaligned = scratch.levels[s, USED] > width and scratch.levels[s, USED_X] != width
    row_end = digits if misaligned or scratch.levels[s, USED] <= width else scratch.levels[s, X_DIGITS]
    wrapped = 0
    for k in range(digits):
        if k == row_end:
            wrapped = 0
        d = scratch.places[DIGIT, s, k]
        step = tables.dims[KEY, t, d] * scratch.places[STEP, s, d]
        scratch.differences[k] = step - wrapped
        wrapped += (scratch.places[SPAN, s, d] - 1) * step
    count = digits
    if not misaligned:
        return count
    if digits > MAX_PATTERN_DIGITS:
        return -1
    for pattern in range(1 << digits):
        rest, carry, difference, possible = width, 0, 0, True
        for k in range(digits):
            d = scratch.places[DIGIT, s, k]
            n = scratch.places[SPAN, s, d]
            quotient = rest // n
            add = rest - quotient * n + carry
            rest = quotient
            carry = (pattern >> k) & 1
            if (carry == 1 and add == 0) or (carry == 0 and add >= n):
                possible = False
                break
            difference += (add - n * carry) * tables.dims[KEY, t, d] * scratch.places[STEP, s, d]
        if possible:
            scratch.differences[count] = difference
            count += 1
    return count


@kernel
def classify(tables: Tables, scratch: Scratch, t: int, s: int, translation: int, width: int) -> int:
    """Which instances below level s a neighbour can serve after a translation that is one of the differences."""
    digits = scratch.levels[s, DIGITS]
    if scratch.levels[s, USED] > width and scratch.levels[s, USED_X] != width:
        inner = 1
        for k in range(digits):
            d = scratch.places[DIGIT, s, k]
            if tables.dims[KEY, t, d] != 0:
                break
            inner *= scratch.places[SPAN, s, d]
        return _ALL if translation == 0 and inner > 1 and width % inner == 0 else _UNKNOWN
    row_end = digits if scratch.levels[s, USED] <= width else scratch.levels[s, X_DIGITS]
    spare = scratch.places.shape[1] - 1
    at_ends, elsewhere, blocked, wrapped = 0, 0, 0, 0
    for k in range(digits):
        if k == row_end:
            wrapped = 0
        d = scratch.places[DIGIT, s, k]
        step = tables.dims[KEY, t, d] * scratch.places[STEP, s, d]
        difference = step - wrapped
        if difference == translation or difference == -translation:
            if k == 0 or k == row_end:
                if translation == 0:
                    return _ALL
                if at_ends == 0:
                    for dim in range(scratch.places.shape[2]):
                        scratch.places[SPAN, spare, dim] = scratch.places[SPAN, s, dim]
                scratch.places[SPAN, spare, d] = 1
                at_ends += 1
            elif wrapped == 0 and translation != 0:
                # Of each group of instances with equal offsets only the last is served: no offset disappears.
                blocked += 1
            else:
                elsewhere += 1
        wrapped += (scratch.places[SPAN, s, d] - 1) * step
    if elsewhere > 0 or blocked > 1 or (at_ends > 0 and blocked > 0):
        return _UNKNOWN
    return _ENDS if at_ends > 0 else _NONE


@kernel
def append_class(scratch: Scratch, count: int, c_more: int, words: int) -> int:
    """Adds the accesses for so many words to the class of plane OWN that is like one of plane MORE.

    Classes are told apart by multiplicity and number of offsets, and kept ascending, the order in which Timeloop adds
    them up. Returns the number of classes.
    """
    classes = scratch.classes
    multiplicity, number = classes[MORE, c_more, 0], classes[MORE, c_more, 1]
    accesses, way = float(number) * words, 0.5 * float(classes[MORE, c_more, 2]) * words
    c = count
    while c > 0 and (
        classes[OWN, c - 1, 0] > multiplicity
        or (classes[OWN, c - 1, 0] == multiplicity and classes[OWN, c - 1, 1] >= number)
    ):
        c -= 1
    if c < count and classes[OWN, c, 0] == multiplicity and classes[OWN, c, 1] == number:
        scratch.traffic[ACCESSES, c] += accesses
        scratch.traffic[HOPS, c] += way
        return count
    for k in range(count, c, -1):
        classes[OWN, k, 0], classes[OWN, k, 1] = classes[OWN, k - 1, 0], classes[OWN, k - 1, 1]
        scratch.traffic[ACCESSES, k], scratch.traffic[HOPS, k] = (
            scratch.traffic[ACCESSES, k - 1],
            scratch.traffic[HOPS, k - 1],
        )
    classes[OWN, c, 0], classes[OWN, c, 1] = multiplicity, number
    scratch.traffic[ACCESSES, c], scratch.traffic[HOPS, c] = accesses, way
    return count + 1


class Sharing(NamedTuple):
    """How the instances below a level share words."""

    distinct: int  # groups of instances that receive the same words
    mixed: bool  # whether groups differ in size
    enumerated: bool  # whether finding that out took looking at every instance
    list_classes: bool  # whether classes are wanted
    on_grid: bool  # whether their ways on the grid are wanted too
    is_unicast: bool  # whether every instance is a group of its own, whatever its offset


@kernel
def _serve(
    tables: Tables,
    features: Features | None,
    scratch: Scratch,
    t: int,
    s: int,
    step: tuple[int, int, int],
    width: int,
    sharing: Sharing,
    count: int,
) -> tuple[int, int, int]:
    """Lets grid neighbours serve the steps with one translation, if that leaves fewer distinct offsets.

    Args:
        step: its effect (_ENDS or _UNKNOWN, from classify), its translation, and the words of all such steps together,
            per instance.
        width: of the grid of instances.
        sharing: of all instances.
        count: classes so far; if they are wanted, those of the instances that are not served are added.

    Returns:
        (words passed on by neighbours, accesses that remain, classes); nothing passed on if links are not used.
    """
    effect, translation, words = step
    classes, remaining, served = 0, 0, 0
    if effect == _ENDS and not needs_enumeration(tables, scratch, t, s):
        spare = scratch.places.shape[1] - 1
        remaining, _ = count_distinct(tables, scratch, t, s, spare)
        unserved = 1
        for d in range(scratch.places.shape[2] - 1):
            unserved *= scratch.places[SPAN, spare, d]
        served = scratch.levels[s, USED] - unserved
        if remaining >= sharing.distinct:
            return 0, 0, count
        if features is not None:
            if sharing.on_grid and not sharing.is_unicast:
                classes = list_groups(tables, features, scratch, t, s, spare, translation, True)
        if sharing.list_classes and not sharing.on_grid:
            classes = multiplicities(tables, scratch, t, s, spare, unserved)
    elif not sharing.on_grid and not sharing.is_unicast:
        height = max(tables.levels[s, FANOUT_Y], scratch.levels[s, USED_Y])
        classes, remaining, served = enumerate_instances(tables, scratch, t, s, True, translation, width, height)
    if features is not None:
        if classes == 0 and (sharing.on_grid or sharing.is_unicast):
            classes, remaining, served = enumerate_grid(tables, scratch, t, s, True, translation, sharing.is_unicast)
    if remaining >= sharing.distinct:
        return 0, 0, count
    if sharing.list_classes:
        for c in range(classes):
            count = append_class(scratch, count, c, words)
    return words * served, words * remaining, count


@inlined_kernel
def _effect_at_rest(tables: Tables, scratch: Scratch, t: int, s: int, width: int) -> int:
    """What peer links can do for a step that leaves the tiles of a plain tensor where they are, in aligned rows.

    Ranks of one term cannot make up for each other: only instances side by side along an irrelevant first digit of the
    row, or of the column, have equal offsets.
    """
    is_shared = tables.dims[KEY, t, scratch.places[DIGIT, s, 0]] == 0
    if scratch.levels[s, USED] > width:
        is_shared = is_shared or tables.dims[KEY, t, scratch.places[DIGIT, s, scratch.levels[s, X_DIGITS]]] == 0
    return _ALL if is_shared else _NONE


@inlined_kernel
def link_steps(
    tables: Tables,
    features: Features | None,
    scratch: Scratch,
    t: int,
    s: int,
    full: int,
    moved: Movement,
    forgets: bool,
    sharing: Sharing,
) -> tuple[int, int, int, int]:
    """Link transfers of one tensor at one boundary, summed over the steps of all temporal loops.

    Args:
        full: words of the tile below, 1 at the MACs.
        moved: how it moves.
        forgets: whether every step brings it anew: at the MACs, or where reuse is not allowed.
        sharing: of the instances.

    Returns:
        (words passed on, words per instance of the steps that links serve, accesses remaining in these steps, number
        of classes that they add).
    """
    passed, words_linked, remaining, count = 0, 0, 0, 0
    loops = scratch.levels[scratch.tiles.shape[1], FIRST_LOOP]
    j = scratch.levels[s, FIRST_LOOP]
    # Away from the MACs, a step along a rank of its own is longer than the offsets reach, and an empty one needs
    # nothing. Where the first step leaves a slab, only steps like it meet a neighbour's tile of the same shape.
    plain = tables.tensors[t, PLAIN] != 0
    slab = not forgets and moved.anew < full
    if j == loops or (not forgets and (plain or moved.anew == 0)) or (slab and moved.repeats == 0):
        return passed, words_linked, remaining, count
    first = j
    rest_is_free = tables.switches.reuse_survives and not forgets
    width = max(tables.levels[s, FANOUT_X], scratch.levels[s, USED_X])
    aligned = scratch.levels[s, USED_X] == width
    differences = _NOT_LISTED
    inner = 0
    while j < loops:
        step = 0
        if plain:
            # At the MACs a plain tensor's step is zero (leading irrelevant loops) or cannot be served.
            words = (scratch.loops[OUTSIDE, j] - scratch.tiles[INNERMOST, s, t]) * full
        elif slab:
            step = moved.translation
            words = scratch.loops[BOUND, j] * moved.repeats * moved.anew
        else:
            d = scratch.loops[LOOP_DIM, j]
            if tables.dims[PINNING, t, d] != 0:
                break
            step = tables.dims[KEY, t, d] * scratch.loops[LOOP_STEP, j]
            words = (scratch.loops[OUTSIDE, j] - scratch.loops[OUTSIDE, j + 1]) * full
            if rest_is_free:
                if j == first:
                    # Each time after a rest there is nothing that a neighbour has received just before.
                    words -= (scratch.loops[BOUND, j] - 1) * moved.rests * full
                elif step == inner:
                    words = 0
        if words > 0:
            if plain and (aligned or scratch.levels[s, USED] <= width):
                effect = _effect_at_rest(tables, scratch, t, s, width)
            else:
                if differences == _NOT_LISTED:
                    differences = neighbour_differences(tables, scratch, t, s, width)
                possible = differences < 0
                for k in range(differences):
                    difference = scratch.differences[k]
                    possible = possible or difference == step - inner or difference == inner - step
                effect = _NONE
                if possible:
                    effect = classify(tables, scratch, t, s, step - inner, width)
                    if sharing.is_unicast and effect != _ALL:
                        effect = _UNKNOWN
            if effect == _ALL:
                passed += words * scratch.levels[s, USED]
                words_linked += words
            elif effect != _NONE:
                own = (effect, step - inner, words)
                more, rest, count = _serve(tables, features, scratch, t, s, own, width, sharing, count)
                if more > 0:
                    passed += more
                    remaining += rest
                    words_linked += words
        if plain or slab:
            break
        inner += step
        j += 1
    return passed, words_linked, remaining, count
