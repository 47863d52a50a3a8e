"""The native vector environments in the form that Stable-Baselines3 trains on."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import base_vec_env
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted

_NONE = np.empty(0)


class VecEnv(base_vec_env.VecEnv):
    """A vector environment of :mod:`mapgym.envs` as a ``VecEnv`` of Stable-Baselines3.

    All environments advance in one compiled call. Stable-Baselines3 wants an info for each environment: that of an
    episode's last step has everything that the environment says of it, ``terminal_observation``, and the return and
    length that a ``Monitor`` adds; the others are empty, unless ``full_infos`` is set. Masks come from
    ``env_method("action_masks")``, which sb3-contrib asks for.

    Attributes:
        env: the vector environment.
        ended: int64[k], the environments whose episodes ended in the last step.
        ratios: float64[k], cost over lower bound of what each of them found; inf where an evaluator did not price it.
        best_ratio: the lowest of all so far; inf before the first.
    """

    def __init__(self, env: gymnasium.vector.VectorEnv[Any, Any, Any], *, full_infos: bool = False) -> None:
        """Wraps an environment.

        Args:
            env: its ``metadata["autoreset_mode"]`` is SAME_STEP; with the other modes the step after an episode
                would be learned from as if it were one.
            full_infos: whether the infos of all steps have everything, which costs some microseconds for each.

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
        self._full_infos = full_infos
        self._actions: NDArray[np.int64] = np.zeros(env.num_envs, np.int64)
        self._infos: list[dict[str, Any]] = [{} for _ in range(env.num_envs)]
        self._returns, self._lengths = np.zeros(env.num_envs), np.zeros(env.num_envs, np.int64)
        self.ended, self.ratios, self.best_ratio = np.empty(0, np.int64), _NONE, np.inf

    def reset(self) -> VecEnvObs:
        """Starts an episode in every environment, with what :meth:`seed` and :meth:`set_options` have said.

        After ``seed(s)`` environment i is seeded with s + i.
        """
        # Gymnasium's type leaves out what its own vector environments take: a seed for each.
        seeds: Any = self._seeds
        if not any(self._options):
            observations, infos = self.env.reset(seed=seeds)
        else:
            left = np.ones(self.num_envs, np.bool_)
            while left.any():
                options = self._options[int(left.argmax())]
                rows = left & np.array([one == options for one in self._options])
                observations, infos = self.env.reset(seed=seeds, options={**options, "reset_mask": rows})
                left &= ~rows
        self.reset_infos = [_info_of(infos, i) for i in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
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
        infos = [_info_of(info, i) for i in range(self.num_envs)] if self._full_infos else self._infos
        self.ended, self.ratios = np.flatnonzero(dones), _NONE
        if len(self.ended):
            infos = infos.copy()
            for i in self.ended.tolist():
                infos[i] = {
                    **_info_of(info["final_info"], i),
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
        """Sets an attribute of all environments.

        Raises:
            SpecificationError: of some environments only; they share their attributes.
        """
        if len(set(self._get_indices(indices))) < self.num_envs:
            raise SpecificationError(
                f"{quoted(attr_name)} cannot be set for some environments only, because they share it; leave out "
                "indices"
            )
        setattr(self.env, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Calls a method of the vector environment once, and deals out what it returns.

        A method that takes ``rows``, as ``set_tasks`` does, is called for the chosen ones. Of an array or list with an
        entry for each environment (``action_masks``) each gets its own, of anything else all get the same.
        """
        method = getattr(self.env, method_name)
        if indices is None:
            answer, chosen = method(*method_args, **method_kwargs), list(range(self.num_envs))
        else:
            chosen = list(self._get_indices(indices))
            if "rows" in inspect.signature(method).parameters:
                method_kwargs["rows"] = chosen
            answer = method(*method_args, **method_kwargs)
        if not isinstance(answer, np.ndarray | list | tuple):
            return [answer for _ in chosen]
        if "rows" in method_kwargs and len(answer) == len(chosen):
            return list(answer)
        return list(answer) if indices is None else [answer[i] for i in chosen]

    def env_is_wrapped(self, wrapper_class: type[gymnasium.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """Whether the environments do what a wrapper does: that is so of ``Monitor`` alone."""
        return [issubclass(Monitor, wrapper_class) for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[np.ndarray | None]:
        """A picture of each environment, if they were made with ``render_mode="rgb_array"``."""
        frames: Any = self.env.render() if self.render_mode == "rgb_array" else None
        return [None] * self.num_envs if frames is None else list(frames)


def _info_of(infos: dict[str, Any], i: int) -> dict[str, Any]:
    """What a scalar environment would say."""
    return {
        name: array[i] if array.ndim > 1 else array.item(i)
        for name, array in infos.items()
        if not name.startswith("_") and name not in ("final_obs", "final_info") and infos[f"_{name}"][i]
    }


def _found(info: dict[str, Any], ended: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cost over lower bound of the best mapping of each episode that ended, inf where it is not known."""
    name = "best_ratio" if "best_ratio" in info else "ratio"
    ratios = info[name][ended]
    return np.where(ratios < 0, np.inf, ratios)
