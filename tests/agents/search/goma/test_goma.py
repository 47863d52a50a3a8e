from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from mapgym.agents import make_agent
from mapgym.cost import CostModel
from mapgym.cost.optimum import find_optimum
from mapgym.errors import SpecificationError
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.mapspace import MapSpace
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.constraints import Constraints
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.workload import Workload, conv2d, matmul, mttkrp
from mapgym.testing.agents import small_accelerator

pytest.importorskip("scipy")

from mapgym.agents.search.goma.product import read_product, rooms
from mapgym.agents.search.goma.program import Program, Solution, _interruptibly, _split

KEEP_ALL = ("tile", "order", "parallelism")
ALL = (*KEEP_ALL, "bypass")


def machine(
    registers: int, buffer: int, mesh: tuple[int, int] = (1, 1), lanes: tuple[int, int] = (1, 1), **options: Any
) -> Accelerator:
    """Three levels of 1, 7 and 64 pJ a word, as those of GOMA's examples, with blocks of one word."""
    levels = (
        StorageLevel("Registers", registers, *mesh, access_energy_pj=1.0),
        StorageLevel("Buffer", buffer, access_energy_pj=7.0),
        StorageLevel("Memory", access_energy_pj=64.0),
    )
    mac = Mac(mesh_x=mesh[0] * lanes[0], mesh_y=mesh[1] * lanes[1], energy_pj=1.4)
    return Accelerator("machine", levels, mac, peer_links=False, **options)


def program(space: MapSpace) -> Program:
    product = read_product(space)
    return Program(product, rooms(product)[0])


def solved(space: MapSpace) -> Solution:
    solution = program(space).solve(60.0, 1e-9)
    assert solution is not None
    assert space.contains(solution.mapping.batch())[0]
    return solution


@pytest.mark.parametrize(
    ("axes", "energy"),
    [
        # Each operand: 1 + 1 + 7 + 7 + 64; the output: 2 + 1 + 14 + 7 + 128 less 1 + 1 + 7 + 7 + 64 for first visits.
        (KEEP_ALL, 80 + 80 + 72),
        # Each operand is read from memory, the output is written to it.
        (ALL, 64 + 64 + 64),
    ],
)
def test_a_single_multiplication_by_hand(axes: tuple[str, ...], energy: float) -> None:
    solution = solved(MapSpace(matmul(M=1, K=1, N=1), machine(3, 3), axes))
    assert solution.energy_pj == pytest.approx(energy + 1.4)
    assert solution.used_macs == 1


CASES = [
    (matmul(M=64, K=32, N=16), machine(20, 400, (8, 1)), ALL),
    (matmul(M=8, K=9, N=16), machine(6, 96, (3, 2), (2, 2)), ALL),
    (matmul(M=8, K=9, N=16), machine(6, 96, (3, 2), (2, 2)), KEEP_ALL),
    (matmul(M=6, K=48, N=8), machine(6, 40, (4, 1)), KEEP_ALL),
    (matmul(B=2, M=12, K=4, N=6), machine(4, 30, (2, 2)), ALL),
    (matmul(M=1, K=12, N=18), machine(12, 60, (4, 1), (1, 2)), ALL),
    (matmul(B=4, M=6, K=8, N=4, shared_weights=True), machine(12, 96, (4, 1)), ALL),
    (conv2d(N=1, C=8, M=6, P=4, Q=3, R=1, S=1), machine(12, 96, (4, 1)), KEEP_ALL),
    (matmul(M=8, K=8, N=12), machine(6, 60, (4, 1), rules="timeloop-3.0.3"), ALL),
]


@pytest.mark.parametrize(("workload", "accelerator", "axes"), CASES)
def test_its_optimum_is_the_certified_one(workload: Workload, accelerator: Accelerator, axes: tuple[str, ...]) -> None:
    """Two formulations, two solvers: a program and a search of chains and orders."""
    space = MapSpace(workload, accelerator, axes)
    solution, optimum = solved(space), find_optimum(space, "energy")
    assert optimum.certified
    assert solution.energy_pj == pytest.approx(optimum.value, rel=1e-6)
    assert solution.bound_pj == pytest.approx(optimum.value, rel=1e-6)
    assert CostModel(workload, accelerator).evaluate(solution.mapping).energy_pj == pytest.approx(solution.energy_pj)


