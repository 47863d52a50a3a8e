"""The front of energy against latency, and the selection that searches for it."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from hypothesis import given, settings, strategies as st

from mapgym.agents import make_agent
from mapgym.agents.search.gamma.nondominated_sorting import crowding_distances, nondominated_ranks, select_nondominated
from mapgym.cost import CostModel, LowerBound
from mapgym.evaluation import front as front_module
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.evaluation.front import RANGE, ParetoFront
from mapgym.mapping import Mapping
from mapgym.mapspace import MapSpace
from mapgym.spec import catalog
from mapgym.spec.workload import conv2d
from mapgym.testing.agents import small_accelerator

TASK = ("toy/tiny_gemm", "tiny")

points = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=40)


class Costs(SimpleNamespace):
    """What a front reads of the costs of a batch."""

    def __init__(self, pairs):
        latency, energy = np.array(pairs, np.float64).reshape(-1, 2).T
        super().__init__(latency_cycles=latency, energy_pj=energy)

    def __getitem__(self, i):
        cost = SimpleNamespace(latency_cycles=self.latency_cycles[i], energy_pj=self.energy_pj[i])
        return SimpleNamespace(edp=cost.latency_cycles * cost.energy_pj, **vars(cost))


def front_of(pairs):
    """A front that has seen (latency, energy) pairs, with lower bounds of 1, and what joined."""
    costs = Costs(pairs)
    front = ParetoFront(LowerBound(latency_cycles=1.0, energy_pj=1.0))
    return front.extended(np.arange(len(pairs)), costs, front.candidates(costs))


def nondominated(pairs):
    """The same by comparing all with all."""
    distinct = set(pairs)
    return sorted(p for p in distinct if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in distinct))


class TestFront:
    def test_value_of_one_point_is_its_energy_ratio_where_the_latency_is_lowest(self):
        front, joined = front_of([(1.0, 3.0)])
        assert front.value == pytest.approx(3.0)
        assert [i for i, _ in joined] == [0]

    def test_value_by_hand(self):
        # Limits from 1 to 10, half of the logarithmic range, are met by nothing: 100. From 10 on: 4. sqrt(400) = 20.
        assert front_of([(10.0, 4.0)])[0].value == pytest.approx(20.0)
        # A quarter of the range at 100, a quarter at 16, one half at 4.
        assert front_of([(10.0, 4.0), (math.sqrt(10.0), 16.0)])[0].value == pytest.approx(100**0.25 * 16**0.25 * 2.0)

    def test_points_far_off_count_nothing_but_are_kept(self):
        front, _ = front_of([(2 * RANGE, 1.0), (1.0, 2 * RANGE)])
        assert len(front) == 2
        assert front.value == pytest.approx(RANGE)

    @given(points)
    def test_keeps_exactly_what_nothing_dominates(self, pairs):
        front, joined = front_of(pairs)
        assert list(zip(front.latency_cycles, front.energy_pj, strict=True)) == nondominated(pairs)
        values = [value for _, value in joined]
        assert all(later < earlier for earlier, later in pairwise(values))
        assert front.value == pytest.approx(values[-1])

    @given(points, st.integers(0, 40))
    def test_batches_do_not_matter(self, pairs, cut):
        whole, _ = front_of(pairs)
        first, _ = front_of(pairs[:cut])
        rest = Costs(pairs[cut:])
        both, _ = first.extended(np.arange(len(pairs)), rest, first.candidates(rest))
        assert both.latency_cycles.tolist() == whole.latency_cycles.tolist()
        assert both.energy_pj.tolist() == whole.energy_pj.tolist()

    def test_a_full_front_gives_up_what_it_feels_least(self, monkeypatch):
        monkeypatch.setattr(front_module, "CAPACITY", 3)
        # Alone, (2, 8) dominates ln 2 * ln 2, (4, 7.9) almost nothing; the ends always stay.
        front, _ = front_of([(1.0, 16.0), (2.0, 8.0), (4.0, 7.9), (8.0, 2.0)])
        assert front.latency_cycles.tolist() == [1.0, 2.0, 8.0]

    @given(points)
    def test_illegal_mappings_never_join(self, pairs):
        illegal = [(math.inf, math.inf)] * 3
        assert front_of(illegal + pairs)[0].energy_pj.tolist() == front_of(pairs)[0].energy_pj.tolist()


@pytest.fixture(scope="module")
def space():
    return MapSpace(conv2d("small", N=1, C=4, M=4, P=4, Q=2, R=3, S=1), small_accelerator())


class TestEvaluator:
    def test_front_is_that_of_all_samples(self, space):
        batch = space.sample(np.random.default_rng(0), 600)
        evaluator = Evaluator(space, "pareto", Budget(samples=600))
        for start in range(0, 600, 100):
            evaluator.evaluate(batch[start : start + 100])
        costs = CostModel(space.workload, space.accelerator).evaluate(batch)
        expected = nondominated(list(zip(costs.latency_cycles.tolist(), costs.energy_pj.tolist(), strict=True)))
        assert [(cost.latency_cycles, cost.energy_pj) for _, cost in evaluator.front] == expected
        assert evaluator.best_value == evaluator.trace.values[-1] == pytest.approx(evaluator.front.value)
        assert evaluator.ratio == evaluator.best_value >= 1.0
        assert evaluator.best_cost.edp == min(cost.edp for _, cost in evaluator.front)
        assert np.all(np.diff(evaluator.trace.values) < 0)
        assert np.all(np.diff(evaluator.trace.samples) > 0)

    def test_front_holds_mappings_of_the_space_only(self, space):
        narrow = MapSpace(space.workload, space.accelerator, axes=("order",))
        evaluator = Evaluator(narrow, "pareto")
        evaluator.evaluate(space.sample(np.random.default_rng(0), 50))
        assert len(evaluator.front) == 0
        assert evaluator.best_mapping is None
        trivial = Mapping.trivial(space.workload, space.accelerator)
        evaluator.evaluate(trivial.batch())
        assert [point.mapping for point in evaluator.front] == [trivial]

    def test_front_keeps_copies(self, space):
        batch = space.sample(np.random.default_rng(0), 5)
        evaluator = Evaluator(space, "pareto")
        evaluator.evaluate(batch)
        batch.temporal[:] = 7
        assert all(space.contains(point.mapping) for point in evaluator.front)

    def test_other_objectives_keep_no_front(self, space):
        assert Evaluator(space, "edp").front is None

    def test_gamma_beats_random_on_the_front(self):
        # On a toy space random search finds nearly the whole front.
        space = MapSpace(catalog.workload("paper/resnet_conv4"), catalog.accelerator("accel_b"))
        values = {}
        for name in ("gamma", "random"):
            evaluators = [Evaluator(space, "pareto", Budget(samples=1500)) for _ in range(3)]
            for seed, evaluator in enumerate(evaluators):
                make_agent(name).search(evaluator, seed)
            values[name] = float(np.mean([evaluator.best_value for evaluator in evaluators]))
        assert values["gamma"] <= values["random"], values


class TestSelection:
    @given(points)
    def test_ranks_peel_the_layers(self, pairs):
        ranks = nondominated_ranks(np.array(pairs, np.float64))
        left, rank = list(pairs), 0
        while left:
            layer = set(nondominated(left))
            assert {pairs[i] for i in np.flatnonzero(ranks == rank)} == layer
            left = [pair for pair in left if pair not in layer]
            rank += 1

    def test_crowding_by_hand(self):
        # Extents 4 and 8; the neighbours of (1, 4) are (0, 8) and (2, 2): 2/4 + 6/8.
        layer = np.array([[0.0, 8.0], [1.0, 4.0], [2.0, 2.0], [4.0, 0.0], [1.0, 4.0]])
        assert crowding_distances(layer).tolist() == [math.inf, 1.25, 1.25, math.inf, 0.0]

    @settings(max_examples=50)
    @given(points, st.data())
    def test_takes_whole_layers_first(self, pairs, data):
        values = np.array(pairs, np.float64)
        count = data.draw(st.integers(1, len(pairs)))
        chosen = select_nondominated(values, count)
        ranks = nondominated_ranks(values)
        assert len(set(chosen.tolist())) == count
        assert sorted(ranks[chosen]) == sorted(ranks)[:count]

    def test_keeps_the_ends_of_a_layer_that_is_too_large(self):
        values = np.array([[3.0, 3.0], [0.0, 9.0], [9.0, 0.0], [2.9, 3.1], [20.0, 20.0]])
        assert sorted(select_nondominated(values, 2).tolist()) == [1, 2]

    def test_illegal_mappings_come_last(self):
        values = np.array([[np.inf, np.inf], [1.0, 2.0], [np.inf, np.inf], [2.0, 1.0]])
        assert sorted(select_nondominated(values, 2).tolist()) == [1, 3]
        assert len(select_nondominated(values, 4)) == 4


class TestCommand:
    def test_prints_and_writes_the_front(self, mapgym, tmp_path):
        file = tmp_path / "front.yaml"
        options = ("--objective", "pareto", "--samples", "60", "-o", file)
        status, text, _ = mapgym("search", *TASK, *options)
        assert status == 0
        assert "x bound" in text
        written = yaml.safe_load(file.read_text())["front"]
        found = json.loads(mapgym("search", *TASK, *options, "--json")[1])
        assert [point["energy_pj"] for point in found["front"]] == [point["energy_pj"] for point in written]
        assert set(written[0]) == {"latency_cycles", "energy_pj", "edp", "utilization", "mapping"}

    def test_others_say_who_can(self, mapgym):
        status, _, error = mapgym("search", *TASK, "--objective", "pareto", "--agent", "factor-greedy")
        assert (status, error.count("\n")) == (2, 1)
        assert "evolution, exact, exhaustive, gamma, random" in error

    def test_one_objective_has_no_front(self, mapgym):
        assert json.loads(mapgym("search", *TASK, "--samples", "5", "--json")[1])["front"] is None

    def test_a_front_is_not_certified(self, mapgym):
        status, _, error = mapgym("search", *TASK, "--objective", "pareto", "--certify", "1")
        assert (status, error.count("\n")) == (2, 1)
