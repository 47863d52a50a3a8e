"""``mapgym search``: a good mapping for one layer, now."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from mapgym.agents.base import Prover
from mapgym.agents.certificate import (
    Certificate,
    Progress,
    certificate_of,
    certify as solve,
    known_certificate,
    with_stored,
)
from mapgym.agents.commands import console, options, parsing
from mapgym.agents.commands.search.request import Search, SearchRequest, make_search
from mapgym.agents.commands.search.result import SearchResult
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.evaluation.front import PARETO
from mapgym.system.files import check_output_file

PolicyOption = Annotated[
    Path | None,
    typer.Option(help="Folder of a policy that was trained in an environment; it is sampled.", show_default=False),
]
ObjectiveOption = Annotated[
    str,
    typer.Option(
        help="What to minimise: edp, energy, latency, pareto for the front of the last two, or sparsity-aware for "
        "EDP at several densities of the inputs at once."
    ),
]
SamplesOption = Annotated[
    int | None,
    typer.Option(
        help="Mappings to price, at one density each; 5000 when neither samples nor seconds are given.",
        show_default=False,
    ),
]
ConstraintsOption = Annotated[
    Path | None, typer.Option(help="YAML file with constraints on the map space.", show_default=False)
]
WarmStartOption = Annotated[
    str | None,
    typer.Option(
        help="Begin from the most similar layers of a replay buffer, or from the proposals of the trained policy.",
        metavar="BUFFER|policy",
        show_default=False,
    ),
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="YAML file for the best mapping.", show_default=False)
]


def search(
    workload: options.WorkloadArgument,
    accelerator: options.AcceleratorArgument,
    agent: options.AgentOption = None,
    parameter: options.ParameterOption = None,
    policy: PolicyOption = None,
    axes: options.OpenAxesOption = None,
    no_peer_links: options.PeerLinksOption = False,
    rules: options.RulesOption = None,
    objective: ObjectiveOption = "edp",
    densities: options.DensitiesOption = None,
    density_weights: options.DensityWeightsOption = None,
    density: options.DensityOption = None,
    samples: SamplesOption = None,
    seconds: options.SecondsOption = None,
    seed: options.SeedOption = 0,
    constraints: ConstraintsOption = None,
    warm_start: WarmStartOption = None,
    output: OutputOption = None,
    certify: options.CertifyOption = None,
    no_locks: options.NoLocksOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Searches a good mapping of WORKLOAD on ACCELERATOR.

    Prints the best mapping as a loop nest, with its cost, the ratio to the lower bound and, with --certify or where it
    is known, the distance to the optimum. Ctrl-C ends the search early with the best mapping so far.

    With --objective pareto it prints a table of the mappings none of which another beats in energy and latency; -o
    keeps them all.

    With --objective sparsity-aware it searches one mapping for several densities of the inputs, on sparse hardware.
    Each density of a mapping counts as a sample.
    """
    searched = parsing.parse_axes(axes, [accelerator])
    objective = _read_objective(objective, densities, density_weights)
    parsing.parse_certify(certify, objective)
    if output is not None:
        check_output_file(output, inputs=(workload, accelerator, constraints, warm_start))
    request = SearchRequest(
        workload=workload,
        accelerator=accelerator,
        axes=searched,
        objective=objective,
        densities=parsing.parse_densities(density),
        peer_links=not no_peer_links,
        rules=rules,
        constraints=constraints,
        agent=agent,
        parameters=parsing.read_parameters(parameter or []),
        policy=policy,
        warm_start=warm_start,
        samples=samples,
        seconds=seconds,
        seed=seed,
    )
    result = _result(make_search(request), certify)
    if output is not None:
        result.write(output)
    if as_json:
        console.print_json(result.to_json())
    else:
        result.print(output)
    if result.interrupted:
        raise typer.Exit(console.INTERRUPTED)


def _read_objective(text: str, densities: str | None, weights: str | None) -> str:
    if text != PARETO:
        return parsing.parse_density_objective(text, densities, weights)
    if densities is not None or weights is not None:
        raise SpecificationError(
            "--objective: 'pareto' has no densities to vary; give --objective sparsity-aware, or fix them with "
            "--density"
        )
    return text


def _result(search: Search, certify: float | None) -> SearchResult:
    """Runs a search, and looks up or proves how good its best mapping is; exits if there is none."""
    interrupted = search.run()
    if interrupted:
        console.notify("Interrupted; what follows is the best mapping so far.")
    evaluator, agent = search.evaluator, search.agent
    mapping, cost, seconds = evaluator.best_mapping, evaluator.best_cost, evaluator.seconds
    if mapping is None or cost is None:
        if interrupted:
            console.notify("No legal mapping had been found yet.")
            raise typer.Exit(console.INTERRUPTED)
        raise SpecificationError(
            f"agent {quoted(agent.name)} found no legal mapping within its budget; give it more samples or seconds, "
            "or use another agent"
        )
    certificate = _certificate(search, None if interrupted else certify)
    proven = getattr(agent, "front", None)  # of an agent that proves a front
    return SearchResult(
        evaluator, mapping, cost, agent.name, search.seed, seconds, search.start, interrupted, certificate, proven
    )


def _certificate(search: Search, seconds: float | None) -> Certificate | None:
    """What is proven about the task: by the agent itself, stored, or solved now if the user wants that."""
    space, objective = search.evaluator.space, search.evaluator.objective
    if isinstance(search.agent, Prover) and search.agent.optimum is not None:
        return with_stored(certificate_of(search.agent.optimum, space), space, objective)
    known = known_certificate(space, objective)
    if seconds is None or (known is not None and known.certified):
        return known
    progress = Progress()
    try:
        with console.live_display(console.err(), lambda: Text(console.solver_text(progress, objective)), keep=False):
            return solve(space, objective, seconds, progress)
    except SpecificationError as error:
        console.notify(f"mapgym: {error} (the mapping is shown without a certificate)")
    except KeyboardInterrupt:
        console.notify("Interrupted; the mapping is shown without a certificate.")
    return known
