"""``mapgym study certified``: mappers beside the certified optimum."""

from __future__ import annotations

from typing import Annotated

import typer

from mapgym.agents.commands import options, parsing, study_command as shared
from mapgym.agents.studies.certified import study as certified
from mapgym.agents.studies.certified.plot import draw_certified
from mapgym.agents.studies.certified.published import PUBLISHED
from mapgym.agents.studies.certified.tables import certified_tables

_LAYERS = "paper,bert_large"
_AXES = f"{options.DEFAULT_AXES},bypass"


def run(
    context: typer.Context,
    output: options.FolderOption,
    workloads: shared.WorkloadsOption = _LAYERS,
    accelerators: shared.AcceleratorsOption = shared.ACCELERATORS,
    agents: Annotated[str, typer.Option(help="Agents, separated by commas.")] = ",".join(certified.AGENTS),
    axes: options.AxesOption = _AXES,
    objective: options.ObjectiveOption = "edp",
    samples: Annotated[int, typer.Option(help="Samples of each search at most.")] = 20000,
    seconds: Annotated[float, typer.Option(help="Wall time of each search, and of each proof, at most.")] = 60.0,
    seeds: Annotated[int, typer.Option(max=10_000, help="Searches of agents that use randomness.")] = 3,
    published: Annotated[
        bool, typer.Option(help="Whether to compare optima that others have proven as well (half a minute).")
    ] = True,
    rules: options.RulesOption = None,
    quick: shared.QuickOption = False,
    no_locks: options.NoLocksOption = False,
) -> None:
    """Compares mappers with the certified optimum of each task: how far above it they end, and how long they take.

    Links between neighbours are off, and all mappings are priced by the same cost model. goma takes matrix products on
    three storage levels only. Four optima that others have proven are compared with ours as well. Writes certified.md,
    its tables as CSV, and certified.png.
    """
    shared.at_least(samples, 1, "--samples")
    shared.at_least(seeds, 1, "--seeds")
    parsing.parse_seconds(seconds, "--seconds")
    parsing.parse_objective(objective)
    tasks = shared.study_tasks(workloads, accelerators, axes, objective, peer_links=False, rules=rules)
    if quick:
        samples, seconds, seeds = min(samples, 2000), min(seconds, 5.0), 1
    names = parsing.comma_separated(agents, "--agents")
    proven_elsewhere = PUBLISHED if published else ()
    cells = certified.certified_cells(tasks, names, samples, seconds, seeds, proven_elsewhere)
    shared.run_with_display(
        context,
        output,
        "Mappers and certified optima",
        cells,
        certified_tables,
        draw_certified,
        shared.rules_of(tasks),
    )
