"""Which mappings are legal, and what is said of the others, on hardware small enough to judge by eye."""

from __future__ import annotations

import numpy as np
import pytest

from mapgym.cost import CostModel
from mapgym.mapping import Mapping
from mapgym.mapping.legality_kernels import UNLIMITED, mesh_limits
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.workload import matmul
from tiny_hardware import GEMM, accelerator, price

WHOLE = {"level": "RF", "temporal": {"M": 4, "K": 3, "N": 2}}


@pytest.mark.parametrize(
    ("hardware", "levels", "words"),
    [
        # K: 4 * 3 is not 3.
        (accelerator(), ({"level": "DRAM", "temporal": {"K": 4}}, WHOLE), ["K", "12", "3"]),
        # A tile of 26 words.
        (accelerator(rf={"capacity_words": 25}), ({"level": "DRAM"}, WHOLE), ["RF", "26", "25"]),
        # M * N = 8 on an X axis of 4; there is room for 4 x 2 only.
        (
            accelerator(),
            ({"level": "DRAM", "temporal": {"K": 3}, "spatial_x": {"M": 4, "N": 2}}, {"level": "RF"}),
            ["8", "MAC"],
        ),
        # K = 3 on a Y axis of 2.
        (
            accelerator(),
            ({"level": "DRAM", "temporal": {"M": 4, "N": 2}, "spatial_y": {"K": 3}}, {"level": "RF"}),
            ["3", "MAC"],
        ),
        # One MAC below each register file.
        (
            accelerator(),
            ({"level": "DRAM"}, {"level": "RF", "temporal": {"K": 3, "N": 2}, "spatial_x": {"M": 4}}),
            ["4", "RF"],
        ),
        # 4 register files, 4 MACs in each; M=4 x N=2 parallel below DRAM exceeds the register files only.
        (
            accelerator(mac={"mesh_x": 16, "mesh_y": 2}, fanout_check="cumulative"),
            ({"level": "DRAM", "temporal": {"K": 3}, "spatial_x": {"M": 4, "N": 2}}, {"level": "RF"}),
            ["8", "RF"],
        ),
        (
            accelerator(),
            ({"level": "DRAM", "keep": ["Inputs", "Outputs"]}, {**WHOLE, "keep": ["Inputs", "Outputs"]}),
            ["Weights", "nowhere"],
        ),
        (accelerator(), ({"level": "DRAM", "keep": ["Inputs", "Outputs"]}, WHOLE), ["DRAM", "Weights"]),
        (
            accelerator(rf={"keep_only": ("Inputs",)}),
            ({"level": "DRAM"}, {**WHOLE, "keep": ["Inputs", "Weights"]}),
            ["RF", "Weights"],
        ),
    ],
)
def test_illegal_mappings_say_why(hardware, levels, words):
    cost = price(GEMM, hardware, *levels)
    assert not cost.legal
    assert all(word in cost.reason for word in words), cost.reason
    assert (cost.latency_cycles, cost.energy_pj, cost.edp, cost.utilization) == (np.inf, np.inf, np.inf, 0.0)


def test_exactly_full_level_is_legal():
    assert price(GEMM, accelerator(rf={"capacity_words": 26}), {"level": "DRAM"}, WHOLE).legal


def test_cumulative_fanout_check_lets_a_level_borrow_from_another():
    # 4 register files with 4 MACs each, all on X. Two files with 8 MACs each use 16 MACs, as many as there are.
    workload = matmul(M=2, K=8, N=1)
    levels = {"level": "DRAM", "spatial_x": {"M": 2}}, {"level": "RF", "spatial_x": {"K": 8}}
    parts = {"mac": {"mesh_x": 16, "mesh_y": 2}}
    assert price(workload, accelerator(**parts, fanout_check="cumulative"), *levels).legal
    refused = price(workload, accelerator(**parts, fanout_check="per_level"), *levels)
    assert not refused.legal
    assert "RF" in refused.reason


def test_factors_and_orders_that_are_none_are_illegal():
    hardware = accelerator()
    model = CostModel(GEMM, hardware)
    for spoil, word in (
        (lambda mapping: mapping.temporal.__setitem__((1, 0), 0), "below 1"),
        (lambda mapping: mapping.temporal.__setitem__((1, 1), -4), "below 1"),
        (lambda mapping: mapping.order.__setitem__((0, 0), 2), "permutation"),
        (lambda mapping: mapping.spatial_order.__setitem__((1, 0), 9), "permutation"),
        (lambda mapping: mapping.spatial_split.__setitem__(1, -1), "order"),
    ):
        mapping = Mapping.trivial(GEMM, hardware)
        spoil(mapping)
        cost = model.evaluate(mapping)
        assert not cost.legal
        assert word in cost.reason


@pytest.mark.parametrize(
    ("check", "alone"),
    [
        ("per_level", [[2, 1], [1, 3], [4, 2]]),
        # A side without fan-out holds no loops; elsewhere only what a level uses together with the outer ones counts.
        ("cumulative", [[UNLIMITED, 1], [1, UNLIMITED], [UNLIMITED, UNLIMITED]]),
    ],
)
def test_limits_of_spatial_factors(check: str, alone: list[list[int]]) -> None:
    levels = (StorageLevel("RF", mesh_x=4, mesh_y=6), StorageLevel("Buffer", mesh_x=4, mesh_y=2), StorageLevel("DRAM"))
    hardware = Accelerator("three", levels, Mac("MAC", 8, 6), fanout_check=check)
    assert hardware.inner_meshes == ((8, 6), (4, 6), (4, 2))
    found, together = mesh_limits(hardware)
    assert found.tolist() == alone
    assert together.tolist() == [[8, 6], [4, 6], [4, 2]]
