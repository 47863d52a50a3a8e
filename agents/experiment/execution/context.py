"""What executing one run takes: the folder it belongs to, what it begins with, who is told how far it is."""

from __future__ import annotations

import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mapgym.agents.base import load_compiled_code
from mapgym.agents.experiment.definition.experiment import Run
from mapgym.agents.experiment.definition.warm_start import WITHIN_EXPERIMENT
from mapgym.agents.experiment.storage.folder import ExperimentFolder
from mapgym.agents.experiment.storage.results import RunResult
from mapgym.agents.interruption import Interruption
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.mapping import Mapping
from mapgym.warmstart import Entry, ReplayBuffer, Start

SECONDS_BETWEEN_REPORTS = 0.2


SECONDS_BETWEEN_TRIALS = 1.0
"""After which work is tried again that another process was at."""


@dataclass(frozen=True)
class Snapshot:
    """How far a search is.

    Attributes:
        samples: mappings priced so far.
        seconds: wall time so far.
        best_value: best objective so far, infinite before the first legal mapping.
        ratio: it over the lower bound.
    """

    samples: int
    seconds: float
    best_value: float
    ratio: float


class Observer:
    """Is told about the progress of an experiment; does nothing by itself, so override what is of interest."""

    def started(self, run: Run) -> None:
        """A run begins."""

    def progressed(self, run: Run, snapshot: Snapshot) -> None:
        """Some time later, several times a second at most."""

    def finished(self, run: Run, result: RunResult, *, was_there: bool) -> None:
        """A run is done, or has failed; ``was_there`` when its result had been in the folder already."""

    def waiting(self, runs: int) -> None:
        """Nothing is left to do but runs that another process is at."""


@dataclass(frozen=True)
class RunContext:
    """What somebody who executes runs needs to know.

    Attributes:
        folder: where results go; it must be opened.
        budget: of each run.
        command: recorded with each result.
    """

    folder: ExperimentFolder
    budget: Budget
    command: str

    def do(self, run: Run, observer: Observer) -> tuple[RunResult, bool] | None:
        """Executes a run and stores its result, unless somebody has done so meanwhile.

        Args:
            run: what to do.
            observer: is told when it begins and how far it is.

        Returns:
            The result, and whether it was there; None if another process is at it.
        """

        def make() -> RunResult:
            observer.started(run)
            return self._attempt(run, lambda snapshot: observer.progressed(run, snapshot))

        return self.folder.do(self.folder.work(run, self.budget, make))

    def _attempt(self, run: Run, report: Callable[[Snapshot], None]) -> RunResult:
        try:
            return execute(run, self.budget, self.command, report, self._start(run))
        except SpecificationError as error:
            failure = str(error)
        except Exception as error:
            # Whatever is wrong with one agent must not stop the others.
            failure = "".join(traceback.format_exception(error)).strip()
        return RunResult.failed(run.config(self.budget), self.command, failure)

    def _start(self, run: Run) -> Start | None:
        """What a run begins with; None if it has no warm start."""
        warm = run.agent.warm_start
        if warm is None:
            return None
        solved = self._solved_before(run) if warm.source in WITHIN_EXPERIMENT else None
        return warm.begin(run.agent.space(run.task), run.task.objective, run.seed, solved)

    def _solved_before(self, run: Run) -> ReplayBuffer:
        """What the runs that a run begins from have found; nothing else, so that it can be repeated."""
        entries = []
        for other in run.begins_from:
            result = self.folder.load(other, self.budget)
            if result is None or result.failure:
                raise SpecificationError(f"it begins from {quoted(other.name)}, which has not come to its end")
            if result.mapping is not None and result.best_value is not None:
                task = other.task
                mapping = Mapping.from_dict(result.mapping, task.workload, task.accelerator)
                entries.append(Entry(task.workload, task.accelerator, task.objective, result.best_value, mapping))
        buffer = ReplayBuffer()
        buffer.extend(entries)
        return buffer


class Precedence:
    """Which runs may begin: those that begin from no run that is still to be done."""

    def __init__(self, runs: Iterable[Run]) -> None:
        """Takes all runs that are still to be done."""
        self._places: dict[tuple[object, ...], set[int]] = defaultdict(set)
        for run in runs:
            if run.chain is not None:
                self._places[run.chain].add(len(run.before))

    def allows(self, run: Run) -> bool:
        """Whether a run may begin."""
        return run.chain is None or len(run.before) == min(self._places[run.chain])

    def done(self, run: Run) -> None:
        """Notes that a run is done."""
        if run.chain is not None:
            self._places[run.chain].discard(len(run.before))


def execute(
    run: Run,
    budget: Budget,
    command: str = "",
    report: Callable[[Snapshot], None] | None = None,
    start: Start | None = None,
) -> RunResult:
    """Runs one agent with one seed on one task.

    Args:
        run: which agent, seed and task.
        budget: what it may spend.
        command: what to record as the command that made the result.
        report: called now and then with how far the search is.
        start: what a warm start begins with.
    """
    agent = run.agent.make()
    space = run.agent.space(run.task)
    load_compiled_code(space)
    on_batch = [] if report is None else [_throttled(report)]
    evaluator = Evaluator(space, run.task.objective, budget, on_batch=on_batch)
    with Interruption() as interruption:
        if start is None or not start.sources:
            agent.search(evaluator, run.seed)
        else:
            agent.search(evaluator, run.seed, initial=start.mappings)
    if interruption.happened:
        # The solver of optima turns Ctrl-C into an early result, which is none of this run.
        raise KeyboardInterrupt
    begun = None if start is None else start.account()
    return RunResult.of(evaluator, run.config(budget), command, run.agent.tuning, begun)


def _throttled(report: Callable[[Snapshot], None]) -> Callable[[Evaluator], None]:
    last = 0.0

    def on_batch(evaluator: Evaluator) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_REPORTS:
            last = now
            report(Snapshot(evaluator.samples, evaluator.seconds, evaluator.best_value, evaluator.ratio))

    return on_batch
