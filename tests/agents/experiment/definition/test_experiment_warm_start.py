"""Warm starts of searches and experiments: what a run begins from, and that nothing else decides its result."""

from __future__ import annotations

import dataclasses
import json
import sqlite3

import numpy as np
import pytest
import yaml

from command_line import one_sentence
from mapgym import MapSpace
from mapgym.agents.experiment.definition.experiment import AgentEntry, Experiment
from mapgym.agents.experiment.definition.experiment_file import load_experiment
from mapgym.agents.experiment.definition.warm_start import WarmStart, read_warm_start
from mapgym.agents.experiment.execution import context
from mapgym.agents.experiment.execution.context import Observer
from mapgym.agents.experiment.execution.runner import run_experiment
from mapgym.agents.experiment.report.report import warm_start_lines
from mapgym.agents.experiment.storage.folder import load_results
from mapgym.cost import CostModel
from mapgym.errors import SpecificationError
from mapgym.evaluation.evaluator import Budget
from mapgym.evaluation.task import Task
from mapgym.mapping import Mapping
from mapgym.spec import catalog
from mapgym.warmstart import ReplayBuffer

pytest.importorskip("pyarrow")

LAYERS = [layer.workload for layer in catalog.network("toy").layers]
MACHINE = catalog.accelerator("tiny")
SIMILAR, PREVIOUS = WarmStart("similar"), WarmStart("previous-layer")


def warm(*starts, seeds=2, layers=LAYERS, agent="gamma"):
    entries = tuple(AgentEntry(agent, warm_start=start) for start in starts)
    tasks = tuple(Task(layer, MACHINE) for layer in layers)
    return Experiment(tasks, entries, tuple(range(seeds)), Budget(samples=60))


@pytest.fixture
def buffer(tmp_path):
    """A replay buffer that knows the second layer."""
    found = ReplayBuffer(tmp_path / "layers.buffer")
    found.add(LAYERS[1], MACHINE, MapSpace(LAYERS[1], MACHINE).sample(np.random.default_rng(0), 1)[0])
    return found


def best_edp(layer, mappings):
    return float(CostModel(layer, MACHINE).evaluate(mappings).edp.min())


def by_cell(results):
    return {(r.task.name, r.agent.label, r.seed): r for r in results}


def figures(results):
    return {
        cell: (r.best_value, r.mapping, r.trace.values, r.warm_start_sources) for cell, r in by_cell(results).items()
    }


