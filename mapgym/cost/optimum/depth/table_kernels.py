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
from mapgym.cost.optimum.orders_kernels import tile_words


class Tables(NamedTuple):
    """Least energies (pJ) of a boundary and all those outside it, by the tile below it (n tiles); inf where none fits.

    The groups are those of the first loop outside the tile.
    """

    first: NDArray[np.float64]  # [T + 1, n] with the first loop in each group
    least: NDArray[np.float64]  # [n] over all groups
    beyond: NDArray[np.float64]  # [T + 1, n] the least over multiples of the tile in the dims outside the group
    anywhere: NDArray[np.float64]  # [n] the least over all multiples of the tile


class Tile(NamedTuple):
    """Working memory: the tile below a boundary, and the loops of the level above it."""

    extent: NDArray[np.int64]  # [1, D]
    index: NDArray[np.int64]  # [D] of the block's extents among the divisors
    block: NDArray[np.int64]  # [D]
    left: NDArray[np.int64]  # [D] product of all loops outside the block
    loop: NDArray[np.int64]  # [D] bound of the level's loop; 1 for none
    base: NDArray[np.float64]  # [T] pJ if nothing is reused
    rest: NDArray[np.float64]  # [T] share that is left after loops that the tensor does not depend on, at least
    run: NDArray[np.float64]  # [T + 1] product of all loops of a group
    option: NDArray[np.int64]  # [D, V] indices of extents to try
    count: NDArray[np.int64]  # [D]
    turn: NDArray[np.int64]  # [D]


@kernel
def _slide(problem: Problem, slides: Slides, tile: Tile, gaps: int, t: int, d: int, bound: int) -> float:
    """Share of a tensor's words left, at least, if the first loop that moves it is of dim d; bound: 0 if unknown."""
    other = problem.partner[t, d]
    if other < 0:
        return 1.0
    length = (
        1
        + problem.coefficient[t, d] * (tile.extent[0, d] - 1)
        + problem.coefficient[t, other] * (tile.extent[0, other] - 1)
    )
    anew = min(1.0, problem.coefficient[t, d] * tile.block[d] / length)
    survives = problem.reuse_survives_stationary_steps
    if anew == 1.0 and not survives:
        return 1.0
    i, k = tile.index[d], tile.index[other]
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


@inlined_kernel
def open_tile(problem: Problem, slides: Slides, networks: Networks, state: State, s: int, tile: Tile) -> float:
    """Prepares the tile whose extents are filled in; returns the product of the loops outside it, 0 if it does not fit."""
    dims, tensors = problem.bounds.shape[0], problem.words.shape[0]
    total = 1.0
    for c in range(tensors + 1):
        tile.run[c] = 1.0
    for d in range(dims):
        block = tile.extent[0, d] * state.spatial[s, d]
        outside = block * state.outer[s + 1, d]
        if outside > problem.bounds[d] or problem.bounds[d] % outside != 0:
            return 0.0
        tile.block[d] = block
        tile.index[d] = problem.position[d, block]
        tile.left[d] = problem.bounds[d] // outside
        tile.run[problem.group[d]] *= tile.left[d]
        total *= tile.left[d]
    gaps = _gaps(state, s)
    survives = problem.reuse_survives_stationary_steps
    for t in range(tensors):
        tile.base[t], tile.rest[t] = 0.0, 1.0
        if state.weight[s, t] > 0.0:
            weight = state.weight[s, t]
            if networks.is_paired[s, state.choice[s], t]:
                weight = weight_of_tile(problem, networks, state, s, t, tile.extent[0])
            tile.base[t] = weight * tile_words(problem, tile.extent, 0, t) * total
            for d in range(dims):
                other = problem.partner[t, d]
                if other >= 0 and tile.left[d] > 1:
                    if survives:
                        share = _slide(problem, slides, tile, gaps, t, d, 0)
                    else:
                        share = 1.0 - 0.5 * slides.any_back[gaps, t, d, tile.index[d], tile.index[other]]
                    tile.rest[t] = min(tile.rest[t], share)
    return total


@inlined_kernel
def _gaps(state: State, s: int) -> int:
    """Whether blocks may grow between the loops outside a boundary."""
    return int(state.used[s + 1] > 1.0)


