"""The front of energy against latency: mappings none of which another beats in both."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.cost import Cost, CostBatch, LowerBound
from mapgym.mapping import Mapping, MappingBatch

PARETO = "pareto"
"""The objective that stands for energy and latency at once."""

RANGE = 100.0
"""Fronts are measured from the lower bounds up to this many times the lower bounds."""

CAPACITY = 256
"""Most points that a front keeps; a full one gives up the point whose loss it feels the least."""


class FrontPoint(NamedTuple):
    """One mapping of a front."""

    mapping: Mapping
    cost: Cost


@dataclass(frozen=True)
class ParetoFront:
    """Points by ascending latency and, therefore, descending energy.

    Of mappings with the same latency and energy the first one stays.

    Attributes:
        bound: lower bounds of latency and energy, from which the front is measured.
        points: the mappings and their costs.
    """

    bound: LowerBound
    points: tuple[FrontPoint, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.points)

    def __iter__(self) -> Iterator[FrontPoint]:
        return iter(self.points)

    @property
    def latency_cycles(self) -> NDArray[np.float64]:
        """float64[n], ascending."""
        return np.array([point.cost.latency_cycles for point in self.points])

    @property
    def energy_pj(self) -> NDArray[np.float64]:
        """float64[n], descending."""
        return np.array([point.cost.energy_pj for point in self.points])

    @property
    def best_edp(self) -> FrontPoint:
        """The point with the lowest product of energy and latency."""
        return min(self.points, key=lambda point: point.cost.edp)

    @property
    def value(self) -> float:
        """How good the front is: the energy over its bound that it reaches on average within a limit on the latency.

        The average is a geometric mean over limits from the bound of the latency to ``RANGE`` times that, evenly
        spread on a logarithmic scale. A limit that no point meets, and an energy beyond ``RANGE`` times its bound,
        counts as ``RANGE``. The figure is at least 1, as a ratio to a lower bound is, and at most ``RANGE``. It is the
        hypervolume H that the front dominates in the square of side b = ln(``RANGE``), on logarithmic scales:
        value = exp(b - H / b). A new point inside the square therefore always lowers it.
        """
        return _value(*self._logarithms())

    def _logarithms(self) -> tuple[list[float], list[float]]:
        """ln(latency / bound) and ln(energy / bound) of each point."""
        latency = [math.log(point.cost.latency_cycles / self.bound.latency_cycles) for point in self.points]
        return latency, [math.log(point.cost.energy_pj / self.bound.energy_pj) for point in self.points]

    def candidates(self, costs: CostBatch) -> NDArray[np.intp]:
        """Indices of the legal mappings that no point of the front is at least as good as, ascending."""
        usable = np.isfinite(costs.latency_cycles) & np.isfinite(costs.energy_pj)
        if len(self):
            # The last point that is no slower has the lowest energy among those.
            before = np.searchsorted(self.latency_cycles, costs.latency_cycles, side="right")
            usable &= costs.energy_pj < np.append(np.inf, self.energy_pj)[before]
        return np.flatnonzero(usable)

    def extended(
        self, batch: MappingBatch, costs: CostBatch, candidates: NDArray[np.intp]
    ) -> tuple[ParetoFront, list[tuple[int, float]]]:
        """Takes in mappings one after the other.

        Args:
            batch: n mappings.
            costs: their costs.
            candidates: indices of those that may join.

        Returns:
            The new front, and for each mapping that joined its index and the value of the front with it. The value
            falls from one to the next, but for what a full front gives up.
        """
        points = list(self.points)
        latency, energy = self._logarithms()
        joined = []
        for i in map(int, candidates):
            x = math.log(costs.latency_cycles[i] / self.bound.latency_cycles)
            y = math.log(costs.energy_pj[i] / self.bound.energy_pj)
            place = bisect.bisect_right(latency, x)
            if place and energy[place - 1] <= y:
                continue
            first = bisect.bisect_left(latency, x)
            beyond = first
            while beyond < len(points) and energy[beyond] >= y:
                beyond += 1
            # Fancy indexing copies: the caller may overwrite its batch.
            points[first:beyond] = [FrontPoint(batch[[i]][0], costs[i])]
            latency[first:beyond], energy[first:beyond] = [x], [y]
            if len(points) > CAPACITY:
                least = _least_missed(latency, energy)
                for entries in (points, latency, energy):
                    del entries[least]
            joined.append((i, _value(latency, energy)))
        return ParetoFront(self.bound, tuple(points)), joined


def _value(latency: list[float], energy: list[float]) -> float:
    side = math.log(RANGE)
    x = np.clip([*latency, side], 0.0, side)
    y = np.clip([side, *energy], 0.0, side)
    return math.exp(float(np.diff(x, prepend=0.0) @ y) / side)


def _least_missed(latency: list[float], energy: list[float]) -> int:
    """The point that alone dominates the smallest area; never the fastest or the most frugal one."""
    alone = np.diff(latency)[1:] * -np.diff(energy)[:-1]
    return 1 + int(np.argmin(alone))
