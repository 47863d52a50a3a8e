"""``mapgym validate FOLDER``, end to end."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mapgym.mapspace.space import MapSpace
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.workload import matmul
from timeloop_output import write_results

LAYER = matmul("layer", M=8, K=4, N=6)
MACHINE = Accelerator(
    "machine",
    (
        StorageLevel("Buf", 64, action_energies_pj=(("read", 1.5), ("write", 2.5))),
        StorageLevel("DRAM", action_energies_pj=(("read", 64.0), ("write", 64.0))),
    ),
    Mac("MACC", 4, 1, action_energies_pj=(("mac", 0.75),)),
    fanout_check="cumulative",
    rules="timeloop-2024",
)


@pytest.fixture
def folder(tmp_path):
    mapping = MapSpace(LAYER, MACHINE, ("tile", "order")).sample(np.random.default_rng(3), 1)[0]
    write_results(tmp_path / "published", LAYER, MACHINE, mapping)
    return tmp_path / "published"


def test_a_folder_that_agrees(mapgym, folder):
    status, text, error = mapgym("validate", folder)
    assert (status, error) == (0, "")
    assert "1 of 1 agree in all counts and cycles." in text
    assert "counted as timeloop-2024, as leakage is printed" in text
    status, text, _ = mapgym("validate", folder, folder.parent, "--json")
    first, second = json.loads(text)["results"]
    assert status == 0
    assert first == second
    assert first["case"] == "published"
    assert first["rules"] == "timeloop-2024"
    assert first["equal"] == first["compared"]
    assert first["differences"] == []
    assert first["not_compared"]["Area (total)"] == 1


def test_what_differs_is_shown(mapgym, folder):
    stats = folder / "timeloop-model.stats.txt"
    stats.write_text(stats.read_text().replace("\nCycles: ", "\nCycles: 1"))
    status, text, _ = mapgym("validate", folder)
    assert status == 1
    assert "DIFFERS" in text
    assert "nothing known" in text
    assert "0 of 1 agree" in text
    status, text, _ = mapgym("validate", folder, "--json")
    (case,) = json.loads(text)["results"]
    (difference,) = case["differences"]
    assert status == 1
    assert (difference["figure"], difference["kind"]) == ("Cycles", "cycles")
    assert difference["timeloop"] == f"1{difference['mapgym']:.0f}"


def test_what_cannot_be_priced_says_why_and_the_others_go_on(mapgym, folder):
    broken = folder.parent / "broken"
    broken.mkdir()
    (broken / "a.stats.txt").write_text("Buffer and Arithmetic Levels\nLevel 0\n")
    status, text, _ = mapgym("validate", folder.parent)
    assert status == 1
    assert "not priced" in text
    assert "cut off" in text
    assert "1 of 2 agree" in text


def test_files_of_a_folder_are_for_folders(mapgym, folder, tmp_path):
    records = tmp_path / "records.jsonl"
    records.write_text("{}\n")
    status, _, error = mapgym("validate", records, "--problem", folder / "parsed-processed-input.yaml")
    assert status == 2
    assert "is no folder of results" in error
    status, _, error = mapgym("validate", folder, "--ert", folder / "parsed-processed-input.yaml")
    assert status == 2
    assert "has no key 'ERT'" in error
