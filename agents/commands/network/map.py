"""``mapgym map``: good mappings for all layers of a network."""

from __future__ import annotations

from pathlib import Path

import typer

from mapgym.agents.commands import options, parsing, study_command as shared
from mapgym.agents.commands.network import shared as network_options
from mapgym.agents.studies.cells import Result
from mapgym.agents.studies.network.network_map import NetworkMap, draw_network, network_tables
from mapgym.spec import catalog
from mapgym.system.files import prepare_output_folder, write_text

PAGE = "map.html"


def map_network(
    context: typer.Context,
    network: network_options.NetworkArgument,
    accelerator: options.AcceleratorArgument,
    output: options.FolderOption,
    samples_per_layer: network_options.SamplesOption = 2000,
    agent: options.AgentOption = None,
    seed: options.SeedOption = 0,
    axes: options.OpenAxesOption = None,
    objective: options.ObjectiveOption = "edp",
    constraints: network_options.ConstraintsOption = None,
    certify: options.CertifyOption = None,
    clock: network_options.ClockOption = None,
    no_peer_links: options.PeerLinksOption = False,
    rules: options.RulesOption = None,
    buffer: network_options.BufferOption = None,
    jobs: network_options.JobsOption = 0,
    no_locks: options.NoLocksOption = False,
) -> None:
    """Maps every distinct layer of NETWORK onto ACCELERATOR.

    The search of each layer begins from the mappings of the layers before it that are most like it. Each finished layer
    is kept in the output folder, so that the same command continues after an interruption. Writes one page that needs
    nothing else (map.html: totals, layers, levels and tensors, roofline, every mapping), tables (map.md, map.csv), and
    a picture of where energy and time go (map.png). "mapgym show" takes a file of cells/, "mapgym report" the folder.
    """
    layers = catalog.network(network)
    settings = network_options.settings(
        layers, accelerator, axes, objective, agent, samples_per_layer, seed, constraints, certify, buffer
    )
    machine = parsing.load_accelerator(accelerator, peer_links=not no_peer_links, rules=rules)
    found = NetworkMap(
        layers,
        machine,
        settings,
        network_options.parse_clock(clock, machine),
        parsing.command_line(context),
    )
    network_options.check_searches(found.network, [found.accelerator], settings)
    prepare_output_folder(output)
    found.write(output)
    results = shared.work_through(output, found.cells(), jobs=jobs)
    finish(found, results, output)


def finish(found: NetworkMap, results: list[Result], output: Path) -> None:
    """Writes the page, the tables and the picture, and prints the totals."""
    from mapgym.agents.studies.network.page import network_page

    write_text(output / PAGE, network_page(found, results))
    tables = network_tables(results, found.clock_ghz)
    draw = lambda: draw_network(results, output)  # noqa: E731 - named for the call below
    shared.end_with_report(
        output, "map", found.title, found.command, tables, draw, found.accelerator.rules, pages=[PAGE]
    )
