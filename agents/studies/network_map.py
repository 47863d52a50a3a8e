"""Maps all layers of a network, each search beginning from the layers that are mapped already."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mapgym.agents.base import load_compiled_code, make_agent
from mapgym.agents.experiment.definition.warm_start import NEIGHBOURS
from mapgym.agents.files.tables import Table
from mapgym.agents.studies.cells import Cell, Result
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.mapping import Mapping
from mapgym.mapspace import MapSpace
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.catalog import Layer, Network
from mapgym.warmstart import ReplayBuffer, find_start


@dataclass
class NetworkMapper:
    """Maps the distinct layers of a network, in their order.

    Attributes:
        network, accelerator: what is mapped onto what.
        axes, objective, agent, samples, seed: of the search of each layer.
        known: solved layers to begin from besides those of the network; None for no others.
        solved: the layers mapped so far.
    """

    network: Network
    accelerator: Accelerator
    axes: tuple[str, ...]
    objective: str
    agent: str
    samples: int
    seed: int
    known: ReplayBuffer | None = None
    solved: ReplayBuffer = field(default_factory=ReplayBuffer)

    def cells(self) -> list[Cell]:
        """One piece of work for each layer; they must be done in this order, each result given to :meth:`learn`."""
        settings = {
            "accelerator": self.accelerator.to_dict(),
            "axes": self.axes,
            "objective": self.objective,
            "agent": self.agent,
            "samples": self.samples,
            "seed": self.seed,
            "known": None if self.known is None else [str(self.known.path), len(self.known)],
        }
        cells: list[Cell] = []
        before: list[str] = []
        for layer in self.network.layers:
            own = {"workload": layer.workload.to_dict(), "repeats": layer.repeats, "before": list(before)}
            cells.append(Cell(layer.workload.name, {**settings, **own}, lambda layer=layer: self._map(layer)))  # type: ignore[misc]
            before.append(layer.workload.name)
        return cells

    def learn(self, result: Result) -> None:
        """Lets later layers begin from a layer that is mapped."""
        layer = self.network.layer(result["layer"])
        mapping = Mapping.from_dict(result["mapping"], layer.workload, self.accelerator)
        self.solved.add(layer.workload, self.accelerator, mapping, self.objective)

    def _map(self, layer: Layer) -> Result:
        space = MapSpace(layer.workload, self.accelerator, self.axes)
        load_compiled_code(space)
        buffers = [self.solved] if self.known is None else [self.solved, self.known]
        begun = find_start(buffers, space, self.objective, count=NEIGHBOURS)
        source, failed = begun.sources[0] if begun.sources else "", len(begun.failures)
        evaluator = Evaluator(space, self.objective, Budget(samples=self.samples))
        make_agent(self.agent).search(evaluator, self.seed, begun.mappings if source else None)
        mapping, cost = evaluator.best_mapping, evaluator.best_cost
        assert mapping is not None  # a searcher prices legal mappings
        assert cost is not None
        start = f"from {source}" if source else "from nothing"
        summary = f"{evaluator.ratio:.3f} x the lower bound after {evaluator.samples:,} samples, {start}"
        return {
            "layer": layer.name,
            "repeats": layer.repeats,
            "macs": layer.workload.macs,
            "energy_pj": float(cost.energy_pj),
            "latency_cycles": float(cost.latency_cycles),
            "edp": float(cost.edp),
            "utilization": float(cost.utilization),
            "ratio": float(evaluator.ratio),
            "begun_from": source,
            "failed_transfers": failed,
            "samples": evaluator.samples,
            "seconds": evaluator.seconds,
            "mapping": mapping.to_dict(),
            "summary": summary + (f" ({failed} transfers failed)" if failed else ""),
        }


def network_tables(results: list[Result]) -> list[Table]:
    """The totals of the network, then its layers."""
    energy = sum(result["repeats"] * result["energy_pj"] for result in results)
    cycles = sum(result["repeats"] * result["latency_cycles"] for result in results)
    macs = sum(result["repeats"] * result["macs"] for result in results)
    totals: list[list[object]] = [
        ["layers", sum(result["repeats"] for result in results)],
        ["distinct layers", len(results)],
        ["multiply-accumulates", float(macs)],
        ["energy (pJ)", energy],
        ["latency (cycles)", cycles],
        ["EDP (pJ*cycles)", energy * cycles],
        ["energy per MAC (pJ)", energy / macs],
        ["MACs per cycle", macs / cycles],
        ["samples", sum(result["samples"] for result in results)],
        ["transfers that failed", sum(result["failed_transfers"] for result in results)],
    ]
    note = "Layers run one after the other: energy and latency are sums over all layers, repeats included, EDP is the "
    note += "product of the two sums."
    columns = "layer,repeats,energy (pJ),latency (cycles),EDP (pJ*cycles),utilization,x lower bound"
    columns += ",share of energy,share of latency,begun from"
    rows: list[list[object]] = [
        [
            result["layer"],
            result["repeats"],
            result["energy_pj"],
            result["latency_cycles"],
            result["edp"],
            result["utilization"],
            result["ratio"],
            result["repeats"] * result["energy_pj"] / energy,
            result["repeats"] * result["latency_cycles"] / cycles,
            result["begun_from"] or None,
        ]
        for result in results
    ]
    about = "Energy, latency and EDP are those of one of the repeated layers, shares those of all of them."
    return [
        Table("Network", note, ("quantity", "value"), totals),
        Table("Layers", about, tuple(columns.split(",")), rows),
    ]


def draw_network(results: list[Result], folder: Path) -> list[str]:
    """Draws map.png: energy and latency of the network, stacked layer by layer. Needs Matplotlib (extra ``plot``)."""
    from mapgym.agents.studies.drawing import COLORS, new_panels, save

    figure, panels = new_panels(1, 1, (9.0, 0.28 * len(results) + 2.4))
    panel = panels[0]
    for row, (key, what) in enumerate((("energy_pj", "energy"), ("latency_cycles", "latency"))):
        values = [result["repeats"] * result[key] for result in results]
        left = 0.0
        for index, value in enumerate(values):
            share = value / sum(values)
            label = f"{results[index]['layer']} x {results[index]['repeats']}" if row == 0 else None
            hatch = ("", "//", "..", "xx")[index // len(COLORS) % 4]
            color = COLORS[index % len(COLORS)]
            panel.barh(what, share, left=left, label=label, color=color, edgecolor="white", hatch=hatch)
            left += share
    panel.set_xlim(0, 1)
    panel.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    panel.set_xlabel("share of the network, layer by layer")
    panel.legend(fontsize="x-small", ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.12))
    save(figure, folder / "map.png")
    return ["map.png"]
