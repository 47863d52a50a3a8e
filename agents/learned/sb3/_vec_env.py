"""The native vector environments in the form that Stable-Baselines3 trains on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvObs, VecEnvStepReturn

from mapgym.errors import SpecificationError

_NONE = np.empty(0)


class Sb3VecEnv(VecEnv):
    """Wraps a vector environment of :mod:`mapgym.envs` that resets in the step in which an episode ends.

    All environments advance in one compiled call; the only Python loop is over the episodes that ended, because
    Stable-Baselines3 wants their last observations, returns and lengths in a list of dicts.

    Attributes:
        ended: int64[k], the environments whose episodes ended in the last step.
        ratios: float64[k], cost over lower bound of what each of them found; inf where an evaluator did not price it.
        best_ratio: the lowest of all so far; inf before the first.
    """

    def __init__(self, env: gymnasium.vector.VectorEnv[Any, Any, Any]) -> None:
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
        self._returns, self._lengths = np.zeros(env.num_envs), np.zeros(env.num_envs, np.int64)
        self.ended, self.ratios, self.best_ratio = np.empty(0, np.int64), _NONE, np.inf

    def reset(self) -> VecEnvObs:
        """Starts an episode in every environment; environment i is seeded with ``seed + i``."""
        observations, _ = self.env.reset(seed=self._seeds[0])
        self._reset_seeds()
        self._returns[:], self._lengths[:] = 0.0, 0
        return observations

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keeps the actions for :meth:`step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Steps; observations of environments whose episode ended are those of the next episode."""
        observations, rewards, terminated, truncated, info = self.env.step(self._actions)
        dones = terminated | truncated
        self._returns += rewards
        self._lengths += 1
        infos = self._infos
        self.ended, self.ratios = np.flatnonzero(dones), _NONE
        if len(self.ended):
            infos = infos.copy()
            for i in self.ended:
                infos[i] = {
                    "terminal_observation": info["final_obs"][i],
                    "TimeLimit.truncated": bool(truncated[i] and not terminated[i]),
                    "episode": {"r": float(self._returns[i]), "l": int(self._lengths[i])},
                }
            self.ratios = _found(info["final_info"], self.ended)
            self.best_ratio = min(self.best_ratio, float(self.ratios.min()))
            self._returns[self.ended], self._lengths[self.ended] = 0.0, 0
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


def _found(info: dict[str, Any], ended: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cost over lower bound of the best mapping of each episode that ended, inf where it is not known."""
    name = "best_ratio" if "best_ratio" in info else "ratio"
    ratios = info[name][ended]
    return np.where(ratios < 0, np.inf, ratios)
