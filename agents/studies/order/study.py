"""What the order of the loops is worth: every order of a level priced, with everything else fixed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.base import DEFAULT_AGENT, make_agent
from mapgym.agents.files.tables import Table
from mapgym.agents.studies.cells import Cell, Result
from mapgym.agents.studies.drawing import COLORS, new_panels, save
from mapgym.cost import CostModel
from mapgym.errors import SpecificationError
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.evaluation.task import Task
from mapgym.mapping import Mapping, MappingBatch
from mapgym.mapspace import MapSpace

GOOD, RANDOM = "good", "random"
ALIKE = "all levels alike"
SEARCH_SAMPLES = 2000
"""Samples that the default agent has to find each good mapping."""

NEAR = 1.01
"""Costs up to this many times the best one count as near it."""

_MOST_DIMS = 8
_SAME = 1e-9


def all_orders(bounds: Sequence[int]) -> NDArray[np.int8]:
    """int8[k!, dim]: every order of the k dims with a bound above 1; the others follow, for they have no loops.

    Raises:
        SpecificationError: there are too many to price them all.
    """
    moving = [d for d, bound in enumerate(bounds) if bound > 1]
    still = [d for d, bound in enumerate(bounds) if bound == 1]
    if len(moving) > _MOST_DIMS:
        raise SpecificationError(
            f"a workload has {len(moving)} dims with a bound above 1, whose orders are too many to price them all; "
            f"give workloads with at most {_MOST_DIMS}"
        )
    return np.array([[*order, *still] for order in itertools.permutations(moving)], np.int8)


def order_costs(space: MapSpace, mapping: Mapping, objective: str) -> dict[str, NDArray[np.float64]]:
    """The cost of a mapping under every order of one level, and under every order that all levels share.

    Args:
        space: the map space; its axes do not matter.
        mapping: gives everything else.
        objective: what is priced.

    Returns:
        Name of the level, innermost first, or ``ALIKE`` -> float64[k!], ascending.
    """
    orders = all_orders(space.workload.bounds)
    model = CostModel(space.workload, space.accelerator)
    batch = MappingBatch.concatenate([mapping.batch()] * len(orders))
    levels = range(len(space.accelerator.levels))
    scopes: dict[str, Sequence[int]] = {space.accelerator.level_names[s]: (s,) for s in levels} | {ALIKE: levels}
    costs = {}
    for name, scope in scopes.items():
        changed = batch.copy()
        for s in scope:
            changed.order[:, s] = orders
        costs[name] = np.sort(model.evaluate(changed).objective(objective))
    return costs


def distinct(costs: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """The distinct values of ascending costs (to 1e-9, relative) over the lowest, and how often each one occurs."""
    ratios = costs / costs[0]
    starts = np.flatnonzero(np.diff(ratios, prepend=0.0) > _SAME * ratios)
    return ratios[starts], np.diff(starts, append=len(ratios))


def order_cells(tasks: Sequence[Task], bases: int) -> list[Cell]:
    """One cell for each task.

    Args:
        tasks: the map spaces and the objective.
        bases: how many good mappings, and how many random ones, are looked at.
    """
    return [
        Cell(
            f"orders, {task.full_name}",
            {"task": task.key, "bases": bases, "agent": DEFAULT_AGENT, "samples": SEARCH_SAMPLES},
            partial(_compute, task, bases),
        )
        for task in tasks
    ]


def _compute(task: Task, bases: int) -> Result:
    space = task.space()
    mappings = [(GOOD, seed, _good(space, task.objective, seed)) for seed in range(bases)]
    drawn = space.sample(np.random.default_rng(0), bases)
    mappings += [(RANDOM, i, mapping) for i, mapping in enumerate(drawn)]
    rows: list[Result] = []
    for kind, number, mapping in mappings:
        for scope, costs in order_costs(space, mapping, task.objective).items():
            ratios, counts = distinct(costs)
            rows.append({"kind": kind, "number": number, "scope": scope, "loops": _loops(mapping, scope)})
            rows[-1] |= {"ratios": ratios.tolist(), "counts": counts.tolist()}
    alike = [row for row in rows if row["scope"] == ALIKE and row["kind"] == GOOD]
    number, worst = int(median(len(row["ratios"]) for row in alike)), max(row["ratios"][-1] for row in alike)
    summary = (
        f"good mappings, all levels alike: {number} distinct costs among {sum(alike[0]['counts']):,} orders (median), "
        f"worst {worst:.3g} x best"
    )
    return {
        "workload": task.workload.name,
        "accelerator": task.accelerator.name,
        "objective": task.objective,
        "rows": rows,
        "summary": summary,
    }


def _good(space: MapSpace, objective: str, seed: int) -> Mapping:
    evaluator = Evaluator(space, objective, Budget(samples=SEARCH_SAMPLES))
    make_agent(DEFAULT_AGENT).search(evaluator, seed)
    assert evaluator.best_mapping is not None
    return evaluator.best_mapping


def _loops(mapping: Mapping, scope: str) -> int:
    """Loops with a bound above 1 of a level, or the most at any level."""
    return max(
        len(mapping.temporal_loops(level)) for level, name in enumerate(mapping.levels) if scope in (name, ALIKE)
    )


def order_tables(results: list[Result]) -> list[Table]:
    """The overview over all tasks, and one row for each mapping and scope."""
    details = []
    groups: dict[tuple[str, str, str], list[tuple[int, float, float]]] = {}
    for result in results:
        for row in result["rows"]:
            ratios, counts = np.array(row["ratios"]), np.array(row["counts"])
            share = float(counts[ratios <= NEAR].sum() / counts.sum())
            place = [result["workload"], result["accelerator"], row["kind"], row["number"], row["scope"]]
            metrics = (len(ratios), float(ratios[-1]), share)
            details.append([*place, int(counts.sum()), row["loops"], *metrics])
            groups.setdefault((row["scope"], row["kind"], result["accelerator"]), []).append(metrics)
    columns = ("workload", "accelerator", "mapping", "number", "scope", "orders", "loops")
    detail = Table(
        "Every mapping",
        "One row for each mapping and scope.",
        (*columns, "distinct_costs", "worst_over_best", "share_within_1_percent"),
        details,
    )
    overview = []
    for key, group in groups.items():
        numbers, worst, near = zip(*group, strict=True)
        number = f"{int(median(numbers))} ({min(numbers)} to {max(numbers)})"
        overview.append([*key, number, float(median(worst)), float(max(worst)), f"{median(near):.1%}"])
    names = ("scope", "mapping", "accelerator", "distinct costs", "median worst/best", "max worst/best", "near best")
    note = (
        f"For one mapping, every order of one level's loops is priced while all else is fixed; {ALIKE}: the same order "
        f"at every level. Good mappings are the default agent's with {SEARCH_SAMPLES:,} samples, one for each seed. "
        "Distinct costs: median over mappings and layers (lowest to highest). Near best: median share of the orders "
        "within 1 % of the best one of the scope."
    )
    return [Table("Loop orders", note, names, overview), detail]


def draw_orders(results: list[Result], folder: Path) -> list[str]:
    """Draws order.png: sorted costs of all orders, for the first good and the first random mapping of each task."""
    figure, panels = new_panels(len(results), 6, (3.4, 2.9), sharex=True)
    for panel, result in zip(panels, results, strict=True):
        scopes = list(dict.fromkeys(row["scope"] for row in result["rows"]))
        for row in result["rows"]:
            if row["number"]:
                continue
            share = np.cumsum([0, *row["counts"]]) / sum(row["counts"])
            good, alike = row["kind"] == GOOD, row["scope"] == ALIKE
            # What all levels share lies below the lines that it often coincides with.
            panel.stairs(
                row["ratios"],
                share,
                baseline=None,
                color=COLORS[scopes.index(row["scope"])],
                linestyle="-" if good else ":",
                linewidth=(4.0 if alike else 1.8) if good else 1.2,
                alpha=0.5 if alike and good else 1.0,
                zorder=1.0 if alike else 2.0,
                label=_scope_label(scopes.index(row["scope"]), len(scopes)) if good else None,
            )
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_minor_formatter("{x:.2g}")
        panel.tick_params(labelsize="small", which="both")
        panel.set_title(f"{result['workload']} on {result['accelerator']}", fontsize="small")
        panel.grid(visible=True, alpha=0.3)
    panels[0].legend(fontsize="x-small", title="solid: good, dotted: random", title_fontsize="x-small")
    figure.supxlabel("share of the orders, sorted by cost")
    figure.supylabel("cost / that of the best order")
    save(figure, folder / "order.png")
    return ["order.png"]


def _scope_label(index: int, count: int) -> str:
    """Levels have other names on other accelerators."""
    if index == count - 1:
        return ALIKE
    return {0: "innermost level", count - 2: "outermost level"}.get(index, f"level {index}")
