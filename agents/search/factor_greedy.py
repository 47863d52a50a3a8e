"""Greedy moves of prime factors, for one class of loop orders after the other."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.base import AskTellAgent, parameter, register
from mapgym.agents.search.tiny_task import tiny_task
from mapgym.cost import CostBatch
from mapgym.mapping import Mapping, MappingBatch
from mapgym.mapspace import MapSpace

MAX_CLASSES = 10_000
"""More classes than this (deep hierarchies) are drawn at random instead of listed."""

VARIANTS = 8
"""Variants of the best mapping that are made at a time, which is faster than one by one."""


@register
@dataclass(kw_only=True)
class FactorGreedy(AskTellAgent):
    """Steepest descent over single prime factors, from everything outermost, once for each class of loop orders.

    After Ronzani and Silvano, "FactorFlow: Mapping GEMMs on Spatial Architectures through Adaptive Programming and
    Greedy Optimization" (ASP-DAC 2025), as released (commit 062f9de): all prime factors start at the outermost level
    and move one by one, each time the one that helps most, for each choice of loop orders. A *class* names, for each
    level above the innermost, the tensor whose irrelevant loops run innermost there, so that it stays in the level
    below; sliding dims come first among them, because only the innermost loop reuses halos. A convolution on three
    levels has 9 classes, instead of 7!^2 orders.

    A descent prices all mappings that are one move away (a prime factor to another level, or between time and space; a
    loop to the other mesh side; a spatial loop past another, where links make that count; a tensor kept or bypassed),
    goes to the best, and ends when none is better.

    Not taken over, as docs/agents/factor-greedy.md says in full: FactorFlow tries all orders of the loops, fills the
    array first and leaves it so, weighs EDP by utilization, and takes what is bypassed as given.

    Changed: after the first class the best mapping so far is changed by some random edits (and now and then gets a
    class drawn at random), and descends again, until the budget is spent. A descent from everything outermost for
    each class, which ``from_outermost`` brings back, spends some thousand samples before the best class is known, and
    single primes get stuck where array and buffers are full.

    The seed decides the order of the classes, and the edits. A warm start descends from the best mapping given, in
    the loop order that it has, before the classes begin.
    """

    name = "factor-greedy"
    summary = "greedy moves of prime factors for each choice of stationary tensors"

    from_outermost: int = parameter(
        1, "classes that start with everything outermost, before all starts are from the best (FactorFlow: all)", low=0
    )
    edits: int = parameter(10, "random edits of the best mapping before it descends again (ours)", low=1)
    fresh_class: float = parameter(0.3, "how often it gets a class drawn at random then (ours)", low=0, high=1)

    def warm_up(self, space: MapSpace) -> None:
        """Compiles what moves, edits and repairs mappings, or loads it from the disk."""
        tiny = tiny_task()
        batch, _ = tiny.repair(MappingBatch.trivial(tiny.workload, tiny.accelerator, 1))
        tiny.neighbors(batch[0], tiny.base.order, check=False)
        tiny.random_neighbor(np.random.default_rng(0), batch)

    def start(self, space: MapSpace, rng: np.random.Generator, objective: str) -> None:
        """Lists the classes; the first descent begins with the first question."""
        self._space, self._rng, self._objective = space, rng, objective
        self._arrangements = _arrangements(space)
        # Loops of the innermost level lead to the MACs, which keep nothing.
        self._levels = [s for s in range(1, len(space.accelerator.levels)) if space.entries.order_free[s]]
        self._classes = len(self._arrangements) ** len(self._levels)
        self._todo = (
            rng.permutation(self._classes).tolist()[: self.from_outermost] if self._classes <= MAX_CLASSES else []
        )
        self._asked = False
        self._none = MappingBatch.trivial(space.workload, space.accelerator, 0)
        self._variants = self._none
        self._current: Mapping | None = None
        self._value = math.inf
        self._order = space.base.order
        self._best: tuple[Mapping, NDArray[np.int8]] | None = None
        self._best_value = math.inf

    def ask(self, n: int) -> MappingBatch:
        """All moves from where the descent is, or the start of the next descent."""
        self._asked = True
        if self._current is not None:
            moves = self._space.neighbors(self._current, self._order, check=False)
            if len(moves):
                return moves
        return self._next_start()

    def tell(self, batch: MappingBatch, costs: CostBatch) -> None:
        """Goes to the best move, or ends the descent."""
        values = costs.objective(self._objective)
        best = int(np.argmin(values))
        value = float(values[best])
        if not self._asked:
            # A warm start has an order of its own.
            self._order = batch.order[best].copy()
        if value >= self._value:
            self._current, self._value = None, math.inf
            return
        self._current, self._value = batch[best], value
        if value < self._best_value:
            self._best, self._best_value = (self._current, self._order), value
            self._variants = self._none

    def _next_start(self) -> MappingBatch:
        self._current, self._value = None, math.inf
        if self._todo or self._best is None:
            number = self._todo.pop() if self._todo else int(self._rng.integers(self._classes))
            self._order = self._order_of(number)
            return self._outermost()
        mapping, self._order = self._best
        if self._rng.random() < self.fresh_class:
            self._order = self._order_of(int(self._rng.integers(self._classes)))
        if not len(self._variants):
            self._variants = MappingBatch.concatenate([mapping.batch()] * VARIANTS)
            for _ in range(self.edits):
                self._variants = self._space.random_neighbor(self._rng, self._variants)
        start, self._variants = self._variants[:1], self._variants[1:]
        return self._in_order(start)

    def _outermost(self) -> MappingBatch:
        """The mapping of the space that is nearest to everything outermost."""
        trivial = MappingBatch.trivial(self._space.workload, self._space.accelerator, 1)
        batch, found = self._space.repair(self._in_order(trivial))
        return batch if found[0] else self._in_order(self._space.sample(self._rng, 1))

    def _in_order(self, batch: MappingBatch) -> MappingBatch:
        batch = batch.copy()
        batch.order[:, self._space.entries.order_free] = self._order[self._space.entries.order_free]
        return batch

    def _order_of(self, number: int) -> NDArray[np.int8]:
        """int8[level, dim]: the order of the loops in a class."""
        order = self._space.base.order.copy()
        for s in self._levels:
            number, arrangement = divmod(number, len(self._arrangements))
            order[s] = self._arrangements[arrangement]
        return order


def _arrangements(space: MapSpace) -> NDArray[np.int8]:
    """int8[any, dim]: for each tensor an order of dims, innermost first, that keeps it in place; none twice."""
    workload = space.workload
    sliding = {dim for tensor in workload.tensors for rank in tensor.ranks if len(rank) > 1 for dim, _ in rank}
    orders = []
    for tensor in workload.tensors:
        still = [dim for dim in workload.dims if dim not in tensor.dims and workload.bound(dim) > 1]
        still.sort(key=lambda dim: dim not in sliding)
        order = still + [dim for dim in workload.dims if dim not in still]
        orders.append([workload.dims.index(dim) for dim in order])
    return np.array(list(dict.fromkeys(map(tuple, orders))), np.int8)
