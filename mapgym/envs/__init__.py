"""Environments: importing mapgym registers them with Gymnasium."""

from __future__ import annotations

import gymnasium as gym

from mapgym.envs.common.task import Task, TaskGenerator
from mapgym.envs.construction.mapspace_env import MapSpaceEnv
from mapgym.envs.construction.mapspace_vector_env import MapSpaceVectorEnv
from mapgym.envs.evaluated import make_env, make_vec_env
from mapgym.envs.one_shot.one_shot_env import MapSpaceOneShotEnv, MapSpaceOneShotVectorEnv
from mapgym.envs.refine.refine_env import MapSpaceRefineEnv, MapSpaceRefineVectorEnv
from mapgym.envs.sparse.sparse_env import MapSpaceSparseEnv, MapSpaceSparseVectorEnv
from mapgym.envs.warm_start.warm_start_env import MapSpaceWarmStartEnv, MapSpaceWarmStartVectorEnv

__all__ = [
    "ENVIRONMENT_IDS",
    "MapSpaceEnv",
    "MapSpaceOneShotEnv",
    "MapSpaceOneShotVectorEnv",
    "MapSpaceRefineEnv",
    "MapSpaceRefineVectorEnv",
    "MapSpaceSparseEnv",
    "MapSpaceSparseVectorEnv",
    "MapSpaceVectorEnv",
    "MapSpaceWarmStartEnv",
    "MapSpaceWarmStartVectorEnv",
    "Task",
    "TaskGenerator",
    "make_env",
    "make_vec_env",
    "register_environments",
]

_CLASSES = {
    "MapSpace-v0": (MapSpaceEnv, MapSpaceVectorEnv),
    "MapSpaceOneShot-v0": (MapSpaceOneShotEnv, MapSpaceOneShotVectorEnv),
    "MapSpaceRefine-v0": (MapSpaceRefineEnv, MapSpaceRefineVectorEnv),
    "MapSpaceSparse-v0": (MapSpaceSparseEnv, MapSpaceSparseVectorEnv),
    "MapSpaceWarmStart-v0": (MapSpaceWarmStartEnv, MapSpaceWarmStartVectorEnv),
}

ENVIRONMENT_IDS = tuple(_CLASSES)
"""Every id that mapgym registers."""


def register_environments() -> None:
    """Registers the environments; a second call changes nothing."""
    for name, (scalar, vector) in _CLASSES.items():
        if name not in gym.registry:
            gym.register(
                name,
                entry_point=f"mapgym.envs:{scalar.__name__}",
                vector_entry_point=f"mapgym.envs:{vector.__name__}",
            )
