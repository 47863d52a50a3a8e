"""The best mappings that are known, with what is proven about them: the file ``envs_config/best_known.tsv``.

An entry belongs to a task: the dims, bounds and tensors of a workload, the definition of an accelerator (with its
``peer_links`` and ``rules``), the searched axes and the objective. Its key is a hash of these, so that an accelerator
of your own that has the name of another gets nothing that is not true for it. Names of workloads and accelerators do
not count.

The file has one line for each entry, with tabs between the columns, so that what changes is seen line by line. It may
be long: only the entries that are asked for are read further than their keys.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from mapgym.cost import OBJECTIVES
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.mapping import Mapping
from mapgym.mapspace import MapSpace
from mapgym.mapspace.entries import AXES
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.constraints import Constraints
from mapgym.spec.rules import RULE_SETS, RULES_BEFORE_NAMES
from mapgym.spec.workload import Workload
from mapgym.system.checksums import UNSEALED, is_whole, seal
from mapgym.system.files import write_bytes

CERTIFIED, GAP = "certified", "gap"
"""Status of an entry: nothing can be better (to 1e-6, relative), or only the stated lower bound is proven."""

_TAB = "\t"
_ENTRY = re.compile(r"^([0-9a-f]{20})\t.*$", re.MULTILINE)
_COLUMNS = (
    "key",
    "workload",
    "accelerator",
    "peer_links",
    "rules",
    "axes",
    "objective",
    "status",
    "value",
    "lower_bound",
    "command",
    "mapping",
)
_HEADER = f"""\
# The best mappings that are known. Written by the option --update-best-known; do not edit.
# Each key is a hash of the task. value and lower_bound are in the unit of the objective (EDP: pJ*cycles, energy: pJ,
# latency: cycles). certified: no mapping of the map space is better, to 1e-6; gap: lower_bound is what is proven.
# Mappings are JSON: for each level, outermost first, its name, its temporal loops, those along X and those along Y,
# innermost first, and the tensors that it keeps; empty ends are left out, and then those of the level before are kept.
# {_TAB.join(_COLUMNS)}
"""
_SEALED = "# The last line is a checksum of this file.\n"
_SEAL = f"# {UNSEALED}\n"
_COMMAND = "# command {}: {}\n"
_LOOPS = ("temporal", "spatial_x", "spatial_y")
_COMMANDS = re.compile(r"^# command ([0-9a-f]{6}): (.*)$", re.MULTILINE)

_DAMAGE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What a line that is no entry may raise."""


@dataclass(frozen=True)
class BestKnown:
    """What is known about the optimum of one task.

    Attributes:
        key: hash of the task, see :func:`task_key`.
        workload, accelerator: names, for people; a task of another name may have the same key.
        peer_links: whether the accelerator has links between neighbours.
        rules: the counting rules of the accelerator.
        axes: the searched axes; on the others the values of the trivial mapping hold.
        objective: "edp", "energy" or "latency".
        value: objective of the mapping (pJ*cycles, pJ or cycles).
        lower_bound: what no mapping of the map space can beat, proven; at most ``value``.
        status: ``CERTIFIED`` or ``GAP``.
        mapping: the mapping in the form that ``Mapping.from_dict`` reads.
        command: what made the entry.
    """

    key: str
    workload: str
    accelerator: str
    peer_links: bool
    rules: str
    axes: tuple[str, ...]
    objective: str
    value: float
    lower_bound: float
    status: str
    mapping: dict[str, Any]
    command: str

    @property
    def certified(self) -> bool:
        """Whether the mapping is proven to be optimal, to 1e-6 relative."""
        return self.status == CERTIFIED

    @property
    def gap(self) -> float:
        """How far the optimum may be below the value at most, as a share of the lower bound."""
        return self.value / self.lower_bound - 1.0

    def to_mapping(self, workload: Workload, accelerator: Accelerator) -> Mapping:
        """The mapping as an object."""
        return Mapping.from_dict(self.mapping, workload, accelerator, f"best known mapping {self.key}")


