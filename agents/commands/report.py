"""``mapgym report``: tables, charts and a page of what an experiment has found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mapgym.agents.commands import console, options
from mapgym.agents.commands.experiments import notify_damaged, print_summary
from mapgym.agents.commands.network.map import finish
from mapgym.agents.experiment.report.folder_report import FILES, PAGE, write_reports
from mapgym.agents.studies.network.network_map import NetworkMap
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted


def report(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="What run, compare, map or a study of mappers has written.", show_default=False
        ),
    ],
    no_locks: options.NoLocksOption = False,
) -> None:
    """Reports what the experiments in FOLDER have found, finished or not.

    Writes tables (summary.csv, summary.md), the anytime curves (anytime.svg), the best mappings (best/), and one page
    that needs nothing else (report.html): all tables and charts, and every best mapping as a loop nest with its cost
    breakdown. Of what map has written, the page and the tables of the layers that are mapped.
    """
    if (mapped := NetworkMap.read(folder)) is not None:
        _report_map(mapped, folder)
        return
    found = write_reports(folder)
    for one in found:
        notify_damaged(one.folder, "left out")
        if len(found) > 1:
            console.say(f"{one.folder.path}\n")
        print_summary(one.summary)
        console.say(one.about.state(one.summary))
        if one.folder.path != folder:
            console.say(f"Written to {one.folder.path}: {', '.join(FILES[1:])}, best mappings in best/.\n")
    if found[0].folder.path == folder:
        console.say(f"Written to {folder}: {', '.join(FILES)}, best mappings in best/.")
    else:
        console.say(f"Written to {folder}: {PAGE}.")


def _report_map(mapped: NetworkMap, folder: Path) -> None:
    results = mapped.results(folder)
    if not results:
        raise SpecificationError(
            f"the folder {quoted(folder)} holds no mapped layer yet; give the command that made it again"
        )
    finish(mapped, results, folder)
