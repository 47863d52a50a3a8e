"""Energies: tables that Accelergy has written (ERT), areas (ART), and an estimate where there are none.

The estimate is the public PAT model that comes with Timeloop, which has a line through two points of Eyeriss (Chen,
Emer and Sze, ISCA 2016, at 65 nm and 1 V) and takes an access of 16 bits for its unit. It can be scaled to another node
and voltage: with the dimensions the capacitances shrink in proportion, and switching one costs C * V**2 (Dennard et
al., IEEE JSSC 9, 1974). The energy of a DRAM, which is not on the chip, is not scaled.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.timeloop.reading.documents import Documents, Ignored, Section
from mapgym.timeloop.reading.expressions import Names, evaluate_number
from mapgym.timeloop.reading.hardware import base_name

_PAT_NM, _PAT_VOLT = 65.0, 1.0
_SMALL_KB, _SMALL, _LARGE_KB, _LARGE = 0.5, 1.0, 100.0, 6.0
_UNIT_BITS, _DRAM_PJ = 16, 200.0
_CHOICE = re.compile(r"pat(?:@(\d+(?:\.\d+)?)\s*nm(?:@(\d+(?:\.\d+)?)\s*[vV])?)?")

Energies = dict[str, dict[str, float]]
"""Component, by the last part of its name -> action -> energy in pJ."""

HOW = (
    "name the ERT that Accelergy has written for it as well (arch.yaml,ERT.yaml), or choose an estimate: "
    "arch.yaml:pat for "
    "Timeloop's public model, arch.yaml:pat@45nm@0.9V for the same at another node and voltage"
)
"""What to do where there are no energies."""


@dataclass(frozen=True)
class Estimate:
    """The PAT model at a node and a voltage; energies are in pJ."""

    scale: float = 1.0

    @classmethod
    def parse(cls, text: str, where: str) -> Estimate:
        """Reads a choice such as "pat" or "pat@45nm@0.9V".

        Raises:
            SpecificationError: it is something else.
        """
        match = _CHOICE.fullmatch(text.strip())
        if match is None:
            raise SpecificationError(f"{where}: energies is {quoted(text)}; choose 'pat' or such as 'pat@45nm@0.9V'")
        node, volt = float(match[1] or _PAT_NM), float(match[2] or _PAT_VOLT)
        if not 1 <= node <= 1000 or not 0.1 <= volt <= 10:
            raise SpecificationError(f"{where}: energies is {quoted(text)}; give 1 to 1000 nm, and 0.1 to 10 V")
        return cls(node / _PAT_NM * (volt / _PAT_VOLT) ** 2)

    def sram_pj(self, words: int, word_bits: int, block: int, cluster: int) -> float:
        """Of one access to a block of one instance; those of a cluster are built as one."""
        width = word_bits * block * cluster
        rows = -(-words // block)
        slope = (_LARGE - _SMALL) / (_LARGE_KB - _SMALL_KB)
        access = slope * (width * rows / 8192 - _SMALL_KB) + _SMALL
        return access * width / _UNIT_BITS / cluster * self.scale

    @staticmethod
    def dram_pj(word_bits: int, block: int) -> float:
        """Of one access to a block."""
        return _DRAM_PJ * word_bits * block / _UNIT_BITS

    def mac_pj(self, word_bits: int) -> float:
        """Of one multiply-accumulate."""
        return (word_bits / _UNIT_BITS) ** 2 * self.scale


@dataclass
class Tables:
    """What an ERT and an ART say.

    Attributes:
        energies_pj: component -> action -> energy; None if there is no ERT.
        areas_um2: component -> area of one instance.
        file: of the ERT.
    """

    energies_pj: Energies | None
    areas_um2: dict[str, float]
    file: str


def read_tables(documents: Documents, ignored: list[Ignored]) -> Tables:
    """The tables of energies and areas in some files; several are put together.

    Raises:
        SpecificationError: one is no table.
    """
    sections = documents.every("ERT")
    found = read_energies(sections)
    areas: dict[str, float] = {}
    for section in documents.every("ART"):
        for component, entry in _entries(section):
            area = entry.get("area") if isinstance(entry, Mapping) else entry
            if isinstance(area, Mapping):
                area = area.get("area")
            if area is None:
                ignored.append(Ignored(section.file, f"ART: {component}", "it gives no area"))
                continue
            areas[base_name(component)] = float(_number(area, f"{section.file}: ART: {component}"))
    return Tables(found if sections else None, areas, ", ".join(section.file for section in sections))


def read_energies(sections: Iterable[Section]) -> Energies:
    """The energies in tables; of several for one action, for different arguments, the largest counts, as in Timeloop.

    Raises:
        SpecificationError: one is no table, or an energy no number of at least 0.
    """
    found: Energies = {}
    for section in sections:
        for component, actions in _entries(section):
            own = found.setdefault(base_name(component), {})
            for action, energy in _actions(actions, f"{section.file}: ERT: {component}"):
                own[action] = max(energy, own.get(action, 0.0))
    return found


def _entries(section: Section) -> list[tuple[str, Any]]:
    """(component, what the table says of it) pairs: v0.2 has a mapping of components, later versions a list."""
    value = section.value
    tables = value.get("tables") if isinstance(value, Mapping) else None
    if isinstance(tables, Mapping):
        return [(str(name), entry) for name, entry in tables.items()]
    if isinstance(tables, list) and all(isinstance(each, Mapping) and "name" in each for each in tables):
        return [(str(each["name"]), each.get("actions", []) if section.name == "ERT" else each) for each in tables]
    raise SpecificationError(f"{section.file}: {section.key} has the tables {quoted(tables)}; give those of Accelergy")


def _actions(actions: Any, where: str) -> list[tuple[str, float]]:
    """(action, energy) pairs, an action as often as it has arguments."""
    pairs = []
    if isinstance(actions, Mapping):
        listed = [(str(name), entry) for name, each in actions.items() for entry in _as_list(each)]
    elif isinstance(actions, list) and all(isinstance(each, Mapping) and "name" in each for each in actions):
        listed = [(str(each["name"]), each) for each in actions]
    else:
        raise SpecificationError(f"{where}: the actions are {quoted(actions)}; give those of Accelergy")
    for name, entry in listed:
        energy = entry.get("energy") if isinstance(entry, Mapping) else entry
        if energy is not None:
            pairs.append((name, float(_number(energy, f"{where}: {name}"))))
    return pairs


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _number(value: object, where: str) -> float:
    number = evaluate_number(value, Names(), where)
    if number < 0:
        raise SpecificationError(f"{where} is {quoted(value)}; give a number of at least 0")
    return number
