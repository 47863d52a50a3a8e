"""Writes folders of results as Timeloop prints them, in the outlines of several of its versions, from our own counts.

Timeloop's words stand here a second time, so that reading them is compared with something.
"""

from __future__ import annotations

import math
from pathlib import Path

import yaml

from mapgym.cost import Cost, CostModel
from mapgym.mapping import Mapping
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.workload import Workload

BEFORE_V2, OF_2022, OF_2024 = "2020", "2022", "2024"
"""Outlines: until v2.0; with computes instead of MACCs; with leakage, and without what keeps nothing."""


def write_results(
    folder: Path,
    workload: Workload,
    accelerator: Accelerator,
    mapping: Mapping,
    *,
    outline: str = OF_2024,
    run: str = "timeloop-model",
    with_ert: bool = True,
    with_problem: bool = True,
    with_architecture: bool = False,
) -> Cost:
    """Writes statistics, nest, and what else there is, and returns the cost behind them."""
    cost = CostModel(workload, accelerator, is_canonical=False).evaluate(mapping, detail=True)
    assert cost.legal
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{run}.stats.txt").write_text(stats_text(workload, accelerator, mapping, cost, outline))
    (folder / f"{run}.map.txt").write_text(nest_text(workload, accelerator, mapping, cost))
    if with_ert:
        (folder / f"{run}.ERT.yaml").write_text(yaml.safe_dump({"ERT": energy_table(accelerator, outline)}))
    if with_problem:
        (folder / "parsed-processed-input.yaml").write_text(yaml.safe_dump({"problem": problem(workload)}))
    if with_architecture:
        text = yaml.safe_dump({"architecture": architecture(accelerator)})
        (folder / f"{run}.flattened_architecture.yaml").write_text(text)
    return cost


def architecture(accelerator: Accelerator) -> dict[str, object]:
    """The flat list of levels, with how many there are and their mesh."""
    local = [
        {"name": f"chip.{level.name}[1..{level.instances}]", "attributes": {"meshX": level.mesh_x, "datawidth": 16}}
        for level in reversed(accelerator.levels)
    ]
    return {"version": "0.4", "local": local}


def energy_table(accelerator: Accelerator, outline: str = OF_2024) -> dict[str, object]:
    """An ERT of an accelerator, whose levels all have action_energies_pj; until v2.0 in the form of v0.2."""
    named = {level.name: dict(level.action_energies_pj) for level in accelerator.levels}
    named[accelerator.mac.name] = dict(accelerator.mac.action_energies_pj)
    if outline == BEFORE_V2:
        tables = {
            f"chip.PE[0..3].{name}": {action: [{"arguments": {}, "energy": pj}] for action, pj in actions.items()}
            for name, actions in named.items()
        }
        return {"version": 0.2, "tables": tables}
    tables = [
        {
            "name": f"chip.{name}[1..{1}]",
            "actions": [{"name": action, "arguments": None, "energy": pj} for action, pj in actions.items()],
        }
        for name, actions in named.items()
    ]
    return {"version": "0.4", "tables": tables}


def problem(workload: Workload) -> dict[str, object]:
    """A problem with a shape that is spelled out, and a coefficient for each term that has one."""
    coefficients, spaces = [], []
    for tensor in workload.tensors:
        projection = []
        for rank in tensor.ranks:
            terms: list[list[str]] = []
            for dim, factor in rank:
                name = f"{tensor.name}{dim}step"
                if factor != 1:
                    coefficients.append({"name": name, "default": factor})
                terms.append([dim] if factor == 1 else [dim, name])
            projection.append(terms)
        spaces.append({"name": tensor.name, "projection": projection, "read-write": tensor.is_output})
    shape = {"name": "layer", "dimensions": list(workload.dims), "data-spaces": spaces, "coefficients": coefficients}
    return {"shape": shape, "instance": dict(zip(workload.dims, workload.bounds, strict=True))}


def nest_text(workload: Workload, accelerator: Accelerator, mapping: Mapping, cost: Cost) -> str:
    """The loops as ``*.map.txt`` shows them."""
    lines, depth = [""], 0
    for s in reversed(range(len(accelerator.levels))):
        words = " ".join(
            f"{tensor.name}:{cost.detail.tile_words[s, t]} ({cost.detail.tile_words[s, t]})"
            for t, tensor in enumerate(workload.tensors)
            if mapping.keep[s, t]
        )
        head = f"{accelerator.level_names[s]} [ {words} ] " if words else f"{accelerator.level_names[s]} [ ] "
        lines += [head, "-" * (len(head) - 1)]
        for loop in loops_of(mapping, s):
            lines.append(f"| {'  ' * depth}{loop}")
            depth += 1
        lines.append("")
    return "\n".join([*lines[:-1], f"| {'  ' * depth}<< Compute >>", ""])


