"""Writes the summary of an experiment as CSV and as Markdown."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mapgym import __version__
from mapgym.agents.certificate import outcome_text
from mapgym.agents.experiment.definition.warm_start import POLICY
from mapgym.agents.experiment.report.summary import TARGETS, Interval, Row, Summary
from mapgym.agents.experiment.storage.results import RunResult
from mapgym.agents.files.text_tables import csv_text, markdown, markdown_code, markdown_paragraph, markdown_table
from mapgym.agents.labels import objective_name, objective_unit, short_gap
from mapgym.evaluation.sparsity_aware import is_sparsity_aware, samples_per_mapping
from mapgym.evaluation.task import Task, rules_text

ALL_TASKS = "(all tasks)"


@dataclass(frozen=True)
class About:
    """What a report says besides its metrics.

    Attributes:
        description: of the experiment, "" if it has none.
        command: what made the results.
        planned: number of runs that the experiment consists of.
        failures: the runs that failed.
    """

    description: str
    command: str
    planned: int
    failures: Sequence[RunResult] = ()

    def state(self, summary: Summary) -> str:
        """How many runs there are, and of how many."""
        done = len(summary.all_results)
        if done >= self.planned:
            return f"{done} runs."
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return f"{done} of {self.planned} runs are finished{failed}; the figures are of those."


def to_csv(summary: Summary) -> str:
    """The rows with every metric at full precision; an empty cell means "none" or "never reached"."""
    header = ["workload", "accelerator", "peer_links", "rules", "axes", "objective", "agent", "seeds"]
    header += ["best_value", "best_over_lower_bound", "best_known_value"]
    header += ["gap_to_proven_bound", "optimum_certified", "proven_lower_bound"]
    header += [f"over_best_known_{part}" for part in ("iqm", "low", "high")]
    for budget in summary.budgets:
        prefix = f"ratio_at_{budget:g}_{summary.unit}"
        header += [f"{prefix}_iqm", f"{prefix}_low", f"{prefix}_high"]
    for target in TARGETS:
        header += [f"samples_to_{target:g}x_best_known", f"reached_{target:g}x_best_known"]
    table: list[list[object]] = [[*header, "samples", "mappings", "seconds", "samples_per_second", "tuning"]]
    for row in summary.rows:
        names, certificate, known = [ALL_TASKS, *[""] * 5], None, None
        if (task := row.task) is not None:
            machine = task.accelerator
            names = [task.workload.name, machine.name, str(machine.peer_links).lower(), machine.rules]
            names += ["+".join(task.axes), task.objective]
            certificate, known = summary.certificates.get(task), summary.best_known[task]
        best = [_cell(row.best), _cell(row.best_ratio), _cell(known), _cell(row.gap)]
        best += [str(row.gap_certified).lower() if row.gap is not None else ""]
        best += [_cell(certificate.lower_bound if certificate else None)]
        metrics: list[float | None] = []
        for interval in (row.over_best_known, *row.ratios):
            metrics += [interval.mean, interval.low, interval.high]
        for samples, reached in zip(row.samples_to_target, row.reached, strict=True):
            metrics += [samples, reached]
        metrics += [row.samples, row.mappings, row.seconds, row.samples_per_second]
        table.append([*names, row.agent, row.seeds, *best, *map(_cell, metrics), row.tuning])
    return csv_text(table)


def to_markdown(summary: Summary, about: About) -> str:
    """The report for people: one table for each task, and what its columns mean."""
    lines = ["# Experiment", ""]
    if about.description:
        lines += [markdown_paragraph(f"{about.description[0].upper()}{about.description[1:]}."), ""]
    lines += [f"Made by mapgym {__version__} with", "", markdown_code(about.command), ""]
    lines += [f"Budget of a run: {budget_text(summary)}. {rules_line(summary)} {about.state(summary)}", ""]
    if warm := warm_start_lines(summary.all_results):
        lines += ["Warm starts:", "", *(f"- {markdown(line)}" for line in warm), ""]
    for task in summary.tasks:
        lines += [f"## {markdown(task.name)}", "", *map(markdown, task_lines(summary, task)), ""]
        lines += [*_table([row for row in summary.rows if row.task == task], summary), ""]
    if len(summary.tasks) > 1:
        lines += ["## All tasks", "", *_table([row for row in summary.rows if row.task is None], summary), ""]
    lines += ["## How to read the tables", "", *(f"- {line}" for line in explanation(summary))]
    return "\n".join(lines) + "\n"


def rules_line(summary: Summary) -> str:
    """A sentence that says by which rules costs are counted."""
    return f"Costs are counted as {rules_text(task.accelerator for task in summary.tasks)}."


def budget_text(summary: Summary) -> str:
    """Such as "5,000 samples or 60 seconds"."""
    limits = [f"{summary.budget.samples:,} samples"] if summary.budget.samples else []
    return " or ".join(limits + ([f"{summary.budget.seconds:g} seconds"] if summary.budget.seconds else []))


def task_lines(summary: Summary, task: Task) -> list[str]:
    """What is known about a task, in sentences."""
    unit, best = objective_unit(task.objective), summary.best_runs[task]
    name = objective_name(task.objective)
    lines = [f"Objective: {name} ({unit}). Axes: {', '.join(task.axes)}."]
    if is_sparsity_aware(task.objective):
        each = samples_per_mapping(task.objective)
        lines += [f"A mapping costs {each} samples, one for each density of {task.objective}."]
    else:
        lines += [f"Lower bound: {summary.lower_bounds[task]:.4g} {unit}."]
    if best.best_value is None:
        return [*lines, "No run priced a legal mapping."]
    lines += [f"Best of all runs: {best.best_value:.4g} {unit} ({best.agent.label}, seed {best.seed})."]
    certificate = summary.certificates.get(task)
    if certificate is not None:
        outcome = outcome_text(certificate, task.objective)
        lines += [f"{outcome[0].upper()}{outcome[1:]}. The best run is {certificate.describe(best.best_value)}."]
    return lines


def warm_start_lines(results: Sequence[RunResult]) -> list[str]:
    """About each agent with a warm start, a sentence: how many of its runs began from solved layers, and why not."""
    lines = []
    for label in dict.fromkeys(result.agent.label for result in results if result.warm_start_sources is not None):
        starts = [r.warm_start_sources for r in results if r.agent.label == label and r.warm_start_sources is not None]
        reasons = Counter(start["why_random"] for start in starts if start["why_random"])
        proposed = any(start["sources"] == [POLICY] for start in starts)
        origin = "proposals of the policy" if proposed else "solved layers"
        line = f"{label}: {len(starts) - reasons.total()} of {len(starts)} runs began from {origin}"
        if reasons:
            line += f", {reasons.total()} at random ({'; '.join(f'{n} x {why}' for why, n in reasons.items())})"
        if failed := sum(len(start["failures"]) for start in starts):
            line += f"; {failed} transfers failed"
        lines.append(f"{line}.")
    return lines


def header_of(summary: Summary) -> list[str]:
    """The columns of the tables for people."""
    return [
        "agent",
        "best",
        "best / bound",
        *(["above optimum"] if summary.certificates else []),
        "over best known",
        *(f"ratio at {budget:,g} {summary.unit}" for budget in summary.budgets),
        *(f"to {target:g}x" for target in TARGETS),
        "seconds",
        "samples/s",
        "tuning",
    ]


def cells_of(row: Row, summary: Summary) -> list[str]:
    """A row of the tables for people."""
    return [
        row.agent,
        f"{row.best:.4g}" if row.best is not None else "-",
        _ratio(row.best_ratio),
        *([short_gap(row.gap, certified=row.gap_certified)] if summary.certificates else []),
        _interval(row.over_best_known),
        *map(_interval, row.ratios),
        *(
            f"{samples:,.0f} ({reached}/{row.runs})" if reached else f"- (0/{row.runs})"
            for samples, reached in zip(row.samples_to_target, row.reached, strict=True)
        ),
        f"{row.seconds:.3g}",
        f"{row.samples_per_second:,.0f}",
        row.tuning,
    ]


def keys_of(row: Row, summary: Summary) -> list[str | None]:
    """For each of :func:`cells_of` the number to sort it by, "" for infinity, None for text."""
    numbers: list[float | None] = [row.best, row.best_ratio]
    numbers += [row.gap] if summary.certificates else []
    numbers += [row.over_best_known.mean, *(interval.mean for interval in row.ratios)]
    numbers += [*row.samples_to_target, row.seconds, row.samples_per_second]
    return [None, *map(_cell, numbers), None]


def explanation(summary: Summary) -> list[str]:
    """How to read the tables, one sentence or two for each column."""
    proven = [
        "above optimum: how far the best objective is above the certified optimum; after <= above a proven bound, "
        "where the optimum itself is not known. Over all tasks: from the geometric mean of the ratios."
    ]
    return [
        "best, best / bound: best objective over all seeds, its ratio to the lower bound, which no mapping beats.",
        *(proven if summary.certificates else []),
        "over best known: final objective over the best known one (of all runs here, or stored with mapgym, whichever "
        "is lower): interquartile mean over seeds [bootstrap 95 % interval, resampled within each task; with fewer "
        "than five seeds it is little more than their range].",
        f"ratio at ...: best objective so far over the lower bound, after so many {summary.unit}, likewise.",
        "to 1.1x: samples spent by all runs for each run that came within 1.1 times the best known objective, and how "
        "many did.",
        "seconds, samples/s: mean wall time of a run on the machine that made the results.",
    ]


def _table(rows: list[Row], summary: Summary) -> list[str]:
    return markdown_table(header_of(summary), [cells_of(row, summary) for row in rows])


def _interval(interval: Interval) -> str:
    return f"{_ratio(interval.mean)} [{_ratio(interval.low)}, {_ratio(interval.high)}]"


def _ratio(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.4g}"


def _cell(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else repr(value)
