"""The splits of the catalog for mappers that learn: the file ``envs_config/splits.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

from mapgym.errors import SpecificationError, require_keys
from mapgym.errors.text import quoted
from mapgym.spec import catalog
from mapgym.spec.workload import Workload
from mapgym.system.yaml_loader import load_yaml

TRAINING, VALIDATION, TEST = NAMES = ("training", "validation", "test")
_KEYS = ("networks", "accelerators")


@dataclass(frozen=True)
class Split:
    """One part of the catalog.

    Attributes:
        networks, accelerators: names.
    """

    networks: tuple[str, ...]
    accelerators: tuple[str, ...]

    def layers(self) -> list[Workload]:
        """The distinct layers of the networks: of several with one shape the first."""
        layers = [layer for name in self.networks for layer in catalog.workloads(name)]
        return list({shape_of(layer): layer for layer in reversed(layers)}.values())[::-1]


def load_split(name: str) -> Split:
    """One part of the catalog: "training", "validation" or "test".

    Raises:
        SpecificationError: there is no such part.
    """
    splits = _read()
    if name not in splits:
        raise SpecificationError(f"there is no split {quoted(name)}; give one of {', '.join(NAMES)}")
    return splits[name]


def training_layers() -> list[Workload]:
    """The layers of the training networks without those whose shape is held out."""
    return [layer for layer in load_split(TRAINING).layers() if not is_held_out(layer)]


def is_held_out(workload: Workload) -> bool:
    """Whether a layer has the exact shape of one of validation or test, whatever it is called."""
    return shape_of(workload) in _held_out_shapes()


def shape_of(workload: Workload) -> tuple[object, ...]:
    """What makes two layers the same problem: dims, bounds and projections, but neither names nor densities."""
    return workload.dims, workload.bounds, tuple((tensor.ranks, tensor.is_output) for tensor in workload.tensors)


@cache
def _held_out_shapes() -> frozenset[tuple[object, ...]]:
    return frozenset(shape_of(layer) for name in (VALIDATION, TEST) for layer in load_split(name).layers())


@cache
def _read() -> dict[str, Split]:
    data = load_yaml(resources.files("mapgym.envs_config") / "splits.yaml")
    assert isinstance(data, dict)
    require_keys(data, NAMES, "splits.yaml")
    splits = {}
    for name in NAMES:
        require_keys(data[name], _KEYS, f"splits.yaml: {name}")
        splits[name] = Split(*(tuple(data[name][key]) for key in _KEYS))
    return splits
