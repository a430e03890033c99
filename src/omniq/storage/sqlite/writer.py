"""Transactions of the writing connection, and the checkpoints between them.

Before 3.51.3 SQLite had a race ("WAL-reset bug") that could corrupt a database when one
connection reset the log while another one copied it back. Both sides of that race are shut
out here by SQLite's own locks: no connection of ours checkpoints by itself
(`wal_autocheckpoint=0`), and a checkpoint runs on a connection of its own *while the writing
one holds the write lock*, so no process can write, reset the log or checkpoint meanwhile.
(The last connection to close checkpoints under an exclusive lock, alone by definition.)
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from omniq.errors import StorageError
from omniq.storage.sqlite.connection import BUSY_TIMEOUT
from omniq.storage.sqlite.migrate import migrate

T = TypeVar("T")

# Pages (4 KiB) the log may grow by before it is copied back. SQLite's own 1000 would mean an
# fsync of log and database for every few hundred tasks.
CHECKPOINT_PAGES = 4000


class Writer:
    """What lives in the writing thread."""

    def __init__(
        self,
        path: Path,
        synchronous: str,
        make: Callable[[sqlite3.Connection, str], None] = migrate,
    ) -> None:
        self._path = path
        self._make = make
        self._synchronous = synchronous
        self._keeper: sqlite3.Connection | None = None
        self._counted = 0
        self._pages = 0
        self._version = 0

    def prepare(self, connection: sqlite3.Connection) -> None:
        """Set the connection up, and make the tables, or see that they are there."""
        _use_wal(connection)
        tune(connection, self._synchronous)
        self._make(connection, str(self._path))
        self._keeper = sqlite3.connect(
            self._path, timeout=0, isolation_level=None, check_same_thread=False
        )
        tune(self._keeper, "NORMAL")
        self._version = self.version(connection)

    def transaction(self, connection: sqlite3.Connection, work: Callable[..., T], *args: Any) -> T:
        """Run `work(cursor, *args)` in one transaction: all of it is kept, or nothing."""
        cursor = connection.cursor()
        cursor.execute("BEGIN IMMEDIATE")
        try:
            answer = work(cursor, *args)
            cursor.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                cursor.execute("ROLLBACK")
            raise
        changes = connection.total_changes
        self._pages += 8 + (changes - self._counted) // 8
        self._counted = changes
        if self._pages >= CHECKPOINT_PAGES:
            self._checkpoint(cursor)
        return answer

    def add_bytes(self, size: int) -> None:
        """Large values fill the log faster than the number of changes tells."""
        self._pages += size >> 12

    def _checkpoint(self, cursor: sqlite3.Cursor) -> None:
        assert self._keeper is not None
        # What was committed is safe in the log: a checkpoint that fails is tried again later.
        self._pages = 0
        with contextlib.suppress(sqlite3.OperationalError):
            cursor.execute("BEGIN IMMEDIATE")
            try:
                self._keeper.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            finally:
                cursor.execute("ROLLBACK")

    def version(self, connection: sqlite3.Connection) -> int:
        """A number that changes when any *other* connection commits."""
        return int(connection.execute("PRAGMA data_version").fetchone()[0])

    def others_wrote(self, connection: sqlite3.Connection) -> bool:
        """Whether another connection has committed since this was asked last."""
        before, self._version = self._version, self.version(connection)
        return before != self._version

    def close(self) -> None:
        """Close what was opened beside the connection."""
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None


def _use_wal(connection: sqlite3.Connection) -> None:
    """The one statement that does not wait for its turn by itself.

    The file keeps this mode, also for others that use it. That is on purpose where the tables
    live in a user's own database: without it a reader and a writer would shut each other out.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
            continue
        if mode != "wal":
            raise StorageError(f"SQLite cannot keep a write-ahead log here (journal mode {mode!r})")
        return


def tune(connection: sqlite3.Connection, synchronous: str) -> None:
    """What every connection to the file is set to."""
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("PRAGMA cache_size = -16000")
    connection.execute("PRAGMA temp_store = MEMORY")
    # Some builds overwrite what is deleted with zeros; a queue deletes at every step.
    connection.execute("PRAGMA secure_delete = OFF")
    connection.execute("PRAGMA journal_size_limit = 67108864")
