"""How alike two workloads are, for the choice of the solved layer from which a search begins.

A similarity is a function ``distances(target, family, bounds) -> float64[n]``: distances from the target to n
workloads that share everything but their bounds with ``family``. 0 is an equal layer; only the order counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapgym.errors import SpecificationError, suggest
from mapgym.errors.text import quoted
from mapgym.spec.workload import Workload
from mapgym.warmstart.transfer import match_dims

_FEW = 256
"""Workloads whose distances are worked out for all dims together."""

Similarity = Callable[[Workload, Workload, NDArray[np.int64]], NDArray[np.float64]]


def editing_distance(target: Workload, family: Workload, bounds: NDArray[np.int64]) -> NDArray[np.float64]:
    """The paper's: the number of dims whose bounds differ (section 5, as recollected, unverified).

    Dims without a counterpart count as different if their bound is above 1. Coefficients of projections (strides and
    dilations) count as one more difference.
    """
    matches = match_dims(family, target)
    count = np.full(len(bounds), float(not _project_alike(target, family)))
    for d, e in enumerate(matches):
        count += (bounds[:, e] != target.bounds[d]) if e >= 0 else float(target.bounds[d] > 1)
    for e in set(range(len(family.dims))) - set(matches):
        count += bounds[:, e] > 1
    return count


def log_ratio_distance(target: Workload, family: Workload, bounds: NDArray[np.int64]) -> NDArray[np.float64]:
    """Ours: the sum over the dims of ``|ln(ratio of the bounds)|``, weighted by the tensors that depend on the dim.

    The weight of a dim is the share that the tensors depending on it have in the words of the target: a change in a
    dim that only touches a small tensor moves the best mapping less. Half of the distance measures divisibility, by
    ln(lcm / gcd) of the two bounds: it is large for 197 and 196, though their ratio is 1, because their factors, and
    so their mappings, have nothing in common.
    """
    matches = match_dims(family, target)
    total = np.full(len(bounds), 0.5 * (not _project_alike(target, family)))
    others = sorted(set(range(len(family.dims))) - set(matches))
    weights = [*_shares(target), *(0.5 for _ in others)]
    wanted = [*target.bounds, *(1 for _ in others)]
    # One after the other, so that an entry is as far away in every buffer.
    for part in _differences(bounds, [*matches, *others], wanted, weights):
        total += part
    return total


def _differences(
    bounds: NDArray[np.int64], columns: Sequence[int], wanted: Sequence[int], weights: Sequence[float]
) -> Iterator[NDArray[np.float64]]:
    """Of some columns, -1 for one of ones, the weighted distances float64[n] from the bound that is wanted."""
    if len(bounds) <= _FEW:
        theirs = np.ones((len(wanted), len(bounds)), np.int64)
        for row, e in zip(theirs, columns, strict=True):
            if e >= 0:
                row[:] = bounds[:, e]
        yield from _difference(theirs, np.array(wanted, np.int64)[:, None], np.array(weights)[:, None])
        return
    for e, bound, weight in zip(columns, wanted, weights, strict=True):
        row = bounds[:, e] if e >= 0 else np.ones(len(bounds), np.int64)
        largest = int(row.max(initial=1))
        if 2 * largest < len(row):
            # Most bounds come up many times: looking them up is faster.
            yield _difference(np.arange(largest + 1).clip(1), bound, weight).take(row)
        else:
            yield _difference(row, bound, weight)


def _difference(bounds: NDArray[np.int64], bound: Any, weight: Any) -> NDArray[np.float64]:
    common = np.gcd(bounds, bound)
    distances: NDArray[np.float64] = (
        0.5 * weight * (np.abs(np.log(bounds / bound)) + np.log((bounds // common) * (bound / common)))
    )
    return distances


@lru_cache(maxsize=4096)
def _shares(workload: Workload) -> tuple[float, ...]:
    """For each dim the share that the tensors depending on it have in the words; layers come up again and again."""
    words = np.array([workload.tensor_size(tensor.name) for tensor in workload.tensors], np.float64)
    pairs = list(zip(words, workload.tensors, strict=True))
    return tuple(sum(w for w, tensor in pairs if dim in tensor.dims) / words.sum() for dim in workload.dims)


@lru_cache(maxsize=4096)
def _project_alike(one: Workload, other: Workload) -> bool:
    """Whether two workloads have the same coefficients of projections."""
    return _projections(one) == _projections(other)


def _projections(workload: Workload) -> list[list[list[int]]]:
    return [[sorted(c for _, c in rank) for rank in tensor.ranks] for tensor in workload.tensors]


SIMILARITIES: dict[str, Similarity] = {"log-ratio": log_ratio_distance, "editing": editing_distance}


def similarity(name: str) -> Similarity:
    """A similarity by name; raises SpecificationError for an unknown one."""
    if name not in SIMILARITIES:
        raise SpecificationError(f"unknown similarity {quoted(name)}; {suggest(name, SIMILARITIES)}")
    return SIMILARITIES[name]
