"""How the parameters of the agents were chosen: the file ``envs_config/tuning.yaml``.

For each agent it lists a few settings, which ``mapgym tune`` tries on the same tasks with the same budget, and the one
that was chosen. :func:`mapgym.agents.make_agent` takes the chosen values where none are given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from mapgym.errors import SpecificationError, positive_int, require_keys
from mapgym.errors.text import quoted
from mapgym.spec.rules import RULES_BEFORE_NAMES, counting_rules, stored_rules
from mapgym.system.yaml_loader import dump_yaml, load_yaml

MOST_SETTINGS = 12
"""So that every agent has about the same budget of tuning."""

MARGIN = 0.005
"""The first setting, the agent's own defaults, is kept unless another one is better by this: ln of the cost, mean."""

_HEADER = """\
# How the parameters of the agents were chosen. "mapgym tune AGENT --update THIS_FILE" runs all settings of an agent on
# the tasks below and writes what it has chosen. None of the tasks is in the comparison of mappers, and none of their
# layers and accelerators is among those that learned policies are tested on (splits.yaml). The first setting of an
# agent is that of its own defaults. scores: mean over the tasks of ln(median over the seeds / best known of the task),
# in the order of the settings; the first is kept unless another is better by 0.005. An agent without scores was not
# tuned. command: with another budget than that below if it says so. rules: by which the costs were counted,
# timeloop-2022 where they are left out; a choice is used whatever the rules of a search are.
"""


@dataclass(frozen=True)
class AgentTuning:
    """What was tried for an agent, and what was chosen.

    Attributes:
        settings: parameters that differ from the agent's own defaults; the first is empty.
        chosen: one of the settings.
        scores: of the settings, None if they have not been run.
        command: what ran them.
        rules: the counting rules under which they ran.
    """

    settings: tuple[dict[str, Any], ...]
    chosen: dict[str, Any]
    scores: tuple[float, ...] | None = None
    command: str = ""
    rules: str = RULES_BEFORE_NAMES


@dataclass(frozen=True)
class Tuning:
    """The content of the file.

    Attributes:
        samples, seeds: of each search.
        tasks: (workload, accelerator) names.
        agents: by name.
    """

    samples: int
    seeds: int
    tasks: tuple[tuple[str, str], ...]
    agents: dict[str, AgentTuning]


def read_tuning(path: Path | Traversable | None = None) -> Tuning:
    """Reads the file; the one that is installed when left out.

    Raises:
        SpecificationError: a key is unknown or missing, or a value of the wrong kind.
    """
    ours = path is None
    path = resources.files("mapgym.envs_config") / "tuning.yaml" if path is None else path
    data = load_yaml(path, ours=ours)
    if not isinstance(data, Mapping):
        raise SpecificationError(f"{path}: give a mapping with samples, seeds, tasks and agents")
    require_keys(map(str, data), ("samples", "seeds", "tasks", "agents"), str(path))
    tasks, agents = data.get("tasks"), data.get("agents")
    if not isinstance(tasks, list) or not tasks or not all(isinstance(t, list) and len(t) == 2 for t in tasks):
        raise SpecificationError(f"{path}: tasks must be a list of [workload, accelerator] pairs")
    if not isinstance(agents, Mapping):
        raise SpecificationError(f"{path}: agents must be a mapping of names to settings")
    return Tuning(
        positive_int(data.get("samples"), f"{path}: samples"),
        positive_int(data.get("seeds"), f"{path}: seeds"),
        tuple((str(workload), str(accelerator)) for workload, accelerator in tasks),
        {str(name): _agent(entry, f"{path}: agent {quoted(name)}") for name, entry in agents.items()},
    )


def _agent(entry: object, where: str) -> AgentTuning:
    if not isinstance(entry, Mapping):
        raise SpecificationError(f"{where} is {quoted(entry)}; give settings and chosen")
    require_keys(map(str, entry), ("settings", "chosen", "scores", "command", "rules"), where)
    settings, chosen, scores = entry.get("settings"), entry.get("chosen", {}), entry.get("scores")
    if (
        not isinstance(settings, list)
        or not settings
        or not all(isinstance(s, Mapping) for s in settings)
        or settings[0]
    ):
        raise SpecificationError(f"{where}: settings must be a list of mappings, the first of them empty")
    assert isinstance(settings, list)
    if len(settings) > MOST_SETTINGS:
        raise SpecificationError(f"{where} has {len(settings)} settings; give at most {MOST_SETTINGS}")
    if chosen not in settings:
        raise SpecificationError(f"{where}: chosen is {quoted(chosen)}, none of its settings; copy one of them")
    if scores is not None and not (
        isinstance(scores, list)
        and len(scores) == len(settings)
        and all(type(score) in (int, float) and math.isfinite(score) for score in scores)
    ):
        raise SpecificationError(f"{where}: scores must have one number for each of the {len(settings)} settings")
    return AgentTuning(
        tuple({str(name): value for name, value in setting.items()} for setting in settings),
        {str(name): value for name, value in chosen.items()},
        None if scores is None else tuple(float(score) for score in scores),
        str(entry.get("command", "")),
        counting_rules(stored_rules(entry), f"{where}: rules").name,
    )


def tuning_text(tuning: Tuning) -> str:
    """The text of the file."""
    lines = [_HEADER.rstrip(), f"samples: {tuning.samples}", f"seeds: {tuning.seeds}", "tasks:"]
    lines += [f"  - {_in_one_line(list(task))}" for task in tuning.tasks]
    lines.append("agents:")
    for name, entry in sorted(tuning.agents.items()):
        lines += [f"  {name}:", "    settings:"]
        lines += [f"      - {_in_one_line(setting)}" for setting in entry.settings]
        lines.append(f"    chosen: {_in_one_line(entry.chosen)}")
        if entry.scores is not None:
            lines.append(f"    scores: {_in_one_line([round(score, 5) for score in entry.scores])}")
        if entry.command:
            lines.append(f"    command: {_in_one_line(entry.command)}")
        if entry.rules != RULES_BEFORE_NAMES:
            lines.append(f"    rules: {entry.rules}")
    return "\n".join(lines) + "\n"


def _in_one_line(value: object) -> str:
    return dump_yaml(value, flow=True, width=math.inf).removesuffix("...\n").strip()


@cache
def chosen_parameters(name: str) -> dict[str, Any]:
    """What was chosen for an agent; empty for its own defaults."""
    entry = read_tuning().agents.get(name)
    return {} if entry is None else entry.chosen


def choose(settings: tuple[dict[str, Any], ...], scores: tuple[float, ...]) -> dict[str, Any]:
    """The setting with the lowest score, or the first if none is better by :data:`MARGIN`."""
    best = min(range(len(scores)), key=scores.__getitem__)
    return settings[best if scores[best] < scores[0] - MARGIN else 0]
