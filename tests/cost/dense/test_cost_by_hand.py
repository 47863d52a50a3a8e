"""Tiny cases whose every figure is worked out on paper, in the comments, from the rules of today alone."""

from __future__ import annotations

import pytest

from mapgym.spec.accelerator import Accelerator
from mapgym.spec.tensor import Tensor
from mapgym.spec.workload import Workload, matmul
from tiny_hardware import DRAM, GEMM, RF, accelerator, counts, price


def test_gemm_in_one_register_file():
    # Everything in one tile: 3*2 weights, 4*3 inputs, 4*2 outputs = 26 words; 24 MACs, one a cycle.
    cost = price(
        GEMM,
        accelerator(),
        {"level": "DRAM"},
        {"level": "RF", "temporal": {"M": 4, "K": 3, "N": 2}},
    )
    assert counts(cost, "tile_words", RF) == [6, 12, 8]
    # Each word crosses from DRAM once; each MAC reads its operands and the partial sum, and writes it back.
    # The sums are new in the register file: nothing is there to fill it with.
    assert counts(cost, "fills", RF) == [6, 12, 0]
    # The first of the 3 additions to each of the 8 sums needs no read: 24 - 8.
    assert counts(cost, "reads", RF) == [24, 24, 16]
    assert counts(cost, "updates", RF) == [0, 0, 24]
    # DRAM sends 6 and 12 words; it receives 8 sums that it need not have read before.
    assert counts(cost, "reads", DRAM) == [6, 12, 0]
    assert counts(cost, "updates", DRAM) == [0, 0, 8]
    assert counts(cost, "fills", DRAM) == [0, 0, 0]
    # Outputs at DRAM travel both ways but for the first visit: 2*8 - 8.
    assert counts(cost, "ingresses", DRAM) == [6, 12, 8]
    assert cost.latency_cycles == 24
    # RF: 6+12 fills, 24+24+16 reads, 24 updates = 106 pJ; DRAM: 26 words = 2600 pJ; MACs: 24 * 0.5 = 12 pJ.
    assert cost.energy_pj == pytest.approx(106 + 2600 + 12)
    assert cost.edp == pytest.approx(24 * 2718)
    assert cost.utilization == pytest.approx(24 / (8 * 24))


def test_gemm_output_partial_sums_travel_when_the_reduction_is_outside():
    # RF holds one row of 2 outputs; K runs outside M, so each of the 8 sums comes by 3 times.
    cost = price(
        GEMM,
        accelerator(),
        {"level": "DRAM", "temporal": {"K": 3, "M": 4}, "order": ["M", "K"]},
        {"level": "RF", "temporal": {"N": 2}},
    )
    # Weights (2 words) stay while M runs: 3 tiles. Inputs (1 word) and outputs (2 words) change 12 times; 8 words of
    # the outputs' 24 are new.
    assert counts(cost, "fills", RF) == [6, 12, 24 - 8]
    assert counts(cost, "reads", DRAM) == [6, 12, 24 - 8]
    assert counts(cost, "updates", DRAM) == [0, 0, 24]
    # The register file is responsible for all 8 sums, too: 24 updates, 24 - 8 reads.
    assert counts(cost, "partition_words", RF) == [6, 12, 8]
    assert counts(cost, "reads", RF) == [24, 24, 16]
    # Both ways, first visits excepted: 2*24 - 8.
    assert counts(cost, "ingresses", DRAM) == [6, 12, 40]


# Outputs[P] += Weights[R] * Inputs[P+R]
CONVOLUTION = Workload(
    "convolution",
    ("P", "R"),
    (6, 3),
    (
        Tensor("Weights", ((("R", 1),),)),
        Tensor("Inputs", ((("P", 1), ("R", 1)),)),
        Tensor("Outputs", ((("P", 1),),), is_output=True),
    ),
)


