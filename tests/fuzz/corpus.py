"""Small good files of every kind that mapgym reads, from which hostile ones are made."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import yaml

from mapgym.agents.experiment.definition.experiment import AgentEntry, Experiment
from mapgym.agents.experiment.execution.runner import run_experiment
from mapgym.evaluation import best_known
from mapgym.evaluation.evaluator import Budget
from mapgym.evaluation.task import Task
from mapgym.mapping import Mapping
from mapgym.mapspace import MapSpace
from mapgym.spec import catalog
from mapgym.warmstart import ReplayBuffer
from places import DATA
from timeloop_output import OF_2022, OF_2024, write_results

GEMM = {"name": "gemm", "type": "matmul", "M": 4, "N": 6, "K": 8}
EINSUM = {
    "name": "window",
    "type": "einsum",
    "dims": {"P": 6, "R": 3, "C": 4, "M": 2},
    "tensors": {
        "Weights": {"projection": ["R", "C", "M"], "density": 0.5, "density_distribution": "hypergeometric"},
        "Inputs": {"projection": ["2*P + R", "C"], "density": 0.25},
        "Outputs": {"projection": ["P", "M"], "output": True},
    },
}
WORKLOADS = (
    GEMM,
    {"type": "conv2d", "C": 4, "M": 4, "P": 4, "Q": 2, "R": 3, "S": 1, "stride": 2, "dilation": [1, 2]},
    {"type": "depthwise_conv2d", "C": 4, "P": 4, "Q": 4, "R": 3, "S": 3, "densities": {"Inputs": 0.5}},
    {"type": "mttkrp", "I": 2, "J": 3, "K": 4, "L": 2},
    EINSUM,
)
NETWORK = {"name": "net", "description": "two layers", "layers": {"fc": GEMM, "window": {**EINSUM, "repeats": 3}}}
CONSTRAINTS = {
    "factors": {"Buf": {"temporal": {"M": 2}}},
    "orders": {"DRAM": ["M", "K"]},
    "parallel_dims": {"Buf": ["K", "N"]},
    "min_utilization": 0.1,
}
EXPERIMENT = {
    "description": "words",
    "tasks": [{"workloads": ["toy/tiny_gemm"], "accelerators": ["tiny"], "axes": "tile,order", "objective": "energy"}],
    "agents": [
        "random",
        {"agent": "gamma", "label": "g", "parameters": {"population": 7}, "axes": ["tile"], "seeds": 1},
    ],
    "seeds": [5, 3],
    "budget": {"samples": 10, "seconds": 1.5},
}
ACCELERATORS = ("tiny", "tiny_sparse_md", "eyeriss_like", "accel_b_sparse")


def as_yaml(data: object) -> bytes:
    """Plain data as a YAML file."""
    return yaml.safe_dump(data, sort_keys=False).encode()


def catalog_file(name: str) -> bytes:
    """A file of the catalog, such as "accelerators/tiny.yaml"."""
    return (resources.files("mapgym.envs_config") / name).read_bytes()


@cache
def gemm_space() -> MapSpace:
    """The map space that mappings and constraints are read for."""
    return MapSpace(catalog.workload(GEMM), catalog.accelerator("tiny"))


def mapping_file() -> bytes:
    """A mapping of that space."""
    mapping = gemm_space().sample(np.random.default_rng(0), 1)[0]
    return as_yaml(mapping.to_dict())


def best_known_file() -> bytes:
    """A few entries of the file of best known mappings."""
    return best_known.to_text(best_known.all_best_known()[:3]).encode()


@cache
def buffer_file() -> bytes:
    """A replay buffer with a few entries."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "buffer"
        buffer = ReplayBuffer(path)
        for seed in range(4):
            layer = catalog.workload({**GEMM, "name": f"gemm{seed}", "M": 4 + seed})
            space = MapSpace(layer, catalog.accelerator("tiny"))
            buffer.add(layer, space.accelerator, space.sample(np.random.default_rng(seed), 1)[0])
        return path.read_bytes()


@cache
def experiment_files() -> dict[str, bytes]:
    """The files of a finished experiment, by their paths in its folder."""
    task = Task(catalog.workload(GEMM), catalog.accelerator("tiny"))
    with TemporaryDirectory() as folder:
        experiment = Experiment((task,), (AgentEntry("random"),), (0, 1), Budget(samples=20))
        run_experiment(experiment, Path(folder), command="mapgym run")
        found = [path for path in Path(folder).rglob("*") if path.is_file()]
        return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@cache
def results_files() -> dict[str, bytes]:
    """A folder of results as Timeloop prints them, with two evaluations of the same layer."""
    energies = (("read", 1.5), ("write", 2.5), ("leak", 0.25))
    levels = tuple(
        replace(level, action_energies_pj=energies, keep_only=None) for level in catalog.accelerator("tiny").levels
    )
    machine = replace(catalog.accelerator("tiny"), levels=levels, fanout_check="cumulative", rules="timeloop-2024")
    layer = catalog.workload(GEMM)
    with TemporaryDirectory() as folder:
        for seed, outline in enumerate((OF_2022, OF_2024)):
            mapping = MapSpace(layer, machine).sample(np.random.default_rng(seed), 1)[0]
            write_results(
                Path(folder), layer, machine, mapping, outline=outline, run=f"run{seed}", with_architecture=True
            )
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def records(kind: str) -> bytes:
    """Two recorded runs of Timeloop, "dense" or "sparse", as lines of JSON."""
    path = DATA / f"golden_{kind}_sample.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return "".join(next(lines) for _ in range(2)).encode()


def one_record(kind: str) -> object:
    """One of them as plain data."""
    return json.loads(records(kind).decode().splitlines()[0])


def trivial_mapping_file() -> bytes:
    """The mapping that every task has."""
    space = gemm_space()
    return as_yaml(Mapping.trivial(space.workload, space.accelerator).to_dict())
