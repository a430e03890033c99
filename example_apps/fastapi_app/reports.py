"""The desk's own database: what was uploaded, which lines were read, and what came of it.

One SQLite file beside the queue's. What has been read and how far a file has been read are
written in one transaction, so a reading that was killed goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends

from omniq.ids import uuid7

from .dialect import Dialect, sniff
from .reading import Chunk, Line, Rejected
from .settings import SettingsDep
from .summary import Summary

TABLES = """
CREATE TABLE IF NOT EXISTS reports (
    id TEXT PRIMARY KEY, sha TEXT NOT NULL UNIQUE, name TEXT NOT NULL, mail_to TEXT NOT NULL,
    at REAL NOT NULL, size INTEGER NOT NULL, total INTEGER NOT NULL, dialect TEXT NOT NULL,
    upto INTEGER NOT NULL DEFAULT 0, rejected INTEGER NOT NULL DEFAULT 0,
    read_task TEXT, mail_task TEXT, stopped TEXT, summary TEXT, mailed TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS files (
    report TEXT PRIMARY KEY REFERENCES reports, content BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS lines (
    report TEXT NOT NULL REFERENCES reports, number INTEGER NOT NULL, day TEXT NOT NULL,
    cents INTEGER NOT NULL, category TEXT NOT NULL, label TEXT NOT NULL, place TEXT NOT NULL,
    PRIMARY KEY (report, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rejected (
    report TEXT NOT NULL REFERENCES reports, number INTEGER NOT NULL, why TEXT NOT NULL,
    text TEXT NOT NULL, PRIMARY KEY (report, number)
) STRICT, WITHOUT ROWID;
"""
SHOWN = (
    "id, sha, name, mail_to, at, size, total, dialect, upto, rejected, read_task, mail_task, "
    "stopped, summary, mailed"
)


@dataclass(frozen=True)
class Report:
    """One uploaded file. `total` and `upto` count its records, `stopped` says who ended it."""

    id: str
    sha: str
    name: str
    mail_to: str
    at: float
    size: int
    total: int
    dialect: Dialect
    upto: int
    rejected: int
    read_task: str | None
    mail_task: str | None
    stopped: str | None
    summary: Summary | None
    mailed: str | None


class Reports:
    """Everything that is asked of the database, over one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        connection.row_factory = sqlite3.Row

    @classmethod
    def connect(cls, database: Path) -> Reports:
        """Open the database; its tables are made if need be."""
        database.parent.mkdir(parents=True, exist_ok=True)
        # Routes use a connection from several threads, one after the other.
        connection = sqlite3.connect(
            database, timeout=20, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(TABLES)
        return cls(connection)

    def close(self) -> None:
        self._db.close()

    def accept(self, name: str, content: bytes, mail_to: str) -> Report:
        """Keep a file, or find the one that has the same bytes. Raises NotALedger."""
        sha = hashlib.sha256(content).hexdigest()
        known = self._one("sha = ?", sha)
        if known is not None:
            return known
        dialect = sniff(content)
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            new = uuid7()
            made = self._db.execute(
                "INSERT INTO reports (id, sha, name, mail_to, at, size, total, dialect)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (sha) DO NOTHING",
                (new, sha, name, mail_to, time.time(), len(content), _records(content), dialect.model_dump_json()),
            )  # fmt: skip
            if made.rowcount:
                self._db.execute("INSERT INTO files VALUES (?, ?)", (new, content))
        kept = self._one("sha = ?", sha)
        assert kept is not None
        return kept

    def get(self, report: str) -> Report | None:
        return self._one("id = ?", report)

    def newest(self, limit: int = 50) -> list[Report]:
        return self._many(f"SELECT {SHOWN} FROM reports ORDER BY id DESC LIMIT ?", limit)

    def unfinished(self) -> list[Report]:
        """Neither mailed nor stopped by somebody, the oldest first."""
        return self._many(
            f"SELECT {SHOWN} FROM reports WHERE mailed IS NULL AND stopped IS NULL ORDER BY id"
        )

    def started(self, report: Report, read_task: str, mail_task: str) -> bool:
        """Remember who works on it; False if somebody else has been remembered meanwhile."""
        changed = self._db.execute(
            "UPDATE reports SET read_task = ?, mail_task = ?, stopped = NULL"
            " WHERE id = ? AND read_task IS ?",
            (read_task, mail_task, report.id, report.read_task),
        )
        return changed.rowcount == 1

    def stop(self, report: str, why: str) -> None:
        self._set(report, stopped=why)

    def content(self, report: str) -> bytes:
        found = self._db.execute("SELECT content FROM files WHERE report = ?", (report,))
        return bytes(found.fetchone()[0])

    def add(self, report: str, chunk: Chunk) -> None:
        """Keep what was read, and that it was: both or neither."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "INSERT OR REPLACE INTO lines VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(report, e.number, e.day, e.cents, e.category, e.label, e.place) for e in chunk.lines],
            )  # fmt: skip
            self._db.executemany(
                "INSERT OR REPLACE INTO rejected VALUES (?, ?, ?, ?)",
                [(report, each.number, each.why, each.text) for each in chunk.rejected],
            )
            self._db.execute(
                "UPDATE reports SET upto = ?, rejected = rejected + ? WHERE id = ? AND upto < ?",
                (chunk.upto, len(chunk.rejected), report, chunk.upto),
            )

    def lines(self, report: str) -> Iterator[Line]:
        found = self._db.execute(
            "SELECT number, day, cents, category, label, place FROM lines WHERE report = ?",
            (report,),
        )
        return (Line(*row) for row in found)

    def rejected(self, report: str, limit: int = 200) -> list[Rejected]:
        found = self._db.execute(
            "SELECT number, why, text FROM rejected WHERE report = ? ORDER BY number LIMIT ?",
            (report, limit),
        )
        return [Rejected(*row) for row in found]

    def summed(self, report: str, summary: Summary) -> None:
        self._set(report, summary=summary.model_dump_json())

    def mailed(self, report: str, name: str) -> None:
        self._set(report, mailed=name)

    def _set(self, report: str, **values: Any) -> None:
        names = ", ".join(f"{name} = ?" for name in values)
        self._db.execute(f"UPDATE reports SET {names} WHERE id = ?", (*values.values(), report))

    def _one(self, where: str, value: str) -> Report | None:
        found = self._many(f"SELECT {SHOWN} FROM reports WHERE {where}", value)
        return found[0] if found else None

    def _many(self, query: str, *values: Any) -> list[Report]:
        return [_report(row) for row in self._db.execute(query, values)]


def _report(row: sqlite3.Row) -> Report:
    values = dict(row)
    values["dialect"] = Dialect.model_validate_json(values["dialect"])
    if values["summary"] is not None:
        values["summary"] = Summary.model_validate_json(values["summary"])
    return Report(**values)


def _records(content: bytes) -> int:
    """About how many records there are: what the progress bar ends at."""
    return content.count(b"\n") + (not content.endswith(b"\n"))


def open_reports(settings: SettingsDep) -> Iterator[Reports]:
    """A connection for one request or one task, closed behind it."""
    with closing(Reports.connect(settings.database)) as reports:
        yield reports


ReportsDep = Annotated[Reports, Depends(open_reports)]
