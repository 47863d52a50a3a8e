"""What a comparison consists of: tasks, agents, seeds and the settings that all of its runs share."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from mapgym.accelerator import Accelerator
from mapgym.agents.base import make_agent
from mapgym.errors import SpecificationError
from mapgym.workload import Workload


@dataclass(frozen=True)
class Task:
    """One map space to search."""

    workload: Workload
    accelerator: Accelerator

    @property
    def name(self) -> str:
        """Such as "paper/resnet_conv4 on accel_b"."""
        return f"{self.workload.name} on {self.accelerator.name}"

    @property
    def file_stem(self) -> str:
        """The name as part of a file name, such as "paper-resnet_conv4__accel_b"."""
        return "__".join(_plain(part) for part in (self.workload.name, self.accelerator.name))


@dataclass(frozen=True)
class Settings:
    """What every run of a comparison has in common.

    Attributes:
        objective: "edp", "energy" or "latency".
        axes: the axes of the map space that are searched.
        samples: mappings that an agent may price, None for no limit.
        seconds: wall time of a run, None for no limit.
    """

    objective: str = "edp"
    axes: tuple[str, ...] = ("tile", "order", "parallelism")
    samples: int | None = 5000
    seconds: float | None = None

    def to_dict(self) -> dict[str, object]:
        """A JSON-able form."""
        return {
            "objective": self.objective,
            "axes": list(self.axes),
            "samples": self.samples,
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Run:
    """One cell of the matrix: an agent, made with its default parameters, with a seed on a task."""

    task: Task
    agent: str
    seed: int

    @property
    def name(self) -> str:
        """Such as "paper/resnet_conv4 on accel_b, gamma, seed 0"."""
        return f"{self.task.name}, {self.agent}, seed {self.seed}"

    def config(self, settings: Settings) -> dict[str, object]:
        """Everything that the result depends on, as plain JSON values; equal for runs that are the same."""
        config: dict[str, object] = {
            "workload": self.task.workload.to_dict(),
            "accelerator": self.task.accelerator.to_dict(),
            "agent": self.agent,
            "parameters": asdict(make_agent(self.agent)),
            "seed": self.seed,
            **settings.to_dict(),
        }
        plain: dict[str, object] = json.loads(json.dumps(config))
        return plain


@dataclass(frozen=True)
class Comparison:
    """A full matrix of tasks, agents and seeds."""

    tasks: tuple[Task, ...]
    agents: tuple[str, ...]
    seeds: tuple[int, ...]
    settings: Settings

    def __post_init__(self) -> None:
        for what, names in (
            ("task", [task.file_stem for task in self.tasks]),
            ("agent", self.agents),
            ("seed", self.seeds),
        ):
            if not names:
                raise SpecificationError(f"the comparison has no {what}; give at least one")
            twice = _first_repeated([str(name) for name in names])
            if twice is not None:
                raise SpecificationError(f"the comparison names the {what} {twice!r} twice; name it once")

    @property
    def runs(self) -> tuple[Run, ...]:
        """All runs, task by task and, within a task, seed by seed, so that agents can be compared early on."""
        return tuple(self._runs())

    def _runs(self) -> Iterator[Run]:
        for task in self.tasks:
            for seed in self.seeds:
                for agent in self.agents:
                    yield Run(task, agent, seed)


def _first_repeated(names: Sequence[str]) -> str | None:
    return next((name for i, name in enumerate(names) if name in names[:i]), None)


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "-", name).strip("-.") or "unnamed"
