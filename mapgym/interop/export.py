"""What an export makes: files for another tool, and what of a mapping they cannot say."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Export:
    """Files for another tool.

    Attributes:
        files: name within the folder -> text.
        lost: a sentence for each thing that the other tool's model does not hold.
    """

    files: dict[str, str]
    lost: tuple[str, ...]
