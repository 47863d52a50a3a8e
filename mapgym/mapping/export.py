"""A task and a mapping in the files of another tool."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Export:
    """What another tool reads.

    Attributes:
        files: relative name -> text.
        lost: what the files do not say, a sentence each.
    """

    files: dict[str, str]
    lost: tuple[str, ...] = ()
