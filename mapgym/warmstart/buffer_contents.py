"""What a replay buffer knows: solved layers in memory, however their file stores them.

A file stores *definitions* (the structure of workloads, that is dims and tensors, and accelerators: JSON, under a key
that is its digest) and *rows*, one for each entry, which name their definitions by key and carry a checksum. What is
read is taken in only if digest and checksum fit; the mapping of an entry is parsed when it is asked for.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.errors import LONGEST_NAME, MAX_INTEGER, SpecificationError
from mapgym.errors.text import printable, quoted
from mapgym.mapping import Mapping
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.workload import Workload

STRUCTURES, ACCELERATORS, ENTRIES = "structures", "accelerators", "entries"

UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)
"""What reading text that was made up to do harm may raise."""


@dataclass(frozen=True)
class Entry:
    """One solved layer.

    Attributes:
        workload, accelerator: the task.
        objective: "edp", "energy" or "latency".
        value: objective of the mapping (pJ*cycles, pJ or cycles).
        mapping: the mapping.
    """

    workload: Workload
    accelerator: Accelerator
    objective: str
    value: float
    mapping: Mapping


@dataclass(frozen=True)
class Damage:
    """A part of the file that cannot be used.

    Attributes:
        line: number of the row in its table, or of the line in an old text file; 0 for the file as a whole.
        why: what is wrong with it.
        text: its content, as far as it can be shown.
        table: where the row is; "" in a text file and for the file as a whole.
    """

    line: int
    why: str
    text: str
    table: str = ""

    @property
    def place(self) -> str:
        """Such as "row 5 of entries"."""
        if not self.line:
            return "the file"
        return f"row {self.line} of {self.table}" if self.table else f"line {self.line}"


class Row(NamedTuple):
    """An entry as a file has it; all but the value are ASCII.

    Attributes:
        structure, accelerator: keys of the definitions.
        objective, value: of the entry.
        name, bounds: of the workload, JSON.
        mapping: JSON.
    """

    structure: bytes
    accelerator: bytes
    objective: bytes
    value: float
    name: bytes
    bounds: bytes
    mapping: bytes

    def checksum(self) -> bytes:
        """16 bytes that are others if any field is."""
        return checksum(self)


def checksum(row: tuple[bytes, bytes, bytes, float, bytes, bytes, bytes]) -> bytes:
    """:meth:`Row.checksum` of the same fields in a plain tuple."""
    structure, accelerator, objective, value, name, bounds, mapping = row
    text = b"\t".join((structure, accelerator, objective, repr(value).encode(), name, bounds, mapping))
    return hashlib.sha256(text).digest()[:16]


def definition_key(text: bytes) -> bytes:
    """The key of a definition."""
    return hashlib.sha256(text).hexdigest()[:16].encode()


class Definition(NamedTuple):
    """A definition, in the table in which files have it, with its key and its JSON."""

    table: str
    key: bytes
    text: bytes


def encode(entry: Entry) -> tuple[Row, list[Definition]]:
    """The row of an entry and the definitions that it refers to.

    Raises:
        SpecificationError: it could not be read back.
    """
    value = float(entry.value)
    where = f"the entry of {quoted(entry.workload.name)} on {quoted(entry.accelerator.name)}"
    if not math.isfinite(value):
        raise SpecificationError(f"{where} has the value {value}; give a finite number")
    workload, accelerator, mapping = entry.workload, entry.accelerator, entry.mapping
    if mapping.names != (
        workload.dims,
        accelerator.level_names,
        tuple(tensor.name for tensor in workload.tensors),
    ):
        raise SpecificationError(f"{where} has a mapping of another task; give one with its dims, levels and tensors")
    structure = replace(workload, name="", bounds=(1,) * len(workload.dims))
    texts = {STRUCTURES: _compact(structure.to_dict()), ACCELERATORS: _compact(accelerator.to_dict())}
    definitions = [Definition(table, definition_key(text), text) for table, text in texts.items()]
    keys = [definition.key for definition in definitions]
    row = Row(
        keys[0],
        keys[1],
        entry.objective.encode(),
        value,
        _compact(workload.name),
        _compact(workload.bounds),
        _compact(mapping.to_dict()),
    )
    return row, definitions


class Family:
    """The best entry of each workload, for workloads that differ in their bounds only, on one accelerator."""

    def __init__(self, workload: Workload, accelerator: Accelerator, objective: str) -> None:
        self.workload, self.accelerator, self.objective = workload, accelerator, objective
        self._best: dict[tuple[int, ...], tuple[float, int]] = {}
        self._arrays: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None

    def add(self, number: int, bounds: tuple[int, ...], value: float) -> None:
        """Notes an entry by its number in the buffer."""
        known = self._best.get(bounds)
        if known is None or value < known[0]:
            self._best[bounds] = value, number
            self._arrays = None

    @property
    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(numbers of the entries int64[n], bounds int64[n, dim])."""
        if self._arrays is None:
            numbers = np.array([number for _, number in self._best.values()], np.int64)
            # Similarities go through them dim by dim.
            self._arrays = numbers, np.asfortranarray([*self._best], np.int64)
        return self._arrays


@dataclass(slots=True)
class _Record:
    """An entry in memory; only what is asked for is built."""

    family: Family
    value: float
    name: bytes
    bounds: tuple[int, ...]
    mapping: bytes | Mapping
    checksum: bytes
    workload: Workload | None = None


