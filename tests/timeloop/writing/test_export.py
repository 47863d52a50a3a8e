"""Our tasks and mappings in Timeloop's words."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from mapgym.mapping import Mapping
from mapgym.spec import catalog
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.tensor import Tensor
from mapgym.spec.workload import Workload, conv2d
from mapgym.timeloop.writing import export_timeloop
from mapgym.timeloop.writing.names import readable_names


@pytest.fixture
def task() -> tuple[Workload, Accelerator, Mapping]:
    """A strided row of a convolution on four elements that stand two by two."""
    workload = conv2d("row", C=2, M=4, P=4, Q=1, R=3, S=1, stride=2)
    levels = (
        StorageLevel("RF", 10, mesh_x=2, mesh_y=2, access_energy_pj=0.5),
        StorageLevel("DRAM", access_energy_pj=100.0, block_size_words=4, read_bandwidth_words_per_cycle=8.0),
    )
    accelerator = Accelerator("four", levels, Mac("MACC", mesh_x=2, mesh_y=2))
    data = {
        "levels": [
            {
                "level": "DRAM",
                "temporal": {"P": 4, "C": 2},
                "order": ["C", "P"],
                "spatial_x": {"M": 2},
                "spatial_y": {"R": 1},
            },
            {"level": "RF", "temporal": {"R": 3, "M": 2}, "keep": ["Weights", "Outputs"]},
        ]
    }
    return workload, accelerator, Mapping.from_dict(data, workload, accelerator)


def sections(export) -> dict[str, object]:
    """All sections of all files."""
    found: dict[str, object] = {}
    for text in export.files.values():
        assert text.startswith("# ")
        found |= yaml.safe_load(text)
    return found


def test_the_files_by_hand(task) -> None:
    export = export_timeloop(*task)
    assert list(export.files) == ["architecture.yaml", "ERT.yaml", "problem.yaml", "mapping.yaml"]
    found = sections(export)
    (root,) = found["architecture"]["subtree"]
    (dram,), (inner,) = root["local"], root["subtree"]
    assert dram == {
        "name": "DRAM",
        "class": "DRAM",
        "attributes": {
            "width": 64,
            "block-size": 4,
            "word-bits": 16,
            "meshX": 1,
            "meshY": 1,
            "read_bandwidth": 8.0,
            "vector-access-energy": 100.0,
        },
    }
    rf, macs = inner["local"]
    assert rf["name"] == "RF[0..3]"
    assert rf["attributes"]["depth"] == 10
    assert (macs["name"], macs["attributes"]["meshX"], macs["attributes"]["meshY"]) == ("MACC[0..3]", 2, 2)
    problem = found["problem"]
    assert problem["shape"]["coefficients"] == [{"name": "Times2", "default": 2}]
    inputs = next(space for space in problem["shape"]["data-spaces"] if space["name"] == "Inputs")
    assert inputs["projection"][-1] == [["R"], ["P", "Times2"]]
    assert problem["instance"] == {"N": 1, "C": 2, "P": 4, "Q": 1, "R": 3, "S": 1, "M": 4, "Times2": 2}
    assert found["mapping"] == [
        {"target": "DRAM", "type": "datatype", "keep": ["Weights", "Inputs", "Outputs"], "bypass": []},
        {
            "target": "DRAM",
            "type": "spatial",
            "factors": "M=2 N=1 C=1 P=1 Q=1 R=1 S=1",
            "permutation": "MNCPQRS",
            "split": 1,
        },
        {
            "target": "DRAM",
            "type": "temporal",
            "factors": "C=2 P=4 N=1 Q=1 R=1 S=1 M=1",
            "permutation": "CPNQRSM",
        },
        {"target": "RF", "type": "datatype", "keep": ["Weights", "Outputs"], "bypass": ["Inputs"]},
        {
            "target": "RF",
            "type": "temporal",
            "factors": "R=3 M=2 N=1 C=1 P=1 Q=1 S=1",
            "permutation": "RMNCPQS",
        },
    ]


def test_energies_of_actions_are_a_table(task) -> None:
    workload, accelerator, mapping = task
    rf = replace(accelerator.levels[0], action_energies_pj=(("read", 1.0), ("write", 2.0), ("leak", 0.25)))
    export = export_timeloop(workload, replace(accelerator, levels=(rf, accelerator.levels[1])), mapping)
    tables = {table["name"]: table["actions"] for table in sections(export)["ERT"]["tables"]}
    assert set(tables) == {"system.MACC", "system.RF"}
    energies = {action["name"]: action["energy"] for action in tables["system.RF"]}
    assert energies["random_read"] == 1.0
    assert energies["random_fill"] == energies["random_update"] == 2.0
    assert energies["leak"] == 0.25
    (root,) = sections(export)["architecture"]["subtree"]
    assert "vector-access-energy" not in root["subtree"][0]["local"][0]["attributes"]


def test_zeros_are_said_too() -> None:
    workload = catalog.workload("toy/tiny_gemm").with_densities({"Weights": 0.5, "Inputs": 0.25}, "hypergeometric")
    accelerator = catalog.accelerator("tiny_sparse_md")
    export = export_timeloop(workload, accelerator, Mapping.trivial(workload, accelerator))
    found = sections(export)
    assert found["problem"]["instance"]["densities"] == {
        "Weights": {"distribution": "hypergeometric", "density": 0.5},
        "Inputs": {"distribution": "hypergeometric", "density": 0.25},
        "Outputs": {"distribution": "hypergeometric", "density": 1.0},
    }
    targets = {target["name"]: target for target in found["sparse_optimizations"]["targets"]}
    assert list(targets) == ["DRAM", "Buf", "RF", "MAC"]
    assert targets["MAC"]["compute-optimization"] == [{"type": "skipping"}]
    spaces = {entry["name"]: entry for entry in targets["Buf"]["representation-format"]["data-spaces"]}
    assert set(spaces) == {"Weights", "Inputs", "Outputs"}
    assert [rank["format"] for rank in spaces["Weights"]["ranks"]] == ["UOP"] * 42 + ["CP"]
    options = [option for entry in targets["RF"]["action-optimization"] for option in entry["options"]]
    assert {"target": "Weights", "condition-on": ["Inputs"]} in options


def test_what_timeloop_cannot_say_is_listed(task) -> None:
    workload, accelerator, mapping = task
    quiet = replace(accelerator, fanout_check="cumulative")
    assert export_timeloop(workload, quiet, mapping).lost == ()
    rf = replace(quiet.levels[0], no_multicast=("Weights",), keep_only=("Weights", "Outputs"))
    lost = export_timeloop(workload, replace(quiet, levels=(rf, quiet.levels[1]), peer_links=False), mapping).lost
    assert len(lost) == 3
    for word in ("peer_links", "keep_only of RF", "no_multicast of RF (Weights)"):
        assert any(word in sentence for sentence in lost), word


def test_names_that_timeloop_cannot_read_are_told(task) -> None:
    workload, accelerator, _ = task
    tensors = tuple(Tensor(f"{t.name} of it", t.ranks, t.is_output) for t in workload.tensors)
    workload = replace(workload, tensors=tensors)
    export = export_timeloop(workload, accelerator, Mapping.trivial(workload, accelerator))
    assert "Weights of it is Weights_of_it" in export.lost[0]
    names = [space["name"] for space in sections(export)["problem"]["shape"]["data-spaces"]]
    assert names == ["Weights_of_it", "Inputs_of_it", "Outputs_of_it"]


def test_no_two_names_become_one() -> None:
    assert readable_names(["a b", "a_b", "a-b", "9", "", "ß"]) == {
        "a b": "a_b_2",
        "a_b": "a_b",
        "a-b": "a_b_3",
        "9": "_9",
        "": "unnamed",
        "ß": "unnamed_2",
    }
