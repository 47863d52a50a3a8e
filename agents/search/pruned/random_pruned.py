"""Timeloop's random-pruned mapper."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.base import AskTellAgent, parameter, register
from mapgym.agents.search.pruned.points import draw_tables, first_point, point_tables
from mapgym.agents.search.pruned.random_pruned_kernels import INVALID, KEPT, VISITS, begin_visits, random_walk
from mapgym.cost import CostBatch
from mapgym.mapping import MappingBatch
from mapgym.mapping.maps import Maps
from mapgym.mapspace import MapSpace

TOLERANCE = 1e-3
"""Timeloop takes costs that are this close to each other, as a share, for equal."""


@register
@dataclass(kw_only=True)
class RandomPruned(AskTellAgent):
    """The search ``random-pruned`` of Timeloop's mapper (commit 4cf6d4c), the usual baseline of the field.

    The factors of all dims are drawn at random, every ordered factorisation of a bound being equally likely. They are
    visited with up to 16 random permutations, in which loops of bound 1 take no part; each of these with all splits of
    the spatial loops between the sides X and Y; each of these with all bypass variants, where bypass is searched. What
    turns out to be illegal directs the walk: too much parallelism skips the bypass variants, and factors that fit with
    no bypass variant are left at once.

    The same as there: what is drawn, in which order it is visited, that only legal mappings are priced and counted
    (Timeloop, too, checks capacities and fan-outs before it prices, and limits the search by valid mappings), and what
    counts as a mapping in vain for ``victory`` and ``timeout``: bypass variants of one point count once, and an
    improvement is one of more than 0.1 %.

    Different: there is one thread, with a seed; Timeloop has no seed and splits the factorisations among its threads.
    Fixed factors are exact, where Timeloop also knows upper limits. By default the search goes on after ``victory`` and
    ``timeout``, so that it spends its budget as all others do: after victory with other factors, and after a timeout,
    which is common where legal factors are rare, with those of one mapping of ``MapSpace.sample``, which it prices as
    well. ``ends=true`` stops, as a thread of Timeloop does.
    """

    name = "random-pruned"
    summary = "Timeloop's random-pruned mapper"

    permutations: int = parameter(16, "random permutations tried with each factorisation (Timeloop: 16)", low=1)
    victory: int = parameter(
        500,
        "consecutive legal mappings without improvement that are enough (Timeloop: 500); 0 for no limit",
        low=0,
        high=10**9,
    )
    timeout: int = parameter(
        1000, "consecutive illegal points that are enough (Timeloop: 1000); 0 for a million", low=0, high=10**9
    )
    ends: bool = parameter(False, "stop at victory or timeout, as Timeloop does, instead of going on elsewhere")
    batch_size: int = parameter(256, "mappings drawn at a time; changes the speed, and what follows a timeout", low=1)

    def warm_up(self, space: MapSpace) -> None:
        """Compiles the walk, or loads it."""
        self.start(space, np.random.default_rng(0), "edp")
        self._visit(space.sample(np.random.default_rng(0), 1))
        self.ask(1)

    def start(self, space: MapSpace, rng: np.random.Generator, objective: str) -> None:
        """Packs the rules of the space."""
        self._space, self._rng, self._objective = space, rng, objective
        self._tables = point_tables(space)
        self._point, self._current = first_point(space, self._tables)
        self._draws = draw_tables(self._tables, self._point)
        self._walk = np.zeros(5, np.int64)
        self._generator = rng.integers(2**63, size=1, dtype=np.uint64)
        self._is_variant: NDArray[np.bool_] = np.empty(0, np.bool_)
        self._best = math.inf
        self._in_vain = 0
        self._over = False

    def ask(self, n: int) -> MappingBatch:
        """The next legal mappings of the walk."""
        size = self.batch_size
        if self.victory:
            size = min(size, self.victory - self._in_vain)
        batch = self._current.blank(0 if self._over else size)
        self._is_variant = np.zeros(len(batch), np.bool_)
        count = random_walk(
            self._tables,
            self._draws,
            self._point,
            self._current.arrays(),
            self._walk,
            self._generator,
            self.permutations,
            self.timeout or 1_000_000,
            batch.arrays(),
            self._is_variant,
        )
        has_timed_out = count < len(batch)
        batch = batch[:count]
        if not self._space.construction_is_exact or self._space.entries.is_limited:
            # What compressed tiles say about their zeros may need more room than there is; the walk does not know.
            inside = np.flatnonzero(self._space.contains(batch))
            batch, self._is_variant = batch[inside], self._is_variant[inside]
        self._over |= has_timed_out and self.ends
        if not self._over and (has_timed_out or not len(batch)):
            drawn = self._space.sample(self._rng, 1)
            self._visit(drawn)
            batch = MappingBatch.concatenate([batch, drawn])
            self._is_variant = np.append(self._is_variant[: len(batch) - 1], False)
        return batch

    def tell(self, batch: MappingBatch, costs: CostBatch) -> None:
        """Keeps count of the mappings in vain."""
        values = costs.objective(self._objective)
        counts = ~self._is_variant[: len(values)]
        if len(counts) < len(values):
            # A warm start: it was not drawn here, and only raises the bar.
            self._best = min(self._best, float(values.min()))
            return
        first = 0
        while first < len(values):
            better = np.flatnonzero(values[first:] < (1 - TOLERANCE) * self._best)
            last = first + int(better[0]) if len(better) else len(values)
            self._in_vain += int(counts[first:last].sum())
            if len(better):
                self._best, self._in_vain = float(values[last]), 0
            first = last + 1
        if self.victory and self._in_vain >= self.victory:
            self._over = self.ends
            self._in_vain = 0
            self._walk[VISITS] = self._walk[KEPT] = 0

    def _visit(self, drawn: MappingBatch) -> None:
        """Goes on with the factors of a mapping."""
        self._current.temporal[:] = drawn.temporal
        self._current.spatial[:] = drawn.spatial
        self._walk[INVALID] = 0
        begin_visits(
            self._tables, self._point, Maps(*self._current.arrays()), self._walk, self.permutations, self._generator
        )
