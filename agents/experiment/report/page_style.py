"""The look and the few lines of script of the report page; nothing is loaded from elsewhere."""

from __future__ import annotations

from mapgym.agents.experiment.report.charts import CHART_CSS, THEME_CSS

PAGE_CSS = (
    THEME_CSS
    + CHART_CSS
    + """\
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI",
  Roboto, sans-serif; }
header, main, footer { max-width: 92rem; margin: 0 auto; padding: 0 1.5rem; }
header { padding-top: 2rem; } footer { padding-bottom: 3rem; color: var(--muted); font-size: 0.9rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 0.5rem; } h2 { font-size: 1.4rem; margin: 2.8rem 0 0.6rem; }
h3 { font-size: 1.1rem; margin: 2rem 0 0.4rem; } p, li { max-width: 75ch; } a { color: var(--accent); }
a:focus-visible, button:focus-visible, summary:focus-visible, [tabindex]:focus-visible { outline: 2px solid
  var(--accent); outline-offset: 2px; }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: 0.86rem; }
pre { background: var(--panel); border-radius: 6px; padding: 0.8rem 1rem; overflow-x: auto; line-height: 1.35; }
.facts { color: var(--muted); margin: 0.2rem 0; }
nav ul { columns: 20rem; padding-left: 1.2rem; }
.scroll { overflow-x: auto; margin: 0.8rem 0; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; white-space: nowrap; }
caption { text-align: left; font-weight: 600; padding: 0.3rem 0; }
th, td { padding: 0.32rem 0.75rem; border-bottom: 1px solid var(--grid); text-align: right; }
th.left, td.left, tbody th { text-align: left; }
thead th { border-bottom: 2px solid var(--muted); vertical-align: bottom; }
tbody th { font-weight: 600; } tbody tr:hover { background: var(--panel); }
tbody + tbody tr:first-child > * { border-top: 1px solid var(--muted); }
th button { all: unset; cursor: pointer; font-weight: 600; }
th button::after { content: " \\2195"; color: var(--muted); }
th[aria-sort="ascending"] button::after { content: " \\2191"; color: var(--ink); }
th[aria-sort="descending"] button::after { content: " \\2193"; color: var(--ink); }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)); gap: 1.2rem; }
.charts svg { width: 100%; height: auto; }
details { border: 1px solid var(--grid); border-radius: 6px; margin: 0.45rem 0; padding: 0 0.9rem; }
details[open] { padding-bottom: 0.6rem; } summary { cursor: pointer; padding: 0.45rem 0; }
summary .value { color: var(--muted); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.1rem 1.2rem; margin: 0.6rem 0; }
dt { color: var(--muted); } dd { margin: 0; }
.swatch { display: inline-block; width: 0.75rem; height: 0.75rem; border-radius: 2px; margin-right: 0.5rem; }
.warning { border-left: 4px solid var(--c1); padding: 0.2rem 1rem; background: var(--panel); }
@media print { details > *, .charts > * { break-inside: avoid; } }
"""
    + "".join(f".swatch.s{i} {{ background: var(--c{i}); }}\n" for i in range(7))
)

PAGE_SCRIPT = """\
"use strict";
// Tables sort by the column whose heading is pressed; without this script they keep the order of the experiment.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const up = heading.getAttribute("aria-sort") !== "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => {
        const value = row.cells[column].dataset.value;
        return value === undefined ? row.cells[column].textContent : value === "" ? Infinity : Number(value);
      };
      const compare = (a, b) => (typeof a === "number" ? (a === b ? 0 : a - b) : a.localeCompare(b));
      const rows = [...table.tBodies[0].rows].sort((a, b) => (up ? 1 : -1) * compare(key(a), key(b)));
      table.tBodies[0].append(...rows);
    });
  });
}
"""
