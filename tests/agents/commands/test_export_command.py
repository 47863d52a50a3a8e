"""The command ``mapgym export``."""

from __future__ import annotations

import pytest
import yaml

from command_line import one_sentence

TASK = ("--workload", "toy/tiny_gemm", "--accelerator", "tiny")


@pytest.fixture
def mapping(mapgym, tmp_path):
    """A file with a mapping of the task."""
    path = tmp_path / "mapping.yaml"
    assert mapgym("search", "toy/tiny_gemm", "tiny", "--samples", "30", "-o", path)[0] == 0
    return path


def test_files_of_timeloop_and_what_they_lack(mapgym, mapping, tmp_path):
    status, out, error = mapgym("export", mapping, *TASK, "--to", "timeloop", "-o", tmp_path / "out")
    assert status == 0
    assert "Written to" in out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("architecture.yaml", "ERT.yaml", "problem.yaml", "mapping.yaml")
    }
    targets = [entry["target"] for entry in yaml.safe_load((tmp_path / "out/mapping.yaml").read_text())["mapping"]]
    assert list(dict.fromkeys(targets)) == ["DRAM", "Buf", "RF"]
    assert "not in these files: that fan-outs are checked level by level" in error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--to", "timelop"), "did you mean 'timeloop'"),
        (("--accelerator", "tyni"), "did you mean 'tiny'"),
        (("--workload", "toy/tiny_conv"), "mapping"),
    ],
)
def test_mistakes_write_nothing(mapgym, mapping, tmp_path, change, message):
    folder = tmp_path / "out"
    status, _, error = mapgym("export", mapping, *TASK, "--to", "timeloop", "-o", folder, *change)
    assert status == 2
    assert message in one_sentence(error)
    assert not folder.exists()
