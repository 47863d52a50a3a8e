"""Reads libconfig, the format of files for Timeloop before YAML (``.cfg``), as plain data."""

from __future__ import annotations

import re
from typing import Any

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted

_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*|//[^\n]*|/\*.*?\*/)
    |(?P<text>"(?:[^"\\\n]|\\.)*")
    |(?P<number>[-+]?(?:0[xX][0-9a-fA-F]+L{0,2}|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?L{0,2}))
    |(?P<name>[A-Za-z*][-A-Za-z0-9_*]*)
    |(?P<sign>[=:;,{}()\[\]])""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "f": "\f"}
_CLOSING = {"(": ")", "[": "]"}
_DEEPEST = 50


def parse_libconfig(text: str, where: str) -> dict[str, Any]:
    """The groups, lists and values of a file.

    Args:
        text: of the file.
        where: the file, for messages.

    Raises:
        SpecificationError: it is not libconfig; names the line.
    """
    reader = _Reader(text, where)
    found = reader.settings("")
    reader.expect("")
    return found


class _Reader:
    """A reader of one file: what is next, and what follows."""

    def __init__(self, text: str, where: str) -> None:
        self._text, self._where, self._at = text, where, 0
        self._depth = 0
        self.kind = self.token = ""
        self._next()

    def settings(self, end: str) -> dict[str, Any]:
        """``name = value;`` pairs up to a sign."""
        found: dict[str, Any] = {}
        while self.token != end or self.kind == "text":
            if self.kind != "name":
                raise self._wrong("a name")
            name = self._take()
            if self.token not in ("=", ":"):
                raise self._wrong("= or :")
            self._next()
            if name in found:
                raise SpecificationError(f"{self._where}: {quoted(name)} is given twice; remove one")
            found[name] = self._value()
            while self.token in (";", ",") and self.kind == "sign":
                self._next()
        return found

    def expect(self, sign: str) -> None:
        """Takes a sign, or the end of the file."""
        if self.token != sign or self.kind == "text":
            raise self._wrong(quoted(sign) if sign else "the end")
        self._next()

    def _value(self) -> Any:
        if self.kind == "text":
            parts = []
            while self.kind == "text":
                parts.append(re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), self._take()[1:-1]))
            return "".join(parts)
        if self.kind == "number":
            return _number(self._take())
        if self.kind == "name" and self.token.lower() in ("true", "false"):
            return self._take().lower() == "true"
        if self.token not in ("{", "(", "["):
            raise self._wrong("a value")
        opening = self._take()
        self._depth += 1
        if self._depth > _DEEPEST:
            raise SpecificationError(f"{self._where}: is nested more than {_DEEPEST} deep; flatten it")
        found: Any
        if opening == "{":
            found = self.settings("}")
            self.expect("}")
        else:
            found = []
            while self.token != _CLOSING[opening] or self.kind == "text":
                found.append(self._value())
                if self.token == ",":
                    self._next()
            self.expect(_CLOSING[opening])
        self._depth -= 1
        return found

    def _take(self) -> str:
        token = self.token
        self._next()
        return token

    def _next(self) -> None:
        while self._at < len(self._text):
            match = _TOKEN.match(self._text, self._at)
            if match is None:
                self.kind, self.token = "strange", self._text[self._at]
                raise self._wrong("something else")
            self._at = match.end()
            if match.lastgroup != "space":
                self.kind, self.token = str(match.lastgroup), match[0]
                return
        self.kind, self.token = "end", ""

    def _wrong(self, expected: str) -> SpecificationError:
        line = self._text.count("\n", 0, self._at) + 1
        found = quoted(self.token) if self.token else "the end of the file"
        place = f"{self._where}, line {line}"
        return SpecificationError(f"{place}: there is {found} where {expected} should be; mend that line")


def _number(text: str) -> int | float:
    plain = text.rstrip("L")
    if "x" in plain.lower():
        return int(plain, 16)
    return int(plain) if re.fullmatch(r"[-+]?\d{1,30}", plain) else float(plain)
