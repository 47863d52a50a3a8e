"""Environments: importing mapgym registers them with Gymnasium."""

from __future__ import annotations

import gymnasium as gym

from mapgym.envs.mapspace_env import MapSpaceEnv
from mapgym.envs.mapspace_vector_env import MapSpaceVectorEnv
from mapgym.envs.task import Task, TaskGenerator

__all__ = ["ENVIRONMENT_IDS", "MapSpaceEnv", "MapSpaceVectorEnv", "Task", "TaskGenerator", "register_environments"]

ENVIRONMENT_IDS = ("MapSpace-v0",)
"""Every id that mapgym registers."""


def register_environments() -> None:
    """Registers the environments; a second call changes nothing."""
    if "MapSpace-v0" not in gym.registry:
        gym.register(
            "MapSpace-v0",
            entry_point="mapgym.envs:MapSpaceEnv",
            vector_entry_point="mapgym.envs:MapSpaceVectorEnv",
        )
