"""``mapgym search``: a good mapping for one layer, now."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.progress_bar import ProgressBar
from rich.text import Text

from mapgym.agents.commands import common
from mapgym.agents.commands.search.densities import density_data, print_densities
from mapgym.agents.commands.search.front import front_data, print_front, write_front
from mapgym.agents.labels import OPTIMAL_GAP, objective_name
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.evaluation.front import PARETO
from mapgym.evaluation.sparsity_aware import is_sparsity_aware
from mapgym.evaluation.task import density_text

if TYPE_CHECKING:
    from mapgym.agents.base import Agent
    from mapgym.agents.certificate import Certificate, Progress
    from mapgym.evaluation.evaluator import Evaluator
    from mapgym.mapspace import MapSpace
    from mapgym.spec.constraints import Constraints
    from mapgym.warmstart import Start


def search(
    workload: common.WorkloadArgument,
    accelerator: common.AcceleratorArgument,
    agent: Annotated[
        str | None, typer.Option(help='Who searches ("mapgym list agents"); the best all-rounder when left out.')
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", help="NAME=VALUE of the agent; may be repeated.", show_default=False),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(help="Folder of a policy that was trained in an environment; it is sampled.", show_default=False),
    ] = None,
    axes: common.AxesOption = common.DEFAULT_AXES,
    no_peer_links: common.PeerLinksOption = False,
    objective: Annotated[
        str,
        typer.Option(
            help="What to minimise: edp, energy, latency, pareto for the front of the last two, or sparsity-aware for "
            "EDP at several densities of the inputs at once."
        ),
    ] = "edp",
    densities: common.DensitiesOption = None,
    density_weights: common.DensityWeightsOption = None,
    density: common.DensityOption = None,
    samples: Annotated[
        int | None,
        typer.Option(
            help="Mappings to price, at one density each; 5000 when neither samples nor seconds are given.",
            show_default=False,
        ),
    ] = None,
    seconds: common.SecondsOption = None,
    seed: common.SeedOption = 0,
    constraints: Annotated[
        Path | None, typer.Option(help="YAML file with constraints on the map space.", show_default=False)
    ] = None,
    warm_start: Annotated[
        str | None,
        typer.Option(
            help="Begin from the most similar layers of a replay buffer, or from the proposals of the trained policy.",
            metavar="BUFFER|policy",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="YAML file for the best mapping.", show_default=False)
    ] = None,
    certify: common.CertifyOption = None,
    no_locks: common.NoLocksOption = False,
    as_json: common.JsonOption = False,
) -> None:
    """Searches a good mapping of WORKLOAD on ACCELERATOR.

    Prints the best mapping as a loop nest, with its cost, the ratio to the lower bound and, with --certify or where it
    is known, the distance to the optimum. Ctrl-C ends the search early with the best mapping so far.

    With --objective pareto it prints a table of the mappings none of which another beats in energy and latency; -o
    keeps them all.

    With --objective sparsity-aware it searches one mapping for several densities of the inputs, on sparse hardware.
    Each density of a mapping counts as a sample.
    """
    searched_axes = common.parse_axes(axes)
    if objective != PARETO:
        objective = common.parse_density_objective(objective, densities, density_weights)
    elif densities is not None or density_weights is not None:
        raise SpecificationError(
            "--objective: 'pareto' has no densities to vary; give --objective sparsity-aware, or fix them with "
            "--density"
        )
    common.parse_certify(certify, objective)
    if output is not None:
        from mapgym.system.files import check_output_file

        check_output_file(output, inputs=(workload, accelerator, constraints, warm_start))
    common.load_agents()
    from mapgym.agents.base import DEFAULT_AGENT, make_agent
    from mapgym.agents.certificate import Progress
    from mapgym.agents.experiment.definition.densities import task_workload
    from mapgym.agents.experiment.execution.context import load_compiled_code
    from mapgym.agents.files.mapping_file import write_mapping
    from mapgym.agents.interruption import Interruption
    from mapgym.agents.search.exact import ExactSearch
    from mapgym.evaluation.evaluator import Budget, Evaluator
    from mapgym.mapspace import MapSpace
    from mapgym.spec import catalog

    budget = Budget(5000 if samples is None and seconds is None else samples, seconds)
    parameters = common.read_parameters(parameter or [])
    if policy is not None:
        from mapgym.agents.learned.sb3.policy import read_policy

        stored = read_policy(policy)
        trained = str(stored.about["agent"])
        if agent not in (None, trained):
            raise SpecificationError(
                f"--policy: it is of agent {quoted(trained)}, not of {quoted(agent)}; leave --agent out"
            )
        if fixed := [name for name in parameters if name not in ("num_envs", "threads")]:
            raise SpecificationError(
                f"--parameter: {quoted(fixed[0])} of a trained policy is that of its training; leave it out, only "
                "num_envs and threads can be given with --policy"
            )
        parameters["policy"], agent = str(policy), trained
    searcher = make_agent(agent or DEFAULT_AGENT, **parameters)
    if seconds is not None and isinstance(searcher, ExactSearch):
        # The solver watches the clock by itself; what it has found in time must still be priced.
        searcher.seconds = min(searcher.seconds, seconds) if _is_given(parameter, "seconds") else seconds
        budget = Budget(5000 if samples is None else samples)
    space = MapSpace(
        task_workload(catalog.workload(workload), objective, common.parse_densities(density)),
        common.load_accelerator(accelerator, peer_links=not no_peer_links),
        searched_axes,
        constraints=_read_constraints(constraints),
    )
    searcher.check_axes(space)
    searcher.check_objective(objective)
    if policy is not None and (mismatch := stored.mismatch(objective)):
        common.notify(f"mapgym: {mismatch}")
    start = None if warm_start is None else _start(warm_start, space, objective, seed)
    evaluator = Evaluator(space, objective, budget)
    proof = Progress()
    if isinstance(searcher, ExactSearch):
        searcher.progress = proof
    with contextlib.suppress(KeyboardInterrupt), Interruption() as interruption:
        load_compiled_code(space)
        with common.live_display(common.err(), lambda: _progress(evaluator, proof), keep=False):
            if start is None or not start.sources:
                searcher.search(evaluator, seed)
            else:
                searcher.search(evaluator, seed, initial=start.mappings)
    interrupted = interruption.happened
    if interrupted:
        common.notify("Interrupted; what follows is the best mapping so far.")
    elapsed, front = evaluator.seconds, evaluator.front
    if evaluator.best_mapping is None or evaluator.best_cost is None:
        if interrupted:
            common.notify("No legal mapping had been found yet.")
            raise typer.Exit(common.INTERRUPTED)
        raise SpecificationError(
            f"agent {quoted(searcher.name)} found no legal mapping within its budget; give it more samples or seconds, "
            "or use another agent"
        )
    certificate = _certificate(evaluator, searcher, None if interrupted else certify)
    if output is not None:
        links = "" if space.accelerator.peer_links else " without links between neighbours"
        figure = "front of energy and latency" if front else f"EDP {evaluator.best_cost.edp:.6g} pJ*cycles"
        if is_sparsity_aware(objective):
            figure = f"{evaluator.best_value:.6g} x the lower bounds, {objective}"
        about = f"{space.workload.name} on {space.accelerator.name}{links}: {figure}\n"
        about += f"found by {searcher.name}, seed {seed}, {evaluator.samples} samples"
        if front:
            write_front(output, front, about)
        else:
            write_mapping(output, evaluator.best_mapping, about)
    if as_json:
        common.print_json(
            _to_json(evaluator, searcher.name, seed, elapsed, certificate, start, interrupted=interrupted)
        )
    elif front:
        print_front(front, evaluator, searcher.name, elapsed, output)
    elif is_sparsity_aware(objective):
        print_densities(evaluator, searcher.name, elapsed, output)
    else:
        _print(evaluator, searcher.name, elapsed, certificate, output)
    if start is not None and start.sources and not as_json:
        common.say(f"{'begun from':12s} {', '.join(start.sources)}")
    if interrupted:
        raise typer.Exit(common.INTERRUPTED)


def _start(text: str, space: MapSpace, objective: str, seed: int) -> Start:
    """What a warm start begins with; says so if there is nothing."""
    from mapgym.agents.experiment.definition.warm_start import WITHIN_EXPERIMENT

    if text in WITHIN_EXPERIMENT:
        raise SpecificationError(
            f"--warm-start {text} begins from other layers of an experiment, and a search has one layer; give the path "
            "of a replay buffer or 'policy', or use 'mapgym compare', 'mapgym run' or 'mapgym map'"
        )
    warm = common.load_warm_start(text, within_experiment=False)
    assert warm is not None  # there is a text
    start = warm.begin(space, objective, seed)
    if start.failures:
        common.notify(
            f"mapgym: {len(start.failures)} mappings could not be transferred; the first: {start.failures[0]}"
        )
    if not start.sources:
        common.notify(f"mapgym: no warm start, the search begins at random: {start.why_random}")
    return start


def _is_given(parameters: list[str] | None, name: str) -> bool:
    return any(text.partition("=")[0].strip() == name for text in parameters or [])


def _read_constraints(path: Path | None) -> Constraints | None:
    if path is None:
        return None
    from mapgym.spec.constraints import Constraints
    from mapgym.system.yaml_loader import load_yaml

    data = load_yaml(path)
    if not isinstance(data, dict):
        raise SpecificationError(f"{path}: holds no keys; give constraints such as 'min_utilization: 0.5'")
    try:
        return Constraints.from_dict(data)
    except SpecificationError as error:
        raise SpecificationError(f"{path}: {error}") from None


def _progress(evaluator: Evaluator, proof: Progress) -> RenderableType:
    line = common.PrintableTable.grid(padding=(0, 2))
    if proof.lower_bound > 0:
        line.add_row(common.solver_text(proof, evaluator.objective), f"{evaluator.seconds:.1f} s")
        return line
    line.add_row(
        ProgressBar(total=1.0, completed=common.fraction_done(evaluator), width=10),
        common.progress_text(evaluator),
        f"{'front' if evaluator.front else objective_name(evaluator.objective)} "
        f"{common.format_figure(evaluator.best_value)}",
        f"{common.format_ratio(evaluator.ratio)} x bound",
    )
    return line


def _certificate(evaluator: Evaluator, agent: Agent, seconds: float | None) -> Certificate | None:
    """What is proven about the task: by the agent itself, stored, or solved now if the user wants that."""
    from mapgym.agents.certificate import Progress, certificate_of, certify, known_certificate, with_stored

    space, objective = evaluator.space, evaluator.objective
    optimum = getattr(agent, "optimum", None)
    if optimum is not None:
        return with_stored(certificate_of(optimum, space), space, objective)
    known = known_certificate(space, objective)
    if seconds is None or (known is not None and known.certified):
        return known
    progress = Progress()
    try:
        with common.live_display(common.err(), lambda: Text(common.solver_text(progress, objective)), keep=False):
            return certify(space, objective, seconds, progress)
    except SpecificationError as error:
        common.notify(f"mapgym: {error} (the mapping is shown without a certificate)")
    except KeyboardInterrupt:
        common.notify("Interrupted; the mapping is shown without a certificate.")
    return known


def _to_json(
    evaluator: Evaluator,
    agent: str,
    seed: int,
    seconds: float,
    certificate: Certificate | None,
    start: Start | None,
    *,
    interrupted: bool,
) -> dict[str, object]:
    cost, mapping, space = evaluator.best_cost, evaluator.best_mapping, evaluator.space
    assert cost is not None  # the caller has checked that something was found
    assert mapping is not None
    gap = None if certificate is None else certificate.gap(evaluator.best_value)
    return {
        "workload": space.workload.name,
        "accelerator": space.accelerator.name,
        "agent": agent,
        "seed": seed,
        "axes": list(space.axes),
        "peer_links": space.accelerator.peer_links,
        "objective": evaluator.objective,
        "edp": float(cost.edp),
        "energy_pj": float(cost.energy_pj),
        "latency_cycles": float(cost.latency_cycles),
        "utilization": float(cost.utilization),
        "lower_bound_edp": float(evaluator.lower_bound.edp),
        "lower_bound_energy_pj": float(evaluator.lower_bound.energy_pj),
        "lower_bound_latency_cycles": float(evaluator.lower_bound.latency_cycles),
        "lower_bound_proven": None if certificate is None else certificate.lower_bound,
        "gap": gap,
        "certified": None if gap is None else gap <= OPTIMAL_GAP,
        "optimum": None if certificate is None else certificate.to_dict(),
        "value": evaluator.best_value,
        "densities": {tensor.name: tensor.density for tensor in space.workload.tensors},
        "density_set": density_data(evaluator),
        "samples": evaluator.samples,
        "mappings": evaluator.mappings,
        "seconds": seconds,
        "interrupted": interrupted,
        "begun_from": None if start is None else start.account(),
        "mapping": mapping.to_dict(),
        "front": None if evaluator.front is None else front_data(evaluator.front),
    }


def _print(
    evaluator: Evaluator, agent: str, seconds: float, certificate: Certificate | None, output: Path | None
) -> None:
    cost, mapping, space = evaluator.best_cost, evaluator.best_mapping, evaluator.space
    assert cost is not None  # the caller has checked that something was found
    assert mapping is not None
    bound = evaluator.lower_bound
    rate = evaluator.samples / seconds if seconds else 0.0
    objective = objective_name(evaluator.objective)
    densities = f" ({text})" if (text := density_text(space.workload)) else ""
    common.say(f"{space.workload.name}{densities} on {space.accelerator.name}, best mapping for {objective}\n")
    common.say(mapping.to_text() + "\n")
    for name, value, lowest, unit in (
        ("EDP", cost.edp, bound.edp, "pJ*cycles"),
        ("energy", cost.energy_pj, bound.energy_pj, "pJ"),
        ("latency", cost.latency_cycles, bound.latency_cycles, "cycles"),
    ):
        common.say(f"{name:12s} {value:.6g} {unit}, {value / lowest:.3f} x the lower bound")
    if certificate is not None:
        from mapgym.agents.certificate import outcome_text

        common.say(f"{'optimum':12s} {certificate.describe(evaluator.best_value)}")
        common.say(f"{'':12s} {outcome_text(certificate, evaluator.objective)}")
    common.say(f"{'utilization':12s} {cost.utilization:.1%} of the MACs")
    common.say(f"{'search':12s} {agent}, {evaluator.samples:,} samples in {seconds:.3g} s ({rate:,.0f}/s)")
    if output is not None:
        common.say(f"{'written to':12s} {output}")
