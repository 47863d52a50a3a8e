"""What an import finds: accelerators and networks, and what of the files has no effect."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from mapgym.errors import SpecificationError
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.catalog import Network
from mapgym.timeloop.reading.documents import Ignored

INPUTS, WEIGHTS, OUTPUTS = TENSORS = ("Inputs", "Weights", "Outputs")
"""What the tensors of a layer are called in the catalog, and in what is imported."""

BITS = 8
"""Of a word, where neither the files nor the user say so: what both tools' own examples have."""


@contextmanager
def naming(file: str) -> Iterator[None]:
    """Puts the file in front of what its content is refused for, if the message does not name it."""
    try:
        yield
    except SpecificationError as error:
        if file in str(error):
            raise
        raise SpecificationError(f"{file}: {error}") from None


@dataclass
class Imported:
    """What some files of another tool hold.

    Attributes:
        accelerators: in the order of the files.
        networks: lists of layers, in the order of the files.
        ignored: what was read and has no effect, or a simpler one than it has there.
    """

    accelerators: list[Accelerator] = field(default_factory=list)
    networks: list[Network] = field(default_factory=list)
    ignored: list[Ignored] = field(default_factory=list)


class Notes:
    """Collects what of a file has no effect: one entry for each key and reason, however many parts have it."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._parts: dict[tuple[str, str], list[str]] = {}

    def add(self, part: str, key: str, why: str) -> None:
        """Notes a key of a part (a memory, a layer; "" for the file itself)."""
        self._parts.setdefault((key, why), []).append(part)

    def add_unknown(self, part: str, keys: Iterable[object], known: Iterable[str]) -> None:
        """Notes the keys of a part that nothing is known of."""
        for key in keys:
            if key not in set(known):
                self.add(part, str(key), "mapgym does not know this key")

    def ignored(self) -> list[Ignored]:
        """All of it."""
        return [
            Ignored(self._file, ": ".join(filter(None, (", ".join(dict.fromkeys(parts)), key))), why)
            for (key, why), parts in self._parts.items()
        ]
