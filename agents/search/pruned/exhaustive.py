"""Exhaustive search: every mapping of a small map space, and the proof that it was every one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mapgym.agents.base import AskTellAgent, parameter, register
from mapgym.agents.search.pruned.exhaustive_kernels import IS_NEW, LISTED, RULED_OUT, complete_walk
from mapgym.agents.search.pruned.points import first_point, point_tables
from mapgym.cost import OBJECTIVES, CostBatch
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.evaluation.front import PARETO
from mapgym.evaluation.sparsity_aware import SPARSITY_AWARE
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace


@register
@dataclass(kw_only=True)
class ExhaustiveSearch(AskTellAgent):
    """Prices every mapping of a map space once.

    The walk is that of Timeloop's ``linear-pruned`` search: an odometer over factors, kept tensors, mesh sides, spatial
    orders and temporal orders, in which loops of bound 1 are not permuted, so that every canonical form comes up once.
    What capacities and fan-outs forbid is counted, not priced.

    The proof that nothing was missed is a sum: what was listed and what was ruled out, one by one, is together as many
    as the space has canonical forms, a number that ``MapSpace.log10_size`` finds by integrating polynomials, without
    listing anything. Where constraints give ranges, sides or partly free orders, the walk lists every mapping without
    these, and those that do not follow them are left out; there is no sum then.

    A small budget ends the walk early; the mappings seen by then are those that come first, not a fair sample.

    Attributes:
        complete: whether the last search has priced the whole space.
        enumerated: how many mappings it has priced, a warm start apart.
        ruled_out: canonical forms that capacities, fan-outs or a minimum utilisation forbid, known once it is complete.
    """

    name = "exhaustive"
    summary = "every mapping of a small map space, each once"
    objectives = (*OBJECTIVES, PARETO, SPARSITY_AWARE)
    deterministic = True

    limit: float = parameter(
        1e8, "refuses spaces with more mappings than this, counted before legality", low=1, high=1e18
    )
    batch_size: int = parameter(256, "mappings priced at a time; changes the speed only", low=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        # No parameters, and so no fields.
        self.complete = False
        self.enumerated = 0
        self.ruled_out = 0

    def warm_up(self, space: MapSpace) -> None:
        """Compiles the walk, or loads it."""
        self.start(space, np.random.default_rng(0), "edp")

    def start(self, space: MapSpace, rng: np.random.Generator, objective: str) -> None:
        """Begins at the first mapping.

        Raises:
            SpecificationError: the space has more than ``limit`` mappings.
        """
        log10_size = space.log10_size()
        if log10_size > math.log10(self.limit):
            raise SpecificationError(
                f"the map space of {quoted(space.workload.name)} on {quoted(space.accelerator.name)} has "
                f"10^{log10_size:.1f} mappings before legality, more than the limit {self.limit:g} of agent "
                f"{quoted(self.name)}; raise limit, search fewer axes, or use 'exact' or 'gamma'"
            )
        self.complete, self.enumerated, self.ruled_out = False, 0, 0
        self._space, self._size = space, 10**log10_size
        self._tables = point_tables(space)
        self._point, self._current = first_point(space, self._tables)
        self._walk = np.zeros(4, np.int64)
        self._walk[IS_NEW] = 1
        self._asked = False
        self._next = self._take()

    def ask(self, n: int) -> MappingBatch:
        """The next mappings in order."""
        batch, self._next = self._next, self._take()
        self._asked = True
        if not len(batch):
            self._conclude()
        return batch

    def tell(self, batch: MappingBatch, costs: CostBatch) -> None:
        """Counts what was priced."""
        if not self._asked:
            return
        self.enumerated += len(batch)
        if not len(self._next):
            self._conclude()

    def _conclude(self) -> None:
        """Does the sum, if all that was listed has been priced."""
        self.ruled_out = int(self._walk[RULED_OUT])
        if self.enumerated == self._walk[LISTED]:
            total = self.enumerated + self.ruled_out
            # Ranges, sides and partly free orders are looked at afterwards, so that the walk lists more than that.
            is_all = self._space.entries.is_limited or math.isclose(total, self._size, rel_tol=1e-9)
            assert is_all, f"listed {total} of {self._size} canonical forms"
            self.complete = True

    def _take(self) -> MappingBatch:
        """The next batch; empty after the last."""
        while True:
            batch = MappingBatch.trivial(self._space.workload, self._space.accelerator, self.batch_size)
            count = complete_walk(self._tables, self._point, self._current.arrays(), self._walk, batch.arrays())
            batch = batch[:count]
            if not count or (self._space.construction_is_exact and not self._space.entries.is_limited):
                return batch
            # What compressed tiles say about their zeros may need more room than there is, and constraints may give
            # ranges; the walk does not know.
            inside = np.flatnonzero(self._space.contains(batch))
            self._walk[LISTED] -= count - len(inside)
            self._walk[RULED_OUT] += count - len(inside)
            if len(inside):
                return batch[inside]
