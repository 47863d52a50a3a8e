"""Reads results of the real Timeloop and compares our figures with them.

The format is one JSON object per line (gzipped or not); docs/validation.md describes it. A record names an
architecture, gives a problem and a mapping, and says whether Timeloop ran it and what it counted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping as AbcMapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mapgym.cost import CostDetail, CostModel
from mapgym.errors import SpecificationError, suggest
from mapgym.errors.text import quoted, shortened
from mapgym.mapping import Mapping, MappingBatch
from mapgym.spec import catalog
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.tensor import Tensor
from mapgym.spec.workload import CONSTRUCTORS, Workload
from mapgym.system.input_file import parse_json, read_lines, read_text
from mapgym.timeloop.sparse_records import (
    Keys,
    has_hypergeometric_density,
    is_artefact,
    metadata_storage,
    set_spatial_orders,
    sparse_figures,
    with_record_densities,
    with_sparse_features,
)

TOLERANCE = 1e-9
"""Relative difference up to which two figures that are not whole numbers are equal."""

# Timeloop prints utilisations with this many decimals, so more cannot be compared.
_UTILIZATION_DECIMALS = 10
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
        cases: records read.
        verdicts_agree: records on whose legality we and Timeloop agree.
        artefacts: records without sane figures of Timeloop's, by the rule in docs/sparse.md; they are not compared.
        compared: records whose figures were compared (legal for both).
        exact: those of them in which every figure is equal to ``TOLERANCE``.
        close: those that are not, but have a hypergeometric density, whole-run cycles and computes that are equal,
            counts that differ by one access at most, and energies by ``CLOSE_ENERGY``: Timeloop sums many small
            probabilities, and the noise in the last digit decides what is rounded up.
        fields_compared: figures compared.
        max_rel_error: largest relative error of ``energy_pj``, ``latency_cycles`` and ``counts``.
        worst: up to ten differences, the largest first.
    """

    file: str
    cases: int = 0
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
        """Whether all verdicts agree and all compared cases are exact, or close where that is all that can be."""
        return self.verdicts_agree == self.cases and self.exact + self.close == self.compared

    def add(self, difference: Difference) -> None:
        """Keeps the difference if it is among the ten largest."""
        self.worst = sorted([*self.worst, difference], key=lambda entry: -entry.relative_error)[:10]


def validate_file(
    path: str | Path, arch_json: str | Path | None = None, progress: Callable[[int, int], None] | None = None
) -> ValidationReport:
    """Prices every record of a file and compares all figures with Timeloop's.

    Args:
        path: a ``.jsonl`` or ``.jsonl.gz`` file.
        arch_json: a file with the flat description of the architectures; the catalog's when left out.
        progress: called with (records done, records in all) now and then.

    Raises:
        SpecificationError: the file or a record cannot be read, or names an unknown architecture.
    """
    records = list(read_records(path))
    if not records:
        raise SpecificationError(f"{path}: holds no records; give a file with one JSON object per line")
    architectures = None if arch_json is None else _read_json(Path(arch_json))
    report = ValidationReport(str(path), cases=len(records))
    groups: dict[str, list[Record]] = {}
    for record in records:
        task = [record["arch"], record["problem"], record.get("sparse")]
        groups.setdefault(json.dumps(task, sort_keys=True), []).append(record)
    done = 0
    for group in groups.values():
        with _reading(group[0], path):
            accelerator = timeloop_accelerator(group[0]["arch"], architectures, str(path))
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
                assert cost.detail is not None
                figures = _figures(accelerator, workload, cost.detail, cost)
                if cost.savings is not None:
                    figures |= sparse_figures(accelerator, workload, cost)
                with _reading(record, path):
                    _compare(report, record, figures)
        done += len(group)
        if progress is not None:
            progress(done, len(records))
    return report


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


