"""Reading the files by DuckDB. Nothing of a caller becomes part of a statement's text."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import duckdb
import msgspec

from omniq.errors import StorageError
from omniq.models.event import TaskEvent
from omniq.models.filters import EventFilter
from omniq.models.row import Ms
from omniq.models.status import EventType

COLUMNS: Final = {
    "no": "BIGINT",
    "task": "VARCHAR",
    "epoch": "BIGINT",
    "n": "BIGINT",
    "at": "BIGINT",
    "type": "VARCHAR",
    "queue": "VARCHAR",
    "name": "VARCHAR",
    "worker": "VARCHAR",
    "data": "JSON",
    "keep_until": "BIGINT",
}
_MEMORY: Final = "256MB"
# Lines that are cut off or damaged become rows of nothing.
_LINES: Final = (
    "read_json(?, columns = {"
    + ", ".join(f"'{name}': '{kind}'" for name, kind in COLUMNS.items())
    + "}, format = 'newline_delimited', ignore_errors = true)"
)
_PAGE: Final = (
    'SELECT no, task, epoch, n, "at", type, queue, name, worker, data, keep_until '
    f"FROM {_LINES} WHERE no > ? AND no <= ? AND (keep_until IS NULL OR keep_until > ?)"
)
_PATHS: Final = "getvariable('omniq_paths')"
_SHOWN: Final = (
    'no, epoch_ms("at") AS time, task, epoch, n, type, queue, name, worker, data, keep_until'
)
_VIEW: Final = (
    f"CREATE TEMP VIEW events AS SELECT {_SHOWN} "
    f"FROM {_LINES.replace('?', _PATHS)} WHERE no IS NOT NULL "
    "AND (keep_until IS NULL OR keep_until > getvariable('omniq_now'))"
)
_NO_VIEW: Final = (
    f"CREATE TEMP VIEW events AS SELECT {_SHOWN} FROM (SELECT "
    + ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in COLUMNS.items())
    + ") WHERE false"
)
_WHERE: Final = (
    ("task", "task = ?"),
    ("types", "list_contains(?, type)"),
    ("queues", "list_contains(?, queue)"),
    ("names", "list_contains(?, name)"),
    ("at_from", '"at" >= ?'),
)
_TYPES: Final = tuple(EventType)


class Duck:
    """A DuckDB in memory that may read one folder and nothing else. Methods block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._pid = 0

    def page(
        self, path: Path, filter: EventFilter, *, after: int, to: int, limit: int, now: Ms
    ) -> list[tuple[int, TaskEvent]]:
        """Events of one file numbered from behind `after` to `to`, with their numbers."""
        text, values = _PAGE, [[str(path)], after, to, now]
        for name, condition in _WHERE:
            wanted = getattr(filter, name)
            if name == "types":  # what a newer version tells of, this one does not know
                wanted = wanted or _TYPES
            if wanted is not None and wanted != ():
                text += f" AND {condition}"
                values.append([str(each) for each in wanted] if name in _LISTS else wanted)
        text += f" ORDER BY no {'DESC' if filter.newest_first else 'ASC'} LIMIT ?"
        with self._cursor() as cursor:
            try:
                rows = cursor.execute(text, [*values, limit]).fetchall()
            except duckdb.Error as error:
                raise StorageError(f"events in {self._folder} cannot be read: {error}") from None
        return [(row[0], _event(row)) for row in rows]

    def query(
        self, paths: Sequence[Path], sql: str, values: Sequence[Any], now: Ms
    ) -> list[dict[str, Any]]:
        """The rows one SELECT gives over the view `events`."""
        with self._cursor() as cursor:
            try:
                statements = cursor.extract_statements(sql)
                kinds = [statement.type for statement in statements]
                if kinds != [duckdb.StatementType.SELECT]:
                    raise StorageError(
                        "events are queried by one SELECT statement, not by "
                        + (" and ".join(kind.name for kind in kinds) or "nothing")
                    )
                self._view(cursor, paths, now)
                answer = cursor.execute(statements[0], values or None)
                names = [column[0] for column in answer.description or ()]
                return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]
            except duckdb.Error as error:
                raise StorageError(f"the query failed: {error}") from None

    def close(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None and self._pid == os.getpid():
                connection.close()

    def _view(self, cursor: duckdb.DuckDBPyConnection, paths: Sequence[Path], now: Ms) -> None:
        # A temporary view belongs to this cursor alone, and its variables do.
        cursor.execute("SET VARIABLE omniq_now = ?", [now])
        cursor.execute("SET VARIABLE omniq_paths = ?", [[str(path) for path in paths]])
        cursor.execute(_VIEW if paths else _NO_VIEW)

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        with self._lock:
            connection = self._connection
            if connection is None or self._pid != os.getpid():
                connection = self._connection = duckdb.connect(":memory:")
                self._pid = os.getpid()
                connection.execute("SET memory_limit = ?", [_MEMORY])
                connection.execute("SET threads = 2")
                connection.execute("SET allowed_directories = ?", [[str(self._folder)]])
                connection.execute("SET enable_external_access = false")
                connection.execute("SET lock_configuration = true")
            return connection.cursor()


_LISTS: Final = ("types", "queues", "names")


def _event(row: tuple[Any, ...]) -> TaskEvent:
    _, task, epoch, n, at, type, queue, name, worker, data, keep_until = row
    return TaskEvent(
        task=task,
        epoch=epoch,
        n=n,
        at=at,
        type=EventType(type),
        queue=queue or "",
        name=name or "",
        worker=worker or "",
        data=msgspec.json.decode(data) if data else {},
        keep_until=keep_until,
    )
