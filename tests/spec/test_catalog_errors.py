from __future__ import annotations

from pathlib import Path

import pytest

from mapgym.errors import SpecificationError
from mapgym.spec import catalog


@pytest.mark.parametrize(
    ("function", "spec", "message"),
    [
        ("workload", "resnet81/conv1", r"unknown network 'resnet81' .*did you mean 'resnet18'\?"),
        ("workload", "resnet18/conv_1", r"network 'resnet18' has no layer 'conv_1'; did you mean 'conv1'\?"),
        ("workload", "resnet18", r"'resnet18' is a network of 12 layers.*such as 'resnet18/conv1'"),
        ("workload", "resnet_conv4", r"unknown workload 'resnet_conv4'; did you mean 'paper/resnet_conv4'\?"),
        ("workload", 5, r"workload is 5; give a catalog name"),
        ("workload", "no_such_file.yaml", r"no_such_file\.yaml: there is no such file"),
        ("accelerator", "acel_b", r"unknown accelerator 'acel_b'; did you mean 'accel_b'\?"),
        ("accelerator", None, r"accelerator is None; give a catalog name"),
        ("network", "resnet", r"unknown network 'resnet'; did you mean 'resnet"),
        ("network", {"layers": {}}, r"network: layers is \{\}; give layer name"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(function, spec, message):
    with pytest.raises(SpecificationError, match=message):
        getattr(catalog, function)(spec)


CONV = "type: conv2d\nC: 4\nM: 4\nP: 4\nQ: 4\nR: 3\nS: 3\n"
MACHINE = (
    "levels:\n  - name: DRAM\n    access_energy_pj: 200\n"
    "  - name: Buf\n    access_energy_pj: 1\n    capacity_words: 64\n"
    "    mesh_x: 2\nmac: {mesh_x: 4, energy_pj: 1}\n"
)


@pytest.mark.parametrize(
    ("function", "text", "message"),
    [
        ("workload", CONV + "C: 8\n", r"file\.yaml, line 8: .*duplicate key 'C' \(first given on line 2\)"),
        ("workload", CONV + "strid: 2\n", r"file\.yaml: conv2d: unknown key 'strid'; did you mean 'stride'\?"),
        ("workload", CONV.replace("P: 4", "P: 0"), r"file\.yaml: .*bound of dim 'P' is 0; give a whole number"),
        ("workload", CONV.replace("P: 4", "P: -4"), r"file\.yaml: .*bound of dim 'P' is -4"),
        ("workload", CONV.replace("P: 4", "P: 4.5"), r"file\.yaml: .*bound of dim 'P' is 4\.5"),
        ("workload", CONV.replace("R: 3\n", ""), r"file\.yaml: conv2d needs the bound of 'R'"),
        ("workload", CONV.replace("conv2d", "conv2"), r"file\.yaml: unknown type 'conv2'; did you mean 'conv2d'\?"),
        ("workload", CONV.replace("C: 4", "C: 9000000000000000"), r"file\.yaml: .*above the 2\*\*52"),
        ("workload", "dims: {M: 4, K: 3\n", r"file\.yaml, line 2: the YAML stops in the middle .*cut off\?"),
        ("workload", "type: conv2d\nC 4\nM: 4\n", r"file\.yaml, line 2: not valid YAML"),
        ("workload", "", r"file\.yaml: is empty; is the file cut off\?"),
        ("workload", "- 4\n", r"file\.yaml: holds list, not a mapping"),
        ("workload", "type: !!python/name:os.system\n", r"file\.yaml, line 1: not valid YAML"),
        ("workload", "a: \x07\n", r"file\.yaml, line 1: a character that YAML forbids"),
        ("workload", "? [1]\n: 2\n", r"file\.yaml, line 1: .*a key must be text"),
        ("workload", "a: " + "[" * 5000 + "\n", r"file\.yaml, line 1: .*nested more than 100 deep"),
        ("workload", "type: matmul\nM: 2\nK: 2\n", r"file\.yaml: matmul needs the bound of 'N'"),
        (
            "workload",
            "dims: {M: 2}\ntensors:\n  A: {projection: [M], densty: 1}\n  O: {projection: [M], output: true}\n",
            r"file\.yaml: tensor 'A': unknown key 'densty'; did you mean 'density'\?",
        ),
        (
            "workload",
            "dims: {M: 2}\ntensors:\n  A: {projection: [M]}\n  O: {projection: [M], output: yes}\n",
            r"file\.yaml: tensor 'O': output is 'yes'; give true or false",
        ),
        ("accelerator", MACHINE.replace("64", ".nan"), r"file\.yaml: storage level 'Buf': capacity_words is nan"),
        (
            "accelerator",
            MACHINE.replace("access_energy_pj: 1\n", "access_energy_pj: .nan\n"),
            r"file\.yaml: storage level 'Buf': access_energy_pj is nan; give a finite energy",
        ),
        (
            "accelerator",
            MACHINE.replace("mesh_x: 2", "meshX: 2"),
            r"file\.yaml: levels\[1\]: unknown key 'meshX'; did you mean 'mesh_x'\?",
        ),
        ("accelerator", MACHINE + "macs: 3\n", r"file\.yaml: unknown key 'macs'; did you mean 'mac'\?"),
        ("accelerator", MACHINE.split("mac")[0], r"file\.yaml: mac is None; give a mapping"),
        ("accelerator", "levels:\n", r"file\.yaml: levels is None; give a list"),
        ("accelerator", MACHINE[: MACHINE.index("64") - 2], r"file\.yaml, line 6: "),
        ("accelerator", MACHINE + "mac: {mesh_x: 8}\n", r"file\.yaml, line 9: .*duplicate key 'mac'"),
        ("network", "layers:\n  a: 3\n", r"file\.yaml: layer 'a' is 3"),
        ("network", "layers:\n  a: {type: mttkrp, name: b}\n", r"file\.yaml: layer 'a' has the key 'name'; remove it"),
        (
            "network",
            "layers:\n  a: {type: mttkrp, I: 1, J: 1, K: 1, L: 1, repeats: 0}\n",
            r"file\.yaml: layer 'a': repeats is 0",
        ),
        (
            "network",
            "layers:\n  a: {type: mttkrp, I: 1, J: 1, K: 1, L: 1, repeat: 2}\n",
            r"file\.yaml: layer 'a': mttkrp: unknown key 'repeat'",
        ),
        ("network", "layer: {}\n", r"file\.yaml: unknown key 'layer'; did you mean 'layers'\?"),
    ],
)
def test_mistakes_in_files_name_file_key_and_remedy(tmp_path: Path, function, text, message):
    file = tmp_path / "file.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SpecificationError, match=message) as caught:
        getattr(catalog, function)(file)
    assert "\n" not in str(caught.value)


def test_unreadable_files(tmp_path: Path):
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(SpecificationError, match="cannot be read"):
        catalog.accelerator(tmp_path / "folder.yaml")
    file = tmp_path / "binary.yaml"
    file.write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(SpecificationError, match="is not UTF-8 text"):
        catalog.workload(file)


@pytest.mark.parametrize(
    ("cut", "missing"),
    [("mac: {mesh_x: 4, energy_pj: 1}", "energy_pj"), ("mac: {mesh_x: 4, energy_pj: 1}", "mesh_x")],
)
def test_what_a_short_file_leaves_out_is_not_taken_for_a_default(tmp_path, cut, missing):
    file = tmp_path / "file.yaml"
    rest = "mac: {mesh_x: 4}" if missing == "energy_pj" else "mac: {}"
    file.write_text(MACHINE.replace(cut, rest), encoding="utf-8")
    with pytest.raises(SpecificationError, match=rf"file\.yaml: mac has no '{missing}'"):
        catalog.accelerator(file)


def test_a_level_without_an_energy_is_refused(tmp_path):
    file = tmp_path / "file.yaml"
    file.write_text(MACHINE.replace("    access_energy_pj: 1\n", ""), encoding="utf-8")
    with pytest.raises(SpecificationError, match=r"levels\[1\] has no 'access_energy_pj'"):
        catalog.accelerator(file)


def test_numbers_beyond_exact_counting_are_refused(tmp_path):
    file = tmp_path / "file.yaml"
    file.write_text(MACHINE.replace("capacity_words: 64", f"capacity_words: {2**63}"), encoding="utf-8")
    with pytest.raises(SpecificationError, match=r"capacity_words is 9223372036854775808; .*at most 2\*\*53"):
        catalog.accelerator(file)
