"""Arithmetic in Timeloop's specifications, and everything that is not arithmetic."""

from __future__ import annotations

import contextlib
import math

import pytest
from hypothesis import given, strategies as st

from mapgym.errors import SpecificationError
from mapgym.timeloop.reading.expressions import Names, evaluate, evaluate_number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("64 * 1024 // 3", 21845),
        ("2**10 - 1", 1023),
        ("-7 % 4", 1),
        ("ceil(log2(100))", 7),
        ("max(3, 4.5, 2)", 4.5),
        ("8 if 3 > 2 else 9", 8),
        ("1 < 2 < 2", False),
        ("not 0 and 5", True),
        ("1e-9", 1e-9),
        ("min(7, 9) / 2", 3.5),
        (" 12 ", 12),
        (7, 7),
        (True, True),
    ],
)
def test_arithmetic(text, value):
    assert evaluate_number(text, {}, "f") == value


def test_names_stand_for_expressions_of_names():
    variables = Names({"DATAWIDTH": "bits * 2", "bits": 8})
    attributes = Names({"word-bits": "DATAWIDTH", "width": "word-bits * 4", "technology": "45nm"}, variables)
    assert evaluate("width", attributes, "f") == 64
    assert evaluate("word-bits-1", attributes, "f") == 15
    assert evaluate("technology", attributes, "f") == "45nm"


def test_a_value_that_names_itself_means_what_is_outside():
    assert evaluate("depth", Names({"depth": "depth * 2"}, Names({"depth": 21})), "f") == 42


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("__import__('os').system('true')", "only arithmetic"),
        ("().__class__", "only arithmetic"),
        ("open('/etc/passwd')", "no function 'open'"),
        ("[x for x in (1,)]", "only arithmetic"),
        ("lambda: 1", "only arithmetic"),
        ("'a' * 1000000000", "is text"),
        ("9 ** 9 ** 9", "cannot be computed"),
        ("pow(9, 999999999)", "cannot be computed"),
        ("10 ** 300 * 10 ** 300", "too large"),
        ("(-8) ** 0.5", "cannot be computed"),
        ("1 / 0", "cannot be computed"),
        ("1 +", "no arithmetic"),
        ("with_", "nothing is called 'with_'; did you mean 'width'?"),
        ("a", "circle"),
        ("1" * 2000, "at most 1000"),
        ("(" * 300 + "1" + ")" * 300, "no arithmetic"),
        ("-" * 900 + "1", "nested too deeply"),
        ("inf - inf", "not a number"),
        ("len(width)", "no function"),
    ],
)
def test_what_is_no_arithmetic_is_refused(text, says):
    with pytest.raises(SpecificationError, match=r"^arch.yaml: GLB: depth ") as error:
        evaluate_number(text, Names({"width": 8, "a": "b", "b": "a"}), "arch.yaml: GLB: depth")
    assert says in str(error.value)


def test_text_is_no_number():
    with pytest.raises(SpecificationError, match=r"^f is 'technology'; give a number"):
        evaluate_number("technology", {"technology": "45nm"}, "f")


_NUMBERS = st.integers(-1000, 1000)


@given(
    st.recursive(
        _NUMBERS.map(lambda n: f"({n})"),
        lambda inner: st.tuples(inner, st.sampled_from(["+", "-", "*", "//", "%", "<", "=="]), inner).map(
            lambda parts: "(" + " ".join(parts) + ")"
        ),
        max_leaves=12,
    )
)
def test_it_computes_what_python_does(text):
    try:
        expected = eval(text, {"__builtins__": {}})
    except ZeroDivisionError:
        with pytest.raises(SpecificationError):
            evaluate(text, {}, "f")
        return
    assert evaluate(text, {}, "f") == expected


@given(st.text(max_size=60))
def test_any_text_gives_a_number_or_one_sentence(text):
    with contextlib.suppress(SpecificationError):
        assert isinstance(evaluate(text, Names({"x": 3}), "f"), int | float | str)


def test_functions_of_infinity_are_refused():
    with pytest.raises(SpecificationError, match="cannot be computed"):
        evaluate("ceil(inf)", {}, "f")
    assert evaluate("inf", {}, "f") == math.inf
