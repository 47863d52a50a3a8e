"""Saved states: what ``get_state`` of an environment hands out, and ``set_state`` puts back.

A state is a value. It can be kept, pickled and put back any number of times, into the environment that it is of, a copy
of it, an equal one, or a row of a vector twin of one; the same actions then have the same results, bit by bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted

if TYPE_CHECKING:
    from mapgym.envs.common.task import Task

Settings = tuple[tuple[str, str], ...]
"""(name, value) of everything but the task that an environment must have in common with a state."""


class EnvironmentState(NamedTuple):
    """Where one environment is.

    Not in it: what an evaluator has counted, and entries that were added to a ``record``; both go on. States are
    trusted: numbers that no environment has written can do anything.

    Attributes:
        task: of the episode.
        task_index: its index in the distribution that it was drawn from.
        settings: what an environment must be like for the state to mean anything to it.
        numbers: the arrays of the episode, one after the other.
        objects: what else the episode consists of; None for most environments.
        is_over: whether only a reset can follow, because the episode has ended or none has begun.
        random: state of the random numbers that later resets (and starts, and repairs) draw; None if it was left out.
    """

    task: Task
    task_index: int
    settings: Settings
    numbers: bytes
    objects: Any
    is_over: bool
    random: Mapping[str, Any] | None


def check_random(state: EnvironmentState, generator: np.random.Generator, where: str) -> None:
    """Raises SpecificationError if the random numbers of a state are those of another kind of generator."""
    if state.random is not None and state.random.get("bit_generator") != type(generator.bit_generator).__name__:
        raise SpecificationError(
            f"{where}: the random numbers of the state are those of {quoted(state.random.get('bit_generator'))}, and "
            f"here they are those of {type(generator.bit_generator).__name__}; save it with get_state(random=False)"
        )


def joined(arrays: Sequence[NDArray[Any]]) -> bytes:
    """The content of arrays, one after the other."""
    return b"".join([array.tobytes() for array in arrays])


def split_into(arrays: Sequence[NDArray[Any]], numbers: bytes) -> None:
    """Writes what :func:`joined` made of arrays of these kinds and shapes."""
    start = 0
    for array in arrays:
        array[...] = np.frombuffer(numbers, array.dtype, array.size, start).reshape(array.shape)
        start += array.nbytes


def check_size(numbers: bytes, size: int, where: str) -> None:
    """Raises SpecificationError if a state has more or fewer numbers than its task needs."""
    if len(numbers) != size:
        raise SpecificationError(
            f"{where}: the state has {len(numbers)} bytes of numbers, and its task needs {size}; give what get_state() "
            "returned, unchanged and from the same version"
        )
