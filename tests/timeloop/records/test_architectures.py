"""Flat descriptions of architectures: every key, and the figures that only some records have."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from mapgym.errors import SpecificationError
from mapgym.spec.actions import MAC_ACTIONS, STORAGE_ACTIONS
from mapgym.spec.rules import RULE_SETS
from mapgym.timeloop import timeloop_accelerator
from mapgym.timeloop.records.architectures import BESIDE, read_architectures
from mapgym.timeloop.records.figures import relative_error, their_figure

ACTIONS = [action for action in STORAGE_ACTIONS if action != "leak"]
OUTER: dict[str, Any] = {
    "name": "Main",
    "capacity_words": None,
    "meshX": 2,
    "meshY": 1,
    "vector_access_energy_pJ": 100.0,
    "block_size_words": 4,
    "word_bits": 8,
    "read_bandwidth": None,
    "write_bandwidth": None,
    "shared_bandwidth": None,
    "energy_per_hop_pJ": 0.5,
    "router_energy_pJ": 0.25,
}
INNER = {**OUTER, "name": "Buffer", "capacity_words": 64, "meshX": 4, "meshY": 2, "read_bandwidth": 2.0}
MAC = {"name": "MAC", "meshX": 8, "meshY": 2, "energy_pJ_per_mac": 1.5, "word_bits": 8}


def described(outer: dict[str, Any] | None = None, inner: dict[str, Any] | None = None, **mac: Any) -> dict[str, Any]:
    return {
        "a": {"name": "a", "levels": [{**OUTER, **(outer or {})}, {**INNER, **(inner or {})}], "mac": {**MAC, **mac}}
    }


def test_what_every_description_has() -> None:
    machine = timeloop_accelerator("a", described(), "records", "timeloop-3.0.3")
    assert (machine.rules, machine.peer_links, machine.fanout_check) == ("timeloop-3.0.3", True, "cumulative")
    assert machine.level_names == ("Buffer", "Main")
    buffer, main = machine.levels
    assert (buffer.capacity_words, buffer.mesh_x, buffer.mesh_y, buffer.instances) == (64, 4, 2, 8)
    assert (buffer.read_bandwidth_words_per_cycle, buffer.write_bandwidth_words_per_cycle) == (2.0, None)
    assert (main.energy_per_hop_pj, main.router_energy_pj, main.hop_energy_pj) == (0.5, 0.25, 0.5)
    assert (main.cluster_size, main.multiple_buffering, main.action_energies_pj) == (1, 1.0, ())


def test_features_of_levels() -> None:
    features = {
        "addr_gen_energy": 0.3,
        "leak": 0.02,
        "power_gated_at": "Main",
        "cluster_size": 2,
        "multiple_buffering": 1.5,
        "ingress_energy": 0.1,
        "wire": [0.05, 200.0],
        "energy_per_hop_pJ": 0.08,
        "bw_scale": {"Weights": 3},
        "metadata_storage_width_bits": 16,
        "metadata_storage_depth": 4,
        "metadata_word_bits": 5,
        "decompression_supported": True,
        "compression_supported": True,
    }
    level = timeloop_accelerator("a", described(inner=features), "records").levels[0]
    assert (level.address_energy_pj, level.power_gated_at, level.cluster_size) == (0.3, "Main", 2)
    assert (level.multiple_buffering, level.usable_words, level.energy_per_ingress_pj) == (1.5, 42, 0.1)
    # A bit travels 0.2 mm for 0.05 pJ per mm; what follows from that is not read as well.
    assert level.hop_energy_pj == pytest.approx(8 * 0.2 * 0.05)
    assert level.bandwidth_scale == (("Weights", 3),)
    assert (level.metadata_access_bits, level.metadata_word_bits, level.metadata_capacity_bits) == (16, 5, 64)
    assert level.decompression_supported
    assert level.compression_supported
    assert level.energies_pj(RULE_SETS["timeloop-2025"].action_names)["leak"] == 0.02


def test_resolved_energies_are_those_of_their_actions() -> None:
    """Each action has another energy, so that none can take that of another one."""
    energies = {action: float(number) for number, action in enumerate(ACTIONS, 1)}
    computes = {"random": 3.0, "gated": 0.25, "skipped": 0.5}
    machine = timeloop_accelerator("a", described(outer={"op_energy": energies}, op_energy=computes), "records")
    found = machine.levels[-1].energies_pj(machine.counting.action_names)
    assert found == {**energies, "leak": 0.0}
    by_compute = machine.mac.energies_pj(machine.counting.action_names)
    assert by_compute == dict(zip(MAC_ACTIONS, computes.values(), strict=True))


def test_files_and_what_lies_beside_the_records(tmp_path: Path) -> None:
    one, two = tmp_path / "one.json", tmp_path / "two.json.gz"
    one.write_text(json.dumps({"x": 1, "y": 1}))
    two.write_bytes(gzip.compress(json.dumps({"y": 2, "z": 2}).encode()))
    (tmp_path / BESIDE).write_bytes(gzip.compress(json.dumps({"x": 3, "w": 3}).encode()))
    records = tmp_path / "records.jsonl"
    assert read_architectures(records, []) == {"x": 3, "w": 3}
    assert read_architectures(records, [one, two]) == {"x": 1, "y": 1, "z": 2, "w": 3}
    assert read_architectures(tmp_path / "elsewhere" / "records.jsonl", [two]) == {"y": 2, "z": 2}
    one.write_text("[]")
    with pytest.raises(SpecificationError, match=r"one\.json: is not an object of architecture descriptions"):
        read_architectures(records, [one])


def test_names_are_looked_up_in_descriptions_first_and_then_in_the_catalog() -> None:
    own = {"tiny": described()["a"]}
    assert timeloop_accelerator("tiny", own, "records").level_names == ("Buffer", "Main")
    assert timeloop_accelerator("accel_a", own, "records").level_names[-1] == "MainMemory"
    with pytest.raises(SpecificationError, match="architecture 'accel_z' is not described; did you mean 'accel_"):
        timeloop_accelerator("accel_z", own, "records")
    with pytest.raises(SpecificationError, match="architecture 'accel_z' is not in the catalog"):
        timeloop_accelerator("accel_z", {}, "records")
    for broken in ({"a": {"levels": []}}, {"a": 3}, {"a": {"levels": [{}], "mac": {}}}):
        with pytest.raises(SpecificationError):
            timeloop_accelerator("a", broken, "records")


def test_figures_that_records_leave_out_or_split() -> None:
    record = {
        "per_level": {
            "Buffer": {"A": {"utilized_instances": 4}, "B": {"utilized_instances": 4, "utilized_clusters": 2}}
        },
        "networks": {"Main <==> Buffer": {"A": {"energy_total_pJ": 1.5, "link_energy_total_pJ": 0.5}, "B": {}}},
    }
    assert their_figure(record, ("per_level", "Buffer", "A", "utilized_clusters")) == 4
    assert their_figure(record, ("per_level", "Buffer", "B", "utilized_clusters")) == 2
    assert their_figure(record, ("networks", "Main <==> Buffer", "A", "energy_total_pJ")) == 2.0
    assert their_figure(record, ("networks", "Main <==> Buffer", "B", "ingresses")) == 0
    # The total of all networks is compared in any case.
    for figure in ("energy_total_pJ", "average_hops"):
        assert their_figure(record, ("networks", "Main <==> Buffer", "B", figure)) is None
    assert their_figure(record, ("per_level", "Buffer", "A", "read_bandwidth")) is None
    assert their_figure(record, ("per_level", "Buffer", "leakage_energy_pJ")) == 0


def test_errors_are_relative_except_beyond_the_printed_decimals() -> None:
    assert relative_error(("cycles",), 11, 10) == pytest.approx(1 / 11)
    assert relative_error(("energy_total_pJ",), 1e-11, 0.0) == 1.0
    assert relative_error(("utilization",), 0.12345678912, 0.1234567891) == 0.0
    assert relative_error(("per_level", "Buffer", "A", "read_bandwidth"), 0.0001822, 0.0001821) > 0
    assert relative_error(("cycles",), float("nan"), 1.0) == float("inf")
