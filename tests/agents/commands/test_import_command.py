"""The command ``mapgym import timeloop``."""

from __future__ import annotations

import json

import pytest
import yaml

from command_line import one_sentence
from mapgym.mapping import Mapping
from mapgym.spec import catalog
from mapgym.spec.accelerator import Accelerator
from mapgym.timeloop.writing import export_timeloop

ARCHITECTURE = """
architecture:
  version: 0.4
  nodes:
  - !Component {name: DRAM, class: DRAM, attributes: {width: 16, datawidth: 16, note: 1}}
  - !Component {name: Buffer, class: SRAM, attributes: {depth: 64, width: 16, datawidth: 16}}
  - !Component {name: mac, class: intmac, attributes: {datawidth: 16}, spatial: {meshX: 4}}
"""


@pytest.mark.filterwarnings("default::mapgym.errors.InputWarning")
def test_files_are_written_as_ours(mapgym, tmp_path):
    (tmp_path / "arch.yaml").write_text(ARCHITECTURE)
    (tmp_path / "problem.yaml").write_text("problem: {shape: gemm-ABZ, instance: {M: 8, N: 4, K: 2}}\n")
    files = (tmp_path / "arch.yaml", tmp_path / "problem.yaml")
    status, out, error = mapgym(
        "import", "timeloop", *files, "-o", tmp_path / "ours", "--energies", "pat", "--name", "mine"
    )
    assert status == 0
    assert "accelerator.yaml, workload.yaml." in out
    assert "arch.yaml: without effect: DRAM: note" in error
    ours = tmp_path / "ours" / "accelerator.yaml"
    assert catalog.accelerator(ours).name == "mine"
    assert catalog.accelerator(ours).fanout_x == (4, 1, 1)
    # Theirs may be named in place of ours.
    command = ("--samples", "50", "--axes", "tile,order,parallelism", "--json")
    status, text, error = mapgym("search", files[1], f"{files[0]}:pat", *command)
    assert status == 0
    assert "without effect" in error
    theirs, again = (
        json.loads(found) for found in (text, mapgym("search", tmp_path / "ours/workload.yaml", ours, *command)[1])
    )
    assert (theirs["edp"], theirs["mapping"]) == (again["edp"], again["mapping"])


@pytest.mark.filterwarnings("default::mapgym.errors.InputWarning")
def test_levels_without_room_for_all_tensors_are_searched_with_bypass(mapgym, tmp_path):
    mac = "  - !Component {name: mac"
    register = f"  - !Component {{name: Reg, class: SRAM, attributes: {{depth: 1, width: 16, datawidth: 16}}}}\n{mac}"
    arch, problem = tmp_path / "arch.yaml", tmp_path / "problem.yaml"
    arch.write_text(ARCHITECTURE.replace(mac, register))
    problem.write_text("problem: {shape: gemm-ABZ, instance: {M: 8, N: 4, K: 2}}\n")
    status, out, _ = mapgym("search", problem, f"{arch}:pat", "--samples", "50", "--json")
    assert status == 0
    assert json.loads(out)["axes"] == ["tile", "order", "parallelism", "bypass"]
    status, _, error = mapgym("search", problem, f"{arch}:pat", "--samples", "50", "--axes", "tile,order,parallelism")
    assert status == 2
    assert "'Reg' must hold at least 3 words but has room for 1" in one_sentence(error)


@pytest.mark.filterwarnings("default::mapgym.errors.InputWarning")
def test_comparisons_say_that_constraints_within_an_architecture_do_not_hold(mapgym, tmp_path):
    arch, problem = tmp_path / "arch.yaml", tmp_path / "problem.yaml"
    inside = ", constraints: {temporal: {factors: [M=4]}}}"
    arch.write_text(
        ARCHITECTURE.replace(
            "datawidth: 16}}\n  - !Component {name: mac", f"datawidth: 16}}{inside}\n  - !Component {{name: mac"
        )
    )
    problem.write_text("problem: {shape: gemm-ABZ, instance: {M: 8, N: 4, K: 2}}\n")
    task = (
        "--workload",
        problem,
        "--accelerator",
        f"{arch}:pat",
        "--agents",
        "random",
        "--samples",
        "20",
        "--seeds",
        "1",
    )
    status, _, error = mapgym("compare", *task, "-o", tmp_path / "out")
    assert status == 0
    assert "do not hold here" in error


