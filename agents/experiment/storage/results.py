"""The result of a run, and its form on disk: one Parquet file with one row."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapgym import __version__
from mapgym.agents.base import agent_class
from mapgym.agents.experiment.definition.experiment import AgentEntry, Run
from mapgym.agents.experiment.definition.warm_start import WarmStart
from mapgym.errors import SpecificationError
from mapgym.evaluation.evaluator import Trace
from mapgym.evaluation.sparsity_aware import samples_per_mapping
from mapgym.evaluation.task import Task
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.rules import stored_rules
from mapgym.spec.workload import Workload
from mapgym.system.checksums import UNSEALED, is_whole, seal
from mapgym.system.files import write_bytes

if TYPE_CHECKING:
    import pyarrow

    from mapgym.evaluation.evaluator import Evaluator

FORMAT = 2
"""Of the Parquet files, whose metadata have a checksum of the whole file since format 2."""

_WITHOUT_CHECKSUM = 1

COST_FIELDS = ("edp", "energy_pj", "latency_cycles", "utilization")
"""What a result keeps of the cost of its best mapping."""

_PLAIN = ("failure", "lower_bound", "best_value", "samples", "seconds", "tuning", "machine", "command", "finished_at")
"""Attributes of a result that its file has as they are."""


@dataclass(frozen=True)
class RunResult:
    """What one run found, and everything needed to repeat it.

    Attributes:
        config: see :meth:`mapgym.agents.experiment.definition.experiment.Run.config`.
        versions: of mapgym, Python and the libraries that the agent uses.
        machine: where it ran.
        command: the command that made it.
        finished_at: when, ISO 8601, UTC.
        lower_bound: lower bound of the objective (pJ*cycles, pJ or cycles; 1 for one over several densities).
        best_value: best objective found, None when no legal mapping was priced.
        best_cost: edp (pJ*cycles), energy_pj, latency_cycles and utilization of the best mapping; over several
            densities their means.
        mapping: the best mapping in the form that ``Mapping.from_dict`` reads.
        samples: cost-model calls.
        seconds: wall time of the search.
        tuning: how the agent's parameters were chosen.
        trace: the improvements of the best objective.
        warm_start_sources: of a warm start, names of the workloads whose mappings it began with ("sources"), why
            others could not be transferred ("failures"), and why it began at random ("why_random", "" if it did not);
            None for a search that had no warm start.
        failure: why the run did not come to its end, "" if it did; what had been found by then is not kept.
    """

    config: dict[str, Any]
    versions: dict[str, str]
    machine: str
    command: str
    finished_at: str
    lower_bound: float = math.nan
    best_value: float | None = None
    best_cost: dict[str, float] | None = None
    mapping: dict[str, Any] | None = None
    samples: int = 0
    seconds: float = 0.0
    tuning: str = ""
    trace: Trace = field(default_factory=Trace)
    failure: str = ""
    warm_start_sources: dict[str, Any] | None = None

    @classmethod
    def of(
        cls,
        evaluator: Evaluator,
        config: dict[str, Any],
        command: str,
        tuning: str,
        warm_start_sources: dict[str, Any] | None = None,
    ) -> RunResult:
        """What an evaluator holds after a search."""
        best, mapping = evaluator.best_cost, evaluator.best_mapping
        return cls(
            **_circumstances(config, command),
            lower_bound=float(evaluator.lower_bound.objective(evaluator.objective)),
            best_value=None if best is None else float(evaluator.best_value),
            best_cost=None if best is None else {name: float(getattr(best, name)) for name in COST_FIELDS},
            mapping=None if mapping is None else mapping.to_dict(),
            samples=evaluator.samples,
            seconds=evaluator.seconds,
            tuning=tuning,
            trace=evaluator.trace,
            warm_start_sources=warm_start_sources,
        )

    @classmethod
    def failed(cls, config: dict[str, Any], command: str, failure: str) -> RunResult:
        """A run that did not come to its end."""
        return cls(**_circumstances(config, command), failure=failure)

    @cached_property
    def run(self) -> Run:
        """Which run it is the result of."""
        config = self.config
        parameters = json.dumps(config["parameters"], sort_keys=True)
        searched = tuple(config["searched_axes"])
        axes = tuple(config["axes"])
        return Run(
            _task(json.dumps(config["workload"]), json.dumps(config["accelerator"]), axes, config["objective"]),
            _entry(
                config["agent"],
                config["label"],
                parameters,
                None if searched == axes else searched,
                json.dumps(config.get("warm_start")),
            ),
            config["seed"],
        )

    @property
    def task(self) -> Task:
        """What was searched."""
        return self.run.task

    @property
    def agent(self) -> AgentEntry:
        """Who searched, with all parameters."""
        return self.run.agent

    @property
    def seed(self) -> int:
        """Of everything random."""
        return self.run.seed

    @property
    def mappings(self) -> int:
        """Mappings priced: as many as samples, but for an objective over several densities."""
        return self.samples // samples_per_mapping(self.task.objective)

    @property
    def ratio(self) -> float:
        """Best objective over its lower bound; infinity when no legal mapping was priced."""
        return math.inf if self.best_value is None else self.best_value / self.lower_bound

    def best_after(self, budgets: ArrayLike, unit: str = "samples") -> NDArray[np.float64]:
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


def _with_rules(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration as it was stored; before rules had names, it did not name them."""
    return {**config, "accelerator": {**config["accelerator"], "rules": stored_rules(config["accelerator"])}}


