from __future__ import annotations

import math
import sys

import numpy as np
import pytest

from mapgym.agents import make_agent
from mapgym.agents.search.mcts.mcts import Mcts
from mapgym.agents.search.mcts.mcts_kernels import ROOT, SIZE, Rules, _expand, _select
from mapgym.cost import CostModel
from mapgym.evaluation.evaluator import Budget
from mapgym.mapspace import MapSpace
from mapgym.spec import catalog
from mapgym.spec.constraints import Constraints
from mapgym.spec.workload import conv2d, matmul
from mapgym.testing.agents import RecordingEvaluator, small_accelerator

AXES = ("tile", "order", "parallelism", "bypass")
SPACE = MapSpace(conv2d("conv", N=2, C=12, M=8, P=6, Q=5, R=3, S=3), small_accelerator(), AXES)


def started(space: MapSpace = SPACE, **parameters: float) -> Mcts:
    agent = Mcts(**parameters)  # type: ignore[arg-type]
    agent.start(space, np.random.default_rng(0), "edp")
    return agent


def search(space: MapSpace, samples: int, **parameters: float) -> RecordingEvaluator:
    evaluator = RecordingEvaluator(space, budget=Budget(samples=samples))
    Mcts(**parameters).search(evaluator, 0)  # type: ignore[arg-type]
    return evaluator


def parent_with(values: list[list[float]], pending: list[int]) -> Mcts:
    """A root with a child for each list of values that samples below it had."""
    agent = started()
    tree = agent._tree
    _expand(tree, ROOT, np.arange(len(values)), len(values))
    for child, (known, waiting) in enumerate(zip(values, pending, strict=True), 1):
        tree.visits[child], tree.pending[child] = len(known), waiting
        tree.totals[child], tree.bests[child] = sum(known), max(known, default=-np.inf)
        tree.visits[ROOT] += len(known)
        tree.pending[ROOT] += waiting
    return agent


@pytest.mark.parametrize(
    ("values", "pending", "exploration", "best_weight", "chosen"),
    [
        # Nothing but the mean counts.
        ([[0.0, 1.0], [0.6, 0.6]], [0, 0], 0.0, 0.0, 2),
        # Nothing but the best counts.
        ([[0.0, 1.0], [0.6, 0.6]], [0, 0], 0.0, 1.0, 1),
        # 0.5 + 0.3 * sqrt(ln 4 / 3) = 0.704 and 0.4 + 0.3 * sqrt(ln 4 / 1) = 0.753.
        ([[0.5, 0.5, 0.5], [0.4]], [0, 0], 0.3, 0.0, 2),
        # 0.5 + 0.1 * sqrt(ln 4 / 3) = 0.568 and 0.4 + 0.1 * sqrt(ln 4 / 1) = 0.518.
        ([[0.5, 0.5, 0.5], [0.4]], [0, 0], 0.1, 0.0, 1),
        # What is being priced counts as 0: 0.9 / 2 and 0.5.
        ([[0.9], [0.5]], [1, 0], 0.0, 0.0, 2),
        # What nobody has tried comes first; what is being priced for the first time was tried.
        ([[0.9], [], []], [0, 1, 0], 0.0, 0.0, 3),
    ],
)
def test_the_highest_upper_confidence_bound_is_chosen(
    values: list[list[float]], pending: list[int], exploration: float, best_weight: float, chosen: int
) -> None:
    agent = parent_with(values, pending)
    assert _select(agent._tree, ROOT, Rules(exploration, best_weight, 0.0, 0.0, 1.0), agent._generator) == chosen


def test_values_are_on_a_scale_from_the_median_to_the_best() -> None:
    agent = started(batch_size=200)
    model = CostModel(SPACE.workload, SPACE.accelerator)
    batch = agent.ask(sys.maxsize)
    costs = model.evaluate(batch)
    agent.tell(batch, costs)
    values = -np.log(costs.edp)
    rules = agent._rules()
    assert rules.low == pytest.approx(np.median(values))
    assert rules.low + rules.spread == pytest.approx(values.max())


