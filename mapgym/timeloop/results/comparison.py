"""Prices what a folder of results describes, and compares every printed figure with ours."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from mapgym.cost import Cost, CostModel
from mapgym.errors import SpecificationError
from mapgym.mapping.legality_kernels import LEVEL_FANOUT, MAC_FANOUT, MESH_FANOUT
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.workload import Workload
from mapgym.timeloop.results.hardware import DEAREST_ACTION, Hardware
from mapgym.timeloop.results.labels import (
    CYCLES,
    ENERGY,
    KINDS,
    RANKS,
    THROTTLING,
    Figures,
    Place,
    kind_of,
    our_figures,
)
from mapgym.timeloop.results.printed import Printed, read_printed
from mapgym.timeloop.results.stats import Lines, Part, Stats
from mapgym.timeloop.results.task import Inputs, make_mapping_of

ENERGY_TOLERANCE = 1e-4
"""How far an energy may be off, relative, where an ERT has the energies of actions: its file has rounded them."""


ROUGHLY = 0.02
"""The same where energies are as printed and only which guess is best is asked."""


class Theirs(NamedTuple):
    """A printed figure and its place."""

    place: Place
    printed: Printed


@dataclass(frozen=True)
class Difference:
    """A figure that is not equal.

    Attributes:
        place: (part, tensor, label).
        kind: one of ``KINDS``.
        theirs: as it is printed.
        ours: our figure.
        why: what explains it; "" if nothing is known that does.
    """

    place: Place
    kind: str
    theirs: str
    ours: float
    why: str = ""


@dataclass
class Comparison:
    """The figures of one way to count.

    Attributes:
        rules: the counting rules.
        compared, equal: figures by kind.
        differences: in the order of the file.
        ours: all our figures.
        left_out: labels of printed figures that ours do not have -> how many there are.
    """

    rules: str
    compared: Counter[str] = field(default_factory=Counter)
    equal: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)
    ours: Figures = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def badness(self) -> tuple[int, int]:
        """Counts and cycles that differ, then energies that do: less is better."""
        energies = sum(difference.kind == ENERGY for difference in self.differences)
        return len(self.differences) - energies, energies

    @property
    def agrees(self) -> bool:
        """Whether all counts and cycles are equal."""
        return self.badness[0] == 0


def printed_figures(stats: Stats) -> list[Theirs]:
    """Every figure of a file that may be compared."""
    figures = list(_lines_of(stats.mac, stats))
    for part in (*stats.levels, *stats.networks):
        figures += _lines_of(part, stats)
    figures += _read(stats.summary, "", "", stats)
    for unit, lines in stats.per_compute.items():
        figures += [Theirs(("", part, unit), printed) for (_, _, part), printed in _read(lines, "", "", stats)]
    return figures


def _lines_of(part: Part, stats: Stats) -> list[Theirs]:
    figures = _read(part.stats, part.name, "", stats)
    leakage = "Leakage energy (total)"
    if leakage in part.specs:
        figures += _read({leakage: part.specs[leakage]}, part.name, "", stats)
    for tensor, found in part.tensors.items():
        figures += _read(found.lines, part.name, tensor, stats)
        for label, ranks in found.ranks.items():
            for rank, pair in ranks.items():
                names = {
                    f"{label}: rank {rank} {kind}": text
                    for kind, text in zip(("metadata", "payload"), pair, strict=True)
                }
                figures += _read(names, part.name, tensor, stats)
    return figures


def _read(lines: Lines, part: str, tensor: str, stats: Stats) -> list[Theirs]:
    figures = []
    for label, text in lines.items():
        if label in RANKS or text in ("", "-"):
            continue
        try:
            printed = read_printed(text, f"{stats.file}: {part or 'summary'}: {label}")
        except SpecificationError:
            continue  # a name, such as that of a distribution
        figures.append(Theirs((part, tensor, label), printed))
    return figures


def compare(
    inputs: Inputs, hardware: Hardware, workload: Workload, rules: str, theirs: list[Theirs], *, is_rough: bool = False
) -> Comparison:
    """Compares all figures under some counting rules.

    Args:
        inputs: the files.
        hardware: the accelerator.
        workload: the layer.
        rules: the counting rules.
        theirs: the printed figures.
        is_rough: whether energies may be off by ``ROUGHLY``, and are priced once whatever is known of them, and cycles
            by one: to choose between guesses.

    Raises:
        SpecificationError: our model cannot price the mapping, or calls it illegal.
    """
    hardware = hardware.changed(lambda accelerator: accelerator.counted_by(rules))
    figures, low, high = (
        None if machine is None else _price(inputs, machine, workload, hardware.reading)
        for machine in (hardware.accelerator, *((None, None) if is_rough else (hardware.cheapest, hardware.dearest)))
    )
    tolerance = ROUGHLY if is_rough else ENERGY_TOLERANCE
    assert figures is not None
    result = Comparison(rules, ours=figures)
    for place, printed in theirs:
        if place not in figures:
            result.left_out[place[2]] += 1
            continue
        kind, ours = kind_of(place[2]), figures[place]
        if kind == ENERGY and low is not None and high is not None:
            equal = printed.lies_within(low[place], high[place])
        elif place[2] == THROTTLING:
            equal = _throttles(printed, figures, place[0])
        else:
            equal = printed.shows(ours) or (is_rough and kind == CYCLES and abs(ours - printed.value) <= 1)
            if kind == ENERGY:
                equal = equal or abs(ours - printed.value) <= printed.half + tolerance * abs(ours)
        result.compared[kind] += 1
        result.equal[kind] += equal
        if not equal:
            result.differences.append(Difference(place, kind, printed.text, ours))
    return result


def _throttles(printed: Printed, figures: Figures, level: str) -> bool:
    """Whether a printed share of the speed of the MACs gives our cycles of a level, which are rounded up."""
    cycles = figures[level, "", "Cycles"]
    computes = cycles * figures[level, "", THROTTLING]
    low, high = (printed.value + sign * printed.half * (1 + 1e-6) for sign in (-1, 1))
    return high > 0 and computes / high <= cycles and (low <= 0 or cycles < computes / low + 1)


def _price(inputs: Inputs, accelerator: Accelerator, workload: Workload, reading: str) -> Figures:
    mapping = make_mapping_of(inputs, workload, accelerator)
    cost: Cost = CostModel(workload, accelerator, is_canonical=False).evaluate(mapping, detail=True)
    if not cost.legal:
        in_space = ""
        if inputs.stats.is_sparse and cost.status >> 8 in (MAC_FANOUT, MESH_FANOUT, LEVEL_FANOUT):
            in_space = " (skipping zeros in space, as only the Timeloop of Sparseloop's artefact can, is not modelled)"
        raise SpecificationError(
            f"{inputs.case.stats}: Timeloop has run the mapping, and we call it illegal: {cost.reason}{in_space}"
        )
    return our_figures(accelerator, workload, cost, join_blocks=reading == DEAREST_ACTION)


__all__ = ["CYCLES", "KINDS", "Comparison", "Difference", "Theirs", "compare", "printed_figures"]
