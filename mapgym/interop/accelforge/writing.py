"""A mapping for AccelForge: its architecture, its einsum, and the loops as a LoopTree.

AccelForge holds the whole loop nest: where each tensor is stored, and all loops, parallel ones with the axis that they
lie on. Its energies are joules, its times seconds; a cycle becomes a nanosecond.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from textwrap import indent
from typing import Any

from mapgym.errors.text import quoted
from mapgym.interop.losses import common_losses
from mapgym.mapping import Mapping
from mapgym.mapping.export import Export
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import StorageLevel
from mapgym.spec.tensor import Rank
from mapgym.spec.workload import Workload
from mapgym.system.yaml_loader import dump_yaml

CLOCK_HZ = 1e9
"""Cycles of a second."""

_SEPARATE_PORTS = "max(a.n_calls / a.throughput for a in actions)"
_RESERVED = frozenset(
    (
        *("all", "tensors", "nothing", "inputs", "outputs", "intermediates", "shared", "persistent", "input", "output"),
        *("weight", "and", "or", "not", "in", "is", "if", "else", "for", "min", "max", "sum", "len", "actions"),
    )
)


def export_accelforge(workload: Workload, accelerator: Accelerator, mapping: Mapping) -> Export:
    """Files for AccelForge: ``arch.yaml``, ``workload.yaml`` and ``mapping.yaml``.

    Args:
        workload: any.
        accelerator: any.
        mapping: a legal mapping.
    """
    machine = accelerator.for_workload(workload)
    names = _Names(workload, machine)
    lost = common_losses(workload, machine, mapping)
    if any(len(rank) > 1 for tensor in workload.tensors for rank in tensor.ranks):
        lost.append("halos: a tile of a sliding window is brought whole, also what it shares with the one before.")
    nodes = []
    for s in reversed(range(len(machine.levels))):
        nodes += _level(machine, s, names, lost)
    mac: dict[str, Any] = {
        "name": names.mac,
        "area": 0,
        "leak_power": 0,
        "actions": [{"name": "compute", "energy": _joules(machine.mac_energies["compute"]), "throughput": CLOCK_HZ}],
    }
    if not machine.counting.first_fills_elided:
        mac["skip_initial_output_write"] = False
    nodes.append(_tagged("Compute", mac))
    return Export(
        {
            "arch.yaml": "arch:\n  nodes:\n" + "".join(indent(node, "  ") for node in nodes),
            "workload.yaml": dump_yaml({"workload": _einsum(workload, machine, names)}, width=1000),
            "mapping.yaml": "mapping:\n  nodes:\n"
            + "".join(indent(node, "  ") for node in _loops(workload, mapping, names, lost)),
        },
        tuple(dict.fromkeys(lost)),
    )


class _Names:
    """What AccelForge takes for names: of rank variables, tensors, components and the einsum."""

    def __init__(self, workload: Workload, accelerator: Accelerator) -> None:
        # Names in lower case are rank variables, those that begin with a capital are ranks.
        self.dims = _unique(((dim, dim.lower()) for dim in workload.dims), "d")
        self.tensors = _unique(((tensor.name, f"T_{tensor.name}") for tensor in workload.tensors), "T")
        components = _unique(((name, name) for name in (*accelerator.level_names, accelerator.mac.name)), "C")
        self.mac = components.pop(accelerator.mac.name)
        self.levels = components
        self.einsum = re.sub(r"\W", "_", workload.name) or "layer"
        if not self.einsum.isidentifier():
            self.einsum = f"layer_{self.einsum}"


def _unique(pairs: Iterable[tuple[str, str]], otherwise: str) -> dict[str, str]:
    """Names as identifiers, each once."""
    names: dict[str, str] = {}
    for i, (name, wanted) in enumerate(pairs):
        plain = re.sub(r"\W", "_", wanted, flags=re.ASCII)
        if not plain.isidentifier() or plain in names.values() or plain.lower() in _RESERVED:
            plain = f"{otherwise}_{i}"
        names[name] = plain
    return names


def _joules(pj: float) -> float:
    return pj * 1e-12


def _tagged(tag: str, data: dict[str, Any]) -> str:
    """An entry of a list, with a tag."""
    text = dump_yaml(data)
    return f"- !{tag} {text}" if text.startswith("{") else f"- !{tag}\n{indent(text, '  ')}"


def _level(accelerator: Accelerator, s: int, names: _Names, lost: list[str]) -> list[str]:
    """The memory of a level, unless it holds nothing, and the array below it."""
    level, energies = accelerator.levels[s], accelerator.action_energies[s]
    name = names.levels[level.name]
    nodes = []
    if level.keep_only is None or level.keep_only:
        outermost = s == len(accelerator.levels) - 1
        may = (
            "All"
            if level.keep_only is None
            else " | ".join(names.tensors[tensor] for tensor in level.keep_only if tensor in names.tensors)
        )
        memory: dict[str, Any] = {
            "name": name,
            "size": math.inf if level.usable_words is None else level.usable_words * level.word_bits,
            "area": 0,
            "leak_power": _joules(energies["leak"]) * CLOCK_HZ,
            "tensors": {"keep": "All"} if outermost else {"keep": "Nothing", "may_keep": may or "Nothing"},
            **_actions(level, energies, lost),
        }
        if level.word_bits != accelerator.mac.word_bits:
            memory["bits_per_value"] = {"All": level.word_bits}
        if not accelerator.counting.first_fills_elided:
            memory["skip_initial_output_write"] = False
        nodes.append(_tagged("Memory", memory))
    if level.multiple_buffering != 1:
        lost.append(
            f"multiple_buffering of {quoted(level.name)}: the memory is written with the words that tiles can take."
        )
    sides = (("X", accelerator.fanout_x[s]), ("Y", accelerator.fanout_y[s]))
    spatial: list[dict[str, Any]] = [{"name": side, "fanout": fanout} for side, fanout in sides if fanout > 1]
    if level.no_multicast:
        shared = [own for tensor, own in names.tensors.items() if tensor not in level.no_multicast]
        for entry in spatial:
            entry["may_reuse"] = " | ".join(shared) or "Nothing"
    if spatial:
        nodes.append(_tagged("Container", {"name": f"{name}_array", "spatial": spatial}))
    return nodes


def _actions(level: StorageLevel, energies: dict[str, float], lost: list[str]) -> dict[str, Any]:
    """The actions of a memory, and how its time follows from them."""
    if energies["fill"] != energies["update"]:
        lost.append(
            f"fills and updates of {quoted(level.name)}: AccelForge has one energy of writes, that of fills here."
        )
    if level.block_size_words > 1:
        lost.append(f"block_size_words of {quoted(level.name)}: words are charged in proportion, not by whole blocks.")
    shared = level.shared_bandwidth_words_per_cycle
    rates = {"read": level.read_bandwidth_words_per_cycle, "write": level.write_bandwidth_words_per_cycle}
    if shared is not None:
        if any(rate is not None for rate in rates.values()):
            lost.append(
                f"bandwidths of {quoted(level.name)}: reads and writes share {shared:g} words a cycle, and no own."
            )
        rates = dict.fromkeys(rates, shared)
    actions = [
        {
            "name": action,
            "energy": _joules(energies["read" if action == "read" else "fill"]),
            "throughput": math.inf if rate is None else rate * CLOCK_HZ / level.block_size_words,
            "bits_per_action": level.block_size_words * level.word_bits,
        }
        for action, rate in rates.items()
    ]
    return {"actions": actions} if shared is not None else {"total_latency": _SEPARATE_PORTS, "actions": actions}


def _einsum(workload: Workload, accelerator: Accelerator, names: _Names) -> dict[str, Any]:
    windows: dict[Rank, str] = {}
    accesses = []
    for tensor in workload.tensors:
        projection: dict[str, str] = {}
        for rank in tensor.ranks:
            terms = [(names.dims[dim], factor) for dim, factor in rank]
            text = " + ".join(dim if factor == 1 else f"{factor}*{dim}" for dim, factor in terms)
            is_plain = len(terms) == 1 and terms[0][1] == 1
            projection[text.upper() if is_plain else windows.setdefault(rank, f"Window_{len(windows)}")] = text
        access: dict[str, Any] = {"name": names.tensors[tensor.name], "projection": projection}
        if tensor.is_output:
            access["output"] = True
        accesses.append(access)
    return {
        "iteration_space_shape": {
            names.dims[dim]: f"0 <= {names.dims[dim]} < {bound}"
            for dim, bound in zip(workload.dims, workload.bounds, strict=True)
        },
        "bits_per_value": {"All": accelerator.mac.word_bits},
        "einsums": [{"name": names.einsum, "tensor_accesses": accesses}],
    }


_Node = tuple[str, dict[str, Any], str]
"""Tag, data and, of a loop, its dim."""


def _loops(workload: Workload, mapping: Mapping, names: _Names, lost: list[str]) -> list[str]:
    """The nodes of the LoopTree, outermost first.

    There, a tile is brought again in each iteration of every loop above its place, also where the loop does not index
    the tensor; so a tensor is stored above such loops. It cannot be stored above the parallel loops that make its
    memories many; so these are outside of the temporal loops of their level, which changes no tile and no count.
    """
    left = dict(zip(workload.dims, workload.bounds, strict=True))
    nodes: list[_Node] = []

    def loop(tag: str, dim: str, factor: int, **more: str) -> None:
        left[dim] //= factor
        nodes.append((tag, {"rank_variable": names.dims[dim], "tile_shape": left[dim], **more}, dim))

    for s in reversed(range(len(mapping.levels))):
        name = names.levels[mapping.levels[s]]
        kept = [tensor for tensor, keeps in zip(mapping.tensors, mapping.keep[s], strict=True) if keeps]
        places: dict[int, list[str]] = {}
        for tensor in kept:
            places.setdefault(_place(nodes, workload.tensor(tensor).dims), []).append(tensor)
        for place in sorted(places, reverse=True):
            tensors = [names.tensors[tensor] for tensor in places[place]]
            for tensor in places[place]:
                if _stays(nodes[:place], workload.tensor(tensor).dims):
                    lost.append(
                        f"{quoted(tensor)} at {quoted(mapping.levels[s])}: a tile that stays while an outer loop "
                        "runs is brought again, because parallel loops lie between."
                    )
            nodes.insert(place, ("Storage", {"component": name, "tensors": tensors}, ""))
        on_x, on_y = mapping.spatial_sides(s)
        for side, loops in (("Y", on_y), ("X", on_x)):
            for dim, factor in reversed(loops):
                loop("Spatial", dim, factor, component=f"{name}_array", name=side)
        for dim, factor in reversed(mapping.temporal_loops(s)):
            loop("Temporal", dim, factor)
    nodes.append(("Compute", {"einsum": names.einsum, "component": names.mac}, ""))
    return [_tagged(tag, data) for tag, data, _ in nodes]


def _place(nodes: Sequence[_Node], dims: Sequence[str]) -> int:
    """Where a tensor is stored that the innermost temporal loops do not index: above these."""
    place = len(nodes)
    while place and nodes[place - 1][0] == "Temporal" and nodes[place - 1][2] not in dims:
        place -= 1
    return place


def _stays(nodes: Sequence[_Node], dims: Sequence[str]) -> bool:
    """Whether the next temporal loop outside of parallel ones leaves a tile where it is."""
    outer = [dim for tag, _, dim in nodes if tag == "Temporal"]
    return bool(nodes) and nodes[-1][0] == "Spatial" and bool(outer) and outer[-1] not in dims
