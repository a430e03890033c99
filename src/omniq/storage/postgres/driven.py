"""A psycopg connection of somebody else, asked by the same code that asks asyncpg.

That code awaits a database. One whose coroutines never have to wait lets it run to its end at
once, without an event loop: `drive(questions.count_tasks(now))`.
"""

from __future__ import annotations

import re
from collections.abc import Coroutine, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from psycopg import Connection, Cursor
from psycopg.rows import tuple_row
from psycopg.types.string import TextLoader

T = TypeVar("T")

_PLACE = re.compile(r"\$(\d+)")


class Driven:
    """Statements with `$n` on an open psycopg connection, in the transaction that is open there."""

    def __init__(self, connection: Connection[Any]) -> None:
        # A cursor of its own kind: the connection's may give other rows and values.
        self._cursor = Cursor(connection, row_factory=tuple_row)
        for kind in ("json", "jsonb"):
            self._cursor.adapters.register_loader(kind, TextLoader)

    def run(self, sql: str) -> None:
        """A statement without values, or several."""
        self._cursor.execute(sql.encode())

    async def fetch(self, sql: str, *args: Any, again: bool = False) -> Sequence[Any]:
        """Rows of one statement."""
        values = {f"p{n}": value for n, value in enumerate(args, 1)}
        return self._cursor.execute(_named(sql), values).fetchall()

    async def fetchrow(self, sql: str, *args: Any) -> Any:
        """The first row, if there is one."""
        rows = await self.fetch(sql, *args)
        return rows[0] if rows else None

    async def fetchval(self, sql: str, *args: Any) -> Any:
        """The first field of the first row, if there is one."""
        row = await self.fetchrow(sql, *args)
        return None if row is None else row[0]


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run to its end a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        answer: T = end.value
        return answer
    coroutine.close()
    raise RuntimeError("a coroutine waited where nothing can be waited for")


@lru_cache(maxsize=500)
def _named(sql: str) -> bytes:
    """A statement as psycopg takes it: by names, since one value may stand in many places."""
    return _PLACE.sub(r"%(p\1)s", sql.replace("%", "%%")).encode()
