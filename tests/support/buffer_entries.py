"""Small entries of replay buffers, and what a buffer and its folder hold."""

from __future__ import annotations

from mapgym.mapping import Mapping
from mapgym.spec import catalog
from mapgym.spec.workload import matmul
from mapgym.warmstart import Entry, ReplayBuffer

MACHINE = catalog.accelerator("tiny")


def entry(m: int = 2, value: float = 1.0, name: str = "fc", machine=MACHINE) -> Entry:
    layer = matmul(name, M=m, N=2, K=2)
    return Entry(layer, machine, "edp", value, Mapping.trivial(layer, machine))


def sizes(buffer: ReplayBuffer) -> list[int]:
    return [one.workload.bound("M") for one in buffer]


def everything(buffer: ReplayBuffer):
    return [(e.workload, e.accelerator, e.objective, e.value, e.mapping.to_dict()) for e in buffer]


def names(folder) -> set[str]:
    return {file.name for file in folder.iterdir()}
