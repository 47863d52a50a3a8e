"""``mapgym study landscape``: how mappers move through the map space."""

from __future__ import annotations

from typing import Annotated

import typer

from mapgym.agents.commands import options, parsing, study_command as shared
from mapgym.agents.studies.landscape import study as landscape
from mapgym.agents.studies.landscape.plot import draw_landscapes


def run(
    context: typer.Context,
    output: options.FolderOption,
    workloads: shared.WorkloadsOption = "paper/resnet_conv4",
    accelerators: shared.AcceleratorsOption = shared.ACCELERATORS,
    agents: Annotated[
        str | None,
        typer.Option(
            help="Agents, separated by commas; when left out: random, random-pruned, gamma, annealing, hill-climb, "
            "mind-mappings and maskable-ppo, as far as they are installed.",
            show_default=False,
        ),
    ] = None,
    axes: options.AxesOption = options.DEFAULT_AXES,
    objective: options.ObjectiveOption = "edp",
    samples: Annotated[int, typer.Option(help="Budget of each search.")] = 2500,
    seeds: Annotated[int, typer.Option(max=10_000, help="Searches of each agent; the first is drawn.")] = 2,
    peer_links: shared.PeerLinksOption = False,
    rules: options.RulesOption = None,
    quick: shared.QuickOption = False,
    no_locks: options.NoLocksOption = False,
) -> None:
    """Draws the mappings that each mapper visits by their first two principal components, coloured by cost and time.

    Features are the logarithms of all factors, the places of the loops, and the tensors that are kept. Links between
    neighbours are off unless --peer-links is given. Writes landscape.md, its tables as CSV, and a picture of each task.
    """
    parsing.parse_objective(objective)
    shared.at_least(samples, 20, "--samples")
    shared.at_least(seeds, 1, "--seeds")
    tasks = shared.study_tasks(workloads, accelerators, axes, objective, peer_links=peer_links, rules=rules)

    names = landscape.present_agents(parsing.comma_separated(agents, "--agents") if agents else None)
    if quick:
        samples, seeds = min(samples, 1000), 1
    cells = landscape.landscape_cells(tasks, names, samples, seeds)
    shared.run_with_display(
        context, output, "Landscapes", cells, landscape.landscape_tables, draw_landscapes, shared.rules_of(tasks)
    )
