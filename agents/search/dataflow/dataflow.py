"""Fixed, named dataflows: what an architect would write down by hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mapgym.agents.base import AskTellAgent, parameter, register
from mapgym.agents.search.dataflow.filling import fill_all
from mapgym.agents.search.dataflow.templates import DATAFLOWS, Dataflow
from mapgym.cost import CostBatch, CostModel
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.mapping import Mapping, MappingBatch
from mapgym.mapspace import MapSpace

EVERY = "all"


@register
@dataclass(kw_only=True)
class DataflowSearch(AskTellAgent):
    """Prices every named dataflow, filled greedily to the array and the buffers in a handful of variants, and stops.

    A dataflow says what is parallel along the sides of the array, in which order the loops around a processing element
    run (and so which tensor stays there), and with what the buffers are filled; docs/agents/dataflow.md says where each
    comes from. What it leaves open is tried in at most 32 variants: whether tiles grow dim by dim or in turn, which
    tensor stays in the shared buffers, and, if bypass is searched, whether tensors are kept everywhere.

    Nothing is random: every seed gives the same few samples. Where constraints allow no dataflow at all, one
    arbitrary mapping of the space is priced.
    """

    name = "dataflow"
    summary = "fixed, named dataflows (weight-stationary, NVDLA-like, ...), filled greedily"
    deterministic = True

    dataflow: str = parameter(EVERY, "the one to price, or all of them", choices=(EVERY, *DATAFLOWS))

    def start(self, space: MapSpace, rng: np.random.Generator, objective: str) -> None:
        """Lists the dataflows to be filled in."""
        self._space = space
        self._waiting = [flow for name, flow in DATAFLOWS.items() if self.dataflow in (EVERY, name)]
        self._asked = False

    def ask(self, n: int) -> MappingBatch:
        """The variants of the next dataflow; none when all have been priced."""
        batch = MappingBatch.trivial(self._space.workload, self._space.accelerator, 0)
        while self._waiting and not len(batch):
            batch = fill_all(self._space, self._waiting.pop(0))
        if not len(batch) and not self._asked:
            batch = self._space.sample(np.random.default_rng(0), 1)
        self._asked = True
        return batch

    def tell(self, batch: MappingBatch, costs: CostBatch) -> None:
        """Learns nothing."""


def best_mapping(space: MapSpace, dataflow: Dataflow, objective: str = "edp") -> Mapping:
    """The best of the variants of one dataflow.

    Args:
        space: what may be chosen.
        dataflow: one of ``DATAFLOWS``.
        objective: what decides.

    Raises:
        SpecificationError: the constraints of the space allow no variant.
    """
    batch = fill_all(space, dataflow)
    if not len(batch):
        raise SpecificationError(
            f"no mapping of {quoted(space)} follows the dataflow {quoted(dataflow.name)}; loosen constraints"
        )
    costs = CostModel(space.workload, space.accelerator).evaluate(batch)
    return batch[int(np.argmin(costs.objective(objective)))]
