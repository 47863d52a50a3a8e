"""Writes the study of optima as CSV and as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from statistics import median

import numpy as np

from mapgym import __version__
from mapgym.agents.files.text_tables import csv_text, markdown, markdown_code, markdown_table
from mapgym.agents.labels import OBJECTIVE_NAMES, OBJECTIVE_UNITS, percent, short_gap
from mapgym.agents.studies.optimum.structure import Structure, dim_label
from mapgym.agents.studies.optimum.study import Outcome
from mapgym.evaluation.task import KEEP_ALL, Task, axes_label, rules_text
from mapgym.mapping import Mapping

LIMIT_SECONDS = 60.0
"""CPU time within which the share of certified tasks is counted."""

Outcomes = dict[Task, Outcome]
Series = tuple[str, str]
"""Accelerator, axes: what is counted together."""
Features = Callable[[Task, Structure], list[tuple[str, str]]]
"""What a mapping has, as (level, what) pairs."""

_OVERVIEW = (
    f"proven: certified optima; in {LIMIT_SECONDS:g} s: share of the tasks that were certified in so much CPU time; "
    "gap: the largest that is left."
)
_COLUMNS = (
    *("workload", "accelerator", "axes", "objective", "peer_links", "rules", "macs", "log10_map_space_size", "value"),
    *("lower_bound", "gap", "certified", "nodes", "seconds", "cpu_seconds", "seconds_allowed", "utilization"),
    *("stationary", "parallel", "bypassed", "note"),
)


def series_of(task: Task) -> Series:
    """What the task is counted with."""
    return task.accelerator.name, axes_label(task.axes)


def by_series(outcomes: Outcomes) -> dict[Series, Outcomes]:
    """The results of each accelerator and choice of axes, in the order of first appearance."""
    groups: dict[Series, Outcomes] = {}
    for task, outcome in outcomes.items():
        groups.setdefault(series_of(task), {})[task] = outcome
    return groups


def structure_of(task: Task, outcome: Outcome) -> Structure | None:
    """The shape of an optimal mapping; None where no optimum is certified."""
    if outcome.certificate is None or not outcome.certificate.certified:
        return None
    return Structure.of(_mapping(task, outcome), task.workload, task.accelerator)


def _mapping(task: Task, outcome: Outcome) -> Mapping:
    assert outcome.certificate is not None
    return Mapping.from_dict(outcome.certificate.mapping, task.workload, task.accelerator)


def to_csv(outcomes: Outcomes) -> str:
    """One row for each task, every metric at full precision."""
    table: list[Sequence[object]] = [_COLUMNS]
    for task, outcome in outcomes.items():
        row: list[object] = [task.workload.name, *series_of(task), task.objective]
        row += [str(task.accelerator.peer_links).lower(), task.accelerator.rules]
        row += [task.workload.macs, outcome.log10_size]
        certificate = outcome.certificate
        if certificate is None:
            row += [""] * 6 + [outcome.cpu_seconds, outcome.seconds_allowed, *[""] * 4, outcome.unsupported]
        else:
            mapping = _mapping(task, outcome)
            structure = Structure.of(mapping, task.workload, task.accelerator)
            row += [certificate.value, certificate.lower_bound, certificate.gap(), str(certificate.certified).lower()]
            row += [certificate.nodes, certificate.seconds, outcome.cpu_seconds, outcome.seconds_allowed]
            row += [int(mapping.batch().used_macs()[0]) / task.accelerator.mac.instances, *_structure_cells(structure)]
            row += [""]
        table.append(row)
    return csv_text(table)


def _structure_cells(structure: Structure) -> list[str]:
    parallel = {
        level: " ".join(f"{dim}{factor}" for dim, factor in dims.items()) for level, dims in structure.parallel.items()
    }
    bypassed = {level: " ".join(names) for level, names in structure.bypassed.items()}
    return [
        "; ".join(f"{level}: {text}" for level, text in cells.items() if text)
        for cells in (structure.stationary, parallel, bypassed)
    ]


def to_markdown(outcomes: Outcomes, command: str) -> str:
    """The report for people."""
    objective = next(iter(outcomes)).objective
    lines = [
        "# Optima",
        "",
        f"Made by mapgym {__version__} with",
        "",
        markdown_code(command),
        "",
        f"Costs are counted as {rules_text(task.accelerator for task in outcomes)}.",
        "",
        f"Objective: {OBJECTIVE_NAMES[objective]} ({OBJECTIVE_UNITS[objective]}). Times are CPU seconds of one thread; "
        "compilation is not in them if compiled code had been stored before.",
        "",
        *_overview(outcomes),
        *_gain(outcomes),
        *_commonalities(outcomes),
        *_all_tasks(outcomes),
    ]
    unsupported = {task: outcome for task, outcome in outcomes.items() if outcome.certificate is None}
    if unsupported:
        lines += ["## Not treated", ""]
        lines += [f"- {markdown(f'{task.full_name}: {outcome.unsupported}.')}" for task, outcome in unsupported.items()]
        lines.append("")
    return "\n".join(lines)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [*markdown_table(header, rows), ""]


def overview_rows(outcomes: Outcomes) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of how many optima were certified, in what time, and the largest gap left."""
    header = ["accelerator", "axes", "tasks", "proven", f"in {LIMIT_SECONDS:g} s", "median s", "95 % s", "max s"]
    rows = []
    for (accelerator, axes), group in by_series(outcomes).items():
        treated = [outcome for outcome in group.values() if outcome.certificate is not None]
        certified = sum(outcome.certified_within(np.inf) for outcome in treated)
        soon = sum(outcome.certified_within(LIMIT_SECONDS) for outcome in treated)
        times = [outcome.cpu_seconds for outcome in treated]
        gaps = [outcome.certificate.gap() for outcome in treated if outcome.certificate is not None]
        metrics = [f"{f(times):.3g}" for f in (median, _percentile_95, max)] if times else ["-"] * 3
        row = [accelerator, axes, str(len(group)), str(certified), f"{soon / len(group):.1%}", *metrics]
        rows.append([*row, short_gap(max(gaps), certified=True) if gaps else "-"])
    return [*header, "gap"], rows


