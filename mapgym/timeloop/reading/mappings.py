"""Timeloop's mappings, read into ours.

Three forms say the same: a list of directives, which people write (v0.2 to v0.4: ``type: temporal``, ``spatial`` and
``bypass``, ``datatype`` or ``dataspace``); ``*.map.yaml``, which its mapper writes in these words; and the loops of
``*.map.txt``. Each becomes one :class:`LevelPlan` for each level, and :func:`make_mapping` a mapping of those.

What Timeloop does with what is left out holds here too: a factor is 1, loops that a permutation does not name lie
outside of those that it does, all spatial loops lie on X, and a level keeps every tensor that it may.
"""

from __future__ import annotations

import re
from collections.abc import Mapping as AbcMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mapgym.errors import SpecificationError, suggest
from mapgym.errors.text import quoted
from mapgym.mapping import Mapping
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.workload import Workload
from mapgym.timeloop.reading.directives import (
    BYPASS_TYPES,
    dim_of,
    level_of,
    permutation_of,
    split_of,
    target_of,
    tensor_of,
    tensors_of,
)
from mapgym.timeloop.reading.loops import PrintedLevel, looks_like_nest, parse_nest

_TYPES = ("temporal", "spatial", *BYPASS_TYPES)
_KEYS = {
    "temporal": ("target", "name", "type", "factors", "permutation"),
    "spatial": ("target", "name", "type", "factors", "permutation", "split"),
    **dict.fromkeys(BYPASS_TYPES, ("target", "name", "type", "keep", "bypass")),
}
_MEANT = {
    "no_reuse": "no_temporal_reuse or no_multicast",
    "no_temporal_reuse": "no_temporal_reuse",
    "no_multicast": "no_multicast",
    "no_multicast_no_reduction": "no_multicast",
}
"""What a directive says of reuse -> the key of a level of ours that says it."""


@dataclass
class LevelPlan:
    """What a mapping says of one level.

    Attributes:
        temporal: dim -> factor, innermost first, with the loops of bound 1 that the source has.
        spatial: the same for loops across the mesh; ``split`` of them are on X, the others on Y.
        split: how many; None for all.
        keep: tensor -> whether it is kept; the others are if they may be.
        seen: the directives that have been read.
    """

    temporal: dict[str, int] = field(default_factory=dict)
    spatial: dict[str, int] = field(default_factory=dict)
    split: int | None = None
    keep: dict[str, bool] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)


Plans = dict[str, LevelPlan]
"""By the names of levels."""


def looks_like_timeloop(data: object) -> bool:
    """Whether the content of a YAML file is a mapping of Timeloop's."""
    nodes = _nodes(data)
    return isinstance(nodes, list) and any(isinstance(node, AbcMapping) and "type" in node for node in nodes)


def looks_like_printed_nest(text: str) -> bool:
    """Whether a text is a nest as ``*.map.txt`` prints it."""
    return looks_like_nest(text)


def read_timeloop_mapping(data: object, workload: Workload, accelerator: Accelerator, where: str) -> Mapping:
    """The mapping in the content of a YAML file.

    Args:
        data: ``mapping`` with a list of directives, or the list itself.
        workload, accelerator: what it is a mapping of.
        where: the file, for messages.

    Raises:
        SpecificationError: names a level, dim, tensor or key that there is not, or says what our mappings cannot.
    """
    nodes = _nodes(data)
    if not isinstance(nodes, list):
        raise SpecificationError(f"{where}: mapping is {quoted(nodes)}; give a list of directives")
    return make_mapping(read_directives(nodes, workload, accelerator, where), workload, accelerator, where)


def read_printed_nest(text: str, workload: Workload, accelerator: Accelerator, where: str) -> Mapping:
    """The mapping that ``*.map.txt`` prints; see :func:`read_timeloop_mapping`."""
    return make_mapping(plans_of(parse_nest(text, where), accelerator, workload, where), workload, accelerator, where)


