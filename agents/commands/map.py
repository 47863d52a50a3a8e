"""``mapgym map``: good mappings for all layers of a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mapgym.agents.base import DEFAULT_AGENT, make_agent
from mapgym.agents.commands import console, options, parsing, study_command as shared
from mapgym.agents.studies.network_map import NetworkMapper, draw_network, network_tables
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.mapspace import MapSpace
from mapgym.spec import catalog
from mapgym.warmstart import ReplayBuffer


def map_network(
    context: typer.Context,
    network: Annotated[
        str, typer.Argument(metavar="NETWORK", help='A network ("mapgym list networks").', show_default=False)
    ],
    accelerator: options.AcceleratorArgument,
    output: options.FolderOption,
    samples_per_layer: Annotated[int, typer.Option(help="Mappings to price for each distinct layer.")] = 2000,
    agent: options.AgentOption = None,
    seed: options.SeedOption = 0,
    axes: options.AxesOption = options.DEFAULT_AXES,
    objective: options.ObjectiveOption = "edp",
    no_peer_links: options.PeerLinksOption = False,
    rules: options.RulesOption = None,
    buffer: Annotated[
        Path | None,
        typer.Option(help="Replay buffer of solved layers to begin from as well.", show_default=False),
    ] = None,
    no_locks: options.NoLocksOption = False,
) -> None:
    """Maps every distinct layer of NETWORK onto ACCELERATOR.

    The search of each layer begins from the mappings of the layers before it that are most like it. Each finished layer
    is kept in the output folder, so that the same command continues after an interruption. Writes the totals of the
    network and a row for each layer (map.md, map.csv), and a picture of where energy and time go (map.png).
    """
    parsing.parse_objective(objective)
    shared.at_least(samples_per_layer, 1, "--samples-per-layer")

    if buffer is not None and not buffer.is_file():
        raise SpecificationError(
            f"there is no replay buffer {quoted(Path(buffer))}; name one that exists, or leave it out"
        )
    known = None if buffer is None else ReplayBuffer(buffer)
    if known is not None and known.damaged:
        console.notify_damaged_lines(buffer, known.damaged)
    mapper = NetworkMapper(
        catalog.network(network),
        parsing.load_accelerator(accelerator, peer_links=not no_peer_links, rules=rules),
        parsing.parse_axes(axes),
        objective,
        agent or DEFAULT_AGENT,
        samples_per_layer,
        seed,
        known,
    )
    searcher = make_agent(mapper.agent)
    for remark in (searcher.remark(mapper.accelerator), known.remark(mapper.accelerator) if known else ""):
        if remark:
            console.notify(f"mapgym: {remark}")
    searcher.check_objective(objective)
    for layer in mapper.network.layers:
        searcher.check_axes(MapSpace(layer.workload, mapper.accelerator, mapper.axes))
    title = f"{mapper.network.name} on {mapper.accelerator.name}"
    shared.run_with_display(
        context, output, title, mapper.cells(), network_tables, draw_network, mapper.accelerator.rules, mapper.learn
    )
