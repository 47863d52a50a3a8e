"""The architectures of Timeloop's records: from flat descriptions in JSON, or the catalog's."""

from __future__ import annotations

from collections.abc import Mapping as AbcMapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mapgym.errors import SpecificationError, suggest
from mapgym.errors.text import quoted
from mapgym.spec import catalog
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.rules import DEFAULT_RULES
from mapgym.system.input_file import parse_json, read_text
from mapgym.timeloop.records.sparse_records import metadata_storage

BESIDE = "arch_extra.json.gz"
"""Descriptions in a file of this name beside the records are read without being named."""

_KIND = "the file with the architectures"
_COUNTED = {"decompression": "decompression_count", "compression": "compression_count"}
"""Actions of a description whose energies have other names in a table; the others are called the same."""

_COMPUTED = {"random": "mac_random", "gated": "mac_gated", "skipped": "mac_skipped"}
"""The same for the MACs."""


def read_architectures(records: Path, files: Sequence[Path]) -> dict[str, Any]:
    """The flat descriptions by name.

    Of several that have a name, that of the first file counts, and the one beside the records last.

    Args:
        records: the file of records.
        files: what the user has named, .json or .json.gz.

    Raises:
        SpecificationError: a file cannot be read, or is something else.
    """
    beside = records.parent / BESIDE
    found: dict[str, Any] = {}
    for file in (*files, *([beside] if beside.is_file() else [])):
        data = parse_json(read_text(file, _KIND), str(file), f"give {_KIND}")
        if not isinstance(data, dict):
            raise SpecificationError(f"{file}: is not an object of architecture descriptions; one key per architecture")
        found = data | found
    return found


def timeloop_accelerator(
    name: str, architectures: AbcMapping[str, Any] | None, where: str, rules: str = DEFAULT_RULES
) -> Accelerator:
    """The accelerator of a record, as Timeloop sees it: peer links on, only cumulative fan-out checks.

    Args:
        name: the architecture.
        architectures: name -> flat description; the catalog has the others.
        where: for error messages.
        rules: the counting rules.
    """
    described = architectures or {}
    if name in described:
        return _described(name, described[name], rules)
    if name not in catalog.accelerator_names():
        if described:
            hint = suggest(name, (*described, *catalog.accelerator_names()))
            raise SpecificationError(f"{where}: architecture {quoted(name)} is not described; {hint}")
        raise SpecificationError(
            f"{where}: architecture {quoted(name)} is not in the catalog; give its description with --arch"
        )
    accelerator = catalog.accelerator(name)
    # keep_only describes a map space; Timeloop's model lets any level hold any tensor.
    levels = tuple(replace(level, keep_only=None) for level in accelerator.levels)
    return replace(accelerator, levels=levels, peer_links=True, fanout_check="cumulative", rules=rules)


def _described(name: str, entry: AbcMapping[str, Any], rules: str) -> Accelerator:
    """The accelerator of a flat description."""
    try:
        levels = tuple(_level(level) for level in reversed(entry["levels"]))
        mac = entry["mac"]
        energies = {_COMPUTED[action]: energy for action, energy in (mac.get("op_energy") or {}).items()}
        units = Mac(
            name=mac["name"],
            mesh_x=mac["meshX"],
            mesh_y=mac["meshY"],
            energy_pj=mac["energy_pJ_per_mac"],
            word_bits=mac["word_bits"],
            action_energies_pj=tuple(energies.items()),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise SpecificationError(f"architecture {quoted(name)}: {error} is missing in its description") from None
    return Accelerator(name, levels, units, peer_links=True, fanout_check="cumulative", rules=rules)


def _level(level: AbcMapping[str, Any]) -> StorageLevel:
    """A storage level of a flat description."""
    wire_energy, tile_width = level.get("wire") or (0.0, 0.0)
    features: dict[str, Any] = {
        "energy_per_ingress_pj": level.get("ingress_energy") or 0.0,
        "wire_energy_pj_per_bit_mm": wire_energy,
        "tile_width_um": tile_width,
        # What a description gives along with a wire is what follows from it.
        "energy_per_hop_pj": 0.0 if wire_energy else level["energy_per_hop_pJ"],
        "address_energy_pj": level.get("addr_gen_energy") or 0.0,
        "power_gated_at": level.get("power_gated_at"),
        "cluster_size": level.get("cluster_size") or 1,
        "multiple_buffering": level.get("multiple_buffering") or 1.0,
        "bandwidth_scale": tuple((level.get("bw_scale") or {}).items()),
        "action_energies_pj": _energies(level),
    }
    return StorageLevel(
        name=level["name"],
        capacity_words=level["capacity_words"],
        mesh_x=level["meshX"],
        mesh_y=level["meshY"],
        access_energy_pj=level["vector_access_energy_pJ"],
        block_size_words=level["block_size_words"],
        word_bits=level["word_bits"],
        read_bandwidth_words_per_cycle=level["read_bandwidth"],
        write_bandwidth_words_per_cycle=level["write_bandwidth"],
        shared_bandwidth_words_per_cycle=level["shared_bandwidth"],
        router_energy_pj=level["router_energy_pJ"],
        **{**features, **metadata_storage(level)},
    )


def _energies(level: AbcMapping[str, Any]) -> tuple[tuple[str, float], ...]:
    """The energies of actions: those that Timeloop has resolved, each under a name that only this action has."""
    resolved: dict[str, float] = dict(level.get("op_energy") or {})
    if level.get("leak"):
        resolved["leak"] = level["leak"]
    return tuple((_COUNTED.get(action) or action, energy) for action, energy in resolved.items())
