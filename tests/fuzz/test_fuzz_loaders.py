"""Every file that mapgym reads, hostile: it is read, or refused in one sentence; what was read can be used."""

from __future__ import annotations

import gzip
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

import corpus
from contract import answer, fuzz, remember
from hostile import as_bytes, edited_data, files
from mapgym import CostModel, MapSpace, lower_bound
from mapgym.agents.experiment.definition.experiment_file import load_experiment
from mapgym.agents.experiment.storage.folder import load_results
from mapgym.agents.files.mapping_file import read_mapping
from mapgym.agents.learned.amortized.model import load_policy, shipped_path
from mapgym.agents.learned.mind_mappings.model import SHIPPED, load_surrogate
from mapgym.agents.tuning import read_tuning
from mapgym.cost import OBJECTIVES
from mapgym.evaluation.best_known import read_file
from mapgym.mapping import Mapping
from mapgym.spec import catalog
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.constraints import Constraints
from mapgym.spec.workload import Workload
from mapgym.system.yaml_loader import load_yaml
from mapgym.timeloop import validate_file
from mapgym.timeloop.results import validate_folder
from mapgym.warmstart import ReplayBuffer

pytest.importorskip("pyarrow")
pytest.importorskip("safetensors")
pytest.importorskip("torch")


def offered(content: bytes, name: str, read: Callable[[Path], Any], use: Callable[[Any], Any] | None = None) -> None:
    """Puts a file where its reader finds it, and checks the answer."""
    remember(name, content)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        found = answer(lambda: read(path))
        if use is not None and not isinstance(found, str):
            answer(lambda: use(found))


def is_sane(workload: Workload, accelerator: Accelerator) -> None:
    """What could be read can be priced: finite costs, none below the lower bound, the same in canonical form."""
    space = MapSpace(workload, accelerator, axes=("tile", "order", "parallelism", "bypass"))
    model = CostModel(workload, accelerator)
    batch = space.sample(np.random.default_rng(0), 16)
    costs = model.evaluate(batch)
    assert costs.legal.all()
    bound = lower_bound(workload, accelerator)
    for objective in OBJECTIVES:
        found, least = costs.objective(objective), bound.objective(objective)
        assert np.isfinite(found).all(), (objective, found)
        assert math.isfinite(least), (objective, least)
        assert (found >= least * (1 - 1e-9)).all(), (objective, found.min(), least)
    assert ((costs.utilization >= 0) & (costs.utilization <= 1 + 1e-9)).all()
    again = model.evaluate(space.canonical(batch))
    np.testing.assert_array_equal(costs.energy_pj, again.energy_pj)
    np.testing.assert_array_equal(costs.latency_cycles, again.latency_cycles)


@fuzz
@given(
    st.sampled_from(corpus.WORKLOADS).flatmap(lambda data: files(corpus.as_yaml(data))),
    st.sampled_from(corpus.ACCELERATORS),
)
def test_workloads(content, machine):
    offered(content, "workload.yaml", catalog.workload, lambda found: is_sane(found, catalog.accelerator(machine)))


@fuzz
@given(
    st.sampled_from(corpus.ACCELERATORS).flatmap(lambda name: files(corpus.catalog_file(f"accelerators/{name}.yaml")))
)
def test_accelerators(content):
    offered(content, "machine.yaml", catalog.accelerator, lambda found: is_sane(catalog.workload(corpus.EINSUM), found))


@fuzz
@given(files(corpus.as_yaml(corpus.NETWORK)))
def test_networks(content):
    offered(content, "network.yaml", catalog.network, lambda found: [layer.workload.macs for layer in found.layers])
    offered(content, "network.yaml", catalog.workloads)
    offered(content, "network.yaml", lambda path: catalog.workload(f"{path}:fc"))


@fuzz
@given(files(corpus.as_yaml(corpus.CONSTRAINTS)))
def test_constraints(content):
    space = corpus.gemm_space()

    def use(found):
        MapSpace(space.workload, space.accelerator, constraints=found).sample(np.random.default_rng(0), 4)

    offered(content, "constraints.yaml", lambda path: Constraints.from_dict(load_yaml(path)), use)


