"""``mapgym study order``: what the order of the loops is worth."""

from __future__ import annotations

from typing import Annotated

import typer

from mapgym.agents.commands import options, parsing, study_command as shared
from mapgym.agents.studies.order import study as order


def run(
    context: typer.Context,
    output: options.FolderOption,
    workloads: shared.WorkloadsOption = shared.PAPER_LAYERS,
    accelerators: shared.AcceleratorsOption = shared.ACCELERATORS,
    objective: options.ObjectiveOption = "edp",
    bases: Annotated[int, typer.Option(max=10_000, help="Good mappings, and random ones, of each layer.")] = 5,
    peer_links: shared.PeerLinksOption = False,
    rules: options.RulesOption = None,
    quick: shared.QuickOption = False,
    no_locks: options.NoLocksOption = False,
) -> None:
    """Prices every order of the loops, level by level and at all levels alike, for good and for random mappings.

    How many costs are distinct, how far the worst order is from the best, and how many orders are as good as the best.
    Links between neighbours are off unless --peer-links is given. Writes order.md, order.csv and order.png.
    """
    parsing.parse_objective(objective)
    shared.at_least(bases, 1, "--bases")
    tasks = shared.study_tasks(
        workloads, accelerators, options.DEFAULT_AXES, objective, peer_links=peer_links, rules=rules
    )

    for task in tasks:
        order.all_orders(task.workload.bounds)
    cells = order.order_cells(tasks, min(bases, 2) if quick else bases)
    shared.run_with_display(
        context, output, "Loop orders", cells, order.order_tables, order.draw_orders, shared.rules_of(tasks)
    )
