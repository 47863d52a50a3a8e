"""The command ``mapgym buffer``, end to end."""

from __future__ import annotations

import json
import sqlite3

import numpy as np
import pytest
import yaml

from command_line import one_sentence
from mapgym import MapSpace
from mapgym.spec import catalog
from places import DATA

TASK = ("toy/tiny_gemm", "tiny")


@pytest.fixture
def buffer(tmp_path, mapgym):
    space = MapSpace(catalog.workload(TASK[0]), catalog.accelerator(TASK[1]))
    mapping = space.sample(np.random.default_rng(0), 1)[0]
    (tmp_path / "mapping.yaml").write_text(yaml.safe_dump(mapping.to_dict()))
    path = tmp_path / "layers.buffer"
    status, out, error = mapgym("buffer", "add", path, *TASK, tmp_path / "mapping.yaml")
    assert (status, error) == (0, "")
    assert out.startswith(f"Entry 0 of {path}: toy/tiny_gemm on tiny, edp ")
    return path


def test_entries_are_listed_and_shown(buffer, mapgym):
    status, out, _ = mapgym("buffer", "list", buffer)
    assert status == 0
    assert "1 entries" in out
    assert "toy/tiny_gemm" in out
    rows = json.loads(mapgym("buffer", "list", buffer, "--json")[1])
    assert rows["entries"][0]["workload"] == TASK[0]
    assert rows["damaged_lines"] == []
    assert "multiply-accumulate" in mapgym("buffer", "show", buffer, 0)[1]
    shown = json.loads(mapgym("buffer", "show", buffer, 0, "--json")[1])
    assert shown["mapping"]["levels"]
    assert shown["value"] == rows["entries"][0]["value"]


def test_damage_is_reported_and_moved_aside(buffer, mapgym):
    connection = sqlite3.connect(buffer)
    connection.execute("UPDATE entries SET value = 1.0")
    connection.commit()
    connection.close()
    status, out, error = mapgym("buffer", "list", buffer)
    assert status == 0
    assert "0 entries" in out
    assert "1 damaged lines" in error
    assert "the first is row 1 of entries; see: mapgym buffer verify" in error
    (damage,) = json.loads(mapgym("buffer", "list", buffer, "--json")[1])["damaged_lines"]
    assert (damage["line"], damage["table"]) == (1, "entries")
    status, out, _ = mapgym("buffer", "verify", buffer)
    assert status == 1
    assert "row 1 of entries: the checksum does not fit" in out
    status, out, _ = mapgym("buffer", "verify", buffer, "--repair")
    assert status == 0
    assert f"What was damaged is now in {buffer}.damaged." in out
    assert json.loads((buffer.parent / "layers.buffer.damaged").read_text())["line"] == 1
    assert mapgym("buffer", "verify", buffer)[:2] == (0, "0 entries, 0 damaged lines, 0 wrong values\n")
    status, _, error = mapgym("buffer", "show", buffer, 0)
    assert status == 2
    assert "has no entry 0; it has none at all" in one_sentence(error)


def test_damage_of_a_text_file_is_reported_and_moved_aside(buffer, mapgym):
    buffer.write_bytes((DATA / "replay_buffer_of_version_1.txt").read_bytes() + b"half a li")
    status, out, error = mapgym("buffer", "list", buffer)
    assert status == 0
    assert "2 entries" in out
    assert "1 damaged lines" in error
    status, out, _ = mapgym("buffer", "verify", buffer)
    assert status == 1
    assert "line 6: the checksum does not fit" in out
    assert mapgym("buffer", "verify", buffer, "--repair")[0] == 0
    assert (buffer.parent / "layers.buffer.damaged").read_text() == "half a li\n"
    assert mapgym("buffer", "verify", buffer)[:2] == (0, "2 entries, 0 damaged lines, 0 wrong values\n")


def test_without_locks(buffer, mapgym, monkeypatch):
    # The option sets it; this sees to it that it is not set afterwards.
    monkeypatch.setenv("MAPGYM_NO_LOCKS", "0")
    other = sqlite3.connect(buffer, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    arguments = ("buffer", "add", "--no-locks", buffer, *TASK, buffer.parent / "mapping.yaml")
    assert mapgym(*arguments)[0] == 0
    other.close()
    assert "2 entries" in mapgym("buffer", "list", "--no-locks", buffer)[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "nothing.buffer"], "there is no replay buffer 'nothing.buffer'"),
        (["add", "new.buffer", "toy/tiny_gem", "tiny", "mapping.yaml"], "did you mean 'tiny_gemm'"),
        (["add", "no/folder/new.buffer", *TASK, "mapping.yaml"], "cannot write"),
    ],
)
def test_mistakes_are_answered(buffer, mapgym, monkeypatch, arguments, message):
    monkeypatch.chdir(buffer.parent)
    status, out, error = mapgym("buffer", *arguments)
    assert (status, out) == (2, "")
    assert message in one_sentence(error)


def test_an_entry_that_is_not_there(buffer, mapgym):
    status, _, error = mapgym("buffer", "show", buffer, 7)
    assert status == 2
    assert "has no entry 7; give a number from 0 to 0" in one_sentence(error)
