"""Experiments from files, run by several processes that may die at any time."""

from __future__ import annotations

import csv
import errno
import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import yaml

from command_line import spawn
from mapgym.agents.base import agent_class
from mapgym.agents.experiment.definition import experiment as matrix
from mapgym.agents.experiment.definition.experiment import AgentEntry, Experiment
from mapgym.agents.experiment.definition.experiment_file import experiment_names, load_experiment
from mapgym.agents.experiment.execution.context import Observer
from mapgym.agents.experiment.execution.runner import run_experiment, run_missing
from mapgym.agents.experiment.storage import known_mappings
from mapgym.agents.experiment.storage.folder import ExperimentFolder, load_results
from mapgym.agents.experiment.storage.known_mappings import improvements, join
from mapgym.agents.experiment.storage.results import read_result
from mapgym.errors import SpecificationError
from mapgym.evaluation import best_known as store
from mapgym.evaluation.best_known import CERTIFIED, GAP, read_entries
from mapgym.evaluation.evaluator import Budget
from mapgym.evaluation.task import Task
from mapgym.spec import catalog
from mapgym.system.files import TEMPORARY_PREFIX

pytest.importorskip("pyarrow")

PLAIN = {
    "tasks": {"workloads": "toy/tiny_gemm", "accelerators": "tiny"},
    "agents": ["random"],
    "seeds": 2,
    "budget": {"samples": 20},
}


def small(seeds=2, samples=20, agents=("random",)):
    task = Task(catalog.workload("toy/tiny_gemm"), catalog.accelerator("tiny"))
    return Experiment((task,), tuple(map(AgentEntry, agents)), tuple(range(seeds)), Budget(samples=samples))


@pytest.fixture
def file(tmp_path):
    """A file with the plain experiment, changed by keywords."""

    def write(**changes):
        path = tmp_path / "experiment.yaml"
        path.write_text(yaml.safe_dump({**PLAIN, **changes}))
        return path

    return write


