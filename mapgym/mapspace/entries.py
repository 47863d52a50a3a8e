"""What a map space leaves open: for each entry of a mapping, whether it is searched or which value it has.

One reading of axes, base and constraints, shared by membership, size, encoding and neighbours. Factors live in slots:
slot s is the temporal factor of level s, slot L + s its spatial factor, for L levels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mapgym.errors import SpecificationError, suggest
from mapgym.errors.text import quoted
from mapgym.mapping.legality import max_parallelism

if TYPE_CHECKING:
    from mapgym.mapping import Mapping
    from mapgym.spec.accelerator import Accelerator
    from mapgym.spec.constraints import Constraints
    from mapgym.spec.workload import Workload

AXES = ("tile", "order", "parallelism", "bypass")
"""The axes that a map space can search."""


@dataclass(frozen=True)
class FactorGroup:
    """Slots among which a given product is free to be distributed.

    Attributes:
        dim: index of the dim.
        slots: the slots, ascending.
        total: product of the dim's factors in these slots, above 1.
    """

    dim: int
    slots: tuple[int, ...]
    total: int


@dataclass(frozen=True, eq=False)
class SearchedEntries:
    """Which entries of a mapping are searched, and the values of the others.

    Attributes:
        given: int32[2 * level, dim] factor of each slot that hardware, constraints or base give, 0 for others.
        level_factors: int32[level, dim] temporal * spatial factor where the base gives it, 0 elsewhere.
        fixed: int32[2 * level, dim] factor of each slot, also where it follows from the others; 0 if it is searched.
        groups: how the searched slots of each dim hang together.
        order_free: bool[level] whether the order of the temporal loops is searched.
        order_key: int8[level, dim] dims, innermost first; the order of the loops where it is not searched.
        spatial_order_free: bool[level] whether the order of the spatial loops is searched.
        spatial_order_key: int8[level, dim] as order_key, for the spatial loops on each mesh side.
        side_free: bool[level] whether spatial loops may lie on X or on Y.
        on_y: bool[level, dim] the mesh side of a spatial loop where that is not searched.
        keep_free: bool[level, tensor] whether keeping or bypassing is searched.
        keep: bool[level, tensor] what is kept where that is not searched.
        min_used_macs: least product of the spatial factors.
    """

    given: NDArray[np.int32]
    level_factors: NDArray[np.int32]
    fixed: NDArray[np.int32]
    groups: tuple[FactorGroup, ...]
    order_free: NDArray[np.bool_]
    order_key: NDArray[np.int8]
    spatial_order_free: NDArray[np.bool_]
    spatial_order_key: NDArray[np.int8]
    side_free: NDArray[np.bool_]
    on_y: NDArray[np.bool_]
    keep_free: NDArray[np.bool_]
    keep: NDArray[np.bool_]
    min_used_macs: int = field(default=1)

    @classmethod
    def of(
        cls,
        workload: Workload,
        accelerator: Accelerator,
        axes: tuple[str, ...],
        constraints: Constraints,
        base: Mapping,
    ) -> SearchedEntries:
        """Works out what is searched.

        Args:
            workload, accelerator: what is mapped.
            axes: the searched axes, checked.
            constraints: with names that exist.
            base: gives the values of the axes that are not searched.

        Raises:
            SpecificationError: the constraints contradict the workload, the accelerator or the base, so that no mapping
                could satisfy them.
        """
        _check_base(workload, accelerator, base)
        levels, dims = len(accelerator.levels), len(workload.dims)
        fanout_x, fanout_y = np.array(accelerator.fanout_x), np.array(accelerator.fanout_y)
        given, totals = _given_factors(workload, accelerator, axes, constraints, base)
        fixed = given.copy()
        groups = _groups(workload, fixed, totals)

        order_key = base.order.copy()
        order_free = np.full(levels, "order" in axes)
        for name, named in constraints.orders.items():
            level = accelerator.level_index(name)
            first = [workload.dims.index(dim) for dim in named]
            order_key[level] = first + [d for d in range(dims) if d not in first]
            order_free[level] = False

        spatial_order_key = base.spatial_order.copy()
        order_counts = np.array(accelerator.spatial_order_counts)
        # Elsewhere nothing sees the order of spatial loops, so that it is no choice.
        spatial_order_key[~order_counts] = np.arange(dims)
        has_fanout = (fanout_x > 1) | (fanout_y > 1)
        side_free = (fanout_x > 1) & (fanout_y > 1) & ("parallelism" in axes)
        on_y = np.zeros((levels, dims), np.bool_)
        if "parallelism" in axes:
            on_y[:] = ((fanout_y > 1) & (fanout_x == 1))[:, None]
        else:
            for s in range(levels):
                on_y[s, base.spatial_order[s, base.spatial_split[s] :]] = True

        keep_free = np.zeros_like(base.keep)
        if "bypass" in axes:
            for s, storage in enumerate(accelerator.levels[:-1]):
                keep_free[s] = [storage.keep_only is None or t.name in storage.keep_only for t in workload.tensors]
        keep = base.keep.copy()
        if "bypass" in axes:
            keep[~keep_free] = False
            keep[-1] = True

        # The small term keeps a share such as 0.7 of 10 MACs, 7.000000000000001 in float64, from asking for one more.
        needed = max(1, math.ceil(constraints.min_utilization * accelerator.mac.instances - 1e-9))
        _check_utilization(needed, workload, accelerator, fixed, totals)
        return cls(
            given=given,
            level_factors=totals,
            fixed=fixed,
            groups=groups,
            order_free=order_free,
            order_key=order_key,
            spatial_order_free=has_fanout & ("order" in axes) & order_counts,
            spatial_order_key=spatial_order_key,
            side_free=side_free,
            on_y=on_y,
            keep_free=keep_free,
            keep=keep,
            min_used_macs=needed,
        )

    @cached_property
    def group_of(self) -> NDArray[np.int16]:
        """int16[2 * level, dim]: number of the group of a slot, -1 where the factor is fixed."""
        table = np.full(self.fixed.shape, -1, np.int16)
        for number, group in enumerate(self.groups):
            table[list(group.slots), group.dim] = number
        return table


def check_axes(axes: Sequence[str]) -> tuple[str, ...]:
    """Returns the axes in their usual order; raises SpecificationError for an unknown, repeated or missing one."""
    named = [] if isinstance(axes, str) or not isinstance(axes, Iterable) else list(axes)
    if not named:
        raise SpecificationError(f"axes is {quoted(axes)}; give a list with at least one of {', '.join(AXES)}")
    for axis in named:
        if not isinstance(axis, str) or axis not in AXES:
            raise SpecificationError(f"unknown axis {quoted(axis)}; {suggest(str(axis), AXES)}")
    if len(set(named)) != len(named):
        raise SpecificationError(f"axes names one twice: {', '.join(named)}; name each axis once")
    return tuple(axis for axis in AXES if axis in named)


def _check_base(workload: Workload, accelerator: Accelerator, base: Mapping) -> None:
    names = (workload.dims, accelerator.level_names, tuple(tensor.name for tensor in workload.tensors))
    if (base.dims, base.levels, base.tensors) != names:
        raise SpecificationError(
            f"the base mapping is not one of workload {quoted(workload.name)} on accelerator "
            f"{quoted(accelerator.name)}: its dims, "
            "levels or tensors have other names; build it for this pair"
        )
    for d, dim in enumerate(workload.dims):
        product = math.prod(map(int, base.temporal[:, d])) * math.prod(map(int, base.spatial[:, d]))
        if product != workload.bounds[d]:
            raise SpecificationError(
                f"the base mapping's factors of dim {quoted(dim)} multiply to {product} instead of "
                f"{workload.bounds[d]}; give a mapping whose factors multiply to the bounds"
            )
    if not base.keep[-1].all():
        raise SpecificationError(
            f"the base mapping bypasses a tensor at the outermost level {quoted(accelerator.level_names[-1])}; "
            "keep every tensor there"
        )


def _given_factors(
    workload: Workload,
    accelerator: Accelerator,
    axes: tuple[str, ...],
    constraints: Constraints,
    base: Mapping,
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Given factors, int32[2 * level, dim], and given level factors, int32[level, dim]; 0 where there are none."""
    levels, dims = base.temporal.shape
    fixed = np.zeros((2 * levels, dims), np.int32)
    temporal, spatial = fixed[:levels], fixed[levels:]
    totals = np.zeros((levels, dims), np.int32) if "tile" in axes else base.temporal * base.spatial
    for s, level in enumerate(accelerator.level_names):
        for d, dim in enumerate(workload.dims):
            allowed = accelerator.fanout_x[s] * accelerator.fanout_y[s] > 1 and constraints.may_be_parallel(level, dim)
            if "parallelism" not in axes:
                spatial[s, d] = base.spatial[s, d]
                if base.spatial[s, d] > 1 and not allowed:
                    raise SpecificationError(
                        f"the base mapping has a spatial factor of dim {quoted(dim)} at level {quoted(level)}, where "
                        "fan-out and parallel_dims allow none; search the parallelism axis or change the base"
                    )
            elif not allowed:
                spatial[s, d] = 1
            if workload.bounds[d] == 1 or totals[s, d] == 1:
                temporal[s, d] = spatial[s, d] = 1
    for name, by_dim in constraints.factors.items():
        s = accelerator.level_index(name)
        for dim, kinds in by_dim.items():
            d = workload.dims.index(dim)
            for kind, number in kinds.items():
                factors = temporal if kind == "temporal" else spatial
                if factors[s, d] not in (0, number) or (totals[s, d] and int(totals[s, d]) % number):
                    raise SpecificationError(
                        f"constraints: factors of {quoted(name)}, dim {quoted(dim)}: the {kind} factor cannot be "
                        f"{number}, because {_why_fixed(kind, axes, workload.bounds[d])}; change or remove this factor"
                    )
                if number > workload.bounds[d] or workload.bounds[d] % number:
                    raise _does_not_divide(workload, d, f"the {kind} factor {number} at {quoted(name)}")
                if kind == "spatial" and number > accelerator.fanout_x[s] * accelerator.fanout_y[s]:
                    raise SpecificationError(
                        f"constraints: factors of {quoted(name)}, dim {quoted(dim)}: the spatial factor {number} "
                        f"exceeds the fan-out of {accelerator.fanout_x[s]} x {accelerator.fanout_y[s]}; make it smaller"
                    )
                factors[s, d] = number
    return fixed, totals


