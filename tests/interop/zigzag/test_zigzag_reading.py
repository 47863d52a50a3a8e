"""Accelerators and layers for ZigZag, written for these tests."""

from __future__ import annotations

import copy
import math

import pytest
import yaml
from hypothesis import given, strategies as st

from mapgym.errors import SpecificationError
from mapgym.interop.imported import Notes
from mapgym.interop.zigzag import read_zigzag
from mapgym.interop.zigzag.accelerators import Words, read_accelerator
from mapgym.spec.workload import conv2d, matmul


def port(name, kind, width, *uses, least=None):
    return {
        "name": name,
        "type": kind,
        "bandwidth_min": least or width,
        "bandwidth_max": width,
        "allocation": list(uses),
    }


def ports(operands, width, least=None):
    reads = [f"{operand}, tl" for operand in operands] + (["O, th"] if "O" in operands else [])
    writes = [f"{operand}, fh" for operand in operands] + (["O, fl"] if "O" in operands else [])
    return [
        port("r_port_1", "read", width, *reads, least=least),
        port("w_port_1", "write", width, *writes, least=least),
    ]


def memory(size, operands, served, width=8, least=None, **more):
    return {
        "size": size,
        "r_cost": 2.0,
        "w_cost": 4.0,
        "area": 0,
        "latency": 1,
        "operands": operands,
        "ports": ports(operands, width, least),
        "served_dimensions": served,
        **more,
    }


ACCELERATOR = {
    "name": "mine",
    "memories": {
        "sums": memory(32, ["O"], [], width=16),
        "filters": memory(80, ["I2"], ["D2"]),
        "buffer": memory(4096, ["I1", "I2", "O"], ["D1", "D2"], width=64, least=16, force_double_buffering=True),
        "off_chip": {
            **memory(10**6, ["I1", "I2", "O"], ["D1", "D2"]),
            "ports": [
                port("rw_port_1", "read_write", 32, *(f"{o}, {w}" for o in ("I1", "I2", "O") for w in ("fh", "tl")))
            ],
        },
    },
    "operational_array": {"unit_energy": 0.5, "unit_area": 1, "dimensions": ["D1", "D2"], "sizes": [4, 3]},
}
LAYERS = [
    {
        "id": 0,
        "operator_type": "Conv",
        "equation": "O[b][k][oy][ox]+=W[k][c][fy][fx]*I[b][c][iy][ix]",
        "dimension_relations": ["ix=2*ox+1*fx", "iy=2*oy + fy"],
        "loop_dims": ["B", "K", "C", "OY", "OX", "FY", "FX"],
        "loop_sizes": [1, 8, 3, 6, 5, 3, 2],
        "operand_precision": {"W": 8, "I": 8, "O": 16, "O_final": 8},
        "operand_source": {"I": 0, "W": 0},
    },
    {"id": 1, "operator_type": "Add", "equation": "O[b][k]=X[b][k]+Y[b][k]"},
    {
        "id": 2,
        "name": "product",
        "operator_type": "Gemm",
        "equation": "O[m][n]+=I[m][k]*W[k][n]",
        "loop_dims": ["M", "K", "N"],
        "loop_sizes": [4, 5, 6],
    },
]


def edited(**changes):
    """The accelerator with some keys changed, given as such as memories__sums__size; None removes."""
    data = copy.deepcopy(ACCELERATOR)
    for path, value in changes.items():
        *way, last = path.split("__")
        place = data
        for key in way:
            place = place[key]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return data


def written(folder, data, name="mine.yaml"):
    path = folder / name
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data, sort_keys=False))
    return path


