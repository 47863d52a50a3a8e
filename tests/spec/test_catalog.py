from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from mapgym.errors import SpecificationError
from mapgym.spec import catalog
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.catalog import Network
from mapgym.spec.workload import Workload, conv2d, mttkrp
from places import DOCS

ACCELERATORS = (
    "accel_a accel_a_bw accel_a_sparse accel_a_sparse_md accel_a_w8 accel_b accel_b_2d accel_b_bw accel_b_sparse "
    "accel_b_sparse_md accel_b_w8 eyeriss_like eyeriss_rf simba_like tiny tiny_sparse tiny_sparse_md"
)
NETWORKS = (
    "bert_large llama3_8b_decode llama3_8b_prefill mnasnet mobilenet_v2 paper resnet18 resnet50 toy vgg16 vit_b16"
)

# level: (words, instances X x Y, block, pJ per access of a block), outermost first; then the MACs. The figures are
# those of the reference runs of Timeloop.
FACTS = {
    "accel_a": [
        ("MainMemory", None, (1, 1), 4, 800.0),
        ("GlobalBuffer", 524288, (1, 1), 4, 209.7286432160804),
        ("PrivateBuffer", 65536, (256, 1), 1, 7.407035175879397),
        ("MACC", (256, 1), 16, 1.0),
    ],
    "accel_a_w8": [
        ("MainMemory", None, (1, 1), 8, 800.0),
        ("GlobalBuffer", 524288, (1, 1), 8, 106.8140703517588),
        ("PrivateBuffer", 65536, (256, 1), 1, 2.0954773869346734),
        ("MACC", (256, 1), 8, 0.25),
    ],
    "accel_b": [
        ("MainMemory", None, (1, 1), 4, 800.0),
        ("GlobalBuffer", 65536, (1, 1), 4, 29.628140703517587),
        ("RegisterFile", 256, (256, 1), 1, 1.0),
        ("MACC", (1024, 1), 16, 1.0),
    ],
    "accel_b_w8": [
        ("MainMemory", None, (1, 1), 8, 800.0),
        ("GlobalBuffer", 65536, (1, 1), 8, 16.763819095477388),
        ("RegisterFile", 256, (256, 1), 1, 0.4937185929648241),
        ("MACC", (1024, 1), 8, 0.25),
    ],
    "accel_b_2d": [
        ("MainMemory", None, (1, 1), 4, 800.0),
        ("GlobalBuffer", 65536, (1, 1), 4, 29.628140703517587),
        ("RegisterFile", 256, (16, 16), 1, 1.0),
        ("MACC", (64, 16), 16, 1.0),
    ],
    "eyeriss_like": [
        ("DRAM", None, (1, 1), 4, 800.0),
        ("GLB", 55296, (1, 1), 4, 25.608040201005025),
        ("ifmap_spad", 12, (14, 12), 1, 0.976052135678392),
        ("weights_spad", 224, (14, 12), 1, 0.996859296482412),
        ("psum_spad", 24, (14, 12), 1, 0.9772298994974874),
        ("MACC", (14, 12), 16, 1.0),
    ],
    "eyeriss_rf": [
        ("DRAM", None, (1, 1), 4, 800.0),
        ("GLB", 55296, (1, 1), 4, 25.608040201005025),
        ("RF", 260, (14, 12), 1, 1.0003925879396984),
        ("MACC", (14, 12), 16, 1.0),
    ],
    "simba_like": [
        ("DRAM", None, (1, 1), 8, 800.0),
        ("GlobalBuffer", 65536, (1, 1), 8, 16.763819095477388),
        ("PEBuffer", 43008, (4, 4), 8, 12.341708542713569),
        ("PERegs", 8, (32, 32), 1, 0.4876334798994975),
        ("LMAC", (32, 32), 8, 0.25),
    ],
    "tiny": [
        ("DRAM", None, (1, 1), 1, 200.0),
        ("Buf", 512, (1, 1), 1, 1.0251256281407035),
        ("RF", 64, (2, 2), 1, 0.9811557788944724),
        ("MAC", (4, 2), 16, 1.0),
    ],
}
FACTS["accel_a_bw"], FACTS["accel_b_bw"] = FACTS["accel_a"], FACTS["accel_b"]
FACTS |= {f"{name}_{kind}": FACTS[name] for name in ("accel_a", "accel_b", "tiny") for kind in ("sparse", "sparse_md")}

