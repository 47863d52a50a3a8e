"""Modules under the names that they had before they stood in folders, so that code which imports them goes on working.

Only names that the documentation has taught are here. A name of before is the module of today itself, imported when it
is asked for.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "mapgym.accelerator": "mapgym.spec.accelerator",
    "mapgym.agents.experiment.experiment": "mapgym.agents.experiment.definition.experiment",
    "mapgym.agents.experiment.experiment_file": "mapgym.agents.experiment.definition.experiment_file",
    "mapgym.agents.experiment.folder": "mapgym.agents.experiment.storage.folder",
    "mapgym.agents.experiment.runner": "mapgym.agents.experiment.execution.runner",
    "mapgym.agents.experiment.summary": "mapgym.agents.experiment.report.summary",
    "mapgym.agents.learned.amortized_proposals": "mapgym.agents.learned.amortized.proposals",
    "mapgym.agents.learned.mind_mappings_model": "mapgym.agents.learned.mind_mappings.model",
    "mapgym.agents.learned.mind_mappings_training": "mapgym.agents.learned.mind_mappings.training",
    "mapgym.agents.search.edits": "mapgym.agents.search.local.edits",
    "mapgym.agents.search.random_pruned": "mapgym.agents.search.pruned.random_pruned",
    "mapgym.best_known": "mapgym.evaluation.best_known",
    "mapgym.catalog": "mapgym.spec.catalog",
    "mapgym.constraints": "mapgym.spec.constraints",
    "mapgym.construction": "mapgym.mapspace.construction.construction",
    "mapgym.construction_keys": "mapgym.mapspace.keys",
    "mapgym.evaluator": "mapgym.evaluation.evaluator",
    "mapgym.front": "mapgym.evaluation.front",
    "mapgym.legality": "mapgym.mapping.legality",
    "mapgym.mapspace_fit": "mapgym.mapspace.projection",
    "mapgym.sparsity_aware": "mapgym.evaluation.sparsity_aware",
    "mapgym.splits": "mapgym.spec.splits",
    "mapgym.workload": "mapgym.spec.workload",
}
"""Name before -> name today."""


class _MovedNames(MetaPathFinder, Loader):
    """Answers an import of a name of before with the module of today."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def __init__(self) -> None:
        self._specs: dict[str, ModuleSpec | None] = {}

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(MOVED[spec.name])
        self._specs[spec.name] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # It has been executed under its own name, which the import has just taken from it.
        if module.__spec__ is not None:
            module.__spec__ = self._specs[module.__spec__.name]


def keep_moved_names() -> None:
    """Lets the names of before be imported, once in a process."""
    if not any(isinstance(finder, _MovedNames) for finder in sys.meta_path):
        sys.meta_path.append(_MovedNames())
