"""What each axis of the map space contributes: gamma's operators one by one, and each axis searched by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.base import DEFAULT_AGENT, make_agent
from mapgym.agents.experiment.report.statistics import bootstrap_interval, interquartile_mean
from mapgym.agents.files.tables import Table
from mapgym.agents.studies.cells import Cell, Result
from mapgym.cost import CostModel
from mapgym.evaluation.best_known import best_known
from mapgym.evaluation.evaluator import Budget, Evaluator, Trace
from mapgym.evaluation.task import Task
from mapgym.mapping import Mapping
from mapgym.mapspace import MapSpace

OPERATORS = {
    "tile": ("move", "exchange", "retile", "levels"),
    "order": ("order",),
    "parallelism": ("parallelism",),
    "all": ("move", "exchange", "retile", "levels", "order", "parallelism", "bypass"),
}
"""Gamma's parameters that are the weights of the operators of an axis."""

TYPICAL, BEST = "typical", "best known"
RANDOM = "random"
DRAWS = 1001
"""Mappings drawn to find a typical one (their median), and to see how far an axis can spoil a mapping."""

_REFERENCE_SAMPLES = 20_000


@dataclass(frozen=True)
class Variant:
    """gamma with some of its operators; ``parameters`` None stands for random search."""

    name: str
    parameters: dict[str, float] | None

    @property
    def agent(self) -> str:
        """Who searches."""
        return "random" if self.parameters is None else "gamma"


def variants() -> list[Variant]:
    """Gamma's operators one by one, each with and without crossover, crossover alone, and all together.

    No fresh mappings are injected: an operator has to make do with the first population.
    """
    gamma = make_agent("gamma")
    defaults = {weight: float(getattr(gamma, weight)) for weight in OPERATORS["all"]}
    found = [Variant(RANDOM, None)]
    for name, operators in OPERATORS.items():
        weights = {weight: value if weight in operators else 0.0 for weight, value in defaults.items()}
        for crossover in (0.0, 0.5):
            label = name if crossover == 0.0 else f"{name} + crossover"
            found.append(Variant(label, {**weights, "inject": 0.0, "crossover": crossover}))
    # With crossover in every child and nothing else owed, a persistence of 0 leaves no mutation.
    alone = {**defaults, "inject": 0.0, "crossover": 1.0, "persistence": 0.0}
    return [*found, Variant("crossover", alone)]


def axes_cells(tasks: Sequence[Task], samples: int, seeds: int) -> list[Cell]:
    """For each task one cell for the operators, and one for the axes by themselves.

    Args:
        tasks: the map spaces and the objective.
        samples: budget of each search.
        seeds: searches of each kind.
    """
    cells = []
    for task in tasks:
        settings = {"task": task.key, "samples": samples, "seeds": seeds}
        compared = {**settings, "variants": [asdict(variant) for variant in variants()]}
        cells.append(Cell(f"operators, {task.full_name}", compared, partial(_operators, task, samples, seeds)))
        searched = {**settings, "agent": DEFAULT_AGENT}
        cells.append(Cell(f"axes, {task.full_name}", searched, partial(_axes, task, samples, seeds)))
    return cells


def _place(task: Task) -> Result:
    return {"workload": task.workload.name, "accelerator": task.accelerator.name, "objective": task.objective}


def _operators(task: Task, samples: int, seeds: int) -> Result:
    space = task.space()
    found = best_known(space, task.objective)
    traces: dict[str, list[Any]] = {}
    for variant in variants():
        for seed in range(seeds):
            evaluator = Evaluator(space, task.objective, Budget(samples=samples))
            make_agent(variant.agent, **(variant.parameters or {})).search(evaluator, seed)
            traces.setdefault(variant.name, []).append(evaluator.trace.to_dict())
    finals = {name: median(trace["values"][-1] for trace in of_variant) for name, of_variant in traces.items()}
    # Where nothing is stored about a task, the lowest value that was seen stands for the best known.
    best = min(trace["values"][-1] for of_variant in traces.values() for trace in of_variant)
    best = best if found is None else found.value
    summary = ", ".join(f"{name} {value / best:.3f}" for name, value in finals.items() if "+" not in name)
    return {**_place(task), "samples": samples, "best_known": best, "traces": traces, "summary": summary}


