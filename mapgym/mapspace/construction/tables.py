"""Tables of the construction process: everything about one map space that its compiled kernels need.

Why the masks can be exact. Three limits bind the factors of a mapping:

1. *Products.* The factors of a dim multiply to its bound. ``ways[stage, dim, remainder]`` counts, for each dim by
   itself, how often the remainder can be completed through the later stages, so "positive" means "possible".
2. *Fan-out.* The product of the parallel factors of a level (or, with ``fanout_check: cumulative``, of all levels
   outside an inner one) is at most a number. Factors that the user has fixed are counted from the start; all others
   can still be 1. So a factor is possible exactly if it fits what is left.
3. *Capacity.* The words of the kept tiles of a level grow with the extent of every dim, and the extent of a dim at a
   level is the product of its factors up to there. Every undecided factor can be 1 (or is fixed), because the
   outermost tile factor takes the rest; so all extents are smallest *at once* when everything undecided is smallest.
   A factor is possible exactly if that smallest completion fits this level and all outer levels.

Limits 2 and 3 hold for the same smallest completion, so together they are exact as well. Where factors are given or
have a range, what is left of a dim may have to go elsewhere than into the outermost tile factor. The argument still
holds if, whatever is left at whichever stage, one completion makes the extents smallest at all levels that have a
capacity and needs no parallel factor but given ones; :mod:`mapgym.mapspace.construction.least_extents` looks at all of
them. It fails, and ``inexact`` says so, where that is not the case, for a minimum utilisation, and for fixed spatial
factors whose mesh side is open under cumulative checks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.mapping.density_kernels import RECORD, density_record
from mapgym.mapping.mapping import divisors
from mapgym.mapping.metadata_kernels import list_clashes
from mapgym.mapping.rank_kernels import pack_ranks
from mapgym.mapspace.construction import packed_kernels as kernels
from mapgym.mapspace.construction.decision_kernels import minimum_words, open_sides_fit
from mapgym.mapspace.construction.least_extents import least_extents
from mapgym.mapspace.definition import Definition
from mapgym.spec.counts import active_ranks
from mapgym.spec.format_rules import clash, may_hold

ORDERS = ("full", "innermost")

_UNLIMITED = 2**53
_MAX_OPEN_SIDES = 10


@dataclass(frozen=True, eq=False)
class Tables:
    """What :mod:`mapgym.mapspace.construction.decision_kernels` needs to know about a map space.

    Attributes:
        task: int64[...], header and tables.
        ways: float64[...], [stage, dim, divisor index] flattened: completions of a remainder from a stage on.
        initial_state: int32[...], the state before any decision.
        max_divisors: largest number of divisors among the bounds.
        inexact: "" if the masks are exact, otherwise the reason why they are not.
    """

    task: NDArray[np.int64]
    ways: NDArray[np.float64]
    initial_state: NDArray[np.int32]
    max_divisors: int
    inexact: str


def build_tables(space: Definition, orders: str = "full", y_offset: int | None = None) -> Tables:
    """Builds the tables of a map space.

    Args:
        space: workload, accelerator, axes, constraints and base.
        orders: "full", or "innermost" to choose only which loop of a level is innermost.
        y_offset: what is added to a divisor index to mean mesh side Y; max_divisors when left out.

    Raises:
        SpecificationError: the space has no legal mapping, or constraints contradict each other.
    """
    return _Builder(space, orders).tables(y_offset)


class _Builder:
    """Collects the tables; one object per call of :func:`build_tables`."""

    def __init__(self, space: Definition, orders: str) -> None:
        self.space, self.orders = space, orders
        self.workload, self.accelerator = space.workload, space.accelerator.for_workload(space.workload)
        self.levels, self.dims = len(self.accelerator.levels), len(self.workload.dims)
        self.tensors = len(self.workload.tensors)
        self.where = f"the map space of {quoted(self.workload.name)} on {quoted(self.accelerator.name)}"
        self.divisors = [divisors(bound) for bound in self.workload.bounds]
        self.index = [{number: i for i, number in enumerate(numbers)} for numbers in self.divisors]
        self.max_divisors = max(map(len, self.divisors))
        self.inexact = ""
        self._read_meshes()
        self._read_entries()
        self._read_ranges()
        self._set_sides()
        self._count_ways()
        self._read_extents()

    def _read_meshes(self) -> None:
        accelerator = self.accelerator
        self.mesh = np.array(accelerator.inner_meshes).T
        self.cumulative = accelerator.fanout_check == "cumulative"
        per_level = np.array([accelerator.fanout_x, accelerator.fanout_y])
        # A cumulative check bounds products over levels only, but a mesh side without fan-out has nothing to replicate.
        self.limit = np.where(per_level > 1, self.mesh, 1) if self.cumulative else per_level

    def _read_entries(self) -> None:
        """Given factors as divisor indices, -1 for others; orders, and kept tensors of the initial state."""
        entries, base = self.space.entries, self.space.base
        self.fixed = np.full((2 * self.levels, self.dims), -1)
        self.fixed_side = np.zeros((self.levels, self.dims), np.int64)
        self.level_factor = np.full((self.levels, self.dims), -1)
        for s in range(self.levels):
            for d, bound in enumerate(self.workload.bounds):
                if factor := int(entries.limits.level_factors[s, d]):
                    self.level_factor[s, d] = self._index(d, factor)
                # Nothing is decided about a dim of bound 1.
                for stage, slot in ((2 * s, self.levels + s), (2 * s + 1, s)) if bound > 1 else ():
                    if factor := int(entries.limits.given[slot, d]):
                        self.fixed[stage, d] = self._index(d, factor)
        if "parallelism" not in self.space.axes:
            on_y = np.where(entries.on_y, kernels.SIDE_Y, kernels.SIDE_X)
            self.fixed_side = np.where(base.spatial > 1, on_y, kernels.NO_SIDE)
        # What is searched, but not decided one by one, follows in the order of the workload.
        by_dim = np.arange(self.dims)
        self.order_key = np.where(entries.order_free[:, None], by_dim, entries.order_key)
        self.spatial_order_key = np.where(entries.spatial_order_free[:, None], by_dim, entries.spatial_order_key)
        tiers = entries.order_tier
        alike = [len(set(tiers[s, np.array(self.workload.bounds) > 1].tolist())) for s in range(self.levels)]
        active = sum(bound > 1 for bound in self.workload.bounds)
        self.fixed_orders = {s for s in range(self.levels) if "order" in self.space.axes and alike[s] == active > 1}
        counts = np.array(self.accelerator.spatial_order_counts)
        spatial_tiers = np.where(counts[:, None], entries.spatial_order_tier, 0)
        self.tiers = np.array([tiers, spatial_tiers]) if "order" in self.space.axes else np.zeros((2, *tiers.shape))
        self.keep = np.where(entries.keep_free, False, entries.keep).astype(np.int64)
        if self.space.constraints.min_utilization > 0:
            self.inexact = "a minimum utilisation bounds the product of all parallel factors from below"

    def _read_ranges(self) -> None:
        """Which factors each stage may have: of a tile stage 1 for those, of a parallel stage 1 for X plus 2 for Y."""
        limits = self.space.entries.limits
        self.limited = np.zeros((2 * self.levels, self.dims), np.bool_)
        self.allowed = np.full((2 * self.levels, self.dims, self.max_divisors), 3, np.int64)
        # Sides that the limits close to a dim where its level has both.
        closed = (limits.most[:, self.levels :] == 1) & (self.limit[:, :, None] > 1) & (limits.bounds > 1)
        for s in range(self.levels):
            for d, numbers in enumerate(self.divisors):
                for stage, slot in ((2 * s, self.levels + s), (2 * s + 1, s)):
                    is_closed = slot >= self.levels and closed[:, s, d].any()
                    if self.fixed[stage, d] >= 0 or not (limits.limited[slot, d] or is_closed):
                        continue
                    self.limited[stage, d] = True
                    for j, factor in enumerate(numbers):
                        fits = (limits.least[slot, d] <= factor) & (factor <= limits.most[:, slot, d])
                        # A factor of 1 is on no side.
                        self.allowed[stage, d, j] = fits @ (1, 2) if factor > 1 else limits.least[slot, d] == 1

    def _index(self, d: int, factor: int) -> int:
        if factor not in self.index[d]:
            raise SpecificationError(
                f"{self.where}: the base mapping has a factor {factor} of dim {quoted(self.workload.dims[d])}, which "
                f"does not divide its bound {self.workload.bounds[d]}; choose a divisor"
            )
        return self.index[d][factor]

    def _set_sides(self) -> None:
        """Finds the mesh side of each fixed spatial factor, and sets its room aside."""
        self.used = np.ones((2, self.levels), np.int64)
        for s in range(self.levels):
            for d in range(self.dims):
                index = self.fixed[2 * s, d]
                if index <= 0:
                    continue
                factor = self.divisors[d][index]
                if self.fixed_side[s, d] == kernels.NO_SIDE:
                    most = np.minimum(self.limit[:, s], self.space.entries.limits.most[:, self.levels + s, d])
                    fits = [side for side in (0, 1) if factor <= most[side]]
                    if not fits:
                        raise SpecificationError(
                            f"{self.where}: the fixed spatial factor {factor} of dim {quoted(self.workload.dims[d])} "
                            f"exceeds the fan-out of {quoted(self.accelerator.level_names[s])}; choose a smaller one"
                        )
                    self.fixed_side[s, d] = kernels.EITHER_SIDE if len(fits) == 2 else fits[0] + kernels.SIDE_X
                if self.fixed_side[s, d] != kernels.EITHER_SIDE:
                    self.used[self.fixed_side[s, d] - kernels.SIDE_X, s] *= factor
        open_sides = np.sum(self.fixed_side == kernels.EITHER_SIDE, axis=1)
        if self.cumulative and open_sides.any():
            self.inexact = "a fixed spatial factor may go on X or Y while fan-outs are checked cumulatively"
        elif open_sides.max() > _MAX_OPEN_SIDES:
            raise SpecificationError(
                f"{self.where}: {open_sides.max()} spatial factors of one level are fixed; fix at most "
                f"{_MAX_OPEN_SIDES}"
            )
        outside = np.cumprod(self.used[:, ::-1], axis=1)[:, ::-1]
        if np.any(outside > self.mesh) if self.cumulative else np.any(self.used > self.limit):
            raise SpecificationError(f"{self.where} is empty: its fixed spatial factors exceed a fan-out; lower one")

    def _count_ways(self) -> None:
        size = self.max_divisors
        self.quotient = np.full((self.dims, size, size), -1)
        self.divisor = np.ones((self.dims, size), np.int64)
        for d, numbers in enumerate(self.divisors):
            self.divisor[d, : len(numbers)] = numbers
            for i, number in enumerate(numbers):
                for j, factor in enumerate(numbers[: i + 1]):
                    if number % factor == 0:
                        self.quotient[d, i, j] = self.index[d][number // factor]
        self.ways = np.zeros((2 * self.levels + 1, self.dims, size))
        self.ways[-1, :, 0] = 1.0
        for s in range(self.levels - 1, -1, -1):
            for d in range(self.dims):
                self._count_ways_of_level(s, d)
        for d, bound_index in enumerate(len(numbers) - 1 for numbers in self.divisors):
            if self.ways[0, d, bound_index] == 0:
                raise SpecificationError(
                    f"{self.where} is empty: the fixed factors of dim {quoted(self.workload.dims[d])} cannot multiply "
                    f"to its bound {self.workload.bounds[d]}; change or remove one"
                )

    def _count_ways_of_level(self, s: int, d: int) -> None:
        options = self._side_options(s, d)
        level_factor = self.level_factor[s, d]
        quotient = self.quotient[d]
        if level_factor < 0:
            later = np.where(quotient >= 0, self.ways[2 * s + 2, d][quotient], 0.0)
            fixed = self.fixed[2 * s + 1, d]
            self.ways[2 * s + 1, d] = later[:, fixed] if fixed >= 0 else later @ (self.allowed[2 * s + 1, d] > 0)
            later = np.where(quotient >= 0, self.ways[2 * s + 1, d][quotient], 0.0)
            self.ways[2 * s, d] = later @ options
            return
        # The level's factor is given, so that each spatial factor leaves one temporal factor.
        temporal = quotient[level_factor]
        possible = temporal >= 0
        if self.fixed[2 * s + 1, d] >= 0:
            possible &= temporal == self.fixed[2 * s + 1, d]
        possible &= self.allowed[2 * s + 1, d][temporal] > 0
        rest = quotient[:, level_factor]
        later = np.where(rest >= 0, self.ways[2 * s + 2, d][rest], 0.0)
        self.ways[2 * s, d] = later * np.sum(options * possible)

    def _side_options(self, s: int, d: int) -> NDArray[np.float64]:
        """float64[divisor]: on how many mesh sides of a level each factor of a dim could go, by itself."""
        options = np.zeros(self.max_divisors)
        fixed = self.fixed[2 * s, d]
        for j, factor in enumerate(self.divisors[d]):
            if fixed >= 0:
                is_open = self.fixed_side[s, d] == kernels.EITHER_SIDE
                options[j] = (2 if is_open else 1) if fixed == j else 0
            else:
                sides = (self.allowed[2 * s, d, j] & np.array([1, 2])) > 0
                options[j] = (
                    sides[0] if factor == 1 else np.sum(sides & (factor <= self.limit[:, s] // self.used[:, s]))
                )
        return options

    def _read_extents(self) -> None:
        """Smallest extents of each dim at each level, by the stage that is next and what is left of the bound.

        int64[stage + 1, level, dim, divisor]. They stay empty where the outermost tile factor takes whatever is left
        and everything else can be 1: then the smallest extent is the product so far.
        """
        given, active = self.fixed > 0, np.array(self.workload.bounds) > 1
        self.extents = np.zeros((2 * self.levels + 1, self.levels, self.dims, 0), np.int64)
        self.plain = not (
            given.any() or self.limited.any() or (self.level_factor >= 0).any() or (self.fixed[-1] >= 0)[active].any()
        )
        if self.plain:
            return
        self.extents = np.zeros((2 * self.levels + 1, self.levels, self.dims, self.max_divisors), np.int64)
        capacities = [level.usable_words for level in self.accelerator.levels]
        limited = [s for s, words in enumerate(capacities[:-1]) if words is not None and words < _UNLIMITED]
        for d in range(self.dims):
            least = least_extents(
                self.divisors[d],
                [
                    [j for j in range(len(self.divisors[d])) if self._may_be(stage, d, j)]
                    for stage in range(2 * self.levels)
                ],
                None if self.level_factor[0, d] < 0 else [self.divisors[d][j] for j in self.level_factor[:, d]],
                self.fixed[:, d],
                limited,
            )
            self.extents[:, :, d, : len(self.divisors[d])] = least.extents
            if least.parallel_rest:
                self.inexact = (
                    f"dim {quoted(self.workload.dims[d])} has its outer tile factors fixed or limited, so that a "
                    "parallel factor must take what is left of it"
                )
            elif least.no_smallest:
                self.inexact = (
                    f"the limits on the factors of dim {quoted(self.workload.dims[d])} leave no choice that makes its "
                    "tiles smallest at all levels at once"
                )

    def _may_be(self, stage: int, d: int, j: int) -> bool:
        """Whether a factor is possible in a stage, by itself."""
        if self.fixed[stage, d] >= 0:
            return bool(self.fixed[stage, d] == j)
        if stage % 2:
            return bool(self.allowed[stage, d, j])
        return bool(self._side_options(stage // 2, d)[j])

    def tables(self, y_offset: int | None) -> Tables:
        """Packs everything."""
        y_offset = self.max_divisors if y_offset is None else y_offset
        active = [d for d, bound in enumerate(self.workload.bounds) if bound > 1]
        groups = self._groups()
        header = np.zeros(kernels.HEADER, np.int64)
        blocks: list[NDArray[np.int64]] = [header]

        def add(position: int, values: ArrayLike) -> None:
            header[position] = sum(map(len, blocks))
            blocks.append(np.asarray(values, np.int64).ravel())

        sizes: dict[int, int] = {
            kernels.LEVELS: self.levels,
            kernels.DIMS: self.dims,
            kernels.TENSORS: self.tensors,
            kernels.DIVISORS: self.max_divisors,
            kernels.GROUPS: len(groups),
            kernels.ACTIVE: len(active),
            kernels.Y_OFFSET: y_offset,
            kernels.INNERMOST_ONLY: self.orders == "innermost",
            kernels.PLAIN: self.plain,
            kernels.CUMULATIVE: self.cumulative,
            kernels.OPEN_SIDES: bool(np.any(self.fixed_side == kernels.EITHER_SIDE)),
            kernels.TIERED: bool(self.tiers.any()),
        }
        for position, size in sizes.items():
            header[position] = size
        levels = self.accelerator.levels
        capacity = [_UNLIMITED if level.usable_words is None else level.usable_words for level in levels]
        add(kernels.GROUP_TABLE, groups)
        add(kernels.ACTIVE_DIMS, active)
        add(kernels.DIVISOR, self.divisor)
        add(kernels.QUOTIENT, self.quotient)
        add(kernels.FIXED, np.where(self.limited, kernels.LIMITED, self.fixed))
        add(kernels.FIXED_SIDE, self.fixed_side)
        add(kernels.LEVEL_FACTOR, self.level_factor)
        add(kernels.LIMIT_X, self.limit[0])
        add(kernels.LIMIT_Y, self.limit[1])
        add(kernels.MESH_X, self.mesh[0])
        add(kernels.MESH_Y, self.mesh[1])
        add(kernels.CAPACITY, [-1 if words >= _UNLIMITED else words for words in capacity])
        add(kernels.MAY_KEEP, self._may_keep())
        add(kernels.LEAST_EXTENT, self.extents)
        add(kernels.ALLOWED, self.allowed if self.limited.any() else [])
        add(kernels.TIER, self.tiers)
        bounds = dict(zip(self.workload.dims, self.workload.bounds, strict=True))
        tensors = self.workload.tensors
        projections = [pack_ranks(self.workload, active_ranks(tensor, bounds)) for tensor in tensors]
        starts = np.cumsum([0, *map(len, projections)])[:-1]
        add(kernels.PROJECTION, starts + sum(map(len, blocks)) + self.tensors)
        blocks.append(np.concatenate([np.array(ranks, np.int64) for ranks in projections]))
        add(kernels.ORDER_KEY, self.order_key)
        add(kernels.SPATIAL_ORDER_KEY, self.spatial_order_key)
        add(kernels.REPEATED, [self._is_repeated(dim) for dim in self.workload.dims])
        compressed = [[tensor.name in dict(level.formats) for tensor in self.workload.tensors] for level in levels]
        records = [density_record(self.workload, tensor.name) for tensor in self.workload.tensors]
        first = sum(map(len, blocks)) + len(levels) * len(records)
        positions = [[(first + t * RECORD) * is_held for t, is_held in enumerate(of)] for of in compressed]
        add(kernels.COMPRESSED, positions)
        blocks.append(np.array(records, np.int64).ravel())
        add(kernels.ANY_COMPRESSED, [int(np.any(compressed))])
        state = self._initial_state(header, active)
        task = np.concatenate(blocks)
        self._check_smallest(task, state)
        return Tables(task, self.ways.ravel(), state, self.max_divisors, self.inexact)

    def _groups(self) -> list[tuple[int, int]]:
        """The kinds and levels of decisions, in the order in which they are taken."""
        space, levels = self.space, range(self.levels)
        groups: list[tuple[int, int]] = []
        if "bypass" in space.axes:
            groups += [(kernels.KEEP, s) for s in levels[:-1]]
        for s in levels:
            if self.limit[0, s] * self.limit[1, s] > 1:
                groups.append((kernels.PARALLEL, s))
            groups.append((kernels.TILE, s))
        if "order" in space.axes:
            for s in levels:
                counts = self.accelerator.spatial_order_counts[s] and self.orders == "full"
                if counts and self.limit[0, s] > 1:
                    groups.append((kernels.ORDER_X, s))
                if counts and self.limit[1, s] > 1:
                    groups.append((kernels.ORDER_Y, s))
                if s not in self.fixed_orders:
                    groups.append((kernels.ORDER, s))
        return groups

    def _may_keep(self) -> NDArray[np.int64]:
        """int64[level + 1, level, tensor]: see the kernels.

        Levels decide from the innermost outwards, and the outermost keeps everything, so a choice is allowed if the
        levels that are left have one that leads there without a clash of formats.
        """
        levels, tensors = self.accelerator.levels, self.workload.tensors
        entries = self.space.entries
        may_bypass = entries.keep_free | ~entries.keep
        may_keep = np.array([[may_hold(level, tensor.name) for tensor in tensors] for level in levels])
        may_keep &= entries.keep_free | entries.keep
        table = np.zeros((len(levels) + 1, len(levels), len(tensors)), np.int64)
        if not any(level.formats for level in levels):
            table[:, :, :] = kernels.BYPASSES * may_bypass + kernels.KEEPS * may_keep
            return table
        clashes = list_clashes(self.workload, self.accelerator)
        for t, tensor in enumerate(tensors):
            for s in reversed(range(len(levels))):
                for inside in range(s + 1):
                    keeps = may_keep[s, t] and not (inside and clashes[s, inside - 1, t])
                    if s + 1 == len(levels):
                        table[inside, s, t] = kernels.KEEPS * keeps
                        continue
                    keeps = keeps and table[s + 1, s + 1, t] > 0
                    bypasses = may_bypass[s, t] and table[inside, s + 1, t] > 0
                    table[inside, s, t] = kernels.KEEPS * keeps + kernels.BYPASSES * bypasses
            if "bypass" in self.space.axes and not table[0, 0, t]:
                raise SpecificationError(
                    f"{self.where} is empty: the formats of the levels that have to keep {quoted(tensor.name)} do not "
                    "go together; bypass it at one of them"
                )
        return table

    def _is_repeated(self, dim: str) -> bool:
        tensors = self.workload.tensors
        return any(sum(dim == d for rank in tensor.ranks for d, _ in rank) > 1 for tensor in tensors)

    def _initial_state(self, header: NDArray[np.int64], active: Sequence[int]) -> NDArray[np.int32]:
        ones, zeros = np.ones((self.levels, self.dims)), np.zeros((self.levels, self.dims))
        remaining = [len(numbers) - 1 for numbers in self.divisors]
        content = {
            kernels.TEMPORAL: ones,
            kernels.SPATIAL: ones,
            kernels.SIDE: zeros,
            kernels.ORDER_POSITION: zeros,
            kernels.SPATIAL_POSITION: zeros,
            kernels.KEPT: self.keep,
            kernels.REMAINING: remaining,
            kernels.PRODUCT: np.ones(self.dims),
            kernels.NEXT_STAGE: np.zeros(self.dims),
            kernels.USED_X: self.used[0],
            kernels.USED_Y: self.used[1],
            kernels.VISITED: np.tile(self._visited(active), (self.levels, 1)),
        }
        state = [np.zeros(kernels.STATE_HEADER, np.int32)]
        for position, values in content.items():
            header[position] = sum(map(len, state))
            state.append(np.asarray(values).astype(np.int32).ravel())
        return np.concatenate(state)

    def _visited(self, active: Sequence[int]) -> list[int]:
        """The order in which a level visits the dims: those summed over first, of each kind the largest bound first.

        What comes first finds the most room; of the orders tried, random decisions do best in this one.
        """
        workload = self.workload
        return sorted(active, key=lambda d: (workload.dims[d] in workload.output.dims, -workload.bounds[d]))

    def _check_smallest(self, task: NDArray[np.int64], state: NDArray[np.int32]) -> None:
        """Raises unless the smallest completion of the initial state is legal."""
        kept = self.space.entries.keep
        if "bypass" not in self.space.axes:
            for s, t in np.argwhere(kept[:-1]):
                outer = s + 1 + int(np.argmax(kept[s + 1 :, t]))
                tensor = self.workload.tensors[t]
                why = clash(self.accelerator.levels, outer, int(s), tensor.name, tensor.is_output)
                if why:
                    raise SpecificationError(f"{self.where} is empty: {why}")
        for s, level in enumerate(self.accelerator.levels):
            words = minimum_words(task, state, s, -1, 1)
            if s == self.levels - 1:
                words = sum(self.workload.tensor_size(tensor.name) for tensor in self.workload.tensors)
            if level.usable_words is not None and words > level.usable_words:
                raise SpecificationError(
                    f"{self.where} is empty: {quoted(level.name)} must hold at least {words} words but has "
                    f"room for {level.usable_words}; bypass a tensor there or loosen a constraint"
                )
            if not self.inexact and not open_sides_fit(task, state, s, -1, 1, 1):
                raise SpecificationError(
                    f"{self.where} is empty: the fixed spatial factors of {quoted(level.name)} exceed its fan-out; "
                    "lower one"
                )
