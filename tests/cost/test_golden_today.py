"""Runs of today's Timeloop, reproduced by the kernel and by the tests' own model, figure by figure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping as AbcMapping

import pytest

import reference_model
from golden_records import FACTS, TODAY_ARCH, TODAY_SAMPLE, read_accelerator, read_mapping, read_records, read_workload
from mapgym.cost import CostModel
from mapgym.mapping import Mapping
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.workload import Workload

RECORDS = list(read_records(TODAY_SAMPLE))
ACCELERATORS = json.loads(TODAY_ARCH.read_text())
SHAPES = json.loads(FACTS.read_text())["shapes"]
STORAGE = {
    "reads": "reads",
    "fills": "fills",
    "updates": "updates",
    "tile_words": "utilized_capacity",
    "partition_words": "partition_size",
    "energy_pj": "energy_total_pJ",
    "address_energy_pj": "addr_gen_energy_pJ",
}
NETWORK = {
    "multicast": "multicast_factor",
    "ingresses": "ingresses",
    "link_transfers": "link_transfers",
    "spatial_reductions": "spatial_reductions",
}
FEATURES = {"ert", "ertcl", "cluster", "buffering", "dummy_level", "container", "net", "bwscale"}


def read(record: dict) -> tuple[Workload, Accelerator, Mapping]:
    accelerator = read_accelerator(ACCELERATORS[record["arch"]], "timeloop-2025")
    workload = read_workload(record["problem"], SHAPES)
    return workload, accelerator, read_mapping(record, workload, accelerator)


def figures(record: dict, workload: Workload, accelerator: Accelerator, mapping: Mapping) -> dict[str, list[float]]:
    """What Timeloop says of a legal mapping, as lists by the names that mapgym has, in the order of levels and tensors.

    Where a tensor is bypassed, storage has the figures 0.
    """
    found: dict[str, list[float]] = {
        name: [] for name in (*STORAGE, *NETWORK, "hops", "level_cycles", "leakage_energy_pj")
    }
    inner_name = accelerator.mac.name
    for s, level in enumerate(accelerator.levels):
        storage = record["per_level"][level.name]
        found["level_cycles"].append(storage["cycles"])
        found["leakage_energy_pj"].append(storage.get("leakage_energy_pJ", 0.0))
        for t, tensor in enumerate(workload.tensors):
            kept = storage[tensor.name] if mapping.keep[s, t] else {}
            network = record["networks"][f"{level.name} <==> {inner_name}"][tensor.name]
            for names, place in ((STORAGE, kept), (NETWORK, network)):
                for name, field in names.items():
                    found[name].append(place.get(field, 0) or 0)
            found["hops"].append((network["average_hops"] or 0) * network["ingresses"])
        inner_name = level.name
    return found


def compare(record: dict, task: tuple[Workload, Accelerator, Mapping], at: Callable[[str], object]) -> None:
    """Fails at the first figure that is not Timeloop's; ``at`` gives those to compare by name."""
    for name, expected in figures(record, *task).items():
        mine = [float(value) for value in at(name).ravel()]  # type: ignore[attr-defined]
        assert mine == pytest.approx(expected, rel=1e-9, abs=1e-9), (record["id"], name)


def instances(record: dict, task: tuple[Workload, Accelerator, Mapping], used: AbcMapping[str, list[int]]) -> None:
    workload, accelerator, mapping = task
    for s, level in enumerate(accelerator.levels):
        for t, tensor in enumerate(workload.tensors):
            if mapping.keep[s, t]:
                golden = record["per_level"][level.name][tensor.name]
                count = golden["utilized_instances"]
                assert used["used_instances"][s] == count, (record["id"], level.name)
                assert used["used_clusters"][s] == golden.get("utilized_clusters", count), (record["id"], level.name)


def test_sample_is_varied():
    assert len(RECORDS) == 150
    assert {record["arch"] for record in RECORDS} == set(ACCELERATORS)
    assert {record["style"].split(":")[0] for record in RECORDS} >= FEATURES | {"invalid", "bypass", "spatial_halo"}
    assert sum(record["valid"] for record in RECORDS) == 113


def test_kernel_reproduces_every_figure():
    for record in RECORDS:
        task = workload, accelerator, mapping = read(record)
        cost = CostModel(workload, accelerator).evaluate(mapping, detail=True)
        assert cost.legal == record["valid"], (record["id"], record["reason"], cost.reason)
        if not cost.legal:
            continue
        detail = cost.detail
        compare(record, task, lambda name, detail=detail: getattr(detail, name))
        used = {name: getattr(detail, name).tolist() for name in ("used_instances", "used_clusters")}
        instances(record, task, used)
        assert cost.latency_cycles == record["cycles"], record["id"]
        assert cost.energy_pj == pytest.approx(record["energy_total_pJ"], rel=1e-11), record["id"]
        assert cost.utilization == pytest.approx(record["utilization"], rel=1e-6), record["id"]


def test_reference_model_reproduces_every_figure():
    for record in RECORDS:
        task = workload, accelerator, mapping = read(record)
        cost = reference_model.evaluate(workload, accelerator, mapping)
        assert cost.legal == record["valid"], (record["id"], record["reason"], cost.violations)
        if not cost.legal:
            continue
        compare(record, task, cost.figure)
        instances(record, task, {"used_instances": cost.used_instances, "used_clusters": cost.used_clusters})
        assert cost.latency_cycles == record["cycles"], record["id"]
        assert cost.energy_pj == pytest.approx(record["energy_total_pJ"], rel=1e-11), record["id"]
        assert cost.utilization == pytest.approx(record["utilization"], rel=1e-6), record["id"]