# Per network: MACs of one inference, and words of the weights of its convolutions and matrix products.
TOTALS = {
    "resnet18": (1_814_073_344, 11_678_912),
    "resnet50": (4_089_184_256, 25_502_912),
    "vgg16": (15_470_264_320, 138_344_128),
    "mobilenet_v2": (300_774_272, 3_469_760),
    "mnasnet": (311_579_072, 3_848_312),
    "vit_b16": (17_563_828_224, 86_292_480),
    "bert_large": (167_504_773_120, 303_038_464),
    "llama3_8b_prefill": (15_393_688_125_440, 7_504_658_432),
    "llama3_8b_decode": (8_041_529_344, 7_504_658_432),
}


def layers(name: str) -> list[tuple[Workload, int]]:
    return [(layer.workload, layer.repeats) for layer in catalog.network(name).layers]


def weight_words(name: str) -> int:
    # The "weights" of a batched product are keys or values: activations, not parameters.
    return sum(count * work.tensor_size("Weights") for work, count in layers(name) if "B" not in work.dims)


def batch_normalisation_and_bias_words(name: str, biased: tuple[str, ...] = ("fc",)) -> int:
    """Parameters beside the weights: scale and shift per channel of a convolution, or the bias of a biased layer."""
    total = 0
    for layer in catalog.network(name).layers:
        bounds = dict(zip(layer.workload.dims, layer.workload.bounds, strict=True))
        each = 1 if layer.name.startswith(biased) else 2
        total += layer.repeats * each * bounds.get("M", bounds["C"])
    return total


def test_names():
    assert catalog.accelerator_names() == tuple(ACCELERATORS.split())
    assert catalog.network_names() == tuple(NETWORKS.split())
    assert "paper/resnet_conv4" in catalog.workload_names()
    assert "resnet18/conv1" in catalog.workload_names()
    assert len(catalog.workload_names()) == len(set(catalog.workload_names()))


@pytest.mark.parametrize("name", catalog.accelerator_names())
def test_accelerator_loads_and_round_trips(name):
    accelerator = catalog.accelerator(name)
    assert accelerator.name == name
    assert Accelerator.from_dict(accelerator.to_dict()) == accelerator
    assert catalog.accelerator(accelerator) is accelerator
    assert catalog.accelerator(name) is accelerator
    assert accelerator.peer_links
    assert accelerator.fanout_check == "per_level"


@pytest.mark.parametrize("name", catalog.network_names())
def test_network_loads_and_its_layers_round_trip(name):
    network = catalog.network(name)
    assert network.name == name
    assert network.description
    assert network.source
    assert catalog.network(network) is network
    for layer in network.layers:
        work = layer.workload
        assert work.name == f"{name}/{layer.name}"
        assert catalog.workload(work.name) is work
        assert catalog.workload(work) is work
        assert Workload.from_dict(work.to_dict()) == work
    shapes = {(layer.workload.dims, layer.workload.bounds, layer.workload.tensors) for layer in network.layers}
    assert len(shapes) == len(network.layers), "a layer is listed twice"


@pytest.mark.parametrize("name", FACTS)
def test_accelerator_facts(name):
    accelerator = catalog.accelerator(name)
    *levels, mac = FACTS[name]
    found = [
        (level.name, level.capacity_words, (level.mesh_x, level.mesh_y), level.block_size_words, level.access_energy_pj)
        for level in reversed(accelerator.levels)
    ]
    assert found == levels
    mac_unit = accelerator.mac
    assert (mac_unit.name, (mac_unit.mesh_x, mac_unit.mesh_y), mac_unit.word_bits, mac_unit.energy_pj) == mac
    assert {level.word_bits for level in accelerator.levels} == {mac_unit.word_bits}


