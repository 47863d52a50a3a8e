"""The charts and the page of an experiment's report."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from mapgym.agents.experiment.definition.experiment import AgentEntry, Experiment
from mapgym.agents.experiment.execution.runner import run_experiment
from mapgym.agents.experiment.report import curves
from mapgym.agents.experiment.report.charts import WIDTH, Axis, Chart, Series, to_file
from mapgym.agents.experiment.report.folder_report import read_folder, write_reports
from mapgym.agents.experiment.report.markup import Markup, element, joined
from mapgym.agents.experiment.report.summary import summarize
from mapgym.agents.experiment.storage.folder import ExperimentFolder
from mapgym.evaluation.evaluator import Budget, Trace
from mapgym.evaluation.task import Task
from mapgym.spec import catalog

pytest.importorskip("pyarrow")

SVG = "{http://www.w3.org/2000/svg}"
NASTY = "<script>alert('1 & \"2\"')</script> | `x`"


class Checker(HTMLParser):
    """Complains about elements that are not closed in order; collects what is there."""

    VOID = frozenset({"meta", "br", "hr", "col"})

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.open, self.found, self.text, self.ids = [], [], [], []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a small experiment with names that try to break out."""
    path = tmp_path_factory.mktemp("page")
    machine = catalog.accelerator("tiny")
    tasks = [Task(catalog.workload(f"toy/{name}"), machine) for name in ("tiny_gemm", "tiny_conv")]
    tasks[0] = replace(tasks[0], workload=replace(tasks[0].workload, name=NASTY))
    entries = (AgentEntry("random", NASTY), AgentEntry("random"), AgentEntry("gamma", axes=("tile",)))
    run_experiment(Experiment(tuple(tasks), entries, (0, 1), Budget(samples=60), NASTY), path, jobs=0, command=NASTY)
    write_reports(path)
    return path


class TestMarkup:
    def test_everything_but_markup_is_escaped(self):
        assert element("p", "a < b", element("b", "&"), class_='"') == '<p class="&quot;">a &lt; b<b>&amp;</b></p>'
        assert joined(["<", Markup("<br>")], " ") == "&lt; <br>"

    def test_attributes(self):
        assert element("td", 1, data_value=2, hidden=True, open=False, id=None) == '<td data-value="2" hidden>1</td>'
        assert element("meta", charset="utf-8") == '<meta charset="utf-8">'
        assert element("g") == "<g></g>"


