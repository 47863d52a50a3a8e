"""Reads what the user typed, and loads what it names."""

from __future__ import annotations

import csv
import math
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from mapgym.agents.commands import console, options
from mapgym.agents.experiment.definition.densities import objective_in, read_objective
from mapgym.agents.files.constraints_file import ConstraintsFile, constraints_within, read_constraints
from mapgym.agents.labels import OBJECTIVE_NAMES
from mapgym.cost import check_objective
from mapgym.errors import SpecificationError
from mapgym.errors.text import printable, quoted
from mapgym.mapspace.entries import check_axes
from mapgym.spec import catalog
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.rules import DEFAULT_RULES, counting_rules
from mapgym.spec.tensor import BANDED
from mapgym.spec.workload import Workload

if TYPE_CHECKING:
    from mapgym.agents.experiment.definition.experiment import Experiment
    from mapgym.agents.experiment.definition.warm_start import WarmStart

Value = TypeVar("Value")


def command_line(context: typer.Context) -> str:
    """The command as it was typed, quoted for a shell."""
    known = context.find_root().obj
    return printable(shlex.join(["mapgym", *(sys.argv[1:] if known is None else known)]))


def comma_separated(text: str | Sequence[str], what: str) -> list[str]:
    """Splits "a,b" (or several such) into names; raises SpecificationError when there is none.

    A name that holds a comma stands in double quotes, as in CSV: '"net.yaml:a,b",resnet18'.
    """
    texts = [text] if isinstance(text, str) else text
    try:
        rows = [row for part in texts for row in csv.reader([part], skipinitialspace=True)]
    except csv.Error as error:
        raise SpecificationError(f"{what} is {quoted(text)}, which cannot be read as a list ({error})") from None
    names = [name.strip() for row in rows for name in row if name.strip()]
    if not names:
        raise SpecificationError(f"{what} is empty; give at least one name")
    return names


def read_parameters(texts: Sequence[str]) -> dict[str, str]:
    """Reads the repeated option --parameter NAME=VALUE."""
    parameters = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise SpecificationError(f"--parameter: {quoted(text)} is no NAME=VALUE; write such as 'population=50'")
        parameters[name.strip()] = value.strip()
    return parameters


def parse_axes(text: str | None, accelerators: Sequence[str] = ()) -> tuple[str, ...]:
    """Reads --axes; the result is in the canonical order, without repetitions.

    Args:
        text: the option; None for the default.
        accelerators: as they were named. With an architecture for Timeloop the default has bypass too: its own mapper
            chooses what a level keeps, and many levels of such files have no room for all tensors.
    """
    if text is None:
        text = options.DEFAULT_AXES + (",bypass" if any(map(catalog.is_for_timeloop, accelerators)) else "")
    names = list(dict.fromkeys(comma_separated(text, "--axes")))
    return _option("--axes", lambda: check_axes(names))


def parse_objective(text: str) -> str:
    """Checks --objective."""
    return _option("--objective", lambda: check_objective(text))


def parse_density_objective(text: str, densities: str | None, weights: str | None, env: str | None = None) -> str:
    """Reads --objective where it may be sparsity-aware, with --densities, --density-weights and --env."""
    objective = _option("--env", lambda: objective_in(env, text))
    lists = [
        None if given is None else comma_separated(given, what)
        for given, what in ((densities, "--densities"), (weights, "--density-weights"))
    ]
    return _option("--objective", lambda: read_objective(objective, *lists))


def _option(what: str, read: Callable[[], Value]) -> Value:
    """What an option says, or whose mistake it is."""
    try:
        return read()
    except SpecificationError as error:
        raise SpecificationError(f"{what}: {error}") from None