def test_every_accelerator_has_facts():
    assert set(FACTS) == set(catalog.accelerator_names())


@pytest.mark.parametrize("name", catalog.accelerator_names())
def test_energies_follow_the_public_pat_model(name):
    accelerator = catalog.accelerator(name)
    for level in accelerator.levels:
        width_bits = level.word_bits * level.block_size_words
        if level.capacity_words is None:
            expected = 200.0 * width_bits / 16
        else:
            kibibytes = level.capacity_words // level.block_size_words * width_bits / 8192
            expected = width_bits / 16 * (1 + 5 / 99.5 * (kibibytes - 0.5))
        assert level.access_energy_pj == pytest.approx(expected, rel=1e-15), level.name
    assert accelerator.mac.energy_pj == (accelerator.mac.word_bits / 16) ** 2


def test_network_energies_and_bandwidths_and_kept_tensors():
    hops = {
        (name, level.name): (level.energy_per_hop_pj, level.router_energy_pj)
        for name in catalog.accelerator_names()
        for level in catalog.accelerator(name).levels
        if level.energy_per_hop_pj or level.router_energy_pj
    }
    assert hops == {
        ("accel_b_2d", "MainMemory"): (1.0, 0.0),
        ("accel_b_2d", "GlobalBuffer"): (0.12, 0.05),
        ("accel_b_2d", "RegisterFile"): (0.01, 0.0),
        ("eyeriss_like", "GLB"): (0.2, 0.0),
        ("eyeriss_rf", "GLB"): (0.2, 0.1),
        ("simba_like", "GlobalBuffer"): (0.15, 0.0),
        ("simba_like", "PEBuffer"): (0.03, 0.0),
        ("tiny", "Buf"): (1.0, 0.0),
        ("tiny_sparse", "Buf"): (1.0, 0.0),
        ("tiny_sparse_md", "Buf"): (1.0, 0.0),
    }
    limits = {
        (name, level.name): (
            level.read_bandwidth_words_per_cycle,
            level.write_bandwidth_words_per_cycle,
            level.shared_bandwidth_words_per_cycle,
        )
        for name in catalog.accelerator_names()
        for level in catalog.accelerator(name).levels
    }
    assert {key: value for key, value in limits.items() if any(value)} == {
        ("accel_a_bw", "MainMemory"): (None, None, 16),
        ("accel_a_bw", "GlobalBuffer"): (128, 64, None),
        ("accel_a_bw", "PrivateBuffer"): (2, 2, None),
        ("accel_b_bw", "MainMemory"): (16, 16, None),
        ("accel_b_bw", "GlobalBuffer"): (64, 64, None),
        ("accel_b_bw", "RegisterFile"): (8, 4, None),
    }
    kept = {
        (name, level.name): level.keep_only
        for name in catalog.accelerator_names()
        for level in catalog.accelerator(name).levels
        if level.keep_only is not None
    }
    assert kept == {
        ("eyeriss_like", "ifmap_spad"): ("Inputs",),
        ("eyeriss_like", "weights_spad"): ("Weights",),
        ("eyeriss_like", "psum_spad"): ("Outputs",),
    }


@pytest.mark.parametrize("name", TOTALS)
def test_network_totals(name):
    macs, words = TOTALS[name]
    assert catalog.network(name).macs == macs
    assert weight_words(name) == words


