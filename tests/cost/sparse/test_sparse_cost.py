"""The sparse cost model against real Timeloop runs, against the dense one, and by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from golden_records import DATA
from mapgym import CostModel, MapSpace
from mapgym.cost import lower_bound
from mapgym.errors import SpecificationError
from mapgym.mapping import Mapping
from mapgym.mapping.density_kernels import (
    density_record,
    hypergeometric,
    largest_occupancy,
    probability,
    probability_empty_within,
    smallest_occupancy,
)
from mapgym.mapping.legality_kernels import CAPACITY, METADATA
from mapgym.spec import catalog
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.workload import Workload, conv2d, matmul
from mapgym.timeloop import validate_file

SPARSE = ("accel_a_sparse", "accel_b_sparse", "accel_b_sparse_md", "tiny_sparse", "tiny_sparse_md")
ALL = ("tile", "order", "parallelism", "bypass")
LAYER = conv2d("layer", N=1, C=8, M=8, P=6, Q=4, R=3, S=3)
densities = st.sampled_from([1.0, 0.8, 0.5, 0.3, 0.1, 0.02])
distributions = st.sampled_from(["fixed-structured", "hypergeometric"])


def dense_twin(accelerator: Accelerator) -> Accelerator:
    levels = tuple(replace(level, formats=(), actions=()) for level in accelerator.levels)
    return replace(accelerator, levels=levels, mac=replace(accelerator.mac, zero_operands=()))


def test_real_runs_are_reproduced():
    report = validate_file(DATA / "golden_sparse_sample.jsonl.gz", rules="timeloop-2022")
    assert (report.cases, report.verdicts_agree, report.artefacts) == (215, 215, 27)
    assert report.compared == 182
    assert report.passed
    assert report.max_rel_error["latency_cycles"] == 0


@settings(max_examples=15, deadline=None)
@given(name=st.sampled_from(SPARSE), seed=st.integers(0, 1000))
def test_without_zeros_sparse_hardware_costs_the_same(name, seed):
    accelerator = catalog.accelerator(name)
    space = MapSpace(LAYER, accelerator, ALL)
    batch = space.sample(np.random.default_rng(seed), 20)
    sparse, dense = (CostModel(LAYER, machine).evaluate(batch) for machine in (accelerator, dense_twin(accelerator)))
    np.testing.assert_array_equal(sparse.latency_cycles, dense.latency_cycles)
    np.testing.assert_allclose(sparse.energy_pj, dense.energy_pj, rtol=1e-12)


def test_without_sparse_features_densities_do_not_count():
    accelerator = catalog.accelerator("accel_b")
    batch = MapSpace(LAYER, accelerator, ALL).sample(np.random.default_rng(0), 50)
    costs = [
        CostModel(work, accelerator).evaluate(batch)
        for work in (LAYER, LAYER.with_densities({"Inputs": 0.3, "Weights": 0.1}))
    ]
    assert np.array_equal(costs[0].edp, costs[1].edp)


@settings(max_examples=25, deadline=None)
@given(name=st.sampled_from(SPARSE), a=densities, b=densities, distribution=distributions, seed=st.integers(0, 1000))
def test_costs_are_between_the_bound_and_the_dense_cost(name, a, b, distribution, seed):
    accelerator = catalog.accelerator(name)
    work = LAYER.with_densities({"Inputs": a, "Weights": b}, distribution)
    batch = MapSpace(LAYER, accelerator, ALL).sample(np.random.default_rng(seed), 20)
    model, bound = CostModel(work, accelerator), lower_bound(work, accelerator)
    costs = model.evaluate(batch, detail=True)
    dense = CostModel(LAYER, dense_twin(accelerator)).evaluate(batch)
    assert costs.legal.all()
    assert (costs.energy_pj >= bound.energy_pj).all()
    assert (costs.latency_cycles >= bound.latency_cycles).all()
    assert (costs.latency_cycles <= dense.latency_cycles).all()
    assert costs.savings is not None
    assert (costs.savings.computes.sum(axis=1) <= LAYER.macs).all()
    assert (costs.savings.computes >= 0).all()
    # With and without detail, one by one and together: the same figures.
    again = model.evaluate(batch)
    assert np.array_equal(again.energy_pj, costs.energy_pj)
    assert model.evaluate(batch[3]).energy_pj == costs.energy_pj[3]
    assert (costs.utilization <= 1).all()


@pytest.mark.parametrize("name", ["accel_b_sparse_md", "tiny_sparse_md"])
def test_samples_of_compressed_spaces_are_legal_and_use_the_room(name):
    accelerator = catalog.accelerator(name)
    work = LAYER.with_densities({"Inputs": 0.1, "Weights": 0.1})
    space = MapSpace(work, accelerator)
    batch = space.sample(np.random.default_rng(1), 300)
    assert space.contains(batch).all()
    assert CostModel(work, accelerator).evaluate(batch).legal.all()
    if name == "tiny_sparse_md":
        # Some compressed tiles would not fit if their zeros took room.
        assert (MapSpace(LAYER, accelerator).status(batch) >> 8 == CAPACITY).any()


def test_a_product_by_hand():
    """M=2, K=4, N=1, all in the registers but for the outermost loops over K; half of the inputs are zero."""
    accelerator = catalog.accelerator("tiny_sparse")
    work = matmul("hand", M=2, K=4, N=1).with_densities({"Inputs": 0.5})
    mapping = Mapping.trivial(work, accelerator)
    mapping.temporal[:] = 1
    k, m = work.dims.index("K"), work.dims.index("M")
    mapping.temporal[0, [k, m]] = 4, 2
    cost = CostModel(work, accelerator).evaluate(mapping, detail=True)
    assert cost.savings is not None
    # Weights are useless in half of the 8 computations; inputs, which Weights make useful always, are all read.
    assert cost.savings.computes.tolist() == [4, 0, 0]
    assert cost.latency_cycles == 4
    weights, inputs = (mapping.tensors.index(name) for name in ("Weights", "Inputs"))
    assert cost.savings.reads[0, weights] == 4
    assert cost.savings.skipped_reads[0, weights] == 4
    assert cost.savings.reads[0, inputs] == 8


class TestBlocks:
    """Compressed tiles of few blocks: each is rounded up to whole blocks."""

    # Blocks of a tile from which on that is neglected, by decile of the density (Timeloop, buffer.hpp).
    ROWS = {  # noqa: RUF012
        2: (251, 125, 84, 63, 51, 42, 36, 32, 28),
        4: (375, 188, 125, 94, 75, 63, 54, 47, 42),
        8: (438, 219, 146, 110, 88, 73, 63, 55, 49),
        16: (469, 235, 157, 118, 94, 79, 67, 59, 52),
        32: (485, 243, 162, 122, 97, 81, 70, 61, 52),
        # Where Timeloop has no row: half of the last block over so many blocks is 1 %.
        3: (334, 167, 112, 84, 67, 56, 48, 42, 38),
        64: (493, 247, 165, 124, 99, 83, 71, 62, 55),
    }

    def ratio(self, block: int, blocks: int, density: float, distribution: str = "fixed-structured") -> float:
        """Block accesses of the inputs over those that their words alone would take."""
        work = matmul("m", M=block * blocks, K=1, N=1).with_densities({"Inputs": density}, distribution)
        dram = StorageLevel("DRAM", formats=(("Inputs", ("3*UOP", "CP")),), block_size_words=block)
        accelerator = Accelerator("flat", (dram,), Mac())
        cost = CostModel(work, accelerator).evaluate(Mapping.trivial(work, accelerator), detail=True)
        assert cost.savings is not None
        inputs = work.tensors.index(work.tensor("Inputs"))
        return cost.savings.energy_pj[0, inputs] / math.ceil(cost.savings.reads[0, inputs] / block)

    @pytest.mark.parametrize("block", ROWS)
    @pytest.mark.parametrize("decile", range(9))
    def test_the_correction_ends_where_timeloop_ends_it(self, block, decile):
        density, first = 0.1 * decile + 0.137, self.ROWS[block][decile]
        assert self.ratio(block, first, density) == 1
        blocks = first - 1
        expected = block * blocks * density
        above = expected - math.floor(expected)
        rounded = (1 - above) * math.ceil(math.floor(expected) / block) + above * math.ceil(math.ceil(expected) / block)
        assert rounded / (expected / block) > 1
        assert self.ratio(block, blocks, density) == pytest.approx(rounded / (expected / block), rel=1e-12)

    def test_by_hand(self):
        # 93 blocks of 16 words, half of them zero: 46.5 blocks are 47.
        assert self.ratio(16, 93, 0.5) == pytest.approx(94 / 93, rel=1e-12)
        assert self.ratio(16, 94, 0.5) == self.ratio(16, 95, 0.5) == 1
        # 3 blocks of 32 words, a third of a tenth of them not zero: 3.2 words, 3 or 4, are one block instead of 0.1.
        assert self.ratio(32, 3, 1 / 30) == pytest.approx(10, rel=1e-12)
        assert self.ratio(1, 3, 0.5) == 1

    def test_hypergeometric_by_hand(self):
        # All of 17 non-zeros of 32 words are in the tile: two blocks of 16.
        assert self.ratio(16, 2, 17 / 32, "hypergeometric") == pytest.approx(2 / (17 / 16), rel=1e-12)

    @settings(max_examples=25, deadline=None)
    @given(
        block=st.sampled_from([1, 2, 3, 8, 16, 64]),
        a=densities,
        b=densities,
        distribution=distributions,
        seed=st.integers(0, 1000),
    )
    def test_costs_are_above_the_bound(self, block, a, b, distribution, seed):
        machine = catalog.accelerator("tiny_sparse_md")
        machine = replace(machine, levels=tuple(replace(level, block_size_words=block) for level in machine.levels))
        work = LAYER.with_densities({"Inputs": a, "Weights": b}, distribution)
        batch = MapSpace(work, machine, ALL).sample(np.random.default_rng(seed), 20)
        costs, bound = CostModel(work, machine).evaluate(batch), lower_bound(work, machine)
        assert (costs.energy_pj >= bound.energy_pj).all()
        assert (costs.latency_cycles >= bound.latency_cycles).all()


class TestDensities:
    def record(self, density: float, distribution: str = "fixed-structured", words: int = 100) -> np.ndarray:
        work = matmul("m", M=words, K=1, N=1).with_densities({"Inputs": density}, distribution)
        return np.array([7, *density_record(work, "Inputs")], np.int64)

    def test_fixed_structured_rounds_up_and_down(self):
        table = self.record(0.25)
        assert probability(table, 1, 2, 1, 0) == 0.5
        assert probability(table, 1, 2, 1, 1) == 0.5
        assert probability(table, 1, 8, 1, 2) == 1.0
        assert [largest_occupancy(table, 1, n, 1) for n in (1, 4, 5, 8)] == [1, 1, 2, 2]
        assert [smallest_occupancy(table, 1, n) for n in (1, 4, 5, 8)] == [0, 1, 1, 2]
        assert probability_empty_within(table, 1, (1, 1), (8, 1), 2) == 0.75

    @pytest.mark.parametrize("words", [10, 100, 5000])
    def test_hypergeometric_sums_to_one(self, words):
        table = self.record(0.3, "hypergeometric", words)
        nonzeros = math.ceil(0.3 * words)
        for drawn in (1, 3, words // 2, words):
            chances = [hypergeometric(k, words, nonzeros, drawn) for k in range(drawn + 1)]
            assert sum(chances) == pytest.approx(1)
            assert sum(k * p for k, p in enumerate(chances)) == pytest.approx(drawn * nonzeros / words)
            assert largest_occupancy(table, 1, drawn, 1) == min(drawn, nonzeros)

    def test_hypergeometric_by_hand(self):
        # Two of four words are not zero; two are drawn: 1/6, 4/6, 1/6.
        assert [hypergeometric(k, 4, 2, 2) for k in range(3)] == pytest.approx([1 / 6, 4 / 6, 1 / 6])


def test_too_much_metadata_is_illegal_and_says_why():
    accelerator = catalog.accelerator("tiny_sparse_md")
    levels = tuple(
        replace(level, metadata_capacity_bits=16 if level.name == "RF" else level.metadata_capacity_bits)
        for level in accelerator.levels
    )
    accelerator = replace(accelerator, levels=levels)
    mapping = Mapping.trivial(LAYER, accelerator)
    mapping.temporal[2] = mapping.temporal[2] // [2 if dim == "C" else 1 for dim in LAYER.dims]
    mapping.temporal[0, LAYER.dims.index("C")] = 2
    space = MapSpace(LAYER, accelerator)
    assert space.status(mapping.batch())[0] >> 8 == METADATA
    assert not space.contains(mapping)
    cost = CostModel(LAYER, accelerator).evaluate(mapping)
    assert cost.status >> 8 == METADATA
    assert "metadata of the compressed tiles do not fit RF" in cost.reason
    # Such mappings are neither drawn nor reached.
    batch = space.sample(np.random.default_rng(0), 100)
    assert space.contains(batch).all()
    assert space.contains(space.random_neighbor(np.random.default_rng(0), batch)).all()
    assert space.contains(space.neighbors(batch[0])).all()


def test_features_survive_a_round_trip():
    accelerator = catalog.accelerator("accel_b_sparse_md")
    assert Accelerator.from_dict(accelerator.to_dict()) == accelerator
    assert accelerator.is_sparse
    assert not catalog.accelerator("accel_b").is_sparse
    assert "formats" not in str(catalog.accelerator("accel_b").to_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"formats": {"Weights": ["UPO"]}}, "unknown rank 'UPO'; did you mean 'UOP'"),
        ({"formats": {"Weights": "UOP"}}, "give a list of ranks"),
        ({"formats": {"Weights": ["0*UOP"]}}, "have 0 ranks"),
        (
            {"actions": [{"type": "skiping", "target": "Weights", "condition_on": ["Inputs"]}]},
            "did you mean 'skipping'",
        ),
        ({"actions": [{"type": "gating", "target": "Weights", "condition_on": []}]}, "name a tensor and a list"),
        ({"actions": [{"type": "gating", "target": "Weights", "on": ["Inputs"]}]}, "unknown key 'on'"),
        ({"metadata_word_bits": -1}, "metadata_word_bits is -1"),
    ],
)
def test_mistakes_in_features_are_answered(change, message):
    data = catalog.accelerator("tiny").to_dict()
    data["levels"][1] |= change
    with pytest.raises(SpecificationError, match=message.replace("*", r"\*")):
        Accelerator.from_dict(data)


def test_hardware_that_names_tensors_refuses_others():
    machine = catalog.accelerator("tiny_sparse")
    renamed = Workload("w", LAYER.dims, LAYER.bounds, tuple(replace(t, name=f"{t.name}2") for t in LAYER.tensors))
    assert CostModel(renamed, machine).evaluate(Mapping.trivial(renamed, machine)).legal
    actions = [{"type": "skipping", "target": "Inputs", "condition_on": ["Weights"]}]
    named = replace(machine, levels=(replace(machine.levels[0], actions=actions), *machine.levels[1:]))
    with pytest.raises(SpecificationError, match="'tiny_sparse': actions of 'RF': workload 'w' has no tensor 'Inputs'"):
        CostModel(renamed, named)
