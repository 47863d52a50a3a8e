"""A study as a list of pieces of work, each kept in a file as soon as it is done."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mapgym import __version__
from mapgym.agents.files.store import Store, Work
from mapgym.agents.studies.processes import Processes
from mapgym.system.file_names import file_name
from mapgym.system.files import prepare_output_folder, read_json, write_json

Result = dict[str, Any]

_SECONDS_BETWEEN_TRIALS = 0.5
"""Until a piece of work that another process was at is looked at again."""


@dataclass(frozen=True)
class Cell:
    """One piece of work.

    Attributes:
        name: for people; its file is called after it, so that it tells the cells of a study apart.
        settings: JSON-able; everything that decides the result. Cells of other settings are done anew.
        compute: does the work, of the results of the cells that it needs, and returns its result, JSON-able and finite,
            with the key "summary": one line about it. It can be pickled where worker processes are used.
        needs: names of cells before it whose results it takes.
        state: how far it is, for people, while it is computed in this process; its name if left out.
    """

    name: str
    settings: dict[str, Any]
    compute: Callable[..., Result] = field(compare=False)
    needs: tuple[str, ...] = ()
    state: Callable[[], str] | None = field(default=None, compare=False)

    @property
    def file_name(self) -> str:
        """Differs for different names."""
        return file_name(self.name, slash=True) + ".json"

    def describe(self) -> str:
        """What it is at."""
        return self.name if self.state is None else self.state()


def run_cells(
    cells: Sequence[Cell],
    folder: Path,
    started: Callable[[Cell], None] = lambda cell: None,
    finished: Callable[[Cell, Result, bool], None] = lambda cell, result, was_there: None,
    damaged: Callable[[Path], None] = lambda path: None,
    jobs: int = 0,
) -> list[Result]:
    """Does what is not done yet, see :class:`mapgym.agents.files.store.Store`.

    Args:
        cells: the work; each after those that it needs.
        folder: keeps one file for each cell, in cells/.
        started: told before a cell is computed.
        finished: told of each result, and whether it had been there already.
        damaged: told of each file that cannot be read, before it is made again.
        jobs: worker processes; 0 to do everything here. Results do not depend on it.

    Returns:
        The result of each cell, in the form that its file holds.

    Raises:
        SpecificationError: the folder is not writable.
    """
    results: dict[str, Result] = {}

    def done(cell: Cell, result: Result, was_there: bool) -> None:
        results[cell.name] = result
        finished(cell, result, was_there)

    store = Store(folder, damaged)
    if jobs:
        _run_in_processes(cells, store, results, started, done, jobs)
    else:
        store.do_all(cells, lambda cell: _work(cell, lambda: _make(cell, results, started)), done)
    return [results[cell.name] for cell in cells]


def _make(cell: Cell, results: dict[str, Result], started: Callable[[Cell], None]) -> Result:
    started(cell)
    return cell.compute(*(results[name] for name in cell.needs))


def _run_in_processes(
    cells: Sequence[Cell],
    store: Store,
    results: dict[str, Result],
    started: Callable[[Cell], None],
    done: Callable[[Cell, Result, bool], None],
    jobs: int,
) -> None:
    """As run_cells: cells whose needs are met are computed side by side; files are written by this process alone."""
    prepare_output_folder(store.path)
    waiting = list(cells)
    with store.opened(), ExitStack() as leaving, Processes(jobs) as processes:
        locks: dict[str, ExitStack] = {}
        while waiting or locks:
            busy = False
            for cell in [cell for cell in waiting if all(name in results for name in cell.needs)]:
                if len(locks) >= jobs:
                    break
                work = _work(cell, dict)
                lock = leaving.enter_context(ExitStack())
                if not lock.enter_context(store.lock(work.file)):
                    lock.close()
                    busy = True
                    continue
                waiting.remove(cell)
                if (earlier := store.read(work.file, work.read)) is not None:
                    lock.close()
                    done(cell, earlier, True)
                    continue
                started(cell)
                locks[cell.name] = lock
                processes.begin(cell.name, cell.compute, [results[name] for name in cell.needs])
            if locks:
                name, computed = processes.next()
                cell = next(cell for cell in cells if cell.name == name)
                work, result = _work(cell, dict), _through_json(computed)
                path = store.path / work.file
                path.parent.mkdir(parents=True, exist_ok=True)
                work.write(path, result)
                locks.pop(name).close()
                done(cell, result, False)
            elif busy:
                time.sleep(_SECONDS_BETWEEN_TRIALS)


def _work(cell: Cell, make: Callable[[], Result]) -> Work[Result]:
    settings = _through_json({**cell.settings, "mapgym_version": __version__})

    def read(path: Path) -> Result | None:
        data = read_json(path)
        result: Result = data["result"]
        return result if data["settings"] == settings else None

    def write(path: Path, result: Result) -> None:
        write_json(path, {"settings": settings, "result": result})

    return Work(f"cells/{cell.file_name}", read, lambda: _through_json(make()), write)


def _through_json(data: dict[str, Any]) -> dict[str, Any]:
    """As a file gives it back, so that what was computed now and what was there cannot be told apart."""
    plain: dict[str, Any] = json.loads(json.dumps(data))
    return plain
