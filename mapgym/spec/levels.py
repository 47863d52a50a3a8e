"""The parts of an accelerator: storage levels and the MAC array."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mapgym.errors import MAX_INTEGER, SpecificationError, positive_int, require_name, suggest
from mapgym.errors.text import quoted
from mapgym.spec import ranges
from mapgym.spec.actions import ACCESSES, MAC_ACTIONS, STORAGE_ACTIONS, ActionNames, known_names
from mapgym.spec.rules import RULE_SETS
from mapgym.spec.sparsity import Formats, SparseAction, parse_actions, parse_compute, parse_formats

Numbers = tuple[tuple[str, float], ...]
"""(name, number) pairs."""


@dataclass(frozen=True)
class Mac:
    """The multiply-accumulate array, a mesh of ``mesh_x * mesh_y`` units over the whole accelerator.

    Attributes:
        name: such as "MACC".
        mesh_x, mesh_y: units along each side.
        energy_pj: energy of one multiply-accumulate.
        word_bits: operand width.
        zero_operands: what is saved when an operand is zero: gating, skipping, both or nothing.
        action_energies_pj: energies by the names of :mod:`mapgym.spec.actions`, such as {"mac_random": 1.0,
            "mac_gated": 0.1}; what is not named costs energy_pj if it is done, else nothing.
        area_um2: area of one unit, None where it is not known; it costs nothing.
    """

    name: str = "MAC"
    mesh_x: int = 1
    mesh_y: int = 1
    energy_pj: float = 1.0
    word_bits: int = 16
    zero_operands: tuple[str, ...] = ()
    action_energies_pj: Numbers = ()
    area_um2: float | None = None

    def __post_init__(self) -> None:
        where = f"MAC {quoted(self.name)}"
        ranges.area_um2(self.area_um2, f"{where}: area_um2")
        _check_fields(self, where, ("mesh_x", "mesh_y"), ("energy_pj",))
        object.__setattr__(self, "zero_operands", parse_compute(self.zero_operands, where))
        object.__setattr__(self, "action_energies_pj", _parse_energies(self.action_energies_pj, where, MAC_ACTIONS))

    def energies_pj(self, names: ActionNames) -> dict[str, float]:
        """Energy of each of ``MAC_ACTIONS`` under the names that a rule set knows."""
        return _resolve(self.action_energies_pj, names, MAC_ACTIONS, self.energy_pj, ("compute",))

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
        mesh_x, mesh_y: instances along each side.
        access_energy_pj: energy of one access of a block of ``block_size_words`` words: of reads, fills and updates
            that ``action_energies_pj`` does not name.
        action_energies_pj: energies by the names of :mod:`mapgym.spec.actions`, such as {"read": 6.1, "write": 7.4,
            "leak": 0.02}.
        block_size_words: words moved by one access.
        word_bits: width of a word.
        read_bandwidth_words_per_cycle, write_bandwidth_words_per_cycle, shared_bandwidth_words_per_cycle: limits
            of one instance (shared: reads and writes together), None for unlimited.
        bandwidth_scale: (tensor, factor) pairs: how much an access to that tensor counts towards bandwidths; 1 for
            others.
        energy_per_hop_pj, router_energy_pj, energy_per_ingress_pj: of the network between this level and the next inner
            one: of a word's way from one instance to the next, of passing a router, and of entering the network.
        wire_energy_pj_per_bit_mm, tile_width_um: the energy per hop by the length of the wire: for each bit of a word,
            and from one inner instance to the next.
        address_energy_pj: of generating the address of one access to a word.
        power_gated_at: the level whose instances switch all of this level's that they feed on and off together, so that
            unused ones leak too; None if each is switched by itself.
        cluster_size: instances that are built as one and charged once per access; divides their number.
        multiple_buffering: parts that the capacity is divided into so that one can be filled while another is used.
        keep_only: the tensors that this level may hold; None for all, empty for a level that only spreads out. Here and
            wherever else a level names tensors, ``operands`` and ``outputs`` stand for all of that role.
        no_temporal_reuse: tensors of which each step brings the whole tile again.
        no_multicast: tensors of which each inner instance gets its words by accesses of its own.
        minimum_utilization: share of the capacity that tiles must fill, 0 to 1.
        formats: how tensors are stored, see :mod:`mapgym.spec.sparsity`; those that are not named are stored word by
        word.
        actions: accesses that are saved because of zeros.
        metadata_word_bits: width of a word of metadata (bitmasks take single bits), 0 for none.
        metadata_access_bits: bits that one access to metadata moves; those of a word of metadata when left out.
        metadata_capacity_bits: room for metadata in one instance, None for unlimited.
        decompression_supported, compression_supported: whether a tensor that is stored compressed further out can be
            kept uncompressed here; outputs need both.
        area_um2: area of one instance, None where it is not known; it costs nothing.
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
    bandwidth_scale: Numbers = ()
    energy_per_ingress_pj: float = 0.0
    wire_energy_pj_per_bit_mm: float = 0.0
    tile_width_um: float = 0.0
    action_energies_pj: Numbers = ()
    address_energy_pj: float = 0.0
    power_gated_at: str | None = None
    cluster_size: int = 1
    multiple_buffering: float = 1.0
    keep_only: tuple[str, ...] | None = None
    no_temporal_reuse: tuple[str, ...] = ()
    no_multicast: tuple[str, ...] = ()
    minimum_utilization: float = 0.0
    formats: Formats = ()
    actions: tuple[SparseAction, ...] = ()
    metadata_word_bits: int = 0
    metadata_access_bits: int | None = None
    metadata_capacity_bits: int | None = None
    decompression_supported: bool = False
    compression_supported: bool = False
    area_um2: float | None = None

    def __post_init__(self) -> None:
        where = f"storage level {quoted(self.name)}"
        ranges.area_um2(self.area_um2, f"{where}: area_um2")
        _check_fields(self, where, ("mesh_x", "mesh_y"), _ENERGIES)
        positive_int(self.block_size_words, f"{where}: block_size_words", ranges.MAX_BLOCK_WORDS)
        positive_int(self.cluster_size, f"{where}: cluster_size")
        if self.instances % self.cluster_size:
            raise SpecificationError(
                f"{where}: cluster_size {self.cluster_size} does not divide the {self.instances} instances; give one "
                "that does"
            )
        if self.capacity_words is not None:
            positive_int(self.capacity_words, f"{where}: capacity_words")
        ranges.number(self.multiple_buffering, f"{where}: multiple_buffering", "a number of at least 1", 1.0, 2.0**20)
        if self.usable_words == 0:
            raise SpecificationError(
                f"{where}: multiple_buffering {self.multiple_buffering:g} leaves no word of its {self.capacity_words}; "
                "give a smaller one"
            )
        for key in ("read", "write", "shared"):
            name = f"{key}_bandwidth_words_per_cycle"
            if getattr(self, name) is not None:
                remedy = "a number above 0, or leave it out"
                limits = ranges.LEAST_BANDWIDTH, ranges.MOST_BANDWIDTH
                ranges.number(getattr(self, name), f"{where}: {name}", remedy, *limits)
        self._check_tensors(where)
        ranges.number(self.minimum_utilization, f"{where}: minimum_utilization", "a share of the capacity", 0.0, 1.0)
        if self.minimum_utilization > 0 and self.capacity_words is None:
            raise SpecificationError(
                f"{where}: minimum_utilization is {self.minimum_utilization:g}, but the capacity is unlimited; give "
                "capacity_words or leave it out"
            )
        if self.power_gated_at is not None:
            require_name(self.power_gated_at, f"{where}: power_gated_at", "GlobalBuffer")
        self._check_wires(where)
        energies = _parse_energies(self.action_energies_pj, where, STORAGE_ACTIONS)
        object.__setattr__(self, "action_energies_pj", energies)
        object.__setattr__(self, "formats", parse_formats(self.formats, where))
        for key in ("decompression_supported", "compression_supported"):
            if not isinstance(getattr(self, key), bool):
                raise SpecificationError(f"{where}: {key} is {quoted(getattr(self, key))}; give true or false")
        object.__setattr__(self, "actions", parse_actions(self.actions, where))
        _check_bits(self.metadata_word_bits, f"{where}: metadata_word_bits", ranges.MAX_WORD_BITS)
        if self.metadata_access_bits is not None:
            positive_int(self.metadata_access_bits, f"{where}: metadata_access_bits", ranges.MAX_BLOCK_WORDS)
        if self.metadata_capacity_bits is not None:
            _check_bits(self.metadata_capacity_bits, f"{where}: metadata_capacity_bits", MAX_INTEGER)

    def _check_tensors(self, where: str) -> None:
        """Checks, and makes tuples of, what is said of tensors by name."""
        for key in ("keep_only", "no_temporal_reuse", "no_multicast"):
            names = getattr(self, key)
            if key == "keep_only" and names is None:
                continue
            if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
                raise SpecificationError(f"{where}: {key} is {quoted(names)}; give a list of tensor names")
            object.__setattr__(self, key, tuple(names))
        scales = _pairs(self.bandwidth_scale, f"{where}: bandwidth_scale", "Weights: 0.5")
        for tensor, scale in scales:
            ranges.number(scale, f"{where}: bandwidth_scale of {quoted(tensor)}", "a number above 0", 1e-9, 1e9)
        object.__setattr__(self, "bandwidth_scale", scales)

    def _check_wires(self, where: str) -> None:
        ranges.number(self.tile_width_um, f"{where}: tile_width_um", "a width of at least 0", 0.0, 1e9)
        if self.wire_energy_pj_per_bit_mm and self.energy_per_hop_pj:
            raise SpecificationError(
                f"{where} has both an energy_per_hop_pj and a wire_energy_pj_per_bit_mm; leave out one of them"
            )
        if self.wire_energy_pj_per_bit_mm and not self.tile_width_um:
            raise SpecificationError(
                f"{where} has a wire_energy_pj_per_bit_mm but no tile_width_um; add the distance of inner instances"
            )

    @property
    def instances(self) -> int:
        """Number of instances."""
        return self.mesh_x * self.mesh_y

    @property
    def clusters(self) -> int:
        """Number of groups of ``cluster_size`` instances."""
        return self.instances // self.cluster_size

    @property
    def usable_words(self) -> int | None:
        """Words that tiles can take, None for unlimited: a part of the capacity with multiple buffering."""
        if self.capacity_words is None or self.multiple_buffering == 1:
            return self.capacity_words
        return math.floor(self.capacity_words / self.multiple_buffering)

    @property
    def metadata_width_bits(self) -> int:
        """Bits that one access to metadata moves, 0 if there are none."""
        return self.metadata_word_bits if self.metadata_access_bits is None else self.metadata_access_bits

    @property
    def usable_metadata_bits(self) -> int | None:
        """Bits that metadata can take, None for unlimited: a part of their room with multiple buffering."""
        if self.metadata_capacity_bits is None or self.multiple_buffering == 1:
            return self.metadata_capacity_bits
        return math.floor(self.metadata_capacity_bits / self.multiple_buffering)

    @property
    def hop_energy_pj(self) -> float:
        """Energy of a word's way from one inner instance to the next, however it is given."""
        if self.wire_energy_pj_per_bit_mm:
            return self.word_bits * (self.tile_width_um / 1000) * self.wire_energy_pj_per_bit_mm
        return self.energy_per_hop_pj

    def energies_pj(self, names: ActionNames) -> dict[str, float]:
        """Energy of each of ``STORAGE_ACTIONS`` under the names that a rule set knows."""
        return _resolve(self.action_energies_pj, names, STORAGE_ACTIONS, self.access_energy_pj, ACCESSES)


