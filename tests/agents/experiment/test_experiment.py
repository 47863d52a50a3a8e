"""Statistics, results on disk and reports of comparisons."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest

from mapgym import __version__
from mapgym.agents.base import Agent
from mapgym.agents.benchmark import measure_agent, measure_cost_model, sample_busy_mappings
from mapgym.agents.certificate import Certificate
from mapgym.agents.experiment.definition.experiment import AgentEntry, Experiment, Run
from mapgym.agents.experiment.execution.context import Observer
from mapgym.agents.experiment.execution.runner import run_experiment
from mapgym.agents.experiment.report import report
from mapgym.agents.experiment.report.statistics import (
    bootstrap_interval,
    expected_samples_to_target,
    interquartile_mean,
)
from mapgym.agents.experiment.report.summary import default_budgets, summarize
from mapgym.agents.experiment.storage.folder import ExperimentFolder, load_results
from mapgym.agents.experiment.storage.results import RunResult, read_result, write_result
from mapgym.cost import CostModel
from mapgym.errors import SpecificationError
from mapgym.evaluation.evaluator import Budget, Trace
from mapgym.evaluation.task import Task
from mapgym.mapspace import MapSpace
from mapgym.spec import catalog
from mapgym.system.checksums import UNSEALED
from mapgym.system.files import TEMPORARY_PREFIX
from mapgym.system.locks import FolderLocks


def task(workload="toy/tiny_gemm", accelerator="tiny"):
    return Task(catalog.workload(workload), catalog.accelerator(accelerator))


def name_byte(name):
    """Which byte of the file of the locks stands for a piece of work."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big")


def experiment(agents=("random",), seeds=(0,), tasks=None, **budget):
    entries = tuple(AgentEntry(entry) if isinstance(entry, str) else entry for entry in agents)
    return Experiment(tasks or (task(),), entries, tuple(seeds), Budget(**(budget or {"samples": 100})))


