"""Compiled kernels on disk: Numba's cache, made safe against what can happen to its files.

Numba keeps machine code in pickles, and trusts them. Here an entry counts only if it is what was written for exactly
this kernel; whatever else is there (stale, cut off, of another kernel, unreadable) counts as absent and is written
anew. A folder that other users can write is not used at all, because reading a pickle executes what is in it.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
import stat
import sys
import time
import types
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from numba import config
from numba.core.caching import FunctionCache, IndexDataCacheFile, NullCache
from numba.core.dispatcher import Dispatcher
from numba.core.serialize import dumps
from numba.core.types import BaseNamedTuple, BaseTuple, Optional

from mapgym.errors import SpecificationError
from mapgym.system.locks import FolderLocks

_SETTINGS = ("BOUNDSCHECK", "LOOP_VECTORIZE", "OPT", "SLP_VECTORIZE")
"""Settings of Numba for a whole process that change what it compiles."""

_LONGEST_TURN = 300.0
"""Seconds for which a process waits until another one has compiled what both need."""

_SEAL_BYTES = hashlib.sha256().digest_size


def open_cache(dispatcher: Any) -> Any:
    """The cache of a kernel, or one that keeps nothing where there is no folder for it that can be written and trusted.

    Args:
        dispatcher: the compiled function. All kernels that it calls are defined by now, and all settings are made.
    """
    function = dispatcher.py_func
    try:
        cache = _KernelCache(function, stamp(dispatcher))
    except RuntimeError:
        _warn("neither the package's folder nor your own cache folder can be written")
        return NullCache()
    if danger := _danger(Path(cache.cache_path), Path(function.__code__.co_filename)):
        _warn(f"{danger}, and what is kept there is executed")
        return NullCache()
    return cache


def is_kept() -> bool:
    """Whether what is compiled is kept on disk, as far as is known yet."""
    return not _Warning.made


def say(text: str) -> None:
    """Prints a line to stderr, where there is one."""
    with suppress(OSError, ValueError):
        if sys.stderr is not None:
            print(f"mapgym: {text}", file=sys.stderr, flush=True)


class _Warning:
    """Says, once in a process, why compiled kernels are not kept."""

    made = False


def _warn(reason: str) -> None:
    if not _Warning.made:
        _Warning.made = True
        say(
            f"compiled kernels are not kept, so that each start compiles anew: {reason}; set NUMBA_CACHE_DIR to a "
            "folder that is yours alone"
        )


class _KernelCache(FunctionCache):
    """Numba's cache of one function, to which no state of the files is an error.

    Of several processes that need a kernel at once, one compiles it, and the others take what it keeps.
    """

    def __init__(self, function: Any, freshness: str) -> None:
        super().__init__(function)
        self._cache_file = _SealedFiles(self._cache_path, self._impl.filename_base, freshness)
        self._turns: dict[Any, ExitStack] = {}

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        """Of the machine code for a signature: to Numba, named tuples with other names in other places are the same."""
        return (*super()._index_key(sig, codegen), *_field_names(sig))

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """What is kept for a signature; None if that is nothing, or nothing sound, and it is to be compiled here."""
        found = self._load(sig, target_context)
        if found is None:
            turn = ExitStack()
            with suppress(OSError):
                self._impl.locator.ensure_cache_path()
            waited = turn.enter_context(_turn(Path(self._cache_path), f"{self._impl.filename_base} {sig}"))
            found = self._load(sig, target_context) if waited else None
            if found is None:
                self._turns[sig] = turn
            else:
                turn.close()
        return found

    def _load(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:
            # Sound, and yet no code that this version of Numba or LLVM can take.
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keeps what was compiled, if that can be."""
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _warn(f"cannot write into {str(self._cache_path)!r} ({_reason(error)})")
        finally:
            if (turn := self._turns.pop(sig, None)) is not None:
                turn.close()


@contextmanager
def _turn(folder: Path, kernel: str) -> Iterator[bool]:
    """Compiles a kernel alone, as far as files can be locked; yields whether another process was at it meanwhile.

    Nobody waits for each other in a circle: who compiles a kernel needs those that it calls, and these do not call it.
    """
    waited = False
    deadline = time.monotonic() + _LONGEST_TURN

    def waiting() -> None:
        nonlocal waited
        waited = True
        if time.monotonic() > deadline:
            raise TimeoutError

    with ExitStack() as held:
        # Without locks, and behind a process that never ends, everyone compiles for themselves.
        with suppress(OSError, SpecificationError):
            held.enter_context(_locks(folder).work(kernel, waiting))
        yield waited


@functools.cache
def _locks(folder: Path) -> FolderLocks:
    return FolderLocks(folder)


def _field_names(kind: Any) -> Iterator[tuple[str, ...]]:
    """The fields of all named tuples in a signature or a type of Numba, in order."""
    if isinstance(kind, BaseNamedTuple):
        yield tuple(getattr(kind, "fields"))  # noqa: B009 - which Numba declares for its subclasses only
    if isinstance(kind, Optional):
        yield from _field_names(kind.type)
    elif isinstance(kind, tuple | BaseTuple):
        for entry in iter(kind):  # type: ignore[arg-type]
            yield from _field_names(entry)


