"""The workload behind results that come without a problem: what the sizes of tiles leave possible.

Loops give the bounds. What a tensor is indexed by must explain the words of its tile at every level that keeps it: a
product of dims, or of dims and windows that slide over a pair of them, with strides and dilations. Where several
workloads do, the counts decide; where none does, the problem must be given.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.spec.tensor import Rank, Tensor
from mapgym.spec.workload import Workload
from mapgym.timeloop.results.stats import TensorStats
from mapgym.timeloop.results.task import Inputs

Extents = dict[str, int]
Sizes = list[tuple[Extents, int]]
"""For each level that keeps a tensor: iterations of each dim that its tile spans, and its words."""

_WINDOWS = (("P", "R"), ("Q", "S"), ("E", "R"), ("F", "S"), ("OY", "FY"), ("OX", "FX"), ("Y", "R"), ("X", "S"))
"""Pairs of an output dim and a filter dim, by the names that people give them."""

_STRIDES, _DILATIONS = range(1, 9), range(1, 5)
_USUAL = {
    "Weights": ("C", "M", "K", "R", "S"),
    "Inputs": ("N", "C", "P", "Q", "R", "S"),
    "Outputs": ("N", "M", "K", "P", "Q"),
    "A": ("M", "K"),
    "B": ("K", "N"),
    "Z": ("M", "N"),
}
"""What tensors of these names are usually indexed by; among workloads that explain the sizes these come first."""

_MOST_OF_ONE, _MOST = 6, 40


def infer_workloads(inputs: Inputs) -> list[Workload]:
    """Workloads that explain the sizes of all tiles, the most usual first.

    Raises:
        SpecificationError: there is none, or more than one tensor is an output; asks for the problem.
    """
    where = f"{inputs.case.stats}: there is no problem beside it"
    remedy = "give it with --problem FILE"
    bounds = inputs.bounds
    # The outermost level has all tensors in the order of the problem.
    names = tuple(dict.fromkeys(name for level in reversed(inputs.stats.levels) for name in level.tensors))
    outputs = {name for name in names if _is_updated(inputs, name)}
    if len(outputs) != 1 or not bounds:
        raise SpecificationError(f"{where}, and its counts do not show which tensor is the output; {remedy}")
    choices: list[list[tuple[Rank, ...]]] = []
    for name in names:
        possible = sorted(_projections(_sizes(inputs, name), bounds), key=lambda ranks: _unusual(name, ranks))
        if not possible:
            raise SpecificationError(
                f"{where}, and no sums of dims explain the sizes of tensor {quoted(name)} at all levels; {remedy}"
            )
        choices.append(possible[:_MOST_OF_ONE])
    dims = tuple(bounds)
    workloads = []
    for ranks in itertools.product(*choices):
        used = {dim for projection in ranks for rank in projection for dim, _ in rank}
        if used == {dim for dim in dims if bounds[dim] > 1} | (used & set(dims)):
            tensors = tuple(
                Tensor(name, projection, is_output=name in outputs)
                for name, projection in zip(names, ranks, strict=True)
            )
            workloads.append(Workload("inferred", dims, tuple(bounds.values()), tensors))
    if not workloads:
        raise SpecificationError(f"{where}, and its sizes leave a dim without a tensor; {remedy}")
    order = [_oddness(workload) for workload in workloads]
    return [workloads[i] for i in sorted(range(len(workloads)), key=lambda i: order[i])][:_MOST]


def _is_updated(inputs: Inputs, name: str) -> bool:
    """Whether something below writes a tensor."""
    found = [level.tensors.get(name, TensorStats()).lines for level in inputs.stats.levels]
    return any(
        lines.get(label, "0") != "0"
        for lines in found
        for label in ("Scalar updates (per-instance)", "Algorithmic scalar updates (per-instance)")
    )


def _sizes(inputs: Inputs, name: str) -> Sizes:
    sizes: Sizes = []
    extents: Extents = dict.fromkeys(inputs.bounds, 1)
    for level in reversed(inputs.nest):
        for loop in level.loops:
            extents[loop.dim] *= loop.bound
        if name in level.words:
            sizes.append((dict(extents), level.words[name]))
    return sizes


def _projections(sizes: Sizes, bounds: Extents) -> Iterator[tuple[Rank, ...]]:
    """All projections of the kinds above that give the words at every level."""
    dims = [dim for dim, bound in bounds.items() if bound > 1]
    for windows in _window_choices(dims, bounds):
        in_windows = {dim for rank in windows for dim, _ in rank}
        rest = [dim for dim in dims if dim not in in_windows]
        left = [_without(windows, extents, words) for extents, words in sizes]
        if any(words is None for words in left):
            continue
        for count in range(len(rest) + 1):
            for chosen in itertools.combinations(rest, count):
                if all(math.prod(e[dim] for dim in chosen) == w for (e, _), w in zip(sizes, left, strict=True)):
                    ranks = (*(((dim, 1),) for dim in chosen), *windows)
                    yield ranks or (((next(iter(bounds)), 1),),)


def _without(windows: tuple[Rank, ...], extents: Extents, words: int) -> int | None:
    """Words of a tile over those of its windows; None if they do not divide it."""
    size = math.prod(1 + sum(c * (extents[dim] - 1) for dim, c in rank) for rank in windows)
    return words // size if words % size == 0 else None


def _window_choices(dims: list[str], bounds: Extents) -> Iterator[tuple[Rank, ...]]:
    """Windows that a tensor may have: none, or sums of some pairs of dims; a pair may lack its filter dim."""
    yield ()
    pairs = [pair for pair in _WINDOWS if pair[0] in dims and (pair[1] in dims or pair[1] not in bounds)]
    pairs += [pair for pair in _WINDOWS if pair[0] in dims and bounds.get(pair[1]) == 1]
    pairs = list(dict.fromkeys((out, filters if filters in dims else "") for out, filters in pairs))
    for count in (1, 2):
        for chosen in itertools.combinations(pairs, count):
            named = [dim for pair in chosen for dim in pair if dim]
            if len(set(named)) < len(named):
                continue
            options = [list(_ranks(out, filters)) for out, filters in chosen]
            yield from itertools.product(*options)


def _ranks(out: str, filters: str) -> Iterator[Rank]:
    for stride in _STRIDES:
        if not filters:
            if stride > 1:
                yield ((out, stride),)
            continue
        for dilation in _DILATIONS:
            yield ((filters, dilation), (out, stride))


def _unusual(name: str, ranks: tuple[Rank, ...]) -> tuple[int, int, int]:
    """How far a projection is from what the name of its tensor suggests."""
    used = {dim for rank in ranks for dim, _ in rank}
    usual = set(_USUAL.get(name, used))
    coefficients = [c for rank in ranks for _, c in rank]
    lopsided = len({rank[-1][1] for rank in ranks if len(rank) > 1})
    return len(used - usual), sum(coefficients) + lopsided, len(used)


def _oddness(workload: Workload) -> tuple[int, int]:
    pairs = [_unusual(tensor.name, tensor.ranks) for tensor in workload.tensors]
    return sum(first for first, _, _ in pairs), sum(second for _, second, _ in pairs)