@fuzz
@given(st.sampled_from([corpus.mapping_file(), corpus.trivial_mapping_file()]).flatmap(files))
def test_mappings(content):
    space = corpus.gemm_space()

    def use(found):
        cost = CostModel(space.workload, space.accelerator).evaluate(found, detail=True)
        assert cost.legal == (space.reason(found) == "")
        assert found.to_text()
        # A file does not say where loops of bound 1 stand.
        again = Mapping.from_dict(found.to_dict(), space.workload, space.accelerator)
        assert space.canonical(again.batch()) == space.canonical(found.batch())

    offered(
        content, "mapping.yaml", lambda path: Mapping.from_dict(load_yaml(path), space.workload, space.accelerator), use
    )


@fuzz
@given(files(corpus.as_yaml(corpus.EXPERIMENT)))
def test_experiments(content):
    offered(content, "experiment.yaml", load_experiment, lambda found: len(found.runs))


@fuzz
@given(files(corpus.catalog_file("tuning.yaml")[:4000]))
def test_tuning(content):
    offered(content, "tuning.yaml", read_tuning)


@fuzz
@given(files(corpus.best_known_file()))
def test_best_known(content):
    offered(content, "best_known.tsv", read_file)


@fuzz
@given(files(corpus.buffer_file()))
def test_replay_buffers(content):
    space = corpus.gemm_space()

    def use(buffer):
        for _ in buffer.problems():
            pass
        buffer.initial(space, count=3)

    offered(content, "buffer", ReplayBuffer, use)


@fuzz
@given(
    st.sampled_from(("dense", "sparse")).flatmap(
        lambda kind: st.one_of(
            files(corpus.records(kind)), edited_data(corpus.one_record(kind)).map(lambda data: as_bytes(data, "json"))
        )
    ),
    st.booleans(),
)
def test_records(content, compressed):
    if compressed:
        offered(gzip.compress(content), "records.jsonl.gz", validate_file)
    else:
        offered(content, "records.jsonl", validate_file)


@fuzz
@given(
    st.sampled_from(sorted(corpus.results_files())).flatmap(
        lambda name: st.tuples(st.just(name), files(corpus.results_files()[name]))
    )
)
def test_published_results(hostile):
    name, content = hostile
    remember(name, content)
    with tempfile.TemporaryDirectory() as folder:
        for other, good in corpus.results_files().items():
            (Path(folder) / other).write_bytes(content if other == name else good)
        reports = answer(lambda: list(validate_folder(folder)))
        if not isinstance(reports, str):
            for report in reports:
                assert "\n" not in report.error
                assert report.error or report.compared


@fuzz
@given(files(corpus.results_files()["run0.map.txt"]))
def test_printed_nests(content):
    space = corpus.gemm_space()
    offered(content, "a.map.txt", lambda path: read_mapping(path, space.workload, space.accelerator))


@fuzz
@given(files(gzip.compress(corpus.records("dense"))))
def test_compressed_records(content):
    offered(content, "records.jsonl.gz", validate_file)


@fuzz
@given(st.data())
def test_results(data):
    good = corpus.experiment_files()
    name = data.draw(st.sampled_from(sorted(good)))
    content = data.draw(files(good[name]))
    remember("results", content)
    with tempfile.TemporaryDirectory() as folder:
        for path, text in good.items():
            file = Path(folder) / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content if path == name else text)
        found = answer(lambda: load_results(folder))
        if not isinstance(found, str):
            # A damaged file is left out or refused; it never says something else.
            values = {result.seed: result.best_value for result in found}
            assert values.items() <= _values().items()


def _values() -> dict[int, float]:
    if not _KNOWN:
        with tempfile.TemporaryDirectory() as folder:
            for path, text in corpus.experiment_files().items():
                file = Path(folder) / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(text)
            _KNOWN.update({result.seed: result.best_value for result in load_results(folder)})
    return _KNOWN


_KNOWN: dict[int, float] = {}


@fuzz
@given(files(shipped_path().read_bytes()))
def test_policies(content):
    offered(content, "policy.safetensors", lambda path: load_policy(str(path)))


@fuzz
@given(files((SHIPPED / "mind_mappings_accel_a.safetensors").read_bytes()))
def test_surrogates(content):
    offered(content, "model.safetensors", lambda path: load_surrogate(str(path)))