def task_key(workload: Workload, accelerator: Accelerator, axes: Sequence[str], objective: str) -> str:
    """The hash of a task: equal for equal tasks, whatever they are called.

    Under the rules that held before rules had names it is what it was then, so that what was stored then is found for
    these rules, and for no others.

    Args:
        workload, accelerator: what is mapped onto what; names are left out.
        axes: the searched axes, in any order.
        objective: what is minimised.
    """
    machine = accelerator.to_dict()
    if machine["rules"] == RULES_BEFORE_NAMES:
        del machine["rules"]
    task = {
        "workload": {**workload.to_dict(), "name": ""},
        "accelerator": {**machine, "name": "", "mac": {**_dict(machine["mac"]), "name": ""}},
        "axes": sorted(axes),
        "objective": objective,
    }
    text = json.dumps(_same_numbers(task), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def key_of(space: MapSpace, objective: str) -> str | None:
    """The hash of the task that a map space poses; None if constraints or a base mapping make it a task of its own."""
    if space.constraints != Constraints():
        return None
    if set(space.axes) != set(AXES) and space.base != Mapping.trivial(space.workload, space.accelerator):
        return None
    return task_key(space.workload, space.accelerator, space.axes, objective)


def best_known(space: MapSpace, objective: str) -> BestKnown | None:
    """What is stored about the optimum of a task; None if nothing is.

    Args:
        space: the map space that is searched; with constraints nothing is stored.
        objective: "edp", "energy" or "latency".
    """
    key = key_of(space, objective)
    return None if key is None else _stored(key)


def all_best_known() -> list[BestKnown]:
    """Every entry of the file, in its order."""
    return [entry for key in _lines() if (entry := _stored(key)) is not None]


def read_entries(text: str) -> list[BestKnown]:
    """The entries in a text that :func:`to_text` or :func:`write_file` wrote.

    Raises:
        ValueError: it is something else, or damaged.
    """
    if not text.startswith(_HEADER):
        raise ValueError("the comment at the beginning is another one")
    entries = text.removeprefix(_HEADER)
    if entries.startswith(_SEALED):
        if not is_whole(text.encode()):
            raise ValueError("the checksum does not fit")
        entries = entries[len(_SEALED) : -len(_SEAL)]
    commands = dict(_COMMANDS.findall(entries))
    lines = [line for line in entries.split("\n") if line and not _COMMANDS.match(line)]
    return [_parse(line, commands) for line in lines]


def read_file(path: Path) -> list[BestKnown]:
    """The entries of a file of one's own, one that :func:`write_file` wrote or a copy of the installed one.

    Raises:
        SpecificationError: the file cannot be read, is damaged, or is something else.
    """
    try:
        return read_entries(path.read_bytes().decode())
    except OSError as error:
        raise SpecificationError(f"{quoted(path)} cannot be read ({error.strerror}); give a readable file") from None
    except ValueError as error:
        raise SpecificationError(
            f"{quoted(path)} is damaged, or is no file of best known mappings ({error}); give one that "
            "--update-best-known has written, or the name of a new file"
        ) from None


def write_file(path: Path, entries: Iterable[BestKnown]) -> None:
    """Writes a file of one's own atomically: as :func:`to_text`, with a checksum."""
    text = _HEADER + _SEALED + to_text(entries).removeprefix(_HEADER) + _SEAL
    write_bytes(path, seal(text.encode()))


def to_text(entries: Iterable[BestKnown]) -> str:
    """The text of a file with these entries, sorted by what people look for."""
    ordered = sorted(entries, key=_place)
    commands = {_digest(command): command for command in sorted({entry.command for entry in ordered})}
    lines = [
        _TAB.join(
            (
                entry.key,
                entry.workload,
                entry.accelerator,
                "links" if entry.peer_links else "-",
                entry.rules,
                ",".join(entry.axes),
                entry.objective,
                entry.status,
                repr(entry.value),
                repr(entry.lower_bound),
                _digest(entry.command),
                json.dumps(_packed(entry.mapping), separators=(",", ":")),
            )
        )
        for entry in ordered
    ]
    return _HEADER + "".join(_COMMAND.format(*pair) for pair in commands.items()) + "".join(f"{x}\n" for x in lines)


def _place(entry: BestKnown) -> tuple[object, ...]:
    """By what entries are sorted."""
    hardware = (entry.workload, entry.accelerator, entry.peer_links, entry.rules)
    return (*hardware, entry.objective, len(entry.axes), entry.key)


def _digest(command: str) -> str:
    """What stands for a command in the lines of entries; it does not change when others are added."""
    return hashlib.sha256(command.encode()).hexdigest()[:6]


def _packed(mapping: dict[str, Any]) -> list[list[Any]]:
    """The levels of a mapping without what says nothing."""
    packed, kept = [], None
    for level in mapping["levels"]:
        entry = [level["level"], *(level.get(name, {}) for name in _LOOPS), level.get("keep")]
        if entry[-1] == kept:
            entry.pop()
            while entry[-1] == {}:
                entry.pop()
        kept = level.get("keep")
        packed.append(entry)
    return packed


def _unpacked(levels: list[list[Any]]) -> dict[str, Any]:
    """The mapping again, in the form of :meth:`mapgym.mapping.Mapping.to_dict` without what is empty."""
    unpacked = []
    kept: list[str] | None = None
    for name, *rest in levels:
        loops = dict(zip(_LOOPS, rest, strict=False))
        kept = rest[3] if len(rest) > 3 else kept
        kinds = set(map(type, loops.values()))
        if type(name) is not str or len(rest) > 4 or not isinstance(kept, list | None) or kinds - {dict}:
            raise ValueError("the mapping has another form")
        orders = {
            "order": [*loops.get("temporal", {})],
            "spatial_order": [*loops.get("spatial_x", {}), *loops.get("spatial_y", {})],
        }
        level = {"level": name, **loops, **orders}
        keeps = {} if kept is None else {"keep": [*kept]}
        unpacked.append({key: value for key, value in level.items() if value} | keeps)
    return {"levels": unpacked}


@cache
def _text() -> str:
    return (resources.files("mapgym.envs_config") / "best_known.tsv").read_text(encoding="utf-8")


@cache
def _lines() -> dict[str, str]:
    """Key -> line of the entry."""
    return {match[1]: match[0] for match in _ENTRY.finditer(_text())}


@cache
def _commands() -> dict[str, str]:
    return dict(_COMMANDS.findall(_text()))


def _stored(key: str) -> BestKnown | None:
    # There is no end of tasks of which nothing is stored, so that nothing is kept of them.
    return _read(key) if key in _lines() else None


@cache
def _read(key: str) -> BestKnown:
    return _parse(_lines()[key], _commands())


def _parse(line: str, commands: dict[str, str]) -> BestKnown:
    """An entry; raises ValueError for one that :func:`to_text` does not write."""
    try:
        data: dict[str, Any] = dict(zip(_COLUMNS, line.split(_TAB), strict=True))
        if not _ENTRY.match(line):
            raise ValueError("it does not begin with a key")
        data["peer_links"] = {"links": True, "-": False}[data["peer_links"]]
        data["axes"] = tuple(filter(None, data["axes"].split(",")))
        data["value"], data["lower_bound"] = float(data["value"]), float(data["lower_bound"])
        data["command"] = commands[data["command"]]
        data["mapping"] = _unpacked(json.loads(data["mapping"]))
        entry = BestKnown(**data)
        if not all(0.0 <= figure < math.inf for figure in (entry.lower_bound, entry.value)):
            raise ValueError("the value or the lower bound is no figure")
        if (
            not set(entry.axes) <= set(AXES)
            or entry.objective not in OBJECTIVES
            or entry.rules not in RULE_SETS
            or entry.status not in (CERTIFIED, GAP)
        ):
            raise ValueError("an axis, the rules, the objective or the status is unknown")
    except _DAMAGE as error:
        raise ValueError(f"entry {quoted(line[:20])}: {quoted(str(error))}") from None
    return entry


def _dict(value: object) -> dict[str, object]:
    assert isinstance(value, dict)
    return value


def _same_numbers(value: Any) -> Any:
    """1 and 1.0 are the same number, but not the same text."""
    if isinstance(value, dict):
        return {key: _same_numbers(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_same_numbers(entry) for entry in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
