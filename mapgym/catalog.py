"""The catalog: names of accelerators, networks and their layers, and the objects they stand for.

A specification (``spec``) is a catalog name, a path that ends in .yaml, .yml or .json, a dict, or the object itself;
everything that takes a workload or an accelerator takes one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from os import PathLike
from pathlib import Path
from typing import TypeAlias

from mapgym.accelerator import Accelerator
from mapgym.errors import SpecificationError, positive_int, require_keys, suggest
from mapgym.text import quoted
from mapgym.workload import Workload
from mapgym.yaml_loader import load_yaml

Spec: TypeAlias = "str | PathLike[str] | Mapping[str, object]"

_DATA_PACKAGE = "mapgym.envs_config"
_PATH = re.compile(r"(?P<file>.+\.(?:ya?ml|json))(?::(?P<layer>[^:]+))?", re.IGNORECASE)
_OWN_FILE = "(a file of your own needs a path that ends in .yaml)"


@dataclass(frozen=True)
class Layer:
    """One distinct layer of a network.

    Attributes:
        name: its name within the network.
        workload: what it computes; its name is "network/layer".
        repeats: how many layers of the network are this one.
    """

    name: str
    workload: Workload
    repeats: int = 1


@dataclass(frozen=True)
class Network:
    """A network as its distinct layers.

    Attributes:
        name: such as "resnet18".
        description: one line.
        layers: in the order of the network; each distinct layer once.
        source: where the architecture is published.
    """

    name: str
    description: str
    layers: tuple[Layer, ...]
    source: str = ""

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole network, repeats included."""
        return sum(layer.repeats * layer.workload.macs for layer in self.layers)

    def layer(self, name: str) -> Layer:
        """One layer by name; raises SpecificationError for an unknown one."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        names = [layer.name for layer in self.layers]
        raise SpecificationError(f"network {quoted(self.name)} has no layer {quoted(name)}; {suggest(name, names)}")

    @classmethod
    def from_dict(cls, data: Mapping[str, object], where: str = "network") -> Network:
        """Builds a network from its plain form.

        Args:
            data: ``name``, ``description``, ``source`` and ``layers``: layer name -> the keys of
                :meth:`Workload.from_dict` and ``repeats`` (1 when left out).
            where: file, for error messages.

        Raises:
            SpecificationError: unknown or missing key, or a value out of range.
        """
        if not isinstance(data, Mapping):
            raise SpecificationError(f"{where} is {quoted(data)}; give a mapping with the key layers")
        require_keys(map(str, data), ("name", "description", "source", "layers"), where)
        name, layers = str(data.get("name", "network")), data.get("layers")
        if not isinstance(layers, Mapping) or not layers:
            raise SpecificationError(
                f"{where}: layers is {quoted(layers)}; give layer name: {{type: conv2d, ...}} pairs"
            )
        return cls(
            name=name,
            description=str(data.get("description", "")),
            layers=tuple(_layer(name, str(key), entry, where) for key, entry in layers.items()),
            source=str(data.get("source", "")),
        )


def workload(spec: Spec | Workload) -> Workload:
    """Returns the workload that a specification stands for.

    Args:
        spec: "network/layer" from the catalog, the path of a file with one workload, "path.yaml:layer" for one layer
            of a file with a network, the dict that :meth:`Workload.from_dict` reads, or a workload (returned as is).

    Raises:
        SpecificationError: unknown name, unreadable file, or content that is no workload.
    """
    if isinstance(spec, Workload):
        return spec
    if isinstance(spec, Mapping):
        return Workload.from_dict(spec)
    text = _as_text(spec, "workload", "'resnet18/conv1'")
    if found := _PATH.fullmatch(text):
        return _workload_from_file(Path(found["file"]), found["layer"])
    network_name, slash, layer_name = text.partition("/")
    if network_name not in network_names():
        if slash:
            hint = suggest(network_name, network_names())
            raise SpecificationError(
                f"unknown network {quoted(network_name)} in workload {quoted(text)}; {hint} {_OWN_FILE}"
            )
        # A layer's name alone is most likely meant as that layer.
        choices = [name for name in workload_names() if name.endswith(f"/{text}")] or workload_names()
        raise SpecificationError(f"unknown workload {quoted(text)}; {suggest(text, choices)} {_OWN_FILE}")
    found_network = _catalog_network(network_name)
    if not layer_name:
        raise SpecificationError(_names_a_network(repr(text), found_network, "/"))
    return found_network.layer(layer_name).workload


def accelerator(spec: Spec | Accelerator) -> Accelerator:
    """Returns the accelerator that a specification stands for.

    Args:
        spec: a catalog name such as "accel_b", the path of a YAML file, the dict that :meth:`Accelerator.from_dict`
            reads, or an accelerator (returned as is).

    Raises:
        SpecificationError: unknown name, unreadable file, or content that is no accelerator.
    """
    if isinstance(spec, Accelerator):
        return spec
    if isinstance(spec, Mapping):
        return Accelerator.from_dict(spec)
    text = _as_text(spec, "accelerator", "'accel_b'")
    if _PATH.fullmatch(text):
        return Accelerator.from_dict(_read(Path(text)), text)
    if text not in accelerator_names():
        raise SpecificationError(
            f"unknown accelerator {quoted(text)}; {suggest(text, accelerator_names())} {_OWN_FILE}"
        )
    return _catalog_accelerator(text)


def network(spec: Spec | Network) -> Network:
    """Returns the network that a specification stands for.

    Args:
        spec: a catalog name such as "resnet18", the path of a YAML file, the dict that :meth:`Network.from_dict`
            reads, or a network (returned as is).

    Raises:
        SpecificationError: unknown name, unreadable file, or content that is no network.
    """
    if isinstance(spec, Network):
        return spec
    if isinstance(spec, Mapping):
        return Network.from_dict(spec)
    text = _as_text(spec, "network", "'resnet18'")
    if _PATH.fullmatch(text):
        return Network.from_dict(_read(Path(text)), text)
    if text not in network_names():
        raise SpecificationError(f"unknown network {quoted(text)}; {suggest(text, network_names())} {_OWN_FILE}")
    return _catalog_network(text)


def workloads(spec: Spec | Workload | Network) -> list[Workload]:
    """Returns what a specification of one workload or of a whole network stands for; of a network all layers.

    Args:
        spec: what :func:`workload` or :func:`network` takes.

    Raises:
        SpecificationError: as those.
    """
    found = _PATH.fullmatch(str(spec)) if isinstance(spec, str | Path) else None
    if found is not None:
        has_layers = found["layer"] is None and "layers" in _read(Path(spec))  # type: ignore[arg-type]
    else:
        has_layers = isinstance(spec, Network) or (isinstance(spec, Mapping) and "layers" in spec)
    if has_layers or (isinstance(spec, str) and spec in network_names()):
        return [layer.workload for layer in network(spec).layers]  # type: ignore[arg-type]
    return [workload(spec)]  # type: ignore[arg-type]


@cache
def accelerator_names() -> tuple[str, ...]:
    """Names of the accelerators in the catalog, sorted."""
    return _stems("accelerators")


@cache
def network_names() -> tuple[str, ...]:
    """Names of the networks in the catalog, sorted."""
    return _stems("workloads")


@cache
def workload_names() -> tuple[str, ...]:
    """Names of the workloads in the catalog, "network/layer", networks sorted, layers in the network's order."""
    return tuple(layer.workload.name for name in network_names() for layer in _catalog_network(name).layers)


