"""The command ``mapgym map``, end to end, on the small network."""

from __future__ import annotations

import csv
import io
import json

import pytest

from command_line import one_sentence
from mapgym.agents.studies.network import layer_search
from mapgym.mapping import Mapping
from mapgym.spec import catalog
from mapgym.warmstart import ReplayBuffer


@pytest.fixture
def arguments(tmp_path):
    return ("map", "toy", "tiny", "-o", tmp_path / "toy", "--samples-per-layer", "150", "--agent", "gamma")


def read(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_a_network_is_mapped_layer_by_layer(mapgym, arguments, tmp_path):
    status, out, _ = mapgym(*arguments)
    assert status == 0
    network = catalog.network("toy")
    for layer in network.layers:
        assert f"{layer.workload.name}: " in out
    assert {"map.md", "map.csv", "map_1.csv", "map.png"} <= {path.name for path in (tmp_path / "toy").iterdir()}
    rows = read(tmp_path / "toy" / "map.csv")
    assert [row["layer"] for row in rows] == [layer.name for layer in network.layers]
    assert rows[0]["begun from"] == ""
    assert rows[1]["begun from"] == network.layers[0].workload.name
    totals = {row["quantity"]: float(row["value"]) for row in read(tmp_path / "toy" / "map_1.csv")}
    energy = sum(float(row["energy (pJ)"]) * int(row["repeats"]) for row in rows)
    cycles = sum(float(row["latency (cycles)"]) * int(row["repeats"]) for row in rows)
    assert totals["energy (pJ)"] == pytest.approx(energy)
    assert totals["EDP (pJ*cycles)"] == pytest.approx(energy * cycles)
    assert totals["multiply-accumulates"] == network.macs
    assert sum(float(row["share of energy"]) for row in rows) == pytest.approx(1)


def test_it_continues_where_it_stopped(mapgym, arguments, tmp_path, monkeypatch):
    map_layer, mapped = layer_search.LayerSearch.__call__, []

    def stopping(self, *solved):
        if len(mapped) == 2:
            raise KeyboardInterrupt
        mapped.append(self.layer.name)
        return map_layer(self, *solved)

    monkeypatch.setattr(layer_search.LayerSearch, "__call__", stopping)
    status, _, error = mapgym(*arguments)
    assert status == 130
    assert "Interrupted: 2 of" in error
    monkeypatch.setattr(layer_search.LayerSearch, "__call__", map_layer)
    status, out, _ = mapgym(*arguments)
    assert status == 0
    assert out.count("was there already") == 2
    interrupted = (tmp_path / "toy" / "map.csv").read_text()
    # As if it had never been interrupted.
    again = [*arguments[:4], tmp_path / "again", *arguments[5:]]
    assert mapgym(*again)[0] == 0
    assert (tmp_path / "again" / "map.csv").read_text() == interrupted


@pytest.mark.parametrize(
    "text",
    [
        "factors: {RF: {K: {temporal: <=2}, R: {temporal: all}}}",
        "mapspace_constraints: {targets: [{target: RF, type: temporal, factors: K<=2 R=0}]}",
    ],
)
def test_constraints_hold_for_each_layer_as_far_as_it_has_the_dims(mapgym, arguments, tmp_path, text):
    path = tmp_path / "constraints.yaml"
    path.write_text(text)
    assert mapgym(*arguments, "--constraints", path)[0] == 0
    for cell in (tmp_path / "toy" / "cells").glob("*.json"):
        result = json.loads(cell.read_text())["result"]
        layer = next(one for one in catalog.network("toy").layers if one.name == result["layer"])
        mapping = Mapping.from_dict(result["mapping"], layer.workload, catalog.accelerator("tiny"))
        inner = dict(mapping.temporal_loops(0))
        assert inner.get("K", 1) <= 2
        assert inner.get("R", 1) == (layer.workload.bound("R") if "R" in layer.workload.dims else 1)
    assert mapgym("report", tmp_path / "toy")[0] == 0


def test_solved_layers_of_others_help(mapgym, arguments, tmp_path):
    assert mapgym(*arguments)[0] == 0
    buffer = ReplayBuffer(tmp_path / "layers.buffer")
    for path in sorted((tmp_path / "toy" / "cells").iterdir()):
        result = json.loads(path.read_text())["result"]
        layer = catalog.network("toy").layer(result["layer"])
        machine = catalog.accelerator("tiny")
        buffer.add(layer.workload, machine, Mapping.from_dict(result["mapping"], layer.workload, machine))
    again = [*arguments[:4], tmp_path / "again", *arguments[5:], "--buffer", buffer.path]
    status, out, _ = mapgym(*again)
    assert status == 0
    assert "from nothing" not in out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({1: "resnet17"}, "did you mean 'resnet18'"),
        ({2: "tyni"}, "did you mean 'tiny'"),
        ({6: "0"}, "--samples-per-layer is 0; give at least 1"),
        ({8: "gama"}, "did you mean 'gamma'"),
    ],
)
def test_mistakes_are_answered(mapgym, arguments, change, message):
    changed = [change.get(k, argument) for k, argument in enumerate(arguments)]
    status, _, error = mapgym(*changed)
    assert status == 2
    assert message in one_sentence(error)
