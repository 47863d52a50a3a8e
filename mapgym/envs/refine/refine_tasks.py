"""What the environments that edit mappings know about their tasks: the table of edits, the observation, the start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping as AbcMapping, Sequence
from functools import cached_property
from itertools import combinations, permutations
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from mapgym.envs.common.infos import MASKED, NOTHING
from mapgym.envs.common.observation import ObservationLayout
from mapgym.envs.common.reward import Pricing
from mapgym.envs.common.sizes import Sizes
from mapgym.envs.common.tasks import EnvironmentTasks, TaskArguments, digest_of
from mapgym.envs.refine.refine_kernels import NO_EDIT, Scales, pack_task
from mapgym.errors import SpecificationError, positive_int, require_kind, require_one_of, suggest
from mapgym.errors.text import quoted
from mapgym.evaluation.task import Task
from mapgym.mapping import Mapping, MappingBatch
from mapgym.mapping.legality_kernels import LEGAL, mesh_limits
from mapgym.mapspace import MapSpace
from mapgym.mapspace.edits_kernels import EDIT_COLUMNS, MOVE, SPATIAL_SWAP, SWAP, TOGGLE_KEEP, TOGGLE_SIDE
from mapgym.mapspace.size import prime_exponents
from mapgym.warmstart import ReplayBuffer

STARTS = ("random", "trivial")
REWARDS = ("best", "drop")
EDITS_LEFT, LOG_RATIO, BEST_LOG_RATIO = "edits_left", "log_ratio", "best_log_ratio"

# Fields of MapSpace-v0 that describe how far a mapping is built.
_UNFINISHED = ("remaining", "decision_kind", "decision_level", "decision_dim", "decision_tensor", "progress")
Edit = tuple[int, ...]


class RefineLayout(ObservationLayout):
    """Where each field of the observation of a complete mapping is."""

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each field, in order; fields of more than one axis are flattened in C order."""
        kept = {name: shape for name, shape in super().shapes.items() if name not in _UNFINISHED}
        return {**kept, EDITS_LEFT: (1,), LOG_RATIO: (1,), BEST_LOG_RATIO: (1,)}


def possible_edits(space: MapSpace) -> dict[Edit, Edit]:
    """All single edits that some mapping of a space may have.

    Returns:
        for each edit in terms that all tasks share (columns: kind; dim, :func:`place_of` the slots, number of the prime
        among those of the bound, mesh side; or level and dims or tensor) what it is for this space (see
        :mod:`mapgym.envs.refine.refine_kernels`).
    """
    return dict(_possible_edits(space))


def place_of(slot: int, levels: int) -> tuple[int, int]:
    """The level of a slot of the map space, and 1 for a spatial factor: the same for any number of levels."""
    return slot % levels, slot // levels


def _possible_edits(space: MapSpace) -> Iterator[tuple[Edit, Edit]]:
    entries, levels = space.entries, len(space.accelerator.levels)
    dims = [d for d, bound in enumerate(space.workload.bounds) if bound > 1]
    for group in entries.groups:
        primes = list(prime_exponents(space.workload.bounds[group.dim]))
        for source in group.slots:
            for target in group.slots:
                if source == target:
                    continue
                level, is_spatial = place_of(target, levels)
                if not is_spatial:
                    sides = [0]
                elif entries.side_free[level, group.dim]:
                    sides = [0, 1]
                else:
                    sides = [int(entries.on_y[level, group.dim])]
                places = (*place_of(source, levels), level, is_spatial)
                for k, prime in enumerate(primes):
                    if group.total % prime == 0:
                        for side in sides:
                            yield (MOVE, group.dim, *places, k, side), (MOVE, group.dim, source, target, prime, side)
    for s in range(levels):
        spatial = [d for d in dims if entries.fixed[levels + s, d] != 1]
        swaps = [(SWAP, b, c) for b, c in combinations(dims, 2) if entries.order_tier[s, b] == entries.order_tier[s, c]]
        ordered = [d for d in spatial if entries.arranged[levels + s, d]]
        swaps += [(SPATIAL_SWAP, b, c) for b, c in combinations(ordered, 2)]
        swaps += [(TOGGLE_SIDE, d, 0) for d in spatial if entries.side_free[s, d]]
        swaps += [(TOGGLE_KEEP, int(t), 0) for t in np.flatnonzero(entries.keep_free[s])]
        for kind, b, c in swaps:
            edit = (kind, s, b, c, 0, 0)
            yield edit, edit


