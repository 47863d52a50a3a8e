"""Counting rules on the command line: who takes them, where they are said, and that nothing of two rules is mixed."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main
import yaml

from command_line import one_sentence
from golden_records import DENSE_SAMPLE, read_records
from mapgym import MapSpace
from mapgym.agents.cli import app
from mapgym.agents.commands import parsing
from mapgym.agents.experiment.definition.experiment_file import load_experiment
from mapgym.agents.experiment.storage import folder as folders
from mapgym.agents.experiment.storage.folder import load_results
from mapgym.agents.experiment.storage.results import read_result, write_result
from mapgym.agents.studies.mappers.timeloop_mapper import timeloop_runs
from mapgym.errors import SpecificationError
from mapgym.spec import catalog
from mapgym.spec.rules import DEFAULT_RULES, RULE_SETS, RULES_BEFORE_NAMES
from mapgym.warmstart import ReplayBuffer

TASK = ("toy/tiny_gemm", "tiny")
OTHER = "timeloop-2022"
COMPARE = ("compare", "--agents", "random", "--workload", TASK[0], "--accelerator", TASK[1], "--samples", "20")


def commands(entry: Any = None, *names: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with the words that call it."""
    entry = typer.main.get_command(app) if entry is None else entry
    if not hasattr(entry, "commands"):
        yield names, entry
        return
    for name in entry.list_commands(None):
        yield from commands(entry.get_command(None, name), *names, name)


COMMANDS = dict(commands())


@pytest.mark.parametrize("names", COMMANDS, ids=" ".join)
def test_every_command_that_prices_on_an_accelerator_takes_rules(names: tuple[str, ...]) -> None:
    command = COMMANDS[names]
    known = {parameter.name for parameter in command.params}
    if known & {"accelerator", "accelerators"} or names[0] in ("run", "validate", "tune"):
        assert "rules" in known, names


@pytest.mark.parametrize(
    "arguments",
    [
        ("search", *TASK),
        ("show", *TASK),
        ("map", "toy", "tiny", "-o", "{folder}"),
        (*COMPARE, "-o", "{folder}"),
        ("run", "first_look", "-o", "{folder}"),
        ("bench", "cost"),
        ("bench", "agents"),
        ("study", "order", "-o", "{folder}"),
        ("study", "mappers", "-o", "{folder}"),
        ("tune", "gamma", "-o", "{folder}"),
        ("validate", str(DENSE_SAMPLE)),
    ],
    ids=lambda arguments: arguments[0],
)
def test_unknown_rules_are_answered_with_the_nearest(mapgym, tmp_path, arguments) -> None:
    folder = tmp_path / "out"
    words = [str(folder) if word == "{folder}" else word for word in arguments]
    status, out, error = mapgym(*words, "--rules", "timeloop-202")
    assert (status, out) == (2, "")
    assert "--rules is 'timeloop-202'; did you mean 'timeloop-20" in one_sentence(error)
    assert not folder.exists()


@pytest.mark.parametrize("rules", [None, *RULE_SETS])
def test_a_search_says_its_rules(mapgym, tmp_path, rules: str | None) -> None:
    chosen = () if rules is None else ("--rules", rules)
    expected = rules or DEFAULT_RULES
    path = tmp_path / "mapping.yaml"
    status, out, error = mapgym("search", *TASK, "--samples", 50, *chosen, "-o", path)
    assert (status, error) == (0, "")
    assert f"\nrules        {expected}\n" in out
    assert expected in path.read_text()
    assert json.loads(mapgym("search", *TASK, "--samples", 50, *chosen, "--json")[1])["rules"] == expected
    assert json.loads(mapgym("show", *TASK, path, *chosen, "--json")[1])["rules"] == expected
    assert f"\nrules        {expected}\n" in mapgym("show", *TASK, path, *chosen)[1]


def test_the_option_takes_the_place_of_what_a_file_says(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(catalog.accelerator("tiny").counted_by("timeloop-3.0.3").to_dict()))
    assert parsing.load_accelerator(str(path)).rules == "timeloop-3.0.3"
    assert parsing.load_accelerator(str(path), rules=OTHER).rules == OTHER
    assert parsing.load_accelerator("tiny").rules == DEFAULT_RULES
    both = parsing.load_accelerators(f"{path},tiny", "--accelerator", peer_links=False, rules=OTHER)
    assert [(machine.rules, machine.peer_links) for machine in both] == [(OTHER, False)] * 2


