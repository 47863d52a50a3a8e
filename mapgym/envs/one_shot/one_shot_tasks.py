"""What the environments ``MapSpaceOneShot-v0`` share: arguments, spaces, and what an action of a task asks for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from mapgym.envs.common.observation import DYNAMIC_FIELDS, ObservationLayout
from mapgym.envs.common.reward import Pricing
from mapgym.envs.common.task import Task
from mapgym.envs.common.tasks import EnvironmentTasks, TaskArguments
from mapgym.envs.one_shot.one_shot_kernels import PLACES, build_batch, find_differences, read_wishes
from mapgym.mapping import MappingBatch
from mapgym.mapping.maps import Arrays
from mapgym.mapspace import MapSpace
from mapgym.mapspace.size import prime_exponents


def prime_factors(bound: int) -> list[int]:
    """The primes whose product a bound is, ascending, each as often as it divides the bound."""
    return [prime for prime, exponent in sorted(prime_exponents(bound).items()) for _ in range(exponent)]


class OneShotLayout(ObservationLayout):
    """Where each feature of the task is."""

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each field, in order; fields of more than one axis are flattened in C order."""
        return {name: shape for name, shape in super().shapes.items() if name not in DYNAMIC_FIELDS}


class OneShotColumns(NamedTuple):
    """Where the columns of an action begin.

    Attributes:
        starts: for each dim, its prime factors.
        priorities: the loops.
        keeps: the kept tensors, -1 without them.
    """

    starts: tuple[int, ...]
    priorities: int
    keeps: int


class Built(NamedTuple):
    """What n actions have built.

    Attributes:
        batch: the mappings.
        arrays: its arrays.
        fits: bool[n], whether they are in the map space, which no repair may reach.
        differs: bool[n], whether they are other than the actions say.
    """

    batch: MappingBatch
    arrays: Arrays
    fits: NDArray[np.bool_]
    differs: NDArray[np.bool_]


class OneShotTask:
    """One task with everything that an episode needs.

    Attributes:
        task, space, pricing: the task, its map space, costs and rewards.
        static: float32[size], the observation.
    """

    def __init__(self, task: Task, space: MapSpace, layout: OneShotLayout, pricing: Pricing, columns: OneShotColumns):
        """Prepares a task."""
        self.task, self.space, self.pricing = task, space, pricing
        self.static = layout.static_features(task)
        found = [
            (prime, d, start + k)
            for d, (bound, start) in enumerate(zip(task.workload.bounds, columns.starts, strict=False))
            for k, prime in enumerate(prime_factors(bound))
        ]
        numbers = np.array(found, np.int64).reshape(-1, 3).T.copy()
        places = np.array([columns.priorities, layout.dims, columns.keeps, layout.tensors], np.int64)
        entries = space.entries
        self._pages = space.projection.packed_with(
            [
                *(numbers[0], numbers[1], numbers[2], places),
                *(entries.order_searched, entries.order_key, entries.keep_free, entries.keep),
            ]
        )
        self._template = MappingBatch.trivial(task.workload, task.accelerator, 1)

    def room(self, n: int) -> Built:
        """Room for n mappings."""
        batch = self._template.blank(n)
        return Built(batch, batch.arrays(), np.empty(n, np.bool_), np.empty(n, np.bool_))

    def build(self, actions: NDArray[np.int64], built: Built) -> bool:
        """Fills in the mappings nearest to what n actions ask for; returns whether all are in the map space."""
        batch, arrays, fits, differs = built
        if self.space.projection.is_plain:
            return build_batch(actions, self._pages, arrays, fits, differs) == 0
        n, levels, dims = batch.order.shape
        wishes = (
            np.empty((n, 2 * levels, dims)),
            np.empty((n, levels, dims), np.bool_),
            np.empty((n, levels, dims), np.int8),
            np.empty(batch.keep.shape, np.bool_),
        )
        read_wishes(actions, self._pages, wishes, arrays)
        fits[:] = self.space.projection.fill(batch, wishes[0], wishes[1], wishes[2])
        find_differences(self._pages, wishes, arrays, differs)
        return bool(fits.all())


class OneShotTasks(EnvironmentTasks[OneShotTask]):
    """The arguments of ``MapSpaceOneShot-v0``, checked, and the tasks that they stand for."""

    action_space: spaces.MultiDiscrete
    layout: OneShotLayout
    own_blank = MappingProxyType({"repaired": np.False_})

    def __init__(
        self,
        arguments: TaskArguments,
        axes: Sequence[str] | None,
        constraints: Any,
    ) -> None:
        """Reads the arguments; see :class:`mapgym.envs.MapSpaceOneShotEnv`."""
        super().__init__(arguments, axes, constraints, OneShotLayout)
        layout = self.layout
        self.has_keep = "bypass" in self._axes
        self.columns = list(self.sizes.primes)
        nvec = [PLACES * layout.levels] * sum(self.columns) + [layout.dims] * (layout.levels * layout.dims)
        nvec += [2] * (layout.levels * layout.tensors * self.has_keep)
        self.action_space = spaces.MultiDiscrete(nvec)
        self.make_ready()

    def own_settings(self) -> dict[str, Any]:
        """The meaning of the columns of an action."""
        return {"columns of primes": self.columns}

    @property
    def episode_steps(self) -> int:
        """Steps that an episode has."""
        return 1

    def prepare(self, task: Task) -> OneShotTask:
        """Makes a task ready."""
        space = self.space_of(task)
        *starts, priorities = np.cumsum([0, *self.columns]).tolist()
        keeps = priorities + self.layout.levels * self.layout.dims if self.has_keep else -1
        columns = OneShotColumns(tuple(starts), priorities, keeps)
        return OneShotTask(task, space, self.layout, Pricing(task, space, self.evaluator), columns)

    def fits(self, task: Task) -> bool:
        """Whether the spaces of the environment have room for a task."""
        counts = [len(prime_factors(bound)) for bound in task.workload.bounds]
        return self.layout.holds(task) and all(n <= m for n, m in zip(counts, self.columns, strict=False))
