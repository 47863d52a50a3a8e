"""How objectives, axes and gaps are written for people."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mapgym.agents.base import AXES

KEEP_ALL = AXES[:3]
"""The axes when every tensor is kept wherever it may be."""

OBJECTIVE_NAMES = {"edp": "EDP", "energy": "energy", "latency": "latency"}
OBJECTIVE_UNITS = {"edp": "pJ*cycles", "energy": "pJ", "latency": "cycles"}

OPTIMAL_GAP = 1e-6
"""A mapping at most this share above a proven lower bound counts as optimal."""


def percent(share: float) -> str:
    """Three digits, such as "12.3 %", "0.0123 %", "1,230 %"."""
    value = 100.0 * share
    return f"{value:,.0f} %" if value >= 100 else f"{value:.3g} %"


def short_gap(gap: float | None, *, certified: bool) -> str:
    """A gap in the cell of a table; "<=" where only a bound is proven, "-" when there is none."""
    if gap is None or not math.isfinite(gap):
        return "-"
    if abs(gap) <= OPTIMAL_GAP:
        return "0 %"
    return f"{'' if certified else '<= '}{percent(gap)}"


def axes_label(axes: Sequence[str]) -> str:
    """Such as "keep-all" and "bypass"."""
    if set(axes) == set(AXES):
        return "bypass"
    return "keep-all" if set(axes) == set(KEEP_ALL) else "+".join(axes)
