"""Results of runs, one JSON file each, and the folder that holds the results of a comparison."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapgym import __version__
from mapgym.agents.experiment.certificate import Certificate
from mapgym.agents.experiment.comparison import Comparison, Run, Task
from mapgym.agents.experiment.files import TEMPORARY_PREFIX, prepare_output_folder, write_json, write_text
from mapgym.best_known import key_of
from mapgym.errors import SpecificationError
from mapgym.evaluator import Trace

if TYPE_CHECKING:
    from mapgym.evaluator import Evaluator
    from mapgym.mapspace import MapSpace

COST_FIELDS = ("edp", "energy_pj", "latency_cycles", "utilization")
"""What a result keeps of the cost of its best mapping."""


@dataclass(frozen=True)
class RunResult:
    """What one run found, and everything needed to repeat it.

    Attributes:
        config: see :meth:`mapgym.agents.experiment.comparison.Run.config`.
        mapgym_version: the version that made it.
        command: the command that made it.
        lower_bound: lower bound of the objective (pJ*cycles, pJ or cycles).
        best_value: best objective found, None when no legal mapping was priced.
        best_cost: edp (pJ*cycles), energy_pj, latency_cycles and utilization of the best mapping.
        mapping: the best mapping in the form that ``Mapping.from_dict`` reads.
        samples: mappings priced.
        seconds: wall time of the search.
        tuning: how the agent's parameters were chosen.
        trace: the improvements of the best objective.
    """

    config: dict[str, Any]
    mapgym_version: str
    command: str
    lower_bound: float
    best_value: float | None
    best_cost: dict[str, float] | None
    mapping: dict[str, Any] | None
    samples: int
    seconds: float
    tuning: str
    trace: Trace

    @classmethod
    def of(cls, evaluator: Evaluator, config: dict[str, Any], command: str, tuning: str) -> RunResult:
        """What an evaluator holds after a search."""
        best, mapping = evaluator.best_cost, evaluator.best_mapping
        return cls(
            config=config,
            mapgym_version=__version__,
            command=command,
            lower_bound=float(evaluator.lower_bound.objective(evaluator.objective)),
            best_value=None if best is None else float(evaluator.best_value),
            best_cost=None if best is None else {name: float(getattr(best, name)) for name in COST_FIELDS},
            mapping=None if mapping is None else mapping.to_dict(),
            samples=evaluator.samples,
            seconds=evaluator.seconds,
            tuning=tuning,
            trace=evaluator.trace,
        )

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able form that :meth:`from_dict` reads back."""
        return {**{entry.name: getattr(self, entry.name) for entry in fields(self)}, "trace": self.trace.to_dict()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RunResult:
        """Reads the plain form; raises TypeError, KeyError or ValueError when it is something else."""
        return cls(**{**data, "trace": Trace.from_dict(data["trace"])})

    @property
    def ratio(self) -> float:
        """Best objective over its lower bound; infinity when no legal mapping was priced."""
        return float("inf") if self.best_value is None else self.best_value / self.lower_bound

    def best_after(self, budgets: NDArray, unit: str = "samples") -> NDArray[np.float64]:
        """Best objective after each budget, infinity before the first legal mapping.

        Args:
            budgets: [n], ascending or not.
            unit: "samples" or "seconds", of the budgets.
        """
        moments = np.asarray(getattr(self.trace, unit), np.float64)
        values = np.concatenate([[np.inf], self.trace.values])
        return values[np.searchsorted(moments, np.asarray(budgets, np.float64), side="right")]

    def samples_to(self, target: float) -> tuple[int, bool]:
        """Samples until the objective was at most ``target``; all samples and False when it never was."""
        samples = self.trace.samples_to(target)
        return (self.samples, False) if samples is None else (samples, True)


class ResultFolder:
    """The folder of a comparison: settings, one result file for each run, and what the report adds."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self, comparison: Comparison, command: str) -> dict[Run, RunResult]:
        """Makes the folder ready for a comparison and returns the runs that it already holds.

        Raises:
            SpecificationError: it is not writable, or holds results that were made with other settings.
        """
        prepare_output_folder(self.path)
        self._check_settings(comparison)
        finished = {run: result for run in comparison.runs if (result := self.load(run, comparison)) is not None}
        for pattern in (f"{TEMPORARY_PREFIX}*", f"runs/*/{TEMPORARY_PREFIX}*", f"optima/{TEMPORARY_PREFIX}*"):
            for leftover in self.path.glob(pattern):
                leftover.unlink(missing_ok=True)
        settings = {"mapgym_version": __version__, "settings": comparison.settings.to_dict()}
        write_json(self._settings_file, settings)
        write_text(self.path / "command.txt", command + "\n")
        return finished

    def run_file(self, run: Run) -> Path:
        """Where the result of a run is kept."""
        return self.path / "runs" / run.task.file_stem / f"{run.agent}-seed{run.seed}.json"

    def load(self, run: Run, comparison: Comparison) -> RunResult | None:
        """The result of a run, None when there is none.

        Raises:
            SpecificationError: the file holds something else than the result of this run.
        """
        path = self.run_file(run)
        if not path.exists():
            return None
        remedy = "remove the file, or give another folder with -o"
        try:
            result = RunResult.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except (KeyError, TypeError, ValueError):
            raise SpecificationError(f"{str(path)!r} is not a result file of this version; {remedy}") from None
        if result.mapgym_version != __version__:
            raise SpecificationError(
                f"{str(path)!r} was made by mapgym {result.mapgym_version}, this is {__version__}; {remedy}"
            )
        config = run.config(comparison.settings)
        if result.config != config:
            raise SpecificationError(
                f"{str(path)!r} is the result of a different configuration ({_difference(result.config, config)}); "
                f"{remedy}"
            )
        return result

    def store(self, run: Run, result: RunResult) -> None:
        """Writes the result of a run atomically."""
        path = self.run_file(run)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, result.to_dict())

    def certificate_file(self, task: Task) -> Path:
        """Where it is kept what was proven about the optimum of a task."""
        return self.path / "optima" / f"{task.file_stem}.json"

    def load_certificate(self, task: Task, space: MapSpace, objective: str, seconds: float) -> Certificate | None:
        """What an earlier start has proven about a task, None if nothing, or if more seconds may prove more."""
        path = self.certificate_file(task)
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            certificate, limit = Certificate(**data["certificate"]), float(data["seconds_allowed"])
        except (OSError, KeyError, TypeError, ValueError):
            # It can be made again, so that a file that is missing or strange is no mistake of the user.
            return None
        is_same = data.get("mapgym_version") == __version__ and certificate.key == key_of(space, objective)
        return certificate if is_same and (certificate.certified or limit >= seconds) else None

    def store_certificate(self, task: Task, certificate: Certificate, seconds: float) -> None:
        """Writes what was proven about a task, within so many seconds, atomically."""
        path = self.certificate_file(task)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = {"mapgym_version": __version__, "seconds_allowed": seconds, "certificate": certificate.to_dict()}
        write_json(path, data)

    @property
    def _settings_file(self) -> Path:
        return self.path / "comparison.json"

    def _check_settings(self, comparison: Comparison) -> None:
        path = self._settings_file
        if not path.exists():
            return
        where = f"the output folder {str(self.path)!r} holds"
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            version, found = str(data["mapgym_version"]), dict(data["settings"])
        except (KeyError, TypeError, ValueError):
            raise SpecificationError(
                f"{where} a comparison.json that is not one of ours; give another folder with -o"
            ) from None
        if version != __version__:
            raise SpecificationError(
                f"{where} a comparison made by mapgym {version}, this is {__version__}; give another folder with -o"
            )
        settings = comparison.settings.to_dict()
        if found != settings:
            raise SpecificationError(
                f"{where} a comparison of a different configuration ({_difference(found, settings)}); "
                "repeat it with its own settings, or give another folder with -o"
            )


def _difference(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """The first key in which two configurations differ."""
    for key in (*wanted, *found):
        old, new = found.get(key), wanted.get(key)
        if old != new:
            if isinstance(old, dict) or isinstance(new, dict):
                return f"another definition of the {key}"
            return f"{key} {_show(old)} there, {_show(new)} now"
    return "unknown difference"


def _show(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
