"""What Timeloop's own mapper found, beside what the mappers here find: ``envs_config/timeloop_mapper.yaml``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np

from mapgym.agents.experiment.report.summary import Summary
from mapgym.agents.files.tables import Table
from mapgym.evaluation.task import rules_text
from mapgym.spec import catalog
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.rules import stored_rules
from mapgym.spec.workload import Workload
from mapgym.system.yaml_loader import load_yaml


@dataclass(frozen=True)
class TimeloopRun:
    """One run of timeloop-mapper.

    Attributes:
        workload, accelerator: the task, under the rules of that version of Timeloop; all mappings were allowed, bypass
            included.
        edp: of its best mapping, pJ * cycles.
        valid: mappings that it had priced by then.
    """

    workload: Workload
    accelerator: Accelerator
    edp: float
    valid: int


def timeloop_runs() -> list[TimeloopRun]:
    """The runs that are stored with mapgym."""
    rows = load_yaml(resources.files("mapgym.envs_config") / "timeloop_mapper.yaml")
    assert isinstance(rows, list)
    return [
        TimeloopRun(
            catalog.workload(row["workload"]),
            catalog.accelerator(row["accelerator"]).counted_by(stored_rules(row)),
            float(row["edp"]),
            row["valid"],
        )
        for row in rows
    ]


def timeloop_table(summary: Summary, runs: Sequence[TimeloopRun]) -> Table:
    """The median of each agent over the best that Timeloop's mapper found, task by task.

    Args:
        summary: of runs on the same tasks.
        runs: those of Timeloop's mapper; of several on a task, the best counts.
    """
    rows: list[list[object]] = []
    for task in summary.tasks:
        of_task = [run for run in runs if (run.workload, run.accelerator) == (task.workload, task.accelerator)]
        best = min(of_task, key=lambda run: run.edp)
        medians = [
            float(np.median([result.best_after([summary.budgets[-1]]) for result in summary.results[task, agent]]))
            for agent in summary.complete_agents
        ]
        rows.append([task.workload.name, task.accelerator.name, best.edp, f"{best.valid:,}"])
        rows[-1] += [median / best.edp for median in medians]
    note = (
        f"Bypass an axis; counted as {rules_text(task.accelerator for task in summary.tasks)}, as Timeloop then "
        "counted. Timeloop's random-pruned mapper: the best EDP of all its runs (seeds) that are stored, in "
        "pJ * cycles, and the valid mappings that this run had priced. Agents: median over the seeds of the best EDP "
        f"after {summary.budgets[-1]:,.0f} samples, over that of Timeloop's mapper; below 1 is better than it."
    )
    columns = ("workload", "accelerator", "Timeloop's EDP", "valid mappings", *summary.complete_agents)
    return Table("Against Timeloop's own mapper", note, columns, rows)
