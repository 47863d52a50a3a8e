"""Files are complete or absent, whoever dies, fills the disk or begins at the same time; damage is noticed."""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given, settings, strategies as st

from mapgym.errors import SpecificationError
from mapgym.evaluation.best_known import BestKnown, all_best_known, read_file, to_text, write_file
from mapgym.spec import catalog
from mapgym.system import files
from mapgym.system.checksums import UNSEALED, is_whole, seal
from mapgym.system.file_names import file_name
from mapgym.system.files import (
    TEMPORARY_PREFIX,
    check_output_file,
    prepare_output_folder,
    read_json,
    replacing,
    write_bytes,
    write_json,
    write_text,
)
from mapgym.system.locks import NO_LOCKS, FolderLocks, alone_with


def start(code, *arguments):
    """Runs Python in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


class TestWriting:
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

    def test_what_does_not_fit_is_an_error_and_leaves_the_old_file(self, tmp_path):
        code = (
            "import resource, sys\nfrom pathlib import Path\nfrom mapgym.errors import SpecificationError\n"
            "from mapgym.system.files import write_bytes\nresource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
            "path = Path(sys.argv[1])\nwrite_bytes(path, b'a' * 10_000)\n"
            "try:\n    write_bytes(path, b'b' * 10_001)\nexcept SpecificationError as error:\n    print(error)\n"
        )
        with start(code, tmp_path / "file") as process:
            text = process.communicate()[0]
        assert "file' (file too large); raise the limit of file sizes (ulimit -f), then give the same" in text
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"a" * 10_000]

    def test_a_short_write_is_an_error(self, tmp_path, monkeypatch):
        write_text(tmp_path / "file", "old")
        whole = Path.write_bytes
        monkeypatch.setattr(Path, "write_bytes", lambda self, data: whole(self, data[:-1]))
        with pytest.raises(SpecificationError, match=r"cannot write .*file' \(no space left on device\); free some"):
            write_bytes(tmp_path / "file", b"new")
        assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]

    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO, errno.EACCES])
    def test_every_error_of_the_system_names_the_file(self, tmp_path, monkeypatch, code):
        def fail(*_):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(SpecificationError, match=rf"cannot write .*file' \({os.strerror(code).lower()}\); \w+"):
            write_text(tmp_path / "file", "new")
        assert not list(tmp_path.iterdir())

    def test_it_is_on_the_disk_before_it_takes_its_place(self, tmp_path, monkeypatch):
        done = []
        flush, take = os.fsync, Path.replace
        monkeypatch.setattr(os, "fsync", lambda file: done.append(os.fstat(file).st_size) or flush(file))
        monkeypatch.setattr(Path, "replace", lambda self, to: done.append("renamed") or take(self, to))
        write_text(tmp_path / "file", "12345")
        # The content, the name, and then the folder that has the name.
        assert done[:2] == [5, "renamed"]
        assert len(done) == 3

    def test_nothing_is_written_through_a_link(self, tmp_path):
        secret = tmp_path / "secret"
        for target in (secret, tmp_path / "missing"):
            secret.write_text("mine")
            link = tmp_path / "link"
            link.symlink_to(target)
            for write in (check_output_file, lambda path: write_text(path, "text")):
                with pytest.raises(SpecificationError, match="is a link; remove it, or name the file that it leads to"):
                    write(link)
            assert (secret.read_text(), (tmp_path / "missing").exists()) == ("mine", False)
            link.unlink()

    def test_folders_may_be_links(self, tmp_path):
        (tmp_path / "folder").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "folder")
        prepare_output_folder(tmp_path / "link")
        write_text(tmp_path / "link" / "file", "text")
        assert (tmp_path / "folder" / "file").read_text() == "text"

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
        with pytest.raises(SpecificationError, match="name too long"):
            check_output_file(tmp_path / ("a" * 300))
        check_output_file(tmp_path / "a.yaml", inputs=("toy/tiny_gemm", None, tmp_path / "b.yaml"))
        assert not list(tmp_path.iterdir())

    def test_what_is_read_is_not_overwritten(self, tmp_path):
        (tmp_path / "a.yaml").write_text("")
        os.link(tmp_path / "a.yaml", tmp_path / "b.yaml")
        for named in (tmp_path / "a.yaml", f"{tmp_path}/a.yaml:conv1", f"{tmp_path}/b.yaml"):
            with pytest.raises(SpecificationError, match=r"a\.yaml', which is read, too; give another file"):
                check_output_file(tmp_path / "a.yaml", inputs=("toy/tiny_gemm", named))


class TestLeftovers:
    WRITE = (
        "import sys\nfrom pathlib import Path\nfrom mapgym.system.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as path:\n"
        "    print(path.name, flush=True)\n    input()\n    path.write_text('x')\n"
    )

    def test_what_a_living_process_writes_stays_and_what_a_dead_one_wrote_goes(self, tmp_path):
        (tmp_path / "below").mkdir()
        with start(self.WRITE, tmp_path / "below" / "a") as living, start(self.WRITE, tmp_path / "b") as dead:
            names = [living.stdout.readline().strip(), dead.stdout.readline().strip()]
            prepare_output_folder(tmp_path)
            assert [(tmp_path / "below" / names[0]).exists(), (tmp_path / names[1]).exists()] == [True, True]
            dead.kill()
            dead.wait()
            prepare_output_folder(tmp_path)
            assert [(tmp_path / "below" / names[0]).exists(), (tmp_path / names[1]).exists()] == [True, False]
            living.communicate("\n")
            assert living.returncode == 0
        assert (tmp_path / "below" / "a").read_text() == "x"

    def test_without_locks_they_go_only_if_nobody_else_is_there(self, tmp_path, monkeypatch):
        def refuse(*_):
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr("fcntl.flock", refuse)
        leftover = tmp_path / f"{TEMPORARY_PREFIX}x"
        leftover.write_text("")
        prepare_output_folder(tmp_path)
        assert leftover.exists()
        monkeypatch.setenv(NO_LOCKS, "1")
        prepare_output_folder(tmp_path)
        assert not leftover.exists()

    def test_they_go_where_a_single_file_is_written_too(self, tmp_path):
        (tmp_path / f"{TEMPORARY_PREFIX}x").write_text("")
        (tmp_path / "below").mkdir()
        (tmp_path / "below" / f"{TEMPORARY_PREFIX}x").write_text("")
        check_output_file(tmp_path / "best.yaml")
        assert [path.name for path in tmp_path.iterdir()] == ["below"]
        assert len(list((tmp_path / "below").iterdir())) == 1

    def test_many_processes_that_begin_at_once_do_not_disturb_each_other(self, tmp_path):
        code = (
            "import sys\nfrom pathlib import Path\n"
            "from mapgym.system.files import prepare_output_folder, read_json, write_json\n"
            "print(flush=True)\ninput()\n"
            "for i in range(60):\n    folder = Path(sys.argv[1]) / str(i)\n    prepare_output_folder(folder)\n"
            "    write_json(folder / 'a.json', {'i': i})\n    assert read_json(folder / 'a.json') == {'i': i}\n"
        )
        processes = [start(code, tmp_path) for _ in range(4)]
        for process in processes:
            process.stdout.readline()
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        for process in processes:
            process.communicate()
        assert [process.returncode for process in processes] == [0] * 4
        assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"a.json"}


class TestChecksums:
    @given(st.binary(), st.binary(), st.data())
    def test_what_is_sealed_is_whole_and_any_other_bit_is_noticed(self, before, after, data):
        sealed = seal(before + UNSEALED.encode() + after.replace(b"sha256:", b""))
        assert is_whole(sealed) is True
        position = data.draw(st.integers(0, 8 * len(sealed) - 1))
        flipped = bytearray(sealed)
        flipped[position // 8] ^= 1 << position % 8
        # A damaged mark is no mark; what holds the checksum says that it must be there.
        assert is_whole(bytes(flipped)) is not True

    def test_without_a_checksum_nothing_is_known(self):
        assert is_whole(b"") is is_whole(b"text") is None
        assert is_whole(b"sha256:") is is_whole(b"sha256:" + b"0" * 63) is False

    def test_json_survives(self, tmp_path):
        data = {"a": [1, 2.5, None, "\u5377"], "b": {"c": True}}
        write_json(tmp_path / "a.json", data)
        assert read_json(tmp_path / "a.json") == data
        assert json.loads((tmp_path / "a.json").read_text())["a"] == data["a"]

    def test_json_has_no_infinity(self, tmp_path):
        with pytest.raises(ValueError, match="Out of range"):
            write_json(tmp_path / "a.json", {"x": math.inf})
        assert not list(tmp_path.iterdir())

    def test_every_flipped_bit_and_every_lost_end_of_json_is_noticed(self, tmp_path):
        path = tmp_path / "a.json"
        write_json(path, {"value": 12.5, "names": ["a", "b"]})
        data = path.read_bytes()
        for position in range(8 * len(data)):
            flipped = bytearray(data)
            flipped[position // 8] ^= 1 << position % 8
            path.write_bytes(flipped)
            with pytest.raises(ValueError):  # noqa: PT011 - the words may be those of the parser
                read_json(path, unsealed=True)
        # Without the last line break nothing is missing but that.
        for length in range(len(data)):
            path.write_bytes(data[:length])
            with pytest.raises(ValueError):  # noqa: PT011
                read_json(path, unsealed=True)

    @pytest.mark.parametrize("content", ["", "[]", "[" * 100_000, "1" * 5000, "\0", "\ud800"])
    def test_foreign_json_is_a_value_error(self, tmp_path, content):
        (tmp_path / "a.json").write_bytes(content.encode("utf-8", "surrogatepass"))
        with pytest.raises(ValueError):  # noqa: PT011
            read_json(tmp_path / "a.json", unsealed=True)

    def test_the_first_json_files_had_no_checksum(self, tmp_path):
        (tmp_path / "a.json").write_text('{"a": 1}')
        assert read_json(tmp_path / "a.json", unsealed=True) == {"a": 1}
        with pytest.raises(ValueError, match="no checksum"):
            read_json(tmp_path / "a.json")


class TestBestKnownFile:
    @pytest.fixture
    def entries(self) -> list[BestKnown]:
        return all_best_known()[:2]

    def test_flipped_bits_and_lost_ends_are_noticed(self, tmp_path, entries):
        path = tmp_path / "best.yaml"
        write_file(path, entries)
        assert read_file(path) == entries
        data = path.read_bytes()
        for position in range(0, len(data), 3):
            flipped = bytearray(data)
            flipped[position] ^= 1 << position % 8
            path.write_bytes(flipped)
            with pytest.raises(SpecificationError, match="is damaged, or is no file of best known mappings"):
                read_file(path)
        for length in range(0, len(data), 31):
            path.write_bytes(data[:length])
            with pytest.raises(SpecificationError, match="is damaged, or is no file of best known mappings"):
                read_file(path)

    def test_one_without_a_checksum_is_read(self, tmp_path, entries):
        (tmp_path / "best.yaml").write_text(to_text(entries))
        assert read_file(tmp_path / "best.yaml") == entries

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("\tcertified\t", "\tcertified\tx"),
            ("\tcertified\t", "\tsure\t"),
            ("\tcertified\t", "\tcertified\t-"),
            ("\tcertified\t", "\t"),
            ("\tedp\t", "\tedf\t"),
            ("\ttile,", "\ttyle,"),
            ("\t-\ttimeloop-2025", "\t-\ttimeloop-1"),
            ("\t-\ttimeloop-2025", "\t+\ttimeloop-2025"),
            ("# command ", "# commands "),
            ("[[", "[[["),
            ("[[", "[[7,"),
            ('{"', '7,{"'),
            ("[[", "[" * 50_000),
        ],
    )
    def test_an_altered_entry_is_refused(self, tmp_path, entries, old, new):
        text = to_text(entries)
        assert old in text
        (tmp_path / "best.yaml").write_text(text.replace(old, new, 1))
        with pytest.raises(SpecificationError, match="is damaged, or is no file of best known mappings") as refused:
            read_file(tmp_path / "best.yaml")
        assert len(str(refused.value)) < 1000


def as_the_file_system_sees_it(name: str) -> str:
    """Equal for names that some file system takes for the same one."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold().upper()).casefold()


