"""Episodes that improve complete mappings, edit by edit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapgym.envs.common import rendering
from mapgym.envs.common.episodes import Episodes, Infos
from mapgym.envs.refine.refine_kernels import edit_each, edit_many
from mapgym.envs.refine.refine_tasks import BEST_LOG_RATIO, EDITS_LEFT, LOG_RATIO, RefineTask, RefineTasks
from mapgym.mapping import Mapping, MappingBatch
from mapgym.mapping.canonical_kernels import normalise_batch
from mapgym.warmstart import ReplayBuffer

if TYPE_CHECKING:
    from mapgym.envs.common.tasks import TaskSource

_NOTHING = -1
_LOG_RATIO_OF_HALF = 4.0


def squash_log_ratio(log_ratio: NDArray[np.float64]) -> NDArray[np.float64]:
    """Maps ln(cost / lower bound) from [0, inf] into [0, 1]: a cost of e**4 = 55 times the bound to 1/2."""
    positive = np.maximum(log_ratio, 0.0)
    return np.where(np.isfinite(positive), positive / (_LOG_RATIO_OF_HALF + positive), 1.0)


class RefineEpisodes(Episodes):
    """The state of n environments ``MapSpaceRefine-v0``.

    Attributes:
        masks: int8[n, actions], the legal actions.
        edits_left: int64[n].
        values, first, best: float64[n], -ln(cost / lower bound) of the present, the first and the best mapping; NaN
            where an evaluator refused to price the start.
    """

    tasks: RefineTasks

    def __init__(self, n: int, tasks: RefineTasks) -> None:
        super().__init__(n, tasks)
        self.masks = np.zeros((n, int(tasks.action_space.n)), np.int8)
        self.edits_left = np.zeros(n, np.int64)
        self.values, self.first, self.best = (np.zeros(n) for _ in range(3))
        self._metrics: dict[str, NDArray[np.float64]] = {}
        self._random_start = np.zeros(n, np.bool_)
        # By the numbers of tasks, which get other tasks in time: what was kept for another one is of no use.
        self._mappings: dict[int, tuple[RefineTask, MappingBatch, MappingBatch]] = {}
        self._transferred: dict[int, tuple[RefineTask, int, MappingBatch]] = {}

    def mapping(self, row: int) -> Mapping:
        """The present mapping of an environment."""
        return self._of(int(self.task_of[row]))[0][[row]][0]

    def best_mapping(self, row: int) -> Mapping:
        """The best mapping of the episode of an environment."""
        return self._of(int(self.task_of[row]))[1][[row]][0]

    def _of(self, number: int) -> tuple[MappingBatch, MappingBatch]:
        """The present and the best mapping of every environment, of which those count that have this task."""
        prepared = self.tasks.prepared[number]
        kept = self._mappings.get(number)
        if kept is None or kept[0] is not prepared:
            trivial = MappingBatch.trivial(prepared.task.workload, prepared.task.accelerator, self.n)
            kept = self._mappings[number] = prepared, trivial, trivial.copy()
        return kept[1:]

    def arrays(self, row: int) -> tuple[NDArray[Any], ...]:
        """Mappings, their values and the mask; see :class:`mapgym.envs.common.episodes.Episodes`."""
        one = slice(row, row + 1)
        own = (self.edits_left, self.values, self.first, self.best, self._random_start)
        mappings = [array[row] for batch in self._of(int(self.task_of[row])) for array in batch.arrays()]
        return *super().arrays(row), self.masks[row], *(array[one] for array in own), *mappings

    def objects(self, row: int) -> Any:
        """The metrics of the present mapping."""
        return {name: float(values[row]) for name, values in self._metrics.items()}

    def restore_objects(self, row: int, objects: Any) -> None:
        """Takes metrics; those that the state does not know are unknown."""
        for name in {**self._metrics, **objects}:
            self._metrics.setdefault(name, np.full(self.n, np.nan))[row] = objects.get(name, np.nan)

    def begin(
        self,
        rows: NDArray[np.int64],
        generators: Sequence[np.random.Generator],
        fixed: Sequence[TaskSource] | None,
        seeded: NDArray[np.bool_],
    ) -> None:
        """Starts an episode in some environments; see :class:`mapgym.envs.common.episodes.Episodes`."""
        self.draw(rows, generators, fixed)
        self.edits_left[rows] = self.tasks.steps
        for values in self._metrics.values():
            values[rows] = np.nan
        for prepared, number, chosen in self.by_task(rows):
            starts = []
            for k in chosen:
                start = self._start(prepared, number, int(rows[k]))
                self._random_start[rows[k]] = start is None
                starts.append(prepared.space.sample(generators[rows[k]], 1) if start is None else start)
            batch = MappingBatch.concatenate(starts)
            normalise_batch(batch.arrays(), prepared.space.sorting)
            present, best = self._of(number)
            some = rows[chosen]
            present[some] = batch
            best[some] = batch
            self.observations[some] = prepared.static
            self._edit(prepared, number, some, np.full(len(some), _NOTHING))
            priced = self._price(prepared, number, some)
            self.values[some[priced:]] = np.nan
            self.first[some] = self.best[some] = self.values[some]
        self._observe(rows)

    def report(self, rows: NDArray[np.int64], infos: Infos) -> None:
        """Says what the info of a reset says; see :class:`mapgym.envs.common.episodes.Episodes`."""
        infos.set("action_mask", rows, self.masks[rows])
        infos.set("illegal_action", rows, np.zeros(len(rows), np.bool_))
        infos.set("random_start", rows, self._random_start[rows])

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
        self.report(np.flatnonzero(~running), infos)
        rows = np.flatnonzero(running)
        stop = self.masks.shape[1] - 1
        chosen, illegal = self._legal(rows, actions[rows])
        before = self.values[rows].copy()
        unpriced = np.isnan(before)
        chosen[unpriced] = stop
        edited = chosen != stop
        for prepared, number, among in self.by_task(rows):
            unpriced[among] |= self._step_task(prepared, number, rows[among], chosen[among])
        self.edits_left[rows[edited & ~unpriced]] -= 1
        is_last = ~edited | unpriced | (self.edits_left[rows] == 0)
        rewards, over = np.zeros(self.n), np.zeros(self.n, np.bool_)
        rewards[rows] = np.where(unpriced, 0.0, self.values[rows] - before)
        over[rows] = is_last
        self._observe(rows)
        infos.set("action_mask", rows, self.masks[rows])
        infos.set("illegal_action", rows, illegal)
        ended = rows[is_last]
        infos.set("edits", ended, self.tasks.steps - self.edits_left[ended])
        infos.set_metrics(ended, {name: values[ended] for name, values in self._metrics.items()})
        infos.set_metrics(ended, {"first_ratio": np.exp(-self.first[ended]), "best_ratio": np.exp(-self.best[ended])})
        infos.set("budget_exhausted", rows[unpriced], np.ones(int(unpriced.sum()), np.bool_))
        self._finish(ended)
        return rewards, over

    def _finish(self, rows: NDArray[np.int64]) -> None:
        """Called with the environments whose episodes have ended."""

    def _step_task(
        self, prepared: RefineTask, number: int, rows: NDArray[np.int64], chosen: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Edits and prices the mappings of one task; returns which of them an evaluator refused to price."""
        refused = np.zeros(len(rows), np.bool_)
        edits = np.flatnonzero(chosen != self.masks.shape[1] - 1)
        if not len(edits):
            return refused
        edited = rows[edits]
        present, best = self._of(number)
        before = present[edited]
        self._edit(prepared, number, edited, chosen[edits])
        priced = self._price(prepared, number, edited)
        if priced < len(edited):
            # A mapping whose cost nobody knows is no result: the episode ends with the one before.
            refused[edits[priced:]] = True
            present[edited[priced:]] = before[priced:]
            self._edit(prepared, number, edited[priced:], np.full(len(edited) - priced, _NOTHING))
        improved = edited[self.values[edited] > self.best[edited]]
        self.best[improved] = self.values[improved]
        best[improved] = present[improved]
        return refused

    def _legal(
        self, rows: NDArray[np.int64], actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The actions with the nearest legal one in the place of each illegal one; and which were illegal."""
        count = self.masks.shape[1]
        inside = (actions >= 0) & (actions < count)
        chosen = np.clip(actions, 0, count - 1).astype(np.int64)
        illegal = ~inside | (self.masks[rows, chosen] == 0)
        for k in np.flatnonzero(illegal):
            legal = np.flatnonzero(self.masks[rows[k]])
            chosen[k] = legal[np.argmin(np.abs(legal - chosen[k]))]
        return chosen, illegal

    def _edit(self, prepared: RefineTask, number: int, rows: NDArray[np.int64], chosen: NDArray[np.int64]) -> None:
        """Edits mappings of one task and brings their masks and observations up to date."""
        present, space = self._of(number)[0], prepared.space
        maps = present.arrays()
        edit_many(
            rows,
            chosen,
            maps,
            prepared.scratch.arrays(),
            space.sorting,
            space.edit_tables,
            prepared.actions,
            prepared.scales,
            self.masks,
            self.observations,
        )
        if prepared.is_masked_late:
            for i in rows:
                actions = np.flatnonzero(self.masks[i, :-1])
                results = present[np.full(len(actions), i)]
                edit_each(np.arange(len(actions)), actions, results.arrays(), space.sorting, prepared.actions)
                self.masks[i, actions] = prepared.is_legal(results)

    def _price(self, prepared: RefineTask, number: int, rows: NDArray[np.int64]) -> int:
        """Prices mappings of one task; returns how many before the evaluator's budget ended."""
        metrics = prepared.pricing.evaluate(self._of(number)[0][rows])
        values = metrics.pop("reward")
        priced = rows[: len(values)]
        self.values[priced] = values
        for name in self._metrics.keys() - metrics.keys():
            self._metrics[name][priced] = np.nan
        for name, column in metrics.items():
            self._metrics.setdefault(name, np.full(self.n, np.nan))[priced] = column
        return len(priced)

    def _observe(self, rows: NDArray[np.int64]) -> None:
        """Writes what observations say about the episode."""
        fields = self.tasks.layout.fields
        self.observations[rows, fields[EDITS_LEFT].start] = self.edits_left[rows] / self.tasks.steps
        self.observations[rows, fields[LOG_RATIO].start] = squash_log_ratio(-self.values[rows])
        self.observations[rows, fields[BEST_LOG_RATIO].start] = squash_log_ratio(-self.best[rows])

    def render(self, mode: str, row: int) -> Any:
        """The loop nest as text, or a picture of it."""
        mapping, task = self.mapping(row), self.task(row)
        left = f"{self.edits_left[row]} edits left"
        if mode == "ansi":
            return f"{mapping.to_text()}\n{left}"
        words = rendering.tile_words
        return rendering.draw(task, left, mapping, lambda s: words(task, s, mapping), self.tasks.layout)
