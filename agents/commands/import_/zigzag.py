"""``mapgym import zigzag``: accelerators and layers for ZigZag."""

from __future__ import annotations

from typing import Annotated

import typer

from mapgym.agents.commands import imported, options
from mapgym.interop.zigzag import read_zigzag


def run(
    files: imported.FilesArgument,
    output: imported.FolderOption,
    word_bits: imported.WordBitsOption = None,
    output_bits: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="BITS",
            help="Width of words in memories that hold outputs only; twice that of others when left out.",
        ),
    ] = None,
    as_json: options.JsonOption = False,
) -> None:
    """Brings in accelerators and lists of layers that were written for ZigZag.

    Writes each as a file that all commands take. Prints what of the files has no effect here; what cannot be expressed
    is refused.
    """
    found = [(file, read_zigzag(file, word_bits, output_bits)) for file in files]
    imported.end_with_files(found, output, "ZigZag", as_json=as_json)
