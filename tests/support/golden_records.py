"""Reads records of real Timeloop runs into workloads, accelerators and mappings, for the tests only.

The product has a reader of its own; that there are two is on purpose, so that a mistake in one of them shows.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

from mapgym.mapping import Mapping
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.tensor import Tensor
from mapgym.spec.workload import Workload
from places import DATA

DENSE_SAMPLE = DATA / "golden_dense_sample.jsonl.gz"
FACTS = DATA / "golden_facts.json"
TODAY_SAMPLE = DATA / "golden_today_sample.jsonl.gz"
TODAY_ARCH = DATA / "golden_today_arch.json"


def read_records(path: Path) -> Iterator[dict]:
    """The records of a compressed file, one JSON object per line."""
    with gzip.open(path, "rt") as lines:
        for line in lines:
            yield json.loads(line)


def read_accelerator(facts: dict, rules: str = "timeloop-2022") -> Accelerator:
    """An accelerator as Timeloop's model checks it, from its flat description (levels outermost first)."""
    tables = facts.get("ert", {})
    mac = facts["mac"]
    levels = []
    for i, level in enumerate(facts["levels"]):
        # Gating by a level further in does nothing.
        outwards = [other["name"] for other in facts["levels"][: i + 1]]
        gate = level.get("power_gated_at")
        levels.append(_read_level(level, tables.get(level["name"], {}), gate if gate in outwards else None))
    return Accelerator(
        facts["name"],
        tuple(levels[::-1]),
        Mac(
            mac["name"],
            mac["meshX"],
            mac["meshY"],
            mac["energy_pJ_per_mac"],
            mac["word_bits"],
            action_energies_pj=tuple(tables.get(mac["name"], {}).items()),
        ),
        fanout_check="cumulative",
        rules=rules,
    )


def _read_level(level: dict, table: dict[str, float], gate: str | None) -> StorageLevel:
    """One level; ``table`` has energies by action, which do not count if there is an energy of all accesses."""
    wire_energy, tile_width = level.get("wire", (0.0, 0.0))
    return StorageLevel(
        name=level["name"],
        capacity_words=level["capacity_words"],
        mesh_x=level["meshX"],
        mesh_y=level["meshY"],
        access_energy_pj=level["vector_access_energy_pJ"],
        action_energies_pj=() if "energy_override" in level else tuple(table.items()),
        block_size_words=level["block_size_words"],
        word_bits=level["word_bits"],
        read_bandwidth_words_per_cycle=level["read_bandwidth"],
        write_bandwidth_words_per_cycle=level["write_bandwidth"],
        shared_bandwidth_words_per_cycle=level["shared_bandwidth"],
        bandwidth_scale=tuple(level.get("bw_scale", {}).items()),
        energy_per_hop_pj=0.0 if wire_energy else level["energy_per_hop_pJ"],
        router_energy_pj=level["router_energy_pJ"],
        energy_per_ingress_pj=level.get("ingress_energy", 0.0),
        wire_energy_pj_per_bit_mm=wire_energy,
        tile_width_um=tile_width,
        address_energy_pj=level.get("addr_gen_energy", 0.0),
        power_gated_at=gate,
        cluster_size=level.get("cluster_size", 1),
        multiple_buffering=level.get("multiple_buffering", 1.0),
    )


def read_workload(problem: dict, shapes: dict) -> Workload:
    """The layer of a record; coefficients such as Wstride stand for numbers of the problem."""
    if problem["shape"] == "einsum":
        tensors = tuple(
            Tensor(name, tuple(tuple(rank.items()) for rank in tensor["projection"]), tensor.get("output", False))
            for name, tensor in problem["tensors"].items()
        )
        return Workload("einsum", tuple(problem["dims"]), tuple(problem["dims"].values()), tensors)
    stride, dilation = problem.get("stride", [1, 1]), problem.get("dilation", [1, 1])
    numbers = {"Hstride": stride[0], "Wstride": stride[1], "Hdilation": dilation[0], "Wdilation": dilation[1]}
    shape = shapes[problem["shape"]]
    tensors = tuple(
        Tensor(
            name,
            tuple(tuple((term[0], numbers[term[1]] if len(term) > 1 else 1) for term in rank) for rank in ranks),
            is_output=name == shape["output"],
        )
        for name, ranks in shape["tensors"].items()
    )
    return Workload(
        problem["shape"], tuple(shape["dims"]), tuple(problem["dims"][dim] for dim in shape["dims"]), tensors
    )


def read_mapping(record: dict, workload: Workload, accelerator: Accelerator) -> Mapping:
    """The mapping of a record, written straight into the arrays."""
    mapping = Mapping.trivial(workload, accelerator)
    position = {dim: d for d, dim in enumerate(workload.dims)}
    for s, level in enumerate(reversed(record["mapping"]["levels"])):
        assert level["name"] == accelerator.level_names[s]
        mapping.temporal[s] = [level["temporal"].get(dim, 1) for dim in workload.dims]
        mapping.order[s] = [position[dim] for dim in level["permutation"]]
        mapping.keep[s] = [tensor.name in level["keep"] for tensor in workload.tensors]
        if level["spatial_permutation"] is not None:
            factors = level["spatial_x"] | level["spatial_y"]
            mapping.spatial[s] = [factors.get(dim, 1) for dim in workload.dims]
            mapping.spatial_order[s] = [position[dim] for dim in level["spatial_permutation"]]
            mapping.spatial_split[s] = level["split"]
    return mapping