@inlined_kernel
def crossing(problem: Problem, slides: Slides, state: State, s: int, tile: Tile, c: int, run: float) -> float:
    """Least energy (pJ) of what crosses a boundary if the first loop is in group c and the group leads with a product.

    The first loop is one of the level's, where the level has any of the group.
    """
    dims = problem.bounds.shape[0]
    energy = 0.0
    for t in range(problem.words.shape[0]):
        if tile.base[t] == 0.0:
            continue
        if t == c:
            energy += tile.base[t] / run * tile.rest[t]
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
        energy += tile.base[t] * share
    return energy


@kernel
def bound_tile(
    problem: Problem, slides: Slides, networks: Networks, state: State, s: int, outside: Tables, tile: Tile
) -> float:
    """The least energy of boundary s and those outside it for the tile in ``tile``; run becomes that of each group."""
    dims, tensors = problem.bounds.shape[0], problem.words.shape[0]
    total = open_tile(problem, slides, networks, state, s, tile)
    for c in range(tensors + 1):
        tile.run[c] = tile.run[c] if total > 0.0 else np.inf
    if total == 0.0:
        return np.inf
    at = 0
    for d in range(dims):
        at += tile.index[d] * problem.stride[d]
        tile.loop[d] = 1
    if total == 1.0:
        least = outside.least[at]
        for t in range(tensors):
            least += tile.base[t]
            tile.run[t] = np.inf
        tile.run[tensors] = least
        return least
    least = np.inf
    for c in range(tensors + 1):
        longest = tile.run[c]
        tile.run[c] = np.inf
        if longest == 1.0:
            continue
        for d in range(dims):
            tile.count[d], tile.turn[d], tile.loop[d] = 0, 0, 1
            if problem.group[d] == c:
                for v in range(tile.index[d], problem.counts[d]):
                    n = problem.divisors[d, v] // tile.block[d]
                    if problem.divisors[d, v] % tile.block[d] == 0 and tile.left[d] % n == 0:
                        tile.option[d, tile.count[d]] = v
                        tile.count[d] += 1
        while True:
            j, inside = at, 1.0
            for d in range(dims):
                if tile.count[d] > 0:
                    v = tile.option[d, tile.turn[d]]
                    tile.loop[d] = problem.divisors[d, v] // tile.block[d]
                    inside *= tile.loop[d]
                    j += (v - tile.index[d]) * problem.stride[d]
            if outside.first[c, j] < tile.run[c]:
                # All loops of the level are in the group, and so is the next one.
                energy = crossing(problem, slides, state, s, tile, c, longest) + outside.first[c, j]
                tile.run[c] = min(tile.run[c], energy)
            if inside > 1.0 and outside.beyond[c, j] < tile.run[c]:
                energy = crossing(problem, slides, state, s, tile, c, inside) + outside.beyond[c, j]
                tile.run[c] = min(tile.run[c], energy)
            d = 0
            while d < dims:
                if tile.count[d] > 0:
                    tile.turn[d] += 1
                    if tile.turn[d] < tile.count[d]:
                        break
                    tile.turn[d] = 0
                d += 1
            if d == dims:
                break
        least = min(least, tile.run[c])
    return least


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
    out: Tables,
) -> float:
    """Fills the tables of boundary s from those of the next one, for the tiles that fit below it; returns the least."""
    dims, tensors, n = problem.bounds.shape[0], problem.words.shape[0], out.least.shape[0]
    for i in range(n):
        out.least[i] = out.anywhere[i] = np.inf
        for c in range(tensors + 1):
            out.first[c, i] = out.beyond[c, i] = np.inf
    least = np.inf
    for row in range(tiles.shape[0]):
        i = tiles[row]
        for d in range(dims):
            tile.extent[0, d] = problem.divisors[d, i // problem.stride[d] % problem.counts[d]]
        energy = bound_tile(problem, slides, networks, state, s, outside, tile)
        least = min(least, energy)
        out.least[i] = out.anywhere[i] = energy
        for c in range(tensors + 1):
            out.first[c, i] = tile.run[c]
            out.beyond[c, i] = energy
    # Least over multiples, one dim after the other; smaller divisors first, so that what is read has not changed yet.
    for d in range(dims):
        for i in range(n):
            v = i // problem.stride[d] % problem.counts[d]
            for w in range(v + 1, problem.counts[d]):
                if problem.divisors[d, w] % problem.divisors[d, v] == 0:
                    j = i + (w - v) * problem.stride[d]
                    out.anywhere[i] = min(out.anywhere[i], out.anywhere[j])
                    for c in range(tensors + 1):
                        if problem.group[d] != c:
                            out.beyond[c, i] = min(out.beyond[c, i], out.beyond[c, j])
    return least


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
