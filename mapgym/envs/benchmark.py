"""How fast the environments are."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from mapgym.envs.benchmark_kernels import random_legal_action, random_legal_actions
from mapgym.envs.construction.mapspace_env import MapSpaceEnv, MapSpaceVectorEnv


def measure_steps_per_second(
    num_envs: int = 1024, rounds: int = 5, seconds_per_round: float = 0.5
) -> dict[str, str | int | float]:
    """Measures the steps per second of ``MapSpace-v0`` with a masked random policy, in CPU time of one process.

    Everything that a learner's loop would do is included: choosing uniformly among the legal actions (compiled), the
    step with copies of observation and mask, the pricing of finished mappings, and resets. The environments are
    unwrapped. Compilation and a first stretch of steps are not timed; the results are medians over the rounds.

    Args:
        num_envs: size of the vector environment.
        rounds: timed rounds.
        seconds_per_round: how long a round lasts, about.

    Returns:
        env, scalar_steps_per_second, vector_steps_per_second, num_envs.
    """
    generator = np.array([1], np.uint64)
    scalar = MapSpaceEnv()
    _, scalar_info = scalar.reset(seed=0)

    def scalar_steps(n: int) -> None:
        info = scalar_info
        for _ in range(n):
            _, _, is_over, _, info = scalar.step(random_legal_action(info["action_mask"], generator))
            if is_over:
                _, info = scalar.reset()
        # The next stretch begins where this one ended.
        scalar_info.update(info)

    vector = MapSpaceVectorEnv(num_envs)
    vector_masks = vector.reset(seed=0)[1]["action_mask"]
    actions = np.zeros(num_envs, np.int64)

    def vector_steps(n: int) -> None:
        nonlocal vector_masks
        for _ in range(n):
            random_legal_actions(vector_masks, generator, actions)
            vector_masks = vector.step(actions)[4]["action_mask"]

    return {
        "env": "MapSpace-v0",
        "scalar_steps_per_second": _median_rate(scalar_steps, 1, rounds, seconds_per_round),
        "vector_steps_per_second": _median_rate(vector_steps, num_envs, rounds, seconds_per_round),
        "num_envs": num_envs,
    }


def measure_state_seconds(*, random: bool = True, rounds: int = 5) -> float:
    """CPU seconds that it takes to save and restore a state of ``MapSpace-v0`` in mid-episode, unwrapped.

    Args:
        random: whether the random numbers are saved as well.
        rounds: timed rounds; the median counts.
    """
    env = MapSpaceEnv()
    _, info = env.reset(seed=0)
    for _ in range(5):
        _, _, _, _, info = env.step(int(np.argmax(info["action_mask"])))

    def round_trips(n: int) -> None:
        for _ in range(n):
            env.set_state(env.get_state(random=random))

    return 1.0 / _median_rate(round_trips, 1, rounds, 0.1)


def _median_rate(take_steps: Callable[[int], None], width: int, rounds: int, seconds: float) -> float:
    """Median of width * steps per CPU second."""
    take_steps(100)
    # Long enough that all phases of an episode are running side by side.
    start = time.process_time()
    take_steps(100)
    n = max(1, int(100 * seconds / max(time.process_time() - start, 1e-6)))
    rates = []
    for _ in range(rounds):
        start = time.process_time()
        take_steps(n)
        rates.append(width * n / (time.process_time() - start))
    return statistics.median(rates)
