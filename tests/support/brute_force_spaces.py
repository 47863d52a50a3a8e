"""All mappings of toy map spaces, enumerated from the definition without any of the package's search code."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from mapgym.mapping import Mapping, MappingBatch
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.constraints import Constraints
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.tensor import Tensor
from mapgym.spec.workload import Workload


def toy_workload(k: int = 4, p: int = 3, r: int = 2) -> Workload:
    """A one-dimensional convolution."""
    return Workload(
        "toy",
        ("K", "P", "R"),
        (k, p, r),
        (
            Tensor("Weights", ((("K", 1),), (("R", 1),))),
            Tensor("Inputs", ((("P", 1), ("R", 1)),)),
            Tensor("Outputs", ((("K", 1),), (("P", 1),)), is_output=True),
        ),
    )


def toy_accelerator(
    inner: tuple[int, int] = (2, 1),
    outer: tuple[int, int] = (2, 2),
    capacities: tuple[int | None, int | None] = (9, 20),
    peer_links: bool = True,
    fanout_check: str = "per_level",
    inner_keeps: tuple[str, ...] | None = None,
) -> Accelerator:
    """Three levels with fan-out (x, y) below the innermost and the middle one."""
    return Accelerator(
        "toy",
        (
            StorageLevel("Registers", capacities[0], *outer, keep_only=inner_keeps),
            StorageLevel("Buffer", capacities[1]),
            StorageLevel("Memory"),
        ),
        Mac(mesh_x=inner[0] * outer[0], mesh_y=inner[1] * outer[1]),
        peer_links,
        fanout_check,
    )


def ordered_factorisations(number: int, parts: int) -> Iterator[tuple[int, ...]]:
    for factors in itertools.product([f for f in range(1, number + 1) if number % f == 0], repeat=parts):
        if math.prod(factors) == number:
            yield factors


def enumerate_structures(
    workload: Workload,
    accelerator: Accelerator,
    axes: tuple[str, ...],
    base: Mapping | None = None,
    constraints: Constraints | None = None,
) -> MappingBatch:
    """All canonical mappings with right products that follow base, axes and constraints (min_utilization aside)."""
    base = base or Mapping.trivial(workload, accelerator)
    constraints = constraints or Constraints()
    factors = itertools.product(
        *(list(_dim_choices(workload, accelerator, axes, base, constraints, d)) for d in range(len(workload.dims)))
    )
    found: list[tuple[np.ndarray, ...]] = []
    keeps = list(_keep_choices(workload, accelerator, axes, base))
    levels = range(len(accelerator.levels))
    for choice in factors:
        slots = np.array(choice).T
        temporal, spatial = slots[: len(levels)], slots[len(levels) :]
        orders = [_orders(temporal[s], base.order[s], _order_rule(accelerator, s, axes, constraints)) for s in levels]
        parallel = [list(_spatial_orders(accelerator, axes, base, s, spatial[s])) for s in levels]
        for order, placed, keep in itertools.product(itertools.product(*orders), itertools.product(*parallel), keeps):
            found.append((temporal, spatial, order, [p[0] for p in placed], [p[1] for p in placed], keep))
    arrays = [np.array(array) for array in zip(*found, strict=True)]
    return MappingBatch(*arrays, workload.dims, accelerator.level_names, tuple(t.name for t in workload.tensors))


def _dim_choices(workload, accelerator, axes, base, constraints, d):
    levels = len(accelerator.levels)
    for slots in ordered_factorisations(workload.bounds[d], 2 * levels):
        if all(
            _level_choice_is_open(workload, accelerator, axes, base, constraints, d, s, slots[s], slots[levels + s])
            for s in range(levels)
        ):
            yield slots


def _level_choice_is_open(workload, accelerator, axes, base, constraints, d, s, temporal, spatial):
    level, dim = accelerator.level_names[s], workload.dims[d]
    if "tile" not in axes and temporal * spatial != base.temporal[s, d] * base.spatial[s, d]:
        return False
    if "parallelism" not in axes and spatial != base.spatial[s, d]:
        return False
    allowed = constraints.parallel_dims
    if isinstance(allowed, dict):
        allowed = allowed.get(level)
    fanout = accelerator.fanout_x[s] * accelerator.fanout_y[s]
    if spatial > 1 and (fanout == 1 or (allowed is not None and dim not in allowed)):
        return False
    fixed = constraints.factors.get(level, {}).get(dim, {})
    return fixed.get("temporal", temporal) == temporal and fixed.get("spatial", spatial) == spatial


def _order_rule(accelerator, s, axes, constraints):
    named = constraints.orders.get(accelerator.level_names[s])
    if named is not None:
        return list(named)
    return "free" if "order" in axes else "base"


def _orders(factors, base_order, rule):
    """Canonical orders of the temporal loops of a level."""
    dims = "KPR"
    loops = [d for d in range(len(factors)) if factors[d] > 1]
    units = [d for d in range(len(factors)) if factors[d] == 1]
    if rule == "free":
        return [[*loop, *units] for loop in itertools.permutations(loops)]
    if rule == "base":
        return [[*sorted(loops, key=list(base_order).index), *units]]
    rest = [dim for dim in dims if dim not in rule]
    return [[*sorted(loops, key=lambda d: [*rule, *rest].index(dims[d])), *units]]


def _spatial_orders(accelerator, axes, base, s, factors):
    """Canonical (order, split) of the spatial loops of a level."""
    loops = [d for d in range(len(factors)) if factors[d] > 1]
    units = [d for d in range(len(factors)) if factors[d] == 1]
    fanout = (accelerator.fanout_x[s], accelerator.fanout_y[s])
    base_axis = {int(d): int(position >= base.spatial_split[s]) for position, d in enumerate(base.spatial_order[s])}
    for placed in itertools.product((0, 1), repeat=len(loops)):
        axis = dict(zip(loops, placed, strict=True))
        if "parallelism" not in axes and any(axis[d] != base_axis[d] for d in loops):
            continue
        if "parallelism" in axes and any(fanout[axis[d]] == 1 for d in loops):
            continue
        on = [[d for d in loops if axis[d] == side] for side in (0, 1)]
        for x, y in itertools.product(itertools.permutations(on[0]), itertools.permutations(on[1])):
            if accelerator.peer_links and "order" in axes:
                ordered = True
            elif accelerator.peer_links:
                ordered = all(list(side) == sorted(side, key=list(base.spatial_order[s]).index) for side in (x, y))
            else:
                ordered = all(list(side) == sorted(side) for side in (x, y))
            if ordered:
                yield [*x, *y, *units], len(x)


def _keep_choices(workload, accelerator, axes, base):
    rows = []
    for s, level in enumerate(accelerator.levels):
        if "bypass" not in axes or s == len(accelerator.levels) - 1:
            rows.append([base.keep[s].tolist()])
            continue
        may = [level.keep_only is None or tensor.name in level.keep_only for tensor in workload.tensors]
        choices = itertools.product(*((False, True) if allowed else (False,) for allowed in may))
        rows.append(list(choices))
    return itertools.product(*rows)


def is_legal(workload: Workload, accelerator: Accelerator, mapping: Mapping) -> bool:
    """Capacity, fan-out and kept tensors, for a mapping with right products."""
    levels = range(len(accelerator.levels))
    used = []
    for s in levels:
        x = list(mapping.spatial_order[s][: mapping.spatial_split[s]])
        y = [d for d in range(len(workload.dims)) if d not in x]
        used.append([math.prod(int(mapping.spatial[s, d]) for d in side) for side in (x, y)])
    extents = dict.fromkeys(workload.dims, 1)
    for s, level in enumerate(accelerator.levels):
        for d, dim in enumerate(workload.dims):
            extents[dim] *= int(mapping.temporal[s, d]) * int(mapping.spatial[s, d])
        kept = [tensor for t, tensor in enumerate(workload.tensors) if mapping.keep[s, t]]
        if level.usable_words is not None and sum(t.tile_size(extents) for t in kept) > level.usable_words:
            return False
        if level.keep_only is not None and any(t.name not in level.keep_only for t in kept):
            return False
        inner = accelerator.levels[s - 1] if s else accelerator.mac
        for side, mesh, fanout in (
            (0, inner.mesh_x, accelerator.fanout_x[s]),
            (1, inner.mesh_y, accelerator.fanout_y[s]),
        ):
            if math.prod(used[outer][side] for outer in levels if outer >= s) > mesh:
                return False
            if accelerator.fanout_check == "per_level" and used[s][side] > fanout:
                return False
    return bool(mapping.keep[-1].all()) or accelerator.fanout_check == "cumulative"


def rows(batch: MappingBatch) -> list[bytes]:
    """One hashable value for each mapping of a batch."""
    return [b"".join(np.ascontiguousarray(array).tobytes() for array in mapping.arrays()) for mapping in batch]
