"""What all environments do with their arguments: read them, make the tasks that they stand for ready, fix one."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping as AbcMapping, Sequence, Set as AbstractSet
from functools import cached_property
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from mapgym.envs.common.observation import ObservationLayout
from mapgym.envs.common.state import EnvironmentState, Settings
from mapgym.envs.common.task import Task, TaskGenerator
from mapgym.errors import SpecificationError, require_keys, require_kind
from mapgym.errors.text import quoted
from mapgym.evaluation.evaluator import Evaluator
from mapgym.evaluation.sparsity_aware import SparsityAware
from mapgym.mapping import Mapping
from mapgym.mapspace import MapSpace
from mapgym.mapspace.entries import check_axes

DEFAULT_WORKLOAD = "paper/resnet_conv4"
DEFAULT_ACCELERATOR = "accel_b"
DEFAULT_AXES = ("tile", "order", "parallelism")

MOST_GIVEN = 64
"""Tasks from the options of resets that are kept ready, unless more are in use at once: there is no end of different
ones."""


class PreparedForTask(Protocol):
    """A task made ready, whatever else belongs to it."""

    task: Task


Prepared = TypeVar("Prepared", bound=PreparedForTask)


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
    def shared(self) -> list[Any]:
        """What copies of the environment share: what the caller uses as well, and tasks, which never change.

        So a state of one is known to the others at a glance. An evaluator sees to it itself.
        """
        return [prepared.task for prepared in self.prepared]

    @cached_property
    def settings(self) -> Settings:
        """What an environment must have in common with a saved state, in words."""
        space = self.space_of(self.generator.tasks[0])
        is_trivial = space.base == Mapping.trivial(space.workload, space.accelerator)
        values = {
            "kind": type(self).__name__.removesuffix("Tasks"),
            "axes": space.axes,
            "constraints": space.constraints.to_dict(),
            "base": "trivial" if is_trivial else digest_of(space.base.to_dict()),
            "layout of the observation": self.layout,
            "action space": self.action_space,
            **self.own_settings(),
        }
        return tuple((name, str(value)) for name, value in values.items())

    def own_settings(self) -> dict[str, Any]:
        """Further ones of a kind of environments; their texts are compared."""
        return {}

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
            self._require_room(task)
        return generator

    def _require_room(self, task: Task) -> None:
        """Raises SpecificationError if the spaces of the environment have no room for a task."""
        if not self.fits(task):
            raise SpecificationError(
                f"{quoted(task.workload.name)} on {quoted(task.accelerator.name)} is larger than the spaces of "
                "this environment (levels, dims, tensors, divisors of a bound or mesh sides); name it when the "
                "environment is made"
            )

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

    def number_of_state(self, state: Any, where: str, in_use: AbstractSet[int] = frozenset()) -> int:
        """The number of the task of a saved state; it is prepared if it is new.

        Args:
            state: what a caller takes for a state.
            where: name of the environment.
            in_use: numbers that must keep their tasks.

        Raises:
            SpecificationError: it is none, or one of an environment that differs in its settings, or its task has no
                room in the spaces, or is not that of the evaluator.
        """
        if type(state) is not EnvironmentState:
            raise SpecificationError(
                f"{where}: state is {quoted(state)}; give what get_state() of an environment returned"
            )
        ours = dict(self.settings)
        for name, value in state.settings:
            if ours.get(name) != value:
                raise SpecificationError(
                    f"{where}: the state is of an environment whose {name} is {quoted(value)}, and here it is "
                    f"{quoted(ours.get(name))}; give a state of an equal environment"
                )
        task = state.task
        if task not in self._numbers_of:
            if self.evaluator is not None:
                raise SpecificationError(
                    f"the state is of the task {quoted(task.name)}, which is not the one that the evaluator prices; "
                    "give a state of its task"
                )
            self._require_room(task)
        return self.number_of(task, in_use)

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


def digest_of(value: Any) -> str:
    """Stands for a value whose text is too long to compare or to show."""
    return hashlib.blake2b(repr(value).encode(), digest_size=8).hexdigest()


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
