"""``mapgym compare``: learned and classical mappers on equal terms."""

from __future__ import annotations

from typing import Annotated

import typer

from mapgym.agents.commands import console, options, parsing
from mapgym.agents.commands.experiments import (
    end_with_failures,
    print_best,
    print_summary,
    run_with_display,
)
from mapgym.agents.experiment.definition.densities import task_workload
from mapgym.agents.experiment.definition.experiment import AgentEntry, Experiment
from mapgym.agents.experiment.report.folder_report import FILES, write_reports
from mapgym.agents.experiment.report.report import warm_start_lines
from mapgym.evaluation.evaluator import Budget
from mapgym.evaluation.task import cross

_PRINTED_MAPPINGS = 2


def compare(
    context: typer.Context,
    agents: Annotated[
        list[str], typer.Option(help='Agents, separated by commas ("mapgym list agents").', show_default=False)
    ],
    workload: Annotated[
        list[str],
        typer.Option(help="Workloads or networks (all of their layers), separated by commas.", show_default=False),
    ],
    accelerator: Annotated[list[str], typer.Option(help="Accelerators, separated by commas.", show_default=False)],
    output: options.FolderOption,
    samples: Annotated[
        int | None,
        typer.Option(help="Mappings that each run may price; 5000 when seconds are not given.", show_default=False),
    ] = None,
    seconds: options.SecondsOption = None,
    seeds: Annotated[
        int, typer.Option(min=1, max=100_000, help="Number of seeds for each agent and task (0, 1, ...).")
    ] = 3,
    axes: options.OpenAxesOption = None,
    no_peer_links: options.PeerLinksOption = False,
    rules: options.RulesOption = None,
    objective: Annotated[
        str,
        typer.Option(
            help="What to minimise: edp, energy, latency, or sparsity-aware for EDP at several densities at once."
        ),
    ] = "edp",
    env: Annotated[
        str | None,
        typer.Option(
            help="Environment that learned agents act in: MapSpace-v0, or MapSpaceSparse-v0, in which all agents "
            "minimise the objective at several densities at once.",
            show_default=False,
        ),
    ] = None,
    densities: options.DensitiesOption = None,
    density_weights: options.DensityWeightsOption = None,
    density: options.DensityOption = None,
    certify: options.CertifyOption = None,
    warm_start: options.WarmStartOption = None,
    no_locks: options.NoLocksOption = False,
) -> None:
    """Compares agents on the same tasks with the same budget.

    Runs every agent with every seed on every workload and accelerator. Each finished run is kept in the output folder,
    so that an interrupted comparison continues when the same command is given again. At the end: a page with everything
    (report.html), a summary table (summary.csv, summary.md), anytime curves (anytime.svg), the best mappings (best/).
    """
    named_accelerators = parsing.comma_separated(accelerator, "--accelerator")
    searched_axes = parsing.parse_axes(axes, named_accelerators)
    objective = parsing.parse_density_objective(objective, densities, density_weights, env)
    parsing.parse_certify(certify, objective)

    parsing.notify_unused_constraints(named_accelerators)
    accelerators = parsing.load_accelerators(accelerator, "--accelerator", peer_links=not no_peer_links, rules=rules)
    warm = parsing.load_warm_start(warm_start)
    named = parsing.load_workloads(parsing.comma_separated(workload, "--workload"))
    workloads = [task_workload(layer, objective, parsing.parse_densities(density)) for layer in named]
    experiment = Experiment(
        tasks=cross(workloads, accelerators, searched_axes, objective),
        agents=tuple(AgentEntry(name, warm_start=warm) for name in parsing.comma_separated(agents, "--agents")),
        seeds=tuple(range(seeds)),
        budget=Budget(5000 if samples is None and seconds is None else samples, seconds),
    )
    finished = run_with_display(experiment, output, jobs=0, certify=certify, command=parsing.command_line(context))
    for line in warm_start_lines(finished.results):
        console.say(line)
    if not any(result.failure for result in finished.results):
        (found,) = write_reports(output, finished.folder)
        print_summary(found.summary)
        for task in found.summary.tasks[:_PRINTED_MAPPINGS]:
            print_best(found.summary, task)
        files = ", ".join(FILES)
        console.say(f"Written to {output}: {files}, best mappings in best/, one result for each run in runs/.")
    end_with_failures(finished.results)
