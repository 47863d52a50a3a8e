"""Reads results of the real Timeloop and compares our figures with them.

The format is one JSON object per line (gzipped or not); docs/validation.md describes it. A record names an
architecture, gives a problem and a mapping, and says whether Timeloop ran it and what it counted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping as AbcMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mapgym.cost import CostModel
from mapgym.errors import SpecificationError, suggest
from mapgym.errors.text import quoted, shortened
from mapgym.mapping import Mapping, MappingBatch
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.rules import DEFAULT_RULES, counting_rules
from mapgym.spec.tensor import Tensor
from mapgym.spec.workload import CONSTRUCTORS, Workload
from mapgym.system.input_file import parse_json, read_lines
from mapgym.timeloop.records.architectures import read_architectures, timeloop_accelerator
from mapgym.timeloop.records.figures import our_figures, relative_error, their_figure
from mapgym.timeloop.records.sparse_records import (
    Keys,
    gives_metadata,
    has_hypergeometric_density,
    is_artefact,
    set_spatial_orders,
    with_record_densities,
    with_sparse_features,
    without_metadata,
)

TOLERANCE = 1e-9
"""Relative difference up to which two figures that are not whole numbers are equal."""

CLOSE_ENERGY = 0.05
"""How far energies may be off, relative, where one access more or less is a matter of rounding."""
_EINSUM = "einsum"
_SHAPES = {"cnn7": "conv2d", "depthwise": "depthwise_conv2d", "bmm": "matmul"}
Record = dict[str, Any]


@dataclass(frozen=True)
class Difference:
    """One figure that is not equal: the record's id, the field, our value, Timeloop's, the relative error."""

    id: str
    field: str
    ours: object
    theirs: object
    relative_error: float


@dataclass
class ValidationReport:
    """What comparing one file has shown.

    Attributes:
        file: its path.
        rules: the counting rules of our figures.
        cases: records read.
        unsupported: ids of those whose mappings the cost model does not have: with a remainder in the last visit of a
            loop. They are not compared.
        verdicts_agree: records on whose legality we and Timeloop agree.
        artefacts: records without sane figures of Timeloop's, by the rule in docs/sparse.md; they are not compared.
        compared: records whose figures were compared (legal for both).
        exact: those of them in which every figure is equal to ``TOLERANCE``.
        close: those that are not, but have a hypergeometric density, computes that are equal, counts that differ by one
            access at most, energies by ``CLOSE_ENERGY`` and cycles by ``CLOSE_CYCLES``: Timeloop sums many small
            probabilities, and the noise in the last digit decides what is rounded up.
        fields_compared: figures compared.
        max_rel_error: largest relative error of ``energy_pj``, ``latency_cycles`` and ``counts``.
        worst: up to ten differences, the largest first.
    """

    file: str
    rules: str = DEFAULT_RULES
    cases: int = 0
    unsupported: list[str] = field(default_factory=list)
    verdicts_agree: int = 0
    artefacts: int = 0
    compared: int = 0
    exact: int = 0
    close: int = 0
    fields_compared: int = 0
    max_rel_error: dict[str, float] = field(
        default_factory=lambda: {"energy_pj": 0.0, "latency_cycles": 0.0, "counts": 0.0}
    )
    worst: list[Difference] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether all verdicts agree and all compared cases are exact, or close where that is all that can be.

        A file of which nothing is supported has not passed.
        """
        supported = self.cases - len(self.unsupported)
        return 0 < supported == self.verdicts_agree and self.exact + self.close == self.compared

    def add(self, difference: Difference) -> None:
        """Keeps the difference if it is among the ten largest."""
        self.worst = sorted([*self.worst, difference], key=lambda entry: -entry.relative_error)[:10]


