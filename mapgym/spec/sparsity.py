"""Sparse features of an accelerator: what it does about zeros.

Three features, after Sparseloop (Wu et al., MICRO 2022), each declared where the hardware has it:

- *formats*: how a level stores a tensor, rank by rank, so that zeros need no room (and metadata say where they are);
- *actions*: accesses to a tensor that a level saves because another operand is zero: gating leaves the unit idle for
  the cycle, skipping saves the cycle too;
- what the MAC array does about zero operands that still reach it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mapgym.errors import SpecificationError, require_keys, suggest
from mapgym.errors.text import quoted

SAVINGS = ("gating", "skipping")
"""Ways to save an access or a computation."""

RANK_FORMATS = ("UOP", "CP", "RLE", "B", "UB")
"""Formats of a rank: uncompressed offset pointers, coordinate-payload, run lengths, bitmask, uncompressed bitmask."""

COMPRESSED = ("CP", "RLE", "B")
"""Those that leave zeros out."""

_RANK = re.compile(
    r"(?:(?P<count>[0-9]{1,9})\s*\*\s*)?(?P<name>\w+)(?:@(?P<dims>\w+(?:\+\w+)*))?"
    r"(?::(?P<bits>[0-9]{1,4})(?:/(?P<payload>[0-9]{1,4}))?)?\Z"
)
_MAX_RANKS = 256

OUTER_FIRST = "outer-to-inner"
"""First in a list of ranks: loops take ranks from the outermost one, so that ranks to spare lie inside of them."""

Formats = tuple[tuple[str, tuple[str, ...]], ...]
"""(tensor, formats of its ranks, outermost first) pairs."""


@dataclass(frozen=True)
class SparseAction:
    """Accesses to one tensor that a level saves.

    Attributes:
        saving: one of ``SAVINGS``.
        target: the tensor whose accesses are saved.
        condition_on: the tensors whose zeros save them, at least one.
    """

    saving: str
    target: str
    condition_on: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """The form that :func:`parse_actions` reads."""
        return {"type": self.saving, "target": self.target, "condition_on": list(self.condition_on)}


def _matches(ranks: tuple[str, ...]) -> Iterator[re.Match[str]]:
    """What each rank says, outermost first; each of "3*UOP" by itself."""
    for text in ranks[ranks[:1] == (OUTER_FIRST,) :]:
        match = _RANK.match(text)
        assert match is not None  # checked by parse_formats
        yield from itertools.repeat(match, int(match["count"] or 1))


def expand_ranks(ranks: tuple[str, ...]) -> tuple[str, ...]:
    """The format of each rank, outermost first: "3*UOP" stands for three ranks."""
    return tuple(match["name"] for match in _matches(ranks))


def rank_bits(ranks: tuple[str, ...], word_bits: int) -> tuple[tuple[int, int], ...]:
    """Bits of a word of metadata and of a word of payload of each rank, outermost first.

    "CP:14" has words of 14 bits, "CP:14/5" has 5 bits of payload; those of a rank that does not say are ``word_bits``,
    but for the single bits of a bitmask.
    """
    bits = []
    for match in _matches(ranks):
        one = word_bits if match["bits"] is None else int(match["bits"])
        payload = one if match["payload"] is None else int(match["payload"])
        bits.append((1 if match["name"] == "B" and match["bits"] is None else one, payload))
    return tuple(bits)


def joined_dims(ranks: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Dims whose loops each rank joins, outermost first: those of "RLE@P+Q" are P and Q; none if it takes one loop."""
    return tuple(tuple((match["dims"] or "").split("+")) if match["dims"] else () for match in _matches(ranks))


def is_compressed(ranks: tuple[str, ...]) -> bool:
    """Whether a format, as it is written, leaves zeros out."""
    return any(name in COMPRESSED for name in expand_ranks(ranks))


