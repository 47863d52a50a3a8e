"""How the kernels are compiled: one decorator, so that all of them obey the same rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

_Function = TypeVar("_Function", bound=Callable[..., Any])

# - cache: compiled code is kept on disk, so that only the first use ever waits.
# - error_model="numpy": no test for a zero divisor before each division.
# - _nrt: kernels allocate nothing, so that counting references to their arrays (an atomic operation at each access to
#   a field) is left out; that makes the cost kernel about eight times faster.
# - never fastmath: figures equal Timeloop's only if additions keep their order.
_OPTIONS: dict[str, Any] = {"cache": True, "error_model": "numpy", "_nrt": False}


def kernel(function: _Function) -> _Function:
    """Compiles a function that allocates nothing."""
    return njit(**_OPTIONS)(function)


def inlined_kernel(function: _Function) -> _Function:
    """As :func:`kernel`, copied into its caller: for the hot path, where a call with many arrays costs too much."""
    return njit(inline="always", **_OPTIONS)(function)
