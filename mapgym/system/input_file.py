"""Reads files that come from outside, within limits that nothing which people write comes near."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import IO, Any

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted, shortened

MOST_BYTES = 16 * 2**20
"""Size of a file that is read at once, and of a line of one that is read line by line."""

MOST_UNPACKED_BYTES = 4 * 2**30
"""Size of a file that is read line by line, unpacked."""

DEEPEST = 100
"""Levels of nesting."""

LONGEST_NUMBER = 400
"""Digits of a whole number; float64 ends at 309."""


def read_text(path: Path | Traversable, kind: str) -> str:
    """The text of a file.

    Args:
        path: the file, UTF-8; one whose name ends in .gz is unpacked.
        kind: what should be in it, for messages.

    Raises:
        SpecificationError: it is missing, unreadable, too large, or not UTF-8.
    """
    try:
        with _open(path) as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise SpecificationError(f"{path}: there is no such file; check the path") from None
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise SpecificationError(f"{path}: cannot be read ({_reason(error)}); give a readable file") from None
    if len(data) > MOST_BYTES:
        raise SpecificationError(f"{path}: is larger than {MOST_BYTES >> 20} MiB; give {kind}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SpecificationError(f"{path}: is not UTF-8 text; give {kind}") from None


def read_lines(path: Path, kind: str) -> Iterator[tuple[int, str]]:
    """Yields the lines of a file that are not blank, with their numbers from 1.

    Args:
        path: the file, UTF-8; one whose name ends in .gz is unpacked.
        kind: what should be in it, for messages.

    Raises:
        SpecificationError: it is missing, unreadable or cut off, not UTF-8, or has a line that is too long.
    """
    number = size = 0
    try:
        with _open(path) as file:
            while line := file.readline(MOST_BYTES + 1):
                number += 1
                size += len(line)
                if len(line) > MOST_BYTES or size > MOST_UNPACKED_BYTES:
                    limit = f"{MOST_BYTES >> 20} MiB a line and {MOST_UNPACKED_BYTES >> 30} GiB in all"
                    raise SpecificationError(f"{path}: line {number} is beyond {limit}; give {kind}")
                if line.strip():
                    yield number, line.decode("utf-8")
    except SpecificationError:
        raise
    except UnicodeDecodeError:
        raise SpecificationError(f"{path}: line {number} is not UTF-8 text; give {kind}") from None
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise SpecificationError(f"{path}: cannot read it ({_reason(error)}); give {kind}") from None


def parse_json(text: str, where: str, remedy: str) -> Any:
    """What JSON stands for.

    Args:
        text: the JSON.
        where: file and line, for messages.
        remedy: what to do about text that is none.

    Raises:
        SpecificationError: it is not JSON, nested too deeply, or has a number of absurd length.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise SpecificationError(f"{where} is nested too deeply to be read; {remedy}") from None
    except ValueError as error:
        raise SpecificationError(f"{where} is not JSON ({shortened(str(error), 200)}); {remedy}") from None


def _open(path: Path | Traversable) -> IO[bytes] | gzip.GzipFile:
    if isinstance(path, Path) and path.suffix == ".gz":
        return gzip.open(path, "rb")
    return path.open("rb")


def _reason(error: Exception) -> str:
    return quoted(str(getattr(error, "strerror", None) or error)).strip("'\"")
