"""How alike two workloads are, for the choice of the solved layer from which a search begins.

A similarity is a function ``distances(target, family, bounds) -> float64[n]``: distances from the target to n
workloads that share everything but their bounds with ``family``. 0 is an equal layer; only the order counts.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mapgym.errors import SpecificationError, suggest
from mapgym.errors.text import quoted
from mapgym.spec.workload import Workload
from mapgym.warmstart.transfer import match_dims

Similarity = Callable[[Workload, Workload, NDArray[np.int64]], NDArray[np.float64]]


def editing_distance(target: Workload, family: Workload, bounds: NDArray[np.int64]) -> NDArray[np.float64]:
    """The paper's: the number of dims whose bounds differ (section 5, as recollected, unverified).

    Dims without a counterpart count as different if their bound is above 1. Coefficients of projections (strides and
    dilations) count as one more difference.
    """
    matches = match_dims(family, target)
    count = np.full(len(bounds), float(_projections(target) != _projections(family)))
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
    words = np.array([target.tensor_size(tensor.name) for tensor in target.tensors], np.float64)
    total = np.full(len(bounds), 0.5 * (_projections(target) != _projections(family)))
    for d, (dim, e) in enumerate(zip(target.dims, matches, strict=True)):
        share = sum(w for w, tensor in zip(words, target.tensors, strict=True) if dim in tensor.dims) / words.sum()
        theirs = bounds[:, e] if e >= 0 else np.ones(len(bounds), np.int64)
        total += _difference(theirs, target.bounds[d], share)
    for e in set(range(len(family.dims))) - set(matches):
        total += _difference(bounds[:, e], 1, 0.5)
    return total


def _difference(bounds: NDArray[np.int64], bound: int, weight: float) -> NDArray[np.float64]:
    largest = int(bounds.max(initial=1))
    if 2 * largest < len(bounds):
        # Most bounds come up many times: looking them up is faster.
        return _difference(np.arange(largest + 1).clip(1), bound, weight).take(bounds)
    common = np.gcd(bounds, bound)
    return 0.5 * weight * (np.abs(np.log(bounds / bound)) + np.log((bounds // common) * (bound / common)))


def _projections(workload: Workload) -> list[list[list[int]]]:
    return [[sorted(c for _, c in rank) for rank in tensor.ranks] for tensor in workload.tensors]


SIMILARITIES: dict[str, Similarity] = {"log-ratio": log_ratio_distance, "editing": editing_distance}


def similarity(name: str) -> Similarity:
    """A similarity by name; raises SpecificationError for an unknown one."""
    if name not in SIMILARITIES:
        raise SpecificationError(f"unknown similarity {quoted(name)}; {suggest(name, SIMILARITIES)}")
    return SIMILARITIES[name]
