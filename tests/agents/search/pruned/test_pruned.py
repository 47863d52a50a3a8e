"""Agents that walk a map space as Timeloop's mapper does: random-pruned and exhaustive."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import brute_force_spaces as brute
from mapgym.agents import make_agent
from mapgym.agents.search.pruned import points as pruned_points
from mapgym.agents.search.pruned.exhaustive import ExhaustiveSearch
from mapgym.agents.search.pruned.points_kernels import NEVER, draw_factors, refused_draws, write_factors
from mapgym.agents.search.pruned.random_pruned import RandomPruned
from mapgym.cost import CostModel
from mapgym.errors import SpecificationError
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.mapping import Mapping, MappingBatch
from mapgym.mapping.maps import Maps
from mapgym.mapspace import MapSpace
from mapgym.spec import catalog
from mapgym.spec.constraints import Constraints
from mapgym.spec.workload import conv2d, matmul
from mapgym.testing.agents import small_accelerator

AXES = ("tile", "order", "parallelism", "bypass")


def asked(agent, space: MapSpace, rounds: int = 10**6, seed: int = 0) -> MappingBatch:
    """What an ask-and-tell agent proposes when it is told the costs."""
    model = CostModel(space.workload, space.accelerator)
    agent.start(space, np.random.default_rng(seed), "edp")
    batches = [agent.ask(10**6)]
    while len(batches[-1]) and len(batches) < rounds:
        agent.tell(batches[-1], model.evaluate(batches[-1]))
        batches.append(agent.ask(10**6))
    return MappingBatch.concatenate(batches)


def toy_base(workload, accelerator) -> Mapping:
    base = Mapping.trivial(workload, accelerator)
    base.temporal[:] = [[1, 1, 1], [1, 3, 2], [2, 1, 1]]
    base.spatial[0] = [2, 1, 1]
    base.order[:] = [[2, 1, 0]] * 3
    return base


@pytest.mark.parametrize("axes", [AXES[:3], AXES, ("tile",), ("order",), ("parallelism",), ("bypass",)])
@pytest.mark.parametrize("peer_links", [True, False])
@pytest.mark.parametrize("outer", [(2, 2), (4, 1)])
def test_exhaustive_lists_what_brute_force_finds(
    axes: tuple[str, ...], peer_links: bool, outer: tuple[int, int]
) -> None:
    workload = brute.toy_workload(4, 3, 2 if axes == AXES[:3] else 1) if "tile" in axes else brute.toy_workload()
    accelerator = brute.toy_accelerator(outer=outer, peer_links=peer_links)
    base = None if "tile" in axes else toy_base(workload, accelerator)
    space = MapSpace(workload, accelerator, axes=axes, base=base)
    structures = brute.enumerate_structures(workload, accelerator, axes, base)
    legal = [brute.is_legal(workload, accelerator, mapping) for mapping in structures]
    agent = ExhaustiveSearch(batch_size=100)
    found = asked(agent, space)
    assert Counter(brute.rows(found)) == Counter(brute.rows(space.canonical(structures[np.flatnonzero(legal)])))
    assert (agent.complete, agent.enumerated, agent.ruled_out) == (True, sum(legal), len(legal) - sum(legal))


def test_exhaustive_honours_constraints_and_cumulative_checks() -> None:
    workload = brute.toy_workload()
    accelerator = brute.toy_accelerator(fanout_check="cumulative")
    constraints = Constraints(factors={"Buffer": {"K": {"temporal": 2}}}, orders={"Memory": ["P"]}, min_utilization=0.5)
    space = MapSpace(workload, accelerator, constraints=constraints)
    structures = brute.enumerate_structures(workload, accelerator, space.axes, None, constraints)
    found = asked(ExhaustiveSearch(), space)
    assert Counter(brute.rows(found)) == Counter(brute.rows(structures[np.flatnonzero(space.contains(structures))]))
    assert (found.used_macs() >= 4).all()


@pytest.mark.parametrize(
    "constraints",
    [
        {"factors": {"Buffer": {"K": {"temporal": ">=2"}}}},
        {"orders": {"Memory": ["P", "*"], "Buffer": ["*", "K"]}},
        {"parallel_x": {"Buffer": ["K"]}, "spatial_orders": {"Buffer": ["P", "*"]}},
    ],
)
def test_exhaustive_lists_what_ranges_sides_and_partly_free_orders_leave(constraints):
    workload, accelerator = brute.toy_workload(4, 2, 2), brute.toy_accelerator()
    space = MapSpace(workload, accelerator, constraints=constraints)
    structures = brute.enumerate_structures(workload, accelerator, space.axes)
    agent = ExhaustiveSearch()
    found = asked(agent, space)
    assert Counter(brute.rows(found)) == Counter(brute.rows(structures[np.flatnonzero(space.contains(structures))]))


def test_exhaustive_finds_the_optimum_and_knows_when_it_has_not_seen_all() -> None:
    workload, accelerator = brute.toy_workload(), brute.toy_accelerator()
    space = MapSpace(workload, accelerator)
    structures = brute.enumerate_structures(workload, accelerator, space.axes)
    evaluator = Evaluator(space, budget=Budget(samples=10**6))
    agent = ExhaustiveSearch()
    agent.search(evaluator, 0)
    assert agent.complete
    assert (agent.enumerated, agent.ruled_out) == (evaluator.samples, len(structures) - evaluator.samples)
    assert evaluator.best_value == CostModel(workload, accelerator).evaluate(structures).objective("edp").min()

    exactly, too_few = agent.enumerated, agent.enumerated - 1
    for samples, complete in ((exactly, True), (too_few, False)):
        agent.search(Evaluator(space, budget=Budget(samples=samples)), 0)
        assert (agent.complete, agent.enumerated) == (complete, samples)


def test_exhaustive_does_not_count_a_warm_start() -> None:
    space = MapSpace(matmul("tiny", M=4, K=2, N=2), small_accelerator())
    agent = ExhaustiveSearch()
    evaluator = Evaluator(space, budget=Budget(samples=10_000))
    agent.search(evaluator, 0, space.sample(np.random.default_rng(0), 5))
    assert agent.complete
    assert agent.enumerated == evaluator.samples - 5


def test_exhaustive_refuses_a_large_space() -> None:
    space = MapSpace(catalog.workload("paper/resnet_conv4"), catalog.accelerator("accel_b"))
    with pytest.raises(SpecificationError, match=r"has 10\^16.\d mappings .* more than the limit 1e\+08 .*'exact'"):
        make_agent("exhaustive").search(Evaluator(space), 0)


@pytest.mark.parametrize("fanout_check", ["per_level", "cumulative"])
@pytest.mark.parametrize("peer_links", [True, False])
def test_random_pruned_proposes_members_in_canonical_form(fanout_check: str, peer_links: bool) -> None:
    accelerator = small_accelerator(fanout_check=fanout_check, peer_links=peer_links)
    space = MapSpace(conv2d("conv", N=2, C=12, M=8, P=6, Q=5, R=3, S=3, stride=2), accelerator, axes=AXES)
    batch = asked(RandomPruned(), space, rounds=20)
    assert np.all(space.contains(batch))
    assert brute.rows(batch) == brute.rows(space.canonical(batch))


def test_random_pruned_reaches_everything() -> None:
    workload, accelerator = brute.toy_workload(4, 3, 1), brute.toy_accelerator()
    space = MapSpace(workload, accelerator, axes=AXES[:3])
    everything = set(brute.rows(asked(ExhaustiveSearch(), space)))
    assert set(brute.rows(asked(RandomPruned(), space, rounds=200))) == everything


def test_random_pruned_draws_factorisations_uniformly() -> None:
    """A bound of 4 on three levels without fan-out: six ordered factorisations, each with one order."""
    accelerator = brute.toy_accelerator(inner=(1, 1), outer=(1, 1), capacities=(None, None))
    batch = asked(RandomPruned(), MapSpace(brute.toy_workload(4, 1, 1), accelerator, axes=AXES[:3]), rounds=40)
    counts = Counter(tuple(row[:, 0].tolist()) for row in batch.temporal)
    assert set(counts) == {(4, 1, 1), (1, 4, 1), (1, 1, 4), (2, 2, 1), (2, 1, 2), (1, 2, 2)}
    # Six standard deviations of a binomial distribution.
    expected, tolerance = len(batch) / 6, 6 * np.sqrt(len(batch) * 5 / 36)
    assert all(abs(count - expected) < tolerance for count in counts.values())


@pytest.mark.parametrize("most_states", [2**17, 3, 1])
def test_factors_are_drawn_as_if_what_is_too_parallel_were_refused(
    most_states: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever levels the states keep track of: both, that with the smaller fan-out, or no more than one prime."""
    monkeypatch.setattr(pruned_points, "MOST_STATES", most_states)
    accelerator = brute.toy_accelerator(inner=(2, 1), outer=(2, 2))
    space = MapSpace(brute.toy_workload(6, 4, 1), accelerator, axes=AXES[:3])
    # Slots: temporal factors of three levels, spatial ones of two; at most 2 and 4 are parallel.
    every = [(k, p) for k in brute.ordered_factorisations(6, 5) for p in brute.ordered_factorisations(4, 5)]
    alone = [(k, p) for k, p in every if k[3] % 3 and p[3] <= 2]
    narrow = [(k, p) for k, p in alone if k[3] * p[3] <= 2]
    possible = {(k, p) for k, p in narrow if k[4] * p[4] <= 4}

    tables = pruned_points.point_tables(space)
    point, current = pruned_points.first_point(space, tables)
    draws = pruned_points.draw_tables(tables, point)
    expected_share = {2**17: len(possible), 3: len(narrow), 1: len(alone)}[most_states] / len(every)
    assert draws.share == pytest.approx(expected_share)
    generator = np.zeros(1, np.uint64)
    counts: Counter[tuple[tuple[int, ...], ...]] = Counter()
    for _ in range(100 * len(possible)):
        if draw_factors(tables, draws, point, generator):
            write_factors(tables, point, Maps(*current.arrays()), 0)
            slots = np.concatenate([current.temporal[0], current.spatial[0, :2]]).T.tolist()
            counts[tuple(slots[0]), tuple(slots[1])] += 1
    assert set(counts) == possible
    # Six standard deviations of a binomial distribution.
    expected = counts.total() / len(possible)
    assert max(abs(count - expected) for count in counts.values()) < 6 * np.sqrt(expected)


