"""How fast the environments are."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np

from mapgym.envs.benchmark_kernels import random_legal_action, random_legal_actions
from mapgym.errors import require_one_of
from mapgym.system.registration import ENVIRONMENT_IDS

WIDTHS = (1, 8, 64, 1024)
"""Sizes of vector twins that are measured as a rule."""

_ACTIONS = 64
"""Actions that are drawn ahead for an environment in which all are legal."""

STEP, STATE, LIGHT_STATE = "step", "save and restore", "save and restore, no random numbers"
"""What is measured of an environment; a state of the scalar one only."""

TakeSteps = Callable[[int], None]


@dataclass(frozen=True)
class EnvironmentSpeed:
    """How long something takes in an environment with its default arguments.

    Attributes:
        env: id of the environment.
        num_envs: environments in the vector twin, 0 for the scalar environment.
        measured: what takes so long, such as ``STEP``.
        microseconds: of CPU time, for one environment.
    """

    env: str
    num_envs: int
    measured: str
    microseconds: float


def measure_environments(
    env_ids: Sequence[str] = ENVIRONMENT_IDS,
    widths: Sequence[int] = WIDTHS,
    rounds: int = 5,
    seconds_per_round: float = 0.3,
) -> list[EnvironmentSpeed]:
    """Measures what a step of environments with their default arguments takes, in CPU time of one process.

    The policy draws uniformly among the legal actions, in compiled code (where all are legal, from actions that are
    drawn ahead). Everything that a learner's loop would do is included: the choice, the step with copies of
    observation and mask, pricing, and resets. The environments are unwrapped. Compilation and the first episodes are
    not timed; the results are medians over the rounds.

    Args:
        env_ids: registered ids.
        widths: sizes of the vector twins to measure besides the scalar environment.
        rounds: timed rounds.
        seconds_per_round: how long a round lasts, about; at least one step.

    Returns:
        One entry for each id and each of its forms, the scalar one first, and the two of its states.

    Raises:
        SpecificationError: an unknown id.
    """
    results = []
    for env_id in env_ids:
        require_one_of(env_id, ENVIRONMENT_IDS, "environment")
        for num_envs in (0, *widths):
            take_steps = _vector_steps(env_id, num_envs) if num_envs else _scalar_steps(env_id)
            seconds = _median_seconds(take_steps, rounds, seconds_per_round)
            results.append(EnvironmentSpeed(env_id, num_envs, STEP, 1e6 * seconds / max(1, num_envs)))
        for measured in (STATE, LIGHT_STATE):
            seconds = _state_seconds(env_id, rounds, random=measured == STATE)
            results.append(EnvironmentSpeed(env_id, 0, measured, 1e6 * seconds))
    return results


def _scalar_steps(env_id: str) -> TakeSteps:
    """Something that takes so many steps in a scalar environment, from where it is."""
    env: gym.Env[Any, Any] = gym.make(env_id).unwrapped
    generator, taken = np.array([1], np.uint64), 0
    info = env.reset(seed=0)[1]
    drawn = None if "action_mask" in info else _drawn_actions(env.action_space)

    def take_steps(n: int) -> None:
        nonlocal info, taken
        for _ in range(n):
            if drawn is None:
                action: Any = random_legal_action(info["action_mask"], generator)
            else:
                action, taken = drawn[taken % _ACTIONS], taken + 1
            _, _, terminated, truncated, info = env.step(action)
            if terminated or truncated:
                info = env.reset()[1]

    return take_steps


def _vector_steps(env_id: str, num_envs: int) -> TakeSteps:
    """Something that takes so many steps in a vector environment, from where it is."""
    envs = gym.make_vec(env_id, num_envs=num_envs).unwrapped
    generator, taken = np.array([1], np.uint64), 0
    masked = np.zeros(num_envs, np.int64)
    info = envs.reset(seed=0)[1]
    drawn = None if "action_mask" in info else _drawn_actions(envs.action_space)

    def take_steps(n: int) -> None:
        nonlocal info, taken
        for _ in range(n):
            if drawn is None:
                random_legal_actions(info["action_mask"], generator, masked)
                actions: Any = masked
            else:
                actions, taken = drawn[taken % _ACTIONS], taken + 1
            info = envs.step(actions)[4]

    return take_steps


def _state_seconds(env_id: str, rounds: int, *, random: bool) -> float:
    """CPU seconds that it takes to save and restore a state in mid-episode, with its random numbers or without."""
    env: Any = gym.make(env_id).unwrapped
    _, info = env.reset(seed=0)
    mask = info.get("action_mask")
    env.step(env.action_space.sample() if mask is None else int(np.argmax(mask)))

    def round_trips(n: int) -> None:
        for _ in range(n):
            env.set_state(env.get_state(random=random))

    return _median_seconds(round_trips, rounds, 0.1)


def _drawn_actions(space: gym.Space[Any]) -> list[Any]:
    """Random actions of a space."""
    space.seed(0)
    return [space.sample() for _ in range(_ACTIONS)]


def _median_seconds(take_steps: TakeSteps, rounds: int, seconds: float) -> float:
    """Median CPU seconds of a step."""
    # Long enough that all phases of an episode are running side by side, and everything is compiled.
    take_steps(130)
    start = time.process_time()
    take_steps(70)
    n = max(1, int(70 * seconds / max(time.process_time() - start, 1e-6)))
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        take_steps(n)
        taken.append((time.process_time() - start) / n)
    return median(taken)
