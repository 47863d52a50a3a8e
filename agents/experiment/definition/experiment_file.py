"""Reads experiments from YAML files, strictly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any

from mapgym.agents.base import missing_package
from mapgym.agents.experiment.definition.densities import objective_in, read_objective, task_workload
from mapgym.agents.experiment.definition.experiment import AgentEntry, Experiment, check_size
from mapgym.agents.experiment.definition.warm_start import WarmStart, read_warm_start
from mapgym.errors import SpecificationError, require_keys, suggest
from mapgym.errors.text import quoted
from mapgym.evaluation.evaluator import Budget
from mapgym.evaluation.task import KEEP_ALL, Task, cross
from mapgym.mapspace.entries import AXES
from mapgym.spec import catalog
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.workload import Workload
from mapgym.system.yaml_loader import load_yaml

_KEYS = ("description", "tasks", "agents", "seeds", "budget", "warm_start")
_TASK_KEYS = (
    "workloads",
    "accelerators",
    "axes",
    "env",
    "objective",
    "peer_links",
    "rules",
    "density",
    "densities",
    "density_weights",
)
_AGENT_KEYS = ("agent", "label", "parameters", "axes", "seeds", "optional", "warm_start")
_NO_WARM_START = "none"

MOST_ENTRIES = 10_000
"""Of a list in an experiment; a network counts as one."""


def load_experiment(source: str | PathLike[str] | Mapping[str, Any]) -> Experiment:
    """Reads an experiment.

    Args:
        source: the name of an experiment of the catalog (:func:`experiment_names`), the path of a YAML file, or its
            content; docs/experiments.md describes the keys.

    Raises:
        SpecificationError: unknown name or key, or a value that cannot be used; says in which file and at which key.
    """
    if isinstance(source, Mapping):
        return _experiment(source, "experiment")
    text = str(source)
    if Path(text).suffix.lower() in (".yaml", ".yml", ".json"):
        return _experiment(load_yaml(Path(text)), text)
    if text not in experiment_names():
        hint = suggest(text, experiment_names())
        raise SpecificationError(
            f"unknown experiment {quoted(text)}; {hint} (a file of your own needs a path in .yaml)"
        )
    return _experiment(load_yaml(_folder() / f"{text}.yaml"), f"{text}.yaml")


@cache
def experiment_names() -> tuple[str, ...]:
    """Names of the experiments in the catalog, sorted."""
    names = (entry.name for entry in _folder().iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml")))


def _folder() -> Any:
    return resources.files("mapgym.envs_config") / "experiments"


def _experiment(data: object, where: str) -> Experiment:
    data = _mapping(data, where, "tasks, agents, seeds and budget", _KEYS)
    for key in ("tasks", "agents", "budget"):
        if key not in data:
            raise SpecificationError(f"{where}: the key {quoted(key)} is missing; add it")
    groups = data["tasks"] if isinstance(data["tasks"], list) else [data["tasks"]]
    several = len(groups) > 1
    tasks: list[Task] = []
    for i, group in enumerate(groups):
        tasks += _tasks(group, f"{where}: tasks{f'[{i}]' if several else ''}")
        _within(where, lambda count: check_size(count, 1, 1), len(tasks))
    entries = data["agents"] if isinstance(data["agents"], list) else [data["agents"]]
    _check_length(entries, f"{where}: agents")
    agents, absent = _agents(entries, _warm_start(data, where), where)
    _check_environments(groups, agents, where)
    seeds, budget = _seeds(data.get("seeds", 3), f"{where}: seeds"), _budget(data["budget"], f"{where}: budget")
    try:
        return Experiment(tuple(tasks), agents, seeds, budget, str(data.get("description", "")), absent)
    except SpecificationError as error:
        raise SpecificationError(f"{where}: {error}") from None


def _tasks(data: object, where: str) -> tuple[Task, ...]:
    data = _mapping(data, where, "workloads and accelerators", _TASK_KEYS)
    workloads: list[Workload] = []
    machines: list[Accelerator] = []
    for spec in _list(data, "workloads", where, "such as [paper]"):
        workloads += _within(f"{where}: workloads", catalog.workloads, spec)
    specs = _list(data, "accelerators", where, "such as [accel_a, accel_b]")
    for spec in specs:
        machines.append(_within(f"{where}: accelerators", catalog.accelerator, spec))
    machines = catalog.told_apart(machines, specs)
    _within(where, lambda layers: check_size(len(layers) * len(machines), 1, 1), workloads)
    if (links := data.get("peer_links")) is not None:
        if not isinstance(links, bool):
            raise SpecificationError(f"{where}: peer_links is {quoted(links)}; give true or false")
        machines = [replace(machine, peer_links=links) for machine in machines]
    if (rules := data.get("rules")) is not None:
        machines = [machine.counted_by(rules, f"{where}: rules") for machine in machines]
    objective = _within(
        where,
        lambda name: read_objective(objective_in(data.get("env"), name), *_density_lists(data, where)),
        data.get("objective", "edp"),
    )
    if not isinstance(fixed := data.get("density", {}), Mapping):
        raise SpecificationError(
            f"{where}: density is {quoted(fixed)}; give tensor: density pairs such as {{Weights: 0.5}}"
        )
    workloads = [_within(where, lambda layer: task_workload(layer, objective, fixed), layer) for layer in workloads]
    return cross(workloads, machines, _axes(data.get("axes", list(KEEP_ALL)), f"{where}: axes"), objective)


def _check_environments(groups: Sequence[Any], agents: Sequence[AgentEntry], where: str) -> None:
    """Raises SpecificationError if an agent has another environment than the tasks name for all."""
    for env in (group["env"] for group in groups if group.get("env") is not None):
        for entry in agents:
            if (own := entry.parameters.get("env", env)) != env:
                raise SpecificationError(
                    f"{where}: the env of tasks is {quoted(env)}, and the parameter env of {quoted(entry.label)} is "
                    f"{quoted(own)}; leave one of them out"
                )


def _density_lists(data: Mapping[str, Any], where: str) -> list[list[Any] | None]:
    """The densities that a sparsity-aware objective varies, and their weights."""
    found: list[list[Any] | None] = []
    for key in ("densities", "density_weights"):
        value = data.get(key)
        if value is not None and not isinstance(value, list):
            raise SpecificationError(f"{where}: {key} is {quoted(value)}; give a list such as [1.0, 0.5, 0.1]")
        found.append(value)
    return found


def _agents(
    entries: Sequence[object], warm_start: WarmStart | None, where: str
) -> tuple[tuple[AgentEntry, ...], tuple[str, ...]]:
    """The entries, and about each one that was left out because it is optional and needs a package, a sentence."""
    agents: list[AgentEntry] = []
    absent: list[str] = []
    for i, data in enumerate(entries):
        found = _agent(data, warm_start, f"{where}: agents[{i}]")
        if isinstance(found, str):
            absent.append(found)
        else:
            agents.append(found)
    return tuple(agents), tuple(absent)


def _agent(data: object, warm_start: WarmStart | None, where: str) -> AgentEntry | str:
    if isinstance(data, str):
        data = {"agent": data}
    data = _mapping(data, where, "an agent's name, or {agent: NAME, label: ..., parameters: {...}}", _AGENT_KEYS)
    if not isinstance(data.get("agent"), str):
        raise SpecificationError(f"{where}: agent is {quoted(data.get('agent'))}; give the name of an agent")
    parameters = data.get("parameters", {})
    if not isinstance(parameters, Mapping):
        raise SpecificationError(f"{where}: parameters is {quoted(parameters)}; give 'NAME: VALUE' pairs")
    axes = _axes(data["axes"], f"{where}: axes") if "axes" in data else None
    seeds, optional = data.get("seeds"), data.get("optional", False)
    if seeds is not None and (type(seeds) is not int or seeds < 1):
        raise SpecificationError(
            f"{where}: seeds is {quoted(seeds)}; give how many of the experiment's seeds, at least 1"
        )
    if not isinstance(optional, bool):
        raise SpecificationError(f"{where}: optional is {quoted(optional)}; give true or false")
    missing = _within(where, missing_package, data["agent"]) if optional else None
    if missing is not None:
        return str(missing)
    parameters = {str(k): v for k, v in parameters.items()}
    own = _warm_start(data, where) if "warm_start" in data else None
    entry = AgentEntry(data["agent"], str(data.get("label", "")), parameters, axes, seeds, own)
    _within(where, lambda _: entry.make(), None)
    return entry if warm_start is None or "warm_start" in data else entry.warm(warm_start)


def _warm_start(data: Mapping[str, Any], where: str) -> WarmStart | None:
    text = data.get("warm_start")
    return None if text in (None, _NO_WARM_START) else read_warm_start(str(text), f"{where}: warm_start")


def _seeds(value: object, where: str) -> tuple[int, ...]:
    if type(value) is int:
        _within(where, lambda count: check_size(1, 1, count), value)
    seeds = list(range(value)) if type(value) is int else value
    if not isinstance(seeds, list) or not seeds or not all(type(s) is int and 0 <= s < 2**32 for s in seeds):
        raise SpecificationError(
            f"{where} is {quoted(value)}; give how many (such as 5, for 0 to 4) or a list of whole numbers of at least "
            "0"
        )
    return tuple(seeds)


def _budget(value: object, where: str) -> Budget:
    data = _mapping(value, where, "samples, seconds or both", ("samples", "seconds"))
    return _within(where, lambda _: Budget(**data), None)


def _axes(value: object, where: str) -> tuple[str, ...]:
    names = [name.strip() for name in value.split(",")] if isinstance(value, str) else value
    if not isinstance(names, list) or not names:
        raise SpecificationError(f"{where} is {quoted(value)}; give a list of tile, order, parallelism and bypass")
    for name in names:
        if name not in AXES:
            raise SpecificationError(f"{where}: unknown axis {quoted(name)}; {suggest(str(name), AXES)}")
    return tuple(axis for axis in AXES if axis in names)


def _mapping(data: object, where: str, content: str, keys: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise SpecificationError(f"{where} is {quoted(data)}; give {content}")
    require_keys(map(str, data), keys, where)
    return data


def _list(data: Mapping[str, Any], key: str, where: str, example: str) -> list[Any]:
    value = data.get(key)
    entries = [value] if isinstance(value, str | Mapping) else value
    if not isinstance(entries, list) or not entries:
        raise SpecificationError(f"{where}: {key} is {quoted(value)}; give a list {example}")
    _check_length(entries, f"{where}: {key}")
    return entries


def _check_length(entries: Sequence[object], where: str) -> None:
    if len(entries) > MOST_ENTRIES:
        raise SpecificationError(f"{where} has {len(entries):,} entries; give at most {MOST_ENTRIES:,}")


def _within(where: str, function: Any, argument: object) -> Any:
    """Calls, and says where a mistake is."""
    try:
        return function(argument)
    except SpecificationError as error:
        raise SpecificationError(f"{where}: {error}") from None
