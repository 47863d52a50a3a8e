"""What Gymnasium's description of an environment stores of its arguments, so that JSON can bring it back.

``gymnasium.make`` keeps the arguments in ``env.spec``, and trackers write that as JSON. Objects would come back as
something else, or not be written at all, so they are stored in their plain form, which the environments read as well.
"""

from __future__ import annotations

import dataclasses
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping as AbcMapping
from enum import Enum
from typing import Any

import numpy as np
from gymnasium.envs.registration import EnvSpec

from mapgym.envs.common.sizes import Sizes
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.evaluation.task import Task
from mapgym.mapping import Mapping
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.catalog import Network
from mapgym.spec.constraints import Constraints
from mapgym.spec.random_accelerators import RandomAccelerators
from mapgym.spec.random_layers import RandomLayers
from mapgym.spec.workload import Workload
from mapgym.warmstart import ReplayBuffer


class Storable(ABC):
    """Something whose plain form is that of the arguments that it was made of."""

    @property
    @abstractmethod
    def arguments(self) -> dict[str, Any]:
        """The arguments by their names."""


class UnstorableSpec(EnvSpec):
    """Describes an environment with an argument that JSON cannot hold, such as an evaluator."""

    def to_json(self) -> str:
        """Raises SpecificationError, which names the argument."""
        for name, value in self.kwargs.items():
            try:
                plain(value)
            except TypeError:
                raise SpecificationError(
                    f"{self.id}: {name} is {quoted(value)}, which JSON cannot store; give names, paths, dicts or "
                    "numbers, or leave it out"
                ) from None
        return super().to_json()


def stored(spec: EnvSpec) -> EnvSpec:
    """The description with all arguments in their plain form, as far as they have one."""
    kwargs, is_storable = {}, True
    for name, value in spec.kwargs.items():
        try:
            kwargs[name] = plain(value)
        except TypeError:
            kwargs[name], is_storable = value, False
    kind = EnvSpec if is_storable else UnstorableSpec
    given = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec) if field.init}
    return kind(**{**given, "kwargs": kwargs})


def plain(value: Any) -> Any:
    """The plain form of an argument: what JSON holds, and what an environment reads as the same.

    Raises:
        TypeError: it has none.
    """
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, str):
        return str(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if isinstance(value, ReplayBuffer) and value.path is not None:
        return os.fsdecode(value.path)
    if isinstance(value, Workload | Accelerator):
        data = value.to_dict()
        if type(value).from_dict(data) == value:
            return plain(data)
    if isinstance(value, Mapping | Constraints):
        return plain(value.to_dict())
    if isinstance(value, Storable):
        return plain(value.arguments)
    if isinstance(value, Sizes | RandomLayers | RandomAccelerators):
        return plain({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if isinstance(value, Task):
        return plain({"workload": value.workload, "accelerator": value.accelerator, "objective": value.objective})
    if isinstance(value, Network):
        return [plain(layer.workload) for layer in value.layers]
    if isinstance(value, AbcMapping) and all(isinstance(key, str) for key in value):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        entries: list[Any] = []
        for entry in value:
            # A network stands for its layers, in a list as well.
            entries += plain(entry) if isinstance(entry, Network) else [plain(entry)]
        return entries
    raise TypeError