def test_a_batch_goes_different_ways() -> None:
    # Nothing is known, so that each choice of the first decision is tried as often as the others, but for rounding.
    agent = started(batch_size=60, exploration=1.0)
    agent.ask(sys.maxsize)
    tree = agent._tree
    first, count = tree.firsts[ROOT], tree.counts[ROOT]
    tries = tree.pending[first : first + count]
    assert tries.sum() == tree.pending[ROOT] == 60
    assert tries.max() - tries.min() <= 1


def test_counts_add_up_after_a_search() -> None:
    agent = Mcts(batch_size=32)
    evaluator = RecordingEvaluator(SPACE, budget=Budget(samples=960))
    agent.search(evaluator, 0)
    tree, used = agent._tree, int(agent._tree.used[SIZE])
    assert tree.visits[ROOT] == 960
    assert tree.bests[ROOT] == pytest.approx(-math.log(evaluator.best_value))
    assert tree.totals[ROOT] == pytest.approx(-np.log(evaluator.values).sum())
    assert not tree.pending[:used].any()
    for node in np.flatnonzero(tree.firsts[:used]):
        children = slice(tree.firsts[node], tree.firsts[node] + tree.counts[node])
        # All samples but those that ended at the node itself, when it was a leaf.
        assert 0 <= tree.visits[node] - tree.visits[children].sum() <= 32
        assert tree.bests[children].max() <= tree.bests[node]


@pytest.mark.parametrize("axes", [AXES, ("tile", "order", "parallelism"), ("order",)])
@pytest.mark.parametrize("machine", ["accel_b", "accel_b_2d", "simba_like"])
def test_a_warm_start_becomes_the_whole_way_to_each_mapping(machine: str, axes: tuple[str, ...]) -> None:
    layer, accelerator = conv2d("conv", N=1, C=6, M=4, P=4, Q=2, R=3, S=1), catalog.accelerator(machine)
    base = MapSpace(layer, accelerator, AXES).sample(np.random.default_rng(1), 1)[0]
    space = MapSpace(layer, accelerator, axes, base=base)
    batch = space.sample(np.random.default_rng(2), 40)
    agent = started(space)
    costs = CostModel(space.workload, space.accelerator).evaluate(batch)
    agent.tell(batch, costs)
    assert agent._tree.visits[ROOT] == 40
    assert agent._tree.bests[ROOT] == pytest.approx(-math.log(costs.edp.min()))
    # What was given is closed, so that it is not asked for again.
    given = {mapping.to_text() for mapping in space.canonical(batch)}
    asked = [mapping.to_text() for mapping in space.canonical(agent.ask(sys.maxsize))]
    assert not given & set(asked)


def test_a_small_space_is_searched_completely() -> None:
    space = MapSpace(matmul("tiny", M=4, K=2, N=2), small_accelerator(), AXES)
    exhaustive = RecordingEvaluator(space, budget=Budget(samples=100_000))
    make_agent("exhaustive").search(exhaustive, 0)
    found = search(space, 100_000)
    assert found.samples < 100_000
    assert set(found.values) == set(exhaustive.values)


def test_no_sample_is_spent_outside_of_a_space_that_the_construction_leaves() -> None:
    for options in ({"constraints": Constraints(min_utilization=0.5)}, {}):
        space = MapSpace(SPACE.workload, small_accelerator(), ("tile", "order", "parallelism"), **options)
        evaluator = search(space, 300)
        assert np.isfinite(evaluator.values).all()
        assert space.contains(evaluator.best_mapping)


def test_a_tree_that_is_full_searches_on() -> None:
    agent = Mcts(nodes=1000)
    evaluator = RecordingEvaluator(SPACE, budget=Budget(samples=3000))
    agent.search(evaluator, 0)
    assert evaluator.samples == 3000
    assert len(agent._tree.parents) == 1000


def test_a_tree_grows_without_changing_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = search(SPACE, 2000).values
    monkeypatch.setattr("mapgym.agents.search.mcts.mcts._FIRST_NODES", 2**20)
    assert search(SPACE, 2000).values == expected


def test_a_small_budget_is_the_beginning_of_a_large_one() -> None:
    assert search(SPACE, 130).values == search(SPACE, 1000).values[:130]
