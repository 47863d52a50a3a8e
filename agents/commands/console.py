"""What the commands print: results, notices, tables and displays that change while something runs."""

from __future__ import annotations

import json
import math
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich import box
from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table

from mapgym.agents.certificate import Progress
from mapgym.agents.labels import OBJECTIVE_NAMES, short_gap
from mapgym.errors.text import printable, printable_lines
from mapgym.evaluation.evaluator import Evaluator
from mapgym.system.command_start import INTERRUPTED

if TYPE_CHECKING:
    from mapgym.warmstart import Damage


def out() -> Console:
    """The console for results. Made anew each time, because tests and pipes exchange the stream."""
    # Square brackets are ours, as in "mapgym[rl]", and no markup; neither are colons.
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        # A pipe or a file has no width; tables must not be squeezed into 80 columns there.
        console.width = 200
    return console


def err() -> Console:
    """The console for notices and progress, so that results can be piped."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


class PrintableTable(Table):
    """A table that writes foreign text as text: no control character reaches the terminal."""

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        """Adds a row; see :class:`rich.table.Table`."""
        super().add_row(*(printable(cell) if isinstance(cell, str) else cell for cell in cells), **options)

    def add_column(self, header: RenderableType = "", *arguments: Any, **options: Any) -> None:
        """Adds a column; see :class:`rich.table.Table`."""
        super().add_column(printable(header) if isinstance(header, str) else header, *arguments, **options)


def new_table(title: str, left: Sequence[str] = (), right: Sequence[str] = ()) -> Table:
    """A table in our style.

    Args:
        title: above it.
        left, right: headings of the first columns, aligned to the left, and of the others, aligned to the right.
    """
    table = PrintableTable(
        title=printable(title), title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False
    )
    for heading in left:
        table.add_column(heading, overflow="fold")
    for heading in right:
        table.add_column(heading, justify="right", overflow="fold")
    return table


def say(text: str) -> None:
    """Prints a plain line of results, without markup and without wrapping; at once, for whoever reads a pipe."""
    sys.stdout.write(printable_lines(text) + "\n")
    sys.stdout.flush()


def notify(text: str) -> None:
    """Prints a notice to stderr."""
    sys.stderr.write(printable_lines(text) + "\n")
    sys.stderr.flush()


def say_search(agent: str, how_much: str, samples: int, seconds: float, output: Path | None) -> None:
    """Prints who has searched how much and how fast, and where the result is.

    Args:
        agent: who.
        how_much: the samples in words.
        samples, seconds: of the search.
        output: file that has been written.
    """
    rate = samples / seconds if seconds else 0.0
    say(f"{'search':12s} {agent}, {how_much} in {seconds:.3g} s ({rate:,.0f}/s)")
    if output is not None:
        say(f"{'written to':12s} {output}")


def print_json(data: object) -> None:
    """Prints one JSON object; infinite numbers become null, which JSON has."""
    say(json.dumps(_finite(data), indent=2, allow_nan=False))


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def notify_damaged_lines(path: object, damaged: Sequence[Damage]) -> None:
    """Says that lines of a replay buffer are left out."""
    notify(
        f"{len(damaged)} damaged lines of {path} are left out, the first is {damaged[0].place}; "
        f"see: mapgym buffer verify {path}"
    )


def notify_ignored(ignored: Iterable[object]) -> None:
    """Says what was read and has no effect."""
    for entry in dict.fromkeys(map(str, ignored)):
        notify(f"mapgym: ignored: {entry}")


def notify_damaged(path: Path) -> None:
    """Says that a result cannot be read and is made again."""
    notify(f"mapgym: {path} is damaged or of another version, and is made again")


def format_ratio(value: float | None) -> str:
    """A ratio to the lower bound, "-" when there is none yet."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.3f}"


def format_value(value: float | None) -> str:
    """A large number with four digits, "-" when there is none yet."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.4g}"


def solver_text(progress: Progress, objective: str) -> str:
    """How far the solver is: incumbent, bound and gap."""
    certified = f"bound {format_value(progress.lower_bound)}, gap {short_gap(progress.gap, certified=True)}"
    return f"solver: {OBJECTIVE_NAMES[objective]} {format_value(progress.value)}, {certified}"


def progress_text(evaluator: Evaluator) -> str:
    """How far a search is: "1,234 of 5,000 samples", "3.1 of 10 s" or both."""
    budget = evaluator.budget
    samples = f"{evaluator.samples:,}" + (f" of {budget.samples:,}" if budget.samples else "") + " samples"
    return samples + (f", {evaluator.seconds:.1f} of {budget.seconds:g} s" if budget.seconds else "")


def fraction_done(evaluator: Evaluator) -> float:
    """How much of the budget is spent, 0 to 1."""
    budget = evaluator.budget
    parts = [evaluator.samples / budget.samples] if budget.samples else []
    parts += [evaluator.seconds / budget.seconds] if budget.seconds else []
    return min(1.0, max(parts, default=0.0))


@contextmanager
def kept_when_interrupted(sentence: Callable[[], str]) -> Iterator[None]:
    """Says what an interrupted command has kept: after Ctrl-C, or when nobody reads its output any more.

    Args:
        sentence: that says so.
    """
    try:
        yield
    except (KeyboardInterrupt, BrokenPipeError) as error:
        notify(sentence())
        if isinstance(error, BrokenPipeError):
            raise
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def live_display(console: Console, render: Callable[[], RenderableType], *, keep: bool) -> Iterator[None]:
    """Redraws what ``render`` returns four times a second while the block runs; does nothing without a terminal.

    Args:
        console: where to draw.
        render: called from another thread; must only read.
        keep: whether the last picture stays on the screen.
    """
    if not console.is_terminal:
        yield
        return
    lock = threading.Lock()

    def drawn() -> RenderableType:
        with lock:
            return render()

    with Live(get_renderable=drawn, console=console, refresh_per_second=4, transient=not keep):
        yield
