"""Accelerators for ZigZag: memories by operand, each serving some dimensions of the array of units.

ZigZag gives each memory the operands that it holds and the array dimensions that one instance serves, so that its
memories form a graph. Storage levels here form a row: it can be made of them where, of any two memories, one serves all
dimensions that the other serves. ``r_cost`` and ``w_cost`` are pJ of an access of all bits of a port; it moves at least
``bandwidth_min`` bits, and is charged in proportion.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mapgym.errors import SpecificationError, positive_int, suggest
from mapgym.errors.text import quoted
from mapgym.interop.imported import BITS, INPUTS, OUTPUTS, WEIGHTS, Notes
from mapgym.interop.nesting import Fanout, nest
from mapgym.spec import ranges
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import Mac, StorageLevel

OPERANDS = {"I1": INPUTS, "I2": WEIGHTS, "O": OUTPUTS}
"""ZigZag's memory operands, and the tensors that they stand for unless a mapping links them otherwise."""

_READS, _WRITES = ("tl", "th"), ("fh", "fl")
_PORTS = {"read": (True, False), "write": (False, True), "read_write": (True, True)}
_MEMORY_KEYS = (
    *("size", "r_cost", "w_cost", "area", "latency", "mem_type", "auto_cost_extraction", "operands", "ports"),
    *("served_dimensions", "force_double_buffering"),
)
_ARRAY_KEYS = (
    *("dimensions", "sizes", "input_precision", "unit_energy", "unit_area", "is_imc", "imc_type", "adc_resolution"),
    "bit_serial_precision",
)
_NO_EFFECT = {
    "area": "areas have no unit there",
    "latency": "an access takes no time but that of its bandwidth, as in ZigZag",
    "mem_type": "it only matters to CACTI",
}


@dataclass(frozen=True)
class Words:
    """Bits of words, as far as the user says so."""

    word_bits: int | None
    output_bits: int | None


@dataclass(frozen=True)
class _Memory:
    """A memory: what its level is but for the mesh, and the array dimensions that one instance serves."""

    level: StorageLevel
    operands: tuple[str, ...]
    served: frozenset[str]


def read_accelerator(data: Mapping[str, Any], file: str, words: Words, notes: Notes) -> Accelerator:
    """The accelerator of a file.

    Args:
        data: its content.
        file: for messages.
        words: bits of words.
        notes: takes what has no effect.

    Raises:
        SpecificationError: a key is missing or wrong, or says what storage levels in a row cannot.
    """
    array = _mapping(data.get("operational_array"), f"{file}: operational_array")
    memories = _mapping(data.get("memories"), f"{file}: memories")
    _refuse_in_memory_compute(array, memories, f"{file}: operational_array")
    axes = _axes(array, f"{file}: operational_array")
    word_bits, output_bits = _bits(array, words, f"{file}: operational_array", notes)
    read = [
        _memory(
            str(name), _mapping(entry, f"{file}: memories: {quoted(name)}"), axes, (word_bits, output_bits), file, notes
        )
        for name, entry in memories.items()
    ]
    row = _in_a_row(read, axes, file)
    notes.add_unknown("", data, ("name", "memories", "operational_array", "dataflows"))
    if data.get("dataflows") is not None:
        notes.add("", "dataflows", "says how to map, which is no part of the hardware")
    notes.add_unknown("operational_array", array, _ARRAY_KEYS)
    if array.get("unit_area"):
        notes.add("operational_array", "unit_area", _NO_EFFECT["area"])
    if "unit_energy" not in array:
        raise SpecificationError(f"{file}: operational_array has no unit_energy; add the pJ of a multiply-accumulate")
    energy = ranges.energy_pj(array["unit_energy"], f"{file}: operational_array: unit_energy")
    parts: list[StorageLevel | Fanout] = []
    for memory, inner in zip(row, [*row[1:], None], strict=True):
        parts.append(memory.level)
        spread = memory.served - (inner.served if inner is not None else frozenset())
        parts += [Fanout(axis, axes[axis]) for axis in axes if axis in spread]
    name = str(data.get("name") or Path(file).stem)
    return nest(name, parts, Mac("MAC", word_bits=word_bits, energy_pj=energy))


def _refuse_in_memory_compute(array: Mapping[str, Any], memories: Mapping[str, Any], where: str) -> None:
    for key in ("is_imc", "imc_type", "adc_resolution", "bit_serial_precision"):
        if array.get(key):
            raise SpecificationError(
                f"{where}: {key} is {quoted(array[key])}: compute-in-memory cannot be expressed; name an accelerator "
                "with multipliers"
            )
    if "unit_energy" not in array and "cells" in memories:
        raise SpecificationError(
            f"{where} has no unit_energy but memory cells: compute-in-memory cannot be expressed; name an accelerator "
            "with multipliers"
        )


