"""Migrations: numbered .sql files, each applied once and counted in `omniq_schema`.

The tables may share a file with somebody else's, so nothing here looks at what is not ours.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from importlib.resources import files
from pathlib import Path

from omniq.errors import SchemaError

FIRST_TABLES = frozenset({"task", "result", "event", "doc", "edge", "uniq", "owner"})
"""What the tables were called before they could share a file, in no version ever released."""


_TABLE = re.compile(r"^CREATE TABLE (omniq_\w+)", re.MULTILINE)


def steps() -> list[tuple[int, str]]:
    """Number and text of every migration, in order."""
    folder = files(__package__).joinpath("migrations")
    found = [(int(f.name[:4]), f.read_text()) for f in folder.iterdir() if f.name.endswith(".sql")]
    return sorted(found)


NEWEST = steps()[-1][0]
"""The version of the tables this OmniQ works with."""


def migrate(connection: sqlite3.Connection, where: str) -> None:
    """Bring the tables up to date; several processes may do so at once."""
    if version(connection, where) == NEWEST:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in missing(connection, where):  # another process may have been quicker
            connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def missing(connection: sqlite3.Connection, where: str, upto: int = NEWEST) -> list[str]:
    """The statements that would bring the tables up to date, or up to version `upto`."""
    return script(version(connection, where), upto)


def script(have: int = 0, upto: int = NEWEST) -> list[str]:
    """The statements that lead from one version to another."""
    return [s for number, text in steps() if have < number <= upto for s in statements(text)]


def tables() -> list[str]:
    """The names of all tables, that of the version among them."""
    return [name for _, text in steps() for name in _TABLE.findall(text)]


def drop() -> list[str]:
    """The statements that remove the tables with all that is in them."""
    return [f"DROP TABLE IF EXISTS {name}" for name in tables()]


def empty() -> list[str]:
    """The statements that remove what is in the tables."""
    return [f"DELETE FROM {name}" for name in tables() if name != "omniq_schema"]


def expect(connection: sqlite3.Connection, where: str, remedy: str) -> None:
    """Raise SchemaError, with the way out, if the tables are not those this OmniQ needs."""
    have = version(connection, where)
    if have < NEWEST:
        what = f"tables of version {have}, this OmniQ needs {NEWEST}" if have else "no tables"
        raise SchemaError(f"{where} has {what} of OmniQ: {remedy}")


def version(connection: sqlite3.Connection, where: str) -> int:
    """The version of the tables there; 0: none. Raises SchemaError if they are not for us."""
    cursor = sqlite3.Cursor(connection)  # not the connection's own, which may make other rows
    names = {name for (name,) in cursor.execute("SELECT name FROM sqlite_schema")}
    if "omniq_schema" in names:
        (have,) = cursor.execute("SELECT coalesce(max(version), 0) FROM omniq_schema").fetchone()
        if have > NEWEST:
            raise SchemaError(
                f"{where} has OmniQ's tables of version {have}, this OmniQ knows {NEWEST}: it was "
                "last used by a newer OmniQ; update this one, or give it a database of its own"
            )
        return int(have)
    (number,) = cursor.execute("PRAGMA user_version").fetchone()
    if number == 1 and names >= FIRST_TABLES:
        raise SchemaError(
            f"{where} was made by an OmniQ from before its first release, whose tables had other "
            "names: finish its tasks with that one, then remove the file, or name another"
        )
    return 0


def made(path: Path) -> bool:
    """Whether a file has OmniQ's tables. Also True where it cannot be told: opening it tells why."""
    if not path.exists():
        return False
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as there:
            return version(there, str(path)) > 0
    except (sqlite3.Error, SchemaError):
        return True


def statements(text: str) -> Iterator[str]:
    """One by one: `executescript` would commit first, and a migration is one transaction."""
    statement = ""
    for line in text.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
