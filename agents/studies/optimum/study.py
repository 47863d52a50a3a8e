"""The study of optima: solves many tasks, keeps each result as soon as it is there, and continues what was begun."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mapgym import __version__
from mapgym.agents.base import DEFAULT_AGENT, make_agent
from mapgym.agents.certificate import Certificate, Progress, certificate_of
from mapgym.agents.experiment.storage.known_mappings import join
from mapgym.agents.files.store import Store, Work
from mapgym.agents.labels import OPTIMAL_GAP
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.evaluation.best_known import CERTIFIED, GAP, BestKnown
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.evaluation.task import Task
from mapgym.mapspace import MapSpace
from mapgym.system.files import read_json, write_json

_SAMPLES_WHERE_A_GAP_IS_LEFT = 20_000


@dataclass(frozen=True)
class Outcome:
    """What the study knows about one task.

    Attributes:
        key: hash of the task.
        log10_size: of the map space.
        seconds_allowed: wall time that the solver was given.
        cpu_seconds: CPU time that it took.
        certificate: what it found, None if it cannot treat the task.
        unsupported: why it cannot, one sentence; "" if it can.
        command: what made it.
        mapgym_version: the version that made it.
    """

    key: str
    log10_size: float
    seconds_allowed: float
    cpu_seconds: float
    certificate: Certificate | None
    unsupported: str
    command: str
    mapgym_version: str

    def certified_within(self, cpu_seconds: float) -> bool:
        """Whether the optimum was certified in so much CPU time."""
        return self.certificate is not None and self.certificate.certified and self.cpu_seconds <= cpu_seconds

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Outcome:
        """Reads what ``dataclasses.asdict`` made; raises KeyError or TypeError when it is something else."""
        certificate = data["certificate"]
        return cls(**{**data, "certificate": None if certificate is None else Certificate(**certificate)})


def run_study(
    tasks: Sequence[Task],
    folder: Path,
    seconds: float,
    command: str,
    *,
    started: Callable[[Task, Progress], None],
    finished: Callable[[Task, Outcome, bool], None],
    damaged: Callable[[Path], None],
) -> dict[Task, Outcome]:
    """Solves what is not solved yet, see :class:`mapgym.agents.files.store.Store`.

    Args:
        tasks: what to solve.
        folder: keeps one file for each task, in tasks/.
        seconds: wall time for each task.
        command: recorded with each result.
        started: told before a task is solved; the progress can be read while it lasts.
        finished: told of each result, and whether it had been there already.
        damaged: told of each file that cannot be read, before it is made again.

    Raises:
        SpecificationError: the folder is not writable.
    """

    def work(task: Task) -> Work[Outcome]:
        def make() -> Outcome:
            progress = Progress()
            started(task, progress)
            return _solve(task, seconds, command, progress)

        return Work(
            f"tasks/{task.full_file_stem}.json",
            lambda path: _read(path, task, seconds),
            make,
            lambda path, outcome: write_json(path, asdict(outcome)),
        )

    return dict(zip(tasks, Store(folder, damaged).do_all(tasks, work, finished), strict=True))


def _read(path: Path, task: Task, seconds: float) -> Outcome | None:
    """An earlier result of the task, if it is of this version and more seconds would not improve it."""
    outcome = Outcome.from_dict(read_json(path))
    if (outcome.key, outcome.mapgym_version) != (task.key, __version__):
        return None
    is_final = outcome.certificate is not None and outcome.certificate.certified
    return outcome if is_final or outcome.seconds_allowed >= seconds else None


def _solve(task: Task, seconds: float, command: str, progress: Progress) -> Outcome:
    from mapgym.cost.optimum import find_optimum

    space = task.space()
    certificate, unsupported = None, ""
    start = time.process_time()
    try:
        optimum = find_optimum(space, task.objective, seconds=seconds, progress=progress)
        if optimum.interrupted:
            raise KeyboardInterrupt
        certificate = certificate_of(optimum, space)
    except SpecificationError as error:
        unsupported = str(error)
    cpu_seconds = time.process_time() - start
    if certificate is not None and not certificate.certified:
        certificate = _improved(certificate, space, task.objective)
    return Outcome(
        key=task.key,
        log10_size=float(space.log10_size()),
        seconds_allowed=seconds,
        cpu_seconds=cpu_seconds,
        certificate=certificate,
        unsupported=unsupported,
        command=command,
        mapgym_version=__version__,
    )


def _improved(found: Certificate, space: MapSpace, objective: str) -> Certificate:
    """Where a gap is left, the mapping of a search if it is better; the proof stays."""
    evaluator = Evaluator(space, objective, Budget(samples=_SAMPLES_WHERE_A_GAP_IS_LEFT))
    make_agent(DEFAULT_AGENT).search(evaluator, seed=0)
    mapping, value = evaluator.best_mapping, float(evaluator.best_value)
    if mapping is None or value >= found.value:
        return found
    bound = found.lower_bound
    if value < bound * (1.0 - OPTIMAL_GAP):
        raise RuntimeError(
            f"{quoted(space)}: a mapping of {objective} {quoted(value)} refutes the proven bound {quoted(bound)}"
        )
    certified = value <= bound * (1.0 + OPTIMAL_GAP)
    return replace(found, value=value, lower_bound=min(bound, value), mapping=mapping.to_dict(), certified=certified)


def update_best_known(path: Path, outcomes: dict[Task, Outcome]) -> int:
    """Joins results into a file of best known mappings and replaces it atomically.

    An entry gives way only to one that says more: a lower value, or a higher bound for the same value.

    Args:
        path: the file; it is made if it is missing.
        outcomes: results of the study.

    Returns:
        number of entries that are new or better.
    """
    found = ((task, outcome.certificate, outcome.command) for task, outcome in outcomes.items())
    return join(path, (_entry(task, proven, command) for task, proven, command in found if proven is not None))


def _entry(task: Task, certificate: Certificate, command: str) -> BestKnown:
    return BestKnown(
        key=task.key,
        workload=task.workload.name,
        accelerator=task.accelerator.name,
        peer_links=task.accelerator.peer_links,
        rules=task.accelerator.rules,
        axes=task.axes,
        objective=task.objective,
        value=certificate.value,
        lower_bound=certificate.lower_bound,
        status=CERTIFIED if certificate.certified else GAP,
        mapping=certificate.mapping,
        command=command,
    )
