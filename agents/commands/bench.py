"""``mapgym bench``: how fast the cost model, the environments, learning in them, agents and replay buffers are."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from mapgym.agents.base import make_agent, missing_package
from mapgym.agents.benchmark import (
    MINIMUM_UTILIZATION,
    STANDARD_AGENTS,
    STANDARD_CASES,
    measure_agent,
    measure_cost_model,
    measure_learning,
)
from mapgym.agents.commands import console, options, parsing
from mapgym.agents.experiment.definition.densities import task_workload
from mapgym.envs.benchmark import WIDTHS, measure_environments
from mapgym.evaluation.task import density_text, rules_text
from mapgym.mapspace import MapSpace
from mapgym.spec import catalog
from mapgym.system.registration import ENVIRONMENT_IDS
from mapgym.warmstart.benchmark import measure_buffer

bench = typer.Typer(name="bench", help="Measures speed, several times over.", no_args_is_help=True)


@bench.command("cost")
def cost(
    accelerator: Annotated[
        str | None, typer.Option(help="Accelerators, separated by commas; a standard set when left out.")
    ] = None,
    workload: Annotated[
        str | None, typer.Option(help="Workloads, separated by commas; a standard set when left out.")
    ] = None,
    density: options.DensityOption = None,
    rules: options.RulesOption = None,
    rounds: Annotated[int, typer.Option(min=1, max=10_000, help="Timed rounds; the median is reported.")] = 9,
    mappings: Annotated[int, typer.Option(min=1, max=10_000_000, help="Mappings in the sample of each case.")] = 20_000,
    as_json: options.JsonOption = False,
) -> None:
    """Measures evaluations of the cost model per second of CPU time, and the time of a single call.

    The sample of a case are random legal mappings that use at least half of the MACs, which is what a search visits
    (axes tile, order and parallelism; every tensor kept at every level).
    """
    cases = list(STANDARD_CASES)
    if accelerator is not None or workload is not None:
        accelerators = parsing.comma_separated(accelerator or "accel_b", "--accelerator")
        workloads = parsing.comma_separated(workload or "paper/resnet_conv4", "--workload")
        cases = [(a, w) for a in accelerators for w in workloads]
    densities = parsing.parse_densities(density)
    loaded = [
        (parsing.load_accelerator(a, rules=rules), task_workload(w, "edp", densities))
        for a, name in cases
        for w in parsing.load_workloads([name])
    ]
    results = []
    for index, (machine, layer) in enumerate(loaded):
        if console.err().is_terminal:
            console.notify(f"[{index + 1}/{len(loaded)}] {layer.name} on {machine.name}")
        results.append(measure_cost_model(machine, layer, rounds=rounds, mappings=mappings))
    if as_json:
        sample = f"random legal mappings that use at least {MINIMUM_UTILIZATION:.0%} of the MACs"
        console.print_json(
            {
                "sample": sample,
                "rounds": rounds,
                "densities": densities,
                "rules": rules_text(machine for machine, _ in loaded),
                "results": [asdict(result) for result in results],
            }
        )
        return
    table = console.new_table(
        f"Cost model, {rules_text(machine for machine, _ in loaded)}: CPU time, one thread, median of {rounds} rounds",
        ["accelerator", "workload"],
        ["evaluations/s", "single call (us)", "mappings", "MACs in use"],
    )
    for result, (_, layer) in zip(results, loaded, strict=True):
        table.add_row(
            result.accelerator,
            f"{result.workload}{f' ({text})' if (text := density_text(layer)) else ''}",
            f"{result.evaluations_per_second:,.0f}",
            f"{result.single_call_seconds * 1e6:.1f}",
            f"{result.mappings:,}",
            f"{result.mean_utilization:.0%}",
        )
    console.out().print(table)


@bench.command("env")
def env(
    env: Annotated[
        str | None, typer.Option(help="Ids of environments, separated by commas; all of them when left out.")
    ] = None,
    num_envs: Annotated[
        list[int] | None,
        typer.Option(
            min=1, max=1_000_000, help="Size of a vector twin; give it several times for several. [1 8 64 1024]"
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, max=10_000, help="Timed rounds; the median is reported.")] = 5,
    as_json: options.JsonOption = False,
) -> None:
    """Measures what a step of each environment takes, alone and in its vector twin, in CPU time.

    The policy draws among the legal actions; observations, masks, pricing and resets are included.
    """
    ids = ENVIRONMENT_IDS if env is None else parsing.comma_separated(env, "--env")
    widths = list(dict.fromkeys(num_envs or WIDTHS))
    results = []
    for index, env_id in enumerate(ids):
        if console.err().is_terminal:
            console.notify(f"[{index + 1}/{len(ids)}] {env_id}")
        results += measure_environments([env_id], widths, rounds)
    if as_json:
        console.print_json({"rounds": rounds, "results": [asdict(result) for result in results]})
        return
    columns = ["scalar", *(f"twin of {width:,}" for width in widths)]
    table = console.new_table(f"Microseconds of CPU time, median of {rounds} rounds", ["environment", ""], columns)
    for env_id in ids:
        for measured in dict.fromkeys(result.measured for result in results):
            of_row = {r.num_envs: r.microseconds for r in results if (r.env, r.measured) == (env_id, measured)}
            if of_row:
                cells = (f"{of_row[width]:.2f}" if width in of_row else "" for width in (0, *widths))
                table.add_row(env_id, measured, *cells)
    console.out().print(table)


@bench.command("learning")
def learning(
    agent: Annotated[str, typer.Option(help="An agent that learns in an environment.")] = "maskable-ppo",
    workload: Annotated[str, typer.Option(help="The layer that it learns to map.")] = "paper/resnet_conv4",
    accelerator: Annotated[str, typer.Option(help="The accelerator.")] = "accel_b",
    rules: options.RulesOption = None,
    num_envs: Annotated[int, typer.Option(min=1, max=1_000_000, help="Environments side by side.")] = 64,
    parameter: options.ParameterOption = None,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="Threads of torch.")] = 1,
    steps: Annotated[int, typer.Option(min=1, help="Steps of a round, of all environments together.")] = 50_000,
    rounds: Annotated[int, typer.Option(min=1, max=10_000, help="Timed rounds; the median is reported.")] = 3,
    as_json: options.JsonOption = False,
) -> None:
    """Measures steps of a training per second, learning included, from nothing and with the parameters of searches.

    Steps per second of wall time are what a user waits for, steps per second of CPU time (of all threads) what they
    would be if nothing else ran on the machine and the threads never waited.
    """
    machine, layer = parsing.load_accelerator(accelerator, rules=rules), catalog.workload(workload)
    result = measure_learning(
        agent,
        layer,
        machine,
        num_envs=num_envs,
        threads=threads,
        steps=steps,
        rounds=rounds,
        parameters=parsing.read_parameters(parameter or []),
    )
    if as_json:
        console.print_json(asdict(result))
        return
    title = f"Learning on {result.workload}, {result.accelerator}, median of {rounds} rounds"
    table = console.new_table(title, ["agent"], ["environments", "threads", "steps/s", "steps/CPU second"])
    speeds = (f"{result.steps_per_second:,.0f}", f"{result.steps_per_cpu_second:,.0f}")
    table.add_row(result.agent, str(result.num_envs), str(result.threads), *speeds)
    console.out().print(table)


@bench.command("agents")
def agents(
    agents: Annotated[
        str | None,
        typer.Option(
            help="Agents, separated by commas; when left out, those that neither model the costs nor solve for the "
            "optimum.",
            show_default=False,
        ),
    ] = None,
    workload: Annotated[
        str, typer.Option(help="Workloads or networks (all of their layers), separated by commas.")
    ] = "paper",
    accelerator: Annotated[str, typer.Option(help="Accelerators, separated by commas.")] = "accel_a,accel_b",
    rules: options.RulesOption = None,
    samples: Annotated[int, typer.Option(min=1, help="Mappings that each search may price.")] = 5000,
    seeds: Annotated[
        int, typer.Option(min=1, max=10_000, help="Searches of each task (seeds 0, 1, ...); the best counts.")
    ] = 3,
    as_json: options.JsonOption = False,
) -> None:
    """Measures what agents themselves cost per sample: the CPU time of a search outside the cost model.

    The searches are for the lowest EDP along the axes tile, order and parallelism, with the parameters that tuning has
    chosen. Compilation and imports are not timed.
    """
    if agents is None:
        names = [name for name in STANDARD_AGENTS if missing_package(name) is None]
    else:
        names = parsing.comma_separated(agents, "--agents")
    made = [make_agent(name) for name in names]
    machines = parsing.load_accelerators(accelerator, "--accelerator", rules=rules)
    layers = parsing.load_workloads(parsing.comma_separated(workload, "--workload"))
    spaces = [MapSpace(layer, machine) for machine in machines for layer in layers]
    # What an agent cannot search is said before anything is measured.
    for agent in made:
        for space in spaces:
            agent.warm_up(space)
    results = []
    for index, agent in enumerate(made):
        if console.err().is_terminal:
            console.notify(f"[{index + 1}/{len(made)}] {agent.name}")
        results.append(measure_agent(agent, spaces, samples=samples, seeds=seeds))
    if as_json:
        console.print_json({"samples": samples, "seeds": seeds, "results": [asdict(result) for result in results]})
        return
    table = console.new_table(
        f"CPU time per sample, median over {len(spaces)} tasks, best of {seeds} searches",
        ["agent"],
        ["own (us)", "slowest task (us)", "cost model (us)", "samples/s"],
    )
    for result in results:
        seconds = (result.own_seconds, result.slowest_own_seconds, result.pricing_seconds)
        table.add_row(result.agent, *(f"{each * 1e6:.2f}" for each in seconds), f"{result.samples_per_second:,.0f}")
    console.out().print(table)


@bench.command("buffer")
def buffer(
    entries: Annotated[int, typer.Option(min=1, max=10_000_000, help="Solved layers in the buffer.")] = 100_000,
    accelerator: Annotated[str, typer.Option(help="Accelerator of all entries.")] = "accel_b",
    rules: options.RulesOption = None,
    workload: Annotated[str, typer.Option(help="The layer that is asked about.")] = "resnet18/conv3",
    rounds: Annotated[int, typer.Option(min=1, max=10_000, help="Timed rounds; the median is reported.")] = 5,
    as_json: options.JsonOption = False,
) -> None:
    """Measures what a replay buffer takes to load and to find the nearest entry, and a transfer.

    The entries are convolutions with bounds drawn at random, in a temporary file.
    """
    machine, layer = parsing.load_accelerator(accelerator, rules=rules), catalog.workload(workload)
    result = measure_buffer(machine, layer, entries=entries, rounds=rounds)
    if as_json:
        console.print_json(asdict(result))
        return
    table = console.new_table(
        f"Replay buffer of {entries:,} entries, median of {rounds} rounds", ["what"], ["CPU time"]
    )
    table.add_row("load", f"{result.load_seconds:.3f} s")
    table.add_row("find the nearest entry", f"{result.nearest_seconds * 1e3:.2f} ms")
    table.add_row("transfer a mapping", f"{result.transfer_seconds * 1e6:.0f} us")
    console.out().print(table)
