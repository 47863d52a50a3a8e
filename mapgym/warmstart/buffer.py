"""The replay buffer: solved layers with their mappings, in memory and in a file that only ever grows.

The file is text, one record a line: a CRC-32 of the rest of the line (eight hexadecimal digits), a kind, and fields
separated by tabs. Nothing in it is executed. Definitions (``S`` the structure of workloads, that is dims and tensors;
``A`` accelerator: each a key and JSON) precede the entries that use them (``E``: keys of structure and accelerator,
objective, value, name and bounds of the workload, mapping as JSON).

- Appending is one write under a lock of the file, so that two writers do not mix their lines.
- A writer that dies in the middle of a write leaves a line without its end or with a wrong checksum. Readers leave such
  lines out and name them (:attr:`ReplayBuffer.damaged`); the next writer starts on a line of its own; ``repair`` moves
  them into a file beside this one.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mapgym.accelerator import Accelerator
from mapgym.cost import OBJECTIVES, CostModel
from mapgym.errors import SpecificationError, suggest
from mapgym.mapping import Mapping, MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.text import quoted
from mapgym.warmstart.similarity import Similarity, log_ratio_distance
from mapgym.warmstart.transfer import transfer_batch
from mapgym.workload import Workload

FORMAT_VERSION = 1
_HEADER = f"mapgym replay buffer\t{FORMAT_VERSION}"


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
class Neighbor:
    """An entry, how far its workload is from the one that was asked about, and whether the accelerator is the same."""

    entry: Entry
    distance: float
    same_accelerator: bool = True


@dataclass(frozen=True)
class Damage:
    """A line of the file that cannot be used, and why."""

    line: int
    why: str
    text: str


class _Family:
    """The best entry of each workload, for workloads that differ in their bounds only, on one accelerator."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self._best: dict[tuple[int, ...], tuple[float, int]] = {}
        self._arrays: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None

    def add(self, number: int, bounds: tuple[int, ...], value: float) -> None:
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


@dataclass
class _Record:
    """An entry as the file has it; only what is asked for is built."""

    structure: str
    accelerator: str
    objective: str
    value: float
    name: str
    bounds: tuple[int, ...]
    mapping: str | Mapping


