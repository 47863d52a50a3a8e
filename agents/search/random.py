"""Random search: what every other agent has to beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mapgym.agents.base import AskTellAgent, parameter, register
from mapgym.cost import OBJECTIVES, CostBatch
from mapgym.evaluation.front import PARETO
from mapgym.evaluation.sparsity_aware import SPARSITY_AWARE
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace


@register
@dataclass(kw_only=True)
class RandomSearch(AskTellAgent):
    """Prices legal mappings drawn by :meth:`MapSpace.sample`, each draw independent of the costs seen so far.

    The mappings are built decision by decision, each legal choice equally likely (the distribution of a masked
    random policy in ``MapSpace-v0``); they are not uniform over the map space.
    """

    name = "random"
    summary = "legal mappings at random"
    objectives = (*OBJECTIVES, PARETO, SPARSITY_AWARE)

    batch_size: int = parameter(
        256, "mappings drawn at a time; changes the speed, and which mappings a seed draws", low=1
    )

    def start(self, space: MapSpace, rng: np.random.Generator, objective: str) -> None:
        """Keeps the space and the generator."""
        self._space, self._rng = space, rng

    def ask(self, n: int) -> MappingBatch:
        """The next ``batch_size`` legal mappings."""
        return self._space.sample(self._rng, self.batch_size)

    def tell(self, batch: MappingBatch, costs: CostBatch) -> None:
        """Learns nothing."""
