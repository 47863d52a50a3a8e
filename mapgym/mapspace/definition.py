"""What defines a map space, as data: the class ``MapSpace`` is its face, construction and projection work on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation.array_kernels import PageArrays
from mapgym.mapping import Mapping, MappingBatch
from mapgym.mapping.canonical_kernels import Sorting, canonical_sorting
from mapgym.mapping.legality import batch_status, require_sizes
from mapgym.mapping.legality_kernels import pack_rules
from mapgym.mapping.metadata_kernels import list_clashes, pack_metadata, status_with_formats
from mapgym.mapspace.entries import SearchedEntries
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.constraints import Constraints
from mapgym.spec.workload import Workload


@dataclass(frozen=True, eq=False)
class Definition:
    """One map space.

    Attributes:
        workload, accelerator: what is mapped onto what.
        axes: the searched axes, in their usual order.
        constraints: what the user restricts.
        base: gives the values of the axes that are not searched.
        entries: what follows from all of these for each entry of a mapping.
        rules: from :func:`mapgym.mapping.legality_kernels.pack_rules`.
    """

    workload: Workload
    accelerator: Accelerator
    axes: tuple[str, ...]
    constraints: Constraints
    base: Mapping
    entries: SearchedEntries
    rules: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        workload: Workload,
        accelerator: Accelerator,
        axes: tuple[str, ...],
        constraints: Constraints,
        base: Mapping | None,
    ) -> Definition:
        """Works out what is searched; ``base`` is the trivial mapping when left out.

        Raises:
            SpecificationError: unknown level or dim, or constraints that no mapping can satisfy.
        """
        constraints.check_names(workload, accelerator)
        rules = pack_rules(workload, accelerator)
        base = Mapping.trivial(workload, accelerator) if base is None else base
        entries = SearchedEntries.of(workload, accelerator, axes, constraints, base)
        return cls(workload, accelerator, axes, constraints, base, entries, rules)

    def status(self, batch: MappingBatch) -> NDArray[np.int32]:
        """int32[n]: 0 for a legal mapping, else what is wrong; see :mod:`mapgym.mapping.legality`."""
        if self.metadata is None:
            return batch_status(batch, self.rules)
        require_sizes(batch, self.rules)
        status = np.empty(len(batch), np.int32)
        status_with_formats(batch.arrays(), self.rules, self.metadata, status)
        return status

    @cached_property
    def sorting(self) -> Sorting:
        """Which orders are not searched, for kernels that bring mappings into the form of this space."""
        entries = self.entries
        return Sorting(
            ~entries.order_free,
            _ranks(entries.order_key, entries.order_tier),
            ~entries.spatial_order_free,
            _ranks(entries.spatial_order_key, entries.spatial_order_tier),
        )

    @cached_property
    def canonical_sorting(self) -> Sorting:
        """Which orders do not matter, for kernels that bring mappings into canonical form."""
        dims = self.entries.order_key.shape[1]
        return canonical_sorting(dims, self.accelerator.spatial_order_counts)

    @cached_property
    def metadata(self) -> PageArrays | None:
        """What the metadata of compressed tiles depend on; None if no level stores a tensor in a format.

        They need room and ranks, which no single decision can foresee.
        """
        if not any(level.formats for level in self.accelerator.levels):
            return None
        return pack_metadata(self.workload, self.accelerator, self.canonical_sorting)

    @cached_property
    def clashes(self) -> NDArray[np.bool_]:
        """bool[outer, inner, tensor]: which levels cannot pass a tensor to each other for its formats."""
        return list_clashes(self.workload, self.accelerator)

    @property
    def construction_is_exact(self) -> bool:
        """Whether what the construction completes is always in the space."""
        # Cumulative checks let the construction put parallelism on levels that this space leaves out.
        is_cumulative = self.accelerator.fanout_check == "cumulative"
        fills = any(level.minimum_utilization > 0 for level in self.accelerator.levels)
        return self.entries.min_used_macs == 1 and not (is_cumulative or fills) and self.metadata is None


def _ranks(key: NDArray[np.int8], tier: NDArray[np.int8]) -> NDArray[np.int8]:
    """int8[level, dim]: the places of dims in a key, or their tiers where some dims share one."""
    return np.where((tier > 0).any(axis=1, keepdims=True), tier, np.argsort(key, axis=1)).astype(np.int8)
