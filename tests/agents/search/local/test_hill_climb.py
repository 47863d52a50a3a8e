from __future__ import annotations

import numpy as np

from mapgym.agents import make_agent
from mapgym.agents.search.local.hill_climb import HillClimb
from mapgym.agents.search.local.hill_climb_kernels import climb
from mapgym.cost import CostModel
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.spec.workload import conv2d, matmul
from mapgym.testing.agents import small_accelerator

SPACE = MapSpace(conv2d("conv", N=2, C=12, M=8, P=6, Q=5, R=3, S=3), small_accelerator())


def told(agent: HillClimb, rounds: int) -> list[np.ndarray]:
    """Plays some rounds; returns where the climbers stood after each."""
    model = CostModel(SPACE.workload, SPACE.accelerator)
    agent.start(SPACE, np.random.default_rng(0), "edp")
    stood = []
    for _ in range(rounds):
        batch = agent.ask(1000)
        agent.tell(batch, model.evaluate(batch))
        stood.append(agent._values.copy())
    return stood


def test_climbers_never_go_up_before_they_start_again() -> None:
    stood = np.array(told(HillClimb(climbers=5, patience=1000), 60))
    assert (np.diff(stood, axis=0) <= 0).all()
    assert stood[-1].sum() < stood[0].sum()


def test_moves_of_climbers_by_hand() -> None:
    """Down, level, up, up for the last time, and up because it starts again; the budget ends before the sixth."""
    at, proposals = SPACE.sample(np.random.default_rng(0), 6), SPACE.sample(np.random.default_rng(1), 6)
    stand = [proposals[0], proposals[1], at[2], at[3], proposals[4], at[5]]
    expected = MappingBatch.concatenate([mapping.batch() for mapping in stand])
    values, idle = np.full(6, 10.0), np.array([1, 1, 0, 2, 3, 1])
    proposed = np.array([9.0, 10.0, 11.0, np.inf, 12.0])
    assert climb(proposals[:5].arrays(), proposed, at.arrays(), values, idle, 3) == 1
    assert values.tolist() == [9, 10, 10, 10, 12, 10]
    assert idle.tolist() == [0, 2, 1, 3, 0, 1]
    assert at == expected


def test_a_stuck_climber_starts_again_from_near_its_best() -> None:
    """With a patience of 1, a climber starts again after each proposal that does not lead it down."""
    agent = HillClimb(climbers=4, patience=1, kick=1)
    stood = np.array(told(agent, 80))
    ups = np.diff(stood, axis=0) > 0
    assert ups.any()
    # What a climber comes home to is the best that it has stood on when it last started again.
    assert (agent._home_values <= stood.min(axis=0) * (1 + 1e-12)).any()
    assert (agent._home_values >= stood.min(axis=0)).all()


def test_restarts_help_where_one_climb_is_not_enough() -> None:
    space = MapSpace(matmul("matmul", B=4, M=24, K=36, N=48), small_accelerator())
    best = {}
    for name, parameters in {"kick": {}, "random": {"restart": "random"}, "never": {"patience": 10**9}}.items():
        values = []
        for seed in range(5):
            evaluator = Evaluator(space, budget=Budget(samples=4000))
            make_agent("hill-climb", climbers=4, persistence=0.0, **{"patience": 60, **parameters}).search(
                evaluator, seed
            )
            values.append(evaluator.best_value)
        best[name] = np.mean(values)
    assert best["kick"] < best["never"]
    assert best["random"] < best["never"]


def test_a_small_budget_gives_the_beginning_of_the_trace() -> None:
    traces = []
    for samples in (430, 1000):
        evaluator = Evaluator(SPACE, budget=Budget(samples=samples))
        make_agent("hill-climb", patience=20).search(evaluator, 7)
        traces.append(evaluator.trace)
    assert [traces[0].best_at(n) for n in range(431)] == [traces[1].best_at(n) for n in range(431)]