class ReplayBuffer:
    """Solved layers from which searches of other layers can begin.

    Example:
        >>> import numpy as np
        >>> from mapgym import MapSpace, catalog
        >>> buffer = ReplayBuffer()
        >>> space = MapSpace(catalog.workload("resnet18/conv2"), catalog.accelerator("accel_b"))
        >>> value = buffer.add(space.workload, space.accelerator, space.sample(np.random.default_rng(0), 1)[0])
        >>> other = MapSpace(catalog.workload("resnet18/conv3"), space.accelerator)
        >>> len(buffer.initial(other))
        1

    Attributes:
        path: the file, None for a buffer that lives in memory only.
        damaged: the lines of the file that could not be used.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        """Opens a buffer; a file that does not exist is made by the first :meth:`add`.

        Raises:
            SpecificationError: the file is no replay buffer, or one of another version.
        """
        self.path = None if path is None else Path(path)
        self.damaged: list[Damage] = []
        self._structures: dict[str, Workload] = {}
        self._accelerators: dict[str, Accelerator] = {}
        self._records: list[_Record] = []
        self._families: dict[tuple[str, str, str], _Family] = {}
        if self.path is not None and self.path.exists():
            self._load(self.path)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, number: int) -> Entry:
        record = self._records[number]
        accelerator = self._accelerators[record.accelerator]
        workload = replace(self._structures[record.structure], name=record.name, bounds=record.bounds)
        if isinstance(record.mapping, str):
            record.mapping = Mapping.from_dict(
                json.loads(record.mapping), workload, accelerator, f"{self.path}: mapping of entry {number}"
            )
        return Entry(workload, accelerator, record.objective, record.value, record.mapping)

    def __iter__(self) -> Iterator[Entry]:
        return (self[number] for number in range(len(self)))

    @property
    def kinds(self) -> set[tuple[str, int]]:
        """(objective, number of storage levels) of the entries."""
        families = self._families
        return {(objective, len(self._accelerators[machine].levels)) for _, machine, objective in families}

    def add(self, workload: Workload, accelerator: Accelerator, mapping: Mapping, objective: str = "edp") -> float:
        """Adds one mapping, priced here, to the memory and to the file.

        Returns:
            Its objective (pJ*cycles, pJ or cycles).

        Raises:
            SpecificationError: the mapping is illegal, or the objective unknown.
        """
        if objective not in OBJECTIVES:
            raise SpecificationError(f"unknown objective {quoted(objective)}; {suggest(str(objective), OBJECTIVES)}")
        model = CostModel(workload, accelerator)
        cost = model.evaluate(mapping)
        if not cost.legal:
            raise SpecificationError(
                f"a mapping of {quoted(workload.name)} on {quoted(accelerator.name)} is illegal and cannot be added: "
                f"{MapSpace(workload, accelerator).reason(mapping)}"
            )
        value = float(cost.objective(objective))
        self.extend([Entry(workload, accelerator, objective, value, mapping)])
        return value

    def extend(self, entries: Iterable[Entry]) -> None:
        """Adds entries as they are, in one write; their values are believed (``verify`` prices them again)."""
        lines: list[str] = []
        records: list[_Record] = []
        things: dict[str, Workload | Accelerator] = {}
        for entry in entries:
            keys = []
            structure = replace(entry.workload, name="", bounds=(1,) * len(entry.workload.dims))
            for kind, thing in (("S", structure), ("A", entry.accelerator)):
                text = _compact(thing.to_dict())
                key = hashlib.sha256(text.encode()).hexdigest()[:16]
                keys.append(key)
                if key not in things and key not in self._structures and key not in self._accelerators:
                    lines.append(_line(kind, key, text))
                    things[key] = thing
            value, name, bounds = float(entry.value), entry.workload.name, entry.workload.bounds
            mapping = _compact(entry.mapping.to_dict())
            lines.append(_line("E", *keys, entry.objective, repr(value), _compact(name), _compact(bounds), mapping))
            records.append(_Record(keys[0], keys[1], entry.objective, value, name, bounds, entry.mapping))
        if self.path is not None and lines:
            _append(self.path, "".join(lines).encode())
        # Only what the file has is known here.
        for key, thing in things.items():
            self._define(key, thing)
        for record in records:
            self._index(record)

    def nearest(
        self,
        workload: Workload,
        accelerator: Accelerator,
        objective: str = "edp",
        *,
        count: int = 1,
        similarity: Similarity = log_ratio_distance,
        exclude: Iterable[Workload] = (),
    ) -> list[Neighbor]:
        """The entries whose workloads are most like one, nearest first; of each workload the best mapping only.

        Entries of the same accelerator (definition, not name) come before all others; others take part if they have as
        many storage levels.

        Args:
            workload, accelerator, objective: the task.
            count: how many at most.
            similarity: distance between workloads, see :mod:`mapgym.warmstart.similarity`.
            exclude: workloads that do not count (equal dims, bounds and tensors, whatever their names), to leave out
                what must not be known.
        """
        machine, hidden = _text_of(accelerator), {_text_of(other) for other in exclude}
        found: list[tuple[bool, float, float, int]] = []
        for (_, key, family_objective), family in self._families.items():
            theirs = self._accelerators[key]
            if len(theirs.levels) != len(accelerator.levels) or family_objective != objective:
                continue
            other_machine = _text_of(theirs) != machine
            numbers, bounds = family.arrays
            distances = similarity(workload, family.workload, bounds)
            for k in _smallest(distances, count + len(hidden)):
                number = int(numbers[k])
                found.append((other_machine, float(distances[k]), self._records[number].value, number))
        ordered = [Neighbor(self[number], distance, not other) for other, distance, _, number in sorted(found)]
        return [entry for entry in ordered if not hidden or _text_of(entry.entry.workload) not in hidden][:count]

    def initial(
        self,
        space: MapSpace,
        objective: str = "edp",
        *,
        count: int = 1,
        similarity: Similarity = log_ratio_distance,
        exclude: Iterable[Workload] = (),
    ) -> MappingBatch:
        """Mappings of a space to begin a search from: the nearest entries, transferred, nearest first.

        What cannot be transferred is left out, so that the batch may be shorter than ``count``, or empty.
        """
        batches = [MappingBatch.trivial(space.workload, space.accelerator, 0)]
        for neighbor in self.nearest(
            space.workload, space.accelerator, objective, count=count, similarity=similarity, exclude=exclude
        ):
            batch, fits = transfer_batch(neighbor.entry.mapping.batch(), neighbor.entry.workload, space)
            batches.append(batch[fits])
        return MappingBatch.concatenate(batches)

    def repair(self) -> Path | None:
        """Moves the damaged lines into a file beside the buffer; returns that file, None if there is no damage."""
        if self.path is None or not self.damaged:
            return None
        aside = self.path.with_name(self.path.name + ".damaged")
        with _locked(self.path) as file:
            lines = file.read().split(b"\n")
            bad = {damage.line for damage in self.damaged}
            with aside.open("ab") as other:
                other.writelines(line + b"\n" for number, line in enumerate(lines, 1) if number in bad)
            good = [line for number, line in enumerate(lines, 1) if number not in bad and line]
            rewritten = self.path.with_name(f".{self.path.name}.{os.getpid()}")
            rewritten.write_bytes(b"".join(line + b"\n" for line in good))
            rewritten.replace(self.path)
        self.damaged = []
        return aside

    def problems(self) -> Iterator[tuple[int, str]]:
        """Prices every entry again; yields the number of each whose mapping is illegal or costs something else."""
        for number, entry in enumerate(self):
            cost = CostModel(entry.workload, entry.accelerator).evaluate(entry.mapping)
            if not cost.legal:
                space = MapSpace(entry.workload, entry.accelerator)
                yield number, f"its mapping is illegal: {space.reason(entry.mapping)}"
            elif not math.isclose(cost.objective(entry.objective), entry.value, rel_tol=1e-9):
                yield number, f"it costs {cost.objective(entry.objective):.7g}, not {entry.value:.7g}"

    def _define(self, key: str, thing: Workload | Accelerator) -> None:
        if isinstance(thing, Workload):
            self._structures[key] = thing
        else:
            self._accelerators[key] = thing

    def _index(self, record: _Record) -> None:
        key = (record.structure, record.accelerator, record.objective)
        family = self._families.get(key)
        if family is None:
            family = self._families[key] = _Family(self._structures[record.structure])
        family.add(len(self._records), record.bounds, record.value)
        self._records.append(record)

    def _load(self, path: Path) -> None:
        if path.is_dir():
            raise SpecificationError(f"{quoted(path)} is a folder; give the path of a replay buffer, or of a new file")
        lines = path.read_bytes().split(b"\n")
        header = lines[0].decode("utf-8", "replace")
        if len(lines) == 1 and _HEADER.startswith(header):
            return  # Its first writer died in the first line.
        if header != _HEADER:
            name, _, version = header.partition("\t")
            if name == _HEADER.partition("\t")[0]:
                raise SpecificationError(
                    f"{quoted(path)} is a replay buffer of version {quoted(version)}, this is version "
                    f"{FORMAT_VERSION}; "
                    "make a new one with the mapgym that is installed"
                )
            raise SpecificationError(f"{quoted(path)} is not a replay buffer; give the path of one, or of a new file")
        for number, line in enumerate(lines[1:], 2):
            if line:
                why = self._read(line)
                if why:
                    self.damaged.append(Damage(number, why, line.decode("utf-8", "replace")))

    def _read(self, line: bytes) -> str:
        """Takes in one line; returns what is wrong with it, "" if nothing."""
        if line[:8] != b"%08x" % zlib.crc32(line[9:]):
            return "the checksum does not fit: the line was cut off or edited"
        kind, *fields = line[9:].decode().split("\t")
        try:
            if kind == "S":
                self._define(fields[0], Workload.from_dict(json.loads(fields[1])))
            elif kind == "A":
                self._define(fields[0], Accelerator.from_dict(json.loads(fields[1])))
            elif kind == "E":
                structure, accelerator, objective, value, name, bounds, mapping = fields
                if structure not in self._structures or accelerator not in self._accelerators:
                    return "what it refers to is defined in no good line before it"
                numbers = tuple(map(int, bounds[1:-1].split(",")))
                self._index(
                    _Record(structure, accelerator, objective, float(value), json.loads(name), numbers, mapping)
                )
            else:
                return f"unknown kind of line {quoted(kind)}"
        except (SpecificationError, ValueError, IndexError) as error:
            return f"it cannot be read: {error}"
        return ""


def _compact(data: object) -> str:
    return json.dumps(data, separators=(",", ":"))


def _line(*fields: str) -> str:
    text = "\t".join(fields)
    return f"{zlib.crc32(text.encode()):08x}\t{text}\n"


def _smallest(distances: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Indices of so many smallest distances, and of all that equal the last of them."""
    if len(distances) <= count:
        return np.arange(len(distances))
    return np.flatnonzero(distances <= np.partition(distances, count - 1)[count - 1])


