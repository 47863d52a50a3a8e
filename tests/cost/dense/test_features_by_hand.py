"""Features of hardware that few accelerators have: tiny cases worked out on paper."""

from __future__ import annotations

import pytest

from tiny_hardware import DRAM, GEMM, RF, accelerator, counts, price

INSIDE = {"level": "DRAM"}, {"level": "RF", "temporal": {"M": 4, "K": 3, "N": 2}}
PARALLEL = {"level": "DRAM", "spatial_x": {"M": 4}}, {"level": "RF", "temporal": {"K": 3, "N": 2}}


def test_a_cluster_is_charged_once():
    # 8 register files in clusters of 4, which are taken for in use evenly: 4 of them are in 2 clusters, 1 is in 1.
    hardware = accelerator(rf={"cluster_size": 4})
    cost = price(GEMM, hardware, *PARALLEL)
    assert cost.detail.used_instances.tolist() == [4, 1]
    assert cost.detail.used_clusters.tolist() == [2, 1]
    # Weights 6 fills and 6 reads, inputs 3 and 6, outputs 6 updates and 6 - 2 reads, per instance.
    assert counts(cost, "energy_pj", RF) == [2 * 12, 2 * 9, 2 * 10]
    cost = price(GEMM, hardware, *INSIDE)
    assert cost.detail.used_clusters.tolist() == [1, 1]
    assert counts(cost, "energy_pj", RF) == [30, 36, 40]


def test_every_access_to_a_word_needs_an_address():
    # Blocks do not matter. Operands: 24 + 6 and 24 + 12 reads and fills; outputs: 24 updates, no fills, and their reads
    # have the addresses of the updates.
    cost = price(GEMM, accelerator(rf={"address_energy_pj": 0.25, "block_size_words": 8}), *INSIDE)
    assert counts(cost, "address_energy_pj", RF) == [7.5, 9.0, 6.0]
    assert counts(cost, "energy_pj", RF) == [3 + 1, 3 + 2, 2 + 3]
    # Register file 4 + 5 + 5, memory 2600, MACs 12 and addresses 22.5 pJ. In 2022: 8 fills more, a block.
    assert cost.energy_pj == pytest.approx(4 + 5 + 5 + 2600 + 12 + 22.5)
    cost = price(GEMM, accelerator(rf={"address_energy_pj": 0.25}, rules="timeloop-2022"), *INSIDE)
    assert counts(cost, "address_energy_pj", RF) == [7.5, 9.0, 8.0]


def test_addresses_are_made_for_a_cluster():
    cost = price(GEMM, accelerator(rf={"address_energy_pj": 1.0, "cluster_size": 4}), *PARALLEL)
    assert counts(cost, "address_energy_pj", RF) == [2 * 12, 2 * 9, 2 * 6]


def test_wires_are_charged_by_length():
    # 16 bits, 0.5 mm, 0.1 pJ per bit and mm: 0.8 pJ a hop. 6 weights go 3 hops; 3 inputs go 0, 1, 2 and 3, and so do 2
    # outputs.
    wires = {"wire_energy_pj_per_bit_mm": 0.1, "tile_width_um": 500.0}
    flat = {"mesh_y": 1}
    cost = price(GEMM, accelerator(rf=flat, mac=flat, dram=wires, peer_links=False), *PARALLEL)
    assert counts(cost, "hops", DRAM) == [18, 18, 12]
    assert counts(cost, "network_energy_pj", DRAM) == pytest.approx([0.8 * 18, 0.8 * 18, 0.8 * 12])


@pytest.mark.parametrize(
    ("parts", "legal"),
    [(1.0, True), (2.0, True), (2.4, True), (2.5, False), (3.0, False)],  # 64, 32, 26, 25, 21 words
)
def test_one_of_several_buffers_holds_the_tiles(parts, legal):
    cost = price(GEMM, accelerator(rf={"multiple_buffering": parts}), *INSIDE)  # 26 words
    assert cost.legal == legal


@pytest.mark.parametrize(
    ("share", "legal"),
    [
        (0.0, True),
        (0.4, True),  # 25.6 of 64 words
        pytest.param(0.41, False, marks=pytest.mark.xfail(reason="the kernel does not look at it yet")),  # 26.24
    ],
)
def test_a_level_has_to_be_filled_to_a_part(share, legal):
    cost = price(GEMM, accelerator(rf={"minimum_utilization": share}), *INSIDE)
    assert cost.legal == legal


def test_without_multicast_each_instance_gets_its_own_words():
    flat = {"mesh_y": 1}
    dram = {"no_multicast": ("Weights", "Outputs"), "energy_per_hop_pj": 1.0}
    cost = price(GEMM, accelerator(rf=flat, mac=flat, dram=dram, peer_links=False), *PARALLEL)
    # 4 times the 6 weights, to places 0, 1, 2 and 3. Register files get the same as before.
    assert counts(cost, "reads", DRAM) == [24, 12, 0]
    assert counts(cost, "fills", RF) == [6, 3, 0]
    assert counts(cost, "multicast", DRAM) == [1, 1, 1]
    assert counts(cost, "hops", DRAM) == [6 * 6, 3 * 6, 2 * 6]


def test_without_multicast_partial_sums_come_one_by_one():
    # K=3 in parallel: each of 8 sums is added up from 3 register files on its way, or comes in 3 parts.
    levels = {"level": "DRAM", "spatial_x": {"K": 3}}, {"level": "RF", "temporal": {"M": 4, "N": 2}}
    cost = price(GEMM, accelerator(), *levels)
    assert counts(cost, "updates", DRAM)[2] == 8
    assert counts(cost, "spatial_reductions", DRAM)[2] == 16
    cost = price(GEMM, accelerator(dram={"no_multicast": ("Outputs",)}), *levels)
    assert counts(cost, "updates", DRAM)[2] == 24
    assert counts(cost, "reads", DRAM)[2] == 24 - 8
    assert counts(cost, "spatial_reductions", DRAM)[2] == 0


def test_without_temporal_reuse_a_tile_comes_again_at_each_step():
    # 2 weights stay while M=4 runs at DRAM inside K=3: 3 tiles, or one at each of 12 steps.
    levels = {"level": "DRAM", "temporal": {"K": 3, "M": 4}, "order": ["M", "K"]}, {"level": "RF", "temporal": {"N": 2}}
    assert counts(price(GEMM, accelerator(), *levels), "fills", RF) == [6, 12, 16]
    cost = price(GEMM, accelerator(rf={"no_temporal_reuse": ("Weights",)}), *levels)
    assert counts(cost, "fills", RF) == [24, 12, 16]
    assert counts(cost, "reads", DRAM) == [24, 12, 16]
    # At the outermost level it says nothing.
    cost = price(GEMM, accelerator(dram={"no_temporal_reuse": ("Weights",)}), *levels)
    assert counts(cost, "reads", DRAM) == [6, 12, 16]
