"""``mapgym import onnx``: a network in an ONNX file as ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import yaml

from mapgym.agents.commands import console, parsing
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.interop.onnx import describe, read_onnx
from mapgym.system.files import write_text


def run(
    context: typer.Context,
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="ONNX file.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="YAML file for the network.", show_default=False)],
    dim: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=SIZE",
            help="Size that the model leaves open, such as batch=1; may be repeated.",
            show_default=False,
        ),
    ] = None,
    weight_density: Annotated[
        bool, typer.Option("--weight-density", help="Give each layer the share of non-zero words of its weights.")
    ] = False,
) -> None:
    """Writes the network in MODEL as ours: each distinct layer once, with how often it is repeated.

    What multiplies and adds nothing up is listed as left out. Only shapes are read, and weights if their density is
    asked for.
    """
    found = read_onnx(model, _sizes(dim or ()), weight_density)
    text = yaml.safe_dump(dict(found.data), sort_keys=False, allow_unicode=True, width=118)
    for line in describe(found):
        console.notify(f"mapgym: {line}")
    write_text(output, f"# {parsing.command_line(context)}\n{text}")
    console.say(f"Written to {output}.")


def _sizes(texts: list[str] | tuple[str, ...]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for text in texts:
        name, equals, size = text.rpartition("=")
        if not equals or not name.strip() or not size.strip().isdecimal() or not 0 < int(size[:12]) < 2**31:
            raise SpecificationError(f"--dim: {quoted(text)} is no NAME=SIZE; write such as 'batch=1'")
        if name.strip() in sizes:
            raise SpecificationError(f"--dim: {quoted(name.strip())} is given twice; give one size")
        sizes[name.strip()] = int(size)
    return sizes
