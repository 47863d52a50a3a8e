"""Factors as Timeloop's constraints write them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.spec.constraints import ALL, Factor

_FACTOR = re.compile(r"([A-Za-z_]\w*?)\s*(<=|>=|=)\s*(-?\d{1,12})(?![\w.])|([A-Za-z_]+)\s*(\d{1,12})(?![\w.])")


def factor_of(limits: Mapping[str, int]) -> Factor:
    """A factor as our constraints have it."""
    if "=" in limits:
        return limits["="] or ALL
    least, most = limits.get(">=", 1), limits.get("<=", 0)
    if least == 0:
        return ALL
    # At most 0 is at most the bound.
    if most == 0:
        return f">={least}"
    return f"{least}..{most}" if least > 1 else f"<={most}"


def allows_one(limits: Mapping[str, int], bound: int) -> bool:
    """Whether a factor may be 1."""
    if (limits.get("=", 1) or bound) != 1:
        return False
    return (limits.get(">=", 1) or bound) <= 1


def parse_factors(data: object, where: str) -> list[tuple[str, str, int]]:
    """(dim, sign, number) of "R=3 S<=4 C>=2", "R3 S4", a list of such, or dim: factor pairs."""
    if data is None or data == "":
        return []
    if isinstance(data, list):
        return [found for entry in data for found in parse_factors(entry, where)]
    if isinstance(data, Mapping):
        for dim, number in data.items():
            if type(number) is not int:
                raise SpecificationError(f"{where}: {quoted(dim)} is {quoted(number)}; give a whole number")
        return [(str(dim), "=", number) for dim, number in data.items()]
    text = str(data).split("#")[0]
    if not isinstance(data, str) or _FACTOR.sub("", text).strip(" ,;\t\n"):
        raise SpecificationError(f"{where} are {quoted(data)}; write such as 'R=3 S<=4 C>=2', with plain numbers")
    return [(match[1] or match[4], match[2] or "=", int(match[3] or match[5])) for match in _FACTOR.finditer(text)]
