"""The environment ``MapSpaceWarmStart-v0`` and its vector twin: improve the layers of a network, one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gymnasium.vector import AutoresetMode

from mapgym.envs.common.episodes import EpisodesEnv, EpisodesVectorEnv
from mapgym.envs.common.faces import count_of
from mapgym.envs.common.tasks import TaskArguments
from mapgym.envs.refine.refine_env import DEFAULT_STEPS, MapSpaceRefineEnv, MapSpaceRefineVectorEnv
from mapgym.envs.warm_start.warm_start_episodes import WarmStartEpisodes, WarmStartTasks
from mapgym.warmstart import ReplayBuffer, Similarity


class MapSpaceWarmStartEnv(MapSpaceRefineEnv):
    """Improves the mappings of a network's layers, each begun from the most similar layer that is solved.

    ## Description
    The layers of a network resemble each other, and a good mapping of one is a good beginning for the next.
    ``MapSpaceWarmStart-v0`` is ``MapSpaceRefine-v0`` (:class:`mapgym.envs.MapSpaceRefineEnv`) over such a sequence: the
    episodes go through the distinct layers of a network in their order, and through them again after the last. Each
    episode starts from the mapping of the most similar layer that was solved before, transferred to the present one
    (:mod:`mapgym.warmstart`), and what it finds is there for the episodes that follow. So what an agent does with one
    layer decides where it starts with others.

    ## Action Space
    ``Discrete(n)``: a single edit with exact masks, or with ``stop=True`` to stop, as in ``MapSpaceRefine-v0``; the table
    holds what is possible in at least one of the layers.

    ## Observation Space
    ``Box(0, 1, (size,), float32)``, with the fields of ``MapSpaceRefine-v0``.

    ## Rewards
    By how much an edit lowers ln(cost) of the objective, of the best mapping of the episode (``reward="best"``) or of
    the present one (``"drop"``), as in ``MapSpaceRefine-v0``. It measures what an episode adds to
    its start, not how good the start was: ``first_ratio`` and ``best_ratio`` tell these apart. Use gamma = 1.

    ## Starting State
    A ``reset`` with a seed begins with the first layer and with nothing solved, so that the same seed and actions give
    the same episodes. Every other reset goes on with the next layer; a layer whose episode was left before its end has
    had its turn. Among the layers that this environment has solved since, and those of ``buffer``, the nearest by
    ``similarity`` is transferred; a layer that comes up again is its own nearest. If there is none, or its transfer is
    illegal, the start is a legal mapping drawn with ``self.np_random``, and counted.
    ``reset(options={"workload": ..., "accelerator": ..., "objective": ...})`` fixes one episode, which takes no turn;
    any other key is an error. Such a task must not need sizes or edits that the environment was not made with.

    ## Episode End
    The episode terminates with the last of ``steps`` edits, or with the action to stop, where there is one. It is never
    truncated. Its best mapping is then a solved layer, unless a better one of the same layer is known to this
    environment.

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
    | ``random_starts``, ``failed_transfers``, ``solved_layers`` | always | int, since the last reset with a seed, the present start included: how many starts were random, how many transfers were illegal, how many layers this environment has solved |

    The mappings are ``env.unwrapped.mapping`` and ``env.unwrapped.best_mapping``; the solved layers are
    ``env.unwrapped.buffer``, a :class:`mapgym.warmstart.ReplayBuffer` in memory.

    ## Arguments
    ```
    gymnasium.make("MapSpaceWarmStart-v0", network="resnet18", accelerator="accel_b", steps=64)
    ```

    | argument | default | meaning |
    |---|---|---|
    | network | "resnet18" | what ``workload`` of ``MapSpaceRefine-v0`` may be: a network, a workload, a split such as "split:training", or a list of these, in order |
    | accelerator | "accel_b" | catalog name, path, dict, Accelerator, or a list of these, which are gone through one after the other |
    | objective | "edp" | "edp", "energy" or "latency" |
    | axes | ("tile", "order", "parallelism") | what is searched, also "bypass"; an axis left out stays trivial |
    | steps | 64 | edits of an episode |
    | similarity | "log-ratio" | or "editing", or a function, see :mod:`mapgym.warmstart.similarity` |
    | buffer | None | a ReplayBuffer, or the path of one, with solved layers to begin from as well; it is only read |
    | record | None | a ReplayBuffer, or the path of one, that what is found is added to; it is not read |
    | constraints | None | a :class:`mapgym.spec.constraints.Constraints` or its dict |
    | render_mode | None | "ansi": the loop nest; "rgb_array": a picture of it |
    | tasks | None | in place of network, accelerator and objective: as in ``MapSpace-v0``, gone through in order, accelerator by accelerator; nothing is drawn, so that weights and generated tasks are refused |
    | sizes, sizes_for | None | those of ``MapSpaceRefine-v0`` |
    | illegal | "nearest" | what takes the place of an illegal action: the nearest legal one, or "penalty": none, at a price, or "raise": an error |
    | observation | "flat" | or "dict": a ``Dict`` of the fields and the mask, or "tokens": a ``Dict`` for attention; see :mod:`mapgym.envs.common.observation_kinds` |
    | reward | "best" | or "drop" |
    | stop | False | whether the last action ends the episode |

    ## References
    - Kao et al., Demystifying Map Space Exploration for NPUs, IISWC 2022 (warm start by the editing distance).

    ## Version History
    - v0: first version.
    """  # noqa: E501 - rows of a table cannot be broken

    def __init__(
        self,
        network: Any = None,
        accelerator: Any = None,
        objective: str | None = None,
        axes: Sequence[str] | None = None,
        steps: int = DEFAULT_STEPS,
        similarity: str | Similarity = "log-ratio",
        buffer: Any = None,
        record: Any = None,
        constraints: Any = None,
        render_mode: str | None = None,
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
            SpecificationError: an unknown name or value, an empty map space, or a buffer that is not there.
        """
        arguments = TaskArguments(
            network, accelerator, objective, tasks, sizes, sizes_for, illegal=illegal, observation=observation
        )
        ready = WarmStartTasks(arguments, axes, steps, similarity, buffer, record, constraints, reward, stop)
        # Refine differs in its arguments and episodes only.
        EpisodesEnv.__init__(self, WarmStartEpisodes(1, ready), render_mode)

    @property
    def buffer(self) -> ReplayBuffer:
        """The layers that are solved, in memory."""
        assert isinstance(self._episodes, WarmStartEpisodes)
        return self._episodes.buffers[0]


