"""How often later loops take the step of a sliding tile's first loop again, or bring the tile back, at most."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import kernel
from mapgym.cost.optimum.depth.problem import Problem


class Slides(NamedTuple):
    """Shares of the steps outside the first loop that moves a tile, at most (docs/exact.md, "Depth").

    The first axis says whether blocks may grow between two loops, which they do where outer levels have spatial loops.
    Entries are for a tensor, the dim of the first loop, indices of the extents before and after it, and of the extent
    of the other dim of the rank; ``any`` is for extents that are any multiples of these, with a loop of any bound.
    """

    same: NDArray[np.float64]  # [2, T, D, V, V, V] steps that equal the first
    back: NDArray[np.float64]  # [2, T, D, V, V, V] steps that leave the tile where it is
    any_same: NDArray[np.float64]  # [2, T, D, V, V]
    any_back: NDArray[np.float64]  # [2, T, D, V, V]


class Stack(NamedTuple):
    """Working memory: one entry for each loop of a sequence."""

    extent: NDArray[np.int64]  # [depth, 2] extents of the two dims
    moved: NDArray[np.int64]  # [depth] sum of the steps so far
    inside: NDArray[np.float64]  # [depth] product of the loops so far
    share: NDArray[np.float64]  # [depth, 2]
    turn: NDArray[np.int64]  # [depth, 3] side, index of the extent before and after the loop


@kernel
def fill_slides(problem: Problem, slides: Slides, stack: Stack) -> None:
    """Fills all entries."""
    tensors, dims = problem.role.shape
    for gaps in range(2):
        for t in range(tensors):
            for a in range(dims):
                b = problem.partner[t, a]
                if b < 0:
                    continue
                for i in range(problem.counts[a]):
                    for j in range(i + 1, problem.counts[a]):
                        if problem.divisors[a, j] % problem.divisors[a, i] == 0:
                            for k in range(problem.counts[b]):
                                _follow(problem, slides, stack, gaps, t, a, i, j, k)
                _gather(problem, slides, gaps, t, a)


@kernel
def _gather(problem: Problem, slides: Slides, gaps: int, t: int, a: int) -> None:
    b = problem.partner[t, a]
    for i in range(problem.counts[a] - 1, -1, -1):
        for k in range(problem.counts[b] - 1, -1, -1):
            same, back = 0.0, 0.0
            for v in range(i, problem.counts[a]):
                if problem.divisors[a, v] % problem.divisors[a, i] == 0:
                    for w in range(k, problem.counts[b]):
                        if problem.divisors[b, w] % problem.divisors[b, k] == 0:
                            if v > i or w > k:
                                same = max(same, slides.any_same[gaps, t, a, v, w])
                                back = max(back, slides.any_back[gaps, t, a, v, w])
            for j in range(i + 1, problem.counts[a]):
                same = max(same, slides.same[gaps, t, a, i, j, k])
                back = max(back, slides.back[gaps, t, a, i, j, k])
            slides.any_same[gaps, t, a, i, k], slides.any_back[gaps, t, a, i, k] = same, back


@kernel
def _follow(problem: Problem, slides: Slides, stack: Stack, gaps: int, t: int, a: int, i: int, j: int, k: int) -> None:
    """Goes through all sequences of loops along the rank that follow a first loop of dim a from extent i to j."""
    b = problem.partner[t, a]
    first = problem.coefficient[t, a] * problem.divisors[a, i]
    depth = 0
    stack.extent[0, 0], stack.extent[0, 1] = j, k
    stack.moved[0], stack.inside[0] = first, 1.0
    stack.share[0, 0] = stack.share[0, 1] = 0.0
    stack.turn[0, 0], stack.turn[0, 1], stack.turn[0, 2] = 0, j, j
    same, back = 0.0, 0.0
    while depth >= 0:
        side = stack.turn[depth, 0]
        d = a if side == 0 else b
        at = stack.extent[depth, side]
        start, end = stack.turn[depth, 1], stack.turn[depth, 2] + 1
        # What is still to come is a share of 1 / inside, at most.
        rest = 1.0 / stack.inside[depth]
        if stack.share[depth, 0] + rest <= same and stack.share[depth, 1] + rest <= back:
            depth -= 1
            continue
        if end >= problem.counts[d]:
            start, end = start + 1, start + 1
            if gaps == 0 or start >= problem.counts[d]:
                if side == 1:
                    depth -= 1
                    continue
                stack.turn[depth, 0] = 1
                stack.turn[depth, 1] = stack.turn[depth, 2] = stack.extent[depth, 1]
                continue
            stack.turn[depth, 1], stack.turn[depth, 2] = start, end
            continue
        stack.turn[depth, 2] = end
        low, high = problem.divisors[d, start], problem.divisors[d, end]
        if low % problem.divisors[d, at] != 0 or high % low != 0:
            continue
        n = high // low
        step = problem.coefficient[t, d] * low
        share = (1.0 - 1.0 / n) / stack.inside[depth]
        stack.share[depth + 1, 0], stack.share[depth + 1, 1] = stack.share[depth, 0], stack.share[depth, 1]
        if step - stack.moved[depth] == first:
            stack.share[depth + 1, 0] += share
        elif step == stack.moved[depth]:
            stack.share[depth + 1, 1] += share
        depth += 1
        stack.moved[depth] = stack.moved[depth - 1] + step
        stack.inside[depth] = stack.inside[depth - 1] * n
        stack.extent[depth, 0], stack.extent[depth, 1] = stack.extent[depth - 1, 0], stack.extent[depth - 1, 1]
        stack.extent[depth, side] = end
        stack.turn[depth, 0] = 0
        stack.turn[depth, 1] = stack.turn[depth, 2] = stack.extent[depth, 0]
        same, back = max(same, stack.share[depth, 0]), max(back, stack.share[depth, 1])
    slides.same[gaps, t, a, i, j, k], slides.back[gaps, t, a, i, j, k] = same, back
