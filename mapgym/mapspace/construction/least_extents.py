"""How small the tiles of one dim can still be, by what has been decided; whether one completion makes all smallest.

The factors of a dim are decided in stages, level by level from the innermost: 2s is the parallel factor of level s, and
2s + 1 its tile factor. What is left of the bound says all that matters of the decisions before a stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class LeastExtents(NamedTuple):
    """What is known of one dim.

    Attributes:
        extents: int64[stage + 1, level, divisor] smallest extent at a level when a stage is next and so much is left of
            the bound; what can come up in no mapping has the extent so far.
        no_smallest: whether something can be left that no single completion makes smallest at all levels.
        parallel_rest: whether something can be left that takes a parallel factor that is not given.
    """

    extents: NDArray[np.int64]
    no_smallest: bool
    parallel_rest: bool


def least_extents(
    divisors: Sequence[int],
    choices: Sequence[Sequence[int]],
    level_factors: Sequence[int] | None,
    given: Sequence[int] | NDArray[np.int64],
    limited: Sequence[int],
) -> LeastExtents:
    """Works it out, from the last stage to the first.

    Args:
        divisors: of the bound, ascending.
        choices: for each stage, the indices of the factors that it may have.
        level_factors: products of both factors of each level, if these are the same in every mapping.
        given: for each stage, at least 0 if its factor is given and has its place on the mesh.
        limited: the levels that have a capacity.
    """
    index = {number: j for j, number in enumerate(divisors)}
    stages, levels, bound = len(choices), len(choices) // 2, divisors[-1]
    # What is left after each level, if that is the same in every mapping.
    known = None if level_factors is None else bound // np.cumprod(level_factors)
    extents = np.zeros((stages + 1, levels, len(divisors)), np.int64)
    extents[:, :] = bound // np.array(divisors)
    extents[:, -1] = bound
    steps: list[dict[int, list[tuple[int, int]]]] = [{} for _ in range(stages)]
    possible = {0}
    smallest, needs_none = {0: True}, {0: True}
    lattice, serial = [smallest], [needs_none]
    for stage in reversed(range(stages)):
        level = stage // 2
        following, smallest, needs_none = possible, {}, {}
        possible = set()
        for left, number in enumerate(divisors):
            found = []
            for j in choices[stage]:
                rest = index.get(number // divisors[j], -1) if number % divisors[j] == 0 else -1
                is_open = rest in following
                if known is not None and stage % 2:
                    is_open = is_open and divisors[rest] == known[level]
                if is_open:
                    found.append((j, rest))
            if not found:
                continue
            possible.add(left)
            steps[stage][left] = found
            later = extents[stage + 1][:, [rest for _, rest in found]]
            extents[stage, level:, left] = later[level:].min(axis=1)
            checked = [s for s in limited if s >= level]
            least = [all(extents[stage, s, left] == later[s, k] for s in checked) for k in range(len(found))]
            is_serial = [not (stage % 2 == 0 and j > 0 and given[stage] < 0) for j, _ in found]
            smallest[left] = any(
                least[k] and lattice[-1][rest] and serial[-1][rest] and is_serial[k]
                for k, (_, rest) in enumerate(found)
            )
            needs_none[left] = any(serial[-1][rest] and is_serial[k] for k, (_, rest) in enumerate(found))
        lattice.append(smallest)
        serial.append(needs_none)
    lattice.reverse()
    serial.reverse()
    reached = {len(divisors) - 1} & possible
    no_smallest = parallel_rest = False
    for stage in range(stages):
        no_smallest |= any(not lattice[stage][left] for left in reached)
        parallel_rest |= any(not serial[stage][left] for left in reached)
        reached = {rest for left in reached for _, rest in steps[stage][left]}
    return LeastExtents(extents, no_smallest, parallel_rest)
