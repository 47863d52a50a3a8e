"""A plain reading of constraints: whether one mapping obeys them, looked at loop by loop."""

from __future__ import annotations

import math

from mapgym.mapping import Mapping
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.constraints import Constraints
from mapgym.spec.workload import Workload


def obeys(mapping: Mapping, workload: Workload, accelerator: Accelerator, constraints: Constraints) -> bool:
    """Whether a mapping obeys all constraints but the minimum utilisation."""
    for s, level in enumerate(accelerator.level_names):
        x, y = (dict(loops) for loops in mapping.spatial_sides(s))
        temporal = dict(mapping.temporal_loops(s))
        for dim, kinds in constraints.factors.get(level, {}).items():
            found = {
                "temporal": temporal.get(dim, 1),
                "spatial": x.get(dim, 1) * y.get(dim, 1),
                "spatial_x": x.get(dim, 1),
                "spatial_y": y.get(dim, 1),
            }
            if not all(_is_one_of(found[kind], limit, workload.bound(dim)) for kind, limit in kinds.items()):
                return False
        if any(not constraints.may_be_parallel(level, dim) for dim in (*x, *y)):
            return False
        if any(dim not in constraints.parallel_x.get(level, (dim,)) for dim in x):
            return False
        if any(dim not in constraints.parallel_y.get(level, (dim,)) for dim in y):
            return False
        if not _is_sorted([dim for dim, _ in mapping.temporal_loops(s)], constraints.orders.get(level), workload):
            return False
        if accelerator.spatial_order_counts[s]:
            order = constraints.spatial_orders.get(level)
            if not all(_is_sorted(list(side), order, workload) for side in (x, y)):
                return False
        for t, tensor in enumerate(workload.tensors):
            words = {tensor.name, "outputs" if tensor.is_output else "operands"}
            if words & set(constraints.keep.get(level, ())) and not mapping.keep[s, t]:
                return False
            if words & set(constraints.bypass.get(level, ())) and mapping.keep[s, t]:
                return False
    return True


def is_parallel_enough(mapping: Mapping, accelerator: Accelerator, constraints: Constraints) -> bool:
    """Whether a mapping uses as many MACs as the constraints ask for."""
    used = math.prod(int(factor) for factor in mapping.spatial.ravel())
    return used >= constraints.min_utilization * accelerator.mac.instances - 1e-9


def _is_one_of(factor: int, limit: int | str, bound: int) -> bool:
    if isinstance(limit, int):
        return factor == limit
    if limit == "all":
        return factor == bound
    if limit.startswith("<="):
        return factor <= int(limit[2:])
    if limit.startswith(">="):
        return factor >= int(limit[2:])
    least, most = map(int, limit.split(".."))
    return least <= factor <= most


def _is_sorted(loops: list[str], order: tuple[str, ...] | None, workload: Workload) -> bool:
    if order is None:
        return True
    named = list(order) if "*" in order else [*order, *(dim for dim in workload.dims if dim not in order)]
    places = [named.index(dim) if dim in named else named.index("*") for dim in loops]
    return places == sorted(places)
