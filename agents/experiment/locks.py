"""Locks that keep two processes from the same work and vanish with the process that holds them, however it ends.

One file holds all locks of a folder, one byte for each piece of work: POSIX record locks need no byte to be there, and
the system releases them when their process dies, so that there are no stale ones. Systems without them (Windows) get
locks that never refuse; there, do not start two experiments on one folder.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # pragma: no cover - no POSIX
    fcntl = None

_IN_USE = 0
"""The byte that everybody who works in the folder shares."""


class FolderLocks:
    """The locks of one folder; a process must have one such object for it at a time, used by one thread.

    A process that closes any handle of the file loses all of its locks, and has no conflicts with itself.
    """

    def __init__(self, folder: Path) -> None:
        self._file = open(folder / ".locks", "a+b")  # noqa: SIM115 - kept open as long as the locks are needed

    def close(self) -> None:
        """Releases everything."""
        self._file.close()

    def join(self, when_alone: Callable[[], None]) -> None:
        """Marks the folder as in use by this process until :meth:`close`.

        Args:
            when_alone: called first if nobody else uses the folder; whoever comes meanwhile waits.
        """
        if self._lock(_IN_USE):
            when_alone()
        if fcntl is not None:
            fcntl.lockf(self._file, fcntl.LOCK_SH, 1, _IN_USE)

    @contextmanager
    def work(self, name: str) -> Iterator[bool]:
        """Holds the lock of a piece of work during the block; yields whether it could be had."""
        digest = hashlib.sha256(name.encode()).digest()
        byte = 1 + int.from_bytes(digest[:6], "big")
        is_ours = self._lock(byte)
        try:
            yield is_ours
        finally:
            if is_ours and fcntl is not None:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte)

    def _lock(self, byte: int) -> bool:
        if fcntl is None:
            return True
        with contextlib.suppress(BlockingIOError, PermissionError):
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
            return True
        return False
