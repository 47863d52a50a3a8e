"""What the words of each tensor through each boundary cost, for given spatial factors and kept tensors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import inlined_kernel, kernel
from mapgym.cost.optimum.depth.network_kernels import Networks, find_pattern
from mapgym.cost.optimum.depth.problem import Problem
from mapgym.cost.optimum.problem import IRRELEVANT


class State(NamedTuple):
    """Choices, from the outermost level inwards, and what follows from them (S levels, D dims, T tensors).

    Boundary s lies below level s; what is said of it holds once the spatial factors of the levels from s on, and what
    the levels from s - 1 on keep, are chosen.
    """

    choice: NDArray[np.int64]  # [S] which spatial factors
    keep: NDArray[np.bool_]  # [S, T]
    spatial: NDArray[np.int64]  # [S, D]
    outer: NDArray[np.int64]  # [S + 1, D] product of the spatial factors of the levels from s on
    used: NDArray[np.float64]  # [S + 1] instances of level s - 1, or MACs, in use
    distinct: NDArray[np.float64]  # [S, T] offsets of the instances below each level, at least
    weight: NDArray[np.float64]  # [S, T] pJ for each word through a boundary, at least, whatever the layout
    shared: NDArray[np.float64]  # [S, T] the part of the weight that is for each distinct offset
    straight: NDArray[np.float64]  # [S, T] the weight without ways that depend on the layout
    known: NDArray[np.float64]  # [S] pJ of links from each boundary that do not depend on tiles; less what is saved


@inlined_kernel
def _charged(problem: Problem, state: State, s: int) -> float:
    """Share of a level's instances in use that are charged for an access."""
    return min(1.0, problem.clusters[s] / state.used[s + 1])


@inlined_kernel
def irrelevant(problem: Problem, state: State, s: int, t: int) -> float:
    """Product of the spatial factors outside a level that a tensor does not depend on."""
    product = 1.0
    for d in range(problem.bounds.shape[0]):
        if problem.role[t, d] == IRRELEVANT:
            product *= state.outer[s + 1, d]
    return product


@inlined_kernel
def spread(problem: Problem, networks: Networks, state: State, s: int) -> None:
    """Sets what the chosen spatial factors of level s say of its instances; the levels outside it are set."""
    state.used[s] = state.used[s + 1]
    for d in range(problem.bounds.shape[0]):
        factor = networks.factors[s, state.choice[s], d]
        state.spatial[s, d] = factor
        state.outer[s, d] = state.outer[s + 1, d] * factor
        state.used[s] *= factor
    for t in range(problem.words.shape[0]):
        state.distinct[s, t] = networks.distinct[s, state.choice[s], t]


@kernel
def choose(problem: Problem, networks: Networks, state: State, s: int) -> None:
    """Sets what follows from the choices of the levels from s on, for boundary s; those outside it are set."""
    spread(problem, networks, state, s)
    weigh(problem, networks, state, s)


@kernel
def weigh(problem: Problem, networks: Networks, state: State, s: int) -> None:
    """Sets the weights of boundary s and what is known of its links, given the distinct offsets."""
    levels, tensors = problem.serve.shape
    state.known[s] = 0.0
    for t in range(tensors):
        i = state.choice[s]
        weight, known, product, shared = 0.0, 0.0, 1.0, 0.0
        is_link = s == 0 or state.keep[s - 1, t]
        ways = problem.hop[s] * networks.least_way[s, i, t]
        if is_link:
            if not problem.twice[s, t]:
                ways += problem.router[s] * networks.least_routed[s, i, t]
            for u in range(s, levels):
                product *= state.distinct[u, t]
                unit = networks.entering[u, state.choice[u], t]
                if problem.hops_on_grid and (u > s or problem.twice[u, t]):
                    unit += problem.router[u]
                    if u > s:
                        # What is handed on is a product of fractions there, and may lose a word to being rounded down.
                        known -= problem.router[u] * state.used[u + 1]
                times = 2.0 if problem.twice[u, t] else 1.0
                weight += state.used[u + 1] * unit * times * product
                if state.keep[u, t]:
                    charged = _charged(problem, state, u)
                    first = problem.words[t] * irrelevant(problem, state, u, t)
                    weight += state.used[u + 1] * charged * problem.serve[u, t] * product
                    known -= charged * problem.first_read[u, t] * first
                    if problem.twice[u, t]:
                        known -= unit * first
                    break
            shared = weight / state.distinct[s, t]
            if s > 0:
                charged = _charged(problem, state, s - 1)
                weight += state.used[s] * charged * problem.fill[s - 1, t]
                known -= (
                    charged * problem.first_fill[s - 1, t] * problem.words[t] * irrelevant(problem, state, s - 1, t)
                )
        state.straight[s, t], state.shared[s, t] = weight, shared
        state.weight[s, t] = weight + state.used[s + 1] * ways
        state.known[s] += known


@kernel
def count_distinct(problem: Problem, networks: Networks, state: State, s: int, extent: NDArray[np.int64]) -> bool:
    """Sets the distinct offsets below a level for the extents of a tile; returns whether they depend on it."""
    depends = False
    for t in range(problem.words.shape[0]):
        if networks.is_paired[s, state.choice[s], t]:
            depends = True
            row = find_pattern(problem, networks, s, state.choice[s], extent, t)
            state.distinct[s, t] = networks.patterns.distinct[row]
    return depends


@kernel
def weight_of_tile(
    problem: Problem, networks: Networks, state: State, s: int, t: int, extent: NDArray[np.int64]
) -> float:
    """The weight of a boundary for the tile below it, where the offsets of the instances depend on it."""
    row = find_pattern(problem, networks, s, state.choice[s], extent, t)
    patterns, i = networks.patterns, state.choice[s]
    weight = state.weight[s, t] + state.shared[s, t] * (patterns.distinct[row] - state.distinct[s, t])
    if problem.hops_on_grid:
        ways = problem.hop[s] * (patterns.least[row, 0] - networks.least_way[s, i, t])
        if state.keep[s - 1, t] and not problem.twice[s, t]:
            ways += problem.router[s] * (patterns.least[row, 1] - networks.least_routed[s, i, t])
        weight += state.used[s + 1] * ways
    return weight


@kernel
def least_at_macs(problem: Problem, networks: Networks, state: State) -> float:
    """Energy (pJ) of what the MACs ask for, with the best layout, what they do and what leaks while they do it."""
    cycles = problem.macs / state.used[0]
    first, last = networks.first[0, state.choice[0]], networks.first[0, state.choice[0] + 1]
    least = np.inf
    for layout in range(first, last):
        energy = 0.0
        for t in range(problem.words.shape[0]):
            ways = problem.hop[0] * networks.way[layout, t]
            if not problem.twice[0, t]:
                ways += problem.router[0] * networks.routed[layout, t]
            energy += (state.straight[0, t] + state.used[1] * ways) * cycles
        least = min(least, energy)
    leak = 0.0
    for s in range(problem.leak.shape[0]):
        fed, gate = problem.fed[s], problem.gate[s]
        instances = fed * state.used[gate + 1] if fed > 1.0 else state.used[s + 1]
        leak += problem.leak[s] * cycles * instances
    return problem.mac_energy + least + leak + state.known[0]
