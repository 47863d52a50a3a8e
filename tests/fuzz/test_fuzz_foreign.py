"""Files of other tools, hostile: Timeloop, ZigZag, AccelForge, ONNX; they are read, or refused in one sentence."""

from __future__ import annotations

import tempfile
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from contract import answer, fuzz, remember
from hostile import files
from mapgym import MapSpace
from mapgym.agents.files.constraints_file import read_constraints
from mapgym.interop.accelforge import read_accelforge
from mapgym.interop.accelforge.writing import export_accelforge
from mapgym.interop.zigzag import read_zigzag
from mapgym.interop.zigzag.writing import export_zigzag
from mapgym.mapping import Mapping
from mapgym.spec import catalog
from mapgym.timeloop.reading.specification import read_timeloop
from mapgym.timeloop.writing import export_timeloop

NODES = b"""
variables: {version: 0.4, width: 2 * 8, deep: 64}
architecture:
  version: 0.4
  nodes:
  - !Container {name: chip, attributes: {technology: 45nm, global_cycle_seconds: 1e-9}}
  - !Component
    name: DRAM
    class: DRAM
    attributes: {width: 64, datawidth: width, metadata_storage_width: 64, metadata_datawidth: 4}
    sparse_optimizations:
      representation_format:
        data_spaces:
        - {name: A, ranks: [{format: UOP, flattened_rankIDs: [[M, K]]}, {format: CP, metadata_word_bits: 6}]}
  - !Component
    name: Buffer
    class: smartbuffer_SRAM
    attributes: {depth: deep * 4, width: width, datawidth: width, read_bandwidth: 4, decompression_supported: true}
    constraints:
      dataspace: {keep: [A, Z], bypass: [B]}
      temporal: {factors: [M=4, "K<=2"], permutation: [K, M, N]}
    sparse_optimizations:
      action_optimization: [{type: gating, options: [{target: B, condition_on: [A]}]}]
  - !Parallel
    nodes:
    - !Component
      name: Left
      class: regfile
      attributes: {depth: 4, width: 16, datawidth: 16}
      constraints: {dataspace: {keep: [A]}}
    - !Component {name: Right, class: regfile, attributes: {depth: 4, width: 16, datawidth: 16}}
  - !Container {name: PE, spatial: {meshX: 4, meshY: 2}, constraints: {spatial: {split: 1, permutation: [M, N, K]}}}
  - !Component {name: mac, class: intmac, attributes: {datawidth: 16}, constraints: {}}
"""
TREE = b"""
architecture:
  version: 0.3
  subtree:
  - name: system
    attributes: {technology: 45nm, datawidth: 8}
    local: [{name: DRAM, class: DRAM, attributes: {width: 64, word-bits: 8}}]
    subtree:
    - name: PE[0..15]
      local:
      - name: Buffer[0..1]
        class: storage
        subclass: smartbuffer
        attributes: {memory_depth: 16, memory_width: 8, datawidth: 8, meshX: 16}
      - {name: "MAC[0..31]", class: compute, attributes: {datawidth: 8, meshX: 16}}
ERT:
  version: 0.3
  tables:
  - name: system.PE[0..15].Buffer[0..1]
    actions: [{name: read, energy: 1.5, arguments: {a: 1}}, {name: write, energy: 2}]
  - {name: "system.PE[0..15].MAC[0..31]", actions: [{name: compute, energy: 0.5}]}
ART: {version: 0.3, tables: [{name: system.DRAM, area: 0}]}
"""
LIST = b"""
arch :
{
  arithmetic : { name = "MAC"; instances = 8; word-bits = 8; meshX = 4; };
  storage = ( { name = "RF"; entries = 16; instances = 4; meshX = 4; word-bits = 8; block-size = 1; },
              { name = "DRAM"; technology = "DRAM"; instances = 1; word-bits = 8; block-size = 4; bandwidth = 16.0; } );
};
problem : { shape = "cnn-layer"; R = 3; S = 1; P = 4; Q = 2; C = 4; K = 8; N = 1; Wstride = 2; Hstride = 1; };
mapspace : { constraints = ( { target = "RF"; type = "temporal"; factors = "R3 S1"; permutation = "RSC"; },
                             { target = "RF"; type = "bypass"; keep = [ "Weights" ]; bypass = [ "Inputs" ]; } ); };
"""
PROBLEM = b"""
problem:
  version: 0.4
  shape:
    name: window
    dimensions: [P, R, C, M]
    coefficients: [{name: Stride, default: 1}]
    data_spaces:
    - {name: Weights, projection: [[[R]], [[C]], [[M]]]}
    - {name: Inputs, projection: [[[R], [P, Stride]], [[C]]]}
    - {name: Outputs, projection: [[[P]], [[M]]], read_write: true}
  instance: {P: 8, R: 3, C: 4, M: 6, Stride: 2, densities: {Inputs: {distribution: hypergeometric, density: 0.5}}}
"""
TEMPLATE = b"""
{% set sizes = [16, 64] %}
{% macro level(name, depth) %}
  - {name: {{ name }}, class: SRAM, attributes: {depth: {{ depth }}, width: 8, datawidth: 8}}
{% endmacro %}
architecture:
  version: 0.4
  nodes:
  - {name: DRAM, class: DRAM, attributes: {width: 8, datawidth: 8}}
{% for size in sizes %}{{ level("L" ~ loop.index, size) }}{% endfor %}
{% if sizes|length > 1 %}
  - {name: mac, class: intmac, attributes: {datawidth: 8}}
{% endif %}
"""
CONSTRAINTS = b"""
architecture_constraints:
  targets:
  - {target: GLB, type: spatial, factors: "M=1 N<=4", permutation: MN, split: 1}
  - {target: RF, type: dataspace, keep: [Weights], bypass: [Inputs]}
  - {target: RF, type: utilization, min: 0.5}
mapspace_constraints:
  targets: [{target: DRAM, type: temporal, factors: ["M>=2"], permutation: [M, K]}]
"""
TIMELOOP = {
    "nodes.yaml": NODES,
    "tree.yaml": TREE,
    "list.cfg": LIST,
    "problem.yaml": PROBLEM,
    "top.yaml.jinja2": TEMPLATE,
}


