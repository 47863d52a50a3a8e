"""Files for Timeloop, as a task of ours."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.workload import Workload
from mapgym.timeloop.reading.documents import Documents, Ignored, Section, read_documents
from mapgym.timeloop.reading.energies import Estimate, read_tables
from mapgym.timeloop.reading.expressions import Names, evaluate
from mapgym.timeloop.reading.hardware import (
    COMPUTE,
    FANOUT,
    NETWORK,
    STORAGE,
    Architecture,
    Part,
    read_architecture,
    variables_of,
)
from mapgym.timeloop.reading.levels import Sources, make_level, make_mac
from mapgym.timeloop.reading.problems import read_problem
from mapgym.timeloop.reading.sparse import Target, targets_of, with_sparse_optimizations

_CONSTRAINTS = ("constraints", "architecture_constraints", "mapspace_constraints", "mapspace")


@dataclass
class TimeloopSpecification:
    """What files for Timeloop say.

    Attributes:
        accelerator: None if no file has an architecture.
        workload: None if no file has a problem.
        mapping: the content of the section, None without one.
        constraints: the sections with constraints.
        inner_constraints: component -> what v0.4 writes inside of it.
        ignored: what has no effect.
    """

    accelerator: Accelerator | None = None
    workload: Workload | None = None
    mapping: Section | None = None
    constraints: list[Section] = field(default_factory=list)
    inner_constraints: dict[str, Any] = field(default_factory=dict)
    ignored: list[Ignored] = field(default_factory=list)


def read_timeloop(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    energies: str | None = None,
    name: str | None = None,
) -> TimeloopSpecification:
    """Reads files for Timeloop v0.1 to v0.4; docs/timeloop.md says what of them.

    Args:
        paths: any number of files and folders.
        energies: an estimate for what has no energies, see :meth:`~mapgym.timeloop.reading.energies.Estimate.parse`.
        name: of the accelerator; that of the first file, or its folder, if left out.

    Raises:
        SpecificationError: a file cannot be read, or says what cannot be expressed; names file, key and feature.
    """
    documents = read_documents(paths)
    found = TimeloopSpecification(ignored=list(documents.ignored))
    problem, names = documents.one("problem"), variables_of(documents)
    if problem is not None:
        found.workload = read_problem(problem.value, problem.file, names)
        if found.workload.name == "problem" or problem.value.get("name") is None:
            found.workload = replace(found.workload, name=Path(problem.file).stem)
    estimate = None if energies is None else Estimate.parse(energies, documents.where)
    found.accelerator = _accelerator(documents, estimate, name, found)
    found.mapping = documents.one("mapping")
    found.constraints = documents.every(*_CONSTRAINTS)
    for section in documents.every("components"):
        found.ignored.append(Ignored(section.file, section.key, "only Accelergy reads it, to write an ERT"))
    for section in documents.every("mapper", "globals"):
        found.ignored.append(Ignored(section.file, section.key, "it is of Timeloop's own search"))
    return found


def _accelerator(
    documents: Documents, estimate: Estimate | None, name: str | None, found: TimeloopSpecification
) -> Accelerator | None:
    architecture = read_architecture(documents)
    if architecture is None:
        return None
    ignored = found.ignored
    ignored += architecture.ignored
    where = architecture.file
    sources = Sources(read_tables(documents, ignored), estimate, ignored)
    for part in architecture.of_kind(NETWORK):
        ignored.append(Ignored(part.file, part.name, "networks are those that Timeloop infers between levels"))
    macs = architecture.of_kind(COMPUTE)
    if len(macs) != 1:
        named = ", ".join(part.name for part in macs) or "none"
        raise SpecificationError(f"{where}: has the compute components {quoted(named)}; exactly one kind is modelled")
    parts = architecture.of_kind(STORAGE, FANOUT)
    if not any(part.kind == STORAGE for part in parts):
        raise SpecificationError(f"{where}: has no storage; give at least one, such as a DRAM")
    targets = [
        target
        for section in documents.every("sparse_optimizations")
        for target in targets_of(section.value, section.file)
    ]
    targets += [Target(part.file, part.name, _underscored(part.sparse)) for part in architecture.parts if part.sparse]
    packed = {target.name for target in targets if target.data.get("representation_format")}
    mac = make_mac(macs[0], sources, ())
    levels = [make_level(part, sources, part.name in packed) for part in parts]
    inner = levels[-1]
    if macs[0].mesh is None and not {"meshX", "meshY"} & set(macs[0].attributes) and mac.instances == inner.instances:
        # MACs of which only the number is said stand where the storage does that each of them has.
        mac = replace(mac, mesh_x=inner.mesh_x, mesh_y=inner.mesh_y)
    while levels and levels[0].keep_only == () and levels[0].instances == 1:
        # What lies around the outermost memory spreads out several of them, or nothing.
        if levels[1:] and levels[1].instances > 1:
            raise SpecificationError(
                f"{where}: {parts[0].name} fans out to several {parts[1].name}, and nothing outside of it holds "
                "the tensors; "
                "put a memory such as a DRAM around it"
            )
        ignored.append(Ignored(where, levels[0].name, "it fans out to one"))
        levels, parts = levels[1:], parts[1:]
    try:
        accelerator = Accelerator(
            _plain(name or _name(documents)), tuple(reversed(levels)), mac, cycle_seconds=_cycle(architecture)
        )
    except SpecificationError as error:
        raise SpecificationError(f"{where}: {error}") from None
    found.inner_constraints = {part.name: part.constraints for part in architecture.parts if part.constraints}
    return with_sparse_optimizations(accelerator, targets) if targets else accelerator


def _underscored(data: Any) -> dict[str, Any]:
    return {str(key).replace("-", "_"): value for key, value in data.items()}


def _cycle(architecture: Architecture) -> float | None:
    """The time of a cycle, if any part or variable says it; 1 stands for nothing said."""
    places: list[Part | None] = [*architecture.parts, None]
    for part in places:
        names = architecture.variables if part is None else Names(part.attributes, part.names)
        for key in ("global_cycle_seconds", "cycle_seconds"):
            if key in names:
                where = f"{architecture.file}: {key}"
                value = evaluate(names[key], names, where)
                if isinstance(value, int | float) and 0 < value < 1:
                    return float(value)
    return None


def _name(documents: Documents) -> str:
    """What the design is called: its file, or the folder where files are called by what they are."""
    section = documents.one("architecture")
    path = Path(documents.files[0] if section is None else section.file)
    stem = path.name.split(".")[0]
    general = ("arch", "architecture", "top", "input", "parsed-processed-input", "timeloop-model", "timeloop-mapper")
    return path.resolve().parent.name if stem.lower() in general and path.resolve().parent.name else stem


def _plain(name: str) -> str:
    return name.strip() or "timeloop"
