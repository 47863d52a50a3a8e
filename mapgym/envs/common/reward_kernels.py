"""Compiled figures of priced mappings: rewards, and what metrics are made of."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import allocating_kernel, kernel
from mapgym.cost.dense.price_kernels import ENERGY, LATENCY, price_small_batch, price_small_batch_with_features
from mapgym.envs.common.infos import NOTHING
from mapgym.mapping.maps import Arrays

FIGURES = ("reward", "latency_cycles", "energy_pj", "edp", "utilization", "ratio")
"""What the first rows of figures are."""

PLAIN_FIGURES = (*FIGURES, "lower_bound", "gap")
"""All rows, but over a set of densities."""

ILLEGAL_REWARD = -30.0
"""Reward of a mapping whose compressed tiles have no room for their metadata, which no mask can foresee: that of a
mapping 1e13 times as costly as the bound."""


@kernel
def _make_figures(
    status: NDArray[np.int32],
    costs: NDArray[np.float64],
    numbers: NDArray[np.float64],
    figures: NDArray[np.float64],
) -> None:
    """Fills the figures of mappings.

    Args:
        status: int32[n], 0 for legal mappings.
        costs: float64[2, n], rows ENERGY and LATENCY.
        numbers: see :func:`price_figures`.
        figures: float64[figure, n], receives :data:`PLAIN_FIGURES`.
    """
    for i in range(len(status)):
        energy, latency = costs[ENERGY, i], costs[LATENCY, i]
        edp = energy * latency
        value = edp
        if numbers[0] == 1.0:
            value = energy
        elif numbers[0] == 2.0:
            value = latency
        ratio = value / numbers[1]
        figures[0, i] = -math.log(ratio) if status[i] == 0 else ILLEGAL_REWARD
        figures[1, i] = latency
        figures[2, i] = energy
        figures[3, i] = edp
        figures[4, i] = numbers[2] / (numbers[3] * latency)
        figures[5, i] = ratio
        figures[6, i] = numbers[1]
        figures[7, i] = value / numbers[4] - 1.0 if numbers[4] > 0.0 else NOTHING


@allocating_kernel
def price_figures(
    arrays: Arrays,
    whole: NDArray[np.int64],
    floats: NDArray[np.float64],
    numbers: NDArray[np.float64],
    figures: NDArray[np.float64],
) -> None:
    """Prices mappings on hardware without features, and fills their figures.

    Args:
        arrays: of n mappings.
        whole, floats: of the task, see :func:`mapgym.cost.dense.memory_kernels.pack_memory`.
        numbers: the place of the objective in ``mapgym.cost.OBJECTIVES`` (edp, energy, latency), its lower bound, the
            multiply-accumulates of the layer, the MACs, and the best lower bound that is proven, 0 if none is stored.
        figures: float64[figure, n], receives :data:`PLAIN_FIGURES`.
    """
    n = figures.shape[1]
    status, costs = np.empty(n, np.int32), np.empty((2, n))
    price_small_batch(arrays, whole, floats, status, costs)
    _make_figures(status, costs, numbers, figures)


@allocating_kernel
def price_figures_with_features(
    arrays: Arrays,
    whole: NDArray[np.int64],
    floats: NDArray[np.float64],
    numbers: NDArray[np.float64],
    figures: NDArray[np.float64],
) -> None:
    """As :func:`price_figures`, on hardware with features."""
    n = figures.shape[1]
    status, costs = np.empty(n, np.int32), np.empty((2, n))
    price_small_batch_with_features(arrays, whole, floats, status, costs)
    _make_figures(status, costs, numbers, figures)
