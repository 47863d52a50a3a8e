"""Kernels and environments through their public doors: arrays and actions that no honest caller makes."""

from __future__ import annotations

from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, strategies as st

import corpus
from contract import answer, fuzz
from hostile import NUMBERS
from mapgym import CostModel, MapSpace
from mapgym.envs import ENVIRONMENT_IDS
from mapgym.errors import SpecificationError
from mapgym.mapping import MappingBatch
from mapgym.mapping.mapping import ARRAYS
from mapgym.spec import catalog

AXES = ("tile", "order", "parallelism", "bypass")
TASKS = (("toy/tiny_gemm", "tiny"), (corpus.EINSUM, "tiny_sparse_md"), ("resnet18/conv1", "eyeriss_like"))
DTYPES = ("int8", "int16", "int32", "int64", "uint8", "uint64", "float32", "float64", "bool", "object", ">i4")


@cache
def space(task: int) -> MapSpace:
    workload, machine = TASKS[task]
    return MapSpace(catalog.workload(workload), catalog.accelerator(machine), axes=AXES)


def ask_everything(found: MapSpace, batch: MappingBatch) -> None:
    """Gives a batch to every public function that takes one."""
    rng = np.random.default_rng(0)
    model = CostModel(found.workload, found.accelerator)
    answer(lambda: model.evaluate(batch, detail=True))
    answer(lambda: [model.evaluate(batch[i]) for i in range(min(len(batch), 2))])
    for method in (found.status, found.contains, found.canonical, found.encode, found.repair):
        answer(lambda method=method: method(batch))
    answer(lambda: found.random_neighbor(rng, batch))
    for i in range(min(len(batch), 2)):
        answer(lambda i=i: found.neighbors(batch[i]))
        answer(lambda i=i: found.reason(batch[i]))
        answer(lambda i=i: batch[i].to_text())
        answer(lambda i=i: batch[i].to_dict())


@st.composite
def numbers(draw: Any, dtype: np.dtype[Any]) -> Any:
    value = draw(st.one_of(st.sampled_from(NUMBERS), st.integers(-130, 300)))
    try:
        return np.array(value).astype(dtype)
    except (OverflowError, ValueError, TypeError):
        return dtype.type(0)


@fuzz
@given(st.data())
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning", "ignore:overflow:RuntimeWarning")
def test_arrays_that_are_written_to(data):
    found = space(data.draw(st.integers(0, len(TASKS) - 1)))
    batch = found.sample(np.random.default_rng(data.draw(st.integers(0, 9))), 4)
    for _ in range(data.draw(st.integers(1, 6))):
        array = getattr(batch, data.draw(st.sampled_from(ARRAYS)))
        place = tuple(data.draw(st.integers(0, size - 1)) for size in array.shape)
        array[place] = data.draw(numbers(array.dtype))
    ask_everything(found, batch)


@fuzz
@given(st.data())
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning", "ignore:overflow:RuntimeWarning")
def test_arrays_of_ones_own(data):
    found = space(data.draw(st.integers(0, len(TASKS) - 1)))
    good = found.sample(np.random.default_rng(0), 3)
    arrays = dict(zip(ARRAYS, (array.copy() for array in good.arrays()), strict=True))
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from(ARRAYS))
        kind = data.draw(st.sampled_from(("dtype", "shape", "fill", "order", "view")))
        array = arrays[name]
        if kind == "dtype":
            arrays[name] = array.astype(data.draw(st.sampled_from(DTYPES)))
        elif kind == "shape":
            arrays[name] = array[tuple(slice(data.draw(st.integers(0, 1)), None) for _ in array.shape)]
        elif kind == "fill":
            arrays[name] = np.full_like(array, data.draw(numbers(array.dtype)))
        elif kind == "order":
            arrays[name] = np.asfortranarray(array)
        else:
            arrays[name] = array[::-1]
            arrays[name].flags.writeable = False
    batch = answer(lambda: MappingBatch(*(arrays[name] for name in ARRAYS), *good.names))
    if not isinstance(batch, str):
        ask_everything(found, batch)


@fuzz
@given(st.data())
def test_codes(data):
    found = space(data.draw(st.integers(0, len(TASKS) - 1)))
    codes = found.encode(found.sample(np.random.default_rng(0), 2))
    for _ in range(data.draw(st.integers(1, 4))):
        codes[data.draw(st.integers(0, 1)), data.draw(st.integers(0, codes.shape[1] - 1))] = data.draw(
            st.sampled_from([n for n in NUMBERS if isinstance(n, int) and abs(n) < 2**63])
        )
    answer(lambda: found.decode(codes))


ACTIONS = [
    *(n for n in NUMBERS), None, "1", "x", b"1", [0], [[0]], [0.5], {}, (), True, np.int64(1), np.int8(-1),
    np.uint64(2**64 - 1), np.float32(1.0), np.array(1), np.array([1]), np.array([[1]]), np.array([0, 1]), np.zeros(0),
    np.eye(3), np.nan, object,
]  # fmt: skip


@fuzz
@given(st.data())
@pytest.mark.parametrize("name", ENVIRONMENT_IDS)
def test_actions(name, data):
    env = _env(name)
    env.reset(seed=data.draw(st.integers(0, 5)))
    for _ in range(data.draw(st.integers(1, 5))):
        action = data.draw(st.sampled_from(ACTIONS))
        step = answer(lambda action=action: _step(env, action))
        if not isinstance(step, str):
            assert env.observation_space.contains(step[0])
            if step[2] or step[3]:
                break
    else:
        # What was refused has changed nothing that keeps an episode from ending.
        for _ in range(1000):
            step = env.step(_legal_action(env))
            if step[2] or step[3]:
                break
        else:
            raise AssertionError("the episode does not end")


@fuzz
@given(st.data())
@pytest.mark.parametrize("name", ENVIRONMENT_IDS)
def test_actions_of_a_batch(name, data):
    envs = _envs(name)
    envs.reset(seed=data.draw(st.integers(0, 5)))
    shape = envs.action_space.shape
    for _ in range(data.draw(st.integers(1, 4))):
        kind = data.draw(st.sampled_from(("numbers", "numbers", "dtype", "shape", "thing")))
        actions: Any = np.zeros(shape, np.int64)
        if kind == "numbers":
            limits = st.sampled_from([n for n in NUMBERS if isinstance(n, int) and abs(n) < 2**63])
            actions.flat[data.draw(st.integers(0, actions.size - 1))] = data.draw(limits)
        elif kind == "dtype":
            actions = actions.astype(data.draw(st.sampled_from(DTYPES)))
        elif kind == "shape":
            actions = np.zeros((*shape, 2), np.int64)
        else:
            actions = data.draw(st.sampled_from(ACTIONS))
        step = answer(lambda actions=actions: _step(envs, actions))
        if not isinstance(step, str):
            assert envs.observation_space.contains(step[0])
            assert np.isfinite(step[1]).all()


def _step(env: Any, action: Any) -> Any:
    """A step; Gymnasium's own wrappers are not in the way."""
    try:
        return env.unwrapped.step(action)
    except gym.error.ResetNeeded as error:
        raise SpecificationError(str(error)) from None


def _legal_action(env: Any) -> Any:
    masks = getattr(env.unwrapped, "action_masks", None)
    return env.action_space.sample() if masks is None else env.action_space.sample(masks().astype(np.int8))


@cache
def _env(name: str) -> Any:
    return gym.make(name, disable_env_checker=True)


@cache
def _envs(name: str) -> Any:
    return gym.make_vec(name, num_envs=3, vectorization_mode="vector_entry_point")
