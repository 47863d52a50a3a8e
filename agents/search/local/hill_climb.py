"""Hill climbing with restarts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.base import AskTellAgent, parameter, register
from mapgym.agents.search.local.edits import Edits, best_members
from mapgym.agents.search.local.hill_climb_kernels import climb
from mapgym.cost import CostBatch
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace


@register
@dataclass(kw_only=True)
class HillClimb(AskTellAgent):
    """First-improvement hill climbing by several climbers side by side, which start again when they are stuck.

    Each climber proposes one mapping at a time, a few random edits (:class:`mapgym.agents.search.local.edits.Edits`)
    away from where it stands, and goes there if it costs no more; so plateaus are walked across. No mapping is proposed
    twice, which makes a stuck climber look at ever new neighbours. After ``patience`` proposals without progress it
    starts again: from its best mapping so far, changed by ``kick`` rounds of edits (iterated local search), or from a
    random mapping. The climbers know nothing of each other; they go side by side so that pricing is batched.

    Begins from the best of ``pool`` random mappings, or of a warm start. Textbook method; the defaults were tuned on
    tasks that are not reported (docs/agents/hill-climb.md).
    """

    name = "hill-climb"
    summary = "hill climbing with restarts"

    climbers: int = parameter(16, "climbers side by side", low=1)
    pool: int = parameter(200, "random mappings of which the best are the first places of the climbers", low=1)
    patience: int = parameter(200, "proposals of a climber without progress before it starts again", low=1, high=10**9)
    restart: str = parameter(
        "kick", "from where: its best mapping, changed, or a random one", choices=("kick", "random")
    )
    kick: int = parameter(4, "rounds of edits that change the best mapping for a restart", low=1)
    persistence: float = parameter(0.7, "probability of one more edit after each one", low=0, high=0.95)

    def warm_up(self, space: MapSpace) -> None:
        """Compiles the climbing and the edits, or loads them from the disk."""
        batch, zero = space.base.batch().copy(), np.zeros(1)
        Edits(space, np.random.default_rng(0), 0.0, distinct=False).apply(batch)
        climb(batch.arrays(), zero, batch.arrays(), zero, np.zeros(1, np.int64), 1)

    def start(self, space: MapSpace, rng: np.random.Generator, objective: str) -> None:
        """Forgets the climbers of the search before."""
        self._space, self._rng, self._objective = space, rng, objective
        self._edits = Edits(space, rng, self.persistence, distinct=True)
        self._at: MappingBatch | None = None

    def ask(self, n: int) -> MappingBatch:
        """One proposal of each climber."""
        if self._at is None:
            return self._space.sample(self._rng, self.pool)
        proposals = self._edits.apply(self._at)
        if self._stuck:
            stuck = np.flatnonzero(self._idle >= self.patience)
            proposals[stuck] = self._begin_anew(stuck)
        return proposals

    def tell(self, batch: MappingBatch, costs: CostBatch) -> None:
        """Moves the climbers."""
        values = costs.objective(self._objective)
        if self._at is None:
            self._settle(batch, values)
            return
        self._stuck = climb(batch.arrays(), values, self._at.arrays(), self._values, self._idle, self.patience)

    def _settle(self, batch: MappingBatch, values: NDArray[np.float64]) -> None:
        """Puts the climbers on the best of some mappings."""
        chosen = best_members(self._space, batch, values, self.climbers)
        if not len(chosen):
            return
        self._at, self._values = self._space.canonical(batch[chosen]), values[chosen]
        self._home, self._home_values = self._at.copy(), self._values.copy()
        self._idle = np.zeros(self.climbers, np.int64)
        self._stuck = 0

    def _begin_anew(self, stuck: NDArray[np.intp]) -> MappingBatch:
        """Mappings for climbers to start again from."""
        if self.restart == "random":
            return self._space.sample(self._rng, len(stuck))
        assert self._at is not None
        better = stuck[self._values[stuck] < self._home_values[stuck]]
        self._home[better] = self._at[better]
        self._home_values[better] = self._values[better]
        changed = self._home[stuck]
        for _ in range(self.kick):
            changed = self._edits.apply(changed)
        return changed