def edits_within(sizes: Sizes, axes: Sequence[str]) -> Iterator[Edit]:
    """The edits, in terms that all tasks share, that tasks of some sizes may have; of some tasks not all of them."""
    levels, dims = range(sizes.levels), range(sizes.dims)
    sides = {s: [side for side, has in enumerate((sizes.fanout_x[s], sizes.fanout_y[s])) if has] for s in levels}
    parallel = [s for s in levels if sides[s]]
    places = [(s, 0) for s in levels if "tile" in axes or "parallelism" in axes]
    places += [(s, 1) for s in parallel if "parallelism" in axes]
    for source, target in permutations(places, 2):
        for d in dims:
            for k in range(sizes.distinct_primes[d]):
                for side in sides[target[0]] if target[1] else [0]:
                    yield MOVE, d, *source, *target, k, side
    for b, c in combinations(dims, 2):
        if "order" in axes:
            yield from ((SWAP, s, b, c, 0, 0) for s in levels)
            yield from ((SPATIAL_SWAP, s, b, c, 0, 0) for s in parallel)
    if "parallelism" in axes:
        yield from ((TOGGLE_SIDE, s, d, 0, 0, 0) for s in parallel if len(sides[s]) > 1 for d in dims)
    if "bypass" in axes:
        yield from ((TOGGLE_KEEP, s, t, 0, 0, 0) for s in levels[:-1] for t in range(sizes.tensors))


class RefineTask:
    """One task with everything that an episode needs.

    Attributes:
        task, space, pricing: the task, its map space, costs and rewards.
        actions: int64[any, EDIT_COLUMNS], what the actions that are edits mean here.
        pages: what the kernels take of the task.
        static: float32[size], an observation with the features of the task.
        is_masked_late: whether legality depends on the metadata of compressed tiles, which the compiled masks do not
            look at.
    """

    def __init__(self, task: Task, space: MapSpace, table: Sequence[Edit], layout: RefineLayout, pricing: Pricing):
        """Prepares a task; table is that of the environment."""
        self.task, self.space, self.pricing = task, space, pricing
        nothing = (NO_EDIT, 0, 0, 0, 0, 0)
        edits = possible_edits(space)
        rows = [edits.get(edit, nothing) for edit in table]
        self.actions = np.array(rows, np.int64).reshape(len(rows), EDIT_COLUMNS)
        logs = np.log2(np.array(task.workload.bounds, np.float64))
        inverse_logs = np.divide(1.0, logs, out=np.zeros_like(logs), where=logs > 0)
        accelerator = task.accelerator
        sides = np.array([accelerator.fanout_x, accelerator.fanout_y], np.float64)
        if accelerator.fanout_check == "cumulative":
            # A level may use more than its own fan-out there, but never more than there are MACs.
            sides[:] = [[accelerator.mac.mesh_x], [accelerator.mac.mesh_y]]
        capacities = [level.usable_words or 0 for level in accelerator.levels]
        scales = Scales(inverse_logs, np.array([*sides, capacities], np.float64), layout.table)
        mesh = np.stack(mesh_limits(task.accelerator))
        self.pages = pack_task(space.sorting, space.edit_tables, mesh, self.actions, scales)
        self.static = layout.static_features(task)
        self.is_masked_late = any(level.formats for level in accelerator.levels)

    def is_legal(self, batch: MappingBatch) -> NDArray[np.bool_]:
        """bool[n]: whether mappings have room for everything, metadata included."""
        return np.asarray(self.space.status(batch) == LEGAL)

    def meaning(self, action: int) -> str:
        """What an action does in this task; "" if nothing."""
        workload, accelerator = self.task.workload, self.task.accelerator
        if action >= len(self.actions):
            return ""
        kind, a, b, c, prime, side = map(int, self.actions[action])
        dims, names = workload.dims, accelerator.level_names
        if kind == MOVE:
            places = [place_of(slot, len(names)) for slot in (b, c)]
            source, target = (names[s] + " in parallel" * is_spatial for s, is_spatial in places)
            on_side = f" on {'XY'[side]}" if places[1][1] else ""
            return f"move {prime} of {dims[a]} from {source} to {target}{on_side}"
        if kind == SWAP:
            return f"swap {dims[b]} and {dims[c]} at {names[a]}"
        if kind == SPATIAL_SWAP:
            return f"swap parallel {dims[b]} and {dims[c]} at {names[a]}"
        if kind == TOGGLE_SIDE:
            return f"move parallel {dims[b]} at {names[a]} to the other mesh side"
        return f"keep or bypass {workload.tensors[b].name} at {names[a]}" if kind >= 0 else ""


