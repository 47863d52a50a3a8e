"""A task to load code with, before the clock of a search starts."""

from __future__ import annotations

from mapgym.mapspace import MapSpace
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.workload import matmul


def tiny_task() -> MapSpace:
    """A matrix product on an accelerator made for it.

    Nothing of a user's task is in it: a layer of ours need not fit a user's accelerator (``keep_only`` can name other
    tensors, a buffer can be too small), and what does not fit there says nothing about the user's layer.
    """
    levels = (
        StorageLevel("Registers", capacity_words=16, mesh_x=2, access_energy_pj=1.0),
        StorageLevel("Buffer", capacity_words=64, access_energy_pj=2.0),
        StorageLevel("Memory", access_energy_pj=4.0),
    )
    hardware = Accelerator("tiny", levels, Mac(mesh_x=2), peer_links=True)
    return MapSpace(matmul(M=2, K=2, N=2), hardware)
