"""How large the tasks of an environment may be, which is all that its spaces are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import zip_longest
from typing import Any

from mapgym.errors import SpecificationError, require_keys
from mapgym.errors.text import quoted
from mapgym.mapping.mapping import divisors
from mapgym.mapspace.size import prime_exponents
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.workload import Workload


@dataclass(frozen=True)
class Sizes:
    """The most of everything that a task of an environment may have.

    Entries by dim and by level belong to the dims of a workload in its order, and to levels from the innermost.

    Attributes:
        levels, dims, tensors: numbers of them.
        divisors: of a bound.
        primes: int[dims], prime factors of a bound, each as often as it divides it.
        distinct_primes: int[dims], different prime factors of a bound.
        fanout_x, fanout_y: bool[levels], whether a level may have fan-out on this mesh side.
    """

    levels: int
    dims: int
    tensors: int
    divisors: int
    primes: tuple[int, ...]
    distinct_primes: tuple[int, ...]
    fanout_x: tuple[bool, ...]
    fanout_y: tuple[bool, ...]

    @classmethod
    def of(cls, workloads: Iterable[Workload], accelerators: Iterable[Accelerator]) -> Sizes:
        """The sizes of all tasks of some workloads on some accelerators."""
        layers, machines = list(workloads), list(accelerators)
        exponents = [[prime_exponents(bound) for bound in layer.bounds] for layer in layers]
        return cls(
            max((len(machine.levels) for machine in machines), default=0),
            max((len(layer.dims) for layer in layers), default=0),
            max((len(layer.tensors) for layer in layers), default=0),
            max((len(divisors(bound)) for layer in layers for bound in layer.bounds), default=0),
            _most([[sum(of_bound.values()) for of_bound in of_layer] for of_layer in exponents]),
            _most([[len(of_bound) for of_bound in of_layer] for of_layer in exponents]),
            _most([[fanout > 1 for fanout in machine.fanout_x] for machine in machines]),
            _most([[fanout > 1 for fanout in machine.fanout_y] for machine in machines]),
        )

    @classmethod
    def joint(cls, several: Iterable[Sizes]) -> Sizes:
        """The sizes that have room for what any of several have."""
        found = list(several)
        numbers = [max(getattr(one, name) for one in found) for name in ("levels", "dims", "tensors", "divisors")]
        rows = ("primes", "distinct_primes", "fanout_x", "fanout_y")
        return cls(*numbers, *(_most([getattr(one, name) for one in found]) for name in rows))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Sizes:
        """Reads the plain form, the attributes by their names; raises SpecificationError if it is another one."""
        names = [field.name for field in fields(cls)]
        require_keys(map(str, data), names, "sizes")
        if missing := [name for name in names if name not in data]:
            raise SpecificationError(f"sizes lacks {', '.join(missing)}; take it from env.unwrapped.sizes")
        numbers = [data[name] for name in names[:4]]
        rows = [data[name] for name in names[4:]]
        if not all(type(number) is int and number > 0 for number in numbers) or not all(
            isinstance(row, Sequence) and len(row) == data["dims" if k < 2 else "levels"] for k, row in enumerate(rows)
        ):
            raise SpecificationError(f"sizes is {quoted(dict(data))}; take it from env.unwrapped.sizes")
        return cls(*numbers, *(tuple(map(int, row)) for row in rows[:2]), *(tuple(map(bool, row)) for row in rows[2:]))

    def to_dict(self) -> dict[str, Any]:
        """The plain form."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def has_room_for(self, other: Sizes) -> bool:
        """Whether all that has other sizes fits."""
        return Sizes.joint([self, other]) == self


def _most(rows: Sequence[Sequence[Any]]) -> tuple[Any, ...]:
    """The most in each column of rows of any lengths."""
    return tuple(max(entry for entry in column if entry is not None) for column in zip_longest(*rows))


ALL_SIZES = Sizes(
    levels=5,
    dims=7,
    tensors=3,
    divisors=48,
    primes=(7, 14, 14, 14, 4, 4, 14),
    distinct_primes=(2, 3, 3, 3, 1, 1, 3),
    fanout_x=(True, True, True, True, False),
    fanout_y=(True, True, True, True, False),
)
"""What ``sizes="all"`` stands for: room for every task of the catalog, and for most random ones.

These are numbers, not what the catalog has today, so that a policy goes on fitting when the catalog grows.
"""
