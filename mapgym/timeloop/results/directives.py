"""What a mapping of Timeloop says about hardware: links, reuse over time and multicast that it does without."""

from __future__ import annotations

from collections.abc import Mapping as AbcMapping
from dataclasses import replace

from mapgym.spec.accelerator import Accelerator

_TEMPORAL = ("no_reuse", "no_temporal_reuse")
_SPATIAL = ("no_reuse", "no_multicast", "no_multicast_no_reduction")


def with_directives(accelerator: Accelerator, data: object) -> Accelerator:
    """The accelerator that does without what a mapping does without.

    Args:
        accelerator: what has been read of the hardware.
        data: what the key ``mapping`` has.
    """
    nodes = [node for node in data if isinstance(node, AbcMapping)] if isinstance(data, list) else []
    levels = {level.name: level for level in accelerator.levels}
    links = accelerator.peer_links
    for node in nodes:
        level = levels.get(str(node.get("target")))
        kind = node.get("type")
        if kind == "spatial" and _named(node, "no_link_transfer"):
            links = False
        if level is None:
            continue
        if kind == "temporal" and (tensors := _named(node, *_TEMPORAL)):
            levels[level.name] = replace(level, no_temporal_reuse=tensors)
        if kind == "spatial" and (tensors := _named(node, *_SPATIAL)):
            levels[level.name] = replace(level, no_multicast=tensors)
    if links == accelerator.peer_links and all(levels[level.name] is level for level in accelerator.levels):
        return accelerator
    return replace(accelerator, levels=tuple(levels.values()), peer_links=links)


def _named(node: AbcMapping[str, object], *keys: str) -> tuple[str, ...]:
    """The tensors under some keys of a directive."""
    found: dict[str, None] = {}
    for key, value in node.items():
        if str(key).replace("-", "_") in keys and isinstance(value, list):
            found.update(dict.fromkeys(map(str, value)))
    return tuple(found)
