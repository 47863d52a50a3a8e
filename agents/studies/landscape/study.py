"""How mappers move through the map space: what each one visits, seen through two principal components."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.base import Agent, agent_class, agent_names, make_agent, missing_package
from mapgym.agents.files.tables import Table
from mapgym.agents.studies.cells import Cell, Result
from mapgym.cost import CostBatch
from mapgym.errors import SpecificationError
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.evaluation.task import Task
from mapgym.mapping import MappingBatch

AGENTS = ("random", "random-pruned", "gamma", "annealing", "hill-climb", "mind-mappings", "maskable-ppo")
"""The mappers that the study looks at when none are named, as far as they are there."""

KEPT = 1000
"""Visited mappings that are kept of each search, evenly spaced over its samples."""

_PARTS = 10


class VisitRecorder(Evaluator):
    """An evaluator that also keeps every k-th mapping that was priced, with its cost.

    Attributes:
        every: k, so that about ``KEPT`` mappings of the budget are kept.
        visited: batches of the mappings kept.
        values: their objective, inf for an illegal mapping.
        positions: which sample each of them was, from 0.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Takes the arguments of :class:`mapgym.evaluation.evaluator.Evaluator`; the budget must limit the samples."""
        super().__init__(*arguments, **options)
        assert self.budget.samples is not None
        self.every = max(1, self.budget.samples // KEPT)
        self.visited: list[MappingBatch] = []
        self.values: list[float] = []
        self.positions: list[int] = []

    def evaluate(self, batch: MappingBatch) -> CostBatch:
        """Prices, and takes notes."""
        first = self.samples
        costs = super().evaluate(batch)
        kept = np.arange(-first % self.every, len(costs), self.every)
        # Fancy indexing copies: the caller may overwrite its batch.
        self.visited.append(batch[kept])
        self.values += costs.objective(self.objective)[kept].tolist()
        self.positions += (first + kept).tolist()
        return costs


def present_agents(names: Sequence[str] | None) -> list[str]:
    """The agents to look at: those named, or those of ``AGENTS`` that exist and whose packages are installed."""
    if names is not None:
        for name in names:
            agent_class(name)
        return list(names)
    found = [name for name in AGENTS if name in agent_names()]
    return [name for name in found if missing_package(name) is None]


def features(batch: MappingBatch) -> tuple[NDArray[np.float64], list[str]]:
    """Mappings as points of a space in which distances mean something.

    Three blocks: log2 of each temporal and spatial factor; the place of each loop with a bound above 1 among those of
    its level, from -1/2 (innermost) to 1/2 (outermost), 0 for a dim without a loop; 1 for each tensor that is kept.

    Args:
        batch: n mappings.

    Returns:
        float64[n, k] and the block of each column: "factors", "orders" or "keep".
    """
    n, levels, dims = batch.temporal.shape
    factors = np.log2(np.concatenate([batch.temporal, batch.spatial], axis=1)).reshape(n, -1)
    # temporal[i, s, order[i, s, j]]: which positions of an order are loops, and how many come before them.
    loops = np.take_along_axis(batch.temporal, batch.order.astype(np.intp), axis=2) > 1
    count = loops.sum(axis=2, keepdims=True)
    places = (np.cumsum(loops, axis=2) - 1) / np.maximum(count - 1, 1) - 0.5
    places = np.where(loops & (count > 1), places, 0.0)
    orders = np.zeros((n, levels, dims))
    np.put_along_axis(orders, batch.order.astype(np.intp), places, axis=2)
    keep = batch.keep.reshape(n, -1).astype(np.float64)
    blocks = {"factors": factors, "orders": orders.reshape(n, -1), "keep": keep}
    names = [name for name, block in blocks.items() for _ in range(block.shape[1])]
    return np.concatenate(list(blocks.values()), axis=1), names


def principal_components(points: NDArray[np.float64], blocks: Sequence[str]) -> tuple[NDArray[np.float64], ...]:
    """PCA of pooled points, every block given the same variance.

    Args:
        points: float64[n, k].
        blocks: the block of each column; a block without variance counts nothing.

    Returns:
        float64[n, k] the scaled and centred points, float64[n, 2] their first two components, and float64[2], the share
        of the variance that each of the two explains.
    """
    scaled = points - points.mean(axis=0)
    for block in dict.fromkeys(blocks):
        columns = np.array([name == block for name in blocks])
        variance = scaled[:, columns].var(axis=0).sum()
        if variance > 0:
            scaled[:, columns] /= np.sqrt(variance)
    left, singular, _ = np.linalg.svd(scaled, full_matrices=False)
    variances = singular**2
    total = variances.sum()
    shares = variances[:2] / total if total > 0 else np.zeros(2)
    return scaled, left[:, :2] * singular[:2], shares


def landscape_cells(tasks: Sequence[Task], agents: Sequence[str], samples: int, seeds: int) -> list[Cell]:
    """One cell for each task; it holds all agents because their points are projected together."""
    settings = {"agents": list(agents), "samples": samples, "seeds": seeds}
    return [
        Cell(
            f"landscape, {task.full_name}",
            {"task": task.key, **settings},
            partial(_compute, task, agents, samples, seeds),
        )
        for task in tasks
    ]


def _compute(task: Task, names: Sequence[str], samples: int, seeds: int) -> Result:
    visits: dict[str, list[VisitRecorder]] = {}
    absent: dict[str, str] = {}
    for name in names:
        try:
            visits[name] = [_visit(task, make_agent(name), samples, seed) for seed in range(seeds)]
        except SpecificationError as error:
            # Such as a surrogate that has not been trained for this accelerator.
            absent[name] = str(error)
    if not visits:
        raise SpecificationError(f"no agent could search: {next(iter(absent.values()), 'none is there')}")
    recorders = [recorder for of_agent in visits.values() for recorder in of_agent]
    pooled, blocks = features(
        MappingBatch.concatenate(
            [task.space().canonical(batch) for recorder in recorders for batch in recorder.visited]
        )
    )
    scaled, components, shares = principal_components(pooled, blocks)
    bound = recorders[0].lower_bound.objective(task.objective)
    agents, start = {}, 0
    for name, of_agent in visits.items():
        runs = []
        for recorder in of_agent:
            end = start + len(recorder.values)
            values = np.array(recorder.values) / bound
            run = {
                "positions": recorder.positions,
                "ratios": [value if np.isfinite(value) else None for value in values.tolist()],
                "x": components[start:end, 0].round(4).tolist(),
                "y": components[start:end, 1].round(4).tolist() if components.shape[1] > 1 else [0.0] * (end - start),
            }
            runs.append({**run, **_movement(scaled[start:end], values)})
            start = end
        agents[name] = runs
    explained = [float(share) for share in shares]
    return {
        "workload": task.workload.name,
        "accelerator": task.accelerator.name,
        "objective": task.objective,
        "explained": explained,
        "agents": agents,
        "absent": absent,
        "summary": f"{len(agents)} agents; two components explain {sum(explained):.1%} of the variance",
    }


def _visit(task: Task, agent: Agent, samples: int, seed: int) -> VisitRecorder:
    recorder = VisitRecorder(task.space(), task.objective, Budget(samples=samples))
    agent.search(recorder, seed)
    return recorder


def _movement(points: NDArray[np.float64], values: NDArray[np.float64]) -> Result:
    """How a search moves, in all dimensions, comparing the first with the last tenth of what it visited.

    Spreads are root mean squares of the distance from the centre of the tenth; the drift is the distance between the
    two centres.
    """
    part = max(1, len(points) // _PARTS)
    ends = (points[:part], points[-part:])
    spreads = [float(np.sqrt(((end - end.mean(axis=0)) ** 2).sum(axis=1).mean())) for end in ends]
    medians = [float(np.median(values[:part])), float(np.median(values[-part:]))]
    return {
        "early_spread": spreads[0],
        "late_spread": spreads[1],
        "drift": float(np.linalg.norm(ends[1].mean(axis=0) - ends[0].mean(axis=0))),
        "early_ratio": medians[0] if np.isfinite(medians[0]) else None,
        "late_ratio": medians[1] if np.isfinite(medians[1]) else None,
        "best_ratio": float(values.min()),
    }


_MOVEMENT = ("early_spread", "late_spread", "drift", "early_ratio", "late_ratio", "best_ratio")


def landscape_tables(results: list[Result]) -> list[Table]:
    """How far each mapper moves, and how much of the variance the picture shows."""
    rows: list[list[object]] = []
    for result in results:
        for name, runs in result["agents"].items():
            metrics = [_median([run[metric] for run in runs]) for metric in _MOVEMENT]
            rows.append([name, result["workload"], result["accelerator"], *metrics])
        rows += [[name, result["workload"], result["accelerator"], *[None] * 6] for name in result["absent"]]
    note = (
        "Distances in the space of all features (scaled so that factors, orders and kept tensors have a total variance "
        "of 1 each over everything visited on the task), not in the picture. Early and late: the first and the last "
        "tenth of the samples. Ratio: cost over the lower bound, median of the tenth; medians over seeds. Best: among "
        "the mappings kept."
    )
    columns = ("agent", "workload", "accelerator", "early spread", "late spread", "drift", "early ratio", "late ratio")
    explained: list[list[object]] = [
        [f"{result['workload']} on {result['accelerator']}", *result["explained"], sum(result["explained"])]
        for result in results
    ]
    return [
        Table("How mappers move", note, (*columns, "best ratio"), rows),
        Table(
            "Variance explained",
            "Share of the variance of all visited mappings that the two axes of the picture show. The rest is not in "
            "the picture: points that lie together there can be far apart.",
            ("task", "first component", "second component", "both"),
            explained,
        ),
    ]


def _median(values: list[float | None]) -> float:
    return float(np.median([np.inf if value is None else value for value in values]))
