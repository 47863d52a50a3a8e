"""Words between a level and the next inner one, by enumeration; see :mod:`reference_model`.

Vectors have one entry per rank of a tensor. Loops are listed innermost first and have bounds above 1.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Literal

from mapgym.spec.tensor import Tensor

Vector = tuple[int, ...]
Loops = tuple[tuple[Vector, int], ...]
"""(step vector in the tensor's ranks, bound) per loop."""
Box = tuple[tuple[int, int], ...]
"""(start within the tile, length) per rank."""
Delta = tuple[Box, ...]
"""The words that a step needs anew, as boxes without a word in common; an empty tuple means no words."""
Memory = Literal["nothing", "last step", "last move"]
"""What a tile remembers, to compare a movement with: nothing at all, so that every step brings the whole tile; how it
moved in the step before, standing still included; or how it moved when it last did."""


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

    def __init__(self, lengths: Vector, loops: Loops, memory: Memory) -> None:
        self.lengths, self.memory = lengths, memory
        self.whole: Delta = (tuple((0, length) for length in lengths),)
        self.bounds = [bound for _, bound in loops]
        # Inner loops stand at iteration 1, not at their last one, when a loop advances: Timeloop extrapolates.
        self.translations: list[Vector] = []
        passed = (0,) * len(lengths)
        for vector, _ in loops:
            self.translations.append(tuple(v - p for v, p in zip(vector, passed, strict=True)))
            passed = tuple(p + v for p, v in zip(passed, vector, strict=True))
        self.walked: dict[tuple, tuple[Counter, tuple]] = {}

    def steps(self) -> Counter:
        """Step -> how often it occurs; the very first one has neither a predecessor nor a translation."""
        tally, _ = self.after_first_tile(len(self.bounds), (None, self.whole))
        return tally + Counter({(self.whole, None, None): 1})

    def after_first_tile(self, depth: int, state: tuple) -> tuple[Counter, tuple]:
        """Steps of the innermost ``depth`` loops once their first tile is there, and the state at their end."""
        if depth == 0:
            return Counter(), state
        if (depth, state) not in self.walked:
            tally, before = self.after_first_tile(depth - 1, state)
            step, between = self.advance(before, self.translations[depth - 1])
            rest, end = self.after_first_tile(depth - 1, between)
            tally = Counter(tally)
            later_iterations = self.bounds[depth - 1] - 1
            tally[step] += later_iterations
            for other, times in rest.items():
                tally[other] += times * later_iterations
            self.walked[depth, state] = tally, end
        return self.walked[depth, state]

    def advance(self, state: tuple, translation: Vector) -> tuple[tuple, tuple]:
        """The step that a translation makes of a state, and the state after it."""
        expected, previous = state
        if self.memory == "nothing":
            words, expected = self.whole, None
        elif self.memory == "last move" and not any(translation):
            words = ()
        elif expected is None or expected == translation:
            words, expected = fresh_words(self.lengths, translation), translation
        else:
            words, expected = self.whole, None
        return (words, previous, translation), (expected, words)


@dataclass(frozen=True)
class Children:
    """The inner instances that one instance of a level feeds, numbered along the rows of a grid.

    Attributes:
        offsets: of each instance's tile from that of instance 0.
        columns, rows: of the grid.
        shared: whether one access serves all instances that need the same words.
        linked: whether neighbours pass words to each other.
    """

    offsets: tuple[Vector, ...]
    columns: int
    rows: int
    shared: bool
    linked: bool

    def place(self, e: int) -> tuple[int, int]:
        """Row and column of an instance."""
        return divmod(e, self.columns)

    def neighbours(self, e: int) -> list[int]:
        """Instances one place away along a side of the grid."""
        row, column = self.place(e)
        places = [(row, column - 1), (row, column + 1), (row - 1, column), (row + 1, column)]
        inside = [r * self.columns + c for r, c in places if 0 <= r < self.rows and 0 <= c < self.columns]
        return [q for q in inside if q < len(self.offsets)]

    def groups(self, instances: list[int]) -> list[list[int]]:
        """Those of some instances that one access serves together."""
        if not self.shared:
            return [[e] for e in instances]
        by_offset: defaultdict[Vector, list[int]] = defaultdict(list)
        for e in instances:
            by_offset[self.offsets[e]].append(e)
        return list(by_offset.values())

    def hops(self, group: list[int]) -> float:
        """Way of a word to a group: in at the middle of the first column, along to the last, up and down in each."""
        if len(self.offsets) == 1:
            return 0.0
        middle = (self.rows - 1) / 2
        columns: defaultdict[int, list[int]] = defaultdict(list)
        for row, column in map(self.place, group):
            columns[column].append(row)
        return max(columns) + sum(max(0, middle - min(rows)) + max(0, max(rows) - middle) for rows in columns.values())


@lru_cache(maxsize=4096)
def instance_offsets(loops: Loops, ranks: int) -> tuple[Vector, ...]:
    """Offset of every spatial instance from instance 0; the innermost spatial loop varies fastest."""
    offsets: list[Vector] = [(0,) * ranks]
    for vector, bound in loops:
        offsets = [
            tuple(o + i * v for o, v in zip(offset, vector, strict=True)) for i in range(bound) for offset in offsets
        ]
    return tuple(offsets)


@dataclass(frozen=True)
class Delivery:
    """How the words of one step reach the instances.

    Attributes:
        classes: multicast factor, number of groups of so many instances, and hops to all of these groups together.
        linked: instances that a neighbour serves.
    """

    classes: tuple[tuple[int, int, float], ...]
    linked: int = 0

    @property
    def groups(self) -> int:
        """Number of accesses for each word of a tile."""
        return sum(count for _, count, _ in self.classes)


@lru_cache(maxsize=16384)
def delivery(children: Children, wanted: Vector | None) -> Delivery:
    """What neighbours can serve and the level has to.

    Args:
        children: the instances.
        wanted: where, relative to its own, an instance finds the neighbour's words that it needs; None for nowhere.
    """
    offsets = children.offsets
    instances = list(range(len(offsets)))
    if wanted is not None:
        sought = [tuple(o + w for o, w in zip(offset, wanted, strict=True)) for offset in offsets]
        instances = [e for e in instances if all(offsets[q] != sought[e] for q in children.neighbours(e))]
    classes: dict[int, tuple[int, float]] = {}
    for group in children.groups(instances):
        count, hops = classes.get(len(group), (0, 0.0))
        classes[len(group)] = count + 1, hops + children.hops(group)
    return Delivery(tuple((m, *classes[m]) for m in sorted(classes)), len(offsets) - len(instances))


@dataclass
class Traffic:
    """Words of one tensor between a level and the next inner one, per instance of the level.

    Attributes:
        accesses: (multicast factor, scatter factor) -> words; never with zero words.
        hops: (multicast factor, scatter factor) -> hops of all these words on the grid.
        links: words that instances receive from a neighbour.
    """

    accesses: dict[tuple[int, int], float]
    hops: dict[tuple[int, int], float] = field(default_factory=dict)
    links: float = 0.0

    def content(self) -> float:
        return sum(words for _, words in sorted(self.accesses.items()))

    def delivered(self) -> float:
        return sum(words * multicast for (multicast, _), words in sorted(self.accesses.items()))


def boundary_traffic(lengths: Vector, temporal: Loops, children: Children, memory: Memory) -> Traffic:
    """What one instance of a level sends or receives during the run.

    Args:
        lengths: of the inner tile.
        temporal: temporal loops of the level and of all outer ones.
        children: the inner instances.
        memory: of an inner tile.
    """
    parallel = len(children.offsets) > 1
    from_above = delivery(children, None)
    accesses: Counter = Counter()
    hops: Counter = Counter()
    links = 0
    for (words, previous, translation), times in Walk(lengths, temporal, memory).steps().items():
        if not words:
            continue
        chosen = from_above
        wanted = wanted_offset(words, translation, previous) if children.linked and previous and parallel else None
        if wanted is not None:
            with_links = delivery(children, wanted)
            if with_links.groups < from_above.groups:
                chosen = with_links
        moved = times * size(words)
        for multicast, count, way in chosen.classes:
            accesses[multicast, count] += moved * count
            hops[multicast, count] += moved * way
        links += moved * chosen.linked
    return Traffic({key: float(words) for key, words in accesses.items() if words}, dict(hops), float(links))


def walk_literally(lengths: Vector, loops: Loops, memory: Memory) -> Counter:
    """The tally of :meth:`Walk.steps`, found by visiting the tiles one by one; exponential in the number of loops."""
    walk = Walk(lengths, loops, memory)
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