class _SealedFiles(IndexDataCacheFile):
    """Numba's index and data files; machine code carries a digest of itself and of what it is the code of."""

    def save(self, key: Any, data: Any) -> None:
        payload = dumps(data)
        super().save(key, self._seal(key, payload) + payload)

    def load(self, key: Any) -> Any:
        try:
            sealed = super().load(key)
            payload = sealed[_SEAL_BYTES:]
            return pickle.loads(payload) if sealed == self._seal(key, payload) + payload else None
        except Exception:
            # Damaged pickles raise nearly anything.
            return None

    def _load_index(self) -> dict[Any, Any]:
        try:
            index = super()._load_index()
        except Exception:
            return {}
        return index if isinstance(index, dict) else {}

    def _seal(self, key: Any, payload: bytes) -> bytes:
        return hashlib.sha256(f"{self._version} {self._source_stamp} {key}".encode() + payload).digest()


def stamp(dispatcher: Any) -> str:
    """A digest of all that the machine code of a kernel is made of.

    That is the code, the options and the constants of the kernel and of all kernels that it calls, however deep, in
    whatever module they are. Numba looks only at the file of the function, and would go on running machine code that
    contains what another file held before.
    """
    digest = hashlib.sha256(str([getattr(config, name) for name in _SETTINGS]).encode())
    seen, waiting = {id(dispatcher)}, [dispatcher]
    while waiting:
        own, called = _parts(waiting.pop())
        digest.update(own)
        for other in called:
            if id(other) not in seen:
                seen.add(id(other))
                waiting.append(other)
    return digest.hexdigest()


@functools.cache
def _parts(dispatcher: Any) -> tuple[bytes, tuple[Any, ...]]:
    """Digest of a kernel alone, and the kernels that it names."""
    function = dispatcher.py_func
    digest = hashlib.sha256(f"{function.__qualname__} {sorted(dispatcher.targetoptions.items())}".encode())
    digest.update(dumps(function.__defaults__))
    named: dict[str, Any] = {}
    for code in _codes(function.__code__):
        constants = [constant for constant in code.co_consts if not isinstance(constant, types.CodeType)]
        digest.update(repr((code.co_code, code.co_names, constants)).encode())
        for name in code.co_names:
            value = function.__globals__.get(name)
            named[name] = value
            if isinstance(value, types.ModuleType):
                # Which of the names are its attributes, the code does not say.
                named[name] = value.__name__
                named |= {f"{name}.{entry}": getattr(value, entry, None) for entry in code.co_names}
    if function.__closure__:
        cells = zip(function.__code__.co_freevars, function.__closure__, strict=True)
        named |= {name: cell.cell_contents for name, cell in cells}
    called = []
    for name, value in sorted(named.items()):
        if isinstance(value, Dispatcher):
            called.append(value)
        else:
            digest.update(dumps((name, value.__name__ if isinstance(value, types.ModuleType) else value)))
    return digest.digest(), tuple(called)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code object and those of the functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


@functools.cache
def _danger(folder: Path, source: Path) -> str:
    """Why files in a folder cannot be trusted; empty if they can.

    The folder, and the one that it lies in, must belong to this user, to the superuser or to the owner of the source.
    Others may not write there, nor put another folder in the place of one farther up. All of this ends where the source
    lies, too: whoever can change that decides what runs anyway.

    Args:
        folder: of the cache.
        source: the file of the kernel.
    """
    if not hasattr(os, "geteuid"):
        return ""
    try:
        folder, source = folder.resolve(), source.resolve()
        code = source.stat()
        for depth, path in enumerate((folder, *folder.parents)):
            if source.is_relative_to(path):
                break
            found = path.stat()
            if depth < 2 and found.st_uid not in (os.geteuid(), 0, code.st_uid):
                return f"{str(path)!r} belongs to another user"
            if depth and found.st_mode & stat.S_ISVTX:
                continue  # all may make files there, but not move those of others
            if found.st_mode & ~code.st_mode & stat.S_IWOTH:
                return f"all users can write into {str(path)!r}"
            same_group = found.st_gid == code.st_gid and code.st_mode & stat.S_IWGRP
            if found.st_mode & stat.S_IWGRP and not same_group and not _is_private(found.st_gid):
                return f"a group of users can write into {str(path)!r}"
    except OSError as error:
        return f"cannot look at {str(folder)!r} ({_reason(error)})"
    return ""


@functools.cache
def _is_private(group: int) -> bool:
    """Whether a group is that of this user alone: of the same name, and without other members."""
    import grp
    import pwd

    try:
        name, entry = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(group)
    except KeyError:
        return False
    return entry.gr_name == name and set(entry.gr_mem) <= {name}


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
