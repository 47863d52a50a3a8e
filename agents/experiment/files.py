"""Output files that are either complete or absent, and checks of where they are to go."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mapgym.errors import SpecificationError
from mapgym.text import quoted

TEMPORARY_PREFIX = ".unfinished-"
"""Start of the names of files that are being written; one that is left over belonged to a killed process."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path`` that takes its place when the block ends without an error.

    A reader, or a run that continues after a crash, therefore never sees half a file. A link keeps
    pointing where it did; what it points to is replaced.
    """
    path = path.resolve()
    handle, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files private; results get the permissions that an ordinary new file would have.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, data: object) -> None:
    """Writes a JSON file atomically; not-a-number and infinity are refused because JSON has neither."""
    write_text(path, json.dumps(data, indent=1, allow_nan=False) + "\n")


def prepare_output_folder(folder: Path) -> None:
    """Makes sure that files can be written into a folder, creating it when it is missing.

    Raises:
        SpecificationError: something is in the way, or the folder is not writable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A trial file is the only test that also holds for read-only mounts, quotas and the superuser.
        with tempfile.NamedTemporaryFile(prefix=TEMPORARY_PREFIX, dir=folder):
            pass
    except OSError as error:
        raise SpecificationError(
            f"cannot write into the output folder {quoted(folder)} ({_reason(error)}); give another folder with -o"
        ) from None


def check_output_file(path: Path) -> None:
    """Makes sure that a file can be written, without creating it.

    Raises:
        SpecificationError: it is a folder or a device, its folder is missing, or the folder is not writable.
    """
    if path.exists() and not path.is_file():
        # A device such as /dev/null would be replaced by a file.
        kind = "a folder" if path.is_dir() else "not a file"
        raise SpecificationError(f"cannot write {quoted(path)}, which is {kind}; give the name of a file with -o")
    try:
        with tempfile.NamedTemporaryFile(prefix=TEMPORARY_PREFIX, dir=path.resolve().parent):
            pass
    except OSError as error:
        raise SpecificationError(
            f"cannot write {quoted(path)} ({_reason(error)}); give a file in an existing, writable folder with -o"
        ) from None


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