class TestExperiment:
    def test_similar_begins_from_the_layers_before_and_nothing_else(self, tmp_path):
        found = by_cell(run_experiment(warm(SIMILAR), tmp_path, jobs=0))
        for seed in (0, 1):
            solved = ReplayBuffer()
            for layer in LAYERS:
                cell = found[f"{layer.name} on tiny", "gamma, warm: similar", seed]
                near = solved.nearest(layer, MACHINE, count=8)
                assert cell.warm_start_sources["sources"] == [one.entry.workload.name for one in near]
                if near:
                    # The start is a part of the search: it cannot end worse.
                    initial = solved.initial(MapSpace(layer, MACHINE), count=8)
                    assert cell.best_value <= best_edp(layer, initial)
                else:
                    assert cell.warm_start_sources["why_random"] == "no layer has been solved yet"
                solved.add(layer, MACHINE, Mapping.from_dict(cell.mapping, layer, MACHINE))

    def test_previous_layer_begins_from_one(self, tmp_path):
        found = by_cell(run_experiment(warm(PREVIOUS, seeds=1), tmp_path, jobs=0))
        sources = [
            found[f"{layer.name} on tiny", "gamma, warm: previous-layer", 0].warm_start_sources for layer in LAYERS
        ]
        assert [start["sources"] for start in sources] == [[], *([layer.name] for layer in LAYERS[:-1])]

    def test_the_first_layer_is_searched_as_without_a_warm_start(self, tmp_path):
        found = by_cell(run_experiment(warm(None, SIMILAR, seeds=1, layers=LAYERS[:1]), tmp_path, jobs=0))
        cold, begun = found.values()
        assert cold.warm_start_sources is None
        assert begun.trace.values == cold.trace.values

    def test_a_run_has_a_chain_of_its_own_for_each_agent_seed_and_accelerator(self):
        machines = [MACHINE, dataclasses.replace(MACHINE, name="other")]
        experiment = dataclasses.replace(
            warm(SIMILAR, None), tasks=tuple(Task(layer, machine) for machine in machines for layer in LAYERS)
        )
        for run in experiment.runs:
            place = LAYERS.index(run.task.workload)
            if run.agent.warm_start is None:
                assert (run.before, run.begins_from, run.chain) == ((), (), None)
                assert "warm_start" not in run.config(experiment.budget)
            else:
                assert [task.workload for task in run.before] == LAYERS[:place]
                assert {task.accelerator for task in run.before} <= {run.task.accelerator}
                assert {(other.agent, other.seed) for other in run.begins_from} <= {(run.agent, run.seed)}

    def test_workers_find_what_one_process_finds(self, tmp_path):
        experiment = warm(SIMILAR, PREVIOUS)
        alone = run_experiment(experiment, tmp_path / "alone", jobs=0)
        together = run_experiment(experiment, tmp_path / "together", jobs=3)
        assert figures(together) == figures(alone)
        # What is read back is what was written.
        assert figures(load_results(tmp_path / "alone")) == figures(alone)

    def test_interrupted_and_continued_it_finds_the_same(self, tmp_path):
        class Interrupted(Observer):
            count = 0

            def started(self, run):
                self.count += 1
                if self.count == 6:
                    raise KeyboardInterrupt

        experiment = warm(SIMILAR, seeds=2)
        with pytest.raises(KeyboardInterrupt):
            run_experiment(experiment, tmp_path / "a", jobs=0, observer=Interrupted())
        assert len(load_results(tmp_path / "a")) == 5
        continued = run_experiment(experiment, tmp_path / "a", jobs=0)
        assert figures(continued) == figures(run_experiment(experiment, tmp_path / "b", jobs=0))

    @pytest.mark.parametrize("jobs", [0, 2])
    def test_a_lost_result_in_the_middle_comes_back_the_same(self, tmp_path, jobs):
        experiment = warm(SIMILAR, seeds=1)
        before = figures(run_experiment(experiment, tmp_path, jobs=0))
        for run in (experiment.runs[1], experiment.runs[-1]):
            (tmp_path / run.file_name).unlink()
        assert figures(run_experiment(experiment, tmp_path, jobs=jobs)) == before

    def test_what_begins_from_a_failed_run_fails_and_is_tried_again(self, tmp_path, monkeypatch):
        experiment = warm(PREVIOUS, seeds=1)
        execute = context.execute

        def failing(run, *arguments):
            if run.task.workload == LAYERS[1]:
                raise RuntimeError("no more ideas")
            return execute(run, *arguments)

        monkeypatch.setattr(context, "execute", failing)
        failures = [result.failure for result in run_experiment(experiment, tmp_path, jobs=0)]
        assert failures[0] == ""
        assert "no more ideas" in failures[1]
        assert all("has not come to its end" in failure for failure in failures[2:])
        monkeypatch.setattr(context, "execute", execute)
        mended = run_experiment(experiment, tmp_path, jobs=0)
        assert figures(mended) == figures(run_experiment(experiment, tmp_path / "whole", jobs=0))

    def test_other_layers_before_are_another_configuration(self, tmp_path):
        run_experiment(warm(SIMILAR, seeds=1, layers=LAYERS[:2]), tmp_path, jobs=0)
        # More of them behind change nothing.
        assert not any(r.failure for r in run_experiment(warm(SIMILAR, seeds=1), tmp_path, jobs=0))
        with pytest.raises(SpecificationError, match="another definition of the warm_start"):
            run_experiment(warm(SIMILAR, seeds=1, layers=LAYERS[::-1]), tmp_path, jobs=0)

    def test_a_buffer_that_changes_is_refused(self, tmp_path, buffer):
        start = read_warm_start(str(buffer.path))
        run_experiment(warm(start, seeds=1, layers=LAYERS[:1]), tmp_path / "a", jobs=0)
        buffer.add(LAYERS[0], MACHINE, MapSpace(LAYERS[0], MACHINE).sample(np.random.default_rng(0), 1)[0])
        changed = read_warm_start(str(buffer.path))
        with pytest.raises(SpecificationError, match="another definition of the warm_start"):
            run_experiment(warm(changed, seeds=1, layers=LAYERS[:1]), tmp_path / "a", jobs=0)
        (result,) = run_experiment(warm(start, seeds=1, layers=LAYERS[:1]), tmp_path / "b", jobs=0)
        assert "has changed since the experiment began" in result.failure

    def test_a_buffer_of_other_hardware_is_no_use_and_that_is_said(self, tmp_path, buffer):
        deep = catalog.accelerator("simba_like")
        assert len(deep.levels) == 4
        start = read_warm_start(str(buffer.path))
        experiment = dataclasses.replace(warm(start, seeds=1), tasks=(Task(LAYERS[0], deep),))
        (result,) = run_experiment(experiment, tmp_path, jobs=0)
        assert not result.failure
        assert result.warm_start_sources["sources"] == []
        assert "are onto 3 storage levels, accelerator 'simba_like' has 4" in result.warm_start_sources["why_random"]
        (line,) = warm_start_lines([result])
        assert line.startswith("gamma, warm: layers.buffer: 0 of 1 runs began from solved layers, 1 at random (1 x the")


