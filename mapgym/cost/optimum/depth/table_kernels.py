"""The least energy of all boundaries outside a tile, for all tiles: docs/exact.md, "Depth"."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import inlined_kernel, kernel
from mapgym.cost.optimum.depth.boundary_kernels import State, weight_of_tile
from mapgym.cost.optimum.depth.network_kernels import Networks
from mapgym.cost.optimum.depth.problem import Problem
from mapgym.cost.optimum.depth.slide_kernels import Slides
from mapgym.cost.optimum.offset_kernels import sliding_length
from mapgym.cost.optimum.orders_kernels import tile_words
from mapgym.cost.optimum.solver_kernels import advance

OPTIONS = 3
"""How many choices of a run are told apart; what is beyond is joined to the longest of them with the least energy."""


class Tables(NamedTuple):
    """Least energies (pJ) of a boundary and all those outside it, by the tile below it (n tiles); inf if it cannot fit.

    The groups are those of the first loop outside the tile; the run is the product of the leading loops in the group.
    The working memory of several boundaries has an axis more in front.
    """

    value: NDArray[np.float64]  # [T + 1, OPTIONS, n] with the first loop in each group; the first option is the least
    run: NDArray[np.float64]  # [T + 1, OPTIONS, n] for an option, at most
    least: NDArray[np.float64]  # [n] over all groups
    beyond: NDArray[np.float64]  # [T + 1, n] the least over multiples of the tile in the dims outside the group
    anywhere: NDArray[np.float64]  # [n] the least over all multiples of the tile


class Tile(NamedTuple):
    """Working memory: the tile below a boundary, and the loops of the level above it."""

    extent: NDArray[np.int64]  # [1, D]
    indices: NDArray[np.int64]  # [D] of the block's extents among the divisors
    block: NDArray[np.int64]  # [D]
    left: NDArray[np.int64]  # [D] product of all loops outside the block
    loop: NDArray[np.int64]  # [D] bound of the level's loop; 1 for none
    base: NDArray[np.float64]  # [T] pJ if nothing is reused
    rest: NDArray[np.float64]  # [T] share that is left after loops that the tensor does not depend on, at least
    whole: NDArray[np.float64]  # [T + 1] product of all loops of a group
    value: NDArray[np.float64]  # [S + 1, T + 1, OPTIONS] of a chain, as Tables
    run: NDArray[np.float64]  # [S + 1, T + 1, OPTIONS] as Tables
    option: NDArray[np.int64]  # [D, V] indices of extents to try
    counts: NDArray[np.int64]  # [D]
    turn: NDArray[np.int64]  # [D]


@kernel
def _slide(problem: Problem, slides: Slides, tile: Tile, gaps: int, t: int, d: int, bound: int) -> float:
    """Share of a tensor's words left, at least, if the first loop that moves it is of dim d; bound: 0 if unknown."""
    other = problem.partner[t, d]
    if other < 0:
        return 1.0
    length = sliding_length(problem, tile.extent, t, d, 0)
    anew = min(1.0, problem.coefficient[t, d] * tile.block[d] / length)
    survives = problem.reuse_survives_stationary_steps
    if anew == 1.0 and not survives:
        return 1.0
    i, k = tile.indices[d], tile.indices[other]
    if bound > 0:
        j = problem.position[d, tile.block[d] * bound]
        same, back = slides.same[gaps, t, d, i, j, k], slides.back[gaps, t, d, i, j, k]
    else:
        same, back = slides.any_same[gaps, t, d, i, k], slides.any_back[gaps, t, d, i, k]
    if not survives:
        back = 0.0
    tail = 1.0 - same * (1.0 - anew) - back
    n = float(bound)
    if bound == 0:
        n = 2.0 if tail < anew else float(tile.left[d])
    return anew * (1.0 - 1.0 / n) + tail / n


