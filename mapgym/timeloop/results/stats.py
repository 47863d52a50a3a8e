"""Reads ``*.stats.txt``: what Timeloop prints about a mapping that it has evaluated.

Versions since 2019 print the same outline with other labels: storage levels from the innermost outwards, each with its
SPECS, the loops of its MAPPING (not since 2024) and its STATS; the networks between them; a summary. Nothing here knows
what a label means; :mod:`mapgym.timeloop.results.hardware` and :mod:`mapgym.timeloop.results.labels` do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.system.input_file import read_text

Lines = dict[str, str]
"""What is printed behind each label."""

Ranks = dict[str, dict[int, tuple[str, str]]]
"""For each label that is followed by ranks of metadata: rank (0 is the innermost) -> (metadata, payload)."""


@dataclass
class TensorStats:
    """What is printed of a tensor at a level or in a network."""

    lines: Lines = field(default_factory=dict)
    ranks: Ranks = field(default_factory=dict)


@dataclass
class Part:
    """A level or a network: its name, SPECS, STATS of the whole and of each tensor, and the lines of its loop nest."""

    name: str = ""
    specs: Lines = field(default_factory=dict)
    stats: Lines = field(default_factory=dict)
    tensors: dict[str, TensorStats] = field(default_factory=dict)
    loops: list[str] = field(default_factory=list)


@dataclass
class Stats:
    """A whole file.

    Attributes:
        file: where it was read.
        mac: the MAC array.
        levels: storage levels, innermost first.
        networks: in the order of the file, each named "outer <==> inner".
        order: names of all storage levels, innermost first: also of those that have no part of their own, because
            they keep nothing (since 2023).
        summary: what is printed at the end, and totals without a section.
        per_compute: energy of each part for a multiply-accumulate, and their Total: title ("pJ/MACC" and such) ->
            name -> figure.
    """

    file: Path
    mac: Part
    levels: list[Part]
    networks: list[Part]
    order: tuple[str, ...]
    summary: Lines
    per_compute: dict[str, Lines]

    def level(self, name: str) -> Part | None:
        """A storage level by name; None for one that keeps nothing and is not printed."""
        return next((level for level in self.levels if level.name == name), None)

    @property
    def is_sparse(self) -> bool:
        """Whether it was counted with sparse features."""
        return any("Data storage size" in level.specs for level in self.levels)


_RULER = re.compile(r"-{2,}$")
_LEVEL = re.compile(r"(Level|Network) \d+$")
_TITLE = re.compile(r"=== (.*) ===$")
_RANK = re.compile(r"Rank (\d+) \(metadata, payload\): \(\s*(\S+?)\s*,\s*(\S+?)\s*\)$")
_UNIT = re.compile(r"[fp]J/\S+$")
_STREAMED = " (Streamed)"
_SECTIONS = ("SPECS", "MAPPING", "STATS")
_CHAPTERS = ("Buffer and Arithmetic Levels", "Networks", "Operational Intensity Stats", "Summary Stats")


def looks_like_stats(text: str) -> bool:
    """Whether a text begins as such a file does."""
    return _CHAPTERS[0] in text[:4000]


def read_stats(path: Path) -> Stats:
    """Reads a file.

    Raises:
        SpecificationError: it cannot be read, is something else, or is cut off.
    """
    return parse_stats(read_text(path, "what timeloop-model or timeloop-mapper prints as *.stats.txt"), path)


def parse_stats(text: str, path: Path) -> Stats:
    """Reads the text of a file; see :func:`read_stats`."""
    if not looks_like_stats(text):
        raise SpecificationError(
            f"{path}: has no {quoted(_CHAPTERS[0])}; give what timeloop-model or timeloop-mapper prints as *.stats.txt"
        )
    reader = _Reader()
    for line in text.splitlines():
        reader.read(line.rstrip())
    if len(reader.levels) < 2 or "Cycles" not in reader.summary:
        raise SpecificationError(
            f"{path}: is cut off, with {len(reader.levels)} levels and {'a' if reader.summary else 'no'} summary; give "
            "the whole file"
        )
    for level in reader.levels:
        if not level.name or not level.specs:
            raise SpecificationError(f"{path}: level {quoted(level.name)} has no SPECS; give the whole file")
        for name in level.tensors:
            if name.endswith(_STREAMED):
                raise SpecificationError(
                    f"{path}: {level.name} streams {quoted(name.removesuffix(_STREAMED))}, that is, passes it on "
                    "without room for it, which neither released versions of Timeloop nor our model can; compare runs "
                    "without streams"
                )
    names = [level.name for level in reader.levels]
    if len(set(names)) < len(names):
        raise SpecificationError(f"{path}: names a level twice; give the file of one evaluation")
    mac, *levels = reader.levels
    printed = tuple(level.name for level in levels)
    order = tuple(dict.fromkeys(reader.order)) if set(printed) <= set(reader.order) else printed
    return Stats(path, mac, levels, reader.networks, order, reader.summary, reader.per_compute)


class _Reader:
    """Goes through the lines; every line belongs to what the lines before it have opened."""

    def __init__(self) -> None:
        self.levels: list[Part] = []
        self.networks: list[Part] = []
        self.order: list[str] = []
        self.summary: Lines = {}
        self.per_compute: dict[str, Lines] = {}
        self._chapter = ""
        self._section = ""
        self._tensor: TensorStats | None = None
        self._ranked = ""
        self._energies: Lines | None = None

    @property
    def _part(self) -> Part:
        return (self.levels if self._chapter == _CHAPTERS[0] else self.networks)[-1]

    def read(self, line: str) -> None:
        text = line.strip()
        if not text or _RULER.match(text):
            return
        if not line[0].isspace() and self._heads(text):
            return
        if self._chapter == _CHAPTERS[3] or self._chapter == "":
            self._read_summary(line, text)
        elif self._chapter in _CHAPTERS[:2] and (self.levels if self._chapter == _CHAPTERS[0] else self.networks):
            self._read_part(text)

    def _heads(self, text: str) -> bool:
        """Takes a line at the margin that opens something."""
        if text in _CHAPTERS:
            self._chapter, self._section = text, ""
        elif match := _LEVEL.match(text):
            if match[1] == "Level":
                self._chapter = _CHAPTERS[0]
                self.levels.append(Part())
            else:
                self._chapter = _CHAPTERS[1]
                self.networks.append(Part())
            self._section, self._tensor = "", None
        elif (match := _TITLE.match(text)) and self._chapter == _CHAPTERS[0] and self.levels:
            self._part.name = match[1]
        elif match and self._chapter == _CHAPTERS[2]:
            self.order.append(match[1])
        elif " <==> " in text and self._chapter == _CHAPTERS[1] and self.networks:
            self._part.name = text
        elif text.startswith("Total topology"):
            self._chapter = ""
            return False
        else:
            return False
        return True

    def _read_part(self, text: str) -> None:
        part = self._part
        if text in _SECTIONS:
            self._section, self._tensor = text, None
        elif self._section == "MAPPING":
            if text != "Loop nest:":
                part.loops.append(text)
        elif match := _RANK.match(text):
            if self._tensor is not None and self._ranked:
                self._tensor.ranks.setdefault(self._ranked, {})[int(match[1])] = (match[2], match[3])
        elif self._section == "SPECS":
            label, _, value = text.partition(":")
            part.specs[label.strip()] = value.strip()
        elif self._section == "STATS":
            label, colon, value = (piece.strip() for piece in text.partition(":"))
            if text.endswith(":"):
                # The name of a tensor may hold a colon itself.
                self._tensor = part.tensors.setdefault(text[:-1], TensorStats())
            elif not colon:
                self._ranked = label  # ranks follow
            else:
                lines = part.stats if self._tensor is None else self._tensor.lines
                lines.setdefault(label, value)

    def _read_summary(self, line: str, text: str) -> None:
        label, equals, value = (piece.strip() for piece in text.rpartition("= "))
        if _UNIT.match(text):
            self._energies = self.per_compute.setdefault(text, {})
        elif equals and line[0].isspace() and self._energies is not None:
            self._energies[label] = value
        elif equals:
            self.summary[label] = value
        else:
            label, colon, value = (piece.strip() for piece in text.partition(":"))
            if colon:
                self.summary[label] = value


def each_tensor(parts: list[Part]) -> Iterator[tuple[Part, str, TensorStats]]:
    """Every tensor of every part."""
    for part in parts:
        for name, tensor in part.tensors.items():
            yield part, name, tensor
