"""Monte-Carlo tree search."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.base import AskTellAgent, parameter, register
from mapgym.agents.search.mcts.mcts_kernels import NOTHING, ROOT, SIZE, Moves, Rules, Tree, ask_for, best_child, tell_values
from mapgym.cost import CostBatch
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.mapspace.construction import packed_kernels as packed
from mapgym.mapspace.construction.construction import Construction
from mapgym.mapspace.construction.decision_kernels import choices_size


@register
@dataclass(kw_only=True)
class Mcts(AskTellAgent):
    """x."""

    name = "mcts"
    summary = "UCT over the decisions that build a mapping"

    exploration: float = parameter(0.1, "weight of rarely tried choices (UCT: 1.41 for values from 0 to 1)", low=0)
    best_weight: float = parameter(0.5, "share of the best value below a node in its worth", low=0, high=1)
    temperature: float = parameter(0.2, "t", low=0)
    commit: int = parameter(0, "samples", low=0)
    orders: str = parameter("full", "x", choices=("full", "innermost"))
    batch_size: int = parameter(16, "mappings priced at a time", low=1)
    nodes: int = parameter(1_000_000, "nodes of the tree at most", low=1000, high=10**8)

    def start(self, space: MapSpace, rng: np.random.Generator, objective: str) -> None:
        self._space, self._rng, self._objective = space, rng, objective
        self._construction = space.construction if self.orders == "full" else Construction(space.definition, self.orders)
        task = self._construction.task
        self._tables = task, self._construction.ways, self._construction.initial_state
        self._generator = np.array([rng.integers(2**64, dtype=np.uint64)], np.uint64)
        width = choices_size(task)
        items = max(int(task[packed.DIMS]), int(task[packed.TENSORS]))
        decisions = max(int(task[packed.GROUPS]), 1) * items
        self._moves = Moves(np.zeros(decisions * width), np.zeros(decisions * width, np.int64),
            np.zeros((self.batch_size, decisions), np.int32), np.zeros(self.batch_size, np.int32))
        self._tree = new_tree(min(self.nodes, 1 << 14))
        self._room = self.batch_size * width
        self._leaves = np.zeros(self.batch_size, np.int32)
        self._path = np.zeros(0, np.int32)
        self._spent = 0
        self._low, self._best = np.nan, -np.inf
        self._worst = np.inf
        self._pending = 0

    def ask(self, n: int) -> MappingBatch:
        if len(self._tree.parents) < self.nodes and self._tree.used[SIZE] + 1024 * 4 > len(self._tree.parents):
            self._tree = grown(self._tree, min(self.nodes, 2 * len(self._tree.parents)))
        batch = self._construction.none.blank(self.batch_size)
        spread = max(self._best - self._low, 1e-9) if np.isfinite(self._low) else 1.0
        low = self._low if np.isfinite(self._low) else 0.0
        rules = Rules(self.exploration, self.best_weight, self.temperature if np.isfinite(self._low) else 0.0, low, spread, len(self._tree.parents))
        count = ask_for(self._tables, tuple(self._tree), rules, tuple(self._moves), self._path, self._generator, self._leaves, batch.arrays())
        self._asked = True
        return batch[:count]

    def tell(self, batch: MappingBatch, costs: CostBatch) -> None:
        values = -np.log(costs.objective(self._objective))
        finite = values[np.isfinite(values)]
        if len(finite):
            self._worst = min(self._worst, float(finite.min()))
            self._best = max(self._best, float(finite.max()))
        values = np.where(np.isfinite(values), values, self._worst)
        self._seen = [*getattr(self, "_seen", []), *values.tolist()] if not np.isfinite(self._low) else []
        if len(self._seen) >= 128:
            self._low = float(np.median(self._seen))
        tell_values(tuple(self._tree), tuple(self._moves), self._leaves, values)
        self._spent += len(values)
        if self.commit and self._spent >= self.commit:
            self._spent = 0
            node = int(self._path[-1]) if len(self._path) else ROOT
            child = int(best_child(tuple(self._tree), node))
            self._path = np.zeros(0, np.int32) if child == NOTHING else np.append(self._path, np.int32(child))


def new_tree(size: int) -> Tree:
    numbers = [np.zeros(size, np.int32) for _ in range(6)]
    tree = Tree(*numbers, np.zeros(size), np.full(size, -np.inf), np.zeros(size, np.bool_), np.ones(1, np.int64))
    return tree


def grown(tree: Tree, size: int) -> Tree:
    larger = new_tree(size)
    for new, old in zip(larger, tree, strict=True):
        new[: len(old)] = old
    return larger