def result(run=None, values=((1, 40.0), (10, 20.0)), samples=100, lower_bound=10.0, seconds=2.0, budget=None):
    """A result whose trace is given as (samples, value) pairs."""
    trace = Trace([s for s, _ in values], [s / 100 for s, _ in values], [v for _, v in values])
    best = values[-1][1] if values else None
    run = run or Run(task(), AgentEntry("random"), 0)
    return RunResult(
        config=run.config(budget or Budget(samples=100)),
        versions={"mapgym": __version__},
        machine="an abacus",
        command="mapgym compare",
        finished_at="2026-01-01T00:00:00+00:00",
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


class TestMatrix:
    def test_all_agents_run_a_seed_before_the_next_seed(self):
        runs = experiment(("random", "gamma"), (0, 1)).runs
        assert [(run.agent.label, run.seed) for run in runs] == [
            ("random", 0),
            ("gamma", 0),
            ("random", 1),
            ("gamma", 1),
        ]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"tasks": (task(), task())}, "task .* twice; name it once"),
            ({"agents": ("random", "random")}, "agent 'random' twice; name it once, or give each entry a label"),
            ({"agents": ("random", AgentEntry("gamma", "random"))}, "agent 'random' twice"),
            ({"agents": ()}, "no agent"),
            ({"seeds": ()}, "no seed"),
            ({"agents": ("randm",)}, "did you mean 'random'"),
            ({"agents": (AgentEntry("gamma", parameters={"populatoin": 3}),)}, "did you mean 'population'"),
            ({"agents": (AgentEntry("gamma", axes=("bypass",)),)}, "axes bypass are not all among those of the task"),
        ],
    )
    def test_what_cannot_be_run_is_refused(self, arguments, message):
        with pytest.raises(SpecificationError, match=message):
            experiment(**arguments)

    def test_labels_that_look_alike_are_different_agents(self):
        labels = ("random", "Random", "a b", "a-b", "a  b", "\u0430", "a" * 250, "a" * 251)
        there = experiment(tuple(AgentEntry("gamma", label) for label in labels))
        names = {run.file_name.casefold() for run in there.runs}
        assert len(names) == len(labels)
        assert max(len(name.partition("/")[2].partition("/")[2]) for name in names) < 220

    def test_the_configuration_is_plain_json_and_holds_all_parameters(self):
        run = experiment((AgentEntry("gamma", "small", {"population": 7}),), (3,)).runs[0]
        config = run.config(Budget(samples=7))
        assert json.loads(json.dumps(config)) == config
        assert (config["agent"], config["label"], config["seed"]) == ("gamma", "small", 3)
        assert config["budget"] == {"samples": 7, "seconds": None}
        assert config["parameters"]["population"] == 7
        assert len(config["parameters"]) > 1
        assert config["workload"]["dims"] == dict(zip(run.task.workload.dims, run.task.workload.bounds, strict=True))

    @pytest.mark.parametrize("workload", ["toy/tiny_dw", "paper/bert_attn", "mobilenet_v2/depthwise_384"])
    @pytest.mark.parametrize("accelerator", catalog.accelerator_names())
    def test_a_task_survives_its_plain_form(self, workload, accelerator):
        there = task(workload, accelerator)
        assert result(Run(there, AgentEntry("random"), 0)).task == there

    def test_an_entry_with_fewer_axes_searches_less_of_the_same_task(self):
        entry = AgentEntry("random", axes=("tile",))
        assert entry.space(task()).axes == ("tile",)
        assert AgentEntry("random").space(task()).axes == ("tile", "order", "parallelism")


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

    @pytest.mark.parametrize("values", [((1, 40.0), (10, 20.0)), ()])
    def test_a_result_survives_the_disk(self, tmp_path, values):
        stored = result(values=values, budget=Budget(seconds=2.5))
        write_result(tmp_path / "a.parquet", stored)
        assert read_result(tmp_path / "a.parquet") == stored
        assert len(list(tmp_path.iterdir())) == 1

    def test_anyone_can_read_the_file(self, tmp_path):
        parquet = pytest.importorskip("pyarrow.parquet")
        write_result(tmp_path / "a.parquet", result())
        (row,) = parquet.read_table(tmp_path / "a.parquet").to_pylist()
        assert (row["workload"], row["label"], row["best_value"]) == ("toy/tiny_gemm", "random", 20.0)
        assert (row["trace_samples"], row["trace_values"]) == ([1, 10], [40.0, 20.0])
        assert row["axes"] == ["tile", "order", "parallelism"]

    def test_flipped_bits_and_lost_ends_are_noticed(self, tmp_path):
        path = tmp_path / "a.parquet"
        write_result(path, result())
        data = path.read_bytes()
        # All of the end, where Parquet says what the bytes before mean, and some of everything else.
        for bit in {*range(0, 8 * len(data), 197), *range(8 * len(data) - 1000, 8 * len(data))}:
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            with pytest.raises(ValueError):  # noqa: PT011 - the words are Arrow's
                read_result(path)
        for length in range(0, len(data), 397):
            path.write_bytes(data[:length])
            with pytest.raises(ValueError):  # noqa: PT011
                read_result(path)

    def test_a_file_of_the_first_form_has_no_checksum(self, tmp_path, monkeypatch):
        path = tmp_path / "a.parquet"
        monkeypatch.setattr("mapgym.agents.experiment.storage.results.FORMAT", 1)
        monkeypatch.setattr("mapgym.agents.experiment.storage.results.UNSEALED", "-" * len(UNSEALED))
        monkeypatch.setattr("mapgym.agents.experiment.storage.results.seal", lambda data: data)
        write_result(path, result())
        monkeypatch.undo()
        assert read_result(path) == result()

    @pytest.mark.parametrize("content", [b"", b"PAR1", b"{}"])
    def test_a_damaged_file_is_a_value_error(self, tmp_path, content):
        (tmp_path / "a.parquet").write_bytes(content)
        with pytest.raises(ValueError):  # noqa: PT011 - the words are Arrow's
            read_result(tmp_path / "a.parquet")