def _axes(array: Mapping[str, Any], where: str) -> dict[str, int]:
    names, sizes = array.get("dimensions"), array.get("sizes")
    if not isinstance(names, list) or not isinstance(sizes, list) or len(names) != len(sizes) or not names:
        raise SpecificationError(
            f"{where}: dimensions is {quoted(names)} and sizes {quoted(sizes)}; give two lists of one length, such as "
            "[D1, D2] and [16, 16]"
        )
    if len(set(map(str, names))) != len(names):
        raise SpecificationError(f"{where}: dimensions is {quoted(names)}, which names one twice; name each once")
    return {
        str(name): positive_int(size, f"{where}: the size of {quoted(name)}")
        for name, size in zip(names, sizes, strict=True)
    }


def _bits(array: Mapping[str, Any], words: Words, where: str, notes: Notes) -> tuple[int, int]:
    """Bits of a word, and of one in memories that hold outputs only."""
    given = array.get("input_precision")
    word_bits = words.word_bits
    if given is not None:
        if not isinstance(given, list) or len(given) != 2:
            raise SpecificationError(f"{where}: input_precision is {quoted(given)}; give two numbers of bits")
        widths = [positive_int(each, f"{where}: input_precision", ranges.MAX_WORD_BITS) for each in given]
        if word_bits is None:
            if widths[0] != widths[1]:
                raise SpecificationError(
                    f"{where}: input_precision is {quoted(given)}: two widths of words cannot be expressed; choose one "
                    "with --word-bits"
                )
            word_bits = widths[0]
        elif {word_bits} != set(widths):
            notes.add("operational_array", "input_precision", f"words of {word_bits} bits are asked for")
    if word_bits is None:
        word_bits = BITS
        notes.add("", "words", f"the file does not say how wide they are; {BITS} bits are taken (--word-bits)")
    output_bits = words.output_bits
    if output_bits is None:
        output_bits = 2 * word_bits
        why = f"where a memory holds outputs only, {output_bits} bits are taken for each (--output-bits)"
        notes.add("", "words of outputs", f"{why}; elsewhere, {word_bits}")
    return word_bits, output_bits


def _memory(
    name: str, data: Mapping[str, Any], axes: Mapping[str, int], bits: tuple[int, int], file: str, notes: Notes
) -> _Memory:
    where = f"{file}: memories: {quoted(name)}"
    notes.add_unknown(name, data, _MEMORY_KEYS)
    for key, why in _NO_EFFECT.items():
        if data.get(key) and (key, data[key]) != ("latency", 1):
            notes.add(name, key, why)
    operands = tuple(dict.fromkeys(_names(data.get("operands"), f"{where}: operands", OPERANDS)))
    if not operands:
        raise SpecificationError(f"{where}: operands is empty; name what it holds, such as [I1, O]")
    served = frozenset(_names(data.get("served_dimensions"), f"{where}: served_dimensions", axes))
    word_bits = bits[1] if operands == ("O",) else bits[0]
    if "size" not in data:
        raise SpecificationError(f"{where} has no size; add its bits")
    capacity = positive_int(data["size"], f"{where}: size") // word_bits
    if capacity == 0:
        raise SpecificationError(
            f"{where}: size is {data['size']} bits, less than a word of {word_bits}; give narrower words with "
            f"{'--output-bits' if operands == ('O',) else '--word-bits'}"
        )
    level = StorageLevel(
        name,
        capacity,
        word_bits=word_bits,
        keep_only=None if len(operands) == len(OPERANDS) else tuple(t for o, t in OPERANDS.items() if o in operands),
        multiple_buffering=2.0
        if _flag(data.get("force_double_buffering", False), f"{where}: force_double_buffering")
        else 1.0,
        **_ports(name, data, operands, word_bits, where, notes),
    )
    return _Memory(level, operands, frozenset(axis for axis in served if axes[axis] > 1))


@dataclass(frozen=True)
class _Port:
    reads: bool
    writes: bool
    least: int
    most: int
    uses: frozenset[tuple[str, str]]


