"""Files that are either complete or absent, and checks of where they are to go.

Everything that mapgym keeps is written by :func:`replacing`, or by what is built on it: beside its place, flushed to
the disk, and then renamed. Text from outside becomes a name by :func:`mapgym.system.file_names.file_name`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.system import locks
from mapgym.system.checksums import UNSEALED, is_whole, seal

TEMPORARY_PREFIX = ".unfinished-"
"""Start of the names of files that are being written; one that nobody holds belonged to a killed process."""

_LEFTOVER_DEPTH = 2
"""How far below an output folder files are written."""

_CHECKSUM = "checksum"

_REMEDIES = {
    errno.ENOSPC: "free some space, then give the same command again",
    getattr(errno, "EDQUOT", errno.ENOSPC): "free some space, then give the same command again",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f), then give the same command again",
    errno.EROFS: "name a place that can be written",
    errno.EACCES: "name a place that may be written",
    errno.EPERM: "name a place that may be written",
    errno.ENAMETOOLONG: "give a shorter name",
}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path`` that takes its place when the block ends without an error.

    A reader, or a run that continues after a crash or a power failure, therefore never sees half a file. The block may
    write the file as it likes, as long as it raises when not everything could be written.

    Raises:
        SpecificationError: ``path`` is a link, or the file cannot be written; the old one is still there.
    """
    try:
        _refuse_link(path)
        with _temporary(path.parent) as temporary:
            yield temporary
            flush(temporary)
            temporary.replace(path)
            with contextlib.suppress(OSError):
                # Some systems and file systems cannot flush folders.
                flush(path.parent, os.O_RDONLY)
    except OSError as error:
        raise cannot_write(path, error) from error


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file atomically, see :func:`replacing`."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)
        if temporary.stat().st_size != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically, see :func:`replacing`."""
    write_bytes(path, text.encode())


def write_json(path: Path, data: Mapping[str, object]) -> None:
    """Writes a JSON object with a checksum atomically; not-a-number and infinity are refused: JSON has neither."""
    text = json.dumps({**data, _CHECKSUM: UNSEALED}, indent=1, allow_nan=False) + "\n"
    write_bytes(path, seal(text.encode()))


def read_json(path: Path, *, unsealed: bool = False) -> dict[str, Any]:
    """Reads what :func:`write_json` wrote.

    Args:
        path: the file.
        unsealed: also take a file without a checksum: the first ones had none.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, or something else.
    """
    data = path.read_bytes()
    whole = is_whole(data)
    try:
        found = json.loads(data)
    except RecursionError:
        found = None
    if not isinstance(found, dict) or whole is False or (_CHECKSUM in found) != (whole is True):
        raise ValueError("the checksum does not fit")
    if not whole and not unsealed:
        raise ValueError("there is no checksum")
    return {key: value for key, value in found.items() if key != _CHECKSUM}


def prepare_output_folder(folder: Path) -> None:
    """Makes sure that files can be written into a folder, and removes what killed processes were writing there.

    The folder is made when it is missing.

    Raises:
        SpecificationError: something is in the way, or the folder is not writable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A trial file is the only test that also holds for read-only mounts, quotas and the superuser.
        with _temporary(folder):
            pass
    except OSError as error:
        raise SpecificationError(
            f"cannot write into the output folder {quoted(folder)} ({_reason(error)}); give another folder with -o"
        ) from None
    _remove_leftovers(folder, _LEFTOVER_DEPTH)


def check_output_file(path: Path, inputs: Iterable[Path | str | None] = ()) -> None:
    """Makes sure that a file can be written, without creating it, and removes what killed processes were writing there.

    Args:
        path: the file.
        inputs: what else the user has named; a text may be the path of a file, and a colon may follow.

    Raises:
        SpecificationError: it is a link, a folder or a device, its folder is missing, the folder is not writable, or
            it is one of the inputs.
    """
    try:
        _refuse_link(path)
        if path.exists() and not path.is_file():
            # A device such as /dev/null would be replaced by a file.
            kind = "a folder" if path.is_dir() else "not a file"
            raise SpecificationError(f"cannot write {quoted(path)}, which is {kind}; give the name of a file with -o")
        for given in filter(None, inputs):
            other = str(given)
            if not os.path.exists(other):
                # A layer of a file: FILE:LAYER.
                other = other.partition(":")[0]
            if path.exists() and os.path.exists(other) and path.samefile(other):
                raise SpecificationError(f"cannot write {quoted(path)}, which is read, too; give another file with -o")
        with _temporary(path.parent):
            pass
        _remove_leftovers(path.parent, 0)
    except OSError as error:
        raise SpecificationError(
            f"cannot write {quoted(path)} ({_reason(error)}); give a file in an existing, writable folder with -o"
        ) from None


def cannot_write(path: Path, error: OSError) -> SpecificationError:
    """The answer when a file could not be written: which, why, and what to do."""
    remedy = _REMEDIES.get(error.errno or 0, "check the path, its permissions and the free space")
    return SpecificationError(f"cannot write {quoted(path)} ({_reason(error)}); {remedy}")


@contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    """A new file that exists during the block and that :func:`_remove_leftovers` of no process removes."""
    while True:
        path = folder / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        if locks.hold(file):
            break
        os.close(file)
    try:
        if locks.fcntl is None:  # pragma: no cover - Windows does not rename open files
            os.close(file)
        yield path
    finally:
        path.unlink(missing_ok=True)
        if locks.fcntl is not None:
            os.close(file)


def _remove_leftovers(folder: Path, depth: int) -> None:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(TEMPORARY_PREFIX):
                locks.remove_abandoned(Path(entry.path))
            elif depth and entry.is_dir():
                _remove_leftovers(Path(entry.path), depth - 1)


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise SpecificationError(
            f"cannot write {quoted(path)}, which is a link; remove it, or name the file that it leads to"
        )


def flush(path: Path, flags: int = os.O_RDWR) -> None:
    """Waits until the disk has a file, or the names in a folder."""
    file = os.open(path, flags)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
