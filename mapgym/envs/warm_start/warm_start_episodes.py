"""Episodes that go through the layers of a network, each begun from the most similar layer solved before."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence, Set as AbstractSet
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapgym.envs.common.infos import read_only
from mapgym.envs.common.task import read_workloads
from mapgym.envs.common.tasks import TaskArguments, TaskSource
from mapgym.envs.refine.refine_episodes import RefineEpisodes
from mapgym.envs.refine.refine_tasks import RefineTask, RefineTasks, is_file
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.mapping import MappingBatch
from mapgym.warmstart import Entry, ReplayBuffer, Similarity, find_start, similarity as similarity_by_name

if TYPE_CHECKING:
    from mapgym.envs.common.task import TaskDistribution
    from mapgym.evaluation.task import Task

DEFAULT_NETWORK = "resnet18"

_TOLD = ("random_starts", "failed_transfers", "solved_layers")


class WarmStartTasks(RefineTasks):
    """The arguments of ``MapSpaceWarmStart-v0``, checked, and the tasks that they stand for.

    Attributes:
        similarity: distance between workloads.
        known: buffers of solved layers that every environment may begin from; they are only read.
        record: the buffer that everything found is added to; None for none.
    """

    def __init__(
        self,
        arguments: TaskArguments,
        axes: Sequence[str] | None,
        steps: int,
        similarity: str | Similarity,
        buffer: Any,
        record: Any,
        constraints: Any,
        reward: str,
        stop: bool,
    ) -> None:
        """Reads the arguments; see :class:`mapgym.envs.MapSpaceWarmStartEnv`."""
        self.similarity = _read_similarity(similarity)
        self.known = [] if buffer is None else [_read_buffer(buffer, "buffer", must_exist=True)]
        self.record = None if record is None else _read_buffer(record, "record", must_exist=False)
        if record is not None and record is buffer and isinstance(record, ReplayBuffer):
            raise SpecificationError(
                "buffer and record are the same ReplayBuffer, so that episodes of the same seed would differ; give "
                "record a buffer of its own, or a path"
            )
        if arguments.tasks is None:
            network = DEFAULT_NETWORK if arguments.workload is None else arguments.workload
            arguments = replace(arguments, workload=read_workloads(network, "network"))
        self._orders: dict[TaskSource, NDArray[np.int64]] = {}
        super().__init__(arguments, axes, steps, "random", constraints, reward, stop)

    def source_of(self, distribution: TaskDistribution, in_use: AbstractSet[int] = frozenset()) -> TaskSource:
        """Makes the tasks of a distribution ready; see :class:`mapgym.envs.common.tasks.EnvironmentTasks`."""
        if not distribution.is_finite or distribution.probabilities is not None:
            raise SpecificationError(
                f"MapSpaceWarmStart-v0 goes through its tasks in order, but those of {distribution!r} are drawn; give "
                "tasks without weights, random_layers and random_accelerators"
            )
        return super().source_of(distribution, in_use)

    def keep(self, sources: Iterable[TaskSource]) -> None:
        """Lets the tasks of these sources stay ready, in the order in which episodes go through them."""
        sources = list(sources)
        super().keep(sources)
        self._orders = {source: _order(source) for source in sources}

    def order_of(self, source: TaskSource) -> NDArray[np.int64]:
        """int64[any]: indices of the tasks of a source as episodes go through them, each task once."""
        return self._orders[source]

    @property
    def shared(self) -> list[Any]:
        """What copies of the environment share."""
        return [*super().shared, *self.known, *([] if self.record is None else [self.record])]


class WarmStartEpisodes(RefineEpisodes):
    """The state of n environments ``MapSpaceWarmStart-v0``.

    Attributes:
        buffers: what each environment has found since its last reset with a seed.
    """

    tasks: WarmStartTasks

    def __init__(self, n: int, tasks: WarmStartTasks) -> None:
        super().__init__(n, tasks)
        self.buffers = [ReplayBuffer() for _ in range(n)]
        # For each environment the place in the order of its next episode, and the best objective of each task.
        self._next = np.zeros(n, np.int64)
        self._best: list[dict[Task, float]] = [{} for _ in range(n)]
        self._random_starts, self._failed_transfers = np.zeros(n, np.int64), np.zeros(n, np.int64)
        # int64[3, n], those and how many layers are solved. Replaced, never changed, as callers get it as it is.
        self._told = np.zeros((3, n), np.int64)
        self._tell(())
        # Which of the buffers a saved state has as well: what is added then goes into a copy.
        self._is_saved = np.zeros(n, np.bool_)

    def begin(
        self,
        rows: NDArray[np.int64],
        generators: Sequence[np.random.Generator],
        fixed: Sequence[TaskSource] | None,
        seeded: NDArray[np.bool_],
    ) -> None:
        """Starts an episode in some environments; with a seed they forget what they have found."""
        for i in rows[seeded]:
            self.buffers[i], self._is_saved[i] = ReplayBuffer(), False
            self._best[i] = {}
            self._next[i] = self._random_starts[i] = self._failed_transfers[i] = 0
        super().begin(rows, generators, fixed, seeded)
        self._tell(rows)

    def arrays(self, row: int) -> tuple[NDArray[Any], ...]:
        """Also how far the sequence of layers is; see :class:`mapgym.envs.common.episodes.Episodes`."""
        own = (self._next, self._random_starts, self._failed_transfers)
        return *super().arrays(row), *(array[row : row + 1] for array in own)

    def objects(self, row: int) -> Any:
        """Also what is solved."""
        self._is_saved[row] = True
        return self.buffers[row], dict(self._best[row])

    def restore_objects(self, row: int, objects: Any) -> None:
        """Takes what was solved."""
        super().restore_objects(row, None)
        self.buffers[row], best = objects
        self._best[row], self._is_saved[row] = dict(best), True
        self._tell([row])

    def _tell(self, rows: Iterable[int]) -> None:
        """Notes what infos say of these environments while their episodes last."""
        told = self._told.copy()
        for i in rows:
            told[:, i] = self._random_starts[i], self._failed_transfers[i], len(self._best[i])
        self._told = read_only(told)
        self.tell(**dict(zip(_TOLD, self._told, strict=True)))

    def draw(
        self, rows: NDArray[np.int64], generators: Sequence[np.random.Generator], fixed: Sequence[TaskSource] | None
    ) -> None:
        """Gives each environment its next layer; one that is fixed takes no turn."""
        if fixed is not None:
            super().draw(rows, generators, fixed)
            return
        numbers, indices = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
        for k, i in enumerate(rows):
            source = self.sources[i]
            order = self.tasks.order_of(source)
            assert source.numbers is not None
            # A state may come from a longer sequence.
            turn = self._next[i] % len(order)
            indices[k] = order[turn]
            numbers[k] = source.numbers[indices[k]]
            self._next[i] = (turn + 1) % len(order)
        self.assign(rows, numbers, indices)

    def set_source(self, source: TaskSource, rows: NDArray[np.int64]) -> None:
        """Lets some environments go through other tasks, from the first; what they have solved they still know."""
        super().set_source(source, rows)
        self._next[rows] = 0

    def _start(self, prepared: RefineTask, number: int, row: int) -> MappingBatch | None:
        """The nearest entry, transferred; None, and counted, if there is none that can be."""
        start = find_start(
            [self.buffers[row], *self.tasks.known],
            prepared.space,
            prepared.task.objective,
            similarity=self.tasks.similarity,
        )
        self._failed_transfers[row] += len(start.failures)
        self._random_starts[row] += not start.sources
        return start.mappings if start.sources else None

    def _finish(self, rows: NDArray[np.int64]) -> None:
        """Adds the best mapping of each episode to the buffer of its environment, if it knows no better one."""
        for i in rows:
            prepared = self.tasks.prepared[self.task_of[i]]
            task, value = prepared.task, math.exp(-self.best[i]) * prepared.pricing.bound
            if value < self._best[i].get(task, math.inf):
                self._best[i][task] = value
                entry = Entry(task.workload, task.accelerator, task.objective, value, self.best_mapping(int(i)))
                if self._is_saved[i]:
                    before, self.buffers[i], self._is_saved[i] = self.buffers[i], ReplayBuffer(), False
                    self.buffers[i].extend(before)
                self.buffers[i].extend([entry])
                if self.tasks.record is not None:
                    self.tasks.record.extend([entry])


def _order(source: TaskSource) -> NDArray[np.int64]:
    """int64[any]: indices of the tasks of a source, accelerator by accelerator, each task once."""
    machines = {task.accelerator: k for k, task in reversed(list(enumerate(source.tasks)))}
    in_order = sorted(source.index_of.values(), key=lambda k: (machines[source.tasks[k].accelerator], k))
    return np.array(in_order, np.int64)


def _read_similarity(similarity: str | Similarity) -> Similarity:
    if isinstance(similarity, str):
        return similarity_by_name(similarity)
    if not callable(similarity):
        raise SpecificationError(f"similarity is {quoted(similarity)}; give the name of one, or a function")
    return similarity


def _read_buffer(buffer: Any, what: str, *, must_exist: bool) -> ReplayBuffer:
    if isinstance(buffer, ReplayBuffer):
        return buffer
    if not isinstance(buffer, str | Path):
        raise SpecificationError(f"{what} is {quoted(buffer)}; give a ReplayBuffer or the path of one")
    if must_exist and not is_file(buffer):
        raise SpecificationError(
            f"{what} is {quoted(Path(buffer))}, and there is no such replay buffer; name one that exists, or make it "
            "with 'mapgym buffer add'"
        )
    try:
        # Otherwise it would be found out when the first episode has ended, and its mapping would be lost.
        if not must_exist and not Path(buffer).absolute().parent.is_dir():
            raise SpecificationError(
                f"{what} is {quoted(Path(buffer))}, and there is no such folder; make the folder first"
            )
        return ReplayBuffer(buffer)
    except OSError as error:
        raise SpecificationError(
            f"{what} is {quoted(Path(buffer))}, which cannot be used ({error.strerror}); name another file"
        ) from None
