"""Maps all layers of a network, each search beginning from the layers that are mapped already."""

from __future__ import annotations

from collections.abc import Mapping as AbcMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mapgym.agents.files.constraints_file import ConstraintsFile
from mapgym.agents.files.tables import Table
from mapgym.agents.studies.cells import Cell, Result
from mapgym.agents.studies.network.layer_search import LayerSearch, SearchSettings, Source, most_similar
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.catalog import Layer, Network
from mapgym.system.files import read_json, write_json

DEFINITION = "definition.json"
"""What the folder of a map says about itself, for whoever reads it later."""


@dataclass(frozen=True)
class NetworkMap:
    """A network on an accelerator.

    Attributes:
        network, accelerator: what is mapped onto what.
        settings: of the search of each layer.
        clock_ghz: cycles per nanosecond, None if nothing is said of time.
        command: what made it.
    """

    network: Network
    accelerator: Accelerator
    settings: SearchSettings
    clock_ghz: float | None = None
    command: str = ""

    @property
    def title(self) -> str:
        """Of reports."""
        return f"{self.network.name} on {self.accelerator.name}"

    def cells(self) -> list[Cell]:
        """One piece of work for each layer."""
        return [layer_cell(search, layer.workload.name) for search, layer in self._searches()]

    def _searches(self) -> list[tuple[LayerSearch, Layer]]:
        found = []
        for k, layer in enumerate(self.network.layers):
            near = most_similar(layer, self.network.layers[:k])
            sources = [Source(other.workload, self.accelerator) for other in near]
            found.append((LayerSearch(layer, self.accelerator, self.settings, sources), layer))
        return found

    def write(self, folder: Path) -> None:
        """Says in the folder what it is of."""
        definition = {
            "kind": "map",
            "network": self.network.to_dict(),
            "accelerator": self.accelerator.to_dict(),
            "settings": self.settings.to_dict(),
            "clock_ghz": self.clock_ghz,
            "command": self.command,
        }
        write_json(folder / DEFINITION, definition)

    @classmethod
    def read(cls, folder: Path) -> NetworkMap | None:
        """What a folder is of; None if it is no folder of a map.

        Raises:
            SpecificationError: it is one, and its definition cannot be read.
        """
        path = folder / DEFINITION
        if not path.is_file():
            return None
        try:
            data: AbcMapping[str, Any] = read_json(path)
            if data["kind"] != "map":
                return None
            settings = dict(data["settings"])
            known, constraints = settings.pop("known"), settings.pop("constraints", None)
            network = Network.from_dict(data["network"], str(path))
            return cls(
                network,
                Accelerator.from_stored(data["accelerator"], str(path)),
                SearchSettings(
                    **{**settings, "axes": tuple(settings["axes"])},
                    constraints=_stored_constraints(constraints, network, path),
                    known=None if known is None else Path(known[0]),
                ),
                data["clock_ghz"],
                str(data["command"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise SpecificationError(
                f"{path}: cannot be read ({quoted(str(error))}); give the command that made the folder again"
            ) from None

    def results(self, folder: Path) -> list[Result]:
        """The results that a folder holds of the layers, in their order, those that are missing left out."""
        found = []
        for cell in self.cells():
            path = folder / "cells" / cell.file_name
            if path.is_file():
                found.append(read_json(path)["result"])
        return found


def layer_cell(search: LayerSearch, name: str, needs: Sequence[str] | None = None) -> Cell:
    """The search of a layer as a piece of work.

    Args:
        search: the search.
        name: of the cell.
        needs: names of the cells of its sources; their workloads' names if left out.
    """
    names = [source.workload.name for source in search.sources] if needs is None else list(needs)
    settings = {
        **search.settings.to_dict(),
        "accelerator": search.accelerator.to_dict(),
        "workload": search.layer.workload.to_dict(),
        "repeats": search.layer.repeats,
        "begins_from": names,
    }
    return Cell(name, settings, search, tuple(names), search.state)


def read_cell(path: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]] | None:
    """Workload, accelerator and mapping, all in their plain forms, of a file that keeps a layer; None if it is none."""
    data = read_json(path)
    try:
        return data["settings"]["workload"], data["settings"]["accelerator"], data["result"]["mapping"]
    except (KeyError, TypeError):
        return None


def totals(results: Sequence[Result]) -> tuple[float, float, int]:
    """Energy in pJ, cycles and multiply-accumulates of all layers, repeats included."""
    energy = sum(result["repeats"] * result["energy_pj"] for result in results)
    cycles = sum(result["repeats"] * result["latency_cycles"] for result in results)
    return energy, cycles, sum(result["repeats"] * result["macs"] for result in results)


def network_tables(results: Sequence[Result], clock_ghz: float | None = None) -> list[Table]:
    """The totals of the network, then its layers."""
    energy, cycles, macs = totals(results)
    rows: list[list[object]] = [
        ["layers", sum(result["repeats"] for result in results)],
        ["distinct layers", len(results)],
        ["multiply-accumulates", float(macs)],
        ["energy (pJ)", energy],
        ["latency (cycles)", cycles],
        ["EDP (pJ*cycles)", energy * cycles],
        ["energy per MAC (pJ)", energy / macs],
        ["MACs per cycle", macs / cycles],
        ["TOPS/W (two operations for each MAC)", 2.0 * macs / energy],
    ]
    if clock_ghz is not None:
        seconds = cycles / (clock_ghz * 1e9)
        rows += [["time (s)", seconds], ["power (W)", energy * 1e-12 / seconds], ["inferences per second", 1 / seconds]]
    rows += [
        ["samples", sum(result["samples"] for result in results)],
        ["transfers that failed", sum(result["failed_transfers"] for result in results)],
    ]
    note = "Layers run one after the other: energy and latency are sums over all layers, repeats included, EDP is the "
    note += "product of the two sums."
    about = "Energy, latency and EDP are those of one of the repeated layers, shares those of all of them."
    return [Table("Network", note, ("quantity", "value"), rows), _layer_table(results, about)]


def _layer_table(results: Sequence[Result], about: str) -> Table:
    energy, cycles, _ = totals(results)
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
    return Table("Layers", about, tuple(columns.split(",")), rows)


def draw_network(results: Sequence[Result], folder: Path) -> list[str]:
    """Draws map.png: energy and latency of the network, stacked layer by layer. Needs Matplotlib (extra ``plot``)."""
    from mapgym.agents.studies.drawing import COLORS, new_panels, save

    # The legend lies below the axis, of as many lines as it needs.
    figure, panels = new_panels(1, 1, (9.0, 0.22 * (len(results) / 3) + 2.8))
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
    figure.legend(fontsize="x-small", ncols=3, loc="outside lower center")
    save(figure, folder / "map.png")
    return ["map.png"]


def _stored_constraints(data: AbcMapping[str, Any] | None, network: Network, path: Path) -> ConstraintsFile | None:
    """The constraints of a definition, for the layers of its network."""
    if data is None:
        return None
    return ConstraintsFile.from_dict(data, str(path)).for_network(layer.workload for layer in network.layers)
