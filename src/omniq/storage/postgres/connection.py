"""Calls to one database, and what the errors of asyncpg mean."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

import asyncpg

from omniq.errors import (
    ConfigError,
    OmniQError,
    SchemaError,
    StorageClosed,
    StorageError,
    StorageUnavailable,
)
from omniq.storage.postgres.options import SETTING, Options, secrets_of
from omniq.storage.postgres.pool import Connection, Pool

T = TypeVar("T")

Record = asyncpg.Record

CONNECT_TIMEOUT: Final = 10.0
LEAVING: Final = 5.0
"""Seconds in which calls that are under way may end before the storage closes."""
TRIES: Final = 8
"""How often a call that met a deadlock is sent again."""
_CROSSED: Final = frozenset({"40P01", "40001"})
"""Two transactions crossed each other, and this one was undone as a whole."""

MISSING: Final = frozenset({"42P01", "42883", "3F000", "42703"})
"""No such table, function, schema or column."""

# By SQLSTATE, or its class. https://www.postgresql.org/docs/current/errcodes-appendix.html
_LATER: Final = {
    "08": "the connection was lost",
    "57P01": "the server was shut down",
    "57P02": "the server crashed and recovers",
    "57P03": "the server is starting up or shutting down",
    "57014": "the call took too long and was cancelled",
    "53100": "its disk is full; make room, nothing acknowledged is lost",
    "53200": "it is out of memory",
    "53300": "it takes no more connections; raise its max_connections or lower pool_max",
    "53": "it is out of resources",
    "58": "its system failed",
    "25006": "it takes no writes (a standby?); name the primary, or add "
    "target_session_attrs=read-write to storage_url",
    "25P": "the connection was reset",
    "40": "transactions kept crossing each other",
    "55P03": "a lock was not to be had in time",
}
_CONFIG: Final = {
    "28": "it refused user or password",
    "3D": "the database does not exist; create it",
    "42704": "it does not know a parameter of the URL",
    "0A": "it cannot do what is asked (a connection pooler?); try pgbouncer=true",
}


class Database:
    """Connections to one database. It belongs to the loop and process that opened it."""

    def __init__(
        self, url: str, place: str, options: Options, *, setting: str = SETTING, role: str = ""
    ) -> None:
        self._setting = setting
        self._role = role
        self._url = url
        self._place = place
        self._options = options
        self._pool: Pool | None = None
        self._pid = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    async def open(self) -> None:
        """Connect once, so that a wrong address is known at once."""
        options = self._options
        pool = Pool(self._connect, most=options.pool_max, timeout=options.timeout)
        try:
            await pool.open(options.pool_min)
        except BaseException as error:
            pool.terminate()
            raise self.explain(error) from None
        self._pool, self._pid, self._loop = pool, os.getpid(), asyncio.get_running_loop()
        if not options.pool_min:
            await self.run(_nothing)

    async def close(self) -> None:
        """Let the connections go. Again: no effect."""
        pool, self._pool = self._pool, None
        if pool is None or self._pid != os.getpid():
            return
        if self._loop is not asyncio.get_running_loop():
            with suppress(RuntimeError):  # the one it belongs to may be closed
                pool.terminate()
            return
        try:
            async with asyncio.timeout(LEAVING):
                await pool.close()
        except BaseException as error:
            pool.terminate()
            if not isinstance(error, TimeoutError):
                raise

    async def connect(self, **settings: str) -> Connection:
        """A connection of its own, outside the pool."""
        try:
            return await self._connect(**settings)
        except BaseException as error:
            raise self.explain(error) from None

    async def _connect(self, **settings: str) -> Connection:
        return await asyncpg.connect(self._url, **self._settings(**settings))

    async def fetch(self, sql: str, *args: Any, again: bool = False) -> list[Record]:
        """Rows of one statement; `again`: to send it twice is as good as once."""

        async def work(connection: Connection) -> list[Record]:
            return await connection.fetch(sql, *args)

        return await self.run(work, again=again)

    async def value(self, sql: str, *args: Any, again: bool = False) -> Any:
        """The first field of the first row."""

        async def work(connection: Connection) -> Any:
            return await connection.fetchval(sql, *args)

        return await self.run(work, again=again)

    async def run(self, work: Callable[[Connection], Awaitable[T]], *, again: bool = False) -> T:
        """Work with a connection. What crossed another transaction is done again."""
        pool = self._checked()
        lost = not again
        for attempt in range(1, TRIES + 1):
            connection = None
            try:
                connection = await pool.take()
                answer = await work(connection)
            except BaseException as error:
                if connection is not None:
                    pool.give_back(connection, error)
                if attempt < TRIES and _state(error) in _CROSSED:
                    await asyncio.sleep(random.uniform(0, 0.005 * attempt))
                    continue
                ours = self.explain(error)
                if _is_lost(error):
                    pool.forget()  # the others are as old
                    if not lost:
                        lost = True
                        continue
                raise ours from None
            else:
                pool.give_back(connection)
                return answer
        raise AssertionError("unreachable")

    def explain(self, error: BaseException) -> BaseException:
        """An error of ours that says what, why and whether to try again."""
        if isinstance(error, OmniQError | asyncio.CancelledError) or not isinstance(
            error, Exception
        ):
            return error
        text = str(error).strip()
        for secret in secrets_of(self._url):
            text = text.replace(secret, "***")
        kind, why = _meaning(error)
        if kind is None:
            return error
        reach = isinstance(error, OSError)  # TimeoutError is one, too
        remedy = f". Check {self._setting}" if kind is ConfigError or reach else ""
        said = f" ({text})" if text else ""
        return kind(f"{self._place}: {why}{said}{remedy}")

    def _checked(self) -> Pool:
        pool = self._pool
        if pool is None:
            raise StorageClosed(f"{self._place} is not open: call open() first")
        if self._pid != os.getpid() or self._loop is not asyncio.get_running_loop():
            raise StorageError(
                f"{self._place} was opened in another process or event loop, where its "
                "connections belong: open a twin() of it here"
            )
        return pool

    def _settings(self, **more: str) -> dict[str, Any]:
        server = {"application_name": "omniq"}
        if not self._options.pgbouncer:  # which refuses what it does not know
            # Claims rely on each statement of a function seeing what was committed before it.
            server["default_transaction_isolation"] = "read committed"
            server |= more
        if self._role:
            server["role"] = self._role
        if "application_name=" in self._url:
            del server["application_name"]
        return {
            "timeout": CONNECT_TIMEOUT,
            "command_timeout": self._options.timeout,
            "statement_cache_size": 0 if self._options.pgbouncer else 100,
            "max_cached_statement_lifetime": 0,
            "server_settings": server,
        }


def meaning_of(state: str) -> tuple[type[OmniQError], str]:
    """What a SQLSTATE is for us, and why."""
    if state in MISSING:
        return SchemaError, "its tables are not those this OmniQ made; were they dropped?"
    if state == "42501":
        return ConfigError, "the role lacks a right"
    for kind, reasons in ((StorageUnavailable, _LATER), (ConfigError, _CONFIG)):
        for start in (state, state[:3], state[:2]):
            if start in reasons:
                return kind, reasons[start]
    return StorageError, "it refused"


def _meaning(error: Exception) -> tuple[type[OmniQError] | None, str]:
    state = _state(error)
    if state is not None:
        return meaning_of(state)
    if isinstance(error, asyncpg.ClientConfigurationError):
        return ConfigError, "the address cannot be used"
    if isinstance(error, asyncpg.DataError):
        return StorageError, "it cannot keep a value"
    if isinstance(error, TimeoutError):
        return StorageUnavailable, "it does not answer in time"
    if isinstance(error, OSError):
        return StorageUnavailable, "it cannot be reached"
    if isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError):
        return StorageUnavailable, "the connection was lost"
    if isinstance(error, UnicodeError):
        return StorageError, "it cannot keep a text"
    if isinstance(error, ValueError):
        return ConfigError, "the address cannot be used"
    return None, ""


def _state(error: BaseException) -> str | None:
    return getattr(error, "sqlstate", None) if isinstance(error, asyncpg.PostgresError) else None


def _is_lost(error: BaseException) -> bool:
    state = _state(error)
    if state is not None:
        return state[:2] == "08" or state in ("57P01", "57P02")
    kinds = OSError | asyncpg.InterfaceError | asyncpg.InternalClientError
    return isinstance(error, kinds) and not isinstance(error, TimeoutError | asyncpg.DataError)


async def _nothing(connection: Connection) -> None:
    pass


__all__: Sequence[str] = ["MISSING", "Connection", "Database", "Record", "meaning_of"]
