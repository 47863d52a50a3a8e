"""What the results of an experiment say: one row of metrics for each task and agent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapgym.agents.certificate import Certificate
from mapgym.agents.experiment.report.statistics import (
    bootstrap_interval,
    expected_samples_to_target,
    interquartile_mean,
)
from mapgym.agents.experiment.storage.results import RunResult
from mapgym.evaluation.evaluator import Budget
from mapgym.evaluation.task import Task

TARGETS = (1.01, 1.05, 1.1, 1.5, 2.0)
"""Multiples of the best known objective; samples to reach each of them are reported."""


@dataclass(frozen=True)
class Interval:
    """An interquartile mean with the ends of its bootstrap 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """The metrics of one agent on one task, or on all tasks together.

    Attributes:
        task: None for the row over all tasks.
        agent: its label.
        seeds: number of runs (for each task).
        best: best objective over the seeds; None over all tasks.
        best_ratio: ``best`` over the lower bound.
        gap: ``best`` over the proven lower bound, minus 1; over all tasks from the geometric mean of the ratios. None
            where a task has no certificate or no legal mapping.
        gap_certified: whether every optimum behind ``gap`` is certified; otherwise the gap is an upper limit.
        ratios: for each budget, best objective over lower bound.
        over_best_known: at the end of the budget, best objective over the best known one.
        samples_to_target: for each of ``TARGETS``, samples spent by all runs per run that reached it (infinity:
            none did).
        reached: for each target, how many runs reached it.
        runs: number of runs that the row is about.
        samples: mean number of samples of a run.
        mappings: mean number of mappings that a run priced.
        seconds: mean wall time of a run.
        tuning: how the agent's parameters were chosen.
    """

    task: Task | None
    agent: str
    seeds: int
    best: float | None
    best_ratio: float | None
    gap: float | None
    gap_certified: bool
    ratios: tuple[Interval, ...]
    over_best_known: Interval
    samples_to_target: tuple[float, ...]
    reached: tuple[int, ...]
    runs: int
    samples: float
    mappings: float
    seconds: float
    tuning: str

    @property
    def samples_per_second(self) -> float:
        """Mean speed of the search, pricing included."""
        return self.samples / self.seconds if self.seconds else math.inf


@dataclass(frozen=True)
class Summary:
    """All rows of an experiment.

    Attributes:
        budget: of each run.
        unit: of the budgets, "samples" or "seconds".
        budgets: after which the ratios are reported; the last one is the whole budget.
        tasks: those that have results, in order.
        agents: labels of those that have results, in order.
        results: of each task and agent, the results of its seeds.
        best_runs: for each task, the result with the best objective.
        best_known: for each task, the best objective known: of all runs, or stored; infinite if there is none.
        lower_bounds: for each task, the lower bound of the objective.
        certificates: what is proven about the optimum, for the tasks of which something is.
        rows: task by task, then (for more than one task) the rows over all tasks, of the agents that ran on all.
    """

    budget: Budget
    unit: str
    budgets: tuple[float, ...]
    tasks: tuple[Task, ...]
    agents: tuple[str, ...]
    results: Mapping[tuple[Task, str], Sequence[RunResult]]
    best_runs: Mapping[Task, RunResult]
    best_known: Mapping[Task, float]
    lower_bounds: Mapping[Task, float]
    certificates: Mapping[Task, Certificate]
    rows: tuple[Row, ...]

    @property
    def all_results(self) -> list[RunResult]:
        """The results of all runs."""
        return [result for of_agent in self.results.values() for result in of_agent]

    @property
    def complete_agents(self) -> tuple[str, ...]:
        """Those that ran on all tasks; only they can be compared over all tasks."""
        return tuple(agent for agent in self.agents if all((task, agent) in self.results for task in self.tasks))

    def over_best_known(
        self, agent: str, budgets: ArrayLike | None = None, unit: str = "samples"
    ) -> list[NDArray[np.float64]]:
        """For each task that an agent ran on, best objective over the best known one, float64[run, budget].

        Args:
            agent: its label.
            budgets: after which; without them, float64[run] at the end of the runs.
            unit: "samples" or "seconds", of the budgets.
        """
        return [
            over_best_known(self.results[task, agent], self.best_known[task], budgets, unit)
            for task in self.tasks
            if (task, agent) in self.results
        ]


def default_budgets(budget: Budget) -> tuple[str, tuple[float, ...]]:
    """The unit of the budget, and the powers of ten within it (from 10 samples or 1 second on) with its end."""
    unit, limit = ("samples", budget.samples) if budget.samples else ("seconds", budget.seconds)
    assert limit is not None  # a budget has one of them
    first = 10.0 if unit == "samples" else 1.0
    powers = []
    while first < limit:
        powers.append(first)
        first *= 10.0
    return unit, (*powers, float(limit))


