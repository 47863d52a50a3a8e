"""Loop nests as Timeloop prints them: ``*.map.txt``, and the loops within ``*.stats.txt``.

A level is a line with its name and the tensors that it keeps, and a rule below; its loops follow, outermost first, with
the side of the mesh behind spatial ones::

    DRAM [ Weights:96 (96) Inputs:18 (18) ]
    ---------------------------------------
    | for K in [0:16)
    |   for P in [0:4) (Spatial-X)
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted


@dataclass(frozen=True)
class Loop:
    """A loop: its dim, how often it runs, and the side of the mesh that it lies on ("" for a loop in time)."""

    dim: str
    bound: int
    side: str = ""


@dataclass
class PrintedLevel:
    """A level of a printed nest: its name, words of each tensor that it keeps, and its loops, outermost first."""

    name: str
    words: dict[str, int] = field(default_factory=dict)
    loops: list[Loop] = field(default_factory=list)


_HEAD = re.compile(r"(?P<name>\S.*?) \[ (?P<tensors>.*)\]$")
_TENSOR = re.compile(r"(?P<name>\S+?):(?P<words>\d+)(?: \(\d+\))?\s*")
_LOOP = re.compile(
    r"(?P<skewed>.*?)for (?P<dim>\w+) in \[(?P<first>\d+):(?P<end>\d+)(?:,(?P<last>\d+))?\)"
    r"(?: \(Spatial-(?P<side>[XY])\))?$"
)
_MOST_LINES = 2000


def looks_like_nest(text: str) -> bool:
    """Whether a text is a printed nest: one of its first lines names a level."""
    lines = [line.strip() for line in text[:4000].splitlines() if line.strip()]
    return any(_HEAD.match(line) and _is_tensors(_HEAD.match(line)) for line in lines[:3])


def _is_tensors(match: re.Match[str] | None) -> bool:
    return match is not None and _TENSOR.sub("", match["tensors"]).strip() == ""


def parse_loop(line: str, where: str) -> Loop:
    """Reads a line such as "for K in [0:16) (Spatial-X)".

    Raises:
        SpecificationError: it is none, or a loop of a kind that our mappings do not have.
    """
    match = _LOOP.match(line.strip())
    if match is None or len(match["end"]) > 10:
        raise SpecificationError(f"{where}: cannot read the loop {quoted(line)}; give it as 'for K in [0:16)'")
    if match["last"] is not None and match["last"] != match["end"]:
        raise SpecificationError(
            f"{where}: the loop {quoted(line)} runs another number of times in its last visit (an imperfect factor), "
            "and our mappings have no such loops; give a mapping whose factors multiply to the bounds"
        )
    if match["first"] != "0" or match["skewed"].strip(" |"):
        raise SpecificationError(f"{where}: the loop {quoted(line)} does not run from 0; our loops do")
    return Loop(match["dim"], int(match["end"]), match["side"] or "")


def parse_loops(lines: Iterable[str], where: str) -> list[Loop]:
    """Reads the loops of one level, outermost first."""
    return [parse_loop(line, where) for line in lines]


def parse_nest(text: str, where: str) -> list[PrintedLevel]:
    """Reads a printed nest.

    Args:
        text: the file.
        where: its path, for messages.

    Returns:
        Levels, outermost first.

    Raises:
        SpecificationError: it is something else; names the line.
    """
    levels: list[PrintedLevel] = []
    for number, line in enumerate(text.splitlines(), 1):
        content = line.strip().lstrip("|").strip()
        if not content or set(content) == {"-"} or content.startswith("<<"):
            continue
        place = f"{where}: line {number}"
        if number > _MOST_LINES:
            raise SpecificationError(f"{place}: a nest of more than {_MOST_LINES} lines; give one mapping")
        head = _HEAD.match(content)
        if head is not None and _is_tensors(head):
            words = {match["name"]: int(match["words"][:18]) for match in _TENSOR.finditer(head["tensors"])}
            levels.append(PrintedLevel(head["name"], words))
        elif not levels:
            raise SpecificationError(f"{place}: {quoted(content)} stands before the first level; give *.map.txt")
        else:
            levels[-1].loops.append(parse_loop(content, place))
    if not levels:
        raise SpecificationError(f"{where}: holds no loops; give what Timeloop writes as *.map.txt")
    return levels
