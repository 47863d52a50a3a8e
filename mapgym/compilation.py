"""How the kernels are compiled: one decorator, so that all of them obey the same rules."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from numba import config, njit, types
from numba.core import event

_Function = TypeVar("_Function", bound=Callable[..., Any])

# - cache: compiled code is kept on disk, so that only the first use ever waits.
# - error_model="numpy": no test for a zero divisor before each division.
# - _nrt: kernels allocate nothing, so that counting references to their arrays (an atomic operation at each access to
#   a field) is left out; that makes the cost kernel about eight times faster.
# - never fastmath: figures equal Timeloop's only if additions keep their order.
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "_nrt": False}
_PACKAGE = Path(__file__).parent


def _files_with_kernels() -> list[Path]:
    patterns = ("compilation.py", "legality.py", "construction*.py", "cost/*.py", "**/*kernels.py")
    return [path for pattern in patterns for path in _PACKAGE.glob(pattern)]


def _stamp(files: Sequence[Path]) -> tuple[float, int]:
    """Changes when any of the modules does.

    Numba looks only at the file of a cached function, and would go on running kernels that contain the former code of
    another module.
    """
    found = [path.stat() for path in files]
    return max(file.st_mtime for file in found), sum(file.st_size for file in found)


@cache
def _stamp_of(folder: Path) -> tuple[float, int]:
    """The stamp of kernels in a folder: ours, and for folders elsewhere (agents) those modules of theirs as well."""
    own = [] if folder.is_relative_to(_PACKAGE) else [*folder.glob("*kernels.py")]
    return _stamp([*_files_with_kernels(), *own])


class _Announcement(event.Listener):
    """Says, once in a process, why the first use of a kernel takes long."""

    made = False

    def on_start(self, event: event.Event) -> None:
        if not _Announcement.made:
            _Announcement.made = True
            print(
                "mapgym: compiling kernels for their first use; this can take a minute, and is kept on disk ...",
                file=sys.stderr,
            )

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
    try:
        dispatcher = njit(**options, cache=True)(function)
    except RuntimeError:
        # Neither the package's folder nor the user's cache folder can be written: every process compiles anew.
        dispatcher = njit(**options)(function)
    else:
        # Numba has no public way to say so; a test guards that this one works.
        dispatcher._cache._cache_file._source_stamp = _stamp_of(Path(inspect.getfile(function)).resolve().parent)
    compile_signature = dispatcher.compile

    def compile_once(signature: Any) -> Any:
        # A constant argument is no reason to compile the function again for that constant.
        with _scalar_loops(), event.install_listener("numba:compile", _Announcement()):
            return compile_signature(tuple(map(types.unliteral, signature)))

    dispatcher.compile = compile_once
    return dispatcher


def kernel(function: _Function) -> _Function:
    """Compiles a function that allocates nothing."""
    return _compile(function, **_OPTIONS)


def inlined_kernel(function: _Function) -> _Function:
    """As :func:`kernel`, copied into its caller: for the hot path, where a call with many arrays costs too much."""
    return _compile(function, inline="always", **_OPTIONS)


def allocating_kernel(function: _Function) -> _Function:
    """As :func:`kernel`, for functions that create arrays, which needs Numba's reference counting."""
    return _compile(function, error_model="numpy")
