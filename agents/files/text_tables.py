"""Tables and text of reports as CSV and as Markdown, in which foreign names are text and nothing else."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

from mapgym.errors.text import printable

# What begins a formula in a spreadsheet, behind spaces too; a number may begin with a sign.
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]")  # noqa: RUF001 - the wide ones count as well

# What Markdown takes for markup: at any place, in a link or a picture, and as emphasis, which _ is not within a word.
_MARKUP = re.compile(r"[\\`*|~]|\](?=[(\[:])|(?<!\w)_|_(?!\w)")
_ELEMENT = re.compile(r"<(?=[A-Za-z/!?])")
_ENTITY = re.compile(r"&(?=#?\w+;)")
_BLOCK = re.compile(r"(?=[#>=+-])|[0-9]+(?=[.)])")


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV; None becomes an empty cell.

    Text that a spreadsheet would run as a formula gets an apostrophe in front, which spreadsheets take for "text".
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerows([_csv_cell(cell) for cell in row] for row in rows)
    return table.getvalue()


def _csv_cell(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    cell = printable(cell)
    return f"'{cell}" if len(cell) > 1 and _FORMULA.match(cell) and not _is_number(cell) else cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def markdown(text: str) -> str:
    """Text in which Markdown finds no markup: no element, link, picture, emphasis, or border of a cell."""
    text = _MARKUP.sub(lambda found: f"\\{found[0]}", printable(text))
    return _ELEMENT.sub("&lt;", _ENTITY.sub("&amp;", text))


def markdown_paragraph(text: str) -> str:
    """The same at the beginning of a line, where it is no heading, quotation or list either."""
    text = markdown(text)
    block = _BLOCK.match(text)
    return text if block is None else f"{block[0]}\\{text[block.end() :]}"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table."""
    lines = [header, *rows]
    written = ["| " + " | ".join(map(markdown, cells)) + " |" for cells in lines]
    return [written[0], "|" + " --- |" * len(header), *written[1:]]


def markdown_code(line: str) -> str:
    """A line of code, as a paragraph of its own."""
    return f"    {printable(line)}"
