"""Sparse hardware against runs of today's Timeloop: with metadata, and with energies of each action."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest

from golden_records import DATA, read_accelerator, read_records
from mapgym import CostModel
from mapgym.cost import Cost
from mapgym.spec.accelerator import Accelerator
from mapgym.timeloop.records.records import timeloop_mapping, timeloop_workload
from mapgym.timeloop.records.sparse_records import (
    has_hypergeometric_density,
    is_artefact,
    metadata_storage,
    sparse_figures,
    with_sparse_features,
)

RECORDS = list(read_records(DATA / "golden_today_sparse_sample.jsonl.gz"))
with gzip.open(DATA / "golden_today_sparse_arch.json.gz", "rt") as file:
    DESCRIPTIONS = json.load(file)
ACCESSES, OUTCOMES = ("reads", "fills", "updates"), ("", "gated_", "skipped_")


def machine(record: dict) -> Accelerator:
    facts = DESCRIPTIONS[record["arch"]]
    accelerator = read_accelerator(facts, "timeloop-2025")
    described = facts["levels"][::-1]
    levels = [
        replace(level, **metadata_storage(entry)) for level, entry in zip(accelerator.levels, described, strict=True)
    ]
    return with_sparse_features(replace(accelerator, levels=tuple(levels)), record["sparse"])


def metadata(record: dict, accelerator: Accelerator, tensors: list[str], like: np.ndarray) -> np.ndarray:
    """The record's accesses to metadata in the layout of ours; levels without any metadata print none."""
    counts = np.zeros_like(like)
    for s, level in enumerate(accelerator.levels):
        for t, tensor in enumerate(tensors):
            entry = record["per_level"][level.name].get(tensor, {})
            for k, access in enumerate(ACCESSES):
                for o, outcome in enumerate(OUTCOMES):
                    for rank, parts in (entry.get(f"{outcome}format_{access}") or {}).items():
                        counts[s, t, k, o, int(rank)] = parts
    return counts


def differs(record: dict, ours: dict) -> list[tuple[str, object, object]]:
    """Figures that are not equal."""
    found = []
    for path, value in ours.items():
        theirs = record
        for key in path:
            theirs = theirs.get(key, 0) if isinstance(theirs, dict) else 0
        if value != pytest.approx(theirs or 0, rel=1e-9, abs=0):
            found.append(("/".join(path), value, theirs))
    return found


def check(record: dict, accelerator: Accelerator, cost: Cost) -> None:
    workload = timeloop_workload(record, "sample")
    figures = {path: value for path, value in sparse_figures(accelerator, workload, cost).items() if len(path) < 5}
    figures |= {("cycles",): cost.latency_cycles, ("energy_total_pJ",): cost.energy_pj}
    stored = [s for s, level in enumerate(accelerator.levels) if level.metadata_width_bits]
    ours = cost.savings.metadata_accesses
    theirs = metadata(record, accelerator, [tensor.name for tensor in workload.tensors], ours)
    found = differs(record, figures)
    if not has_hypergeometric_density(record):
        assert found == []
        assert np.array_equal(ours[stored], theirs[stored])
        return
    # Timeloop adds up many small probabilities, and the last digit decides what is rounded.
    assert np.abs(ours[stored] - theirs[stored]).max(initial=0) <= 1
    for path, value, other in found:
        near = 5e-2 if "energy" in path else 1e-3 if path.endswith("cycles") else 0.0
        assert value == pytest.approx(other, rel=near, abs=0 if near else 1), path


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record["id"])
def test_real_runs_are_reproduced(record):
    accelerator, workload = machine(record), timeloop_workload(record, "sample")
    mapping = timeloop_mapping(record, workload, accelerator)
    cost = CostModel(workload, accelerator, is_canonical=False).evaluate(mapping, detail=True)
    if is_artefact(record, cost):
        return
    assert cost.legal == record["valid"], cost.reason
    if cost.legal and cost.savings is not None:
        check(record, accelerator, cost)
