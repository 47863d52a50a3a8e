"""A map space as Timeloop's mapper walks it: tables for its compiled walks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.search.pruned.points_kernels import COUNT, FACTORS, DrawTables, Point, PointTables, count_completions
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.mapping import MappingBatch
from mapgym.mapping.legality_kernels import pack_rules
from mapgym.mapspace import MapSpace
from mapgym.mapspace.size import prime_exponents
from mapgym.spec.ranges import MAX_ARRANGED

MOST_STATES = 2**17
"""States of a draw, at most; levels with a larger fan-out are left to refusals, of which they cause few."""


def point_tables(space: MapSpace) -> PointTables:
    """What is open in a map space.

    Raises:
        SpecificationError: the orders of a level are too many to be numbered.
    """
    entries, accelerator = space.entries, space.accelerator
    primes: list[tuple[int, ...]] = []
    slots: list[int] = []
    # Dims with many factorisations come first, because they decide soonest that a draw is too parallel.
    for group in sorted(entries.groups, key=lambda group: -group.total):
        parts, spatial = len(group.slots), [slot for slot in group.slots if slot >= len(accelerator.levels)]
        for prime, exponent in prime_exponents(group.total).items():
            ways = _compositions(exponent, parts)
            primes.append((group.dim, prime, exponent, len(slots), parts, len(spatial), ways))
        # The spatial slots come first, because they alone decide whether a draw is too parallel.
        slots += [*spatial, *(slot for slot in group.slots if slot not in spatial)]
    levels = len(accelerator.levels)
    for s, level in enumerate(accelerator.level_names):
        temporal, spatial_loops = ((entries.fixed[slot] != 1).sum() for slot in (s, levels + s))
        is_placed = entries.arranged[levels + s].any() or entries.side_free[s].any()
        if max(temporal * entries.order_searched[s], spatial_loops * is_placed) > MAX_ARRANGED:
            raise SpecificationError(
                f"level {quoted(level)} has more than {MAX_ARRANGED} loops, whose orders cannot be numbered; fix its "
                "order, join dims, or use an agent that numbers no orders, such as 'evolution'"
            )
    most = 1 + max((exponent + parts for _, _, exponent, _, parts, *_ in primes), default=1)
    columns = 1 + max((parts for _, _, _, _, parts, *_ in primes), default=1)
    fanouts = zip(accelerator.fanout_x, accelerator.fanout_y, strict=True)
    most_parallel = fanouts if accelerator.fanout_check == "per_level" else accelerator.inner_meshes
    two_sided: NDArray[np.bool_] = np.any(entries.side_free, axis=1)
    spatial_searched: NDArray[np.bool_] = np.any(entries.arranged[len(accelerator.levels) :], axis=1)
    return PointTables(
        fixed=entries.fixed,
        fixed_parallel=np.maximum(entries.fixed[len(accelerator.levels) :], 1).prod(axis=1, dtype=np.int64),
        primes=np.array(primes, np.int64).reshape(-1, 7),
        slots=np.array(slots, np.int64),
        binomials=np.array([[math.comb(n, k) for k in range(columns)] for n in range(most)], np.int64),
        most_parallel=np.array([x * y for x, y in most_parallel], np.int64),
        order_free=entries.order_searched,
        order_key=entries.order_key,
        spatial_order_free=spatial_searched,
        spatial_order_key=entries.spatial_order_key,
        side_free=two_sided,
        on_y=entries.on_y,
        keep_free=entries.keep_free,
        rules=pack_rules(space.workload, accelerator),
        min_used_macs=entries.min_used_macs,
    )


def draw_tables(tables: PointTables, point: Point) -> DrawTables:
    """What can be drawn without too much parallelism."""
    levels = len(tables.most_parallel)
    choices: list[list[int]] = []
    first = [0]
    for _, prime, exponent, slot, parts, spatial, _ in tables.primes.tolist():
        open_levels = (tables.slots[slot : slot + spatial] - levels).tolist()
        for rank, ranks, factors in _spatial_choices(prime, exponent, parts, tables.most_parallel[open_levels]):
            choices.append([rank, ranks] + [1] * levels)
            for level, factor in zip(open_levels, factors, strict=True):
                choices[-1][FACTORS + level] = factor
        first.append(len(choices))
    radices = np.maximum(tables.most_parallel, tables.fixed_parallel) + 1
    strides = np.zeros(levels, np.int64)
    size = 1
    for level in sorted({slot - levels for slot in tables.slots.tolist() if slot >= levels}, key=radices.__getitem__):
        if size * int(radices[level]) <= MOST_STATES:
            strides[level] = size
            size *= int(radices[level])
    draws = DrawTables(
        first=np.array(first, np.int64),
        choices=np.array(choices, np.int64).reshape(-1, FACTORS + levels),
        strides=strides,
        radices=radices,
        completions=np.zeros((len(first), size)),
        share=0.0,
    )
    share = count_completions(tables, draws, point) / tables.primes[:, COUNT].prod(dtype=np.float64)
    return draws._replace(share=float(share))


def _compositions(total: int, parts: int) -> int:
    return math.comb(total + parts - 1, total) if parts else int(total == 0)


def _spatial_choices(
    prime: int, exponent: int, parts: int, most: Sequence[int]
) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """What the spatial slots, which come first, can take of a power of a prime.

    Yields:
        the first rank of the compositions in which they take it, the number of these, and the factors.
    """
    if not len(most):
        ranks = _compositions(exponent, parts)
        if ranks:
            yield 0, ranks, ()
        return
    rank = 0
    for taken in range(exponent + 1):
        if prime**taken <= most[0]:
            for first, ranks, factors in _spatial_choices(prime, exponent - taken, parts - 1, most[1:]):
                yield rank + first, ranks, (prime**taken, *factors)
        rank += _compositions(exponent - taken, parts - 1)


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
    current.keep[:] = space.entries.keep
    return point, current
