"""The catalog: names of accelerators, networks and their layers, and the objects they stand for.

A specification (``spec``) is a catalog name, a path that ends in .yaml, .yml or .json, a dict, or the object itself;
everything that takes a workload or an accelerator takes one.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

from mapgym.errors import SpecificationError, positive_int, require_keys, require_name, suggest
from mapgym.errors.text import quoted
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.workload import Workload
from mapgym.system.yaml_loader import load_yaml

Spec: TypeAlias = "str | PathLike[str] | Mapping[str, object]"

_DATA_PACKAGE = "mapgym.envs_config"
_SUFFIX = re.compile(r"(?<=.)\.(?:ya?ml|json)(?=:|\Z)", re.IGNORECASE | re.DOTALL)
_ONNX_ENDING = ".onnx"
_ONNX_NETWORK = "mapgym.interop.onnx:network"
_TIMELOOP_ACCELERATOR = "mapgym.timeloop.reading.named:named_accelerator"
_TIMELOOP_WORKLOAD = "mapgym.timeloop.reading.named:named_workload"
_TIMELOOP_ENDINGS = (".cfg", ".jinja", ".jinja2", ".j2")
_TIMELOOP_KEY = re.compile(
    r"""^["']?(?:architecture|arch|problem|variables|components|compound_components|ERT|ART)["']?\s*:|^\{[{%]""",
    re.MULTILINE,
)
"""At the beginning of a line, in none of our files."""

_ESTIMATE = re.compile(r":pat(?:@[^:/\\]*)?\Z")
"""What may follow files without energies, such as ":pat@45nm"."""

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

    def __post_init__(self) -> None:
        where = f"network {quoted(self.name)}"
        require_name(self.name, where, "resnet18")
        names = set()
        for layer in self.layers:
            require_name(layer.name, f"{where}: layer {quoted(layer.name)}", "conv1")
            if layer.name in names:
                raise SpecificationError(f"{where} has two layers {quoted(layer.name)}; call one of them otherwise")
            names.add(layer.name)

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

    def to_dict(self) -> dict[str, object]:
        """A plain, YAML- and JSON-able form that :meth:`from_dict` reads back."""
        layers: dict[str, dict[str, object]] = {}
        for layer in self.layers:
            entry = layer.workload.to_dict()
            del entry["name"]  # the key says it
            layers[layer.name] = {**entry, "repeats": layer.repeats}
        return {"name": self.name, "description": self.description, "source": self.source, "layers": layers}

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
        built = tuple(_layer(name, str(key), entry, where) for key, entry in layers.items())
        try:
            return cls(name, str(data.get("description", "")), built, str(data.get("source", "")))
        except SpecificationError as error:
            raise SpecificationError(f"{where}: {error}") from None


def workload(spec: Spec | Workload) -> Workload:
    """Returns the workload that a specification stands for.

    Args:
        spec: "network/layer" from the catalog, the path of a file with one workload (or with a problem for Timeloop),
            "path.yaml:layer" for one layer of a file with a network, the dict that :meth:`Workload.from_dict` reads, or
            a workload (returned as is).

    Raises:
        SpecificationError: unknown name, unreadable file, or content that is no workload.
    """
    if isinstance(spec, Workload):
        return spec
    if isinstance(spec, Mapping):
        return Workload.from_dict(spec)
    text = _as_text(spec, "workload", "'resnet18/conv1'")
    if (found_layer := _onnx_and_layer(text)) is not None:
        model, name = found_layer
        layers = _call(_ONNX_NETWORK, model)
        if not name:
            raise SpecificationError(_names_a_network(model, layers, ":"))
        return layers.layer(name).workload
    if is_for_timeloop(text):
        return _call(_TIMELOOP_WORKLOAD, text)
    if found := _file_and_layer(text):
        return _workload_from_file(*found)
    network_name, slash, layer_name = text.partition("/")
    if network_name not in network_names():
        if slash:
            hint = suggest(network_name, network_names())
            raise SpecificationError(
                f"unknown network {quoted(network_name)} in workload {quoted(text)}; {hint} {_OWN_FILE}"
            )
        raise _unknown_name("workload", text, workload_names())
    found_network = _catalog_network(network_name)
    if not layer_name:
        raise SpecificationError(_names_a_network(repr(text), found_network, "/"))
    return found_network.layer(layer_name).workload


