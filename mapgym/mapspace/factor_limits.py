"""Which factors hardware, constraints and base leave to each slot of a mapping: the given ones, and ranges of others.

Slot s is the temporal factor of level s, slot L + s its spatial factor, for L levels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.mapping.mapping import divisors
from mapgym.spec.constraints import Constraints, factor_range

if TYPE_CHECKING:
    from mapgym.mapping import Mapping
    from mapgym.spec.accelerator import Accelerator
    from mapgym.spec.workload import Workload

X, Y = 0, 1
_SIDES = {"spatial_x": (X,), "spatial_y": (Y,)}


@dataclass(frozen=True, eq=False)
class FactorLimits:
    """What each factor may be; ends of ranges are divisors of the dim's bound.

    Attributes:
        given: int32[2 * level, dim] factor of each slot that has no choice, 0 for others.
        level_factors: int32[level, dim] temporal * spatial factor where the base gives it, 0 elsewhere.
        least: int32[2 * level, dim] smallest factor of each slot.
        most: int32[2, 2 * level, dim] largest one, of spatial slots on X and on Y; 1 where a dim is not for that side.
        bounds: int32[dim].
    """

    given: NDArray[np.int32]
    level_factors: NDArray[np.int32]
    least: NDArray[np.int32]
    most: NDArray[np.int32]
    bounds: NDArray[np.int32]

    @property
    def limited(self) -> NDArray[np.bool_]:
        """bool[2 * level, dim]: whether a slot is searched among fewer factors than the divisors of the bound."""
        narrow = (self.most < self.bounds) & (self.most > 1)
        barred = (self.most == 1).all(axis=0)
        return (self.given == 0) & ((self.least > 1) | narrow.any(axis=0) | (barred & (self.bounds > 1)))

    def allow(
        self, temporal: NDArray[np.int32], spatial: NDArray[np.int32], on_y: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """bool[n]: whether the factors of mappings, [n, level, dim], are within the limits."""
        levels = temporal.shape[1]
        most = np.where(on_y, self.most[Y, levels:], self.most[X, levels:])
        inside = (temporal >= self.least[:levels]) & (temporal <= self.most[X, :levels])
        # A factor of 1 is on no side.
        inside &= (spatial >= self.least[levels:]) & ((spatial <= most) | (spatial == 1))
        allowed: NDArray[np.bool_] = np.all(inside, axis=(1, 2))
        return allowed


def read_limits(
    workload: Workload, accelerator: Accelerator, axes: tuple[str, ...], constraints: Constraints, base: Mapping
) -> FactorLimits:
    """Works out the limits of all factors.

    Args:
        workload, accelerator: what is mapped.
        axes: the searched axes.
        constraints: with names that exist.
        base: gives the values of the axes that are not searched.

    Raises:
        SpecificationError: a constraint contradicts the workload, the accelerator or the base.
    """
    return _Reader(workload, accelerator, axes, constraints, base).read()


class _Reader:
    """Narrows the limits by one source after the other."""

    def __init__(
        self,
        workload: Workload,
        accelerator: Accelerator,
        axes: tuple[str, ...],
        constraints: Constraints,
        base: Mapping,
    ) -> None:
        self.workload, self.accelerator, self.axes = workload, accelerator, axes
        self.constraints, self.base = constraints, base
        self.levels, dims = base.temporal.shape
        self.given = np.zeros((2 * self.levels, dims), np.int32)
        self.totals = np.zeros((self.levels, dims), np.int32) if "tile" in axes else base.temporal * base.spatial
        bounds = np.array(workload.bounds, np.int32)
        self.limits = FactorLimits(
            given=self.given,
            level_factors=self.totals,
            least=np.ones((2 * self.levels, dims), np.int32),
            most=np.tile(bounds, (2, 2 * self.levels, 1)),
            bounds=bounds,
        )

    def read(self) -> FactorLimits:
        """The limits."""
        self._read_axes()
        for level, dim, kinds in self._entries():
            for kind, factor in kinds.items():
                least, most = factor_range(factor, self.workload.bound(dim))
                if least == most and kind not in _SIDES:
                    self._give(level, dim, kind, least)
                else:
                    self._narrow(level, dim, kind, least, most)
        self._read_sides()
        for d in range(len(self.workload.dims)):
            self._settle(d)
        return self.limits

    def _entries(self) -> Iterator[tuple[str, str, dict[str, int | str]]]:
        for level, by_dim in self.constraints.factors.items():
            for dim, kinds in by_dim.items():
                yield level, dim, dict(kinds)

    def _read_axes(self) -> None:
        accelerator, base = self.accelerator, self.base
        temporal, spatial = self.given[: self.levels], self.given[self.levels :]
        for s, level in enumerate(accelerator.level_names):
            for d, dim in enumerate(self.workload.dims):
                has_fanout = accelerator.fanout_x[s] * accelerator.fanout_y[s] > 1
                allowed = has_fanout and self.constraints.may_be_parallel(level, dim)
                if "parallelism" not in self.axes:
                    spatial[s, d] = base.spatial[s, d]
                    if base.spatial[s, d] > 1 and not allowed:
                        raise SpecificationError(
                            f"the base mapping has a spatial factor of dim {quoted(dim)} at level {quoted(level)}, "
                            "where fan-out and parallel_dims allow none; search the parallelism axis or change the base"
                        )
                elif not allowed:
                    spatial[s, d] = 1
                if self.workload.bounds[d] == 1 or self.totals[s, d] == 1:
                    temporal[s, d] = spatial[s, d] = 1

    def _give(self, name: str, dim: str, kind: str, number: int) -> None:
        """Fixes a factor."""
        workload, accelerator = self.workload, self.accelerator
        s, d = accelerator.level_index(name), workload.dims.index(dim)
        slot = s if kind == "temporal" else self.levels + s
        if self.given[slot, d] not in (0, number) or (self.totals[s, d] and int(self.totals[s, d]) % number):
            raise SpecificationError(
                f"constraints: factors of {quoted(name)}, dim {quoted(dim)}: the {kind} factor cannot be "
                f"{number}, because {self._why_fixed(kind, d)}; change or remove this factor"
            )
        if number > workload.bounds[d] or workload.bounds[d] % number:
            raise does_not_divide(workload, d, f"the {kind} factor {number} at {quoted(name)}")
        if kind == "spatial" and number > accelerator.fanout_x[s] * accelerator.fanout_y[s]:
            raise SpecificationError(
                f"constraints: factors of {quoted(name)}, dim {quoted(dim)}: the spatial factor {number} "
                f"exceeds the fan-out of {accelerator.fanout_x[s]} x {accelerator.fanout_y[s]}; make it smaller"
            )
        self.given[slot, d] = number

    def _narrow(self, name: str, dim: str, kind: str, least: int, most: int) -> None:
        """Restricts a factor to a range; one on a mesh side may not be on the other if it is above 1."""
        s, d = self.accelerator.level_index(name), self.workload.dims.index(dim)
        slot = s if kind == "temporal" else self.levels + s
        sides = _SIDES.get(kind, (X, Y))
        numbers = [number for number in divisors(self.workload.bounds[d]) if least <= number <= most]
        if not numbers:
            raise SpecificationError(
                f"constraints: factors of {quoted(name)}, dim {quoted(dim)}: no divisor of the bound "
                f"{self.workload.bounds[d]} is a {kind} factor from {least} to {most}; widen the range"
            )
        self.limits.least[slot, d] = max(self.limits.least[slot, d], numbers[0])
        for side in (X, Y):
            if side in sides:
                self.limits.most[side, slot, d] = min(self.limits.most[side, slot, d], numbers[-1])
            elif numbers[0] > 1:
                self.limits.most[side, slot, d] = 1

    def _read_sides(self) -> None:
        for s, level in enumerate(self.accelerator.level_names):
            fanouts = (self.accelerator.fanout_x[s], self.accelerator.fanout_y[s])
            for d, dim in enumerate(self.workload.dims):
                for side, may in enumerate(self.constraints.may_lie_on(level, dim)):
                    # A side without fan-out has no loops where they are searched.
                    if not may or (fanouts[side] == 1 and "parallelism" in self.axes):
                        self.limits.most[side, self.levels + s, d] = 1

    def _settle(self, d: int) -> None:
        """Gives what has no choice left, and compares what was given with the ranges."""
        limits, numbers = self.limits, divisors(self.workload.bounds[d])
        for slot in range(2 * self.levels):
            s, given = slot % self.levels, int(self.given[slot, d])
            least, most = int(limits.least[slot, d]), int(limits.most[:, slot, d].max())
            if not given and least == 1 and most == numbers[-1] > 1:
                continue
            name, dim = self.accelerator.level_names[s], self.workload.dims[d]
            kind = "temporal" if slot < self.levels else "spatial"
            if kind == "spatial" and given > 1 and "parallelism" not in self.axes:
                on_y = list(self.base.spatial_order[s]).index(d) >= self.base.spatial_split[s]
                most = int(limits.most[int(on_y), slot, d])
            if least > most or (given and not least <= given <= most):
                number = f"the {kind} factor {given}" if given else f"a {kind} factor from {least} to {most}"
                raise SpecificationError(
                    f"constraints: {number} of dim {quoted(dim)} at {quoted(name)} is not possible: its range is "
                    f"{least} to {most}, by factors, parallel_x and parallel_y, and {self._why_fixed(kind, d)}; "
                    "widen the range"
                )
            left = [number for number in numbers if least <= number <= most]
            if not given and len(left) == 1:
                self.given[slot, d] = left[0]

    def _why_fixed(self, kind: str, d: int) -> str:
        if self.workload.bounds[d] == 1:
            return "the bound of the dim is 1"
        if kind == "spatial" and "parallelism" in self.axes:
            return (
                "the level has no fan-out or parallel_dims excludes the dim, or the base's level factor is no multiple"
            )
        return "the axis is not searched and the base mapping has another factor"


def does_not_divide(workload: Workload, d: int, what: str, total: int | None = None) -> SpecificationError:
    """The error of factors that no other ones complete to a bound, or to a level factor."""
    target = f"the bound {workload.bounds[d]}" if total in (None, workload.bounds[d]) else f"the level factor {total}"
    return SpecificationError(
        f"constraints: factors: for dim {quoted(workload.dims[d])} of workload {quoted(workload.name)} {what} cannot "
        f"be completed to {target}; fix divisors of the bound and leave a factor free"
    )
