"""What the environments ``MapSpaceSparse-v0`` share: densities that are drawn, seen, or neither."""

from __future__ import annotations

from collections.abc import Iterable, Mapping as AbcMapping, Sequence
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapgym.envs.common.infos import MASKED
from mapgym.envs.common.observation import ObservationLayout, squash
from mapgym.envs.common.task import DEFAULT_WORKLOAD, Task, read_workloads
from mapgym.envs.common.tasks import TaskArguments, TaskSource, check_evaluator, require_left_out
from mapgym.envs.construction.mapspace_tasks import MapSpaceTasks, PreparedTask
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.evaluation.sparsity_aware import DENSITIES, SparsityAware, is_sparsity_aware
from mapgym.mapping import MappingBatch
from mapgym.mapping.legality_kernels import LEGAL
from mapgym.mapspace.metadata_repair import make_room
from mapgym.spec.sparsity import SAVINGS
from mapgym.spec.workload import Workload

DEFAULT_SPARSE_ACCELERATOR = "accel_b_sparse_md"

WEIGHT_DENSITIES = (1.0, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01)
"""From what the density of the weights is drawn as a rule, all equally likely: dense to pruned to one in a hundred, in
steps that are about as large on a logarithmic scale."""

OWN = "workload"
"""Stands for the density that the workload itself has."""


