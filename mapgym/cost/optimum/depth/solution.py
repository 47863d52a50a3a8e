"""From a chain of extents, orders and kept tensors to the mapping with the best layout on the meshes."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from mapgym.cost.model import CostModel
from mapgym.cost.optimum.depth.network_kernels import Networks
from mapgym.cost.optimum.depth.problem import Task
from mapgym.cost.optimum.solution import set_order
from mapgym.mapping import Mapping, MappingBatch


def build_mapping(
    task: Task,
    networks: Networks,
    choice: NDArray[np.int64],
    keep: NDArray[np.bool_],
    extent: NDArray[np.int64],
    loops: NDArray[np.int64],
) -> Mapping:
    """The mapping of a solution, with the first layout of each level.

    Args:
        task, networks: what was solved.
        choice: int64[S] spatial factors of each level.
        keep: bool[S, T].
        extent: int64[S, D].
        loops: level * D + dim of the loops whose order matters, innermost first; -1 after the last.
    """
    space, dims = task.space, list(task.dims)
    levels, count = extent.shape
    mapping = Mapping.trivial(space.workload, space.accelerator)
    below = np.ones(count, np.int64)
    placed = list(itertools.takewhile(lambda loop: loop >= 0, loops.tolist()))
    for s in range(levels):
        spatial = networks.factors[s, choice[s]]
        mapping.spatial[s, dims] = spatial
        mapping.temporal[s, dims] = extent[s] // (below * spatial)
        below = extent[s]
        mapping.keep[s] = keep[s]
        set_order(mapping, space, s, [dims[loop % count] for loop in placed if loop // count == s])
        _lay_out(mapping, task, networks, s, int(networks.first[s, choice[s]]))
    return mapping


def _lay_out(mapping: Mapping, task: Task, networks: Networks, s: int, layout: int) -> None:
    """Gives the spatial loops of a level an order and mesh sides."""
    entries, dims = task.space.entries, list(task.dims)
    order = [dims[k] for k in networks.order[layout]]
    split = int(networks.on_x[layout])
    factors = mapping.spatial[s]
    active = [d for d in order if factors[d] > 1]
    on_x, on_y = active[:split], active[split:]
    idle = [d for d in range(len(factors)) if d not in active]
    if entries.side_free[s].any():
        on_x = on_x + idle
    else:
        on_x, on_y = on_x + [d for d in idle if not entries.on_y[s, d]], on_y + [d for d in idle if entries.on_y[s, d]]
    mapping.spatial_order[s] = on_x + on_y
    mapping.spatial_split[s] = len(on_x)


def with_best_layouts(
    task: Task, networks: Networks, model: CostModel, choice: NDArray[np.int64], mapping: Mapping, objective: str
) -> Mapping:
    """The mapping with the layout of each level that is best for it; those of one level do not see those of others."""
    space = task.space
    for s in range(len(choice)):
        layouts = range(int(networks.first[s, choice[s]]), int(networks.first[s, choice[s] + 1]))
        if len(layouts) < 2:
            continue
        batch = MappingBatch.concatenate([mapping.batch()] * len(layouts))
        variants = [batch[i] for i in range(len(layouts))]
        for variant, layout in zip(variants, layouts, strict=True):
            _lay_out(variant, task, networks, s, layout)
        batch = MappingBatch.concatenate([variant.batch() for variant in variants])
        mapping = variants[int(np.argmin(model.evaluate(batch).objective(objective)))]
    return space.canonical(mapping.batch())[0]
