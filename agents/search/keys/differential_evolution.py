"""Differential evolution over vectors of keys."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.base import Agent, parameter, register
from mapgym.agents.search.local.edits import best_members
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.mapspace.keys import KeyEncoding

if TYPE_CHECKING:
    from mapgym.evaluation.evaluator import Evaluator


class OneGeneration:
    """SciPy's strategy ``best1bin``, for a generation at once.

    SciPy's own shuffles the whole population for each vector, which costs as much as decoding it. A strategy of one's
    own is asked for one vector after the other, with the same array for all of a generation.
    """

    def __init__(self, least_mutation: float, most_mutation: float, crossover: float) -> None:
        self._least, self._most = sorted((least_mutation, most_mutation))
        self._crossover = crossover
        self._population: NDArray[np.float64] | None = None
        self._trials: NDArray[np.float64] = np.empty((0, 0))

    def __call__(
        self, candidate: int, population: NDArray[np.float64], rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """The trial vector of a candidate, float64[keys]; limits are up to SciPy."""
        if population is not self._population:
            self._population, self._trials = population, self._generation(population, rng)
        return self._trials[candidate]

    def _generation(self, population: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
        """The trial vectors of all candidates; SciPy keeps the best vector in front."""
        size, keys = population.shape
        candidates = np.arange(size)
        # Two others, different from the candidate and from each other.
        first = rng.integers(size - 1, size=size)
        first += first >= candidates
        second = rng.integers(size - 2, size=size)
        second += second >= np.minimum(candidates, first)
        second += second >= np.maximum(candidates, first)
        mutants = population[0] + rng.uniform(self._least, self._most) * (population[first] - population[second])
        # At least one key comes from the mutant.
        crosses = rng.random((size, keys)) < self._crossover
        crosses[candidates, rng.integers(keys, size=size)] = True
        return np.where(crosses, mutants, population)


@register
@dataclass(kw_only=True)
class DifferentialEvolution(Agent):
    """Differential evolution (Storn and Price 1997) of SciPy, with the strategy ``best1bin``.

    Mappings are vectors of keys (:mod:`mapgym.mapspace.keys`); every vector is a legal mapping. Each
    generation is priced as one batch (SciPy's ``vectorized``, with deferred updating). When all vectors cost the same
    it begins anew. SciPy sizes the population by the number of keys, 15 times as many, which leaves a few generations
    of 5,000 samples; ours has a size of its own.

    A warm start: the best of the mappings given replace up to half of the first population.
    """

    name = "differential-evolution"
    summary = "differential evolution of SciPy over vectors of keys"
    requires: ClassVar[tuple[str, ...]] = ("scipy",)
    extra = "optimizers"

    population: int = parameter(100, "vectors per generation (SciPy: 15 times the keys, about 700)", low=5)
    least_mutation: float = parameter(0.3, "weight of a difference, at least (SciPy: 0.5)", low=0, high=1.9)
    most_mutation: float = parameter(0.7, "weight of a difference, at most (SciPy: 1)", low=0, high=1.9)
    crossover: float = parameter(0.7, "share of the keys that come from the mutant (SciPy: 0.7)", low=0, high=1)

    def warm_up(self, space: MapSpace) -> None:
        """Imports SciPy and loads the compiled code."""
        import scipy.optimize  # noqa: F401

        encoding = KeyEncoding(space)
        encoding.decode(np.zeros((1, encoding.size)))

    def search(self, evaluator: Evaluator, seed: int, initial: MappingBatch | None = None) -> None:
        """Evolves until the budget is spent."""
        from scipy.optimize import differential_evolution

        rng = np.random.default_rng(self.begin(evaluator, seed))
        encoding = KeyEncoding(evaluator.space)
        given = np.empty((0, encoding.size))
        if initial is not None and len(initial):
            costs = evaluator.evaluate(initial)
            members = best_members(
                evaluator.space, initial[: len(costs)], costs.objective(evaluator.objective), len(costs)
            )
            given = encoding.encode(initial[members[: self.population // 2]])

        def price(keys: NDArray[np.float64]) -> NDArray[np.float64]:
            """Logarithms of the costs of vectors, float64[size, n]; inf where the budget does not reach."""
            values = np.full(keys.shape[1], math.inf)
            if not evaluator.exhausted:
                priced = evaluator.evaluate(encoding.decode(keys.T)).objective(evaluator.objective)
                values[: len(priced)] = np.log(np.maximum(priced, np.finfo(np.float64).tiny))
            return values

        def is_over(intermediate_result: Any) -> bool:
            return evaluator.exhausted

        while not evaluator.exhausted:
            first = rng.random((self.population, encoding.size))
            first[: len(given)] = given
            given = given[:0]
            differential_evolution(
                price,
                [(0.0, 1.0)] * encoding.size,
                strategy=OneGeneration(self.least_mutation, self.most_mutation, self.crossover),
                init=first,
                maxiter=2**31,
                tol=0.0,
                atol=1e-9,
                polish=False,
                vectorized=True,
                updating="deferred",
                rng=rng,
                callback=is_over,
            )