@cache
def exported(tool: str) -> dict[str, bytes]:
    """What we write for a tool, by the name of the file."""
    workload, accelerator = catalog.workload("toy/tiny_gemm"), catalog.accelerator("tiny")
    export = {"timeloop": export_timeloop, "zigzag": export_zigzag, "accelforge": export_accelforge}[tool]
    found = export(workload, accelerator, Mapping.trivial(workload, accelerator))
    return {name: text.encode() for name, text in found.files.items()}


def one_of(good: dict[str, bytes]) -> st.SearchStrategy[tuple[str, bytes]]:
    """A file that is changed, with its name."""
    return st.sampled_from(sorted(good)).flatmap(lambda name: st.tuples(st.just(name), files(good[name])))


def read_and_use(path: str) -> None:
    """Reads files for Timeloop, and searches a little if they hold a whole task."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = read_timeloop(path, energies="pat")
    if found.accelerator is not None and found.workload is not None:
        MapSpace(found.workload, found.accelerator, ("tile", "bypass")).sample(np.random.default_rng(0), 2)


@pytest.mark.parametrize("name", sorted(TIMELOOP))
def test_files_that_nobody_has_changed_are_read(tmp_path, name):
    (tmp_path / name).write_bytes(TIMELOOP[name])
    read_and_use(str(tmp_path / name))


@pytest.mark.parametrize("tool", ["timeloop", "zigzag", "accelforge"])
def test_what_we_write_for_others_is_read(tmp_path, tool):
    for name, content in exported(tool).items():
        (tmp_path / name).write_bytes(content)
    if tool == "timeloop":
        read_and_use(str(tmp_path))
    else:
        name = next(name for name in exported(tool) if "arch" in name or "acc" in name or "hardware" in name)
        read = read_zigzag if tool == "zigzag" else read_accelforge
        assert len(read(tmp_path / name).accelerators) == 1


@fuzz
@given(one_of(TIMELOOP))
def test_files_for_timeloop(hostile):
    name, content = hostile
    remember(name, content)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        answer(lambda: read_and_use(str(path)))


@fuzz
@given(one_of(exported("timeloop")))
def test_a_folder_for_timeloop(hostile):
    name, content = hostile
    remember(name, content)
    with tempfile.TemporaryDirectory() as folder:
        for other, good in exported("timeloop").items():
            (Path(folder) / other).write_bytes(content if other == name else good)
        answer(lambda: read_and_use(folder))


@fuzz
@given(st.sampled_from(["a.yaml", "../a.yaml", "/etc", ".", "", "b.yaml", "a\x00b", "a" * 5000]), st.booleans())
def test_includes(target, is_tag):
    text = f"x: !include {target!r}\n" if is_tag else f"{{{{ include({target!r}) }}}}\narchitecture: {{version: 0.4}}\n"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.yaml"
        path.write_text(text)
        (Path(folder) / "b.yaml").write_text("x: !include a.yaml\n")
        assert isinstance(answer(lambda: read_and_use(str(path))), str)


@fuzz
@given(one_of({"constraints.yaml": CONSTRAINTS}))
def test_constraints_for_timeloop(hostile):
    name, content = hostile
    remember(name, content)
    task = catalog.workload("paper/bert_attn"), catalog.accelerator("eyeriss_rf")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)

        def use():
            found = read_constraints(path).for_task(*task)
            MapSpace(task[0], found.accelerator, constraints=found.constraints)

        answer(use)


@fuzz
@given(st.sampled_from(["zigzag", "accelforge"]), st.data())
def test_files_for_zigzag_and_accelforge(tool, data):
    name, content = data.draw(one_of(exported(tool)))
    remember(name, content)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        read = read_zigzag if tool == "zigzag" else read_accelforge
        answer(lambda: read(path))


@cache
def onnx_model() -> bytes:
    """A small network with a convolution, a product of matrices, and shapes that are worked out on the way."""
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("Gemm", ["f", "v"], ["y"], transB=1),
    ]
    weights = [
        helper.make_tensor("w", TensorProto.FLOAT, (4, 3, 3, 3), np.ones(108, np.float32)),
        helper.make_tensor("v", TensorProto.FLOAT, (5, 64), np.ones(320, np.float32)),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("batch", 3, 8, 8))]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "small", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()


@fuzz
@given(st.data())
def test_onnx(data):
    pytest.importorskip("onnx")
    from mapgym.interop.onnx import read_onnx

    content = data.draw(files(onnx_model()))
    remember("model.onnx", content)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(content)
        answer(lambda: read_onnx(path, {"batch": 1}))
