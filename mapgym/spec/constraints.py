"""Constraints: what a user forbids or prescribes, on top of what the hardware can run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from mapgym.errors import SpecificationError, positive_int, require_keys, suggest
from mapgym.errors.text import quoted
from mapgym.spec.roles import ROLES, names_of

if TYPE_CHECKING:
    from mapgym.spec.accelerator import Accelerator
    from mapgym.spec.workload import Workload

_FACTOR_KINDS = ("temporal", "spatial", "spatial_x", "spatial_y")
ALL = "all"
"""A factor that is the bound of its dim, whichever that is."""
OTHERS = "*"
"""In an order: the dims that it does not name, in any order."""

Factor = int | str
"""A factor: the number, "all", or the numbers that it may be: "<=4", ">=2" or "2..4"."""


@dataclass(frozen=True)
class Constraints:
    """Restrictions of a map space; the default restricts nothing.

    Attributes:
        factors: level name -> dim -> kind -> factor; a kind left out stays free. Kinds are "temporal" and "spatial",
            and "spatial_x" and "spatial_y" for what lies on one mesh side, where a dim lies on one of them. A factor
            is a number, "all" (the bound of the dim), or a range: "<=4", ">=2", "2..4".
        orders: level name -> dims of its temporal loops, innermost first. "*" stands for the dims that are not named,
            in any order; without it they follow, outside of those named, in the order of the workload. It holds also
            where the order axis is not searched.
        spatial_orders: the same for the spatial loops on each mesh side, where their order counts
            (``Accelerator.spatial_order_counts``).
        parallel_dims: dims that may have spatial factors, for all levels or as level name -> dims (levels left out
            may use any dim); None allows all dims everywhere.
        parallel_x, parallel_y: level name -> dims that may lie on that mesh side; levels left out may use any dim.
        keep, bypass: level name -> tensors that it keeps, and that it does not keep, whether or not bypass is
            searched. ``operands`` and ``outputs`` stand for all tensors of that role.
        min_utilization: least share of the MAC units that a mapping uses (product of its spatial factors over the
            number of units), from 0 to 1.
    """

    factors: Mapping[str, Mapping[str, Mapping[str, Factor]]] = field(default_factory=dict)
    orders: Mapping[str, Sequence[str]] = field(default_factory=dict)
    parallel_dims: Sequence[str] | Mapping[str, Sequence[str]] | None = None
    min_utilization: float = 0.0
    spatial_orders: Mapping[str, Sequence[str]] = field(default_factory=dict)
    parallel_x: Mapping[str, Sequence[str]] = field(default_factory=dict)
    parallel_y: Mapping[str, Sequence[str]] = field(default_factory=dict)
    keep: Mapping[str, Sequence[str]] = field(default_factory=dict)
    bypass: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "factors", _read_factors(self.factors))
        for key in (*_DIMS_BY_LEVEL, *_TENSORS_BY_LEVEL):
            what = "tensor" if key in _TENSORS_BY_LEVEL else "dim"
            read = {
                level: _names(names, f"{key} of {quoted(level)}", what)
                for level, names in _items(getattr(self, key), key)
            }
            object.__setattr__(self, key, read)
        allowed = self.parallel_dims
        if isinstance(allowed, Mapping):
            by_level = {
                str(level): _names(dims, f"parallel_dims of {quoted(level)}") for level, dims in allowed.items()
            }
            object.__setattr__(self, "parallel_dims", by_level)
        elif allowed is not None:
            object.__setattr__(self, "parallel_dims", _names(allowed, "parallel_dims"))
        for level in self.keep:
            both = [name for name in self.keep[level] if name in self.bypass.get(level, ())]
            if both:
                raise SpecificationError(
                    f"constraints: {quoted(level)} is to keep and to bypass {quoted(both[0])}; remove it from one of "
                    "keep and bypass"
                )
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

    def may_lie_on(self, level: str, dim: str) -> tuple[bool, bool]:
        """Whether ``parallel_x`` lets a spatial factor of a dim lie on X at a level, and ``parallel_y`` on Y."""
        return dim in self.parallel_x.get(level, (dim,)), dim in self.parallel_y.get(level, (dim,))

    def kept(self, workload: Workload) -> dict[tuple[str, str], bool]:
        """(level, tensor) -> whether it is to be kept, for those of which that is said, by the names of a workload."""
        tensors = [(tensor.name, tensor.is_output) for tensor in workload.tensors]
        found: dict[tuple[str, str], bool] = {}
        for wanted, by_level in ((True, self.keep), (False, self.bypass)):
            for level, words in by_level.items():
                for name in names_of(words, tensors):
                    if found.setdefault((level, name), wanted) != wanted:
                        raise SpecificationError(
                            f"constraints: {quoted(level)} is to keep and to bypass {quoted(name)}; remove it from one "
                            "of keep and bypass"
                        )
        return found

    @property
    def dims(self) -> tuple[str, ...]:
        """All dims that are named, each once."""
        allowed = self.parallel_dims
        tables = [self.factors, *(getattr(self, key) for key in _DIMS_BY_LEVEL)]
        tables += [allowed] if isinstance(allowed, Mapping) else [{"": allowed or ()}]
        named = (dim for table in tables for dims in table.values() for dim in dims)
        return tuple(dim for dim in dict.fromkeys(named) if dim != OTHERS)

    def for_dims(self, dims: Sequence[str]) -> Constraints:
        """The constraints without what they say of other dims, for a layer of a network that does not have those."""

        def of(table: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
            return {level: [dim for dim in names if dim in dims or dim == OTHERS] for level, names in table.items()}

        allowed = self.parallel_dims
        if isinstance(allowed, Mapping):
            allowed = of(allowed)
        elif allowed is not None:
            allowed = [dim for dim in allowed if dim in dims]
        changed: dict[str, Any] = {key: of(getattr(self, key)) for key in _DIMS_BY_LEVEL}
        changed["factors"] = {
            level: {dim: kinds for dim, kinds in entry.items() if dim in dims} for level, entry in self.factors.items()
        }
        return replace(self, parallel_dims=allowed, **changed)

    def check_names(self, workload: Workload, accelerator: Accelerator) -> None:
        """Raises SpecificationError when a level, dim or tensor does not exist, naming the nearest one that does."""
        by_level = self.parallel_dims if isinstance(self.parallel_dims, Mapping) else {}
        named: dict[str, Mapping[str, Sequence[str]]] = {
            "factors": {level: tuple(entry) for level, entry in self.factors.items()},
            "parallel_dims": by_level,
            **{key: getattr(self, key) for key in (*_DIMS_BY_LEVEL, *_TENSORS_BY_LEVEL)},
        }
        for key, entries in named.items():
            for level, names in entries.items():
                if level not in accelerator.level_names:
                    raise SpecificationError(
                        f"constraints: {key} names the level {quoted(level)}, which accelerator "
                        f"{quoted(accelerator.name)} does "
                        f"not have; {suggest(level, accelerator.level_names)}"
                    )
                if key in _TENSORS_BY_LEVEL:
                    known = [tensor.name for tensor in workload.tensors]
                    _check_known(names, [*known, *ROLES], known, "tensor", workload, f"{key} of {quoted(level)}")
                else:
                    dims = [dim for dim in names if dim != OTHERS or key not in _ORDERS]
                    _check_known(dims, workload.dims, workload.dims, "dim", workload, f"{key} of {quoted(level)}")
        if self.parallel_dims is not None and not isinstance(self.parallel_dims, Mapping):
            _check_known(self.parallel_dims, workload.dims, workload.dims, "dim", workload, "parallel_dims")

    def to_dict(self) -> dict[str, object]:
        """A plain, YAML- and JSON-able form that :meth:`from_dict` reads back."""
        data: dict[str, object] = {}
        if self.factors:
            data["factors"] = {s: {d: dict(kinds) for d, kinds in entry.items()} for s, entry in self.factors.items()}
        for key in _DIMS_BY_LEVEL:
            if getattr(self, key):
                data[key] = {level: list(dims) for level, dims in getattr(self, key).items()}
            if key == "orders" and isinstance(self.parallel_dims, Mapping):
                data["parallel_dims"] = {level: list(dims) for level, dims in self.parallel_dims.items()}
            elif key == "orders" and self.parallel_dims is not None:
                data["parallel_dims"] = list(self.parallel_dims)
        for key in _TENSORS_BY_LEVEL:
            if getattr(self, key):
                data[key] = {level: list(names) for level, names in getattr(self, key).items()}
        if self.min_utilization:
            data["min_utilization"] = self.min_utilization
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, object], where: str = "constraints") -> Constraints:
        """Builds constraints from their plain form, as YAML gives it.

        Args:
            data: any of the attributes of the class, as they are described there.
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


