"""``mapgym validate``: our figures against the real Timeloop's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from mapgym.agents.commands import console, options
from mapgym.errors.text import printable, quoted
from mapgym.spec.rules import DEFAULT_RULES, RULE_SETS, counting_rules
from mapgym.timeloop import ValidationReport, validate_file
from mapgym.timeloop.records.architectures import BESIDE


def validate(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help="Results of Timeloop, .jsonl or .jsonl.gz.", show_default=False),
    ],
    arch: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help=f"Descriptions of architectures, .json or .json.gz; may be repeated. {BESIDE} beside FILE is read by "
            "itself, and the catalog has the others.",
            show_default=False,
        ),
    ] = None,
    rules: Annotated[
        str,
        typer.Option(metavar="NAME", help=f"As which version of Timeloop we count: {', '.join(RULE_SETS)}."),
    ] = DEFAULT_RULES,
    as_json: options.JsonOption = False,
) -> None:
    """Prices the mappings of Timeloop's results and compares every figure.

    Exit status 0 only if all verdicts agree and every compared figure is equal to 1e-9 relative, else 1.
    """
    counting_rules(rules, "--rules")
    reports = []
    for file in files:
        screen = console.err()
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
            bar = progress.add_task(printable(file.name), total=None)
            reports.append(
                validate_file(
                    file,
                    arch_json=arch,
                    rules=rules,
                    # The task and the progress are those of this file: the call ends within the iteration.
                    progress=lambda done, total: progress.update(bar, completed=done, total=total),  # noqa: B023
                )
            )
    if as_json:
        console.print_json({"files": [_to_json(report) for report in reports]})
    else:
        for report in reports:
            _print(report)
    if not all(report.passed for report in reports):
        raise typer.Exit(1)


def _to_json(report: ValidationReport) -> dict[str, Any]:
    return {
        "file": str(report.file),
        "rules": report.rules,
        "cases": report.cases,
        "verdicts_agree": report.verdicts_agree,
        "artefacts": report.artefacts,
        "not_supported": len(report.unsupported),
        "compared": report.compared,
        "exact": report.exact,
        "close": report.close,
        "max_rel_error": dict(report.max_rel_error),
    }


def _print(report: ValidationReport) -> None:
    errors = report.max_rel_error
    console.say(f"{report.file}, {report.rules}: {'passed' if report.passed else 'FAILED'}")
    for name, value in (
        ("cases", f"{report.cases:,}"),
        ("verdicts that agree", f"{report.verdicts_agree:,}"),
        ("artefacts (not compared)", f"{report.artefacts:,}"),
        ("not supported", f"{len(report.unsupported):,}"),
        ("cases compared", f"{report.compared:,} ({report.fields_compared:,} fields)"),
        ("cases exact", f"{report.exact:,}"),
        ("cases within rounding", f"{report.close:,}"),
        ("largest relative error", ""),
        ("  energy", f"{errors['energy_pj']:.3g}"),
        ("  cycles", f"{errors['latency_cycles']:.3g}"),
        ("  counts", f"{errors['counts']:.3g}"),
    ):
        console.say(f"  {name:26s}{value}".rstrip())
    if report.unsupported:
        console.say(
            "  Not supported, and not compared: mappings with a loop that runs another number of times in its last "
            f"visit; the first is record {quoted(report.unsupported[0])}."
        )
    if report.worst:
        table = console.new_table("Worst", ["id", "field", "mapgym", "Timeloop"], ["relative error"])
        for entry in report.worst:
            table.add_row(entry.id, entry.field, str(entry.ours), str(entry.theirs), f"{entry.relative_error:.3g}")
        console.out().print(table)
