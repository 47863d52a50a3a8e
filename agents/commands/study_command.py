"""What the commands ``mapgym study ...`` share: options, progress, and the end with tables and pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.progress_bar import ProgressBar

from mapgym.agents.commands import common
from mapgym.errors import SpecificationError

if TYPE_CHECKING:
    from mapgym.agents.experiment.definition.experiment import Experiment
    from mapgym.agents.experiment.report.summary import Summary
    from mapgym.agents.experiment.storage.results import RunResult
    from mapgym.agents.files.tables import Table
    from mapgym.agents.studies.cells import Cell, Result
    from mapgym.evaluation.task import Task

PAPER_LAYERS = "paper"
ACCELERATORS = "accel_a,accel_b"

OutputOption = Annotated[
    Path, typer.Option("--output", "-o", help="Folder for results; continues what it holds.", show_default=False)
]
WorkloadsOption = Annotated[str, typer.Option("--workloads", help="Workloads or networks, separated by commas.")]
AcceleratorsOption = Annotated[str, typer.Option("--accelerators", help="Accelerators, separated by commas.")]
PeerLinksOption = Annotated[
    bool, typer.Option("--peer-links", help="Leave the links between neighbours as the accelerator has them.")
]
QuickOption = Annotated[bool, typer.Option("--quick", help="Fewer seeds and samples, for a first look.")]


def study_tasks(workloads: str, accelerators: str, axes: str, objective: str, *, peer_links: bool) -> list[Task]:
    """The tasks that the user named; each workload on each accelerator."""
    from mapgym.evaluation.task import distinct_tasks

    common.load_agents()
    return distinct_tasks(
        common.load_workloads(common.comma_separated(workloads, "--workloads")),
        [
            common.load_accelerator(name, peer_links=peer_links)
            for name in common.comma_separated(accelerators, "--accelerators")
        ],
        [common.parse_axes(axes)],
        objective,
    )


def at_least(value: int, least: int, what: str) -> int:
    """Checks an option that is a whole number."""
    if value < least:
        raise SpecificationError(f"{what} is {value}; give at least {least}")
    return value


def conduct(
    context: typer.Context,
    output: Path,
    title: str,
    cells: Sequence[Cell],
    make_tables: Callable[[list[Result]], list[Table]],
    draw: Callable[[list[Result], Path], list[str]],
    learn: Callable[[Result], None] | None = None,
) -> None:
    """Does the work, shows how far it is, and ends with the report.

    Args:
        context: of the command, whose name is that of the report.
        output: folder.
        title: heading of the report.
        cells: the work.
        make_tables: tables from the results of all cells; the first one is printed.
        draw: draws pictures into a folder and returns their names.
        learn: told of each result, new or there already, before the next cell is computed.
    """
    results = work_through(output, cells, learn)
    finish(context, output, title, make_tables(results), lambda: draw(results, output))


def work_through(output: Path, cells: Sequence[Cell], learn: Callable[[Result], None] | None = None) -> list[Result]:
    """Does the work and shows how far it is; Ctrl-C exits with a sentence.

    Args:
        output: folder.
        cells: the work.
        learn: told of each result, new or there already, before the next cell is computed.

    Returns:
        The result of each cell.
    """
    from mapgym.agents.studies.cells import run_cells

    board = _Board(len(cells), learn)
    kept = common.kept_when_interrupted(
        lambda: (
            f"Interrupted: {board.done} of {len(cells)} parts are finished and kept in {output}; "
            "run the same command again to continue."
        )
    )
    with kept, common.live_display(board.console, board.render, keep=False):
        return run_cells(cells, output, board.started, board.finished, common.notify_damaged)


def summaries_of(experiment: Experiment, results: list[RunResult], folder: Path) -> list[Summary]:
    """The figures of the runs of an experiment that have not failed, none if all have."""
    from mapgym.agents.experiment.proof.proofs import ProofObserver, certify_tasks
    from mapgym.agents.experiment.report.summary import summarize
    from mapgym.agents.experiment.storage.folder import ExperimentFolder

    finished = [result for result in results if not result.failure]
    certificates = certify_tasks(experiment.tasks, ExperimentFolder(folder), None, ProofObserver())
    return [summarize(finished, experiment.budget, certificates)] if finished else []


def finish(
    context: typer.Context, output: Path, title: str, tables: Sequence[Table], draw: Callable[[], list[str]]
) -> None:
    """Writes the report, and prints the first table.

    Args:
        context: of the command, whose name is that of the report.
        output: folder.
        title: heading of the report.
        tables: from the overview to the details.
        draw: draws pictures into the folder and returns their names.
    """
    from mapgym.agents.files.tables import write_report

    pictures: list[str] = []
    try:
        pictures = draw()
    except ImportError:
        common.notify("No pictures: Matplotlib is not installed; install it with: pip install 'mapgym[plot]'")
    written = write_report(output, str(context.info_name), title, common.command_line(context), tables, pictures)
    overview = tables[0]
    shown = common.new_table(overview.title, overview.columns[:1], overview.columns[1:])
    for row in overview.text_rows():
        shown.add_row(*row)
    common.say("")
    common.out().print(shown)
    common.say(f"\nWritten to {output}: {', '.join(written)}.")


class _Board:
    """Shows progress: a bar on a terminal, and a line for each finished part."""

    def __init__(self, total: int, learn: Callable[[Result], None] | None) -> None:
        self.console = common.out()
        self._learn = learn
        self.done = 0
        self._total = total
        self._current = ""

    def started(self, cell: Cell) -> None:
        self._current = cell.name

    def finished(self, cell: Cell, result: Result, was_there: bool) -> None:
        self.done += 1
        if self._learn is not None:
            self._learn(result)
        there = ", was there already" if was_there else ""
        common.say(f"[{self.done}/{self._total}] {cell.name}: {result['summary']}{there}")

    def render(self) -> RenderableType:
        line = common.PrintableTable.grid(padding=(0, 2))
        line.add_row(
            ProgressBar(total=self._total, completed=self.done, width=16),
            f"{self.done} of {self._total} parts",
            self._current,
        )
        return line
