"""The environment ``MapSpaceSparse-v0`` and its vector twin: one mapping for activations of any density."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gymnasium.vector import AutoresetMode

from mapgym.envs.common.episodes import EpisodesVectorEnv
from mapgym.envs.common.faces import count_of
from mapgym.envs.common.tasks import TaskArguments
from mapgym.envs.construction.mapspace_env import MapSpaceEnv, MapSpaceVectorEnv
from mapgym.envs.construction.mapspace_episodes import MapSpaceEpisodes
from mapgym.envs.sparse.sparse_tasks import SparseTasks

if TYPE_CHECKING:
    from mapgym.evaluation.evaluator import Evaluator


class MapSpaceSparseEnv(MapSpaceEnv):
    """Builds one mapping of a sparse DNN layer that has to be good whatever the density of its activations.

    ## Description
    Hardware that saves what zeros make useless (:mod:`mapgym.spec.sparsity`) is the faster the fewer words are other than
    zero, and which mapping is best depends on how many those are. The density of the weights is known when a layer is
    mapped. That of the activations is not: it changes with every input. ``MapSpaceSparse-v0`` is ``MapSpace-v0`` for
    that situation. The density of the weights is drawn at each reset and seen; one mapping is built, decision by
    decision; and its reward is what it is worth over a set of densities of the activations, none of which is seen.

    ## Action Space
    That of ``MapSpace-v0`` (:class:`mapgym.envs.MapSpaceEnv`), with its masks: every mapping that is legal at all
    densities of the set can be reached. A mapping that they allow has room for its tiles at all of them, because
    compressed tiles take the more words the denser they are and room is reckoned for the highest density. What no
    single decision can foresee is the room for the metadata of compressed tiles. Where it is exceeded when the mapping
    is complete, prime factors move outwards until they fit (:mod:`mapgym.mapspace.metadata_repair`), and
    ``info["repaired"]`` is true. So an episode ends with a legal mapping, unless parallel factors alone, which stay
    where they are, exceed the room; the reward is then -30.

    ## Observation Space
    ``Box(0, 1, (size,), float32)``; ``env.unwrapped.observation_fields`` maps the name of each field to its slice.
    The fields of ``MapSpace-v0``, where ``workload_densities`` has the density of the weights that was drawn, and for
    the activations the highest of the set; and

    | field | shape | content |
    |---|---|---|
    | workload_sparsities | tensors | x / (1 + x) for x = -log2(density) |
    | workload_hypergeometric | tensors | 1 if zeros lie anywhere, 0 if every tile has its share of them |
    | level_compressed | levels, tensors | 1 if the level stores the tensor in a format |
    | level_gating, level_skipping | levels, tensors | 1 if the level has actions that save accesses to the tensor so |
    | level_metadata_capacity | levels | :func:`mapgym.envs.common.observation.squash` of the bits |
    | zero_operands | 2 | 1 if the MACs gate zero operands; 1 if they skip them |

    ## Rewards
    0 until the mapping is complete, then ``-ln(value)``. The value is the geometric mean, with ``density_weights``,
    over the densities of the activations, of the objective over its lower bound at that density; so the dense case,
    which costs most, does not drown the others. It is at least 1 (:class:`mapgym.evaluation.sparsity_aware.SparsityAware`).
    ``reward="shaped"`` is that of ``MapSpace-v0``. Use gamma = 1.

    ## Starting State
    Nothing is decided except what is forced. The task is drawn uniformly with ``self.np_random`` from all combinations
    of workload, accelerator and density of the weights, or fixed for one episode by ``reset(options={"workload": ...,
    "accelerator": ..., "objective": ..., "weight_density": ...})``; any other key is an error. The densities that a
    workload itself has are replaced, where its zeros lie (``density_distribution``) is not.

    ## Episode End
    The episode terminates when the mapping is complete. It is never truncated.

    ## Information
    The entries of ``MapSpace-v0``, with the same meaning, in every info: ``action_mask``, ``illegal_action``,
    ``executed_action``, ``task_index``, ``task_id``, and, after the last step, ``gap`` and ``budget_exhausted``; and

    | entry | when | content |
    |---|---|---|
    | ``repaired`` | after the last step | whether factors had to move to make room for metadata |
    | ``ratio`` | after the last step | the value above |
    | ``ratio_at_D`` for each density D of the set, such as ``ratio_at_0.5`` | after the last step | the objective over its lower bound at that density |
    | ``latency_cycles``, ``energy_pj``, ``edp``, ``utilization`` | after the last step | as :class:`mapgym.evaluation.sparsity_aware.DensitySetCosts` defines them over the set |

    The mapping itself is ``env.unwrapped.mapping``.

    ## Arguments
    ```
    gymnasium.make("MapSpaceSparse-v0", workload="paper/resnet_conv4", accelerator="accel_b_sparse_md")
    ```

    ``axes``, ``orders``, ``reward``, ``constraints``, ``render_mode``, ``sizes``, ``sizes_for``, ``illegal`` and
    ``observation`` are those of
    ``MapSpace-v0``, and

    | argument | default | meaning |
    |---|---|---|
    | workload | "paper/resnet_conv4" | catalog name, network name, path, dict, Workload, Network, or a list of these |
    | accelerator | "accel_b_sparse_md" | catalog name, path, dict, Accelerator, or a list of these; with sparse features |
    | objective | "edp" | "edp", "energy" or "latency" |
    | weight_densities | (1.0, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01) | densities of the weights to draw from, all equally likely; or one; or "workload" for those that the workloads have |
    | tasks | None | as in ``MapSpace-v0``, in place of workload, accelerator, objective and weight_densities: weights have the densities that the tasks give them |
    | densities | (1.0, 0.8, 0.5, 0.2, 0.1) | densities of the activations over which the reward is taken |
    | density_weights | None | what each of them counts; None for all the same |
    | evaluator | None | an :class:`mapgym.evaluation.evaluator.Evaluator` with a :class:`~mapgym.evaluation.sparsity_aware.SparsityAware` objective that prices (and counts) finished mappings; it also gives the task, densities, axes and constraints, which must then be left out |

    ## References
    - Kao et al., Demystifying Map Space Exploration for NPUs, IISWC 2022.
    - Wu et al., Sparseloop: An Analytical Approach to Sparse Tensor Accelerator Modeling, MICRO 2022.

    ## Version History
    - v0: first version.
    """  # noqa: E501 - rows of a table cannot be broken

    def __init__(
        self,
        workload: Any = None,
        accelerator: Any = None,
        objective: str | None = None,
        weight_densities: Any = None,
        densities: Sequence[float] | None = None,
        density_weights: Sequence[float] | None = None,
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
            SpecificationError: an unknown name or value, an accelerator without sparse features, an empty map space,
                or constraints without exact masks.
        """
        arguments = TaskArguments(
            workload, accelerator, objective, tasks, sizes, sizes_for, evaluator, illegal, observation
        )
        ready = SparseTasks(arguments, weight_densities, densities, density_weights, axes, orders, reward, constraints)
        self._open(ready, render_mode)


