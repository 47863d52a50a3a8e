"""Compiled figures of priced mappings: rewards, and what metrics are made of."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import kernel
from mapgym.cost.dense.price_kernels import ENERGY, LATENCY

FIGURES = ("reward", "latency_cycles", "energy_pj", "edp", "utilization", "ratio")
"""What the first rows of figures are."""

ILLEGAL_REWARD = -30.0
"""Reward of a mapping whose compressed tiles have no room for their metadata, which no mask can foresee: that of a
mapping 1e13 times as costly as the bound."""


@kernel
def make_figures(
    status: NDArray[np.int32],
    costs: NDArray[np.float64],
    numbers: NDArray[np.float64],
    figures: NDArray[np.float64],
) -> None:
    """Fills the figures of mappings.

    Args:
        status: int32[n], 0 for legal mappings.
        costs: float64[2, n], rows ENERGY and LATENCY.
        numbers: the place of the objective in ``mapgym.cost.OBJECTIVES`` (edp, energy, latency), its lower bound, the
            multiply-accumulates of the layer, and the MACs.
        figures: float64[figure, n], receives :data:`FIGURES`.
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
