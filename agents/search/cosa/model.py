"""A map space as a mixed-integer program over logarithms, after CoSA; docs/agents/cosa.md has the formulation."""

from __future__ import annotations

import math
from collections.abc import Mapping as AbcMapping

import numpy as np
from numpy.typing import NDArray

from mapgym.mapping import Mapping
from mapgym.mapping.mapping import divisors
from mapgym.mapspace import MapSpace
from mapgym.mapspace.size import prime_exponents
from mapgym.spec.tensor import Tensor

TANGENTS = np.concatenate([np.arange(0.0, -3.0, -0.125), np.arange(-3.0, -8.5, -0.5)])
"""Where exponentials are replaced by their tangents: log2 of a share of a capacity, or of the energy."""

Expression = dict[int, float]
"""A linear expression: column -> coefficient; column -1 is the constant."""


def total(*parts: AbcMapping[int, float], weights: tuple[float, ...] | None = None) -> Expression:
    """The weighted sum of expressions."""
    result: Expression = {}
    for part, weight in zip(parts, weights or (1.0,) * len(parts), strict=True):
        for column, coefficient in part.items():
            result[column] = result.get(column, 0.0) + weight * coefficient
    return result


class Program:
    """Columns and rows of a mixed-integer program for one map space and one choice of kept tensors.

    Columns are the counts of a prime of a dim in a slot (which makes equal primes indistinguishable: no symmetric
    solutions), the mesh side of a dim, the filter extents of tiles, the stationary tensor of each level, and
    continuous ones for products, lengths and shares.
    """

    def __init__(self, space: MapSpace, keep: NDArray[np.bool_]) -> None:
        self.space, self.keep = space, keep
        self.workload, self.accelerator, self.entries = space.workload, space.accelerator, space.entries
        self.levels, self.dims = len(self.accelerator.levels), len(self.workload.dims)
        self.lower: list[float] = []
        self.upper: list[float] = []
        self.integer: list[bool] = []
        self.rows: list[tuple[Expression, float, float]] = []
        self.counts: list[tuple[int, int, bool, int, int]] = []
        levels, dims = range(self.levels), range(self.dims)
        fixed = np.maximum(self.entries.fixed, 1)
        self.temporal = [[{-1: math.log2(fixed[s, d])} for d in dims] for s in levels]
        self.spatial = [[{-1: math.log2(fixed[self.levels + s, d])} for d in dims] for s in levels]
        self.on_side: list[list[list[Expression]]] = [[[], []] for _ in levels]
        for s in levels:
            for d in dims:
                self.on_side[s][int(self.entries.on_y[s, d])].append({-1: math.log2(fixed[self.levels + s, d])})
        self._place_primes()
        self.extents = [
            [total(*(part for r in range(s + 1) for part in (self.temporal[r][d], self.spatial[r][d]))) for d in dims]
            for s in levels
        ]
        self._limit_parallelism()
        self.tiles = [[self._tile(s, tensor) for tensor in self.workload.tensors] for s in range(self.levels - 1)]
        self._limit_tiles()
        self._choose_stationary()

    def column(self, lower: float = 0.0, upper: float = math.inf, integer: bool = False) -> int:
        """Adds a column."""
        self.lower.append(lower)
        self.upper.append(upper)
        self.integer.append(integer)
        return len(self.lower) - 1

    def row(self, expression: Expression, lower: float = -math.inf, upper: float = math.inf) -> None:
        """Demands that an expression lies between two numbers."""
        constant = expression.get(-1, 0.0)
        self.rows.append((expression, lower - constant, upper - constant))

    def _at_least(self, value: Expression, argument: Expression, intercept: float, slope: float) -> None:
        """Demands value >= intercept + slope * argument."""
        self.row(total(value, argument, {-1: -intercept}, weights=(1.0, -slope, 1.0)), lower=0.0)

    def _place_primes(self) -> None:
        for group in self.entries.groups:
            d = group.dim
            sides: dict[int, int] = {}
            for prime, exponent in prime_exponents(group.total).items():
                placed: Expression = {}
                for slot in group.slots:
                    s, spatial = slot % self.levels, slot >= self.levels
                    both = spatial and bool(self.entries.side_free[s, d])
                    for on_y in (False, True) if both else (bool(self.entries.on_y[s, d]),):
                        count = self.column(0, exponent, integer=True)
                        self.counts.append((slot, d, on_y, prime, count))
                        placed[count] = 1.0
                        share = {count: math.log2(prime)}
                        target = self.spatial if spatial else self.temporal
                        target[s][d] = total(target[s][d], share)
                        if spatial:
                            self.on_side[s][int(on_y)].append(share)
                        if both:
                            # A dim lies on one mesh side of a level.
                            side = sides.setdefault(s, -1)
                            if side < 0:
                                side = sides[s] = self.column(0, 1, integer=True)
                            sign = 1.0 if on_y else -1.0
                            self.row({count: 1.0, side: -sign * exponent}, upper=0.0 if on_y else float(exponent))
                self.row(placed, exponent, exponent)

    def _limit_parallelism(self) -> None:
        accelerator = self.accelerator
        for s in range(self.levels):
            for side, fanout in enumerate((accelerator.fanout_x[s], accelerator.fanout_y[s])):
                self.row(total(*self.on_side[s][side]), upper=math.log2(fanout) + 1e-9)
        every = total(*(part for level in self.spatial for part in level))
        self.row(every, lower=math.log2(self.entries.min_used_macs) - 1e-9)

    def _tile(self, s: int, tensor: Tensor) -> Expression:
        """log2 of the words of a tile; sliding ranks by a column that is at least their length."""
        parts = []
        for rank in tensor.ranks:
            terms = [(self.workload.dims.index(dim), c) for dim, c in rank if self.workload.bound(dim) > 1]
            if all(c == 1 for _, c in terms) and len(terms) <= 1:
                parts += [self.extents[s][d] for d, _ in terms]
            elif len(terms) <= 2:
                # The dim with fewer divisors is the filter, whose extents are told apart.
                terms.sort(key=lambda term: len(divisors(self.workload.bounds[term[0]])))
                parts.append(self._length(s, terms))
            else:
                parts += [total(self.extents[s][d], {-1: math.log2(c)}) for d, c in terms]
        return total(*parts)

    def _length(self, s: int, terms: list[tuple[int, int]]) -> Expression:
        """log2 of 1 + sum c (extent - 1) for one or two dims: a column that is at least as large, exact at divisors."""
        d, c = terms[-1]
        points = divisors(self.workload.bounds[d])
        filters = {-1: 1} if len(terms) == 1 else self._pick(s, terms[0][0])
        step = 0 if len(terms) == 1 else terms[0][1]
        longest = math.log2(1 + c * (points[-1] - 1) + step * (max(filters.values()) - 1))
        length = self.column()
        picked: dict[int, int] = {}
        for column, size in filters.items():
            # What follows holds for this size of the filter only.
            bound = {length: 1.0} if column < 0 else {length: 1.0, column: -longest, -1: longest}
            constant = step * (size - 1) + 1 - c
            if constant >= 0:
                for intercept, slope in _tangents(points, c, constant):
                    self._at_least(bound, self.extents[s][d], intercept, slope)
            else:
                # Holes between the windows make the length concave, and no lines bound it from below.
                picked = picked or self._pick(s, d)
                lengths = {each: math.log2(c * point + constant) for each, point in picked.items()}
                self._at_least(bound, lengths, 0.0, 1.0)
        return {length: 1.0}

    def _pick(self, s: int, d: int) -> dict[int, int]:
        """Binary column -> divisor of a bound: the column of the extent of the dim's tile is 1."""
        points = divisors(self.workload.bounds[d])
        picked = {self.column(0, 1, integer=True): point for point in points}
        self.row(dict.fromkeys(picked, 1.0), 1.0, 1.0)
        logarithm = {column: math.log2(point) for column, point in picked.items()}
        self.row(total(logarithm, self.extents[s][d], weights=(1.0, -1.0)), -1e-9, 1e-9)
        return picked

    def _limit_tiles(self) -> None:
        for s, level in enumerate(self.accelerator.levels[:-1]):
            kept = [t for t in range(len(self.workload.tensors)) if self.keep[s, t]]
            if level.usable_words is None or not kept:
                continue
            size = math.log2(level.usable_words)
            if len(kept) == 1:
                self.row(self.tiles[s][kept[0]], upper=size + 1e-9)
                continue
            shares = [self.exponential(total(self.tiles[s][t], {-1: -size})) for t in kept]
            self.row(dict.fromkeys(shares, 1.0), upper=1.0 + 1e-9)

    def exponential(self, exponent: Expression) -> int:
        """A column that is at least 2^exponent, from below, by at most 0.1 % above an eighth."""
        value = self.column()
        for point in TANGENTS:
            slope = 2.0**point * math.log(2.0)
            self._at_least({value: 1.0}, exponent, 2.0**point - slope * point, slope)
        return value

    def _choose_stationary(self) -> None:
        """One tensor per level is stationary; its irrelevant loops there cost it nothing (a relaxed AND)."""
        self.stationary: dict[int, list[int]] = {}
        self.saved: dict[tuple[int, int], Expression] = {}
        for s in range(1, self.levels):
            if not self.entries.order_free[s]:
                continue
            choice = [self.column(0, 1, integer=True) for _ in self.workload.tensors]
            self.stationary[s] = choice
            self.row(dict.fromkeys(choice, 1.0), 1.0, 1.0)
            for t, tensor in enumerate(self.workload.tensors):
                for d, dim in enumerate(self.workload.dims):
                    loop = self.temporal[s][d]
                    if dim in tensor.dims or not loop.keys() - {-1}:
                        continue
                    longest = math.log2(self.workload.bounds[d])
                    gain = self.column(0, longest)
                    self.row(total({gain: 1.0}, loop, weights=(1.0, -1.0)), upper=0.0)
                    self.row({gain: 1.0, choice[t]: -longest}, upper=0.0)
                    self.saved[s, t] = total(self.saved.get((s, t), {}), {gain: 1.0})

    def traffic(self) -> list[tuple[int, int, Expression]]:
        """(level, tensor, log2 of the words that the level serves) for each level that keeps a tensor."""
        return [(s, t, words) for s, _, t, words, _ in self._flows()]

    def energy_shares(self, energy_pj: float) -> Expression:
        """The energy of all levels over ``energy_pj``: reads, the updates of outputs, and fills of the level below.

        First reads of outputs, which need none, are counted all the same; networks and rounding to blocks are not.
        """
        shares: Expression = {}
        for s, inner, t, words, copies in self._flows():
            served = ("read", "update") if self.workload.tensors[t].is_output else ("read",)
            for level, amount, actions in ((s, words, served), (inner, copies, ("fill",))):
                per_word = self._energy_per_word(level, actions)
                if per_word > 0.0:
                    shares[self.exponential(total(amount, {-1: math.log2(per_word / energy_pj)}))] = 1.0
        return shares

    def _energy_per_word(self, level: int, actions: tuple[str, ...]) -> float:
        """Energy (pJ) of some actions on a word, with its address; 0 at the MACs, level -1."""
        if level < 0:
            return 0.0
        energies, storage = self.accelerator.action_energies[level], self.accelerator.levels[level]
        return sum(energies[action] for action in actions) / storage.block_size_words + storage.address_energy_pj

    def _flows(self) -> list[tuple[int, int, int, Expression, Expression]]:
        """For each tensor and level that keeps it: (level, the next inner one or -1, tensor, log2 of words, of copies).

        Words are what the level serves, copies what all inner instances receive together.
        """
        found = []
        for t, tensor in enumerate(self.workload.tensors):
            inner = -1
            for s in range(self.levels):
                if not self.keep[s, t]:
                    continue
                outside = range(inner + 1, self.levels)
                words = total(*(part for r in outside for part in self.temporal[r]))
                if inner >= 0:
                    saved = self.saved.get((inner + 1, t), {})
                    words = total(words, self.tiles[inner][t], saved, weights=(1.0, 1.0, -1.0))
                copies = total(words, *(part for r in outside for part in self.spatial[r]))
                # One access serves all instances below that want the same word; each instance of the level has its own.
                shared = [d for d, dim in enumerate(self.workload.dims) if dim not in tensor.dims]
                once = total(*(self.spatial[r][d] for r in range(inner + 1, s + 1) for d in shared))
                words = total(copies, once, weights=(1.0, -1.0))
                found.append((s, inner, t, words, copies))
                inner = s
        return found

    def compute(self) -> Expression:
        """log2 of the cycles."""
        return total(*(part for level in self.temporal for part in level))

    def solve(self, objective: Expression, seconds: float, gap: float) -> NDArray[np.float64] | None:
        """The columns of the best solution found in this time; None if there was none."""
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_array

        if not self.lower:
            return np.empty(0)
        constant = objective.get(-1, 0.0)
        if constant:
            # The gap is a share of the whole objective, so the solver has to see the constant.
            objective = {**objective, self.column(constant, constant): 1.0}
        n = len(self.lower)
        cost = np.zeros(n)
        for column, coefficient in objective.items():
            if column >= 0:
                cost[column] = coefficient
        entries = [(i, j, v) for i, (row, _, _) in enumerate(self.rows) for j, v in row.items() if j >= 0 and v]
        rows, columns, values = zip(*entries, strict=True) if entries else ((), (), ())
        matrix = csr_array((values, (rows, columns)), shape=(len(self.rows), n))
        limits = LinearConstraint(matrix, [low for _, low, _ in self.rows], [high for _, _, high in self.rows])
        result = milp(
            cost,
            integrality=np.array(self.integer, int),
            bounds=Bounds(np.array(self.lower), np.array(self.upper)),
            constraints=limits,
            options={"time_limit": max(seconds, 0.01), "mip_rel_gap": gap},
        )
        solution: NDArray[np.float64] | None = result.x
        return solution

    def decode(self, solution: NDArray[np.float64]) -> Mapping:
        """The mapping of a solution; over capacity where the lengths of sliding tiles were underestimated."""
        mapping = Mapping.trivial(self.workload, self.accelerator)
        mapping.temporal[:] = np.maximum(self.entries.fixed[: self.levels], 1)
        mapping.spatial[:] = np.maximum(self.entries.fixed[self.levels :], 1)
        on_y = self.entries.on_y.copy()
        for slot, d, side, prime, column in self.counts:
            factor = prime ** round(solution[column])
            if factor > 1 and slot >= self.levels:
                on_y[slot - self.levels, d] = side
            (mapping.temporal if slot < self.levels else mapping.spatial)[slot % self.levels, d] *= factor
        mapping.keep[:] = self.keep
        mapping.order[:] = self.entries.order_key
        sliding = {d for t in self.workload.tensors for rank in t.ranks if len(rank) > 1 for d, _ in rank}
        for s, choice in self.stationary.items():
            tensor = self.workload.tensors[int(np.argmax(solution[choice]))]
            dims = sorted(self.workload.dims, key=lambda dim: (dim in tensor.dims, dim not in sliding))
            mapping.order[s] = [self.workload.dims.index(dim) for dim in dims]
        for s in range(self.levels):
            key = self.entries.spatial_order_key[s].tolist()
            mapping.spatial_order[s] = [d for d in key if not on_y[s, d]] + [d for d in key if on_y[s, d]]
            mapping.spatial_split[s] = self.dims - int(on_y[s].sum())
        return mapping


def _tangents(points: list[int], slope: int, constant: int) -> list[tuple[float, float]]:
    """(intercept, slope) of tangents of log2(slope * x + constant) over log2 x, convex for constant >= 0."""
    tangents = []
    for x in points:
        rise = slope * x / (slope * x + constant)
        tangents.append((math.log2(slope * x + constant) - rise * math.log2(x), rise))
    return tangents