@cache
def _catalog_accelerator(name: str) -> Accelerator:
    file = _folder("accelerators") / f"{name}.yaml"
    return Accelerator.from_dict(_read(file), str(file))


@cache
def _catalog_network(name: str) -> Network:
    file = _folder("workloads") / f"{name}.yaml"
    return Network.from_dict(_read(file), str(file))


def _folder(kind: str) -> Traversable:
    return resources.files(_DATA_PACKAGE) / kind


def _stems(kind: str) -> tuple[str, ...]:
    files = (entry.name for entry in _folder(kind).iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml")))


def _as_text(spec: object, what: str, example: str) -> str:
    if not isinstance(spec, str | PathLike):
        raise SpecificationError(
            f"{what} is {quoted(spec)}; give a catalog name such as {example}, the path of a YAML file, or a dict"
        )
    return str(spec)


def _read(file: Path | Traversable) -> Mapping[str, object]:
    data = load_yaml(file)
    if not isinstance(data, Mapping):
        raise SpecificationError(f"{file}: holds {type(data).__name__}, not a mapping; write 'key: value' lines")
    # What has no name of its own is called as its file.
    return {"name": Path(file.name).stem, **data}


def _workload_from_file(file: Path, layer_name: str | None) -> Workload:
    data = _read(file)
    if "layers" in data:
        found = Network.from_dict(data, str(file))
        if layer_name is None:
            raise SpecificationError(_names_a_network(str(file), found, ":"))
        try:
            return found.layer(layer_name).workload
        except SpecificationError as error:
            raise SpecificationError(f"{file}: {error}") from None
    if layer_name is not None:
        raise SpecificationError(f"{file}: has no layers to take {quoted(layer_name)} from; leave ':{layer_name}' out")
    return Workload.from_dict(data, str(file))


def _names_a_network(what: str, found: Network, separator: str) -> str:
    example = what.strip("'") + separator + found.layers[0].name
    return (
        f"{what} is a network of {len(found.layers)} layers, not one workload; name a layer, such as {quoted(example)}"
    )


def _layer(network_name: str, name: str, entry: object, where: str) -> Layer:
    place = f"{where}: layer {quoted(name)}"
    if not isinstance(entry, Mapping):
        raise SpecificationError(f"{place} is {quoted(entry)}; give a mapping of keys such as {{type: conv2d, ...}}")
    if "name" in entry:
        raise SpecificationError(f"{place} has the key 'name'; remove it, a layer is named by its key under layers")
    arguments = {str(key): value for key, value in entry.items()}
    repeats = positive_int(arguments.pop("repeats", 1), f"{place}: repeats")
    arguments["name"] = f"{network_name}/{name}"
    return Layer(name, Workload.from_dict(arguments, place), repeats)
