"""The study of mappers: what its tables say, and the command."""

from __future__ import annotations

import csv
from dataclasses import replace

import pytest

from mapgym.agents.base import DEFAULT_AGENT, make_agent
from mapgym.agents.experiment.definition.experiment import AgentEntry, Run
from mapgym.agents.experiment.definition.experiment_file import load_experiment
from mapgym.agents.experiment.report.summary import summarize
from mapgym.agents.experiment.storage.folder import load_results
from mapgym.agents.experiment.storage.results import RunResult
from mapgym.agents.studies.mappers.study import Comparison, mappers_tables
from mapgym.agents.studies.mappers.timeloop_mapper import TimeloopRun, timeloop_runs, timeloop_table
from mapgym.evaluation.evaluator import Budget, Evaluator, Trace
from mapgym.evaluation.task import Task
from mapgym.mapspace import MapSpace
from mapgym.spec import catalog

pytest.importorskip("pyarrow")

TASK = ("--workloads", "toy/tiny_gemm", "--accelerators", "tiny")
SMALL = (*TASK, "--agents", "random,gamma", "--samples", "40", "--seconds", "0.02", "--jobs", "1", "--quick")


def result(agent, seed, budget, samples, seconds, values, spent=(2000, 2.0)):
    """A run with an anytime curve by hand."""
    task = Task(catalog.workload("toy/tiny_gemm"), catalog.accelerator("tiny"))
    return RunResult(
        config=Run(task, AgentEntry(agent), seed).config(budget),
        versions={},
        machine="",
        command="",
        finished_at="",
        lower_bound=1.0,
        best_value=values[-1],
        best_cost=None,
        mapping=None,
        samples=spent[0],
        seconds=spent[1],
        tuning="",
        trace=Trace(samples, seconds, values),
    )


@pytest.fixture
def comparison():
    """Two agents: random is better with the same samples, gamma with the same time, which finds the best."""
    samples, seconds = Budget(samples=2000), Budget(seconds=2.0)
    return Comparison(
        summarize(
            [
                result("gamma", 0, samples, [10, 1500], [0.1, 1.0], [200.0, 150.0]),
                result("random", 0, samples, [10, 900], [0.1, 1.0], [140.0, 104.0]),
                result("random", 1, samples, [10, 1200], [0.1, 1.0], [160.0, 120.0]),
            ],
            samples,
        ),
        summarize(
            [
                result("gamma", 0, seconds, [10], [0.5], [100.0], (4000, 2.0)),
                # Found when the time was over.
                result("random", 0, seconds, [10, 900], [0.1, 2.1], [130.0, 110.0], (1000, 2.5)),
            ],
            seconds,
        ),
    )


class TestComparison:
    def test_moments(self, comparison):
        assert [moment.name for moment in comparison.moments] == ["1,000 samples", "2,000 samples", "2 s"]

    def test_ratios_by_hand(self, comparison):
        # The best known is the 100 of gamma's second run.
        early, end, time = comparison.moments
        assert comparison.agents == ["random", "gamma"]
        assert comparison.mean("random", early) == pytest.approx((1.04 + 1.6) / 2)
        assert comparison.mean("random", end, "tiny") == pytest.approx((1.04 + 1.2) / 2)
        assert comparison.interval("random", end) == pytest.approx((1.04, 1.2))
        assert comparison.mean("gamma", early) == 2.0
        assert comparison.mean("random", time) == pytest.approx(1.3)
        assert [comparison.place("random", moment) for moment in comparison.moments] == [1, 1, 2]

    def test_efficiency_by_hand(self, comparison):
        assert comparison.samples_per_second("gamma") == 2000.0
        assert comparison.samples_to_target("random") == (900.0 + 2000.0, 1, 2)
        assert comparison.samples_to_target("gamma") == (float("inf"), 0, 1)

    def test_tables(self, comparison):
        overview, details = mappers_tables(comparison)
        assert overview.columns[1:4] == ("tiny, 1,000 samples", "tiny, 2,000 samples", "tiny, 2 s")
        assert overview.rows[1] == ["gamma", 2.0, 1.5, 1.0, "2,000", "- (0/1)"]
        assert [row[:3] for row in details.rows][:2] == [["random", "tiny", 2], ["random", "all", 2]]


