"""``mapgym study mappers``: which mapper is better, with the same samples and with the same time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import typer

from mapgym.agents.commands import console, options, parsing, study_command as shared
from mapgym.agents.commands.experiments import available_cores, end_with_failures, run_with_display
from mapgym.agents.experiment.definition.experiment import AgentEntry, Experiment
from mapgym.agents.experiment.definition.experiment_file import load_experiment
from mapgym.agents.experiment.report.summary import Summary
from mapgym.agents.experiment.storage.results import RunResult
from mapgym.agents.studies.mappers.plot import draw_mappers
from mapgym.agents.studies.mappers.study import Comparison, mappers_tables
from mapgym.agents.studies.mappers.timeloop_mapper import timeloop_runs, timeloop_table
from mapgym.evaluation.evaluator import Budget
from mapgym.evaluation.task import cross, rules_text
from mapgym.spec.accelerator import Accelerator


def run(
    context: typer.Context,
    output: options.FolderOption,
    workloads: shared.WorkloadsOption = shared.PAPER_LAYERS,
    accelerators: shared.AcceleratorsOption = shared.ACCELERATORS,
    agents: Annotated[
        str | None,
        typer.Option(
            help='Agents, separated by commas; those of the experiment "mappers" that are installed when left out.',
            show_default=False,
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(help="Budget of the runs with the same samples; 5000, or 1000 with --quick.", show_default=False),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(help="Budget of the runs with the same time; 5, or 1 with --quick.", show_default=False),
    ] = None,
    jobs: options.JobsOption = None,
    rules: options.RulesOption = None,
    quick: shared.QuickOption = False,
    no_locks: options.NoLocksOption = False,
) -> None:
    """Compares all mappers: EDP after the same number of samples and after the same time.

    Two experiments of the catalog, mappers and mappers_time, in the folders samples/ and time/, and a third,
    mappers_timeloop, in timeloop/: the tasks among them that Timeloop's own mapper was run on, with bypass and
    counted by the rules of its version, whatever those of the others. With
    --quick those of the same names that end in _quick. "mapgym report" makes a page of all. Links between neighbours
    are as the accelerators have them. Slow agents get fewer seeds. Writes mappers.md, its tables as CSV, and
    mappers.png.
    """
    if samples is not None:
        shared.at_least(samples, 1, "--samples")
    parsing.parse_seconds(seconds, "--seconds")
    suffix = "_quick" if quick else ""
    machines = parsing.load_accelerators(accelerators, "--accelerators", rules=rules)
    by_samples, by_time = (load_experiment(f"{name}{suffix}") for name in ("mappers", "mappers_time"))
    limits = (Budget(samples=samples or by_samples.budget.samples), Budget(seconds=seconds or by_time.budget.seconds))
    plans = [
        (output / name, _adapted(experiment, workloads, machines, agents, budget))
        for name, experiment, budget in zip(("samples", "time"), (by_samples, by_time), limits, strict=True)
    ]
    timeloop = timeloop_runs()
    there = [(run.workload, run.accelerator) for run in timeloop]
    third = load_experiment(f"mappers_timeloop{suffix}")
    budget = Budget(samples=samples or third.budget.samples)
    # Its costs are those of the version that it belongs to.
    as_it_counts = [machine.counted_by(timeloop[0].accelerator.rules) for machine in machines]
    third = _adapted(third, workloads, as_it_counts, agents, budget, by_samples.agents)
    if tasks := tuple(task for task in third.tasks if (task.workload, task.accelerator) in there):
        plans.append((output / "timeloop", replace(third, tasks=tasks)))
    results: list[RunResult] = []
    summaries: list[Summary] = []
    for folder, experiment in plans:
        done = run_with_display(
            experiment,
            folder,
            jobs=jobs or available_cores(),
            certify=None,
            command=parsing.command_line(context),
        )
        results += done.results
        summaries += done.summaries
    if len(summaries) == len(plans):
        comparison = Comparison(*summaries[:2])
        overview, *others = mappers_tables(comparison)
        tables = [overview, *(timeloop_table(summary, timeloop) for summary in summaries[2:]), *others]
        shared.finish(
            context, output, "Mappers", tables, lambda: draw_mappers(comparison, output), rules_text(machines)
        )
        console.say(f'"mapgym report {output}" makes tables, charts and a page of all runs.')
    end_with_failures(results)


def _adapted(
    experiment: Experiment,
    workloads: str,
    machines: Sequence[Accelerator],
    agents: str | None,
    budget: Budget,
    others: Sequence[AgentEntry] = (),
) -> Experiment:
    """An experiment of the catalog with what the user wants otherwise.

    Agents that it does not have are as in ``others``: slow ones have fewer seeds there.
    """
    tasks = cross(
        parsing.load_workloads(parsing.comma_separated(workloads, "--workloads")),
        machines,
        experiment.tasks[0].axes,
        experiment.tasks[0].objective,
    )
    entries, absent = experiment.agents, experiment.absent
    if agents is not None:
        known = {entry.label: entry for entry in (*others, *entries)}
        entries = tuple(known.get(name) or AgentEntry(name) for name in parsing.comma_separated(agents, "--agents"))
        absent = ()
    # A description that speaks of the catalog's budget would be wrong.
    each = f"{budget.samples:,} samples" if budget.samples else f"{budget.seconds:g} seconds"
    description = f"mappers beside each other, {each} each"
    return replace(experiment, tasks=tasks, agents=entries, budget=budget, absent=absent, description=description)
