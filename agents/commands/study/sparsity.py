"""``mapgym study sparsity``: mappings for one density, and for many."""

from __future__ import annotations

from typing import Annotated

import typer

from mapgym.agents.base import make_agent
from mapgym.agents.commands import options, parsing, study_command as shared
from mapgym.agents.studies.sparsity.plot import draw_sparsity
from mapgym.agents.studies.sparsity.study import sparsity_cells
from mapgym.agents.studies.sparsity.tables import sparsity_tables
from mapgym.evaluation.sparsity_aware import DensitySet, SparsityAware
from mapgym.evaluation.task import rules_text


def run(
    context: typer.Context,
    output: options.FolderOption,
    workloads: shared.WorkloadsOption = ("paper/resnet_conv3,paper/resnet_conv4,paper/inception_conv2,paper/bert_kqv"),
    accelerators: shared.AcceleratorsOption = "accel_a_sparse_md,accel_b_sparse_md",
    agent: Annotated[str, typer.Option(help="Who searches; one that can search for several densities.")] = "evolution",
    samples: Annotated[int, typer.Option(help="Cost-model calls for each density that a mapping is tuned to.")] = 5000,
    seeds: Annotated[int, typer.Option(max=10_000, help="Searches of each kind.")] = 5,
    rules: options.RulesOption = None,
    quick: shared.QuickOption = False,
    no_locks: options.NoLocksOption = False,
) -> None:
    """Tests mappings at densities that they were not tuned to, and searches one mapping for many densities.

    Three parts: mappings tuned at one density of the weights and tested at others; one mapping for all densities of the
    inputs, found with the objective sparsity-aware, beside mappings tuned to each density and to one, with equal
    numbers of cost-model calls; and loop orders like an inner and like an outer product as both operands get sparser.
    Writes sparsity.md, its tables as CSV, and heat maps.
    """
    shared.at_least(samples, 200, "--samples")
    shared.at_least(seeds, 1, "--seeds")

    layers = parsing.load_workloads(parsing.comma_separated(workloads, "--workloads"))
    machines = parsing.load_accelerators(accelerators, "--accelerators", rules=rules)
    searcher, aware = make_agent(agent), SparsityAware()
    searcher.check_objective(aware)
    for machine in machines:
        for layer in layers:
            # It says what is wrong with them before the first search.
            DensitySet(layer, machine, aware)
    if quick:
        samples, seeds = min(samples, 1000), min(seeds, 2)
    cells = sparsity_cells(layers, machines, searcher.name, samples, seeds)
    shared.run_with_display(context, output, "Sparsity", cells, sparsity_tables, draw_sparsity, rules_text(machines))
