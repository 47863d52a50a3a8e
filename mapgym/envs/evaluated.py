"""Environments for the search of an evaluator: what is built there is priced, and counted, by it."""

from __future__ import annotations

from typing import Any

from mapgym.envs.construction.mapspace_env import MapSpaceEnv, MapSpaceVectorEnv
from mapgym.envs.sparse.sparse_env import MapSpaceSparseEnv, MapSpaceSparseVectorEnv
from mapgym.evaluation.evaluator import Evaluator
from mapgym.evaluation.sparsity_aware import is_sparsity_aware


def make_env(evaluator: Evaluator, **options: Any) -> MapSpaceEnv:
    """An environment of the task of an evaluator, which prices and counts its finished episodes.

    It is ``MapSpace-v0``, or ``MapSpaceSparse-v0`` with a ``SparsityAware`` objective.

    Args:
        evaluator: of the search; its clock starts.
        **options: further arguments of :class:`mapgym.envs.MapSpaceEnv`.
    """
    evaluator.start()
    environment = MapSpaceSparseEnv if is_sparsity_aware(evaluator.objective) else MapSpaceEnv
    return environment(evaluator=evaluator, **options)


def make_vec_env(evaluator: Evaluator, num_envs: int, **options: Any) -> MapSpaceVectorEnv:
    """As :func:`make_env`, ``num_envs`` environments that step together.

    Args:
        evaluator: of the search; its clock starts.
        num_envs: how many episodes are built side by side.
        **options: further arguments of :class:`mapgym.envs.MapSpaceVectorEnv`.
    """
    evaluator.start()
    environment = MapSpaceSparseVectorEnv if is_sparsity_aware(evaluator.objective) else MapSpaceVectorEnv
    return environment(num_envs, evaluator=evaluator, **options)