def parse_formats(data: object, where: str) -> Formats:
    """Reads formats: a mapping of tensors to lists such as ["2*UOP", "CP"], outermost rank first.

    Raises:
        SpecificationError: it is something else.
    """
    pairs = list(data.items()) if isinstance(data, Mapping) else data
    if not isinstance(pairs, list | tuple) or not all(isinstance(p, list | tuple) and len(p) == 2 for p in pairs):
        raise SpecificationError(
            f"{where}: formats is {quoted(data)}; give tensor: [rank, ...] pairs such as Weights: [UOP, CP]"
        )
    formats: list[tuple[str, tuple[str, ...]]] = []
    for tensor, ranks in pairs:
        place = f"{where}: the formats of {quoted(tensor)}"
        if not isinstance(tensor, str):
            raise SpecificationError(f"{place}: give the name of a tensor, as text")
        if isinstance(ranks, str) or not isinstance(ranks, list | tuple) or not ranks:
            raise SpecificationError(
                f"{place} are {quoted(ranks)}; give a list of ranks, outermost first, such as [UOP, CP]"
            )
        count = 0
        for text in ranks[str(ranks[0]) == OUTER_FIRST :]:
            match = _RANK.match(str(text))
            name = match["name"] if match else str(text)
            if match is None or name not in RANK_FORMATS:
                raise SpecificationError(f"{place}: unknown rank {quoted(text)}; {suggest(name, RANK_FORMATS)}")
            count += int(match["count"] or 1)
        if not 0 < count <= _MAX_RANKS:
            raise SpecificationError(f"{place} have {count} ranks; give 1 to {_MAX_RANKS}")
        written = tuple(map(str, ranks))
        names = expand_ranks(written)
        for outside, inside in itertools.pairwise(names):
            if outside in COMPRESSED and inside not in COMPRESSED:
                raise SpecificationError(
                    f"{place} have the uncompressed rank {inside} inside the compressed rank {outside}; list "
                    "uncompressed ranks first, such as [UOP, CP]"
                )
        if any(tensor == other for other, _ in formats):
            raise SpecificationError(f"{place} are given twice; give each tensor one list")
        formats.append((tensor, written))
    return tuple(formats)


def parse_actions(data: object, where: str) -> tuple[SparseAction, ...]:
    """Reads actions: a list of mappings with the keys type, target and condition_on.

    Raises:
        SpecificationError: it is something else.
    """
    if not isinstance(data, list | tuple):
        raise SpecificationError(f"{where}: actions is {quoted(data)}; give a list")
    actions = []
    for entry in data:
        if isinstance(entry, SparseAction):
            entry = entry.to_dict()
        if not isinstance(entry, Mapping):
            raise SpecificationError(f"{where}: an action is {quoted(entry)}; give type, target and condition_on")
        require_keys(map(str, entry), ("type", "target", "condition_on"), f"{where}: action")
        saving, target, on = (entry.get(key) for key in ("type", "target", "condition_on"))
        if saving not in SAVINGS:
            raise SpecificationError(
                f"{where}: the type of an action is {quoted(saving)}; {suggest(str(saving), SAVINGS)}"
            )
        names = list(on) if isinstance(on, list | tuple) else []
        if not names or not all(isinstance(name, str) for name in (target, *names)) or target in names:
            raise SpecificationError(
                f"{where}: an action has target {quoted(target)} and condition_on {quoted(on)}; name a tensor and a "
                "list of others"
            )
        if len(set(names)) < len(names):
            raise SpecificationError(
                f"{where}: condition_on of the action on {quoted(target)} is {quoted(on)}, which names a tensor twice; "
                "name each tensor once"
            )
        actions.append(SparseAction(str(saving), str(target), tuple(names)))
    return tuple(actions)


def parse_compute(data: object, where: str) -> tuple[str, ...]:
    """Reads what the MAC array does about zero operands: a list of ``SAVINGS``, empty for nothing.

    Raises:
        SpecificationError: it is something else.
    """
    if isinstance(data, str) or not isinstance(data, list | tuple):
        raise SpecificationError(f"{where}: zero_operands is {quoted(data)}; give a list with gating, skipping or both")
    for saving in data:
        if saving not in SAVINGS:
            raise SpecificationError(
                f"{where}: zero_operands: unknown {quoted(saving)}; {suggest(str(saving), SAVINGS)}"
            )
    return tuple(saving for saving in SAVINGS if saving in data)
