"""A folder that keeps one file for each piece of work, so that whoever is interrupted continues where they were."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from mapgym.errors import SpecificationError
from mapgym.system.files import prepare_output_folder
from mapgym.system.locks import FolderLocks

DAMAGED_SUFFIX = ".damaged"
"""What follows the name of a file that could not be read and was set aside."""

Found = TypeVar("Found")
Item = TypeVar("Item")


@dataclass(frozen=True)
class Work(Generic[Found]):
    """A piece of work.

    Attributes:
        file: where its result is kept, below the folder; differs for different work.
        read: the result in that file; None if it is to be made anew, since it is that of other settings.
        make: does the work.
        write: keeps the result in that file, atomically.
    """

    file: str
    read: Callable[[Path], Found | None]
    make: Callable[[], Found]
    write: Callable[[Path, Found], None]


class Store:
    """Does each piece of work once, whoever else works in the same folder and however often they are interrupted.

    An interruption (KeyboardInterrupt) passes through; what was finished before it is in the folder. Several processes
    may do the same work in the same folder: each piece is done by one of them.

    Attributes:
        path: the folder.
    """

    def __init__(
        self, path: Path | str, damaged: Callable[[Path], None] = lambda path: None, *, set_aside: bool = False
    ) -> None:
        """Names the folder; nothing is read or written yet.

        Args:
            path: the folder.
            damaged: told of each file that cannot be read.
            set_aside: whether such a file is renamed before its work is done anew; else it is replaced.
        """
        self.path = Path(path)
        self._tell_damaged = damaged
        self._set_aside = set_aside
        self._locks: FolderLocks | None = None

    @contextmanager
    def opened(self) -> Iterator[FolderLocks]:
        """Takes part in the work during the block; a process does so once at a time, in one thread."""
        with FolderLocks(self.path) as locks:
            self._locks = locks
            try:
                yield locks
            finally:
                self._locks = None

    def lock(self, file: str, *, wait: bool = False) -> AbstractContextManager[bool]:
        """Holds the lock of a piece of work during the block; yields whether it could be had, as it can by waiting."""
        assert self._locks is not None  # the folder must be opened
        return self._locks.work(file, waiting=(lambda: None) if wait else None)

    def read(self, file: str, read: Callable[[Path], Found | None], *, set_aside: bool = False) -> Found | None:
        """What a file holds.

        Args:
            file: its path below the folder.
            read: reads it; what it raises because of the user (SpecificationError) passes through.
            set_aside: rename a file that cannot be read; only for who holds its lock.

        Returns:
            What ``read`` returned; None if there is no file or it cannot be read. It can be made again, so that a
            strange file is no mistake of the user.
        """
        path = self.path / file
        try:
            return read(path)
        except FileNotFoundError:
            pass
        except SpecificationError:
            raise
        except (OSError, KeyError, TypeError, ValueError):
            if set_aside:
                path = path.replace(path.with_name(path.name + DAMAGED_SUFFIX))
            self._tell_damaged(path)
        return None

    def do(self, work: Work[Found], *, wait: bool = False) -> tuple[Found, bool] | None:
        """Does a piece of work unless it is done.

        Args:
            work: what to do.
            wait: for another process that is at it.

        Returns:
            The result, and whether it was there; None if another process is at it.
        """
        with self.lock(work.file, wait=wait) as is_ours:
            if not is_ours:
                return None
            earlier = self.read(work.file, work.read, set_aside=self._set_aside)
            if earlier is not None:
                return earlier, True
            path = self.path / work.file
            path.parent.mkdir(parents=True, exist_ok=True)
            result = work.make()
            work.write(path, result)
            return result, False

    def do_all(
        self,
        items: Iterable[Item],
        work: Callable[[Item], Work[Found]],
        finished: Callable[[Item, Found, bool], None],
    ) -> list[Found]:
        """Does one piece of work after the other; what another process is at is waited for.

        Args:
            items: what the work is about.
            work: the work of an item.
            finished: told of each result, and whether it had been there already, before the next item.

        Returns:
            The result of each item.

        Raises:
            SpecificationError: the folder is not writable.
        """
        prepare_output_folder(self.path)
        results = []
        with self.opened():
            for item in items:
                done = self.do(work(item), wait=True)
                assert done is not None  # it has waited
                results.append(done[0])
                finished(item, *done)
        return results
