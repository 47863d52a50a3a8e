"""What a seed may be: the same for all agents, trainings and commands."""

from __future__ import annotations

import operator
from typing import Any

from mapgym.errors.checks import SpecificationError
from mapgym.errors.text import quoted

MAX_SEED = 2**32 - 1
"""So that a seed is the same number everywhere: the libraries under some of the agents take no more bits."""


def check_seed(seed: Any, where: str = "the seed") -> int:
    """Returns a seed as an int, or raises SpecificationError unless it is a whole number from 0 to ``MAX_SEED``."""
    try:
        number = operator.index(seed)
    except TypeError:
        number = -1
    if isinstance(seed, bool) or not 0 <= number <= MAX_SEED:
        raise SpecificationError(f"{where} is {quoted(seed)}; give a whole number from 0 to {MAX_SEED}")
    return number
