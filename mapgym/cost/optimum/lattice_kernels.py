"""The compiled filling of the tables over all buffer tiles and over the loops of sliding ranks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import kernel
from mapgym.cost.optimum.orders_kernels import OrderScratch, least_energy, tile_words
from mapgym.cost.optimum.problem import BUFFER, BUFFER_TILE, INNER, OUTER, Problem


class Lattice(NamedTuple):
    """Energy of the memory's traffic for one choice of what the buffer keeps, pJ (n buffer tiles, T tensors).

    An entry is inf where the tile is not allowed or does not fit. Group c holds the dims that tensor c does not
    depend on, group T those that all depend on.
    """

    weight: NDArray[np.float64]  # [T] pJ for each word between memory and buffer
    memory: NDArray[np.float64]  # [n] over all orders
    anywhere: NDArray[np.float64]  # [n] least of memory over all multiples of the tile
    outside: NDArray[np.float64]  # [T + 1, n] the same over the dims outside the group; those inside stay
    beyond: NDArray[np.float64]  # [T + 1, n] memory's first loop in the group; least over the dims of the group


class Chains(NamedTuple):
    """How much of a sliding tensor's traffic steps of equal translation can save, at most, as shares of the whole."""

    resting: NDArray[np.float64]  # [T, D, V, V] blocks of a dim and its partner; steps that do not move the tile
    returning: NDArray[
        np.float64
    ]  # [T, D, V, V, V] block, buffer extent, partner's block; the same if the dim is first
    sliding: NDArray[np.float64]  # [T, D, V, V, V] the same; steps equal to the first
    repeats: NDArray[np.bool_]  # [T, D, V, V] whether a later step can equal the first, which is of the dim


@kernel
def fill_lattice(problem: Problem, kept: NDArray[np.bool_], s: OrderScratch, lattice: Lattice) -> None:
    """Fills the tables for what the buffer keeps, bool[T]."""
    dims, tensors = problem.bounds.shape[0], problem.words.shape[0]
    n = problem.stride[dims]
    for t in range(tensors):
        s.weight[INNER, t], s.weight[OUTER, t] = 0.0, lattice.weight[t]
    for i in range(n):
        allowed = True
        for d in range(dims):
            v = i // problem.stride[d] % problem.counts[d]
            allowed &= problem.allowed[BUFFER, d, v]
            s.extent[BUFFER_TILE, d] = problem.divisors[d, v]
            s.bound[OUTER, d] = problem.bounds[d] // problem.divisors[d, v]
        words = 0.0
        for t in range(tensors):
            if kept[t]:
                words += tile_words(problem, s.extent, BUFFER_TILE, t)
        if allowed and words <= problem.capacity[BUFFER]:
            lattice.memory[i] = least_energy(problem, s, 0.0, np.inf, False, -1)
            for c in range(tensors + 1):
                lattice.beyond[c, i] = s.of_class[c]
        else:
            lattice.memory[i] = np.inf
            for c in range(tensors + 1):
                lattice.beyond[c, i] = np.inf
        lattice.anywhere[i] = lattice.memory[i]
        for c in range(tensors + 1):
            lattice.outside[c, i] = lattice.memory[i]
    # Least over the multiples of a tile, one dim after the other; smaller divisors first, so that what is read has
    # not been changed yet.
    for d in range(dims):
        for i in range(n):
            v = i // problem.stride[d] % problem.counts[d]
            for w in range(v + 1, problem.counts[d]):
                if problem.divisors[d, w] % problem.divisors[d, v] == 0:
                    j = i + (w - v) * problem.stride[d]
                    lattice.anywhere[i] = min(lattice.anywhere[i], lattice.anywhere[j])
                    for c in range(tensors + 1):
                        if problem.group[d] == c:
                            lattice.beyond[c, i] = min(lattice.beyond[c, i], lattice.beyond[c, j])
                        else:
                            lattice.outside[c, i] = min(lattice.outside[c, i], lattice.outside[c, j])


@kernel
def fill_chains(problem: Problem, chains: Chains, step: NDArray[np.int64], bound: NDArray[np.int64]) -> None:
    """Fills the shares of every sliding rank; step and bound are int64[4], working memory."""
    tensors, dims = problem.role.shape
    for t in range(tensors):
        for a in range(dims):
            b = problem.partner[t, a]
            if b < 0:
                continue
            for ba in range(problem.counts[a]):
                for ea in range(ba, problem.counts[a]):
                    if problem.divisors[a, ea] % problem.divisors[a, ba] != 0:
                        continue
                    for bb in range(problem.counts[b]):
                        for eb in range(bb, problem.counts[b]):
                            if problem.divisors[b, eb] % problem.divisors[b, bb] == 0:
                                _try_orders(problem, chains, step, bound, t, a, ba, ea, bb, eb)


@kernel
def _try_orders(problem: Problem, chains: Chains, step: NDArray[np.int64], bound: NDArray[np.int64], t: int, a: int,
                ba: int, ea: int, bb: int, eb: int) -> None:  # fmt: skip
    """Raises the shares to what the four orders of the loops of dim a and its partner b can save.

    The blocks of the two have the divisors ba and bb, the buffer's extents ea and eb.
    """
    b = problem.partner[t, a]
    for swaps in range(4):
        for level in range(2):
            inner = level == INNER
            start_a = problem.divisors[a, ba] if inner else problem.divisors[a, ea]
            start_b = problem.divisors[b, bb] if inner else problem.divisors[b, eb]
            end_a = problem.divisors[a, ea] if inner else problem.bounds[a]
            end_b = problem.divisors[b, eb] if inner else problem.bounds[b]
            at_a = 2 * level + (swaps >> level & 1)
            at_b = 2 * level + 1 - (swaps >> level & 1)
            step[at_a], bound[at_a] = problem.coefficient[t, a] * start_a, end_a // start_a
            step[at_b], bound[at_b] = problem.coefficient[t, b] * start_b, end_b // start_b
        resting = sliding = 0.0
        inside, moved, translation, first = 1.0, 0, 0, -1
        repeats = False
        for k in range(4):
            if bound[k] == 1:
                continue
            share = (1.0 - 1.0 / bound[k]) / inside
            if first < 0:
                first, translation = k, step[k]
                sliding += share
            else:
                if step[k] == moved:
                    resting += share
                if step[k] - moved == translation:
                    sliding += share
                    repeats = True
            moved += step[k]
            inside *= bound[k]
        chains.resting[t, a, ba, bb] = max(chains.resting[t, a, ba, bb], resting)
        if first >= 0 and (first & 1) == (swaps >> (first >> 1) & 1):
            chains.returning[t, a, ba, ea, bb] = max(chains.returning[t, a, ba, ea, bb], resting)
            chains.sliding[t, a, ba, ea, bb] = max(chains.sliding[t, a, ba, ea, bb], sliding)
            chains.repeats[t, a, ba, bb] |= repeats
