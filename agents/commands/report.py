"""``mapgym report``: tables, charts and a page of what an experiment has found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mapgym.agents.commands import console, options
from mapgym.agents.commands.experiments import notify_damaged, print_summary
from mapgym.agents.experiment.report.folder_report import FILES, PAGE, write_reports


def report(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="What run, compare or a study of mappers has written.", show_default=False
        ),
    ],
    no_locks: options.NoLocksOption = False,
) -> None:
    """Reports what the experiments in FOLDER have found, finished or not.

    Writes tables (summary.csv, summary.md), the anytime curves (anytime.svg), the best mappings (best/), and one page
    that needs nothing else (report.html): all tables and charts, and every best mapping as a loop nest with its cost
    breakdown.
    """
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
