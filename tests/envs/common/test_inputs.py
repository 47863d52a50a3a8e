"""What environments share beyond the contract: the door for actions, one evaluator for copies, specs with objects."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import data_equivalence
from hypothesis import given, strategies as st

from mapgym.envs import (
    MapSpaceEnv,
    MapSpaceOneShotEnv,
    MapSpaceOneShotVectorEnv,
    MapSpaceRefineEnv,
    MapSpaceRefineVectorEnv,
    MapSpaceSparseEnv,
    MapSpaceSparseVectorEnv,
    MapSpaceVectorEnv,
    MapSpaceWarmStartEnv,
)
from mapgym.envs.common import tasks as environment_tasks
from mapgym.envs.common.action_kernels import nearest_legal
from mapgym.errors import SpecificationError
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.evaluation.sparsity_aware import SparsityAware
from mapgym.mapping import Mapping
from mapgym.mapspace import MapSpace
from mapgym.spec import catalog
from mapgym.spec.constraints import Constraints
from mapgym.spec.workload import Workload
from mapgym.warmstart import Entry, ReplayBuffer

GEMM = {"type": "matmul", "M": 8, "N": 4, "K": 4}
HIGHEST, LOWEST = 2**63 - 1, -(2**63)


@given(
    st.lists(st.booleans(), min_size=1, max_size=12).filter(any),
    st.one_of(st.integers(-15, 15), st.integers(LOWEST, HIGHEST)),
)
def test_nearest_legal_action__looks_at_its_own_mask_only(mask: list[bool], action: int) -> None:
    # What lies beside the mask in memory is legal everywhere, as in the masks of other environments.
    memory = np.ones(len(mask) + 30, np.int8)
    memory[15:-15] = mask
    legal = [k for k, is_legal in enumerate(mask) if is_legal]
    inside = min(max(action, 0), len(mask) - 1)
    nearest = min(legal, key=lambda k: (abs(k - inside), k))
    assert nearest_legal(memory[15:-15], np.int64(action)) == nearest


def test_vector_action_n__stays_in_its_environment() -> None:
    # With a task of fewer actions than the space has, the mask of the next environment begins with a legal action.
    vector, env = MapSpaceVectorEnv(2), MapSpaceEnv()
    size = int(vector.single_action_space.n)
    vector.reset(seed=0)
    env.reset(seed=0)
    for _ in range(100):
        expected, result = env.step(size), vector.step(np.array([size, size]))
        assert np.array_equal(result[0], [expected[0]] * 2)
        if expected[2]:
            break
    assert result[2].all()
    assert np.isfinite(result[0]).all()


@pytest.mark.parametrize(
    ("action", "quoted"),
    [
        (1.7, "action is 1.7"),
        ("1", "action is '1'"),
        (None, "action is None"),
        (10**20, "action is 100000000000000000000"),
        (True, "action is True"),
        (np.eye(3)[0], r"of shape \(3,\) and type float64"),
    ],
)
def test_what_is_no_action__is_answered_in_one_sentence(action: Any, quoted: str) -> None:
    for env_id in ("MapSpace-v0", "MapSpaceRefine-v0"):
        env = gym.make(env_id, workload=GEMM)
        env.reset(seed=0)
        with pytest.raises(SpecificationError, match=rf"^{env_id}: .*{quoted}.*; give a whole number from 0 to \d+$"):
            env.unwrapped.step(action)


def test_tensors__are_actions() -> None:
    torch = pytest.importorskip("torch")
    for env in (MapSpaceEnv(GEMM), MapSpaceRefineEnv(GEMM)):
        for action in (torch.tensor([0]), torch.tensor(0)):
            env.reset(seed=0)
            env.step(action)
        for wrong in (torch.tensor([0.5]), torch.zeros(3, dtype=torch.int64), torch.tensor(1.0, requires_grad=True)):
            with pytest.raises(SpecificationError, match="action"):
                env.step(wrong)


def test_one_shot__names_the_column() -> None:
    env = MapSpaceOneShotEnv(GEMM)
    env.reset(seed=0)
    action = np.zeros(len(env.action_space.nvec), np.int64)
    action[3] = env.action_space.nvec[3]
    with pytest.raises(SpecificationError, match=f"but {action[3]} in column 3"):
        env.step(action)
    vector = MapSpaceOneShotVectorEnv(2, GEMM)
    vector.reset(seed=0)
    with pytest.raises(SpecificationError, match="column 3"):
        vector.step(np.stack([np.zeros_like(action), action]))
    # Nothing was stepped; actions of environments that are reset instead are ignored.
    assert vector.step(np.zeros((2, len(action)), np.int64))[2].all()
    vector.step(np.stack([action, action]))


def test_without_copies__arrays_can_only_be_read() -> None:
    vector = MapSpaceVectorEnv(2, GEMM, copy=False)
    observations, info = vector.reset(seed=0)
    for array in (observations, info["action_mask"]):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def play(env: Any, actions: int = 200) -> None:
    """One episode of first legal actions, of one environment or of many."""
    is_vector = hasattr(env, "num_envs")
    info = env.reset(seed=0)[1]
    for _ in range(actions):
        action = np.zeros_like(env.action_space.sample())
        if "action_mask" in info:
            action = info["action_mask"].argmax(axis=-1) if is_vector else int(info["action_mask"].argmax())
        _, _, over, _, info = env.step(action)
        if np.all(over):
            return
    raise AssertionError("the episode did not end")


SPARSE = SparsityAware((1.0, 0.5))
EVALUATED = {
    MapSpaceEnv: {},
    MapSpaceOneShotEnv: {},
    MapSpaceRefineEnv: {"steps": 1},
    MapSpaceSparseEnv: {},
    MapSpaceVectorEnv: {"num_envs": 2},
    MapSpaceOneShotVectorEnv: {"num_envs": 2},
    MapSpaceRefineVectorEnv: {"num_envs": 2, "steps": 1},
    MapSpaceSparseVectorEnv: {"num_envs": 2},
}


@pytest.mark.parametrize("kind", EVALUATED)
def test_copies__spend_one_budget(kind: Any) -> None:
    is_sparse = kind in (MapSpaceSparseEnv, MapSpaceSparseVectorEnv)
    hardware = catalog.accelerator("accel_b_sparse_md" if is_sparse else "accel_b")
    space = MapSpace(catalog.workload("paper/resnet_conv4"), hardware)
    evaluator = Evaluator(space, SPARSE if is_sparse else "edp", Budget(samples=10))
    env = kind(evaluator=evaluator, **EVALUATED[kind])
    counts = []
    for other in (env, copy.deepcopy(env), copy.copy(env), copy.deepcopy(copy.deepcopy(env))):
        play(other)
        counts.append(evaluator.samples)
    assert 0 < counts[0] < counts[-1]
    assert counts == sorted(counts)
    for _ in range(10):
        play(copy.deepcopy(env))
    assert evaluator.exhausted
    assert evaluator.samples <= 10
    assert copy.deepcopy(evaluator) is evaluator
    with pytest.raises(SpecificationError, match="cannot be pickled"):
        pickle.dumps(env)


def test_copies__record_in_one_buffer() -> None:
    record = ReplayBuffer()
    env = MapSpaceWarmStartEnv(GEMM, steps=1, record=record)
    play(copy.deepcopy(env))
    assert len(record) == 1
    # What an environment has solved itself stays its own.
    assert len(env.buffer) == 0


LAYER = catalog.workload("paper/resnet_conv4")
HARDWARE = catalog.accelerator("accel_a")
START = Mapping.trivial(LAYER, HARDWARE)
STORED: list[tuple[str, dict[str, Any]]] = [
    ("MapSpace-v0", {"workload": LAYER, "accelerator": HARDWARE, "axes": ("tile", "parallelism")}),
    ("MapSpace-v0", {"constraints": Constraints(parallel_dims=("K", "C")), "objective": "energy"}),
    ("MapSpaceOneShot-v0", {"workload": [LAYER, catalog.network("bert_large"), GEMM, "paper/bert_kqv"]}),
    ("MapSpaceOneShot-v0", {"accelerator": [HARDWARE, "accel_b", catalog.accelerator("accel_b_2d")]}),
    ("MapSpaceRefine-v0", {"workload": LAYER, "accelerator": HARDWARE, "start": START, "steps": 3}),
    ("MapSpaceSparse-v0", {"workload": LAYER, "weight_densities": np.array([0.5, 0.25]), "densities": (1, 0.5)}),
    ("MapSpaceSparse-v0", {"accelerator": catalog.accelerator("tiny_sparse"), "workload": LAYER}),
    ("MapSpaceWarmStart-v0", {"network": catalog.network("bert_large"), "accelerator": HARDWARE, "steps": 2}),
]


@pytest.mark.parametrize(("env_id", "arguments"), STORED)
def test_spec__brings_objects_back_from_json(env_id: str, arguments: dict[str, Any]) -> None:
    if "constraints" in arguments:
        arguments = {**arguments, "constraints": Constraints(parallel_dims=LAYER.dims[:2])}
    env = gym.make(env_id, **arguments)
    assert env.spec is not None
    spec = EnvSpec.from_json(env.spec.to_json())
    again = gym.make(spec)
    assert again.spec == env.spec == spec
    assert again.observation_space == env.observation_space
    assert again.action_space == env.action_space
    assert data_equivalence(again.reset(seed=1), env.reset(seed=1), exact=True)
    assert again.unwrapped.task == env.unwrapped.task
    vector = gym.make_vec(env_id, num_envs=2, autoreset_mode=gym.vector.AutoresetMode.SAME_STEP, **arguments)
    assert vector.spec is not None
    twin = gym.make_vec(EnvSpec.from_json(vector.spec.to_json()))
    assert twin.num_envs == 2
    assert twin.metadata == vector.metadata
    assert data_equivalence(twin.reset(seed=1), vector.reset(seed=1), exact=True)


def test_spec__stores_paths(tmp_path: Path) -> None:
    path = tmp_path / "solved.jsonl"
    ReplayBuffer(path).extend([Entry(LAYER, HARDWARE, "edp", 1.0, START)])
    for start in (path, ReplayBuffer(path)):
        env = gym.make("MapSpaceRefine-v0", workload=LAYER, accelerator=HARDWARE, start=start)
        assert env.spec is not None
        again = gym.make(EnvSpec.from_json(env.spec.to_json()))
        assert data_equivalence(again.reset(seed=1), env.reset(seed=1), exact=True)


@pytest.mark.parametrize(
    ("env_id", "name", "value"),
    [
        ("MapSpace-v0", "evaluator", Evaluator(MapSpace(LAYER, HARDWARE))),
        ("MapSpaceWarmStart-v0", "record", ReplayBuffer()),
        ("MapSpaceWarmStart-v0", "similarity", lambda target, family, bounds: bounds[:, 0]),
    ],
)
def test_spec__says_what_json_cannot_store(env_id: str, name: str, value: Any) -> None:
    env = gym.make(env_id, **{name: value})
    assert env.spec is not None
    with pytest.raises(SpecificationError, match=f"^{env_id}: {name} is .*JSON cannot store"):
        env.spec.to_json()
    gym.make(env.spec).reset(seed=0)


@pytest.mark.parametrize(
    "tensors",
    [{"density": 0.5, "density_distribution": "hypergeometric"}, {"density_distribution": "hypergeometric"}],
)
def test_workloads__come_back_from_their_dict(tensors: dict[str, Any]) -> None:
    data = {
        "name": "w",
        "dims": {"M": 4, "K": 2},
        "tensors": {"A": {"projection": ["M", "K"], **tensors}, "Z": {"projection": ["M"], "output": True}},
    }
    assert Workload.from_dict(Workload.from_dict(data).to_dict()) == Workload.from_dict(data)


@pytest.mark.parametrize("env_id", ["MapSpace-v0", "MapSpaceOneShot-v0", "MapSpaceRefine-v0", "MapSpaceWarmStart-v0"])
def test_tasks_of_options__do_not_pile_up(env_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment_tasks, "MOST_GIVEN", 3)
    # Its bound has all primes of the others.
    largest = {"network" if "Warm" in env_id else "workload": {**GEMM, "M": 2 * 3 * 5 * 7 * 11 * 13}}
    env, vector = gym.make(env_id, **largest).unwrapped, gym.make_vec(env_id, num_envs=2, **largest)
    own = len(env._tasks.prepared)
    layers = [{**GEMM, "name": f"layer{k}", "M": 2 + k} for k in range(12)]
    first = [env.reset(seed=1, options={"workload": layer}) for layer in layers]
    for layer in layers:
        vector.reset(seed=1, options={"workload": layer})
        vector.step(np.zeros_like(vector.action_space.sample()))
        assert [task.workload.name for task in vector.tasks()] == [layer["name"]] * 2
    assert len(env._tasks.prepared) == own + 3
    assert len(vector._tasks.prepared) <= own + 3 + 2
    for made in (env, vector):
        assert len(getattr(getattr(made, "_episodes", None), "_mappings", ())) <= own + 3 + 2
    # A layer that was forgotten begins as it did at first, and one that is known is not prepared again.
    for layer, before in zip(layers, first, strict=True):
        assert data_equivalence(env.reset(seed=1, options={"workload": layer}), before, exact=True)
    kept = env._tasks.prepared[env._tasks.number_of(env.task)]
    for layer in (layers[0], layers[-1], layers[1], layers[-1], layers[2], layers[-1], layers[3]):
        env.reset(options={"workload": layer})
    assert kept in env._tasks.prepared


def test_reset__that_is_refused_leaves_the_episode_alone() -> None:
    # The second layer has no such mapping to start from, which shows only when its task is made ready.
    start = Mapping.trivial(LAYER, HARDWARE)
    vector = MapSpaceRefineVectorEnv(3, LAYER, HARDWARE, start=start, steps=4)
    observations, info = vector.reset(seed=0)
    with pytest.raises(SpecificationError, match="start"):
        vector.reset(options={"workload": [LAYER, {**LAYER.to_dict(), "dims": dict.fromkeys(LAYER.dims, 1)}]}, seed=2)
    assert vector.tasks() == [vector.tasks()[0]] * 3
    assert np.array_equal(vector.action_masks(), info["action_mask"].astype(bool))
    assert np.array_equal(vector.observation_space.contains(observations), True)
    vector.step(info["action_mask"].argmax(axis=1))
