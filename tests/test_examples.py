"""The programs in examples/ run, and the documentation shows them as they are."""

from __future__ import annotations

import runpy
import sys

import numpy as np
import pytest

from mapgym import Budget, Evaluator, MapSpace
from mapgym.agents import make_agent
from mapgym.spec.workload import matmul
from mapgym.testing.agents import small_accelerator
from places import DOCS, REPOSITORY

EXAMPLES = REPOSITORY / "examples"
TREE_SEARCH = EXAMPLES / "tree_search.py"


def test_tree_search__is_shown_as_it_is() -> None:
    assert f"```python\n{TREE_SEARCH.read_text()}```" in (DOCS / "tree_search.md").read_text()


def test_tree_search__runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["tree_search.py", "toy/tiny_conv", "accel_b", "--samples", "30"])
    runpy.run_path(str(TREE_SEARCH), run_name="__main__")
    assert "30 mappings, EDP" in capsys.readouterr().out


def test_tree_search__names_a_typo_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tree_search.py", "toy/tiny_con", "accel_b"])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(TREE_SEARCH), run_name="__main__")
    assert "did you mean 'tiny_conv'?" in capsys.readouterr().err


def test_tree_search__of_a_small_space_ends_with_its_optimum() -> None:
    space = MapSpace(matmul("tiny", M=2, K=2, N=1), small_accelerator())
    evaluators = [Evaluator(space, budget=Budget(samples=100_000)) for _ in range(2)]
    runpy.run_path(str(TREE_SEARCH))["search"](evaluators[0])
    make_agent("exhaustive").search(evaluators[1], 0)
    assert evaluators[0].samples < 100_000
    assert np.isclose(evaluators[0].best_value, evaluators[1].best_value)
