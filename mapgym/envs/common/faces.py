"""What all environments show Gymnasium in the same way: one environment, or many that step together.

Here is where arguments, actions, seeds and options from outside are read (:mod:`mapgym.envs.common.inputs`), so that
every environment, scalar or vector, takes and refuses the same.
"""

from __future__ import annotations

import copy
import os
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Self, TypeVar

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from mapgym.envs.common.inputs import (
    read_action,
    read_actions,
    read_reset_mask,
    read_rows,
    read_seed,
    read_seeds,
    require_columns,
)
from mapgym.envs.common.observation_kinds import entry_names
from mapgym.envs.common.state import EnvironmentState, check_random
from mapgym.envs.common.stored_spec import stored
from mapgym.errors import SpecificationError, positive_int, require_one_of

if TYPE_CHECKING:
    from mapgym.envs.common.sizes import Sizes
    from mapgym.envs.common.task import Task, TaskDistribution
    from mapgym.envs.common.tasks import EnvironmentTasks, TaskSource

RENDER_MODES = ("ansi", "rgb_array")

_COPIES = 6
"""Arrays of the size of all observations that a vector environment and its caller hold: the two bounds of the space,
the present ones, and those that were handed out."""

_INT64 = np.dtype(np.int64)

_UNKNOWN = 2**62
"""Bytes of memory of a system that does not say how many it has."""

Action = TypeVar("Action")


