"""Turns the results in the folder of an experiment into tables and plots beside them."""

from __future__ import annotations

from dataclasses import dataclass

from mapgym.agents.experiment import report
from mapgym.agents.experiment.files import write_text
from mapgym.agents.experiment.folder import ExperimentFolder
from mapgym.agents.experiment.mapping_file import write_mapping
from mapgym.agents.experiment.proofs import ProofObserver, certify_tasks
from mapgym.agents.experiment.summary import Summary, summarize
from mapgym.errors import SpecificationError


@dataclass(frozen=True)
class FolderReport:
    """What a folder says, and which files say it.

    Attributes:
        summary: the figures.
        about: what stands around them.
        written: names of the files, within the folder.
    """

    summary: Summary
    about: report.About
    written: tuple[str, ...]


def read_folder(folder: ExperimentFolder) -> tuple[Summary, report.About]:
    """The figures of a folder, and what to say around them.

    Raises:
        SpecificationError: it holds no experiment, or no run that has come to its end.
    """
    definition, results = folder.definition(), folder.results()
    finished = [result for result in results if not result.failure]
    if not finished:
        raise SpecificationError(
            f"the folder {str(folder.path)!r} holds no finished run yet; give the command that made it again"
        )
    certificates = certify_tasks(dict.fromkeys(result.task for result in finished), folder, None, ProofObserver())
    planned = len(definition["tasks"]) * len(definition["agents"]) * len(definition["seeds"])
    failures = [result for result in results if result.failure]
    about = report.About(definition["description"], folder.command(), planned, failures)
    return summarize(finished, definition["budget"], certificates), about


def write_report(folder: ExperimentFolder) -> FolderReport:
    """Writes tables, plots and the best mappings into a folder; see :func:`read_folder`."""
    summary, about = read_folder(folder)
    written = ["summary.md", "summary.csv"]
    write_text(folder.path / "summary.csv", report.to_csv(summary))
    write_text(folder.path / "summary.md", report.to_markdown(summary, about))
    try:
        from mapgym.agents.experiment.plot import plot_anytime

        plot_anytime(summary, folder.path / "anytime.png")
        written.append("anytime.png")
    except ImportError:
        pass
    (folder.path / "best").mkdir(exist_ok=True)
    for task, result in summary.best_runs.items():
        if result.mapping is not None and result.best_cost is not None:
            text = f"{task.name}: EDP {result.best_cost['edp']:.6g} pJ*cycles\n"
            text += f"found by {result.agent.label}, seed {result.seed}"
            write_mapping(folder.path / "best" / f"{task.file_stem}.yaml", result.mapping, text)
    return FolderReport(summary, about, tuple(written))