def test_convolution_halo_is_reused_when_the_sliding_loop_is_innermost():
    # Tile: P=2, R=3, so 3 weights, 2+3-1 = 4 inputs, 2 outputs. P slides by 2 at DRAM, 3 tiles.
    cost = price(
        CONVOLUTION,
        accelerator(),
        {"level": "DRAM", "temporal": {"P": 3}},
        {"level": "RF", "temporal": {"P": 2, "R": 3}},
    )
    # Weights stay. Inputs: a whole tile, then 2 new words per step: 4 + 2*2 = 8, all there are. Outputs are new.
    assert counts(cost, "fills", RF) == [3, 8, 0]
    assert counts(cost, "reads", DRAM) == [3, 8, 0]
    # The inputs' partition is the tensor, 6+3-1 = 8 words.
    assert counts(cost, "partition_words", RF) == [3, 8, 6]
    assert cost.latency_cycles == 18


def test_convolution_analysis_extrapolates_from_the_first_iterations():
    # R=3 inside P=3 at DRAM. Tile: P=2, R=1, so 1 weight, 2 inputs, 2 outputs.
    cost = price(
        CONVOLUTION,
        accelerator(),
        {"level": "DRAM", "temporal": {"R": 3, "P": 3}, "order": ["R", "P"]},
        {"level": "RF", "temporal": {"P": 2}},
    )
    # Inputs: R slides by 1: 2 words, then 2 steps of 1 new word = 4 in each run over R. Between the runs, the analysis
    # sees a move of 2 - 1 = 1 (R at iteration 1, not 2): the same as a step of R, so it too needs 1 word only.
    # Full tile 2 + 8 more steps of 1 = 10.
    assert counts(cost, "fills", RF)[1] == 10
    # Weights: a new one at each of 9 steps. Outputs: stay during R, 3 new tiles of 2, which need no fill.
    assert counts(cost, "fills", RF) == [9, 10, 0]
    assert counts(cost, "updates", DRAM) == [0, 0, 6]


def test_convolution_steps_that_differ_load_the_whole_tile():
    # P=3 inside R=3 at DRAM, tile P=2: P slides by 2 = the tile's length, so every step loads 2 inputs: 9 * 2.
    cost = price(
        CONVOLUTION,
        accelerator(),
        {"level": "DRAM", "temporal": {"P": 3, "R": 3}, "order": ["P", "R"]},
        {"level": "RF", "temporal": {"P": 2}},
    )
    # Weights stay during P: 3 words. Outputs change at every step, 9 * 2 words; the first 6 are new.
    assert counts(cost, "fills", RF) == [3, 18, 12]
    assert counts(cost, "reads", DRAM) == [3, 18, 12]


def test_strided_tile_is_a_bounding_box():
    # Inputs[3*P + R] with P=4, R=1: 1 + 3*3 = 10 words although only 4 are used.
    workload = Workload(
        "strided",
        ("P", "R"),
        (4, 1),
        (
            Tensor("Weights", ((("R", 1),),)),
            Tensor("Inputs", ((("P", 3), ("R", 1)),)),
            Tensor("Outputs", ((("P", 1),),), is_output=True),
        ),
    )
    cost = price(workload, accelerator(), {"level": "DRAM"}, {"level": "RF", "temporal": {"P": 4}})
    assert counts(cost, "tile_words", RF) == [1, 10, 4]
    assert counts(cost, "fills", RF) == [1, 10, 0]


def test_first_visits_of_a_strided_output_leave_its_holes_out():
    # Outputs[3*P], P=4: a bounding box of 10 words, of which 4 are written once each. None of them is read before.
    workload = Workload("strided output", ("P",), (4,), (Tensor("Outputs", ((("P", 3),),), is_output=True),))
    cost = price(workload, accelerator(), {"level": "DRAM", "temporal": {"P": 4}}, {"level": "RF"})
    assert counts(cost, "partition_words", DRAM) == [4]
    assert counts(cost, "updates", DRAM) == [4]
    assert counts(cost, "reads", DRAM) == [0]
    assert counts(cost, "reads", RF) == [0]
    # 4 words both ways, less 4 first visits.
    assert counts(cost, "ingresses", DRAM) == [4]
    # RF: 4 updates of 1 pJ; DRAM: 4 updates of 100 pJ; 4 MACs of 0.5 pJ.
    assert cost.energy_pj == pytest.approx(4 + 400 + 2)