TEXT = st.text(st.one_of(st.characters(), st.sampled_from("ab-_/. 1")), max_size=40)


class TestNames:
    @given(TEXT, TEXT, st.booleans())
    @example("fc 1", "fc-1", False)
    @example("a/b", "a-b", True)
    @example("CON", "con", False)
    @example("a" * 250, "a" * 251, False)
    @example("\u00e9", "e\u0301", False)
    @example("\ufb01", "fi", False)
    @example("a.", "a", False)
    @example("", "unnamed", False)
    @example("b", file_name("B"), False)
    @example("B", file_name("B"), False)
    def test_different_texts_get_different_names(self, one, other, slash):
        names = {as_the_file_system_sees_it(file_name(text, slash=slash)) for text in (one, other)}
        assert len(names) == len({one, other})

    @given(st.lists(TEXT, min_size=1, max_size=3), st.lists(TEXT, min_size=1, max_size=3))
    @example(["a__b", "c"], ["a", "b__c"])
    @example(["a_", "b"], ["a", "_b"])
    def test_several_texts_too(self, one, other):
        assert (file_name(*one) == file_name(*other)) == (one == other)

    @given(TEXT, st.booleans())
    @settings(max_examples=500)
    @example("con.txt", False)
    @example("../../etc/passwd", True)
    @example(".unfinished-", False)
    @example("\u5377\u79ef" * 100, False)
    def test_every_file_system_takes_them(self, text, slash):
        name = file_name(text, slash=slash)
        assert 0 < len(name.encode()) <= 180
        assert not set(name) & set('<>:"/\\|?* \0')
        assert name.isprintable()
        assert name[0] not in ".-"
        assert name[-1] not in ". "
        assert name.partition(".")[0] not in {"con", "prn", "aux", "nul", "com1", "lpt9"}
        assert name == name.casefold() == unicodedata.normalize("NFC", name)

    @pytest.mark.parametrize(
        ("texts", "slash", "name"),
        [
            (("resnet18/conv1", "accel_b"), True, "resnet18-conv1__accel_b"),
            (("maskable-ppo",), False, "maskable-ppo"),
            (("con",), False, "con-cd47747f888a75de"),
            (("\u5377\u79ef 1",), False, "\u5377\u79ef-1-"),
            (("\u0421\u0432\u0451\u0440\u0442\u043a\u0430",), False, "\u0441\u0432\u0451\u0440\u0442\u043a\u0430-"),
            (("Layer (1) = x",), False, "layer-1-x-"),
        ],
    )
    def test_what_can_be_read_stays_readable(self, texts, slash, name):
        found = file_name(*texts, slash=slash)
        assert found.startswith(name)
        assert found == name or len(found) <= len(name) + 16

    def test_the_catalog_needs_no_digests(self):
        for network in catalog.network_names():
            for layer in catalog.network(network).layers:
                assert file_name(layer.workload.name, slash=True) == layer.workload.name.replace("/", "-")
        for accelerator in catalog.accelerator_names():
            assert file_name(accelerator) == accelerator

    def test_an_old_locale_gets_what_it_can_write(self, monkeypatch):
        monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
        assert file_name("\u5377\u79ef 1").startswith("1-")
        assert file_name("\u5377\u79ef").isascii()


