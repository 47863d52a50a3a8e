"""Episodes that go on side by side, and the two faces that Gymnasium has for them: one environment, or many.

An :class:`Episodes` holds the state of n environments in arrays and does everything that depends on what they are
about. :class:`EpisodesEnv` shows one of length 1 as an environment, :class:`EpisodesVectorEnv` one of length n as a
vector environment; so the two cannot differ.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from mapgym.envs.common.faces import ScalarFace, VectorFace
from mapgym.envs.common.illegal import ILLEGAL_ACTION_REWARD, Illegal, require_legal
from mapgym.envs.common.infos import EXECUTED, ILLEGAL, MASK, Info, Infos, blank_infos, read_only
from mapgym.envs.common.inputs import read_row, require_columns
from mapgym.envs.common.state import EnvironmentState, check_random, check_size, joined, split_into
from mapgym.envs.common.task import NO_INDEX

if TYPE_CHECKING:
    from mapgym.envs.common.task import Task
    from mapgym.envs.common.tasks import EnvironmentTasks, TaskSource
    from mapgym.mapping import Mapping

_FIRST, _RUNNING = np.zeros(1, np.int64), np.ones(1, np.bool_)
_SEEDED = {True: np.ones(1, np.bool_), False: np.zeros(1, np.bool_)}
_BOOL = np.dtype(np.bool_)
_MAX_RETURNED = 4
_SMALL = 2**15
"""Bytes up to which a copy in fresh memory takes no longer than to look for an array that nobody holds any more."""


class Generators(Sequence[np.random.Generator]):
    """The random numbers of n environments, each made when something is drawn from it."""

    def __init__(self, n: int) -> None:
        self._seeds: list[int | None] = [None] * n
        self._made: list[np.random.Generator | None] = [None] * n

    def __len__(self) -> int:
        return len(self._seeds)

    def __getitem__(self, i: Any) -> Any:
        rng = self._made[i]
        if rng is None:
            rng = self._made[i] = seeding.np_random(self._seeds[i])[0]
        return rng

    def seed(self, i: int, seed: int | None) -> None:
        """Begins the random numbers of an environment anew."""
        self._seeds[i], self._made[i] = seed, None


class Episodes(ABC):
    """The state of n environments.

    Attributes:
        n: how many.
        tasks: their arguments and spaces.
        sources: where the tasks of each come from.
        task_of: int64[n], number of the task of each.
        task_index, task_id: int64[n], object[n], its index in the distribution and what it is called. They are
            replaced, never changed, because callers get them as they are.
        observations: float32[n, size], the present ones.
        generators: the random numbers of every environment, as of the last reset.
        masks: int8[n, actions], the legal actions; None where all are.
        copies: whether callers get copies of them; otherwise they see the present ones, and cannot write.
    """

    copies = True
    masks: NDArray[np.int8] | None = None

    def __init__(self, n: int, tasks: EnvironmentTasks[Any]) -> None:
        self.n = n
        self.tasks = tasks
        self.sources = [tasks.source] * n
        self.task_of = np.zeros(n, np.int64)
        self.task_index = read_only(np.full(n, NO_INDEX, np.int64))
        self.task_id = read_only(np.full(n, tasks.ids[0], object))
        # The source of all environments, if it is one; whether it has one task only, and all of them have that.
        self._common: TaskSource | None = tasks.source
        self._is_settled = False
        # What infos say of every environment while its episode lasts, see :meth:`tell`; all that they say if nothing
        # happens, of many environments and of a single one, once somebody has asked.
        self._standing: dict[str, NDArray[Any]] = {"task_index": self.task_index, "task_id": self.task_id}
        self._blanks: dict[str, Any] | None = None
        self._blank: dict[str, Any] | None = None
        self._is_nearest = tasks.illegal.is_nearest
        self.generators: Sequence[np.random.Generator] = ()
        self._every = np.arange(n)
        self.observations = np.zeros((n, tasks.layout.size), np.float32)

    @abstractmethod
    def begin(
        self,
        rows: NDArray[np.int64],
        generators: Sequence[np.random.Generator],
        fixed: Sequence[TaskSource] | None,
        seeded: NDArray[np.bool_],
    ) -> None:
        """Starts an episode in some environments.

        Args:
            rows: which.
            generators: the random numbers of every environment.
            fixed: for every environment the tasks to choose from; None for its own.
            seeded: bool[len(rows)], whether the reset has a seed.
        """

    @abstractmethod
    def report(self, infos: Infos) -> None:
        """Says what a reset says of all environments beside what is blank and what :meth:`tell` was told."""

    @abstractmethod
    def step(
        self, actions: NDArray[np.int64], running: NDArray[np.bool_], infos: Infos
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Takes one step in the environments that are running; the others have just begun, and report that.

        Args:
            actions: one for each environment.
            running: bool[n].
            infos: receives what all environments have to say.

        Returns:
            float64[n] rewards, bool[n] whether the episode is over.
        """

    @abstractmethod
    def mapping(self, row: int) -> Mapping:
        """The mapping of an environment."""

    @abstractmethod
    def render(self, mode: str, row: int) -> Any:
        """The text or the picture of an environment."""

    def arrays(self, row: int) -> tuple[NDArray[Any], ...]:
        """What an environment is beside its task, as views of its part of all arrays that steps and resets change.

        A saved state has their content, so that their order, kinds and shapes must follow from the task and the
        settings of the environment. A subclass names its own here, and what is no number in :meth:`objects`.
        """
        return (self.observations[row],)

    def objects(self, row: int) -> Any:
        """What an environment is beside numbers: values that nobody changes any more; None if there are none."""
        return None

    def restore_objects(self, row: int, objects: Any) -> None:  # noqa: B027 - most have none
        """Takes what :meth:`objects` returned."""

    def make_room(self, row: int) -> None:  # noqa: B027 - most have it
        """Called when an environment has got the task of a state, before its arrays are written."""

    def save(self, row: int) -> tuple[int, bytes, Any]:
        """Index of the task, numbers and objects of an environment, for a state."""
        return self.task_index.item(row), joined(self.arrays(row)), self.objects(row)

    def restore(
        self,
        row: int,
        number: int | None,
        state: EnvironmentState,
        generators: Sequence[np.random.Generator],
        where: str,
    ) -> None:
        """Takes the numbers and objects of a state.

        Args:
            row: of which environment.
            number: of the task of the state; None for the present one.
            state: the state.
            generators: the random numbers of every environment.
            where: what messages call the environments.

        Raises:
            SpecificationError: there are not as many numbers as the task needs; nothing has changed then.
        """
        before = int(self.task_of[row])
        if number is not None:
            self.task_of[row] = number
        try:
            check_size(state.numbers, sum(array.nbytes for array in self.arrays(row)), where)
        finally:
            self.task_of[row] = before
        if number is not None or state.task_index != self.task_index[row]:
            numbers = np.array([before if number is None else number], np.int64)
            self.assign(np.array([row]), numbers, np.array([state.task_index], np.int64))
            self.make_room(row)
        split_into(self.arrays(row), state.numbers)
        self.restore_objects(row, state.objects)
        self.generators = generators

    def task(self, row: int) -> Task:
        """The task of an environment."""
        task: Task = self.tasks.prepared[self.task_of[row]].task
        return task

    def by_task(self, rows: NDArray[np.int64]) -> list[tuple[Any, int, NDArray[np.int64]]]:
        """(prepared task, its number, positions in rows) for each task that some environments have."""
        if len(self.tasks.prepared) == 1:
            return [(self.tasks.prepared[0], 0, self._every[: len(rows)])] if len(rows) else []
        if len(rows) == 1:
            number = int(self.task_of[rows[0]])
            return [(self.tasks.prepared[number], number, self._every[:1])]
        numbers = self.task_of[rows]
        return [(self.tasks.prepared[k], int(k), np.flatnonzero(numbers == k)) for k in np.unique(numbers)]

    def draw(
        self, rows: NDArray[np.int64], generators: Sequence[np.random.Generator], fixed: Sequence[TaskSource] | None
    ) -> None:
        """Draws the tasks of some environments, each from its own random numbers; a single task needs none."""
        if fixed is None and self._common is not None and self._common.numbers is not None:
            self._draw_from(self._common, self._common.numbers, rows, generators)
            return
        sources = self.sources if fixed is None else fixed
        numbers, indices = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
        # Tasks that are in use stay as they are, also if this raises an error.
        in_use = set(self.task_of.tolist())
        for k, i in enumerate(rows):
            rng = None if sources[i].is_single else generators[i]
            numbers[k], indices[k] = self.tasks.draw(sources[i], rng, in_use)
            in_use.add(int(numbers[k]))
        self.assign(rows, numbers, indices)

    def _draw_from(
        self,
        source: TaskSource,
        numbers: NDArray[np.int64],
        rows: NDArray[np.int64],
        generators: Sequence[np.random.Generator],
    ) -> None:
        """Draws tasks of a source that all environments have, and whose tasks are ready."""
        if source.is_single:
            if not self._is_settled:
                self.assign(rows, np.repeat(numbers, len(rows)), np.zeros(len(rows), np.int64))
                self._is_settled = len(rows) == self.n
            return
        drawn = np.array([source.distribution.draw_index(generators[i]) for i in rows], np.int64)
        self.assign(rows, numbers[drawn], drawn)

    def assign(self, rows: NDArray[np.int64], numbers: NDArray[np.int64], indices: NDArray[np.int64]) -> None:
        """Gives some environments tasks, by their numbers and by their indices in their distributions."""
        self.task_of[rows] = numbers
        index_of, id_of = self.task_index.copy(), self.task_id.copy()
        index_of[rows], id_of[rows] = indices, [self.tasks.ids[k] for k in numbers]
        self.task_index, self.task_id = read_only(index_of), read_only(id_of)
        self.tell(task_index=self.task_index, task_id=self.task_id)
        self._is_settled = False

    def set_source(self, source: TaskSource, rows: NDArray[np.int64]) -> None:
        """Lets the tasks of some environments come from somewhere else, from their next episodes on."""
        for i in rows:
            self.sources[i] = source
        self._common = source if all(one is source for one in self.sources) else None
        self._is_settled = False
        self.tasks.keep(dict.fromkeys(self.sources))

    def tell(self, **arrays: NDArray[Any]) -> None:
        """Lets infos say something else of every environment from now on; arrays that nobody changes any more."""
        self._standing |= arrays
        self._blanks = self._blank = None

    def _masked(self, mask: Any) -> dict[str, Any]:
        """The blank entries of the environment, with this one for the mask where there are illegal actions."""
        return {**({MASK: mask} if EXECUTED in self.tasks.blank else {}), **self.tasks.blank}

    def blank_infos(self) -> dict[str, Any]:
        """What infos say of every environment if nothing happens; a dict to be filled."""
        if self._blanks is None:
            blank = {**self._masked(np.int8(0)), **dict.fromkeys(self._standing, np.False_)}
            self._blanks = {**blank_infos(blank, self.n), **self._standing}
        return self._blanks.copy()

    def blank_info(self) -> dict[str, Any]:
        """What the info of a single environment says if nothing happens, masks aside; a dict to be copied."""
        if self._blank is None:
            self._blank = {**self._masked(None), **{name: array[0] for name, array in self._standing.items()}}
        return self._blank

    def report_actions(
        self,
        executed: NDArray[np.int64],
        is_illegal: NDArray[np.bool_],
        rewards: NDArray[np.float64],
        infos: Infos,
    ) -> None:
        """Says which actions were executed, and which were illegal, and lets those cost what they do."""
        infos.set_all(ILLEGAL, is_illegal)
        infos.set_all(EXECUTED, executed)
        if not self._is_nearest:
            rewards[is_illegal] = ILLEGAL_ACTION_REWARD


