"""The parts that our agents put into the algorithms of Stable-Baselines3."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import DQN
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor


class Selection(BaseFeaturesExtractor):
    """Shows some numbers of the observation to the network."""

    columns: torch.Tensor

    def __init__(self, observation_space: gymnasium.Space[Any], columns: list[int]) -> None:
        """Selects.

        Args:
            observation_space: of one environment, flat.
            columns: indices of the numbers to show.
        """
        super().__init__(observation_space, len(columns))
        self.register_buffer("columns", torch.tensor(columns), persistent=False)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """float32[n, columns] of float32[n, size]."""
        return observations[:, self.columns]


class EachExplores(DQN):
    """DQN whose environments explore independently of each other.

    In Stable-Baselines3 one coin decides for all environments whether the actions of a step are random. Ours do the
    same in the same state and all begin in the same one, so that they would build the same mapping again and again.
    """

    def predict(
        self,
        observation: NDArray[np.float32] | dict[str, NDArray[Any]],
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[Any] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], tuple[NDArray[Any], ...] | None]:
        """The best action of each environment, or, with the probability of exploration, a random one."""
        actions, state = self.policy.predict(observation, state, episode_start, deterministic)
        if not deterministic:
            random = np.random.random(len(actions)) < self.exploration_rate
            assert isinstance(self.action_space, gymnasium.spaces.Discrete)
            actions[random] = np.random.randint(int(self.action_space.n), size=int(random.sum()))
        return actions, state
