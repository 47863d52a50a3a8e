from __future__ import annotations

import numpy as np
import pytest

from mapgym.agents.search.factor_greedy import FactorGreedy
from mapgym.cost import CostModel
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.spec.workload import conv2d, matmul
from mapgym.testing.agents import small_accelerator

CONV = conv2d("conv", N=2, C=4, M=6, P=4, Q=6, R=3, S=3)
ALL = ("tile", "order", "parallelism", "bypass")


def begun(space: MapSpace, **parameters: float) -> FactorGreedy:
    agent = FactorGreedy(**parameters)  # type: ignore[arg-type]
    agent.start(space, np.random.default_rng(0), "edp")
    return agent


def test_a_class_puts_the_loops_of_the_stationary_tensor_innermost_sliding_dims_first() -> None:
    agent = begun(MapSpace(CONV, small_accelerator()))
    dims = CONV.dims
    orders = {tuple("".join(dims[d] for d in agent._order_of(n)[s]) for s in (1, 2)) for n in range(agent._classes)}
    stationary = {"PQNCRSM", "MNCPQRS", "RSCNPQM"}  # weights, inputs, outputs
    assert orders == {(inner, outer) for inner in stationary for outer in stationary}


def test_the_first_descent_is_steepest_from_everything_outermost() -> None:
    """The same descent, written down plainly."""
    space = MapSpace(CONV, small_accelerator(peer_links=False))
    agent, model = begun(space), CostModel(space.workload, space.accelerator)
    first = agent.ask(1000)
    expected = space.canonical(MappingBatch.trivial(CONV, space.accelerator, 1)).temporal
    assert np.array_equal(first.temporal, expected)
    order = agent._order
    current, value = first[0], model.evaluate(first).edp[0]
    agent.tell(first, model.evaluate(first))
    for _ in range(100):
        batch = agent.ask(1000)
        neighbors = space.neighbors(current, order)
        assert batch == neighbors
        assert np.all(space.contains(batch))
        costs = model.evaluate(neighbors)
        agent.tell(batch, costs)
        if costs.edp.min() >= value:
            break
        current, value = neighbors[int(costs.edp.argmin())], costs.edp.min()
    assert value == agent._best_value < model.evaluate(first).edp[0] / 4
    restart = agent.ask(1000)
    assert len(restart) == 1
    assert restart != current.batch()


def test_neighbors_in_a_given_order_swap_no_loops() -> None:
    space = MapSpace(CONV, small_accelerator(), ALL)
    mapping = space.sample(np.random.default_rng(0), 1)[0]
    order = np.tile(np.arange(len(CONV.dims))[::-1], (3, 1))
    neighbors = space.neighbors(mapping, order)
    assert np.all(space.contains(neighbors))
    for row in neighbors:
        for s in range(3):
            loops = [CONV.dims.index(dim) for dim, _ in row.temporal_loops(s)]
            assert loops == sorted(loops, reverse=True)
    assert len(neighbors) < len(space.neighbors(mapping))


def test_all_classes_from_the_outermost_level_on_request() -> None:
    space = MapSpace(matmul("m", M=4, K=4, N=4), small_accelerator())
    evaluator = Evaluator(space, budget=Budget(samples=4000))
    starts = []

    class Counting(FactorGreedy):
        def _outermost(self) -> MappingBatch:
            starts.append(tuple(self._order.ravel()))
            return super()._outermost()

    Counting(from_outermost=100).search(evaluator, 0)
    assert len(starts) == len(set(starts)) == 9


def test_a_warm_start_descends_from_the_best_given_in_its_own_order() -> None:
    space = MapSpace(CONV, small_accelerator())
    agent, model = begun(space), CostModel(space.workload, space.accelerator)
    given = space.sample(np.random.default_rng(3), 20)
    costs = model.evaluate(given)
    agent.tell(given, costs)
    best = given[int(costs.edp.argmin())]
    assert agent.ask(1000) == space.neighbors(best, best.order)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_finds_the_optimum_of_a_small_task(seed: int) -> None:
    space = MapSpace(matmul("m", M=8, K=8, N=4), small_accelerator(peer_links=False))
    evaluator = Evaluator(space, budget=Budget(samples=5000))
    FactorGreedy().search(evaluator, seed)
    from mapgym.cost.optimum import find_optimum

    assert evaluator.best_value <= 1.02 * find_optimum(space, "edp").value
