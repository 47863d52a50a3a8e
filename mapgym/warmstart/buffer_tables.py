"""The tables of the database of a replay buffer: whether they are ours, and what can be read of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.warmstart.buffer_contents import ACCELERATORS, ENTRIES, STRUCTURES, Contents, Damage, Definition, Row

VERSION = 2
_APPLICATION_ID = 0x6D617067
"""Tells ``file`` and us what this is: "mapg" in ASCII."""

_COLUMNS = {
    STRUCTURES: "key TEXT, definition TEXT",
    ACCELERATORS: "key TEXT, definition TEXT",
    ENTRIES: "structure TEXT, accelerator TEXT, objective TEXT, value REAL, name TEXT, bounds TEXT, mapping TEXT, "
    "checksum BLOB",
}
_SCHEMA = {table: f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, {columns})" for table, columns in _COLUMNS.items()}
_DEFINITIONS = (STRUCTURES, ACCELERATORS)
LONGEST_TEXT = 1 << 24
"""Bytes of a field or a row; nothing that is longer is read."""

_SMALLEST_ROW = 32
"""Bytes; fewer than any row takes, for how many rows a damaged file can have at most."""


@dataclass
class Found:
    """Rows of a file as they are: of each table the tuples (id, fields...).

    Attributes:
        rows: by table.
        damage: what SQLite says about the pages of the file, "" if they are sound.
    """

    rows: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)
    damage: str = ""

    def into(self, contents: Contents) -> None:
        """Takes in what is good and notes what is not."""
        if self.damage:
            why = f"is damaged ({self.damage}); what can be read is used"
            contents.damaged.append(Damage(0, why, ""))
        for table in _DEFINITIONS:
            for number, *fields in self.rows[table]:
                if why := contents.define(Definition(table, *fields)):
                    damage = Damage(number, why, _shown(fields), table)
                    # Definitions are read again with every addition.
                    if damage not in contents.damaged:
                        contents.damaged.append(damage)
        for number, structure, accelerator, objective, value, name, bounds, mapping, expected in self.rows[ENTRIES]:
            row = (structure, accelerator, objective, value, name, bounds, mapping)
            if why := contents.take(row, expected or b""):
                contents.damaged.append(Damage(number, why, _shown([*row, expected]), ENTRIES))
            contents.last_row = number, expected

    def good(self) -> tuple[list[Row], list[Definition]]:
        """What of it is not damaged."""
        contents = Contents()
        definitions = [
            definition
            for table in _DEFINITIONS
            for _, *fields in self.rows[table]
            if not contents.define(definition := Definition(table, *fields))
        ]
        rows = [Row(*row) for _, *row, expected in self.rows[ENTRIES] if not contents.take(Row(*row), expected or b"")]
        return rows, definitions


def examined(connection: sqlite3.Connection, path: Path) -> str | None:
    """How the pages of a database of ours are damaged, as far as opening it shows; "" if not at all.

    None, if it is no database, but may be an old file.

    Raises:
        SpecificationError: it is a database of something else, or of another version.
    """
    damage, query = "", "SELECT name, sql FROM sqlite_master"
    try:
        schema = connection.execute(query).fetchall()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
            return None
        damage = _of_pages(error)
        # SQLite refuses a file that is shorter than it should be unless it is told that one wants to mend it.
        connection.execute("PRAGMA writable_schema = ON")
        schema = connection.execute(query).fetchall()
    application, version = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
    )
    if not schema and not application and not version:
        return damage
    if application != _APPLICATION_ID:
        raise SpecificationError(
            f"{quoted(path)} is a database of something else; give the path of a replay buffer, or of a new file"
        )
    if version != VERSION:
        raise SpecificationError(
            f"{quoted(path)} is a replay buffer of version {version}, this is version {VERSION}; make a new one with "
            "the mapgym that is installed"
        )
    ours = {(table.encode(), sql.encode()) for table, sql in _SCHEMA.items()}
    if len(schema) != len(ours) or {*schema} != ours:
        raise SpecificationError(
            f"{quoted(path)} is a replay buffer whose tables were altered or damaged; use a copy of it, or make a new "
            "one"
        )
    return damage


def make_tables(connection: sqlite3.Connection) -> None:
    """Makes the tables of an empty database."""
    for sql in _SCHEMA.values():
        connection.execute(sql)
    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def insert(connection: sqlite3.Connection, rows: Iterable[Row], definitions: Iterable[Definition]) -> None:
    """Adds rows, and the definitions that are not there yet."""
    for table, key, text in definitions:
        fields = key.decode(), text.decode()
        # Looked for as a whole: one that is damaged does not count.
        query = f"SELECT 1 FROM {table} WHERE key = ? AND definition = ?"
        if not connection.execute(query, fields).fetchone():
            connection.execute(f"INSERT INTO {table} (key, definition) VALUES (?, ?)", fields)
    connection.executemany(
        f"INSERT INTO {ENTRIES} (structure, accelerator, objective, value, name, bounds, mapping, checksum) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        ((*(part.decode() if isinstance(part, bytes) else part for part in row), row.checksum()) for row in rows),
    )


def fetch(connection: sqlite3.Connection, path: Path, after: int = 0, damage: str = "") -> Found:
    """All definitions, and the entries after one; what can be read of them, if pages are damaged."""
    found = Found({table: [] for table in _SCHEMA}, damage)
    if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        return found
    if not after and not damage:
        try:
            (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            found.damage = "" if said == b"ok" else said.decode("utf-8", "replace").rpartition("*** ")[2].strip()
        except sqlite3.DatabaseError as error:
            found.damage = _of_pages(error)
    for table in _SCHEMA:
        first = after if table == ENTRIES else 0
        # Pages that lead to each other in circles could be read forever.
        if not found.damage:
            try:
                query = f"SELECT * FROM {table} WHERE id > ? ORDER BY id"
                found.rows[table] = connection.execute(query, (first,)).fetchall()
                continue
            except sqlite3.DatabaseError as error:
                found.damage = _of_pages(error)
        found.rows[table] = [*_one_by_one(connection, table, first, path.stat().st_size // _SMALLEST_ROW)]
    return found


def _one_by_one(connection: sqlite3.Connection, table: str, after: int, most: int) -> Iterator[tuple[Any, ...]]:
    """The rows of a table of which some pages are damaged."""
    try:
        last = connection.execute(f"SELECT max(id) FROM {table}").fetchone()[0] or 0
    except sqlite3.DatabaseError as error:
        _of_pages(error)
        last = most
    for number in range(after + 1, min(last, most) + 1):
        try:
            row = connection.execute(f"SELECT * FROM {table} WHERE id = ?", (number,)).fetchone()
        except sqlite3.DatabaseError as error:
            _of_pages(error)
            continue
        if row is not None:
            yield row


def _of_pages(error: sqlite3.DatabaseError) -> str:
    """What an error says about damaged pages; others are raised."""
    if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_TOOBIG):
        raise error
    return str(error)


def _shown(fields: Iterable[Any]) -> str:
    return "\t".join(f.decode("utf-8", "backslashreplace") if isinstance(f, bytes) else str(f) for f in fields)
