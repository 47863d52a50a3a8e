"""``mapgym show``: where the energy and the time of a mapping go, and what limits it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from mapgym.agents.commands import console, options, parsing
from mapgym.agents.experiment.definition.densities import task_workload
from mapgym.agents.experiment.report.explanation import Breakdown, energy_table, explain, headlines, time_table
from mapgym.agents.files.mapping_file import read_mapping
from mapgym.agents.search.dataflow.dataflow import best_mapping
from mapgym.agents.search.dataflow.templates import find_dataflow
from mapgym.cost import CostModel, LowerBound, lower_bound
from mapgym.errors import SpecificationError
from mapgym.evaluation.task import KEEP_ALL
from mapgym.mapping import Mapping
from mapgym.mapspace import MapSpace
from mapgym.mapspace.entries import AXES
from mapgym.spec import catalog
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.workload import Workload


def show(
    workload: options.WorkloadArgument,
    accelerator: options.AcceleratorArgument,
    mapping: Annotated[
        Path | None,
        typer.Argument(
            metavar="MAPPING",
            help='YAML file with a mapping, as "mapgym search -o" writes it; or a mapping or *.map.txt of Timeloop.',
            show_default=False,
        ),
    ] = None,
    dataflow: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help='Instead of MAPPING: the best filling of a named dataflow ("mapgym list dataflows"), such as nvdla.',
            show_default=False,
        ),
    ] = None,
    density: options.DensityOption = None,
    no_peer_links: options.PeerLinksOption = False,
    rules: options.RulesOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Explains a mapping of WORKLOAD on ACCELERATOR: loop nest, energy, time, what limits it.

    Without MAPPING and --dataflow, describes the task and shows the plainest mapping: everything computed one after
    the other, all loops at the outermost level.
    """
    layer = task_workload(catalog.workload(workload), "edp", parsing.parse_densities(density))
    machine = parsing.load_accelerator(accelerator, peer_links=not no_peer_links, rules=rules)
    if dataflow is not None and mapping is not None:
        raise SpecificationError(f"both the mapping {mapping} and --dataflow {dataflow} are given; leave one out")
    described = mapping is None and dataflow is None
    if dataflow is not None:
        chosen = _follow_dataflow(dataflow, layer, machine)
    else:
        chosen = Mapping.trivial(layer, machine) if mapping is None else read_mapping(mapping, layer, machine)

    cost = CostModel(layer, machine).evaluate(chosen, detail=True)
    if not cost.legal:
        raise SpecificationError(f"{mapping or 'the plainest mapping'}: the mapping is illegal: {cost.reason}")
    bound = lower_bound(layer, machine)
    if as_json:
        report = explain(layer, machine, chosen, cost, bound)
        console.print_json({**_task(layer, machine), **report} if described else report)
        return
    if described:
        _print_task(layer, machine, bound)
        console.say("The plainest mapping:\n")
    _print_mapping(layer, machine, chosen, explain(layer, machine, chosen, cost, bound))


def _follow_dataflow(name: str, workload: Workload, accelerator: Accelerator) -> Mapping:

    return best_mapping(MapSpace(workload, accelerator, AXES), find_dataflow(name))


def _task(workload: Workload, accelerator: Accelerator) -> dict[str, Any]:

    return {
        "dims": dict(zip(workload.dims, workload.bounds, strict=True)),
        "tensor_words": {tensor.name: workload.tensor_size(tensor.name) for tensor in workload.tensors},
        "log10_map_space_size": {
            ",".join(axes): float(MapSpace(workload, accelerator, axes).log10_size()) for axes in (KEEP_ALL, AXES)
        },
    }


def _print_task(workload: Workload, accelerator: Accelerator, bound: LowerBound) -> None:
    task = _task(workload, accelerator)
    console.say(f"{workload.name} on {accelerator.name}\n")
    console.say(f"dims         {', '.join(f'{dim} {size:,}' for dim, size in task['dims'].items())}")
    console.say(f"MACs         {workload.macs:,} on {accelerator.mac.instances:,} units")
    console.say(f"tensors      {', '.join(f'{name} {size:,} words' for name, size in task['tensor_words'].items())}")
    for axes, size in task["log10_map_space_size"].items():
        console.say(f"map space    10^{size:.1f} mappings over {axes}")
    console.say(
        f"lower bound  EDP {bound.edp:.6g} pJ*cycles, energy {bound.energy_pj:.6g} pJ, "
        f"latency {bound.latency_cycles:.6g} cycles\n"
    )


def _print_mapping(workload: Workload, accelerator: Accelerator, mapping: Mapping, report: dict[str, Any]) -> None:
    console.say(mapping.to_text() + "\n")
    for name, text in headlines(report):
        console.say(f"{name:12s} {text}")
    console.say("")
    screen = console.out()
    screen.print(_table(energy_table(workload, accelerator, report)))
    console.say("")
    screen.print(_table(time_table(accelerator, report)))


def _table(breakdown: Breakdown) -> Table:
    table = console.new_table(breakdown.title, breakdown.left, breakdown.right)
    for section in breakdown.sections:
        table.add_section()
        for row in section:
            table.add_row(*row)
    return table
