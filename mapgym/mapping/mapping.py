"""Mappings: one (readable) and many (arrays).

Axes of every array: level (index 0 is the innermost), dim or tensor, in the order of the workload. A level's
spatial loops are inside its temporal loops and replicate the next inner level; both belong to the level's tile.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping as AbcMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, overload

import numpy as np
from numpy.typing import NDArray

from mapgym.errors import SpecificationError, require_keys, suggest
from mapgym.errors.text import quoted
from mapgym.system.memory import require_memory

if TYPE_CHECKING:
    from typing import Self

    from mapgym.spec.accelerator import Accelerator
    from mapgym.spec.workload import Workload

_DTYPES = {
    "temporal": np.int32,
    "spatial": np.int32,
    "order": np.int8,
    "spatial_order": np.int8,
    "spatial_split": np.int8,
    "keep": np.bool_,
}
ARRAYS = tuple(_DTYPES)
"""Names of the arrays of a mapping, in the order in which the compiled kernels take them."""


@dataclass(frozen=True, eq=False)
class _Arrays:
    """What Mapping and MappingBatch share; a batch has one leading axis more.

    Attributes:
        temporal: int32[..., level, dim] temporal tile factors.
        spatial: int32[..., level, dim] spatial (parallel) factors.
        order: int8[..., level, dim] dim indices of the temporal loops, innermost first.
        spatial_order: int8[..., level, dim] dim indices of the spatial loops, innermost first.
        spatial_split: int8[..., level] how many entries of ``spatial_order`` lie on the X side of the mesh; the
            others lie on Y.
        keep: bool[..., level, tensor] which tensors a level stores; the others bypass it.
        dims, levels, tensors: names of the axes.

    Raises:
        SpecificationError: arrays of wrong shapes, values that their types cannot hold, an order that names a dim that
            there is not, or a split that is none. That an order is a permutation, and what the factors are, is
            legality, which is judged when a mapping is used.
    """

    _leading_axes: ClassVar[int]

    temporal: NDArray[np.int32]
    spatial: NDArray[np.int32]
    order: NDArray[np.int8]
    spatial_order: NDArray[np.int8]
    spatial_split: NDArray[np.int8]
    keep: NDArray[np.bool_]
    dims: tuple[str, ...]
    levels: tuple[str, ...]
    tensors: tuple[str, ...]

    @property
    def names(self) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """Names of the dims, levels and tensors: which task the arrays belong to."""
        return (self.dims, self.levels, self.tensors)

    def arrays(
        self,
    ) -> tuple[
        NDArray[np.int32], NDArray[np.int32], NDArray[np.int8], NDArray[np.int8], NDArray[np.int8], NDArray[np.bool_]
    ]:
        """The six arrays, in the order of ``ARRAYS``."""
        return (self.temporal, self.spatial, self.order, self.spatial_order, self.spatial_split, self.keep)

    def __post_init__(self) -> None:
        for name in ("dims", "levels", "tensors"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name, dtype in _DTYPES.items():
            object.__setattr__(self, name, _converted(name, getattr(self, name), dtype))
        leading = self.temporal.shape[: self._leading_axes]
        by_level = (*leading, len(self.levels))
        expected = {
            **dict.fromkeys(("temporal", "spatial", "order", "spatial_order"), (*by_level, len(self.dims))),
            "spatial_split": by_level,
            "keep": (*by_level, len(self.tensors)),
        }
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise SpecificationError(
                    f"mapping array {quoted(name)} has shape {getattr(self, name).shape}, expected {shape}: "
                    f"{'mappings, ' if leading else ''}{len(self.levels)} levels, and {len(self.dims)} dims or "
                    f"{len(self.tensors)} tensors; all arrays describe the same mappings"
                )
        self._require_indices()

    def _require_indices(self) -> None:
        """Raises SpecificationError unless what is used as an index is one; arrays can be written to at any time."""
        for name, most in (
            ("order", len(self.dims) - 1),
            ("spatial_order", len(self.dims) - 1),
            ("spatial_split", len(self.dims)),
        ):
            array = getattr(self, name)
            if array.size and (array.min() < 0 or array.max() > most):
                raise SpecificationError(
                    f"mapping array {quoted(name)} has values out of range; give 0 to {most}, for {len(self.dims)} dims"
                )

    @classmethod
    def _made(cls, arrays: Iterable[NDArray[Any]], names: Sequence[tuple[str, ...]]) -> Self:
        """Of arrays that are right for sure.

        They are not looked at again: searchers make small batches so often that looking takes as long as pricing.
        """
        made = object.__new__(cls)
        made.__dict__.update(zip(ARRAYS, arrays, strict=True), dims=names[0], levels=names[1], tensors=names[2])
        return made


def _converted(name: str, values: Any, dtype: Any) -> NDArray[Any]:
    """The array as kernels take it: itself, or a copy in the right type and layout that they may write to."""
    if type(values) is np.ndarray and values.dtype == dtype and values.flags.carray:
        return values
    try:
        given = np.asarray(values)
    except (TypeError, ValueError, OverflowError):
        given = np.array(None)
    if given.dtype.kind in "biuf":
        with np.errstate(invalid="ignore"):
            converted = given.astype(dtype, order="C", subok=False)
        if np.array_equal(converted, given):
            return converted
    raise SpecificationError(
        f"mapping array {quoted(name)} has values that {np.dtype(dtype)} cannot hold; give whole numbers in its range "
        "(True and False for keep)"
    )


@dataclass(frozen=True, eq=False)
class Mapping(_Arrays):
    """One mapping of a workload onto an accelerator; see :class:`_Arrays` for the fields (no leading axis)."""

    _leading_axes = 0

    @classmethod
    def trivial(cls, workload: Workload, accelerator: Accelerator) -> Mapping:
        """All loops at the outermost level, nothing parallel, every tensor kept wherever it may be."""
        return MappingBatch.trivial(workload, accelerator, 1)[0]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and self.names == other.names and self.batch() == other.batch()

    def __hash__(self) -> int:
        return hash((self.names, *(array.tobytes() for array in self.arrays())))

    def batch(self) -> MappingBatch:
        """A batch of one that shares this mapping's arrays."""
        return MappingBatch._made([array[None] for array in self.arrays()], self.names)

    def spatial_sides(self, level: int) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
        """Spatial loops (dim, factor > 1) of a level on X and on Y, innermost first."""
        sides: tuple[list[tuple[str, int]], list[tuple[str, int]]] = ([], [])
        for position, d in enumerate(self.spatial_order[level]):
            if self.spatial[level, d] > 1:
                sides[int(position >= self.spatial_split[level])].append((self.dims[d], int(self.spatial[level, d])))
        return sides

    spatial_axes = spatial_sides  # its former name

    def temporal_loops(self, level: int) -> list[tuple[str, int]]:
        """Temporal loops (dim, factor > 1) of a level, innermost first."""
        return [(self.dims[d], int(self.temporal[level, d])) for d in self.order[level] if self.temporal[level, d] > 1]

    def to_text(self) -> str:
        """The loop nest, outermost loop first, as architects write it."""
        self._require_indices()
        lines: list[str] = []
        depth = 0
        for level in range(len(self.levels) - 1, -1, -1):
            kept = [name for name, kept in zip(self.tensors, self.keep[level], strict=True) if kept]
            lines.append(f"{'  ' * depth}{self.levels[level]} [{', '.join(kept) or 'keeps nothing'}]")
            for dim, factor in reversed(self.temporal_loops(level)):
                depth += 1
                lines.append(f"{'  ' * depth}for {dim} in 0..{factor}")
            x_loops, y_loops = self.spatial_sides(level)
            for side, loops in (("Y", y_loops), ("X", x_loops)):
                for dim, factor in reversed(loops):
                    depth += 1
                    lines.append(f"{'  ' * depth}parallel-for {dim} in 0..{factor} on {side}")
            depth += 1
        lines.append(f"{'  ' * depth}multiply-accumulate")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, object]:
        """A plain, YAML- and JSON-able form (levels outermost first) that :meth:`from_dict` reads back."""
        self._require_indices()
        levels = []
        for level in range(len(self.levels) - 1, -1, -1):
            x_loops, y_loops = self.spatial_sides(level)
            temporal = self.temporal_loops(level)
            levels.append(
                {
                    "level": self.levels[level],
                    "temporal": dict(temporal),
                    "order": [dim for dim, _ in temporal],
                    "spatial_x": dict(x_loops),
                    "spatial_y": dict(y_loops),
                    "spatial_order": [dim for dim, _ in x_loops + y_loops],
                    "keep": [name for name, kept in zip(self.tensors, self.keep[level], strict=True) if kept],
                }
            )
        return {"levels": levels}

    @classmethod
    def from_dict(
        cls,
        data: AbcMapping[str, object],
        workload: Workload,
        accelerator: Accelerator,
        where: str = "mapping",
    ) -> Mapping:
        """Builds a mapping from its plain form.

        Args:
            data: ``levels``, a list with one entry per storage level, each with the keys ``level`` (its name),
                ``temporal``, ``spatial_x``, ``spatial_y`` (dim: factor), ``order`` and ``spatial_order`` (dims,
                innermost first; dims left out follow in the order of the workload) and ``keep`` (tensor names; all
                when left out).
            workload, accelerator: what it is a mapping of.
            where: file, for error messages.

        Raises:
            SpecificationError: unknown level, dim, tensor or key; a factor below 1; a level missing or given twice.
                Products of factors and capacities are legality, which the cost model judges.
        """
        entries = data.get("levels") if isinstance(data, AbcMapping) else None
        if not isinstance(entries, Sequence) or isinstance(entries, str):
            raise SpecificationError(f"{where}: no list 'levels' found; give one entry for each storage level")
        mapping = cls.trivial(workload, accelerator)
        mapping.temporal[:] = 1
        seen: set[int] = set()
        for entry in entries:
            if not isinstance(entry, AbcMapping) or "level" not in entry:
                raise SpecificationError(f"{where}: a level is {quoted(entry)}; give a mapping with the key level")
            name = str(entry["level"])
            try:
                level = accelerator.level_index(name)
            except SpecificationError as error:
                raise SpecificationError(f"{where}: {error}") from None
            if level in seen:
                raise SpecificationError(f"{where}: level {quoted(name)} is given twice; remove one")
            seen.add(level)
            mapping._read_level(level, entry, f"{where}: level {quoted(name)}")
        missing = [name for s, name in enumerate(accelerator.level_names) if s not in seen]
        if missing:
            raise SpecificationError(f"{where}: level {quoted(missing[0])} is missing; add an entry for it")
        return mapping

    def _read_level(self, level: int, entry: AbcMapping[str, object], where: str) -> None:
        require_keys(
            map(str, entry), ("level", "temporal", "order", "spatial_x", "spatial_y", "spatial_order", "keep"), where
        )
        temporal, x_loops, y_loops = (
            self._factors(entry.get(key), f"{where}: {key}") for key in ("temporal", "spatial_x", "spatial_y")
        )
        both = x_loops.keys() & y_loops.keys()
        if both:
            dim = self.dims[min(both)]
            raise SpecificationError(
                f"{where}: dim {quoted(dim)} is on both X and Y; a dim goes on one side of a level's mesh"
            )
        for d, factor in temporal.items():
            self.temporal[level, d] = factor
        for d, factor in (x_loops | y_loops).items():
            self.spatial[level, d] = factor
        self.order[level] = self._permutation(entry.get("order"), f"{where}: order")
        spatial = self._permutation(entry.get("spatial_order"), f"{where}: spatial_order")
        on_y = [d for d in spatial if d in y_loops]
        on_x = [d for d in spatial if d in x_loops]
        rest = [d for d in spatial if d not in x_loops and d not in y_loops]
        self.spatial_order[level] = on_x + on_y + rest
        self.spatial_split[level] = len(on_x)
        if entry.get("keep") is not None:
            kept = entry["keep"]
            if not isinstance(kept, Sequence) or isinstance(kept, str):
                raise SpecificationError(f"{where}: keep is {quoted(kept)}; give a list of tensor names")
            for name in kept:
                if name not in self.tensors:
                    raise SpecificationError(
                        f"{where}: unknown tensor {quoted(name)}; {suggest(str(name), self.tensors)}"
                    )
            self.keep[level] = [name in kept for name in self.tensors]

    def _dim(self, dim: object, where: str) -> int:
        if dim not in self.dims:
            raise SpecificationError(f"{where}: unknown dim {quoted(dim)}; {suggest(str(dim), self.dims)}")
        return self.dims.index(str(dim))

    def _factors(self, factors: object, where: str) -> dict[int, int]:
        if factors is None:
            return {}
        if not isinstance(factors, AbcMapping):
            raise SpecificationError(f"{where} is {quoted(factors)}; give dim: factor pairs")
        read = {}
        for dim, factor in factors.items():
            if isinstance(factor, bool) or not isinstance(factor, int) or not 1 <= factor < 2**31:
                raise SpecificationError(
                    f"{where}: the factor of {quoted(dim)} is {quoted(factor)}; give a whole number >= 1"
                )
            read[self._dim(dim, where)] = factor
        return read

    def _permutation(self, dims: object, where: str) -> list[int]:
        if dims is None:
            dims = ()
        if not isinstance(dims, Sequence):
            raise SpecificationError(f"{where} is {quoted(dims)}; give a list of dims, innermost first")
        given = [self._dim(dim, where) for dim in dims]
        if len(set(given)) != len(given):
            raise SpecificationError(f"{where} names a dim twice; each dim has one loop in a level")
        return given + [d for d in range(len(self.dims)) if d not in given]