class TestFile:
    def test_everything_that_can_be_said(self):
        found = load_experiment(
            {
                "description": "words",
                "tasks": [
                    {"workloads": ["toy", "paper/bert_attn"], "accelerators": ["tiny", "accel_b"], "peer_links": False},
                    {
                        "workloads": "toy/tiny_gemm",
                        "accelerators": "tiny",
                        "axes": "bypass,tile",
                        "objective": "energy",
                    },
                ],
                "agents": [
                    "random",
                    {"agent": "gamma", "label": "g", "parameters": {"population": 7}, "axes": ["tile"]},
                ],
                "seeds": [5, 3],
                "budget": {"samples": 10, "seconds": 1.5},
            }
        )
        layers = len(catalog.network("toy").layers) + 1
        assert len(found.tasks) == 2 * layers + 1
        assert not found.tasks[0].accelerator.peer_links
        assert (found.tasks[-1].axes, found.tasks[-1].objective) == (("tile", "bypass"), "energy")
        assert found.tasks[-1].accelerator.peer_links
        assert found.agents == (AgentEntry("random"), AgentEntry("gamma", "g", {"population": 7}, ("tile",)))
        assert (found.seeds, found.budget, found.description) == ((5, 3), Budget(10, 1.5), "words")

    def test_what_may_be_left_out(self):
        found = load_experiment({key: PLAIN[key] for key in ("tasks", "agents", "budget")})
        assert (found.seeds, found.description) == ((0, 1, 2), "")
        assert found.tasks == small().tasks

    def test_an_agent_may_use_fewer_seeds(self):
        found = load_experiment({**PLAIN, "agents": ["random", {"agent": "gamma", "seeds": 1}], "seeds": [4, 7]})
        assert [(run.agent.label, run.seed) for run in found.runs] == [("random", 4), ("gamma", 4), ("random", 7)]

    def test_an_optional_agent_is_left_out_where_its_package_is_missing(self, monkeypatch):
        monkeypatch.setattr(agent_class("gamma"), "requires", ("no_such_package",))
        entries = ["random", {"agent": "gamma", "optional": True}]
        found = load_experiment({**PLAIN, "agents": entries})
        assert [entry.label for entry in found.agents] == ["random"]
        assert len(found.absent) == 1
        assert "needs the package 'no_such_package'" in found.absent[0]
        with pytest.raises(SpecificationError, match="no_such_package"):
            load_experiment({**PLAIN, "agents": ["random", "gamma"]})

    @pytest.mark.parametrize("name", experiment_names())
    def test_those_of_the_catalog_can_be_run(self, name):
        found = load_experiment(name)
        assert found.runs
        assert found.description

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"task": {}}, "unknown key 'task'; did you mean 'tasks'"),
            ({"tasks": {**PLAIN["tasks"], "axis": ["tile"]}}, "tasks: unknown key 'axis'; did you mean 'axes'"),
            ({"tasks": {**PLAIN["tasks"], "axes": ["til"]}}, "axes: unknown axis 'til'; did you mean 'tile'"),
            ({"tasks": {**PLAIN["tasks"], "axes": []}}, "axes is"),
            ({"tasks": {**PLAIN["tasks"], "objective": "edb"}}, "did you mean 'edp'"),
            ({"tasks": {**PLAIN["tasks"], "peer_links": "no"}}, "peer_links is 'no'; give true or false"),
            ({"tasks": {**PLAIN["tasks"], "workloads": ["toyy"]}}, "workloads: unknown workload 'toyy'"),
            ({"tasks": {**PLAIN["tasks"], "accelerators": ["tinny"]}}, "accelerators: .*did you mean 'tiny'"),
            ({"tasks": {"workloads": "toy"}}, "accelerators is None; give a list"),
            ({"tasks": [PLAIN["tasks"], {"workloads": []}]}, r"tasks\[1\]: workloads is \[\]"),
            ({"tasks": [PLAIN["tasks"]] * 2}, "names the task .* twice"),
            ({"agents": ["gama"]}, r"agents\[0\]: unknown agent 'gama'; did you mean 'gamma'"),
            ({"agents": ["random", {"agnt": "x"}]}, r"agents\[1\]: unknown key 'agnt'; did you mean 'agent'"),
            ({"agents": [{"label": "x"}]}, "agent is None; give the name"),
            ({"agents": [{"agent": "gamma", "parameters": {"inject": -1}}]}, r"agents\[0\]: .*inject is -1"),
            ({"agents": [{"agent": "gamma", "parameters": 3}]}, "parameters is 3"),
            ({"agents": [{"agent": "random", "seeds": 0}]}, r"agents\[0\]: seeds is 0"),
            ({"agents": [{"agent": "random", "optional": 1}]}, r"agents\[0\]: optional is 1"),
            ({"agents": [{"agent": "gama", "optional": True}]}, r"agents\[0\]: unknown agent 'gama'"),
            ({"agents": []}, "no agent"),
            ({"seeds": 0}, "seeds is 0"),
            ({"seeds": [-1]}, "seeds is"),
            ({"seeds": True}, "seeds is True"),
            ({"seeds": [1, 1]}, "seed '1' twice"),
            ({"budget": 5000}, "budget is 5000; give samples, seconds or both"),
            ({"budget": {}}, "budget"),
            ({"budget": {"sample": 3}}, "did you mean 'samples'"),
            ({"budget": {"samples": 0}}, "at least 1"),
            ({"budget": {"samples": "many"}}, "whole number"),
        ],
    )
    def test_a_mistake_is_named_with_its_place(self, file, mapgym, tmp_path, changes, message):
        path = file(**changes)
        with pytest.raises(SpecificationError, match=message) as caught:
            load_experiment(path)
        assert str(caught.value).startswith(str(path))
        assert mapgym("run", path, "-o", tmp_path / "out") == (2, "", f"mapgym: {caught.value}\n")
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("key", ["tasks", "agents", "budget"])
    def test_a_key_that_is_missing(self, key):
        with pytest.raises(SpecificationError, match=f"the key '{key}' is missing"):
            load_experiment({name: value for name, value in PLAIN.items() if name != key})

    def test_an_unknown_name_and_a_missing_file(self, tmp_path):
        with pytest.raises(SpecificationError, match="did you mean 'mappers'"):
            load_experiment("mapers")
        with pytest.raises(SpecificationError, match="there is no such file"):
            load_experiment(tmp_path / "a.yaml")
        with pytest.raises(SpecificationError, match=r"b\.yaml is \[\]; give tasks"):
            load_experiment(_written(tmp_path / "b.yaml", "[]"))


