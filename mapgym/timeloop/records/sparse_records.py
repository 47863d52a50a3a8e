"""The sparse part of Timeloop's records: features, densities, figures, and which figures are none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping as AbcMapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapgym.cost.sparse.tables import ABORTED, WRAPPED
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.workload import Workload

if TYPE_CHECKING:
    from mapgym.cost import Cost
    from mapgym.mapping import Mapping

Keys = tuple[str, ...]
"""Where a figure is in a record: key, key within that, and so on. Names of levels and tensors may hold anything."""

_DISTRIBUTIONS = {"fixed": "fixed-structured", "fixed_structured": "fixed-structured", "diagonal": "banded"}
"""What Timeloop's files also call distributions."""

_ACCESSES, _OUTCOMES = ("reads", "fills", "updates"), ("", "gated_", "skipped_")

_WRAPPED_COUNT = 2.0**63
"""A count from here on has fallen below zero and wrapped around modulo 2**64."""


def metadata_storage(level: AbcMapping[str, Any]) -> dict[str, Any]:
    """Arguments of a StorageLevel for the formats in a flat description; Timeloop gives a DRAM no limit of metadata."""
    room = (level.get("metadata_storage_width_bits") or 0) * (level.get("metadata_storage_depth") or 0)
    return {
        "metadata_word_bits": level.get("metadata_word_bits") or 0,
        "metadata_access_bits": level.get("metadata_storage_width_bits") or None,
        "metadata_capacity_bits": None if level["capacity_words"] is None else room,
        "decompression_supported": bool(level.get("decompression_supported")),
        "compression_supported": bool(level.get("compression_supported")),
    }


def with_sparse_features(accelerator: Accelerator, features: AbcMapping[str, Any] | None) -> Accelerator:
    """The accelerator with the sparse features of a record instead of its own."""
    by_level = {} if features is None else {entry["level"]: entry for entry in features["levels"]}
    levels = tuple(
        replace(
            level,
            formats=tuple(dict(by_level.get(level.name, {}).get("formats", {})).items()),
            actions=tuple(by_level.get(level.name, {}).get("actions", ())),
        )
        for level in accelerator.levels
    )
    compute = () if features is None else tuple(features["compute"])
    return replace(accelerator, levels=levels, mac=replace(accelerator.mac, zero_operands=compute))


def with_record_densities(workload: Workload, densities: AbcMapping[str, Any]) -> Workload:
    """The workload with the densities of a record: numbers, or what Timeloop's files have under ``densities``."""
    given: dict[str, object] = {}
    for name, entry in densities.items():
        given[name] = entry
        if isinstance(entry, AbcMapping):
            kind = entry.get("distribution", "fixed-structured")
            given[name] = {**entry, "distribution": _DISTRIBUTIONS.get(kind, kind)}
    return workload.with_densities(given)


def set_spatial_orders(mapping: Mapping, record: AbcMapping[str, Any]) -> None:
    """Puts spatial loops where a record has them, those of bound 1 too: some of Timeloop's sparse counts need it."""
    for entry in record["mapping"]["levels"]:
        if entry["spatial_permutation"] is not None and entry.get("split") is not None:
            s = mapping.levels.index(entry["name"])
            mapping.spatial_order[s] = [mapping.dims.index(dim) for dim in entry["spatial_permutation"]]
            mapping.spatial_split[s] = entry["split"]


def has_hypergeometric_density(record: AbcMapping[str, Any]) -> bool:
    """Whether the non-zeros of a tensor lie anywhere."""
    densities = record["problem"].get("densities") or {}
    return any(entry["distribution"] == "hypergeometric" for entry in densities.values())


def is_artefact(record: AbcMapping[str, Any], cost: Cost) -> bool:
    """Whether the record holds no figures to compare with, and our rules say so too.

    Timeloop stops at an assertion if an operand's probability of not being zero exceeds 1; and a count of saved
    accesses wraps around if a level saves a smaller fraction than the levels outside have saved already.
    """
    if cost.savings is None:
        return False
    artefacts = int(cost.savings.artefacts)
    if not record["valid"]:
        return bool(artefacts & ABORTED) and bool(record.get("crashed"))
    return bool(artefacts & WRAPPED) and _has_wrapped(record.get("per_level"))


def _has_wrapped(data: Any) -> bool:
    if isinstance(data, dict):
        return any(_has_wrapped(value) for value in data.values())
    return isinstance(data, int | float) and data >= _WRAPPED_COUNT


def gives_metadata(record: AbcMapping[str, Any]) -> bool:
    """Whether a record says how often metadata are moved; older ones do not."""
    levels = record.get("per_level")
    found = list(levels.values()) if isinstance(levels, dict) else []
    tensors = [tensor for level in found if isinstance(level, dict) for tensor in level.values()]
    keys = {key for tensor in tensors if isinstance(tensor, dict) for key in tensor}
    return not keys.isdisjoint(f"format_{access}" for access in _ACCESSES)


def without_metadata(figures: dict[Keys, Any]) -> dict[Keys, Any]:
    """The figures but for those of single ranks of metadata."""
    return {path: figure for path, figure in figures.items() if len(path) < 5}


def _metadata(counts: NDArray[np.int64]) -> Iterator[tuple[Keys, int]]:
    """Accesses to the metadata of a tensor at a level, int64[access, outcome, rank, part], by their places."""
    for (access, outcome, rank, part), count in np.ndenumerate(counts):
        yield (f"{_OUTCOMES[outcome]}format_{_ACCESSES[access]}", str(rank), str(part)), int(count)


def sparse_figures(accelerator: Accelerator, workload: Workload, cost: Cost) -> dict[Keys, Any]:
    """Our figures by the path that they have in a record, those that sparse hardware changes."""
    savings = cost.savings
    assert savings is not None
    done, gated, skipped = (int(count) for count in savings.computes)
    mac = ("per_level", accelerator.mac.name)
    figures: dict[Keys, Any] = {
        ("actual_computes",): done,
        (*mac, "actual_computes"): done,
        (*mac, "gated_computes"): gated,
        (*mac, "skipped_computes"): skipped,
    }
    for s, level in enumerate(accelerator.level_names):
        figures["per_level", level, "cycles"] = int(savings.level_cycles[s])
        figures["per_level", level, "leakage_energy_pJ"] = float(savings.leakage_energy_pj[s])
        for t, tensor in enumerate(workload.tensors):
            if not savings.occupied_words[s, t]:
                continue
            path = ("per_level", level, tensor.name)
            figures[*path, "utilized_capacity"] = int(savings.occupied_words[s, t])
            figures[*path, "utilized_instances_average"] = float(savings.used_instances[s, t])
            figures[*path, "energy_total_pJ"] = float(savings.energy_pj[s, t])
            figures[*path, "addr_gen_energy_pJ"] = float(savings.address_energy_pj[s, t])
            for name in _ACCESSES:
                figures[*path, f"actual_{name}"] = int(getattr(savings, name)[s, t])
            if accelerator.levels[s].metadata_width_bits:
                figures |= {(*path, *place): count for place, count in _metadata(savings.metadata_accesses[s, t])}
            for name in ("gated_reads", "gated_updates", "skipped_reads", "skipped_updates"):
                figures[*path, name] = int(getattr(savings, name)[s, t])
    return figures
