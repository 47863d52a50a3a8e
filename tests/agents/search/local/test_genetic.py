from __future__ import annotations

import numpy as np
import pytest

from mapgym.agents.search.local.genetic import Genetic
from mapgym.agents.search.local.genetic_kernels import cross_each
from mapgym.cost import CostModel
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.spec.workload import Workload, conv2d, matmul
from mapgym.testing.agents import small_accelerator

AXES = ("tile", "order", "parallelism", "bypass")
WORKLOADS = [
    conv2d("conv", N=2, C=12, M=8, P=6, Q=5, R=3, S=3, stride=2),
    matmul("matmul", B=3, M=30, K=16, N=8),
]


def crossed(space: MapSpace, parents: MappingBatch, n: int, crossover: float = 1.0) -> MappingBatch:
    children = MappingBatch.trivial(space.workload, space.accelerator, n)
    levels, dims, tensors = len(children.levels), len(children.dims), len(children.tensors)
    memory = np.empty((levels, dims)), np.empty((levels, tensors)), np.array([5], np.uint64)
    cross_each(parents.arrays(), children.arrays(), space.sorting, space.edit_tables, crossover, 8, *memory)
    return children


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
@pytest.mark.parametrize("peer_links", [True, False])
def test_each_gene_of_a_child_comes_from_a_parent(workload: Workload, peer_links: bool) -> None:
    space = MapSpace(workload, small_accelerator(peer_links=peer_links), axes=AXES)
    parents = space.sample(np.random.default_rng(0), 2)
    children = crossed(space, parents, 300)
    assert np.all(space.contains(children))
    assert children == space.canonical(children)
    mixed = 0
    for child in children:
        donors = []
        for d in range(len(child.dims)):
            chains = [
                (child.temporal[:, d] == parent.temporal[:, d]).all()
                and (child.spatial[:, d] == parent.spatial[:, d]).all()
                for parent in parents
            ]
            assert any(chains)
            donors.append(int(np.argmax(chains)))
        for level in range(len(child.levels)):
            assert any((child.keep[level] == parent.keep[level]).all() for parent in parents)
            # The loops of a level stand to each other as in one of the parents.
            loops = [d for d in child.order[level] if child.temporal[level, d] > 1]
            assert any([d for d in parent.order[level] if d in loops] == loops for parent in parents)
        mixed += len(set(donors)) > 1
    assert mixed > 20


def test_without_crossover_children_are_copies() -> None:
    space = MapSpace(WORKLOADS[0], small_accelerator(), axes=AXES)
    parents = space.sample(np.random.default_rng(0), 3)
    children = crossed(space, parents, 50, crossover=0.0)
    assert all(any(child == parent for parent in parents) for child in children)


def test_the_best_of_all_generations_breed() -> None:
    space = MapSpace(WORKLOADS[1], small_accelerator(), axes=AXES)
    model = CostModel(space.workload, space.accelerator)
    agent = Genetic(population=40, parents=7)
    agent.start(space, np.random.default_rng(0), "energy")
    seen: list[float] = []
    for _ in range(6):
        batch = agent.ask(1)
        assert len(batch) == 40
        assert np.all(space.contains(batch))
        costs = model.evaluate(batch)
        agent.tell(batch, costs)
        seen += costs.objective("energy").tolist()
        assert agent._values.tolist() == sorted(seen)[:7]
        assert model.evaluate(agent._parents).objective("energy").tolist() == agent._values.tolist()


def test_a_warm_start_joins_the_random_population() -> None:
    space = MapSpace(WORKLOADS[1], small_accelerator(), axes=AXES)
    model = CostModel(space.workload, space.accelerator)
    agent = Genetic(population=20, parents=5)
    agent.start(space, np.random.default_rng(0), "edp")
    warm = space.sample(np.random.default_rng(7), 500)
    agent.tell(warm, model.evaluate(warm))
    assert agent._values.tolist() == sorted(model.evaluate(warm).objective("edp"))[:5]
    assert len(agent.ask(1)) == 20
