"""Why a count is what it is: the accesses of one tensor at one level, derived from the loop nest line by line.

The rules are those of docs/cost_model.md; where the kernel has closed forms for whole loop nests, each loop, each level
that hands on its demand and each group of instances has a line of its own here, in numbers that a reader can check.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from mapgym.cost.derivation_steps import Children, Loop, Move, Vector, linked_steps, tile_steps
from mapgym.cost.model import Cost
from mapgym.errors import SpecificationError, suggest
from mapgym.errors.text import quoted
from mapgym.mapping import Mapping
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.tensor import Tensor
from mapgym.spec.workload import Workload


class Line(NamedTuple):
    """One step of a derivation.

    Attributes:
        what: in words.
        arithmetic: in numbers; "" where there is nothing to compute.
        value: the result, in words of the tensor unless ``what`` says otherwise; None where there is none.
    """

    what: str
    arithmetic: str
    value: float | None


@dataclass
class Derivation:
    """The counts of one tensor at one level, per used instance, and how they come about.

    Attributes:
        level, tensor: which cell.
        reads, fills, updates: accesses of one instance, in words.
        energy_pj: storage energy of all instances, without addresses, networks and leakage.
        sections: (title, lines).
    """

    level: str
    tensor: str
    reads: int = 0
    fills: int = 0
    updates: int = 0
    energy_pj: float = 0.0
    sections: list[tuple[str, list[Line]]] = field(default_factory=list)

    def to_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return {
            "level": self.level,
            "tensor": self.tensor,
            "reads": self.reads,
            "fills": self.fills,
            "updates": self.updates,
            "energy_pj": self.energy_pj,
            "sections": [
                {"title": title, "lines": [line._asdict() for line in lines]} for title, lines in self.sections
            ],
        }


class _Boundary(NamedTuple):
    """What one instance of a level sends to the level below it, before bypassing."""

    content: float  # accesses
    received: float  # words that one inner instance gets by them
    links: float  # words that neighbours pass to each other, all inner instances together
    lines: list[Line]


def derive(
    workload: Workload, accelerator: Accelerator, mapping: Mapping, cost: Cost, level: str, tensor: str
) -> Derivation:
    """Derives the dense counts of one tensor at one level.

    On sparse hardware these are the counts before anything is saved, and what is left of them is stated after them.

    Args:
        workload, accelerator: the task.
        mapping: a legal mapping.
        cost: its cost, with detail. Only what first visits of an output with holes cover is taken from it.
        level, tensor: names.

    Raises:
        SpecificationError: there is no such level or tensor, or the level does not keep the tensor.
    """
    workload.tensor(tensor)
    s = accelerator.level_index(level)
    t = [entry.name for entry in workload.tensors].index(tensor)
    if not mapping.keep[s, t]:
        keepers = [name for q, name in enumerate(mapping.levels) if mapping.keep[q, t]]
        raise SpecificationError(
            f"{quoted(level)} does not keep {quoted(tensor)} in this mapping, so that it has no accesses there; "
            f"{suggest(level, keepers)}"
        )
    return _Cell(workload, accelerator.for_workload(workload), mapping, cost, s, t).derive()


class _Cell:
    """The derivation of one cell; s, t: level and tensor."""

    def __init__(
        self, workload: Workload, accelerator: Accelerator, mapping: Mapping, cost: Cost, s: int, t: int
    ) -> None:
        self.accelerator, self.mapping, self.cost, self.s, self.t = accelerator, mapping, cost, s, t
        self.tensor: Tensor = workload.tensors[t]
        assert cost.detail is not None  # asked for by the caller
        self.detail = cost.detail
        self.names = mapping.levels
        self.kept = mapping.keep[:, t].tolist()
        self.spatial: list[list[Loop]] = []
        self.temporal: list[list[Loop]] = []
        self.extents: list[dict[str, int]] = []
        inside = dict.fromkeys(workload.dims, 1)
        for q in range(len(mapping.levels)):
            on_x, on_y = mapping.spatial_sides(q)
            for loops, found in (([*on_x, *on_y], self.spatial), (mapping.temporal_loops(q), self.temporal)):
                found.append([Loop(dim, bound, inside[dim]) for dim, bound in loops])
                for dim, bound in loops:
                    inside[dim] *= bound
            # The spatial loops of a level lie inside its temporal ones.
            self.extents.append(dict(inside))

    def derive(self) -> Derivation:
        """All sections, and the counts at their ends."""
        s, cell = self.s, Derivation(self.names[self.s], self.tensor.name)
        cell.sections.append(("The tile", [self._tile_line(s)]))
        inner = next((q for q in range(s - 1, -1, -1) if self.kept[q]), -1)
        content = 0.0
        for q in range(inner + 1, s + 1):
            boundary = self._boundary(q)
            lines = boundary.lines
            if q > inner + 1:
                passed = content
                content = boundary.content * passed / boundary.received
                lines.append(
                    Line(
                        f"{self.names[q - 1]} does not keep {self.tensor.name} and hands on its own demand of "
                        f"{_number(passed)} words instead",
                        f"{_number(boundary.content)} x {_number(passed)} / {_number(boundary.received)}",
                        content,
                    )
                )
            else:
                content = boundary.content
            cell.sections.append((f"What {self.names[q]} sends to {self._name(q - 1)}", lines))
        self._count(cell, content)
        self._charge(cell)
        if self.cost.savings is not None:
            cell.sections.append(
                ("What zeros save of these counts, by the model of the sparse hardware", self._saved())
            )
        return cell

    def _saved(self) -> list[Line]:
        savings, place = self.cost.savings, (self.s, self.t)
        assert savings is not None  # asked for by the caller
        names = ("reads", "fills", "updates", "gated_reads", "gated_updates", "skipped_reads", "skipped_updates")
        lines = [Line(f"{name.replace('_', ' ')}", "", int(getattr(savings, name)[place])) for name in names]
        return [*lines, Line("energy of all instances, pJ", "", float(savings.energy_pj[place]))]

    def _count(self, cell: Derivation, content: float) -> None:
        s, lines = self.s, []
        outermost = max(q for q, kept in enumerate(self.kept) if kept)
        arrived, peer = 0.0, 0.0
        if s < outermost:
            above = self._boundary(s + 1)
            cell.sections.append((f"What {self.names[s + 1]} would send to {self.names[s]}", above.lines))
            arrived = above.received
            if self.kept[s] and above.links:
                used = int(self.detail.used_instances[s])
                peer = above.links / used
                lines.append(Line("words that neighbours pass on, by instance", f"{above.links:,.0f} / {used:,}", peer))
        served = content + peer
        sources = " + ".join(_number(part) for part in (content, peer) if part) or "0"
        if self.tensor.is_output:
            first = int(self.detail.partition_words[s, self.t])
            lines.append(Line("updates: each word from below is one", sources.split(" + ")[0], content))
            cell.updates = _rounded(content)
            lines.append(
                Line(
                    "first writes, which read no old value: the words that the instance is responsible for",
                    self._share_text(s),
                    first,
                )
            )
            cell.reads = _rounded(served - first)
            lines.append(Line("reads: one before each other update", f"{sources} - {first:,}", cell.reads))
        else:
            cell.reads = _rounded(served)
            lines.append(Line("reads: what it serves", sources, cell.reads))
        lines.append(self._fill(cell, arrived, peer, s < outermost))
        cell.sections.append((f"Counts of one instance of {self.names[s]}", lines))

    def _fill(self, cell: Derivation, arrived: float, peer: float, has_outer: bool) -> Line:
        s = self.s
        given = " + ".join(_number(part) for part in (arrived, peer) if part) or "0"
        if not has_outer:
            return Line("fills: none, because no level further out keeps the tensor", "0", 0)
        if not (self.tensor.is_output and self.accelerator.counting.first_fills_elided):
            cell.fills = int(arrived + peer)
            return Line("fills: what comes from outside", given, cell.fills)
        if _has_holes(self.tensor):
            # Which words whole tiles cover is counted by the kernel.
            cell.fills = int(self.detail.fills[s, self.t])
            first = _rounded(arrived + peer) - cell.fills
            what = "fills: what comes from outside, but not the first time; of an output with holes only covered words"
        else:
            first = self._share(s)
            cell.fills = _rounded(arrived + peer - first)
            what = "fills: what comes from outside, but nothing comes for the first visit of a word"
        return Line(what, f"{given} - {first:,}", cell.fills)

    def _charge(self, cell: Derivation) -> None:
        s, level = self.s, self.accelerator.levels[self.s]
        energies, block = self.accelerator.action_energies[s], level.block_size_words
        lines, total = [], 0.0
        for action, words in (("read", cell.reads), ("fill", cell.fills), ("update", cell.updates)):
            if words == 0:
                continue
            accesses = math.ceil(words / block)
            of_blocks = f"ceil({words:,} / {block})" if block > 1 else f"{words:,}"
            lines.append(Line(f"{action}s, pJ", f"{of_blocks} x {energies[action]:g}", accesses * energies[action]))
            total += accesses * energies[action]
        used = int(self.detail.used_clusters[s])
        noun = "clusters, each charged as one" if level.cluster_size > 1 else "instances"
        cell.energy_pj = total * used
        lines.append(Line(f"energy of all {noun}, pJ", f"{total:,.6g} x {used:,}", cell.energy_pj))
        cell.sections.append(("Energy", lines))

    def _boundary(self, q: int) -> _Boundary:
        """What one instance of level q sends to what lies below it, by its own loops."""
        below = self._name(q - 1)
        lengths = self._lengths(q - 1)
        full = math.prod(lengths)
        lines = [self._tile_line(q - 1)]
        forgets = q == 0 or self.tensor.name in self.accelerator.levels[q - 1].no_temporal_reuse
        steps = tile_steps(self._moves(q), lengths, forgets, self.accelerator.counting.reuse_survives_stationary_steps)
        lines.append(Line("first tile", f"{full:,}", full))
        words = full
        for step in steps:
            words += step.times * step.words
            lines.append(
                Line(
                    f"{self.names[step.level]}: for {step.loop.dim} in 0..{step.loop.bound}, {step.why}",
                    f"{step.times:,} x {step.words:,}",
                    step.times * step.words,
                )
            )
        lines.append(Line(f"words for one instance of {below} over the run", "the sum", words))
        fanout = self._fanout(q)
        if fanout == 1:
            return _Boundary(words, words, 0.0, lines)
        children = self._children(q)
        groups = children.groups(np.arange(fanout))
        lines.append(Line(self._sharing(q, fanout, groups), f"{groups:,} x {words:,}", groups * words))
        accesses, links = groups * words, 0
        for linked in linked_steps(steps, full, forgets) if self.accelerator.peer_links else ():
            served = children.served_by_neighbours(linked.wanted)
            left = children.groups(np.flatnonzero(~served))
            if left >= groups:
                continue
            saved = linked.times * linked.words * (groups - left)
            accesses -= saved
            links += linked.times * linked.words * int(served.sum())
            lines.append(
                Line(
                    f"in {linked.times:,} of these steps {int(served.sum()):,} instances get their {linked.words:,} "
                    f"new words from a neighbour that had them a step before, which leaves {left:,} accesses for each "
                    f"word instead of {groups:,}",
                    f"- {linked.times:,} x {linked.words:,} x ({groups:,} - {left:,})",
                    -saved,
                )
            )
        received = float(words)
        if links:
            lines.append(Line("accesses", "the rest", accesses))
            received = (words * fanout - links) / fanout
            how = f"({words:,} x {fanout:,} - {links:,}) / {fanout:,}"
            lines.append(Line(f"words that one instance of {below} gets by them", how, received))
        return _Boundary(accesses, received, links, lines)

    def _sharing(self, q: int, fanout: int, groups: int) -> str:
        of = f"{fanout:,} instances of {self._name(q - 1)} in use"
        if groups == fanout:
            return f"{of}, each with accesses of its own" if groups > 1 else of
        how = "partial sums are added up on the way" if self.tensor.is_output else "multicast"
        tiles = f"{groups:,} different tiles" if groups > 1 else "the same tile"
        return f"{of} need {tiles}: one access serves all that need a word ({how})"

    def _moves(self, q: int) -> list[Move]:
        """Temporal loops at or above level q, innermost first, as movements of the tile below it."""
        outside = math.prod(loop.bound for r in range(q, len(self.names)) for loop in self.temporal[r])
        moves = []
        for r in range(q, len(self.names)):
            for loop in self.temporal[r]:
                outside //= loop.bound
                moves.append(Move(r, loop, self._vector(loop), (loop.bound - 1) * outside))
        return moves

    def _vector(self, loop: Loop) -> Vector:
        return tuple(sum(c * loop.step for dim, c in rank if dim == loop.dim) for rank in self.tensor.ranks)

    def _lengths(self, q: int) -> Vector:
        """Of the bounding box of the tile that level q holds; single words for the MACs, q = -1."""
        extents = self.extents[q] if q >= 0 else {}
        return tuple(1 + sum(c * (extents.get(dim, 1) - 1) for dim, c in rank) for rank in self.tensor.ranks)

    def _tile_line(self, q: int) -> Line:
        lengths = self._lengths(q)
        if q < 0:
            return Line(f"a {self._name(q)} works on single words", "1", 1)
        extents = self.extents[q]
        shown = ", ".join(f"{dim} {extents[dim]}" for dim in self.tensor.dims) or "no dims"
        return Line(f"tile of {self.names[q]}: {shown}", " x ".join(map(str, lengths)) or "1", math.prod(lengths))

    def _name(self, q: int) -> str:
        return self.names[q] if q >= 0 else self.accelerator.mac.name

    def _fanout(self, q: int) -> int:
        return math.prod(loop.bound for loop in self.spatial[q])

    def _share(self, s: int) -> int:
        """Words of the output that one instance of level s is responsible for; without holes."""
        part = math.prod(self._lengths(len(self.names) - 1))
        for q in range(len(self.names) - 2, s - 1, -1):
            part = part * math.prod(self._lengths(q)) // self._spread(q)
        return part

    def _share_text(self, s: int) -> str:
        if _has_holes(self.tensor):
            return "words that updates cover"
        text = f"{math.prod(self._lengths(len(self.names) - 1)):,}"
        for q in range(len(self.names) - 2, s - 1, -1):
            if self._fanout(q + 1) > 1:
                text += f" x {math.prod(self._lengths(q)):,} / {self._spread(q):,}"
        return text

    def _spread(self, q: int) -> int:
        """Words of the box around all tiles of level q below one instance of level q + 1."""
        extents = dict(self.extents[q])
        for loop in self.spatial[q + 1]:
            extents[loop.dim] *= loop.bound
        return self.tensor.tile_size(extents)

    def _children(self, q: int) -> Children:
        offsets = np.zeros((1, len(self.tensor.ranks)), np.int64)
        for loop in self.spatial[q]:
            steps = np.arange(loop.bound)[:, None, None] * np.array(self._vector(loop), np.int64)
            offsets = (steps + offsets).reshape(-1, offsets.shape[1])
        on_x, on_y = self.mapping.spatial_sides(q)
        used_x, used_y = (math.prod(bound for _, bound in loops) for loops in (on_x, on_y))
        return Children(
            offsets,
            max(self.accelerator.fanout_x[q], used_x),
            max(self.accelerator.fanout_y[q], used_y),
            self.tensor.name not in self.accelerator.levels[q].no_multicast,
        )


def _has_holes(tensor: Tensor) -> bool:
    """Whether boxes of an output have words that nothing updates."""
    dims = [dim for rank in tensor.ranks for dim, _ in rank]
    return tensor.is_output and (len(set(dims)) < len(dims) or any(c > 1 for rank in tensor.ranks for _, c in rank))


def _rounded(words: float) -> int:
    """The nearest whole number, halves up, at least 0."""
    return max(math.floor(words + 0.5), 0)


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.6g}"
