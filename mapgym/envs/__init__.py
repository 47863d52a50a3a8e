"""Environments: importing mapgym registers them with Gymnasium."""

from __future__ import annotations

from mapgym.envs.common.sizes import Sizes
from mapgym.envs.common.task import Task, TaskDistribution
from mapgym.envs.construction.mapspace_env import MapSpaceEnv, MapSpaceVectorEnv
from mapgym.envs.evaluated import make_env, make_vec_env
from mapgym.envs.one_shot.one_shot_env import MapSpaceOneShotEnv, MapSpaceOneShotVectorEnv
from mapgym.envs.refine.refine_env import MapSpaceRefineEnv, MapSpaceRefineVectorEnv
from mapgym.envs.sparse.sparse_env import MapSpaceSparseEnv, MapSpaceSparseVectorEnv
from mapgym.envs.warm_start.warm_start_env import MapSpaceWarmStartEnv, MapSpaceWarmStartVectorEnv
from mapgym.system.registration import ENVIRONMENT_IDS, register_environments

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
    "Sizes",
    "Task",
    "TaskDistribution",
    "make_env",
    "make_vec_env",
    "register_environments",
]
