"""MapSpaceOneShot-v0: what an action means and what is repaired, beyond the contract."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from brute_force_spaces import toy_accelerator, toy_workload
from mapgym.cost import CostModel, lower_bound
from mapgym.envs import MapSpaceOneShotEnv, MapSpaceOneShotVectorEnv
from mapgym.errors import SpecificationError
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.mapping import Mapping
from mapgym.mapspace import MapSpace
from mapgym.mapspace.projection import Target, mesh_sides
from mapgym.spec.workload import Workload
from random_cases import cases

ALL = ("tile", "order", "parallelism", "bypass")
TOY, TOY_ACCELERATOR = toy_workload(), toy_accelerator()
# Dims K = 2 * 2, P = 3, R = 2; levels Registers, Buffer, Memory: slots 0-2, 3-5, 6-8.
ORDERS = [0, 0, 0, 0, 0, 0, 2, 0, 1]


def test_action__puts_primes_and_loops_where_it_says() -> None:
    env = MapSpaceOneShotEnv(TOY, TOY_ACCELERATOR)
    assert env.action_space.nvec.tolist() == [9] * 4 + [3] * 9
    env.reset(seed=0)
    # A 2 of K in parallel on X below Registers, the rest at Memory: P innermost, then R, then K.
    _, reward, over, truncated, info = env.step(np.array([1, 6, 6, 6, *ORDERS]))
    assert (over, truncated, info["repaired"]) == (True, False, False)
    assert env.mapping.spatial_sides(0) == ([("K", 2)], [])
    assert env.mapping.temporal_loops(2) == [("P", 3), ("R", 2), ("K", 2)]
    cost = CostModel(TOY, TOY_ACCELERATOR).evaluate(env.mapping)
    assert reward == pytest.approx(-math.log(cost.edp / lower_bound(TOY, TOY_ACCELERATOR).edp))


def test_action__that_no_hardware_can_run_is_repaired() -> None:
    env = MapSpaceOneShotEnv(TOY, TOY_ACCELERATOR)
    env.reset(seed=0)
    # Everything in the registers takes 4 * 2 + 4 + 12 words of 9.
    info = env.step(np.array([0, 0, 0, 0, *ORDERS]))[4]
    assert info["repaired"]
    assert MapSpace(TOY, TOY_ACCELERATOR).contains(env.mapping)


def test_random_actions__always_end_in_the_map_space() -> None:
    constraints = {"min_utilization": 0.5}
    env = MapSpaceOneShotEnv(
        TOY, TOY_ACCELERATOR, axes=("tile", "order", "parallelism", "bypass"), constraints=constraints
    )
    space = MapSpace(TOY, TOY_ACCELERATOR, ("tile", "order", "parallelism", "bypass"), constraints)
    env.action_space.seed(0)
    repaired = set()
    for seed in range(200):
        env.reset(seed=seed)
        info = env.step(env.action_space.sample())[4]
        assert space.contains(env.mapping)
        repaired.add(info["repaired"])
    assert True in repaired


def test_action__outside_the_space_is_an_error() -> None:
    env = MapSpaceOneShotEnv(TOY, TOY_ACCELERATOR)
    env.reset(seed=0)
    for action in (np.full(13, 9), np.full(13, -1), np.zeros(12, np.int64)):
        with pytest.raises(SpecificationError, match="an action is not 13 numbers"):
            env.step(action)


def test_evaluator__counts_and_ends() -> None:
    evaluator = Evaluator(MapSpace(TOY, TOY_ACCELERATOR), "energy", Budget(samples=1))
    env = MapSpaceOneShotEnv(evaluator=evaluator)
    infos = []
    for seed in range(2):
        env.reset(seed=seed)
        infos.append(env.step(np.zeros(13, np.int64))[4])
    assert "ratio" in infos[0]
    assert infos[1]["budget_exhausted"]
    assert infos[1]["ratio"] == -1


def target_of(actions: np.ndarray, columns: list[int], workload: Workload, levels: int, has_keep: bool) -> Target:
    """What actions ask for, read as the documentation of the environment says."""
    n, dims, tensors = len(actions), len(workload.dims), len(workload.tensors)
    temporal, on_x, on_y = (np.ones((n, levels, dims)) for _ in range(3))
    first = 0
    for d, (bound, count) in enumerate(zip(workload.bounds, columns, strict=True)):
        primes, left = [], bound
        for prime in range(2, bound + 1):
            while left % prime == 0:
                primes.append(prime)
                left //= prime
        for k, prime in enumerate(primes):
            for i, value in enumerate(actions[:, first + k]):
                (temporal, on_x, on_y)[value % 3][i, value // 3, d] *= prime
        first += count
    priorities = actions[:, first : first + levels * dims].reshape(n, levels, dims)
    order = np.argsort(priorities, axis=2, kind="stable").astype(np.int8)
    keep = np.ones((n, levels, tensors), np.bool_)
    if has_keep:
        keep = actions[:, first + levels * dims :].reshape(n, levels, tensors) == 1
    return Target(temporal, on_x * on_y, order, order, on_y > on_x, keep)


@settings(max_examples=40, deadline=None)
@given(
    case=cases(1),
    axes=st.sets(st.sampled_from(ALL), min_size=1),
    is_limited=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_action__is_the_projection_of_what_it_says(case, axes, is_limited, seed) -> None:
    constraints = None
    if is_limited:
        # Factors in a range are chosen by another rule, without the compiled call that does everything.
        level = case.accelerator.level_names[0]
        constraints = {"factors": {level: {case.workload.dims[0]: {"temporal": "<=2"}}}}
    try:
        env = MapSpaceOneShotEnv(case.workload, case.accelerator, axes=sorted(axes), constraints=constraints)
        prepared = env._tasks.prepared[0]
        prepared.space.sample(np.random.default_rng(0), 1)
    except SpecificationError:
        return  # The task, or this part of it, has no legal mapping, or a cost of 0.
    rng = np.random.default_rng(seed)
    actions = rng.integers(0, env.action_space.nvec, (5, len(env.action_space.nvec)))
    built = prepared.room(5)
    all_fit = prepared.build(actions, built)
    levels = len(case.accelerator.levels)
    target = target_of(actions, env._tasks.columns, case.workload, levels, "bypass" in axes)
    expected, fits = prepared.space.project(target)
    assert (built.fits == fits).all()
    assert all_fit == fits.all()
    assert built.batch == expected
    free = prepared.space.entries.keep_free
    for i, mapping in enumerate(expected):
        differs = (mapping.temporal != target.temporal[i]).any() or (mapping.spatial != target.spatial[i]).any()
        on_y = mesh_sides(mapping.batch())[0]
        differs |= (on_y != target.on_y[i])[mapping.spatial > 1].any()
        differs |= (mapping.keep != target.keep[i])[free].any()
        assert built.differs[i] == differs


def test_mappings__that_callers_hold_stay_as_they_are() -> None:
    env, vector = MapSpaceOneShotEnv(TOY, TOY_ACCELERATOR), MapSpaceOneShotVectorEnv(2, TOY, TOY_ACCELERATOR)
    env.action_space.seed(0)
    vector.action_space.seed(0)
    vector.reset(seed=0)
    held: list[tuple[Mapping, Mapping]] = []
    for seed in range(12):
        env.reset(seed=seed)
        env.step(env.action_space.sample())
        vector.step(vector.action_space.sample())
        held += [(mapping, copy.deepcopy(mapping)) for mapping in (env.mapping, *vector.mappings())]
        state = env.get_state()
        env.reset()
        env.step(env.action_space.sample())
        env.set_state(state)
        assert env.mapping == held[-3][1]
    assert len({mapping.to_text() for mapping, _ in held}) > 5
    for mapping, before in held:
        assert mapping == before


def test_twin__with_several_tasks_builds_what_scalar_environments_do() -> None:
    tasks = [TOY, {"type": "matmul", "M": 6, "K": 4, "N": 10}]
    vector = MapSpaceOneShotVectorEnv(5, tasks, TOY_ACCELERATOR)
    envs = [MapSpaceOneShotEnv(tasks, TOY_ACCELERATOR) for _ in range(5)]
    vector.reset(seed=3)
    vector.action_space.seed(1)
    for i, env in enumerate(envs):
        env.reset(seed=3 + i)
    for turn in range(20):
        actions = vector.action_space.sample()
        _, rewards, over, _, infos = vector.step(actions)
        if turn % 2:
            assert not over.any()
            for env in envs:
                env.reset()
            continue
        for i, env in enumerate(envs):
            _, reward, _, _, info = env.step(actions[i])
            assert reward == rewards[i]
            assert all(infos[name][i] == value for name, value in info.items())
            assert vector.mappings()[i] == env.mapping


@pytest.mark.parametrize("form", ["read-only", "columns", "strided", "list", "float"])
def test_actions__of_any_form_are_the_same(form: str) -> None:
    vector = MapSpaceOneShotVectorEnv(3, TOY, TOY_ACCELERATOR)
    vector.action_space.seed(4)
    actions = vector.action_space.sample()
    forms = {
        "read-only": np.frombuffer(actions.tobytes(), np.int64).reshape(actions.shape),
        "columns": np.asfortranarray(actions),
        "strided": np.repeat(actions, 2, axis=1)[:, ::2],
        "list": actions.tolist(),
        "float": actions.astype(np.float32),
    }
    vector.reset(seed=0)
    expected = vector.step(actions)[1]
    vector.reset(seed=0)
    assert np.array_equal(vector.step(forms[form])[1], expected)
    env = MapSpaceOneShotEnv(TOY, TOY_ACCELERATOR)
    for i in range(3):
        env.reset(seed=i)
        assert env.step(forms[form][i])[1] == expected[i]
