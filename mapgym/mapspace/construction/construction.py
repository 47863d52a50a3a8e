"""The decision process that builds a mapping, one legal choice at a time.

Decisions come in this order; those with a single legal choice are taken silently:

1. kept tensors, if the axis "bypass" is searched: per level from the innermost, per tensor;
2. factors: per level from the innermost, first the parallel factor of each dim (where the level has fan-out; with the
   side of the mesh, X or Y, where it has both), then the tile factor of each dim. Dims that no output has (those that
   are summed over) come first, and of each kind the one with the largest bound. The outermost tile factors take the
   rest;
3. orders, if the axis "order" is searched: per level from the innermost, and innermost loop first: where their order
   counts (``Accelerator.spatial_order_counts``) the spatial loops on X, then those on Y; then the temporal loops. Only
   loops above 1 are ordered.

The same compiled functions serve :meth:`Construction.sample`, which rolls the process out at random, and the
environments, which step through it; :mod:`mapgym.mapspace.construction.tables` explains why "what is legal next" is
exact.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mapgym.errors import SpecificationError, suggest
from mapgym.errors.text import quoted
from mapgym.mapping import MappingBatch
from mapgym.mapspace.construction.rollout_kernels import export_states, sample_mappings
from mapgym.mapspace.construction.tables import ORDERS, build_tables
from mapgym.mapspace.definition import Definition

_ATTEMPTS = 10_000


class Construction:
    """The construction process of one map space.

    Attributes:
        space: the map space.
        orders: "full", or "innermost": only the innermost temporal loop of each level is chosen, the others follow in
            the order of the workload's dims.
        task, ways: tables of the compiled kernels; see :mod:`mapgym.mapspace.construction.packed_kernels`.
        initial_state: int32[...], a mapping with nothing decided.
        max_divisors: largest number of divisors among the bounds.
        none: a batch of no mappings, whose ``blank`` makes batches to fill.
        inexact: "" if following the legal choices always ends in a legal mapping and every legal mapping can be
            reached; otherwise the reason why a constraint makes that impossible.
    """

    def __init__(self, space: Definition, orders: str = "full", y_offset: int | None = None) -> None:
        """Builds the tables.

        Args:
            space: workload, accelerator, axes, constraints and base.
            orders: "full" or "innermost".
            y_offset: added to the index of a factor to say that it goes on the mesh side Y; at least
                ``max_divisors``, which is the default.

        Raises:
            SpecificationError: orders is unknown, or the space has no legal mapping.
        """
        if orders not in ORDERS:
            raise SpecificationError(f"orders is {quoted(orders)}; {suggest(str(orders), ORDERS)}")
        tables = build_tables(space, orders, y_offset)
        self.space, self.orders = space, orders
        self.none = MappingBatch.trivial(space.workload, space.accelerator, 0)
        self.task, self.ways = tables.task, tables.ways
        self.initial_state = tables.initial_state
        self.max_divisors, self.inexact = tables.max_divisors, tables.inexact

    def sample(self, rng: np.random.Generator, n: int) -> MappingBatch:
        """Draws n mappings by random roll-outs, in one compiled call.

        Each legal choice of a decision is equally likely, which favours large factors, and so parallelism and full
        buffers, over the many factorisations that put nearly everything at the outermost level. Each level visits the
        dims in a random order, so that shared limits favour none. Orders (and kept tensors) are uniform.

        Every legal mapping has a positive probability. Mappings are legal, except that a minimum utilisation is not
        looked at.

        Args:
            rng: gives the seed.
            n: how many, at least 0.

        Raises:
            SpecificationError: constraints for which legality is inexact leave almost no legal mapping.
        """
        batch = self.none.blank(n)
        seed = np.uint64(rng.integers(2**64, dtype=np.uint64))
        done = sample_mappings(
            self.task, self.ways, self.initial_state, seed, _ATTEMPTS if self.inexact else 1, batch.arrays()
        )
        if done < n:
            raise SpecificationError(
                f"no legal mapping of {quoted(self.space.workload.name)} on {quoted(self.space.accelerator.name)} was "
                f"found in {_ATTEMPTS} attempts, because {self.inexact}; loosen the constraints"
            )
        return batch

    def export(
        self, states: NDArray[np.int32], rows: NDArray[np.int64], batch: MappingBatch | None = None
    ) -> MappingBatch:
        """The mappings of complete states.

        Args:
            states: int32[n, at least len(initial_state)], as environments keep them.
            rows: int64[k], which of them.
            batch: k mappings of the task, to be overwritten; new ones when left out.

        Raises:
            SpecificationError: there are no such rows, or the states are too short.
        """
        batch = self.none.blank(len(rows)) if batch is None else batch
        if states.shape[1] < len(self.initial_state) or not export_states(self.task, states, rows, batch.arrays()):
            raise SpecificationError(
                f"there are {len(states)} states of {states.shape[1]} numbers; give rows of them, and states of this "
                "task"
            )
        return batch
