"""What a stranger may write: values, edits of plain data, edits of bytes, as Hypothesis strategies."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import yaml
from hypothesis import strategies as st

NUMBERS: list[Any] = [
    -1, 0, 1, 2, 3, 7, 127, 128, 255, 2**15, 2**31 - 1, 2**31, 2**32, 2**52, 2**53, 2**53 + 1, 2**62, 2**63 - 1, 2**63,
    2**64, 10**30, 10**400, -(2**31), -(2**63), 0.0, -0.0, 0.5, 1.5, 1e-320, 5e-324, 1e-300, 1e-17, 1e-9, 1e15, 1e17,
    1e154, 1e308, math.inf, -math.inf, math.nan,
]  # fmt: skip
TEXTS = [
    "", " ", "a", "a" * 300, "\x00", "\x1b[31mred", "a\nb", "a\tb", "\x7f", "\x85", "\u2028", "\u202e", "\ufeff",
    "日本語", "Ünï", "ﬁ", "CON", "nul", "..", ".", "/", "../../etc/passwd", "a/b", "a:b", "a,b", "a=b", "-1", "--help",
    "=1+1", "@SUM(A1)", "<img onerror>", "javascript:alert(1)", "a|b", "`a`", "[red]a[/red]", "{a}", "%s", "%00", "'",
    '"', "\\", "$HOME", "~", "*", "?", "null", "true", "1e400", "0x10", "1_000", "yes", "2*P + R", "P + P", "0*P",
    "2**64*P", "C + C2", "MAC", "Weights", "DRAM", "UOP", "9999*UOP", "CP",
]  # fmt: skip
YAML_TOKENS = [
    "&a ", "*a", "!!float ", "!!bool ", "!!timestamp ", "!!map ", "!!set ", "!!binary ", "!!python/object:os.system ",
    "!!str ", "<<: ", "? ", "- ", ": ", "[", "]", "{", "}", '"', "'", "|", ">", "#", "%YAML 1.1\n", "---\n", "...\n",
    "\t", '"\\ud800"', '"\\U00110000"', '"\\x1b"', "\x00", "\x1b", "\ud7ff", "9" * 5000, "[" * 5000, "1e999", "-", "~",
    "\r", "\ufeff",
]  # fmt: skip


def values() -> st.SearchStrategy[Any]:
    """A value that stands where another was expected."""
    plain = st.one_of(
        st.sampled_from(NUMBERS),
        st.sampled_from(TEXTS),
        st.sampled_from([None, True, False]),
        st.integers(-5, 5000),
        st.floats(),
        st.text(max_size=8),
    )
    return st.one_of(
        plain,
        st.lists(plain, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(TEXTS), st.integers(0, 3)), plain, max_size=3),
        st.integers(1, 150).map(_nested),
        st.lists(plain, min_size=1, max_size=1).map(lambda entry: entry * 5000),
    )


def _nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def _places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every entry of plain data but the root."""
    if isinstance(data, dict):
        entries = list(data.items())
    elif isinstance(data, list):
        entries = list(enumerate(data))
    else:
        return []
    return [found for key, value in entries for found in [(*path, key), *_places(value, (*path, key))]]


@st.composite
def edited_data(draw: Callable[..., Any], data: Any) -> Any:
    """Plain data in which one to three entries are replaced, removed, renamed, doubled or exchanged."""
    data = copy.deepcopy(data)
    for _ in range(draw(st.integers(1, 3))):
        places = _places(data)
        if not places:
            return draw(values())
        *way, key = draw(st.sampled_from(places))
        parent = data
        for step in way:
            parent = parent[step]
        kind = draw(st.sampled_from(("replace", "replace", "replace", "remove", "rename", "double", "exchange")))
        if kind == "replace":
            parent[key] = draw(values())
        elif kind == "remove":
            del parent[key]
        elif kind == "double" and isinstance(parent, list):
            parent.insert(key, copy.deepcopy(parent[key]))
        elif kind == "rename" and isinstance(parent, dict):
            parent[draw(st.one_of(st.sampled_from(TEXTS), st.sampled_from(NUMBERS[:8])))] = parent.pop(key)
        else:
            *other_way, other = draw(st.sampled_from(places))
            source = data
            try:
                for step in other_way:
                    source = source[step]
                parent[key] = copy.deepcopy(source[other])
            except (KeyError, IndexError, TypeError):
                parent[key] = draw(values())
    return data


def as_bytes(data: Any, form: str) -> bytes:
    """Plain data as a file in YAML or JSON; what the form cannot hold is written as its text."""
    if form == "json":
        return json.dumps(data, default=str, skipkeys=True).encode("utf-8", "surrogatepass")
    try:
        return yaml.dump(data, sort_keys=False, allow_unicode=True).encode("utf-8", "surrogatepass")
    except (yaml.YAMLError, ValueError, RecursionError):
        return as_bytes(data, "json")


@st.composite
def edited_bytes(draw: Callable[..., Any], content: bytes) -> bytes:
    """A file in which some bytes are flipped, cut out, put in, doubled or lost at the end."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        size = len(data)
        at = draw(st.integers(0, max(size - 1, 0)))
        span = draw(st.sampled_from((1, 2, 4, 8, 64, 1000)))
        kind = draw(st.sampled_from(("flip", "flip", "cut", "token", "token", "bytes", "double", "end")))
        if kind == "flip" and size:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del data[at : at + span]
        elif kind == "token":
            data[at:at] = draw(st.sampled_from(YAML_TOKENS + TEXTS)).encode("utf-8", "surrogatepass")
        elif kind == "bytes":
            data[at : at + span] = draw(st.binary(max_size=16))
        elif kind == "double":
            data[at:at] = data[at : at + span]
        elif kind == "end":
            del data[at:]
    return bytes(data)


def files(content: bytes) -> st.SearchStrategy[bytes]:
    """A file that began as a good one: edited as data where it is YAML or JSON, and as bytes."""
    choices: list[st.SearchStrategy[bytes]] = [edited_bytes(content), st.binary(max_size=64)]
    try:
        data = yaml.safe_load(content.decode())
    except (UnicodeDecodeError, yaml.YAMLError):
        data = None
    if isinstance(data, dict | list):
        for form in ("yaml", "json"):
            choices.insert(0, edited_data(data).map(lambda edited, form=form: as_bytes(edited, form)))
    return st.one_of(choices)
