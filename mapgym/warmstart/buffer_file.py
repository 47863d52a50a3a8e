"""The file of a replay buffer: an SQLite database that only ever grows, and is whole whenever nobody writes to it.

- It is open only while it is read or added to, each addition is one transaction, and the journal is a rollback journal:
  a write-ahead log would need shared memory, which network file systems lack, would leave what was added in a second
  file, and pays for connections that stay open only.
- An addition first reads what others have added, so that memory and file agree; see :func:`append`.
- Nothing in it is executed: a schema other than ours is refused, and SQLite distrusts it (``trusted_schema``).
- SQLite notices damage of pages; damage of fields is noticed by the checksum of each row.
- ``MAPGYM_NO_LOCKS=1`` in the environment does without file locks, for file systems that have none; then only one
  process may use a buffer at a time.

An older file (:mod:`mapgym.warmstart.buffer_text`) is read as it is; the first addition makes a database of it.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.system.files import flush
from mapgym.system.locks import without_locks
from mapgym.warmstart import buffer_text
from mapgym.warmstart.buffer_answers import SLICE_SECONDS, DamagedError, answered, locking, patiently, refuse_link
from mapgym.warmstart.buffer_contents import ENTRIES, Contents, Definition, Row
from mapgym.warmstart.buffer_tables import LONGEST_TEXT, Found, examined, fetch, insert, make_tables


def read(path: Path) -> Contents:
    """Reads a buffer.

    Raises:
        SpecificationError: it is no buffer, is of another version, or cannot be read.
    """
    _require_file(path)
    with answered(path, "read"):
        found = patiently(path, lambda: _read(path))
        if found is None:
            return buffer_text.parse(path.read_bytes(), path).contents
    contents = Contents()
    found.into(contents)
    return contents


def append(path: Path, known: Contents, rows: list[Row], definitions: Iterable[Definition]) -> Contents:
    """Adds rows in one transaction.

    Args:
        path: the file, which is made if it is not there.
        known: what has been read from it; takes in what others have added since, then the rows.
        rows: of the new entries.
        definitions: what they refer to.

    Returns:
        ``known``; or, if the file is not any more the one from which it was read, the contents of the one that is
        there, rows included.

    Raises:
        SpecificationError: they could not be added; file and memory are as before.
    """
    definitions = [*definitions]
    with answered(path, "write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        is_whole = all(damage.line for damage in known.damaged)
        last_row = known.last_row if is_whole else None
        is_new, found = patiently(path, lambda: _append(path, last_row, rows, definitions))
    contents = Contents() if is_new else known
    found.into(contents)
    return contents


def repair(path: Path) -> Path | None:
    """Moves what is damaged aside, as the file is now, whoever else has repaired it.

    Returns:
        The file that has it now: rows, as lines of JSON, or the lines of an old text file, or the whole damaged
        database if its pages are damaged, of which what can be read is then in a new one. None if nothing is damaged.
    """
    _require_file(path)
    with answered(path, "repair"):
        aside = patiently(path, lambda: _upgrade(path))
        return patiently(path, lambda: _repair(path)) or aside


def _read(path: Path) -> Found | None:
    """What a database has; None if it is none."""
    with _opened(path) as connection:
        damage = examined(connection, path)
        if damage is None:
            return None
        connection.execute("BEGIN")
        return fetch(connection, path, damage=damage)


def _append(
    path: Path, last_row: tuple[int, bytes] | None, rows: list[Row], definitions: list[Definition]
) -> tuple[bool, Found]:
    """Whether the file is another one than that of the last row, and what it has beyond that row."""
    while True:
        with _made(path) as identity, _writing(path, identity) as opened:
            if opened is None:
                continue
            connection, damage = opened
            if not damage and not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                make_tables(connection)
            number, checksum = last_row or (0, b"")
            query = f"SELECT checksum FROM {ENTRIES} WHERE id = ?"
            is_new = last_row is None or connection.execute(query, (number,)).fetchone() != (checksum,)
            if not damage:
                insert(connection, rows, definitions)
            found = fetch(connection, path, 0 if is_new else number, damage)
            if found.damage:
                # What is written there may destroy what could still be read.
                raise DamagedError(found.damage)
            connection.execute("COMMIT")
        # Removed or replaced in the meantime, it would have taken the rows with it.
        if _identity(path) == identity:
            return is_new, found


def _upgrade(path: Path) -> Path | None:
    """Makes a database of an old file; returns where its damaged lines are."""
    refuse_link(path)
    identity = _identity(path)
    with _opened(path) as connection:
        return _convert(path, identity) if examined(connection, path) is None else None


def _repair(path: Path) -> Path | None:
    while True:
        identity = _identity(path)
        with _writing(path, identity) as opened:
            if opened is None:
                continue
            connection, damage = opened
            found, contents = fetch(connection, path, damage=damage), Contents()
            found.into(contents)
            if found.damage:
                return _rebuild(path, found)
            if not contents.damaged:
                return None
            aside = _set_aside(path, [json.dumps(vars(damage)).encode() for damage in contents.damaged])
            for one in contents.damaged:
                connection.execute(f"DELETE FROM {one.table} WHERE id = ?", (one.line,))
            connection.execute("COMMIT")
            return aside


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection, closed and rolled back in the end."""
    # Journals of killed writers are rolled back by readers, too.
    address = f"{path.absolute().as_uri()}?mode=rw{'&nolock=1' if without_locks() else ''}"
    with closing(sqlite3.connect(address, uri=True, timeout=SLICE_SECONDS, isolation_level=None)) as connection:
        # Text that is damaged may be no text.
        connection.text_factory = bytes
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_TEXT)
        for setting in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0", "temp_store = MEMORY"):
            connection.execute(f"PRAGMA {setting}")
        yield connection


