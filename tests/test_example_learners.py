"""The learners in examples/ run, print what they promise, and are shown by the documentation."""

from __future__ import annotations

import runpy
import sys

import pytest

from places import REPOSITORY

pytest.importorskip("torch", reason="needs the extra 'rl'")


def run(name: str, arguments: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines that an example prints."""
    monkeypatch.setattr(sys, "argv", [name, *arguments.split()])
    runpy.run_path(str(REPOSITORY / "examples" / name), run_name="__main__")
    return capsys.readouterr().out.splitlines()


@pytest.mark.filterwarnings("default")
def test_masked_ppo__runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "--tasks toy/tiny_conv --evaluate paper/bert_kqv --steps 128 --num-envs 2 --draws 2"
    *progress, greedy, sampled, random = run("masked_ppo.py", arguments, monkeypatch, capsys)
    assert "128 steps" in progress[-1]
    assert greedy.startswith("return on 1 tasks: deterministic -")
    assert "best of 2 -" in sampled
    assert "best of 2 -" in random


@pytest.mark.filterwarnings("default")
def test_dqn__runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "--workload toy/tiny_conv --steps 4000 --num-envs 40"
    *progress, last, random = run("dqn.py", arguments, monkeypatch, capsys)
    assert "4,000 steps" in progress[-1]
    assert last.startswith("return of the policy -")
    assert "best of 200 -" in random


@pytest.mark.parametrize("program", ["masked_ppo.py --tasks toy/tiny_con", "dqn.py --workload toy/tiny_con"])
@pytest.mark.filterwarnings("default")
def test_a_typo__is_named_in_one_sentence(
    program: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, _, arguments = program.partition(" ")
    with pytest.raises(SystemExit, match="2"):
        run(name, arguments, monkeypatch, capsys)
    assert "did you mean 'tiny_conv'?" in capsys.readouterr().err