def accelerator(spec: Spec | Accelerator) -> Accelerator:
    """Returns the accelerator that a specification stands for.

    Args:
        spec: a catalog name such as "accel_b", the path of a YAML file, paths of files for Timeloop (separated by
            commas, or a folder; see :mod:`mapgym.timeloop.reading.named`), the dict that :meth:`Accelerator.from_dict`
            reads, or an accelerator (returned as is).

    Raises:
        SpecificationError: unknown name, unreadable file, or content that is no accelerator.
    """
    if isinstance(spec, Accelerator):
        return spec
    if isinstance(spec, Mapping):
        return Accelerator.from_dict(spec)
    text = _as_text(spec, "accelerator", "'accel_b'")
    if is_for_timeloop(text):
        return _call(_TIMELOOP_ACCELERATOR, text)
    if _is_path(text):
        return Accelerator.from_dict(_read(Path(text)), text)
    if text not in accelerator_names():
        raise SpecificationError(
            f"unknown accelerator {quoted(text)}; {suggest(text, accelerator_names())} {_OWN_FILE}"
        )
    return _catalog_accelerator(text)


def told_apart(machines: Sequence[Accelerator], specs: Sequence[object]) -> list[Accelerator]:
    """Accelerators that are compared, each under a name of its own.

    Variants of one accelerator mostly keep its name. Those that share a name and are not the same hardware are called
    after their files as well, or get a number.

    Args:
        machines: the accelerators.
        specs: what each of them was loaded from.
    """
    found: list[Accelerator] = []
    for machine, spec in zip(machines, specs, strict=True):
        others = [other for other in machines if other.name == machine.name]
        if any(other != machine for other in others):
            stem = Path(spec).stem if isinstance(spec, str | PathLike) and _is_path(str(spec)) else ""
            name = f"{machine.name} ({stem})" if stem else machine.name
            taken = {other.name for other in found if replace(other, name=machine.name) != machine}
            number = 2
            while name in taken:
                name = f"{machine.name} ({', '.join(filter(None, (stem, str(number))))})"
                number += 1
            machine = replace(machine, name=name)
        found.append(machine)
    return found


def network(spec: Spec | Network) -> Network:
    """Returns the network that a specification stands for.

    Args:
        spec: a catalog name such as "resnet18", the path of a YAML file or of an ONNX model, the dict that
            :meth:`Network.from_dict` reads, or a network (returned as is).

    Raises:
        SpecificationError: unknown name, unreadable file, or content that is no network.
    """
    if isinstance(spec, Network):
        return spec
    if isinstance(spec, Mapping):
        return Network.from_dict(spec)
    text = _as_text(spec, "network", "'resnet18'")
    if text.lower().endswith(_ONNX_ENDING):
        return _call(_ONNX_NETWORK, text)
    if _is_path(text):
        return Network.from_dict(_read(Path(text)), text)
    if text not in network_names():
        raise SpecificationError(f"unknown network {quoted(text)}; {suggest(text, network_names())} {_OWN_FILE}")
    return _catalog_network(text)


def workloads(spec: Spec | Workload | Network, what: str = "workload") -> list[Workload]:
    """Returns what a specification of one workload or of a whole network stands for; of a network all layers.

    Args:
        spec: what :func:`workload` or :func:`network` takes.
        what: name of the argument, for messages.

    Raises:
        SpecificationError: as those.
    """
    if isinstance(spec, Network):
        return [layer.workload for layer in spec.layers]
    if isinstance(spec, Workload):
        return [spec]
    if isinstance(spec, Mapping):
        return workloads(Network.from_dict(spec)) if "layers" in spec else [workload(spec)]
    text = _as_text(spec, what, "'resnet18/conv1'")
    if (found_layer := _onnx_and_layer(text)) is not None:
        model, name = found_layer
        return [workload(text)] if name else workloads(_call(_ONNX_NETWORK, model))
    if is_for_timeloop(text):
        return [_call(_TIMELOOP_WORKLOAD, text)]
    if found := _file_and_layer(text):
        file, layer = found
        data = _read(file)
        if layer is None and "layers" in data:
            return workloads(Network.from_dict(data, str(file)))
        return [_workload_from_file(file, layer, data)]
    if text in network_names():
        return workloads(_catalog_network(text))
    if "/" not in text:
        raise _unknown_name(what, text, (*network_names(), *workload_names()))
    return [workload(text)]


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
    return Accelerator.from_dict(_read(file, ours=True), str(file))


