"""What the pages of reports share: the document itself, tables, and a mapping that can be opened."""

from __future__ import annotations

from collections.abc import Sequence

from mapgym import __version__
from mapgym.agents.experiment.report.explanation import Breakdown, energy_table, explain, headlines, time_table
from mapgym.agents.experiment.report.markup import Markup, element
from mapgym.agents.experiment.report.page_style import PAGE_CSS, PAGE_SCRIPT
from mapgym.cost import CostModel, lower_bound
from mapgym.mapping import Mapping
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.workload import Workload

Section = tuple[str, str, list[Markup]]
"""Heading, anchor, content."""


def document(title: str, introduction: Sequence[Markup], sections: Sequence[Section]) -> str:
    """A page that needs nothing else.

    Args:
        title: of the page.
        introduction: what stands below it.
        sections: the rest, listed in a table of contents.
    """
    contents = [element("li", element("a", name, href=f"#{anchor}")) for name, anchor, _ in sections]
    main = element(
        "main",
        element("nav", element("ul", *contents), aria_label="Contents"),
        *(
            element("section", element("h2", name, id=anchor), *content, aria_labelledby=anchor)
            for name, anchor, content in sections
        ),
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Markup(PAGE_CSS)),
    )
    header = element("header", element("h1", title), *introduction)
    footer = element("footer", element("p", f"Made by mapgym {__version__}."))
    body = element("body", header, main, footer, element("script", Markup(PAGE_SCRIPT)))
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def mapping_parts(
    workload: Workload, accelerator: Accelerator, mapping: Mapping, facts: Sequence[Markup] = ()
) -> list[Markup]:
    """A legal mapping: metrics, further facts (:func:`pair`), loop nest, where energy and time go."""
    cost = CostModel(workload, accelerator).evaluate(mapping, detail=True)
    explained = explain(workload, accelerator, mapping, cost, lower_bound(workload, accelerator))
    metrics = [part for name, text in headlines(explained) for part in pair(name, text)]
    return [
        element("dl", *metrics, *facts),
        element("pre", mapping.to_text(), tabindex=0),
        breakdown(energy_table(workload, accelerator, explained)),
        breakdown(time_table(accelerator, explained)),
    ]


def sortable(
    caption: str, columns: Sequence[str], rows: Sequence[Sequence[tuple[str, object]]], first: Sequence[Markup] = ()
) -> Markup:
    """A table whose columns sort.

    Args:
        caption: above it.
        columns: their names.
        rows: of each cell the text and what it is sorted by.
        first: what stands before the text of the first cell of each row.
    """
    head = [element("th", name, scope="col", class_="left" if i == 0 else None) for i, name in enumerate(columns)]
    body = []
    for k, ((name, _), *cells) in enumerate(rows):
        heading = element("th", *first[k : k + 1], name, scope="row")
        body.append(element("tr", heading, *(element("td", text, data_value=key) for text, key in cells)))
    table = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *head)),
        element("tbody", *body),
        class_="sortable",
    )
    return scrolling(table, caption)


def pair(name: str, text: str) -> list[Markup]:
    """A fact of a list of them."""
    return [element("dt", name), element("dd", text)]


def breakdown(table: Breakdown) -> Markup:
    """A table of where energy or time goes."""
    left = len(table.left)
    head = [
        element("th", name, scope="col", class_="left" if i < left else None)
        for i, name in enumerate((*table.left, *table.right))
    ]
    bodies = []
    for section in table.sections:
        rows = [
            element(
                "tr",
                *(
                    element("th", cell, scope="row")
                    if i == 0
                    else element("td", cell, class_="left" if i < left else None)
                    for i, cell in enumerate(row)
                ),
            )
            for row in section
        ]
        bodies.append(element("tbody", *rows))
    caption = element("caption", table.title)
    return scrolling(element("table", caption, element("thead", element("tr", *head)), *bodies), table.title)


def scrolling(table: Markup, label: str) -> Markup:
    """A table that may be wider than the page."""
    # A region that scrolls must be reachable by keyboard.
    return element("div", table, class_="scroll", tabindex=0, role="region", aria_label=label)