def plans_of(levels: Sequence[PrintedLevel], accelerator: Accelerator, workload: Workload, where: str) -> Plans:
    """What a printed nest says of each level: it names all of them, and shows only what is kept."""
    plans: Plans = {}
    for level in levels:
        name, place = level.name, f"{where}: level {quoted(level.name)}"
        level_of(name, accelerator, where)
        if name in plans:
            raise SpecificationError(f"{place} is there twice; give one mapping")
        plan = plans[name] = LevelPlan(keep={tensor.name: tensor.name in level.words for tensor in workload.tensors})
        for tensor in level.words:
            tensor_of(tensor, workload, place)
        sides: dict[str, dict[str, int]] = {"": {}, "X": {}, "Y": {}}
        for loop in reversed(level.loops):
            dim_of(loop.dim, workload, place)
            among = [sides[""]] if not loop.side else [sides["X"], sides["Y"]]
            if any(loop.dim in factors for factors in among):
                if loop.bound == 1:
                    continue
                raise SpecificationError(
                    f"{place} has two loops of {quoted(loop.dim)}, and ours have one of each dim; join them"
                )
            sides[loop.side][loop.dim] = loop.bound
        plan.temporal, plan.spatial, plan.split = sides[""], sides["X"] | sides["Y"], len(sides["X"])
    for name in accelerator.level_names:
        if name not in plans:
            raise SpecificationError(f"{where}: level {quoted(name)} is missing; give the nest of this accelerator")
    return plans


def read_directives(nodes: Sequence[Any], workload: Workload, accelerator: Accelerator, where: str) -> Plans:
    """What directives say of each level that they name."""
    plans: Plans = {}
    for number, node in enumerate(nodes, 1):
        place = f"{where}: directive {number}"
        if not isinstance(node, AbcMapping):
            raise SpecificationError(f"{place} is {quoted(node)}; give target, type, factors and permutation")
        kind = str(node.get("type", "")).lower()
        if kind not in _TYPES:
            raise SpecificationError(f"{place}: its type is {quoted(node.get('type'))}; {suggest(kind, _TYPES)}")
        name = target_of(node.get("target", node.get("name")), kind, accelerator, place)
        place += f", {kind} of {quoted(name)}"
        _refuse_others(node, kind, place)
        plan = plans.setdefault(name, LevelPlan())
        if kind not in BYPASS_TYPES:
            if kind in plan.seen:
                raise SpecificationError(f"{place}: is given twice; remove one")
            plan.seen.add(kind)
            order = permutation_of(node.get("permutation"), workload, place)
            given = _factors(node.get("factors"), workload, place)
            order += [dim for dim in workload.dims if dim not in order]
            loops = {dim: given.get(dim, 1) for dim in order}
            if kind == "temporal":
                plan.temporal = loops
            else:
                plan.spatial, plan.split = loops, split_of(node.get("split"), place)
            continue
        for key, kept in (("keep", True), ("bypass", False)):
            for tensor in tensors_of(node.get(key), workload, f"{place}: {key}"):
                plan.keep[tensor] = kept
    _fill_in(plans, workload, where)
    return plans


def _fill_in(plans: Plans, workload: Workload, where: str) -> None:
    """A factor of 0 is what the other factors of its dim leave of the bound."""
    for dim, bound in zip(workload.dims, workload.bounds, strict=True):
        loops = [factors for plan in plans.values() for factors in (plan.temporal, plan.spatial) if dim in factors]
        open_ones = [factors for factors in loops if factors[dim] == 0]
        if not open_ones:
            continue
        product = 1
        for factors in loops:
            product *= factors[dim] or 1
        if len(open_ones) > 1 or bound % product:
            raise SpecificationError(
                f"{where}: {len(open_ones)} factors of {quoted(dim)} are 0, which stands for what the others leave of "
                f"its bound {bound}, and these make {product}; give each factor"
            )
        open_ones[0][dim] = bound // product


