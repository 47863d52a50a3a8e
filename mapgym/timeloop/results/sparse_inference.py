"""The sparse features behind results that come without ``sparse_optimizations``: what the counts leave possible.

Formats are printed. Densities follow from the room that tiles take and from accesses, actions from what is gated or
skipped, and widths of metadata from their share of the bandwidth. Where several answers are possible, each is a choice,
and :func:`settle` takes, one choice after the other, the answer under which most figures agree.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import StorageLevel
from mapgym.spec.sparsity import OUTER_FIRST, parse_actions
from mapgym.spec.workload import Workload
from mapgym.timeloop.results.printed import read_printed
from mapgym.timeloop.results.sparse import with_conversions
from mapgym.timeloop.results.stats import Lines, Part, TensorStats
from mapgym.timeloop.results.task import Inputs

Key = tuple[str, ...]
Choices = dict[Key, list[Any]]
"""What is open -> its possible values, the likeliest first."""

_DENSITY, _ACTION, _FORMAT, _COMPUTE = "density", "action", "format", "compute"
_ROUNDS = 4
_SAVINGS = (("gating", "Gated"), ("skipping", "Skipped"))


@dataclass(frozen=True)
class Guess:
    """One answer to every choice."""

    choices: Choices
    taken: dict[Key, int]

    def value(self, *key: str) -> Any:
        """The value that is taken; None if nothing was open."""
        return self.choices[key][self.taken.get(key, 0)] if key in self.choices else None

    def workload(self, workload: Workload) -> Workload:
        """The workload with these densities."""
        densities = {name: self.value(_DENSITY, name) for name in (tensor.name for tensor in workload.tensors)}
        return workload.with_densities({name: value for name, value in densities.items() if value is not None})

    def accelerator(self, accelerator: Accelerator) -> Accelerator:
        """The accelerator with these features."""
        levels = tuple(self._level(level) for level in accelerator.levels)
        compute = self.value(_COMPUTE) or ()
        return with_conversions(
            replace(accelerator, levels=levels, mac=replace(accelerator.mac, zero_operands=compute))
        )

    def _level(self, level: StorageLevel) -> StorageLevel:
        formats: dict[str, tuple[str, ...]] = {}
        actions = []
        for key in self.choices:
            if key[0] == _FORMAT and key[1] == level.name:
                formats[key[2]] = self.value(*key)
            elif key[0] == _ACTION and key[1] == level.name:
                actions.append(self.value(*key))
        return replace(level, formats=tuple(formats.items()), actions=parse_actions(actions, level.name))


def open_choices(inputs: Inputs, workload: Workload) -> Choices:
    """What sparse features and densities the figures leave possible."""
    dims = {tensor.name: tensor.dims for tensor in workload.tensors}
    # Densities first: without them nothing else agrees.
    choices: Choices = {
        (_DENSITY, each.name): densities for each in workload.tensors if (densities := _densities(inputs, each.name))
    }
    for part in reversed(inputs.stats.levels):
        for name, tensor in part.tensors.items():
            ranks = _ranks(tensor.lines)
            if ranks:
                choices[_FORMAT, part.name, name] = _formats(part, tensor, ranks, dims[name])
            for saving, label in _SAVINGS:
                if any(_count(tensor.lines, f"{label} scalar {kind} (per-instance)") for kind in ("reads", "updates")):
                    others = [each.name for each in workload.tensors if each.name != name and not each.is_output]
                    choices[_ACTION, part.name, name] = [
                        {"type": saving, "target": name, "condition_on": list(on)}
                        for count in range(len(others), 0, -1)
                        for on in itertools.combinations(others, count)
                    ]
    _add_densities_without_format(inputs, workload, choices)
    mac = inputs.stats.mac.stats
    compute = tuple(saving for saving, label in _SAVINGS if _count(mac, f"{label} Computes (total)"))
    if compute:
        choices[(_COMPUTE,)] = [compute]
    return choices


def settle(choices: Choices, badness: Callable[[Guess], tuple[int, int]]) -> Guess:
    """Takes for each choice the answer under which the fewest figures differ.

    Args:
        choices: what is open.
        badness: figures that differ; less is better.
    """
    best = Guess(choices, {})
    least = badness(best)
    # One after the other, and the formats of a level together, as they share what shows their widths.
    steps = [{key: i} for key, values in choices.items() for i in range(len(values))]
    levels: dict[str, list[Key]] = {}
    for key in choices:
        if key[0] == _FORMAT:
            levels.setdefault(key[1], []).append(key)
    for keys in levels.values():
        if len(keys) > 1:
            steps += [dict.fromkeys(keys, i) for i in range(min(len(choices[key]) for key in keys))]
    for _ in range(_ROUNDS):
        before = least
        for step in steps:
            if least == (0, 0):
                return best
            if any(i != best.taken.get(key, 0) for key, i in step.items()):
                other = Guess(choices, {**best.taken, **step})
                if (found := badness(other)) < least:
                    best, least = other, found
        if least == before:
            break
    return best


def _count(lines: Lines, label: str) -> int:
    text = lines.get(label, "0")
    return int(text) if text.isdecimal() else 0


def _ranks(lines: Lines) -> tuple[str, ...]:
    """The ranks of a printed format, outermost first; () for none."""
    text = lines.get("Representation format", "none").split()
    return () if text in ([], ["none"]) else tuple(rank.upper() for rank in text)


def _formats(part: Part, tensor: TensorStats, ranks: tuple[str, ...], dims: Sequence[str]) -> list[tuple[str, ...]]:
    """A printed format with the widths of words that its share of the bandwidth leaves possible.

    Ranks take loops in either order, one each or, last of all, as many as there are.
    """
    found = [ranks, tuple("UOP:0" if rank == "UOP" else rank for rank in ranks)]
    for bits in _widths(part, tensor, ranks):
        widths = {"UOP": "UOP:0", "B": "B"}
        found.append(tuple(widths.get(rank, f"{rank}:{bits}") for rank in ranks))
        found.append(tuple(rank if rank == "B" else f"{rank}:{bits}" for rank in ranks))
    found = list(dict.fromkeys(found))
    if len(ranks) > 1:
        found += [(OUTER_FIRST, *each) for each in found]
    joined = f"@{'+'.join(dims)}"
    return found + [
        tuple(
            rank if rank == OUTER_FIRST else rank.partition(":")[0] + joined + "".join(rank.partition(":")[1:])
            for rank in each
        )
        for each in found
    ]


def _widths(part: Part, tensor: TensorStats, ranks: tuple[str, ...]) -> list[int]:
    """Bits of a word of metadata, by the share of the bandwidth that is printed for them."""
    share = tensor.lines.get("Breakdown (Data, Format)", "").strip("()").split(",")
    word = part.specs.get("Data word bits", "0")
    if len(share) != 2 or not word.isdecimal():
        return []
    format_share = read_printed(share[1].strip(), part.name).value
    if not 0 < format_share < 1:
        return []
    words, plain, pointers, single = 0, 0, 0, 0
    for kind in ("reads", "fills", "updates"):
        for outcome in ("Actual", "Gated"):
            words += _count(tensor.lines, f"{outcome} scalar {kind} (per-instance)")
            for rank, (metadata, payload) in tensor.ranks.get(
                f"{outcome} scalar format {kind} (per-instance)", {}
            ).items():
                is_bits = rank < len(ranks) and ranks[::-1][rank] == "B"
                single += int(float(metadata)) * is_bits
                plain += int(float(metadata)) * (not is_bits)
                pointers += int(float(payload))
    bits = words * int(word) * format_share / (1 - format_share) - single
    return [round(bits / number) for number in (plain, plain + pointers) if number and round(bits / number) > 0]


def _densities(inputs: Inputs, name: str) -> list[Any]:
    """Densities that room and accesses of a compressed tensor leave possible: the shortest number, the largest."""
    low, high, kind = 0.0, 1.0, "fixed-structured"
    is_saved = False
    for part in reversed(inputs.stats.levels):
        tensor = part.tensors.get(name)
        if tensor is None:
            continue
        lines = tensor.lines
        distribution = lines.get("Tile density distribution", "").replace("_", "-")
        if distribution in ("hypergeometric", "fixed-structured"):
            kind = distribution
        pairs = []
        if _ranks(lines):
            pairs.append((_count(lines, "Max utilized data storage capacity"), _count(lines, "Data tile shape")))
            is_saved = is_saved or any(_count(lines, f"{label} scalar reads (per-instance)") for _, label in _SAVINGS)
            for access in () if is_saved or kind != "fixed-structured" else ("reads", "fills"):
                actual, dense = (
                    _count(lines, f"{which} scalar {access} (per-instance)") for which in ("Actual", "Algorithmic")
                )
                pairs.append((actual, dense))
        for some, all_of in pairs:
            if all_of and (kind == "fixed-structured" or high == 1.0) and max(low, (some - 1) / all_of) < some / all_of:
                low, high = max(low, (some - 1) / all_of), min(high, some / all_of)
    if high >= 1.0 or low >= high:
        return []
    # A whole count may have been rounded up as well, so that the lower end is possible too.
    possible = dict.fromkeys((_shortest(low, high), _shortest(low * (1 - 1e-9), high), high))
    return [{"density": density, "distribution": kind} for density in possible]


def _shortest(low: float, high: float) -> float:
    """The number with the fewest digits that is above one and at most another."""
    for digits in range(1, 16):
        candidate = math.floor(high * 10**digits + 1e-9) / 10**digits
        if low < candidate <= high:
            return candidate
    return high


def _add_densities_without_format(inputs: Inputs, workload: Workload, choices: Choices) -> None:
    """Of operands that are stored in full the number of multiply-accumulates says how many zeros there are."""
    mac = inputs.stats.mac.stats
    done, all_of = _count(mac, "Actual Computes (total)"), _count(mac, "Algorithmic Computes (total)")
    operands = [tensor.name for tensor in workload.tensors if not tensor.is_output]
    unknown = [name for name in operands if (_DENSITY, name) not in choices]
    if not done or done >= all_of or not unknown:
        return
    share = done / all_of
    for name in operands:
        if (_DENSITY, name) in choices:
            share /= choices[_DENSITY, name][0]["density"]
    if 0 < share < 1:
        for name in unknown:
            ways = [share, share ** (1 / len(unknown))]
            choices[_DENSITY, name] = [
                {"density": _shortest(way * (1 - 2e-6), way * (1 + 2e-6)), "distribution": "fixed-structured"}
                for way in ways
            ] + [1.0]
