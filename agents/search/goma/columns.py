"""All that can be decided about one side of a product, and the tensor that does not depend on it, with its energy."""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import product as combinations

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.search.goma.product import BUFFER, MEMORY, REGISTERS, Product, WordEnergies, usable_words
from mapgym.mapping.mapping import divisors

_WALKS = ((False, False, False), (True, False, False), (False, True, False), (True, True, False), (True, True, True))
"""Whether the side is the walking axis of the buffer's loops, of the memory's, and whether both are one run."""

_DECISIONS = ("keep_registers", "keep_buffer", "walks_buffer", "walks_memory", "one_run")


@dataclass(frozen=True)
class Columns:
    """Choices of one side, each an entry of all arrays.

    Attributes:
        lanes, registers, block, buffer: int64, the chain of divisors: MACs of an instance that share the side, extent
            of the registers' tile, of what all instances hold together, of the buffer's tile.
        keep_registers, keep_buffer: whether the levels keep the tensor that does not depend on the side.
        walks_buffer, walks_memory: whether the loops of the side come innermost there.
        one_run: whether the tensor stays in the registers during the memory's loops as well, as no other loop of the
            buffer is in between.
        energy: pJ, of all accesses to the tensor.
    """

    lanes: NDArray[np.int64]
    registers: NDArray[np.int64]
    block: NDArray[np.int64]
    buffer: NDArray[np.int64]
    keep_registers: NDArray[np.bool_]
    keep_buffer: NDArray[np.bool_]
    walks_buffer: NDArray[np.bool_]
    walks_memory: NDArray[np.bool_]
    one_run: NDArray[np.bool_]
    energy: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.energy)

    def __getitem__(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Columns:
        return Columns(*(getattr(self, entry.name)[chosen] for entry in fields(self)))

    @property
    def flat(self) -> NDArray[np.bool_]:
        """Whether the buffer has no loop of the side."""
        return self.buffer == self.block

    @property
    def blocks(self) -> NDArray[np.int64]:
        """Register levels that share the side."""
        return self.block // self.registers

    @property
    def kept(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """What registers and buffer keep."""
        return self.keep_registers, self.keep_buffer

    @property
    def extents(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Extents of the tiles of registers and buffer."""
        return self.registers, self.buffer


def make_columns(product: Product, tensor: int, energies: WordEnergies) -> Columns:
    """The choices of the side that a tensor does not depend on, without those that another one makes needless."""
    chains = _chains(product, tensor)
    found = []
    for keep in combinations(*(_bypasses(product, level, tensor) for level in (REGISTERS, BUFFER))):
        for walk in _WALKS:
            if _is_distinct(keep, walk) and _is_allowed(product, tensor, walk):
                found.append(_undominated(_priced(product, tensor, energies, chains, keep, walk)))
    return Columns(*(np.concatenate([getattr(each, entry.name) for each in found]) for entry in fields(Columns)))


def _chains(product: Product, tensor: int) -> NDArray[np.int64]:
    """int64[4, n]: lanes, registers, block and buffer extent, each a divisor of the next, that the space allows."""
    bound, space, dims = product.bounds[tensor], product.space, product.dims[tensor]
    accelerator, entries = space.accelerator, space.entries
    most = [accelerator.fanout_x[s] * accelerator.fanout_y[s] for s in (REGISTERS, BUFFER)]
    chains = np.array(
        [
            (lanes, lanes * inner, lanes * inner * blocks, buffer)
            for lanes in divisors(bound)
            if lanes <= most[REGISTERS]
            for inner in divisors(bound // lanes)
            for blocks in divisors(bound // (lanes * inner))
            if blocks <= most[BUFFER]
            for buffer in (lanes * inner * blocks * more for more in divisors(bound // (lanes * inner * blocks)))
        ],
        np.int64,
    ).T
    if len(dims) != 1:
        # What is fixed of one of several dims says nothing about their product; it is mended afterwards.
        return chains
    d = dims[0]
    lanes, registers, block, buffer = chains
    ones = np.ones_like(lanes)
    slots = (registers // lanes, buffer // block, bound // buffer, lanes, block // registers, ones)
    allowed = np.ones(chains.shape[1], np.bool_)
    for slot, factors in enumerate(slots):
        fixed = int(entries.fixed[slot, d])
        allowed &= (fixed == 0) | (factors == fixed)
    for group in entries.groups:
        if group.dim == d:
            allowed &= np.prod([slots[slot] for slot in group.slots], axis=0) == group.total
    # What constraints leave nothing of is mended afterwards, from any chain.
    return chains[:, allowed] if allowed.any() else chains


def _bypasses(product: Product, level: int, tensor: int) -> tuple[bool, ...]:
    """What may be decided about a level's keeping the tensor."""
    entries = product.space.entries
    return (True, False) if entries.keep_free[level, tensor] else (bool(entries.keep[level, tensor]),)


def _is_distinct(keep: tuple[bool, ...], walk: tuple[bool, bool, bool]) -> bool:
    """Whether a walking axis says something, and nothing that another choice says as well."""
    walks_buffer, walks_memory, one_run = walk
    if walks_buffer and not keep[REGISTERS]:
        return False
    return one_run or keep[BUFFER] or not walks_memory


def _is_allowed(product: Product, tensor: int, walk: tuple[bool, bool, bool]) -> bool:
    """Whether the side may walk: where the order of a level is given, only that of its innermost dim does."""
    space = product.space
    for level, walks in zip((BUFFER, MEMORY), walk[:2], strict=True):
        if walks and not space.entries.order_free[level]:
            real = [d for d in space.entries.order_key[level].tolist() if space.workload.bounds[d] > 1]
            if real and real[0] not in product.dims[tensor]:
                return False
    return True


def _priced(
    product: Product,
    tensor: int,
    energies: WordEnergies,
    chains: NDArray[np.int64],
    keep: tuple[bool, ...],
    walk: tuple[bool, bool, bool],
) -> Columns:
    """Every chain with one choice of what is kept and what walks; docs/agents/goma.md has the formulas."""
    lanes, registers, block, buffer = chains
    bound, macs = product.bounds[tensor], product.macs
    walks_buffer, walks_memory, one_run = walk
    to_registers = macs / (bound if one_run else buffer if walks_buffer else block)
    to_buffer = macs / (bound if walks_memory else buffer)
    copies = block / registers
    served, filled = energies.served[:, tensor], energies.filled[:, tensor]
    first_read, first_fill = energies.first_read[:, tensor], energies.first_fill[:, tensor]
    below = macs / lanes  # what is asked for from below, by all instances together
    energy, first = np.zeros(len(lanes)), np.zeros(len(lanes))
    if keep[REGISTERS]:
        energy += served[REGISTERS] * below + filled[REGISTERS] * copies * to_registers
        first += (first_read[REGISTERS] + first_fill[REGISTERS]) * copies
        below = to_registers
    else:
        below = below / copies
    if keep[BUFFER]:
        energy += served[BUFFER] * below + filled[BUFFER] * to_buffer
        first += first_read[BUFFER] + first_fill[BUFFER]
        below = to_buffer
    energy += served[MEMORY] * below
    energy -= (first + first_read[MEMORY]) * (macs / bound)
    same = dict(zip(_DECISIONS, (np.full(len(lanes), value) for value in (*keep, *walk)), strict=True))
    columns = Columns(lanes=lanes, registers=registers, block=block, buffer=buffer, energy=energy, **same)
    fits = np.ones(len(lanes), np.bool_)
    for level, extents in enumerate(columns.extents):
        if _all_kept(product, level):
            # An extent is a size of two tiles, and no tile is larger than the level.
            fits &= extents <= usable_words(product.space, level)
    return columns[fits]


def _all_kept(product: Product, level: int) -> bool:
    """Whether a level keeps all tensors in any case."""
    entries = product.space.entries
    return bool((entries.keep[level] & ~entries.keep_free[level]).all())


def _undominated(columns: Columns) -> Columns:
    """Without choices to which another one with the same spatial factors is preferable in all that others see.

    Others see the extents of the tiles, of which smaller ones are never worse, and, unless the dim walks itself,
    whether the buffer has a loop of it.
    """
    if not len(columns):
        return columns
    matters = columns.flat & ~(columns.walks_buffer | columns.walks_memory)
    keys = np.stack([columns.lanes, columns.blocks])
    ranked = np.lexsort((columns.buffer, columns.registers, columns.energy))
    kept: list[int] = []
    best: dict[tuple[int, int], list[int]] = {}
    for i in ranked.tolist():
        rivals = best.setdefault((int(keys[0, i]), int(keys[1, i])), [])
        if any(
            columns.registers[j] <= columns.registers[i]
            and columns.buffer[j] <= columns.buffer[i]
            and (matters[j] or not matters[i])
            for j in rivals
        ):
            continue
        rivals.append(i)
        kept.append(i)
    return columns[np.array(sorted(kept))]
