"""Validates published results: finds the cases of a folder, prices each, and explains what differs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mapgym.errors import SpecificationError
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.rules import counting_rules
from mapgym.spec.tensor import format_rank
from mapgym.spec.workload import Workload
from mapgym.timeloop.reading.problems import read_problem
from mapgym.timeloop.reading.sparse import targets_of, with_sparse_optimizations
from mapgym.timeloop.results.comparison import Comparison, Difference, Theirs, compare, printed_figures
from mapgym.timeloop.results.directives import with_directives
from mapgym.timeloop.results.explanation import ROUNDING, explained, wrong_beyond_rounding
from mapgym.timeloop.results.folder import Case, add_file, find_cases
from mapgym.timeloop.results.hardware import Hardware, read_hardware
from mapgym.timeloop.results.inference import infer_workloads
from mapgym.timeloop.results.labels import DENSE_LABELS, ENERGY, KINDS
from mapgym.timeloop.results.sparse import with_conversions
from mapgym.timeloop.results.sparse_inference import Guess, open_choices, settle
from mapgym.timeloop.results.task import Inputs, read_inputs
from mapgym.timeloop.results.versions import Version, likely_versions, other_versions, versions_of

FILES = ("problem", "architecture", "ERT", "mapping", "sparse_optimizations")
"""Keys of Timeloop's files that the user may name besides a folder."""


@dataclass
class CaseReport:
    """What comparing the results of one evaluation has shown.

    Attributes:
        name: of the case.
        stats: its ``*.stats.txt``.
        rules: the counting rules under which most figures agree; "" if nothing was priced.
        known_by: what shows that they are the right ones; the end of a sentence.
        compared, equal: figures by kind.
        differences: those that are not equal, with what explains them.
        left_out: labels of printed figures that are not compared -> how many.
        notes: what is not certain; sentences.
        error: why nothing was priced, one sentence; "" if it was.
    """

    name: str
    stats: Path
    rules: str = ""
    known_by: str = ""
    compared: dict[str, int] = field(default_factory=dict)
    equal: dict[str, int] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    error: str = ""

    @property
    def agrees(self) -> bool:
        """Whether all counts and cycles are equal."""
        return not self.error and all(each.kind == ENERGY for each in self.differences)

    @property
    def is_close(self) -> bool:
        """Whether what differs of counts and cycles is so little that it may be rounding."""
        wrong = [each for each in self.differences if each.kind != ENERGY]
        return not self.error and all(each.why == ROUNDING for each in wrong)

    @property
    def energy_agrees(self) -> bool:
        """Whether all energies are equal."""
        return not self.error and not any(each.kind == ENERGY for each in self.differences)


def validate_folder(
    path: str | Path, files: dict[str, Path] | None = None, rules: str | None = None
) -> Iterator[CaseReport]:
    """Prices the results in a folder, and in the folders within, and compares all figures with what is printed.

    Args:
        path: the folder, or one ``*.stats.txt``.
        files: more of Timeloop's files, by one of ``FILES``; they take the place of what the folder has.
        rules: the counting rules; found by looking when left out.

    Yields:
        A report for each ``*.stats.txt``, in order of the folders. What cannot be priced says so.

    Raises:
        SpecificationError: there are no results, or a file that is named is none.
    """
    if rules is not None:
        counting_rules(rules, "rules")
    cases = find_cases(Path(path))
    for key, file in (files or {}).items():
        for case in cases:
            add_file(case, key, file)
    for case in cases:
        yield validate_case(case, rules)


def validate_case(case: Case, rules: str | None = None) -> CaseReport:
    """Prices the results of one evaluation; see :func:`validate_folder`."""
    report = CaseReport(case.name, case.stats)
    try:
        inputs = read_inputs(case)
        _Validation(inputs, rules).fill(report)
    except SpecificationError as error:
        report.error = str(error)
    return report


def _workloads(inputs: Inputs) -> tuple[list[Workload], str]:
    """The workload of the problem, or those that the figures leave possible and why they are asked."""
    problem, where = inputs.case.document("problem")
    if problem is None:
        return infer_workloads(inputs), "no problem is there"
    try:
        return [read_problem(problem, where)], ""
    except SpecificationError as error:
        try:
            return infer_workloads(inputs), f"the problem cannot be used ({error})"
        except SpecificationError:
            raise error from None


@dataclass(frozen=True)
class _Task:
    """What is priced under some rules."""

    workload: Workload
    hardware: Hardware
    guess: Guess | None = None


