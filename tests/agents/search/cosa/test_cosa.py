from __future__ import annotations

import math

import numpy as np
import pytest

from mapgym.agents import make_agent
from mapgym.cost import CostModel
from mapgym.cost.optimum import find_optimum
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.mapspace import MapSpace
from mapgym.spec.workload import Workload, conv2d, depthwise_conv2d, matmul
from mapgym.testing.agents import small_accelerator

pytest.importorskip("scipy")

from mapgym.agents.search.cosa.model import Program, _tangents, total

ALL = ("tile", "order", "parallelism", "bypass")
WORKLOADS = [
    conv2d("conv", N=1, C=4, M=6, P=6, Q=4, R=3, S=3),
    conv2d("strided", N=1, C=4, M=4, P=6, Q=4, R=1, S=1, stride=2),
    depthwise_conv2d("depthwise", N=2, C=6, P=4, Q=4, R=3, S=3, stride=2),
    matmul("matmul", B=2, M=6, K=8, N=4),
]


def value(program: Program, expression: dict[int, float], solution: np.ndarray) -> float:
    return sum(c * (1.0 if column < 0 else float(solution[column])) for column, c in expression.items())


def solved(space: MapSpace) -> tuple[Program, np.ndarray]:
    program = Program(space, space.entries.keep)
    traffic = [words for _, _, words in program.traffic()]
    solution = program.solve(total(program.compute(), *traffic, weights=(10.0, *[1.0] * len(traffic))), 10.0, 0.0)
    assert solution is not None
    return program, solution


def test_expressions_add_up_with_weights() -> None:
    assert total({0: 1.0, -1: 2.0}, {0: 3.0, 5: 1.0}, weights=(2.0, -1.0)) == {0: -1.0, -1: 4.0, 5: -1.0}


@pytest.mark.parametrize(("slope", "constant"), [(1, 2), (2, 1), (1, 0)])
def test_tangents_are_below_the_length_and_touch_it(slope: int, constant: int) -> None:
    points = np.arange(1, 25)
    lines = _tangents([1, 2, 3, 4, 6, 8, 12, 24], slope, constant)
    heights = np.array([[a + b * math.log2(x) for a, b in lines] for x in points]).max(axis=1)
    true = np.log2(slope * points + constant)
    assert (heights <= true + 1e-9).all()
    divisors = np.array([1, 2, 3, 4, 6, 8, 12, 24]) - 1
    assert heights[divisors] == pytest.approx(true[divisors])


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_the_program_computes_cycles_and_traffic_as_the_cost_model_does(workload: Workload) -> None:
    """Cycles are exact; words served are, for tensors of single dims, unless several levels save together."""
    space = MapSpace(workload, small_accelerator(peer_links=False))
    program, solution = solved(space)
    mapping = program.decode(solution)
    assert space.contains(mapping)
    cost = CostModel(workload, space.accelerator).evaluate(mapping, detail=True)
    assert cost.detail is not None
    assert 2 ** value(program, program.compute(), solution) == pytest.approx(cost.latency_cycles)
    for s, t, words in program.traffic():
        tensor = workload.tensors[t]
        served = cost.detail.updates[s, t] if tensor.is_output else cost.detail.reads[s, t]
        served *= cost.detail.used_instances[s]
        expected = 2 ** value(program, words, solution)
        # The program may overlook reuse, but never sees any that is not there.
        assert served <= expected * (1 + 1e-6), (s, tensor.name)


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_tiles_of_solutions_fit_and_are_exact(workload: Workload) -> None:
    """Also with holes between windows, where the length of a tile is concave in the logarithm."""
    space = MapSpace(workload, small_accelerator(peer_links=False))
    program, solution = solved(space)
    mapping = program.decode(solution)
    detail = CostModel(space.workload, space.accelerator).evaluate(mapping, detail=True).detail
    assert detail is not None
    for s in range(2):
        for t in range(3):
            assert 2 ** value(program, program.tiles[s][t], solution) == pytest.approx(
                detail.tile_words[s, t], rel=1e-5
            )


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_it_comes_close_to_the_optimum_in_a_few_samples(workload: Workload) -> None:
    space = MapSpace(workload, small_accelerator(peer_links=False))
    evaluator = Evaluator(space, budget=Budget(samples=50))
    make_agent("cosa").search(evaluator, 0)
    assert evaluator.samples <= 7
    assert evaluator.best_value <= 1.25 * find_optimum(space, "edp").value


def test_bypass_is_chosen_by_pricing() -> None:
    space = MapSpace(WORKLOADS[3], small_accelerator(peer_links=False), ALL)
    kept, chosen = (
        Evaluator(each, budget=Budget(samples=2000)) for each in (MapSpace(space.workload, space.accelerator), space)
    )
    make_agent("cosa").search(kept, 0)
    make_agent("cosa").search(chosen, 0)
    assert chosen.best_value < kept.best_value
    assert chosen.best_mapping is not None
    assert not chosen.best_mapping.keep.all()


def test_rounds_and_weights_are_obeyed() -> None:
    space = MapSpace(WORKLOADS[3], small_accelerator(peer_links=False))
    evaluator = Evaluator(space, budget=Budget(samples=50))
    make_agent("cosa", rounds=0).search(evaluator, 0)
    assert evaluator.samples == 1
    blind = Evaluator(space, budget=Budget(samples=50))
    make_agent("cosa", rounds=0, traffic=0).search(blind, 0)
    assert blind.best_cost is not None
    assert evaluator.best_cost is not None
    assert blind.best_cost.energy_pj > evaluator.best_cost.energy_pj


def test_an_unsolved_program_gives_an_arbitrary_mapping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Program, "solve", lambda *arguments: None)
    evaluator = Evaluator(MapSpace(WORKLOADS[0], small_accelerator()), budget=Budget(samples=50))
    make_agent("cosa").search(evaluator, 0)
    assert evaluator.best_mapping is not None
