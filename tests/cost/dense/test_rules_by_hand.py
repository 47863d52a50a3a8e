"""Where the versions of Timeloop differ: tiny cases under each set of rules, worked out on paper."""

from __future__ import annotations

import pytest

from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.tensor import Tensor
from mapgym.spec.workload import Workload, matmul
from tiny_hardware import DRAM, GEMM, RF, accelerator, counts, price

TODAY, OF_2023, OF_2022 = "timeloop-2025", "timeloop-3.0.3", "timeloop-2022"
ALL = pytest.mark.parametrize("rules", [TODAY, OF_2023, OF_2022])
BUFFER = 1


def three_levels(rules: str, **buffer) -> Accelerator:
    """As the tiny hardware, with a buffer (10 pJ a word) between one register file and DRAM."""
    levels = (
        StorageLevel("RF", 64, access_energy_pj=1.0),
        StorageLevel("Buffer", 1024, access_energy_pj=10.0, **buffer),
        StorageLevel("DRAM", access_energy_pj=100.0),
    )
    # Only the cumulative check, that of Timeloop itself, lets the outermost level be bypassed.
    return Accelerator("three levels", levels, Mac(energy_pj=0.5), fanout_check="cumulative", rules=rules)


@ALL
def test_partial_sums_are_filled_in_only_if_they_come_back(rules):
    # RF has a row of 2 sums; K runs outside M, so each of the 8 sums comes by 3 times: 24 words, of which 8 are new.
    # In 2022 the register file was charged for all of them, though DRAM did not send the new ones.
    cost = price(
        GEMM,
        accelerator(rules=rules),
        {"level": "DRAM", "temporal": {"K": 3, "M": 4}, "order": ["M", "K"]},
        {"level": "RF", "temporal": {"N": 2}},
    )
    assert counts(cost, "fills", RF) == [6, 12, 24 if rules == OF_2022 else 16]
    assert counts(cost, "reads", DRAM)[2] == 16
    # A register-file access is 1 pJ: 6 + 12 and the sums' fills, 24 + 24 + 16 reads, 24 updates.
    fills = 24 if rules == OF_2022 else 16
    assert sum(counts(cost, "energy_pj", RF)) == 18 + fills + 64 + 24


GEMM_LOOPS = (
    {"level": "Buffer", "temporal": {"K": 3, "M": 4}, "order": ["M", "K"]},
    {"level": "RF", "temporal": {"N": 2}},
)


@ALL
@pytest.mark.parametrize("kept_outside", [True, False])
def test_the_outermost_level_that_keeps_the_output_gets_no_fills(rules, kept_outside):
    buffer, register_file = GEMM_LOOPS
    dram = {"level": "DRAM", "keep": ["Weights", "Inputs", "Outputs"][: 3 if kept_outside else 2]}
    cost = price(GEMM, three_levels(rules), dram, buffer, register_file)
    # RF as above, whatever is outside of the buffer.
    assert counts(cost, "fills", RF)[2] == (24 if rules == OF_2022 else 16)
    # The buffer has all 8 sums: DRAM would send them once, for their first visit; without DRAM nobody sends any.
    assert counts(cost, "fills", BUFFER)[2] == (8 if rules == OF_2022 and kept_outside else 0)
    assert counts(cost, "updates", BUFFER)[2] == 24
    assert counts(cost, "reads", BUFFER)[2] == 24 - 8
    assert counts(cost, "updates", 2)[2] == (8 if kept_outside else 0)


@ALL
def test_fills_are_elided_across_a_bypassed_level(rules):
    buffer, register_file = GEMM_LOOPS
    cost = price(GEMM, three_levels(rules), {"level": "DRAM"}, buffer | {"keep": ["Weights"]}, register_file)
    assert counts(cost, "fills", RF)[2] == (24 if rules == OF_2022 else 16)
    assert counts(cost, "fills", BUFFER)[2] == 0
    assert counts(cost, "updates", 2)[2] == 24
    assert counts(cost, "reads", 2)[2] == 16


# Outputs[M, P] += Weights[M, R] * Inputs[P+R]
FILTERS = Workload(
    "filters",
    ("M", "P", "R"),
    (2, 6, 3),
    (
        Tensor("Weights", ((("M", 1),), (("R", 1),))),
        Tensor("Inputs", ((("P", 1), ("R", 1)),)),
        Tensor("Outputs", ((("M", 1),), (("P", 1),)), is_output=True),
    ),
)


