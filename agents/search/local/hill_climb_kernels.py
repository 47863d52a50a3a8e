"""The step of hill climbers, compiled: for a few climbers, NumPy takes as long as pricing does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import kernel
from mapgym.mapping.canonical_kernels import copy_mapping
from mapgym.mapping.maps import Arrays, Maps


@kernel
def climb(
    proposals: Arrays,
    values: NDArray[np.float64],
    at: Arrays,
    at_values: NDArray[np.float64],
    idle: NDArray[np.int64],
    patience: int,
) -> int:
    """Moves each climber to its proposal if that costs no more, or if the climber is starting again.

    Args:
        proposals: arrays of a batch, one mapping for each of the first climbers.
        values: float64[proposals], their costs.
        at: arrays of a batch, where all climbers stand, changed in place.
        at_values: float64[climbers], the costs there, changed in place.
        idle: int64[climbers], proposals without progress; a climber with ``patience`` or more is starting again.
            Changed in place.
        patience: see there.

    Returns:
        How many climbers have to start again now.
    """
    proposed, standing = Maps(*proposals), Maps(*at)
    for i in range(len(values)):
        progress = idle[i] >= patience or values[i] < at_values[i]
        idle[i] = 0 if progress else idle[i] + 1
        if progress or values[i] <= at_values[i]:
            copy_mapping(i, proposed, i, standing)
            at_values[i] = values[i]
    stuck = 0
    for i in range(len(idle)):
        stuck += idle[i] >= patience
    return stuck
