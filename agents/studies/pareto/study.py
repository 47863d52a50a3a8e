"""The front of energy against latency of each task, and what its ends have in common."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from mapgym.agents.base import make_agent
from mapgym.agents.certificate import certify, known_certificate
from mapgym.agents.files.tables import Table
from mapgym.agents.interruption import Interruption
from mapgym.agents.studies.cells import Cell, Result
from mapgym.cost import CostModel
from mapgym.errors import SpecificationError
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.evaluation.front import PARETO, ParetoFront
from mapgym.evaluation.task import Task
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace

BASELINE = "random"
ENDS = ("latency", "energy")


def pareto_cells(tasks: Sequence[Task], agent: str, samples: int, seeds: int, seconds: float) -> list[Cell]:
    """One cell for each task.

    Args:
        tasks: the map spaces; their objective does not matter.
        agent: who searches, besides random search.
        samples: budget of each search.
        seeds: searches, whose fronts are joined.
        seconds: wall time of the solver for the optimum of each of the two objectives; 0 for what is stored only.

    Raises:
        SpecificationError: the agent cannot search a front.
    """
    make_agent(agent).check_objective(PARETO)
    settings = {"agent": agent, "samples": samples, "seeds": seeds, "seconds": seconds}
    return [
        Cell(
            f"front, {task.full_name}",
            {"task": task.key, **settings},
            partial(_compute, task, agent, samples, seeds, seconds),
        )
        for task in tasks
    ]


def _compute(task: Task, agent: str, samples: int, seeds: int, seconds: float) -> Result:
    space = task.space()
    fronts = {name: _search(space, name, samples, seeds) for name in dict.fromkeys((agent, BASELINE))}
    front, values = fronts[agent]
    macs = space.accelerator.mac.instances
    points: list[dict[str, Any]] = [
        {
            "latency_cycles": float(cost.latency_cycles),
            "energy_pj": float(cost.energy_pj),
            "utilization": float(cost.utilization),
            "macs_in_use": int(mapping.batch().used_macs()[0]) / macs,
            "mapping": mapping.to_dict(),
        }
        for mapping, cost in front
    ]
    optima = {objective: _optimum(space, objective, seconds) for objective in ENDS}
    first, last = points[0], points[-1]
    slower, saved = last["latency_cycles"] / first["latency_cycles"], 1.0 - last["energy_pj"] / first["energy_pj"]
    return {
        "workload": task.workload.name,
        "accelerator": task.accelerator.name,
        "bound": {"latency": front.bound.latency_cycles, "energy": front.bound.energy_pj},
        "points": points,
        "values": values,
        "baseline": [[float(cost.latency_cycles), float(cost.energy_pj)] for _, cost in fronts[BASELINE][0]],
        "baseline_values": fronts[BASELINE][1],
        "optima": optima,
        "summary": f"{len(points)} points; the most frugal saves {saved:.2%} of the energy and is {slower:.3g}x slower",
    }


def _search(space: MapSpace, agent: str, samples: int, seeds: int) -> tuple[ParetoFront, list[float]]:
    """The joined front of all seeds, and the value of each one's own."""
    joined, values = None, []
    for seed in range(seeds):
        evaluator = Evaluator(space, PARETO, Budget(samples=samples))
        make_agent(agent).search(evaluator, seed)
        assert evaluator.front
        values.append(float(evaluator.best_value))
        joined = evaluator.front if joined is None else _join(joined, evaluator.front, space)
    assert joined is not None
    return joined, values


def _join(front: ParetoFront, other: ParetoFront, space: MapSpace) -> ParetoFront:
    batch = MappingBatch.concatenate([point.mapping.batch() for point in other])
    costs = CostModel(space.workload, space.accelerator).evaluate(batch)
    return front.extended(batch, costs, front.candidates(costs))[0]


def _optimum(space: MapSpace, objective: str, seconds: float) -> dict[str, Any] | None:
    """What is proven about one objective; None if nothing is."""
    known = known_certificate(space, objective)
    if seconds and not (known and known.certified):
        try:
            with Interruption() as interruption:
                known = certify(space, objective, seconds)
            if interruption.happened:
                raise KeyboardInterrupt
        except SpecificationError:
            # The solver does not treat every task.
            pass
    if known is None:
        return None
    return {"value": known.value, "lower_bound": known.lower_bound, "certified": known.certified}


def pareto_tables(results: list[Result]) -> list[Table]:
    """One row for each task, and one for each point."""
    rows: list[list[object]] = []
    details: list[list[object]] = []
    for result in results:
        points = result["points"]
        first, last = points[0], points[-1]
        rows.append(
            [
                f"{result['workload']} on {result['accelerator']}",
                len(points),
                first["latency_cycles"] / result["bound"]["latency"],
                last["latency_cycles"] / first["latency_cycles"],
                f"{1.0 - last['energy_pj'] / first['energy_pj']:.2%}",
                f"{first['macs_in_use']:.1%}",
                f"{last['macs_in_use']:.1%}",
                *(_above(result, end) for end in ENDS),
                float(np.median(result["values"])),
                float(np.median(result["baseline_values"])),
            ]
        )
        for point in points:
            metrics = [point[name] for name in ("latency_cycles", "energy_pj", "utilization", "macs_in_use")]
            edp = point["latency_cycles"] * point["energy_pj"]
            details.append([result["workload"], result["accelerator"], *metrics, edp])
    note = (
        "From the fastest to the most frugal mapping of the front: latency of the fastest over its lower bound, how "
        "many times slower the most frugal one is, how much energy it saves, share of the MAC units in use by each. "
        "Then how far the ends are above the certified optimum of latency and of energy alone (<=: above a proven "
        "bound), and the value of the front (docs/agents.md), median over seeds, with that of random search."
    )
    names = ("task", "points", "fastest/bound", "slowdown", "energy saved", "MACs, fastest", "MACs, frugal")
    columns = ("workload", "accelerator", "latency_cycles", "energy_pj", "utilization", "macs_in_use", "edp")
    return [
        Table("Energy against latency", note, (*names, "latency gap", "energy gap", "value", BASELINE), rows),
        Table("Points", "Every point of every front, the fastest first.", columns, details),
    ]


def _above(result: Result, end: str) -> str | None:
    optimum = result["optima"][end]
    if optimum is None:
        return None
    value = result["points"][0]["latency_cycles"] if end == "latency" else result["points"][-1]["energy_pj"]
    return f"{'' if optimum['certified'] else '<= '}{max(0.0, value / optimum['lower_bound'] - 1.0):.2%}"
