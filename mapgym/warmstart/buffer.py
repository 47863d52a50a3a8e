"""The replay buffer: solved layers with their mappings, in memory and in :mod:`mapgym.warmstart.buffer_file`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mapgym.cost import OBJECTIVES, CostModel, check_objective
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.mapping import Mapping, MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.workload import Workload
from mapgym.warmstart import buffer_file
from mapgym.warmstart.buffer_contents import Contents, Damage, Entry, encode
from mapgym.warmstart.similarity import Similarity, log_ratio_distance
from mapgym.warmstart.transfer import transfer_batch


@dataclass(frozen=True)
class Neighbor:
    """An entry, and how it goes with the task that was asked about.

    Attributes:
        entry: the solved layer.
        distance: of its workload from that of the task.
        same_accelerator: whether the hardware is the same; its costs may be counted by other rules.
        same_rules: whether its costs are counted by the same rules.
    """

    entry: Entry
    distance: float
    same_accelerator: bool = True
    same_rules: bool = True

    @property
    def place(self) -> tuple[bool, float, bool, str, float]:
        """By what neighbours are sorted: costs that different rules count are never compared."""
        rules = self.entry.accelerator.rules
        return not self.same_accelerator, self.distance, not self.same_rules, rules, self.entry.value


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
    """

    def __init__(self, path: str | Path | None = None) -> None:
        """Opens a buffer; a file that does not exist is made by the first :meth:`add`.

        Raises:
            SpecificationError: the file is no replay buffer, is one of another version, or cannot be read.
        """
        self.path = None if path is None else _checked_path(path)
        self._contents = Contents()
        if self.path is not None and self.path.exists():
            self._contents = buffer_file.read(self.path)

    def __len__(self) -> int:
        return len(self._contents)

    def __getitem__(self, number: int) -> Entry:
        return self._contents.entry(number, f"{self.path or 'the replay buffer'}: entry {number}")

    def __iter__(self) -> Iterator[Entry]:
        return (self[number] for number in range(len(self)))

    @property
    def damaged(self) -> list[Damage]:
        """What the file has that could not be used."""
        return self._contents.damaged

    @property
    def digest(self) -> str:
        """SHA-256 of the entries in their order: equal for equal entries, however a file stores them."""
        return self._contents.digest()

    @property
    def kinds(self) -> set[tuple[str, int]]:
        """(objective, number of storage levels) of the entries."""
        return {(family.objective, len(family.accelerator.levels)) for family in self._contents.families.values()}

    def remark(self, accelerator: Accelerator) -> str:
        """A sentence about entries under other counting rules than those of a task; "" if there are none."""
        rules = {family.accelerator.rules for family in self._contents.families.values()} - {accelerator.rules}
        if not rules:
            return ""
        return (
            f"the replay buffer {quoted(self.path or 'in memory')} has mappings that were found under "
            f"{', '.join(sorted(rules))}, this task counts as {accelerator.rules}; they are starting points, and are "
            "priced anew"
        )

    def add(self, workload: Workload, accelerator: Accelerator, mapping: Mapping, objective: str = "edp") -> float:
        """Adds one mapping, priced here, to the memory and to the file.

        Returns:
            Its objective (pJ*cycles, pJ or cycles).

        Raises:
            SpecificationError: the mapping is illegal, the objective unknown, or the file cannot be written.
        """
        check_objective(objective)
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
        """Adds entries as they are: all or, if an error is raised, none.

        Their values are believed (``verify`` prices them again). When it returns, the disk has them. A buffer with a
        file has all entries of that file afterwards, those included that others have added since it was read; if the
        file was removed or replaced, those of the one that is there.

        Raises:
            SpecificationError: an entry could not be read back, or the file cannot be written.
        """
        entries = [*entries]
        encoded = [encode(entry) for entry in entries]
        if self.path is None:
            for entry, (row, definitions) in zip(entries, encoded, strict=True):
                self._contents.add(row, entry, definitions)
        elif entries:
            rows = [row for row, _ in encoded]
            needed = dict.fromkeys(definition for _, definitions in encoded for definition in definitions)
            self._contents = buffer_file.append(self.path, self._contents, rows, needed)

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

        Entries of the same hardware (definition, not name) come before all others; others take part if they have as
        many storage levels. A mapping is a good start under whichever rules it was found, so that entries under other
        rules take part, too; their costs are not compared with those under the rules of the task.

        Args:
            workload, accelerator, objective: the task.
            count: how many at most.
            similarity: distance between workloads, see :mod:`mapgym.warmstart.similarity`.
            exclude: workloads that do not count (equal dims, bounds and tensors, whatever their names), to leave out
                what must not be known.
        """
        machine, hidden = _text_of(accelerator), {_text_of(other) for other in exclude}
        found: list[tuple[bool, float, bool, str, float, int]] = []
        for family in self._contents.families.values():
            theirs = family.accelerator
            if len(theirs.levels) != len(accelerator.levels) or family.objective != objective:
                continue
            other_machine, other_rules = _text_of(theirs) != machine, theirs.rules != accelerator.rules
            numbers, bounds = family.arrays
            distances = similarity(workload, family.workload, bounds)
            for k in _smallest(distances, count + len(hidden)):
                number = int(numbers[k])
                place = (other_machine, float(distances[k]), other_rules, theirs.rules)
                found.append((*place, self._contents.value(number), number))
        ordered = [
            Neighbor(self[number], distance, not other, not rules)
            for other, distance, rules, _, _, number in sorted(found)
        ]
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
        """Moves what is damaged in the file now into one beside it, and reads the file anew.

        Returns:
            Where it is now: rows or lines in FILE.damaged; the whole file, if more is damaged than some rows, in
            FILE.corrupt, and what can be read of it in a new one. None if nothing is damaged.

        Raises:
            SpecificationError: the file cannot be read or written.
        """
        if self.path is None or not self.path.exists():
            return None
        aside = buffer_file.repair(self.path)
        self._contents = buffer_file.read(self.path)
        return aside

    def problems(self) -> Iterator[tuple[int, str]]:
        """Prices every entry again; yields the number of each whose mapping is illegal or costs something else."""
        for number in range(len(self)):
            try:
                entry = self[number]
                cost = CostModel(entry.workload, entry.accelerator).evaluate(entry.mapping)
            except SpecificationError as error:
                yield number, str(error)
                continue
            if entry.objective not in OBJECTIVES:
                yield number, f"its objective {quoted(entry.objective)} is unknown"
            elif not cost.legal:
                space = MapSpace(entry.workload, entry.accelerator)
                yield number, f"its mapping is illegal: {space.reason(entry.mapping)}"
            elif not math.isclose(cost.objective(entry.objective), entry.value, rel_tol=1e-9):
                yield number, f"it costs {cost.objective(entry.objective):.7g}, not {entry.value:.7g}"


def _checked_path(path: str | Path) -> Path:
    if "\0" in str(path):
        raise SpecificationError(f"a path cannot be {quoted(str(path))}; give the path of a replay buffer")
    return Path(path)


def _smallest(distances: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Indices of so many smallest distances, and of all that equal the last of them."""
    if len(distances) <= count:
        return np.arange(len(distances))
    return np.flatnonzero(distances <= np.partition(distances, count - 1)[count - 1])


@lru_cache(maxsize=1024)
def _text_of(thing: Workload | Accelerator) -> str:
    """Equal for equal layers and equal hardware, whatever their names and the rules by which costs are counted."""
    return json.dumps({**thing.to_dict(), "name": "", "rules": ""}, sort_keys=True)
