"""What sparse hardware does with a few words, worked out on paper."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from mapgym import CostModel, MapSpace, catalog
from mapgym.cost import Cost, lower_bound
from mapgym.errors import SpecificationError
from mapgym.mapping import Mapping
from mapgym.mapping.density_kernels import (
    density_record,
    first_occupancy,
    largest_occupancy,
    next_occupancy,
    probability,
    probability_empty_within,
)
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.workload import Workload, conv2d, matmul, mttkrp

MAC = Mac()
READ, FILL, UPDATE = range(3)
DONE, GATED, SKIPPED = range(3)


def flat(formats=(), actions=(), mac=MAC, **features) -> Accelerator:
    """One level that keeps everything, with metadata in words of 4 bits and accesses of 16."""
    level = StorageLevel(
        "DRAM", formats=formats, actions=actions, metadata_word_bits=4, metadata_access_bits=16, **features
    )
    return Accelerator("flat", (level,), mac)


def priced(workload: Workload, accelerator: Accelerator, mapping: Mapping | None = None) -> Cost:
    mapping = Mapping.trivial(workload, accelerator) if mapping is None else mapping
    return CostModel(workload, accelerator).evaluate(mapping, detail=True)


class TestMetadata:
    """Eight inputs, of which four are not zero, read once each."""

    VECTOR = matmul("vector", M=8, K=1, N=1).with_densities({"Inputs": 0.5})
    MATRIX = matmul("matrix", M=4, K=2, N=1).with_densities({"Inputs": 0.5})
    INPUTS = 1

    @pytest.mark.parametrize(
        ("code", "metadata"),
        [
            ("CP", 4),  # a coordinate for each word that is not zero
            ("RLE", 4),
            ("B", 8),  # a bit for each word
            ("UB", 8),  # a word for each word
            ("UOP", 0),  # what it points to are the words
        ],
    )
    def test_one_rank(self, code, metadata):
        cost = priced(self.VECTOR, flat(formats={"Inputs": [code]}))
        counts = cost.savings.metadata_accesses[0, self.INPUTS]
        assert counts[READ, DONE].tolist() == [[metadata, 0]]
        assert not counts[FILL:].any()
        assert cost.savings.reads[0, self.INPUTS] == 4

    def test_two_ranks(self):
        cost = priced(self.MATRIX, flat(formats={"Inputs": ["UOP", "CP"]}), self.rows_of_two())
        # Of four rows of two words none is empty: five pointers, and one coordinate for each row.
        assert cost.savings.metadata_accesses[0, self.INPUTS, READ, DONE].tolist() == [[4, 0], [0, 5]]

    def rows_of_two(self) -> Mapping:
        mapping = Mapping.trivial(self.MATRIX, flat())
        k, m = (self.MATRIX.dims.index(dim) for dim in "KM")
        mapping.order[0] = [k, m, *(d for d in range(4) if d not in (k, m))]
        return mapping

    def test_energy_is_by_accesses_of_sixteen_bits(self):
        machine = flat({"Inputs": ["UOP", "CP"]}, action_energies_pj={"metadata_read": 0.75})
        savings = priced(self.MATRIX, machine, self.rows_of_two()).savings
        # 5 * 4 + 4 * 4 = 36 bits are three accesses; four words of inputs are read.
        assert savings.metadata_energy_pj[0, self.INPUTS] == 3 * 0.75
        assert savings.energy_pj[0, self.INPUTS] == 4 + 3 * 0.75

    def test_ranks_may_have_words_of_their_own(self):
        # Pointers of no bits, coordinates of 9: 36 bits are three accesses; with 2 bits a pointer 46.
        for formats, accesses in ((["UOP:0", "CP:9"], 3), (["UOP:2", "CP:9/1"], 3), (["UOP:4", "CP:8"], 4)):
            machine = flat({"Inputs": formats}, action_energies_pj={"metadata_read": 0.75})
            savings = priced(self.MATRIX, machine, self.rows_of_two()).savings
            assert savings.metadata_energy_pj[0, self.INPUTS] == accesses * 0.75

    def test_ranks_to_spare_can_lie_inside(self):
        # One loop: the innermost rank has it, or the outermost, in which the pointers are those to the words.
        for formats, expected in (
            (["UOP", "CP"], [[4, 0], [0, 0]]),
            (["outer-to-inner", "UOP", "CP"], [[0, 0], [0, 0]]),
            (["outer-to-inner", "RLE", "CP"], [[0, 0], [4, 0]]),
        ):
            savings = priced(self.VECTOR, flat(formats={"Inputs": formats})).savings
            assert savings.metadata_accesses[0, self.INPUTS, READ, DONE].tolist() == expected

    def test_a_rank_can_join_loops(self):
        # Eight words in one fiber: four coordinates; from outside, each is taken to stand for a row, of which none is
        # empty.
        for formats, expected in (
            (["CP@K+M"], [[4, 0]]),
            (["UOP@M", "B@K"], [[8, 0], [0, 5]]),
            (["outer-to-inner", "CP@K+M"], [[8, 0]]),
        ):
            savings = priced(self.MATRIX, flat(formats={"Inputs": formats}), self.rows_of_two()).savings
            assert savings.metadata_accesses[0, self.INPUTS, READ, DONE].tolist() == expected
        cost = CostModel(self.MATRIX, flat(formats={"Inputs": ["CP@K"]})).evaluate(self.rows_of_two())
        assert "metadata" in cost.reason or "rank" in cost.reason

    def test_windows_in_a_joined_rank_overlap(self):
        # Rows P + R of four rows and three taps are six words, and six pointers and an end, not twelve and one.
        layer = conv2d("rows", M=1, C=2, P=4, Q=1, R=3, S=1).with_densities({"Inputs": 0.5})
        machine = flat(formats={"Inputs": ["UOP@P+R", "CP@C"]})
        mapping = Mapping.trivial(layer, machine)
        inner = [layer.dims.index(dim) for dim in "CRP"]
        mapping.order[0] = [*inner, *(d for d in range(len(layer.dims)) if d not in inner)]
        cost = priced(layer, machine, mapping)
        inputs = layer.tensors.index(layer.tensor("Inputs"))
        again = cost.detail.reads[0, inputs] / (2 * 6)
        assert cost.savings.metadata_accesses[0, inputs, READ, DONE, 1].tolist() == [0, math.ceil(7 * again)]
        assert cost.savings.metadata_accesses[0, inputs, READ, DONE, 0].tolist() == [math.ceil(6 * again), 0]

    def test_coordinates_of_sparseloop_are_the_entries(self):
        # Three of eight words are not zero: 1.5 in each of two fibers of four, which are 2 where fibers are rounded up.
        layer = matmul("matrix", M=2, K=4, N=1).with_densities({"Inputs": 0.375})
        mapping = Mapping.trivial(layer, flat())
        mapping.order[0] = self.rows_of_two().order[0]
        for code, coordinates in (("CP", 4), ("RLE", 3)):
            machine = flat(formats={"Inputs": ["UOP", code]})
            for rules, expected in (("timeloop-2022", coordinates), ("sparseloop-2022", 3)):
                savings = priced(layer, machine.counted_by(rules), mapping).savings
                assert savings.metadata_accesses[0, self.INPUTS, READ, DONE, 0, 0] == expected

    def test_bandwidth_is_shared(self):
        machine = flat({"Inputs": ["CP"]}, read_bandwidth_words_per_cycle=1.0)
        # 4 inputs, 16 bits of metadata, which are a word, and a weight in each of the 8 cycles.
        assert priced(self.VECTOR, machine).latency_cycles == 4 + 1 + 8
        machine = flat(read_bandwidth_words_per_cycle=1.0, mac=Mac(zero_operands=("gating",)))
        assert priced(self.VECTOR, machine).latency_cycles == 8 + 8

    def test_actions_save_metadata(self):
        work = self.VECTOR.with_densities({"Weights": 0.5})
        action = {"type": "gating", "target": "Inputs", "condition_on": ["Weights"]}
        energies = {"metadata_read": 1.0, "gated_metadata_read": 0.25, "gated_read": 0.125}
        savings = priced(work, flat({"Inputs": ["B"]}, [action], action_energies_pj=energies)).savings
        # Half of the 8 bits, and of the 4 words, meet a zero weight.
        counts = savings.metadata_accesses[0, self.INPUTS, READ, :, 0, 0]
        assert counts.tolist() == [4, 4, 0]
        assert savings.energy_pj[0, self.INPUTS] == 2 * 1 + 2 * 0.125 + 1.0 + 0.25

    def test_without_detail_the_cost_is_the_same(self):
        machine = flat({"Inputs": ["CP"]}, read_bandwidth_words_per_cycle=1.0, action_energies_pj={"metadata_read": 2})
        mapping = Mapping.trivial(self.VECTOR, machine)
        model = CostModel(self.VECTOR, machine)
        assert model.evaluate(mapping).energy_pj == model.evaluate(mapping, detail=True).energy_pj


def test_saved_computations_cost_what_the_table_says():
    work = matmul("m", M=8, K=1, N=1).with_densities({"Inputs": 0.5})
    mac = Mac(zero_operands=("gating",), action_energies_pj={"mac": 3.0, "mac_gated": 0.5})
    with_gate = priced(work, flat(mac=mac))
    assert with_gate.savings.computes.tolist() == [4, 4, 0]
    storage = with_gate.savings.energy_pj.sum()
    assert with_gate.energy_pj == storage + 4 * 3.0 + 4 * 0.5


def test_words_are_decompressed_where_they_are_stored_uncompressed():
    outer = StorageLevel("DRAM", formats={"Inputs": ["3*UOP", "CP"]}, metadata_word_bits=4)
    inner = StorageLevel(
        "RF", 64, decompression_supported=True, action_energies_pj={"decompression_count": 0.5}, access_energy_pj=2.0
    )
    machine = Accelerator("two", (inner, outer), Mac())
    work = matmul("m", M=8, K=1, N=1).with_densities({"Inputs": 0.5})
    mapping = Mapping.trivial(work, machine)
    mapping.temporal[:] = mapping.temporal[::-1].copy()
    savings = priced(work, machine, mapping).savings
    inputs = 1
    assert savings.decompressions[:, inputs].tolist() == [8, 0]
    # 8 words are filled and 8 read; those that are zero are filled too, because the level stores them.
    assert savings.energy_pj[0, inputs] == 16 * 2.0 + 8 * 0.5


def test_instances_leak_as_many_as_are_in_use_on_average():
    """Two registers get a compressed input each, one of them on average a zero, which is not sent."""
    outer = StorageLevel("DRAM", formats={"Inputs": ["CP"]}, metadata_word_bits=4)
    inner = StorageLevel("RF", 4, 2, keep_only=("Inputs",), formats={"Inputs": ["CP"]}, action_energies_pj={"leak": 1})
    machine = Accelerator("leaky", (inner, outer), Mac(mesh_x=2))
    work = matmul("m", M=2, K=1, N=1).with_densities({"Inputs": 0.5})
    mapping = Mapping.trivial(work, machine)
    m = work.dims.index("M")
    mapping.temporal[1, m], mapping.spatial[1, m] = 1, 2
    mapping.spatial_split[1] = 4
    savings = priced(work, machine, mapping).savings
    assert savings.used_instances[0, 1] == 1.0
    # Weights and outputs, which the registers do not keep, are said to use both.
    assert savings.leakage_energy_pj.tolist() == [2.0, 0.0]


class TestBands:
    WORK = matmul("m", M=4, K=4, N=1)

    def record(self, width: int, work: Workload = WORK) -> np.ndarray:
        work = work.with_densities({"Inputs": {"distribution": "banded", "band_width": width}})
        return np.array(density_record(work, "Inputs"), np.int64)

    def test_tiles_of_a_band(self):
        """Of a 4 x 4 matrix with three diagonals, 2 x 2 tiles hold 4 or 1 words: on the diagonal or beside it."""
        table = self.record(1)
        assert [probability(table, 0, 4, 2, k) for k in range(5)] == [0, 0.5, 0, 0, 0.5]
        assert (first_occupancy(table, 0, 4, 2), next_occupancy(table, 0, 4, 2, 1)) == (1, 4)
        assert largest_occupancy(table, 0, 4, 2) == 4
        # Rows of one word: 10 of 16 are not zero.
        assert probability(table, 0, 1, 1, 1) == 10 / 16
        # The whole has 10; in each row two or three.
        assert probability(table, 0, 16, 4, 10) == 1
        assert [probability(table, 0, 4, 1, k) for k in (2, 3)] == [0.5, 0.5]

    def test_parts_of_a_tile(self):
        table = self.record(0)
        # The first 2 x 2 tile is on the diagonal, and half of its words are zero.
        assert probability_empty_within(table, 0, (1, 1), (4, 2), 2) == 0.5
        assert probability_empty_within(table, 0, (2, 1), (4, 2), 2) == 0

    def test_density_follows_from_the_band(self):
        work = self.WORK.with_densities({"Inputs": {"distribution": "banded", "band_width": 1}})
        assert work.tensor("Inputs").density == 10 / 16
        assert Workload.from_dict(work.to_dict()) == work
        assert "density" not in work.to_dict()["tensors"]["Inputs"]

    @pytest.mark.parametrize(
        "layer",
        [
            conv2d("pointwise", C=8, M=8, P=3, Q=1, R=1, S=1),
            matmul("product", M=8, K=8, N=2),
            mttkrp("mttkrp", I=2, J=8, K=8, L=3),
        ],
    )
    def test_every_type_of_workload_takes_it(self, layer):
        name = next(t.name for t in layer.tensors if layer.tensor_size(t.name) == 64)
        work = layer.with_densities({name: {"distribution": "banded", "band_width": 1}})
        machine = catalog.accelerator("tiny_sparse_md")
        batch = MapSpace(work, machine).sample(np.random.default_rng(0), 50)
        costs, bound = CostModel(work, machine).evaluate(batch), lower_bound(work, machine)
        assert costs.legal.all()
        assert (costs.energy_pj >= bound.energy_pj).all()
        assert (costs.latency_cycles >= bound.latency_cycles).all()

    @pytest.mark.parametrize(
        ("tensor", "density", "message"),
        [
            (
                "Weights",
                {"distribution": "banded"},
                "'Weights' is banded, but its ranks.*single dims of the same bound",
            ),
            ("Inputs", {"distribution": "banded", "band_width": 4}, "band_width 4 .* reaches beyond its 4 rows"),
            ("Inputs", {"distribution": "banded", "band_width": -1}, "band_width is -1"),
            ("Inputs", {"distribution": "banded", "density": 0.5}, "the width says how many words are not zero"),
            ("Inputs", {"distribution": "hypergeometric"}, "give a number"),
            ("Inputs", {"distribution": "band", "density": 0.5}, "did you mean 'banded'"),
            ("Inputs", {"density": 0.5, "band_width": 1}, "leave the band_width out"),
            ("Inputs", {"density": 0.5, "width": 1}, "unknown key 'width'"),
        ],
    )
    def test_mistakes_are_answered(self, tensor, density, message):
        with pytest.raises(SpecificationError, match=message):
            self.WORK.with_densities({tensor: density})

    def test_files_say_it_too(self):
        data = {"type": "conv2d", "C": 4, "M": 4, "P": 2, "Q": 2, "R": 1, "S": 1}
        data["densities"] = {"Weights": {"distribution": "banded", "band_width": 1}, "Inputs": 0.5}
        work = Workload.from_dict(data)
        assert [tensor.density for tensor in work.tensors] == [10 / 16, 0.5, 1.0]


class TestOperands:
    """Scalars that meet at the MACs of a machine without buffers: 24 computations."""

    DENSITIES = {"A": 0.5, "B": 0.5, "C": 0.25}  # noqa: RUF012

    def computes(self, machine: Accelerator, densities: dict[str, float]) -> list[int]:
        work = mttkrp("m", I=2, J=4, K=4, L=2).with_densities(densities)
        return priced(work, machine).savings.computes.tolist()

    def test_three_operands(self):
        assert self.computes(flat(mac=Mac(zero_operands=("gating",))), self.DENSITIES) == [4, 60, 0]
        absent = {"operands": ["9*CP"]}
        # All three absent: 0.5 * 0.5 * 0.75 of 64 computations, which do not exist.
        assert self.computes(flat(absent, mac=Mac(zero_operands=("skipping",))), self.DENSITIES) == [4, 0, 48]

    def test_an_empty_tile_saves_a_computation_once(self):
        actions = [{"type": "skipping", "target": "operands", "condition_on": ["other_operands"]}]
        assert self.computes(flat(actions=actions), self.DENSITIES) == [4, 0, 0]

    def test_a_dense_operand_changes_nothing(self):
        actions = [{"type": "skipping", "target": "operands", "condition_on": ["other_operands"]}]
        assert self.computes(flat(actions=actions), self.DENSITIES | {"C": 1.0}) == [16, 0, 0]
        work = matmul("m", M=4, K=4, N=4).with_densities({"Inputs": 0.5, "Weights": 0.5})
        assert priced(work, flat(actions=actions)).savings.computes.tolist() == [16, 0, 0]

    @pytest.mark.parametrize("number", range(1, 8))
    def test_one_to_seven_operands(self, number):
        names = "ABCDEFG"[:number]
        tensors = {name: {"projection": ["I", "J"], "density": 0.5} for name in names}
        work = Workload.from_dict(
            {
                "name": "w",
                "dims": {"I": 16, "J": 16},
                "tensors": {**tensors, "Z": {"projection": ["I"], "output": True}},
            }
        )
        for name in ("tiny_sparse", "tiny_sparse_md"):
            machine = catalog.accelerator(name)
            batch = MapSpace(work, machine).sample(np.random.default_rng(0), 20)
            costs, bound = CostModel(work, machine).evaluate(batch, detail=True), lower_bound(work, machine)
            assert (costs.savings.computes[:, 0] >= 256 * 0.5**number).all()
            assert (costs.energy_pj >= bound.energy_pj).all()
            assert (costs.latency_cycles >= bound.latency_cycles).all()


class TestRoles:
    LAYER = conv2d("layer", C=8, M=8, P=4, Q=4, R=3, S=3).with_densities({"Weights": 0.4, "Inputs": 0.5})
    WORDS = {"Inputs": "Weights", "Weights": "Inputs"}  # noqa: RUF012

    @pytest.mark.parametrize("name", ["accel_b_sparse", "accel_b_sparse_md", "tiny_sparse_md"])
    def test_machines_cost_what_they_cost_by_names(self, name):
        machine = catalog.accelerator(name)
        levels = []
        for level in machine.levels:
            actions = [
                *({"type": "skipping", "target": a, "condition_on": [b]} for a, b in self.WORDS.items()),
                {"type": "skipping", "target": "Outputs", "condition_on": ["Weights", "Inputs"]},
            ]
            ranks = dict(level.formats).get("operands")
            formats = dict.fromkeys(("Weights", "Inputs", "Outputs"), ranks) if ranks else {}
            levels.append(replace(level, actions=actions, formats=formats))
        named = replace(machine, levels=tuple(levels))
        batch = MapSpace(self.LAYER, named).sample(np.random.default_rng(0), 100)
        costs = [CostModel(self.LAYER, m).evaluate(batch) for m in (machine, named)]
        assert np.array_equal(costs[0].energy_pj, costs[1].energy_pj)
        assert np.array_equal(costs[0].latency_cycles, costs[1].latency_cycles)
        assert lower_bound(self.LAYER, machine) == lower_bound(self.LAYER, named)

    def test_a_name_wins_over_a_role(self):
        machine = flat({"Weights": ["9*B"], "operands": ["9*CP"], "outputs": ["9*UB"]})
        resolved = machine.for_workload(self.LAYER)
        assert dict(resolved.levels[0].formats) == {"Weights": ("9*B",), "Inputs": ("9*CP",), "Outputs": ("9*UB",)}
        tensors = tuple(replace(t, name="operands" if t.name == "Weights" else t.name) for t in self.LAYER.tensors)
        odd = replace(self.LAYER, tensors=tensors)
        assert dict(machine.for_workload(odd).levels[0].formats)["operands"] == ("9*CP",)

    def test_plain_forms_keep_roles(self):
        machine = catalog.accelerator("accel_b_sparse_md")
        CostModel(self.LAYER, machine)
        assert machine.has_roles
        assert Accelerator.from_dict(machine.to_dict()) == machine
        assert machine.to_dict()["levels"][0]["actions"][0]["target"] == "operands"

    def test_a_tensor_is_no_condition_of_itself(self):
        action = {"type": "gating", "target": "Weights", "condition_on": ["operands"]}
        resolved = flat(actions=[action]).for_workload(self.LAYER)
        assert resolved.levels[0].actions[0].condition_on == ("Inputs",)
        alone = Workload.from_dict(
            {
                "name": "w",
                "dims": {"I": 2},
                "tensors": {"A": {"projection": ["I"]}, "Z": {"projection": ["I"], "output": True}},
            }
        )
        others = {"type": "gating", "target": "operands", "condition_on": ["other_operands"]}
        assert flat(actions=[others]).for_workload(alone).levels[0].actions == ()

    def test_levels_may_hold_roles(self):
        inner = StorageLevel("RF", 64, keep_only=("operands",))
        machine = Accelerator("m", (inner, StorageLevel("DRAM")), Mac())
        work = mttkrp("m", I=2, J=2, K=2, L=2)
        keep = MapSpace(work, machine, ("tile", "bypass")).sample(np.random.default_rng(0), 40).keep
        assert not keep[:, 0, 3].any()
        assert keep[:, 0, :3].any(axis=0).all()
        assert "may hold only A, B, C" in priced(work, machine, kept_everywhere(work, machine)).reason

    def test_other_operands_are_conditions_only(self):
        machine = flat({"other_operands": ["9*CP"]})
        with pytest.raises(SpecificationError, match="has no tensor 'other_operands'"):
            CostModel(self.LAYER, machine)


def kept_everywhere(work: Workload, machine: Accelerator) -> Mapping:
    mapping = Mapping.trivial(work, machine)
    mapping.keep[:] = True
    return mapping
