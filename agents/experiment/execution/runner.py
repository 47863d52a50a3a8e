"""Runs what is missing of an experiment, and keeps each result as soon as it is there."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from mapgym.agents.base import load_compiled_code
from mapgym.agents.experiment.definition.experiment import Experiment, Run
from mapgym.agents.experiment.execution.context import (
    SECONDS_BETWEEN_TRIALS,
    Observer,
    Precedence,
    RunContext,
)
from mapgym.agents.experiment.execution.workers import run_in_workers
from mapgym.agents.experiment.storage.folder import ExperimentFolder
from mapgym.agents.experiment.storage.results import RunResult


def run_experiment(
    experiment: Experiment,
    folder: Path | str,
    *,
    jobs: int = 1,
    observer: Observer | None = None,
    command: str = "",
) -> list[RunResult]:
    """Runs what is missing of an experiment.

    A run whose result is in the folder is not repeated; one that failed is tried again. Several processes may work on
    the same folder at the same time; each run is executed by one of them.

    An interruption (KeyboardInterrupt) passes through, and anything may be killed at any time: the runs finished
    before are in the folder, and the same call continues after them.

    Args:
        experiment: the matrix.
        folder: where results go; made if it is missing.
        jobs: worker processes, each with one thread for linear algebra; 0 to run everything in this process, one run
            after the other. Worker processes import the main module, so that a script that calls this needs the usual
            ``if __name__ == "__main__":``, and agents of your own must be registered when it is imported.
        observer: is told about every run.
        command: recorded with each result.

    Returns:
        The result of every run, in the order of ``experiment.runs``; those that failed have a ``failure``.

    Raises:
        SpecificationError: the folder is not writable or holds results of other settings, or pyarrow is missing.
    """
    place = ExperimentFolder(folder)
    found = place.prepare(experiment, command)
    return run_missing(experiment, place, found, jobs=jobs, observer=observer or Observer(), command=command)


def run_missing(
    experiment: Experiment,
    folder: ExperimentFolder,
    found: Mapping[Run, RunResult],
    *,
    jobs: int,
    observer: Observer,
    command: str,
) -> list[RunResult]:
    """Runs what is missing of an experiment whose folder is prepared; see :func:`run_experiment`.

    Args:
        experiment: the matrix.
        folder: where results go.
        found: the runs that were in it, as :meth:`ExperimentFolder.prepare` returns them.
        jobs, observer, command: as above.
    """
    results = dict(found)
    missing = []
    for run in experiment.runs:
        if run in results and not results[run].failure:
            observer.finished(run, results[run], was_there=True)
        else:
            missing.append(run)
    if missing:
        context = RunContext(folder, experiment.budget, command)
        with folder.opened():
            if jobs:
                # Compiled once here rather than by each worker.
                load_compiled_code(missing[0].agent.space(missing[0].task))
                done = run_in_workers(missing, context, jobs, observer)
            else:
                done = _run_here(missing, context, observer)
            for run, result, was_there in done:
                results[run] = result
                observer.finished(run, result, was_there=was_there)
    return [results[run] for run in experiment.runs]


def _run_here(runs: Iterable[Run], context: RunContext, observer: Observer) -> Iterator[tuple[Run, RunResult, bool]]:
    """One run after the other in this process; yields each with its result and whether that was there."""
    queue = deque(runs)
    precedence = Precedence(queue)
    busy = 0
    while queue:
        run = queue.popleft()
        done = context.do(run, observer) if precedence.allows(run) else None
        if done is not None:
            precedence.done(run)
            busy = 0
            yield run, *done
            continue
        queue.append(run)
        busy += 1
        if busy >= len(queue):
            observer.waiting(len(queue))
            time.sleep(SECONDS_BETWEEN_TRIALS)
