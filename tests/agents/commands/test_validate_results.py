"""``mapgym validate FOLDER``, end to end."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import yaml

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


@pytest.fixture
def installed(tmp_path, monkeypatch, folder):
    """A program that leaves recorded results where it is started, as timeloop-model does, and its mapping in a file."""
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "timeloop-model"
    program.write_text(
        "#!/bin/sh\n"
        f"[ -n \"$FAIL\" ] && {{ echo 'ERROR: could not find bound'; exit 1; }}\n"
        f"for file in architecture.yaml ERT.yaml problem.yaml mapping.yaml; do [ -f $file ] || exit 3; done\n"
        f"cp {folder}/*stats.txt {folder}/*map.txt .\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    mapping = MapSpace(LAYER, MACHINE, ("tile", "order")).sample(np.random.default_rng(3), 1)[0]
    for name, part in (("mapping", mapping), ("layer", LAYER), ("machine", MACHINE)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(part.to_dict()))
    return tmp_path


def test_an_installed_model_is_run_and_compared(mapgym, installed, monkeypatch):
    task = ("--workload", installed / "layer.yaml", "--accelerator", installed / "machine.yaml")
    arguments = ("validate", installed / "mapping.yaml", "--with", "timeloop", *task)
    status, text, error = mapgym(*arguments)
    assert (status, error) == (0, "")
    assert "1 of 1 agree in all counts and cycles." in text
    found = json.loads(mapgym(*arguments, "--json")[1])["results"][0]
    assert found["equal"] == found["compared"]
    monkeypatch.setenv("FAIL", "1")
    status, _, error = mapgym(*arguments)
    assert status == 2
    assert "ended with status 1 and no results; it said last: 'ERROR: could not find bound'" in error
    monkeypatch.setenv("PATH", "/nowhere")
    assert "timeloop-model is not on the PATH" in mapgym(*arguments)[2]
    assert "unknown tool 'timelop'; did you mean 'timeloop'" in mapgym(*arguments[:3], "timelop", *task)[2]
    assert "say of what with --workload" in mapgym(*arguments[:4])[2]
    assert "without --with" in mapgym("validate", installed, *task)[2]
