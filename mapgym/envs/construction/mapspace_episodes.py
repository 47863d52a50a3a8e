"""Episodes that build mappings side by side, one compiled call for a step of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation.array_kernels import pack_arrays
from mapgym.envs.common import rendering
from mapgym.envs.common.episodes import Episodes
from mapgym.envs.common.infos import EXHAUSTED, MASK, Infos, read_only
from mapgym.envs.construction.mapspace_tasks import MapSpaceTasks, PreparedTask
from mapgym.envs.construction.step_kernels import reset_many, step_many
from mapgym.mapping import Mapping, MappingBatch

if TYPE_CHECKING:
    from mapgym.envs.common.tasks import TaskSource


# NumPy takes as long to find out what np.int64 stands for as to make the array.
_INT64, _BOOL = np.dtype(np.int64), np.dtype(np.bool_)


class MapSpaceEpisodes(Episodes):
    """The state of n environments ``MapSpace-v0``.

    Attributes:
        masks: int8[n, actions], the legal actions.
        states: int32[n, any], of the construction.
    """

    tasks: MapSpaceTasks
    masks: NDArray[np.int8]

    def __init__(self, n: int, tasks: MapSpaceTasks, *, copies: bool) -> None:
        super().__init__(n, tasks)
        self.copies = copies
        self.masks = np.zeros((n, int(tasks.action_space.n)), np.int8)
        self.states = np.zeros((n, 1), np.int32)
        # For each task, the environments that the last step has completed, and their states then.
        self._ended: list[tuple[PreparedTask, NDArray[np.int64], NDArray[np.int32]]] = []
        self._packed: list[PreparedTask] = []
        self._place(np.arange(n))

    @property
    def finished(self) -> list[tuple[NDArray[np.int64], MappingBatch]]:
        """For each task, the environments and the mappings that were completed in the last step."""
        return [(rows, prepared.finish(states, np.arange(len(rows)))[0]) for prepared, rows, states in self._ended]

    def mapping(self, row: int) -> Mapping:
        """The mapping of an environment as far as it is decided; undecided factors are 1."""
        prepared: PreparedTask = self.tasks.prepared[self.task_of[row]]
        return prepared.mapping(self.states[row])

    def begin(
        self,
        rows: NDArray[np.int64],
        generators: Sequence[np.random.Generator],
        fixed: Sequence[TaskSource] | None,
        seeded: NDArray[np.bool_],
    ) -> None:
        """Starts an episode in some environments; see :class:`mapgym.envs.common.episodes.Episodes`."""
        self.draw(rows, generators, fixed)
        self._place(rows)

    def arrays(self, row: int) -> tuple[NDArray[Any], ...]:
        """In the order of :class:`mapgym.envs.construction.episode_memory.EpisodeMemory`."""
        prepared: PreparedTask = self.tasks.prepared[self.task_of[row]]
        self._widen(len(prepared.initial_state))
        return self.states[row, : len(prepared.initial_state)], self.observations[row], self.masks[row]

    def make_room(self, row: int) -> None:
        """Puts an environment at the beginning of its task, which may be new to the kernels."""
        self._place(np.array([row]))

    def _place(self, rows: NDArray[np.int64]) -> None:
        """Puts environments at the beginning of their tasks."""
        if self.tasks.prepared != self._packed or self._beginnings[0].shape[1] < self.states.shape[1]:
            self._pack()
        reset_many(self._beginnings, self.task_of, rows, (self.states, self.observations, self.masks))

    def _widen(self, size: int) -> None:
        """Gives states room for so many entries."""
        if size > self.states.shape[1]:
            self.states = np.pad(self.states, ((0, 0), (0, size - self.states.shape[1])))

    def _pack(self) -> None:
        """Joins the tables of all prepared tasks, so that the kernels take a fixed number of arrays."""
        prepared = self._packed = list(self.tasks.prepared)
        tables, numbers = [task.table for task in prepared], [task.numbers for task in prepared]
        starts = np.array([np.cumsum([0, *map(len, tables)]), np.cumsum([0, *map(len, numbers)])])
        layout = self.tasks.layout.table
        self._whole, self._floats, *_ = pack_arrays([np.concatenate(tables), np.concatenate(numbers), starts, layout])
        size = max(self.states.shape[1], *(len(task.initial_state) for task in prepared))
        states = [np.pad(task.initial_state, (0, size - len(task.initial_state))) for task in prepared]
        observations, masks = zip(*((task.initial_observation, task.initial_mask) for task in prepared), strict=True)
        self._beginnings = np.stack(states), np.stack(observations), np.stack(masks)
        self._widen(size)

    def report(self, infos: Infos) -> None:
        """Says the masks; see :class:`mapgym.envs.common.episodes.Episodes`."""
        infos.set_all(MASK, self.masks.copy() if self.copies else read_only(self.masks))

    def step(
        self, actions: NDArray[np.int64], running: NDArray[np.bool_], infos: Infos
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Takes one decision; see :class:`mapgym.envs.common.episodes.Episodes`."""
        n = self.n
        rewards, executed = np.empty(n), np.empty(n, _INT64)
        over, is_illegal = np.empty(n, _BOOL), np.empty(n, _BOOL)
        ended = step_many(
            self._whole,
            self._floats,
            (self.states, self.observations, self.masks),
            self.task_of,
            running,
            actions,
            self.tasks.is_shaped,
            self._is_nearest,
            (rewards, over, executed, is_illegal),
        )
        self.report(infos)
        self.report_actions(executed, is_illegal, rewards, infos)
        self._ended = []
        if not ended:
            return rewards, over
        done = over.nonzero()[0]
        # Environments are priced in their order, as scalar ones would be, so that a budget ends at the same mapping.
        for prepared, _, among in self.by_task(done):
            self._price(prepared, done[among], rewards, infos)
        return rewards, over

    def _price(
        self, prepared: PreparedTask, rows: NDArray[np.int64], rewards: NDArray[np.float64], infos: Infos
    ) -> None:
        """Prices the mappings of one task that are complete; adds to rewards and to what infos say."""
        self._ended.append((prepared, rows, self.states[rows]))
        figures, changed = prepared.price(self.states, rows)
        if changed is not None:
            infos.set("repaired", rows, changed)
        count = figures.shape[1]
        priced = rows[:count]
        rewards[priced] += figures[0]
        infos.set_rows(prepared.pricing.metric_names, priced, figures[1:])
        infos.mark(EXHAUSTED, rows[count:])

    def render(self, mode: str, row: int) -> Any:
        """The loop nest so far as text, or a picture of it."""
        prepared: PreparedTask = self.tasks.prepared[self.task_of[row]]
        state = self.states[row]
        mapping, mask = prepared.mapping(state), self.masks[row]
        return rendering.render(mode, prepared.task, prepared.table, state, mapping, self.tasks.layout, mask)
