"""Which numbers can be computed with: ranges of what users give, and the largest counts that stay exact.

Counts of words and accesses are whole numbers that kernels hold as int64 and add up as float64, so that each of them
has to stay below 2**53, with one bit to spare for outputs, whose partial sums can travel both ways. What could be
larger is refused before anything is priced. docs/cost_model.md ("Numbers") has the proofs.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted

if TYPE_CHECKING:
    from mapgym.spec.accelerator import Accelerator
    from mapgym.spec.workload import Tensor, Workload

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


def density(value: object, where: str) -> float:
    """Returns a fraction of non-zero words."""
    return number(value, where, "a number above 0 and at most 1", LEAST_DENSITY, 1.0)


def check_sizes(workload: Workload) -> None:
    """Raises SpecificationError if a count of the workload could be inexact, or a tensor too large to address."""
    where = f"workload {quoted(workload.name)}"
    if len(workload.dims) > MAX_DIMS or len(workload.tensors) > MAX_TENSORS:
        raise SpecificationError(
            f"{where} has {len(workload.dims)} dims and {len(workload.tensors)} tensors, more than {MAX_DIMS} or "
            f"{MAX_TENSORS}; split the layer"
        )
    for tensor in workload.tensors:
        if len(tensor.ranks) > MAX_RANKS:
            raise SpecificationError(
                f"{where}: tensor {quoted(tensor.name)} has {len(tensor.ranks)} ranks, more than {MAX_RANKS}; join some"
            )
        count = largest_count(workload, tensor)
        if count > MAX_COUNT:
            raise SpecificationError(
                f"{where}: access counts of tensor {quoted(tensor.name)} could reach {power_of_two(count)}, above the "
                "2**52 that can be counted exactly; split the layer along its largest dim"
            )
        if address_space(workload, tensor) >= MAX_WHOLE:
            raise SpecificationError(
                f"{where}: tensor {quoted(tensor.name)} is too large to address, because it has too many ranks of more "
                "than one word; join some of its ranks or split the layer"
            )


def largest_count(workload: Workload, tensor: Tensor) -> int:
    """What no count of words or accesses of a tensor exceeds, over all instances of a level and the whole run.

    A tile of extents e has at most C * prod(e_d ** m_d) words, where C is the product over its ranks of the largest
    coefficient and m_d the number of ranks that the dim d is in. It is needed at most macs / prod(e_d) times.
    """
    bounds = dict(zip(workload.dims, workload.bounds, strict=True))
    ranks = active_ranks(workload, tensor)
    used = [dim for rank in ranks for dim, _ in rank]
    again = math.prod(bounds[dim] ** (used.count(dim) - 1) for dim in set(used))
    return workload.macs * again * math.prod(max(c for _, c in rank) for rank in ranks)


def address_space(workload: Workload, tensor: Tensor) -> int:
    """How many addresses it takes to tell all differences of two positions in a tensor apart.

    Steps of nested loops can reach beyond the tensor by its own length in either direction, along each rank.
    """
    bounds = dict(zip(workload.dims, workload.bounds, strict=True))
    return math.prod(4 * rank_length(rank, bounds) + 3 for rank in active_ranks(workload, tensor))


def rank_length(rank: tuple[tuple[str, int], ...], bounds: dict[str, int]) -> int:
    """Words of a tensor along one rank."""
    return 1 + sum(c * (bounds[dim] - 1) for dim, c in rank)


def active_ranks(workload: Workload, tensor: Tensor) -> list[tuple[tuple[str, int], ...]]:
    """The ranks of a tensor without dims of bound 1, which never move and add nothing to a length."""
    bounds = dict(zip(workload.dims, workload.bounds, strict=True))
    ranks = [tuple((dim, c) for dim, c in rank if bounds[dim] > 1) for rank in tensor.ranks]
    return [rank for rank in ranks if rank]


def check_task(workload: Workload, accelerator: Accelerator) -> None:
    """Raises SpecificationError if cycles or sparse counts of a workload on an accelerator could be inexact."""
    where = f"workload {quoted(workload.name)} on accelerator {quoted(accelerator.name)}"
    counts = [largest_count(workload, tensor) for tensor in workload.tensors]
    for level in accelerator.levels:
        for key in ("read", "write", "shared"):
            bandwidth = getattr(level, f"{key}_bandwidth_words_per_cycle")
            # Reads, fills and updates, those for neighbours included.
            if bandwidth is not None and 8 * sum(counts) > MAX_WHOLE * bandwidth:
                raise SpecificationError(
                    f"{where}: {key}_bandwidth_words_per_cycle {bandwidth:g} of {quoted(level.name)} could take more "
                    "than the 2**62 cycles that can be counted; give a higher one or split the layer"
                )
        if accelerator.is_sparse and max(counts) * level.block_size_words > MAX_WHOLE:
            raise SpecificationError(
                f"{where}: the {level.block_size_words} words of a block of {quoted(level.name)} are too many for the "
                "largest tensor on sparse hardware; give a smaller block_size_words or split the layer"
            )
        # Each rank of a format has at most two words of metadata for a word of the tile; 32 of them are a lot.
        if level.formats and max(counts) * level.metadata_word_bits * 64 > MAX_WHOLE:
            raise SpecificationError(
                f"{where}: metadata of {level.metadata_word_bits} bits a word at {quoted(level.name)} could take more "
                "than 2**62 bits; give a smaller metadata_word_bits or split the layer"
            )
    for tensor in workload.tensors if accelerator.is_sparse else ():
        words = workload.tensor_size(tensor.name)
        if tensor.density_distribution == "hypergeometric" and words > MAX_HYPERGEOMETRIC_WORDS:
            raise SpecificationError(
                f"{where}: tensor {quoted(tensor.name)} has {power_of_two(words)} words, too many for the "
                "hypergeometric density; give it the density_distribution 'fixed-structured' or split the layer"
            )


def power_of_two(count: int) -> str:
    """A large number by its size; Python refuses to write more than some thousand digits."""
    return f"about 2**{count.bit_length() - 1}"
