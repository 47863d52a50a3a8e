"""Certified optimum: branch and bound, with a proof of how good the result is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mapgym.agents.base import Agent, parameter, register
from mapgym.agents.search.tiny_task import tiny_task
from mapgym.cost import OBJECTIVES
from mapgym.cost.optimum import Optimum, Progress, ProvenFront, find_front, find_optimum
from mapgym.evaluation.front import PARETO
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace

if TYPE_CHECKING:
    from mapgym.evaluation.evaluator import Evaluator


@register
@dataclass(kw_only=True)
class ExactSearch(Agent):
    """Finds the best mapping and proves it, or says how far from the best the mapping is at most.

    Some random mappings are priced first, so that there is something to show, and to cut branches with, from the
    start. The search itself bounds costs by formulas and prices nothing; its result is priced as one more sample.
    docs/exact.md has the theory, which covers any number of storage levels and workloads like convolutions and matrix
    products.

    Attributes:
        optimum: what was found and proven by the last search, None before, and for the objective "pareto".
        front: the same for that objective.
        progress: called now and then with the best value, the proven bound and the gap, if set.
    """

    name = "exact"
    summary = "the certified optimum by branch and bound"
    objectives = (*OBJECTIVES, PARETO)

    seconds: float = parameter(60.0, "wall time after which it stops with the bound proven by then", low=0.0)
    gap: float = parameter(1e-6, "stops when the mapping is above the proven bound by this share, at most", low=0.0)
    first: int = parameter(128, "random mappings priced before the search", low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        # No parameters, and so no fields.
        self.optimum: Optimum | None = None
        self.front: ProvenFront | None = None
        self.progress: Progress | None = None

    def warm_up(self, space: MapSpace) -> None:
        """Compiles the solver, or loads it."""
        find_optimum(tiny_task())

    def search(self, evaluator: Evaluator, seed: int, initial: MappingBatch | None = None) -> None:
        """Prices what it is given and random mappings, then the optimum, or all mappings of the front."""
        self.optimum = self.front = None
        space = evaluator.space
        seed = self.begin(evaluator, seed)
        if initial is not None:
            evaluator.evaluate(initial)
        count = min(self.first, evaluator.remaining - 1)
        if count > 0 and evaluator.objective != PARETO:
            evaluator.evaluate(space.sample(np.random.default_rng(seed), count))
        limit = math.inf
        if evaluator.budget.seconds is not None:
            # A tenth is kept for the last nodes, which are not interrupted, and for pricing the result: what is found
            # after the budget is spent does not count.
            limit = 0.9 * (evaluator.budget.seconds - evaluator.seconds)
        seconds = max(0.0, min(self.seconds, limit))
        if evaluator.objective == PARETO:
            self.front = find_front(space, seconds=seconds, gap=self.gap)
            if self.front.points and not evaluator.exhausted:
                evaluator.evaluate(MappingBatch.concatenate([point.mapping.batch() for point in self.front.points]))
            return
        self.optimum = find_optimum(
            space,
            evaluator.objective,
            seconds=seconds,
            gap=self.gap,
            progress=self.progress,
            incumbent=evaluator.best_mapping,
        )
        if not evaluator.exhausted:
            evaluator.evaluate(self.optimum.mapping.batch())
