"""What a map space leaves open: for each entry of a mapping, whether it is searched or which value it has.

One reading of axes, base and constraints, shared by membership, size, encoding and neighbours. Factors live in slots:
slot s is the temporal factor of level s, slot L + s its spatial factor, for L levels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping as AbcMapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mapgym.errors import SpecificationError, suggest
from mapgym.errors.text import quoted
from mapgym.mapping.legality import max_parallelism
from mapgym.mapspace.factor_limits import FactorLimits, X, Y, does_not_divide, read_limits
from mapgym.spec.constraints import OTHERS

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
        limits: what each factor may be, and which ones hardware, constraints or base give.
        fixed: int32[2 * level, dim] factor of each slot, also where it follows from the others; 0 if it is searched.
        groups: how the searched slots of each dim hang together.
        order_free: bool[level] whether all orders of the temporal loops are searched.
        order_key: int8[level, dim] dims, innermost first; an order of the loops that is possible where not all are.
        order_tier: int8[level, dim] loops of a lower tier are inside of those of a higher one; the order within a tier
            is searched. All are 0 where all orders are searched, and all differ where none are.
        spatial_order_free: bool[level] whether all orders of the spatial loops are searched.
        spatial_order_key: int8[level, dim] as order_key, for the spatial loops on each mesh side.
        spatial_order_tier: int8[level, dim] as order_tier, for them.
        side_free: bool[level, dim] whether a spatial loop may lie on X or on Y.
        on_y: bool[level, dim] the mesh side of a spatial loop where that is not searched.
        keep_free: bool[level, tensor] whether keeping or bypassing is searched.
        keep: bool[level, tensor] what is kept where that is not searched.
        min_used_macs: least product of the spatial factors.
    """

    limits: FactorLimits
    fixed: NDArray[np.int32]
    groups: tuple[FactorGroup, ...]
    order_free: NDArray[np.bool_]
    order_key: NDArray[np.int8]
    order_tier: NDArray[np.int8]
    spatial_order_free: NDArray[np.bool_]
    spatial_order_key: NDArray[np.int8]
    spatial_order_tier: NDArray[np.int8]
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
        limits = read_limits(workload, accelerator, axes, constraints, base)
        fixed = limits.given.copy()
        groups = _groups(workload, fixed, limits.level_factors)

        order_key, order_tier = _orders(workload, accelerator, axes, constraints.orders, base.order)
        spatial_order_key, spatial_order_tier = _orders(
            workload, accelerator, axes, constraints.spatial_orders, base.spatial_order
        )
        order_counts = np.array(accelerator.spatial_order_counts)
        # Elsewhere nothing sees the order of spatial loops, so that it is no choice.
        spatial_order_key[~order_counts] = spatial_order_tier[~order_counts] = np.arange(dims)
        has_fanout = (fanout_x > 1) | (fanout_y > 1)
        side_free = np.zeros((levels, dims), np.bool_)
        on_y = np.zeros((levels, dims), np.bool_)
        if "parallelism" in axes:
            may_x, may_y = limits.most[X, levels:] > 1, limits.most[Y, levels:] > 1
            side_free = may_x & may_y
            # What has a bound of 1 is on no side.
            side_free[:, limits.bounds == 1] = ((fanout_x > 1) & (fanout_y > 1))[:, None]
            on_y = may_y & ~may_x
            on_y |= ((fanout_y > 1) & (fanout_x == 1))[:, None]
        else:
            for s in range(levels):
                on_y[s, base.spatial_order[s, base.spatial_split[s] :]] = True

        keep_free, keep = _kept(workload, accelerator, axes, constraints, base)
        # The small term keeps a share such as 0.7 of 10 MACs, 7.000000000000001 in float64, from asking for one more.
        needed = max(1, math.ceil(constraints.min_utilization * accelerator.mac.instances - 1e-9))
        _check_utilization(needed, workload, accelerator, fixed)
        return cls(
            limits=limits,
            fixed=fixed,
            groups=groups,
            order_free=(order_tier == 0).all(axis=1) & ("order" in axes),
            order_key=order_key,
            order_tier=order_tier,
            spatial_order_free=has_fanout & order_counts & (spatial_order_tier == 0).all(axis=1) & ("order" in axes),
            spatial_order_key=spatial_order_key,
            spatial_order_tier=spatial_order_tier,
            side_free=side_free,
            on_y=on_y,
            keep_free=keep_free,
            keep=keep,
            min_used_macs=needed,
        )

    @cached_property
    def is_limited(self) -> bool:
        """Whether there is more than entries that are free and entries that are fixed.

        That is a range of a factor, a dim that only one side of a mesh with two takes, an order that is free in part.
        """
        levels = len(self.order_key)
        two_sided = self.side_free.any(axis=1, keepdims=True) & (self.fixed[levels:] != 1)
        return bool(self.limits.limited.any() or (two_sided & ~self.side_free).any() or self.has_partial_orders)

    @cached_property
    def arranged(self) -> NDArray[np.bool_]:
        """bool[2 * level, dim]: whether a loop of the slot can change places with others in the order of its level."""
        tiers = np.concatenate([self.order_tier, self.spatial_order_tier])
        free = np.concatenate([self.order_free, self.spatial_order_free])[:, None]
        is_alike = (tiers[:, :, None] == tiers[:, None, :]).sum(axis=2) > 1
        arranged: NDArray[np.bool_] = np.logical_or(free, is_alike & (tiers > 0).any(axis=1, keepdims=True))
        return arranged

    @cached_property
    def order_searched(self) -> NDArray[np.bool_]:
        """bool[level]: whether some temporal loops of a level can change places."""
        searched: NDArray[np.bool_] = np.any(self.arranged[: len(self.order_key)], axis=1)
        return searched

    @cached_property
    def has_partial_orders(self) -> bool:
        """Whether the order of a level is free in part."""
        tiers = np.concatenate([self.order_tier, self.spatial_order_tier])
        return any(1 < len(set(row)) < len(row) for row in tiers.tolist())

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


