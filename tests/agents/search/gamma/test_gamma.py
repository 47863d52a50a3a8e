from __future__ import annotations

import numpy as np
import pytest

from mapgym.agents.search.gamma.gamma import Gamma
from mapgym.compilation.hash_kernels import remember
from mapgym.cost import CostModel
from mapgym.errors import SpecificationError
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.mapping import MappingBatch
from mapgym.mapping.mapping import factor_products
from mapgym.mapspace import MapSpace
from mapgym.spec.constraints import Constraints
from mapgym.spec.workload import Workload, conv2d, depthwise_conv2d, matmul
from mapgym.testing.agents import small_accelerator

AXES = ("tile", "order", "parallelism", "bypass")
WORKLOADS = [
    conv2d("conv", N=2, C=12, M=8, P=6, Q=5, R=3, S=3, stride=2),
    depthwise_conv2d("depthwise", N=1, C=16, P=7, Q=14, R=3, S=3),
    matmul("matmul", B=3, M=30, K=16, N=8),
]


def bred(space: MapSpace, rounds: int = 20, **parameters: float) -> MappingBatch:
    """Children of random parents, without selection."""
    agent = Gamma(inject=0.0, **parameters)  # type: ignore[arg-type]
    rng = np.random.default_rng(1)
    agent.start(space, rng, "edp")
    model = CostModel(space.workload, space.accelerator)
    batches = []
    for _ in range(rounds):
        batches.append(agent.ask(10_000))
        agent.tell(batches[-1], model.evaluate(batches[-1]))
    return MappingBatch.concatenate(batches[1:])


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
@pytest.mark.parametrize("fanout_check", ["per_level", "cumulative"])
@pytest.mark.parametrize("peer_links", [True, False])
def test_children_are_members_of_the_space(workload: Workload, fanout_check: str, peer_links: bool) -> None:
    space = MapSpace(workload, small_accelerator(fanout_check=fanout_check, peer_links=peer_links), axes=AXES)
    children = bred(space)
    assert (factor_products(children) == workload.bounds).all()
    assert (np.asarray(space.status(children)) == 0).all()
    assert np.all(space.contains(children))


@pytest.mark.parametrize("mutation", ["move", "exchange", "parallelism", "retile", "levels", "order", "bypass"])
def test_each_mutation_alone_changes_something_and_keeps_mappings_legal(mutation: str) -> None:
    weights = dict.fromkeys(["move", "exchange", "parallelism", "retile", "levels", "order", "bypass"], 0.0)
    space = MapSpace(WORKLOADS[0], small_accelerator(), axes=AXES)
    agent = Gamma(**{**weights, mutation: 1.0}, crossover=0.0, persistence=0.0)  # type: ignore[arg-type]
    agent.start(space, np.random.default_rng(0), "edp")
    parents = space.sample(np.random.default_rng(1), 50)
    children = agent._breed(parents, len(parents))
    assert np.all(space.contains(children))
    known = {tuple(array.tobytes() for array in row.arrays()) for row in space.canonical(parents)}
    new = sum(tuple(array.tobytes() for array in row.arrays()) not in known for row in space.canonical(children))
    assert new > 25


def test_no_mapping_is_bred_twice() -> None:
    space = MapSpace(WORKLOADS[0], small_accelerator())
    children = space.canonical(bred(space, rounds=40))
    distinct = {tuple(array.tobytes() for array in row.arrays()) for row in children}
    assert len(distinct) > 0.99 * len(children)


def test_high_utilisation_is_bred_not_drawn() -> None:
    """With a minimum utilisation most random changes are illegal; the breeding still delivers."""
    space = MapSpace(WORKLOADS[2], small_accelerator(), constraints=Constraints(min_utilization=1.0))
    children = bred(space)
    assert (children.used_macs() == 4).all()


def test_hash_table_finds_repeats_and_forgets_when_half_full() -> None:
    seen = np.zeros(64, np.uint64)
    hashes = np.random.default_rng(0).integers(1, 2**63, 20, dtype=np.uint64) | np.uint64(1)
    assert all(remember(seen, h) for h in hashes)
    assert not any(remember(seen, h) for h in hashes)
    for h in np.random.default_rng(1).integers(1, 2**63, 1000, dtype=np.uint64):
        remember(seen, h | np.uint64(1))
    assert np.count_nonzero(seen[1:]) <= 33


@pytest.mark.parametrize("left", ["move", "order", "parallelism"])
@pytest.mark.parametrize("crossover", [0.0, 0.5])
def test_operators_can_be_switched_off_by_weight_0(left: str, crossover: float) -> None:
    weights = dict.fromkeys(["move", "exchange", "parallelism", "retile", "levels", "order", "bypass"], 0.0)
    space = MapSpace(WORKLOADS[0], small_accelerator(), axes=AXES)
    evaluator = Evaluator(space, budget=Budget(samples=300))
    Gamma(**{**weights, left: 1.0}, crossover=crossover).search(evaluator, 0)  # type: ignore[arg-type]
    assert evaluator.samples == 300


def test_all_weights_0_is_refused() -> None:
    weights = dict.fromkeys(["move", "exchange", "parallelism", "retile", "levels", "order", "bypass"], 0.0)
    with pytest.raises(SpecificationError, match="no mutation of the axes tile, order, parallelism has a weight"):
        Gamma(**weights).search(Evaluator(MapSpace(WORKLOADS[0], small_accelerator())), 0)  # type: ignore[arg-type]
