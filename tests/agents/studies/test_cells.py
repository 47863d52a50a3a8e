"""Studies as pieces of work that are kept."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import pytest

from mapgym.agents.studies.cells import Cell, run_cells


@pytest.fixture
def work():
    """Cells that count how often they are computed."""
    done = []

    def make(name, value, **settings):
        def compute():
            done.append(name)
            if value is None:
                raise KeyboardInterrupt
            return {"value": value, "summary": ""}

        return Cell(name, settings, compute)

    return SimpleNamespace(make=make, done=done)


def test_continues_after_an_interruption(work, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_cells([work.make("a", 1), work.make("b", None), work.make("c", 3)], tmp_path)
    results = run_cells([work.make("a", 1), work.make("b", 2), work.make("c", 3)], tmp_path)
    assert work.done == ["a", "b", "b", "c"]
    assert [result["value"] for result in results] == [1, 2, 3]


def test_other_settings_are_other_work(work, tmp_path):
    run_cells([work.make("a", 1, axes=("tile",))], tmp_path)
    run_cells([work.make("a", 1, axes=("tile",))], tmp_path)
    assert run_cells([work.make("a", 2, axes=("order",))], tmp_path)[0]["value"] == 2
    assert work.done == ["a", "a"]


@pytest.mark.parametrize("damage", ["", "{}", "[1]", '{"settings": 1, "result": 2}'])
def test_damaged_files_are_made_again(work, tmp_path, damage):
    cell = work.make("a/b c", 1)
    run_cells([cell], tmp_path)
    path = tmp_path / "cells" / cell.file_name
    assert path.exists()
    path.write_text(damage)
    told = []
    assert run_cells([cell], tmp_path, damaged=told.append)[0]["value"] == 1
    assert told == [path]
    assert work.done == ["a/b c"] * 2


def test_what_was_computed_looks_as_what_was_there(work, tmp_path):
    first, second = (run_cells([work.make("a", (1, 0.1))], tmp_path) for _ in range(2))
    assert first == second == [{"value": [1, 0.1], "summary": ""}]


def double(*results, plus=0):
    """A piece of work for worker processes."""
    if plus is None:
        raise KeyboardInterrupt
    return {"value": plus + sum(result["value"] for result in results), "summary": ""}


@pytest.mark.parametrize("jobs", [0, 2])
def test_cells_take_the_results_of_those_that_they_need(tmp_path, jobs):
    cells = [
        Cell("a", {}, partial(double, plus=1)),
        Cell("b", {}, partial(double, plus=2), ("a",)),
        Cell("c", {}, partial(double, plus=3)),
        Cell("d", {}, partial(double, plus=4), ("b", "c")),
    ]
    told = []

    def tell(cell, result, was_there):
        told.append((cell.name, was_there))

    results = run_cells(cells, tmp_path, finished=tell, jobs=jobs)
    assert [result["value"] for result in results] == [1, 3, 3, 10]
    assert sorted(told) == [(name, False) for name in "abcd"]
    told.clear()
    (tmp_path / "cells" / "d.json").unlink()
    run_cells(cells, tmp_path, finished=tell, jobs=jobs)
    assert sorted(told) == [("a", True), ("b", True), ("c", True), ("d", False)]


def test_what_a_worker_raises_is_raised(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_cells(
            [Cell("a", {}, partial(double, plus=1)), Cell("b", {}, partial(double, plus=None), ("a",))],
            tmp_path,
            jobs=1,
        )
    assert [path.name for path in (tmp_path / "cells").iterdir()] == ["a.json"]
