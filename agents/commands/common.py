"""What the commands share: consoles, options, reading what the user named, and saying what is going on."""

from __future__ import annotations

import csv
import json
import math
import os
import shlex
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table

from mapgym.agents.labels import OBJECTIVE_NAMES, short_gap
from mapgym.errors import SpecificationError, suggest
from mapgym.errors.seeds import MAX_SEED
from mapgym.errors.text import printable, printable_lines, quoted
from mapgym.system.command_start import INTERRUPTED
from mapgym.system.locks import NO_LOCKS

if TYPE_CHECKING:
    from pathlib import Path

    from mapgym.agents.certificate import Progress
    from mapgym.agents.experiment.definition.warm_start import WarmStart
    from mapgym.evaluation.evaluator import Evaluator
    from mapgym.spec.accelerator import Accelerator
    from mapgym.spec.workload import Workload
    from mapgym.warmstart import Damage


AXES = ("tile", "order", "parallelism", "bypass")
DEFAULT_AXES = "tile,order,parallelism"

WorkloadArgument = Annotated[
    str,
    typer.Argument(
        metavar="WORKLOAD",
        help='A workload of the catalog ("mapgym list workloads") or a YAML file.',
        show_default=False,
    ),
]
AcceleratorArgument = Annotated[
    str,
    typer.Argument(
        metavar="ACCELERATOR",
        help='An accelerator of the catalog ("mapgym list accelerators") or a YAML file.',
        show_default=False,
    ),
]
AxesOption = Annotated[
    str, typer.Option(help="Axes of the map space to search, of tile, order, parallelism and bypass.")
]
ObjectiveOption = Annotated[str, typer.Option(help="What to minimise: edp, energy or latency.")]
DensityOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Densities of tensors, such as weights=0.5,inputs=0.2; may be repeated.",
        metavar="TENSOR=DENSITY",
        show_default=False,
    ),
]
DensitiesOption = Annotated[
    str | None,
    typer.Option(
        help="Densities of the inputs that the objective sparsity-aware covers; 1.0,0.8,0.5,0.2,0.1 when left out.",
        show_default=False,
    ),
]
DensityWeightsOption = Annotated[
    str | None,
    typer.Option(help="How much each of these densities counts; all alike when left out.", show_default=False),
]
SecondsOption = Annotated[
    float | None, typer.Option(help="Wall time of a search; whichever limit comes first ends it.", show_default=False)
]
PeerLinksOption = Annotated[
    bool,
    typer.Option("--no-peer-links", help="Neighbouring instances do not pass words to each other (Timeloop's do)."),
]
CertifyOption = Annotated[
    float | None,
    typer.Option(
        help="Wall time for the solver to prove how far each task's best mapping is from the optimum; an optimum that "
        "is stored is used without solving.",
        metavar="SECONDS",
        show_default=False,
    ),
]
WarmStartOption = Annotated[
    str | None,
    typer.Option(
        help="Begin every search from solved layers: those of a replay buffer, or (of this experiment, agent and "
        "seed) the layer before, or the most similar ones before; or from the proposals of the trained policy.",
        metavar="BUFFER|previous-layer|similar|policy",
        show_default=False,
    ),
]
SeedOption = Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of everything random.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def _lock_nothing(context: typer.Context, value: bool) -> bool:
    """Takes the option --no-locks, for this command and its worker processes."""
    if value:
        before = os.environ.get(NO_LOCKS)
        os.environ[NO_LOCKS] = "1"
        context.call_on_close(lambda: os.environ.update({NO_LOCKS: before or "0"}))
    return value


NoLocksOption = Annotated[
    bool,
    typer.Option(
        "--no-locks",
        callback=_lock_nothing,
        help="Lock no files, for file systems that cannot; only while no other process works on the same files.",
    ),
]


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


def print_json(data: object) -> None:
    """Prints one JSON object; infinite figures become null, which JSON has."""
    say(json.dumps(_finite(data), indent=2, allow_nan=False))


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def command_line(context: typer.Context) -> str:
    """The command as it was typed, quoted for a shell."""
    known = context.find_root().obj
    return printable(shlex.join(["mapgym", *(sys.argv[1:] if known is None else known)]))


def comma_separated(text: str | Sequence[str], what: str) -> list[str]:
    """Splits "a,b" (or several such) into names; raises SpecificationError when there is none.

    A name that holds a comma stands in double quotes, as in CSV: '"net.yaml:a,b",resnet18'.
    """
    texts = [text] if isinstance(text, str) else text
    try:
        rows = [row for part in texts for row in csv.reader([part], skipinitialspace=True)]
    except csv.Error as error:
        raise SpecificationError(f"{what} is {quoted(text)}, which cannot be read as a list ({error})") from None
    names = [name.strip() for row in rows for name in row if name.strip()]
    if not names:
        raise SpecificationError(f"{what} is empty; give at least one name")
    return names


def read_parameters(texts: Sequence[str]) -> dict[str, str]:
    """Reads the repeated option --parameter NAME=VALUE."""
    parameters = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise SpecificationError(f"--parameter: {quoted(text)} is no NAME=VALUE; write such as 'population=50'")
        parameters[name.strip()] = value.strip()
    return parameters


