"""Counts that the cost kernel writes down where they are asked for."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Detail(NamedTuple):
    """Counts of every mapping, level and tensor; see CostDetail for the meaning."""

    reads: NDArray[np.int64]
    fills: NDArray[np.int64]
    updates: NDArray[np.int64]
    tile_words: NDArray[np.int64]
    partition_words: NDArray[np.int64]
    energy_pj: NDArray[np.float64]
    address_energy_pj: NDArray[np.float64]
    leakage_energy_pj: NDArray[np.float64]
    network_energy_pj: NDArray[np.float64]
    ingresses: NDArray[np.float64]
    hops: NDArray[np.float64]
    link_transfers: NDArray[np.float64]
    spatial_reductions: NDArray[np.int64]
    multicast: NDArray[np.int64]
    used_instances: NDArray[np.int64]
    used_clusters: NDArray[np.int64]
    fanout_used: NDArray[np.int64]
    compute_cycles: NDArray[np.int64]
    level_cycles: NDArray[np.int64]