class SparseLayout(ObservationLayout):
    """The observation of ``MapSpace-v0``, and what the hardware and the layer have to do with zeros."""

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each field, in order; fields of more than one axis are flattened in C order."""
        levels, tensors = self.levels, self.tensors
        return {
            **super().shapes,
            "workload_sparsities": (tensors,),
            "workload_hypergeometric": (tensors,),
            "level_compressed": (levels, tensors),
            "level_gating": (levels, tensors),
            "level_skipping": (levels, tensors),
            "level_metadata_capacity": (levels,),
            "zero_operands": (len(SAVINGS),),
        }

    def static_features(self, task: Task) -> NDArray[np.float32]:
        """float32[size]: an observation in which everything that an episode does not change is filled in."""
        observation = super().static_features(task)
        tensors, levels = task.workload.tensors, task.accelerator.for_workload(task.workload).levels
        saved = [{(action.saving, action.target) for action in level.actions} for level in levels]
        logs = np.array([-np.log2(tensor.density) for tensor in tensors])
        self.fill(
            observation,
            {
                "workload_sparsities": logs / (1.0 + logs),
                "workload_hypergeometric": [float(t.density_distribution == "hypergeometric") for t in tensors],
                "level_compressed": [[float(t.name in dict(level.formats)) for t in tensors] for level in levels],
                "level_gating": [[float(("gating", t.name) in at_level) for t in tensors] for at_level in saved],
                "level_skipping": [[float(("skipping", t.name) in at_level) for t in tensors] for at_level in saved],
                "level_metadata_capacity": [squash(level.metadata_capacity_bits) for level in levels],
                "zero_operands": [float(saving in task.accelerator.mac.zero_operands) for saving in SAVINGS],
            },
        )
        return observation


class SparseTask(PreparedTask):
    """One task with everything that an episode needs."""

    def finish(
        self, states: NDArray[np.int32], rows: NDArray[np.int64], batch: MappingBatch | None = None
    ) -> tuple[MappingBatch, NDArray[np.bool_]]:
        """The mappings of complete states, with room for their metadata; and bool[n], which of them had too little."""
        batch = self.construction.export(states, rows, batch)
        changed = self.construction.space.status(batch) != LEGAL
        if np.count_nonzero(changed):
            make_room(self.construction.space, batch)
        return batch, changed


class SparseTasks(MapSpaceTasks):
    """The arguments of ``MapSpaceSparse-v0``, checked, and the tasks that they stand for.

    In the workload of a task, weights have the density that was drawn, and activations the highest of the set: a
    mapping has room for its tiles at every density if it has at that one.

    Attributes:
        objective: the metric, and the densities of activations over which it is taken.
    """

    task_type = SparseTask
    own_blank = MappingProxyType({**MASKED, "repaired": np.False_})
    reset_options = (*MapSpaceTasks.reset_options, "weight_density")

    def __init__(
        self,
        arguments: TaskArguments,
        weight_densities: Any,
        densities: Sequence[float] | None,
        density_weights: Sequence[float] | None,
        axes: Sequence[str] | None,
        orders: str,
        reward: str,
        constraints: Any,
    ) -> None:
        """Reads the arguments; see :class:`mapgym.envs.MapSpaceSparseEnv`."""
        evaluator, objective = arguments.evaluator, arguments.objective
        # What options of a reset replace one of by one; None for what the tasks have.
        self._workloads: list[Workload] | None = None
        self._weight_densities: tuple[float, ...] | None = None
        if evaluator is not None:
            check_evaluator(evaluator)
            require_left_out(
                objective=objective,
                weight_densities=weight_densities,
                densities=densities,
                density_weights=density_weights,
            )
            if not isinstance(evaluator.objective, SparsityAware):
                raise SpecificationError(
                    "MapSpaceSparse-v0 has a reward over a set of densities, but the evaluator minimises "
                    f"{quoted(evaluator.objective)}; make it with objective=SparsityAware()"
                )
            self.objective = evaluator.objective
        else:
            densities = DENSITIES if densities is None else densities
            self.objective = SparsityAware(densities, density_weights, "edp" if objective is None else objective)
            if arguments.tasks is None:
                arguments = self._with_weight_densities(arguments, weight_densities)
            elif weight_densities is not None:
                raise SpecificationError(
                    "tasks and weight_densities are given, which exclude each other; leave weight_densities out, "
                    "or give the tasks densities={'Weights': [1.0, 0.5]}"
                )
        super().__init__(arguments, axes, orders, reward, constraints, SparseLayout)

    def _with_weight_densities(self, arguments: TaskArguments, weight_densities: Any) -> TaskArguments:
        """The arguments with each workload once for each density of its weights."""
        self._weight_densities = _read_weight_densities(weight_densities)
        self._workloads = read_workloads(DEFAULT_WORKLOAD if arguments.workload is None else arguments.workload)
        return replace(
            arguments,
            workload=self._with_densities(self._workloads, self._weight_densities),
            accelerator=DEFAULT_SPARSE_ACCELERATOR if arguments.accelerator is None else arguments.accelerator,
            objective=self.objective,
        )

    def posed(self, task: Task) -> Task:
        """A task over the set of densities, with room for the densest activations."""
        aware = self.objective
        if not is_sparsity_aware(task.objective):
            aware = SparsityAware(aware.densities, aware.weights, task.objective, aware.tensor)
            return replace(task, workload=aware.densest(task.workload), objective=aware)
        return task

    def _with_densities(self, workloads: Sequence[Workload], densities: Sequence[float] | None) -> list[Workload]:
        """Each workload with each density of its weights, and room for the densest activations."""
        found = []
        for workload in workloads:
            weights = self._weights_of(workload)
            own = (workload.tensor(weights).density,)
            found += [
                self.objective.densest(workload.with_densities({weights: density})) for density in densities or own
            ]
        return list(dict.fromkeys(found))

    def _weights_of(self, workload: Workload) -> str:
        """The operand that is not the activations."""
        activations = workload.tensor(self.objective.tensor).name
        others = [tensor.name for tensor in workload.tensors if not tensor.is_output and tensor.name != activations]
        if len(others) != 1:
            raise SpecificationError(
                f"workload {quoted(workload.name)} has {len(others)} operands besides {quoted(activations)}; sparse "
                "environments need one, the weights"
            )
        return others[0]

    def prepare(self, task: Task) -> PreparedTask:
        """Makes a task ready."""
        if not task.accelerator.is_sparse:
            raise SpecificationError(
                f"accelerator {quoted(task.accelerator.name)} has no sparse features, so that densities change nothing "
                f"there; take one that has, such as {quoted(DEFAULT_SPARSE_ACCELERATOR)}, or the environment "
                "'MapSpace-v0'"
            )
        return super().prepare(task)

    def fixed_by(self, options: AbcMapping[str, Any] | None, source: TaskSource) -> TaskSource | None:
        """Reads the options of reset; see :meth:`mapgym.envs.common.tasks.EnvironmentTasks.fixed_by`."""
        options = self.read_options(options)
        if self.evaluator is None:
            if "objective" in options:
                aware = self.objective
                options["objective"] = SparsityAware(aware.densities, aware.weights, options["objective"], aware.tensor)
            if options.keys() & {"workload", "weight_density"}:
                if "workload" in options:
                    workloads = read_workloads(options["workload"])
                else:
                    workloads = self._workloads or list(dict.fromkeys(task.workload for task in source.tasks))
                if not workloads:
                    raise SpecificationError(
                        "reset options have a weight_density for layers that are generated; give a workload as well"
                    )
                densities = self._weight_densities
                if "weight_density" in options:
                    densities = _read_weight_densities(options.pop("weight_density"))
                options["workload"] = self._with_densities(workloads, densities)
        return super().fixed_by(options, source)


def _read_weight_densities(spec: Any) -> tuple[float, ...] | None:
    """The densities to draw from; None for those of the workloads."""
    if spec is None:
        return WEIGHT_DENSITIES
    if isinstance(spec, str):
        if spec != OWN:
            raise SpecificationError(
                f"weight_densities is {quoted(spec)}; give densities above 0 and at most 1, or {quoted(OWN)} for those "
                "that the layers have"
            )
        return None
    densities = list(spec) if isinstance(spec, Iterable) else [spec]
    for density in densities:
        if isinstance(density, bool) or not isinstance(density, int | float) or not 0.0 < density <= 1.0:
            raise SpecificationError(
                f"weight_densities has {quoted(density)}; give numbers above 0 and at most 1, such as [1.0, 0.5, 0.1]"
            )
    if not densities or len(set(densities)) != len(densities):
        raise SpecificationError(
            f"weight_densities is {quoted(densities)}; give at least one density, none of them twice"
        )
    return tuple(float(density) for density in densities)
