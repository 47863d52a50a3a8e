"""Episodes of one step, in which an action says a whole mapping."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapgym.envs.common import rendering
from mapgym.envs.common.episodes import Episodes
from mapgym.envs.common.infos import EXHAUSTED, Infos
from mapgym.envs.one_shot.one_shot_tasks import OneShotTasks
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

    def mapping(self, row: int) -> Mapping:
        """The mapping of an environment; the trivial one before its step."""
        built, task = self._built[row], self.task(row)
        return Mapping.trivial(task.workload, task.accelerator) if built is None else built[0][built[1]]

    def begin(
        self,
        rows: NDArray[np.int64],
        generators: Sequence[np.random.Generator],
        fixed: Sequence[TaskSource] | None,
        seeded: NDArray[np.bool_],
    ) -> None:
        """Starts an episode in some environments; see :class:`mapgym.envs.common.episodes.Episodes`."""
        self.draw(rows, generators, fixed)
        self.generators = generators
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
            rows = stepping[among]
            batch, fits, repaired = prepared.build(actions[rows])
            for lost in (~fits).nonzero()[0]:
                # No repair makes it legal.
                batch[[lost]] = prepared.space.sample(self.generators[rows[lost]], 1)
                repaired[lost] = True
            for k, i in enumerate(rows.tolist()):
                self._built[i] = batch, k
            infos.set("repaired", rows, repaired)
            figures = prepared.pricing.figures(batch)
            priced, refused = rows[: figures.shape[1]], rows[figures.shape[1] :]
            rewards[priced] = figures[0]
            for name, values in prepared.pricing.metrics(figures).items():
                infos.set(name, priced, values)
            infos.set(EXHAUSTED, refused, np.ones(len(refused), np.bool_))
        return rewards, running.copy()

    def render(self, mode: str, row: int) -> Any:
        """The loop nest as text, or a picture of it."""
        mapping, task = self.mapping(row), self.task(row)
        if mode == "ansi":
            return mapping.to_text()
        title, layout = task.workload.name, self.tasks.layout
        return rendering.draw(task, title, mapping, lambda s: rendering.tile_words(task, s, mapping), layout)
