"""The studies of orders, axes, landscapes and fronts."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from mapgym.agents.files.tables import Table
from mapgym.agents.studies.axes import study as axes
from mapgym.agents.studies.landscape import study as landscape
from mapgym.agents.studies.order import study as order
from mapgym.agents.studies.pareto import study as pareto
from mapgym.cost import CostModel
from mapgym.errors import SpecificationError
from mapgym.evaluation.evaluator import Budget
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.spec.workload import conv2d, matmul
from mapgym.testing.agents import small_accelerator

TASK = ("--workloads", "toy/tiny_gemm", "--accelerators", "tiny")


@pytest.fixture(scope="module")
def space():
    return MapSpace(conv2d("small", N=1, C=4, M=4, P=4, Q=2, R=3, S=1), small_accelerator())


class TestTable:
    def test_csv_is_exact_and_markdown_is_short(self):
        table = Table("Title", "Note.", ("name", "value"), [["a", 1 / 3], ["b", None]])
        assert table.to_csv() == f"name,value\na,{1 / 3!r}\nb,\n"
        assert table.to_markdown().endswith("| name | value |\n| --- | --- |\n| a | 0.3333 |\n| b | - |\n")


class TestOrder:
    def test_all_orders_are_permutations_of_the_loops_that_exist(self):
        orders = order.all_orders((1, 3, 2, 1, 5))
        assert orders.shape == (6, 5)
        assert len({tuple(row) for row in orders.tolist()}) == 6
        assert orders[:, 3:].tolist() == [[0, 3]] * 6
        assert np.sort(orders, axis=1).tolist() == [[0, 1, 2, 3, 4]] * 6

    def test_too_many_orders_are_refused(self):
        with pytest.raises(SpecificationError, match="at most 8"):
            order.all_orders((2,) * 9)

    def test_costs_against_one_by_one(self, space):
        mapping = space.sample(np.random.default_rng(1), 1)[0]
        model = CostModel(space.workload, space.accelerator)
        costs = order.order_costs(space, mapping, "edp")
        assert list(costs) == ["Registers", "Buffer", "Memory", order.ALIKE]
        expected = []
        for row in order.all_orders(space.workload.bounds):
            changed = mapping.batch().copy()
            changed.order[:, 2] = row
            expected.append(model.evaluate(changed[0]).edp)
        assert costs["Memory"].tolist() == sorted(expected)
        assert all(values[0] <= model.evaluate(mapping).edp for name, values in costs.items() if name != order.ALIKE)

    def test_distinct_costs_by_hand(self):
        ratios, counts = order.distinct(np.array([2.0, 2.0, 2.0 + 1e-12, 3.0, 8.0, 8.0]))
        assert ratios.tolist() == [1.0, 1.5, 4.0]
        assert counts.tolist() == [3, 1, 2]

    def test_a_matrix_product_at_one_level_has_three_costs_by_symmetry(self):
        # All loops at the outermost level of a cube: what counts is which loop is innermost, that is which of the
        # three tensors stays. Inputs and weights are alike, outputs cost more to move.
        space = MapSpace(matmul(M=4, K=4, N=4), small_accelerator(peer_links=False))
        trivial = MappingBatch.trivial(space.workload, space.accelerator, 1)[0]
        ratios, counts = order.distinct(order.order_costs(space, trivial, "energy")["Memory"])
        assert counts.tolist() == [2, 4]
        assert ratios[0] == 1.0


class TestAxes:
    def test_variants_turn_operators_off(self):
        found = {variant.name: variant.parameters for variant in axes.variants()}
        assert found["random"] is None
        assert found["order"]["move"] == found["order"]["parallelism"] == 0.0 < found["order"]["order"]
        assert found["tile + crossover"]["crossover"] == 0.5
        assert found["tile"]["order"] == 0.0
        assert found["crossover"]["crossover"] == 1.0
        assert all(parameters["inject"] == 0.0 for parameters in found.values() if parameters)

    def test_a_variant_with_one_operator_keeps_the_rest(self, space):
        # With only the order operator, no tile can occur that the first population did not have.
        from mapgym.agents import make_agent

        parameters = next(variant.parameters for variant in axes.variants() if variant.name == "order")
        recorder = landscape.VisitRecorder(space, "edp", Budget(samples=400))
        make_agent("gamma", **parameters).search(recorder, 0)
        visited = MappingBatch.concatenate(recorder.visited)
        tiles = (visited.temporal * visited.spatial).reshape(len(visited), -1)
        first = {tuple(row) for row in tiles[:100].tolist()}
        assert {tuple(row) for row in tiles[100:].tolist()} <= first


class TestLandscape:
    def test_features_by_hand(self):
        batch = MappingBatch.trivial(matmul(M=4, K=1, N=8), small_accelerator(), 2)
        dims = matmul(M=4, K=1, N=8).dims
        m, n = dims.index("M"), dims.index("N")
        batch.order[1, 2] = [n, m, *(d for d in range(len(dims)) if d not in (m, n))]
        points, blocks = landscape.features(batch)
        factors = points[:, [block == "factors" for block in blocks]].reshape(2, 6, -1)
        orders = points[:, [block == "orders" for block in blocks]].reshape(2, 3, -1)
        assert factors[0, 2, [m, n]].tolist() == [2.0, 3.0]
        assert factors.sum() == 10.0
        assert orders[:, 2, [m, n]].tolist() == [[-0.5, 0.5], [0.5, -0.5]]
        assert np.abs(orders[:, :2]).sum() == 0.0
        assert points[:, [block == "keep" for block in blocks]].all()

    def test_components_explain_what_there_is(self):
        points = np.zeros((5, 3))
        points[:, 0] = [0, 1, 2, 3, 4]
        scaled, components, shares = landscape.principal_components(points, ["a", "b", "b"])
        assert shares[0] == pytest.approx(1.0)
        assert np.abs(components[:, 0]) == pytest.approx(np.abs(scaled[:, 0]))
        assert scaled.var() * 3 == pytest.approx(1.0)

    def test_nothing_visited_but_one_mapping(self):
        _, components, shares = landscape.principal_components(np.ones((4, 3)), ["a", "a", "b"])
        assert np.abs(components).max() == 0.0
        assert shares.tolist() == [0.0, 0.0]

    def test_recorder_keeps_evenly_spaced_mappings(self, space, monkeypatch):
        monkeypatch.setattr(landscape, "KEPT", 10)
        recorder = landscape.VisitRecorder(space, "edp", Budget(samples=100))
        batch = space.sample(np.random.default_rng(0), 120)
        for start in range(0, 120, 17):
            recorder.evaluate(batch[start : start + 17])
        assert recorder.positions == list(range(0, 100, 10))
        assert MappingBatch.concatenate(recorder.visited) == batch[np.arange(0, 100, 10)]
        assert recorder.values == CostModel(space.workload, space.accelerator).evaluate(batch).edp[:100:10].tolist()


class TestPareto:
    def test_joining_fronts_keeps_what_nothing_beats(self, space):
        front, values = pareto._search(space, "random", 200, 3)
        assert len(values) == 3
        assert front.value <= min(values)
        assert np.all(np.diff(front.energy_pj) < 0)

    def test_only_agents_that_can(self):
        with pytest.raises(SpecificationError, match="gamma"):
            pareto.pareto_cells([], "cma-es", 10, 1, 0.0)


@pytest.mark.parametrize(
    ("study", "options", "pictures"),
    [
        ("order", ("--bases", "1"), ["order.png"]),
        ("axes", ("--samples", "120", "--seeds", "1"), ["operators.png", "axes.png"]),
        (
            "landscape",
            ("--samples", "60", "--seeds", "1", "--agents", "random,gamma"),
            ["landscape_toy-tiny_gemm__tiny.png"],
        ),
        ("pareto", ("--samples", "100", "--seeds", "1", "--certify", "1"), ["pareto.png"]),
    ],
)
class TestCommands:
    def test_writes_tables_and_pictures_and_continues(self, study, options, pictures, mapgym, tmp_path):
        status, text, error = mapgym("study", study, *TASK, *options, "-o", tmp_path)
        assert (status, error) == (0, "")
        assert "[1/" in text
        for picture in pictures:
            assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
            assert picture in (tmp_path / f"{study}.md").read_text()
        with (tmp_path / f"{study}.csv").open() as file:
            header, *rows = csv.reader(file)
        assert rows
        assert {len(row) for row in rows} == {len(header)}
        for path in (tmp_path / "cells").iterdir():
            assert json.loads(path.read_text())["result"]["summary"]
        again = mapgym("study", study, *TASK, *options, "-o", tmp_path)[1]
        assert again.count("was there already") == text.count("] ")

    def test_wrong_input_is_one_sentence(self, study, options, pictures, mapgym, tmp_path):
        status, _, error = mapgym("study", study, "--workloads", "toy/tiny_gem", "-o", tmp_path / "new")
        assert (status, error.count("\n")) == (2, 1)
        assert "tiny_gemm" in error
        assert not (tmp_path / "new").exists()

    def test_an_interruption_says_how_to_continue(self, study, options, pictures, mapgym, tmp_path, monkeypatch):
        def interrupted(*arguments):
            raise KeyboardInterrupt

        module = {"order": order, "axes": axes, "landscape": landscape, "pareto": pareto}[study]
        monkeypatch.setattr(module, {"axes": "_operators"}.get(study, "_compute"), interrupted)
        status, _, error = mapgym("study", study, *TASK, *options, "-o", tmp_path)
        assert status == 130
        assert "run the same command again" in error