def _axes(task: Task, samples: int, seeds: int) -> Result:
    space = task.space()
    rng = np.random.default_rng(0)
    drawn = space.sample(rng, DRAWS)
    costs = CostModel(space.workload, space.accelerator).evaluate(drawn).objective(task.objective)
    typical = drawn[int(np.argsort(costs, kind="stable")[DRAWS // 2])]
    rows = []
    for kind, base in ((TYPICAL, typical), (BEST, _best(space, task.objective))):
        for axes in (*((axis,) for axis in space.axes), space.axes):
            rows.append({"base": kind, "axes": "+".join(axes), **_one(task, axes, base, samples, seeds)})
    gains = {row["axes"]: row["base_value"] / median(row["values"]) for row in rows if row["base"] == TYPICAL}
    summary = "a typical mapping gains " + ", ".join(f"{gain:.3g}x by {axes}" for axes, gain in gains.items())
    return {**_place(task), "rows": rows, "summary": summary}


def _best(space: MapSpace, objective: str) -> Mapping:
    found = best_known(space, objective)
    if found is not None:
        return found.to_mapping(space.workload, space.accelerator)
    evaluator = Evaluator(space, objective, Budget(samples=_REFERENCE_SAMPLES))
    make_agent(DEFAULT_AGENT).search(evaluator, 0)
    assert evaluator.best_mapping is not None
    return evaluator.best_mapping


def _one(task: Task, axes: tuple[str, ...], base: Mapping, samples: int, seeds: int) -> Result:
    """Searches some axes from a mapping, and draws from them at random."""
    space = MapSpace(task.workload, task.accelerator, axes, base=base)
    model = CostModel(space.workload, space.accelerator)
    base_value = float(model.evaluate(base).objective(task.objective))
    values = []
    for seed in range(seeds):
        evaluator = Evaluator(space, task.objective, Budget(samples=samples))
        # What is fixed by the base comes with a mapping that is there to begin from: the base itself.
        make_agent(DEFAULT_AGENT).search(evaluator, seed, base.batch())
        values.append(float(evaluator.best_value))
    drawn = model.evaluate(space.sample(np.random.default_rng(1), DRAWS)).objective(task.objective)
    return {
        "base_value": base_value,
        "values": values,
        "random_median": float(np.median(drawn)),
        "random_worst": float(drawn.max()),
    }


def split(results: list[Result]) -> tuple[list[Result], list[Result]]:
    """The results about operators and those about axes."""
    return [r for r in results if "traces" in r], [r for r in results if "rows" in r]


def _task_of(result: Result) -> tuple[str, str]:
    return result["workload"], result["accelerator"]


def ratio_curves(results: list[Result], budgets: NDArray[np.float64]) -> dict[str, list[NDArray[np.float64]]]:
    """Variant -> for each task float64[seed, budget]: best so far over the best known."""
    curves: dict[str, list[NDArray[np.float64]]] = {}
    for result in split(results)[0]:
        for name, traces in result["traces"].items():
            values = [[Trace.from_dict(trace).best_at(int(n)) for n in budgets] for trace in traces]
            curves.setdefault(name, []).append(np.array(values) / result["best_known"])
    return curves


def axes_tables(results: list[Result]) -> list[Table]:
    """Operators over all tasks, axes over all tasks, and each by task."""
    operators, axes = split(results)
    samples = operators[0]["samples"]
    budgets = np.array([samples // 10, samples], np.float64)
    curves = ratio_curves(results, budgets)
    overview: list[list[object]] = []
    for name, ratios in curves.items():
        low, high = bootstrap_interval(ratios)
        mean = interquartile_mean(np.concatenate(ratios))
        overview.append([name, *(f"{mean[i]:.3f} ({low[i]:.3f} to {high[i]:.3f})" for i in range(2))])
    tables = [
        Table(
            "gamma's operators one by one",
            "Best found over the best known, after a tenth of the samples and after all: interquartile mean over all "
            "layers and seeds, with bootstrap 95 % intervals (stratified by layer). Without injected mappings. "
            "The tile operators also move factors between time and space of a level.",
            ("operators", f"after {samples // 10:,} samples", f"after {samples:,} samples"),
            overview,
        )
    ]
    rows = []
    groups: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for result in axes:
        for row in result["rows"]:
            found, base = median(row["values"]), row["base_value"]
            metrics = (base / found, row["random_median"] / base, row["random_worst"] / base)
            rows.append([*_task_of(result), row["base"], row["axes"], base, found, *metrics])
            groups.setdefault((row["base"], row["axes"]), []).append(metrics)
    summary: list[list[object]] = []
    for names, group in groups.items():
        gains, spoilt, worst = zip(*group, strict=True)
        summary.append([*names, *map(float, (median(gains), max(gains), median(spoilt), max(worst)))])
    tables.append(
        Table(
            "Each axis by itself",
            f"The default agent searches some axes and keeps the others as they are in a typical mapping (the median "
            f"of {DRAWS:,} random ones) or in the best known one. Gain: cost of that mapping over the best found "
            "(median over seeds; median and highest over layers). Random: cost of random values of these axes over the "
            "cost of that mapping (median; highest).",
            ("starting from", "axes", "median gain", "highest gain", "random, median", "random, highest"),
            summary,
        )
    )
    of_variants = ("workload", "accelerator", "variant", "median_after_tenth", "median_after_all", "best_known")
    by_task: list[list[object]] = []
    for result in operators:
        for name, traces in result["traces"].items():
            finals = [median(Trace.from_dict(trace).best_at(int(n)) for trace in traces) for n in budgets]
            by_task.append([*_task_of(result), name, *finals, result["best_known"]])
    tables.append(
        Table("Operators by layer", "Medians over seeds, in the unit of the objective.", of_variants, by_task)
    )
    columns = ("workload", "accelerator", "base", "axes", "base_value", "found", "gain", "random", "random_worst")
    tables.append(Table("Axes by layer", "As above, by layer.", columns, rows))
    return tables