def summarize(
    results: Sequence[RunResult], budget: Budget, certificates: Mapping[Task, Certificate] | None = None
) -> Summary:
    """Computes the metrics.

    Args:
        results: of the runs that did not fail, at least one; their order gives that of tasks and agents.
        budget: of each run.
        certificates: what is proven about the optima of the tasks.
    """
    certificates = {} if certificates is None else certificates
    unit, budgets = default_budgets(budget)
    tasks = tuple(dict.fromkeys(result.task for result in results))
    agents = tuple(dict.fromkeys(result.agent.label for result in results))
    grouped: dict[tuple[Task, str], list[RunResult]] = {}
    for result in results:
        grouped.setdefault((result.task, result.agent.label), []).append(result)
    lower_bounds, best_runs, best_known = {}, {}, {}
    for task in tasks:
        of_task = [result for agent in agents for result in grouped.get((task, agent), [])]
        lower_bounds[task] = of_task[0].lower_bound
        best_runs[task] = min(of_task, key=lambda result: result.ratio)
        stored = certificates[task].value if task in certificates else math.inf
        found = best_runs[task].best_value
        best_known[task] = stored if found is None else min(found, stored)
    summary = Summary(
        budget, unit, budgets, tasks, agents, grouped, best_runs, best_known, lower_bounds, certificates, ()
    )
    groups: list[tuple[Task | None, tuple[Task, ...]]] = [(task, (task,)) for task in tasks]
    if len(tasks) > 1:
        groups.append((None, tasks))
    rows = tuple(
        _row(summary, task, agent, of_group)
        for task, of_group in groups
        for agent in agents
        if all((one, agent) in grouped for one in of_group)
    )
    return replace(summary, rows=rows)


def _row(summary: Summary, task: Task | None, agent: str, tasks: Sequence[Task]) -> Row:
    """Figures of an agent over some tasks."""
    results = [summary.results[one, agent] for one in tasks]
    ratios = [
        value_curves(of_task, summary.budgets, summary.unit) / summary.lower_bounds[one]
        for one, of_task in zip(tasks, results, strict=True)
    ]
    over_best = [over_best_known(of_task, summary.best_known[one]) for one, of_task in zip(tasks, results, strict=True)]
    to_targets = [
        [
            result.samples_to(target * summary.best_known[one])
            for one, of_task in zip(tasks, results, strict=True)
            for result in of_task
        ]
        for target in TARGETS
    ]
    flat = [result for of_task in results for result in of_task]
    best = min(flat, key=lambda result: result.ratio) if task is not None else None
    certificates = [summary.certificates.get(one) for one in tasks]
    means, (lows, highs) = interquartile_mean(np.concatenate(ratios)), bootstrap_interval(ratios)
    return Row(
        task=task,
        agent=agent,
        seeds=max(map(len, results)),
        best=best.best_value if best is not None else None,
        best_ratio=best.ratio if best is not None else None,
        gap=_gap(results, certificates),
        gap_certified=all(entry is not None and entry.certified for entry in certificates),
        ratios=tuple(Interval(*map(float, metrics)) for metrics in zip(means, lows, highs, strict=True)),
        over_best_known=Interval(
            float(interquartile_mean(np.concatenate(over_best))), *map(float, bootstrap_interval(over_best))
        ),
        samples_to_target=tuple(
            expected_samples_to_target([spent for spent, _ in runs], [reached for _, reached in runs])
            for runs in to_targets
        ),
        reached=tuple(sum(reached for _, reached in runs) for runs in to_targets),
        runs=len(flat),
        samples=float(np.mean([result.samples for result in flat])),
        mappings=float(np.mean([result.mappings for result in flat])),
        seconds=float(np.mean([result.seconds for result in flat])),
        tuning=flat[0].tuning,
    )


def _gap(results: Sequence[Sequence[RunResult]], certificates: Sequence[Certificate | None]) -> float | None:
    """Geometric mean, over the tasks, of the best value over the proven bound, minus 1."""
    logs = []
    for of_task, certificate in zip(results, certificates, strict=True):
        values = [result.best_value for result in of_task if result.best_value is not None]
        if certificate is None or not values:
            return None
        logs.append(np.log(min(values) / certificate.lower_bound))
    return float(np.expm1(np.mean(logs)))


def value_curves(results: Sequence[RunResult], budgets: ArrayLike, unit: str) -> NDArray[np.float64]:
    """Best objective after each budget, float64[run, budget]; infinite before the first legal mapping."""
    return np.stack([result.best_after(budgets, unit) for result in results])


def over_best_known(
    results: Sequence[RunResult], best_known: float, budgets: ArrayLike | None = None, unit: str = "samples"
) -> NDArray[np.float64]:
    """Best objective over the best known one: float64[run, budget], or float64[run] at the end of the runs."""
    if budgets is None:
        values = np.array([math.inf if result.best_value is None else result.best_value for result in results])
    else:
        values = value_curves(results, budgets, unit)
    # Without any legal mapping nothing is known, and nothing is near to it.
    return values / best_known if math.isfinite(best_known) else values