def validate_file(
    path: str | Path,
    arch_json: str | Path | Sequence[str | Path] | None = None,
    progress: Callable[[int, int], None] | None = None,
    rules: str = DEFAULT_RULES,
) -> ValidationReport:
    """Prices every record of a file and compares all figures with Timeloop's.

    Args:
        path: a ``.jsonl`` or ``.jsonl.gz`` file.
        arch_json: files with flat descriptions of architectures; a file ``arch_extra.json.gz`` beside ``path`` is read
            as well, and the catalog has the others.
        progress: called with (records done, records in all) now and then.
        rules: the counting rules of the version of Timeloop that has made the records.

    Raises:
        SpecificationError: the file or a record cannot be read, or names an unknown architecture.
    """
    records = list(read_records(path))
    if not records:
        raise SpecificationError(f"{path}: holds no records; give a file with one JSON object per line")
    counting_rules(rules, "rules")
    named = [arch_json] if isinstance(arch_json, str | Path) else arch_json
    architectures = read_architectures(Path(path), [Path(file) for file in named or ()])
    report = ValidationReport(str(path), rules, cases=len(records))
    groups: dict[str, list[Record]] = {}
    for record in records:
        if _has_remainders(record):
            report.unsupported.append(str(record["id"]))
            continue
        task = [record["arch"], record["problem"], record.get("sparse")]
        groups.setdefault(json.dumps(task, sort_keys=True), []).append(record)
    done = len(report.unsupported)
    for group in groups.values():
        with _reading(group[0], path):
            accelerator = timeloop_accelerator(group[0]["arch"], architectures, str(path), rules)
            accelerator = with_sparse_features(accelerator, group[0].get("sparse"))
            workload = timeloop_workload(group[0], str(path))
        mappings = []
        for record in group:
            with _reading(record, path):
                mappings.append(timeloop_mapping(record, workload, accelerator).batch())
        batch = MappingBatch.concatenate(mappings)
        costs = CostModel(workload, accelerator, is_canonical=False).evaluate(batch, detail=True)
        for i, record in enumerate(group):
            cost = costs[i]
            if is_artefact(record, cost):
                report.verdicts_agree += 1
                report.artefacts += 1
                continue
            if cost.legal != record["valid"]:
                ours = "legal" if cost.legal else cost.reason
                report.add(Difference(record["id"], "verdict", ours, record.get("reason") or "valid", float("inf")))
                continue
            report.verdicts_agree += 1
            if cost.legal:
                with _reading(record, path):
                    figures = our_figures(accelerator, workload, cost)
                    _compare(report, record, figures if gives_metadata(record) else without_metadata(figures))
        done += len(group)
        if progress is not None:
            progress(done, len(records))
    return report


def _has_remainders(record: Record) -> bool:
    """Whether a loop runs another number of times in its last visit; the cost model has no such mappings."""
    levels = record["mapping"].get("levels") if isinstance(record["mapping"], dict) else None
    loops = (
        level.get(kind)
        for level in (levels if isinstance(levels, list) else [])
        if isinstance(level, dict)
        for kind in ("temporal", "spatial_x", "spatial_y")
    )
    return any(
        isinstance(factor, list) for factors in loops if isinstance(factors, dict) for factor in factors.values()
    )


@contextmanager
def _reading(record: Record, path: str | Path) -> Iterator[None]:
    """Turns what goes wrong in a record that is not as it should be into one sentence about it."""
    where = f"{path}: record {quoted(record['id'])}"
    try:
        yield
    except SpecificationError as error:
        raise SpecificationError(f"{where}: {error}") from None
    except KeyError as error:
        raise SpecificationError(f"{where}: {error} is missing; see docs/validation.md for the format") from None
    except (TypeError, AttributeError, ValueError, LookupError, ArithmeticError, RecursionError) as error:
        problem = shortened(str(error), 200)
        raise SpecificationError(
            f"{where}: a value is of the wrong kind ({problem}); see docs/validation.md for the format"
        ) from None