def _written(path, text):
    path.write_text(text)
    return path


class TestWorkers:
    def test_workers_find_what_one_process_finds(self, tmp_path):
        there = small(agents=("random", "gamma"))
        apart = run_experiment(there, tmp_path / "a", jobs=2)
        here = run_experiment(there, tmp_path / "b", jobs=0)
        assert [found.run.name for found in apart] == [run.name for run in there.runs]
        for one, other in zip(apart, here, strict=True):
            assert (one.trace.samples, one.trace.values) == (other.trace.samples, other.trace.values)
            assert (one.mapping, one.config) == (other.mapping, other.config)
        assert load_results(tmp_path / "a") == apart

    def test_a_worker_that_dies_spoils_its_own_run_only(self, tmp_path):
        class Killer(Observer):
            def __init__(self):
                self.victim = None

            def started(self, run):
                if self.victim is None:
                    self.victim = run
                    (process,) = multiprocessing.active_children()
                    os.kill(process.pid, signal.SIGKILL)

        killer = Killer()
        there = small(seeds=2, samples=50_000)
        results = run_experiment(there, tmp_path, jobs=1, observer=killer)
        assert [found.failure for found in results if found.run.seed != killer.victim.seed] == [""]
        assert "SIGKILL" in results[killer.victim.seed].failure
        assert len(load_results(tmp_path)) == 1
        assert not multiprocessing.active_children()
        assert [found.failure for found in run_experiment(there, tmp_path, jobs=0)] == ["", ""]

    def test_an_exception_of_the_observer_ends_the_workers(self, tmp_path):
        class Interrupted(Observer):
            def started(self, run):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_experiment(small(samples=1_000_000), tmp_path, jobs=1, observer=Interrupted())
        assert not multiprocessing.active_children()
        assert load_results(tmp_path) == []


