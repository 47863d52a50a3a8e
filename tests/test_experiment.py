"""Statistics, results on disk and reports of comparisons."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from mapgym import __version__, catalog
from mapgym.agents.experiment import report
from mapgym.agents.experiment.benchmark import measure_cost_model, measure_environment, sample_busy_mappings
from mapgym.agents.experiment.comparison import Comparison, Settings, Task
from mapgym.agents.experiment.files import (
    TEMPORARY_PREFIX,
    check_output_file,
    prepare_output_folder,
    replacing,
    write_json,
    write_text,
)
from mapgym.agents.experiment.results import ResultFolder, RunResult
from mapgym.agents.experiment.runner import check_comparison, run_comparison
from mapgym.agents.experiment.statistics import bootstrap_interval, expected_samples_to_target, interquartile_mean
from mapgym.agents.experiment.summary import default_budgets, summarize
from mapgym.errors import SpecificationError
from mapgym.evaluator import Trace


def task(workload="toy/tiny_gemm", accelerator="tiny"):
    return Task(catalog.workload(workload), catalog.accelerator(accelerator))


def result(config=None, values=((1, 40.0), (10, 20.0)), samples=100, lower_bound=10.0, seconds=2.0):
    """A result whose trace is given as (samples, value) pairs."""
    trace = Trace([s for s, _ in values], [s / 100 for s, _ in values], [v for _, v in values])
    best = values[-1][1] if values else None
    return RunResult(
        config={} if config is None else config,
        mapgym_version=__version__,
        command="mapgym compare",
        lower_bound=lower_bound,
        best_value=best,
        best_cost=None if best is None else {"edp": best, "energy_pj": 1.0, "latency_cycles": best, "utilization": 0.5},
        mapping=None,
        samples=samples,
        seconds=seconds,
        tuning="none",
        trace=trace,
    )


class TestStatistics:
    def test_interquartile_mean_drops_a_quarter_at_each_end(self):
        assert interquartile_mean([100.0, 1.0, 2.0, 3.0]) == 2.5
        assert interquartile_mean([8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]) == 4.5

    def test_interquartile_mean_of_up_to_three_values_is_their_mean(self):
        assert interquartile_mean([5.0]) == 5.0
        assert interquartile_mean([1.0, 2.0, 6.0]) == 3.0

    def test_interquartile_mean_rounds_the_quarter_down(self):
        # Seven values: one is cut off at each end.
        assert interquartile_mean([1000.0, 1.0, 2.0, 3.0, 4.0, 5.0, -1000.0]) == 3.0

    def test_interquartile_mean_is_taken_along_the_first_axis(self):
        values = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0], [99.0, -99.0]])
        np.testing.assert_array_equal(interquartile_mean(values), [2.5, 15.0])

    def test_one_infinite_run_of_four_does_not_spoil_the_mean_but_two_do(self):
        assert interquartile_mean([1.0, 2.0, 3.0, math.inf]) == 2.5
        assert interquartile_mean([1.0, 2.0, math.inf, math.inf]) == math.inf

    def test_interquartile_mean_of_nothing_is_refused(self):
        with pytest.raises(ValueError, match="at least one"):
            interquartile_mean([])

    def test_interval_of_one_run_is_a_point(self):
        assert bootstrap_interval([[3.0]]) == (3.0, 3.0)

    def test_interval_equals_the_exact_bootstrap_distribution(self):
        values = [1.0, 2.0, 4.0]
        means = sorted(np.mean(draw) for draw in itertools.product(values, repeat=3))
        # 27 equally likely resamples: the 2.5 % quantile is the 1st, the 97.5 % quantile the 27th.
        assert bootstrap_interval([values]) == (means[0], means[26]) == (1.0, 4.0)
        # At 80 % the tails of 10 % end within the 3rd and the 25th.
        low, high = bootstrap_interval([values], confidence=0.8, resamples=20_000)
        assert (low, high) == pytest.approx((means[2], means[24]))

    def test_strata_are_resampled_by_themselves(self):
        # Mixed resampling would sometimes draw only the first task's values; stratified always draws two of each.
        low, high = bootstrap_interval([[0.0, 0.0], [10.0, 10.0]])
        assert (low, high) == (5.0, 5.0)

    def test_interval_keeps_trailing_axes_and_infinities(self):
        runs = [[1.0, math.inf], [1.0, math.inf], [1.0, 2.0], [1.0, 2.0]]
        low, high = bootstrap_interval([runs])
        np.testing.assert_array_equal(low, [1.0, 2.0])
        np.testing.assert_array_equal(high, [1.0, math.inf])

    def test_interval_is_the_same_each_time(self):
        values = np.random.default_rng(0).random(9)
        assert bootstrap_interval([values]) == bootstrap_interval([values])

    def test_interval_covers_the_mean_about_as_often_as_it_says(self):
        # The literal for the percentile bootstrap with 20 normal values: a little below the nominal 95 %.
        rng = np.random.default_rng(1)
        intervals = [bootstrap_interval([rng.normal(size=20)], resamples=400, seed=i) for i in range(300)]
        covered = np.mean([low <= 0.0 <= high for low, high in intervals])
        assert 0.88 <= covered <= 0.98

    def test_expected_samples_charge_for_failures(self):
        assert expected_samples_to_target([10, 30, 100], [True, True, False]) == 70.0
        assert expected_samples_to_target([100, 100], [False, False]) == math.inf


class TestFiles:
    def test_a_failed_write_leaves_the_old_file_and_nothing_else(self, tmp_path):
        path = tmp_path / "a.txt"
        write_text(path, "old")

        def fail_half_way():
            with replacing(path) as temporary:
                temporary.write_text("half")
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fail_half_way()
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]

    def test_a_link_stays_a_link(self, tmp_path):
        (tmp_path / "folder").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "folder" / "file")
        write_text(tmp_path / "link", "text")
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "folder" / "file").read_text() == "text"

    def test_json_has_no_infinity(self, tmp_path):
        with pytest.raises(ValueError, match="Out of range"):
            write_json(tmp_path / "a.json", {"x": math.inf})
        assert not list(tmp_path.iterdir())

    def test_files_are_as_readable_as_new_ones(self, tmp_path):
        (tmp_path / "plain").write_text("")
        write_text(tmp_path / "ours", "")
        assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode

    def test_a_file_in_the_way_of_a_folder(self, tmp_path):
        (tmp_path / "file").write_text("")
        for folder in (tmp_path / "file", tmp_path / "file" / "below"):
            with pytest.raises(SpecificationError, match=r"cannot write into the output folder .* give another folder"):
                prepare_output_folder(folder)

    def test_an_output_file_needs_an_existing_folder(self, tmp_path):
        with pytest.raises(SpecificationError, match="is a folder"):
            check_output_file(tmp_path)
        with pytest.raises(SpecificationError, match="existing, writable folder"):
            check_output_file(tmp_path / "missing" / "a.yaml")
        with pytest.raises(SpecificationError, match="not a file"):
            check_output_file(Path(os.devnull))
        check_output_file(tmp_path / "a.yaml")
        assert not list(tmp_path.iterdir())


class TestMatrix:
    def test_all_agents_run_a_seed_before_the_next_seed(self):
        runs = Comparison((task(),), ("random", "gamma"), (0, 1), Settings()).runs
        assert [(run.agent, run.seed) for run in runs] == [("random", 0), ("gamma", 0), ("random", 1), ("gamma", 1)]

    @pytest.mark.parametrize(
        ("tasks", "agents", "message"),
        [
            ((task(), task()), ("random",), "task .* twice"),
            ((task(),), ("random", "random"), "agent 'random' twice"),
            ((task(),), (), "no agent"),
            ((), ("random",), "no task"),
        ],
    )
    def test_a_matrix_without_or_with_repeated_entries_is_refused(self, tasks, agents, message):
        with pytest.raises(SpecificationError, match=message):
            Comparison(tasks, agents, (0,), Settings())

    def test_file_names_hold_no_slash(self):
        assert task("paper/resnet_conv4", "accel_b").file_stem == "paper-resnet_conv4__accel_b"

    def test_the_configuration_is_plain_json_and_holds_the_parameters(self):
        run = Comparison((task(),), ("gamma",), (3,), Settings(samples=7)).runs[0]
        config = run.config(Settings(samples=7))
        assert json.loads(json.dumps(config)) == config
        assert (config["agent"], config["seed"], config["samples"]) == ("gamma", 3, 7)
        assert config["parameters"]
        assert config["workload"]["dims"] == dict(zip(run.task.workload.dims, run.task.workload.bounds, strict=True))

    @pytest.mark.parametrize("settings", [Settings(samples=0), Settings(samples=None), Settings(seconds=-1.0)])
    def test_an_impossible_budget_is_refused_before_anything_runs(self, settings):
        with pytest.raises(SpecificationError, match="budget"):
            check_comparison(Comparison((task(),), ("random",), (0,), settings))


class TestResults:
    def test_best_after_a_budget(self):
        found = result(values=((3, 40.0), (10, 20.0)))
        np.testing.assert_array_equal(found.best_after([1, 3, 9, 10, 99]), [math.inf, 40.0, 40.0, 20.0, 20.0])
        np.testing.assert_array_equal(found.best_after([0.02, 0.03, 1.0], "seconds"), [math.inf, 40.0, 20.0])

    def test_samples_to_a_target(self):
        found = result(values=((3, 40.0), (10, 20.0)), samples=100)
        assert found.samples_to(40.0) == (3, True)
        assert found.samples_to(39.0) == (10, True)
        assert found.samples_to(19.0) == (100, False)

    def test_without_a_legal_mapping_the_ratio_is_infinite(self):
        assert result(values=()).ratio == math.inf

    def test_a_result_survives_the_disk(self, tmp_path):
        comparison = Comparison((task(),), ("random",), (0,), Settings(samples=20))
        folder, run = ResultFolder(tmp_path), comparison.runs[0]
        stored = result(config=run.config(comparison.settings))
        assert folder.prepare(comparison, "mapgym compare") == {}
        folder.store(run, stored)
        assert folder.prepare(comparison, "mapgym compare") == {run: stored}

    def test_leftovers_of_a_killed_process_are_removed(self, tmp_path):
        comparison = Comparison((task(),), ("random",), (0,), Settings(samples=20))
        folder = ResultFolder(tmp_path)
        leftover = folder.run_file(comparison.runs[0]).parent / f"{TEMPORARY_PREFIX}x.json"
        leftover.parent.mkdir(parents=True)
        leftover.write_text("{")
        folder.prepare(comparison, "mapgym compare")
        assert not leftover.exists()

    def test_more_agents_and_seeds_may_join(self, tmp_path):
        few = Comparison((task(),), ("random",), (0,), Settings(samples=20))
        many = Comparison((task(),), ("random", "gamma"), (0, 1), Settings(samples=20))
        folder = ResultFolder(tmp_path)
        folder.prepare(few, "")
        folder.store(few.runs[0], result(config=few.runs[0].config(few.settings)))
        assert list(folder.prepare(many, "")) == [few.runs[0]]

    def test_results_of_other_settings_are_refused(self, tmp_path):
        folder = ResultFolder(tmp_path)
        folder.prepare(Comparison((task(),), ("random",), (0,), Settings(samples=20)), "")
        other = Comparison((task(),), ("random",), (0,), Settings(samples=30))
        with pytest.raises(SpecificationError, match=r"samples 20 there, 30 now.*another folder with -o"):
            folder.prepare(other, "")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda data: data["config"]["workload"].update(name="other"), "another definition of the workload"),
            (lambda data: data["config"].update(seed=5), "seed 5 there, 0 now"),
            (lambda data: data.update(mapgym_version="0.0.1"), "made by mapgym 0.0.1"),
            (lambda data: data.pop("trace"), "is not a result file"),
            (lambda data: data.pop("config"), "is not a result file"),
        ],
    )
    def test_a_foreign_result_file_is_refused(self, tmp_path, change, message):
        comparison = Comparison((task(),), ("random",), (0,), Settings(samples=20))
        folder, run = ResultFolder(tmp_path), comparison.runs[0]
        data = result(config=run.config(comparison.settings)).to_dict()
        change(data)
        folder.run_file(run).parent.mkdir(parents=True)
        folder.run_file(run).write_text(json.dumps(data))
        with pytest.raises(SpecificationError, match=rf"{message}.*remove the file, or give another folder"):
            folder.prepare(comparison, "")

    def test_a_foreign_comparison_file_is_refused(self, tmp_path):
        (tmp_path / "comparison.json").write_text("[]")
        with pytest.raises(SpecificationError, match="not one of ours"):
            ResultFolder(tmp_path).prepare(Comparison((task(),), ("random",), (0,), Settings()), "")


class TestSummary:
    @pytest.fixture
    def comparison(self):
        return Comparison((task(),), ("random", "gamma"), (0, 1), Settings(samples=100))

    @pytest.fixture
    def summary(self, comparison):
        values = {
            ("random", 0): ((1, 100.0), (50, 40.0)),
            ("random", 1): ((2, 100.0), (20, 30.0)),
            ("gamma", 0): ((1, 100.0), (5, 20.0)),
            ("gamma", 1): ((1, 100.0), (9, 20.1)),
        }
        results = {run: result(values=values[run.agent, run.seed]) for run in comparison.runs}
        return summarize(comparison, results)

    def test_budgets_are_powers_of_ten_and_the_end(self):
        def budgets(**settings):
            return default_budgets(Comparison((task(),), ("random",), (0,), Settings(**settings)))

        assert budgets(samples=5000) == ("samples", (10.0, 100.0, 1000.0, 5000.0))
        assert budgets(samples=5) == ("samples", (5.0,))
        assert budgets(samples=None, seconds=60.0) == ("seconds", (1.0, 10.0, 60.0))

    def test_figures(self, summary):
        random, gamma = summary.rows
        assert (random.best, random.best_ratio, gamma.best, gamma.best_ratio) == (30.0, 3.0, 20.0, 2.0)
        # After 10 samples: 100 and 100, over a bound of 10; at the end 40 and 30.
        assert [interval.mean for interval in random.ratios] == [10.0, 3.5]
        assert (random.ratios[1].low, random.ratios[1].high) == (3.0, 4.0)
        # Targets are multiples of the best known 20: 20.2, 21, 22, 30, 40.
        assert gamma.reached == (2, 2, 2, 2, 2)
        assert gamma.samples_to_target == (7.0, 7.0, 7.0, 7.0, 7.0)
        assert random.reached == (0, 0, 0, 1, 2)
        assert random.samples_to_target == (math.inf, math.inf, math.inf, 120.0, 35.0)
        assert random.samples_per_second == 50.0

    def test_best_known_is_over_all_runs(self, summary):
        ((run, found),) = summary.best_known.values()
        assert (run.agent, run.seed, found.best_value) == ("gamma", 0, 20.0)

    def test_csv(self, summary):
        rows = list(csv.DictReader(io.StringIO(report.to_csv(summary))))
        assert [row["agent"] for row in rows] == ["random", "gamma"]
        assert float(rows[0]["ratio_at_100_samples_iqm"]) == 3.5
        assert rows[0]["samples_to_1.01x_best_known"] == ""
        assert float(rows[0]["samples_to_1.5x_best_known"]) == 120.0
        assert rows[1]["reached_1.01x_best_known"] == "2"

    def test_markdown(self, summary):
        text = report.to_markdown(summary, "mapgym compare --agents random,gamma")
        assert "    mapgym compare --agents random,gamma\n" in text
        assert "Lower bound: 10 pJ*cycles." in text
        assert "Best known: 20 pJ*cycles (gamma, seed 0)." in text
        assert "| random | 30 | 3 | 10 [10, 10] | 3.5 [3, 4] | - (0/2) |" in text
        widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
        assert len(widths) == 1

    def test_several_tasks_get_a_row_over_all(self):
        tasks = (task(), task("toy/tiny_conv"))
        comparison = Comparison(tasks, ("random",), (0, 1), Settings(samples=100))
        results = {run: result(values=((1, 20.0 if run.task == tasks[0] else 40.0),)) for run in comparison.runs}
        overall = summarize(comparison, results).rows[-1]
        assert (overall.task, overall.best, overall.runs) == (None, None, 4)
        # Ratios 2, 2, 4, 4: the middle half is 2 and 4; resampling within tasks changes nothing.
        assert (overall.ratios[-1].mean, overall.ratios[-1].low, overall.ratios[-1].high) == (3.0, 3.0, 3.0)

    def test_an_agent_that_found_nothing(self):
        comparison = Comparison((task(),), ("random",), (0,), Settings(samples=100))
        summary = summarize(comparison, {comparison.runs[0]: result(values=())})
        assert "No run priced a legal mapping." in report.to_markdown(summary, "")
        row = next(csv.DictReader(io.StringIO(report.to_csv(summary))))
        assert row["best_edp"] == row["ratio_at_100_samples_iqm"] == ""

    def test_plot(self, comparison, tmp_path):
        pytest.importorskip("matplotlib")
        from mapgym.agents.experiment.plot import plot_anytime

        for unit in ({"samples": 100}, {"samples": None, "seconds": 2.0}):
            comparison = Comparison((task(), task("toy/tiny_conv")), ("random", "gamma"), (0, 1), Settings(**unit))
            values = {"random": ((1, 40.0), (9, 20.0)), "gamma": ()}
            results = {run: result(values=values[run.agent]) for run in comparison.runs}
            plot_anytime(summarize(comparison, results), results, tmp_path / "a.png")
            assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
            assert len(list(tmp_path.iterdir())) == 1


class _Log:
    def __init__(self, stop_after=None):
        self.events = []
        self.stop_after = stop_after

    def started(self, run, evaluator):
        if self.stop_after is not None and len(self.events) == self.stop_after:
            raise KeyboardInterrupt

    def finished(self, run, result, *, was_there):
        self.events.append((run.agent, run.seed, was_there))


class TestRunner:
    def test_an_interrupted_comparison_continues_and_gives_the_same_results(self, tmp_path):
        comparison = Comparison((task(),), ("random", "gamma"), (0, 1), Settings(samples=50))
        folder, log = ResultFolder(tmp_path / "a"), _Log(stop_after=3)
        with pytest.raises(KeyboardInterrupt):
            run_comparison(comparison, folder, folder.prepare(comparison, ""), "", log)
        assert log.events == [("random", 0, False), ("gamma", 0, False), ("random", 1, False)]
        log = _Log()
        continued = run_comparison(comparison, folder, folder.prepare(comparison, ""), "", log)
        assert log.events == [("random", 0, True), ("gamma", 0, True), ("random", 1, True), ("gamma", 1, False)]

        other = ResultFolder(tmp_path / "b")
        at_once = run_comparison(comparison, other, other.prepare(comparison, ""), "", _Log())
        for run in comparison.runs:
            assert continued[run].trace.values == at_once[run].trace.values
            assert continued[run].trace.samples == at_once[run].trace.samples
            assert continued[run].mapping == at_once[run].mapping

    def test_a_run_spends_its_budget_and_stays_above_the_bound(self, tmp_path):
        comparison = Comparison((task(),), ("random",), (0,), Settings(samples=50))
        folder = ResultFolder(tmp_path)
        (found,) = run_comparison(comparison, folder, folder.prepare(comparison, ""), "", _Log()).values()
        assert found.samples == 50
        assert found.ratio >= 1.0
        assert found.best_value == found.best_cost["edp"] == found.trace.values[-1]


class TestBenchmark:
    def test_the_sample_uses_at_least_half_of_the_macs(self):
        machine = catalog.accelerator("accel_b")
        batch = sample_busy_mappings(machine, catalog.workload("paper/resnet_conv4"), 200)
        assert len(batch) == 200
        assert (batch.used_macs() * 2 >= machine.mac.instances).all()

    def test_speeds_are_positive(self):
        speed = measure_cost_model(
            catalog.accelerator("tiny"), catalog.workload("toy/tiny_gemm"), rounds=1, mappings=200
        )
        assert speed.evaluations_per_second > 0
        assert speed.single_call_seconds > 0
        assert speed.mean_utilization >= 0.5
        speed = measure_environment(num_envs=8, rounds=1)
        assert (speed.env, speed.num_envs) == ("MapSpace-v0", 8)
        assert speed.scalar_steps_per_second > 0
        assert speed.vector_steps_per_second > 0
