"""The environment ``MapSpaceOneShot-v0`` and its vector twin: a whole mapping in one action."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from mapgym.envs.common.episodes import EpisodesEnv, EpisodesVectorEnv
from mapgym.envs.common.faces import count_of
from mapgym.envs.common.tasks import TaskArguments
from mapgym.envs.one_shot.one_shot_episodes import OneShotEpisodes
from mapgym.envs.one_shot.one_shot_tasks import OneShotTask, OneShotTasks

if TYPE_CHECKING:
    from mapgym.evaluation.evaluator import Evaluator


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
    The same entries after every reset and step, in NumPy's types: bools, int64 and float64. What has nothing to
    say yet is blank: -1 for figures and counts, False for events.

    | entry | when | content |
    |---|---|---|
    | ``task_index``, ``task_id`` | always | as in ``MapSpace-v0`` |
    | ``repaired`` | after the step | whether factors, their mesh sides or kept tensors are other than the action says |
    | ``latency_cycles``, ``energy_pj``, ``edp``, ``utilization``, ``lower_bound``, ``ratio``, ``gap`` | after the step | as in ``MapSpace-v0`` |
    | ``budget_exhausted`` | after the step | whether an evaluator's budget was spent: the reward is 0, figures stay -1 |

    The mapping is ``env.unwrapped.mapping``.

    ## Arguments
    ```
    gymnasium.make("MapSpaceOneShot-v0", workload="paper/resnet_conv4", accelerator="accel_b", objective="edp")
    ```

    ``workload``, ``accelerator``, ``objective``, ``axes``, ``constraints``, ``render_mode``, ``evaluator``, ``tasks``,
    ``sizes``, ``sizes_for`` and ``observation`` are those of ``MapSpace-v0``; constraints need no exact masks here.

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
        observation: str = "flat",
    ) -> None:
        """Makes the environment; the class documents the arguments.

        Raises:
            SpecificationError: an unknown name or value, or an empty map space.
        """
        arguments = TaskArguments(
            workload, accelerator, objective, tasks, sizes, sizes_for, evaluator, observation=observation
        )
        super().__init__(OneShotEpisodes(1, OneShotTasks(arguments, axes, constraints)), render_mode)

    def action_meaning(self, action: NDArray[np.int64]) -> str:
        """The mapping that an action builds in the current task, repairs included, as text; "" where none is near."""
        prepared: OneShotTask = self._episodes.tasks.prepared[self._episodes.task_of[0]]
        built = prepared.room(1)
        prepared.build(self._read_action(action)[None], built)
        return built.batch[0].to_text() if built.fits[0] else ""


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
        observation: str = "flat",
    ) -> None:
        """Makes the environments; :class:`MapSpaceOneShotEnv` documents the arguments they share.

        Raises:
            SpecificationError: an unknown name or value, or an empty map space.
        """
        arguments = TaskArguments(
            workload, accelerator, objective, tasks, sizes, sizes_for, evaluator, observation=observation
        )
        ready = OneShotTasks(arguments, axes, constraints)
        episodes = OneShotEpisodes(count_of(num_envs, ready), ready)
        super().__init__(episodes, render_mode, autoreset_mode, max_episode_steps)
