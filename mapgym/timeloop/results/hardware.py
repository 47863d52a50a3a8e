"""The accelerator behind results: what SPECS of ``*.stats.txt`` say, with energies of an ERT where there is one.

SPECS are what Timeloop has made of an architecture, defaults and derived figures included, so that no architecture file
is needed. What they do not say is taken from one where it is there: the mesh of levels that are not printed because
they keep nothing, the width of a word of metadata, power gating. Without an ERT, energies per access are as printed,
with two decimals; :class:`Hardware` then also has the accelerator with the least and the largest energies that are
printed so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping as AbcMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.actions import MAC_ACTIONS, STORAGE_ACTIONS, known_names
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.rules import RULE_SETS
from mapgym.timeloop.reading.energies import Energies
from mapgym.timeloop.reading.loops import PrintedLevel
from mapgym.timeloop.results.attributes import Attributes
from mapgym.timeloop.results.printed import Printed, read_optional, read_printed
from mapgym.timeloop.results.stats import Part, Stats

EACH_ACTION, DEAREST_ACTION = "each action", "the dearest action"
"""How Timeloop reads an ERT: until v2.0 (June 2021) every access costs what the dearest action of its level does."""

_PRINTED_ENERGIES = {
    "Vector read energy": ("read",),
    "Vector write energy": ("fill", "update", "write"),
    "Vector metadata read energy": ("metadata_read",),
    "Vector metadata write energy": ("metadata_write",),
    "Per-instance-cycle leakage": ("leak",),
}
"""Label in SPECS -> actions of a table that it stands for."""

_SAVED = ("gated_read", "gated_write", "gated_metadata_read", "gated_metadata_write")
_NAMES = known_names(STORAGE_ACTIONS, *(rules.action_names for rules in RULE_SETS.values()))
_MAC_NAMES = known_names(MAC_ACTIONS, *(rules.action_names for rules in RULE_SETS.values()))
_MESH = re.compile(r"(\d+) \((\d+)\*(\d+)\)$")


@dataclass
class Hardware:
    """The accelerator of some results.

    Attributes:
        accelerator: with the energies of the ERT, or those that are printed.
        cheapest, dearest: with the least and the largest energies that are printed like that; None if the ERT has all.
        reading: how the ERT was read.
        notes: what is not certain, or was left out; sentences.
    """

    accelerator: Accelerator
    cheapest: Accelerator | None = None
    dearest: Accelerator | None = None
    reading: str = EACH_ACTION
    notes: list[str] = field(default_factory=list)

    def changed(self, change: Callable[[Accelerator], Accelerator]) -> Hardware:
        """The same hardware after a change of its accelerators."""
        machines = [None if each is None else change(each) for each in (self.cheapest, self.dearest)]
        return Hardware(change(self.accelerator), machines[0], machines[1], self.reading, self.notes)


def read_hardware(
    stats: Stats,
    nest: Sequence[PrintedLevel],
    energies: Energies,
    reading: str,
    attributes: AbcMapping[str, Attributes],
) -> Hardware:
    """The accelerator of a file.

    Args:
        stats: the file.
        nest: the loops of all storage levels, outermost first, those included that keep nothing.
        energies: the ERT, empty if there is none.
        reading: ``EACH_ACTION`` or ``DEAREST_ACTION``.
        attributes: of the components of an architecture file, empty if there is none.

    Raises:
        SpecificationError: what is printed is no accelerator of ours.
    """
    parts = {level.name: level for level in stats.levels}
    makers = [_Maker(stats, energies, reading, attributes, shift) for shift in (0, -1, 1)]
    exact, low, high = (maker.accelerator(nest, parts) for maker in makers)
    notes = list(dict.fromkeys(makers[0].notes))
    if not makers[0].rounded:
        return Hardware(exact, reading=reading, notes=notes)
    levels = ", ".join(dict.fromkeys(makers[0].rounded))
    notes.append(
        f"no ERT has the energies of {levels}: they are as printed, with two decimals, and a figure counts as equal if "
        "some energy that is printed so gives it"
    )
    return Hardware(exact, low, high, reading, notes)


class _Maker:
    """Makes an accelerator of printed figures, each moved by ``shift`` times half a unit of its last digit."""

    def __init__(
        self, stats: Stats, energies: Energies, reading: str, attributes: AbcMapping[str, Attributes], shift: int
    ) -> None:
        self._stats, self._energies, self._reading = stats, energies, reading
        self._attributes, self._shift = attributes, shift
        self.rounded: list[str] = []
        self.notes: list[str] = []

    def accelerator(self, nest: Sequence[PrintedLevel], parts: dict[str, Part]) -> Accelerator:
        levels: list[StorageLevel] = []
        used = {"X": 1, "Y": 1}
        for number, each in enumerate(nest):
            if each.name in parts:
                levels.append(self._level(parts[each.name]))
            else:
                inner = next((parts[level.name] for level in nest[number:] if level.name in parts), self._stats.mac)
                outer = (levels[-1].mesh_x, levels[-1].mesh_y) if levels else (1, 1)
                # What is spread out further out shows which neighbour it can be like.
                spread = used["X"] > outer[0] or used["Y"] > outer[1]
                levels.append(self._hidden(each.name, self._mesh(inner) if spread else outer))
            for loop in each.loops:
                if loop.side:
                    used[loop.side] *= loop.bound
        return Accelerator(
            name=self._stats.file.name,
            levels=tuple(reversed(levels)),
            mac=self._mac(self._stats.mac),
            peer_links=True,
            fanout_check="cumulative",
        )

    def _where(self, part: Part, label: str) -> str:
        return f"{self._stats.file}: {part.name}: {label}"

    def _number(self, part: Part, *labels: str) -> Printed | None:
        for label in labels:
            if (number := read_optional(part.specs.get(label), self._where(part, label))) is not None:
                return number
        return None

    def _whole(self, part: Part, default: int | None, *labels: str) -> int | None:
        number = self._number(part, *labels)
        return default if number is None else int(number.value)

    def _moved(self, number: Printed, part: Part, scale: float = 1.0) -> float:
        """An energy as it may have been before it was printed."""
        if number.half:
            self.rounded.append(part.name)
        return max(0.0, number.value + self._shift * number.half) * scale

    def _mesh(self, part: Part) -> tuple[int, int]:
        text = part.specs.get("Instances", "")
        match = _MESH.match(text)
        if match is None:
            raise SpecificationError(
                f"{self._where(part, 'Instances')} is {quoted(text)}; such as '168 (14*12)' is expected"
            )
        return int(match[2]), int(match[3])

    def _mac(self, part: Part) -> Mac:
        mesh_x, mesh_y = self._mesh(part)
        table = self._energies.get(part.name)
        energy, actions = 0.0, {}
        if table:
            energy = max(table.values())
            if self._reading == EACH_ACTION:
                actions = {name: value for name, value in table.items() if name in _MAC_NAMES}
        elif (printed := self._number(part, "Compute energy", "Energy-per-op")) is not None:
            energy = self._moved(printed, part)
        return Mac(
            name=part.name,
            mesh_x=mesh_x,
            mesh_y=mesh_y,
            energy_pj=energy,
            word_bits=self._whole(part, 16, "Word bits") or 16,
            action_energies_pj=tuple(actions.items()),
        )

    def _level(self, part: Part) -> StorageLevel:
        mesh_x, mesh_y = self._mesh(part)
        buffering = self._number(part, "Multiple buffering")
        access, actions = self._access_energies(part)
        hop, router, ingress = self._network_energies(part)
        attributes = self._attributes.get(part.name, Attributes())
        return StorageLevel(
            name=part.name,
            capacity_words=self._capacity(part),
            mesh_x=mesh_x,
            mesh_y=mesh_y,
            access_energy_pj=access,
            action_energies_pj=tuple(actions.items()),
            block_size_words=self._whole(part, 1, "Block size", "Data block size") or 1,
            word_bits=self._whole(part, 16, "Word bits", "Data word bits") or 16,
            cluster_size=self._whole(part, 1, "Cluster size") or 1,
            multiple_buffering=1.0 if buffering is None else buffering.value,
            read_bandwidth_words_per_cycle=self._bandwidth(part, "Read bandwidth"),
            write_bandwidth_words_per_cycle=self._bandwidth(part, "Write bandwidth"),
            shared_bandwidth_words_per_cycle=self._bandwidth(part, "Shared bandwidth"),
            bandwidth_scale=self._scales(part),
            energy_per_hop_pj=hop,
            router_energy_pj=router,
            energy_per_ingress_pj=ingress,
            address_energy_pj=attributes.number("addr_gen_energy") or 0.0,
            power_gated_at=self._gate(part, attributes),
            **self._metadata(part, attributes),
        )

    def _hidden(self, name: str, mesh: tuple[int, int]) -> StorageLevel:
        """A level that keeps nothing: it has a mesh, and no other figure is of any effect."""
        known = self._attributes.get(name)
        if known is not None:
            mesh = known.mesh()
        else:
            self.notes.append(
                f"{name} keeps nothing and is not printed, and no architecture says how many there are: "
                f"{mesh[0]}*{mesh[1]} is taken, as there are of a neighbour"
            )
        return StorageLevel(name=name, capacity_words=1, mesh_x=mesh[0], mesh_y=mesh[1], access_energy_pj=0.0)

    def _capacity(self, part: Part) -> int | None:
        words = self._whole(part, None, "Size", "Data storage size")
        # A level without a word keeps nothing.
        return None if words is None else max(1, words)

    def _bandwidth(self, part: Part, label: str) -> float | None:
        number = self._number(part, label)
        return number.value if number is not None and number.value > 0 else None

    def _scales(self, part: Part) -> tuple[tuple[str, float], ...]:
        label = "Bandwidth Consumption Scale"
        scales = {
            name: read_printed(tensor.lines[label], self._where(part, label)).value
            for name, tensor in part.tensors.items()
            if label in tensor.lines
        }
        return tuple((name, scale) for name, scale in scales.items() if scale not in (0.0, 1.0))

    def _gate(self, part: Part, attributes: Attributes) -> str | None:
        gate = attributes.values.get("power_gated_at")
        if isinstance(gate, str) and gate in self._stats.order and gate != part.name:
            return gate
        return None

    def _access_energies(self, part: Part) -> tuple[float, dict[str, float]]:
        """Energy of an access, and of each action."""
        source = part.specs.get("Vector access energy source", "ERT")
        table = self._energies.get(part.name)
        cluster = self._whole(part, 1, "Cluster size") or 1
        if table and source == "ERT":
            dearest = max(table.values()) / cluster
            if self._reading == DEAREST_ACTION:
                return dearest, {}
            return dearest, {name: value for name, value in table.items() if name in _NAMES}
        actions: dict[str, float] = {}
        for label, names in _PRINTED_ENERGIES.items():
            if (printed := self._number(part, label)) is not None:
                actions |= dict.fromkeys(names, self._moved(printed, part))
        vector = self._number(part, "Vector access energy")
        access = self._moved(vector, part) if vector is not None else max(actions.values(), default=0.0)
        if vector is not None:
            # One energy for all accesses, or the dearest of an ERT that is not here.
            actions = {name: value for name, value in actions.items() if name == "leak"}
        elif actions:
            # What is gated has no printed energy; where a table has one, it is next to nothing.
            actions |= dict.fromkeys(_SAVED, 0.0)
        return access, actions

    def _network_energies(self, part: Part) -> tuple[float, float, float]:
        """Energy per hop, of a router and of an ingress, of the network below a level."""
        network = next((each for each in self._stats.networks if each.name.startswith(f"{part.name} <==> ")), None)
        if network is None:
            return 0.0, 0.0, 0.0
        hops = [
            read_printed(tensor.lines["Energy (per-hop)"], self._where(network, "Energy (per-hop)"))
            for tensor in network.tensors.values()
            if "Energy (per-hop)" in tensor.lines
        ]
        hop = max(hops, key=lambda number: number.value, default=None)
        router, ingress = (self._number(network, label) for label in ("Router energy", "Ingress energy"))
        return (
            0.0 if hop is None or not hop.value else self._moved(hop, network, 1e-3),
            0.0 if router is None else self._moved(router, network),
            0.0 if ingress is None else self._moved(ingress, network),
        )

    def _metadata(self, part: Part, attributes: Attributes) -> dict[str, Any]:
        """Arguments of a StorageLevel for metadata."""
        width = self._whole(part, 0, "Metadata storage width(bits)")
        if not width:
            return {}
        word = attributes.number("metadata_datawidth", "metadata_word_bits", "metadata_data_width")
        return {
            "metadata_word_bits": width if word is None else int(word),
            "metadata_access_bits": width,  # whatever depth there is, the tiles have fitted
        }
