"""``mapgym compare``: learned and classical mappers on equal terms."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table

from mapgym.agents.commands import common
from mapgym.agents.experiment.labels import OBJECTIVE_NAMES, short_gap

if TYPE_CHECKING:
    from mapgym.agents.experiment.certificate import Certificate, Progress
    from mapgym.agents.experiment.comparison import Comparison, Run, Task
    from mapgym.agents.experiment.results import RunResult
    from mapgym.agents.experiment.summary import Summary
    from mapgym.evaluator import Evaluator

_PRINTED_TASKS = 6
_PRINTED_MAPPINGS = 2
_TARGET = 2  # 1.1 times the best known


def compare(
    context: typer.Context,
    agents: Annotated[
        list[str], typer.Option(help='Agents, separated by commas ("mapgym list agents").', show_default=False)
    ],
    workload: Annotated[
        list[str],
        typer.Option(help="Workloads or networks (all of their layers), separated by commas.", show_default=False),
    ],
    accelerator: Annotated[list[str], typer.Option(help="Accelerators, separated by commas.", show_default=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for results; continues what it holds.", show_default=False)
    ],
    samples: Annotated[
        int | None,
        typer.Option(help="Mappings that each run may price; 5000 when seconds are not given.", show_default=False),
    ] = None,
    seconds: common.SecondsOption = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds for each agent and task (0, 1, ...).")] = 3,
    axes: common.AxesOption = common.DEFAULT_AXES,
    no_peer_links: common.PeerLinksOption = False,
    objective: common.ObjectiveOption = "edp",
    certify: common.CertifyOption = None,
) -> None:
    """Compares agents on the same tasks with the same budget.

    Runs every agent with every seed on every workload and accelerator. Each finished run is kept in the output folder,
    so that an interrupted comparison continues when the same command is given again. At the end: a summary table
    (summary.csv, summary.md), an anytime plot (anytime.png), and the best mappings (best/).
    """
    searched_axes, objective = common.parse_axes(axes), common.parse_objective(objective)
    common.parse_seconds(certify, "--certify")
    common.load_agents()
    from mapgym.agents.base import make_agent
    from mapgym.agents.experiment.comparison import Comparison, Settings, Task
    from mapgym.agents.experiment.results import ResultFolder
    from mapgym.agents.experiment.runner import certify_comparison, check_comparison, run_comparison

    names = common.comma_separated(agents, "--agents")
    for name in names:
        make_agent(name)
    accelerators = [
        common.load_accelerator(name, peer_links=not no_peer_links)
        for name in common.comma_separated(accelerator, "--accelerator")
    ]
    workloads = common.load_workloads(common.comma_separated(workload, "--workload"))
    comparison = Comparison(
        tasks=tuple(Task(layer, machine) for machine in accelerators for layer in workloads),
        agents=tuple(names),
        seeds=tuple(range(seeds)),
        settings=Settings(objective, searched_axes, 5000 if samples is None and seconds is None else samples, seconds),
    )
    check_comparison(comparison)
    command = common.command_line(context)
    folder = ResultFolder(output)
    finished = folder.prepare(comparison, command)
    board = _Board(comparison)
    try:
        with common.live_display(board.console, board.render, keep=True):
            certificates = certify_comparison(comparison, folder, certify, board)
            board.certificates = certificates
            results = run_comparison(comparison, folder, finished, command, board)
    except KeyboardInterrupt:
        kept = sum(folder.run_file(run).exists() for run in comparison.runs)
        common.notify(
            f"Interrupted: {kept} of {len(comparison.runs)} runs are finished and kept in {output}; "
            "run the same command again to continue."
        )
        raise typer.Exit(common.INTERRUPTED) from None
    _report(comparison, results, certificates, output, command)


class _Board:
    """Shows progress: a live table on a terminal, a line for each finished run elsewhere."""

    def __init__(self, comparison: Comparison) -> None:
        self.console = common.out()
        self.finished_runs = 0
        self.certificates: dict[Task, Certificate] = {}
        self._comparison = comparison
        self._objective = OBJECTIVE_NAMES[comparison.settings.objective]
        self._results: dict[Run, RunResult] = {}
        self._current: tuple[Run, Evaluator] | None = None
        self._proving: tuple[Task, Progress] | None = None
        self._proven = 0

    def certifying(self, task: Task, progress: Progress) -> None:
        self._proving = (task, progress)

    def certified(self, task: Task, outcome: Certificate | str) -> None:
        from mapgym.agents.experiment.certificate import outcome_text

        self._proving = None
        self._proven += 1
        if isinstance(outcome, str):
            common.notify(f"mapgym: {outcome} (it is compared without a certificate)")
            return
        self.certificates = {**self.certificates, task: outcome}
        if not self.console.is_terminal:
            common.say(
                f"[certificate {self._proven}/{len(self._comparison.tasks)}] {task.name}: "
                f"{outcome_text(outcome, self._comparison.settings.objective)}"
            )

    def started(self, run: Run, evaluator: Evaluator) -> None:
        self._current = (run, evaluator)

    def finished(self, run: Run, result: RunResult, *, was_there: bool) -> None:
        self._results = {**self._results, run: result}
        self._current = None
        self.finished_runs += 1
        if not self.console.is_terminal:
            rate = result.samples / result.seconds if result.seconds else 0.0
            common.say(
                f"[{self.finished_runs}/{len(self._comparison.runs)}] {run.name}: "
                f"best {self._objective} {common.format_figure(result.best_value)}, "
                f"{common.format_ratio(result.ratio)} x lower bound, {self._distance(run.task, result)}"
                f"{result.samples:,} samples in {result.seconds:.3g} s ({rate:,.0f}/s)"
                f"{', was there already' if was_there else ''}"
            )

    def render(self) -> RenderableType:
        current, total = self._current, len(self._comparison.runs)
        share = common.fraction_done(current[1]) if current else 0.0
        bar = Table.grid(padding=(0, 2))
        bar.add_row(
            ProgressBar(total=total, completed=self.finished_runs + share, width=16),
            f"{self.finished_runs} of {total} runs",
            self._activity(),
        )
        return Group(self._table(self._shown_task()), bar)

    def _activity(self) -> str:
        if self._proving is not None:
            return common.solver_text(self._proving[1], self._comparison.settings.objective)
        if self._current is not None:
            return f"{self._current[0].agent}: {common.progress_text(self._current[1])}"
        return ""

    def _distance(self, task: Task, result: RunResult) -> str:
        """How far a result is from the optimum, as part of a line; nothing where nothing is proven."""
        certificate = self.certificates.get(task)
        if certificate is None or result.best_value is None:
            return ""
        return f"{certificate.describe(result.best_value)}, "

    def _shown_task(self) -> Task:
        if self._proving is not None:
            return self._proving[0]
        if self._current is not None:
            return self._current[0].task
        last = next(reversed(self._results), None)
        return last.task if last else self._comparison.tasks[0]

    def _table(self, task: Task) -> Table:
        optimum = ("above optimum",) if task in self.certificates else ()
        headings = (f"best {self._objective}", "x lower bound", *optimum, "samples/s", "seeds", "samples")
        table = common.new_table(task.name, ["agent"], headings)
        for agent in self._comparison.agents:
            table.add_row(agent, *self._cells(task, agent))
        return table

    def _cells(self, task: Task, agent: str) -> list[str]:
        done = [result for run, result in self._results.items() if (run.task, run.agent) == (task, agent)]
        samples, seconds = sum(result.samples for result in done), sum(result.seconds for result in done)
        bests = [(result.ratio, result.best_value) for result in done if result.best_value is not None]
        if self._current is not None and (self._current[0].task, self._current[0].agent) == (task, agent):
            evaluator = self._current[1]
            samples, seconds = samples + evaluator.samples, seconds + evaluator.seconds
            if evaluator.best_mapping is not None:
                bests.append((evaluator.ratio, evaluator.best_value))
        ratio, best = min(bests, default=(None, None))
        return [
            common.format_figure(best),
            common.format_ratio(ratio),
            *([self.certificates[task].short(best)] if task in self.certificates else []),
            f"{samples / seconds:,.0f}" if seconds else "-",
            f"{len(done)}/{len(self._comparison.seeds)}",
            f"{samples:,}",
        ]


def _report(
    comparison: Comparison,
    results: dict[Run, RunResult],
    certificates: dict[Task, Certificate],
    output: Path,
    command: str,
) -> None:
    """Writes the summary, the plot and the best mappings, and prints what matters most."""
    from mapgym.agents.experiment import report
    from mapgym.agents.experiment.files import write_text
    from mapgym.agents.experiment.plot import plot_anytime
    from mapgym.agents.experiment.summary import summarize

    summary = summarize(comparison, results, certificates)
    write_text(output / "summary.csv", report.to_csv(summary))
    write_text(output / "summary.md", report.to_markdown(summary, command))
    written = ["summary.md", "summary.csv"]
    try:
        plot_anytime(summary, results, output / "anytime.png")
        written.append("anytime.png")
    except ImportError:
        common.notify("No plot: Matplotlib is not installed; install it with: pip install 'mapgym[plot]'")
    _write_best_mappings(summary, output)
    _print_summary(summary)
    for index, task in enumerate(comparison.tasks):
        if index < _PRINTED_MAPPINGS:
            _print_best(summary, task)
    common.say(f"Written to {output}: {', '.join(written)}, best mappings in best/, one result for each run in runs/.")


def _best_file(output: Path, task: Task) -> Path:
    return output / "best" / f"{task.file_stem}.yaml"


def _write_best_mappings(summary: Summary, output: Path) -> None:
    (output / "best").mkdir(exist_ok=True)
    for task, (run, result) in summary.best_known.items():
        if result.mapping is not None and result.best_cost is not None:
            about = f"{task.name}: EDP {result.best_cost['edp']:.6g} pJ*cycles\nfound by {run.agent}, seed {run.seed}"
            common.write_mapping(_best_file(output, task), result.mapping, about)


def _print_summary(summary: Summary) -> None:
    tasks: list[Task | None] = list(summary.comparison.tasks)
    if len(tasks) > 1:
        # The tables of a whole network would push each other off the screen; they are in the summary files.
        tasks = [*(tasks if len(tasks) <= _PRINTED_TASKS else []), None]
    for task in tasks:
        common.out().print(_summary_table(summary, task))
        common.say("")


def _summary_table(summary: Summary, task: Task | None) -> Table:
    """The figures at the end of the budget, narrow enough for a terminal of 80 columns."""
    title = task.name if task else f"all {len(summary.comparison.tasks)} tasks"
    objective = OBJECTIVE_NAMES[summary.comparison.settings.objective]
    optimum = ("above optimum",) if summary.certificates else ()
    headings = (f"best {objective}", "x bound", *optimum, "IQM [95 % interval]", "to 1.1x best", "samples/s")
    table = common.new_table(title, ["agent"], headings)
    for row in summary.rows:
        if row.task != task:
            continue
        last, spent, reached = row.ratios[-1], row.samples_to_target[_TARGET], row.reached[_TARGET]
        table.add_row(
            row.agent,
            common.format_figure(row.best),
            common.format_ratio(row.best_ratio),
            *([short_gap(row.gap, certified=row.gap_certified)] if summary.certificates else []),
            f"{last.mean:.3f} [{last.low:.3f}, {last.high:.3f}]",
            f"{spent:,.0f} ({reached}/{row.runs})" if reached else f"- (0/{row.runs})",
            f"{row.samples_per_second:,.0f}",
        )
    return table


def _print_best(summary: Summary, task: Task) -> None:
    from mapgym.mapping import Mapping

    run, result = summary.best_known[task]
    if result.mapping is None:
        common.say(f"{task.name}: no legal mapping was found.\n")
        return
    mapping = Mapping.from_dict(result.mapping, task.workload, task.accelerator)
    common.say(f"Best mapping of {task.name}, by {run.agent} with seed {run.seed}:\n\n{mapping.to_text()}\n")
