"""The command line, end to end."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import yaml

from command_line import one_sentence, spawn
from golden_records import DENSE_SAMPLE, read_records
from mapgym import __version__
from mapgym.agents import base
from mapgym.agents.base import Agent
from mapgym.agents.benchmark import STANDARD_AGENTS
from mapgym.agents.experiment.storage.folder import load_results
from mapgym.spec import catalog

TASK = ("toy/tiny_gemm", "tiny")
GAMMA = (*TASK, "--agent", "gamma", "--samples", "60")
LAYER, MACHINE = ("--workload", TASK[0]), ("--accelerator", TASK[1])


class TestCommand:
    def test_version(self, mapgym):
        assert mapgym("--version") == (0, f"mapgym {__version__}\n", "")

    def test_help_names_every_command(self, mapgym):
        status, text, _ = mapgym("--help")
        assert status == 0
        for command in ("search", "compare", "run", "report", "show", "list", "validate", "bench"):
            assert command in text

    def test_a_typo_in_a_command_or_option_is_answered_with_the_nearest(self, mapgym):
        status, _, error = mapgym("serch")
        assert status == 2
        assert "search" in error
        status, _, error = mapgym("search", *TASK, "--sample", "5")
        assert status == 2
        assert "--samples" in error

    def test_help_imports_nothing_heavy(self):
        code = (
            "import sys\nfrom mapgym.agents.cli import main\n"
            "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
            "print([m for m in ('torch', 'stable_baselines3', 'matplotlib') if m in sys.modules])"
        )
        printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert printed.splitlines()[-1] == "[]"


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (("search", "toy/tiny_gem", "tiny"), "did you mean 'tiny_gemm'"),
            (("search", "toi/tiny_gemm", "tiny"), "did you mean 'toy'"),
            (("search", "toy/tiny_gemm", "tinny"), "did you mean 'tiny'"),
            (("search", *TASK, "--agent", "gama"), "did you mean 'gamma'"),
            (("search", *TASK, "-p", "populaton=10"), "did you mean 'population'"),
            (("search", *TASK, "-p", "population=1"), "give a number from 2"),
            (("search", *TASK, "-p", "population"), "NAME=VALUE"),
            (("search", *TASK, "--axes", "tile,ordre"), "did you mean 'order'"),
            (("search", *TASK, "--axes", ","), "--axes is empty"),
            (("search", *TASK, "--objective", "edb"), "did you mean 'edp'"),
            (("search", *TASK, "--samples", "0"), "at least 1"),
            (("search", *TASK, "--seconds", "-1"), "above 0"),
            (("search", *TASK, "--constraints", "nowhere.yaml"), "nowhere.yaml"),
            (("search", *TASK, "-o", "missing/best.yaml"), "'missing/best.yaml'"),
            (("show", *TASK, "nowhere.yaml"), "nowhere.yaml"),
            (("show", "nowhere.yaml", "tiny"), "nowhere.yaml"),
            (("show", *TASK, "--dataflow", "nvdal"), "did you mean 'nvdla'"),
            (("show", *TASK, "x.yaml", "--dataflow", "tpu"), "leave one out"),
            (("show", *TASK, "--explain", "DRAM"), "--explain is 'DRAM'; give a level and a tensor"),
            (("show", *TASK, "--explain", "DRAN/Outputs"), "no storage level 'DRAN'"),
            (("list", "acelerators"), "did you mean 'accelerators'"),
            (("validate", "nowhere.jsonl.gz"), "nowhere.jsonl.gz"),
            (("bench", "cost", "--accelerator", "tinny"), "did you mean 'tiny'"),
            (("bench", "agents", "--agents", "random,gama", *LAYER, *MACHINE), "did you mean 'gamma'"),
            (("bench", "agents", "--agents", ",", *LAYER, *MACHINE), "--agents is empty"),
            (("bench", "agents", "--agents", "exhaustive", "--samples", "5"), "raise limit"),
            (("compare", "--agents", "random,gama", *LAYER, *MACHINE, "-o", "out"), "did you mean 'gamma'"),
            (("compare", "--agents", "random", "--workload", "resnet81", *MACHINE, "-o", "out"), "resnet"),
            (("compare", "--agents", "random", *LAYER, "--accelerator", "tinny", "-o", "out"), "did you mean 'tiny'"),
            (("compare", "--agents", "random", *LAYER, *MACHINE, "--axes", "til", "-o", "out"), "did you mean 'tile'"),
            (("compare", "--agents", "random", *LAYER, *MACHINE, "--samples", "0", "-o", "out"), "at least 1"),
            (("compare", "--agents", "random,random", *LAYER, *MACHINE, "-o", "out"), "twice"),
        ],
    )
    def test_is_answered_with_one_sentence_and_leaves_nothing(self, mapgym, tmp_path, monkeypatch, arguments, expected):
        monkeypatch.chdir(tmp_path)
        status, text, error = mapgym(*arguments)
        assert (status, text) == (2, "")
        assert expected in one_sentence(error)
        assert not list(tmp_path.iterdir())

    def test_is_answered_without_a_traceback_by_the_process_too(self, tmp_path):
        with spawn("search", "toy/tiny_gemm", "tinny", cwd=tmp_path) as process:
            text, error = process.communicate()
        assert (process.returncode, text) == (2, "")
        assert "did you mean 'tiny'" in one_sentence(error)

    def test_a_file_in_the_way_of_the_output_folder_is_found_before_the_work(self, mapgym, tmp_path):
        (tmp_path / "file").write_text("precious")
        for folder in (tmp_path / "file", tmp_path / "file" / "below"):
            status, text, error = mapgym("compare", "--agents", "random", *LAYER, *MACHINE, "-o", folder)
            assert (status, text) == (2, "")
            assert "give another folder with -o" in one_sentence(error)
        assert (tmp_path / "file").read_text() == "precious"
        assert len(list(tmp_path.iterdir())) == 1

    def test_truncated_yaml(self, mapgym, tmp_path):
        file = tmp_path / "layer.yaml"
        whole = yaml.safe_dump(catalog.workload(TASK[0]).to_dict(), default_flow_style=True)
        file.write_text(whole[: len(whole) // 2])
        status, text, error = mapgym("show", file, "tiny")
        assert (status, text) == (2, "")
        assert str(file) in one_sentence(error)

    @pytest.fixture
    def mapping(self, mapgym, tmp_path):
        """A file with a mapping, and its content."""
        file = tmp_path / "mapping.yaml"
        assert mapgym("search", *TASK, "--samples", "20", "-o", file)[0] == 0
        return file, yaml.safe_load(file.read_text())

    def test_over_capacity_mapping(self, mapgym, tmp_path):
        task = ("toy/tiny_conv", "tiny")
        file = tmp_path / "mapping.yaml"
        assert mapgym("search", *task, "--samples", "5", "-o", file)[0] == 0
        data = yaml.safe_load(file.read_text())
        for level in data["levels"]:
            level.update(temporal={}, spatial_x={}, spatial_y={}, order=[], spatial_order=[])
        # All loops at the innermost level: the whole layer would have to fit in there.
        data["levels"][-1]["temporal"] = {"C": 4, "M": 4, "P": 4, "Q": 4, "R": 3, "S": 3}
        file.write_text(yaml.safe_dump(data))
        status, text, error = mapgym("show", *task, file)
        assert (status, text) == (2, "")
        assert "illegal" in one_sentence(error)
        assert "exceeds the 64 words of RF" in error

    def test_wrong_product_unknown_dim_and_missing_level(self, mapgym, mapping):
        file, data = mapping
        cases = []
        for change, expected in (
            (lambda levels: levels[0]["temporal"].update(C=3), "multiply to"),
            (lambda levels: levels[0]["temporal"].update(X=2), "unknown dim 'X'"),
            (lambda levels: levels.pop(), "is missing"),
            (lambda levels: levels[0].update(tiles={}), "unknown key 'tiles'"),
        ):
            changed = json.loads(json.dumps(data))
            change(changed["levels"])
            cases.append((changed, expected))
        for changed, expected in [*cases, ({}, "no list 'levels'"), ([1], "no mapping")]:
            file.write_text(yaml.safe_dump(changed))
            status, text, error = mapgym("show", *TASK, file)
            assert (status, text) == (2, "")
            assert expected in one_sentence(error)
            assert str(file) in error


class TestSearch:
    def test_json(self, mapgym):
        status, text, _ = mapgym("search", *TASK, "--samples", "50", "--seed", "1", "--json")
        assert status == 0
        found = json.loads(text)
        assert found["samples"] == 50
        assert found["edp"] == pytest.approx(found["energy_pj"] * found["latency_cycles"])
        assert found["edp"] >= found["lower_bound_edp"] > 0
        assert found["seconds"] > 0
        assert (found["workload"], found["accelerator"], found["seed"]) == (*TASK, 1)
        assert found["axes"] == ["tile", "order", "parallelism"]
        assert (found["objective"], found["peer_links"], found["interrupted"]) == ("edp", True, False)
        assert found["agent"]

    def test_prints_json_and_nothing_else_as_a_process(self):
        with spawn("search", *TASK, "--samples", "20", "--json") as process:
            text, _ = process.communicate()
        assert process.returncode == 0
        assert json.loads(text)["samples"] == 20

    def test_same_seed_same_mapping(self, mapgym):
        def found(seed):
            result = json.loads(mapgym("search", *TASK, "--samples", "30", "--seed", seed, "--json")[1])
            return {key: result[key] for key in ("edp", "mapping")}

        assert found(5) == found(5)

    def test_text_is_the_loop_nest_with_its_cost(self, mapgym):
        status, text, error = mapgym("search", *TASK, "--samples", "20")
        assert status == 0
        assert "multiply-accumulate" in text
        assert "x the lower bound" in text
        assert "20 samples" in text
        assert "\x1b" not in text + error

    def test_what_it_writes_is_what_show_prices(self, mapgym, tmp_path):
        file = tmp_path / "best.yaml"
        found = json.loads(mapgym("search", *TASK, "--samples", "50", "--json", "-o", file)[1])
        shown = json.loads(mapgym("show", *TASK, file, "--json")[1])
        assert [shown[key] for key in ("edp", "energy_pj", "latency_cycles")] == [
            found[key] for key in ("edp", "energy_pj", "latency_cycles")
        ]
        assert shown["mapping"] == found["mapping"]
        assert [entry.name for entry in tmp_path.iterdir()] == ["best.yaml"]

    def test_show_reads_the_json_of_a_search_too(self, mapgym, tmp_path):
        text = mapgym("search", *TASK, "--samples", "20", "--json")[1]
        (tmp_path / "best.json").write_text(text)
        shown = json.loads(mapgym("show", *TASK, tmp_path / "best.json", "--json")[1])
        assert shown["edp"] == json.loads(text)["edp"]

    def test_objective_axes_and_links(self, mapgym):
        options = ("--samples", "30", "--json", "--objective", "latency", "--axes", "bypass,tile", "--no-peer-links")
        found = json.loads(mapgym("search", *TASK, *options)[1])
        assert (found["objective"], found["axes"], found["peer_links"]) == ("latency", ["tile", "bypass"], False)
        assert all(not level["spatial_x"] and not level["spatial_y"] for level in found["mapping"]["levels"])

    def test_parameters_of_the_agent(self, mapgym):
        def best(*options):
            return json.loads(mapgym("search", *GAMMA, "--json", *options)[1])["edp"]

        # Two mappings a generation and no fresh ones search elsewhere than a hundred at once.
        assert best("-p", "population=100") == best()
        assert mapgym("search", *GAMMA, "-p", "population=2", "-p", "inject=0")[0] == 0

    def test_constraints(self, mapgym, tmp_path):
        file = tmp_path / "constraints.yaml"
        file.write_text("parallel_dims: [C]\n")
        found = json.loads(mapgym("search", *TASK, "--samples", "50", "--constraints", file, "--json")[1])
        for level in found["mapping"]["levels"]:
            assert {*level["spatial_x"], *level["spatial_y"]} <= {"C"}

    def test_a_mistake_in_the_constraints_names_the_file(self, mapgym, tmp_path):
        file = tmp_path / "constraints.yaml"
        file.write_text("parallel_dim: [C]\n")
        status, _, error = mapgym("search", *TASK, "--constraints", file)
        assert status == 2
        assert "parallel_dims" in one_sentence(error)
        assert str(file) in error

    @pytest.mark.parametrize("samples", [0, 20])
    def test_ctrl_c_gives_the_best_so_far(self, mapgym, monkeypatch, tmp_path, samples):
        class Interrupted(Agent):
            name = "interrupted"
            summary = "Is interrupted after some samples."

            def search(self, evaluator, seed):
                evaluator.evaluate(evaluator.space.sample(np.random.default_rng(seed), samples))
                raise KeyboardInterrupt

        monkeypatch.setitem(base._AGENTS, "interrupted", Interrupted)
        file = tmp_path / "best.yaml"
        status, text, error = mapgym("search", *TASK, "--agent", "interrupted", "--json", "-o", file)
        assert status == 130
        assert error.startswith("Interrupted")
        if samples:
            found = json.loads(text)
            assert found["interrupted"]
            assert found["samples"] == samples
            assert yaml.safe_load(file.read_text()) == found["mapping"]
        else:
            assert text == ""
            assert not file.exists()


class TestShow:
    def test_without_a_mapping_the_task_is_described(self, mapgym):
        status, text, _ = mapgym("show", *TASK)
        assert status == 0
        assert "lower bound" in text
        assert "map space    10^" in text
        assert "plainest mapping" in text
        found = json.loads(mapgym("show", *TASK, "--json")[1])
        assert found["dims"] == {"N": 1, "C": 8, "P": 4, "Q": 1, "R": 1, "S": 1, "M": 4}
        assert found["tensor_words"] == {"Weights": 32, "Inputs": 32, "Outputs": 16}

    def test_a_dataflow(self, mapgym):
        text = mapgym("show", *TASK, "--dataflow", "nvdla")[1]
        assert "parallel-for C in 0.." in text
        assert "Where the energy goes" in text
        assert "plainest" not in text
        found = json.loads(mapgym("show", *TASK, "--dataflow", "nvdla", "--json")[1])
        assert 0 < found["edp"] < json.loads(mapgym("show", *TASK, "--json")[1])["edp"]
        assert "dims" not in found

    def test_a_cell_is_derived_line_by_line(self, mapgym):
        status, text, _ = mapgym("show", *TASK, "--explain", "DRAM/Outputs")
        assert status == 0
        assert "\nCounts of one instance of DRAM\n" in text
        assert "updates: each word from below is one: 16" in text
        found = json.loads(mapgym("show", *TASK, "--explain", "DRAM/Outputs", "--json")[1])
        whole = json.loads(mapgym("show", *TASK, "--json")[1])["levels"][0]["tensors"]["Outputs"]
        assert [found[key] for key in ("reads", "fills", "updates")] == [
            whole[key] for key in ("reads", "fills", "updates")
        ]

    def test_energies_add_up(self, mapgym):
        found = json.loads(mapgym("show", "paper/resnet_conv4", "accel_b_2d", "--json")[1])
        parts = [level[key] for level in found["levels"] for key in ("energy_pj", "network_energy_pj")]
        assert sum(parts) + found["mac_energy_pj"] == pytest.approx(found["energy_pj"])
        for level in found["levels"]:
            tensors = level["tensors"].values()
            assert sum(counts["energy_pj"] for counts in tensors) == pytest.approx(level["energy_pj"])

    def test_says_what_limits_a_mapping(self, mapgym):
        assert "1 of 1,024 MACs" in mapgym("show", "paper/resnet_conv4", "accel_b")[1]
        # One word a cycle from memory that shares 16 words a cycle: still compute; a slow memory limits.
        assert "limited by   compute parallelism" in mapgym("show", "paper/resnet_conv4", "accel_b_bw")[1]

    def test_a_slow_level_is_named(self, mapgym, tmp_path):
        data = catalog.accelerator("tiny").to_dict()
        data["levels"][0]["shared_bandwidth_words_per_cycle"] = 0.5
        (tmp_path / "slow.yaml").write_text(yaml.safe_dump(data))
        text = mapgym("show", TASK[0], tmp_path / "slow.yaml")[1]
        assert "limited by   the bandwidth of DRAM" in text


class TestList:
    @pytest.mark.parametrize(
        ("kind", "expected"),
        [
            ("accelerators", "eyeriss_like"),
            ("networks", "mobilenet_v2"),
            ("workloads", "paper/resnet_conv4"),
            ("agents", "maskable-ppo"),
            ("dataflows", "eyeriss"),
            ("environments", "MapSpace-v0"),
            ("experiments", "mappers_quick"),
        ],
    )
    def test_kinds(self, mapgym, kind, expected):
        status, text, _ = mapgym("list", kind)
        assert status == 0
        assert expected in text
        rows = json.loads(mapgym("list", kind, "--json")[1])[kind]
        assert any(expected in row.values() for row in rows)

    def test_everything(self, mapgym):
        status, text, _ = mapgym("list")
        assert status == 0
        for expected in ("accel_b", "resnet18", "random", "MapSpace-v0"):
            assert expected in text


class TestBench:
    def test_cost(self, mapgym):
        status, text, _ = mapgym(
            "bench", "cost", *MACHINE, "--workload", "toy", "--rounds", "1", "--mappings", "100", "--json"
        )
        assert status == 0
        results = json.loads(text)["results"]
        assert len(results) == len(catalog.network("toy").layers)
        for result in results:
            assert result["accelerator"] == "tiny"
            assert result["evaluations_per_second"] > 0
            assert result["single_call_seconds"] > 0

    def test_cost_as_a_table(self, mapgym):
        status, text, _ = mapgym("bench", "cost", *MACHINE, *LAYER, "--rounds", "1", "--mappings", "100")
        assert status == 0
        assert "evaluations/s" in text

    def test_env(self, mapgym):
        options = ("bench", "env", "--env", "MapSpace-v0", "--num-envs", "4", "--rounds", "1")
        status, text, _ = mapgym(*options, "--json")
        assert status == 0
        found = json.loads(text)["results"]
        steps = [(r["env"], r["num_envs"]) for r in found if r["measured"] == "step"]
        assert steps == [("MapSpace-v0", n) for n in (0, 4)]
        assert len(found) == 4
        assert min(r["microseconds"] for r in found) > 0
        status, text, _ = mapgym(*options)
        assert status == 0
        assert "twin of 4" in text
        assert "save and restore" in text

    def test_agents(self, mapgym):
        options = ("--agents", "gamma,random", "--workload", "toy", *MACHINE, "--samples", "40", "--seeds", "1")
        status, text, error = mapgym("bench", "agents", *options, "--json")
        assert (status, error) == (0, "")
        found = json.loads(text)
        assert (found["samples"], found["seeds"]) == (40, 1)
        assert [result["agent"] for result in found["results"]] == ["gamma", "random"]
        layers = [layer.workload.name for layer in catalog.network("toy").layers]
        for result in found["results"]:
            assert [(task["workload"], task["accelerator"]) for task in result["tasks"]] == [
                (layer, "tiny") for layer in layers
            ]
            assert {task["samples"] for task in result["tasks"]} == {40}
            assert 0 < result["own_seconds"] <= result["slowest_own_seconds"]

    def test_agents_as_a_table_of_those_that_are_installed(self, mapgym, monkeypatch):
        monkeypatch.setattr(base.agent_class("cma-es"), "requires", ("no_such_package",))
        status, text, _ = mapgym("bench", "agents", *LAYER, *MACHINE, "--samples", "5", "--seeds", "1")
        assert status == 0
        header, _, *rows = text.splitlines()[1:]
        assert "own (us)" in header
        assert [row.split()[0] for row in rows] == [name for name in STANDARD_AGENTS if name != "cma-es"]
        assert all(len(row.split()) == 5 for row in rows)

    def test_buffer(self, mapgym):
        arguments = ("bench", "buffer", "--entries", "50", "--rounds", "1", "--accelerator", MACHINE[1], *LAYER)
        status, text, _ = mapgym(*arguments, "--json")
        assert status == 0
        found = json.loads(text)
        assert found["entries"] == 50
        assert min(found["load_seconds"], found["nearest_seconds"], found["transfer_seconds"]) > 0
        assert "find the nearest entry" in mapgym(*arguments)[1]


class TestCompare:
    def arguments(self, folder, *more, agents="random,gamma", samples=40, seeds=2):
        options = ("--samples", samples, "--seeds", seeds, "-o", folder)
        return ("compare", "--agents", agents, *LAYER, *MACHINE, *options, *more)

    def test_writes_everything(self, mapgym, tmp_path):
        folder = tmp_path / "results" / "first"
        status, text, error = mapgym(*self.arguments(folder))
        assert (status, error) == (0, "")
        assert len(re.findall(r"^\[\d/4\] toy/tiny_gemm on tiny, (random|gamma), seed \d: best EDP", text, re.M)) == 4
        assert "multiply-accumulate" in text
        assert "\x1b" not in text
        files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        runs = {
            f"runs/toy-tiny_gemm__tiny/{agent}-seed{seed}.parquet" for agent in ("random", "gamma") for seed in (0, 1)
        }
        assert files - {".locks"} == runs | {
            "anytime.svg",
            "report.html",
            "best/toy-tiny_gemm__tiny.yaml",
            "command.txt",
            "experiment.json",
            "summary.csv",
            "summary.md",
        }
        command = (folder / "command.txt").read_text().strip()
        assert command == " ".join(map(str, ("mapgym", *self.arguments(folder))))
        assert command in (folder / "summary.md").read_text()

        run = next(run for run in load_results(folder) if (run.agent.label, run.seed) == ("random", 1))
        assert (run.samples, run.versions["mapgym"], run.command) == (40, __version__, command)
        assert run.trace.values[-1] == run.best_value == run.best_cost["edp"]

        best = json.loads(mapgym("show", *TASK, folder / "best/toy-tiny_gemm__tiny.yaml", "--json")[1])
        with open(folder / "summary.csv", newline="") as table:
            rows = list(csv.DictReader(table))
        assert best["edp"] == pytest.approx(min(float(row["best_value"]) for row in rows))

    def test_a_network_and_several_accelerators(self, mapgym, tmp_path):
        options = ("--agents", "random", "--samples", "5", "--seeds", "1", "-o", tmp_path / "a")
        status, text, _ = mapgym("compare", "--workload", "toy", "--accelerator", "tiny,accel_b", *options)
        assert status == 0
        assert f"[{2 * len(catalog.network('toy').layers)}/" in text
        assert f"all {2 * len(catalog.network('toy').layers)} tasks" in text

    def test_resumes_and_reports_the_same(self, mapgym, tmp_path):
        mapgym(*self.arguments(tmp_path / "a"))
        before = (tmp_path / "a" / "summary.csv").read_text()
        (tmp_path / "a/runs/toy-tiny_gemm__tiny/gamma-seed1.parquet").unlink()
        status, text, _ = mapgym(*self.arguments(tmp_path / "a"))
        assert status == 0
        assert text.count("was there already") == 3

        def without_times(table):
            return [
                {key: value for key, value in row.items() if "second" not in key}
                for row in csv.DictReader(table.splitlines())
            ]

        assert without_times((tmp_path / "a" / "summary.csv").read_text()) == without_times(before)

    def test_a_folder_of_another_configuration(self, mapgym, tmp_path):
        mapgym(*self.arguments(tmp_path / "a", agents="random", seeds=1))
        kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        status, text, error = mapgym(*self.arguments(tmp_path / "a", samples=41))
        assert (status, text) == (2, "")
        assert "samples 40 there, 41 now" in one_sentence(error)
        assert "give another folder with -o" in error
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == kept

    def test_other_axes_objectives_and_links_are_other_tasks_of_the_same_folder(self, mapgym, tmp_path):
        for more in ((), ("--axes", "tile"), ("--objective", "energy"), ("--no-peer-links",)):
            assert mapgym(*self.arguments(tmp_path / "a", *more, agents="random", seeds=1, samples=5))[0] == 0
        names = [run.task.name.removeprefix("toy/tiny_gemm on tiny") for run in load_results(tmp_path / "a")]
        assert sorted(names) == ["", ", energy", ", no links", ", tile"]

    def test_ctrl_c_keeps_finished_runs_and_the_same_command_continues(self, mapgym, tmp_path):
        folder = tmp_path / "a"
        arguments = self.arguments(folder, agents="random", samples=100_000, seeds=6)
        with spawn(*arguments) as process:
            first = process.stdout.readline()
            process.send_signal(signal.SIGINT)
            _, error = process.communicate()
        assert first.startswith("[1/6]"), error
        assert process.returncode == 130, error
        assert "run the same command again to continue" in error.splitlines()[-1]
        assert "Traceback" not in error
        finished = sorted((folder / "runs").rglob("*.parquet"))
        assert 1 <= len(finished) < 6
        assert [run.samples for run in load_results(folder)] == [100_000] * len(finished)
        assert not (folder / "summary.md").exists()
        kept = {path: path.stat().st_mtime_ns for path in finished}

        status, text, _ = mapgym(*arguments)
        assert status == 0
        assert text.count("was there already") == len(finished)
        assert len(list((folder / "runs").rglob("*.parquet"))) == 6
        assert {path: path.stat().st_mtime_ns for path in finished} == kept
        assert (folder / "summary.md").exists()


class TestValidate:
    def test_text(self, mapgym):
        status, text, error = mapgym("validate", "--rules", "timeloop-2022", DENSE_SAMPLE)
        assert (status, error) == (0, "")
        for expected in ("passed", "verdicts that agree", "cases exact", "largest relative error", "counts"):
            assert expected in text

    def test_json(self, mapgym):
        status, text, _ = mapgym("validate", "--rules", "timeloop-2022", DENSE_SAMPLE, DENSE_SAMPLE, "--json")
        assert status == 0
        files = json.loads(text)["files"]
        assert len(files) == 2
        for found in files:
            counts = {"cases", "verdicts_agree", "artefacts", "compared", "exact", "close"}
            assert set(found) == counts | {"file", "rules", "not_supported", "max_rel_error"}
            assert (found["rules"], found["not_supported"]) == ("timeloop-2022", 0)
            assert set(found["max_rel_error"]) == {"energy_pj", "latency_cycles", "counts"}
            assert found["cases"] == found["verdicts_agree"] > found["compared"] == found["exact"] > 0
            assert found["artefacts"] == found["close"] == 0

    def test_a_difference_fails_and_is_shown(self, mapgym, tmp_path):
        record = next(record for record in read_records(DENSE_SAMPLE) if record["valid"])
        record["cycles"] += 1
        (tmp_path / "changed.jsonl").write_text(json.dumps(record))
        status, text, _ = mapgym("validate", "--rules", "timeloop-2022", tmp_path / "changed.jsonl")
        assert status == 1
        assert "FAILED" in text
        assert record["id"] in text
        status, text, _ = mapgym("validate", "--rules", "timeloop-2022", tmp_path / "changed.jsonl", "--json")
        assert status == 1
        (found,) = json.loads(text)["files"]
        assert (found["cases"], found["verdicts_agree"], found["compared"], found["exact"]) == (1, 1, 1, 0)

    def test_a_truncated_file(self, mapgym, tmp_path):
        (tmp_path / "half.jsonl.gz").write_bytes(DENSE_SAMPLE.read_bytes()[:2000])
        status, text, error = mapgym("validate", "--rules", "timeloop-2022", tmp_path / "half.jsonl.gz")
        assert (status, text) == (2, "")
        assert "half.jsonl.gz" in one_sentence(error)
