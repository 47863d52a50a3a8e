"""Mappings as vectors of whole numbers, for black-box optimisers: one column for each independent choice.

A factor column is the rank of an ordered factorisation: for each prime of a group's product, the exponents given to
the group's slots are a composition, ranked lexicographically. An order column is the rank of a permutation (its
Lehmer code). mesh sides and kept tensors are one binary column each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.mapping import MappingBatch
from mapgym.mapspace.definition import Definition
from mapgym.mapspace.encoding_kernels import EXPONENT, SLOTS, CodeTables, decode_batch, encode_batch
from mapgym.mapspace.size import prime_exponents
from mapgym.spec.ranges import MAX_ARRANGED, MAX_WHOLE

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, eq=False)
class Code:
    """The columns of the encoding of a map space.

    Attributes:
        names: what each column codes, such as "factors of C" or "order of GlobalBuffer".
        sizes: int64[column] number of values of each column.
        tables: for the compiled kernels.
        definition: of the map space.
    """

    names: tuple[str, ...]
    sizes: NDArray[np.int64]
    tables: CodeTables
    definition: Definition

    def encode(self, batch: MappingBatch) -> NDArray[np.int64]:
        """int64[n, column]: the codes of mappings of the space in canonical form."""
        codes = np.zeros((len(batch), len(self.sizes)), np.int64)
        encode_batch(batch.arrays(), self.tables, codes)
        return codes

    def decode(self, codes: Any) -> MappingBatch:
        """The mappings of codes, int[n, column], not yet in canonical form.

        Raises:
            SpecificationError: wrong number of columns, or a value out of range.
        """
        try:
            numbers = np.array(codes)
            numbers = numbers.astype(np.int64, casting="same_kind" if numbers.size else "unsafe")
        except (TypeError, ValueError, OverflowError):
            raise SpecificationError(f"codes are {quoted(codes)}; give rows of whole numbers below nvec") from None
        if numbers.ndim != 2 or numbers.shape[1] != len(self.sizes):
            raise SpecificationError(
                f"codes have shape {numbers.shape}, expected (n, {len(self.sizes)}); give one column for each of nvec"
            )
        outside = (numbers < 0) | (numbers >= self.sizes)
        if outside.any():
            i, column = np.argwhere(outside)[0]
            raise SpecificationError(
                f"code {int(numbers[i, column])} in row {i} for {quoted(self.names[column])} is out of range; "
                f"give 0 to {int(self.sizes[column]) - 1}"
            )
        entries, levels = self.definition.entries, len(self.definition.accelerator.levels)
        batch = MappingBatch.trivial(self.definition.workload, self.definition.accelerator, len(numbers))
        batch.temporal[:] = np.maximum(entries.fixed[:levels], 1)
        batch.spatial[:] = np.maximum(entries.fixed[levels:], 1)
        batch.keep[:] = entries.keep
        decode_batch(batch.arrays(), self.tables, entries.on_y, numbers)
        return batch


def build_code(definition: Definition) -> Code:
    """Lays out the columns: factors by dim, then orders, spatial orders, mesh sides and kept tensors by level.

    Raises:
        SpecificationError: a column would have 2**62 values or more, or arrange more than 20 loops.
    """
    workload, accelerator, entries = definition.workload, definition.accelerator, definition.entries
    levels, dims = entries.order_key.shape
    names: list[str] = []
    sizes: list[int] = []

    def add(name: str, size: int) -> int:
        if size >= MAX_WHOLE:
            raise SpecificationError(f"the {name} have {size} values, too many for one column; fix some of them")
        names.append(name)
        sizes.append(size)
        return len(names) - 1

    rows: list[tuple[int, ...]] = []
    slots: list[int] = []
    for d, dim in enumerate(workload.dims):
        digits = []
        for group in entries.groups:
            if group.dim == d:
                parts = len(group.slots)
                for prime, exponent in prime_exponents(group.total).items():
                    count = math.comb(exponent + parts - 1, parts - 1)
                    digits.append((d, prime, exponent, len(slots), parts, count))
                slots += group.slots
        if digits:
            column = add(f"factors of {dim}", math.prod(digit[-1] for digit in digits))
            rows += [(column, *digit) for digit in digits]

    movable, spatial_movable = entries.fixed[:levels] != 1, entries.fixed[levels:] != 1
    order, spatial_order = np.full(levels, -1), np.full(levels, -1)
    ordered, spatial_ordered = movable & entries.arranged[:levels], spatial_movable & entries.arranged[levels:]
    for columns, loops, what in (
        (order, ordered, "order of"),
        (spatial_order, spatial_ordered, "spatial order of"),
    ):
        for s, level in enumerate(accelerator.level_names):
            arranged = int(loops[s].sum())
            if arranged > 1:
                if arranged > MAX_ARRANGED:
                    raise SpecificationError(
                        f"the {what} {level} arranges {arranged} loops, more than the {MAX_ARRANGED} that one column "
                        "can code; fix this order"
                    )
                columns[s] = add(f"{what} {level}", math.factorial(arranged))
    side = np.full((levels, dims), -1)
    keep = np.full(entries.keep.shape, -1)
    for s, level in enumerate(accelerator.level_names):
        for dim_index in np.flatnonzero(spatial_movable[s] & entries.side_free[s]):
            side[s, dim_index] = add(f"mesh side of {workload.dims[dim_index]} at {level}", 2)
    for s, level in enumerate(accelerator.level_names):
        for t in np.flatnonzero(entries.keep_free[s]):
            keep[s, t] = add(f"{workload.tensors[t].name} kept at {level}", 2)

    most = 1 + max((row[EXPONENT] + row[SLOTS] for row in rows), default=1)
    binomials = np.array([[math.comb(n, k) for k in range(2 * levels)] for n in range(most)], np.int64)
    tables = CodeTables(
        factors=np.array(rows, np.int64).reshape(-1, 7),
        slots=np.array(slots, np.int64),
        binomials=binomials,
        order=order.astype(np.int64),
        spatial_order=spatial_order.astype(np.int64),
        movable=ordered,
        spatial_movable=spatial_ordered,
        side=side.astype(np.int64),
        keep=keep.astype(np.int64),
    )
    return Code(tuple(names), np.array(sizes, np.int64), tables, definition)
