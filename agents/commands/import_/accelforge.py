"""``mapgym import accelforge``: architectures for AccelForge."""

from __future__ import annotations

from typing import Annotated

import typer

from mapgym.agents.commands import imported, options
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.interop.accelforge import read_accelforge


def run(
    files: imported.FilesArgument,
    output: imported.FolderOption,
    word_bits: imported.WordBitsOption = None,
    energies: Annotated[
        str | None,
        typer.Option(
            metavar="ESTIMATE",
            help="Energies of components that have none in the file: pat (Timeloop's public model), or such as "
            "pat@45nm@0.9V; such components are refused when left out.",
            show_default=False,
        ),
    ] = None,
    define: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A value that a template needs; may be repeated.", show_default=False),
    ] = None,
    as_json: options.JsonOption = False,
) -> None:
    """Brings in architectures that were written for AccelForge.

    Writes each as a file that all commands take. Prints what of the files has no effect here; what cannot be expressed
    is refused.
    """
    values: dict[str, object] = {}
    for text in define or ():
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise SpecificationError(f"--define is {quoted(text)}; give NAME=VALUE")
        values[name] = value
    found = [(file, read_accelforge(file, word_bits, energies, values)) for file in files]
    imported.end_with_files(found, output, "AccelForge", as_json=as_json)
