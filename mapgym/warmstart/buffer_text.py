"""Version 1 of the file of a replay buffer, which is read and converted, and not written any more.

It is text, one record a line: a CRC-32 of the rest of the line (eight hexadecimal digits), a kind, and fields separated
by tabs. Definitions (``S`` the structure of workloads, ``A`` accelerator: each a key and JSON) precede the entries that
use them (``E``: keys of structure and accelerator, objective, value, name and bounds of the workload, mapping). A
writer that was killed in the middle of a line left one without its end.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.warmstart.buffer_contents import ACCELERATORS, STRUCTURES, Contents, Damage, Definition, Row

VERSION = 1
_NAME = "mapgym replay buffer"
_HEADER = f"{_NAME}\t{VERSION}"
_TABLES = {b"S": STRUCTURES, b"A": ACCELERATORS}


@dataclass
class TextBuffer:
    """What an old file has.

    Attributes:
        contents: all good entries, and what is damaged.
        definitions: the good ones, in their order.
        rows: the good ones, in their order.
        damaged_lines: the others, as they are.
    """

    contents: Contents = field(default_factory=Contents)
    definitions: list[Definition] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    damaged_lines: list[bytes] = field(default_factory=list)


def parse(data: bytes, path: Path) -> TextBuffer:
    """Reads the content of an old file.

    Raises:
        SpecificationError: it is something else, or of another version.
    """
    found = TextBuffer()
    if _HEADER.encode().startswith(data):
        return found  # Its first writer died in the first line.
    header = data.partition(b"\n")[0].decode("utf-8", "replace")
    if header != _HEADER:
        name, _, version = header.partition("\t")
        if name == _NAME:
            raise SpecificationError(
                f"{quoted(path)} is a replay buffer of version {quoted(version)}, which is not known here; make a new "
                "one with the mapgym that is installed"
            )
        raise SpecificationError(f"{quoted(path)} is not a replay buffer; give the path of one, or of a new file")
    for number, line in _lines(data):
        why = _read(line, found)
        if why:
            found.contents.damaged.append(Damage(number, why, line.decode("utf-8", "replace")))
            found.damaged_lines.append(line)
    return found


def _lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The lines below the first that are not empty, with their numbers from 1."""
    for number, line in enumerate(data.split(b"\n"), 1):
        if line and number > 1:
            yield number, line


def _read(line: bytes, found: TextBuffer) -> str:
    """Takes in one line; returns what is wrong with it, "" if nothing."""
    if line[:8] != b"%08x" % zlib.crc32(line[9:]):
        return "the checksum does not fit: the line was cut off or edited"
    kind, *fields = line[9:].split(b"\t")
    if kind in _TABLES and len(fields) == 2:
        definition = Definition(_TABLES[kind], fields[0], fields[1])
        if why := found.contents.define(definition):
            return why
        found.definitions.append(definition)
        return ""
    if kind != b"E" or len(fields) != 7:
        return f"unknown kind of line {quoted(kind.decode('utf-8', 'replace'))}"
    try:
        value = float(fields[3])
    except ValueError:
        value = math.nan
    structure, accelerator, objective, _, name, bounds, mapping = fields
    row = Row(structure, accelerator, objective, value, name, bounds, mapping)
    if why := found.contents.take(row, None):
        return why
    found.rows.append(row)
    return ""
