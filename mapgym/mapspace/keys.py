"""Mappings as vectors of numbers from 0 to 1, for optimisers that know nothing of mappings.

One number, a *key*, stands for each decision of the construction process
(:mod:`mapgym.mapspace.construction.construction`) that can be open. Decoding walks through the process and lets the
keys choose among what is legal at that point. So every vector is a legal mapping without any repair, every mapping of
the space has a vector, and similar vectors are mostly similar mappings:

- *parallel and tile factors*: the key is the share, on a logarithmic scale, of what is left of the dim: of the legal
  factors, the one nearest to ``left ** key``. At a level with a two-dimensional mesh, keys above 1/2 stand for X and
  keys below for Y, and the distance from 1/2 is half the share.
- *orders*: the keys are priorities; of the loops of a level, the one with the lowest key is the innermost (random keys:
  Bean, ORSA Journal on Computing 6(2), 1994).
- *kept tensors*: kept from 1/2 on.

The factors of a level are decided in the descending order of its tile keys (parallel keys at the outermost level), so
that dims that want much come first where dims compete for a capacity or a fan-out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapgym.errors import SpecificationError
from mapgym.mapping import MappingBatch
from mapgym.mapping.legality import require_task
from mapgym.mapping.mapping import divisors
from mapgym.mapspace.construction.packed_kernels import KEEP, KIND_NAMES, ORDER, ORDER_X, ORDER_Y, PARALLEL, TILE
from mapgym.mapspace.keys_kernels import decode_keys
from mapgym.mapspace.projection import mesh_sides

if TYPE_CHECKING:
    from mapgym.mapspace.space import MapSpace

_STAND_INS = 256


class KeyEncoding:
    """Vectors of keys and the mappings of one map space; see the module.

    Attributes:
        space: the map space.
        size: number of keys, at least 2: some optimisers know no less. Keys that stand for nothing change nothing.
    """

    def __init__(self, space: MapSpace) -> None:
        """Lays out the keys: factors by level, then orders, then kept tensors.

        Raises:
            SpecificationError: no mapping of the space was found.
        """
        self.space = space
        self._construction = space.construction
        entries = space.entries
        levels, dims = entries.order_key.shape
        self._columns = np.full((len(KIND_NAMES), levels, max(dims, entries.keep.shape[1])), -1)
        count = 0
        # The last slot of a group takes what is left of it.
        last = {
            (group.dim, max(group.slots, key=lambda slot: (slot % levels, slot < levels))) for group in entries.groups
        }
        for s in range(levels):
            for d in range(dims):
                for kind, slot in ((PARALLEL, levels + s), (TILE, s)):
                    if entries.group_of[slot, d] >= 0 and (d, slot) not in last:
                        self._columns[kind, s, d] = count
                        count += 1
        for s in range(levels):
            for is_free, kinds, slot in (
                (entries.arranged[s], [ORDER], s),
                (entries.arranged[levels + s], [ORDER_X, ORDER_Y], levels + s),
            ):
                for movable in np.flatnonzero((entries.fixed[slot] != 1) & is_free):
                    self._columns[kinds, s, movable] = count
                    count += 1
        for entry in np.argwhere(entries.keep_free):
            self._columns[KEEP, entry[0], entry[1]] = count
            count += 1
        self.size = max(2, count)
        self._log_divisors = np.zeros((dims, self._construction.max_divisors))
        for d, bound in enumerate(space.workload.bounds):
            numbers = divisors(bound)
            self._log_divisors[d, : len(numbers)] = np.log(numbers)
        self._is_exact = space.construction_is_exact and not self._construction.inexact
        if not self._is_exact:
            # The same ones every time.
            self._stand_ins = space.sample(np.random.default_rng(0), _STAND_INS)
            self._keys_of_stand_ins = self.encode(self._stand_ins)

    @property
    def names(self) -> tuple[str, ...]:
        """What each key stands for, such as "tile factor of C at GlobalBuffer"."""
        names = ["nothing"] * self.size
        workload, levels = self.space.workload, self.space.accelerator.level_names
        for kind, s, item in np.argwhere(self._columns >= 0):
            subject = workload.tensors[item].name if kind == KEEP else workload.dims[item]
            what = {KEEP: "{} kept at {}", PARALLEL: "parallel factor of {} at {}", TILE: "tile factor of {} at {}"}
            default = "place of {} among the " + ("" if kind == ORDER else "parallel ") + "loops of {}"
            names[self._columns[kind, s, item]] = what.get(kind, default).format(subject, levels[s])
        return tuple(names)

    def decode(self, keys: NDArray[Any]) -> MappingBatch:
        """The mappings of vectors, in canonical form; all of them are in the space.

        Where the legal choices cannot be known exactly (a minimum utilisation, cumulative fan-outs, metadata of
        compressed tiles) a vector may lead out of the space. The nearest of 256 fixed members then stands in for it.

        Args:
            keys: float64[n, size]; numbers outside of 0 to 1 count as the nearer limit.

        Raises:
            SpecificationError: wrong number of keys, or a key that is no number.
        """
        keys = np.ascontiguousarray(keys, np.float64)
        if keys.ndim != 2 or keys.shape[1] != self.size:
            raise SpecificationError(f"keys have shape {keys.shape}, expected (n, {self.size}); give one row a mapping")
        if np.isnan(keys).any():
            raise SpecificationError("a key is not a number; give numbers from 0 to 1")
        keys = np.clip(keys, 0.0, 1.0)
        construction = self._construction
        batch = construction.none.blank(len(keys))
        inside = np.empty(len(keys), np.bool_)
        process = construction.task, construction.ways, construction.initial_state
        meaning = self._log_divisors, self.space.entries.side_free, self._columns
        decode_keys(process, meaning, keys, batch.arrays(), inside)
        if not self._is_exact:
            inside &= self.space.contains(batch)
            outside = np.flatnonzero(~inside)
            # A part at a time: all differences to all stand-ins together take much more memory than the keys.
            for first in range(0, len(outside), _STAND_INS):
                rows = outside[first : first + _STAND_INS]
                distances = ((keys[rows, None] - self._keys_of_stand_ins) ** 2).sum(axis=2)
                batch[rows] = self._stand_ins[np.argmin(distances, axis=1)]
        return batch

    def encode(self, batch: MappingBatch) -> NDArray[np.float64]:
        """Vectors that :meth:`decode` turns into these mappings of the space, in canonical form.

        Args:
            batch: n mappings of the space; of this only the task, the orders and the sign of the factors are checked.

        Returns:
            float64[n, size].

        Raises:
            SpecificationError: the mappings are of another task, an order is no permutation of the dims, or a factor
                is below 1.
        """
        require_task(batch, self.space.workload, self.space.accelerator)
        if min(batch.temporal.min(initial=1), batch.spatial.min(initial=1)) < 1:
            raise SpecificationError("a factor of a mapping is below 1; give mappings of the space")
        n, levels, dims = batch.temporal.shape
        keys = np.full((n, self.size), 0.5)
        columns, side_free = self._columns, self.space.entries.side_free
        left = np.tile(np.array(self.space.workload.bounds, np.float64), (n, 1))
        on_y = mesh_sides(batch)
        for s in range(levels):
            for kind, factors in ((PARALLEL, batch.spatial[:, s]), (TILE, batch.temporal[:, s])):
                share = np.log(factors) / np.log(np.maximum(left, 2.0))
                if kind == PARALLEL:
                    share = np.where(side_free[s], np.where(on_y[:, s], 1.0 - share, 1.0 + share) / 2.0, share)
                self._write(keys, columns[kind, s, :dims], share)
                left /= factors
            places = (np.argsort(batch.order[:, s], axis=1) + 0.5) / dims
            self._write(keys, columns[ORDER, s, :dims], places)
            places = (np.argsort(batch.spatial_order[:, s], axis=1) + 0.5) / dims
            self._write(keys, columns[ORDER_X, s, :dims], places)
            self._write(keys, columns[KEEP, s, : batch.keep.shape[2]], 0.25 + 0.5 * batch.keep[:, s])
        return keys

    @staticmethod
    def _write(keys: NDArray[np.float64], columns: NDArray[Any], values: NDArray[Any]) -> None:
        keys[:, columns[columns >= 0]] = values[:, columns >= 0]
