"""Lists of layers for ZigZag: each an equation such as ``O[b][k][oy][ox]+=W[k][c][fy][fx]*I[b][c][iy][ix]``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mapgym.errors import SpecificationError, positive_int
from mapgym.errors.text import quoted
from mapgym.interop.imported import INPUTS, OUTPUTS, WEIGHTS, Notes
from mapgym.spec.catalog import Layer, Network
from mapgym.spec.tensor import Rank, Tensor
from mapgym.spec.workload import Workload

TENSOR_NAMES = {"O": OUTPUTS, "W": WEIGHTS, "I": INPUTS}
CONVOLUTION = {"B": "N", "K": "M", "C": "C", "OY": "P", "OX": "Q", "FY": "R", "FX": "S", "G": "G"}
"""ZigZag's dims of convolutions, and what they are called here."""

_KEYS = (
    *("id", "name", "operator_type", "equation", "dimension_relations", "loop_dims", "loop_sizes", "operand_precision"),
    *("operand_source", "pr_loop_dims", "pr_loop_sizes", "padding"),
)
_NO_EFFECT = {
    "operand_precision": "widths of words are the hardware's",
    "operand_source": "layers are mapped one by one",
    "padding": "a border counts as data",
    "pr_loop_sizes": "sizes of inputs follow from those of outputs and filters",
}
_PRODUCTS = ("Conv", "Conv_downsample", "Gemm")
_OPERAND = re.compile(r"\s*(\w+)((?:\[\w*\])+)\s*")
_RELATION = re.compile(r"\s*(\w+)\s*=\s*(?:(\d+)\s*\*\s*)?(\w+)\s*\+\s*(?:(\d+)\s*\*\s*)?(\w+)\s*")


def read_network(data: Sequence[Mapping[str, Any]], file: str, notes: Notes) -> Network:
    """The layers of a file that multiply and add up; of equal ones, one with how often it is there.

    Args:
        data: its content.
        file: for messages.
        notes: takes what has no effect.

    Raises:
        SpecificationError: a layer has a wrong key or an equation that is none.
    """
    name = Path(file).stem
    layers: dict[tuple[object, ...], tuple[str, Workload, int]] = {}
    names: set[str] = set()
    for i, entry in enumerate(data):
        label = str(entry.get("name") or f"layer{entry.get('id', i)}")
        kind = str(entry.get("operator_type"))
        if kind not in _PRODUCTS:
            notes.add(label, "operator_type", f"{kind} has no multiply-accumulates; the layer is left out")
            continue
        workload = _layer(entry, f"{name}/{label}", f"{file}: layer {quoted(label)}")
        notes.add_unknown(label, entry, _KEYS)
        for key, why in _NO_EFFECT.items():
            if entry.get(key):
                notes.add("layers", key, why)
        shape = (workload.dims, workload.bounds, workload.tensors)
        if shape in layers:
            first, same, repeats = layers[shape]
            layers[shape] = (first, same, repeats + 1)
            continue
        if label in names:
            raise SpecificationError(f"{file}: two different layers are called {quoted(label)}; give each its own name")
        names.add(label)
        layers[shape] = (label, workload, 1)
    if not layers:
        raise SpecificationError(f"{file}: no layer has multiply-accumulates; name a file with such layers")
    return Network(name, "Layers for ZigZag.", tuple(Layer(*layer) for layer in layers.values()))


def _layer(data: Mapping[str, Any], name: str, where: str) -> Workload:
    bounds = _bounds(data, where)
    relations = _relations(data.get("dimension_relations"), where)
    text = str(data.get("equation"))
    left, equals, right = text.replace("+=", "=").partition("=")
    parts = [_OPERAND.fullmatch(part) for part in (left, *right.split("*"))]
    if not equals or not all(parts) or len(parts) < 3:
        raise SpecificationError(
            f"{where}: equation is {quoted(text)}; give a product such as O[m][n]+=I[m][k]*W[k][n]"
        )
    renamed = CONVOLUTION if set(bounds) <= set(CONVOLUTION) else {}
    tensors = []
    for i, part in enumerate(parts):
        assert part is not None
        indices = [index.upper() for index in re.findall(r"\[(\w*)\]", part[2]) if index]
        ranks: list[Rank] = [relations.get(index, ((index, 1),)) for index in indices]
        tensors.append(
            Tensor(
                TENSOR_NAMES.get(part[1], part[1]),
                tuple(tuple((renamed.get(dim, dim), factor) for dim, factor in rank) for rank in ranks),
                is_output=i == 0,
            )
        )
    dims = tuple(renamed.get(dim, dim) for dim in bounds)
    try:
        return Workload(name, dims, tuple(bounds.values()), (*tensors[1:], tensors[0]))
    except SpecificationError as error:
        raise SpecificationError(f"{where}: {error}") from None


def _bounds(data: Mapping[str, Any], where: str) -> dict[str, int]:
    dims, sizes = data.get("loop_dims"), data.get("loop_sizes")
    if not isinstance(dims, list) or not isinstance(sizes, list) or len(dims) != len(sizes) or not dims:
        raise SpecificationError(
            f"{where}: loop_dims is {quoted(dims)} and loop_sizes {quoted(sizes)}; give two lists of one length"
        )
    names = [str(dim).upper() for dim in dims]
    if len(set(names)) < len(names):
        raise SpecificationError(f"{where}: loop_dims is {quoted(dims)}, which names one twice; name each once")
    return {
        dim: positive_int(size, f"{where}: the size of {quoted(dim)}") for dim, size in zip(names, sizes, strict=True)
    }


def _relations(data: object, where: str) -> dict[str, Rank]:
    """Index -> the sum that it is, such as ix = 2*ox + 1*fx."""
    found: dict[str, Rank] = {}
    for text in data if isinstance(data, list) else [] if data is None else [data]:
        match = _RELATION.fullmatch(str(text))
        if match is None:
            raise SpecificationError(f"{where}: dimension_relations has {quoted(text)}; give such as ix=2*ox+1*fx")
        index, first, a, second, b = match.groups()
        found[index.upper()] = (
            (a.upper(), positive_int(int(first or 1), f"{where}: {text}")),
            (b.upper(), positive_int(int(second or 1), f"{where}: {text}")),
        )
    return found
