"""Tables of energies that Accelergy has written."""

from __future__ import annotations

import pytest

from mapgym.errors import SpecificationError
from mapgym.timeloop.reading.documents import Section
from mapgym.timeloop.reading.energies import read_energies


def read(data):
    return read_energies([Section("ERT", data, "e.yaml", "ERT")])


def test_energies_of_all_versions():
    new = {"tables": [{"name": "chip.PE[0..3].RF[1..4]", "actions": [{"name": "read", "energy": 2}]}]}
    assert read(new) == {"RF": {"read": 2.0}}
    # Until v0.2 the components are keys, and an action has an energy for each of its arguments.
    old = {"tables": {"chip.RF": {"read": [{"energy": 1, "arguments": {}}, {"energy": 3}], "idle": {"energy": 0.5}}}}
    assert read(old) == {"RF": {"read": 3.0, "idle": 0.5}}
    assert read_energies([]) == {}


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"tables": 7},
        {"tables": [7]},
        {"tables": [{"name": "a", "actions": [{"energy": 1}]}]},
        {"tables": [{"name": "a", "actions": [{"name": "read", "energy": "x"}]}]},
        {"tables": [{"name": "a", "actions": [{"name": "read", "energy": -1}]}]},
        {"tables": [{"name": "a", "actions": [{"name": "read", "energy": float("nan")}]}]},
    ],
)
def test_what_is_no_table_is_answered_with_the_file(broken):
    with pytest.raises(SpecificationError, match=r"^e\.yaml: ERT"):
        read(broken)
