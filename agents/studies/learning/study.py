"""When learning beats searching: what one trained policy proposes for layers that it has never seen, and saves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from mapgym.agents.base import load_compiled_code, make_agent
from mapgym.agents.studies.cells import Cell, Result
from mapgym.evaluation.best_known import best_known
from mapgym.evaluation.evaluator import Budget, Evaluator, Trace
from mapgym.mapping import Mapping, MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.workload import Workload
from mapgym.warmstart import ReplayBuffer

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
        policies: trained policies, each with "model" as :func:`mapgym.agents.learned.amortized.model.load_policy`
            takes it, the "sha256" of its file, on which results depend, and what its training cost: mappings
            "priced", and CPU "seconds".
    """

    layers: tuple[Workload, ...]
    accelerators: tuple[Accelerator, ...]
    training: tuple[Workload, ...]
    samples: int
    seeds: int
    policies: tuple[dict[str, Any], ...]


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
    """Cells: the replay buffer of each accelerator; each layer on each, without a policy and with each of them."""
    cells = []
    known = {"training": [layer.to_dict() for layer in plan.training], "buffer_samples": BUFFER_SAMPLES}
    for machine in plan.accelerators:
        settings = {"accelerator": machine.to_dict(), **known}
        cells.append(Cell(f"similar layers, {machine.name}", settings, partial(_solve, plan.training, machine)))
    for machine in plan.accelerators:
        for layer in plan.layers:
            name = f"{layer.name}, {machine.name}"
            settings = {
                "workload": layer.to_dict(),
                "accelerator": machine.to_dict(),
                "samples": plan.samples,
                "seeds": plan.seeds,
            }
            cells.append(Cell(name, {**settings, **known}, partial(_measure, layer, machine, plan, buffers)))
            for policy in plan.policies:
                # Named after its weights: a path can be too long for the name of a file.
                cells.append(
                    Cell(
                        f"{name}, policy {policy['sha256'][:8]}",
                        {**settings, "policy": policy},
                        partial(_measure_policy, layer, machine, plan, policy),
                    )
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


class _Runs:
    """What everybody does on one layer: traces, so that what is asked of them can be decided later."""

    def __init__(self, layer: Workload, machine: Accelerator, samples: int) -> None:
        self.space = MapSpace(layer, machine)
        load_compiled_code(self.space)
        self._names = {"layer": layer.name, "accelerator": machine.name}
        self._samples = samples
        self._runs: list[dict[str, Any]] = []

    def keep(self, who: str, seed: int, evaluator: Evaluator) -> None:
        self._runs.append({"who": who, "seed": seed, "spent": evaluator.seconds, **evaluator.trace.to_dict()})

    def search(
        self, who: str, agent: str, samples: int, seed: int, initial: MappingBatch | None = None, **parameters: Any
    ) -> None:
        self.keep(who, seed, _search(self.space, agent, samples, seed, initial, **parameters))

    def result(self, proposer: str, kind: str) -> Result:
        """The result of a cell; its summary is about the mappings of one who proposes."""
        known = best_known(self.space, "edp")
        proposed = [run["values"][-1] for run in self._runs if run["who"] == proposer]
        best = min(min(run["values"], default=np.inf) for run in self._runs)
        return {
            **self._names,
            "samples": self._samples,
            "known": None if known is None else known.value,
            "runs": self._runs,
            "summary": f"{PROPOSED[-1]} {kind} cost {np.median(proposed) / best:.3f} x the best of these runs",
        }


def _measure(layer: Workload, machine: Accelerator, plan: Plan, buffers: Buffers) -> Result:
    """Everybody who needs no policy, on one layer."""
    runs, most = _Runs(layer, machine, plan.samples), PROPOSED[-1]
    similar = buffers.initial(runs.space, most)
    stored = Evaluator(runs.space, "edp", Budget(samples=most))
    stored.evaluate(similar)
    runs.keep(SIMILAR, 0, stored)
    for seed in range(plan.seeds):
        runs.search(RANDOM, "random", most, seed)
        runs.search(GAMMA, "gamma", plan.samples, seed)
        runs.search(EVOLUTION, "evolution", plan.samples, seed)
        runs.search(STORED, "evolution", plan.samples, seed, similar[:STARTS])
    return runs.result(RANDOM, "random mappings")


def _measure_policy(layer: Workload, machine: Accelerator, plan: Plan, policy: dict[str, Any]) -> Result:
    """What a policy proposes for one layer, and searches that begin with it."""
    from mapgym.agents.learned.amortized.proposals import propose

    runs, model = _Runs(layer, machine, plan.samples), policy["model"]
    for seed in range(plan.seeds):
        runs.search(POLICY, "amortized", PROPOSED[-1], seed, model=model)
        runs.search(WARM, "amortized-search", plan.samples, seed, model=model)
        proposals = propose(runs.space, "edp", np.random.default_rng(seed), STARTS, model)
        runs.search(GAMMA_WARM, "gamma", plan.samples, seed, proposals)
    return {**runs.result(POLICY, f"proposals of {model}"), "policy": policy}


@dataclass(frozen=True)
class _Run:
    """One run on a layer: of which policy, if any; its best so far; all its seconds."""

    policy: str | None
    trace: Trace
    spent: float


class Outcome:
    """The results of the layers, relative to the best known mapping of each: stored with mapgym, or of any run here.

    Attributes:
        samples: budget of a search.
        policies: trained policies, with what they say about themselves.
        accelerators: names, in order.
        tasks: (layer, accelerator) of each task.
    """

    def __init__(self, results: Iterable[Result]) -> None:
        """Takes the results of all cells; those of replay buffers are left out."""
        results = [result for result in results if "runs" in result]
        policies = {result["policy"]["model"]: result["policy"] for result in results if "policy" in result}
        self.samples: int = results[0]["samples"]
        self.policies: list[dict[str, Any]] = list(policies.values())
        self.tasks: list[tuple[str, str]] = list(
            dict.fromkeys((result["layer"], result["accelerator"]) for result in results)
        )
        self.accelerators = list(dict.fromkeys(machine for _, machine in self.tasks))
        self._runs: list[dict[str, list[_Run]]] = [{} for _ in self.tasks]
        self._best = [np.inf] * len(self.tasks)
        for result in results:
            k = self.tasks.index((result["layer"], result["accelerator"]))
            policy = result.get("policy", {}).get("model")
            for run in result["runs"]:
                entry = _Run(policy, Trace.from_dict(run), run["spent"])
                self._runs[k].setdefault(run["who"], []).append(entry)
            found = [value for run in result["runs"] for value in run["values"]]
            self._best[k] = min(self._best[k], *found, *([] if result["known"] is None else [result["known"]]))

    def _over_seeds(
        self, who: str, metric: Callable[[Trace, float], float], accelerator: str | None, policy: str | None
    ) -> list[float]:
        """For each task (of an accelerator) the geometric mean over the seeds and policies (or of one policy)."""
        return [
            geometric_mean([metric(run.trace, best) for run in runs[who] if policy in (None, run.policy)])
            for (_, machine), runs, best in zip(self.tasks, self._runs, self._best, strict=True)
            if accelerator in (None, machine)
        ]

    def ratios(self, who: str, samples: int, accelerator: str | None = None, policy: str | None = None) -> list[float]:
        """Best objective after some samples over the best known one, for each task; inf where there was none."""
        return self._over_seeds(who, lambda trace, best: trace.best_at(samples) / best, accelerator, policy)

    def needed(self, who: str, target: float, accelerator: str | None = None, policy: str | None = None) -> list[float]:
        """Samples until a multiple of the best known objective, for each task; the whole budget where it never was."""
        return self._over_seeds(
            who, lambda trace, best: float(trace.samples_to(target * best) or self.samples), accelerator, policy
        )

    def reached(self, who: str, target: float) -> float:
        """Share of the runs that came to a multiple of the best known objective."""
        there = [
            run.trace.samples_to(target * best) is not None
            for runs, best in zip(self._runs, self._best, strict=True)
            for run in runs[who]
        ]
        return float(np.mean(there))

    def seconds(self, who: str, target: float) -> list[float]:
        """Seconds until a multiple of the best known objective, mean over seeds and policies, for each task."""
        spent = []
        for runs, best in zip(self._runs, self._best, strict=True):
            of_task = []
            for run in runs[who]:
                at = run.trace.samples_to(target * best)
                of_task.append(run.spent if at is None else run.trace.seconds[run.trace.samples.index(at)])
            spent.append(float(np.mean(of_task)))
        return spent


def geometric_mean(values: Sequence[float]) -> float:
    """Of positive numbers; inf if one is."""
    return float(np.exp(np.mean(np.log(values))))
