"""The long commands, each with its smallest settings, for the harness that kills them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from mapgym.mapspace import MapSpace
from mapgym.spec import catalog

_TASK = ("toy/tiny_gemm", "tiny")


@dataclass(frozen=True)
class Case:
    """A command that is killed and given again until it is done.

    Attributes:
        name: for people, and to choose it.
        command: which names ``out`` for what it writes; given in a folder that has the inputs.
        adds: whether each time that it is given adds something, so that two complete ones are not one.
        ignored: parts of places that are not compared, because they depend on how long something took.
        needs_folder: whether the folder ``out`` must be there.
        continues: the case whose result is in ``out`` at the beginning.
    """

    name: str
    command: str
    adds: bool = False
    ignored: tuple[str, ...] = ()
    needs_folder: bool = False
    continues: str = ""


_STUDY_TASK = "--workloads toy/tiny_gemm --accelerators tiny"
_TRAIN_TASK = "--workload toy/tiny_gemm --accelerator tiny --steps 4000 -p num_envs=8 -p hidden=16"
_STUDIES = {
    "order": f"{_STUDY_TASK} --bases 1",
    "axes": f"{_STUDY_TASK} --samples 120 --seeds 1",
    "landscape": f"{_STUDY_TASK} --samples 60 --seeds 1 --agents random,gamma",
    "pareto": f"{_STUDY_TASK} --samples 100 --seeds 1 --certify 1",
    "certified": "--workloads toy/tiny_gemm --accelerators accel_a --samples 100 --seeds 1 --no-published",
    "sparsity": "--workloads toy/tiny_gemm --accelerators tiny_sparse --samples 200 --seeds 1",
    "warm-start": "--networks toy --accelerator tiny --agents gamma --samples 200 --seeds 1",
    "optimum": "--networks toy/tiny_gemm --accelerators accel_b --axes tile,order,parallelism",
    "mappers": f"{_STUDY_TASK} --agents random,gamma --samples 40 --seconds 0.02 --jobs 1 --quick",
    "learning": "--samples 256 --seeds 1 --accelerators accel_b --unseen-only --jobs 1 --quick",
}
_COMPARE = "--agents random,hill-climb --workload toy --accelerator tiny --samples 300 --seeds 2"

CASES = (
    Case("run", "run experiment.yaml --jobs 1 -o out"),
    Case("run in workers", "run experiment.yaml --jobs 2 -o out"),
    Case("compare", f"compare {_COMPARE} --warm-start known.buffer -o out"),
    Case("map", "map toy tiny --samples-per-layer 300 --buffer known.buffer -o out"),
    # Runs that are given seconds find what they have time for.
    *(
        Case(f"study {name}", f"study {name} {options} -o out", ignored=("time/",))
        for name, options in _STUDIES.items()
    ),
    Case("tune", "tune gamma --file tuning.yaml -o out"),
    Case("train ppo", f"train ppo {_TRAIN_TASK} -p steps=20 -o out"),
    Case("train dqn", f"train dqn {_TRAIN_TASK} -o out"),
    Case("train amortized", "train amortized --samples 512 -o out"),
    Case("train mind-mappings", "train mind-mappings --accelerator tiny --samples 512 -o out"),
    Case("buffer add", "buffer add out/layers.buffer toy/tiny_gemm tiny mapping.yaml", adds=True, needs_folder=True),
    Case("report", "report out", continues="run"),
    Case("search", "search toy/tiny_gemm tiny --samples 400 -o out/best.yaml", needs_folder=True),
)


def prepare(folder: Path) -> None:
    """Writes the inputs of all cases."""
    from mapgym.warmstart import ReplayBuffer

    experiment = {
        "tasks": {"workloads": "toy", "accelerators": "tiny"},
        "agents": ["random", {"agent": "gamma", "warm_start": "similar"}],
        "seeds": 2,
        "budget": {"samples": 300},
    }
    (folder / "experiment.yaml").write_text(yaml.safe_dump(experiment))
    tuning = {
        "samples": 120,
        "seeds": 2,
        "tasks": [list(_TASK)],
        "agents": {"gamma": {"settings": [{}, {"population": 20}], "chosen": {}}},
    }
    (folder / "tuning.yaml").write_text(yaml.safe_dump(tuning))
    space = MapSpace(catalog.workload(_TASK[0]), catalog.accelerator(_TASK[1]))
    mapping = space.sample(np.random.default_rng(0), 1)[0]
    (folder / "mapping.yaml").write_text(yaml.safe_dump(mapping.to_dict()))
    ReplayBuffer(folder / "known.buffer").add(space.workload, space.accelerator, mapping)
