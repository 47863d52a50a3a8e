"""The command ``mapgym sweep``, end to end, on the small network."""

from __future__ import annotations

import csv
import io
import json

from command_line import one_sentence
from mapgym.agents.studies.network.layer_search import LayerSearch


def arguments(folder, *more):
    sizes = ("--set", "Buf.capacity_words=16,64,256", "--set", "RF.capacity_words=8,64")
    return ("sweep", "toy", "tiny", *sizes, "-o", folder, "--samples-per-layer", "60", *more)


def read(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_variants_side_by_side(mapgym, tmp_path):
    status = mapgym(*arguments(tmp_path / "a"))[0]
    assert status == 0
    assert {"sweep.md", "sweep.csv", "sweep_1.csv", "sweep.png"} <= {path.name for path in (tmp_path / "a").iterdir()}
    rows = read(tmp_path / "a" / "sweep_1.csv")
    assert [(row["Buf.capacity_words"], row["RF.capacity_words"]) for row in rows] == [
        (buf, rf) for buf in ("16", "64", "256") for rf in ("8", "64")
    ]
    edp = [float(row["EDP (pJ*cycles)"]) for row in rows]
    by_layer = {(row["variant"], row["layer"]): float(row["EDP (pJ*cycles)"]) for row in read(tmp_path / "a/sweep.csv")}
    # More room holds every mapping that less room holds, and searches begin from those.
    for (variant, layer), value in by_layer.items():
        for before, after in (
            ("Buf.capacity_words=16", "64"),
            ("Buf.capacity_words=64", "256"),
            ("RF.capacity_words=8", "64"),
        ):
            if before in variant:
                larger = variant.replace(before, f"{before.partition('=')[0]}={after}")
                assert by_layer[larger, layer] <= value * (1 + 1e-12)
    assert min(edp) == edp[-1]
    assert any(row["on the front of energy and latency"] == "yes" for row in rows)
    # The work is done once, and the same with worker processes.
    assert mapgym(*arguments(tmp_path / "a"))[1].count("was there already") == 6 * 7
    assert mapgym(*arguments(tmp_path / "b", "--jobs", "2"))[0] == 0
    assert (tmp_path / "b" / "sweep.csv").read_text() == (tmp_path / "a" / "sweep.csv").read_text()


def test_an_interrupted_sweep_goes_on(mapgym, tmp_path, monkeypatch):
    search, done = LayerSearch.__call__, []

    def stopping(self, *solved):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(self.layer.name)
        return search(self, *solved)

    monkeypatch.setattr(LayerSearch, "__call__", stopping)
    status, _, error = mapgym(*arguments(tmp_path))
    assert status == 130
    assert "Interrupted: 3 of 42 parts are finished and kept" in error
    monkeypatch.setattr(LayerSearch, "__call__", search)
    assert mapgym(*arguments(tmp_path))[1].count("was there already") == 3


def test_mistakes_are_answered_before_anything_is_written(mapgym, tmp_path):
    folder = tmp_path / "none"
    for change in (
        ("--set", "Buf.capacity=1"),
        ("--set", "RF.mesh_x=3"),
        ("--constraints", "nowhere.yaml"),
        ("--agent", "gama"),
    ):
        status, _, error = mapgym("sweep", "toy", "tiny", "--set", "Buf.word_bits=8", "-o", folder, *change)
        assert status == 2, change
        one_sentence(error)
        assert not folder.exists()


def test_a_cell_of_a_map_is_shown_and_its_folder_reported(mapgym, tmp_path):
    constraints = tmp_path / "c.yaml"
    constraints.write_text("min_utilization: 0.02\n")
    common = ("--samples-per-layer", "60", "--certify", "1", "--clock", "0.5", "--constraints", constraints)
    folder = tmp_path / "map"
    assert mapgym("map", "toy", "tiny", "-o", folder, *common, "--jobs", "2")[0] == 0
    page = (folder / "map.html").read_text()
    cell = folder / "cells" / "toy-tiny_gemm.json"
    result = json.loads(cell.read_text())["result"]
    assert "neighbours pass words to each other" in result["not_certified_because"]
    shown = json.loads(mapgym("show", cell, "--json")[1])
    assert shown["edp"] == result["edp"]
    assert shown["mapping"] == result["mapping"]
    assert "Counts of one instance of DRAM" in mapgym("show", cell, "--explain", "DRAM/Outputs")[1]
    (folder / "map.html").unlink()
    assert mapgym("report", folder)[0] == 0
    assert (folder / "map.html").read_text() == page
    assert mapgym("map", "toy", "tiny", "-o", folder, "--clock", "0")[0] == 2
    assert "no ACCELERATOR is given" in one_sentence(mapgym("show", "toy/tiny_gemm")[2])
