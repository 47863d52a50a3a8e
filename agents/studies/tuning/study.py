"""Tries the settings of an agent on the tasks for tuning."""

from __future__ import annotations

import math
from functools import partial
from statistics import median
from typing import Any

from mapgym.agents.base import agent_class, load_compiled_code
from mapgym.agents.files.tables import Table
from mapgym.agents.studies.cells import Cell, Result
from mapgym.agents.tuning import AgentTuning, Tuning, choose
from mapgym.evaluation.best_known import best_known
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.mapspace import MapSpace
from mapgym.spec import catalog
from mapgym.spec.rules import DEFAULT_RULES


def tuning_cells(agent: str, tuning: Tuning, rules: str = DEFAULT_RULES) -> list[Cell]:
    """One piece of work for each setting and task, under some counting rules."""
    cells = []
    for number, setting in enumerate(tuning.agents[agent].settings):
        for workload, accelerator in tuning.tasks:
            settings = {
                "agent": agent,
                "setting": setting,
                "task": [workload, accelerator],
                "rules": rules,
                "samples": tuning.samples,
                "seeds": tuning.seeds,
            }
            task = workload, accelerator, rules
            compute = partial(_search, agent, number, setting, task, tuning.samples, tuning.seeds)
            cells.append(Cell(f"{agent} {number}, {workload} on {accelerator}", settings, compute))
    return cells


def _search(
    agent: str, number: int, setting: dict[str, Any], task: tuple[str, str, str], samples: int, seeds: int
) -> Result:
    workload, accelerator, rules = task
    space = MapSpace(catalog.workload(workload), catalog.accelerator(accelerator).counted_by(rules))
    load_compiled_code(space)
    values = []
    for seed in range(seeds):
        evaluator = Evaluator(space, "edp", Budget(samples=samples))
        agent_class(agent)(**setting).search(evaluator, seed)
        values.append(evaluator.best_value)
    known = best_known(space, "edp")
    return {
        "setting": number,
        "task": f"{workload} on {accelerator}",
        "values": values,
        "known": None if known is None else known.value,
        "summary": f"median EDP {median(values):.5g} with {setting or 'its own defaults'}",
    }


def scores_of(results: list[Result]) -> tuple[float, ...]:
    """For each setting the mean over the tasks of ln(median over seeds / best known); lower is better."""
    tasks = list(dict.fromkeys(result["task"] for result in results))
    best = {
        task: min(
            [min(r["values"]) for r in results if r["task"] == task]
            + [r["known"] for r in results if r["task"] == task and r["known"] is not None]
        )
        for task in tasks
    }
    settings = sorted({result["setting"] for result in results})
    return tuple(
        sum(math.log(median(r["values"]) / best[r["task"]]) for r in results if r["setting"] == setting) / len(tasks)
        for setting in settings
    )


def tuning_tables(entry: AgentTuning, results: list[Result]) -> list[Table]:
    """The settings by score, then every task."""
    scores = scores_of(results)
    chosen = choose(entry.settings, scores)
    ranking: list[list[object]] = [
        [str(setting or "its own defaults"), score, math.exp(score), "chosen" if setting == chosen else None]
        for setting, score in sorted(zip(entry.settings, scores, strict=True), key=lambda pair: pair[1])
    ]
    note = "Score: mean over the tasks of ln(median over the seeds / best known); ratio: its exponential."
    rows: list[list[object]] = [[r["setting"], r["task"], median(r["values"]), *r["values"]] for r in results]
    seeds = len(results[0]["values"])
    columns = ("setting", "task", "median EDP", *(f"seed {seed}" for seed in range(seeds)))
    return [
        Table("Settings", note, ("setting", "score", "ratio", "choice"), ranking),
        Table("Tasks", "EDP (pJ*cycles) of each search.", columns, rows),
    ]