class Contents:
    """Entries in their order, indexed by families.

    Attributes:
        families: by keys of structure and accelerator, and objective.
        damaged: what a file had that could not be taken in.
        last_row: number and checksum of the newest row of the file that is known here, None if there is none.
    """

    def __init__(self) -> None:
        self.families: dict[tuple[bytes, bytes, bytes], Family] = {}
        self.damaged: list[Damage] = []
        self.last_row: tuple[int, bytes] | None = None
        self._definitions: dict[tuple[str, bytes], Workload | Accelerator] = {}
        self._records: list[_Record] = []

    def __len__(self) -> int:
        return len(self._records)

    def entry(self, number: int, where: str) -> Entry:
        """One entry.

        Args:
            number: its place, as in a list.
            where: the file and entry, for the message.

        Raises:
            SpecificationError: its text cannot be read.
        """
        record = self._records[number]
        family, workload = record.family, record.workload
        if workload is not None and isinstance(record.mapping, Mapping):
            return Entry(workload, family.accelerator, family.objective, record.value, record.mapping)
        try:
            name = json.loads(record.name)
            if not isinstance(name, str):
                raise SpecificationError(f"the name of the workload is {quoted(name)}")
            # Names were free once, and nobody shall lose an entry for its name.
            workload = replace(family.workload, name=printable(name).strip()[:LONGEST_NAME], bounds=record.bounds)
            record.workload = workload
            if not isinstance(record.mapping, Mapping):
                data = json.loads(record.mapping)
                record.mapping = Mapping.from_dict(data, workload, family.accelerator)
        except UNREADABLE as error:
            raise SpecificationError(
                f"{where} cannot be read ({_reason(error)}); leave it out, or make the buffer anew"
            ) from None
        return Entry(workload, family.accelerator, family.objective, record.value, record.mapping)

    def value(self, number: int) -> float:
        """The objective of an entry."""
        return self._records[number].value

    def digest(self) -> str:
        """SHA-256 of all entries in their order: equal for equal entries, however a file stores them."""
        return hashlib.sha256(b"".join(record.checksum for record in self._records)).hexdigest()

    def define(self, definition: Definition, thing: Workload | Accelerator | None = None) -> str:
        """Takes in a definition; returns what is wrong with it, "" if nothing.

        Args:
            definition: as a file has it.
            thing: what it says, if that is known.
        """
        table, key, text = definition
        try:
            if thing is None and definition_key(text) != key:
                return _WRONG_CHECKSUM
            if (table, key) not in self._definitions:
                if thing is None:
                    data = json.loads(text)
                    thing = Workload.from_dict(data) if table == STRUCTURES else Accelerator.from_stored(data)
                self._definitions[table, key] = thing
        except UNREADABLE as error:
            # A field of another type than it should have, too.
            return f"it cannot be read: {_reason(error)}"
        return ""

    def take(self, row: tuple[bytes, bytes, bytes, float, bytes, bytes, bytes], expected: bytes | None) -> str:
        """Takes in a row; returns what is wrong with it, "" if nothing.

        Args:
            row: the fields of a :class:`Row`.
            expected: its checksum; None if it was checked otherwise.
        """
        structure, accelerator, objective, value, name, text, mapping = row
        try:
            found = checksum(row)
            if expected is not None and found != expected:
                return _WRONG_CHECKSUM
            family = self.families.get((structure, accelerator, objective))
            is_new = family is None
            if family is None:
                family = self._family(structure, accelerator, objective)
            if not math.isfinite(value) or not (name.isascii() and mapping.isascii()):
                raise ValueError("its value is not finite, or its text not ASCII")
            if text[:1] + text[-1:] != b"[]":
                raise ValueError(f"its bounds are {quoted(text)}")
            bounds = tuple(map(int, text[1:-1].split(b",")))
            if len(bounds) != len(family.workload.dims) or min(bounds) < 1 or max(bounds) > MAX_INTEGER:
                raise ValueError(f"its bounds are {quoted(text)}")
        except UNREADABLE as error:
            # A field of another type than it should have, too.
            return f"it cannot be read: {_reason(error)}"
        if is_new:
            self.families[structure, accelerator, objective] = family
        family.add(len(self._records), bounds, value)
        self._records.append(_Record(family, value, name, bounds, mapping, found))
        return ""

    def add(self, row: Row, entry: Entry, definitions: Iterable[Definition]) -> None:
        """Takes in an entry that was encoded here."""
        structure = replace(entry.workload, name="", bounds=(1,) * len(entry.workload.dims))
        for definition in definitions:
            self.define(definition, structure if definition.table == STRUCTURES else entry.accelerator)
        self.take(row, None)
        self._records[-1].mapping = entry.mapping

    def _family(self, structure: bytes, accelerator: bytes, objective: bytes) -> Family:
        workload = self._definitions.get((STRUCTURES, structure))
        machine = self._definitions.get((ACCELERATORS, accelerator))
        if not isinstance(workload, Workload) or not isinstance(machine, Accelerator):
            raise ValueError("what it refers to has no good definition")
        return Family(workload, machine, objective.decode("ascii"))


_WRONG_CHECKSUM = "the checksum does not fit: it was cut off or edited"


def _compact(data: object) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()


def _reason(error: BaseException) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