class TestCharts:
    @pytest.mark.parametrize(
        ("axis", "ticks"),
        [
            (Axis("", 0.0, 1.0), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
            (Axis("", 1.0, 1000.0, logarithmic=True), [1.0, 10.0, 100.0, 1000.0]),
            (Axis("", 0.05, 20.0, logarithmic=True), [0.1, 1.0, 10.0]),
            (Axis("", 1.0, 6.0, logarithmic=True), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
            (Axis("", 1.0, 1e12, logarithmic=True), [1.0, 1e2, 1e4, 1e6, 1e8, 1e10, 1e12]),
        ],
    )
    def test_ticks_are_round(self, axis, ticks):
        assert axis.ticks() == pytest.approx(ticks)

    def test_values_are_placed_between_the_ends(self):
        values = np.array([0.1, 1.0, 10.0, 100.0, 1000.0])
        np.testing.assert_allclose(Axis("", 1.0, 100.0, logarithmic=True).place(values), [0, 0, 0.5, 1, 1])
        np.testing.assert_allclose(Axis("", 0.0, 10.0).place(values), [0.01, 0.1, 1, 1, 1])

    def test_a_step_keeps_its_value_until_the_next_point(self):
        line = Series("a", 0, np.array([0.0, 5.0, 10.0]), np.array([0.0, 1.0, np.nan]))
        axis = Axis("", 0.0, 10.0)
        drawn = Chart("t", axis, Axis("", 0.0, 1.0), [line], steps=True).to_svg()
        path = re.search(r'<path d="M([^"]*)" class="line s0"><title>', drawn)[1]
        (x0, y0), (x1, y1), (x2, y2) = (map(float, point.split()) for point in path.split("L"))
        assert (x0, y0) == (0.0, y1)
        assert x1 == x2 > x0
        assert (y2, y0 > 0) == (0.0, True)

    def test_a_chart_says_what_it_shows_and_is_well_formed(self):
        series = [Series(name, i, np.arange(1.0, 4.0), np.arange(3.0)) for i, name in enumerate(("a & b", "<c>"))]
        chart = Chart(
            "Title", Axis("x", 1.0, 3.0), Axis("y", 0.0, 2.0), [*series, Series("none", 2, *2 * [np.ones(0)])]
        )
        root = ElementTree.fromstring(chart.to_svg())
        assert root.attrib["role"] == "img"
        assert root[0].text == "Title: y against x of a & b, <c>, none"
        image = ElementTree.fromstring(to_file([chart] * 4))
        assert (image.attrib["width"], image.attrib["height"]) == (str(3 * WIDTH), str(2 * chart.height))

    def test_many_agents_get_a_legend_of_several_lines(self):
        names = [f"agent number {i}" for i in range(20)]
        lines = [Series(name, i, np.array([1.0, 2.0]), np.array([0.0, 1.0])) for i, name in enumerate(names)]
        chart = Chart("", Axis("", 1.0, 2.0), Axis("", 0.0, 1.0), lines)
        root = ElementTree.fromstring(chart.to_svg())
        texts = [text for text in root.iter(f"{SVG}text") if text.text in names]
        placed = {text.text: (float(text.get("x")), float(text.get("y"))) for text in texts}
        assert len(set(placed.values())) == 20
        assert all(x < WIDTH and y < chart.height - 236 for x, y in placed.values())
        styles = {
            (p.get("class"), p.get("stroke-dasharray")) for p in root.iter() if (p.get("class") or "")[:4] == "line"
        }
        assert len(styles) == 20


class TestCurves:
    @pytest.fixture
    def summary(self, folder):
        """Two tasks, one agent; values over the best known: 4, 2, 1 at 1, 10, 100 samples, and 1.4 at 1."""
        results = [
            one for one in read_folder(ExperimentFolder(folder)).summary.all_results if one.agent.label == "random"
        ]
        traces = [
            Trace([1, 10, 100], [0.1, 0.2, 0.3], [40.0, 20.0, 10.0]),
            Trace([1], [0.1], [14.0]),
            Trace([1], [0.1], [7.0]),
            Trace([1], [0.1], [7.0]),
        ]
        changed = [
            replace(one, trace=trace, best_value=trace.values[-1], lower_bound=5.0, samples=100, seconds=0.5)
            for one, trace in zip(results, traces, strict=True)
        ]
        return summarize(changed, Budget(samples=100))

    def test_targets_reached(self, summary):
        chart = curves.targets_reached(summary, "samples")
        (line,) = chart.series
        # At once: 1.4 is within 1.5 and 2, the second task within all: 0, 2, 5 and 5 of 5 targets.
        assert line.y[0] == pytest.approx(12 / 20)
        assert line.y[line.x == 10] == pytest.approx(13 / 20)
        assert line.y[-1] == pytest.approx(17 / 20)
        (line,) = curves.targets_reached(summary, "seconds", 1.5).series
        assert line.y[0] == pytest.approx(3 / 4)
        assert line.y[-1] == 1.0

    def test_anytime(self, summary):
        (line,) = curves.anytime(summary, "samples").series
        # Ratios 4, 1.4, 1, 1: the middle half is 1.4 and 1; at the end 1 and 1, drawn as 0.1 %.
        assert line.y[0] == pytest.approx(0.2)
        assert line.y[-1] == pytest.approx(1e-3)
        assert (line.low <= line.y).all()
        assert (line.y <= line.high).all()
        (of_task,) = curves.anytime(summary, "seconds", summary.tasks[0]).series
        assert of_task.y[0] == pytest.approx((3 + 0.4) / 2)

    def test_performance_profile(self, summary):
        (line,) = curves.performance_profile(summary).series
        assert line.y[0] == 3 / 4
        assert line.y[-1] == 1.0
        assert (np.diff(line.y) >= 0).all()


class TestPage:
    def test_is_well_formed_and_needs_nothing_else(self, folder):
        page = (folder / "report.html").read_text()
        found = Checker(page)
        assert page.startswith("<!DOCTYPE html>\n")
        names = {"src", "href", "srcset", "action", "data", "xlink:href"}
        links = [value for _, attributes in found.found for name, value in attributes.items() if name in names]
        assert all(link.startswith("#") for link in links)
        assert {link[1:] for link in links} <= set(found.ids)
        assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest", page)
        assert set(re.findall(r"https?://[^\s\"'<]*", page)) == {"http://www.w3.org/2000/svg"}
        assert len(found.ids) == len(set(found.ids))

    def test_nothing_breaks_out(self, folder):
        page = (folder / "report.html").read_text()
        assert page.count("<script") == 1
        assert NASTY in "".join(Checker(page).text)
        for line in (folder / "summary.md").read_text().splitlines():
            if line.startswith("| <script>"):
                assert r"</script> \| `x` |" in line
        assert "script>" not in "".join(path.name for path in folder.rglob("*"))
        ElementTree.fromstring((folder / "anytime.svg").read_text())

    def test_can_be_used_without_a_mouse_or_eyes(self, folder):
        found = Checker((folder / "report.html").read_text())
        assert all("scope" in attributes for attributes in found.all("th"))
        assert all(attributes["role"] == "img" for attributes in found.all("svg"))
        assert found.all("html")[0]["lang"] == "en"
        assert len(found.all("caption")) == len(found.all("table")) > 0
        page = (folder / "report.html").read_text()
        assert len(re.findall(r"<svg[^>]*><title>[^<]+</title>", page)) == len(found.all("svg"))
        regions = [a for a in found.all("div") if a.get("class") == "scroll"]
        assert all(a["tabindex"] == "0" and a["aria-label"] for a in regions)

    def test_every_best_mapping_can_be_opened(self, folder):
        page = (folder / "report.html").read_text()
        found = Checker(page)
        # Two tasks, three agents.
        assert len(found.all("details")) == page.count("multiply-accumulate") == 6
        for heading in ("Where the energy goes", "Where the time goes"):
            assert sum(text.startswith(heading) for text in found.text) == 6
        text = "".join(found.text)
        assert "limited by" in text
        best = min(read_folder(ExperimentFolder(folder)).summary.best_known.values())
        assert f"EDP{best:.6g} pJ*cycles" in text

    def test_columns_sort_by_number(self, folder):
        found = Checker((folder / "report.html").read_text())
        values = [attributes["data-value"] for attributes in found.all("td") if "data-value" in attributes]
        assert values
        assert all(value == "" or float(value) is not None for value in values)

    def test_is_the_same_each_time(self, folder):
        before = (folder / "report.html").read_bytes()
        write_reports(folder)
        assert (folder / "report.html").read_bytes() == before