@ALL
def test_the_halo_survives_a_loop_in_which_the_tile_stands_still(rules):
    # Tile: P=2, R=3, so 4 inputs. At DRAM M, which inputs do not depend on, runs inside P, which slides by 2.
    cost = price(
        FILTERS,
        accelerator(rules=rules),
        {"level": "DRAM", "temporal": {"M": 2, "P": 3}, "order": ["M", "P", "R"]},
        {"level": "RF", "temporal": {"P": 2, "R": 3}},
    )
    # 4 words, then 2 new ones at each of 2 steps of P. Before 2025 the tile had "moved by 0" just before, which
    # differs from 2, so that it was sent whole.
    assert counts(cost, "fills", RF)[1] == (4 + 2 * 2 if rules == TODAY else 3 * 4)
    assert counts(cost, "reads", DRAM)[1] == counts(cost, "fills", RF)[1]


@ALL
def test_an_outer_step_that_makes_up_for_an_inner_one_is_free_today(rules):
    # Tile: 1 input. P=4 runs inside R=3, both by 1: at a step of R the analysis sees P go back by 1 and R forth by 1.
    workload = Workload("window", ("P", "R"), (4, 3), tuple(tensor_without_m(tensor) for tensor in FILTERS.tensors))
    cost = price(
        workload,
        accelerator(rules=rules),
        {"level": "DRAM", "temporal": {"P": 4, "R": 3}, "order": ["P", "R"]},
        {"level": "RF"},
    )
    # 1 word, 3 * 3 steps of P. The 2 steps of R differed from the last one before 2025.
    assert counts(cost, "fills", RF)[1] == (10 if rules == TODAY else 12)


def tensor_without_m(tensor: Tensor) -> Tensor:
    return Tensor(tensor.name, tuple(rank for rank in tensor.ranks if rank[0][0] != "M"), tensor.is_output)