_ENERGIES = (
    *("access_energy_pj", "energy_per_hop_pj", "router_energy_pj", "energy_per_ingress_pj"),
    *("wire_energy_pj_per_bit_mm", "address_energy_pj"),
)


def _pairs(data: object, where: str, example: str) -> tuple[tuple[str, float], ...]:
    """Pairs of names and values, given as such or as a mapping."""
    pairs = list(data.items()) if isinstance(data, Mapping) else data
    if not isinstance(pairs, list | tuple) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str) for pair in pairs
    ):
        raise SpecificationError(f"{where} is {quoted(data)}; give name: number pairs such as {example}")
    if len({name for name, _ in pairs}) < len(pairs):
        raise SpecificationError(f"{where} is {quoted(data)}, which gives a name twice; give each name one number")
    return tuple((name, value) for name, value in pairs)


def _parse_energies(data: object, where: str, actions: tuple[str, ...]) -> Numbers:
    """Reads energies of actions: a mapping of names to pJ."""
    energies = _pairs(data, f"{where}: action_energies_pj", f"{actions[0]}: 1.5")
    known = known_names(actions, *(rules.action_names for rules in RULE_SETS.values()))
    for name, energy in energies:
        if name not in known:
            raise SpecificationError(
                f"{where}: action_energies_pj: unknown action {quoted(name)}; {suggest(name, known)}"
            )
        ranges.energy_pj(energy, f"{where}: action_energies_pj: {name}")
    return energies


def _resolve(
    table: Numbers, names: ActionNames, actions: Iterable[str], short: float, done: tuple[str, ...]
) -> dict[str, float]:
    """Energy of each action: that of the first of its names in the table, else the short form for what is done."""
    given = dict(table)
    found = {action: next((given[name] for name in names[action] if name in given), None) for action in actions}
    return {
        action: energy if energy is not None else (short if action in done else 0.0) for action, energy in found.items()
    }


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
