"""Architectures for AccelForge: memories from the outermost inwards, with arrays between them.

Energies there are joules of an action, throughputs actions a second, and an action moves ``bits_per_action`` bits, 1
unless something else is said. Here they become pJ of a word and words a cycle; a cycle is the time of one
multiply-accumulate. AccelForge charges bits in proportion, and so do blocks of one word.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.interop.accelforge.expressions import SETS, Tensors, compute, tensors_of
from mapgym.interop.accelforge.parts import Component, Context, bandwidths, rate_of_units
from mapgym.interop.imported import BITS, TENSORS, Imported, Notes, naming
from mapgym.interop.nesting import Fanout, nest
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.timeloop.reading.documents import Ignored, Section, Table, read_documents, tag_of
from mapgym.timeloop.reading.expressions import Names

_KINDS = ("!Memory", "!Compute", "!Container")
_REFUSED = {
    "!Toll": "a Toll, which charges what passes it,",
    "!Fork": "a Fork, with a second kind of compute units,",
    "!Network": "a Network",
    "!Hierarchical": "a hierarchy within the hierarchy",
    "!Array": "an Array of different parts",
}
_CONSTRAINTS = ("tile_shape", "no_refetch_from_above", "no_resend_to_below", "tensor_order_options")
_OF_SPATIAL = {
    "reuse": "restricts the loops of mappings there; here all loops may be parallel",
    "loop_bounds": "restricts the loops of mappings there; here all loops may be parallel",
    "min_usage": "restricts the mappings; here any part of the array may be used",
    "usage_scale": "scales what mappings may use",
    "power_gateable": "unused instances leak as all others",
}


def read_accelforge(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    word_bits: int | None = None,
    energies: str | None = None,
    values: Mapping[str, object] | None = None,
) -> Imported:
    """Reads architectures for AccelForge.

    Args:
        paths: YAML files with the key ``arch``.
        word_bits: of a value of any tensor, which there is a property of workloads; 8 when left out.
        energies: the estimate to use where a component model would be asked, such as "pat"; None refuses these.
        values: what names in templates stand for.

    Raises:
        SpecificationError: a file is missing, no YAML, or something else; or it has what cannot be expressed.
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not given:
        raise SpecificationError("no files for AccelForge are given; name at least one")
    imported = Imported()
    for path in given:
        documents = read_documents(path, values)
        section = documents.one("architecture")
        if section is None:
            raise SpecificationError(f"{path}: has no key 'arch', so it is no architecture for AccelForge; name one")
        notes = Notes(str(path))
        variables = documents.one("variables")
        names = Names(variables.value if variables is not None and isinstance(variables.value, Table) else {})
        if word_bits is None:
            notes.add("", "words", f"workloads say how wide they are; {BITS} bits are taken (--word-bits)")
        context = Context(str(path), names, BITS if word_bits is None else word_bits, energies, notes)
        with naming(str(path)):
            imported.accelerators.append(_accelerator(section, context))
        imported.ignored += [
            Ignored(each.file, each.key, "only architectures are imported") for each in documents.ignored
        ]
        imported.ignored += notes.ignored()
    return imported


def _accelerator(section: Section, context: Context) -> Accelerator:
    file, notes = context.file, context.notes
    if not isinstance(section.value, Table):
        raise SpecificationError(f"{file}: arch is {quoted(section.value)}; give a mapping with the key nodes")
    arch = section.value
    nodes = arch.get("nodes")
    if not isinstance(nodes, list) or not nodes:
        raise SpecificationError(f"{file}: arch: nodes is {quoted(nodes)}; give a list of components, outermost first")
    known = ("nodes", "variables", "extra_attributes_for_all_component_models", "name")
    notes.add_unknown("arch", arch, known)
    if isinstance(arch.get("variables"), Table):
        context.names = Names(arch["variables"], context.names)
    if arch.get("extra_attributes_for_all_component_models"):
        notes.add("arch", "extra_attributes_for_all_component_models", "component models are not asked")
    present = [node for node in (_component(node, i, context) for i, node in enumerate(nodes)) if node is not None]
    units = [node for node in present if node.tag == "!Compute"]
    if len(units) != 1 or units[0] is not present[-1]:
        raise SpecificationError(
            f"{file}: arch: nodes has {len(units)} kinds of compute units for layers of two operands: a second kind, "
            "or one that is not the innermost node, cannot be expressed; leave one, at the end"
        )
    clock = rate_of_units(units[0])
    parts: list[StorageLevel | Fanout] = []
    holds: dict[str, Tensors] = {}
    multicast: list[tuple[str, Tensors]] = []
    for node in present:
        fanouts = _fanouts(node)
        if fanouts and not parts:
            raise SpecificationError(
                f"{node.where}: spatial: several outermost memories cannot be expressed; remove it"
            )
        for fanout, may_reuse in fanouts:
            parts.append(fanout)
            multicast.append((fanout.name, may_reuse))
        if node.tag == "!Container":
            continue
        _restrict_multicast(parts, multicast, notes)
        if node.tag == "!Memory":
            parts.append(_level(node, holds, clock))
            multicast = []
    return nest(str(arch.get("name") or Path(file).stem.partition(".")[0]), parts, _mac(units[0]))


def _component(node: object, place: int, context: Context) -> Component | None:
    """A node, unless it is switched off for layers of two operands."""
    where = f"{context.file}: arch: nodes[{place}]"
    tag = tag_of(node)
    if tag in _REFUSED:
        raise SpecificationError(f"{where}: {_REFUSED[tag]} cannot be expressed; leave it out")
    if tag not in _KINDS or not isinstance(node, Table):
        raise SpecificationError(f"{where} is {quoted(tag or node)}; give one of {', '.join(_KINDS)}")
    component = Component(tag, str(node.get("name") or place), dict(node), context)
    if not component.number("enabled", True):
        context.notes.add(component.name, "enabled", "it is off for layers of two operands, and left out")
        return None
    component.note_ignored()
    return component


