"""The report of experiments as one HTML page that needs nothing else: tables, charts, and every best mapping."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mapgym.agents.experiment.report import curves, report
from mapgym.agents.experiment.report.charts import Chart
from mapgym.agents.experiment.report.markup import Markup, element, joined
from mapgym.agents.experiment.report.page_parts import document, mapping_parts, pair, sortable
from mapgym.agents.experiment.report.summary import TARGETS, Row, Summary
from mapgym.agents.experiment.storage.results import RunResult
from mapgym.evaluation.task import Task
from mapgym.mapping import Mapping

_MAPPINGS = 600
"""Most mappings of a part; with more, only the best of each task is shown."""


@dataclass(frozen=True)
class Part:
    """One experiment of a page.

    Attributes:
        name: of its folder.
        summary: its metrics.
        about: what stands around them.
    """

    name: str
    summary: Summary
    about: report.About


def to_html(parts: Sequence[Part], title: str) -> str:
    """The page.

    Args:
        parts: the experiments, at least one.
        title: of the page.
    """
    several = len(parts) > 1
    sections = [section for part in parts for section in _part(part, several=several)]
    return document(title, [_origin(parts)], sections)


def _origin(parts: Sequence[Part]) -> Markup:
    """What made the results, where."""
    results = [result for part in parts for result in part.summary.all_results]
    versions = {f"{name} {version}" for result in results for name, version in result.versions.items()}
    facts = [
        ("made on", ", ".join(sorted({result.machine for result in results}))),
        ("with", ", ".join(sorted(versions))),
        ("from", f"{min(r.finished_at for r in results)} to {max(r.finished_at for r in results)}"),
    ]
    return joined(element("p", f"{name} {text}", class_="facts") for name, text in facts)


def _part(part: Part, *, several: bool) -> Iterator[tuple[str, str, list[Markup]]]:
    """The sections of an experiment: heading, anchor, content."""
    summary = part.summary
    prefix = f"{part.name}: " if several else ""
    anchor = re.sub(r"[^a-z0-9]+", "-", f"{prefix}overview".lower())
    yield f"{prefix}Overview", anchor, _overview(part)
    shown = len(summary.results) <= _MAPPINGS
    for i, task in enumerate(summary.tasks):
        yield f"{prefix}{task.name}", f"{anchor}-task-{i}", _task(summary, task, all_mappings=shown)
    yield f"{prefix}How to read this", f"{anchor}-help", [_explanation(summary)]


def _overview(part: Part) -> list[Markup]:
    summary, about = part.summary, part.about
    content = [element("p", about.description)] if about.description else []
    content.append(
        element(
            "p",
            f"{len(summary.agents)} agents on {len(summary.tasks)} tasks; budget of a run: "
            f"{report.budget_text(summary)}. {report.rules_line(summary)} {about.state(summary)}",
        )
    )
    if warm := report.warm_start_lines(summary.all_results):
        content.append(element("p", "Warm starts:"))
        content.append(element("ul", *(element("li", line) for line in warm)))
    if about.command:
        content.append(element("pre", element("code", about.command), tabindex=0))
    if about.failures:
        items = [
            element("details", element("summary", failed.run.name), element("pre", failed.failure))
            for failed in about.failures
        ]
        content.append(element("div", element("p", "These runs failed:"), *items, class_="warning"))
    if len(summary.tasks) > 1:
        rows = [row for row in summary.rows if row.task is None]
        content.append(_table(summary, rows, f"All {len(summary.tasks)} tasks"))
    if summary.complete_agents:
        content.append(element("h3", "Anytime performance"))
        content.append(_charts([curves.anytime(summary, unit) for unit in ("samples", "seconds")]))
        content.append(element("h3", "Final quality"))
        content.append(_charts([curves.performance_profile(summary)]))
        content.append(element("h3", "Targets reached"))
        targets = [curves.targets_reached(summary, "samples", target) for target in (None, *TARGETS)]
        content.append(_charts([*targets, curves.targets_reached(summary, "seconds")]))
    return content


def _task(summary: Summary, task: Task, *, all_mappings: bool) -> list[Markup]:
    content = [element("p", " ".join(report.task_lines(summary, task)))]
    content.append(_table(summary, [row for row in summary.rows if row.task == task], f"{task.name}: agents"))
    if len(summary.tasks) > 1:
        charts = [curves.anytime(summary, unit, task) for unit in ("samples", "seconds")]
        content.append(_charts(charts))
    bests = [
        min(summary.results[task, agent], key=lambda result: result.ratio)
        for agent in summary.agents
        if (task, agent) in summary.results
    ]
    if not all_mappings:
        bests = [summary.best_runs[task]]
    content.append(element("h3", "Best mappings"))
    content += [_mapping(summary, task, result) for result in sorted(bests, key=lambda result: result.ratio)]
    return content


def _mapping(summary: Summary, task: Task, result: RunResult) -> Markup:
    """A mapping that can be opened: loop nest and cost breakdown."""
    label = result.agent.label
    if result.mapping is None or result.best_value is None:
        return element("p", f"{label} found no legal mapping.")
    mapping = Mapping.from_dict(result.mapping, task.workload, task.accelerator)
    over = result.best_value / summary.best_known[task]
    value = element("span", f"{over:.4g} x the best known, seed {result.seed}", class_="value")
    parameters = ", ".join(f"{name}={value}" for name, value in result.agent.parameters.items())
    facts = [*pair("agent", result.agent.agent), *pair("parameters", parameters or "none")]
    if result.warm_start_sources is not None:
        facts += pair("begun from", ", ".join(result.warm_start_sources["sources"]) or "random mappings")
    return element(
        "details",
        element("summary", _swatch(summary, label), element("strong", label), ": ", value),
        *mapping_parts(task.workload, task.accelerator, mapping, facts),
    )


def _table(summary: Summary, rows: Sequence[Row], caption: str) -> Markup:
    """The metrics of agents."""
    cells = [list(zip(report.cells_of(row, summary), report.keys_of(row, summary), strict=True)) for row in rows]
    return sortable(caption, report.header_of(summary), cells, [_swatch(summary, row.agent) for row in rows])


def _swatch(summary: Summary, agent: str) -> Markup:
    return element("span", class_=f"swatch s{summary.agents.index(agent) % 7}", aria_hidden="true")


def _charts(charts: Sequence[Chart]) -> Markup:
    return element("div", *(element("div", chart.to_svg()) for chart in charts), class_="charts")


def _explanation(summary: Summary) -> Markup:
    lines = [
        *report.explanation(summary),
        "curves: interquartile mean over the seeds (and tasks) of the distance from the best known value, and its "
        "bootstrap 95 % interval, resampled within each task; distances below 0.1 % are drawn as 0.1 %. A line begins "
        "where every run that counts has a legal mapping.",
        "targets reached: share of the runs that had come within a multiple of the best known value after so much "
        "effort; performance profile: share of the runs that end within a distance, with 95 % intervals.",
    ]
    return element("ul", *(element("li", line) for line in lines))