@cache
def _catalog_network(name: str) -> Network:
    file = _folder("workloads") / f"{name}.yaml"
    return Network.from_dict(_read(file, ours=True), str(file))


def _folder(kind: str) -> Traversable:
    return resources.files(_DATA_PACKAGE) / kind


def _stems(kind: str) -> tuple[str, ...]:
    files = (entry.name for entry in _folder(kind).iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml")))


def is_for_timeloop(text: str) -> bool:
    """Whether a specification names files for Timeloop, or a folder of them: the format is known by looking."""
    files = _ESTIMATE.sub("", text).split(",")
    return any(map(_looks_like_timeloop, map(Path, files)))


def _looks_like_timeloop(path: Path) -> bool:
    try:
        if path.is_dir():
            return any(path.rglob("*.yaml")) and str(path) not in (*network_names(), *accelerator_names())
        if path.suffix.lower() in _TIMELOOP_ENDINGS:
            return path.is_file()
        return _is_path(path.name) and _TIMELOOP_KEY.search(path.read_text("utf-8", "replace")) is not None
    except (OSError, ValueError):
        return False


def _onnx_and_layer(text: str) -> tuple[str, str] | None:
    """The ONNX file that a specification names, and the layer after the colon ("" for none); None without a file."""
    at = text.lower().find(_ONNX_ENDING)
    end = at + len(_ONNX_ENDING)
    return (text[:end], text[end + 1 :]) if at > 0 and text[end : end + 1] in ("", ":") else None


def _call(place: str, text: str) -> Any:
    """What the reader of another format makes of a specification; it is imported when it is needed."""
    module, _, function = place.partition(":")
    return getattr(importlib.import_module(module), function)(text)


def _as_text(spec: object, what: str, example: str) -> str:
    if not isinstance(spec, str | PathLike):
        raise SpecificationError(
            f"{what} is {quoted(spec)}; give a catalog name such as {example}, the path of a YAML file, or a dict"
        )
    return str(spec)


def _unknown_name(what: str, text: str, choices: Sequence[str]) -> SpecificationError:
    # A layer's name alone is most likely meant as that layer.
    layers = [name for name in workload_names() if name.endswith(f"/{text}")]
    return SpecificationError(f"unknown {what} {quoted(text)}; {suggest(text, layers or choices)} {_OWN_FILE}")


def _is_path(text: str) -> bool:
    """Whether a specification is the path of a file."""
    return any(found.end() == len(text) for found in _SUFFIX.finditer(text))


def _file_and_layer(text: str) -> tuple[Path, str | None] | None:
    """The file that a specification names, and the layer after the colon, if any; None if it names no file.

    Layers are called anything, ``conv1/Conv2D:0`` and ``a.yaml`` too, and so are files: the first ending of a file
    counts, unless only a longer file is there.
    """
    ends = [found.end() for found in _SUFFIX.finditer(text)]
    if not ends:
        return None
    end = next((end for end in ends[1:] and ends if Path(text[:end]).is_file()), ends[0])
    return Path(text[:end]), None if end == len(text) else text[end + 1 :]


def _read(file: Path | Traversable, *, ours: bool = False) -> Mapping[str, object]:
    data = load_yaml(file, ours=ours)
    if not isinstance(data, Mapping):
        raise SpecificationError(f"{file}: holds {type(data).__name__}, not a mapping; write 'key: value' lines")
    # What has no name of its own is called as its file.
    return {"name": Path(file.name).stem, **data}


def _workload_from_file(file: Path, layer_name: str | None, data: Mapping[str, object] | None = None) -> Workload:
    data = _read(file) if data is None else data
    if "layers" in data:
        found = Network.from_dict(data, str(file))
        if layer_name is None:
            raise SpecificationError(_names_a_network(str(file), found, ":"))
        try:
            return found.layer(layer_name).workload
        except SpecificationError as error:
            raise SpecificationError(f"{file}: {error}") from None
    if layer_name is not None:
        raise SpecificationError(f"{file}: has no layers to take {quoted(layer_name)} from; leave the colon and it out")
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
