"""A mapping for ZigZag: its accelerator, its layer, and the order of its loops.

ZigZag holds the parallel loops of each array dimension and the order of all temporal loops. It puts these loops into
memories itself, each as low as it fits, and it has no bypass; so the accelerator is written with those operands at each
memory that the mapping keeps there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.interop.imported import WEIGHTS
from mapgym.interop.losses import common_losses
from mapgym.mapping import Mapping
from mapgym.mapping.export import Export
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import StorageLevel
from mapgym.spec.workload import Workload
from mapgym.system.yaml_loader import dump_yaml

UNLIMITED_BITS = 2**50
"""Size of a memory without a limit; ZigZag's own examples have a large number there, too."""

_UNLIMITED_BLOCKS = 4
"""Blocks a cycle, for each instance below, of a port without a limit; ZigZag rounds accesses of all bits down."""

_MOST_AXES = 4
"""Array dimensions that a file of mappings may name, D1 to D4."""

_DIM = re.compile(r"[A-Z]+[0-9]*")
_Axis = list[tuple[int, int]]
"""Fan-outs that form one array dimension: (level, side), side 0 being X."""


def export_zigzag(workload: Workload, accelerator: Accelerator, mapping: Mapping) -> Export:
    """Files for ZigZag: ``accelerator.yaml``, ``workload.yaml`` and ``mapping.yaml``.

    Args:
        workload: a product of two tensors.
        accelerator: its words are as wide as those of its MACs.
        mapping: a legal mapping.

    Raises:
        SpecificationError: the workload has not two operands, an index is a sum of more than two dims, or the array has
            more dimensions than ZigZag's mappings can name.
    """
    machine = accelerator.for_workload(workload)
    letters = _operands(workload)
    names = _dim_names(workload)
    lost = common_losses(workload, machine, mapping)
    axes = _axes(machine, mapping, lost)
    hardware = _accelerator(workload, machine, mapping, axes, lost)
    layer = _layer(workload, machine, letters, names)
    plan = _plan(mapping, axes, names)
    lost = list(dict.fromkeys(lost))
    lost.insert(
        0,
        "levels of temporal loops: ZigZag puts each loop into the lowest memory that has room; their order is kept.",
    )
    return Export(
        {
            "accelerator.yaml": dump_yaml(hardware),
            "workload.yaml": dump_yaml([layer]),
            "mapping.yaml": dump_yaml([plan]),
        },
        tuple(lost),
    )


def _operands(workload: Workload) -> dict[str, str]:
    """Tensor -> O, W or I."""
    operands = [tensor.name for tensor in workload.tensors if not tensor.is_output]
    if len(operands) != 2:
        raise SpecificationError(
            f"workload {quoted(workload.name)} has {len(operands)} operands; ZigZag takes a product of two, so export "
            "another workload"
        )
    weights = WEIGHTS if WEIGHTS in operands else operands[0]
    return {
        tensor.name: "O" if tensor.is_output else "W" if tensor.name == weights else "I" for tensor in workload.tensors
    }


_MEMORY_OPERANDS = {"O": "O", "W": "I2", "I": "I1"}


def _dim_names(workload: Workload) -> dict[str, str]:
    """Dim -> what ZigZag takes for one: capitals, then digits."""
    names = {dim: dim.upper() for dim in workload.dims}
    if len(set(names.values())) < len(names) or not all(map(_DIM.fullmatch, names.values())):
        return {dim: f"L{i}" for i, dim in enumerate(workload.dims)}
    return names


def _axes(accelerator: Accelerator, mapping: Mapping, lost: list[str]) -> list[_Axis]:
    """Array dimensions, those of outer fan-outs first."""
    sides = [
        (s, side)
        for s in reversed(range(len(accelerator.levels)))
        for side, fanout in enumerate((accelerator.fanout_x[s], accelerator.fanout_y[s]))
        if fanout > 1
    ]
    axes = [[each] for each in sides]
    if len(axes) > _MOST_AXES:
        merged: list[_Axis] = []
        for s, side in sides:
            inner = merged and not any(mapping.keep[q].any() for q in range(s, merged[-1][-1][0]))
            if inner:
                merged[-1].append((s, side))
            else:
                merged.append([(s, side)])
        axes = merged
        lost.append("sides X and Y: ZigZag names four array dimensions, so those between two memories are one.")
    if len(axes) > _MOST_AXES:
        raise SpecificationError(
            f"accelerator {quoted(accelerator.name)} spreads out at {len(axes)} places; ZigZag's mappings name "
            f"{_MOST_AXES} array dimensions, so export to another tool"
        )
    return axes


