"""Optimisers from libraries, over vectors of keys."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from mapgym.agents import agent_class, make_agent
from mapgym.agents.search.keys.differential_evolution import OneGeneration
from mapgym.cost import CostModel
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.mapspace import MapSpace
from mapgym.spec.workload import matmul
from mapgym.testing.agents import RecordingEvaluator, small_accelerator

NAMES = ["cma-es", "tpe", "differential-evolution"]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    for module in agent_class(request.param).requires:
        pytest.importorskip(module)
    return str(request.param)


def small(name: str, **parameters: object):
    """The agent with less to do, so that it does everything within a few hundred samples."""
    sizes: dict[str, dict[str, object]] = {
        "cma-es": {"population": 20},
        "tpe": {"startup": 50, "window": 40},
        "differential-evolution": {"population": 20},
    }
    return make_agent(name, **{**sizes[name], **parameters})


def test_it_learns(name: str) -> None:
    """Late samples are far better than early ones, which are random; the seeds are fixed."""
    space = MapSpace(matmul("toy", B=4, M=24, K=36, N=48), small_accelerator())
    evaluator = RecordingEvaluator(space, budget=Budget(samples=400))
    small(name).search(evaluator, 0)
    assert np.median(evaluator.values[-100:]) < 0.5 * np.median(evaluator.values[:20])


def test_a_small_budget_gives_the_beginning_of_the_trace(name: str) -> None:
    space = MapSpace(matmul("small", M=8, K=8, N=4), small_accelerator())
    evaluators = [RecordingEvaluator(space, budget=Budget(samples=samples)) for samples in (90, 250)]
    for evaluator in evaluators:
        small(name).search(evaluator, 7)
    assert evaluators[1].values[:90] == evaluators[0].values


def test_only_members_are_priced_under_a_minimum_utilisation(name: str) -> None:
    space = MapSpace(matmul("small", M=6, K=5, N=4), small_accelerator(), constraints={"min_utilization": 1.0})
    evaluator = Evaluator(space, budget=Budget(samples=150))
    seen: list[float] = []
    evaluate = evaluator.evaluate
    evaluator.evaluate = lambda batch: seen.append(float(np.mean(space.contains(batch)))) or evaluate(batch)  # type: ignore
    small(name).search(evaluator, 0)
    assert evaluator.samples == 150
    assert set(seen) == {1.0}


def test_a_warm_start_is_where_it_begins(name: str) -> None:
    """Begun at the best of many mappings, vectors are better than when begun at random ones, over forty seeds."""
    space = MapSpace(matmul("toy", B=4, M=24, K=36, N=48), small_accelerator())
    model = CostModel(space.workload, space.accelerator)
    drawn = space.sample(np.random.default_rng(0), 5000)
    given = drawn[np.argsort(model.evaluate(drawn).objective("edp"))[:30]]
    medians = []
    for initial in (given, None):
        values = []
        for seed in range(40):
            evaluator = RecordingEvaluator(space, budget=Budget(samples=150))
            small(name).search(evaluator, seed, initial)
            values += evaluator.values[-100:]
        medians.append(np.median(values))
    assert medians[0] < medians[1]


def test_optuna_is_silent(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("optuna")
    space = MapSpace(matmul("small", M=8, K=8, N=4), small_accelerator())
    with caplog.at_level(logging.INFO):
        small("tpe").search(Evaluator(space, budget=Budget(samples=120)), 0)
    assert capsys.readouterr() == ("", "")
    assert not caplog.records


def test_the_model_of_tpe_holds_the_best_and_the_most_recent_samples() -> None:
    pytest.importorskip("optuna")
    space = MapSpace(matmul("small", M=8, K=8, N=4), small_accelerator())
    agent = small("tpe", window=10)
    agent.start(space, np.random.default_rng(0), "edp")
    agent._values = np.array([5.0, 1.0, 9.0, 2.0, 8.0, 3.0, 7.0, 4.0, 6.0, 5.5, 0.5, 9.5, 9.6])
    agent._keys = np.tile(agent._values[:, None], (1, agent._encoding.size))
    agent._forget()
    # Best: 0.5, 1, 2, 3, 4; of the others the last five.
    assert agent._values.tolist() == [1.0, 2.0, 3.0, 7.0, 4.0, 6.0, 5.5, 0.5, 9.5, 9.6]
    assert agent._keys[:, 0].tolist() == agent._values.tolist()


def test_cma_es_begins_anew_with_a_larger_population() -> None:
    pytest.importorskip("cmaes")
    space = MapSpace(matmul("point", M=1, K=1, N=1), small_accelerator())
    model = CostModel(space.workload, space.accelerator)
    agent = small("cma-es", population=10, growth=3.0)
    agent.start(space, np.random.default_rng(0), "edp")
    sizes = []
    for _ in range(200):
        batch = agent.ask(10**6)
        agent.tell(batch, model.evaluate(batch))
        sizes.append(len(batch))
    assert sorted(set(sizes)) == [10, 30, 90, 160]
    assert sizes == sorted(sizes)


def test_a_trial_vector_is_the_best_one_and_a_difference_of_two_others() -> None:
    """In the first key vector i is 3**i, so that a difference tells which two it is of."""
    population = np.stack([3.0 ** np.arange(5), np.arange(5) / 10], axis=1)
    differences = {3.0**a - 3.0**b: {a, b} for a in range(5) for b in range(5) if a != b}
    rng = np.random.default_rng(0)
    partners: set[tuple[int, ...]] = set()
    for _ in range(200):
        strategy = OneGeneration(0.5, 0.5, crossover=1.0)
        for candidate in range(5):
            pair = differences[2 * (strategy(candidate, population, rng)[0] - population[0, 0])]
            assert candidate not in pair
            partners.add((candidate, *sorted(pair)))
    assert len(partners) == 5 * 6


def test_the_strategy_mutates_at_least_one_key_and_draws_once_for_each_generation() -> None:
    rng = np.random.default_rng(0)
    population = rng.random((20, 30))
    strategy = OneGeneration(0.3, 0.7, crossover=0.0)
    trials = np.array([strategy(candidate, population, rng) for candidate in range(20)])
    assert ((trials != population).sum(axis=1) == 1).all()
    assert np.array_equal(strategy(3, population, rng), trials[3])
    assert not np.array_equal(strategy(3, population.copy(), rng), trials[3])
