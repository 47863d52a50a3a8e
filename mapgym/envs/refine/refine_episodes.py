"""Episodes that improve complete mappings, edit by edit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.envs.common import rendering
from mapgym.envs.common.episodes import Episodes
from mapgym.envs.common.infos import EXHAUSTED, MASK, NOTHING, Infos, read_only
from mapgym.envs.refine.refine_kernels import (
    REFUSED,
    START,
    BookArrays,
    ChoiceArrays,
    edit_each,
    edit_rows,
    settle_rows,
    step_rows,
    step_rows_with_features,
)
from mapgym.envs.refine.refine_tasks import RefineTask, RefineTasks
from mapgym.mapping import Mapping, MappingBatch
from mapgym.mapping.canonical_kernels import normalise_batch
from mapgym.mapping.maps import Arrays
from mapgym.warmstart import ReplayBuffer

if TYPE_CHECKING:
    from mapgym.envs.common.tasks import TaskSource


class _Mappings(NamedTuple):
    """The mappings of every environment, of which those count that have a task."""

    prepared: RefineTask
    present: MappingBatch
    best: MappingBatch
    present_arrays: Arrays
    best_arrays: Arrays


class RefineEpisodes(Episodes):
    """The state of n environments ``MapSpaceRefine-v0``.

    Attributes:
        masks: int8[n, actions], the legal actions.
        edits_left: int64[n].
        values, first, best: float64[n], -ln(cost / lower bound) of the present, the first and the best mapping; NaN
            where an evaluator refused to price the start.
        figures: float64[figure, n], see :class:`mapgym.envs.common.reward.Pricing`, of the present mapping.
        is_stuck: bool[n], whether no edit is legal.
    """

    tasks: RefineTasks
    masks: NDArray[np.int8]

    def __init__(self, n: int, tasks: RefineTasks) -> None:
        super().__init__(n, tasks)
        self.masks = np.zeros((n, int(tasks.action_space.n)), np.int8)
        self.edits_left = np.zeros(n, np.int64)
        self.values, self.first, self.best = (np.zeros(n) for _ in range(3))
        self.figures = np.full((len(tasks.prepared[0].pricing.names), n), np.nan)
        self.is_stuck, self._random_start = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
        self._tell_starts()
        # The arrays of mapgym.envs.refine.refine_kernels.Books.
        self._books: BookArrays = (
            *(self.edits_left, self.is_stuck, self.values, self.first, self.best),
            *(self.figures, self.masks, self.observations),
        )
        self._nothing = np.full(n, NOTHING)
        self._rules = (tasks.steps, tasks.is_best, tasks.has_stop, self._is_nearest)
        # By the numbers of tasks, which get other tasks in time: what was kept for another one is of no use.
        self._mappings: dict[int, _Mappings] = {}
        self._transferred: dict[int, tuple[RefineTask, int, MappingBatch]] = {}

    def mapping(self, row: int) -> Mapping:
        """The present mapping of an environment."""
        return self._of(int(self.task_of[row])).present[[row]][0]

    def best_mapping(self, row: int) -> Mapping:
        """The best mapping of the episode of an environment."""
        return self._of(int(self.task_of[row])).best[[row]][0]

    def _of(self, number: int) -> _Mappings:
        """The mappings of a task."""
        prepared = self.tasks.prepared[number]
        kept = self._mappings.get(number)
        if kept is None or kept.prepared is not prepared:
            present = MappingBatch.trivial(prepared.task.workload, prepared.task.accelerator, self.n)
            best = present.copy()
            kept = self._mappings[number] = _Mappings(prepared, present, best, present.arrays(), best.arrays())
        return kept

    def arrays(self, row: int) -> tuple[NDArray[Any], ...]:
        """Mappings, their values and the mask; see :class:`mapgym.envs.common.episodes.Episodes`."""
        one, mappings = slice(row, row + 1), self._of(int(self.task_of[row]))
        own = (self.edits_left, self.is_stuck, self.values, self.first, self.best, self._random_start)
        tables = (self.figures[:, row], self.masks[row])
        loops = [array[row] for arrays in (mappings.present_arrays, mappings.best_arrays) for array in arrays]
        return *super().arrays(row), *tables, *(array[one] for array in own), *loops

    def begin(
        self,
        rows: NDArray[np.int64],
        generators: Sequence[np.random.Generator],
        fixed: Sequence[TaskSource] | None,
        seeded: NDArray[np.bool_],
    ) -> None:
        """Starts an episode in some environments; see :class:`mapgym.envs.common.episodes.Episodes`."""
        self.draw(rows, generators, fixed)
        chosen = np.full(self.n, START, np.int64)
        for prepared, number, among in self.by_task(rows):
            starts = []
            for k in among:
                start = self._start(prepared, number, int(rows[k]))
                self._random_start[rows[k]] = start is None
                starts.append(prepared.space.sample(generators[rows[k]], 1) if start is None else start)
            batch = starts[0] if len(starts) == 1 else MappingBatch.concatenate(starts)
            normalise_batch(batch.arrays(), prepared.space.sorting)
            some = rows[among]
            self._of(number).present[some] = batch
            self.observations[some] = prepared.static
            figures = prepared.pricing.unknown(len(some))
            priced = prepared.pricing.figures(batch)
            figures[:, : priced.shape[1]] = priced
            self._settle(prepared, number, some, chosen, figures, np.empty(self.n), np.empty(self.n, np.bool_))
        self._tell_starts()

    def report(self, infos: Infos) -> None:
        """Says the masks; see :class:`mapgym.envs.common.episodes.Episodes`."""
        infos.set_all(MASK, self.masks.copy())

    def _tell_starts(self) -> None:
        """Lets infos say how episodes have begun, if they do not say so already."""
        told = self._standing.get("random_start")
        if told is None or told.tobytes() != self._random_start.tobytes():
            self.tell(random_start=read_only(self._random_start.copy()))

    def restore_objects(self, row: int, objects: Any) -> None:
        """Tells what the numbers of the state say."""
        self._tell_starts()

    def _start(self, prepared: RefineTask, number: int, row: int) -> MappingBatch | None:
        """The mapping that an environment starts from; None for a random one."""
        start = self.tasks.start
        if isinstance(start, ReplayBuffer):
            return self._from_buffer(start, prepared, number)
        return None if start == "random" else self.tasks.given_start(prepared)

    def _from_buffer(self, buffer: ReplayBuffer, prepared: RefineTask, number: int) -> MappingBatch | None:
        """The transferred nearest entry of a buffer; None if there is none that can be transferred."""
        kept = self._transferred.get(number)
        # A buffer that has grown may have a nearer entry.
        if kept is None or kept[0] is not prepared or kept[1] != len(buffer):
            found = buffer.initial(prepared.space, prepared.task.objective)
            kept = self._transferred[number] = prepared, len(buffer), found
        return kept[2] if len(kept[2]) else None

    def step(
        self, actions: NDArray[np.int64], running: NDArray[np.bool_], infos: Infos
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Makes one edit; see :class:`mapgym.envs.common.episodes.Episodes`."""
        chosen, executed = np.empty(self.n, np.int64), self._nothing.copy()
        rewards, over, is_illegal = np.zeros(self.n), np.zeros(self.n, np.bool_), np.zeros(self.n, np.bool_)
        rows = running.nonzero()[0]
        for prepared, number, among in self.by_task(rows):
            some = rows if len(among) == len(rows) else rows[among]
            self._step_task(prepared, number, some, actions, (chosen, executed, is_illegal), rewards, over)
        self.report(infos)
        self.report_actions(executed, is_illegal, rewards, infos)
        ended = over.nonzero()[0]
        if len(ended):
            refused = ended[chosen[ended] == REFUSED]
            self._report_end(ended, refused, infos)
        return rewards, over

    def _report_end(self, ended: NDArray[np.int64], refused: NDArray[np.int64], infos: Infos) -> None:
        """Says what the last info of an episode says."""
        infos.set("edits", ended, self.tasks.steps - self.edits_left[ended])
        for prepared, _, among in self.by_task(ended):
            some = ended[among]
            infos.set_rows(prepared.pricing.metric_names, some, _known(self.figures[1:, some]))
        infos.set("first_ratio", ended, _known(np.exp(-self.first[ended])))
        infos.set("best_ratio", ended, _known(np.exp(-self.best[ended])))
        infos.mark(EXHAUSTED, refused)
        self._finish(ended)

    def _finish(self, rows: NDArray[np.int64]) -> None:
        """Called with the environments whose episodes have ended."""

    def _step_task(
        self,
        prepared: RefineTask,
        number: int,
        rows: NDArray[np.int64],
        actions: NDArray[np.int64],
        choices: ChoiceArrays,
        rewards: NDArray[np.float64],
        over: NDArray[np.bool_],
    ) -> None:
        """Edits and prices the mappings of one task; fills the entries of its environments, rows, of the last three."""
        mappings, is_counted = self._of(number), self.tasks.evaluator is not None
        dense = prepared.pricing.dense_model
        if dense is not None and len(rows) == self.n and not prepared.is_masked_late:
            (step_rows_with_features if dense.has_features else step_rows)(
                rows,
                actions,
                (mappings.present_arrays, mappings.best_arrays),
                prepared.pages,
                self._books,
                dense.arrays,
                self._rules,
                choices,
                (rewards, over),
            )
            return
        present = mappings.present
        # A mapping whose cost nobody knows is no result: the episode ends with the one before.
        before = present[rows] if is_counted else None
        edit_rows(
            rows,
            actions,
            mappings.present_arrays,
            prepared.pages,
            self._books,
            self._is_nearest,
            choices,
        )
        chosen = choices[0]
        if before is None:
            # To price again what has not changed is cheaper than to choose.
            figures = prepared.pricing.figures(present if len(rows) == self.n else present[rows])
        else:
            figures = np.empty((len(self.figures), len(rows)))
            edited = (chosen[rows] >= 0).nonzero()[0]
            priced = prepared.pricing.figures(present[rows[edited]])
            count = priced.shape[1]
            figures[:, edited[:count]] = priced
            refused = edited[count:]
            chosen[rows[refused]] = REFUSED
            present[rows[refused]] = before[refused]
        self._settle(prepared, number, rows, chosen, figures, rewards, over)

    def _settle(
        self,
        prepared: RefineTask,
        number: int,
        rows: NDArray[np.int64],
        chosen: NDArray[np.int64],
        figures: NDArray[np.float64],
        rewards: NDArray[np.float64],
        over: NDArray[np.bool_],
    ) -> None:
        """Brings everything up to date when the mappings of one task are edited and priced."""
        mappings = self._of(number)
        settle_rows(
            rows,
            chosen,
            figures,
            self.tasks.steps,
            self.tasks.is_best,
            self.tasks.has_stop,
            (mappings.present_arrays, mappings.best_arrays),
            prepared.pages,
            self._books,
            (rewards, over),
        )
        if prepared.is_masked_late:
            for i in rows:
                self._mask_late(prepared, mappings.present, i)

    def _mask_late(self, prepared: RefineTask, present: MappingBatch, row: int) -> None:
        """Takes edits off a mask that leave no room for the metadata of compressed tiles."""
        if self.is_stuck[row]:
            return
        mask = self.masks[row]
        actions = mask[: len(prepared.actions)].nonzero()[0]
        results = present[np.full(len(actions), row)]
        edit_each(np.arange(len(actions)), actions, results.arrays(), prepared.pages)
        mask[actions] = prepared.is_legal(results)
        if not mask.any():
            self.is_stuck[row], mask[0] = True, 1

    def render(self, mode: str, row: int) -> Any:
        """The loop nest as text, or a picture of it."""
        mapping, task = self.mapping(row), self.task(row)
        left = f"{self.edits_left[row]} edits left"
        if mode == "ansi":
            prepared: RefineTask = self.tasks.prepared[self.task_of[row]]
            legal = {int(k): self.tasks.meaning(prepared, int(k)) for k in self.masks[row].nonzero()[0]}
            return f"{mapping.to_text()}\n{left}\n{rendering.choices_text(legal)}"
        words = rendering.tile_words
        return rendering.draw(task, left, mapping, lambda s: words(task, s, mapping), self.tasks.layout)


def _known(figures: NDArray[np.float64]) -> NDArray[np.float64]:
    """Figures as infos have them: blank where nobody knows them."""
    return np.where(np.isnan(figures), NOTHING, figures)