class TestCommand:
    def test_a_slow_agent_has_as_few_seeds_in_all_three_parts(self, mapgym, tmp_path):
        pytest.importorskip("cmaes")
        task = ("--workloads", "paper/resnet_conv4", "--accelerators", "accel_a", "--agents", "cma-es,random")
        assert mapgym("study", "mappers", *task, *SMALL[6:], "-o", tmp_path)[0] == 0
        for part in ("samples", "time", "timeloop"):
            (folder,) = (tmp_path / part / "runs").iterdir()
            assert [path.name for path in folder.glob("cma-es-*")] == ["cma-es-seed0.parquet"], part

    def test_writes_tables_and_a_picture_continues_and_can_be_reported(self, mapgym, tmp_path):
        status, text, _ = mapgym("study", "mappers", *SMALL, "-o", tmp_path)
        assert status == 0
        assert "mappers.md" in text
        with (tmp_path / "mappers.csv").open() as file:
            header, *rows = csv.reader(file)
        assert {len(row) for row in rows} == {len(header)}
        assert {row[0] for row in rows} == {"random", "gamma"}
        if "mappers.png" in text:
            assert (tmp_path / "mappers.png").read_bytes().startswith(b"\x89PNG")
        runs = [len(load_results(tmp_path / name)) for name in ("samples", "time")]
        assert runs == [4, 2]
        again = mapgym("study", "mappers", *SMALL, "-o", tmp_path)[1]
        assert again.count("was there already") == sum(runs)
        assert mapgym("report", tmp_path)[0] == 0
        assert (tmp_path / "report.html").exists()

    def test_wrong_input_is_one_sentence(self, mapgym, tmp_path):
        for wrong in (("--agents", "gama"), ("--workloads", "toy/tiny_gem"), ("--samples", "0"), ("--seconds", "-1")):
            status, _, error = mapgym("study", "mappers", *TASK, *wrong, "-o", tmp_path / "new")
            assert (status, error.count("\n")) == (2, 1)
            assert not (tmp_path / "new").exists()


class TestAgainstTimeloop:
    @pytest.mark.parametrize("suffix", ["", "_quick"])
    def test_stored_runs_are_of_tasks_of_the_third_experiment(self, suffix):
        tasks = {(task.workload, task.accelerator) for task in load_experiment(f"mappers_timeloop{suffix}").tasks}
        assert {(run.workload, run.accelerator) for run in timeloop_runs()} == tasks

    def test_ratios_by_hand(self):
        # The better of two runs of Timeloop's mapper counts; the medians of 104 and 120, and 150, over its 80.
        samples = Budget(samples=2000)
        summary = summarize(
            [
                result("random", 0, samples, [10, 900], [0.1, 1.0], [140.0, 104.0]),
                result("random", 1, samples, [10, 1200], [0.1, 1.0], [160.0, 120.0]),
                result("gamma", 0, samples, [10, 1500], [0.1, 1.0], [200.0, 150.0]),
            ],
            samples,
        )
        task = summary.tasks[0]
        runs = [TimeloopRun(task.workload, task.accelerator, edp, valid) for edp, valid in ((90.0, 500), (80.0, 7000))]
        table = timeloop_table(summary, runs)
        assert table.columns[2:] == ("Timeloop's EDP", "valid mappings", "random", "gamma")
        assert table.rows == [["toy/tiny_gemm", "tiny", 80.0, "7,000", 1.4, 1.875]]

    def test_the_default_agent_beats_it_with_fewer_samples(self):
        for task in load_experiment("mappers_timeloop").tasks:
            runs = [
                run for run in timeloop_runs() if (run.workload, run.accelerator) == (task.workload, task.accelerator)
            ]
            evaluator = Evaluator(MapSpace(task.workload, task.accelerator, task.axes), "edp", Budget(samples=5000))
            make_agent(DEFAULT_AGENT).search(evaluator, 0)
            assert evaluator.best_value < min(run.edp for run in runs)
            assert min(run.valid for run in runs) > 5 * evaluator.samples


def test_a_quick_study_is_compared_with_timeloop_after_as_many_samples():
    whole, quick = (load_experiment(f"mappers_timeloop{suffix}") for suffix in ("", "_quick"))
    assert replace(quick, seeds=whole.seeds) == whole
    assert quick.seeds == whole.seeds[:2]


@pytest.mark.parametrize("suffix", ["", "_quick"])
def test_both_experiments_compare_the_same(suffix):
    by_samples, by_time = (load_experiment(f"{name}{suffix}") for name in ("mappers", "mappers_time"))
    assert by_samples.tasks == by_time.tasks
    assert len(by_samples.tasks) == 12
    labels = [entry.label for entry in by_samples.agents]
    assert labels == [entry.label for entry in by_time.agents]
    assert DEFAULT_AGENT in labels
