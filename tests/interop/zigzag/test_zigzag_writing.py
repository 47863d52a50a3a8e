"""Mappings for ZigZag, read back here; what ZigZag itself makes of them docs/interop.md says."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import yaml
from hypothesis import given, settings, strategies as st

from mapgym.errors import SpecificationError
from mapgym.interop.imported import Notes
from mapgym.interop.zigzag import export_zigzag
from mapgym.interop.zigzag.accelerators import Words, read_accelerator
from mapgym.interop.zigzag.layers import read_network
from mapgym.mapping import Mapping
from mapgym.spec import catalog
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.workload import conv2d, matmul, mttkrp
from random_cases import random_conv2d, random_depthwise, random_mapping, random_matmul

MACHINE = Accelerator(
    "mine",
    (
        StorageLevel("RF", 8, 4, 2, access_energy_pj=1.0, keep_only=("Weights",)),
        StorageLevel("Buf", 256, access_energy_pj=6.0, block_size_words=4, shared_bandwidth_words_per_cycle=8),
        StorageLevel("DRAM", access_energy_pj=100.0, read_bandwidth_words_per_cycle=2),
    ),
    Mac("MAC", 8, 2, 0.5, word_bits=8),
    peer_links=False,
)
LAYER = conv2d("net/window", C=4, M=4, P=2, Q=4, R=1, S=3, stride=2)


def parts(export):
    data = {name: yaml.safe_load(text) for name, text in export.files.items()}
    return data["accelerator.yaml"], data["workload.yaml"], data["mapping.yaml"]


def a_mapping():
    """DRAM: M 2; Buf: S 3, C 4 on X and M 2 on Y; RF: Q 4, P 2 on X."""
    mapping = Mapping.trivial(LAYER, MACHINE)
    dims = LAYER.dims
    mapping.temporal[:] = 1
    for s, dim, factor in ((2, "M", 2), (1, "S", 3), (0, "Q", 4)):
        mapping.temporal[s, dims.index(dim)] = factor
    for s, dim, factor in ((1, "C", 4), (1, "M", 2), (0, "P", 2)):
        mapping.spatial[s, dims.index(dim)] = factor
    order = [dims.index(dim) for dim in ("C", "P", "M", "N", "Q", "R", "S")]
    mapping.spatial_order[:] = order
    mapping.spatial_split[:] = 2
    mapping.keep[:] = [[True, False, False], [True, True, False], [True, True, True]]
    return mapping


def test_a_mapping():
    export = export_zigzag(LAYER, MACHINE, a_mapping())
    hardware, (layer,), (plan,) = parts(export)
    assert plan["spatial_mapping"] == {"D1": ["C, 4"], "D2": ["M, 2"], "D3": ["P, 2"]}
    assert plan["temporal_ordering"] == [["Q", 4], ["S", 3], ["M", 2]]  # innermost first
    assert plan["memory_operand_links"] == {"O": "O", "W": "I2", "I": "I1"}
    assert layer["equation"] == "O[n][p][q][m]+=W[c][r][s][m]*I[c][n][idx0][idx1]"
    assert layer["dimension_relations"] == ["idx0=1*s+2*q", "idx1=1*r+2*p"]
    assert dict(zip(layer["loop_dims"], layer["loop_sizes"], strict=True)) == {
        "N": 1, "C": 4, "P": 2, "Q": 4, "R": 1, "S": 3, "M": 4,
    }  # fmt: skip
    assert hardware["operational_array"]["sizes"] == [4, 2, 2]
    memories = hardware["memories"]
    # Bypass is in the accelerator: each memory has the operands that the mapping keeps there.
    assert {name: entry["operands"] for name, entry in memories.items()} == {
        "RF": ["I2"], "Buf": ["I1", "I2"], "DRAM": ["I1", "I2", "O"],
    }  # fmt: skip
    assert [entry["served_dimensions"] for entry in memories.values()] == [
        ["D3"],
        ["D1", "D2", "D3"],
        ["D1", "D2", "D3"],
    ]
    # Words have the width of those of the MACs. A block of 4 words of 6 pJ, at 8 words a cycle.
    assert memories["RF"]["size"] == 64
    assert memories["Buf"]["r_cost"] == 12.0
    (shared,) = memories["Buf"]["ports"]
    assert (shared["type"], shared["bandwidth_min"], shared["bandwidth_max"]) == ("read_write", 32, 64)
    read, write = memories["DRAM"]["ports"]
    assert (read["bandwidth_max"], memories["DRAM"]["r_cost"]) == (16, 200.0)
    assert write["allocation"] == ["I1, fh", "I2, fh", "O, fh", "O, fl"]
    assert export.lost[0].startswith("levels of temporal loops")
    assert any(sentence.startswith("word_bits of 'RF'") for sentence in export.lost)


def test_array_dimensions_that_are_not_used_are_named():
    _, _, (plan,) = parts(export_zigzag(LAYER, MACHINE, Mapping.trivial(LAYER, MACHINE)))
    assert plan["spatial_mapping"] == {"D1": ["N, 1"], "D2": ["N, 1"], "D3": ["N, 1"]}


def test_what_is_lost_is_said():
    machine = replace(
        MACHINE,
        peer_links=True,
        levels=(
            replace(MACHINE.levels[0], action_energies_pj={"leak": 1.0, "fill": 1.0, "update": 2.0}, cluster_size=2),
            replace(MACHINE.levels[1], energy_per_hop_pj=0.5, multiple_buffering=4, no_multicast=("Weights",)),
            replace(MACHINE.levels[2], read_bandwidth_words_per_cycle=0.3),
        ),
    )
    export = export_zigzag(LAYER.with_densities({"Weights": 0.5}), machine, a_mapping())
    for begin in (
        *("levels of", "energy_per_hop_pj of 'Buf'", "peer_links", "density of 'Weights'", "cluster_size of 'RF'"),
        *("leak of 'RF'", "fills and updates of 'RF'", "multiple_buffering of 'Buf'", "no_multicast of 'Buf'"),
        *("bandwidth of 'DRAM'", "rules timeloop-2025", "bandwidth of 'RF': has no limit"),
    ):
        assert any(sentence.startswith(begin) for sentence in export.lost), begin
    hardware, _, _ = parts(export)
    assert hardware["memories"]["Buf"]["size"] == 64 * 8
    assert hardware["memories"]["DRAM"]["ports"][0]["bandwidth_max"] == 2  # 2.4 bits


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.sampled_from((random_conv2d, random_depthwise, random_matmul)))
def test_a_layer_comes_back(seed, draw):
    workload = replace(draw(np.random.default_rng(seed)), name="net/layer")
    _, layers, _ = parts(export_zigzag(workload, MACHINE, Mapping.trivial(workload, MACHINE)))
    layers[0]["name"] = "layer"
    (layer,) = read_network(layers, "net.yaml", Notes("net.yaml")).layers
    operands = {tensor.name: tensor for tensor in layer.workload.tensors}
    assert (layer.workload.dims, layer.workload.bounds) == (workload.dims, workload.bounds)
    assert operands == {tensor.name: tensor for tensor in workload.tensors}


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.sampled_from(("eyeriss_like", "simba_like", "accel_b_bw", "tiny")))
def test_loops_and_memories_come_back(seed, name):
    rng = np.random.default_rng(seed)
    machine, workload = catalog.accelerator(name), random_conv2d(rng)
    mapping = random_mapping(rng, workload, machine)
    hardware, _, (plan,) = parts(export_zigzag(workload, machine, mapping))
    found = dict.fromkeys(workload.dims, 1)
    sizes = dict(zip(*(hardware["operational_array"][key] for key in ("dimensions", "sizes")), strict=True))
    for axis, loops in plan["spatial_mapping"].items():
        factors = {text.split(", ")[0]: int(text.split(", ")[1]) for text in loops}
        assert math.prod(factors.values()) <= sizes[axis]
        for dim, factor in factors.items():
            found[dim] *= factor
    assert math.prod(found.values()) == mapping.batch().used_macs()[0]
    for dim, factor in plan["temporal_ordering"]:
        found[dim] *= factor
    assert tuple(found.values()) == workload.bounds
    bits = machine.mac.word_bits
    again = read_accelerator(hardware, "x.yaml", Words(bits, bits), Notes("x.yaml"))
    assert again.mac.instances == machine.mac.instances
    for level in machine.levels:
        kept = mapping.keep[machine.level_index(level.name)]
        assert (level.name in again.level_names) == kept.any()
        if not kept.any():
            continue
        other = again.levels[again.level_index(level.name)]
        assert other.instances == level.instances
        assert level.capacity_words in (other.capacity_words, None)
        read = dict(other.action_energies_pj)["read"] / other.block_size_words
        assert math.isclose(read, level.access_energy_pj / level.block_size_words)
        rate = level.shared_bandwidth_words_per_cycle
        assert rate is None or other.shared_bandwidth_words_per_cycle == rate


def test_more_than_four_fan_outs_are_joined_where_no_memory_lies_between():
    levels = [
        StorageLevel(f"m{i}", 64, 2 ** (4 - i), 2 ** (4 - i), keep_only=None if i in (0, 4) else ()) for i in range(4)
    ]
    machine = Accelerator("deep", (*levels, StorageLevel("off")), Mac("MAC", 16, 16))
    workload = matmul(M=4, K=4, N=4)
    export = export_zigzag(workload, machine, Mapping.trivial(workload, machine))
    hardware, _, _ = parts(export)
    assert hardware["operational_array"]["sizes"] == [256]
    assert any(sentence.startswith("sides X and Y") for sentence in export.lost)
    kept = replace(machine, levels=tuple(replace(level, keep_only=None) for level in machine.levels))
    plain = Accelerator("wide", kept.levels, Mac("MAC", 32, 16))
    with pytest.raises(SpecificationError, match="spreads out at 5 places"):
        export_zigzag(workload, plain, Mapping.trivial(workload, plain))


def test_what_zigzag_cannot_hold_is_refused():
    product = mttkrp("three", I=2, J=2, K=2, L=2)
    with pytest.raises(SpecificationError, match="'three' has 3 operands; ZigZag takes a product of two"):
        export_zigzag(product, catalog.accelerator("accel_b"), Mapping.trivial(product, catalog.accelerator("accel_b")))
    window = catalog.workload(
        {
            "name": "sum",
            "dims": {"A": 2, "B": 2, "C": 2},
            "tensors": {
                "Weights": {"projection": ["A"]},
                "Inputs": {"projection": ["A + B + C"]},
                "Outputs": {"projection": ["B"], "output": True},
            },
        }
    )
    with pytest.raises(SpecificationError, match="an index of 'Inputs' is a sum of 3 dims"):
        export_zigzag(window, MACHINE, Mapping.trivial(window, MACHINE))
    cumulative, mapping = replace(MACHINE, fanout_check="cumulative"), a_mapping()
    mapping.spatial[1, LAYER.dims.index("C")] = 8
    with pytest.raises(SpecificationError, match="8 instances along X below 'Buf', which has 4"):
        export_zigzag(LAYER, cumulative, mapping)


def test_one_dim_with_a_step_and_names_that_zigzag_does_not_take():
    workload = catalog.workload(
        {
            "name": "step",
            "dims": {"Aa": 3, "aA": 2},
            "tensors": {
                "First": {"projection": ["2*Aa"]},
                "Second": {"projection": ["aA"]},
                "Sum": {"projection": ["Aa"], "output": True},
            },
        }
    )
    machine = replace(MACHINE, levels=tuple(replace(level, keep_only=None) for level in MACHINE.levels))
    _, (layer,), _ = parts(export_zigzag(workload, machine, Mapping.trivial(workload, machine)))
    assert layer["loop_dims"] == ["L0", "L1", "ONE"]
    assert layer["equation"] == "O[l0]+=W[idx0]*I[l1]"
    assert layer["dimension_relations"] == ["idx0=2*l0+1*one"]
