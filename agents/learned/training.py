"""What can be trained ahead of a search, and what a training is told: the protocol behind ``mapgym train``."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from mapgym.agents.base import import_modules
from mapgym.errors import SpecificationError, suggest
from mapgym.errors.seeds import check_seed
from mapgym.errors.text import quoted
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.rules import DEFAULT_RULES
from mapgym.spec.workload import Workload

CHECKPOINT = "checkpoint.safetensors"
"""In the folder of a training: what it continues from."""


@dataclass(frozen=True)
class TrainingRequest:
    """What the user asks for. What a trainer does not list in its ``options`` is left at the default.

    Attributes:
        accelerator: what to train for; None where the trainer chooses accelerators itself.
        folder: where checkpoints and the result go; a training that is there is continued.
        workloads: the layers to train on.
        env: id of the environment to train in; None for the trainer's own.
        objective: what is minimised.
        steps: steps of all environments together; None for the trainer's own number.
        samples: mappings to train on; None for the trainer's own number.
        seconds: wall time after which it stops and can be continued; None for no limit.
        seed: of everything random.
        full: whether to train by the recipe of the original instead of the one for a small machine.
        parameters: of the agent, as values or as text.
        command: the command line, recorded in the result.
        rules: the counting rules of accelerators that the trainer chooses; one that is given has its own.
    """

    accelerator: Accelerator | None
    folder: Path
    workloads: tuple[Workload, ...] = ()
    env: str | None = None
    objective: str = "edp"
    steps: int | None = None
    samples: int | None = None
    seconds: float | None = None
    seed: int = 0
    full: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    rules: str = DEFAULT_RULES

    def __post_init__(self) -> None:
        check_seed(self.seed)


def _ignore(text: str) -> None:
    pass


@dataclass
class TrainingProgress:
    """How far a training is; written by the trainer, read by whoever shows it.

    Attributes:
        done, total: in the unit.
        unit: what is counted, such as "samples" or "steps".
        text: such as the loss, or the best so far.
        on_milestone: called with a line of text now and then, for who has no live display.
    """

    done: int = 0
    total: int = 0
    unit: str = "samples"
    text: str = ""
    on_milestone: Callable[[str], None] = _ignore


class Trainer(ABC):
    """Trains one agent. Registered by :func:`register_trainer`; a module of this folder is found by being there.

    Attributes:
        name: of the agent that uses the result.
        summary: one line for lists.
        requires: modules that it imports and that are not among the core dependencies.
        options: which options of ``mapgym train`` it takes, besides those that all take (folder, seconds, seed).
        needs: those of them that must be given.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    requires: ClassVar[tuple[str, ...]] = ("torch", "safetensors")
    options: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def check_options(cls, given: Mapping[str, bool]) -> None:
        """Compares options with what the trainer takes.

        Args:
            given: for each option of the command line, by name, whether it was given.

        Raises:
            SpecificationError: one is missing, or means nothing to this trainer.
        """
        for option in (name for name, is_given in given.items() if is_given and name not in cls.options):
            known = ", ".join(f"--{name}" for name in cls.options) or "none of its own"
            raise SpecificationError(f"training {quoted(cls.name)} takes no --{option}; its options are {known}")
        for option in (name for name in cls.needs if not given[name]):
            raise SpecificationError(f"training {quoted(cls.name)} needs --{option}; see 'mapgym train --help'")

    @abstractmethod
    def train(self, request: TrainingRequest, progress: TrainingProgress) -> str:
        """Trains until done or out of time.

        A training can be killed at any point: called again with the same request, it goes on from its last
        checkpoint and ends with the same result as one that was not interrupted. Called when it is done, it says so.

        Args:
            request: what to do.
            progress: to be kept up to date.

        Returns:
            What has been reached and what to do next, for the user.

        Raises:
            SpecificationError: the folder holds something else.
        """


_TRAINERS: dict[str, type[Trainer]] = {}


def register_trainer(trainer: type[Trainer]) -> type[Trainer]:
    """Class decorator that makes a trainer known by its ``name``."""
    _TRAINERS[trainer.name] = trainer
    return trainer


def trainer_names() -> list[str]:
    """Names of the agents that can be trained, in alphabetical order."""
    import_modules("training")
    return sorted(_TRAINERS)


def make_trainer(name: str) -> Trainer:
    """The trainer of an agent.

    Raises:
        SpecificationError: there is none, or a package that it needs is not installed.
    """
    if name not in trainer_names():
        raise SpecificationError(
            f"agent {quoted(name)} cannot be trained ahead of a search; {suggest(name, trainer_names())}"
        )
    for module in _TRAINERS[name].requires:
        if importlib.util.find_spec(module) is None:
            raise SpecificationError(
                f"training {quoted(name)} needs the package {quoted(module)}; install it with: pip install 'mapgym[rl]'"
            )
    return _TRAINERS[name]()
