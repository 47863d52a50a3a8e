"""The energy of a matrix product as a mixed-integer program, after GOMA; docs/agents/goma.md has the formulation."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.search.goma.columns import make_columns
from mapgym.agents.search.goma.descent import Descent
from mapgym.agents.search.goma.product import BUFFER, MEMORY, REGISTERS, Product, Room, word_energies
from mapgym.mapping import Mapping

Terms = list[tuple[int, float]]
"""A linear expression: columns and their coefficients."""

_ROOM = 1e-9
"""What a sum of logarithms may exceed its limit by."""

_INFEASIBLE = 2
"""Of ``scipy.optimize.milp``."""

_TENSORS = range(3)
Choice = tuple[int, int, int]
"""By tensor, the column of its side."""


@dataclass(frozen=True)
class Solution:
    """What a program ended with.

    Attributes:
        mapping: the best one found; it lies in the map space unless constraints are beyond the program.
        energy_pj: its energy in the program, that of the multiply-accumulates included.
        bound_pj: an energy that no mapping of the program goes below.
        used_macs: the product of its spatial factors.
    """

    mapping: Mapping
    energy_pj: float
    bound_pj: float
    used_macs: int


class Program:
    """The program of one map space.

    For each side of the product one of its :class:`~mapgym.agents.search.goma.columns.Columns` is chosen, a binary for
    each. Their energies add up; what they have to agree on is linear in the binaries, but for the sizes of tiles, which
    are products of the extents of two sides: they are sums over all pairs of extents, weighed by a flow from the
    extents of the one to those of the other.
    """

    def __init__(self, product: Product, room: Room) -> None:
        """Lists the columns and rows.

        Args:
            product: what is mapped.
            room: how much of the machine each product of a batch has.
        """
        space = product.space
        self.space, self.product, self.room = space, product, room
        energies = word_energies(space)
        self.columns = [make_columns(product, t, energies) for t in _TENSORS]
        self.descent = Descent(product, room, self.columns)
        self._starts: dict[int | None, Choice | None] = {}
        # Those that a batch uses are not counted in the program.
        self.least_macs = -(-space.entries.min_used_macs // (room.lanes * room.blocks))
        starts = np.cumsum([0, *(len(each) for each in self.columns)])
        self.offsets = [int(start) for start in starts[:3]]
        self.mac_energy_pj = float(space.workload.macs * space.accelerator.mac_energies["compute"])
        self.binaries = int(starts[3])
        self.upper: list[float] = [1.0] * self.binaries
        self.integer: list[int] = [1] * self.binaries
        self.rows: list[tuple[Terms, float, float]] = []
        for t in _TENSORS:
            self.rows.append((self._where(t, np.ones(len(self.columns[t]), np.bool_)), 1.0, 1.0))
        self._walk()
        for level in (REGISTERS, BUFFER):
            self._limit_parallelism(level)
            self._limit_tiles(level)
        self.used = self._sum(np.log2(each.lanes * each.blocks) for each in self.columns)
        self.rows.append((self.used, math.log2(self.least_macs) - _ROOM, math.inf))

    def _variable(self, upper: float, integer: bool = False) -> int:
        self.upper.append(upper)
        self.integer.append(int(integer))
        return len(self.upper) - 1

    def _where(self, tensor: int, chosen: NDArray[np.bool_]) -> Terms:
        """Whether one of these columns of a side is chosen, as 0 or 1."""
        return [(self.offsets[tensor] + int(i), 1.0) for i in np.flatnonzero(chosen)]

    def _sum(self, values: Iterable[NDArray[np.float64]]) -> Terms:
        """The sum over sides of a value of the chosen column."""
        terms = []
        for t, each in enumerate(values):
            terms += [(self.offsets[t] + int(i), float(each[i])) for i in np.flatnonzero(each)]
        return terms

    def _walk(self) -> None:
        """One side walks at each level at most; one run through both leaves the buffer no other loop."""
        for name in ("walks_buffer", "walks_memory"):
            self.rows.append((self._sum(getattr(each, name).astype(float) for each in self.columns), 0.0, 1.0))
        for t in _TENSORS:
            run = self._where(t, self.columns[t].one_run)
            for other in _TENSORS:
                if run and other != t:
                    self.rows.append((run + self._where(other, ~self.columns[other].flat), 0.0, 1.0))

    def _limit_parallelism(self, level: int) -> None:
        """The spatial factors along X and along Y fit; those of a side of the product all lie along one of them."""
        entries, fanouts = self.space.entries, self.room.fanouts[level]
        along: tuple[Terms, Terms] = ([], [])
        for t, each in enumerate(self.columns):
            factors = each.lanes if level == REGISTERS else each.blocks
            amount = [(self.offsets[t] + int(i), math.log2(factors[i])) for i in np.flatnonzero(factors > 1)]
            dims = list(self.product.dims[t])
            if not amount:
                continue
            if not entries.side_free[level, dims].all():
                along[int(entries.on_y[level, dims[0]])].extend(amount)
                continue
            most = math.log2(max(fanouts))
            on_y, side = self._variable(most), self._variable(1.0, integer=True)
            along[0].extend([*amount, (on_y, -1.0)])
            along[1].append((on_y, 1.0))
            # What lies along Y is all of the amount, or nothing.
            self.rows.append(([(on_y, 1.0), (side, -most)], -math.inf, 0.0))
            self.rows.append(([*amount, (on_y, -1.0)], 0.0, math.inf))
            self.rows.append(([*amount, (on_y, -1.0), (side, most)], -math.inf, most))
        for terms, fanout in zip(along, fanouts, strict=True):
            if terms:
                self.rows.append((terms, -math.inf, math.log2(fanout) + _ROOM))

    def _limit_tiles(self, level: int) -> None:
        """The tiles that a level keeps fit, in shares of its capacity."""
        capacity = self.room.capacities[level]
        if math.isinf(capacity):
            return
        shares: Terms = []
        for t in _TENSORS:
            kept = self.columns[t].kept[level]
            if not kept.any():
                continue
            first, second = (self.columns[other].extents[level] for other in _TENSORS if other != t)
            flows: dict[tuple[int, int], int] = {}
            for a in np.unique(first).tolist():
                for b in np.unique(second).tolist():
                    if a * b <= capacity:
                        flows[a, b] = self._variable(1.0)
                        shares.append((flows[a, b], a * b / capacity))
            whole = self._where(t, kept)
            self.rows.append(([(flow, 1.0) for flow in flows.values()] + _negative(whole), 0.0, 0.0))
            for place, other in enumerate(other for other in _TENSORS if other != t):
                extents = self.columns[other].extents[level]
                for extent in np.unique(extents).tolist():
                    through = [(flow, 1.0) for pair, flow in flows.items() if pair[place] == extent]
                    # What is not kept takes nothing from the extents.
                    least = 0.0 if kept.all() else -1.0
                    self.rows.append((through + _negative(self._where(other, extents == extent)), least, 0.0))
        self.rows.append((shares, 0.0, 1.0))

    def start(self) -> Solution | None:
        """What the descent finds by itself, with nothing proven; None if that is nothing."""
        chosen = self._start(None)
        return None if chosen is None else self._decode(chosen, -math.inf)

    def _start(self, used_macs: int | None) -> Choice | None:
        if used_macs not in self._starts:
            self._starts[used_macs] = self.descent.best(self.least_macs, used_macs)
        return self._starts[used_macs]

    def solve(self, seconds: float, gap: float, used_macs: int | None = None) -> Solution | None:
        """The mapping of least energy.

        Args:
            seconds: wall time after which the best found so far counts.
            gap: share of the energy by which it may be above the least.
            used_macs: how many multiply-accumulate units are used; any number if left out.

        Returns:
            None if no mapping was found in time, or none exists.
        """
        limits = list(self.rows)
        if used_macs is not None:
            limits.append((self.used, math.log2(used_macs) - _ROOM, math.log2(used_macs) + _ROOM))
        # What the solver calls a gap is a share of the whole, so that it has to see the constant.
        cost = np.zeros(len(self.upper))
        cost[: self.binaries] = np.concatenate([each.energy for each in self.columns]) + self.mac_energy_pj / 3
        upper = np.array(self.upper)
        start = self._start(used_macs)
        if start is not None:
            upper[: self.binaries] = self._promising(start)
        found = _milp(cost / self.product.macs, upper, self.integer, limits, seconds, gap)
        values, bound = found or (None, -math.inf)
        ends = [start] if start is not None else []
        if values is not None:
            ends.append(self._chosen(values))
        if not ends:
            return None
        best = min(ends, key=self._energy)
        return self._decode(best, min(bound * self.product.macs, self._energy(best)))

    def products(self) -> NDArray[np.int64]:
        """All products of spatial factors of single columns, ascending, whether or not they fit."""
        found = np.ones(1, np.int64)
        for each in self.columns:
            found = np.unique(found[:, None] * np.unique(each.lanes * each.blocks)[None, :])
        return found

    def _promising(self, start: Choice) -> NDArray[np.float64]:
        """1 for each binary that can be in a solution better than the start, 0 for the others.

        The two other sides cost at least the least of each.
        """
        least = [float(each.energy.min()) for each in self.columns]
        spare = sum(float(each.energy[i]) for each, i in zip(self.columns, start, strict=True)) - sum(least)
        # The solver is to find the start again rather than nothing, in spite of float noise.
        slack = 1e-9 * (abs(spare) + sum(map(abs, least)))
        return np.concatenate(
            [
                (each.energy - lowest <= spare + slack).astype(np.float64)
                for each, lowest in zip(self.columns, least, strict=True)
            ]
        )

    def _chosen(self, values: NDArray[np.float64]) -> Choice:
        ends = [*self.offsets[1:], self.binaries]
        first, second, third = (
            int(np.argmax(values[start:end])) for start, end in zip(self.offsets, ends, strict=True)
        )
        return first, second, third

    def _energy(self, chosen: Choice) -> float:
        return self.mac_energy_pj + sum(float(each.energy[i]) for each, i in zip(self.columns, chosen, strict=True))

    def _used_macs(self, chosen: Choice) -> int:
        return math.prod(int(each.lanes[i] * each.blocks[i]) for each, i in zip(self.columns, chosen, strict=True))

    def _decode(self, chosen: Choice, bound_pj: float) -> Solution:
        space, entries, room = self.space, self.space.entries, self.room
        bounds = space.workload.bounds
        mapping = Mapping.trivial(space.workload, space.accelerator)
        mapping.keep[:] = entries.keep
        mapping.order[:] = entries.order_key
        on_y = entries.on_y.copy()
        batch = list(self.product.batch)
        together = math.prod(bounds[d] for d in batch)
        shares = (room.lanes, 1, room.blocks, 1, together // (room.lanes * room.blocks))
        _set_factors(mapping, batch, bounds, shares)
        for t, i in enumerate(chosen):
            columns, dims = self.columns[t], list(self.product.dims[t])
            for level, kept in enumerate(columns.kept):
                mapping.keep[level, t] = kept[i]
            lanes, registers, block, buffer = (
                int(extents[i]) for extents in (columns.lanes, columns.registers, columns.block, columns.buffer)
            )
            outside = self.product.bounds[t] // buffer
            slots = (lanes, registers // lanes, block // registers, buffer // block, outside)
            _set_factors(mapping, dims, bounds, slots)
            for level, walks in ((BUFFER, columns.walks_buffer), (MEMORY, columns.walks_memory)):
                if walks[i] and entries.order_free[level]:
                    others = [d for d in entries.order_key[level].tolist() if d not in dims]
                    mapping.order[level] = [*dims, *others]
        for level in (REGISTERS, BUFFER):
            if batch and entries.side_free[level, batch].all():
                on_y[level, batch] = room.along_y[level]
            for of_side, along_y in zip(self.product.dims, self.descent.sides(level, chosen), strict=True):
                on_y[level, list(of_side)] = along_y
        for level in range(len(space.accelerator.levels)):
            key = entries.spatial_order_key[level].tolist()
            mapping.spatial_order[level] = [d for d in key if not on_y[level, d]] + [d for d in key if on_y[level, d]]
            mapping.spatial_split[level] = len(key) - int(on_y[level].sum())
        used = self._used_macs(chosen) * room.lanes * room.blocks
        return Solution(mapping, self._energy(chosen), bound_pj, used)


def _set_factors(mapping: Mapping, dims: Sequence[int], bounds: Sequence[int], slots: Sequence[int]) -> None:
    """Gives dims the factors whose products are lanes, registers' loops, blocks, buffer's loops, memory's loops."""
    for d, factors in zip(dims, _split(slots, [bounds[d] for d in dims]), strict=True):
        mapping.spatial[:, d] = (factors[0], factors[2], 1)
        mapping.temporal[:, d] = (factors[1], factors[3], factors[4])