def test_energies_that_the_rules_do_not_look_up_are_missed(tmp_path) -> None:
    data = catalog.accelerator("tiny").to_dict()
    for level in data["levels"]:
        level["action_energies_pj"] = {"read": level.pop("access_energy_pj"), "write": 2.0}
    machine = catalog.accelerator(data)
    with pytest.raises(
        SpecificationError, match=r"--rules: storage level '.*' has no energy of read under timeloop-2022"
    ):
        machine.counted_by(OTHER, "--rules")
    assert machine.counted_by("timeloop-3.0.3").rules == "timeloop-3.0.3"


class TestExperiments:
    def test_a_comparison_says_its_rules_and_two_share_a_folder(self, mapgym, tmp_path) -> None:
        for chosen in ((), ("--rules", OTHER)):
            assert mapgym(*COMPARE, "--seeds", 1, *chosen, "-o", tmp_path)[0] == 0
        runs = {path.parent.name for path in tmp_path.glob("runs/*/*.parquet")}
        assert runs == {"toy-tiny_gemm__tiny", f"toy-tiny_gemm__tiny__{OTHER}"}
        names = {result.task.name: result.task.accelerator.rules for result in load_results(tmp_path)}
        assert names == {"toy/tiny_gemm on tiny": DEFAULT_RULES, f"toy/tiny_gemm on tiny, {OTHER}": OTHER}
        rows = list(csv.DictReader((tmp_path / "summary.csv").read_text().splitlines()))
        assert {row["rules"] for row in rows if row["accelerator"]} == {DEFAULT_RULES, OTHER}
        sentence = f"Costs are counted as {OTHER}, {DEFAULT_RULES}."
        assert sentence in (tmp_path / "summary.md").read_text()
        assert sentence in (tmp_path / "report.html").read_text()

    def test_rules_in_a_file_and_on_the_command_line(self, mapgym, tmp_path) -> None:
        data = {
            "tasks": {"workloads": [TASK[0]], "accelerators": ["tiny"], "rules": "timeloop-3.0.3"},
            "agents": ["random"],
            "seeds": 1,
            "budget": {"samples": 5},
        }
        assert load_experiment(data).tasks[0].accelerator.rules == "timeloop-3.0.3"
        path = tmp_path / "e.yaml"
        path.write_text(yaml.safe_dump(data))
        assert mapgym("run", path, "--rules", OTHER, "-o", tmp_path / "out")[0] == 0
        assert [result.task.accelerator.rules for result in load_results(tmp_path / "out")] == [OTHER]
        wrong = {**data, "tasks": {**data["tasks"], "rules": "timeloop-3"}}
        with pytest.raises(SpecificationError, match=r"experiment: tasks: rules is 'timeloop-3'; did you mean"):
            load_experiment(wrong)

    @pytest.fixture
    def earlier(self, mapgym, tmp_path, monkeypatch) -> Path:
        """A folder that was written before rules had names."""
        folder = tmp_path / "earlier"
        monkeypatch.setattr(folders, "_difference", folders._difference)
        assert mapgym(*COMPARE, "--seeds", 1, "-o", folder)[0] == 0
        (path,) = folder.glob("runs/*/*.parquet")
        result = read_result(path)
        machine = dict(result.config["accelerator"])
        write_result(path, replace(result, config={**result.config, "accelerator": machine}))
        return folder

    def test_results_of_before_rules_had_names_are_of_the_first_rules(self, earlier: Path, monkeypatch) -> None:
        (path,) = earlier.glob("runs/*/*.parquet")
        forget_rules(path, monkeypatch)
        result = read_result(path)
        assert result.config["accelerator"]["rules"] == RULES_BEFORE_NAMES
        assert result.task.accelerator.rules == RULES_BEFORE_NAMES
        assert result.task.name.endswith(RULES_BEFORE_NAMES)

    def test_a_folder_with_results_of_other_rules_is_refused(self, mapgym, earlier: Path, monkeypatch) -> None:
        (path,) = earlier.glob("runs/*/*.parquet")
        forget_rules(path, monkeypatch)
        status, _, error = mapgym(*COMPARE, "--seeds", 1, "-o", earlier)
        assert status == 2
        counted = f"its costs are counted as {RULES_BEFORE_NAMES}, those of this experiment as {DEFAULT_RULES}"
        assert counted in error
        assert "give another folder with -o" in error
        # By its own rules it is made again, and counts once.
        assert mapgym(*COMPARE, "--seeds", 1, "--rules", RULES_BEFORE_NAMES, "-o", earlier)[0] == 0
        assert len(list(earlier.glob("runs/*/*.parquet"))) == 2
        assert len(load_results(earlier)) == 1


