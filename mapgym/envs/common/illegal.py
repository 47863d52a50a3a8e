"""What environments do with an action that is not legal now."""

from __future__ import annotations

from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapgym.errors import SpecificationError, require_one_of

ILLEGAL_ACTION_REWARD = -1.0
"""Reward of an illegal action with ``illegal="penalty"``: what a mapping loses that costs e times as much. That is more
than a single edit of a good mapping gains as a rule, so that no agent goes on for its sake, and little beside the
differences between mappings, which are what is to be learned."""


class Illegal(Enum):
    """What takes the place of an illegal action.

    ``"nearest"``: the legal action with the nearest index (the lower of two). ``"penalty"``: nothing; the state stays,
    the reward is :data:`ILLEGAL_ACTION_REWARD`, and the step counts where episodes have a budget of steps.
    ``"raise"``: an error, and nothing has changed.
    """

    NEAREST = "nearest"
    PENALTY = "penalty"
    RAISE = "raise"

    @classmethod
    def of(cls, name: Any) -> Illegal:
        """Reads the argument ``illegal``; raises SpecificationError for an unknown one."""
        require_one_of(name, [mode.value for mode in cls], "illegal")
        return cls(name)

    @property
    def is_nearest(self) -> bool:
        """Whether there is a legal action in its place."""
        return self is Illegal.NEAREST


def require_legal(
    actions: NDArray[np.int64], running: NDArray[np.bool_], masks: NDArray[np.int8] | None, where: str
) -> None:
    """Raises SpecificationError if an action of an environment that takes a step is not legal.

    Args:
        actions: int64[n], any integers.
        running: bool[n], which environments take a step.
        masks: int8[n, actions].
        where: what messages call the environment.
    """
    assert masks is not None, "every action is legal"
    inside = (actions >= 0) & (actions < masks.shape[1])
    legal = inside & (np.take_along_axis(masks, np.where(inside, actions, 0)[:, None], 1)[:, 0] != 0)
    wrong = (running & ~legal).nonzero()[0]
    if len(wrong):
        row = wrong[0]
        which = f" of environment {row}" if len(actions) > 1 else ""
        raise SpecificationError(
            f"{where}: action {actions[row]}{which} is not legal now; choose one that info['action_mask'] allows"
        )