@kernel
def open_tile(
    problem: Problem, slides: Slides, networks: Networks, state: State, s: int, tile: Tile, exactly: bool
) -> float:
    """Prepares the tile whose extents are filled in; returns the product of the loops outside it, 0 if it does not fit.

    Unless asked to do so exactly, offsets that depend on the tile are not looked up.
    """
    dims, tensors = problem.bounds.shape[0], problem.words.shape[0]
    total = 1.0
    for c in range(tensors + 1):
        tile.whole[c] = 1.0
    for d in range(dims):
        block = tile.extent[0, d] * state.spatial[s, d]
        outside = block * state.outer[s + 1, d]
        if outside > problem.bounds[d] or problem.bounds[d] % outside != 0:
            return 0.0
        tile.block[d] = block
        tile.indices[d] = problem.position[d, block]
        tile.left[d] = problem.bounds[d] // outside
        tile.whole[problem.group[d]] *= tile.left[d]
        total *= tile.left[d]
    gaps = _gaps(state, s)
    survives = problem.reuse_survives_stationary_steps
    for t in range(tensors):
        tile.base[t], tile.rest[t] = 0.0, 1.0
        if state.weight[s, t] > 0.0:
            weight = state.weight[s, t]
            if exactly and networks.is_paired[s, state.choice[s], t]:
                weight = weight_of_tile(problem, networks, state, s, t, tile.extent[0])
            tile.base[t] = weight * tile_words(problem, tile.extent, 0, t) * total
            for d in range(dims):
                other = problem.partner[t, d]
                if other >= 0 and tile.left[d] > 1:
                    if survives:
                        share = _slide(problem, slides, tile, gaps, t, d, 0)
                    else:
                        share = 1.0 - 0.5 * slides.any_back[gaps, t, d, tile.indices[d], tile.indices[other]]
                    tile.rest[t] = min(tile.rest[t], share)
    return total


@inlined_kernel
def _gaps(state: State, s: int) -> int:
    """Whether blocks may grow between the loops outside a boundary."""
    return int(state.used[s + 1] > 1.0)


@kernel
def crossing(problem: Problem, slides: Slides, state: State, s: int, tile: Tile, c: int) -> tuple[float, float]:
    """Least energies (pJ) of what crosses a boundary if the first loop is in group c.

    That of the tensors that the loop moves, and that of the one that it does not, to be divided by the group's run.
    The first loop is one of the level's, where the level has any of the group.
    """
    dims = problem.bounds.shape[0]
    moved, own = 0.0, 0.0
    for t in range(problem.words.shape[0]):
        if tile.base[t] == 0.0:
            continue
        if t == c:
            own = tile.base[t] * tile.rest[t]
            continue
        share = 1.0
        if tile.rest[t] < 1.0 or not problem.reuse_survives_stationary_steps:
            inside = False
            for d in range(dims):
                inside |= problem.group[d] == c and tile.loop[d] > 1
            share = np.inf
            for d in range(dims):
                if problem.group[d] == c and (tile.loop[d] > 1 or (not inside and tile.left[d] > 1)):
                    bound = tile.loop[d] if inside else 0
                    share = min(share, _slide(problem, slides, tile, _gaps(state, s), t, d, bound))
            share = min(share, 1.0)
        moved += tile.base[t] * share
    return moved, own


@inlined_kernel
def _clear_options(tile: Tile, row: int, c: int) -> None:
    for r in range(OPTIONS):
        tile.value[row, c, r], tile.run[row, c, r] = np.inf, 0.0


@inlined_kernel
def _is_beaten(tile: Tile, row: int, c: int, value: float, run: float) -> bool:
    """Whether an option is no worse."""
    beaten = False
    for r in range(OPTIONS):
        beaten |= tile.value[row, c, r] <= value and tile.run[row, c, r] >= run
    return beaten


@inlined_kernel
def _add_option(tile: Tile, row: int, c: int, value: float, run: float) -> None:
    """Adds an option, unless one that is there is no worse; those that are worse go. By value, runs grow with it."""
    value_of, run_of = tile.value[row, c], tile.run[row, c]
    place = 0
    while place < OPTIONS and value_of[place] <= value:
        place += 1
    if place == 0 or run_of[place - 1] < run:
        end = place
        while end < OPTIONS and value_of[end] < np.inf and run_of[end] <= run:
            end += 1
        if end == place:
            if value_of[OPTIONS - 1] < np.inf:
                # There is no room: one option stands for two.
                place = min(place, OPTIONS - 1)
                value_of[place] = min(value_of[place], value)
                run_of[place] = max(run_of[place], run)
                return
            for r in range(OPTIONS - 1, place, -1):
                value_of[r], run_of[r] = value_of[r - 1], run_of[r - 1]
        else:
            gap = end - place - 1
            for r in range(place + 1, OPTIONS):
                if r + gap < OPTIONS:
                    value_of[r], run_of[r] = value_of[r + gap], run_of[r + gap]
                else:
                    value_of[r], run_of[r] = np.inf, 0.0
        value_of[place], run_of[place] = value, run


