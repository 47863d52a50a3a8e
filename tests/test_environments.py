"""Every registered environment keeps the contract; a new id is tested by being registered."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import pytest

import mapgym
from mapgym.envs import ENVIRONMENT_IDS, register_environments
from mapgym.testing.environments import EnvironmentContract

REGISTERED = sorted(
    spec.id for spec in gym.registry.values() if str(spec.entry_point).startswith(f"{mapgym.__name__}.")
)

# Arguments with which every id is tested; all of them are JSON-able.
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "shaped": {"reward": "shaped", "objective": "energy"},
    "several tasks": {
        "workload": ["paper/bert_kqv", {"type": "conv2d", "C": 4, "M": 6, "P": 5, "Q": 5, "R": 3, "S": 3, "stride": 2}],
        "accelerator": ["accel_b_2d", "eyeriss_like"],
        "objective": "latency",
    },
    "bypass, innermost orders": {
        "accelerator": "simba_like",
        "axes": ["tile", "order", "parallelism", "bypass"],
        "orders": "innermost",
        "reward": "shaped",
    },
}


@pytest.mark.parametrize("env_id", REGISTERED, scope="class")
@pytest.mark.parametrize("variant", VARIANTS, scope="class")
class TestRegisteredEnvironments(EnvironmentContract):
    @pytest.fixture(autouse=True)
    def _choose(self, env_id: str, variant: str) -> None:
        self.env_id, self.env_kwargs = env_id, VARIANTS[variant]


def test_registry__holds_what_is_listed() -> None:
    assert tuple(REGISTERED) == ENVIRONMENT_IDS


def test_registering_twice__changes_nothing() -> None:
    before = dict(gym.registry)
    register_environments()
    assert gym.registry == before
