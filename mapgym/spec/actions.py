"""What hardware does that costs energy, and under which names tables of energies list it.

A table (of Accelergy, say) may name one energy for every write, or different ones for fills from outside and updates
from inside. Timeloop looks for the most particular name first, and which names it knows has changed
(:mod:`mapgym.spec.rules`). ``access_energy_pj`` of a level and ``energy_pj`` of the MACs are the short form of a table.
"""

from __future__ import annotations

from collections.abc import Mapping

ActionNames = Mapping[str, tuple[str, ...]]
"""For each action the names that are looked up in a table; the first that is there counts."""

READ, FILL, UPDATE = "read", "fill", "update"
ACCESSES = (READ, FILL, UPDATE)
"""What a storage level does with data: reads, writes that come from outside, and writes that come from inside."""

SAVINGS = ("gated", "skipped")

STORAGE_ACTIONS = (
    *ACCESSES,
    *(f"{saving}_{access}" for saving in SAVINGS for access in ACCESSES),
    *(f"metadata_{access}" for access in ACCESSES),
    *(f"{saving}_metadata_{access}" for saving in SAVINGS for access in ACCESSES),
    *("decompression", "compression"),
    "leak",
)
"""All actions of a storage level. Energies are in pJ per access of a block (metadata: of ``metadata_access_bits``), per
word (decompression and compression), and per instance and cycle (leak)."""

MAC_ACTIONS = ("compute", "gated_compute", "skipped_compute")
"""A multiply-accumulate that is done, or saved because of zeros; energies are in pJ."""

NAMES_OF_2025: ActionNames = {
    "read": ("random_read", "read"),
    "fill": ("random_fill", "random_write", "fill", "write"),
    "update": ("random_update", "random_write", "update", "write"),
    "gated_read": ("gated_read",),
    "gated_fill": ("gated_fill", "gated_write"),
    "gated_update": ("gated_update", "gated_write"),
    "skipped_read": ("skipped_read", "gated_read"),
    "skipped_fill": ("skipped_fill", "skipped_write", "gated_fill", "gated_write"),
    "skipped_update": ("skipped_update", "skipped_write", "gated_update", "gated_write"),
    "metadata_read": ("random_metadata_read", "metadata_read"),
    "metadata_fill": ("random_metadata_fill", "random_metadata_write", "metadata_fill", "metadata_write"),
    "metadata_update": ("random_metadata_update", "random_metadata_write", "metadata_update", "metadata_write"),
    "gated_metadata_read": ("gated_metadata_read",),
    "gated_metadata_fill": ("gated_metadata_fill", "gated_metadata_write"),
    "gated_metadata_update": ("gated_metadata_update", "gated_metadata_write"),
    "skipped_metadata_read": ("skipped_metadata_read", "gated_metadata_read"),
    "skipped_metadata_fill": (
        *("skipped_metadata_fill", "skipped_metadata_write"),
        *("gated_metadata_fill", "gated_metadata_write"),
    ),
    "skipped_metadata_update": (
        *("skipped_metadata_update", "skipped_metadata_write"),
        *("gated_metadata_update", "gated_metadata_write"),
    ),
    "decompression": ("decompression_count",),
    "compression": ("compression_count",),
    "leak": ("leak",),
    "compute": ("mac_random", "mult_random", "mac", "mult", "compute"),
    "gated_compute": ("mac_gated", "mult_gated", "compute_gated", "mac", "mult", "compute"),
    "skipped_compute": (
        *("mac_skipped", "mult_skipped", "compute_skipped"),
        *("mac_gated", "mult_gated", "compute_gated", "mac", "mult", "compute"),
    ),
}
"""Names in today's Timeloop; an action without any of them costs nothing, apart from the first four."""

NAMES_OF_2023: ActionNames = {
    **NAMES_OF_2025,
    "fill": ("random_fill", "write"),
    "update": ("random_update", "random_fill", "write"),
    "gated_read": ("gated_read", "idle", "read"),
    "gated_fill": ("gated_fill", "gated_write", "idle", "write"),
    "gated_update": ("gated_update", "gated_write", "idle", "write"),
    "skipped_read": ("skipped_read", "gated_read", "idle", "read"),
    "skipped_fill": ("skipped_fill", "skipped_write", "gated_write", "idle", "write"),
    "skipped_update": ("skipped_update", "skipped_write", "gated_write", "idle", "write"),
    "metadata_read": ("random_metadata_read", "metadata_read", "metadata_idle", "idle"),
    "metadata_fill": ("random_metadata_fill", "metadata_write", "metadata_idle", "idle"),
    "metadata_update": ("random_metadata_update", "metadata_write", "metadata_idle", "idle"),
    "gated_metadata_read": ("gated_metadata_read", "metadata_idle", "metadata_read"),
    "gated_metadata_fill": ("gated_metadata_fill", "gated_metadata_write", "metadata_idle", "metadata_write"),
    "gated_metadata_update": ("gated_metadata_update", "gated_metadata_write", "metadata_idle", "metadata_write"),
    "skipped_metadata_read": ("skipped_metadata_read", "metadata_idle", "metadata_read"),
    "skipped_metadata_fill": ("skipped_metadata_fill", "skipped_metadata_write", "metadata_idle", "metadata_write"),
    "skipped_metadata_update": (
        *("skipped_metadata_update", "skipped_metadata_write"),
        *("metadata_idle", "metadata_write"),
    ),
    "leak": (),
}
"""Names in v3.0.3. There, what is saved costs as much as what is done, unless the table says otherwise."""

NAMES_OF_2022: ActionNames = {
    action: () if action in STORAGE_ACTIONS else names for action, names in NAMES_OF_2023.items()
}
"""In October 2022 no table of energies reached storage: accesses cost what the level itself says, all else nothing."""


def known_names(actions: tuple[str, ...], *tables: ActionNames) -> tuple[str, ...]:
    """All names under which tables of energies may list some actions, in order."""
    names = (name for table in tables for action in actions for name in table[action])
    return tuple(dict.fromkeys(names))
