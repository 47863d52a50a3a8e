"""Compiled choices of a policy that draws uniformly among the legal actions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import kernel
from mapgym.compilation.random_kernels import next_below


@kernel
def random_legal_action(mask: NDArray[np.int8], generator: NDArray[np.uint64]) -> int:
    """A uniformly random legal action.

    Args:
        mask: int8[actions].
        generator: uint64[1], state of the random numbers, updated.
    """
    count = 0
    for action in range(len(mask)):
        count += mask[action]
    chosen = next_below(generator, count)
    for action in range(len(mask)):
        chosen -= mask[action]
        if chosen < 0:
            return action
    return 0


@kernel
def random_legal_actions(masks: NDArray[np.int8], generator: NDArray[np.uint64], actions: NDArray[np.int64]) -> None:
    """Fills actions (int64[n]) with uniformly random legal actions of masks (int8[n, actions])."""
    for i in range(len(actions)):
        actions[i] = random_legal_action(masks[i], generator)
