"""What is written for Timeloop is read as what it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mapgym.cost import CostModel
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.mapspace.entries import AXES
from mapgym.spec import catalog
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.workload import Workload
from mapgym.timeloop.reading.mappings import read_timeloop_mapping
from mapgym.timeloop.reading.specification import read_timeloop
from mapgym.timeloop.writing import export_timeloop

MAPPINGS = 60
"""Of each accelerator; more than 1,000 in all."""

DENSITIES = {"Weights": 0.5, "Inputs": 0.25}


def workload_of(accelerator: Accelerator, number: int) -> Workload:
    """Convolutions and products, with zeros where they count."""
    layer = catalog.workload(("toy/tiny_conv_s2", "toy/tiny_gemm", "toy/tiny_dw")[number % 3])
    return layer.with_densities(DENSITIES, "hypergeometric") if accelerator.is_sparse else layer


@pytest.mark.parametrize("name", catalog.accelerator_names())
def test_every_accelerator_and_its_mappings_come_back(name: str, tmp_path: Path) -> None:
    accelerator = catalog.accelerator(name)
    for number in range(2):
        workload = workload_of(accelerator, number)
        space = MapSpace(workload, accelerator, AXES)
        batch = space.sample(np.random.default_rng(number), MAPPINGS // 2)
        costs = CostModel(workload, accelerator).evaluate(batch)
        found = []
        for i, mapping in enumerate(batch):
            export = export_timeloop(workload, accelerator, mapping)
            files = []
            for file, text in export.files.items():
                files.append(tmp_path / file)
                files[-1].write_text(text)
            if i == 0:
                read = read_timeloop(files)
                assert read.accelerator is not None
                assert read.workload is not None
                assert read.workload.tensors == workload.tensors
                assert read.workload.bounds == workload.bounds
                machine = replace(read.accelerator, name=name)
                assert machine.level_names == accelerator.level_names
                assert machine.inner_meshes == accelerator.inner_meshes
            section = read_timeloop(tmp_path / "mapping.yaml").mapping
            assert section is not None
            found.append(read_timeloop_mapping(section.value, workload, machine, section.file))
        # Loops of bound 1, which play no part, may stand in another order.
        assert [mapping.to_dict() for mapping in found] == [mapping.to_dict() for mapping in batch]
        again = CostModel(workload, machine).evaluate(MappingBatch.concatenate([mapping.batch() for mapping in found]))
        np.testing.assert_array_equal(again.latency_cycles, costs.latency_cycles)
        np.testing.assert_allclose(again.energy_pj, costs.energy_pj, rtol=1e-12)