class TestFolder:
    def prepared(self, path, **arguments):
        """A folder with one result."""
        there = experiment(**arguments)
        folder = ExperimentFolder(path)
        assert folder.prepare(there, "mapgym run") == {}
        folder.store(there.runs[0], result(there.runs[0], budget=there.budget))
        return there, folder

    def test_what_is_stored_is_found(self, tmp_path):
        there, folder = self.prepared(tmp_path)
        assert folder.prepare(there, "") == {there.runs[0]: result(there.runs[0])}
        assert load_results(tmp_path) == [result(there.runs[0])]

    def test_more_agents_and_seeds_may_join(self, tmp_path):
        there, folder = self.prepared(tmp_path)
        assert list(folder.prepare(experiment(("random", "gamma"), (0, 1)), "")) == list(there.runs)

    def test_results_come_in_the_order_of_the_experiment(self, tmp_path):
        there = experiment(("random", "gamma", "exact"), (10, 2))
        folder = ExperimentFolder(tmp_path)
        folder.prepare(there, "")
        for run in there.runs:
            folder.store(run, result(run))
        assert [found.run.name for found in load_results(tmp_path)] == [
            run.name for run in sorted(there.runs, key=lambda run: run.seed)
        ]

    def test_results_of_another_budget_are_refused(self, tmp_path):
        self.prepared(tmp_path)
        with pytest.raises(SpecificationError, match=r"samples 100 there, 30 now.*another folder with -o"):
            ExperimentFolder(tmp_path).prepare(experiment(samples=30), "")

    def test_another_agent_under_the_same_label_is_refused(self, tmp_path):
        self.prepared(tmp_path, agents=(AgentEntry("gamma", "a"),))
        for entry, message in (
            (AgentEntry("gamma", "a", {"population": 3}), r"population \d+ there, 3 now"),
            (AgentEntry("random", "a"), "agent gamma there, random now"),
        ):
            with pytest.raises(SpecificationError, match=rf"{message}.*remove the file, or give another folder"):
                ExperimentFolder(tmp_path).prepare(experiment((entry,)), "")

    def test_results_of_another_version_are_refused(self, tmp_path):
        there, folder = self.prepared(tmp_path)
        folder.store(there.runs[0], replace(result(there.runs[0]), versions={"mapgym": "0.0.1"}))
        with pytest.raises(SpecificationError, match=r"made by mapgym 0\.0\.1"):
            folder.prepare(there, "")

    def test_what_is_being_written_is_no_result_yet(self, tmp_path):
        there, folder = self.prepared(tmp_path)
        path = tmp_path / there.runs[0].file_name
        for name, content in (("a", path.read_bytes()), ("b", b"PAR1")):
            path.with_name(f"{TEMPORARY_PREFIX}{name}.parquet").write_bytes(content)
        assert len(folder.results()) == 1
        assert folder.damaged == []

    def test_a_damaged_result_is_set_aside(self, tmp_path):
        there, folder = self.prepared(tmp_path)
        path = tmp_path / there.runs[0].file_name
        path.write_bytes(path.read_bytes()[:100])
        assert load_results(tmp_path) == []
        assert path.exists()
        assert folder.prepare(there, "") == {}
        assert folder.damaged == [path.with_name(path.name + ".damaged")]
        assert folder.damaged[0].exists()
        assert not path.exists()

    def test_a_damaged_result_that_somebody_is_making_again_stays_where_it_is(self, tmp_path, monkeypatch):
        there, folder = self.prepared(tmp_path)
        path = tmp_path / there.runs[0].file_name
        path.write_bytes(b"PAR1")
        lock = FolderLocks._lock
        (busy,) = (name_byte(there.runs[0].file_name),)
        monkeypatch.setattr(FolderLocks, "_lock", lambda self, byte: byte != busy and lock(self, byte))
        assert folder.prepare(there, "") == {}
        assert path.exists()

    def test_every_flipped_bit_of_the_definition_is_noticed(self, tmp_path):
        _, folder = self.prepared(tmp_path)
        path = tmp_path / "experiment.json"
        data = path.read_bytes()
        for position in range(len(data)):
            flipped = bytearray(data)
            flipped[position] ^= 1 << position % 8
            path.write_bytes(flipped)
            with pytest.raises(SpecificationError, match="damaged or not one of ours; give another folder, or remove"):
                folder.definition()

    @pytest.mark.parametrize("content", ["[]", "{", "[" * 100_000, '{"mapgym_version": "0.1.0"}'])
    def test_a_foreign_experiment_file_is_refused(self, tmp_path, content):
        (tmp_path / "experiment.json").write_text(content)
        with pytest.raises(SpecificationError, match="not one of ours"):
            ExperimentFolder(tmp_path).prepare(experiment(), "")

    def test_the_former_form_is_refused(self, tmp_path):
        (tmp_path / "comparison.json").write_text("{}")
        for read in (lambda: ExperimentFolder(tmp_path).prepare(experiment(), ""), lambda: load_results(tmp_path)):
            with pytest.raises(SpecificationError, match="earlier form"):
                read()

    def test_a_folder_without_an_experiment(self, tmp_path):
        with pytest.raises(SpecificationError, match="holds no experiment; give what 'mapgym run -o'"):
            load_results(tmp_path)


