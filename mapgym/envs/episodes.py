"""Episodes that go on side by side, and the two faces that Gymnasium has for them: one environment, or many.

An :class:`Episodes` holds the state of n environments in arrays and does everything that depends on what they are
about. :class:`EpisodesEnv` shows one of length 1 as an environment, :class:`EpisodesVectorEnv` one of length n as a
vector environment; so the two cannot differ.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import gymnasium as gym
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from mapgym.errors import SpecificationError, positive_int, suggest
from mapgym.text import quoted

if TYPE_CHECKING:
    from mapgym.envs.task import Task, TaskGenerator
    from mapgym.envs.tasks import EnvironmentTasks
    from mapgym.mapping import Mapping

RENDER_MODES = ("ansi", "rgb_array")


class Infos:
    """What some of n environments have to say, in Gymnasium's form for vectors: for each name an array and a mask."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.data: dict[str, Any] = {}

    def set(self, name: str, rows: NDArray[np.int64], values: NDArray[Any]) -> None:
        """Sets an entry for some environments: values[k] for environment rows[k]."""
        if len(rows):
            array = self.data.setdefault(name, np.zeros((self.n, *values.shape[1:]), values.dtype))
            mask = self.data.setdefault(f"_{name}", np.zeros(self.n, np.bool_))
            array[rows] = values
            mask[rows] = True

    def set_figures(self, rows: NDArray[np.int64], figures: dict[str, NDArray[np.float64]]) -> None:
        """Sets an entry for each figure; NaN is for environments that do not have it."""
        for name, values in figures.items():
            known = ~np.isnan(values)
            self.set(name, rows[known], values[known])

    def select(self, rows: NDArray[np.int64]) -> dict[str, Any]:
        """What some of the environments say, in the same form; the others are blank."""
        chosen = np.zeros(self.n, np.bool_)
        chosen[rows] = True
        selected = Infos(self.n)
        for name, array in self.data.items():
            if not name.startswith("_"):
                said = np.flatnonzero(self.data[f"_{name}"] & chosen)
                selected.set(name, said, array[said])
        return selected.data

    def only(self) -> dict[str, Any]:
        """The info of a single environment."""
        return {
            name: array[0].copy() if array.ndim > 1 else array[0].item()
            for name, array in self.data.items()
            if not name.startswith("_")
        }