def test_constraints_come_along(mapgym, tmp_path):
    (tmp_path / "arch.yaml").write_text(ARCHITECTURE)
    (tmp_path / "problem.yaml").write_text("problem: {shape: gemm-ABZ, instance: {M: 8, N: 4, K: 2}}\n")
    (tmp_path / "constraints.yaml").write_text(
        "mapspace_constraints: {targets: [{target: Buffer, type: temporal, factors: M=4, permutation: KMN}, "
        "{target: Buffer, type: dataspace, keep: [A], bypass: [B]}]}\n"
    )
    files = [tmp_path / f"{name}.yaml" for name in ("arch", "problem", "constraints")]
    assert mapgym("import", "timeloop", *files, "-o", tmp_path / "ours", "--energies", "pat")[0] == 0
    ours = yaml.safe_load((tmp_path / "ours/constraints.yaml").read_text())
    assert ours["factors"] == {"Buffer": {"M": {"temporal": 4}}}
    assert ours["keep"] == {"Buffer": ["A"]}
    assert ours["bypass"] == {"Buffer": ["B"]}
    task = [tmp_path / "ours" / f"{name}.yaml" for name in ("workload", "accelerator")]
    constraints = (
        "--constraints",
        tmp_path / "ours/constraints.yaml",
        "--axes",
        "tile,order,bypass",
        "--samples",
        "40",
    )
    status, text, _ = mapgym("search", *task, *constraints, "--json")
    assert status == 0
    buffer = next(level for level in json.loads(text)["mapping"]["levels"] if level["level"] == "Buffer")
    assert buffer["temporal"]["M"] == 4
    assert "A" in buffer["keep"]
    assert "B" not in buffer["keep"]


def test_a_mapping_comes_along(mapgym, tmp_path):
    mapping = tmp_path / "mapping.yaml"
    assert mapgym("search", "toy/tiny_gemm", "tiny", "--samples", "30", "-o", mapping)[0] == 0
    task = ("--workload", "toy/tiny_gemm", "--accelerator", "tiny")
    assert mapgym("export", mapping, *task, "--to", "timeloop", "-o", tmp_path / "theirs")[0] == 0
    assert mapgym("import", "timeloop", tmp_path / "theirs", "-o", tmp_path / "ours")[0] == 0
    mine, again = (yaml.safe_load(path.read_text()) for path in (mapping, tmp_path / "ours/mapping.yaml"))
    assert again == mine


def test_nothing_is_written_of_what_cannot_be_expressed(mapgym, tmp_path):
    (tmp_path / "arch.yaml").write_text(ARCHITECTURE)
    folder = tmp_path / "ours"
    for arguments, message in (
        ((tmp_path / "arch.yaml",), "has no energies"),
        ((tmp_path / "nowhere.yaml",), "nowhere.yaml"),
        ((tmp_path / "arch.yaml", "--energies", "cacti"), "choose 'pat'"),
    ):
        status, _, error = mapgym("import", "timeloop", *arguments, "-o", folder)
        assert status == 2
        assert message in one_sentence(error)
        assert not folder.exists()


def test_what_is_exported_has_the_accelerator_again(tmp_path):
    accelerator, workload = catalog.accelerator("tiny"), catalog.workload("toy/tiny_gemm")
    for name, text in export_timeloop(workload, accelerator, Mapping.trivial(workload, accelerator)).files.items():
        (tmp_path / name).write_text(text)
    again = catalog.accelerator(str(tmp_path))
    assert isinstance(again, Accelerator)
    assert again.levels[1].capacity_words == accelerator.levels[1].capacity_words
