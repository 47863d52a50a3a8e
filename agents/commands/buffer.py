"""``mapgym buffer``: what a replay buffer of solved layers holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mapgym.agents.commands import console, options, parsing
from mapgym.agents.files.mapping_file import read_mapping
from mapgym.agents.labels import OBJECTIVE_NAMES
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.spec import catalog
from mapgym.warmstart import Entry, ReplayBuffer

buffer = typer.Typer(
    name="buffer", help="Looks into a replay buffer of solved layers, and adds to it.", no_args_is_help=True
)

BufferArgument = Annotated[
    Path, typer.Argument(metavar="BUFFER", help="The file of the replay buffer.", show_default=False)
]


@buffer.command("list")
def list_entries(
    path: BufferArgument, as_json: options.JsonOption = False, no_locks: options.NoLocksOption = False
) -> None:
    """Lists the entries."""
    found = _open(path)
    rows = [_row(number, entry) for number, entry in enumerate(found)]
    if as_json:
        console.print_json({"entries": rows, "damaged_lines": [vars(damage) for damage in found.damaged]})
        return
    # Not as the title of the table, which is as narrow as that and would break a long path.
    console.say(f"{path}: {len(found):,} entries")
    table = console.new_table("", ["entry", "workload", "accelerator", "rules"], ["value"])
    for row in rows:
        value = f"{_objective_name(row['objective'])} {console.format_value(row['value'])}"
        table.add_row(str(row["entry"]), row["workload"], row["accelerator"], row["rules"], value)
    console.out().print(table)


@buffer.command("show")
def show_entry(
    path: BufferArgument,
    number: Annotated[
        int, typer.Argument(metavar="ENTRY", help='Number of the entry, as "list" prints it.', show_default=False)
    ],
    as_json: options.JsonOption = False,
    no_locks: options.NoLocksOption = False,
) -> None:
    """Shows one entry: the layer, what it costs and the mapping as a loop nest."""
    found = _open(path)
    if not 0 <= number < len(found):
        remedy = f"give a number from 0 to {len(found) - 1}" if len(found) else "it has none at all"
        raise SpecificationError(f"{quoted(path)} has no entry {number}; {remedy}")
    entry = found[number]
    if as_json:
        mapping = {"bounds": dict(zip(entry.workload.dims, entry.workload.bounds, strict=True))}
        console.print_json({**_row(number, entry), **mapping, "mapping": entry.mapping.to_dict()})
        return
    bounds = ", ".join(f"{dim} {bound}" for dim, bound in zip(entry.workload.dims, entry.workload.bounds, strict=True))
    value = f"{_objective_name(entry.objective)} {entry.value:.6g}"
    task = f"{entry.workload.name} ({bounds}) on {entry.accelerator.name}, {entry.accelerator.rules}"
    console.say(f"{task}: {value}\n\n{entry.mapping.to_text()}")


@buffer.command("add")
def add_mapping(
    path: BufferArgument,
    workload: options.WorkloadArgument,
    accelerator: options.AcceleratorArgument,
    mapping: Annotated[
        Path,
        typer.Argument(
            metavar="MAPPING", help='YAML file with a mapping, as "mapgym search -o" writes it.', show_default=False
        ),
    ],
    objective: options.ObjectiveOption = "edp",
    no_peer_links: options.PeerLinksOption = False,
    rules: options.RulesOption = None,
    no_locks: options.NoLocksOption = False,
) -> None:
    """Prices a mapping and adds it; the file is made if it is not there."""
    parsing.parse_objective(objective)
    layer = catalog.workload(workload)
    machine = parsing.load_accelerator(accelerator, peer_links=not no_peer_links, rules=rules)
    chosen = read_mapping(mapping, layer, machine)
    if not path.absolute().parent.is_dir():
        raise SpecificationError(f"cannot write {quoted(path)}: there is no such folder; make the folder first")
    found = _open(path, must_exist=False)
    value = found.add(layer, machine, chosen, objective)
    console.say(
        f"Entry {len(found) - 1} of {path}: {layer.name} on {machine.name}, {objective} {value:.6g}, {machine.rules}"
    )


@buffer.command("verify")
def verify(
    path: BufferArgument,
    repair: Annotated[
        bool, typer.Option("--repair", help="Move damaged lines into a file beside the buffer.", show_default=False)
    ] = False,
    no_locks: options.NoLocksOption = False,
) -> None:
    """Looks for damaged lines and prices every entry again; exit status 1 if anything is wrong."""
    found = _open(path, quiet=True)
    for damage in found.damaged:
        console.say(f"{damage.place}: {damage.why}")
    problems = 0
    for number, why in found.problems():
        problems += 1
        console.say(f"entry {number}: {why}")
    console.say(f"{len(found):,} entries, {len(found.damaged)} damaged lines, {problems} wrong values")
    damaged = bool(found.damaged)
    if repair and damaged:
        aside = found.repair()
        console.say(f"What was damaged is now in {aside}." if aside else "Others have repaired it.")
        damaged = False
    raise typer.Exit(1 if damaged or problems else 0)


def _open(path: Path, *, must_exist: bool = True, quiet: bool = False) -> ReplayBuffer:

    if must_exist and not path.is_file():
        raise SpecificationError(
            f"there is no replay buffer {quoted(path)}; make one with: mapgym buffer add {path} ..."
        )
    found = ReplayBuffer(path)
    if found.damaged and not quiet:
        console.notify_damaged_lines(path, found.damaged)
    return found


def _objective_name(objective: str) -> str:
    return OBJECTIVE_NAMES.get(objective) or quoted(objective)


def _row(number: int, entry: Entry) -> dict[str, Any]:
    return {
        "entry": number,
        "workload": entry.workload.name,
        "accelerator": entry.accelerator.name,
        "rules": entry.accelerator.rules,
        "objective": entry.objective,
        "value": entry.value,
    }
