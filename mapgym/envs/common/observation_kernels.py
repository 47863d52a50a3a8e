"""Where the fields of an observation are, for compiled kernels.

``layout`` is :attr:`mapgym.envs.common.observation.ObservationLayout.table`: the largest numbers of levels, dims and
tensors, then the start of each of the fields below, -1 for one that an environment does not have.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import accessor

Layout: TypeAlias = NDArray[np.int64]

DYNAMIC_FIELDS = (
    "remaining",
    "temporal",
    "spatial_x",
    "spatial_y",
    "keep",
    "order",
    "spatial_order",
    "capacity_used",
    "fanout_used_x",
    "fanout_used_y",
    "decision_kind",
    "decision_level",
    "decision_dim",
    "decision_tensor",
    "progress",
)
"""Fields that change during an episode."""

_LEVELS, _DIMS, _TENSORS = 0, 1, 2
(
    REMAINING,
    TEMPORAL,
    SPATIAL_X,
    SPATIAL_Y,
    KEEP,
    ORDER,
    SPATIAL_ORDER,
    CAPACITY_USED,
    FANOUT_USED_X,
    FANOUT_USED_Y,
    DECISION_KIND,
    DECISION_LEVEL,
    DECISION_DIM,
    DECISION_TENSOR,
    PROGRESS,
) = range(3, 18)


@accessor
def dims(layout: Layout) -> int:
    """The largest number of dims."""
    return layout[_DIMS]


@accessor
def entry(layout: Layout, field: int, k: int) -> int:
    """Place of entry k of a field of one axis."""
    return layout[field] + k


@accessor
def of_dim(layout: Layout, field: int, level: int, d: int) -> int:
    """Place of a dim at a level in a field of levels and dims."""
    return layout[field] + level * layout[_DIMS] + d


@accessor
def of_tensor(layout: Layout, field: int, level: int, t: int) -> int:
    """Place of a tensor at a level in a field of levels and tensors."""
    return layout[field] + level * layout[_TENSORS] + t


@accessor
def end_of_levels(layout: Layout, field: int) -> int:
    """Where a field of levels ends."""
    return layout[field] + layout[_LEVELS]
