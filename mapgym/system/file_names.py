"""Names of files for texts from outside: safe on every file system, and different for different texts."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import unicodedata

_LONGEST = 180
"""Bytes of a name; file systems take 255, and the caller adds more to it."""

_DIGITS = 16
_ORDINARY = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
_WITH_SLASH = re.compile(r"[a-z0-9]+(?:[._/][a-z0-9]+)*")
_DIGEST = re.compile(rf"-[0-9a-f]{{{_DIGITS}}}")
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{digit}" for port in ("com", "lpt") for digit in range(10))}
"""Windows takes these for devices, whatever follows after a dot."""


def file_name(*texts: str, slash: bool = False) -> str:
    """A name, without an ending, for one text or several; ends like ``-0123456789abcdef`` where it must be told apart.

    Two different sequences of texts never get names that a file system takes for the same one, whether it tells
    capitals apart or not and however it normalises Unicode. Ordinary texts (lower-case letters, digits, and one of
    ``._-`` between them) are kept as they are; of others what is readable is kept, and a digest follows.

    Args:
        texts: what the file is about; ``__`` stands between them.
        slash: the first text is the name of a layer, such as ``toy/tiny_gemm``: ordinary is one with ``/`` rather than
            ``-``, as which it is written.
    """
    first = [_WITH_SLASH] if slash else []
    patterns = [*first, *[_ORDINARY] * (len(texts) - len(first))]
    name = "__".join(texts).replace("/", "-")
    if (
        all(pattern.fullmatch(text) for pattern, text in zip(patterns, texts, strict=True))
        and len(name) <= _LONGEST
        and name.partition(".")[0] not in _DEVICES
        and not _DIGEST.fullmatch(name[-_DIGITS - 1 :])
    ):
        return name
    digest = hashlib.sha256(json.dumps([slash, *texts]).encode()).hexdigest()[:_DIGITS]
    readable = "__".join(_readable(text) for text in texts)
    while len(readable.encode()) > _LONGEST - _DIGITS - 1:
        readable = readable[:-1]
    return f"{readable.strip('-_') or 'unnamed'}-{digest}"


def _readable(text: str) -> str:
    """What every file system takes of a text: letters and digits of all scripts, in one case, and ``_-``."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    kept = "".join(c if c == "_" or (unicodedata.category(c)[0] in "LMN" and _is_encodable(c)) else "-" for c in folded)
    return re.sub(r"-+", "-", kept).strip("-_")


def _is_encodable(character: str) -> bool:
    """Whether names of files may hold a character; in an old locale few may."""
    try:
        character.encode(sys.getfilesystemencoding())
    except UnicodeEncodeError:
        return False
    return True
