"""The file of a replay buffer: what was added is there, whatever becomes of writers, and damage is not believed."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from buffer_entries import MACHINE, entry, everything, names, sizes
from mapgym.errors import SpecificationError
from mapgym.spec import catalog
from mapgym.warmstart import ReplayBuffer, buffer_answers, buffer_file
from places import SUPPORT


@pytest.fixture
def path(tmp_path):
    return tmp_path / "layers.buffer"


ENTRIES = st.builds(
    entry,
    st.integers(1, 100),
    st.floats(min_value=0, allow_infinity=False),
    st.text(st.characters(categories=("L", "N", "P", "S")), max_size=20),
    st.sampled_from([MACHINE, replace(MACHINE, peer_links=False)]),
)


@settings(max_examples=20)
@given(st.lists(st.lists(ENTRIES, max_size=4), min_size=1, max_size=4), st.booleans())
def test_what_is_added_is_read_back(tmp_path_factory, additions, hold):
    folder = tmp_path_factory.mktemp("buffers")
    buffer, memory = ReplayBuffer(folder / "layers.buffer"), ReplayBuffer()
    for entries in additions:
        if not hold:
            buffer = ReplayBuffer(folder / "layers.buffer")
        buffer.extend(entries)
        memory.extend(entries)
    again = ReplayBuffer(folder / "layers.buffer")
    assert everything(again) == everything(buffer) == everything(memory)
    assert again.digest == buffer.digest == memory.digest
    assert not again.damaged
    assert names(folder) <= {"layers.buffer"}


def test_the_digest_is_that_of_the_entries_not_of_the_bytes(path):
    one, other = ReplayBuffer(path), ReplayBuffer(path.with_name("other"))
    one.extend([entry(2), entry(3)])
    other.extend([entry(2)])
    assert one.digest != other.digest
    other.extend([entry(3)])
    assert path.read_bytes() != other.path.read_bytes()
    assert one.digest == other.digest
    assert one.digest != ReplayBuffer().digest


def test_an_addition_takes_in_what_others_have_added(path):
    one, other = ReplayBuffer(path), ReplayBuffer(path)
    one.extend([entry(2)])
    other.extend([entry(3)])
    one.extend([entry(4), entry(5)])
    assert (sizes(one), sizes(other)) == ([2, 3, 4, 5], [2, 3])
    assert sizes(ReplayBuffer(path)) == [2, 3, 4, 5]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_could_not_be_read_back_is_refused(path, value):
    buffer = ReplayBuffer(path)
    with pytest.raises(SpecificationError, match="give a finite number"):
        buffer.extend([entry(2), entry(3, value)])
    with pytest.raises(SpecificationError, match="has a mapping of another task"):
        buffer.extend([replace(entry(2), accelerator=catalog.accelerator("accel_b"))])
    assert (len(buffer), path.exists()) == (0, False)


class TestHeldFile:
    def test_removed(self, path):
        buffer = ReplayBuffer(path)
        buffer.extend([entry(2), entry(3)])
        path.unlink()
        buffer.extend([entry(4)])
        assert sizes(buffer) == sizes(ReplayBuffer(path)) == [4]

    def test_replaced(self, path):
        buffer = ReplayBuffer(path)
        buffer.extend([entry(2), entry(3)])
        ReplayBuffer(path.with_name("other")).extend([entry(8), entry(9)])
        path.with_name("other").replace(path)
        buffer.extend([entry(4)])
        assert sizes(buffer) == sizes(ReplayBuffer(path)) == [8, 9, 4]

    def test_removed_while_it_is_written(self, path, monkeypatch):
        buffer = ReplayBuffer(path)
        buffer.extend([entry(2)])
        fetch, calls = buffer_file.fetch, []

        def removing(*arguments, **options):
            if not calls:
                path.unlink()
            calls.append(1)
            return fetch(*arguments, **options)

        monkeypatch.setattr(buffer_file, "fetch", removing)
        buffer.extend([entry(3)])
        assert len(calls) == 2
        assert sizes(buffer) == sizes(ReplayBuffer(path)) == [3]

    def test_its_folder_removed(self, path):
        path = path.parent / "folder" / path.name
        buffer = ReplayBuffer(path)
        buffer.extend([entry(2)])
        shutil.rmtree(path.parent)
        buffer.extend([entry(3)])
        assert sizes(ReplayBuffer(path)) == [3]


WRITER = textwrap.dedent("""
    import sys
    sys.path.insert(0, {tests!r})
    from buffer_entries import ReplayBuffer, entry
    buffer, number = ReplayBuffer({path!r}), {first}
    while True:
        buffer.extend([entry(2, float(number + k)) for k in range({each})])
        number += {each}
        print(number, flush=True)