def test_random_small_products() -> None:
    rng = np.random.default_rng(5)
    for _ in range(15):
        sizes = rng.choice([1, 2, 3, 4, 6, 8, 9, 12], 3).tolist()
        mesh, lanes = rng.choice([1, 2, 4], 2).tolist(), rng.choice([1, 2], 2).tolist()
        hardware = machine(int(rng.choice([3, 6, 20])), int(rng.choice([30, 96])), tuple(mesh), tuple(lanes))
        axes = (KEEP_ALL, ALL)[int(rng.integers(2))]
        space = MapSpace(matmul(M=sizes[0], K=sizes[1], N=sizes[2]), hardware, axes)
        assert solved(space).energy_pj == pytest.approx(find_optimum(space, "energy").value, rel=1e-6), (sizes, axes)


def test_it_proves_a_published_optimum() -> None:
    """As tests/cost/optimum/test_published_optima.py says of the other solver."""
    accelerator = machine(424, 162 * 1024, (256, 1))
    layer = matmul(M=1024, N=1024, K=64)
    solution = solved(MapSpace(layer, accelerator, ALL))
    assert solution.energy_pj / layer.macs == pytest.approx(4.529883, abs=6e-7)
    assert solution.bound_pj / layer.macs == pytest.approx(4.529883, abs=6e-7)
    assert solution.used_macs == 256


def test_outputs_stay_through_the_loops_of_two_levels_where_that_pays() -> None:
    """The buffer is too small for all of K, and everything has to be kept."""
    space = MapSpace(matmul(M=2, K=64, N=2), machine(12, 16), KEEP_ALL)
    mapping = solved(space).mapping
    k = space.workload.dims.index("K")
    assert mapping.temporal[2, k] > 1
    detail = CostModel(space.workload, space.accelerator).evaluate(mapping, detail=True).detail
    assert detail is not None
    assert detail.updates[1, 2] == 4


@pytest.mark.parametrize("objective", ["edp", "latency", "energy"])
@pytest.mark.parametrize("case", [1, 4, 5])
def test_the_agent_finds_the_optimum_of_each_objective(objective: str, case: int) -> None:
    """Without limits of bandwidth."""
    workload, accelerator, axes = CASES[case]
    space = MapSpace(workload, accelerator, axes)
    evaluator = Evaluator(space, objective, Budget(samples=100))
    agent = make_agent("goma")
    agent.search(evaluator, 0)
    assert evaluator.best_value == pytest.approx(find_optimum(space, objective).value, rel=1e-6)
    assert agent.solution is not None  # type: ignore[attr-defined]
    assert agent.solution.energy_pj == pytest.approx(evaluator.best_cost.energy_pj)  # type: ignore


def test_a_batch_fills_what_its_products_leave_of_the_array() -> None:
    space = MapSpace(matmul(B=4, M=1, K=2, N=1), machine(12, 96, (4, 2), (2, 1)), KEEP_ALL)
    fastest = {}
    for objective in ("edp", "latency"):
        evaluator = Evaluator(space, objective, Budget(samples=100))
        make_agent("goma").search(evaluator, 0)
        assert evaluator.best_value == pytest.approx(find_optimum(space, objective).value, rel=1e-6)
        assert evaluator.best_cost is not None
        fastest[objective] = evaluator.best_cost.latency_cycles
    assert fastest == {"edp": 1.0, "latency": 1.0}


def test_shares_of_a_batch_by_hand() -> None:
    """Two lanes, two columns and three rows of register levels: six products together, or fewer."""
    space = MapSpace(matmul(B=6, M=2, K=2, N=2), machine(12, 96, (2, 3), (2, 1)))
    found = {(room.lanes, room.blocks): room for room in rooms(read_product(space))}
    assert set(found) == {(1, 1), (2, 1), (1, 2), (1, 3), (2, 3)}
    both = found[2, 3]
    assert both.capacities == (6.0, 16.0)
    assert both.fanouts == ((1, 1), (2, 1))
    assert both.along_y == (False, True)


@pytest.mark.parametrize("case", range(len(CASES)))
def test_descents_start_with_a_mapping_that_goes_together(case: int) -> None:
    space = MapSpace(*CASES[case])
    each = program(space)
    start = each.descent.best(each.least_macs, None)
    assert start is not None
    solution = each._decode(start, 0.0)
    assert space.contains(solution.mapping.batch())[0]
    priced = CostModel(space.workload, space.accelerator).evaluate(solution.mapping)
    assert priced.energy_pj == pytest.approx(solution.energy_pj)
    used = each.descent.best(1, solution.used_macs)
    assert used is not None
    assert each._used_macs(used) == solution.used_macs
    assert each.descent.best(10**6, None) is None


