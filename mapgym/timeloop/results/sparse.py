"""Sparse features behind results: ``sparse_optimizations`` as Timeloop's front end has left them."""

from __future__ import annotations

from collections.abc import Mapping as AbcMapping
from dataclasses import replace
from typing import Any

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import StorageLevel
from mapgym.spec.sparsity import OUTER_FIRST, is_compressed, parse_actions


def with_sparse_optimizations(accelerator: Accelerator, data: object, where: str) -> Accelerator:
    """The accelerator with the features of a file.

    Args:
        accelerator: what has been read of the hardware.
        data: what the key ``sparse_optimizations`` has.
        where: the file, for messages.

    Raises:
        SpecificationError: a feature that ours do not have.
    """
    levels = {level.name: level for level in accelerator.levels}
    mac = accelerator.mac
    targets = _keyed(data).get("targets")
    for entry in targets if isinstance(targets, list) else []:
        target = _keyed(entry)
        name = str(target.get("name"))
        place = f"{where}: sparse_optimizations of {quoted(name)}"
        if (compute := target.get("compute_optimization")) is not None:
            kinds = [str(_keyed(each).get("type")) for each in _listed(compute)]
            mac = replace(mac, zero_operands=tuple(kinds))
        if name in levels:
            levels[name] = _with_features(levels[name], target, place)
        elif name != mac.name:
            raise SpecificationError(f"{place}: there is no such level; name one of {', '.join(levels)}")
    return with_conversions(replace(accelerator, mac=mac, levels=tuple(levels.values())))


def with_conversions(accelerator: Accelerator) -> Accelerator:
    """The accelerator with levels that unpack what they get packed and store plain: results show that it was done."""
    levels = []
    for s, level in enumerate(accelerator.levels):
        own = dict(level.formats)
        packed = {
            tensor
            for outer in accelerator.levels[s + 1 :]
            for tensor, ranks in outer.formats
            if is_compressed(ranks) and not is_compressed(own.get(tensor, ()))
        }
        converts = bool(packed)
        levels.append(replace(level, decompression_supported=converts, compression_supported=converts))
    return replace(accelerator, levels=tuple(levels))


def _with_features(level: StorageLevel, target: dict[str, Any], where: str) -> StorageLevel:
    formats: dict[str, tuple[str, ...]] = {}
    spaces = _keyed(target.get("representation_format")).get("data_spaces")
    for entry in map(_keyed, _listed(spaces)):
        ranks = [_keyed(rank) for rank in _listed(entry.get("ranks"))]
        if any(len(_listed(rank.get("flattened_rankIDs"))) > 1 for rank in ranks):
            raise SpecificationError(
                f"{where}: flattened_rankIDs of a rank are several lists of dims, and ours are one; give one of them"
            )
        order = str(entry.get("rank_application_order", OUTER_FIRST)).replace("_", "-")
        first = (OUTER_FIRST,) if order == OUTER_FIRST and len(ranks) > 1 else ()
        formats[str(entry.get("name"))] = first + tuple(_rank(rank, level.metadata_word_bits) for rank in ranks)
    actions = [
        {
            "type": str(_keyed(action).get("type")),
            "target": option.get("target"),
            "condition_on": _listed(option.get("condition_on")),
        }
        for action in _listed(target.get("action_optimization"))
        for option in map(_keyed, _listed(_keyed(action).get("options")))
    ]
    return replace(level, formats=tuple(formats.items()), actions=parse_actions(actions, where))


def _rank(rank: dict[str, Any], word_bits: int) -> str:
    """A rank as our formats write it, with the bits of its words where they are given."""
    name = str(rank.get("format")).upper()
    metadata, payload = (rank.get(f"{part}_word_bits") for part in ("metadata", "payload"))
    joined = [str(dim) for dims in _listed(rank.get("flattened_rankIDs")) for dim in _listed(dims)]
    text = f"{name}@{'+'.join(joined)}" if joined else name
    if metadata is None and payload is None:
        return text
    default = 1 if name == "B" else word_bits
    return f"{text}:{default if metadata is None else metadata}/{word_bits if payload is None else payload}"


def _listed(data: object) -> list[Any]:
    return data if isinstance(data, list) else []


def _keyed(data: object) -> dict[str, Any]:
    """A mapping with underscores in its keys; empty for anything else."""
    return {str(key).replace("-", "_"): value for key, value in data.items()} if isinstance(data, AbcMapping) else {}
