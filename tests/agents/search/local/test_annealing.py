from __future__ import annotations

import sys

import numpy as np
import pytest

from mapgym.agents.search.local.annealing import Annealing
from mapgym.cost import CostModel
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.mapspace import MapSpace
from mapgym.spec.workload import conv2d
from mapgym.testing.agents import small_accelerator

SPACE = MapSpace(conv2d("conv", N=2, C=12, M=8, P=6, Q=5, R=3, S=3), small_accelerator())


def temperatures(agent: Annealing, rounds: int, samples: int | None, warm: bool = False) -> list[float]:
    """The temperatures of some rounds of a search with a budget in samples, or without one."""
    model = CostModel(SPACE.workload, SPACE.accelerator)
    agent.start(SPACE, np.random.default_rng(0), "edp")
    if warm:
        batch = SPACE.sample(np.random.default_rng(1), 10)
        agent.tell(batch, model.evaluate(batch))
    seen, spent = [], 0
    for _ in range(rounds):
        batch = agent.ask(sys.maxsize if samples is None else samples - spent)
        agent.tell(batch, model.evaluate(batch))
        spent += len(batch)
        seen.append(getattr(agent, "_temperature", np.nan))
    return seen


def test_the_temperature_falls_geometrically_over_the_budget() -> None:
    # The first round is random; then ten of ten chains each spend the remaining hundred samples.
    agent = Annealing(chains=10, pool=10, hot=0.1, cold=0.001)
    assert temperatures(agent, 11, 110)[1:] == pytest.approx([0.1 * 0.01 ** (i / 10) for i in range(10)])


def test_without_a_number_of_samples_it_anneals_in_cycles_of_doubling_length() -> None:
    agent = Annealing(chains=10, pool=10, hot=0.1, cold=0.001, cycle=20)
    expected = [0.1 * 0.01 ** (i / rounds) for rounds in (2, 4, 8) for i in range(rounds)]
    assert temperatures(agent, 15, None)[1:] == pytest.approx(expected)


def test_a_warm_start_begins_at_the_mean_temperature_from_the_best() -> None:
    agent = Annealing(chains=3, hot=0.1, cold=0.001)
    assert temperatures(agent, 1, 100, warm=True) == pytest.approx([0.01])
    batch = SPACE.sample(np.random.default_rng(1), 10)
    values = CostModel(SPACE.workload, SPACE.accelerator).evaluate(batch).objective("edp")
    agent.start(SPACE, np.random.default_rng(0), "edp")
    agent.tell(batch, CostModel(SPACE.workload, SPACE.accelerator).evaluate(batch))
    assert agent._values == pytest.approx(np.log(np.sort(values)[:3]))


def accepted(difference: float, temperature: float) -> float:
    """Share of chains that move to a mapping whose cost is higher by a factor of exp(difference)."""

    class Costs:
        def objective(self, name: str) -> np.ndarray:
            return np.full(4000, np.exp(difference))

    agent = Annealing(chains=4000)
    agent.start(SPACE, np.random.default_rng(0), "edp")
    agent._at = SPACE.sample(np.random.default_rng(0), 1)[np.zeros(4000, np.int64)]
    agent._values, agent._temperature = np.zeros(4000), temperature
    agent.tell(agent._at, Costs())  # type: ignore[arg-type]
    return float((agent._values > 0).mean()) if difference > 0 else float((agent._values < 0).mean())


def test_acceptance_follows_metropolis() -> None:
    assert accepted(0.1, 0.1) == pytest.approx(np.exp(-1), abs=0.03)
    assert accepted(0.02, 0.1) == pytest.approx(np.exp(-0.2), abs=0.03)
    assert accepted(1.0, 0.01) == 0
    assert accepted(-0.5, 0.01) == 1


def test_the_same_seed_gives_the_same_samples_when_only_seconds_are_limited() -> None:
    traces = []
    for seconds in (0.3, 0.6):
        evaluator = Evaluator(SPACE, budget=Budget(seconds=seconds))
        Annealing(cycle=64).search(evaluator, 1)
        traces.append(evaluator.trace)
    n = min(len(trace) for trace in traces)
    assert traces[0].samples[:n] == traces[1].samples[:n]
    assert traces[0].values[:n] == traces[1].values[:n]
