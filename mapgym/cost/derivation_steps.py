"""How a tile moves over time, and which instances share its words: the parts of a derivation.

The rules are in docs/cost_model.md, "Traffic between a level and its tensor's tile below".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Vector = tuple[int, ...]
"""One number for each rank of a tensor."""


class Loop(NamedTuple):
    """A loop of a mapping."""

    dim: str
    bound: int
    step: int  # iterations of the dim that one iteration of the loop goes on by


class Move(NamedTuple):
    """A temporal loop: its level, itself, how far one iteration moves the tile, and how often it advances in all."""

    level: int
    loop: Loop
    vector: Vector
    times: int


class Step(NamedTuple):
    """What a loop's advance brings: how often, the words, why, and what neighbours would have to have had."""

    level: int
    loop: Loop
    times: int
    words: int
    why: str
    translation: Vector
    is_whole: bool
    is_first: bool  # of the loop whose movement all others are compared with


def tile_steps(moves: Sequence[Move], lengths: Vector, forgets: bool, survives: bool) -> list[Step]:
    """The advance of each loop, innermost first."""
    full = math.prod(lengths)
    none: Vector = (0,) * len(lengths)
    found: list[Step] = []
    passed, expected = none, None
    for move in moves:
        # Of each loop the first advance stands for all, with the loops inside it at their iteration 1.
        translation = tuple(v - p for v, p in zip(move.vector, passed, strict=True))
        passed = tuple(p + v for p, v in zip(passed, move.vector, strict=True))
        is_first = False
        if forgets:
            words, why = full, "brings the whole tile at each step"
        elif translation == none and (survives or expected in (None, none)):
            words, why = 0, "leaves the tile where it is"
            if not survives and expected is None:
                expected, is_first = translation, True
        elif expected is None or translation == expected:
            is_first = expected is None
            expected = translation
            words = full - math.prod(max(0, length - abs(d)) for length, d in zip(lengths, translation, strict=True))
            if words == full:
                why = "moves on to other words"
            else:
                why = f"moves the tile by {_distance(translation)}, {full - words:,} of its words stay"
        else:
            words = full
            why = "moves on to other words"
            if all(abs(d) < length for length, d in zip(lengths, translation, strict=True)):
                why = (
                    f"moves the tile by {_distance(translation)}, unlike the step before, so that all words come again"
                )
        found.append(Step(move.level, move.loop, move.times, words, why, translation, words == full, is_first))
    return found


class LinkedSteps(NamedTuple):
    """Steps whose words a neighbour may have had: how often, words, and where relative to its own offset."""

    times: int
    words: int
    wanted: Vector


def linked_steps(steps: Sequence[Step], full: int, forgets: bool) -> list[LinkedSteps]:
    """Steps that bring the same part of the tile as the step before them.

    The step before is that of the innermost loop, or, for the innermost loop itself, the one that set it going.
    """
    if forgets:
        found = [LinkedSteps(step.times, full, step.translation) for step in steps]
    else:
        if not steps or not steps[0].is_first or steps[0].words == 0:
            return []
        first, found = steps[0], []
        for step in steps[1:]:
            if step.words == first.words and (step.translation == first.translation or first.is_whole):
                found.append(LinkedSteps(step.times, step.words, step.translation))
        # The innermost loop is set going once by the first tile, and then by each step of the loops outside it.
        rounds = first.loop.bound - 1
        if first.is_whole:
            found.append(LinkedSteps(rounds, full, first.translation))
        for step in steps[1:]:
            if step.words and (first.is_whole or step.translation == first.translation):
                found.append(LinkedSteps(rounds * step.times, first.words, first.translation))
    joined: dict[tuple[int, Vector], int] = {}
    for times, words, wanted in found:
        joined[words, wanted] = joined.get((words, wanted), 0) + times
    return [LinkedSteps(times, words, wanted) for (words, wanted), times in joined.items()]


@dataclass(frozen=True)
class Children:
    """The inner instances that one instance of a level feeds, numbered along the rows of a grid.

    Attributes:
        offsets: int64[instance, rank], of each tile from that of instance 0.
        columns, rows: of the grid.
        shared: whether one access serves all instances that need the same words.
    """

    offsets: NDArray[np.int64]
    columns: int
    rows: int
    shared: bool

    def groups(self, instances: NDArray[np.int64]) -> int:
        """Accesses that each word takes to reach some of the instances."""
        if not self.shared or self.offsets.shape[1] == 0:
            return len(instances) if not self.shared else min(1, len(instances))
        return len(np.unique(self.offsets[instances], axis=0))

    def served_by_neighbours(self, wanted: Vector) -> NDArray[np.bool_]:
        """bool[instance]: which find, one place away along a side of the grid, a tile so far from their own."""
        count = len(self.offsets)
        grid = np.full((self.rows + 2, self.columns + 2), -1)
        e = np.arange(count)
        row, column = np.divmod(e, self.columns)
        grid[row + 1, column + 1] = e
        sought = self.offsets + np.array(wanted, np.int64)
        served = np.zeros(count, bool)
        for down, right in ((0, 1), (2, 1), (1, 0), (1, 2)):
            q = grid[row + down, column + right]
            served |= (q >= 0) & (self.offsets[q] == sought).all(axis=1)
        return served


def _distance(translation: Vector) -> str:
    moved = [f"{d:+d}" for d in translation if d]
    return " and ".join(moved) if moved else "nothing"
