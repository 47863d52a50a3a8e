"""The environment ``MapSpaceOneShot-v0`` and its vector twin: a whole mapping in one action."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from mapgym.envs.common import rendering
from mapgym.envs.common.episodes import Episodes, EpisodesEnv, EpisodesVectorEnv, Infos
from mapgym.envs.common.faces import count_of
from mapgym.envs.common.observation import DYNAMIC_FIELDS, ObservationLayout
from mapgym.envs.common.reward import Pricing
from mapgym.envs.common.task import Task
from mapgym.envs.common.tasks import EnvironmentTasks, TaskArguments
from mapgym.mapping import Mapping, MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.mapspace.projection import Target, mesh_sides
from mapgym.mapspace.size import prime_exponents

if TYPE_CHECKING:
    from mapgym.envs.common.tasks import TaskSource
    from mapgym.evaluation.evaluator import Evaluator

PLACES = 3
"""Places for a factor at each level: temporal, parallel on X, parallel on Y."""


def prime_factors(bound: int) -> list[int]:
    """The primes whose product a bound is, ascending, each as often as it divides the bound."""
    return [prime for prime, exponent in sorted(prime_exponents(bound).items()) for _ in range(exponent)]


class OneShotLayout(ObservationLayout):
    """Where each feature of the task is."""

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each field, in order; fields of more than one axis are flattened in C order."""
        return {name: shape for name, shape in super().shapes.items() if name not in DYNAMIC_FIELDS}


class OneShotTask:
    """One task with everything that an episode needs: task, space, pricing, and its observation."""

    def __init__(self, task: Task, space: MapSpace, layout: OneShotLayout, pricing: Pricing) -> None:
        self.task, self.space, self.pricing = task, space, pricing
        self.primes = [prime_factors(bound) for bound in task.workload.bounds]
        self.static = layout.static_features(task)


