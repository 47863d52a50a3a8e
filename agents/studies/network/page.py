"""The page of a mapped network: totals, each layer, level and tensor, the roofline, and every mapping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mapgym.agents.certificate import Certificate
from mapgym.agents.experiment.report.charts import Chart
from mapgym.agents.experiment.report.explanation import Breakdown
from mapgym.agents.experiment.report.markup import Markup, element, joined
from mapgym.agents.experiment.report.page_parts import (
    Section,
    breakdown,
    document,
    mapping_parts,
    pair,
    sortable,
)
from mapgym.agents.labels import percent
from mapgym.agents.studies.cells import Result
from mapgym.agents.studies.network.network_map import NetworkMap, network_tables
from mapgym.agents.studies.network.roofline import LayerRoof, layer_roof, roofline
from mapgym.cost import Cost, CostModel
from mapgym.mapping import Mapping
from mapgym.spec.catalog import Layer


@dataclass(frozen=True)
class Mapped:
    """A layer that is mapped.

    Attributes:
        layer: which.
        result: of its search.
        mapping, cost: what was found; the cost has its detail.
        roof: where it lies under the roofline.
    """

    layer: Layer
    result: Result
    mapping: Mapping
    cost: Cost
    roof: LayerRoof


def network_page(found: NetworkMap, results: Sequence[Result]) -> str:
    """The page.

    Args:
        found: what is mapped onto what.
        results: of the layers that are mapped, at least one.
    """
    layers = [_price(found, result) for result in results]
    missing = len(found.network.layers) - len(layers)
    facts = [element("p", f"Costs are counted as {found.accelerator.rules}.", class_="facts")]
    if missing:
        facts.append(element("p", f"{missing} of {missing + len(layers)} layers are not mapped yet.", class_="warning"))
    if found.command:
        facts.append(element("pre", element("code", found.command), tabindex=0))
    sections: list[Section] = [
        ("Network", "network", _totals(found, results)),
        ("Layers", "layers", _layers(found, layers)),
        ("Levels and tensors", "levels", [_levels(found, layers)]),
        ("Roofline", "roofline", _rooflines(found, layers)),
        ("Mappings", "mappings", [_mapping(found, mapped) for mapped in layers]),
    ]
    return document(found.title, facts, sections)


def _price(found: NetworkMap, result: Result) -> Mapped:
    layer = found.network.layer(result["layer"])
    mapping = Mapping.from_dict(result["mapping"], layer.workload, found.accelerator)
    cost = CostModel(layer.workload, found.accelerator).evaluate(mapping, detail=True)
    return Mapped(layer, result, mapping, cost, layer_roof(layer, found.accelerator, cost))


def _totals(found: NetworkMap, results: Sequence[Result]) -> list[Markup]:
    table = network_tables(results, found.clock_ghz)[0]
    rows = tuple((name, value) for name, value in table.text_rows())
    content = [breakdown(Breakdown("Totals", ("quantity",), ("value",), (rows,))), element("p", table.note)]
    if found.clock_ghz is None:
        content.append(element("p", "Time and power are not known: no clock was given (--clock)."))
    areas = [getattr(level, "area_um2", None) for level in found.accelerator.levels]
    if any(areas):
        total = sum(area * level.instances for area, level in zip(areas, found.accelerator.levels, strict=True) if area)
        content.append(element("p", f"Area of the levels whose area is known: {total * 1e-6:.4g} mm²."))
    return content


def _layers(found: NetworkMap, layers: Sequence[Mapped]) -> list[Markup]:
    results = [mapped.result for mapped in layers]
    energy = sum(result["repeats"] * result["energy_pj"] for result in results)
    cycles = sum(result["repeats"] * result["latency_cycles"] for result in results)
    columns = (
        *("layer", "repeats", "MACs", "energy (pJ)", "cycles", "EDP (pJ*cycles)", "utilization", "x lower bound"),
        *("above the optimum", "share of energy", "share of cycles", "limited by"),
    )
    rows = []
    for mapped in layers:
        result = mapped.result
        gap, key = _gap(found, result)
        rows.append(
            [
                (result["layer"], 0),
                *((f"{result[name]:,}", result[name]) for name in ("repeats", "macs")),
                *((f"{result[name]:.4g}", result[name]) for name in ("energy_pj", "latency_cycles", "edp")),
                (f"{result['utilization']:.1%}", result["utilization"]),
                (f"{result['ratio']:.3f}", result["ratio"]),
                (gap, key),
                *_share(result["repeats"] * result["energy_pj"], energy),
                *_share(result["repeats"] * result["latency_cycles"], cycles),
                (mapped.roof.limit, mapped.roof.limit),
            ]
        )
    note = "Energy, cycles and EDP are those of one of the repeated layers, shares those of all of them. A layer's "
    note += "mapping opens further down."
    return [sortable("Layers", columns, rows), element("p", note)]


def _share(part: float, whole: float) -> list[tuple[str, float]]:
    return [(f"{part / whole:.1%}", part / whole)]


def _gap(found: NetworkMap, result: Result) -> tuple[str, float | str]:
    """How far the mapping is from the optimum, as far as it is known."""
    if result["lower_bound"] is None:
        return ("not asked" if found.settings.certify is None else "unknown"), ""
    value = result[{"edp": "edp", "energy": "energy_pj", "latency": "latency_cycles"}[found.settings.objective]]
    proof = Certificate(None, value, result["lower_bound"], bool(result["certified"]), "", {})
    return proof.short(value), proof.gap(value)


def _levels(found: NetworkMap, layers: Sequence[Mapped]) -> Markup:
    """Energy and accesses of the whole network by level and tensor, repeats included."""
    machine = found.accelerator
    names = list(dict.fromkeys(tensor.name for mapped in layers for tensor in mapped.layer.workload.tensors))
    energy = {(s, name): 0.0 for s in range(len(machine.levels)) for name in names}
    words = dict.fromkeys(energy, 0)
    others = {"addresses": 0.0, "leakage": 0.0, "networks": 0.0, machine.mac.name: 0.0}
    total = sum(mapped.result["repeats"] * float(mapped.cost.energy_pj) for mapped in layers)
    for mapped in layers:
        detail, repeats = mapped.cost.savings or mapped.cost.detail, mapped.result["repeats"]
        counts = mapped.cost.detail
        assert detail is not None  # asked for
        assert counts is not None
        for t, tensor in enumerate(mapped.layer.workload.tensors):
            for s in range(len(machine.levels)):
                energy[s, tensor.name] += repeats * float(detail.energy_pj[s, t])
                accesses = int(counts.reads[s, t]) + int(counts.fills[s, t]) + int(counts.updates[s, t])
                words[s, tensor.name] += repeats * accesses * int(counts.used_instances[s])
        others["addresses"] += repeats * float(detail.address_energy_pj.sum())
        others["leakage"] += repeats * float(detail.leakage_energy_pj.sum())
        others["networks"] += repeats * float(counts.network_energy_pj.sum())
    # Computing is what is left: on sparse hardware some of it is saved.
    others[machine.mac.name] = total - sum(energy.values()) - sum(others.values())
    sections = []
    for s in reversed(range(len(machine.levels))):
        section = [
            (
                machine.levels[s].name,
                name,
                f"{words[s, name]:,}",
                f"{energy[s, name]:,.0f}",
                percent(energy[s, name] / total),
            )
            for name in names
            if words[s, name]
        ]
        if section:
            sections.append(tuple(section))
    rest = tuple((name, "", "", f"{value:,.0f}", percent(value / total)) for name, value in others.items() if value > 0)
    caption = "Where the energy of the network goes (all layers, repeats included; accesses in words"
    caption += ", before zeros save any)" if machine.is_sparse else ")"
    return breakdown(Breakdown(caption, ("level", "tensor"), ("accesses", "energy (pJ)", "share"), (*sections, rest)))


def _rooflines(found: NetworkMap, layers: Sequence[Mapped]) -> list[Markup]:
    charts: list[Chart] = roofline([mapped.roof for mapped in layers], found.accelerator)
    text = (
        "A layer's operational intensity is its multiply-accumulates for each word that the level reads and writes, "
        "under the mapping that was found; the roofs are the bandwidth of the level and the number of MACs. Point at a "
        "dot for its name."
    )
    if len(charts) == 1 and not np.isfinite(layers[0].roof.bandwidths[-1]):
        text += f" {found.accelerator.levels[-1].name} has no limit of bandwidth, so that the MACs are the only roof."
    drawn = element("div", *(element("div", chart.to_svg()) for chart in charts), class_="charts")
    return [element("p", text), drawn]


def _mapping(found: NetworkMap, mapped: Mapped) -> Markup:
    result = mapped.result
    shown = f"{result['ratio']:.4g} x the lower bound"
    facts = pair("begun from", result["begun_from"] or "nothing")
    gap, _ = _gap(found, result)
    facts += pair("above the optimum", result["not_certified_because"] or gap)
    title = f"{result['layer']} x {result['repeats']}"
    return element(
        "details",
        element("summary", element("strong", title), ": ", joined([element("span", shown, class_="value")])),
        *mapping_parts(mapped.layer.workload, found.accelerator, mapped.mapping, facts),
    )
