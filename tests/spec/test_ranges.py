"""Numbers that would not stay exact are refused before anything is priced; those that do are bounded as claimed."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from mapgym.agents.base import make_agent
from mapgym.cost import CostModel, lower_bound
from mapgym.errors import SpecificationError
from mapgym.evaluation.evaluator import Budget
from mapgym.evaluation.sparsity_aware import SparsityAware
from mapgym.mapping import Mapping, MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.catalog import accelerator, workload
from mapgym.spec.counts import largest_count
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.tensor import Tensor
from mapgym.spec.workload import Workload, matmul

MACHINE = accelerator("tiny")


def einsum(dims: dict[str, int], **projections: list[str]) -> dict[str, object]:
    """The plain form; the last tensor is the output."""
    tensors = {name: {"projection": ranks} for name, ranks in projections.items()}
    output = list(tensors)[-1]
    return {"dims": dims, "tensors": {**tensors, output: {**tensors[output], "output": True}}}


HUGE = 10**5000


@pytest.mark.parametrize(
    ("data", "message"),
    [
        # macs 2**48, and each word of X is needed for 2**24 iterations of the other dim of a tile of 2**48 words.
        (einsum({"K": 2**24, "C": 2**24}, X=["K", "K"], Y=["C"]), r"'X' could reach about 2\*\*72"),
        (einsum({"K": 2**18}, X=["K", "K", "K"], Y=["K"]), r"'X' could reach about 2\*\*54"),
        (einsum({"K": 2**26, "C": 2}, X=["K + C", "K"], Y=["C"]), r"'X' could reach about 2\*\*53"),
        (einsum({"K": 2**52, "C": 2}, X=["K"], Y=["C"]), r"could reach about 2\*\*53"),
        (einsum({"K": 2**50}, X=["8*K"], Y=["K"]), r"'X' could reach about 2\*\*53"),
        (einsum({f"D{i}": 2**53 for i in range(20)}, X=["D0"], Y=["D1"]), r"could reach about 2\*\*1060"),
        (einsum({"K": 2}, X=["K"] * 20, Y=["K"]), "too large to address"),
        (einsum({f"D{i}": 2 for i in range(18)}, X=[f"D{i}" for i in range(18)], Y=["D0"]), "too large to address"),
        (einsum({"K": 1}, X=["K"] * 65, Y=["K"]), "has 65 ranks, more than 64"),
        (einsum({f"D{i}": 1 for i in range(33)}, X=["D0"], Y=["D1"]), "33 dims and 2 tensors, more than 32"),
        (einsum({"K": HUGE}, X=["K"], Y=["K"]), "the bound of dim 'K' is a number of about 5,000 digits"),
        (einsum({"K": 2}, X=["9" * 5000 + "*K"], Y=["K"]), r"coefficient above 2\*\*53"),
    ],
)
def test_workloads_whose_counts_would_be_inexact_are_refused(data, message):
    with pytest.raises(SpecificationError, match=message):
        Workload.from_dict(data)


@pytest.mark.parametrize(
    "layer",
    [
        matmul(M=2**14, K=2**14, N=2**14),
        Workload.from_dict(einsum({"K": 2**17}, X=["K", "K"], Y=["K", "K", "K"])),  # 2**51
        Workload.from_dict(einsum({f"D{i}": 2 for i in range(17)}, X=[f"D{i}" for i in range(17)], Y=["D0"])),
        Workload.from_dict(einsum({"K": 1, "C": 4}, X=[f"{2**53}*K", "C"], Y=["C"])),  # the coefficient never counts
        Workload.from_dict(einsum({f"D{i}": 1 for i in range(32)}, X=[f"D{i}" for i in range(32)] * 2, Y=["D0"])),
        Workload.from_dict(einsum({f"D{i}": 2 for i in range(32)}, X=["D0"], Y=["D1"])),
    ],
)
def test_what_is_accepted_works_in_all_parts(layer):
    machine = accelerator("accel_b")
    space = MapSpace(layer, machine)
    batch = space.sample(np.random.default_rng(0), 8)
    costs = CostModel(layer, machine).evaluate(batch)
    bound = lower_bound(layer, machine)
    assert costs.legal.all()
    assert (costs.energy_pj >= bound.energy_pj).all()
    assert (costs.latency_cycles >= bound.latency_cycles).all()
    assert math.isfinite(space.log10_size())
    assert (space.canonical(space.random_neighbor(np.random.default_rng(1), batch)).used_macs() > 0).all()


@st.composite
def repeated_tasks(draw):
    dims = [f"D{i}" for i in range(draw(st.integers(1, 3)))]
    bounds = [draw(st.sampled_from([1, 2, 3, 4, 6])) for _ in dims]
    term = st.tuples(st.sampled_from(dims), st.integers(1, 3))
    rank = st.lists(term, min_size=1, max_size=len(dims), unique_by=lambda pair: pair[0]).map(tuple)
    tensors = [Tensor(name, tuple(draw(st.lists(rank, min_size=1, max_size=3))), name == "Y") for name in "XY"]
    return Workload("w", tuple(dims), tuple(bounds), tuple(tensors))


@given(repeated_tasks(), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_no_count_exceeds_the_bound_that_is_checked(layer, seed):
    levels = (
        StorageLevel("R", mesh_x=2, mesh_y=2),
        StorageLevel("B", mesh_x=1, mesh_y=2),
        StorageLevel("D"),
    )
    machine = Accelerator("a", levels, Mac(mesh_x=4, mesh_y=2))
    batch = MapSpace(layer, machine).sample(np.random.default_rng(seed), 20)
    costs = CostModel(layer, machine).evaluate(batch, detail=True)
    used = costs.detail.used_instances[:, :, None]
    for t, tensor in enumerate(layer.tensors):
        most = largest_count(tensor, dict(zip(layer.dims, layer.bounds, strict=True)))
        for name in ("reads", "fills", "updates", "tile_words", "ingresses", "link_transfers"):
            count = (getattr(costs.detail, name) * used)[:, :, t]
            # Neighbours add to what a level serves, and partial sums travel both ways.
            assert (count >= 0).all()
            assert (count <= 2 * most).all(), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"read_bandwidth_words_per_cycle": 1e-17}, "read_bandwidth_words_per_cycle is 1e-17; give a number above 0"),
        ({"shared_bandwidth_words_per_cycle": HUGE}, "is a number of about 5,000 digits"),
        ({"write_bandwidth_words_per_cycle": math.nan}, "is nan"),
        ({"access_energy_pj": 1e308}, r"access_energy_pj is 1e\+308; give a finite energy"),
        ({"access_energy_pj": 10**30}, "access_energy_pj is 1000"),
        ({"access_energy_pj": 5e-324}, "access_energy_pj is 5e-324"),
        ({"energy_per_hop_pj": 1e16}, "energy_per_hop_pj is"),
        ({"router_energy_pj": -1.0}, "router_energy_pj is -1.0"),
        ({"metadata_word_bits": 2**31}, "metadata_word_bits is 2147483648; give a whole number of bits"),
        ({"metadata_word_bits": 2**53}, "metadata_word_bits is"),
        ({"metadata_word_bits": 2**62}, "metadata_word_bits is"),
        ({"metadata_capacity_bits": 2**64}, "metadata_capacity_bits is"),
        ({"word_bits": 2**17}, "word_bits is 131072; give a whole number of at most 65536"),
        ({"block_size_words": 2**21}, "block_size_words is 2097152; give a whole number of at most 1048576"),
        ({"capacity_words": HUGE}, r"of about 5,000 digits; give a whole number of at most 2\*\*53"),
    ],
)
def test_levels_out_of_range_are_refused(changes, message):
    with pytest.raises(SpecificationError, match=message):
        StorageLevel("L", **changes)


def test_energies_and_bandwidths_at_the_ends_of_their_ranges_give_finite_costs():
    layer = matmul(M=2**14, K=2**14, N=2**14)
    for energy, bandwidth in ((1e15, 1e-4), (1e-15, 1e18)):
        levels = tuple(
            replace(level, access_energy_pj=energy, energy_per_hop_pj=energy, read_bandwidth_words_per_cycle=bandwidth)
            for level in MACHINE.levels
        )
        machine = replace(MACHINE, levels=levels, mac=replace(MACHINE.mac, energy_pj=energy))
        cost = CostModel(layer, machine).evaluate(Mapping.trivial(layer, machine))
        bound = lower_bound(layer, machine)
        assert 0 < bound.edp <= cost.edp < 1e100
        assert 0 < cost.utilization <= 1


def test_a_bandwidth_whose_cycles_could_not_be_counted_is_refused():
    def machine(bandwidth):
        levels = [replace(level, read_bandwidth_words_per_cycle=bandwidth) for level in MACHINE.levels]
        return replace(MACHINE, levels=tuple(levels))

    layer = matmul(M=2**16, K=2**17, N=2**17)
    with pytest.raises(SpecificationError, match=r"could take more than the 2\*\*62 cycles"):
        CostModel(layer, machine(1e-4))
    cost = CostModel(layer, machine(0.25)).evaluate(Mapping.trivial(layer, MACHINE))
    # Both operands are read for each multiply-accumulate, and the sums but for their first visit.
    assert cost.latency_cycles == pytest.approx(3 * 2**50 * 4, rel=1e-3)


@pytest.mark.parametrize(
    "density", [5e-324, 1e-300, 1e-10, 0, -1, 1.5, math.nan, True, "0.5", pytest.param(HUGE, id="huge")]
)
def test_densities_out_of_range_are_refused(density):
    with pytest.raises(SpecificationError, match=r"density is .*; give a number above 0 and at most 1"):
        Tensor("X", ((("K", 1),),), density=density, density_distribution="hypergeometric")
    if density != "0.5":
        with pytest.raises(SpecificationError, match=r"a density is .*; give a number above 0 and at most 1"):
            SparsityAware((density,))


@pytest.mark.parametrize("distribution", ["fixed-structured", "hypergeometric"])
def test_the_lowest_density_has_finite_costs(distribution):
    layer, machine = workload("toy/tiny_conv"), accelerator("tiny_sparse_md")
    layer = layer.with_densities({"Inputs": 1e-9, "Weights": 1e-9}, distribution)
    costs = CostModel(layer, machine).evaluate(MapSpace(layer, machine).sample(np.random.default_rng(0), 20))
    bound = lower_bound(layer, machine)
    assert np.isfinite(costs.edp).all()
    assert (costs.energy_pj >= bound.energy_pj).all()
    assert bound.energy_pj > 0


def test_what_sparse_hardware_cannot_count_is_refused():
    machine = accelerator("tiny_sparse_md")
    layer = matmul(M=2**20, K=2**20, N=2**8)
    sparse = replace(layer, tensors=tuple(replace(t, density=0.5) for t in layer.tensors))
    sparse = sparse.with_densities({}, "hypergeometric")
    with pytest.raises(
        SpecificationError, match=r"'Weights' has about .* words, too many for the hypergeometric|Inputs"
    ):
        CostModel(sparse, machine)
    levels = (*machine.levels[:-1], replace(machine.levels[-1], block_size_words=2**20, formats=()))
    with pytest.raises(SpecificationError, match=r"words of a block of .* are too many"):
        CostModel(layer, replace(machine, levels=levels))
    levels = tuple(replace(level, metadata_word_bits=2**16) for level in machine.levels)
    with pytest.raises(SpecificationError, match=r"metadata of 65536 bits a word at .* could take more"):
        CostModel(layer, replace(machine, levels=levels))


@pytest.mark.parametrize("weights", [(5e-324, 1), (1e308, 1), (math.inf, 1), (HUGE, 1)])
def test_weights_out_of_range_are_refused(weights):
    with pytest.raises(SpecificationError, match=r"a weight of a density is"):
        SparsityAware((1.0, 0.5), weights)


@pytest.mark.parametrize("seconds", [0, -1, math.inf, math.nan, 1e10, pytest.param(HUGE, id="huge"), "1"])
def test_time_limits_out_of_range_are_refused(seconds):
    with pytest.raises(SpecificationError, match=r"budget: seconds is .*; give a finite number above 0"):
        Budget(seconds=seconds)


@pytest.mark.parametrize(
    ("agent", "parameters"),
    [
        ("evolution", {"drawn": "1e9"}),
        ("evolution", {"population": "1000000000"}),
        ("evolution", {"population": "9" * 5000}),
        ("cosa", {"compute": "inf"}),
        ("cosa", {"compute": "nan"}),
        ("gamma", {"move": 1e300}),
        ("random", {"batch_size": 10**12}),
        ("exhaustive", {"limit": math.inf}),
    ],
)
def test_parameters_have_a_largest_value(agent, parameters):
    with pytest.raises(SpecificationError, match=r"; give a (whole )?number"):
        make_agent(agent, **parameters)


def test_what_does_not_fit_into_memory_is_refused_before_it_is_allocated(monkeypatch):
    layer = workload("toy/tiny_gemm")
    batch = MappingBatch.trivial(layer, MACHINE, 1)
    space = MapSpace(layer, MACHINE)
    for ask in (
        lambda: batch.blank(10**15),
        lambda: MappingBatch.trivial(layer, MACHINE, 10**15),
        lambda: space.sample(np.random.default_rng(0), 10**15),
        lambda: space.sample(np.random.default_rng(0), 10**400),
    ):
        with pytest.raises(SpecificationError, match=r"mappings would take .* GB of memory, and .* ask for fewer"):
            ask()
    monkeypatch.setattr("mapgym.system.memory.available_bytes", lambda: 0)
    assert len(batch.blank(1000)) == 1000
    with pytest.raises(SpecificationError, match=r"and 0\.0 GB are left"):
        batch.blank(10**7)


@pytest.mark.parametrize("n", [-1, 2.5, True, "3", None])
def test_what_is_no_number_of_mappings_is_refused(n):
    with pytest.raises(SpecificationError, match=r"give a|ask for a whole number"):
        MapSpace(workload("toy/tiny_gemm"), MACHINE).sample(np.random.default_rng(0), n)


def test_counts_that_do_not_fit_into_memory_are_refused(monkeypatch):
    layer = workload("toy/tiny_gemm")
    batch = MappingBatch.trivial(layer, MACHINE, 2**18)
    monkeypatch.setattr("mapgym.system.memory.available_bytes", lambda: 0)
    with pytest.raises(SpecificationError, match=r"the counts of 262,144 mappings would take .* without detail"):
        CostModel(layer, MACHINE).evaluate(batch, detail=True)
    assert CostModel(layer, MACHINE).evaluate(batch[:10], detail=True).detail is not None
