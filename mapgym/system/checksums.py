"""Checksums within files: who reads one that was damaged or edited notices it before looking at what it says.

The writer puts the text :data:`UNSEALED` somewhere after everything that may come from outside, :func:`seal` puts the
SHA-256 of all bytes in the place of its zeros, and :func:`is_whole` looks whether they are still what they were. That
works in every kind of file that has room for a text: JSON, YAML (in a comment), Parquet (in its metadata).
"""

from __future__ import annotations

import hashlib

_MARK, _DIGITS = b"sha256:", 64
UNSEALED = (_MARK + b"0" * _DIGITS).decode()
"""Holds the place of a checksum."""


def seal(data: bytes) -> bytes:
    """The same bytes with their checksum in the place of the last :data:`UNSEALED`."""
    head, _, tail = data.rpartition(UNSEALED.encode())
    return b"".join((head, _MARK, hashlib.sha256(data).hexdigest().encode(), tail))


def is_whole(data: bytes) -> bool | None:
    """Whether bytes are what :func:`seal` has returned; None if they hold no checksum."""
    start = data.rfind(_MARK)
    if start < 0:
        return None
    found = data[start + len(_MARK) :][:_DIGITS]
    return found.isalnum() and seal(data[:start] + UNSEALED.encode() + data[start + len(UNSEALED) :]) == data
