"""What the commands that run experiments share: the display, what is printed at the end, exit statuses."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table

from mapgym.agents.certificate import Certificate, Progress, outcome_text
from mapgym.agents.commands import console
from mapgym.agents.experiment.definition.experiment import AgentEntry, Experiment, Run
from mapgym.agents.experiment.execution.context import Observer, Snapshot
from mapgym.agents.experiment.execution.runner import run_missing
from mapgym.agents.experiment.proof.proofs import ProofObserver, certify_tasks
from mapgym.agents.experiment.report.summary import TARGETS, Summary, summarize
from mapgym.agents.experiment.storage.folder import ExperimentFolder
from mapgym.agents.experiment.storage.known_mappings import improvements, join
from mapgym.agents.experiment.storage.results import RunResult
from mapgym.agents.labels import objective_name, samples_text, short_gap
from mapgym.evaluation.task import Task
from mapgym.mapping import Mapping

FAILED = 1
"""Exit status when runs have failed."""

_PRINTED_TASKS = 6
_TARGET = TARGETS.index(1.1)


@dataclass(frozen=True)
class Finished:
    """An experiment that has come to its end.

    Attributes:
        experiment: what was asked for.
        folder: what it has left, read as far as it was needed.
        results: of every run, failed ones too.
        certificates: what is proven about the optima of its tasks.
    """

    experiment: Experiment
    folder: ExperimentFolder
    results: list[RunResult]
    certificates: dict[Task, Certificate]

    @property
    def summaries(self) -> list[Summary]:
        """The metrics of the runs that have not failed, none if all have."""
        results = [result for result in self.results if not result.failure]
        return [summarize(results, self.experiment.budget, self.certificates)] if results else []


def run_with_display(
    experiment: Experiment, output: Path, *, jobs: int, certify: float | None, command: str
) -> Finished:
    """Runs what is missing of an experiment, with a display of the progress; Ctrl-C exits with a sentence.

    Args:
        experiment: the matrix.
        output: its folder.
        jobs: worker processes, 0 for none.
        certify: wall time of the solver for each task; None to solve nothing.
        command: recorded with each result.
    """
    for sentence in experiment.absent:
        console.notify(f"mapgym: left out: {sentence}")
    machines = dict.fromkeys(task.accelerator for task in experiment.tasks)
    for remark in dict.fromkeys(
        text for entry in experiment.agents for each in machines for text in entry.remarks(each)
    ):
        console.notify(f"mapgym: {remark}")
    if jobs > (cores := available_cores()):
        console.notify(
            f"mapgym: {jobs} jobs share {cores} cores, so that seconds and samples/s say little about the agents"
        )
    folder = ExperimentFolder(output)
    found = folder.prepare(experiment, command)
    notify_damaged(folder, "set aside and made again")
    board = _Board(experiment)

    def what_is_kept() -> str:
        finished = sum((output / run.file_name).exists() for run in experiment.runs)
        return (
            f"Interrupted: {finished} of {len(experiment.runs)} runs are finished and kept in {output}; "
            "run the same command again to continue."
        )

    with (
        console.kept_when_interrupted(what_is_kept),
        console.live_display(board.console, board.render, keep=True),
    ):
        board.certificates = certify_tasks(experiment.tasks, folder, certify, board)
        notify_damaged(folder, "left out" if certify is None else "made again")
        results = run_missing(experiment, folder, found, jobs=jobs, observer=board, command=command)
    return Finished(experiment, folder, results, board.certificates)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def notify_damaged(folder: ExperimentFolder, fate: str) -> None:
    """Names the files that could not be read, once, and says what happens to them."""
    for path in folder.damaged:
        console.notify(f"mapgym: {path} is damaged or of another version, and is {fate}")
    folder.damaged.clear()


def end_with_failures(results: Sequence[RunResult]) -> None:
    """Names the runs that failed, if any, and exits with status 1."""
    failures = [result for result in results if result.failure]
    for result in failures:
        console.notify(f"failed: {result.run.name}: {result.failure.splitlines()[-1]}")
    if failures:
        console.notify(
            f"mapgym: {len(failures)} of {len(results)} runs failed; the others are kept, and the same command tries "
            "the failed ones again"
        )
        raise typer.Exit(FAILED)


def offer_best_known(results: Sequence[RunResult], file: Path | None) -> None:
    """Says which results beat the best known mappings, and joins them into a file if one is given.

    Exits with status 1, without joining anything, if a result is better than what is proven to be possible.
    """
    found = improvements(result for result in results if not result.failure)
    for sentence in found.refutations:
        console.notify(f"mapgym: SOMETHING IS WRONG: {sentence}")
    if found.refutations:
        raise typer.Exit(FAILED)
    if file is not None:
        console.say(f"{join(file, (*found.better, *found.new))} entries of {file} are new or better.")
    elif found.better:
        console.say(
            f"{len(found.better)} results are better than the best known; join them with "
            "--update-best-known envs_config/best_known.tsv"
        )


class _Board(Observer, ProofObserver):
    """Shows progress: a live table on a terminal, a line for each finished run elsewhere."""

    def __init__(self, experiment: Experiment) -> None:
        self.console = console.out()
        self.certificates: dict[Task, Certificate] = {}
        self._experiment = experiment
        self._total = len(experiment.runs)
        # Read by the thread that draws: replaced, never changed.
        self._results: dict[Run, RunResult] = {}
        self._current: dict[Run, Snapshot | None] = {}
        self._proving: tuple[Task, Progress] | None = None
        self._proven = 0
        self._note = "starting"

    def certifying(self, task: Task, progress: Progress) -> None:
        """Shows how far the solver is."""
        self._proving = (task, progress)

    def certified(self, task: Task, outcome: Certificate | str) -> None:
        """Says what is proven."""
        self._proving = None
        self._proven += 1
        if isinstance(outcome, str):
            console.notify(f"mapgym: {outcome} (it is compared without a certificate)")
            return
        self.certificates = {**self.certificates, task: outcome}
        if not self.console.is_terminal:
            proven = outcome_text(outcome, task.objective)
            console.say(f"[certificate {self._proven}/{len(self._experiment.tasks)}] {task.name}: {proven}")

    def started(self, run: Run) -> None:
        """Shows that a run has begun."""
        self._note = ""
        self._current = {**self._current, run: None}

    def progressed(self, run: Run, snapshot: Snapshot) -> None:
        """Shows how far it is."""
        self._current = {**self._current, run: snapshot}

    def finished(self, run: Run, result: RunResult, *, was_there: bool) -> None:
        """Counts it, and says what it has found where there is no table."""
        self._results = {**self._results, run: result}
        self._current = {other: snapshot for other, snapshot in self._current.items() if other != run}
        if not self.console.is_terminal:
            there = ", was there already" if was_there else ""
            console.say(f"[{len(self._results)}/{self._total}] {run.name}: {self._outcome(run, result)}{there}")

    def waiting(self, runs: int) -> None:
        """Says why nothing happens."""
        note = f"{runs} runs are being executed by another process; waiting for them"
        if note != self._note and not self.console.is_terminal:
            console.notify(note)
        self._note = note

    def render(self) -> RenderableType:
        """The picture: the task that was begun last, and how far everything is."""
        current = self._current
        bar = console.PrintableTable.grid(padding=(0, 2))
        shares = sum(map(self._share, current.values()))
        done = f"{len(self._results)} of {self._total} runs"
        bar.add_row(ProgressBar(total=self._total, completed=len(self._results) + shares, width=16), done, self._note)
        if self._proving is not None:
            bar.add_row("", "solver", console.solver_text(self._proving[1], self._proving[0].objective))
        lines = console.PrintableTable.grid(padding=(0, 2))
        for run, snapshot in current.items():
            lines.add_row(run.name, "starts" if snapshot is None else self._progress(snapshot))
        return Group(self._table(self._shown_task()), bar, lines)

    def _share(self, snapshot: Snapshot | None) -> float:
        """How much of its budget a run has spent, 0 to 1."""
        budget = self._experiment.budget
        parts = [0.0]
        if snapshot is not None:
            parts += [snapshot.samples / budget.samples] if budget.samples else []
            parts += [snapshot.seconds / budget.seconds] if budget.seconds else []
        return min(1.0, max(parts))

    def _progress(self, snapshot: Snapshot) -> str:
        rate = snapshot.samples / snapshot.seconds if snapshot.seconds else 0.0
        best = f"best {console.format_value(snapshot.best_value)}, {console.format_ratio(snapshot.ratio)} x bound"
        return f"{self._share(snapshot):4.0%}, {snapshot.samples:,} samples ({rate:,.0f}/s), {best}"

    def _outcome(self, run: Run, result: RunResult) -> str:
        """What a run has found, in a line."""
        if result.failure:
            return f"failed: {result.failure.splitlines()[-1]}"
        rate = result.samples / result.seconds if result.seconds else 0.0
        certificate = self.certificates.get(run.task)
        distance = ""
        if certificate is not None and result.best_value is not None:
            distance = f"{certificate.describe(result.best_value)}, "
        return (
            f"best {objective_name(run.task.objective)} {console.format_value(result.best_value)}, "
            f"{console.format_ratio(result.ratio)} x lower bound, {distance}"
            f"{samples_text(result.samples, run.task.objective)} in {result.seconds:.3g} s ({rate:,.0f}/s)"
        )

    def _shown_task(self) -> Task:
        if self._proving is not None:
            return self._proving[0]
        last = next(reversed(self._current or self._results), None)
        return last.task if last else self._experiment.tasks[0]

    def _table(self, task: Task) -> Table:
        optimum = ("above optimum",) if task in self.certificates else ()
        headings = (f"best {objective_name(task.objective)}", "x lower bound", *optimum, "samples/s", "seeds")
        table = console.new_table(task.name, ["agent"], headings)
        for entry in self._experiment.agents:
            table.add_row(entry.label, *self._cells(task, entry))
        return table

    def _cells(self, task: Task, entry: AgentEntry) -> list[str]:
        label = entry.label
        done = [
            result
            for run, result in self._results.items()
            if run.agent.label == label and run.task == task and not result.failure
        ]
        running = [
            snapshot
            for run, snapshot in self._current.items()
            if snapshot is not None and run.agent.label == label and run.task == task
        ]
        bests = [(result.ratio, result.best_value) for result in done if result.best_value is not None]
        bests += [(snapshot.ratio, snapshot.best_value) for snapshot in running]
        ratio, best = min(bests, default=(None, None))
        samples, seconds = (sum(getattr(one, name) for one in (*done, *running)) for name in ("samples", "seconds"))
        return [
            console.format_value(best),
            console.format_ratio(ratio),
            *([self.certificates[task].short(best)] if task in self.certificates else []),
            f"{samples / seconds:,.0f}" if seconds else "-",
            f"{len(done)}/{len(self._experiment.seeds[: entry.seeds])}",
        ]


def print_summary(summary: Summary) -> None:
    """Prints the metrics at the end of the budget: of each task if they are few, and of all together."""
    tasks: list[Task | None] = list(summary.tasks)
    if len(tasks) > 1:
        # The tables of a whole network would push each other off the screen; they are in the summary files.
        tasks = [*(tasks if len(tasks) <= _PRINTED_TASKS else []), None]
    for task in tasks:
        console.out().print(_summary_table(summary, task))
        console.say("")


def _summary_table(summary: Summary, task: Task | None) -> Table:
    """Narrow enough for a terminal of 80 columns."""
    title = task.name if task else f"all {len(summary.tasks)} tasks"
    best = [f"best {objective_name(task.objective)}", "x bound"] if task else []
    optimum = ["above optimum"] if summary.certificates else []
    headings = [*best, *optimum, "x best known [95 %]", "to 1.1x best", "samples/s"]
    table = console.new_table(title, ["agent"], headings)
    for row in summary.rows:
        if row.task != task:
            continue
        over, spent, reached = row.over_best_known, row.samples_to_target[_TARGET], row.reached[_TARGET]
        table.add_row(
            row.agent,
            *([console.format_value(row.best), console.format_ratio(row.best_ratio)] if task else []),
            *([short_gap(row.gap, certified=row.gap_certified)] if optimum else []),
            f"{over.mean:.3f} [{over.low:.3f}, {over.high:.3f}]",
            f"{spent:,.0f} ({reached}/{row.runs})" if reached else f"- (0/{row.runs})",
            f"{row.samples_per_second:,.0f}",
        )
    return table


def print_best(summary: Summary, task: Task) -> None:
    """Prints the best mapping of a task."""
    result = summary.best_runs[task]
    if result.mapping is None:
        console.say(f"{task.name}: no legal mapping was found.\n")
        return
    mapping = Mapping.from_dict(result.mapping, task.workload, task.accelerator)
    found = f"by {result.agent.label} with seed {result.seed}"
    console.say(f"Best mapping of {task.name}, {found}:\n\n{mapping.to_text()}\n")
