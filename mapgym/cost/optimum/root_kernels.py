"""Lower bounds for all pairs of spatial factors; the proofs are in docs/exact.md ("Bounds")."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import kernel
from mapgym.cost.optimum.lattice_kernels import Lattice
from mapgym.cost.optimum.problem import PINNED, Problem
from mapgym.cost.optimum.register_kernels import energy_at_registers
from mapgym.cost.optimum.work import Work


@kernel
def _compulsory(problem: Problem, work: Work, t: int) -> float:
    """Words that each register level must receive of a tensor, at least."""
    pinned, whole, sliding = 1.0, 1.0, np.inf
    for d in range(problem.bounds.shape[0]):
        if problem.role[t, d] == PINNED:
            pinned *= problem.bounds[d] // work.spread[0, d]
        other = problem.partner[t, d]
        if other > d:
            larger = max(problem.bounds[d] // work.spread[0, d], problem.bounds[other] // work.spread[0, other])
            smaller = min(problem.bounds[d], problem.bounds[other])
            # One rank slides, the others do not; larger >= 1 cancels.
            sliding = min(sliding, smaller / larger)
            whole *= larger
    if sliding < np.inf:
        return pinned * whole * min(0.5, sliding)
    return pinned


@kernel
def bound_roots(problem: Problem, keep: NDArray[np.bool_], lattice: Lattice, lanes: NDArray[np.int64],
                spread: NDArray[np.int64], work: Work, out: NDArray[np.float64]) -> None:  # fmt: skip
    """Lower bounds of the energy for pairs of spatial factors, float64[n] pJ; inf where they do not fit the bounds.

    Args:
        problem, keep, lattice: the task, bool[2, T] what is kept, and its tables.
        lanes, spread: int64[n, D] spatial factors below the register level and below the buffer.
        work: working memory.
        out: filled.
    """
    dims = problem.bounds.shape[0]
    for i in range(lanes.shape[0]):
        tile = 0
        fits = True
        for d in range(dims):
            block = lanes[i, d] * spread[i, d]
            fits &= problem.bounds[d] % block == 0
            work.lanes[0, d], work.spread[0, d] = lanes[i, d], spread[i, d]
            if fits:
                tile += problem.position[d, block] * problem.stride[d]
        if not fits:
            out[i] = np.inf
            continue
        out[i] = energy_at_registers(problem, keep, work, work.lanes, True) + lattice.anywhere[tile]
        for t in range(problem.words.shape[0]):
            out[i] += work.linked_weight[t] * _compulsory(problem, work, t)