def strided_output(stride: int, dilation: int, bounds: tuple[int, int, int]) -> Workload:
    """Outputs[stride*P + dilation*R] += Inputs[C], bounds of P, R and C."""
    inputs = Tensor("Inputs", ((("C", 1),),))
    outputs = Tensor("Outputs", ((("P", stride), ("R", dilation)),), is_output=True)
    return Workload("strided output", ("P", "R", "C"), bounds, (inputs, outputs))


# Stride, dilation, P, R, words that are written, words of the bounding box; C=3.
STRIDED_OUTPUTS = [
    (4, 1, 4, 1, 4, 13),  # 0 4 8 12
    (2, 1, 4, 1, 4, 7),  # 0 2 4 6
    (4, 1, 4, 2, 8, 14),  # 0 1 4 5 8 9 12 13
    (3, 2, 4, 2, 8, 12),  # 0 2 3 5 6 8 9 11
    (2, 2, 4, 3, 6, 11),  # 0 2 4 6 8 10, four of them more than once
    (2, 1, 4, 2, 8, 8),  # 0 ... 7, no hole
    (5, 7, 3, 2, 6, 18),  # 0 5 7 10 12 17
]


@pytest.mark.parametrize(("stride", "dilation", "p", "r", "written", "box"), STRIDED_OUTPUTS)
def test_words_of_a_strided_output_are_read_at_all_visits_but_the_first(stride, dilation, p, r, written, box):
    workload, everything = strided_output(stride, dilation, (p, r, 3)), {"P": p, "R": r, "C": 3}
    updates = p * r * 3
    # All loops at DRAM: single words come there and to the register file.
    cost = price(workload, accelerator(), {"level": "DRAM", "temporal": everything}, {"level": "RF"})
    for level in (RF, DRAM):
        # C is innermost or not: DRAM gets a word as often as it moves, the MACs' partial sums are all updates.
        assert counts(cost, "reads", level)[1] == counts(cost, "updates", level)[1] - written
    assert counts(cost, "updates", RF)[1] == updates
    # All loops at the register file: it writes its tile to DRAM once, as a bounding box, of which nothing was there.
    cost = price(workload, accelerator(), {"level": "DRAM"}, {"level": "RF", "temporal": everything})
    assert counts(cost, "reads", RF)[1] == updates - written
    assert counts(cost, "updates", DRAM)[1] == box
    assert counts(cost, "reads", DRAM)[1] == 0
    # If it does not keep the output, DRAM gets single words.
    cost = price(
        workload,
        accelerator(),
        {"level": "DRAM"},
        {"level": "RF", "temporal": everything, "keep": ["Inputs"]},
    )
    assert counts(cost, "updates", DRAM)[1] == updates
    assert counts(cost, "reads", DRAM)[1] == updates - written


def test_boxes_of_a_strided_output_are_first_visits_holes_included():
    # Outputs[4*P], P = 2 in the register file, 2 at DRAM, C=3 outside: 6 tiles of 5 words, 0..4 or 8..12, come to DRAM.
    cost = price(
        strided_output(4, 1, (4, 1, 3)),
        accelerator(),
        {"level": "DRAM", "temporal": {"P": 2, "C": 3}, "order": ["P", "C", "R"]},
        {"level": "RF", "temporal": {"P": 2}},
    )
    assert counts(cost, "updates", DRAM)[1] == 30
    assert counts(cost, "reads", DRAM)[1] == 30 - 10
    # What the register file gets back are tiles, too: the first 2 are new, holes included.
    assert counts(cost, "fills", RF)[1] == 30 - 10
    # The MACs update 4 different words 3 times each.
    assert counts(cost, "updates", RF)[1] == 12
    assert counts(cost, "reads", RF)[1] == 12 - 4


