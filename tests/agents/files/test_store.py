"""The one store of work that can be interrupted and continued."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from mapgym.agents.files.store import Store, Work
from mapgym.errors import SpecificationError


@pytest.fixture
def make():
    """Makes work that keeps a number as text; ``make.done`` lists what was done."""
    done = []

    def work(number, *, earlier=None):
        """Its result is a number; what is ``earlier`` in a file is that of other settings."""

        def read(path):
            found = int(path.read_text())
            return None if found == earlier else found

        def compute():
            done.append(number)
            return number

        return Work(f"numbers/{number}.txt", read, compute, lambda path, found: path.write_text(str(found)))

    work.done = done
    return work


def test_what_is_there_is_not_done_again(make, tmp_path):
    told = []
    for was_there in (False, True):
        store = Store(tmp_path)
        assert store.do_all([1, 2], make, lambda *finished: told.append(finished)) == [1, 2]
        assert told[-2:] == [(1, 1, was_there), (2, 2, was_there)]
    assert make.done == [1, 2]


def test_what_is_of_other_settings_is_done_again(make, tmp_path):
    with (store := Store(tmp_path)).opened():
        assert store.do(make(1)) == (1, False)
        assert store.do(make(1, earlier=1)) == (1, False)
    assert make.done == [1, 1]


@pytest.mark.parametrize("set_aside", [False, True])
def test_a_file_that_cannot_be_read_is_told_and_made_again(make, tmp_path, set_aside):
    told, path = [], tmp_path / "numbers" / "1.txt"
    path.parent.mkdir()
    path.write_text("one")
    with (store := Store(tmp_path, told.append, set_aside=set_aside)).opened():
        assert store.do(make(1)) == (1, False)
    aside = path.with_name("1.txt.damaged")
    assert told == [aside if set_aside else path]
    assert aside.exists() == set_aside
    assert path.read_text() == "1"


def test_a_mistake_of_the_user_is_no_damage(tmp_path):
    def refuse(path):
        raise SpecificationError("of another experiment; give another folder")

    told = []
    with pytest.raises(SpecificationError, match="another experiment"):
        Store(tmp_path, told.append).read("file", refuse)
    assert told == []


def test_work_of_another_process_is_left_to_it(make, tmp_path):
    code = """
        import sys
        from mapgym.agents.files.store import Store
        store = Store(sys.argv[1])
        with store.opened(), store.lock("numbers/1.txt") as is_ours:
            print(is_ours, flush=True)
            sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "True\n"
        with (store := Store(tmp_path)).opened():
            assert store.do(make(1)) is None
            assert store.do(make(2)) == (2, False)
            other.communicate()
            assert store.do(make(1), wait=True) == (1, False)
