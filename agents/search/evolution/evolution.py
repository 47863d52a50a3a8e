"""The evolutionary search of our own: populations of distinct mappings, large moves, restarts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.base import AskTellAgent, parameter, register
from mapgym.agents.search.evolution.evolution_kernels import (
    MOVES_WINDOW,
    SLIDES,
    Breeding,
    make_children,
    select_survivors,
)
from mapgym.agents.search.gamma.gamma import log_energy_and_latency
from mapgym.agents.search.gamma.genome import make_memory
from mapgym.agents.search.gamma.nondominated_sorting import select_nondominated
from mapgym.agents.search.gamma.operator_kernels import ITEMS
from mapgym.agents.search.gamma.rules import FACTORS, make_rules, mutation_weights
from mapgym.cost import OBJECTIVES, CostBatch
from mapgym.evaluation.front import PARETO
from mapgym.evaluation.sparsity_aware import SPARSITY_AWARE, plain_objective
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.spec.workload import Workload

FRONT = 5
"""How many times as large the population is when it has to cover a front."""

MUTATIONS = {
    "move": FACTORS,
    "exchange": FACTORS,
    "parallelism": ("parallelism",),
    "retile": FACTORS,
    "trade": ("tile",),
    "refill_level": ("tile",),
    "refill_array": ("parallelism",),
    "promote": ("order",),
    "order": ("order",),
    "bypass": ("bypass",),
    "trade_tensors": ("bypass",),
}
"""The mutations, in the order in which kernels number them, and the axes that allow them."""


@register
@dataclass(kw_only=True)
class Evolution(AskTellAgent):
    """A small population that breeds by moves a designer would make, and starts again when it has converged.

    Ours; it grew out of :class:`mapgym.agents.search.gamma.Gamma`, whose genome, small mutations, repair and one-axis
    crossover it shares. What is different, in the order of what it gained:

    - **The array and the buffers stay full.** After its mutations most children give idle MACs work, and most of those
      are refused that use less than three quarters of the MACs that their parent used, or of the words in a buffer that
      keeps the same tensors. Half of gamma's samples go to children that idle MACs.
    - **A busy beginning.** Of ``oversampling`` times as many random mappings those that use the most MACs make a first
      population, unless only energy counts; how many they use is known without their costs.
    - **Restarts.** A population that has not improved for ``patience`` times its size has converged: the next one
      starts from random mappings and is larger by ``growth``, so that both small and large budgets are well spent
      (the idea of IPOP-CMA-ES, Auger and Hansen, 2005).
    - **Distinct costs.** Of mappings with the same cost one survives: many differ only in what does not count.
    - **A crossover at a boundary.** Everything outside a random slot (tiles, parallelism, orders, kept tensors) comes
      from the other parent, because costs add up over the boundaries between levels.
    - **No equivalent twice.** Without links between neighbours and sparse features, a child counts as known if it
      differs from an earlier one only in what costs cannot depend on (most of an order, which of two like dims is
      split).
    - **Several dataflows.** At most ``share`` of the survivors have the same dataflow: the same tensors kept at each
      level, and the same ones in place there under the innermost loop outside. A parent is the better one of two drawn,
      so that the best of the dataflows breed most. Where bypass is searched, a large move lets two tensors trade the
      levels that keep them, and mostly a dim of the one alone trades with a dim of the other.
    - **Large moves.** A level's tile or a level's parallelism is emptied and filled anew; two dims trade places over a
      range of slots; a loop becomes the innermost together with those that reuse the same tensor.

    Survivors are the best of parents and children, without age limit. A warm start joins the first population. With the
    objective "pareto" survivors are selected as in NSGA-II, the population is larger and does not start again.
    """

    name = "evolution"
    summary = "evolutionary search with large moves and restarts (ours)"
    objectives = (*OBJECTIVES, PARETO, SPARSITY_AWARE)

    population: int = parameter(20, "distinct mappings that survive and breed, at first", low=2)
    drawn: float = parameter(
        2.5, "random mappings that a population starts from, as a multiple of its size", low=1, high=1000
    )
    oversampling: int = parameter(8, "random mappings drawn for each of these; those that use the most MACs", low=1)
    share: float = parameter(0.25, "largest share with the same dataflow", low=0, high=1)
    tournament: int = parameter(2, "mappings of which the best becomes a parent, if there are several dataflows", low=1)
    batch: int = parameter(40, "mappings bred at a time", low=1)
    patience: float = parameter(35, "samples without improvement before a restart, as a multiple of the size", low=1)
    growth: float = parameter(1.2, "size of each population as a multiple of the one before", low=1)
    crossover: float = parameter(0.2, "probability of crossover", low=0, high=1)
    persistence: float = parameter(0.4, "probability of one more mutation after each one", low=0, high=0.9)
    fill: float = parameter(0.8, "probability that idle MACs get work after the mutations", low=0, high=1)
    screening: float = parameter(0.9, "probability that a child is refused that wastes MACs or words", low=0, high=1)
    attempts: int = parameter(8, "how often a child that is illegal, refused or known is bred again", low=1)
    move: float = parameter(0.3, "weight of moving a prime factor to another slot", low=0)
    exchange: float = parameter(0.8, "weight of two primes trading places", low=0)
    parallelism: float = parameter(0.1, "weight of making a dim parallel or not", low=0)
    retile: float = parameter(0.1, "weight of spreading the primes of a dim anew", low=0)
    trade: float = parameter(0.1, "weight of two dims trading places over a range of slots", low=0)
    refill_level: float = parameter(0.2, "weight of filling a level's tile anew", low=0)
    refill_array: float = parameter(0.1, "weight of filling a level's parallelism anew", low=0)
    promote: float = parameter(0.15, "weight of making another loop the innermost", low=0)
    order: float = parameter(0.1, "weight of swapping two loops", low=0)
    bypass: float = parameter(0.1, "weight of flipping a keep bit, if searched", low=0)
    trade_tensors: float = parameter(0.15, "weight of two tensors trading levels, if bypass is searched", low=0)

    def warm_up(self, space: MapSpace) -> None:
        """Compiles the operators, or loads them from the disk."""
        rng = np.random.default_rng(0)
        self.start(space, rng, "edp")
        parents = space.sample(rng, 1)
        self._breed(parents, 0)
        self._survivors(parents, np.arange(1))

    def start(self, space: MapSpace, rng: np.random.Generator, objective: str) -> None:
        """Packs the rules of the space; the first population follows when asked for."""
        self._space, self._rng, self._objective = space, rng, objective
        # Where there are several dataflows to compare; a front has no best mapping and keeps many anyway.
        several = "order" in space.axes or bool(space.entries.keep_free.any())
        self._niches = objective != PARETO and several
        self._breeding = self._make_breeding(space)
        self._memory = make_memory(space, rng)
        self._size = self.population * (FRONT if objective == PARETO else 1)
        # Energy does not depend on how many MACs work at a time, and a front needs mappings of both kinds.
        self._oversampling = 1 if plain_objective(objective) in ("energy", PARETO) else self.oversampling
        self._parents: MappingBatch | None = None
        self._values: NDArray[np.float64] = np.empty(0)
        self._begun = False
        self._stale = 0

    def ask(self, n: int) -> MappingBatch:
        """Random mappings for a new population, or children of the present one."""
        if self._begun and self._parents is not None:
            return self._space.mended(self._breed(self._parents, self.batch))
        # A warm start joins the random mappings instead of replacing them, so that there is something to cross.
        self._begun = True
        size = round(self.drawn * self._size)
        drawn = self._space.sample(self._rng, size * self._oversampling)
        return drawn[np.argsort(-drawn.used_macs(), kind="stable")[:size]]

    def tell(self, batch: MappingBatch, costs: CostBatch) -> None:
        """Selects the survivors, and ends a population that has converged."""
        front = self._objective == PARETO
        values = log_energy_and_latency(costs) if front else costs.objective(self._objective)
        before = math.inf
        if self._parents is not None:
            before = math.inf if front else self._values[0]
            batch = MappingBatch.concatenate([self._parents, batch])
            values = np.concatenate([self._values, values])
        first = _first_of_each(values)
        if not len(first):
            return
        if front:
            survivors = first[select_nondominated(values[first], min(len(first), self._size))]
        else:
            survivors = self._survivors(batch, first)
        self._parents, self._values = batch[survivors], values[survivors]
        if front:
            return
        self._stale = 0 if self._values[0] < before else self._stale + len(costs)
        if self._stale > self.patience * self._size:
            self._size = math.ceil(self._size * self.growth)
            self._parents, self._begun, self._stale = None, False, 0

    def _survivors(self, batch: MappingBatch, best: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those that survive of some mappings of a batch, given their indices, best first."""
        if not self._niches:
            return best[: self._size]
        chosen, flows = np.empty(self._size, np.int64), np.empty(self._size, np.uint64)
        most = max(1, math.ceil(self.share * self._size))
        count = select_survivors(batch.arrays(), best, self._breeding.rules.relevant, most, chosen, flows)
        return chosen[:count]

    def _breed(self, parents: MappingBatch, n: int) -> MappingBatch:
        children = parents.blank(n)
        held = np.empty(parents.keep.shape[:2])
        make_children(parents.arrays(), children.arrays(), self._breeding, self._memory, held)
        return children

    def _make_breeding(self, space: MapSpace) -> Breeding:
        # Links between neighbours, ways on the grid, gating and skipping depend on the whole order.
        simple = not (any(space.accelerator.spatial_order_counts) or space.accelerator.is_sparse)
        return Breeding(
            rules=make_rules(space),
            table=space.definition.rules,
            alike=np.array(_alike(space.workload) if simple else [], np.int64),
            windows=np.array(_windows(space.workload), np.int64),
            weights=mutation_weights(self, MUTATIONS, space.axes),
            items=np.array([] if "tile" in space.axes else [ITEMS[axis] for axis in space.axes], np.int64),
            crossover=self.crossover,
            persistence=self.persistence,
            fill=self.fill,
            screening=self.screening,
            tournament=self.tournament if self._niches else 1,
            attempts=self.attempts,
        )


