"""``mapgym export``: a mapping in the files of another tool."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from mapgym.agents.commands import console, options, parsing
from mapgym.agents.commands.show import read_mapping
from mapgym.agents.experiment.definition.densities import task_workload
from mapgym.cost import CostModel
from mapgym.errors import SpecificationError, suggest
from mapgym.errors.text import quoted
from mapgym.mapping.export import Export
from mapgym.spec import catalog
from mapgym.system.files import prepare_output_folder, write_text

_WRITERS = {
    "timeloop": "mapgym.timeloop.writing:export_timeloop",
    "zigzag": "mapgym.interop.zigzag:export_zigzag",
    "accelforge": "mapgym.interop.accelforge:export_accelforge",
}
"""Tool -> the function that writes its files."""


def export(
    mapping: Annotated[
        Path,
        typer.Argument(
            metavar="MAPPING", help='YAML file with a mapping, as "mapgym search -o" writes it.', show_default=False
        ),
    ],
    workload: Annotated[
        str,
        typer.Option(help='A workload of the catalog ("mapgym list workloads") or a YAML file.', show_default=False),
    ],
    accelerator: Annotated[
        str,
        typer.Option(
            help='An accelerator of the catalog ("mapgym list accelerators") or a YAML file.', show_default=False
        ),
    ],
    to: Annotated[str, typer.Option(metavar="TOOL", help=f"Whose files: {', '.join(_WRITERS)}.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the files.", show_default=False)],
    density: options.DensityOption = None,
    rules: options.RulesOption = None,
) -> None:
    """Writes MAPPING, with its workload and its accelerator, as files that another tool reads.

    What the tool's files cannot say is listed.
    """
    if to not in _WRITERS:
        raise SpecificationError(f"--to: unknown tool {quoted(to)}; {suggest(to, _WRITERS)}")
    layer = task_workload(catalog.workload(workload), "edp", parsing.parse_densities(density))
    machine = parsing.load_accelerator(accelerator, rules=rules)
    chosen = read_mapping(mapping, layer, machine)
    cost = CostModel(layer, machine).evaluate(chosen)
    if not cost.legal:
        raise SpecificationError(f"{mapping}: the mapping is illegal: {cost.reason}")
    module, _, function = _WRITERS[to].partition(":")
    writer: Callable[..., Export] = getattr(importlib.import_module(module), function)
    found = writer(layer, machine, chosen)
    prepare_output_folder(output)
    for name, text in found.files.items():
        write_text(output / name, text)
    for sentence in found.lost:
        console.notify(f"mapgym: not in these files: {sentence}")
    console.say(f"Written to {output}: {', '.join(found.files)}.")