@kernel
def bound_tile(
    problem: Problem,
    slides: Slides,
    networks: Networks,
    state: State,
    s: int,
    outside: Tables,
    tile: Tile,
    row: int,
    limit: float,
    least_only: bool,
) -> float:
    """The least energy of boundary s and those outside it for the tile in ``tile``; options go to a row of it.

    What is above the limit may be bounded less tightly. If only the least is asked for, other options may be missing.
    """
    dims, tensors = problem.bounds.shape[0], problem.words.shape[0]
    total = open_tile(problem, slides, networks, state, s, tile, limit == np.inf)
    for c in range(tensors + 1):
        _clear_options(tile, row, c)
    if total == 0.0:
        return np.inf
    at = 0
    for d in range(dims):
        at += tile.indices[d] * problem.stride[d]
        tile.loop[d] = 1
    if limit < np.inf:
        quick = _bound_quickly(problem, slides, state, s, outside, tile, at)
        if quick >= limit:
            for c in range(tensors + 1):
                if tile.whole[c] > 1.0 or total == 1.0:
                    _add_option(tile, row, c, quick, tile.whole[c])
            return quick
        open_tile(problem, slides, networks, state, s, tile, True)
    if total == 1.0:
        least = outside.least[at]
        for t in range(tensors):
            least += tile.base[t]
        _add_option(tile, row, tensors, least, 1.0)
        return least
    least = np.inf
    for c in range(tensors + 1):
        if tile.whole[c] > 1.0:
            most = least if least_only else np.inf
            _try_extents(problem, slides, state, s, outside, tile, row, c, at, most)
            least = min(least, tile.value[row, c, 0])
    return least


@inlined_kernel
def _bound_quickly(
    problem: Problem, slides: Slides, state: State, s: int, outside: Tables, tile: Tile, at: int
) -> float:
    """As bound_tile, as if all loops of a group came first, and the best of everything outside went with them."""
    quick = np.inf
    for c in range(problem.words.shape[0] + 1):
        if tile.whole[c] > 1.0:
            moved, own = crossing(problem, slides, state, s, tile, c)
            quick = min(quick, moved + own / tile.whole[c] + outside.anywhere[at])
    if quick == np.inf:
        # There is no loop outside.
        quick = outside.least[at]
        for t in range(problem.words.shape[0]):
            quick += tile.base[t]
    return quick


@inlined_kernel
def _try_extents(
    problem: Problem,
    slides: Slides,
    state: State,
    s: int,
    outside: Tables,
    tile: Tile,
    row: int,
    c: int,
    at: int,
    limit: float,
) -> None:
    """Adds the options below a limit of a first loop in group c, over all extents of the group; ``at`` is the block."""
    dims = problem.bounds.shape[0]
    slides_any = False
    for t in range(problem.words.shape[0]):
        if tile.base[t] > 0.0 and t != c:
            for d in range(dims):
                slides_any |= problem.group[d] == c and problem.partner[t, d] >= 0 and tile.left[d] > 1
    for d in range(dims):
        tile.option[d, 0], tile.counts[d], tile.turn[d], tile.loop[d] = tile.indices[d], 1, 0, 1
        if problem.group[d] == c:
            for v in range(tile.indices[d] + 1, problem.counts[d]):
                n = problem.divisors[d, v] // tile.block[d]
                if problem.divisors[d, v] % tile.block[d] == 0 and tile.left[d] % n == 0:
                    tile.option[d, tile.counts[d]] = v
                    tile.counts[d] += 1
    # What the tensors that move take at least; it depends on the extents only where one of them slides.
    at_least, own = crossing(problem, slides, state, s, tile, c)
    while True:
        j, inside = at, 1.0
        for d in range(dims):
            v = tile.option[d, tile.turn[d]]
            tile.loop[d] = problem.divisors[d, v] // tile.block[d]
            inside *= tile.loop[d]
            j += (v - tile.indices[d]) * problem.stride[d]
        moved, is_known = at_least, not slides_any
        for r in range(-1, OPTIONS):
            # The run ends at the level; or all loops of the level are in the group, and so is the next one.
            run, beyond = inside, outside.beyond[c, j]
            if r >= 0:
                run, beyond = inside * outside.run[c, r, j], outside.value[c, r, j]
            if beyond == np.inf or run == 1.0:
                continue
            value = moved + own / run + beyond
            if value >= limit or _is_beaten(tile, row, c, value, run):
                continue
            if not is_known:
                moved, _ = crossing(problem, slides, state, s, tile, c)
                is_known = True
                value = moved + own / run + beyond
            _add_option(tile, row, c, value, run)
        if advance(tile.turn, tile.counts, 0):
            break