class MapSpaceWarmStartVectorEnv(MapSpaceRefineVectorEnv):
    """``num_envs`` environments ``MapSpaceWarmStart-v0``; see :class:`mapgym.envs.MapSpaceWarmStartEnv`.

    Environment i behaves exactly as a scalar one that was reset with seed ``seed + i``: it goes through the layers by
    itself, and knows what it has solved itself. See :class:`mapgym.envs.MapSpaceRefineVectorEnv`.

    Further arguments: ``num_envs``, ``autoreset_mode`` and ``max_episode_steps``, as for
    :class:`mapgym.envs.MapSpaceVectorEnv`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        network: Any = None,
        accelerator: Any = None,
        objective: str | None = None,
        axes: Sequence[str] | None = None,
        steps: int = DEFAULT_STEPS,
        similarity: str | Similarity = "log-ratio",
        buffer: Any = None,
        record: Any = None,
        constraints: Any = None,
        render_mode: str | None = None,
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
        """Makes the environments; :class:`mapgym.envs.MapSpaceWarmStartEnv` documents the arguments they share.

        Raises:
            SpecificationError: an unknown name or value, an empty map space, or a buffer that is not there.
        """
        arguments = TaskArguments(
            network, accelerator, objective, tasks, sizes, sizes_for, illegal=illegal, observation=observation
        )
        ready = WarmStartTasks(arguments, axes, steps, similarity, buffer, record, constraints, reward, stop)
        episodes = WarmStartEpisodes(count_of(num_envs, ready), ready)
        EpisodesVectorEnv.__init__(self, episodes, render_mode, autoreset_mode, max_episode_steps)

    @property
    def buffers(self) -> list[ReplayBuffer]:
        """The layers that each environment has solved, in memory."""
        assert isinstance(self._episodes, WarmStartEpisodes)
        return self._episodes.buffers
