"""Tasks: what an episode is about, and where tasks come from."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mapgym.envs.common.sizes import ALL_SIZES, Sizes
from mapgym.envs.common.stored_spec import Storable, plain
from mapgym.errors import SpecificationError, require_keys
from mapgym.errors.text import quoted
from mapgym.evaluation.task import KEEP_ALL, Task as Task
from mapgym.spec import catalog
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.random_accelerators import RandomAccelerators
from mapgym.spec.random_layers import RandomLayers
from mapgym.spec.splits import TRAINING, load_split, training_layers
from mapgym.spec.workload import Workload

DEFAULT_WORKLOAD = "paper/resnet_conv4"
DEFAULT_ACCELERATOR = "accel_b"
SPLIT = "split:"
"""How the name of a split begins: "split:training", "split:validation", "split:test"."""

NO_INDEX = -1
"""The index of a task that is none of the tasks of a distribution, because it was generated."""

_ARGUMENTS = (
    *("workloads", "accelerators", "objectives", "densities", "weights", "tasks"),
    *("random_layers", "random_accelerators"),
)
_TASK_KEYS = ("workload", "accelerator", "objective", "densities")


class TaskDistribution(Storable):
    """What the tasks of episodes are drawn from.

    It is finite, all combinations of some workloads, densities, accelerators and objectives or a list of tasks, or it
    generates tasks, with layers or accelerators that are drawn at random. It holds no random numbers of its own:
    whoever draws gives them.

    A distribution can be pickled, and has a plain form for JSON (:meth:`to_dict`), which every argument ``tasks=``
    reads as well.

    Example:
        >>> TaskDistribution("split:test").tasks[0].id
        'vgg16/conv1_1 @ eyeriss_rf, edp'
        >>> len(TaskDistribution(["paper/bert_kqv", "paper/bert_attn"], "accel_a", ["edp", "energy"]))
        4

    Attributes:
        tasks: all of them, in a fixed order: workload by workload, of each density by density, accelerator by
            accelerator, objective by objective. Empty where tasks are generated.
        probabilities: float64[tasks] how likely each is, they add up to 1; None where all are equally likely.
        random_layers, random_accelerators: what generates a part of the tasks; None where that is listed.
    """

    tasks: tuple[Task, ...]

    def __init__(
        self,
        workloads: Any = None,
        accelerators: Any = None,
        objectives: Any = "edp",
        *,
        densities: Mapping[str, Any] | None = None,
        weights: Sequence[float] | None = None,
        tasks: Sequence[Any] | None = None,
        random_layers: Any = None,
        random_accelerators: Any = None,
    ) -> None:
        """Reads the arguments.

        Args:
            workloads: a catalog name ("paper/resnet_conv4"), the name of a network ("resnet18": each of its distinct
                layers is as likely), of a split ("split:training": the distinct layers of its networks), the path of a
                YAML file, a dict, a Workload, a Network, or a list of these.
            accelerators: a catalog name, the name of a split, a path, a dict, an Accelerator, or a list of these. Left
                out, they are those of the splits that workloads name, or else "accel_b".
            objectives: one of ``mapgym.cost.OBJECTIVES``, or one of them over a set of densities, or a list of these.
            densities: for tensors by name, a density or a list of them, such as {"Inputs": [1.0, 0.5]}; each workload
                is taken with every combination for those of the tensors that it has.
            weights: how likely each task is, in the order of ``tasks``; only their ratios matter.
            tasks: instead of everything above, a list of tasks: :class:`Task`, or dicts with workload, accelerator,
                objective ("edp") and densities (a number for each tensor).
            random_layers: instead of workloads, a :class:`mapgym.spec.random_layers.RandomLayers`, a dict of its
                arguments, or True for its defaults.
            random_accelerators: instead of accelerators, the same of
                :class:`mapgym.spec.random_accelerators.RandomAccelerators`.

        Raises:
            SpecificationError: something is unknown, a list is empty, or arguments exclude each other.
        """
        given = (workloads, accelerators, objectives, densities, weights, tasks, random_layers, random_accelerators)
        given = tuple(map(_held, given))
        workloads, accelerators, objectives, densities, weights, tasks, random_layers, random_accelerators = given
        pairs = zip(_ARGUMENTS, given, strict=True)
        self._arguments = {name: value for name, value in pairs if value is not None and value is not False}
        self.random_layers = _generator(random_layers, RandomLayers, "random_layers")
        self.random_accelerators = _generator(random_accelerators, RandomAccelerators, "random_accelerators")
        self._check_together()
        if tasks is not None:
            self._workloads: list[Workload] = []
            self._accelerators: list[Accelerator] = []
            self._objectives: list[str] = []
            self._densities: list[dict[str, float]] = [{}]
            self.tasks = tuple(_task(entry) for entry in listed(tasks, "tasks"))
        else:
            self._read_parts(workloads, accelerators, objectives, densities)
            self.tasks = tuple(
                Task(layer, machine, objective=objective)
                for plain_layer in self._workloads
                for layer in self._with_densities(plain_layer)
                for machine in self._accelerators
                for objective in self._objectives
            )
        self.probabilities = None if weights is None else self._read_weights(weights)
        self._cumulative = None if self.probabilities is None else np.cumsum(self.probabilities)

    @classmethod
    def of(cls, spec: Any, what: str = "tasks") -> TaskDistribution:
        """The distribution that an argument ``tasks=`` stands for.

        Args:
            spec: a distribution, its plain form, a name or a list of names as ``workloads`` takes them, a task, or a
                list of tasks.
            what: name of the argument, for messages.

        Raises:
            SpecificationError: it is nothing of that.
        """
        if isinstance(spec, TaskDistribution):
            return spec
        spec = _held(spec)
        if isinstance(spec, Task):
            return cls(tasks=[spec])
        if isinstance(spec, Mapping) and not _is_task(spec):
            require_keys(map(str, spec), _ARGUMENTS, what)
            return cls(**spec)
        entries = listed(spec, what)
        if all(map(_is_task, entries)):
            return cls(tasks=entries)
        if not all(isinstance(entry, str | Workload | catalog.Network) for entry in entries):
            raise SpecificationError(
                f"{what} is {quoted(spec)}; give a TaskDistribution or its dict, a list of tasks, or names such as "
                f"'{SPLIT}{TRAINING}' and 'resnet18'"
            )
        return cls(entries)

    @property
    def arguments(self) -> dict[str, Any]:
        """What it was made of."""
        return self._arguments

    def to_dict(self) -> dict[str, Any]:
        """The plain form, for JSON; raises TypeError if an argument has none."""
        return {name: plain(value) for name, value in self._arguments.items()}

    def __deepcopy__(self, memo: dict[int, Any]) -> TaskDistribution:
        """Nothing of it ever changes."""
        return self

    def __len__(self) -> int:
        """How many tasks there are; 0 where they are generated."""
        return len(self.tasks)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        parts = ", ".join(f"{name}={quoted(value)}" for name, value in self._arguments.items())
        return f"TaskDistribution({parts})"

    @property
    def is_finite(self) -> bool:
        """Whether it has a list of all its tasks."""
        return self.random_layers is None and self.random_accelerators is None

    @property
    def sizes(self) -> Sizes:
        """The sizes that have room for its tasks; of generated ones for those that fit into ``ALL_SIZES``."""
        if self.is_finite:
            machines = dict.fromkeys(task.accelerator for task in self.tasks)
            return Sizes.of(dict.fromkeys(task.workload for task in self.tasks), machines)
        return Sizes.joint([ALL_SIZES, self.listed_sizes])

    @property
    def listed_sizes(self) -> Sizes:
        """The sizes of what a distribution that generates tasks lists."""
        return Sizes.of(self._workloads, self._accelerators)

    def draw(self, rng: np.random.Generator) -> tuple[int, Task]:
        """Index (``NO_INDEX`` for a generated one) and task; a single task uses no randomness.

        Args:
            rng: everything random. Whether a generated task has legal mappings is not looked at.
        """
        if self.is_finite:
            index = self.draw_index(rng)
            return index, self.tasks[index]
        layer = self.random_layers.draw(rng) if self.random_layers is not None else _one_of(rng, self._workloads)
        layer = _one_of(rng, self._with_densities(layer))
        machines = self.random_accelerators
        machine = machines.draw(rng) if machines is not None else _one_of(rng, self._accelerators)
        return NO_INDEX, Task(layer, machine, objective=_one_of(rng, self._objectives))

    def draw_index(self, rng: np.random.Generator) -> int:
        """Index of a random task of a finite distribution."""
        if len(self.tasks) == 1:
            return 0
        if self._cumulative is None:
            return int(rng.integers(len(self.tasks)))
        return min(int(np.searchsorted(self._cumulative, rng.random(), side="right")), len(self.tasks) - 1)

    def restricted(self, workload: Any = None, accelerator: Any = None, objective: Any = None) -> TaskDistribution:
        """All combinations of its own parts with others in the place of some, equally likely.

        Args:
            workload, accelerator, objective: as ``workloads``, ``accelerators`` and ``objectives``; None for its own.

        Raises:
            SpecificationError: something is unknown, or a list is empty.
        """
        random_layers = self.random_layers if workload is None else None
        random_accelerators = self.random_accelerators if accelerator is None else None
        own_layers, own_machines, own_objectives = self._workloads, self._accelerators, self._objectives
        densities = self._arguments.get("densities")
        if self.is_finite:
            own_layers = list(dict.fromkeys(task.workload for task in self.tasks))
            own_machines = list(dict.fromkeys(task.accelerator for task in self.tasks))
            own_objectives = list(dict.fromkeys(task.objective for task in self.tasks))
            densities = None
        return TaskDistribution(
            (own_layers if random_layers is None else None) if workload is None else workload,
            (own_machines if random_accelerators is None else None) if accelerator is None else accelerator,
            own_objectives if objective is None else objective,
            densities=densities,
            random_layers=random_layers,
            random_accelerators=random_accelerators,
        )

    def _check_together(self) -> None:
        """Raises SpecificationError if arguments exclude each other."""
        given = self._arguments.keys() - ({"objectives"} if self._arguments.get("objectives") == "edp" else set())
        rivals = {
            "tasks": {*_ARGUMENTS} - {"tasks", "weights"},
            "random_layers": {"workloads", "weights"},
            "random_accelerators": {"accelerators", "weights"},
        }
        for name, others in rivals.items():
            if name in given and (both := sorted(others & given)):
                raise SpecificationError(
                    f"a TaskDistribution has {name} and {' and '.join(both)}, which exclude each other; leave one out"
                )
        if not given & {"tasks", "workloads", "random_layers"}:
            raise SpecificationError(
                f"a TaskDistribution has no workloads; give a name such as '{SPLIT}{TRAINING}' or 'resnet18', tasks, "
                "or random_layers=True"
            )

    def _read_parts(self, workloads: Any, accelerators: Any, objectives: Any, densities: Any) -> None:
        self._workloads = [] if self.random_layers is not None else read_workloads(workloads)
        if self.random_accelerators is not None:
            self._accelerators = []
        elif accelerators is not None:
            self._accelerators = read_accelerators(accelerators)
        else:
            splits = [entry for entry in listed(workloads, "workloads") if is_split(entry)]
            self._accelerators = read_accelerators(splits or DEFAULT_ACCELERATOR)
        self._objectives = listed(objectives, "objectives")
        self._densities = _read_densities(densities)
        for layer in self._workloads:
            self._with_densities(layer)
        known = {tensor.name for layer in self._workloads for tensor in layer.tensors}
        for name in densities or ():
            if known and name not in known:
                self._workloads[0].tensor(name)  # says so
        for objective in self._objectives:
            Task(catalog.workload(DEFAULT_WORKLOAD), catalog.accelerator(DEFAULT_ACCELERATOR), objective=objective)

    def _with_densities(self, layer: Workload) -> list[Workload]:
        """A layer with each combination of densities of the tensors that it has."""
        names = {tensor.name for tensor in layer.tensors}
        own = [{name: density for name, density in some.items() if name in names} for some in self._densities]
        return list(dict.fromkeys(layer.with_densities(some) if some else layer for some in own))

    def _read_weights(self, weights: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
        entries = list(weights) if isinstance(weights, Iterable) and not isinstance(weights, str | Mapping) else []
        are_numbers = all(
            isinstance(w, int | float | np.number) and not isinstance(w, bool) and 0 <= w < math.inf for w in entries
        )
        if len(entries) != len(self.tasks) or not are_numbers or not sum(entries) > 0:
            raise SpecificationError(
                f"weights is {quoted(weights)}, and there are {len(self.tasks)} tasks; give a number of at least 0 for "
                "each, in the order of TaskDistribution.tasks, not all of them 0"
            )
        numbers = np.array(entries, np.float64) / max(entries)
        return np.asarray(numbers / numbers.sum())


def listed(spec: Any, what: str) -> list[Any]:
    """The entries of a list, or the only one; raises SpecificationError if there are none."""
    if isinstance(spec, str | Mapping) or not isinstance(spec, Iterable):
        return [spec]
    specs = list(spec)
    if not specs:
        raise SpecificationError(f"{what} is an empty list; name at least one")
    return specs


def _held(argument: Any) -> Any:
    """An argument that can be looked at twice: a list in the place of what is gone through once."""
    is_plain = isinstance(argument, str | Mapping) or not isinstance(argument, Iterable)
    return argument if is_plain else list(argument)


def is_split(spec: Any) -> bool:
    """Whether a specification is the name of a split, such as "split:training"."""
    return isinstance(spec, str) and spec.startswith(SPLIT)


def read_workloads(spec: Any, what: str = "workload") -> list[Workload]:
    """The workloads that a specification, or a list of them, stands for.

    Args:
        spec: what :func:`mapgym.spec.catalog.workloads` takes, or the name of a split.
        what: name of the argument, for messages.
    """
    found: list[Workload] = []
    for one in listed(spec, what):
        if is_split(one):
            name = one.removeprefix(SPLIT)
            found += training_layers() if name == TRAINING else load_split(name).layers()
        else:
            found += catalog.workloads(one, what)
    return found


def read_accelerators(spec: Any) -> list[Accelerator]:
    """The accelerators that a specification, or a list of them, stands for; splits stand for theirs."""
    found: list[Accelerator] = []
    for one in listed(spec, "accelerator"):
        names = load_split(one.removeprefix(SPLIT)).accelerators if is_split(one) else [one]
        found += [catalog.accelerator(name) for name in names]
    return found


def _is_task(entry: Any) -> bool:
    return isinstance(entry, Task) or (isinstance(entry, Mapping) and "workload" in entry)


def _task(entry: Any) -> Task:
    """A task of a list."""
    if isinstance(entry, Task):
        return replace(entry, axes=KEEP_ALL)
    if not _is_task(entry):
        raise SpecificationError(
            f"tasks has {quoted(entry)}; give Tasks, or dicts such as {{'workload': 'resnet18/conv1', 'accelerator': "
            "'accel_b', 'objective': 'edp'}"
        )
    require_keys(map(str, entry), _TASK_KEYS, "tasks")
    layer = catalog.workload(entry["workload"]).with_densities(entry.get("densities", {}))
    machine = catalog.accelerator(entry.get("accelerator", DEFAULT_ACCELERATOR))
    return Task(layer, machine, objective=entry.get("objective", "edp"))


def _read_densities(densities: Any) -> list[dict[str, float]]:
    """All combinations, each a density for each tensor."""
    if densities is None:
        return [{}]
    if not isinstance(densities, Mapping):
        raise SpecificationError(f"densities is {quoted(densities)}; give a dict such as {{'Inputs': [1.0, 0.5]}}")
    columns = [[(name, one) for one in listed(some, f"densities of {name}")] for name, some in densities.items()]
    return [dict(combination) for combination in itertools.product(*columns)]


def _generator(given: Any, kind: type[Any], what: str) -> Any:
    """What generates a part of the tasks; None if nothing does."""
    if given is None or given is False:
        return None
    if isinstance(given, kind):
        return given
    if given is True:
        return kind()
    if not isinstance(given, Mapping):
        raise SpecificationError(f"{what} is {quoted(given)}; give True, a {kind.__name__}, or a dict of its arguments")
    require_keys(map(str, given), kind.__dataclass_fields__, what)
    return kind(**given)


def _one_of(rng: np.random.Generator, choices: Sequence[Any]) -> Any:
    return choices[0] if len(choices) == 1 else choices[int(rng.integers(len(choices)))]
