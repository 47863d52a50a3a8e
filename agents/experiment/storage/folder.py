"""The folder of an experiment: what was asked for, one result file for each run, what is proven about the optima."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mapgym import __version__
from mapgym.agents.certificate import Certificate
from mapgym.agents.experiment.definition.experiment import Experiment, Run
from mapgym.agents.experiment.storage.results import RunResult, read_result, require_pyarrow, write_result
from mapgym.agents.files.store import Store, Work
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.evaluation.best_known import key_of
from mapgym.evaluation.evaluator import Budget
from mapgym.evaluation.task import Task
from mapgym.system.files import TEMPORARY_PREFIX, prepare_output_folder, read_json, write_json, write_text

if TYPE_CHECKING:
    from mapgym.mapspace import MapSpace

EXPERIMENT_FILE, COMMAND_FILE = "experiment.json", "command.txt"


class ExperimentFolder(Store):
    """Reads and writes the files of one experiment; each finished result is read once.

    Attributes:
        path: the folder.
        damaged: files that could not be read; those of results have been set aside if they are to be made again.
    """

    def __init__(self, path: Path | str) -> None:
        self.damaged: list[Path] = []
        super().__init__(path, self.damaged.append, set_aside=True)
        self._finished: dict[str, RunResult] = {}

    def prepare(self, experiment: Experiment, command: str) -> dict[Run, RunResult]:
        """Makes the folder ready for an experiment and returns the runs that it already holds, failed ones too.

        Result files that cannot be read are set aside. Of processes that begin at the same time, one after the other
        looks what is there and says what it wants.

        Raises:
            SpecificationError: it is not writable, or holds results that were made with other settings.
        """
        require_pyarrow()
        prepare_output_folder(self.path)
        with self.opened(), self.lock(EXPERIMENT_FILE, wait=True):
            self._check_settings(experiment.budget)
            found = {}
            for run in experiment.runs:
                # What somebody else is at is not there yet.
                with self.lock(run.file_name) as is_ours:
                    result = self.load(run, experiment.budget, set_aside=is_ours)
                if result is not None:
                    found[run] = result
            self._define(experiment, command)
        return found

    def _define(self, experiment: Experiment, command: str) -> None:
        """Writes what was asked for."""
        data = {
            "mapgym_version": __version__,
            "description": experiment.description,
            "budget": asdict(experiment.budget),
            "tasks": [task.name for task in experiment.tasks],
            "agents": [entry.label for entry in experiment.agents],
            "seeds": list(experiment.seeds),
            "runs": len(experiment.runs),
        }
        write_json(self.path / EXPERIMENT_FILE, data)
        write_text(self.path / COMMAND_FILE, command + "\n")

    def definition(self) -> dict[str, Any]:
        """What was asked for last: description, budget, names of tasks and agents, seeds, number of runs, version.

        Raises:
            SpecificationError: the folder holds no experiment, or one in a form that is not read any more.
        """
        where = f"the folder {quoted(self.path)}"
        if (self.path / "comparison.json").exists():
            raise SpecificationError(
                f"{where} holds results of an earlier form (JSON), which is not read any more; repeat the command "
                "that is in its command.txt with another folder"
            )
        try:
            data = read_json(self.path / EXPERIMENT_FILE, unsealed=True)
            names = {key: [str(name) for name in data[key]] for key in ("tasks", "agents")}
            seeds, runs = [int(seed) for seed in data["seeds"]], int(data["runs"])
            version, description = str(data["mapgym_version"]), str(data["description"])
            budget = Budget(**data["budget"])
        except FileNotFoundError:
            raise SpecificationError(
                f"{where} holds no experiment; give what 'mapgym run -o', 'mapgym compare -o' or 'mapgym study -o' "
                "has written"
            ) from None
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
            raise SpecificationError(
                f"{where} holds an {EXPERIMENT_FILE} that is damaged or not one of ours; give another folder, or "
                "remove the file and give the command that made the results again, which keeps them"
            ) from None
        about = {"mapgym_version": version, "description": description, "budget": budget}
        return {**about, "seeds": seeds, "runs": runs, **names}

    def command(self) -> str:
        """The command that was given last, "" if it is not known."""
        try:
            return (self.path / COMMAND_FILE).read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            return ""

    def load(self, run: Run, budget: Budget, *, set_aside: bool = False) -> RunResult | None:
        """The result of a run, None when there is none or its file cannot be read.

        Args:
            run: which.
            budget: of the experiment.
            set_aside: rename a file that cannot be read; only for who holds the lock of the run.

        Raises:
            SpecificationError: the file holds something else than the result of this run.
        """
        result = self._result(run.file_name, set_aside=set_aside)
        if result is not None:
            self._check(self.path / run.file_name, result, run.config(budget))
        return result

    def work(self, run: Run, budget: Budget, make: Callable[[], RunResult]) -> Work[RunResult]:
        """A run as a piece of work; one that has failed is done again."""

        def read(path: Path) -> RunResult | None:
            result = read_result(path)
            self._check(path, result, run.config(budget))
            return None if result.failure else result

        return Work(run.file_name, read, make, lambda path, result: self.store(run, result))

    @staticmethod
    def _check(path: Path, result: RunResult, config: dict[str, Any]) -> None:
        """Raises SpecificationError if a file holds something else than it should."""
        remedy = "remove the file, or give another folder with -o"
        version = result.versions["mapgym"]
        if version != __version__:
            raise SpecificationError(f"{quoted(path)} was made by mapgym {version}, this is {__version__}; {remedy}")
        if result.config != config:
            raise SpecificationError(
                f"{quoted(path)} is the result of a different configuration "
                f"({_difference(result.config, config)}); "
                f"{remedy}"
            )

    def store(self, run: Run, result: RunResult) -> None:
        """Writes the result of a run atomically."""
        write_result(self.path / run.file_name, result)
        self._remember(run.file_name, result)

    def results(self) -> list[RunResult]:
        """All results in the folder, failed ones too, in the order of the definition; others follow by name.

        Files that cannot be read are left out and noted in ``damaged``.

        Raises:
            SpecificationError: the folder holds no experiment.
        """
        require_pyarrow()
        definition = self.definition()
        # What is being written by another process meanwhile is no result yet.
        paths = [path for path in self.path.glob("runs/*/*.parquet") if not path.name.startswith(TEMPORARY_PREFIX)]
        files = [path.relative_to(self.path).as_posix() for path in sorted(paths)]
        read = {file: result for file in files if (result := self._finished.get(file) or self._result(file))}
        # What was stored before rules had names lies where the default's results belong now; if it has been made again
        # by its rules, that one counts.
        found = [result for file, result in read.items() if read.get(result.run.file_name, result) is result]
        places = {key: {name: i for i, name in enumerate(definition[key])} for key in ("tasks", "agents")}

        def place(result: RunResult) -> tuple[object, ...]:
            task, label = result.task.name, result.agent.label
            first = places["tasks"].get(task, len(found)), task
            return (*first, result.seed, places["agents"].get(label, len(found)), label)

        return sorted(found, key=place)

    def certificate_file(self, task: Task) -> str:
        """Where it is kept what was proven about the optimum of a task, below the folder."""
        return f"optima/{task.file_stem}.json"

    def load_certificate(self, task: Task, space: MapSpace, seconds: float) -> Certificate | None:
        """What an earlier start has proven about a task, None if nothing, or if more seconds may prove more."""

        def read(path: Path) -> Certificate | None:
            data = read_json(path)
            certificate, limit = Certificate(**data["certificate"]), float(data["seconds_allowed"])
            is_same = data.get("mapgym_version") == __version__ and certificate.key == key_of(space, task.objective)
            return certificate if is_same and (certificate.certified or limit >= seconds) else None

        return self.read(self.certificate_file(task), read)

    def store_certificate(self, task: Task, certificate: Certificate, seconds: float) -> None:
        """Writes what was proven about a task, within so many seconds, atomically."""
        path = self.path / self.certificate_file(task)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = {"mapgym_version": __version__, "seconds_allowed": seconds, "certificate": certificate.to_dict()}
        write_json(path, data)

    def _result(self, file: str, *, set_aside: bool = False) -> RunResult | None:
        """The result in a file, None when there is none or it cannot be read."""
        result = self.read(file, read_result, set_aside=set_aside)
        if result is not None:
            self._remember(file, result)
        return result

    def _remember(self, file: str, result: RunResult) -> None:
        if not result.failure:
            self._finished[file] = result

    def _check_settings(self, budget: Budget) -> None:
        if not any((self.path / name).exists() for name in (EXPERIMENT_FILE, "comparison.json")):
            return
        data = self.definition()
        where = f"the output folder {quoted(self.path)} holds"
        remedy = "give another folder with -o"
        if data["mapgym_version"] != __version__:
            raise SpecificationError(
                f"{where} an experiment made by mapgym {data['mapgym_version']}, this is {__version__}; {remedy}"
            )
        if data["budget"] != budget:
            difference = _difference(asdict(data["budget"]), asdict(budget))
            raise SpecificationError(f"{where} an experiment with another budget ({difference}); {remedy}")


def load_results(folder: Path | str, *, failed: bool = False) -> list[RunResult]:
    """The results in a folder that ``mapgym run``, ``compare`` or ``run_experiment`` has written.

    Args:
        folder: the folder; it may hold parts of an experiment only.
        failed: also those of runs that failed, which have a ``failure`` and nothing else.

    Returns:
        Task by task and, within a task, seed by seed, in the order of the experiment.

    Raises:
        SpecificationError: the folder holds no experiment, or pyarrow is not installed.
    """
    return [result for result in ExperimentFolder(folder).results() if failed or not result.failure]


def experiment_folders(path: Path) -> Iterator[Path]:
    """The folder itself if it holds an experiment, otherwise those directly below it that do, by name."""
    if (path / EXPERIMENT_FILE).exists():
        yield path
    else:
        yield from sorted(file.parent for file in path.glob(f"*/{EXPERIMENT_FILE}"))


def _difference(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """The first key in which two configurations differ."""
    for key in (*wanted, *found):
        old, new = found.get(key), wanted.get(key)
        if old != new:
            if isinstance(old, dict) and isinstance(new, dict) and key in ("budget", "parameters"):
                return _difference(old, new)
            if isinstance(old, dict) and isinstance(new, dict) and old.get("rules") != new.get("rules"):
                return (
                    f"its costs are counted as {_show(old['rules'])}, those of this experiment as {_show(new['rules'])}"
                )
            if isinstance(old, dict) or isinstance(new, dict):
                return f"another definition of the {key}"
            return f"{key} {_show(old)} there, {_show(new)} now"
    return "unknown difference"


def _show(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