def loops_of(mapping: Mapping, s: int) -> list[str]:
    """The loops of a level, outermost first."""
    x_loops, y_loops = mapping.spatial_sides(s)
    loops = [f"for {dim} in [0:{n})" for dim, n in reversed(mapping.temporal_loops(s))]
    for side, of_side in (("Y", y_loops), ("X", x_loops)):
        loops += [f"for {dim} in [0:{n}) (Spatial-{side})" for dim, n in reversed(of_side)]
    return loops or [f"for {mapping.dims[-1]} in [0:1)"]


def _limit(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def stats_text(workload: Workload, accelerator: Accelerator, mapping: Mapping, cost: Cost, outline: str) -> str:
    """The statistics."""
    old, new = outline == BEFORE_V2, outline == OF_2024
    detail, mac = cost.detail, accelerator.mac
    used = int(detail.used_instances[0] * detail.fanout_used[0])
    energy = accelerator.mac_energies["compute"] * workload.macs
    text = [
        "Buffer and Arithmetic Levels",
        "----------------------------",
        "Level 0",
        "-------",
        f"=== {mac.name} ===",
        "",
        "    SPECS",
        "    -----",
        f"    Word bits             : {mac.word_bits}",
        f"    Instances             : {mac.instances} ({mac.mesh_x}*{mac.mesh_y})",
        f"    {'Energy-per-op' if old else 'Compute energy'}        : {accelerator.mac_energies['compute']:.2f} pJ",
        "",
        "    STATS",
        "    -----",
        f"    Utilized instances      : {used}",
        *([] if old else [f"    Computes (total)        : {workload.macs}"]),
        f"    Cycles                  : {detail.compute_cycles}",
        f"    Energy (total)          : {energy:.2f} pJ",
        "    Area (total)            : 0.00 um^2",
        "",
    ]
    for s in range(len(accelerator.levels)):
        if mapping.keep[s].any() or not new:
            text += _level(workload, accelerator, mapping, cost, s, outline)
    text += ["Networks", "--------"]
    if not new:
        for number, s in enumerate(reversed(range(len(accelerator.levels)))):
            text += [f"Network {number}", "---------", *_network(workload, accelerator, cost, s)]
    text += ["", "Operational Intensity Stats", "---------------------------", "    Total ops : 1", ""]
    for name in accelerator.level_names:
        text += [f"=== {name} ===", "    Op per Byte : 1.00"]
    per = "MACC" if old else "Compute"
    text += [
        "",
        "",
        "Summary Stats",
        "-------------",
        f"Utilization: {cost.utilization * 100:.2f}%" if new else f"Utilization: {cost.utilization:.2f}",
        f"Cycles: {int(cost.latency_cycles)}",
        f"Energy: {cost.energy_pj * 1e-6:.2f} uJ",
        "Area: 0.00 mm^2",
        "",
        f"{per}{'s'} = {workload.macs}",
        f"{'fJ' if new else 'pJ'}/{per}",
        f"    {mac.name} = {energy / workload.macs * (1e3 if new else 1):.2f}",
        f"    Total = {cost.energy_pj / workload.macs * (1e3 if new else 1):.2f}",
        "",
    ]
    return "\n".join(text)


def _level(
    workload: Workload, accelerator: Accelerator, mapping: Mapping, cost: Cost, s: int, outline: str
) -> list[str]:
    level, detail = accelerator.levels[s], cost.detail
    old, new = outline == BEFORE_V2, outline == OF_2024
    energies = accelerator.action_energies[s]
    words = "-" if level.capacity_words is None else level.capacity_words
    text = [
        f"Level {s + 1}",
        "-------",
        f"=== {level.name} ===",
        "",
        "    SPECS",
        "    -----",
        f"        Technology           : {'DRAM' if level.capacity_words is None else 'SRAM'}",
        f"        Size                 : {words}",
        f"        Word bits            : {level.word_bits}",
        f"        Block size           : {level.block_size_words}",
        f"        Cluster size         : {level.cluster_size}",
        f"        Instances            : {level.instances} ({level.mesh_x}*{level.mesh_y})",
        *([] if old else [f"        Shared bandwidth     : {_limit(level.shared_bandwidth_words_per_cycle)}"]),
        f"        Read bandwidth       : {_limit(level.read_bandwidth_words_per_cycle)}",
        f"        Write bandwidth      : {_limit(level.write_bandwidth_words_per_cycle)}",
        f"        Multiple buffering   : {level.multiple_buffering:.2f}",
        f"        Vector access energy : {max(energies['read'], energies['fill'], energies['update']):.2f} pJ",
    ]
    if new:
        text += [
            "        Vector access energy source     : ERT",
            f"        Per-instance-cycle leakage      : {energies['leak']:.2f} pJ",
            f"        Leakage energy (total)          : {detail.leakage_energy_pj[s]:.2f} pJ",
        ]
    text += [
        "        Area                 : 0.00 um^2",
        "",
        "    MAPPING",
        "    -------",
        "    Loop nest:",
        *(f"      {loop}" for loop in loops_of(mapping, s) if not loop.endswith("[0:1)")),
        "",
        "    STATS",
        "    -----",
        f"    Cycles               : {detail.level_cycles[s]}",
        "    Bandwidth throttling : " + f"{detail.compute_cycles / detail.level_cycles[s]:.2f}",
    ]
    instances = int(detail.used_instances[s])
    for t, tensor in enumerate(workload.tensors):
        if not mapping.keep[s, t]:
            continue
        reads, fills, updates = (int(getattr(detail, key)[s, t]) for key in ("reads", "fills", "updates"))
        energy, accesses = float(detail.energy_pj[s, t]), reads + fills + updates
        if old:
            blocks = [math.ceil(n / level.block_size_words) for n in (reads, fills, updates)]
            energy *= math.ceil(accesses / level.block_size_words) / max(1, sum(blocks))
        text += [
            f"    {tensor.name}:",
            f"        Partition size                           : {detail.partition_words[s, t]}",
            f"        Utilized capacity                        : {detail.tile_words[s, t]}",
            f"        Utilized instances (max)                 : {instances}",
            f"        Utilized clusters (max)                  : {detail.used_clusters[s]}",
            f"        Scalar reads (per-instance)              : {reads}",
            f"        Scalar updates (per-instance)            : {updates}",
            f"        Scalar fills (per-instance)              : {fills}",
            f"        Temporal reductions (per-instance)       : {reads if tensor.is_output else 0}",
            f"        Address generations (per-cluster)        : {fills + (updates if tensor.is_output else reads)}",
            f"        Energy (per-scalar-access)               : {energy / instances / max(1, accesses):.2f} pJ",
            f"        Energy (per-instance)                    : {energy / instances:.2f} pJ",
            f"        Energy (total)                           : {energy:.2f} pJ",
            "        Shared Bandwidth (per-instance)          : 0.00 words/cycle",
        ]
    return [*text, ""]


def _network(workload: Workload, accelerator: Accelerator, cost: Cost, s: int) -> list[str]:
    detail = cost.detail
    inner = (accelerator.mac.name, *accelerator.level_names)[s]
    text = [
        f"{accelerator.level_names[s]} <==> {inner}",
        "",
        "    SPECS",
        "    -----",
        "        Type            : Legacy",
        "        Legacy sub-type : ",
        "        Router energy   : - pJ",
        "        Wire energy     : - pJ/b/mm",
        "",
        "    STATS",
        "    -----",
    ]
    for t, tensor in enumerate(workload.tensors):
        ingresses = float(detail.ingresses[s, t])
        text += [
            f"    {tensor.name}:",
            f"        Fanout                                  : {detail.fanout_used[s]}",
            f"        Multicast factor                        : {detail.multicast[s, t]}",
            f"        Ingresses                               : {ingresses:.2f}",
            f"            @multicast 1 @scatter 1: {ingresses:.2f}",
            f"        Link transfers                          : {int(detail.link_transfers[s, t])}",
            f"        Spatial reductions                      : {detail.spatial_reductions[s, t]}",
            f"        Average number of hops                  : {detail.hops[s, t] / max(1.0, ingresses):.2f}",
            "        Energy (per-hop)                        : 0.00 fJ",
            "        Energy (total)                          : 0.00 pJ",
        ]
    return [*text, ""]
