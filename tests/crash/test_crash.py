"""The harness that kills commands, on two quick ones; ``make crash-test`` goes through all of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("torch")

from crash_contents import contents, differences, leftovers

HARNESS = Path(__file__).parent / "crash_harness.py"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_killed_commands_end_as_undisturbed_ones():
    arguments = ("--kills", "3", "--kills-only", "--seed", "1", "--case", "tune", "--case", "buffer add")
    done = subprocess.run([sys.executable, HARNESS, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 of 3 kills" in done.stdout
    assert "0 commands failed" in done.stdout


def test_figures_are_compared_and_times_are_not(tmp_path):
    (tmp_path / "cells").mkdir()
    (tmp_path / "table.csv").write_text("layer,value,seconds\na,3,0.5\n")
    (tmp_path / "cells" / "a.json").write_text(
        '{"result": {"best": [1, 2], "cpu": 3, "evaluations": [[8, 0.5, 1.25]]}}'
    )
    (tmp_path / "table.md").write_text("Found in 3.5 s.\n\n|layer|time|\n|---|---|\n|a|0.5|\n")
    before = contents(tmp_path)
    (tmp_path / "table.csv").write_text("layer,value,seconds\na,4,0.6\n")
    (tmp_path / "cells" / "a.json").write_text(
        '{"result": {"best": [1, 3], "cpu": 4, "evaluations": [[8, 0.7, 1.25]]}}'
    )
    (tmp_path / "table.md").write_text("Found in 4.5 s.\n\n|layer|time|\n|---|---|\n|b|0.7|\n")
    (tmp_path / "new.png").write_bytes(b"half a picture")
    assert differences(before, contents(tmp_path)) == {
        "table.csv:0/value",
        "cells/a.json/result/best/1",
        "table.md:4:layer",
        "new.png",
    }


def test_what_killed_processes_leave_is_found(tmp_path):
    for name in (".unfinished-abc", "x.buffer-journal", ".x.buffer.new", "table.csv", ".locks"):
        (tmp_path / name).touch()
    assert set(leftovers(tmp_path)) == {".unfinished-abc", "x.buffer-journal", ".x.buffer.new"}
