"""DQN from Stable-Baselines3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from mapgym.agents.base import parameter, register
from mapgym.agents.learned.sb3.stock import StockAgent

if TYPE_CHECKING:
    from mapgym.adapters.sb3 import VecEnv


@register
@dataclass(kw_only=True)
class Dqn(StockAgent):
    """Deep Q-learning (Mnih et al., Nature 2015) as it is in Stable-Baselines3, except that environments explore alone.

    A network predicts the return of each action; the best predicted one is taken, or, with a probability that falls
    with the steps, a random one. Each environment draws that by itself; in Stable-Baselines3 one draw decides for
    all. It does not know which actions are legal, see :class:`mapgym.agents.learned.sb3.ppo.Ppo`, and it learns from
    what was tried instead of what was done.
    """

    name = "dqn"
    summary = "DQN of Stable-Baselines3; illegal actions are replaced by the environment"
    smallest: ClassVar[dict[str, Any]] = {"learning_starts": 1, "batch_size": 4}

    buffer_size: int = parameter(20_000, "steps that are remembered (SB3: 1,000,000)", low=1, high=10**8)
    batch_size: int = parameter(256, "steps of an update (SB3: 32)", low=2, high=2**16)
    learning_starts: int = parameter(1000, "steps before the first update (SB3: 100)", low=1, high=10**9)
    gradient_steps: int = parameter(2, "updates after each step of all environments", low=1, high=1000)
    target_interval: int = parameter(
        1000, "steps from one copy of the target network to the next (SB3: 10,000)", low=1, high=10**9
    )
    exploration_steps: int = parameter(30_000, "steps in which exploration falls to its end", low=1, high=10**9)
    exploration_end: float = parameter(0.1, "probability of a random action after them (SB3: 0.05)", low=0, high=1)

    def algorithm(self) -> Any:
        """See :class:`StockAgent`."""
        from mapgym.agents.learned.sb3._networks import EachExplores

        return EachExplores

    def remembered(self) -> int:
        """See :class:`StockAgent`; each step with the observation after it."""
        return 2 * max(self.buffer_size, self.num_envs)

    def arguments(self) -> dict[str, Any]:
        """See :class:`StockAgent`."""
        return {
            # Stable-Baselines3 divides the memory among the environments.
            "buffer_size": max(self.buffer_size, self.num_envs),
            "batch_size": self.batch_size,
            "learning_starts": self.learning_starts,
            "train_freq": 1,
            "gradient_steps": self.gradient_steps,
            "target_update_interval": max(self.target_interval, self.num_envs),
        }

    def make_model(self, env: VecEnv, seed: int, *, one_task: bool = True) -> Any:
        """See :class:`StockAgent`."""
        model: Any = super().make_model(env, seed, one_task=one_task)
        # By the steps so far, not by the share of a total that a search does not have.
        fall = 1.0 - self.exploration_end
        model.exploration_schedule = lambda _: 1.0 - fall * min(1.0, model.num_timesteps / self.exploration_steps)
        model.exploration_rate = 1.0
        return model
