"""The words of directives: what mappings and constraints of Timeloop call levels, dims and tensors."""

from __future__ import annotations

import re

from mapgym.errors import SpecificationError, suggest
from mapgym.errors.text import quoted
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.workload import Workload

BYPASS_TYPES = ("bypass", "bypassing", "datatype", "dataspace")
"""Types of directives that say which tensors a level keeps."""


def level_of(name: object, accelerator: Accelerator, where: str) -> str:
    """The name of a level, if there is one of that name."""
    if name not in accelerator.level_names:
        raise SpecificationError(
            f"{where}: level {quoted(name)} is not in accelerator {quoted(accelerator.name)}; "
            f"{suggest(str(name), accelerator.level_names)}"
        )
    return str(name)


def target_of(target: object, kind: str, accelerator: Accelerator, where: str) -> str:
    """The level that a directive names: by its name, its number, or the part of v0.4 that is spread out below it."""
    names = accelerator.level_names
    if isinstance(target, int) and not isinstance(target, bool):
        if not 0 <= target < len(names):
            raise SpecificationError(f"{where}: target {target} is no level; give 0 (innermost) to {len(names) - 1}")
        return names[target]
    text = str(target)
    # v0.4 gives whatever is spread out a level of its own above it, which holds nothing.
    spread = f"inter_{text}_spatial"
    if kind == "spatial" and spread in names:
        return spread
    inner = re.fullmatch(r"inter_(.+)_spatial", text)
    if text not in names and inner and inner[1] in names:
        return inner[1]
    return level_of(text, accelerator, where)


def dim_of(dim: str, workload: Workload, where: str) -> str:
    """The name of a dim, if the workload has it."""
    if dim not in workload.dims:
        raise SpecificationError(f"{where}: unknown dim {quoted(dim)}; {suggest(dim, workload.dims)}")
    return dim


def tensor_of(name: str, workload: Workload, where: str) -> str:
    """The name of a tensor, if the workload has it."""
    names = [tensor.name for tensor in workload.tensors]
    if name not in names:
        raise SpecificationError(f"{where}: unknown tensor {quoted(name)}; {suggest(name, names)}")
    return name


def permutation_of(data: object, workload: Workload, where: str) -> list[str]:
    """Reads a permutation, innermost first: "RP", "R P", "R,P" or a list of dims."""
    if data is None:
        return []
    place = f"{where}: permutation"
    entries = data if isinstance(data, list) else re.split(r"[\s,]+", str(data).split("#")[0].strip())
    order: list[str] = []
    for entry in (str(entry).strip() for entry in entries):
        if not entry:
            continue
        # Letters may stand together; a dim of several letters is one.
        together = entry not in workload.dims and all(letter in workload.dims for letter in entry)
        order += list(entry) if together else [dim_of(entry, workload, place)]
    if len(set(order)) < len(order):
        raise SpecificationError(f"{place} {quoted(data)} names a dim twice; name each once")
    return order


def split_of(data: object, where: str) -> int | None:
    """Reads how many dims of a permutation lie on X; None for what is not said."""
    if data is None:
        return None
    if type(data) is not int or data < 0:
        raise SpecificationError(f"{where}: split is {quoted(data)}; give how many dims of the permutation lie on X")
    return data


def tensors_of(data: object, workload: Workload, where: str) -> list[str]:
    """Reads names of tensors: a list, or text with commas or spaces; "*" and "All" are all of them."""
    if data is None:
        return []
    entries = data if isinstance(data, list) else [name for name in re.split(r"[\s,]+", str(data)) if name]
    names: list[str] = []
    for entry in map(str, entries):
        if entry.lower() in ("all", "*"):
            names += [tensor.name for tensor in workload.tensors]
        elif entry.startswith("~"):
            left_out = tensor_of(entry[1:], workload, where)
            names += [tensor.name for tensor in workload.tensors if tensor.name != left_out]
        elif entry.lower() not in ("nothing", "none"):
            names.append(tensor_of(entry, workload, where))
    return names
