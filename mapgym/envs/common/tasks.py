"""What all environments do with their arguments: read them, make the tasks that they stand for ready, fix one."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping as AbcMapping, Sequence, Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from mapgym.envs.common.illegal import Illegal
from mapgym.envs.common.infos import EXHAUSTED, MASKED, NOTHING
from mapgym.envs.common.observation import ObservationLayout
from mapgym.envs.common.observation_kinds import ObservationKind, observation_kind
from mapgym.envs.common.reward import Pricing
from mapgym.envs.common.sizes import ALL_SIZES, Sizes
from mapgym.envs.common.state import EnvironmentState, Settings
from mapgym.envs.common.task import (
    DEFAULT_WORKLOAD,
    NO_INDEX,
    Task,
    TaskDistribution,
    is_split,
    listed,
    read_workloads,
)
from mapgym.errors import SpecificationError, require_keys, require_kind
from mapgym.errors.text import quoted
from mapgym.evaluation.evaluator import Evaluator
from mapgym.mapping import Mapping
from mapgym.mapspace import MapSpace
from mapgym.mapspace.entries import check_axes

DEFAULT_AXES = ("tile", "order", "parallelism")

MOST_GIVEN = 64
"""Tasks that are in no list of the environment and are kept ready, unless more are in use at once: there is no end of
different ones."""

MOST_DRAWS = 1000
"""Generated tasks that are drawn before it is said that none fits."""


class PreparedForTask(Protocol):
    """A task made ready, whatever else belongs to it."""

    task: Task
    pricing: Pricing


Prepared = TypeVar("Prepared", bound=PreparedForTask)


@dataclass(frozen=True)
class TaskArguments:
    """The arguments of an environment that say what its tasks are, and how large its spaces.

    Attributes:
        workload, accelerator, objective, tasks, sizes, sizes_for, evaluator, illegal, observation: see
            :class:`mapgym.envs.MapSpaceEnv`.
    """

    workload: Any = None
    accelerator: Any = None
    objective: Any = None
    tasks: Any = None
    sizes: Any = None
    sizes_for: Any = None
    evaluator: Evaluator | None = None
    illegal: str = "nearest"
    observation: str = "flat"

    def distribution(self) -> TaskDistribution:
        """The tasks.

        Raises:
            SpecificationError: something is unknown, or arguments are given together that exclude each other.
        """
        named = {"workload": self.workload, "accelerator": self.accelerator, "objective": self.objective}
        if self.evaluator is not None:
            check_evaluator(self.evaluator)
            require_left_out(**named, tasks=self.tasks)
            space = self.evaluator.space
            return TaskDistribution(space.workload, space.accelerator, self.evaluator.objective)
        if self.tasks is None:
            workload = DEFAULT_WORKLOAD if self.workload is None else self.workload
            return TaskDistribution(workload, self.accelerator, "edp" if self.objective is None else self.objective)
        for name, value in named.items():
            if value is not None:
                raise SpecificationError(
                    f"tasks and {name} are given, which exclude each other; leave {name} out, or combine them in a "
                    "mapgym.envs.TaskDistribution"
                )
        return TaskDistribution.of(self.tasks)

    def fixed_sizes(self, distribution: TaskDistribution) -> Sizes | None:
        """The sizes to which the arguments fix the spaces, whatever tasks are drawn; None if they do not.

        Args:
            distribution: the tasks; its accelerators count where ``sizes_for`` names workloads only.

        Raises:
            SpecificationError: something is unknown, or both arguments are given.
        """
        if self.sizes is not None and self.sizes_for is not None:
            raise SpecificationError("sizes and sizes_for are given, which exclude each other; leave one out")
        if self.sizes_for is not None:
            return Sizes.joint(_sizes_for(self.sizes_for, distribution))
        if self.sizes is None:
            return None if distribution.is_finite else distribution.sizes
        if isinstance(self.sizes, Sizes):
            return self.sizes
        if isinstance(self.sizes, AbcMapping):
            return Sizes.from_dict(self.sizes)
        if self.sizes != "all":
            raise SpecificationError(
                f"sizes is {quoted(self.sizes)}; give 'all', or the sizes of another environment "
                "(env.unwrapped.sizes), or name tasks in sizes_for"
            )
        return ALL_SIZES


def _sizes_for(spec: Any, own: TaskDistribution) -> list[Sizes]:
    """The sizes of what ``sizes_for`` names."""
    found = []
    for entry in [spec] if isinstance(spec, AbcMapping) else listed(spec, "sizes_for"):
        is_layer = isinstance(entry, AbcMapping) and "type" in entry
        if is_layer or (isinstance(entry, str) and not is_split(entry)):
            accelerators = list(dict.fromkeys(task.accelerator for task in own.tasks))
            machines = Sizes.of([], accelerators) if own.is_finite else own.sizes
            found.append(Sizes.joint([Sizes.of(read_workloads([entry]), []), machines]))
        else:
            found.append(TaskDistribution.of(entry, "sizes_for").sizes)
    return found


@dataclass(frozen=True, eq=False)
class TaskSource:
    """Where an environment's tasks come from.

    Attributes:
        distribution: as it was given.
        tasks: those of a finite one, as the environment poses them.
        numbers: int64[tasks], their numbers among those that are ready, where they stay; None if each is made ready
            when it is drawn.
        index_of: index of each task.
    """

    distribution: TaskDistribution
    tasks: tuple[Task, ...]
    numbers: NDArray[np.int64] | None
    index_of: AbcMapping[Task, int]

    def __deepcopy__(self, memo: dict[int, Any]) -> TaskSource:
        """Nothing of it ever changes."""
        return self

    @property
    def is_single(self) -> bool:
        """Whether there is one task only, so that nothing is drawn."""
        return len(self.tasks) == 1


class EnvironmentTasks(ABC, Generic[Prepared]):
    """The task arguments of an environment, checked, and the tasks that they stand for.

    Attributes:
        reset_options: the options that a reset may have.
        source: where the tasks of the environment came from when it was made.
        sizes: of what the spaces have room for.
        is_fixed: whether arguments fix the sizes; otherwise they are those of the tasks.
        evaluator: who prices; None for a cost model.
        layout: of the observation.
        observation_space: of one environment.
        action_space: of one environment; a subclass sets it before it calls :meth:`make_ready`.
        prepared: tasks made ready.
        ids: what each of them is called.
        illegal: what takes the place of illegal actions.
        kind: the form of the observation; None for the flat one.
        own_blank: what infos say beside metrics as long as there is nothing to say.
    """

    own_blank: ClassVar[AbcMapping[str, np.generic]] = MASKED

    reset_options: ClassVar[tuple[str, ...]] = ("workload", "accelerator", "objective")
    layout: ObservationLayout
    action_space: spaces.Space[Any]
    source: TaskSource
    kind: ObservationKind | None
    prepared: list[Prepared]
    ids: list[str]

    def __init__(
        self,
        arguments: TaskArguments,
        axes: Sequence[str] | None,
        constraints: Any,
        layout: type[ObservationLayout] = ObservationLayout,
    ) -> None:
        """Reads the arguments; see :class:`mapgym.envs.MapSpaceEnv`."""
        self.illegal = Illegal.of(arguments.illegal)
        self.evaluator = arguments.evaluator
        self.distribution = arguments.distribution()
        if self.evaluator is not None:
            require_left_out(axes=axes, constraints=constraints)
            axes = self.evaluator.space.axes
        self._axes = DEFAULT_AXES if axes is None else check_axes(axes)
        self._constraints = constraints
        sizes = arguments.fixed_sizes(self.distribution)
        self.is_fixed = sizes is not None
        self.sizes = self.distribution.sizes if sizes is None else sizes
        self.layout = layout(self.sizes.levels, self.sizes.dims, self.sizes.tensors)
        self.observation_space: spaces.Space[Any] = spaces.Box(0.0, 1.0, (self.layout.size,), np.float32)
        self._observation = arguments.observation
        self.prepared, self.ids = [], []
        self._numbers_of: dict[Task, int] = {}
        self._stay: frozenset[int] = frozenset()

    def make_ready(self) -> None:
        """Prepares the tasks of the environment."""
        self.kind = observation_kind(self._observation, self.layout, self.action_space)
        if self.kind is not None:
            self.observation_space = self.kind.space
        self.source = self.source_of(self.distribution)
        self.keep([self.source])

    @cached_property
    def blank(self) -> dict[str, np.generic]:
        """What infos say as long as there is nothing to say; see :mod:`mapgym.envs.common.infos`."""
        pricing = self.prepared[0].pricing
        metrics = dict.fromkeys(pricing.metric_names, np.float64(NOTHING))
        return {**self.own_blank, EXHAUSTED: np.False_, **metrics}

    @property
    def episode_steps(self) -> int | None:
        """Steps that an episode has at most; None where that depends on the task."""
        return None

    @property
    def shared(self) -> list[Any]:
        """What copies of the environment share: what the caller uses as well, and tasks, which never change.

        So a state of one is known to the others at a glance. An evaluator sees to it itself.
        """
        return [prepared.task for prepared in self.prepared]

    @cached_property
    def settings(self) -> Settings:
        """What an environment must have in common with a saved state, in words."""
        space = self.space_of(self.prepared[0].task)
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

    def posed(self, task: Task) -> Task:
        """A task of a distribution as the environment poses it."""
        return task

    def space_of(self, task: Task) -> MapSpace:
        """The map space of a task."""
        if self.evaluator is not None:
            return self.evaluator.space
        return MapSpace(task.workload, task.accelerator, self._axes, self._constraints)

    def source_of(self, distribution: TaskDistribution, in_use: AbstractSet[int] = frozenset()) -> TaskSource:
        """Makes the tasks of a distribution ready; of one that generates tasks one, to see that it does.

        They stay ready once :meth:`keep` is told of the source.

        Args:
            distribution: the tasks.
            in_use: numbers that must keep their tasks.

        Raises:
            SpecificationError: a task does not fit the spaces, or has no legal mapping.
        """
        source = self._posed_by(distribution)
        if not distribution.is_finite:
            if not self.sizes.has_room_for(distribution.listed_sizes):
                raise SpecificationError(
                    f"{distribution!r} lists workloads or accelerators that are larger than the spaces of this "
                    "environment; name them in sizes_for when it is made"
                )
            # Not a task of any episode, so that the environment's own random numbers stay as they are.
            self.draw(source, np.random.default_rng(0), in_use)
            return source
        for task in dict.fromkeys(source.tasks):
            self._require_room(task)
        taken = set(in_use)
        numbers = np.empty(len(source.tasks), np.int64)
        for k, task in enumerate(source.tasks):
            numbers[k] = self.number_of(task, taken)
            taken.add(int(numbers[k]))
        return TaskSource(distribution, source.tasks, numbers, source.index_of)

    def _posed_by(self, distribution: TaskDistribution) -> TaskSource:
        tasks = tuple(map(self.posed, distribution.tasks))
        # Of equal tasks the first counts.
        return TaskSource(distribution, tasks, None, {task: k for k, task in reversed(list(enumerate(tasks)))})

    def other_source(self, tasks: Any, in_use: AbstractSet[int] = frozenset()) -> TaskSource:
        """Makes other tasks ready; see :meth:`source_of`.

        Args:
            tasks: what the argument ``tasks`` of an environment takes.
            in_use: numbers that must keep their tasks.
        """
        if self.evaluator is not None:
            raise SpecificationError("set_tasks cannot change the task of an evaluator; make another environment")
        return self.source_of(TaskDistribution.of(tasks), in_use)

    def keep(self, sources: Iterable[TaskSource]) -> None:
        """Lets the tasks of these sources stay ready, and those of no others."""
        self._stay = frozenset(int(k) for source in sources if source.numbers is not None for k in source.numbers)

    def fixed_by(self, options: AbcMapping[str, Any] | None, source: TaskSource) -> TaskSource | None:
        """Reads the options of reset.

        Args:
            options: keys workload, accelerator, objective; None or empty to draw from all tasks.
            source: where the tasks come from otherwise.

        Returns:
            the tasks that the options allow; None if they say nothing.

        Raises:
            SpecificationError: unknown key, or a task that does not fit the spaces of the environment.
        """
        options = self.read_options(options)
        if not options:
            return None
        if self.evaluator is not None:
            raise SpecificationError("reset options cannot change the task of an evaluator; leave them out")
        fixed = self._posed_by(source.distribution.restricted(**options))
        for task in fixed.tasks:
            self._require_room(task)
        return TaskSource(fixed.distribution, fixed.tasks, None, source.index_of)

    def _require_room(self, task: Task) -> None:
        """Raises SpecificationError if the spaces of the environment have no room for a task."""
        if not self.fits(task):
            raise SpecificationError(
                f"{quoted(task.workload.name)} on {quoted(task.accelerator.name)} is larger than the spaces of "
                "this environment (levels, dims, tensors, divisors of a bound or mesh sides); name it when the "
                "environment is made, among its tasks or in sizes_for"
            )

    def read_options(self, options: AbcMapping[str, Any] | None, also: tuple[str, ...] = ()) -> dict[str, Any]:
        """The options of reset, none of them unknown; ``also`` names further ones that are known."""
        if options is None:
            return {}
        if not isinstance(options, AbcMapping):
            raise SpecificationError(f"reset options are {quoted(options)}; give a dict such as {{'objective': 'edp'}}")
        require_keys(map(str, options), (*self.reset_options, *also), "reset options")
        return dict(options)

    def draw(
        self, source: TaskSource, rng: np.random.Generator | None, in_use: AbstractSet[int] = frozenset()
    ) -> tuple[int, int]:
        """Number of the next task of an environment, and its index in the distribution (``NO_INDEX`` if it has none).

        A generated task that does not fit the spaces, or has no legal mapping, is drawn again.

        Args:
            source: where it comes from.
            rng: everything random; a single task needs none.
            in_use: numbers that must keep their tasks.

        Raises:
            SpecificationError: no generated task fits.
        """
        distribution = source.distribution
        if distribution.is_finite:
            k = 0 if rng is None else distribution.draw_index(rng)
            if source.numbers is not None:
                return int(source.numbers[k]), k
            task = source.tasks[k]
            return self.number_of(task, in_use), source.index_of.get(task, NO_INDEX)
        assert rng is not None
        reason = "they are larger than the spaces of this environment"
        for _ in range(MOST_DRAWS):
            task = self.posed(distribution.draw(rng)[1])
            if self.fits(task):
                try:
                    return self.number_of(task, in_use), NO_INDEX
                except SpecificationError as error:
                    reason = str(error)
        raise SpecificationError(
            f"none of {MOST_DRAWS:,} tasks of {distribution!r} can be posed, of the last because {reason}; give other "
            "ranges, or more room by sizes_for"
        )

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

        Where there are many that need not stay, a new one takes the place of that which was asked for longest ago.

        Args:
            task: the task.
            in_use: numbers that must keep their tasks.
        """
        number = self._numbers_of.pop(task, None)
        if number is None:
            prepared = self.prepare(task)
            number = len(self.prepared)
            if number >= len(self._stay) + MOST_GIVEN:
                number = self._number_to_replace(in_use)
            if number == len(self.prepared):
                self.prepared.append(prepared)
                self.ids.append(task.id)
            else:
                self.prepared[number], self.ids[number] = prepared, task.id
        # At the end are those that were asked for last.
        self._numbers_of[task] = number
        return number

    def _number_to_replace(self, in_use: AbstractSet[int]) -> int:
        """Forgets the task that was asked for longest ago and returns its number; a new one if all are needed."""
        for task, number in self._numbers_of.items():
            if number not in self._stay and number not in in_use:
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
