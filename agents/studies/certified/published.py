"""Optima that GOMA's model proves, to compare ours with."""

from __future__ import annotations

from dataclasses import dataclass

from mapgym.mapspace import MapSpace
from mapgym.mapspace.entries import AXES
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.workload import matmul

TOLERANCE = 6e-7
"""In pJ: the published figures have six digits after the point."""

SECONDS = 120.0
"""Wall time of each solver, so that both end their proofs."""


@dataclass(frozen=True)
class Published:
    """The least energy of a matrix product on a machine of three levels with one row of processing elements.

    A word of 8 bits costs 64 pJ in the DRAM, 7 in the buffer and 1 in the registers, a multiply-accumulate 1.4. First
    fills of outputs cost nothing, links do not exist, and every tensor may bypass buffer and registers.

    Attributes:
        buffer_words, elements, register_words: the machine.
        rows, columns, depth: the product.
        energy_per_mac: pJ.
    """

    buffer_words: int
    elements: int
    register_words: int
    rows: int
    columns: int
    depth: int
    energy_per_mac: float

    @property
    def name(self) -> str:
        """For people and files."""
        sizes = f"{self.rows}x{self.columns}x{self.depth}"
        return f"{sizes}, {self.buffer_words} + {self.elements} x {self.register_words} words"

    def space(self) -> MapSpace:
        """The map space that the figure is the optimum of."""
        levels = (
            StorageLevel("Registers", self.register_words, self.elements, access_energy_pj=1.0, word_bits=8),
            StorageLevel("Buffer", self.buffer_words, access_energy_pj=7.0, word_bits=8),
            StorageLevel("DRAM", access_energy_pj=64.0, word_bits=8),
        )
        mac = Mac(mesh_x=self.elements, energy_pj=1.4, word_bits=8)
        layer = matmul("product", M=self.rows, N=self.columns, K=self.depth)
        return MapSpace(layer, Accelerator("goma", levels, mac, peer_links=False), AXES)


PUBLISHED = (
    Published(162 * 1024, 256, 424, 1024, 2048, 2048, 3.863379),
    Published(162 * 1024, 256, 424, 1024, 1024, 64, 4.529883),
    Published(162 * 1024, 256, 424, 1024, 2048, 8192, 3.842505),
    Published(576 * 1024, 256, 1, 32768, 32768, 64, 4.613226),
)
