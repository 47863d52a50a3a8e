"""Named sets of counting rules: those of the versions of Timeloop that people compare with.

Timeloop has changed what it counts several times. Each change is one switch here, so that a version is one line. The
switches say what holds; docs/cost_model.md explains the rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mapgym.errors import SpecificationError, suggest
from mapgym.errors.text import quoted
from mapgym.spec.actions import NAMES_OF_2022, NAMES_OF_2023, NAMES_OF_2025, ActionNames


@dataclass(frozen=True)
class CountingRules:
    """What a version of Timeloop counts, and how.

    Attributes:
        name: how specifications call it.
        version: the release or commit of Timeloop that counts so.
        first_fills_elided: whether an output's words cost no fill at their first visit, where nothing can be there yet
            (since v3.0, May 2023); the outermost level that keeps the output gets no fills in any case.
        reuse_survives_stationary_steps: whether a tile that stands still for a step remembers how it moved before, so
            that the halo is reused when it goes on (since January 2025).
        hops_on_grid: whether the way of a word in a network is measured on the grid of instances, along a row and up
            and down the columns, and entering a network can cost energy (since v3.0.3); else hops are estimated from
            the number of instances.
        leakage: whether levels leak, and ``bandwidth_scale`` counts (since September 2023, not in v3.0.3).
        action_names: under which names energies of actions are looked up.
        coordinates_by_fiber: whether the formats CP and RLE have the mean coordinates of a fiber, in CP rounded up,
            for each fiber that is not empty; else as many as there are entries that are not.
    """

    name: str
    version: str
    first_fills_elided: bool
    reuse_survives_stationary_steps: bool
    hops_on_grid: bool
    leakage: bool
    action_names: ActionNames
    coordinates_by_fiber: bool = True


_ALL = (
    CountingRules("timeloop-2025", "HEAD of March 2025, commit 4cf6d4c", True, True, True, True, NAMES_OF_2025),
    CountingRules("timeloop-2024", "HEAD, September 2023 to 2024", True, False, True, True, NAMES_OF_2025),
    CountingRules("timeloop-3.0.3", "release v3.0.3, 2023", True, False, True, False, NAMES_OF_2023),
    CountingRules("timeloop-3.0", "releases v3.0 to v3.0.2, 2023", True, False, False, False, NAMES_OF_2023),
    CountingRules("timeloop-2022", "October 2022, commit 83088f2", False, False, False, False, NAMES_OF_2022),
    CountingRules("timeloop-2021", "v2.0 to early 2023, with an ERT", False, False, False, False, NAMES_OF_2023),
    CountingRules(
        "sparseloop-2022", "that of Sparseloop's artefact, 2022", False, False, False, False, NAMES_OF_2023, False
    ),
)

RULE_SETS = {rules.name: rules for rules in _ALL}
"""By name; the first is the default."""

DEFAULT_RULES = "timeloop-2025"

RULES_BEFORE_NAMES = "timeloop-2022"
"""What held when specifications did not name their rules: for files that were stored then."""


def stored_rules(data: Mapping[str, object]) -> str:
    """The name of the rules in something that a program has stored, such as the plain form of an accelerator."""
    return str(data.get("rules", RULES_BEFORE_NAMES))


def counting_rules(name: object, where: str) -> CountingRules:
    """The rule set of a name.

    Raises:
        SpecificationError: there is none.
    """
    if not isinstance(name, str) or name not in RULE_SETS:
        raise SpecificationError(f"{where} is {quoted(name)}; {suggest(str(name), RULE_SETS)}")
    return RULE_SETS[name]