class MapSpaceSparseVectorEnv(MapSpaceVectorEnv):
    """``num_envs`` environments ``MapSpaceSparse-v0`` that step together; see :class:`MapSpaceSparseEnv`.

    Environment i behaves exactly as a scalar one that was reset with seed ``seed + i``. All mappings that a step
    finishes for a task are priced at all densities in one call. Further arguments and ``finished``: as for
    :class:`mapgym.envs.MapSpaceVectorEnv`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        workload: Any = None,
        accelerator: Any = None,
        objective: str | None = None,
        weight_densities: Any = None,
        densities: Sequence[float] | None = None,
        density_weights: Sequence[float] | None = None,
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
        """Makes the environments; :class:`MapSpaceSparseEnv` documents the arguments they share.

        Raises:
            SpecificationError: an unknown name or value, an accelerator without sparse features, an empty map space,
                or constraints without exact masks.
        """
        arguments = TaskArguments(
            workload, accelerator, objective, tasks, sizes, sizes_for, evaluator, illegal, observation
        )
        ready = SparseTasks(arguments, weight_densities, densities, density_weights, axes, orders, reward, constraints)
        episodes = MapSpaceEpisodes(count_of(num_envs, ready), ready, copies=copy)
        EpisodesVectorEnv.__init__(self, episodes, render_mode, autoreset_mode, max_episode_steps)
