"""``mapgym sweep``: a network on variants of an accelerator."""

from __future__ import annotations

from typing import Annotated

import typer

from mapgym.agents.commands import options, parsing, study_command as shared
from mapgym.agents.commands.network import shared as network_options
from mapgym.agents.studies.network.sweep import Sweep, make_variants, read_choice
from mapgym.spec import catalog


def sweep(
    context: typer.Context,
    network: network_options.NetworkArgument,
    accelerator: options.AcceleratorArgument,
    output: options.FolderOption,
    varied: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="LEVEL.FIELD=VALUE,VALUE",
            help="What to vary, such as GlobalBuffer.capacity_words=32768,65536; may be repeated, all combinations are "
            "tried. Of the accelerator itself without a level, such as peer_links=true,false.",
            show_default=False,
        ),
    ],
    samples_per_layer: network_options.SamplesOption = 2000,
    agent: options.AgentOption = None,
    seed: options.SeedOption = 0,
    axes: options.OpenAxesOption = None,
    objective: options.ObjectiveOption = "edp",
    constraints: network_options.ConstraintsOption = None,
    certify: options.CertifyOption = None,
    no_peer_links: options.PeerLinksOption = False,
    rules: options.RulesOption = None,
    jobs: network_options.JobsOption = 0,
    no_locks: options.NoLocksOption = False,
) -> None:
    """Maps NETWORK onto variants of ACCELERATOR, and compares them.

    Each layer begins its search from the same layer of the variants beside it. Each finished layer is kept in the
    output folder, so that the same command continues after an interruption. Writes tables of the variants and of all
    layers (sweep.md, sweep.csv), says which variants are on the front of energy against latency, and draws it
    (sweep.png).
    """
    layers = catalog.network(network)
    settings = network_options.settings(
        layers, accelerator, axes, objective, agent, samples_per_layer, seed, constraints, certify, None
    )
    machine = parsing.load_accelerator(accelerator, peer_links=not no_peer_links, rules=rules)
    choices = [read_choice(text, machine) for text in varied]
    found = Sweep(layers, make_variants(machine, choices), choices, settings)
    machines = [variant.accelerator for variant in found.variants]
    network_options.check_searches(found.network, machines, settings)
    results = shared.work_through(output, found.cells(), jobs=jobs)
    title = f"{found.network.name} on variants of {machine.name}"
    shared.end_with_report(
        output,
        "sweep",
        title,
        parsing.command_line(context),
        found.tables(results),
        lambda: found.draw(results, output),
        machine.rules,
    )