def test_parallel_instances_share_the_words_of_a_strided_output():
    # Outputs[4*P + R], P=4 in parallel, R=2 and C=3 in time: each register file has 2 words of its own, 6 updates.
    cost = price(
        strided_output(4, 1, (4, 2, 3)),
        accelerator(),
        {"level": "DRAM", "spatial_x": {"P": 4}},
        {"level": "RF", "temporal": {"R": 2, "C": 3}},
    )
    assert counts(cost, "updates", RF)[1] == 6
    assert counts(cost, "reads", RF)[1] == 6 - 2
    assert counts(cost, "updates", DRAM)[1] == 8
    assert counts(cost, "reads", DRAM)[1] == 0


def test_an_output_with_a_dim_on_two_axes_is_written_along_its_diagonal():
    # Outputs[P, P], P=4, C=3: a box of 16 words, of which 4 are updated 3 times each.
    outputs = Tensor("Outputs", ((("P", 1),), (("P", 1),)), is_output=True)
    workload = Workload("diagonal", ("P", "C"), (4, 3), (Tensor("Inputs", ((("C", 1),),)), outputs))
    cost = price(workload, accelerator(), {"level": "DRAM", "temporal": {"P": 4, "C": 3}}, {"level": "RF"})
    assert counts(cost, "updates", RF)[1] == 12
    assert counts(cost, "reads", RF)[1] == 12 - 4


def two_axes(*bounds: int) -> Workload:
    """Outputs[K, L] += A[I+K, I+L]."""
    ranks = ((("I", 1), ("K", 1)), (("I", 1), ("L", 1)))
    outputs = Tensor("Outputs", ((("K", 1),), (("L", 1),)), is_output=True)
    return Workload("two axes", ("I", "K", "L"), bounds, (Tensor("A", ranks), outputs))


def test_a_tile_that_moves_along_two_axes_keeps_what_it_overlaps():
    # The tile of A is a square of 2 x 2. A step of I moves it by one both ways, so that one word of 4 stays: 4 + 3.
    cost = price(
        two_axes(2, 2, 2),
        accelerator(),
        {"level": "DRAM", "temporal": {"I": 2}},
        {"level": "RF", "temporal": {"K": 2, "L": 2}},
    )
    assert counts(cost, "reads", DRAM)[0] == 7
    assert counts(cost, "fills", RF)[0] == 7
    # 3 x 4 words, of which 2 x 3 stay: 12 + 2 * 6.
    cost = price(
        two_axes(3, 3, 4),
        accelerator(),
        {"level": "DRAM", "temporal": {"I": 3}},
        {"level": "RF", "temporal": {"K": 3, "L": 4}},
    )
    assert counts(cost, "reads", DRAM)[0] == 24
    # 1 x 4 words have none in common with their successors.
    cost = price(
        two_axes(3, 1, 4),
        accelerator(),
        {"level": "DRAM", "temporal": {"I": 3}},
        {"level": "RF", "temporal": {"L": 4}},
    )
    assert counts(cost, "reads", DRAM)[0] == 12


def test_neighbours_pass_on_words_that_a_tile_needs_along_two_axes():
    # Outputs[K, L] += A[I+J+K, I+J+L]: two register files, one word apart along both axes, with tiles of 2 x 2.
    ranks = tuple((("I", 1), ("J", 1), (dim, 1)) for dim in "KL")
    outputs = Tensor("Outputs", ((("K", 1),), (("L", 1),)), is_output=True)
    workload = Workload("two axes", ("I", "J", "K", "L"), (2, 4, 2, 2), (Tensor("A", ranks), outputs))
    cost = price(
        workload,
        accelerator(),
        {"level": "DRAM", "temporal": {"I": 2, "J": 2}, "order": ["I", "J", "K", "L"], "spatial_x": {"J": 2}},
        {"level": "RF", "temporal": {"K": 2, "L": 2}},
    )
    # I moves the tiles by 1, J by 2 less the 1 of I: 4 words, then 3 at each of 3 steps. In the last two, the first
    # register file needs the 3 words that the second one got a step before. DRAM sends 2 * (4 + 3) + 3 + 3.
    assert counts(cost, "link_transfers", DRAM)[0] == 6
    assert counts(cost, "reads", DRAM)[0] == 20


