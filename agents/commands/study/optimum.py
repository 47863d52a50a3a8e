"""``mapgym study optimum``: the certified optimum of every layer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mapgym.agents.certificate import outcome_text
from mapgym.agents.commands import console, options, parsing, study_command as shared
from mapgym.agents.experiment.storage.known_mappings import check_known_file
from mapgym.agents.studies.optimum import report as optimum_report
from mapgym.agents.studies.optimum.study import Outcome, run_study, update_best_known as update
from mapgym.evaluation.task import Task, distinct_tasks
from mapgym.spec import catalog
from mapgym.system.files import write_text

_STANDARD_ACCELERATORS = "accel_a,accel_b"
_ALL = "all"
_BYPASS_AXES = f"{options.DEFAULT_AXES},bypass"


def run(
    context: typer.Context,
    output: options.FolderOption,
    networks: Annotated[
        list[str] | None,
        typer.Option(
            help="Networks or workloads, separated by commas; all, which is the whole catalog, when left out."
        ),
    ] = None,
    accelerators: Annotated[
        list[str] | None,
        typer.Option(
            help="Accelerators, separated by commas, or all of the catalog without sparse features; "
            f"{_STANDARD_ACCELERATORS} when left out."
        ),
    ] = None,
    axes: Annotated[
        list[str] | None,
        typer.Option(help="Axes to search; may be repeated; without and with bypass when left out."),
    ] = None,
    objective: options.ObjectiveOption = "edp",
    seconds_per_layer: Annotated[float, typer.Option(help="Wall time of the solver for each task.")] = 60.0,
    peer_links: shared.PeerLinksOption = False,
    rules: options.RulesOption = None,
    update_best_known: Annotated[
        Path | None,
        typer.Option(
            help="File of best known mappings to join the results into, such as envs_config/best_known.tsv.",
            show_default=False,
        ),
    ] = None,
    no_locks: options.NoLocksOption = False,
) -> None:
    """Finds the optimum of every distinct layer, and says what it took and what the optima have in common.

    Links between neighbours are off unless --peer-links is given. Each finished task is kept in the output folder, so
    that an interrupted study continues when the same command is given again. At the end: a report (optimum.md,
    optimum.csv) and pictures (time.png, share.png, structure.png).
    """
    parsing.parse_objective(objective)
    parsing.parse_seconds(seconds_per_layer, "--seconds-per-layer")
    if update_best_known is not None:
        check_known_file(update_best_known)
    named = parsing.comma_separated(networks or _ALL, "--networks")
    machines = parsing.comma_separated(accelerators or _STANDARD_ACCELERATORS, "--accelerators")
    if named == [_ALL]:
        named = list(catalog.network_names())
    if machines == [_ALL]:
        machines = [name for name in catalog.accelerator_names() if not catalog.accelerator(name).is_sparse]
    tasks = distinct_tasks(
        parsing.load_workloads(named),
        parsing.load_accelerators(machines, "--accelerators", peer_links=peer_links, rules=rules),
        [parsing.parse_axes(text) for text in axes or (options.DEFAULT_AXES, _BYPASS_AXES)],
        objective,
    )
    command = parsing.command_line(context)
    with shared.shown(len(tasks), "tasks", output) as board:
        outcomes = run_study(
            tasks,
            output,
            seconds_per_layer,
            command,
            started=lambda task, progress: board.started(
                task.full_name, lambda: f"{task.full_name}: {console.solver_text(progress, task.objective)}"
            ),
            finished=lambda task, outcome, was_there: board.finished(task.full_name, _text(task, outcome), was_there),
            damaged=console.notify_damaged,
        )
    _report(outcomes, output, command)
    if update_best_known is not None:
        console.say(f"{update(update_best_known, outcomes)} entries of {update_best_known} are new or better.")


def _text(task: Task, outcome: Outcome) -> str:
    """What is known about a task, for people."""
    found = outcome.certificate
    return outcome.unsupported if found is None else outcome_text(found, task.objective)


def _report(outcomes: dict[Task, Outcome], output: Path, command: str) -> None:
    """Writes the report and the pictures, and prints what matters most."""
    write_text(output / "optimum.csv", optimum_report.to_csv(outcomes))
    written = ["optimum.md", "optimum.csv"]
    if any(outcome.certificate is not None for outcome in outcomes.values()):
        try:
            from mapgym.agents.studies.optimum.plot import plot_study

            written += plot_study(outcomes, output)
        except ImportError:
            console.notify("No pictures: Matplotlib is not installed; install it with: pip install 'mapgym[plot]'")
    write_text(output / "optimum.md", optimum_report.to_markdown(outcomes, command))
    header, rows = optimum_report.overview_rows(outcomes)
    # Narrow enough for a terminal of 80 columns; the report has all of them.
    shown = [i for i, name in enumerate(header) if name != "95 % s"]
    table = console.new_table("Optima", header[:2], [header[i] for i in shown[2:]])
    for row in rows:
        table.add_row(*(row[i] for i in shown))
    console.say("")
    console.out().print(table)
    console.say(f"\nWritten to {output}: {', '.join(written)}, one result for each task in tasks/.")
