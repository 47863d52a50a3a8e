"""``mapgym run``: an experiment from a file, in worker processes."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from mapgym.agents.commands import console, options, parsing
from mapgym.agents.commands.experiments import (
    end_with_failures,
    offer_best_known,
    print_summary,
    run_with_display,
)
from mapgym.agents.experiment.definition.experiment_file import load_experiment
from mapgym.agents.experiment.report.folder_report import read_folder
from mapgym.agents.experiment.report.report import warm_start_lines
from mapgym.agents.experiment.storage.known_mappings import check_known_file


def run(
    context: typer.Context,
    experiment: Annotated[
        str,
        typer.Argument(
            metavar="EXPERIMENT",
            help='An experiment of the catalog ("mapgym list experiments") or a YAML file.',
            show_default=False,
        ),
    ],
    output: options.FolderOption,
    jobs: Annotated[int, typer.Option(min=1, max=1024, help="Worker processes, each with one thread.")] = 1,
    certify: options.CertifyOption = None,
    warm_start: options.WarmStartOption = None,
    rules: options.RulesOption = None,
    update_best_known: options.UpdateBestKnownOption = None,
    no_locks: options.NoLocksOption = False,
) -> None:
    """Runs what is missing of EXPERIMENT: every agent with every seed on every task.

    Each finished run is kept in the output folder, so that anything may be killed at any time: the same command
    continues. Several of them may work on one folder at once. "mapgym report" makes tables and plots of the folder.
    """
    parsing.parse_seconds(certify, "--certify")

    if update_best_known is not None:
        check_known_file(update_best_known)
    matrix = parsing.counted_by(load_experiment(experiment), rules)
    if (warm := parsing.load_warm_start(warm_start)) is not None:
        matrix = replace(matrix, agents=tuple(entry.warm(warm) for entry in matrix.agents))
    finished = run_with_display(matrix, output, jobs=jobs, certify=certify, command=parsing.command_line(context))
    for line in warm_start_lines(finished.results):
        console.say(line)
    if any(not result.failure for result in finished.results):
        console.say("")
        print_summary(read_folder(finished.folder).summary)
    offer_best_known(finished.results, update_best_known)
    console.say(f'Kept in {output}; "mapgym report {output}" makes tables, plots and a page of it.')
    end_with_failures(finished.results)
