"""Mappers beside each other, with the same samples and with the same time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.experiment.report.statistics import (
    bootstrap_interval,
    expected_samples_to_target,
    interquartile_mean,
)
from mapgym.agents.experiment.report.summary import Summary
from mapgym.agents.experiment.storage.results import RunResult
from mapgym.agents.files.tables import Table
from mapgym.evaluation.task import Task

EARLY = 1000
"""Samples after which the mappers are compared besides the end of the budget."""

TARGET = 1.05
"""Multiple of the best known objective; the samples until there are the sample efficiency."""

SURROGATE = "mind-mappings"
_BESIDE = ("random", "gamma")

_NOTE = (
    "Best objective over the best known one (of all runs here, or stored with mapgym), interquartile mean over layers "
    "and seeds. With the same samples, and with the same wall time (another set of runs). "
)


@dataclass(frozen=True)
class Moment:
    """When mappers are compared.

    Attributes:
        name: such as "1,000 samples" or "5 s".
        budget: how much had been spent.
        unit: "samples" or "seconds".
    """

    name: str
    budget: float
    unit: str


class Comparison:
    """The results of both sets of runs, relative to the same best known objectives.

    Attributes:
        moments: when the mappers are compared.
        accelerators: names, in order.
        agents: labels of those that ran on all tasks in both sets, the best at the end of the samples first.
    """

    def __init__(self, by_samples: Summary, by_time: Summary) -> None:
        """Joins two summaries of the same tasks.

        Args:
            by_samples: of runs with a budget of samples.
            by_time: of runs with a budget of seconds.
        """
        self._summaries = {"samples": by_samples, "seconds": by_time}
        self._tasks = by_samples.tasks
        self._known = {task: min(by_samples.best_known[task], by_time.best_known[task]) for task in self._tasks}
        samples, seconds = by_samples.budget.samples, by_time.budget.seconds
        assert samples is not None  # the two sets differ in this
        assert seconds is not None
        counts = sorted({min(EARLY, samples), samples})
        self.moments = [Moment(f"{count:,} samples", count, "samples") for count in counts]
        self.moments += [Moment(f"{seconds:g} s", seconds, "seconds")]
        self.accelerators = list(dict.fromkeys(task.accelerator.name for task in self._tasks))
        self._end = Moment("end", samples, "samples")
        both = [agent for agent in by_samples.complete_agents if agent in by_time.complete_agents]
        self.agents = sorted(both, key=lambda agent: self.mean(agent, self._end))

    def curves(
        self, agent: str, budgets: Sequence[float] | NDArray[np.float64], unit: str, accelerator: str | None = None
    ) -> list[NDArray[np.float64]]:
        """For each task (of an accelerator), best objective over the best known one, float64[run, budget].

        Args:
            agent: its label.
            budgets: after which.
            unit: "samples" or "seconds", of the budgets; it also says which set of runs is looked at.
            accelerator: its name; all when None.
        """
        return [
            np.stack([result.best_after(budgets, unit) for result in results]) / self._known[task]
            for task, results in self._of(agent, unit, accelerator)
        ]

    def mean(self, agent: str, moment: Moment, accelerator: str | None = None) -> float:
        """Interquartile mean of the ratio to the best known objective at a moment."""
        strata = self.curves(agent, [moment.budget], moment.unit, accelerator)
        return float(interquartile_mean(np.concatenate(strata))[0])

    def interval(self, agent: str, moment: Moment, accelerator: str | None = None) -> tuple[float, float]:
        """Its bootstrap 95 % interval, resampled within each task."""
        low, high = bootstrap_interval(self.curves(agent, [moment.budget], moment.unit, accelerator))
        return float(low[0]), float(high[0])

    def place(self, agent: str, moment: Moment, accelerator: str | None = None) -> int:
        """How many agents are at least as good, itself included."""
        own = self.mean(agent, moment, accelerator)
        return sum(self.mean(other, moment, accelerator) <= own for other in self.agents)

    def samples_per_second(self, agent: str, accelerator: str | None = None) -> float:
        """Mean speed in the runs with a budget of seconds, pricing included."""
        results = [result for _, of_task in self._of(agent, "seconds", accelerator) for result in of_task]
        return sum(result.samples for result in results) / sum(result.seconds for result in results)

    def samples_to_target(self, agent: str, accelerator: str | None = None) -> tuple[float, int, int]:
        """Samples of all runs for each that came within ``TARGET``, how many did, and the number of runs."""
        spent = [
            result.samples_to(TARGET * self._known[task])
            for task, results in self._of(agent, "samples", accelerator)
            for result in results
        ]
        reached = [there for _, there in spent]
        return expected_samples_to_target([samples for samples, _ in spent], reached), sum(reached), len(spent)

    def was_trained_for(self, accelerator: str) -> bool:
        """Whether the model of the surrogate is that of an accelerator."""
        _, results = next(self._of(SURROGATE, "samples", accelerator))
        return results[0].config["parameters"]["model"] == accelerator

    def _of(self, agent: str, unit: str, accelerator: str | None) -> Iterator[tuple[Task, Sequence[RunResult]]]:
        for task in self._tasks:
            if accelerator in (None, task.accelerator.name):
                yield task, self._summaries[unit].results[task, agent]


def mappers_tables(comparison: Comparison) -> list[Table]:
    """All mappers in one line each; the surrogate by itself; all metrics with intervals."""
    tables = [_overview(comparison)]
    if SURROGATE in comparison.agents:
        tables.append(_surrogate(comparison))
    return [*tables, _details(comparison)]


def _overview(comparison: Comparison) -> Table:
    moments = [(machine, moment) for machine in comparison.accelerators for moment in comparison.moments]
    rows: list[list[object]] = []
    for agent in comparison.agents:
        needed, reached, runs = comparison.samples_to_target(agent)
        means = [_finite(comparison.mean(agent, moment, machine)) for machine, moment in moments]
        speed = f"{comparison.samples_per_second(agent):,.0f}"
        rows.append([agent, *means, speed, f"{needed:,.0f} ({reached}/{runs})" if reached else f"- (0/{runs})"])
    note = (
        f"{_NOTE}To {TARGET:g}x: samples spent by all runs for each run that came within {TARGET:g} times the best "
        "known objective, and how many did. Sorted by the last number of samples, over all tasks."
    )
    columns = ("agent", *(f"{machine}, {moment.name}" for machine, moment in moments), "samples/s", f"to {TARGET:g}x")
    return Table("Mappers", note, columns, rows)


def _surrogate(comparison: Comparison) -> Table:
    beside = [agent for agent in _BESIDE if agent in comparison.agents]
    rows: list[list[object]] = []
    for machine in comparison.accelerators:
        trained = "yes" if comparison.was_trained_for(machine) else "no"
        for moment in comparison.moments:
            means = [_finite(comparison.mean(agent, moment, machine)) for agent in (SURROGATE, *beside)]
            place = f"{comparison.place(SURROGATE, moment, machine)} of {len(comparison.agents)}"
            rows.append([machine, trained, moment.name, *means, place])
    note = (
        "The surrogate was trained once, for one accelerator, and is used on both. Ratios as above; place among all "
        "mappers."
    )
    return Table(
        f"{SURROGATE} on an accelerator that it was not trained for",
        note,
        ("accelerator", "trained for it", "after", SURROGATE, *beside, "place"),
        rows,
    )


def _details(comparison: Comparison) -> Table:
    rows: list[list[object]] = []
    for agent in comparison.agents:
        for machine in (*comparison.accelerators, None):
            metrics: list[float | None] = []
            for moment in comparison.moments:
                ends = comparison.interval(agent, moment, machine)
                metrics += map(_finite, (comparison.mean(agent, moment, machine), *ends))
            needed, reached, runs = comparison.samples_to_target(agent, machine)
            speed = comparison.samples_per_second(agent, machine)
            rows.append([agent, machine or "all", runs, *metrics, speed, _finite(needed), reached])
    parts = [f"{moment.name}{part}" for moment in comparison.moments for part in ("", ", low", ", high")]
    last = ("samples/s", f"samples to {TARGET:g}x", "reached it")
    note = (
        f"{_NOTE}Low and high: bootstrap 95 % interval, resampled within each task; a single seed gives one of width 0."
        " Empty: a quarter of the runs or more had no legal mapping by then. Runs: those with the same samples."
    )
    return Table("With intervals", note, ("agent", "accelerator", "runs", *parts, *last), rows)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
