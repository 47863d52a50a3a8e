"""Speed of replay buffers and transfers: CPU time of one thread, median of several rounds."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from mapgym.mapping import Mapping
from mapgym.mapspace import MapSpace
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.workload import Workload, conv2d
from mapgym.warmstart.buffer import Entry, ReplayBuffer
from mapgym.warmstart.transfer import transfer

_TRANSFERS = 1000
_QUESTIONS = 20
_LARGEST_BOUND = 512


@dataclass(frozen=True)
class BufferSpeed:
    """Speed of a replay buffer.

    Attributes:
        entries: solved layers in the buffer.
        load_seconds: to read its file.
        nearest_seconds: to find the entry that is most like a layer.
        transfer_seconds: to transfer a mapping to another layer.
    """

    entries: int
    load_seconds: float
    nearest_seconds: float
    transfer_seconds: float


def measure_buffer(
    accelerator: Accelerator, workload: Workload, *, entries: int = 100_000, rounds: int = 9
) -> BufferSpeed:
    """Times a replay buffer of convolutions with bounds drawn at random.

    Args:
        accelerator: of all entries.
        workload: the layer that is asked about.
        entries: solved layers in the buffer.
        rounds: timed rounds; the median counts.
    """
    rng = np.random.default_rng(0)
    solved = []
    for channels, filters, side in rng.integers(1, _LARGEST_BOUND, (entries, 3)).tolist():
        layer = conv2d("layer", N=1, C=channels, M=filters, P=side, Q=side, R=3, S=3)
        solved.append(Entry(layer, accelerator, "edp", float(rng.random()), Mapping.trivial(layer, accelerator)))
    source, space = MapSpace(solved[0].workload, accelerator), MapSpace(workload, accelerator)
    mappings = [*source.sample(rng, _TRANSFERS)]
    load_seconds, nearest_seconds, transfer_seconds = [], [], []
    with TemporaryDirectory() as folder:
        path = Path(folder) / "layers.buffer"
        ReplayBuffer(path).extend(solved)
        for _ in range(rounds):
            start = time.process_time()
            buffer = ReplayBuffer(path)
            load_seconds.append(time.process_time() - start)
            # The first question after loading builds what the others use.
            buffer.nearest(workload, accelerator)
            start = time.process_time()
            for _ in range(_QUESTIONS):
                buffer.nearest(workload, accelerator)
            nearest_seconds.append((time.process_time() - start) / _QUESTIONS)
            transfer(mappings[0], source.workload, space)
            start = time.process_time()
            for mapping in mappings:
                transfer(mapping, source.workload, space)
            transfer_seconds.append((time.process_time() - start) / len(mappings))
    return BufferSpeed(entries, median(load_seconds), median(nearest_seconds), median(transfer_seconds))
