"""Runs the matrix of a comparison, one run after the other, and keeps each result as soon as it is there."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from mapgym.agents.base import make_agent
from mapgym.agents.experiment.certificate import Certificate, Progress, certify, known_certificate
from mapgym.agents.experiment.comparison import Comparison, Run, Settings, Task
from mapgym.agents.experiment.interruption import Interruption
from mapgym.agents.experiment.results import ResultFolder, RunResult
from mapgym.errors import SpecificationError
from mapgym.evaluator import Budget, Evaluator
from mapgym.mapspace import MapSpace


class Observer(Protocol):
    """Is told about the progress of a comparison."""

    def started(self, run: Run, evaluator: Evaluator) -> None:
        """A run begins; the evaluator can be read, from another thread too, while the run lasts."""

    def finished(self, run: Run, result: RunResult, *, was_there: bool) -> None:
        """A run is done; ``was_there`` when its result had been in the folder already."""

    def certifying(self, task: Task, progress: Progress) -> None:
        """The solver begins with a task; the progress can be read while it lasts."""

    def certified(self, task: Task, outcome: Certificate | str) -> None:
        """What is proven about a task is known; a text says why nothing can be."""


def load_compiled_code(space: MapSpace) -> None:
    """Compiles what all searches of a space use, or loads it from the disk, so that no search is charged for it.

    What only one agent needs is loaded by its ``warm_up``, before the clock of its search starts.
    """
    space.sample(np.random.default_rng(0), 1)


def execute(run: Run, settings: Settings, command: str, observer: Observer | None = None) -> RunResult:
    """Runs one agent with one seed on one task.

    Args:
        run: which agent, seed and task.
        settings: objective, axes and budget.
        command: what to record as the command that made the result.
        observer: is told when the run starts.
    """
    agent = make_agent(run.agent)
    space = _space(run.task, settings)
    load_compiled_code(space)
    evaluator = Evaluator(space, settings.objective, Budget(settings.samples, settings.seconds))
    if observer is not None:
        observer.started(run, evaluator)
    agent.search(evaluator, run.seed)
    # Every agent of a comparison has its default parameters, so the tuning that was spent on the tasks is none.
    return RunResult.of(evaluator, run.config(settings), command, tuning="default parameters, not tuned on the task")


def check_comparison(comparison: Comparison) -> None:
    """Raises SpecificationError if any run of the matrix could not start; writes nothing."""
    settings = comparison.settings
    Budget(settings.samples, settings.seconds)
    for name in comparison.agents:
        agent = make_agent(name)
        for task in comparison.tasks:
            agent.check_axes(_space(task, settings))


def certify_comparison(
    comparison: Comparison, folder: ResultFolder, seconds: float | None, observer: Observer
) -> dict[Task, Certificate]:
    """Finds out what is proven about the optima of the tasks: stored, in the folder from an earlier start, or solved.

    Args:
        comparison: the matrix.
        folder: keeps what is solved.
        seconds: wall time of the solver for each task; None to use only what is stored.
        observer: is told about every task, if anything is solved.

    Returns:
        certificates of the tasks that have one; tasks that the solver cannot treat have none.
    """
    settings = comparison.settings
    certificates: dict[Task, Certificate] = {}
    for task in comparison.tasks:
        space = _space(task, settings)
        certificate = known_certificate(space, settings.objective)
        if seconds is not None and not (certificate is not None and certificate.certified):
            earlier = folder.load_certificate(task, space, settings.objective, seconds)
            try:
                certificate = earlier or _solve(task, space, settings.objective, seconds, observer)
            except SpecificationError as error:
                observer.certified(task, str(error))
                continue
            folder.store_certificate(task, certificate, seconds)
        if certificate is not None:
            certificates[task] = certificate
            if seconds is not None:
                observer.certified(task, certificate)
    return certificates


def _solve(task: Task, space: MapSpace, objective: str, seconds: float, observer: Observer) -> Certificate:
    progress = Progress()
    observer.certifying(task, progress)
    with Interruption() as interruption:
        certificate = certify(space, objective, seconds, progress)
    if interruption.happened:
        raise KeyboardInterrupt
    return certificate


def run_comparison(
    comparison: Comparison, folder: ResultFolder, finished: dict[Run, RunResult], command: str, observer: Observer
) -> dict[Run, RunResult]:
    """Runs what is not finished yet and keeps each result in the folder as soon as it is there.

    An interruption (KeyboardInterrupt) passes through; the runs finished before it are in the folder, so that the
    same comparison continues after them.

    Args:
        comparison: the matrix.
        folder: where results go.
        finished: results that are there already, as :meth:`ResultFolder.prepare` returns them.
        command: the command line, recorded with each result.
        observer: is told about every run.

    Returns:
        The result of every run of the matrix.
    """
    results: dict[Run, RunResult] = {}
    for run in comparison.runs:
        result = finished.get(run)
        if result is None:
            result = execute(run, comparison.settings, command, observer)
            folder.store(run, result)
        observer.finished(run, result, was_there=run in finished)
        results[run] = result
    return results


def _space(task: Task, settings: Settings) -> MapSpace:
    return MapSpace(task.workload, task.accelerator, settings.axes)
