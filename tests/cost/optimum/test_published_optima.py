"""Optima that others have proven, with another formulation and another solver.

GOMA (see docs/exact.md) is a mixed-integer program for matrix products on three levels and a one-dimensional array,
with bypass. Its energies are 64, 7 and 1 pJ for a word of 8 bits in DRAM, buffer and registers, and 1.4 pJ for a
multiply-accumulate. With first fills of outputs left out, as Timeloop does since 2023, a transcription of it has proven
the energies below, in pJ for each multiply-accumulate.
"""

from __future__ import annotations

import pytest

from mapgym.cost.optimum import find_optimum
from mapgym.mapspace import MapSpace
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.workload import matmul

KI = 1024


def machine(buffer_words: int, elements: int, register_words: int) -> Accelerator:
    levels = (
        StorageLevel("Registers", register_words, elements, access_energy_pj=1.0, word_bits=8),
        StorageLevel("Buffer", buffer_words, access_energy_pj=7.0, word_bits=8),
        StorageLevel("DRAM", access_energy_pj=64.0, word_bits=8),
    )
    return Accelerator("goma", levels, Mac(mesh_x=elements, energy_pj=1.4, word_bits=8), peer_links=False)


@pytest.mark.parametrize(
    ("hardware", "sizes", "energy"),
    [
        ((162 * KI, 256, 424), (1024, 2048, 2048), 3.863379),
        ((162 * KI, 256, 424), (1024, 1024, 64), 4.529883),
        ((162 * KI, 256, 424), (1024, 2048, 8192), 3.842505),
        ((576 * KI, 256, 1), (32 * KI, 32 * KI, 64), 4.613226),
    ],
)
def test_optima_are_those_of_goma(hardware, sizes, energy):
    rows, columns, depth = sizes
    layer = matmul("product", M=rows, N=columns, K=depth)
    space = MapSpace(layer, machine(*hardware), ("tile", "order", "parallelism", "bypass"))
    found = find_optimum(space, "energy")
    assert found.certified
    assert found.value / layer.macs == pytest.approx(energy, abs=6e-7)
    assert found.cost.utilization == 1.0
