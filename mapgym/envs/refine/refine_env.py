"""The environment ``MapSpaceRefine-v0`` and its vector twin: improve a complete mapping, edit by edit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from mapgym.envs.common.episodes import EpisodesEnv, EpisodesVectorEnv
from mapgym.envs.common.faces import count_of
from mapgym.envs.common.inputs import read_within
from mapgym.envs.common.tasks import TaskArguments
from mapgym.envs.refine.refine_episodes import RefineEpisodes
from mapgym.envs.refine.refine_tasks import RefineTask, RefineTasks

if TYPE_CHECKING:
    from mapgym.evaluation.evaluator import Evaluator
    from mapgym.mapping import Mapping

DEFAULT_STEPS = 64


class MapSpaceRefineEnv(EpisodesEnv[RefineEpisodes, int]):
    """Improves a complete mapping of a DNN layer onto an accelerator with a budget of edits.

    ## Description
    A mapping says, for each storage level of an accelerator, how large a tile of each loop (dim) of a layer the level
    works on, which loops run in parallel, and in which order the loops run. An episode of ``MapSpaceRefine-v0`` begins
    with a legal mapping and changes it by single edits, each of which leads to another legal mapping, which is priced:
    one edit is one sample. It is local search as a decision process. The edits are those of
    :meth:`mapgym.MapSpace.neighbors`, and lead from every mapping to every other (where no limit of the hardware
    separates them).

    ## Action Space
    ``Discrete(n)``: a fixed table of edits; with ``stop=True`` one more action, the last, ends the episode. The table
    holds what is possible in at least one of the environment's tasks, sorted; :meth:`action_meaning` says what an
    action is.

    | edit | what it needs |
    |---|---|
    | move a prime factor of a dim from one slot to another; a slot is the tile factor, or the parallel factor on mesh side X or Y, of a level. There is one action for each different prime of the bound | the factor is divisible by the prime, and the dim is not parallel on the other mesh side of the level |
    | swap two temporal loops of a level (axis "order") | both are above 1 |
    | swap two parallel loops of a level (axis "order", where their order counts) | both are above 1, on one mesh side |
    | move a parallel loop to the other mesh side of a level that has both | it is above 1 |
    | keep or bypass a tensor at a level (axis "bypass") | |

    A loop that an edit creates is the outermost of its level (and mesh side). The legal actions are in
    ``info["action_mask"]`` (int8) and in :meth:`action_masks` (bool). The masks are exact: legal is what leads to a
    mapping of the map space, capacities, fan-outs and constraints included, and to stop always is. What
    takes the place of an illegal action is for the argument ``illegal`` to say: the legal one with the nearest index
    (the lower of two); or none, at the price of a reward of -1 (:mod:`mapgym.envs.common.illegal` says why), while
    nothing changes but the budget of steps, if there is one; or an error. ``info["illegal_action"]`` and
    ``info["executed_action"]`` say what has happened.
    Where no edit is legal and there is no stop, action 0 is, and takes a step that changes nothing.

    ## Observation Space
    ``Box(0, 1, (size,), float32)``; ``env.unwrapped.observation_fields`` maps the name of each field to its slice.
    The fields of ``MapSpace-v0`` that describe a complete mapping and the task (``temporal`` to ``fanout_used_y``
    except those about decisions, and ``objective`` to ``cumulative_fanout``), and

    | field | shape | content |
    |---|---|---|
    | edits_left | 1 | share of the edits that are left |
    | log_ratio, best_log_ratio | 1 | x / (4 + x) for x = ln(cost / lower bound) of the present mapping and of the best of the episode; 1 if unknown |

    ``spatial_order`` is the place of a parallel loop among those on its mesh side. Under cumulative fan-out checks
    the used fan-out of a level is relative to the mesh of MACs.

    ## Rewards
    ``reward="best"``: by how much the edit lowers ln(cost) of the best mapping of the episode, 0 if it does not. The
    return of an episode is ln(first cost / best cost). ``reward="drop"``: by how much the edit lowers ln(cost) of the
    present mapping, below 0 if it got worse. The return is ln(first cost / last cost). Use gamma = 1 with both. To
    stop earns 0.

    The best mapping is what a search is for, and with its reward nothing is lost by going through worse ones. Most
    edits of a random mapping make it worse. With ``reward="drop"`` a learner therefore finds out first that doing
    nothing earns more than trying (stopping at once, or undoing each edit by the next), which is a local optimum that
    policies without masks and recurrent ones seldom leave.

    ## Starting State
    ``start="random"`` draws a legal mapping with ``self.np_random``, as :meth:`mapgym.MapSpace.sample` does.
    ``"trivial"`` has all loops at the outermost level. A :class:`mapgym.Mapping` is taken as it is. From a
    :class:`mapgym.warmstart.ReplayBuffer`, or the path of one, the entry whose layer is most like that of the episode
    is transferred; if there is none, or its transfer is illegal, the episode starts at random, and
    ``info["random_start"]`` of the reset is true. The task is drawn before, as in ``MapSpace-v0``, or
    fixed for one episode by ``reset(options={"workload": ..., "accelerator": ..., "objective": ...})``; any other key
    is an error. Such a task must not need sizes or edits that the environment was not made with.

    ## Episode End
    The episode terminates with the last of ``steps`` edits, so that all have one length (``spec.max_episode_steps``),
    or with the action to stop, where there is one. It is never truncated.

    ## Information
    The same entries after every reset and step, in NumPy's types: bools, int64 and float64. What has nothing to
    say yet is blank: -1 for figures and counts, False for events.

    | entry | when | content |
    |---|---|---|
    | ``action_mask``, ``illegal_action``, ``executed_action``, ``task_index``, ``task_id`` | always | as in ``MapSpace-v0`` |
    | ``random_start`` | always | whether the episode began with a random mapping |
    | ``latency_cycles``, ``energy_pj``, ``edp``, ``utilization``, ``lower_bound``, ``ratio``, ``gap`` | after the last step | of the last mapping, as in ``MapSpace-v0`` |
    | ``first_ratio``, ``best_ratio`` | after the last step | ``ratio`` of the first and of the best mapping |
    | ``edits`` | after the last step | int, how many of the budget are spent |
    | ``budget_exhausted`` | after the last step | whether an evaluator refused to price an edit: it is undone, and the episode ends with reward 0; figures that are not known stay -1 |

    The mappings are ``env.unwrapped.mapping`` and ``env.unwrapped.best_mapping``.

    ## Arguments
    ```
    gymnasium.make("MapSpaceRefine-v0", workload="paper/resnet_conv4", accelerator="accel_b", steps=64)
    ```

    | argument | default | meaning |
    |---|---|---|
    | workload | "paper/resnet_conv4" | catalog name, network name, path, dict, Workload, Network, or a list of these |
    | accelerator | "accel_b" | catalog name, path, dict, Accelerator, or a list of these |
    | objective | "edp" | "edp", "energy" or "latency" |
    | axes | ("tile", "order", "parallelism") | what is searched, also "bypass"; an axis left out stays trivial |
    | steps | 64 | edits of an episode |
    | start | "random" | or "trivial", a Mapping or its dict, a ReplayBuffer or the path of one |
    | constraints | None | a :class:`mapgym.spec.constraints.Constraints` or its dict |
    | render_mode | None | "ansi": the loop nest; "rgb_array": a picture of it |
    | evaluator | None | an :class:`mapgym.evaluation.evaluator.Evaluator` that prices (and counts) each start and each edit; it also gives the task, axes and constraints, which must then be left out |
    | tasks, sizes, sizes_for | None | those of ``MapSpace-v0``; with fixed sizes the table has every edit that tasks of these sizes may have |
    | illegal | "nearest" | what takes the place of an illegal action: the nearest legal one, or "penalty": none, at a price, or "raise": an error |
    | observation | "flat" | or "dict": a ``Dict`` of the fields and the mask, or "tokens": a ``Dict`` for attention; see :mod:`mapgym.envs.common.observation_kinds` |
    | reward | "best" | or "drop" |
    | stop | False | whether the last action ends the episode |

    ## References
    - Kao et al., Demystifying Map Space Exploration for NPUs, IISWC 2022.
    - Parashar et al., Timeloop: A Systematic Approach to DNN Accelerator Evaluation, ISPASS 2019.

    ## Version History
    - v0: first version.
    """  # noqa: E501 - rows of a table cannot be broken

    def __init__(
        self,
        workload: Any = None,
        accelerator: Any = None,
        objective: str | None = None,
        axes: Sequence[str] | None = None,
        steps: int = DEFAULT_STEPS,
        start: Any = "random",
        constraints: Any = None,
        render_mode: str | None = None,
        evaluator: Evaluator | None = None,
        tasks: Any = None,
        sizes: Any = None,
        sizes_for: Any = None,
        reward: str = "best",
        stop: bool = False,
        illegal: str = "nearest",
        observation: str = "flat",
    ) -> None:
        """Makes the environment; the class documents the arguments.

        Raises:
            SpecificationError: an unknown name or value, an empty map space, or a start that is not in it.
        """
        arguments = TaskArguments(
            workload, accelerator, objective, tasks, sizes, sizes_for, evaluator, illegal, observation
        )
        ready = RefineTasks(arguments, axes, steps, start, constraints, reward, stop)
        super().__init__(RefineEpisodes(1, ready), render_mode)

    @property
    def best_mapping(self) -> Mapping:
        """The best mapping of the episode so far."""
        return self._episodes.best_mapping(0)

    def action_masks(self) -> NDArray[np.bool_]:
        """bool[actions]: which actions are legal now (the name is sb3-contrib's)."""
        return self._episodes.masks[0].astype(np.bool_)

    def action_meaning(self, action: int) -> str:
        """What an action does in the current task, such as "move 2 of C from Registers to DRAM"; "" if nothing."""
        number = read_within(self._read_action(action), int(self._tasks.action_space.n), self.where)  # type: ignore[attr-defined]
        prepared: RefineTask = self._episodes.tasks.prepared[self._episodes.task_of[0]]
        return self._episodes.tasks.meaning(prepared, number)


class MapSpaceRefineVectorEnv(EpisodesVectorEnv[RefineEpisodes]):
    """``num_envs`` environments ``MapSpaceRefine-v0`` that step together; see :class:`mapgym.envs.MapSpaceRefineEnv`.

    Environment i behaves exactly as a scalar one that was reset with seed ``seed + i``. All edits of a step are made,
    and all masks and observations written, in one compiled call for each task, and priced in another.

    Further arguments: ``num_envs``, ``autoreset_mode`` and ``max_episode_steps``, as for
    :class:`mapgym.envs.MapSpaceVectorEnv`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        workload: Any = None,
        accelerator: Any = None,
        objective: str | None = None,
        axes: Sequence[str] | None = None,
        steps: int = DEFAULT_STEPS,
        start: Any = "random",
        constraints: Any = None,
        render_mode: str | None = None,
        evaluator: Evaluator | None = None,
        reward: str = "best",
        stop: bool = False,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        tasks: Any = None,
        sizes: Any = None,
        sizes_for: Any = None,
        illegal: str = "nearest",
        observation: str = "flat",
    ) -> None:
        """Makes the environments; :class:`mapgym.envs.MapSpaceRefineEnv` documents the arguments they share.

        Raises:
            SpecificationError: an unknown name or value, an empty map space, or a start that is not in it.
        """
        arguments = TaskArguments(
            workload, accelerator, objective, tasks, sizes, sizes_for, evaluator, illegal, observation
        )
        ready = RefineTasks(arguments, axes, steps, start, constraints, reward, stop)
        episodes = RefineEpisodes(count_of(num_envs, ready), ready)
        super().__init__(episodes, render_mode, autoreset_mode, max_episode_steps)

    def action_masks(self) -> NDArray[np.bool_]:
        """bool[num_envs, actions]: which actions are legal now."""
        return self._episodes.masks.astype(np.bool_)

    def best_mappings(self) -> list[Mapping]:
        """The best mapping of each environment's episode."""
        return [self._episodes.best_mapping(i) for i in range(self.num_envs)]
