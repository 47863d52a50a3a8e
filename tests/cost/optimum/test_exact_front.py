"""The front of energy against latency, against pricing everything."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from brute_force_optimum import BATCH, random_space
from mapgym.agents.search.exact import ExactSearch
from mapgym.cost import CostModel
from mapgym.cost.optimum import find_front, find_optimum
from mapgym.errors import SpecificationError
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.evaluation.front import PARETO
from mapgym.mapspace import MapSpace
from mapgym.spec import catalog


def brute_force_front(space: MapSpace) -> list[tuple[float, float]]:
    """(cycles, pJ) of all mappings that no other beats."""
    model = CostModel(space.workload, space.accelerator)
    sizes = tuple(map(int, space.nvec))
    total = int(np.prod(sizes, dtype=object)) if sizes else 1
    least: dict[float, float] = {}
    for start in range(0, total, BATCH):
        numbers = np.arange(start, min(start + BATCH, total))
        codes = np.stack(np.unravel_index(numbers, sizes), axis=1) if sizes else np.zeros((1, 0), np.int64)
        batch = space.decode(codes)
        costs = model.evaluate(batch)
        for i in np.flatnonzero(space.contains(batch)):
            cycles, energy = float(costs.latency_cycles[i]), float(costs.energy_pj[i])
            least[cycles] = min(least.get(cycles, np.inf), energy)
    front: list[tuple[float, float]] = []
    for cycles in sorted(least):
        if not front or least[cycles] < front[-1][1] * (1 - 1e-9):
            front.append((cycles, least[cycles]))
    return front


def unlimited(space: MapSpace) -> MapSpace:
    """The space without limits of bandwidth."""
    limits = {f"{kind}_bandwidth_words_per_cycle": None for kind in ("read", "write", "shared")}
    levels = tuple(replace(level, **limits) for level in space.accelerator.levels)
    machine = replace(space.accelerator, levels=levels)
    return MapSpace(space.workload, machine, space.axes, space.constraints)


@pytest.mark.parametrize("seed", range(25))
def test_equals_brute_force(seed: int) -> None:
    space = unlimited(random_space(np.random.default_rng(1000 + seed)))
    expected = brute_force_front(space)
    if not expected:
        with pytest.raises(SpecificationError, match="is legal"):
            find_front(space)
        return
    front = find_front(space)
    assert front.certified
    found = [(point.cost.latency_cycles, point.cost.energy_pj) for point in front.points]
    # Points may be left out, or be a little above, by the gap.
    assert len(found) == len(expected)
    for (cycles, energy), (same, least) in zip(found, expected, strict=True):
        assert cycles == same
        assert least * (1 - 1e-9) <= energy <= least * (1 + 2e-6)
    for point in front.points:
        assert point.lower_bound <= point.cost.energy_pj
        assert space.contains(point.mapping)


def test_its_ends_are_the_optima() -> None:
    machine = replace(catalog.accelerator("accel_b"), peer_links=False)
    space = MapSpace(catalog.workload("paper/bert_attn"), machine, ("tile", "order", "parallelism", "bypass"))
    front = find_front(space)
    assert front.certified
    assert front.points[0].cost.latency_cycles == find_optimum(space, "latency").value
    assert front.points[-1].cost.energy_pj == pytest.approx(find_optimum(space, "energy").value, rel=2e-6)


def test_stopped_early_what_is_proven_is_said() -> None:
    machine = replace(catalog.accelerator("accel_b"), peer_links=False)
    space = MapSpace(catalog.workload("paper/resnet_conv4"), machine)
    front = find_front(space, seconds=0.0)
    assert not front.certified
    assert front.proven_cycles == 0.0


def test_an_interruption_keeps_what_was_found() -> None:
    machine = replace(catalog.accelerator("accel_b"), peer_links=False)
    space = MapSpace(catalog.workload("paper/bert_attn"), machine)

    def stop(points: int, done: int, of: int) -> None:
        assert done <= of
        if points:
            raise KeyboardInterrupt

    front = find_front(space, progress=stop)
    assert front.interrupted
    assert not front.certified
    assert len(front.points) == 1
    assert front.proven_cycles == front.points[0].cost.latency_cycles


def test_the_agent_prices_the_front_and_keeps_the_proof() -> None:
    machine = replace(catalog.accelerator("accel_b"), peer_links=False)
    space = MapSpace(catalog.workload("paper/bert_attn"), machine)
    evaluator = Evaluator(space, PARETO, budget=Budget(samples=20))
    agent = ExactSearch()
    agent.search(evaluator, 0)
    assert agent.optimum is None
    assert agent.front is not None
    assert agent.front.certified
    assert evaluator.front is not None
    assert evaluator.front.energy_pj.tolist() == [point.cost.energy_pj for point in agent.front.points]


@pytest.mark.parametrize(
    ("hardware", "message"),
    [("accel_b", "--no-peer-links"), ("accel_b_bw", "limited bandwidth"), ("accel_b_sparse_md", "metadata")],
)
def test_what_is_not_covered_is_said_in_one_sentence(hardware: str, message: str) -> None:
    machine = catalog.accelerator(hardware)
    if hardware != "accel_b":
        machine = replace(machine, peer_links=False)
    with pytest.raises(SpecificationError, match=message):
        find_front(MapSpace(catalog.workload("toy/tiny_gemm"), machine))
