"""AccelForge's expressions: sets of tensors, arithmetic that asks about them, latencies."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from mapgym.errors import SpecificationError
from mapgym.interop.accelforge.expressions import Latency, compute, latency_of, tensors_of
from mapgym.timeloop.reading.expressions import Names

I, W, O = "Inputs", "Weights", "Outputs"  # noqa: E741


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("All", {I, W, O}),
        ("Nothing", set()),
        ("input | output", {I, O}),
        ("~weight", {I, O}),
        ("~Intermediates", {I, W, O}),
        ("Inputs & ~input", {W}),
        ("All - (input | weight)", {O}),
        ("~Main.tensors", {W}),
    ],
)
def test_sets(text, expected):
    assert tensors_of(text, {"Main": frozenset({I, O})}, "here") == expected


@pytest.mark.parametrize(
    "text",
    [
        "inputs",
        "input + output",
        "input |",
        "",
        "All if weight else input",
        "len(All)",
        "__import__('os')",
        "x" * 2000,
        3,
    ],
)
def test_what_is_no_set(text):
    with pytest.raises(SpecificationError, match=r"^here"):
        tensors_of(text, {}, "here")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (7, 7),
        ("1024*64*8", 524_288),
        ("weight.bits_per_value if weight else 1", 8),
        ("Intermediates.bits_per_value if Intermediates else 1", 1),
        ("3 * output.bits_per_value", 24),
        ("len(All) == 3", True),
        ("len(All) == 2", False),
        ("rows * 2", 10),
        ("inf", float("inf")),
    ],
)
def test_arithmetic(text, expected):
    assert compute(text, Names({"rows": 5}), 8, "here") == expected


@pytest.mark.parametrize(
    "text", ["All.bits_per_value", "len(rows)", "2**1020 * 7", "rows.size", "open('x')", "columns"]
)
def test_what_is_no_arithmetic(text):
    with pytest.raises(SpecificationError, match=r"^here"):
        compute(text, Names({"rows": 5}), 8, "here")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, Latency(True, True, 1.0)),
        ("sum(a.n_calls / a.throughput for a in actions)", Latency(True, True, 1.0)),
        ("max(x.n_calls / x.throughput for x in actions)", Latency(False, True, 1.0)),
        ("sum(a.n_calls for a in actions) / 32 / 200e6", Latency(True, False, 1 / 32 / 200e6)),
        ("max(a.n_calls for a in actions) * 2 / clock", Latency(False, False, 2 / 1e9)),
        (0, Latency(False, False, 0.0)),
    ],
)
def test_latencies(text, expected):
    assert latency_of(text, Names({"clock": 1e9}), "here") == expected


@pytest.mark.parametrize(
    "text",
    [
        "5",
        "sum(a.n_calls ** 2 for a in actions)",
        "sum(a.n_calls for a in actions if a.n_calls)",
        "max(a.n_calls for a in others)",
        "sum(b.n_calls for a in actions)",
        "max(sum(a.n_calls for a in actions), 7)",
        "sum(a.n_calls for a in actions) / 0",
        "sum(a.n_calls for a in actions) + 1",
        "__import__('os').system('true')",
        "lambda: 0",
        "sum(a.n_calls for a in actions) / " + "-" * 900 + "1",
    ],
)
def test_latencies_that_are_not_constant_for_each_action(text):
    with pytest.raises(SpecificationError, match=r"^here.*cannot be expressed"):
        latency_of(text, Names(), "here")


def refusal(read):
    """What a function is refused with; "here" if it is not."""
    try:
        read()
    except SpecificationError as error:
        return str(error)
    return "here"


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    for read in (
        lambda: tensors_of(text, {}, "here"),
        lambda: latency_of(text, Names(), "here"),
        lambda: compute(text, Names(), 8, "here"),
    ):
        assert refusal(read).startswith("here")
