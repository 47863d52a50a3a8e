"""Tasks: what an episode is about, and where tasks come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mapgym.errors import SpecificationError
from mapgym.evaluation.sparsity_aware import SparsityAware
from mapgym.evaluation.task import Task as Task
from mapgym.spec import catalog


class TaskGenerator:
    """A finite set of tasks, all combinations of some workloads with some accelerators, drawn uniformly.

    Attributes:
        tasks: all of them, in a fixed order.
    """

    def __init__(self, workload: Any, accelerator: Any, objective: str | SparsityAware = "edp") -> None:
        """Reads the names.

        Args:
            workload: a catalog name ("paper/resnet_conv4"), the name of a network ("resnet18": each of its distinct
                layers is as likely), the path of a YAML file, a dict, a Workload, a Network, or a list of these.
            accelerator: a catalog name, a path, a dict, an Accelerator, or a list of these.
            objective: one of ``mapgym.cost.OBJECTIVES``, or one of them over a set of densities.

        Raises:
            SpecificationError: something is unknown, or a list is empty.
        """
        workloads = [found for spec in listed(workload, "workload") for found in catalog.workloads(spec)]
        accelerators = [catalog.accelerator(spec) for spec in listed(accelerator, "accelerator")]
        self.tasks = tuple(
            Task(layer, hardware, objective=objective) for layer in workloads for hardware in accelerators
        )

    def __len__(self) -> int:
        return len(self.tasks)

    def draw(self, rng: np.random.Generator | None) -> int:
        """Index of a random task; a single task uses no randomness, and needs no generator."""
        if len(self.tasks) == 1:
            return 0
        assert rng is not None
        return int(rng.integers(len(self.tasks)))


def listed(spec: Any, what: str) -> list[Any]:
    """The entries of a list, or the only one; raises SpecificationError if there are none."""
    if isinstance(spec, str | Mapping) or not isinstance(spec, Iterable):
        return [spec]
    specs = list(spec)
    if not specs:
        raise SpecificationError(f"{what} is an empty list; name at least one")
    return specs
