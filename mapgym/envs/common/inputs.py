"""What callers hand to ``step`` and ``reset``, read at one door: actions, seeds and the mask of a partial reset.

An action is a whole number of 64 bits, in whatever container libraries pass it on: a Python or NumPy integer, an array
or a tensor of integers, or of floats that are whole numbers (policy networks return those). Anything else would have
to be guessed at, and is refused: fractions, truth values, text, one-hot vectors. A whole number that is outside the
action space is an illegal action, and none of the door's concern.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted

_MOST = np.iinfo(np.int64).max


def read_action(action: Any, space: spaces.Space[Any], where: str) -> NDArray[np.int64]:
    """Reads the action of one environment.

    Args:
        action: for a ``Discrete`` space a whole number, also as an array or a tensor of one entry; for a
            ``MultiDiscrete`` one as many as it has columns.
        space: the action space.
        where: name of the environment.

    Returns:
        int64 of the shape of the space.

    Raises:
        SpecificationError: it is something else, or a number is outside its column of a ``MultiDiscrete`` space.
    """
    shape = space.shape or ()
    array = _whole_numbers(action)
    if array is not None and shape == () and array.shape == (1,):
        array = array[0]
    if array is None or array.shape != shape:
        if isinstance(space, spaces.MultiDiscrete):
            raise _not_in_columns(_described(action), space, where)
        raise SpecificationError(f"{where}: action is {_described(action)}; give a whole number {_range(space)}")
    require_columns(array, space, where)
    return np.asarray(array)


def read_actions(actions: Any, num_envs: int, space: spaces.Space[Any], where: str) -> NDArray[np.int64]:
    """Reads the actions of some environments; whether they are inside their columns is for :func:`require_columns`.

    Args:
        actions: whole numbers as many for each environment as its action space has; of one, also in a column.
        num_envs: how many environments.
        space: the action space of one.
        where: name of the environment.

    Raises:
        SpecificationError: they are something else.
    """
    array = _whole_numbers(actions)
    shape = (num_envs, *(space.shape or ()))
    if array is not None and len(shape) == 1 and array.shape == (num_envs, 1):
        array = array[:, 0]
    if array is None or array.shape != shape:
        count = f"{num_envs} integers" if len(shape) == 1 else f"integers of shape {shape}"
        raise SpecificationError(f"{where}: actions is {_described(actions)}; give {count}, each {_range(space)}")
    return array


def read_within(action: NDArray[np.int64], count: int, where: str) -> int:
    """An action that is in a space of so many; raises SpecificationError if it is not."""
    if not 0 <= action < count:
        raise SpecificationError(f"{where}: there is no action {action}; give 0 to {count - 1}")
    return int(action)


def require_columns(actions: NDArray[np.int64], space: spaces.Space[Any], where: str, rows: Any = slice(None)) -> None:
    """Raises SpecificationError where a number, in some rows, is outside its column of a ``MultiDiscrete`` space."""
    if isinstance(space, spaces.MultiDiscrete):
        actions = actions[rows]
        # Without a sign, negative numbers are the largest.
        is_outside = actions.view(np.uint64) >= space.nvec.view(np.uint64)
        if np.count_nonzero(is_outside):
            outside = np.argwhere(is_outside)
            place = tuple(outside[0])
            raise _not_in_columns(f"{actions[place]} in column {place[-1]}", space, where)


def read_seed(seed: Any, where: str, what: str = "seed") -> int | None:
    """Reads a seed; raises SpecificationError unless it is a whole number of at least 0, or None."""
    if seed is None:
        return None
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise SpecificationError(f"{where}: {what} is {quoted(seed)}; give a whole number of at least 0, or None")
    return int(seed)


def read_seeds(seed: Any, num_envs: int, where: str) -> list[int | None]:
    """Reads the seeds of some environments: one number for the first, from which the others count on, or one for each.

    Raises:
        SpecificationError: it is something else, or not one for each.
    """
    if not isinstance(seed, Sequence | np.ndarray) or isinstance(seed, str | bytes) or np.ndim(seed) == 0:
        first = read_seed(seed, where)
        return [None if first is None else first + i for i in range(num_envs)]
    if len(seed) != num_envs:
        raise SpecificationError(
            f"{where}: {len(seed)} seeds given for {num_envs} environments; give one for each, or one for all"
        )
    return [read_seed(one, where, f"seed of environment {i}") for i, one in enumerate(seed)]


def read_reset_mask(mask: Any, num_envs: int, where: str) -> NDArray[np.bool_]:
    """Reads which environments to reset; raises SpecificationError unless it is bool[num_envs] with one True."""
    array = _array(mask)
    if array is None or array.shape != (num_envs,) or array.dtype != np.bool_ or not array.any():
        raise SpecificationError(
            f"{where}: reset_mask is {_described(mask)}; it must be bool[{num_envs}] with at least one True"
        )
    return array


def read_rows(rows: Any, num_envs: int, where: str) -> NDArray[np.int64]:
    """Reads some of the environments, as indices or as bool[num_envs].

    Raises:
        SpecificationError: it is something else, or names none, or one that does not exist.
    """
    array = _array(rows)
    if array is not None and array.shape == (num_envs,) and array.dtype == np.bool_ and array.any():
        return np.flatnonzero(array)
    indices = _integers(rows)
    if indices is None or not indices.size or indices.ndim > 1 or not ((indices >= 0) & (indices < num_envs)).all():
        raise SpecificationError(
            f"{where}: rows is {_described(rows)}; give indices from 0 to {num_envs - 1}, or bool[{num_envs}] with at "
            "least one True"
        )
    return np.unique(indices)


def read_row(row: Any, num_envs: int, where: str) -> int:
    """Reads which environment is meant; raises SpecificationError unless it is a whole number below ``num_envs``."""
    array = _integers(row)
    if array is None or array.shape != () or not 0 <= array < num_envs:
        raise SpecificationError(f"{where}: row is {_described(row)}; give a whole number from 0 to {num_envs - 1}")
    return int(array)


def _array(value: Any) -> NDArray[Any] | None:
    """The array that a value is; None for what cannot be one."""
    try:
        return np.asarray(value)
    except Exception:
        # Tensors on another device, lists of lists of different lengths, ...: each library raises something else.
        return None


def _integers(value: Any) -> NDArray[np.int64] | None:
    """The integers of 64 bits that a value is; None if it is something else."""
    array = _array(value)
    if array is None or array.dtype.kind not in "iu":
        return None
    if array.dtype == np.uint64 and array.size and array.max() > _MOST:
        return None
    return array.astype(np.int64, copy=False)


def _whole_numbers(value: Any) -> NDArray[np.int64] | None:
    """The integers of 64 bits that a value is, floats that are whole numbers included; None if it is something else."""
    array = _array(value)
    if array is None or array.dtype.kind != "f":
        return _integers(value)
    # 2**63 itself is a float, and too large; NaN is not below it.
    if not (np.abs(array) < 2.0**63).all() or not (array == np.floor(array)).all():
        return None
    return array.astype(np.int64)


def _range(space: spaces.Space[Any]) -> str:
    if isinstance(space, spaces.Discrete):
        return f"from 0 to {int(space.n) - 1}"
    return "from 0 to below its entry of action_space.nvec"


def _not_in_columns(given: str, space: spaces.MultiDiscrete, where: str) -> SpecificationError:
    return SpecificationError(
        f"{where}: an action is not {len(space.nvec)} numbers, each {_range(space)}, but {given}; draw actions from "
        "the action space"
    )


def _described(value: Any) -> str:
    shape, kind = getattr(value, "shape", ()), getattr(value, "dtype", None)
    text = quoted(value)
    return text if kind is None else f"{text} of shape {tuple(shape)} and type {kind}"