def make_mapping(plans: Plans, workload: Workload, accelerator: Accelerator, where: str) -> Mapping:
    """The mapping that plans describe; levels without one have factors of 1.

    That factors multiply to the bounds and tiles fit is legality, which the cost model judges.
    """
    mapping = Mapping.trivial(workload, accelerator)
    mapping.temporal[:] = 1
    dims = workload.dims
    for name, plan in plans.items():
        s = accelerator.level_index(name)
        for factors, array in ((plan.temporal, mapping.temporal), (plan.spatial, mapping.spatial)):
            for dim, factor in factors.items():
                if factor >= 2**31:
                    raise SpecificationError(f"{where}: the factor {factor} of {quoted(dim)} is beyond 2**31")
                array[s, dims.index(dim)] = factor
        for factors, order in ((plan.temporal, mapping.order), (plan.spatial, mapping.spatial_order)):
            named = [dims.index(dim) for dim in factors]
            order[s] = named + [d for d in range(len(dims)) if d not in named]
        mapping.spatial_split[s] = len(dims) if plan.split is None else min(plan.split, len(dims))
        for tensor, kept in plan.keep.items():
            mapping.keep[s, mapping.tensors.index(tensor)] = kept
    return mapping


def _nodes(data: object) -> object:
    """The list of directives, wherever a version has it."""
    if isinstance(data, AbcMapping) and "mapping" in data:
        data = data["mapping"]
    if isinstance(data, AbcMapping):
        data = data.get("nodes")
    return data


def _refuse_others(node: AbcMapping[Any, Any], kind: str, where: str) -> None:
    """Raises SpecificationError for what a directive says besides; what says nothing, such as [], may be there."""
    for key, value in node.items():
        name = str(key).replace("-", "_")
        if name in _KEYS[kind] or value in (None, [], {}, "", False) or name in ("stream", "meta", "enabled"):
            continue
        if name == "no_link_transfer":
            raise SpecificationError(
                f"{where}: {quoted(key)} is {quoted(value)}, which is a property of the hardware here; give the "
                "accelerator peer_links: false and remove it"
            )
        if name in _MEANT:
            raise SpecificationError(
                f"{where}: {quoted(key)} is {quoted(value)}, which is a property of the hardware here; give the level "
                f"of the accelerator the key {_MEANT[name]} and remove it"
            )
        raise SpecificationError(f"{where}: {quoted(key)} is {quoted(value)}, which our mappings cannot say; remove it")


_FACTOR = re.compile(r"([A-Za-z_]\w*?)\s*=\s*(\d+)(?:\s*,\s*(\d+)(?![\w=]))?|([A-Za-z_]+)\s*(\d+)(?:,(\d+)(?![\w=]))?")


def _factors(data: object, workload: Workload, where: str) -> dict[str, int]:
    """Reads factors: "R=3 P=16", "R3 P16", a list of such, or dim: factor pairs; 0 stays 0."""
    if data is None:
        return {}
    place = f"{where}: factors"
    factors: dict[str, int] = {}
    for dim, factor, last in _pairs(data, place):
        dim_of(dim, workload, place)
        if dim in factors:
            raise SpecificationError(f"{place}: {quoted(dim)} is given twice; give one factor")
        if last is not None and last != factor:
            raise SpecificationError(
                f"{place}: {quoted(dim)} is {factor},{last}, an imperfect factor, which runs another number of times "
                "in its last visit; our mappings have perfect factors only"
            )
        factors[dim] = factor
    return factors


def _pairs(data: object, where: str) -> list[tuple[str, int, int | None]]:
    if isinstance(data, AbcMapping):
        pairs = []
        for dim, factor in data.items():
            numbers = factor if isinstance(factor, list) and len(factor) == 2 else [factor, None]
            if not all(type(number) is int and number >= 0 for number in numbers if number is not None):
                raise SpecificationError(f"{where}: {quoted(dim)} is {quoted(factor)}; give a whole number")
            pairs.append((str(dim), numbers[0], numbers[1]))
        return pairs
    if isinstance(data, list):
        return [pair for entry in data for pair in _pairs(entry, where)]
    text = str(data).split("#")[0]
    rest = _FACTOR.sub("", text).strip(" ,;\t\n")
    if not isinstance(data, str) or rest:
        raise SpecificationError(f"{where} are {quoted(data)}; write such as 'R=3 P=16', without < and >")
    return [
        (match[1] or match[4], int((match[2] or match[5])[:12]), None if last is None else int(last[:12]))
        for match in _FACTOR.finditer(text)
        for last in [match[3] or match[6]]
    ]
