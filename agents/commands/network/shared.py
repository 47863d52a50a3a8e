"""What the commands about whole networks share: options, and the settings of the search of each layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from mapgym.agents.base import DEFAULT_AGENT, make_agent
from mapgym.agents.commands import console, parsing, study_command
from mapgym.agents.studies.network.layer_search import LayerSearch, SearchSettings
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.catalog import Network
from mapgym.warmstart import ReplayBuffer

NetworkArgument = Annotated[
    str,
    typer.Argument(
        metavar="NETWORK", help='A network ("mapgym list networks") or a file with one.', show_default=False
    ),
]
SamplesOption = Annotated[int, typer.Option(help="Mappings to price for each distinct layer.")]
ConstraintsOption = Annotated[
    Path | None, typer.Option(help="YAML file of constraints that hold for every layer.", show_default=False)
]
ClockOption = Annotated[
    float | None,
    typer.Option(metavar="GHZ", help="Clock of the accelerator, for times and power.", show_default=False),
]
BufferOption = Annotated[
    Path | None, typer.Option(help="Replay buffer of solved layers to begin from as well.", show_default=False)
]
JobsOption = Annotated[
    int,
    typer.Option(
        min=0,
        max=1024,
        help="Worker processes; layers wait for those that they begin from. Results do not depend on it; 0 to do "
        "everything in this process.",
    ),
]


def settings(
    network: Network,
    accelerator: str,
    axes: str | None,
    objective: str,
    agent: str | None,
    samples: int,
    seed: int,
    constraints: Path | None,
    certify: float | None,
    buffer: Path | None,
) -> SearchSettings:
    """What the options say about the search of each layer."""
    parsing.parse_objective(objective)
    file = parsing.load_constraints(constraints, accelerator)
    study_command.at_least(samples, 1, "--samples-per-layer")
    if buffer is not None:
        if not buffer.is_file():
            raise SpecificationError(
                f"there is no replay buffer {quoted(Path(buffer))}; name one that exists, or leave it out"
            )
        if (known := ReplayBuffer(buffer)).damaged:
            console.notify_damaged_lines(buffer, known.damaged)
    return SearchSettings(
        parsing.parse_axes(axes, [accelerator]),
        objective,
        agent or DEFAULT_AGENT,
        samples,
        seed,
        None if file is None else file.for_network(layer.workload for layer in network.layers),
        parsing.parse_certify(certify, objective),
        buffer,
    )


def parse_clock(ghz: float | None, accelerator: Accelerator) -> float | None:
    """Checks --clock; without it, the clock that the accelerator gives, if it does."""
    if ghz is not None and not 0 < ghz < math.inf:
        raise SpecificationError(f"--clock is {ghz:g}; give a finite number of GHz above 0")
    if ghz is None and accelerator.cycle_seconds is not None:
        return 1e-9 / accelerator.cycle_seconds
    return ghz


def check_searches(network: Network, accelerators: Sequence[Accelerator], chosen: SearchSettings) -> None:
    """Refuses what no search can do before any work is done, and passes on what the agent has to remark."""
    searcher = make_agent(chosen.agent)
    known = None if chosen.known is None else ReplayBuffer(chosen.known)
    remarks = [(searcher.remark(machine), known.remark(machine) if known else "") for machine in accelerators[:1]]
    for remark in remarks[0]:
        if remark:
            console.notify(f"mapgym: {remark}")
    searcher.check_objective(chosen.objective)
    ignored: list[object] = []
    for machine in accelerators:
        for layer in network.layers:
            if chosen.constraints is not None:
                ignored += chosen.constraints.for_layer(layer.workload, machine).ignored
            searcher.check_axes(LayerSearch(layer, machine, chosen).space())
    console.notify_ignored(ignored)
