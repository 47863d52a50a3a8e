"""Many arrays in one piece of memory.

Each array that Python hands to a compiled function costs a tenth of a microsecond, and some kernels need dozens of
them; so they lie one behind the other, and a kernel makes views of them. The memory begins with a directory: for each
array where it begins, and up to five lengths. Kernels get it once as numbers of each kind that an array in it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation.decorators import inlined_kernel

_ROW = 6  # entries of the directory for an array
_WORD = 8  # bytes; what arrays begin at is a multiple


class Pages(NamedTuple):
    """One memory, as numbers of each kind."""

    whole: NDArray[np.int64]
    floats: NDArray[np.float64]
    halves: NDArray[np.int32]
    bytes: NDArray[np.int8]
    flags: NDArray[np.bool_]


PageArrays: TypeAlias = tuple[
    NDArray[np.int64], NDArray[np.float64], NDArray[np.int32], NDArray[np.int8], NDArray[np.bool_]
]
"""What a kernel that Python calls takes: the arrays in the order of :class:`Pages`."""


def pack_arrays(arrays: Sequence[NDArray[Any]]) -> PageArrays:
    """Copies arrays of the kinds of :class:`Pages` into one memory, each with up to five axes."""
    directory = np.zeros((len(arrays), _ROW), np.int64)
    end = directory.nbytes
    for row, array in zip(directory, arrays, strict=True):
        row[0] = end // array.itemsize
        row[1 : array.ndim + 1] = array.shape
        end += array.nbytes + -array.nbytes % _WORD
    parts = [directory.tobytes(), *(array.tobytes() + bytes(-array.nbytes % _WORD) for array in arrays)]
    # Words, so that the memory is aligned for all of them.
    whole = np.frombuffer(b"".join(parts), np.int64).copy()
    return whole, whole.view(np.float64), whole.view(np.int32), whole.view(np.int8), whole.view(np.bool_)


@inlined_kernel
def one(numbers: NDArray[Any], directory: NDArray[np.int64], k: int) -> NDArray[Any]:
    """View of array k, which has one axis; numbers is the memory as numbers of its kind."""
    start = directory[_ROW * k]
    return numbers[start : start + directory[_ROW * k + 1]]


@inlined_kernel
def two(numbers: NDArray[Any], directory: NDArray[np.int64], k: int) -> NDArray[Any]:
    """View of array k, which has two axes; see :func:`one`."""
    start, n, m = directory[_ROW * k], directory[_ROW * k + 1], directory[_ROW * k + 2]
    return numbers[start : start + n * m].reshape((n, m))


@inlined_kernel
def three(numbers: NDArray[Any], directory: NDArray[np.int64], k: int) -> NDArray[Any]:
    """View of array k, which has three axes; see :func:`one`."""
    start, n = directory[_ROW * k], directory[_ROW * k + 1]
    m, o = directory[_ROW * k + 2], directory[_ROW * k + 3]
    return numbers[start : start + n * m * o].reshape((n, m, o))


@inlined_kernel
def four(numbers: NDArray[Any], directory: NDArray[np.int64], k: int) -> NDArray[Any]:
    """View of array k, which has four axes; see :func:`one`."""
    start, n, m = directory[_ROW * k], directory[_ROW * k + 1], directory[_ROW * k + 2]
    o, p = directory[_ROW * k + 3], directory[_ROW * k + 4]
    return numbers[start : start + n * m * o * p].reshape((n, m, o, p))


@inlined_kernel
def five(numbers: NDArray[Any], directory: NDArray[np.int64], k: int) -> NDArray[Any]:
    """View of array k, which has five axes; see :func:`one`."""
    start, n, m = directory[_ROW * k], directory[_ROW * k + 1], directory[_ROW * k + 2]
    o, p, q = directory[_ROW * k + 3], directory[_ROW * k + 4], directory[_ROW * k + 5]
    return numbers[start : start + n * m * o * p * q].reshape((n, m, o, p, q))