class Episodes(ABC):
    """The state of n environments.

    Attributes:
        n: how many.
        tasks: their arguments and spaces.
        task_of: int64[n], number of the task of each.
        observations: float32[n, size], the present ones.
    """

    def __init__(self, n: int, tasks: EnvironmentTasks[Any]) -> None:
        self.n = n
        self.tasks = tasks
        self.task_of = np.zeros(n, np.int64)
        self.observations = np.zeros((n, tasks.layout.size), np.float32)

    @abstractmethod
    def begin(
        self,
        rows: NDArray[np.int64],
        generators: Sequence[np.random.Generator],
        fixed: TaskGenerator | None,
        seeded: NDArray[np.bool_],
        infos: Infos,
    ) -> None:
        """Starts an episode in some environments.

        Args:
            rows: which.
            generators: the random numbers of each of them.
            fixed: the tasks to choose from; None for those of the environment.
            seeded: bool[len(rows)], whether the reset has a seed.
            infos: receives what they say.
        """

    @abstractmethod
    def step(
        self, rows: NDArray[np.int64], actions: NDArray[np.int64], infos: Infos
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Takes one step in some environments: actions[k] in environment rows[k].

        Returns:
            float64[len(rows)] rewards, bool[len(rows)] whether the episode is over.
        """

    @abstractmethod
    def mapping(self, row: int) -> Mapping:
        """The mapping of an environment."""

    @abstractmethod
    def render(self, mode: str, row: int) -> Any:
        """The text or the picture of an environment."""

    def task(self, row: int) -> Task:
        """The task of an environment."""
        task: Task = self.tasks.prepared[self.task_of[row]].task
        return task

    def by_task(self, rows: NDArray[np.int64]) -> list[tuple[Any, int, NDArray[np.int64]]]:
        """(prepared task, its number, positions in rows) for each task that some environments have."""
        numbers = self.task_of[rows]
        return [(self.tasks.prepared[k], int(k), np.flatnonzero(numbers == k)) for k in np.unique(numbers)]

    def draw(self, rows: NDArray[np.int64], generators: Sequence[np.random.Generator], fixed: Any) -> None:
        """Draws the tasks of some environments, each from its own random numbers."""
        generator = self.tasks.generator if fixed is None else fixed
        for i, rng in zip(rows, generators, strict=True):
            self.task_of[i] = self.tasks.number_of(generator.tasks[generator.draw(rng)])


State = TypeVar("State", bound=Episodes)
Action = TypeVar("Action")


def check_render_mode(render_mode: str | None) -> None:
    """Raises SpecificationError for an unknown one."""
    if render_mode is not None and render_mode not in RENDER_MODES:
        raise SpecificationError(f"render_mode is {quoted(render_mode)}; {suggest(str(render_mode), RENDER_MODES)}")


class EpisodesEnv(gym.Env[NDArray[np.float32], Action], Generic[State, Action]):
    """One environment; a subclass makes the episodes and documents them."""

    # Declared so by Gymnasium.
    metadata: dict[str, Any] = {"render_modes": list(RENDER_MODES), "render_fps": 4}  # noqa: RUF012

    def __init__(self, episodes: State, render_mode: str | None) -> None:
        """Shows episodes of length 1; a subclass reads the arguments."""
        check_render_mode(render_mode)
        self.render_mode = render_mode
        self._episodes = episodes
        self.observation_space = episodes.tasks.observation_space
        self.action_space = episodes.tasks.action_space
        self._must_reset = True

    @property
    def observation_fields(self) -> dict[str, slice]:
        """Name of each part of the observation -> its slice."""
        return self._episodes.tasks.layout.fields

    @property
    def task(self) -> Task:
        """Workload, accelerator and objective of the current episode."""
        return self._episodes.task(0)

    @property
    def mapping(self) -> Mapping:
        """The present mapping."""
        return self._episodes.mapping(0)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Starts an episode.

        Args:
            seed: of ``self.np_random``.
            options: workload, accelerator, objective for this episode.

        Raises:
            SpecificationError: an unknown option, or a task that does not fit the spaces.
        """
        super().reset(seed=seed)
        infos = Infos(1)
        fixed = self._episodes.tasks.fixed_by(options)
        self._episodes.begin(np.zeros(1, np.int64), [self.np_random], fixed, np.array([seed is not None]), infos)
        self._must_reset = False
        return self._episodes.observations[0].copy(), infos.only()

    def step(self, action: Action) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Takes one step.

        Raises:
            gymnasium.error.ResetNeeded: the episode is over.
        """
        if self._must_reset:
            raise gym.error.ResetNeeded("the episode is over or has not begun; call reset() before step()")
        infos = Infos(1)
        rewards, over = self._episodes.step(np.zeros(1, np.int64), np.asarray(action)[None], infos)
        self._must_reset = bool(over[0])
        return self._episodes.observations[0].copy(), float(rewards[0]), self._must_reset, False, infos.only()

    def render(self) -> Any:
        """The mapping as text, or a picture of it as uint8[height, width, 3]."""
        if self.render_mode is None:
            gym.logger.warn(
                'render() does nothing without a render_mode; make the environment with "ansi" or "rgb_array"'
            )
            return None
        return self._episodes.render(self.render_mode, 0)


class EpisodesVectorEnv(gym.vector.VectorEnv[NDArray[np.float32], NDArray[np.int64], NDArray[Any]], Generic[State]):
    """Many environments that step together; a subclass makes the episodes."""

    metadata: dict[str, Any] = {  # noqa: RUF012 - declared so by Gymnasium
        "render_modes": list(RENDER_MODES),
        "render_fps": 4,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        episodes: State,
        render_mode: str | None,
        autoreset_mode: AutoresetMode | str,
        max_episode_steps: int | None,
    ) -> None:
        """Shows episodes; a subclass reads the other arguments."""
        super().__init__()
        check_render_mode(render_mode)
        if max_episode_steps is not None:
            raise SpecificationError("max_episode_steps is not supported; every episode ends by itself")
        modes = [mode.value for mode in AutoresetMode]
        if autoreset_mode not in (*AutoresetMode, *modes):
            raise SpecificationError(
                f"autoreset_mode is {quoted(autoreset_mode)}; {suggest(str(autoreset_mode), modes)}"
            )
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**type(self).metadata, "autoreset_mode": self.autoreset_mode}
        self.render_mode = render_mode
        self._episodes = episodes
        self.num_envs = episodes.n
        self.single_observation_space = episodes.tasks.observation_space
        self.single_action_space = episodes.tasks.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._generators: list[np.random.Generator | None] = [None] * self.num_envs
        self._over = np.ones(self.num_envs, np.bool_)
        self._must_reset = True

    @property
    def observation_fields(self) -> dict[str, slice]:
        """Name of each part of an observation -> its slice."""
        return self._episodes.tasks.layout.fields

    def tasks(self) -> list[Task]:
        """The current task of each environment."""
        return [self._episodes.task(i) for i in range(self.num_envs)]

    def mappings(self) -> list[Mapping]:
        """The present mapping of each environment."""
        return [self._episodes.mapping(i) for i in range(self.num_envs)]

    def _begin(self, rows: NDArray[np.int64], seeded: NDArray[np.bool_], infos: Infos, fixed: Any = None) -> None:
        generators = []
        for i in rows:
            if (rng := self._generators[i]) is None:
                rng = self._generators[i] = seeding.np_random()[0]
            generators.append(rng)
        self._episodes.begin(rows, generators, fixed, seeded, infos)
        self._over[rows] = False

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Starts an episode in every environment.

        Args:
            seed: environment i gets seed + i; or one seed for each.
            options: as for the scalar environment; ``reset_mask`` (bool[num_envs]) selects the environments to reset.

        Raises:
            SpecificationError: an unknown option, a task that does not fit, or a list of the wrong length.
        """
        options = dict(options or {})
        chosen = np.ones(self.num_envs, np.bool_)
        if "reset_mask" in options:
            chosen = np.asarray(options.pop("reset_mask"))
            if chosen.shape != (self.num_envs,) or chosen.dtype != np.bool_ or not chosen.any():
                raise SpecificationError(f"reset_mask must be bool[{self.num_envs}] with at least one True")
        seeds: list[int | None] = [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            seeds = [int(seed) + i for i in range(self.num_envs)]
        elif seed is not None:
            seeds = list(seed)
        if len(seeds) != self.num_envs:
            raise SpecificationError(f"{len(seeds)} seeds given for {self.num_envs} environments; give one for each")
        fixed = self._episodes.tasks.fixed_by(options)
        rows = np.flatnonzero(chosen)
        for i in rows:
            if seeds[i] is not None:
                self._generators[i] = seeding.np_random(seeds[i])[0]
        infos = Infos(self.num_envs)
        self._begin(rows, np.array([seeds[i] is not None for i in rows]), infos, fixed)
        self._must_reset = False
        return self._episodes.observations.copy(), infos.data

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Takes one step in every environment.

        Args:
            actions: integers, one action of the scalar environment for each.

        Raises:
            SpecificationError: actions have another shape or are no integers.
            gymnasium.error.ResetNeeded: reset was never called, or autoreset is disabled and an episode is over.
        """
        actions = np.asarray(actions)
        shape = (self.num_envs, *(self.single_action_space.shape or ()))
        if actions.shape != shape or actions.dtype.kind not in "iu":
            raise SpecificationError(
                f"actions have shape {actions.shape} and type {actions.dtype}; give integers of shape {shape}"
            )
        if self._must_reset:
            raise gym.error.ResetNeeded("the environments have not begun; call reset() before step()")
        ended, running = np.flatnonzero(self._over), np.flatnonzero(~self._over)
        if len(ended) and self.autoreset_mode is AutoresetMode.DISABLED:
            raise gym.error.ResetNeeded(f'environment {ended[0]} is over; reset it with options={{"reset_mask": ...}}')
        infos = Infos(self.num_envs)
        rewards, terminations = np.zeros(self.num_envs), np.zeros(self.num_envs, np.bool_)
        if len(ended):
            self._begin(ended, np.zeros(len(ended), np.bool_), infos)
        if len(running):
            rewards[running], terminations[running] = self._episodes.step(running, actions[running], infos)
        self._over[:] = terminations
        done = np.flatnonzero(terminations)
        if len(done) and self.autoreset_mode is AutoresetMode.SAME_STEP:
            infos = self._restart_now(done, infos)
        return self._episodes.observations.copy(), rewards, terminations, np.zeros_like(terminations), infos.data

    def _restart_now(self, done: NDArray[np.int64], before: Infos) -> Infos:
        """Resets environments in the step in which they finished; what they ended with goes into the infos."""
        infos = Infos(self.num_envs)
        infos.data = before.select(np.flatnonzero(~self._over))
        final_obs = np.full(self.num_envs, None, dtype=object)
        for i in done:
            final_obs[i] = self._episodes.observations[i].copy()
        self._begin(done, np.zeros(len(done), np.bool_), infos)
        is_done = np.zeros(self.num_envs, np.bool_)
        is_done[done] = True
        infos.data |= {
            "final_obs": final_obs,
            "_final_obs": is_done,
            "final_info": before.select(done),
            "_final_info": is_done.copy(),
        }
        return infos

    def render(self) -> tuple[Any, ...] | None:
        """The picture or text of every environment."""
        if self.render_mode is None:
            return None
        return tuple(self._episodes.render(self.render_mode, i) for i in range(self.num_envs))


def count_of(num_envs: int) -> int:
    """The number of environments; raises SpecificationError if it is none."""
    return positive_int(num_envs, "num_envs")
