"""Mappings for AccelForge: the loop nest is all there; what AccelForge makes of it docs/interop.md says."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import yaml
from hypothesis import given, settings, strategies as st

from mapgym.cost import CostModel
from mapgym.interop.accelforge import export_accelforge, read_accelforge
from mapgym.mapping import Mapping
from mapgym.mapspace import MapSpace
from mapgym.spec import catalog
from mapgym.spec.workload import conv2d
from random_cases import random_accelerator, random_mapping, random_workload


class Loader(yaml.SafeLoader):
    """Takes a tag for a key."""


def _node(loader, suffix, node):
    return {"tag": suffix, **loader.construct_mapping(node, deep=True)}


Loader.add_multi_constructor("!", _node)


def parts(export):
    data = {name: yaml.load(text, Loader) for name, text in export.files.items()}
    return (
        data["arch.yaml"]["arch"]["nodes"],
        data["workload.yaml"]["workload"],
        data["mapping.yaml"]["mapping"]["nodes"],
    )


def test_a_mapping():
    workload = conv2d("net/window-1", C=4, M=4, P=2, Q=4, R=1, S=3, stride=2)
    machine = catalog.accelerator("tiny")
    plan = {
        "levels": [
            {"name": "DRAM", "temporal": {"S": 3}},
            {"name": "Buf", "temporal": {"M": 2}, "spatial": {"M": 2}, "keep": ["Weights", "Inputs"]},
            {"name": "RF", "temporal": {"Q": 4, "P": 2, "C": 4}, "keep": ["Outputs"]},
        ]
    }
    mapping = Mapping.trivial(workload, machine)
    mapping.temporal[:], mapping.spatial[:] = 1, 1
    for entry in plan["levels"]:
        s = machine.level_index(entry["name"])
        for kind in ("temporal", "spatial"):
            for dim, factor in entry.get(kind, {}).items():
                getattr(mapping, kind)[s, workload.dims.index(dim)] = factor
        mapping.keep[s] = [name in entry.get("keep", mapping.tensors) for name in mapping.tensors]
    mapping.order[:] = [workload.dims.index(dim) for dim in "CPQMNRS"]
    mapping.spatial_order[:] = mapping.order
    mapping.spatial_split[:] = 7
    export = export_accelforge(workload, machine, mapping)
    arch, layer, nodes = parts(export)
    assert [(node["tag"], node["name"]) for node in arch] == [
        ("Memory", "DRAM"), ("Memory", "Buf"), ("Container", "Buf_array"), ("Memory", "RF"), ("Container", "RF_array"),
        ("Compute", "MAC"),
    ]  # fmt: skip
    assert layer["iteration_space_shape"]["q"] == "0 <= q < 4"
    (einsum,) = layer["einsums"]
    assert einsum["name"] == "net_window_1"
    assert einsum["tensor_accesses"][1] == {
        "name": "T_Inputs",
        "projection": {"C": "c", "N": "n", "Window_0": "s + 2*q", "Window_1": "r + 2*p"},
    }
    assert einsum["tensor_accesses"][2]["output"] is True
    loop = {"tag": "Temporal"}
    assert nodes == [
        {"tag": "Storage", "component": "DRAM", "tensors": ["T_Weights", "T_Inputs", "T_Outputs"]},
        {**loop, "rank_variable": "s", "tile_shape": 1},
        {"tag": "Storage", "component": "Buf", "tensors": ["T_Weights", "T_Inputs"]},
        # Parallel loops are outside of temporal ones.
        {"tag": "Spatial", "rank_variable": "m", "tile_shape": 2, "component": "Buf_array", "name": "X"},
        {**loop, "rank_variable": "m", "tile_shape": 1},
        {"tag": "Storage", "component": "RF", "tensors": ["T_Outputs"]},
        {**loop, "rank_variable": "q", "tile_shape": 1},
        {**loop, "rank_variable": "p", "tile_shape": 1},
        {**loop, "rank_variable": "c", "tile_shape": 1},
        {"tag": "Compute", "einsum": "net_window_1", "component": "MAC"},
    ]


@settings(max_examples=30)
@given(st.integers(0, 2**32))
def test_the_loop_nest_is_all_there(seed):
    """Sizes of tiles at their places are those that the cost model counts, and all loops multiply to the bounds."""
    rng = np.random.default_rng(seed)
    workload = random_workload(rng)
    machine = replace(random_accelerator(rng, workload), fanout_check="per_level")
    mapping = random_mapping(rng, workload, machine)
    cost = CostModel(workload, machine).evaluate(mapping, detail=True)
    assert cost.legal
    arch, layer, nodes = parts(export_accelforge(workload, machine, mapping))
    dims = dict(zip(layer["iteration_space_shape"], workload.dims, strict=True))
    accesses = layer["einsums"][0]["tensor_accesses"]
    tensors = {entry["name"]: tensor for entry, tensor in zip(accesses, workload.tensors, strict=True)}
    fanouts = {(node["name"], side["name"]): side["fanout"] for node in arch for side in node.get("spatial", ())}
    used = dict.fromkeys(fanouts, 1)
    left = dict(zip(workload.dims, workload.bounds, strict=True))
    kept = set()
    for node in nodes:
        if node["tag"] == "Storage":
            s = machine.level_index(node["component"])
            for name in node["tensors"]:
                t = mapping.tensors.index(tensors[name].name)
                kept.add((s, t))
                assert tensors[name].tile_size(left) == cost.detail.tile_words[s, t]
        elif node["tag"] in ("Temporal", "Spatial"):
            dim = dims[node["rank_variable"]]
            factor, rest = divmod(left[dim], node["tile_shape"])
            assert rest == 0
            left[dim] = node["tile_shape"]
            if node["tag"] == "Spatial":
                used[node["component"], node["name"]] *= factor
    assert set(left.values()) == {1}
    assert kept == set(zip(*np.nonzero(mapping.keep), strict=True))
    assert all(used[place] <= fanouts[place] for place in used)
    assert math.prod(used.values()) == mapping.batch().used_macs()[0]


def test_an_accelerator_comes_back(tmp_path):
    for name in ("tiny", "eyeriss_like", "simba_like", "accel_b_bw", "accel_a"):
        machine = catalog.accelerator(name)
        layer = catalog.workload("toy/tiny_conv")
        export = export_accelforge(layer, machine, Mapping.trivial(layer, machine))
        # There, sets name the tensors of the layer.
        text = export.files["arch.yaml"]
        for tensor, word in (("Weights", "weight"), ("Inputs", "input"), ("Outputs", "output")):
            text = text.replace(f"T_{tensor}", word)
        path = tmp_path / f"{name}.yaml"
        path.write_text(text)
        (again,) = read_accelforge(path, word_bits=machine.mac.word_bits).accelerators
        assert again.level_names == machine.level_names
        assert again.mac.instances == machine.mac.instances
        assert math.isclose(again.mac.energy_pj, machine.mac.energy_pj)
        for ours, theirs in zip(machine.levels, again.levels, strict=True):
            assert (theirs.mesh_x, theirs.mesh_y) == (ours.mesh_x, ours.mesh_y)
            assert (theirs.capacity_words, theirs.word_bits) == (ours.capacity_words, ours.word_bits)
            assert (theirs.keep_only is None) == (ours.keep_only is None)
            assert set(theirs.keep_only or ()) == set(ours.keep_only or ())
            # There, words are charged in proportion.
            per_word = ours.access_energy_pj / ours.block_size_words
            assert math.isclose(theirs.access_energy_pj, per_word, rel_tol=1e-9)
            for key in ("read", "write", "shared"):
                field = f"{key}_bandwidth_words_per_cycle"
                assert getattr(theirs, field) == getattr(ours, field)


def test_what_is_lost_is_said():
    workload, machine = catalog.workload("toy/tiny_conv"), catalog.accelerator("tiny")
    changed = replace(
        machine,
        levels=tuple(
            replace(
                level,
                block_size_words=4,
                multiple_buffering=2,
                action_energies_pj={"fill": 1.0, "update": 2.0},
                shared_bandwidth_words_per_cycle=1.0,
                read_bandwidth_words_per_cycle=1.0,
            )
            if level.name == "Buf"
            else level
            for level in machine.levels
        ),
    )
    space = MapSpace(workload, changed)
    batch = space.sample(np.random.default_rng(0), 50)
    said = {
        sentence.partition(":")[0]
        for mapping in batch
        for sentence in export_accelforge(workload, changed, mapping).lost
    }
    assert {
        "halos", "multiple_buffering of 'Buf'", "block_size_words of 'Buf'", "fills and updates of 'Buf'",
        "bandwidths of 'Buf'", "peer_links", "energy_per_hop_pj of 'Buf'", "rules timeloop-2025", "'Outputs' at 'RF'",
    } <= said  # fmt: skip


def test_first_fills_are_as_the_rules_say():
    workload = catalog.workload("toy/tiny_gemm")
    for rules, flag in (("timeloop-2025", None), ("timeloop-2022", False)):
        machine = catalog.accelerator("tiny").counted_by(rules)
        arch, _, _ = parts(export_accelforge(workload, machine, Mapping.trivial(workload, machine)))
        assert {node.get("skip_initial_output_write") for node in arch if node["tag"] != "Container"} == {flag}


def test_names_that_accelforge_does_not_take():
    workload = catalog.workload(
        {
            "name": "1x",
            "dims": {"If": 2, "iF": 2},
            "tensors": {
                "a b": {"projection": ["If"]},
                "a-b": {"projection": ["iF"]},
                "Sum": {"projection": ["If", "iF"], "output": True},
            },
        }
    )
    machine = catalog.accelerator("accel_b")
    _, layer, nodes = parts(export_accelforge(workload, machine, Mapping.trivial(workload, machine)))
    assert list(layer["iteration_space_shape"]) == ["d_0", "d_1"]
    assert [entry["name"] for entry in layer["einsums"][0]["tensor_accesses"]] == ["T_a_b", "T_1", "T_Sum"]
    assert nodes[-1]["einsum"] == "layer_1x"