def read_records(path: str | Path) -> Iterator[Record]:
    """Yields the records of a ``.jsonl`` or ``.jsonl.gz`` file.

    Raises:
        SpecificationError: the file cannot be read, or a line is not a record; names the line.
    """
    for number, line in read_lines(Path(path), "a complete .jsonl or .jsonl.gz file"):
        record = parse_json(line, f"{path}: line {number}", "one object per line")
        for key in ("id", "arch", "problem", "mapping", "valid"):
            if not isinstance(record, dict) or key not in record:
                raise SpecificationError(f"{path}: line {number} has no {quoted(key)}; see docs/validation.md")
        yield record


def timeloop_workload(record: Record, where: str) -> Workload:
    """The workload of a record."""
    problem = record["problem"]
    shape, name = problem.get("shape"), str(record.get("workload", problem.get("shape")))
    if shape == _EINSUM:
        workload = _einsum(name, problem["dims"], problem["tensors"])
    elif shape in _SHAPES:
        constructor = CONSTRUCTORS[_SHAPES[shape]][0]
        window = {} if shape == "bmm" else {"stride": problem["stride"], "dilation": problem["dilation"]}
        try:
            workload = constructor(name, **problem["dims"], **window)
        except TypeError as error:
            raise SpecificationError(f"dims do not fit {quoted(shape)} ({error})") from None
    else:
        raise SpecificationError(f"unknown shape {quoted(shape)}; {suggest(str(shape), (*_SHAPES, _EINSUM))}")
    return with_record_densities(workload, problem.get("densities") or {})


def _einsum(name: str, dims: AbcMapping[str, Any], tensors: AbcMapping[str, Any]) -> Workload:
    """The workload of a record that spells its tensors out: of each rank the coefficient of each dim."""
    built = (
        Tensor(tensor, tuple(tuple(rank.items()) for rank in entry["projection"]), bool(entry.get("output", False)))
        for tensor, entry in tensors.items()
    )
    return Workload(name, tuple(dims), tuple(dims.values()), tuple(built))


def timeloop_mapping(record: Record, workload: Workload, accelerator: Accelerator) -> Mapping:
    """The mapping of a record."""
    levels = []
    for entry in record["mapping"]["levels"]:
        levels.append(
            {
                "level": entry["name"],
                "temporal": entry["temporal"],
                "order": list(entry["permutation"]),
                "spatial_x": entry["spatial_x"],
                "spatial_y": entry["spatial_y"],
                "spatial_order": list(entry["spatial_permutation"] or ""),
                "keep": entry["keep"],
            }
        )
    mapping = Mapping.from_dict({"levels": levels}, workload, accelerator)
    set_spatial_orders(mapping, record)
    return mapping


def _compare(report: ValidationReport, record: Record, figures: dict[Keys, Any]) -> None:
    equal, close = True, has_hypergeometric_density(record)
    for path, ours in figures.items():
        if (theirs := their_figure(record, path)) is None:
            continue
        error = relative_error(path, ours, theirs)
        kind = "energy_pj" if "energy" in path[-1] else "latency_cycles" if path[-1] == "cycles" else "counts"
        report.fields_compared += 1
        report.max_rel_error[kind] = max(report.max_rel_error[kind], error)
        # Whole numbers are equal or not: a relative tolerance would hide one word in a large count.
        if error > (0.0 if isinstance(ours, int) else TOLERANCE):
            equal = False
            close = close and _is_close(path, ours, theirs, error)
            report.add(Difference(record["id"], "/".join(path), ours, theirs, error))
    report.compared += 1
    report.exact += equal
    report.close += close and not equal


CLOSE_CYCLES = 1e-3
"""The same for cycles and utilisation, where accesses to metadata take up a bandwidth."""


def _is_close(path: Keys, ours: Any, theirs: Any, error: float) -> bool:
    if "energy" in path[-1]:
        return error <= CLOSE_ENERGY
    if path[-1] in ("cycles", "utilization"):
        return error <= CLOSE_CYCLES
    is_access = any(key.endswith(("reads", "fills", "updates")) for key in path[3:])
    return is_access and abs(ours - theirs) <= 1
