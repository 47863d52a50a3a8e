"""How much links between blocks can pass on: only where a step meets a neighbour's tile.

The proof is in docs/exact.md ("Links").
"""

from __future__ import annotations

from mapgym.compilation import kernel
from mapgym.cost.optimum.lattice_kernels import Chains
from mapgym.cost.optimum.order_kernels import OrderScratch
from mapgym.cost.optimum.problem import IRRELEVANT, Problem
from mapgym.cost.optimum.register_kernels import (
    count_offsets,
    different,
    has_sliding_rank,
    shares_offsets,
)
from mapgym.cost.optimum.work import Work


@kernel
def set_class_weights(problem: Problem, work: Work, s: OrderScratch, chains: Chains) -> None:
    """Sets the least energy for each word that a register level receives, by the group of the first loop outside it."""
    tensors = problem.words.shape[0]
    for t in range(tensors):
        for c in range(tensors + 1):
            work.class_weight[t, c] = work.weight[t]
        if work.spared[t] == 0.0 or not problem.peer_links or not has_sliding_rank(problem, t):
            continue
        for d in range(problem.bounds.shape[0]):
            other, c = problem.partner[t, d], problem.group[d]
            if other >= 0 and s.extent[1, d] < problem.bounds[d]:
                least = work.weight[t] - work.spared[t] * _most_served(problem, work, s, chains, t, d, other)
                work.class_weight[t, c] = min(work.class_weight[t, c], least)


@kernel
def _most_served(problem: Problem, work: Work, s: OrderScratch, chains: Chains, t: int, d: int, other: int) -> float:
    """Offsets that links serve if the first loop is of dim d, on average over the tensor's words, at most."""
    step, other_step = problem.coefficient[t, d] * s.extent[0, d], problem.coefficient[t, other] * s.extent[0, other]
    distance = step * work.spread[0, d]
    length = 1 + step - problem.coefficient[t, d] + other_step - problem.coefficient[t, other]
    distinct = count_offsets(problem, work.spread, s.extent, t, False)
    # Along a rank, one offset remains for each combination of those along the others.
    along, fewest = distinct, distinct
    for e in range(problem.bounds.shape[0]):
        mate = problem.partner[t, e]
        if mate > e:
            first_step, second_step = (
                problem.coefficient[t, e] * s.extent[0, e],
                problem.coefficient[t, mate] * s.extent[0, mate],
            )
            offsets = different(work.spread[0, e], work.spread[0, mate], first_step, second_step)
            if e == d or mate == d:
                along = distinct / offsets
            fewest = min(fewest, distinct / offsets)
    served = distinct - along if _meets(problem, work, s, t, d, other, distance) else 0.0
    if distance < length:
        # Tiles that overlap: only steps of the same length meet tiles of the same shape.
        return served if chains.repeats[t, d, work.block_index[d], work.block_index[other]] else 0.0
    later = 0.0
    reach = step * (work.spread[0, d] - 1) + other_step * (work.spread[0, other] - 1)
    if s.extent[1, other] < problem.bounds[other]:
        # The other dim's loops may bring the tile back to where it was.
        later = distinct if shares_offsets(problem, work.spread, t) else distinct - fewest
    elif reach >= distance:
        later = distinct - fewest
    factor, bound = 2, problem.bounds[d] // s.extent[1, d]
    while bound % factor != 0:
        factor += 1
    return max(served, served + (later - served) / factor)


@kernel
def _meets(problem: Problem, work: Work, s: OrderScratch, t: int, d: int, other: int, distance: int) -> bool:
    """Whether two blocks side by side in some layout are a distance along the rank of dim d apart, and no other."""
    step, other_step = problem.coefficient[t, d] * s.extent[0, d], problem.coefficient[t, other] * s.extent[0, other]
    span, other_span = step * (work.spread[0, d] - 1), other_step * (work.spread[0, other] - 1)
    if problem.mesh[3] > 1:
        for i in range(1, work.spread[0, other]):
            if i * other_step % step == 0 and i * other_step < 2 * distance:
                return True
        return False
    if other_span > 0 and (abs(other_step) == distance or abs(other_step - span) == distance):
        return True
    if span > 0 and abs(step - other_span) == distance:
        return True
    if other_span != distance and span + other_span != distance:
        return False
    # A step along another loop that wraps those of this rank around, and leaves all other ranks as they are.
    for e in range(problem.bounds.shape[0]):
        if e in (d, other) or work.spread[0, e] == 1:
            continue
        if problem.role[t, e] == IRRELEVANT:
            return True
        mate = problem.partner[t, e]
        if mate >= 0:
            own = problem.coefficient[t, e] * s.extent[0, e]
            wrapped = problem.coefficient[t, mate] * s.extent[0, mate] * (work.spread[0, mate] - 1)
            if own == wrapped:
                return True
    return False
