"""A mapping as Timeloop's directives."""

from __future__ import annotations

from collections.abc import Mapping as AbcMapping, Sequence
from typing import Any

from mapgym.mapping import Mapping
from mapgym.spec.accelerator import Accelerator


def directives_of(mapping: Mapping, accelerator: Accelerator, names: AbcMapping[str, str]) -> list[dict[str, Any]]:
    """The section ``mapping``, outermost level first; orders innermost first, as both have them.

    Args:
        mapping: the mapping.
        accelerator: what it is onto.
        names: of dims, levels and tensors -> Timeloop's.
    """
    found: list[dict[str, Any]] = []
    for s in reversed(range(len(mapping.levels))):
        target = names[mapping.levels[s]]
        on_x, on_y = mapping.spatial_sides(s)
        kept = [names[tensor] for tensor, keeps in zip(mapping.tensors, mapping.keep[s], strict=True) if keeps]
        passed = [names[tensor] for tensor in mapping.tensors if names[tensor] not in kept]
        found.append({"target": target, "type": "datatype", "keep": kept, "bypass": passed})
        if accelerator.fanout_x[s] * accelerator.fanout_y[s] > 1 or on_x or on_y:
            loops = _complete([*on_x, *on_y], mapping.dims)
            found.append({"target": target, "type": "spatial", **_loops(loops, names), "split": len(on_x)})
        loops = _complete(mapping.temporal_loops(s), mapping.dims)
        found.append({"target": target, "type": "temporal", **_loops(loops, names)})
    return found


def _complete(loops: Sequence[tuple[str, int]], dims: Sequence[str]) -> list[tuple[str, int]]:
    named = [dim for dim, _ in loops]
    return [*loops, *((dim, 1) for dim in dims if dim not in named)]


def _loops(loops: Sequence[tuple[str, int]], names: AbcMapping[str, str]) -> dict[str, str]:
    order = [names[dim] for dim, _ in loops]
    together = all(len(dim) == 1 for dim in order)
    return {
        "factors": " ".join(f"{names[dim]}={factor}" for dim, factor in loops),
        "permutation": "".join(order) if together else ",".join(order),
    }
