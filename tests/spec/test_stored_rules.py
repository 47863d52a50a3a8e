"""Counting rules of accelerators: those that people name, and those of what was stored before there were names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mapgym.errors import SpecificationError
from mapgym.spec import catalog
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.rules import DEFAULT_RULES, RULE_SETS, RULES_BEFORE_NAMES, counting_rules, stored_rules


def without_rules(accelerator: Accelerator) -> dict[str, object]:
    return {key: value for key, value in accelerator.to_dict().items() if key != "rules"}


@pytest.mark.parametrize("rules", RULE_SETS)
def test_rules_survive_the_plain_form(rules: str) -> None:
    machine = catalog.accelerator("accel_b").counted_by(rules)
    assert machine.rules == machine.counting.name == rules
    assert Accelerator.from_dict(machine.to_dict()) == Accelerator.from_stored(machine.to_dict()) == machine


def test_what_names_no_rules_depends_on_who_has_written_it() -> None:
    machine = catalog.accelerator("accel_b")
    assert Accelerator.from_dict(without_rules(machine)).rules == DEFAULT_RULES
    stored = Accelerator.from_stored(without_rules(machine))
    assert stored == replace(machine, rules=RULES_BEFORE_NAMES)
    assert (stored_rules({}), stored_rules({"rules": "timeloop-3.0.3"})) == (RULES_BEFORE_NAMES, "timeloop-3.0.3")
    with pytest.raises(SpecificationError, match="give a mapping"):
        Accelerator.from_stored([])  # type: ignore[arg-type]


def test_unknown_rules_are_named() -> None:
    machine = catalog.accelerator("accel_b")
    with pytest.raises(SpecificationError, match=r"--rules is 'timeloop-2052'; did you mean 'timeloop-20"):
        machine.counted_by("timeloop-2052", "--rules")
    with pytest.raises(SpecificationError, match=r"mine: accelerator 'accel_b': rules is 3; "):
        Accelerator.from_dict({**machine.to_dict(), "rules": 3}, "mine")
    with pytest.raises(SpecificationError, match="rules is None"):
        counting_rules(None, "rules")
