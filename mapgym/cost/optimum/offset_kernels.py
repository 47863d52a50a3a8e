"""Offsets of parallel instances: how many differ, and which of them links between neighbours can serve.

The proofs are in docs/exact.md ("Links").
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import kernel
from mapgym.compilation.number_kernels import greatest_common_divisor
from mapgym.cost.optimum.problem import IRRELEVANT, PINNED, TILE, Problem, Projections


@kernel
def different(a: int, b: int, first: int, second: int) -> int:
    """Different sums of a multiples of one step and b multiples of another."""
    g = greatest_common_divisor(first, second)
    return a * b - max(0, a - second // g) * max(0, b - first // g)


@kernel
def count_offsets(
    problem: Projections, factors: NDArray[np.int64], extent: NDArray[np.int64], t: int, least: bool
) -> float:
    """Instances with different offsets among those that spatial factors make; at least so many if ``least``."""
    count = 1
    for d in range(problem.bounds.shape[0]):
        other = problem.partner[t, d]
        if other < 0:
            if problem.role[t, d] != IRRELEVANT:
                count *= factors[0, d]
        elif other > d:
            a, b = factors[0, d], factors[0, other]
            if least:
                count *= a + b - 1
            else:
                first = problem.coefficient[t, d] * extent[TILE, d]
                second = problem.coefficient[t, other] * extent[TILE, other]
                count *= different(a, b, first, second)
    return float(count)


@kernel
def words_in_use(problem: Projections, spread: NDArray[np.int64], row: int, t: int) -> float:
    """Words of a tensor, at least, that each instance uses if dims are spread by the factors in a row."""
    words = 1
    for d in range(problem.bounds.shape[0]):
        own, other = problem.bounds[d] // spread[row, d], problem.partner[t, d]
        if problem.role[t, d] == PINNED:
            words *= own
        elif other > d:
            # Sums of one number from each of two sets: at least as many as there are numbers, but for one.
            words *= own + problem.bounds[other] // spread[row, other] - 1
    return float(words)


@kernel
def slides(problem: Projections, factors: NDArray[np.int64], t: int, both: bool) -> bool:
    """Whether spatial factors are along a sliding rank; with ``both``, along both dims of one."""
    for d in range(problem.bounds.shape[0]):
        other = problem.partner[t, d]
        if other >= 0 and factors[0, d] > 1 and (not both or factors[0, other] > 1):
            return True
    return False


@kernel
def product_of(problem: Problem, factors: NDArray[np.int64], t: int, role: int) -> float:
    """Product of the spatial factors of dims with a role in a tensor."""
    product = 1
    for d in range(problem.bounds.shape[0]):
        if problem.role[t, d] == role:
            product *= factors[0, d]
    return float(product)


@kernel
def has_sliding_rank(problem: Problem, t: int) -> bool:
    """Whether two dims make up a rank of a tensor."""
    sliding = False
    for d in range(problem.bounds.shape[0]):
        sliding |= problem.partner[t, d] >= 0
    return sliding


@kernel
def shares_offsets(problem: Problem, factors: NDArray[np.int64], t: int) -> bool:
    """Whether instances that spatial factors make can have the same offset."""
    return product_of(problem, factors, t, IRRELEVANT) > 1.0 or slides(problem, factors, t, True)


@kernel
def sliding_length(problem: Projections, extent: NDArray[np.int64], t: int, d: int, row: int) -> int:
    """Words of a tile, with the extents in a row, along the sliding rank that a dim is part of."""
    other = problem.partner[t, d]
    return (
        1 + problem.coefficient[t, d] * (extent[row, d] - 1) + problem.coefficient[t, other] * (extent[row, other] - 1)
    )


@kernel
def offsets_along(problem: Problem, factors: NDArray[np.int64], extent: NDArray[np.int64], t: int, d: int) -> float:
    """Different offsets of the blocks along the sliding rank that a dim is part of."""
    other = problem.partner[t, d]
    step, other_step = problem.coefficient[t, d] * extent[TILE, d], problem.coefficient[t, other] * extent[TILE, other]
    return float(different(factors[0, d], factors[0, other], step, other_step))


@kernel
def served_anywhere(problem: Problem, factors: NDArray[np.int64], extent: NDArray[np.int64], t: int) -> float:
    """Offsets of blocks that neighbours serve after a translation that is not 0, at most."""
    distinct, most = count_offsets(problem, factors, extent, t, False), 1.0
    for d in range(problem.bounds.shape[0]):
        if problem.partner[t, d] > d:
            most = max(most, offsets_along(problem, factors, extent, t, d))
    return distinct - distinct / most


@kernel
def served_across(problem: Problem, factors: NDArray[np.int64], extent: NDArray[np.int64], t: int) -> float:
    """The same after a translation along two sliding ranks at once."""
    served = served_anywhere(problem, factors, extent, t)
    if problem.blocks_y > 1:
        return served
    blocks, fewest = 1.0, np.inf
    for d in range(problem.bounds.shape[0]):
        blocks *= factors[0, d]
        if problem.partner[t, d] >= 0 and factors[0, d] > 1:
            fewest = min(fewest, factors[0, d])
    # Along a row, a step changes two ranks only where a loop of one of them wraps around.
    return min(served, blocks / fewest)


@kernel
def served_along(problem: Problem, factors: NDArray[np.int64], extent: NDArray[np.int64], t: int, d: int,
                 distance: int) -> float:  # fmt: skip
    """Offsets of blocks that neighbours serve after a translation along the rank of dim d alone, at most."""
    distinct = count_offsets(problem, factors, extent, t, False)
    if distance == 0:
        return distinct if shares_offsets(problem, factors, t) else 0.0
    along = offsets_along(problem, factors, extent, t, d)
    return min(distinct - distinct / along, _pairs(problem, factors, extent, t, d, distance))


@kernel
def _pairs(problem: Problem, factors: NDArray[np.int64], extent: NDArray[np.int64], t: int, d: int,
           distance: int) -> float:  # fmt: skip
    """Neighbours that are a distance along the rank of dim d apart, and nowhere else, in any layout, at most."""
    other = problem.partner[t, d]
    step, other_step = problem.coefficient[t, d] * extent[TILE, d], problem.coefficient[t, other] * extent[TILE, other]
    span, other_span = step * (factors[0, d] - 1), other_step * (factors[0, other] - 1)
    blocks = 1.0
    for e in range(problem.bounds.shape[0]):
        blocks *= factors[0, e]
    if problem.blocks_y > 1:
        for i in range(1 - factors[0, other], factors[0, other]):
            rest = distance - i * other_step
            if rest % step == 0 and abs(rest) <= span:
                return blocks
        return 0.0
    # One place on in a row: a digit goes up by one, and digits inside it may wrap around.
    pairs, wraps = 0.0, 0.0
    if span > 0:
        pairs += blocks if step == distance else 0.0
        wraps += blocks / factors[0, d] if span == distance else 0.0
    if other_span > 0:
        pairs += blocks if other_step == distance else 0.0
        wraps += blocks / factors[0, other] if other_span == distance else 0.0
    if span > 0 and other_span > 0:
        pairs += blocks / factors[0, d] if abs(other_step - span) == distance else 0.0
        pairs += blocks / factors[0, other] if abs(step - other_span) == distance else 0.0
        wraps += blocks / (factors[0, d] * factors[0, other]) if span + other_span == distance else 0.0
    if wraps == 0.0:
        return pairs
    # The digit that goes up has to leave all other ranks as they are.
    for e in range(problem.bounds.shape[0]):
        if e in (d, other) or factors[0, e] == 1:
            continue
        if problem.role[t, e] == IRRELEVANT:
            return pairs + wraps
        mate = problem.partner[t, e]
        if mate >= 0:
            own = problem.coefficient[t, e] * extent[TILE, e]
            wrapped = problem.coefficient[t, mate] * extent[TILE, mate] * (factors[0, mate] - 1)
            if own == wrapped:
                return pairs + wraps
    return pairs
