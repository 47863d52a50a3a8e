"""Our figures under the labels that Timeloop prints them with.

A place is (part, tensor, label): the name of a level, of a network "outer <==> inner", or "" for the summary; the name
of a tensor or ""; and the label as it is printed, of whichever version. What has no label here is not compared.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mapgym.cost import Cost, CostDetail
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.workload import Workload

Place = tuple[str, str, str]
"""(part, tensor, label)."""

Figures = dict[Place, float]

COUNTS, CYCLES, ENERGY = "counts", "cycles", "energy"
KINDS = (COUNTS, CYCLES, ENERGY)

_ACCESSES = ("reads", "fills", "updates")
RANKS = tuple(
    f"{outcome} scalar format {access} (per-instance)"
    for outcome in ("Actual", "Gated", "Skipped")
    for access in _ACCESSES
)
"""Labels that are followed by figures of each rank of metadata."""

THROTTLING = "Bandwidth throttling"

DENSE_LABELS = ("Scalar ", "Algorithmic scalar ", "Partition size", "Utilized capacity", "Data tile shape")
"""What labels begin with whose figures zeros do not change."""


def kind_of(label: str) -> str:
    """What sort of figure has a label."""
    if "nergy" in label or "/" in label or label.startswith("EDP"):
        return ENERGY
    return CYCLES if "ycles" in label or label in (THROTTLING, "Utilization") else COUNTS


def our_figures(accelerator: Accelerator, workload: Workload, cost: Cost, *, join_blocks: bool = False) -> Figures:
    """All figures of a cost that have a label.

    Args:
        accelerator, workload: what was priced.
        cost: with its counts.
        join_blocks: whether reads, fills and updates fill blocks together, as they did until v2.0 (June 2021); since
            then each of them fills its own.
    """
    figures: Figures = {}
    for s in range(len(accelerator.levels)):
        figures.update(_level(accelerator, workload, cost, s, join_blocks))
        figures.update(_network(accelerator, workload, cost, s))
    figures.update(_mac(accelerator, workload, cost))
    figures.update(_summary(accelerator, workload, cost, figures))
    return figures


def _level(
    accelerator: Accelerator, workload: Workload, cost: Cost, s: int, join_blocks: bool
) -> Iterator[tuple[Place, float]]:
    """What a storage level does."""
    detail, savings = cost.detail, cost.savings
    assert detail is not None  # it was asked for
    name = accelerator.level_names[s]
    cycles = int((detail if savings is None else savings).level_cycles[s])
    computes = int(detail.compute_cycles) if savings is None else _sparse_compute_cycles(accelerator, cost)
    yield (name, "", "Cycles"), cycles
    yield (name, "", THROTTLING), min(1.0, computes / cycles) if cycles else 1.0
    leakage = float((detail if savings is None else savings).leakage_energy_pj[s])
    yield (name, "", "Leakage energy (total)"), leakage
    total = leakage
    for t, tensor in enumerate(workload.tensors):
        if not detail.tile_words[s, t]:
            continue
        figures = dict(_access_figures(cost, s, t, tensor.is_output))
        share = _joined(figures, accelerator.levels[s].block_size_words) if join_blocks else 1.0
        figures |= _energy_figures(cost, s, t, figures, share)
        total += figures["Energy (total)"] + figures["Address Generation Energy (total)"]
        for label, figure in figures.items():
            yield (name, tensor.name, label), figure
    yield (name, "", "energy of all"), total


def _sparse_compute_cycles(accelerator: Accelerator, cost: Cost) -> int:
    assert cost.savings is not None
    assert cost.detail is not None
    busy = int(cost.savings.computes[0] + cost.savings.computes[1])
    macs = int(cost.detail.used_instances[0] * cost.detail.fanout_used[0])
    return -(-busy // max(1, macs))


def _access_figures(cost: Cost, s: int, t: int, is_output: bool) -> Iterator[tuple[str, float]]:
    """Counts of a tensor at a level."""
    detail, savings = cost.detail, cost.savings
    assert detail is not None
    tile, instances = int(detail.tile_words[s, t]), int(detail.used_instances[s])
    yield "Partition size", int(detail.partition_words[s, t])
    yield "Utilized capacity", tile
    yield "Data tile shape", tile
    occupied = tile if savings is None else int(savings.occupied_words[s, t])
    yield "Max utilized data storage capacity", occupied
    yield "Utilized instances (max)", instances
    yield "Utilized instances (average)", instances if savings is None else float(savings.used_instances[s, t])
    yield "Utilized clusters (max)", int(detail.used_clusters[s])
    actual = {}
    for access in _ACCESSES:
        dense = int(getattr(detail, access)[s, t])
        actual[access] = dense if savings is None else int(getattr(savings, access)[s, t])
        yield f"Scalar {access} (per-instance)", dense
        yield f"Algorithmic scalar {access} (per-instance)", dense
        yield f"Actual scalar {access} (per-instance)", actual[access]
        for outcome in ("gated", "skipped"):
            saved = getattr(savings, f"{outcome}_{access}", None)
            yield f"{outcome.capitalize()} scalar {access} (per-instance)", 0 if saved is None else int(saved[s, t])
    yield (
        "Temporal reductions (per-instance)",
        _temporal_reductions(detail, s, t, actual["updates"]) if is_output else 0,
    )
    # An update reads the word that it writes at the same address, and what is gated has one too.
    gated = 0 if savings is None else int((savings.gated_updates if is_output else savings.gated_reads)[s, t])
    yield "Address generations (per-cluster)", actual["updates" if is_output else "reads"] + actual["fills"] + gated
    if savings is not None:
        for (access, outcome, rank, part), count in np.ndenumerate(savings.metadata_accesses[s, t]):
            label = RANKS[outcome * len(_ACCESSES) + access]
            yield f"{label}: rank {rank} {('metadata', 'payload')[part]}", int(count)


def _temporal_reductions(detail: CostDetail, s: int, t: int, actual_updates: int) -> int:
    """Every read of a partial sum is for a reduction; with zeros, the share of updates that happen, rounded up."""
    updates = int(detail.updates[s, t])
    return -(-int(detail.reads[s, t]) * actual_updates // updates) if updates else 0


def _joined(counts: dict[str, float], block: int) -> float:
    """Blocks of all accesses together over those of reads, fills and updates by themselves."""
    accesses = [int(counts[f"Scalar {access} (per-instance)"]) for access in _ACCESSES]
    apart = sum(-(-number // block) for number in accesses)
    return -(-sum(accesses) // block) / apart if apart else 1.0


def _energy_figures(cost: Cost, s: int, t: int, counts: dict[str, float], share: float) -> dict[str, float]:
    """Energies of a tensor at a level; ``share`` of what our rules say."""
    detail, savings = cost.detail, cost.savings
    assert detail is not None
    source = detail if savings is None else savings
    energy, address = float(source.energy_pj[s, t]) * share, float(source.address_energy_pj[s, t])
    instances = counts["Utilized instances (average)"]
    one = energy / instances if instances else 0.0
    accesses = sum(counts[f"Actual scalar {access} (per-instance)"] for access in _ACCESSES)
    clusters = counts["Utilized clusters (max)"]
    return {
        "Energy (per-scalar-access)": one / accesses if accesses else 0.0,
        "Energy (per-instance)": one,
        "Energy (total)": energy,
        "Temporal Reduction Energy (per-instance)": 0.0,
        "Temporal Reduction Energy (total)": 0.0,
        "Address Generation Energy (per-cluster)": address / clusters if clusters else 0.0,
        "Address Generation Energy (total)": address,
    }


def _network(accelerator: Accelerator, workload: Workload, cost: Cost, s: int) -> Iterator[tuple[Place, float]]:
    """What the network below a storage level does."""
    detail = cost.detail
    assert detail is not None
    level = accelerator.levels[s]
    inner = (accelerator.mac.name, *accelerator.level_names)[s]
    name = f"{level.name} <==> {inner}"
    instances = int(detail.used_instances[s])
    total = 0.0
    for t, tensor in enumerate(workload.tensors):
        ingresses = float(detail.ingresses[s, t])
        links = float(detail.link_transfers[s, t])
        link_energy = links * (level.hop_energy_pj + 2 * level.router_energy_pj) * instances
        energy = float(detail.network_energy_pj[s, t])
        total += energy
        for label, figure in (
            # Further out than the outermost level that keeps the tensor, Timeloop has no network of it.
            ("Fanout", int(detail.fanout_used[s]) if detail.tile_words[s:, t].any() else 0),
            ("Multicast factor", int(detail.multicast[s, t])),
            ("Ingresses", ingresses),
            ("Link transfers", links),
            ("Spatial reductions", int(detail.spatial_reductions[s, t])),
            ("Average number of hops", float(detail.hops[s, t]) / ingresses if ingresses else 0.0),
            ("Energy (per-instance)", (energy - link_energy) / instances),
            ("Energy (total)", energy - link_energy),
            ("Link transfer energy (per-instance)", link_energy / instances),
            ("Link transfer energy (total)", link_energy),
            ("Spatial Reduction Energy (per-instance)", 0.0),
            ("Spatial Reduction Energy (total)", 0.0),
        ):
            yield (name, tensor.name, label), figure
    yield (name, "", "energy of all"), total


def _mac(accelerator: Accelerator, workload: Workload, cost: Cost) -> Iterator[tuple[Place, float]]:
    """What the MAC array does."""
    detail, savings = cost.detail, cost.savings
    assert detail is not None
    used = int(detail.used_instances[0] * detail.fanout_used[0])
    done, gated, skipped = (workload.macs, 0, 0) if savings is None else map(int, savings.computes)
    energies = accelerator.mac_energies
    energy = done * energies["compute"]
    energy += gated * energies["gated_compute"] + skipped * energies["skipped_compute"]
    cycles = int(detail.compute_cycles) if savings is None else _sparse_compute_cycles(accelerator, cost)
    for label, figure in (
        ("Utilized instances", used),
        ("Utilized instances (max)", used),
        ("Cycles", cycles),
        ("Computes (total)", done),
        ("Algorithmic Computes (total)", workload.macs),
        ("Actual Computes (total)", done),
        ("Gated Computes (total)", gated),
        ("Skipped Computes (total)", skipped),
        ("Energy (total)", energy),
        ("energy of all", energy),
    ):
        yield (accelerator.mac.name, "", label), figure


def _summary(
    accelerator: Accelerator, workload: Workload, cost: Cost, figures: Figures
) -> Iterator[tuple[Place, float]]:
    """What is printed at the end: totals, and energies for each multiply-accumulate, in pJ or fJ."""
    computes = figures[accelerator.mac.name, "", "Actual Computes (total)"]
    energy = sum(figure for (_, _, label), figure in figures.items() if label == "energy of all")
    for label, figure in (
        ("Total topology energy", energy),
        ("Max topology cycles", cost.latency_cycles),
        ("Utilization", cost.utilization),
        ("Cycles", cost.latency_cycles),
        ("Energy", energy * 1e-6),
        ("EDP(J*cycle)", energy * cost.latency_cycles * 1e-12),
        ("MACCs", computes),
        ("Computes", computes),
        ("Actual Computes", computes),
        ("Algorithmic Computes", workload.macs),
    ):
        yield ("", "", label), figure
    for unit, scale in (("pJ", 1.0), ("fJ", 1e3)):
        for title, number in (
            ("MACC", computes),
            ("Compute", computes),
            ("Actual-Compute", computes),
            ("Algorithmic-Compute", workload.macs),
        ):
            for part, tensor, label in list(figures):
                if label == "energy of all" and not tensor:
                    yield ("", part, f"{unit}/{title}"), figures[part, "", label] * scale / number if number else 0.0
            yield ("", "Total", f"{unit}/{title}"), energy * scale / number if number else 0.0
