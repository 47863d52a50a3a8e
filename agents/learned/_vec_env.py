"""The native vector environment in the form that Stable-Baselines3 trains on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvObs, VecEnvStepReturn

from mapgym.envs import MapSpaceVectorEnv
from mapgym.errors import SpecificationError


class Sb3VecEnv(VecEnv):
    """Wraps a :class:`mapgym.envs.MapSpaceVectorEnv` that resets in the step in which an episode ends.

    All environments advance in one compiled call; the only Python loop is over the episodes that ended, because
    Stable-Baselines3 wants their last observations in a list of dicts.
    """

    def __init__(self, env: MapSpaceVectorEnv) -> None:
        """Wraps an environment.

        Args:
            env: its ``metadata["autoreset_mode"]`` is SAME_STEP; with the other modes the step after an episode
                would be learned from as if it were one.

        Raises:
            SpecificationError: another autoreset mode.
        """
        if env.metadata["autoreset_mode"] != gymnasium.vector.AutoresetMode.SAME_STEP:
            raise SpecificationError(
                "the environment does not reset in the step in which an episode ends; "
                "make it with autoreset_mode=AutoresetMode.SAME_STEP"
            )
        # The base class asks for attributes of the environment.
        self.env = env
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self._actions: NDArray[np.int64] = np.zeros(env.num_envs, np.int64)
        self._infos: list[dict[str, Any]] = [{} for _ in range(env.num_envs)]

    def reset(self) -> VecEnvObs:
        """Starts an episode in every environment; environment i is seeded with ``seed + i``."""
        observations, _ = self.env.reset(seed=self._seeds[0])
        self._reset_seeds()
        return observations

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keeps the actions for :meth:`step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Steps; observations of environments whose episode ended are those of the next episode."""
        observations, rewards, terminated, truncated, info = self.env.step(self._actions)
        dones = terminated | truncated
        infos = self._infos
        ended = np.flatnonzero(dones)
        if len(ended):
            infos = infos.copy()
            for i in ended:
                infos[i] = {
                    "terminal_observation": info["final_obs"][i],
                    "TimeLimit.truncated": bool(truncated[i] and not terminated[i]),
                }
        return observations, rewards.astype(np.float32), dones, infos

    def close(self) -> None:
        """Closes the environment."""
        self.env.close()

    def has_attr(self, attr_name: str) -> bool:
        """Whether the environments have an attribute or a method."""
        return hasattr(self.env, attr_name)

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The attribute, which all environments share, once for each index."""
        return [getattr(self.env, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Sets an attribute of all environments."""
        setattr(self.env, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Calls a batched method once and deals out the rows of its result (``action_masks`` is the one in use)."""
        rows = getattr(self.env, method_name)(*method_args, **method_kwargs)
        return list(rows) if indices is None else [rows[i] for i in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[gymnasium.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """No environment is wrapped."""
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[np.ndarray | None]:
        """Nothing is rendered during training."""
        return [None] * self.num_envs
