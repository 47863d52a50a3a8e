"""Selection where several figures count: non-dominated sorting and crowding distance.

After Deb, Pratap, Agarwal and Meyarivan, "A fast and elitist multiobjective genetic algorithm: NSGA-II" (IEEE
Transactions on Evolutionary Computation 6(2), 2002), with the sweep that two figures allow in place of the general
sort.
"""

from __future__ import annotations

import bisect

import numpy as np
from numpy.typing import NDArray


def nondominated_ranks(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """How many layers of better points lie before each point: 0 for those that none dominates.

    A point dominates another if it is no worse in both figures and better in one; equal points share a rank.

    Args:
        values: float64[n, 2], lower is better; inf for an illegal mapping.

    Returns:
        intp[n].
    """
    ranks = np.empty(len(values), np.intp)
    # Swept by the first figure, a point belongs to the first layer whose lowest second figure so far is above its own.
    # These minima ascend from layer to layer, so that bisection finds it.
    lowest: list[float] = []
    previous, rank = (np.nan, np.nan), 0
    for i in np.lexsort((values[:, 1], values[:, 0])):
        first, second = float(values[i, 0]), float(values[i, 1])
        if (first, second) != previous:
            rank = bisect.bisect_right(lowest, second)
            lowest[rank : rank + 1] = [second]
            previous = (first, second)
        ranks[i] = rank
    return ranks


def crowding_distances(layer: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far apart the neighbours of each point of a layer are; inf at its ends, 0 for a point that is there already.

    Args:
        layer: float64[n, 2], points none of which dominates another.

    Returns:
        float64[n]: the sum over both figures, each as a share of the layer's extent.
    """
    # Along a layer one figure ascends while the other descends.
    points, first = np.unique(layer, axis=0, return_index=True)
    distances = np.zeros(len(layer))
    distances[first] = np.inf
    if len(points) > 2:
        extent = np.abs(points[-1] - points[0])
        distances[first[1:-1]] = (np.abs(points[2:] - points[:-2]) / extent).sum(axis=1)
    return distances


def select_nondominated(values: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """The best points: whole layers from the front on, and of the layer that is too large the loneliest points.

    Args:
        values: float64[n, 2], lower is better; inf for an illegal mapping.
        count: how many, at most n.

    Returns:
        intp[count] indices, better layers first.
    """
    ranks = nondominated_ranks(values)
    order = np.argsort(ranks, kind="stable")
    last = np.flatnonzero(ranks == ranks[order[count - 1]])
    whole = order[: np.count_nonzero(ranks < ranks[last[0]])]
    lonely = np.argsort(-crowding_distances(values[last]), kind="stable")
    return np.concatenate([whole, last[lonely[: count - len(whole)]]])