def _fanouts(node: Component) -> list[tuple[Fanout, Tensors]]:
    """The arrays that a node begins, and the tensors that may be shared along each."""
    entries = node.data.get("spatial") or []
    if not isinstance(entries, list):
        raise SpecificationError(f"{node.where}: spatial is {quoted(entries)}; give a list")
    found = []
    for entry in entries:
        if not isinstance(entry, Mapping) or "fanout" not in entry:
            raise SpecificationError(f"{node.where}: spatial has {quoted(entry)}; give such as {{name: X, fanout: 4}}")
        name = str(entry.get("name", "X"))
        where = f"{node.where}: spatial: {quoted(name)}"
        size = compute(entry["fanout"], node.context.names, node.context.word_bits, f"{where}: fanout")
        if size != int(size) or not 1 <= size < 2**53:
            raise SpecificationError(f"{where}: fanout is {quoted(entry['fanout'])}; give a whole number of at least 1")
        for key, why in _OF_SPATIAL.items():
            if entry.get(key) and (key, entry[key]) != ("usage_scale", 1):
                node.context.notes.add(node.name, f"spatial: {key}", why)
        node.context.notes.add_unknown(node.name, entry, ("name", "fanout", "may_reuse", *_OF_SPATIAL))
        may = entry.get("may_reuse")
        shared = SETS["All"] if may is None else tensors_of(may, {}, f"{where}: may_reuse")
        found.append((Fanout(f"{node.name} {name}", int(size)), shared))
    return found


def _restrict_multicast(parts: list[StorageLevel | Fanout], along: Sequence[tuple[str, Tensors]], notes: Notes) -> None:
    """Tells the last memory which tensors are not shared along the arrays below it."""
    if not along:
        return
    last = max(i for i, part in enumerate(parts) if isinstance(part, StorageLevel))
    level = parts[last]
    assert isinstance(level, StorageLevel)
    never = frozenset.intersection(*(SETS["All"] - may for _, may in along))
    for name, may in along:
        if SETS["All"] - may - never:
            some = ", ".join(sorted(SETS["All"] - may - never))
            notes.add(name, "may_reuse", f"{some} may be shared along another axis there; here along both")
    parts[last] = replace(level, no_multicast=tuple(tensor for tensor in TENSORS if tensor in never))


def _level(node: Component, holds: dict[str, Tensors], clock: float | None) -> StorageLevel:
    """A memory, and what it holds for those further in."""
    kept = _kept(node, holds)
    if not holds and kept != SETS["All"]:
        raise SpecificationError(
            f"{node.where}: tensors: the outermost memory does not hold all tensors, and must here; add one outside"
        )
    holds[node.name] = kept
    bits = node.word_bits(kept)
    size = node.number("size")
    if size <= 0:
        raise SpecificationError(
            f"{node.where}: size is {quoted(node.data.get('size'))}; give a number of bits above 0"
        )
    capacity = None if math.isinf(size) else int(size // bits)
    if capacity == 0:
        raise SpecificationError(
            f"{node.where}: size is {size:g} bits, less than a word of {bits}; give narrower words with --word-bits"
        )
    read, write = (node.energy_pj(action, bits, capacity) for action in ("read", "write"))
    leak = node.leak_pj(clock)
    return StorageLevel(
        node.name,
        capacity,
        word_bits=bits,
        access_energy_pj=read,
        action_energies_pj=(("read", read), ("write", write), *((("leak", leak),) if leak else ())),
        keep_only=None if kept == SETS["All"] else tuple(tensor for tensor in TENSORS if tensor in kept),
        area_um2=node.area_um2(),
        **bandwidths(node, bits, clock),
    )


def _kept(node: Component, holds: Mapping[str, Tensors]) -> Tensors:
    """The tensors that a memory can hold."""
    tensors = node.data.get("tensors") or {}
    where = f"{node.where}: tensors"
    if not isinstance(tensors, Mapping):
        raise SpecificationError(f"{where} is {quoted(tensors)}; give a mapping with the key keep")
    for key in _CONSTRAINTS:
        if tensors.get(key):
            node.context.notes.add(node.name, f"tensors: {key}", "restricts mappings; here they are free")
    known = ("keep", "may_keep", "back", "force_memory_hierarchy_order", *_CONSTRAINTS)
    node.context.notes.add_unknown(f"{node.name}: tensors", tensors, known)
    must = [tensors[key] for key in ("keep", "back") if tensors.get(key) is not None]
    may = tensors.get("may_keep")
    if not must and may is None:
        return SETS["All"]
    if must and holds and any(tensors_of(text, holds, f"{where}: keep") for text in must):
        node.context.notes.add(node.name, "tensors: keep", "must be kept there; here a mapping may also bypass it")
    found = frozenset() if may is None else tensors_of(may, holds, f"{where}: may_keep")
    for text in must:
        found |= tensors_of(text, holds, f"{where}: keep")
    return found


def _mac(node: Component) -> Mac:
    leak = node.leak_power()
    if leak:
        node.context.notes.add(node.name, "leak_power", "multipliers do not leak here")
    return Mac(
        node.name,
        word_bits=node.context.word_bits,
        energy_pj=node.energy_pj("compute", None, None),
        area_um2=node.area_um2(),
    )