""")


@pytest.mark.parametrize(("writers", "each"), [(1, 1), (1, 20), (2, 1), (4, 3)])
def test_killed_writers_lose_nothing_that_was_acknowledged(path, writers, each):
    running = []
    for k in range(writers):
        code = WRITER.format(path=str(path), first=k * 1_000_000, each=each, tests=str(SUPPORT))
        running.append(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True))
    acknowledged: set[float] = set()
    for k, writer in enumerate(running):
        with writer:
            for _ in range(3):
                writer.stdout.readline()
            writer.send_signal(signal.SIGKILL)
            said = [int(line) for line in writer.stdout.read().split()]
        acknowledged |= set(map(float, range(k * 1_000_000, max(said, default=k * 1_000_000 + 3 * each))))
    buffer = ReplayBuffer(path)
    values = [one.value for one in buffer]
    assert len(acknowledged) >= 3 * writers * each
    assert acknowledged <= set(values)
    assert len(values) == len(set(values))
    # All of an addition or nothing.
    assert len(values) % each == 0
    assert not buffer.damaged
    buffer.extend([entry(3)])
    assert names(path.parent) == {path.name}


class TestNoRoom:
    def test_a_limit_of_file_sizes(self, path):
        code = textwrap.dedent(f"""
            import resource, sys
            sys.path.insert(0, {str(SUPPORT)!r})
            from buffer_entries import ReplayBuffer, entry
            from mapgym.errors import SpecificationError
            resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
            buffer = ReplayBuffer({str(path)!r})
            try:
                for number in range(1000):
                    buffer.extend([entry(2, float(number))])
            except SpecificationError as error:
                print(number, len(buffer), len(ReplayBuffer({str(path)!r})), error)
        """)
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        acknowledged, held, there, sentence = said.split(maxsplit=3)
        assert int(acknowledged) == int(held) == int(there) > 5
        assert "nothing was added; make room on the disk, or raise the limit of file sizes" in sentence
        again = ReplayBuffer(path)
        assert [one.value for one in again] == [float(number) for number in range(int(acknowledged))]
        again.extend([entry(3)])
        assert len(ReplayBuffer(path)) == int(acknowledged) + 1

    def test_a_limit_below_the_first_page(self, path):
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        try:
            with pytest.raises(SpecificationError, match="nothing was added"):
                ReplayBuffer(path).extend([entry(2)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert not path.exists()

    def test_a_full_disk(self, path, monkeypatch):
        buffer = ReplayBuffer(path)
        buffer.extend([entry(2)])
        make = buffer_file._opened

        def small(*arguments, **options):
            opened = make(*arguments, **options)

            class Small:
                def __enter__(self):
                    connection = opened.__enter__()
                    connection.execute("PRAGMA max_page_count = 1")
                    return connection

                def __exit__(self, *error):
                    return opened.__exit__(*error)

            return Small()

        monkeypatch.setattr(buffer_file, "_opened", small)
        with pytest.raises(SpecificationError, match=r"\(database or disk is full\); nothing was added; make room"):
            buffer.extend([entry(3)] * 100)
        assert sizes(buffer) == sizes(ReplayBuffer(path)) == [2]


class TestOthersInTheWay:
    def test_locked_for_too_long(self, path, monkeypatch):
        buffer = ReplayBuffer(path)
        buffer.extend([entry(2)])
        monkeypatch.setattr(buffer_answers, "PATIENCE_SECONDS", 0)
        monkeypatch.setattr(buffer_file, "SLICE_SECONDS", 0.01)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(SpecificationError, match=r"cannot write .*locked.*; nothing was added; wait until"):
            buffer.extend([entry(3)])
        with pytest.raises(SpecificationError, match=r"cannot read .*locked.*; wait until"):
            ReplayBuffer(path)
        other.close()
        buffer.extend([entry(4)])
        assert sizes(buffer) == sizes(ReplayBuffer(path)) == [2, 4]

    def test_no_locks_at_all(self, path, monkeypatch):
        monkeypatch.setattr(buffer_answers, "_has_locks", lambda folder: False)
        monkeypatch.setattr(buffer_file, "SLICE_SECONDS", 0.01)
        buffer = ReplayBuffer(path)
        buffer.extend([entry(2)])
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(SpecificationError, match=r"cannot lock files; give --no-locks \(or set MAPGYM_NO_LOCKS=1"):
            buffer.extend([entry(3)])
        monkeypatch.setenv("MAPGYM_NO_LOCKS", "1")
        other.execute("ROLLBACK")
        # Others' locks are not looked at.
        other.execute("BEGIN IMMEDIATE")
        buffer.extend([entry(4)])
        other.close()
        assert sizes(buffer) == sizes(ReplayBuffer(path)) == [2, 4]

    @pytest.mark.parametrize("name", ["SQLITE_PROTOCOL", "SQLITE_IOERR_LOCK", "SQLITE_IOERR_RDLOCK"])
    def test_errors_of_locking(self, path, monkeypatch, name):
        error = sqlite3.OperationalError("locking protocol")
        error.sqlite_errorcode = getattr(sqlite3, name)

        def failing(*_):
            raise error

        monkeypatch.setattr(buffer_file, "examined", failing)
        with pytest.raises(SpecificationError, match="cannot lock files; give --no-locks"):
            ReplayBuffer(path).extend([entry(2)])

    def test_a_folder_where_the_journal_cannot_be_made(self, path):
        buffer = ReplayBuffer(path)
        buffer.extend([entry(2)])
        path.with_name(path.name + "-journal").mkdir()
        with pytest.raises(SpecificationError, match=r"cannot write .*; nothing was added; "):
            buffer.extend([entry(3)])
        assert len(buffer) == 1

    @pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everything")
    @pytest.mark.parametrize("what", ["file", "folder"])
    def test_read_only(self, path, what):
        buffer = ReplayBuffer(path)
        buffer.extend([entry(2)])
        target = path if what == "file" else path.parent
        target.chmod(0o500)
        try:
            with pytest.raises(SpecificationError, match="nothing was added"):
                buffer.extend([entry(3)])
            assert sizes(buffer) == sizes(ReplayBuffer(path)) == [2]
        finally:
            target.chmod(0o700)

    @pytest.mark.parametrize("end", ["", "-journal", "-wal", "-shm"])
    def test_no_link_is_written_through(self, path, end):
        target = path.with_name("target")
        target.write_bytes(b"")
        path.with_name(path.name + end).symlink_to(target)
        with pytest.raises(SpecificationError, match="is a link; remove it, or name the file that it leads to"):
            ReplayBuffer(path).extend([entry(2)])
        assert target.read_bytes() == b""

    def test_a_link_is_read(self, path):
        ReplayBuffer(path).extend([entry(2)])
        path.with_name("link").symlink_to(path)
        assert sizes(ReplayBuffer(path.with_name("link"))) == [2]


def edit(path, *statements: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


class TestDamage:
    def test_no_flipped_bit_is_believed(self, path):
        whole = ReplayBuffer(path)
        whole.extend([entry(m, float(m)) for m in range(2, 14)])
        good, data = everything(whole), path.read_bytes()
        rng = np.random.default_rng(0)
        noticed = 0
        # The header and the tables of each page come first, where a bit changes most.
        places = [*range(100), *rng.integers(0, len(data), 500).tolist()]
        for number, place in enumerate(places):
            damaged = bytearray(data)
            damaged[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(damaged)
            for file in path.parent.glob("*-*"):
                file.unlink()
            try:
                buffer = ReplayBuffer(path)
                found = everything(buffer)
                complete = len(found) == len(good) or bool(buffer.damaged)
                repaired = longer = found
                if number % 5 == 0:
                    repaired = everything(buffer) if buffer.repair() else found
                    buffer.extend([entry(99)])
                    longer = everything(ReplayBuffer(path))[:-1]
            except SpecificationError:
                noticed += 1
                continue
            assert [one for one in good if one in found] == found == repaired == longer
            assert complete
            noticed += len(found) < len(good)
        assert noticed > 100

    def test_an_edited_field_is_named_and_moved_aside(self, path):
        ReplayBuffer(path).extend([entry(2), entry(3), entry(4)])
        edit(path, "UPDATE entries SET value = 0.5 WHERE id = 2")
        buffer = ReplayBuffer(path)
        assert sizes(buffer) == [2, 4]
        (damage,) = buffer.damaged
        assert (damage.line, damage.place) == (2, "row 2 of entries")
        assert damage.why == "the checksum does not fit: it was cut off or edited"
        aside = buffer.repair()
        assert aside == path.with_name("layers.buffer.damaged")
        assert "\t0.5\t" in json.loads(aside.read_text())["text"]
        assert sizes(buffer) == sizes(ReplayBuffer(path)) == [2, 4]
        assert not ReplayBuffer(path).damaged
        assert buffer.repair() is None

    def test_two_holders_repair_one_after_the_other(self, path):
        ReplayBuffer(path).extend([entry(m) for m in range(2, 8)])
        edit(path, "UPDATE entries SET name = 'x' WHERE id IN (1, 2)")
        one, other = ReplayBuffer(path), ReplayBuffer(path)
        assert len(one.damaged) == len(other.damaged) == 2
        one.repair()
        one.extend([entry(8)])
        assert other.repair() is None
        assert sizes(one) == sizes(other) == sizes(ReplayBuffer(path)) == [4, 5, 6, 7, 8]

    def test_two_holders_of_a_file_whose_pages_are_damaged(self, path):
        ReplayBuffer(path).extend([entry(m) for m in range(2, 80)])
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        one, other = ReplayBuffer(path), ReplayBuffer(path)
        kept = sizes(one)
        assert 0 < len(kept) < 78
        with pytest.raises(SpecificationError, match=r"which is damaged .*nothing was added; .* verify --repair"):
            one.extend([entry(99)])
        assert one.repair().read_bytes() == data[: len(data) // 2]
        one.extend([entry(99)])
        assert other.repair() is None
        assert sizes(one) == sizes(other) == [*kept, 99]
        other.extend([entry(100)])
        assert sizes(ReplayBuffer(path)) == [*kept, 99, 100]

    def test_a_lost_definition_is_mended_by_an_entry_that_has_it(self, path):
        buffer = ReplayBuffer(path)
        buffer.extend([entry(2), entry(3)])
        edit(path, "UPDATE accelerators SET definition = replace(definition, '200.0', '100.0')")
        assert {damage.place for damage in ReplayBuffer(path).damaged} == {
            "row 1 of accelerators",
            "row 1 of entries",
            "row 2 of entries",
        }
        buffer.extend([entry(4)])
        assert sizes(ReplayBuffer(path)) == [2, 3, 4]

    @pytest.mark.parametrize(
        "statement",
        [
            "CREATE VIEW more AS SELECT * FROM entries",
            "CREATE TRIGGER more AFTER INSERT ON entries BEGIN DELETE FROM entries; END",
            "CREATE TABLE more (x)",
            "CREATE INDEX more ON entries (value)",
            "ALTER TABLE entries ADD COLUMN more",
            "DROP TABLE accelerators",
        ],
    )
    def test_other_tables_are_refused(self, path, statement):
        ReplayBuffer(path).extend([entry(2)])
        edit(path, statement)
        data = path.read_bytes()
        for action in (ReplayBuffer, lambda path: buffer_file.repair(path)):
            with pytest.raises(SpecificationError, match="whose tables were altered or damaged"):
                action(path)
        assert path.read_bytes() == data

    def test_other_databases_and_versions_are_refused(self, path):
        edit(path, "CREATE TABLE t (x)")
        with pytest.raises(SpecificationError, match="is a database of something else"):
            ReplayBuffer(path)
        path.unlink()
        ReplayBuffer(path).extend([entry(2)])
        edit(path, "PRAGMA user_version = 9")
        with pytest.raises(SpecificationError, match="of version 9, this is version 2"):
            ReplayBuffer(path)
        with pytest.raises(SpecificationError, match="is a folder"):
            ReplayBuffer(path.parent)
        with pytest.raises(SpecificationError, match="is not a file"):
            ReplayBuffer("/dev/null")
        with pytest.raises(SpecificationError, match="a path cannot be"):
            ReplayBuffer("a\0b")

    def test_an_empty_file_is_an_empty_buffer(self, path):
        path.touch()
        buffer = ReplayBuffer(path)
        assert (len(buffer), buffer.damaged) == (0, [])
        buffer.extend([entry(2)])
        assert len(ReplayBuffer(path)) == 1


class TestHostileText:
    """Rows whose checksums fit, made up to do harm."""

    def write(self, path, **fields) -> ReplayBuffer:
        ReplayBuffer(path).extend([entry(2)])
        connection = sqlite3.connect(path)
        connection.text_factory = bytes
        connection.row_factory = sqlite3.Row
        row = dict(connection.execute("SELECT * FROM entries").fetchone()) | fields
        del row["id"]
        kept = {name: value for name, value in row.items() if name != "checksum"}
        row["checksum"] = buffer_file.Row(**kept).checksum()
        columns, marks = ", ".join(row), ", ".join("?" * len(row))
        connection.execute(f"INSERT INTO entries ({columns}) VALUES ({marks})", [*row.values()])
        connection.commit()
        connection.close()
        return ReplayBuffer(path)

    @pytest.mark.parametrize(
        "fields",
        [
            {"bounds": b"[1,2,2]"},
            {"bounds": b"[1,2,2,0]"},
            {"bounds": b"[1,2,2," + b"9" * 5000 + b"]"},
            {"bounds": b"[1,2,2,36893488147419103232]"},
            {"bounds": b"1,2,2,2"},
            {"value": float("inf")},
            {"structure": b"0" * 16},
            {"objective": b"\xff"},
            {"mapping": b"\xff"},
        ],
    )
    def test_damage(self, path, fields):
        buffer = self.write(path, **fields)
        assert len(buffer) == 1
        assert [damage.line for damage in buffer.damaged] == [2]

    @pytest.mark.parametrize(
        "fields",
        [
            {"mapping": b"{"},
            {"mapping": b"[" * 100_000},
            {"mapping": b'{"levels": 3}'},
            {"name": b"7"},
            {"bounds": b"[9007199254740992,9007199254740992,2,2]"},
        ],
    )
    def test_one_sentence(self, path, fields):
        buffer = self.write(path, **fields)
        assert len(buffer) == 2
        with pytest.raises(SpecificationError, match=r"layers.buffer: entry 1 cannot be read \(.*\); leave it out"):
            buffer[1]
        assert [number for number, _ in buffer.problems()][-1] == 1

    def test_an_unknown_objective_is_a_problem(self, path):
        buffer = self.write(path, objective=b"beauty")
        assert [why for number, why in buffer.problems() if number == 1] == ["its objective 'beauty' is unknown"]
