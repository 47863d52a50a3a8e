"""``mapgym list``: everything that has a name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from mapgym.agents.base import DEFAULT_AGENT, agent_class, agent_names, missing_package
from mapgym.agents.commands import console, options
from mapgym.agents.experiment.definition.experiment_file import experiment_names, load_experiment
from mapgym.agents.search.dataflow.templates import DATAFLOWS
from mapgym.errors import SpecificationError, suggest
from mapgym.errors.text import quoted
from mapgym.spec import catalog
from mapgym.system.registration import ENVIRONMENT_IDS, register_environments

Rows = list[dict[str, Any]]


def list_names(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="KIND",
            help="accelerators, networks, workloads, agents, dataflows, environments, experiments; all but workloads "
            "when left out.",
            show_default=False,
        ),
    ] = None,
    as_json: options.JsonOption = False,
) -> None:
    """Lists accelerators, networks, workloads, agents, dataflows, environments or experiments."""
    if kind is not None and kind not in _KINDS:
        raise SpecificationError(f"cannot list {quoted(kind)}; {suggest(kind, _KINDS)}")
    kinds = [kind] if kind is not None else [name for name in _KINDS if name != "workloads"]
    found = {name: _KINDS[name]() for name in kinds}
    if as_json:
        console.print_json(found)
        return
    screen = console.out()
    for name, rows in found.items():
        table = console.new_table(name.capitalize())
        for key in rows[0] if rows else ():
            table.add_column(key.replace("_", " "), justify="right" if isinstance(rows[0][key], int) else "left")
        for row in rows:
            table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()))
        screen.print(table)
        console.say("")
    if kind is None:
        console.say('Workloads: "mapgym list workloads"')


def _accelerators() -> Rows:

    rows: Rows = []
    for name in catalog.accelerator_names():
        accelerator = catalog.accelerator(name)
        levels = " > ".join(
            f"{level.name} ({'unlimited' if level.capacity_words is None else f'{level.capacity_words:,}'}"
            f"{f' x {level.instances}' if level.instances > 1 else ''})"
            for level in reversed(accelerator.levels)
        )
        rows.append({"name": name, "macs": accelerator.mac.instances, "levels_with_words_and_instances": levels})
    return rows


def _networks() -> Rows:

    networks = [catalog.network(name) for name in catalog.network_names()]
    return [
        {
            "name": network.name,
            "distinct_layers": len(network.layers),
            "layers": sum(layer.repeats for layer in network.layers),
            "multiply_accumulates": network.macs,
            "description": network.description,
        }
        for network in networks
    ]


def _workloads() -> Rows:

    rows: Rows = []
    for name in catalog.network_names():
        for layer in catalog.network(name).layers:
            dims = zip(layer.workload.dims, layer.workload.bounds, strict=True)
            rows.append(
                {
                    "name": layer.workload.name,
                    "repeats": layer.repeats,
                    "multiply_accumulates": layer.workload.macs,
                    "dims": " ".join(f"{dim}{bound}" for dim, bound in dims),
                }
            )
    return rows


def _agents() -> Rows:

    return [
        {
            "name": name,
            "default": "yes" if name == DEFAULT_AGENT else "",
            "summary": agent_class(name).summary,
            "axes": ", ".join(agent_class(name).axes),
            "trained_under": "" if missing_package(name) else agent_class(name).trained_under(),
            "needs": f"mapgym[{agent_class(name).extra}]" if agent_class(name).extra else "",
        }
        for name in agent_names()
    ]


def _dataflows() -> Rows:

    return [{"name": name, "summary": dataflow.summary} for name, dataflow in DATAFLOWS.items()]


def _environments() -> Rows:
    import gymnasium

    register_environments()
    return [{"id": name, "entry_point": str(gymnasium.spec(name).entry_point)} for name in ENVIRONMENT_IDS]


def _experiments() -> Rows:

    experiments = {name: load_experiment(name) for name in experiment_names()}
    return [
        {
            "name": name,
            "tasks": len(experiment.tasks),
            "agents": len(experiment.agents),
            "seeds": len(experiment.seeds),
            "description": experiment.description,
        }
        for name, experiment in experiments.items()
    ]


_KINDS: dict[str, Callable[[], Rows]] = {
    "accelerators": _accelerators,
    "networks": _networks,
    "workloads": _workloads,
    "agents": _agents,
    "dataflows": _dataflows,
    "environments": _environments,
    "experiments": _experiments,
}
