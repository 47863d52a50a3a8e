"""The VecEnv of Stable-Baselines3: as that library's own around scalar environments, and with what it asks for."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("sb3_contrib", reason="needs the extra 'rl'")

from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.evaluation import evaluate_policy
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from mapgym import SpecificationError
from mapgym.adapters.sb3 import VecEnv
from mapgym.mapping import Mapping


def vec_env(num_envs: int = 3, *, full_infos: bool = False, **options: Any) -> VecEnv:
    envs = gym.make_vec("mapgym:MapSpace-v0", num_envs, autoreset_mode="SameStep", **options)
    return VecEnv(envs, full_infos=full_infos)


@pytest.mark.parametrize("tasks", [["paper/resnet_conv4"], ["paper/resnet_conv4", "paper/bert_kqv"]])
def test_steps__are_those_of_scalar_environments(tasks: list[str]) -> None:
    ours = vec_env(full_infos=True, tasks=tasks)
    theirs = DummyVecEnv([lambda: Monitor(gym.make("mapgym:MapSpace-v0", tasks=tasks)) for _ in range(3)])
    for env in (ours, theirs):
        env.seed(5)
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    for _ in range(60):
        masks = get_action_masks(ours)
        np.testing.assert_array_equal(masks, get_action_masks(theirs))
        actions = masks.shape[1] - 1 - masks[:, ::-1].argmax(axis=1)
        found, expected = ours.step(actions), theirs.step(actions)
        for mine, other in zip(found[:3], expected[:3], strict=True):
            np.testing.assert_array_equal(mine, other)
        for mine, other in zip(found[3], expected[3], strict=True):
            if "episode" in other:
                assert mine.pop("episode") == {name: pytest.approx(other["episode"][name], abs=1e-5) for name in "rl"}
                np.testing.assert_array_equal(mine.pop("terminal_observation"), other.pop("terminal_observation"))
            del other["TimeLimit.truncated"]
            mine.pop("TimeLimit.truncated", None)
            other.pop("episode", None)
            assert mine.keys() == other.keys()
            assert all(np.array_equal(mine[name], other[name]) for name in mine)


def test_infos_within_an_episode__are_empty_unless_asked_for() -> None:
    env = vec_env()
    env.reset()
    assert env.step(np.zeros(3, int))[3] == [{}, {}, {}]
    assert env.reset_infos[1]["task_id"] == "paper/resnet_conv4 @ accel_b, edp"


def test_attributes_and_methods__are_dealt_out() -> None:
    env = vec_env()
    env.seed(0)
    env.reset()
    assert is_masking_supported(env)
    assert np.array_equal(env.env_method("action_masks", indices=[2])[0], env.env.action_masks()[2])
    assert len(env.env_method("mappings", indices=[0, 1])) == 2
    assert isinstance(env.env_method("mappings", indices=1)[0], Mapping)
    assert env.get_attr("num_envs", [0, 2]) == [3, 3]
    env.set_attr("note", "mine")
    assert env.get_attr("note") == ["mine"] * 3
    with pytest.raises(SpecificationError, match="'note' cannot be set for some"):
        env.set_attr("note", "other", indices=[0])
    assert env.env_is_wrapped(Monitor) == [True] * 3
    assert env.env_is_wrapped(gym.wrappers.TimeLimit, 0) == [False]


def test_tasks_and_options__can_be_of_some_environments() -> None:
    env = vec_env(sizes="all")
    assert env.env_method("set_tasks", "paper/bert_kqv", indices=[1]) == [None]
    env.seed(0)
    env.reset()
    named = [info["task_id"].partition(" ")[0] for info in env.reset_infos]
    assert named == ["paper/resnet_conv4", "paper/bert_kqv", "paper/resnet_conv4"]
    env.set_options([{}, {}, {"workload": "paper/bert_kqv"}])
    env.reset()
    named = [info["task_id"].partition(" ")[0] for info in env.reset_infos]
    assert named == ["paper/resnet_conv4", "paper/bert_kqv", "paper/bert_kqv"]
    env.reset()
    assert env.reset_infos[2]["task_id"].startswith("paper/resnet_conv4")


def test_pictures__are_of_every_environment() -> None:
    env = vec_env(2, render_mode="rgb_array")
    env.reset()
    first, second = env.get_images()
    assert first.shape == second.shape
    assert list(vec_env(2).get_images()) == [None, None]


def test_maskable_ppo__trains_and_is_evaluated() -> None:
    env = vec_env(4)
    model = MaskablePPO("MlpPolicy", env, n_steps=16, batch_size=32, n_epochs=1, gamma=1.0, seed=0).learn(64)
    mean, _ = evaluate_policy(model, env, n_eval_episodes=4)
    assert -20 < mean < 0
