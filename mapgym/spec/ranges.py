"""Which numbers can be computed with: ranges of what users give, and the largest counts that stay exact.

Counts of words and accesses are whole numbers that kernels hold as int64 and add up as float64, so that each of them
has to stay below 2**53, with one bit to spare for outputs, whose partial sums can travel both ways. What could be
larger is refused before anything is priced. docs/cost_model.md ("Numbers") has the proofs.
"""

from __future__ import annotations

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted

MAX_COUNT = 2**52
"""Largest count of words or accesses of one tensor, over all instances of a level."""

MAX_DIMS, MAX_TENSORS, MAX_RANKS = 32, 8, 64
"""Of a workload, and ranks of one of its tensors."""

MAX_ARRANGED = 20
"""Most loops of a level whose orders can be numbered: 20! is below 2**62."""

MAX_WHOLE = 2**62
"""Largest whole number of which nothing but its size matters: cycles, addresses within a tensor."""

LEAST_ENERGY_PJ, MOST_ENERGY_PJ = 1e-15, 1e15
"""Range of an energy above 0: sums over the largest counts, times cycles, stay far from the ends of float64."""

MOST_AREA_UM2 = 1e15
"""Of one instance; a wafer has about 7e10."""

LEAST_CYCLE_SECONDS, MOST_CYCLE_SECONDS = 1e-15, 1e3
"""Range of the time of a cycle."""

LEAST_BANDWIDTH, MOST_BANDWIDTH = 1e-9, 1e18
"""Range of a bandwidth in words per cycle."""

LEAST_DENSITY = 1e-9
"""Products of the densities of a few tensors, and of their squares, have to stay far from 0."""

LEAST_WEIGHT, MOST_WEIGHT = 1e-9, 1e9
"""Range of a weight, of which only ratios to others matter."""

MOST_SECONDS = 1e9
"""Longest time limit, some thirty years: waiting functions of operating systems take no more."""

MAX_WORD_BITS = 2**16
MAX_BLOCK_WORDS = 2**20

MAX_HYPERGEOMETRIC_WORDS = 2**36
"""Largest tensor with hypergeometric density: logarithms of factorials lose their last digits with its size."""


def number(value: object, where: str, remedy: str, least: float, most: float) -> float:
    """Returns a number of a range as it is.

    Args:
        value: an int or a float.
        where: what it is, for the message.
        remedy: what to give instead, without the range.
        least, most: the range.

    Raises:
        SpecificationError: it is something else, or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise SpecificationError(f"{where} is {quoted(value)}; give {remedy} ({least:g} to {most:g})")
    return value


def energy_pj(value: object, where: str) -> float:
    """Returns an energy: 0, or a number of a sane range."""
    if value == 0 and isinstance(value, int | float) and not isinstance(value, bool):
        return value
    remedy = "a finite energy in pJ of at least 0"
    return number(value, where, remedy, LEAST_ENERGY_PJ, MOST_ENERGY_PJ)


def area_um2(value: object, where: str) -> None:
    """Raises SpecificationError unless a value is an area, or None for an unknown one."""
    if value is not None:
        number(value, where, "an area of at least 0, or leave it out", 0.0, MOST_AREA_UM2)


def density(value: object, where: str) -> float:
    """Returns a fraction of non-zero words."""
    return number(value, where, "a number above 0 and at most 1", LEAST_DENSITY, 1.0)