def test_an_accelerator(tmp_path):
    found = read_zigzag(written(tmp_path, ACCELERATOR))
    (machine,) = found.accelerators
    assert machine.name == "mine"
    assert not machine.peer_links
    assert [(level.name, level.mesh_x, level.mesh_y, level.capacity_words) for level in machine.levels] == [
        ("sums", 12, 1, 2),  # words of 16 bits; each axis lies on X of its level
        ("filters", 4, 1, 10),
        ("buffer", 1, 1, 512),
        ("off_chip", 1, 1, 125_000),
    ]
    sums, filters, buffer, off_chip = machine.levels
    assert (sums.keep_only, filters.keep_only, buffer.keep_only) == (("Outputs",), ("Weights",), None)
    assert (machine.fanout_x, machine.mac.energy_pj) == ((1, 3, 4, 1), 0.5)
    # 64 bits cost 2 and 4 pJ, and at least 16 bits are moved: two words for a quarter of that.
    assert buffer.block_size_words == 2
    assert dict(buffer.action_energies_pj) == {"read": 0.5, "write": 1.0}
    assert (buffer.read_bandwidth_words_per_cycle, buffer.write_bandwidth_words_per_cycle) == (8.0, 8.0)
    assert buffer.usable_words == 256
    assert (sums.word_bits, sums.read_bandwidth_words_per_cycle) == (16, 1.0)
    assert (off_chip.shared_bandwidth_words_per_cycle, off_chip.read_bandwidth_words_per_cycle) == (4.0, None)
    said = " ".join(map(str, found.ignored))
    assert "words" in said
    assert "unit_area" in said


def test_widths_of_words(tmp_path):
    path = written(tmp_path, edited(operational_array__input_precision=[4, 4]))
    sums, filters, *_ = read_zigzag(path).accelerators[0].levels
    assert (sums.word_bits, sums.capacity_words, filters.word_bits, filters.capacity_words) == (8, 4, 4, 20)
    sums, filters, *_ = read_zigzag(path, word_bits=16, output_bits=32).accelerators[0].levels
    assert (sums.capacity_words, filters.capacity_words) == (1, 5)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.data())
def test_instances_are_what_a_memory_does_not_serve(sizes, data):
    axes = {f"D{i + 1}": size for i, size in enumerate(sizes)}
    order = data.draw(st.permutations(list(axes)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sizes)), max_size=4)))
    memories = {
        f"m{i}": memory(1024, data.draw(st.sampled_from((["I1"], ["I2", "O"], ["I1", "I2", "O"]))), order[:cut])
        for i, cut in enumerate(cuts)
    }
    memories["off"] = memory(10**6, ["I1", "I2", "O"], order)
    array = {"unit_energy": 1.0, "dimensions": list(axes), "sizes": sizes}
    content = {"memories": memories, "operational_array": array}
    machine = read_accelerator(content, "x.yaml", Words(8, 8), Notes("x.yaml"))
    assert machine.mac.instances == math.prod(sizes)
    for name, entry in memories.items():
        served = math.prod(axes[axis] for axis in entry["served_dimensions"])
        assert machine.levels[machine.level_index(name)].instances == math.prod(sizes) // served


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"operational_array__is_imc": True}, "is_imc is True: compute-in-memory cannot be expressed"),
        ({"memories__sums__served_dimensions": ["D1"]}, "'sums' serves D1 and 'filters' D2: operand memories along"),
        ({"memories__buffer__served_dimensions": []}, "'buffer' lies above 'filters' but serves fewer axes"),
        ({"memories__off_chip__operands": ["I1"]}, "operands that end at different memories cannot be expressed"),
        ({"memories__sums__auto_cost_extraction": True}, "'sums': auto_cost_extraction is true: energies from CACTI"),
        ({"memories__sums__r_cost": None}, "'sums' has no r_cost; add the pJ"),
        (
            {"memories__sums__size": 15},
            "size is 15 bits, less than a word of 16; give narrower words with --output-bits",
        ),
        ({"memories__sums__size": "big"}, "memories: 'sums': size is 'big'"),
        ({"memories__sums__operands": ["I3"]}, "operands has 'I3'"),
        ({"memories__sums__ports": [port("w_port_1", "write", 8, "O, fh")]}, "ports: none lets O be read (tl)"),
        ({"memories__sums__ports": [port("r_port_1", "read", 8, "O, xx")]}, "allocation has 'O, xx'"),
        ({"memories__sums__ports": [port("r_port_1", "read", 8, "O, tl", least=9)]}, "bandwidth_min 9 is above"),
        (
            {"memories__sums__ports": [port("r", "read", 8, "O, tl"), port("rw", "read_write", 8, "O, fl")]},
            "such a mixture cannot be expressed",
        ),
        ({"operational_array__sizes": [4]}, "give two lists of one length"),
        ({"operational_array__unit_energy": None}, "has no unit_energy"),
        ({"operational_array__input_precision": [8, 4]}, "two widths of words cannot be expressed"),
        ({"memories": None}, "memories is None"),
    ],
)
def test_what_cannot_be_expressed(tmp_path, changes, part):
    path = written(tmp_path, edited(**changes))
    with pytest.raises(SpecificationError) as error:
        read_zigzag(path)
    assert str(path) in str(error.value)
    assert part in str(error.value)


