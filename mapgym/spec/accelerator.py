"""Accelerators: storage levels from the innermost outwards, with the MAC array below level 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import TypeVar

from mapgym.errors import MAX_INTEGER, SpecificationError, positive_int, require_keys, require_name, suggest
from mapgym.errors.text import quoted
from mapgym.spec import ranges
from mapgym.spec.format_rules import check_block, check_ranks
from mapgym.spec.sparsity import Formats, SparseAction, parse_actions, parse_compute, parse_formats

FANOUT_CHECKS = ("per_level", "cumulative")


@dataclass(frozen=True)
class Mac:
    """The multiply-accumulate array, a mesh of ``mesh_x * mesh_y`` units over the whole accelerator.

    Attributes:
        name: such as "MACC".
        mesh_x, mesh_y: units along each axis.
        energy_pj: energy of one multiply-accumulate.
        word_bits: operand width.
        zero_operands: what is saved when an operand is zero: gating, skipping, both or nothing.
    """

    name: str = "MAC"
    mesh_x: int = 1
    mesh_y: int = 1
    energy_pj: float = 1.0
    word_bits: int = 16
    zero_operands: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        where = f"MAC {quoted(self.name)}"
        _check_fields(self, where, ("mesh_x", "mesh_y"), ("energy_pj",))
        object.__setattr__(self, "zero_operands", parse_compute(self.zero_operands, where))

    @property
    def instances(self) -> int:
        """Number of MAC units."""
        return self.mesh_x * self.mesh_y


@dataclass(frozen=True)
class StorageLevel:
    """One storage level; its instances form a mesh of ``mesh_x * mesh_y`` over the whole accelerator.

    Attributes:
        name: such as "RegisterFile".
        capacity_words: words of one instance, None for unlimited. An unlimited level is a DRAM in Timeloop's terms:
            partial sums are not reduced in place there, and travel both ways on its network.
        mesh_x, mesh_y: instances along each axis.
        access_energy_pj: energy of one access of a block of ``block_size_words`` words; reads, fills and
            updates cost the same.
        block_size_words: words moved by one access.
        word_bits: width of a word.
        read_bandwidth_words_per_cycle, write_bandwidth_words_per_cycle, shared_bandwidth_words_per_cycle: limits
            of one instance (shared: reads and writes together), None for unlimited.
        energy_per_hop_pj, router_energy_pj: of the network between this level and the next inner one.
        keep_only: the tensors that this level may hold; None for all.
        formats: how tensors are stored, see :mod:`mapgym.spec.sparsity`; those that are not named are stored word by
        word.
        actions: accesses that are saved because of zeros.
        metadata_word_bits: width of a word of metadata (bitmasks take single bits), 0 for none.
        metadata_capacity_bits: room for metadata in one instance, None for unlimited.
        decompression_supported, compression_supported: whether a tensor that is stored compressed further out can be
            kept uncompressed here; outputs need both. Timeloop charges nothing for it.
    """

    name: str
    capacity_words: int | None = None
    mesh_x: int = 1
    mesh_y: int = 1
    access_energy_pj: float = 1.0
    block_size_words: int = 1
    word_bits: int = 16
    read_bandwidth_words_per_cycle: float | None = None
    write_bandwidth_words_per_cycle: float | None = None
    shared_bandwidth_words_per_cycle: float | None = None
    energy_per_hop_pj: float = 0.0
    router_energy_pj: float = 0.0
    keep_only: tuple[str, ...] | None = None
    formats: Formats = ()
    actions: tuple[SparseAction, ...] = ()
    metadata_word_bits: int = 0
    metadata_capacity_bits: int | None = None
    decompression_supported: bool = False
    compression_supported: bool = False

    def __post_init__(self) -> None:
        where = f"storage level {quoted(self.name)}"
        _check_fields(
            self,
            where,
            ("mesh_x", "mesh_y"),
            ("access_energy_pj", "energy_per_hop_pj", "router_energy_pj"),
        )
        positive_int(self.block_size_words, f"{where}: block_size_words", ranges.MAX_BLOCK_WORDS)
        if self.capacity_words is not None:
            positive_int(self.capacity_words, f"{where}: capacity_words")
        for key in ("read", "write", "shared"):
            name = f"{key}_bandwidth_words_per_cycle"
            if getattr(self, name) is not None:
                remedy = "a number above 0, or leave it out"
                limits = ranges.LEAST_BANDWIDTH, ranges.MOST_BANDWIDTH
                ranges.number(getattr(self, name), f"{where}: {name}", remedy, *limits)
        if self.keep_only is not None:
            names = self.keep_only
            if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
                raise SpecificationError(f"{where}: keep_only is {quoted(self.keep_only)}; give a list of tensor names")
            object.__setattr__(self, "keep_only", tuple(self.keep_only))
        object.__setattr__(self, "formats", parse_formats(self.formats, where))
        check_block(self.formats, self.block_size_words, where)
        for key in ("decompression_supported", "compression_supported"):
            if not isinstance(getattr(self, key), bool):
                raise SpecificationError(f"{where}: {key} is {quoted(getattr(self, key))}; give true or false")
        object.__setattr__(self, "actions", parse_actions(self.actions, where))
        _check_bits(self.metadata_word_bits, f"{where}: metadata_word_bits", ranges.MAX_WORD_BITS)
        if self.metadata_capacity_bits is not None:
            _check_bits(self.metadata_capacity_bits, f"{where}: metadata_capacity_bits", MAX_INTEGER)

    @property
    def instances(self) -> int:
        """Number of instances."""
        return self.mesh_x * self.mesh_y


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
    """

    name: str
    levels: tuple[StorageLevel, ...]
    mac: Mac
    peer_links: bool = True
    fanout_check: str = "per_level"

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
        if self.mac.instances > 2**20:
            raise SpecificationError(f"{where} has {self.mac.instances} MACs; at most 2**20 are supported")
        if self.levels[-1].keep_only is not None:
            raise SpecificationError(
                f"{where}: the outermost level {quoted(names[-1])} must keep every tensor; remove its keep_only"
            )
        check_ranks(self.levels, where)

    @property
    def is_sparse(self) -> bool:
        """Whether it has any sparse feature; if not, densities do not change a cost (as in Timeloop)."""
        return bool(self.mac.zero_operands) or any(level.formats or level.actions for level in self.levels)

    @property
    def level_names(self) -> tuple[str, ...]:
        """Names of the storage levels, innermost first."""
        return tuple(level.name for level in self.levels)

    @cached_property
    def fanout_x(self) -> tuple[int, ...]:
        """Inner instances below one instance of each level, along X."""
        inner = (self.mac.mesh_x, *(level.mesh_x for level in self.levels))
        return tuple(inner[s] // level.mesh_x for s, level in enumerate(self.levels))

    @cached_property
    def fanout_y(self) -> tuple[int, ...]:
        """Inner instances below one instance of each level, along Y."""
        inner = (self.mac.mesh_y, *(level.mesh_y for level in self.levels))
        return tuple(inner[s] // level.mesh_y for s, level in enumerate(self.levels))

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
        levels = []
        for level in reversed(self.levels):
            entry = {key: value for key, value in asdict(level).items() if value is not None}
            if level.keep_only is not None:
                entry["keep_only"] = list(level.keep_only)
            entry["formats"] = {tensor: list(ranks) for tensor, ranks in level.formats}
            entry["actions"] = [action.to_dict() for action in level.actions]
            levels.append(_without_defaults(entry))
        return {
            "name": self.name,
            "levels": levels,
            "mac": _without_defaults({**asdict(self.mac), "zero_operands": list(self.mac.zero_operands)}),
            "peer_links": self.peer_links,
            "fanout_check": self.fanout_check,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, object], where: str = "accelerator") -> Accelerator:
        """Builds an accelerator from its plain form.

        Args:
            data: keys ``name``, ``levels`` (a list, **outermost first**, as architects draw them; keys are the
                attributes of :class:`StorageLevel`), ``mac`` (attributes of :class:`Mac`), ``peer_links``,
                ``fanout_check``.
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
        options = {key: data[key] for key in ("peer_links", "fanout_check") if key in data}
        try:
            return cls(
                name=str(data.get("name", where)),
                levels=tuple(_level(entry, f"levels[{i}]") for i, entry in enumerate(levels))[::-1],
                mac=_construct(Mac, mac, "mac"),
                **options,  # type: ignore[arg-type]
            )
        except SpecificationError as error:
            raise SpecificationError(f"{where}: {error}") from None


def _without_defaults(entry: dict[str, object]) -> dict[str, object]:
    """Leaves out sparse features that are not there."""
    names = (
        *("formats", "actions", "metadata_word_bits", "zero_operands"),
        *("decompression_supported", "compression_supported"),
    )
    return {key: value for key, value in entry.items() if key not in names or value}


_EXAMPLES = {"name": "GlobalBuffer", "mesh_x": 256, "energy_pj": 1.0, "access_energy_pj": 7.4}
_Part = TypeVar("_Part", Mac, StorageLevel)


def _level(entry: object, where: str) -> StorageLevel:
    if not isinstance(entry, Mapping):
        raise SpecificationError(f"{where} is {quoted(entry)}; give a mapping with at least name and access_energy_pj")
    return _construct(StorageLevel, entry, where)


def _construct(kind: type[_Part], entry: Mapping[str, object], where: str) -> _Part:
    require_keys(map(str, entry), [field.name for field in fields(kind)], where)
    # What a file leaves out by mistake, being cut short for example, must not be taken for a default.
    for key in ("mesh_x", "energy_pj") if kind is Mac else ("name", "access_energy_pj"):
        if key not in entry:
            raise SpecificationError(f"{where} has no {quoted(key)}; add it, such as {key}: {_EXAMPLES[key]}")
    return kind(**entry)  # type: ignore[arg-type]


def _check_bits(value: object, where: str, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise SpecificationError(
            f"{where} is {quoted(value)}; give a whole number of bits, at least 0 and at most {most}"
        )


def _check_fields(part: Mac | StorageLevel, where: str, counts: tuple[str, ...], energies: tuple[str, ...]) -> None:
    require_name(part.name, where, "GlobalBuffer")
    positive_int(part.word_bits, f"{where}: word_bits", ranges.MAX_WORD_BITS)
    for key in counts:
        positive_int(getattr(part, key), f"{where}: {key}")
    for key in energies:
        ranges.energy_pj(getattr(part, key), f"{where}: {key}")