class TestFile:
    PLAIN = {  # noqa: RUF012 - not changed
        "tasks": {"workloads": "toy", "accelerators": "tiny"},
        "agents": ["random", {"agent": "gamma", "label": "mine"}, {"agent": "gamma", "warm_start": "none"}],
        "budget": {"samples": 10},
    }

    def test_of_all_agents_and_of_one(self):
        found = load_experiment({**self.PLAIN, "warm_start": "similar"})
        assert [(entry.label, entry.warm_start) for entry in found.agents] == [
            ("random, warm: similar", SIMILAR),
            ("mine, warm: similar", SIMILAR),
            ("gamma", None),
        ]
        one = {"agent": "gamma", "warm_start": "previous-layer"}
        found = load_experiment({**self.PLAIN, "agents": ["gamma", one]})
        assert [(entry.label, entry.warm_start) for entry in found.agents] == [
            ("gamma", None),
            ("gamma, warm: previous-layer", PREVIOUS),
        ]

    @pytest.mark.parametrize("none", [None, "none"])
    def test_of_none(self, none):
        found = load_experiment({**self.PLAIN, "agents": ["gamma"], "warm_start": none})
        assert [entry.warm_start for entry in found.agents] == [None]

    def test_a_mistake_is_named_with_its_place(self):
        with pytest.raises(SpecificationError, match=r"experiment: warm_start is 'simular'.*did you mean 'similar'"):
            load_experiment({**self.PLAIN, "warm_start": "simular"})
        one = {"agent": "gamma", "warm_start": "previous"}
        with pytest.raises(SpecificationError, match=r"agents\[0\]: warm_start .*did you mean 'previous-layer'"):
            load_experiment({**self.PLAIN, "agents": [one]})