def _first_of_each(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Indices of the first of each distinct finite value, ascending by value; values are float64[n] or [n, any]."""
    if values.ndim == 2:
        distinct, first = np.unique(values, axis=0, return_index=True)
        return first[np.isfinite(distinct).all(axis=1)]
    # As above, in a third of the time.
    order = values.argsort(kind="stable")
    ascending = values[order]
    chosen = np.isfinite(ascending)
    chosen[1:] &= ascending[1:] != ascending[:-1]
    return order[chosen]


def _ranks(workload: Workload) -> list[list[tuple[str, int]]]:
    """The ranks of all tensors, without terms of bound 1."""
    ranks = [[(d, c) for d, c in rank if workload.bound(d) > 1] for t in workload.tensors for rank in t.ranks]
    return [rank for rank in ranks if rank]


def _windows(workload: Workload) -> list[int]:
    """What each dim does to tiles with windows: it moves them (MOVES_WINDOW), or so that they overlap (SLIDES).

    Returns:
        One of the two, or 0, for each dim.
    """
    slides: set[str] = set()
    moves: set[str] = set()
    for tensor in workload.tensors:
        ranks = [dict(rank) for rank in tensor.ranks]
        if any(len(rank) > 1 for rank in ranks):
            moves |= set().union(*ranks)
            slides |= set().union(*(rank for rank in ranks if len(rank) > 1))
    return [SLIDES if dim in slides else MOVES_WINDOW if dim in moves else 0 for dim in workload.dims]


def _alike(workload: Workload) -> list[int]:
    """For each dim the first one that costs cannot tell from it: both are ranks by themselves, of the same tensors."""
    plain = [all(rank == [(dim, 1)] for rank in _ranks(workload) if dim in dict(rank)) for dim in workload.dims]
    tensors = [[t.name for t in workload.tensors for r in t.ranks if dim in dict(r)] for dim in workload.dims]
    kinds: list[object] = [tensors[d] if plain[d] else d for d in range(len(workload.dims))]
    return [kinds.index(kind) for kind in kinds]