def test_refused_draws_follow_a_geometric_distribution() -> None:
    generator = np.zeros(1, np.uint64)
    assert {refused_draws(1.0, generator) for _ in range(100)} == {0}
    assert refused_draws(0.0, generator) == NEVER
    numbers = np.array([refused_draws(0.2, generator) for _ in range(20_000)])
    # Mean 4, standard deviation sqrt(20); a share of 0.2 of them is 0.
    assert abs(numbers.mean() - 4) < 6 * np.sqrt(20 / 20_000)
    assert abs((numbers == 0).mean() - 0.2) < 6 * np.sqrt(0.2 * 0.8 / 20_000)


def test_random_pruned_visits_permutations_and_then_bypass_variants() -> None:
    """Each factorisation comes with min(16, orders) permutations, each of these with all legal bypass variants."""
    accelerator = brute.toy_accelerator(inner=(1, 1), outer=(1, 1), capacities=(None, None), inner_keeps=("Weights",))
    # Searched: Weights at Registers, all three tensors at Buffer. So 16 variants of each point.
    space = MapSpace(brute.toy_workload(2, 3, 1), accelerator, axes=AXES)
    batch = asked(RandomPruned(batch_size=64), space, rounds=30)
    assert len(batch) % 16 == 0
    for first in range(0, len(batch), 16):
        point = batch[first : first + 16]
        assert len({row.tobytes() for row in point.keep}) == 16
        assert point.keep[0].tolist() == [[True, False, False], [True] * 3, [True] * 3]
        assert len({(row.temporal.tobytes(), row.order.tobytes()) for row in point}) == 1


