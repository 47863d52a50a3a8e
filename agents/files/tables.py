"""Tables of studies as CSV and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mapgym import __version__
from mapgym.agents.files.text_tables import csv_text, markdown, markdown_code, markdown_table
from mapgym.system.files import write_text


@dataclass(frozen=True)
class Table:
    """Columns and rows; numbers stay numbers until they are written.

    Attributes:
        title: heading.
        note: what the columns mean.
        columns: their names.
        rows: cells; None is left empty.
    """

    title: str
    note: str
    columns: tuple[str, ...]
    rows: list[list[object]]

    @property
    def records(self) -> list[dict[str, object]]:
        """The rows by the names of their columns."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def to_csv(self) -> str:
        """With every metric at full precision."""
        return csv_text([self.columns, *self.rows])

    def text_rows(self) -> list[list[str]]:
        """The cells for people: four digits."""
        return [[_text(cell) for cell in row] for row in self.rows]

    def to_markdown(self) -> str:
        """With its title and note."""
        lines = [f"## {markdown(self.title)}", "", self.note, ""]
        return "\n".join([*lines, *markdown_table(self.columns, self.text_rows())]) + "\n"


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def write_report(
    folder: Path, name: str, title: str, command: str, tables: Sequence[Table], pictures: Sequence[str], rules: str
) -> list[str]:
    """Writes NAME.md with all tables and pictures, and each table as CSV: the last as NAME.csv, it has most detail.

    Args:
        folder: where to.
        name: of the study.
        title: heading of the report.
        command: what made it.
        tables: from the overview to the details.
        pictures: names of files in the folder.
        rules: under which counting rules the costs are, for people.

    Returns:
        The names of the files.
    """
    lines = [f"# {markdown(title)}", "", f"Made by mapgym {__version__} with", "", markdown_code(command), ""]
    lines += [f"Costs are counted as {markdown(rules)}.", ""]
    for picture in pictures:
        lines += [f"![{Path(picture).stem}]({picture})", ""]
    names = [f"{name}_{index}.csv" for index in range(1, len(tables))] + [f"{name}.csv"]
    for table, file in zip(tables, names, strict=True):
        write_text(folder / file, table.to_csv())
    write_text(folder / f"{name}.md", "\n".join([*lines, *(table.to_markdown() for table in tables)]))
    return [f"{name}.md", *reversed(names), *pictures]
