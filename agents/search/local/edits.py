"""Random edits of mappings: the one operator that hill climbing, annealing and the plain genetic algorithm share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.search.local.edits_kernels import edit_each
from mapgym.mapping import MappingBatch
from mapgym.mapping.legality import require_orders
from mapgym.mapspace import MapSpace
from mapgym.mapspace.edits_kernels import EDIT_COLUMNS

SEEN_ENTRIES = 2**18
"""Size of the table of mappings proposed before (8 bytes each, so that it stays in the cache of a processor); it starts
anew when half full."""

MOVE_WEIGHT, SWAP_WEIGHT, SPATIAL_SWAP_WEIGHT, SIDE_WEIGHT, KEEP_WEIGHT = 8.0, 1.0, 0.25, 0.25, 1.0
"""How often each kind of edit is drawn, among those that the space has: moves of a prime factor, swaps of two temporal
and of two spatial loops, a loop to the other mesh side, keeping or bypassing a tensor."""


class Edits:
    """Makes new mappings of a space from given ones by a few random edits (those of ``MapSpace.neighbors``).

    The edits of one mapping may lead through illegal mappings as long as the last is legal, so that a full buffer or
    a full array can trade one loop for another, which single legal edits cannot.
    """

    def __init__(self, space: MapSpace, rng: np.random.Generator, persistence: float, *, distinct: bool) -> None:
        """Prepares the tables.

        Args:
            space: the map space.
            rng: seeds the edits; nothing is drawn from it later.
            persistence: probability of one more edit after each one.
            distinct: whether mappings that were returned or given before (within the last hundred thousand or so) are
                avoided.
        """
        entries = space.entries
        available = [
            entries.groups != (),
            entries.order_free.any(),
            entries.spatial_order_free.any(),
            entries.side_free.any(),
            entries.keep_free.any(),
        ]
        weights = np.array([MOVE_WEIGHT, SWAP_WEIGHT, SPATIAL_SWAP_WEIGHT, SIDE_WEIGHT, KEEP_WEIGHT]) * available
        if not weights.any():
            weights[:] = 1.0
        self._space = space
        self._weights = np.cumsum(weights) / weights.sum()
        self._persistence = persistence
        workload, levels = space.workload, len(space.accelerator.levels)
        self._memory = (
            np.zeros(SEEN_ENTRIES if distinct else 1, np.uint64),
            np.zeros((1, EDIT_COLUMNS), np.int64),
            np.empty((levels, len(workload.dims))),
            np.empty((levels, len(workload.tensors))),
            rng.integers(2**63, size=1, dtype=np.uint64),
        )

    def apply(self, batch: MappingBatch, attempts: int = 16) -> MappingBatch:
        """One mapping for each of a batch, a few edits away from it; the mapping itself if none was found.

        Args:
            batch: mappings of the space in canonical form, which everything that a space returns is.
            attempts: how often the edits of a mapping are drawn anew because the result is illegal or not new.

        Raises:
            SpecificationError: an order is no permutation of the dims.
        """
        require_orders(batch)
        edited = batch.copy()
        edit_each(
            batch.arrays(),
            edited.arrays(),
            self._space.sorting,
            self._space.edit_tables,
            self._weights,
            self._persistence,
            attempts,
            self._memory,
        )
        return edited


def best_members(space: MapSpace, batch: MappingBatch, values: NDArray[np.float64], n: int) -> NDArray[np.intp]:
    """Where to put n searchers: indices of the best mappings of a batch that are in the space, cheapest first.

    The same ones come again if there are fewer than n; empty if none is in the space.
    """
    members = np.flatnonzero(space.contains(batch))
    return np.resize(members[np.argsort(values[members], kind="stable")], n if len(members) else 0)
