"""The environment ``MapSpace-v0`` and its vector twin: build one mapping, decision by decision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from mapgym.envs.common import rendering
from mapgym.envs.common.episodes import EpisodesVectorEnv
from mapgym.envs.common.faces import ScalarFace, count_of
from mapgym.envs.common.illegal import ILLEGAL_ACTION_REWARD, Illegal, require_legal
from mapgym.envs.common.infos import EXECUTED, EXHAUSTED, ILLEGAL, MASK, NOTHING
from mapgym.envs.common.inputs import read_within
from mapgym.envs.common.state import EnvironmentState, check_size
from mapgym.envs.common.task import NO_INDEX
from mapgym.envs.common.tasks import TaskArguments
from mapgym.envs.construction import step_kernels as kernels
from mapgym.envs.construction.episode_memory import EpisodeMemory
from mapgym.envs.construction.mapspace_episodes import MapSpaceEpisodes
from mapgym.envs.construction.mapspace_tasks import MapSpaceTasks, PreparedTask
from mapgym.mapping import Mapping, MappingBatch

if TYPE_CHECKING:
    from mapgym.envs.common.task import Task
    from mapgym.envs.common.tasks import TaskSource
    from mapgym.evaluation.evaluator import Evaluator

_FIRST, _RUNNING = np.zeros(1, np.int64), np.ones(1, np.bool_)
_INT64 = np.int64


class MapSpaceEnv(ScalarFace[int]):
    """Builds a mapping of a DNN layer onto an accelerator, one legal decision at a time.

    ## Description
    A DNN layer is a nest of loops. A *mapping* says, for each storage level of an accelerator, how large a tile of
    each loop (dim) the level works on, which loops run in parallel on the units below it, and in which order the loops
    run. The number of mappings is astronomical, their costs differ by orders of magnitude, and most choices have
    consequences at other levels. An episode builds one mapping and prices it with Timeloop's cost model.

    The task of an episode is a workload, an accelerator and an objective. With lists, or the name of a network, it is
    drawn at each reset.

    Decisions come in a fixed order; those with a single legal choice are taken by the environment:

    1. only if the axis "bypass" is searched: for each level from the innermost, for each tensor, whether it is kept;
    2. for each level from the innermost: the parallel factor of each dim (only where the level has fan-out; with the
       mesh side, where it has both), then the tile factor of each dim. Dims that the output does not have (those that
       are summed over) come first, and of each kind the one with the largest bound (of equal ones, that which comes
       first in the workload). The outermost tile factors take the rest;
    3. only if the axis "order" is searched: for each level from the innermost, loop by loop from the innermost, the
       order of the loops above 1: where it counts (``Accelerator.spatial_order_counts``) first that of the parallel
       loops on X, then on Y; then that of the temporal loops.

    ## Action Space
    ``Discrete(n)``. What an action means depends on the decision:

    | decision | action |
    |---|---|
    | keep a tensor | 0: bypass it, 1: keep it |
    | parallel factor | i: the i-th divisor of the dim's bound (ascending from 0), on mesh side X; max_divisors + i: the same on mesh side Y |
    | tile factor | i: the i-th divisor of the dim's bound |
    | next loop | the index of the dim |

    ``max_divisors`` is the largest number of divisors of a bound in any task, and n is ``max_divisors`` (twice that,
    if an accelerator has fan-out on Y), or the number of dims, if that is larger. A factor of 1 is action 0.

    The legal actions are in ``info["action_mask"]`` (int8) and in :meth:`action_masks` (bool). The masks are sound
    (following them always ends in a legal mapping) and complete (every legal mapping can be reached, in one way). What
    takes the place of an illegal action is for the argument ``illegal`` to say: the legal one with the nearest index
    (the lower of two); or none, at the price of a reward of -1 (:mod:`mapgym.envs.common.illegal` says why), while
    nothing changes but the budget of steps, if there is one; or an error. ``info["illegal_action"]`` and
    ``info["executed_action"]`` say what has happened. If a task leaves nothing to decide, action 0 is legal and ends the episode.

    ## Observation Space
    ``Box(0, 1, (size,), float32)``; ``env.unwrapped.observation_fields`` maps the name of each field to its slice.
    Fields with several axes are flattened in C order; sizes are those of the largest task, and unused entries are 0.

    | field | shape | content |
    |---|---|---|
    | remaining | dims | log2 of what is left of the bound, relative to log2 of the bound |
    | temporal, spatial_x, spatial_y | levels, dims | log2 of the factor, relative to log2 of the bound |
    | keep | levels, tensors | 1 kept, 0 bypassed, 1/2 undecided |
    | order, spatial_order | levels, dims | place of the loop in its order (1 = innermost) over dims, 0 if none yet |
    | capacity_used | levels | share of the capacity that the tiles decided so far need (0 if unlimited) |
    | fanout_used_x, fanout_used_y | levels | log2 of the used fan-out, relative to log2 of the fan-out |
    | decision_kind | 6 | one-hot: keep, parallel, tile, order_x, order_y, order |
    | decision_level, decision_dim, decision_tensor | levels; dims; tensors | one-hot |
    | progress | 1 | share of the decisions that are behind |
    | objective | 3 | one-hot: edp, energy, latency |
    | workload_bounds | dims | log2 of the bound over 31 |
    | workload_coefficients | tensors, dims | c / (1 + c) for coefficient (stride, dilation) c; 0 if irrelevant |
    | workload_windows | tensors, dims | 1 if the dim shares a rank (sliding window) |
    | workload_outputs, workload_densities | tensors | 1 for the output; density |
    | level_exists | levels | 1 for the levels of this accelerator |
    | level_fanout_x, level_fanout_y, mac_units | levels; levels; 1 | log2 over 20 |
    | level_capacity, level_read_energy, level_fill_energy, level_update_energy, level_metadata_energy, level_address_energy, level_leak, level_cluster_size, level_block_size, level_word_bits, level_read_bandwidth, level_write_bandwidth, level_shared_bandwidth, level_hop_energy, level_router_energy, level_ingress_energy, mac_energy | levels; mac_energy: 1 | :func:`mapgym.envs.common.observation.squash` of the quantity |
    | level_may_keep, level_no_temporal_reuse, level_no_multicast | levels, tensors | 1 if the level may hold the tensor; does not reuse it over time; does not share it in space |
    | level_bandwidth_scale | levels, tensors | squash of how much an access counts towards bandwidths |
    | level_minimum_utilization | levels | the share of the capacity that tiles must fill |
    | peer_links, cumulative_fanout | 1 | switches of the accelerator |
    | rules | 3 | counting rules: first fills elided, reuse survives stationary steps, hops on the grid |

    ## Rewards
    0 until the mapping is complete, then ``-ln(cost / lower bound)`` of the objective: a mapping as good as the bound
    earns 0, one ten times as costly -2.3. ``reward="shaped"`` adds a potential difference to every step, which leaves
    the return of each episode as it is; :mod:`mapgym.envs.common.reward` defines the potential. Use gamma = 1.

    ## Starting State
    Nothing is decided except what is forced. The task is drawn with ``self.np_random``: uniformly from all combinations
    of workload and accelerator, or as ``tasks`` says, or as :meth:`set_tasks` has said since; or it is fixed for one
    episode by ``reset(options={"workload": ..., "accelerator": ..., "objective": ...})``; any other key is an error.
    Such a task must not be larger than what the spaces have room for (``env.unwrapped.sizes``).

    ## Episode End
    The episode terminates when the mapping is complete. It is never truncated
    (with ``illegal="penalty"`` an agent may go on for ever; give ``max_episode_steps`` to ``gymnasium.make``).

    ## Information
    The same entries after every reset and step, in NumPy's types: bools, int64 and float64. What has nothing to
    say yet is blank: -1 for figures and counts, False for events.

    | entry | when | content |
    |---|---|---|
    | ``action_mask`` | always | int8[actions], the actions that are legal now |
    | ``illegal_action``, ``executed_action`` | after a step | whether the action was illegal; the action that was taken (int), -1 if none was |
    | ``task_index`` | always | int, in the order of ``env.unwrapped.task_distribution.tasks``; -1 for a task that is none of them |
    | ``task_id`` | always | str, such as "paper/resnet_conv4 @ accel_b, edp" |
    | ``latency_cycles``, ``energy_pj``, ``edp``, ``utilization`` | after the last step | of the mapping; edp in pJ * cycles |
    | ``lower_bound``, ``ratio`` | after the last step | of the objective; the objective over it |
    | ``gap`` | after the last step | objective over the best lower bound that is proven for the map space, minus 1: how far the mapping is above the optimum (at most, where that is not certified); -1 but for the tasks of :mod:`mapgym.evaluation.best_known` |
    | ``budget_exhausted`` | after the last step | whether the evaluator's budget was spent, so that the mapping is not priced: the reward is 0, figures stay -1 |

    The mapping itself is ``env.unwrapped.mapping``.

    ## Arguments
    ```
    gymnasium.make("MapSpace-v0", workload="paper/resnet_conv4", accelerator="accel_b", objective="edp")
    ```

    | argument | default | meaning |
    |---|---|---|
    | workload | "paper/resnet_conv4" | catalog name, network name, path, dict, Workload, Network, or a list of these |
    | accelerator | "accel_b" | catalog name, path, dict, Accelerator, or a list of these |
    | objective | "edp" | "edp", "energy" or "latency" |
    | axes | ("tile", "order", "parallelism") | what is searched, also "bypass"; an axis left out stays trivial |
    | orders | "full" | "innermost" decides only which temporal loop of each level is innermost |
    | reward | "terminal" | or "shaped" |
    | constraints | None | a :class:`mapgym.spec.constraints.Constraints` or its dict; must allow exact masks |
    | render_mode | None | "ansi": the loop nest so far; "rgb_array": a picture of it |
    | evaluator | None | an :class:`mapgym.evaluation.evaluator.Evaluator` that prices (and counts) finished mappings; it also gives the task, axes and constraints, which must then be left out |
    | tasks | None | instead of workload, accelerator and objective: a :class:`mapgym.envs.TaskDistribution`, its dict, a list of tasks, or names of workloads, networks and splits such as "split:training" |
    | sizes | None | what the spaces have room for, whatever the tasks: "all" for the catalog and most random tasks, or the sizes of another environment; None for those of the tasks ("all" if they are generated) |
    | sizes_for | None | instead of sizes: what has to fit; a list of what ``tasks`` takes |
    | illegal | "nearest" | what takes the place of an illegal action: the nearest legal one, or "penalty": none, at a price, or "raise": an error |
    | observation | "flat" | or "dict": a ``Dict`` of the fields and the mask, or "tokens": a ``Dict`` for attention; see :mod:`mapgym.envs.common.observation_kinds` |

    ## References
    - Kao et al., Demystifying Map Space Exploration for NPUs, IISWC 2022.
    - Parashar et al., Timeloop: A Systematic Approach to DNN Accelerator Evaluation, ISPASS 2019.
    - Ng, Harada and Russell, Policy Invariance under Reward Transformations, ICML 1999.

    ## Version History
    - v0: first version.
    """  # noqa: E501 - rows of a table cannot be broken

    _tasks: MapSpaceTasks
    _prepared: PreparedTask

    def __init__(
        self,
        workload: Any = None,
        accelerator: Any = None,
        objective: str | None = None,
        axes: Sequence[str] | None = None,
        orders: str = "full",
        reward: str = "terminal",
        constraints: Any = None,
        render_mode: str | None = None,
        evaluator: Evaluator | None = None,
        tasks: Any = None,
        sizes: Any = None,
        sizes_for: Any = None,
        illegal: str = "nearest",
        observation: str = "flat",
    ) -> None:
        """Makes the environment; the class documents the arguments.

        Raises:
            SpecificationError: an unknown name or value, an empty map space, or constraints without exact masks.
        """
        arguments = TaskArguments(
            workload, accelerator, objective, tasks, sizes, sizes_for, evaluator, illegal, observation
        )
        self._open(MapSpaceTasks(arguments, axes, orders, reward, constraints), render_mode)

    def _open(self, tasks: MapSpaceTasks, render_mode: str | None) -> None:
        """Makes the environment of tasks that are ready."""
        self._show(tasks, render_mode)
        self._present_source = tasks.source
        self._layout = tasks.layout.table
        self._is_shaped = tasks.is_shaped
        self._actions = int(tasks.action_space.n)
        first: PreparedTask = tasks.prepared[0]
        self._take(first, first.beginning)
        self._nearest, self._is_strict = tasks.illegal.is_nearest, tasks.illegal is Illegal.RAISE
        # The last of them is at index -1.
        self._executed = (*map(np.int64, range(self._actions)), np.int64(NOTHING))
        self._index, self._id = NO_INDEX, tasks.ids[0]
        self._tell()

    @property
    def task(self) -> Task:
        """Workload, accelerator and objective of the current episode."""
        return self._prepared.task

    @property
    def mapping(self) -> Mapping:
        """The mapping as far as it is decided; undecided factors are 1."""
        return self._prepared.mapping(self._memory.state)

    def action_masks(self) -> NDArray[np.bool_]:
        """bool[actions]: which actions are legal now (the name is sb3-contrib's)."""
        return self._memory.mask.astype(np.bool_)

    def action_meaning(self, action: int) -> str:
        """What an action means for the present decision, such as "C by 4, tile, at Buffer"; "" if nothing."""
        number = read_within(self._read_action(action), self._actions, self.where)
        return rendering.action_text(self.task, self._table, self._memory.state, number)

    @property
    def _source(self) -> TaskSource:
        return self._present_source

    def _set_source(self, source: TaskSource) -> None:
        self._present_source = source
        self._tasks.keep([source])

    def _tell(self) -> None:
        """Prepares what the infos of an episode say as long as there is nothing to say."""
        said = {"task_index": np.int64(self._index), "task_id": self._id}
        self._blank = {MASK: None, **self._tasks.blank, **said}

    def _begin(self, number: int, index: int) -> None:
        """Puts the episode at the beginning of a task."""
        prepared = self._tasks.prepared[number]
        self._index, self._id = index, self._tasks.ids[number]
        if prepared is not self._prepared:
            self._take(prepared, prepared.beginning)
        else:
            self._memory.content[:] = prepared.beginning
        if self._blank["task_id"] is not self._id or self._blank["task_index"] != index:
            self._tell()

    def _take(self, prepared: PreparedTask, content: bytes) -> None:
        """Goes over to another task."""
        self._prepared, self._table, self._numbers = prepared, prepared.table, prepared.numbers
        self._memory = EpisodeMemory(prepared.sizes, content)

    def _save(self) -> tuple[int, bytes, None]:
        return self._index, self._memory.content.tobytes(), None

    def _restore(self, number: int | None, state: EnvironmentState) -> None:
        prepared = self._prepared if number is None else self._tasks.prepared[number]
        if len(state.numbers) != len(prepared.beginning):
            check_size(state.numbers, len(prepared.beginning), self.where)
        if prepared is self._prepared:
            self._memory.content[:] = state.numbers
        else:
            self._take(prepared, state.numbers)
        if number is not None or state.task_index != self._index:
            self._index = state.task_index
            if number is not None:
                self._id = self._tasks.ids[number]
            self._tell()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Starts an episode.

        Args:
            seed: of ``self.np_random``.
            options: workload, accelerator, objective for this episode.

        Raises:
            SpecificationError: an unknown option, or a task that does not fit the spaces.
        """
        source = self._read_reset(seed, options) or self._source
        self._begin(*self._tasks.draw(source, self.np_random))
        self._must_reset = False
        seen: Any = self._memory.observation.copy()
        if self._kind is not None:
            seen = self._kind.of(seen, self._memory.mask, [self.task])
        return seen, {**self._blank, MASK: self._memory.mask.copy()}

    def step(self, action: int | np.int64) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Takes one decision.

        Args:
            action: see the class; an illegal one is replaced by the nearest legal one.

        Raises:
            SpecificationError: the action is no whole number.
            gymnasium.error.ResetNeeded: the episode is over.
        """
        if self._must_reset:
            self._require_episode()
        # Almost every action is a Python integer that is in the space; any other takes the way through the door.
        if type(action) is not int or not 0 <= action < self._actions:
            action = int(action) if type(action) is _INT64 else int(self._read_action(action))
        memory = self._memory
        if self._is_strict:
            require_legal(np.array([action]), _RUNNING, memory.mask[None], self.where)
        is_complete, executed, reward = kernels.step_one(
            self._table,
            self._numbers,
            self._layout,
            memory.state,
            memory.observation,
            memory.mask,
            action,
            self._is_shaped,
            self._nearest,
        )
        info = self._blank.copy()
        info[MASK] = memory.mask.copy()
        info[EXECUTED] = self._executed[executed]
        if executed != action:
            info[ILLEGAL] = np.True_
            if not self._nearest:
                reward = ILLEGAL_ACTION_REWARD
        if is_complete:
            self._must_reset = True
            reward += self._price(info)
        seen: Any = memory.observation.copy()
        if self._kind is not None:
            seen = self._kind.of(seen, memory.mask, [self.task])
        return seen, reward, is_complete, False, info

    def _price(self, info: dict[str, Any]) -> float:
        """Prices the finished mapping; returns its reward and adds the metrics to info."""
        figures, changed = self._prepared.price(self._memory.state[None], _FIRST)
        if changed is not None:
            info["repaired"] = changed[0]
        if not figures.shape[1]:
            info[EXHAUSTED] = np.True_
            return 0.0
        info.update(zip(self._prepared.pricing.metric_names, figures[1:, 0], strict=True))
        return figures.item(0, 0)

    def _render(self, mode: str) -> Any:
        state = self._memory.state
        mask = self._memory.mask
        return rendering.render(mode, self.task, self._table, state, self.mapping, self._tasks.layout, mask)


class MapSpaceVectorEnv(EpisodesVectorEnv[MapSpaceEpisodes]):
    """``num_envs`` environments ``MapSpace-v0`` that step together; see :class:`mapgym.envs.MapSpaceEnv`.

    Environment i behaves exactly as a scalar one that was reset with seed ``seed + i``. All decisions of a step are
    made in one compiled call, and all mappings that it finishes are priced in one call of the cost model.

    ``gymnasium.make_vec("MapSpace-v0", num_envs=...)`` makes one.

    Further arguments:

    - ``num_envs``: how many environments;
    - ``autoreset_mode``: NEXT_STEP (default: the step after the end ignores the action and resets), SAME_STEP (the
      last observation and info of an episode are in ``info["final_obs"]`` and ``info["final_info"]``), or DISABLED
      (reset by ``reset(options={"reset_mask": ...})``);
    - ``max_episode_steps``: after how many steps episodes are truncated (None: never, they end by themselves), as
      Gymnasium's ``TimeLimit`` does it with a scalar environment;
    - ``copy``: whether observations and masks are copies (default). Without, they can only be read and are overwritten
      by the next step, which saves a fifth of the time.
    """

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
        tasks: Any = None,
        sizes: Any = None,
        sizes_for: Any = None,
        illegal: str = "nearest",
        observation: str = "flat",
    ) -> None:
        """Makes the environments; :class:`mapgym.envs.MapSpaceEnv` documents the arguments they share.

        Raises:
            SpecificationError: an unknown name or value, an empty map space, or constraints without exact masks.
        """
        arguments = TaskArguments(
            workload, accelerator, objective, tasks, sizes, sizes_for, evaluator, illegal, observation
        )
        ready = MapSpaceTasks(arguments, axes, orders, reward, constraints)
        episodes = MapSpaceEpisodes(count_of(num_envs, ready), ready, copies=copy)
        super().__init__(episodes, render_mode, autoreset_mode, max_episode_steps)

    @property
    def finished(self) -> list[tuple[NDArray[np.int64], MappingBatch]]:
        """Indices of environments and their mappings, for each task of which some were completed in the last step."""
        return self._episodes.finished

    def action_masks(self) -> NDArray[np.bool_]:
        """bool[num_envs, actions]: which actions are legal now."""
        return self._episodes.masks.astype(np.bool_)
