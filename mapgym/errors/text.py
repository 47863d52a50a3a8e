"""One printable form of text that comes from outside: what messages quote, and what terminals and files may show."""

from __future__ import annotations

import re
import reprlib
from pathlib import PurePath

QUOTED_CHARACTERS = 80
"""About how long a quoted value gets in a message."""

_HARMFUL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)
"""What no name may hold: control characters, line separators, marks that turn the direction of writing, halves of
characters, and what XML and YAML forbid. Spaces, joiners and whatever else is text are free."""

_PATH_CHARACTERS = 1000
"""A path is of no use in a message unless it is whole."""


class _Repr(reprlib.Repr):
    """``repr`` that stays short: it visits a few entries of a container and writes no number of a thousand digits."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = 8
        self.maxstring = self.maxother = QUOTED_CHARACTERS
        self.maxlong = 40

    def repr_int(self, x: int, level: int) -> str:
        """Long numbers by their size: Python refuses to write more than some thousand digits."""
        if x.bit_length() > 1024:
            return f"a number of about {x.bit_length() * 30103 // 100000:,} digits"
        return super().repr_int(x, level)

    def repr_dict(self, x: dict[object, object], level: int) -> str:
        """In the order of the dict, which is that of the file."""
        if not x:
            return "{}"
        if level <= 0:
            return "{...}"
        shown = [
            f"{self.repr1(key, level - 1)}: {self.repr1(value, level - 1)}"
            for key, value in [*x.items()][: self.maxdict]
        ]
        return "{" + ", ".join([*shown, "..."] if len(x) > self.maxdict else shown) + "}"


_REPR = _Repr()


def quoted(value: object) -> str:
    """A value as a message quotes it: as ``repr`` does, but at most some 80 characters, whatever it is.

    Paths are quoted whole. Control characters and lone surrogates are escaped.
    """
    if type(value) is str and len(value) < QUOTED_CHARACTERS // 2 and value.isprintable():
        return repr(value)  # nearly all names, which are quoted whenever something is checked
    if isinstance(value, PurePath):
        return shortened(repr(str(value)), _PATH_CHARACTERS)
    return shortened(printable(_REPR.repr(value)), QUOTED_CHARACTERS)


def shortened(text: str, characters: int) -> str:
    """Text of at most so many characters; the middle of a longer one is left out."""
    half = characters // 2 - 2
    return text if len(text) <= characters else f"{text[:half]}...{text[-half:]}"


def printable(text: str) -> str:
    """Text in which whatever is no visible character is escaped as in a Python string.

    That covers control characters (a terminal would obey them), line breaks, lone surrogates (no encoding can write
    them) and marks that turn the direction of writing.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text)


def printable_lines(text: str) -> str:
    """The same for text of several lines, whose line feeds stay."""
    return "\n".join(map(printable, text.split("\n")))


def harmful_character(text: str) -> str | None:
    """The first character of a text that no name may hold; None if there is none."""
    found = _HARMFUL.search(text)
    return found and found[0]


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
