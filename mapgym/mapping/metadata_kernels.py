"""Compiled metadata of compressed tiles: how many bits say where the non-zeros are.

A format describes a tile rank by rank, one loop of the tile for each rank (as in Sparseloop; docs/sparse.md). From the
outermost rank inwards, each fiber that is not empty has metadata of its own. A level must have room for the metadata of
its tiles at their largest occupancy.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import allocating_kernel, inlined_kernel, kernel
from mapgym.compilation.array_kernels import PageArrays, Pages, four, one, pack_arrays, three, two
from mapgym.mapping.canonical_kernels import Sorting, copy_mapping, open_sorting
from mapgym.mapping.density_kernels import (
    RECORD,
    density_record,
    largest_occupancy,
    probability_empty_within,
    tile_rows,
)
from mapgym.mapping.legality_kernels import FORMATS, LEGAL, METADATA, status_of_batch
from mapgym.mapping.maps import Arrays, Maps
from mapgym.mapping.nest_kernels import NEST_ARRAYS, Nest, list_nest, make_nest, nest_arrays, open_nest
from mapgym.mapping.rank_kernels import loop_words, pack_ranks, rank_words
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.format_rules import clash
from mapgym.spec.rules import counting_rules
from mapgym.spec.sparsity import COMPRESSED, OUTER_FIRST, RANK_FORMATS, expand_ranks, joined_dims, rank_bits
from mapgym.spec.workload import Workload

UOP, CP, RLE, B, UB, ENTRIES = range(6)
"""Codes of the formats, in the order of ``RANK_FORMATS``; ENTRIES stands for CP and RLE where they do not count by
fiber (:class:`mapgym.spec.rules.CountingRules`)."""

UNLIMITED = -1

RANK, FIBER, INSIDE, OUTSIDE, DIM, BOUND = 0, 1, 2, 4, 6, 7
COLUMNS = 8
"""Columns of ``Formats.fibers``: the number of the rank, the words of a fiber, words and rows of the tile inside one of
its entries and of the one that the fiber is, and the dim and the bound of its loop."""

NUMBER, RANKS, SEEN = 0, 1, 2
"""Columns of ``Formats.listed``: entries, ranks (those to spare included), and words and rows of the tile that an outer
level sees inside its own ranks."""

Shape: TypeAlias = "tuple[int, int]"
"""Words and rows of a tile."""


class Formats(NamedTuple):
    """How each level stores each tensor (L levels, T tensors, D dims)."""

    projections: NDArray[np.int64]  # the packed ranks of all tensors
    projection: NDArray[np.int64]  # [T] where each tensor begins there
    relevant: NDArray[np.bool_]  # [T, D]
    densities: NDArray[np.int64]  # [T * RECORD]
    ranks: NDArray[np.int64]  # [L, T] number of ranks, 0 without a format
    codes: NDArray[np.int8]  # [L, T, any] their formats, innermost first
    joined: NDArray[np.int64]  # [L, T, any] bit d: the rank joins loops of dim d; 0 for a rank that takes one loop
    outer_first: NDArray[np.bool_]  # [L, T] whether loops take ranks from the outermost one
    is_compressed: NDArray[np.bool_]  # [L, T] whether zeros take no room
    clashes: NDArray[np.bool_]  # [L, L, T] outer, inner: whether the levels cannot pass the tensor to each other
    bits: NDArray[np.int64]  # [L, T, any, 2] of a word of metadata and of payload of each rank, innermost first
    room_bits: NDArray[np.int64]  # [L] for metadata, UNLIMITED for no limit
    # Working memory: the ranks of each tile that a loop needs, from the innermost one, and what there is of them.
    fibers: NDArray[np.int64]  # [L, T, any, COLUMNS]
    listed: NDArray[np.int64]  # [L, T, 4] columns NUMBER, RANKS, SEEN (and its rows)
    needed: NDArray[np.float64]  # [L, T] bits of metadata of each tile


def make_formats(workload: Workload, accelerator: Accelerator) -> Formats:
    """Packs the formats of an accelerator for the tensors of a workload."""
    levels, tensors = accelerator.for_workload(workload).levels, workload.tensors
    by_name = {name: code for code, name in enumerate(RANK_FORMATS)}
    if not counting_rules(accelerator.rules, "rules").coordinates_by_fiber:
        by_name["CP"] = by_name["RLE"] = ENTRIES
    named = [{tensor: expand_ranks(ranks)[::-1] for tensor, ranks in level.formats} for level in levels]
    most = max((len(ranks) for formats in named for ranks in formats.values()), default=0)
    ranks = np.zeros((len(levels), len(tensors)), np.int64)
    codes = np.zeros((*ranks.shape, most), np.int8)
    bits = np.zeros((*codes.shape, 2), np.int64)
    joined = np.zeros(codes.shape, np.int64)
    outer_first = np.zeros(ranks.shape, np.bool_)
    for s, (level, formats) in enumerate(zip(levels, named, strict=True)):
        for t, tensor in enumerate(tensors):
            found = formats.get(tensor.name, ())
            ranks[s, t] = len(found)
            if found:
                codes[s, t, : len(found)] = [by_name[name] for name in found]
                written = dict(level.formats)[tensor.name]
                bits[s, t, : len(found)] = rank_bits(written, level.metadata_word_bits)[::-1]
                outer_first[s, t] = written[0] == OUTER_FIRST
                joined[s, t, : len(found)] = [
                    sum(1 << workload.dims.index(dim) for dim in set(names) & set(workload.dims))
                    for names in joined_dims(written)[::-1]
                ]
    inside = np.arange(most) < ranks[..., None]
    compressed = [by_name[name] for name in COMPRESSED]
    packed = [pack_ranks(workload, tensor.ranks) for tensor in tensors]
    return Formats(
        projections=np.array([number for ranks in packed for number in ranks], np.int64),
        projection=np.cumsum([0, *map(len, packed)])[:-1],
        relevant=np.array([[dim in tensor.dims for dim in workload.dims] for tensor in tensors]),
        densities=np.array([density_record(workload, tensor.name) for tensor in tensors], np.int64).ravel(),
        ranks=ranks,
        codes=codes,
        joined=joined,
        outer_first=outer_first,
        is_compressed=np.any(inside & np.isin(codes, compressed), axis=2).reshape(ranks.shape),
        clashes=list_clashes(workload, accelerator),
        bits=bits,
        room_bits=np.array(
            [UNLIMITED if level.usable_metadata_bits is None else level.usable_metadata_bits for level in levels]
        ),
        fibers=np.zeros((*ranks.shape, 2 * len(levels) * len(workload.dims) + 1, COLUMNS), np.int64),
        listed=np.zeros((*ranks.shape, 4), np.int64),
        needed=np.zeros(ranks.shape),
    )


FORMAT_ARRAYS = len(Formats._fields)


@inlined_kernel
def open_formats(pages: Pages, first: int) -> Formats:
    """Views of formats that are packed as arrays ``first`` and following."""
    whole = pages.whole
    return Formats(
        projections=one(whole, whole, first),
        projection=one(whole, whole, first + 1),
        relevant=two(pages.flags, whole, first + 2),
        densities=one(whole, whole, first + 3),
        ranks=two(whole, whole, first + 4),
        codes=three(pages.bytes, whole, first + 5),
        joined=three(whole, whole, first + 6),
        outer_first=two(pages.flags, whole, first + 7),
        is_compressed=two(pages.flags, whole, first + 8),
        clashes=three(pages.flags, whole, first + 9),
        bits=four(whole, whole, first + 10),
        room_bits=one(whole, whole, first + 11),
        fibers=four(whole, whole, first + 12),
        listed=three(whole, whole, first + 13),
        needed=two(pages.floats, whole, first + 14),
    )


def pack_metadata(workload: Workload, accelerator: Accelerator, sorting: Sorting) -> PageArrays:
    """Packs what the metadata of a task depend on, for :func:`status_with_formats`; sorting: of the canonical form."""
    formats, nest = make_formats(workload, accelerator), make_nest(workload, accelerator)
    return pack_arrays([*formats, *nest_arrays(nest), *sorting])


def list_clashes(workload: Workload, accelerator: Accelerator) -> NDArray[np.bool_]:
    """bool[outer, inner, tensor]: whether two levels cannot pass a tensor to each other, if those between bypass it."""
    levels, tensors = accelerator.for_workload(workload).levels, workload.tensors
    clashes = np.zeros((len(levels), len(levels), len(tensors)), np.bool_)
    for outer in range(len(levels)):
        for inner in range(outer):
            for t, tensor in enumerate(tensors):
                clashes[outer, inner, t] = bool(clash(levels, outer, inner, tensor.name, tensor.is_output))
    return clashes


@kernel
def child_of(keep: NDArray[np.bool_], i: int, t: int, s: int) -> int:
    """The next inner level that keeps a tensor, -1 for the MACs."""
    child = s - 1
    while child >= 0 and not keep[i, child, t]:
        child -= 1
    return child


@inlined_kernel
def packed_words(formats: Formats, t: int, extents: NDArray[np.int64], row: int) -> int:
    """Words of the tile of a tensor that so many iterations of each dim span, [any, dim], of which one row counts."""
    return int(rank_words(formats.projections, formats.projection[t], extents, row)[0])


@kernel
def tile_words(formats: Formats, nest: Nest, t: int, s: int) -> int:
    """Words of the tile of a tensor at a level."""
    return packed_words(formats, t, nest.extents, nest.row[nest.starts[s + 1] - 1])


@inlined_kernel
def _shape(formats: Formats, nest: Nest, t: int, j: int) -> Shape:
    """(words, rows) of the tile of a tensor that loop j completes."""
    rows = tile_rows(formats.densities, t * RECORD, nest.extents, nest.row[j])
    return packed_words(formats, t, nest.extents, nest.row[j]), rows


@inlined_kernel
def _set_fiber(formats: Formats, t: int, s: int, e: int, rank: int, words: int, inside: Shape, outside: Shape) -> None:
    """Lists a fiber as entry e of a tile."""
    fiber = formats.fibers[s, t, e]
    fiber[RANK], fiber[FIBER] = rank, words
    fiber[INSIDE], fiber[INSIDE + 1] = inside
    fiber[OUTSIDE], fiber[OUTSIDE + 1] = outside


@inlined_kernel
def _set_list(formats: Formats, t: int, s: int, number: int, ranks: int, seen: Shape) -> None:
    """Completes the list of the fibers of a tile."""
    listed = formats.listed[s, t]
    listed[NUMBER], listed[RANKS] = number, ranks
    listed[SEEN], listed[SEEN + 1] = seen


@kernel
def _joined_words(formats: Formats, t: int, s: int, first: int, end: int) -> int:
    """Words of the fiber that several loops are together: of their bounding box, where windows overlap."""
    table, fibers = formats.projections, formats.fibers[s, t]
    words = 1
    cursor = formats.projection[t] + 1
    for _ in range(table[cursor - 1]):
        terms = table[cursor]
        cursor += 1
        length = 1
        for _ in range(terms):
            extent = 1
            for e in range(first, end):
                if fibers[e, DIM] == table[cursor]:
                    extent *= fibers[e, BOUND]
            length += table[cursor + 1] * (extent - 1)
            cursor += 2
        words *= length
    return words


@kernel
def _assign_ranks(formats: Formats, t: int, s: int, given: int, number: int, inner: int) -> int:
    """Gives the loops of a tile its ranks, from ``inner`` on; returns how many fibers there are, -1 if they do not fit.

    Fibers from ``given`` on are those of the loops, innermost first, one each. A rank takes one loop, or, if it joins
    dims, a row of loops of these; it stays without one if the next loop is of another dim.
    """
    ranks, fibers = formats.ranks[s, t], formats.fibers[s, t]
    outer_first = formats.outer_first[s, t]
    step = -1 if outer_first else 1
    rank, e, made = (ranks - 1, number - 1, 0) if outer_first else (inner, given, 0)
    at = e
    while given <= e < number:
        start = e
        if rank < inner or rank >= ranks:
            return -1
        rule = formats.joined[s, t, rank]
        if rule != 0 and (rule >> fibers[e, DIM]) & 1 == 0:
            rank += step
            continue
        for column in range(COLUMNS):
            fibers[at, column] = fibers[e, column]
        fibers[at, RANK] = rank
        if outer_first and made > 0:
            fibers[at, OUTSIDE], fibers[at, OUTSIDE + 1] = fibers[at + 1, INSIDE], fibers[at + 1, INSIDE + 1]
        e += step
        while rule != 0 and given <= e < number and (rule >> fibers[e, DIM]) & 1 == 1:
            if not outer_first:
                # QUIRK: from outside, what is inside the joined loops is taken to be what is inside the outermost.
                fibers[at, OUTSIDE], fibers[at, OUTSIDE + 1] = fibers[e, OUTSIDE], fibers[e, OUTSIDE + 1]
            e += step
        if abs(e - start) > 1:
            # The first of them may have been moved onto itself, the others are still where they were.
            low, end = (e + 1, start + 1) if outer_first else (start, e)
            fibers[at, FIBER] = _joined_words(formats, t, s, low, end)
        at += step
        rank += step
        made += 1
    if outer_first:
        for k in range(made):
            for column in range(COLUMNS):
                fibers[given + k, column] = fibers[number - made + k, column]
    return given + made


@inlined_kernel
def _add_innermost(formats: Formats, t: int, s: int, number: int) -> int:
    """Lists the innermost rank, which tiles inside have left without a loop; returns how many fibers there are then."""
    for e in range(number, 0, -1):
        for column in range(COLUMNS):
            formats.fibers[s, t, e, column] = formats.fibers[s, t, e - 1, column]
    within = formats.fibers[s, t, 1]
    tile = (within[INSIDE], within[INSIDE + 1])
    _set_fiber(formats, t, s, 0, 0, 1, (1, 1), tile)
    return number + 1


@kernel
def _list_fibers(formats: Formats, nest: Nest, child: int, t: int, s: int) -> bool:
    """Lists the fibers of a tile, level by level from the innermost; returns whether the ranks suffice."""
    ranks = formats.ranks[s, t]
    scalar = (1, 1)
    if ranks == 0:
        # Stored word by word, it is one rank for a compressed level outside.
        whole = _shape(formats, nest, t, nest.starts[s + 1] - 1)
        _set_fiber(formats, t, s, 0, 0, whole[0], scalar, whole)
        _set_list(formats, t, s, 1, 1, whole)
        return True
    # A compressed tile of compressed tiles has their ranks and one for each loop of its own. Otherwise all loops are
    # its own, and those inside a dim's innermost one are joined with it.
    shares = formats.is_compressed[s, t] and child >= 0 and tile_words(formats, nest, t, max(child, 0)) > 1
    number, length = 0, 0
    inside = scalar
    if shares:
        listed = formats.listed[child, t]
        number, length = listed[NUMBER], listed[RANKS]
        inside = (listed[SEEN], listed[SEEN + 1])
        if length > ranks:
            return False
        for e in range(number):
            for column in range(COLUMNS):
                formats.fibers[s, t, e, column] = formats.fibers[child, t, e, column]
    first, given = nest.starts[child + 1], number
    joined = 0  # bit d: the extent of dim d inside is joined with a loop
    spare = (0, 0)
    for j in range(first, nest.starts[s + 1]):
        d = nest.dims[j]
        if not formats.relevant[t, d]:
            continue
        bound = nest.bounds[j]
        if not shares and first > 0 and (joined >> d) & 1 == 0:
            bound *= nest.extents[nest.row[first - 1], d]
            joined |= np.int64(1) << d
        if bound == 1 and spare[0] > 0:
            continue
        tile = _shape(formats, nest, t, j)
        if spare[0] == 0:
            spare = tile
        if bound > 1:
            words = loop_words(formats.projections, formats.projection[t], d, bound)
            _set_fiber(formats, t, s, number, length, words, inside, tile)
            formats.fibers[s, t, number, DIM], formats.fibers[s, t, number, BOUND] = d, bound
            number += 1
            inside = tile
    number = _assign_ranks(formats, t, s, given, number, length)
    if number < 0:
        return False
    if number > given:
        length = formats.fibers[s, t, number - 1, RANK] + 1
    if formats.outer_first[s, t]:
        if number == given and length < ranks:
            # A rank without a loop is empty, but for the outermost.
            _set_fiber(formats, t, s, number, ranks - 1, 1, inside, inside)
            number += 1
        length = ranks
    elif number == 0:
        _set_fiber(formats, t, s, 0, 0, 1, scalar, scalar)
        number = 1
    elif formats.fibers[s, t, 0, RANK] > 0:
        number = _add_innermost(formats, t, s, number)
    # QUIRK: what an outer level sees inside ranks to spare is the tile of the innermost loop.
    _set_list(formats, t, s, number, ranks, spare if length < ranks else inside)
    return True


@inlined_kernel
def rank_units(code: int, fiber: int, fibers: float, filled: float, entries: float) -> tuple[float, float]:
    """(metadata, payload) that a rank has, in words, but bits for the metadata of ``B``.

    Args:
        code: its format.
        fiber: words of a fiber.
        fibers: how many fibers there are, empty ones included.
        filled: how many of them are not empty, on average.
        entries: entries of a fiber that are not empty, on average.
    """
    if code == CP:
        units = math.ceil(entries) * filled
        return units, units
    if code == RLE:
        return entries * filled, entries * filled
    if code == UOP:
        return 0.0, filled * (fiber + 1)
    if code == B:
        return filled * fiber, filled * math.ceil(entries)
    if code == ENTRIES:
        return entries * fibers, entries * fibers
    return fibers * fiber, fibers * fiber


@kernel
def _bits(formats: Formats, nest: Nest, t: int, s: int) -> float:
    """Bits of metadata of the listed tile at its largest occupancy."""
    at = t * RECORD
    tile = _shape(formats, nest, t, nest.starts[s + 1] - 1)
    holding = largest_occupancy(formats.densities, at, tile[0], tile[1])
    bits, payload, fibers = 0.0, 0.0, 1.0
    for e in range(formats.listed[s, t, NUMBER] - 1, -1, -1):
        entry = formats.fibers[s, t, e]
        fiber, code = entry[FIBER], formats.codes[s, t, entry[RANK]]
        word = formats.bits[s, t, entry[RANK]]
        outside, inside = (entry[OUTSIDE], entry[OUTSIDE + 1]), (entry[INSIDE], entry[INSIDE + 1])
        filled = fibers * (1.0 - probability_empty_within(formats.densities, at, outside, tile, holding))
        entries = fiber * (1.0 - probability_empty_within(formats.densities, at, inside, tile, holding))
        metadata, payload = rank_units(code, fiber, fibers, filled, entries)
        payload *= word[1]
        bits += metadata * word[0] + payload
        fibers *= fiber
    # What the innermost rank points to are the words themselves.
    return bits - payload


@kernel
def list_tiles(formats: Formats, nest: Nest, keep: NDArray[np.bool_], i: int) -> int:
    """Lists the fibers of all tiles of mapping i, whatever the densities; the nest must be listed.

    Returns:
        Whether the formats go together and have enough ranks: a status of :mod:`mapgym.mapping.legality`.
    """
    levels, tensors = keep.shape[1:]
    for t in range(tensors):
        child = -1
        for s in range(levels):
            if keep[i, s, t]:
                if child >= 0 and formats.clashes[s, child, t]:
                    return FORMATS << 8 | child
                if not _list_fibers(formats, nest, child, t, s):
                    return METADATA << 8 | s
                child = s
    return LEGAL


@kernel
def room_status(formats: Formats, nest: Nest, keep: NDArray[np.bool_], i: int, needs_all: bool) -> int:
    """Whether the metadata of mapping i fit, whose tiles are listed: a status of :mod:`mapgym.mapping.legality`.

    Args:
        needs_all: whether to set what metadata need at every level, not only where there is a limit.
    """
    levels, tensors = keep.shape[1:]
    for s in range(levels):
        is_limited = formats.room_bits[s] != UNLIMITED
        if not (is_limited or needs_all):
            continue
        need = 0.0
        for t in range(tensors):
            formats.needed[s, t] = 0.0
            if keep[i, s, t] and formats.ranks[s, t] > 0:
                formats.needed[s, t] = np.ceil(_bits(formats, nest, t, s))
            need += formats.needed[s, t]
        if is_limited and need > formats.room_bits[s]:
            return METADATA << 8 | s
    return LEGAL


@allocating_kernel
def status_with_formats(
    arrays: Arrays, rules: NDArray[np.int64], page_arrays: PageArrays, status: NDArray[np.int32]
) -> None:
    """Sets the status of each mapping of a batch, by the rules of legality and by what metadata need.

    Args:
        arrays: of n mappings.
        rules: from :func:`mapgym.mapping.legality_kernels.pack_rules`.
        page_arrays: from :func:`pack_metadata`.
        status: int32[n].
    """
    pages, maps = Pages(*page_arrays), Maps(*arrays)
    formats, nest = open_formats(pages, 0), open_nest(pages, FORMAT_ARRAYS)
    sorting = open_sorting(pages, FORMAT_ARRAYS + NEST_ARRAYS)
    status_of_batch(arrays, rules, status)
    levels, dims, tensors = maps.keep.shape[1], maps.temporal.shape[2], maps.keep.shape[2]
    # A copy of one mapping, which is brought into canonical form.
    row = Maps(
        np.empty((1, levels, dims), np.int32),
        np.empty((1, levels, dims), np.int32),
        np.empty((1, levels, dims), np.int8),
        np.empty((1, levels, dims), np.int8),
        np.empty((1, levels), np.int8),
        np.empty((1, levels, tensors), np.bool_),
    )
    for i in range(len(status)):
        if status[i] == LEGAL:
            copy_mapping(i, maps, 0, row)
            list_nest(row, 0, nest, sorting)
            status[i] = list_tiles(formats, nest, row.keep, 0)
            if status[i] == LEGAL:
                status[i] = room_status(formats, nest, row.keep, 0, False)
