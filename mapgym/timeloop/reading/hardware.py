"""Architectures of Timeloop in all their forms, as one flat list of parts, outermost first.

- until 2020 (``arch``): a list ``storage``, innermost first, and ``arithmetic``;
- v0.2 and v0.3: trees of ``subtree`` and ``local``, where ``PE[0..15]`` stands for sixteen;
- v0.4: a list of ``nodes``, in which ``spatial: {meshX: 8}`` multiplies whatever follows. As Timeloop's front end does,
  a node that fans out gets a part of its own in front of it, ``inter_NAME_spatial``, which holds no word;
- what the front end writes for Timeloop (``parsed-processed-input.yaml``: a tree) and what Accelergy makes of it
  (``flattened_architecture.yaml``: one list ``local``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mapgym.errors import MAX_INTEGER, SpecificationError
from mapgym.errors.text import quoted
from mapgym.timeloop.reading.documents import Documents, Ignored, Section, Table, file_of, tag_of
from mapgym.timeloop.reading.expressions import Names, evaluate, plain_name

STORAGE, COMPUTE, NETWORK, FANOUT, OTHER = "storage", "compute", "network", "fan-out", "other"
"""Kinds of parts."""

_CLASSES = {
    STORAGE: ("DRAM", "SRAM", "regfile", "smartbuffer", "storage"),
    COMPUTE: ("mac", "compute"),
    NETWORK: ("XY_NoC", "Legacy", "ReductionTree", "SimpleMulticast"),
}
"""Kind -> what the name of a class must hold for Timeloop to take a component for it, in this order."""

_RANGE = re.compile(r"\[\s*([^\]]*?)\s*\.\.\s*([^\]]*?)\s*\]")
_CIM = re.compile(r"(?i)(?:^|[_\W]|\b)(?:adc|dac|cim|crossbar)(?:$|[_\W\d]|\b)")
_CIM_ATTRIBUTES = (
    "adc_resolution",
    "voltage_dac_resolution",
    "temporal_dac_resolution",
    "cell_config",
    "cim_unit_width",
)
_DEEPEST = 50


@dataclass
class Part:
    """One component of an architecture, or a fan-out.

    Attributes:
        name: without ranges.
        kind: one of ``STORAGE``, ``COMPUTE``, ``NETWORK``, ``FANOUT``, ``OTHER``.
        klass: its class, and its subclass if it has one.
        attributes: as they are written, with underscores.
        names: what expressions in them may use, besides the attributes themselves.
        count: instances on the whole chip by the form of the architecture.
        mesh: instances along X and Y by the form of the architecture; None if only attributes say.
        file: where it stands.
        constraints: what v0.4 writes inside the node.
        sparse: its sparse optimisations there.
    """

    name: str
    kind: str
    klass: str
    attributes: Mapping[str, Any]
    names: Names
    count: int
    mesh: tuple[int, int] | None
    file: str
    constraints: Mapping[str, Any] = field(default_factory=dict)
    sparse: Mapping[str, Any] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """File and name, for messages."""
        return f"{self.file}: {self.name}"


@dataclass
class Architecture:
    """The parts of an architecture, outermost first, and what was ignored of it."""

    file: str
    parts: list[Part]
    variables: Names
    ignored: list[Ignored]

    def of_kind(self, *kinds: str) -> list[Part]:
        """The parts of some kinds."""
        return [part for part in self.parts if part.kind in kinds]


def read_architecture(documents: Documents) -> Architecture | None:
    """The architecture of some files; None if they have none.

    Raises:
        SpecificationError: it is in no form that Timeloop knows, or has parts of compute-in-memory.
    """
    section = documents.one("architecture")
    if section is None:
        return None
    if not isinstance(section.value, Table):
        raise SpecificationError(f"{section.file}: {section.key} is {quoted(section.value)}; give a mapping")
    return _Reader(documents, section).read()


def kind_of(klass: str) -> str:
    """What Timeloop takes a component of a class for; the front end of v0.4 makes dummies of fan-outs."""
    if klass == "dummy_storage":
        return FANOUT
    return next((kind for kind, words in _CLASSES.items() if any(word in klass for word in words)), OTHER)


def base_name(name: object) -> str:
    """The name of a component without its range and, in what Accelergy has flattened, without what it is part of."""
    return re.sub(r"\[[^\]]*\]", "", str(name)).rpartition(".")[2].strip()


def variables_of(documents: Documents) -> Names:
    """The variables at the top of files."""
    names = Names()
    for section in documents.every("variables"):
        for table in _flat(section.value):
            if not isinstance(table, Table):
                raise SpecificationError(f"{section.file}: variables is {quoted(table)}; give a mapping")
            names = Names(table, names)
    return names


class _Reader:
    """Reads one architecture."""

    def __init__(self, documents: Documents, section: Section) -> None:
        self._section = section
        self._file = section.file
        self._variables = variables_of(documents)
        self._parts: list[Part] = []
        self._ignored: list[Ignored] = []

    def read(self) -> Architecture:
        """The parts, whatever the form."""
        data = self._section.value
        if "nodes" in data:
            _Nodes(self._variables, self._parts, self._ignored).read(data)
        elif "subtree" in data or "local" in data:
            self._tree(data)
        elif "storage" in data and "arithmetic" in data:
            self._lists(data)
        else:
            raise SpecificationError(
                f"{self._file}: {self._section.key} has neither nodes, nor a subtree, nor storage and "
                "arithmetic; give an "
                "architecture of Timeloop v0.1 to v0.4"
            )
        for key in data:
            if key not in ("nodes", "subtree", "local", "storage", "arithmetic", "version", "name", "attributes"):
                self._ignored.append(Ignored(self._file, f"{self._section.key}: {key}", "no part of an architecture"))
        return Architecture(self._file, self._parts, self._variables, self._ignored)

    def _lists(self, data: Table) -> None:
        """The form of 2018 to 2020."""
        storage, arithmetic = data["storage"], data["arithmetic"]
        if not isinstance(storage, list) or not isinstance(arithmetic, Table):
            raise SpecificationError(f"{self._file}: storage must be a list, and arithmetic a mapping; mend them")
        for entry in reversed(storage):
            if not isinstance(entry, Table) or not isinstance(entry.get("name"), str):
                raise SpecificationError(f"{self._file}: storage has {quoted(entry)}; give a mapping with a name")
            self._flat_part(entry, STORAGE, entry["name"])
        self._flat_part(arithmetic, COMPUTE, str(arithmetic.get("name", "MAC")))

    def _flat_part(self, entry: Table, kind: str, name: str) -> None:
        attributes = {plain_name(key): value for key, value in entry.items() if key != "name"}
        klass = "DRAM" if attributes.get("technology") == "DRAM" else kind
        self._parts.append(Part(base_name(name), kind, klass, attributes, self._variables, 0, None, self._file))

    def _tree(self, data: Table) -> None:
        """The form of v0.2 and v0.3."""
        names, count, node = self._variables, 1, data
        for _ in range(_DEEPEST):
            names = Names(_attributes(node, self._file), names)
            for entry in _flat(node.get("local") or []):
                self._component(entry, names, count)
            subtrees = node.get("subtree")
            if not subtrees:
                return
            if not isinstance(subtrees, list) or len(subtrees) != 1 or not isinstance(subtrees[0], Table):
                raise SpecificationError(
                    f"{self._file}: a subtree is {quoted(subtrees)}; Timeloop takes a list of one, put all "
                    "components on "
                    "one way"
                )
            node = subtrees[0]
            count *= _elements(node.get("name", ""), names, self._file)
        raise SpecificationError(f"{self._file}: subtrees are nested more than {_DEEPEST} deep; flatten them")

    def _component(self, entry: object, names: Names, count: int) -> None:
        if not isinstance(entry, Table) or not isinstance(entry.get("name"), str):
            raise SpecificationError(f"{self._file}: local has {quoted(entry)}; give a mapping with name and class")
        attributes = _attributes(entry, self._file)
        count *= _elements(entry["name"], names, self._file)
        part = _part(entry, attributes, names, (count, None))
        if part.kind == OTHER:
            self._ignored.append(_unmodelled(part))
        self._parts.append(part)


class _Nodes:
    """Reads the form of v0.4."""

    def __init__(self, variables: Names, parts: list[Part], ignored: list[Ignored]) -> None:
        self._names, self._parts, self._ignored = variables, parts, ignored
        self._mesh = (1, 1)
        self._inherited: dict[str, Any] = {}
        self._gated: str | None = None
        self._gates_next = False

    def read(self, data: Table) -> None:
        """Takes all nodes below a branch."""
        self._branch(data, is_parallel=False, depth=0)

    def _branch(self, data: Table, *, is_parallel: bool, depth: int) -> None:
        if depth > _DEEPEST:
            raise SpecificationError(f"{file_of(data)}: nodes are nested more than {_DEEPEST} deep; flatten them")
        for node in _flat(data.get("nodes") or []):
            if not isinstance(node, Table):
                raise SpecificationError(
                    f"{file_of(data)}: nodes has {quoted(node)}; give a mapping such as !Component"
                )
            tag = tag_of(node)
            if tag in ("!Hierarchical", "!Parallel", "!Pipelined", "!ArrayContainer") or "nodes" in node:
                self._branch(node, is_parallel=tag == "!Parallel", depth=depth + 1)
            elif tag == "!Container":
                self._container(node, is_parallel)
            elif tag != "!Nothing":
                self._component(node, is_parallel)

    def _container(self, node: Table, is_parallel: bool) -> None:
        attributes = _attributes(node, file_of(node))
        self._inherited |= attributes
        self._names = Names(attributes, self._names)
        part = _part({"class": "container", **node}, {}, self._names, (1, self._mesh), file_of(node))
        self._fan_out(node, part, is_parallel)
        for network in node.get("networks") or []:
            self._ignored.append(Ignored(part.file, f"{part.name}: networks", f"{quoted(network)} is not modelled"))

    def _component(self, node: Table, is_parallel: bool) -> None:
        file = file_of(node)
        own = _attributes(node, file)
        part = _part(node, {**self._inherited, **own}, self._names, (1, self._mesh), file)
        enabled = node.get("enabled", True)
        if isinstance(enabled, str):
            enabled = evaluate(enabled, self._names, f"{part.where}: enabled")
        if not enabled:
            self._ignored.append(Ignored(file, part.name, "it is not enabled"))
            return
        self._fan_out(node, part, is_parallel)
        if part.klass.strip() == "nothing":
            return
        if part.kind == OTHER:
            raise SpecificationError(
                f"{part.where}: the class is {quoted(part.klass)}; give one whose name holds one of "
                f"{', '.join(word for words in _CLASSES.values() for word in words)}"
            )
        part.mesh, part.count = self._mesh, self._mesh[0] * self._mesh[1]
        self._gate(part, own)
        self._parts.append(part)

    def _fan_out(self, node: Table, part: Part, is_parallel: bool) -> None:
        """Multiplies what follows, and puts a part for it where something is multiplied."""
        spatial = node.get("spatial") or {}
        if not isinstance(spatial, Table | dict):
            raise SpecificationError(f"{part.where}: spatial is {quoted(spatial)}; give a mapping such as {{meshX: 8}}")
        sides = [
            _count(spatial.get(key, 1), self._names, f"{part.where}: spatial: {key}") for key in ("meshX", "meshY")
        ]
        if sides == [1, 1]:
            if tag_of(node) == "!Container":
                self._gates_next = bool(self._inherited.get("has_power_gating")) or self._gates_next
            return
        if is_parallel:
            raise SpecificationError(
                f"{part.where}: fans out within !Parallel, which Timeloop does not take; put it outside"
            )
        inter = Part(
            f"inter_{part.name}_spatial", FANOUT, "fan-out", {}, self._names, self._mesh[0] * self._mesh[1], self._mesh,
            part.file,
        )  # fmt: skip
        inner = part.constraints.get("spatial")
        inter.constraints = {"spatial": inner} if inner is not None else {}
        part.constraints = {key: value for key, value in part.constraints.items() if key != "spatial"}
        self._gate(inter, _attributes(node, part.file))
        self._parts.append(inter)
        self._mesh = (self._mesh[0] * sides[0], self._mesh[1] * sides[1])

    def _gate(self, part: Part, attributes: Mapping[str, Any]) -> None:
        """Which level switches a part on and off: the first one after a node that has power gating."""
        if part.kind == NETWORK:
            return
        if self._gates_next:
            self._gated = part.name
        self._gates_next = attributes.get("has_power_gating") is True
        if self._gated is not None and part.kind == STORAGE and not part.attributes.get("power_gated_at"):
            part.attributes = {**part.attributes, "power_gated_at": self._gated}


def _part(
    entry: Mapping[str, Any],
    attributes: Mapping[str, Any],
    names: Names,
    place: tuple[int, tuple[int, int] | None],
    file: str = "",
) -> Part:
    """A part of an entry with name, class and subclass."""
    file = file or file_of(entry)
    name, klass = entry.get("name"), entry.get("class")
    if not isinstance(name, str) or not name.strip():
        raise SpecificationError(f"{file}: a node has the name {quoted(name)}; give text")
    if not isinstance(klass, str):
        raise SpecificationError(f"{file}: {name}: the class is {quoted(klass)}; give text such as SRAM")
    whole = f"{klass} {entry.get('subclass') or ''}".strip()
    if _CIM.search(name) or _CIM.search(whole) or any(key in attributes for key in _CIM_ATTRIBUTES):
        raise SpecificationError(
            f"{file}: {name}: the class {quoted(whole)} is a part of a compute-in-memory design (converters, "
            "bit slices, "
            "arrays of cells), which mapgym does not model; map it with CiMLoop"
        )
    constraints, sparse = entry.get("constraints") or {}, entry.get("sparse_optimizations") or {}
    for key, value in (("constraints", constraints), ("sparse_optimizations", sparse)):
        if not isinstance(value, Mapping):
            raise SpecificationError(f"{file}: {name}: {key} is {quoted(value)}; give a mapping")
    return Part(
        base_name(name), kind_of(klass), whole, attributes, names, *place, file, dict(constraints), sparse
    )  # fmt: skip


def _unmodelled(part: Part) -> Ignored:
    return Ignored(part.file, part.name, f"Timeloop models no component of the class {part.klass}")


def _attributes(node: Mapping[str, Any], file: str) -> dict[str, Any]:
    value = node.get("attributes")
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise SpecificationError(
            f"{file}: {node.get('name', 'attributes')}: attributes is {quoted(value)}; give a mapping"
        )
    found: dict[str, Any] = {}
    for key, each in value.items():
        if plain_name(key) in found and found[plain_name(key)] != each:
            raise SpecificationError(
                f"{file}: {node.get('name', 'attributes')}: {key} is given twice, with hyphens and with underscores; "
                "leave one out"
            )
        found[plain_name(key)] = each
    return found


def _flat(value: Any) -> Iterator[Any]:
    """The entries of lists within lists, which includes make."""
    if isinstance(value, list):
        for each in value:
            yield from _flat(each)
    else:
        yield value


def _elements(name: object, names: Names, file: str) -> int:
    """How many elements a name such as ``PE[0..15]`` stands for."""
    count = 1
    for first, last in _RANGE.findall(str(name)):
        ends = [evaluate(end, names, f"{file}: the range of {name}") for end in (first, last)]
        if not all(isinstance(end, int) and not isinstance(end, bool) for end in ends) or ends[1] < ends[0]:  # type: ignore[operator]
            raise SpecificationError(f"{file}: the name {quoted(name)} has no range; write one such as PE[0..15]")
        count *= int(ends[1]) - int(ends[0]) + 1
    return count


def _count(value: object, names: Names, where: str) -> int:
    return whole(evaluate(value, names, where), where)


def whole(value: object, where: str, least: int = 1) -> int:
    """A whole number, which may be written as 16.0.

    Raises:
        SpecificationError: it is none, or out of range.
    """
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not math.isfinite(number) or number != int(number) or number < least:
        raise SpecificationError(f"{where} is {quoted(value)}; give a whole number of at least {least}")
    if number > MAX_INTEGER:
        raise SpecificationError(f"{where} is {quoted(value)}; give a whole number of at most 2**53")
    return int(number)


def names_of(parts: Iterable[Part]) -> tuple[str, ...]:
    """The names of parts."""
    return tuple(part.name for part in parts)
