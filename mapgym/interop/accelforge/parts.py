"""Components of AccelForge: what a memory or a compute unit costs, and how fast it is."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.interop.accelforge.expressions import Tensors, compute, latency_of, tensors_of
from mapgym.interop.imported import Notes
from mapgym.spec import ranges
from mapgym.timeloop.reading.expressions import Names, Number

PJ = 1e12
"""pJ of a joule."""

UM2 = 1e12
"""Square micrometres of a square metre."""

_DUMMY = "Dummy"
_OFF_CHIP = re.compile("ddr|dram|hbm", re.IGNORECASE)
_HANDLED = (
    *("name", "spatial", "size", "actions", "tensors", "enabled", "total_latency", "leak_power", "component_class"),
    *("bits_per_action", "values_per_action", "bits_per_value", "energy_scale", "throughput_scale", "actions_scale"),
    *("leak_power_scale", "area", "area_scale", "n_parallel_instances"),
)
_NO_EFFECT = {
    "extra_attributes_for_component_model": "component models are not asked",
    "skip_initial_output_write": "first fills of outputs are counted by the rules of the accelerator",
}
_ACTION_KEYS = (
    *("name", "energy", "throughput", "bits_per_action", "values_per_action", "energy_scale", "throughput_scale"),
    "extra_attributes_for_component_model",
)


def _decimal(value: float) -> float:
    """A number in another unit, without the digits that binary fractions leave behind."""
    return float(f"{value:.14g}")


@dataclass
class Context:
    """What holds for all components of a file.

    Attributes:
        file: for messages.
        names: what names in expressions stand for.
        word_bits: of a value of a tensor.
        energies: the estimate for components without energies; None for none.
        notes: takes what has no effect.
    """

    file: str
    names: Names
    word_bits: int
    energies: str | None
    notes: Notes


@dataclass(frozen=True)
class Component:
    """A node of an architecture.

    Attributes:
        tag: such as "!Memory".
        name: its name.
        data: its keys.
        context: what holds for all.
    """

    tag: str
    name: str
    data: Mapping[str, Any]
    context: Context

    @property
    def where(self) -> str:
        """File and component, for messages."""
        return f"{self.context.file}: arch: {quoted(self.name)}"

    @property
    def is_dummy(self) -> bool:
        """Whether what it does costs nothing."""
        return self.data.get("component_class") == _DUMMY

    def note_ignored(self) -> None:
        """Notes what has no effect here, and refuses what would have one."""
        for key, why in _NO_EFFECT.items():
            if self.data.get(key):
                self.context.notes.add(self.name, key, why)
        self.context.notes.add_unknown(self.name, self.data, (*_HANDLED, *_NO_EFFECT))
        if self.number("n_parallel_instances", 1) != 1:
            raise SpecificationError(
                f"{self.where}: n_parallel_instances cannot be expressed; give the component a spatial fanout instead"
            )

    def number(self, key: str, otherwise: Number | None = None) -> Number:
        """The number of a key.

        Raises:
            SpecificationError: it is none, or is missing and ``otherwise`` is None.
        """
        value = self.data.get(key, otherwise)
        if value is None:
            raise SpecificationError(f"{self.where} has no {key}; add it")
        return compute(value, self.context.names, self.context.word_bits, f"{self.where}: {key}")

    def action(self, name: str) -> Mapping[str, Any]:
        """What is said of an action; nothing if it is not listed."""
        actions = self.data.get("actions") or []
        if not isinstance(actions, list) or not all(isinstance(entry, Mapping) for entry in actions):
            raise SpecificationError(
                f"{self.where}: actions is {quoted(actions)}; give a list such as [{{name: read}}]"
            )
        found: Mapping[str, Any] = {}
        for entry in actions:
            if entry.get("name") == name:
                found = entry
                self.context.notes.add_unknown(f"{self.name}: {name}", entry, _ACTION_KEYS)
            elif entry.get("name") not in ("read", "write", "compute"):
                self.context.notes.add(self.name, f"actions: {entry.get('name')}", "this action is not counted")
        return found

    def of_action(self, name: str, key: str) -> float | None:
        """The number of a key of an action, with what scales it; None if it is not there."""
        action = self.action(name)
        where = f"{self.where}: {name}"
        if action.get(key) is None:
            return 0.0 if self.is_dummy and key == "energy" else math.inf if self.is_dummy else None
        value = float(compute(action[key], self.context.names, self.context.word_bits, f"{where}: {key}"))
        own = compute(
            action.get(f"{key}_scale", 1), self.context.names, self.context.word_bits, f"{where}: {key}_scale"
        )
        return value * float(own) * float(self.number(f"{key}_scale", 1))

    def word_bits(self, kept: Tensors) -> int:
        """Bits of a value in this memory."""
        given = self.data.get("bits_per_value") or {}
        where = f"{self.where}: bits_per_value"
        if not isinstance(given, Mapping):
            raise SpecificationError(f"{where} is {quoted(given)}; give such as {{output: 16}}")
        widths = dict.fromkeys(kept, self.context.word_bits)
        for key, value in given.items():
            bits = compute(value, self.context.names, self.context.word_bits, where)
            widths |= dict.fromkeys(tensors_of(key, {}, where) & kept, int(bits))
        if len(set(widths.values())) > 1:
            raise SpecificationError(
                f"{where}: words of several widths in a memory cannot be expressed; give one width"
            )
        return next(iter(widths.values()), self.context.word_bits)

    def bits_per_action(self, name: str, word_bits: int) -> float:
        """Bits that an action moves."""
        action = self.action(name)
        for data in (action, self.data):
            values = data.get("values_per_action")
            if values:
                where = f"{self.where}: values_per_action"
                if not isinstance(values, Mapping):
                    raise SpecificationError(f"{where} is {quoted(values)}; give such as {{All: 4}}")
                counts = {compute(each, self.context.names, self.context.word_bits, where) for each in values.values()}
                if len(counts) > 1:
                    raise SpecificationError(f"{where}: numbers that differ by tensor cannot be expressed; give one")
                return float(counts.pop()) * word_bits
            if data.get("bits_per_action") is not None:
                where = f"{self.where}: bits_per_action"
                bits = compute(data["bits_per_action"], self.context.names, self.context.word_bits, where)
                return ranges.number(float(bits), where, "a number of bits above 0", 1e-9, 2.0**53)
        return 1.0

    def energy_pj(self, name: str, word_bits: int | None, capacity: int | None) -> float:
        """The energy of an action, for a word if ``word_bits`` says how wide it is.

        Raises:
            SpecificationError: there is none, and no estimate is asked for.
        """
        joules = self.of_action(name, "energy")
        if joules is None:
            return self._estimated(name, word_bits, capacity)
        pj = joules * PJ * float(self.number("actions_scale", 1))
        if word_bits is not None:
            pj *= word_bits / self.bits_per_action(name, word_bits)
        return ranges.energy_pj(_decimal(pj), f"{self.where}: energy of {name}")

    def _estimated(self, name: str, word_bits: int | None, capacity: int | None) -> float:
        kind = self.data.get("component_class")
        if self.context.energies is None:
            raise SpecificationError(
                f"{self.where}: the energy of {name} comes from the component model {quoted(kind)}, which is not "
                "asked; add an energy, or choose an estimate with --energies pat"
            )
        from mapgym.timeloop.reading.energies import Estimate

        estimate = Estimate.parse(self.context.energies, self.where)
        self.context.notes.add(self.name, "energy", f"is estimated ({self.context.energies}), not that of {kind}")
        if word_bits is None:
            return estimate.mac_pj(self.context.word_bits)
        if capacity is None or _OFF_CHIP.search(str(kind)):
            return estimate.dram_pj(word_bits, 1)
        return estimate.sram_pj(capacity, word_bits, 1, 1)

    def area_um2(self) -> float | None:
        """Of an instance; None where nothing is said of it."""
        if self.data.get("area") is None:
            return None
        return _decimal(float(self.number("area")) * float(self.number("area_scale", 1)) * UM2)

    def leak_power(self) -> float:
        """Watts of an instance."""
        if self.data.get("leak_power") is None:
            if not self.is_dummy and self.data.get("component_class"):
                self.context.notes.add(self.name, "leak_power", "comes from a component model, and is left out")
            return 0.0
        return float(self.number("leak_power")) * float(self.number("leak_power_scale", 1))

    def leak_pj(self, clock: float | None) -> float:
        """What an instance leaks in a cycle, in pJ."""
        watts = self.leak_power()
        if watts and clock is None:
            raise SpecificationError(f"{self.where}: leak_power needs a clock; give the compute units a throughput")
        return watts * PJ / clock if watts and clock is not None else 0.0

    def rate(self, name: str) -> float | None:
        """Actions a second; None where nothing is said of them."""
        latency = latency_of(self.data.get("total_latency"), self.context.names, f"{self.where}: total_latency")
        rate: float | None = 1.0
        if latency.by_throughput:
            rate = self.of_action(name, "throughput")
        if rate is None:
            return None
        seconds = latency.seconds * float(self.number("actions_scale", 1))
        if seconds < 0 or rate <= 0 or math.isnan(rate):
            raise SpecificationError(f"{self.where}: the throughput of {name} is {rate:g}; give a number above 0")
        return rate / seconds if seconds else math.inf


def rate_of_units(node: Component) -> float | None:
    """Multiply-accumulates of a unit in a second, which is the clock; None if nothing is said of it."""
    rate = node.rate("compute")
    if rate is None or math.isinf(rate):
        why = "comes from a component model" if rate is None else "has no limit"
        node.context.notes.add(node.name, "throughput", f"{why}; here a unit does one multiply-accumulate a cycle")
        return None
    return rate


def bandwidths(node: Component, word_bits: int, clock: float | None) -> dict[str, Any]:
    """Words a cycle of a memory, as keys of a storage level."""
    latency = latency_of(node.data.get("total_latency"), node.context.names, f"{node.where}: total_latency")
    words: dict[str, float] = {}
    for action in ("read", "write"):
        rate = node.rate(action)
        if rate is None:
            node.context.notes.add(node.name, "throughput", "comes from a component model; here it has no limit")
        elif not math.isinf(rate):
            if clock is None:
                raise SpecificationError(
                    f"{node.where}: the throughput of {action} needs a clock; give the compute units a throughput, too"
                )
            words[action] = rate * node.bits_per_action(action, word_bits) / word_bits / clock
    if not latency.is_sum:
        return {f"{action}_bandwidth_words_per_cycle": rate for action, rate in words.items()}
    if len(set(words.values())) > 1:
        raise SpecificationError(
            f"{node.where}: total_latency adds up reads and writes of different throughputs, which cannot be "
            "expressed; give both the same, or make it 'max(a.n_calls / a.throughput for a in actions)'"
        )
    if len(words) == 2:
        return {"shared_bandwidth_words_per_cycle": words["read"]}
    return {f"{action}_bandwidth_words_per_cycle": rate for action, rate in words.items()}
