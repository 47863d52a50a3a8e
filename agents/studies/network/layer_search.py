"""The search of one layer of a network, begun from layers that are solved already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mapgym.agents.base import load_compiled_code, make_agent
from mapgym.agents.certificate import Certificate, Progress, certify
from mapgym.agents.files.constraints_file import ConstraintsFile
from mapgym.agents.labels import objective_name
from mapgym.agents.studies.cells import Result
from mapgym.cost import CostModel
from mapgym.errors import SpecificationError
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.mapping import Mapping, MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.catalog import Layer
from mapgym.spec.workload import Workload
from mapgym.warmstart import ReplayBuffer, find_start
from mapgym.warmstart.similarity import log_ratio_distance
from mapgym.warmstart.transfer import transfer

NEIGHBOURS = 8
"""Solved layers that a search begins from, at most."""


@dataclass(frozen=True)
class SearchSettings:
    """What is common to the searches of all layers.

    Attributes:
        axes, objective, agent, samples, seed: of each search.
        constraints: of the map spaces; None for none.
        certify: wall time for a proof of the optimum of each layer, seconds; None for none.
        known: file of a replay buffer with solved layers to begin from as well.
    """

    axes: tuple[str, ...]
    objective: str
    agent: str
    samples: int
    seed: int
    constraints: ConstraintsFile | None = None
    certify: float | None = None
    known: Path | None = None

    def to_dict(self) -> dict[str, object]:
        """JSON-able; what decides results, so that the content of the buffer counts with its name."""
        settings: dict[str, object] = {
            "axes": list(self.axes),
            "objective": self.objective,
            "agent": self.agent,
            "samples": self.samples,
            "seed": self.seed,
            "known": None if self.known is None else [str(self.known), len(ReplayBuffer(self.known))],
        }
        if self.constraints is not None:
            settings["constraints"] = self.constraints.to_dict()
        if self.certify is not None:
            settings["certify"] = self.certify
        return settings


@dataclass(frozen=True)
class Source:
    """A search whose result another one begins from: its workload and its hardware."""

    workload: Workload
    accelerator: Accelerator


@dataclass
class LayerSearch:
    """Searches a layer, when it is called with the results of its sources.

    Attributes:
        layer, accelerator: what is mapped onto what.
        settings: of the search.
        sources: whose results it begins from, the best start first.
    """

    layer: Layer
    accelerator: Accelerator
    settings: SearchSettings
    sources: Sequence[Source] = ()
    _evaluator: Evaluator | None = field(default=None, repr=False)
    _proof: Progress | None = field(default=None, repr=False)

    def space(self) -> MapSpace:
        """What is searched."""
        chosen = self.settings
        if chosen.constraints is None:
            return MapSpace(self.layer.workload, self.accelerator, chosen.axes)
        found = chosen.constraints.for_layer(self.layer.workload, self.accelerator)
        return MapSpace(self.layer.workload, self.accelerator, chosen.axes, constraints=found.constraints)

    def state(self) -> str:
        """How far the search is, and its best so far; for the process in which it runs."""
        evaluator, name = self._evaluator, self.layer.workload.name
        if evaluator is None:
            return name
        if self._proof is not None and self._proof.lower_bound > 0:
            return f"{name}: proven to within {self._proof.gap:.3%}"
        best = f"{objective_name(evaluator.objective)} {evaluator.best_value:.4g}, {evaluator.ratio:.3f} x bound"
        return f"{name}: {best if evaluator.samples else 'begins'}, {evaluator.samples:,} samples"

    def __call__(self, *solved: Result) -> Result:
        """The best mapping found, with its cost and where the search began.

        Args:
            *solved: the results of the sources, in their order.
        """
        space, chosen = self.space(), self.settings
        load_compiled_code(space)
        start, sources, failed = self._begin(space, solved)
        self._evaluator = evaluator = Evaluator(space, chosen.objective, Budget(samples=chosen.samples))
        make_agent(chosen.agent).search(evaluator, chosen.seed, start if sources else None)
        mapping, cost = evaluator.best_mapping, evaluator.best_cost
        assert mapping is not None  # a searcher prices legal mappings
        assert cost is not None
        proof, note = self._certify(space)
        if proof is not None and proof.value < cost.objective(chosen.objective):
            # Whoever asks for a proof wants the mapping that it is about.
            mapping = Mapping.from_dict(proof.mapping, self.layer.workload, self.accelerator)
            cost = CostModel(self.layer.workload, self.accelerator).evaluate(mapping)
        value = float(cost.objective(chosen.objective))
        ratio = float(evaluator.ratio) * value / float(evaluator.best_value)
        where = f"from {sources[0]}" if sources else "from nothing"
        summary = f"{ratio:.3f} x the lower bound after {evaluator.samples:,} samples, {where}"
        summary += f" ({failed} transfers failed)" if failed else ""
        if proof is not None or note:
            summary += f"; {note if proof is None else proof.describe(value)}"
        return {
            "layer": self.layer.name,
            "repeats": self.layer.repeats,
            "macs": self.layer.workload.macs,
            "energy_pj": float(cost.energy_pj),
            "latency_cycles": float(cost.latency_cycles),
            "edp": float(cost.edp),
            "utilization": float(cost.utilization),
            "ratio": ratio,
            "begun_from": sources[0] if sources else "",
            "failed_transfers": failed,
            "samples": evaluator.samples,
            "seconds": evaluator.seconds,
            "mapping": mapping.to_dict(),
            "lower_bound": None if proof is None else proof.lower_bound,
            "certified": None if proof is None else proof.certified,
            "not_certified_because": note,
            "summary": summary,
        }

    def _begin(self, space: MapSpace, solved: Sequence[Result]) -> tuple[MappingBatch, list[str], int]:
        """Mappings to begin from, the workloads that they come from, and how many could not be transferred."""
        batches = [MappingBatch.trivial(space.workload, space.accelerator, 0)]
        names, failed = [], 0
        for source, result in zip(self.sources, solved, strict=True):
            mapping = Mapping.from_dict(result["mapping"], source.workload, source.accelerator)
            try:
                batches.append(transfer(mapping, source.workload, space).batch())
                names.append(source.workload.name)
            except SpecificationError:
                failed += 1
        if self.settings.known is not None:
            known = find_start([ReplayBuffer(self.settings.known)], space, self.settings.objective, count=NEIGHBOURS)
            batches.append(known.mappings)
            names += known.sources
            failed += len(known.failures)
        return MappingBatch.concatenate(batches), names, failed

    def _certify(self, space: MapSpace) -> tuple[Certificate | None, str]:
        """The proof that is asked for; None, and why, where there is none."""
        if self.settings.certify is None:
            return None, ""
        self._proof = Progress()
        try:
            return certify(space, self.settings.objective, self.settings.certify, self._proof), ""
        except SpecificationError as error:
            return None, str(error)


def most_similar(layer: Layer, others: Sequence[Layer], count: int = NEIGHBOURS) -> list[Layer]:
    """The layers that are most like one, the most similar first; of equally similar ones the first."""
    distances = [
        float(log_ratio_distance(layer.workload, other.workload, np.array([other.workload.bounds], np.int64))[0])
        for other in others
    ]
    order = sorted(range(len(others)), key=lambda k: distances[k])
    return [others[k] for k in order[:count]]
