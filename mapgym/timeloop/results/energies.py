"""Tables of energies per action in a folder of results: Accelergy's ``ERT.yaml``, of versions 0.2 to 0.4."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping as AbcMapping
from typing import Any

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted

Energies = dict[str, dict[str, float]]
"""Component, by the last part of its name -> action -> energy in pJ."""

_RANGE = re.compile(r"\[[^\]]*\]$")


def component_name(path: str) -> str:
    """The last part of the name of a component: "chip.PE[0..15].Buffer[0..3]" is "Buffer"."""
    return _RANGE.sub("", path).rsplit(".", 1)[-1].strip()


def read_energies(data: object, where: str) -> Energies:
    """Reads a table.

    Of several energies of an action, for different arguments, the largest counts, as in Timeloop.

    Args:
        data: what the key ``ERT`` has.
        where: the file, for messages.

    Raises:
        SpecificationError: it is something else, or an energy is no number of at least 0.
    """
    tables = data.get("tables") if isinstance(data, AbcMapping) else None
    if not isinstance(tables, list | AbcMapping):
        raise SpecificationError(f"{where}: ERT has no tables; give what Accelergy writes")
    energies: Energies = {}
    for component, actions in _components(tables, where):
        found = energies.setdefault(component_name(component), {})
        for action, energy in actions:
            if isinstance(energy, bool) or not isinstance(energy, int | float) or not 0 <= energy < 1e12:
                raise SpecificationError(
                    f"{where}: ERT: the energy of {quoted(action)} of {quoted(component)} is {quoted(energy)}; give a "
                    "number of pJ"
                )
            found[action] = max(found.get(action, 0.0), float(energy))
    return energies


def _components(tables: Any, where: str) -> Iterable[tuple[str, list[tuple[str, Any]]]]:
    """Each component with (action, energy) pairs; since v0.3 a list, before it keys."""
    if isinstance(tables, AbcMapping):
        for component, actions in tables.items():
            if isinstance(actions, AbcMapping):
                yield (
                    str(component),
                    [
                        (str(action), entry.get("energy"))
                        for action, entries in actions.items()
                        for entry in (entries if isinstance(entries, list) else [entries])
                        if isinstance(entry, AbcMapping)
                    ],
                )
        return
    for entry in tables:
        if not isinstance(entry, AbcMapping) or not isinstance(entry.get("actions"), list):
            raise SpecificationError(f"{where}: ERT: an entry is {quoted(entry)}; give a name and a list of actions")
        yield (
            str(entry.get("name", "")),
            [
                (str(action.get("name")), action.get("energy"))
                for action in entry["actions"]
                if isinstance(action, dict)
            ],
        )