def _size(accelerator: Accelerator, axis: _Axis) -> int:
    size = 1
    for s, side in axis:
        size *= (accelerator.fanout_y if side else accelerator.fanout_x)[s]
    return size


def _accelerator(
    workload: Workload, accelerator: Accelerator, mapping: Mapping, axes: Sequence[_Axis], lost: list[str]
) -> dict[str, Any]:
    letters = _operands(workload)
    bits = accelerator.mac.word_bits
    memories: dict[str, Any] = {}
    for s, level in enumerate(accelerator.levels):
        kept = [letters[tensor] for tensor, keeps in zip(mapping.tensors, mapping.keep[s], strict=True) if keeps]
        if not kept:
            continue
        operands = sorted(_MEMORY_OPERANDS[letter] for letter in kept)
        served = [f"D{i + 1}" for i, axis in enumerate(axes) if axis[0][0] <= s]
        energies = accelerator.action_energies[s]
        write = energies["update" if kept == ["O"] else "fill"]
        if energies["fill"] != energies["update"]:
            lost.append(
                f"fills and updates of {quoted(level.name)}: ZigZag has one energy of writes, {write:g} pJ here."
            )
        if energies["leak"]:
            lost.append(f"leak of {quoted(level.name)}: ZigZag's memories do not leak.")
        if level.no_multicast:
            lost.append(f"no_multicast of {quoted(level.name)}: words are shared among instances.")
        memories[level.name] = {
            "size": UNLIMITED_BITS if level.capacity_words is None else _room(level, lost) * bits,
            **_ports(level, operands, bits, (energies["read"], write), accelerator.inner_meshes[s], lost),
            "area": 0.0,
            "latency": 1,
            "operands": operands,
            "served_dimensions": served,
            "force_double_buffering": level.multiple_buffering == 2,
        }
        if level.word_bits != bits:
            lost.append(
                f"word_bits of {quoted(level.name)}: a tensor has one width in ZigZag, {bits} bits here; its capacity "
                "and bandwidths in words are kept."
            )
    return {
        "name": accelerator.name or "accelerator",
        "memories": memories,
        "operational_array": {
            "input_precision": [bits, bits],
            "unit_energy": float(accelerator.mac_energies["compute"]),
            "unit_area": 0.0,
            "dimensions": [f"D{i + 1}" for i in range(len(axes))] or ["D1"],
            "sizes": [_size(accelerator, axis) for axis in axes] or [1],
        },
    }


def _room(level: StorageLevel, lost: list[str]) -> int:
    """Words of a memory; ZigZag halves one with double buffering itself."""
    assert level.capacity_words is not None
    assert level.usable_words is not None
    if level.multiple_buffering in (1, 2):
        return level.capacity_words
    lost.append(
        f"multiple_buffering of {quoted(level.name)}: the memory is written with the {level.usable_words} words that "
        "tiles can take."
    )
    return level.usable_words


