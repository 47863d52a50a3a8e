"""Timeloop's constraints, read into ours.

What of them is a property of the hardware here (no multicast, no temporal reuse, no links) changes the accelerator; all
else becomes :class:`~mapgym.spec.constraints.Constraints`. As in Timeloop, a factor of 0 is the bound of its dim, one
beyond the bound means nothing, and dims that a permutation does not name may come in any order outside of those that it
does. docs/map_space.md says what is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mapgym.errors import SpecificationError, suggest
from mapgym.errors.text import quoted
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.constraints import OTHERS, Constraints, Factor
from mapgym.spec.workload import Workload
from mapgym.timeloop.reading.constraint_factors import allows_one, factor_of, parse_factors
from mapgym.timeloop.reading.constraint_lists import Written, list_constraints
from mapgym.timeloop.reading.directives import BYPASS_TYPES, split_of, target_of, tensors_of
from mapgym.timeloop.reading.documents import Ignored, Section
from mapgym.timeloop.reading.maximized_dims import maximize, parse_maximized

_ITERATION = (
    "factors",
    "factors_only",
    "no_iteration_over_dataspaces",
    "must_iterate_over_dataspaces",
    "maximize_dims",
    "maximize_dims_capacity",
    "permutation",
)
_KEYS = {
    "temporal": (*_ITERATION, "no_reuse", "no_temporal_reuse"),
    "spatial": (*_ITERATION, "split", "no_reuse", "no_multicast", "no_multicast_no_reduction", "no_link_transfer"),
    **dict.fromkeys(BYPASS_TYPES, ("keep", "bypass", "keep_only", "bypass_only")),
    **dict.fromkeys(("utilization", "parallelism"), ("min",)),
    "max_overbooked_proportion": ("proportion",),
}
_WHY_NOT = {
    "no_coalesce": "accesses to neighbouring words are always coalesced here",
    "rmw_first_update": "the first update of an output does not read it here",
    "remainders": "our mappings have perfect factors only",
}


@dataclass(frozen=True)
class ReadConstraints:
    """What constraints of Timeloop are here.

    Attributes:
        constraints: of a map space.
        accelerator: the given one, with what they say of the hardware.
        ignored: what has no effect.
    """

    constraints: Constraints
    accelerator: Accelerator
    ignored: list[Ignored]


def read_timeloop_constraints(
    sections: Sequence[Section], workload: Workload, accelerator: Accelerator, other_dims: Collection[str] = ()
) -> ReadConstraints:
    """Reads the constraints in some sections of documents.

    Args:
        sections: of :data:`mapgym.timeloop.reading.constraint_lists.SECTIONS`; others are passed over.
        workload, accelerator: what is mapped onto what.
        other_dims: dims of other layers of the same network; what is said of them is left out.

    Raises:
        SpecificationError: a constraint names what there is not, contradicts another one, or says what ours cannot.
    """
    reader = _Reader(workload, accelerator, other_dims)
    for written in list_constraints(sections):
        reader.read(written)
    return reader.result()


@dataclass
class _Level:
    """What is said of one level.

    Attributes:
        factors: kind -> dim -> sign ("=", "<=" or ">=") -> number, 0 for the bound.
        orders: kind -> order.
        said: kind or key -> the constraint that said it, for messages.
    """

    factors: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    orders: dict[str, list[str]] = field(default_factory=dict)
    sides: tuple[list[str], list[str]] | None = None
    kept: dict[str, bool] = field(default_factory=dict)
    reuse: dict[str, tuple[str, ...]] = field(default_factory=dict)


class _Reader:
    """Takes one constraint after the other."""

    def __init__(self, workload: Workload, accelerator: Accelerator, other_dims: Collection[str]) -> None:
        self.workload, self.accelerator, self.other_dims = workload, accelerator, other_dims
        self.levels: dict[str, _Level] = {}
        self.least = 0.0
        self.ignored: list[Ignored] = []
        self.links_said_in = ""
        # (is temporal, level) -> the constraint with maximize_dims, and the lists of dims.
        self.maximized: dict[tuple[bool, int], tuple[Written, list[list[str]], int]] = {}

    def read(self, written: Written) -> None:
        """Takes one constraint."""
        kind, where = written.kind, written.where
        if kind not in _KEYS:
            raise SpecificationError(f"{where}: its type is {quoted(kind)}; {suggest(kind, _KEYS)}")
        entries = self._entries(written)
        if kind in ("utilization", "parallelism"):
            self._set_utilization(entries.get("min"), where)
            return
        if kind == "max_overbooked_proportion":
            if entries.get("proportion") not in (None, 0):
                raise SpecificationError(
                    f"{where}: the proportion is {quoted(entries['proportion'])}, and tiles may not exceed a capacity "
                    "here; remove it"
                )
            return
        name = self._level_name(written)
        if name is None:
            self._check_nothing_to_say(written, entries)
            return
        level = self.levels.setdefault(name, _Level())
        if kind in BYPASS_TYPES:
            self._read_kept(level, name, entries, where)
            return
        for dim, limits in self._factors(entries, written).items():
            self._add_factor(level, kind, dim, limits, where)
        self._read_order(level, name, entries, written)
        self._read_maximized(name, entries, written)
        for key, tensors in self._reuse(entries, kind, where).items():
            self.links_said_in = where if key == "peer_links" else self.links_said_in
            level.reuse[key] = tuple(dict.fromkeys((*level.reuse.get(key, ()), *tensors)))

    def result(self) -> ReadConstraints:
        """What has been read."""
        self._maximize()
        factors: dict[str, dict[str, dict[str, Factor]]] = {}
        orders: dict[str, dict[str, list[str]]] = {"temporal": {}, "spatial": {}}
        sides: tuple[dict[str, list[str]], dict[str, list[str]]] = ({}, {})
        kept: dict[bool, dict[str, list[str]]] = {True: {}, False: {}}
        for name, level in self.levels.items():
            for kind, by_dim in level.factors.items():
                for dim, limits in by_dim.items():
                    if not limits:
                        continue
                    factors.setdefault(name, {}).setdefault(dim, {})[kind] = factor_of(limits)
            for kind, order in level.orders.items():
                orders[kind][name] = order
            for side, dims in zip(sides, level.sides or (), strict=False):
                side[name] = dims
            for tensor, is_kept in level.kept.items():
                kept[is_kept].setdefault(name, []).append(tensor)
        constraints = Constraints(
            factors=factors,
            orders=orders["temporal"],
            spatial_orders=orders["spatial"],
            parallel_x=sides[0],
            parallel_y=sides[1],
            keep=kept[True],
            bypass=kept[False],
            min_utilization=self.least,
        )
        return ReadConstraints(constraints, self._hardware(), list(dict.fromkeys(self.ignored)))

    def _entries(self, written: Written) -> dict[str, Any]:
        """What a constraint says, without what says nothing."""
        entries = {key.replace("-", "_"): value for key, value in written.entries.items()}
        for key, value in list(entries.items()):
            if key in _KEYS[written.kind]:
                continue
            if value in (None, [], {}, "", False, 0):
                del entries[key]
                continue
            why = _WHY_NOT.get(key, "our constraints have no such key")
            raise SpecificationError(f"{written.where}: {key} is {quoted(value)}, and {why}; remove it")
        return entries

    def _ignore(self, written: Written, what: str, why: str) -> None:
        self.ignored.append(Ignored(written.file, f"{written.key}: {what}", why))

    def _level_name(self, written: Written) -> str | None:
        """The level that is meant; None for a node of an architecture that is none, where no loops are."""
        names, spread = self.accelerator.level_names, f"inter_{written.target}_spatial"
        if written.is_inside:
            if written.kind == "spatial":
                # Inside a node it is about how many of the node itself there are.
                return spread if spread in names else None
            if written.target not in names:
                return spread if spread in names else None
        kind = "spatial" if written.kind == "spatial" else "temporal"
        return target_of(written.target, kind, self.accelerator, written.where)

    def _check_nothing_to_say(self, written: Written, entries: Mapping[str, Any]) -> None:
        """Where no loops are, all factors are 1 and nothing is kept."""
        if written.kind not in BYPASS_TYPES:
            for dim, limits in self._factors(entries, written).items():
                if not allows_one(limits, self.workload.bound(dim)):
                    raise SpecificationError(
                        f"{written.where}: asks for a factor of {quoted(dim)} above 1, but accelerator "
                        f"{quoted(self.accelerator.name)} has no level there; remove it, or give the hardware it is for"
                    )
        self._ignore(written, "all of it", "the accelerator has no level there, so that there are no loops or tiles")

    def _set_utilization(self, least: object, where: str) -> None:
        if isinstance(least, bool) or not isinstance(least, int | float) or not 0 <= least <= 1:
            raise SpecificationError(f"{where}: min is {quoted(least)}; give the least share of the MACs, from 0 to 1")
        self.least = max(self.least, float(least))

    def _read_kept(self, level: _Level, name: str, entries: Mapping[str, Any], where: str) -> None:
        tensors = [tensor.name for tensor in self.workload.tensors]
        for key, value in entries.items():
            named = tensors_of(value, self.workload, f"{where}: {key}")
            is_kept = key.startswith("keep")
            said = dict.fromkeys(named, is_kept)
            if key.endswith("_only") and value is not None:
                said.update({tensor: not is_kept for tensor in tensors if tensor not in named})
            for tensor, wanted in said.items():
                if level.kept.setdefault(tensor, wanted) != wanted:
                    raise SpecificationError(f"{where}: {quoted(tensor)} is to be kept and bypassed; remove one")
                if not wanted and name == self.accelerator.level_names[-1]:
                    raise SpecificationError(
                        f"{where}: {key}: bypasses {quoted(tensor)} at the outermost level, which keeps every tensor "
                        "here; remove it"
                    )

    def _factors(self, entries: Mapping[str, Any], written: Written) -> dict[str, dict[str, int]]:
        """For each dim of the workload, its limits: sign -> number."""
        found: dict[str, dict[str, int]] = {}
        for key in ("factors", "factors_only"):
            for dim, sign, number in parse_factors(entries.get(key), f"{written.where}: {key}"):
                if self._is_known(dim, sign, number, written):
                    # A negative number leaves the dim free, and in factors_only names it.
                    limits = found.setdefault(dim, {})
                    if number >= 0 and limits.setdefault(sign, number) != number:
                        raise SpecificationError(
                            f"{written.where}: {key}: {quoted(dim)} is given twice; give one factor"
                        )
        ones: set[str] = set()
        if entries.get("factors_only") is not None:
            ones.update(dim for dim in self.workload.dims if dim not in found)
        for key in ("no_iteration_over_dataspaces", "must_iterate_over_dataspaces"):
            if entries.get(key):
                names = tensors_of(entries[key], self.workload, f"{written.where}: {key}")
                dims = {dim for tensor in self.workload.tensors if tensor.name in names for dim in tensor.dims}
                ones |= dims if key.startswith("no") else {*self.workload.dims} - dims
        for dim in ones:
            if not allows_one(found.setdefault(dim, {}), self.workload.bound(dim)):
                raise SpecificationError(
                    f"{written.where}: the factor of {quoted(dim)} is given, and another key makes it 1; remove one"
                )
            found[dim] = {"=": 1}
        return found

    def _is_known(self, dim: str, sign: str, number: int, written: Written) -> bool:
        """Whether the workload has a dim; one that it does not have may have a factor of 1."""
        if dim in self.workload.dims:
            if sign == "=" and number > self.workload.bound(dim):
                why = f"it is beyond the bound {self.workload.bound(dim)}, and Timeloop leaves such a factor free"
                self._ignore(written, f"factors: {dim}={number}", why)
                return False
            return True
        if dim not in self.other_dims:
            if number >= 0 and not allows_one({sign: number}, 1):
                raise SpecificationError(
                    f"{written.where}: factors: workload {quoted(self.workload.name)} has no dim {quoted(dim)}; "
                    f"{suggest(dim, self.workload.dims)}"
                )
            self._ignore(written, f"factors: {dim}", "the workload has no such dim")
        return False

    def _add_factor(self, level: _Level, kind: str, dim: str, limits: Mapping[str, int], where: str) -> None:
        known = level.factors.setdefault(kind, {}).setdefault(dim, {})
        for sign, number in limits.items():
            if known.setdefault(sign, number) != number:
                raise SpecificationError(
                    f"{where}: the factor of {quoted(dim)} is {sign}{number}, and another constraint says "
                    f"{sign}{known[sign]}; remove one"
                )

    def _read_maximized(self, name: str, entries: Mapping[str, Any], written: Written) -> None:
        lists = parse_maximized(entries.get("maximize_dims"), self.workload, written.where)
        s, is_temporal = self.accelerator.level_index(name), written.kind == "temporal"
        room = entries.get("maximize_dims_capacity")
        if room is None and not is_temporal:
            room = self.accelerator.fanout_x[s] * self.accelerator.fanout_y[s]
        if lists and (type(room) is not int or room < 1):
            raise SpecificationError(
                f"{written.where}: maximize_dims_capacity is {quoted(room)}; give the largest product of the factors"
            )
        if lists:
            self.maximized[is_temporal, s] = written, lists, int(str(room))

    def _maximize(self) -> None:
        """Gives the factors that ``maximize_dims`` asks for: spatial ones first, from the innermost level outwards."""
        for (_, s), (written, lists, room) in sorted(self.maximized.items(), key=lambda item: item[0]):
            given = self.levels[self.accelerator.level_names[s]].factors.setdefault(written.kind, {})
            for dims in lists:
                used = math.prod(limits.get("=", limits.get(">=", 1)) or 1 for limits in given.values())
                taken = [dim for dim in dims if given.get(dim)]
                if taken:
                    raise SpecificationError(
                        f"{written.where}: maximize_dims names {quoted(taken[0])}, whose factor is given; remove one"
                    )
                factors = maximize([self._rest(dim) for dim in dims], room // max(1, used))
                for dim, factor in zip(dims, factors, strict=True):
                    given[dim] = {"=": factor}
                chosen = " ".join(f"{dim}={factor}" for dim, factor in zip(dims, factors, strict=True))
                why = f"read as the largest factors that divide the bounds: {chosen or 'none'}"
                self._ignore(written, "maximize_dims", why)

    def _rest(self, dim: str) -> int:
        """What the factors that are given leave of a bound."""
        bound, product = self.workload.bound(dim), 1
        for level in self.levels.values():
            for by_dim in level.factors.values():
                limits = by_dim.get(dim, {})
                product *= (limits["="] or bound) if "=" in limits else 1
        return bound // product if bound % product == 0 else 1

    def _read_order(self, level: _Level, name: str, entries: Mapping[str, Any], written: Written) -> None:
        kind, where = written.kind, written.where
        split = entries.get("split")
        # v0.4 takes Python here, and this much of it is common.
        is_all = isinstance(split, str) and split.replace(" ", "") == "len(spec.problem.instance)"
        split = split_of(len(self.workload.dims) if is_all else split, where)
        words = self._permutation(entries.get("permutation"), written)
        if words:
            known = [word for word in words if word in self.workload.dims or word == OTHERS]
            others = [dim for dim in self.workload.dims if dim not in known]
            order = [word for word in known if word != OTHERS or others]
            if others and OTHERS not in order:
                order.append(OTHERS)
            if level.orders.setdefault(kind, order) != order:
                raise SpecificationError(f"{where}: another constraint gives another permutation; remove one")
        if kind != "spatial":
            return
        s = self.accelerator.level_index(name)
        is_grid = min(self.accelerator.fanout_x[s], self.accelerator.fanout_y[s]) > 1
        if split is not None:
            sides = self._sides(words, split, is_grid, where)
            if sides is not None and level.sides not in (None, sides):
                raise SpecificationError(f"{where}: another constraint gives another split; remove one")
            level.sides = sides or level.sides
        elif words and is_grid and level.sides is None:
            why = "without a split, dims may lie on either side of the mesh, in this order on each"
            self._ignore(written, "permutation", why)

    def _sides(self, words: Sequence[str], split: int, is_grid: bool, where: str) -> tuple[list[str], list[str]] | None:
        """The dims on X and on Y: those before the split, and those after it; None if any may be on either."""
        unknown = [word for word in words if word != OTHERS and word not in self.workload.dims]
        count, dims = len(self.workload.dims) + len(unknown), list(self.workload.dims)
        middle = words.index(OTHERS) if OTHERS in words else len(words)
        front, back = list(words[:middle]), list(words[middle + 1 :])
        if split >= count:
            return dims, []
        if split <= len(front):
            on_x = [dim for dim in front[:split] if dim in dims]
        elif split >= count - len(back):
            on_y = back[len(back) - (count - split) :]
            on_x = [dim for dim in dims if dim not in on_y]
        elif is_grid:
            raise SpecificationError(
                f"{where}: split is {split}, which falls among the dims that permutation does not name, so that it is "
                "open which ones lie on X; name all dims"
            )
        else:
            return None
        return on_x, [dim for dim in dims if dim not in on_x]

    def _permutation(self, data: object, written: Written) -> list[str]:
        """Dims, innermost first, with those that the workload does not have; "*" for those that are not named."""
        place = f"{written.where}: permutation"
        if data is None:
            return []
        entries = data if isinstance(data, list) else re.split(r"[\s,]+", str(data).split("#")[0].strip())
        words: list[str] = []
        for entry in (str(entry).strip() for entry in entries):
            is_one = entry in self.workload.dims or (isinstance(data, list) and entry not in ("", "_"))
            words += [entry] if is_one else list(entry)
        words = [OTHERS if word == "_" else word for word in words]
        if len(set(words)) < len(words):
            raise SpecificationError(f"{place} {quoted(data)} names a dim twice; name each once")
        named = [word for word in words if word != OTHERS]
        unknown = [word for word in named if word not in self.workload.dims]
        for word in unknown:
            if word not in self.other_dims:
                self._ignore(written, f"permutation: {word}", "the workload has no such dim")
        if unknown and len(unknown) == len(named) and not set(unknown) & set(self.other_dims):
            raise SpecificationError(
                f"{place} is {quoted(data)}, and workload {quoted(self.workload.name)} has none of these dims; "
                f"{suggest(unknown[0], self.workload.dims)}"
            )
        return words

    def _reuse(self, entries: Mapping[str, Any], kind: str, where: str) -> dict[str, list[str]]:
        """Attribute of a level, or "peer_links" -> tensors."""
        found: dict[str, list[str]] = {}
        for key in _KEYS[kind]:
            if key.startswith("no_") and "iteration" not in key and entries.get(key):
                tensors = tensors_of(entries[key], self.workload, f"{where}: {key}")
                meant = "no_temporal_reuse" if kind == "temporal" else "no_multicast"
                found.setdefault("peer_links" if key == "no_link_transfer" else meant, []).extend(tensors)
        return found

    def _hardware(self) -> Accelerator:
        """The accelerator, with what is said of its reuse."""
        given, levels = self.accelerator, []
        has_links = given.peer_links
        for level in given.levels:
            said = self.levels.get(level.name, _Level()).reuse
            changed: dict[str, Any] = {
                key: tuple(dict.fromkeys((*getattr(level, key), *said[key])))
                for key in ("no_temporal_reuse", "no_multicast")
                if key in said
            }
            levels.append(replace(level, **changed) if changed else level)
            if given.peer_links and "peer_links" in said:
                has_links = False
        if given.peer_links and not has_links:
            tensors = {tensor.name for tensor in self.workload.tensors}
            for s, level in enumerate(given.levels):
                linked = tensors - set(self.levels.get(level.name, _Level()).reuse.get("peer_links", ()))
                if linked and given.fanout_x[s] * given.fanout_y[s] > 1:
                    raise SpecificationError(
                        f"{self.links_said_in}: no_link_transfer leaves links below {quoted(level.name)} for "
                        f"{quoted(min(linked))}, and here all links are there or none; give it for all tensors at "
                        "every level that fans out, or remove it"
                    )
        if levels == list(given.levels) and has_links == given.peer_links:
            return given
        return replace(given, levels=tuple(levels), peer_links=has_links)