class TestCommands:
    TASK = ("--workload", "toy", "--accelerator", "tiny", "--samples", "40", "--seeds", "1")

    def test_compare_labels_what_had_a_warm_start(self, mapgym, tmp_path):
        folder = tmp_path / "out"
        compare = ("compare", "--agents", "gamma", *self.TASK, "-o", folder)
        assert mapgym(*compare)[0] == 0
        status, out, _ = mapgym(*compare, "--warm-start", "similar")
        assert status == 0
        line = f"gamma, warm: similar: {len(LAYERS) - 1} of {len(LAYERS)} runs began from solved layers, 1 at random"
        assert f"{line} (1 x no layer has been solved yet)." in out
        assert {result.agent.label for result in load_results(folder)} == {"gamma", "gamma, warm: similar"}
        assert line in (folder / "summary.md").read_text()
        page = (folder / "report.html").read_text()
        assert line in page
        assert "begun from" in page

    def test_run_begins_every_agent_warm_that_does_not_say_otherwise(self, mapgym, tmp_path):
        agents = ["gamma", {"agent": "gamma", "warm_start": "previous-layer"}]
        data = {"tasks": {"workloads": "toy", "accelerators": "tiny"}, "agents": agents, "seeds": 1}
        (tmp_path / "one.yaml").write_text(yaml.safe_dump({**data, "budget": {"samples": 30}}))
        status, _, _ = mapgym("run", tmp_path / "one.yaml", "-o", tmp_path / "out", "--warm-start", "similar")
        assert status == 0
        labels = {result.agent.label for result in load_results(tmp_path / "out")}
        assert labels == {"gamma, warm: similar", "gamma, warm: previous-layer"}

    def test_search_begins_from_a_buffer(self, mapgym, buffer):
        search = ("search", LAYERS[0].name, "tiny", "--samples", "30", "--agent", "gamma")
        status, out, _ = mapgym(*search, "--warm-start", buffer.path)
        assert status == 0
        assert f"begun from   {LAYERS[1].name}" in out
        status, out, error = mapgym(*search, "--warm-start", buffer.path, "--json")
        assert (status, error) == (0, "")
        assert json.loads(out)["begun_from"] == {"sources": [LAYERS[1].name], "failures": [], "why_random": ""}
        assert json.loads(mapgym(*search, "--json")[1])["begun_from"] is None

    def test_the_front_begins_from_entries_for_its_product(self, mapgym, buffer):
        search = ("search", LAYERS[0].name, "tiny", "--samples", "30", "--agent", "gamma", "--objective", "pareto")
        status, out, error = mapgym(*search, "--warm-start", buffer.path)
        assert (status, error) == (0, "")
        assert f"begun from   {LAYERS[1].name}" in out

    def test_search_says_why_it_begins_at_random(self, mapgym, buffer):
        search = ("search", LAYERS[0].name, "tiny", "--samples", "30", "--agent", "gamma", "--warm-start", buffer.path)
        status, _, error = mapgym(*search, "--objective", "latency")
        assert status == 0
        assert "begins at random: no solved layer is about the objective latency, only about edp" in error

    def test_damaged_lines_of_a_buffer_are_said(self, mapgym, buffer, tmp_path):
        connection = sqlite3.connect(buffer.path)
        connection.execute("INSERT INTO entries (name) VALUES ('rubbish')")
        connection.commit()
        connection.close()
        search = ("search", LAYERS[0].name, "tiny", "--samples", "30", "--agent", "gamma", "--warm-start", buffer.path)
        compare = ("compare", "--agents", "gamma", *self.TASK, "-o", tmp_path / "out", "--warm-start", buffer.path)
        for command in (search, compare):
            status, _, error = mapgym(*command)
            assert status == 0
            assert "1 damaged lines of" in error

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("nowhere/layers.buffer", "there is no such replay buffer"),
            ("EMPTY", "has no entries; add some with: mapgym buffer add"),
            ("OTHER", "is not a replay buffer"),
        ],
    )
    def test_mistakes_are_answered(self, mapgym, tmp_path, monkeypatch, text, message):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "EMPTY").touch()
        (tmp_path / "OTHER").write_text("something else\n")
        for command in (("search", "toy/tiny_gemm", "tiny"), ("compare", "--agents", "gamma", *self.TASK, "-o", "out")):
            status, _, error = mapgym(*command, "--warm-start", text)
            assert status == 2
            assert message in one_sentence(error)
        assert not (tmp_path / "out").exists()

    def test_a_mistake_is_answered_with_what_the_command_takes(self, mapgym, tmp_path):
        compare = ("compare", "--agents", "gamma", *self.TASK, "-o", tmp_path / "out")
        assert "'similar'" in one_sentence(mapgym(*compare, "--warm-start", "simular")[2])
        for text, hint in (("simular", "valid names are 'policy'"), ("polcy", "did you mean 'policy'?")):
            error = one_sentence(mapgym("search", "toy/tiny_gemm", "tiny", "--warm-start", text)[2])
            assert error.endswith(hint)
            assert "similar" not in error.replace("simular", "")

    @pytest.mark.parametrize("text", ["similar", "previous-layer"])
    def test_a_search_has_no_other_layers(self, mapgym, text):
        status, _, error = mapgym("search", "toy/tiny_gemm", "tiny", "--warm-start", text)
        assert status == 2
        assert "a search has one layer; give the path of a replay buffer" in one_sentence(error)
