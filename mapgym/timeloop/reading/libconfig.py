"""Files of Timeloop before YAML: the format of libconfig, as far as Timeloop's own files use it.

``name = value;`` with groups in braces, lists in parentheses, arrays in brackets, numbers, text in double quotes, true
and false; ``:`` for ``=``, commas and semicolons as one likes, and comments after ``#`` or ``//`` or in ``/* */``.
"""

from __future__ import annotations

import re
from typing import Any

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.system.input_file import DEEPEST, LONGEST_NUMBER

_TOKEN = re.compile(
    r"""(?P<skip>\s+|\#[^\n]*|//[^\n]*|/\*.*?\*/)
    |(?P<text>"(?:[^"\\\n]|\\.)*")
    |(?P<number>[-+]?(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)L{0,2})(?![\w.])
    |(?P<name>[A-Za-z*][-\w*]*)
    |(?P<sign>[=:{}()\[\],;])""",
    re.VERBOSE | re.DOTALL,
)
_PAIRS = {"(": ")", "[": "]"}


def parse_libconfig(text: str, file: str) -> dict[str, Any]:
    """The content as dicts, lists, text, numbers and booleans.

    Raises:
        SpecificationError: it is something else; the sentence names the line.
    """
    return _Parser(text, file).whole()


class _Parser:
    """Reads one file from left to right."""

    def __init__(self, text: str, file: str) -> None:
        self._file = file
        self._text = text
        self._tokens: list[tuple[str, str, int]] = []
        place = 0
        while place < len(text):
            match = _TOKEN.match(text, place)
            if match is None:
                raise self._wrong(f"cannot read {quoted(text[place : place + 20])}", place)
            if match.lastgroup != "skip":
                self._tokens.append((str(match.lastgroup), match[0], place))
            place = match.end()
        self._next = 0

    def whole(self) -> dict[str, Any]:
        """All settings of the file."""
        found = self._group("", 0)
        if not found:
            raise SpecificationError(f"{self._file}: is empty; is the file cut off?")
        return found

    def _group(self, end: str, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while True:
            kind, token, place = self._take()
            if token == end:
                return found
            if token in (";", ","):
                continue
            if kind != "name":
                raise self._wrong(f"expected a name, found {quoted(token or 'the end of the file')}", place)
            if self._take()[1] not in ("=", ":"):
                raise self._wrong(f"expected = after {quoted(token)}", place)
            if token in found:
                raise self._wrong(f"{quoted(token)} is given twice", place)
            found[token] = self._value(depth + 1)

    def _value(self, depth: int) -> Any:
        kind, token, place = self._take()
        if depth > DEEPEST:
            raise self._wrong(f"nested more than {DEEPEST} deep", place)
        if token == "{":
            return self._group("}", depth)
        if token in _PAIRS:
            return self._list(_PAIRS[token], depth)
        if kind == "text":
            parts = [token[1:-1]]
            while self._peek()[0] == "text":
                parts.append(self._take()[1][1:-1])  # text in a row is one
            return re.sub(r"\\(.)", r"\1", "".join(parts))
        if kind == "number":
            digits = token.rstrip("L")
            if len(digits) > LONGEST_NUMBER:
                raise self._wrong("a number that is too long", place)
            if re.fullmatch(r"[-+]?\d+", digits):
                return int(digits)
            return int(digits, 16) if "x" in digits.lower() else float(digits)
        if kind == "name" and token.lower() in ("true", "false"):
            return token.lower() == "true"
        raise self._wrong(f"expected a value, found {quoted(token or 'the end of the file')}", place)

    def _list(self, end: str, depth: int) -> list[Any]:
        found: list[Any] = []
        while True:
            token = self._peek()[1]
            if token in (end, ",", ";"):
                self._take()
                if token == end:
                    return found
            else:
                found.append(self._value(depth + 1))

    def _peek(self) -> tuple[str, str, int]:
        return self._tokens[self._next] if self._next < len(self._tokens) else ("end", "", len(self._text))

    def _take(self) -> tuple[str, str, int]:
        token = self._peek()
        self._next += 1
        return token

    def _wrong(self, problem: str, place: int) -> SpecificationError:
        line = self._text.count("\n", 0, place) + 1
        return SpecificationError(f"{self._file}, line {line}: {problem}; mend that line")
