"""The study of mappers beside certified optima, on a small product."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest

from command_line import one_sentence
from mapgym.agents.studies.certified import study as certified, tables
from mapgym.agents.studies.certified.published import PUBLISHED, Published
from mapgym.errors import SpecificationError
from mapgym.evaluation.evaluator import Budget
from mapgym.evaluation.task import Task
from mapgym.spec import catalog
from mapgym.spec.workload import conv2d, matmul

ALL = ("tile", "order", "parallelism", "bypass")
TASK = ("--workloads", "toy/tiny_gemm", "--accelerators", "accel_a", "--seeds", "1", "--samples", "200")


def task(workload=None) -> Task:
    accelerator = replace(catalog.accelerator("accel_a"), peer_links=False)
    return Task(workload or matmul("product", M=8, K=8, N=4), accelerator, ALL, "edp")


def read(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


def optimum(value, lower_bound, **more):
    about = {"part": "optimum", "workload": "a/b", "accelerator": "m", "objective": "edp", "note": ""}
    return {**about, "value": value, "lower_bound": lower_bound, "certified": True, "seconds": 0.5, **more}


def search(agent, value, **more):
    about = {"part": "search", "workload": "a/b", "accelerator": "m", "objective": "edp", "note": "", "seed": 0}
    return {**about, "agent": agent, "value": value, "samples": 10, "seconds": 2.0, **more}


def test_ratios_are_over_the_optimum_or_else_over_the_bound():
    assert certified.ratio(6.0, optimum(4.0, 4.0)) == 1.5
    assert certified.ratio(6.0, optimum(4.0, 3.0, certified=False)) == 2.0
    assert certified.ratio(None, optimum(4.0, 4.0)) is None
    assert certified.ratio(6.0, optimum(None, None, certified=False)) is None


def test_the_overview_by_hand():
    results = [
        optimum(4.0, 4.0),
        search("goma", 4.0),
        search("gamma", 8.0),
        search("gamma", 4.0, seed=1, seconds=4.0),
        search("cosa", None, note="cannot"),
    ]
    overview, details = tables.certified_tables(results)
    assert overview.rows == [
        ["m", "exact", "1/1", "1/1", "1.00000", "1.00000", 0.5, 0.5],
        ["m", "goma", "1/1", "1/1", "1.00000", "1.00000", 2.0, 2.0],
        ["m", "gamma", "2/2", "1/2", "1.41421", "2.00000", 3.0, 4.0],
        ["m", "cosa", "0/1", "0/0", None, None, None, None],
    ]
    assert [(row["agent"], row["ratio"], row["note"]) for row in details.records] == [
        ("exact", 1.0, ""),
        ("goma", 1.0, ""),
        ("gamma", 2.0, ""),
        ("gamma", 1.0, ""),
        ("cosa", None, "cannot"),
    ]


@pytest.mark.parametrize(
    ("ours", "theirs", "is_certified", "verdict"),
    [
        (3.8633788, 3.8633790, True, "yes"),
        (3.8633788, None, True, "yes"),
        (3.863381, 3.863379, True, "NO"),
        (3.863379, 3.863383, True, "NO"),
        (3.863379, 3.863379, False, "not certified"),
    ],
)
def test_published_optima_are_compared_to_six_digits(ours, theirs, is_certified, verdict):
    result = {**vars(PUBLISHED[0]), "part": "published", "ours": ours, "goma": theirs, "certified": is_certified}
    table = tables._published([{**result, "seconds": 1.0, "goma_seconds": None}])
    assert table.records[0]["equal"] == verdict
    assert table.records[0]["published"] == "3.863379"


def test_a_published_optimum_is_found_by_both_solvers():
    """The smallest machine that a figure can be worked out for by hand: everything bypasses, nothing is reused."""
    pytest.importorskip("scipy")
    result = certified._published(Published(3, 1, 1, 1, 1, 1, energy_per_mac=3 * 64 + 1.4))
    assert result["certified"]
    assert result["ours"] == pytest.approx(193.4)
    assert result["goma"] == pytest.approx(193.4)


def test_the_published_figures_are_those_that_the_solver_is_tested_with():
    figures = [(each.rows, each.columns, each.depth, each.energy_per_mac) for each in PUBLISHED]
    assert figures == [
        (1024, 2048, 2048, 3.863379),
        (1024, 1024, 64, 4.529883),
        (1024, 2048, 8192, 3.842505),
        (32768, 32768, 64, 4.613226),
    ]


def test_what_an_agent_or_the_solver_cannot_do_is_a_note():
    pytest.importorskip("scipy")
    layer = conv2d("layer", N=1, C=4, M=4, P=4, Q=2, R=3, S=1)
    proven = certified._optimum(task(layer), 10.0)
    assert proven["certified"]
    refused = certified._search(task(layer), "goma", Budget(50, 5.0), 0, proven)
    assert refused["value"] is None
    assert "tensor 'Inputs' is no matrix" in refused["note"]
    sizes = Task(matmul(M=2, K=2, N=2), replace(task().accelerator, fanout_check="cumulative"), ALL, "edp")
    uncertified = certified._optimum(sizes, 10.0)
    assert uncertified["value"] is None
    assert "fanout_check" in uncertified["note"]
    assert certified._search(sizes, "gamma", Budget(50, 5.0), 0, uncertified)["value"] > 0


def test_a_mapping_below_the_proven_bound_is_an_alarm():
    proven = certified._optimum(task(), 10.0)
    wrong = {**proven, "lower_bound": 2.0 * proven["value"]}
    with pytest.raises(RuntimeError, match="refutes the proven bound"):
        certified._search(task(), "gamma", Budget(2000, 20.0), 0, wrong)


def test_agents_without_randomness_search_once_and_unknown_ones_are_refused():
    names = [cell.name for cell in certified.certified_cells([task()], ["cosa", "gamma"], 10, 1.0, 2, ())]
    assert [name.partition(",")[0] for name in names] == ["optimum", "cosa", "gamma", "gamma"]
    with pytest.raises(SpecificationError, match="unknown agent 'gomma'"):
        certified.certified_cells([task()], ["gomma"], 10, 1.0, 1, ())


class TestCommand:
    def test_writes_tables_and_a_picture_and_continues(self, mapgym, tmp_path):
        pytest.importorskip("scipy")
        command = ("study", "certified", *TASK, "--no-published", "-o", tmp_path)
        status, text, error = mapgym(*command)
        assert (status, error) == (0, "")
        assert (tmp_path / "certified.png").read_bytes().startswith(b"\x89PNG")
        rows = read(tmp_path / "certified.csv")
        assert [row["agent"] for row in rows] == ["exact", "goma", "factor-greedy", "cosa", "gamma"]
        assert {row["certified"] for row in rows} == {"true"}
        assert float(rows[1]["ratio"]) == pytest.approx(1.0)
        assert min(float(row["ratio"]) for row in rows) >= 1.0 - 1e-6
        for path in (tmp_path / "cells").iterdir():
            assert json.loads(path.read_text())["result"]["summary"]
        again = mapgym(*command)[1]
        assert again.count("was there already") == text.count("] ") == 5

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--agents", "gomma"), "unknown agent 'gomma'"),
            (("--seeds", "0"), "--seeds is 0; give at least 1"),
            (("--seconds", "-1"), "--seconds"),
            (("--objective", "pareto"), "pareto"),
        ],
    )
    def test_wrong_input_is_one_sentence(self, options, message, mapgym, tmp_path):
        status, _, error = mapgym("study", "certified", *TASK, *options, "-o", tmp_path / "new")
        assert status == 2
        assert message in one_sentence(error)
        assert not (tmp_path / "new").exists()
