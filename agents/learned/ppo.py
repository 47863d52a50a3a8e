"""PPO from Stable-Baselines3, and its variant with action masks, each trained anew on the layer that it maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from mapgym.agents.base import Agent, parameter, register

if TYPE_CHECKING:
    from mapgym.evaluator import Evaluator
    from mapgym.mapping import MappingBatch
    from mapgym.mapspace import MapSpace

# Training ends when the budget of the evaluator is spent, not after a number of steps.
UNLIMITED = 2**62


@register
@dataclass(kw_only=True)
class Ppo(Agent):
    """Proximal policy optimisation (Schulman et al., arXiv 1707.06347) as it is in Stable-Baselines3.

    A policy builds mappings in ``MapSpace-v0``, 32 at a time; each finished one is a sample. It starts untrained, and
    what it costs to train counts: this is per-layer search, not an amortised policy. Without masks the policy does not
    know which actions are legal. The environment replaces an illegal action by a legal one, so that every episode
    still ends in a legal mapping, but the policy is credited with an action that was not taken; that is its handicap
    against ``maskable-ppo``.

    The defaults (128 x 128 network, discount 1, two or three episodes per environment and update, high learning rate,
    large mini-batches) are for a few thousand episodes on one core; Stable-Baselines3's own are noted beside them.
    """

    name = "ppo"
    summary = "PPO of Stable-Baselines3; illegal actions are replaced by the environment"
    requires: ClassVar[tuple[str, ...]] = ("torch", "stable_baselines3")
    extra = "rl"
    policy: ClassVar[str] = "MlpPolicy"

    num_envs: int = parameter(32, "mappings built side by side", low=1)
    steps: int = parameter(40, "steps per environment and update (SB3: 2048)", low=2)
    batch_size: int = parameter(320, "mini-batch (SB3: 64)", low=2)
    epochs: int = parameter(6, "passes over the steps of an update (SB3: 10)", low=1)
    learning_rate: float = parameter(1e-3, "of Adam (SB3: 3e-4)", low=1e-8, high=1)
    discount: float = parameter(1.0, "gamma; the reward comes at the end, so 1 (SB3: 0.99)", low=0, high=1)
    gae_lambda: float = parameter(0.98, "of the advantage estimate (SB3: 0.95)", low=0, high=1)
    clip_range: float = parameter(0.2, "of the policy ratio (SB3: 0.2)", low=0.001, high=1)
    entropy: float = parameter(
        0.1, "weight of the entropy; less, and the policy settles too early (SB3: 0)", low=0, high=1
    )
    hidden: int = parameter(128, "units in each of the two hidden layers (SB3: 64)", low=1)
    orders: str = parameter(
        "full", "which part of the loop orders the policy decides, see MapSpace-v0", choices=("full", "innermost")
    )
    threads: int = parameter(1, "threads of torch; more do not help a network of this size", low=1)

    def warm_up(self, space: MapSpace) -> None:
        """Imports the libraries and compiles the environment, or loads it from the disk."""
        from mapgym.evaluator import Evaluator

        self._algorithm()
        env = Evaluator(space).make_vec_env(1)
        env.reset(seed=0)
        env.close()

    def search(self, evaluator: Evaluator, seed: int, initial: MappingBatch | None = None) -> None:
        """Trains until the budget is spent; what it is given is priced, and teaches the policy nothing."""
        import torch

        self.check_axes(evaluator.space)
        self.check_objective(evaluator.objective)
        self.warm_up(evaluator.space)
        evaluator.start()
        if initial is not None:
            evaluator.evaluate(initial)
        threads = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            self._train(evaluator, seed)
        finally:
            torch.set_num_threads(threads)

    def _train(self, evaluator: Evaluator, seed: int) -> None:
        from gymnasium.vector import AutoresetMode
        from stable_baselines3.common.callbacks import BaseCallback

        from mapgym.agents.learned._vec_env import Sb3VecEnv

        class StopWhenExhausted(BaseCallback):
            def _on_step(self) -> bool:
                return not evaluator.exhausted

        env = Sb3VecEnv(
            evaluator.make_vec_env(self.num_envs, autoreset_mode=AutoresetMode.SAME_STEP, orders=self.orders)
        )
        try:
            model = self._algorithm()(
                self.policy,
                env,
                n_steps=self.steps,
                batch_size=min(self.batch_size, self.steps * self.num_envs),
                n_epochs=self.epochs,
                learning_rate=self.learning_rate,
                gamma=self.discount,
                gae_lambda=self.gae_lambda,
                clip_range=self.clip_range,
                ent_coef=self.entropy,
                policy_kwargs={"net_arch": [self.hidden, self.hidden]},
                seed=seed,
                device="cpu",
                verbose=0,
            )
            model.learn(UNLIMITED, callback=StopWhenExhausted(), log_interval=None)
        finally:
            env.close()

    def _algorithm(self) -> Any:
        from stable_baselines3 import PPO

        return PPO


@register
@dataclass(kw_only=True)
class MaskablePpo(Ppo):
    """PPO that draws among the legal actions only (Huang and Ontanon, arXiv 2006.14171; sb3-contrib's MaskablePPO).

    Everything else is as in :class:`Ppo`.
    """

    name = "maskable-ppo"
    summary = "PPO of sb3-contrib that knows the legal actions"
    requires = ("torch", "stable_baselines3", "sb3_contrib")

    def _algorithm(self) -> Any:
        from sb3_contrib import MaskablePPO

        return MaskablePPO
