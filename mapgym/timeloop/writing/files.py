"""A task and a mapping as the files that ``timeloop-model`` reads."""

from __future__ import annotations

from collections.abc import Mapping as AbcMapping
from typing import Any

import yaml

from mapgym.mapping import Mapping
from mapgym.mapping.export import Export
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.workload import Workload
from mapgym.timeloop.writing.hardware import architecture_of, energies_of, sparse_optimizations_of
from mapgym.timeloop.writing.mapping import directives_of
from mapgym.timeloop.writing.names import readable_names
from mapgym.timeloop.writing.problem import problem_of


def export_timeloop(workload: Workload, accelerator: Accelerator, mapping: Mapping) -> Export:
    """Architecture, energies, problem and mapping in Timeloop's words.

    ``timeloop-model architecture.yaml ERT.yaml problem.yaml mapping.yaml`` (and ``sparse.yaml`` if it is there) prices
    the mapping as :class:`~mapgym.cost.CostModel` does, if it is of the version that the accelerator's rules name.

    Args:
        workload, accelerator: the task.
        mapping: of it.
    """
    machine = accelerator.for_workload(workload)
    parts = [*machine.level_names, machine.mac.name]
    names = {
        **readable_names(workload.dims),
        **readable_names([tensor.name for tensor in workload.tensors]),
        **readable_names(parts),
    }
    about = f"{workload.name} on {accelerator.name}, costs counted as {machine.counting.version}"
    sections = {
        "architecture.yaml": {"architecture": architecture_of(machine, names)},
        "ERT.yaml": {"ERT": energies_of(machine, names)},
        "problem.yaml": {"problem": problem_of(workload, names)},
        "mapping.yaml": {"mapping": directives_of(mapping, machine, names)},
    }
    sparse = sparse_optimizations_of(machine, names)
    if sparse is not None:
        sections["sparse.yaml"] = {"sparse_optimizations": sparse}
    files = {name: f"# {about}\n{_dump(section)}" for name, section in sections.items()}
    return Export(files, tuple(_lost(machine, mapping, names)))


def _dump(data: dict[str, Any]) -> str:
    return yaml.dump(data, Dumper=_Plain, sort_keys=False, width=118)


class _Plain(yaml.SafeDumper):
    """YAML without anchors, which Timeloop's parser does not follow everywhere, and with whole energies as written."""

    def ignore_aliases(self, data: Any) -> bool:
        """Every value is written out where it stands."""
        return True


def _lost(accelerator: Accelerator, mapping: Mapping, names: AbcMapping[str, str]) -> list[str]:
    """What Timeloop's files do not say."""
    lost = []
    changed = [f"{name} is {written}" for name, written in names.items() if name != written]
    if changed:
        lost.append(f"names that Timeloop cannot read are others: {', '.join(changed)}")
    if not accelerator.peer_links:
        lost.append(
            "peer_links: false; Timeloop always lets neighbours pass words to each other, so that its counts differ"
        )
    if accelerator.fanout_check == "per_level":
        lost.append("that fan-outs are checked level by level; Timeloop's model checks their products")
    for level in accelerator.levels:
        if level.keep_only is not None:
            lost.append(
                f"keep_only of {level.name}, which the mapping respects; for a search, give Timeloop constraints"
            )
        for key in ("no_temporal_reuse", "no_multicast"):
            if value := getattr(level, key):
                lost.append(f"{key} of {level.name} ({', '.join(value)}), which Timeloop says in directives of its own")
        if level.metadata_capacity_bits is not None and level.metadata_word_bits:
            width = level.metadata_access_bits or level.metadata_word_bits
            if level.metadata_capacity_bits % width:
                lost.append(
                    f"the last {level.metadata_capacity_bits % width} bits of metadata_capacity_bits of {level.name}"
                )
        if not accelerator.counting.action_names["leak"] and dict(level.action_energies_pj).get("leak"):
            lost.append(f"the leakage of {level.name}, which {accelerator.rules} does not count")
    return lost
