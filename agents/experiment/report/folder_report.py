"""Turns the results in the folders of experiments into tables, charts and a page beside them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mapgym.agents.experiment.proof.proofs import ProofObserver, certify_tasks
from mapgym.agents.experiment.report import curves, report
from mapgym.agents.experiment.report.charts import to_file
from mapgym.agents.experiment.report.page import Part, to_html
from mapgym.agents.experiment.report.summary import Summary, summarize
from mapgym.agents.experiment.storage.folder import ExperimentFolder, experiment_folders
from mapgym.agents.files.mapping_file import write_mapping
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.system.files import prepare_output_folder, write_text

PAGE = "report.html"
FILES = (PAGE, "summary.md", "summary.csv", "anytime.svg")
"""What a report consists of, besides the best mappings in best/."""


@dataclass(frozen=True)
class FolderReport:
    """What a folder says.

    Attributes:
        folder: its files, and which of them could not be read.
        summary: the metrics.
        about: what stands around them.
    """

    folder: ExperimentFolder
    summary: Summary
    about: report.About


def read_folder(folder: ExperimentFolder) -> FolderReport:
    """The metrics of the folder of an experiment; what has been read of it before is not read again.

    Raises:
        SpecificationError: it holds no experiment, or no run that has come to its end.
    """
    definition, results = folder.definition(), folder.results()
    finished = [result for result in results if not result.failure]
    if not finished:
        raise SpecificationError(
            f"the folder {quoted(folder.path)} holds no finished run yet; give the command that made it again"
        )
    certificates = certify_tasks(dict.fromkeys(result.task for result in finished), folder, None, ProofObserver())
    failures = [result for result in results if result.failure]
    about = report.About(definition["description"], folder.command(), definition["runs"], failures)
    return FolderReport(folder, summarize(finished, definition["budget"], certificates), about)


def write_reports(path: Path, folder: ExperimentFolder | None = None) -> list[FolderReport]:
    """Writes tables, charts and best mappings into the folder of an experiment, and one page.

    Args:
        path: the folder; if it holds several folders of experiments instead, each gets its own tables and charts, and
            the page has all of them.
        folder: that of the experiment if it has been read already.

    Raises:
        SpecificationError: there is no experiment, or one without a finished run, or the folder is not writable.
    """
    if not path.is_dir():
        raise SpecificationError(f"{quoted(path)} is no folder; give what 'mapgym run -o' has written")
    folders = [folder] if folder else list(map(ExperimentFolder, experiment_folders(path))) or [ExperimentFolder(path)]
    found = list(map(read_folder, folders))
    for place in {path, *(one.path for one in folders)}:
        prepare_output_folder(place)
    for one in found:
        _write_tables(one)
    title = found[0].about.description or "comparison of mappers"
    if len(found) > 1:
        title = f"{len(found)} experiments"
    parts = [Part(one.folder.path.name, one.summary, one.about) for one in found]
    write_text(path / PAGE, to_html(parts, f"{title[0].upper()}{title[1:]}"))
    return found


def _write_tables(found: FolderReport) -> None:
    path, summary = found.folder.path, found.summary
    write_text(path / "summary.csv", report.to_csv(summary))
    write_text(path / "summary.md", report.to_markdown(summary, found.about))
    write_text(path / "anytime.svg", to_file([curves.anytime(summary, summary.unit, task) for task in summary.tasks]))
    (path / "best").mkdir(exist_ok=True)
    for task, result in summary.best_runs.items():
        if result.mapping is not None and result.best_cost is not None:
            text = f"{task.name}: EDP {result.best_cost['edp']:.6g} pJ*cycles\n"
            text += f"found by {result.agent.label}, seed {result.seed}"
            write_mapping(path / "best" / f"{task.file_stem}.yaml", result.mapping, text)
