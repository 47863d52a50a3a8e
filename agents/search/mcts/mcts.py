"""Monte-Carlo tree search."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.base import AskTellAgent, parameter, register
from mapgym.agents.search.mcts.mcts_kernels import (
    ROOT,
    SIZE,
    Moves,
    Rules,
    Tree,
    Ways,
    ask_for,
    decision_count,
    enter,
    tell_values,
)
from mapgym.cost import CostBatch
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.mapspace.construction.decision_kernels import choices_size

_SCALE_SAMPLES = 128
"""Samples whose median becomes the value that counts as 0."""

_FIRST_NODES = 2**14
_ROUNDS = 20
"""Batches without one mapping of the space after which it is drawn at random."""


@register
@dataclass(kw_only=True)
class Mcts(AskTellAgent):
    """Monte-Carlo tree search (UCT; Kocsis and Szepesvari, ECML 2006) over the decisions that build a mapping.

    The tree is that of the episodes of ``MapSpace-v0``: kept tensors, factors level by level, orders, one legal
    decision after the other (:mod:`mapgym.mapspace.construction.construction`). A sample goes down from the root, to
    the child with the highest upper confidence bound, one that nobody has tried first, until it leaves the tree; a
    node that is left for the second time gets children. From there random choices complete the mapping, and its value,
    -ln(cost), goes up the tree.

    What differs from plain UCT:

    - Values are scaled so that the median of the first 128 samples is 0 and the best value so far is 1. Means are of
      values as they are, so that a new best value changes the scale, not the tree.
    - One mapping is looked for, not a policy against chance: a node is worth a weighted mean of the mean and the best
      value below it (Schadd et al., single-player MCTS, CG 2008).
    - Random choices favour moves that were good wherever they were made: they are drawn from a softmax of the mean
      values of the samples with them (MAST; Finnsson and Bjornsson, AAAI 2008). Moves that nobody has made count as 1.
    - Samples are priced in batches. Until it is priced, a sample counts as one of value 0 all the way up (virtual loss,
      Chaslot et al., CG 2008), so that the others of the batch go elsewhere.
    - A node below which everything was asked for is closed. When the root is, the space is searched, and so is a warm
      start. No sample is spent on a mapping outside the space.

    The root never moves: the tree is that of the whole search. Moving on to the best child after a number of samples
    was worse at 5,000 samples, whatever the number (docs/agents/mcts.md).

    A warm start: the whole way to each mapping given becomes part of the tree, with its value.
    """

    name = "mcts"
    summary = "Monte-Carlo tree search over the decisions that build a mapping"

    exploration: float = parameter(0.3, "weight of what is seldom tried, in units of the scale (UCT: 1.41)", low=0)
    best_weight: float = parameter(0.8, "share of the best value below a node in its worth (UCT: 0)", low=0, high=1)
    temperature: float = parameter(0.1, "of random choices, in units of the scale; 0 for uniform ones (UCT)", low=0)
    batch_size: int = parameter(128, "mappings priced at a time", low=1)
    nodes: int = parameter(1_000_000, "nodes of the tree at most, of 45 bytes each", low=1000, high=10**8)

    def warm_up(self, space: MapSpace) -> None:
        """Compiles the search, or loads it from the disk."""
        self.start(space, np.random.default_rng(0), "edp")
        self._enter(self.ask(1)[:0], np.empty(0))

    def start(self, space: MapSpace, rng: np.random.Generator, objective: str) -> None:
        """Forgets the tree of the search before."""
        self._space, self._rng, self._objective = space, rng, objective
        construction = space.construction
        self._tables = construction.task, construction.ways, construction.initial_state
        self._generator = np.array([rng.integers(2**64, dtype=np.uint64)], np.uint64)
        self._decisions = decision_count(construction.task)
        moves = self._decisions * choices_size(construction.task)
        self._moves = Moves(np.zeros(moves), np.zeros(moves, np.int64))
        self._tree = _new_tree(min(self.nodes, _FIRST_NODES))
        self._ways = self._new_ways(self.batch_size)
        self._rows: NDArray[np.int64] | None = None
        self._first_values: list[float] = []
        self._low, self._best, self._worst = np.nan, 0.0, 0.0

    def ask(self, n: int) -> MappingBatch:
        """One sample for each way down the tree; an empty batch when everything was asked for."""
        self._make_room()
        for _ in range(_ROUNDS):
            batch = self._space.construction.none.blank(self.batch_size)
            arrays = batch.arrays()
            count = ask_for(self._tables, self._tree, self._moves, self._rules(), self._generator, self._ways, arrays)
            self._rows = np.arange(count)
            if not self._space.construction_is_exact:
                batch = self._inside(batch[:count])
            if len(self._rows) or self._tree.closed[ROOT]:
                return batch[: len(self._rows)]
        # Hardly anything that the construction builds is in the space; these are, and the tree learns nothing of them.
        return self._space.sample(self._rng, self.batch_size)

    def tell(self, batch: MappingBatch, costs: CostBatch) -> None:
        """Takes values up the tree."""
        values = -np.log(costs.objective(self._objective))
        if self._rows is None:
            members = np.flatnonzero(self._space.contains(batch))
            self._enter(self._space.canonical(batch[members]), self._scaled(values[members]))
        elif len(self._rows):
            values = self._scaled(values)
            tell_values(self._tree, self._moves, self._ways, self._rows[: len(values)], values)

    def _enter(self, batch: MappingBatch, values: NDArray[np.float64]) -> None:
        """Makes mappings part of the tree."""
        ways = self._new_ways(len(batch))
        enter(self._tables, self._tree, ways, batch.arrays())
        tell_values(self._tree, self._moves, ways, np.arange(len(batch)), values)

    def _inside(self, batch: MappingBatch) -> MappingBatch:
        """Those mappings that are in the space; the others are known to be worth nothing, for nothing."""
        is_inside = self._space.contains(batch)
        outside = np.flatnonzero(~is_inside)
        tell_values(self._tree, self._moves, self._ways, outside, np.full(len(outside), self._worst))
        self._rows = np.flatnonzero(is_inside)
        return batch[self._rows]

    def _scaled(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The values, those of illegal mappings like the worst of the others; remembers the scale."""
        known = values[np.isfinite(values)]
        if len(known):
            is_first = not self._best and not self._worst
            self._best = float(known.max() if is_first else max(self._best, known.max()))
            self._worst = float(known.min() if is_first else min(self._worst, known.min()))
        values = np.where(np.isfinite(values), values, self._worst)
        if np.isnan(self._low):
            self._first_values += values.tolist()
            if len(self._first_values) >= _SCALE_SAMPLES:
                self._low = float(np.median(self._first_values))
        return values

    def _rules(self) -> Rules:
        """The parameters, and the scale; choices are uniform until that is known."""
        if np.isnan(self._low):
            return Rules(self.exploration, self.best_weight, 0.0, self._best - 1.0, 1.0)
        spread = max(self._best - self._low, 1e-9)
        return Rules(self.exploration, self.best_weight, self.temperature, self._low, spread)

    def _new_ways(self, n: int) -> Ways:
        return Ways(np.zeros(n, np.int32), np.zeros((n, self._decisions), np.int32), np.zeros(n, np.int32))

    def _make_room(self) -> None:
        """Doubles a tree that is half full; one that has ``nodes`` stays as it is, and only its leaves are tried."""
        size = len(self._tree.parents)
        if 2 * self._tree.used[SIZE] > size and size < self.nodes:
            larger = _new_tree(min(self.nodes, 2 * size))
            arrays: Iterable[tuple[NDArray[Any], NDArray[Any]]] = zip(larger, self._tree, strict=True)
            for new, old in arrays:
                new[: len(old)] = old
            self._tree = larger


def _new_tree(size: int) -> Tree:
    """A root, and room for so many nodes."""
    parents, firsts, counts, actions, visits, pending = np.zeros((6, size), np.int32)
    totals, bests = np.zeros(size), np.full(size, -np.inf)
    closed, used = np.zeros(size, np.bool_), np.ones(1, np.int64)
    return Tree(parents, firsts, counts, actions, visits, pending, totals, bests, closed, used)