State = TypeVar("State", bound=Episodes)
Action = TypeVar("Action")


class EpisodesEnv(ScalarFace[Action], Generic[State, Action]):
    """One environment; a subclass makes the episodes and documents them."""

    def __init__(self, episodes: State, render_mode: str | None) -> None:
        """Shows episodes of length 1; a subclass reads the arguments."""
        self._episodes = episodes
        self._show(episodes.tasks, render_mode)
        self._is_strict, self._blank = episodes.tasks.illegal is Illegal.RAISE, episodes.blank_info()
        # A single action, if it has one column only.
        self._action, self._count = np.zeros(1, np.int64), int(getattr(self.action_space, "n", 0))

    @property
    def task(self) -> Task:
        """Workload, accelerator and objective of the current episode."""
        return self._episodes.task(0)

    @property
    def mapping(self) -> Mapping:
        """The present mapping."""
        return self._episodes.mapping(0)

    @property
    def _source(self) -> TaskSource:
        return self._episodes.sources[0]

    def _set_source(self, source: TaskSource) -> None:
        self._episodes.set_source(source, _FIRST)

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
        chosen = None if fixed is None else [fixed]
        self._episodes.begin(_FIRST, [self.np_random], chosen, _SEEDED[seed is not None])
        self._blank = self._episodes.blank_info()
        infos = Info(self._blank)
        self._episodes.report(infos)
        self._must_reset = False
        return self._seen(), infos.data

    def step(self, action: Action) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Takes one step.

        Raises:
            SpecificationError: the action is no whole number, or not as many as the action space has columns.
            gymnasium.error.ResetNeeded: the episode is over.
        """
        if self._must_reset:
            self._require_episode()
        # Almost every action is a Python integer that is in the space; any other takes the way through the door.
        number: Any = action
        if type(number) is int and 0 <= number < self._count:
            actions = self._action
            actions[0] = number
        else:
            actions = self._read_action(action)[None]
        if self._is_strict:
            require_legal(actions, _RUNNING, self._episodes.masks, self.where)
        infos = Info(self._blank)
        rewards, over = self._episodes.step(actions, _RUNNING, infos)
        self._must_reset = over.item()
        return self._seen(), rewards.item(), self._must_reset, False, infos.data

    def _seen(self) -> Any:
        """The observation, which nobody else holds."""
        flat = self._episodes.observations[0].copy()
        if self._kind is None:
            return flat
        masks = self._episodes.masks
        return self._kind.of(flat, None if masks is None else masks[0], [self.task])

    def _save(self) -> tuple[int, bytes, Any]:
        return self._episodes.save(0)

    def _restore(self, number: int | None, state: EnvironmentState) -> None:
        self._episodes.restore(0, number, state, [self.np_random], self.where)
        self._blank = self._episodes.blank_info()

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
        self._over, self._elapsed = np.ones(self.num_envs, np.bool_), np.zeros(self.num_envs, np.int64)
        self._is_strict = episodes.tasks.illegal is Illegal.RAISE
        # Kernels take no array that is read-only; nobody writes to this one.
        self._all = np.ones(self.num_envs, np.bool_)
        self._has_columns = len(self.single_action_space.shape or ()) > 0
        self._generators = Generators(self.num_envs)
        self._is_waiting = self.autoreset_mode is AutoresetMode.DISABLED
        self._restarts = self.autoreset_mode is AutoresetMode.SAME_STEP
        self._returned: list[NDArray[np.float32]] = []

    @property
    def _sources(self) -> list[TaskSource]:
        return self._episodes.sources

    @property
    def _in_use(self) -> set[int]:
        return set(self._episodes.task_of.tolist())

    def _set_source(self, source: TaskSource, rows: NDArray[np.int64]) -> None:
        self._episodes.set_source(source, rows)

    def tasks(self) -> list[Task]:
        """The current task of each environment."""
        return [self._episodes.task(i) for i in range(self.num_envs)]

    def mappings(self) -> list[Mapping]:
        """The present mapping of each environment."""
        return [self._episodes.mapping(i) for i in range(self.num_envs)]

    def get_state(self, row: int, *, random: bool = True) -> EnvironmentState:
        """Saves where one environment is, as the scalar environment does; either may go on from there."""
        row = self._read_row(row)
        generator = self._generators[row].bit_generator.state if random else None
        index, numbers, objects = self._episodes.save(row)
        task, settings = self._episodes.task(row), self._episodes.tasks.settings
        return EnvironmentState(task, index, settings, numbers, objects, bool(self._over[row]), generator)

    def set_state(self, row: int, state: EnvironmentState) -> None:
        """Takes one environment to where a state was saved, as the scalar environment does; the others stay.

        An environment whose state was saved outside of an episode is begun anew by the next step, as are those that
        have not begun at all; where autoreset is disabled, they wait for a reset.

        Raises:
            SpecificationError: there is no such row, it is no state, or it does not fit; nothing has changed then.
        """
        row = self._read_row(row)
        episodes, number = self._episodes, None
        if type(state) is not EnvironmentState or not (
            state.task is episodes.task(row) and state.settings is episodes.tasks.settings
        ):
            number = episodes.tasks.number_of_state(state, self.where, set(episodes.task_of.tolist()))
        generator = self._generators[row]
        check_random(state, generator, self.where)
        episodes.restore(row, number, state, self._generators, self.where)
        if state.random is not None:
            generator.bit_generator.state = state.random
        self._over[row] = state.is_over
        self._must_reset = False

    def _read_row(self, row: Any) -> int:
        # What is right already does not go through the door.
        return row if type(row) is int and 0 <= row < self.num_envs else read_row(row, self.num_envs, self.where)

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
        seeded = np.array([seeds[i] is not None for i in rows], np.bool_)
        for i in rows[seeded]:
            self._generators.seed(i, seeds[i])
        self._episodes.begin(rows, self._generators, fixed, seeded)
        self._over[rows] = self._must_reset = False
        self._elapsed[rows] = 0
        infos = Infos(self.num_envs, self._episodes.blank_infos())
        self._episodes.report(infos)
        return self._output(), infos.data

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
        if self._must_reset or self._is_waiting:
            self._require_episodes(self._over)
        starting = self._over.nonzero()[0]
        running = ~self._over if len(starting) else self._all
        if self._has_columns:
            # The actions of environments that are reset instead are ignored.
            require_columns(actions, self.single_action_space, self.where, running)
        if self._is_strict:
            require_legal(actions, running, self._episodes.masks, self.where)
        if len(starting):
            self._begin_next(starting)
        infos = Infos(self.num_envs, self._episodes.blank_infos())
        rewards, terminations = self._episodes.step(actions, running, infos)
        truncations = np.zeros(self.num_envs, _BOOL)
        self._over = terminations.copy()
        if self._limit is not None:
            self._elapsed[running] += 1
            truncations = self._elapsed >= self._limit
            self._over |= truncations
        if self._restarts and self._over.any():
            infos = self._restart_now(self._over.copy(), infos)
        return self._output(), rewards, terminations, truncations, infos.data

    def _begin_next(self, rows: NDArray[np.int64]) -> None:
        """Starts the next episode of some environments."""
        self._episodes.begin(rows, self._generators, None, np.zeros(len(rows), np.bool_))
        self._over[rows] = False
        self._elapsed[rows] = 0

    def _restart_now(self, done: NDArray[np.bool_], before: Infos) -> Infos:
        """Resets environments in the step in which they finished; what they ended with goes into the infos."""
        rows, final_info = np.flatnonzero(done), before.select(done)
        final_obs = np.full(self.num_envs, None, dtype=object)
        for i in rows.tolist():
            final_obs[i] = self._seen_by(i)
        self._begin_next(rows)
        infos = Infos(self.num_envs, self._episodes.blank_infos())
        infos.take_over(before, ~done)
        self._episodes.report(infos)
        infos.data |= {
            "final_obs": final_obs,
            "_final_obs": done.copy(),
            "final_info": final_info,
            "_final_info": done.copy(),
        }
        return infos

    def _seen_by(self, row: int) -> Any:
        """The observation of one environment."""
        flat, masks = self._episodes.observations[row].copy(), self._episodes.masks
        if self._kind is None:
            return flat
        return self._kind.of(flat, None if masks is None else masks[row], [self._episodes.task(row)])

    def _output(self) -> Any:
        """The observations, which nobody else holds."""
        flat = self._flat_output()
        return flat if self._kind is None else self._kind.of(flat, self._episodes.masks, self.tasks())

    def _flat_output(self) -> NDArray[np.float32]:
        """The flat observations, in an array that nobody else holds."""
        observations = self._episodes.observations
        if not self._episodes.copies:
            return read_only(observations)
        if observations.nbytes <= _SMALL:
            return observations.copy()
        for index in range(len(self._returned)):
            if sys.getrefcount(self._returned[index]) == _UNSHARED:
                # The caller has dropped this one. Fresh memory would cost a third of a step in page faults.
                self._returned[index][:] = observations
                return self._returned[index]
        self._returned = [observations.copy(), *self._returned[: _MAX_RETURNED - 1]]
        return self._returned[0]

    def _render(self, mode: str, row: int) -> Any:
        return self._episodes.render(mode, row)


_HELD = [np.zeros(1, np.float32)]
_UNSHARED = sys.getrefcount(_HELD[0])
"""References to an array that only its list holds, as they are counted where arrays are returned."""
