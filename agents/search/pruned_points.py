"""A map space as Timeloop's mapper walks it: tables for the compiled walks of :mod:`pruned_kernels`."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.search.pruned_kernels import Point, PointTables
from mapgym.legality import pack_rules
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.mapspace_size import prime_exponents


def point_tables(space: MapSpace) -> PointTables:
    """What is open in a map space."""
    freedom, accelerator = space.freedom, space.accelerator
    primes: list[tuple[int, int, int, int, int, int]] = []
    slots: list[int] = []
    # Dims with many factorisations come first, because they decide soonest that a draw is too parallel.
    for group in sorted(freedom.groups, key=lambda group: -group.total):
        parts = len(group.slots)
        for prime, exponent in prime_exponents(group.total).items():
            ways = math.comb(exponent + parts - 1, parts - 1)
            primes.append((group.dim, prime, exponent, len(slots), parts, ways))
        slots += group.slots
    most = 1 + max((exponent + parts for _, _, exponent, _, parts, _ in primes), default=1)
    columns = 1 + max((parts for _, _, _, _, parts, _ in primes), default=1)
    inner_meshes = [(accelerator.mac.mesh_x, accelerator.mac.mesh_y)]
    inner_meshes += [(level.mesh_x, level.mesh_y) for level in accelerator.levels[:-1]]
    fanouts = zip(accelerator.fanout_x, accelerator.fanout_y, strict=True)
    most_parallel = fanouts if accelerator.fanout_check == "per_level" else inner_meshes
    return PointTables(
        fixed=freedom.fixed,
        primes=np.array(primes, np.int64).reshape(-1, 6),
        slots=np.array(slots, np.int64),
        binomials=np.array([[math.comb(n, k) for k in range(columns)] for n in range(most)], np.int64),
        most_parallel=np.array([x * y for x, y in most_parallel], np.int64),
        order_free=freedom.order_free,
        order_key=freedom.order_key,
        spatial_order_free=freedom.spatial_order_free,
        spatial_order_key=freedom.spatial_order_key,
        axis_free=freedom.axis_free,
        on_y=freedom.on_y,
        keep_free=freedom.keep_free,
        rules=pack_rules(space.workload, accelerator),
        min_used_macs=freedom.min_used_macs,
    )


def first_point(space: MapSpace, tables: PointTables) -> tuple[Point, MappingBatch]:
    """A point of zeros, and a batch of one mapping that holds everything that is not searched."""
    levels, dims, tensors = len(space.accelerator.levels), len(space.workload.dims), len(space.workload.tensors)

    def zeros(size: int) -> NDArray[np.int64]:
        return np.zeros(size, np.int64)

    point = Point(
        factor_ranks=zeros(len(tables.primes)),
        order_ranks=zeros(levels),
        place_ranks=zeros(levels),
        place_masks=zeros(levels),
        keep_bits=zeros(1),
        drawn_ranks=zeros(levels),
        parallel=zeros(levels),
        sequence=zeros(dims),
        extents=np.empty((levels, dims)),
        tile_words=np.empty((levels, tensors)),
    )
    current = MappingBatch.trivial(space.workload, space.accelerator, 1)
    current.keep[:] = space.freedom.keep
    return point, current