def _split(slots: Sequence[int], bounds: Sequence[int]) -> list[list[int]]:
    """The factors of several dims, by dim and slot, whose products over the dims are those of the slots.

    Each dim takes what it can from each slot; as both multiply to the same number, nothing is left.
    """
    left, shares = list(slots), []
    for bound in bounds:
        share = []
        for place, factor in enumerate(left):
            share.append(math.gcd(factor, bound))
            bound //= share[-1]
            left[place] //= share[-1]
        shares.append(share)
    return shares


def _negative(terms: Terms) -> Terms:
    return [(column, -coefficient) for column, coefficient in terms]


def _interruptibly(work: Callable[[], Any]) -> Any:
    """What some work returns, so that Ctrl-C comes through while it lasts.

    The solver does not look at signals, but lets other threads run. When it is left alone it ends at its time limit.
    """
    done: list[Any] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:  # it is raised again, by who waits
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]


def _milp(
    cost: NDArray[np.float64],
    upper: NDArray[np.float64],
    integer: list[int],
    rows: list[tuple[Terms, float, float]],
    seconds: float,
    gap: float,
) -> tuple[NDArray[np.float64] | None, float] | None:
    """The best solution found, if any, and the solver's lower bound; None where there is no solution."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    entries = [(i, j, v) for i, (row, _, _) in enumerate(rows) for j, v in row]
    places, columns, values = zip(*entries, strict=True) if entries else ((), (), ())
    matrix = csr_array((values, (places, columns)), shape=(len(rows), len(cost)))
    limits = LinearConstraint(matrix, [low for _, low, _ in rows], [high for _, _, high in rows])
    result = _interruptibly(
        lambda: milp(
            cost,
            integrality=np.array(integer),
            bounds=Bounds(np.zeros(len(cost)), upper),
            constraints=limits,
            options={"time_limit": max(seconds, 0.01), "mip_rel_gap": gap},
        )
    )
    if result.status == _INFEASIBLE:
        return None
    solution: NDArray[np.float64] | None = result.x
    bound = result.mip_dual_bound
    return solution, -math.inf if bound is None or math.isnan(bound) else float(bound)
