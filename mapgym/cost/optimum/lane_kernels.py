"""What links between lanes leave of the words that they ask for, exactly for the loops of the register level.

The proof that the result is a lower bound is in docs/exact.md ("Links").
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import inlined_kernel, kernel
from mapgym.compilation.number_kernels import factorial
from mapgym.cost.optimum.problem import IRRELEVANT, PINNED, TILE, Problem

MOST_LANES = 64
MOST_LAYOUTS = 120  # orders of up to four spatial loops, each split between the two mesh sides in any way
_MOST_LOOPS = 4
_MOST_TRANSLATIONS = 24


class Lanes(NamedTuple):
    """How neighbours can serve the lanes below one register level (n layouts, T tensors, D dims).

    A layout is an order of the spatial loops and their split between the mesh sides.
    """

    factors: NDArray[np.int64]  # [D] the lanes that the tables are for; 0 at first
    layouts: NDArray[np.int64]  # [1] number of layouts; -1 if they are too many to list
    entries: NDArray[np.int64]  # [n, T] number of translations after which neighbours serve some lane
    translation: NDArray[np.int64]  # [n, T, 24] these translations
    offsets: NDArray[np.int64]  # [n, T, 24] different offsets of the lanes that are not served
    distinct: NDArray[np.int64]  # [T] different offsets of all lanes
    sliding: NDArray[np.int64]  # [T] whether a rank has two dims
    loops: NDArray[np.int64]  # [D] dims of the spatial loops
    order: NDArray[np.int64]  # [D] these in the order of a layout
    keys: NDArray[np.int64]  # [64] offset of each lane
    asked: NDArray[np.float64]  # [D + 1, T] words per cycle asked for in the steps of the loops placed so far
    moved: NDArray[np.int64]  # [D + 1, T] sum of the steps of the loops placed
    alive: NDArray[np.int64]  # [D + 1, T] whether later steps can be served
    inside: NDArray[np.float64]  # [D + 1] product of the loops placed
    left: NDArray[np.int64]  # [D + 1] bit mask of the loops of the register level not yet placed
    turn: NDArray[np.int64]  # [D + 1] next dim to try


def make_lanes(dims: int, tensors: int) -> Lanes:
    """Allocates the tables."""

    def whole(*shape: int) -> NDArray[np.int64]:
        return np.zeros(shape, np.int64)

    shape = (MOST_LAYOUTS, tensors, _MOST_TRANSLATIONS)
    return Lanes(
        factors=whole(dims), layouts=whole(1), entries=whole(MOST_LAYOUTS, tensors), translation=whole(*shape),
        offsets=whole(*shape), distinct=whole(tensors), sliding=whole(tensors), loops=whole(dims), order=whole(dims),
        keys=whole(MOST_LANES), asked=np.zeros((dims + 1, tensors)), moved=whole(dims + 1, tensors),
        alive=whole(dims + 1, tensors), inside=np.ones(dims + 1), left=whole(dims + 1), turn=whole(dims + 1),
    )  # fmt: skip


@kernel
def list_layouts(problem: Problem, lanes: Lanes, factors: NDArray[np.int64]) -> None:
    """Fills the tables for spatial factors [1, D] below the register level, unless they are for these already."""
    dims = problem.bounds.shape[0]
    same = True
    for d in range(dims):
        same &= lanes.factors[d] == factors[0, d]
    if same:
        return
    count, used = 0, 1
    for d in range(dims):
        lanes.factors[d] = factors[0, d]
        used *= factors[0, d]
        if factors[0, d] > 1:
            lanes.loops[count] = d
            count += 1
    lanes.layouts[0] = -1
    if count > _MOST_LOOPS or used > MOST_LANES:
        return
    layouts = 0
    for number in range(factorial(count)):
        _set_order(lanes, count, number)
        along_x = 1
        for split in range(count + 1):
            if split > 0:
                along_x *= factors[0, lanes.order[split - 1]]
            if along_x > problem.lanes_x or used // along_x > problem.lanes_y:
                continue
            for t in range(problem.words.shape[0]):
                if not _list_translations(problem, lanes, count, used, max(problem.lanes_x, along_x), layouts, t):
                    return
            layouts += 1
    lanes.layouts[0] = layouts


@inlined_kernel
def _set_order(lanes: Lanes, count: int, number: int) -> None:
    """The permutation of the spatial loops with a number."""
    taken = 0
    for k in range(count):
        place = number % (count - k)
        number //= count - k
        for i in range(count):
            if taken >> i & 1:
                continue
            if place == 0:
                lanes.order[k] = lanes.loops[i]
                taken |= 1 << i
                break
            place -= 1


@inlined_kernel
def _list_translations(problem: Problem, lanes: Lanes, count: int, used: int, width: int, layout: int, t: int) -> bool:
    """Lists after which translations neighbours serve some lane, for the order set; whether there is room for them."""
    keys, total = lanes.keys, 1
    keys[0] = 0
    for k in range(count):
        d = lanes.order[k]
        for i in range(total, total * lanes.factors[d]):
            keys[i] = keys[i - total] + problem.key[t, d]
        total *= lanes.factors[d]
    lanes.sliding[t] = 0
    for d in range(problem.bounds.shape[0]):
        if problem.partner[t, d] >= 0:
            lanes.sliding[t] = 1
    lanes.distinct[t] = _unserved(lanes, used, width, False, 0)
    entries = 0
    for e in range(used):
        for way in range(4):
            q = e + (1 if way == 0 else -1 if way == 1 else width if way == 2 else -width)
            if q < 0 or q >= used or (way < 2 and q // width != e // width):
                continue
            translation = keys[q] - keys[e]
            if translation != 0 and lanes.sliding[t] == 0:
                # Where each rank has one dim, steps that move the tile move it past all lanes.
                continue
            known = False
            for k in range(entries):
                known |= lanes.translation[layout, t, k] == translation
            if known:
                continue
            offsets = _unserved(lanes, used, width, True, translation)
            if offsets < lanes.distinct[t]:
                if entries == _MOST_TRANSLATIONS:
                    return False
                lanes.translation[layout, t, entries] = translation
                lanes.offsets[layout, t, entries] = offsets
                entries += 1
    lanes.entries[layout, t] = entries
    return True


@kernel
def _unserved(lanes: Lanes, used: int, width: int, links: bool, translation: int) -> int:
    """Different offsets among the lanes that no neighbour serves after a translation; of all without links."""
    keys, distinct = lanes.keys, 0
    for e in range(used):
        if links and _is_served(lanes, used, width, translation, e):
            continue
        new = True
        for q in range(e):
            if keys[q] == keys[e] and not (links and _is_served(lanes, used, width, translation, q)):
                new = False
                break
        distinct += new
    return distinct


@kernel
def _is_served(lanes: Lanes, used: int, width: int, translation: int, e: int) -> bool:
    want, column = lanes.keys[e] + translation, e % width
    return (
        (column > 0 and lanes.keys[e - 1] == want)
        or (column < width - 1 and e + 1 < used and lanes.keys[e + 1] == want)
        or (e >= width and lanes.keys[e - width] == want)
        or (e + width < used and lanes.keys[e + width] == want)
    )


@kernel
def offsets_after(lanes: Lanes, layout: int, t: int, translation: int) -> int:
    """Different offsets that lanes ask for after a translation."""
    for k in range(lanes.entries[layout, t]):
        if lanes.translation[layout, t, k] == translation:
            return lanes.offsets[layout, t, k]
    return lanes.distinct[t]


@kernel
def start_orders(problem: Problem, lanes: Lanes, extent: NDArray[np.int64], layout: int) -> None:
    """Sets the search of the orders of the register level's loops to its start."""
    lanes.left[0], lanes.turn[0], lanes.inside[0] = 0, 0, 1.0
    for d in range(problem.bounds.shape[0]):
        if extent[TILE, d] > lanes.factors[d]:
            lanes.left[0] |= 1 << d
    for t in range(problem.words.shape[0]):
        lanes.asked[0, t], lanes.moved[0, t] = 0.0, 0
        lanes.alive[0, t] = 1 if lanes.entries[layout, t] > 0 else 0


