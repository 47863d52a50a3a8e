"""A2C from Stable-Baselines3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mapgym.agents.base import parameter, register
from mapgym.agents.learned.sb3.stock import StockAgent


@register
@dataclass(kw_only=True)
class A2c(StockAgent):
    """Advantage actor-critic (Mnih et al., arXiv 1602.01783, without the asynchrony) as it is in Stable-Baselines3.

    One step of gradient descent for each batch of experience, without PPO's clipping and repeated passes. It does not
    know which actions are legal, see :class:`mapgym.agents.learned.sb3.ppo.Ppo`.
    """

    name = "a2c"
    summary = "A2C of Stable-Baselines3; illegal actions are replaced by the environment"
    smallest: ClassVar[dict[str, Any]] = {"steps": 2}

    steps: int = parameter(20, "steps per environment and update (SB3: 5)", low=2, high=2**20)
    gae_lambda: float = parameter(0.98, "of the advantage estimate (SB3: 1)", low=0, high=1)
    entropy: float = parameter(0.05, "weight of the entropy (SB3: 0)", low=0, high=1)
    normalize: bool = parameter(True, "whether advantages are normalised in each update (SB3: no)")

    def algorithm(self) -> Any:
        """See :class:`StockAgent`."""
        from stable_baselines3 import A2C

        return A2C

    def remembered(self) -> int:
        """See :class:`StockAgent`."""
        return self.steps * self.num_envs

    def arguments(self) -> dict[str, Any]:
        """See :class:`StockAgent`."""
        return {
            "n_steps": self.steps,
            "gae_lambda": self.gae_lambda,
            "ent_coef": self.entropy,
            "normalize_advantage": self.normalize,
        }
