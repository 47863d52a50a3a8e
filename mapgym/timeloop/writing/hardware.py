"""An accelerator as a Timeloop architecture of v0.2, which all versions since 2019 read, with its energies.

The energy of accesses is the attribute ``vector-access-energy`` of a level, which every version takes before all else;
a level whose actions cost different energies, or that leaks, and the MACs have an ERT instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.sparsity import expand_ranks

Node = dict[str, Any]


def architecture_of(accelerator: Accelerator, names: Mapping[str, str]) -> Node:
    """The section ``architecture``: a tree with a node for each level, the MACs beside the innermost one.

    Args:
        accelerator: with the tensors of a workload in place of roles.
        names: of levels, the MACs and tensors -> Timeloop's.
    """
    tree: Node | None = None
    for s, level in enumerate(accelerator.levels):
        local = [_storage(level, names, is_outermost=s == len(accelerator.levels) - 1)]
        if s == 0:
            local.append(_compute(accelerator.mac, names))
        node: Node = {"name": f"node{len(accelerator.levels) - 1 - s}", "local": local}
        if tree is not None:
            node["subtree"] = [tree]
        tree = node
    return {"version": 0.2, "subtree": [tree]}


def energies_of(accelerator: Accelerator, names: Mapping[str, str]) -> Node:
    """The section ``ERT``: the energy of each action, under the first name that the accelerator's rules look for."""
    action_names = accelerator.counting.action_names
    tables = [_table(names[accelerator.mac.name], accelerator.mac_energies, action_names)]
    for level, energies in zip(accelerator.levels, accelerator.action_energies, strict=True):
        if _needs_table(level):
            tables.append(_table(names[level.name], energies, action_names))
    return {"version": 0.3, "tables": tables}


def sparse_optimizations_of(accelerator: Accelerator, names: Mapping[str, str]) -> Node | None:
    """The section ``sparse_optimizations``, None if there is nothing in it."""
    targets: list[Node] = []
    for level in reversed(accelerator.levels):
        target: Node = {"name": names[level.name]}
        if level.formats:
            target["representation-format"] = {
                "data-spaces": [
                    {
                        "name": names[tensor],
                        "ranks": [{"format": rank} for rank in expand_ranks(ranks)],
                        "rank-application-order": "inner-to-outer",
                    }
                    for tensor, ranks in level.formats
                ]
            }
        if level.actions:
            target["action-optimization"] = [
                {
                    "type": action.saving,
                    "options": [
                        {
                            "target": names[action.target],
                            "condition-on": [names[tensor] for tensor in action.condition_on],
                        }
                    ],
                }
                for action in level.actions
            ]
        if len(target) > 1:
            targets.append(target)
    if accelerator.mac.zero_operands:
        savings = [{"type": saving} for saving in accelerator.mac.zero_operands]
        targets.append({"name": names[accelerator.mac.name], "compute-optimization": savings})
    return {"targets": targets} if targets else None


def _storage(level: StorageLevel, names: Mapping[str, str], *, is_outermost: bool) -> Node:
    block, cluster = level.block_size_words, level.cluster_size
    attributes: Node = {}
    if level.capacity_words is not None:
        # A memory of so many rows of blocks, or of so many words where they do not fill rows.
        rows, rest = divmod(level.capacity_words, block)
        attributes.update({"entries": level.capacity_words} if rest else {"depth": rows})
    attributes |= {"width": level.word_bits * block * cluster, "block-size": block, "word-bits": level.word_bits}
    if cluster > 1:
        attributes["cluster-size"] = cluster
    attributes |= {"meshX": level.mesh_x, "meshY": level.mesh_y}
    for key, value in (
        ("read_bandwidth", level.read_bandwidth_words_per_cycle),
        ("write_bandwidth", level.write_bandwidth_words_per_cycle),
        ("shared_bandwidth", level.shared_bandwidth_words_per_cycle),
        ("energy-per-hop", None if level.wire_energy_pj_per_bit_mm else level.energy_per_hop_pj),
        ("wire-energy", level.wire_energy_pj_per_bit_mm),
        ("tile-width", level.tile_width_um),
        ("router-energy", level.router_energy_pj),
        ("energy-per-ingress", level.energy_per_ingress_pj),
        ("addr-gen-energy", level.address_energy_pj),
        ("min-utilization", level.minimum_utilization),
        ("multiple-buffering", None if level.multiple_buffering == 1 else level.multiple_buffering),
        ("metadata_datawidth", level.metadata_word_bits),
        ("decompression_supported", level.decompression_supported),
        ("compression_supported", level.compression_supported),
    ):
        if value:
            attributes[key] = value
    if level.metadata_word_bits:
        width = level.metadata_access_bits or level.metadata_word_bits
        attributes["metadata_storage_width"] = width
        if level.metadata_capacity_bits is not None:
            attributes["metadata_storage_depth"] = level.metadata_capacity_bits // width
    if level.power_gated_at is not None:
        attributes["power_gated_at"] = names[level.power_gated_at]
    if level.bandwidth_scale:
        scales = {names[tensor]: scale for tensor, scale in level.bandwidth_scale}
        attributes["per_dataspace_bandwidth_consumption_scale"] = scales
    if not _needs_table(level):
        attributes["vector-access-energy"] = level.access_energy_pj
    return {
        "name": _with_instances(names[level.name], level.instances),
        "class": "DRAM" if level.capacity_words is None else "SRAM",
        "attributes": attributes,
    }


def _compute(mac: Mac, names: Mapping[str, str]) -> Node:
    return {
        "name": _with_instances(names[mac.name], mac.instances),
        "class": "intmac",
        "attributes": {"datawidth": mac.word_bits, "meshX": mac.mesh_x, "meshY": mac.mesh_y},
    }


def _with_instances(name: str, instances: int) -> str:
    return f"{name}[0..{instances - 1}]" if instances > 1 else name


def _needs_table(level: StorageLevel) -> bool:
    return bool(level.action_energies_pj)


def _table(name: str, energies: Mapping[str, float], action_names: Mapping[str, tuple[str, ...]]) -> Node:
    actions = []
    for action, energy in energies.items():
        # What has no name under the rules of a version cannot cost anything else there.
        if action_names[action]:
            actions.append({"name": action_names[action][0], "arguments": {}, "energy": energy})
    return {"name": f"system.{name}", "actions": actions}
