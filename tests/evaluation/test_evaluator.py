from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from mapgym.cost import CostModel
from mapgym.envs import make_env, make_vec_env
from mapgym.errors import SpecificationError
from mapgym.evaluation.evaluator import Budget, Evaluator, Trace
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.spec.constraints import Constraints
from mapgym.spec.workload import conv2d
from mapgym.testing.agents import small_accelerator


@pytest.fixture
def space() -> MapSpace:
    return MapSpace(conv2d("small", N=1, C=4, M=4, P=4, Q=2, R=3, S=1), small_accelerator())


def sample(space: MapSpace, n: int, seed: int = 0) -> MappingBatch:
    return space.sample(np.random.default_rng(seed), n)


def values_of(space: MapSpace, batch: MappingBatch, objective: str = "edp") -> np.ndarray:
    return CostModel(space.workload, space.accelerator).evaluate(batch).objective(objective)


def test_counts_every_mapping_and_cuts_the_batch_at_the_budget(space: MapSpace) -> None:
    evaluator = Evaluator(space, budget=Budget(samples=25))
    batch = sample(space, 10)
    assert [len(evaluator.evaluate(batch)) for _ in range(4)] == [10, 10, 5, 0]
    assert (evaluator.samples, evaluator.remaining, evaluator.exhausted) == (25, 0, True)


def test_illegal_mappings_count_but_are_never_the_best(space: MapSpace) -> None:
    batch = sample(space, 8)
    batch.temporal[3:, 0, 0] = 7
    evaluator = Evaluator(space, budget=Budget(samples=100))
    costs = evaluator.evaluate(batch)
    assert costs.legal.tolist() == [True] * 3 + [False] * 5
    assert evaluator.samples == 8
    assert evaluator.best_value == values_of(space, batch[:3]).min()


def test_without_a_legal_mapping_there_is_no_best(space: MapSpace) -> None:
    batch = sample(space, 2)
    batch.temporal[:] = 5
    evaluator = Evaluator(space, budget=Budget(samples=10))
    evaluator.evaluate(batch)
    assert evaluator.best_mapping is None
    assert evaluator.best_cost is None
    assert evaluator.best_value == evaluator.ratio == math.inf
    assert len(evaluator.trace) == 0


@pytest.mark.parametrize("objective", ["edp", "energy", "latency"])
def test_trace_holds_the_running_minimum(space: MapSpace, objective: str) -> None:
    evaluator = Evaluator(space, objective, Budget(samples=300))
    batches = [sample(space, 50, seed) for seed in range(6)]
    values = np.concatenate([values_of(space, batch, objective) for batch in batches])
    for batch in batches:
        evaluator.evaluate(batch)
    minima = np.minimum.accumulate(values)
    assert [evaluator.trace.best_at(n) for n in range(1, 301)] == minima.tolist()
    assert evaluator.trace.best_at(0) == math.inf
    assert evaluator.trace.values == sorted(set(minima), reverse=True)
    assert evaluator.trace.seconds == sorted(evaluator.trace.seconds)
    best = evaluator.best_mapping
    assert best is not None
    assert values_of(space, best.batch(), objective)[0] == evaluator.best_value == minima[-1]
    assert evaluator.best_cost is not None
    assert evaluator.best_cost.objective(objective) == minima[-1]


def test_a_mapping_outside_the_space_is_paid_for_but_never_the_best(space: MapSpace) -> None:
    whole = sample(space, 200)
    values = values_of(space, whole)
    constrained = MapSpace(
        space.workload, space.accelerator, constraints=Constraints(factors={"Registers": {"R": {"temporal": 1}}})
    )
    inside = np.asarray(constrained.contains(whole))
    assert inside.any()
    # Worst first, so that nearly every mapping is an improvement and the outsiders are mixed with the insiders.
    order = np.argsort(-values)
    evaluator = Evaluator(constrained, budget=Budget(samples=1000))
    evaluator.evaluate(whole[order])
    assert evaluator.samples == 200
    assert evaluator.best_value == values[inside].min()
    assert evaluator.trace.values == sorted(set(values[inside]), reverse=True)


def test_best_mapping_is_a_copy(space: MapSpace) -> None:
    batch = sample(space, 5)
    evaluator = Evaluator(space, budget=Budget(samples=10))
    evaluator.evaluate(batch)
    batch.temporal[:] = 1
    assert evaluator.best_mapping is not None
    assert evaluator.space.contains(evaluator.best_mapping)


