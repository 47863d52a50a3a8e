"""What a level can have beside capacity, mesh and one energy of an access: read, checked and written again."""

from __future__ import annotations

from typing import Any

import pytest

from mapgym.errors import SpecificationError
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.actions import MAC_ACTIONS, STORAGE_ACTIONS
from mapgym.spec.rules import RULE_SETS


def described(buffer: dict[str, Any], **rest: Any) -> dict[str, Any]:
    """A memory, a buffer with two instances and some keys, and two MACs."""
    levels = [
        {"name": "Memory", "access_energy_pj": 100.0},
        {"name": "Buffer", "capacity_words": 64, "mesh_x": 2, "access_energy_pj": 2.0, **buffer},
    ]
    return {"name": "machine", "levels": levels, "mac": {"mesh_x": 2, "energy_pj": 1.0}, **rest}


FEATURES = {
    "action_energies_pj": {"read": 1.5, "write": 2.5, "leak": 0.125},
    "address_energy_pj": 0.25,
    "bandwidth_scale": {"Inputs": 0.5},
    "cluster_size": 2,
    "energy_per_ingress_pj": 0.5,
    "minimum_utilization": 0.25,
    "multiple_buffering": 1.5,
    "no_multicast": ["Weights"],
    "no_temporal_reuse": ["Inputs"],
    "power_gated_at": "Memory",
    "tile_width_um": 250.0,
    "wire_energy_pj_per_bit_mm": 0.0625,
}


def test_what_is_read_is_written_again() -> None:
    machine = Accelerator.from_dict(described(FEATURES, rules="timeloop-3.0.3"))
    written = machine.to_dict()
    assert Accelerator.from_dict(written) == machine
    assert written["rules"] == "timeloop-3.0.3"
    level = written["levels"][1]  # type: ignore[index]
    assert {key: level[key] for key in FEATURES} == FEATURES
    assert not set(FEATURES) & set(Accelerator.from_dict(described({})).to_dict()["levels"][1])  # type: ignore[index]


def test_what_follows_from_the_fields() -> None:
    level = Accelerator.from_dict(described(FEATURES)).levels[0]
    assert level.clusters == 1
    assert level.usable_words == 42  # 64 / 1.5 = 42.7
    assert level.hop_energy_pj == 16 * 0.25 * 0.0625


def test_one_bandwidth_is_half_for_reads_and_half_for_writes() -> None:
    level = Accelerator.from_dict(described({"bandwidth_words_per_cycle": 8})).levels[0]
    assert (level.read_bandwidth_words_per_cycle, level.write_bandwidth_words_per_cycle) == (4.0, 4.0)
    given = {"bandwidth_words_per_cycle": 8, "read_bandwidth_words_per_cycle": 3}
    level = Accelerator.from_dict(described(given)).levels[0]
    assert (level.read_bandwidth_words_per_cycle, level.write_bandwidth_words_per_cycle) == (3, 4.0)


@pytest.mark.parametrize(
    ("rules", "table", "expected"),
    [
        ("timeloop-2025", {"read": 5.0}, {"read": 5.0, "fill": 2.0, "update": 2.0, "gated_read": 0.0}),
        ("timeloop-2025", {"write": 5.0, "update": 7.0}, {"read": 2.0, "fill": 5.0, "update": 7.0}),
        ("timeloop-2025", {"random_write": 6.0, "update": 7.0}, {"fill": 6.0, "update": 6.0}),
        ("timeloop-2025", {"gated_write": 1.0}, {"gated_fill": 1.0, "skipped_update": 1.0, "fill": 2.0}),
        ("timeloop-2025", {"idle": 0.5}, {"gated_read": 0.0, "skipped_fill": 0.0, "metadata_read": 0.0}),
        ("timeloop-3.0.3", {"idle": 0.5}, {"gated_read": 0.5, "skipped_fill": 0.5, "metadata_read": 0.5}),
        ("timeloop-3.0.3", {"read": 5.0, "write": 6.0}, {"gated_read": 5.0, "skipped_update": 6.0}),
        ("timeloop-3.0.3", {"random_fill": 6.0, "write": 4.0}, {"fill": 6.0, "update": 6.0}),
        ("timeloop-3.0.3", {"leak": 1.0}, {"leak": 0.0}),
        ("timeloop-2022", {"read": 5.0, "leak": 1.0}, {"read": 2.0, "leak": 0.0}),
    ],
)
def test_each_action_takes_the_first_of_its_names(
    rules: str, table: dict[str, float], expected: dict[str, float]
) -> None:
    energies = Accelerator.from_dict(described({"action_energies_pj": table}, rules=rules)).action_energies[0]
    assert {action: energies[action] for action in expected} == expected


def test_all_rule_sets_name_all_actions() -> None:
    for rules in RULE_SETS.values():
        assert set(rules.action_names) == {*STORAGE_ACTIONS, *MAC_ACTIONS}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"action_energies_pj": {"raed": 1}}, "unknown action 'raed'; did you mean 'read'?"),
        ({"action_energies_pj": {"read": -1}}, "read is -1; give a finite energy"),
        ({"action_energies_pj": {"read": float("nan")}}, "read is nan; give a finite energy"),
        ({"action_energies_pj": {"metadata_read": 1}}, "metadata_read, but stores nothing in a format; add formats"),
        ({"action_energies_pj": 3}, "give name: number pairs such as read: 1.5"),
        ({"cluster_size": 3}, "cluster_size 3 does not divide the 2 instances"),
        ({"multiple_buffering": 0.5}, "multiple_buffering is 0.5; give a number of at least 1"),
        ({"multiple_buffering": 100}, "leaves no word of its 64"),
        ({"minimum_utilization": 2}, "minimum_utilization is 2; give a share of the capacity"),
        ({"power_gated_at": "Memroy"}, "name a storage level: did you mean 'Memory'?"),
        ({"energy_per_hop_pj": 1, "wire_energy_pj_per_bit_mm": 1, "tile_width_um": 1}, "leave out one of them"),
        ({"wire_energy_pj_per_bit_mm": 1}, "no tile_width_um; add the distance of inner instances"),
        ({"bandwidth_scale": {"Inputs": 0}}, "bandwidth_scale of 'Inputs' is 0; give a number above 0"),
        ({"no_multicast": "Weights"}, "no_multicast is 'Weights'; give a list of tensor names"),
        ({"bandwidth_words_per_cycle": 0}, "bandwidth_words_per_cycle is 0; give a number above 0"),
        ({"rules": "timeloop-2025"}, "unknown key 'rules'"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(keys: dict[str, object], words: str) -> None:
    with pytest.raises(SpecificationError) as error:
        Accelerator.from_dict(described(keys))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_table_alone_has_to_say_what_each_access_costs() -> None:
    data = described({"action_energies_pj": {"read": 1.0}})
    del data["levels"][1]["access_energy_pj"]
    with pytest.raises(SpecificationError, match="has no energy of fill under timeloop-2025; add one of random_fill"):
        Accelerator.from_dict(data)


def test_unknown_rules_are_refused() -> None:
    with pytest.raises(SpecificationError, match="rules is 'timeloop-2026'; did you mean"):
        Accelerator.from_dict(described({}, rules="timeloop-2026"))