@cache
def _task(workload: str, accelerator: str, axes: tuple[str, ...], objective: str) -> Task:
    return Task(
        Workload.from_dict(json.loads(workload)), Accelerator.from_stored(json.loads(accelerator)), axes, objective
    )


@cache
def _entry(agent: str, label: str, parameters: str, axes: tuple[str, ...] | None, warm_start: str) -> AgentEntry:
    warm = json.loads(warm_start)
    begins = None if warm is None else WarmStart(warm["source"], warm.get("sha256", ""))
    return AgentEntry(agent, label, json.loads(parameters), axes, warm_start=begins)


def require_pyarrow() -> None:
    """Raises SpecificationError when the package that reads and writes Parquet is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise SpecificationError(
            "results are kept as Parquet files, which need the package 'pyarrow'; install it with: "
            "pip install 'mapgym[experiments]'"
        ) from None


def write_result(path: Path, result: RunResult) -> None:
    """Writes a result atomically, as a table with one row and a checksum."""
    import pyarrow as pa
    from pyarrow import parquet

    config, cost = result.config, result.best_cost or {}
    row: dict[str, Any] = {
        "format": FORMAT,
        "workload": config["workload"]["name"],
        "accelerator": config["accelerator"]["name"],
        "peer_links": config["accelerator"]["peer_links"],
        "rules": config["accelerator"]["rules"],
        **{name: config[name] for name in ("axes", "objective", "agent", "label", "seed")},
        "parameters": json.dumps(config["parameters"]),
        "budget_samples": config["budget"]["samples"],
        "budget_seconds": config["budget"]["seconds"],
        **{name: getattr(result, name) for name in _PLAIN},
        **{name: cost.get(name) for name in COST_FIELDS},
        **{f"trace_{name}": values for name, values in result.trace.to_dict().items()},
        "mapping": None if result.mapping is None else json.dumps(result.mapping),
        "begun_from": None if result.warm_start_sources is None else json.dumps(result.warm_start_sources),
        "config": json.dumps(config),
        "versions": json.dumps(result.versions),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    # The metadata come last in the file, after everything that may hold text from outside.
    table = pa.Table.from_pylist([row], schema=_schema().with_metadata({"checksum": UNSEALED}))
    buffer = pa.BufferOutputStream()
    parquet.write_table(table, buffer, compression="zstd")
    write_bytes(path, seal(buffer.getvalue().to_pybytes()))


def read_result(path: Path) -> RunResult:
    """Reads what :func:`write_result` wrote.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, or something else.
    """
    import pyarrow as pa
    from pyarrow import parquet

    data = path.read_bytes()
    try:
        whole = is_whole(data)
        if whole is False:
            raise ValueError("the checksum does not fit")
        # Not read_table, which would take key=value parts of the path for columns.
        (row,) = parquet.ParquetFile(pa.BufferReader(data)).read().to_pylist()
        if row["format"] != (FORMAT if whole else _WITHOUT_CHECKSUM):
            raise ValueError(f"format {row['format']}")
        result = RunResult(
            config=_with_rules(json.loads(row["config"])),
            versions=json.loads(row["versions"]),
            best_cost=None if row["best_value"] is None else {name: row[name] for name in COST_FIELDS},
            mapping=None if row["mapping"] is None else json.loads(row["mapping"]),
            trace=Trace(row["trace_samples"], row["trace_seconds"], row["trace_values"]),
            **{name: row[name] for name in _PLAIN},
            # Files that were written before there were warm starts have no such column.
            warm_start_sources=json.loads(row.get("begun_from") or "null"),
        )
        # What the configuration says is needed by all who ask for results.
        _ = result.run, result.versions["mapgym"]
    except Exception as error:
        # Whatever happens in here, it is the file: Arrow and the readers of definitions have errors of many kinds.
        raise ValueError(str(error)) from error
    return result


@cache
def _schema() -> pyarrow.Schema:
    import pyarrow as pa

    text, number, count, flag = pa.string(), pa.float64(), pa.int64(), pa.bool_()
    return pa.schema(
        [
            ("format", count),
            *((name, text) for name in ("workload", "accelerator")),
            ("peer_links", flag),
            ("rules", text),
            ("axes", pa.list_(text)),
            *((name, text) for name in ("objective", "agent", "label", "parameters")),
            *((name, count) for name in ("seed", "budget_samples")),
            ("budget_seconds", number),
            ("failure", text),
            *((name, number) for name in ("lower_bound", "best_value", *COST_FIELDS)),
            ("samples", count),
            ("seconds", number),
            ("trace_samples", pa.list_(count)),
            *((name, pa.list_(number)) for name in ("trace_seconds", "trace_values")),
            *((name, text) for name in ("mapping", "begun_from", "config", "tuning", "versions", "machine", "command")),
            ("finished_at", text),
        ]
    )


def _circumstances(config: dict[str, Any], command: str) -> dict[str, Any]:
    """What a result says about how it came about."""
    versions = _versions(config["agent"])
    return {
        "config": config,
        "versions": versions,
        "machine": machine(),
        "command": command,
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@cache
def _versions(agent: str) -> dict[str, str]:
    """Of what a result may depend on."""
    found = {"mapgym": __version__, "python": platform.python_version()}
    for package in ("numpy", "numba", *agent_class(agent).requires):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            # The module is called otherwise than the package that brings it.
            found[package] = str(getattr(sys.modules.get(package), "__version__", "unknown"))
    return found


@cache
def machine() -> str:
    """The processor and the system, such as "AMD EPYC 7B13, 2 cores, Linux x86_64"."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        # Not Linux, or a processor that has no name there.
        pass
    return f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"
