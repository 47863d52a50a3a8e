"""GAMMA as its authors released it for Timeloop, with what its code does rather than what its options say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.base import AskTellAgent, parameter, register
from mapgym.agents.search.gamma.timeloop_compat_kernels import (
    FACTOR,
    FIRST_CROSSOVER_PROBABILITY,
    KEEP,
    ORDER,
    PARALLEL,
    PLANES,
    CompatRules,
    breed,
)
from mapgym.cost import CostBatch
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.mapspace.size import prime_exponents
from mapgym.spec.workload import Workload

FILTER_WEIGHT, BATCH_WEIGHT, OTHER_WEIGHT = 0.05, 0.1, 0.2
"""How often the primes of a dim are spread anew: filter rows and columns, batch, all others (gamma-timeloop)."""


@register
@dataclass(kw_only=True)
class GammaTimeloopCompat(AskTellAgent):
    """What the released GAMMA for Timeloop effectively does, seeded and bounded.

    Source: gamma-timeloop, commit 48a2cf9, ``src/gamma_timeloop_env.py`` and ``src/timeloop_env.py`` [CODE]. The
    default agent ``gamma`` is the cleaned one; this one is for comparisons with figures made by that code.

    An individual has at each level one factor per dim, one order for temporal and spatial loops alike, and a set of
    parallel dims. The whole factor of a parallel dim is spatial, that of any other dim temporal.

    Each generation has these effective probabilities, whatever alpha and beta say there:

    - First population: one half trivial (all loops at the outermost level, orders N K C Y X R S, output channels, rows
      and columns parallel wherever there is fan-out), one half random. None of it is priced. All fitnesses are still
      minus infinity when the first parents are chosen, and ties keep their order, so that with parents of 0.5 **only
      the trivial half breeds** and the random one is lost.
    - Crossover: two parents drawn with replacement give two children; with probability 1 in the first generation and
      0.5 later these exchange one of four things at all levels, each with probability 1/4: the tiles of one dim of C,
      M, P, Q; all orders; all parallel dims; bypass (nothing happens if it is not searched).
    - 0.1 of each generation are fresh random individuals.
    - Mutation of every individual, fresh ones included, before it is priced: order 0.1 (two loops of one level, often
      of bound 1, change places); parallel dims 0.1 (remove a random one or add one, half each, if there is one to
      remove); bypass 0.5 if searched (one tensor at one level); 0.5 all tiles of two levels change places; and always,
      with probability 1, the primes of one dim are spread anew over the levels (N 0.1; M, C, P, Q 0.2 each; R, S 0.05
      each). The gentler step, moving a single prime, is never taken.
    - Capacity: while a level is too full, the primes of one more random dim are spread anew. Words are counted as if
      strides and dilations were 1.
    - Fan-out: parallel dims of a level are taken away in a fixed order until the rest fits, and their factors go to
      the time of the outermost level.
    - Selection: the best of elites (0.05) and children; ties keep their order.

    What the hardware cannot run costs a sample and has the worst fitness, as there. Like the original, it cannot
    reach the whole map space: a dim is never both spatial and temporal at one level, and R and S are never parallel.

    Changed, because it has to be: everything random comes from the seed; spreading dims anew for the capacity ends
    after ``repairs`` times (there, never), and an individual that still does not fit costs a sample; the order in
    which dims lose their parallelism is drawn once per search (there it comes from the hashes of Python's sets); on a
    mesh, dims are laid on X, then on Y, and pushed out if they fit on neither; one objective; what the space fixes
    stays: factors move between searched entries only, parallelism that cannot leave its level becomes temporal there,
    and too little parallelism for a minimum utilization has the worst fitness.

    Other workloads, by structure: the filter dims are those that share a rank with an output dim without being one
    (R, S), the batch is B, or N where there is no B, and trivial individuals are parallel in the output dims but the
    batch. A warm start takes the place of the first parents, as far as an individual can say it; trivial ones fill up.
    """

    name = "gamma-timeloop-compat"
    summary = "GAMMA as released for Timeloop, with its effective probabilities"

    population: int = parameter(100, "individuals per generation (there: 100)", low=2)
    elites: float = parameter(0.05, "share of the population that survives unchanged (there: 0.05)", low=0, high=1)
    parents: float = parameter(0.5, "share of the population that breeds (there: 0.5)", low=0.01, high=1)
    inject: float = parameter(0.1, "share of each generation that is random (there: 0.1)", low=0, high=1)
    crossover: float = parameter(0.5, "probability of crossover after the first generation (there: 0.5)", low=0, high=1)
    repairs: int = parameter(1000, "dims spread anew at most until a tile fits (there: no limit)", low=0, high=10**9)

    def warm_up(self, space: MapSpace) -> None:
        """Compiles the operators, or loads them from the disk."""
        self.start(space, np.random.default_rng(0), "edp")
        self.ask(1)

    def start(self, space: MapSpace, rng: np.random.Generator, objective: str) -> None:
        """Makes the first parents, which are trivial; see the class."""
        self._space, self._objective = space, objective
        self._rules = _make_rules(space, rng)
        self._state = rng.integers(2**63, size=1, dtype=np.uint64)
        dims = len(space.workload.dims)
        self._memory = (np.empty(dims), np.empty(dims, np.int64))
        self._parent_count = max(1, int(self.parents * self.population))
        self._elite_count = max(1, int(self.elites * self.population))
        self._parents = np.repeat(_trivial_genome(space, self._rules)[None], self._parent_count, axis=0)
        self._elites, self._elite_values = self._parents[:0], np.empty(0)
        self._children: NDArray[np.int64] | None = None

    def ask(self, n: int) -> MappingBatch:
        """The next generation."""
        first = self._children is None
        batch = MappingBatch.trivial(self._space.workload, self._space.accelerator, self.population)
        self._children = np.empty((self.population, *self._parents.shape[1:]), np.int64)
        breed(
            self._parents,
            self._children,
            max(1, int(self.inject * self.population)),
            FIRST_CROSSOVER_PROBABILITY if first else self.crossover,
            self.repairs,
            self._rules,
            self._space.sorting,
            batch.arrays(),
            self._memory,
            self._state,
        )
        return batch

    def tell(self, batch: MappingBatch, costs: CostBatch) -> None:
        """Selects elites and parents; a warm start takes the place of the first parents."""
        values = costs.objective(self._objective)
        values = np.where(batch.used_macs() < self._space.entries.min_used_macs, np.inf, values)
        if self._space.entries.is_limited:
            values = np.where(self._space.contains(batch), values, np.inf)
        if self._children is None:
            legal = np.flatnonzero(costs.legal)
            told = _genomes(self._space, self._rules, batch[legal])
            pool = np.concatenate([told, self._parents])
            values = np.append(values[legal], [np.inf] * len(self._parents))
        else:
            pool = np.concatenate([self._elites, self._children[: len(batch)]])
            values = np.concatenate([self._elite_values, values])
        chosen = np.argsort(values, kind="stable")
        self._parents = pool[chosen[: self._parent_count]]
        best = chosen[: self._elite_count]
        self._elites, self._elite_values = pool[best], values[best]


def _make_rules(space: MapSpace, rng: np.random.Generator) -> CompatRules:
    workload, levels, entries = space.workload, space.accelerator.levels, space.entries
    fixed = entries.fixed.astype(np.int64)
    filters, batch = _filter_dims(workload), _batch_dim(workload)
    weights = np.array(
        [FILTER_WEIGHT if d in filters else BATCH_WEIGHT if d == batch else OTHER_WEIGHT for d in workload.dims]
    )
    unfiltered = [d for d, dim in enumerate(workload.dims) if dim not in filters]
    crossed = [d for d in unfiltered if workload.dims[d] != batch] or unfiltered
    fanout = np.array([space.accelerator.fanout_x, space.accelerator.fanout_y], np.int64).T.copy()
    ranks = np.full(
        (
            len(workload.tensors),
            max(len(tensor.ranks) for tensor in workload.tensors),
            max(len(rank) for tensor in workload.tensors for rank in tensor.ranks),
        ),
        -1,
        np.int64,
    )
    for t, tensor in enumerate(workload.tensors):
        for r, rank in enumerate(tensor.ranks):
            ranks[t, r, : len(rank)] = [workload.dims.index(dim) for dim, _ in rank]
    primes = np.zeros((len(workload.dims), max(1, *(bound.bit_length() for bound in workload.bounds))), np.int64)
    homes = np.full((len(workload.dims), len(levels)), -1, np.int64)
    if "tile" in space.axes:
        for group in entries.groups:
            repeated = [prime for prime, times in prime_exponents(group.total).items() for _ in range(times)]
            primes[group.dim, : len(repeated)] = repeated
            at = sorted({slot % len(levels) for slot in group.slots})
            homes[group.dim, : len(at)] = at
    return CompatRules(
        temporal=fixed[: len(levels)],
        spatial=fixed[len(levels) :],
        capacity=np.array([np.inf if level.usable_words is None else level.usable_words for level in levels]),
        fanout=fanout,
        side_free=entries.side_free,
        on_y=entries.on_y,
        keep_free=entries.keep_free,
        ranks=ranks,
        primes=primes,
        homes=homes,
        dim_weights=np.cumsum(weights) / weights.sum(),
        parallel_dims=np.array(unfiltered, np.int64),
        crossed_dims=np.array(crossed, np.int64),
        spatial_levels=np.flatnonzero(fanout.prod(axis=1) > 1),
        walk=rng.permutation(len(workload.dims)),
        tile="tile" in space.axes,
        bypass="bypass" in space.axes,
    )


def _filter_dims(workload: Workload) -> set[str]:
    """Dims that slide a window over an output dim: they share a rank with one and are none themselves."""
    output = {dim for tensor in workload.tensors if tensor.is_output for dim in tensor.dims}
    shared = {
        dim for tensor in workload.tensors for rank in tensor.ranks if {d for d, _ in rank} & output for dim, _ in rank
    }
    return shared - output


def _batch_dim(workload: Workload) -> str:
    return "B" if "B" in workload.dims else "N"


def _genomes(space: MapSpace, rules: CompatRules, batch: MappingBatch) -> NDArray[np.int64]:
    """int64[n, PLANES, level, dim or tensor]: mappings as individuals.

    A dim that a mapping has both in space and in time at one level becomes parallel as a whole.
    """
    n, levels, dims = batch.temporal.shape
    tensors = batch.keep.shape[2]
    genomes = np.zeros((n, PLANES, levels, max(dims, tensors)), np.int64)
    temporal, spatial = np.where(rules.temporal == 0, batch.temporal, 1), np.where(rules.spatial == 0, batch.spatial, 1)
    genomes[:, FACTOR, :, :dims] = temporal * spatial
    genomes[:, ORDER, :, :dims] = batch.order
    parallel = np.isin(np.arange(dims), rules.parallel_dims) & (batch.spatial > 1)
    genomes[:, PARALLEL, :, :dims] = parallel
    genomes[:, KEEP, :, :tensors] = batch.keep
    return genomes


def _trivial_genome(space: MapSpace, rules: CompatRules) -> NDArray[np.int64]:
    """int64[PLANES, level, dim or tensor]: all loops as far outside as they may be, output dims parallel."""
    workload, entries = space.workload, space.entries
    genome = _genomes(space, rules, space.base.batch())[0]
    if rules.tile:
        genome[FACTOR] = 1
        for group in entries.groups:
            levels = len(space.accelerator.levels)
            genome[FACTOR, max(slot % levels for slot in group.slots), group.dim] = group.total
    genome[ORDER, :, : len(workload.dims)] = _named_order(workload)
    genome[PARALLEL] = 0
    output = {dim for tensor in workload.tensors if tensor.is_output for dim in tensor.dims} - {_batch_dim(workload)}
    for level in rules.spatial_levels[rules.spatial_levels < len(space.accelerator.levels) - 1]:
        for d in rules.parallel_dims:
            genome[PARALLEL, level, d] = workload.dims[d] in output
    # What is kept is the base's where that is not searched, and everything where it is.
    genome[KEEP, :, : entries.keep.shape[1]] = entries.keep | entries.keep_free
    return genome


def _named_order(workload: Workload) -> list[int]:
    """The released code's first order, N K C Y X R S, innermost first; other dims follow in the workload's order."""
    rank = {dim: place for place, dim in enumerate("NMCPQRS")}
    return sorted(range(len(workload.dims)), key=lambda d: (rank.get(workload.dims[d], len(rank)), d))
