"""The forms in which environments show the flat observation: as it is, as a dict of fields, or as tokens.

``"flat"``: the vector of :class:`mapgym.envs.common.observation.ObservationLayout`.

``"dict"``: a ``Dict`` of its fields, each float32 in its shape, and ``action_mask`` where there are illegal actions.

``"tokens"``: a ``Dict`` for policies with attention. There is one token for everything that has features of its own:
the task as a whole, each dim, level and tensor, each (level, dim), each (level, tensor) and each (tensor, dim).

- ``tokens``: float32[tokens, features], the features, in the order in which the fields of its type are in
  ``observation_shapes``, then 0.
- ``ids``: int64[tokens, 4], type (0 task, 1 dim, 2 level, 3 tensor, 4 level and dim, 5 level and tensor, 6 tensor and
  dim), then level, dim and tensor, counted from 1; 0 for none.
- ``padding_mask``: int8[tokens], 1 for tokens of the task, 0 for what a smaller task does not have.
- ``action_mask``: int8[actions], the legal actions, where there are illegal ones.

Both are views of the flat vector, which is what environments compute and states keep; the index tables are made once.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from mapgym.envs.common.infos import MASK
from mapgym.envs.common.observation import ObservationLayout
from mapgym.errors import require_one_of
from mapgym.evaluation.task import Task

FLAT, DICT, TOKENS = KINDS = ("flat", "dict", "tokens")
AXES = ("level", "dim", "tensor")
TYPES: tuple[tuple[str, ...], ...] = (
    (),
    ("dim",),
    ("level",),
    ("tensor",),
    ("level", "dim"),
    ("level", "tensor"),
    ("tensor", "dim"),
)
"""What the tokens of each type stand for; of type 0 there is one, for the task."""


def axes_of(layout: ObservationLayout) -> dict[str, tuple[str, ...]]:
    """The axes of each field: level, dim and tensor; none for fields of another length."""
    # Sizes that no other axis has tell which axis is which.
    sizes = (1009, 1013, 1019)
    shapes = type(layout)(*sizes).shapes
    names = dict(zip(sizes, AXES, strict=True))
    return {name: tuple(names[n] for n in shape if n in names) for name, shape in shapes.items()}


def entry_names(layout: ObservationLayout) -> list[str]:
    """A text for every entry of the flat observation, such as "temporal of level 0, dim 2"."""
    found, axes = [], axes_of(layout)
    for name, shape in layout.shapes.items():
        for index in product(*map(range, shape)):
            words = [f"{axis} {k}" for axis, k in zip(axes[name], index, strict=False)]
            words = words or ([f"entry {index[0]}"] if shape != (1,) else [])
            found.append(f"{name} of {', '.join(words)}" if words else name)
    return found


class ObservationKind(ABC):
    """A form of the observation other than the flat one.

    Attributes:
        space: of one environment.
    """

    space: spaces.Dict

    @abstractmethod
    def of(self, flat: NDArray[np.float32], masks: NDArray[np.int8] | None, tasks: Sequence[Task]) -> dict[str, Any]:
        """The observations.

        Args:
            flat: float32[..., size], which the caller does not use any more; with a leading axis for a vector.
            masks: int8[..., actions]; None where every action is legal.
            tasks: that of each environment.
        """


def observation_kind(kind: Any, layout: ObservationLayout, action_space: spaces.Space[Any]) -> ObservationKind | None:
    """The form that an argument ``observation`` names; None for the flat one.

    Raises:
        SpecificationError: an unknown one.
    """
    require_one_of(kind, KINDS, "observation")
    if kind == FLAT:
        return None
    actions = {MASK: spaces.MultiBinary(int(action_space.n))} if isinstance(action_space, spaces.Discrete) else {}
    return FieldDict(layout, actions) if kind == DICT else Tokens(layout, actions)


class FieldDict(ObservationKind):
    """Fields by their names."""

    def __init__(self, layout: ObservationLayout, actions: dict[str, Any]) -> None:
        self._fields = [(name, layout.fields[name], shape) for name, shape in layout.shapes.items()]
        self.space = spaces.Dict(
            {**{name: spaces.Box(0.0, 1.0, shape, np.float32) for name, _, shape in self._fields}, **actions}
        )

    def of(self, flat: NDArray[np.float32], masks: NDArray[np.int8] | None, tasks: Sequence[Task]) -> dict[str, Any]:
        """See :class:`ObservationKind`; the fields are views."""
        lead = flat.shape[:-1]
        seen: dict[str, Any] = {name: flat[..., part].reshape(*lead, *shape) for name, part, shape in self._fields}
        if masks is not None:
            seen[MASK] = masks.copy()
        return seen


class Tokens(ObservationKind):
    """One token for everything that has features of its own."""

    def __init__(self, layout: ObservationLayout, actions: dict[str, Any]) -> None:
        sizes = dict(zip(AXES, (layout.levels, layout.dims, layout.tensors), strict=True))
        axes = axes_of(layout)
        indices: list[list[int]] = []
        ids = []
        for kind, of in enumerate(TYPES):
            fields = [name for name in layout.shapes if axes[name] == of]
            for place in product(*(range(sizes[axis]) for axis in of)):
                at = dict(zip(of, place, strict=True))
                features: list[int] = []
                for name in fields:
                    part, shape = layout.fields[name], layout.shapes[name]
                    start = int(np.ravel_multi_index(place, shape)) if of else 0
                    features += range(part.start + start, part.start + (start + 1 if of else math.prod(shape)))
                if fields:
                    indices.append(features)
                    ids.append([kind, *(at.get(axis, -1) + 1 for axis in AXES)])
        width = max(map(len, indices))
        # One beyond the last entry stands for 0.
        self._table = np.array([row + [layout.size] * (width - len(row)) for row in indices], np.int64)
        self._ids = np.array(ids, np.int64)
        self._padding: dict[tuple[int, ...], NDArray[np.int8]] = {}
        highest = np.broadcast_to([len(TYPES) - 1, *sizes.values()], self._ids.shape)
        self.space = spaces.Dict(
            {
                "tokens": spaces.Box(0.0, 1.0, self._table.shape, np.float32),
                "ids": spaces.Box(np.zeros_like(self._ids), highest.astype(np.int64), dtype=np.int64),
                "padding_mask": spaces.MultiBinary(len(ids)),
                **actions,
            }
        )

    def of(self, flat: NDArray[np.float32], masks: NDArray[np.int8] | None, tasks: Sequence[Task]) -> dict[str, Any]:
        """See :class:`ObservationKind`."""
        lead = flat.shape[:-1]
        padded = np.concatenate([flat, np.zeros((*lead, 1), np.float32)], axis=-1)
        padding = [self._padding_of(task) for task in tasks]
        seen = {
            "tokens": padded[..., self._table],
            "ids": np.broadcast_to(self._ids, (*lead, *self._ids.shape)).copy(),
            "padding_mask": np.stack(padding) if lead else padding[0].copy(),
        }
        if masks is not None:
            seen[MASK] = masks.copy()
        return seen

    def _padding_of(self, task: Task) -> NDArray[np.int8]:
        """int8[tokens], the tokens that a task has."""
        workload = task.workload
        sizes = len(task.accelerator.levels), len(workload.dims), len(workload.tensors)
        if sizes not in self._padding:
            has = np.all(self._ids[:, 1:] <= np.array(sizes), axis=1)
            self._padding[sizes] = np.asarray(has, np.int8)
        return self._padding[sizes]
