"""Arguments and options that several commands have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from mapgym.errors.seeds import MAX_SEED
from mapgym.spec.rules import RULE_SETS
from mapgym.system.locks import NO_LOCKS

DEFAULT_AXES = "tile,order,parallelism"
WorkloadArgument = Annotated[
    str,
    typer.Argument(
        metavar="WORKLOAD",
        help='A workload of the catalog ("mapgym list workloads") or a YAML file.',
        show_default=False,
    ),
]

AcceleratorArgument = Annotated[
    str,
    typer.Argument(
        metavar="ACCELERATOR",
        help='An accelerator of the catalog ("mapgym list accelerators") or a YAML file.',
        show_default=False,
    ),
]

AxesOption = Annotated[
    str, typer.Option(help="Axes of the map space to search, of tile, order, parallelism and bypass.")
]

ObjectiveOption = Annotated[str, typer.Option(help="What to minimise: edp, energy or latency.")]

DensityOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Densities of tensors, such as weights=0.5,inputs=0.2; may be repeated.",
        metavar="TENSOR=DENSITY",
        show_default=False,
    ),
]

DensitiesOption = Annotated[
    str | None,
    typer.Option(
        help="Densities of the inputs that the objective sparsity-aware covers; 1.0,0.8,0.5,0.2,0.1 when left out.",
        show_default=False,
    ),
]

DensityWeightsOption = Annotated[
    str | None,
    typer.Option(help="How much each of these densities counts; all alike when left out.", show_default=False),
]

SecondsOption = Annotated[
    float | None, typer.Option(help="Wall time of a search; whichever limit comes first ends it.", show_default=False)
]

PeerLinksOption = Annotated[
    bool,
    typer.Option("--no-peer-links", help="Neighbouring instances do not pass words to each other (Timeloop's do)."),
]

RulesOption = Annotated[
    str | None,
    typer.Option(
        help=f"Count as another version of Timeloop than the accelerator says: {', '.join(RULE_SETS)}.",
        metavar="NAME",
        show_default=False,
    ),
]

CertifyOption = Annotated[
    float | None,
    typer.Option(
        help="Wall time for the solver to prove how far each task's best mapping is from the optimum; an optimum that "
        "is stored is used without solving.",
        metavar="SECONDS",
        show_default=False,
    ),
]

WarmStartOption = Annotated[
    str | None,
    typer.Option(
        help="Begin every search from solved layers: those of a replay buffer, or (of this experiment, agent and "
        "seed) the layer before, or the most similar ones before; or from the proposals of the trained policy.",
        metavar="BUFFER|previous-layer|similar|policy",
        show_default=False,
    ),
]

SeedOption = Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of everything random.")]

OpenAxesOption = Annotated[
    str | None,
    typer.Option(
        help=f"Axes of the map space to search, of tile, order, parallelism and bypass; left out, {DEFAULT_AXES}, and "
        "bypass too if an accelerator is an architecture for Timeloop.",
        show_default=False,
    ),
]

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def _lock_nothing(context: typer.Context, value: bool) -> bool:
    """Takes the option --no-locks, for this command and its worker processes."""
    if value:
        before = os.environ.get(NO_LOCKS)
        os.environ[NO_LOCKS] = "1"
        context.call_on_close(lambda: os.environ.update({NO_LOCKS: before or "0"}))
    return value


NoLocksOption = Annotated[
    bool,
    typer.Option(
        "--no-locks",
        callback=_lock_nothing,
        help="Lock no files, for file systems that cannot; only while no other process works on the same files.",
    ),
]
AgentOption = Annotated[
    str | None, typer.Option(help='Who searches ("mapgym list agents"); the best all-rounder when left out.')
]
ParameterOption = Annotated[
    list[str] | None,
    typer.Option("--parameter", "-p", help="NAME=VALUE of the agent; may be repeated.", show_default=False),
]
FolderOption = Annotated[
    Path, typer.Option("--output", "-o", help="Folder for results; continues what it holds.", show_default=False)
]
JobsOption = Annotated[
    int | None,
    typer.Option(min=1, help="Worker processes; as many as there are cores when left out.", show_default=False),
]
UpdateBestKnownOption = Annotated[
    Path | None,
    typer.Option(
        help="YAML file of best known mappings to join better ones into, such as envs_config/best_known.tsv.",
        show_default=False,
    ),
]
