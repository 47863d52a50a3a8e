"""The member of a map space that is nearest to a wish: projection, repair, and the heart of transfer.

A wish is a mapping whose factors may be anything: of other bounds, real numbers, too large for the hardware. The rule
keeps what it can, decides in a fixed order, and is deterministic:

1. Orders, mesh sides and kept tensors are taken over where they are searched; elsewhere the space says what they are. A
   level whose format for a tensor clashes with that of the next outer level bypasses it.
2. Spatial factors, from the outermost level inwards, the largest wish of a level first: the divisor nearest to the wish
   (as a ratio) for which the fan-out still has room, on the other mesh side if there is more room.
3. Temporal factors, from the innermost level outwards: the divisor that brings the extent of the tile of the level
   nearest to the wished extent, so that one deviation does not carry over to the levels outside. The outermost takes
   what is left.
4. While the kept tiles exceed a capacity, from the innermost level: one prime factor moves from the tile outwards, the
   smallest that makes the tile fit, or, if no single one does, the one that frees most for its size.
5. While the metadata of compressed tiles do not fit, factors move outwards as :mod:`mapgym.mapspace.metadata_repair`
   says.

Where factors have ranges, a dim may lie on one mesh side only or an order is free in part, factors, sides and orders
are instead chosen in the order of the construction process, from the innermost level outwards: each time what is
nearest to the wish of all that is legal then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation.array_kernels import PageArrays, pack_arrays
from mapgym.errors import SpecificationError
from mapgym.mapping import MappingBatch
from mapgym.mapping.canonical_kernels import normalise_batch
from mapgym.mapping.legality import require_orders
from mapgym.mapping.legality_kernels import LEGAL, mesh_limits
from mapgym.mapping.mapping import divisors
from mapgym.mapspace.construction.approach_kernels import approach_targets
from mapgym.mapspace.construction.construction import Construction
from mapgym.mapspace.definition import Definition
from mapgym.mapspace.metadata_repair import bypass_clashes, make_room
from mapgym.mapspace.projection_kernels import ProjectionTables, fit_batch
from mapgym.mapspace.size import prime_exponents


@dataclass(frozen=True, eq=False)
class Target:
    """n wished mappings, with the names of the arrays of :class:`~mapgym.mapping.MappingBatch`.

    Attributes:
        temporal, spatial: float[n, level, dim], finite; numbers below 1 count as 1.
        order, spatial_order: int8[n, level, dim] permutations of the dims, innermost first.
        on_y: bool[n, level, dim] the mesh side of each spatial factor.
        keep: bool[n, level, tensor].
    """

    temporal: NDArray[np.floating]
    spatial: NDArray[np.floating]
    order: NDArray[np.int8]
    spatial_order: NDArray[np.int8]
    on_y: NDArray[np.bool_]
    keep: NDArray[np.bool_]

    @classmethod
    def of(cls, batch: MappingBatch) -> Target:
        """The wish to have these mappings, legal or not."""
        return cls(
            batch.temporal.astype(np.float64),
            batch.spatial.astype(np.float64),
            batch.order,
            batch.spatial_order,
            mesh_sides(batch),
            batch.keep,
        )


Wishes = Target  # its former name


def mesh_sides(batch: MappingBatch) -> NDArray[np.bool_]:
    """bool[n, level, dim]: whether a spatial factor of the dim lies on Y.

    Raises:
        SpecificationError: an order is no permutation of the dims.
    """
    require_orders(batch)
    on_y = np.empty(batch.spatial.shape, np.bool_)
    positions = np.arange(batch.spatial.shape[2])
    np.put_along_axis(on_y, batch.spatial_order.astype(np.intp), positions >= batch.spatial_split[..., None], axis=2)
    return on_y


class Projection:
    """Projects targets onto one map space; keeps what depends on the space alone."""

    def __init__(self, definition: Definition) -> None:
        self._definition = definition

    def project(self, target: Target) -> tuple[MappingBatch, NDArray[np.bool_]]:
        """The mappings of the space nearest to the target, by the rule above.

        Returns:
            n mappings, and bool[n], whether each is in the space. One that is not has a level whose tiles or
            parallelism the searched axes leave too large, or less parallelism than asked for.

        Raises:
            SpecificationError: wrong shapes, a factor that is not finite, an order that is no permutation.
        """
        space = self._definition
        levels, dims, tensors = len(space.accelerator.levels), len(space.workload.dims), len(space.workload.tensors)
        n = len(target.temporal)
        for name, width in (
            ("temporal", dims),
            ("spatial", dims),
            ("order", dims),
            ("spatial_order", dims),
            ("on_y", dims),
            ("keep", tensors),
        ):
            array = getattr(target, name)
            if np.shape(array) != (n, levels, width):
                raise SpecificationError(
                    f"target: {name} has shape {np.shape(array)}, expected {(n, levels, width)}; build them for this "
                    "space"
                )
        every = np.arange(dims)
        for name in ("order", "spatial_order"):
            if not (np.sort(getattr(target, name), axis=2) == every).all():
                raise SpecificationError(f"target: {name} is not a permutation of the dims; list each dim once")
        wanted = np.concatenate([target.temporal, target.spatial], axis=1).astype(np.float64)
        if not np.isfinite(wanted).all():
            raise SpecificationError("target: a factor is not finite; give numbers of at least 1")
        np.maximum(wanted, 1.0, out=wanted)
        entries = space.entries
        batch = MappingBatch.trivial(space.workload, space.accelerator, n)
        batch.order[:] = np.where(entries.order_searched[:, None], target.order, entries.order_key)
        batch.keep[:] = np.where(entries.keep_free, target.keep, entries.keep)
        on_y = np.ascontiguousarray(target.on_y, np.bool_)
        return batch, self.fill(batch, wanted, on_y, np.ascontiguousarray(target.spatial_order, np.int8))

    def fill(
        self,
        batch: MappingBatch,
        wanted: NDArray[np.float64],
        on_y: NDArray[np.bool_],
        spatial_order: NDArray[np.int8],
    ) -> NDArray[np.bool_]:
        """Fills the factors and the spatial orders of a batch by the rule above; nothing is checked.

        Args:
            batch: n mappings whose orders and kept tensors are as wished where they are searched, and right elsewhere.
            wanted: float64[n, 2 * level, dim], the wished factor of each slot, at least 1.
            on_y, spatial_order: of the :class:`Target`.

        Returns:
            bool[n], whether each mapping is in the space.
        """
        space = self._definition
        if space.metadata is not None:
            bypass_clashes(space, space.clashes, batch)
        arrays, ok = batch.arrays(), np.zeros(len(batch), np.bool_)
        if space.entries.is_limited:
            self._approach(batch, wanted, on_y, spatial_order, ok)
            normalise_batch(arrays, space.sorting)
        else:
            fit_batch(self._pages, wanted, on_y, spatial_order, arrays, ok)
        if space.metadata is not None:
            ok &= make_room(space, batch) == LEGAL
        if space.entries.is_limited:
            ok &= space.status(batch) == LEGAL
            ok &= batch.used_macs() >= space.entries.min_used_macs
            ok &= space.entries.limits.allow(batch.temporal, batch.spatial, mesh_sides(batch))
        return ok

    def _approach(
        self,
        batch: MappingBatch,
        wanted: NDArray[np.float64],
        on_y: NDArray[np.bool_],
        spatial_order: NDArray[np.int8],
        complete: NDArray[np.bool_],
    ) -> None:
        """Builds the mappings one legal choice at a time, each the nearest to what is wished."""
        construction = self._construction
        wish = (
            np.log(wanted),
            on_y,
            np.argsort(batch.order, axis=2).astype(np.int64),
            np.argsort(spatial_order, axis=2).astype(np.int64),
            batch.keep.copy(),
        )
        process = construction.task, construction.ways, construction.initial_state
        log_divisors = np.zeros((len(self._definition.workload.dims), construction.max_divisors))
        for row, bound in zip(log_divisors, self._definition.workload.bounds, strict=True):
            numbers = divisors(bound)
            row[: len(numbers)] = np.log(numbers)
        approach_targets(process, wish, log_divisors, batch.arrays(), complete)

    @cached_property
    def _construction(self) -> Construction:
        return Construction(self._definition)

    @property
    def is_plain(self) -> bool:
        """Whether :func:`mapgym.mapspace.projection_kernels.fit_batch` is all that :meth:`fill` does."""
        return self._definition.metadata is None and not self._definition.entries.is_limited

    @cached_property
    def _pages(self) -> PageArrays:
        return self.packed_with(())

    def packed_with(self, arrays: Sequence[NDArray[Any]]) -> PageArrays:
        """What :func:`mapgym.mapspace.projection_kernels.fit_batch` depends on, and more arrays behind it."""
        return pack_arrays([*self._tables, *self._definition.sorting, *arrays])

    @cached_property
    def _tables(self) -> ProjectionTables:
        space = self._definition
        entries = space.entries
        lists = [(divisors(group.total), [*prime_exponents(group.total)]) for group in entries.groups]
        table = _padded([entry[0] for entry in lists])
        limit, reach = mesh_limits(space.accelerator)
        return ProjectionTables(
            fixed=entries.fixed,
            group_of=entries.group_of.astype(np.int32),
            totals=np.array([group.total for group in entries.groups], np.int64),
            divisors=table,
            logs=np.log(np.maximum(table, 1)),
            primes=_padded([entry[1] for entry in lists]),
            limit=limit,
            reach=reach,
            side_free=entries.side_free,
            on_y=entries.on_y,
            rules=space.rules,
            min_used_macs=np.array([entries.min_used_macs], np.int64),
        )


def _padded(lists: list[list[int]]) -> NDArray[np.int64]:
    table = np.zeros((len(lists), max((len(entry) for entry in lists), default=0) + 1), np.int64)
    for row, entry in zip(table, lists, strict=True):
        row[: len(entry)] = entry
    return table
