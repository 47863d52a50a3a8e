"""Sparse optimisations: what Sparseloop's files say of zeros, as formats, actions and what the MACs save."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping as AbcMapping
from dataclasses import dataclass, replace
from typing import Any

from mapgym.errors import SpecificationError, suggest
from mapgym.errors.text import quoted
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import StorageLevel
from mapgym.spec.sparsity import OUTER_FIRST, parse_actions

_TARGET_KEYS = ("name", "target", "type", "action_optimization", "representation_format", "compute_optimization")


@dataclass(frozen=True)
class Target:
    """What is said of one component.

    Attributes:
        where: the file, for messages.
        name: of the component.
        data: keys with underscores -> values.
    """

    where: str
    name: str
    data: dict[str, Any]


def targets_of(data: object, where: str) -> Iterator[Target]:
    """The targets of ``sparse_optimizations``; one entry may name several components.

    Raises:
        SpecificationError: an entry names none.
    """
    listed = data.get("targets") if isinstance(data, AbcMapping) else data
    for entry in _listed(listed):
        keyed = _keyed(entry)
        several = keyed.pop("target_list", None)
        names = several if isinstance(several, list) else [keyed.get("name", keyed.get("target"))]
        if not names or not all(isinstance(name, str) for name in names):
            raise SpecificationError(f"{where}: a target of sparse_optimizations is {quoted(entry)}; name a component")
        for name in names:
            yield Target(where, str(name), keyed)


def with_sparse_optimizations(accelerator: Accelerator, targets: Iterable[Target]) -> Accelerator:
    """The accelerator with sparse features.

    Raises:
        SpecificationError: a target is no component, or has a feature that ours do not have.
    """
    levels = {level.name: level for level in accelerator.levels}
    mac = accelerator.mac
    for target in targets:
        place = f"{target.where}: sparse_optimizations of {quoted(target.name)}"
        for key in target.data:
            if key not in _TARGET_KEYS:
                raise SpecificationError(f"{place}: unknown key {quoted(key)}; {suggest(key, _TARGET_KEYS)}")
        if target.name not in (*levels, mac.name):
            names = (*levels, mac.name)
            raise SpecificationError(f"{place}: there is no such component; {suggest(target.name, names)}")
        if (compute := target.data.get("compute_optimization")) is not None:
            kinds = [_saving(_keyed(each).get("type"), place) for each in _listed(compute)]
            mac = replace(mac, zero_operands=tuple(dict.fromkeys((*mac.zero_operands, *kinds))))
        if target.name in levels:
            levels[target.name] = _with_features(levels[target.name], target.data, place)
    return replace(accelerator, mac=mac, levels=tuple(levels.values()))


def _saving(kind: object, where: str) -> str:
    """The way of saving that a type names."""
    if kind not in ("gating", "skipping"):
        raise SpecificationError(
            f"{where}: the type is {quoted(kind)}; only gating and skipping are modelled, not those of single "
            "positions "
            "or of spatial loops"
        )
    return str(kind)


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
    actions = list(level.actions)
    for action in map(_keyed, _listed(target.get("action_optimization"))):
        saving = _saving(action.get("type"), where)
        # A single option may stand in the entry itself.
        options = action.get("options", [{key: value for key, value in action.items() if key != "type"}])
        for option in map(_keyed, _listed(options)):
            entry = {
                "type": saving,
                "target": option.get("target"),
                "condition_on": _listed(option.get("condition_on")),
            }
            actions += parse_actions([entry], where)
    formats = {**dict(level.formats), **formats}
    return replace(level, formats=tuple(formats.items()), actions=tuple(actions))


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
    """A list; a single entry stands for one, and nothing for none."""
    return data if isinstance(data, list) else [] if data is None else [data]


def _keyed(data: object) -> dict[str, Any]:
    """A mapping with underscores in its keys; empty for anything else."""
    return {str(key).replace("-", "_"): value for key, value in data.items()} if isinstance(data, AbcMapping) else {}