def test_spatial_multicast_reads_once_for_all():
    # M over 4 register files on X, N=2 on Y: 8 instances. Weights[K,N] are shared along M, Inputs[M,K] along N.
    hardware = accelerator(dram={"energy_per_hop_pj": 1.0}, peer_links=False)
    cost = price(
        GEMM,
        hardware,
        {"level": "DRAM", "temporal": {"K": 3}, "spatial_x": {"M": 4}, "spatial_y": {"N": 2}},
        {"level": "RF"},
    )
    assert cost.detail.used_instances.tolist() == [8, 1]
    assert cost.detail.fanout_used.tolist() == [1, 8]
    # Distinct weights per step: 2, each to 4 instances; inputs: 4, each to 2; outputs: 8, each to itself; K=3 steps
    # change weights and inputs, outputs stay.
    assert counts(cost, "multicast", DRAM) == [4, 2, 1]
    assert counts(cost, "reads", DRAM) == [6, 12, 0]
    assert counts(cost, "updates", DRAM) == [0, 0, 8]
    # Per instance: 3 weights, 3 inputs, and 1 output, which is new.
    assert counts(cost, "fills", RF) == [3, 3, 0]
    # Words enter at column 0, between the two rows. A weight goes along 3 hops and half a hop up or down in each of 4
    # columns: 5. An input goes along to its column, 0 to 3, and half a hop up and half a hop down there: 1 + 2 + 3 + 4
    # hops for the 4 of a step. An output comes from its own place: 2 * (0 + 1 + 2 + 3) + 8 / 2 = 16.
    assert counts(cost, "hops", DRAM) == [6 * 5, 3 * 10, 16]
    assert counts(cost, "network_energy_pj", DRAM) == [30, 30, 16]
    assert cost.latency_cycles == 3
    assert cost.utilization == 1.0
    # RF: per instance fills 3+3, reads 3+3+(3-1), updates 3 = 17, times 8; DRAM: 6+12+8 words; 24 MACs; 76 hops.
    assert cost.energy_pj == pytest.approx(17 * 8 + 26 * 100 + 24 * 0.5 + 76)


def test_parallel_window_has_mixed_multicast():
    # P=3 on X and R=2 on Y of Inputs[P+R]: offsets 0 1 2 and 1 2 3, so 1 and 2 go to two instances, 0 and 3 to one.
    workload = Workload("window", ("P", "R"), (3, 2), CONVOLUTION.tensors)
    cost = price(
        workload,
        accelerator(peer_links=False),
        {"level": "DRAM", "spatial_x": {"P": 3}, "spatial_y": {"R": 2}},
        {"level": "RF"},
    )
    # 4 inputs serve 6 instances; 2 weights to 3 instances each; 3 outputs are summed over 2 instances each.
    assert counts(cost, "reads", DRAM) == [2, 4, 0]
    assert counts(cost, "multicast", DRAM) == [3, 2, 2]
    assert counts(cost, "fills", RF) == [1, 1, 0]
    assert counts(cost, "spatial_reductions", DRAM) == [0, 0, 3]
    assert counts(cost, "updates", DRAM) == [0, 0, 3]


def in_register_files(**changes) -> Accelerator:
    """One register file with 4 MACs on X."""
    register_file = {"mesh_x": 1, "mesh_y": 1} | changes.pop("rf", {})
    return accelerator(rf=register_file, mac={"mesh_x": 4, "mesh_y": 1}, **changes)


def test_spatial_reduction_without_links():
    # K=4 over the 4 MACs, M=3 steps. Every MAC wants its operands each cycle; one sum per cycle is written.
    workload = matmul(M=3, K=4, N=1)
    cost = price(
        workload,
        in_register_files(peer_links=False),
        {"level": "DRAM"},
        {"level": "RF", "temporal": {"M": 3}, "spatial_x": {"K": 4}},
    )
    assert counts(cost, "reads", RF) == [12, 12, 0]
    assert counts(cost, "updates", RF) == [0, 0, 3]
    # 4 products become 1 sum: 3 additions in each of 3 cycles.
    assert counts(cost, "spatial_reductions", RF) == [0, 0, 9]
    assert cost.latency_cycles == 3


