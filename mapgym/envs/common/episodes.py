"""Episodes that go on side by side, and the two faces that Gymnasium has for them: one environment, or many.

An :class:`Episodes` holds the state of n environments in arrays and does everything that depends on what they are
about. :class:`EpisodesEnv` shows one of length 1 as an environment, :class:`EpisodesVectorEnv` one of length n as a
vector environment; so the two cannot differ.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from mapgym.envs.common.faces import ScalarFace, VectorFace, seeds_at
from mapgym.envs.common.inputs import require_columns

if TYPE_CHECKING:
    from mapgym.envs.common.task import Task, TaskGenerator
    from mapgym.envs.common.tasks import EnvironmentTasks
    from mapgym.mapping import Mapping

_FIRST = np.zeros(1, np.int64)


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
    ) -> None:
        """Starts an episode in some environments.

        Args:
            rows: which.
            generators: the random numbers of each of them.
            fixed: the tasks to choose from; None for those of the environment.
            seeded: bool[len(rows)], whether the reset has a seed.
        """

    @abstractmethod
    def report(self, rows: NDArray[np.int64], infos: Infos) -> None:
        """Says what the info of a reset says, also of environments that it has left alone.

        Args:
            rows: of which environments.
            infos: receives it.
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

    def draw(
        self, rows: NDArray[np.int64], generators: Sequence[np.random.Generator], fixed: TaskGenerator | None
    ) -> None:
        """Draws the tasks of some environments, each from its own random numbers."""
        self.task_of[rows] = self.tasks.draw_numbers(generators, fixed, self.task_of)


State = TypeVar("State", bound=Episodes)
Action = TypeVar("Action")


class EpisodesEnv(ScalarFace[Action], Generic[State, Action]):
    """One environment; a subclass makes the episodes and documents them."""

    def __init__(self, episodes: State, render_mode: str | None) -> None:
        """Shows episodes of length 1; a subclass reads the arguments."""
        self._episodes = episodes
        self._show(episodes.tasks, render_mode)

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
        fixed = self._read_reset(seed, options)
        infos = Infos(1)
        self._episodes.begin(_FIRST, [self.np_random], fixed, np.array([seed is not None]))
        self._episodes.report(_FIRST, infos)
        self._must_reset = False
        return self._episodes.observations[0].copy(), infos.only()

    def step(self, action: Action) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Takes one step.

        Raises:
            SpecificationError: the action is no whole number, or not as many as the action space has columns.
            gymnasium.error.ResetNeeded: the episode is over.
        """
        self._require_episode()
        infos = Infos(1)
        rewards, over = self._episodes.step(_FIRST, self._read_action(action)[None], infos)
        self._must_reset = bool(over[0])
        return self._episodes.observations[0].copy(), float(rewards[0]), self._must_reset, False, infos.only()

    def _render(self, mode: str) -> Any:
        return self._episodes.render(mode, 0)


class EpisodesVectorEnv(VectorFace, Generic[State]):
    """Many environments that step together; a subclass makes the episodes."""

    def __init__(
        self,
        episodes: State,
        render_mode: str | None,
        autoreset_mode: AutoresetMode | str,
        max_episode_steps: int | None,
    ) -> None:
        """Shows episodes; a subclass reads the other arguments."""
        super().__init__()
        self._episodes = episodes
        self._show(episodes.n, episodes.tasks, render_mode, autoreset_mode, max_episode_steps)
        self._over = np.ones(self.num_envs, np.bool_)

    def tasks(self) -> list[Task]:
        """The current task of each environment."""
        return [self._episodes.task(i) for i in range(self.num_envs)]

    def mappings(self) -> list[Mapping]:
        """The present mapping of each environment."""
        return [self._episodes.mapping(i) for i in range(self.num_envs)]

    def _begin(self, rows: NDArray[np.int64], seeded: NDArray[np.bool_], fixed: TaskGenerator | None = None) -> None:
        generators = []
        for i in rows:
            if (rng := self._generators[i]) is None:
                rng = self._generators[i] = seeding.np_random()[0]
            generators.append(rng)
        self._episodes.begin(rows, generators, fixed, seeded)
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
        rows, seeds, fixed = self._read_reset(seed, options)
        for i in rows:
            if seeds[i] is not None:
                self._generators[i] = seeding.np_random(seeds[i])[0]
        self._begin(rows, seeds_at(rows, seeds), fixed)
        self._must_reset = False
        infos = Infos(self.num_envs)
        self._episodes.report(np.arange(self.num_envs), infos)
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
        actions = self._read_actions(actions)
        self._require_episodes()
        ended, running = np.flatnonzero(self._over), np.flatnonzero(~self._over)
        self._require_none_over(ended)
        # The actions of environments that are reset instead are ignored.
        require_columns(actions[running], self.single_action_space, self.where)
        infos = Infos(self.num_envs)
        rewards, terminations = np.zeros(self.num_envs), np.zeros(self.num_envs, np.bool_)
        if len(ended):
            self._begin(ended, np.zeros(len(ended), np.bool_))
            self._episodes.report(ended, infos)
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
        self._begin(done, np.zeros(len(done), np.bool_))
        self._episodes.report(done, infos)
        is_done = np.zeros(self.num_envs, np.bool_)
        is_done[done] = True
        infos.data |= {
            "final_obs": final_obs,
            "_final_obs": is_done,
            "final_info": before.select(done),
            "_final_info": is_done.copy(),
        }
        return infos

    def _render(self, mode: str, row: int) -> Any:
        return self._episodes.render(mode, row)