def _percentile_95(values: Sequence[float]) -> float:
    return float(np.percentile(values, 95, method="inverted_cdf"))


def _overview(outcomes: Outcomes) -> list[str]:
    return [
        "## Time",
        "",
        "![time](time.png)",
        "",
        "![share](share.png)",
        "",
        _OVERVIEW,
        "",
        *_table(*overview_rows(outcomes)),
    ]


def _gain(outcomes: Outcomes) -> list[str]:
    """What the entries to bypass levels is worth."""
    values = {
        (task.workload, task.accelerator, axes_label(task.axes)): outcome.certificate.value
        for task, outcome in outcomes.items()
        if outcome.certificate is not None and outcome.certificate.certified
    }
    rows = []
    for accelerator in dict.fromkeys(task.accelerator for task in outcomes):
        gains = [
            value / values[workload, machine, "bypass"] - 1.0
            for (workload, machine, axes), value in values.items()
            if machine == accelerator and axes == axes_label(KEEP_ALL) and (workload, machine, "bypass") in values
        ]
        if gains:
            rows.append([accelerator.name, str(len(gains)), *(percent(f(gains)) for f in (min, median, max))])
    if not rows:
        return []
    header = ["accelerator", "layers", "least", "median", "most"]
    text = "How much higher the optimum is when every tensor must be kept at every level:"
    return ["## What bypass is worth", "", text, "", *_table(header, rows)]


def count_stationary(task: Task, structure: Structure) -> list[tuple[str, str]]:
    """(level, tensor that stays there)."""
    return list(structure.stationary.items())


def count_parallel(task: Task, structure: Structure) -> list[tuple[str, str]]:
    """(level, dim that is parallel there)."""
    return [(level, dim_label(dim, task.workload)) for level, dims in structure.parallel.items() for dim in dims]


def count_bypassed(task: Task, structure: Structure) -> list[tuple[str, str]]:
    """(level, tensor that bypasses it)."""
    return [(level, name) for level, names in structure.bypassed.items() for name in names]


def shares(group: Outcomes, features: Features) -> dict[str, dict[str, float]]:
    """Level -> what -> share of the certified optima that have the feature there."""
    structures = [(task, found) for task, outcome in group.items() if (found := structure_of(task, outcome))]
    counts = Counter(feature for task, structure in structures for feature in features(task, structure))
    result: dict[str, dict[str, float]] = {}
    for (level, what), count in sorted(counts.items()):
        result.setdefault(level, {})[what] = count / len(structures)
    return result


FEATURES: dict[str, Features] = {
    "stationary tensor": count_stationary,
    "parallel dims": count_parallel,
    "bypassing tensors": count_bypassed,
}


def _commonalities(outcomes: Outcomes) -> list[str]:
    lines = ["## What optimal mappings have in common", "", "![structure](structure.png)", ""]
    lines += [
        "Shares of the certified optima. A tensor is stationary at a level if it stays there while the innermost loop",
        "above the level runs; all: no loop is above it; none: the innermost loop changes every tensor that is kept.",
        "",
    ]
    rows = []
    for (accelerator, axes), group in by_series(outcomes).items():
        for name, features in FEATURES.items():
            for level, found in shares(group, features).items():
                ordered = sorted(found.items(), key=lambda item: -item[1])
                text = ", ".join(f"{what} {share:.0%}" for what, share in ordered)
                rows.append([accelerator, axes, level, name, text])
    return [*lines, *_table(["accelerator", "axes", "level", "what", "share of the optima"], rows)]


def _all_tasks(outcomes: Outcomes) -> list[str]:
    rows = []
    for task, outcome in outcomes.items():
        certificate = outcome.certificate
        if certificate is not None:
            structure = Structure.of(_mapping(task, outcome), task.workload, task.accelerator)
            gap = short_gap(certificate.gap(), certified=True)
            metrics = [f"{certificate.value:.7g}", gap, f"{outcome.cpu_seconds:.3g}", f"{certificate.nodes:,}"]
            rows.append([task.workload.name, *series_of(task), *metrics, *_structure_cells(structure)])
    header = ["workload", "accelerator", "axes", "value", "gap", "CPU s", "nodes", "stationary", "parallel", "bypassed"]
    return ["## All tasks", "", *_table(header, rows)]
