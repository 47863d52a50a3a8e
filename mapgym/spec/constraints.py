"""Constraints: what a user forbids or prescribes, on top of what the hardware can run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from mapgym.errors import SpecificationError, positive_int, require_keys, suggest
from mapgym.errors.text import quoted

if TYPE_CHECKING:
    from mapgym.spec.accelerator import Accelerator
    from mapgym.spec.workload import Workload

_FACTOR_KINDS = ("temporal", "spatial")


@dataclass(frozen=True)
class Constraints:
    """Restrictions of a map space; the default restricts nothing.

    Attributes:
        factors: level name -> dim -> {"temporal": n, "spatial": n}; a kind left out stays free.
        orders: level name -> dims of its temporal loops, innermost first; dims left out follow, outside of those
            named, in the order of the workload. It holds also where the order axis is not searched.
        parallel_dims: dims that may have spatial factors, for all levels or as level name -> dims (levels left out
            may use any dim); None allows all dims everywhere.
        min_utilization: least share of the MAC units that a mapping uses (product of its spatial factors over the
            number of units), from 0 to 1.
    """

    factors: Mapping[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)
    orders: Mapping[str, Sequence[str]] = field(default_factory=dict)
    parallel_dims: Sequence[str] | Mapping[str, Sequence[str]] | None = None
    min_utilization: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "factors", _read_factors(self.factors))
        orders = {level: _names(dims, f"orders of {quoted(level)}") for level, dims in _items(self.orders, "orders")}
        object.__setattr__(self, "orders", orders)
        allowed = self.parallel_dims
        if isinstance(allowed, Mapping):
            by_level = {
                str(level): _names(dims, f"parallel_dims of {quoted(level)}") for level, dims in allowed.items()
            }
            object.__setattr__(self, "parallel_dims", by_level)
        elif allowed is not None:
            object.__setattr__(self, "parallel_dims", _names(allowed, "parallel_dims"))
        share = self.min_utilization
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0.0 <= share <= 1.0:
            raise SpecificationError(f"constraints: min_utilization is {quoted(share)}; give a number from 0 to 1")

    def __hash__(self) -> int:
        return hash(repr(self.to_dict()))

    def may_be_parallel(self, level: str, dim: str) -> bool:
        """Whether ``parallel_dims`` lets a dim have a spatial factor at a level."""
        if isinstance(self.parallel_dims, Mapping):
            return dim in self.parallel_dims.get(level, (dim,))
        return self.parallel_dims is None or dim in self.parallel_dims

    def check_names(self, workload: Workload, accelerator: Accelerator) -> None:
        """Raises SpecificationError when a level or a dim does not exist, naming the nearest one that does."""
        by_level = self.parallel_dims if isinstance(self.parallel_dims, Mapping) else {}
        named: dict[str, Mapping[str, Sequence[str]]] = {
            "factors": {level: tuple(entry) for level, entry in self.factors.items()},
            "orders": self.orders,
            "parallel_dims": by_level,
        }
        for key, entries in named.items():
            for level, dims in entries.items():
                if level not in accelerator.level_names:
                    raise SpecificationError(
                        f"constraints: {key} names the level {quoted(level)}, which accelerator "
                        f"{quoted(accelerator.name)} does "
                        f"not have; {suggest(level, accelerator.level_names)}"
                    )
                _check_dims(dims, workload, f"{key} of {quoted(level)}")
        if self.parallel_dims is not None and not isinstance(self.parallel_dims, Mapping):
            _check_dims(self.parallel_dims, workload, "parallel_dims")

    def to_dict(self) -> dict[str, object]:
        """A plain, YAML- and JSON-able form that :meth:`from_dict` reads back."""
        data: dict[str, object] = {}
        if self.factors:
            data["factors"] = {s: {d: dict(kinds) for d, kinds in entry.items()} for s, entry in self.factors.items()}
        if self.orders:
            data["orders"] = {level: list(dims) for level, dims in self.orders.items()}
        if isinstance(self.parallel_dims, Mapping):
            data["parallel_dims"] = {level: list(dims) for level, dims in self.parallel_dims.items()}
        elif self.parallel_dims is not None:
            data["parallel_dims"] = list(self.parallel_dims)
        if self.min_utilization:
            data["min_utilization"] = self.min_utilization
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, object], where: str = "constraints") -> Constraints:
        """Builds constraints from their plain form, as YAML gives it.

        Args:
            data: any of the keys ``factors``, ``orders``, ``parallel_dims`` and ``min_utilization``; see the
                attributes of the class.
            where: file and key, for error messages.

        Raises:
            SpecificationError: unknown key, or a value of the wrong kind.
        """
        if not isinstance(data, Mapping):
            raise SpecificationError(
                f"{where} is {quoted(data)}; give a mapping with keys such as factors or parallel_dims"
            )
        require_keys(map(str, data), [entry.name for entry in fields(cls)], where)
        given = {str(key): value for key, value in data.items() if value is not None}
        try:
            return cls(**given)  # type: ignore[arg-type]
        except SpecificationError as error:
            raise SpecificationError(f"{where}: {str(error).removeprefix('constraints: ')}") from None


def _items(value: object, what: str) -> list[tuple[str, object]]:
    if not isinstance(value, Mapping):
        raise SpecificationError(f"constraints: {what} is {quoted(value)}; give a mapping of names")
    return [(str(key), entry) for key, entry in value.items()]


def _names(value: object, what: str) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise SpecificationError(f"constraints: {what} is {quoted(value)}; give a list of dims")
    names = tuple(map(str, value))
    if len(set(names)) != len(names):
        raise SpecificationError(f"constraints: {what} names a dim twice; name each dim once")
    return names


def _read_factors(factors: object) -> dict[str, dict[str, dict[str, int]]]:
    read: dict[str, dict[str, dict[str, int]]] = {}
    for level, dims in _items(factors, "factors"):
        read[level] = {}
        for dim, kinds in _items(dims, f"factors of {quoted(level)}"):
            where = f"factors of {quoted(level)}, dim {quoted(dim)}"
            entry = dict(_items(kinds, where))
            require_keys(entry, _FACTOR_KINDS, f"constraints: {where}")
            read[level][dim] = {
                kind: positive_int(number, f"constraints: {where}: {kind}") for kind, number in entry.items()
            }
    return read


def _check_dims(dims: Sequence[str], workload: Workload, what: str) -> None:
    for dim in dims:
        if dim not in workload.dims:
            raise SpecificationError(
                f"constraints: {what} names the dim {quoted(dim)}, which workload {quoted(workload.name)} does not "
                f"have; {suggest(dim, workload.dims)}"
            )