class _Validation:
    """Tries the ways in which results may have been counted, and keeps the best."""

    def __init__(self, inputs: Inputs, rules: str | None) -> None:
        self._inputs = inputs
        self._rules = rules
        self._theirs: list[Theirs] = printed_figures(inputs.stats)
        self._workloads, self._inferred_because = _workloads(inputs)
        self._tried: dict[Version, tuple[Comparison, _Task]] = {}
        self._guesses: dict[tuple[Workload, bool], Guess] = {}

    def fill(self, report: CaseReport) -> None:
        """Writes what has been found into a report."""
        stats = self._inputs.stats
        likely, known_by = likely_versions(stats)
        if self._rules is not None:
            likely, known_by = versions_of(self._rules, stats), "as you have said"
        best = self._best(likely)
        if wrong_beyond_rounding(best[0], self._inputs) and self._rules is None:
            others = self._best([*likely, *other_versions(likely)])
            if self._badness(others[0]) < self._badness(best[0]):
                best, known_by = others, "because most figures agree then, although it is printed otherwise"
        if len(likely) > 1 and known_by.startswith("as "):
            known_by += self._among(likely, best[0])
        comparison, task = best
        report.rules, report.known_by = comparison.rules, known_by
        report.compared = {kind: comparison.compared[kind] for kind in KINDS}
        report.equal = {kind: comparison.equal[kind] for kind in KINDS}
        report.left_out = dict(comparison.left_out)
        report.notes = [*self._inputs.notes, *task.hardware.notes, *self._inferred(task)]
        alternatives = [other for other, _ in self._tried.values() if other is not comparison]
        report.differences = [
            replace(each, why=explained(each, comparison, alternatives, self._inputs, task.hardware))
            for each in comparison.differences
        ]

    def _best(self, versions: Sequence[Version]) -> tuple[Comparison, _Task]:
        for version in versions:
            if version not in self._tried:
                self._tried[version] = self._try(version)
            found = self._tried[version][0]
            if found.badness[1] == 0 and not wrong_beyond_rounding(found, self._inputs):
                break
        tried = (self._tried[v] for v in versions if v in self._tried)
        return min(tried, key=lambda found: self._badness(found[0]))

    def _badness(self, found: Comparison) -> tuple[int, int, int]:
        """What differs by more than rounding first; less is better."""
        return (wrong_beyond_rounding(found, self._inputs), *found.badness)

    def _try(self, version: Version) -> tuple[Comparison, _Task]:
        """The workload under which most figures agree, counted in one way."""
        self._keep_likely_workloads(version)
        best: tuple[Comparison, _Task] | None = None
        for workload in self._workloads:
            task = self._task(workload, version)
            comparison = self._compare(task, version)
            if best is None or comparison.badness < best[0].badness:
                best = comparison, task
            if comparison.agrees:
                break
        assert best is not None
        return best

    def _keep_likely_workloads(self, version: Version) -> None:
        """Of several workloads keeps those whose counts without zeros agree best; the rules change few of them."""
        if len(self._workloads) == 1:
            return
        inputs = self._inputs
        hardware = read_hardware(inputs.stats, inputs.nest, inputs.energies, version.reading, inputs.attributes)
        dense = [each for each in self._theirs if each.place[2].startswith(DENSE_LABELS)]
        found = [
            compare(inputs, hardware, workload, version.rules, dense, is_rough=True).badness[0]
            for workload in self._workloads
        ]
        self._workloads = [each for each, bad in zip(self._workloads, found, strict=True) if bad == min(found)]

    def _task(self, workload: Workload, version: Version) -> _Task:
        inputs = self._inputs
        hardware = read_hardware(inputs.stats, inputs.nest, inputs.energies, version.reading, inputs.attributes)
        directives, _ = inputs.case.document("mapping")
        hardware = hardware.changed(lambda accelerator: with_directives(accelerator, directives))
        data, where = inputs.case.document("sparse_optimizations")
        if data is not None:

            def change(accelerator: Accelerator) -> Accelerator:
                return with_conversions(with_sparse_optimizations(accelerator, targets_of(data, where)))

            return _Task(workload, hardware.changed(change))
        if not inputs.stats.is_sparse:
            return _Task(workload, hardware)

        def badness(guess: Guess) -> tuple[int, int]:
            task = _Task(guess.workload(workload), hardware.changed(guess.accelerator))
            try:
                return self._compare(task, version, is_rough=True).badness
            except SpecificationError:
                return len(self._theirs), len(self._theirs)

        # What zeros do has changed between versions in this only.
        key = workload, counting_rules(version.rules, "rules").coordinates_by_fiber
        if key not in self._guesses:
            self._guesses[key] = settle(open_choices(inputs, workload), badness)
        guess = self._guesses[key]
        return _Task(guess.workload(workload), hardware.changed(guess.accelerator), guess)

    def _compare(self, task: _Task, version: Version, *, is_rough: bool = False) -> Comparison:
        return compare(self._inputs, task.hardware, task.workload, version.rules, self._theirs, is_rough=is_rough)

    def _among(self, likely: list[Version], best: Comparison) -> str:
        """What decides between versions that print the same; the end of a sentence."""
        least = best.badness
        same = [v.rules for v in likely if v in self._tried and self._tried[v][0].badness == least]
        if len([v for v in likely if v in self._tried]) == 1:
            return ", and all figures agree" if least == (0, 0) else ""
        return ", and most figures agree" if same else ""

    def _inferred(self, task: _Task) -> list[str]:
        """What was not given and had to be inferred; sentences."""
        notes = []
        if self._inferred_because:
            tensors = "; ".join(
                f"{tensor.name}[{', '.join(map(format_rank, tensor.ranks))}]" for tensor in task.workload.tensors
            )
            notes.append(
                f"{self._inferred_because}: {tensors} explains the sizes and counts; give the problem with --problem "
                "to be sure"
            )
        if task.guess is not None and task.guess.choices:
            notes.append(
                "no sparse_optimizations are there: formats are as printed, and densities, actions and widths of "
                "metadata are those under which most figures agree; give them with --sparse to be sure"
            )
        return notes