class TestLocks:
    WORK = (
        "import sys\nfrom pathlib import Path\nfrom mapgym.system.locks import FolderLocks\n"
        "with FolderLocks(Path(sys.argv[1])) as locks, locks.work('a') as is_ours:\n"
        "    print(is_ours, flush=True)\n    input()\n"
    )

    def test_work_is_refused_while_another_process_is_at_it(self, tmp_path):
        waited = []
        with FolderLocks(tmp_path) as locks, start(self.WORK, tmp_path) as other:
            assert other.stdout.readline() == "True\n"
            with locks.work("a") as first, locks.work("b") as second:
                assert (first, second) == (False, True)

            def wait():
                waited.append(1)
                other.kill()
                other.wait()

            # Nothing is left of what a killed process has locked.
            with locks.work("a", waiting=wait) as is_ours:
                assert is_ours
        assert waited == [1]

    def test_a_file_system_without_locks_is_refused_with_a_way_out(self, tmp_path, monkeypatch):
        def refuse(*_):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

        monkeypatch.setattr("fcntl.lockf", refuse)
        with (
            FolderLocks(tmp_path) as locks,
            pytest.raises(SpecificationError, match=r"cannot lock files .* give --no-locks"),
            locks.work("a"),
        ):
            pass
        monkeypatch.setenv(NO_LOCKS, "1")
        with FolderLocks(tmp_path) as locks, locks.work("a") as is_ours:
            assert is_ours

    def test_two_processes_that_change_one_file_lose_nothing(self, tmp_path):
        code = (
            "import sys\nfrom pathlib import Path\nfrom mapgym.system.files import write_text\n"
            "from mapgym.system.locks import alone_with\npath = Path(sys.argv[1])\nprint(flush=True)\ninput()\n"
            "for _ in range(30):\n    with alone_with(path):\n"
            "        write_text(path, str(int(path.read_text()) + 1))\n"
        )
        path = tmp_path / "count"
        path.write_text("0")
        with start(code, path) as one, start(code, path) as other:
            for process in (one, other):
                process.stdout.readline()
            for process in (one, other):
                process.stdin.write("\n")
                process.stdin.flush()
            for process in (one, other):
                process.communicate()
        assert path.read_text() == "60"

    def test_a_folder_that_cannot_be_locked_does_not_stop_anyone(self, tmp_path, monkeypatch):
        def refuse(*_):
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr("fcntl.flock", refuse)
        with alone_with(tmp_path / "file"):
            files.write_text(tmp_path / "file", "x")
        assert (tmp_path / "file").read_text() == "x"
