"""What the scalar and the vector environment ``MapSpace-v0`` share: arguments, spaces, and tasks made ready."""

from __future__ import annotations

from collections.abc import Mapping as AbcMapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from mapgym.construction import Construction
from mapgym.construction_kernels import DIMS, DIVISORS
from mapgym.envs import kernels
from mapgym.envs.observation import ObservationLayout
from mapgym.envs.reward import REWARDS, Pricing, potential_weights
from mapgym.envs.task import Task, TaskGenerator
from mapgym.errors import SpecificationError, require_keys, suggest
from mapgym.mapping import divisors
from mapgym.mapspace import MapSpace

if TYPE_CHECKING:
    from mapgym.evaluator import Evaluator

DEFAULT_WORKLOAD = "paper/resnet_conv4"
DEFAULT_ACCELERATOR = "accel_b"
DEFAULT_AXES = ("tile", "order", "parallelism")
TASK_OPTIONS = ("workload", "accelerator", "objective")


class PreparedTask:
    """One task with everything that an episode needs.

    Attributes:
        task: the task.
        construction: the decision process.
        pricing: costs and rewards.
        table: int64[...] and numbers: float64[...], for the compiled kernels.
        initial_state: int32[...], initial_observation: float32[...], initial_mask: int8[...]: how an episode begins.
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
            actions: number of actions, and the first action that puts a factor on the mesh axis Y.
            evaluator: who prices; None for a cost model.

        Raises:
            SpecificationError: the space is empty, or a constraint cannot be masked exactly.
        """
        self.task = task
        self.construction = Construction(space, orders, y_offset=actions[1])
        if self.construction.inexact:
            raise SpecificationError(
                f"MapSpace-v0 cannot mask the constraints on {task.workload.name!r} exactly, because "
                f"{self.construction.inexact}; drop that constraint or search with a classical agent"
            )
        self.pricing = Pricing(task, space, evaluator)
        self.table = self.construction.task
        logs = np.log2(np.array(task.workload.bounds, np.float64))
        inverse_logs = np.divide(1.0, logs, out=np.zeros_like(logs), where=logs > 0)
        assert len(self.construction.ways) % (self.table[DIMS] * self.table[DIVISORS]) == 0
        self.numbers = np.concatenate([self.construction.ways, inverse_logs, potential_weights(task.objective)])
        self.initial_state = self.construction.initial_state.copy()
        self.initial_observation = layout.static_features(task)
        self.initial_mask = np.zeros(actions[0], np.int8)
        if not kernels.start_episode(
            self.table, self.numbers, layout.table, self.initial_state, self.initial_observation, self.initial_mask
        ):
            raise SpecificationError(
                f"no legal mapping of {task.workload.name!r} on {task.accelerator.name!r}; loosen the constraints"
            )


