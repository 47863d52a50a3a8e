"""Sparse optimisations: what Sparseloop's files say of zeros, as formats, actions and what the MACs save."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mapgym.errors import SpecificationError, suggest
from mapgym.errors.text import quoted
from mapgym.timeloop.reading.documents import Documents, Ignored
from mapgym.timeloop.reading.expressions import plain_name
from mapgym.timeloop.reading.hardware import COMPUTE, STORAGE, Architecture, Part

Features = dict[str, dict[str, Any]]
"""Level -> arguments of :class:`mapgym.spec.levels.StorageLevel`, ``formats`` and ``actions``."""

_TARGET_KEYS = ("name", "target", "type", "action_optimization", "representation_format", "compute_optimization")
_RANK_KEYS = ("format", "flattened_rankIDs", "metadata_word_bits", "payload_word_bits", "name")


def read_sparse(
    documents: Documents, architecture: Architecture, ignored: list[Ignored]
) -> tuple[Features, tuple[str, ...]]:
    """The sparse features of levels, and what the MACs do about zero operands.

    Raises:
        SpecificationError: a target is no component, or something cannot be expressed.
    """
    features: Features = {}
    compute: list[str] = []
    names = {part.name: part for part in architecture.of_kind(STORAGE, COMPUTE)}
    for where, name, entry in _targets(documents, architecture):
        part = names.get(name)
        if part is None:
            raise SpecificationError(f"{where}: there is no component {quoted(name)}; {suggest(name, names)}")
        place = f"{where}: {name}"
        data = _plain(entry, place)
        for key in data:
            if key not in _TARGET_KEYS:
                raise SpecificationError(f"{place}: unknown key {quoted(key)}; {suggest(key, _TARGET_KEYS)}")
        if part.kind == STORAGE:
            found = features.setdefault(name, {"formats": {}, "actions": []})
            found["formats"] |= _formats(data.get("representation_format"), place, _metadata_bits(part), ignored, where)
            found["actions"] += _actions(data.get("action_optimization"), place)
        for each in _list(data.get("compute_optimization"), f"{place}: compute-optimization"):
            compute.append(_saving(_plain(each, place).get("type"), f"{place}: compute-optimization"))
    return features, tuple(dict.fromkeys(compute))


def _targets(documents: Documents, architecture: Architecture) -> Iterator[tuple[str, str, Any]]:
    """(file, component, what is said of it) of all files, and of nodes of v0.4."""
    for section in documents.every("sparse_optimizations"):
        value = section.value
        targets = value.get("targets") if isinstance(value, Mapping) else value
        if targets is None and isinstance(value, Mapping) and not value:
            continue
        for entry in _list(targets, f"{section.file}: sparse_optimizations: targets"):
            given = entry.get("name", entry.get("target")) if isinstance(entry, Mapping) else None
            several = entry.get("target_list", entry.get("target-list")) if isinstance(entry, Mapping) else None
            named = several if isinstance(several, list) else [given]
            if not all(isinstance(name, str) for name in named):
                raise SpecificationError(f"{section.file}: a target of sparse_optimizations is {quoted(entry)}; name it")
            for name in named:
                yield section.file, name, {k: v for k, v in entry.items() if plain_name(k) != "target_list"}
    for part in architecture.parts:
        if part.sparse:
            yield part.file, part.name, part.sparse


def _formats(
    data: Any, place: str, level_bits: Any, ignored: list[Ignored], file: str
) -> dict[str, tuple[str, ...]]:
    """Formats of tensors, outermost rank first."""
    if data is None:
        return {}
    found: dict[str, tuple[str, ...]] = {}
    place = f"{place}: representation-format"
    for entry in _list(_plain(data, place).get("data_spaces"), place):
        space = _plain(entry, place)
        name = str(space.get("name"))
        where = f"{place}: {name}"
        order = str(space.get("rank_application_order", "inner-to-outer"))
        if order != "inner-to-outer":
            raise SpecificationError(f"{where}: rank-application-order is {quoted(order)}; only inner-to-outer is known")
        for key in space:
            if key not in ("name", "ranks", "rank_application_order"):
                ignored.append(Ignored(file, f"{where}: {key}", "it has no effect"))
        found[name] = tuple(_rank(each, where, level_bits) for each in _list(space.get("ranks"), where))
    return found


def _rank(entry: Any, where: str, level_bits: Any) -> str:
    """The format of a rank, if it has the widths that its level says."""
    rank = _plain(entry, where)
    kind = str(rank.get("format")).upper()
    for key in rank:
        if key not in _RANK_KEYS:
            raise SpecificationError(f"{where}: a rank has the unknown key {quoted(key)}; {suggest(key, _RANK_KEYS)}")
    if rank.get("flattened_rankIDs"):
        raise SpecificationError(
            f"{where}: a rank has flattened-rankIDs ({quoted(rank['flattened_rankIDs'])}); ranks that take several loops "
            "are not modelled, give one rank for each loop"
        )
    for key in ("metadata_word_bits", "payload_word_bits"):
        bits = rank.get(key)
        usual = 1 if key == "metadata_word_bits" and kind == "B" else level_bits
        if bits is not None and level_bits and bits != usual:
            raise SpecificationError(
                f"{where}: a rank has {key} {quoted(bits)}, but its level has words of metadata of {quoted(level_bits)} "
                "bits; widths for single ranks are not modelled, leave them out"
            )
    return kind


def _actions(data: Any, place: str) -> list[dict[str, Any]]:
    """Actions as :func:`mapgym.spec.sparsity.parse_actions` reads them."""
    place = f"{place}: action-optimization"
    found = []
    for each in _list(data, place):
        action = _plain(each, place)
        saving = _saving(action.get("type"), place)
        options = action.get("options", [{key: value for key, value in action.items() if key != "type"}])
        for option in _list(options, place):
            entry = _plain(option, place)
            targets = entry.get("target", entry.get("target_list"))
            on = entry.get("condition_on")
            for target in targets if isinstance(targets, list) else [targets]:
                conditions = [name for name in (on if isinstance(on, list) else [on]) if name is not None]
                found.append({"type": saving, "target": target, "condition_on": conditions})
    return found


def _saving(kind: object, place: str) -> str:
    """The way of saving that a type names."""
    if kind in ("gating", "skipping"):
        return str(kind)
    raise SpecificationError(
        f"{place}: the type is {quoted(kind)}; only gating and skipping are modelled, not those of single positions or of "
        "spatial loops"
    )


def _metadata_bits(part: Part) -> Any:
    return next(
        (part.attributes[key] for key in ("metadata_datawidth", "metadata_word_bits") if part.attributes.get(key)), 0
    )


def _plain(entry: Any, where: str) -> dict[str, Any]:
    """A mapping with underscores in its keys."""
    if not isinstance(entry, Mapping):
        raise SpecificationError(f"{where}: is {quoted(entry)}; give a mapping")
    return {plain_name(key): value for key, value in entry.items()}


def _list(value: Any, where: str) -> list[Any]:
    """A list; a single entry stands for one, and nothing for none."""
    if value is None:
        return []
    if isinstance(value, Mapping):
        return [value]
    if not isinstance(value, list):
        raise SpecificationError(f"{where}: is {quoted(value)}; give a list")
    return value
