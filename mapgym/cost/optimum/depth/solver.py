"""The search for the optimum of a deep hierarchy: level by level from the outermost one, best bound first."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mapgym.cost.model import Cost, CostModel
from mapgym.cost.optimum.depth.boundary_kernels import State, choose, least_at_macs
from mapgym.cost.optimum.depth.network import make_networks
from mapgym.cost.optimum.depth.network_kernels import Networks
from mapgym.cost.optimum.depth.order_kernels import MOST_RECORDS
from mapgym.cost.optimum.depth.problem import Task
from mapgym.cost.optimum.depth.search_kernels import (
    PROMISING,
    RECORDING,
    THOROUGH,
    Extremes,
    Memory,
    bound_children,
    bound_inside,
    bound_tiles,
    search_tile,
)
from mapgym.cost.optimum.depth.slide_kernels import Slides
from mapgym.cost.optimum.depth.solution import build_mapping, with_best_layouts
from mapgym.cost.optimum.depth.table_kernels import Tables, fill_tables, mark_tiles
from mapgym.cost.optimum.depth.work import (
    fill_outermost,
    make_descent,
    make_orders,
    make_slides,
    make_state,
    make_tables,
    make_tile,
    table_bytes,
)
from mapgym.mapping import Mapping, MappingBatch

_Number = TypeVar("_Number", float, NDArray[np.float64])

# Sums of a few dozen terms: an equal mapping must not look better than the incumbent by rounding.
_ROUNDING = 1e-12
_MOST_TABLE_BYTES = 1_200_000_000
_MOST_TABLES = 1000
_LATER = np.array([[-1, -1]])
"""The children of a node that has not been grown."""
_STEPS = 200_000
"""Steps of a search between two looks at the clock."""


@dataclass(eq=False)
class Node:
    """What is chosen for the levels from one on, and what may be chosen next, by ascending bound.

    Attributes:
        level: from here on outwards, spatial factors are chosen, and from the next level inwards on, what is kept.
        choice: int64[S] spatial factors of the levels that are chosen.
        keep: bool[S, T].
        parent: the node without the choice of this level; None for the outermost one, where nothing is chosen.
        bounds, cycles: float64[n] of the choices of the next level inwards: least energy (pJ), and cycles.
        children: int64[n, 2] which of what is kept, and which spatial factors.
        tiles: int64[m] tiles of level 0, where only its spatial factors are left to be chosen.
        energies: float64[m] least energy outside these tiles.
        missing: least energy outside tiles that were left out because they could not be better than the best solution.
        next: the first choice that has not been looked into.
    """

    level: int
    choice: NDArray[np.int64]
    keep: NDArray[np.bool_]
    parent: Node | None
    bounds: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    cycles: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    children: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 2), np.int64))
    tiles: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    energies: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    missing: float = math.inf
    next: int = 0

    @property
    def chosen(self) -> tuple[bytes, bytes]:
        """What tells its tables from those of other nodes."""
        return self.choice[self.level :].tobytes(), self.keep[self.level - 1 :].tobytes()


@dataclass(eq=False)
class _Leaf:
    """Everything chosen but the extents and the orders."""

    node: Node
    spatial: int
    bound: float
    cycles: float


class DepthSolver:
    """State of one search; see :func:`mapgym.cost.optimum.find_optimum`.

    Attributes:
        value: objective by the formulas of the best solution, or of the mapping to start from.
        best: the best mapping by the cost model.
        nodes: leaves that were searched.
    """

    def __init__(self, task: Task, objective: str) -> None:
        self.task, self.objective = task, objective
        problem = task.problem
        self.levels = len(problem.serve)
        self._of_energy, self._of_cycles = objective != "latency", objective != "energy"
        self.model = CostModel(task.space.workload, task.space.accelerator)
        self.networks: Networks = make_networks(task)
        self.slides: Slides = make_slides(problem)
        self.state: State = make_state(problem)
        self.tile = make_tile(problem)
        self.orders = make_orders(problem)
        self.descent = make_descent(problem)
        # Levels some of whose extents are ruled out.
        padding = problem.divisors == 0
        self.is_fixed = ~(problem.allowed | padding).all(axis=(1, 2))
        self.value = math.inf
        self.best: tuple[Mapping, Cost] | None = None
        self.nodes = 0
        # Tables of the outermost boundary lie in the first slot; the others are given away by turns.
        slots = max(self.levels + 2, min(_MOST_TABLES, _MOST_TABLE_BYTES // table_bytes(problem)))
        self._all_tables = make_tables(problem, slots)
        fill_outermost(problem, self._tables_in(0))
        self._slots: OrderedDict[tuple[bytes, bytes], int] = OrderedDict()
        self._free = list(range(slots - 1, 0, -1))
        self._fits: dict[tuple[int, bytes], NDArray[np.bool_]] = {}
        self._extremes = self._find_extremes()
        self._memory = Memory(self.orders, self.descent, self._all_tables, self.tile)
        self._heap: list[tuple[float, int, Node]] = []
        self._ticket = itertools.count()
        self._leaves: list[tuple[float, int, _Leaf]] = []
        self._searched: list[_Leaf] = []
        self._is_closing = False

    def _find_extremes(self) -> Extremes:
        most, shared = np.ones(self.levels), np.ones((self.levels, len(self.task.problem.words)))
        for s, rows in enumerate(self.task.options):
            used = rows.prod(axis=1)
            most[s] = used.max()
            shared[s] = (self.networks.distinct[s, : len(rows)] / used[:, None]).min(axis=0)
        return Extremes(most, shared, np.array([keeps.any(axis=0) for keeps in self.task.keeps]))

    # Nodes

    def _enter(self, node: Node) -> None:
        """Sets the state to the choices of a node."""
        self.state.choice[:], self.state.keep[:] = node.choice, node.keep
        for s in range(self.levels - 1, node.level - 1, -1):
            choose(self.task.problem, self.networks, self.state, s)

    def _tables_in(self, slot: int) -> Tables:
        return Tables(*(array[slot] for array in self._all_tables))

    def _outside(self, node: Node) -> int:
        """The slot of the node's tables, made again if they had to make room. Leaves the state set to the node."""
        if node.parent is None:
            self._enter(node)
            return 0
        if node.chosen in self._slots:
            self._slots.move_to_end(node.chosen)
            self._enter(node)
            return self._slots[node.chosen]
        return self._fill(node, math.inf)[0]

    def _fill(self, node: Node, limit: float) -> tuple[int, float]:
        """Makes the tables of a node; returns their slot and the least energy. Above the limit they are not kept."""
        assert node.parent is not None
        around = self._tables_in(self._outside(node.parent))
        self._enter(node)
        if not self._free:
            # The tables of nodes further out were used just now.
            self._free.append(self._slots.popitem(last=False)[1])
        slot = self._free.pop()
        tiles = self._list_tiles(node, around)
        least = fill_tables(
            self.task.problem, self.slides, self.networks, self.state, node.level, around, tiles, self.tile, limit,
            self._tables_in(slot),
        )  # fmt: skip
        if least < limit:
            self._slots[node.chosen] = slot
        else:
            self._free.append(slot)
        return slot, least

    def _list_tiles(self, node: Node, outside: Tables) -> NDArray[np.int64]:
        """Tiles of the level below the node's that fit it and have a multiple that fits the levels outside."""
        level = node.level - 1
        key = level, node.keep[level].tobytes()
        if key not in self._fits:
            fits = np.empty(len(outside.least), np.bool_)
            mark_tiles(self.task.problem, level, node.keep[level], self.tile, fits)
            self._fits[key] = fits
        return np.flatnonzero(self._fits[key] & np.isfinite(outside.anywhere))

    def _grow(self, node: Node, least: float, cycles: float) -> None:
        """Bounds all choices of the next level inwards; none of them is below ``least`` pJ or so many cycles.

        A node that cannot be better than the best solution keeps that bound, and grows when it is looked into again.
        """
        if node.level == 1:
            self._grow_leaves(node)
            return
        if node.parent is not None and node.chosen not in self._slots and self._of_energy:
            self._outside(node.parent)
            self._enter(node)
            inside = bound_inside(self.task.problem, self.state, node.level, self._extremes)
            limit = self.value / (cycles if self._of_cycles else 1.0) - inside
            _, outside_least = self._fill(node, limit)
            if outside_least >= limit:
                if math.isfinite(outside_least):
                    bound = max(least, inside + outside_least)
                    node.bounds, node.cycles, node.children = np.array([bound]), np.array([cycles]), _LATER
                return
        tables = self._tables_in(self._outside(node))
        s = node.level - 1
        rows, keeps = self.task.options[s], self.task.keeps[s - 1]
        bounds, cycles_of = np.empty((2, len(keeps), len(rows)))
        bound_children(
            self.task.problem, self.networks, self.state, s, tables, keeps, len(rows), self._extremes, bounds, cycles_of
        )
        least_used = self.task.space.entries.min_used_macs
        kept, spatial = np.nonzero(np.isfinite(bounds) & (cycles_of * least_used <= self.task.problem.macs))
        self._set_children(
            node, np.maximum(bounds[kept, spatial], least), cycles_of[kept, spatial], np.stack([kept, spatial], axis=1)
        )

    def _grow_leaves(self, node: Node) -> None:
        """As _grow, where only spatial factors of level 0 are left to be chosen."""
        self._list_innermost(node)
        settled, cycles = self._settle(node)
        bounds = np.full(len(settled), math.inf)
        for i in np.flatnonzero(np.isfinite(settled)).tolist():
            found = node.energies[self._tiles_of(node, i)].min(initial=math.inf)
            bounds[i] = settled[i] + min(found, node.missing)
        finite = np.flatnonzero(np.isfinite(bounds))
        self._set_children(node, bounds[finite], cycles[finite], np.stack([np.zeros_like(finite), finite], axis=1))

    def _settle(self, node: Node) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Energy (pJ) beside that outside the tile of level 0, and cycles, by the spatial factors of level 0.

        It is inf for those that do not use enough MACs.
        """
        self._enter(node)
        problem, known = self.task.problem, sum(self.state.known[1:].tolist())
        settled, cycles = np.full(len(self.task.options[0]), math.inf), np.ones(len(self.task.options[0]))
        for i in range(len(settled)):
            self.state.choice[0] = i
            choose(problem, self.networks, self.state, 0)
            cycles[i] = problem.macs / self.state.used[0]
            if self.state.used[0] >= self.task.space.entries.min_used_macs:
                settled[i] = least_at_macs(problem, self.networks, self.state) + known
        return settled, cycles

    def _list_innermost(self, node: Node) -> None:
        """Lists the tiles of level 0 that may be part of a better solution."""
        assert node.parent is not None
        settled, cycles = self._settle(node)
        allowed = np.isfinite(settled)
        limit = math.inf
        if self._of_energy and allowed.any():
            limit = float((self.value / (cycles if self._of_cycles else 1.0) - settled)[allowed].max())
        outside = self._tables_in(self._outside(node.parent))
        self._enter(node)
        tiles = self._list_tiles(node, outside)
        energies = np.empty(len(tiles))
        bound_tiles(
            self.task.problem, self.slides, self.networks, self.state, outside, tiles, self.tile, limit, energies
        )
        kept = np.flatnonzero(energies < limit)
        node.tiles, node.energies = tiles[kept], energies[kept]
        node.missing = float(energies[energies >= limit].min(initial=math.inf))

    def _objective(self, energy: _Number, cycles: _Number) -> _Number:
        """What is minimised."""
        if not self._of_energy:
            return cycles
        return energy * cycles if self._of_cycles else energy

    def _set_children(
        self, node: Node, bounds: NDArray[np.float64], cycles: NDArray[np.float64], children: NDArray[np.int64]
    ) -> None:
        order = np.argsort(self._objective(bounds, cycles), kind="stable")
        node.bounds, node.cycles, node.children = bounds[order], cycles[order], children[order]

    def _tiles_of(self, node: Node, spatial: int) -> NDArray[np.int64]:
        """Which of the node's tiles the spatial factors of level 0, and its fixed factors, leave."""
        problem = self.task.problem
        rows = np.ones(len(node.tiles), np.bool_)
        merges = self._merges(node, 0)
        for d, factor in enumerate(self.networks.factors[0, spatial].tolist()):
            index = node.tiles // problem.stride[d] % problem.counts[d]
            extent = problem.divisors[d][index]
            rows &= extent % factor == 0
            fixed = 1 if merges else problem.temporal[0, d]
            if fixed > 0:
                rows &= extent == fixed * factor
            if self.levels == 2 and problem.temporal[1, d] > 0:
                block = extent * self.networks.factors[1, node.choice[1], d]
                rows &= problem.temporal[1, d] * block == problem.bounds[d]
        return np.flatnonzero(rows)

    def _merges(self, node: Node, s: int) -> bool:
        """Whether the loops of a level may as well be those of the next one: nothing depends on where they are."""
        problem, state = self.task.problem, self.state
        if node.keep[s].any() or state.weight[s + 1].any() or problem.router[s + 1] > 0:
            return False
        if self.networks.is_paired[s + 1, node.choice[s + 1]].any():
            return False
        if problem.temporal[s : s + 2].any() or (problem.place[s : s + 2] >= 0).any() or self.is_fixed[s]:
            return False
        return s == 0 or bool(state.used[s + 1] == state.used[s + 2])

    # The search

    def run(self, gap: float) -> Iterator[float]:
        """Steps of the search; yields the bound so far."""
        problem = self.task.problem
        nothing = np.zeros(self.levels, np.int64), np.ones((self.levels, len(problem.words)), np.bool_)
        root = Node(self.levels, *nothing, None)
        self._grow(root, 0.0, 0.0)
        self._push(root)
        while self._heap and self._heap[0][0] < self.value:
            _, _, node = heapq.heappop(self._heap)
            yield from self._plunge(node)
        yield self._bound()
        yield from self._search_leaves()
        formula = min(self.value, self._floor())
        yield formula
        if self.best is not None and self.best[1].objective(self.objective) > formula * (1.0 + gap / 2):
            yield from self._close(formula, gap)

    def _push(self, node: Node) -> None:
        if node.next < len(node.bounds):
            key = float(self._objective(node.bounds[node.next], node.cycles[node.next]))
            heapq.heappush(self._heap, (key, next(self._ticket), node))

    def _bound(self) -> float:
        """Least bound of what is left."""
        return min(self._heap[0][0] if self._heap else math.inf, self._floor(), self.value)

    def _floor(self) -> float:
        """Least bound of the leaves that have not been searched thoroughly."""
        return self._leaves[0][0] if self._leaves else math.inf

    def _plunge(self, node: Node) -> Iterator[float]:
        """Follows the best choices of a node to a leaf, and looks for a good solution there."""
        while True:
            i = node.next
            bound, cycles = float(node.bounds[i]), float(node.cycles[i])
            key = self._objective(bound, cycles)
            if key >= self.value:
                self._push(node)
                return
            kept, spatial = node.children[i]
            if kept < 0:
                self._grow(node, bound, cycles)
                if not len(node.bounds):
                    return
                continue
            node.next += 1
            self._push(node)
            s = node.level - 1
            if s == 0:
                leaf = _Leaf(node, int(spatial), bound, cycles)
                heapq.heappush(self._leaves, (key, next(self._ticket), leaf))
                if not self._is_closing:
                    self._look_into(leaf)
                yield self._bound()
                return
            child = Node(s, node.choice.copy(), node.keep.copy(), node)
            child.choice[s] = spatial
            child.keep[s - 1] = self.task.keeps[s - 1][kept]
            self._grow(child, bound, cycles)
            yield min(self._bound(), key)
            if not len(child.bounds):
                return
            node = child

    def _enter_leaf(self, leaf: _Leaf) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Sets everything to a leaf; returns its tiles by ascending bound, and the bounds (pJ)."""
        node = leaf.node
        settled = float(self._settle(node)[0][leaf.spatial])
        if settled + node.missing < self._limit(leaf):
            self._list_innermost(node)
        outside: Node | None = node.parent
        while outside is not None:
            self.descent.slot[outside.level] = self._outside(outside)
            outside = outside.parent
        self._enter(node)
        self.state.choice[0] = leaf.spatial
        choose(self.task.problem, self.networks, self.state, 0)
        for s in range(1, self.levels - 1):
            self.descent.merges[s] = self._merges(node, s)
        paired = self.networks.is_paired[np.arange(1, self.levels), node.choice[1:]]
        self.descent.refines[0] = (paired & ~node.keep[:-1]).any()
        rows = self._tiles_of(node, leaf.spatial)
        order = np.argsort(node.energies[rows], kind="stable")
        return node.tiles[rows[order]], node.energies[rows[order]] + settled

    def _look_into(self, leaf: _Leaf) -> None:
        """Searches the most promising chain of a leaf."""
        tiles, bounds = self._enter_leaf(leaf)
        for tile, bound in zip(tiles[:1], bounds, strict=False):
            if bound < self._limit(leaf):
                for _ in self._search_tile(leaf, int(tile), PROMISING):
                    pass

    def _limit(self, leaf: _Leaf) -> float:
        """Energy (pJ) that a solution in a leaf has to be below."""
        if not self._of_energy:
            return math.inf if leaf.cycles < self.value else 0.0
        return self.value / (leaf.cycles if self._of_cycles else 1.0) * (1.0 - _ROUNDING)

    def _search_tile(self, leaf: _Leaf, tile: int, mode: int) -> Iterator[None]:
        """Searches all chains with one tile of level 0; yields now and then."""
        resumes = False
        while True:
            limit = self._limit(leaf)
            self.descent.place[1] = _STEPS
            found = search_tile(
                self.task.problem, self.slides, self.networks, self.state, self._memory, tile, limit, mode, resumes,
            )  # fmt: skip
            if mode == RECORDING:
                self._price_records(leaf)
            elif found < limit:
                self.value = self._objective(found, leaf.cycles)
                self.offer(self._mapping(leaf, self.descent.found, self.descent.loops))
            yield
            if self.descent.place[0] == 0:
                return
            resumes = True

    def _mapping(self, leaf: _Leaf, extent: NDArray[np.int64], loops: NDArray[np.int64]) -> Mapping:
        mapping = build_mapping(self.task, self.networks, self.state.choice, leaf.node.keep, extent, loops)
        return with_best_layouts(self.task, self.networks, self.model, self.state.choice, mapping, self.objective)

    def offer(self, mapping: Mapping) -> None:
        """Prices a mapping and keeps it if it is the best by the cost model."""
        cost = self.model.evaluate(mapping)
        if self.best is None or cost.objective(self.objective) < self.best[1].objective(self.objective):
            self.best = mapping, cost

    def _search_leaves(self, mode: int = THOROUGH) -> Iterator[float]:
        """Searches all leaves whose bounds are below the value; yields the bound so far."""
        while self._leaves and self._leaves[0][0] < self.value:
            key, ticket, leaf = self._leaves[0]
            tiles, bounds = self._enter_leaf(leaf)
            self.nodes += 1
            for tile, bound in zip(tiles, bounds, strict=True):
                if bound >= self._limit(leaf):
                    break
                for _ in self._search_tile(leaf, int(tile), mode):
                    yield min(self._bound(), max(key, self._objective(float(bound), leaf.cycles)))
            self._leaves.remove((key, ticket, leaf))
            heapq.heapify(self._leaves)
            self._searched.append(leaf)
            yield self._bound()

    def _close(self, formula: float, gap: float) -> Iterator[float]:
        """Prices exactly all solutions that the formulas leave below the best mapping; yields the bound so far.

        The formulas round nothing up to blocks, and allow for rounding errors; so the last bit of a gap is theirs.
        """
        assert self.best is not None
        self.value = self.best[1].objective(self.objective) * (1.0 - gap / 4)
        self._is_closing = True
        for leaf in self._searched:
            heapq.heappush(self._leaves, (self._objective(leaf.bound, leaf.cycles), next(self._ticket), leaf))
        self._searched = []
        while self._heap and self._heap[0][0] < self.value:
            yield from (formula for _ in self._plunge(heapq.heappop(self._heap)[2]))
        for bound in self._search_leaves(RECORDING):
            if self.orders.recorded[0] > MOST_RECORDS:
                yield formula
                return
            yield max(formula, min(bound, self.value))
        yield self.value

    def _price_records(self, leaf: _Leaf) -> None:
        """Prices the solutions recorded in a leaf."""
        assert self.best is not None
        count = int(self.orders.recorded[0])
        if not 0 < count <= MOST_RECORDS:
            return
        self.orders.recorded[0] = 0
        shape, size = self.orders.extent.shape, self.orders.extent.size
        records = self.orders.records[:count]
        mappings = [self._mapping(leaf, record[:size].reshape(shape), record[size:]) for record in records]
        values = self.model.evaluate(MappingBatch.concatenate([mapping.batch() for mapping in mappings])).objective(
            self.objective
        )
        best = int(np.argmin(values))
        former = self.best[1].objective(self.objective)
        if values[best] < former:
            self.value *= float(values[best]) / former
            self.offer(mappings[best])
