"""Numbers as they are printed: a value, and how much of it the digits leave open."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted

_NUMBER = re.compile(r"([-+]?\d+)(\.\d*)?(?:[eE]([-+]?\d+))?(%?)(?:$|\s)")
_SLACK = 1e-9
"""What arithmetic in another order may change, relative; also the parts of a printed half."""


@dataclass(frozen=True)
class Printed:
    """A printed number.

    Attributes:
        text: as it stands there, without a unit.
        value: the number; percentages as fractions.
        half: half a unit of the last digit: how far from ``value`` the number that was printed may lie; 0 for a whole
            number.
    """

    text: str
    value: float
    half: float

    def shows(self, number: float) -> bool:
        """Whether a number is printed like this."""
        return abs(number - self.value) <= self.half * (1 + 1e-6) + _SLACK * abs(number) * (self.half > 0)

    def lies_within(self, low: float, high: float) -> bool:
        """Whether some number between two is printed like this."""
        slack = self.half * (1 + 1e-6) + _SLACK * max(abs(low), abs(high))
        return low - slack <= self.value <= high + slack


def read_printed(text: str, where: str) -> Printed:
    """Reads a number, its unit left out.

    Raises:
        SpecificationError: it is none.
    """
    match = _NUMBER.match(text.strip())
    if match is None or len(match[1]) > 40 or len(match[3] or "") > 4:
        raise SpecificationError(f"{where} is {quoted(text)}, which is no number; give the file as Timeloop wrote it")
    shown = text.strip()[: match.end()].strip()
    digits = len(match[2] or "") - 1 if match[2] else 0
    scale = 10.0 ** int(match[3] or 0) * (0.01 if match[4] else 1.0)
    value = float((match[1] + (match[2] or "")).rstrip(".")) * scale
    is_whole = not match[2] and not match[3] and not match[4]
    return Printed(shown, value, 0.0 if is_whole else 0.5 * 10.0**-digits * scale)


def read_optional(text: str | None, where: str) -> Printed | None:
    """The same; None for "-", which stands for no limit, and for what is not there."""
    return None if text is None or text.split(maxsplit=1)[:1] in ([], ["-"]) else read_printed(text, where)