class Described:
    """An environment whose ``spec`` can be stored as JSON and made again from it, and that can be copied.

    Attributes:
        where: what messages call the environment: its id, or its class where it was not made by its id.
    """

    _spec: EnvSpec | None = None
    _tasks: EnvironmentTasks[Any]

    @property
    def sizes(self) -> Sizes:
        """What the spaces have room for; environments that are made with equal ``sizes=`` have equal spaces."""
        return self._tasks.sizes

    @property
    def observation_fields(self) -> dict[str, slice]:
        """Name of each field of the flat observation -> its slice."""
        return self._tasks.layout.fields

    @property
    def observation_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name of each field of the flat observation -> its shape, (levels, dims) for instance."""
        return self._tasks.layout.shapes

    @property
    def observation_names(self) -> list[str]:
        """What each entry of the flat observation is, such as "temporal of level 0, dim 2"; level 0 is the innermost.

        What :data:`mapgym.envs.common.observation.DYNAMIC_FIELDS` does not list describes the task, so that a policy
        can tell tasks apart: with a single task these entries are constant.
        """
        return entry_names(self._tasks.layout)

    def __copy__(self) -> Self:
        # Two environments that share the arrays of one episode are of no use to anyone.
        return copy.deepcopy(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A copy goes on by itself, but what the caller gave it to write to, or to read, stays one and the same."""
        memo |= {id(thing): thing for thing in self._tasks.shared}
        copied = memo[id(self)] = type(self).__new__(type(self))
        copied.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return copied

    @property
    def spec(self) -> EnvSpec | None:
        """How Gymnasium makes this environment; objects among its arguments are in their plain form."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        self._spec = None if spec is None else stored(spec)
        if self._spec is not None and self._spec.max_episode_steps is None:
            # Learners read the horizon here. Gymnasium has no say in it: the episode ends by itself.
            self._spec.max_episode_steps = self._tasks.episode_steps

    @property
    def where(self) -> str:
        """What messages call this environment."""
        return type(self).__name__ if self._spec is None else self._spec.id


class ScalarFace(Described, gym.Env[NDArray[np.float32], Action]):
    """One environment; a subclass steps it."""

    # Declared so by Gymnasium.
    metadata: dict[str, Any] = {"render_modes": list(RENDER_MODES), "render_fps": 4}  # noqa: RUF012

    def _show(self, tasks: EnvironmentTasks[Any], render_mode: str | None) -> None:
        """Takes the spaces of tasks that are ready."""
        check_render_mode(render_mode)
        self.render_mode = render_mode
        self._tasks = tasks
        self._kind = tasks.kind
        self.observation_space = tasks.observation_space
        self.action_space = tasks.action_space
        # Of an action that is right already; an array of one entry may stand for a number, which needs the door.
        self._action_shape = self.action_space.shape or None
        self._must_reset = True

    @property
    @abstractmethod
    def _source(self) -> TaskSource:
        """Where tasks come from."""

    @abstractmethod
    def _set_source(self, source: TaskSource) -> None:
        """Lets tasks come from somewhere else."""

    @property
    def task_distribution(self) -> TaskDistribution:
        """What the tasks of the next episodes are drawn from."""
        return self._source.distribution

    def set_tasks(self, tasks: Any) -> None:
        """Lets the tasks of the next episodes come from another distribution; the present episode goes on.

        Args:
            tasks: what the argument ``tasks`` takes.

        Raises:
            SpecificationError: something is unknown, or a task does not fit the spaces or has no legal mapping; tasks
                then come from where they came from before.
        """
        self._set_source(self._tasks.other_source(tasks))

    def _read_reset(self, seed: Any, options: Any) -> TaskSource | None:
        """Reads the arguments of reset, then seeds ``np_random``; returns the tasks to which options fix the episode.

        Raises:
            SpecificationError: an argument of another kind, an unknown option, or a task that does not fit the spaces.
        """
        if seed is None and options is None:
            # Almost every reset.
            return None
        seed = read_seed(seed, self.where)
        fixed = self._tasks.fixed_by(options, self._source)
        gym.Env.reset(self, seed=seed)
        return fixed

    @property
    @abstractmethod
    def task(self) -> Task:
        """Workload, accelerator and objective of the current episode."""

    def get_state(self, *, random: bool = True) -> EnvironmentState:
        """Saves where the environment is, in a microsecond or two: a value that can be pickled.

        Args:
            random: whether the random numbers are saved as well, which decide how later episodes begin. They take most
                of the time; a search that stays within an episode of ``MapSpace-v0`` needs none of them.
        """
        generator = self.np_random.bit_generator.state if random else None
        index, numbers, objects = self._save()
        return EnvironmentState(self.task, index, self._tasks.settings, numbers, objects, self._must_reset, generator)

    def set_state(self, state: EnvironmentState) -> None:
        """Goes back, or on, to where a state was saved, here or by an equal environment.

        The state may be of any task that the spaces have room for. One that was saved after the end of an episode, or
        before any has begun, can only be followed by a reset. Random numbers stay as they are if it has none.

        Raises:
            SpecificationError: it is no state, or does not fit this environment; nothing has changed then.
        """
        number = None
        if type(state) is not EnvironmentState or not (
            state.task is self.task and state.settings is self._tasks.settings
        ):
            number = self._tasks.number_of_state(state, self.where)
        generator = self.np_random
        if state.random is not None:
            check_random(state, generator, self.where)
        self._restore(number, state)
        if state.random is not None:
            generator.bit_generator.state = state.random
        self._must_reset = state.is_over

    @abstractmethod
    def _save(self) -> tuple[int, bytes, Any]:
        """Index of the task, numbers and objects of the episode."""

    @abstractmethod
    def _restore(self, number: int | None, state: EnvironmentState) -> None:
        """Takes the numbers and objects of a state; its task has this number, None for the present one.

        Raises:
            SpecificationError: there are not as many numbers as the task needs; nothing has changed then.
        """

    def _read_action(self, action: Any) -> NDArray[np.int64]:
        if type(action) is np.ndarray and action.dtype is _INT64 and action.shape == self._action_shape:
            require_columns(action, self.action_space, self.where)
            return action
        return read_action(action, self.action_space, self.where)

    def _require_episode(self) -> None:
        if self._must_reset:
            raise gym.error.ResetNeeded("the episode is over or has not begun; call reset() before step()")

    def render(self) -> Any:
        """The mapping as text, or a picture of it as uint8[height, width, 3], of one size for all tasks."""
        if self.render_mode is None:
            gym.logger.warn(
                'render() does nothing without a render_mode; make the environment with "ansi" or "rgb_array"'
            )
            return None
        return self._render(self.render_mode)

    @abstractmethod
    def _render(self, mode: str) -> Any:
        """The text or the picture."""


class VectorFace(Described, gym.vector.VectorEnv[NDArray[np.float32], NDArray[np.int64], NDArray[Any]]):
    """Many environments that step together; a subclass steps them."""

    metadata: dict[str, Any] = {  # noqa: RUF012 - declared so by Gymnasium
        "render_modes": list(RENDER_MODES),
        "render_fps": 4,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def _show(
        self,
        num_envs: int,
        tasks: EnvironmentTasks[Any],
        render_mode: str | None,
        autoreset_mode: AutoresetMode | str,
        max_episode_steps: int | None,
    ) -> None:
        """Takes the spaces of tasks that are ready.

        Raises:
            SpecificationError: an argument of another kind, or more environments than the memory holds.
        """
        self.num_envs = count_of(num_envs, tasks)
        check_render_mode(render_mode)
        self._limit = None if max_episode_steps is None else positive_int(max_episode_steps, "max_episode_steps")
        if not isinstance(autoreset_mode, AutoresetMode):
            require_one_of(autoreset_mode, [mode.value for mode in AutoresetMode], "autoreset_mode")
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**type(self).metadata, "autoreset_mode": self.autoreset_mode}
        self.render_mode = render_mode
        self._tasks = tasks
        self._kind = tasks.kind
        self.single_observation_space = tasks.observation_space
        self.single_action_space = tasks.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._actions_shape = self.action_space.shape
        self._must_reset = True

    @property
    @abstractmethod
    def _sources(self) -> list[TaskSource]:
        """Where the tasks of each environment come from."""

    @abstractmethod
    def _set_source(self, source: TaskSource, rows: NDArray[np.int64]) -> None:
        """Lets the tasks of some environments come from somewhere else."""

    @property
    def task_distributions(self) -> list[TaskDistribution]:
        """What the tasks of the next episodes of each environment are drawn from."""
        return [source.distribution for source in self._sources]

    def set_tasks(self, tasks: Any, rows: Any = None) -> None:
        """Lets the tasks of the next episodes come from another distribution; the present episodes go on.

        Args:
            tasks: what the argument ``tasks`` takes.
            rows: of which environments, indices or bool[num_envs]; all when left out.

        Raises:
            SpecificationError: something is unknown, a task does not fit the spaces or has no legal mapping, or there
                is no such environment; tasks then come from where they came from before.
        """
        chosen = np.arange(self.num_envs) if rows is None else read_rows(rows, self.num_envs, self.where)
        self._set_source(self._tasks.other_source(tasks, self._in_use), chosen)

    @property
    @abstractmethod
    def _in_use(self) -> set[int]:
        """Numbers of the tasks of the present episodes."""

    def _read_reset(
        self, seed: Any, options: Any
    ) -> tuple[NDArray[np.int64], list[int | None], list[TaskSource] | None]:
        """Reads the arguments of reset.

        Returns:
            which environments to reset, the seed of every environment, and for every environment the tasks to which
            options fix the episodes.

        Raises:
            SpecificationError: an argument of another kind, an unknown option, a task that does not fit the spaces, or
                a list of the wrong length.
        """
        options = self._tasks.read_options(options, also=("reset_mask",))
        chosen = np.ones(self.num_envs, np.bool_)
        if "reset_mask" in options:
            chosen = read_reset_mask(options.pop("reset_mask"), self.num_envs, self.where)
        seeds = read_seeds(seed, self.num_envs, self.where)
        rows = np.flatnonzero(chosen)
        # Environments that do not begin anew need none, whatever options say.
        fixed = {one: self._tasks.fixed_by(options, one) for one in dict.fromkeys(self._sources[i] for i in rows)}
        if not options:
            return rows, seeds, None
        return rows, seeds, [fixed.get(source) or source for source in self._sources]

    def _read_actions(self, actions: Any) -> NDArray[np.int64]:
        # Small vectors step in a few microseconds, so that what is right already does not go through the door.
        if type(actions) is np.ndarray and actions.dtype is _INT64 and actions.shape == self._actions_shape:
            return actions
        return read_actions(actions, self.num_envs, self.single_action_space, self.where)

    def _require_episodes(self, over: NDArray[np.bool_]) -> None:
        if self._must_reset:
            raise gym.error.ResetNeeded("the environments have not begun; call reset() before step()")
        if self.autoreset_mode is AutoresetMode.DISABLED and over.any():
            raise gym.error.ResetNeeded(
                f'environment {np.argmax(over)} is over; reset it with options={{"reset_mask": ...}}'
            )

    def render(self) -> tuple[Any, ...] | None:
        """The picture or text of every environment; pictures are of one size."""
        if self.render_mode is None:
            return None
        return tuple(self._render(self.render_mode, i) for i in range(self.num_envs))

    @abstractmethod
    def _render(self, mode: str, row: int) -> Any:
        """The text or the picture of one environment."""


def check_render_mode(render_mode: str | None) -> None:
    """Raises SpecificationError for an unknown one."""
    if render_mode is not None:
        require_one_of(render_mode, RENDER_MODES, "render_mode")


def count_of(num_envs: int, tasks: EnvironmentTasks[Any]) -> int:
    """The number of environments; raises SpecificationError if it is none, or more than the memory has room for."""
    count = positive_int(num_envs, "num_envs")
    need, memory = count * tasks.layout.size * np.float32().itemsize * _COPIES, _memory_bytes()
    if need > memory:
        raise SpecificationError(
            f"num_envs is {count}, for which observations alone take some {need / 2**30:,.0f} GiB, and this machine "
            f"has {memory / 2**30:,.0f}; give a smaller number"
        )
    return count


def _memory_bytes() -> int:
    """Memory of this machine; no limit where the system does not say."""
    try:
        pages = os.sysconf("SC_PHYS_PAGES")
        return os.sysconf("SC_PAGE_SIZE") * pages if pages > 0 else _UNKNOWN
    except (AttributeError, ValueError, OSError):
        return _UNKNOWN
