"""Writes the summary of a comparison as CSV and as Markdown."""

from __future__ import annotations

import csv
import io
import math

from mapgym import __version__
from mapgym.agents.experiment.certificate import outcome_text
from mapgym.agents.experiment.labels import OBJECTIVE_NAMES, OBJECTIVE_UNITS, short_gap
from mapgym.agents.experiment.summary import TARGETS, Row, Summary

ALL_TASKS = "(all tasks)"


def to_csv(summary: Summary) -> str:
    """The rows with every figure at full precision; an empty cell means "none" or "never reached"."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    objective = summary.comparison.settings.objective
    header = ["workload", "accelerator", "agent", "seeds", f"best_{objective}", "best_over_lower_bound"]
    header += ["gap_to_proven_bound", "optimum_certified", "proven_lower_bound"]
    for budget in summary.budgets:
        prefix = f"ratio_at_{budget:g}_{summary.unit}"
        header += [f"{prefix}_iqm", f"{prefix}_low", f"{prefix}_high"]
    for target in TARGETS:
        header += [f"samples_to_{target:g}x_best_known", f"reached_{target:g}x_best_known"]
    writer.writerow([*header, "samples", "seconds", "samples_per_second", "tuning"])
    for row in summary.rows:
        names = (row.task.workload.name, row.task.accelerator.name) if row.task else (ALL_TASKS, "")
        certificate = summary.certificates.get(row.task) if row.task else None
        best = [_cell(row.best), _cell(row.best_ratio), _cell(row.gap)]
        best += [str(row.gap_certified).lower() if row.gap is not None else ""]
        best += [_cell(certificate.lower_bound if certificate else None)]
        figures: list[float | None] = []
        for interval in row.ratios:
            figures += [interval.mean, interval.low, interval.high]
        for samples, reached in zip(row.samples_to_target, row.reached, strict=True):
            figures += [samples, reached]
        figures += [row.samples, row.seconds, row.samples_per_second]
        writer.writerow([*names, row.agent, row.seeds, *best, *map(_cell, figures), row.tuning])
    return table.getvalue()


def to_markdown(summary: Summary, command: str) -> str:
    """The report for people: one table for each task, and what its columns mean."""
    comparison, settings = summary.comparison, summary.comparison.settings
    unit = OBJECTIVE_UNITS[settings.objective]
    limits = [f"{settings.samples:,} samples"] if settings.samples else []
    limits += [f"{settings.seconds:g} seconds"] if settings.seconds else []
    lines = [
        "# Comparison",
        "",
        f"Made by mapgym {__version__} with",
        "",
        f"    {command}",
        "",
        f"Objective: {OBJECTIVE_NAMES[settings.objective]} ({unit}). Axes searched: {', '.join(settings.axes)}. "
        f"Budget of a run: {' or '.join(limits)}. Seeds: {', '.join(map(str, comparison.seeds))}.",
        "",
    ]
    for task in comparison.tasks:
        run, result = summary.best_known[task]
        lines += [f"## {task.name}", "", f"Lower bound: {summary.lower_bounds[task]:.4g} {unit}."]
        if result.best_value is None:
            lines += ["No run priced a legal mapping.", ""]
        else:
            lines += [f"Best known: {result.best_value:.4g} {unit} ({run.agent}, seed {run.seed})."]
            certificate = summary.certificates.get(task)
            if certificate is not None:
                outcome = outcome_text(certificate, settings.objective)
                lines += [
                    f"{outcome[0].upper()}{outcome[1:]}. The best known is {certificate.describe(result.best_value)}."
                ]
            lines += [""]
        lines += [*_table([row for row in summary.rows if row.task == task], summary), ""]
    if len(comparison.tasks) > 1:
        lines += ["## All tasks", "", *_table([row for row in summary.rows if row.task is None], summary), ""]
    return "\n".join([*lines, *_explanation(summary)]) + "\n"


def _table(rows: list[Row], summary: Summary) -> list[str]:
    header = [
        "agent",
        "best",
        "best / bound",
        *(["above optimum"] if summary.certificates else []),
        *(f"ratio at {budget:,g} {summary.unit}" for budget in summary.budgets),
        *(f"to {target:g}x" for target in TARGETS),
        "seconds",
        "samples/s",
        "tuning",
    ]
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    for row in rows:
        cells = [
            row.agent,
            f"{row.best:.4g}" if row.best is not None else "-",
            _ratio(row.best_ratio),
            *([short_gap(row.gap, certified=row.gap_certified)] if summary.certificates else []),
            *(f"{_ratio(i.mean)} [{_ratio(i.low)}, {_ratio(i.high)}]" for i in row.ratios),
            *(
                f"{samples:,.0f} ({reached}/{row.runs})" if reached else f"- (0/{row.runs})"
                for samples, reached in zip(row.samples_to_target, row.reached, strict=True)
            ),
            f"{row.seconds:.3g}",
            f"{row.samples_per_second:,.0f}",
            row.tuning,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _explanation(summary: Summary) -> list[str]:
    proven = [
        "- above optimum: how far the best objective is above the certified optimum; after <= above a proven bound,",
        "  where the optimum itself is not known. Over all tasks: from the geometric mean of the ratios.",
    ]
    return [
        "## How to read the tables",
        "",
        "- best, best / bound: best objective over all seeds, its ratio to the lower bound, which no mapping beats.",
        *(proven if summary.certificates else []),
        f"- ratio at ...: best objective so far over the lower bound, after so many {summary.unit}: interquartile mean",
        "  over seeds [bootstrap 95 % interval; with fewer than five seeds it is little more than their range].",
        "- to 1.1x: samples spent by all runs for each run that came within 1.1 times the best known objective, and",
        "  how many did. Best known means the best of all runs of this comparison, not the optimum.",
        "- seconds, samples/s: mean wall time of a run on the machine that made the results.",
    ]


def _ratio(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.4g}"


def _cell(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else repr(value)
