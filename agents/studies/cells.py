"""A study as a list of pieces of work, each kept in a file as soon as it is done."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mapgym import __version__
from mapgym.system.file_names import file_name
from mapgym.system.files import prepare_output_folder, read_json, write_json
from mapgym.system.locks import FolderLocks

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
    """Does what is not done yet.

    An interruption (KeyboardInterrupt) passes through; what was finished before it is in the folder. Several processes
    may do the same work in the same folder: each piece is done by one of them, and the others wait for it.

    Args:
        cells: the work.
        folder: keeps one file for each cell, in cells/.
        started: told before a cell is computed.
        finished: told of each result, and whether it had been there already.
        damaged: told of each file that cannot be read, before it is made again.

    Returns:
        The result of each cell, as it is read back from its file.

    Raises:
        SpecificationError: the folder is not writable.
    """
    prepare_output_folder(folder)
    (folder / "cells").mkdir(exist_ok=True)
    results = []
    with FolderLocks(folder) as locks:
        for cell in cells:
            path = folder / "cells" / cell.file_name
            # What is compared with a file must have gone through JSON itself.
            settings = json.loads(json.dumps({**cell.settings, "mapgym_version": __version__}))
            with locks.work(f"cells/{cell.file_name}", waiting=lambda: None):
                result = _load(path, settings, damaged)
                was_there = result is not None
                if result is None:
                    started(cell)
                    write_json(path, {"settings": settings, "result": cell.compute()})
                    result = read_json(path)["result"]
            results.append(result)
            finished(cell, result, was_there)
    return results


def _load(path: Path, settings: dict[str, Any], damaged: Callable[[Path], None]) -> Result | None:
    try:
        data = read_json(path)
        found: Result | None = data["result"] if data["settings"] == settings else None
    except FileNotFoundError:
        return None
    except (OSError, KeyError, ValueError):
        # It can be made again, so that a strange file is no mistake of the user.
        damaged(path)
        return None
    return found
