"""A study as a list of pieces of work, each kept in a file as soon as it is done."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mapgym import __version__
from mapgym.agents.experiment.files import TEMPORARY_PREFIX, prepare_output_folder, write_json

Result = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One piece of work.

    Attributes:
        name: for people; also the name of its file, so that it tells the cells of a study apart.
        settings: JSON-able; everything that decides the result. Cells of other settings are done anew.
        compute: does the work and returns its result, JSON-able and finite, with the key "summary": one line about it.
    """

    name: str
    settings: dict[str, Any]
    compute: Callable[[], Result] = field(compare=False)

    @property
    def file_name(self) -> str:
        """The name as that of a file."""
        return re.sub(r"[^A-Za-z0-9_.]+", "-", self.name).strip("-.") + ".json"


def run_cells(
    cells: Sequence[Cell],
    folder: Path,
    started: Callable[[Cell], None] = lambda cell: None,
    finished: Callable[[Cell, Result, bool], None] = lambda cell, result, was_there: None,
) -> list[Result]:
    """Does what is not done yet.

    An interruption (KeyboardInterrupt) passes through; what was finished before it is in the folder.

    Args:
        cells: the work.
        folder: keeps one file for each cell, in cells/.
        started: told before a cell is computed.
        finished: told of each result, and whether it had been there already.

    Returns:
        The result of each cell, as it is read back from its file.

    Raises:
        SpecificationError: the folder is not writable.
    """
    prepare_output_folder(folder)
    (folder / "cells").mkdir(exist_ok=True)
    for leftover in folder.glob(f"cells/{TEMPORARY_PREFIX}*"):
        leftover.unlink(missing_ok=True)
    results = []
    for cell in cells:
        path = folder / "cells" / cell.file_name
        # What is compared with a file must have gone through JSON itself.
        settings = json.loads(json.dumps({**cell.settings, "mapgym_version": __version__}))
        result = _load(path, settings)
        was_there = result is not None
        if result is None:
            started(cell)
            write_json(path, {"settings": settings, "result": cell.compute()})
            result = _load(path, settings)
            assert result is not None
        results.append(result)
        finished(cell, result, was_there)
    return results


def _load(path: Path, settings: dict[str, Any]) -> Result | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return data["result"] if data["settings"] == settings else None
    except (OSError, KeyError, TypeError, ValueError):
        # It can be made again, so that a file that is missing or strange is no mistake of the user.
        return None
