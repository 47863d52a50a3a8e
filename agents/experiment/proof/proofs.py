"""What is proven about the optima of an experiment's tasks: stored, kept in its folder, or solved now."""

from __future__ import annotations

from collections.abc import Iterable

from mapgym.agents.certificate import Certificate, Progress, certify, known_certificate
from mapgym.agents.experiment.storage.folder import ExperimentFolder
from mapgym.agents.interruption import Interruption
from mapgym.errors import SpecificationError
from mapgym.evaluation.task import Task
from mapgym.mapspace import MapSpace


class ProofObserver:
    """Is told about the proofs; does nothing by itself."""

    def certifying(self, task: Task, progress: Progress) -> None:
        """The solver begins with a task; the progress can be read while it lasts."""

    def certified(self, task: Task, outcome: Certificate | str) -> None:
        """What is proven about a task is known; a text says why nothing can be."""


def certify_tasks(
    tasks: Iterable[Task], folder: ExperimentFolder, seconds: float | None, observer: ProofObserver
) -> dict[Task, Certificate]:
    """Finds out what is proven about the optima of tasks.

    Args:
        tasks: the tasks.
        folder: keeps what is solved.
        seconds: wall time of the solver for each task; None to use only what is stored, or in the folder.
        observer: is told about every task, if anything is solved.

    Returns:
        Certificates of the tasks that have one; tasks that the solver cannot treat have none.
    """
    certificates: dict[Task, Certificate] = {}
    for task in tasks:
        space = task.space()
        certificate = known_certificate(space, task.objective)
        if certificate is None or not certificate.certified:
            certificate = folder.load_certificate(task, space, seconds or 0.0) or certificate
            if seconds is not None and (certificate is None or certificate.seconds is None):
                try:
                    certificate = _solve(task, space, seconds, observer)
                except SpecificationError as error:
                    observer.certified(task, str(error))
                    continue
                folder.store_certificate(task, certificate, seconds)
        if certificate is not None:
            certificates[task] = certificate
            if seconds is not None:
                observer.certified(task, certificate)
    return certificates


def _solve(task: Task, space: MapSpace, seconds: float, observer: ProofObserver) -> Certificate:
    progress = Progress()
    observer.certifying(task, progress)
    with Interruption() as interruption:
        certificate = certify(space, task.objective, seconds, progress)
    if interruption.happened:
        raise KeyboardInterrupt
    return certificate
