"""The lower bound is below every mapping's cost, and close where the answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import random_cases
from brute_force_optimum import brute_force_value, with_action_energies
from mapgym.cost import OBJECTIVES, CostModel, lower_bound
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.rules import RULE_SETS
from mapgym.spec.tensor import Tensor
from mapgym.spec.workload import Workload, matmul


def assert_bounded(workload, accelerator, batch: MappingBatch) -> int:
    """Checks all legal mappings that keep everything at the outermost level; returns how many there were."""
    costs = CostModel(workload, accelerator).evaluate(batch)
    judged = costs.legal & batch.keep[:, -1].all(axis=1)
    bound = lower_bound(workload, accelerator)
    for objective in OBJECTIVES:
        values = costs.objective(objective)[judged]
        assert np.all(values >= bound.objective(objective)), (objective, values.min(), bound)
    return int(judged.sum())


@pytest.mark.parametrize("rules", RULE_SETS)
@pytest.mark.parametrize("seed", range(40))
def test_no_random_mapping_is_below(seed, rules):
    case = random_cases.random_case(np.random.default_rng([7, seed]), 60, rules=rules)
    assert_bounded(case.workload, case.accelerator, case.batch)


@pytest.mark.parametrize("seed", range(18))
def test_no_mapping_found_by_descent_is_below(seed):
    """Random mappings are far from the bound; a short greedy search over small tasks comes close to it."""
    rng = np.random.default_rng([11, seed])
    case = random_cases.random_case(rng, 1, rules=list(RULE_SETS)[seed % len(RULE_SETS)])
    space = MapSpace(
        case.workload,
        replace(case.accelerator, fanout_check="per_level"),
        axes=("tile", "order", "parallelism", "bypass"),
    )
    model = CostModel(space.workload, space.accelerator)
    population = space.sample(rng, 64)
    for _ in range(40):
        together = MappingBatch.concatenate([population, space.random_neighbor(rng, population)])
        best = np.argsort(model.evaluate(together).objective("edp" if seed % 2 else "energy"))[:64]
        population = together[best]
    assert assert_bounded(space.workload, space.accelerator, population) == 64


def toy_layer(rng: np.random.Generator) -> Workload:
    """Three dims; an output with holes, or a dim on two axes of an operand, of the output or of both."""
    first, second, third = (int(rng.choice((2, 2, 3, 4))) for _ in range(3))
    stride, dilation = (int(rng.choice((1, 2, 3, 4))) for _ in range(2))
    tensors = (
        {"A": ["K", "L"], "B": ["K", "I"], "Out": [f"{stride}*I + {dilation}*L"]},
        {"A": [f"{stride}*I + K", f"I + {dilation}*L"], "Out": ["K", "L"]},
        {"A": ["K", "L"], "Out": [f"{stride}*I + K", "I"]},
        {"A": ["I + K", "I + L"], "B": ["L", "K"], "Out": [f"{stride}*I + L", f"{dilation}*I"]},
    )[int(rng.integers(4))]
    described = {name: {"projection": ranks, "output": name == "Out"} for name, ranks in tensors.items()}
    return Workload.from_dict({"name": "toy", "dims": {"I": first, "K": second, "L": third}, "tensors": described})


@pytest.mark.parametrize("seed", range(20))
def test_no_mapping_of_a_toy_layer_is_below(seed):
    """Every mapping of layers whose outputs have holes, or that have a dim on two axes of a tensor."""
    rng = np.random.default_rng([13, seed])
    mesh = int(rng.choice((1, 2)))
    energy, bandwidth = float(rng.choice((0.5, 4.0))), float(rng.choice((0.5, 8.0)))
    levels = (
        StorageLevel("Registers", int(rng.integers(8, 40)), mesh_x=mesh, access_energy_pj=energy),
        StorageLevel("Memory", access_energy_pj=20.0, shared_bandwidth_words_per_cycle=bandwidth),
    )
    rules = list(RULE_SETS)[seed // 2 % len(RULE_SETS)]
    accelerator = Accelerator("toy", levels, Mac(mesh_x=2), peer_links=bool(seed % 2), rules=rules)
    if seed % 3 == 0:
        accelerator = with_action_energies(rng, accelerator)
    workload = toy_layer(rng)
    space = MapSpace(workload, accelerator, axes=("tile", "order", "parallelism", "bypass"))
    bound = lower_bound(workload, accelerator)
    for objective in OBJECTIVES:
        assert brute_force_value(space, objective) >= bound.objective(objective)


def test_one_level_without_reuse_is_met_exactly():
    """One memory, one MAC, M=K=N=2: 8 MACs, each reading two operands and updating one output.

    Reads: 8 + 8, and of the 8 updates the first visits of the 4 outputs need no read, so 4 more; updates: 8.
    Energy: 28 accesses * 3 pJ + 8 MACs * 0.5 pJ = 88 pJ; cycles: 8.
    """
    workload = matmul(M=2, K=2, N=2)
    accelerator = Accelerator("one", (StorageLevel("Memory", access_energy_pj=3.0),), Mac(energy_pj=0.5))
    cost = CostModel(workload, accelerator).evaluate(MappingBatch.trivial(workload, accelerator, 1))[0]
    bound = lower_bound(workload, accelerator)
    assert (cost.energy_pj, cost.latency_cycles) == (88.0, 8.0)
    assert bound.energy_pj == pytest.approx(88.0, rel=1e-9)
    assert bound.latency_cycles == pytest.approx(8.0, rel=1e-9)


def test_first_visits_are_counted_without_the_holes_of_the_output():
    """Outputs[3*M], M=4: the box has 1 + 3*3 = 10 words, but only 4 are written, K=5 times each: 20 updates.

    Reads of the output: 20 - 4 = 16; operand reads: 20. Energy: 56 accesses * 1 pJ + 20 MACs * 1 pJ = 76 pJ.
    """
    tensors = (
        Tensor("A", ((("M", 1),), (("K", 1),))),
        Tensor("Outputs", ((("M", 3),),), is_output=True),
    )
    workload = Workload("holes", ("M", "K"), (4, 5), tensors)
    accelerator = Accelerator("one", (StorageLevel("Memory"),), Mac())
    cost = CostModel(workload, accelerator).evaluate(MappingBatch.trivial(workload, accelerator, 1))[0]
    assert cost.energy_pj == 76.0
    assert lower_bound(workload, accelerator).energy_pj == pytest.approx(76.0, rel=1e-9)


def test_parallelism_counts_only_divisors():
    """M=3, K=5, N=7 on a row of 16 MACs: the largest product of divisors within 16 is 3 * 5 = 15; 105 / 15 = 7."""
    workload = matmul(M=3, K=5, N=7)
    accelerator = Accelerator("row", (StorageLevel("Memory"),), Mac(mesh_x=16))
    assert lower_bound(workload, accelerator).latency_cycles == pytest.approx(7.0, rel=1e-9)


def test_bandwidth_of_the_outermost_level_bounds_the_cycles():
    """M=K=N=4: 32 operand words must be read and 16 results written; at 1 word per cycle shared, 48 cycles or more."""
    workload = matmul(M=4, K=4, N=4)
    memory = StorageLevel("Memory", shared_bandwidth_words_per_cycle=1.0)
    accelerator = Accelerator("narrow", (memory,), Mac(mesh_x=64), peer_links=False)
    assert lower_bound(workload, accelerator).latency_cycles == pytest.approx(48.0, rel=1e-9)


def test_a_larger_layer_has_a_larger_bound():
    accelerator = Accelerator("row", (StorageLevel("Buffer", 64), StorageLevel("Memory")), Mac(mesh_x=4))
    small, large = (lower_bound(matmul(M=8, K=8, N=n), accelerator) for n in (8, 16))
    assert large.energy_pj > small.energy_pj
    assert large.latency_cycles > small.latency_cycles


def test_many_tensors_on_many_levels_are_bounded_one_by_one():
    """Five tensors on six levels have 7,776 ways to be fed; the bound looks at each tensor by itself then."""
    names = "ABCD"
    tensors = tuple(Tensor(name, (((name, 1),), (("K", 1),))) for name in names)
    output = Tensor("Outputs", tuple(((name, 1),) for name in names), is_output=True)
    workload = Workload("product", (*names, "K"), (2, 2, 2, 2, 3), (*tensors, output))
    levels = tuple(StorageLevel(f"L{s}", 64, access_energy_pj=1.0 + s) for s in range(5))
    accelerator = Accelerator("deep", (*levels, StorageLevel("Memory", access_energy_pj=50.0)), Mac(mesh_x=2))
    space = MapSpace(workload, accelerator, axes=("tile", "order", "parallelism", "bypass"))
    assert assert_bounded(workload, accelerator, space.sample(np.random.default_rng(0), 2000)) == 2000
    assert lower_bound(workload, accelerator).energy_pj > workload.macs
