"""A specification for Timeloop: whatever some files say of hardware, a layer, constraints and a mapping."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.rules import DEFAULT_RULES
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
    names_of,
    read_architecture,
)
from mapgym.timeloop.reading.levels import Sources, make_level, make_mac
from mapgym.timeloop.reading.problems import read_problem
from mapgym.timeloop.reading.sparse import read_sparse

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

_PLAIN_NAMES = re.compile(r"(?i)(?:arch|architecture|input|inputs|arch_?spec|problem|prob|top)s?")
"""What files and folders of every design are called, so that it says nothing of one."""

_UNREAD = {
    "components": "only Accelergy reads it; name the ERT that it has made of it",
    "mapper": "settings of Timeloop's own search",
    "globals": "settings of Timeloop's front end; its functions of Python are never run",
    "mapspace": "settings of Timeloop's own search",
}


@dataclass
class TimeloopSpecification:
    """What was read.

    Attributes:
        name: of the design, from the names of its files.
        accelerator: None if the files have no architecture.
        workload: None if they have no problem.
        constraints: sections with constraints as they are written, without those in an architecture.
        node_constraints: level -> what v0.4 writes as ``constraints`` inside the node; those on spatial loops of a node
            that fans out are at the level ``inter_NODE_spatial``.
        mapping: the section with a mapping as it is written.
        ignored: what has no effect.
        documents: the files.
        estimated: whether some energies are estimates.
    """

    name: str
    accelerator: Accelerator | None
    workload: Workload | None
    constraints: list[Section]
    node_constraints: dict[str, Mapping[str, Any]]
    mapping: Section | None
    ignored: list[Ignored]
    documents: Documents
    estimated: bool = False
    notes: list[str] = field(default_factory=list)


def read_timeloop(
    paths: Paths,
    energies: str | None = None,
    name: str | None = None,
    *,
    values: Mapping[str, object] | None = None,
    rules: str = DEFAULT_RULES,
) -> TimeloopSpecification:
    """Reads files for Timeloop.

    Args:
        paths: files and folders.
        energies: how to estimate energies that no ERT gives, such as "pat" or "pat@45nm@0.9V".
        name: what to call the accelerator and the workload; left out, the names of their files.
        values: what names in templates stand for.
        rules: as which version of Timeloop the accelerator is counted.

    Raises:
        SpecificationError: a file cannot be read, holds what cannot be expressed, or leaves energies open.
    """
    estimate = None if energies is None else Estimate.parse(energies, "energies")
    return specification_of(read_documents(paths, values), estimate, name, rules)


def specification_of(
    documents: Documents, estimate: Estimate | None, name: str | None = None, rules: str = DEFAULT_RULES
) -> TimeloopSpecification:
    """What documents say; see :func:`read_timeloop`."""
    ignored = list(documents.ignored)
    architecture = read_architecture(documents)
    section = documents.one("problem")
    problem = None if section is None else read_problem(documents, name or _name_of(section.file), ignored)
    accelerator = None
    if architecture is not None:
        title = name or _name_of(architecture.file)
        accelerator = _accelerator(documents, architecture, estimate, title, rules, ignored)
        ignored += architecture.ignored
    for unread in documents.every(*_UNREAD):
        ignored.append(Ignored(unread.file, unread.key, _UNREAD[unread.name]))
    title = name or _name_of((architecture.file if architecture else "") or (section.file if section else documents.where))
    constraints = documents.every("constraints", "architecture_constraints", "mapspace_constraints", "mapspace")
    nodes = {part.name: part.constraints for part in architecture.parts if part.constraints} if architecture else {}
    mapping = documents.one("mapping")
    unique = list(dict.fromkeys(ignored))
    has_estimates = architecture is not None and not documents.every("ERT")
    return TimeloopSpecification(
        title, accelerator, problem, constraints, nodes, mapping, unique, documents, has_estimates
    )


def _accelerator(
    documents: Documents,
    architecture: Architecture,
    estimate: Estimate | None,
    name: str,
    rules: str,
    ignored: list[Ignored],
) -> Accelerator:
    """The accelerator of an architecture."""
    macs, storages = architecture.of_kind(COMPUTE), architecture.of_kind(STORAGE, FANOUT)
    where = architecture.file
    if len(macs) != 1:
        raise SpecificationError(
            f"{where}: has {len(macs)} compute components{': ' if macs else ''}{', '.join(names_of(macs))}; one kind of MAC "
            "is modelled, give a component of the class intmac or compute"
        )
    if not any(part.kind == STORAGE for part in storages):
        raise SpecificationError(f"{where}: has no storage; give at least one component of a class such as DRAM or SRAM")
    for network in architecture.of_kind(NETWORK):
        _check_network(network, storages, ignored)
    sources = Sources(read_tables(documents, ignored), estimate, ignored)
    features, zeros = read_sparse(documents, architecture, ignored)
    mac = make_mac(macs[0], sources, zeros)
    levels = [make_level(part, sources, features.get(part.name, {})) for part in reversed(storages)]
    known = {mac.name, *names_of(architecture.parts)}
    for component in sources.tables.energies_pj or {}:
        if component not in known and component.lower() != "wire":
            ignored.append(Ignored(sources.tables.file, f"ERT: {component}", "there is no such component"))
    try:
        return Accelerator(name, tuple(levels), mac, rules=rules, cycle_seconds=_cycle_seconds(architecture, ignored))
    except SpecificationError as error:
        raise SpecificationError(f"{where}: {error}") from None


def _check_network(network: Part, storages: list[Part], ignored: list[Ignored]) -> None:
    """Refuses a network that a buffer uses by name: only those that Timeloop infers are modelled."""
    keys = ("network_read", "network_fill", "network_drain", "network_update")
    for part in storages:
        for key in keys:
            if part.attributes.get(key) == network.name:
                raise SpecificationError(
                    f"{part.where}: {key} names the network {quoted(network.name)} of the class {quoted(network.klass)}; "
                    "only networks that Timeloop infers are modelled, leave it out"
                )
    ignored.append(Ignored(network.file, network.name, "no buffer uses the network by its name"))


def _cycle_seconds(architecture: Architecture, ignored: list[Ignored]) -> float | None:
    """The time of a cycle, where variables or attributes say it."""
    places: list[tuple[Mapping[str, Any], Names]] = [(architecture.variables, architecture.variables)]
    places += [(part.attributes, part.names) for part in architecture.parts] + [
        (part.names, part.names) for part in architecture.parts
    ]
    for table, names in places:
        value = table.get("global_cycle_seconds")
        if value is None:
            continue
        where = f"{architecture.file}: global_cycle_seconds"
        seconds = evaluate(value, names, where)
        if isinstance(seconds, str):
            raise SpecificationError(f"{where} is {quoted(seconds)}; give a number of seconds such as 1e-9")
        return float(seconds)
    return None


def _name_of(file: str) -> str:
    """A name for what stands in a file: its own, or that of a folder around it if files of all designs are called so."""
    path = Path(file)
    stem = path.name.split(".")[0]
    candidates = [stem, *(parent.name for parent in path.absolute().parents)]
    return next((each for each in candidates if each and not _PLAIN_NAMES.fullmatch(each)), stem or "timeloop")
