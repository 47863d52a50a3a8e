"""A task: a map space to search for one objective, with the names and keys under which it is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mapgym.cost import check_objective
from mapgym.evaluation.best_known import task_key
from mapgym.evaluation.sparsity_aware import SparsityAware, is_sparsity_aware
from mapgym.mapspace import MapSpace
from mapgym.mapspace.entries import AXES
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.rules import DEFAULT_RULES
from mapgym.spec.workload import Workload
from mapgym.system.file_names import file_name

KEEP_ALL = tuple(axis for axis in AXES if axis != "bypass")
"""The axes when every tensor is kept wherever it may be."""

_NO_LINKS = "no links"


@dataclass(frozen=True)
class Task:
    """One map space to search for one objective.

    Attributes:
        workload, accelerator: what is mapped onto what.
        axes: the axes of the map space that are searched; an environment searches those that it was made with.
        objective: one of ``mapgym.cost.OBJECTIVES``, or a :class:`mapgym.evaluation.sparsity_aware.SparsityAware` or
            its text.

    Raises:
        SpecificationError: the objective is unknown.
    """

    workload: Workload
    accelerator: Accelerator
    axes: tuple[str, ...] = KEEP_ALL
    objective: str = "edp"

    def __post_init__(self) -> None:
        check_objective(self.metric)

    @property
    def metric(self) -> str:
        """The one of ``mapgym.cost.OBJECTIVES`` that counts, at one density or at several."""
        return SparsityAware.parse(self.objective).objective if is_sparsity_aware(self.objective) else self.objective

    @property
    def name(self) -> str:
        """Such as "paper/resnet_conv4 on accel_b"; what is out of the ordinary follows: ", no links, timeloop-2022"."""
        return ", ".join([f"{self.workload.name} on {self.accelerator.name}", *self._peculiarities])

    @property
    def id(self) -> str:
        """Such as "paper/resnet_conv4 @ accel_b, edp"; what is out of the ordinary stands before the objective."""
        parts = [self.accelerator.name, *self._unusual, str(self.objective)]
        return f"{self.workload.name} @ {', '.join(parts)}"

    @property
    def file_stem(self) -> str:
        """A file name without an ending, such as "paper-resnet_conv4__accel_b"; others for tasks of other names."""
        peculiarities = ("no-links" if text == _NO_LINKS else text for text in self._peculiarities)
        return file_name(self.workload.name, self.accelerator.name, *peculiarities, slash=True)

    @property
    def identity(self) -> tuple[str, ...]:
        """What the name is made of: equal for tasks that an experiment cannot have both."""
        return self.workload.name, self.accelerator.name, *self._peculiarities

    @property
    def full_name(self) -> str:
        """The name with its axes in any case, such as "paper/resnet_conv4 on accel_b, keep-all"."""
        return ", ".join([f"{self.workload.name} on {self.accelerator.name}", axes_label(self.axes), *self._rules])

    @property
    def full_file_stem(self) -> str:
        """A file name without an ending that leaves out nothing that is ordinary but the rules."""
        links = "links" if self.accelerator.peer_links else "no-links"
        parts = (self.workload.name, self.accelerator.name, links, axes_label(self.axes), self.objective, *self._rules)
        return file_name(*parts, slash=True)

    @property
    def key(self) -> str:
        """Hash of the task, whatever it is called; see :func:`mapgym.evaluation.best_known.task_key`."""
        return task_key(self.workload, self.accelerator, self.axes, self.objective)

    def space(self) -> MapSpace:
        """The map space."""
        return MapSpace(self.workload, self.accelerator, self.axes)

    @property
    def _peculiarities(self) -> list[str]:
        return self._unusual + ([] if self.objective == "edp" else [self.objective])

    @property
    def _unusual(self) -> list[str]:
        """What is out of the ordinary about the map space and its densities."""
        links = [] if self.accelerator.peer_links else [_NO_LINKS]
        axes = [] if set(self.axes) == set(KEEP_ALL) else [axes_label(self.axes)]
        densities = [text] if (text := density_text(self.workload)) else []
        return links + self._rules + axes + densities

    @property
    def _rules(self) -> list[str]:
        """The counting rules if they are not the default."""
        return [] if self.accelerator.rules == DEFAULT_RULES else [self.accelerator.rules]


def cross(
    workloads: Iterable[Workload],
    accelerators: Sequence[Accelerator],
    axes: tuple[str, ...] = KEEP_ALL,
    objective: str = "edp",
) -> tuple[Task, ...]:
    """The tasks of all workloads on all accelerators, accelerator by accelerator."""
    layers = list(workloads)
    return tuple(Task(layer, machine, axes, objective) for machine in accelerators for layer in layers)


def distinct_tasks(
    workloads: Iterable[Workload],
    accelerators: Sequence[Accelerator],
    axes: Sequence[tuple[str, ...]],
    objective: str,
) -> list[Task]:
    """All combinations; layers that occur in several networks are taken once, under their first name."""
    tasks: dict[str, Task] = {}
    for workload in workloads:
        for accelerator in accelerators:
            for searched in axes:
                task = Task(workload, accelerator, searched, objective)
                tasks.setdefault(task.key, task)
    return list(tasks.values())


def rules_text(accelerators: Iterable[Accelerator]) -> str:
    """Under which counting rules costs on some accelerators are, for people: such as "timeloop-2025"."""
    return ", ".join(dict.fromkeys(accelerator.rules for accelerator in accelerators))


def axes_label(axes: Sequence[str]) -> str:
    """Such as "keep-all" and "bypass"."""
    if set(axes) == set(AXES):
        return "bypass"
    return "keep-all" if set(axes) == set(KEEP_ALL) else "+".join(axes)


def density_text(workload: Workload) -> str:
    """The densities below 1, such as "Weights 0.5, Inputs 0.2"; "" if there are none."""
    return ", ".join(f"{tensor.name} {tensor.density:g}" for tensor in workload.tensors if tensor.density < 1.0)
