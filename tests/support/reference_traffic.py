"""Words between a level and the next inner one, by enumeration; see :mod:`reference_model`.

Vectors have one entry per rank of a tensor. Loops are listed innermost first and have bounds above 1.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from mapgym.spec.tensor import Tensor

Vector = tuple[int, ...]
Loops = tuple[tuple[Vector, int], ...]
"""(step vector in the tensor's ranks, bound) per loop."""
Box = tuple[tuple[int, int], ...]
"""(start within the tile, length) per rank."""
Delta = tuple[Box, ...]
"""The words that a step needs anew, as boxes without a word in common; an empty tuple means no words."""


def step_vector(tensor: Tensor, dim: str, stride: int) -> Vector:
    """How far one iteration of a loop of this dim moves in each rank."""
    return tuple(sum(c * stride for d, c in rank if d == dim) for rank in tensor.ranks)


def tile_lengths(tensor: Tensor, extents: dict[str, int]) -> Vector:
    """Length of the bounding box in each rank."""
    return tuple(1 + sum(c * (extents.get(d, 1) - 1) for d, c in rank) for rank in tensor.ranks)


def fresh_words(lengths: Vector, translation: Vector) -> Delta:
    """What a tile needs that its immediate predecessor, ``translation`` before it, did not hold."""
    whole = tuple((0, length) for length in lengths)
    if any(abs(distance) >= length for distance, length in zip(translation, lengths, strict=True)):
        return (whole,)
    boxes, rest = [], whole
    for rank, (distance, length) in enumerate(zip(translation, lengths, strict=True)):
        # What is new along this rank, of that which is old along the ones before.
        new = (length - distance, distance) if distance > 0 else (0, -distance)
        old = (0, length - distance) if distance > 0 else (-distance, length + distance)
        if distance:
            boxes.append((*rest[:rank], new, *rest[rank + 1 :]))
        rest = (*rest[:rank], old, *rest[rank + 1 :])
    return tuple(boxes)


def size(words: Delta) -> int:
    """Number of words."""
    return sum(math.prod(length for _, length in box) for box in words)


def wanted_offset(words: Delta, translation: Vector, previous: Delta) -> Vector | None:
    """Where, relative to its own, an instance wants a neighbour that held its words one step ago; None for nowhere."""
    if [[n for _, n in box] for box in words] != [[n for _, n in box] for box in previous]:
        return None
    offsets = {
        tuple(now + t - before for (now, _), t, (before, _) in zip(box, translation, other, strict=True))
        for box, other in zip(words, previous, strict=True)
    }
    return offsets.pop() if len(offsets) == 1 else None


class Walk:
    """The sequence of tiles that one instance sees, as a tally of distinct steps.

    A state is (the translation that a next step must repeat to be allowed reuse, or None right after a reset; the
    words that the last step needed). A step is (its words, the words of the step before, its translation).
    """

    def __init__(self, lengths: Vector, loops: Loops, reuse: bool) -> None:
        self.lengths, self.reuse = lengths, reuse
        self.whole: Delta = (tuple((0, length) for length in lengths),)
        self.bounds = [bound for _, bound in loops]
        # Inner loops stand at iteration 1, not at their last one, when a loop advances: Timeloop extrapolates.
        self.translations: list[Vector] = []
        passed = (0,) * len(lengths)
        for vector, _ in loops:
            self.translations.append(tuple(v - p for v, p in zip(vector, passed, strict=True)))
            passed = tuple(p + v for p, v in zip(passed, vector, strict=True))
        self.memory: dict[tuple, tuple[Counter, tuple]] = {}

    def steps(self) -> Counter:
        """Step -> how often it occurs; the very first one has neither a predecessor nor a translation."""
        tally, _ = self.after_first_tile(len(self.bounds), (None, self.whole))
        return tally + Counter({(self.whole, None, None): 1})

    def after_first_tile(self, depth: int, state: tuple) -> tuple[Counter, tuple]:
        """Steps of the innermost ``depth`` loops once their first tile is there, and the state at their end."""
        if depth == 0:
            return Counter(), state
        if (depth, state) not in self.memory:
            tally, before = self.after_first_tile(depth - 1, state)
            step, between = self.advance(before, self.translations[depth - 1])
            rest, end = self.after_first_tile(depth - 1, between)
            tally = Counter(tally)
            later_iterations = self.bounds[depth - 1] - 1
            tally[step] += later_iterations
            for other, times in rest.items():
                tally[other] += times * later_iterations
            self.memory[depth, state] = tally, end
        return self.memory[depth, state]

    def advance(self, state: tuple, translation: Vector) -> tuple[tuple, tuple]:
        expected, previous = state
        if not self.reuse:
            words, expected = self.whole, None
        elif expected is None or expected == translation:
            words, expected = fresh_words(self.lengths, translation), translation
        else:
            words, expected = self.whole, None
        return (words, previous, translation), (expected, words)


@lru_cache(maxsize=4096)
def instance_offsets(loops: Loops, ranks: int) -> tuple[Vector, ...]:
    """Offset of every spatial instance from instance 0; the innermost spatial loop varies fastest."""
    offsets: list[Vector] = [(0,) * ranks]
    for vector, bound in loops:
        offsets = [
            tuple(o + i * v for o, v in zip(offset, vector, strict=True)) for i in range(bound) for offset in offsets
        ]
    return tuple(offsets)


@lru_cache(maxsize=4096)
def neighbor_differences(offsets: tuple[Vector, ...], columns: int, rows: int) -> list[set[Vector]]:
    """Per instance, the offsets of its neighbours in the grid relative to its own."""
    differences: list[set[Vector]] = []
    for e, offset in enumerate(offsets):
        row, column = divmod(e, columns)
        places = [(row, column - 1), (row, column + 1), (row - 1, column), (row + 1, column)]
        inside = [r * columns + c for r, c in places if 0 <= r < rows and 0 <= c < columns]
        differences.append(
            {tuple(b - a for a, b in zip(offset, offsets[q], strict=True)) for q in inside if q < len(offsets)}
        )
    return differences


@lru_cache(maxsize=16384)
def multicast_classes(offsets: tuple[Vector, ...]) -> tuple[tuple[int, int], ...]:
    """(multiplicity, number of distinct offsets that occur so often)."""
    return tuple(sorted(Counter(Counter(offsets).values()).items()))


@lru_cache(maxsize=16384)
def without_linked(
    offsets: tuple[Vector, ...], columns: int, rows: int, wanted: Vector
) -> tuple[tuple[tuple[int, int], ...], int]:
    """Multicast classes of the instances that no neighbour serves, and the number of those that one does.

    Args:
        offsets: of all instances.
        columns, rows: of the grid.
        wanted: the offset of a neighbour, relative to the instance that it can serve.
    """
    differences = neighbor_differences(offsets, columns, rows)
    left = tuple(offset for offset, seen in zip(offsets, differences, strict=True) if wanted not in seen)
    return multicast_classes(left), len(offsets) - len(left)


@dataclass
class Traffic:
    """Words of one tensor between a level and the next inner one, per instance of the level.

    Attributes:
        accesses: (multicast factor, scatter factor) -> words; never with zero words.
        links: words that instances receive from a neighbour.
    """

    accesses: dict[tuple[int, int], float]
    links: float = 0.0

    def content(self) -> float:
        return sum(words for _, words in sorted(self.accesses.items()))

    def delivered(self) -> float:
        return sum(words * multicast for (multicast, _), words in sorted(self.accesses.items()))


def boundary_traffic(
    lengths: Vector, temporal: Loops, spatial: Loops, grid: tuple[int, int] | None, reuse: bool
) -> Traffic:
    """Sections 2 to 4 of the rules.

    Args:
        lengths: of the inner tile.
        temporal: temporal loops of the level and of all outer ones.
        spatial: spatial loops of the level.
        grid: columns and rows of the mesh of inner instances, None when there are no links between them.
        reuse: False at the MACs, which forget everything.
    """
    offsets = instance_offsets(spatial, len(lengths))
    classes = multicast_classes(offsets)
    traffic = Traffic({})
    accesses: Counter = Counter()
    for (words, previous, translation), times in Walk(lengths, temporal, reuse).steps().items():
        if not words:
            continue
        served, used_classes = 0, classes
        wanted = wanted_offset(words, translation, previous) if grid and previous and spatial else None
        if wanted is not None:
            fewer, linked = without_linked(offsets, *grid, wanted)
            if sum(count for _, count in fewer) < sum(count for _, count in classes):
                served, used_classes = linked, fewer
        for multicast, count in used_classes:
            accesses[multicast, count] += times * size(words) * count
        traffic.links += times * size(words) * served
    traffic.accesses = {key: float(words) for key, words in accesses.items() if words}
    traffic.links = float(traffic.links)
    return traffic


def walk_literally(lengths: Vector, loops: Loops, reuse: bool) -> Counter:
    """The tally of :meth:`Walk.steps`, found by visiting the tiles one by one; exponential in the number of loops."""
    walk = Walk(lengths, loops, reuse)
    tally = Counter({(walk.whole, None, None): 1})
    state: tuple = (None, walk.whole)
    for before, after in pairwise(range(2 ** len(loops))):
        # Bit j of a tile's number is the iteration (0 or 1) of loop j.
        positions = [
            tuple(sum(v[rank] for j, (v, _) in enumerate(loops) if tile >> j & 1) for rank in range(len(lengths)))
            for tile in (before, after)
        ]
        translation = tuple(b - a for a, b in zip(*positions, strict=True))
        step, state = walk.advance(state, translation)
        tally[step] += math.prod(bound - 1 for j, (_, bound) in enumerate(loops) if after >> j & 1)
    return tally
