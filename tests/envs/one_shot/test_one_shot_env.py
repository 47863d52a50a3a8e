"""MapSpaceOneShot-v0: what an action means and what is repaired, beyond the contract."""

from __future__ import annotations

import math

import numpy as np
import pytest

from brute_force_spaces import toy_accelerator, toy_workload
from mapgym.cost import CostModel, lower_bound
from mapgym.envs import MapSpaceOneShotEnv
from mapgym.errors import SpecificationError
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.mapspace import MapSpace

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
