"""How large counts and addresses of a workload can become; what could be inexact is refused.

Functions take the bounds of all dims, dim -> iterations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.spec.ranges import MAX_COUNT, MAX_DIMS, MAX_RANKS, MAX_TENSORS, MAX_WHOLE
from mapgym.spec.tensor import Rank, Tensor

Bounds = Mapping[str, int]


def check_sizes(bounds: Bounds, tensors: Sequence[Tensor], where: str) -> None:
    """Raises SpecificationError if a count of a workload could be inexact, or a tensor too large to address."""
    if len(bounds) > MAX_DIMS or len(tensors) > MAX_TENSORS:
        raise SpecificationError(
            f"{where} has {len(bounds)} dims and {len(tensors)} tensors, more than {MAX_DIMS} or "
            f"{MAX_TENSORS}; split the layer"
        )
    for tensor in tensors:
        if len(tensor.ranks) > MAX_RANKS:
            raise SpecificationError(
                f"{where}: tensor {quoted(tensor.name)} has {len(tensor.ranks)} ranks, more than {MAX_RANKS}; join some"
            )
        count = largest_count(tensor, bounds)
        if count > MAX_COUNT:
            raise SpecificationError(
                f"{where}: access counts of tensor {quoted(tensor.name)} could reach {power_of_two(count)}, above the "
                "2**52 that can be counted exactly; split the layer along its largest dim"
            )
        if address_space(tensor, bounds) >= MAX_WHOLE:
            raise SpecificationError(
                f"{where}: tensor {quoted(tensor.name)} is too large to address, because it has too many ranks of more "
                "than one word; join some of its ranks or split the layer"
            )


def largest_count(tensor: Tensor, bounds: Bounds) -> int:
    """What no count of words or accesses of a tensor exceeds, over all instances of a level and the whole run.

    A tile of extents e has at most C * prod(e_d ** m_d) words, where C is the product over its ranks of the largest
    coefficient and m_d the number of ranks that the dim d is in. It is needed at most macs / prod(e_d) times.
    """
    ranks = active_ranks(tensor, bounds)
    used = [dim for rank in ranks for dim, _ in rank]
    again = math.prod(bounds[dim] ** (used.count(dim) - 1) for dim in set(used))
    return math.prod(bounds.values()) * again * math.prod(max(c for _, c in rank) for rank in ranks)


def address_space(tensor: Tensor, bounds: Bounds) -> int:
    """How many addresses it takes to tell all differences of two positions in a tensor apart.

    Steps of nested loops can reach beyond the tensor by its own length in either direction, along each rank.
    """
    return math.prod(4 * rank_length(rank, bounds) + 3 for rank in active_ranks(tensor, bounds))


def rank_length(rank: Rank, bounds: Bounds) -> int:
    """Words of a tensor along one rank."""
    return 1 + sum(c * (bounds[dim] - 1) for dim, c in rank)


def band_nonzeros(side: int, width: int) -> int:
    """Words within a band of a square matrix: on the diagonal and up to a width on either side of it."""
    return side + width * (2 * side - width - 1)


def active_ranks(tensor: Tensor, bounds: Bounds) -> list[Rank]:
    """The ranks of a tensor without dims of bound 1, which never move and add nothing to a length."""
    ranks = [tuple((dim, c) for dim, c in rank if bounds[dim] > 1) for rank in tensor.ranks]
    return [rank for rank in ranks if rank]


def power_of_two(count: int) -> str:
    """A large number by its size; Python refuses to write more than some thousand digits."""
    return f"about 2**{count.bit_length() - 1}"
