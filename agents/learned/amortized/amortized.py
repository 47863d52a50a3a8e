"""Agents that use the amortized policy: its proposals alone, and as the start of an evolutionary search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mapgym.agents.base import AskTellAgent, parameter, register
from mapgym.agents.learned.amortized.model import DEFAULT_MODEL, load_policy, shipped_rules
from mapgym.agents.learned.amortized.proposals import Proposals
from mapgym.agents.search.evolution.evolution import Evolution
from mapgym.cost import CostBatch
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.spec.accelerator import Accelerator

_MODEL_HELP = "shipped policy, or the folder or file of a trained one"


@register
@dataclass(kw_only=True)
class Amortized(AskTellAgent):
    """One policy for all layers and accelerators: its proposals are priced, and the best one wins.

    The policy builds a mapping decision by decision, as in ``MapSpace-v0``, and scores the legal choices of each by
    what it knows of the layer, the accelerator, the objective and the mapping so far. It was trained once, on other
    layers (``mapgym train amortized``); nothing is learned during a search, and costs are looked at only to keep the
    best. A warm start is priced and changes nothing.
    """

    name = "amortized"
    summary = "the best of what a policy proposes that was trained on other layers"
    requires: ClassVar[tuple[str, ...]] = ("torch", "safetensors")
    extra = "rl"

    model: str = parameter(DEFAULT_MODEL, _MODEL_HELP)
    batch_size: int = parameter(256, "mappings proposed at a time", low=1, high=2**16)

    def warm_up(self, space: MapSpace) -> None:
        """Loads the policy and compiled code."""
        Proposals(space, "edp", load_policy(self.model)).draw(np.random.default_rng(0), 1)

    def remark(self, accelerator: Accelerator) -> str:
        """Says so if the policy was trained under other counting rules."""
        return load_policy(self.model).remark(accelerator)

    @classmethod
    def trained_under(cls) -> str:
        """The counting rules of the standard policy."""
        return shipped_rules()

    def start(self, space: MapSpace, rng: np.random.Generator, objective: str) -> None:
        """Prepares the task for the policy."""
        self._rng = rng
        self._proposals = Proposals(space, objective, load_policy(self.model))

    def ask(self, n: int) -> MappingBatch:
        """The next proposals."""
        return self._proposals.draw(self._rng, self.batch_size)

    def tell(self, batch: MappingBatch, costs: CostBatch) -> None:
        """Learns nothing."""


@register
@dataclass(kw_only=True)
class AmortizedSearch(AskTellAgent):
    """The learned warm start: ``evolution`` begins with what the policy of ``amortized`` proposes.

    The proposals are samples like all others. Random mappings join them in the first population, so that a policy that
    is wrong does not lead the search astray.
    """

    name = "amortized-search"
    summary = "evolution that begins with the proposals of the trained policy"
    requires: ClassVar[tuple[str, ...]] = ("torch", "safetensors")
    extra = "rl"

    model: str = parameter(DEFAULT_MODEL, _MODEL_HELP)
    proposals: int = parameter(64, "mappings that the policy proposes", low=1, high=2**16)
    drawn: float = parameter(1.0, "random mappings that join them, as a multiple of the population", low=1, high=1000)

    def warm_up(self, space: MapSpace) -> None:
        """Loads the policy and compiled code."""
        Amortized(model=self.model).warm_up(space)
        self._make_search().warm_up(space)

    def remark(self, accelerator: Accelerator) -> str:
        """Says so if the policy was trained under other counting rules."""
        return load_policy(self.model).remark(accelerator)

    @classmethod
    def trained_under(cls) -> str:
        """The counting rules of the standard policy."""
        return shipped_rules()

    def start(self, space: MapSpace, rng: np.random.Generator, objective: str) -> None:
        """Asks the policy, and prepares the search that follows."""
        proposals = Proposals(space, objective, load_policy(self.model))
        self._first: MappingBatch | None = proposals.draw(rng, self.proposals)
        self._search = self._make_search()
        self._search.start(space, rng, objective)

    def ask(self, n: int) -> MappingBatch:
        """The proposals, then what the search asks for."""
        first, self._first = self._first, None
        return self._search.ask(n) if first is None else first

    def tell(self, batch: MappingBatch, costs: CostBatch) -> None:
        """Goes to the search; the proposals, too, as its warm start."""
        self._search.tell(batch, costs)

    def _make_search(self) -> Evolution:
        return Evolution(drawn=self.drawn)