_ORDERS = ("orders", "spatial_orders")
_DIMS_BY_LEVEL = (*_ORDERS, "parallel_x", "parallel_y")
_TENSORS_BY_LEVEL = ("keep", "bypass")


def factor_range(factor: Factor, bound: int) -> tuple[int, int]:
    """The least and the most that a factor of a dim may be.

    Args:
        factor: as ``Constraints.factors`` holds it.
        bound: of the dim.

    Returns:
        both the same number for one that is fixed; a range may reach beyond the bound.
    """
    if isinstance(factor, int):
        return factor, factor
    if factor == ALL:
        return bound, bound
    if factor.startswith("<="):
        return 1, int(factor[2:])
    if factor.startswith(">="):
        return int(factor[2:]), max(bound, int(factor[2:]))
    least, most = factor.split("..")
    return int(least), int(most)


def _items(value: object, what: str) -> list[tuple[str, object]]:
    if not isinstance(value, Mapping):
        raise SpecificationError(f"constraints: {what} is {quoted(value)}; give a mapping of names")
    return [(str(key), entry) for key, entry in value.items()]


def _names(value: object, what: str, kind: str = "dim") -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise SpecificationError(f"constraints: {what} is {quoted(value)}; give a list of {kind}s")
    names = tuple(map(str, value))
    if len(set(names)) != len(names):
        raise SpecificationError(f"constraints: {what} names a {kind} twice; name each {kind} once")
    return names


