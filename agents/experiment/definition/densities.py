"""Densities as users name them: those that an objective varies, and those that are fixed in the workload."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mapgym.agents.labels import OBJECTIVE_NAMES
from mapgym.errors import SpecificationError, suggest
from mapgym.errors.text import quoted
from mapgym.evaluation.sparsity_aware import SPARSITY_AWARE, SparsityAware, is_sparsity_aware
from mapgym.spec.workload import Workload
from mapgym.system.registration import ENVIRONMENT_IDS

_SPARSE = "MapSpaceSparse-v0"
_ENVIRONMENTS = ("MapSpace-v0", _SPARSE)


def read_objective(
    text: str, densities: Iterable[float | str] | None = None, weights: Iterable[float | str] | None = None
) -> str:
    """The objective of an experiment.

    Args:
        text: edp, energy, latency, or the text of a sparsity-aware objective.
        densities, weights: of a sparsity-aware objective, instead of those in its text.

    Raises:
        SpecificationError: unknown objective, or densities for one that has none.
    """
    if not is_sparsity_aware(text):
        known = (*OBJECTIVE_NAMES, SPARSITY_AWARE)
        if not isinstance(text, str) or text not in OBJECTIVE_NAMES:
            raise SpecificationError(f"unknown objective {quoted(text)}; {suggest(str(text), known)}")
        if densities is not None or weights is not None:
            raise SpecificationError(
                f"the objective {quoted(text)} has no densities to vary; give the objective {quoted(SPARSITY_AWARE)}, "
                "or fix the densities of the workload"
            )
        return text
    aware = SparsityAware.parse(text)
    if densities is None:
        return aware if weights is None else SparsityAware(aware.densities, weights, aware.objective, aware.tensor)
    return SparsityAware(densities, weights, aware.objective, aware.tensor)


def objective_in(env: str | None, objective: str) -> str:
    """The objective that all agents minimise when the learned ones act in an environment.

    Args:
        env: "MapSpace-v0" or "MapSpaceSparse-v0"; None for the one that the objective needs.
        objective: as :func:`read_objective` takes it; in MapSpaceSparse-v0, what is averaged over densities.

    Raises:
        SpecificationError: unknown environment, or one in which mappings are not built, or not for the objective.
    """
    if env is None:
        return objective
    if env not in _ENVIRONMENTS:
        known = env in ENVIRONMENT_IDS
        hint = f"choose {' or '.join(_ENVIRONMENTS)}" if known else suggest(str(env), _ENVIRONMENTS)
        raise SpecificationError(f"agents cannot be compared in the environment {quoted(env)}; {hint}")
    if env == _SPARSE:
        return objective if is_sparsity_aware(objective) else f"{SPARSITY_AWARE}:{objective}"
    if is_sparsity_aware(objective):
        raise SpecificationError(
            f"the environment {quoted(env)} prices mappings at one density, and the objective {quoted(SPARSITY_AWARE)} "
            f"at several; choose {_SPARSE}"
        )
    return objective


def task_workload(workload: Workload, objective: str, fixed: Mapping[str, object] | None = None) -> Workload:
    """The workload of a task: with fixed densities, and with the highest of those that the objective varies.

    Args:
        workload: the layer.
        objective: of the task.
        fixed: tensor (in capitals or not) -> density, as :meth:`Workload.with_densities` takes it.

    Raises:
        SpecificationError: unknown tensor, a density out of range or given twice, or one that the objective varies.
    """
    names = {tensor.name.lower(): tensor.name for tensor in workload.tensors}
    densities: dict[str, object] = {}
    for name, value in (fixed or {}).items():
        tensor = workload.tensor(names.get(str(name).lower(), str(name))).name
        if tensor in densities:
            raise SpecificationError(f"the density of {tensor} is given twice; give one density for each tensor")
        densities[tensor] = value
    workload = workload.with_densities(densities)
    if not is_sparsity_aware(objective):
        return workload
    aware = SparsityAware.parse(objective)
    if aware.tensor in densities:
        raise SpecificationError(
            f"the density of {aware.tensor} is fixed to {quoted(densities[aware.tensor])}, but the objective varies "
            "it; leave it out"
        )
    return aware.densest(workload)
