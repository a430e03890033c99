"""Migrations: numbered .sql files, applied once each and counted in `user_version`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from importlib.resources import files

from omniq.errors import SchemaError


def steps() -> list[tuple[int, str]]:
    """Number and text of every migration, in order."""
    folder = files(__package__).joinpath("migrations")
    found = [(int(f.name[:4]), f.read_text()) for f in folder.iterdir() if f.name.endswith(".sql")]
    return sorted(found)


def migrate(connection: sqlite3.Connection, where: str) -> None:
    """Bring the tables up to date; several processes may do so at once."""
    wanted = steps()[-1][0]
    if _version(connection, where, wanted) == wanted:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        have = _version(connection, where, wanted)  # another process may have been quicker
        for number, text in steps():
            if number > have:
                for statement in _statements(text):
                    connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {wanted}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection, where: str, wanted: int) -> int:
    (have,) = connection.execute("PRAGMA user_version").fetchone()
    if have > wanted:
        raise SchemaError(
            f"{where} has tables of version {have}, this OmniQ knows {wanted}: it was last used "
            "by a newer OmniQ; update this one, or give it a database of its own"
        )
    if have == 0 and connection.execute("SELECT 1 FROM sqlite_schema").fetchone():
        raise SchemaError(f"{where} is a database of something else; give OmniQ a file of its own")
    return int(have)


def _statements(text: str) -> Iterator[str]:
    """`executescript` would commit first; a migration is one transaction."""
    statement = ""
    for line in text.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
