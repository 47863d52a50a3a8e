"""Accelerators: storage levels from the innermost outwards, with the MAC array below level 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, TypeVar

from mapgym.errors import SpecificationError, require_keys, require_name, suggest
from mapgym.errors.text import quoted
from mapgym.spec.actions import ACCESSES
from mapgym.spec.format_rules import check_ranks
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.ranges import (
    LEAST_BANDWIDTH,
    LEAST_CYCLE_SECONDS,
    MOST_BANDWIDTH,
    MOST_CYCLE_SECONDS,
    number,
)
from mapgym.spec.roles import Named, has_roles, name_tensors
from mapgym.spec.rules import DEFAULT_RULES, CountingRules, counting_rules, stored_rules

if TYPE_CHECKING:
    from mapgym.spec.workload import Workload

FANOUT_CHECKS = ("per_level", "cumulative")
MOST_MACS = 2**20


@dataclass(frozen=True)
class Accelerator:
    """Storage levels (index 0 is the innermost) and the MAC array below them.

    Attributes:
        name: such as "accel_b"; empty where only the hardware counts.
        levels: innermost first; the outermost keeps every tensor.
        mac: the MAC array.
        peer_links: whether neighbouring instances pass words to each other (Timeloop's default).
        fanout_check: "per_level" checks the parallelism of each level against its own fan-out; "cumulative" is
            Timeloop's model, which checks only products over levels (a quirk; docs/cost_model.md, "Legality").
        rules: which version of Timeloop is counted as, a name of :data:`mapgym.spec.rules.RULE_SETS`.
        cycle_seconds: time of a cycle, None where it is not known; costs are in cycles.
    """

    name: str
    levels: tuple[StorageLevel, ...]
    mac: Mac
    peer_links: bool = True
    fanout_check: str = "per_level"
    rules: str = DEFAULT_RULES
    cycle_seconds: float | None = None

    def __post_init__(self) -> None:
        where = f"accelerator {quoted(self.name)}"
        if self.name != "":  # where only the hardware counts
            require_name(self.name, where, "accel_b")
        object.__setattr__(self, "levels", tuple(self.levels))
        if not self.levels:
            raise SpecificationError(f"{where} has no storage levels; give at least one")
        if len(self.levels) > 12:
            raise SpecificationError(f"{where} has {len(self.levels)} storage levels; at most 12 are supported")
        names = [level.name for level in self.levels]
        if len({*names, self.mac.name}) != len(names) + 1:
            raise SpecificationError(f"{where} names a level twice; every level and the MAC needs a name of its own")
        for axis in ("mesh_x", "mesh_y"):
            inner, inner_name = getattr(self.mac, axis), self.mac.name
            for level in self.levels:
                if inner % getattr(level, axis):
                    raise SpecificationError(
                        f"{where}: {axis} of {quoted(level.name)} ({getattr(level, axis)}) does not divide that of "
                        f"{quoted(inner_name)} ({inner}); every instance must feed the same number of inner ones"
                    )
                inner, inner_name = getattr(level, axis), level.name
        if self.fanout_check not in FANOUT_CHECKS:
            raise SpecificationError(
                f"{where}: fanout_check is {quoted(self.fanout_check)}; "
                f"{suggest(str(self.fanout_check), FANOUT_CHECKS)}"
            )
        if not isinstance(self.peer_links, bool):
            raise SpecificationError(f"{where}: peer_links is {quoted(self.peer_links)}; give true or false")
        if self.mac.instances > MOST_MACS:
            raise SpecificationError(f"{where} has {self.mac.instances} MACs; at most 2**20 are supported")
        if self.levels[-1].keep_only is not None:
            raise SpecificationError(
                f"{where}: the outermost level {quoted(names[-1])} must keep every tensor; remove its keep_only"
            )
        counting_rules(self.rules, f"{where}: rules")
        if self.cycle_seconds is not None:
            remedy = "a time above 0, or leave it out"
            number(self.cycle_seconds, f"{where}: cycle_seconds", remedy, LEAST_CYCLE_SECONDS, MOST_CYCLE_SECONDS)
        for level in self.levels:
            if level.power_gated_at is not None and level.power_gated_at not in names:
                raise SpecificationError(
                    f"{where}: power_gated_at of {quoted(level.name)} is {quoted(level.power_gated_at)}; name a "
                    f"storage level: {suggest(level.power_gated_at, names)}"
                )
        check_ranks(self.levels, where)

    @cached_property
    def spatial_order_counts(self) -> tuple[bool, ...]:
        """For each level whether a cost can depend on the order of the spatial loops on one side of the mesh below it.

        Links between neighbours depend on it, and so do ways that are measured on the grid.
        """
        on_grid = self.counting.hops_on_grid
        return tuple(
            self.peer_links or (on_grid and level.hop_energy_pj + level.router_energy_pj > 0) for level in self.levels
        )

    @cached_property
    def action_energies(self) -> tuple[dict[str, float], ...]:
        """For each level the energy of each action of :data:`mapgym.spec.actions.STORAGE_ACTIONS`, in pJ."""
        return tuple(level.energies_pj(self.counting.action_names) for level in self.levels)

    @cached_property
    def mac_energies(self) -> dict[str, float]:
        """The energy of each action of :data:`mapgym.spec.actions.MAC_ACTIONS`, in pJ."""
        return self.mac.energies_pj(self.counting.action_names)

    @cached_property
    def bandwidth_scales(self) -> tuple[dict[str, float], ...]:
        """For each level how much accesses to a tensor count towards bandwidths, if not as 1; empty by older rules."""
        return tuple(dict(level.bandwidth_scale) if self.counting.leakage else {} for level in self.levels)

    @property
    def counting(self) -> CountingRules:
        """The rules themselves."""
        return counting_rules(self.rules, "rules")

    @property
    def is_sparse(self) -> bool:
        """Whether it has any sparse feature; if not, densities do not change a cost (as in Timeloop)."""
        return bool(self.mac.zero_operands) or any(level.formats or level.actions for level in self.levels)

    @cached_property
    def has_roles(self) -> bool:
        """Whether it speaks of tensors by their roles (:mod:`mapgym.spec.roles`)."""
        return any(map(has_roles, self.levels))

    def for_workload(self, workload: Workload) -> Accelerator:
        """The same hardware with the tensors of a workload in place of roles.

        Raises:
            SpecificationError: what it says of roles and of names does not go together for these tensors.
        """
        if not self.has_roles:
            return self
        return _named(self, tuple((tensor.name, tensor.is_output) for tensor in workload.tensors))

    @property
    def level_names(self) -> tuple[str, ...]:
        """Names of the storage levels, innermost first."""
        return tuple(level.name for level in self.levels)

    @cached_property
    def inner_meshes(self) -> tuple[tuple[int, int], ...]:
        """Instances along X and Y, on the whole chip, of what lies directly below each level: at the innermost MACs."""
        levels = self.levels[:-1]
        return ((self.mac.mesh_x, self.mac.mesh_y), *((level.mesh_x, level.mesh_y) for level in levels))

    @cached_property
    def fanout_x(self) -> tuple[int, ...]:
        """Inner instances below one instance of each level, along X."""
        return tuple(x // level.mesh_x for (x, _), level in zip(self.inner_meshes, self.levels, strict=True))

    @cached_property
    def fanout_y(self) -> tuple[int, ...]:
        """Inner instances below one instance of each level, along Y."""
        return tuple(y // level.mesh_y for (_, y), level in zip(self.inner_meshes, self.levels, strict=True))

    def level_index(self, name: str) -> int:
        """Index of a storage level by name; raises SpecificationError for an unknown one."""
        if name not in self.level_names:
            raise SpecificationError(
                f"accelerator {quoted(self.name)} has no storage level {quoted(name)}; "
                f"{suggest(name, self.level_names)}"
            )
        return self.level_names.index(name)

    def to_dict(self) -> dict[str, object]:
        """A plain, YAML- and JSON-able form that :meth:`from_dict` reads back (levels outermost first)."""
        return {
            "name": self.name,
            "levels": [_part_to_dict(level) for level in reversed(self.levels)],
            "mac": _part_to_dict(self.mac),
            "peer_links": self.peer_links,
            "fanout_check": self.fanout_check,
            "rules": self.rules,
            # What is not known is left out, so that what was stored before anything could be known stays the same.
            **({} if self.cycle_seconds is None else {"cycle_seconds": self.cycle_seconds}),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, object], where: str = "accelerator") -> Accelerator:
        """Builds an accelerator from its plain form.

        Args:
            data: keys ``name``, ``levels`` (a list, **outermost first**, as architects draw them; keys are the
                attributes of :class:`StorageLevel`, and ``bandwidth_words_per_cycle``, of which reads and writes get
                one half each), ``mac`` (attributes of :class:`Mac`), ``peer_links``,
                ``fanout_check``, ``rules``, ``cycle_seconds``.
            where: file and key, for error messages.

        Raises:
            SpecificationError: unknown or missing key, or a value out of range.
        """
        if not isinstance(data, Mapping):
            raise SpecificationError(f"{where} is {quoted(data)}; give a mapping with the keys levels and mac")
        require_keys(map(str, data), [field.name for field in fields(cls)], where)
        levels, mac = data.get("levels"), data.get("mac")
        if not isinstance(levels, list | tuple) or not levels:
            raise SpecificationError(
                f"{where}: levels is {quoted(levels)}; give a list of storage levels, outermost first"
            )
        if not isinstance(mac, Mapping):
            raise SpecificationError(
                f"{where}: mac is {quoted(mac)}; give a mapping such as {{mesh_x: 256, energy_pj: 1.0}}"
            )
        options = {key: data[key] for key in ("peer_links", "fanout_check", "rules", "cycle_seconds") if key in data}
        try:
            accelerator = cls(
                name=str(data.get("name", where)),
                levels=tuple(_level(entry, f"levels[{i}]") for i, entry in enumerate(levels))[::-1],
                mac=_construct(Mac, mac, "mac"),
                **options,  # type: ignore[arg-type]
            )
            for entry, level in zip(levels, accelerator.levels[::-1], strict=True):
                if "access_energy_pj" not in entry:
                    _require_energies(level, accelerator.counting)
                _require_formats(level)
        except SpecificationError as error:
            raise SpecificationError(f"{where}: {error}") from None
        return accelerator

    @classmethod
    def from_stored(cls, data: Mapping[str, object], where: str = "accelerator") -> Accelerator:
        """Like :meth:`from_dict`, for what a program has stored beside costs.

        Without rules, it has those that held before they had names.
        A specification that a person writes and that does not name its rules means the default, whichever that is.
        What :meth:`to_dict` made before rules had names means those under which the costs beside it were counted.
        """
        return cls.from_dict({**data, "rules": stored_rules(data)} if isinstance(data, Mapping) else data, where)

    def counted_by(self, rules: str, where: str = "rules") -> Accelerator:
        """The same hardware under other counting rules.

        Args:
            rules: a name of :data:`mapgym.spec.rules.RULE_SETS`.
            where: what the user gave, for error messages.

        Raises:
            SpecificationError: there are no such rules, or a level has no energies under the names that they look up.
        """
        counting = counting_rules(rules, where)
        for level in self.levels:
            # A table of energies may be all that a level has: then the energy of an access was never given.
            if level.action_energies_pj and level.access_energy_pj == StorageLevel.access_energy_pj:
                try:
                    _require_energies(level, counting)
                except SpecificationError as error:
                    raise SpecificationError(f"{where}: {error}") from None
        return replace(self, rules=counting.name)


@lru_cache(maxsize=256)
def _named(accelerator: Accelerator, tensors: tuple[Named, ...]) -> Accelerator:
    return replace(accelerator, levels=tuple(name_tensors(level, tensors) for level in accelerator.levels))


_PAIRS = ("action_energies_pj", "bandwidth_scale")
_ALWAYS = {
    *("name", "mesh_x", "mesh_y", "word_bits", "energy_pj", "access_energy_pj", "block_size_words", "capacity_words"),
    *("energy_per_hop_pj", "router_energy_pj"),
}
"""What the plain form of a part says even if it is what holds when nothing is said."""


def _part_to_dict(part: Mac | StorageLevel) -> dict[str, object]:
    """The plain form of a level or the MACs, without features that it does not have."""
    entry: dict[str, object] = {}
    for field in fields(part):
        value = getattr(part, field.name)
        if value is None or (field.name not in _ALWAYS and value == field.default):
            continue
        if field.name in _PAIRS:
            value = dict(value)
        elif field.name == "formats":
            value = {tensor: list(ranks) for tensor, ranks in value}
        elif field.name == "actions":
            value = [action.to_dict() for action in value]
        entry[field.name] = list(value) if isinstance(value, tuple) else value
    return entry


def _require_formats(level: StorageLevel) -> None:
    """Raises SpecificationError if a level has an energy of metadata, but nothing that has metadata."""
    for name, energy in level.action_energies_pj:
        if "metadata" in name and energy and not level.formats:
            raise SpecificationError(
                f"storage level {quoted(level.name)} has an energy of {name}, but stores nothing in a format; add "
                "formats, or leave the energy out"
            )


def _require_energies(level: StorageLevel, rules: CountingRules) -> None:
    """Raises SpecificationError if a level leaves open what one of its accesses costs."""
    given = dict(level.action_energies_pj)
    for action in ACCESSES:
        names = rules.action_names[action]
        if not any(name in given for name in names):
            add = f"one of {', '.join(names)} to its action_energies_pj, or " if names else ""
            raise SpecificationError(
                f"storage level {quoted(level.name)} has no energy of {action} under {rules.name}; add {add}an "
                "access_energy_pj for what is not there"
            )


_EXAMPLES = {"name": "GlobalBuffer", "mesh_x": 256, "energy_pj": 1.0, "access_energy_pj": 7.4}
_Part = TypeVar("_Part", Mac, StorageLevel)


def _level(entry: object, where: str) -> StorageLevel:
    if not isinstance(entry, Mapping):
        raise SpecificationError(f"{where} is {quoted(entry)}; give a mapping with at least name and access_energy_pj")
    return _construct(StorageLevel, _split_bandwidth(entry, where), where)


def _split_bandwidth(entry: Mapping[str, object], where: str) -> Mapping[str, object]:
    """Replaces one bandwidth by half of it for reads and half for writes, as Timeloop reads its old key."""
    key = "bandwidth_words_per_cycle"
    if key not in entry:
        return entry
    whole = number(entry[key], f"{where}: {key}", "a number above 0, or leave it out", LEAST_BANDWIDTH, MOST_BANDWIDTH)
    halves = dict.fromkeys((f"read_{key}", f"write_{key}"), whole / 2)
    return {**halves, **{name: value for name, value in entry.items() if name != key}}


def _construct(kind: type[_Part], entry: Mapping[str, object], where: str) -> _Part:
    require_keys(map(str, entry), [field.name for field in fields(kind)], where)
    # What a file leaves out by mistake, being cut short for example, must not be taken for a default.
    for key in ("mesh_x", "energy_pj") if kind is Mac else ("name", "access_energy_pj"):
        if key not in entry and not (key == "access_energy_pj" and entry.get("action_energies_pj")):
            raise SpecificationError(f"{where} has no {quoted(key)}; add it, such as {key}: {_EXAMPLES[key]}")
    return kind(**entry)  # type: ignore[arg-type]
