"""Networks in ONNX files: multiply-accumulates and weights to the digit."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the library onnx is not installed")

from hypothesis import given, strategies as st  # noqa: E402
from onnx import TensorProto, helper  # noqa: E402

import onnx_models as models  # noqa: E402
from mapgym.errors import SpecificationError  # noqa: E402
from mapgym.interop.onnx import read_onnx  # noqa: E402
from mapgym.spec import catalog  # noqa: E402
from onnx_models import FLOAT, Model  # noqa: E402

NETWORKS = {
    "ResNet-50": (models.resnet50, 4_089_184_256, 25_502_912),
    "MobileNetV2": (models.mobilenet_v2, 300_774_272, 3_469_760),
    "EfficientNet-B0": (models.efficientnet_b0, None, None),
    "ViT-B/16": (models.vit_b16, 196 * 768 * 768 + 12 * (197 * 768 * (4 * 768 + 2 * 197 + 2 * 3072)) + 768_000, None),
    "BERT-base": (
        lambda: models.transformer(128, 768, 12, 3072, 12),
        12 * 128 * 768 * (4 * 768 + 2 * 128 + 2 * 3072),
        12 * 768 * (4 * 768 + 2 * 3072),
    ),
    "GPT-2 small": (lambda: models.gpt2_small(64), None, None),
    "LLaMA-like": (
        lambda: models.transformer(64, 512, 8, 1376, 2, kv_heads=2, gated=True),
        2 * 64 * 512 * (2 * 512 + 2 * 128 + 2 * 64 + 3 * 1376),
        2 * 512 * (2 * 512 + 2 * 128 + 3 * 1376),
    ),
    "U-Net": (lambda: models.unet(64), None, None),
    "speech": (lambda: models.speech(200), None, None),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_have_the_macs_and_weights_that_were_counted(name: str, tmp_path: Path) -> None:
    make, macs, words = NETWORKS[name]
    model = make()
    found = read_onnx(model.save(tmp_path / "net.onnx"))
    assert found.network.macs == model.macs
    assert macs in (None, model.macs)
    assert found.parameters == model.words
    assert words in (None, model.words)
    assert found.uncounted == ()


def test_equal_layers_are_joined_and_the_rest_is_listed(tmp_path: Path) -> None:
    found = read_onnx(models.resnet50().save(tmp_path / "resnet.onnx"))
    layers = found.network.layers
    assert sum(layer.repeats for layer in layers) == 54
    assert len(layers) < 30
    assert {one.operator: one.count for one in found.left_out} == {
        "Relu": 48,
        "Add": 16,
        "MaxPool": 1,
        "GlobalAveragePool": 1,
        "Flatten": 1,
    }
    first = layers[0].workload
    assert dict(zip(first.dims, first.bounds, strict=True)) == {
        "N": 1, "C": 3, "P": 112, "Q": 112, "R": 7, "S": 7, "M": 64,
    }  # fmt: skip


@given(
    cin=st.integers(1, 4), cout=st.integers(1, 4), groups=st.integers(1, 3), k=st.integers(1, 4),
    stride=st.integers(1, 3), size=st.integers(4, 9), transposed=st.booleans(),
)  # fmt: skip
def test_convolutions_by_brute_force(tmp_path_factory, cin, cout, groups, k, stride, size, transposed) -> None:
    model = Model(1, cin * groups, size)
    if transposed:
        shape = (cin * groups, cout, k)
        model.op("ConvTranspose", "x", model.weight(*shape), strides=[stride], group=groups)
    else:
        model.op("Conv", "x", model.weight(cout * groups, cin, k), strides=[stride], group=groups)
    found = read_onnx(model.save(tmp_path_factory.mktemp("conv") / "conv.onnx"))
    outputs = (size - 1) * stride + k if transposed else (size - k) // stride + 1
    # Products of an output with the inputs under its taps; of a transposed one, with those that there are.
    pairs = 0
    for p in range(outputs):
        for r in range(k):
            pairs += 1 if not transposed else (p - r) % stride == 0
    assert found.network.macs == pairs * cin * cout * groups
    assert found.parameters == cin * cout * groups * k


@given(
    batch=st.lists(st.sampled_from([1, 2, 3]), max_size=2),
    rows=st.integers(1, 4),
    inner=st.integers(1, 5),
    shared=st.booleans(),
)
def test_products_of_matrices_by_brute_force(tmp_path_factory, batch, rows, inner, shared) -> None:
    model = Model(*batch, rows, inner)
    model.op("MatMul", "x", model.weight(*(() if shared else batch), inner, 3))
    found = read_onnx(model.save(tmp_path_factory.mktemp("product") / "product.onnx"))
    result = np.zeros((*batch, rows, inner)) @ np.zeros((*(() if shared else batch), inner, 3))
    assert found.network.macs == result.size * inner
    weights = found.network.layers[0].workload.tensor_size("Weights")
    assert weights == inner * 3 * (1 if shared else math.prod(batch))


def test_fused_operators_and_attention(tmp_path: Path) -> None:
    model = Model(2, 16, 64)
    model.op("Attention", "x", model.weight(64, 192), domain="com.microsoft", num_heads=4)
    model.op("FusedMatMul", "x", model.weight(32, 64), domain="com.microsoft", transB=1)
    model.op("Einsum", "x", model.weight(64, 8), equation="bsd,de->bse")
    queries = model.op("MatMul", "x", model.weight(64, 64))
    keys = model.op("MatMul", "x", model.weight(64, 32))
    model.op("GroupQueryAttention", queries, keys, keys, domain="com.microsoft", num_heads=4, kv_num_heads=2)
    last = model.nodes[-1].output[0]
    found = read_onnx(model.save(tmp_path / "fused.onnx", last))
    tokens = 2 * 16
    expected = tokens * 64 * 192 + 2 * (tokens * 16 * 64) + tokens * 64 * 32 + tokens * 64 * 8
    expected += tokens * 64 * 64 + tokens * 64 * 32 + 2 * (tokens * 16 * 64)
    assert found.network.macs == expected


def test_local_functions_are_looked_into(tmp_path: Path) -> None:
    model = Model(4, 8)
    model.op("Twice", "x", model.weight(8, 8), domain="mine")
    nodes = [helper.make_node("MatMul", ["a", "w"], ["b"]), helper.make_node("MatMul", ["b", "w"], ["c"])]
    twice = helper.make_function("mine", "Twice", ["a", "w"], ["c"], nodes, [helper.make_opsetid("", 20)])
    found = read_onnx(model.save(tmp_path / "functions.onnx", functions=[twice]))
    assert found.network.macs == 2 * 4 * 8 * 8
    assert [layer.repeats for layer in found.network.layers] == [2]


def test_sizes_that_are_open_are_asked_for(tmp_path: Path) -> None:
    model = Model("batch", "length", 8)
    flat = model.op("Reshape", "x", model.numbers(-1, 8))
    model.op("MatMul", flat, model.weight(8, 4))
    path = model.save(tmp_path / "open.onnx")
    with pytest.raises(SpecificationError, match=r"'batch, length' open; .* --dim batch=1 --dim length=1"):
        read_onnx(path)
    with pytest.raises(SpecificationError, match="there is no size 'bach' in the model; did you mean 'batch'"):
        read_onnx(path, {"bach": 1, "length": 2})
    assert read_onnx(path, {"batch": 2, "length": 5}).network.macs == 2 * 5 * 8 * 4


def test_shapes_that_a_model_computes_are_computed(tmp_path: Path) -> None:
    model = Model(2, 3, 8)
    shape = model.op("Shape", "x")
    rows = model.op("Mul", model.op("Gather", shape, model.numbers(0)), model.op("Gather", shape, model.numbers(1)))
    target = model.op("Concat", rows, model.op("Gather", shape, model.numbers(2)), axis=0)
    model.op("MatMul", model.op("Reshape", "x", target), model.weight(8, 4))
    assert read_onnx(model.save(tmp_path / "shapes.onnx")).network.macs == 6 * 8 * 4


def test_densities_of_weights(tmp_path: Path) -> None:
    model = Model(4, 8)
    values = np.zeros((8, 2), np.float32)
    values[0] = 1.0
    model.weights.append(onnx.numpy_helper.from_array(values, "sparse"))
    model.op("MatMul", model.op("MatMul", "x", "sparse"), model.weight(2, 8))
    found = read_onnx(model.save(tmp_path / "sparse.onnx"), weight_density=True)
    first, second = found.network.layers
    assert first.workload.tensor("Weights").density == 0.125
    assert second.workload.tensor("Weights").density == 1.0
    assert found.unmeasured == (second.name,)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no ONNX model, or an empty one"),
        (b"hello world", "is no ONNX model"),
        (None, "is no ONNX model, or is cut off"),
    ],
)
def test_files_that_are_no_models_get_one_sentence(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "broken.onnx"
    whole = models.speech(40).save(tmp_path / "whole.onnx").read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(SpecificationError, match=message):
        read_onnx(path)


def test_what_cannot_be_counted_is_refused(tmp_path: Path) -> None:
    model = Model(2, 8)
    model.op("MatMul", "x", model.weight(8, 8))
    model.op("Mystery", "x", domain="mine")
    with pytest.raises(SpecificationError, match=r"the multiply-accumulates of 1 mine\.Mystery are not known"):
        read_onnx(model.save(tmp_path / "mystery.onnx", model.nodes[0].output[0]))
    body = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "b", [], [helper.make_empty_tensor_value_info("y")]
    )
    model = Model(2, 8)
    model.inputs.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    model.op("If", "c", then_branch=body, else_branch=body)
    with pytest.raises(SpecificationError, match="is control flow"):
        read_onnx(model.save(tmp_path / "if.onnx"))
    model = Model(2, 8)
    model.op("Relu", "x")
    with pytest.raises(SpecificationError, match="no multiply-accumulates are known in it"):
        read_onnx(model.save(tmp_path / "relu.onnx"))
    assert FLOAT == TensorProto.FLOAT


def test_a_model_is_taken_where_a_network_is(tmp_path: Path, mapgym) -> None:
    path = models.speech(40).save(tmp_path / "speech.onnx")
    network = catalog.network(path)
    assert network.name == "speech"
    layer = network.layers[-1]
    assert catalog.workload(f"{path}:{layer.name}") == layer.workload
    assert len(catalog.workloads(str(path))) == len(network.layers)
    with pytest.raises(SpecificationError, match="is a network of"):
        catalog.workload(str(path))
    status, _, error = mapgym("import", "onnx", path, "-o", tmp_path / "net.yaml")
    assert status == 0
    assert "words of weights" in error
    assert [one.workload for one in catalog.network(tmp_path / "net.yaml").layers] == [
        one.workload for one in network.layers
    ]
    for wrong in (("--dim", "batch"), ("--dim", "batch=0"), ("--dim", "batch=1"), ("--dim", "a=1", "--dim", "a=2")):
        assert mapgym("import", "onnx", path, "-o", tmp_path / "no.yaml", *wrong)[0] == 2
    assert not (tmp_path / "no.yaml").exists()