class TestRun:
    def test_a_run_that_is_killed_continues_without_losing_or_repeating_anything(self, file, mapgym, tmp_path):
        path, folder = file(seeds=6, budget={"samples": 40_000}), tmp_path / "out"
        with spawn("run", path, "-o", folder, "--jobs", 2, start_new_session=True) as process:
            first = process.stdout.readline()
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            # Where they write is closed when the last worker has ended.
            process.stdout.read()
        assert first.startswith("[1/6]")
        kept = {found: found.stat().st_mtime_ns for found in folder.glob("runs/*/[!.]*.parquet")}
        assert 1 <= len(kept) < 6
        leftover = folder / "runs" / "toy-tiny_gemm__tiny" / f"{TEMPORARY_PREFIX}x.parquet"
        leftover.write_bytes(b"PAR1")

        status, text, _ = mapgym("run", path, "-o", folder)
        assert status == 0
        assert text.count("was there already") == len(kept)
        assert {found: found.stat().st_mtime_ns for found in kept} == kept
        assert sorted(found.seed for found in load_results(folder)) == list(range(6))
        assert {found.samples for found in load_results(folder)} == {40_000}
        assert not leftover.exists()
        assert not list(folder.rglob(f"{TEMPORARY_PREFIX}*"))

    def test_two_commands_on_one_folder_share_the_work(self, file, tmp_path):
        path, folder = file(seeds=6, budget={"samples": 20_000}), tmp_path / "out"
        texts = []
        with (
            spawn("run", path, "-o", folder, start_new_session=True) as one,
            spawn("run", path, "-o", folder, start_new_session=True) as other,
        ):
            for process in (one, other):
                text, error = process.communicate()
                assert process.returncode == 0, error
                texts += [line for line in text.splitlines() if line.startswith("[")]
        assert len(texts) == 12
        assert sum("was there already" not in line for line in texts) == 6

    def test_ctrl_c_keeps_finished_runs_and_says_how_to_continue(self, file, tmp_path):
        path, folder = file(seeds=6, budget={"samples": 200_000}), tmp_path / "out"
        with spawn("run", path, "-o", folder, start_new_session=True) as process:
            first = process.stdout.readline()
            # As a terminal does: to the workers too.
            os.killpg(process.pid, signal.SIGINT)
            _, error = process.communicate()
        assert first.startswith("[1/6]"), error
        assert process.returncode == 130, error
        assert "run the same command again to continue" in error.splitlines()[-1]
        assert "Traceback" not in error
        assert 1 <= len(load_results(folder)) < 6

    def test_a_failed_run_is_named_and_the_status_says_so(self, file, mapgym, tmp_path, monkeypatch):
        def fail(*arguments, **options):
            raise RuntimeError("out of [ideas]")

        monkeypatch.setattr("mapgym.agents.search.random.RandomSearch.search", fail)
        monkeypatch.setattr("mapgym.agents.commands.experiments.run_missing", _in_this_process)
        status, text, error = mapgym("run", file(agents=["random", "gamma"]), "-o", tmp_path / "out")
        assert status == 1
        assert "[1/4] toy/tiny_gemm on tiny, random, seed 0: failed: RuntimeError: out of [ideas]" in text
        assert "failed: toy/tiny_gemm on tiny, random, seed 1: RuntimeError: out of [ideas]" in error
        assert "2 of 4 runs failed" in error.splitlines()[-1]
        report = mapgym("report", tmp_path / "out")
        assert report[0] == 0
        assert "2 of 4 runs are finished, 2 failed" in report[1]
        assert "out of [ideas]" in (tmp_path / "out" / "report.html").read_text()

    def test_a_changed_experiment_adds_to_the_folder(self, file, mapgym, tmp_path, monkeypatch):
        monkeypatch.setattr("mapgym.agents.commands.experiments.run_missing", _in_this_process)
        assert mapgym("run", file(), "-o", tmp_path / "out")[0] == 0
        status, text, _ = mapgym("run", file(agents=["random", "gamma"], seeds=3), "-o", tmp_path / "out")
        assert status == 0
        assert (text.count("was there already"), text.count("[6/6]")) == (2, 1)
        status, text, error = mapgym("run", file(budget={"samples": 30}), "-o", tmp_path / "out")
        assert (status, text) == (2, "")
        assert "samples 20 there, 30 now" in error

    def test_each_result_is_read_once(self, file, mapgym, tmp_path, monkeypatch):
        monkeypatch.setattr("mapgym.agents.commands.experiments.run_missing", _in_this_process)
        read = []

        def counting(path):
            found = read_result(path)
            read.append(path.name)
            return found

        monkeypatch.setattr("mapgym.agents.experiment.storage.folder.read_result", counting)
        assert mapgym("run", file(), "-o", tmp_path / "out")[0] == 0
        assert read == []
        status, text, _ = mapgym("run", file(), "-o", tmp_path / "out")
        assert (status, text.count("was there already")) == (0, 2)
        assert sorted(read) == ["random-seed0.parquet", "random-seed1.parquet"]

    def test_a_damaged_result_is_said_and_made_again(self, file, mapgym, tmp_path, monkeypatch):
        monkeypatch.setattr("mapgym.agents.commands.experiments.run_missing", _in_this_process)
        path, folder = file(), tmp_path / "out"
        mapgym("run", path, "-o", folder)
        damaged = folder / "runs" / "toy-tiny_gemm__tiny" / "random-seed0.parquet"
        damaged.write_bytes(damaged.read_bytes()[:50])
        status, text, error = mapgym("report", folder)
        assert status == 0
        assert "1 of 2 runs are finished" in text
        assert error == f"mapgym: {damaged} is damaged or of another version, and is left out\n"
        status, text, error = mapgym("run", path, "-o", folder)
        assert (status, text.count("was there already")) == (0, 1)
        assert error.count("is damaged or of another version, and is set aside and made again\n") == 1
        assert len(load_results(folder)) == 2

    def test_a_damaged_proof_is_said_and_left_out(self, file, mapgym, tmp_path, monkeypatch):
        monkeypatch.setattr("mapgym.agents.commands.experiments.run_missing", _in_this_process)
        path, folder = file(), tmp_path / "out"
        mapgym("run", path, "-o", folder)
        proof = folder / "optima" / "toy-tiny_gemm__tiny.json"
        proof.parent.mkdir()
        proof.write_text('{"certificate": {')
        for command in (("report", folder), ("run", path, "-o", folder)):
            status, _, error = mapgym(*command)
            assert (status, error) == (0, f"mapgym: {proof} is damaged or of another version, and is left out\n")

    def test_more_jobs_than_cores_are_warned_of(self, file, mapgym, tmp_path, monkeypatch):
        monkeypatch.setattr("mapgym.agents.commands.experiments.run_missing", _in_this_process)
        assert "share" in mapgym("run", file(), "-o", tmp_path / "out", "--jobs", 1_000)[2]

    def test_leftovers_are_removed_though_everything_is_done(self, file, mapgym, tmp_path, monkeypatch):
        monkeypatch.setattr("mapgym.agents.commands.experiments.run_missing", _in_this_process)
        path, folder = file(), tmp_path / "out"
        mapgym("run", path, "-o", folder)
        mapgym("report", folder)
        for command in (("run", path, "-o", folder), ("report", folder)):
            places = (folder, folder / "best", folder / "runs" / "toy-tiny_gemm__tiny")
            leftovers = [place / f"{TEMPORARY_PREFIX}x" for place in places]
            for leftover in leftovers:
                leftover.write_text("half")
            assert mapgym(*command)[0] == 0
            assert not any(leftover.exists() for leftover in leftovers)

    def test_nothing_is_written_through_a_link(self, file, mapgym, tmp_path, monkeypatch):
        monkeypatch.setattr("mapgym.agents.commands.experiments.run_missing", _in_this_process)
        path, folder, secret = file(), tmp_path / "out", tmp_path / "secret"
        mapgym("run", path, "-o", folder)
        # A folder may be a link: where results go is the user's to say.
        (tmp_path / "link").symlink_to(folder, target_is_directory=True)
        assert mapgym("report", tmp_path / "link")[0] == 0
        secret.write_text("mine")
        for name in ("report.html", "experiment.json", ".locks"):
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(secret)
            command = ("report", folder) if name == "report.html" else ("run", path, "-o", folder)
            status, _, error = mapgym(*command)
            assert status == 2
            assert "is a link; remove it" in error or "not one of ours" in error
            assert secret.read_text() == "mine"
            (folder / name).unlink()

    def test_a_full_disk_ends_the_command_with_a_sentence(self, file, mapgym, tmp_path):
        path, folder = file(), tmp_path / "out"
        code = "import resource\nfrom mapgym.agents.cli import main\nif __name__ == '__main__':\n"
        code += "    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n    main()"
        # The limit holds for the worker process too, which is where the result is written.
        command = [sys.executable, "-c", code, "run", path, "-o", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert "-seed0.parquet' (file too large); raise the limit of file sizes" in done.stderr
        assert not list(folder.glob("runs/*/*"))
        assert mapgym("run", path, "-o", folder)[0] == 0

    def test_without_locks_there_is_a_mode(self, file, mapgym, tmp_path, monkeypatch):
        def refuse(*_):
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr("fcntl.lockf", refuse)
        monkeypatch.setattr("fcntl.flock", refuse)
        for command in (
            ("run", file(), "-o", tmp_path / "out"),
            ("map", "toy", "tiny", "-o", tmp_path / "mapped", "--samples-per-layer", 20, "--agent", "random"),
        ):
            status, text, error = mapgym(*command)
            assert (status, text) == (2, "")
            assert "cannot lock files" in error
            assert "give --no-locks (or set MAPGYM_NO_LOCKS=1) if no other process works there" in error
            assert mapgym(*command, "--no-locks")[0] == 0
            assert os.environ.get("MAPGYM_NO_LOCKS", "0") == "0"

    def test_layers_that_look_alike_are_all_kept(self, mapgym, tmp_path, monkeypatch):
        monkeypatch.setattr("mapgym.agents.commands.experiments.run_missing", _in_this_process)
        names = [
            "fc 1",
            "fc-1",
            "CON",
            "con",
            "\u5377\u79ef",
            "\u0441\u0432\u0451\u0440\u0442\u043a\u0430",
            "n" * 250,
            "$x$ $\\y$",
        ]
        network = tmp_path / "net.yaml"
        gemm = {"type": "matmul", "M": 4, "K": 4, "N": 4}
        about = {"name": "net", "description": "d", "source": "s"}
        network.write_text(yaml.safe_dump({**about, "layers": dict.fromkeys(names, gemm)}))
        path = tmp_path / "all.yaml"
        tasks = {"workloads": str(network), "accelerators": "tiny"}
        path.write_text(yaml.safe_dump({**PLAIN, "tasks": tasks, "seeds": 1}))
        assert mapgym("run", path, "-o", tmp_path / "out")[0] == 0
        assert len(list((tmp_path / "out").glob("runs/*/*.parquet"))) == len(names)
        assert mapgym("report", tmp_path / "out")[0] == 0
        assert len(list((tmp_path / "out" / "best").iterdir())) == len(names)
        assert mapgym("run", path, "-o", tmp_path / "out")[1].count("was there already") == len(names)
        mapped = ("map", network, "tiny", "-o", tmp_path / "mapped", "--samples-per-layer", 20, "--agent", "random")
        assert mapgym(*mapped)[0] == 0
        assert len(list((tmp_path / "mapped" / "cells").iterdir())) == len(names)
        assert mapgym(*mapped)[1].count("was there already") == len(names)

    def test_without_pyarrow_the_extra_is_named(self, file, mapgym, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
        for command in (("run", file()), ("compare", *COMPARE)):
            status, text, error = mapgym(*command, "-o", tmp_path / "out")
            assert (status, text) == (2, "")
            assert "pip install 'mapgym[experiments]'" in error
        assert not (tmp_path / "out").exists()


COMPARE = ("--agents", "random", "--workload", "toy/tiny_gemm", "--accelerator", "tiny")


def _in_this_process(*arguments, **options):
    return run_missing(*arguments, **{**options, "jobs": 0})


class TestReport:
    def test_what_holds_nothing_is_answered(self, mapgym, tmp_path):
        assert "is no folder" in mapgym("report", tmp_path / "missing")[2]
        assert "holds no experiment" in mapgym("report", tmp_path)[2]
        ExperimentFolder(tmp_path).prepare(small(), "")
        status, _, error = mapgym("report", tmp_path)
        assert (status, "holds no finished run yet" in error) == (2, True)

    def test_it_says_how_parameters_were_chosen(self, mapgym, tmp_path, monkeypatch):
        chosen = {"gamma": {"population": 30}}
        monkeypatch.setattr(matrix, "chosen_parameters", lambda name: chosen.get(name, {}))
        agents = (
            AgentEntry("random"),
            AgentEntry("gamma"),
            AgentEntry("gamma", "one given", {"elites": 0.1}),
            AgentEntry("gamma", "all given", {"population": 20}),
        )
        run_experiment(replace(small(seeds=1), agents=agents), tmp_path, jobs=0)
        assert mapgym("report", tmp_path)[0] == 0
        with (tmp_path / "summary.csv").open() as table:
            said = {row["agent"]: row["tuning"] for row in csv.DictReader(table)}
        assert said == {
            "random": "default parameters",
            "gamma": "chosen by mapgym tune",
            "one given": "parameters of the experiment; others chosen by mapgym tune",
            "all given": "parameters of the experiment",
        }
        assert {result.config["label"]: result.tuning for result in load_results(tmp_path)} == said

    def test_several_experiments_share_a_page(self, mapgym, tmp_path):
        run_experiment(small(), tmp_path / "samples", jobs=0)
        run_experiment(replace(small(), budget=Budget(seconds=0.01)), tmp_path / "seconds", jobs=0)
        status, text, error = mapgym("report", tmp_path)
        assert (status, error) == (0, "")
        assert text.endswith(f"Written to {tmp_path}: report.html.\n")
        page = (tmp_path / "report.html").read_text()
        assert page.count("<svg") == page.count("</svg>") > 2
        for part in ("samples", "seconds"):
            assert f"{part}: Overview" in page
            assert (tmp_path / part / "summary.md").exists()
            assert not (tmp_path / part / "report.html").exists()


class TestBestKnown:
    @pytest.fixture
    def results(self, tmp_path):
        return run_experiment(small(), tmp_path / "runs", jobs=0)

    @pytest.fixture
    def stored(self, results, monkeypatch):
        """Stores an entry for the task: the best result's, with other figures."""

        def replaced(**changes):
            monkeypatch.setattr(known_mappings, "best_known", lambda *_: None)
            (entry,) = improvements(results).new
            entry = replace(entry, **{name: change(entry) for name, change in changes.items()})
            monkeypatch.setattr(known_mappings, "best_known", lambda *_: entry)
            return entry

        return replaced

    def test_a_task_of_which_nothing_is_stored_is_new(self, results, stored):
        entry = stored()
        best = min(found.best_value for found in results)
        assert (entry.value, entry.status, entry.lower_bound) == (best, GAP, results[0].lower_bound)
        found = improvements(results)
        assert (found.new, found.better, found.refutations) == ((), (), ())

    def test_a_better_mapping_keeps_the_proven_bound(self, results, stored):
        entry = stored(value=lambda entry: 1.1 * entry.value, lower_bound=lambda entry: 0.99 * entry.value)
        (better,) = improvements(results).better
        assert (better.value, better.lower_bound, better.status) == (entry.value / 1.1, entry.lower_bound, GAP)
        # What reaches the bound is thereby proven.
        stored(value=lambda entry: 1.1 * entry.value, lower_bound=lambda entry: entry.value)
        assert improvements(results).better[0].status == CERTIFIED

    def test_a_certified_optimum_is_never_beaten(self, results, stored):
        above = {"value": lambda entry: 1.1 * entry.value, "lower_bound": lambda entry: 1.1 * entry.value}
        entry = stored(**above, status=lambda entry: CERTIFIED)
        found = improvements(results)
        assert (found.better, found.new) == ((), ())
        assert repr(entry.lower_bound) in found.refutations[0]
        assert "is below the proven bound" in found.refutations[0]

    def test_a_result_that_lies_is_found_out(self, results):
        lie = replace(results[0], best_value=results[0].best_value / 2)
        with pytest.raises(RuntimeError, match="its result says"):
            improvements([lie])

    def test_joining_replaces_only_what_says_less(self, results, stored, tmp_path):
        entry, file = stored(), tmp_path / "best.yaml"
        assert join(file, [entry]) == 1
        assert join(file, [entry, replace(entry, value=2 * entry.value)]) == 0
        assert join(file, [replace(entry, value=entry.value / 2)]) == 1
        assert [found.value for found in read_entries(file.read_text())] == [entry.value / 2]

    @pytest.mark.parametrize("content", ["", "a: 1\n", "# mine\n", "- 1\n", "\0", "cut off"])
    def test_another_file_is_not_overwritten_by_best_known_mappings(self, file, mapgym, tmp_path, results, content):
        other = tmp_path / "other.yaml"
        if content == "cut off":
            join(other, improvements(results).better + improvements(results).new)
            content = other.read_text()[:-200]
        other.write_text(content)
        for command in (
            ("run", file(), "-o", tmp_path / "out"),
            ("study", "optimum", "-o", tmp_path / "out", "--networks", "paper/bert_attn"),
        ):
            status, text, error = mapgym(*command, "--update-best-known", other)
            assert (status, text) == (2, "")
            assert "is damaged, or is no file of best known mappings" in error
            assert other.read_text() == content
        assert not (tmp_path / "out").exists()

    def test_the_command_offers_and_joins(self, file, mapgym, tmp_path, monkeypatch):
        monkeypatch.setattr("mapgym.agents.commands.experiments.run_missing", _in_this_process)
        monkeypatch.setattr(store, "_stored", lambda key: None)
        path, best = file(), tmp_path / "best.yaml"
        status, text, _ = mapgym("run", path, "-o", tmp_path / "out", "--update-best-known", best)
        assert (status, f"1 entries of {best} are new or better." in text) == (0, True)
        (entry,) = read_entries(best.read_text())
        task = small().tasks[0]
        mapping = entry.to_mapping(task.workload, task.accelerator)
        assert task.space().contains(mapping)
        worse = replace(entry, value=2 * entry.value)
        monkeypatch.setattr(store, "_stored", lambda key: worse)
        assert "1 results are better than the best known; join them" in mapgym("run", path, "-o", tmp_path / "out")[1]
        wrong = replace(worse, lower_bound=worse.value, status=CERTIFIED)
        monkeypatch.setattr(store, "_stored", lambda key: wrong)
        before = best.read_text()
        status, _, error = mapgym("run", path, "-o", tmp_path / "out", "--update-best-known", best)
        assert status == 1
        assert "SOMETHING IS WRONG" in error
        assert best.read_text() == before
