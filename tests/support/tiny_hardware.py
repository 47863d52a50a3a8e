"""Hardware small enough to price a mapping on paper, and the models that check the paper."""

from __future__ import annotations

import numpy as np
import pytest

import reference_model
from mapgym.cost import Cost, CostModel
from mapgym.mapping import Mapping
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.workload import Workload, matmul

RF, DRAM = 0, 1


def accelerator(**changes) -> Accelerator:
    """DRAM (100 pJ a word), a mesh of 4 x 2 register files of 64 words (1 pJ a word), a MAC (0.5 pJ) in each."""
    register_file = {"name": "RF", "capacity_words": 64, "mesh_x": 4, "mesh_y": 2, "access_energy_pj": 1.0}
    dram = {"name": "DRAM", "access_energy_pj": 100.0}
    mac = {"name": "MAC", "mesh_x": 4, "mesh_y": 2, "energy_pj": 0.5}
    return Accelerator(
        "tiny",
        (
            StorageLevel(**(register_file | changes.pop("rf", {}))),
            StorageLevel(**(dram | changes.pop("dram", {}))),
        ),
        Mac(**(mac | changes.pop("mac", {}))),
        **changes,
    )


def price(workload: Workload, hardware: Accelerator, *levels: dict) -> Cost:
    """Prices the mapping given as its levels, outermost first, by the kernel and checks the reference model too."""
    mapping = Mapping.from_dict({"levels": list(levels)}, workload, hardware)
    cost = CostModel(workload, hardware).evaluate(mapping, detail=True)
    reference = reference_model.evaluate(workload, hardware, mapping)
    assert cost.legal == reference.legal
    if cost.legal:
        for name, expected in reference.counts.items():
            np.testing.assert_allclose(getattr(cost.detail, name), expected, rtol=1e-12, err_msg=name)
        assert cost.latency_cycles == reference.latency_cycles
        assert cost.energy_pj == pytest.approx(reference.energy_pj, rel=1e-12)
        assert cost.detail.leakage_energy_pj.tolist() == pytest.approx(reference.leakage_energy_pj, rel=1e-12)
        assert cost.detail.used_clusters.tolist() == reference.used_clusters
    return cost


def counts(cost: Cost, name: str, level: int) -> list[float]:
    """One count of one level, per tensor."""
    return getattr(cost.detail, name)[level].tolist()


GEMM = matmul(M=4, K=3, N=2)  # tensors: Weights[B,K,N], Inputs[B,M,K], Outputs[B,M,N]
