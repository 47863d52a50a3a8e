"""What neither ZigZag nor AccelForge knows of an accelerator, a workload and a mapping of ours."""

from __future__ import annotations

import math

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.mapping import Mapping
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import StorageLevel
from mapgym.spec.workload import Workload

_OF_LEVELS = {
    "energy_per_hop_pj": "the energy of the network below is left out",
    "wire_energy_pj_per_bit_mm": "the energy of the network below is left out",
    "router_energy_pj": "the energy of the network below is left out",
    "energy_per_ingress_pj": "the energy of the network below is left out",
    "address_energy_pj": "the energy of generating addresses is left out",
    "cluster_size": "each instance is charged by itself",
    "bandwidth_scale": "all tensors count alike towards bandwidths",
    "power_gated_at": "unused instances are not switched off together",
    "minimum_utilization": "a constraint on mappings, left out",
    "no_temporal_reuse": "tiles that stay are not brought again",
    "formats": "tensors are stored uncompressed",
    "actions": "no access is saved because of zeros",
}


def common_losses(workload: Workload, accelerator: Accelerator, mapping: Mapping) -> list[str]:
    """A sentence for each feature that is used and that neither tool has.

    Raises:
        SpecificationError: the mapping is more parallel at a level than its own fan-out allows.
    """
    _require_own_fanouts(accelerator, mapping)
    lost = []
    for key, why in _OF_LEVELS.items():
        names = [quoted(level.name) for level in accelerator.levels if getattr(level, key) != _default(key)]
        if names:
            lost.append(f"{key} of {', '.join(names)}: {why}.")
    if accelerator.peer_links and bool((mapping.spatial > 1).any()):
        lost.append("peer_links: neighbours pass no words to each other; all come from the memory above.")
    if accelerator.mac.zero_operands:
        lost.append("zero_operands: all multiply-accumulates are done, also those with a zero.")
    sparse = [quoted(tensor.name) for tensor in workload.tensors if tensor.density < 1]
    if sparse:
        lost.append(f"density of {', '.join(sparse)}: all words count.")
    if accelerator.levels[-1].instances > 1:
        lost.append(f"{quoted(accelerator.levels[-1].name)} is one memory; a mapping uses one of its instances anyway.")
    lost.append(f"rules {accelerator.rules}: the other tool counts by its own rules, those of halos among them.")
    return lost


def _require_own_fanouts(accelerator: Accelerator, mapping: Mapping) -> None:
    for s, level in enumerate(accelerator.levels):
        for side, fanout, loops in zip(
            "XY", (accelerator.fanout_x[s], accelerator.fanout_y[s]), mapping.spatial_sides(s), strict=True
        ):
            used = math.prod(factor for _, factor in loops)
            if used > fanout:
                raise SpecificationError(
                    f"the mapping uses {used} instances along {side} below {quoted(level.name)}, which has {fanout}: "
                    "other tools check each fan-out by itself; export a mapping that does, too"
                )


def _default(key: str) -> object:
    return StorageLevel.__dataclass_fields__[key].default
