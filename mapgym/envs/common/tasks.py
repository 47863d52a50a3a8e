"""What all environments do with their arguments: read them, make the tasks that they stand for ready, fix one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping as AbcMapping, Sequence, Set as AbstractSet
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from mapgym.envs.common.observation import ObservationLayout
from mapgym.envs.common.task import Task, TaskGenerator
from mapgym.errors import SpecificationError, require_keys, require_kind
from mapgym.errors.text import quoted
from mapgym.evaluation.evaluator import Evaluator
from mapgym.evaluation.sparsity_aware import SparsityAware
from mapgym.mapspace import MapSpace
from mapgym.mapspace.entries import check_axes

DEFAULT_WORKLOAD = "paper/resnet_conv4"
DEFAULT_ACCELERATOR = "accel_b"
DEFAULT_AXES = ("tile", "order", "parallelism")

MOST_GIVEN = 64
"""Tasks from the options of resets that are kept ready, unless more are in use at once: there is no end of different
ones."""

Prepared = TypeVar("Prepared")


class EnvironmentTasks(ABC, Generic[Prepared]):
    """The task arguments of an environment, checked, and the tasks that they stand for.

    Attributes:
        reset_options: the options that a reset may have.
        generator: draws tasks.
        evaluator: who prices; None for a cost model.
        layout: of the observation.
        observation_space: of one environment.
        action_space: of one environment; a subclass sets it before it calls :meth:`make_ready`.
        prepared: tasks made ready, those of the generator first.
    """

    reset_options: ClassVar[tuple[str, ...]] = ("workload", "accelerator", "objective")
    layout: ObservationLayout
    action_space: spaces.Space[Any]
    prepared: list[Prepared]

    def __init__(
        self,
        workload: Any,
        accelerator: Any,
        objective: str | SparsityAware | None,
        axes: Sequence[str] | None,
        constraints: Any,
        evaluator: Evaluator | None,
        layout: type[ObservationLayout] = ObservationLayout,
    ) -> None:
        """Reads the arguments; see :class:`mapgym.envs.MapSpaceEnv`."""
        if evaluator is not None:
            check_evaluator(evaluator)
            require_left_out(
                workload=workload, accelerator=accelerator, objective=objective, axes=axes, constraints=constraints
            )
            workload, accelerator = evaluator.space.workload, evaluator.space.accelerator
            objective = evaluator.objective
        self.evaluator = evaluator
        self._axes = DEFAULT_AXES if axes is None else check_axes(axes)
        self._constraints = constraints
        self.generator = TaskGenerator(
            DEFAULT_WORKLOAD if workload is None else workload,
            DEFAULT_ACCELERATOR if accelerator is None else accelerator,
            "edp" if objective is None else objective,
        )
        self.layout = layout.of(self.generator.tasks)
        self.observation_space = spaces.Box(0.0, 1.0, (self.layout.size,), np.float32)

    def make_ready(self) -> None:
        """Prepares the tasks of the generator."""
        self._numbers_of = {task: k for k, task in enumerate(self.generator.tasks)}
        self.prepared = [self.prepare(task) for task in self.generator.tasks]

    @property
    def episode_steps(self) -> int | None:
        """Steps that an episode has at most; None where that depends on the task."""
        return None

    @property
    def shared(self) -> list[Any]:
        """What copies of the environment share: what the caller uses as well; an evaluator sees to it itself."""
        return []

    @abstractmethod
    def prepare(self, task: Task) -> Prepared:
        """Makes a task ready."""

    @abstractmethod
    def fits(self, task: Task) -> bool:
        """Whether the spaces of the environment have room for a task."""

    def space_of(self, task: Task) -> MapSpace:
        """The map space of a task."""
        if self.evaluator is not None:
            return self.evaluator.space
        return MapSpace(task.workload, task.accelerator, self._axes, self._constraints)

    def fixed_by(self, options: AbcMapping[str, Any] | None) -> TaskGenerator | None:
        """Reads the options of reset.

        Args:
            options: keys workload, accelerator, objective; None or empty to draw from all tasks.

        Returns:
            the generator of the tasks that the options allow; None if they say nothing.

        Raises:
            SpecificationError: unknown key, or a task that does not fit the spaces of the environment.
        """
        options = self.read_options(options)
        if not options:
            return None
        if self.evaluator is not None:
            raise SpecificationError("reset options cannot change the task of an evaluator; leave them out")
        first = self.generator.tasks[0]
        workloads = list(dict.fromkeys(task.workload for task in self.generator.tasks))
        accelerators = list(dict.fromkeys(task.accelerator for task in self.generator.tasks))
        generator = TaskGenerator(
            options.get("workload", workloads),
            options.get("accelerator", accelerators),
            options.get("objective", first.objective),
        )
        for task in generator.tasks:
            if not self.fits(task):
                raise SpecificationError(
                    f"{quoted(task.workload.name)} on {quoted(task.accelerator.name)} is larger than the spaces of "
                    "this environment (levels, dims, tensors, divisors of a bound or mesh sides); name it when the "
                    "environment is made"
                )
        return generator

    def read_options(self, options: AbcMapping[str, Any] | None, also: tuple[str, ...] = ()) -> dict[str, Any]:
        """The options of reset, none of them unknown; ``also`` names further ones that are known."""
        if options is None:
            return {}
        if not isinstance(options, AbcMapping):
            raise SpecificationError(f"reset options are {quoted(options)}; give a dict such as {{'objective': 'edp'}}")
        require_keys(map(str, options), (*self.reset_options, *also), "reset options")
        return dict(options)

    def numbers_of(self, tasks: Sequence[Task], task_of: NDArray[np.int64]) -> list[int]:
        """Numbers of the next tasks of some environments.

        Args:
            tasks: as options of a reset give them.
            task_of: numbers that are in use; their tasks stay as they are, also if this raises an error.
        """
        in_use, numbers = {int(number) for number in task_of}, []
        for task in tasks:
            numbers.append(self.number_of(task, in_use))
            in_use.add(numbers[-1])
        return numbers

    def number_of(self, task: Task, in_use: AbstractSet[int] = frozenset()) -> int:
        """Number of a task in ``prepared``; it is prepared if it is new.

        Where many have come from options, a new one takes the place of that of them which was asked for longest ago.

        Args:
            task: the task.
            in_use: numbers that must keep their tasks.
        """
        number = self._numbers_of.get(task)
        own = len(self.generator)
        if number is None:
            prepared = self.prepare(task)
            number = self._number_to_replace(in_use) if len(self.prepared) >= own + MOST_GIVEN else len(self.prepared)
            if number == len(self.prepared):
                self.prepared.append(prepared)
            else:
                self.prepared[number] = prepared
        elif number >= own:
            # To the end, where those are that were asked for last.
            del self._numbers_of[task]
        self._numbers_of[task] = number
        return number

    def _number_to_replace(self, in_use: AbstractSet[int]) -> int:
        """Forgets the given task that was asked for longest ago and returns its number; a new one if all are in use."""
        for task, number in self._numbers_of.items():
            if number >= len(self.generator) and number not in in_use:
                del self._numbers_of[task]
                return number
        return len(self.prepared)


def check_evaluator(evaluator: Any) -> None:
    """Raises SpecificationError if it is something else."""
    require_kind(evaluator, Evaluator, "evaluator", "Evaluator(MapSpace(workload, accelerator))")


def require_left_out(**given: Any) -> None:
    """Raises SpecificationError for the first argument that is not None, because an evaluator says what it is."""
    for name, value in given.items():
        if value is not None:
            raise SpecificationError(
                f"{name} is given together with an evaluator, which prices one task only; leave {name} out"
            )