def forget_rules(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes a result as it was written before rules had names."""
    from mapgym.agents.experiment.storage import results

    result = read_result(path)
    machine = {key: value for key, value in result.config["accelerator"].items() if key != "rules"}
    config = {**result.config, "accelerator": {**machine, "rules": ""}}
    text = json.dumps({**config, "accelerator": machine})
    with monkeypatch.context() as patch:
        dumps = json.dumps
        patch.setattr(results.json, "dumps", lambda data, **options: text if data is config else dumps(data, **options))
        write_result(path, replace(result, config=config))


class TestBuffers:
    @pytest.fixture
    def buffer(self, tmp_path) -> Path:
        path = tmp_path / "layers.buffer"
        machine = catalog.accelerator("tiny").counted_by(OTHER)
        layer = catalog.workload(TASK[0])
        ReplayBuffer(path).add(layer, machine, MapSpace(layer, machine).sample(np.random.default_rng(0), 1)[0])
        return path

    def test_entries_say_their_rules(self, mapgym, buffer: Path) -> None:
        assert json.loads(mapgym("buffer", "list", buffer, "--json")[1])["entries"][0]["rules"] == OTHER
        assert OTHER in mapgym("buffer", "list", buffer)[1]
        assert f"on tiny, {OTHER}: " in mapgym("buffer", "show", buffer, 0)[1]
        assert mapgym("buffer", "verify", buffer)[0] == 0

    def test_mappings_of_other_rules_are_begun_from_and_that_is_said(self, mapgym, buffer: Path, tmp_path) -> None:
        search = ("search", "toy/tiny_gemm", "tiny", "--samples", 30, "--warm-start", buffer)
        notice = (
            f"mappings that were found under {OTHER}, this task counts as {DEFAULT_RULES}; they are starting points"
        )
        status, out, error = mapgym(*search)
        assert status == 0
        assert "begun from   toy/tiny_gemm" in out
        assert notice in one_sentence(error)
        assert mapgym(*search, "--rules", OTHER)[2] == ""
        network = ("map", "toy", "tiny", "--samples-per-layer", 20, "--buffer", buffer, "-o", tmp_path / "toy")
        assert notice in mapgym(*network)[2]
        assert f"Costs are counted as {DEFAULT_RULES}." in (tmp_path / "toy" / "map.md").read_text()
        assert notice in mapgym(*COMPARE, "--warm-start", buffer, "--seeds", 1, "-o", tmp_path / "c")[2]


class TestStudies:
    def test_cells_of_other_rules_are_made_anew(self, mapgym, tmp_path) -> None:
        study = (
            "study",
            "order",
            "--workloads",
            TASK[0],
            "--accelerators",
            "tiny",
            "--bases",
            1,
            "--quick",
            "-o",
            tmp_path,
        )
        for chosen, rules in (((), DEFAULT_RULES), (("--rules", OTHER), OTHER)):
            assert mapgym(*study, *chosen)[0] == 0
            assert f"Costs are counted as {rules}." in (tmp_path / "order.md").read_text()
        assert len(list(tmp_path.glob("cells/*.json"))) == 2

    def test_runs_of_timeloops_mapper_are_those_of_its_version(self) -> None:
        assert {run.accelerator.rules for run in timeloop_runs()} == {OTHER}

    def test_a_network_counted_by_other_rules_is_mapped_anew(self, mapgym, tmp_path) -> None:
        network = ("map", "toy", "tiny", "--samples-per-layer", 20, "-o", tmp_path)
        assert mapgym(*network)[0] == 0
        first = {path.name: path.read_bytes() for path in tmp_path.glob("cells/*.json")}
        assert mapgym(*network, "--rules", OTHER)[0] == 0
        assert f"Costs are counted as {OTHER}." in (tmp_path / "map.md").read_text()
        for name, content in first.items():
            now = json.loads((tmp_path / "cells" / name).read_text())
            assert now["settings"]["accelerator"]["rules"] == OTHER
            assert json.loads(content)["settings"]["accelerator"]["rules"] == DEFAULT_RULES


class TestLearned:
    def test_a_surrogate_refuses_and_a_policy_says_so(self, mapgym) -> None:
        pytest.importorskip("safetensors")
        pytest.importorskip("torch")
        rows = {
            row["name"]: row["trained_under"] for row in json.loads(mapgym("list", "agents", "--json")[1])["agents"]
        }
        assert all(rows[name] in RULE_SETS for name in ("amortized", "amortized-search", "mind-mappings"))
        assert rows["gamma"] == ""
        trained = rows["mind-mappings"]
        other = next(name for name in RULE_SETS if name != trained)
        task = ("search", TASK[0], "accel_a", "--samples", 10)
        status, _, error = mapgym(*task, "--agent", "mind-mappings", "--rules", other)
        assert status == 2
        assert f"predicts costs under {trained}, and this task counts as {other}" in one_sentence(error)
        assert mapgym(*task, "--agent", "mind-mappings", "--rules", trained)[0] == 0
        trained = rows["amortized"]
        other = next(name for name in RULE_SETS if name != trained)
        for chosen in (("--agent", "amortized"), ("--agent", "amortized-search"), ("--warm-start", "policy")):
            status, _, error = mapgym(*task, *chosen, "--rules", other)
            assert status == 0
            assert f"was trained under {trained}, this task counts as {other}" in one_sentence(error)
            assert mapgym(*task, *chosen, "--rules", trained)[2] == ""


class TestValidate:
    def test_descriptions_in_several_files_and_beside_the_records(self, mapgym, tmp_path) -> None:
        record = next(record for record in read_records(DENSE_SAMPLE) if record["valid"] and record["arch"] == "tiny")
        described = description("tiny")
        (tmp_path / "first.json").write_text(json.dumps({"one": described}))
        (tmp_path / "second.json").write_text(json.dumps({"two": described}))
        write_gzipped(tmp_path / "arch_extra.json.gz", {"three": described})
        lines = [json.dumps({**record, "arch": name}) for name in ("one", "two", "three", "tiny")]
        (tmp_path / "records.jsonl").write_text("\n".join(lines))
        files = ("--arch", tmp_path / "first.json", "--arch", tmp_path / "second.json")
        validate = ("validate", "--rules", OTHER, tmp_path / "records.jsonl", "--json")
        status, out, _ = mapgym(*validate, *files)
        (found,) = json.loads(out)["files"]
        assert (status, found["rules"], found["exact"], found["cases"]) == (0, OTHER, 4, 4)
        assert "architecture 'one' is not described" in one_sentence(mapgym(*validate)[2])

    def test_rules_change_what_is_equal(self, mapgym) -> None:
        status, out, _ = mapgym("validate", DENSE_SAMPLE, "--json")
        (found,) = json.loads(out)["files"]
        assert (status, found["rules"]) == (1, DEFAULT_RULES)
        assert found["cases"] == found["verdicts_agree"]
        assert found["exact"] < found["compared"]

    def test_records_with_remainders_are_counted(self, mapgym, tmp_path) -> None:
        records = [record for record in read_records(DENSE_SAMPLE) if record["valid"]][:2]
        level = records[0]["mapping"]["levels"][0]
        level["temporal"] = {**level["temporal"], "C": [2, 1]}
        path = tmp_path / "records.jsonl"
        path.write_text("\n".join(map(json.dumps, records)))
        status, out, _ = mapgym("validate", "--rules", OTHER, path)
        assert status == 0
        assert "not supported             1" in out
        assert f"the first is record '{records[0]['id']}'" in out
        path.write_text(json.dumps(records[0]))
        assert mapgym("validate", "--rules", OTHER, path)[0] == 1


def description(name: str) -> dict[str, Any]:
    """A flat description of an accelerator of the catalog, with energies by action where they are all alike."""
    machine = catalog.accelerator(name)
    levels = [
        {
            "name": level.name,
            "capacity_words": level.capacity_words,
            "meshX": level.mesh_x,
            "meshY": level.mesh_y,
            "vector_access_energy_pJ": level.access_energy_pj,
            "op_energy": dict.fromkeys(("read", "fill", "update"), level.access_energy_pj),
            "block_size_words": level.block_size_words,
            "word_bits": level.word_bits,
            "read_bandwidth": None,
            "write_bandwidth": None,
            "shared_bandwidth": None,
            "energy_per_hop_pJ": level.energy_per_hop_pj,
            "router_energy_pJ": level.router_energy_pj,
        }
        for level in reversed(machine.levels)
    ]
    mac = machine.mac
    units = {"name": mac.name, "meshX": mac.mesh_x, "meshY": mac.mesh_y, "word_bits": mac.word_bits}
    return {"name": name, "levels": levels, "mac": {**units, "energy_pJ_per_mac": mac.energy_pj}}


def write_gzipped(path: Path, data: Any) -> None:
    import gzip

    path.write_bytes(gzip.compress(json.dumps(data).encode()))
