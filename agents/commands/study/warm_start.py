"""``mapgym study warm-start``: what beginning from solved layers saves."""

from __future__ import annotations

from typing import Annotated

import typer

from mapgym.agents.base import make_agent
from mapgym.agents.commands import options, parsing, study_command as shared
from mapgym.agents.studies.warm_start.plot import draw_warm_starts
from mapgym.agents.studies.warm_start.study import warm_start_cells, warm_start_tables
from mapgym.spec import catalog


def run(
    context: typer.Context,
    output: options.FolderOption,
    networks: Annotated[str, typer.Option(help="Networks, separated by commas.")] = (
        "vgg16,resnet18,resnet50,mobilenet_v2,mnasnet"
    ),
    accelerator: Annotated[str, typer.Option(help="The accelerator.")] = "accel_b",
    agents: Annotated[str, typer.Option(help="Agents, separated by commas.")] = "gamma,evolution,hill-climb,annealing",
    samples: Annotated[int, typer.Option(help="Budget of each search.")] = 5000,
    seeds: Annotated[int, typer.Option(max=10_000, help="Seeds of each agent.")] = 5,
    rules: options.RulesOption = None,
    quick: shared.QuickOption = False,
    no_locks: options.NoLocksOption = False,
) -> None:
    """Maps networks layer by layer, each search begun from nothing, from the layer before, or from similar layers.

    Similar layers are found by the paper's editing distance and by ours, among the layers before in the network; and by
    ours among the layers of the other networks alone. Reports how many times fewer samples a warm start needs to reach
    what the random start reaches, and what it ends with. Writes warm-start.md, its tables as CSV, and warm_start.png.
    """
    shared.at_least(samples, 200, "--samples")
    shared.at_least(seeds, 1, "--seeds")

    named = [catalog.network(name).name for name in parsing.comma_separated(networks, "--networks")]
    searchers = [make_agent(name).name for name in parsing.comma_separated(agents, "--agents")]
    if quick:
        samples, seeds = min(samples, 2000), 1
    machine = parsing.load_accelerator(accelerator, rules=rules)
    cells = warm_start_cells(named, machine, searchers, samples, seeds)
    shared.run_with_display(context, output, "Warm starts", cells, warm_start_tables, draw_warm_starts, machine.rules)
