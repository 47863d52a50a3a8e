"""Saved states: what they carry, where they fit, and what goes on counting. The contract tests the rest."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from mapgym import Budget, Evaluator, MapSpace, catalog
from mapgym.envs import MapSpaceEnv, MapSpaceRefineEnv, MapSpaceVectorEnv, MapSpaceWarmStartEnv, make_env
from mapgym.errors import SpecificationError

SMALL = {"type": "matmul", "M": 4, "K": 4, "N": 2}
OTHER = {"type": "matmul", "M": 2, "K": 4, "N": 4}
LARGER = {"type": "matmul", "M": 4, "K": 64, "N": 2}


def finish(env: Any) -> float:
    """Takes the first legal action until the episode is over; the last reward."""
    over, reward = False, 0.0
    while not over:
        _, reward, over, _, _ = env.step(int(np.argmax(env.action_masks())))
    return float(reward)


def evaluator(samples: int = 100) -> Evaluator:
    return Evaluator(MapSpace(catalog.workload(SMALL), catalog.accelerator("accel_b")), "edp", Budget(samples=samples))


def test_state__carries_its_task_into_environments_that_do_not_draw_it() -> None:
    env = MapSpaceEnv(SMALL, "accel_b")
    env.reset(seed=0, options={"workload": OTHER})
    state = env.get_state()
    expected = finish(env)
    for other in (MapSpaceEnv(SMALL, "accel_b"), MapSpaceEnv([SMALL, OTHER], "accel_b")):
        other.reset(seed=0, options={"workload": SMALL})
        other.set_state(pickle.loads(pickle.dumps(state)))
        assert other.task == state.task
        assert finish(other) == expected
    twin = MapSpaceVectorEnv(3, SMALL, "accel_b")
    twin.reset(seed=0)
    twin.set_state(1, state)
    assert [task.workload.bounds for task in twin.tasks()] == [(1, 4, 4, 2), (1, 2, 4, 4), (1, 4, 4, 2)]
    for _ in range(50):
        masks = twin.action_masks()
        _, rewards, over, _, _ = twin.step(masks.argmax(axis=1))
        if over[1]:
            break
    assert rewards[1] == expected


@pytest.mark.parametrize(
    ("made", "given", "words"),
    [
        ({"workload": LARGER}, {"workload": SMALL}, "layout|action space|max_divisors"),
        ({"orders": "innermost"}, {}, "orders is 'innermost', and here it is 'full'"),
        ({"axes": ("tile", "order")}, {}, "axes is"),
        ({"constraints": {"parallel_dims": ["M"]}}, {}, "constraints is"),
    ],
)
def test_state_of_another_environment__is_refused_by_what_differs(
    made: dict[str, Any], given: dict[str, Any], words: str
) -> None:
    saved, env = MapSpaceEnv(**{"workload": SMALL, **made}), MapSpaceEnv(**{"workload": SMALL, **given})
    saved.reset(seed=0)
    env.reset(seed=0)
    before = env.get_state()
    with pytest.raises(SpecificationError, match=words):
        env.set_state(saved.get_state())
    assert env.get_state() == before


def test_state_of_another_kind__is_refused() -> None:
    with pytest.raises(SpecificationError, match="kind is 'MapSpace', and here it is 'Refine'"):
        MapSpaceRefineEnv(SMALL).set_state(MapSpaceEnv(SMALL).get_state())  # type: ignore[arg-type]


def test_state_of_a_larger_task__is_refused() -> None:
    env = MapSpaceEnv(SMALL, "accel_b")
    state = env.get_state()
    larger = MapSpaceEnv(LARGER, "accel_b")
    with pytest.raises(SpecificationError, match="is larger than the spaces"):
        env.set_state(state._replace(task=larger.task))
    assert env.get_state() == state


def test_state_of_another_base__is_refused() -> None:
    space = evaluator().space
    base = space.sample(np.random.default_rng(0), 1)[0]
    based = MapSpace(space.workload, space.accelerator, ("order",), base=base)
    env, other = make_env(Evaluator(based)), MapSpaceEnv(SMALL, "accel_b", axes=("order",))
    with pytest.raises(SpecificationError, match="base is"):
        other.set_state(env.get_state())


def test_state__is_a_value() -> None:
    env = MapSpaceEnv(SMALL)
    env.reset(seed=0)
    state = env.get_state(random=False)
    assert state == env.get_state(random=False) == pickle.loads(pickle.dumps(state))
    assert len({state, env.get_state(random=False)}) == 1
    env.step(int(np.argmax(env.action_masks())))
    assert env.get_state(random=False) != state


def test_random_numbers__go_back_unless_they_are_left_out() -> None:
    env = MapSpaceEnv([SMALL, OTHER], "accel_b")
    env.reset(seed=0)
    state, light = env.get_state(), env.get_state(random=False)

    def tasks() -> list[Any]:
        drawn = []
        for _ in range(20):
            env.reset()
            drawn.append(env.task.workload.bounds)
        return drawn

    first = tasks()
    env.set_state(light)
    second = tasks()
    env.set_state(state)
    assert tasks() == first
    env.set_state(light)
    assert tasks() == second
    assert first != second


def test_random_numbers_of_another_generator__are_refused() -> None:
    env, other = MapSpaceEnv(SMALL), MapSpaceEnv(SMALL)
    other.np_random = np.random.Generator(np.random.MT19937(0))
    with pytest.raises(SpecificationError, match="MT19937"):
        env.set_state(other.get_state())
    env.set_state(other.get_state(random=False))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copies_and_states__spend_one_budget(copied: Any) -> None:
    shared = evaluator(samples=5)
    env = make_env(shared)
    env.reset(seed=0)
    state = env.get_state()
    others = [env, copied(env), copied(copied(env))]
    for count, other in enumerate(others, 1):
        finish(other)
        assert shared.samples == count
    twin = MapSpaceEnv(evaluator=shared)
    twin.set_state(pickle.loads(pickle.dumps(state)))
    finish(twin)
    env.set_state(state)
    finish(env)
    assert shared.exhausted
    env.set_state(state)
    assert finish(env) == 0.0
    assert shared.samples == 5


def test_copy__goes_on_by_itself() -> None:
    env = gym.make("MapSpace-v0", workload=SMALL).unwrapped
    env.reset(seed=0)
    state = env.get_state()
    finish(copy.copy(env))
    assert env.get_state() == state


def test_warm_start__goes_back_to_what_was_solved() -> None:
    env = MapSpaceWarmStartEnv([SMALL, OTHER], "accel_b", steps=2)
    env.reset(seed=0)
    state = env.get_state()
    assert len(env.buffer) == 0
    finish(env)
    solved = env.get_state()
    assert len(env.buffer) == 1
    env.reset()
    finish(env)
    assert len(env.buffer) == 2
    env.set_state(solved)
    assert len(env.buffer) == 1
    env.set_state(state)
    assert len(env.buffer) == 0


def test_evaluator__prices_states_of_its_task_only() -> None:
    env = make_env(evaluator())
    env.reset(seed=0)
    before = env.get_state()
    other = MapSpaceEnv([SMALL, OTHER], "accel_b")
    other.reset(seed=0, options={"workload": OTHER})
    with pytest.raises(SpecificationError, match="evaluator prices"):
        env.set_state(other.get_state())
    assert env.get_state() == before
