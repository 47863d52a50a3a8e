"""The mask of legal actions as a part of the observation, for libraries that look for it there."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from mapgym.errors import SpecificationError

Observation = dict[str, Any]


class MaskInObservation(gym.Wrapper[Observation, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Observations are a dict of what the environment shows and of the mask, int8[actions].

    The names are those that a library asks for: "obs" and "mask" are Tianshou's, "observations" and "action_mask"
    RLlib's. ``info["action_mask"]`` stays where it is.
    """

    def __init__(self, env: gym.Env[Any, Any], *, observation: str = "observation", mask: str = "action_mask") -> None:
        """Wraps an environment.

        Args:
            env: with single actions and ``info["action_mask"]``.
            observation: name of what the environment shows.
            mask: name of the mask.

        Raises:
            SpecificationError: the environment has no masks, or the names are equal.
        """
        gym.utils.RecordConstructorArgs.__init__(self, observation=observation, mask=mask)
        super().__init__(env)
        self._names = observation, mask
        self.observation_space = _space(env.observation_space, env.action_space, self._names, env)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts an episode."""
        shown, info = self.env.reset(seed=seed, options=options)
        return _joined(self._names, shown, info), info

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Takes one step."""
        shown, reward, terminated, truncated, info = self.env.step(action)
        return _joined(self._names, shown, info), float(reward), terminated, truncated, info


class VectorMaskInObservation(gym.vector.VectorWrapper, gym.utils.RecordConstructorArgs):
    """:class:`MaskInObservation` for a vector environment: dicts of batches; ``final_obs`` holds dicts as well."""

    def __init__(
        self,
        env: gym.vector.VectorEnv[Any, Any, Any],
        *,
        observation: str = "observation",
        mask: str = "action_mask",
    ) -> None:
        """Wraps a vector environment; arguments and errors are those of :class:`MaskInObservation`."""
        gym.utils.RecordConstructorArgs.__init__(self, observation=observation, mask=mask)
        super().__init__(env)
        self._names = observation, mask
        single = _space(env.single_observation_space, env.single_action_space, self._names, env)
        self.single_observation_space = single
        self.observation_space = batch_space(single, env.num_envs)

    @property
    def autoreset_mode(self) -> AutoresetMode:
        """When the next episode begins; TorchRL asks for it."""
        mode: AutoresetMode = self.env.metadata["autoreset_mode"]
        return mode

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts an episode in every environment."""
        # Gymnasium's type leaves out what its own vector environments take: a seed for each.
        seeds: Any = seed
        shown, infos = self.env.reset(seed=seeds, options=options)
        return _joined(self._names, shown, infos), infos

    def step(
        self, actions: Any
    ) -> tuple[Observation, NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Takes one step in every environment."""
        shown, rewards, terminated, truncated, infos = self.env.step(actions)
        if "final_obs" in infos:
            final = infos["final_obs"].copy()
            for i in np.flatnonzero(infos["_final_obs"]):
                mask = infos["final_info"]["action_mask"][i]
                final[i] = dict(zip(self._names, (final[i], mask), strict=True))
            infos = {**infos, "final_obs": final}
        return _joined(self._names, shown, infos), rewards, terminated, truncated, infos


def _space(shown: gym.Space[Any], actions: gym.Space[Any], names: tuple[str, str], env: Any) -> gym.spaces.Dict:
    if not isinstance(actions, gym.spaces.Discrete) or not hasattr(env.unwrapped, "action_masks"):
        raise SpecificationError(f"{type(env.unwrapped).__name__} has no action masks to put into observations")
    if names[0] == names[1]:
        raise SpecificationError("the observation and the mask must have different names")
    return gym.spaces.Dict({names[0]: shown, names[1]: gym.spaces.MultiBinary(int(actions.n))})


def _joined(names: tuple[str, str], shown: Any, info: dict[str, Any]) -> Observation:
    return {names[0]: shown, names[1]: info["action_mask"]}