def test_ports_that_differ_are_said(tmp_path):
    wide = [
        port("r_port_1", "read", 8, "O, tl"),
        port("r_port_2", "read", 32, "O, th"),
        port("w_port_1", "write", 16, "O, fh"),
    ]
    found = read_zigzag(written(tmp_path, edited(memories__sums__ports=wide)), output_bits=8)
    sums = found.accelerators[0].levels[0]
    # 2 pJ for 8 bits at the narrowest; 4 pJ for 16.
    assert dict(sums.action_energies_pj) == {"read": 2.0, "write": 2.0}
    assert sums.read_bandwidth_words_per_cycle == 5.0
    said = [str(each) for each in found.ignored]
    assert any("sums: ports: are of several widths; each read is charged" in each for each in said)
    assert any("sums: ports: several of a kind" in each for each in said)


def test_of_a_key_given_twice_the_last_counts(tmp_path):
    text = yaml.safe_dump(ACCELERATOR, sort_keys=False).replace(
        "  unit_energy: 0.5", "  unit_energy: 9\n  unit_energy: 0.5"
    )
    found = read_zigzag(written(tmp_path, text))
    assert found.accelerators[0].mac.energy_pj == 0.5
    assert any("unit_energy on line" in str(each) and "last one counts" in str(each) for each in found.ignored)


def test_layers(tmp_path):
    found = read_zigzag(written(tmp_path, [*LAYERS, {**LAYERS[0], "id": 9}], "net.yaml"))
    (network,) = found.networks
    assert [(layer.name, layer.repeats) for layer in network.layers] == [("layer0", 2), ("product", 1)]
    window, product = (layer.workload for layer in network.layers)
    expected = conv2d(C=3, M=8, P=6, Q=5, R=3, S=2, stride=2)
    assert dict(zip(window.dims, window.bounds, strict=True)) == dict(zip(expected.dims, expected.bounds, strict=True))
    extents = {"N": 1, "C": 2, "M": 3, "P": 2, "Q": 3, "R": 2, "S": 2}
    for tensor in expected.tensors:
        assert window.tensor(tensor.name).tile_size(extents) == tensor.tile_size(extents)
    assert window.output.name == "Outputs"
    assert product.macs == matmul(M=4, K=5, N=6).macs == 120
    assert product.tensor("Weights").dims == ("K", "N")
    assert any("Add has no multiply-accumulates" in str(each) for each in found.ignored)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ([{**LAYERS[2], "equation": "O[m]=max(I[m])"}], "layer 'product': equation is 'O[m]=max(I[m])'"),
        ([{**LAYERS[2], "loop_sizes": [1]}], "give two lists of one length"),
        ([{**LAYERS[2], "loop_dims": ["M", "K", "X"]}], "unknown dim 'N'"),
        ([{**LAYERS[0], "dimension_relations": ["ix=ox*fx"]}], "dimension_relations has 'ix=ox*fx'"),
        ([LAYERS[1]], "no layer has multiply-accumulates"),
        ([LAYERS[2], {**LAYERS[2], "loop_sizes": [4, 5, 7]}], "two different layers are called 'product'"),
        ([{"name": "default", "spatial_mapping": {"D1": ["K, 4"]}}], "is a mapping for ZigZag"),
        ({"nothing": 1}, "is neither an accelerator for ZigZag"),
        ("a: [", "cut off"),
    ],
)
def test_files_that_are_refused(tmp_path, content, part):
    path = written(tmp_path, content)
    with pytest.raises(SpecificationError) as error:
        read_zigzag([path])
    assert str(path) in str(error.value)
    assert part in str(error.value)


def test_no_files():
    with pytest.raises(SpecificationError, match="name at least one"):
        read_zigzag([])


def test_an_operand_named_twice_counts_once(tmp_path):
    with pytest.raises(SpecificationError, match="operands that end at different memories"):
        read_zigzag(written(tmp_path, edited(memories__off_chip__operands=["I1", "I1", "O"])))