# Totals published with the models. What is added to the weights is everything that the catalog leaves out.
@pytest.mark.parametrize(
    ("name", "rest", "published"),
    [
        ("resnet18", batch_normalisation_and_bias_words("resnet18"), 11_689_512),
        ("resnet50", batch_normalisation_and_bias_words("resnet50"), 25_557_032),
        ("vgg16", batch_normalisation_and_bias_words("vgg16", ("conv", "fc")), 138_357_544),
        ("mobilenet_v2", batch_normalisation_and_bias_words("mobilenet_v2"), 3_504_872),
        ("mnasnet", batch_normalisation_and_bias_words("mnasnet", ("fc", "squeeze", "excite")), 3_887_038),
        # Biases of the patch embedding, class token, positions; per block biases and two normalisations; the last
        # normalisation; the bias of the head.
        ("vit_b16", 768 + 768 + 197 * 768 + 12 * (5 * 768 + 3072 + 4 * 768) + 2 * 768 + 1000, 86_567_656),
        # Words, positions and segments with their normalisation; per block biases and two normalisations; the pooler.
        ("bert_large", (30_522 + 512 + 2 + 2) * 1024 + 24 * (5 * 1024 + 4096 + 4 * 1024) + 1024, 335_141_888),
        # The embedding of the words (not shared with the head) and 65 normalisations.
        ("llama3_8b_prefill", 128_256 * 4096 + 65 * 4096, 8_030_261_248),
        ("llama3_8b_decode", 128_256 * 4096 + 65 * 4096, 8_030_261_248),
    ],
)
def test_parameters_add_up_to_the_published_total(name, rest, published):
    assert weight_words(name) + rest == published


def test_convolutions_of_a_chain_fit_each_other():
    # VGG is a plain chain: each layer reads as many channels as the one before it writes.
    chain = [work for work, _ in layers("vgg16") if work.bound("R") == 3]
    for before, after in itertools.pairwise(chain):
        assert after.bound("C") == before.bound("M")
        assert before.bound("P") in (after.bound("P"), 2 * after.bound("P"))


def test_paper_layers():
    conv4 = catalog.workload("paper/resnet_conv4")
    assert dict(zip(conv4.dims, conv4.bounds, strict=True)) == {
        "N": 16, "C": 256, "M": 256, "P": 14, "Q": 14, "R": 3, "S": 3,
    }  # fmt: skip
    fully_connected = catalog.workload("paper/bert_fc")
    assert dict(zip(fully_connected.dims, fully_connected.bounds, strict=True)) == {
        "N": 16, "C": 1024, "M": 4096, "P": 512, "Q": 1, "R": 1, "S": 1,
    }  # fmt: skip
    attention = catalog.workload("paper/bert_attn")
    assert dict(zip(attention.dims, attention.bounds, strict=True)) == {"B": 16, "M": 512, "K": 1024, "N": 512}
    assert {layer.repeats for layer in catalog.network("paper").layers} == {1}


def test_toy_layers_cover_stride_and_dilation():
    strided, dilated = catalog.workload("toy/tiny_conv_s2"), catalog.workload("toy/tiny_conv_d2")
    assert strided.tensor_size("Inputs") == 2 * 2 * 9 * 9
    assert dilated.tensor_size("Inputs") == 2 * 10 * 8


def test_dict_and_file_name_the_same_thing(tmp_path: Path):
    plain = {"name": "mine", "type": "conv2d", "C": 8, "M": 8, "P": 7, "Q": 7, "R": 3, "S": 3, "stride": [2, 1]}
    expected = conv2d("mine", C=8, M=8, P=7, Q=7, R=3, S=3, stride=(2, 1))
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(plain), encoding="utf-8")
    assert catalog.workload(plain) == expected
    assert catalog.workload(file) == expected
    assert catalog.workload(str(file)) == expected
    machine = catalog.accelerator("eyeriss_like")
    file = tmp_path / "machine.yml"
    file.write_text(yaml.safe_dump(machine.to_dict()), encoding="utf-8")
    assert catalog.accelerator(file) == machine


