"""The vector twin of ``MapSpace-v0``: many environments, one compiled call per step."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from mapgym.envs.common import rendering
from mapgym.envs.common.faces import VectorFace
from mapgym.envs.construction import step_kernels as kernels
from mapgym.envs.construction.mapspace_tasks import MapSpaceTasks, PreparedTask
from mapgym.mapping import MappingBatch

if TYPE_CHECKING:
    from mapgym.envs.common.task import Task, TaskGenerator
    from mapgym.evaluation.evaluator import Evaluator

_MAX_RETURNED = 4


class MapSpaceVectorEnv(VectorFace):
    """``num_envs`` environments ``MapSpace-v0`` that step together; see :class:`mapgym.envs.MapSpaceEnv`.

    Environment i behaves exactly as a scalar one that was reset with seed ``seed + i``. All decisions of a step are
    made in one compiled call, and all mappings that it finishes are priced in one call of the cost model.

    ``gymnasium.make_vec("MapSpace-v0", num_envs=...)`` makes one. After a step, ``finished`` holds the mappings that
    were completed in it.

    Further arguments:

    - ``num_envs``: how many environments;
    - ``autoreset_mode``: NEXT_STEP (default: the step after the end ignores the action and resets), SAME_STEP (the
      last observation and info of an episode are in ``info["final_obs"]`` and ``info["final_info"]``), or DISABLED
      (reset by ``reset(options={"reset_mask": ...})``);
    - ``max_episode_steps``: accepted because Gymnasium passes it, and must be None: episodes end by themselves;
    - ``copy``: whether observations and masks are copies (default). Without, they can only be read and are overwritten
      by the next step, which saves a fifth of the time.
    """

    _tasks: MapSpaceTasks

    def __init__(
        self,
        num_envs: int = 1,
        workload: Any = None,
        accelerator: Any = None,
        objective: str | None = None,
        axes: Sequence[str] | None = None,
        orders: str = "full",
        reward: str = "terminal",
        constraints: Any = None,
        render_mode: str | None = None,
        evaluator: Evaluator | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        copy: bool = True,
    ) -> None:
        """Makes the environments; :class:`mapgym.envs.MapSpaceEnv` documents the arguments they share.

        Raises:
            SpecificationError: an unknown name or value, an empty map space, or constraints without exact masks.
        """
        tasks = MapSpaceTasks(workload, accelerator, objective, axes, orders, reward, constraints, evaluator)
        self._open(num_envs, tasks, render_mode, autoreset_mode, max_episode_steps, copy)

    def _open(
        self,
        num_envs: int,
        tasks: MapSpaceTasks,
        render_mode: str | None,
        autoreset_mode: AutoresetMode | str,
        max_episode_steps: int | None,
        copy: bool,
    ) -> None:
        """Makes the environments of tasks that are ready."""
        super().__init__()
        self._show(num_envs, tasks, render_mode, autoreset_mode, max_episode_steps)
        self._copy = copy
        self._layout = tasks.layout.table
        self.finished: list[tuple[NDArray[np.int64], MappingBatch]] = []
        """Indices of environments and their mappings, for each task of which some were completed in the last step."""
        self._packed: list[PreparedTask] = []
        self._task_of = np.zeros(num_envs, np.int64)
        self._outcomes = np.full(num_envs, kernels.FINISHED, np.int8)
        self._observations = np.zeros((num_envs, self._tasks.layout.size), np.float32)
        self._masks = np.zeros((num_envs, int(self._tasks.action_space.n)), np.int8)
        self._states = np.zeros((num_envs, 1), np.int32)
        self._returned: list[NDArray[np.float32]] = []
        self._pack_tasks()

    def tasks(self) -> list[Task]:
        """The current task of each environment."""
        return [self._tasks.prepared[k].task for k in self._task_of]

    def action_masks(self) -> NDArray[np.bool_]:
        """bool[num_envs, actions]: which actions are legal now."""
        return self._masks.astype(np.bool_)

    def _pack_tasks(self) -> None:
        """Joins the tables of all prepared tasks, so that the kernels take a fixed number of arrays."""
        prepared = self._tasks.prepared
        if prepared == self._packed:
            return
        self._packed = list(prepared)
        self._starts = np.array(
            [
                np.cumsum([0, *(len(task.table) for task in prepared)]),
                np.cumsum([0, *(len(task.numbers) for task in prepared)]),
            ]
        )
        self._tables = np.concatenate([task.table for task in prepared])
        self._numbers = np.concatenate([task.numbers for task in prepared])
        self._initial_observations = np.stack([task.initial_observation for task in prepared])
        self._initial_masks = np.stack([task.initial_mask for task in prepared])
        size = max(self._states.shape[1], *(len(task.initial_state) for task in prepared))
        self._initial_states = np.zeros((len(prepared), size), np.int32)
        for k, task in enumerate(prepared):
            self._initial_states[k, : len(task.initial_state)] = task.initial_state
        states = np.zeros((self.num_envs, size), np.int32)
        states[:, : self._states.shape[1]] = self._states
        self._states = states

    def _draw_tasks(self, rows: NDArray[np.int64], fixed: TaskGenerator | None = None) -> None:
        """Draws the next task of some environments, each from its own random numbers."""
        if len(self._tasks.generator if fixed is None else fixed) > 1:
            for i in rows:
                if self._generators[i] is None:
                    self._generators[i] = seeding.np_random()[0]
        self._task_of[rows] = self._tasks.draw_numbers([self._generators[i] for i in rows], fixed, self._task_of)

    def _restart(self, rows: NDArray[np.int64]) -> None:
        kernels.reset_many(
            self._initial_states,
            self._initial_observations,
            self._initial_masks,
            self._task_of,
            rows,
            self._states,
            self._observations,
            self._masks,
        )

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Starts an episode in every environment.

        Args:
            seed: environment i gets seed + i; or one seed for each.
            options: as for the scalar environment; ``reset_mask`` (bool[num_envs]) selects the environments to reset.

        Raises:
            SpecificationError: an unknown option, a task that does not fit, or a list of the wrong length.
        """
        rows, seeds, fixed = self._read_reset(seed, options)
        is_drawn = len(self._tasks.generator if fixed is None else fixed) > 1
        if is_drawn or len(self._tasks.generator) > 1:
            for i in rows:
                if seeds[i] is not None:
                    self._generators[i] = seeding.np_random(seeds[i])[0]
        # As for scalar environments, options hold for the episode that they begin, not for those after it.
        self._draw_tasks(rows, fixed)
        self._pack_tasks()
        self._restart(rows)
        self._outcomes[rows] = kernels.RUNNING
        self._must_reset = False
        self.finished = []
        return self._output(), self._mask_infos(np.zeros(self.num_envs, np.bool_))

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Takes one decision in every environment.

        Args:
            actions: integers[num_envs]; illegal ones are replaced as in the scalar environment.

        Raises:
            SpecificationError: actions have another shape or are no integers.
            gymnasium.error.ResetNeeded: reset was never called, or autoreset is disabled and an episode is over.
        """
        actions = self._read_actions(actions)
        if self._must_reset:
            self._require_episodes()
        if len(self._tasks.generator) > 1 or self.autoreset_mode is not AutoresetMode.NEXT_STEP:
            over = np.flatnonzero(self._outcomes == kernels.FINISHED)
            if len(over):
                self._require_none_over(over)
                self._draw_tasks(over)
        elif self._task_of.any():
            self._task_of[self._outcomes == kernels.FINISHED] = 0
        rewards = np.empty(self.num_envs)
        illegal = np.empty(self.num_envs, np.bool_)
        kernels.step_many(
            self._tables,
            self._numbers,
            self._starts,
            self._layout,
            self._initial_states,
            self._initial_observations,
            self._initial_masks,
            self._task_of,
            self._states,
            self._observations,
            self._masks,
            actions,
            self._tasks.is_shaped,
            self._outcomes,
            illegal,
            rewards,
        )
        terminations = self._outcomes == kernels.FINISHED
        done = np.flatnonzero(terminations)
        self.finished = []
        figures = self._price(done, rewards) if len(done) else {}
        if len(done) and self.autoreset_mode is AutoresetMode.SAME_STEP:
            infos = self._restart_now(done, illegal, figures)
        else:
            infos = {**self._mask_infos(illegal), **figures}
        return self._output(), rewards, terminations, np.zeros(self.num_envs, np.bool_), infos

    def _price(self, done: NDArray[np.int64], rewards: NDArray[np.float64]) -> dict[str, Any]:
        """Prices the mappings that are complete; adds to rewards and returns what info says about them."""
        figures: dict[str, Any] = {}
        # Environments are priced in their order, as scalar ones would be, so that a budget ends at the same mapping.
        several = len(self._tasks.prepared) > 1
        for k in np.unique(self._task_of[done]) if several else (self._task_of[done[0]],):
            rows = done[self._task_of[done] == k] if several else done
            prepared = self._tasks.prepared[k]
            batch, changed = prepared.finish(self._states, rows)
            self.finished.append((rows, batch))
            if changed is not None:
                self._set(figures, "repaired", rows, changed)
            of_task = prepared.pricing.evaluate(batch)
            earned = of_task.pop("reward")
            priced, refused = rows[: len(earned)], rows[len(earned) :]
            rewards[priced] += earned
            for name, values in of_task.items():
                self._set(figures, name, priced, values)
            self._set(figures, "budget_exhausted", refused, np.ones(len(refused), np.bool_))
        return figures

    def _set(self, infos: dict[str, Any], name: str, rows: NDArray[np.int64], values: NDArray[Any]) -> None:
        """Adds values for some environments to infos, in Gymnasium's form: an array and a mask."""
        if len(rows):
            array = infos.setdefault(name, np.zeros(self.num_envs, values.dtype))
            mask = infos.setdefault(f"_{name}", np.zeros(self.num_envs, np.bool_))
            array[rows] = values
            mask[rows] = True

    def _restart_now(
        self, done: NDArray[np.int64], illegal: NDArray[np.bool_], figures: dict[str, Any]
    ) -> dict[str, Any]:
        """Resets environments in the step in which they finished; what they ended with goes into infos."""
        is_done = np.zeros(self.num_envs, np.bool_)
        is_done[done] = True
        final_obs = np.full(self.num_envs, None, dtype=object)
        for i in done:
            final_obs[i] = self._observations[i].copy()
        final_masks = np.where(is_done[:, None], self._masks, np.int8(0))
        final_info = {
            "action_mask": final_masks,
            "_action_mask": is_done.copy(),
            "illegal_action": illegal & is_done,
            "_illegal_action": is_done.copy(),
            **figures,
        }
        self._draw_tasks(done)
        self._restart(done)
        self._outcomes[done] = kernels.RUNNING
        return {
            **self._mask_infos(illegal & ~is_done),
            "final_obs": final_obs,
            "_final_obs": is_done.copy(),
            "final_info": final_info,
            "_final_info": is_done,
        }

    def _output(self) -> NDArray[np.float32]:
        """The observations, in an array that nobody else holds."""
        if not self._copy:
            return _read_only(self._observations)
        for index in range(len(self._returned)):
            if _references(self._returned, index) == _UNSHARED:
                # The caller has dropped this one. Fresh memory would cost a third of a step in page faults.
                np.copyto(self._returned[index], self._observations)
                return self._returned[index]
        observations = self._observations.copy()
        self._returned = [observations, *self._returned[: _MAX_RETURNED - 1]]
        return observations

    def _mask_infos(self, illegal: NDArray[np.bool_]) -> dict[str, Any]:
        return {
            "action_mask": self._masks.copy() if self._copy else _read_only(self._masks),
            "_action_mask": np.ones(self.num_envs, np.bool_),
            "illegal_action": illegal,
            "_illegal_action": np.ones(self.num_envs, np.bool_),
        }

    def _render(self, mode: str, row: int) -> Any:
        prepared = self._tasks.prepared[self._task_of[row]]
        state = self._states[row]
        return rendering.render(mode, prepared.task, prepared.table, state, prepared.mapping(state), self._tasks.layout)


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    """What is handed out without a copy; a caller that wrote to it would change what is legal."""
    view = array.view()
    view.flags.writeable = False
    return view


def _references(arrays: list[NDArray[np.float32]], index: int) -> int:
    return sys.getrefcount(arrays[index])


_UNSHARED = _references([np.zeros(1, np.float32)], 0)
"""References to an array that only its list holds, as :func:`_references` counts them."""
