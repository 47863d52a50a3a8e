"""How objectives, axes and gaps are written for people."""

from __future__ import annotations

import math

from mapgym.evaluation.sparsity_aware import SparsityAware, is_sparsity_aware, samples_per_mapping

OBJECTIVE_NAMES = {"edp": "EDP", "energy": "energy", "latency": "latency"}
OBJECTIVE_UNITS = {"edp": "pJ*cycles", "energy": "pJ", "latency": "cycles"}

OPTIMAL_GAP = 1e-6
"""A mapping at most this share above a proven lower bound counts as optimal."""


def objective_name(objective: str) -> str:
    """Such as "EDP"; of a sparsity-aware objective "sparsity-aware EDP"."""
    if is_sparsity_aware(objective):
        return f"sparsity-aware {OBJECTIVE_NAMES[SparsityAware.parse(objective).objective]}"
    return OBJECTIVE_NAMES[objective]


def objective_unit(objective: str) -> str:
    """Of its metrics; those of a sparsity-aware objective are relative to the lower bounds."""
    return "x the lower bounds" if is_sparsity_aware(objective) else OBJECTIVE_UNITS[objective]


def samples_text(samples: int, objective: str) -> str:
    """Such as "5,000 samples", or "5,000 samples (1,000 mappings at 5 densities)"."""
    each = samples_per_mapping(objective)
    mappings = f" ({samples // each:,} mappings at {each} densities)" if each > 1 else ""
    return f"{samples:,} samples{mappings}"


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