def test_a_file_without_a_name_is_called_as_the_file(tmp_path: Path):
    file = tmp_path / "decomposition.yaml"
    file.write_text("{type: mttkrp, I: 8, J: 4, K: 6, L: 5}\n", encoding="utf-8")
    assert catalog.workload(file) == mttkrp("decomposition", I=8, J=4, K=6, L=5)


def test_a_network_file_of_ones_own(tmp_path: Path):
    file = tmp_path / "net.yaml"
    file.write_text(
        "layers:\n  a: {type: matmul, M: 4, K: 8, N: 2, repeats: 3}\n  b: {type: mttkrp, I: 2, J: 2, K: 2, L: 2}\n",
        encoding="utf-8",
    )
    network = catalog.network(file)
    assert [(layer.name, layer.repeats) for layer in network.layers] == [("a", 3), ("b", 1)]
    assert network.macs == 3 * 64 + 16
    assert catalog.workload(f"{file}:b") == mttkrp("net/b", I=2, J=2, K=2, L=2)
    with pytest.raises(SpecificationError, match=r"is a network of 2 layers, not one workload; .*net\.yaml:a'"):
        catalog.workload(file)
    with pytest.raises(SpecificationError, match=r"net\.yaml: network 'net' has no layer 'c'"):
        catalog.workload(f"{file}:c")


def test_numbers_are_read_as_people_write_them(tmp_path: Path):
    file = tmp_path / "machine.yaml"
    file.write_text(
        "levels: [{name: no, capacity_words: 010, energy_per_hop_pj: 1e-3, access_energy_pj: +2}]\n"
        "mac: {name: 1:30, mesh_x: 1, energy_pj: 2.5E2}\n",
        encoding="utf-8",
    )
    machine = catalog.accelerator(file)
    assert machine.levels[0].name == "no"
    assert machine.mac.name == "1:30"
    assert machine.levels[0].capacity_words == 10
    assert math.isclose(machine.levels[0].energy_per_hop_pj, 0.001)
    assert machine.mac.energy_pj == 250.0


def test_network_dict():
    network = catalog.network({"name": "n", "layers": {"a": {"type": "matmul", "M": 2, "K": 2, "N": 2}}})
    assert isinstance(network, Network)
    assert network.layer("a").workload.name == "n/a"
    with pytest.raises(SpecificationError, match="has no layer 'b'"):
        network.layer("b")


def test_examples_of_the_documentation_run(tmp_path: Path, monkeypatch):
    page = (DOCS / "catalog.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    for language, text in blocks:
        if language == "yaml":
            Path(text.split("\n")[0].removeprefix("# ")).write_text(text, encoding="utf-8")
        elif language == "python":
            exec(text, names)
    assert {"sequence", "machine"} <= names.keys()
    assert catalog.workload("strided.yaml").tensor("Weights").density == 0.3


@pytest.mark.parametrize("name", catalog.network_names())
def test_the_documentation_counts_the_layers_right(name):
    page = (DOCS / "catalog.md").read_text(encoding="utf-8")
    row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
    _, _, _, count, distinct, _, _, _ = (cell.strip() for cell in row.split("|"))
    assert int(count) == sum(repeats for _, repeats in layers(name))
    assert int(distinct) == len(layers(name))


class TestToldApart:
    def test_variants_of_one_name_are_called_after_their_files(self):
        first = catalog.accelerator("tiny")
        second, third = replace(first, peer_links=False), replace(first, mac=replace(first.mac, energy_pj=3.0))
        specs = ["tiny", "small/cheap.yaml", {"name": "tiny"}]
        names = [machine.name for machine in catalog.told_apart([first, second, third], specs)]
        assert names == ["tiny", "tiny (cheap)", "tiny (2)"]

    def test_the_same_twice_is_the_same(self):
        machine, other = catalog.accelerator("tiny"), catalog.accelerator("accel_b")
        assert catalog.told_apart([machine, other, machine], ["tiny", "b.yaml", "c.yaml"]) == [machine, other, machine]