def test_macs_without_a_neighbour_that_has_the_word_use_no_links():
    # K=4 over the MACs, N=5 in time. Inputs[M,K] do not depend on N: they stay, but a MAC forgets, and their offsets
    # 0..3 are all different, so no neighbour has what a MAC needs. Outputs[M,N] have offset 0 in all MACs but move.
    workload = matmul(M=1, K=4, N=5)
    levels = {"level": "DRAM"}, {"level": "RF", "temporal": {"N": 5}, "spatial_x": {"K": 4}}
    cost = price(workload, in_register_files(), *levels)
    assert counts(cost, "link_transfers", RF) == [0, 0, 0]
    assert counts(cost, "reads", RF) == [20, 20, 0]
    assert counts(cost, "updates", RF) == [0, 0, 5]


def test_links_at_the_macs_serve_partial_sums():
    # K=8: 4 over the MACs, 2 in time. The sum stays in the second cycle and all MACs have the same offset, so each
    # of the 4 takes it from its neighbour: only the first cycle reaches the register file.
    workload = matmul(M=1, K=8, N=1)
    levels = {"level": "DRAM"}, {"level": "RF", "temporal": {"K": 2}, "spatial_x": {"K": 4}}
    linked = price(workload, in_register_files(rf={"energy_per_hop_pj": 0.25, "router_energy_pj": 0.5}), *levels)
    assert counts(linked, "link_transfers", RF) == [0, 0, 4]
    assert counts(linked, "updates", RF) == [0, 0, 1]
    assert counts(linked, "reads", RF) == [8, 8, 0]
    assert counts(linked, "ingresses", RF) == [8, 8, 1]
    assert counts(linked, "spatial_reductions", RF) == [0, 0, 3]
    # Operands go to one of 4 MACs: 0, 1, 2 or 3 hops, on average 1.5, which is 1 whole hop and thus 2 routers a word:
    # 8 * (1.5*0.25 + 2*0.5) = 11 pJ. The sum of the first cycle comes along 3 hops and 4 routers: 0.75 + 2 = 2.75 pJ;
    # a link is one hop and two routers: 4 * (0.25 + 1.0) = 5 pJ.
    assert counts(linked, "network_energy_pj", RF) == pytest.approx([11.0, 11.0, 7.75])
    unlinked = price(workload, in_register_files(peer_links=False), *levels)
    assert counts(unlinked, "updates", RF) == [0, 0, 2]
    assert counts(unlinked, "reads", RF) == [8, 8, 1]


def test_links_between_register_files_pass_the_window_on():
    # P=4 over 4 register files on X, R=3 steps, tile of 1 input: file p needs input p+r, which its right-hand
    # neighbour had one step before. Of 4 distinct words per step only the last file's is new.
    workload = Workload("systolic", ("P", "R"), (4, 3), CONVOLUTION.tensors)
    levels = {"level": "DRAM", "temporal": {"R": 3}, "spatial_x": {"P": 4}}, {"level": "RF"}
    linked = price(workload, accelerator(), *levels)
    # First step 4 words, then 2 steps of 1: 6, all inputs there are. 2 steps of 3 passed on.
    assert counts(linked, "reads", DRAM) == [3, 6, 0]
    assert counts(linked, "link_transfers", DRAM) == [0, 6, 0]
    # The passed words are read and written in register files: 6 / 4 = 1.5 each. Reads: 3 + 1.5 rounds to 5; fills:
    # what DRAM sends, 6 / 4 = 1.5, and 1.5 from the neighbours.
    assert counts(linked, "reads", RF) == [3, 5, 2]
    assert counts(linked, "fills", RF) == [3, 3, 0]
    unlinked = price(workload, accelerator(peer_links=False), *levels)
    assert counts(unlinked, "reads", DRAM) == [3, 12, 0]
    assert counts(unlinked, "reads", RF) == [3, 3, 2]
    assert counts(unlinked, "fills", RF) == [3, 3, 0]


