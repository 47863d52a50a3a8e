"""``mapgym tune``: which parameters of an agent are best, on tasks that mappers are not compared on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from mapgym.agents.base import agent_class, make_agent
from mapgym.agents.commands import console, options, parsing, study_command as shared
from mapgym.agents.studies.cells import Result
from mapgym.agents.studies.tuning.study import scores_of, tuning_cells, tuning_tables
from mapgym.agents.tuning import choose, read_tuning, tuning_text
from mapgym.errors import SpecificationError, suggest
from mapgym.errors.text import quoted
from mapgym.system.files import check_output_file, write_text
from mapgym.system.locks import alone_with


def tune(
    context: typer.Context,
    agent: Annotated[str, typer.Argument(metavar="AGENT", help='An agent ("mapgym list agents").', show_default=False)],
    output: options.FolderOption,
    file: Annotated[
        Path | None,
        typer.Option("--file", help="YAML file with tasks and settings; the installed one when left out."),
    ] = None,
    samples: Annotated[
        int | None, typer.Option(help="Budget of each search; that of the file when left out.", show_default=False)
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(max=10_000, help="Seeds of each search; those of the file when left out.", show_default=False),
    ] = None,
    update: Annotated[
        Path | None,
        typer.Option(help="File to write the choice into, such as envs_config/tuning.yaml.", show_default=False),
    ] = None,
    rules: options.RulesOption = None,
    no_locks: options.NoLocksOption = False,
) -> None:
    """Tries the settings of AGENT that the file lists, on the tasks for tuning, and says which is best.

    Each finished search is kept in the output folder, so that the same command continues. With --update the choice
    becomes the default of the agent: searches use it unless they are given other values.
    """
    agent_class(agent)
    tuning = read_tuning(file)
    if agent not in tuning.agents:
        raise SpecificationError(
            f"no settings are listed for agent {quoted(agent)}, it has nothing to tune or is what it is by definition; "
            f"{suggest(agent, tuning.agents)}"
        )
    for setting in tuning.agents[agent].settings:
        make_agent(agent, **setting)
    if update is not None:
        check_output_file(update)
        if update.exists():
            # What is something else must not be overwritten in the end.
            read_tuning(update)
    for what, value in (("--samples", samples), ("--seeds", seeds)):
        if value is not None:
            shared.at_least(value, 1, what)
    tuning = replace(tuning, samples=samples or tuning.samples, seeds=seeds or tuning.seeds)
    entry = tuning.agents[agent]
    named = parsing.parse_rules(rules)
    results: list[Result] = []
    shared.run_with_display(
        context,
        output,
        f"Tuning of {agent}",
        tuning_cells(agent, tuning, named),
        lambda found: tuning_tables(entry, found),
        lambda found, folder: [],
        named,
        results.append,
    )
    scores = scores_of(results)
    chosen = choose(entry.settings, scores)
    console.say(f"Chosen: {chosen or 'its own defaults'}")
    if update is not None:
        tuned = replace(entry, chosen=chosen, scores=scores, command=parsing.command_line(context), rules=named)
        with alone_with(update):
            written = read_tuning(update) if update.exists() else tuning
            write_text(update, tuning_text(replace(written, agents={**written.agents, agent: tuned})))
        console.say(f"Written to {update}.")
