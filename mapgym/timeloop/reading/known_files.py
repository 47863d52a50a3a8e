"""Files that many published specifications include and that are often not beside them.

Problems of Timeloop's and CiMLoop's exercises give the bounds of a layer only, and take the rest from a file
``problem_base.yaml`` further up: the grouped convolution, with each bound and stride 1 unless a layer says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KnownFile:
    """A file that need not be there: its text, and what to say where it is missing."""

    text: str
    note: str


KNOWN_FILES = {
    "problem_base.yaml": KnownFile(
        "mapgym_problem_base: &problem_base {version: 0.4, shape: grouped-cnn}",
        "the file is not there; the grouped convolution of that name in Timeloop's exercises is taken for it",
    )
}
"""By the name of the file."""