def test_bypassed_tensor_is_served_from_above():
    # As the first case, with the weights not kept in the register file: DRAM serves the MAC itself, 24 times.
    cost = price(
        GEMM,
        accelerator(),
        {"level": "DRAM"},
        {"level": "RF", "temporal": {"M": 4, "K": 3, "N": 2}, "keep": ["Inputs", "Outputs"]},
    )
    for name in ("reads", "fills", "updates", "tile_words", "partition_words", "energy_pj"):
        assert counts(cost, name, RF)[0] == 0
    assert counts(cost, "reads", DRAM) == [24, 12, 0]
    # The words still pass the network below the register file.
    assert counts(cost, "ingresses", RF) == [24, 24, 24]
    # As the first case (2718 pJ) without 24 reads and 6 fills of 1 pJ, with 18 more DRAM reads of 100 pJ.
    assert cost.energy_pj == pytest.approx(2718 - 30 + 1800)


def test_bypassed_outputs_are_updated_above():
    cost = price(
        GEMM,
        accelerator(),
        {"level": "DRAM"},
        {"level": "RF", "temporal": {"M": 4, "K": 3, "N": 2}, "keep": ["Weights", "Inputs"]},
    )
    # Each of the 24 MACs updates DRAM; 8 first visits need no read.
    assert counts(cost, "updates", DRAM) == [0, 0, 24]
    assert counts(cost, "reads", DRAM) == [6, 12, 16]
    assert counts(cost, "ingresses", DRAM) == [6, 12, 2 * 24 - 8]


def test_blocks_are_charged_whole():
    # 4 words a block at DRAM: ceil(6/4) + ceil(12/4) + ceil(8/4) = 2 + 3 + 2 accesses of 100 pJ.
    cost = price(
        GEMM,
        accelerator(dram={"block_size_words": 4}),
        {"level": "DRAM"},
        {"level": "RF", "temporal": {"M": 4, "K": 3, "N": 2}},
    )
    assert counts(cost, "energy_pj", DRAM) == [200, 300, 200]


@pytest.mark.parametrize(
    ("limits", "cycles"),
    [
        # Register file, per cycle of 24: reads (24+24+16)/24 = 2.67, writes (6+12+24)/24 = 1.75 words.
        ({"read_bandwidth_words_per_cycle": 2.0}, 32),  # 64 words at 2 a cycle
        ({"write_bandwidth_words_per_cycle": 1.5}, 28),  # 42 words at 1.5
        ({"shared_bandwidth_words_per_cycle": 3.0}, 36),  # 106 words at 3: 35.3
        ({"shared_bandwidth_words_per_cycle": 4.0}, 27),  # 106 / 4 = 26.5
        ({"read_bandwidth_words_per_cycle": 2.0, "write_bandwidth_words_per_cycle": 1.0}, 42),  # 42 words at 1
        ({"read_bandwidth_words_per_cycle": 3.0, "write_bandwidth_words_per_cycle": 3.0}, 24),  # enough
    ],
)
def test_scarce_bandwidth_stretches_cycles(limits, cycles):
    cost = price(
        GEMM,
        accelerator(rf=limits),
        {"level": "DRAM"},
        {"level": "RF", "temporal": {"M": 4, "K": 3, "N": 2}},
    )
    assert cost.latency_cycles == cycles
    assert cost.detail.compute_cycles == 24
    assert cost.utilization == pytest.approx(24 / (8 * cycles))


def test_slowest_level_decides():
    # DRAM moves 18 reads and 8 updates: 26 words at 0.5 a cycle = 52; the register file needs 32.
    cost = price(
        GEMM,
        accelerator(
            rf={"read_bandwidth_words_per_cycle": 2.0},
            dram={"shared_bandwidth_words_per_cycle": 0.5},
        ),
        {"level": "DRAM"},
        {"level": "RF", "temporal": {"M": 4, "K": 3, "N": 2}},
    )
    assert cost.detail.level_cycles.tolist() == [32, 52]
    assert cost.latency_cycles == 52
