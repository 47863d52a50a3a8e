"""What the commands that bring files in share: their options, and how they end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from mapgym.agents.commands import console
from mapgym.agents.files.mapping_file import yaml_comment
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.interop.imported import Imported
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.catalog import Network
from mapgym.system.file_names import file_name
from mapgym.system.files import prepare_output_folder, write_text
from mapgym.system.yaml_loader import dump_yaml

FilesArgument = Annotated[list[Path], typer.Argument(metavar="FILES", help="YAML files.", show_default=False)]

FolderOption = Annotated[
    Path,
    typer.Option("--output", "-o", metavar="DIR", help="The folder that the files go into.", show_default=False),
]

WordBitsOption = Annotated[
    int | None,
    typer.Option(min=1, metavar="BITS", help="Width of words where the files do not say it; 8 when left out."),
]


def end_with_files(found: Sequence[tuple[Path, Imported]], folder: Path, tool: str, *, as_json: bool) -> None:
    """Writes what was brought in, a file each, and says what has no effect.

    Args:
        found: what each file holds.
        folder: where to.
        tool: what the files were written for.
        as_json: whether to print JSON.

    Raises:
        SpecificationError: two would have the same file, or the folder cannot be written; then there is no file.
    """
    texts: dict[str, str] = {}
    lines = []
    for source, imported in found:
        notes = [f"{each.key}: {each.why}" for each in imported.ignored]
        about = "\n".join((f"Imported from {source}, a file for {tool}. Without effect, or simpler here:", *notes))
        things: list[Accelerator | Network] = [*imported.accelerators, *imported.networks]
        for thing in things:
            file = f"{file_name(thing.name)}.yaml"
            if file in texts:
                raise SpecificationError(
                    f"{folder / file}: two of what is imported are called {quoted(thing.name)}; import them into "
                    "folders of their own"
                )
            texts[file] = yaml_comment(about) + dump_yaml(thing.to_dict())
            lines.append(f"{folder / file}: {_described(thing)}")
    prepare_output_folder(folder)
    for file, text in texts.items():
        write_text(folder / file, text)
    ignored = [each for _, imported in found for each in imported.ignored]
    if as_json:
        notes_data = [{"file": each.file, "key": each.key, "why": each.why} for each in ignored]
        console.print_json({"written": [str(folder / file) for file in texts], "ignored": notes_data})
        return
    for line in lines:
        console.say(line)
    if ignored:
        console.say("\nRead, and without effect or simpler here:")
    for each in ignored:
        console.say(f"  {each}")


def _described(thing: Accelerator | Network) -> str:
    if isinstance(thing, Network):
        return f"network {thing.name}, {len(thing.layers)} distinct layers, {thing.macs:,} multiply-accumulates"
    return f"accelerator {thing.name}, {len(thing.levels)} storage levels, {thing.mac.instances:,} multipliers"
