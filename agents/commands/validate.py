"""``mapgym validate``: our figures against the real Timeloop's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from mapgym.agents.commands import console, options, results
from mapgym.errors import SpecificationError
from mapgym.errors.text import printable, quoted
from mapgym.spec.rules import DEFAULT_RULES, RULE_SETS, counting_rules
from mapgym.timeloop import ValidationReport, validate_file
from mapgym.timeloop.records.architectures import BESIDE
from mapgym.timeloop.results import CaseReport


def _one_file(key: str) -> Any:
    """An option for one of Timeloop's files that a folder of results lacks."""
    text = f"Timeloop's file with the key {key}, instead of what a folder of results has."
    return typer.Option(metavar="FILE", help=text, show_default=False)


def validate(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH",
            help="Folders with results of Timeloop (*.stats.txt and what lies beside it), or records of its runs, "
            ".jsonl or .jsonl.gz.",
            show_default=False,
        ),
    ],
    arch: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help=f"Descriptions of architectures, .json or .json.gz; may be repeated. {BESIDE} beside records is read "
            "by itself, and the catalog has the others.",
            show_default=False,
        ),
    ] = None,
    rules: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"As which version of Timeloop we count: {', '.join(RULE_SETS)}. Left out, records are counted as by "
            f"{DEFAULT_RULES}, and folders as by the version that has written them.",
            show_default=False,
        ),
    ] = None,
    problem: Annotated[Path | None, _one_file("problem")] = None,
    architecture: Annotated[Path | None, _one_file("architecture")] = None,
    ert: Annotated[Path | None, _one_file("ERT")] = None,
    mapping: Annotated[Path | None, _one_file("mapping, or its *.map.txt")] = None,
    sparse: Annotated[Path | None, _one_file("sparse_optimizations")] = None,
    tool: Annotated[
        str | None,
        typer.Option(
            "--with",
            metavar="TOOL",
            help="Run an installed tool on mappings of our own (PATH: their files; with --workload and --accelerator), "
            "and compare with what it finds: timeloop, whose timeloop-model must be on the PATH.",
            show_default=False,
        ),
    ] = None,
    workload: Annotated[str | None, typer.Option(help="Of the mappings, for --with.", show_default=False)] = None,
    accelerator: Annotated[str | None, typer.Option(help="Of the mappings, for --with.", show_default=False)] = None,
    as_json: options.JsonOption = False,
) -> None:
    """Prices the mappings of Timeloop's results and compares every figure.

    Exit status 0 only if all counts and cycles agree as they are printed (of records: all verdicts, and every figure to
    1e-9 relative), else 1.
    """
    if rules is not None:
        counting_rules(rules, "--rules")
    given = dict(zip(results.FILES, (problem, architecture, ert, mapping, sparse), strict=True))
    named = {key: file for key, file in given.items() if file is not None}
    if tool is not None:
        _end(results.validate_with(tool, files, workload, accelerator, rules), as_json)
        return
    if (lonely := workload or accelerator) is not None:
        raise SpecificationError(f"{quoted(lonely)} is given without --with; results say what they are of")
    records = [path for path in files if not results.is_results(path)]
    if records and named:
        raise SpecificationError(f"{records[0]}: is no folder of results, and only these take Timeloop's single files")
    reports = [_validate_records(file, arch, rules or DEFAULT_RULES) for file in records]
    cases = [case for path in files if path not in records for case in results.validate_folder(path, named, rules)]
    if as_json:
        found = {"files": [_to_json(report) for report in reports]} if reports else {}
        console.print_json(found | ({"results": list(map(results.to_json, cases))} if cases else {}))
    else:
        for report in reports:
            _print(report)
        if cases:
            results.show(cases)
    if not all(report.passed for report in reports) or not all(case.is_close for case in cases):
        raise typer.Exit(1)


def _end(cases: list[CaseReport], as_json: bool) -> None:
    """Shows what was compared, and ends with the status that it deserves."""
    if as_json:
        console.print_json({"results": list(map(results.to_json, cases))})
    else:
        results.show(cases)
    if not all(case.is_close for case in cases):
        raise typer.Exit(1)


def _validate_records(file: Path, arch: list[Path] | None, rules: str) -> ValidationReport:
    screen = console.err()
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        bar = progress.add_task(printable(file.name), total=None)
        return validate_file(
            file,
            arch_json=arch,
            rules=rules,
            progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )


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
