"""The study of sparsity, on the small network."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from command_line import one_sentence
from mapgym.agents.studies.sparsity import study as sparsity, tables
from mapgym.spec.workload import conv2d, matmul

TASK = ("--workloads", "toy/tiny_conv", "--accelerators", "tiny_sparse_md")


def read(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_orders_of_a_matrix_product():
    product = matmul("product", B=1, M=2, K=4, N=2)
    named = {
        inner: {"".join(product.dims[d] for d in order[:3]) for order in sparsity._orders_like(product, inner=inner)}
        for inner in (True, False)
    }
    assert named == {True: {"KMN", "KNM"}, False: {"MNK", "NMK"}}


def test_orders_of_a_convolution():
    layer = conv2d("small", N=1, C=4, M=4, P=4, Q=2, R=3, S=1)
    for inner, count in ((True, 2), (False, 3)):
        orders = sparsity._orders_like(layer, inner=inner)
        assert len(orders) == 2 * 6, "C and R; M, P and Q"
        innermost = {layer.dims[d] for order in orders for d in order[:count]}
        assert innermost == ({"C", "R"} if inner else {"M", "P", "Q"})


def result(part, **content):
    return {"part": part, "workload": "a/b", "accelerator": "m", "seed": 0, "summary": "", **content}


def test_what_is_kept_by_hand():
    """The mapping of the first density has room everywhere, the other one at its own density only."""
    cross = result("weights", densities=[1.0, 0.5], edp=[[8.0, 6.0], [None, 3.0]])
    assert tables.kept_at_weights(cross)[0].tolist() == [1.0, 0.5]
    assert np.isnan(tables.kept_at_weights(cross)[1, 0])
    rows = tables._weights([cross]).rows
    assert [row[:4] for row in rows] == [
        ["m", 1.0, 1.0, 1.0],
        ["m", 1.0, 0.5, pytest.approx(0.5)],
        ["m", 0.5, 1.0, None],
        ["m", 0.5, 0.5, 1.0],
    ]
    assert [row[-1] for row in rows] == ["100%", "100%", "0%", "100%"]
    assert rows[2][4:6] == [None, None]


def test_means_and_the_best_found_by_hand():
    edp = {name: [4.0, 4.0] for name in sparsity.MAPPINGS} | {"tuned": [4.0, 1.0], "aware of all": [2.0, None]}
    inputs = result("inputs", densities=[1.0, 0.05], edp=edp)
    of_name = {row[0]: row for row in tables._inputs([inputs]).rows}
    name, accelerator, kept, interval, known, others, worst, roomy, best, fits = of_name["sparsity-aware"]
    assert (kept, known, others, worst) == pytest.approx((0.5, 1.0, 0.25, 0.25))
    assert (name, accelerator, interval, fits) == ("sparsity-aware", "m", "0.500 to 0.500", "100%")
    assert (roomy, best) == pytest.approx((1.0, (0.5 * 0.25) ** 0.5))
    assert of_name["aware of all"][2] == pytest.approx(2.0)
    assert of_name["aware of all"][-1] == "50%"


def test_a_study_from_the_command_line(mapgym, tmp_path):
    arguments = ("study", "sparsity", *TASK, "--samples", "200", "--seeds", "2", "-o", tmp_path)
    status, out, _ = mapgym(*arguments)
    assert status == 0
    assert "Kept over the densities of the inputs" in out
    names = {"sparsity.md", "sparsity.csv", *(f"sparsity_{k}.csv" for k in (1, 2, 3))}
    names |= {f"sparsity_{name}.png" for name in ("inputs", "kept", "weights", "orders")}
    assert names <= {path.name for path in tmp_path.iterdir()}
    every = read(tmp_path / "sparsity.csv")
    tuned = [row for row in every if row["mapping"] == "tuned"]
    assert len(tuned) == 2 * len(sparsity.INPUT_DENSITIES)
    assert {float(row["kept"]) for row in tuned} == {1.0}
    aware = [row for row in every if row["mapping"] == "sparsity-aware"]
    assert all(row["edp"] for row in aware), "it has room at every density"
    orders = {
        (row["seed"], row["density"], row["mapping"]): float(row["edp"]) for row in every if row["part"] == "orders"
    }
    assert len(orders) == 2 * 4 * 3
    status, out, _ = mapgym(*arguments)
    assert out.count("was there already") == 6
    assert read(tmp_path / "sparsity.csv") == every


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--accelerators", "tiny"), "'tiny' has no sparse features"),
        ((*TASK, "--agent", "exact"), "does not search with the objective 'sparsity-aware'"),
        ((*TASK, "--samples", "10"), "--samples is 10; give at least 200"),
    ],
)
def test_mistakes_are_answered(mapgym, tmp_path, arguments, message):
    status, _, error = mapgym("study", "sparsity", *arguments, "-o", tmp_path)
    assert status == 2
    assert message in one_sentence(error)
