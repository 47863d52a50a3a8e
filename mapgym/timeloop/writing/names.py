"""Names that Timeloop can read."""

from __future__ import annotations

import re
from collections.abc import Sequence


def readable_names(names: Sequence[str]) -> dict[str, str]:
    """Our name -> Timeloop's: the same if it is an identifier, else one made of it that no other has."""
    found: dict[str, str] = {}
    taken = {name for name in names if _is_readable(name)}
    for name in names:
        if _is_readable(name):
            found[name] = name
            continue
        plain = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "unnamed"
        plain = plain if plain[0].isalpha() else f"_{plain}"
        candidate, number = plain, 2
        while candidate in taken:
            candidate, number = f"{plain}_{number}", number + 1
        taken.add(candidate)
        found[name] = candidate
    return found


def _is_readable(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) is not None
