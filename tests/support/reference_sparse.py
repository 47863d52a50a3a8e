"""A second, slow model of sparse hardware: every rule of docs/sparse.md spelled out, every occupancy enumerated.

It shares nothing with the kernels but the dense counts, which it takes as given (`reference_model.py` has them).
Mappings are taken as they are, loops of bound 1 included, as `CostModel(..., is_canonical=False)` does.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from mapgym.cost import CostDetail
from mapgym.mapping import Mapping
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.sparsity import COMPRESSED, OUTER_FIRST, expand_ranks
from mapgym.spec.tensor import Tensor
from mapgym.spec.workload import Workload

ACCESSES = ("read", "fill", "update")
ONE_WORD_CODES = {"B": 1}
Lengths = tuple[int, ...]


@dataclass(frozen=True)
class Loop:
    dim: str
    bound: int
    spatial: bool


def loops_by_level(mapping: Mapping, accelerator: Accelerator) -> list[list[Loop]]:
    """The loops of each level, innermost first; a level without fan-out has no spatial ones."""
    levels = []
    for s in range(len(accelerator.levels)):
        loops = []
        if accelerator.fanout_x[s] * accelerator.fanout_y[s] > 1:
            loops += [Loop(mapping.dims[d], int(mapping.spatial[s, d]), True) for d in mapping.spatial_order[s]]
        loops += [Loop(mapping.dims[d], int(mapping.temporal[s, d]), False) for d in mapping.order[s]]
        levels.append(loops)
    return levels


def product_by_dim(loops: list[Loop]) -> dict[str, int]:
    extents: dict[str, int] = defaultdict(lambda: 1)
    for loop in loops:
        extents[loop.dim] *= loop.bound
    return extents


def lengths(tensor: Tensor, extents: dict[str, int]) -> Lengths:
    return tuple(1 + sum(c * (extents.get(dim, 1) - 1) for dim, c in rank) for rank in tensor.ranks)


class Density:
    """Where the non-zeros of a tensor are; tiles are given by the lengths of their ranks."""

    def __init__(self, workload: Workload, tensor: Tensor) -> None:
        whole = lengths(tensor, dict(zip(workload.dims, workload.bounds, strict=True)))
        self.words, self.kind, self.density = math.prod(whole), tensor.density_distribution, tensor.density
        self.nonzeros = math.ceil(tensor.density * self.words)
        self.band = tensor.band_width
        self.sides = [r for r, length in enumerate(whole) if length > 1] or [0, 1]
        self.side = max(whole)

    @property
    def mean(self) -> float:
        if self.kind == "banded":
            inside = sum(abs(r - c) <= self.band for r in range(self.side) for c in range(self.side))
            return inside / self.words
        return self.nonzeros / self.words if self.kind == "hypergeometric" else self.density

    def chances(self, tile: Lengths) -> dict[int, float]:
        """Probability of each number of non-zeros, those of probability 0 left out."""
        words = math.prod(tile)
        if self.kind == "banded":
            tiles = self._tiles(tile)
            total = math.prod(self.side // min(tile[side], self.side) for side in self.sides)
            counts: dict[int, int] = defaultdict(int)
            for weight, held, _, _ in tiles:
                counts[held] += weight
            return {k: counts[k] / total for k in sorted(counts) if counts[k]}
        if self.kind == "hypergeometric":
            return drawn(self.words, self.nonzeros, words)
        return rounded(words * self.density)

    def largest(self, tile: Lengths) -> int:
        if self.kind == "banded":
            return max(held for _, held, _, _ in self._tiles(tile))
        return min(math.prod(tile), self.nonzeros) if self.kind == "hypergeometric" else max(self.chances(tile))

    def may_be_empty(self, tile: Lengths) -> bool:
        """Whether Timeloop thinks that the fewest non-zeros of a tile are none."""
        words = math.prod(tile)
        if self.kind == "fixed-structured":
            return math.floor(math.floor(words * self.density) / words * words) == 0
        return self.kind == "banded" or words < self.words

    def empty_within(self, part: Lengths, tile: Lengths, k: int) -> float:
        """Probability that a part of a tile with k non-zeros is empty."""
        words, whole = math.prod(part), math.prod(tile)
        if self.kind == "banded":
            _, _, top, left = next(found for found in self._tiles(tile) if found[1] == k)
            rows, columns = part[self.sides[0]], part[self.sides[1]]
            down, across = tile[self.sides[0]] // rows, tile[self.sides[1]] // columns
            parts = [(top + i * rows, left + j * columns) for i in range(down) for j in range(across)]
            empty = sum(self._held(top + r, r + rows, left + c, c + columns) == 0 for r, c in parts)
            return empty / len(parts)
        if self.kind == "hypergeometric":
            return drawn(whole, k, words).get(0, 0.0)
        return rounded(words * (k / whole)).get(0, 0.0)

    def _held(self, top: int, bottom: int, left: int, right: int) -> int:
        return sum(abs(r - c) <= self.band for r in range(top, bottom) for c in range(left, right))

    def _tiles(self, tile: Lengths) -> list[tuple[int, int, int, int]]:
        """(how often it counts, non-zeros, first row, first column) of the tiles that Sparseloop looks at."""
        rows, columns = (min(tile[side], self.side) for side in self.sides)
        down, across, begins = self.side // rows, self.side // columns, math.ceil(self.band / rows)
        found = []
        for i in range(min(begins + 1, down)):
            weight = max(down - 2 * begins, 0) if i == begins else 1 if begins == down else 2
            for j in range(across):
                r, c = i * rows, j * columns
                found.append((weight, self._held(r, r + rows, c, c + columns), r, c))
        return found


def drawn(words: int, nonzeros: int, number: int) -> dict[int, float]:
    """Hypergeometric probabilities, from whole numbers."""
    total = math.comb(words, number)
    few, most = max(0, number + nonzeros - words), min(nonzeros, number)
    ways = {k: math.comb(nonzeros, k) * math.comb(words - nonzeros, number - k) for k in range(few, most + 1)}
    return {k: float(Fraction(way, total)) for k, way in ways.items()}


def rounded(mean: float) -> dict[int, float]:
    """A number rounded down or up with the odds that give its mean."""
    below = math.floor(mean)
    return {below: 1.0 - (mean - below)} | ({below + 1: mean - below} if mean > below else {})


@dataclass
class Entry:
    """What is counted of one tensor at one level; metadata as [access][rank] = [metadata, payload]."""

    counts: dict[str, int] = field(default_factory=dict)
    saved: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ACCESSES, 0))
    saving: str = ""
    density: float = 1.0
    instances: float = 0.0
    metadata: dict[str, dict[int, list[int]]] = field(default_factory=dict)
    metadata_saved: dict[str, dict[int, list[int]]] = field(default_factory=dict)
    energy: float = 0.0


class SparseReference:
    """Prices one mapping; `entries` and `computes` hold what is counted."""

    def __init__(self, workload: Workload, accelerator: Accelerator, mapping: Mapping, dense: CostDetail) -> None:
        self.workload, self.accelerator = workload, accelerator.for_workload(workload)
        self.mapping, self.dense = mapping, dense
        self.levels, self.tensors = range(len(accelerator.levels)), workload.tensors
        self.loops = loops_by_level(mapping, accelerator)
        self.densities = [Density(workload, tensor) for tensor in self.tensors]
        self.entries: dict[tuple[int, int], Entry] = {}
        self.computes = (0, 0, 0)
        self._fibers: dict[tuple[int, int], tuple[list[tuple[int, int, Lengths, Lengths]], int, Lengths]] = {}
        for t in range(len(self.tensors)):
            for s in self.levels:
                if mapping.keep[s, t]:
                    self._list_fibers(s, t)
        for t in range(len(self.tensors)):
            for s in self.levels:
                if mapping.keep[s, t]:
                    self._expect(s, t)
        self._apply_actions()
        self._price()

    # Places and tiles.

    def kept(self, t: int) -> list[int]:
        return [s for s in self.levels if self.mapping.keep[s, t]]

    def child(self, s: int, t: int) -> int:
        return max((q for q in self.kept(t) if q < s), default=-1)

    def parent(self, s: int, t: int) -> int | None:
        return min((q for q in self.kept(t) if q > s), default=None)

    def ranks(self, s: int, t: int) -> list[str]:
        """Formats of the ranks, innermost first."""
        return list(reversed(expand_ranks(dict(self.accelerator.levels[s].formats).get(self.tensors[t].name, ()))))

    def is_compressed(self, s: int, t: int) -> bool:
        return any(code in COMPRESSED for code in self.ranks(s, t))

    def inside(self, s: int) -> list[Loop]:
        return [loop for q in range(s + 1) for loop in self.loops[q]]

    def tile(self, s: int, t: int) -> Lengths:
        return lengths(self.tensors[t], product_by_dim(self.inside(s)))

    # Metadata.

    def _list_fibers(self, s: int, t: int) -> None:
        """(rank, words of a fiber, tile inside an entry, tile that the fiber is), ranks, tile that outer ranks see."""
        tensor, child = self.tensors[t], self.child(s, t)
        point, whole, ranks = (1,) * len(tensor.ranks), self.tile(s, t), len(self.ranks(s, t))
        if ranks == 0:
            self._fibers[s, t] = ([(0, math.prod(whole), point, whole)], 1, whole)
            return
        fibers, used, inner = [], 0, point
        shares = self.is_compressed(s, t) and child >= 0 and math.prod(self.tile(child, t)) > 1
        if shares:
            fibers, used, inner = list(self._fibers[child, t][0]), *self._fibers[child, t][1:]
        taken = len(fibers)
        below = product_by_dim(self.inside(child))
        done, spare, own = self.inside(child), None, []
        for q in range(child + 1, s + 1):
            for loop in self.loops[q]:
                done.append(loop)
                if loop.dim not in tensor.dims:
                    continue
                bound = loop.bound * (1 if shares else below.pop(loop.dim, 1))
                tile = lengths(tensor, product_by_dim(done))
                spare = spare or tile
                if bound > 1:
                    own.append((loop.dim, bound, inner, tile))
                    inner = tile
        assert spare is not None
        written = dict(self.accelerator.levels[s].formats)[tensor.name]
        outside_first = written[0] == OUTER_FIRST
        free = list(range(used, ranks))
        groups = self._grouped(tensor, own, free, [text for text in written if text != OUTER_FIRST], outside_first)
        if outside_first:
            # Loops of this level have its outermost ranks; without any, the outermost rank has an entry by itself.
            if not groups and free:
                groups = [(ranks - 1, 1, inner, inner)]
            self._fibers[s, t] = fibers[:taken] + groups, ranks, inner
            return
        fibers += groups
        used = max([used, *(rank + 1 for rank, *_ in groups)])
        if not fibers:
            fibers = [(0, 1, point, point)]
        elif fibers[0][0] > 0:  # the innermost rank has an entry, even if tiles inside have none
            fibers = [(0, 1, point, fibers[0][2]), *fibers]
        self._fibers[s, t] = fibers, ranks, spare if used < ranks else inner

    @staticmethod
    def _grouped(
        tensor: Tensor, own: list[tuple], free: list[int], written: list[str], outside_first: bool
    ) -> list[tuple]:
        """Loops (dim, bound, tile inside, tile), innermost first, as (rank, words, ...) of the ranks that are free."""
        joins = [text.partition(":")[0].partition("@")[2].split("+") for text in reversed(written)]
        left, groups = list(own), []
        take = -1 if outside_first else 0
        while left:
            rank = free.pop(take)
            dims = joins[rank] if len(joins) > rank else [""]
            if dims != [""] and left[take][0] not in dims:
                continue
            dim, bound, inside, tile = left.pop(take)
            bounds = {dim: bound}
            while dims != [""] and left and left[take][0] in dims:
                dim, bound, _, outer = left.pop(take)
                bounds[dim] = bounds.get(dim, 1) * bound
                tile = tile if outside_first else outer
            # Windows that overlap, such as rows of an input, count once.
            words = math.prod(lengths(tensor, bounds))
            if outside_first and groups:
                tile = groups[0][2]
            groups.insert(0 if outside_first else len(groups), (rank, words, inside, tile))
        return groups

    def _metadata_of(self, s: int, t: int, k: int) -> dict[int, list[float]]:
        """What each rank has if the tile holds k non-zeros."""
        whole, density, codes = self.tile(s, t), self.densities[t], self.ranks(s, t)
        found, fibers = {}, 1
        for rank, fiber, inner, outer in reversed(self._fibers[s, t][0]):
            filled = fibers * (1.0 - density.empty_within(outer, whole, k))
            entries = fiber * (1.0 - density.empty_within(inner, whole, k))
            if density.kind == "hypergeometric":
                entries = round(entries, 9)  # what is a whole number must not be rounded up
            coordinates = entries * fibers
            if self.accelerator.rules != "sparseloop-2022":
                coordinates = (math.ceil(entries) if codes[rank] == "CP" else entries) * filled
            found[rank] = {
                "CP": [coordinates] * 2,
                "RLE": [coordinates] * 2,
                "UOP": [0.0, filled * (fiber + 1)],
                "B": [filled * fiber, filled * math.ceil(entries)],
                "UB": [float(fibers * fiber)] * 2,
            }[codes[rank]]
            fibers *= fiber
        for rank in sorted(found):
            if found[rank] != [0.0, 0.0]:
                found[rank] = [found[rank][0], 0.0]  # the innermost rank points to the words themselves
                break
        return found

    def _expect(self, s: int, t: int) -> None:
        entry = self.entries[s, t] = Entry()
        tile, parent = self.tile(s, t), self.parent(s, t)
        words = math.prod(tile)
        dense = {name: int(getattr(self.dense, f"{name}s")[s, t]) for name in ACCESSES}
        chances = self.densities[t].chances(tile)
        entry.instances = float(self.dense.used_instances[s])
        if parent is not None and self.ranks(parent, t) and self.densities[t].may_be_empty(tile):
            lowest = min(chances)
            gone = chances.pop(lowest)
            entry.instances *= max(1.0 - gone, 0.0)
            chances = {k: p / (1.0 - gone) for k, p in chances.items()} if gone < 1.0 else {}
        entry.density = sum(k * p for k, p in chances.items()) / words
        entry.counts = dict(dense)
        if self.ranks(s, t):
            entry.counts = {name: n - math.floor(n * (1.0 - entry.density)) for name, n in dense.items()}
            units: dict[int, list[float]] = {fiber[0]: [0.0, 0.0] for fiber in self._fibers[s, t][0]}
            for k, p in chances.items():
                for rank, (metadata, payload) in self._metadata_of(s, t, k).items():
                    units[rank] = [units[rank][0] + p * metadata, units[rank][1] + p * payload]
            entry.metadata = {
                name: {rank: [math.ceil(u * (n / words)) for u in of] for rank, of in units.items()}
                for name, n in dense.items()
            }
            entry.metadata_saved = {name: {rank: [0, 0] for rank in units} for name in ACCESSES}

    # Actions.

    def _fraction(self, target: int, conditions: list[int], q: int) -> tuple[float, dict[int, float]]:
        """What the conditions save of the target's reads at level q; and how often the tile of each is not empty."""
        child, relevant = self.child(q, target), set(self.tensors[target].dims)
        places = [(level, j) for level in range(child + 1, q + 1) for j in range(len(self.loops[level]))]
        scalar = False
        at = places[-1]
        if child < 0:
            first = self.loops[0]
            spatial = [j for j, loop in enumerate(first) if loop.spatial]
            scalar = not spatial
            busy = [j for j in spatial if first[j].bound > 1 and first[j].dim in relevant]
            at = (0, 0 if scalar else busy[0] if busy else spatial[-1])
        else:
            for level, j in places:
                loop = self.loops[level][j]
                if loop.bound > 1 and loop.dim in relevant:
                    at = (level, j)
                    break
        loop = self.loops[at[0]][at[1]]
        inner = [x for level in range(at[0]) for x in self.loops[level]] + self.loops[at[0]][: at[1] + 1]
        own = dict.fromkeys(self.workload.dims, 1) | ({} if scalar else product_by_dim(inner))
        extents, joined, passed = dict(own), [loop], not loop.spatial
        for level, j in places:
            outer = self.loops[level][j]
            if (level, j) <= at or outer.bound == 1:
                continue
            if outer.spatial or (not passed and child >= 0 and outer.dim not in relevant):
                extents[outer.dim] *= outer.bound
                joined.append(outer)
            passed = passed or (not outer.spatial and (child < 0 or outer.dim in relevant))
        full = {}
        for condition in conditions:
            tile = self._condition_tile(target, condition, q, (loop, joined, scalar), (own, extents))
            if tile is not None:
                full[condition] = 1.0 - self.densities[condition].chances(tile).get(0, 0.0)
        return 1.0 - math.prod(full.values()), full

    def _condition_tile(
        self,
        target: int,
        condition: int,
        q: int,
        walk: tuple[Loop, list[Loop], bool],
        tiles: tuple[dict[str, int], dict[str, int]],
    ) -> Lengths | None:
        """The tile of a condition that decides about one access; None if the order of the loops rules that out."""
        (loop, joined, scalar), (own, extents) = walk, tiles
        relevant, looked_at = set(self.tensors[target].dims), set(self.tensors[condition].dims)
        together: dict[str, float] = {}
        for outer in [] if scalar else joined:
            if loop.spatial and together and outer.dim in looked_at:
                return None
            if outer.dim in relevant & looked_at:
                together[outer.dim] = together.get(outer.dim, 1.0) * outer.bound
        words = math.prod(lengths(self.tensors[target], own))
        block = self.accelerator.levels[q].block_size_words
        scale = float(math.ceil(block / (words / math.prod(together.values(), start=1.0))))
        extents = dict(extents)
        for dim in sorted(together, key=self.workload.dims.index):
            extents[dim] = math.ceil(extents[dim] / (together[dim] / scale))
            scale /= together[dim]
        if scale > 1:
            extents[loop.dim] = int(extents[loop.dim] * scale)
        return lengths(self.tensors[condition], extents)

    def _apply_actions(self) -> None:
        names = [tensor.name for tensor in self.tensors]
        best: dict[tuple[int, int], tuple[float, str, dict[int, float]]] = {}
        for saving in ("gating", "skipping"):
            for s in self.levels:
                for action in self.accelerator.levels[s].actions:
                    t = names.index(action.target)
                    q = min((level for level in self.kept(t) if level >= s), default=None)
                    if action.saving == saving and q is not None:
                        on = [names.index(name) for name in action.condition_on]
                        fraction, full = self._fraction(t, on, q)
                        if (q, t) not in best or fraction > best[q, t][0]:
                            best[q, t] = fraction, saving, full
        self._gone: dict[int, float] = {}
        left = float(self.dense.compute_cycles * self.dense.used_instances[0] * self.dense.fanout_used[0])
        operands = [t for t, tensor in enumerate(self.tensors) if not tensor.is_output]
        shares: dict[int, float] = {}
        for t in range(len(self.tensors)):
            acting = sorted((q for q, of in best if of == t), reverse=True)
            self._save_tensor(t, acting, {q: best[q, t] for q in acting})
            if not acting or self.tensors[t].is_output:
                continue
            fraction, _, full = best[acting[-1], t]
            if len(operands) == 2:
                left -= math.floor(left * fraction)
                self._gone[sum(operands) - t] = fraction
            for condition, share in full.items():
                shares[condition] = min(share, shares.get(condition, 1.0))
        if len(operands) != 2:
            for condition in sorted(shares):
                left -= math.floor(left * (1.0 - shares[condition]))
                self._gone[condition] = 1.0 - shares[condition]
        self._compute(int(left), operands)

    def _save_tensor(self, t: int, acting: list[int], best: dict[int, tuple[float, str, dict[int, float]]]) -> None:
        """From the outermost level inwards: what is not sent, and then what the level itself saves."""
        before = 0.0
        for number, q in enumerate(acting):
            fraction, saving, _ = best[q]
            entry, relative = self.entries[q, t], fraction
            if number > 0:
                relative = max(1.0 - (1.0 - fraction) / (1.0 - before), 0.0)
            self._save_here(q, t, relative, number > 0)
            entry.saving = saving
            stop = acting[number + 1] if number + 1 < len(acting) else 0
            for inner in [s for s in self.kept(t) if stop <= s < q]:
                self._lose(q, inner, t, fraction)
            before = fraction

    def _lose(self, q: int, inner: int, t: int, fraction: float) -> None:
        entry = self.entries[inner, t]
        for name in ACCESSES:
            entry.counts[name] -= math.floor(entry.counts[name] * fraction)
        if len(self.ranks(q, t)) == 1 and entry.metadata:
            for name in ("read", "fill"):
                entry.metadata[name][0] = [n - math.floor(n * fraction) for n in entry.metadata[name][0]]

    def _save_here(self, q: int, t: int, fraction: float, is_inner: bool) -> None:
        entry, child = self.entries[q, t], self.child(q, t)
        rounding = math.ceil if self.tensors[t].is_output else math.floor
        for name, whole in (("read", rounding), ("update", math.floor)):
            entry.saved[name] = whole(entry.counts[name] * fraction)
            entry.counts[name] -= entry.saved[name]
        if not entry.metadata:
            return
        if is_inner:
            entry.metadata["read"] = {rank: list(of) for rank, of in entry.metadata["update"].items()}
        sent = len(self.ranks(q, t)) if child < 0 else len(self.ranks(child, t))
        for name in ("read", "update"):
            for rank, of in entry.metadata[name].items():
                if rank < sent:
                    gone = [math.floor(n * fraction) for n in of]
                    entry.metadata_saved[name][rank] = gone
                    entry.metadata[name][rank] = [n - m for n, m in zip(of, gone, strict=True)]

    def _compute(self, left: int, operands: list[int]) -> None:
        """Every combination of states of the operands, each zero (0), absent (-1) or something else (1)."""
        states = []
        for t in operands:
            nonzero = math.floor(1e6 * self.densities[t].mean + 0.5) / 1e6
            gone = self._gone.get(t, 0.0)
            gone = math.floor(gone * 1e6 + 0.5) / 1e6
            nonzero = min(1.0, nonzero / (1.0 - gone)) if gone < 1.0 else 1.0
            states.append({1: nonzero, (-1 if self.ranks(self.kept(t)[0], t) else 0): 1.0 - nonzero})
        totals: dict[str, float] = defaultdict(float)
        combined: list[tuple[float, tuple[int, ...]]] = [(float(left), ())]
        for state in states:
            combined = [(p * chance, (*of, value)) for p, of in combined for value, chance in state.items()]
        has = self.accelerator.mac.zero_operands
        for p, of in combined:
            if of and all(value < 0 for value in of):
                totals["missing"] += p
            elif any(value < 0 for value in of):
                totals["skip" if "skipping" in has else "gate" if "gating" in has else "do"] += p
            elif any(value == 0 for value in of):
                totals["gate" if "gating" in has else "do"] += p
        gated, skipped, missing = (math.floor(totals[name] + 1e-9) for name in ("gate", "skip", "missing"))
        self.computes = (left - gated - skipped - missing, gated, skipped)

    # Prices.

    def _price(self) -> None:
        names = self.accelerator.counting.action_names
        for (s, t), entry in self.entries.items():
            level = self.accelerator.levels[s]
            costs, ratio, block = level.energies_pj(names), self._blocks(s, t), level.block_size_words
            prefix = {"": "", "gating": "gated_", "skipping": "skipped_"}[entry.saving]
            energy = 0.0
            for name in ACCESSES:
                energy += math.ceil(entry.counts[name] / block) * ratio * costs[name]
                if prefix:
                    energy += math.ceil(entry.saved[name] / block) * ratio * costs[prefix + name]
                if entry.metadata and level.metadata_width_bits:
                    energy += self._transfers(s, t, entry.metadata[name]) * costs[f"metadata_{name}"]
                    if prefix:
                        energy += self._transfers(s, t, entry.metadata_saved[name]) * costs[f"{prefix}metadata_{name}"]
            parent = self.parent(s, t)
            if parent is not None and self.is_compressed(parent, t) and not self.is_compressed(s, t):
                energy += entry.counts["fill"] * costs["decompression"]
                if self.tensors[t].is_output:
                    energy += self.entries[parent, t].counts["update"] * costs["compression"]
            used = int(self.dense.used_instances[s])
            entry.energy = energy / (used / min(used, level.clusters)) * entry.instances

    def _transfers(self, s: int, t: int, counts: dict[int, list[int]]) -> int:
        level, codes = self.accelerator.levels[s], self.ranks(s, t)
        written = [text for text in dict(level.formats)[self.tensors[t].name] if text != OUTER_FIRST]
        said = [text.partition(":")[2] for text in reversed(written)]
        bits = 0
        for rank, (metadata, payload) in counts.items():
            of_metadata = ONE_WORD_CODES.get(codes[rank], level.metadata_word_bits)
            of_payload = level.metadata_word_bits
            if len(said) == len(codes) and said[rank]:
                first, _, second = said[rank].partition("/")
                of_metadata, of_payload = int(first), int(second or first)
            bits += metadata * of_metadata + payload * of_payload
        return math.ceil(bits / level.metadata_width_bits)

    def _blocks(self, s: int, t: int) -> float:
        """Blocks that compressed tiles take over those that their words would; for tiles below Timeloop's limits."""
        block, entry = self.accelerator.levels[s].block_size_words, self.entries[s, t]
        if block == 1 or not self.is_compressed(s, t) or not 0.0 < entry.density < 1.0:
            return 1.0
        tile = self.tile(s, t)
        words, decile = math.prod(tile), math.floor(entry.density / 0.1) - 1 if entry.density >= 0.1 else 0
        limit = LIMITS[block][decile]
        if words // block >= limit:
            return 1.0
        chances = self.densities[t].chances(tile)
        return sum(math.ceil(k / block) * p for k, p in chances.items()) / (words * entry.density / block)


LIMITS = {
    2: (251, 125, 84, 63, 51, 42, 36, 32, 28, 1),
    4: (375, 188, 125, 94, 75, 63, 54, 47, 42, 1),
    8: (438, 219, 146, 110, 88, 73, 63, 55, 49, 1),
}


def metadata_array(reference: SparseReference, like: np.ndarray) -> np.ndarray:
    """The counts of metadata in the layout of `SparseCostDetail.metadata_accesses` of one mapping."""
    array = np.zeros_like(like)
    for (s, t), entry in reference.entries.items():
        for k, name in enumerate(ACCESSES if entry.metadata else ()):
            for rank, of in entry.metadata[name].items():
                array[s, t, k, 0, rank] = of
                outcome = {"": 0, "gating": 1, "skipping": 2}[entry.saving]
                if outcome:
                    array[s, t, k, outcome, rank] = entry.metadata_saved[name][rank]
    return array