def test_random_pruned_ends_at_victory_where_it_is_told_to() -> None:
    """With one mapping nothing improves after the first sample, so that the search ends after 7 more."""
    space = MapSpace(matmul("point", M=1, K=1, N=1), small_accelerator())
    for ends, expected in ((True, 8), (False, 50)):
        evaluator = Evaluator(space, budget=Budget(samples=50))
        RandomPruned(victory=7, ends=ends, batch_size=3).search(evaluator, 0)
        assert evaluator.samples == expected


def test_random_pruned_goes_on_after_a_timeout_where_legal_factors_are_rare() -> None:
    """Full use of the MACs of simba_like is drawn about never; then a mapping of the space helps out."""
    space = MapSpace(
        catalog.workload("bert_large/feed_forward_up"),
        catalog.accelerator("simba_like"),
        axes=AXES[:3],
        constraints={"min_utilization": 0.5},
    )
    for ends in (True, False):
        evaluator = Evaluator(space, budget=Budget(samples=30))
        RandomPruned(timeout=20, ends=ends).search(evaluator, 0)
        assert evaluator.samples == (0 if ends else 30)


def test_random_pruned_is_the_same_search_whether_or_not_it_ends() -> None:
    space = MapSpace(matmul("small", M=8, K=8, N=4), small_accelerator())
    evaluators = [Evaluator(space, budget=Budget(samples=3000)) for _ in range(2)]
    for ends, evaluator in zip((True, False), evaluators, strict=True):
        RandomPruned(victory=300, ends=ends).search(evaluator, 3)
    ended, went_on = evaluators
    assert ended.samples < went_on.samples == 3000
    assert [ended.trace.best_at(n) for n in range(ended.samples)] == [
        went_on.trace.best_at(n) for n in range(ended.samples)
    ]


def test_random_pruned_begins_the_same_under_every_budget() -> None:
    space = MapSpace(matmul("small", M=8, K=8, N=4), small_accelerator())
    traces = []
    for samples in (130, 1000):
        evaluator = Evaluator(space, budget=Budget(samples=samples))
        RandomPruned().search(evaluator, 7)
        traces.append(evaluator.trace)
    assert [traces[0].best_at(n) for n in range(131)] == [traces[1].best_at(n) for n in range(131)]
