"""What a command has written, by content, for comparisons: figures and texts without times, and no bytes of pictures.

A folder becomes a flat dict from places (file, and place in it) to values. Places whose name speaks of time, of the
machine or of the command are left out; what else differs between two undisturbed runs is left out by whoever compares.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from mapgym.agents.learned.stored_arrays import read_arrays
from mapgym.warmstart import ReplayBuffer

# The second figure of the evaluations of a training is its seconds.
_VARIABLE = re.compile(
    r"second|time|date|_at\b|duration|cpu|wall|machine|command|memory|checksum|version|/s$|\bs$|per_s\b|speed|faster"
    r"|\bms\b|\bus\b|/evaluations/\d+/1$",
    re.IGNORECASE,
)
_TIME_TEXT = re.compile(r"[\d.,]+\s*(s|ms|us|seconds|minutes|min|h|hours|CPU seconds)\b")
_UNFINISHED = re.compile(r"^\.unfinished-|^\.tmp|\.tmp$|^\.(?!locks$).*\.(new|partial)$|-journal$|-wal$|-shm$")

Contents = dict[str, Any]


def contents(folder: Path) -> Contents:
    """Everything below a folder, see the module."""
    found: Contents = {}
    for path in sorted(folder.rglob("*")):
        # Logs for TensorBoard are named after the process and the time.
        if path.is_file() and not path.name.startswith((".locks", "events.out")) and not _UNFINISHED.search(path.name):
            name = str(path.relative_to(folder))
            for place, value in _read(path):
                if not _VARIABLE.search(place):
                    found[f"{name}{place}"] = value
    return found


def leftovers(folder: Path) -> list[str]:
    """Temporary files of killed processes."""
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if _UNFINISHED.search(path.name)]


def differences(one: Contents, other: Contents) -> set[str]:
    """Places at which two contents differ."""
    nothing = object()
    return {place for place in one.keys() | other.keys() if one.get(place, nothing) != other.get(place, nothing)}


def _read(path: Path) -> Iterator[tuple[str, Any]]:
    if path.suffix == ".json":
        yield from _leaves(json.loads(path.read_text()))
    elif path.suffix == ".parquet":
        import pyarrow.parquet as parquet

        table = parquet.read_table(path)
        for row in table.to_pylist():
            yield from _leaves({key: _decoded(value) for key, value in row.items()})
        for key, value in (table.schema.metadata or {}).items():
            yield from _leaves(_decoded(value), f"#{key.decode()}")
    elif path.suffix == ".csv":
        with path.open(newline="") as file:
            for number, row in enumerate(csv.DictReader(file)):
                yield from _leaves(row, f":{number}")
    elif path.suffix == ".yaml":
        yield from _leaves(yaml.safe_load(path.read_text()))
    elif path.suffix == ".safetensors":
        arrays, about = read_arrays(path)
        yield from _leaves(about)
        for name, array in arrays.items():
            yield f"[{name}]", (array.shape, hashlib.sha256(array.tobytes()).hexdigest())
    elif path.suffix == ".buffer":
        for number, entry in enumerate(ReplayBuffer(path)):
            yield f"[{number}]", (entry.workload.name, entry.value, str(entry.mapping.to_dict()))
    elif path.suffix == ".md":
        yield from _markdown(path.read_text().splitlines())
    elif path.suffix == ".png":
        yield "", path.read_bytes().startswith(b"\x89PNG") and b"IEND" in path.read_bytes()[-12:]
    elif path.suffix == ".html":
        yield "", path.read_text().rstrip().endswith("</html>")
    elif path.suffix == ".out":
        yield from ((f":{number}", _TIME_TEXT.sub("TIME", line)) for number, line in enumerate(path.open()))
    else:
        yield "", path.stat().st_size > 0


def _markdown(lines: list[str]) -> Iterator[tuple[str, Any]]:
    """Cells of tables by their headings, other lines without their times."""
    headings: list[str] = []
    for number, line in enumerate(lines):
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            headings = []
            yield f":{number}", _TIME_TEXT.sub("TIME", line)
        elif not headings:
            headings = cells
        else:
            for heading, cell in zip(headings, cells, strict=False):
                yield f":{number}:{heading}", _TIME_TEXT.sub("TIME", cell)


def _decoded(value: Any) -> Any:
    """JSON in columns, read."""
    if isinstance(value, bytes | str):
        try:
            return json.loads(value)
        except ValueError:
            return value if isinstance(value, str) else value.hex()
    return value


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _leaves(part, f"{place}/{key}")
    elif isinstance(value, list) and (len(value) < 10 or any(isinstance(part, dict | list) for part in value)):
        for number, part in enumerate(value):
            yield from _leaves(part, f"{place}/{number}")
    else:
        yield place, value
