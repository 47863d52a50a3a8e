"""How much links between blocks can pass on: only where a step meets a neighbour's tile.

The proof is in docs/exact.md ("Links").
"""

from __future__ import annotations

from mapgym.compilation import inlined_kernel
from mapgym.cost.optimum.lattice_kernels import Chains
from mapgym.cost.optimum.offset_kernels import (
    count_offsets,
    served_along,
    served_anywhere,
    shares_offsets,
    sliding_length,
)
from mapgym.cost.optimum.order_kernels import OrderScratch
from mapgym.cost.optimum.problem import BLOCK, TILE, Problem
from mapgym.cost.optimum.work import Work


@inlined_kernel
def set_first_weights(problem: Problem, work: Work, s: OrderScratch, chains: Chains) -> None:
    """Sets the least energy for each word that a register level receives, by the first loop outside it."""
    for t in range(problem.words.shape[0]):
        for d in range(problem.bounds.shape[0]):
            work.first_weight[t, d] = work.weight[t]
            other = problem.partner[t, d]
            if problem.peer_links and work.spared[t] > 0.0 and other >= 0 and s.extent[BLOCK, d] < problem.bounds[d]:
                work.first_weight[t, d] -= work.spared[t] * _most_served(problem, work, s, chains, t, d, other)


@inlined_kernel
def _most_served(problem: Problem, work: Work, s: OrderScratch, chains: Chains, t: int, d: int, other: int) -> float:
    """Offsets that links serve if the first loop is of dim d, on average over the tensor's words, at most."""
    distance = problem.coefficient[t, d] * s.extent[BLOCK, d]
    served = served_along(problem, work.spread, s.extent, t, d, distance)
    if distance < sliding_length(problem, s.extent, t, d, TILE):
        # Tiles that overlap: only steps of the same length meet tiles of the same shape.
        return served if chains.repeats[t, d, work.block_index[d], work.block_index[other]] else 0.0
    later = served_anywhere(problem, work.spread, s.extent, t)
    if s.extent[BLOCK, other] < problem.bounds[other] and shares_offsets(problem, work.spread, t):
        # The other dim's loops may bring the tile back to where it was.
        later = count_offsets(problem, work.spread, s.extent, t, False)
    factor, bound = 2, problem.bounds[d] // s.extent[BLOCK, d]
    while bound % factor != 0:
        factor += 1
    return max(served, served + (later - served) / factor)