class TestSummary:
    @pytest.fixture
    def results(self):
        values = {
            ("random", 0): ((1, 100.0), (50, 40.0)),
            ("random", 1): ((2, 100.0), (20, 30.0)),
            ("gamma", 0): ((1, 100.0), (5, 20.0)),
            ("gamma", 1): ((1, 100.0), (9, 20.1)),
        }
        runs = experiment(("random", "gamma"), (0, 1)).runs
        return [result(run, values[run.agent.label, run.seed]) for run in runs]

    @pytest.fixture
    def summary(self, results):
        return summarize(results, Budget(samples=100))

    def test_budgets_are_powers_of_ten_and_the_end(self):
        assert default_budgets(Budget(samples=5000)) == ("samples", (10.0, 100.0, 1000.0, 5000.0))
        assert default_budgets(Budget(samples=5)) == ("samples", (5.0,))
        assert default_budgets(Budget(seconds=60.0)) == ("seconds", (1.0, 10.0, 60.0))

    def test_figures(self, summary):
        random, gamma = summary.rows
        assert (random.best, random.best_ratio, gamma.best, gamma.best_ratio) == (30.0, 3.0, 20.0, 2.0)
        # After 10 samples: 100 and 100, over a bound of 10; at the end 40 and 30.
        assert [interval.mean for interval in random.ratios] == [10.0, 3.5]
        assert (random.ratios[1].low, random.ratios[1].high) == (3.0, 4.0)
        over = random.over_best_known
        assert (over.mean, over.low, over.high) == (1.75, 1.5, 2.0)
        # Targets are multiples of the best known 20: 20.2, 21, 22, 30, 40.
        assert gamma.reached == (2, 2, 2, 2, 2)
        assert gamma.samples_to_target == (7.0, 7.0, 7.0, 7.0, 7.0)
        assert random.reached == (0, 0, 0, 1, 2)
        assert random.samples_to_target == (math.inf, math.inf, math.inf, 120.0, 35.0)
        assert random.samples_per_second == 50.0

    def test_the_best_run_is_over_all_agents(self, summary):
        ((there, found),) = summary.best_runs.items()
        assert (there, found.agent.label, found.seed, found.best_value) == (task(), "gamma", 0, 20.0)
        assert summary.best_known == {task(): 20.0}

    def test_a_stored_value_that_is_better_is_the_best_known(self, results):
        certificate = Certificate("key", 16.0, 8.0, False, "best known", {})
        summary = summarize(results, Budget(samples=100), {task(): certificate})
        assert summary.best_known == {task(): 16.0}
        random, gamma = summary.rows
        assert (gamma.gap, gamma.gap_certified) == (pytest.approx(1.5), False)
        assert gamma.over_best_known.mean == pytest.approx((20 + 20.1) / 2 / 16)
        assert random.reached == (0, 0, 0, 0, 1)

    def test_csv(self, summary):
        rows = list(csv.DictReader(io.StringIO(report.to_csv(summary))))
        assert [row["agent"] for row in rows] == ["random", "gamma"]
        assert float(rows[0]["ratio_at_100_samples_iqm"]) == 3.5
        assert rows[0]["samples_to_1.01x_best_known"] == ""
        assert float(rows[0]["samples_to_1.5x_best_known"]) == 120.0
        assert rows[1]["reached_1.01x_best_known"] == "2"

    def test_markdown(self, summary):
        about = report.About("two agents", "mapgym compare --agents random,gamma", 6)
        text = report.to_markdown(summary, about)
        assert "Two agents." in text
        assert "    mapgym compare --agents random,gamma\n" in text
        assert "4 of 6 runs are finished; the figures are of those." in text
        assert "Lower bound: 10 pJ\\*cycles." in text
        assert "Best of all runs: 20 pJ\\*cycles (gamma, seed 0)." in text
        assert "| random | 30 | 3 | 1.75 [1.5, 2] | 10 [10, 10] | 3.5 [3, 4] | - (0/2) |" in text
        widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
        assert len(widths) == 1

    def test_several_tasks_get_a_row_over_all(self):
        tasks = (task(), task("toy/tiny_conv"))
        runs = experiment(tasks=tasks, seeds=(0, 1)).runs
        values = {tasks[0]: {0: 20.0, 1: 20.0}, tasks[1]: {0: 40.0, 1: 60.0}}
        results = [result(run, ((1, values[run.task][run.seed]),)) for run in runs]
        overall = summarize(results, Budget(samples=100)).rows[-1]
        assert (overall.task, overall.best, overall.runs) == (None, None, 4)
        # Ratios 2, 2, 4, 6: the middle half is 2 and 4; resampling within tasks leaves two 2s.
        ratios = overall.ratios[-1]
        assert (ratios.mean, ratios.low, ratios.high) == (3.0, 3.0, 4.0)
        over = overall.over_best_known
        assert (over.mean, over.low, over.high) == (1.0, 1.0, 1.25)

    def test_over_all_tasks_only_agents_with_all_of_them_are_shown(self):
        tasks = (task(), task("toy/tiny_conv"))
        runs = experiment(("random", "gamma"), tasks=tasks).runs
        summary = summarize([result(run) for run in runs[:-1]], Budget(samples=100))
        assert [(row.task is None, row.agent) for row in summary.rows] == [
            (False, "random"),
            (False, "gamma"),
            (False, "random"),
            (True, "random"),
        ]

    def test_an_agent_that_found_nothing(self):
        summary = summarize([result(values=())], Budget(samples=100))
        assert "No run priced a legal mapping." in report.to_markdown(summary, report.About("", "", 1))
        row = next(csv.DictReader(io.StringIO(report.to_csv(summary))))
        assert row["best_value"] == row["ratio_at_100_samples_iqm"] == row["over_best_known_iqm"] == ""


