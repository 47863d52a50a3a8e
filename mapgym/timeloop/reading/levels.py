"""Storage levels and MACs of the parts of an architecture: what Timeloop reads of their attributes, and how."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.spec.actions import ACCESSES, MAC_ACTIONS, NAMES_OF_2025, STORAGE_ACTIONS, known_names
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.rules import RULE_SETS
from mapgym.timeloop.reading.documents import Ignored
from mapgym.timeloop.reading.energies import HOW, Estimate, Tables
from mapgym.timeloop.reading.expressions import Names, Number, evaluate, evaluate_number
from mapgym.timeloop.reading.hardware import FANOUT, Part, whole

_WORD_BITS = 16
"""Where nothing is said."""

_WIDTHS = ("word_bits", "word_width", "datawidth")
_PLACES = {"instances", "meshX", "meshY"}
_STORAGE_KEYS = {
    *_WIDTHS,
    *_PLACES,
    *("block_size", "n_words", "cluster_size", "width", "memory_width", "data_storage_width"),
    *("entries", "depth", "memory_depth", "data_storage_depth", "sizeKB", "technology"),
    *("bandwidth", "shared_bandwidth", "read_bandwidth", "write_bandwidth"),
    *("per_dataspace_bandwidth_consumption_scale", "multiple_buffering", "min_utilization", "power_gated_at"),
    *("vector_access_energy", "addr_gen_energy", "router_energy", "wire_energy", "tile_width", "energy_per_hop"),
    *("energy_per_ingress", "metadata_datawidth", "metadata_word_bits", "metadata_storage_width", "metadata_width"),
    *("metadata_storage_depth", "metadata_depth", "metadata_block_size", "decompression_supported"),
    *("compression_supported", "cluster_area", "has_power_gating"),
}
_MAC_KEYS = {*_PLACES, "word_bits", "datawidth", "energy", "area"}

_ELSEWHERE = {
    *("technology", "has_power_gating", "version", "global_cycle_seconds", "cycle_seconds", "action_latency_cycles"),
    *("n_instances", "network_word_bits", "reduction_supported"),
}
"""Attributes that are read elsewhere, or say nothing of one component."""

_HARMLESS: dict[str, tuple[object, ...]] = {
    "network_fill_latency": (0, None),
    "network_drain_latency": (0, None),
    "fill_latency": (0, None),
    "drain_latency": (0, None),
    "allow_overbooking": (False, None),
    "tile_partition_supported": (False, None),
    "concordant_compressed_tile_traversal": (False, None),
    "network_type": (None,),
    "network_read": (None,),
    "network_fill": (None,),
    "network_drain": (None,),
    "network_update": (None,),
    "network_operand": (None,),
    "network_result": (None,),
}
"""Attributes that change what Timeloop counts, which mapgym does not model, and the values that change nothing."""

_ACTIONS_OF_STORAGE = known_names(STORAGE_ACTIONS, *(rules.action_names for rules in RULE_SETS.values()))
_ACTIONS_OF_MACS = known_names(MAC_ACTIONS, *(rules.action_names for rules in RULE_SETS.values()))


@dataclass
class Sources:
    """What levels are made from, besides their parts.

    Attributes:
        tables: energies and areas.
        estimate: of energies that no table has; None if none was chosen.
        ignored: takes what has no effect.
    """

    tables: Tables
    estimate: Estimate | None
    ignored: list[Ignored]


class _Values:
    """The attributes of a part, computed when they are asked for."""

    def __init__(self, part: Part) -> None:
        self._part = part

    def raw(self, *keys: str) -> tuple[str, Any] | None:
        """The first of some attributes that is there, and its value as it is written."""
        for key in keys:
            if self._part.attributes.get(key) is not None:
                return key, self._part.attributes[key]
        return None

    def number(self, *keys: str) -> Number | None:
        """The first of some attributes that is there, as a number."""
        found = self.raw(*keys)
        if found is None:
            return None
        return evaluate_number(found[1], self._names(found[0]), f"{self._part.where}: {found[0]}")

    def count(self, *keys: str, least: int = 1) -> int | None:
        """The first of some attributes that is there, as a whole number."""
        found, value = self.raw(*keys), self.number(*keys)
        return None if found is None or value is None else whole(value, f"{self._part.where}: {found[0]}", least)

    def flag(self, key: str) -> bool | None:
        """An attribute that is true or false."""
        value = self._part.attributes.get(key)
        if isinstance(value, str):
            words = {
                "true": True,
                "yes": True,
                "on": True,
                "y": True,
                "false": False,
                "no": False,
                "off": False,
                "n": False,
            }
            value = words.get(value.lower(), value)
            value = evaluate(value, self._names(key), f"{self._part.where}: {key}") if isinstance(value, str) else value
        if value is not None and value not in (True, False):
            raise SpecificationError(f"{self._part.where}: {key} is {quoted(value)}; give true or false")
        return None if value is None else bool(value)

    def _names(self, key: str) -> Names:
        """What names in the value of an attribute stand for: others of the same part, and what is around it."""
        others = {name: value for name, value in self._part.attributes.items() if name != key}
        return Names(others, self._part.names)


def make_level(part: Part, sources: Sources, has_formats: bool = False) -> StorageLevel:
    """The level of a storage or of a fan-out.

    Args:
        part: the component.
        sources: energies, areas, and where to list what is ignored.
        has_formats: whether it stores a tensor in a format, so that metadata cost energy.

    Raises:
        SpecificationError: an attribute is out of range, says what cannot be modelled, or energies are missing.
    """
    values = _Values(part)
    mesh = _mesh(part, values)
    if part.kind == FANOUT or values.number("entries", "depth", "memory_depth", "data_storage_depth", "sizeKB") == 0:
        if part.kind != FANOUT:
            sources.ignored.append(Ignored(part.file, part.name, "a buffer of no words only fans out"))
        bits = 1 if part.kind == FANOUT else _word_bits(values, _WIDTHS)
        return StorageLevel(part.name, 1, *mesh, access_energy_pj=0.0, word_bits=bits, keep_only=())
    _refuse_unmodelled(part, values, sources.ignored)
    _list_ignored(part, _STORAGE_KEYS, sources)
    word_bits = _word_bits(values, _WIDTHS)
    block, cluster = _block_and_cluster(part, values, word_bits)
    is_dram = "DRAM" in part.klass.split()[0] or part.attributes.get("technology") == "DRAM"
    capacity = _capacity(part, values, block, word_bits)
    if is_dram:
        if capacity is not None:
            sources.ignored.append(Ignored(part.file, f"{part.name}: size", "a DRAM has room for everything"))
        capacity = None
    elif capacity is None:
        raise SpecificationError(f"{part.where}: has no size; give depth, entries or sizeKB, or the class DRAM")
    access, actions = _storage_energies(part, values, sources, has_formats, (capacity, word_bits, block, cluster))
    gate = part.attributes.get("power_gated_at")
    return StorageLevel(
        name=part.name,
        capacity_words=capacity,
        mesh_x=mesh[0],
        mesh_y=mesh[1],
        access_energy_pj=access,
        block_size_words=block,
        word_bits=word_bits,
        cluster_size=cluster,
        action_energies_pj=actions,
        power_gated_at=None if gate in (None, "", part.name) else str(gate),
        multiple_buffering=values.number("multiple_buffering") or 1.0,
        minimum_utilization=values.number("min_utilization") or 0.0,
        area_um2=_area(part, values, sources),
        **_bandwidths(part, values),
        **_wires(part, values, word_bits, sources),
        **_metadata(part, values, is_dram=is_dram),
    )


def make_mac(part: Part, sources: Sources, zero_operands: tuple[str, ...]) -> Mac:
    """The MACs of a compute component.

    Raises:
        SpecificationError: as :func:`make_level`.
    """
    values = _Values(part)
    _refuse_unmodelled(part, values, sources.ignored)
    _list_ignored(part, _MAC_KEYS, sources)
    word_bits = _word_bits(values, ("word_bits", "datawidth"))
    actions = _table_of(part, sources, _ACTIONS_OF_MACS)
    energy = values.number("energy")
    if energy is None and not any(name in actions for name in NAMES_OF_2025["compute"]):
        energy = _estimate(part, sources, "compute").mac_pj(word_bits)
    area = values.number("area")
    mesh = _mesh(part, values)
    return Mac(
        part.name, mesh[0], mesh[1], 0.0 if energy is None else energy, word_bits, zero_operands,
        tuple(actions.items()), sources.tables.areas_um2.get(part.name) if area is None else area,
    )  # fmt: skip


def _mesh(part: Part, values: _Values) -> tuple[int, int]:
    """Instances along X and Y."""
    if part.mesh is not None:
        return part.mesh
    count = values.count("instances") or part.count
    x, y = values.count("meshX"), values.count("meshY")
    if count == 0 and (x is None or y is None):
        raise SpecificationError(
            f"{part.where}: says nothing of how many there are; give instances, or meshX and meshY"
        )
    x, y = (x or (count // y if y else count)), (y or (count // x if x else 1))
    if count and x * y != count:
        raise SpecificationError(
            f"{part.where}: there are {count}, but meshX and meshY make {x} * {y}; mend one of them"
        )
    return x, y


def _word_bits(values: _Values, keys: tuple[str, ...]) -> int:
    return values.count(*keys) or _WORD_BITS


def _block_and_cluster(part: Part, values: _Values, word_bits: int) -> tuple[int, int]:
    """Words of a block, and instances that are built as one."""
    block, cluster = values.count("block_size", "n_words"), values.count("cluster_size")
    width = values.count("width", "memory_width", "data_storage_width")
    if width is None:
        return block or 1, cluster or 1
    if width % (word_bits * (block or 1)):
        raise SpecificationError(
            f"{part.where}: the width of {width} bits holds no whole number of blocks of {block or 1} * "
            f"{word_bits} bits; "
            "mend width, block_size or the width of a word"
        )
    if block and cluster:
        if block * word_bits * cluster != width:
            raise SpecificationError(
                f"{part.where}: block_size * word_bits * cluster_size is {block} * {word_bits} * {cluster}, but "
                "the width "
                f"is {width}; leave one of them out"
            )
        return block, cluster
    if cluster:
        if width % (word_bits * cluster):
            raise SpecificationError(
                f"{part.where}: the width of {width} bits holds no whole number of words of {word_bits} bits "
                "for each of "
                f"{cluster} instances; mend one of them"
            )
        return width // (word_bits * cluster), cluster
    return (block, width // (word_bits * block)) if block else (width // word_bits, 1)


def _capacity(part: Part, values: _Values, block: int, word_bits: int) -> int | None:
    """Words of one instance."""
    entries = values.count("entries")
    if entries is not None:
        return entries
    depth = values.count("depth", "memory_depth", "data_storage_depth")
    if depth is not None:
        return depth * block
    size = values.number("sizeKB")
    if size is None:
        return None
    words = size * 1024 * 8 / word_bits
    return whole(math.floor(words) if math.isfinite(words) else words, f"{part.where}: sizeKB in words")


def _bandwidths(part: Part, values: _Values) -> dict[str, Any]:
    """Limits of reads and writes in words per cycle."""
    both = values.number("bandwidth")
    half = None if both is None else both / 2
    read, write = values.number("read_bandwidth"), values.number("write_bandwidth")
    found: dict[str, Any] = {
        "read_bandwidth_words_per_cycle": half if read is None else read,
        "write_bandwidth_words_per_cycle": half if write is None else write,
        "shared_bandwidth_words_per_cycle": values.number("shared_bandwidth"),
    }
    found = {key: None if value == math.inf else value for key, value in found.items()}
    scales = part.attributes.get("per_dataspace_bandwidth_consumption_scale")
    if scales:
        if not isinstance(scales, Mapping):
            raise SpecificationError(f"{part.where}: bandwidth scales are {quoted(scales)}; give tensor: number pairs")
        where = f"{part.where}: bandwidth scale of"
        found["bandwidth_scale"] = tuple(
            (str(name), evaluate_number(scale, part.names, f"{where} {name}")) for name, scale in scales.items()
        )
    return found


def _wires(part: Part, values: _Values, word_bits: int, sources: Sources) -> dict[str, Any]:
    """Energies of the network between this level and the next inner one."""
    hop, wire, tile = values.number("energy_per_hop"), values.number("wire_energy"), values.number("tile_width")
    found: dict[str, Any] = {
        "router_energy_pj": values.number("router_energy") or 0.0,
        "energy_per_ingress_pj": values.number("energy_per_ingress") or 0.0,
        "address_energy_pj": max(values.number("addr_gen_energy") or 0.0, 0.0),
    }
    if wire is None:
        wire = (sources.tables.energies_pj or {}).get("wire", {}).get("transfer_random")
    if hop is not None:
        found["energy_per_hop_pj"] = hop
    elif wire and tile:
        found |= {"wire_energy_pj_per_bit_mm": wire, "tile_width_um": tile}
    bits = values.count("network_word_bits", least=0)
    if bits is not None and (bits == word_bits or not wire or not tile or hop is not None):
        sources.ignored.append(Ignored(part.file, f"{part.name}: network_word_bits", "no energy depends on it"))
    elif bits is not None:
        raise SpecificationError(
            f"{part.where}: network_word_bits is {bits}, but words have {word_bits} bits; a network of another "
            "width is not "
            "modelled, leave it out or give energy_per_hop"
        )
    return found


def _metadata(part: Part, values: _Values, *, is_dram: bool) -> dict[str, Any]:
    """Room and width of metadata."""
    bits = values.count("metadata_datawidth", "metadata_word_bits", least=0) or 0
    width = values.count("metadata_storage_width", "metadata_width", least=0) or None
    depth = values.count("metadata_storage_depth", "metadata_depth", least=0) or 0
    block = values.count("metadata_block_size") or 1
    if width and bits and width % (bits * block):
        raise SpecificationError(
            f"{part.where}: metadata_storage_width {width} holds no whole number of words of {bits} bits; mend "
            "one of them"
        )
    has_any = bits or width or depth
    return {
        "metadata_word_bits": bits,
        "metadata_access_bits": width,
        "metadata_capacity_bits": None if is_dram or not has_any else depth * (width or 0),
        "decompression_supported": bool(values.flag("decompression_supported")),
        "compression_supported": bool(values.flag("compression_supported")),
    }


def _storage_energies(
    part: Part, values: _Values, sources: Sources, has_formats: bool, shape: tuple[int | None, int, int, int]
) -> tuple[float, tuple[tuple[str, float], ...]]:
    """Energy of an access that no table names, and the table, as Timeloop resolves them."""
    capacity, word_bits, block, cluster = shape
    given = values.number("vector_access_energy")
    if given is not None:
        if (sources.tables.energies_pj or {}).get(part.name):
            why = "its vector_access_energy counts instead, as in Timeloop"
            sources.ignored.append(Ignored(sources.tables.file, f"ERT: {part.name}", why))
        return float(given), ()
    actions = _table_of(part, sources, _ACTIONS_OF_STORAGE)
    if not has_formats:
        for name in [name for name in actions if "metadata" in name]:
            if actions.pop(name):
                why = "the level stores nothing in a format"
                sources.ignored.append(Ignored(sources.tables.file, f"ERT: {part.name}: {name}", why))
    missing = [access for access in ACCESSES if not any(name in actions for name in NAMES_OF_2025[access])]
    if not missing:
        # Rule sets that look for other names find the dearest action, as those versions of Timeloop do.
        return max(actions.values()), tuple(actions.items())
    estimate = _estimate(part, sources, " and ".join(missing))
    if capacity is None:
        return estimate.dram_pj(word_bits, block), tuple(actions.items())
    return estimate.sram_pj(capacity, word_bits, block, cluster), tuple(actions.items())


def _table_of(part: Part, sources: Sources, known: tuple[str, ...]) -> dict[str, float]:
    """What an ERT says of a component, without actions that no version of Timeloop looks for."""
    table = (sources.tables.energies_pj or {}).get(part.name, {})
    for name in table:
        if name not in known:
            why = "Timeloop has no action of the name"
            sources.ignored.append(Ignored(sources.tables.file, f"ERT: {part.name}: {name}", why))
    return {name: energy for name, energy in table.items() if name in known}


def _estimate(part: Part, sources: Sources, what: str) -> Estimate:
    """The estimate of energies that no table has."""
    if sources.tables.energies_pj is not None:
        why = f"no energy of {what}; Timeloop's public PAT model is taken, as Timeloop does"
        sources.ignored.append(Ignored(sources.tables.file, f"ERT: {part.name}", why))
        return sources.estimate or Estimate()
    if sources.estimate is None:
        raise SpecificationError(f"{part.where}: has no energies; {HOW}")
    return sources.estimate


def _area(part: Part, values: _Values, sources: Sources) -> float | None:
    given = values.number("cluster_area")
    if given:
        return given / (values.count("cluster_size") or 1)
    return sources.tables.areas_um2.get(part.name)


def _refuse_unmodelled(part: Part, values: _Values, ignored: list[Ignored]) -> None:
    """Refuses attributes by which Timeloop counts something else than mapgym."""
    for key, harmless in _HARMLESS.items():
        value = part.attributes.get(key)
        if key in part.attributes and value not in harmless:
            raise SpecificationError(
                f"{part.where}: {key} is {quoted(value)}, which changes what Timeloop counts and is not "
                "modelled; leave it "
                "out"
            )
    reduces = values.flag("reduction_supported")
    is_dram = "DRAM" in part.klass.split()[0] or part.attributes.get("technology") == "DRAM"
    if reduces and is_dram:
        why = "only what travels on its network differs"
        ignored.append(Ignored(part.file, f"{part.name}: reduction_supported", why))
    if reduces is False and not is_dram:
        raise SpecificationError(
            f"{part.where}: reduction_supported is false, but only a DRAM that does not add up partial sums in "
            "place is "
            "modelled; leave it out"
        )


def _list_ignored(part: Part, used: set[str], sources: Sources) -> None:
    """Lists the attributes that have no effect."""
    for key in part.attributes:
        if key not in used and key not in _ELSEWHERE:
            why = "no effect" if key in _HARMLESS else "Timeloop does not read it; Accelergy may"
            sources.ignored.append(Ignored(part.file, f"{part.name}: {key}", why))
