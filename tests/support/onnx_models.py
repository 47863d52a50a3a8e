"""ONNX models built by hand, and what is multiplied in them, counted while they are built.

Weights have shapes only: they claim to lie in a file that there is not.
"""

from __future__ import annotations

import math
from pathlib import Path

import onnx
from onnx import TensorProto, helper

FLOAT = TensorProto.FLOAT


class Model:
    """A model with one input, written operator by operator; ``macs`` and ``words`` are counted along."""

    def __init__(self, *shape: int | str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.inputs = [helper.make_tensor_value_info("x", FLOAT, shape)]
        self.macs = self.words = 0

    def weight(self, *shape: int) -> str:
        """Weights without content."""
        tensor = TensorProto(name=f"w{len(self.weights)}", data_type=FLOAT, dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="elsewhere.bin")
        self.weights.append(tensor)
        self.words += math.prod(shape)
        return tensor.name

    def numbers(self, *values: int) -> str:
        """A constant such as the operand of a Reshape."""
        self.weights.append(helper.make_tensor(f"w{len(self.weights)}", TensorProto.INT64, [len(values)], values))
        return self.weights[-1].name

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: object) -> str:
        """An operator with one output."""
        name = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, domain=domain, **attributes))
        return name

    def conv(self, x: str, cin: int, cout: int, k: int, out: int, stride: int = 1, groups: int = 1) -> str:
        """A square convolution with an output of ``out`` rows and columns."""
        self.macs += cout * (cin // groups) * k * k * out * out
        pad = (k - 1) // 2
        pads = [pad] * 4
        weights = self.weight(cout, cin // groups, k, k)
        return self.op("Conv", x, weights, strides=[stride] * 2, pads=pads, group=groups)

    def dense(self, x: str, rows: int, inner: int, columns: int) -> str:
        """A product with weights."""
        self.macs += rows * inner * columns
        return self.op("MatMul", x, self.weight(inner, columns))

    def product(self, a: str, b: str, macs: int) -> str:
        """A product of two tensors that are computed."""
        self.macs += macs
        return self.op("MatMul", a, b)

    def block(
        self, x: str, length: int, width: int, heads: int, hidden: int, kv_heads: int = 0, gated: bool = False
    ) -> str:
        """A block of a transformer; with ``kv_heads``, query heads share keys and values."""
        size, kv = width // heads, kv_heads or heads
        sides = []
        for count, transposed in ((heads, (0, 2, 1, 3)), (kv, (0, 2, 3, 1)), (kv, (0, 2, 1, 3))):
            made = self.dense(x, length, width, count * size)
            split = self.op("Reshape", made, self.numbers(1, length, count, size))
            side = self.op("Transpose", split, perm=transposed)
            if count < heads:
                first = self.op("Unsqueeze", side, self.numbers(2))
                rest = (size, length) if transposed[2] == 3 else (length, size)
                more = self.op("Expand", first, self.numbers(1, count, heads // count, *rest))
                side = self.op("Reshape", more, self.numbers(1, heads, *rest))
            sides.append(side)
        scores = self.op("Softmax", self.product(sides[0], sides[1], heads * length * length * size))
        context = self.product(scores, sides[2], heads * length * length * size)
        joined = self.op("Reshape", self.op("Transpose", context, perm=(0, 2, 1, 3)), self.numbers(1, length, width))
        x = self.op("Add", x, self.dense(joined, length, width, width))
        up = self.op("Relu", self.dense(x, length, width, hidden))
        if gated:
            up = self.op("Mul", up, self.dense(x, length, width, hidden))
        return self.op("Add", x, self.dense(up, length, hidden, width))

    def save(self, path: Path, *outputs: str, functions=()) -> Path:
        """Writes the model; the last operator is its output if none is named."""
        named = outputs or (self.nodes[-1].output[0],)
        results = [helper.make_empty_tensor_value_info(name) for name in named]
        graph = helper.make_graph(self.nodes, "graph", self.inputs, results, self.weights)
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1), helper.make_opsetid("mine", 1)]
        model = helper.make_model(graph, opset_imports=opsets, functions=list(functions))
        path.write_bytes(model.SerializeToString())
        return path


def resnet50() -> Model:
    """He et al., 2016, with the stride in the middle of a block."""
    m = Model(1, 3, 224, 224)
    x = m.op("MaxPool", m.conv("x", 3, 64, 7, 112, 2), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels, size = 64, 56
    for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            out = size // stride
            y = m.op("Relu", m.conv(x, channels, width, 1, size))
            y = m.op("Relu", m.conv(y, width, width, 3, out, stride))
            y = m.conv(y, width, 4 * width, 1, out)
            if not block:
                x = m.conv(x, channels, 4 * width, 1, out, stride)
            x, channels, size = m.op("Relu", m.op("Add", x, y)), 4 * width, out
    m.dense(m.op("Flatten", m.op("GlobalAveragePool", x)), 1, 2048, 1000)
    return m


def mobilenet_v2() -> Model:
    """Sandler et al., 2018."""
    m = Model(1, 3, 224, 224)
    x, channels, size = m.conv("x", 3, 32, 3, 112, 2), 32, 112
    for expand, width, blocks, first in (
        *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
        *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
    ):
        for block in range(blocks):
            stride = 1 if block else first
            inner, out = expand * channels, size // stride
            y = m.conv(x, channels, inner, 1, size) if expand > 1 else x
            y = m.conv(m.conv(y, inner, inner, 3, out, stride, inner), inner, width, 1, out)
            x = m.op("Add", x, y) if stride == 1 and channels == width else y
            channels, size = width, out
    x = m.conv(x, 320, 1280, 1, 7)
    m.dense(m.op("Flatten", m.op("GlobalAveragePool", x)), 1, 1280, 1000)
    return m


def efficientnet_b0() -> Model:
    """Tan and Le, 2019, with squeeze and excitation."""
    m = Model(1, 3, 224, 224)
    x, channels, size = m.conv("x", 3, 32, 3, 112, 2), 32, 112
    for expand, width, blocks, first, k in (
        *((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3)),
        *((6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3)),
    ):
        for block in range(blocks):
            stride = 1 if block else first
            inner, out = expand * channels, size // stride
            y = m.conv(x, channels, inner, 1, size) if expand > 1 else x
            y = m.conv(y, inner, inner, k, out, stride, inner)
            squeezed = m.conv(m.op("GlobalAveragePool", y), inner, channels // 4, 1, 1)
            y = m.op("Mul", y, m.op("Sigmoid", m.conv(squeezed, channels // 4, inner, 1, 1)))
            y = m.conv(y, inner, width, 1, out)
            x = m.op("Add", x, y) if stride == 1 and channels == width else y
            channels, size = width, out
    x = m.conv(x, 320, 1280, 1, 7)
    m.dense(m.op("Flatten", m.op("GlobalAveragePool", x)), 1, 1280, 1000)
    return m


def transformer(length: int, width: int, heads: int, hidden: int, blocks: int, **options) -> Model:
    """Blocks of a transformer on vectors."""
    m = Model(1, length, width)
    x = "x"
    for _ in range(blocks):
        x = m.block(x, length, width, heads, hidden, **options)
    return m


def vit_b16() -> Model:
    """Dosovitskiy et al., 2021: patches by a convolution, and one more vector for the class."""
    m = Model(1, 3, 224, 224)
    m.macs += 14 * 14 * 768 * 3 * 16 * 16
    patches = m.op("Conv", "x", m.weight(768, 3, 16, 16), strides=[16, 16])
    x = m.op("Transpose", m.op("Reshape", patches, m.numbers(1, 768, -1)), perm=(0, 2, 1))
    m.weights.append(helper.make_tensor("class", FLOAT, [1, 1, 768], [0.0] * 768))
    x = m.op("Concat", "class", x, axis=1)
    for _ in range(12):
        x = m.block(x, 197, 768, 12, 3072)
    first = m.op("Gather", x, m.numbers(0), axis=1)
    m.dense(first, 1, 768, 1000)
    return m


def gpt2_small(length: int) -> Model:
    """Radford et al., 2019: embeddings are looked up, and their transpose makes the scores of words."""
    m = Model(1, length)
    m.inputs = [helper.make_tensor_value_info("x", TensorProto.INT64, [1, length])]
    table = m.weight(50257, 768)
    x = m.op("Gather", table, "x", axis=0)
    for _ in range(12):
        x = m.block(x, length, 768, 12, 3072)
    m.macs += length * 768 * 50257
    m.op("MatMul", x, m.op("Transpose", table, perm=(1, 0)))
    return m


def unet(size: int) -> Model:
    """Ronneberger et al., 2015, with padding: two convolutions a level, transposed ones of stride 2 upwards."""
    m = Model(1, 1, size, size)
    x, channels, skipped = "x", 1, []
    for width in (16, 32, 64):
        x = m.conv(m.conv(x, channels, width, 3, size), width, width, 3, size)
        skipped.append(x)
        x, channels, size = m.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), width, size // 2
    x, channels = m.conv(x, channels, 128, 3, size), 128
    for width in (64, 32, 16):
        # Each input meets each word of the filter once.
        m.macs += size * size * channels * width * 4
        x, size = m.op("ConvTranspose", x, m.weight(channels, width, 2, 2), strides=[2, 2]), size * 2
        x = m.conv(m.op("Concat", skipped.pop(), x, axis=1), 2 * width, width, 3, size)
        channels = width
    m.conv(x, 16, 2, 1, size)
    return m


def speech(length: int) -> Model:
    """Two convolutions along time, a recurrent layer in both directions, and a product for each step."""
    m = Model(1, 40, length)
    x, channels = "x", 40
    for width in (64, 96):
        length //= 2
        m.macs += width * channels * 11 * length
        x = m.op("Conv", x, m.weight(width, channels, 11), strides=[2], pads=[5, 5])
        channels = width
    x = m.op("Transpose", x, perm=(2, 0, 1))
    m.macs += 2 * length * (96 * 3 * 128 + 128 * 3 * 128)
    m.op("GRU", x, m.weight(2, 3 * 128, 96), m.weight(2, 3 * 128, 128), hidden_size=128, direction="bidirectional")
    joined = m.op("Reshape", m.op("Transpose", m.nodes[-1].output[0], perm=(0, 2, 1, 3)), m.numbers(0, 0, -1))
    m.dense(joined, length, 256, 29)
    return m
