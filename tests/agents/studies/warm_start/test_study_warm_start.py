"""The study of warm starts, on the small network."""

from __future__ import annotations

import csv
import io

import pytest

from command_line import one_sentence
from mapgym.agents.studies.warm_start import study as warm_start
from mapgym.spec.catalog import accelerator


def read(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_speed_ups_by_hand():
    rows = [{"random_samples": 400, "samples": 100}, {"random_samples": 900, "samples": 100}]
    assert warm_start._speed_up(rows) == pytest.approx(6)
    assert warm_start._total_speed_up(rows) == pytest.approx(6.5)


def test_a_study_from_the_command_line(mapgym, tmp_path):
    arguments = ("study", "warm-start", "--networks", "toy", "--accelerator", "tiny", "--agents", "gamma,hill-climb")
    arguments += ("--samples", "300", "--seeds", "2", "-o", tmp_path)
    status, out, _ = mapgym(*arguments)
    assert status == 0
    assert "All networks" in out
    assert {"warm-start.md", "warm-start.csv", "warm-start_1.csv", "warm-start_2.csv", "warm_start.png"} <= {
        path.name for path in tmp_path.iterdir()
    }
    layers = read(tmp_path / "warm-start.csv")
    cold = [row for row in layers if row["start"] == "random"]
    assert cold
    for row in cold:
        assert (float(row["first"]), float(row["final"]), row["samples"]) == (1.0, 1.0, row["random_samples"])
    # The first layer has nothing to begin from: the search is that of the random start.
    first = [row for row in layers if row["layer"] == cold[0]["layer"] and row["start"] in ("editing", "log-ratio")]
    assert all(float(row["final"]) == 1.0 for row in first)
    status, out, _ = mapgym(*arguments)
    assert out.count("was there already") == 4
    assert read(tmp_path / "warm-start.csv") == layers


def test_what_others_know_leaves_out_the_layers_of_a_network():
    (cell,) = warm_start.warm_start_cells(["toy", "toy"], accelerator("tiny"), ["gamma"], 200, 1)
    result = cell.compute()
    # The other network is the same one here, so that nothing is left to begin from.
    assert all(row["final"] == 1.0 for row in result["rows"] if row["start"] == warm_start.OTHERS)


def test_mistakes_are_answered(mapgym, tmp_path):
    status, _, error = mapgym("study", "warm-start", "--networks", "vgg61", "-o", tmp_path)
    assert status == 2
    assert "did you mean 'vgg16'" in one_sentence(error)
