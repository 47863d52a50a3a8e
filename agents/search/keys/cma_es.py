"""CMA-ES over vectors of keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.base import AskTellAgent, parameter, register
from mapgym.agents.search.local.edits import best_members
from mapgym.cost import CostBatch
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.mapspace.keys import KeyEncoding

if TYPE_CHECKING:
    from cmaes import CMA

LARGEST_GROWTH = 16
"""Populations stop growing at so many times the first one, lest a flat space makes them boundless."""


@register
@dataclass(kw_only=True)
class CmaEs(AskTellAgent):
    """Covariance matrix adaptation (Hansen and Ostermeier 2001) of the package ``cmaes``, with restarts.

    Mappings are vectors of keys (:mod:`mapgym.mapspace.keys`); every vector is a legal mapping. The
    strategy adapts a normal distribution over them to the ranks of the costs. When it has converged it begins anew
    somewhere else with a larger population (IPOP: Auger and Hansen 2005). Vectors outside the unit cube are drawn
    again, once, and then moved to its surface, as the package does it.

    A warm start: the first distribution is around the best mapping given.
    """

    name = "cma-es"
    summary = "covariance matrix adaptation over vectors of keys"
    requires: ClassVar[tuple[str, ...]] = ("cmaes",)
    extra = "optimizers"

    population: int = parameter(60, "vectors per generation (CMA-ES: 4 + 3 ln(keys), about 15)", low=4)
    growth: float = parameter(
        2.0, "population of a restart over the one before, up to 16 times (IPOP: 2)", low=1, high=16
    )
    step: float = parameter(0.3, "first standard deviation (CMA-ES: 0.3 of the range)", low=0.01, high=1)

    def warm_up(self, space: MapSpace) -> None:
        """Imports the package and loads the compiled code."""
        self.start(space, np.random.default_rng(0), "edp")
        self.ask(1)

    def start(self, space: MapSpace, rng: np.random.Generator, objective: str) -> None:
        """Lays out the keys."""
        self._space, self._rng, self._objective = space, rng, objective
        self._encoding = KeyEncoding(space)
        self._optimizer: CMA | None = None
        self._size = float(self.population)
        self._keys: list[NDArray[np.float64]] = []
        self._mean: NDArray[np.float64] | None = None

    def ask(self, n: int) -> MappingBatch:
        """The next generation."""
        if self._optimizer is None or self._optimizer.should_stop():
            self._restart()
        assert self._optimizer is not None
        self._keys = [self._optimizer.ask() for _ in range(self._optimizer.population_size)]
        return self._encoding.decode(np.array(self._keys))

    def tell(self, batch: MappingBatch, costs: CostBatch) -> None:
        """Adapts the distribution."""
        values = costs.objective(self._objective)
        if self._optimizer is None:
            best = best_members(self._space, batch, values, 1)
            if len(best):
                self._mean = self._encoding.encode(batch[best])[0]
        elif len(values) == self._optimizer.population_size:
            # Only differences within a tolerance of convergence matter besides ranks; as logarithms they are relative.
            logarithms = np.log(np.maximum(values, np.finfo(np.float64).tiny))
            self._optimizer.tell(list(zip(self._keys, logarithms.tolist(), strict=True)))

    def _restart(self) -> None:
        from cmaes import CMA

        if self._optimizer is not None:
            self._size = min(self._size * self.growth, float(LARGEST_GROWTH * self.population))
        size = self._encoding.size
        mean = self._rng.uniform(0.3, 0.7, size) if self._mean is None else self._mean
        self._mean = None
        self._optimizer = CMA(
            mean=mean,
            sigma=self.step,
            bounds=np.tile([0.0, 1.0], (size, 1)),
            n_max_resampling=1,
            seed=int(self._rng.integers(2**31)),
            population_size=round(self._size),
        )
