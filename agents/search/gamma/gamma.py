"""GAMMA: a genetic algorithm whose operators know what a mapping is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.base import AskTellAgent, parameter, register
from mapgym.agents.search.gamma.gamma_kernels import Breeding, breed
from mapgym.agents.search.gamma.genome import make_memory
from mapgym.agents.search.gamma.nondominated_sorting import select_nondominated
from mapgym.agents.search.gamma.operator_kernels import ITEMS
from mapgym.agents.search.gamma.rules import FACTORS, make_rules, mutation_weights
from mapgym.cost import OBJECTIVES, CostBatch
from mapgym.evaluation.front import PARETO
from mapgym.evaluation.sparsity_aware import SPARSITY_AWARE
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace

MUTATIONS = {
    "move": FACTORS,
    "exchange": FACTORS,
    "parallelism": ("parallelism",),
    "retile": FACTORS,
    "levels": ("tile",),
    "order": ("order",),
    "bypass": ("bypass",),
}
"""The mutations, in the order in which kernels number them, and the axes that allow them."""


@register
@dataclass(kw_only=True)
class Gamma(AskTellAgent):
    """The genetic mapper GAMMA, cleaned.

    After Kao and Krishna, "GAMMA: Automating the HW Mapping of DNN Models on Accelerators via Genetic Algorithm"
    (ICCAD 2020), as released for Timeloop (gamma-timeloop, commit 48a2cf9). Kept: the genome (a mapping), the
    population of 100 with its elites, parents and fresh individuals, crossover that exchanges one axis, and mutations
    of tiles, orders, parallelism, whole levels and bypass.

    Changed, because the released code says otherwise:

    - A dim may be spatial and temporal at one level (there, its whole factor at a level is one or the other), may lie
      on either side of a mesh, and any dim may be parallel: the whole map space can be reached.
    - Tile mutations move one prime factor, or let two dims trade places. There, the branch that does so is never
      taken; instead, every child has one dim spread at random anew.
    - Orders are swapped among loops that exist. There, most swaps concern loops of bound 1 and do nothing.
    - Repair is bounded and as small as it can be: parallelism shrinks by single primes and stays in the tile, and
      primes move outwards until a tile fits. There, dims are spread anew until a mapping happens to fit (without a
      limit), and excess parallelism goes to the outermost level whole. What cannot be repaired is bred again, at
      most ``attempts`` times; no sample is spent on an illegal mapping.
    - No mapping is bred twice (within the last half million or so).
    - The first population is drawn from the map space. There, one half is the trivial mapping.
    - With one objective, elites are a fixed share. With the objective "pareto", the best of parents and children
      together survive as in NSGA-II (non-dominated sorting, then crowding distance), as many as the population has,
      and all of them breed; ``parents`` and ``elites`` do not count. There, elites grow with the Pareto front and
      never shrink.
    - Everything random comes from the seed. There, nothing can be seeded.
    """

    name = "gamma"
    summary = "genetic algorithm with mapping-specific operators"
    objectives = (*OBJECTIVES, PARETO, SPARSITY_AWARE)

    population: int = parameter(100, "mappings per generation (GAMMA: 100)", low=2)
    elites: float = parameter(0.05, "share of the population that survives unchanged (GAMMA: 0.05)", low=0, high=1)
    parents: float = parameter(0.2, "share of the population that breeds (GAMMA: 0.5)", low=0.01, high=1)
    inject: float = parameter(0.1, "share of each generation that is drawn afresh (GAMMA: 0.1)", low=0, high=1)
    crossover: float = parameter(0.5, "probability of crossover (GAMMA: 0.5 after the first generation)", low=0, high=1)
    persistence: float = parameter(0.4, "probability of one more mutation after each one (ours)", low=0, high=0.9)
    attempts: int = parameter(16, "how often a child that is illegal or not new is bred again (ours)", low=1)
    move: float = parameter(0.3, "weight of moving a prime factor to another slot", low=0)
    exchange: float = parameter(0.2, "weight of two dims trading places (ours)", low=0)
    parallelism: float = parameter(0.1, "weight of making a dim parallel or not (GAMMA: probability 0.1)", low=0)
    retile: float = parameter(0.1, "weight of spreading the primes of a dim anew (GAMMA: probability 1)", low=0)
    levels: float = parameter(0.05, "weight of swapping the tiles of two levels (GAMMA: probability 0.5)", low=0)
    order: float = parameter(0.25, "weight of swapping two loops (GAMMA: probability 0.1)", low=0)
    bypass: float = parameter(0.1, "weight of flipping a keep bit, if searched (GAMMA: probability 0.5)", low=0)

    def warm_up(self, space: MapSpace) -> None:
        """Compiles the operators, or loads them from the disk."""
        rng = np.random.default_rng(0)
        self.start(space, rng, "edp")
        self._breed(space.sample(rng, 1), 0)

    def start(self, space: MapSpace, rng: np.random.Generator, objective: str) -> None:
        """Packs the rules of the space; the first population follows when asked for."""
        self._space, self._rng, self._objective = space, rng, objective
        self._breeding = Breeding(
            rules=make_rules(space),
            table=space.definition.rules,
            items=np.array([ITEMS[axis] for axis in space.axes], np.int64),
            weights=mutation_weights(self, MUTATIONS, space.axes),
            crossover=self.crossover,
            persistence=self.persistence,
            attempts=self.attempts,
        )
        self._memory = make_memory(space, rng)
        self._parents: MappingBatch | None = None
        self._values: NDArray[np.float64] = np.empty(0)
        self._begun = False

    def ask(self, n: int) -> MappingBatch:
        """The next generation."""
        if not self._begun:
            # A warm start joins a random population instead of replacing it, so that there is something to cross.
            self._begun = True
            return self._space.sample(self._rng, self.population)
        assert self._parents is not None
        fresh = math.ceil(self.inject * self.population)
        bred = self.population - fresh
        children = self._space.mended(self._breed(self._parents, bred))
        if not fresh:
            return children
        return MappingBatch.concatenate([children, self._space.sample(self._rng, fresh)])

    def tell(self, batch: MappingBatch, costs: CostBatch) -> None:
        """Selects: the best of the children and the elites become parents."""
        is_front = self._objective == PARETO
        values = log_energy_and_latency(costs) if is_front else costs.objective(self._objective)
        if self._parents is not None:
            elites = len(self._parents) if is_front else math.ceil(self.elites * self.population)
            batch = MappingBatch.concatenate([self._parents[:elites], batch])
            values = np.concatenate([self._values[:elites], values])
        else:
            # A warm start may hold anything, and all that is bred comes from here.
            legal = np.flatnonzero(costs.legal)
            if not len(legal):
                return
            batch, values = batch[legal], values[legal]
        # A front needs many hands: parents that are few follow one corner of it.
        count = min(len(values), self.population if is_front else max(1, round(self.parents * self.population)))
        chosen = select_nondominated(values, count) if is_front else np.argsort(values, kind="stable")[:count]
        self._parents, self._values = batch[chosen], values[chosen]

    def _breed(self, parents: MappingBatch, n: int) -> MappingBatch:
        children = parents.blank(n)
        breed(parents.arrays(), children.arrays(), self._breeding, self._memory)
        return children


def log_energy_and_latency(costs: CostBatch) -> NDArray[np.float64]:
    """float64[n, 2], on logarithmic scales, so that distances are ratios."""
    return np.log(np.stack([costs.energy_pj, costs.latency_cycles], axis=1))
