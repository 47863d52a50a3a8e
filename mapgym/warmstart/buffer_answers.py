"""What is said when the file of a replay buffer cannot be read or written, and how long others are waited for."""

from __future__ import annotations

import errno
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.system.locks import fcntl, without_locks

PATIENCE_SECONDS = 60.0
"""How long others may write before an addition is given up."""

SLICE_SECONDS = 1.0
"""How long SQLite waits by itself; Ctrl-C waits as long."""

JOURNALS = ("-journal", "-wal", "-shm")
"""What SQLite may keep beside a file, by the end of its name."""

_T = TypeVar("_T")
_PAUSE_SECONDS = 0.05
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_NO_LOCKS = (
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOLFS,
    sqlite3.SQLITE_IOERR_LOCK,
    sqlite3.SQLITE_IOERR_RDLOCK,
    sqlite3.SQLITE_IOERR_UNLOCK,
    sqlite3.SQLITE_IOERR_CHECKRESERVEDLOCK,
)
_NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_TRUNCATE)
_NO_ROOM_ERRNOS = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
_NO_LOCK_ERRNOS = (errno.ENOLCK, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)


class NoLocksError(Exception):
    """The file system cannot lock files."""


class BusyError(Exception):
    """Others write, or have locked the file otherwise."""


class DamagedError(Exception):
    """Pages of the file are damaged; the argument says how."""


def patiently(path: Path, attempt: Callable[[], _T]) -> _T:
    """Repeats what others are in the way of, until it succeeds or a minute is over.

    Raises:
        NoLocksError: it is the file system that is in the way.
        sqlite3.Error, BusyError: what has been in the way.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return attempt()
        except (sqlite3.OperationalError, BusyError) as error:
            if isinstance(error, sqlite3.Error) and error.sqlite_errorcode & 0xFF not in _BUSY:
                raise
            # To SQLite both are the same.
            if not _has_locks(path.parent):
                raise NoLocksError from None
            if time.monotonic() > deadline:
                raise
        time.sleep(_PAUSE_SECONDS)


@contextmanager
def locking(path: Path) -> Iterator[None]:
    """Holds the lock of a text file, as the writers of that format take it, during the block.

    Raises:
        BusyError: others hold it.
        NoLocksError: the file system has none.
    """
    with path.open("rb") as file:
        if fcntl is not None and not without_locks():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BusyError from None
            except OSError as error:
                if error.errno in _NO_LOCK_ERRNOS:
                    raise NoLocksError from None
                raise
        yield


@contextmanager
def answered(path: Path, what: str) -> Iterator[None]:
    """Turns whatever goes wrong with a file in the block into one sentence.

    Args:
        path: the file.
        what: "read", "write" or "repair".
    """
    start = f"cannot {what} the replay buffer {quoted(path)}"
    kept = "; nothing was added" if what == "write" else ""
    try:
        yield
    except NoLocksError:
        raise _without_locks(start) from None
    except BusyError:
        raise SpecificationError(f"{start}: others are using it{kept}; {_TOO_LONG}") from None
    except DamagedError as error:
        raise SpecificationError(f"{start}, which is damaged ({error}){kept}; {_REPAIR}") from None
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        if code in _NO_LOCKS:
            raise _without_locks(start) from None
        raise SpecificationError(f"{start} ({error}){kept}; {_remedy(code)}") from None
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        remedy = _ROOM if error.errno in _NO_ROOM_ERRNOS else _PERMISSIONS
        raise SpecificationError(f"{start} ({reason}){kept}; {remedy}") from None


def refuse_link(path: Path) -> None:
    """Raises SpecificationError if a path, or what SQLite keeps beside it, is a link: it would be written through."""
    for name in (path, *(path.with_name(path.name + end) for end in JOURNALS)):
        if name.is_symlink():
            raise SpecificationError(
                f"cannot write the replay buffer {quoted(path)}: {quoted(name)} is a link; remove it, or name the file "
                "that it leads to"
            )


_TOO_LONG = (
    "wait until they are done, or end a process that has been stopped, and try again (on a file system without locks, "
    "set MAPGYM_NO_LOCKS=1)"
)
_ROOM = "make room on the disk, or raise the limit of file sizes, and try again"
_REPAIR = "move what is damaged aside with: mapgym buffer verify --repair"
_PERMISSIONS = "name a file in a folder that can be written, or mend the permissions of both"


def _without_locks(start: str) -> SpecificationError:
    return SpecificationError(
        f"{start}: it lies on a file system that cannot lock files; give --no-locks (or set MAPGYM_NO_LOCKS=1) if no "
        "other process uses it at the same time, or use another disk"
    )


def _remedy(code: int) -> str:
    if code in _NO_ROOM:
        return _ROOM
    kind = code & 0xFF
    if kind in _BUSY:
        return _TOO_LONG
    if kind in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN):
        return _PERMISSIONS
    if kind in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _REPAIR
    if kind == sqlite3.SQLITE_TOOBIG:
        return "shorten the names in it"
    if kind == sqlite3.SQLITE_ERROR:
        return "use a copy of it, or make a new one"
    return "check the disk, and try again"


def _has_locks(folder: Path) -> bool:
    """Whether files in a folder can be locked, as far as can be told."""
    if fcntl is None or without_locks():
        return True
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _NO_LOCK_ERRNOS
    return True
