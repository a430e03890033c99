"""SQLite inside a transaction of somebody else: the port's methods over their open connection.

Nothing is begun or committed here, and the connection keeps all it was set to. What becomes
visible to others does so when its owner commits; workers, of this process too, notice that by
`data_version` as they notice the commits of other processes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from omniq.clock import SYSTEM_CLOCK, Clock
from omniq.errors import OmniQError, SchemaError, StorageUnavailable
from omniq.models.filters import (
    Batch,
    Claim,
    EventFilter,
    EventPage,
    Held,
    HeldTask,
    Page,
    QueueCount,
    TaskFilter,
)
from omniq.models.row import Doc, Ms, ResultRow, TaskRow
from omniq.models.units import Receipt, Unit
from omniq.storage.base import Capabilities
from omniq.storage.sqlite import reads
from omniq.storage.sqlite.apply import apply_units
from omniq.storage.sqlite.claim import claim_tasks, extend_lease
from omniq.storage.sqlite.connection import explain
from omniq.storage.sqlite.edges import UNIT_ROWS
from omniq.storage.sqlite.migrate import NEWEST, missing
from omniq.storage.sqlite.sweep import sweep_once

T = TypeVar("T")

REMEDY = "open an AsyncSQLiteStorage on that file once (in Django: run `manage.py migrate`)"
_LEGACY = -1  # sqlite3.LEGACY_TRANSACTION_CONTROL, from Python 3.12 on


class ForeignConnection:
    """Tasks, results and events in the SQLite database of an open connection.

    It is used in the thread that calls, and so must the connection be. Each call that writes
    is a savepoint: it is in the caller's transaction as a whole or not at all. Where no
    transaction is open, it is one by itself, except that a connection of which `sqlite3`
    begins transactions implicitly (its default) has one begun, as by any other INSERT.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        clock: Clock = SYSTEM_CLOCK,
        remedy: str = REMEDY,
    ) -> None:
        self.clock = clock
        self._connection = connection
        self._remedy = remedy

    @property
    def capabilities(self) -> Capabilities:
        """As those of the file; a database in memory ends with its connection."""
        file = bool(self._file())
        return Capabilities(
            push=False,
            multiprocess=file,
            local=True,
            durability="process" if file else "none",
            overlaps=False,
            unit_rows=UNIT_ROWS,
        )

    def describe(self) -> str:
        """Where this is, in words for people."""
        return f"SQLite {self._file() or 'in memory'}, in the caller's transactions"

    def tables_version(self) -> int:
        """The version of OmniQ's tables there; 0: there are none."""
        with self._reading() as cursor:
            sql = "SELECT 1 FROM sqlite_schema WHERE name = 'omniq_schema'"
            return _version(cursor) if cursor.execute(sql).fetchone() else 0

    def missing(self, upto: int = NEWEST) -> list[str]:
        """The statements that bring OmniQ's tables here up to a version."""
        with self._reading():
            return missing(self._connection, f"SQLite at {self._file() or 'memory'}", upto)

    def file(self) -> str | None:
        """The file it is open on; None: a database in memory."""
        return self._file() or None

    def apply(self, units: Sequence[Unit]) -> Receipt:
        """Apply units in order; all that are not refused, or after an error none."""
        return self._write(apply_units, units, self.clock.now())

    def claim(self, claim: Claim) -> Batch:
        """Hand out work, and chores."""
        return self._write(claim_tasks, claim, self.clock.now())

    def extend(self, owner: str, lease: Ms, held: Sequence[HeldTask]) -> Held:
        """Renew an owner's lease, write the progress of its tasks, say what changed."""
        return self._write(extend_lease, owner, lease, held, self.clock.now())

    def sweep(self, limit: int = 1000) -> int:
        """Remove what is past its stamp and go on with unfinished releases; how many rows."""
        return self._write(sweep_once, limit, self.clock.now())

    def get_tasks(self, ids: Sequence[str]) -> list[TaskRow]:
        """The rows that exist, in the order asked for."""
        return self._read(reads.get_tasks, ids, self.clock.now())

    def get_results(self, ids: Sequence[str]) -> list[ResultRow]:
        """The results that exist, in the order asked for."""
        return self._read(reads.get_results, ids, self.clock.now())

    def find_tasks(
        self, filter: TaskFilter, *, limit: int = 100, cursor: str | None = None
    ) -> Page:
        """A page of rows without cold fields but `preview`."""
        return self._read(reads.find_tasks, filter, limit, cursor, self.clock.now())

    def count_tasks(self) -> list[QueueCount]:
        """Rows by queue and status."""
        return self._read(reads.count_tasks, self.clock.now())

    def get_docs(
        self,
        kind: str,
        *,
        prefix: str = "",
        after: str = "",
        due_before: Ms | None = None,
        limit: int = 1000,
    ) -> list[Doc]:
        """Live docs of a kind by key."""
        now = self.clock.now()
        return self._read(reads.get_docs, kind, prefix, after, due_before, limit, now)

    def read_events(
        self, filter: EventFilter, *, after: str | None = None, limit: int = 100
    ) -> EventPage:
        """Events in the order they were stored, those behind the cursor `after`."""
        return self._read(reads.read_events, filter, after, limit, self.clock.now())

    # ---- the caller's connection

    def _read(self, question: Callable[..., T], *args: Any) -> T:
        with self._reading() as cursor:
            self._check(cursor)
            return question(cursor, *args)

    def _write(self, work: Callable[..., T], *args: Any) -> T:
        connection = self._connection
        with self._reading() as cursor:
            alone = not connection.in_transaction
            if alone and _implicit(connection):
                cursor.execute(f"BEGIN {connection.isolation_level}")
            try:
                cursor.execute("SAVEPOINT omniq")
                # Changes nothing, but takes its turn at writing. A transaction that begins
                # with a read could only be told "busy" once somebody else has written.
                cursor.execute("UPDATE omniq_schema SET version = version WHERE 0")
                self._check(cursor)
                answer = work(cursor, *args)
                cursor.execute("RELEASE omniq")
            except BaseException:
                if alone and connection.in_transaction:
                    cursor.execute("ROLLBACK")
                elif connection.in_transaction:  # some errors end the whole transaction
                    cursor.execute("ROLLBACK TO omniq")
                    cursor.execute("RELEASE omniq")
                raise
            return answer

    def _check(self, cursor: sqlite3.Cursor) -> None:
        have = _version(cursor)
        if have > NEWEST:
            raise SchemaError(
                f"the database has OmniQ's tables of version {have}, this OmniQ knows {NEWEST}: it was "
                "last migrated by a newer OmniQ; update this one"
            )
        if have < NEWEST:
            raise SchemaError(
                f"the database has OmniQ's tables of version {have}, this OmniQ needs {NEWEST}: {self._remedy}"
            )

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Cursor]:
        """A cursor that gives plain rows and text, whatever the connection's own would."""
        connection = self._connection
        cursor = sqlite3.Cursor(connection)
        theirs = connection.text_factory
        connection.text_factory = str
        try:
            yield cursor
        except sqlite3.Error as error:
            raise self._explain(error) from error
        finally:
            connection.text_factory = theirs
            cursor.close()

    def _explain(self, error: sqlite3.Error) -> OmniQError:
        where = self._file() or "memory"
        name = getattr(error, "sqlite_errorname", None) or ""
        if "no such table: omniq_" in str(error):
            return SchemaError(f"SQLite at {where} has no tables of OmniQ: {self._remedy}")
        if name.startswith("SQLITE_BUSY"):
            return StorageUnavailable(f"SQLite at {where}: {self._busy(name)} ({error})")
        return explain(error, Path(where))

    def _busy(self, name: str) -> str:
        long = "another connection has been writing for longer than this one waits (its `timeout`)"
        if not self._connection.in_transaction:
            return f"{long}: try again"
        # SQLite does not wait where it would be in vain: what was read is out of date by then.
        early = (
            "this transaction has only read so far, and another connection has written since or "
            "is writing, so it cannot write any more. Roll back and try again, or begin such "
            "transactions with BEGIN IMMEDIATE (in Django: 'OPTIONS': {'transaction_mode': "
            "'IMMEDIATE'})"
        )
        return early if name == "SQLITE_BUSY_SNAPSHOT" else f"{long}; or {early}"

    def _file(self) -> str:
        """The main database's file; "" if it has none."""
        try:
            rows = sqlite3.Cursor(self._connection).execute("PRAGMA database_list").fetchall()
        except sqlite3.Error:
            return ""
        return next((_text(file) for _, name, file in rows if _text(name) == "main"), "")


def _version(cursor: sqlite3.Cursor) -> int:
    (have,) = cursor.execute("SELECT coalesce(max(version), 0) FROM omniq_schema").fetchone()
    return int(have)


def _implicit(connection: sqlite3.Connection) -> bool:
    """Whether Python's sqlite3 itself would begin a transaction before an INSERT."""
    control = getattr(connection, "autocommit", _LEGACY)
    return control == _LEGACY and connection.isolation_level is not None


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode()
