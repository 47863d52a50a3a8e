"""How the kernels are compiled: one decorator, so that all of them obey the same rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from numba import config, njit, types

_Function = TypeVar("_Function", bound=Callable[..., Any])

# - cache: compiled code is kept on disk, so that only the first use ever waits.
# - error_model="numpy": no test for a zero divisor before each division.
# - _nrt: kernels allocate nothing, so that counting references to their arrays (an atomic operation at each access to
#   a field) is left out; that makes the cost kernel about eight times faster.
# - never fastmath: figures equal Timeloop's only if additions keep their order.
_OPTIONS: dict[str, Any] = {"cache": True, "error_model": "numpy", "_nrt": False}


@contextmanager
def _scalar_loops() -> Iterator[None]:
    """Keeps LLVM from vectorising loops: ours run over a few levels, dims or tensors, where that costs a factor of two.

    Numba has this switch for the whole process only (NUMBA_LOOP_VECTORIZE), so it is put back after each compilation.
    """
    before = config.LOOP_VECTORIZE
    config.LOOP_VECTORIZE = 0
    try:
        yield
    finally:
        config.LOOP_VECTORIZE = before


def _compile(function: _Function, **options: Any) -> _Function:
    dispatcher = njit(**_OPTIONS, **options)(function)
    compile_signature = dispatcher.compile

    def compile_once(signature: Any) -> Any:
        # A constant argument is no reason to compile the function again for that constant.
        with _scalar_loops():
            return compile_signature(tuple(map(types.unliteral, signature)))

    dispatcher.compile = compile_once
    return dispatcher


def kernel(function: _Function) -> _Function:
    """Compiles a function that allocates nothing."""
    return _compile(function)


def inlined_kernel(function: _Function) -> _Function:
    """As :func:`kernel`, copied into its caller: for the hot path, where a call with many arrays costs too much."""
    return _compile(function, inline="always")
