"""How parameters are chosen and used."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from command_line import one_sentence
from mapgym.agents import agent_class, agent_names, make_agent, tuning
from mapgym.agents.studies.tuning.study import scores_of
from mapgym.agents.tuning import AgentTuning, choose, read_tuning, tuning_text
from mapgym.errors import SpecificationError
from mapgym.spec import catalog
from mapgym.spec.splits import load_split, shape_of

SMALL = """
samples: 120
seeds: 2
tasks:
  - [toy/tiny_gemm, tiny]
agents:
  gamma:
    settings: [{}, {population: 20}]
    chosen: {}
"""


def test_the_installed_file_is_sound():
    found = read_tuning()
    assert set(found.agents) <= set(agent_names())
    for name, entry in found.agents.items():
        for setting in entry.settings:
            agent_class(name)(**setting)
        if entry.scores is not None:
            assert entry.chosen == choose(entry.settings, entry.scores)
            assert entry.command.startswith(f"mapgym tune {name}")


def test_tuning_sees_no_task_that_results_are_reported_on():
    tested = load_split("test")
    reported = {shape_of(layer) for layer in [*tested.layers(), *catalog.workloads("paper")]}
    # A layer of another network with the shape of a tested one is tested as well.
    assert shape_of(catalog.workload("mnasnet/expand_160_960")) in reported
    for workload, accelerator in read_tuning().tasks:
        assert shape_of(catalog.workload(workload)) not in reported
        assert catalog.accelerator(accelerator).name not in tested.accelerators


def test_a_file_survives_a_round_trip(tmp_path):
    (tmp_path / "tuning.yaml").write_text(tuning_text(read_tuning()))
    assert read_tuning(tmp_path / "tuning.yaml") == read_tuning()


def test_scores_by_hand():
    results = [
        {"setting": 0, "task": "a", "values": [4.0, 2.0, 8.0], "known": 1.0},
        {"setting": 1, "task": "a", "values": [2.0, 2.0, 2.0], "known": 1.0},
        {"setting": 0, "task": "b", "values": [3.0, 3.0, 3.0], "known": None},
        {"setting": 1, "task": "b", "values": [6.0, 6.0, 3.0], "known": None},
    ]
    # ln 4 + ln 1 and ln 2 + ln 2, halved: the best known of b is the best found.
    assert scores_of(results) == pytest.approx((0.693147, 0.693147), abs=1e-6)


def test_defaults_stay_unless_another_setting_is_clearly_better():
    settings = ({}, {"a": 1}, {"a": 2})
    assert choose(settings, (0.1, 0.097, 0.2)) == {}
    assert choose(settings, (0.1, 0.09, 0.2)) == {"a": 1}


def test_agents_use_what_was_chosen(monkeypatch):
    monkeypatch.setattr(tuning, "chosen_parameters", lambda name: {"population": 33})
    monkeypatch.setattr("mapgym.agents.base.chosen_parameters", lambda name: {"population": 33})
    assert asdict(make_agent("gamma"))["population"] == 33
    assert asdict(make_agent("gamma", population=44))["population"] == 44
    assert asdict(agent_class("gamma")())["population"] == 100


def test_tuning_from_the_command_line(mapgym, tmp_path):
    file = tmp_path / "tuning.yaml"
    file.write_text(SMALL)
    status, out, _ = mapgym("tune", "gamma", "-o", tmp_path / "out", "--file", file, "--update", file)
    assert status == 0
    assert "Chosen: " in out
    entry = read_tuning(file).agents["gamma"]
    assert entry.scores is not None
    assert len(entry.scores) == 2
    assert entry.command.startswith("mapgym tune gamma")
    status, out, _ = mapgym("tune", "gamma", "-o", tmp_path / "out", "--file", file)
    assert out.count("was there already") == 2


@pytest.mark.parametrize("content", ["", "a: 1\n", SMALL[:-30], SMALL.replace("chosen: {}", "scores: [a, null]")])
def test_another_file_is_not_overwritten_by_the_choice(mapgym, tmp_path, content):
    (tmp_path / "tuning.yaml").write_text(SMALL)
    (tmp_path / "other.yaml").write_text(content)
    files = ("--file", tmp_path / "tuning.yaml", "--update", tmp_path / "other.yaml")
    status, out, error = mapgym("tune", "gamma", "-o", tmp_path / "out", *files)
    assert (status, out) == (2, "")
    assert "other.yaml" in one_sentence(error)
    assert (tmp_path / "other.yaml").read_text() == content
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SMALL.replace("samples: 120", "samples: no"), "samples"),
        (SMALL.replace("seeds", "sedes"), "did you mean 'seeds'"),
        (SMALL.replace("chosen: {}", "chosen: {population: 7}"), "none of its settings"),
        (SMALL.replace("[{}, ", "[{elites: 0.1}, "), "the first of them empty"),
        (SMALL.replace("population", "populaton"), "did you mean 'population'"),
        (SMALL.replace("toy/tiny_gemm", "toy/tiny_gem"), "did you mean 'tiny_gemm'"),
    ],
)
def test_mistakes_are_answered(mapgym, tmp_path, text, message):
    (tmp_path / "tuning.yaml").write_text(text)
    status, _, error = mapgym("tune", "gamma", "-o", tmp_path / "out", "--file", tmp_path / "tuning.yaml")
    assert status == 2
    assert message in one_sentence(error)


def test_agents_without_settings_are_refused(mapgym, tmp_path):
    status, _, error = mapgym("tune", "random", "-o", tmp_path)
    assert status == 2
    assert "no settings are listed for agent 'random'" in one_sentence(error)


def test_too_many_settings_are_unfair(tmp_path):
    (tmp_path / "tuning.yaml").write_text(SMALL.replace("[{}, ", "[{}, " + "{population: 7}, " * 12))
    with pytest.raises(SpecificationError, match="has 14 settings; give at most 12"):
        read_tuning(tmp_path / "tuning.yaml")
    assert AgentTuning(({},), {}).scores is None
