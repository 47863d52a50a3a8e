"""Which version of Timeloop has printed a file: what its outline shows, and what has to be tried."""

from __future__ import annotations

from typing import NamedTuple

from mapgym.spec.rules import RULE_SETS
from mapgym.timeloop.results.hardware import DEAREST_ACTION, EACH_ACTION
from mapgym.timeloop.results.stats import Stats


class Version(NamedTuple):
    """A way to count: the counting rules, and how an ERT is read."""

    rules: str
    reading: str


_BEFORE_V2 = [Version("timeloop-2021", DEAREST_ACTION)]
_LEAKING = [Version("timeloop-2024", EACH_ACTION), Version("timeloop-2025", EACH_ACTION)]
_BETWEEN = [
    Version(rules, EACH_ACTION)
    for rules in ("timeloop-2021", "sparseloop-2022", "timeloop-3.0", "timeloop-3.0.3", "timeloop-2022")
]


def likely_versions(stats: Stats) -> tuple[list[Version], str]:
    """The versions that print such a file, and what shows it, as the end of a sentence."""
    if "MACCs" in stats.summary:
        return _BEFORE_V2, "as MACCs are printed, which versions before v2.0 (June 2021) do"
    if any("Per-instance-cycle leakage" in level.specs for level in stats.levels):
        return _LEAKING, "as leakage is printed, which versions since September 2023 do"
    return _BETWEEN, "as computes but no leakage are printed, which versions of June 2021 to September 2023 do"


def other_versions(likely: list[Version]) -> list[Version]:
    """All other ways to count."""
    every = [Version(rules, reading) for rules in RULE_SETS for reading in (EACH_ACTION, DEAREST_ACTION)]
    return [version for version in every if version not in likely]


def versions_of(rules: str, stats: Stats) -> list[Version]:
    """The ways to count of counting rules that the user has named."""
    return [Version(rules, DEAREST_ACTION if "MACCs" in stats.summary else EACH_ACTION)]