def _ports(
    level: StorageLevel,
    operands: Sequence[str],
    bits: int,
    energies: tuple[float, float],
    below: tuple[int, int],
    lost: list[str],
) -> dict[str, Any]:
    """Ports, and the costs of an access of all their bits."""
    shared = level.shared_bandwidth_words_per_cycle
    own = (level.read_bandwidth_words_per_cycle, level.write_bandwidth_words_per_cycle)
    if shared is not None and own != (None, None):
        lost.append(
            f"bandwidths of {quoted(level.name)}: reads and writes share {shared:g} words a cycle, without own ones."
        )
    block = level.block_size_words * bits
    ways = [
        (operand, way) for operand in operands for way in (("fh", "tl", "fl", "th") if operand == "O" else ("fh", "tl"))
    ]
    ports, costs = [], []
    kinds = (
        [("rw_port_1", "read_write", shared, ("fh", "tl", "fl", "th"))]
        if shared is not None
        else [("r_port_1", "read", own[0], ("tl", "th")), ("w_port_1", "write", own[1], ("fh", "fl"))]
    )
    for name, kind, rate, directions in kinds:
        if rate is None:
            most = block * _UNLIMITED_BLOCKS * (below[0] * below[1] // level.instances)
            lost.append(f"bandwidth of {quoted(level.name)}: has no limit, for which {most} bits a cycle are written.")
        else:
            most = max(1, round(rate * bits))
        if rate is not None and most != rate * bits:
            lost.append(f"bandwidth of {quoted(level.name)}: {rate:g} words a cycle are written as {most} bits.")
        if most < block:
            lost.append(
                f"block_size_words of {quoted(level.name)}: accesses are charged by {most} bits, not by blocks."
            )
        ports.append(
            {
                "name": name,
                "type": kind,
                "bandwidth_min": min(block, most),
                "bandwidth_max": most,
                "allocation": [f"{operand}, {way}" for operand, way in ways if way in directions],
            }
        )
        costs.append(most / block)
    read, write = energies
    return {"r_cost": float(read * costs[0]), "w_cost": float(write * costs[-1]), "ports": ports}


def _layer(
    workload: Workload, accelerator: Accelerator, letters: dict[str, str], names: dict[str, str]
) -> dict[str, Any]:
    dims = {names[dim]: bound for dim, bound in zip(workload.dims, workload.bounds, strict=True)}
    relations: list[str] = []
    indices: dict[str, str] = {}
    for tensor in workload.tensors:
        parts = []
        for rank in tensor.ranks:
            terms = [(names[dim].lower(), factor) for dim, factor in rank]
            if len(terms) > 2:
                raise SpecificationError(
                    f"workload {quoted(workload.name)}: an index of {quoted(tensor.name)} is a sum of {len(terms)} "
                    "dims; ZigZag takes two, so export another workload"
                )
            if len(terms) == 1 and terms[0][1] == 1:
                parts.append(terms[0][0])
                continue
            if len(terms) == 1:
                # A dim of one iteration, because a relation has two.
                dims["ONE"] = 1
                terms.append(("one", 1))
            parts.append(f"idx{len(relations)}")
            relations.append(f"{parts[-1]}={'+'.join(f'{factor}*{dim}' for dim, factor in terms)}")
        indices[letters[tensor.name]] = "".join(f"[{part}]" for part in parts)
    bits = accelerator.mac.word_bits
    return {
        "id": 0,
        "name": workload.name or "layer",
        "operator_type": "Conv" if relations else "Gemm",
        "equation": f"O{indices['O']}+=W{indices['W']}*I{indices['I']}",
        "dimension_relations": relations,
        "loop_dims": list(dims),
        "loop_sizes": list(dims.values()),
        "operand_precision": {"W": bits, "I": bits, "O": bits, "O_final": bits},
        "operand_source": {"I": 0, "W": 0},
    }


def _plan(mapping: Mapping, axes: Sequence[_Axis], names: dict[str, str]) -> dict[str, Any]:
    spatial: dict[str, list[str]] = {}
    for i, axis in enumerate(axes):
        factors: dict[str, int] = {}
        for s, side in axis:
            for dim, factor in mapping.spatial_sides(s)[side]:
                factors[names[dim]] = factors.get(names[dim], 1) * factor
        # Array dimensions that are left out ZigZag fills as it likes.
        factors = factors or {names[mapping.dims[0]]: 1}
        spatial[f"D{i + 1}"] = [f"{dim}, {factor}" for dim, factor in factors.items()]
    loops = [[names[dim], factor] for s in range(len(mapping.levels)) for dim, factor in mapping.temporal_loops(s)]
    return {
        "name": "default",
        "spatial_mapping": spatial or {"D1": [f"{names[mapping.dims[0]]}, 1"]},
        "temporal_ordering": loops,
        "memory_operand_links": _MEMORY_OPERANDS,
    }
