"""What mappers reach, as multiples of the certified optimum, and optima that others have proven beside ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from mapgym.agents.base import agent_class, make_agent, missing_package
from mapgym.agents.certificate import certificate_of
from mapgym.agents.labels import OPTIMAL_GAP
from mapgym.agents.studies.cells import Cell, Result
from mapgym.agents.studies.certified.published import SECONDS, Published
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.evaluation.task import Task
from mapgym.mapspace import MapSpace

AGENTS = ("goma", "factor-greedy", "cosa", "gamma")
"""Who is compared: a program that is exact for matrix products, a greedy one, one over logarithms, a genetic search."""

OPTIMUM, SEARCH, PROVEN = "optimum", "search", "published"
"""Parts of the study, by which its results are told apart."""


def certified_cells(
    tasks: Sequence[Task],
    agents: Sequence[str],
    samples: int,
    seconds: float,
    seeds: int,
    published: Sequence[Published],
) -> list[Cell]:
    """A cell for the optimum of each task, one for each search, and one for each published optimum.

    Args:
        tasks: map spaces and objectives.
        agents: who searches.
        samples, seconds: budget of each search; the seconds are that of the solver as well.
        seeds: searches of agents that use randomness; of others there is one.
        published: optima that others have proven.

    Raises:
        SpecificationError: an agent is unknown, or cannot minimise the objective.
    """
    for name in agents:
        for objective in {task.objective for task in tasks}:
            if objective not in agent_class(name).objectives:
                make_agent(name).check_objective(objective)
    cells = []
    for task in tasks:
        optimum = Cell(
            f"optimum, {task.full_name}", {"task": task.key, "seconds": seconds}, partial(_optimum, task, seconds)
        )
        cells.append(optimum)
        for name in agents:
            for seed in range(1 if agent_class(name).deterministic else seeds):
                settings = {"task": task.key, "agent": name, "samples": samples, "seconds": seconds, "seed": seed}
                search = partial(_search, task, name, Budget(samples, seconds), seed)
                cells.append(Cell(f"{name}, {task.full_name}, seed {seed}", settings, search, (optimum.name,)))
    cells += [Cell(f"published, {each.name}", asdict(each), partial(_published, each)) for each in published]
    return cells


def _about(task: Task, part: str) -> Result:
    return {
        "part": part,
        "workload": task.workload.name,
        "accelerator": task.accelerator.name,
        "objective": task.objective,
    }


def _prove(space: MapSpace, objective: str, seconds: float) -> dict[str, Any]:
    """What the solver finds and proves in this time; SpecificationError where its theory ends."""
    from mapgym.cost.optimum import find_optimum

    make_agent("exact").warm_up(space)
    found = find_optimum(space, objective, seconds=seconds)
    if found.interrupted:
        raise KeyboardInterrupt
    certificate = certificate_of(found, space)
    return {
        "value": certificate.value,
        "lower_bound": certificate.lower_bound,
        "certified": certificate.certified,
        "seconds": certificate.seconds,
        "mapping": certificate.mapping,
    }


def _optimum(task: Task, seconds: float) -> Result:
    result = _about(task, OPTIMUM)
    try:
        result |= {**_prove(task.space(), task.objective, seconds), "note": ""}
    except SpecificationError as error:
        return {**result, "value": None, "certified": False, "note": str(error), "summary": str(error)}
    proven = "certified" if result["certified"] else f"at most {result['value'] / result['lower_bound'] - 1:.3%} above"
    return {**result, "summary": f"{result['value']:.7g}, {proven}, in {result['seconds']:.3g} s"}


def _search(task: Task, name: str, budget: Budget, seed: int, optimum: Result) -> Result:
    """One search, whose best mapping is compared with what is proven about its task."""
    result = {**_about(task, SEARCH), "agent": name, "seed": seed}
    missing = missing_package(name)
    try:
        if missing is not None:
            raise SpecificationError(missing)
        evaluator = Evaluator(task.space(), task.objective, budget)
        agent = make_agent(name, **({"seconds": budget.seconds} if name == "goma" else {}))
        agent.search(evaluator, seed)
    except SpecificationError as error:
        return {**result, "value": None, "note": str(error), "summary": str(error)}
    seconds, value, mapping = evaluator.seconds, float(evaluator.best_value), evaluator.best_mapping
    if mapping is None:
        note = "no mapping within the budget"
        return {**result, "value": None, "note": note, "summary": note}
    if optimum["value"] is not None and value < optimum["lower_bound"] * (1.0 - OPTIMAL_GAP):
        raise RuntimeError(
            f"{quoted(evaluator.space)}: a mapping of {task.objective} {quoted(value)} by {name} refutes the proven "
            f"bound {quoted(optimum['lower_bound'])}"
        )
    result |= {"value": value, "samples": evaluator.samples, "seconds": seconds, "mapping": mapping.to_dict()}
    standing = ratio(value, optimum)
    text = f"{value:.7g}" if standing is None else f"{standing:.7g} of the optimum"
    # A program that is not done has no proof of its own.
    solution = getattr(agent, "solution", None)
    proven = solution is None or solution.bound_pj >= solution.energy_pj * (1.0 - OPTIMAL_GAP)
    note = "" if proven else "stopped before its own proof was done"
    return {**result, "note": note, "summary": f"{text}, {evaluator.samples} samples, {seconds:.3g} s"}


def ratio(value: float | None, optimum: Result) -> float | None:
    """A value over the optimum, or over its proven bound; None where nothing is known."""
    if value is None or optimum["value"] is None:
        return None
    reference = optimum["value"] if optimum["certified"] else optimum["lower_bound"]
    return float(value / reference)


def _published(published: Published) -> Result:
    """The least energy of a multiply-accumulate as GOMA's model, our solver and our agent have it."""
    space = published.space()
    macs = space.workload.macs
    ours = _prove(space, "energy", SECONDS)
    result: Result = {
        **asdict(published),
        "part": PROVEN,
        "ours": ours["value"] / macs,
        "certified": ours["certified"],
        "seconds": ours["seconds"],
        "goma": None,
        "goma_seconds": None,
        "note": missing_package("goma") or "",
    }
    if not result["note"]:
        evaluator = Evaluator(space, "energy", Budget(samples=2))
        make_agent("goma", seconds=SECONDS).search(evaluator, 0)
        result |= {"goma": float(evaluator.best_value) / macs, "goma_seconds": evaluator.seconds}
    return {**result, "summary": f"{result['ours']:.6f} pJ, published {published.energy_per_mac:.6f}"}