class RefineTasks(EnvironmentTasks[RefineTask]):
    """The arguments of ``MapSpaceRefine-v0``, checked, and the tasks that they stand for.

    Attributes:
        steps: edits of an episode.
        start: "random", "trivial", a mapping, its dict, or a buffer.
        has_stop: whether the last action ends the episode.
        is_best: whether rewards are for the best mapping of the episode.
        table: what the actions that are edits mean, in terms that all tasks share.
    """

    action_space: spaces.Discrete
    layout: RefineLayout
    own_blank = MappingProxyType(
        {**MASKED, "edits": np.int64(NOTHING), "first_ratio": np.float64(NOTHING), "best_ratio": np.float64(NOTHING)}
    )

    def __init__(
        self,
        arguments: TaskArguments,
        axes: Sequence[str] | None,
        steps: int,
        start: Any,
        constraints: Any,
        reward: str,
        stop: bool,
    ) -> None:
        """Reads the arguments; see :class:`mapgym.envs.MapSpaceRefineEnv`."""
        require_one_of(reward, REWARDS, "reward")
        require_kind(stop, bool, "stop", "stop=True")
        self.is_best, self.has_stop = reward == "best", stop
        super().__init__(arguments, axes, constraints, RefineLayout)
        self.steps = positive_int(steps, "steps")
        self.start = read_start(start)
        if self.is_fixed:
            known = set(edits_within(self.sizes, self._axes))
        else:
            tasks = dict.fromkeys(map(self.posed, self.distribution.tasks))
            known = {edit for task in tasks for edit in possible_edits(self.space_of(task))}
        self.table, self._known = sorted(known), known
        self.action_space = spaces.Discrete(max(1, len(self.table) + stop))
        self.make_ready()

    def prepare(self, task: Task) -> RefineTask:
        """Makes a task ready."""
        space = self.space_of(task)
        prepared = RefineTask(task, space, self.table, self.layout, Pricing(task, space, self.evaluator))
        if not isinstance(self.start, ReplayBuffer) and self.start != "random":
            self.given_start(prepared)
        return prepared

    def meaning(self, prepared: RefineTask, action: int) -> str:
        """What an action does in a task; "" if nothing."""
        is_stop = self.has_stop and action == self.action_space.n - 1
        return "stop" if is_stop else prepared.meaning(action)

    def own_settings(self) -> dict[str, Any]:
        """The length of episodes, what they reward, and the meaning of actions."""
        return {
            "steps": self.steps,
            "reward": REWARDS[not self.is_best],
            "stop": self.has_stop,
            "table of edits": digest_of(self.table),
        }

    @property
    def episode_steps(self) -> int:
        """Steps that an episode has at most."""
        return self.steps

    @property
    def shared(self) -> list[Any]:
        """What copies of the environment share."""
        return [*super().shared, *([self.start] if isinstance(self.start, ReplayBuffer) else [])]

    def fits(self, task: Task) -> bool:
        """Whether the spaces of the environment have room for a task."""
        return self.layout.holds(task) and possible_edits(self.space_of(task)).keys() <= self._known

    def given_start(self, prepared: RefineTask) -> MappingBatch:
        """The mapping that every episode of a task starts from.

        Raises:
            SpecificationError: it is not in the map space.
        """
        task, space = prepared.task, prepared.space
        start = self.start
        if start == "trivial":
            start = Mapping.trivial(task.workload, task.accelerator)
        elif isinstance(start, AbcMapping):
            start = Mapping.from_dict(start, task.workload, task.accelerator, "start")
        batch: MappingBatch = start.batch()
        if batch.names != space.base.names:
            raise SpecificationError(
                f"start is a mapping of other dims, levels or tensors than those of {quoted(task.workload.name)} on "
                f"{quoted(task.accelerator.name)}; give one of this task, or a replay buffer"
            )
        if not space.contains(batch)[0]:
            why = space.reason(batch[0]) or "it differs from the base or the constraints in something not searched"
            raise SpecificationError(
                f"start is not in the map space of {quoted(task.workload.name)} on {quoted(task.accelerator.name)}: "
                f"{why}; "
                'start from "random" or from another mapping'
            )
        return batch


def is_file(path: str | Path) -> bool:
    """Whether there is such a file; no name is too long to ask for."""
    try:
        return Path(path).is_file()
    except OSError:
        return False


def read_start(start: Any) -> Any:
    """Reads the argument ``start``: "random", "trivial", a Mapping or its dict, a ReplayBuffer or the path of one.

    Raises:
        SpecificationError: it is none of these, or there is no such file.
    """
    if isinstance(start, Mapping | AbcMapping | ReplayBuffer) or (isinstance(start, str) and start in STARTS):
        return start
    if isinstance(start, str | Path):
        if not is_file(start):
            raise SpecificationError(
                f"start is {quoted(Path(start))}, and there is no such replay buffer (make one with 'mapgym buffer "
                f"add'); {suggest(str(start), STARTS)}"
            )
        return ReplayBuffer(start)
    raise SpecificationError(
        f'start is {quoted(start)}; give "random", "trivial", a Mapping or its dict, a ReplayBuffer or its path'
    )
