"""The parts of an accelerator: storage levels and the MAC array."""

from __future__ import annotations

from dataclasses import dataclass

from mapgym.errors import MAX_INTEGER, SpecificationError, positive_int, require_name
from mapgym.errors.text import quoted
from mapgym.spec import ranges
from mapgym.spec.sparsity import Formats, SparseAction, check_block, parse_actions, parse_compute, parse_formats


@dataclass(frozen=True)
class Mac:
    """The multiply-accumulate array, a mesh of ``mesh_x * mesh_y`` units over the whole accelerator.

    Attributes:
        name: such as "MACC".
        mesh_x, mesh_y: units along each side.
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
        mesh_x, mesh_y: instances along each side.
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
