"""How the kernels are compiled: one decorator, so that all of them obey the same rules."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from numba import config, njit, types
from numba.core import event
from numba.core.caching import NullCache

from mapgym.compilation import ahead
from mapgym.compilation.cache import is_kept, open_cache, say

_Function = TypeVar("_Function", bound=Callable[..., Any])

# - cache: compiled code is kept on disk, so that only the first use ever waits.
# - error_model="numpy": no test for a zero divisor before each division.
# - _nrt: kernels allocate nothing, so that counting references to their arrays (an atomic operation at each access to
#   a field) is left out; that makes the cost kernel about eight times faster.
# - never fastmath: figures equal Timeloop's only if additions keep their order.
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "_nrt": False}


class _Announcement(event.Listener):
    """Says, once in a process, why the first use of a kernel takes long."""

    made = False

    def on_start(self, event: event.Event) -> None:
        if not _Announcement.made:
            _Announcement.made = True
            kept = ", and is kept on disk" if is_kept() else ""
            say(f"compiling kernels for their first use; this can take a minute{kept} ...")
        ahead.begin(event.data["dispatcher"])

    def on_end(self, event: event.Event) -> None:
        pass


@contextmanager
def _scalar_loops() -> Iterator[None]:
    """Keeps LLVM from vectorising loops: ours run over a few levels, dims or tensors, where that costs a factor of two.

    Numba has this switch for the whole process only (NUMBA_LOOP_VECTORIZE), so it is put back after each compilation.
    """
    settings: Any = config
    before = settings.LOOP_VECTORIZE
    settings.LOOP_VECTORIZE = 0
    try:
        yield
    finally:
        settings.LOOP_VECTORIZE = before


def _compile(function: _Function, **options: Any) -> _Function:
    dispatcher = njit(**options)(function)
    compile_signature, compile_for = dispatcher.compile, dispatcher._compile_for_args

    def compile_once(signature: Any) -> Any:
        with _scalar_loops(), event.install_listener("numba:compile", _Announcement()):
            if isinstance(dispatcher._cache, NullCache):
                # Not before the first use: by then all kernels that this one calls are defined.
                dispatcher._cache = open_cache(dispatcher)
            ahead.wait_for(dispatcher)
            # A constant argument is no reason to compile the function again for that constant.
            return compile_signature(tuple(map(types.unliteral, signature)))

    def compile_for_plain(*arguments: Any) -> Any:
        plain = [_plain(argument) for argument in arguments]
        if all(map(operator.is_, plain, arguments)):
            return compile_for(*arguments)
        # Numba calls what it is given here.
        dispatcher._types_active_call.clear()
        return lambda *_: dispatcher(*plain)

    # Numba has no public way to say any of this; tests guard that it works.
    dispatcher.compile, dispatcher._compile_for_args = compile_once, compile_for_plain
    return dispatcher


def _plain(value: Any) -> Any:
    """An argument as kernels are compiled for it; the argument itself unless Numba takes it for another type.

    To Numba, arrays that are read-only, not aligned, of another byte order or of a subclass, and small scalars of NumPy
    are types of their own, for which it would compile a kernel, and all that it calls, once more: half a minute.
    It looks here only when it is about to do that, so that all other calls cost nothing. Who writes into an array makes
    it: what a kernel writes into a copy of a read-only one would be lost.
    """
    if isinstance(value, np.ndarray):
        flags, dtype = value.flags, value.dtype
        if type(value) is np.ndarray and flags.writeable and flags.aligned and dtype.isnative:
            return value
        return np.require(value, dtype.newbyteorder("="), ("ALIGNED", "WRITEABLE", "ENSUREARRAY"))
    if isinstance(value, np.floating | np.integer) and value.dtype.itemsize < 8:
        return value.item()
    if type(value) is tuple:
        plain = tuple(map(_plain, value))
        return value if all(map(operator.is_, plain, value)) else plain
    return value


def kernel(function: _Function) -> _Function:
    """Compiles a function that allocates nothing."""
    return _compile(function, **_OPTIONS)


def inlined_kernel(function: _Function) -> _Function:
    """As :func:`kernel`, copied into its caller: for the hot path, where a call with many arrays costs too much."""
    return _compile(function, inline="always", **_OPTIONS)


def accessor(function: _Function) -> _Function:
    """As :func:`inlined_kernel`, for the few lines that give a place in an array a name; Python cannot call it.

    It is LLVM that copies it, which compiles faster where there are many callers. The larger a function, the slower.
    """
    return _compile(function, forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, **_OPTIONS)


def allocating_kernel(function: _Function) -> _Function:
    """As :func:`kernel`, for functions that create arrays, which needs Numba's reference counting."""
    return _compile(function, error_model="numpy")