def parse_axes(text: str) -> tuple[str, ...]:
    """Reads --axes; the result is in the canonical order, without repetitions."""
    names = comma_separated(text, "--axes")
    for name in names:
        if name not in AXES:
            raise SpecificationError(f"--axes: unknown axis {quoted(name)}; {suggest(name, AXES)}")
    return tuple(axis for axis in AXES if axis in names)


def parse_objective(text: str) -> str:
    """Checks --objective."""
    if text not in OBJECTIVE_NAMES:
        raise SpecificationError(f"--objective: unknown objective {quoted(text)}; {suggest(text, OBJECTIVE_NAMES)}")
    return text


def parse_density_objective(text: str, densities: str | None, weights: str | None, env: str | None = None) -> str:
    """Reads --objective where it may be sparsity-aware, with --densities, --density-weights and --env."""
    from mapgym.agents.experiment.definition.densities import objective_in, read_objective

    try:
        text = objective_in(env, text)
    except SpecificationError as error:
        raise SpecificationError(f"--env: {error}") from None

    lists = (
        None if given is None else comma_separated(given, what)
        for given, what in ((densities, "--densities"), (weights, "--density-weights"))
    )
    try:
        return read_objective(text, *lists)
    except SpecificationError as error:
        raise SpecificationError(f"--objective: {error}") from None


def parse_densities(texts: Sequence[str] | None) -> dict[str, float]:
    """Reads --density: tensor, as it was typed, -> density."""
    densities = {}
    for text in comma_separated(texts, "--density") if texts else ():
        # A tensor may be called anything, and a density has no equals sign.
        name, _, value = text.rpartition("=")
        if name.strip() in densities:
            raise SpecificationError(
                f"--density: {quoted(name.strip())} is given twice; give one density for each tensor"
            )
        try:
            densities[name.strip()] = float(value)
        except ValueError:
            raise SpecificationError(
                f"--density: {quoted(text)} is no TENSOR=DENSITY; write such as 'weights=0.5,inputs=0.2'"
            ) from None
    return densities


def parse_certify(seconds: float | None, objective: str) -> float | None:
    """Checks --certify, which goes with one objective at one density."""
    if seconds is not None and objective not in OBJECTIVE_NAMES:
        raise SpecificationError("--certify proves one objective; give --objective edp, energy or latency with it")
    return parse_seconds(seconds, "--certify")


def load_accelerator(spec: str, *, peer_links: bool = True) -> Accelerator:
    """The accelerator that the user named, without neighbour links if they say so."""
    from mapgym.spec import catalog

    accelerator = catalog.accelerator(spec)
    return accelerator if peer_links else replace(accelerator, peer_links=False)


def load_workloads(specs: Sequence[str]) -> list[Workload]:
    """The workloads that the user named; a network stands for all of its layers."""
    from mapgym.spec import catalog

    return [workload for spec in specs for workload in catalog.workloads(spec)]


def load_warm_start(text: str | None, *, within_experiment: bool = True) -> WarmStart | None:
    """Reads --warm-start, within an experiment or for one search; says which part of a buffer cannot be used."""
    from mapgym.agents.experiment.definition.warm_start import POLICY, read_warm_start

    if text is None:
        return None
    warm_start = read_warm_start(text, within_experiment=within_experiment)
    if warm_start.source != POLICY and warm_start.digest and (damaged := warm_start.buffer().damaged):
        notify_damaged_lines(text, damaged)
    return warm_start


def notify_damaged_lines(path: object, damaged: Sequence[Damage]) -> None:
    """Says that lines of a replay buffer are left out."""
    notify(
        f"{len(damaged)} damaged lines of {path} are left out, the first is {damaged[0].place}; "
        f"see: mapgym buffer verify {path}"
    )


def notify_damaged(path: Path) -> None:
    """Says that a result cannot be read and is made again."""
    notify(f"mapgym: {path} is damaged or of another version, and is made again")


def load_agents() -> None:
    """Makes the registry of agents complete."""
    import mapgym.agents  # noqa: F401 - the import registers them


def format_ratio(value: float | None) -> str:
    """A ratio to the lower bound, "-" when there is none yet."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.3f}"


def format_figure(value: float | None) -> str:
    """A large figure with four digits, "-" when there is none yet."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.4g}"


def parse_seconds(seconds: float | None, what: str) -> float | None:
    """Checks an option that is a number of seconds."""
    if seconds is not None and not 0 < seconds < math.inf:
        raise SpecificationError(f"{what} is {seconds:g}; give a finite number of seconds above 0")
    return seconds


def solver_text(progress: Progress, objective: str) -> str:
    """How far the solver is: incumbent, bound and gap."""
    certified = f"bound {format_figure(progress.lower_bound)}, gap {short_gap(progress.gap, certified=True)}"
    return f"solver: {OBJECTIVE_NAMES[objective]} {format_figure(progress.value)}, {certified}"


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
