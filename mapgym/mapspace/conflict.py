"""Why a map space is empty: a smallest set of capacities, fan-outs and constraints that exclude each other.

A deletion filter: one after the other, each of them is left out, and stays out if the space is empty without it, too.
Of what remains, nothing can be left out. Whether a space is empty is known where its construction is exact; elsewhere
mappings are drawn, and that none was found proves nothing. The time is bounded.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping as AbcMapping
from dataclasses import dataclass, replace

import numpy as np

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.mapping import Mapping
from mapgym.mapping.legality_kernels import LEGAL
from mapgym.mapspace.construction.construction import Construction
from mapgym.mapspace.definition import Definition
from mapgym.mapspace.projection import mesh_sides
from mapgym.spec.accelerator import MOST_MACS, Accelerator
from mapgym.spec.constraints import Constraints, factor_range
from mapgym.spec.workload import Workload

_SECONDS = 2.0
_DRAWS = 20_000
_BY_LEVEL = ("orders", "spatial_orders", "parallel_x", "parallel_y", "keep", "bypass")


@dataclass(frozen=True)
class Item:
    """Something that restricts a map space.

    Attributes:
        kind: "capacity", "fan-out", or an attribute of :class:`~mapgym.spec.constraints.Constraints`.
        level: where; "" for what holds everywhere.
        name, part: dim and kind of a factor; a tensor that is kept or bypassed.
        text: what it is, for people.
    """

    kind: str
    level: str
    name: str
    part: str
    text: str


@dataclass(frozen=True)
class Conflict:
    """What excludes all mappings.

    Attributes:
        items: none of them can be left out, if that is proven; empty if something else excludes all mappings.
        is_proven: whether each was looked at in time, and each answer was certain.
    """

    items: tuple[Item, ...]
    is_proven: bool

    @property
    def text(self) -> str:
        """The end of a message, empty where nothing is to be added."""
        if len(self.items) < 2:
            return ""
        names = "; ".join(item.text for item in self.items)
        if self.is_proven:
            return f". These exclude each other, and without any one of them there are mappings: {names}"
        return f". Among these are some that exclude each other, not shown to be a smallest set: {names}"


def find_conflict(
    workload: Workload,
    accelerator: Accelerator,
    axes: tuple[str, ...],
    constraints: Constraints,
    base: Mapping | None,
    seconds: float = _SECONDS,
) -> Conflict:
    """Finds what leaves a space without mappings.

    Args:
        workload, accelerator, axes, constraints, base: of a space that has none.
        seconds: wall time after which what has not been looked at is taken as needed.
    """
    finder = _Finder(workload, accelerator, axes, constraints, base)
    needed = list(finder.items())
    everything, deadline = set(needed), time.monotonic() + seconds
    if finder.is_empty(set(), everything) is not False:
        return Conflict((), False)
    # Where draws in vain are all that is known of the whole space, they are taken for an answer without items, too.
    is_proven = finder.is_empty(everything, everything) is True
    stays_out = (True,) if is_proven else (True, None)
    for item in list(needed):
        if time.monotonic() > deadline:
            is_proven = False
            break
        kept = [other for other in needed if other != item]
        empty = finder.is_empty(set(kept), everything)
        is_proven &= empty is not None
        if empty in stays_out:
            needed = kept
    return Conflict(tuple(needed), is_proven)


class _Finder:
    """Asks whether a space is empty without some of what restricts it."""

    def __init__(
        self,
        workload: Workload,
        accelerator: Accelerator,
        axes: tuple[str, ...],
        constraints: Constraints,
        base: Mapping | None,
    ) -> None:
        self.workload, self.accelerator, self.axes = workload, accelerator, axes
        self.constraints, self.base = constraints, base

    def items(self) -> Iterator[Item]:
        """Everything that can be left out; what says least comes first, as it is left out if it can be."""
        constraints = self.constraints
        for kind in ("orders", "spatial_orders", "parallel_x", "parallel_y"):
            for level, names in getattr(constraints, kind).items():
                yield Item(kind, level, "", "", f"{kind} of {quoted(level)} ({', '.join(names) or 'none'})")
        allowed = constraints.parallel_dims
        if isinstance(allowed, AbcMapping):
            for level, names in allowed.items():
                yield Item("parallel_dims", level, "", "", f"parallel_dims of {quoted(level)} ({', '.join(names)})")
        elif allowed is not None:
            yield Item("parallel_dims", "", "", "", f"parallel_dims ({', '.join(allowed) or 'none'})")
        for s, storage in reversed(list(enumerate(self.accelerator.levels))):
            if self._wanted_parallelism(s) > 1:
                fanout = f"{self.accelerator.fanout_x[s]} x {self.accelerator.fanout_y[s]}"
                yield Item("fan-out", storage.name, "", "", f"the fan-out of {quoted(storage.name)} ({fanout})")
            if storage.capacity_words is not None:
                text = f"the capacity of {quoted(storage.name)} ({storage.usable_words} words)"
                yield Item("capacity", storage.name, "", "", text)
        if constraints.min_utilization:
            yield Item("min_utilization", "", "", "", f"min_utilization ({constraints.min_utilization:g})")
        for kind in ("keep", "bypass"):
            for level, names in getattr(constraints, kind).items():
                for name in names:
                    yield Item(kind, level, name, "", f"{kind} of {quoted(level)} ({name})")
        for level, by_dim in constraints.factors.items():
            for dim, kinds in by_dim.items():
                for part, factor in kinds.items():
                    text = f"the {part} factor of {quoted(dim)} at {quoted(level)} ({factor})"
                    yield Item("factors", level, dim, part, text)

    def is_empty(self, kept: set[Item], everything: set[Item]) -> bool | None:
        """Whether there is no mapping if only some items hold; None if none was found and there may be some."""
        accelerator, is_certain = self._relaxed_hardware(everything - kept)
        constraints = self._relaxed_constraints(everything - kept, accelerator)
        try:
            definition = Definition.of(self.workload, accelerator, self.axes, constraints, self.base)
            construction = Construction(definition)
        except SpecificationError:
            return True if is_certain else None
        if definition.construction_is_exact and not construction.inexact:
            return False
        try:
            batch = construction.sample(np.random.default_rng(0), _DRAWS)
        except SpecificationError:
            return None
        entries = definition.entries
        inside = (definition.status(batch) == LEGAL) & (batch.used_macs() >= entries.min_used_macs)
        inside &= entries.limits.allow(batch.temporal, batch.spatial, mesh_sides(batch))
        return False if inside.any() else None

    def _wanted_parallelism(self, s: int) -> int:
        """The least parallelism at a level that factors or the base ask for; 1 if its fan-out does not matter."""
        workload, level = self.workload, self.accelerator.level_names[s]
        wanted = 1
        for dim, kinds in self.constraints.factors.get(level, {}).items():
            numbers = [
                factor_range(factor, workload.bound(dim))[0] for kind, factor in kinds.items() if kind != "temporal"
            ]
            wanted *= max(numbers, default=1)
        if self.base is not None and "parallelism" not in self.axes:
            wanted *= math.prod(map(int, self.base.spatial[s]))
        return wanted

    def _names_sides(self, level: str) -> bool:
        """Whether something is said of the mesh sides on which loops lie at a level."""
        kinds = {kind for by_kind in self.constraints.factors.get(level, {}).values() for kind in by_kind}
        is_sided = level in self.constraints.parallel_x or level in self.constraints.parallel_y
        return is_sided or not kinds.isdisjoint(("spatial_x", "spatial_y")) or "parallelism" not in self.axes

    def _relaxed_hardware(self, left_out: set[Item]) -> tuple[Accelerator, bool]:
        """The hardware without some capacities and fan-outs, and whether these are as large as factors ask for."""
        accelerator = self.accelerator
        named = {kind: {item.level for item in left_out if item.kind == kind} for kind in ("capacity", "fan-out")}
        levels = [
            replace(level, capacity_words=None, minimum_utilization=0.0, multiple_buffering=1.0)
            if level.name in named["capacity"]
            else level
            for level in accelerator.levels
        ]
        mac, is_certain = accelerator.mac, True
        for s, level in enumerate(accelerator.levels):
            if level.name not in named["fan-out"]:
                continue
            wanted = self._wanted_parallelism(s)
            # The number of MACs has a limit; one side of the mesh is enough unless something is said of sides.
            room = MOST_MACS // mac.instances
            x, y = min(room, -(-wanted // accelerator.fanout_x[s])), 1
            is_certain &= x * accelerator.fanout_x[s] >= wanted
            if self._names_sides(level.name):
                x, y = min(x, math.isqrt(room)), min(math.isqrt(room), -(-wanted // accelerator.fanout_y[s]))
                is_certain &= min(x * accelerator.fanout_x[s], y * accelerator.fanout_y[s]) >= wanted
            mac = replace(mac, mesh_x=mac.mesh_x * x, mesh_y=mac.mesh_y * y)
            for inner in range(s):
                one = levels[inner]
                levels[inner] = replace(one, mesh_x=one.mesh_x * x, mesh_y=one.mesh_y * y)
        return replace(accelerator, levels=tuple(levels), mac=mac), is_certain

    def _relaxed_constraints(self, left_out: set[Item], accelerator: Accelerator) -> Constraints:
        """The constraints without some of them; as many MACs are to be used as before."""
        given, gone = self.constraints, {(item.kind, item.level, item.name, item.part) for item in left_out}
        factors = {
            level: {
                dim: {part: factor for part, factor in kinds.items() if ("factors", level, dim, part) not in gone}
                for dim, kinds in by_dim.items()
            }
            for level, by_dim in given.factors.items()
        }
        kept: dict[str, dict[str, list[str]]] = {}
        for kind in _BY_LEVEL:
            kept[kind] = {
                level: [name for name in names if (kind, level, name, "") not in gone]
                for level, names in getattr(given, kind).items()
                if (kind, level, "", "") not in gone
            }
        allowed = given.parallel_dims
        if isinstance(allowed, AbcMapping):
            allowed = {level: dims for level, dims in allowed.items() if ("parallel_dims", level, "", "") not in gone}
        elif ("parallel_dims", "", "", "") in gone:
            allowed = None
        share = 0.0 if ("min_utilization", "", "", "") in gone else given.min_utilization
        share *= self.accelerator.mac.instances / accelerator.mac.instances
        return Constraints(
            factors=factors,
            orders=kept["orders"],
            spatial_orders=kept["spatial_orders"],
            parallel_dims=allowed,
            parallel_x=kept["parallel_x"],
            parallel_y=kept["parallel_y"],
            keep=kept["keep"],
            bypass=kept["bypass"],
            min_utilization=share,
        )