def _groups(workload: Workload, fixed: NDArray[np.int32], totals: NDArray[np.int32]) -> tuple[FactorGroup, ...]:
    """Groups of searched slots; a slot that has no choice left becomes fixed in place."""
    levels = len(totals)
    groups = []
    for d in range(len(workload.dims)):
        if totals[:, d].any():
            parts = [([s, levels + s], int(totals[s, d])) for s in range(levels)]
        else:
            parts = [(list(range(2 * levels)), workload.bounds[d])]
        for slots, total in parts:
            free = tuple(slot for slot in slots if fixed[slot, d] == 0)
            given = math.prod(int(fixed[slot, d]) for slot in slots if slot not in free)
            if total % given or (not free and given != total):
                raise _does_not_divide(workload, d, f"the product {given} of its fixed factors", total)
            if total == given:
                fixed[list(free), d] = 1
            elif len(free) == 1:
                fixed[free[0], d] = total // given
            else:
                groups.append(FactorGroup(d, free, total // given))
    return tuple(groups)


def _why_fixed(kind: str, axes: tuple[str, ...], bound: int) -> str:
    if bound == 1:
        return "the bound of the dim is 1"
    if kind == "spatial" and "parallelism" in axes:
        return "the level has no fan-out or parallel_dims excludes the dim, or the base's level factor is no multiple"
    return "the axis is not searched and the base mapping has another factor"


def _does_not_divide(workload: Workload, d: int, what: str, total: int | None = None) -> SpecificationError:
    target = f"the bound {workload.bounds[d]}" if total in (None, workload.bounds[d]) else f"the level factor {total}"
    return SpecificationError(
        f"constraints: factors: for dim {quoted(workload.dims[d])} of workload {quoted(workload.name)} {what} cannot "
        f"be completed to {target}; fix divisors of the bound and leave a factor free"
    )


def _check_utilization(
    needed: int, workload: Workload, accelerator: Accelerator, fixed: NDArray[np.int32], totals: NDArray[np.int32]
) -> None:
    """Raises SpecificationError if even the most parallel mapping imaginable uses fewer MACs than needed."""
    levels = len(totals)
    spatial = fixed[levels:]
    by_dim = [
        workload.bounds[d] if (spatial[:, d] == 0).any() else math.prod(map(int, spatial[:, d]))
        for d in range(len(workload.dims))
    ]
    by_level = accelerator.mac.instances
    if accelerator.fanout_check == "per_level":
        by_level = math.prod(
            min(
                accelerator.fanout_x[s] * accelerator.fanout_y[s],
                math.prod(int(factor) or workload.bounds[d] for d, factor in enumerate(spatial[s])),
            )
            for s in range(levels)
        )
    attainable = min(max_parallelism(by_dim, accelerator), by_level)
    if attainable < needed:
        raise SpecificationError(
            f"constraints: min_utilization needs {needed} of the {accelerator.mac.instances} MACs of "
            f"{quoted(accelerator.name)}, but no mapping uses more than {attainable}; lower it or allow more "
            "parallel_dims"
        )
