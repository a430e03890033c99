"""SQLite in a file of somebody else's, who makes the file and the tables."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Literal, Self

from omniq.clock import SYSTEM_CLOCK, Clock
from omniq.errors import StorageError
from omniq.storage.durability import Durability
from omniq.storage.sqlite.migrate import expect
from omniq.storage.sqlite.place import check_access, check_filesystem
from omniq.storage.sqlite.storage import AsyncSQLiteStorage


class GuestSQLiteStorage(AsyncSQLiteStorage):
    """As its base, but it makes neither file nor tables: `remedy` says how they are made.

    The file is switched to a write-ahead log, and stays so, as every OmniQ storage needs.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        remedy: str,
        clock: Clock = SYSTEM_CLOCK,
        durability: Durability = "normal",
        synchronous: Literal["NORMAL", "FULL"] | None = None,
    ) -> None:
        super().__init__(path, clock=clock, durability=durability, synchronous=synchronous)
        self._remedy = remedy

    def twin(self) -> Self:
        return type(self)(
            self.path,
            remedy=self._remedy,
            clock=self.clock,
            durability=self._durability,
            synchronous=self._synchronous,
        )

    def _prepare(self) -> None:
        if not self.path.exists():
            raise StorageError(f"there is no database at {self.path}: {self._remedy}")
        check_filesystem(self.path)
        check_access(self.path)

    def _make_tables(self, connection: sqlite3.Connection, where: str) -> None:
        expect(connection, where, self._remedy)
