"""Masks inside of observations are those of the infos, in every step and for every mode of the twin."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from mapgym import SpecificationError
from mapgym.adapters import MaskInObservation, VectorMaskInObservation
from mapgym.envs import ENVIRONMENT_IDS

MASKED = [name for name in ENVIRONMENT_IDS if name != "MapSpaceOneShot-v0"]
SMALL = {"MapSpaceWarmStart-v0": {"network": "resnet18"}}


@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")
@pytest.mark.parametrize("env_id", MASKED)
def test_scalar__shows_the_mask_and_passes_the_check(env_id: str) -> None:
    env = MaskInObservation(gym.make(env_id, **SMALL.get(env_id, {})), observation="obs", mask="mask")
    check_env(env, skip_render_check=True)
    plain = gym.make(env_id, **SMALL.get(env_id, {}))
    (shown, info), (bare, _) = env.reset(seed=3), plain.reset(seed=3)
    for _ in range(5):
        assert shown in env.observation_space
        assert shown["obs"].tolist() == bare.tolist()
        assert shown["mask"].tolist() == info["action_mask"].tolist() == env.unwrapped.action_masks().tolist()
        action = int(shown["mask"].argmax())
        shown, _, _, _, info = env.step(action)
        bare = plain.step(action)[0]


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_twin__shows_what_scalar_environments_show(mode: str) -> None:
    envs = VectorMaskInObservation(gym.make_vec("MapSpace-v0", num_envs=2, autoreset_mode=mode))
    scalars = [MaskInObservation(gym.make("MapSpace-v0")) for _ in range(2)]
    shown, _ = envs.reset(seed=7)
    alone = [env.reset(seed=7 + i)[0] for i, env in enumerate(scalars)]
    over = np.zeros(2, bool)
    while not over.any():
        assert shown in envs.observation_space
        for i, one in enumerate(alone):
            assert all((one[name] == shown[name][i]).all() for name in one)
        actions = [int(np.flatnonzero(one["action_mask"])[-1]) for one in alone]
        shown, _, over, _, infos = envs.step(np.array(actions))
        alone = [env.step(action)[0] for env, action in zip(scalars, actions, strict=True)]
    assert ("final_obs" in infos) == (mode == "SameStep")
    last = {name: infos["final_obs"][0][name] if mode == "SameStep" else shown[name][0] for name in shown}
    assert over[0]
    assert all((last[name] == alone[0][name]).all() for name in last)


def test_names_and_environments_that_cannot_be__are_refused() -> None:
    with pytest.raises(SpecificationError, match="no action masks"):
        MaskInObservation(gym.make("MapSpaceOneShot-v0"))
    with pytest.raises(SpecificationError, match="no action masks"):
        VectorMaskInObservation(gym.make_vec("MapSpaceOneShot-v0", num_envs=2))
    with pytest.raises(SpecificationError, match="different names"):
        MaskInObservation(gym.make("MapSpace-v0"), observation="same", mask="same")


def test_spec__makes_the_wrapped_environment_again() -> None:
    env = MaskInObservation(gym.make("MapSpace-v0"), observation="obs")
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert again.observation_space == env.observation_space
