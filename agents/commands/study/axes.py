"""``mapgym study axes``: what each axis of the map space contributes."""

from __future__ import annotations

from typing import Annotated

import typer

from mapgym.agents.commands import options, parsing, study_command as shared
from mapgym.agents.studies.axes import study
from mapgym.agents.studies.axes.plot import draw_axes

_SAMPLES, _SEEDS = 5000, 10
_QUICK_SAMPLES, _QUICK_SEEDS = 2000, 3


def run(
    context: typer.Context,
    output: options.FolderOption,
    workloads: shared.WorkloadsOption = shared.PAPER_LAYERS,
    accelerators: shared.AcceleratorsOption = shared.ACCELERATORS,
    axes: options.AxesOption = options.DEFAULT_AXES,
    objective: options.ObjectiveOption = "edp",
    samples: Annotated[
        int | None,
        typer.Option(help=f"Budget of each search; {_SAMPLES}, or {_QUICK_SAMPLES} with --quick.", show_default=False),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(help=f"Searches of each kind; {_SEEDS}, or {_QUICK_SEEDS} with --quick.", show_default=False),
    ] = None,
    peer_links: shared.PeerLinksOption = False,
    rules: options.RulesOption = None,
    quick: shared.QuickOption = False,
    no_locks: options.NoLocksOption = False,
) -> None:
    """Compares gamma's operators one by one, and searches each axis with the others fixed.

    Operators of tiles, orders and parallelism, each with and without crossover, crossover alone, all together. Then
    the default agent on each axis by itself, in a typical and in the best known mapping. Links between neighbours are
    off unless --peer-links is given. Writes axes.md, its tables as CSV, operators.png and axes.png.
    """
    parsing.parse_objective(objective)
    samples = shared.at_least(samples or (_QUICK_SAMPLES if quick else _SAMPLES), 100, "--samples")
    seeds = shared.at_least(seeds or (_QUICK_SEEDS if quick else _SEEDS), 1, "--seeds")
    tasks = shared.study_tasks(workloads, accelerators, axes, objective, peer_links=peer_links, rules=rules)

    cells = study.axes_cells(tasks, samples, seeds)
    shared.run_with_display(
        context, output, "Axes of the map space", cells, study.axes_tables, draw_axes, shared.rules_of(tasks)
    )
