"""What an architecture file says of its components, for what results do not print.

Results come with architectures in the form that Timeloop's front end has left them in: flat, or as subtrees, with names
such as ``PE[0..15]`` and plain numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping as AbcMapping
from dataclasses import dataclass, field
from typing import Any

from mapgym.timeloop.reading.hardware import base_name

_RANGE = re.compile(r"\[(\d+)\.\.(\d+)\]")


@dataclass(frozen=True)
class Attributes:
    """A component: how many there are, and its attributes with underscores."""

    instances: int = 1
    values: dict[str, Any] = field(default_factory=dict)

    def number(self, *names: str) -> float | None:
        """The first of some attributes that is a number of at least 0."""
        for name in names:
            value = self.values.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e15:
                return float(value)
        return None

    def mesh(self) -> tuple[int, int]:
        """Instances along X and Y, as Timeloop takes them: all on X unless meshX says otherwise."""
        x = int(self.number("meshX", "mesh_X") or 0)
        if not x or self.instances % x:
            return self.instances, 1
        return x, self.instances // x


def read_attributes(data: object) -> dict[str, Attributes]:
    """The components of an architecture by the last part of their names; empty for what is none."""
    found: dict[str, Attributes] = {}
    if isinstance(data, AbcMapping):
        for path, entry in _walk(data, "", 0):
            count = 1
            for first, last in _RANGE.findall(path):
                count *= int(last[:9]) - int(first[:9]) + 1
            attributes = entry.get("attributes")
            values = {str(key).replace("-", "_"): value for key, value in attributes.items()} if attributes else {}
            found[base_name(path)] = Attributes(max(1, count), values)
    return found


def _walk(node: AbcMapping[str, Any], path: str, depth: int) -> Iterator[tuple[str, AbcMapping[str, Any]]]:
    """Components below a node with their paths."""
    for key in ("subtree", "local"):
        entries = node.get(key)
        for entry in entries if isinstance(entries, list) and depth < 50 else ():
            if isinstance(entry, AbcMapping) and isinstance(entry.get("name"), str):
                here = f"{path}.{entry['name']}" if path else entry["name"]
                if key == "local" and isinstance(entry.get("attributes", {}), AbcMapping):
                    yield here, entry
                yield from _walk(entry, here, depth + 1)
