"""What the agents of Stable-Baselines3 share: a policy that acts in an environment, trained anew or from a folder."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.envs.registration import load_env_creator
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from mapgym.agents.base import Agent, parameter
from mapgym.agents.learned.sb3.policy import read_policy
from mapgym.envs import ENVIRONMENT_IDS, make_vec_env
from mapgym.errors import SpecificationError, suggest
from mapgym.errors.seeds import check_seed
from mapgym.errors.text import quoted

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

    from mapgym.adapters.sb3 import VecEnv
    from mapgym.evaluation.evaluator import Evaluator
    from mapgym.mapping import MappingBatch
    from mapgym.mapspace import MapSpace
    from mapgym.spec.accelerator import Accelerator

DEFAULT_ENV = "MapSpace-v0"

# Training ends when the budget of the evaluator is spent, not after a number of steps.
UNLIMITED = 2**62

# What says nothing as long as the task stays the same: the first and the last of these fields, and all between them.
_TASK_FIELDS = ("objective", "cumulative_fanout")

MOST_MEMORY = 2**33
"""Bytes of observations that an agent may keep."""

_loaded: set[tuple[str, str]] = set()


@dataclass(kw_only=True)
class StockAgent(Agent):
    """An algorithm of Stable-Baselines3 as an agent.

    A policy acts in ``num_envs`` environments at once. Without ``policy`` it starts untrained, and what it costs to
    train counts: this is per-layer search. With ``policy``, the folder of a ``mapgym train``, nothing is learned: its
    stored policy is sampled, and the best of what it proposes is the result.

    Attributes:
        masked: whether the algorithm is told which actions are legal.
        smallest: parameters with which an update takes no time, for loading what the first one loads.
    """

    extra = "rl"
    requires: ClassVar[tuple[str, ...]] = ("torch", "stable_baselines3")
    masked: ClassVar[bool] = False
    smallest: ClassVar[dict[str, Any]] = {}

    env: str = parameter(DEFAULT_ENV, "environment in which the policy acts", choices=ENVIRONMENT_IDS)
    num_envs: int = parameter(64, "environments side by side", low=1, high=2**16)
    learning_rate: float = parameter(1e-3, "of the optimiser", low=1e-8, high=1)
    discount: float = parameter(1.0, "gamma; the reward comes at the end, so 1 (SB3: 0.99)", low=0, high=1)
    hidden: int = parameter(128, "units in each of the two hidden layers (SB3: 64)", low=1, high=4096)
    orders: str = parameter(
        "full", "which part of the loop orders the policy decides, see MapSpace-v0", choices=("full", "innermost")
    )
    patience: int = parameter(
        0,
        "samples without an improvement after which a search starts again with a new policy; 0 for never",
        low=0,
        high=10**9,
    )
    policy: str = parameter("", "folder of a trained policy, which is sampled and learns nothing")
    threads: int = parameter(1, "threads of torch; more do not help a network of this size", low=1, high=1024)

    @abstractmethod
    def algorithm(self) -> Any:
        """The class of the algorithm."""

    @abstractmethod
    def arguments(self) -> dict[str, Any]:
        """Arguments of the algorithm that depend on parameters of this agent alone."""

    @abstractmethod
    def remembered(self) -> int:
        """Observations that the algorithm keeps in memory."""

    def make_model(self, env: VecEnv, seed: int, *, one_task: bool = True) -> BaseAlgorithm:
        """An untrained model of the algorithm.

        Args:
            env: where it will act.
            seed: of its weights and actions.
            one_task: whether all episodes have the same task, whose features then need not be looked at.

        Raises:
            SpecificationError: the algorithm cannot act there.
        """
        from stable_baselines3.common.logger import Logger

        from mapgym.agents.learned.sb3._networks import Selection

        actions = env.action_space
        if self.masked and not env.has_attr("action_masks"):
            raise SpecificationError(
                f"agent {quoted(self.name)} needs action masks, which {self.env} does not have; use 'ppo'"
            )
        if self.name == "dqn" and not isinstance(actions, gymnasium.spaces.Discrete):
            raise SpecificationError(f"agent 'dqn' chooses among single actions, {self.env} has other ones; use 'ppo'")
        numbers = int(np.prod(env.observation_space.shape or ()))
        if (memory := 4 * numbers * self.remembered()) > MOST_MEMORY:
            raise SpecificationError(
                f"agent {quoted(self.name)} would remember {self.remembered():,} observations of {numbers} numbers, "
                f"which takes {memory / 2**30:,.0f} GiB; lower the parameters that say how many steps it remembers"
            )
        model: BaseAlgorithm = self.algorithm()(
            "MlpPolicy",
            env,
            learning_rate=self.learning_rate,
            gamma=self.discount,
            policy_kwargs={
                "net_arch": [self.hidden, self.hidden],
                "features_extractor_class": Selection,
                "features_extractor_kwargs": {"columns": observed_columns(env, one_task=one_task)},
            },
            seed=seed,
            device="cpu",
            verbose=0,
            **self.arguments(),
        )
        # Without one of its own, a model makes a folder for its log among the temporary files.
        model.set_logger(Logger(folder=None, output_formats=[]))
        return model

    def act(self, model: BaseAlgorithm, env: VecEnv, observations: Any) -> NDArray[np.int64]:
        """Draws an action of the policy for each environment."""
        options: dict[str, Any] = {}
        if self.masked:
            options["action_masks"] = env.env.action_masks()  # type: ignore[attr-defined]
        with self.answering():
            actions, _ = model.predict(observations, deterministic=False, **options)
        return actions

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Says in one sentence that the policy has no answer: what comes out of its weights is no number."""
        try:
            yield
        except (RuntimeError, ValueError) as error:
            # There is no better sign: that is how torch refuses to draw from probabilities that are no numbers.
            if "nan" not in str(error):
                raise
            who, remedy = f"agent {quoted(self.name)}", "search or train with a lower learning_rate"
            if self.policy:
                who, remedy = quoted(Path(self.policy)), "train it anew, with a lower learning_rate"
            raise SpecificationError(
                f"the policy of {who} has diverged: its answers are no finite numbers; {remedy}"
            ) from error

    def search_env(self, evaluator: Evaluator) -> VecEnv:
        """Environments whose mappings the evaluator prices.

        Raises:
            SpecificationError: the environment cannot be given an evaluator.
        """
        from mapgym.adapters.sb3 import VecEnv

        if self.env == DEFAULT_ENV:
            # The evaluator knows best which kind of it fits its objective.
            made = make_vec_env(evaluator, self.num_envs, autoreset_mode=AutoresetMode.SAME_STEP, orders=self.orders)
            return VecEnv(made)
        if not is_searchable(self.env):
            remedy = f"use {quoted(DEFAULT_ENV)}, or train in it with 'mapgym train {self.name} --env {self.env}'"
            if self.policy:
                remedy = f"sample a policy that was trained in {quoted(DEFAULT_ENV)}"
            raise SpecificationError(f"{self.env} is no environment to search a single layer in; {remedy}")
        evaluator.start()
        return VecEnv(
            vector_class(self.env)(self.num_envs, evaluator=evaluator, autoreset_mode=AutoresetMode.SAME_STEP)
        )

    def warm_up(self, space: MapSpace) -> None:
        """Imports the libraries, compiles the environment or loads it, and makes a first, tiny update.

        The first update of a process loads parts of the libraries, which takes seconds.
        """
        self._load(space, "edp")

    def _load(self, space: MapSpace, objective: str) -> None:
        from mapgym.evaluation.evaluator import Evaluator

        with computing(self.threads):
            env = replace(self, num_envs=2).search_env(Evaluator(space, objective))
            env.seed(0)
            env.reset()
            env.close()
            which = (self.name, type(env.env).__name__)
            if which not in _loaded:
                tiny = replace(self, num_envs=2, policy="", **self.smallest)
                tiny.train_until(Evaluator(space, objective), 0, 8)
                _loaded.add(which)

    def remark(self, accelerator: Accelerator) -> str:
        """Says so if the policy that is sampled was trained under other counting rules."""
        return read_policy(self.policy).remark(accelerator) if self.policy else ""

    def search(self, evaluator: Evaluator, seed: int, initial: MappingBatch | None = None) -> None:
        """Trains, or samples a trained policy, until the budget is spent.

        What it is given is priced, and teaches the policy nothing.
        """
        self.check_axes(evaluator.space)
        self.check_objective(evaluator.objective)
        seed = check_seed(seed)
        self._load(evaluator.space, evaluator.objective)
        evaluator.start()
        if initial is not None:
            evaluator.evaluate(initial)
        if self.policy:
            self._sample(evaluator, seed)
        else:
            self.train_until(evaluator, seed, UNLIMITED)

    def train_until(self, evaluator: Evaluator, seed: int, steps: int) -> int:
        """Trains for at least a number of steps, or until the budget is spent; returns how many it has taken."""
        from stable_baselines3.common.callbacks import BaseCallback

        class Watch(BaseCallback):
            def __init__(self, patience: int) -> None:
                super().__init__()
                self._patience, self._since = patience, evaluator.samples

            def _on_step(self) -> bool:
                best = evaluator.trace.samples[-1] if evaluator.trace.samples else 0
                is_stuck = 0 < self._patience <= evaluator.samples - max(best, self._since)
                return not evaluator.exhausted and not is_stuck

        taken = policies = 0
        env = self.search_env(evaluator)
        with computing(self.threads), closing(env):
            while taken < steps and not evaluator.exhausted:
                # One seed never meets the policies of another one.
                own = seed if not policies else int(np.random.SeedSequence((seed, policies)).generate_state(1)[0])
                model = self.make_model(env, own)
                with self.answering():
                    model.learn(steps - taken, callback=Watch(self.patience), log_interval=None)  # type: ignore[arg-type]
                taken, policies = taken + int(model.num_timesteps), policies + 1
            return taken

    def _sample(self, evaluator: Evaluator, seed: int) -> None:
        stored = read_policy(self.policy)
        agent = stored.agent(self)
        env = agent.search_env(evaluator)
        with computing(self.threads), closing(env):
            model = stored.model(agent, env, seed)
            env.seed(seed)
            observations = env.reset()
            while not evaluator.exhausted:
                observations, _, _, _ = env.step(agent.act(model, env, observations))