def _read_factors(factors: object) -> dict[str, dict[str, dict[str, Factor]]]:
    read: dict[str, dict[str, dict[str, Factor]]] = {}
    for level, dims in _items(factors, "factors"):
        read[level] = {}
        for dim, kinds in _items(dims, f"factors of {quoted(level)}"):
            where = f"factors of {quoted(level)}, dim {quoted(dim)}"
            entry = dict(_items(kinds, where))
            require_keys(entry, _FACTOR_KINDS, f"constraints: {where}")
            read[level][dim] = {
                kind: _read_factor(number, f"constraints: {where}: {kind}") for kind, number in entry.items()
            }
    return read


_RANGE = re.compile(r"(?:(?P<sign><=|>=)\s*(?P<limit>\d{1,12})|(?P<least>\d{1,12})\s*\.\.\s*(?P<most>\d{1,12}))")


def _read_factor(value: object, where: str) -> Factor:
    """A factor in the form in which it is kept."""
    if not isinstance(value, str):
        return positive_int(value, where)
    text = value.strip()
    if text == ALL:
        return ALL
    found = _RANGE.fullmatch(text)
    if found is None:
        raise SpecificationError(
            f'{where} is {quoted(value)}; give a whole number of at least 1, "{ALL}", or a range such as "<=4", ">=2" '
            'or "2..4"'
        )
    if found["sign"]:
        return f"{found['sign']}{positive_int(int(found['limit']), where)}"
    least, most = positive_int(int(found["least"]), where), positive_int(int(found["most"]), where)
    if least > most:
        raise SpecificationError(f"{where} is {quoted(value)}, which holds no number; give the smaller number first")
    return least if least == most else f"{least}..{most}"


def _check_known(
    names: Sequence[str], known: Sequence[str], shown: Sequence[str], kind: str, workload: Workload, what: str
) -> None:
    for name in names:
        if name not in known:
            raise SpecificationError(
                f"constraints: {what} names the {kind} {quoted(name)}, which workload {quoted(workload.name)} does not "
                f"have; {suggest(name, shown)}"
            )
