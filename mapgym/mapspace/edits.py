"""Single edits of the mappings of one map space; the edits are those of :mod:`mapgym.mapspace.edits_kernels`."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mapgym.mapping import MappingBatch
from mapgym.mapping.canonical_kernels import Sorting, normalise_batch
from mapgym.mapping.legality_kernels import LEGAL
from mapgym.mapping.maps import Maps
from mapgym.mapspace.definition import Definition
from mapgym.mapspace.edits_kernels import EDIT_COLUMNS, KINDS, EditTables, apply_each, list_edits, random_edits
from mapgym.mapspace.size import prime_exponents


class Edits:
    """Edits mappings of one map space; keeps what depends on the space alone."""

    def __init__(self, definition: Definition) -> None:
        self._definition = definition

    @cached_property
    def tables(self) -> EditTables:
        """What single edits depend on, for kernels that edit mappings."""
        definition, entries = self._definition, self._definition.entries
        factors = [list(prime_exponents(bound)) for bound in definition.workload.bounds]
        primes = np.zeros((len(factors), max(1, *map(len, factors))), np.int64)
        for d, of_dim in enumerate(factors):
            primes[d, : len(of_dim)] = of_dim
        # A rank of length n that has c times the dim grows to less than n * c * prime.
        growth = np.ones(primes.shape)
        for tensor in definition.workload.tensors:
            of_tensor = np.ones(primes.shape)
            for dim, coefficient in (term for rank in tensor.ranks for term in rank):
                d = definition.workload.dims.index(dim)
                of_tensor[d] *= coefficient * primes[d]
            growth = np.maximum(growth, of_tensor)
        return EditTables(
            entries.group_of.astype(np.int32),
            primes,
            growth,
            entries.side_free,
            entries.on_y,
            entries.keep_free,
            definition.rules,
            entries.min_used_macs,
            entries.is_limited,
            entries.limits.least,
            entries.limits.most,
        )

    def neighbors(self, start: MappingBatch, sorting: Sorting) -> MappingBatch:
        """All legal mappings that a single edit makes of one mapping.

        Args:
            start: a batch of one, in the form that the sorting gives.
            sorting: which orders are not free in all of them.
        """
        starts = np.empty(KINDS + 1, np.int64)
        edits = self._buffer(start)
        edits = edits[: list_edits(0, Maps(*start.arrays()), sorting, self.tables, edits, starts)]
        results = start[np.zeros(len(edits), np.int64)]
        allowed = np.empty(len(edits), np.bool_)
        apply_each(results.arrays(), sorting, self.tables, edits, allowed)
        results = results[allowed]
        return results if self._definition.metadata is None else results[self._definition.status(results) == LEGAL]

    def random_neighbor(self, rng: np.random.Generator, batch: MappingBatch) -> MappingBatch:
        """A random legal neighbour of each mapping, or the mapping itself where it has none; in the space's form."""
        results, sorting = batch.copy(), self._definition.sorting
        state = np.array([rng.integers(2**64, dtype=np.uint64)])
        if len(batch):
            scratch = batch[:1].copy()
            random_edits(results.arrays(), scratch.arrays(), sorting, self.tables, self._buffer(scratch), state)
        if self._definition.metadata is None:
            return results
        kept = np.where(self._definition.status(results) == LEGAL, 0, len(batch)) + np.arange(len(batch))
        before = batch.copy()
        normalise_batch(before.arrays(), sorting)
        return MappingBatch.concatenate([results, before])[kept]

    def _buffer(self, batch: MappingBatch) -> NDArray[np.int64]:
        """int64[any, EDIT_COLUMNS]: room for the edits that any one mapping can have."""
        _, levels, dims = batch.temporal.shape
        # Each prime of a dim can leave a slot for each other slot, on either mesh side; each level can swap all pairs
        # of temporal and of spatial loops, toggle the side of each dim and each tensor.
        primes = int((self.tables.primes > 0).sum())
        room = primes * 2 * levels * 3 * levels + levels * (dims * dims + dims + batch.keep.shape[2])
        return np.empty((room, EDIT_COLUMNS), np.int64)
