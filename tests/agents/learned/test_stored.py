"""Files of trained weights: what is read is what was written, and everything else is refused in one sentence."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

pytest.importorskip("sb3_contrib")
pytest.importorskip("safetensors")

from safetensors.numpy import save_file

from mapgym.agents import make_agent
from mapgym.agents.learned.amortized.model import load_policy, shipped_path
from mapgym.agents.learned.mind_mappings.model import load_surrogate
from mapgym.agents.learned.sb3 import training as stock_training
from mapgym.agents.learned.sb3.policy import POLICY, read_policy
from mapgym.agents.learned.stored_arrays import SHIPPED, read_arrays, write_arrays
from mapgym.agents.learned.training import CHECKPOINT, TrainingProgress, TrainingRequest, make_trainer
from mapgym.errors import SpecificationError
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.mapspace import MapSpace
from mapgym.spec.workload import matmul
from mapgym.testing.agents import small_accelerator
from places import REPOSITORY

LAYER = matmul("layer", M=8, K=4, N=4)
SMALL = {"num_envs": 4, "hidden": 4, "orders": "innermost"}
PARAMETERS = {
    "ppo": {**SMALL, "steps": 20, "batch_size": 40, "epochs": 1},
    "dqn": {**SMALL, "buffer_size": 80, "learning_starts": 40, "batch_size": 8},
}
ARRAYS = {"a": np.arange(6.0).reshape(2, 3), "b": np.array([True, False]), "c": np.array(2.5, np.float32)}
ABOUT = {"agent": "ppo", "numbers": [1, 2.5, None], "text": "Gewichte, 权重"}


@pytest.fixture(autouse=True)
def _short_segments() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stock_training, "SEGMENT_STEPS", 80)
        yield


def train(folder: Path, agent: str, steps: int = 160, **options: Any) -> str:
    request = TrainingRequest(
        small_accelerator(), folder, (LAYER,), steps=steps, parameters=PARAMETERS[agent], **options
    )
    return make_trainer(agent).train(request, TrainingProgress())


def search(folder: Path, agent: str) -> Evaluator:
    evaluator = Evaluator(MapSpace(LAYER, small_accelerator()), budget=Budget(samples=20))
    make_agent(agent, policy=str(folder), num_envs=4).search(evaluator, 0)
    return evaluator


@pytest.fixture(scope="module", params=PARAMETERS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stock_training, "SEGMENT_STEPS", 80)
        train(folder, request.param)
    return request.param, folder


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return first.keys() == second.keys() and all(
        array.dtype == second[name].dtype and array.shape == second[name].shape and np.array_equal(array, second[name])
        for name, array in first.items()
    )


def refused(call: Callable[[], object], path: Path) -> str:
    with pytest.raises(SpecificationError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert "anew" in message
    return message


class TestFiles:
    def test_what_is_written_is_read(self, tmp_path: Path) -> None:
        write_arrays(tmp_path / "x.safetensors", ARRAYS, ABOUT)
        arrays, about = read_arrays(tmp_path / "x.safetensors")
        assert same(arrays, ARRAYS)
        assert about == ABOUT

    @settings(deadline=None, max_examples=400)
    @given(data=st.data())
    def test_flipped_bits_are_refused_or_change_nothing(
        self, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        path = tmp_path_factory.getbasetemp() / "flipped.safetensors"
        write_arrays(path, ARRAYS, ABOUT)
        content = bytearray(path.read_bytes())
        places = data.draw(st.lists(st.integers(0, 8 * len(content) - 1), min_size=1, max_size=3, unique=True))
        for place in places:
            content[place // 8] ^= 1 << place % 8
        path.write_bytes(content)
        try:
            arrays, about = read_arrays(path)
        except SpecificationError:
            refused(lambda: read_arrays(path), path)
        else:
            assert same(arrays, ARRAYS)
            assert about == ABOUT

    def test_every_single_bit_of_the_header(self, tmp_path: Path) -> None:
        path = tmp_path / "x.safetensors"
        write_arrays(path, {"a": np.arange(2.0)}, {"k": 1})
        content = path.read_bytes()
        for place in range(8 * len(content)):
            damaged = bytearray(content)
            damaged[place // 8] ^= 1 << place % 8
            path.write_bytes(damaged)
            try:
                arrays, about = read_arrays(path)
            except SpecificationError:
                continue
            assert same(arrays, {"a": np.arange(2.0)})
            assert about == {"k": 1}

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\x00" * 8,
            b"\xff" * 8 + b"{}",
            (2**40).to_bytes(8, "little") + b"{}",
            (2).to_bytes(8, "little") + b"{}",
            (60_000_000).to_bytes(8, "little") + b" " * 60_000_000,
            b"not a file of weights at all",
            b'{"mapgym": 1}',
        ],
        ids=lambda content: f"{len(content)} bytes",
    )
    def test_other_content_is_refused(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "x.safetensors"
        path.write_bytes(content)
        refused(lambda: read_arrays(path), path)

    @pytest.mark.parametrize(
        "text",
        ["[1, 2]", "5", "null", "{", "[" * 100_000, '{"a": ' + "9" * 10_000 + "}", '{"a": 1} {"b": 2}', "\ud800"],
    )
    def test_other_descriptions_are_refused(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "x.safetensors"
        save_file(ARRAYS, path, metadata={"mapgym": text.encode("utf-8", "replace").decode()})
        refused(lambda: read_arrays(path), path)

    def test_a_file_from_before_there_were_digests_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "x.safetensors"
        save_file(ARRAYS, path, metadata={"mapgym": json.dumps(ABOUT)})
        assert same(read_arrays(path)[0], ARRAYS)
        save_file(ARRAYS, path, metadata={"mapgym": json.dumps(ABOUT), "more": "0"})
        refused(lambda: read_arrays(path), path)

    def test_equal_content_makes_equal_files(self, tmp_path: Path) -> None:
        for name in ("first", "second"):
            write_arrays(tmp_path / name, ARRAYS, ABOUT)
        assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()

    def test_a_folder_in_its_place_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(SpecificationError, match=re.escape(str(tmp_path))):
            read_arrays(tmp_path)

    def test_shipped_weights_carry_digests(self) -> None:
        from safetensors import safe_open

        paths = sorted(SHIPPED.glob("*.safetensors"))
        assert len(paths) == 2
        for path in paths:
            read_arrays(path)
            with safe_open(path, framework="numpy") as file:
                assert list(file.metadata()) == ["mapgym-sealed"]


OTHERS: tuple[Any, ...] = (None, 5, -1, 2.5, True, "x", [], {}, [None], {"name": 3}, 10**400, "ppo")


class TestPolicies:
    def test_a_description_that_misses_something_or_holds_another_kind(
        self, trained: tuple[str, Path], tmp_path: Path
    ) -> None:
        agent, folder = trained
        arrays, about = read_arrays(folder / POLICY)
        path = tmp_path / POLICY
        read = ("agent", "parameters", "env", "workloads", "accelerator", "objective", "sizes", "one_task")
        for key in read:
            write_arrays(path, arrays, {name: value for name, value in about.items() if name != key})
            refused(lambda: search(tmp_path, agent), path)
            for value in OTHERS:
                if type(value) is type(about[key]):
                    continue
                write_arrays(path, arrays, {**about, key: value})
                refused(lambda: search(tmp_path, agent), path)

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("parameters", {"hidden": "x"}),
            ("parameters", {"hidden": 10**9}),
            ("parameters", {"learning_rate": None}),
            ("workloads", []),
            ("workloads", [3]),
            ("workloads", [{}]),
            ("accelerator", {}),
            ("accelerator", {"name": 3}),
            ("objective", "beauty"),
            ("sizes", {"observation": "many", "actions": [1]}),
            ("sizes", {"observation": 3}),
            ("sizes", {"observation": 3, "actions": ["x"]}),
            ("agent", "gamma"),
            ("agent", "nobody"),
        ],
    )
    def test_a_description_that_holds_nonsense(
        self, trained: tuple[str, Path], tmp_path: Path, key: str, value: object
    ) -> None:
        agent, folder = trained
        arrays, about = read_arrays(folder / POLICY)
        write_arrays(tmp_path / POLICY, arrays, {**about, key: value})
        refused(lambda: search(tmp_path, agent), tmp_path / POLICY)

    @pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
    def test_weights_that_are_no_numbers(self, trained: tuple[str, Path], tmp_path: Path, number: float) -> None:
        agent, folder = trained
        arrays, about = read_arrays(folder / POLICY)
        for name in arrays:
            damaged = {key: array.copy() for key, array in arrays.items()}
            damaged[name].flat[0] = number
            write_arrays(tmp_path / POLICY, damaged, about)
            assert "no finite numbers" in refused(lambda: search(tmp_path, agent), tmp_path / POLICY)

    def test_weights_too_large_to_answer_with(self, trained: tuple[str, Path], tmp_path: Path) -> None:
        agent, folder = trained
        arrays, about = read_arrays(folder / POLICY)
        write_arrays(tmp_path / POLICY, {name: np.full_like(array, 1e38) for name, array in arrays.items()}, about)
        if agent == "ppo":
            assert "diverged" in refused(lambda: search(tmp_path, agent), tmp_path)
        else:
            # The best of values that are no numbers is any of them, and the environment takes any action.
            assert search(tmp_path, agent).samples == 20

    def test_arrays_of_other_shapes_and_names(self, trained: tuple[str, Path], tmp_path: Path) -> None:
        agent, folder = trained
        arrays, about = read_arrays(folder / POLICY)
        first = next(iter(arrays))
        for damaged in (
            {},
            {**arrays, first: arrays[first][..., None]},
            {**arrays, first: arrays[first][:1]},
            {**arrays, first: np.zeros(arrays[first].shape, np.uint32)},
            {**arrays, "more": arrays[first]},
            {name + "x": array for name, array in arrays.items()},
        ):
            write_arrays(tmp_path / POLICY, damaged, about)
            if any(array.dtype == np.uint32 for array in damaged.values()):
                search(tmp_path, agent)  # whole numbers are numbers
            else:
                refused(lambda: search(tmp_path, agent), tmp_path / POLICY)

    def test_a_cut_off_file(self, trained: tuple[str, Path], tmp_path: Path) -> None:
        agent, folder = trained
        content = (folder / POLICY).read_bytes()
        for length in (0, 7, 8, 100, len(content) // 2, len(content) - 1):
            (tmp_path / POLICY).write_bytes(content[:length])
            refused(lambda: search(tmp_path, agent), tmp_path / POLICY)


class TestCheckpoints:
    def test_a_description_that_misses_something_or_holds_another_kind(
        self, trained: tuple[str, Path], tmp_path: Path
    ) -> None:
        agent, folder = trained
        arrays, about = read_arrays(folder / CHECKPOINT)
        path, progress = tmp_path / CHECKPOINT, about["progress"]
        write_arrays(path, arrays, about)
        before = path.read_bytes()
        assert "is done" in train(tmp_path, agent)
        read = [key for key in progress if agent == "dqn" or key not in ("calls", "memory")]
        for key in read:
            damaged = [{name: value for name, value in progress.items() if name != key}]
            damaged += [
                {**progress, key: value}
                for value in (None, -1, "x", [], {}, [None], [[1, 2]])
                if key != "seconds" or value != -1
            ]
            for each in damaged:
                write_arrays(path, arrays, {**about, "progress": each})
                refused(lambda: train(tmp_path, agent), path)
        for value in (None, 5, "x", []):
            write_arrays(path, arrays, {**about, "progress": value})
            refused(lambda: train(tmp_path, agent), path)
        write_arrays(path, arrays, about)
        assert path.read_bytes() == before

    def test_arrays_that_are_missing_or_others(self, trained: tuple[str, Path], tmp_path: Path) -> None:
        agent, folder = trained
        arrays, about = read_arrays(folder / CHECKPOINT)
        path = tmp_path / CHECKPOINT
        for name, array in arrays.items():
            damaged = [{**arrays, name: np.stack([array, array])}]
            if not name.startswith("optimizer."):
                damaged.append({key: value for key, value in arrays.items() if key != name})
            if array.dtype.kind == "f":
                damaged.append({**arrays, name: np.full_like(array, np.nan)})
            for each in damaged:
                write_arrays(path, each, about)
                refused(lambda: train(tmp_path, agent), path)

    def test_no_checkpoint_at_all(self, trained: tuple[str, Path], tmp_path: Path) -> None:
        (tmp_path / CHECKPOINT).write_bytes(b"nothing")
        refused(lambda: train(tmp_path, trained[0]), tmp_path / CHECKPOINT)


class TestModels:
    def test_a_surrogate(self, tmp_path: Path) -> None:
        arrays, about = read_arrays(SHIPPED / "mind_mappings_accel_a.safetensors")
        path = tmp_path / "model.safetensors"
        for value in (None, -1, 0, 13, 2.5, "3", [], 10**30):
            write_arrays(path, arrays, {**about, "levels": value})
            refused(lambda: load_surrogate(str(path)), path)
        for name, array in arrays.items():
            for other in (array[..., None], array[:0], np.full_like(array, np.nan), np.full_like(array, np.inf)):
                write_arrays(path, {**arrays, name: other}, about)
                refused(lambda: load_surrogate(str(path)), path)
            write_arrays(path, {key: value for key, value in arrays.items() if key != name}, about)
            refused(lambda: load_surrogate(str(path)), path)
        for name, array in arrays.items():
            if name.endswith("weight"):
                arrays[name] = np.where(np.arange(array.size) % 2, 1e38, -1e38).astype(np.float32).reshape(array.shape)
        write_arrays(path, arrays, about)
        with pytest.raises(SpecificationError, match="diverged"):
            make_agent("mind-mappings", model=str(path)).search(
                Evaluator(MapSpace(LAYER, small_accelerator(rules=about["rules"]))), 0
            )

    def test_an_amortized_policy(self, tmp_path: Path) -> None:
        arrays, about = read_arrays(shipped_path())
        path = tmp_path / "model.safetensors"
        for name, array in arrays.items():
            for other in (array[..., None], array[:0], np.full_like(array, np.nan)):
                write_arrays(path, {**arrays, name: other}, about)
                refused(lambda: load_policy(str(path)), path)
        write_arrays(path, {name: np.full(array.shape, 1e30, np.float32) for name, array in arrays.items()}, about)
        evaluator = Evaluator(MapSpace(LAYER, small_accelerator()), budget=Budget(samples=20))
        for agent in ("amortized", "amortized-search"):
            assert "diverged" in refused(lambda: make_agent(agent, model=str(path)).search(evaluator, 0), path)  # noqa: B023


FULL = """
import json, resource, sys
from pathlib import Path
from mapgym.agents.cli import main
from mapgym.agents.learned import stored_arrays
from mapgym.agents.learned.sb3 import policy as stock_policy, training as stock_training
stock_training.SEGMENT_STEPS = 80
folder, write, full = Path(sys.argv[1]), stored_arrays.write_arrays, []

