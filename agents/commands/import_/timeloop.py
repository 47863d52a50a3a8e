"""``mapgym import timeloop``: files for Timeloop as ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from mapgym.agents.commands import console, parsing
from mapgym.errors import SpecificationError
from mapgym.system.files import prepare_output_folder, write_text
from mapgym.timeloop.reading.constraint_lists import SECTIONS, list_constraints
from mapgym.timeloop.reading.constraints import read_timeloop_constraints
from mapgym.timeloop.reading.documents import Ignored, read_documents
from mapgym.timeloop.reading.mappings import read_timeloop_mapping
from mapgym.timeloop.reading.specification import read_timeloop


def run(
    context: typer.Context,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILES",
            help="Architecture, energies (ERT, ART), problem, mapping, sparse optimisations of Timeloop v0.1 to v0.4, "
            "or folders of them.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for our files.", show_default=False)],
    energies: Annotated[
        str | None,
        typer.Option(
            help="Estimate of energies that no ERT says: pat for Timeloop's public model, pat@45nm@0.9V for the same "
            "at another node and voltage.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="What to call the accelerator.", show_default=False)] = None,
) -> None:
    """Writes FILES for Timeloop as ours: accelerator.yaml, workload.yaml, mapping.yaml and constraints.yaml.

    As far as they are there; a mapping and constraints need the problem and the architecture that they are of.
    Everything that was read and has no effect is listed. What cannot be expressed is refused, and nothing is written.
    """
    found = read_timeloop(files, energies, name)
    parts: dict[str, Any] = {}
    ignored = list(found.ignored)
    sections = read_documents(files).every(*SECTIONS)
    if found.accelerator is not None and found.workload is not None and list_constraints(sections):
        read = read_timeloop_constraints(sections, found.workload, found.accelerator)
        # Some constraints of theirs are properties of our hardware.
        found.accelerator = read.accelerator
        ignored += read.ignored
        parts["constraints.yaml"] = read.constraints.to_dict()
    if found.accelerator is not None:
        parts["accelerator.yaml"] = found.accelerator.to_dict()
    if found.workload is not None:
        parts["workload.yaml"] = found.workload.to_dict()
    if found.mapping is not None and found.accelerator is not None and found.workload is not None:
        section = found.mapping
        mapping = read_timeloop_mapping(section.value, found.workload, found.accelerator, section.file)
        parts["mapping.yaml"] = mapping.to_dict()
    if not parts:
        raise SpecificationError(f"{files[0]}: holds neither an architecture nor a problem; name the files that do")
    _say_ignored(ignored)
    prepare_output_folder(output)
    command = parsing.command_line(context)
    for file, data in parts.items():
        text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=118)
        write_text(output / file, f"# {command}\n{text}")
    console.say(f"Written to {output}: {', '.join(parts)}.")


def _say_ignored(ignored: Sequence[Ignored]) -> None:
    """Lists what has no effect; the same of many parts once."""
    seen: dict[tuple[str, str], list[str]] = {}
    for entry in ignored:
        seen.setdefault((entry.file, entry.why), []).append(entry.key)
    for (file, why), keys in seen.items():
        console.notify(f"mapgym: {file}: without effect: {', '.join(dict.fromkeys(keys))}: {why}")
