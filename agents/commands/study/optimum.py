"""``mapgym study optimum``: the certified optimum of every layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.progress_bar import ProgressBar

from mapgym.agents.commands import common

if TYPE_CHECKING:
    from mapgym.agents.certificate import Progress
    from mapgym.agents.studies.optimum.study import Outcome
    from mapgym.evaluation.task import Task

_STANDARD_ACCELERATORS = "accel_a,accel_b"
_BYPASS_AXES = f"{common.DEFAULT_AXES},bypass"


def run(
    context: typer.Context,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for results; continues what it holds.", show_default=False)
    ],
    networks: Annotated[
        list[str] | None,
        typer.Option(help="Networks or workloads, separated by commas; the whole catalog when left out."),
    ] = None,
    accelerators: Annotated[
        list[str] | None,
        typer.Option(help=f"Accelerators, separated by commas; {_STANDARD_ACCELERATORS} when left out."),
    ] = None,
    axes: Annotated[
        list[str] | None,
        typer.Option(help="Axes to search; may be repeated; without and with bypass when left out."),
    ] = None,
    objective: common.ObjectiveOption = "edp",
    seconds_per_layer: Annotated[float, typer.Option(help="Wall time of the solver for each task.")] = 60.0,
    peer_links: Annotated[
        bool, typer.Option("--peer-links", help="Leave the links between neighbours as the accelerator has them.")
    ] = False,
    update_best_known: Annotated[
        Path | None,
        typer.Option(
            help="YAML file of best known mappings to join the results into, such as envs_config/best_known.yaml.",
            show_default=False,
        ),
    ] = None,
    no_locks: common.NoLocksOption = False,
) -> None:
    """Finds the optimum of every distinct layer, and says what it took and what the optima have in common.

    Links between neighbours are off unless --peer-links is given. Each finished task is kept in the output folder, so
    that an interrupted study continues when the same command is given again. At the end: a report (optimum.md,
    optimum.csv) and pictures (time.png, share.png, structure.png).
    """
    from mapgym.agents.studies.optimum.study import run_study, update_best_known as update
    from mapgym.evaluation.task import distinct_tasks
    from mapgym.spec import catalog

    common.load_agents()
    common.parse_objective(objective)
    common.parse_seconds(seconds_per_layer, "--seconds-per-layer")
    if update_best_known is not None:
        from mapgym.agents.experiment.storage.known_mappings import check_known_file

        check_known_file(update_best_known)
    named = common.comma_separated(networks, "--networks") if networks else list(catalog.network_names())
    machines = common.comma_separated(accelerators or _STANDARD_ACCELERATORS, "--accelerators")
    tasks = distinct_tasks(
        common.load_workloads(named),
        [common.load_accelerator(name, peer_links=peer_links) for name in machines],
        [common.parse_axes(text) for text in axes or (common.DEFAULT_AXES, _BYPASS_AXES)],
        objective,
    )
    command = common.command_line(context)
    board = _Board(tasks)
    kept = common.kept_when_interrupted(
        lambda: (
            f"Interrupted: {board.finished_tasks} of {len(tasks)} tasks are finished and kept in {output}; "
            "run the same command again to continue."
        )
    )
    with kept, common.live_display(board.console, board.render, keep=False):
        outcomes = run_study(tasks, output, seconds_per_layer, command, board)
    _report(outcomes, output, command)
    if update_best_known is not None:
        common.say(f"{update(update_best_known, outcomes)} entries of {update_best_known} are new or better.")


class _Board:
    """Shows progress: a bar with the state of the solver on a terminal, a line for each finished task elsewhere."""

    def __init__(self, tasks: list[Task]) -> None:
        self.console = common.out()
        self.finished_tasks = 0
        self._tasks = tasks
        self._current: tuple[Task, Progress] | None = None

    def started(self, task: Task, progress: Progress) -> None:
        self._current = (task, progress)

    def finished(self, task: Task, outcome: Outcome, *, was_there: bool) -> None:
        from mapgym.agents.certificate import outcome_text

        self._current = None
        self.finished_tasks += 1
        found = outcome.certificate
        text = outcome.unsupported if found is None else outcome_text(found, task.objective)
        there = ", was there already" if was_there else ""
        common.say(f"[{self.finished_tasks}/{len(self._tasks)}] {task.full_name}: {text}{there}")

    def damaged(self, path: Path) -> None:
        common.notify_damaged(path)

    def render(self) -> RenderableType:
        current = self._current
        line = common.PrintableTable.grid(padding=(0, 2))
        line.add_row(
            ProgressBar(total=len(self._tasks), completed=self.finished_tasks, width=16),
            f"{self.finished_tasks} of {len(self._tasks)} tasks",
            f"{current[0].full_name}: {common.solver_text(current[1], current[0].objective)}" if current else "",
        )
        return line


def _report(outcomes: dict[Task, Outcome], output: Path, command: str) -> None:
    """Writes the report and the pictures, and prints what matters most."""
    from mapgym.agents.studies.optimum import report as optimum_report
    from mapgym.system.files import write_text

    write_text(output / "optimum.csv", optimum_report.to_csv(outcomes))
    written = ["optimum.md", "optimum.csv"]
    if any(outcome.certificate is not None for outcome in outcomes.values()):
        try:
            from mapgym.agents.studies.optimum.plot import plot_study

            written += plot_study(outcomes, output)
        except ImportError:
            common.notify("No pictures: Matplotlib is not installed; install it with: pip install 'mapgym[plot]'")
    write_text(output / "optimum.md", optimum_report.to_markdown(outcomes, command))
    header, rows = optimum_report.overview_rows(outcomes)
    # Narrow enough for a terminal of 80 columns; the report has all of them.
    shown = [i for i, name in enumerate(header) if name != "95 % s"]
    table = common.new_table("Optima", header[:2], [header[i] for i in shown[2:]])
    for row in rows:
        table.add_row(*(row[i] for i in shown))
    common.say("")
    common.out().print(table)
    common.say(f"\nWritten to {output}: {', '.join(written)}, one result for each task in tasks/.")