class OneShotTasks(EnvironmentTasks[OneShotTask]):
    """The arguments of ``MapSpaceOneShot-v0``, checked, and the tasks that they stand for."""

    action_space: spaces.MultiDiscrete
    layout: OneShotLayout

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

    def prepare(self, task: Task) -> OneShotTask:
        """Makes a task ready."""
        space = self.space_of(task)
        return OneShotTask(task, space, self.layout, Pricing(task, space, self.evaluator))

    def fits(self, task: Task) -> bool:
        """Whether the spaces of the environment have room for a task."""
        counts = [len(prime_factors(bound)) for bound in task.workload.bounds]
        return self.layout.holds(task) and all(n <= m for n, m in zip(counts, self.columns, strict=False))

    def own_settings(self) -> dict[str, Any]:
        """The meaning of the columns of an action."""
        return {"columns of primes": self.columns}

    def decode(self, prepared: OneShotTask, actions: NDArray[np.int64]) -> Target:
        """What n actions ask for, legal or not."""
        n, layout, task = len(actions), self.layout, prepared.task
        levels, dims, tensors = len(task.accelerator.levels), len(task.workload.dims), len(task.workload.tensors)
        factors = np.ones((PLACES, n, levels, dims))
        every, start = np.arange(n), 0
        for d, primes in enumerate(prepared.primes):
            for k, prime in enumerate(primes):
                slot = actions[:, start + k]
                factors[slot % PLACES, every, np.minimum(slot // PLACES, levels - 1), d] *= prime
            start += self.columns[d]
        start = sum(self.columns)
        end = start + layout.levels * layout.dims
        priority = actions[:, start:end].reshape(n, layout.levels, layout.dims)[:, :levels, :dims]
        order = np.argsort(priority, axis=2, kind="stable").astype(np.int8)
        keep = np.ones((n, levels, tensors), np.bool_)
        if self.has_keep:
            keep = actions[:, end:].reshape(n, layout.levels, layout.tensors)[:, :levels, :tensors] == 1
        return Target(factors[0], factors[1] * factors[2], order, order.copy(), factors[2] > factors[1], keep)


class OneShotEpisodes(Episodes):
    """The state of n environments ``MapSpaceOneShot-v0``."""

    tasks: OneShotTasks

    def __init__(self, n: int, tasks: OneShotTasks) -> None:
        super().__init__(n, tasks)
        self._mappings: list[Mapping | None] = [None] * n

    def mapping(self, row: int) -> Mapping:
        """The mapping of an environment; the trivial one before its step."""
        task = self.task(row)
        return self._mappings[row] or Mapping.trivial(task.workload, task.accelerator)

    def begin(
        self,
        rows: NDArray[np.int64],
        generators: Sequence[np.random.Generator],
        fixed: Sequence[TaskSource] | None,
        seeded: NDArray[np.bool_],
    ) -> None:
        """Starts an episode in some environments; see :class:`mapgym.envs.common.episodes.Episodes`."""
        self.draw(rows, generators, fixed)
        self.generators = generators
        for i in rows:
            self._mappings[i] = None
            self.observations[i] = self.tasks.prepared[self.task_of[i]].static

    def objects(self, row: int) -> Mapping | None:
        """The mapping, once it is there."""
        return self._mappings[row]

    def restore_objects(self, row: int, objects: Mapping | None) -> None:
        """Takes a mapping."""
        self._mappings[row] = objects

    def report(self, rows: NDArray[np.int64], infos: Infos) -> None:
        """Says nothing: the observation has it all."""

    def step(
        self, actions: NDArray[np.int64], running: NDArray[np.bool_], infos: Infos
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Builds and prices mappings; see :class:`mapgym.envs.common.episodes.Episodes`."""
        rewards, repaired = np.zeros(self.n), np.zeros(self.n, np.bool_)
        stepping = np.flatnonzero(running)
        for prepared, _, among in self.by_task(stepping):
            rows = stepping[among]
            target = self.tasks.decode(prepared, actions[rows])
            batch, fits = prepared.space.project(target)
            repaired[rows] = ~fits | _differs(target, batch, prepared.space)
            for lost in np.flatnonzero(~fits):
                # No repair makes it legal.
                batch[[lost]] = prepared.space.sample(self.generators[rows[lost]], 1)
            for k, i in enumerate(rows):
                self._mappings[i] = batch[k]
            metrics = prepared.pricing.evaluate(batch)
            earned = metrics.pop("reward")
            priced, refused = rows[: len(earned)], rows[len(earned) :]
            rewards[priced] = earned
            infos.set_metrics(priced, metrics)
            infos.set("budget_exhausted", refused, np.ones(len(refused), np.bool_))
        infos.set("repaired", stepping, repaired[stepping])
        return rewards, running

    def render(self, mode: str, row: int) -> Any:
        """The loop nest as text, or a picture of it."""
        mapping, task = self.mapping(row), self.task(row)
        if mode == "ansi":
            return mapping.to_text()
        title, layout = task.workload.name, self.tasks.layout
        return rendering.draw(task, title, mapping, lambda s: rendering.tile_words(task, s, mapping), layout)


def _differs(target: Target, batch: MappingBatch, space: MapSpace) -> NDArray[np.bool_]:
    """bool[n]: whether factors, their mesh sides or, where they are searched, kept tensors are not as wished."""
    factors = (target.temporal != batch.temporal) | (target.spatial != batch.spatial)
    moved = (batch.spatial > 1) & (target.on_y != mesh_sides(batch))
    kept = space.entries.keep_free & (target.keep != batch.keep)
    return np.asarray((factors | moved).any(axis=(1, 2)) | kept.any(axis=(1, 2)))


class MapSpaceOneShotEnv(EpisodesEnv[OneShotEpisodes, NDArray[np.int64]]):
    """Builds a whole mapping of a DNN layer onto an accelerator from one action.

    ## Description
    An episode of ``MapSpaceOneShot-v0`` is one step: the action describes a mapping completely, what cannot be is
    repaired, and the mapping is priced. It is a contextual bandit; black-box optimisers can use it as well.

    ## Action Space
    ``MultiDiscrete``; every action is legal. Columns, in this order, for the largest sizes of the tasks:

    | columns | values | meaning |
    |---|---|---|
    | for each dim, one for each prime factor of its bound, ascending, as often as it divides the bound | 3 * levels | 3 * level + place: where the prime goes; place 0 is the tile factor, 1 and 2 the parallel factor on mesh side X and Y |
    | for each level from the innermost, one for each dim | dims | priority of the loop: the smallest is the innermost, of equal ones the dim that comes first |
    | only if the axis "bypass" is searched: for each level, one for each tensor | 2 | 0 bypass, 1 keep |

    If primes of a dim go to both mesh sides of a level, their product goes to the side with the larger part (X, if they
    are equal). A level that a smaller accelerator does not have stands for its outermost level; columns of primes,
    dims and tensors that a task does not have are ignored, and so is what the axes and constraints fix. What the
    action asks for is brought into the map space by :meth:`mapgym.MapSpace.fit`, which changes as little as it can;
    where that fails, a random mapping takes its place.

    ## Observation Space
    ``Box(0, 1, (size,), float32)``: the features of the task, which are the fields ``objective`` to
    ``cumulative_fanout`` of ``MapSpace-v0``; ``env.unwrapped.observation_fields`` names their slices.

    ## Rewards
    ``-ln(cost / lower bound)`` of the objective, as in ``MapSpace-v0``.

    ## Starting State
    The task is drawn with ``self.np_random`` as in ``MapSpace-v0``, or fixed for one episode by
    ``reset(options={"workload": ..., "accelerator": ..., "objective": ...})``; any other key is an error. Such a task
    must not be larger than what the spaces have room for.

    ## Episode End
    The episode terminates with its only step.

    ## Information
    ``task_index`` (int) and ``task_id`` (str) always, as in ``MapSpace-v0``. After the step, ``repaired`` (bool): whether factors, their mesh sides or kept tensors are other than the action
    says; and the metrics of the mapping, as in ``MapSpace-v0`` (``latency_cycles``, ``energy_pj``, ``edp``,
    ``utilization``, ``lower_bound``, ``ratio`` and perhaps ``gap``). The mapping is ``env.unwrapped.mapping``. If an
    evaluator's budget is spent, the reward is 0 and ``budget_exhausted`` (True) takes the place of the metrics.

    ## Arguments
    ```
    gymnasium.make("MapSpaceOneShot-v0", workload="paper/resnet_conv4", accelerator="accel_b", objective="edp")
    ```

    ``workload``, ``accelerator``, ``objective``, ``axes``, ``constraints``, ``render_mode``, ``evaluator``, ``tasks``,
    ``sizes`` and ``sizes_for`` are those of ``MapSpace-v0``; constraints need no exact masks here.

    ## References
    - Kao et al., Demystifying Map Space Exploration for NPUs, IISWC 2022.

    ## Version History
    - v0: first version.
    """  # noqa: E501 - rows of a table cannot be broken

    def __init__(
        self,
        workload: Any = None,
        accelerator: Any = None,
        objective: str | None = None,
        axes: Sequence[str] | None = None,
        constraints: Any = None,
        render_mode: str | None = None,
        evaluator: Evaluator | None = None,
        tasks: Any = None,
        sizes: Any = None,
        sizes_for: Any = None,
    ) -> None:
        """Makes the environment; the class documents the arguments.

        Raises:
            SpecificationError: an unknown name or value, or an empty map space.
        """
        arguments = TaskArguments(workload, accelerator, objective, tasks, sizes, sizes_for, evaluator)
        super().__init__(OneShotEpisodes(1, OneShotTasks(arguments, axes, constraints)), render_mode)


class MapSpaceOneShotVectorEnv(EpisodesVectorEnv[OneShotEpisodes]):
    """``num_envs`` environments ``MapSpaceOneShot-v0`` that step together; see :class:`MapSpaceOneShotEnv`.

    Environment i behaves exactly as a scalar one that was reset with seed ``seed + i``. All mappings of a step are
    repaired in one compiled call for each task, and priced in another. Further arguments: ``num_envs``,
    ``autoreset_mode`` and ``max_episode_steps``, as for :class:`mapgym.envs.MapSpaceVectorEnv`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        workload: Any = None,
        accelerator: Any = None,
        objective: str | None = None,
        axes: Sequence[str] | None = None,
        constraints: Any = None,
        render_mode: str | None = None,
        evaluator: Evaluator | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        tasks: Any = None,
        sizes: Any = None,
        sizes_for: Any = None,
    ) -> None:
        """Makes the environments; :class:`MapSpaceOneShotEnv` documents the arguments they share.

        Raises:
            SpecificationError: an unknown name or value, or an empty map space.
        """
        arguments = TaskArguments(workload, accelerator, objective, tasks, sizes, sizes_for, evaluator)
        ready = OneShotTasks(arguments, axes, constraints)
        episodes = OneShotEpisodes(count_of(num_envs, ready), ready)
        super().__init__(episodes, render_mode, autoreset_mode, max_episode_steps)
