"""What results were made from: hardware, workload and mapping, of whatever a folder has."""

from __future__ import annotations

from collections.abc import Mapping as AbcMapping
from dataclasses import dataclass, field

import numpy as np

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.mapping import Mapping
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.workload import Workload
from mapgym.timeloop.reading.documents import Section
from mapgym.timeloop.reading.energies import Energies, read_energies
from mapgym.timeloop.reading.loops import Loop, PrintedLevel, parse_loops, parse_nest
from mapgym.timeloop.reading.mappings import looks_like_timeloop, make_mapping, plans_of, read_timeloop_mapping
from mapgym.timeloop.reading.problems import read_problem
from mapgym.timeloop.results.attributes import Attributes, read_attributes
from mapgym.timeloop.results.folder import Case, read_nest_text
from mapgym.timeloop.results.stats import Stats, read_stats


@dataclass
class Inputs:
    """What has been read of a case, before anything is priced.

    Attributes:
        stats: what Timeloop has printed.
        nest: the loops, level by level, outermost first.
        energies: the ERT, empty if there is none.
        attributes: of the components of the architecture, empty if there is none.
        notes: what is not certain; sentences.
    """

    case: Case
    stats: Stats
    nest: list[PrintedLevel]
    energies: Energies
    attributes: dict[str, Attributes]
    notes: list[str] = field(default_factory=list)

    @property
    def bounds(self) -> dict[str, int]:
        """The bound of each dim that has a loop: the product of its factors."""
        bounds: dict[str, int] = {}
        for level in self.nest:
            for loop in level.loops:
                bounds[loop.dim] = bounds.get(loop.dim, 1) * loop.bound
        return bounds


def read_inputs(case: Case) -> Inputs:
    """Reads what does not depend on counting rules.

    Raises:
        SpecificationError: a file cannot be read, or the loops are nowhere.
    """
    stats = read_stats(case.stats)
    energies, where = case.document("ERT")
    table = {} if energies is None else read_energies([Section("ERT", energies, where, "ERT")])
    architecture, _ = case.document("architecture")
    notes = list(case.notes)
    return Inputs(case, stats, _nest(case, stats), table, read_attributes(architecture), notes)


def _nest(case: Case, stats: Stats) -> list[PrintedLevel]:
    """The loops: of the nest's own file, or of the statistics, which had them until 2024."""
    text = read_nest_text(case)
    if text is not None:
        nest = parse_nest(text, str(case.nest))
        names = [level.name for level in nest]
        missing = [level.name for level in stats.levels if level.name not in names]
        if missing:
            raise SpecificationError(
                f"{case.nest}: has no level {quoted(missing[0])}, but {case.stats.name} has; give the nest of this run"
            )
        return nest
    written = _nest_of_directives(case, stats)
    if written is not None:
        return written
    if not any(level.loops for level in stats.levels):
        raise SpecificationError(
            f"{case.stats}: has no loops, and there is no map.txt beside it; give the mapping with --mapping FILE"
        )
    hidden = [name for name in stats.order if stats.level(name) is None]
    if hidden:
        raise SpecificationError(
            f"{case.stats}: does not print the loops of {quoted(hidden[0])}, which keeps nothing, and there is no "
            "map.txt beside it; give the mapping with --mapping FILE"
        )
    nest = []
    for name in reversed(stats.order):
        part = stats.level(name)
        level = PrintedLevel(name)
        if part is not None:
            level.loops = parse_loops(part.loops, f"{case.stats}: {name}")
            for tensor, found in part.tensors.items():
                words = found.lines.get("Data tile shape", found.lines.get("Utilized capacity", "1"))
                level.words[tensor] = int(words) if words.isdecimal() else 1
        nest.append(level)
    return nest


def _nest_of_directives(case: Case, stats: Stats) -> list[PrintedLevel] | None:
    """The loops that a mapping file describes, if there is one, and a problem to read it with; else None."""
    (mapping, where), (problem, of_problem) = case.document("mapping"), case.document("problem")
    if not looks_like_timeloop(mapping) or problem is None:
        return None
    workload = read_problem(problem, of_problem)
    names = Accelerator("", tuple(StorageLevel(name) for name in stats.order), Mac(stats.mac.name))
    made = read_timeloop_mapping(mapping, workload, names, where)
    nest = []
    for s, name in reversed(list(enumerate(stats.order))):
        x_loops, y_loops = made.spatial_sides(s)
        loops = [Loop(dim, bound) for dim, bound in reversed(made.temporal_loops(s))]
        loops += [Loop(dim, bound, "Y") for dim, bound in reversed(y_loops)]
        loops += [Loop(dim, bound, "X") for dim, bound in reversed(x_loops)]
        kept = stats.level(name)
        nest.append(PrintedLevel(name, {} if kept is None else dict.fromkeys(kept.tensors, 1), loops))
    return nest


def make_mapping_of(inputs: Inputs, workload: Workload, accelerator: Accelerator) -> Mapping:
    """The mapping: the printed loops, in the places that a mapping file has for loops of bound 1 too."""
    where = str(inputs.case.nest or inputs.case.stats)
    mapping = make_mapping(plans_of(inputs.nest, accelerator, workload, where), workload, accelerator, where)
    data, file = inputs.case.document("mapping")
    if isinstance(data, list | AbcMapping):
        try:
            written = read_timeloop_mapping(data, workload, accelerator, file)
        except SpecificationError:
            return mapping  # what was run is in the nest; the file may be a constraint or of another run
        if same_loops(written, mapping):
            return written
    return mapping


def same_loops(one: Mapping, other: Mapping) -> bool:
    """Whether two mappings differ in loops of bound 1 at most."""
    if not all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("temporal", "spatial", "keep")):
        return False
    return all(
        one.temporal_loops(s) == other.temporal_loops(s) and one.spatial_sides(s) == other.spatial_sides(s)
        for s in range(len(one.levels))
    )
