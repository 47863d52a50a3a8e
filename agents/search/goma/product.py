"""A map space as GOMA sees it: a matrix product on three levels, and what a word costs there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.mapping.mapping import divisors
from mapgym.mapspace import MapSpace

REGISTERS, BUFFER, MEMORY = range(3)
"""The storage levels, innermost first."""


@dataclass(frozen=True)
class Product:
    """A matrix product: three tensors, and for each of them the *side* of the product that it does not depend on.

    A side is a dim, or several that no cost tells from one dim whose bound is their product, such as the batch and the
    rows of a product with shared weights.

    Attributes:
        space: the map space.
        dims: by tensor, indices among the dims of the workload of those of that side; of bounds above 1, maybe none.
        bounds: by tensor, the product of their bounds.
        batch: indices of the dims that every tensor depends on.
        macs: multiply-accumulates, of all products of a batch together.
    """

    space: MapSpace
    dims: tuple[tuple[int, ...], ...]
    bounds: tuple[int, ...]
    batch: tuple[int, ...]
    macs: float


@dataclass(frozen=True)
class WordEnergies:
    """Energies per word, float64[level, tensor] pJ, with the addresses.

    Attributes:
        served: of a word that a level hands down; of outputs, of a partial sum that is read and written back.
        filled: of a word that a level receives from outside.
        first_read, first_fill: what the first visit of a word of an output saves of them.
    """

    served: NDArray[np.float64]
    filled: NDArray[np.float64]
    first_read: NDArray[np.float64]
    first_fill: NDArray[np.float64]


def read_product(space: MapSpace) -> Product:
    """What the program is made of; raises SpecificationError, in one sentence, where it is no such product."""
    workload, accelerator = space.workload, space.accelerator

    def refuse(reason: str) -> NoReturn:
        raise SpecificationError(
            f"agent 'goma' cannot map {quoted(workload.name)} on {quoted(accelerator.name)}: {reason}; "
            "use another agent, such as cosa"
        )

    if len(accelerator.levels) != 3:
        refuse(f"it takes three storage levels and there are {len(accelerator.levels)}")
    if accelerator.fanout_x[MEMORY] * accelerator.fanout_y[MEMORY] > 1:
        refuse(f"it takes one instance of {quoted(accelerator.level_names[BUFFER])}")
    tensors = workload.tensors
    if len(tensors) != 3 or sum(tensor.is_output for tensor in tensors) != 1:
        refuse("it takes products of two matrices, which have three tensors")
    for tensor in tensors:
        terms = [term for rank in tensor.ranks for term in rank if workload.bound(term[0]) > 1]
        longest = max((sum(workload.bound(dim) > 1 for dim, _ in rank) for rank in tensor.ranks), default=0)
        if longest > 1 or len({dim for dim, _ in terms}) < len(terms) or any(step != 1 for _, step in terms):
            refuse(f"tensor {quoted(tensor.name)} is no matrix, as its ranks slide, have steps or share a dim")
    sides: tuple[list[int], ...] = ([], [], [])
    batch: list[int] = []
    for d, dim in enumerate(workload.dims):
        absent = [t for t, tensor in enumerate(tensors) if dim not in tensor.dims]
        if workload.bound(dim) == 1:
            continue
        if len(absent) > 1:
            refuse(f"it takes products of two matrices, and dim {quoted(dim)} is in one tensor only")
        (sides[absent[0]] if absent else batch).append(d)
    bounds = tuple(math.prod(workload.bounds[d] for d in side) for side in sides)
    return Product(space, tuple(map(tuple, sides)), bounds, tuple(batch), float(workload.macs))


@dataclass(frozen=True)
class Room:
    """What is left for one product of a batch, when several are worked on at a time.

    Attributes:
        lanes, blocks: how many products share the MACs of a register level, and how many the register levels.
        fanouts: along X and Y, below the registers and below the buffer.
        capacities: words of registers and buffer; inf without a limit.
        along_y: whether the products of a batch lie along Y, below the registers and below the buffer.
    """

    lanes: int
    blocks: int
    fanouts: tuple[tuple[int, int], ...]
    capacities: tuple[float, ...]
    along_y: tuple[bool, ...]


def rooms(product: Product) -> list[Room]:
    """All ways to work on several products of a batch at a time; a single one first."""
    space = product.space
    accelerator = space.accelerator
    together = math.prod(space.workload.bounds[d] for d in product.batch)
    found = []
    for lanes in divisors(together):
        for blocks in divisors(together // lanes):
            fanouts, along_y = [], []
            for level, factor in ((REGISTERS, lanes), (BUFFER, blocks)):
                x, y = accelerator.fanout_x[level], accelerator.fanout_y[level]
                along_y.append(factor > x)
                fanouts.append((x, y // factor) if factor > x else (x // factor, y))
            if min(map(min, fanouts)) >= 1:
                shares = usable_words(space, REGISTERS) / lanes, usable_words(space, BUFFER) / (lanes * blocks)
                found.append(Room(lanes, blocks, tuple(fanouts), shares, tuple(along_y)))
    return sorted(found, key=lambda room: room.lanes * room.blocks)


def word_energies(space: MapSpace) -> WordEnergies:
    """Energies of the levels of a space; what leaks, clusters and the network are not among them."""
    accelerator = space.accelerator
    outputs = np.array([tensor.is_output for tensor in space.workload.tensors], np.float64)
    shape = (len(accelerator.levels), len(outputs))
    served, filled, first_read = (np.zeros(shape) for _ in range(3))
    for s, level in enumerate(accelerator.levels):
        energies, block, address = accelerator.action_energies[s], level.block_size_words, level.address_energy_pj
        served[s] = (energies["read"] + energies["update"] * outputs) / block + address
        first_read[s] = energies["read"] / block * outputs
        if s != MEMORY:
            filled[s] = energies["fill"] / block + address
    first_fill = filled * outputs * float(accelerator.counting.first_fills_elided)
    return WordEnergies(served, filled, first_read, first_fill)


def usable_words(space: MapSpace, level: int) -> float:
    """Capacity of a level; inf where it has no limit."""
    return float(space.accelerator.levels[level].usable_words or math.inf)