def parse_densities(texts: Sequence[str] | None) -> dict[str, object]:
    """Reads --density: tensor, as it was typed, -> density; "hypergeometric:0.3" and "banded:2" say where zeros lie."""
    densities: dict[str, object] = {}
    for text in comma_separated(texts, "--density") if texts else ():
        # A tensor may be called anything, and a density has no equals sign.
        name, _, value = text.rpartition("=")
        if name.strip() in densities:
            raise SpecificationError(
                f"--density: {quoted(name.strip())} is given twice; give one density for each tensor"
            )
        try:
            distribution, _, number = value.rpartition(":")
            if not distribution:
                densities[name.strip()] = float(number)
            elif distribution == BANDED:
                densities[name.strip()] = {"distribution": BANDED, "band_width": int(number)}
            else:
                densities[name.strip()] = {"distribution": distribution, "density": float(number)}
        except ValueError:
            raise SpecificationError(
                f"--density: {quoted(text)} is no TENSOR=DENSITY; write such as 'weights=0.5,inputs=0.2' or "
                f"'weights={BANDED}:2'"
            ) from None
    return densities


def parse_certify(seconds: float | None, objective: str) -> float | None:
    """Checks --certify, which goes with one objective at one density."""
    if seconds is not None and objective not in OBJECTIVE_NAMES:
        raise SpecificationError("--certify proves one objective; give --objective edp, energy or latency with it")
    return parse_seconds(seconds, "--certify")


def parse_seconds(seconds: float | None, what: str) -> float | None:
    """Checks an option that is a number of seconds."""
    if seconds is not None and not 0 < seconds < math.inf:
        raise SpecificationError(f"{what} is {seconds:g}; give a finite number of seconds above 0")
    return seconds


def parse_rules(rules: str | None) -> str:
    """Checks --rules where it stands for the rules of the catalog's accelerators; the default when it is left out."""
    return counting_rules(DEFAULT_RULES if rules is None else rules, "--rules").name


def load_accelerator(spec: catalog.Spec, *, peer_links: bool = True, rules: str | None = None) -> Accelerator:
    """The accelerator that the user named, without neighbour links or under other counting rules if they say so."""
    accelerator = catalog.accelerator(spec)
    if rules is not None:
        accelerator = accelerator.counted_by(rules, "--rules")
    return accelerator if peer_links else replace(accelerator, peer_links=False)


def load_accelerators(
    specs: str | Sequence[str], what: str, *, peer_links: bool = True, rules: str | None = None
) -> list[Accelerator]:
    """The accelerators that the user named, separated by commas, see :func:`load_accelerator`; no two called alike."""
    names = comma_separated(specs, what)
    machines = [load_accelerator(spec, peer_links=peer_links, rules=rules) for spec in names]
    return catalog.told_apart(machines, names)


def counted_by(experiment: Experiment, rules: str | None) -> Experiment:
    """The experiment with all of its tasks under the counting rules that the user named, if they did."""
    if rules is None:
        return experiment
    machines = (task.accelerator.counted_by(rules, "--rules") for task in experiment.tasks)
    tasks = tuple(replace(task, accelerator=machine) for task, machine in zip(experiment.tasks, machines, strict=True))
    return replace(experiment, tasks=tasks)


def load_workloads(specs: Sequence[str]) -> list[Workload]:
    """The workloads that the user named; a network stands for all of its layers."""
    return [workload for spec in specs for workload in catalog.workloads(spec)]


def load_constraints(path: Path | None, accelerator: str) -> ConstraintsFile | None:
    """The constraints in a file, ours or Timeloop's; without one those within Timeloop's architecture, if it has any.

    Args:
        path: what --constraints names.
        accelerator: as it was named.
    """
    if path is not None:
        return read_constraints(path)
    found = constraints_within(accelerator)
    if found is not None:
        console.notify(f"mapgym: the constraints in {accelerator} hold; --constraints FILE takes their place")
    return found


def notify_unused_constraints(accelerators: Sequence[str]) -> None:
    """Says which accelerators come with constraints that a command does not take."""
    for name in accelerators:
        if constraints_within(name) is not None:
            console.notify(f"mapgym: the constraints in {name} do not hold here; search and map take them")


def load_warm_start(text: str | None, *, within_experiment: bool = True) -> WarmStart | None:
    """Reads --warm-start, within an experiment or for one search; says which part of a buffer cannot be used."""
    from mapgym.agents.experiment.definition.warm_start import POLICY, read_warm_start

    if text is None:
        return None
    warm_start = read_warm_start(text, within_experiment=within_experiment)
    if warm_start.source != POLICY and warm_start.digest and (damaged := warm_start.buffer().damaged):
        console.notify_damaged_lines(text, damaged)
    return warm_start