@kernel
def place_loop(problem: Problem, lanes: Lanes, extent: NDArray[np.int64], layout: int, depth: int, d: int) -> None:
    """Places the register level's loop of dim d next: state of depth + 1 from that of depth."""
    bound = extent[TILE, d] // lanes.factors[d]
    share = (1.0 - 1.0 / bound) / lanes.inside[depth]
    for t in range(problem.words.shape[0]):
        alive, moved = lanes.alive[depth, t], lanes.moved[depth, t]
        step = problem.key[t, d] * lanes.factors[d]
        offsets = lanes.distinct[t]
        if problem.role[t, d] == PINNED:
            alive = 0
        if alive != 0:
            offsets = offsets_after(lanes, layout, t, step - moved)
        lanes.asked[depth + 1, t] = lanes.asked[depth, t] + share * offsets
        lanes.moved[depth + 1, t] = moved + step
        lanes.alive[depth + 1, t] = alive
    lanes.inside[depth + 1] = lanes.inside[depth] * bound
    lanes.left[depth + 1] = lanes.left[depth] & ~(1 << d)
    lanes.turn[depth + 1] = 0


@kernel
def asked_outside(problem: Problem, lanes: Lanes, spread: NDArray[np.int64], extent: NDArray[np.int64], layout: int,
                  depth: int, t: int, c: int) -> float:  # fmt: skip
    """Words per cycle asked for in the steps of loops outside the registers, at least; first of them in group c.

    For a tensor with a sliding rank that the loops placed leave alive. If they have not moved it and group c does not
    either, the steps of that group are left out.
    """
    distinct = float(lanes.distinct[t])
    least = distinct
    for k in range(lanes.entries[layout, t]):
        least = min(least, float(lanes.offsets[layout, t, k]))
    moved = lanes.moved[depth, t]
    rests = c == t and moved == 0
    best = distinct
    for d in range(problem.bounds.shape[0]):
        block = extent[TILE, d] * spread[0, d]
        bound = problem.bounds[d] // block
        if bound == 1:
            continue
        if rests and problem.role[t, d] == IRRELEVANT:
            continue
        if (not rests and problem.group[d] != c) or problem.role[t, d] == PINNED:
            continue
        # The first loop takes at least as much as one of the smallest prime factor does.
        factor = 2
        while bound % factor != 0:
            factor += 1
        asked = float(offsets_after(lanes, layout, t, problem.key[t, d] * block - moved))
        best = min(best, asked + (least - asked) / factor)
    return best
