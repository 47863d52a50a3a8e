"""The charts of an experiment: anytime curves, shares of targets reached, performance profiles."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.experiment.report.charts import Axis, Chart, Series
from mapgym.agents.experiment.report.statistics import bootstrap_interval, interquartile_mean
from mapgym.agents.experiment.report.summary import TARGETS, Summary, over_best_known
from mapgym.evaluation.task import Task

_POINTS = 80
_RESAMPLES = 500
_FLOOR = 1e-3
"""Distances from the best known value below this share are drawn as this."""


def anytime(summary: Summary, unit: str, task: Task | None = None) -> Chart:
    """Distance from the best known value against what was spent: interquartile mean, bootstrap 95 % interval.

    Args:
        summary: the results.
        unit: "samples" or "seconds".
        task: which one; all of them together, each resampled by itself, when None.
    """
    budgets = _budgets(summary, unit, task)
    series = []
    for index, agent in _agents(summary, task):
        strata = [
            over_best_known(summary.results[one, agent], summary.best_known[one], budgets, unit)
            for one in (summary.tasks if task is None else (task,))
        ]
        mean = interquartile_mean(np.concatenate(strata))
        low, high = map(_distance, bootstrap_interval(strata, resamples=_RESAMPLES))
        series.append(Series(agent, index, budgets, _distance(mean), low, high))
    title = f"Best so far against {unit}" if task is None else task.name
    return Chart(title, _budget_axis(budgets, unit), _distance_axis(series), series, steps=True)


def targets_reached(summary: Summary, unit: str, target: float | None = None) -> Chart:
    """Share of the runs on all tasks that have come within a target, against what was spent.

    Args:
        summary: the results.
        unit: "samples" or "seconds".
        target: multiple of the best known value; the mean over all of ``TARGETS`` when None.
    """
    budgets = _budgets(summary, unit, None)
    series = []
    for index, agent in _agents(summary, None):
        values = np.concatenate(summary.over_best_known(agent, budgets, unit))
        shares = [np.mean(values <= one * (1 + 1e-12), axis=0) for one in (TARGETS if target is None else (target,))]
        series.append(Series(agent, index, budgets, np.mean(shares, axis=0)))
    title = "All targets together" if target is None else f"Within {target:g} x the best known"
    return Chart(title, _budget_axis(budgets, unit), _share_axis("runs and targets reached"), series, steps=True)


def performance_profile(summary: Summary) -> Chart:
    """Share of the runs on all tasks that end within each distance from the best known value, with 95 % intervals."""
    ends = [np.concatenate(summary.over_best_known(agent)) for _, agent in _agents(summary, None)]
    finite = np.concatenate(ends) if ends else np.ones(1)
    worst = max(float(np.max(finite[np.isfinite(finite)], initial=1.0)) - 1.0, 10 * _FLOOR)
    distances = np.geomspace(_FLOOR, worst, _POINTS)
    series = []
    for index, agent in _agents(summary, None):
        strata = [values[:, None] - 1.0 <= distances for values in summary.over_best_known(agent)]
        low, high = bootstrap_interval(strata, statistic=_mean, resamples=_RESAMPLES)
        series.append(Series(agent, index, distances, _mean(np.concatenate(strata)), low, high))
    x = Axis("final distance from the best known", _FLOOR, worst, logarithmic=True, text=_percent)
    return Chart("Performance profile", x, _share_axis("runs within that distance"), series, steps=True)


def _agents(summary: Summary, task: Task | None) -> list[tuple[int, str]]:
    """The agents that a chart shows, with the indices of their colours."""
    complete = summary.complete_agents
    return [
        (i, agent)
        for i, agent in enumerate(summary.agents)
        if (agent in complete if task is None else (task, agent) in summary.results)
    ]


def _budgets(summary: Summary, unit: str, task: Task | None) -> NDArray[np.float64]:
    """Where curves are looked at, in equal ratios."""
    results = [result for (one, _), runs in summary.results.items() if task in (None, one) for result in runs]
    end = max(float(getattr(result, unit)) for result in results)
    first = [float(getattr(result.trace, unit)[0]) for result in results if len(result.trace)]
    start = 1.0 if unit == "samples" else max(1e-4, min(first, default=1e-3))
    end = max(end, 2.0 * start)
    budgets = np.geomspace(start, end, _POINTS)
    return np.unique(budgets.round()) if unit == "samples" else budgets


def _budget_axis(budgets: NDArray[np.float64], unit: str) -> Axis:
    return Axis(unit, float(budgets[0]), float(budgets[-1]), logarithmic=True, text="{:,g}".format)


def _distance(ratio: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(ratio - 1.0, _FLOOR)


def _distance_axis(series: Sequence[Series]) -> Axis:
    values = np.concatenate([line.y for line in series]) if series else np.ones(1)
    worst = float(np.max(values[np.isfinite(values)], initial=10 * _FLOOR))
    top = 10.0 ** math.ceil(math.log10(worst) - 1e-9)
    return Axis("above the best known", _FLOOR, max(top, 10 * _FLOOR), logarithmic=True, text=_percent)


def _share_axis(label: str) -> Axis:
    return Axis(f"share of {label}", 0.0, 1.0, text="{:.0%}".format)


def _percent(share: float) -> str:
    text = f"{100 * share:,.6g} %"
    return f"≤ {text}" if share <= _FLOOR * (1 + 1e-9) else text


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.mean(values, axis=0)