def timeloop_accelerator(name: str, architectures: AbcMapping[str, Any] | None, where: str) -> Accelerator:
    """The accelerator of a record, under Timeloop's rules: peer links on, only cumulative fan-out checks.

    Args:
        name: the architecture.
        architectures: name -> flat description; None for the catalog.
        where: for error messages.
    """
    if architectures is None:
        if name not in catalog.accelerator_names():
            raise SpecificationError(
                f"{where}: architecture {quoted(name)} is not in the catalog; give its description with --arch"
            )
        accelerator = catalog.accelerator(name)
        # keep_only describes a map space; Timeloop's model lets any level hold any tensor.
        levels = tuple(replace(level, keep_only=None) for level in accelerator.levels)
        return replace(accelerator, levels=levels, peer_links=True, fanout_check="cumulative")
    if name not in architectures:
        raise SpecificationError(
            f"{where}: architecture {quoted(name)} is not described; {suggest(name, architectures)}"
        )
    entry = architectures[name]
    try:
        levels = tuple(
            StorageLevel(
                name=level["name"],
                capacity_words=level["capacity_words"],
                mesh_x=level["meshX"],
                mesh_y=level["meshY"],
                access_energy_pj=level["vector_access_energy_pJ"],
                block_size_words=level["block_size_words"],
                word_bits=level["word_bits"],
                read_bandwidth_words_per_cycle=level["read_bandwidth"],
                write_bandwidth_words_per_cycle=level["write_bandwidth"],
                shared_bandwidth_words_per_cycle=level["shared_bandwidth"],
                energy_per_hop_pj=level["energy_per_hop_pJ"],
                router_energy_pj=level["router_energy_pJ"],
                **metadata_storage(level),
            )
            for level in reversed(entry["levels"])
        )
        mac = entry["mac"]
        units = Mac(mac["name"], mac["meshX"], mac["meshY"], mac["energy_pJ_per_mac"], mac["word_bits"])
    except (KeyError, TypeError) as error:
        raise SpecificationError(f"architecture {quoted(name)}: {error} is missing in its description") from None
    return Accelerator(name, levels, units, peer_links=True, fanout_check="cumulative")


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


def _figures(accelerator: Accelerator, workload: Workload, detail: CostDetail, cost: Any) -> dict[Keys, Any]:
    """Our figures by the path that they have in a record: keys within keys."""
    figures: dict[Keys, Any] = {
        ("cycles",): cost.latency_cycles,
        ("utilization",): round(cost.utilization, _UTILIZATION_DECIMALS),
        ("energy_total_pJ",): cost.energy_pj,
        ("energy_network_pJ",): float(detail.network_energy_pj.sum()),
        ("actual_computes",): workload.macs,
    }
    inner = (accelerator.mac.name, *accelerator.level_names)
    for s, level in enumerate(accelerator.level_names):
        figures["per_level", level, "cycles"] = int(detail.level_cycles[s])
        for t, tensor in enumerate(workload.tensors):
            if detail.tile_words[s, t]:
                path = ("per_level", level, tensor.name)
                figures[*path, "partition_size"] = int(detail.partition_words[s, t])
                figures[*path, "utilized_capacity"] = int(detail.tile_words[s, t])
                figures[*path, "utilized_instances"] = int(detail.used_instances[s])
                figures[*path, "reads"] = int(detail.reads[s, t])
                figures[*path, "fills"] = int(detail.fills[s, t])
                figures[*path, "updates"] = int(detail.updates[s, t])
                figures[*path, "energy_total_pJ"] = float(detail.energy_pj[s, t])
            path = ("networks", f"{level} <==> {inner[s]}", tensor.name)
            figures[*path, "ingresses"] = float(detail.ingresses[s, t])
            figures[*path, "link_transfers"] = float(detail.link_transfers[s, t])
            figures[*path, "multicast_factor"] = int(detail.multicast[s, t])
            figures[*path, "spatial_reductions"] = int(detail.spatial_reductions[s, t])
            figures[*path, "fanout"] = int(detail.fanout_used[s])
    return figures


def _compare(report: ValidationReport, record: Record, figures: dict[Keys, Any]) -> None:
    equal, close = True, has_hypergeometric_density(record)
    for path, ours in figures.items():
        theirs: Any = record
        for key in path:
            theirs = theirs.get(key, 0) if isinstance(theirs, dict) else 0
        theirs = theirs or 0
        error = 0.0 if ours == theirs else abs(ours - theirs) / max(abs(theirs), abs(ours))
        if not math.isfinite(error):  # a figure that is not a number is equal to nothing
            error = math.inf
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


def _is_close(path: Keys, ours: Any, theirs: Any, error: float) -> bool:
    if "energy" in path[-1]:
        return error <= CLOSE_ENERGY
    is_access = path[-1].endswith(("reads", "fills", "updates"))
    return is_access and abs(ours - theirs) <= 1


def _read_json(path: Path) -> dict[str, Any]:
    kind = "the file with the architectures"
    data = parse_json(read_text(path, kind), str(path), f"give {kind}")
    if not isinstance(data, dict):
        raise SpecificationError(f"{path}: is not an object of architecture descriptions; one key per architecture")
    return data