def _text_of(thing: Workload | Accelerator) -> str:
    """Equal for equal definitions, whatever their names."""
    return json.dumps({**thing.to_dict(), "name": ""}, sort_keys=True)


def _append(path: Path, data: bytes) -> None:
    """Appends in one write, on a line of its own, and waits until the disk has it."""
    with _locked(path) as file:
        header = f"{_HEADER}\n".encode()
        if len(begun := file.read(len(header))) < len(header) and header.startswith(begun):
            # New, or its first writer died in the first line.
            file.truncate(0)
            data = header + data
        else:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                data = b"\n" + data
        file.seek(0, os.SEEK_END)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    """The file, opened for reading and appending, while nobody else writes to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("a+b", buffering=0) as file:
            _lock(file)
            # Whoever rewrites the file replaces it: the lock of a file that is gone says nothing.
            if not path.exists() or os.fstat(file.fileno()).st_ino != path.stat().st_ino:
                continue
            file.seek(0)
            yield file
            return


def _lock(file: IO[bytes]) -> None:
    """Waits for the lock of an open file; closing the file, or dying, gives it back."""
    try:
        import fcntl
    except ImportError:
        import msvcrt

        file.seek(0)
        windows: Any = msvcrt
        windows.locking(file.fileno(), windows.LK_LOCK, 1)
    else:
        fcntl.flock(file, fcntl.LOCK_EX)