def _ports(
    name: str, data: Mapping[str, Any], operands: Sequence[str], word_bits: int, where: str, notes: Notes
) -> dict[str, Any]:
    """What the ports and the costs of a memory make of its level."""
    entries = data.get("ports")
    if not isinstance(entries, list) or not entries:
        raise SpecificationError(f"{where}: ports is {quoted(entries)}; give a list of ports")
    ports = [_port(_mapping(entry, f"{where}: ports"), f"{where}: ports") for entry in entries]
    ports = [port for port in ports if any(operand in operands for operand, _ in port.uses)]
    for operand in operands:
        if not any((operand, "tl") in port.uses for port in ports):
            raise SpecificationError(f"{where}: ports: none lets {operand} be read (tl); allocate one to it")
    if _flag(data.get("auto_cost_extraction", False), f"{where}: auto_cost_extraction"):
        raise SpecificationError(
            f"{where}: auto_cost_extraction is true: energies from CACTI are not computed here; give r_cost and w_cost"
        )
    reading = [port for port in ports if any(way in _READS for _, way in port.uses)]
    writing = [port for port in ports if any(way in _WRITES for _, way in port.uses)] or reading
    block = max(1, min(port.least for port in (*reading, *writing)) // word_bits)
    energies = {}
    for action, key, used in (("read", "r_cost", reading), ("write", "w_cost", writing)):
        if data.get(key) is None:
            raise SpecificationError(f"{where} has no {key}; add the pJ of an access")
        cost = ranges.energy_pj(data[key], f"{where}: {key}")
        width = min(port.most for port in used)
        if width != max(port.most for port in used):
            notes.add(name, "ports", f"are of several widths; each {action} is charged as by the narrowest")
        energies[action] = cost * block * word_bits / width
    shared = [port for port in ports if port.reads and port.writes]
    if shared and len(shared) < len(ports):
        raise SpecificationError(
            f"{where}: ports: some both read and write and some do one of it: such a mixture cannot be expressed; make "
            "all read_write, or none"
        )
    if any(len(used) > 1 for used in (reading, writing)):
        notes.add(name, "ports", "several of a kind count as one of their joint width")
    rates: dict[str, Any] = {}
    for key, used in (("shared", shared), ("read", [] if shared else reading), ("write", [] if shared else writing)):
        if used:
            rates[f"{key}_bandwidth_words_per_cycle"] = sum(port.most for port in used) / word_bits
    return {
        "block_size_words": block,
        "access_energy_pj": energies["read"],
        "action_energies_pj": tuple(energies.items()),
        **rates,
    }


def _port(data: Mapping[str, Any], where: str) -> _Port:
    kind = str(data.get("type"))
    if kind not in _PORTS:
        raise SpecificationError(f"{where}: type is {quoted(kind)}; {suggest(kind, _PORTS)}")
    uses = set()
    allocation = data.get("allocation")
    for entry in allocation if isinstance(allocation, list) else [allocation]:
        operand, _, way = str(entry).partition(", ")
        if operand not in OPERANDS or way not in (*_READS, *_WRITES):
            raise SpecificationError(f"{where}: allocation has {quoted(entry)}; give such as 'I1, tl'")
        uses.add((operand, way))
    least, most = (positive_int(data.get(key), f"{where}: {key}") for key in ("bandwidth_min", "bandwidth_max"))
    if least > most:
        raise SpecificationError(f"{where}: bandwidth_min {least} is above bandwidth_max {most}; swap them")
    return _Port(*_PORTS[kind], least, most, frozenset(uses))


def _in_a_row(memories: Sequence[_Memory], axes: Mapping[str, int], file: str) -> list[_Memory]:
    """The memories from the outermost to the innermost.

    Raises:
        SpecificationError: they do not lie in a row, or not every operand comes from the outermost one.
    """
    for i, inner in enumerate(memories):
        for outer in memories[i + 1 :]:
            if not (inner.served <= outer.served or outer.served <= inner.served):
                raise SpecificationError(
                    f"{file}: memories: {quoted(inner.level.name)} serves {_listed(inner.served)} and "
                    f"{quoted(outer.level.name)} {_listed(outer.served)}: operand memories along different axes of the "
                    "array cannot be expressed; let one of them serve all axes that the other serves"
                )
            if set(inner.operands) & set(outer.operands) and not inner.served <= outer.served:
                raise SpecificationError(
                    f"{file}: memories: {quoted(outer.level.name)} lies above {quoted(inner.level.name)} but serves "
                    "fewer axes of the array; list memories from the lowest to the highest"
                )
    # Stable, so that memories which serve as many axes keep their order.
    row = sorted(memories, key=lambda memory: len(memory.served))[::-1]
    if not row or len(row[0].operands) < len(OPERANDS):
        raise SpecificationError(
            f"{file}: memories: the highest one does not hold all of {', '.join(OPERANDS)}: operands that end at "
            "different memories cannot be expressed; add an off-chip memory for all of them"
        )
    missing = {axis for axis, size in axes.items() if size > 1} - row[0].served
    if missing:
        raise SpecificationError(
            f"{file}: memories: {quoted(row[0].level.name)} does not serve {_listed(missing)}: several off-chip "
            "memories cannot be expressed; let it serve all axes of the array"
        )
    return row


def _listed(axes: Iterable[str]) -> str:
    return ", ".join(sorted(axes)) or "none"


def _mapping(data: object, where: str) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise SpecificationError(f"{where} is {quoted(data)}; give a mapping of keys")
    return data


def _names(data: object, where: str, known: Iterable[str]) -> list[str]:
    if not isinstance(data, list):
        raise SpecificationError(f"{where} is {quoted(data)}; give a list")
    for name in data:
        # Whatever stands there: a list is in no dict.
        if name not in list(known):
            raise SpecificationError(f"{where} has {quoted(name)}; {suggest(str(name), known)}")
    return data


def _flag(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise SpecificationError(f"{where} is {quoted(value)}; give true or false")
    return value
