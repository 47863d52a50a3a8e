"""``mapgym study learning``: when does learning beat searching?"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from mapgym.agents.commands import console, options, parsing, study_command as shared
from mapgym.agents.commands.experiments import available_cores, end_with_failures, run_with_display
from mapgym.agents.experiment.definition.experiment_file import load_experiment
from mapgym.agents.experiment.storage.results import RunResult
from mapgym.agents.learned.amortized.model import DEFAULT_MODEL, find_policy, load_policy
from mapgym.agents.learned.amortized.training import Recipe
from mapgym.agents.learned.stored_arrays import reading
from mapgym.agents.studies.learning.plot import draw_learning
from mapgym.agents.studies.learning.study import Buffers, Outcome, Plan, learning_cells
from mapgym.agents.studies.learning.tables import learning_tables
from mapgym.agents.studies.mappers.study import Comparison, mappers_tables
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.evaluation.evaluator import Budget
from mapgym.evaluation.task import rules_text
from mapgym.spec.splits import load_split, training_layers

QUICK_SAMPLES, QUICK_SECONDS, QUICK_LAYERS = 1000, 2.0, 2


def run(
    context: typer.Context,
    output: options.FolderOption,
    samples: Annotated[int, typer.Option(help="Budget of the searches of unseen layers.")] = 20_000,
    seeds: Annotated[int, typer.Option(max=10_000, help="Seeds of the searches of unseen layers.")] = 3,
    accelerators: Annotated[
        str | None,
        typer.Option(
            help="For the unseen layers, separated by commas; those of training and of test when left out.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Amortized policies, separated by commas: folders of trainings, or names of shipped ones; the "
            "standard one when left out.",
            show_default=False,
        ),
    ] = None,
    unseen_only: Annotated[bool, typer.Option("--unseen-only", help="Leave out the part on single layers.")] = False,
    jobs: options.JobsOption = None,
    peer_links: shared.PeerLinksOption = False,
    rules: options.RulesOption = None,
    quick: shared.QuickOption = False,
    no_locks: options.NoLocksOption = False,
) -> None:
    """Compares learning with searching: on one layer from nothing, and on layers that a policy has never seen.

    Single layers: the experiments learning and learning_time of the catalog, in the folders samples/ and time/, so that
    "mapgym report" makes a page of both. Unseen layers: those of the test networks (envs_config/splits.yaml), on the
    accelerators of training and of test; the best of 1, 16 and 256 proposals of the amortized policy beside random
    mappings, similar solved layers and gamma; the samples that searches need from nothing, from the policy and from
    similar layers; and after how many layers the training has paid for itself. With several policies (trained with
    several seeds), the means are over them, too, and a table has the figures of each. Writes learning.md, its tables as
    CSV, and learning.png. --quick takes few layers, one seed and small budgets.
    """
    shared.at_least(samples, 256, "--samples")
    shared.at_least(seeds, 1, "--seeds")
    plan = _plan(samples, seeds, accelerators, model, peer_links=peer_links, rules=rules, quick=quick)
    single, runs = (None, []) if unseen_only else _single_layers(context, output, jobs, rules=rules, quick=quick)
    for policy in plan.policies:
        for remark in dict.fromkeys(load_policy(policy["model"]).remark(machine) for machine in plan.accelerators):
            if remark:
                console.notify(f"mapgym: {remark}")
    buffers = Buffers(plan)
    outcome = Outcome(shared.work_through(output, learning_cells(plan, buffers), buffers.learn))
    (unseen,) = load_split("test").accelerators[:1]
    tables = learning_tables(single, outcome, unseen)
    if single is not None:
        tables.insert(1, replace(mappers_tables(single)[0], title="One layer from nothing"))
    shared.finish(
        context, output, "Learning", tables, lambda: draw_learning(outcome, output), rules_text(plan.accelerators)
    )
    for question, answer in tables[0].rows:
        console.say(f"- {question}: {answer}")
    if runs:
        console.say(f'"mapgym report {output}" makes tables, charts and a page of the runs on single layers.')
    end_with_failures(runs)


def _plan(
    samples: int,
    seeds: int,
    accelerators: str | None,
    model: str | None,
    *,
    peer_links: bool,
    rules: str | None = None,
    quick: bool,
) -> Plan:
    """What is measured on unseen layers."""
    named = [*load_split("training").accelerators, *load_split("test").accelerators]
    if accelerators is not None:
        named = parsing.comma_separated(accelerators, "--accelerators")
    layers, known = load_split("test").layers(), training_layers()
    if quick:
        samples, seeds = min(samples, 5000), 1
        layers = [layer for name in load_split("test").networks for layer in _spread(_of(layers, name))]
        known = known[::2]
    policies = [_describe_policy(name) for name in parsing.comma_separated(model or DEFAULT_MODEL, "--model")]
    digests = [policy["sha256"] for policy in policies]
    for policy in policies:
        if digests.count(policy["sha256"]) > 1:
            raise SpecificationError(
                f"--model names the policy {quoted(policy['model'])} more than once; name each once"
            )
    machines = tuple(parsing.load_accelerator(name, peer_links=peer_links, rules=rules) for name in named)
    return Plan(tuple(layers), machines, tuple(known), samples, seeds, tuple(policies))


def _describe_policy(model: str) -> dict[str, Any]:

    about, path = load_policy(model).about, find_policy(model)
    with reading(path, "policy of the agent 'amortized'"):
        return {
            "model": model,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "command": about["command"],
            "priced": Recipe(**about["recipe"]).priced,
            "seconds": about["cpu_seconds"],
        }


def _of(layers: list[Any], network: str) -> list[Any]:
    return [layer for layer in layers if layer.name.startswith(f"{network}/")]


def _spread(layers: list[Any]) -> list[Any]:
    """A few, evenly over the network."""
    return layers[len(layers) // (2 * QUICK_LAYERS) :: max(1, len(layers) // QUICK_LAYERS)][:QUICK_LAYERS]


def _single_layers(
    context: typer.Context, output: Path, jobs: int | None, *, rules: str | None, quick: bool
) -> tuple[Comparison | None, list[RunResult]]:
    """Agents that learn on one layer beside those that search it."""
    results, summaries = [], []
    for name, folder in (("learning", "samples"), ("learning_time", "time")):
        experiment = parsing.counted_by(load_experiment(name), rules)
        if quick:
            budget = Budget(samples=QUICK_SAMPLES) if experiment.budget.samples else Budget(seconds=QUICK_SECONDS)
            experiment = replace(experiment, seeds=experiment.seeds[:1], budget=budget)
        done = run_with_display(
            experiment,
            output / folder,
            jobs=jobs or available_cores(),
            certify=None,
            command=parsing.command_line(context),
        )
        results += done.results
        summaries += done.summaries
    return (Comparison(*summaries) if len(summaries) == 2 else None), results