def test_callbacks_are_called_after_the_books_are_closed(space: MapSpace) -> None:
    calls: list[tuple[str, int, float]] = []
    evaluator = Evaluator(
        space,
        budget=Budget(samples=100),
        on_improvement=[lambda e: calls.append(("improvement", e.samples, e.best_value))],
        on_batch=[lambda e: calls.append(("batch", e.samples, e.best_value))],
    )
    batch = sample(space, 10)
    evaluator.evaluate(batch)
    evaluator.evaluate(batch)
    best = values_of(space, batch).min()
    assert calls == [("improvement", 10, best), ("batch", 10, best), ("batch", 20, best)]


def test_can_be_used_on_after_an_interruption(space: MapSpace) -> None:
    def interrupt(evaluator: Evaluator) -> None:
        raise KeyboardInterrupt

    evaluator = Evaluator(space, budget=Budget(samples=20), on_batch=[interrupt])
    batch = sample(space, 10)
    with pytest.raises(KeyboardInterrupt):
        evaluator.evaluate(batch)
    assert (evaluator.samples, evaluator.best_value) == (10, values_of(space, batch).min())
    evaluator.on_batch.clear()
    assert len(evaluator.evaluate(batch)) == 10


def test_seconds_end_a_search(space: MapSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("mapgym.evaluation.evaluator.time.perf_counter", lambda: now[0])
    evaluator = Evaluator(space, budget=Budget(seconds=2.0))
    assert evaluator.seconds == 0.0
    now[0] = 200.0
    evaluator.evaluate(sample(space, 5))
    now[0] = 201.5
    evaluator.evaluate(sample(space, 5, seed=1))
    assert not evaluator.exhausted
    assert evaluator.remaining == sys.maxsize
    now[0] = 202.0
    assert evaluator.exhausted
    assert len(evaluator.evaluate(sample(space, 5))) == 0
    assert evaluator.samples == 10
    assert evaluator.trace.best_at_seconds(1.0) >= evaluator.trace.best_at_seconds(1.5) == evaluator.best_value


def test_ratio_is_above_one(space: MapSpace) -> None:
    evaluator = Evaluator(space, budget=Budget(samples=100))
    evaluator.evaluate(sample(space, 100))
    assert evaluator.ratio == evaluator.best_value / evaluator.lower_bound.edp
    assert evaluator.ratio >= 1.0


@pytest.mark.parametrize("num_envs", [1, 5])
def test_finished_episodes_are_samples(space: MapSpace, num_envs: int) -> None:
    evaluator = Evaluator(space, budget=Budget(samples=12))
    env = make_vec_env(evaluator, num_envs, autoreset_mode=AutoresetMode.SAME_STEP)
    env.reset(seed=0)
    finished = 0
    rng = np.random.default_rng(0)
    while not evaluator.exhausted:
        masks = env.action_masks()
        _, _, terminated, _, _ = env.step((rng.random(masks.shape) * masks).argmax(axis=1))
        finished += int(terminated.sum())
        assert evaluator.samples == min(finished, 12)
    assert evaluator.best_mapping is not None
    assert space.contains(evaluator.best_mapping)


def test_scalar_environment_prices_through_the_evaluator(space: MapSpace) -> None:
    evaluator = Evaluator(space, budget=Budget(samples=3))
    env = make_env(evaluator)
    rng = np.random.default_rng(0)
    for episode in range(3):
        _, info = env.reset(seed=episode)
        terminated = False
        while not terminated:
            _, reward, terminated, _, info = env.step(rng.choice(np.flatnonzero(info["action_mask"])))
        assert evaluator.samples == episode + 1
    assert reward <= 0.0
    assert evaluator.exhausted


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give samples, seconds or both"),
        ({"samples": 0}, "samples is 0"),
        ({"samples": 2.5}, "samples is 2.5"),
        ({"seconds": -1}, "seconds is -1"),
        ({"seconds": math.nan}, "seconds is nan"),
        ({"samples": 5, "seconds": True}, "seconds is True"),
    ],
)
def test_budget_rejects(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(SpecificationError, match=message):
        Budget(**arguments)  # type: ignore[arg-type]


def test_unknown_objective_names_the_nearest(space: MapSpace) -> None:
    with pytest.raises(SpecificationError, match="did you mean 'energy'"):
        Evaluator(space, "enegry")


def test_trace_round_trip_and_lookups() -> None:
    trace = Trace([1, 5, 9], [0.1, 0.1, 0.3], [10.0, 4.0, 3.5])
    assert Trace.from_dict(trace.to_dict()) == trace
    assert [trace.best_at(n) for n in (0, 1, 4, 5, 100)] == [math.inf, 10.0, 10.0, 4.0, 3.5]
    assert trace.best_at_seconds(0.2) == 4.0
    assert (trace.samples_to(4.0), trace.samples_to(3.9), trace.samples_to(1.0)) == (5, 9, None)
    with pytest.raises(SpecificationError, match="three lists"):
        Trace.from_dict({"samples": [1], "values": [2.0]})