def write_to_a_small_disk(path, arrays, about):
    small = path.name in full
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000 if small else resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    write(path, arrays, about)

stock_policy.write_arrays = stock_training.write_arrays = write_to_a_small_disk

def train(steps):
    options = [part for name in ("num_envs=4", "hidden=16", "steps=20") for part in ("-p", name)]
    task = ["--workload", "toy/tiny_gemm", "--accelerator", "tiny", "--steps", str(steps), "-o", str(folder)]
    try:
        main(["train", "ppo", *task, *options])
    except SystemExit as stopped:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return stopped.code or 0

def contents():
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

results = [train(80)]
before = contents()
for name in ("policy.safetensors", "checkpoint.safetensors"):
    full[:] = [name]
    results.append(train(160))
    after = contents()
    results.append([sorted(after), sorted(name for name in before if before[name] != after.get(name))])
full.clear()
results.append(train(160))
print(json.dumps(results), file=sys.stderr)
"""


def test_a_full_disk_costs_nothing_that_was_there(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    assert "Traceback" not in done.stderr, done.stderr
    lines = done.stderr.splitlines()
    files = sorted([CHECKPOINT, "evaluations.csv", POLICY])
    # The checkpoint is written last: what is newer than it is written again.
    assert json.loads(lines[-1]) == [0, 2, [files, []], 2, [files, ["evaluations.csv", POLICY]], 0]
    failures = [line for line in lines if "file too large" in line]
    assert len(failures) == 2
    for line, name in zip(failures, (POLICY, CHECKPOINT), strict=True):
        assert str(tmp_path / "out" / name) in line
    assert read_policy(tmp_path / "out").about["steps"] == 160
