"""mapgym: the space of all mappings of a DNN layer onto an accelerator, as Gymnasium environments.

Importing the package registers the environments, so that ``gymnasium.make("MapSpace-v0")`` works.
"""

from __future__ import annotations

from pathlib import Path

# In a checkout mapgym.agents and mapgym.envs_config are the top-level folders agents/ and envs_config/; an installed
# package has them inside.
if not (Path(__file__).parent / "agents").is_dir():
    __path__.append(str(Path(__file__).parent.parent))

# The first import: what follows takes a while, in which the command can be interrupted.
from mapgym.system import command_start as command_start  # isort: split

from mapgym.cost import Cost, CostBatch, CostModel, LowerBound, lower_bound
from mapgym.errors import SpecificationError
from mapgym.evaluation.evaluator import Budget, Evaluator, Trace
from mapgym.mapping import Mapping, MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.spec import catalog
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.constraints import Constraints
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.tensor import Tensor
from mapgym.spec.workload import Workload
from mapgym.system.moved_names import keep_moved_names
from mapgym.system.registration import register_environments

__version__ = "0.1.0"

__all__ = [
    "Accelerator",
    "Budget",
    "Constraints",
    "Cost",
    "CostBatch",
    "CostModel",
    "Evaluator",
    "LowerBound",
    "Mac",
    "MapSpace",
    "Mapping",
    "MappingBatch",
    "SpecificationError",
    "StorageLevel",
    "Tensor",
    "Trace",
    "Workload",
    "catalog",
    "lower_bound",
    "register_environments",
]

keep_moved_names()
register_environments()