def test_the_descent_counts_when_the_solver_has_no_time() -> None:
    space = MapSpace(matmul(M=512, K=512, N=512), machine(24, 4000, (8, 2)), ALL)
    solution = program(space).solve(0.01, 1e-9)
    assert solution is not None
    assert space.contains(solution.mapping.batch())[0]
    assert solution.bound_pj <= solution.energy_pj


def test_fixed_factors_and_orders_are_obeyed_by_the_program() -> None:
    constraints = Constraints(
        factors={"Registers": {"K": {"temporal": 2}}, "Buffer": {"M": {"spatial": 2}}}, orders={"Buffer": ["N"]}
    )
    space = MapSpace(matmul(M=8, K=8, N=4), machine(12, 96, (4, 1)), ALL, constraints=constraints)
    mapping = solved(space).mapping
    dims = space.workload.dims
    assert mapping.temporal[0, dims.index("K")] == 2
    assert mapping.spatial[1, dims.index("M")] == 2


@given(st.lists(st.lists(st.integers(1, 12), min_size=5, max_size=5), min_size=1, max_size=3))
def test_factors_of_a_side_are_split_among_its_dims_without_a_rest(factors: list[list[int]]) -> None:
    slots = [math.prod(column) for column in zip(*factors, strict=True)]
    bounds = [math.prod(row) for row in factors]
    shares = _split(slots, bounds)
    assert [math.prod(share) for share in shares] == bounds
    assert [math.prod(column) for column in zip(*shares, strict=True)] == slots


TWO_LEVELS = replace(machine(12, 96), levels=machine(12, 96).levels[1:])
TWO_BUFFERS = replace(
    machine(12, 96),
    levels=(
        replace(machine(12, 96).levels[0], mesh_x=4),
        replace(machine(12, 96).levels[1], mesh_x=2),
        machine(12, 96).levels[2],
    ),
    mac=Mac(mesh_x=4),
)


@pytest.mark.parametrize(
    ("workload", "accelerator", "reason"),
    [
        (conv2d("layer", N=1, C=4, M=4, P=4, Q=4, R=3, S=3), machine(12, 96), "tensor 'Inputs' is no matrix"),
        (conv2d("layer", N=1, C=4, M=4, P=4, Q=4, R=1, S=1, stride=2), machine(12, 96), "tensor 'Inputs' is no matrix"),
        (mttkrp("layer", I=4, J=4, K=2, L=2), machine(20, 96), "three tensors"),
        (matmul("layer", M=4, K=4, N=4), TWO_LEVELS, "three storage levels and there are 2"),
        (matmul("layer", M=4, K=4, N=4), TWO_BUFFERS, "one instance of 'Buffer'"),
    ],
)
def test_other_tasks_are_refused_in_a_sentence(workload: Workload, accelerator: Accelerator, reason: str) -> None:
    with pytest.raises(SpecificationError, match=reason) as caught:
        make_agent("goma").search(Evaluator(MapSpace(workload, accelerator)), 0)
    assert str(caught.value).startswith("agent 'goma' cannot map 'layer' on 'machine': ")
    assert "\n" not in str(caught.value)


def test_what_fails_in_the_solver_is_raised_and_what_it_returns_is_returned() -> None:
    assert _interruptibly(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        _interruptibly(lambda: 1 // 0)


def test_the_first_solution_is_priced_before_the_solver_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Program, "solve", interrupted)
    evaluator = Evaluator(MapSpace(matmul(M=4, K=4, N=4), small_accelerator()), budget=Budget(samples=50))
    agent = make_agent("goma")
    monkeypatch.setattr(type(agent), "warm_up", lambda *arguments: None)
    with pytest.raises(KeyboardInterrupt):
        agent.search(evaluator, 0)
    assert evaluator.samples == 1
    assert evaluator.best_mapping is not None


def test_without_a_solution_in_time_there_is_an_arbitrary_mapping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Program, "solve", lambda *arguments: None)
    monkeypatch.setattr(Program, "start", lambda *arguments: None)
    evaluator = Evaluator(MapSpace(matmul(M=4, K=4, N=4), small_accelerator()), budget=Budget(samples=50))
    agent = make_agent("goma")
    agent.search(evaluator, 0)
    assert evaluator.best_mapping is not None
    assert agent.solution is None  # type: ignore[attr-defined]
