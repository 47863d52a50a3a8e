"""A study as a list of pieces of work, each kept in a file as soon as it is done."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mapgym import __version__
from mapgym.agents.files.store import Store, Work
from mapgym.system.file_names import file_name
from mapgym.system.files import read_json, write_json

Result = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One piece of work.

    Attributes:
        name: for people; its file is called after it, so that it tells the cells of a study apart.
        settings: JSON-able; everything that decides the result. Cells of other settings are done anew.
        compute: does the work and returns its result, JSON-able and finite, with the key "summary": one line about it.
    """

    name: str
    settings: dict[str, Any]
    compute: Callable[[], Result] = field(compare=False)

    @property
    def file_name(self) -> str:
        """Differs for different names."""
        return file_name(self.name, slash=True) + ".json"


def run_cells(
    cells: Sequence[Cell],
    folder: Path,
    started: Callable[[Cell], None] = lambda cell: None,
    finished: Callable[[Cell, Result, bool], None] = lambda cell, result, was_there: None,
    damaged: Callable[[Path], None] = lambda path: None,
) -> list[Result]:
    """Does what is not done yet, see :class:`mapgym.agents.files.store.Store`.

    Args:
        cells: the work.
        folder: keeps one file for each cell, in cells/.
        started: told before a cell is computed.
        finished: told of each result, and whether it had been there already.
        damaged: told of each file that cannot be read, before it is made again.

    Returns:
        The result of each cell, in the form that its file holds.

    Raises:
        SpecificationError: the folder is not writable.
    """
    return Store(folder, damaged).do_all(cells, lambda cell: _work(cell, started), finished)


def _work(cell: Cell, started: Callable[[Cell], None]) -> Work[Result]:
    settings = _through_json({**cell.settings, "mapgym_version": __version__})

    def read(path: Path) -> Result | None:
        data = read_json(path)
        result: Result = data["result"]
        return result if data["settings"] == settings else None

    def make() -> Result:
        started(cell)
        return _through_json(cell.compute())

    def write(path: Path, result: Result) -> None:
        write_json(path, {"settings": settings, "result": result})

    return Work(f"cells/{cell.file_name}", read, make, write)


def _through_json(data: dict[str, Any]) -> dict[str, Any]:
    """As a file gives it back, so that what was computed now and what was there cannot be told apart."""
    plain: dict[str, Any] = json.loads(json.dumps(data))
    return plain
