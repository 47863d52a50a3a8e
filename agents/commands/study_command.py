"""What the commands ``mapgym study ...`` share: options, progress, and the end with tables and pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.progress_bar import ProgressBar

from mapgym.agents.commands import console, parsing
from mapgym.agents.files.tables import Table, write_report
from mapgym.agents.studies.cells import Cell, Result, run_cells
from mapgym.errors import SpecificationError
from mapgym.evaluation.task import Task, distinct_tasks, rules_text

PAPER_LAYERS = "paper"
ACCELERATORS = "accel_a,accel_b"

WorkloadsOption = Annotated[str, typer.Option("--workloads", help="Workloads or networks, separated by commas.")]
AcceleratorsOption = Annotated[str, typer.Option("--accelerators", help="Accelerators, separated by commas.")]
PeerLinksOption = Annotated[
    bool, typer.Option("--peer-links", help="Leave the links between neighbours as the accelerator has them.")
]
QuickOption = Annotated[bool, typer.Option("--quick", help="Fewer seeds and samples, for a first look.")]


def study_tasks(
    workloads: str, accelerators: str, axes: str, objective: str, *, peer_links: bool, rules: str | None
) -> list[Task]:
    """The tasks that the user named; each workload on each accelerator."""
    return distinct_tasks(
        parsing.load_workloads(parsing.comma_separated(workloads, "--workloads")),
        parsing.load_accelerators(accelerators, "--accelerators", peer_links=peer_links, rules=rules),
        [parsing.parse_axes(axes)],
        objective,
    )


def rules_of(tasks: Sequence[Task]) -> str:
    """Under which counting rules the costs of tasks are, for people."""
    return rules_text(task.accelerator for task in tasks)


def at_least(value: int, least: int, what: str) -> int:
    """Checks an option that is a whole number."""
    if value < least:
        raise SpecificationError(f"{what} is {value}; give at least {least}")
    return value


def run_with_display(
    context: typer.Context,
    output: Path,
    title: str,
    cells: Sequence[Cell],
    make_tables: Callable[[list[Result]], list[Table]],
    draw: Callable[[list[Result], Path], list[str]],
    rules: str,
    on_result: Callable[[Result], None] | None = None,
) -> None:
    """Does the work, shows how far it is, and ends with the report.

    Args:
        context: of the command, whose name is that of the report.
        output: folder.
        title: heading of the report.
        cells: the work.
        make_tables: tables from the results of all cells; the first one is printed.
        draw: draws pictures into a folder and returns their names.
        rules: under which counting rules the costs are, for people.
        on_result: told of each result, new or there already, before the next cell is computed.
    """
    results = work_through(output, cells, on_result)
    finish(context, output, title, make_tables(results), lambda: draw(results, output), rules)


def work_through(
    output: Path, cells: Sequence[Cell], on_result: Callable[[Result], None] | None = None, jobs: int = 0
) -> list[Result]:
    """Does the work and shows how far it is; Ctrl-C exits with a sentence.

    Args:
        output: folder.
        cells: the work.
        on_result: told of each result, new or there already, before the next cell is computed.
        jobs: worker processes; 0 to do everything here.

    Returns:
        The result of each cell.
    """

    def finished(cell: Cell, result: Result, was_there: bool) -> None:
        if on_result is not None:
            on_result(result)
        board.finished(cell.name, result["summary"], was_there)

    with shown(len(cells), "parts", output) as board:
        begun = lambda cell: board.started(cell.name, cell.describe)  # noqa: E731 - named for the call below
        return run_cells(cells, output, begun, finished, console.notify_damaged, jobs)


def finish(
    context: typer.Context, output: Path, title: str, tables: Sequence[Table], draw: Callable[[], list[str]], rules: str
) -> None:
    """Writes the report of a study, called as the command, and prints the first table; see :func:`end_with_report`."""
    end_with_report(output, str(context.info_name), title, parsing.command_line(context), tables, draw, rules)


def end_with_report(
    output: Path,
    name: str,
    title: str,
    command: str,
    tables: Sequence[Table],
    draw: Callable[[], list[str]],
    rules: str,
    pages: Sequence[str] = (),
) -> None:
    """Writes the report, and prints the first table.

    Args:
        output: folder.
        name: of the report.
        title: its heading.
        command: what made it.
        tables: from the overview to the details.
        draw: draws pictures into the folder and returns their names.
        rules: under which counting rules the costs are, for people.
        pages: what has been written into the folder already.
    """
    pictures: list[str] = []
    try:
        pictures = draw()
    except ImportError:
        console.notify("No pictures: Matplotlib is not installed; install it with: pip install 'mapgym[plot]'")
    written = [*pages, *write_report(output, name, title, command, tables, pictures, rules)]
    overview = tables[0]
    shown = console.new_table(overview.title, overview.columns[:1], overview.columns[1:])
    for row in overview.text_rows():
        shown.add_row(*row)
    console.say("")
    console.out().print(shown)
    console.say(f"\nWritten to {output}: {', '.join(written)}.")


class Board:
    """Shows progress: a bar on a terminal, and a line for each finished part."""

    def __init__(self, total: int, unit: str) -> None:
        """Takes how many parts there are, and what they are called."""
        self._total, self._unit = total, unit
        self._done = 0
        self._current: dict[str, Callable[[], str]] = {}

    def started(self, name: str, describe: Callable[[], str]) -> None:
        """A part begins; what it is at can be asked for while it lasts."""
        self._current[name] = describe

    def finished(self, name: str, outcome: str, was_there: bool) -> None:
        """A part is done; ``was_there`` when it had been in the folder already."""
        self._current.pop(name, None)
        self._done += 1
        there = ", was there already" if was_there else ""
        console.say(f"[{self._done}/{self._total}] {name}: {outcome}{there}")

    @property
    def state(self) -> str:
        """Such as "3 of 5 parts"."""
        return f"{self._done} of {self._total} {self._unit}"

    def render(self) -> RenderableType:
        """The picture."""
        current = "; ".join(describe() for describe in list(self._current.values()))
        line = console.PrintableTable.grid(padding=(0, 2))
        bar = ProgressBar(total=self._total, completed=self._done, width=16)
        line.add_row(bar, self.state, current)
        return line


@contextmanager
def shown(total: int, unit: str, output: Path) -> Iterator[Board]:
    """Shows progress during the block; Ctrl-C exits with a sentence about what is kept in the folder."""
    board = Board(total, unit)
    kept = console.kept_when_interrupted(
        lambda: f"Interrupted: {board.state} are finished and kept in {output}; run the same command again to continue."
    )
    with kept, console.live_display(console.out(), board.render, keep=False):
        yield board
