"""What the results of a comparison say: one row of figures for each task and agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mapgym.agents.experiment.certificate import Certificate
from mapgym.agents.experiment.comparison import Comparison, Run, Task
from mapgym.agents.experiment.results import RunResult
from mapgym.agents.experiment.statistics import bootstrap_interval, expected_samples_to_target, interquartile_mean

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
    """The figures of one agent on one task, or on all tasks together.

    Attributes:
        task: None for the row over all tasks.
        agent: its name.
        seeds: number of runs (for each task).
        best: best objective over the seeds; None over all tasks.
        best_ratio: ``best`` over the lower bound.
        gap: ``best`` over the proven lower bound, minus 1; over all tasks from the geometric mean of the ratios. None
            where a task has no certificate or no legal mapping.
        gap_certified: whether every optimum behind ``gap`` is certified; otherwise the gap is an upper limit.
        ratios: for each budget, best objective over lower bound.
        samples_to_target: for each of ``TARGETS``, samples spent by all runs per run that reached it (infinity:
            none did).
        reached: for each target, how many runs reached it.
        runs: number of runs that the row is about.
        samples: mean number of samples of a run.
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
    samples_to_target: tuple[float, ...]
    reached: tuple[int, ...]
    runs: int
    samples: float
    seconds: float
    tuning: str

    @property
    def samples_per_second(self) -> float:
        """Mean speed of the search, pricing included."""
        return self.samples / self.seconds if self.seconds else float("inf")


@dataclass(frozen=True)
class Summary:
    """All rows of a comparison.

    Attributes:
        comparison: what was compared.
        unit: of the budgets, "samples" or "seconds".
        budgets: after which the ratios are reported; the last one is the whole budget.
        best_known: for each task, the run with the best objective and its result.
        lower_bounds: for each task, the lower bound of the objective.
        certificates: what is proven about the optimum, for the tasks of which something is.
        rows: task by task, then (for more than one task) the rows over all tasks.
    """

    comparison: Comparison
    unit: str
    budgets: tuple[float, ...]
    best_known: dict[Task, tuple[Run, RunResult]]
    lower_bounds: dict[Task, float]
    certificates: Mapping[Task, Certificate]
    rows: tuple[Row, ...]


def default_budgets(comparison: Comparison) -> tuple[str, tuple[float, ...]]:
    """The unit of the budget, and the powers of ten within it (from 10 samples or 1 second on) with its end."""
    settings = comparison.settings
    unit, limit = ("samples", settings.samples) if settings.samples else ("seconds", settings.seconds)
    assert limit is not None  # a budget has one of them
    first = 10.0 if unit == "samples" else 1.0
    powers = []
    while first < limit:
        powers.append(first)
        first *= 10.0
    return unit, (*powers, float(limit))


def summarize(
    comparison: Comparison, results: dict[Run, RunResult], certificates: Mapping[Task, Certificate] | None = None
) -> Summary:
    """Computes the figures.

    Args:
        comparison: the matrix.
        results: the result of every run of it.
        certificates: what is proven about the optima of its tasks.
    """
    certificates = {} if certificates is None else certificates
    unit, budgets = default_budgets(comparison)
    best_known, lower_bounds = {}, {}
    for task in comparison.tasks:
        of_task = [(run, result) for run, result in results.items() if run.task == task]
        lower_bounds[task] = of_task[0][1].lower_bound
        best_known[task] = min(of_task, key=lambda entry: entry[1].ratio)
    groups: list[tuple[Task | None, tuple[Task, ...]]] = [(task, (task,)) for task in comparison.tasks]
    if len(comparison.tasks) > 1:
        groups.append((None, comparison.tasks))
    rows = tuple(
        _row(
            task,
            agent,
            [[results[Run(t, agent, seed)] for seed in comparison.seeds] for t in tasks],
            unit,
            budgets,
            [best_known[t][1] for t in tasks],
            [certificates.get(t) for t in tasks],
        )
        for task, tasks in groups
        for agent in comparison.agents
    )
    return Summary(comparison, unit, budgets, best_known, lower_bounds, certificates, rows)


def _row(
    task: Task | None,
    agent: str,
    results: Sequence[Sequence[RunResult]],
    unit: str,
    budgets: Sequence[float],
    best_known: Sequence[RunResult],
    certificates: Sequence[Certificate | None],
) -> Row:
    """Figures over ``results[task][seed]``."""
    strata = [ratio_curves(of_task, budgets, unit) for of_task in results]
    means = interquartile_mean(np.concatenate(strata))
    lows, highs = bootstrap_interval(strata)
    to_targets = [
        [
            result.samples_to(target * known.best_value) if known.best_value is not None else (result.samples, False)
            for of_task, known in zip(results, best_known, strict=True)
            for result in of_task
        ]
        for target in TARGETS
    ]
    flat = [result for of_task in results for result in of_task]
    best = min(flat, key=lambda result: result.ratio) if task is not None else None
    return Row(
        task=task,
        agent=agent,
        seeds=len(results[0]),
        best=best.best_value if best is not None else None,
        best_ratio=best.ratio if best is not None else None,
        gap=_gap(results, certificates),
        gap_certified=all(entry is not None and entry.certified for entry in certificates),
        ratios=tuple(Interval(*map(float, figures)) for figures in zip(means, lows, highs, strict=True)),
        samples_to_target=tuple(
            expected_samples_to_target([spent for spent, _ in runs], [reached for _, reached in runs])
            for runs in to_targets
        ),
        reached=tuple(sum(reached for _, reached in runs) for runs in to_targets),
        runs=len(flat),
        samples=float(np.mean([result.samples for result in flat])),
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


def ratio_curves(results: Sequence[RunResult], budgets: Sequence[float], unit: str) -> np.ndarray:
    """Best objective over lower bound, float64[run, budget]."""
    return np.stack([result.best_after(np.asarray(budgets), unit) / result.lower_bound for result in results])