@contextmanager
def _writing(path: Path, identity: tuple[int, int] | None) -> Iterator[tuple[sqlite3.Connection, str] | None]:
    """A connection in a transaction that writes, and how the pages of the file are damaged, as far as is known yet.

    None, if the path by now leads to another file than that of the identity; an old file is made such another one.
    """
    refuse_link(path)
    with _opened(path) as connection:
        damage = examined(connection, path)
        if damage is None:
            _convert(path, identity)
            yield None
            return
        if not damage:
            for setting in ("journal_mode = DELETE", "synchronous = EXTRA"):
                connection.execute(f"PRAGMA {setting}")
        connection.execute("BEGIN IMMEDIATE")
        # Whoever repairs a file replaces it: the lock of a file that is gone says nothing.
        yield (connection, damage) if _identity(path) == identity else None


@contextmanager
def _made(path: Path) -> Iterator[tuple[int, int] | None]:
    """Makes a file if there is none; it is removed again if the block ends with an error and it has no content."""
    refuse_link(path)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666))
    except FileExistsError:
        _require_file(path)
        yield _identity(path)
        return
    identity = _identity(path)
    try:
        yield identity
    except BaseException:
        if _identity(path) == identity and not path.stat().st_size:
            path.unlink()
        raise


def _identity(path: Path) -> tuple[int, int] | None:
    with suppress(FileNotFoundError):
        status = path.stat()
        return status.st_dev, status.st_ino
    return None


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise SpecificationError(f"{quoted(path)} is a folder; give the path of a replay buffer, or of a new file")
    if path.exists() and not path.is_file():
        raise SpecificationError(f"{quoted(path)} is not a file; give the path of a replay buffer, or of a new file")


def _convert(path: Path, identity: tuple[int, int] | None) -> Path | None:
    """Makes a database of an old file, unless it is another one by now; returns where its damaged lines are."""
    with locking(path):
        if _identity(path) != identity:
            return None
        text = buffer_text.parse(path.read_bytes(), path)
        aside = _set_aside(path, text.damaged_lines) if text.damaged_lines else None
        _replace(path, path.stat().st_mode, text.rows, text.definitions)
        return aside


def _rebuild(path: Path, found: Found) -> Path:
    """Replaces a database whose pages are damaged by one with what could be read; returns where the old one is."""
    mode, number = path.stat().st_mode, 0
    aside = path.with_name(f"{path.name}.corrupt")
    while os.path.lexists(aside):
        number += 1
        aside = path.with_name(f"{path.name}.corrupt{number}")
    try:
        os.link(path, aside)
    except OSError:
        # Some file systems have no second names. Nothing is lost if the process is killed now.
        path.rename(aside)
    _replace(path, mode, *found.good())
    return aside


def _replace(path: Path, mode: int, rows: Iterable[Row], definitions: Iterable[Definition]) -> None:
    """Puts a new database, with the same permissions, in the place of a file that is locked."""
    # Whoever holds the lock is the only one to use this name; what is left of a killed one is removed.
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    try:
        address = f"{new.absolute().as_uri()}?nolock=1"
        with closing(sqlite3.connect(address, uri=True, isolation_level=None)) as connection:
            for setting in ("journal_mode = OFF", "synchronous = OFF"):
                connection.execute(f"PRAGMA {setting}")
            connection.execute("BEGIN")
            make_tables(connection)
            insert(connection, rows, definitions)
            connection.execute("COMMIT")
        new.chmod(mode)
        flush(new)
        new.replace(path)
        with suppress(OSError):
            # Some file systems cannot flush folders.
            flush(path.parent, os.O_RDONLY)
    finally:
        new.unlink(missing_ok=True)


def _set_aside(path: Path, lines: list[bytes]) -> Path:
    """Appends lines to the file beside a buffer that keeps what was damaged."""
    aside = path.with_name(path.name + ".damaged")
    if aside.is_symlink():
        raise SpecificationError(f"cannot write {quoted(aside)}, which is a link; remove it")
    with aside.open("ab") as file:
        file.writelines(line + b"\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())
    return aside
