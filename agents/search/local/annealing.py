"""Simulated annealing."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.base import AskTellAgent, parameter, register
from mapgym.agents.search.local.edits import Edits, best_members
from mapgym.cost import CostBatch
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace


@register
@dataclass(kw_only=True)
class Annealing(AskTellAgent):
    """Simulated annealing of ln(cost), several chains side by side.

    Each chain proposes a mapping a few random edits (:class:`mapgym.agents.search.local.edits.Edits`) away, and moves
    there with the probability min(1, exp(-difference of ln(cost) / temperature)): at the temperature 0.1 a mapping that
    costs 10 % more is taken with a probability of 0.39 on every layer, however large its cost. The temperature falls
    geometrically from ``hot`` to ``cold``. The chains know nothing of each other; they go side by side so that pricing
    is batched.

    The schedule ends with the samples of the budget, so a small budget is not the beginning of a large one. With a
    budget in seconds only, it anneals in cycles of ``cycle``, twice, four times ... as many samples, each beginning hot
    where the chains stand: how many samples the seconds will buy is unknown, and the seed still decides everything.

    Begins from the best of ``pool`` random mappings, or of a warm start; then at the geometric mean of both
    temperatures, because a hot start would forget it. After Kirkpatrick, Gelatt and Vecchi (Science 220, 1983); the
    defaults were tuned on tasks that are not reported (docs/agents/annealing.md).
    """

    name = "annealing"
    summary = "simulated annealing, annealed to the budget"

    chains: int = parameter(16, "chains side by side", low=1)
    pool: int = parameter(200, "random mappings of which the best are the first places of the chains", low=1)
    hot: float = parameter(0.05, "first temperature, in units of ln(cost)", low=1e-9)
    cold: float = parameter(0.01, "last temperature, in units of ln(cost)", low=1e-9)
    persistence: float = parameter(0.7, "probability of one more edit after each one", low=0, high=0.95)
    cycle: int = parameter(5000, "samples of the first cycle where the budget is in seconds only", low=1, high=10**9)

    def warm_up(self, space: MapSpace) -> None:
        """Compiles the edits, or loads them from the disk."""
        Edits(space, np.random.default_rng(0), 0.0, distinct=False).apply(space.base.batch())

    def start(self, space: MapSpace, rng: np.random.Generator, objective: str) -> None:
        """Forgets the chains of the search before."""
        self._space, self._rng, self._objective = space, rng, objective
        self._edits = Edits(space, rng, self.persistence, distinct=False)
        self._at: MappingBatch | None = None
        self._asked = False
        self._hot = self.hot
        self._spent = 0
        self._cycle = self.cycle

    def ask(self, n: int) -> MappingBatch:
        """One proposal of each chain."""
        self._asked = True
        if self._at is None:
            return self._space.sample(self._rng, self.pool)
        total = self._spent + n
        if n == sys.maxsize:
            if self._spent >= self._cycle:
                self._spent, self._cycle, self._hot = 0, 2 * self._cycle, self.hot
            total = self._cycle
        self._temperature = self._hot * (self.cold / self._hot) ** (self._spent / total)
        return self._edits.apply(self._at)

    def tell(self, batch: MappingBatch, costs: CostBatch) -> None:
        """Moves the chains."""
        values = np.log(costs.objective(self._objective))
        if self._at is None:
            self._settle(batch, values)
            return
        k = len(batch)
        self._spent += k
        # exp(-difference / temperature) is above a uniform random number where the difference is below temperature
        # times an exponential one.
        limits = self._values[:k] + self._temperature * self._rng.standard_exponential(k)
        moved = np.flatnonzero(values <= limits)
        if len(moved):
            self._at[moved] = batch[moved]
            self._values[moved] = values[moved]

    def _settle(self, batch: MappingBatch, values: NDArray[np.float64]) -> None:
        """Puts the chains on the best of some mappings."""
        chosen = best_members(self._space, batch, values, self.chains)
        if len(chosen):
            if not self._asked:
                self._hot = math.sqrt(self.hot * self.cold)
            self._at, self._values = self._space.canonical(batch[chosen]), values[chosen]
