"""Episodes of one step, in which an action says a whole mapping."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapgym.envs.common import rendering
from mapgym.envs.common.episodes import Episodes
from mapgym.envs.common.infos import EXHAUSTED, Infos
from mapgym.envs.one_shot.one_shot_tasks import Built, OneShotTask, OneShotTasks
from mapgym.mapping import Mapping, MappingBatch

if TYPE_CHECKING:
    from mapgym.envs.common.tasks import TaskSource


class OneShotEpisodes(Episodes):
    """The state of n environments ``MapSpaceOneShot-v0``."""

    tasks: OneShotTasks

    def __init__(self, n: int, tasks: OneShotTasks) -> None:
        super().__init__(n, tasks)
        # The batch in which the mapping of each environment is, and its place there.
        self._built: list[tuple[MappingBatch, int] | None] = [None] * n
        # Where the mappings of all environments are, if they have one task; nobody else holds it.
        self._room: tuple[OneShotTask, Built] | None = None

    def mapping(self, row: int) -> Mapping:
        """The mapping of an environment; the trivial one before its step."""
        built, task = self._built[row], self.task(row)
        return Mapping.trivial(task.workload, task.accelerator) if built is None else built[0][[built[1]]][0]

    def begin(
        self,
        rows: NDArray[np.int64],
        generators: Sequence[np.random.Generator],
        fixed: Sequence[TaskSource] | None,
        seeded: NDArray[np.bool_],
    ) -> None:
        """Starts an episode in some environments; see :class:`mapgym.envs.common.episodes.Episodes`."""
        was_settled = self._is_settled
        self.draw(rows, generators, fixed)
        self.generators = generators
        # Observations are of tasks alone.
        if not (was_settled and self._is_settled):
            for prepared, _, among in self.by_task(rows):
                self.observations[rows[among]] = prepared.static
        for i in rows.tolist():
            self._built[i] = None

    def objects(self, row: int) -> MappingBatch | None:
        """The mapping, once it is there, alone in a batch."""
        built = self._built[row]
        return None if built is None else built[0][[built[1]]]

    def restore_objects(self, row: int, objects: MappingBatch | None) -> None:
        """Takes a mapping."""
        self._built[row] = None if objects is None else (objects, 0)

    def report(self, infos: Infos) -> None:
        """Says nothing: the observation has it all."""

    def step(
        self, actions: NDArray[np.int64], running: NDArray[np.bool_], infos: Infos
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Builds and prices mappings; see :class:`mapgym.envs.common.episodes.Episodes`."""
        rewards = np.zeros(self.n)
        stepping = running.nonzero()[0]
        for prepared, _, among in self.by_task(stepping):
            is_all = len(among) == self.n
            rows = stepping if is_all else stepping[among]
            built = self._room_of(prepared, len(rows), is_all)
            batch, repaired = built.batch, built.differs
            chosen = actions if is_all else actions[rows]
            # Kernels take what lies in one piece and can be written to.
            if not prepared.build(chosen if chosen.flags.carray else chosen.copy(), built):
                for lost in (~built.fits).nonzero()[0]:
                    # No repair makes it legal.
                    batch[[int(lost)]] = prepared.space.sample(self.generators[rows[lost]], 1)
                    repaired[lost] = True
            for k, i in enumerate(rows.tolist()):
                self._built[i] = batch, k
            infos.set("repaired", rows, repaired)
            figures = prepared.pricing.figures(batch)
            count = figures.shape[1]
            priced = rows[:count]
            rewards[priced] = figures[0]
            infos.set_rows(prepared.pricing.metric_names, priced, figures[1:])
            infos.mark(EXHAUSTED, rows[count:])
        return rewards, running.copy()

    def _room_of(self, prepared: OneShotTask, n: int, is_all: bool) -> Built:
        """Room for n mappings of a task; if they are those of all environments, in the place of the ones before."""
        if not is_all:
            return prepared.room(n)
        if self._room is None or self._room[0] is not prepared:
            self._room = prepared, prepared.room(n)
        return self._room[1]

    def render(self, mode: str, row: int) -> Any:
        """The loop nest as text, or a picture of it."""
        mapping, task = self.mapping(row), self.task(row)
        if mode == "ansi":
            return mapping.to_text()
        title, layout = task.workload.name, self.tasks.layout
        return rendering.draw(task, title, mapping, lambda s: rendering.tile_words(task, s, mapping), layout)
