"""The constraints in Timeloop's documents, one by one, wherever a version has them.

v0.2 has lists of them (``mapspace: constraints``, ``architecture_constraints``, ``mapspace_constraints``, with or
without ``targets``), which may be named by another key (``constraints: rowstationary`` is
``constraints_rowstationary``). v0.4 has them inside the nodes of an architecture, by their type.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.timeloop.reading.documents import Section, file_of

SECTIONS = ("architecture_constraints", "mapspace_constraints", "mapspace", "constraints", "architecture")
"""The sections that can hold constraints."""

_SECTION = re.compile(r"""^(?:\{\s*)?["']?(?:arch|architecture|mapspace|(?:\w+[_-])?constraints)["']?\s*[:=]""", re.M)
_NO_CONSTRAINTS = ("targets", "constraints", "version", "template")
"""Keys beside the constraints of a section that are looked at or mean nothing for them."""


@dataclass(frozen=True)
class Written:
    """One constraint as it is written.

    Attributes:
        target: the level, by its name or number.
        kind: its type, in small letters.
        entries: what it says.
        where: file and place, for messages.
        file: where it stands.
        key: the same without the file.
        is_inside: whether it stands inside a node of an architecture, which may be no level.
    """

    target: object
    kind: str
    entries: Mapping[str, Any]
    file: str
    key: str
    is_inside: bool = False

    @property
    def where(self) -> str:
        """File and place, for messages."""
        return f"{self.file}: {self.key}"


def looks_like_timeloop(text: str) -> bool:
    """Whether the text of a file has a section with constraints of Timeloop's at its top; ours have other keys."""
    return _SECTION.search(text) is not None


def list_constraints(sections: Sequence[Section]) -> list[Written]:
    """All constraints of some sections, in their order.

    Raises:
        SpecificationError: a section has another form.
    """
    found: list[Written] = []
    for section in sections:
        if section.name == "architecture":
            found += _inside(section.value, section.file, section.key)
        elif section.name in SECTIONS:
            found += _listed(section.value, section.file, section.key)
    return found


def _listed(value: Any, file: str, key: str) -> Iterator[Written]:
    if isinstance(value, Mapping):
        name = "targets" if isinstance(value.get("targets"), list) else "constraints"
        given = value.get(name)
        if isinstance(given, str):
            name = f"constraints_{given}"
            if name not in value:
                raise SpecificationError(f"{file}: {key}: there are no {quoted(name)}; write them, or name others")
            given = value[name]
        for other in value:
            if other not in _NO_CONSTRAINTS and not other.startswith("constraints_"):
                raise SpecificationError(
                    f"{file}: {key}: {quoted(other)} is no list of constraints; put them under targets"
                )
        value, key = given, f"{key}: {name}"
    if value is None or value in ("", {}):
        return
    if not isinstance(value, list):
        raise SpecificationError(f"{file}: {key} is {quoted(value)}; give a list of constraints")
    for number, entry in enumerate(value, 1):
        place = f"{key} {number}"
        if not isinstance(entry, Mapping):
            raise SpecificationError(f"{file}: {place} is {quoted(entry)}; give target, type and what is constrained")
        target = entry.get("target", entry.get("name"))
        several = entry.get("constraints")
        for one in several if isinstance(several, list) else [entry]:
            if not isinstance(one, Mapping) or not isinstance(one.get("type"), str):
                raise SpecificationError(f"{file}: {place} has no type; give temporal, spatial or bypass")
            attributes = one.get("attributes")
            entries = {**one, **(attributes if isinstance(attributes, Mapping) else {})}
            for name in ("target", "name", "type", "attributes"):
                entries.pop(name, None)
            kind = one["type"].strip().lower()
            yield Written(target, kind, entries, file_of(entry, file), f"{place}, {kind} of {quoted(target)}")


def _inside(value: Any, file: str, key: str) -> Iterator[Written]:
    if isinstance(value, list):
        for each in value:
            yield from _inside(each, file_of(each, file), key)
        return
    if not isinstance(value, Mapping):
        return
    name, own = value.get("name"), value.get("constraints")
    if own and not isinstance(own, Mapping):
        raise SpecificationError(
            f"{file}: {key}: constraints of {quoted(name)} are {quoted(own)}; give temporal, spatial or dataspace"
        )
    for kind, entries in (own or {}).items():
        if not entries:
            continue
        place = f"{key}: {kind} of {quoted(name)}"
        if not isinstance(entries, Mapping):
            raise SpecificationError(f"{file}: {place} is {quoted(entries)}; give keys such as factors or keep")
        plain = {each: content for each, content in entries.items() if each not in ("target", "type")}
        # Nodes that stand for several carry their number: "PE[0..11]".
        yield Written(str(name).split("[")[0], str(kind).lower(), plain, file, place, is_inside=True)
    for inner in ("nodes", "subtree", "local"):
        if inner in value:
            yield from _inside(value[inner], file, key)
