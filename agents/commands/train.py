"""``mapgym train``: trains an agent ahead of its searches."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.progress_bar import ProgressBar

from mapgym.agents.commands import console, options, parsing
from mapgym.agents.learned.training import CHECKPOINT, Trainer, TrainingProgress, TrainingRequest, make_trainer


def train(
    context: typer.Context,
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="Who is trained.", show_default=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the result; continues what it holds.", show_default=False)
    ],
    env: Annotated[
        str | None, typer.Option(help="Environment to train in; MapSpace-v0 when left out.", show_default=False)
    ] = None,
    workload: Annotated[
        str | None,
        typer.Option(help="Layers to train on: workloads or networks, separated by commas.", show_default=False),
    ] = None,
    accelerator: Annotated[
        str | None,
        typer.Option(
            help="The accelerator to train for: a name of the catalog or a YAML file.",
            show_default=False,
        ),
    ] = None,
    rules: options.RulesOption = None,
    objective: Annotated[
        str | None, typer.Option(help="What to minimise: edp, energy or latency; edp when left out.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps in the environments, of all together.", show_default=False)
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Mappings to train on; the agent's recipe says how many when left out.")
    ] = None,
    parameter: options.ParameterOption = None,
    seconds: Annotated[
        float | None,
        typer.Option(help="Wall time after which it stops; the same command continues.", show_default=False),
    ] = None,
    seed: options.SeedOption = 0,
    full: Annotated[
        bool, typer.Option("--full", help="Train as long and as large as the original did, not for a small machine.")
    ] = False,
) -> None:
    """Trains AGENT ahead of its searches, so that they can use what it learned.

    What is needed depends on the agent: a surrogate is trained for an accelerator, a policy in an environment. A
    training that was interrupted or killed continues when the same command is given again.
    """
    trainer = make_trainer(agent)
    given = {
        "env": env,
        "workload": workload,
        "accelerator": accelerator,
        "rules": rules,
        "objective": objective,
        "steps": steps,
        "samples": samples,
        "parameter": parameter or None,
        "full": full or None,
    }
    trainer.check_options({name: value is not None for name, value in given.items()})
    request = TrainingRequest(
        accelerator=None if accelerator is None else parsing.load_accelerator(accelerator, rules=rules),
        folder=output,
        rules=parsing.parse_rules(rules),
        workloads=tuple(parsing.load_workloads(parsing.comma_separated(workload, "--workload"))) if workload else (),
        env=env,
        objective=parsing.parse_objective(objective or "edp"),
        steps=steps,
        samples=samples,
        seconds=parsing.parse_seconds(seconds, "--seconds"),
        seed=seed,
        full=full,
        parameters=parsing.read_parameters(parameter or []),
        command=parsing.command_line(context),
    )
    console.say(_run(trainer, request))


def _run(trainer: Trainer, request: TrainingRequest) -> str:
    """Trains and shows how far it is; returns what has been reached."""
    progress, screen = TrainingProgress(), console.err()
    if not screen.is_terminal:
        progress.on_milestone = console.notify
    kept = console.kept_when_interrupted(
        lambda: (
            f"Interrupted; run the same command again to continue from the last checkpoint in {request.folder}."
            if (request.folder / CHECKPOINT).exists()
            else "Interrupted before the first checkpoint; the same command begins again from the start."
        )
    )
    with kept, console.live_display(screen, lambda: _render(progress), keep=False):
        return trainer.train(request, progress)


def _render(progress: TrainingProgress) -> RenderableType:
    line = console.PrintableTable.grid(padding=(0, 2))
    line.add_row(
        ProgressBar(total=max(progress.total, 1), completed=progress.done, width=24),
        f"{progress.done:,} of {progress.total:,} {progress.unit}",
        progress.text,
    )
    return line