def row_hops(rules: str, mesh_x: int, mesh_y: int, **spatial) -> list[float]:
    """Hops of weights, inputs and outputs below DRAM, of M=4 or less on a mesh of register files, K=1."""
    cost = price(
        matmul(M=4, K=1, N=1),
        accelerator(
            rf={"mesh_x": mesh_x, "mesh_y": mesh_y},
            mac={"mesh_x": mesh_x, "mesh_y": mesh_y},
            dram={"energy_per_hop_pj": 2.0},
            peer_links=False,
            rules=rules,
        ),
        {"level": "DRAM", **spatial},
        {
            "level": "RF",
            "temporal": {"M": 4 // max(spatial["spatial_x"].get("M", 1), spatial["spatial_y"].get("M", 1))},
        },
    )
    hops = counts(cost, "hops", DRAM)
    assert counts(cost, "network_energy_pj", DRAM) == pytest.approx([2 * hop for hop in hops])
    return hops


@pytest.mark.parametrize("rules", [TODAY, OF_2023])
def test_hops_along_a_row(rules):
    # The weight goes on to the last of 4 register files: 3. Inputs and outputs go 0, 1, 2, 3.
    assert row_hops(rules, 4, 1, spatial_x={"M": 4}, spatial_y={}) == [3, 6, 6]
    # The row is not in use from end to end: 2 register files, with 2 inputs and 2 outputs each.
    assert row_hops(rules, 4, 1, spatial_x={"M": 2}, spatial_y={}) == [1, 2, 2]


@pytest.mark.parametrize("rules", [TODAY, OF_2023])
def test_hops_along_a_column(rules):
    # Words enter at the middle of 4 rows, at 1.5: the weight goes up 1.5 and down 1.5; the others 1.5, 0.5, 0.5, 1.5.
    assert row_hops(rules, 1, 4, spatial_x={}, spatial_y={"M": 4}) == [3, 4, 4]
    # 2 of 4 rows: 0 and 1. The weight goes to row 0, by way of row 1: 1.5. 2 inputs go to each: 2 * (1.5 + 0.5).
    assert row_hops(rules, 1, 4, spatial_x={}, spatial_y={"M": 2}) == [1.5, 4, 4]


@pytest.mark.parametrize("rules", [TODAY, OF_2023])
def test_there_is_no_way_to_a_single_instance(rules):
    assert row_hops(rules, 4, 1, spatial_x={}, spatial_y={}) == [0, 0, 0]


def test_hops_were_estimated_in_2022():
    # To m of n instances: sqrt(n)*sqrt(m) + (sqrt(n)-sqrt(m))/2 - sqrt(n)/sqrt(m) + 1/2 hops. 1 weight to 4 of 4:
    # 4 + 0 - 1 + 0.5; 4 inputs to 1 of 4: 2 + 0.5 - 2 + 0.5 each.
    assert row_hops(OF_2022, 4, 1, spatial_x={"M": 4}, spatial_y={}) == pytest.approx([3.5, 4, 4])
    # 1 of 1: 1 + 0 - 1 + 0.5.
    assert row_hops(OF_2022, 4, 1, spatial_x={}, spatial_y={}) == pytest.approx([0.5, 2, 2])


def test_rows_in_use_are_not_rows_of_a_wider_grid():
    # M=2 on X and N=2 on Y of a mesh of 4 x 2: the 4 register files that are in use are numbered, and number 2 stands
    # in column 2 of the same row, not in column 0 of the next one. Words enter half a row below.
    cost = price(
        matmul(M=2, K=1, N=2),
        accelerator(dram={"energy_per_hop_pj": 1.0}, peer_links=False),
        {"level": "DRAM", "spatial_x": {"M": 2}, "spatial_y": {"N": 2}},
        {"level": "RF"},
    )
    # Weight 0 goes to columns 0 and 1: 1 + 2/2; weight 1 to 2 and 3: 3 + 2/2. Input 0 goes to 0 and 2, input 1 to 1 and
    # 3: 2 + 1 and 3 + 1. Outputs: 0 + 1 + 2 + 3 + 4/2.
    assert counts(cost, "hops", DRAM) == [6, 7, 8]


def test_routers_are_counted_by_whole_hops_of_a_word_on_average():
    # The 4 inputs go 6 hops, 1.5 each: 1 + 1 routers a word; the weight passes 1 + 3.
    network = {"energy_per_hop_pj": 1.0, "router_energy_pj": 10.0}
    cost = price(
        matmul(M=4, K=1, N=1),
        accelerator(rf={"mesh_y": 1}, mac={"mesh_y": 1}, dram=network, peer_links=False),
        {"level": "DRAM", "spatial_x": {"M": 4}},
        {"level": "RF"},
    )
    assert counts(cost, "network_energy_pj", DRAM) == [3 + 10 * 4, 6 + 10 * 8, 6 + 10 * 8]


def test_hops_stay_those_of_the_level_that_is_bypassed():
    # Two register files with half of M each, on a row. They need 6 weights, the same ones: 1 hop each.
    levels = {"level": "DRAM", "spatial_x": {"M": 2}}, {"level": "RF", "temporal": {"M": 2, "K": 3, "N": 2}}
    network = {"energy_per_hop_pj": 1.0, "router_energy_pj": 10.0}
    hardware = accelerator(rf={"mesh_y": 1}, mac={"mesh_y": 1}, dram=network, peer_links=False)
    cost = price(GEMM, hardware, *levels)
    assert counts(cost, "ingresses", DRAM)[0] == 6
    assert counts(cost, "network_energy_pj", DRAM)[0] == 6 + 10 * 2 * 6
    # If they do not keep them, the MACs need 12 in time, but Timeloop goes on with 6 hops, half a hop a word.
    bypassed = price(GEMM, hardware, levels[0], levels[1] | {"keep": ["Inputs", "Outputs"]})
    assert counts(bypassed, "ingresses", DRAM)[0] == 12
    assert counts(bypassed, "hops", DRAM)[0] == 6
    assert counts(bypassed, "network_energy_pj", DRAM)[0] == 6 + 10 * 12


@ALL
def test_words_pay_to_enter_a_network_since_2023(rules):
    cost = price(
        GEMM,
        accelerator(dram={"energy_per_ingress_pj": 2.0}, rules=rules),
        {"level": "DRAM"},
        {"level": "RF", "temporal": {"M": 4, "K": 3, "N": 2}},
    )
    # 6 weights, 12 inputs, 8 outputs: one way only, since they are new.
    assert counts(cost, "network_energy_pj", DRAM) == ([0, 0, 0] if rules == OF_2022 else [12, 24, 16])


LEAKING = {"level": "DRAM", "spatial_x": {"M": 2}}, {"level": "RF", "temporal": {"M": 2, "K": 3, "N": 2}}


@ALL
def test_instances_in_use_leak_today(rules):
    table = {"action_energies_pj": (("leak", 0.5),)}
    cost = price(GEMM, accelerator(rf=table, dram=table, rules=rules), *LEAKING)
    # 12 cycles: 2 register files of 8, one DRAM.
    leakage = [0.5 * 2 * 12, 0.5 * 12] if rules == TODAY else [0, 0]
    assert cost.detail.leakage_energy_pj.tolist() == leakage
    without = price(GEMM, accelerator(rules=rules), *LEAKING)
    assert cost.energy_pj == pytest.approx(without.energy_pj + sum(leakage))


@pytest.mark.parametrize(("gate", "instances"), [("RF", 2), ("DRAM", 8)])
def test_instances_that_are_switched_on_together_leak_together(gate, instances):
    # All 8 register files are switched by the one DRAM.
    hardware = accelerator(rf={"action_energies_pj": (("leak", 0.5),), "power_gated_at": gate})
    cost = price(GEMM, hardware, *LEAKING)
    assert cost.detail.leakage_energy_pj.tolist() == [0.5 * instances * 12, 0]


def test_only_the_gates_in_use_are_on():
    # 8 register files below 2 buffers; one buffer is in use, with 2 of its 4 register files. 4 are on.
    levels = (
        StorageLevel("RF", 64, 8, action_energies_pj=(("leak", 0.5),), power_gated_at="Buffer"),
        StorageLevel("Buffer", 1024, 2, action_energies_pj=(("leak", 3.0),)),
        StorageLevel("DRAM"),
    )
    hardware = Accelerator("gated", levels, Mac(mesh_x=8))
    buffer = {"level": "Buffer", "spatial_x": {"M": 2}}
    cost = price(GEMM, hardware, {"level": "DRAM"}, buffer, LEAKING[1])
    assert cost.detail.leakage_energy_pj.tolist() == [0.5 * 4 * 12, 3.0 * 12, 0]


def test_scarce_bandwidth_makes_all_levels_leak_longer():
    # DRAM moves 26 words, at half a word a cycle: 52 cycles.
    hardware = accelerator(rf={"action_energies_pj": (("leak", 0.5),)}, dram={"shared_bandwidth_words_per_cycle": 0.5})
    cost = price(GEMM, hardware, *LEAKING)
    assert cost.latency_cycles == 52
    assert cost.detail.leakage_energy_pj.tolist() == [0.5 * 2 * 52, 0]


@ALL
def test_bandwidth_is_scaled_by_tensor_today(rules):
    # The register file reads 24 weights, 24 inputs and 16 outputs, one a cycle. A quarter and a half of them: 34.
    scale = (("Weights", 0.25), ("Inputs", 0.5))
    cost = price(
        GEMM,
        accelerator(rf={"read_bandwidth_words_per_cycle": 1.0, "bandwidth_scale": scale}, rules=rules),
        {"level": "DRAM"},
        {"level": "RF", "temporal": {"M": 4, "K": 3, "N": 2}},
    )
    assert cost.latency_cycles == (34 if rules == TODAY else 64)
    assert counts(cost, "reads", RF) == [24, 24, 16]


@pytest.mark.parametrize(
    ("table", "rules", "energies"),
    [
        # Read, fill, update. Fills and updates are writes if nothing else is said.
        ({"read": 2.0, "write": 3.0}, TODAY, (2.0, 3.0, 3.0)),
        ({"read": 2.0, "write": 3.0, "fill": 7.0}, TODAY, (2.0, 7.0, 3.0)),
        ({"read": 2.0, "write": 3.0, "fill": 7.0}, OF_2023, (2.0, 3.0, 3.0)),
        ({"read": 2.0, "random_read": 4.0, "random_write": 5.0, "fill": 7.0, "update": 8.0}, TODAY, (4.0, 5.0, 5.0)),
        ({"random_fill": 6.0, "update": 8.0}, TODAY, (1.0, 6.0, 8.0)),
        ({"random_fill": 6.0, "write": 8.0}, OF_2023, (1.0, 6.0, 6.0)),
        # In 2022 no table reached storage.
        ({"read": 2.0, "write": 3.0, "fill": 7.0}, OF_2022, (1.0, 1.0, 1.0)),
        ({"leak": 0.0}, TODAY, (1.0, 1.0, 1.0)),
    ],
)
def test_the_most_particular_name_of_an_action_counts(table, rules, energies):
    cost = price(
        GEMM,
        accelerator(rf={"action_energies_pj": tuple(table.items()), "block_size_words": 8}, rules=rules),
        {"level": "DRAM"},
        {"level": "RF", "temporal": {"M": 4, "K": 3, "N": 2}},
    )
    read, fill, update = energies
    # Blocks of 8: weights 24 reads and 6 fills, inputs 24 and 12, outputs 16 reads and 24 updates (2022: 8 fills).
    outputs = 2 * read + 3 * update + (fill if rules == OF_2022 else 0)
    assert counts(cost, "energy_pj", RF) == [3 * read + fill, 3 * read + 2 * fill, outputs]


@pytest.mark.parametrize(("table", "energy"), [({}, 0.5), ({"mac": 2.0}, 2.0), ({"mac": 2.0, "mac_random": 3.0}, 3.0)])
def test_a_table_names_the_energy_of_the_macs(table, energy):
    levels = {"level": "DRAM"}, {"level": "RF", "temporal": {"M": 4, "K": 3, "N": 2}}
    cost = price(GEMM, accelerator(mac={"action_energies_pj": tuple(table.items())}), *levels)
    assert cost.energy_pj == pytest.approx(106 + 2600 + 24 * energy)
