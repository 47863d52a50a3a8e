"""The one exception that means "the input is wrong, and here is how to mend it"."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from mapgym.errors.text import harmful_character, printable, quoted, shortened

_LONGEST_MESSAGE = 2000
"""For what is quoted whole, such as paths."""

LONGEST_NAME = 1000
"""Characters of the longest name that anything may have."""

MAX_INTEGER = 2**53
"""Largest whole number of a specification: up to here float64 holds each of them exactly."""


class SpecificationError(ValueError):
    """A user's input cannot be used; the message is one sentence that names what, where and the remedy.

    The command line prints the message without a traceback and exits with status 2. Anything
    else that is raised is a defect of mapgym and keeps its traceback.

    Whatever foreign text the message holds, a terminal gets no control character and no second line of it.
    """

    def __init__(self, message: object) -> None:
        super().__init__(shortened(printable(str(message)), _LONGEST_MESSAGE))


class InputWarning(UserWarning):
    """Something that the user gave has no effect; the command line prints the message without its place in the code."""


def suggest(name: str, choices: Iterable[str]) -> str:
    """Returns the tail of an error message: the nearest valid name, or all of them.

    Args:
        name: what the user wrote.
        choices: the valid names.
    """
    known = list(choices)
    # Nobody misspells a name as something of a thousand characters, and comparing such takes time.
    name = str(name)[:LONGEST_NAME]
    # Capitals are how people misspell names most often (meshX, m), so they do not count as a difference.
    folded = {str(choice).lower(): choice for choice in reversed(known)}
    close = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.5)
    if close:
        return f"did you mean {quoted(folded[close[0]])}?"
    listed = shortened(", ".join(quoted(choice) for choice in known[:12]), 400)
    return f"valid names are {listed}{', ...' if len(known) > 12 else ''}"


def require_keys(given: Iterable[str], allowed: Iterable[str], where: str) -> None:
    """Raises SpecificationError when a key is not one of the allowed ones.

    Args:
        given: the keys that the user wrote.
        allowed: the keys of the schema.
        where: file and section, for the message.
    """
    allowed = list(allowed)
    for key in given:
        if key not in allowed:
            raise SpecificationError(f"{where}: unknown key {quoted(key)}; {suggest(str(key), allowed)}")


def positive_int(value: object, where: str, most: int = MAX_INTEGER) -> int:
    """Returns value as an int, or raises SpecificationError unless it is a whole number from 1 to ``most``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SpecificationError(f"{where} is {quoted(value)}; give a whole number of at least 1")
    if value > most:
        limit = "2**53" if most == MAX_INTEGER else f"{most}"
        raise SpecificationError(f"{where} is {quoted(value)}; give a whole number of at most {limit}")
    return value


def require_name(value: object, where: str, example: str) -> None:
    """Raises SpecificationError unless a value can be a name: some text, of one line, that every file can hold.

    Args:
        value: what is to be the name.
        where: of what, for the message.
        example: a name of that kind.
    """
    if type(value) is str and value.isascii() and value.isprintable() and 0 < len(value.strip()) == len(value) < 100:
        return  # what nearly all names are, and workloads are made often
    if not isinstance(value, str) or not value.strip():
        raise SpecificationError(f"{where}: name is {quoted(value)}; give text such as {quoted(example)}")
    if value != value.strip():
        raise SpecificationError(f"{where}: name is {quoted(value)}; leave out the spaces at its ends")
    if (character := harmful_character(value)) is not None:
        raise SpecificationError(
            f"{where}: name is {quoted(value)} with {quoted(character)}, which is no visible character; remove it"
        )
    if len(value) > LONGEST_NAME:
        raise SpecificationError(
            f"{where}: name is {quoted(value)} of {len(value):,} characters; give at most {LONGEST_NAME:,}"
        )


def require_one_of(value: object, choices: Iterable[str], what: str) -> None:
    """Raises SpecificationError unless a value is one of some names.

    Args:
        value: what was given.
        choices: the valid names.
        what: name of the argument.
    """
    known = list(choices)
    if not isinstance(value, str) or value not in known:
        raise SpecificationError(f"{what} is {quoted(value)}; {suggest(str(value), known)}")


def require_kind(value: object, kind: type, what: str, remedy: str) -> None:
    """Raises SpecificationError unless a value is of the kind that a function takes.

    Args:
        value: what was given.
        kind: the class that it must be of.
        what: name of the argument.
        remedy: where to get such an object.
    """
    if not isinstance(value, kind):
        raise SpecificationError(f"{what} is {quoted(value)}; give a {kind.__name__}, such as {remedy}")
