"""What ``mapgym validate`` prints of published results of Timeloop."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mapgym.agents.commands import console, parsing
from mapgym.agents.commands.show import read_mapping
from mapgym.errors import SpecificationError, suggest
from mapgym.errors.text import quoted
from mapgym.spec import catalog
from mapgym.timeloop.results import FILES, CaseReport, is_results, validate_folder
from mapgym.timeloop.results.comparison import Difference
from mapgym.timeloop.results.tool import run_model
from mapgym.timeloop.writing import export_timeloop

__all__ = ["FILES", "is_results", "show", "to_json", "validate_folder", "validate_with"]

_TOOLS = ("timeloop",)

_MOST_ROWS = 30
"""Differences of one case that are shown; --json has all."""


def validate_with(
    tool: str, mappings: Sequence[Path], workload: str | None, accelerator: str | None, rules: str | None
) -> list[CaseReport]:
    """Runs a tool on mappings, and compares what it finds with our figures.

    Args:
        tool: its name.
        mappings: files with mappings.
        workload, accelerator: what they are of, as the user named them.
        rules: the counting rules; those of the accelerator if left out.

    Raises:
        SpecificationError: there is no such tool, or it cannot price a mapping.
    """
    if tool not in _TOOLS:
        raise SpecificationError(f"--with: unknown tool {quoted(tool)}; {suggest(tool, _TOOLS)}")
    if workload is None or accelerator is None:
        raise SpecificationError(f"--with {tool} takes mappings of ours; say of what with --workload and --accelerator")
    layer = catalog.workload(workload)
    machine = parsing.load_accelerator(accelerator, rules=rules)
    found = []
    for path in mappings:
        export = export_timeloop(layer, machine, read_mapping(path, layer, machine))
        with tempfile.TemporaryDirectory() as folder:
            run_model(export, Path(folder))
            for report in validate_folder(Path(folder), {}, machine.rules):
                report.name = str(path)
                report.notes += [f"not in the files that it has read: {sentence}" for sentence in export.lost]
                found.append(report)
    return found


def to_json(report: CaseReport) -> dict[str, Any]:
    """A report as plain data."""
    return {
        "case": report.name,
        "stats": str(report.stats),
        "rules": report.rules,
        "rules_known_by": report.known_by,
        "agrees": report.agrees,
        "energy_agrees": report.energy_agrees,
        "compared": report.compared,
        "equal": report.equal,
        "differences": [_difference(each) for each in report.differences],
        "not_compared": report.left_out,
        "notes": report.notes,
        "error": report.error,
    }


def _difference(difference: Difference) -> dict[str, Any]:
    part, tensor, label = difference.place
    return {
        "part": part,
        "tensor": tensor,
        "figure": label,
        "kind": difference.kind,
        "timeloop": difference.theirs,
        "mapgym": difference.ours,
        "why": difference.why,
    }


def show(reports: Sequence[CaseReport]) -> None:
    """Prints a table of all cases, and what differs in each."""
    table = console.new_table(
        "Timeloop's results, priced anew", ["case", "counted as"], ["counts", "cycles", "energies"]
    )
    table.add_column("", justify="left")
    for report in reports:
        figures = [f"{report.equal.get(k, 0)}/{report.compared.get(k, 0)}" for k in ("counts", "cycles", "energy")]
        verdict = "not priced" if report.error else "agrees" if report.agrees else "DIFFERS"
        if report.agrees and not report.energy_agrees:
            verdict = "counts and cycles agree"
        table.add_row(report.name, report.rules or "-", *([""] * 3 if report.error else figures), verdict)
    console.out().print(table)
    for report in reports:
        _show_case(report)
    agree = sum(report.agrees for report in reports)
    console.say(f"{agree} of {len(reports)} agree in all counts and cycles.")


def _show_case(report: CaseReport) -> None:
    if report.error:
        console.say(f"{report.name}: not priced: {report.error}")
        return
    if report.known_by:
        console.say(f"{report.name}: counted as {report.rules}, {report.known_by}.")
    for note in report.notes:
        console.say(f"  Note: {note}.")
    if not report.differences:
        return
    table = console.new_table(f"What differs in {report.name}", ["part", "tensor", "figure"], ["Timeloop", "mapgym"])
    table.add_column("explained by", justify="left")
    for each in report.differences[:_MOST_ROWS]:
        part, tensor, label = each.place
        table.add_row(part or "summary", tensor, label, each.theirs, f"{each.ours:.10g}", each.why or "nothing known")
    console.out().print(table)
    if len(report.differences) > _MOST_ROWS:
        console.say(f"  and {len(report.differences) - _MOST_ROWS} more; --json has all of them.")
