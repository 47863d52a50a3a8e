"""From memories and the arrays between them to storage levels with meshes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import Mac, StorageLevel


@dataclass(frozen=True)
class Fanout:
    """Copies of all that lies inside, along one axis of an array.

    Attributes:
        name: of the axis; unique.
        size: how many.
    """

    name: str
    size: int


def nest(name: str, parts: Sequence[StorageLevel | Fanout], mac: Mac) -> Accelerator:
    """An accelerator whose meshes are those of the axes of arrays between its memories.

    A level spreads out along X and Y. Where an array has more axes, each pair of them has a dummy level, which holds
    nothing; so each axis keeps its own fan-out, as in the other tool.

    Args:
        name: of the accelerator.
        parts: outermost first, beginning with a memory; their meshes are overwritten.
        mac: its mesh is overwritten.

    Raises:
        SpecificationError: it has more levels or units than an accelerator may have.
    """
    levels: list[StorageLevel] = []
    mesh, open_axes = (1, 1), 0
    for part in parts:
        if isinstance(part, StorageLevel):
            levels.append(replace(part, mesh_x=mesh[0], mesh_y=mesh[1]))
            open_axes = 2
        elif part.size > 1:
            if open_axes == 0:
                levels.append(StorageLevel(f"{part.name} array", None, *mesh, access_energy_pj=0.0, keep_only=()))
                open_axes = 2
            mesh = (mesh[0] * part.size, mesh[1]) if open_axes == 2 else (mesh[0], mesh[1] * part.size)
            open_axes -= 1
    # Neither tool lets neighbours pass words to each other.
    mac = replace(mac, mesh_x=mesh[0], mesh_y=mesh[1])
    return Accelerator(name, tuple(reversed(levels)), mac, peer_links=False)
