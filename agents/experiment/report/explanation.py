"""Where the energy and the time of a mapping go, as metrics and as tables for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from mapgym.cost import Cost, LowerBound
    from mapgym.mapping import Mapping
    from mapgym.spec.accelerator import Accelerator
    from mapgym.spec.levels import StorageLevel
    from mapgym.spec.workload import Workload


@dataclass(frozen=True)
class Breakdown:
    """A table for people.

    Attributes:
        title: what it is about.
        left, right: headings of the first columns, aligned to the left, and of the others, aligned to the right.
        sections: its rows, in groups.
    """

    title: str
    left: tuple[str, ...]
    right: tuple[str, ...]
    sections: tuple[tuple[tuple[str, ...], ...], ...]


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
                "capacity_words": level.usable_words,
                "energy_pj": float(detail.energy_pj[s].sum()),
                "address_energy_pj": float(detail.address_energy_pj[s].sum()),
                "leakage_energy_pj": float(detail.leakage_energy_pj[s]),
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
        "rules": accelerator.rules,
        "edp": float(cost.edp),
        "energy_pj": float(cost.energy_pj),
        "latency_cycles": float(cost.latency_cycles),
        "utilization": float(cost.utilization),
        "lower_bound_edp": float(bound.edp),
        "lower_bound_energy_pj": float(bound.energy_pj),
        "lower_bound_latency_cycles": float(bound.latency_cycles),
        "limited_by": _limit(accelerator, mapping, cost, levels),
        "mac_energy_pj": workload.macs * accelerator.mac_energies["compute"],
        "compute_cycles": int(detail.compute_cycles),
        "used_macs": int(np.prod(mapping.spatial.astype(np.int64))),
        "macs": accelerator.mac.instances,
        "levels": levels,
        "mapping": mapping.to_dict(),
    }


def headlines(report: dict[str, Any]) -> list[tuple[str, str]]:
    """The most important metrics of what :func:`explain` returns, each with its name."""
    lines = []
    for name, key, unit in (
        ("EDP", "edp", "pJ*cycles"),
        ("energy", "energy_pj", "pJ"),
        ("latency", "latency_cycles", "cycles"),
    ):
        ratio = report[key] / report[f"lower_bound_{key}"]
        lines.append((name, f"{report[key]:.6g} {unit}, {ratio:.3f} x the lower bound"))
    lines += [("utilization", f"{report['utilization']:.1%} of the MACs"), ("limited by", report["limited_by"])]
    return [*lines, ("rules", report["rules"])]


def energy_table(workload: Workload, accelerator: Accelerator, report: dict[str, Any]) -> Breakdown:
    """Where the energy goes, of what :func:`explain` returns."""
    total = report["energy_pj"]

    def energy(value: float) -> tuple[str, str]:
        return f"{value:,.0f}", f"{value / total:.1%}" if total else "-"

    accesses = tuple(
        (
            level["level"],
            name,
            *(f"{counts[key]:,}" for key in ("tile_words", "reads", "fills", "updates")),
            *energy(counts["energy_pj"]),
        )
        for level in report["levels"]
        for name, counts in level["tensors"].items()
    )
    # What most hardware does not have is shown where it costs something.
    others = [
        (title, *[""] * 5, *energy(spent))
        for title, key in (("addresses", "address"), ("leakage", "leakage"), ("networks", "network"))
        if (spent := sum(level[f"{key}_energy_pj"] for level in report["levels"])) or key == "network"
    ]
    macs = (accelerator.mac.name, "", "", f"{workload.macs:,} MACs", "", "", *energy(report["mac_energy_pj"]))
    return Breakdown(
        "Where the energy goes (accesses of all instances, in words)",
        ("level", "tensor"),
        ("tile", "reads", "fills", "updates", "energy (pJ)", "share"),
        (accesses, (*others, macs), (("total", *[""] * 5, *energy(total)),)),
    )


def time_table(accelerator: Accelerator, report: dict[str, Any]) -> Breakdown:
    """Where the time goes, of what :func:`explain` returns."""
    rows: list[tuple[str, ...]] = []
    for storage, level in zip(reversed(accelerator.levels), report["levels"], strict=True):
        capacity = level["capacity_words"]
        rows.append(
            (
                level["level"],
                f"{level['used_instances']:,} of {level['instances']:,}",
                f"{level['words_held']:,}",
                "unlimited" if capacity is None else f"{capacity:,}",
                f"{level['read_words_per_cycle']:.3g}",
                f"{level['write_words_per_cycle']:.3g}",
                _bandwidth(storage),
                f"{level['cycles']:,}",
            )
        )
    macs = f"{report['used_macs']:,} of {report['macs']:,}"
    rows.append((accelerator.mac.name, macs, *[""] * 5, f"{report['compute_cycles']:,}"))
    return Breakdown(
        "Where the time goes (words per cycle of one instance)",
        ("level",),
        ("in use", "words held", "capacity", "reads", "writes", "bandwidth", "cycles needed"),
        (tuple(rows),),
    )


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


def _bandwidth(level: StorageLevel) -> str:
    limits = {
        "read": level.read_bandwidth_words_per_cycle,
        "write": level.write_bandwidth_words_per_cycle,
        "shared": level.shared_bandwidth_words_per_cycle,
    }
    return ", ".join(f"{name} {limit:g}" for name, limit in limits.items() if limit is not None) or "unlimited"
