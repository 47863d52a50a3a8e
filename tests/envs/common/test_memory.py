"""Observations of twins: memory that nobody holds any more is used again, and what a caller holds stays as it is."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

import mapgym  # noqa: F401


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


@pytest.mark.parametrize("count", [2, 400])
@pytest.mark.parametrize("name", ["MapSpaceRefine-v0", "MapSpaceOneShot-v0"])
def test_what_is_held_stays(name: str, count: int) -> None:
    envs = gym.make_vec(name, count, workload="toy/tiny_conv", accelerator="tiny")
    held, _ = envs.reset(seed=0)
    kept = [held, held.copy()]
    envs.action_space.seed(0)
    places = set()
    for _ in range(8):
        observations = envs.step(envs.action_space.sample())[0]
        assert address(observations) != address(held)
        places.add(address(observations))
        del observations
    np.testing.assert_array_equal(*kept)
    if held.nbytes > 2**15:
        assert len(places) == 1
