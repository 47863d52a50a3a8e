"""Replay buffers of version 1, text files, are read and become databases when something is added."""

from __future__ import annotations

import fcntl
import re
import sqlite3
import subprocess
import sys
import textwrap

import pytest

from buffer_entries import MACHINE, entry, everything, names, sizes
from mapgym.errors import SpecificationError
from mapgym.spec.rules import RULES_BEFORE_NAMES
from mapgym.warmstart import ReplayBuffer, buffer_answers
from places import DATA, SUPPORT

OLD = DATA / "replay_buffer_of_version_1.txt"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "layers.buffer"
    path.write_bytes(OLD.read_bytes())
    return path


def is_text(path) -> bool:
    return path.read_bytes().startswith(b"mapgym replay buffer\t1\n")


def test_it_is_read_as_it_is_but_for_names_that_nothing_may_have_any_more(path):
    buffer, machine = ReplayBuffer(path), MACHINE.counted_by(RULES_BEFORE_NAMES)
    assert [(e.workload.name, e.workload.bounds, e.accelerator, e.objective, e.value) for e in buffer] == [
        ("a\\tb", (1, 2, 2, 2), machine, "edp", 39281.608040201005),
        ("fc", (1, 2, 4, 2), machine, "edp", 170054.83417085427),
    ]
    assert not buffer.damaged
    assert path.read_bytes() == OLD.read_bytes()


def test_the_first_addition_converts_it(path):
    old = ReplayBuffer(path)
    before, digest = everything(old), old.digest
    old.extend([entry(7)])
    again = ReplayBuffer(path)
    assert not is_text(path)
    assert everything(again) == everything(old)
    assert everything(again)[:2] == before
    assert sizes(again) == [2, 2, 7]
    assert names(path.parent) == {path.name}
    # Experiments that were begun with the text file go on with the database of the same entries.
    path.write_bytes(OLD.read_bytes())
    assert ReplayBuffer(path).repair() is None
    assert not is_text(path)
    assert ReplayBuffer(path).digest == digest


def test_damaged_lines_are_reported_and_set_aside(path):
    lines = OLD.read_bytes().split(b"\n")
    lines[3] = lines[3].replace(b"edp", b"EDP")
    path.write_bytes(b"\n".join(lines) + b"half a li")
    for holder in (ReplayBuffer(path), ReplayBuffer(path)):
        assert [damage.place for damage in holder.damaged] == ["line 4", "line 6"]
    one, other = ReplayBuffer(path), ReplayBuffer(path)
    assert one.repair() == path.with_name("layers.buffer.damaged")
    assert other.repair() is None
    assert path.with_name("layers.buffer.damaged").read_bytes() == lines[3] + b"\nhalf a li\n"
    for buffer in (one, other, ReplayBuffer(path)):
        assert [e.workload.name for e in buffer] == ["fc"]
        assert not buffer.damaged


def test_an_addition_sets_damaged_lines_aside(path):
    with path.open("ab") as file:
        file.write(b"cos\nsystem\n(S'false'\ntR.\n")
    buffer = ReplayBuffer(path)
    assert (len(buffer), len(buffer.damaged)) == (2, 4)
    buffer.extend([entry(7)])
    assert (len(buffer), buffer.damaged) == (3, [])
    assert path.with_name("layers.buffer.damaged").read_bytes() == b"cos\nsystem\n(S'false'\ntR.\n"


def test_every_cut_leaves_the_complete_entries(path):
    data = OLD.read_bytes()
    ends = [match.end() for match in re.finditer(rb"\n", data)]
    for cut in [*range(0, len(data), 211), *(end - 1 for end in ends), *ends]:
        path.write_bytes(data[:cut])
        buffer = ReplayBuffer(path)
        # The header, a structure and an accelerator come first. A line without its end is complete if all of it is
        # there.
        complete = sum(end <= cut for end in ends) + (cut + 1 in ends)
        assert len(buffer) == max(0, complete - 3)
        buffer.extend([entry(7)])
        assert sizes(ReplayBuffer(path)) == [*[2] * len(buffer), 7][-len(buffer) :]
        for file in path.parent.iterdir():
            file.unlink()


def test_entries_without_their_definition_are_damage(path):
    lines = OLD.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], *lines[2:]]))
    buffer = ReplayBuffer(path)
    assert len(buffer) == 0
    assert {damage.why for damage in buffer.damaged} == {"it cannot be read: what it refers to has no good definition"}


def test_other_files_and_versions_are_refused(path):
    path.write_bytes(OLD.read_bytes().replace(b"buffer\t1", b"buffer\t9", 1))
    with pytest.raises(SpecificationError, match="of version '9', which is not known here"):
        ReplayBuffer(path)
    path.write_text("hello\nworld\n")
    with pytest.raises(SpecificationError, match="is not a replay buffer"):
        ReplayBuffer(path)
    buffer = ReplayBuffer(path.with_name("new"))
    path.rename(path.with_name("new"))
    with pytest.raises(SpecificationError, match="is not a replay buffer"):
        buffer.extend([entry(7)])
    path = path.with_name("new")
    assert path.read_text() == "hello\nworld\n"


def test_it_is_converted_only_once(path):
    code = textwrap.dedent("""
        import sys
        sys.path.insert(0, {tests!r})
        from buffer_entries import ReplayBuffer, entry
        buffer = ReplayBuffer({path!r})
        print("ready", flush=True)
        sys.stdin.readline()
        buffer.extend([entry({m})])
    """)
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", code.format(tests=str(SUPPORT), path=str(path), m=m)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for m in (5, 6, 7)
    ]
    for writer in writers:
        writer.stdout.readline()
    for writer in writers:
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=120)
        assert writer.returncode == 0
    found = sizes(ReplayBuffer(path))
    assert found[:2] == [2, 2]
    assert sorted(found[2:]) == [5, 6, 7]
    assert names(path.parent) == {path.name}


def test_while_another_one_writes_it(path, monkeypatch):
    monkeypatch.setattr(buffer_answers, "PATIENCE_SECONDS", 0)
    buffer = ReplayBuffer(path)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(SpecificationError, match="others are using it; nothing was added; wait until"):
            buffer.extend([entry(7)])
        assert is_text(path)
        monkeypatch.setenv("MAPGYM_NO_LOCKS", "1")
        buffer.extend([entry(7)])
    assert len(ReplayBuffer(path)) == 3


def test_without_locks_none_is_asked_for(path, monkeypatch):
    monkeypatch.setenv("MAPGYM_NO_LOCKS", "1")
    connect, addresses = sqlite3.connect, []

    def noting(address, *arguments, **options):
        addresses.append(address)
        return connect(address, *arguments, **options)

    monkeypatch.setattr(sqlite3, "connect", noting)
    monkeypatch.setattr(buffer_answers, "fcntl", None)
    ReplayBuffer(path).extend([entry(7)])
    assert len(ReplayBuffer(path)) == 3
    assert all("nolock=1" in str(address) for address in addresses)


def test_what_a_killed_conversion_left_is_removed(path):
    path.with_name(".layers.buffer.new").write_bytes(b"half")
    ReplayBuffer(path).extend([entry(7)])
    assert names(path.parent) == {path.name}
