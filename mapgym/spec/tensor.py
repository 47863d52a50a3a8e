"""Tensors: what an operand or a result of a layer looks like.

A projection lists the ranks (axes) of a tensor; each rank is a sum of ``coefficient * dim`` terms, so that einsums,
strided and dilated convolutions are all the same thing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mapgym.errors import (
    LONGEST_NAME,
    MAX_INTEGER,
    SpecificationError,
    positive_int,
    require_keys,
    require_name,
    suggest,
)
from mapgym.errors.text import quoted
from mapgym.spec import ranges

Rank = tuple[tuple[str, int], ...]


BANDED = "banded"
DENSITY_DISTRIBUTIONS = ("fixed-structured", "hypergeometric", BANDED)
"""Where the non-zeros of a tensor can be: spread evenly, anywhere, or close to the diagonal of a square matrix."""


_MAX_DIGITS = 16  # of 2**53; Python refuses to read numbers of some thousand


_TERM = re.compile(r"(?:([0-9]+)\s*\*\s*)?([^\s*+]+)")


@dataclass(frozen=True)
class Tensor:
    """One operand or the result of a layer.

    Attributes:
        name: such as "Weights".
        ranks: one entry per axis; each is a tuple of (dim, coefficient) terms that are added up.
        is_output: True for the one tensor that is accumulated (read, modified, written).
        density: fraction of non-zero words, from 1e-9 to 1; of a banded tensor that of its workload's size.
        density_distribution: where the non-zeros are, one of ``DENSITY_DISTRIBUTIONS``.
        band_width: diagonals on either side of the main one that a banded tensor has.
    """

    name: str
    ranks: tuple[Rank, ...]
    is_output: bool = False
    density: float = 1.0
    density_distribution: str = "fixed-structured"
    band_width: int = 0

    def __post_init__(self) -> None:
        where = f"tensor {quoted(self.name)}"
        require_name(self.name, where, "Weights")
        if not self.ranks:
            raise SpecificationError(f"{where} has no ranks; list at least one, such as ['M']")
        for rank in self.ranks:
            if not rank:
                raise SpecificationError(f"{where} has an empty rank; name a dim in it or leave the rank out")
            for dim, coefficient in rank:
                require_dim(dim, where)
                # Workloads are made often, and messages take time.
                if type(coefficient) is not int or not 1 <= coefficient <= MAX_INTEGER:
                    positive_int(coefficient, f"{where}: the coefficient of dim {quoted(dim)}")
            if len({dim for dim, _ in rank}) != len(rank):
                raise SpecificationError(f"{where} names a dim twice in one rank; add its coefficients up instead")
        ranges.density(self.density, f"{where}: density")
        if self.density_distribution not in DENSITY_DISTRIBUTIONS:
            raise SpecificationError(
                f"{where}: density_distribution is {quoted(self.density_distribution)}; "
                f"{suggest(str(self.density_distribution), DENSITY_DISTRIBUTIONS)}"
            )
        width = self.band_width
        if type(width) is not int or not 0 <= width <= MAX_INTEGER:
            raise SpecificationError(
                f"{where}: band_width is {quoted(width)}; give a whole number of diagonals, at least 0"
            )
        if width > 0 and self.density_distribution != BANDED:
            raise SpecificationError(
                f"{where} has a band_width, but the density_distribution {quoted(self.density_distribution)}; leave "
                f"the band_width out or make the distribution {quoted(BANDED)}"
            )

    def with_density(self, density: object, distribution: str | None = None) -> Tensor:
        """A copy with another density.

        Args:
            density: a number; or a mapping with ``density`` or, of a banded one, ``band_width``, and ``distribution``.
            distribution: the one that holds where the mapping names none; the tensor's own when left out.

        Raises:
            SpecificationError: it is something else.
        """
        where = f"tensor {quoted(self.name)}"
        given: dict[str, Any] = dict(density) if isinstance(density, Mapping) else {"density": density}
        require_keys(map(str, given), ("density", "distribution", "band_width"), f"{where}: density")
        kind = given.get("distribution", distribution or self.density_distribution)
        if (kind == BANDED) == ("density" in given):
            remedy = (
                "give {distribution: banded, band_width: 2}, because the width says how many words are not zero"
                if kind == BANDED
                else f"give a number, or {{density: 0.5, distribution: {DENSITY_DISTRIBUTIONS[0]}}}"
            )
            raise SpecificationError(f"{where}: density is {quoted(density)}; {remedy}")
        return replace(
            self,
            density=given.get("density", 1.0),
            density_distribution=kind,
            band_width=given.get("band_width", 0),
        )

    @property
    def dims(self) -> tuple[str, ...]:
        """The dims that the tensor depends on, in order of first appearance."""
        return tuple(dict.fromkeys(dim for rank in self.ranks for dim, _ in rank))

    def tile_size(self, extents: Mapping[str, int]) -> int:
        """Words of the bounding box that a tile with these extents touches (holes count, as in Timeloop).

        Args:
            extents: dim -> number of iterations covered; a missing dim counts as 1.
        """
        return math.prod(1 + sum(c * (extents.get(dim, 1) - 1) for dim, c in rank) for rank in self.ranks)


def parse_rank(text: object, where: str) -> Rank:
    """Reads one rank such as "2*P + R"; raises SpecificationError when it is something else."""
    terms = []
    for part in str(text).split("+"):
        match = _TERM.fullmatch(part.strip())
        if match is None or not match[2].isidentifier():
            raise SpecificationError(f"{where}: cannot read rank {quoted(text)}; write sums of dims such as '2*P + R'")
        digits = match[1] or "1"
        if len(digits) > _MAX_DIGITS:
            raise SpecificationError(f"{where}: rank {quoted(text)} has a coefficient above 2**53; give a smaller one")
        terms.append((match[2], int(digits)))
    return tuple(terms)


def format_rank(rank: Rank) -> str:
    """The text form of a rank that :func:`parse_rank` reads."""
    return " + ".join(dim if coefficient == 1 else f"{coefficient}*{dim}" for dim, coefficient in rank)


def require_dim(dim: object, where: str) -> None:
    """Raises SpecificationError unless it can be the name of a dim."""
    if not isinstance(dim, str) or not dim.isidentifier() or len(dim) > LONGEST_NAME:
        raise SpecificationError(
            f"{where} has the dim {quoted(dim)}; call it by a letter, or a letter and more letters and digits"
        )
