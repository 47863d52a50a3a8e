"""A network on variants of an accelerator, side by side.

Each layer of a variant begins its search from the same layer of the variants beside it, in which one value is the one
before, and from the layers of its own variant that are most like it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping as AbcMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mapgym.agents.files.tables import Table
from mapgym.agents.studies.cells import Cell, Result
from mapgym.agents.studies.network.layer_search import NEIGHBOURS, LayerSearch, SearchSettings, Source, most_similar
from mapgym.agents.studies.network.network_map import layer_cell, totals
from mapgym.errors import SpecificationError, suggest
from mapgym.errors.text import quoted
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.catalog import Network
from mapgym.spec.levels import Mac, StorageLevel

MOST_VARIANTS = 1024


@dataclass(frozen=True)
class Choice:
    """One thing that is varied.

    Attributes:
        key: as it was named, such as "GlobalBuffer.capacity_words".
        part: the level, the MACs, or "" for the accelerator itself.
        field: of it.
        values: what it takes, in order.
    """

    key: str
    part: str
    field: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Variant:
    """One combination.

    Attributes:
        values: of each choice, by index.
        label: such as "GlobalBuffer.capacity_words=32768".
        accelerator: the hardware.
    """

    values: tuple[int, ...]
    label: str
    accelerator: Accelerator


def read_choice(text: str, accelerator: Accelerator) -> Choice:
    """Reads ``--set PART.FIELD=VALUE,VALUE``.

    Args:
        text: as it was typed. PART is a storage level or the MACs; without one, FIELD is of the accelerator itself.
            Values are written as in YAML.
        accelerator: that is varied.

    Raises:
        SpecificationError: it says something else, or names what the accelerator does not have.
    """
    key, equals, values = text.partition("=")
    key = key.strip()
    if not equals or not key or not values.strip():
        raise SpecificationError(
            f"--set: {quoted(text)} is no LEVEL.FIELD=VALUE,VALUE; write such as "
            f"'{accelerator.level_names[0]}.capacity_words=64,128'"
        )
    part, _, field = key.rpartition(".")
    parts = (*accelerator.level_names, accelerator.mac.name)
    if part and part not in parts:
        raise SpecificationError(
            f"--set: there is no {quoted(part)} in {quoted(accelerator.name)}; {suggest(part, parts)}"
        )
    try:
        read = yaml.safe_load(f"[{values}]")
    except yaml.YAMLError:
        raise SpecificationError(f"--set: the values of {quoted(key)} cannot be read: {quoted(values)}") from None
    if not read or any(isinstance(value, dict | list) for value in read):
        raise SpecificationError(f"--set: the values of {quoted(key)} are {quoted(values)}; give such as 64,128")
    if len(set(map(repr, read))) < len(read):
        raise SpecificationError(f"--set: {quoted(key)} is given a value twice; give each value once")
    return Choice(key, part, field, tuple(read))


def make_variants(accelerator: Accelerator, choices: Sequence[Choice]) -> list[Variant]:
    """All combinations, the last choice varying fastest.

    Raises:
        SpecificationError: there are too many, or one of them is no accelerator; names its values.
    """
    names = [choice.key for choice in choices]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SpecificationError(f"--set: {quoted(twice)} is given twice; give all of its values at once")
    combinations = list(itertools.product(*(range(len(choice.values)) for choice in choices)))
    if len(combinations) > MOST_VARIANTS:
        raise SpecificationError(f"--set: {len(combinations):,} combinations are too many; at most {MOST_VARIANTS:,}")
    variants = []
    for indices in combinations:
        picked = [(choice, choice.values[k]) for choice, k in zip(choices, indices, strict=True)]
        label = ", ".join(f"{choice.key}={_text(value)}" for choice, value in picked)
        try:
            variants.append(Variant(indices, label, Accelerator.from_dict(_changed(accelerator, picked))))
        except SpecificationError as error:
            raise SpecificationError(f"--set: {label}: {str(error).removeprefix('accelerator: ')}") from None
    return variants


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else "none" if value is None else str(value)


def _changed(accelerator: Accelerator, picked: Sequence[tuple[Choice, Any]]) -> dict[str, Any]:
    data: dict[str, Any] = accelerator.to_dict()
    parts = {entry["name"]: entry for entry in (*data["levels"], data["mac"])}
    for choice, value in picked:
        place = parts[choice.part] if choice.part else data
        if choice.field == "name" or (not choice.part and choice.field in ("levels", "mac")):
            raise SpecificationError(f"{quoted(choice.field)} cannot be varied; vary what it consists of")
        if value is None:
            place.pop(choice.field, None)
        else:
            place[choice.field] = value
    return data


@dataclass(frozen=True)
class Sweep:
    """A network on all variants.

    Attributes:
        network: what is mapped.
        variants: on what.
        choices: what is varied.
        settings: of the search of each layer.
    """

    network: Network
    variants: Sequence[Variant]
    choices: Sequence[Choice]
    settings: SearchSettings

    def cells(self) -> list[Cell]:
        """A piece of work for each layer of each variant, each after those that it begins from."""
        found = []
        by_values = {variant.values: variant for variant in self.variants}
        for variant in self.variants:
            beside = self._beside(variant, by_values)
            for k, layer in enumerate(self.network.layers):
                sources = [Source(layer.workload, other.accelerator) for other in beside]
                needs = [self._cell_name(other, layer.name) for other in beside]
                for near in most_similar(layer, self.network.layers[:k], NEIGHBOURS - len(beside)):
                    sources.append(Source(near.workload, variant.accelerator))
                    needs.append(self._cell_name(variant, near.name))
                search = LayerSearch(layer, variant.accelerator, self.settings, sources)
                found.append(layer_cell(search, self._cell_name(variant, layer.name), needs))
        return found

    def _cell_name(self, variant: Variant, layer: str) -> str:
        return f"{variant.label}: {self.network.name}/{layer}"

    def _beside(self, variant: Variant, by_values: AbcMapping[tuple[int, ...], Variant]) -> list[Variant]:
        """The variants in which one value is the one before, the last choice first."""
        found = []
        for place in reversed(range(len(variant.values))):
            if variant.values[place] > 0:
                before = list(variant.values)
                before[place] -= 1
                found.append(by_values[tuple(before)])
        return found

    def by_variant(self, results: Sequence[Result]) -> list[tuple[Variant, Sequence[Result]]]:
        """The results of the cells, in their order, of each variant."""
        layers = len(self.network.layers)
        return [(variant, results[k * layers : (k + 1) * layers]) for k, variant in enumerate(self.variants)]

    def tables(self, results: Sequence[Result]) -> list[Table]:
        """The variants with their totals, then all layers."""
        found = self.by_variant(results)
        figures = [totals(of) for _, of in found]
        front = on_front([(energy, cycles) for energy, cycles, _ in figures])
        areas = [area_of(variant.accelerator) for variant in self.variants]
        columns = [*(choice.key for choice in self.choices), "energy (pJ)", "latency (cycles)", "EDP (pJ*cycles)"]
        columns += ["x least EDP", "MACs per cycle", "TOPS/W", "on the front of energy and latency"]
        with_area = all(area is not None for area in areas)
        if with_area:
            columns += ["area (mm2)", "on the front with area"]
            large = on_front([(e, c, float(a or 0)) for (e, c, _), a in zip(figures, areas, strict=True)])
        least = min(energy * cycles for energy, cycles, _ in figures)
        rows: list[list[object]] = []
        for k, (variant, _) in enumerate(found):
            energy, cycles, macs = figures[k]
            row: list[object] = [choice.values[i] for choice, i in zip(self.choices, variant.values, strict=True)]
            row += [energy, cycles, energy * cycles, energy * cycles / least, macs / cycles, 2.0 * macs / energy]
            row.append("yes" if front[k] else "no")
            if with_area:
                row += [areas[k], "yes" if large[k] else "no"]
            rows.append(row)
        note = (
            "Totals of the network, repeats included. Everything that is not varied stays as the accelerator says, the "
        )
        note += (
            "energies of accesses too: vary them along with a capacity if they should follow it. A variant is on the "
        )
        note += "front if no other is better in one respect and no worse in the others."
        details: list[list[object]] = [
            [variant.label, result["layer"], result["repeats"], *(result[name] for name in _FIGURES)]
            for variant, of in found
            for result in of
        ]
        about = "Energy, latency and EDP of one of the repeated layers."
        names = (
            "variant,layer,repeats,energy (pJ),latency (cycles),EDP (pJ*cycles),utilization,x lower bound,begun from"
        )
        return [
            Table("Variants", note, tuple(columns), rows),
            Table("Layers", about, tuple(names.split(",")), details),
        ]

    def draw(self, results: Sequence[Result], folder: Path) -> list[str]:
        """Draws sweep.png: energy against latency, and the front. Needs Matplotlib (extra ``plot``)."""
        from mapgym.agents.studies.drawing import COLORS, new_panels, save

        points = [totals(of)[:2] for _, of in self.by_variant(results)]
        front = on_front(points)
        figure, panels = new_panels(1, 1, (8.0, 5.0))
        panel = panels[0]
        best = sorted(point for point, is_best in zip(points, front, strict=True) if is_best)
        panel.plot([c for _, c in best], [e for e, _ in best], color=COLORS[1], drawstyle="steps-post", label="front")
        panel.scatter([c for _, c in points], [e for e, _ in points], color=COLORS[0], label="variants", zorder=3)
        for (energy, cycles), variant in zip(points, self.variants, strict=True):
            text = ", ".join(_text(choice.values[i]) for choice, i in zip(self.choices, variant.values, strict=True))
            panel.annotate(text, (cycles, energy), textcoords="offset points", xytext=(4, 4), fontsize="xx-small")
        panel.set_xlabel("latency (cycles)")
        panel.set_ylabel("energy (pJ)")
        panel.set_title(", ".join(choice.key for choice in self.choices), fontsize="small")
        panel.legend()
        save(figure, folder / "sweep.png")
        return ["sweep.png"]


_FIGURES = ("energy_pj", "latency_cycles", "edp", "utilization", "ratio", "begun_from")


def on_front(points: Sequence[tuple[float, ...]]) -> list[bool]:
    """Which points no other point beats: better in one respect and no worse in the others."""

    def beats(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
        return all(x <= y for x, y in zip(a, b, strict=True)) and a != b

    return [not any(beats(other, point) for other in points) for point in points]


def area_of(accelerator: Accelerator) -> float | None:
    """Area in mm2 of all instances, None unless all levels with a capacity and the MACs give one."""
    parts: list[StorageLevel | Mac] = [level for level in accelerator.levels if level.capacity_words is not None]
    areas = [(getattr(part, "area_um2", None), part.instances) for part in (*parts, accelerator.mac)]
    if any(area is None for area, _ in areas):
        return None
    return sum(area * count for area, count in areas if area is not None) * 1e-6
