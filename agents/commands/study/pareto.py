"""``mapgym study pareto``: energy against latency."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from mapgym.agents.commands import options, study_command as shared
from mapgym.agents.studies.pareto import study as pareto
from mapgym.agents.studies.pareto.plot import draw_fronts
from mapgym.errors import SpecificationError


def run(
    context: typer.Context,
    output: options.FolderOption,
    workloads: shared.WorkloadsOption = shared.PAPER_LAYERS,
    accelerators: shared.AcceleratorsOption = shared.ACCELERATORS,
    agent: Annotated[str, typer.Option(help="Who searches; one that can search a front.")] = "gamma",
    axes: options.AxesOption = options.DEFAULT_AXES,
    samples: Annotated[int, typer.Option(help="Budget of each search.")] = 20000,
    seeds: Annotated[int, typer.Option(max=10_000, help="Searches, whose fronts are joined.")] = 3,
    certify: Annotated[
        float, typer.Option(help="Wall time of the solver for each end of each front; 0 for stored optima only.")
    ] = 5.0,
    peer_links: shared.PeerLinksOption = False,
    rules: options.RulesOption = None,
    quick: shared.QuickOption = False,
    no_locks: options.NoLocksOption = False,
) -> None:
    """Searches the front of energy against latency of each layer, with the objective pareto.

    Shows what the most frugal mapping saves and how much slower it is, how many MAC units the ends use, and how far
    they are from the certified optima of energy and of latency alone. Links between neighbours are off unless
    --peer-links is given. Writes pareto.md, its tables as CSV, and pareto.png.
    """
    shared.at_least(samples, 1, "--samples")
    shared.at_least(seeds, 1, "--seeds")
    if not 0 <= certify < math.inf:
        raise SpecificationError(f"--certify is {certify:g}; give a finite number of seconds, or 0")
    tasks = shared.study_tasks(workloads, accelerators, axes, "edp", peer_links=peer_links, rules=rules)

    if quick:
        samples, seeds, certify = min(samples, 5000), 1, min(certify, 1.0)
    cells = pareto.pareto_cells(tasks, agent, samples, seeds, certify)
    shared.run_with_display(
        context, output, "Energy against latency", cells, pareto.pareto_tables, draw_fronts, shared.rules_of(tasks)
    )