@kernel
def bound_extents(
    problem: Problem, slides: Slides, networks: Networks, state: State, s: int, least: float, tile: Tile
) -> float:
    """As bound_tile, where the extents of level s are known: its loops are in ``tile``.

    Args:
        problem, slides, networks, state, s: see bound_tile.
        least: least energy outside, given these extents; its options are in row s + 1 of ``tile``, as row s becomes.
        tile: with the extents of the tile filled in.
    """
    dims, tensors = problem.bounds.shape[0], problem.words.shape[0]
    total = open_tile(problem, slides, networks, state, s, tile, True)
    for c in range(tensors + 1):
        _clear_options(tile, s, c)
    if total == 0.0:
        return np.inf
    if total == 1.0:
        for t in range(tensors):
            least += tile.base[t]
        _add_option(tile, s, tensors, least, 1.0)
        return least
    best = np.inf
    for c in range(tensors + 1):
        inside, ends = 1.0, False
        for d in range(dims):
            if problem.group[d] == c:
                inside *= tile.loop[d]
            else:
                ends |= tile.loop[d] > 1
        if tile.whole[c] == 1.0 or (ends and inside == 1.0):
            continue
        moved, own = crossing(problem, slides, state, s, tile, c)
        if not ends:
            for r in range(OPTIONS):
                if tile.value[s + 1, c, r] < np.inf:
                    run = inside * tile.run[s + 1, c, r]
                    _add_option(tile, s, c, moved + own / run + tile.value[s + 1, c, r], run)
        if inside > 1.0:
            _add_option(tile, s, c, moved + own / inside + least, inside)
        best = min(best, tile.value[s, c, 0])
    return best


@kernel
def fill_tables(
    problem: Problem,
    slides: Slides,
    networks: Networks,
    state: State,
    s: int,
    outside: Tables,
    tiles: NDArray[np.int64],
    tile: Tile,
    limit: float,
    out: Tables,
) -> float:
    """Fills the tables of boundary s from those of the next one, for the tiles that fit below it; returns the least.

    What is above the limit may be bounded less tightly; if that is all, the tables are of no use.
    """
    dims, tensors, n = problem.bounds.shape[0], problem.words.shape[0], out.least.shape[0]
    for i in range(n):
        out.least[i] = out.anywhere[i] = np.inf
        for c in range(tensors + 1):
            out.beyond[c, i] = np.inf
            for r in range(OPTIONS):
                out.value[c, r, i], out.run[c, r, i] = np.inf, 0.0
    least = np.inf
    for row in range(tiles.shape[0]):
        i = tiles[row]
        for d in range(dims):
            tile.extent[0, d] = problem.divisors[d, i // problem.stride[d] % problem.counts[d]]
        energy = bound_tile(problem, slides, networks, state, s, outside, tile, 0, limit, False)
        least = min(least, energy)
        out.least[i] = out.anywhere[i] = energy
        for c in range(tensors + 1):
            out.beyond[c, i] = energy
            for r in range(OPTIONS):
                out.value[c, r, i], out.run[c, r, i] = tile.value[0, c, r], tile.run[0, c, r]
    if least >= limit:
        return least
    for d in range(dims):
        # Larger extents first, so that a multiple by one prime stands for all multiples of it.
        for v in range(problem.counts[d] - 1, -1, -1):
            for w in range(v + 1, problem.counts[d]):
                if _is_prime_multiple(problem, d, v, w):
                    _take_least(problem, out, d, v, w)
    return least


@inlined_kernel
def _is_prime_multiple(problem: Problem, d: int, v: int, w: int) -> bool:
    """Whether a divisor of a bound is another one times a prime."""
    n = problem.divisors[d, w] // problem.divisors[d, v]
    is_one = problem.divisors[d, w] % problem.divisors[d, v] == 0
    k = 2
    while is_one and k * k <= n:
        is_one = n % k != 0
        k += 1
    return is_one


@kernel
def _take_least(problem: Problem, out: Tables, d: int, v: int, w: int) -> None:
    """Lowers what the tables have for an extent of a dim to what they have for another one."""
    stride, groups = problem.stride[d], out.beyond.shape[0]
    for start in range(0, out.least.shape[0], stride * problem.counts[d]):
        here, there = start + v * stride, start + w * stride
        for k in range(stride):
            out.anywhere[here + k] = min(out.anywhere[here + k], out.anywhere[there + k])
        for c in range(groups):
            if problem.group[d] != c:
                for k in range(stride):
                    out.beyond[c, here + k] = min(out.beyond[c, here + k], out.beyond[c, there + k])


@kernel
def mark_tiles(problem: Problem, s: int, keep: NDArray[np.bool_], tile: Tile, out: NDArray[np.bool_]) -> None:
    """Marks the tiles that fit level s if it keeps these tensors, bool[n]."""
    dims, tensors = problem.bounds.shape[0], problem.words.shape[0]
    for i in range(out.shape[0]):
        allowed = True
        for d in range(dims):
            v = i // problem.stride[d] % problem.counts[d]
            tile.extent[0, d] = problem.divisors[d, v]
            allowed &= problem.allowed[s, d, v]
        words = 0.0
        for t in range(tensors):
            if keep[t]:
                words += tile_words(problem, tile.extent, 0, t)
        out[i] = allowed and words <= problem.capacity[s]
