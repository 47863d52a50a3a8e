"""A plain genetic algorithm: the generic rival of GAMMA."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mapgym.agents.base import AskTellAgent, parameter, register
from mapgym.agents.search.local.edits import Edits, best_members
from mapgym.agents.search.local.genetic_kernels import cross_each
from mapgym.cost import CostBatch
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace

CROSSOVER_ATTEMPTS = 8
"""Pairs of parents that are tried for one child before it becomes a copy of one parent."""


@register
@dataclass(kw_only=True)
class Genetic(AskTellAgent):
    """A genetic algorithm that knows of mappings only what keeps them legal: the plain rival of GAMMA.

    Each generation is ``population`` children of the ``parents`` best mappings of all generations (truncation
    selection; parents compete with their children). A child has one parent, or two with probability ``crossover``:
    then it takes all factors of each dim, and the orders and the kept tensors of each level, from either one by the
    toss of a coin (uniform crossover; genes of a dim stay together, so that products stay right). Pairs whose child is
    illegal are drawn again, a few times. Every child is then changed by a few random edits
    (:class:`mapgym.agents.search.local.edits.Edits`), which never lead to an illegal mapping, and rarely to one
    proposed before. The first generation is random; a warm start joins it. No sample is spent on an illegal mapping.

    Textbook method; a larger population spreads a long search over several good regions instead of settling in the
    first one. The defaults were chosen by hand; searches use what ``mapgym tune`` has chosen (docs/agents/genetic.md).
    """

    name = "genetic"
    summary = "plain genetic algorithm on random edits"

    population: int = parameter(200, "mappings per generation", low=1)
    parents: int = parameter(100, "mappings that breed, the best of all generations", low=1)
    crossover: float = parameter(0.5, "probability that a child has two parents", low=0, high=1)
    persistence: float = parameter(0.7, "probability of one more edit of a child after each one", low=0, high=0.95)

    def warm_up(self, space: MapSpace) -> None:
        """Compiles the operators, or loads them from the disk."""
        self.start(space, np.random.default_rng(0), "edp")
        self._parents = space.canonical(space.base.batch())
        self._begun = True
        self.ask(1)

    def start(self, space: MapSpace, rng: np.random.Generator, objective: str) -> None:
        """Forgets the population of the search before."""
        self._space, self._rng, self._objective = space, rng, objective
        self._edits = Edits(space, rng, self.persistence, distinct=True)
        self._parents = MappingBatch.trivial(space.workload, space.accelerator, 0)
        self._values = np.empty(0)
        levels, dims, tensors = len(space.accelerator.levels), len(space.workload.dims), len(space.workload.tensors)
        extents, tile_words = np.empty((levels, dims)), np.empty((levels, tensors))
        self._memory = (extents, tile_words, rng.integers(2**63, size=1, dtype=np.uint64))
        self._begun = False

    def ask(self, n: int) -> MappingBatch:
        """The next generation."""
        if not self._begun:
            self._begun = True
            return self._space.sample(self._rng, self.population)
        children = self._parents.blank(self.population)
        cross_each(
            self._parents.arrays(),
            children.arrays(),
            self._space.sorting,
            self._space.edit_tables,
            self.crossover,
            CROSSOVER_ATTEMPTS,
            *self._memory,
        )
        return self._edits.apply(children)

    def tell(self, batch: MappingBatch, costs: CostBatch) -> None:
        """Selects: the best of parents and children breed next."""
        values = costs.objective(self._objective)
        if not self._begun:
            chosen = best_members(self._space, batch, values, len(batch))
            batch, values = self._space.canonical(batch[chosen]), values[chosen]
        values = np.concatenate([self._values, values])
        chosen = np.argsort(values, kind="stable")[: self.parents]
        self._parents = MappingBatch.concatenate([self._parents, batch])[chosen]
        self._values = values[chosen]