class _Log(Observer):
    def __init__(self, stop_after=None):
        self.events = []
        self.stop_after = stop_after

    def started(self, run):
        if self.stop_after is not None and len(self.events) == self.stop_after:
            raise KeyboardInterrupt

    def finished(self, run, result, *, was_there):
        self.events.append((run.agent.label, run.seed, was_there))


class TestRunner:
    def test_an_interrupted_experiment_continues_and_gives_the_same_results(self, tmp_path):
        there = experiment(("random", "gamma"), (0, 1), samples=50)
        log = _Log(stop_after=3)
        with pytest.raises(KeyboardInterrupt):
            run_experiment(there, tmp_path / "a", jobs=0, observer=log)
        assert log.events == [("random", 0, False), ("gamma", 0, False), ("random", 1, False)]
        log = _Log()
        continued = run_experiment(there, tmp_path / "a", jobs=0, observer=log)
        assert log.events == [("random", 0, True), ("gamma", 0, True), ("random", 1, True), ("gamma", 1, False)]

        at_once = run_experiment(there, tmp_path / "b", jobs=0)
        for one, other in zip(continued, at_once, strict=True):
            assert (one.trace.values, one.trace.samples) == (other.trace.values, other.trace.samples)
            assert one.mapping == other.mapping

    def test_a_run_spends_its_budget_and_stays_above_the_bound(self, tmp_path):
        (found,) = run_experiment(experiment(samples=50), tmp_path, jobs=0)
        assert (found.samples, found.failure) == (50, "")
        assert found.ratio >= 1.0
        assert found.best_value == found.best_cost["edp"] == found.trace.values[-1]
        assert {"mapgym", "python", "numpy", "numba"} <= set(found.versions)
        assert load_results(tmp_path) == [found]

    def test_a_run_that_fails_stops_no_other_and_is_tried_again(self, tmp_path, monkeypatch):
        there = experiment(("random", "gamma"), samples=20)

        def fail(*arguments, **options):
            raise RuntimeError("out of ideas")

        monkeypatch.setattr("mapgym.agents.search.random.RandomSearch.search", fail)
        bad, good = run_experiment(there, tmp_path, jobs=0)
        assert bad.failure.splitlines()[-1] == "RuntimeError: out of ideas"
        assert (good.failure, good.samples) == ("", 20)
        assert load_results(tmp_path) == [good]
        assert [found.failure for found in load_results(tmp_path, failed=True)] == [bad.failure, ""]
        monkeypatch.undo()
        log = _Log()
        again = run_experiment(there, tmp_path, jobs=0, observer=log)
        assert log.events == [("gamma", 0, True), ("random", 0, False)]
        assert [found.failure for found in again] == ["", ""]


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

    def test_what_is_not_the_cost_models_is_the_agents_own(self, monkeypatch):
        clock = [0.0]
        price = CostModel.evaluate

        def slow_price(model, mapping, detail=False):
            clock[0] += 0.5 * len(mapping)
            return price(model, mapping, detail)

        class Thinker(Agent):
            """Thinks 60, 20 and 40 seconds in the searches with seeds 0, 1 and 2, and longer about some layers."""

            name = "thinker"
            summary = "prices the same mapping again and again"

            def warm_up(self, space):
                clock[0] += 1000.0

            def search(self, evaluator, seed, initial=None):
                factor = factors[evaluator.space.workload.name]
                batch = evaluator.space.sample(np.random.default_rng(seed), 8)
                while not evaluator.exhausted:
                    clock[0] += factor * [60.0, 20.0, 40.0][seed] / 3
                    evaluator.evaluate(batch)

        factors = {"toy/tiny_gemm": 6.0, "toy/tiny_bmm": 1.0, "toy/tiny_conv": 2.0}
        spaces = [MapSpace(catalog.workload(layer), catalog.accelerator("tiny")) for layer in factors]
        monkeypatch.setattr(CostModel, "evaluate", slow_price)
        monkeypatch.setattr("time.process_time", lambda: clock[0])
        # 20 samples in batches of 8, 8 and 4, after 20 * factor seconds of thinking with the best seed.
        speed = measure_agent(Thinker(), spaces, samples=20, seeds=3)
        assert speed.agent == "thinker"
        assert [task.workload for task in speed.tasks] == list(factors)
        assert [task.samples for task in speed.tasks] == [20, 20, 20]
        assert [task.own_seconds for task in speed.tasks] == pytest.approx([6.0, 1.0, 2.0])
        assert [task.pricing_seconds for task in speed.tasks] == pytest.approx([0.5, 0.5, 0.5])
        assert (speed.own_seconds, speed.slowest_own_seconds) == pytest.approx((2.0, 6.0))
        assert (speed.pricing_seconds, speed.samples_per_second) == pytest.approx((0.5, 0.4))
