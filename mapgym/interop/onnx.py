"""Networks in ONNX files: what is multiplied in them, layer by layer.

Only shapes are read. Weights that lie in other files are never looked for, and nothing of a model is run but the
arithmetic of shapes (:mod:`mapgym.interop.onnx_shapes`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted, shortened
from mapgym.interop.collection import Collection, ImportedNetwork, require_sizes
from mapgym.interop.onnx_shapes import Graph, read_graph
from mapgym.interop.products import (
    Product,
    Shape,
    Transposed,
    Window,
    attention,
    broadcast_product,
    convolution,
    einsum,
    recurrent,
    transposed_convolution,
)
from mapgym.spec.catalog import Network

_DOMAINS = ("", "ai.onnx")
_FUSED = "com.microsoft"
_CONTROL_FLOW = ("If", "Loop", "Scan", "SequenceMap")
_MAY_MULTIPLY = ("DFT", "STFT", "DeformConv", "Det", "LinearAttention", "CausalConvWithState")
"""Operators of ONNX itself with products that are not known here."""


def read_onnx(path: Path, dims: Mapping[str, int] | None = None, weight_density: bool = False) -> ImportedNetwork:
    """The network in a file.

    Args:
        path: of the model.
        dims: sizes of what the model leaves open, by name.
        weight_density: whether layers have the share of non-zero words of their weights as a density.

    Raises:
        SpecificationError: the file cannot be read, a size is left open or cannot be inferred, the model has control
            flow, or nothing in it is multiplied.
    """
    graph = read_graph(path, dims or {})
    collection = Collection(path.stem)
    for node in graph.nodes:
        _Node(graph, node, collection, weight_density).collect()
    found = collection.finished(f"{path.name} (ONNX)")
    found.require_complete("remove them from the model, or write the layers by hand")
    return found


def network(path: str | Path) -> Network:
    """The network in a file that is named where a network may be."""
    return read_onnx(Path(path)).network


class _Node:
    """One operator of a model."""

    def __init__(self, graph: Graph, node: Any, collection: Collection, weight_density: bool) -> None:
        self._graph, self._node, self._collection = graph, node, collection
        self._weight_density = weight_density
        self._attributes = graph.attributes(node)
        self._where = f"{graph.file}: {node.op_type} {quoted(node.name or node.output[0])}"

    def collect(self) -> None:
        """Adds the products of the operator, or counts it as left out."""
        kind, domain = self._node.op_type, self._node.domain
        full = kind if domain in _DOMAINS else f"{domain}.{kind}"
        if domain in _DOMAINS and kind in _CONTROL_FLOW:
            raise SpecificationError(
                f"{self._where} is control flow, whose products depend on data; export the model without it"
            )
        reader = {**_OPERATORS, **(_FUSED_OPERATORS if domain == _FUSED else {})}.get(kind)
        if reader is None or domain not in (*_DOMAINS, _FUSED):
            may = (domain not in _DOMAINS and domain != "ai.onnx.ml") or kind in _MAY_MULTIPLY
            self._collection.leave_out(full, multiplies=may)
            return
        if self._graph.is_constant(self._node):
            return  # computed once, before the network runs
        try:
            products = reader(self)
        except SpecificationError as error:
            if str(error).startswith(self._graph.file):
                raise
            raise SpecificationError(f"{self._where}: {error}") from None
        products = [product for product in products if require_sizes(product, self._where)]
        if not products:
            self._collection.leave_out(full)
        for product in products:
            self._add(product)

    def _add(self, product: Product) -> None:
        density = None
        weights = None if product.weights is None else self._node.input[product.weights]
        if weights is not None and weights in self._graph.constants:
            words = math.prod(self._graph.shape(weights, self._where))
            self._collection.keep_weights(weights, words)
            if self._weight_density:
                density = self._graph.density(weights)
        name = self._collection.add(self._node.name or self._node.output[0], product, density)
        if self._weight_density and density is None and product.weights is not None:
            self._collection.unmeasured(name)

    def shape(self, k: int) -> Shape:
        """Of an input."""
        if k >= len(self._node.input) or not self._node.input[k]:
            raise SpecificationError(f"{self._where} has no input {k}; export the model again")
        return self._graph.shape(self._node.input[k], self._where)

    def has(self, k: int) -> bool:
        """Whether an input is given."""
        return k < len(self._node.input) and bool(self._node.input[k])

    def is_weight(self, k: int) -> bool:
        """Whether an input stays the same from run to run."""
        return self.has(k) and self._node.input[k] in self._graph.constants

    def output(self) -> Shape:
        """Of the first output."""
        return self._graph.shape(self._node.output[0], self._where)

    def whole(self, name: str, otherwise: int | None = None) -> int:
        """An attribute that is a whole number."""
        value = self._attributes.get(name, otherwise)
        if not isinstance(value, int):
            raise SpecificationError(f"{self._where} has no attribute {quoted(name)}; export the model again")
        return value

    def whole_list(self, name: str, otherwise: Sequence[int]) -> list[int]:
        """An attribute that is a list of whole numbers."""
        value = self._attributes.get(name)
        return [int(number) for number in value] if value else list(otherwise)

    def text(self, name: str, otherwise: str = "") -> str:
        """An attribute that is text."""
        value = self._attributes.get(name, otherwise)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

    def convolution(self, operands: tuple[int, int] = (0, 1)) -> list[Product]:
        """Conv and its quantised kin; ``operands``: which inputs are the images and the filters."""
        image, filters, out = self.shape(operands[0]), self.shape(operands[1]), self.output()
        axes, groups = len(filters) - 2, self.whole("group", 1)
        if len(image) != len(filters) or len(out) != len(filters) or axes < 1:
            raise SpecificationError(f"has the shapes {quoted(image)} and {quoted(filters)}, which do not fit")
        strides = self.whole_list("strides", [1] * axes)
        dilations = self.whole_list("dilations", [1] * axes)
        windows = [Window(*each) for each in zip(out[2:], filters[2:], strides, dilations, strict=True)]
        entry = convolution(windows, inputs=filters[1], outputs=filters[0] // groups, groups=groups, batch=image[0])
        return [Product(entry, weights=operands[1])]

    def transposed_convolution(self) -> list[Product]:
        """ConvTranspose."""
        image, filters, out = self.shape(0), self.shape(1), self.output()
        axes, groups = len(filters) - 2, self.whole("group", 1)
        strides = self.whole_list("strides", [1] * axes)
        dilations = self.whole_list("dilations", [1] * axes)
        pads = self.whole_list("pads", [0] * (2 * axes))
        if self.text("auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER"):
            sizes = zip(image[2:], strides, filters[2:], dilations, strict=True)
            full = [(size - 1) * stride + (taps - 1) * dilation + 1 for size, stride, taps, dilation in sizes]
            pads = [max(0, (whole - o) // 2) for whole, o in zip(full, out[2:], strict=True)]
        along = [Transposed(*each) for each in zip(out[2:], filters[2:], strides, dilations, pads, strict=False)]
        products = transposed_convolution(
            along, inputs=image[1] // groups, outputs=filters[1], groups=groups, batch=image[0]
        )
        return [Product(one.entry, one.repeats, one.part, 1) for one in products]

    def gemm(self) -> list[Product]:
        """Gemm: matrices, either of which may be transposed."""
        left, right = self.shape(0), self.shape(1)
        if self.whole("transA", 0):
            left = left[::-1]
        if self.whole("transB", 0):
            right = right[::-1]
        return self._product(left, right, (0, 1))

    def matmul(self, operands: tuple[int, int] = (0, 1)) -> list[Product]:
        """MatMul and its quantised kin."""
        left, right = self.shape(operands[0]), self.shape(operands[1])
        if self._attributes.get("transA"):
            left = (*left[:-2], left[-1], left[-2])
        if self._attributes.get("transB"):
            right = (*right[:-2], right[-1], right[-2])
        return self._product(left, right, operands)

    def _product(self, left: Shape, right: Shape, operands: tuple[int, int]) -> list[Product]:
        weights_left = self.is_weight(operands[0]) and not self.is_weight(operands[1])
        entry = broadcast_product(left, right, weights_left=weights_left)
        return [Product(entry, weights=operands[0] if weights_left else operands[1])]

    def einsum(self) -> list[Product]:
        """Einsum."""
        count = len(self._node.input)
        constant = [self.is_weight(k) for k in range(count)]
        return einsum(self.text("equation"), [self.shape(k) for k in range(count)], constant)

    def recurrent(self) -> list[Product]:
        """LSTM, GRU and RNN."""
        sequence, weights = self.shape(0), self.shape(1)
        steps, batch = sequence[:2] if self.whole("layout", 0) == 0 else sequence[1::-1]
        products = recurrent(
            self._node.op_type,
            steps=steps,
            batch=batch,
            inputs=sequence[2],
            hidden=self.whole("hidden_size"),
            directions=weights[0],
        )
        return [Product(one.entry, one.repeats, one.part, k) for k, one in enumerate(products, start=1)]

    def attention(self) -> list[Product]:
        """Attention of ONNX: heads are an axis, or are told by attributes; past keys and values come first."""
        queries, keys, values = (self.shape(k) for k in range(3))
        if len(queries) == 4:
            batch, heads, rows, width = queries
            kv_heads, length, value_width = keys[1], keys[2], values[3]
        else:
            batch, rows, heads = queries[0], queries[1], self.whole("q_num_heads")
            kv_heads, length = self.whole("kv_num_heads"), keys[1]
            width, value_width = queries[2] // heads, values[2] // kv_heads
        past = self.shape(4)[2] if self.has(4) else 0
        return attention(
            batch=batch, heads=heads, kv_heads=kv_heads, queries=rows, keys=length + past, width=width,
            value_width=value_width,
        )  # fmt: skip

    def fused_attention(self) -> list[Product]:
        """MultiHeadAttention and GroupQueryAttention of ONNX Runtime, of queries, keys and values in rows."""
        queries, heads = self.shape(0), self.whole("num_heads")
        kv_heads = self.whole("kv_num_heads", heads)
        if not self.has(1) or not self.has(2) or len(queries) != 3:
            raise SpecificationError("has queries, keys and values in one tensor; export the model with three")
        keys, values = self.shape(1), self.shape(2)
        past = 3 if self._node.op_type == "GroupQueryAttention" else 6
        length = keys[1] + (self.shape(past)[2] if self.has(past) and len(self.shape(past)) == 4 else 0)
        return attention(
            batch=queries[0], heads=heads, kv_heads=kv_heads, queries=queries[1], keys=length,
            width=queries[2] // heads, value_width=values[-1] // kv_heads,
        )  # fmt: skip


_OPERATORS: dict[str, Callable[[_Node], list[Product]]] = {
    "Conv": _Node.convolution,
    "ConvInteger": _Node.convolution,
    "QLinearConv": lambda node: node.convolution((0, 3)),
    "ConvTranspose": _Node.transposed_convolution,
    "Gemm": _Node.gemm,
    "MatMul": _Node.matmul,
    "MatMulInteger": _Node.matmul,
    "QLinearMatMul": lambda node: node.matmul((0, 3)),
    "Einsum": _Node.einsum,
    "LSTM": _Node.recurrent,
    "GRU": _Node.recurrent,
    "RNN": _Node.recurrent,
    "Attention": _Node.attention,
}
_FUSED_OPERATORS: dict[str, Callable[[_Node], list[Product]]] = {
    "FusedConv": _Node.convolution,
    "FusedMatMul": _Node.matmul,
    "FusedGemm": _Node.gemm,
    "MultiHeadAttention": _Node.fused_attention,
    "GroupQueryAttention": _Node.fused_attention,
}
"""Those of ONNX Runtime; its Attention has its own layout of weights."""
_FUSED_OPERATORS["Attention"] = lambda node: _packed_attention(node)


def _packed_attention(node: _Node) -> list[Product]:
    """Attention of ONNX Runtime: one product makes queries, keys and values of the inputs."""
    rows, weights = node.shape(0), node.shape(1)
    heads = node.whole("num_heads")
    width = weights[1] // 3 // heads
    made = Product(broadcast_product(rows, weights), part="queries, keys and values", weights=1)
    return [
        made,
        *attention(
            batch=rows[0], heads=heads, kv_heads=heads, queries=rows[1], keys=rows[1], width=width, value_width=width
        ),
    ]


def describe(found: ImportedNetwork) -> list[str]:
    """What was read, in lines for people."""
    layers: Mapping[str, Any] = found.data["layers"]
    macs = found.network.macs
    lines = [f"{len(layers)} distinct layers, {macs:,} multiply-accumulates, {found.parameters:,} words of weights"]
    without = ", ".join(f"{one.count} {one.operator}" for one in found.left_out)
    if without:
        lines.append(f"left out, as they multiply and add nothing up: {shortened(without, 600)}")
    if found.unmeasured:
        lines.append(f"weights that are made while the network runs have no density: {', '.join(found.unmeasured[:5])}")
    return lines
