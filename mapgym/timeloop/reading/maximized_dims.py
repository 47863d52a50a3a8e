"""``maximize_dims`` of v0.4: factors that are as large as they can be together."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.mapping.mapping import divisors
from mapgym.spec.workload import Workload


def parse_maximized(data: Any, workload: Workload, where: str) -> list[list[str]]:
    """The lists of dims to maximise, one after the other; a plain list of dims is one of them."""
    if not data:
        return []
    if not isinstance(data, list) or len({isinstance(entry, list) for entry in data}) > 1:
        raise SpecificationError(f"{where}: maximize_dims is {quoted(data)}; give lists of dims")
    lists = [list(map(str, entry)) for entry in data] if isinstance(data[0], list) else [list(map(str, data))]
    return [[dim for dim in dims if dim in workload.dims] for dims in lists]


def maximize(bounds: Sequence[int], capacity: int) -> tuple[int, ...]:
    """Divisors of some numbers whose product is the largest that is at most a capacity.

    Of several such, the one with the largest first divisor, then the largest second one, and so on.
    """

    @functools.cache
    def best(first: int, room: int) -> tuple[int, tuple[int, ...]]:
        if first == len(bounds):
            return 1, ()
        options = []
        for number in divisors(bounds[first]):
            if number <= room:
                product, others = best(first + 1, room // number)
                options.append((number * product, (number, *others)))
        return max(options)

    return best(0, max(1, capacity))[1]
