"""Tasks that the amortized policy is trained on, with what a short search finds for them."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.learned.amortized.data import random_task
from mapgym.agents.learned.amortized.episodes import PolicyTask
from mapgym.agents.search.evolution.evolution import Evolution
from mapgym.cost import CostModel
from mapgym.errors import SpecificationError
from mapgym.mapping import MappingBatch
from mapgym.spec.rules import DEFAULT_RULES

SOLVER_SAMPLES = 1500
ELITES = 8
# A mapping that is worse than the best by this, as a logarithm, is imitated with 1/e of its weight.
_TOLERANCE = 0.03


class Elites(NamedTuple):
    """The best mappings that a search has found, with distinct costs.

    Attributes:
        batch: in canonical form.
        weights: float64[n], how much each is to be imitated; they add up to 1.
    """

    batch: MappingBatch
    weights: NDArray[np.float64]


class TrainingTask:
    """A task of training: a function of its seed.

    Attributes:
        task: the task.
        model: who prices.
    """

    def __init__(self, seed: tuple[int, ...], rules: str = DEFAULT_RULES) -> None:
        """Draws the task, under some counting rules."""
        rng = np.random.default_rng(seed)
        while True:
            space, objective = random_task(rng, rules)
            try:
                self.task, self.model = PolicyTask(space, objective), CostModel(space.workload, space.accelerator)
                break
            except SpecificationError:
                continue  # nothing fits a made-up accelerator, or the layer is too large to count
        self._seed = int(rng.integers(2**31))

    @cached_property
    def elites(self) -> Elites:
        """What ``evolution`` finds in a moment."""
        task, search = self.task, Evolution()
        search.start(task.space, np.random.default_rng(self._seed), task.objective)
        batches, costs, left = [], [], SOLVER_SAMPLES
        while left > 0:
            batch = search.ask(left)
            priced = self.model.evaluate(batch)
            search.tell(batch, priced)
            batches.append(batch)
            costs.append(priced.objective(task.objective))
            left -= len(batch)
        values, first = np.unique(np.concatenate(costs), return_index=True)
        best = MappingBatch.concatenate(batches)[first[:ELITES]]
        weights = np.exp(-np.log(values[:ELITES] / values[0]) / _TOLERANCE)
        return Elites(task.space.canonical(best), weights / weights.sum())