class MapSpaceTasks:
    """The arguments of ``MapSpace-v0``, checked, and the tasks that they stand for.

    Attributes:
        generator: draws tasks.
        layout: of the observation.
        observation_space, action_space: of one environment.
        is_shaped: whether rewards are shaped.
        prepared: tasks made ready, those of the generator first.
    """

    def __init__(
        self,
        workload: Any,
        accelerator: Any,
        objective: str | None,
        axes: Sequence[str] | None,
        orders: str,
        reward: str,
        constraints: Any,
        evaluator: Evaluator | None,
    ) -> None:
        """Reads the arguments; see :class:`mapgym.envs.MapSpaceEnv`."""
        if reward not in REWARDS:
            raise SpecificationError(f"reward is {reward!r}; {suggest(str(reward), REWARDS)}")
        given = {
            "workload": workload,
            "accelerator": accelerator,
            "objective": objective,
            "axes": axes,
            "constraints": constraints,
        }
        if evaluator is not None:
            for name, value in given.items():
                if value is not None:
                    raise SpecificationError(
                        f"{name} is given together with an evaluator, which prices one task only; leave {name} out"
                    )
            workload, accelerator = evaluator.space.workload, evaluator.space.accelerator
            objective = evaluator.objective
        self.evaluator, self.orders, self.is_shaped = evaluator, orders, reward == "shaped"
        self._axes = DEFAULT_AXES if axes is None else tuple(axes)
        self._constraints = constraints
        self.generator = TaskGenerator(
            DEFAULT_WORKLOAD if workload is None else workload,
            DEFAULT_ACCELERATOR if accelerator is None else accelerator,
            "edp" if objective is None else objective,
        )
        self.layout = ObservationLayout.of(self.generator.tasks)
        self.observation_space = spaces.Box(0.0, 1.0, (self.layout.size,), np.float32)
        self._max_divisors = max(_divisor_count(task) for task in self.generator.tasks)
        has_y = any(max(task.accelerator.fanout_y) > 1 for task in self.generator.tasks)
        self._choices = self._max_divisors * (2 if has_y else 1)
        actions = max(self._choices, self.layout.dims, 2)
        self.action_space = spaces.Discrete(actions)
        self._numbers_of = {task: k for k, task in enumerate(self.generator.tasks)}
        self.prepared = [self._prepare(task) for task in self.generator.tasks]

    def _prepare(self, task: Task) -> PreparedTask:
        if self.evaluator is not None:
            space = self.evaluator.space
        else:
            space = MapSpace(task.workload, task.accelerator, self._axes, self._constraints)
        actions = (int(self.action_space.n), self._max_divisors)
        return PreparedTask(task, space, self.orders, self.layout, actions, self.evaluator)

    def draw(self, rng: np.random.Generator) -> int:
        """Number of a random task of the generator."""
        return self.generator.draw(rng)

    def fixed_by(self, options: AbcMapping[str, Any] | None) -> TaskGenerator | None:
        """Reads the options of reset.

        Args:
            options: keys workload, accelerator, objective; None or empty to draw from all tasks.

        Returns:
            the generator of the tasks that the options allow; None if they say nothing.

        Raises:
            SpecificationError: unknown key, or a task that does not fit the spaces of the environment.
        """
        if not options:
            return None
        require_keys(map(str, options), TASK_OPTIONS, "reset options")
        if self.evaluator is not None:
            raise SpecificationError("reset options cannot change the task of an evaluator; leave them out")
        first = self.generator.tasks[0]
        workloads = list(dict.fromkeys(task.workload for task in self.generator.tasks))
        accelerators = list(dict.fromkeys(task.accelerator for task in self.generator.tasks))
        generator = TaskGenerator(
            options.get("workload", workloads),
            options.get("accelerator", accelerators),
            options.get("objective", first.objective),
        )
        for task in generator.tasks:
            self._check_fits(task)
        return generator

    def number_of(self, task: Task) -> int:
        """Number of a task in ``prepared``; it is prepared if it is new."""
        if task not in self._numbers_of:
            self.prepared.append(self._prepare(task))
            self._numbers_of[task] = len(self.prepared) - 1
        return self._numbers_of[task]

    def _check_fits(self, task: Task) -> None:
        fits = self.layout.holds(task) and _divisor_count(task) <= self._max_divisors
        if not fits or (max(task.accelerator.fanout_y) > 1 and self._choices == self._max_divisors):
            raise SpecificationError(
                f"{task.workload.name!r} on {task.accelerator.name!r} is larger than the spaces of this environment "
                "(levels, dims, tensors, divisors of a bound or mesh axes); name it when the environment is made"
            )


def _divisor_count(task: Task) -> int:
    return max(len(divisors(bound)) for bound in task.workload.bounds)


def action_mask_info(mask: NDArray[np.int8], is_illegal: bool) -> dict[str, Any]:
    """The entries of info that every step has."""
    return {"action_mask": mask.copy(), "illegal_action": is_illegal}