def vector_class(env: str) -> Any:
    """The class of the vector twin of a registered environment.

    Raises:
        SpecificationError: there is no such environment.
    """
    if env not in ENVIRONMENT_IDS:
        raise SpecificationError(f"unknown environment {quoted(env)}; {suggest(env, ENVIRONMENT_IDS)}")
    return load_env_creator(str(gymnasium.registry[env].vector_entry_point))


def is_searchable(env: str) -> bool:
    """Whether an agent can search in a registered environment: it can be given the evaluator of the search."""
    return "evaluator" in inspect.signature(vector_class(env)).parameters


def observed_columns(env: VecEnv, *, one_task: bool) -> list[int]:
    """Which numbers of an observation are worth looking at: all but the features of a task that never changes."""
    fields: dict[str, slice] = env.get_attr("observation_fields", 0)[0]
    size = int(np.prod(env.observation_space.shape or ()))
    if not one_task or not set(_TASK_FIELDS) <= fields.keys():
        return list(range(size))
    first, last = fields[_TASK_FIELDS[0]].start, fields[_TASK_FIELDS[1]].stop
    return [*range(first), *range(last, size)] or list(range(size))


@contextmanager
def computing(threads: int) -> Iterator[None]:
    """Gives torch a number of threads, and spares it checks of every distribution, while the block runs."""
    import torch
    from torch.distributions import Distribution

    before, checks = torch.get_num_threads(), Distribution._validate_args
    torch.set_num_threads(threads)
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        Distribution.set_default_validate_args(checks)