def _orders(
    workload: Workload,
    accelerator: Accelerator,
    axes: tuple[str, ...],
    named: AbcMapping[str, Sequence[str]],
    base: NDArray[np.int8],
) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Keys and tiers of the orders of all levels, see :class:`SearchedEntries`."""
    key = base.copy()
    dims = len(workload.dims)
    tier = np.zeros_like(key)
    if "order" not in axes:
        np.put_along_axis(tier, key.astype(np.intp), np.arange(dims, dtype=np.int8)[None], axis=1)
    for name, words in named.items():
        level = accelerator.level_index(name)
        front, back = (
            (words[: words.index(OTHERS)], words[words.index(OTHERS) + 1 :]) if OTHERS in words else (words, ())
        )
        first, last = ([workload.dims.index(dim) for dim in part] for part in (front, back))
        # Between them the others, as the base has them where "*" says that they are in any order.
        others = [d for d in (base[level].tolist() if OTHERS in words else range(dims)) if d not in (*first, *last)]
        key[level] = [*first, *others, *last]
        tier[level, key[level]] = np.arange(dims)
        if OTHERS in words and "order" in axes:
            tier[level, others] = len(first)
    return key, tier


def _kept(
    workload: Workload, accelerator: Accelerator, axes: tuple[str, ...], constraints: Constraints, base: Mapping
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """bool[level, tensor] whether it is searched what is kept, and what is where it is not."""
    levels = accelerator.for_workload(workload).levels
    names = [tensor.name for tensor in workload.tensors]
    keep_free, keep = np.zeros_like(base.keep), base.keep.copy()
    if "bypass" in axes:
        for s, storage in enumerate(levels[:-1]):
            keep_free[s] = [storage.keep_only is None or name in storage.keep_only for name in names]
        keep[~keep_free] = False
        keep[-1] = True
    for (level, name), wanted in constraints.kept(workload).items():
        s, t = accelerator.level_index(level), names.index(name)
        may_hold = levels[s].keep_only
        if wanted and may_hold is not None and name not in may_hold:
            raise SpecificationError(
                f"constraints: keep of {quoted(level)} names {quoted(name)}, but the level may hold only "
                f"{', '.join(may_hold) or 'nothing'}; remove it, or change keep_only of the level"
            )
        if not wanted and s == len(levels) - 1:
            raise SpecificationError(
                f"constraints: bypass of {quoted(level)} names {quoted(name)}, but the outermost level keeps every "
                "tensor; remove it"
            )
        keep_free[s, t], keep[s, t] = False, wanted
    return keep_free, keep


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
                raise does_not_divide(workload, d, f"the product {given} of its fixed factors", total)
            if total == given:
                fixed[list(free), d] = 1
            elif len(free) == 1:
                fixed[free[0], d] = total // given
            else:
                groups.append(FactorGroup(d, free, total // given))
    return tuple(groups)


def _check_utilization(needed: int, workload: Workload, accelerator: Accelerator, fixed: NDArray[np.int32]) -> None:
    """Raises SpecificationError if even the most parallel mapping imaginable uses fewer MACs than needed."""
    levels = len(accelerator.levels)
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
