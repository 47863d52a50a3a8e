"""Locks that keep two processes from the same work and vanish with the process that holds them, however it ends.

One file holds all locks of a folder, one byte for each piece of work: POSIX record locks need no byte to be there, and
the system releases them when their process dies, so that there are no stale ones. Systems without them (Windows) get
locks that never refuse; there, do not start two commands on one folder. Some file systems have no locks either: there
the environment variable ``MAPGYM_NO_LOCKS``, which the option ``--no-locks`` sets for a command and its worker
processes, says that nobody else is at work.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # pragma: no cover - no POSIX
    fcntl = None

NO_LOCKS = "MAPGYM_NO_LOCKS"
"""Environment variable; whatever it is set to, "" and "0" apart, says that nobody else works on the same files."""

LOCK_FILE = ".locks"

_SECONDS_BETWEEN_TRIALS = 0.2
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0)


def without_locks() -> bool:
    """Whether the user has said that nobody else works on the same files, so that nothing needs to be locked."""
    return os.environ.get(NO_LOCKS, "0") not in ("", "0")


def no_locks(path: Path, error: OSError) -> SpecificationError:
    """The answer to a file system that has no locks."""
    return SpecificationError(
        f"{quoted(path)} lies on a file system that cannot lock files ({error.strerror or type(error).__name__}); give "
        f"--no-locks (or set {NO_LOCKS}=1) if no other process works there at the same time, or use another disk"
    )


class FolderLocks:
    """The locks of one folder; a process must have one such object for it at a time, used by one thread.

    A process that closes any handle of the file loses all of its locks, and has no conflicts with itself.

    Raises:
        SpecificationError: the file of the locks is a link or no file.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK_FILE
        self._file: int | None = None
        if fcntl is not None and not without_locks():
            self._file = _opened(self._path)

    def close(self) -> None:
        """Releases everything."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> FolderLocks:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def work(self, name: str, waiting: Callable[[], None] | None = None) -> Iterator[bool]:
        """Holds the lock of a piece of work during the block; yields whether it could be had.

        Args:
            name: of the work.
            waiting: if another process is at it, called again and again until the lock can be had; it cannot be had
                when left out.

        Raises:
            SpecificationError: the file system has no locks.
        """
        byte = int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:6], "big")
        is_ours = self._lock(byte)
        while waiting is not None and not is_ours:
            waiting()
            time.sleep(_SECONDS_BETWEEN_TRIALS)
            is_ours = self._lock(byte)
        try:
            yield is_ours
        finally:
            if is_ours and self._file is not None:
                assert fcntl is not None  # there would be no file
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte)

    def _lock(self, byte: int) -> bool:
        if self._file is None:
            return True
        assert fcntl is not None  # there would be no file
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except (BlockingIOError, PermissionError):
            return False
        except OSError as error:
            raise no_locks(self._path.parent, error) from None
        return True


def _opened(path: Path) -> int:
    """The file of the locks, which holds nothing, opened for locking."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINKS, 0o666)
    except OSError as error:
        if path.is_symlink():
            raise SpecificationError(f"{quoted(path)} is a link; remove it, mapgym makes a file in its place") from None
        raise error
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise SpecificationError(f"{quoted(path)} is no file; remove it, mapgym makes a file in its place")
    return file


@contextmanager
def alone_with(path: Path) -> Iterator[None]:
    """Waits for other processes that read, change and write the same file, and makes them wait during the block.

    What is locked is the folder of the file, since the file may be missing and is replaced. Where folders cannot be
    locked, nobody waits: then the file is read as late as possible, and that is all.
    """
    if fcntl is None or without_locks():
        yield
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def hold(file: int) -> bool:
    """Marks an open file as in use until it is closed; returns False if it is gone, or about to go.

    Where files cannot be locked it counts as held.
    """
    if fcntl is not None and not without_locks():
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True
    return os.fstat(file).st_nlink > 0


def remove_abandoned(path: Path) -> None:
    """Removes a file unless somebody holds it (see :func:`hold`); without locks nobody does.

    What cannot be locked or removed stays.
    """
    with contextlib.suppress(OSError):
        if fcntl is None or without_locks():
            path.unlink()
            return
        file = os.open(path, os.O_RDWR | os.O_NONBLOCK | _NO_LINKS)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Still locked: whoever has just made it and holds it next sees that it is gone.
            path.unlink()
        finally:
            os.close(file)