@dataclass(frozen=True, eq=False)
class MappingBatch(_Arrays):
    """Many mappings of one workload onto one accelerator, as arrays with a leading axis of length n.

    Indexing with a number gives a :class:`Mapping`; with a slice, an index array or a mask, a batch.
    """

    _leading_axes = 1

    @classmethod
    def trivial(cls, workload: Workload, accelerator: Accelerator, n: int) -> MappingBatch:
        """A batch of n copies of :meth:`Mapping.trivial`, writable."""
        levels, dims, tensors = len(accelerator.levels), len(workload.dims), len(workload.tensors)
        names = tuple(tensor.name for tensor in workload.tensors)
        _require_room(n, levels, dims, tensors)
        temporal = np.ones((n, levels, dims), np.int32)
        temporal[:, -1] = workload.bounds
        order = np.empty((n, levels, dims), np.int8)
        order[:] = np.arange(dims)
        keep = np.ones((n, levels, tensors), np.bool_)
        for s, level in enumerate(accelerator.for_workload(workload).levels):
            if level.keep_only is not None:
                keep[:, s] = [name in level.keep_only for name in names]
        split = np.zeros((n, levels), np.int8)
        return cls._made(
            (temporal, np.ones_like(temporal), order, order.copy(), split, keep),
            (workload.dims, accelerator.level_names, names),
        )

    @classmethod
    def concatenate(cls, batches: Sequence[MappingBatch]) -> MappingBatch:
        """Joins batches of the same workload and accelerator, in order."""
        if not batches:
            raise SpecificationError("there are no batches to join; give at least one")
        first = batches[0]
        for batch in batches:
            if batch.names != first.names:
                raise SpecificationError("the batches are of different tasks; join mappings of one task only")
        return first._alike(
            [np.concatenate(arrays) for arrays in zip(*(batch.arrays() for batch in batches), strict=True)]
        )

    def __len__(self) -> int:
        return len(self.temporal)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, MappingBatch)
            and self.names == other.names
            and all(np.array_equal(getattr(self, name), getattr(other, name)) for name in ARRAYS)
        )

    __hash__ = None  # type: ignore[assignment]

    @overload
    def __getitem__(self, index: int | np.integer) -> Mapping: ...
    @overload
    def __getitem__(self, index: slice | NDArray | Sequence[int]) -> MappingBatch: ...
    def __getitem__(self, index: int | np.integer | slice | NDArray | Sequence[int]) -> Mapping | MappingBatch:
        arrays = [array[index] for array in self.arrays()]
        # What one-dimensional indices and steps of 1 give is a batch for sure.
        if isinstance(index, slice):
            plain = index.step in (None, 1)
        else:
            plain = isinstance(index, np.ndarray | list) and np.ndim(index) == 1
        if plain:
            return self._alike(arrays)
        if isinstance(index, int | np.integer) and not isinstance(index, bool):
            return Mapping._made(arrays, self.names)
        return MappingBatch(*arrays, *self.names)  # type: ignore[arg-type, call-arg]

    def __setitem__(self, rows: slice | NDArray | Sequence[int], others: MappingBatch) -> None:
        """Overwrites some mappings by those of another batch of the same task, in order."""
        arrays: tuple[NDArray[Any], ...] = self.arrays()
        for array, values in zip(arrays, others.arrays(), strict=True):
            array[rows] = values

    def __iter__(self) -> Iterator[Mapping]:
        return (self[i] for i in range(len(self)))

    def copy(self) -> MappingBatch:
        """A deep copy of the arrays."""
        return self._alike([array.copy() for array in self.arrays()])

    def blank(self, n: int) -> MappingBatch:
        """A batch of n mappings of the same task that holds anything, to be overwritten.

        Raises:
            SpecificationError: so many do not fit into memory.
        """
        _require_room(n, len(self.levels), len(self.dims), len(self.tensors))
        return self._alike([np.empty((n, *array.shape[1:]), array.dtype) for array in self.arrays()])

    def _alike(self, arrays: Sequence[NDArray[Any]]) -> MappingBatch:
        """A batch of the same task from arrays that are right for sure; see :meth:`_made`."""
        return MappingBatch._made(arrays, self.names)

    def used_macs(self) -> NDArray[np.int64]:
        """int64[n]: MAC units in use, the product of all spatial factors."""
        return np.prod(self.spatial.astype(np.int64), axis=(1, 2))


def _require_room(n: int, levels: int, dims: int, tensors: int) -> None:
    """Raises SpecificationError if a batch of n mappings does not fit into memory."""
    size = n * levels * (10 * dims + 1 + tensors)
    if size > 2**28:
        require_memory(size, f"a batch of {quoted(n)} mappings", "ask for fewer at a time")


def factor_products(batch: MappingBatch) -> NDArray[np.int64]:
    """int64[n, dim]: the product of all factors of each dim, which a legal mapping has equal to the bounds."""
    return np.prod(batch.temporal.astype(np.int64) * batch.spatial, axis=1)


def divisors(number: int) -> list[int]:
    """All divisors of a number, ascending."""
    small = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    return small + [number // d for d in reversed(small) if d * d != number]
