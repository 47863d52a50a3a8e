"""What the scalar and the vector environment ``MapSpace-v0`` share: arguments, spaces, and tasks made ready."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from mapgym.envs.common.observation import ObservationLayout
from mapgym.envs.common.reward import REWARDS, Pricing, potential_weights
from mapgym.envs.common.state import joined
from mapgym.envs.common.task import Task
from mapgym.envs.common.tasks import EnvironmentTasks, TaskArguments
from mapgym.envs.construction import step_kernels as kernels
from mapgym.errors import SpecificationError, require_one_of
from mapgym.errors.text import quoted
from mapgym.mapping import Mapping, MappingBatch
from mapgym.mapping.mapping import divisors
from mapgym.mapspace import MapSpace
from mapgym.mapspace.construction.construction import ORDERS, Construction
from mapgym.mapspace.construction.decision_kernels import is_complete

if TYPE_CHECKING:
    from mapgym.evaluation.evaluator import Evaluator


_FIRST = np.zeros(1, np.int64)

_MOST_KEPT = 8
"""Mappings for which room is kept. To make room for more takes little in comparison with what is done in it."""


class PreparedTask:
    """One task with everything that an episode needs.

    Attributes:
        task: the task.
        construction: the decision process.
        pricing: costs and rewards.
        table: int64[...] and numbers: float64[...], for the compiled kernels.
        initial_state: int32[...], initial_observation: float32[...], initial_mask: int8[...]: how an episode begins.
        sizes: of these three.
        beginning: their content, as :class:`mapgym.envs.construction.episode_memory.EpisodeMemory` has it.
    """

    def __init__(
        self,
        task: Task,
        space: MapSpace,
        orders: str,
        layout: ObservationLayout,
        actions: tuple[int, int],
        evaluator: Evaluator | None,
    ) -> None:
        """Prepares a task.

        Args:
            task: the task.
            space: its map space.
            orders: "full" or "innermost".
            layout: of the observation.
            actions: number of actions, and the first action that puts a factor on the mesh side Y.
            evaluator: who prices; None for a cost model.

        Raises:
            SpecificationError: the space is empty, or a constraint cannot be masked exactly.
        """
        self.task = task
        try:
            self.construction = Construction(space.definition, orders, y_offset=actions[1])
        except SpecificationError as error:
            raise space.explained(error) from None
        if self.construction.inexact:
            raise SpecificationError(
                f"MapSpace-v0 cannot mask the constraints on {quoted(task.workload.name)} exactly, because "
                f"{self.construction.inexact}; drop that constraint or search with a classical agent"
            )
        self.pricing = Pricing(task, space, evaluator)
        self.table = self.construction.task
        logs = np.log2(np.array(task.workload.bounds, np.float64))
        inverse_logs = np.divide(1.0, logs, out=np.zeros_like(logs), where=logs > 0)
        self.numbers = np.concatenate([self.construction.ways, inverse_logs, potential_weights(task.metric)])
        self.initial_state = self.construction.initial_state.copy()
        self.initial_observation = layout.static_features(task)
        self.initial_mask = np.zeros(actions[0], np.int8)
        if not kernels.start_episode(
            self.table, self.numbers, layout.table, self.initial_state, self.initial_observation, self.initial_mask
        ):
            raise SpecificationError(
                f"no legal mapping of {quoted(task.workload.name)} on {quoted(task.accelerator.name)}; loosen the "
                "constraints"
            )
        arrays = (self.initial_state, self.initial_observation, self.initial_mask)
        # By their number, mappings that are priced and forgotten.
        self._rooms: dict[int, MappingBatch] = {}
        self.sizes = len(arrays[0]), len(arrays[1]), len(arrays[2])
        self.beginning = joined(arrays)

    def mapping(self, state: NDArray[np.int32]) -> Mapping:
        """The mapping of a state; undecided factors are 1."""
        if is_complete(self.table, state):
            return self.finish(state[None], _FIRST)[0][0]
        return self.construction.export(state[None], _FIRST)[0]

    def price(
        self, states: NDArray[np.int32], rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
        """The figures of the mappings of complete states, and what :meth:`finish` says of these."""
        batch = self._rooms.get(len(rows))
        if batch is None:
            batch = self.construction.none.blank(len(rows))
            if len(rows) <= _MOST_KEPT:
                self._rooms[len(rows)] = batch
        batch, changed = self.finish(states, rows, batch)
        return self.pricing.figures(batch), changed

    def finish(
        self, states: NDArray[np.int32], rows: NDArray[np.int64], batch: MappingBatch | None = None
    ) -> tuple[MappingBatch, NDArray[np.bool_] | None]:
        """The mappings of complete states, and bool[n], which of them had to be changed; None where none ever has to.

        Args:
            states: int32[..., any].
            rows: int64[n], which of them.
            batch: n mappings of the task, to be overwritten; new ones when left out.
        """
        return self.construction.export(states, rows, batch), None


class MapSpaceTasks(EnvironmentTasks[PreparedTask]):
    """The arguments of ``MapSpace-v0``, checked, and the tasks that they stand for.

    Attributes:
        is_shaped: whether rewards are shaped.
    """

    task_type: ClassVar[type[PreparedTask]] = PreparedTask
    action_space: spaces.Discrete

    def __init__(
        self,
        arguments: TaskArguments,
        axes: Sequence[str] | None,
        orders: str,
        reward: str,
        constraints: Any,
        layout: type[ObservationLayout] = ObservationLayout,
    ) -> None:
        """Reads the arguments; see :class:`mapgym.envs.MapSpaceEnv`."""
        require_one_of(reward, REWARDS, "reward")
        require_one_of(orders, ORDERS, "orders")
        super().__init__(arguments, axes, constraints, layout)
        self.orders, self.is_shaped = orders, reward == "shaped"
        self._max_divisors = self.sizes.divisors
        choices = self._max_divisors * (2 if any(self.sizes.fanout_y) else 1)
        self.action_space = spaces.Discrete(max(choices, self.layout.dims, 2))
        self.make_ready()

    def own_settings(self) -> dict[str, Any]:
        """The meaning of actions, and what is decided by them."""
        return {"orders": self.orders, "max_divisors": self._max_divisors}

    def prepare(self, task: Task) -> PreparedTask:
        """Makes a task ready."""
        actions = (int(self.action_space.n), self._max_divisors)
        return self.task_type(task, self.space_of(task), self.orders, self.layout, actions, self.evaluator)

    def fits(self, task: Task) -> bool:
        """Whether the spaces of the environment have room for a task."""
        has_sides = max(task.accelerator.fanout_y) == 1 or any(self.sizes.fanout_y)
        most = max(len(divisors(bound)) for bound in task.workload.bounds)
        return self.layout.holds(task) and most <= self._max_divisors and has_sides
