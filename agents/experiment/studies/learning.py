"""When learning beats searching: what one trained policy proposes for layers that it has never seen, and saves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from mapgym.accelerator import Accelerator
from mapgym.agents.base import make_agent
from mapgym.agents.experiment.runner import load_compiled_code
from mapgym.agents.experiment.studies.cells import Cell, Result
from mapgym.best_known import best_known
from mapgym.evaluator import Budget, Evaluator, Trace
from mapgym.mapping import Mapping, MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.warmstart import ReplayBuffer
from mapgym.workload import Workload

POLICY, RANDOM, SIMILAR = "amortized", "random", "similar layers"
PROPOSERS = (POLICY, RANDOM, SIMILAR)
"""Who proposes mappings without looking at costs."""

GAMMA, EVOLUTION, WARM, STORED, GAMMA_WARM = (
    "gamma",
    "evolution",
    "evolution from the policy",
    "evolution from similar layers",
    "gamma from the policy",
)
SEARCHES = (GAMMA, EVOLUTION, GAMMA_WARM, WARM, STORED)

PROPOSED = (1, 16, 256)
SEARCHED = (256, 1000, 5000, 20_000)
TARGETS = (1.05, 1.01)
STARTS = 64
"""Mappings that a search begins with: proposals of the policy, or those of similar layers, all of them samples."""

BUFFER_SAMPLES = 2000
"""With which ``evolution`` solves each training layer for the replay buffer."""


@dataclass(frozen=True)
class Plan:
    """How large the study is.

    Attributes:
        layers: those that are mapped.
        accelerators: on what.
        training: layers that the replay buffer knows.
        samples: budget of a search.
        seeds: of everything random.
        policy: the trained policy: "model" as :func:`mapgym.agents.learned.amortized_model.load_policy` takes it, the
            "sha256" of its file, on which results depend, and what it says about its training.
    """

    layers: tuple[Workload, ...]
    accelerators: tuple[Accelerator, ...]
    training: tuple[Workload, ...]
    samples: int
    seeds: int
    policy: dict[str, Any]


class Buffers:
    """The replay buffers of the study, one for each accelerator; they learn from the results of their cells."""

    def __init__(self, plan: Plan) -> None:
        self._known = {layer.name: layer for layer in plan.training}
        self._machines = {machine.name: machine for machine in plan.accelerators}
        self._buffers: dict[str, ReplayBuffer] = {}

    def learn(self, result: Result) -> None:
        """Takes the mappings of a result, if it has any."""
        for name, data in result.get("solved", {}).items():
            machine, layer = self._machines[result["accelerator"]], self._known[name]
            mapping = Mapping.from_dict(data, layer, machine)
            self._buffers.setdefault(machine.name, ReplayBuffer()).add(layer, machine, mapping)

    def initial(self, space: MapSpace, count: int) -> MappingBatch:
        """What the most similar layers have, transferred, nearest first."""
        return self._buffers[space.accelerator.name].initial(space, count=count)


def learning_cells(plan: Plan, buffers: Buffers) -> list[Cell]:
    """A cell for the replay buffer of each accelerator, then one for each layer on each accelerator."""
    cells = []
    common = {"samples": plan.samples, "seeds": plan.seeds, "policy": plan.policy}
    known = {"training": [layer.to_dict() for layer in plan.training], "buffer_samples": BUFFER_SAMPLES}
    for machine in plan.accelerators:
        settings = {"accelerator": machine.to_dict(), **known}
        cells.append(Cell(f"similar layers, {machine.name}", settings, partial(_solve, plan.training, machine)))
    for machine in plan.accelerators:
        for layer in plan.layers:
            settings = {"workload": layer.to_dict(), "accelerator": machine.to_dict(), **common, **known}
            cells.append(
                Cell(f"{layer.name}, {machine.name}", settings, partial(_measure, layer, machine, plan, buffers))
            )
    return cells


def _search(
    space: MapSpace, agent: str, samples: int, seed: int, initial: MappingBatch | None = None, **parameters: Any
) -> Evaluator:
    evaluator = Evaluator(space, "edp", Budget(samples=samples))
    make_agent(agent, **parameters).search(evaluator, seed, initial if initial is not None and len(initial) else None)
    return evaluator


def _solve(layers: Sequence[Workload], machine: Accelerator) -> Result:
    solved = {}
    for layer in layers:
        space = MapSpace(layer, machine)
        load_compiled_code(space)
        mapping = _search(space, EVOLUTION, BUFFER_SAMPLES, 0).best_mapping
        assert mapping is not None  # it prices legal mappings
        solved[layer.name] = mapping.to_dict()
    return {"accelerator": machine.name, "solved": solved, "summary": f"{len(solved)} layers solved"}


def _measure(layer: Workload, machine: Accelerator, plan: Plan, buffers: Buffers) -> Result:
    """Everybody on one layer; traces, so that what is asked of them can be decided later."""
    from mapgym.agents.learned.amortized_proposals import propose

    space = MapSpace(layer, machine)
    load_compiled_code(space)
    most, trained = PROPOSED[-1], {"model": plan.policy["model"]}
    similar = buffers.initial(space, most)
    runs: list[dict[str, Any]] = []

    def keep(who: str, seed: int, evaluator: Evaluator) -> None:
        runs.append({"who": who, "seed": seed, "spent": evaluator.seconds, **evaluator.trace.to_dict()})

    stored = Evaluator(space, "edp", Budget(samples=most))
    stored.evaluate(similar)
    keep(SIMILAR, 0, stored)
    for seed in range(plan.seeds):
        keep(POLICY, seed, _search(space, POLICY, most, seed, **trained))
        keep(RANDOM, seed, _search(space, RANDOM, most, seed))
        keep(WARM, seed, _search(space, "amortized-search", plan.samples, seed, **trained))
        proposals = propose(space, "edp", np.random.default_rng(seed), STARTS, **trained)
        for name, agent, initial in (
            (GAMMA, "gamma", None),
            (EVOLUTION, "evolution", None),
            (GAMMA_WARM, "gamma", proposals),
            (STORED, "evolution", similar[:STARTS]),
        ):
            keep(name, seed, _search(space, agent, plan.samples, seed, initial))
    known = best_known(space, "edp")
    drawn = [run["values"][-1] for run in runs if run["who"] == POLICY]
    best = min(min(run["values"], default=np.inf) for run in runs)
    return {
        "layer": layer.name,
        "accelerator": machine.name,
        "samples": plan.samples,
        "known": None if known is None else known.value,
        "runs": runs,
        "policy": plan.policy,
        "summary": f"{most} proposals cost {np.median(drawn) / best:.3f} x the best of all runs",
    }


class Outcome:
    """The results of the layers, relative to the best known mapping of each: stored with mapgym, or of any run here.

    Attributes:
        samples: budget of a search.
        policy: what the trained policy says about itself.
        accelerators: names, in order.
    """

    def __init__(self, results: Iterable[Result]) -> None:
        """Takes the results of all cells; those of replay buffers are left out."""
        self._results = [result for result in results if "runs" in result]
        self.samples: int = self._results[0]["samples"]
        self.policy: dict[str, Any] = self._results[0]["policy"]
        self.accelerators = list(dict.fromkeys(result["accelerator"] for result in self._results))

    @cached_property
    def tasks(self) -> list[tuple[str, str]]:
        """(layer, accelerator) of each task."""
        return [(result["layer"], result["accelerator"]) for result in self._results]

    @cached_property
    def _traces(self) -> list[dict[str, list[Trace]]]:
        tasks = []
        for result in self._results:
            traces: dict[str, list[Trace]] = {}
            for run in result["runs"]:
                traces.setdefault(run["who"], []).append(Trace.from_dict(run))
            tasks.append(traces)
        return tasks

    @cached_property
    def _best(self) -> list[float]:
        found = []
        for result in self._results:
            values = [value for run in result["runs"] for value in run["values"]]
            found.append(min([*values, *([] if result["known"] is None else [result["known"]])]))
        return found

    def _over_seeds(self, who: str, figure: Callable[[Trace, float], float], accelerator: str | None) -> list[float]:
        """For each task (of an accelerator) the geometric mean over the seeds."""
        return [
            float(np.exp(np.mean([np.log(figure(trace, best)) for trace in traces[who]])))
            for (_, machine), traces, best in zip(self.tasks, self._traces, self._best, strict=True)
            if accelerator in (None, machine)
        ]

    def ratios(self, who: str, samples: int, accelerator: str | None = None) -> list[float]:
        """Best objective after some samples over the best known one, for each task; inf where there was none."""
        return self._over_seeds(who, lambda trace, best: trace.best_at(samples) / best, accelerator)

    def needed(self, who: str, target: float, accelerator: str | None = None) -> list[float]:
        """Samples until a multiple of the best known objective, for each task; the whole budget where it never was."""
        return self._over_seeds(
            who, lambda trace, best: float(trace.samples_to(target * best) or self.samples), accelerator
        )

    def reached(self, who: str, target: float) -> float:
        """Share of the runs that came to a multiple of the best known objective."""
        there = [
            trace.samples_to(target * best) is not None
            for traces, best in zip(self._traces, self._best, strict=True)
            for trace in traces[who]
        ]
        return float(np.mean(there))

    def seconds(self, who: str, target: float) -> list[float]:
        """Seconds until a multiple of the best known objective, mean over the seeds, for each task."""
        spent = []
        for result, traces, best in zip(self._results, self._traces, self._best, strict=True):
            ends = [run["spent"] for run in result["runs"] if run["who"] == who]
            of_task = []
            for trace, end in zip(traces[who], ends, strict=True):
                at = trace.samples_to(target * best)
                of_task.append(end if at is None else trace.seconds[trace.samples.index(at)])
            spent.append(float(np.mean(of_task)))
        return spent


def geometric_mean(values: Sequence[float]) -> float:
    """Of positive figures; inf if one is."""
    return float(np.exp(np.mean(np.log(values))))
