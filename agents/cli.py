"""The ``mapgym`` command."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from mapgym import __version__
from mapgym.agents.commands.lazy import lazy_group
from mapgym.errors import InputWarning, SpecificationError
from mapgym.errors.text import printable
from mapgym.system import command_start

USER_ERROR = 2
"""Exit status when the input is wrong, the same as for a wrong option."""

UNREAD = 141
"""Exit status when whoever read the output has gone, 128 + SIGPIPE as shells count."""

_COMMANDS = {
    "search": "search.search:search",
    "compare": "compare:compare",
    "run": "run:run",
    "report": "report:report",
    "show": "show:show",
    "train": "train:train",
    "validate": "validate:validate",
    "export": "export:export",
    "import": "import_:import_group",
    "list": "listing:list_names",
    "map": "network.map:map_network",
    "sweep": "network.sweep:sweep",
    "tune": "tune:tune",
    "bench": "bench:bench",
    "buffer": "buffer:buffer",
    "study": "study:study",
}

# Plain tracebacks: what is not the user's mistake should be quotable in a bug report.
app = typer.Typer(
    name="mapgym",
    cls=lazy_group({name: f"mapgym.agents.commands.{place}" for name, place in _COMMANDS.items()}),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Finds and explains mappings of DNN layers onto accelerators, and compares the ways of finding them.",
)


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
    """Runs the command and exits.

    The status is 0 when all is done, 1 when validation or runs have failed, 2 for wrong input, 130 after Ctrl-C and
    141 when whoever read the output has gone.

    Args:
        arguments: what follows ``mapgym`` on the command line; the process's own when left out.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    command_start.imported()
    command_start.occupy_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Names may hold what the encoding of a terminal or a pipe does not have.
            stream.reconfigure(errors="backslashreplace")
    warnings.showwarning = _show_warning
    try:
        try:
            app(args=given, prog_name="mapgym", obj=given)
        finally:
            sys.stdout.flush()
    except SystemExit as exit:
        # Typer has dealt with this one in its own way.
        if isinstance(exit.__context__, BrokenPipeError):
            _end_unread()
        raise
    except BrokenPipeError:
        _end_unread()
    except SpecificationError as error:
        _fail(str(error))
    except MemoryError as error:
        _fail(f"there is not enough memory ({printable(str(error)) or 'for what is asked for'}); ask for less")
    except OSError as error:
        # Files that vanish, folders that may not be written, a full disk: the user's to mend, unlike other exceptions.
        place = f"{error.filename}: " if error.filename else ""
        what = f"{place}{(error.strerror or str(error)).lower()}; check the path, its permissions and the free space"
        _fail(str(SpecificationError(what)))
    except KeyboardInterrupt:
        raise SystemExit(command_start.INTERRUPTED) from None


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: Any, **others: Any
) -> None:
    """What the user has given in vain is said in one line; other warnings look as they always do."""
    if issubclass(category, InputWarning):
        sys.stderr.write(f"mapgym: {printable(str(message))}\n")
    else:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno))


def _fail(message: str) -> None:
    with contextlib.suppress(OSError):
        sys.stderr.write(f"mapgym: {message}\n")
    _discard_unwritten()
    raise SystemExit(USER_ERROR) from None


def _end_unread() -> None:
    """Ends as every tool does whose reader has gone, ``mapgym ... | head -1``."""
    _discard_unwritten()
    raise SystemExit(UNREAD) from None


def _discard_unwritten() -> None:
    """Lets go of what could not be written, which Python would try, and complain about, again at the end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    main()
