"""``mapgym show``: where the energy and the time of a mapping go, and what limits it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.table import Table

from mapgym.agents.commands import common
from mapgym.errors import SpecificationError

if TYPE_CHECKING:
    from mapgym.accelerator import Accelerator, StorageLevel
    from mapgym.cost import Cost, LowerBound
    from mapgym.mapping import Mapping
    from mapgym.workload import Workload


def show(
    workload: common.WorkloadArgument,
    accelerator: common.AcceleratorArgument,
    mapping: Annotated[
        Path | None,
        typer.Argument(
            metavar="MAPPING", help='YAML file with a mapping, as "mapgym search -o" writes it.', show_default=False
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
    no_peer_links: common.PeerLinksOption = False,
    as_json: common.JsonOption = False,
) -> None:
    """Explains a mapping of WORKLOAD on ACCELERATOR: loop nest, energy, time, what limits it.

    Without MAPPING and --dataflow, describes the task and shows the plainest mapping: everything computed one after
    the other, all loops at the outermost level.
    """
    from mapgym import catalog
    from mapgym.mapping import Mapping

    layer = catalog.workload(workload)
    machine = common.load_accelerator(accelerator, peer_links=not no_peer_links)
    if dataflow is not None and mapping is not None:
        raise SpecificationError(f"both the mapping {mapping} and --dataflow {dataflow} are given; leave one out")
    described = mapping is None and dataflow is None
    if dataflow is not None:
        chosen = _follow_dataflow(dataflow, layer, machine)
    else:
        chosen = Mapping.trivial(layer, machine) if mapping is None else read_mapping(mapping, layer, machine)
    from mapgym.cost import CostModel, lower_bound

    cost = CostModel(layer, machine).evaluate(chosen, detail=True)
    if not cost.legal:
        raise SpecificationError(f"{mapping or 'the plainest mapping'}: the mapping is illegal: {cost.reason}")
    bound = lower_bound(layer, machine)
    if as_json:
        report = explain(layer, machine, chosen, cost, bound)
        common.print_json({**_task(layer, machine), **report} if described else report)
        return
    if described:
        _print_task(layer, machine, bound)
        common.say("The plainest mapping:\n")
    _print_mapping(layer, machine, chosen, explain(layer, machine, chosen, cost, bound))


def explain(
    workload: Workload, accelerator: Accelerator, mapping: Mapping, cost: Cost, bound: LowerBound
) -> dict[str, Any]:
    """The breakdown of a legal mapping's cost, as plain JSON values.

    Args:
        workload, accelerator: the task.
        mapping: a legal mapping.
        cost: its cost, with detail.
        bound: the lower bound of the task.
    """
    detail = cost.detail
    assert detail is not None  # asked for by the caller
    levels: list[dict[str, Any]] = []
    for s in reversed(range(len(accelerator.levels))):
        level, instances = accelerator.levels[s], int(detail.used_instances[s])
        tensors = {
            tensor.name: {
                "tile_words": int(detail.tile_words[s, t]),
                "reads": int(detail.reads[s, t]) * instances,
                "fills": int(detail.fills[s, t]) * instances,
                "updates": int(detail.updates[s, t]) * instances,
                "energy_pj": float(detail.energy_pj[s, t]),
                "network_energy_pj": float(detail.network_energy_pj[s, t]),
                "multicast": int(detail.multicast[s, t]),
            }
            for t, tensor in enumerate(workload.tensors)
            if mapping.keep[s, t]
        }
        levels.append(
            {
                "level": level.name,
                "used_instances": instances,
                "instances": level.instances,
                "words_held": int(detail.tile_words[s].sum()),
                "capacity_words": level.capacity_words,
                "energy_pj": float(detail.energy_pj[s].sum()),
                "network_energy_pj": float(detail.network_energy_pj[s].sum()),
                "cycles": int(detail.level_cycles[s]),
                "read_words_per_cycle": float(detail.reads[s].sum() / cost.latency_cycles),
                "write_words_per_cycle": float((detail.fills[s] + detail.updates[s]).sum() / cost.latency_cycles),
                "tensors": tensors,
            }
        )
    return {
        "workload": workload.name,
        "accelerator": accelerator.name,
        "edp": float(cost.edp),
        "energy_pj": float(cost.energy_pj),
        "latency_cycles": float(cost.latency_cycles),
        "utilization": float(cost.utilization),
        "lower_bound_edp": float(bound.edp),
        "lower_bound_energy_pj": float(bound.energy_pj),
        "lower_bound_latency_cycles": float(bound.latency_cycles),
        "limited_by": _limit(accelerator, mapping, cost, levels),
        "mac_energy_pj": workload.macs * accelerator.mac.energy_pj,
        "compute_cycles": int(detail.compute_cycles),
        "used_macs": int(np.prod(mapping.spatial.astype(np.int64))),
        "macs": accelerator.mac.instances,
        "levels": levels,
        "mapping": mapping.to_dict(),
    }


def _limit(accelerator: Accelerator, mapping: Mapping, cost: Cost, levels: list[dict[str, Any]]) -> str:
    """One sentence that says why the latency is not lower."""
    assert cost.detail is not None  # asked for by the caller
    compute = int(cost.detail.compute_cycles)
    slowest = max(levels, key=lambda level: level["cycles"])
    if slowest["cycles"] > compute:
        return (
            f"the bandwidth of {slowest['level']}: it needs {slowest['cycles'] / compute:.3g} times as many cycles as "
            "the MACs"
        )
    used, available = int(np.prod(mapping.spatial.astype(np.int64))), accelerator.mac.instances
    if used == available:
        return f"the number of MACs: all {available:,} are busy in every cycle"
    return f"compute parallelism: {used:,} of {available:,} MACs are in use"


def _follow_dataflow(name: str, workload: Workload, accelerator: Accelerator) -> Mapping:
    from mapgym.agents.search.dataflow import best_mapping
    from mapgym.agents.search.dataflow_templates import find_dataflow
    from mapgym.mapspace import MapSpace

    return best_mapping(MapSpace(workload, accelerator, common.AXES), find_dataflow(name))


def read_mapping(path: Path, workload: Workload, accelerator: Accelerator) -> Mapping:
    """The mapping in a YAML file, as ``mapgym search -o`` writes it."""
    from mapgym.mapping import Mapping
    from mapgym.yaml_loader import load_yaml

    data = load_yaml(path)
    if isinstance(data, dict) and isinstance(data.get("mapping"), dict):
        # What "mapgym search --json" prints has the mapping among other keys.
        data = data["mapping"]
    if not isinstance(data, dict):
        raise SpecificationError(f"{path}: holds no mapping; give what 'mapgym search -o' writes")
    return Mapping.from_dict(data, workload, accelerator, str(path))


def _task(workload: Workload, accelerator: Accelerator) -> dict[str, Any]:
    from mapgym.mapspace import MapSpace

    return {
        "dims": dict(zip(workload.dims, workload.bounds, strict=True)),
        "tensor_words": {tensor.name: workload.tensor_size(tensor.name) for tensor in workload.tensors},
        "log10_map_space_size": {
            ",".join(axes): float(MapSpace(workload, accelerator, axes).log10_size())
            for axes in (tuple(common.DEFAULT_AXES.split(",")), common.AXES)
        },
    }


def _print_task(workload: Workload, accelerator: Accelerator, bound: LowerBound) -> None:
    task = _task(workload, accelerator)
    common.say(f"{workload.name} on {accelerator.name}\n")
    common.say(f"dims         {', '.join(f'{dim} {size:,}' for dim, size in task['dims'].items())}")
    common.say(f"MACs         {workload.macs:,} on {accelerator.mac.instances:,} units")
    common.say(f"tensors      {', '.join(f'{name} {size:,} words' for name, size in task['tensor_words'].items())}")
    for axes, size in task["log10_map_space_size"].items():
        common.say(f"map space    10^{size:.1f} mappings over {axes}")
    common.say(
        f"lower bound  EDP {bound.edp:.6g} pJ*cycles, energy {bound.energy_pj:.6g} pJ, "
        f"latency {bound.latency_cycles:.6g} cycles\n"
    )


def _print_mapping(workload: Workload, accelerator: Accelerator, mapping: Mapping, report: dict[str, Any]) -> None:
    common.say(mapping.to_text() + "\n")
    for name, key, unit in (
        ("EDP", "edp", "pJ*cycles"),
        ("energy", "energy_pj", "pJ"),
        ("latency", "latency_cycles", "cycles"),
    ):
        ratio = report[key] / report[f"lower_bound_{key}"]
        common.say(f"{name:12s} {report[key]:.6g} {unit}, {ratio:.3f} x the lower bound")
    common.say(f"{'utilization':12s} {report['utilization']:.1%} of the MACs")
    common.say(f"{'limited by':12s} {report['limited_by']}\n")
    console = common.out()
    console.print(_energy_table(workload, accelerator, report))
    common.say("")
    console.print(_time_table(accelerator, report))


def _energy_table(workload: Workload, accelerator: Accelerator, report: dict[str, Any]) -> Table:
    table = common.new_table(
        "Where the energy goes (accesses of all instances, in words)",
        ["level", "tensor"],
        ["tile", "reads", "fills", "updates", "energy (pJ)", "share"],
    )
    total = report["energy_pj"]

    def energy(value: float) -> tuple[str, str]:
        return f"{value:,.0f}", f"{value / total:.1%}" if total else "-"

    for level in report["levels"]:
        for name, counts in level["tensors"].items():
            accesses = [f"{counts[key]:,}" for key in ("tile_words", "reads", "fills", "updates")]
            table.add_row(level["level"], name, *accesses, *energy(counts["energy_pj"]))
    network = sum(level["network_energy_pj"] for level in report["levels"])
    table.add_section()
    table.add_row("networks", *[""] * 5, *energy(network))
    table.add_row(accelerator.mac.name, "", "", f"{workload.macs:,} MACs", "", "", *energy(report["mac_energy_pj"]))
    table.add_section()
    table.add_row("total", *[""] * 5, *energy(total))
    return table


def _time_table(accelerator: Accelerator, report: dict[str, Any]) -> Table:
    table = common.new_table(
        "Where the time goes (words per cycle of one instance)",
        ["level"],
        ["in use", "words held", "capacity", "reads", "writes", "bandwidth", "cycles needed"],
    )
    for storage, level in zip(reversed(accelerator.levels), report["levels"], strict=True):
        capacity = level["capacity_words"]
        table.add_row(
            level["level"],
            f"{level['used_instances']:,} of {level['instances']:,}",
            f"{level['words_held']:,}",
            "unlimited" if capacity is None else f"{capacity:,}",
            f"{level['read_words_per_cycle']:.3g}",
            f"{level['write_words_per_cycle']:.3g}",
            _bandwidth(storage),
            f"{level['cycles']:,}",
        )
    macs = f"{report['used_macs']:,} of {report['macs']:,}"
    table.add_row(accelerator.mac.name, macs, *[""] * 5, f"{report['compute_cycles']:,}")
    return table


def _bandwidth(level: StorageLevel) -> str:
    limits = {
        "read": level.read_bandwidth_words_per_cycle,
        "write": level.write_bandwidth_words_per_cycle,
        "shared": level.shared_bandwidth_words_per_cycle,
    }
    return ", ".join(f"{name} {limit:g}" for name, limit in limits.items() if limit is not None) or "unlimited"
