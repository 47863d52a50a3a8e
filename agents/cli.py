"""The ``mapgym`` command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from mapgym import __version__
from mapgym.agents.commands.bench import bench
from mapgym.agents.commands.buffer import buffer
from mapgym.agents.commands.compare import compare
from mapgym.agents.commands.listing import list_names
from mapgym.agents.commands.map import map_network
from mapgym.agents.commands.report import report
from mapgym.agents.commands.run import run
from mapgym.agents.commands.search import search
from mapgym.agents.commands.show import show
from mapgym.agents.commands.study import study
from mapgym.agents.commands.train import train
from mapgym.agents.commands.tune import tune
from mapgym.agents.commands.validate import validate
from mapgym.errors import SpecificationError

USER_ERROR = 2
"""Exit status when the input is wrong, the same as for a wrong option."""

# Plain tracebacks: what is not the user's mistake should be quotable in a bug report.
app = typer.Typer(
    name="mapgym",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Finds and explains mappings of DNN layers onto accelerators, and compares the ways of finding them.",
)
for command in (search, compare, run, report, show, train, validate):
    app.command()(command)
app.command("list")(list_names)
app.command("map")(map_network)
app.command()(tune)
app.add_typer(bench)
app.add_typer(buffer)
app.add_typer(study)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"mapgym {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of the command itself."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command and exits: 0 done, 1 validation or runs failed, 2 wrong input, 130 interrupted.

    Args:
        arguments: what follows ``mapgym`` on the command line; the process's own when left out.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(args=given, prog_name="mapgym", obj=given)
    except SpecificationError as error:
        _fail(str(error))
    except OSError as error:
        # Files that vanish, folders that may not be written, a full disk: the user's to mend, unlike other exceptions.
        place = f"{error.filename}: " if error.filename else ""
        _fail(f"{place}{(error.strerror or str(error)).lower()}; check the path, its permissions and the free space")


def _fail(message: str) -> None:
    sys.stderr.write(f"mapgym: {message}\n")
    raise SystemExit(USER_ERROR) from None


if __name__ == "__main__":
    main()
