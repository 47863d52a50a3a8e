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
from mapgym.agents.studies.network.network_map import read_cell
from mapgym.cost import Cost, CostModel, LowerBound, lower_bound
from mapgym.cost.derivation import derive
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.evaluation.task import KEEP_ALL
from mapgym.mapping import Mapping
from mapgym.mapspace import MapSpace
from mapgym.mapspace.entries import AXES
from mapgym.spec import catalog
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.workload import Workload


def show(
    workload: Annotated[
        str,
        typer.Argument(
            metavar="WORKLOAD",
            help='A workload of the catalog ("mapgym list workloads") or a YAML file; or, alone, a file of the folder '
            'cells/ of what "mapgym map" has written.',
            show_default=False,
        ),
    ],
    accelerator: Annotated[
        str | None,
        typer.Argument(
            metavar="ACCELERATOR",
            help='An accelerator of the catalog ("mapgym list accelerators") or a YAML file.',
            show_default=False,
        ),
    ] = None,
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
    explain_cell: Annotated[
        str | None,
        typer.Option(
            "--explain",
            metavar="LEVEL/TENSOR",
            help="Instead of the tables: why the counts of one tensor at one level are what they are, line by line.",
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
    layer_spec, machine_spec, stored = _task_of(workload, accelerator)
    layer = task_workload(catalog.workload(layer_spec), "edp", parsing.parse_densities(density))
    machine = parsing.load_accelerator(machine_spec, peer_links=not no_peer_links, rules=rules)
    if dataflow is not None and mapping is not None:
        raise SpecificationError(f"both the mapping {mapping} and --dataflow {dataflow} are given; leave one out")
    described = mapping is None and dataflow is None and stored is None
    if stored is not None and mapping is None and dataflow is None:
        chosen = Mapping.from_dict(stored, layer, machine, workload)
    elif dataflow is not None:
        chosen = _follow_dataflow(dataflow, layer, machine)
    else:
        chosen = Mapping.trivial(layer, machine) if mapping is None else read_mapping(mapping, layer, machine)

    cost = CostModel(layer, machine).evaluate(chosen, detail=True)
    if not cost.legal:
        raise SpecificationError(f"{mapping or 'the plainest mapping'}: the mapping is illegal: {cost.reason}")
    if explain_cell is not None:
        _print_derivation(layer, machine, chosen, cost, explain_cell, as_json)
        return
    bound = lower_bound(layer, machine)
    if as_json:
        report = explain(layer, machine, chosen, cost, bound)
        console.print_json({**_task(layer, machine), **report} if described else report)
        return
    if described:
        _print_task(layer, machine, bound)
        console.say("The plainest mapping:\n")
    _print_mapping(layer, machine, chosen, explain(layer, machine, chosen, cost, bound))


Spec = str | dict[str, Any]


def _task_of(workload: str, accelerator: str | None) -> tuple[Spec, Spec, dict[str, Any] | None]:
    """Workload and accelerator as they were named, or those of a file of a map, then with its mapping."""
    path = Path(workload)
    if path.suffix == ".json" and path.is_file() and (cell := read_cell(path)) is not None:
        # Costs are counted as when the mapping was found.
        return cell[0], cell[1] if accelerator is None else accelerator, cell[2]
    if accelerator is None:
        raise SpecificationError(f"no ACCELERATOR is given for {quoted(workload)}; name one after it")
    return workload, accelerator, None


def _print_derivation(
    workload: Workload, accelerator: Accelerator, mapping: Mapping, cost: Cost, cell: str, as_json: bool
) -> None:
    level, slash, tensor = cell.rpartition("/")
    if not slash:
        example = f"{accelerator.level_names[-1]}/{workload.tensors[0].name}"
        raise SpecificationError(f"--explain is {quoted(cell)}; give a level and a tensor, such as {example}")
    derivation = derive(workload, accelerator, mapping, cost, level, tensor)
    if as_json:
        console.print_json(derivation.to_dict())
        return
    console.say(mapping.to_text())
    for title, lines in derivation.sections:
        console.say(f"\n{title}")
        for line in lines:
            value = "" if line.value is None else f"{line.value:>18,.6g}" if line.value % 1 else f"{line.value:>18,.0f}"
            console.say(f"{value}  {line.what}{f': {line.arithmetic}' if line.arithmetic else ''}")


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
