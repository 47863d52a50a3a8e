"""PPO from Stable-Baselines3, and its variant with action masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mapgym.agents.base import parameter, register
from mapgym.agents.learned.sb3.stock import StockAgent


@register
@dataclass(kw_only=True)
class Ppo(StockAgent):
    """Proximal policy optimisation (Schulman et al., arXiv 1707.06347) as it is in Stable-Baselines3.

    A policy builds mappings in ``MapSpace-v0``, many at a time; each finished one is a sample. Without masks the policy
    does not know which actions are legal. The environment replaces an illegal action by a legal one, so that every
    episode still ends in a legal mapping, but the policy is credited with an action that was not taken; that is its
    handicap against ``maskable-ppo``.

    The defaults (128 x 128 network, discount 1, about one episode per environment and update, high learning rate,
    large mini-batches) are for a few thousand episodes on one core; Stable-Baselines3's own are noted beside them.
    """

    name = "ppo"
    summary = "PPO of Stable-Baselines3; illegal actions are replaced by the environment"
    smallest: ClassVar[dict[str, Any]] = {"steps": 2, "batch_size": 4, "epochs": 1}

    steps: int = parameter(20, "steps per environment and update (SB3: 2048)", low=2, high=2**20)
    batch_size: int = parameter(640, "mini-batch (SB3: 64)", low=2, high=2**16)
    epochs: int = parameter(6, "passes over the steps of an update (SB3: 10)", low=1, high=1000)
    gae_lambda: float = parameter(0.98, "of the advantage estimate (SB3: 0.95)", low=0, high=1)
    clip_range: float = parameter(0.2, "of the policy ratio (SB3: 0.2)", low=0.001, high=1)
    entropy: float = parameter(
        0.1, "weight of the entropy; less, and the policy settles too early (SB3: 0)", low=0, high=1
    )

    def algorithm(self) -> Any:
        """See :class:`StockAgent`."""
        from stable_baselines3 import PPO

        return PPO

    def remembered(self) -> int:
        """See :class:`StockAgent`."""
        return self.steps * self.num_envs

    def arguments(self) -> dict[str, Any]:
        """See :class:`StockAgent`."""
        return {
            "n_steps": self.steps,
            "batch_size": min(self.batch_size, self.steps * self.num_envs),
            "n_epochs": self.epochs,
            "gae_lambda": self.gae_lambda,
            "clip_range": self.clip_range,
            "ent_coef": self.entropy,
        }


@register
@dataclass(kw_only=True)
class MaskablePpo(Ppo):
    """PPO that draws among the legal actions only (Huang and Ontanon, arXiv 2006.14171; sb3-contrib's MaskablePPO).

    Everything else is as in :class:`Ppo`.
    """

    name = "maskable-ppo"
    summary = "PPO of sb3-contrib that knows the legal actions"
    requires = ("torch", "stable_baselines3", "sb3_contrib")
    masked = True

    def algorithm(self) -> Any:
        """See :class:`StockAgent`."""
        from sb3_contrib import MaskablePPO

        return MaskablePPO
