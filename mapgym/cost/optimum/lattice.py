"""Tables over all buffer tiles, and over the loops of sliding ranks, from which the bounds are looked up."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mapgym.cost.optimum.lattice_kernels import Chains, Lattice, fill_chains, fill_lattice
from mapgym.cost.optimum.orders_kernels import OrderScratch
from mapgym.cost.optimum.problem import BUFFER, MEMORY, Problem


def make_lattice(problem: Problem, kept: NDArray[np.bool_], orders: OrderScratch) -> Lattice:
    """Computes the tables for what the buffer keeps, bool[T]."""
    n, classes = int(problem.stride[-1]), len(problem.words) + 1
    weight = np.where(kept, problem.read[MEMORY] + problem.update[MEMORY] + problem.fill[BUFFER], 0.0)
    lattice = Lattice(weight, np.empty(n), np.empty(n), np.empty((classes, n)), np.empty((classes, n)))
    fill_lattice(problem, kept, orders, lattice)
    return lattice


def make_chains(problem: Problem) -> Chains:
    """Computes the shares for every sliding rank."""
    tensors, dims = problem.role.shape
    most = problem.divisors.shape[1] if (problem.partner >= 0).any() else 1
    shape = (tensors, dims, most, most)
    chains = Chains(np.zeros(shape), np.zeros((*shape, most)), np.zeros((*shape, most)), np.zeros(shape, np.bool_))
    if most > 1:
        fill_chains(problem, chains, np.zeros(4, np.int64), np.zeros(4, np.int64))
    return chains
